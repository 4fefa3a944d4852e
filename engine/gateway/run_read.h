/* Reading one run from the journal, in a job's thread: where its records lie, as far as that is
 * known (run_place.h). */
#pragma once
#include "gateway/api_int.h"
#include "triggers/journal.h"

#define AGENT_ID_BYTES (2 * FLOW_NAME_MAX + 2) /* NAMESPACE/NAME and a zero */

struct run_read {
    struct gateway *g;
    char id[RUN_ID_MAX];
    int64_t first;           /* offset of its request; -1: not known */
    char *authorization;     /* of who asks, for another node; NULL: none */
    struct journal_reader j; /* fn, arg: the caller's; trace: of this run, run_read_free frees it */
    int64_t deadline_ms;     /* for the reading, in ms from its begin; 0: JOB_READ_MS */
    struct trace_run *run;   /* what was found */
    /* run_read's own */
    int (*fn)(void *arg, struct rec *r, bool is_void);
    void *arg;
    int partition;
};
/* The loop's thread: checks the id and notes what this node knows of the run. False: answered with
 * 404. */
bool run_read_init(struct run_read *x, struct call *c, const char *id, bool tasks);
/* A thread of the pool. 0, or what fn returned; -ENOENT: there is no such run; else an error with
 * its reason. After fn stopped it, x->run is what was seen until then, or NULL. */
int run_read(struct run_read *x, struct kadmin *a, struct err *e);
/* The same from behind `after`, which must not be below the run's request. */
int run_read_from(struct run_read *x, struct kadmin *a, int64_t after, struct err *e);
void run_read_free(struct run_read *x);
/* A thread of the pool: the agent of a run, by the read model, else by the journal; "" when neither
 * knows the run. */
int run_agent(struct gateway *g, struct kadmin *a, const char *run, char *ret_agent, size_t size,
              struct err *e);
