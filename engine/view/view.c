/* See view.h: the file, the thread that fills it, and what the command line does without a node.
 *
 * A lock file beside the database says which process fills it; it is the kernel's lock, so that a
 * killed process leaves none. Who wants the file anew removes it: the thread looks before each
 * transaction whether the path still leads to the file it has. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "log/kfollow.h"
#include "triggers/journal.h"
#include "view/view_int.h"

#define NICE     10
#define BATCH    50000
#define BATCH_MS 200
/* Records. Then a transaction is longer, since each writes a page once. */
#define BEHIND    20000
#define BEHIND_MS 2000
#define RETRY_MS  1000
#define LOOK_MS   5000   /* at the log's begins and ends */
#define KEEP_MS   600000 /* what is not owned any more: it may come back after a restart */
#define ADMIN_MS  10000

static int path_of(const struct view_opts *o, char *path, size_t size, struct err *e)
{
    int n = snprintf(path, size, "%s/view/%s.db", o->data_dir, o->config->group);
    return n < 0 || (size_t)n >= size - 16 ? err_set(e, -ENAMETOOLONG, "use a shorter --data",
                                                     "the data folder's path is too long")
                                           : 0;
}

static int take_lock(const struct view_opts *o, const char *path, int *ret, struct err *e)
{
    char name[VIEW_PATH_MAX + 16];
    (void)snprintf(name, sizeof name, "%s/view", o->data_dir);
    int error = dir_make(name, e);
    if (error)
        return error;
    (void)snprintf(name, sizeof name, "%s.lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(e, -errno, "may this folder be written to?", "cannot open %s", name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return err_set(e, -EBUSY, "give each node a data folder of its own (--data)",
                       "another process fills the read model %s", path);
    }
    *ret = fd;
    return 0;
}

static void remove_files(const char *path)
{
    static const char *const tails[] = {"", "-wal", "-shm"};
    char name[VIEW_PATH_MAX + 16];
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "%s%s", path, tails[i]);
        (void)unlink(name);
    }
}

/* ---- the journal ---- */

/* Where each partition that is kept begins and ends now; positions that are not there any more
 * begin anew.
 * -EPROTO: the journal is another one. */
static int look(struct fill *f, struct kadmin *a, const struct names *n, struct err *e)
{
    for (int i = 0; i < f->n; i++) {
        struct place *p = &f->places[i];
        int64_t low, high;
        int error = p->followed ? kadmin_watermarks(a, n->runs, i, &low, &high, ADMIN_MS, e) : 0;
        if (error)
            return error;
        if (!p->followed)
            continue;
        if (p->next > high)
            return err_set(e, -EPROTO, NULL,
                           "partition %d of the journal ends at %" PRId64
                           ", the read model is at %" PRId64,
                           i, high, p->next);
        if (p->next < low) {
            struct journal_start s;
            if ((error = journal_begin(a, n, i, &s, e)))
                return error;
            p->next = s.from;
            p->epoch = s.epoch;
            p->nonce = s.nonce;
            p->moved = true;
        }
        p->high = high;
        if (low > p->low && fill_cut(f, i, low))
            return err_set(e, -EIO, "is there space?", "the read model can't be written");
    }
    return 0;
}

static void tell_progress(struct view *v, const struct fill *f)
{
    struct view_progress p = {.complete = true};
    for (int i = 0; i < f->n; i++) {
        const struct place *x = &f->places[i];
        if (!x->followed)
            continue;
        p.complete = p.complete && x->next >= x->high;
        p.done += x->next;
        p.total += x->next > x->high ? x->next : x->high;
    }
    pthread_mutex_lock(&v->lock);
    v->progress = p;
    pthread_mutex_unlock(&v->lock);
}

/* ---- filling ---- */

struct filling {
    struct view *v;
    struct fill fill;
    struct kadmin *admin;
    struct kfollow *follow;
    ino_t inode;
    int64_t told; /* which set of partitions it follows */
    int64_t looked_ms;
    bool once; /* until it is complete */
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
    struct err e;
};

static bool stopping(struct view *v)
{
    pthread_mutex_lock(&v->lock);
    bool stop = v->stop;
    pthread_mutex_unlock(&v->lock);
    return stop;
}

static void nap(struct view *v, int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&v->lock);
    if (!v->stop)
        pthread_cond_timedwait(&v->wake, &v->lock, &t);
    pthread_mutex_unlock(&v->lock);
}

static bool same_file(const struct filling *x)
{
    struct stat st;
    return stat(x->v->path, &st) == 0 && st.st_ino == x->inode;
}

static int on_record(void *arg, const struct krec *k)
{
    return fill_record(arg, k);
}

static void close_all(struct filling *x)
{
    x->follow = kfollow_free(x->follow);
    fill_close(&x->fill);
}

static int open_file(struct filling *x)
{
    struct view *v = x->v;
    struct stat st;
    int n = 0;
    if (!x->admin && !(x->admin = kadmin_new(v->o.config, &x->e)))
        return x->e.code;
    int error = kadmin_topic(x->admin, v->names.runs, &n, NULL, ADMIN_MS, &x->e);
    if (!error)
        error = fill_open(&x->fill, v->path, v->names.runs, n, &x->e);
    x->inode = stat(v->path, &st) == 0 ? st.st_ino : 0;
    return error;
}

/* Which partitions are to be kept now; which of view_own's sets that is. */
static int64_t choose(struct view *v, struct fill *f)
{
    int64_t now = clock_boot_ms();
    pthread_mutex_lock(&v->lock);
    int64_t told = v->told;
    for (int i = 0; i < f->n; i++) {
        struct place *p = &f->places[i];
        p->followed = !v->o.owned || intset_has(&v->owned, i);
        p->lost_ms = p->followed ? 0 : p->lost_ms ? p->lost_ms : now;
    }
    pthread_mutex_unlock(&v->lock);
    return told;
}

/* From the stored offsets of the partitions that are to be kept. */
static int open_follow(struct filling *x)
{
    struct view *v = x->v;
    struct fill *f = &x->fill;
    x->follow = kfollow_free(x->follow);
    x->told = choose(v, f);
    int error = look(f, x->admin, &v->names, &x->e);
    int64_t *from = error ? NULL : calloc((size_t)f->n, sizeof *from);
    if (error || !from)
        return error ? error : -ENOMEM;
    for (int i = 0; i < f->n; i++)
        from[i] = f->places[i].followed ? f->places[i].next : KFOLLOW_NONE;
    x->looked_ms = clock_boot_ms();
    x->follow = kfollow_new(v->o.config, v->names.runs, from, f->n, &x->e);
    free(from);
    tell_progress(v, f);
    pthread_mutex_lock(&v->lock);
    v->followed = x->told;
    pthread_mutex_unlock(&v->lock);
    return x->follow ? 0 : x->e.code;
}

static bool other_partitions(struct filling *x)
{
    pthread_mutex_lock(&x->v->lock);
    bool other = x->v->told != x->told;
    pthread_mutex_unlock(&x->v->lock);
    return other;
}

/* What was lost for long. */
static int forget(struct filling *x)
{
    int error = 0;
    for (int i = 0; i < x->fill.n && !error; i++) {
        const struct place *p = &x->fill.places[i];
        if (p->next && p->lost_ms && x->looked_ms - p->lost_ms > KEEP_MS)
            error = fill_drop(&x->fill, i);
    }
    return error;
}

/* One transaction. 0, or what ends the following. */
static int turn(struct filling *x)
{
    const struct view_progress *p = &x->v->progress; /* this thread's own */
    bool behind = p->total - p->done > BEHIND;
    int64_t until = clock_boot_ms() + (behind ? BEHIND_MS : BATCH_MS);
    int n = 0;
    while (n >= 0 && x->fill.fresh < BATCH && clock_boot_ms() < until && !stopping(x->v)) {
        int64_t left = until - clock_boot_ms();
        n = kfollow_next(x->follow, left > 0 ? (int)left : 1, BATCH, on_record, &x->fill);
    }
    if (n < 0)
        return n;
    if (!same_file(x))
        return -EPROTO;
    if (clock_boot_ms() - x->looked_ms > LOOK_MS || x->once) {
        int error = look(&x->fill, x->admin, &x->v->names, &x->e);
        x->looked_ms = clock_boot_ms();
        if (error == -EPROTO || error == -EIO)
            return error; /* others: the broker is away */
        if ((error = forget(x)))
            return error;
    }
    int error = fill_commit(&x->fill);
    tell_progress(x->v, &x->fill);
    if (x->progress)
        x->progress(x->arg, x->v->progress.done, x->v->progress.total);
    return error;
}

static int follow(struct filling *x)
{
    int error = open_file(x);
    if (!error)
        error = open_follow(x);
    while (!error && !stopping(x->v)) {
        if (other_partitions(x) && (error = open_follow(x)))
            break;
        error = turn(x);
        if (x->once && !error && x->v->progress.complete)
            break;
    }
    if (error)
        fill_rollback(&x->fill);
    else
        (void)fill_commit(&x->fill);
    close_all(x);
    return error;
}

static void anew(struct filling *x)
{
    struct view_progress none = {0};
    if (x->v->log)
        log_warn(x->v->log, "the read model is made anew", "path=%s why=%s", log_q(x->v->path),
                 log_q(x->e.code ? x->e.msg : "its file was removed or replaced"));
    remove_files(x->v->path);
    pthread_mutex_lock(&x->v->lock);
    x->v->progress = none;
    pthread_mutex_unlock(&x->v->lock);
}

/* It may lag, and says so; what accepts and executes comes first when the cores are busy. On Linux
 * the priority is the thread's. */
static void give_way(struct view *v)
{
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), NICE))
        log_debug(v->log, "the read model keeps the process's priority", "error=%s",
                  log_q(strerror(errno)));
}

static void *thread(void *arg)
{
    struct view *v = arg;
    struct filling x = {.v = v};
    give_way(v);
    while (!stopping(v)) {
        memset(&x.e, 0, sizeof x.e);
        int error = follow(&x);
        if (!error)
            continue;
        if (error == -EPROTO || error == -EIO) {
            anew(&x);
        } else if (error != -ERANGE) {
            log_debug(v->log, "the read model waits for the log", "error=%s", log_q(x.e.msg));
            x.admin = kadmin_free(x.admin);
        }
        nap(v, RETRY_MS);
    }
    kadmin_free(x.admin);
    return NULL;
}

/* ---- life ---- */

static int init(struct view *v, const struct view_opts *o, struct err *e)
{
    v->o = *o;
    v->log = o->log;
    v->lock_fd = -1;
    names_make(&v->names, o->config->group);
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->wake, NULL);
    int error = path_of(o, v->path, sizeof v->path, e);
    return error ? error : take_lock(o, v->path, &v->lock_fd, e);
}

struct view *view_free(struct view *v)
{
    if (!v)
        return NULL;
    pthread_mutex_lock(&v->lock);
    v->stop = true;
    pthread_cond_broadcast(&v->wake);
    pthread_mutex_unlock(&v->lock);
    if (v->started)
        pthread_join(v->thread, NULL);
    if (v->lock_fd >= 0)
        close(v->lock_fd);
    pthread_mutex_destroy(&v->lock);
    pthread_cond_destroy(&v->wake);
    intset_free(&v->owned);
    free(v);
    return NULL;
}

struct view *view_open(const struct view_opts *o, struct err *e)
{
    struct view *v = calloc(1, sizeof *v);
    sigset_t all, old;
    if (!v) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the read model");
        return NULL;
    }
    if (init(v, o, e))
        return view_free(v);
    sigfillset(&all); /* signals belong to the loop */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&v->thread, NULL, thread, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    v->started = rc == 0;
    if (v->started)
        return v;
    err_set(e, -rc, "raise the limit of processes (ulimit -u)", "no thread for the read model: %s",
            strerror(rc));
    return view_free(v);
}

void view_progress(struct view *v, struct view_progress *ret)
{
    pthread_mutex_lock(&v->lock);
    *ret = v->progress;
    ret->complete = ret->complete && v->followed == v->told;
    pthread_mutex_unlock(&v->lock);
}

int view_own(struct view *v, const struct intset *owned)
{
    struct intset copy;
    int error = intset_copy(&copy, owned);
    if (error)
        return error;
    pthread_mutex_lock(&v->lock);
    if (!intset_same(&v->owned, &copy)) {
        struct intset old = v->owned;
        v->owned = copy;
        copy = old;
        v->told++;
    }
    pthread_mutex_unlock(&v->lock);
    intset_free(&copy);
    return 0;
}

void view_keeps(struct view *v, struct intset *of)
{
    pthread_mutex_lock(&v->lock);
    for (int i = 0; i < of->n && v->o.owned; i++)
        if (!intset_has(&v->owned, i))
            intset_del(of, i);
    pthread_mutex_unlock(&v->lock);
}

/* ---- the command line ---- */

int view_build(const struct view_opts *o, void (*progress)(void *arg, int64_t done, int64_t total),
               void *arg, struct err *e)
{
    struct view *v = calloc(1, sizeof *v);
    struct filling x = {.v = v, .once = true, .progress = progress, .arg = arg};
    int error = v ? init(v, o, e) : -ENOMEM;
    if (!error && (error = follow(&x)) == -EPROTO) {
        anew(&x);
        error = follow(&x);
    }
    if (error && x.e.code)
        *e = x.e;
    kadmin_free(x.admin);
    view_free(v);
    return error;
}

int view_remove(const struct view_opts *o, struct err *e)
{
    char path[VIEW_PATH_MAX];
    int error = path_of(o, path, sizeof path, e);
    if (!error)
        remove_files(path);
    return error;
}
