/* The embedded log: a broker that speaks the Kafka protocol and keeps its data durable in one
 * folder. It runs in threads of its own; the engine speaks to it over TCP like to any other broker.
 * Thread-safe: broker_start and broker_stop from one thread. */
#pragma once
#include "base/err.h"
#include "base/logger.h"

struct broker;
struct fileops;
struct broker_opts {
    const char *data_dir;        /* made when it does not exist; locked against a second process */
    const char *host;            /* address to listen on, e.g. 127.0.0.1 */
    int port;                    /* 0: pick a free one */
    const char *advertised_host; /* NULL: host */
    int default_partitions;      /* for topics created without a count; 0: 1 */
    bool auto_create_topics;     /* by Metadata requests that allow it */
    int max_connections;         /* 0: 1024 */
    size_t max_request_bytes;    /* 0: 100 MiB */
    size_t max_input_bytes;      /* requests in memory, all connections; 0: 512 MiB */
    int64_t segment_bytes;       /* default of segment.bytes; 0: 1 GiB */
    enum {
        BROKER_SYNC_ALWAYS,
        BROKER_SYNC_INTERVAL,
        BROKER_SYNC_NEVER
    } sync;                /* when an acknowledgement may be sent */
    struct log *log;       /* borrowed */
    struct fileops *files; /* borrowed; NULL: the system's. Tests give their own (fileops.h) */
};
/* Recovers the data folder, binds and starts the threads. NULL with `e` set: a busy port (hint:
 * --port 0), a locked or damaged folder (hint says which file and offset), no permission. */
struct broker *broker_start(const struct broker_opts *o, struct err *e);
int broker_port(const struct broker *b);
/* Answers what is in flight, syncs, writes the clean-shutdown marker, ends the threads. */
struct broker *broker_stop(struct broker *b);
/* fdatasync calls so far, for benchmarks. */
int64_t broker_syncs(const struct broker *b);
