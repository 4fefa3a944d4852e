/* load one, produce, read: what a log does for a client of librdkafka, the same client for every
 * log. acks=all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define BATCH       10000
#define PATIENCE_MS 60000

static void send_one(rd_kafka_t *rk, rd_kafka_topic_t *topic, int partition, char *value, size_t n)
{
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, value, n, NULL, 0, NULL) < 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            fail("a record could not be produced: %s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(rk, 10);
    }
}

static char *value_of(size_t n)
{
    char *v = malloc(n);
    if (!v)
        fail("out of memory");
    /* No two bytes of a run alike, so that a log that compressed by itself would not look faster.
     */
    uint64_t x = 88172645463325252ULL;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        v[i] = (char)x;
    }
    return v;
}

int load_one(int argc, char **argv)
{
    (void)argc;
    static const char *const properties[] = {"linger.ms", "0", "acks", "all", NULL};
    size_t size = (size_t)number(argv[2], 1, "SIZE");
    int64_t warm = number(argv[3], 0, "WARM"), count = number(argv[4], 1, "COUNT"),
            begun = now_ns();
    rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, argv[0], properties);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[1], NULL);
    char *value = value_of(size);
    double *took = calloc((size_t)count, sizeof *took);
    if (!took)
        fail("out of memory");
    for (int64_t i = 0; i < warm + count; i++) {
        int64_t start = now_ns();
        if (i == warm)
            begun = start;
        send_one(rk, topic, 0, value, size);
        while (delivered <= i)
            rd_kafka_poll(rk, 1000);
        if (i >= warm)
            took[i - warm] = (double)(now_ns() - start) / 1e6;
    }
    report(count, (double)(now_ns() - begun) / 1e9, took, (size_t)count);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    free(took);
    free(value);
    return 0;
}

int load_produce(int argc, char **argv)
{
    (void)argc;
    static const char *const properties[] = {"linger.ms", "5", "acks", "all", NULL};
    int partitions = (int)number(argv[2], 1, "PARTITIONS");
    size_t size = (size_t)number(argv[3], 1, "SIZE");
    int64_t count = number(argv[4], 1, "COUNT");
    rd_kafka_t *rk = client_new(RD_KAFKA_PRODUCER, argv[0], properties);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[1], NULL);
    char *value = value_of(size);
    int64_t begun = now_ns();
    for (int64_t i = 0; i < count; i++) {
        send_one(rk, topic, (int)(i % partitions), value, size);
        if (!(i & 1023))
            rd_kafka_poll(rk, 0);
    }
    if (rd_kafka_flush(rk, PATIENCE_MS) || delivered != count)
        fail("%lld of %lld records were acknowledged", (long long)delivered, (long long)count);
    report(count, (double)(now_ns() - begun) / 1e9, NULL, 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    free(value);
    return 0;
}

int load_read(int argc, char **argv)
{
    (void)argc;
    int partitions = (int)number(argv[2], 1, "PARTITIONS");
    int64_t count = number(argv[3], 1, "COUNT"), seen = 0;
    int64_t *offsets = calloc((size_t)partitions, sizeof *offsets);
    rd_kafka_message_t **batch = calloc(BATCH, sizeof *batch);
    if (!offsets || !batch)
        fail("out of memory");
    for (int i = 0; i < partitions; i++)
        offsets[i] = RD_KAFKA_OFFSET_BEGINNING;
    int64_t begun = now_ns();
    struct reader r = reader_open(argv[0], argv[1], partitions, offsets);
    while (seen < count) {
        ssize_t n = rd_kafka_consume_batch_queue(r.queue, 50, batch, BATCH);
        for (ssize_t i = 0; i < n; i++) {
            if (batch[i]->err)
                fail("%s can't be read: %s", argv[1], rd_kafka_message_errstr(batch[i]));
            rd_kafka_message_destroy(batch[i]);
        }
        seen += n > 0 ? n : 0;
        if (now_ns() - begun > PATIENCE_MS * 1000000LL)
            fail("%lld of %lld records were read", (long long)seen, (long long)count);
    }
    report(count, (double)(now_ns() - begun) / 1e9, NULL, 0);
    reader_close(&r);
    free(offsets);
    free(batch);
    return 0;
}
