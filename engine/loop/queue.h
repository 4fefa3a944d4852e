/* The one kind of queue between threads: bounded, any thread puts, the loop's thread takes, woken
 * by eventfd. */
#pragma once
#include "loop/loop.h"

struct queue;
struct queue_msg {
    struct list node; /* embedded first in the message */
};
/* fn is called in the loop's thread for each message, in the order of putting; it then owns the
 * message. */
struct queue *queue_new(struct loop *l, size_t max_msgs, void (*fn)(void *arg, struct queue_msg *m),
                        void *arg, struct err *e);
struct queue *queue_free(struct queue *q,
                         void (*drop)(struct queue_msg *m)); /* drop gets what was not taken */
/* Any thread: 0, or -EAGAIN when full (the caller keeps the message). */
int queue_put(struct queue *q, struct queue_msg *m);

/* The helper pool: n threads that run blocking work and give the result back to the loop. */
struct pool;
struct pool_job {
    struct queue_msg msg;
    void (*work)(struct pool_job *j); /* in a pool thread */
    void (*done)(struct pool_job *j); /* in the loop's thread; owns the job then */
};
struct pool *pool_new(struct loop *l, int threads, size_t max_jobs, struct err *e);
struct pool *pool_free(struct pool *p); /* waits for running jobs; their done is called */
int pool_submit(struct pool *p, struct pool_job *j); /* 0 or -EAGAIN when full */
