/* Reading segments whole for recovery: verifying, searching behind damage, replaying producers.
 *
 * Owning thread: the one that opens the store. A window of the file slides forward; a batch larger
 * than it makes it grow, up to what is left of the file. */
#include <errno.h>
#include <stdlib.h>

#include "broker/recover_int.h"

#define WINDOW_BYTES       ((size_t)1 << 20)
#define SNAPSHOT_MAX_BYTES ((size_t)16 << 20)

static void window_forget(struct recovery *r)
{
    buf_trim(&r->window, WINDOW_BYTES);
    r->window_at = 0;
}

/* The n bytes at pos, which the file holds. */
static int window(struct recovery *r, struct segment *g, int64_t size, int64_t pos, size_t n,
                  const char **ret)
{
    int64_t at = pos - r->window_at;
    if (at < 0 || at + (int64_t)n > (int64_t)r->window.n) {
        size_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES;
        if ((int64_t)want > size - pos)
            want = (size_t)(size - pos);
        buf_reset(&r->window);
        char *to = buf_reserve(&r->window, want);
        int rc = to ? segment_pread(g, to, want, pos) : -ENOMEM;
        if (rc < 0)
            return rc;
        buf_commit(&r->window, want);
        r->window_at = pos;
        at = 0;
    }
    *ret = r->window.p + at;
    return 0;
}

/* 1: a good batch stands at pos; 0: none does. */
static int good_batch(struct recovery *r, struct segment *g, int64_t size, int64_t pos,
                      int64_t least, struct batch *b)
{
    const char *p;
    if (size - pos < BATCH_HEAD_BYTES)
        return 0;
    int rc = window(r, g, size, pos, BATCH_HEAD_BYTES, &p);
    if (rc < 0)
        return rc;
    if (!batch_head(p, BATCH_HEAD_BYTES, b) || (int64_t)b->size > size - pos || b->base < least ||
        !batch_stamp_ok(p, b, g->p->salt))
        return 0;
    rc = window(r, g, size, pos, b->size, &p);
    if (rc < 0)
        return rc;
    return batch_crc_ok(p, b);
}

static void state(struct recovery *r, const struct batch *b)
{
    int64_t durable = batch_durable(b);
    if (durable > r->known)
        r->known = durable;
}

int recover_verify(struct recovery *r, struct segment *g, int64_t size, int64_t *ret_good)
{
    struct batch b;
    int64_t pos = 0;
    int rc;
    window_forget(r);
    while ((rc = good_batch(r, g, size, pos, g->end, &b)) > 0) {
        /* When it was written is not kept; its own time serves, unless it is none or in the future.
         */
        int64_t ms = b.max_ms >= 0 && b.max_ms < r->now_ms ? b.max_ms : r->now_ms;
        segment_note(g, &b, pos, ms);
        state(r, &b);
        pos += (int64_t)b.size;
    }
    if (rc < 0)
        return rc;
    g->indexed = true;
    *ret_good = pos;
    return 0;
}

/* The next byte at or after pos where a header's magic could stand; size when there is none. */
static int next_candidate(struct recovery *r, struct segment *g, int64_t size, int64_t pos,
                          int64_t *ret)
{
    while (size - pos >= BATCH_HEAD_BYTES) {
        const char *p;
        int rc = window(r, g, size, pos, BATCH_HEAD_BYTES, &p);
        if (rc < 0)
            return rc;
        size_t n = r->window.n - (size_t)(pos - r->window_at);
        const char *hit = memchr(p + 16, 2, n - 16);
        if (hit) {
            *ret = pos + (hit - p) - 16;
            return 0;
        }
        pos += (int64_t)n - 16;
    }
    *ret = size;
    return 0;
}

int recover_statements(struct recovery *r, struct segment *g, int64_t pos, int64_t offset)
{
    struct batch b;
    int64_t size = g->size;
    window_forget(r);
    while (r->known <= offset) {
        int rc = next_candidate(r, g, size, pos, &pos);
        if (rc < 0 || pos >= size)
            return rc;
        rc = good_batch(r, g, size, pos, offset, &b);
        if (rc < 0)
            return rc;
        if (rc > 0)
            state(r, &b);
        pos += rc > 0 ? (int64_t)b.size : 1;
    }
    return 0;
}

/* 0 or -ENOENT when it is not there, is damaged or speaks of another offset. */
static int load_snapshot(struct plog *p, int64_t offset)
{
    struct buf b;
    int64_t at = -1;
    buf_init(&b, SNAPSHOT_MAX_BYTES);
    char *path = segment_path(p, offset, "snapshot");
    int rc = path ? fo_read_file(p->s->files, path, &b) : -ENOMEM;
    if (rc == 0)
        rc = producers_load(&p->producers, buf_slice(&b), &at);
    free(path);
    buf_free(&b);
    return rc == -ENOMEM ? rc : rc < 0 || at != offset ? -ENOENT : 0;
}

/* The newest snapshot at or below the end: at a clean stop the end's own, else at a segment's base.
 */
static int newest_snapshot(struct recovery *r, int64_t *ret_from)
{
    struct plog *p = r->p;
    int rc = r->snapshot == p->end ? load_snapshot(p, p->end) : -ENOENT;
    *ret_from = p->end;
    for (size_t i = p->nsegs; i > 0 && rc == -ENOENT; i--) {
        *ret_from = p->segs[i - 1]->base;
        rc = load_snapshot(p, *ret_from);
    }
    if (rc == -ENOENT && p->nsegs) { /* none: from the first record on */
        producers_free(&p->producers);
        producers_init(&p->producers);
        *ret_from = p->segs[0]->base;
        rc = 0;
    }
    return rc;
}

static int replay(struct recovery *r, struct segment *g, int64_t from)
{
    struct segment_walk w = {.g = g, .limit = g->size};
    struct batch b;
    int64_t pos;
    int rc = g->base < from ? segment_find(g, from, g->size, &w.pos) : 0;
    while (rc == 0 && (rc = segment_next(&w, &b, &pos)) > 0) {
        /* As if just now: its time may be an event's of long ago, and the producer may be about to
         * repeat it. */
        rc = b.pid >= 0 ? producers_note(&g->p->producers, &b, r->now_ms) : 0;
    }
    return rc;
}

int recover_producers(struct recovery *r)
{
    struct plog *p = r->p;
    int64_t from;
    if (p->nsegs == 0)
        return 0;
    int rc = newest_snapshot(r, &from);
    for (size_t i = 0; i < p->nsegs && rc == 0; i++)
        if (p->segs[i]->end > from)
            rc = replay(r, p->segs[i], from);
    return rc;
}
