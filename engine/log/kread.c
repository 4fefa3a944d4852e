/* Reading a partition without a group. The loop's thread; what may block (watermarks, stopping) is
 * a job in the pool.
 * librdkafka keeps silent about a partition that does not exist, so a reader that sees nothing for
 * CHECK_MS asks for the watermarks.
 * States of a reader: asking (watermarks, only for from -2 or to -1) -> reading -> ended. A range
 * ends at the first of: a record or an end-of-partition at or beyond `to` - 1; so it never waits
 * for a fetch that finds nothing, unless the last offsets of the range hold no records (compacted
 * ones, transaction markers).
 * Invariants: done is called at most once and never after kread_stop; the handle's partition is
 * given back only after rd_kafka_consume_stop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/klog_int.h"

#define BATCH     500
#define CHECK_MS  2000 /* nothing read for so long: does the partition exist? */
#define TOPIC_MAX 256

struct kread {
    struct klog *klog;
    char topic[TOPIC_MAX], key[TOPIC_MAX + 16];
    int partition;
    int64_t from, to, next;
    void (*fn)(void *arg, const struct krec *r);
    void (*done)(void *arg, int error);
    void *arg;
    struct kreader *reader;
    rd_kafka_topic_t *rkt;
    rd_kafka_queue_t *queue;
    struct kwake wake;
    struct loop_task later;
    struct loop_timer check;
    bool heard; /* since the last check */
    struct kflow flow;
    struct ask *ask; /* the job under way, NULL: none */
    int error;       /* for `later` */
    bool started, *gone;
};
struct ask {
    struct kjob job;
    struct kread *read; /* NULL: stopped meanwhile */
    rd_kafka_t *rk;
    char topic[TOPIC_MAX];
    int partition;
    int64_t low, high;
    rd_kafka_resp_err_t err;
};
struct stop {
    struct kjob job;
    rd_kafka_topic_t *rkt;
    rd_kafka_queue_t *queue;
    struct kreader *reader;
    char key[TOPIC_MAX + 16];
    int partition;
};

static void stop_work(struct kjob *j)
{
    struct stop *s = LIST_ENTRY(j, struct stop, job);
    (void)rd_kafka_consume_stop(s->rkt, s->partition);
    rd_kafka_queue_destroy(s->queue);
    rd_kafka_topic_destroy(s->rkt);
}

static void stop_done(struct kjob *j)
{
    struct stop *s = LIST_ENTRY(j, struct stop, job);
    kreader_put(s->reader, s->key);
    free(s);
}

static void release(struct kread *r)
{
    if (r->queue)
        kwake_unwatch(r->queue);
    kwake_end(&r->wake);
    loop_task_cancel(&r->later);
    loop_timer_unset(&r->check);
    if (r->ask)
        r->ask->read = NULL;
    struct stop *s = r->started ? calloc(1, sizeof *s) : NULL;
    if (s) {
        *s = (struct stop){{.work = stop_work, .done = stop_done}, r->rkt, r->queue, r->reader};
        s->partition = r->partition;
        memcpy(s->key, r->key, sizeof s->key);
        kjob_start(r->klog, &s->job);
    } else {
        if (r->started)
            (void)rd_kafka_consume_stop(r->rkt, r->partition);
        if (r->queue)
            rd_kafka_queue_destroy(r->queue);
        if (r->rkt)
            rd_kafka_topic_destroy(r->rkt);
        if (r->reader)
            kreader_put(r->reader, r->key);
    }
    if (r->gone)
        *r->gone = true;
    free(r);
}

static void finish(struct kread *r, int error)
{
    void (*done)(void *arg, int error) = r->done;
    void *arg = r->arg;
    release(r);
    done(arg, error);
}

static void on_later(struct loop_task *t)
{
    struct kread *r = LIST_ENTRY(t, struct kread, later);
    finish(r, r->error);
}

static void finish_later(struct kread *r, int error)
{
    r->error = error;
    loop_later(klog_loop(r->klog), &r->later);
}

/* Returns true when the reader ended (and may be gone). */
static bool take(struct kread *r, const rd_kafka_message_t *m, struct kheader *h)
{
    struct krec rec;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (r->to != INT64_MAX && m->offset >= r->to) {
            finish(r, 0);
            return true;
        }
        return false;
    }
    if (m->err) {
        int error = kerrno(m->err);
        if (error == -ETIMEDOUT)
            return false; /* librdkafka goes on by itself */
        finish(r, error);
        return true;
    }
    if (m->offset < r->next)
        return false;
    if (m->offset >= r->to) {
        finish(r, 0);
        return true;
    }
    r->next = m->offset + 1;
    kflow_take(&r->flow, m);
    int rc = krec_from(m, h, &rec);
    if (rc)
        log_warn(klog_log(r->klog), "a record with unreadable headers",
                 "topic=%s partition=%d offset=%lld", log_q(r->topic), r->partition,
                 (long long)m->offset);
    bool gone = false;
    r->gone = &gone;
    r->fn(r->arg, &rec);
    if (gone)
        return true;
    r->gone = NULL;
    bool end = r->next >= r->to;
    if (end)
        finish(r, 0);
    return end;
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
    struct kread *r = LIST_ENTRY(w, struct kread, wake.w);
    struct kheader h[KREC_HEADERS_MAX];
    rd_kafka_message_t *v[BATCH];
    kwake_clear(&r->wake);
    r->heard = true;
    for (int taken = 0; taken < KTURN_MAX;) {
        ssize_t n = rd_kafka_consume_batch_queue(r->queue, 0, v, BATCH);
        if (n <= 0) {
            if (kflow_drained(&r->flow))
                (void)rd_kafka_seek(r->rkt, r->partition, r->next, 0);
            return;
        }
        bool ended = false;
        for (ssize_t i = 0; i < n; i++) {
            if (!ended)
                ended = take(r, v[i], h);
            rd_kafka_message_destroy(v[i]);
        }
        if (ended)
            return;
        taken += (int)n;
    }
    kwake_again(&r->wake);
}

/* 0 when reading goes on, else the reader is to end with this result: 1 done, negative error. */
static int start_reading(struct kread *r)
{
    if (r->to != INT64_MAX && r->from >= r->to)
        return 1;
    r->next = r->from;
    r->queue = rd_kafka_queue_new(kreader_handle(r->reader));
    r->rkt = rd_kafka_topic_new(kreader_handle(r->reader), r->topic, NULL);
    if (!r->rkt)
        return -EINVAL;
    kwake_watch(&r->wake, r->queue);
    if (rd_kafka_consume_start_queue(r->rkt, r->partition, r->from, r->queue))
        return kerrno(rd_kafka_last_error());
    r->started = true;
    return 0;
}

static void ask_work(struct kjob *j)
{
    struct ask *a = LIST_ENTRY(j, struct ask, job);
    a->err = rd_kafka_query_watermark_offsets(a->rk, a->topic, a->partition, &a->low, &a->high,
                                              KBLOCKING_MS);
}

static int answer(struct kread *r, const struct ask *a)
{
    int rc = kerrno(a->err);
    if (r->started) /* a check: librdkafka itself goes on when brokers are down */
        return rc == -ENOENT ? rc : 0;
    if (!rc && r->from == -2)
        r->from = a->low;
    if (!rc && r->to == -1)
        r->to = a->high;
    if (!rc && (r->from < a->low || r->from > a->high))
        rc = -ERANGE;
    return rc ? rc : start_reading(r);
}

static void ask_done(struct kjob *j)
{
    struct ask *a = LIST_ENTRY(j, struct ask, job);
    struct kread *r = a->read;
    int rc = 0;
    if (r) {
        r->ask = NULL;
        rc = answer(r, a);
    }
    free(a);
    if (rc)
        finish(r, rc > 0 ? 0 : rc);
}

static int ask(struct kread *r)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    *a = (struct ask){{.work = ask_work, .done = ask_done}, r, kreader_handle(r->reader)};
    memcpy(a->topic, r->topic, sizeof a->topic);
    a->partition = r->partition;
    r->ask = a;
    kjob_start(r->klog, &a->job);
    return 0;
}

static void on_check(struct loop_timer *t)
{
    struct kread *r = LIST_ENTRY(t, struct kread, check);
    int64_t next_ms = r->heard ? CHECK_MS : KBLOCKING_MS;
    /* Without memory for the question the next check asks it. */
    if (!r->heard && !r->ask && r->started)
        (void)ask(r);
    r->heard = false;
    (void)loop_timer_set(klog_loop(r->klog), t, loop_now(klog_loop(r->klog)) + next_ms);
}

struct kread *kread_start(struct klog *k, const char *topic, int partition, int64_t from,
                          int64_t to, void (*fn)(void *arg, const struct krec *r),
                          void (*done)(void *arg, int error), void *arg, struct err *e)
{
    if (!*topic || strlen(topic) >= TOPIC_MAX || partition < 0 || from < -2 || from == -1 ||
        to < -1) {
        err_set(e, -EINVAL, "give a topic, a partition and a range of offsets",
                "not a range that can be read");
        return NULL;
    }
    struct kread *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a reader");
        return NULL;
    }
    *r = (struct kread){.klog = k,
                        .partition = partition,
                        .from = from,
                        .to = to,
                        .fn = fn,
                        .done = done,
                        .arg = arg,
                        .later.fn = on_later,
                        .check.fn = on_check,
                        .wake.w.fd = -1};
    (void)snprintf(r->topic, sizeof r->topic, "%s", topic);
    (void)snprintf(r->key, sizeof r->key, "%s/%d", topic, partition);
    r->reader = kreader_get(k, to == INT64_MAX, r->key, e);
    int rc = r->reader ? kwake_init(&r->wake, klog_loop(k), on_wake) : 0;
    if (rc)
        err_set(e, rc, "raise the limit of open files (ulimit -n)", "cannot watch a reader");
    if (!r->reader || rc) {
        release(r);
        return NULL;
    }
    rc = loop_timer_set(klog_loop(k), &r->check, loop_now(klog_loop(k)) + CHECK_MS);
    if (!rc)
        rc = from == -2 || to == -1 ? ask(r) : start_reading(r);
    if (rc)
        finish_later(r, rc > 0 ? 0 : rc);
    return r;
}

struct kread *kread_stop(struct kread *r)
{
    if (r)
        release(r);
    return NULL;
}
