/* SIGKILL at every failpoint of the storage: what was acknowledged is there at the next start.
 *
 * The killed process is this program again with one test selected, because a failpoint is armed by
 * the environment once in the life of a process. It notes in a file what was acknowledged; the
 * parent opens the folder and compares. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store_fixture.h"

SUITE("broker/kill")

#define APPENDS 30

struct promise {
    int64_t end, start, id;
    int32_t seq; /* of the producer's next record */
    bool topic, scratch_made, scratch_gone, closed;
};

static void promise_path(const char *dir, char path[static 256])
{
    snprintf(path, 256, "%s/promised", dir);
}

static void keep(const char *dir, const struct promise *pr)
{
    char path[256];
    promise_path(dir, path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    NEED(fd >= 0 && pwrite(fd, pr, sizeof *pr, 0) == (ssize_t)sizeof *pr);
    close(fd);
}

static struct promise recall(const char *dir)
{
    struct promise pr = {0};
    char path[256];
    promise_path(dir, path);
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        NEED(pread(fd, &pr, sizeof pr, 0) == (ssize_t)sizeof pr);
        close(fd);
    }
    return pr;
}

static struct plog *open_topic(struct fixture *f, struct promise *pr)
{
    if (!store_topic(f->s, SL("t")))
        fixture_topic(f, "t", "segment.bytes=1500");
    pr->topic = true;
    return fixture_part(f, "t");
}

static void make_and_delete_scratch(struct fixture *f, struct promise *pr)
{
    struct err e = {0};
    if (!store_topic(f->s, SL("scratch")))
        fixture_topic(f, "scratch", NULL);
    pr->scratch_gone = false;
    pr->scratch_made = true;
    keep(f->dir, pr);
    append_ok(fixture_part(f, "scratch"), &(struct spec){0});
    pr->scratch_made = false; /* neither is promised while it is being deleted */
    keep(f->dir, pr);
    CHECK_INT(store_topic_delete(f->s, SL("scratch"), &e), 0);
    pr->scratch_gone = true;
    keep(f->dir, pr);
}

TEST(killed_process)
{
    const char *dir = getenv("TM_TEST_KILL_DIR");
    if (!dir)
        return; /* only for the test below */
    struct fixture f = {0};
    struct promise pr = recall(dir);
    snprintf(f.dir, sizeof f.dir, "%s", dir);
    fixture_open(&f);
    struct plog *p = open_topic(&f, &pr);
    keep(dir, &pr);
    for (int i = 0; i < APPENDS; i++) {
        struct append_result r =
            append(p,
                   &(struct spec){.value_bytes = 150, .idempotent = true, .pid = 1, .seq = pr.seq});
        CHECK_INT(r.error, 0);
        wait_durable(p);
        pr.end = r.end_offset;
        pr.seq++;
        keep(dir, &pr);
        if (i % 7 == 3)
            store_tick(f.s, T0);
        if (i % 10 == 9 && plog_delete_to(p, pr.end - 12 > 0 ? pr.end - 12 : 0, &pr.start) == 0)
            keep(dir, &pr);
    }
    int64_t id;
    CHECK_INT(store_new_producer_id(f.s, &id), 0);
    CHECK(id >= pr.id);
    pr.id = id + 1;
    keep(dir, &pr);
    make_and_delete_scratch(&f, &pr);
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
        execl("/proc/self/exe", "unit_broker", "killed_process", NULL);
        _exit(99);
    }
    int status = 0;
    NEED(waitpid(pid, &status, 0) == pid);
    return status;
}

static void check_promises(struct fixture *f, const char *point)
{
    struct promise pr = recall(f->dir);
    fixture_open(f);
    if (pr.topic) {
        struct plog *p = fixture_part(f, "t");
        int64_t end = plog_end(p);
        /* The record after the last acknowledged one may be there or not. */
        CHECK(end == pr.end || end == pr.end + 1);
        CHECK(plog_start(p) >= pr.start && plog_start(p) <= end);
        CHECK_INT(count_records(p, plog_start(p)), end - plog_start(p));
        struct append_result r =
            append(p,
                   &(struct spec){.value_bytes = 150, .idempotent = true, .pid = 1, .seq = pr.seq});
        CHECK_INT(r.error, 0); /* as a client repeats it */
        CHECK_INT(r.duplicate, end == pr.end + 1);
        CHECK_INT(r.base_offset, pr.end);
        wait_durable(p);
        pr.end++;
        pr.seq++;
    }
    if (pr.scratch_made)
        CHECK(store_topic(f->s, SL("scratch")) != NULL);
    if (pr.scratch_gone && store_topic(f->s, SL("scratch")))
        CHECK_INT(plog_end(fixture_part(f, "scratch")), 0); /* made anew, not brought back */
    keep(f->dir, &pr);
    fixture_close(f);
}

TEST(nothing_acknowledged_is_lost_by_sigkill_at_any_failpoint)
{
    static const char *const points[] = {
        "log.write.before",      "log.write.after",      "log.sync.before",
        "log.sync.after",        "log.roll.before",      "log.roll.after",
        "log.checkpoint.before", "log.checkpoint.after", "log.start.before",
        "log.start.after",       "log.delete",           "log.meta.before",
        "log.meta.after",        "log.topic.delete",     "log.close"};
    struct fixture f = {0};
    int killed = 0;
    fixture_open(&f);
    fixture_close(&f);
    for (int nth = 1; nth <= 3; nth++) {
        for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
            char point[64];
            snprintf(point, sizeof point, "%s:%d", points[i], nth == 3 ? 17 : nth);
            int status = run_killed(f.dir, point);
            bool kill = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
            CHECK(kill || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
            CHECK(kill || nth > 1); /* each point is passed at least once */
            killed += kill;
            check_promises(&f, point);
        }
    }
    CHECK(killed >= 25);
    fixture_end(&f);
}
#endif
