/* Group fdatasync: a few workers, one job a partition.
 *
 * Threads: the broker's thread hands jobs out and collects them; a worker runs fdatasync on the
 * descriptors in the job and touches nothing else of the partition. `store.lock` covers the two
 * lists and job.returned.
 *
 * A partition's job is idle (!out), out (with a worker) or returned. While it is out, appends go on
 * and collect: they are covered by the next job, which is handed out when this one is collected. A
 * job promises exactly what had been written when it was handed out (`to`), since later bytes may
 * or may not be in it. Partitions are synced side by side by different workers.
 *
 * A failed fdatasync fails its partition for good: the kernel may have marked the pages clean, so a
 * second call could report success for data that never reached the disk. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fail.h"
#include "broker/store_int.h"

static int run_job(struct store *s, const struct sync_job *j)
{
    FAILPOINT("log.sync.before");
    for (int i = 0; i < j->nfiles; i++) {
        __atomic_fetch_add(&s->syncs, 1, __ATOMIC_RELAXED);
        int rc = s->files->datasync(s->files, j->fds[i], SYNC_RECORDS);
        if (rc < 0)
            return rc;
    }
    int rc = j->folder_fd >= 0 ? s->files->sync(s->files, j->folder_fd, SYNC_SEGMENT_NAME) : 0;
    FAILPOINT("log.sync.after");
    return rc;
}

void sync_wake(struct store *s)
{
    uint64_t one = 1;
    while (write(s->event_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void *worker(void *arg)
{
    struct store *s = arg;
    pthread_setname_np(pthread_self(), "tm-log-sync");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct list *n = list_pop(&s->todo);
        if (!n && s->stopping)
            break;
        if (!n) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        struct sync_job *j = LIST_ENTRY(n, struct sync_job, node);
        pthread_mutex_unlock(&s->lock);
        j->error = run_job(s, j);
        pthread_mutex_lock(&s->lock);
        j->returned = true;
        list_push(&s->done, &j->node);
        pthread_cond_broadcast(&s->finished);
        pthread_mutex_unlock(&s->lock);
        sync_wake(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int sync_start(struct store *s, struct err *e)
{
    int n = s->o.sync_threads > 0 ? s->o.sync_threads : 2, rc = 0;
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->threads = calloc((size_t)n, sizeof *s->threads);
    if (s->event_fd < 0 || !s->threads)
        return err_set(e, -EMFILE, "raise the limit of open files (ulimit -n)",
                       "cannot start the log's sync threads");
    /* Signals belong to the program's loop. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (rc == 0 && s->nthreads < n) {
        rc = pthread_create(&s->threads[s->nthreads], NULL, worker, s);
        s->nthreads += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        return 0;
    return err_set(e, -rc, "raise the limit of processes (ulimit -u)",
                   "cannot start the log's sync threads: %s", strerror(rc));
}

void sync_stop(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->nthreads; i++)
        pthread_join(s->threads[i], NULL);
    free(s->threads);
    s->threads = NULL;
    s->nthreads = 0;
    if (s->event_fd >= 0)
        close(s->event_fd);
    s->event_fd = -1;
}

/* nsegs: none is. The last one, rolled by age, may be clean and empty behind a dirty one. */
static size_t first_dirty(const struct plog *p)
{
    size_t first = p->nsegs;
    for (size_t i = p->nsegs; i > 0 && (p->segs[i - 1]->dirty || i == p->nsegs); i--)
        if (p->segs[i - 1]->dirty)
            first = i - 1;
    return first;
}

/* Takes what is dirty into the job. False: nothing is, or the job must wait for a free descriptor
 * (the tick tries again; nothing was lost, so that is no reason to fail the partition). */
static bool fill_job(struct plog *p)
{
    struct sync_job *j = &p->job;
    size_t i = first_dirty(p);
    if (p->nsegs == 0 || (i == p->nsegs && !p->folder_dirty))
        return false;
    int fd = p->folder_dirty ? store_open_file(p->s, p->dir, O_RDONLY | O_DIRECTORY) : -1;
    if (p->folder_dirty && fd < 0) {
        log_warn(p->s->o.log, "folder not opened, its sync waits", "topic=%s partition=%d error=%s",
                 log_q(p->t->name), p->index, log_q(strerror(-fd)));
        return false;
    }
    *j = (struct sync_job){.p = p, .folder_fd = fd};
    list_init(&j->node);
    struct segment *last = plog_active(p);
    for (; i < p->nsegs && j->nfiles < SYNC_FILES_MAX; i++) {
        last = p->segs[i];
        assert(last->fd >= 0); /* dirty files stay open */
        j->files[j->nfiles] = last;
        j->sizes[j->nfiles] = last->size;
        j->fds[j->nfiles++] = last->fd;
        last->in_job = true;
    }
    j->to = (struct logpos){last->end, last->base, last->size};
    p->folder_dirty = false;
    return true;
}

void sync_push(struct plog *p)
{
    struct store *s = p->s;
    if (p->job.out || p->failed || !fill_job(p))
        return;
    p->job.out = true;
    pthread_mutex_lock(&s->lock);
    list_push(&s->todo, &p->job.node);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}

static void announce(struct plog *p)
{
    if (p->announce)
        return;
    p->announce = true;
    list_push(&p->s->announce, &p->announce_node);
}

void sync_announce(struct plog *p)
{
    if (!p->announce)
        sync_wake(p->s);
    announce(p);
}

void sync_request(struct plog *p)
{
    if (p->s->o.sync == STORE_SYNC_ALWAYS) {
        sync_push(p);
        return;
    }
    p->durable_end = p->end;
    sync_announce(p);
}

/* The result of a job that came back. */
static void collect(struct plog *p)
{
    struct sync_job *j = &p->job;
    j->out = j->returned = false;
    if (j->folder_fd >= 0)
        p->s->files->close(p->s->files, j->folder_fd);
    j->folder_fd = -1;
    for (int i = 0; i < j->nfiles; i++) {
        j->files[i]->in_job = false;
        if (j->error == 0 && j->files[i]->size == j->sizes[i])
            j->files[i]->dirty = false;
    }
    if (j->error < 0) {
        plog_fail(p, j->error, "sync");
        return;
    }
    if (p->failed)
        return;
    assert(j->to.offset >= p->synced.offset);
    p->synced = j->to;
    if (p->durable_end < j->to.offset)
        p->durable_end = j->to.offset;
}

void sync_wait(struct plog *p)
{
    struct store *s = p->s;
    if (!p->job.out)
        return;
    pthread_mutex_lock(&s->lock);
    while (!p->job.returned)
        pthread_cond_wait(&s->finished, &s->lock);
    list_del(&p->job.node);
    pthread_mutex_unlock(&s->lock);
    collect(p);
    sync_announce(p);
}

int sync_now(struct plog *p)
{
    sync_wait(p);
    while (!p->failed && fill_job(p)) {
        p->job.out = true;
        p->job.error = run_job(p->s, &p->job);
        collect(p);
    }
    return p->failed ? -EIO : 0;
}

static void announce_all(struct store *s, void (*on_durable)(void *arg, struct plog *p), void *arg)
{
    /* Only those of now: a callback may append, and so announce again. */
    struct list now, *n;
    list_init(&now);
    while ((n = list_pop(&s->announce)))
        list_push(&now, n);
    while ((n = list_pop(&now))) {
        struct plog *p = LIST_ENTRY(n, struct plog, announce_node);
        p->announce = false;
        on_durable(arg, p);
    }
}

void store_poll(struct store *s, void (*on_durable)(void *arg, struct plog *p), void *arg)
{
    uint64_t count;
    while (read(s->event_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        struct list *n = list_pop(&s->done);
        pthread_mutex_unlock(&s->lock);
        if (!n)
            break;
        struct plog *p = LIST_ENTRY(n, struct sync_job, node)->p;
        collect(p);
        if (s->o.sync == STORE_SYNC_ALWAYS)
            sync_push(p); /* before anyone is told: the disk need not wait for the answers */
        announce(p);
    }
    while (cleaner_collect(s))
        ;
    announce_all(s, on_durable, arg);
}

int store_event_fd(const struct store *s)
{
    return s->event_fd;
}

int64_t store_syncs(const struct store *s)
{
    return __atomic_load_n(&s->syncs, __ATOMIC_RELAXED);
}
