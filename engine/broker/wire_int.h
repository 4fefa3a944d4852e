/* What the files of the protocol half share. Folder-private.
 *
 * Owning thread: the broker's thread owns everything here; other threads only write to wake_fd.
 *
 * A request lives as long as its handler runs. Its reply lives until the bytes are sent; replies of
 * a connection stand in request order and only the finished head of that list is sent, so a parked
 * one holds back those behind it. States of a reply: open (the handler writes), parked (something
 * will call reply_done later), done (may be sent). When its connection dies a parked reply is
 * orphaned (c == NULL) and is freed when it is finished, because what it waits for takes effect all
 * the same. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/heap.h"
#include "base/list.h"
#include "broker/broker.h"
#include "broker/codec.h"
#include "broker/kerr.h"
#include "broker/store.h"

#define NODE_ID           1
#define MAX_CONNECTIONS   1024
#define MAX_REQUEST_BYTES ((size_t)100 << 20)
#define MAX_INPUT_BYTES   ((size_t)512 << 20) /* of all connections together */
#define MAX_REPLY_BYTES   ((size_t)256 << 20)
#define MAX_FETCH_BYTES   ((size_t)64 << 20)
#define MAX_PARKED        256                 /* replies a connection may have waiting */
#define MAX_OUTPUT_BYTES  ((size_t)64 << 20)  /* finished but not sent, a connection */
#define READ_TURN_BYTES   ((size_t)4 << 20)   /* read from one connection in one turn */
#define KEEP_BYTES        ((size_t)256 << 10) /* buffer kept by an idle connection */
#define IDLE_MS           (10 * 60 * 1000)
#define MAX_FETCH_WAIT_MS 60000
#define MAX_PARTITIONS    10000 /* of one topic */
/* What a client may do, as bits by Kafka's numbers of operations; told only to those that ask.
 * There is no authorizer yet, so it is all that such a thing can be asked for. */
#define OPERATIONS_UNKNOWN INT32_MIN
#define OPERATIONS_TOPIC   0x0df8
#define OPERATIONS_CLUSTER 0x1fa0
#define OPERATIONS_GROUP   0x0148
#define OFFSETS_TOPIC      "__consumer_offsets"

struct gstore;

/* A one-shot timer in the broker's heap; clock: CLOCK_BOOTTIME in ms. */
struct wtimer {
    struct heap_node node;
    void (*fn)(struct broker *b, struct wtimer *t);
};

struct conn {
    struct list node;  /* broker.conns */
    struct list dirty; /* broker.dirty, when something may be sent or read on */
    struct broker *b;
    int fd;
    uint32_t events; /* what epoll watches for */
    struct buf in;
    size_t in_at; /* handled up to here */
    struct list replies;
    int nreplies;
    size_t out_bytes; /* in finished replies */
    bool paused;      /* too much waiting: nothing is read until it went down */
    bool dead;        /* to be freed at the end of the turn */
    bool eof;
    int64_t last_ms;
    char peer[64];
    char host[64]; /* without the port, as groups show it */
};

struct reply {
    struct list node;
    struct conn *c; /* NULL: orphaned */
    struct broker *b;
    struct buf out;
    size_t sent;
    int16_t api, version;
    bool flex, done, silent;         /* silent: nothing is sent (Produce with acks=0) */
    void (*cancel)(struct reply *r); /* the connection died; NULL: runs on as an orphan */
    void *state;                     /* of whoever parked it */
};

/* One request while its handler runs. */
struct req {
    struct broker *b;
    struct conn *c;
    struct reply *r;
    int version;
    struct slice client_id;
    struct slice body; /* the whole body, for a handler that must read it again later */
    struct rd in;
    struct wr out;
};

/* What a handler returns; negative: the request makes no sense, close the connection. */
enum { REQ_DONE = 0, REQ_PARKED = 1 };

/* The table of Kafka APIs: dispatch, bounds and ApiVersions are made from it. `from` is the lowest
 * version that is really served; min may be lower because clients look for it (facts: librdkafka
 * before 2.11). */
struct api {
    int16_t key, min, max, flex_from;
    const char *name, *shape;
    int (*fn)(struct req *q);
};
const struct api *api_find(int key);
const struct api *api_table(size_t *ret_n);
/* Handles one frame (without its size). Negative: malformed, `why` says what. */
int api_dispatch(struct conn *c, char *p, size_t n, const char **why);

/* api_*.c */
int api_versions(struct req *q);
int api_produce(struct req *q);
int api_fetch(struct req *q);
int api_metadata(struct req *q);
int api_describe_cluster(struct req *q);
int api_list_offsets(struct req *q);
int api_offset_commit(struct req *q);
int api_offset_fetch(struct req *q);
int api_offset_delete(struct req *q);
int api_find_coordinator(struct req *q);
int api_join_group(struct req *q);
int api_sync_group(struct req *q);
int api_heartbeat(struct req *q);
int api_leave_group(struct req *q);
int api_describe_groups(struct req *q);
int api_list_groups(struct req *q);
int api_delete_groups(struct req *q);
int api_create_topics(struct req *q);
int api_delete_topics(struct req *q);
int api_create_partitions(struct req *q);
int api_delete_records(struct req *q);
int api_describe_configs(struct req *q);
int api_alter_configs(struct req *q);
int api_incremental_alter_configs(struct req *q);
int api_describe_log_dirs(struct req *q);
int api_init_producer_id(struct req *q);

/* A Kafka error for a negative errno of the store. */
int16_t kerr_of(int rc);
bool topic_name_ok(struct slice name);
/* The partition, or NULL when there is none. */
struct plog *find_part(struct broker *b, struct slice topic, int32_t index);
struct topic *find_topic_id(struct broker *b, const uint8_t id[16]);
/* host and port that a client of this connection should use. */
struct slice broker_advertised(const struct conn *c, char buf[static 64]);
struct wr reply_wr(struct reply *r);
void reply_done(struct reply *r);

/* conn.c */
struct conn *conn_new(struct broker *b, int fd);
void conn_ready(struct conn *c, uint32_t events);
void conn_flush(struct conn *c); /* sends what may be sent, then reads on if it had paused */
void conn_close(struct conn *c, const char *why);
struct conn *conn_free(struct conn *c);
struct reply *reply_new(struct conn *c);
struct reply *reply_free(struct reply *r);

/* wait.c: what waits for a partition's durable end. */
struct ack_wait {
    struct list node;
    int64_t end;
    /* err: 0, or the Kafka error with which the partition ended. Called once; may free the wait. */
    void (*fn)(struct broker *b, struct ack_wait *w, int16_t err);
};
struct fetch;
struct fetch_link {
    struct list node;
    struct fetch *f;
};
/* Calls w->fn when the durable end has passed w->end. False: it has already, fn will not be called.
 */
bool wait_ack(struct broker *b, struct plog *p, struct ack_wait *w);
int wait_data(struct plog *p, struct fetch_link *l); /* 0 or -ENOMEM */
void wait_on_durable(void *arg, struct plog *p);     /* for store_poll; arg: the broker */
/* The partition goes away: every wait ends with `err`. */
void wait_drop(struct broker *b, struct plog *p, int16_t err);
/* Runs the fetches that were woken, in the order of waking. */
void fetch_run_ready(struct broker *b);
void fetch_wake(struct fetch *f);

void timer_set(struct broker *b, struct wtimer *t, int64_t at_ms); /* sets or moves */
void timer_unset(struct broker *b, struct wtimer *t);

struct broker {
    struct broker_opts o; /* strings owned */
    struct store *store;
    struct gstore *gstore;
    struct log *log;
    pthread_t thread;
    bool started;
    int epfd, listen_fd, wake_fd;
    int port;
    bool wildcard;      /* listens on every address and advertises the one a client came to */
    bool listen_paused; /* no descriptors or too many connections; retried each second */
    char cluster_id[23];
    atomic_bool stop;
    struct heap timers;
    struct wtimer tick, group_timer;
    struct list conns, dirty, ready; /* ready: woken fetches */
    int nconns;
    size_t in_bytes;         /* capacity of all input buffers */
    int64_t now_ms, wall_ms; /* as of this turn */
    atomic_llong syncs;      /* copied once a turn for other threads */
};

/* api_group.c: what groups answer; `token` is the parked reply. */
struct group_joined;
struct group_synced;
void group_joined_reply(void *arg, void *token, const struct group_joined *r);
void group_synced_reply(void *arg, void *token, const struct group_synced *r);
