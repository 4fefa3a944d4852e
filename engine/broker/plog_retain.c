/* What leaves a partition: the log start, retention, rolling by age; and the checkpoint. Owning
 * thread: the broker's.
 *
 * Order, so that a crash at any point loses nothing that should stay and brings back nothing that
 * was deleted: the new log start is synced in the checkpoint, then the call answers, then whole
 * segments below it are deleted. The last segment is never deleted, because its name is what
 * remembers the end offset; a segment is deleted only when the folder entry of the last one is
 * durable. */
#include <errno.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/store_int.h"

/* The entry of the last segment is on its way to disk or not yet there. */
static bool folder_pending(struct plog *p)
{
    if (p->job.out && p->job.folder_fd >= 0)
        return true;
    if (p->folder_dirty && p->s->o.sync != STORE_SYNC_ALWAYS &&
        fo_sync_folder(p->s->files, p->dir, SYNC_LATE_NAME) == 0)
        p->folder_dirty = false;
    return p->folder_dirty;
}

void plog_drop_old(struct plog *p)
{
    size_t n = 0;
    while (n + 1 < p->nsegs && p->segs[n]->end <= p->start && !p->segs[n]->in_job &&
           !p->segs[n]->swapping)
        n++;
    if (n == 0 || folder_pending(p))
        return;
    size_t done = 0;
    for (; done < n; done++) {
        struct segment *g = p->segs[done];
        FAILPOINT("log.delete");
        int rc = segment_unlink(g, "log");
        if (rc < 0) {
            log_warn(p->s->o.log, "segment not deleted, tried again later",
                     "topic=%s partition=%d segment=%lld error=%s", log_q(p->t->name), p->index,
                     (long long)g->base, log_q(strerror(-rc)));
            break;
        }
        (void)segment_unlink(
            g, "index"); /* left over they are ignored and removed at the next start */
        (void)segment_unlink(g, "snapshot");
        p->nbytes -= g->size;
        segment_free(g);
    }
    p->nsegs -= done;
    memmove(p->segs, p->segs + done, p->nsegs * sizeof *p->segs);
}

int plog_set_start(struct plog *p, int64_t start)
{
    int64_t before = p->start;
    p->start = start;
    FAILPOINT("log.start.before");
    int rc = checkpoint_write(p, SYNC_START);
    if (rc < 0) {
        p->start = before;
        return rc;
    }
    FAILPOINT("log.start.after");
    plog_drop_old(p);
    return 0;
}

int plog_delete_to(struct plog *p, int64_t offset, int64_t *ret_start)
{
    if (p->failed)
        return -EIO;
    if (offset == -1)
        offset = p->durable_end;
    if (offset < 0 || offset > p->durable_end)
        return -ERANGE;
    if (offset > p->start) {
        int rc = plog_set_start(p, offset);
        if (rc < 0)
            return rc == -ENOSPC || rc == -ENOMEM ? rc : -EIO;
    }
    *ret_start = p->start;
    return 0;
}

static bool expired(const struct plog *p, const struct segment *g, int64_t now_ms)
{
    const struct topic_conf *c = &p->t->conf;
    int64_t newest = g->max_ms >= 0 ? g->max_ms : g->first_ms;
    return c->del && c->retention_ms >= 0 && g->size > 0 && newest < now_ms - c->retention_ms;
}

static void roll_by_age(struct plog *p, int64_t now_ms)
{
    struct segment *g = plog_active(p);
    const struct topic_conf *c = &p->t->conf;
    if (!g || g->size == 0)
        return;
    bool old = segment_age_ms(c) > 0 && now_ms - g->first_ms >= segment_age_ms(c);
    bool useless = p->durable_end == p->end && (p->start == p->end || expired(p, g, now_ms));
    if (!old && !useless)
        return;
    int rc = plog_roll(p, p->end);
    if (rc < 0)
        log_warn(p->s->o.log, "segment not rolled", "topic=%s partition=%d error=%s",
                 log_q(p->t->name), p->index, log_q(strerror(-rc)));
    else
        sync_request(p);
}

static void retain(struct plog *p, int64_t now_ms)
{
    const struct topic_conf *c = &p->t->conf;
    int64_t start = p->start, size = p->nbytes;
    for (size_t i = 0; i + 1 < p->nsegs && p->segs[i]->end <= p->durable_end; i++) {
        const struct segment *g = p->segs[i];
        bool over = c->del && c->retention_bytes >= 0 && size - g->size >= c->retention_bytes;
        if (g->end > p->start && !over && !expired(p, g, now_ms))
            break;
        size -= g->size;
        if (g->end > start)
            start = g->end;
    }
    int rc = start > p->start ? plog_set_start(p, start) : 0;
    if (rc < 0)
        log_warn(p->s->o.log, "retention not applied", "topic=%s partition=%d error=%s",
                 log_q(p->t->name), p->index, log_q(strerror(-rc)));
    plog_drop_old(p);
}

void plog_tick(struct plog *p, int64_t now_ms)
{
    if (p->failed)
        return;
    roll_by_age(p, now_ms);
    retain(p, now_ms);
    producers_expire(&p->producers, now_ms);
    if (p->s->o.sync != STORE_SYNC_NEVER)
        sync_push(p); /* with syncs always on there is only something to do if one had to wait */
    if (p->synced.offset == p->saved.offset && p->start == p->saved_start)
        return;
    int rc = checkpoint_write(p, CHECKPOINT_UNSYNCED);
    if (rc < 0)
        log_warn(p->s->o.log, "checkpoint not written", "topic=%s partition=%d error=%s",
                 log_q(p->t->name), p->index, log_q(strerror(-rc)));
}
