/* Child processes under the loop. The loop's thread only.
 * States: RUNNING, ENDED (its pidfd is readable, but a pipe is still open), KILLED (by child_kill:
 * nobody waits for it any more, it is only reaped), then freed. Invariants: the process stays a
 * zombie until finish(), so its process id, which names the group, can't be taken by another
 * process before the group got its last SIGKILL; each child lies in the loop's list of what must
 * end, so none outlives the loop. */
#include "loop/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop/child_int.h"
#include "loop/loop_int.h"

#define READ_BYTES      65536
#define READS_A_TURN    8
#define GRACE_MS        1000
#define INPUT_MAX_BYTES ((size_t)256 << 20)

enum child_state { CHILD_RUNNING, CHILD_ENDED, CHILD_KILLED };

struct pipe_in {
    struct loop_fd w;
    struct child *child;
    struct buf text;
};

struct child {
    struct loop *loop;
    enum child_state state;
    pid_t pid;
    struct loop_fd end, input;
    struct pipe_in out, err;
    struct buf to_write; /* from `written` on is left */
    size_t written;
    struct loop_timer timer; /* the deadline, then the grace after the end */
    struct loop_end at_end;
    struct child_result result;
    void (*fn)(void *arg, const struct child_result *r);
    void *arg;
};

static void close_watch(struct loop_fd *w)
{
    loop_fd_del(w);
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

static struct child *child_free(struct child *c)
{
    close_watch(&c->input);
    close_watch(&c->out.w);
    close_watch(&c->err.w);
    close_watch(&c->end);
    loop_timer_unset(&c->timer);
    if (c->at_end.node.next)
        loop_end_del(&c->at_end);
    buf_free(&c->to_write);
    buf_free(&c->out.text);
    buf_free(&c->err.text);
    free(c);
    return NULL;
}

static void kill_group(struct child *c)
{
    /* ESRCH when all have ended: nothing to do then. */
    (void)kill(-c->pid, SIGKILL);
}

/* Takes the zombie away; waits for the end if it is still to come. */
static siginfo_t reap(struct child *c)
{
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)c->pid, &info, WEXITED) && errno == EINTR)
        ;
    return info;
}

static void finish(struct child *c)
{
    kill_group(c); /* what it left behind in its group ends with it */
    siginfo_t info = reap(c);
    struct child_result *r = &c->result;
    if (info.si_code == CLD_EXITED) {
        r->status = info.si_status;
    } else {
        r->signo = info.si_status;
        r->status = 128 + info.si_status;
    }
    r->out = buf_slice(&c->out.text);
    r->err = buf_slice(&c->err.text);
    if (c->fn)
        c->fn(c->arg, r);
    child_free(c);
}

static void finish_when_done(struct child *c)
{
    bool open = c->out.w.fd >= 0 || c->err.w.fd >= 0;
    if (c->state == CHILD_KILLED || (c->state == CHILD_ENDED && !open))
        finish(c);
}

static void on_end(struct loop_fd *w, uint32_t events)
{
    struct child *c = LIST_ENTRY(w, struct child, end);
    loop_fd_del(w);
    if (c->state == CHILD_RUNNING) {
        c->state = CHILD_ENDED;
        close_watch(&c->input);
        /* When memory is out the pipes are not waited for. */
        if (loop_timer_set(c->loop, &c->timer, loop_now(c->loop) + GRACE_MS)) {
            close_watch(&c->out.w);
            close_watch(&c->err.w);
        }
    }
    finish_when_done(c);
}

static void on_timer(struct loop_timer *t)
{
    struct child *c = LIST_ENTRY(t, struct child, timer);
    if (c->state == CHILD_ENDED) {
        finish(c);
        return;
    }
    c->result.timed_out = true;
    kill_group(c); /* its pidfd tells the rest */
}

static void keep(struct child *c, struct buf *b, const char *p, size_t n)
{
    size_t room = b->max - b->n;
    if (n > room) {
        c->result.truncated = true;
        n = room;
    }
    if (n && buf_add(b, p, n))
        c->result.truncated = true; /* no memory for it is told like no room for it */
}

static void on_output(struct loop_fd *w, uint32_t events)
{
    struct pipe_in *in = LIST_ENTRY(w, struct pipe_in, w);
    struct child *c = in->child;
    char chunk[READ_BYTES];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = read(w->fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_watch(w);
            finish_when_done(c);
            return;
        }
        keep(c, &in->text, chunk, (size_t)n);
    }
}

/* write(2) on a pipe whose reader has gone raises SIGPIPE; the program's own setting for it is not
 * touched: the signal is blocked meanwhile, and taken away if it was not pending before. */
static ssize_t write_quietly(int fd, const char *p, size_t n)
{
    sigset_t pipe_set, before, pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
    sigpending(&pending);
    ssize_t r = write(fd, p, n);
    int code = errno;
    if (r < 0 && code == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe_set, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return r;
}

static void on_input(struct loop_fd *w, uint32_t events)
{
    struct child *c = LIST_ENTRY(w, struct child, input);
    while (c->written < c->to_write.n) {
        ssize_t n = write_quietly(w->fd, c->to_write.p + c->written, c->to_write.n - c->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            break; /* it does not read its input to the end, as is its right */
        c->written += (size_t)n;
    }
    close_watch(w);
    buf_trim(&c->to_write, 0);
}

static void on_loop_end(struct loop_end *e)
{
    struct child *c = LIST_ENTRY(e, struct child, at_end);
    kill_group(c);
    reap(c);
    child_free(c);
}

/* Pipes for 0, 1 and 2: the child's ends in `theirs`, ours into the watches. */
static int make_pipes(struct child *c, int theirs[3])
{
    struct loop_fd *ours[3] = {&c->input, &c->out.w, &c->err.w};
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC))
            return -errno;
        theirs[i] = ends[i ? 1 : 0];
        ours[i]->fd = ends[i ? 0 : 1];
        if (fcntl(ours[i]->fd, F_SETFL, O_NONBLOCK))
            return -errno;
    }
    return 0;
}

static int watch_all(struct child *c, int64_t timeout_ms)
{
    int rc = loop_fd_add(c->loop, &c->end);
    if (!rc)
        rc = loop_fd_add(c->loop, &c->out.w);
    if (!rc)
        rc = loop_fd_add(c->loop, &c->err.w);
    if (!rc && c->to_write.n)
        rc = loop_fd_add(c->loop, &c->input);
    if (!rc && timeout_ms > 0)
        rc = loop_timer_set(c->loop, &c->timer, loop_now(c->loop) + timeout_ms);
    if (!c->to_write.n)
        close_watch(&c->input); /* nothing to say: the end of its input at once */
    return rc;
}

static struct child *child_new(struct loop *l, const struct child_spec *s)
{
    struct child *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->loop = l;
    c->end = (struct loop_fd){.fd = -1, .events = EPOLLIN, .fn = on_end};
    c->input = (struct loop_fd){.fd = -1, .events = EPOLLOUT, .fn = on_input};
    c->out = (struct pipe_in){{.fd = -1, .events = EPOLLIN, .fn = on_output}, .child = c};
    c->err = (struct pipe_in){{.fd = -1, .events = EPOLLIN, .fn = on_output}, .child = c};
    c->timer.fn = on_timer;
    c->at_end.fn = on_loop_end;
    buf_init(&c->to_write, INPUT_MAX_BYTES);
    buf_init(&c->out.text, s->output_max);
    buf_init(&c->err.text, s->output_max);
    if (buf_add_slice(&c->to_write, s->input))
        return child_free(c);
    return c;
}

struct child *child_start(struct loop *l, const struct child_spec *spec,
                          void (*fn)(void *arg, const struct child_result *r), void *arg,
                          struct err *e)
{
    struct child *c = child_new(l, spec);
    if (!c) {
        err_set(e, -ENOMEM, "give the process more memory or less input",
                "no memory for the input of %s", spec->argv[0]);
        return NULL;
    }
    c->fn = fn;
    c->arg = arg;
    int theirs[3] = {-1, -1, -1};
    int rc = make_pipes(c, theirs);
    if (rc) {
        err_set(e, rc, "raise the limit of open files (ulimit -n)", "cannot make pipes for %s: %s",
                spec->argv[0], strerror(-rc));
    } else {
        struct spawn s = {spec->argv,          spec->envp, spec->cwd, theirs[0],
                          theirs[1],           theirs[2],  -1,        spec->memory_max_bytes,
                          spec->file_max_bytes};
        rc = spawn_start(&s, &c->pid, &c->end.fd, e);
    }
    for (int i = 0; i < 3; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    if (rc)
        return child_free(c);
    loop_end_add(l, &c->at_end);
    rc = watch_all(c, spec->timeout_ms);
    if (!rc)
        return c;
    err_set(e, rc, "raise the limit of open files (ulimit -n)", "cannot watch %s: %s",
            spec->argv[0], strerror(-rc));
    on_loop_end(&c->at_end);
    return NULL;
}

void child_kill(struct child *c)
{
    c->fn = NULL;
    kill_group(c);
    loop_timer_unset(&c->timer);
    close_watch(&c->input);
    close_watch(&c->out.w);
    close_watch(&c->err.w);
    if (c->state == CHILD_ENDED)
        finish(c);
    else
        c->state = CHILD_KILLED;
}

int child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd, int *ret_pidfd,
               pid_t *ret_pid, struct err *e)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        return err_set(e, -errno, "raise the limit of open files (ulimit -n)",
                       "cannot make a socket pair for %s: %s", argv[0], strerror(errno));
    int none = open("/dev/null", O_RDWR | O_CLOEXEC), rc = 0;
    if (none < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK))
        rc = err_set(e, -errno, "check /dev/null and the limit of open files (ulimit -n)",
                     "cannot set up the descriptors of %s: %s", argv[0], strerror(errno));
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* The child is this same program, whose sanitizer reserves terabytes of addresses. */
    memory_max_bytes = 0;
#endif
    struct spawn s = {.argv = argv,
                      .in = none,
                      .out = none,
                      .err = STDERR_FILENO,
                      .extra = ends[1],
                      .memory_max_bytes = memory_max_bytes};
    if (!rc)
        rc = spawn_start(&s, ret_pid, ret_pidfd, e);
    if (none >= 0)
        close(none);
    close(ends[1]);
    if (rc)
        close(ends[0]);
    else
        *ret_fd = ends[0];
    return rc;
}
