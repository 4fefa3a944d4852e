/* Fetch: durable records from given offsets, at once or when enough of them are there.
 *
 * Owning thread: the broker's thread. States: answered at once; parked (links at every partition it
 * reads, a timer for max_wait_ms); woken (in broker.ready, links gone). A woken fetch reads its
 * copy of the request again and either answers or parks again, so topics that came or went in
 * between need no special care. Fetch sessions are not kept: session id 0 tells the client to send
 * all partitions each time, and that answer holds them all. */
#include <errno.h>
#include <stdlib.h>

#include "broker/fetch_int.h"
#include "broker/wire_int.h"

#define MAX_FETCH_PARTS 100000

struct fetch_head {
    int32_t wait_ms, min_bytes, max_bytes;
};
struct fetch_part {
    struct plog *p;
    struct slice topic;
    int32_t index, max_bytes;
    int64_t offset;
    int16_t error;
};

static struct fetch_head read_head(struct rd *in, int version)
{
    struct fetch_head h;
    rd_i32(in); /* replica id */
    h.wait_ms = rd_i32(in);
    h.min_bytes = rd_i32(in);
    h.max_bytes = rd_i32(in);
    rd_i8(in); /* isolation level: without transactions both are the same */
    if (version >= 7) {
        rd_i32(in);
        rd_i32(in);
    }
    if (h.wait_ms > MAX_FETCH_WAIT_MS)
        h.wait_ms = MAX_FETCH_WAIT_MS;
    if (h.max_bytes < 0 || (size_t)h.max_bytes > MAX_FETCH_BYTES)
        h.max_bytes = (int32_t)MAX_FETCH_BYTES;
    return h;
}

static void read_part(struct broker *b, struct rd *in, int version, struct slice topic,
                      struct fetch_part *f)
{
    int32_t epoch = -1;
    *f = (struct fetch_part){.topic = topic, .index = rd_i32(in)};
    if (version >= 9)
        epoch = rd_i32(in);
    f->offset = rd_i64(in);
    if (version >= 12)
        rd_i32(in);
    if (version >= 5)
        rd_i64(in);
    f->max_bytes = rd_i32(in);
    rd_tags(in);
    f->p = find_part(b, topic, f->index);
    if (!f->p)
        f->error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
    else if (plog_failed(f->p))
        f->error = KERR_STORAGE;
    else if (epoch > 0) /* the leader never changes, so its epoch stays 0 */
        f->error = KERR_UNKNOWN_LEADER_EPOCH;
    else if (f->offset < plog_start(f->p) || f->offset > plog_durable_end(f->p))
        f->error = KERR_OFFSET_OUT_OF_RANGE;
}

/* Is there enough to answer? Errors are answered at once. Links the partitions when `link` is given
 * (its links array has room for all of them). */
static bool enough(struct broker *b, struct rd in, int version, const struct fetch_head *h,
                   int *ret_parts)
{
    size_t have = 0, min = h->min_bytes > 0 ? (size_t)h->min_bytes : 0;
    bool error = false;
    *ret_parts = 0;
    for (int32_t nt = rd_array(&in); nt > 0; nt--) {
        struct slice topic = rd_str(&in);
        for (int32_t np = rd_array(&in); np > 0; np--) {
            struct fetch_part f;
            read_part(b, &in, version, topic, &f);
            (*ret_parts)++;
            error |= f.error != KERR_NONE;
            if (!f.error && have < min)
                have += plog_readable(f.p, f.offset, min - have);
        }
        rd_tags(&in);
    }
    return error || *ret_parts == 0 || have >= min;
}

static void write_part(struct wr *w, int version, const struct fetch_part *f, size_t *left,
                       bool *any)
{
    wr_i32(w, f->index);
    size_t error_at = w->b->n;
    wr_i16(w, f->error);
    int64_t end = f->p ? plog_durable_end(f->p) : -1;
    wr_i64(w, end);
    wr_i64(w, end); /* the last stable offset */
    if (version >= 5)
        wr_i64(w, f->p ? plog_start(f->p) : -1);
    wr_array(w, version >= 12 ? 0 : -1); /* aborted transactions */
    if (version >= 11)
        wr_i32(w, -1);
    size_t at = wr_len_begin(w), from = w->b->n;
    size_t max = f->max_bytes > 0 ? (size_t)f->max_bytes : 0;
    if (max > *left)
        max = *left;
    /* The first partition that has something gives a whole batch whatever its size, or a
     * client with a small limit would never get on. */
    if (!f->error && f->offset < end && (max > 0 || !*any)) {
        int rc = plog_read(f->p, f->offset, max, !*any, w->b);
        if (rc < 0)
            wr_patch_i16(w->b, error_at, rc == -ERANGE ? KERR_OFFSET_OUT_OF_RANGE : KERR_STORAGE);
    }
    size_t got = w->b->n - from;
    *any |= got > 0;
    *left -= got < *left ? got : *left;
    wr_len_end(w, at);
    wr_tags(w);
}

static void answer(struct broker *b, struct rd in, struct wr *w, int version,
                   const struct fetch_head *h)
{
    size_t left = (size_t)h->max_bytes;
    bool any = false;
    wr_i32(w, 0);
    if (version >= 7) {
        wr_i16(w, KERR_NONE);
        wr_i32(w, 0);
    }
    int32_t nt = rd_array(&in);
    wr_array(w, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(&in);
        int32_t np = rd_array(&in);
        wr_str(w, topic);
        wr_array(w, np);
        for (; np > 0; np--) {
            struct fetch_part f;
            read_part(b, &in, version, topic, &f);
            write_part(w, version, &f, &left, &any);
        }
        rd_tags(&in);
        wr_tags(w);
    }
    wr_tags(w);
}

static void unlink_all(struct fetch *f)
{
    for (size_t i = 0; i < f->nlinks; i++)
        list_del(&f->links[i].node);
    f->nlinks = 0;
}

static void fetch_free(struct fetch *f)
{
    unlink_all(f);
    list_del(&f->ready);
    timer_unset(f->r->b, &f->timer);
    free(f->body);
    free(f);
}

/* Hangs the fetch at each of its partitions. False: no memory; it is answered now. */
static bool link_all(struct broker *b, struct fetch *f, struct rd in, int version)
{
    for (int32_t nt = rd_array(&in); nt > 0; nt--) {
        struct slice topic = rd_str(&in);
        for (int32_t np = rd_array(&in); np > 0; np--) {
            struct fetch_part part;
            read_part(b, &in, version, topic, &part);
            struct fetch_link *l = &f->links[f->nlinks];
            l->f = f;
            if (!part.p || wait_data(part.p, l) < 0) {
                unlink_all(f);
                return false;
            }
            f->nlinks++;
        }
        rd_tags(&in);
    }
    return true;
}

void fetch_wake(struct fetch *f)
{
    unlink_all(f);
    if (list_empty(&f->ready))
        list_push(&f->r->b->ready, &f->ready);
}

static void on_time(struct broker *b, struct wtimer *t)
{
    struct fetch *f = (struct fetch *)((char *)t - offsetof(struct fetch, timer));
    f->late = true;
    fetch_wake(f);
}

static void on_cancel(struct reply *r)
{
    fetch_free(r->state);
    reply_free(r);
}

/* Answers a woken fetch, or parks it again. */
static void fetch_again(struct fetch *f)
{
    struct reply *r = f->r;
    struct rd in = rd_init(f->body, f->nbody, r->flex);
    struct fetch_head h = read_head(&in, r->version);
    int parts;
    if (!f->late && !enough(r->b, in, r->version, &h, &parts) && link_all(r->b, f, in, r->version))
        return;
    struct wr w = reply_wr(r);
    answer(r->b, in, &w, r->version, &h);
    fetch_free(f);
    reply_done(r);
}

void fetch_run_ready(struct broker *b)
{
    struct list *n;
    while ((n = list_pop(&b->ready)))
        fetch_again(LIST_ENTRY(n, struct fetch, ready));
}

static int park(struct req *q, struct rd in, const struct fetch_head *h, int parts)
{
    struct fetch *f = calloc(1, sizeof *f + (size_t)parts * sizeof f->links[0]);
    if (!f)
        return -ENOMEM;
    list_init(&f->ready);
    f->r = q->r;
    f->timer.fn = on_time;
    f->nbody = q->body.n;
    f->body = malloc(q->body.n);
    if (!f->body || !link_all(q->b, f, in, q->version)) {
        fetch_free(f);
        return -ENOMEM;
    }
    memcpy(f->body, q->body.p, q->body.n);
    q->r->state = f;
    q->r->cancel = on_cancel;
    timer_set(q->b, &f->timer, q->b->now_ms + h->wait_ms);
    return REQ_PARKED;
}

int api_fetch(struct req *q)
{
    struct rd in = q->in;
    struct fetch_head h = read_head(&in, q->version);
    int parts;
    bool now = enough(q->b, in, q->version, &h, &parts) || h.wait_ms <= 0;
    if (parts > MAX_FETCH_PARTS)
        return -E2BIG;
    if (!now)
        return park(q, in, &h, parts);
    answer(q->b, in, &q->out, q->version, &h);
    return REQ_DONE;
}
