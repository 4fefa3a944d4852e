/* The live end of the journal: each partition that somebody listens to is read once, each record is
 * decoded once and given to those who want it. The loop's thread.
 *
 *   first subscriber -> STARTING (who owns the partition near its end? a job, or the node knows)
 *     -> LIVE (records from a known offset on, for ever) -> no subscriber for a while -> stopped
 *
 * A subscriber gets every record that is appended after tail_subscribe returned, in offset order,
 * and may get some that stood there before. `void` facts (of a former owner) are not given. What is
 * below is read by jobs (run_read.h): a stream subscribes first, reads up to tail_next, and then
 * gives what it was given meanwhile.
 *
 * A broker that is away is asked again; no record is left out, but what was cut meanwhile. */
#pragma once
#include "core/rec.h"
#include "gateway/gateway.h"

#define TAIL_SUBSCRIBERS_MAX 200000

struct tail;
struct tail_sub;
struct tail *tail_new(struct gateway *g); /* NULL: no memory */
struct tail *tail_free(struct tail *t);
/* The node has come (again), or is going: nothing is read without one. */
void tail_node(struct tail *t, bool there);
/* Of a partition (run NULL: all its runs). fn gets borrowed records. live (may be NULL) is called
 * once, never inside tail_subscribe, when tail_next is known. NULL: no memory, or too many. */
struct tail_sub *tail_subscribe(struct tail *t, int partition, const char *run,
                                void (*fn)(void *arg, const struct rec *r), void (*live)(void *arg),
                                void *arg);
/* Inside fn too. Returns NULL; takes NULL. */
struct tail_sub *tail_unsubscribe(struct tail_sub *s);
/* The offset from which on this subscriber is given everything; -1: not known yet. */
int64_t tail_next(const struct tail_sub *s);

struct tail_stats {
    size_t partitions, subscribers;
    int64_t records;
};
void tail_stats(const struct tail *t, struct tail_stats *ret);
