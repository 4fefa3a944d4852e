/* System calls that fail, each in turn, on the short paths of the loop, of child processes and of
 * files: a clean error with a hint, or the right result; no descriptor and no process is left
 * behind. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "config/config.h"
#include "faults.h"
#include "loop/child.h"
#include "loop/queue.h"
#include "unit.h"

SUITE("faults/calls")

bool fault_here(enum fault_kind kind, const char *name);

#define CALL(type, name, params, args, code)                                                       \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        if (fault_here(FAULT_CALL, #name)) {                                                       \
            errno = code;                                                                          \
            return -1;                                                                             \
        }                                                                                          \
        return __real_##name args;                                                                 \
    }

CALL(int, epoll_create1, (int flags), (flags), EMFILE)
CALL(int, epoll_ctl, (int e, int op, int fd, struct epoll_event *ev), (e, op, fd, ev), ENOSPC)
CALL(int, timerfd_create, (int clock, int flags), (clock, flags), EMFILE)
CALL(int, eventfd, (unsigned v, int flags), (v, flags), EMFILE)
CALL(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), EMFILE)
CALL(int, pipe2, (int fd[2], int flags), (fd, flags), EMFILE)
CALL(int, socketpair, (int d, int t, int p, int fd[2]), (d, t, p, fd), EMFILE)
CALL(pid_t, fork, (void), (), EAGAIN)
CALL(int, fsync, (int fd), (fd), EIO)
CALL(int, rename, (const char *from, const char *to), (from, to), EIO)
CALL(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), EIO)
CALL(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), ENOSPC)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    if (fault_here(FAULT_CALL, "open")) {
        errno = EMFILE;
        return -1;
    }
    return __real_open(path, flags, mode);
}

/* pidfd_open, and close_range between fork and exec. */
long __real_syscall(long n, ...);
long __wrap_syscall(long n, unsigned a, unsigned b, unsigned c);
long __wrap_syscall(long n, unsigned a, unsigned b, unsigned c)
{
    if (n == SYS_pidfd_open && fault_here(FAULT_CALL, "pidfd_open")) {
        errno = EMFILE;
        return -1;
    }
    return __real_syscall(n, a, b, c);
}

static void every_call(const char *name, int (*path)(struct err *e))
{
    struct err e = {0};
    CHECK_INT(path(&e), 0);
    CHECK_STR(e.msg, "");
    int before = fault_descriptors();
    for (fault_begin(FAULT_CALL); fault_next();) {
        err_clear(&e);
        fault_on();
        int error = path(&e);
        fault_off();
        bool clean =
            fault_descriptors() == before && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
        bool told = !error || (error < 0 && e.msg[0] && e.hint[0]);
        if (!clean || !told || (error && !fault_hit()))
            fprintf(stderr, "%s, %zu: %s fails: status %d, %d descriptors of %d, \"%s\" \"%s\"\n",
                    name, fault_rounds(), fault_name(), error, fault_descriptors(), before, e.msg,
                    e.hint);
        CHECK(clean);
        CHECK(told);
        CHECK(!error || fault_hit());
    }
    CHECK(fault_rounds() > 1);
    fault_check_leaks(name);
}

static int a_loop(struct err *e)
{
    struct loop *l = loop_new(e);
    if (l)
        loop_turn(l, 0);
    loop_free(l);
    return l ? 0 : -EIO;
}

static void nothing_signalled(struct loop_signal *s, int signo)
{
}

static int a_signal(struct err *e)
{
    static const int signos[] = {SIGUSR2};
    struct loop_signal s = {.fn = nothing_signalled};
    struct loop *l = loop_new(e);
    int error = l ? loop_signal_add(l, &s, signos, 1) : -EIO;
    if (l && error)
        err_set(e, error, "the caller's", "told by its status");
    if (!error)
        loop_signal_del(&s);
    loop_free(l);
    return error;
}

static int a_pool(struct err *e)
{
    struct loop *l = loop_new(e);
    struct pool *p = l ? pool_new(l, 1, 10, e) : NULL;
    if (p)
        pool_free(p);
    loop_free(l);
    return p ? 0 : -EIO;
}

/* ---- processes ---- */

static int ended;

static void on_end(void *arg, const struct child_result *r)
{
    struct err *e = arg;
    ended++;
    if (r->status != 3 || !sl_is(r->out, "hi"))
        err_set(e, -EIO, "look at the result", "status %d, %zu bytes", r->status, r->out.n);
}

/* Once it was started its end is told, whatever fails meanwhile. */
static int a_process(struct err *e)
{
    static const char *const argv[] = {"/bin/sh", "-c", "/bin/cat; exit 3", NULL};
    struct child_spec spec = {.argv = argv,
                              .input = SL("hi"),
                              .output_max = 1024,
                              .timeout_ms = 60000};
    struct loop *l = loop_new(e);
    struct err result = {0};
    ended = 0;
    struct child *c = l ? child_start(l, &spec, on_end, &result, e) : NULL;
    int64_t until = clock_boot_ms() + 120000;
    while (c && !ended && clock_boot_ms() < until)
        loop_turn(l, 100);
    if (c)
        CHECK_INT(ended, 1);
    loop_free(l);
    if (!c)
        return -EIO;
    if (result.code) /* a read or a write that failed: the output is not whole */
        *e = result;
    return result.code;
}

static int a_pair(struct err *e)
{
    static const char *const argv[] = {"/bin/cat", NULL};
    int fd = -1, pidfd = -1;
    pid_t pid = -1;
    int error = child_pair(argv, 0, &fd, &pidfd, &pid, e);
    bool on = fault_off();
    if (!error) {
        close(fd);
        close(pidfd);
        kill(pid, SIGKILL);
        CHECK_INT(waitpid(pid, NULL, 0), pid);
    }
    fault_back(on);
    return error;
}

/* ---- files ---- */

static char folder[64];

/* A file is as before, or as it was to be. */
static int a_file(struct err *e)
{
    char path[128];
    struct buf b;
    (void)snprintf(path, sizeof path, "%s/f", folder);
    bool on = fault_off();
    NEED(file_write_atomic(path, SL("before"), e) == 0);
    fault_back(on);
    int error = file_write_atomic(path, SL("after"), e);
    on = fault_off();
    buf_init(&b, 100);
    NEED(file_read(path, &b, NULL) == 0);
    bool before = sl_is(buf_slice(&b), "before"), after = sl_is(buf_slice(&b), "after");
    CHECK(error ? before || after : after);
    buf_reset(&b);
    fault_back(on);
    if (!error)
        error = file_read(path, &b, e);
    CHECK(error || sl_is(buf_slice(&b), "after"));
    buf_free(&b);
    return error;
}

static int a_configuration(struct err *e)
{
    char path[128];
    struct diags d;
    (void)snprintf(path, sizeof path, "%s/tidemark.yaml", folder);
    diags_init(&d);
    struct config *c = config_load(path, &d);
    CHECK((c == NULL) == (d.errors > 0));
    if (!c && d.n && d.v[0].msg && d.v[0].hint)
        err_set(e, -EIO, d.v[0].hint, "%s", d.v[0].msg);
    config_free(c);
    diags_free(&d);
    return c ? 0 : -EIO;
}

TEST(the_loop)
{
    every_call("loop_new", a_loop);
    every_call("loop_signal_add", a_signal);
    every_call("pool_new", a_pool);
}

TEST(processes)
{
    every_call("child_start", a_process);
    every_call("child_pair", a_pair);
}

TEST(files)
{
    struct err e = {0};
    char path[128];
    (void)snprintf(folder, sizeof folder, "/tmp/tm-calls-XXXXXX");
    NEED(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/tidemark.yaml", folder);
    NEED(file_write_atomic(path, SL("group: g\n"), &e) == 0);
    every_call("a file", a_file);
    every_call("config_load", a_configuration);
    unit_remove(folder);
}
