/* Compaction, rule by rule. test_clean_model.c compares it with a model on random logs,
 * test_clean_kill.c kills it, test_clean_power.c takes the power away, test_clean_faults.c has the
 * rest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "clean_fixture.h"

SUITE("broker/clean")

static void configure(struct fixture *f, struct plog *p, const char *settings)
{
    struct slice v[16][2], rest = sl_str(settings), part;
    size_t n = 0;
    struct err e = {0};
    while (n < 16 && sl_split(&rest, ' ', &part)) {
        sl_split(&part, '=', &v[n][0]);
        v[n++][1] = part;
    }
    CHECK_INT(store_topic_configure(f->s, p->t, (const struct slice(*)[2])v, n, false, &e), 0);
    CHECK_STR(e.msg, "");
}

/* The same after a clean restart, after a crash and after a crash that lost all that can be made
 * anew. */
static void check_restarts(struct fixture *f, const char *want)
{
    char now[4096];
    snprintf(now, sizeof now, "%s", want);
    for (int round = 0; round < 3; round++) {
        if (round == 0)
            fixture_close(f);
        else
            fixture_copy(f);
        for (int64_t base = 0; base < 64 && round == 2; base++) {
            char path[256];
            fixture_path(f, path, "t-0/%020lld.index", (long long)base);
            unlink(path);
            fixture_path(f, path, "t-0/%020lld.snapshot", (long long)base);
            unlink(path);
        }
        fixture_open(f);
        CHECK_STR(dump(fixture_part(f, "t")), now);
    }
}

TEST(keeps_the_latest_record_of_each_key_at_its_offset)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put(p, "a", "1");
    put(p, "b", "1");
    put(p, "a", "2");
    put(p, "c", "1");
    put(p, "b", "2");
    roll(p);
    put(p, "c", "2"); /* active: neither cleaned, nor does it count */
    int64_t before = plog_size(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "2:a=2 3:c=1 4:b=2 5:c=2");
    CHECK(plog_size(p) < before);
    CHECK_INT(plog_start(p), 0);
    CHECK_INT(plog_end(p), 6);
    CHECK_INT(plog_durable_end(p), 6);
    CHECK_INT(p->clean_to, 5);
    check_restarts(&f, "2:a=2 3:c=1 4:b=2 5:c=2");
    p = fixture_part(&f, "t");
    CHECK_INT(p->clean_to, 5);
    put(p, "d", "1");
    roll(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "2:a=2 4:b=2 5:c=2 6:d=1");
    CHECK_INT(plog_end(p), 7);
    fixture_end(&f);
}

TEST(keeps_what_is_left_of_a_batch_in_its_place)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put_batch(p, (struct kv[]){{"a", "1"}, {"b", "1"}, {"a", "2"}, {"c", "1"}}, 4, T0);
    put_batch(p, (struct kv[]){{"b", "2"}, {"d", "1"}}, 2, T0 + 5);
    put_batch(p, (struct kv[]){{"d", "2"}}, 1, T0 + 9);
    roll(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "2:a=2 3:c=1 4:b=2 6:d=2");
    for (int64_t at = 0; at <= 7; at++) { /* a reader in a hole gets what comes next */
        struct buf b;
        struct batch h;
        buf_init(&b, ROOM);
        CHECK_INT(plog_read(p, at, 1, true, &b), 0);
        CHECK_INT(b.n > 0, at < 7);
        if (b.n)
            CHECK(batch_head(b.p, b.n, &h) && batch_end(&h) > at && batch_crc_ok(b.p, &h));
        buf_free(&b);
    }
    int64_t offset, ms;
    CHECK_INT(plog_by_time(p, T0 + 1, &offset, &ms), 0);
    CHECK_INT(offset, 4);
    CHECK_INT(ms, T0 + 5);
    CHECK_INT(plog_max_time(p, &offset, &ms), 0);
    CHECK_INT(offset, 6);
    fixture_end(&f);
}

TEST(the_end_of_a_segment_outlives_its_last_record)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put(p, "a", "1");
    put(p, "b", "1");
    roll(p);
    put(p, "b", "2");
    roll(p);
    put(p, "b", "3");
    roll(p);
    configure(&f, p, COMPACT_1S " segment.bytes=1024"); /* one by one: nothing is put together */
    p->t->conf.segment_bytes = 1;
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "0:a=1 3:b=3");
    CHECK_INT(p->nsegs, 4);
    for (size_t i = 0; i + 1 < p->nsegs; i++)
        CHECK_INT(p->segs[i]->end, p->segs[i + 1]->base);
    CHECK_INT(p->segs[1]->size, BATCH_HEAD_BYTES);
    int64_t offset, ms;
    CHECK_INT(plog_by_time(p, 0, &offset, &ms), 0);
    CHECK_INT(offset, 0);
    check_restarts(&f, "0:a=1 3:b=3");
    /* And the end that is kept is missed when it is gone. */
    char path[256];
    fixture_path(&f, path, "t-0/%020d.log", 2);
    size_t n = file_bytes(path);
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020d.log", 2);
    CHECK_INT(n, BATCH_HEAD_BYTES);
    file_cut(path, 0);
    struct err e = {0};
    fixture_refused(&f, &e);
    CHECK(strstr(e.msg, "is damaged at byte 0") != NULL);
    fixture_end(&f);
}

TEST(puts_small_segments_together)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    for (int i = 0; i < 20; i++) {
        put(p, i % 2 ? "a" : "b", "1");
        roll(p);
    }
    CHECK_INT(p->nsegs, 21);
    fixture_clean(&f, T0);
    CHECK_INT(p->nsegs, 2);
    CHECK_STR(dump(p), "18:b=1 19:a=1");
    CHECK_INT(plog_size(p), p->segs[0]->size);
    check_restarts(&f, "18:b=1 19:a=1");
    p = fixture_part(&f, "t");
    CHECK_INT(p->nsegs, 2);
    put(p, "c", "1");
    CHECK_STR(dump(p), "18:b=1 19:a=1 20:c=1");
    fixture_end(&f);
}

TEST(puts_at_most_64_segments_together_at_a_time)
{
    struct fixture f = {.sync = STORE_SYNC_NEVER};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    for (int i = 0; i < 70; i++) {
        put(p, "a", "1");
        CHECK_INT(plog_roll(p, p->end), 0);
    }
    fixture_clean(&f, T0);
    CHECK_INT(p->nsegs, 3);
    CHECK_INT(p->segs[0]->end, 64);
    CHECK_STR(dump(p), "69:a=1");
    fixture_end(&f);
}

TEST(a_tombstone_stays_for_its_time_after_it_was_cleaned_first)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put(p, "a", "1");
    put_batch(p, (struct kv[]){{"a", NULL}, {"b", "1"}}, 2, T0 - 7);
    put(p, "c", "1");
    roll(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "1:a- 2:b=1 3:c=1");
    int64_t offset, ms; /* its time is its own, though the batch holds another */
    CHECK_INT(plog_by_time(p, T0 - 100, &offset, &ms), 0);
    CHECK_INT(ms, T0 - 7);
    fixture_clean(&f, T0 + RETENTION - 1);
    CHECK_STR(dump(p), "1:a- 2:b=1 3:c=1");
    fixture_clean(&f, T0 + RETENTION); /* due without any new record */
    CHECK_STR(dump(p), "2:b=1 3:c=1");
    int64_t passes = store_clean_totals(f.s)->passes;
    fixture_clean(&f, T0 + 100 * RETENTION);
    CHECK_INT(store_clean_totals(f.s)->passes, passes);
    check_restarts(&f, "2:b=1 3:c=1");
    fixture_end(&f);
}

TEST(a_tombstone_that_is_followed_by_a_value_goes_at_once)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put(p, "a", "1");
    put(p, "a", NULL);
    put(p, "a", "2");
    roll(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "2:a=2");
    fixture_end(&f);
}

TEST(records_without_a_key_go)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL); /* a compacted topic takes none */
    put(p, NULL, "1");
    put(p, "a", "1");
    put(p, NULL, "2");
    roll(p);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "0:=1 1:a=1 2:=2"); /* cleanup.policy=delete compacts nothing */
    configure(&f, p, COMPACT_1S);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "1:a=1");
    check_restarts(&f, "1:a=1");
    fixture_end(&f);
}

/* Four clean records, then as many dirty ones as `n`, in segments of their own. */
static struct plog *half_clean(struct fixture *f, int n)
{
    fixture_open(f);
    struct plog *p = fixture_topic(f, "t", COMPACT_1S);
    put_batch(p, (struct kv[]){{"a", "1"}, {"b", "1"}, {"c", "1"}, {"d", "1"}}, 4, T0);
    roll(p);
    fixture_clean(f, T0);
    CHECK_INT(p->clean_to, 4);
    for (int i = 0; i < n; i++)
        put(p, "a", "2");
    roll(p);
    return p;
}

TEST(waits_for_the_dirty_ratio_which_can_change_at_any_time)
{
    struct fixture f = {0};
    struct plog *p = half_clean(&f, 1);
    double ratio = (double)p->segs[1]->size / (double)(p->segs[0]->size + p->segs[1]->size);
    char settings[128];
    snprintf(settings, sizeof settings, "cleanup.policy=compact min.cleanable.dirty.ratio=%.3f",
             ratio + 0.01);
    configure(&f, p, settings);
    fixture_clean(&f, T0);
    CHECK_INT(p->clean_to, 4);
    CHECK_STR(dump(p), "0:a=1 1:b=1 2:c=1 3:d=1 4:a=2");
    snprintf(settings, sizeof settings, "cleanup.policy=compact min.cleanable.dirty.ratio=%.3f",
             ratio - 0.01);
    configure(&f, p, settings);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "1:b=1 2:c=1 3:d=1 4:a=2");
    fixture_end(&f);
}

TEST(leaves_records_alone_that_are_younger_than_min_compaction_lag)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S " min.compaction.lag.ms=100");
    put(p, "a", "1");
    put(p, "a", "2");
    roll(p);
    put_batch(p, (struct kv[]){{"a", "3"}}, 1, T0 + 50);
    roll(p);
    fixture_clean(&f, T0 + 99);
    CHECK_STR(dump(p), "0:a=1 1:a=2 2:a=3");
    fixture_clean(&f, T0 + 100); /* the second segment stays out of it */
    CHECK_STR(dump(p), "1:a=2 2:a=3");
    fixture_clean(&f, T0 + 150);
    CHECK_STR(dump(p), "2:a=3");
    fixture_end(&f);
}

TEST(cleans_in_any_case_what_is_older_than_max_compaction_lag)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(
        &f, "t", "cleanup.policy=compact min.cleanable.dirty.ratio=1 max.compaction.lag.ms=5000");
    put(p, "a", "1");
    put(p, "a", "2");
    fixture_clean(&f, T0 + 4999);
    CHECK_INT(p->nsegs, 1);
    fixture_clean(&f, T0 + 5000); /* its segment is sealed for that too */
    CHECK_STR(dump(p), "1:a=2");
    fixture_end(&f);
}

TEST(goes_on_in_several_passes_when_the_keys_are_too_many)
{
    struct fixture f = {.clean_map_bytes = 1}; /* the least there is: 48 keys */
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    char key[16], want[4096] = "";
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "k%d", i % 150);
        put(p, key, i < 150 ? "old" : "new");
        if (i % 40 == 39)
            roll(p);
    }
    roll(p);
    fixture_clean(&f, T0);
    CHECK_INT(p->clean_to, 300);
    CHECK(store_clean_totals(f.s)->passes >= 6);
    for (int i = 150; i < 300; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "%s%d:k%d=new",
                 i > 150 ? " " : "", i, i - 150);
    CHECK_STR(dump(p), want);
    fixture_end(&f);
}

TEST(writes_compressed_batches_again_with_their_codec)
{
    for (int codec = 1; codec <= 4; codec++) {
        struct fixture f = {0};
        struct batch h;
        fixture_open(&f);
        struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
        append_ok(p, &(struct spec){.n = 20, .codec = codec, .value_bytes = 300});
        append_ok(p, &(struct spec){.n = 10, .codec = codec, .value_bytes = 300, .ms = T0 + 100});
        put(p, "other", "1");
        roll(p);
        fixture_clean(&f, T0);
        struct buf b;
        buf_init(&b, ROOM);
        CHECK_INT(plog_read(p, 0, 1, true, &b), 0);
        NEED(b.n && batch_head(b.p, b.n, &h));
        CHECK_INT(h.attributes & BATCH_CODEC, codec);
        CHECK_INT(h.base, 20);
        CHECK_INT(h.last_delta, 9);
        CHECK_INT(h.count, 1);
        CHECK_INT(h.max_ms, T0 + 109);
        CHECK(batch_crc_ok(b.p, &h));
        struct slice rest;
        struct record r;
        struct buf room;
        buf_init(&room, ROOM);
        NEED(batch_records(b.p, &h, &room, &rest) == 0 && record_next(&rest, &r));
        CHECK_INT(r.delta, 9);
        CHECK_INT(r.value.n, 300);
        CHECK_INT(record_ms(&h, &r), T0 + 109);
        buf_free(&room);
        buf_free(&b);
        fixture_end(&f);
    }
}

TEST(a_producers_repeat_is_known_after_all_its_records_are_gone)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    for (int seq = 0; seq < 9; seq++)
        append_ok(p, &(struct spec){.idempotent = true, .pid = 5, .seq = seq});
    append_ok(p, &(struct spec){0}); /* the same key by nobody */
    roll(p);
    fixture_clean(&f, T0);
    CHECK_INT(count_records(p, 9), 1);
    check_restarts(&f, dump(p)); /* the last one without snapshots */
    p = fixture_part(&f, "t");
    for (int seq = 4; seq < 9; seq++) { /* as many as a client may have in flight */
        struct append_result r =
            append(p, &(struct spec){.idempotent = true, .pid = 5, .seq = seq});
        CHECK_INT(r.error, 0);
        CHECK(r.duplicate);
        CHECK_INT(r.base_offset, seq);
    }
    struct append_result r = append(p, &(struct spec){.idempotent = true, .pid = 5, .seq = 11});
    CHECK_INT(r.error, APPEND_OUT_OF_ORDER);
    CHECK_INT(append_ok(p, &(struct spec){.idempotent = true, .pid = 5, .seq = 9}), 10);
    /* What no client may repeat any more goes at the next pass that writes. */
    roll(p);
    fixture_clean(&f, T0);
    struct buf b;
    buf_init(&b, ROOM);
    CHECK_INT(plog_read(p, 0, ROOM, true, &b), 0);
    CHECK_INT(load64(b.p), 5);
    buf_free(&b);
    fixture_end(&f);
}

TEST(what_lies_below_the_log_start_goes_and_the_start_stays)
{
    struct fixture f = {0};
    int64_t start;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t",
                                   "cleanup.policy=compact,delete retention.ms=-1 "
                                   "min.cleanable.dirty.ratio=0");
    put_batch(p, (struct kv[]){{"a", "1"}, {"b", "1"}, {"c", "1"}}, 3, T0);
    put(p, "d", "1");
    roll(p);
    CHECK_INT(plog_delete_to(p, 2, &start), 0);
    int64_t before = plog_size(p);
    fixture_clean(&f, T0);
    CHECK(plog_size(p) < before);
    CHECK_INT(plog_start(p), 2);
    CHECK_STR(dump(p), "2:c=1 3:d=1");
    check_restarts(&f, "2:c=1 3:d=1");
    CHECK_INT(plog_start(fixture_part(&f, "t")), 2);
    fixture_end(&f);
}

TEST(compact_and_delete_together_delete_by_age)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t",
                                   "cleanup.policy=compact,delete retention.ms=5000 "
                                   "min.cleanable.dirty.ratio=0");
    put(p, "a", "1");
    put(p, "b", "1");
    put(p, "a", "2");
    roll(p);
    put_batch(p, (struct kv[]){{"c", "1"}}, 1, T0 + 4000);
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "1:b=1 2:a=2 3:c=1");
    fixture_clean(&f, T0 + 5001);
    CHECK_STR(dump(p), "3:c=1");
    CHECK_INT(plog_start(p), 3);
    fixture_end(&f);
}

TEST(a_segment_in_which_nothing_changes_is_not_written)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put_batch(p, (struct kv[]){{"a", "1"}, {"b", "1"}}, 2, T0);
    roll(p);
    fixture_clean(&f, T0);
    CHECK_INT(store_clean_totals(f.s)->passes, 1);
    CHECK_INT(store_clean_totals(f.s)->bytes_written, 0);
    CHECK_INT(p->clean_to, 2);
    fixture_end(&f);
}

TEST(readers_go_on_in_cleaned_segments)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    struct buf b;
    struct batch h;
    buf_init(&b, ROOM);
    for (int i = 0; i < 50; i++)
        put(p, i % 2 ? "a" : "b", "1");
    CHECK_INT(plog_read(p, 0, 1000, true, &b), 0); /* leaves a hint where it goes on */
    int64_t next = 0;
    for (size_t i = 0; i < b.n && batch_head(b.p + i, b.n - i, &h); i += h.size)
        next = batch_end(&h);
    CHECK(next > 2 && next < 50);
    roll(p);
    fixture_clean(&f, T0);
    buf_reset(&b);
    CHECK_INT(plog_read(p, next, ROOM, true, &b), 0);
    NEED(b.n && batch_head(b.p, b.n, &h));
    CHECK_INT(h.base, 48);
    buf_free(&b);
    fixture_end(&f);
}
