/* Recovery: a torn tail is cut, damage to acknowledged records is refused, and the two are told
 * apart. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "store_fixture.h"

SUITE("broker/recover")

#define ROOM ((size_t)64 << 20)

/* Three acknowledged batches of two records and a fourth that was written but whose sync is not
 * known: the folder as a crash leaves it. *ret_at: where the fourth begins. */
static void crashed_log(struct fixture *f, char path[static 256], size_t *ret_at)
{
    fixture_open(f);
    struct plog *p = fixture_topic(f, "t", NULL);
    for (int i = 0; i < 3; i++)
        append_ok(p, &(struct spec){.n = 2, .seed = (uint32_t)i});
    *ret_at = (size_t)plog_size(p);
    append(p, &(struct spec){.n = 2, .seed = 9});
    fixture_copy(f);
    fixture_path(f, path, "t-0/%020d.log", 0);
}

TEST(cuts_a_tail_torn_at_any_byte)
{
    struct fixture f = {0};
    char path[256];
    size_t at;
    crashed_log(&f, path, &at);
    size_t size = file_bytes(path);
    struct buf b;
    buf_init(&b, ROOM);
    NEED(file_read(path, &b, NULL) == 0);
    for (size_t n = at; n <= size; n++) {
        int fd = open(path, O_WRONLY | O_TRUNC);
        NEED(fd >= 0 && fd_write_all(fd, sl(b.p, n)) == 0);
        close(fd);
        fixture_open(&f);
        struct plog *p = fixture_part(&f, "t");
        CHECK_INT(plog_end(p), n == size ? 8 : 6);
        CHECK_INT(file_bytes(path), n == size ? size : at);
        CHECK_INT(count_records(p, 0), plog_end(p));
        fixture_close(&f);
        fixture_path(&f, path, "clean");
        unlink(path);
        fixture_path(&f, path,
                     "t-0/checkpoint"); /* or the first round's would vouch for the fourth batch */
        unlink(path);
        fixture_path(&f, path, "t-0/%020d.log", 0);
    }
    buf_free(&b);
    fixture_end(&f);
}

TEST(cuts_a_last_batch_with_any_byte_changed_or_zeroed)
{
    struct fixture f = {0};
    char path[256];
    size_t at;
    crashed_log(&f, path, &at);
    struct buf b;
    buf_init(&b, ROOM);
    NEED(file_read(path, &b, NULL) == 0);
    for (size_t i = at; i < b.n; i++) {
        int fd = open(path, O_WRONLY | O_TRUNC);
        NEED(fd >= 0 && fd_write_all(fd, buf_slice(&b)) == 0);
        close(fd);
        if (i % 2)
            file_flip(path, i);
        else
            file_zero(path, i, b.n + 5000); /* the size arrived, the data did not */
        fixture_open(&f);
        /* The stamp's check is 8 bits wide, so one change of it in many passes; only fields outside
         * the CRC. */
        int64_t end = plog_end(fixture_part(&f, "t"));
        CHECK(end == 6 || (end == 8 && i < at + 16));
        fixture_close(&f);
        fixture_path(&f, path, "clean");
        unlink(path);
        fixture_path(&f, path, "t-0/checkpoint");
        unlink(path);
        fixture_path(&f, path, "t-0/%020d.log", 0);
    }
    buf_free(&b);
    fixture_end(&f);
}

TEST(refuses_damage_below_what_a_later_batch_vouches_for)
{
    struct fixture f = {0};
    char path[256];
    size_t at, one;
    crashed_log(&f, path, &at);
    one = at / 3;
    for (size_t i = 0; i < 2 * one;
         i++) { /* batches 0 and 1; batch 2 or 3 says that both were durable */
        struct err e = {0};
        file_flip(path, i);
        fixture_refused(&f, &e);
        CHECK_INT(e.code, -EBADMSG);
        CHECK(strstr(e.msg, "00000000000000000000.log is damaged at byte") != NULL);
        file_flip(path, i);
    }
    fixture_open(&f); /* and nothing was changed by the refusals */
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 8);
    fixture_end(&f);
}

TEST(the_message_names_file_and_position)
{
    struct fixture f = {0};
    char path[256], want[512];
    size_t at;
    struct err e = {0};
    crashed_log(&f, path, &at);
    file_flip(path, at / 3 + 70);
    fixture_refused(&f, &e);
    snprintf(want, sizeof want,
             "%s is damaged at byte %zu (offset 2): all below offset 4 at least was acknowledged",
             path, at / 3);
    CHECK_STR(e.msg, want);
    fixture_end(&f);
}

TEST(good_batches_behind_a_bad_one_are_torn_too_when_none_was_durable)
{
    struct fixture f = {0};
    char path[256];
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){.n = 2});
    size_t at = (size_t)plog_size(p);
    for (int i = 0; i < 5; i++)
        append(p, &(struct spec){.n = 2}); /* no poll: none of them knows of the others' sync */
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020d.log", 0);
    file_zero(path, at, at + 30); /* the disk wrote the later pages first */
    fixture_open(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_end(p), 2);
    CHECK_INT(file_bytes(path), at);
    CHECK_INT(append_ok(p, &(struct spec){.n = 2}), 2);
    fixture_end(&f);
}

TEST(the_checkpoint_guards_the_last_batch_once_a_second_has_passed)
{
    struct fixture f = {0};
    char path[256];
    struct err e = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){.n = 2});
    store_tick(f.s, T0);
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020d.log", 0);
    file_flip(path, 70);
    fixture_refused(&f, &e);
    CHECK_INT(e.code, -EBADMSG);
    file_flip(path, 70);
    file_cut(path, file_bytes(path) - 1);
    fixture_refused(&f, &e);
    unlink(path);
    fixture_refused(&f, &e);
    CHECK(strstr(e.msg, "no segments") != NULL);
    fixture_end(&f);
}

TEST(damage_is_found_after_a_clean_stop_too)
{
    struct fixture f = {0};
    char path[256];
    struct err e = {0};
    fixture_open(&f);
    append_ok(fixture_topic(&f, "t", NULL), &(struct spec){.n = 2});
    fixture_close(&f);
    fixture_path(&f, path, "t-0/%020d.log", 0);
    file_flip(path, 70);
    fixture_refused(&f, &e);
    file_flip(path, 70);
    fixture_open(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 2);
    fixture_end(&f);
}

/* A log of several segments, as a crash leaves it. */
static struct plog *rolled_log(struct fixture *f, bool poll_each)
{
    f->segment_bytes = 2000;
    fixture_open(f);
    struct plog *p = fixture_topic(f, "t", NULL);
    for (int i = 0; i < 60; i++) {
        struct append_result r =
            append(p, &(struct spec){.value_bytes = 100, .idempotent = true, .pid = 4, .seq = i});
        CHECK_INT(r.error, 0);
        if (poll_each || i == 0)
            wait_durable(p);
    }
    CHECK(p->nsegs >= 5);
    return p;
}

TEST(damage_in_a_sealed_segment_is_refused)
{
    struct fixture f = {0};
    char path[256], kept[256];
    struct err e = {0};
    struct plog *p = rolled_log(&f, true);
    int64_t base = p->segs[2]->base;
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020lld.log", (long long)base);
    size_t size = file_bytes(path);
    file_flip(path, 500);
    fixture_refused(&f, &e);
    CHECK(strstr(e.msg, path) != NULL);
    file_flip(path, 500);
    fixture_path(&f, kept, "kept");
    NEED(rename(path, kept) == 0);
    fixture_refused(&f, &e);
    NEED(rename(kept, path) == 0);
    file_cut(path, size - 1);
    fixture_refused(&f, &e);
    fixture_end(&f);
}

TEST(segments_that_no_sync_covered_may_be_torn_in_any_order)
{
    struct fixture f = {0};
    char path[256];
    struct plog *p = rolled_log(&f, false); /* one sync only, of the first record */
    int64_t base = p->segs[2]->base, after = p->segs[3]->base;
    CHECK_INT(p->synced.offset, 1);
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020lld.log", (long long)base);
    file_cut(path, 100);
    fixture_open(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_end(p), base);
    CHECK_INT(p->nsegs, 3);
    fixture_path(&f, path, "t-0/%020lld.log", (long long)after);
    CHECK(!file_there(path));
    /* The producer's state ends there as well. */
    struct append_result r = append(
        p, &(struct spec){.value_bytes = 100, .idempotent = true, .pid = 4, .seq = (int32_t)base});
    CHECK_INT(r.error, 0);
    CHECK(!r.duplicate);
    fixture_crash(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), base + 1);
    fixture_end(&f);
}

TEST(indexes_and_snapshots_are_rebuilt_when_lost_or_damaged)
{
    for (int round = 0; round < 2; round++) {
        struct fixture f = {0};
        char path[256];
        struct plog *p = rolled_log(&f, true);
        fixture_copy(&f);
        for (int64_t base = 0; base <= 60; base++) {
            static const char *const kinds[] = {"index", "snapshot"};
            for (int k = 0; k < 2; k++) {
                fixture_path(&f, path, "t-0/%020lld.%s", (long long)base, kinds[k]);
                if (!file_there(path))
                    continue;
                if (round)
                    file_flip(path, file_bytes(path) - 1);
                else
                    unlink(path);
            }
        }
        fixture_open(&f);
        p = fixture_part(&f, "t");
        CHECK_INT(count_records(p, 0), 60);
        CHECK_INT(
            append(p, &(struct spec){.value_bytes = 100, .idempotent = true, .pid = 4, .seq = 58})
                .base_offset,
            58);
        fixture_end(&f);
    }
}

TEST(a_damaged_checkpoint_is_refused_and_a_missing_one_taken)
{
    struct fixture f = {0};
    char path[256];
    struct err e = {0};
    int64_t start;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 5; i++)
        append_ok(p, &(struct spec){.n = 2});
    CHECK_INT(plog_delete_to(p, 4, &start), 0);
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/checkpoint");
    file_flip(path, 20);
    fixture_refused(&f, &e);
    CHECK(strstr(e.msg, "checkpoint is damaged") != NULL);
    unlink(path);
    fixture_open(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 10);
    fixture_end(&f);
}

/* What a loss of power may do to all that no sync covered: cut, zeros here and there, later
 * segments missing. */
static void lose_power(struct fixture *f, const struct logpos *synced, const int64_t *bases,
                       size_t n, unsigned *seed)
{
    for (size_t i = 0; i < n; i++) {
        char path[256];
        if (bases[i] < synced->base)
            continue;
        fixture_path(f, path, "t-0/%020lld.log", (long long)bases[i]);
        size_t from = bases[i] == synced->base ? (size_t)synced->pos : 0, size = file_bytes(path);
        switch (rand_r(seed) % 4) {
        case 0:
            if (from == 0 && i > 0)
                unlink(path);
            break;
        case 1:
            file_cut(path, from + (size > from ? (size_t)rand_r(seed) % (size - from) : 0));
            break;
        case 2:
            for (int k = 0; k < 3 && size > from; k++) {
                size_t at = from + (size_t)rand_r(seed) % (size - from);
                file_zero(path, at, at + 100 < size ? at + 100 : size);
            }
            break;
        }
    }
}

TEST(many_losses_of_power_lose_nothing_acknowledged)
{
    struct fixture f = {.segment_bytes = 3000};
    fixture_open(&f);
    fixture_topic(&f, "t", NULL);
    unsigned seed = 1;
    int64_t acked = 0;
    for (int round = 0; round < 120; round++) {
        struct plog *p = fixture_part(&f, "t");
        CHECK(plog_end(p) >= acked);
        CHECK_INT(count_records(p, plog_start(p)), plog_end(p) - plog_start(p));
        acked = plog_end(p); /* readers have seen it now */
        int64_t start;       /* a short log, to be quick, and one whose start moves */
        if (acked - plog_start(p) > 100)
            CHECK_INT(plog_delete_to(p, acked - 50, &start), 0);
        int n = rand_r(&seed) % 30;
        for (int i = 0; i < n; i++) {
            append(p, &(struct spec){.n = 1 + rand_r(&seed) % 4,
                                     .value_bytes = 1 + (size_t)(rand_r(&seed) % 300)});
            if (rand_r(&seed) % 5 == 0) {
                wait_durable(p);
                acked = plog_durable_end(p);
            }
            if (rand_r(&seed) % 8 == 0)
                store_tick(f.s, T0);
        }
        int64_t bases[512];
        size_t nsegs = p->nsegs < 512 ? p->nsegs : 512;
        for (size_t i = 0; i < nsegs; i++)
            bases[i] = p->segs[p->nsegs - nsegs + i]->base;
        struct logpos synced = p->synced;
        fixture_copy(&f);
        lose_power(&f, &synced, bases, nsegs, &seed);
        fixture_open(&f);
    }
    fixture_end(&f);
}
