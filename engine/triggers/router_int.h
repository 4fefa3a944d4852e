/* Shared by router.c (partitions, commits, life) and route_job.c (one event). */
#pragma once
#include "core/route.h"
#include "flow/problem.h"
#include "triggers/event.h"
#include "triggers/router.h"

#define JOBS_PAUSE 1000 /* buffered events of a partition: pause above, resume below half */

/* A source partition assigned to this router. */
struct rpart {
    struct router *router;
    char *topic;
    int partition;
    struct route route;
    uint64_t incarnation;
    char src_name[NAME_MAX_BYTES + 128]; /* FEED:TOPIC/INCARNATION/PARTITION */
    bool ready;                          /* the start position is committed: may route */
    bool committing, paused;
    int64_t commit_offset; /* under way */
    int64_t to;            /* replays: end of the range; else INT64_MAX */
    bool ended;            /* replays: everything below `to` was read */
    struct list jobs;      /* struct job, in offset order; only the first is worked on */
    size_t njobs;
};

struct candidate {
    struct flow *flow; /* referenced */
    char *id;
};
enum job_phase { JOB_READ, JOB_SCHEMA, JOB_FILTER, JOB_KEY, JOB_SEND, JOB_DEAD, JOB_DONE };
/* One event on its way. Frees itself when done; while an evaluation is under way and its partition
 * is gone, `part` is NULL. */
struct job {
    struct list node;
    struct rpart *part;
    struct router *router;
    int64_t offset, time_ms;
    struct krec rec; /* slices into mem */
    struct kheader headers[KREC_HEADERS_MAX];
    char *mem;
    struct event event;
    struct candidate *v;
    size_t n, i, filter, attr;
    enum job_phase phase;
    bool asked, answered; /* an evaluation is under way; its answer is here */
    struct json_object *value;
    struct err error;
    char *key;
    struct problem problem; /* JOB_DEAD */
};

struct router {
    struct router_opts o;
    char group_id[NAME_MAX_BYTES + 1];
    struct kgroup *group;
    struct kadmin *admin;
    struct rpart **parts;
    size_t nparts;
    int64_t checked_ms;  /* replays: when all nodes' commits were looked at */
    uint64_t generation; /* of the assignment: late answers of helpers are dropped */
    bool broken;         /* a request was not delivered: begin again at the committed offsets */
    bool closing, done_told, helping;
    void (*closed)(void *arg);
    void *closed_arg;
    int64_t routed, dead;
    size_t orphans;   /* jobs whose partition is gone and whose evaluation is under way */
    size_t under_way; /* records sent and not reported yet */
};

/* A request or a dead letter under way. */
struct routed {
    struct sent sent;
    struct router *router;
    uint64_t generation;
    size_t part; /* index in router->parts */
    int64_t offset;
};

struct job *job_new(struct rpart *p, const struct krec *r);
void job_free(struct job *j);
/* Works on the partition's first job as far as it goes, then on the next. */
void jobs_run(struct rpart *p);
void router_orphan_gone(struct router *r);
/* Sends with the plain producer and holds the offset until it is acknowledged. 0, -EAGAIN. */
bool router_full(const struct router *r); /* the node has enough to do */
int router_send(struct rpart *p, int64_t offset, const struct krec *r);
