/* The log sink, metrics, secrets, files and failpoints. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/logger.h"
#include "base/metric.h"
#include "base/secret.h"
#include "unit.h"

SUITE("base/sinks")

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/unit_base.XXXXXX");
    NEED(mkdtemp(folder) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    return remove(path);
}

static void remove_folder(void)
{
    CHECK_INT(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static char *logged(int ends[2])
{
    static char text[40000];
    close(ends[1]);
    size_t n = 0;
    ssize_t r;
    while ((r = read(ends[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)r;
    text[n] = 0;
    close(ends[0]);
    return text;
}

TEST(log_lines_are_logfmt_without_secrets)
{
    int ends[2];
    NEED(pipe(ends) == 0);
    struct log *l = log_new(ends[1], LOG_INFO, false);
    NEED(l != NULL);
    log_info(l, "claimed", "partition=%d reason=%s", 3, log_q("a \"b\"\nc"));
    log_warn(l, "two words", "token=%s api_key=%s n=1", "abc", log_q("x y"));
    log_error(l, "auth", "authorization=Bearer abc.def== run=7");
    log_error(l, "line", "a=1\nb=2\033[31m");
    log_debug(l, "hidden", "x=1");
    CHECK(!log_on(l, LOG_DEBUG) && !log_on(NULL, LOG_ERROR));
    log_set_level(l, LOG_DEBUG);
    log_debug(l, "shown", "x=1");
    log_info(NULL, "nobody", "x=1");
    log_free(l);
    char *text = logged(ends);
    CHECK(strstr(text, "level=info event=claimed partition=3 reason=\"a \\\"b\\\"\\nc\"\n") !=
          NULL);
    CHECK(strstr(text, "level=warn event=\"two words\" token=*** api_key=*** n=1\n") != NULL);
    CHECK(strstr(text, "event=auth authorization=*** run=7\n") != NULL);
    CHECK(strstr(text, "event=line a=1 b=2 [31m\n") != NULL);
    CHECK(!strstr(text, "hidden") && strstr(text, "event=shown x=1\n") != NULL);
    CHECK(sl_starts(sl_str(text), SL("time=2")));
}

TEST(long_log_lines_are_cut)
{
    int ends[2];
    NEED(pipe(ends) == 0);
    struct log *l = log_new(ends[1], LOG_INFO, true);
    NEED(l != NULL);
    log_info(l, "long", "x=%09000d", 1);
    log_free(l);
    char *text = logged(ends);
    size_t n = strlen(text);
    CHECK(n > 8000 && n <= 8192);
    CHECK_STR(text + n - 4, "...\n");
    char big[2000];
    memset(big, '"', sizeof big);
    CHECK(strlen(log_qs(sl(big, sizeof big))) < 512);
    CHECK_STR(log_q(""), "\"\"");
    CHECK_STR(log_q("plain"), "plain");
}

static void *put_many(void *arg)
{
    for (int i = 0; i < 100; i++)
        log_info(arg, "thread", "i=%d text=%s", i, log_q("a b"));
    return NULL;
}

TEST(log_lines_of_threads_do_not_mix)
{
    int ends[2];
    NEED(pipe(ends) == 0);
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 17);
    struct log *l = log_new(ends[1], LOG_INFO, false);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        NEED(pthread_create(&t[i], NULL, put_many, l) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    log_free(l);
    struct slice rest = sl_str(logged(ends)), line;
    int n = 0;
    while (sl_split(&rest, '\n', &line))
        if (line.n) {
            n++;
            CHECK(sl_starts(line, SL("time=")) && sl_ends(line, SL("text=\"a b\"")));
        }
    CHECK_INT(n, 400);
}

TEST(metrics_are_prometheus_text)
{
    struct metric v[] = {{.name = "a_total{x=\"1\"}",
                          .help = "line\nand \\",
                          .kind = METRIC_COUNTER},
                         {.name = "a_total{x=\"2\"}", .help = "", .kind = METRIC_COUNTER},
                         {.name = "b", .help = "size", .kind = METRIC_GAUGE}};
    metric_add(&v[0], 2);
    metric_set(&v[2], -5);
    struct buf b;
    buf_init(&b, 1000);
    CHECK_INT(metrics_write(v, 3, &b), 0);
    CHECK_STR(b.p, "# HELP a_total line\\nand \\\\\n# TYPE a_total counter\na_total{x=\"1\"} 2\n"
                   "a_total{x=\"2\"} 0\n# HELP b size\n# TYPE b gauge\nb -5\n");
    buf_free(&b);
}

TEST(secrets_are_redacted_longest_first)
{
    struct secret *v[] = {secret_new(SL("hunter2")), secret_new(SL("hunter2-long")),
                          secret_new(SL("ab"))};
    struct buf b;
    buf_init(&b, 200);
    CHECK_INT(secret_redact(v, 3, SL("x hunter2-long hunter2hunter2 ab"), &b), 0);
    CHECK_STR(b.p, "x *** ****** ab");
    CHECK(sl_is(secret_reveal(v[0]), "hunter2"));
    for (int i = 0; i < 3; i++)
        v[i] = secret_free(v[i]);
    CHECK_INT(secret_reveal(v[0]).n, 0);
    buf_free(&b);
}

TEST(files_are_replaced_whole)
{
    make_folder();
    struct err e = {0};
    struct buf b;
    buf_init(&b, 10);
    CHECK_INT(dir_make(in_folder("a/b//c/"), &e), 0);
    CHECK_INT(dir_make(in_folder("a/b//c/"), &e), 0);
    CHECK_INT(file_write_atomic(in_folder("a/f"), SL("first text"), &e), 0);
    CHECK_INT(file_read(in_folder("a/f"), &b, &e), 0);
    CHECK_STR(b.p, "first text");
    CHECK_INT(file_write_atomic(in_folder("a/f"), SL("longer than ten"), &e), 0);
    buf_reset(&b);
    CHECK_INT(file_read(in_folder("a/f"), &b, &e), -EFBIG);
    CHECK_INT(b.n, 0);
    CHECK(e.hint[0] != 0);
    CHECK_INT(file_read(in_folder("none"), &b, &e), -ENOENT);
    CHECK_INT(file_read(in_folder("a"), &b, &e), -EISDIR);
    CHECK_INT(dir_make(in_folder("a/f/x"), &e), -ENOTDIR);
    CHECK_INT(file_write_atomic(in_folder("no/f"), SL("x"), &e), -ENOENT);
    struct stat st;
    CHECK(stat(in_folder("a/b/c"), &st) == 0 && (st.st_mode & 0777) == 0700);
    buf_free(&b);
    remove_folder();
}

#ifdef TIDEMARK_FAILPOINTS
/* A child that passes `here` of kind "a" and "b" in turn, and tells how often it came back. */
static int pass_until_it_fires(const char *point, const char *signal_name)
{
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        setenv("TIDEMARK_FAILPOINT", point, 1);
        setenv("TIDEMARK_FAILPOINT_LOG", in_folder("log"), 1);
        setenv("TIDEMARK_FAILPOINT_SIGNAL", signal_name, 1);
        for (int i = 1; i <= 4; i++) {
            FAILPOINT("elsewhere");
            FAILPOINT("her");
            FAILPOINT_OF("here", i % 2 ? "a" : "b", "run 7");
            (void)file_write_atomic(in_folder(i == 1   ? "1"
                                              : i == 2 ? "2"
                                              : i == 3 ? "3"
                                                       : "4"),
                                    SL(""), NULL);
        }
        _exit(0);
    }
    int status = 0;
    NEED(waitpid(pid, &status, WUNTRACED) == pid);
    if (WIFSTOPPED(status)) {
        CHECK_INT(access(in_folder("3"), F_OK), -1);
        kill(pid, SIGCONT);
        NEED(waitpid(pid, &status, 0) == pid);
    }
    return status;
}

static void check_log(const char *want)
{
    struct buf b;
    buf_init(&b, 200);
    CHECK_INT(file_read(in_folder("log"), &b, NULL), 0);
    CHECK_STR(b.p, want);
    buf_free(&b);
}

TEST(failpoint_kills_at_the_wanted_passing)
{
    make_folder();
    int status = pass_until_it_fires("here:3", "");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    check_log("failpoint here run 7\n");
    CHECK_INT(access(in_folder("2"), F_OK), 0);
    CHECK_INT(access(in_folder("3"), F_OK), -1);
    remove_folder();
}

TEST(failpoint_counts_passings_of_one_kind)
{
    make_folder();
    int status = pass_until_it_fires("here/b:2", "KILL");
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    check_log("failpoint here/b run 7\n");
    CHECK_INT(access(in_folder("3"), F_OK), 0);
    CHECK_INT(access(in_folder("4"), F_OK), -1);
    remove_folder();
}

TEST(failpoint_stops_a_process_that_goes_on_when_continued)
{
    make_folder();
    int status = pass_until_it_fires("here/a:2", "STOP");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    check_log("failpoint here/a run 7\n");
    CHECK_INT(access(in_folder("4"), F_OK), 0);
    remove_folder();
}

/* A test replaces the file while the process runs. */
TEST(faults_hold_as_long_as_their_line_stands)
{
    make_folder();
    setenv("TIDEMARK_FAULTS", in_folder("faults"), 1);
    CHECK(!FAIL_NOW("fork"));
    CHECK_INT(file_write_atomic(in_folder("faults"), SL("clock -3600000\nfork\n"), NULL), 0);
    CHECK(FAIL_NOW("fork"));
    CHECK(!FAIL_NOW("for"));
    CHECK(!FAIL_NOW("clo"));
    CHECK_INT(fail_clock_ms(), -3600000);
    int64_t wall = clock_wall_ms();
    CHECK_INT(file_write_atomic(in_folder("faults"), SL(""), NULL), 0);
    CHECK(clock_wall_ms() - wall >= 3600000);
    CHECK(!FAIL_NOW("fork"));
    unsetenv("TIDEMARK_FAULTS");
    remove_folder();
}
#endif
