/* The log as the engine sees it, over librdkafka: producers, group consumers, readers. Everything
 * is asynchronous and reports in the loop's thread (librdkafka's queues wake it by eventfd);
 * nothing here blocks the loop. Blocking administration is in kadmin.h, for the CLI and the helper
 * pool.
 *
 * librdkafka properties: those of the configuration first, then the engine's own (see kconf.c for
 * the table and reasons). */
#pragma once
#include "base/logger.h"
#include "config/config.h"
#include "loop/loop.h"

struct klog;
struct klog_opts {
    const struct config *config; /* borrowed */
    struct loop *loop;
    struct log *log;
    const char *client_id;
};
struct klog *klog_new(const struct klog_opts *o,
                      struct err *e); /* -EINVAL: a bad property, with librdkafka's words */
/* After its producers and readers were freed and its groups have called back that they are closed.
 * Waits for handles to end. */
struct klog *klog_free(struct klog *k);
/* Brokers reachable, as far as is known? Changes are logged (retry with a visible message). */
bool klog_up(const struct klog *k);
struct loop *klog_loop(const struct klog *k); /* the loop it was made with */

#define KREC_HEADERS_MAX 64
struct kheader {
    struct slice name, value; /* value.p NULL: a null value */
};
/* A record read or to be written; slices are borrowed for the length of the call. */
struct krec {
    struct slice topic;
    int partition;           /* -1: by key (murmur2) */
    int64_t offset;          /* read: its offset */
    int64_t time_ms;         /* CreateTime */
    struct slice key, value; /* p NULL: null */
    const struct kheader *headers;
    size_t nheaders;
};

/* ---- producing ---- */
struct kprod;
enum kprod_kind {
    KPROD_JOURNAL, /* idempotent and gapless: after one failure nothing later of this producer may
                      land */
    KPROD_PLAIN    /* idempotent, acks=all */
};
/* on_delivery: once for each record sent, in the loop's thread. offset -1: unknown (a retried
 * produce). error 0 or a negative errno; err text in `why`. on_fatal: the producer is dead (gap,
 * fenced, fatal); every undelivered record was or will be reported; make a new one. */
struct kprod_opts {
    enum kprod_kind kind;
    size_t max_inflight;       /* records; 0: 100000 */
    size_t max_inflight_bytes; /* 0: 256 MiB */
    void (*on_delivery)(void *arg, void *opaque, int error, int partition, int64_t offset,
                        const char *why);
    void (*on_fatal)(void *arg, const char *why);
    void *arg;
};
struct kprod *kprod_new(struct klog *k, const struct kprod_opts *o, struct err *e);
/* Drops what is under way (reported with -ECANCELED unless `silent`) and destroys it off the loop's
 * thread; records already sent may still land. */
struct kprod *kprod_free(struct kprod *p, bool silent);
/* 0; -EAGAIN the queue is full (stop asking for more work), -EMSGSIZE too large, -EPIPE the
 * producer is dead. Copied. It leaves the process when the loop next sleeps; if others of its
 * partition are still to be acknowledged, it may wait for them (kprod.c). */
int kprod_send(struct kprod *p, const struct krec *r, void *opaque);
size_t kprod_inflight(const struct kprod *p); /* sent and not yet reported */
size_t kprod_held(const struct kprod *p);     /* of these, those that no broker can have yet */

/* ---- consuming in a group ---- */
struct kgroup;
struct kpart {
    char *topic;
    int partition;
    int64_t offset; /* committed, start or position; -1: none */
    char *metadata; /* of the commit; NULL: none */
    int error;      /* negative errno of this partition */
};
struct kgroup_opts {
    const char *group_id;
    const char *const *topics; /* NULL-terminated */
    const char *instance_id;   /* static membership; NULL: dynamic */
    int64_t session_timeout_ms;
    int64_t revoke_ms; /* how long a revocation may take; 0: 1 s */
    /* A new assignment (eager: the whole of it), with committed offsets and metadata already read.
     * The callee answers, now or later, with kgroup_assign; until then nothing is consumed. */
    void (*on_assign)(void *arg, struct kpart *v, size_t n);
    /* The whole assignment is gone. lost: it was not given back in order (no commit is possible).
     * The callee may send commits from here on unless lost; the partitions are given up at
     * kgroup_revoke_done, at the latest revoke_ms later. */
    void (*on_revoke)(void *arg, bool lost);
    void (*on_record)(void *arg, const struct krec *r);
    /* A commit's end: error 0 or negative errno (-ESTALE: no longer a member, or a new generation:
     * pending commits are dropped at revoke and reported so). */
    void (*on_commit)(void *arg, void *opaque, int error);
    void (*on_end)(void *arg, int partition,
                   const char *topic); /* the partition's end is reached; may be NULL */
    /* A position is gone (offset out of range): the callee re-assigns or gives up. Not called of a
     * consumer that closes or has lost its assignment. */
    void (*on_reset)(void *arg, const char *topic, int partition);
    void (*on_fatal)(void *arg,
                     const char *why); /* a static instance was replaced; the group is dead */
    void *arg;
};
struct kgroup *kgroup_new(struct klog *k, const struct kgroup_opts *o, struct err *e);
/* Starts consuming at v[].offset (explicit, also for logical start: -2 begin, -1 end). */
int kgroup_assign(struct kgroup *g, const struct kpart *v, size_t n);
void kgroup_revoke_done(struct kgroup *g);
/* Commits one offset with metadata (up to 4096 bytes), checked against the generation this
 * assignment has. -EAGAIN when one of this partition is under way already, -ESTALE when nothing is
 * assigned. */
int kgroup_commit(struct kgroup *g, const char *topic, int partition, int64_t offset,
                  const char *metadata, void *opaque);
int kgroup_pause(struct kgroup *g, const char *topic,
                 int partition); /* partition -1: all; idempotent */
int kgroup_resume(struct kgroup *g, const char *topic, int partition);
/* Leaves the group properly (unsubscribe, serve the revoke, close) and then calls fn; frees g. fn
 * may be NULL. */
void kgroup_close(struct kgroup *g, void (*fn)(void *arg), void *arg);
/* Frees it at once, or when its handle is gone, and calls nobody: for an opening that went wrong,
 * or an end that took too long. Not in its callbacks. The group notices by the session. NULL is
 * taken too. */
struct kgroup *kgroup_drop(struct kgroup *g);

/* ---- reading without a group ---- */
struct kread;
/* Reads one partition from `from` (-2: begin) up to, not including, `to` (-1: the high watermark at
 the start; INT64_MAX: go on for ever).

 * fn gets each record; done once (the reader is gone then: do not stop it), with 0, -ERANGE (from
 is cut or beyond the end), -ENOENT no such topic, or another errno. */
struct kread *kread_start(struct klog *k, const char *topic, int partition, int64_t from,
                          int64_t to, void (*fn)(void *arg, const struct krec *r),
                          void (*done)(void *arg, int error), void *arg, struct err *e);
struct kread *kread_stop(struct kread *r); /* done is not called */
