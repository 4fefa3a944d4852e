/* Child processes: results, limits, deadlines, nothing left behind. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/child.h"
#include "unit.h"

SUITE("loop/child")

#define WAIT_MS 120000

struct seen {
    bool done;
    int calls, status, signo;
    bool timed_out, truncated;
    char out[4096], err[4096];
    size_t nout;
};

static void on_result(void *arg, const struct child_result *r)
{
    struct seen *s = arg;
    s->done = true;
    s->calls++;
    s->status = r->status;
    s->signo = r->signo;
    s->timed_out = r->timed_out;
    s->truncated = r->truncated;
    s->nout = r->out.n;
    (void)snprintf(s->out, sizeof s->out, "%.*s", SL_ARG(r->out));
    (void)snprintf(s->err, sizeof s->err, "%.*s", SL_ARG(r->err));
}

static void finish(struct loop *l, struct seen *s)
{
    int64_t end = clock_boot_ms() + WAIT_MS;
    while (!s->done && clock_boot_ms() < end)
        loop_turn(l, 100);
    CHECK_INT(s->calls, 1);
}

/* Runs `sh -c script` to its end. */
static struct seen run(const char *script, struct child_spec spec)
{
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    struct err e = {0};
    const char *argv[] = {"sh", "-c", script, NULL};
    spec.argv = argv;
    if (!spec.output_max)
        spec.output_max = 4000;
    NEED(child_start(l, &spec, on_result, &s, &e) != NULL);
    finish(l, &s);
    loop_free(l);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1); /* no zombie, no orphan */
    return s;
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    NEED(d != NULL);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

TEST(output_error_and_status_come_back)
{
    int before = open_fds();
    struct seen s = run("printf out; printf err >&2; exit 3", (struct child_spec){0});
    CHECK_STR(s.out, "out");
    CHECK_STR(s.err, "err");
    CHECK_INT(s.status, 3);
    CHECK(!s.signo && !s.timed_out && !s.truncated);
    s = run("kill -TERM $$", (struct child_spec){0});
    CHECK_INT(s.status, 128 + SIGTERM);
    CHECK_INT(s.signo, SIGTERM);
    CHECK_INT(open_fds(), before);
}

TEST(environment_and_folder_are_what_was_given)
{
    const char *const envp[] = {"TIDEMARK_X=1 2", NULL};
    setenv("UNIT_LEAK", "1", 1);
    struct seen s = run("echo \"$TIDEMARK_X,$UNIT_LEAK,$(pwd)\"",
                        (struct child_spec){.envp = envp, .cwd = "/usr"});
    CHECK_STR(s.out, "1 2,,/usr\n");
    s = run("echo \"<$UNIT_LEAK>\"", (struct child_spec){0});
    CHECK_STR(s.out, "<>\n");
    unsetenv("UNIT_LEAK");
}

TEST(only_three_descriptors_and_no_signal_is_blocked)
{
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    int ends[2];
    NEED(pipe(ends) == 0); /* without close-on-exec, and still not inherited */
    struct seen s =
        run("cd /proc/$$/fd; for i in *; do [ $i -le 2 ] || [ ! -e $i ] || echo $i; done; "
            "grep -E 'SigBlk|SigIgn' /proc/self/status",
            (struct child_spec){0});
    CHECK_STR(s.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    close(ends[0]);
    close(ends[1]);
}

TEST(large_input_goes_through_and_output_is_bounded)
{
    size_t n = 3 << 20;
    char *text = malloc(n);
    NEED(text != NULL);
    memset(text, 'x', n);
    struct seen s = run("wc -c", (struct child_spec){.input = sl(text, n)});
    CHECK_STR(s.out, "3145728\n");
    s = run("cat", (struct child_spec){.input = sl(text, n), .output_max = 1000});
    CHECK_INT(s.nout, 1000);
    CHECK(s.truncated);
    CHECK_INT(s.status, 0);
    s = run("cat", (struct child_spec){.input = sl(text, n), .output_max = n});
    CHECK_INT(s.nout, n);
    CHECK(!s.truncated);
    s = run("exec <&-; echo gone", (struct child_spec){.input = sl(text, n)}); /* no SIGPIPE here */
    CHECK_STR(s.out, "gone\n");
    free(text);
}

TEST(deadline_kills_the_whole_group)
{
    int64_t start = clock_boot_ms();
    struct seen s =
        run("sleep 100 & sleep 100; echo never", (struct child_spec){.timeout_ms = 200});
    CHECK(s.timed_out);
    CHECK_INT(s.signo, SIGKILL);
    CHECK_STR(s.out, "");
    CHECK(clock_boot_ms() - start < 90000);
}

TEST(grandchild_that_keeps_a_pipe_delays_the_end_by_a_second_and_is_ended)
{
    struct seen s = run("sleep 100 & echo $!", (struct child_spec){0});
    CHECK_INT(s.status, 0);
    CHECK(!s.timed_out);
    pid_t left = (pid_t)strtol(s.out, NULL, 10);
    NEED(left > 1);
    /* It has no parent here: init takes it away, or it stays a zombie of the container's first
     * process. */
    char path[64], state = 'X';
    (void)snprintf(path, sizeof path, "/proc/%d/stat", left);
    int64_t end = clock_boot_ms() + WAIT_MS;
    do {
        FILE *f = fopen(path, "r");
        state = 'X';
        if (f && fscanf(f, "%*d %*s %c", &state) != 1)
            state = 'X';
        if (f)
            fclose(f);
    } while (state != 'X' && state != 'Z' && clock_boot_ms() < end);
    CHECK(state == 'X' || state == 'Z');
}

TEST(limits_are_set)
{
    struct seen s =
        run("ulimit -v; ulimit -f; ulimit -c",
            (struct child_spec){.memory_max_bytes = 512 << 20, .file_max_bytes = 1 << 20});
    CHECK_STR(s.out, "524288\n2048\n0\n");
}

TEST(what_cannot_start_is_told)
{
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    int before = open_fds();
    static const struct {
        const char *name, *cwd;
        int code;
    } t[] = {{"no-such-program-here", NULL, -ENOENT},
             {"/no/such/file", NULL, -ENOENT},
             {"/usr", NULL, -EACCES},
             {"", NULL, -ENOENT},
             {"sh", "/no/such/folder", -ENOENT}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct err e = {0};
        const char *argv[] = {t[i].name, NULL};
        struct child_spec spec = {.argv = argv, .cwd = t[i].cwd, .output_max = 10};
        CHECK(child_start(l, &spec, on_result, &s, &e) == NULL);
        CHECK_INT(e.code, t[i].code);
        CHECK(e.msg[0] && e.hint[0]);
    }
    CHECK_INT(open_fds(), before);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(s.calls, 0);
    loop_free(l);
}

TEST(killed_children_are_reaped_without_callback)
{
    struct loop *l = loop_new(NULL);
    struct seen s = {0};
    int before = open_fds();
    const char *argv[] = {"sleep", "100", NULL};
    struct child_spec spec = {.argv = argv, .output_max = 10};
    struct child *c = child_start(l, &spec, on_result, &s, NULL);
    NEED(c != NULL);
    child_kill(c);
    int64_t end = clock_boot_ms() + WAIT_MS;
    while (open_fds() > before && clock_boot_ms() < end)
        loop_turn(l, 100);
    CHECK_INT(open_fds(), before);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    NEED(child_start(l, &spec, on_result, &s, NULL) != NULL);
    loop_free(l); /* ends and reaps what is left */
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(s.calls, 0);
}

TEST(pair_speaks_over_descriptor_3)
{
    const char *argv[] = {"sh", "-c", "read x <&3; echo \"got $x $HOME\" >&3", NULL};
    int fd = -1, pidfd = -1;
    pid_t pid = -1;
    struct err e = {0};
    NEED(child_pair(argv, 0, &fd, &pidfd, &pid, &e) == 0);
    CHECK_INT(write(fd, "hello\n", 6), 6);
    siginfo_t info = {0};
    CHECK_INT(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    CHECK_INT(info.si_pid, pid);
    char text[32] = "";
    CHECK(read(fd, text, sizeof text - 1) > 0);
    CHECK_STR(text, "got hello \n");
    close(fd);
    close(pidfd);
    argv[0] = "no-such-program-here";
    CHECK_INT(child_pair(argv, 0, &fd, &pidfd, &pid, &e), -ENOENT);
}
