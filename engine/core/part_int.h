/* Shared by the files of struct part: part.c, drive.c, decide.c, mark.c. */
#pragma once
#include "core/part.h"

#define RUN_INFLIGHT_MAX   256 /* own facts of one run not known yet; beyond it the run waits */
#define RUN_AHEAD_MAX      8   /* safe effects ahead of what is known */
#define STATE_IDS_FACTOR   4
#define RUN_TASKS_MAX      100000
#define ENDED_MAX          20000 /* runs that ended, remembered against publishers that repeat */
#define CRASHES_MAX        3     /* a run in whose step the process died so often is set aside */
#define DEFINITION_WAIT_MS 60000 /* a request whose definition is not here yet waits so long */
#define STEPS_A_TURN       64    /* of one run, before another has its turn */

struct own_rec {
    struct list node;
    struct rec *rec;
    struct run *run;      /* whose inflight counts it; NULL: none */
    struct pend *request; /* consumed by it; NULL: none */
};
struct floor {
    int64_t value;
    uint64_t barrier; /* own facts appended before it was read */
};

static inline bool part_rule(const struct part *p, enum part_rule r)
{
    return !(p->off & r);
}

/* A new fact of this ownership with epoch, nonce and time set; NULL: no memory. */
struct rec *fact_new(struct part *p, enum rec_type t, const char *run);
/* Appends and applies it to spec; consumes the caller's reference. 0; -EMSGSIZE: too large, nothing
 * happened; or what ops->append says. When memory runs out between the two the part is broken. */
int fact_append(struct part *p, struct rec *r, struct run *run, struct pend *request);
void run_wake(struct part *p, struct run *r);   /* puts it into the ready list */
void run_unstep(struct part *p, struct run *r); /* drops the step and what was asked for it */
void drive(struct part *p, struct run *r);
void decide(struct part *p);
void decide_later(struct part *p, struct pend *d);
void decide_reset(struct part *p); /* a new ownership: everything pending is to be decided */
