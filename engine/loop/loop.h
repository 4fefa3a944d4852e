/* The event loop: one epoll set, one thread. Callbacks only enqueue; work is done in the loop's own
 * turn; hooks of `loop_before_sleep` run once before each sleep (flush records, commits, stream
 * frames). All functions are for the loop's thread except those of queue.h that say otherwise. */
#pragma once
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"

struct loop;
struct loop *loop_new(struct err *e);
struct loop *loop_free(struct loop *l);
/* Runs until loop_stop. Returns the status given there. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l, int status);
/* One turn: waits at most timeout_ms (-1: as long as it takes), serves what is ready, then the
 * hooks. For tests. */
void loop_turn(struct loop *l, int timeout_ms);
/* CLOCK_BOOTTIME in ms and Unix time in ms as of the start of this turn. */
int64_t loop_now(const struct loop *l);
int64_t loop_wall(const struct loop *l);

/* A watched descriptor, embedded in its owner. `events` are EPOLLIN | EPOLLOUT; level-triggered. */
struct loop_fd {
    int fd;
    uint32_t events;
    void (*fn)(struct loop_fd *w, uint32_t events);
    struct loop *loop; /* set while watched */
};
int loop_fd_add(struct loop *l, struct loop_fd *w);
int loop_fd_mod(struct loop_fd *w, uint32_t events);
void loop_fd_del(
    struct loop_fd *w); /* safe inside its own callback and when not watched; does not close */

/* A timer, embedded in its owner; fires once at `at_ms` of loop_now's clock, then is unset. */
struct loop_timer {
    struct heap_node node;
    void (*fn)(struct loop_timer *t);
    struct loop *loop;
};
int loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ms); /* sets or moves */
void loop_timer_unset(struct loop_timer *t);                             /* safe when unset */

/* Work for later in this same turn, after all descriptors were served; each at most once a turn. */
struct loop_task {
    struct list node;
    void (*fn)(struct loop_task *t);
    bool queued;
};
void loop_later(struct loop *l, struct loop_task *t);
void loop_task_cancel(struct loop_task *t); /* before its owner is freed; safe when not queued */

/* A hook that runs before each sleep, in the order of registration. */
struct loop_hook {
    struct list node;
    void (*fn)(struct loop_hook *h);
};
void loop_before_sleep(struct loop *l, struct loop_hook *h);
void loop_hook_del(struct loop_hook *h);

/* Signals by signalfd; blocks them in this thread (call before threads are made). fn gets the
 * signal number. */
struct loop_signal {
    struct loop_fd w;
    void (*fn)(struct loop_signal *s, int signo);
};
int loop_signal_add(struct loop *l, struct loop_signal *s, const int *signos, size_t n);
void loop_signal_del(struct loop_signal *s);
