/* Compaction when something is wrong: damage, remains of a crash, a full disk, an end in the
 * middle. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "clean_fixture.h"

SUITE("broker/clean-faults")

TEST(a_damaged_segment_is_left_as_it_is)
{
    struct fixture f = {0};
    char path[256];
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    for (int i = 0; i < 10; i++)
        put(p, "a", "1");
    size_t size = (size_t)plog_size(p);
    roll(p);
    fixture_path(&f, path, "t-0/%020d.log", 0);
    for (size_t at = 3; at < size; at += 37) {
        file_flip(path, at);
        p->clean_again_ms = 0;
        fixture_clean(&f, T0);
        CHECK_INT(p->clean_to, 0);
        CHECK_INT(file_bytes(path), size);
        file_flip(path, at);
    }
    CHECK_INT(store_clean_totals(f.s)->failed, (size - 3 + 36) / 37);
    CHECK(!plog_failed(p));
    CHECK_INT(count_records(p, 0), 10);
    fixture_clean(&f, T0 + 3600000); /* not tried again by itself */
    CHECK_INT(p->clean_to, 0);
    fixture_crash(&f);
    p = fixture_part(&f, "t");
    fixture_clean(&f, T0);
    CHECK_STR(dump(p), "9:a=1");
    fixture_end(&f);
}

TEST(a_start_removes_what_was_not_finished)
{
    struct fixture f = {0};
    char path[256];
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
    put(p, "a", "1");
    fixture_copy(&f);
    fixture_path(&f, path, "t-0/%020d.cleaned", 0);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    NEED(fd >= 0 && fd_write_all(fd, SL("half a batch")) == 0);
    close(fd);
    fixture_open(&f);
    CHECK(!file_there(path));
    CHECK_STR(dump(fixture_part(&f, "t")), "0:a=1");
    fixture_end(&f);
}

/* Which of the calls on a compaction's files fail. */
static struct {
    struct fileops ops;
    int left; /* calls until one fails; negative: never */
    int failed;
} broken;

static int fails(void)
{
    bool now = __atomic_sub_fetch(&broken.left, 1, __ATOMIC_RELAXED) == 0;
    broken.failed += now;
    return now ? -ENOSPC : 0;
}

static ssize_t broken_pwrite(struct fileops *o, int fd, const void *p, size_t n, int64_t at)
{
    int rc = fails();
    return rc < 0 ? rc : fileops_real()->pwrite(o, fd, p, n, at);
}

static int broken_open(struct fileops *o, const char *path, int flags)
{
    int rc = sl_ends(sl_str(path), SL(".cleaned")) ? fails() : 0;
    return rc < 0 ? rc : fileops_real()->open(o, path, flags);
}

static int broken_rename(struct fileops *o, const char *from, const char *to)
{
    int rc = fails();
    return rc < 0 ? rc : fileops_real()->rename(o, from, to);
}

TEST(a_full_disk_stops_nothing_and_is_tried_again)
{
    broken.ops = *fileops_real();
    broken.ops.open = broken_open;
    broken.ops.pwrite = broken_pwrite;
    broken.ops.rename = broken_rename;
    for (int nth = 1; nth <= 3; nth++) { /* open, write, the rename before anything counts */
        struct fixture f = {.files = &broken.ops};
        broken.left = -1;
        broken.failed = 0;
        fixture_open(&f);
        struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
        put(p, "a", "1");
        put(p, "a", "2");
        roll(p);
        store_tick(f.s, T0); /* begins with the files of the log in peace */
        fixture_clean(&f, T0);
        CHECK_STR(dump(p), "1:a=2");
        put(p, "a", "3");
        roll(p);
        plog_tick(p, T0);
        broken.left = nth;
        fixture_clean(&f, T0);
        CHECK_INT(broken.failed, 1);
        broken.left = -1;
        CHECK(!plog_failed(p));
        CHECK_STR(dump(p), "1:a=2 2:a=3");
        CHECK_INT(store_clean_totals(f.s)->failed, 1);
        char path[256];
        fixture_path(&f, path, "t-0/%020d.cleaned", 0);
        CHECK(!file_there(path));
        fixture_clean(&f, T0 + 29999);
        CHECK_STR(dump(p), "1:a=2 2:a=3");
        fixture_clean(&f, T0 + 30000);
        CHECK_STR(dump(p), "2:a=3");
        fixture_end(&f);
    }
}

TEST(a_topic_can_go_and_the_log_can_stop_in_the_middle)
{
    for (int round = 0; round < 20; round++) {
        struct fixture f = {0};
        struct err e = {0};
        fixture_open(&f);
        struct plog *p = fixture_topic(&f, "t", COMPACT_1S);
        for (int i = 0; i < 5; i++) {
            put(p, "a", "1");
            roll(p);
        }
        store_tick(f.s, T0);
        CHECK(cleaner_busy(f.s));
        for (int i = 0; i < round / 4; i++) { /* some of its steps are done */
            usleep((useconds_t)(round % 4) * 100);
            cleaner_collect(f.s);
        }
        if (round % 2) {
            CHECK_INT(store_topic_delete(f.s, SL("t"), &e), 0);
            CHECK(!cleaner_busy(f.s));
            p = fixture_topic(&f, "t", COMPACT_1S); /* and the cleaner still works */
            put(p, "b", "1");
            put(p, "b", "2");
            roll(p);
            fixture_clean(&f, T0);
            CHECK_STR(dump(p), "1:b=2");
        } else {
            fixture_close(&f);
            fixture_open(&f);
            p = fixture_part(&f, "t");
            fixture_clean(&f, T0);
            CHECK_STR(dump(p), "4:a=1");
        }
        fixture_end(&f);
    }
}
