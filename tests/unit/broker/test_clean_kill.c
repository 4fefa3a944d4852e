/* SIGKILL at every failpoint of a compaction, and of its completion at the next start: of each key
 * the value that was acknowledged last is there, a producer's repeat is known, and no file is left
 * over.
 *
 * The killed process is this program again with one test selected, as in test_store_kill.c. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_fixture.h"

SUITE("broker/clean-kill")

#define KEYS    5
#define ROUNDS  24
#define APPENDS 4 /* between two compactions */

/* What was acknowledged; kept in a file beside the log. */
struct promise {
    int64_t end;
    int32_t seq; /* of the producer's next record, and its value */
    int32_t value[KEYS];
    bool cleaned;
};

static int promise_file(const char *dir, int flags)
{
    char path[256];
    snprintf(path, sizeof path, "%s/promised", dir);
    return open(path, flags, 0600);
}

static void keep(const char *dir, const struct promise *pr)
{
    int fd = promise_file(dir, O_WRONLY | O_CREAT);
    NEED(fd >= 0 && pwrite(fd, pr, sizeof *pr, 0) == (ssize_t)sizeof *pr);
    close(fd);
}

static struct promise recall(const char *dir)
{
    struct promise pr = {0};
    int fd = promise_file(dir, O_RDONLY);
    if (fd >= 0) {
        NEED(pread(fd, &pr, sizeof pr, 0) == (ssize_t)sizeof pr);
        close(fd);
    }
    return pr;
}

static struct append_result put(struct plog *p, int32_t seq)
{
    char key[8], value[16];
    struct buf b;
    buf_init(&b, 4096);
    snprintf(key, sizeof key, "%d", seq % KEYS);
    snprintf(value, sizeof value, "%d", seq);
    batch_build(&b, &(struct plog_record){.key = sl_str(key), .value = sl_str(value)}, 1, T0);
    save64(b.p + 43, 7);
    save16(b.p + 51, 0);
    save32(b.p + 53, seq);
    seal_batch(b.p, b.n);
    return append_bytes(p, &b);
}

static struct plog *topic(struct fixture *f)
{
    if (store_topic(f->s, SL("t")))
        return fixture_part(f, "t");
    return fixture_topic(f, "t",
                         "segment.bytes=1024 cleanup.policy=compact "
                         "min.cleanable.dirty.ratio=0 delete.retention.ms=0");
}

TEST(killed_compaction)
{
    const char *dir = getenv("TM_TEST_KILL_DIR");
    if (!dir)
        return; /* only for the tests below */
    struct fixture f = {0};
    struct promise pr = recall(dir);
    snprintf(f.dir, sizeof f.dir, "%s", dir);
    fixture_open(&f);
    struct plog *p = topic(&f);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < APPENDS; k++) {
            struct append_result r = put(p, pr.seq);
            CHECK_INT(r.error, 0);
            wait_durable(p);
            pr.value[pr.seq % KEYS] = pr.seq;
            pr.end = r.end_offset;
            pr.seq++;
            keep(dir, &pr);
        }
        fixture_clean(&f, T0 + i);
    }
    fixture_close(&f);
}

#ifdef TIDEMARK_FAILPOINTS
static int run_killed(const char *dir, const char *point)
{
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        setenv("TM_TEST_KILL_DIR", dir, 1);
        setenv("TIDEMARK_FAILPOINT", point, 1);
        execl("/proc/self/exe", "unit_broker", "killed_compaction", NULL);
        _exit(99);
    }
    int status = 0;
    NEED(waitpid(pid, &status, 0) == pid);
    return status;
}

static int take_value(void *arg, int64_t offset, struct slice key, struct slice value,
                      bool null_value)
{
    int64_t k, v;
    NEED(sl_i64(key, &k) == 0 && sl_i64(value, &v) == 0);
    CHECK(v >= ((int32_t *)arg)[k]);
    ((int32_t *)arg)[k] = (int32_t)v;
    return 0;
}

static int no_remains(void *arg, const char *name)
{
    CHECK(!sl_ends(sl_str(name), SL(".swap")) && !sl_ends(sl_str(name), SL(".cleaned")));
    return 0;
}

static void check_promises(struct fixture *f)
{
    struct promise pr = recall(f->dir);
    int32_t seen[KEYS] = {0};
    fixture_open(f);
    struct plog *p = topic(f);
    CHECK_INT(fileops_real()->list(fileops_real(), p->dir, no_remains, NULL), 0);
    int64_t end = plog_end(p);
    CHECK(end == pr.end || end == pr.end + 1); /* the one under way may have got there */
    CHECK_INT(plog_start(p), 0);
    CHECK_INT(plog_each(p, 0, take_value, seen), 0);
    for (int k = 0; k < KEYS; k++)
        CHECK(seen[k] == pr.value[k] || (seen[k] == pr.seq && pr.seq % KEYS == k));
    for (size_t i = 0; i + 1 < p->nsegs; i++)
        CHECK_INT(p->segs[i]->end, p->segs[i + 1]->base);
    struct append_result r = put(p, pr.seq); /* as a client repeats it */
    CHECK_INT(r.error, 0);
    CHECK_INT(r.duplicate, end == pr.end + 1);
    wait_durable(p);
    pr.value[pr.seq % KEYS] = pr.seq;
    pr.end = plog_end(p);
    pr.seq++;
    keep(f->dir, &pr);
    fixture_close(f);
}

static bool was_killed(int status)
{
    bool kill = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK(kill || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return kill;
}

TEST(nothing_is_lost_by_sigkill_at_any_step_of_a_compaction)
{
    static const char *const points[] = {"log.clean.before", "log.clean.after",  "log.swap.before",
                                         "log.swap.commit",  "log.swap.delete",  "log.swap.rename",
                                         "log.swap.after",   "log.write.before", "log.sync.after",
                                         "log.roll.before",  "log.roll.after"};
    struct fixture f = {0};
    fixture_open(&f);
    fixture_close(&f);
    for (int nth = 1; nth <= 3; nth++) {
        for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
            char point[64];
            snprintf(point, sizeof point, "%s:%d", points[i], nth);
            CHECK(was_killed(run_killed(f.dir, point)));
            check_promises(&f);
        }
    }
    fixture_end(&f);
}

TEST(a_start_that_is_killed_while_it_finishes_a_swap_is_finished_by_the_next)
{
    struct fixture f = {0};
    fixture_open(&f);
    fixture_close(&f);
    static const char *const points[] = {"log.swap.commit:2", "log.swap.delete:2",
                                         "log.swap.rename:2"};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        CHECK(was_killed(run_killed(f.dir, points[i])));
        CHECK(was_killed(run_killed(f.dir, "log.recover.swap")));
        check_promises(&f);
    }
    fixture_end(&f);
}
#endif
