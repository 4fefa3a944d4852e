/* Recovery of one partition at start. The rules stand in segment.c; the steps there are numbered as
 * here.
 *
 * Owning thread: the one that opens the store, before any worker has a job. Invariant: a file is
 * changed only after it is settled that nothing acknowledged is lost by it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "broker/recover_int.h"

#define REWRITE_BYTES ((size_t)1 << 20)
#define NAME_DIGITS   20

static int damaged(struct recovery *r, const struct segment *g, int64_t pos, int64_t offset,
                   struct err *e)
{
    return err_set(e, -EBADMSG,
                   "restore the folder from a backup; to give up what is lost: cut the file there "
                   "(truncate -s), delete later segments and the file checkpoint beside it",
                   "%s/%020lld.log is damaged at byte %lld (offset %lld): all below offset %lld at "
                   "least was acknowledged",
                   r->p->dir, (long long)g->base, (long long)pos, (long long)offset,
                   (long long)r->known);
}

static int storage(struct recovery *r, int rc, const char *what, struct err *e)
{
    return err_set(e, rc, "check the disk, and the owner and the mode of the data folder",
                   "cannot %s %s: %s", what, r->p->dir, strerror(-rc));
}

static int by_base(const void *a, const void *b)
{
    int64_t x = (*(struct segment *const *)a)->base, y = (*(struct segment *const *)b)->base;
    return x < y ? -1 : x > y;
}

int64_t recover_name(const char *name, const char *suffix)
{
    int64_t base;
    struct slice s = sl_str(name);
    if (s.n <= NAME_DIGITS + 1 || s.p[NAME_DIGITS] != '.' ||
        strcmp(s.p + NAME_DIGITS + 1, suffix) != 0 || sl_i64(sl(s.p, NAME_DIGITS), &base) < 0 ||
        base < 0)
        return -1;
    return base;
}

static int add_file(struct plog *p, int64_t base)
{
    char *path = segment_path(p, base, "log");
    int64_t size;
    int rc = path ? p->s->files->size(p->s->files, path, &size) : -ENOMEM;
    free(path);
    if (rc < 0)
        return rc;
    struct segment *g = segment_new(p, base);
    rc = g ? plog_add_segment(p, g) : -ENOMEM;
    if (rc < 0)
        segment_free(g);
    else
        g->size = size;
    return rc;
}

static int list_one(void *arg, const char *name)
{
    struct recovery *r = arg;
    int64_t base = recover_name(name, "log"), snap = recover_name(name, "snapshot");
    if (snap > r->snapshot)
        r->snapshot = snap;
    return base >= 0 ? add_file(r->p, base) : 0;
}

static int list_files(struct recovery *r, struct err *e)
{
    struct plog *p = r->p;
    int rc = p->s->files->list(p->s->files, p->dir, list_one, r);
    if (rc < 0)
        return storage(r, rc, "read", e);
    if (p->nsegs)
        qsort(p->segs, p->nsegs, sizeof *p->segs, by_base);
    return 0;
}

/* What stays is there for sure: no record at or above the start was durable before the name of its
 * segment was, and a start that might be newer than that has just been synced with the folder. */
static int drop_below_start(struct recovery *r)
{
    struct plog *p = r->p;
    if (p->nsegs < 2 || p->segs[1]->base > p->start)
        return 0;
    for (size_t i = 0; i + 1 < p->nsegs; i++)
        p->segs[i]->end = p->segs[i + 1]->base;
    plog_drop_old(p);
    for (size_t i = 0; i < p->nsegs; i++)
        p->segs[i]->end = p->segs[i]->base;
    return 0;
}

/* Step 1, and what can be seen from the names alone. */
static int check_names(struct recovery *r, bool found, struct err *e)
{
    struct plog *p = r->p;
    if (p->nsegs == 0 && r->known > 0)
        return err_set(
            e, -EBADMSG,
            "restore the folder from a backup; or delete the file checkpoint in it to begin anew",
            "%s has no segments, but records up to offset %lld were acknowledged", p->dir,
            (long long)r->known);
    if (!found && p->nsegs)
        p->start = p->segs[0]->base;
    if (!found && p->start > 0)
        log_warn(p->s->o.log, "no checkpoint: the log starts with its first segment",
                 "topic=%s partition=%d start=%lld", log_q(p->t->name), p->index,
                 (long long)p->start);
    if (p->nsegs && p->segs[0]->base > p->start)
        return err_set(e, -EBADMSG,
                       "restore the folder from a backup; or delete the file checkpoint in it to "
                       "accept the loss",
                       "%s begins at offset %lld, but the log starts at %lld", p->dir,
                       (long long)p->segs[0]->base, (long long)p->start);
    return drop_below_start(r);
}

/* Step 2: the first segment that is read; those before are taken as their index says. After a crash
 * that may only be done with what is known to be durable: an index can be on disk while the data
 * that it speaks of is not. */
static size_t verify_from(struct recovery *r)
{
    struct plog *p = r->p;
    struct store *s = p->s;
    int64_t budget = s->clean ? VERIFY_CLEAN_BYTES : VERIFY_UNCLEAN_BYTES, used = 0;
    if (s->o.verify_bytes > 0)
        budget = s->o.verify_bytes;
    size_t i = p->nsegs;
    if (budget > s->verify_left)
        budget = s->verify_left;
    for (; i > 0; i--) {
        bool must = !s->clean && (i == p->nsegs || p->segs[i]->base > r->known);
        if (!must && used + p->segs[i - 1]->size > budget)
            break;
        used += p->segs[i - 1]->size;
    }
    s->verify_left -= used < budget ? used : budget;
    return i;
}

/* Step 3: what the rest of the log says about the durable end. */
static int collect_statements(struct recovery *r, size_t i, int64_t pos, int64_t offset,
                              struct err *e)
{
    int rc = 0;
    for (; i < r->p->nsegs && rc == 0 && r->known <= offset; i++, pos = 0)
        rc = recover_statements(r, r->p->segs[i], pos, offset);
    return rc < 0 ? storage(r, rc, "read", e) : 0;
}

static int cut(struct recovery *r, size_t i, int64_t pos, struct err *e)
{
    struct plog *p = r->p;
    struct segment *g = p->segs[i];
    int64_t lost = -pos;
    for (size_t k = i; k < p->nsegs; k++)
        lost += p->segs[k]->size;
    log_warn(p->s->o.log, "torn tail cut off",
             "topic=%s partition=%d segment=%lld at=%lld bytes=%lld", log_q(p->t->name), p->index,
             (long long)g->base, (long long)pos, (long long)lost);
    int rc = 0;
    while (rc == 0 && p->nsegs > i + 1) { /* from the end, so that a crash here leaves no gap */
        rc = segment_unlink(p->segs[p->nsegs - 1], "log");
        if (rc == 0)
            segment_free(p->segs[--p->nsegs]);
    }
    if (rc == 0)
        rc = segment_open(g, false);
    if (rc == 0)
        rc = p->s->files->truncate(p->s->files, g->fd, pos);
    if (rc == 0)
        rc = segment_unlink(g, "index"); /* it must not fit the file by chance one day */
    if (rc < 0)
        return storage(r, rc, "cut the torn tail in", e);
    g->size = pos;
    r->changed = true;
    return 0;
}

/* The log is good up to byte pos of segment i, offset `at`. */
static int settle_end(struct recovery *r, size_t i, int64_t pos, int64_t at, struct err *e)
{
    int rc = collect_statements(r, i, pos, at, e);
    if (rc < 0)
        return rc;
    if (r->known > at)
        return damaged(r, r->p->segs[i], pos, at, e);
    return cut(r, i, pos, e);
}

static int read_segments(struct recovery *r, struct err *e)
{
    struct plog *p = r->p;
    size_t from = verify_from(r);
    int64_t expect = p->nsegs ? p->segs[0]->base : p->start;
    for (size_t i = 0; i < p->nsegs; i++) {
        struct segment *g = p->segs[i];
        int64_t size = g->size, good = size;
        if (i > 0 && g->base != expect)
            return settle_end(r, i - 1, p->segs[i - 1]->size, expect, e);
        bool last = i + 1 == p->nsegs;
        int rc = i < from ? index_load(g, size, last) : -ENOENT;
        if (rc < 0 && rc != -ENOMEM) {
            g->size = 0;
            rc = recover_verify(r, g, size, &good);
            g->size = size;
        }
        if (rc < 0)
            return storage(r, rc, "read", e);
        expect = g->end;
        if (good < size)
            return settle_end(r, i, good, expect, e);
        if (!last && g->indexed && index_save(g) == 0)
            index_drop(g);
    }
    return 0;
}

/* Step 5: from the known-durable end on, the same bytes once more, then a sync. */
static int rewrite(struct segment *g, int64_t from)
{
    char *room = malloc(REWRITE_BYTES);
    int rc = room ? segment_open(g, false) : -ENOMEM;
    while (rc == 0 && from < g->size) {
        int64_t left = g->size - from;
        size_t n = left < (int64_t)REWRITE_BYTES ? (size_t)left : REWRITE_BYTES;
        rc = segment_pread(g, room, n, from);
        if (rc == 0)
            rc = fo_write(g->p->s->files, g->fd, sl(room, n), from, NULL);
        from += (int64_t)n;
    }
    free(room);
    return rc < 0 ? rc : g->p->s->files->datasync(g->p->s->files, g->fd, SYNC_RECOVERED);
}

static int make_durable(struct recovery *r, struct err *e)
{
    struct plog *p = r->p;
    int rc = 0;
    if (p->nsegs == 0)
        return 0;
    if (p->s->o.sync == STORE_SYNC_NEVER) {
        p->folder_dirty = true;
        for (size_t i = 0; i < p->nsegs; i++)
            p->segs[i]->unsynced = p->segs[i]->end > r->known || r->changed;
        return 0;
    }
    /* An empty last segment may be there without its folder entry being durable. */
    if (r->known == p->end && !r->changed && (p->s->clean || plog_active(p)->size > 0))
        return 0;
    for (size_t i = 0; i < p->nsegs && rc == 0; i++) {
        struct segment *g = p->segs[i];
        int64_t from = 0;
        if (g->end <= r->known && i + 1 < p->nsegs)
            continue;
        if (g->base < r->known)
            rc = segment_find(g, r->known, g->size, &from);
        if (rc == 0)
            rc = rewrite(g, from);
    }
    if (rc == 0)
        rc = fo_sync_folder(p->s->files, p->dir, SYNC_RECOVERED_NAMES);
    return rc < 0 ? storage(r, rc, "sync", e) : 0;
}

/* Syncs switched off and a crash may leave a log that ends below its own start. */
static int begin_at_start(struct recovery *r, struct err *e)
{
    struct plog *p = r->p;
    if (p->end >= p->start)
        return 0;
    p->end = p->start;
    struct segment *g = plog_active(p), *empty = g && g->size == 0 ? g : NULL;
    p->nsegs -= empty != NULL; /* it is replaced: a roll wants something to seal */
    int rc = plog_roll(p, p->start);
    if (rc == 0)
        rc = fo_sync_folder(p->s->files, p->dir, SYNC_NEW_START_NAME);
    if (rc == 0 && empty) /* only now: without any segment the log would look lost */
        rc = segment_unlink(empty, "log");
    segment_free(empty);
    if (rc < 0)
        return storage(r, rc, "make a segment in", e);
    p->folder_dirty = false;
    for (size_t i = 0; i + 1 < p->nsegs; i++)
        p->segs[i]->dirty = false;
    plog_drop_old(p);
    return 0;
}

static void settle(const struct recovery *r)
{
    struct plog *p = r->p;
    p->nbytes = 0;
    for (size_t i = 0; i < p->nsegs; i++)
        p->nbytes += p->segs[i]->size;
    struct segment *g = plog_active(p);
    p->durable_end = p->end;
    p->synced = g ? (struct logpos){g->end, g->base, g->size} : (struct logpos){p->end, 0, 0};
    if (p->s->o.sync ==
        STORE_SYNC_NEVER) /* nothing was synced, so nothing more may be vouched for */
        p->synced = (struct logpos){r->known < p->end ? r->known : p->end, 0, 0};
}

/* Indexes of segments that are gone; snapshots of a history that was cut off, or that no start will
 * look for. */
static int clean_one(void *arg, const char *name)
{
    struct plog *p = arg;
    int64_t index = recover_name(name, "index"), snap = recover_name(name, "snapshot");
    int64_t base = index >= 0 ? index : snap;
    bool keep = base < 0 || (snap >= 0 && snap == p->end);
    for (size_t i = 0; i < p->nsegs && !keep; i++)
        keep = p->segs[i]->base == base && base <= p->end;
    if (keep)
        return 0;
    char *path = segment_path(p, base, index >= 0 ? "index" : "snapshot");
    int rc = path ? p->s->files->unlink(p->s->files, path) : -ENOMEM;
    free(path);
    return rc;
}

static int clean_folder(struct recovery *r, struct err *e)
{
    int rc = r->p->s->files->list(r->p->s->files, r->p->dir, clean_one, r->p);
    return rc < 0 ? storage(r, rc, "clean", e) : 0;
}

/* A process that was killed may have written the start and not come to the sync of it. */
static int sure_of_start(struct recovery *r, const struct checkpoint *c, struct err *e)
{
    struct plog *p = r->p;
    if (p->s->clean || !p->start_unsure || p->start == 0)
        return 0;
    p->synced = c->durable;
    int rc = checkpoint_write(p, SYNC_FOUND_START);
    return rc < 0 ? storage(r, rc, "sync the checkpoint in", e) : 0;
}

int plog_recover(struct plog *p, struct err *e)
{
    struct recovery r = {.p = p, .snapshot = -1, .now_ms = clock_wall_ms()};
    struct checkpoint c;
    bool found;
    buf_init(&r.window, WHOLE_MAX_BYTES);
    int rc = checkpoint_read(p, &c, &found, e);
    if (rc == 0) {
        p->start = c.log_start;
        r.known = c.durable.offset;
        rc = sure_of_start(&r, &c, e);
        if (rc == 0)
            rc = recover_swaps(p, e);
    }
    if (rc == 0)
        rc = list_files(&r, e);
    if (rc == 0)
        rc = check_names(&r, found, e);
    if (rc == 0)
        rc = read_segments(&r, e);
    if (rc == 0) {
        struct segment *g = plog_active(p);
        p->end = g ? g->end : p->start;
        if (r.known > p->end) /* step 4 */
            rc = damaged(&r, g, g->size, p->end, e);
    }
    if (rc == 0)
        rc = clean_folder(&r, e);
    if (rc == 0)
        rc = make_durable(&r, e);
    if (rc == 0 && p->nsegs && (rc = index_need(plog_active(p))) < 0)
        storage(&r, rc, "index", e);
    if (rc == 0 && (rc = recover_producers(&r)) < 0)
        storage(&r, rc, "read the producers of", e);
    if (rc == 0)
        rc = begin_at_start(&r, e);
    if (rc == 0) {
        settle(&r);
        cleaned_load(p);
    }
    buf_free(&r.window);
    return rc;
}
