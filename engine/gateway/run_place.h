/* Where the records of a run lie in its partition, and so what has to be read for them: by the read
 * model here, or by that of the partition's owner. A thread of the pool. */
#pragma once
#include "gateway/api_int.h"
#include "gateway/owners.h"
#include "view/spans.h"

/* False: neither keeps its partition; *ret says so then. A run that has no record below `next` has
 * no spans. Asks another node only with `others`, with `authorization` (NULL: none). */
bool run_place(struct gateway *g, struct kadmin *a, const char *run, bool others,
               const char *authorization, struct run_place *ret);

/* As nodes tell each other: {"spans": [{from, to, epoch, nonce}], "next": {from, epoch, nonce}}.
 * False: it is not that. */
void run_place_json(const struct run_place *p, struct json_object *o);
bool run_place_from(struct slice json, struct run_place *ret);

struct run_plan {
    struct span v[SPANS_MAX + 1]; /* ranges to be read in this order; each may be empty */
    int n;
    bool placed; /* by `place`; else all from `want` on, or from where an owner is known */
};
/* For what stands in [want, to) of a log that holds [low, high); to <= high. Errors of
 * journal_begin. */
int run_plan(struct gateway *g, struct kadmin *a, int partition, const struct run_place *place,
             int64_t want, int64_t to, int64_t low, int64_t high, struct run_plan *ret,
             struct err *e);
/* After a reading by the plan up to `to` that came across these owners: the next one begins nearer.
 * Of a reading by place nothing is kept, since it has gaps. */
void run_plan_learn(struct gateway *g, int partition, const struct run_plan *plan, int64_t to,
                    const struct owned *seen);
