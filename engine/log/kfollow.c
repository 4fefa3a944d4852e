/* See kfollow.h: one consumer, one queue for all partitions. */
#include "log/kfollow.h"

#include <errno.h>
#include <stdlib.h>

#include "log/klog_int.h"

struct part {
    bool started;
    bool took;    /* since the queue was empty */
    int64_t next; /* offset; -1: nothing was read yet */
};
struct kfollow {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int n;
    struct part *parts;
    struct kflow flow; /* of all: what is full is the queue that they share */
};

struct kfollow *kfollow_free(struct kfollow *f)
{
    if (!f)
        return NULL;
    for (int i = 0; f->parts && i < f->n; i++)
        if (f->parts[i].started)
            (void)rd_kafka_consume_stop(f->topic, i);
    if (f->queue)
        rd_kafka_queue_destroy(f->queue);
    if (f->topic)
        rd_kafka_topic_destroy(f->topic);
    if (f->rk)
        rd_kafka_destroy(f->rk);
    free(f->parts);
    free(f);
    return NULL;
}

struct kfollow *kfollow_new(const struct config *c, const char *topic, const int64_t *from, int n,
                            struct err *e)
{
    struct kfollow *f = calloc(1, sizeof *f);
    struct kprops p = {.config = c, .client_id = "tidemark-view"};
    if (!f) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a reader");
        return NULL;
    }
    f->n = n;
    if (!(f->rk = khandle_new(KHANDLE_TAIL, &p, e)))
        return kfollow_free(f);
    f->topic = rd_kafka_topic_new(f->rk, topic, NULL);
    f->queue = rd_kafka_queue_new(f->rk);
    f->parts = calloc((size_t)n, sizeof *f->parts);
    if (!f->topic || !f->queue || !f->parts) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a reader");
        return kfollow_free(f);
    }
    for (int i = 0; i < n; i++) {
        if (from[i] == KFOLLOW_NONE)
            continue;
        if (rd_kafka_consume_start_queue(f->topic, i, from[i], f->queue)) {
            err_set(e, kerrno(rd_kafka_last_error()), khint(rd_kafka_last_error()),
                    "partition %d of %s can't be read", i, topic);
            return kfollow_free(f);
        }
        f->parts[i] = (struct part){.started = true, .next = -1};
    }
    return f;
}

/* 0 to go on. A broker that is away is found again by the client itself. */
static int judge(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return -ERANGE;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return -ENOENT;
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return -EIO;
    default:
        return 0;
    }
}

/* Wakes the fetching of what was full; the queue is empty (kflow). */
static void drained(struct kfollow *f)
{
    bool full = kflow_drained(&f->flow);
    for (int i = 0; i < f->n; i++) {
        struct part *p = &f->parts[i];
        if (full && p->took)
            (void)rd_kafka_seek(f->topic, i, p->next, 0);
        p->took = false;
    }
}

static int take(struct kfollow *f, const rd_kafka_message_t *m,
                int (*fn)(void *arg, const struct krec *r), void *arg)
{
    struct kheader h[KREC_HEADERS_MAX];
    struct krec rec;
    struct part *p = m->partition >= 0 && m->partition < f->n ? &f->parts[m->partition] : NULL;
    if (m->err || !p)
        return m->err ? judge(m->err) : 0;
    if (m->offset < p->next)
        return 0; /* fetched before a seek, and once more behind it */
    p->next = m->offset + 1;
    p->took = true;
    kflow_take(&f->flow, m);
    (void)krec_from(m, h, &rec); /* headers beyond the limit are cut */
    return fn(arg, &rec);
}

int kfollow_next(struct kfollow *f, int timeout_ms, int max,
                 int (*fn)(void *arg, const struct krec *r), void *arg)
{
    int n = 0;
    while (n < max) {
        rd_kafka_message_t *m = rd_kafka_consume_queue(f->queue, 0);
        if (!m) {
            drained(f);
            m = n ? NULL : rd_kafka_consume_queue(f->queue, timeout_ms);
        }
        if (!m)
            break;
        int rc = take(f, m, fn, arg);
        n++;
        rd_kafka_message_destroy(m);
        if (rc)
            return rc;
    }
    return n;
}
