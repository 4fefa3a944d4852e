/* Starting a process: fork, set up, exec, and a pipe by which the child tells why it could not.
 * Between fork and exec only async-signal-safe calls are made: other threads may hold any lock at
 * the fork.
 *
 * The child must not outlive this process: PR_SET_PDEATHSIG asks for SIGKILL when the parent dies.
 * The parent may have died between the fork and that call; then (1) the child has a new parent, (2)
 * getppid shows it, (3) the child ends itself. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "base/fail.h"
#include "loop/child_int.h"

#define PATH_MAX_BYTES 4096
#define ABOVE_FDS      10 /* where descriptors wait while 0 to 4 are filled */
#define REPORT_FD      4

enum step { STEP_SETUP, STEP_LIMIT, STEP_CWD, STEP_EXEC };
struct report {
    int code;
    enum step step;
};

static bool runnable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The file that a name stands for, looked up in this process's PATH. */
static int find_program(const char *name, char out[PATH_MAX_BYTES])
{
    if (strchr(name, '/')) {
        if (strlen(name) >= PATH_MAX_BYTES)
            return -ENAMETOOLONG;
        memcpy(out, name, strlen(name) + 1);
        return 0;
    }
    const char *path = getenv("PATH");
    struct slice rest = sl_str(path ? path : "/usr/local/bin:/usr/bin:/bin"), folder;
    while (name[0] && sl_split(&rest, ':', &folder)) {
        if (!folder.n)
            continue; /* an empty part means the working folder: an invitation to run what lies
                         there */
        int n = snprintf(out, PATH_MAX_BYTES, "%.*s/%s", SL_ARG(folder), name);
        if (n > 0 && n < PATH_MAX_BYTES && runnable(out))
            return 0;
    }
    return -ENOENT;
}

static int limit(int what, uint64_t max)
{
    struct rlimit r = {max, max};
    return setrlimit(what, &r) ? -errno : 0;
}

/* In the child. First above, then down, since a source may stand where a target goes. */
static int place_fds(const struct spawn *s, int *report)
{
    int from[5] = {s->in, s->out, s->err, s->extra, *report};
    for (int i = 0; i < 5; i++) {
        if (from[i] < 0)
            continue;
        from[i] = fcntl(from[i], F_DUPFD, ABOVE_FDS);
        if (from[i] < 0)
            return -errno;
    }
    *report = from[4];
    for (int i = 0; i < 5; i++) {
        if (from[i] >= 0 && dup2(from[i], i) < 0)
            return -errno;
        if (from[i] < 0)
            close(i);
    }
    *report = REPORT_FD;
    if (fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC))
        return -errno;
    return syscall(SYS_close_range, REPORT_FD + 1, ~0U, 0) ? -errno : 0;
}

static void reset_signals(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int i = 1; i < NSIG; i++)
        (void)sigaction(
            i, &plain,
            NULL); /* refused for SIGKILL, SIGSTOP and the library's own: as they should be */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static struct report in_child(const struct spawn *s, const char *path, pid_t parent, int *report)
{
    static const char *const nothing[] = {NULL};
    reset_signals();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || setpgid(0, 0))
        return (struct report){-errno, STEP_SETUP};
    if (getppid() != parent)
        _exit(127);
    int rc = place_fds(s, report);
    if (rc)
        return (struct report){rc, STEP_SETUP};
    rc = limit(RLIMIT_CORE, 0);
    if (!rc && s->file_max_bytes)
        rc = limit(RLIMIT_FSIZE, s->file_max_bytes);
    if (!rc && s->memory_max_bytes)
        rc = limit(RLIMIT_AS, s->memory_max_bytes);
    if (rc)
        return (struct report){rc, STEP_LIMIT};
    if (s->cwd && chdir(s->cwd))
        return (struct report){-errno, STEP_CWD};
    execve(path, (char *const *)s->argv, (char *const *)(s->envp ? s->envp : nothing));
    return (struct report){-errno, STEP_EXEC};
}

static int tell(const struct spawn *s, struct report r, struct err *e)
{
    const char *name = s->argv[0], *why = strerror(-r.code);
    switch (r.step) {
    case STEP_CWD:
        return err_set(e, r.code, "make the folder or name another one",
                       "cannot start %s in the folder %s: %s", name, s->cwd, why);
    case STEP_LIMIT:
        return err_set(e, r.code,
                       "the limits may not be above those of the engine itself (ulimit -a)",
                       "cannot set the limits for %s: %s", name, why);
    case STEP_EXEC:
        return err_set(e, r.code,
                       "install the program, or check that the file exists and may be executed",
                       "cannot run %s: %s", name, why);
    default:
        return err_set(e, r.code, "check the limits of the process (ulimit -a)",
                       "cannot start %s: %s", name, why);
    }
}

/* The child closes its end by exec, or writes a report before it ends. */
static int await(const struct spawn *s, int fd, pid_t pid, int *ret_pidfd, struct err *e)
{
    struct report r = {0};
    ssize_t n;
    do
        n = read(fd, &r, sizeof r);
    while (n < 0 && errno == EINTR);
    if (n == 0) {
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* is close-on-exec */
        if (pidfd >= 0) {
            *ret_pidfd = pidfd;
            return 0;
        }
        r = (struct report){-errno, STEP_SETUP};
    } else if (n != (ssize_t)sizeof r || r.code >= 0) { /* no report: it may be running */
        r = (struct report){n < 0 ? -errno : -EIO, STEP_SETUP};
    }
    kill(pid, SIGKILL); /* whoever reported is about to end by itself */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return tell(s, r, e);
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e)
{
    char path[PATH_MAX_BYTES];
    int rc = find_program(s->argv[0], path);
    if (rc)
        return tell(s, (struct report){rc, STEP_EXEC}, e);
    int report[2];
    if (pipe2(report, O_CLOEXEC))
        return tell(s, (struct report){-errno, STEP_SETUP}, e);
    pid_t parent = getpid(), pid = FAIL_NOW("fork") ? (errno = EAGAIN, -1) : fork();
    if (pid == 0) {
        struct report r = in_child(s, path, parent, &report[1]);
        (void)!write(report[1], &r, sizeof r);
        _exit(127);
    }
    rc = pid < 0 ? -errno : 0;
    close(report[1]);
    if (rc)
        tell(s, (struct report){rc, STEP_SETUP}, e);
    else
        rc = await(s, report[0], pid, ret_pidfd, e);
    close(report[0]);
    if (!rc)
        *ret_pid = pid;
    return rc;
}
