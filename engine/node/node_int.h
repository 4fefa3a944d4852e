/* Shared by the files of struct node. */
#pragma once
#include "base/clock.h"
#include "base/fail.h"
#include "node/node.h"
#include "sched/sched.h"
#include "tasks/tasks.h"

#define TICK_MS         50
#define COMMIT_EVERY_MS 200 /* a moved tide mark is committed at most so often */
/* Requests waiting on this node: beyond it, or beyond runs.waiting, the router pauses. */
#define PENDING_BYTES_MAX (256u << 20)
#define EFFECT_DELAY_MS                                                                            \
    20 /* an effect that may not start now (lease) is asked for again after it */

/* A journal partition assigned to this node. */
struct npart {
    struct node *node;
    int partition;
    uint64_t generation; /* of the assignment it came with */
    struct part *part;
    struct part_mark start; /* what the commit's metadata names; last < 0: nothing */
    struct kread *load;
    struct buf load_text;
    int64_t load_epoch;
    uint64_t load_nonce;
    int load_next, load_total;
    bool loaded, failed;
    int64_t consume_from;
    int64_t committed; /* offset and metadata of the latest commit known to be accepted */
    char metadata[128];
    bool committing;
    int64_t commit_sent_ms;
    int64_t ticked_ms, cut, cut_ms;
    bool cutting;
};

/* An effect that core asked for: queued or under way. */
struct work {
    struct sched_item item;
    struct list node; /* in node.works */
    struct node *owner;
    int partition;
    uint64_t generation, work_id;
    char run[RUN_ID_MAX];
    struct flow *flow; /* keeps the task alive */
    struct task_run *task;
    int priority;
    int64_t not_before_ms;
    char idem[IDEM_KEY_MAX], trace[TRACEPARENT_MAX];
    char *key, *source;
};

enum handover { HANDOVER_NONE, HANDOVER_ENDING, HANDOVER_SETTLING };
#define HANDOVER_SETTLE_MS 1000 /* for acknowledgements and the commit under way */

struct suspects;
struct node {
    struct node_opts o;
    const struct config *config;
    struct names names;
    struct loop *loop;
    struct log *log;
    int64_t wall_ahead_ms, clock_read_ms; /* the time of day of runs: follow_clock in node.c */
    bool clock_told;
    struct klog *klog;
    struct kprod *journal, *plain;
    struct kgroup *group;
    struct defs *defs;
    struct evalpool *evals;
    struct topic_schemas *schemas; /* of event topics */
    struct tasks *tasks;
    struct pool *helpers;
    struct kadmin *admin; /* used by one helper job at a time */
    bool admin_busy;
    struct router *router;
    struct feeds *feeds;
    const char **topics; /* event topics */
    int partitions;
    struct npart **parts; /* by partition; NULL: not assigned */
    uint64_t generation;
    bool awaiting, assigned, ready_told,
        journal_lost; /* awaiting: an assignment whose starting points are being read */
    int64_t journal_retry_ms, tick_parts_ms;
    enum handover handover;
    int64_t handover_until_ms;
    struct sched sched;
    struct list works; /* struct work */
    struct map works_by_run;
    struct list evals_pending; /* struct eval_wait */
    struct map secrets;        /* definition hash -> json_object of its secrets */
    int active;
    struct suspects *suspects;
    struct loop_timer tick;
    struct loop_task work;
    bool working_again;
    char boot_id[64], node_id[128];
    /* drain */
    bool draining, leaving, router_closed, feeds_closed, group_closed;
    int64_t drain_until_ms;
    void (*drained)(void *arg);
    void *drained_arg;
    struct node_stats stats;
};

extern const struct part_ops node_part_ops; /* effects.c; the argument is the struct node */

/* claims.c */
int claims_open(struct node *n, struct err *e);
/* Memory ran out in the fold or in what follows from it: the ownership ends; when the known state
 * itself misses a record, the node has to begin anew. */
void claims_no_memory(struct npart *np);
void claims_tick(struct node *n);
void claims_drop(struct node *n); /* all assigned partitions are gone */
void claims_journal_lost(struct node *n, const char *why);
void claims_commit_all(struct node *n); /* marks and starting points, before leaving */
/* To be called after the part was told anything: logs that it has just become the owner. */
void claims_owned(struct npart *np, enum part_status before);
struct npart *node_part(struct node *n, int partition, uint64_t generation);
/* handover.c: claims_commit_all, claims_drop and kgroup_revoke_done, when what is under way has
 * ended or too much time has passed. */
void handover_begin(struct node *n);
void handover_step(struct node *n);
/* effects.c */
size_t effects_under_way(const struct node *n); /* begun, and not yet told of by a fact */
int effects_open(struct node *n, struct err *e);
void effects_dispatch(struct node *n);
void effects_close(struct node *n);
void node_wake(struct node *n); /* work in this turn */
static inline void part_now(struct part *p)
{
    const struct node *n = p->arg;
    int64_t boot_ms = clock_boot_ms();
    part_time(p, boot_ms, boot_ms + n->wall_ahead_ms);
}
/* suspect.c: a shared mapping, so that what is noted survives the process. */
struct suspects *suspects_open(const char *dir, struct log *log, struct err *e);
struct suspects *suspects_close(struct suspects *s);
void suspects_note(struct suspects *s, const char *run); /* NULL: done */
int suspects_crashes(const struct suspects *s, const char *run);
