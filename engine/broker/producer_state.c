/* Idempotent producers of one partition. Owning thread: the broker's.
 *
 * A producer is absent (never seen, or forgotten: any sequence is taken), reserved (n == 0: its
 * first batch is about to be written) or known. Rules, in this order: older epoch: refused; newer
 * epoch: must begin at sequence 0 and forgets the batches of the old one; same first and last
 * sequence as one of the last five batches: a duplicate, answered with its offset; follows the last
 * sequence (2^31 - 1 is followed by 0): written; wholly within the sequences that are known to be
 * in the log: an old duplicate; else: out of order.
 *
 * The snapshot file NAME.snapshot, big-endian:
 *      0   4  "TMPS"         4  4  version, 1
 *      8   8  offset: the state holds what lies below it
 *     16   4  count         20  4  CRC-32C of all that follows
 *     24      per producer: id 8, last write in ms 8, known 8, epoch 2, batches 2, and per batch
 *             base offset 8, first and last sequence 4 each
 * It spares recovery the reading of old segments, is never needed for correctness and therefore
 * never synced. */
#include "broker/producer_state_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

#define SNAPSHOT_HEAD_BYTES 24
#define PRODUCER_BYTES      28
#define BATCH_BYTES         16
#define SEQUENCES           ((int64_t)1 << 31)

void producers_init(struct producers *ps)
{
    imap_init(&ps->by_id);
    list_init(&ps->old);
}

static void forget(struct producers *ps, struct producer *p)
{
    imap_del(&ps->by_id, p->pid);
    list_del(&p->node);
    free(p);
}

void producers_free(struct producers *ps)
{
    while (!list_empty(&ps->old))
        forget(ps, LIST_ENTRY(ps->old.next, struct producer, node));
    imap_free(&ps->by_id);
}

static struct producer *get(struct producers *ps, int64_t pid)
{
    return imap_get(&ps->by_id, pid);
}

static struct producer *add(struct producers *ps, int64_t pid)
{
    struct producer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->pid = pid;
    if (ps->by_id.n >= PRODUCERS_MAX)
        forget(ps, LIST_ENTRY(ps->old.next, struct producer, node));
    if (imap_put(&ps->by_id, pid, p) < 0) {
        free(p);
        return NULL;
    }
    list_push(&ps->old, &p->node);
    return p;
}

static int32_t last_seq(const struct batch *b)
{
    return (int32_t)(((int64_t)b->base_seq + b->last_delta) % SEQUENCES);
}

/* How many steps from sequence a forward to b. */
static int64_t steps(int32_t a, int32_t b)
{
    return ((int64_t)b - a + SEQUENCES) % SEQUENCES;
}

enum append_error producers_check(struct producers *ps, const struct batch *b, int64_t now_ms,
                                  int64_t *ret_base, const char **ret_why)
{
    struct producer *p = get(ps, b->pid);
    *ret_base = -1;
    if (!p && !(p = add(ps, b->pid))) {
        *ret_why = "no memory for the producer's state";
        return APPEND_STORAGE;
    }
    if (p->n == 0) {
        p->last_ms = now_ms;
        return APPEND_OK;
    }
    if (b->epoch < p->epoch) {
        *ret_why = "a newer instance of this producer has written";
        return APPEND_BAD_EPOCH;
    }
    if (b->epoch > p->epoch) {
        *ret_why = "a new producer epoch must begin at sequence 0";
        return b->base_seq == 0 ? APPEND_OK : APPEND_OUT_OF_ORDER;
    }
    for (int i = 0; i < p->n; i++) {
        if (p->v[i].first_seq == b->base_seq && p->v[i].last_seq == last_seq(b)) {
            *ret_base = p->v[i].base;
            return APPEND_OK;
        }
    }
    int32_t last = p->v[p->n - 1].last_seq;
    if (steps(last, b->base_seq) == 1)
        return APPEND_OK;
    int64_t back = steps(b->base_seq, last); /* from its first sequence to our last one */
    if (back < p->known && b->last_delta <= back) {
        *ret_why = "these records are in the log already, too far back to tell their offset";
        return APPEND_DUPLICATE_OLD;
    }
    *ret_why = "the producer's sequence does not follow its last one";
    return APPEND_OUT_OF_ORDER;
}

int producers_note(struct producers *ps, const struct batch *b, int64_t now_ms)
{
    struct producer *p = get(ps, b->pid);
    if (!p && !(p = add(ps, b->pid)))
        return -ENOMEM;
    bool follows = p->n && p->epoch == b->epoch && steps(p->v[p->n - 1].last_seq, b->base_seq) == 1;
    if (!follows) {
        p->n = 0;
        p->known = 0;
    }
    if (p->n == PRODUCER_BATCHES) {
        memmove(p->v, p->v + 1, sizeof p->v[0] * (PRODUCER_BATCHES - 1));
        p->n--;
    }
    p->v[p->n++] = (struct producer_batch){b->base, b->base_seq, last_seq(b)};
    p->known += b->last_delta + 1;
    if (p->known > SEQUENCES / 2)
        p->known = SEQUENCES / 2; /* beyond it old and new sequences could not be told apart */
    p->epoch = b->epoch;
    p->last_ms = now_ms;
    list_del(&p->node);
    list_push(&ps->old, &p->node);
    return 0;
}

void producers_expire(struct producers *ps, int64_t now_ms)
{
    while (!list_empty(&ps->old)) {
        struct producer *p = LIST_ENTRY(ps->old.next, struct producer, node);
        if (now_ms - p->last_ms < PRODUCER_EXPIRATION_MS)
            return;
        forget(ps, p);
    }
}

static void save_producer(const struct producer *p, struct buf *b)
{
    char t[PRODUCER_BYTES];
    save64(t, p->pid);
    save64(t + 8, p->last_ms);
    save64(t + 16, p->known);
    save16(t + 24, p->epoch);
    save16(t + 26, p->n);
    buf_add(b, t, sizeof t);
    for (int i = 0; i < p->n; i++) {
        char v[BATCH_BYTES];
        save64(v, p->v[i].base);
        save32(v + 8, p->v[i].first_seq);
        save32(v + 12, p->v[i].last_seq);
        buf_add(b, v, sizeof v);
    }
}

int producers_save(const struct producers *ps, int64_t offset, struct buf *b)
{
    char head[SNAPSHOT_HEAD_BYTES] = "TMPS";
    size_t at = b->n;
    int32_t count = 0;
    buf_add(b, head, sizeof head);
    LIST_EACH(it, &ps->old)
    {
        const struct producer *p = LIST_ENTRY(it, struct producer, node);
        if (p->n == 0)
            continue;
        save_producer(p, b);
        count++;
    }
    if (buf_error(b))
        return buf_error(b);
    char *h = b->p + at;
    save32(h + 4, 1);
    save64(h + 8, offset);
    save32(h + 16, count);
    save32(h + 20, (int32_t)crc32c(0, h + SNAPSHOT_HEAD_BYTES, b->n - at - SNAPSHOT_HEAD_BYTES));
    return 0;
}

static int load_producer(struct producers *ps, struct slice *rest)
{
    if (rest->n < PRODUCER_BYTES)
        return -EBADMSG;
    int16_t n = load16(rest->p + 26);
    int64_t pid = load64(rest->p);
    if (n < 1 || n > PRODUCER_BATCHES || rest->n - PRODUCER_BYTES < (size_t)n * BATCH_BYTES ||
        pid < 0 || get(ps, pid))
        return -EBADMSG;
    struct producer *p = add(ps, pid);
    if (!p)
        return -ENOMEM;
    p->last_ms = load64(rest->p + 8);
    p->known = load64(rest->p + 16);
    p->epoch = load16(rest->p + 24);
    p->n = (uint8_t)n;
    for (int i = 0; i < n; i++) {
        const char *v = rest->p + PRODUCER_BYTES + (size_t)i * BATCH_BYTES;
        p->v[i] = (struct producer_batch){load64(v), load32(v + 8), load32(v + 12)};
    }
    *rest = sl_from(*rest, PRODUCER_BYTES + (size_t)n * BATCH_BYTES);
    return 0;
}

int producers_load(struct producers *ps, struct slice text, int64_t *ret_offset)
{
    const char *h = text.p;
    producers_free(ps);
    producers_init(ps);
    if (text.n < SNAPSHOT_HEAD_BYTES || memcmp(h, "TMPS", 4) != 0 || load32(h + 4) != 1)
        return -EBADMSG;
    struct slice rest = sl_from(text, SNAPSHOT_HEAD_BYTES);
    if ((uint32_t)load32(h + 20) != crc32c(0, rest.p, rest.n))
        return -EBADMSG;
    int rc = 0;
    for (int32_t left = load32(h + 16); left > 0 && rc == 0; left--)
        rc = load_producer(ps, &rest);
    if (rc == 0 && rest.n)
        rc = -EBADMSG;
    if (rc < 0) {
        producers_free(ps);
        producers_init(ps);
        return rc;
    }
    *ret_offset = load64(h + 8);
    return 0;
}
