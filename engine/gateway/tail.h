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
 * Only run.requested says whose run it is. The tail remembers that of the latest TAIL_KNOWN_MAX
 * runs for all subscribers of agents together; for a run that it does not know it asks the read
 * model or the journal, once, and holds back what comes for those subscribers until it knows.
 *
 * A broker that is away is asked again, and no record is left out. Where that can't be held (the
 * journal was cut where it was to be read; an agent could not be found out) those who miss
 * something are told, by fn with NULL. */
#pragma once
#include "core/rec.h"
#include "gateway/gateway.h"

#define TAIL_SUBSCRIBERS_MAX 200000
#define TAIL_KNOWN_MAX       100000 /* at least, and twice as many at most */
#define TAIL_HELD_MAX        10000  /* records of a partition */

struct tail;
struct tail_sub;
struct tail *tail_new(struct gateway *g); /* NULL: no memory */
struct tail *tail_free(struct tail *t);
/* The node has come (again), or is going: nothing is read without one. */
void tail_node(struct tail *t, bool there);
/* Of a partition: of one run, or of the runs of one agent (NAMESPACE/NAME), or of all; at most one
 * of the two is not NULL. fn gets borrowed records, or NULL: there is something that it was not
 * given. live (may be NULL) is called once, never inside tail_subscribe, when tail_next is known.
 * NULL: no memory, or too many. */
struct tail_sub *tail_subscribe(struct tail *t, int partition, const char *run, const char *agent,
                                void (*fn)(void *arg, const struct rec *r), void (*live)(void *arg),
                                void *arg);
/* Inside fn too. Returns NULL; takes NULL. */
struct tail_sub *tail_unsubscribe(struct tail_sub *s);
/* The offset from which on this subscriber is given everything; -1: not known yet. */
int64_t tail_next(const struct tail_sub *s);
/* Below this offset it was given everything that is for it; -1: not known yet. Never falls. */
int64_t tail_seen(const struct tail_sub *s);
/* The agent of the record's run, which the tail then remembers if the record says it; NULL: it does
 * not know, and whoever found out says so. */
const char *tail_agent_of(struct tail *t, const struct rec *r);
void tail_know(struct tail *t, const char *run, const char *agent);

struct tail_stats {
    size_t partitions, subscribers;
    int64_t records;
};
void tail_stats(const struct tail *t, struct tail_stats *ret);
