/* Produce: append what was sent and answer when the sync has covered it.
 *
 * Owning thread: the broker's thread. The response is written at once as if all went well; for each
 * partition whose records are not durable yet a wait remembers where its error code and offset
 * stand, and a storage error overwrites them. The last wait finishes the reply. */
#include <errno.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/wire_int.h"

#define MAX_PRODUCE_PARTS 100000
#define FIRST_SERVED      3 /* 0 to 2 are advertised only so that old clients enable compression */

struct produce;
struct produce_wait {
    struct ack_wait w;
    struct produce *p;
    size_t error_at; /* place of the error code in the reply; the base offset follows it */
};
struct produce {
    struct reply *r;
    int waiting; /* one more while the handler runs */
    int nwaits, cap;
    struct produce_wait *waits;
    struct produce_wait one; /* nearly every request carries one partition */
};

static void settle(struct produce *p)
{
    if (--p->waiting > 0)
        return;
    struct reply *r = p->r;
    if (p->waits != &p->one)
        free(p->waits);
    free(p);
    reply_done(r);
}

static void on_durable(struct broker *b, struct ack_wait *w, int16_t err)
{
    struct produce_wait *pw = (struct produce_wait *)w;
    FAILPOINT("log.produce.durable");
    if (err) {
        wr_patch_i16(&pw->p->r->out, pw->error_at, err);
        wr_patch_i64(&pw->p->r->out, pw->error_at + 2, -1);
    }
    settle(pw->p);
}

struct part_answer {
    int16_t error;
    int64_t base_offset, time_ms, start;
    const char *why;
};

static void write_part(struct wr *w, int version, int32_t index, const struct part_answer *a,
                       size_t *ret_error_at)
{
    wr_i32(w, index);
    *ret_error_at = w->b->n;
    wr_i16(w, a->error);
    wr_i64(w, a->base_offset);
    if (version >= 2)
        wr_i64(w, a->time_ms);
    if (version >= 5)
        wr_i64(w, a->start);
    if (version >= 8) {
        wr_array(w, 0);
        wr_nstr(w, sl_str(a->why));
    }
    wr_tags(w);
}

/* Errors that hold for the whole request. */
static void check_request(struct req *q, int16_t acks, bool transactional, struct part_answer *a)
{
    if (q->version < FIRST_SERVED) {
        a->error = KERR_UNSUPPORTED_VERSION;
    } else if (acks < -1 || acks > 1) {
        a->error = KERR_INVALID_REQUIRED_ACKS;
        a->why = "acks is 0, 1 or -1";
    } else if (transactional) {
        a->error = KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        a->why = "this log does not serve transactions yet";
    }
}

/* Appends the records of one partition; *ret_end is where the durable end must be. */
static struct plog *append(struct req *q, struct slice topic, int32_t index, struct slice records,
                           struct part_answer *a, int64_t *ret_end)
{
    struct plog *p = find_part(q->b, topic, index);
    struct append_result res = {0};
    if (!p) {
        a->error = KERR_UNKNOWN_TOPIC_OR_PARTITION;
    } else if (sl_is(topic, OFFSETS_TOPIC)) {
        a->error = KERR_INVALID_TOPIC;
        a->why = "only the log itself writes its offsets topic";
    } else if (records.n == 0) {
        a->error = KERR_INVALID_RECORD;
        a->why = "no record batch for this partition";
    } else {
        plog_append(p, (char *)records.p, records.n, q->b->wall_ms, &res);
        FAILPOINT("log.produce.appended");
        a->error = (int16_t)res.error;
        a->why = res.why;
        a->start = plog_start(p);
        if (!a->error) {
            a->base_offset = res.base_offset;
            a->time_ms = res.append_time_ms;
            *ret_end = res.end_offset;
            return p;
        }
    }
    return NULL;
}

static void add_wait(struct req *q, struct produce *pr, struct plog *p, int64_t end,
                     size_t error_at)
{
    struct produce_wait *w = &pr->waits[pr->nwaits++];
    *w = (struct produce_wait){.w = {.end = end, .fn = on_durable}, .p = pr, .error_at = error_at};
    pr->waiting++;
    if (!wait_ack(q->b, p, &w->w))
        pr->waiting--;
}

/* The partitions of all topics, counted beforehand so that the waits have fixed places. */
static int count_parts(struct rd in)
{
    int n = 0;
    for (int32_t i = rd_array(&in); i > 0; i--) {
        rd_str(&in);
        int32_t parts = rd_array(&in);
        n += parts;
        for (int32_t k = 0; k < parts; k++) {
            rd_i32(&in);
            rd_bytes(&in);
            rd_tags(&in);
        }
        rd_tags(&in);
    }
    return n;
}

static struct produce *produce_new(struct reply *r, int nparts)
{
    struct produce *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->r = r;
    p->waiting = 1;
    p->waits = nparts <= 1 ? &p->one : calloc((size_t)nparts, sizeof *p->waits);
    if (!p->waits) {
        free(p);
        return NULL;
    }
    return p;
}

int api_produce(struct req *q)
{
    struct slice txn = q->version >= 3 ? rd_nstr(&q->in) : (struct slice){0};
    int16_t acks = rd_i16(&q->in);
    rd_i32(&q->in); /* the time-out: a sync is not given up */
    struct part_answer whole = {.base_offset = -1, .time_ms = -1, .start = -1};
    check_request(q, acks, txn.p != NULL, &whole);
    int total = count_parts(q->in);
    if (total > MAX_PRODUCE_PARTS)
        return -E2BIG;
    struct produce *pr = produce_new(q->r, total);
    if (!pr)
        return -ENOMEM;
    bool failed = false;
    q->r->silent = acks == 0;
    int32_t ntopics = rd_array(&q->in);
    wr_array(&q->out, ntopics);
    while (ntopics-- > 0) {
        struct slice topic = rd_str(&q->in);
        int32_t nparts = rd_array(&q->in);
        wr_str(&q->out, topic);
        wr_array(&q->out, nparts);
        while (nparts-- > 0) {
            int32_t index = rd_i32(&q->in);
            struct slice records = rd_bytes(&q->in);
            struct part_answer a = whole;
            int64_t end = 0;
            size_t error_at;
            struct plog *p = a.error ? NULL : append(q, topic, index, records, &a, &end);
            write_part(&q->out, q->version, index, &a, &error_at);
            if (p && acks != 0)
                add_wait(q, pr, p, end, error_at);
            else if (p && plog_durable_end(p) >= end)
                wait_on_durable(q->b, p);
            failed |= a.error != KERR_NONE;
            rd_tags(&q->in);
        }
        wr_tags(&q->out);
        rd_tags(&q->in);
    }
    if (q->version >= 1)
        wr_i32(&q->out, 0);
    wr_tags(&q->out);
    settle(pr);
    /* Without a response this is the only way to say that records were refused. */
    if (acks == 0 && failed)
        conn_close(q->c, "records sent with acks=0 were refused");
    return REQ_PARKED;
}
