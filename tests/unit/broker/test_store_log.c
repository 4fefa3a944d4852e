/* A partition in use: append, read, producers, times, rolls, retention, a full disk. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "store_fixture.h"

SUITE("broker/log")

#define ROOM ((size_t)64 << 20)

TEST(reads_back_what_was_appended_in_every_codec)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 10; i++)
        CHECK_INT(
            append_ok(p,
                      &(struct spec){.n = 7, .codec = i % 5, .value_bytes = 100, .xerial = i > 5}),
            i * 7);
    CHECK_INT(count_records(p, 0), 70);
    CHECK_INT(count_records(p, 33), 37);
    fixture_close(&f);
    fixture_open(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 70);
    fixture_end(&f);
}

TEST(the_bytes_readers_get_are_the_clients_but_for_offset_and_epoch)
{
    struct fixture f = {0};
    struct buf in, out;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){.n = 3});
    append_ok(p, &(struct spec){.n = 4, .seed = 5});
    buf_init(&in, ROOM);
    buf_init(&out, ROOM);
    make_batch(&in, &(struct spec){.n = 4, .seed = 5});
    CHECK_INT(plog_read(p, 5, 1, true, &out), 0);
    CHECK_INT(out.n, in.n);
    CHECK_INT(load64(out.p), 3);
    CHECK_INT(load32(out.p + 12), 0);
    CHECK(out.n == in.n && memcmp(out.p + 16, in.p + 16, in.n - 16) == 0);
    buf_free(&in);
    buf_free(&out);
    fixture_end(&f);
}

TEST(shows_nothing_before_it_is_durable)
{
    struct fixture f = {0};
    struct buf b;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    buf_init(&b, ROOM);
    struct append_result r = append(p, &(struct spec){.n = 3});
    CHECK_INT(r.error, 0);
    CHECK_INT(r.end_offset, 3);
    CHECK_INT(plog_end(p), 3);
    CHECK_INT(plog_durable_end(p), 0); /* only store_poll publishes */
    CHECK_INT(plog_read(p, 0, 1000, true, &b), 0);
    CHECK_INT(b.n, 0);
    CHECK_INT(plog_readable(p, 0, 1000), 0);
    wait_durable(p);
    CHECK_INT(plog_durable_end(p), 3);
    CHECK_INT(plog_read(p, 0, 1000, true, &b), 0);
    CHECK(b.n > 0);
    CHECK_INT(plog_read(p, 4, 1000, true, &b), -ERANGE);
    CHECK_INT(plog_read(p, -1, 1000, true, &b), -ERANGE);
    buf_free(&b);
    fixture_end(&f);
}

TEST(one_sync_covers_what_collected_while_another_ran)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){0});
    int64_t before = store_syncs(f.s);
    for (int i = 0; i < 200; i++)
        append(p,
               &(struct spec){0}); /* no poll between them: the second sync can't be handed out */
    wait_durable(p);
    CHECK_INT(store_syncs(f.s) - before, 2);
    fixture_end(&f);
}

TEST(honours_max_bytes_and_at_least_one)
{
    struct fixture f = {0};
    struct buf b;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 5; i++)
        append_ok(p, &(struct spec){.value_bytes = 1000});
    buf_init(&b, ROOM);
    CHECK_INT(plog_read(p, 0, 100, false, &b), 0);
    CHECK_INT(b.n, 0);
    CHECK_INT(plog_read(p, 0, 100, true, &b), 0);
    CHECK(b.n > 1000 && b.n < 1200);
    size_t one = b.n;
    buf_reset(&b);
    CHECK_INT(plog_read(p, 1, 3 * one + 50, false, &b), 0);
    CHECK_INT(b.n, 3 * one);
    CHECK_INT(plog_readable(p, 1, 1 << 20), 4 * one);
    CHECK_INT(plog_readable(p, 1, 10), 10);
    buf_free(&b);
    fixture_end(&f);
}

static struct append_result produce(struct plog *p, int16_t epoch, int32_t seq, int n)
{
    struct append_result r =
        append(p, &(struct spec){.n = n, .idempotent = true, .pid = 9, .epoch = epoch, .seq = seq});
    wait_durable(p);
    return r;
}

static void check_duplicates(struct plog *p)
{
    for (int i = 3; i < 8; i++) { /* the last five of eight */
        struct append_result r = produce(p, 0, i * 2, 2);
        CHECK_INT(r.error, 0);
        CHECK(r.duplicate);
        CHECK_INT(r.base_offset, i * 2);
        CHECK_INT(r.end_offset, i * 2 + 2);
    }
    CHECK_INT(produce(p, 0, 0, 2).error, APPEND_DUPLICATE_OLD);
    CHECK_INT(produce(p, 0, 18, 2).error, APPEND_OUT_OF_ORDER);
    CHECK_INT(produce(p, 0, 15, 2).error, APPEND_OUT_OF_ORDER); /* half old, half new */
    CHECK_INT(plog_end(p), 16);
}

TEST(a_duplicate_gets_its_original_offset_across_restart_and_crash)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 8; i++)
        CHECK_INT(produce(p, 0, i * 2, 2).base_offset, i * 2);
    check_duplicates(p);
    fixture_crash(&f);
    check_duplicates(fixture_part(&f, "t"));
    fixture_close(&f);
    fixture_open(&f);
    p = fixture_part(&f, "t");
    check_duplicates(p);
    CHECK_INT(produce(p, 0, 16, 1).base_offset, 16);
    fixture_end(&f);
}

TEST(a_newer_epoch_begins_at_zero_and_fences_the_older)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    CHECK_INT(produce(p, 0, 5, 2).error, 0); /* an unknown producer may begin anywhere */
    CHECK_INT(produce(p, 1, 7, 1).error, APPEND_OUT_OF_ORDER);
    CHECK_INT(produce(p, 1, 0, 1).error, 0);
    CHECK_INT(produce(p, 0, 7, 1).error, APPEND_BAD_EPOCH);
    fixture_crash(&f);
    CHECK_INT(produce(fixture_part(&f, "t"), 0, 7, 1).error, APPEND_BAD_EPOCH);
    fixture_end(&f);
}

TEST(sequences_wrap_to_zero)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    CHECK_INT(produce(p, 0, INT32_MAX - 1, 4).error, 0); /* ..646, ..647, 0, 1 */
    CHECK(produce(p, 0, INT32_MAX - 1, 4).duplicate);
    CHECK_INT(produce(p, 0, 3, 1).error, APPEND_OUT_OF_ORDER);
    CHECK_INT(produce(p, 0, 2, 1).error, 0);
    fixture_end(&f);
}

TEST(several_batches_in_one_append_are_taken_unless_idempotent)
{
    struct fixture f = {0};
    struct buf b;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 2});
    make_batch(&b, &(struct spec){.n = 3});
    CHECK_INT(append_bytes(p, &b).error, 0);
    wait_durable(p);
    CHECK_INT(count_records(p, 0), 5);
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 2, .idempotent = true, .pid = 1});
    make_batch(&b, &(struct spec){.n = 3, .idempotent = true, .pid = 1, .seq = 2});
    CHECK_INT(append_bytes(p, &b).error, APPEND_INVALID_RECORD);
    CHECK_INT(plog_end(p), 5);
    fixture_end(&f);
}

TEST(topic_settings_bind_appends)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", "max.message.bytes=500 cleanup.policy=compact");
    CHECK_INT(append(p, &(struct spec){.value_bytes = 1000}).error, APPEND_TOO_LARGE);
    CHECK_INT(append(p, &(struct spec){.null_key = true}).error, APPEND_INVALID_RECORD);
    CHECK_INT(append(p, &(struct spec){0}).error, 0);
    p = fixture_topic(&f, "u", "message.timestamp.type=LogAppendTime");
    struct append_result r = append(p, &(struct spec){.n = 3, .ms = 1000});
    CHECK_INT(r.append_time_ms, T0);
    wait_durable(p);
    int64_t offset, ms;
    CHECK_INT(plog_by_time(p, 2000, &offset, &ms), 0);
    CHECK_INT(offset, 0);
    CHECK_INT(ms, T0);
    CHECK_INT(count_records(p, 0), 3); /* the CRC was made anew */
    fixture_end(&f);
}

static void check_time(struct plog *p, int64_t at, int64_t want)
{
    int64_t offset, ms;
    CHECK_INT(plog_by_time(p, at, &offset, &ms), 0);
    CHECK_INT(offset, want);
    CHECK(want < 0 ? ms == -1 : ms >= at);
}

TEST(finds_the_first_record_at_or_after_a_time_across_segments)
{
    struct fixture f = {.segment_bytes = 8000};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 300;
         i++) /* ten records, 1 ms each, every 100 ms; compressed now and then */
        append(p, &(struct spec){.n = 10, .ms = T0 + i * 100, .codec = i % 5});
    wait_durable(p);
    CHECK(p->nsegs > 3);
    check_time(p, 0, 0);
    check_time(p, T0, 0);
    check_time(p, T0 + 4, 4);
    check_time(p, T0 + 10, 10); /* after the batch's last: the next batch */
    check_time(p, T0 + 12345, 1240);
    check_time(p, T0 + 29909, 2999);
    check_time(p, T0 + 29910, -1);
    int64_t offset, ms, start;
    CHECK_INT(plog_max_time(p, &offset, &ms), 0);
    CHECK_INT(offset, 2999);
    CHECK_INT(ms, T0 + 29909);
    CHECK_INT(plog_delete_to(p, 1245, &start), 0);
    check_time(p, T0, 1245);
    append(p, &(struct spec){.ms = T0 + 90000}); /* not durable yet: not shown */
    CHECK_INT(plog_max_time(p, &offset, &ms), 0);
    CHECK_INT(offset, 2999);
    wait_durable(p);
    CHECK_INT(plog_max_time(p, &offset, &ms), 0);
    CHECK_INT(offset, 3000);
    fixture_end(&f);
}

TEST(reads_from_any_offset_across_segments_in_any_order)
{
    struct fixture f = {.segment_bytes = 50000};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 400; i++)
        append(p, &(struct spec){.n = 5, .value_bytes = 300});
    wait_durable(p);
    CHECK(p->nsegs > 10);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 500; i++) {
            struct buf b;
            struct batch h;
            int64_t offset = i * 7919 % 2000;
            buf_init(&b, ROOM);
            CHECK_INT(plog_read(p, offset, 4000, true, &b), 0);
            NEED(batch_head(b.p, b.n, &h));
            CHECK(h.base <= offset && batch_end(&h) > offset);
            buf_free(&b);
        }
        CHECK_INT(count_records(p, 0), 2000);
        fixture_close(&f);
        fixture_open(&f);
        p = fixture_part(&f, "t");
    }
    fixture_end(&f);
}

TEST(the_log_start_moves_and_stays_moved)
{
    struct fixture f = {.segment_bytes = 2000};
    struct buf b;
    int64_t start = 0;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (int i = 0; i < 100; i++)
        append_ok(p, &(struct spec){.value_bytes = 100});
    size_t segs = p->nsegs;
    CHECK_INT(plog_delete_to(p, 101, &start), -ERANGE);
    CHECK_INT(plog_delete_to(p, 55, &start), 0);
    CHECK_INT(start, 55);
    CHECK(p->nsegs < segs && p->segs[0]->base <= 55);
    CHECK_INT(plog_delete_to(p, 20, &start), 0); /* it never goes back */
    CHECK_INT(start, 55);
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_start(p), 55);
    buf_init(&b, ROOM);
    CHECK_INT(plog_read(p, 54, 100, true, &b), -ERANGE);
    buf_free(&b);
    CHECK_INT(count_records(p, 55), 45);
    CHECK_INT(plog_delete_to(p, -1, &start), 0);
    CHECK_INT(start, 100);
    store_tick(f.s, T0);
    wait_durable(p);
    store_tick(f.s, T0);
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_start(p), 100);
    CHECK_INT(plog_end(p), 100);
    CHECK_INT(append_ok(p, &(struct spec){0}), 100);
    fixture_end(&f);
}

static void settle_ticks(struct fixture *f, struct plog *p, int64_t now_ms)
{
    for (int i = 0; i < 3; i++) {
        store_tick(f->s, now_ms);
        while (p->job.out) {
            struct pollfd pfd = {store_event_fd(f->s), POLLIN, 0};
            NEED(poll(&pfd, 1, 120000) == 1);
            sync_wait(p);
        }
    }
}

TEST(retention_by_time_removes_all_that_is_old_but_keeps_the_end)
{
    struct fixture f = {.segment_bytes = 2000};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", "retention.ms=10000");
    for (int i = 0; i < 100; i++)
        append_ok(p, &(struct spec){.value_bytes = 100, .ms = T0 + i * 1000});
    settle_ticks(&f, p, T0 + 60000);
    CHECK(plog_start(p) > 30 && plog_start(p) <= 50);
    CHECK_INT(p->segs[0]->base, plog_start(p));
    settle_ticks(&f, p, T0 + 1000000);
    CHECK_INT(plog_start(p), 100);
    CHECK_INT(plog_size(p), 0);
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_end(p), 100);
    CHECK_INT(append_ok(p, &(struct spec){0}), 100);
    fixture_end(&f);
}

TEST(retention_by_bytes_keeps_at_least_that_many)
{
    struct fixture f = {.segment_bytes = 2000};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", "retention.bytes=5000 retention.ms=-1");
    for (int i = 0; i < 100; i++)
        append_ok(p, &(struct spec){.value_bytes = 100});
    settle_ticks(&f, p, T0);
    CHECK(plog_size(p) >= 5000 && plog_size(p) < 7100);
    CHECK_INT(count_records(p, plog_start(p)), 100 - plog_start(p));
    p = fixture_topic(&f, "u", "retention.bytes=1000 cleanup.policy=compact");
    for (int i = 0; i < 50; i++)
        append_ok(p, &(struct spec){.value_bytes = 100});
    settle_ticks(&f, p, T0 + ((int64_t)1 << 40));
    CHECK_INT(plog_start(p), 0); /* compaction alone deletes nothing by age or size */
    fixture_end(&f);
}

TEST(an_old_segment_is_rolled_by_its_age)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", "segment.ms=5000 retention.ms=-1");
    append_ok(p, &(struct spec){0});
    settle_ticks(&f, p, T0 + 4999);
    CHECK_INT(p->nsegs, 1);
    settle_ticks(&f, p, T0 + 5000);
    CHECK_INT(p->nsegs, 2);
    settle_ticks(&f, p, T0 + 100000); /* an empty one is not */
    CHECK_INT(p->nsegs, 2);
    CHECK_INT(append_ok(p, &(struct spec){0}), 1);
    CHECK_INT(count_records(p, 0), 2);
    fixture_end(&f);
}

TEST(a_full_disk_refuses_the_append_and_nothing_else)
{
    struct fixture f = {0};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){.n = 3, .value_bytes = 1000});
    int64_t size = plog_size(p);
    struct rlimit old, low;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    NEED(getrlimit(RLIMIT_FSIZE, &old) == 0);
    low = old;
    low.rlim_cur = (rlim_t)size + 700;
    NEED(setrlimit(RLIMIT_FSIZE, &low) == 0);
    struct append_result r = append(p, &(struct spec){.n = 3, .value_bytes = 1000});
    CHECK_INT(r.error, APPEND_STORAGE);
    CHECK(r.why != NULL);
    char path[256];
    fixture_path(&f, path, "t-0/%020d.log", 0);
    CHECK_INT(file_bytes(path), size);
    CHECK_INT(append_ok(p, &(struct spec){.value_bytes = 10}), 3); /* a small one still fits */
    NEED(setrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, handler);
    CHECK(!plog_failed(p));
    CHECK_INT(append_ok(p, &(struct spec){.n = 3, .value_bytes = 1000}), 4);
    CHECK_INT(count_records(p, 0), 7);
    fixture_crash(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 7);
    fixture_end(&f);
}

TEST(a_failed_partition_answers_nothing_but_storage_errors)
{
    struct fixture f = {0};
    struct buf b;
    int64_t v;
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    append_ok(p, &(struct spec){0});
    plog_fail(p, -EIO, "test");
    CHECK(plog_failed(p));
    CHECK_INT(append(p, &(struct spec){0}).error, APPEND_STORAGE);
    buf_init(&b, ROOM);
    CHECK_INT(plog_read(p, 0, 100, true, &b), -EIO);
    CHECK_INT(plog_by_time(p, 0, &v, &v), -EIO);
    CHECK_INT(plog_delete_to(p, 1, &v), -EIO);
    buf_free(&b);
    fixture_close(&f);
    char path[256];
    fixture_path(&f, path, "clean");
    CHECK(!file_there(path)); /* the next start must look closely */
    fixture_open(&f);
    CHECK_INT(count_records(fixture_part(&f, "t"), 0), 1);
    fixture_end(&f);
}

TEST(descriptors_are_bounded_however_many_partitions)
{
    struct fixture f = {0};
    struct topic *t;
    struct err e = {0};
    struct rlimit old, low;
    fixture_open(&f);
    CHECK_INT(store_topic_create(f.s, SL("t"), 300, NULL, 0, &t, &e), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 300; i++)
            append_ok(t->parts[i], &(struct spec){0});
        CHECK(f.s->nopen <= OPEN_FILES_MAX);
    }
    /* Scarcer still: as few as this process has open now, and some. */
    NEED(getrlimit(RLIMIT_NOFILE, &old) == 0);
    low = old;
    low.rlim_cur = 100;
    while (f.s->nopen > 40)
        NEED(segment_evict(f.s));
    NEED(setrlimit(RLIMIT_NOFILE, &low) == 0);
    for (int i = 0; i < 300; i++)
        append_ok(t->parts[i], &(struct spec){0});
    NEED(setrlimit(RLIMIT_NOFILE, &old) == 0);
    for (int i = 0; i < 300; i++)
        CHECK_INT(count_records(t->parts[i], 0), 3);
    fixture_end(&f);
}

static void count_calls(void *arg, struct plog *p)
{
    ++*(int *)arg;
}

TEST(a_failed_sync_fails_the_partition_for_good_and_tells)
{
    struct fixture f = {.sync = STORE_SYNC_INTERVAL};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL), *other = fixture_topic(&f, "u", NULL);
    append(p, &(struct spec){0});
    append(other, &(struct spec){0});
    int ends[2], calls = 0;
    NEED(pipe(ends) == 0);
    NEED(dup2(ends[0], plog_active(p)->fd) >= 0); /* a pipe can't be synced */
    store_tick(f.s, T0);
    while (!plog_failed(p) || other->synced.offset == 0) {
        struct pollfd pfd = {store_event_fd(f.s), POLLIN, 0};
        NEED(poll(&pfd, 1, 120000) == 1);
        store_poll(f.s, count_calls, &calls);
    }
    CHECK(calls >= 2);
    CHECK_INT(p->synced.offset, 0);
    CHECK_INT(append(p, &(struct spec){0}).error, APPEND_STORAGE);
    CHECK_INT(append(other, &(struct spec){0}).error, 0);
    close(ends[0]);
    close(ends[1]);
    fixture_end(&f);
}

TEST(without_syncs_records_are_shown_at_once)
{
    struct fixture f = {.sync = STORE_SYNC_NEVER, .segment_bytes = 2000};
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", "retention.bytes=4000");
    int64_t before = store_syncs(f.s);
    for (int i = 0; i < 100; i++) {
        append(p, &(struct spec){.value_bytes = 100});
        CHECK_INT(plog_durable_end(p), i + 1);
    }
    CHECK_INT(store_syncs(f.s), before);
    store_tick(f.s, T0);
    CHECK(plog_start(p) > 0);
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    CHECK_INT(plog_end(p), 100);
    f.sync = STORE_SYNC_INTERVAL;
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    append(p, &(struct spec){0});
    settle_ticks(&f, p, T0);
    CHECK_INT(p->synced.offset, 101);
    fixture_end(&f);
}
