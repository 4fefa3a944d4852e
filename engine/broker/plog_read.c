/* Reading a partition: by offset, by time, record by record. Owning thread: the broker's.
 *
 * Invariant: nothing at or beyond the durable end and nothing below the log start is shown,
 * whatever the file holds. A consumer that reads on finds its place by the hint that its last read
 * left; others by the sparse index. The stamp in the batches is the log's own; readers get leader
 * epoch 0 in its place. */
#include <errno.h>

#include "broker/store_int.h"

#define EACH_BYTES ((size_t)1 << 20)

/* The segment in which the offset lies. */
static size_t segment_at(const struct plog *p, int64_t offset)
{
    size_t lo = 0, hi = p->nsegs;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->segs[mid]->base <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? lo - 1 : 0;
}

static int locate(struct plog *p, struct segment *g, int64_t offset, int64_t limit,
                  int64_t *ret_pos)
{
    for (int i = 0; i < HINTS; i++) {
        const struct read_hint *h = &p->hints[i];
        if (h->offset == offset && h->base == g->base && h->pos > 0 && h->pos <= limit) {
            *ret_pos = h->pos;
            return 0;
        }
    }
    return segment_find(g, offset, limit, ret_pos);
}

static void leave_hint(struct plog *p, const struct segment *g, int64_t offset, int64_t pos)
{
    for (int i = 0; i < HINTS; i++)
        if (p->hints[i].offset == offset && p->hints[i].base == g->base)
            return;
    p->hints[p->next_hint++ % HINTS] = (struct read_hint){offset, g->base, pos};
}

/* How many of the n bytes at `at` are whole batches; hides their stamps. *ret_next: the offset
 * behind them. */
static int whole_batches(char *at, size_t n, size_t *ret_used, int64_t *ret_next)
{
    size_t used = 0;
    struct batch b;
    while (n - used >= BATCH_HEAD_BYTES) {
        if (!batch_head(at + used, n - used, &b))
            return -EIO;
        if (b.size > n - used)
            break;
        save32(at + used + 12, 0);
        used += b.size;
        *ret_next = batch_end(&b);
    }
    *ret_used = used;
    return 0;
}

/* One piece of one segment. *ret_used 0: not even one batch fits into `max`. */
static int read_piece(struct segment *g, int64_t pos, int64_t limit, size_t max, bool at_least_one,
                      struct buf *b, size_t *ret_used, int64_t *ret_next)
{
    size_t left = (size_t)(limit - pos), n = max < left ? max : left, room = b->max - b->n;
    if (at_least_one) {
        char head[BATCH_HEAD_BYTES];
        struct batch first;
        int rc = left >= sizeof head ? segment_pread(g, head, sizeof head, pos) : -EIO;
        if (rc < 0)
            return rc;
        if (!batch_head(head, sizeof head, &first) || first.size > left)
            return -EIO;
        if (first.size > room)
            return -ENOBUFS;
        if (n < first.size)
            n = first.size;
    }
    if (n > room)
        n = room;
    *ret_used = 0;
    char *to = n >= BATCH_HEAD_BYTES ? buf_reserve(b, n) : NULL;
    if (!to)
        return buf_error(b);
    int rc = segment_pread(g, to, n, pos);
    if (rc == 0)
        rc = whole_batches(to, n, ret_used, ret_next);
    if (rc == 0)
        buf_commit(b, *ret_used);
    return rc;
}

static int report(struct plog *p, struct segment *g, int rc)
{
    if (rc == -EIO)
        log_error(p->s->o.log, "segment unreadable", "topic=%s partition=%d segment=%lld",
                  log_q(p->t->name), p->index, (long long)g->base);
    return rc == -ENOMEM || rc == -ENOBUFS ? rc : rc < 0 ? -EIO : 0;
}

int plog_read(struct plog *p, int64_t offset, size_t max_bytes, bool at_least_one, struct buf *b)
{
    size_t before = b->n;
    if (p->failed)
        return -EIO;
    if (offset < p->start || offset > p->durable_end)
        return -ERANGE;
    for (size_t i = segment_at(p, offset); i < p->nsegs && offset < p->durable_end; i++) {
        struct segment *g = p->segs[i];
        int64_t pos, limit = plog_limit(p, g), next = offset;
        size_t used = 0, done = b->n - before;
        int rc = locate(p, g, offset, limit, &pos);
        if (rc == 0 && pos >= limit)
            continue;
        if (rc == 0)
            rc = read_piece(g, pos, limit, max_bytes > done ? max_bytes - done : 0,
                            at_least_one && done == 0, b, &used, &next);
        if (rc < 0)
            return done ? 0 : report(p, g, rc); /* what was read so far is good */
        if (used == 0)
            break;
        leave_hint(p, g, next, pos + (int64_t)used);
        offset = next;
        if (pos + (int64_t)used < limit)
            break;
    }
    return 0;
}

size_t plog_readable(struct plog *p, int64_t offset, size_t max)
{
    size_t n = 0;
    if (p->failed || offset < p->start)
        return max; /* the read will say what is wrong */
    if (offset >= p->durable_end)
        return 0;
    for (size_t i = segment_at(p, offset); i < p->nsegs && n < max; i++) {
        struct segment *g = p->segs[i];
        int64_t pos = 0, limit = plog_limit(p, g);
        if (g->base < offset && locate(p, g, offset, limit, &pos) < 0)
            return max;
        n += (size_t)(limit - pos);
    }
    return n < max ? n : max;
}

/* One whole batch and its records, good until the next call. */
static int load_batch(struct segment *g, const struct batch *b, int64_t pos, struct slice *ret)
{
    struct store *s = g->p->s;
    buf_reset(&s->whole);
    char *to = buf_reserve(&s->whole, b->size);
    int rc = to ? segment_pread(g, to, b->size, pos) : -ENOMEM;
    if (rc == 0 && !batch_crc_ok(to, b))
        rc = -EIO;
    if (rc == 0)
        rc = batch_records(to, b, &s->scratch, ret);
    return rc == -ENOMEM ? rc : rc < 0 ? -EIO : 0;
}

static void trim(struct store *s)
{
    buf_trim(&s->whole, SCRATCH_KEEP_BYTES);
    buf_trim(&s->scratch, SCRATCH_KEEP_BYTES);
}

/* The first record of the batch at or above the log start with at least this timestamp. 1: found.
 */
static int record_at(struct segment *g, const struct batch *b, int64_t pos, int64_t ms,
                     int64_t *ret_offset, int64_t *ret_ms)
{
    struct slice rest;
    struct record r;
    int rc = load_batch(g, b, pos, &rest);
    if (rc < 0)
        return rc;
    while (record_next(&rest, &r)) {
        if (b->base + r.delta < g->p->start || record_ms(b, &r) < ms)
            continue;
        *ret_offset = b->base + r.delta;
        *ret_ms = record_ms(b, &r);
        return 1;
    }
    return rest.n ? -EIO : 0;
}

static int time_in_segment(struct segment *g, int64_t ms, int64_t *ret_offset, int64_t *ret_ms)
{
    struct segment_walk w = {.g = g, .limit = plog_limit(g->p, g)};
    struct batch b;
    int64_t pos;
    int rc = segment_time_floor(g, ms, &w.pos);
    while (rc == 0 && (rc = segment_next(&w, &b, &pos)) > 0) {
        rc = 0;
        if (b.max_ms >= ms && batch_end(&b) > g->p->start)
            rc = record_at(g, &b, pos, ms, ret_offset, ret_ms);
    }
    return rc;
}

int plog_by_time(struct plog *p, int64_t ms, int64_t *ret_offset, int64_t *ret_ms)
{
    if (p->failed)
        return -EIO;
    *ret_offset = *ret_ms = -1;
    int rc = 0;
    for (size_t i = segment_at(p, p->start); i < p->nsegs && rc == 0; i++) {
        struct segment *g = p->segs[i];
        if (g->max_ms < ms || plog_limit(p, g) == 0)
            continue;
        rc = time_in_segment(g, ms, ret_offset, ret_ms);
        if (rc < 0)
            return report(p, g, rc);
    }
    trim(p->s);
    return 0;
}

/* The largest timestamp among the batches that readers see; segments that are seen whole know it.
 */
static int max_in_segment(struct segment *g, int64_t *ms, int64_t *base, struct segment **ret)
{
    struct plog *p = g->p;
    int64_t limit = plog_limit(p, g), pos;
    if (limit == g->size && g->base >= p->start) {
        if (g->max_ms > *ms) {
            *ms = g->max_ms;
            *base = g->max_base;
            *ret = g;
        }
        return 0;
    }
    struct segment_walk w = {.g = g, .limit = limit};
    struct batch b;
    int rc = segment_find(g, p->start, limit, &w.pos);
    while (rc == 0 && (rc = segment_next(&w, &b, &pos)) > 0) {
        rc = 0;
        if (b.max_ms > *ms) {
            *ms = b.max_ms;
            *base = b.base;
            *ret = g;
        }
        if (w.pos >= limit)
            break;
    }
    return rc;
}

int plog_max_time(struct plog *p, int64_t *ret_offset, int64_t *ret_ms)
{
    int64_t ms = -1, base = -1, pos;
    struct segment *g = NULL;
    int rc = p->failed ? -EIO : 0;
    for (size_t i = segment_at(p, p->start); i < p->nsegs && rc == 0; i++)
        rc = max_in_segment(p->segs[i], &ms, &base, &g);
    if (rc < 0)
        return rc == -ENOMEM ? rc : -EIO;
    *ret_offset = *ret_ms = -1;
    if (!g)
        return 0;
    struct batch b;
    struct segment_walk w = {.g = g, .limit = plog_limit(p, g)};
    rc = segment_find(g, base, w.limit, &w.pos);
    if (rc == 0 && segment_next(&w, &b, &pos) > 0) {
        /* The start may lie in this batch, behind its largest: then what is left decides. */
        rc = record_at(g, &b, pos, ms, ret_offset, ret_ms);
        if (rc == 0)
            rc = record_at(g, &b, pos, INT64_MIN, ret_offset, ret_ms);
    }
    trim(p->s);
    return rc < 0 ? report(p, g, rc) : 0;
}

static int each_record(struct plog *p, const char *at, const struct batch *b, int64_t from,
                       int (*fn)(void *arg, int64_t offset, struct slice key, struct slice value,
                                 bool null_value),
                       void *arg)
{
    struct slice rest;
    struct record r;
    if (!batch_crc_ok(at, b) || batch_records(at, b, &p->s->scratch, &rest) < 0)
        return -EIO;
    while (!(b->attributes & BATCH_CONTROL) && record_next(&rest, &r)) {
        if (b->base + r.delta < from)
            continue;
        int rc = fn(arg, b->base + r.delta, r.key, r.value, r.null_value);
        if (rc)
            return rc;
    }
    return 0;
}

int plog_each(struct plog *p, int64_t from,
              int (*fn)(void *arg, int64_t offset, struct slice key, struct slice value,
                        bool null_value),
              void *arg)
{
    struct buf b;
    int rc = 0;
    buf_init(&b, WHOLE_MAX_BYTES);
    int64_t at = from < p->start ? p->start : from, next = at;
    while (rc == 0 && next < p->durable_end) {
        struct batch h;
        buf_reset(&b);
        rc = plog_read(p, next, EACH_BYTES, true, &b);
        if (rc == 0 && b.n == 0)
            break; /* a gap up to the end */
        for (size_t i = 0; rc == 0 && i < b.n; i += h.size) {
            rc = batch_head(b.p + i, b.n - i, &h) ? each_record(p, b.p + i, &h, at, fn, arg) : -EIO;
            next = batch_end(&h);
        }
    }
    buf_free(&b);
    trim(p->s);
    return rc;
}
