/* The load client of the benchmarks: librdkafka in C, so that the client is not what is measured.
 *
 *   load runs BOOTSTRAP TOPIC PARTITIONS JOURNAL WARM COUNT WINDOW   load_runs.c
 *   load one BOOTSTRAP TOPIC SIZE WARM COUNT                         load_log.c
 *   load produce BOOTSTRAP TOPIC PARTITIONS SIZE COUNT               load_log.c
 *   load read BOOTSTRAP TOPIC PARTITIONS COUNT                       load_log.c
 *   load http HOST PORT PATH CONNECTIONS WARM COUNT                  load_http.c
 *
 * Each prints one JSON object on stdout. Exit status 0: everything was acknowledged, ended, or
 * read. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "load.h"

int64_t delivered;

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

_Noreturn void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

int64_t number(const char *text, int64_t least, const char *what)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < least)
        fail("%s is %s; a number from %lld on is needed", what, text, (long long)least);
    return n;
}

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err)
        fail("a record was refused: %s", rd_kafka_err2str(m->err));
    delivered++;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        fail("%s=%s: %s", name, value, why);
}

rd_kafka_t *client_new(rd_kafka_type_t type, const char *bootstrap, const char *const *properties)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "log_level", "0");
    set(conf, "socket.nagle.disable", "true");
    set(conf, "broker.address.family", "v4");
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    for (; properties[0]; properties += 2)
        set(conf, properties[0], properties[1]);
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof why);
    if (!rk)
        fail("no client: %s", why);
    return rk;
}

struct reader reader_open(const char *bootstrap, const char *topic, int n, const int64_t *offsets)
{
    static const char *const properties[] = {
        "group.id", "bench", "enable.auto.commit", "false", "fetch.wait.max.ms", "100", NULL};
    struct reader r = {client_new(RD_KAFKA_CONSUMER, bootstrap, properties), NULL};
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
    for (int i = 0; i < n; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = offsets[i];
    rd_kafka_poll_set_consumer(r.rk);
    rd_kafka_resp_err_t error = rd_kafka_assign(r.rk, list);
    if (error)
        fail("%s can't be read: %s", topic, rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(list);
    r.queue = rd_kafka_queue_get_consumer(r.rk);
    return r;
}

void reader_close(struct reader *r)
{
    rd_kafka_queue_destroy(r->queue);
    rd_kafka_consumer_close(r->rk);
    rd_kafka_destroy(r->rk);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void report(int64_t count, double seconds, double *took_ms, size_t ntook)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("{\"count\": %lld, \"seconds\": %.6f, \"rate\": %.3f", (long long)count, seconds,
           (double)count / seconds);
    if (ntook) {
        qsort(took_ms, ntook, sizeof *took_ms, by_size);
        printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f", took_ms[ntook / 2],
               took_ms[ntook * 99 / 100], took_ms[ntook - 1]);
    }
    printf(", \"client_cpu_s\": %.3f}\n",
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int nargs;
        int (*run)(int argc, char **argv);
    } modes[] = {{"runs", 7, load_runs},
                 {"one", 5, load_one},
                 {"produce", 5, load_produce},
                 {"read", 4, load_read},
                 {"http", 6, load_http}};
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(argv[1], modes[i].name) && argc - 2 == modes[i].nargs)
            return modes[i].run(argc - 2, argv + 2);
    fail("no such use; the first comment of load.c lists them");
}
