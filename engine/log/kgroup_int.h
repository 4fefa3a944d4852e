/* Private: what the two files of the group consumer share. kgroup.c has membership, kgroup_part.c
 * positions and commits. The loop's thread. */
#pragma once
#include "log/klog_int.h"

enum kgroup_state {
    KGROUP_NONE,     /* nothing assigned */
    KGROUP_FETCHING, /* assigned; committed offsets are being read */
    KGROUP_ASSIGNED, /* on_assign was called; waits for kgroup_assign */
    KGROUP_RUNNING,  /* records flow */
    KGROUP_REVOKING, /* waits for revoke_done and for commits under way */
    KGROUP_LEAVING,  /* the handle is with the pool; only fn follows */
    KGROUP_DEAD      /* fatal; waits for kgroup_close */
};
struct gpart {
    char *topic;
    int partition;
    int64_t next; /* the next offset wanted; logical until the first record */
    bool active;  /* kgroup_assign gave a position */
    bool paused;
    bool reset;      /* its position was gone; librdkafka no longer fetches it */
    bool committing; /* one commit is under way, with this opaque */
    void *commit_opaque;
    int64_t committed; /* as read at the assignment */
    char *metadata;
    int error;
};
struct kgroup {
    struct klog *klog;
    struct kgroup_opts o;
    char *group_id, *instance_id;
    rd_kafka_topic_partition_list_t *topics;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue, *aux; /* consumer's; commits and committed offsets */
    struct kwake wake;
    struct loop_timer tick;
    struct loop_task later;
    enum kgroup_state state;
    struct gpart *parts;
    size_t nparts, last; /* last: where the previous look-up hit */
    struct kflow flow;
    size_t outstanding; /* commits under way */
    uint64_t seq;       /* of the assignment; answers of older ones are dropped */
    bool lost, revoke_done, closing, unsubscribed, fatal;
    bool fenced;          /* fatal, because another has this instance id */
    int64_t disturbed_ms; /* the latest trouble with the brokers; 0: none so far */
    int64_t forgiven_ms;  /* when a fencing was last taken for its consequence; 0: never */
    int64_t deadline_ms;  /* of the revocation */
    int64_t close_at_ms;  /* closing is forced then */
    int64_t ask_at_ms;    /* 0: the question for committed offsets is out */
    size_t asked;         /* questions out, those of former assignments too */
    int64_t asked_ms;     /* when there was none before */
    /* What the rebalance callback saw, in order, until the poll that called it returns. */
    struct {
        rd_kafka_topic_partition_list_t *assigned; /* NULL: a revocation */
        bool lost;
    } seen[4];
    size_t nseen;
    char why[256];
    void (*closed)(void *arg);
    void *closed_arg;
};

/* The only writer of state. */
void kgroup_set(struct kgroup *g, enum kgroup_state s);
struct gpart *gpart_find(struct kgroup *g, const char *topic, int partition);
void gparts_clear(struct kgroup *g);
/* The consumer's queue is empty. */
void gparts_drained(struct kgroup *g);
void gpart_message(struct kgroup *g, const rd_kafka_message_t *m, struct kheader *h);
/* Reports every commit under way as -ESTALE; their answers will not be read. */
void gcommits_drop(struct kgroup *g);
void gcommit_event(struct kgroup *g, rd_kafka_event_t *ev);
