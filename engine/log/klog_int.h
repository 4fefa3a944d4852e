/* Private to this folder: librdkafka handles with the engine's properties, their orderly end off
 * the loop's thread, and records in librdkafka's form. The loop's thread, unless said otherwise. */
#pragma once
#include <librdkafka/rdkafka.h>

#include "log/klog.h"
#include "loop/queue.h"

#define KTURN_MAX         2000 /* records that one consumer hands over in one turn of the loop */
#define KPOLL_MS          500 /* consumers are polled this often even when nothing wakes the loop */
#define KREADERS_MAX      16  /* handles for reading without a group */
#define KREC_HEADER_BYTES (64 * 1024)
#define KCOMMIT_META_MAX  4096
#define KBLOCKING_MS      10000 /* longest single blocking call in a pool thread */

enum khandle_kind {
    KHANDLE_PROBE,   /* tells whether brokers are reachable */
    KHANDLE_JOURNAL, /* idempotent and gapless producer */
    KHANDLE_PLAIN,   /* idempotent producer */
    KHANDLE_GROUP,   /* consumer in a group */
    KHANDLE_RANGE,   /* reads with an end */
    KHANDLE_TAIL     /* reads without one */
};
struct kprops {
    const struct config *config;
    const char *client_id;
    const char *group_id, *instance_id; /* KHANDLE_GROUP */
    int64_t session_timeout_ms;
    size_t max_inflight, max_inflight_bytes; /* producers; 0: librdkafka's default */
    int events;                              /* RD_KAFKA_EVENT_*; 0: none */
    void *opaque;
    void (*rebalance)(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *v,
                      void *opaque);
    void (*error)(rd_kafka_t *rk, int err, const char *reason, void *opaque);
};
/* A client handle; thread-safe. NULL with `e` set: -EINVAL for a bad property, in librdkafka's
 * words. Its opaque is p->opaque. */
rd_kafka_t *khandle_new(enum khandle_kind kind, const struct kprops *p, struct err *e);

/* librdkafka's errors as negative errno; 0 for no error. Thread-safe. */
int kerrno(rd_kafka_resp_err_t err);
/* A hint for people about one of them. */
const char *khint(rd_kafka_resp_err_t err);

/* An eventfd in the loop that librdkafka's queues write to. */
struct kwake {
    struct loop_fd w;
    struct loop *loop;
};
int kwake_init(struct kwake *k, struct loop *l, void (*fn)(struct loop_fd *w, uint32_t events));
void kwake_watch(struct kwake *k, rd_kafka_queue_t *q);
void kwake_unwatch(rd_kafka_queue_t *q); /* before the eventfd is closed */
void kwake_again(struct kwake *k);       /* the loop is to come back in its next turn */
void kwake_clear(struct kwake *k);       /* first thing in fn */
void kwake_end(struct kwake *k);

/* Work of this folder on its helper pool. Every job is carried out, if late. */
struct kjob {
    struct pool_job job;
    struct list late; /* waits for room in the pool */
    struct klog *klog;
    void (*work)(struct kjob *j); /* pool thread */
    void (*done)(struct kjob *j); /* loop thread; frees the job */
};
void kjob_start(struct klog *k, struct kjob *j);
/* Time-out that librdkafka gets for a request to a group's coordinator, in ms; the largest that it
 * takes. Its own time-out must not come before the caller's: librdkafka 2.0.2 keeps the search for
 * the coordinator although the request is gone, and when a broker answers later it reports to the
 * freed request, which aborts the process. So the caller waits as long as it likes and then
 * destroys the handle, which ends the search in order. */
#define KASK_MS 3600000

/* Purges and destroys the handle in the pool. `leave`: close the consumer (leave the group) before;
 * then fn (may be NULL) is called in the loop's thread. */
void khandle_bury(struct klog *k, rd_kafka_t *rk, bool leave, void (*fn)(void *arg), void *arg);

/* What the other files need of struct klog. */
const struct config *klog_config(const struct klog *k);
struct log *klog_log(const struct klog *k);
void klog_props(const struct klog *k, struct kprops *p); /* config and client id */

/* A reader handle that does not read this partition yet; it stays the property of klog. */
struct kreader;
struct kreader *kreader_get(struct klog *k, bool tail, const char *key, struct err *e);
rd_kafka_t *kreader_handle(struct kreader *r);
void kreader_put(struct kreader *r, const char *key);

/* librdkafka 2.0.2 looks only once a second whether a queue that was full (queued.min.messages) has
 * room again. A seek to the next offset wanted wakes it, and loses nothing while the queue is
 * empty. kflow_take counts a record; kflow_drained tells, when the queue is empty, whether it can
 * have been full since it was empty before. */
struct kflow {
    size_t records, bytes;
};
static inline void kflow_take(struct kflow *f, const rd_kafka_message_t *m)
{
    f->records++;
    f->bytes += m->len + m->key_len;
}
static inline bool kflow_drained(struct kflow *f)
{
    bool full = f->records >= 10000 || f->bytes >= (8u << 20);
    *f = (struct kflow){0};
    return full;
}

/* The message as a record; headers go to `h` (KREC_HEADERS_MAX of them; more, or malformed ones:
 * -EBADMSG). Thread-safe. */
int krec_from(const rd_kafka_message_t *m, struct kheader *h, struct krec *ret);
/* A copy of a record that librdkafka can take over without copying its value again. */
#define KREC_OVERHEAD 64 /* bytes in a request beside key, value and headers, at most */
struct kpacked {
    char *block;                 /* value, then key; ours */
    struct slice value, key;     /* into block; p NULL: null */
    rd_kafka_headers_t *headers; /* ours */
    int64_t time_ms;             /* 0: when it is handed over */
    int partition;
    size_t size; /* bytes that it takes in a request, at most */
};
/* 0, -EMSGSIZE (headers), -EINVAL or -ENOMEM. Thread-safe, as all below. */
int krec_pack(const struct krec *r, struct kpacked *ret);
void kpacked_free(struct kpacked *k);
/* Enqueues it with this opaque: 0, and it is librdkafka's; -EAGAIN, -EMSGSIZE, -EINVAL, -ENOENT or
 * -EIO, and it is as it was. */
int krec_hand(rd_kafka_t *rk, rd_kafka_topic_t *rkt, struct kpacked *k, void *opaque);
/* Both in one. */
int krec_send(rd_kafka_t *rk, rd_kafka_topic_t *rkt, const struct krec *r, void *opaque);
