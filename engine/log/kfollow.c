/* See kfollow.h: one consumer, one queue for all partitions. */
#include "log/kfollow.h"

#include <errno.h>
#include <stdlib.h>

#include "log/klog_int.h"

struct kfollow {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    int n, started;
};

struct kfollow *kfollow_free(struct kfollow *f)
{
    if (!f)
        return NULL;
    for (int i = 0; i < f->started; i++)
        (void)rd_kafka_consume_stop(f->topic, i);
    if (f->queue)
        rd_kafka_queue_destroy(f->queue);
    if (f->topic)
        rd_kafka_topic_destroy(f->topic);
    if (f->rk)
        rd_kafka_destroy(f->rk);
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
    if (!f->topic || !f->queue) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a reader");
        return kfollow_free(f);
    }
    for (; f->started < n; f->started++)
        if (rd_kafka_consume_start_queue(f->topic, f->started, from[f->started], f->queue)) {
            err_set(e, kerrno(rd_kafka_last_error()), khint(rd_kafka_last_error()),
                    "partition %d of %s can't be read", f->started, topic);
            return kfollow_free(f);
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

int kfollow_next(struct kfollow *f, int timeout_ms, int max,
                 int (*fn)(void *arg, const struct krec *r), void *arg)
{
    struct kheader h[KREC_HEADERS_MAX];
    struct krec rec;
    rd_kafka_message_t *m;
    int n = 0;
    while (n < max && (m = rd_kafka_consume_queue(f->queue, n ? 0 : timeout_ms))) {
        int rc = m->err ? judge(m->err) : 0;
        if (!m->err) {
            (void)krec_from(m, h, &rec); /* headers beyond the limit are cut */
            rc = fn(arg, &rec);
            n++;
        }
        rd_kafka_message_destroy(m);
        if (rc)
            return rc;
    }
    return n;
}
