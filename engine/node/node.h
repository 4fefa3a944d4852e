/* One node: a process that owns partitions of the journal and works on their runs. Everything in
 * the loop's thread. */
#pragma once
#include "core/part.h"
#include "log/kadmin.h"
#include "loop/queue.h"
#include "triggers/feeds.h"

struct node;
struct node_opts {
    struct loop *loop;
    const struct config *config; /* borrowed */
    struct log *log;
    const char *data_dir; /* for the suspects file; NULL: none */
    const char *self;     /* this binary, for expression children; NULL: /proc/self/exe */
    bool route;           /* false: no router, no replays (run FILE) */
    /* Both may be NULL. */
    void (*on_ready)(void *arg); /* the first time that every assigned partition is owned */
    void (*on_ended)(void *arg, const struct run *r); /* a run ended, acknowledged and known */
    void (*on_fatal)(void *arg,
                     const struct err *e); /* the node can't go on (wrong journal settings) */
    void *arg;
};
struct node *node_open(const struct node_opts *o, struct err *e);
/* Stops routing and claiming, lets effects under way end (at most timeout_ms), hands over, leaves
 * the group; then fn. Frees the node. */
void node_drain(struct node *n, int64_t timeout_ms, void (*fn)(void *arg), void *arg);

/* Whether this node has read that the agent's active version is the one of this hash, or that it is
 * inactive: what comes from now on is routed so. */
bool node_agent_is(const struct node *n, const char *agent, const char *hash, bool active);

/* For the gateway, which is in the same thread. Borrowed, as long as the node. */
const struct defs *node_defs(const struct node *n);
bool node_knows_agents(const struct node *n); /* the table of agents was read to its end */
struct klog *node_klog(const struct node *n);
struct evalpool *node_evals(const struct node *n);
struct topic_schemas *node_schemas(const struct node *n); /* NULL: the node does not route */
/* The plain producer. Its opaque is a struct sent (triggers/router.h), whose `done` is called once,
 * or never when the node is freed before. */
struct kprod *node_producer(const struct node *n);
int node_partitions(const struct node *n); /* of the journal */
const char *node_id(const struct node *n);
bool node_owns(const struct node *n, int partition);
/* Requests that wait in the partition for their runs to begin, if this node owns it; else 0. */
size_t node_waiting(const struct node *n, int partition);
/* How far this node has folded a partition that it owns, and who the owner is there. False: it is
 * not its owner. */
bool node_position(const struct node *n, int partition, int64_t *ret_next, int64_t *ret_epoch,
                   uint64_t *ret_nonce);
/* The live run in a partition that this node owns: its known state; NULL: none here. */
const struct run *node_run(const struct node *n, const char *id);

struct node_stats {
    int64_t runs_started, runs_ended, runs_faulted, effects, syncs;
    int owned, assigned;
    size_t active, backlog;
};
void node_stats(const struct node *n, struct node_stats *ret);

/* topics.c, blocking: makes tidemark's own topics where they are missing and checks the settings of
 * those that exist. -EINVAL with the command that mends it in the hint; -ETIMEDOUT no broker.
 * journal_partitions: what the journal has (or gets). `warn` gets what is only worth a warning. */
int node_topics(struct kadmin *a, const struct config *c, const struct names *n,
                int *ret_journal_partitions, struct diags *warn, struct err *e);
/* Gives an existing journal and table of keys the settings that node_topics wants; *ret_changed
 * tells whether one had others. Blocking; for `topics apply`. */
int node_topics_mend(struct kadmin *a, const struct names *n, bool *ret_changed, struct err *e);
