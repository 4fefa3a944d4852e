/* Reads event topics in a consumer group of its own and appends run.requested for every active
 * agent whose filter matches. One source partition is routed strictly in order; what can't be
 * routed (not JSON, too large, data that does not fit the topic's schema, an expression that fails)
 * goes to the dead letters with its bytes and the reason. Backpressure: too much under way, or a
 * full backlog on this node, pauses the consumer. */
#pragma once
#include "flow/evalpool.h"
#include "loop/queue.h"
#include "triggers/defs.h"
#include "triggers/topic_schemas.h"

struct router;
struct router_range { /* replays */
    char *topic;
    int partition;
    int64_t from, to; /* [from, to) */
};
struct router_opts {
    struct loop *loop;
    struct klog *klog;
    struct log *log;
    const struct config *config;
    const struct names *names;
    struct defs *defs;
    const struct topic_schemas *schemas; /* NULL: events are held against none */
    struct evalpool *pool;
    struct pool *helpers; /* for what blocks: watermarks at the first start */
    struct kprod *prod;   /* plain producer; its on_delivery calls ((struct sent *)opaque)->done */
    int journal_partitions;
    const char *feed;                  /* "live", "replay:NAME" */
    const char *const *topics;         /* NULL-terminated */
    const struct router_range *ranges; /* replays; NULL: everything, for ever */
    size_t nranges;
    const char *only_agent; /* namespace/name or NULL: all */
    /* The node's backlog is full, with so many requests under way to it: route nothing for now. */
    bool (*full)(void *full_arg, size_t under_way);
    void *full_arg;
    void (*on_done)(void *arg, struct router *r); /* a replay is routed to its end and committed, on
                                                     every node */
    void *arg;
};
struct router *router_new(const struct router_opts *o, struct err *e);
/* Stops consuming, commits what is acknowledged, leaves the group, then fn; frees itself. */
void router_close(struct router *r, void (*fn)(void *arg), void *arg);
/* Frees it at once and calls nobody, when the producer and the pools are gone: for an opening that
 * went wrong, or an end that took too long (kgroup_drop). */
struct router *router_drop(struct router *r);
void router_tick(struct router *r); /* commits, resumes; about every 100 ms */
void router_defs_changed(struct router *r);
/* Whoever sends through the shared plain producer gives one of these as opaque. */
struct sent {
    void (*done)(struct sent *s, int error, int partition, int64_t offset,
                 const char *why); /* frees s */
};
int64_t router_routed(const struct router *r), router_dead(const struct router *r);
