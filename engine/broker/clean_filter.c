/* What the cleaner leaves of a batch. Pure but for its counters; the cleaner's thread.
 *
 * A record stays if it has a key, no record with the same key follows it below map_end, and it is
 * no tombstone whose time is over. A tombstone's time: the first pass that sees it writes into its
 * batch when it may go (BATCH_HORIZON); a pass at or after that time drops it. By then every older
 * record of its key is gone, because passes go upwards.
 *
 * A batch keeps its base offset, last offset, producer, sequence and codec, so offsets have holes
 * and nothing moves. Without records it stays, as a header with count 0, if a producer may still
 * repeat it (the log then knows the repeat after a restart too) or if it ends a segment (the
 * segment's end stays in the file, and segments still abut). Batches of transactions are left as
 * they are. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "broker/clean_int.h"

static int by_offset(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static bool repeatable(const struct clean_filter *f, const struct batch *b)
{
    return b->pid >= 0 && f->nkept &&
           bsearch(&b->base, f->kept, f->nkept, sizeof *f->kept, by_offset) != NULL;
}

/* *ret_tombstone: it stays and is one. */
static bool stays(struct clean_filter *f, const struct batch *b, const struct record *r,
                  bool *ret_tombstone)
{
    int64_t offset = b->base + r->delta;
    f->n.records++;
    if (offset >= f->map_end)
        return true;
    if (offset < f->start) {
        f->n.below_start++;
        return false;
    }
    if (r->null_key) {
        f->n.without_key++;
        return false;
    }
    if (key_map_get(f->map, r->key) > offset) {
        f->n.superseded++;
        return false;
    }
    if (r->null_value && b->attributes & BATCH_HORIZON && b->base_ms <= f->now_ms) {
        f->n.tombstones++;
        return false;
    }
    *ret_tombstone |= r->null_value;
    return true;
}

/* What stays of the records, into f->records. */
static int pick(struct clean_filter *f, const struct batch *b, struct slice rest, int32_t *ret_n,
                int64_t *ret_max_ms, bool *ret_tombstone)
{
    struct record r;
    int32_t n = 0;
    buf_reset(&f->records);
    for (const char *at = rest.p; record_next(&rest, &r); at = rest.p) {
        if (!stays(f, b, &r, ret_tombstone))
            continue;
        int64_t ms = record_ms(b, &r);
        if (n++ == 0 || ms > *ret_max_ms)
            *ret_max_ms = ms;
        buf_add(&f->records, at, (size_t)(rest.p - at));
    }
    *ret_n = n;
    return rest.n ? -EBADMSG : buf_error(&f->records);
}

/* Gives the picked records time stamps relative to the horizon. False: one can't be expressed so.
 */
static bool redate(struct clean_filter *f, const struct batch *b)
{
    struct slice rest = buf_slice(&f->records);
    struct record r;
    struct buf out;
    bool good = true;
    buf_init(&out, BATCH_UNPACKED_MAX);
    for (const char *at = rest.p; good && record_next(&rest, &r); at = rest.p) {
        int64_t delta;
        good = !__builtin_add_overflow(b->base_ms, r.delta_ms, &delta) &&
               !__builtin_sub_overflow(delta, f->horizon_ms, &delta) &&
               record_redate(&out, sl(at, (size_t)(rest.p - at)), delta);
    }
    if (!good || buf_error(&out)) {
        buf_free(&out);
        return false;
    }
    buf_free(&f->records);
    f->records = out;
    return true;
}

/* Length, stamp and CRC of the batch that was begun at out->p + at. The statement in its stamp
 * stays: what was durable then is so now. */
static void seal(const struct clean_filter *f, struct buf *out, size_t at, const struct batch *b)
{
    char *p = out->p + at;
    size_t n = out->n - at;
    int64_t durable = batch_durable(b);
    save32(p + 8, (int32_t)(n - BATCH_LENGTH_AT));
    batch_stamp(p, b->base, durable < 0 ? b->base - STAMP_NO_LAG : durable, f->salt);
    save32(p + 17, (int32_t)crc32c(0, p + 21, n - 21));
}

static int write_records(struct clean_filter *f, const char *p, const struct batch *b, int32_t n,
                         int64_t max_ms, bool horizon, struct buf *out)
{
    size_t at = out->n;
    int codec = b->attributes & BATCH_CODEC;
    buf_add(out, p, BATCH_HEAD_BYTES);
    int rc = codec ? recompress(codec, buf_slice(&f->records), out)
                   : buf_add_slice(out, buf_slice(&f->records));
    if (rc < 0)
        return rc;
    char *h = out->p + at;
    if (horizon) {
        save16(h + 21, (int16_t)(b->attributes | BATCH_HORIZON));
        save64(h + 27, f->horizon_ms);
    }
    save64(h + 35, b->attributes & BATCH_LOG_APPEND_TIME ? b->max_ms : max_ms);
    save32(h + 57, n);
    seal(f, out, at, b);
    return 0;
}

static int write_empty(const struct clean_filter *f, const char *p, const struct batch *b,
                       struct buf *out)
{
    size_t at = out->n;
    int rc = buf_add(out, p, BATCH_HEAD_BYTES);
    if (rc < 0)
        return rc;
    char *h = out->p + at;
    save16(h + 21, 0);
    save64(h + 27, -1);
    save64(h + 35, -1); /* no time: it holds no record that a search could mean */
    save32(h + 57, 0);
    seal(f, out, at, b);
    return 0;
}

static void note_horizon(struct clean_filter *f, int64_t ms)
{
    if (ms > f->latest_horizon_ms)
        f->latest_horizon_ms = ms;
}

int clean_batch(struct clean_filter *f, const char *p, const struct batch *b, bool keep,
                struct buf *out, enum clean_verdict *ret)
{
    struct slice rest;
    int32_t n = 0;
    int64_t max_ms = -1;
    bool tombstone = false;
    *ret = CLEAN_SAME;
    if (b->attributes & (BATCH_CONTROL | BATCH_TRANSACTIONAL) || b->base >= f->map_end)
        return 0;
    keep |= repeatable(f, b);
    if (b->count == 0) {
        *ret = keep ? CLEAN_SAME : CLEAN_NONE;
        return 0;
    }
    int rc = batch_records(p, b, &f->unpacked, &rest);
    if (rc == 0)
        rc = pick(f, b, rest, &n, &max_ms, &tombstone);
    if (rc < 0)
        return rc == -EMSGSIZE ? -EBADMSG : rc;
    if (n == 0) {
        *ret = keep ? CLEAN_EMPTY : CLEAN_NONE;
        return keep ? write_empty(f, p, b, out) : 0;
    }
    bool marked = b->attributes & BATCH_HORIZON;
    bool horizon = tombstone && !marked && batch_end(b) <= f->map_end && redate(f, b);
    if (tombstone && (marked || horizon))
        note_horizon(f, marked ? b->base_ms : f->horizon_ms);
    if (n == b->count && !horizon)
        return 0;
    *ret = CLEAN_LESS;
    return write_records(f, p, b, n, max_ms, horizon, out);
}
