/* The cleaner: which partition is compacted next, and its place in the log. The pass itself and the
 * swap of files stand in clean_pass.c.
 *
 * Threads: the cleaner's own thread runs passes, one at a time, at low priority. The broker's
 * thread chooses (cleaner_tick), answers what a pass asks (cleaner_collect, woken like the syncs by
 * the store's event descriptor) and so is the only one that changes a partition. `lock` covers
 * asking, ask, answer, given, cancel and stop; while `asking` is set the job is the broker
 * thread's, else the cleaner's.
 *
 * States of a job: running -> (lock -> switch -> unlock)* -> done. A partition that goes away, or
 * the end of the store, waits until its job is done; `cancel` makes that soon.
 *
 * A partition is due when its dirty bytes (sealed, durable, old enough, written since it was
 * cleaned last) exceed min.cleanable.dirty.ratio of what could be cleaned, when a record has been
 * dirty for max.compaction.lag.ms, when the last pass ran out of memory for keys, or when all
 * tombstones have had their delete.retention.ms. The one with the largest ratio goes first.
 *
 * FILE `cleaned` of a partition's folder, big-endian: 0 4 "TMCL", 4 4 salt of the partition, 8 8
 * the offset up to which it was cleaned, 16 4 CRC-32C of the 16 bytes before. Not synced: without
 * it the next pass reads more. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "broker/clean_int.h"

#define NICE               10
#define IOPRIO_WHO_THREAD  1
#define IOPRIO_LOWEST      (2 << 13 | 7) /* best effort, the last of its levels */
#define REST_MAX_US        100000
#define AGAIN_MS           30000 /* after a failure */
#define CLEANED_FILE_BYTES 20

struct cleaner {
    struct store *s;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t work, told;        /* for the cleaner's thread; for the broker's */
    bool stop, cancel, given, asking; /* cancel: the job shall end; stop: the thread */
    enum clean_ask ask;
    int answer;
    struct clean_job *job; /* NULL: idle. The broker's thread sets it. */
    struct segment *fresh; /* switched in, its file not yet renamed; the broker's */
    int64_t now_ms;        /* of the last tick; the broker's */
    struct clean_totals totals;
    int64_t breath_us, syncs_seen; /* the cleaner's */
};

static char *cleaned_path(const struct plog *p)
{
    char *path = NULL;
    return asprintf(&path, "%s/cleaned", p->dir) < 0 ? NULL : path;
}

void cleaned_load(struct plog *p)
{
    struct buf b;
    char *path = cleaned_path(p);
    buf_init(&b, CLEANED_FILE_BYTES);
    int rc = path ? fo_read_file(p->s->files, path, &b) : -ENOMEM;
    if (rc == 0 && b.n == CLEANED_FILE_BYTES && memcmp(b.p, "TMCL", 4) == 0 &&
        (uint32_t)load32(b.p + 4) == p->salt && (uint32_t)load32(b.p + 16) == crc32c(0, b.p, 16) &&
        load64(b.p + 8) <= p->end)
        p->clean_to = load64(b.p + 8);
    buf_free(&b);
    free(path);
}

static void cleaned_save(struct plog *p)
{
    char t[CLEANED_FILE_BYTES] = "TMCL";
    char *path = cleaned_path(p);
    save32(t + 4, (int32_t)p->salt);
    save64(t + 8, p->clean_to);
    save32(t + 16, (int32_t)crc32c(0, t, 16));
    int rc = path ? fo_write_file(p->s->files, path, sl(t, sizeof t)) : -ENOMEM;
    if (rc < 0)
        log_warn(p->s->o.log,
                 "place of the cleaner not kept, the next start cleans from the first record",
                 "topic=%s partition=%d error=%s", log_q(p->t->name), p->index,
                 log_q(strerror(-rc)));
    free(path);
}

/* What could be cleaned now: the first `n` segments, of them dirty the records in [from, to). */
struct dirt {
    size_t n;
    int64_t from, to, clean_bytes, dirty_bytes;
    bool overdue;
};

static bool too_young(const struct topic_conf *c, const struct segment *g, int64_t now_ms)
{
    return c->min_lag_ms > 0 && g->max_ms >= 0 && now_ms - g->max_ms < c->min_lag_ms;
}

static void look(const struct plog *p, int64_t now_ms, struct dirt *d)
{
    const struct topic_conf *c = &p->t->conf;
    *d = (struct dirt){.from = p->clean_to > p->start ? p->clean_to : p->start};
    d->to = p->nsegs ? p->segs[0]->base : 0;
    for (; d->n + 1 < p->nsegs; d->n++) {
        const struct segment *g = p->segs[d->n];
        bool dirty = g->end > d->from;
        if (g->end > p->durable_end || g->dirty || g->in_job || g->swapping ||
            (dirty && too_young(c, g, now_ms)))
            break;
        if (dirty && d->dirty_bytes == 0)
            d->overdue = g->first_ms >= 0 && now_ms - g->first_ms >= c->max_lag_ms;
        *(dirty ? &d->dirty_bytes : &d->clean_bytes) += g->size;
        d->to = g->end;
    }
}

/* The share of dirty bytes, above 1 when it can't wait; negative: not due. */
static double need(const struct plog *p, int64_t now_ms, struct dirt *d)
{
    const struct topic_conf *c = &p->t->conf;
    if (p->failed || p->clean_again_ms > now_ms)
        return -1;
    look(p, now_ms, d);
    double ratio =
        d->dirty_bytes ? (double)d->dirty_bytes / (double)(d->dirty_bytes + d->clean_bytes) : 0;
    if (d->dirty_bytes && (d->overdue || p->clean_more))
        return 1 + ratio;
    if (ratio > c->min_dirty_ratio)
        return ratio;
    return d->n && p->tombstones_ms && p->tombstones_ms <= now_ms ? 0 : -1;
}

static struct plog *choose(struct store *s, int64_t now_ms, struct dirt *ret)
{
    struct plog *best = NULL;
    struct topic *t;
    size_t pos = 0;
    double most = -1;
    while (store_topic_next(s, &pos, &t)) {
        for (int i = 0; t->conf.compact && i < t->npartitions; i++) {
            struct dirt d = {0};
            double n = need(t->parts[i], now_ms, &d);
            if (n > most) {
                most = n;
                best = t->parts[i];
                *ret = d;
            }
        }
    }
    return best;
}

static int by_offset(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static bool keep_repeatable(struct clean_job *j, const struct producers *ps)
{
    j->kept = calloc(ps->by_id.n * PRODUCER_BATCHES + 1, sizeof *j->kept);
    if (!j->kept)
        return false;
    size_t n = 0;
    LIST_EACH(it, &ps->old)
    {
        const struct producer *p = LIST_ENTRY(it, struct producer, node);
        for (int i = 0; i < p->n; i++)
            j->kept[n++] = p->v[i].base;
    }
    qsort(j->kept, n, sizeof *j->kept, by_offset);
    j->filter.kept = j->kept;
    j->filter.nkept = n;
    return true;
}

static void job_free(struct clean_job *j)
{
    if (!j)
        return;
    free(j->src);
    free(j->kept);
    free(j);
}

static struct clean_job *job_new(struct cleaner *c, struct plog *p, const struct dirt *d)
{
    const struct topic_conf *conf = &p->t->conf;
    struct clean_job *j = calloc(1, sizeof *j);
    if (!j || !(j->src = calloc(d->n, sizeof *j->src)) || !keep_repeatable(j, &p->producers)) {
        job_free(j);
        return NULL;
    }
    for (size_t i = 0; i < d->n; i++)
        j->src[i] = (struct clean_source){p->segs[i]->base, p->segs[i]->end, p->segs[i]->size};
    j->p = p;
    j->files = c->s->files;
    j->nsrc = d->n;
    j->dirty_from = d->from;
    j->group_bytes = conf->segment_bytes;
    j->map_bytes = c->s->o.clean_map_bytes ? c->s->o.clean_map_bytes : CLEAN_MAP_BYTES;
    j->out_fd = -1;
    j->began_ms = clock_boot_ms();
    struct clean_filter *f = &j->filter;
    f->start = p->start;
    f->map_end = d->to;
    f->now_ms = c->now_ms;
    f->salt = p->salt;
    if (__builtin_add_overflow(c->now_ms, conf->delete_retention_ms, &f->horizon_ms))
        f->horizon_ms = INT64_MAX;
    return j;
}

static void start_next(struct cleaner *c)
{
    struct dirt d = {0};
    struct plog *p = c->job || !c->started ? NULL : choose(c->s, c->now_ms, &d);
    if (!p)
        return;
    c->job = job_new(c, p, &d);
    if (!c->job) {
        p->clean_again_ms = c->now_ms + AGAIN_MS;
        log_warn(c->s->o.log, "no memory to compact a partition", "topic=%s partition=%d",
                 log_q(p->t->name), p->index);
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->given = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
}

void cleaner_tick(struct store *s, int64_t now_ms)
{
    s->cleaner->now_ms = now_ms;
    start_next(s->cleaner);
}

/* Where the group of the job begins in p->segs; p->nsegs: it is not there any more. */
static size_t group_at(const struct clean_job *j)
{
    const struct plog *p = j->p;
    size_t i = 0;
    while (i < p->nsegs && p->segs[i]->base != j->src[j->first].base)
        i++;
    for (size_t k = 0; k < j->n && i < p->nsegs; k++) {
        const struct segment *g = i + k + 1 < p->nsegs ? p->segs[i + k] : NULL;
        if (!g || g->base != j->src[j->first + k].base || g->size != j->src[j->first + k].size)
            i = p->nsegs;
    }
    return i;
}

static void mark_group(const struct clean_job *j, size_t at, bool swapping)
{
    for (size_t k = 0; k < j->n && at < j->p->nsegs; k++)
        j->p->segs[at + k]->swapping = swapping;
}

static int lock_group(struct clean_job *j)
{
    size_t at = group_at(j);
    if (at == j->p->nsegs || j->p->failed || !j->p->t->conf.compact)
        return -ECANCELED;
    mark_group(j, at, true);
    return 0;
}

/* From here on the log is read from the new segment, whose descriptor stays open until its file has
 * its name. */
static void switch_group(struct cleaner *c)
{
    struct clean_job *j = c->job;
    struct plog *p = j->p;
    struct segment *g = j->out;
    size_t at = group_at(j);
    int64_t first = p->segs[at]->base, last = p->segs[at + j->n - 1]->base;
    g->first_ms = p->segs[at]->first_ms;
    g->fd = j->out_fd;
    g->swapping = true;
    list_push(&c->s->open_files, &g->lru);
    c->s->nopen++;
    for (size_t k = 0; k < j->n; k++) {
        p->nbytes -= p->segs[at + k]->size;
        segment_free(p->segs[at + k]);
    }
    p->nbytes += g->size;
    p->segs[at] = g;
    p->nsegs -= j->n - 1;
    memmove(p->segs + at + 1, p->segs + at + j->n, (p->nsegs - at - 1) * sizeof *p->segs);
    if (p->synced.base >= first && p->synced.base <= last)
        p->synced = (struct logpos){p->synced.offset, g->base, g->size};
    memset(p->hints, 0, sizeof p->hints); /* places in files that are gone */
    c->fresh = g;
    j->out = NULL;
    j->out_fd = -1;
}

static void unlock_group(struct cleaner *c)
{
    struct clean_job *j = c->job;
    struct segment *g = c->fresh;
    c->fresh = NULL;
    if (!g) {
        mark_group(j, group_at(j), false);
    } else {
        g->swapping = false;
        if (!j->at && index_save(g) == 0) /* else it is made anew when it is needed */
            index_drop(g);
    }
    if (j->at) /* which files there are is not known: only a start can tell */
        plog_fail(j->p, j->error, j->at);
}

static void report(struct cleaner *c, const struct clean_job *j)
{
    const struct clean_counts *n = &j->filter.n;
    struct plog *p = j->p;
    log_info(c->s->o.log, "partition compacted",
             "topic=%s partition=%d from=%lld to=%lld segments=%lld/%lld bytes=%lld/%lld read=%lld "
             "written=%lld records=%lld superseded=%lld tombstones=%lld without_key=%lld "
             "below_start=%lld more=%d took_ms=%lld",
             log_q(p->t->name), p->index, (long long)j->dirty_from, (long long)j->filter.map_end,
             (long long)n->segments_before, (long long)n->segments_after,
             (long long)n->bytes_before, (long long)n->bytes_after, (long long)n->bytes_read,
             (long long)n->bytes_written, (long long)n->records, (long long)n->superseded,
             (long long)n->tombstones, (long long)n->without_key, (long long)n->below_start,
             j->more, (long long)(clock_boot_ms() - j->began_ms));
}

/* A pass that failed is tried again; damage is left to the next start, which looks closely. */
static void failed(struct cleaner *c, const struct clean_job *j)
{
    struct plog *p = j->p;
    bool damage = j->error == -EBADMSG;
    p->clean_again_ms = damage ? INT64_MAX : c->now_ms + AGAIN_MS;
    c->totals.failed++;
    if (damage)
        log_error(c->s->o.log, "partition not compacted, a segment is damaged",
                  "topic=%s partition=%d segment=%lld at=%lld hint=%s", log_q(p->t->name), p->index,
                  (long long)j->bad_base, (long long)j->bad_pos,
                  log_q("restore the folder from a backup; it is left as it is until a restart"));
    else
        log_warn(c->s->o.log, "partition not compacted, tried again later",
                 "topic=%s partition=%d error=%s", log_q(p->t->name), p->index,
                 log_q(strerror(-j->error)));
}

static void done(struct cleaner *c)
{
    struct clean_job *j = c->job;
    struct plog *p = j->p;
    const struct clean_counts *n = &j->filter.n;
    c->totals.passes++;
    c->totals.bytes_read += n->bytes_read;
    c->totals.bytes_written += n->bytes_written;
    c->totals.records_dropped += n->superseded + n->tombstones + n->without_key + n->below_start;
    if (j->error == 0) {
        p->clean_more = j->more;
        p->tombstones_ms = j->filter.latest_horizon_ms;
        if (j->filter.map_end > p->clean_to) {
            p->clean_to = j->filter.map_end;
            cleaned_save(p);
        }
        report(c, j);
    } else if (j->error != -ECANCELED) {
        failed(c, j);
    }
    job_free(j);
    c->job = NULL;
}

bool cleaner_collect(struct store *s)
{
    struct cleaner *c = s->cleaner;
    if (!c || !c->job)
        return false;
    pthread_mutex_lock(&c->lock);
    bool asking = c->asking;
    enum clean_ask ask = c->ask;
    int answer = c->cancel && ask == ASK_LOCK ? -ECANCELED : 0;
    pthread_mutex_unlock(&c->lock);
    if (!asking)
        return false;
    if (ask == ASK_LOCK && answer == 0)
        answer = lock_group(c->job);
    else if (ask == ASK_SWITCH)
        switch_group(c);
    else if (ask == ASK_UNLOCK)
        unlock_group(c);
    else if (ask == ASK_DONE)
        done(c);
    pthread_mutex_lock(&c->lock);
    c->asking = false;
    c->answer = answer;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (!c->job && !c->cancel)
        start_next(c);
    return true;
}

bool cleaner_busy(const struct store *s)
{
    return s->cleaner && s->cleaner->job;
}

const struct clean_totals *store_clean_totals(const struct store *s)
{
    return &s->cleaner->totals;
}

int cleaner_ask(struct cleaner *c, enum clean_ask what)
{
    pthread_mutex_lock(&c->lock);
    c->ask = what;
    c->asking = true;
    pthread_cond_signal(&c->told);
    pthread_mutex_unlock(&c->lock);
    sync_wake(c->s);
    pthread_mutex_lock(&c->lock);
    while (c->asking)
        pthread_cond_wait(&c->work, &c->lock);
    int answer = c->answer;
    pthread_mutex_unlock(&c->lock);
    return answer;
}

int cleaner_breathe(struct cleaner *c)
{
    int64_t now = clock_boot_us(), rest = now - c->breath_us, syncs = store_syncs(c->s);
    if (syncs == c->syncs_seen)
        rest = 0;
    else if (rest > REST_MAX_US)
        rest = REST_MAX_US;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += rest * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&c->lock);
    int rc = 0;
    while (rest > 0 && !c->cancel && rc == 0)
        rc = pthread_cond_timedwait(&c->work, &c->lock, &until);
    rc = c->cancel ? -ECANCELED : 0;
    pthread_mutex_unlock(&c->lock);
    c->syncs_seen = store_syncs(c->s);
    c->breath_us = clock_boot_us();
    return rc;
}

static void *clean_main(void *arg)
{
    struct cleaner *c = arg;
    pthread_setname_np(pthread_self(), "tm-log-clean");
    /* Both only make it give way; where they are refused it is merely less polite. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_THREAD, 0, IOPRIO_LOWEST);
    pthread_mutex_lock(&c->lock);
    while (!c->stop || c->given) {
        if (!c->given) {
            pthread_cond_wait(&c->work, &c->lock);
            continue;
        }
        c->given = false;
        struct clean_job *j = c->job;
        pthread_mutex_unlock(&c->lock);
        clean_run(c, j);
        (void)cleaner_ask(c, ASK_DONE);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Ends the job under way as soon as that can be. */
static void end_job(struct cleaner *c)
{
    while (c->job) {
        pthread_mutex_lock(&c->lock);
        c->cancel = true;
        pthread_cond_signal(&c->work);
        while (!c->asking)
            pthread_cond_wait(&c->told, &c->lock);
        pthread_mutex_unlock(&c->lock);
        cleaner_collect(c->s);
    }
    c->cancel = false; /* nobody reads it without a job */
}

void cleaner_forget(struct plog *p)
{
    struct cleaner *c = p->s->cleaner;
    if (!c || !c->job || c->job->p != p)
        return;
    end_job(c);
}

int cleaner_start(struct store *s, struct err *e)
{
    struct cleaner *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, -ENOMEM, "give the process more memory",
                       "no memory for the log's cleaner");
    c->s = s;
    c->syncs_seen = -1;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, &clock);
    pthread_cond_init(&c->told, NULL);
    pthread_condattr_destroy(&clock);
    s->cleaner = c;
    sigset_t all, old; /* signals belong to the program's loop */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&c->thread, NULL, clean_main, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    c->started = rc == 0;
    return rc == 0 ? 0
                   : err_set(e, -rc, "raise the limit of processes (ulimit -u)",
                             "cannot start the log's cleaner: %s", strerror(rc));
}

void cleaner_stop(struct store *s)
{
    struct cleaner *c = s->cleaner;
    if (!c)
        return;
    end_job(c);
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_signal(&c->work);
    pthread_mutex_unlock(&c->lock);
    if (c->started)
        pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->work);
    pthread_cond_destroy(&c->told);
    free(c);
    s->cleaner = NULL;
}
