/* The loop's order of work, deletion inside callbacks, timers, signals, queue and pool. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/queue.h"
#include "unit.h"

SUITE("loop/loop")

#define WAIT_MS 120000

/* Turns the loop until *done or the time is up. */
static void turn_until(struct loop *l, const bool *done)
{
    int64_t end = clock_boot_ms() + WAIT_MS;
    while (!*done && clock_boot_ms() < end)
        loop_turn(l, 100);
    CHECK(*done);
}

static char trace[200];
static void note(char c)
{
    size_t n = strlen(trace);
    NEED(n + 1 < sizeof trace);
    trace[n] = c;
    trace[n + 1] = 0;
}

struct all {
    struct loop *l;
    struct loop_fd fd;
    struct loop_timer timer;
    struct loop_task task, again;
    struct loop_hook hook;
};

static void on_fd(struct loop_fd *w, uint32_t events)
{
    struct all *a = LIST_ENTRY(w, struct all, fd);
    note('f');
    loop_later(a->l, &a->task);
    loop_later(a->l, &a->task);
    loop_fd_del(w);
}

static void on_task(struct loop_task *t)
{
    struct all *a = LIST_ENTRY(t, struct all, task);
    note('t');
    loop_later(a->l, &a->again);
}

static void on_again(struct loop_task *t)
{
    struct all *a = LIST_ENTRY(t, struct all, again);
    note('a');
    loop_stop(a->l, 7);
}

static void on_timer(struct loop_timer *t)
{
    note('m');
}

static void on_hook(struct loop_hook *h)
{
    note('h');
}

TEST(turn_serves_descriptors_then_timers_then_tasks_and_hooks_before_sleep)
{
    struct err e = {0};
    struct all a = {.l = loop_new(&e)};
    NEED(a.l != NULL);
    trace[0] = 0;
    a.fd = (struct loop_fd){.fd = eventfd(1, EFD_CLOEXEC), .events = EPOLLIN, .fn = on_fd};
    a.timer.fn = on_timer;
    a.task.fn = on_task;
    a.again.fn = on_again;
    a.hook.fn = on_hook;
    NEED(loop_fd_add(a.l, &a.fd) == 0);
    NEED(loop_timer_set(a.l, &a.timer, 0) == 0);
    loop_before_sleep(a.l, &a.hook);
    CHECK_INT(loop_run(a.l), 7);
    CHECK_STR(trace, "hfmthah");
    CHECK(a.fd.loop == NULL && !a.task.queued);
    close(a.fd.fd);
    loop_free(a.l);
}

struct many {
    struct loop_fd fd[8];
    int calls;
};
static struct many *many;

static void delete_all(struct loop_fd *w, uint32_t events)
{
    many->calls++;
    for (int i = 0; i < 8; i++)
        loop_fd_del(&many->fd[i]);
    /* What is freed here must not be touched any more: ASan would see it. */
    for (int i = 0; i < 8; i++)
        close(many->fd[i].fd);
    int calls = many->calls;
    free(many);
    many = NULL;
    CHECK_INT(calls, 1);
}

TEST(callback_may_delete_and_free_every_watch)
{
    struct loop *l = loop_new(NULL);
    NEED(l != NULL);
    many = calloc(1, sizeof *many);
    NEED(many != NULL);
    for (int i = 0; i < 8; i++) {
        many->fd[i] =
            (struct loop_fd){.fd = eventfd(1, EFD_CLOEXEC), .events = EPOLLIN, .fn = delete_all};
        NEED(loop_fd_add(l, &many->fd[i]) == 0);
    }
    loop_turn(l, 1000);
    CHECK(many == NULL);
    loop_turn(l, 0);
    loop_free(l);
}

TEST(wrong_descriptors_are_refused)
{
    struct loop *l = loop_new(NULL);
    struct loop_fd w = {.fd = -1, .events = EPOLLIN, .fn = delete_all};
    CHECK_INT(loop_fd_add(l, &w), -EBADF);
    CHECK(w.loop == NULL);
    CHECK_INT(loop_fd_mod(&w, EPOLLOUT), -EINVAL);
    loop_fd_del(&w);
    loop_free(l);
}

static struct loop_timer timers[6];
static struct loop *timer_loop;

static int timer_3_fired(void)
{
    int n = 0;
    for (const char *c = trace; *c; c++)
        n += *c == '3';
    return n;
}

static void on_numbered(struct loop_timer *t)
{
    /* Timer 3 fires each turn: twice is enough to see. Timer 0 may be due in the turn in which 3
     * fires for the first time, so the loop below waits for both. */
    char c = (char)('0' + (t - timers));
    if (c != '3' || timer_3_fired() < 2)
        note(c);
    if (t == &timers[1])
        loop_timer_unset(&timers[2]);
    if (t == &timers[3])
        loop_timer_set(timer_loop, t, 0); /* again, at once: the next turn */
}

TEST(timers_fire_in_order_and_may_change_each_other)
{
    struct loop *l = timer_loop = loop_new(NULL);
    NEED(l != NULL);
    trace[0] = 0;
    int64_t now = loop_now(l);
    static const int at[6] = {5, 1, 2, 3, 10000, 4};
    for (int i = 0; i < 6; i++) {
        timers[i] = (struct loop_timer){.fn = on_numbered};
        NEED(loop_timer_set(l, &timers[i], now + 100000) == 0);
        NEED(loop_timer_set(l, &timers[i], now + at[i]) == 0);
    }
    /* The timerfd wakes it; timer 3, which is always due, does not keep timer 0 from firing. */
    while ((!strchr(trace, '0') || timer_3_fired() < 2) && loop_now(l) < now + WAIT_MS)
        loop_turn(l, -1);
    loop_timer_unset(&timers[3]);
    CHECK(loop_now(l) >= now + 5);
    CHECK(trace[0] == '1' && !strchr(trace, '2') && !strchr(trace, '4'));
    CHECK(strchr(trace, '5') < strchr(trace, '0'));
    CHECK_INT(timer_3_fired(), 2);
    loop_timer_unset(&timers[4]);
    loop_timer_unset(&timers[4]);
    loop_free(l);
}

static struct loop_hook hooks[4];
static void on_hook_mixed(struct loop_hook *h)
{
    note((char)('0' + (h - hooks)));
    if (h == &hooks[0])
        loop_hook_del(&hooks[1]);
    if (h == &hooks[2])
        loop_hook_del(h);
}

TEST(hooks_may_delete_hooks)
{
    struct loop *l = loop_new(NULL);
    trace[0] = 0;
    for (int i = 0; i < 4; i++) {
        hooks[i] = (struct loop_hook){.fn = on_hook_mixed};
        loop_before_sleep(l, &hooks[i]);
    }
    loop_turn(l, 0);
    CHECK_STR(trace, "02303");
    loop_free(l);
}

struct signals {
    struct loop_signal s;
    int seen[2], n;
    bool done;
};

static void on_signal(struct loop_signal *s, int signo)
{
    struct signals *t = LIST_ENTRY(s, struct signals, s);
    if (t->n < 2)
        t->seen[t->n] = signo;
    t->done = ++t->n == 2;
}

TEST(signals_come_as_events)
{
    struct loop *l = loop_new(NULL);
    struct signals t = {.s.fn = on_signal};
    NEED(loop_signal_add(l, &t.s, (int[]){SIGUSR1, SIGUSR2}, 2) == 0);
    CHECK_INT(kill(getpid(), SIGUSR1), 0);
    CHECK_INT(kill(getpid(), SIGUSR2), 0);
    turn_until(l, &t.done);
    CHECK_INT(t.seen[0] + t.seen[1], SIGUSR1 + SIGUSR2);
    loop_signal_del(&t.s);
    loop_signal_del(&t.s);
    loop_free(l);
}

struct number {
    struct queue_msg m;
    int sender, i;
};
struct receiver {
    struct queue *q;
    int next[3], total;
    bool done;
};

static void on_number(void *arg, struct queue_msg *m)
{
    struct receiver *r = arg;
    struct number *n = LIST_ENTRY(m, struct number, m);
    CHECK_INT(n->i, r->next[n->sender]++);
    free(n);
    r->done = ++r->total == 3 * 2000;
}

static struct receiver receiver;

static void *send_numbers(void *arg)
{
    int sender = (int)(intptr_t)arg;
    for (int i = 0; i < 2000; i++) {
        struct number *n = calloc(1, sizeof *n);
        if (!n)
            abort();
        n->sender = sender;
        n->i = i;
        while (queue_put(receiver.q, &n->m) == -EAGAIN)
            sched_yield();
    }
    return NULL;
}

static int dropped;
static void drop_number(struct queue_msg *m)
{
    free(LIST_ENTRY(m, struct number, m));
    dropped++;
}

TEST(queue_keeps_order_is_bounded_and_loses_nothing)
{
    struct loop *l = loop_new(NULL);
    receiver = (struct receiver){.q = queue_new(l, 10, on_number, &receiver, NULL)};
    NEED(receiver.q != NULL);
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        NEED(pthread_create(&t[i], NULL, send_numbers, (void *)(intptr_t)i) == 0);
    turn_until(l, &receiver.done);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 11; i++) {
        struct number *n = calloc(1, sizeof *n);
        NEED(n != NULL);
        int rc = queue_put(receiver.q, &n->m);
        CHECK_INT(rc, i < 10 ? 0 : -EAGAIN);
        if (rc)
            free(n);
    }
    dropped = 0;
    queue_free(receiver.q, drop_number);
    CHECK_INT(dropped, 10);
    loop_free(l);
}

static void free_queue_inside(void *arg, struct queue_msg *m)
{
    struct receiver *r = arg;
    drop_number(m);
    r->q = queue_free(r->q, drop_number);
}

TEST(queue_may_be_freed_in_its_own_callback)
{
    struct loop *l = loop_new(NULL);
    struct receiver r = {0};
    r.q = queue_new(l, 10, free_queue_inside, &r, NULL);
    for (int i = 0; i < 3; i++) {
        struct number *n = calloc(1, sizeof *n);
        NEED(n && queue_put(r.q, &n->m) == 0);
    }
    dropped = 0;
    loop_turn(l, 1000);
    CHECK_INT(dropped, 3);
    loop_free(l);
}

struct job {
    struct pool_job j;
    _Atomic int worked;
    int done;
    pthread_t loop_thread;
};
static int jobs_done;
static bool all_jobs_done;

static void work(struct pool_job *j)
{
    struct job *t = LIST_ENTRY(j, struct job, j);
    CHECK(!pthread_equal(pthread_self(), t->loop_thread));
    t->worked++;
}

static void done(struct pool_job *j)
{
    struct job *t = LIST_ENTRY(j, struct job, j);
    CHECK(pthread_equal(pthread_self(), t->loop_thread));
    CHECK_INT(t->worked, 1);
    t->done++;
    all_jobs_done = ++jobs_done == 20;
}

TEST(pool_works_gives_back_and_is_bounded)
{
    struct loop *l = loop_new(NULL);
    struct pool *p = pool_new(l, 2, 20, NULL);
    NEED(p != NULL);
    static struct job jobs[31];
    jobs_done = 0;
    all_jobs_done = false;
    for (int i = 0; i < 31; i++)
        jobs[i] = (struct job){.j = {.work = work, .done = done}, .loop_thread = pthread_self()};
    for (int i = 0; i < 20; i++)
        CHECK_INT(pool_submit(p, &jobs[i].j), 0);
    CHECK_INT(pool_submit(p, &jobs[20].j), -EAGAIN);
    turn_until(l, &all_jobs_done);
    for (int i = 20; i < 31; i++)
        CHECK_INT(pool_submit(p, &jobs[i].j), 0);
    pool_free(p);
    for (int i = 0; i < 31; i++)
        CHECK_INT(jobs[i].done, 1);
    loop_free(l);
}
