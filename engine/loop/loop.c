/* The event loop. All of it belongs to the thread that made it.
 * A turn: hooks, sleep in epoll_wait, descriptors, due timers, tasks put off for later.
 * Invariants: a watched descriptor has w->loop set and lies in the epoll set; `ready` holds what
 * this turn has still to serve, and a watch that is deleted meanwhile is taken out of it; the
 * timerfd is armed for the top of the heap whenever the loop sleeps. A callback may delete and free
 * its own watch, timer, task or hook: the loop does not touch it after the call. */
#include "loop/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/loop_int.h"

#define READY_MAX 256
#define NOT_ARMED INT64_MAX

struct loop {
    int epoll;
    struct loop_fd clock; /* the timerfd */
    int64_t armed_ms;     /* what the timerfd is set to, 0: disarmed */
    struct heap timers;
    struct list tasks, hooks, ends;
    struct list task_mark, hook_mark; /* in those lists while they are served */
    int64_t now_ms, wall_ms;
    struct epoll_event ready[READY_MAX];
    int nready, at_ready;
    bool firing; /* in serve_timers */
    bool stopped;
    int status;
};

static void read_clocks(struct loop *l)
{
    l->now_ms = clock_boot_ms();
    l->wall_ms = clock_wall_ms();
}

static void on_clock(struct loop_fd *w, uint32_t events)
{
    /* The due timers run after the descriptors; arming it anew clears what can be read here. */
    w->loop->armed_ms = NOT_ARMED;
}

struct loop *loop_new(struct err *e)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the event loop");
        return NULL;
    }
    heap_init(&l->timers);
    list_init(&l->tasks);
    list_init(&l->hooks);
    list_init(&l->ends);
    l->armed_ms = NOT_ARMED;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->clock = (struct loop_fd){.fd = -1, .events = EPOLLIN, .fn = on_clock};
    if (l->epoll >= 0)
        l->clock.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int rc = l->clock.fd < 0 ? -errno : loop_fd_add(l, &l->clock);
    if (rc) {
        err_set(e, rc, "raise the limit of open files (ulimit -n)",
                "cannot make the event loop: %s", strerror(-rc));
        return loop_free(l);
    }
    read_clocks(l);
    return l;
}

struct loop *loop_free(struct loop *l)
{
    if (!l)
        return NULL;
    while (!list_empty(&l->ends)) {
        struct loop_end *e = LIST_ENTRY(l->ends.next, struct loop_end, node);
        e->fn(e);
    }
    struct list *n;
    while ((n = list_pop(&l->tasks)))
        LIST_ENTRY(n, struct loop_task, node)->queued = false;
    while (list_pop(&l->hooks))
        ;
    heap_free(&l->timers);
    if (l->clock.fd >= 0)
        close(l->clock.fd);
    if (l->epoll >= 0)
        close(l->epoll);
    free(l);
    return NULL;
}

void loop_end_add(struct loop *l, struct loop_end *e)
{
    list_push(&l->ends, &e->node);
}

void loop_end_del(struct loop_end *e)
{
    list_del(&e->node);
}

int64_t loop_now(const struct loop *l)
{
    return l->now_ms;
}

int64_t loop_wall(const struct loop *l)
{
    return l->wall_ms;
}

static void run_hooks(struct loop *l)
{
    /* A mark in the list instead of a pointer to the next hook, because a hook may delete any hook.
     */
    struct list *mark = &l->hook_mark, *at = l->hooks.next;
    while (at != &l->hooks) {
        list_push(at->next, mark); /* behind `at` */
        struct loop_hook *h = LIST_ENTRY(at, struct loop_hook, node);
        h->fn(h);
        at = mark->next;
        list_del(mark);
    }
}

/* Sets the timerfd to the earliest timer. */
static void arm(struct loop *l)
{
    struct heap_node *top = heap_top(&l->timers);
    int64_t at = !top ? 0 : top->key > 0 ? top->key : 1; /* 0 disarms */
    if (at == l->armed_ms)
        return;
    struct itimerspec t = {.it_value = {at / 1000, at % 1000 * 1000000}};
    /* Can't fail with a valid descriptor and a normal time; if it did, timers would never fire
     * again. */
    if (timerfd_settime(l->clock.fd, TFD_TIMER_ABSTIME, &t, NULL))
        abort();
    l->armed_ms = at;
}

static void serve_descriptors(struct loop *l)
{
    for (l->at_ready = 0; l->at_ready < l->nready; l->at_ready++) {
        struct loop_fd *w = l->ready[l->at_ready].data.ptr;
        if (w)
            w->fn(w, l->ready[l->at_ready].events);
    }
    l->nready = 0;
}

static void serve_timers(struct loop *l)
{
    /* A timer that is set now waits for the next turn, however early it is, and stands behind
     * those that are due already: one that always sets itself again at once must not keep the
     * others from firing. */
    uint64_t limit = l->timers.seq;
    l->firing = true;
    struct heap_node *top;
    while ((top = heap_top(&l->timers)) && top->key <= l->now_ms && top->seq < limit) {
        struct loop_timer *t = LIST_ENTRY(top, struct loop_timer, node);
        heap_remove(&l->timers, top);
        t->fn(t);
    }
    l->firing = false;
}

static void serve_tasks(struct loop *l)
{
    /* What is queued from here on stands behind the mark and belongs to the next turn. */
    struct list *mark = &l->task_mark;
    list_push(&l->tasks, mark);
    while (l->tasks.next != mark) {
        struct loop_task *t = LIST_ENTRY(list_pop(&l->tasks), struct loop_task, node);
        t->queued = false;
        t->fn(t);
    }
    list_del(mark);
}

static void turn(struct loop *l, int timeout_ms)
{
    run_hooks(l);
    arm(l);
    if (!list_empty(&l->tasks) || l->stopped)
        timeout_ms = 0;
    int n = epoll_wait(l->epoll, l->ready, READY_MAX, timeout_ms);
    l->nready = n < 0 ? 0 : n; /* EINTR: serve nothing this time */
    read_clocks(l);
    serve_descriptors(l);
    serve_timers(l);
    serve_tasks(l);
}

int loop_run(struct loop *l)
{
    l->stopped = false;
    while (!l->stopped)
        turn(l, -1);
    run_hooks(l);
    return l->status;
}

void loop_stop(struct loop *l, int status)
{
    l->stopped = true;
    l->status = status;
}

void loop_turn(struct loop *l, int timeout_ms)
{
    turn(l, timeout_ms);
    run_hooks(l);
}

int loop_fd_add(struct loop *l, struct loop_fd *w)
{
    struct epoll_event ev = {.events = w->events, .data.ptr = w};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, w->fd, &ev))
        return -errno;
    w->loop = l;
    return 0;
}

int loop_fd_mod(struct loop_fd *w, uint32_t events)
{
    if (!w->loop)
        return -EINVAL;
    if (events == w->events)
        return 0;
    struct epoll_event ev = {.events = events, .data.ptr = w};
    if (epoll_ctl(w->loop->epoll, EPOLL_CTL_MOD, w->fd, &ev))
        return -errno;
    w->events = events;
    return 0;
}

void loop_fd_del(struct loop_fd *w)
{
    struct loop *l = w->loop;
    if (!l)
        return;
    /* Fails only when the descriptor was closed before, and then it has left the set by itself. */
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = l->at_ready; i < l->nready; i++)
        if (l->ready[i].data.ptr == w)
            l->ready[i].data.ptr = NULL;
    w->loop = NULL;
}

int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ms)
{
    loop_timer_unset(t);
    if (l->firing && at_ms < l->now_ms)
        at_ms = l->now_ms;
    int rc = heap_add(&l->timers, &t->node, at_ms);
    if (!rc)
        t->loop = l;
    return rc;
}

void loop_timer_unset(struct loop_timer *t)
{
    if (heap_in(&t->node))
        heap_remove(&t->loop->timers, &t->node);
}

void loop_later(struct loop *l, struct loop_task *t)
{
    if (t->queued)
        return;
    t->queued = true;
    list_push(&l->tasks, &t->node);
}

void loop_task_cancel(struct loop_task *t)
{
    if (!t->queued)
        return;
    t->queued = false;
    list_del(&t->node);
}

void loop_before_sleep(struct loop *l, struct loop_hook *h)
{
    list_push(&l->hooks, &h->node);
}

void loop_hook_del(struct loop_hook *h)
{
    if (h->node.next)
        list_del(&h->node);
}

static void on_signal(struct loop_fd *w, uint32_t events)
{
    struct loop_signal *s = LIST_ENTRY(w, struct loop_signal, w);
    struct signalfd_siginfo info;
    /* One at a time: the callback may delete the watch; the descriptor stays ready for the next. */
    if (read(w->fd, &info, sizeof info) == (ssize_t)sizeof info)
        s->fn(s, (int)info.ssi_signo);
}

int loop_signal_add(struct loop *l, struct loop_signal *s, const int *signos, size_t n)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        sigaddset(&set, signos[i]);
    int rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc)
        return -rc;
    s->w = (struct loop_fd){.events = EPOLLIN, .fn = on_signal};
    s->w.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->w.fd < 0)
        return -errno;
    rc = loop_fd_add(l, &s->w);
    if (rc)
        close(s->w.fd);
    return rc;
}

void loop_signal_del(struct loop_signal *s)
{
    if (!s->w.loop)
        return;
    /* The signals stay blocked: letting them through here would end the process in the middle of
     * its own end. */
    loop_fd_del(&s->w);
    close(s->w.fd);
}
