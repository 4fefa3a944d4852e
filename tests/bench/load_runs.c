/* load runs: publishes events and reads the ends of their runs from the journal, WINDOW at any time
 * in flight.
 *
 * A run is timed from before its event is given to the producer until its end fact has been read.
 * The journal tells which run belongs to which event: `run.requested` names the event's id, and
 * stands below the end fact in the same partition. The first WARM runs are not counted: the clock
 * starts when they have ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define RUN_LEN     30 /* of a run's id, the first part of its records' keys */
#define BATCH       512
#define PATIENCE_NS 30000000000LL /* without any end: something is wrong */

struct open_run {
    char id[RUN_LEN];
    int64_t n;
};
struct load {
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    struct reader journal;
    char prefix[24]; /* of this client's event ids */
    int64_t warm, total, window, sent, done, begun_ns;
    int64_t *sent_ns;
    double *took_ms;
    struct open_run *open;
    size_t nopen;
};

/* Where each partition of the topic ends now; the caller frees it. */
static int64_t *ends_of(rd_kafka_t *rk, const char *topic, int *ret_n)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_resp_err_t error = rd_kafka_metadata(rk, 0, t, &md, 10000);
    if (error || md->topic_cnt != 1 || md->topics[0].partition_cnt < 1)
        fail("no topic %s: %s", topic, rd_kafka_err2str(error));
    int n = md->topics[0].partition_cnt;
    int64_t low, *ends = calloc((size_t)n, sizeof *ends);
    for (int i = 0; i < n && ends; i++) {
        error = rd_kafka_query_watermark_offsets(rk, topic, i, &low, &ends[i], 10000);
        if (error)
            fail("the end of %s/%d is not known: %s", topic, i, rd_kafka_err2str(error));
    }
    rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(t);
    if (!ends)
        fail("out of memory");
    *ret_n = n;
    return ends;
}

static void publish(struct load *l)
{
    char id[48], data[48];
    int64_t n = l->sent++;
    int nid = snprintf(id, sizeof id, "%s-%lld", l->prefix, (long long)n);
    int ndata = snprintf(data, sizeof data, "{\"n\":%lld}", (long long)n);
    l->sent_ns[n] = now_ns();
    rd_kafka_resp_err_t error = rd_kafka_producev(
        l->producer, RD_KAFKA_V_RKT(l->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_VALUE(data, (size_t)ndata), RD_KAFKA_V_HEADER("ce_specversion", "1.0", 3),
        RD_KAFKA_V_HEADER("ce_type", "bench.go", 8), RD_KAFKA_V_HEADER("ce_source", "/bench", 6),
        RD_KAFKA_V_HEADER("ce_id", id, nid),
        RD_KAFKA_V_HEADER("content-type", "application/json", 16), RD_KAFKA_V_END);
    if (error)
        fail("an event could not be produced: %s", rd_kafka_err2str(error));
}

static void requested(struct load *l, const rd_kafka_message_t *m)
{
    char mark[48];
    int nmark = snprintf(mark, sizeof mark, "\"id\":\"%s-", l->prefix);
    const char *at = memmem(m->payload, m->len, mark, (size_t)nmark);
    if (!at)
        return; /* of another client */
    if (l->nopen == (size_t)l->window)
        fail("more than %lld runs are under way: an event was routed twice", (long long)l->window);
    struct open_run *r = &l->open[l->nopen++];
    memcpy(r->id, m->key, RUN_LEN);
    r->n = 0;
    for (at += nmark; at < (const char *)m->payload + m->len && *at >= '0' && *at <= '9'; at++)
        r->n = r->n * 10 + (*at - '0');
}

static void ended(struct load *l, const rd_kafka_message_t *m)
{
    for (size_t i = 0; i < l->nopen; i++) {
        struct open_run *r = &l->open[i];
        if (memcmp(r->id, m->key, RUN_LEN) != 0)
            continue;
        int64_t now = now_ns();
        if (l->done >= l->warm)
            l->took_ms[l->done - l->warm] = (double)(now - l->sent_ns[r->n]) / 1e6;
        if (++l->done == l->warm)
            l->begun_ns = now;
        *r = l->open[--l->nopen];
        return;
    }
}

static void take(struct load *l, const rd_kafka_message_t *m)
{
    const char *key = m->key;
    if (m->err)
        fail("the journal can't be read: %s", rd_kafka_message_errstr(m));
    if (m->key_len < RUN_LEN + 11 || key[RUN_LEN] != '/')
        return;
    const char *type = key + RUN_LEN + 1;
    if (!memcmp(type, "?requested", 10))
        requested(l, m);
    else if (!memcmp(type, "!completed", 10))
        ended(l, m);
    else if (!memcmp(type, "!faulted", 8) || !memcmp(type, "!cancelled", 10))
        fail("a run did not complete: %.*s", (int)m->len, (const char *)m->payload);
}

static void drive(struct load *l)
{
    rd_kafka_message_t *batch[BATCH];
    int64_t seen = now_ns(), done = 0;
    while (l->done < l->total) {
        while (l->sent < l->total && l->sent - l->done < l->window)
            publish(l);
        rd_kafka_poll(l->producer, 0);
        /* One message, then what is there already: a batch would be waited for until it is full. */
        ssize_t n = rd_kafka_consume_batch_queue(l->journal.queue, 1000, batch, 1);
        if (n == 1)
            n += rd_kafka_consume_batch_queue(l->journal.queue, 0, batch + 1, BATCH - 1);
        for (ssize_t i = 0; i < n; i++) {
            take(l, batch[i]);
            rd_kafka_message_destroy(batch[i]);
        }
        if (l->done > done) {
            done = l->done;
            seen = now_ns();
        } else if (now_ns() - seen > PATIENCE_NS) {
            fail("%lld of %lld runs ended, then none for 30 s", (long long)l->done,
                 (long long)l->total);
        }
    }
}

int load_runs(int argc, char **argv)
{
    (void)argc;
    static const char *const properties[] = {"linger.ms", "0", NULL};
    int n;
    struct load l = {.warm = number(argv[4], 1, "WARM"), .window = number(argv[6], 1, "WINDOW")};
    l.total = l.warm + number(argv[5], 1, "COUNT");
    l.sent_ns = calloc((size_t)l.total, sizeof *l.sent_ns);
    l.took_ms = calloc((size_t)l.total, sizeof *l.took_ms);
    l.open = calloc((size_t)l.window, sizeof *l.open);
    if (!l.sent_ns || !l.took_ms || !l.open)
        fail("out of memory");
    snprintf(l.prefix, sizeof l.prefix, "%llx", (unsigned long long)now_ns());
    l.producer = client_new(RD_KAFKA_PRODUCER, argv[0], properties);
    l.topic = rd_kafka_topic_new(l.producer, argv[1], NULL);
    int64_t *ends = ends_of(l.producer, argv[3], &n);
    l.journal = reader_open(argv[0], argv[3], n, ends);
    drive(&l);
    report(l.total - l.warm, (double)(now_ns() - l.begun_ns) / 1e9, l.took_ms,
           (size_t)(l.total - l.warm));
    reader_close(&l.journal);
    rd_kafka_flush(l.producer, 10000);
    rd_kafka_topic_destroy(l.topic);
    rd_kafka_destroy(l.producer);
    free(ends);
    free(l.sent_ns);
    free(l.took_ms);
    free(l.open);
    return 0;
}
