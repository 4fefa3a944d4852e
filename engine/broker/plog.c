/* One partition: opening, appending, rolling, closing. Owning thread: the broker's.
 *
 * States: usable, or failed for good (set only by plog_fail). Order of one append: check, judge the
 * producer, roll if need be, stamp, one write, note in index and producer state, ask for a sync.
 * Nothing is noted before the write has succeeded, so a refused or failed append leaves no trace
 * but the cut-back file. Invariants: start <= durable_end <= end; segs are in order and each begins
 * where the one before ends; only the last one is written to; its folder entry is synced by the
 * first job after the roll, before any record in it is durable. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/hash.h"
#include "broker/store_int.h"

#define SNAPSHOT_MAX_BYTES ((size_t)16 << 20)
#define SNAPSHOTS_KEPT     2

struct plog *plog_open(struct store *s, struct topic *t, int index, struct err *e)
{
    struct plog *p = calloc(1, sizeof *p);
    if (!p || asprintf(&p->dir, "%s/%s-%d", s->dir, t->name, index) < 0) {
        free(p);
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a partition");
        return NULL;
    }
    char n[4];
    save32(n, index);
    p->s = s;
    p->t = t;
    p->index = index;
    p->salt = crc32c(crc32c(0, t->id, sizeof t->id), n, sizeof n);
    p->ckpt_fd = p->job.folder_fd = -1;
    list_init(&p->announce_node);
    list_init(&p->job.node);
    producers_init(&p->producers);
    if (plog_recover(p, e) < 0)
        return plog_free(p);
    return p;
}

struct plog *plog_free(struct plog *p)
{
    if (!p)
        return NULL;
    cleaner_forget(p);
    sync_wait(p);
    list_del(&p->announce_node);
    for (size_t i = 0; i < p->nsegs; i++)
        segment_free(p->segs[i]);
    free(p->segs);
    producers_free(&p->producers);
    free(p->dir);
    free(p);
    return NULL;
}

void plog_fail(struct plog *p, int code, const char *what)
{
    if (!p->failed)
        log_error(p->s->o.log, "partition failed", "topic=%s partition=%d at=%s error=%s hint=%s",
                  log_q(p->t->name), p->index, what, log_q(strerror(-code)),
                  log_q("check the disk, then restart; the partition serves nothing until then"));
    p->failed = true;
    sync_announce(p);
}

struct segment *plog_active(const struct plog *p)
{
    return p->nsegs ? p->segs[p->nsegs - 1] : NULL;
}

int64_t plog_limit(const struct plog *p, const struct segment *g)
{
    if (p->s->o.sync != STORE_SYNC_ALWAYS || g->base < p->synced.base)
        return g->size;
    return g->base == p->synced.base ? p->synced.pos : 0;
}

int plog_add_segment(struct plog *p, struct segment *g)
{
    if (p->nsegs == p->capsegs) {
        size_t cap = p->capsegs ? p->capsegs * 2 : 4;
        struct segment **v = realloc(p->segs, cap * sizeof *v);
        if (!v)
            return -ENOMEM;
        p->segs = v;
        p->capsegs = cap;
    }
    p->segs[p->nsegs++] = g;
    return 0;
}

int snapshot_save(struct plog *p)
{
    struct buf b;
    buf_init(&b, SNAPSHOT_MAX_BYTES);
    char *path = segment_path(p, p->end, "snapshot");
    int rc = path ? producers_save(&p->producers, p->end, &b) : -ENOMEM;
    if (rc == 0)
        rc = fo_write_file(p->s->files, path, buf_slice(&b));
    if (rc < 0) /* recovery reads further back then */
        log_warn(p->s->o.log, "producer snapshot not written", "topic=%s partition=%d error=%s",
                 log_q(p->t->name), p->index, log_q(strerror(-rc)));
    buf_free(&b);
    free(path);
    return rc;
}

static void drop_snapshot(struct plog *p, int64_t offset)
{
    char *path = segment_path(p, offset, "snapshot");
    if (path) /* one that stays is removed at the next start */
        (void)p->s->files->unlink(p->s->files, path);
    free(path);
}

int plog_roll(struct plog *p, int64_t base)
{
    struct segment *old = plog_active(p), *g = segment_new(p, base);
    int rc = g ? 0 : -ENOMEM;
    assert(!old || old->size > 0);
    FAILPOINT("log.roll.before");
    if (rc == 0)
        rc = plog_add_segment(p, g);
    if (rc == 0 && (rc = segment_open(g, true)) < 0)
        p->nsegs--; /* a file must not be made that no one knows of: it would be a gap one day */
    if (rc < 0) {
        segment_free(g);
        return rc;
    }
    g->indexed = true;
    p->folder_dirty = true;
    if (!old)
        return 0;
    if (p->s->o.sync == STORE_SYNC_NEVER && old->dirty) {
        old->dirty = false; /* its file may be closed */
        old->unsynced = true;
    }
    rc = index_save(old);
    if (rc < 0)
        log_warn(p->s->o.log, "index not written, it will be rebuilt",
                 "topic=%s partition=%d error=%s", log_q(p->t->name), p->index,
                 log_q(strerror(-rc)));
    else if (!old->dirty)
        index_drop(old);
    snapshot_save(p);
    if (p->nsegs > SNAPSHOTS_KEPT)
        drop_snapshot(p, p->segs[p->nsegs - 1 - SNAPSHOTS_KEPT]->base);
    FAILPOINT("log.roll.after");
    return 0;
}

static bool roll_due(const struct plog *p, size_t n, int64_t offsets, int64_t now_ms)
{
    const struct segment *g = plog_active(p);
    const struct topic_conf *c = &p->t->conf;
    if (!g)
        return true;
    if (g->size == 0)
        return false;
    return g->size + (int64_t)n > c->segment_bytes || g->size > SEGMENT_BYTES_MAX ||
           p->end + offsets - g->base > INT32_MAX ||
           (segment_age_ms(c) > 0 && now_ms - g->first_ms >= segment_age_ms(c));
}

static void refuse(struct append_result *r, enum append_error error, const char *why)
{
    r->error = error;
    r->why = why;
}

static void judge_producer(struct plog *p, const struct batch *b, int64_t now_ms,
                           struct append_result *r)
{
    int64_t base;
    r->error = producers_check(&p->producers, b, now_ms, &base, &r->why);
    if (r->error)
        return;
    r->why = NULL;
    if (base >= 0) {
        r->duplicate = true;
        r->base_offset = base;
        r->end_offset = base + b->last_delta + 1;
    }
}

/* Checks everything; *ret_offsets is how many offsets the batches take. */
static void check_all(struct plog *p, char *bytes, size_t n, int64_t now_ms, int64_t *ret_offsets,
                      struct append_result *r)
{
    const struct topic_conf *c = &p->t->conf;
    struct batch_rules rules = {c->max_message_bytes, now_ms, c->compact, c->log_append_time};
    struct batch b;
    int64_t offsets = 0;
    if (n == 0) {
        refuse(r, APPEND_CORRUPT, "no record batch");
        return;
    }
    for (size_t at = 0; at < n; at += b.size) {
        r->error = batch_check(bytes + at, n - at, &rules, &p->s->scratch, &b, &r->why);
        if (r->error)
            return;
        if (b.pid >= 0 && b.size != n) {
            refuse(r, APPEND_INVALID_RECORD,
                   "an idempotent producer sends one batch a partition and request");
            return;
        }
        offsets += b.last_delta + 1;
    }
    if (p->end > INT64_MAX - offsets - INT32_MAX) {
        refuse(r, APPEND_STORAGE, "the partition has no offsets left");
        return;
    }
    *ret_offsets = offsets;
    if (b.pid >= 0)
        judge_producer(p, &b, now_ms, r);
}

static void stamp_all(struct plog *p, char *bytes, size_t n)
{
    int64_t offset = p->end;
    struct batch b;
    for (size_t at = 0; at < n && batch_head(bytes + at, n - at, &b); at += b.size) {
        batch_stamp(bytes + at, offset, p->synced.offset, p->salt);
        offset += b.last_delta + 1;
    }
}

static void note_all(struct plog *p, struct segment *g, const char *bytes, size_t n, int64_t now_ms)
{
    struct batch b;
    int64_t pos = g->size;
    for (size_t at = 0; at < n && batch_head(bytes + at, n - at, &b); at += b.size) {
        segment_note(g, &b, pos, now_ms);
        pos += (int64_t)b.size;
        if (b.pid >= 0)
            (void)producers_note(&p->producers, &b, now_ms); /* producers_check has made the room */
    }
    p->end = g->end;
    p->nbytes += (int64_t)n;
    g->dirty = true;
}

static const char *storage_why(int rc)
{
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG ? "the disk of the log is full"
                                                          : "the log could not be written";
}

static int write_all(struct plog *p, char *bytes, size_t n, int64_t now_ms)
{
    struct segment *g = plog_active(p);
    bool broken;
    stamp_all(p, bytes, n);
    int rc = segment_write(g, bytes, n, &broken);
    if (broken)
        plog_fail(p, rc, "cut back after a failed write");
    else if (rc == 0)
        note_all(p, g, bytes, n, now_ms);
    return rc;
}

void plog_append(struct plog *p, char *batches, size_t n, int64_t now_ms, struct append_result *r)
{
    int64_t offsets = 0;
    *r = (struct append_result){.base_offset = -1, .end_offset = -1, .append_time_ms = -1};
    if (p->failed) {
        refuse(r, APPEND_STORAGE, "the partition failed to sync; the log must be restarted");
        return;
    }
    check_all(p, batches, n, now_ms, &offsets, r);
    buf_trim(&p->s->scratch, SCRATCH_KEEP_BYTES);
    if (r->error || r->duplicate)
        return;
    int rc = roll_due(p, n, offsets, now_ms) ? plog_roll(p, p->end) : 0;
    int64_t base = p->end;
    if (rc == 0)
        rc = write_all(p, batches, n, now_ms);
    if (rc < 0) {
        log_error(p->s->o.log, "append failed", "topic=%s partition=%d error=%s", log_q(p->t->name),
                  p->index, log_q(strerror(-rc)));
        refuse(r, APPEND_STORAGE, storage_why(rc));
        return;
    }
    r->base_offset = base;
    r->end_offset = p->end;
    if (p->t->conf.log_append_time)
        r->append_time_ms = now_ms;
    sync_request(p);
}

/* With syncs off as well a clean stop is durable: the next start trusts it. */
static int sync_at_last(struct plog *p)
{
    struct fileops *o = p->s->files;
    int rc = 0;
    for (size_t i = 0; i < p->nsegs && rc == 0; i++) {
        struct segment *g = p->segs[i];
        if (!g->dirty && !g->unsynced)
            continue;
        rc = segment_open(g, false);
        if (rc == 0)
            rc = o->datasync(o, g->fd, SYNC_RECORDS);
        if (rc == 0)
            g->dirty = g->unsynced = false;
    }
    if (rc == 0 && p->folder_dirty)
        rc = fo_sync_folder(o, p->dir, SYNC_LATE_NAME);
    if (rc < 0)
        return rc;
    struct segment *g = plog_active(p);
    p->folder_dirty = false;
    if (g)
        p->synced = (struct logpos){g->end, g->base, g->size};
    return 0;
}

void plog_close(struct plog *p)
{
    sync_wait(p);
    if (p->failed)
        return;
    struct segment *g = plog_active(p);
    bool off = p->s->o.sync == STORE_SYNC_NEVER;
    bool all =
        off ? sync_at_last(p) == 0 : sync_now(p) == 0 && (!p->nsegs || p->synced.offset == p->end);
    if (!all) /* no free descriptor to the last: the next start looks closely */
        p->failed = true;
    if (p->failed)
        return;
    if (g && g->size > 0 && g->indexed)
        (void)index_save(g); /* rebuilt when it is missing, as is the checkpoint's statement */
    if (g)
        snapshot_save(p);
    if (p->synced.offset != p->saved.offset || p->start != p->saved_start)
        (void)checkpoint_write(p, CHECKPOINT_UNSYNCED);
}

int64_t plog_start(const struct plog *p)
{
    return p->start;
}

int64_t plog_durable_end(const struct plog *p)
{
    return p->durable_end;
}

int64_t plog_end(const struct plog *p)
{
    return p->end;
}

bool plog_failed(const struct plog *p)
{
    return p->failed;
}

struct topic *plog_topic(const struct plog *p)
{
    return p->t;
}

int plog_index(const struct plog *p)
{
    return p->index;
}

int64_t plog_size(const struct plog *p)
{
    return p->nbytes;
}

void **plog_user(struct plog *p)
{
    return &p->user;
}
