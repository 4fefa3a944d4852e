/* The helper pool. `lock` guards `waiting` and `ending`; `open` belongs to the loop's thread.
 * A job: waiting, running in a pool thread, in the queue back, done.
 * Invariant: open counts jobs between pool_submit and done and is at most max, so the queue back
 * never overflows. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "loop/queue.h"

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list waiting;
    bool ending;
    struct queue *back;
    size_t open, max;
    int nthreads;
    pthread_t threads[];
};

static struct pool_job *next_job(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    while (list_empty(&p->waiting) && !p->ending)
        pthread_cond_wait(&p->more, &p->lock);
    struct list *n = list_pop(&p->waiting);
    pthread_mutex_unlock(&p->lock);
    return n ? LIST_ENTRY(n, struct pool_job, msg.node) : NULL;
}

static void *run(void *arg)
{
    struct pool *p = arg;
    struct pool_job *j;
    while ((j = next_job(p))) {
        j->work(j);
        int rc = queue_put(p->back, &j->msg);
        assert(rc == 0);
        (void)rc;
    }
    return NULL;
}

static void on_done(void *arg, struct queue_msg *m)
{
    struct pool *p = arg;
    p->open--;
    struct pool_job *j = LIST_ENTRY(m, struct pool_job, msg);
    j->done(j);
}

/* Signals belong to the loop's thread, so the helpers start with all of them blocked. */
static int start_threads(struct pool *p, int n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    while (!rc && p->nthreads < n) {
        rc = -pthread_create(&p->threads[p->nthreads], NULL, run, p);
        p->nthreads += !rc;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

struct pool *pool_new(struct loop *l, int threads, size_t max_jobs, struct err *e)
{
    assert(threads > 0 && threads <= 256);
    struct pool *p = calloc(1, sizeof *p + (size_t)threads * sizeof(pthread_t));
    if (!p) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the helper pool");
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    list_init(&p->waiting);
    p->max = max_jobs;
    p->back = queue_new(l, max_jobs, on_done, p, e);
    int rc = p->back ? start_threads(p, threads) : 0;
    if (rc)
        err_set(e, rc, "raise the limit of processes (ulimit -u)",
                "cannot start a helper thread: %s", strerror(-rc));
    return rc || !p->back ? pool_free(p) : p;
}

static void drop(struct queue_msg *m)
{
    struct pool_job *j = LIST_ENTRY(m, struct pool_job, msg);
    j->done(j);
}

struct pool *pool_free(struct pool *p)
{
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    /* The threads first work off what is waiting: each job was promised its done. */
    for (int i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
    queue_free(p->back, drop);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

int pool_submit(struct pool *p, struct pool_job *j)
{
    if (p->open == p->max)
        return -EAGAIN;
    p->open++;
    pthread_mutex_lock(&p->lock);
    list_push(&p->waiting, &j->msg.node);
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
    return 0;
}
