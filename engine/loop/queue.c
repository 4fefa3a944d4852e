/* The queue between threads. `lock` guards `in` and `n`; everything else belongs to the loop's
 * thread. Invariants: the eventfd is readable whenever `in` is not empty and the loop has yet to
 * look; n counts `in`. */
#include "loop/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
    pthread_mutex_t lock;
    struct list in, taken; /* taken: out of `in`, not yet given to fn */
    size_t n, max;
    struct loop_fd w;
    void (*fn)(void *arg, struct queue_msg *m);
    void *arg;
    bool serving,
        gone; /* fn runs; the queue was freed in it, and the memory goes when it returns */
};

static void take_all(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (!list_empty(&q->in))
        list_push(&q->taken, list_pop(&q->in));
    q->n = 0;
    pthread_mutex_unlock(&q->lock);
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
    struct queue *q = LIST_ENTRY(w, struct queue, w);
    uint64_t count;
    /* Read before taking: a put in between makes it readable again. */
    if (read(w->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return; /* stays ready, so the next turn tries again */
    take_all(q);
    q->serving = true;
    struct list *n;
    while ((n = list_pop(&q->taken)))
        q->fn(q->arg, LIST_ENTRY(n, struct queue_msg, node));
    q->serving = false;
    if (q->gone)
        free(q);
}

struct queue *queue_new(struct loop *l, size_t max_msgs, void (*fn)(void *arg, struct queue_msg *m),
                        void *arg, struct err *e)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a message queue");
        return NULL;
    }
    pthread_mutex_init(&q->lock, NULL);
    list_init(&q->in);
    list_init(&q->taken);
    q->max = max_msgs;
    q->fn = fn;
    q->arg = arg;
    q->w = (struct loop_fd){.events = EPOLLIN, .fn = on_wake};
    q->w.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = q->w.fd < 0 ? -errno : loop_fd_add(l, &q->w);
    if (rc) {
        err_set(e, rc, "raise the limit of open files (ulimit -n)",
                "cannot make a message queue: %s", strerror(-rc));
        return queue_free(q, NULL);
    }
    return q;
}

struct queue *queue_free(struct queue *q, void (*drop)(struct queue_msg *m))
{
    if (!q)
        return NULL;
    take_all(q);
    struct list *n;
    while ((n = list_pop(&q->taken)))
        if (drop)
            drop(LIST_ENTRY(n, struct queue_msg, node));
    loop_fd_del(&q->w);
    if (q->w.fd >= 0)
        close(q->w.fd);
    pthread_mutex_destroy(&q->lock);
    q->gone = q->serving;
    if (!q->serving)
        free(q);
    return NULL;
}

int queue_put(struct queue *q, struct queue_msg *m)
{
    pthread_mutex_lock(&q->lock);
    bool full = q->n == q->max, first = q->n == 0;
    if (!full) {
        list_push(&q->in, &m->node);
        q->n++;
    }
    pthread_mutex_unlock(&q->lock);
    if (full)
        return -EAGAIN;
    /* Fails only when the counter is at its maximum, and then the loop is awake anyway. */
    if (first)
        (void)!write(q->w.fd, &(uint64_t){1}, sizeof(uint64_t));
    return 0;
}
