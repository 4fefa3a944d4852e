/* What the parts of the load client share. One thread each; a failure ends the program with a line
 * on stderr. */
#pragma once
#include <librdkafka/rdkafka.h>
#include <stddef.h>
#include <stdint.h>

int64_t now_ns(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A decimal number of at least `least`, else the program ends. */
int64_t number(const char *text, int64_t least, const char *what);

/* A client with these properties (NULL-terminated pairs), on the broker; the same few defaults for
 * every log that is measured. */
rd_kafka_t *client_new(rd_kafka_type_t type, const char *bootstrap, const char *const *properties);
/* Delivery reports end here: how many came, and the program ends at the first that is an error. */
extern int64_t delivered;

/* Reads the partitions 0..n-1 of a topic, each from offsets[i] (RD_KAFKA_OFFSET_BEGINNING allowed),
 * into one queue. */
struct reader {
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
};
struct reader reader_open(const char *bootstrap, const char *topic, int n, const int64_t *offsets);
void reader_close(struct reader *r);

/* Prints one JSON object: count, seconds, rate, and of took_ms (sorted in place; may be NULL) p50,
 * p99 and the largest, and the processor time that this client used. */
void report(int64_t count, double seconds, double *took_ms, size_t ntook);

int load_runs(int argc, char **argv);
int load_one(int argc, char **argv);
int load_produce(int argc, char **argv);
int load_read(int argc, char **argv);
int load_http(int argc, char **argv);
