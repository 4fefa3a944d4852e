/* Shared by drive.c (what a run does next), facts.c (the facts that a step gives) and times.c
 * (timeouts). All of them work on the run's spec state and append own facts; 0 or what fact_append
 * returns, -ENOMEM too. */
#pragma once
#include "core/frame.h"
#include "core/part_int.h"

/* The innermost composite task; NULL: none. */
static inline const struct frame *run_top(const struct run_state *st)
{
    return st->nframes ? &st->frames[st->nframes - 1] : NULL;
}

/* ---- facts.c ---- */

/* A task fact about the present place; NULL: no memory. */
struct rec *task_fact(struct part *p, enum rec_type t, struct run *run);
/* One for each end of a step (step.h): DONE, ENTER, ITERATE, CAUGHT, before EFFECT, WAIT. */
int fact_done(struct part *p, struct run *run);
int fact_enter(struct part *p, struct run *run);
int fact_iterate(struct part *p, struct run *run);
int fact_caught(struct part *p, struct run *run);
int fact_leaf_started(struct part *p, struct run *run);
int fact_waiting(struct part *p, struct run *run);

/* The frame of the try that is to be asked about an error at the present place, counted from
 * `below`; NULL: none. What fails in a catch is for the try outside. */
const struct frame *run_catcher(const struct run_state *st, size_t below);
/* task.faulted that is not the end: the try f decides in a step of its own. Takes over r. */
int fact_for_catch(struct part *p, struct rec *r, struct run *run, const struct problem *pr,
                   const struct frame *f);
/* An error at the present place: to the try around it, or the run's end. of_task false: of the run
 * itself, which nothing catches. */
int run_fault(struct part *p, struct run *run, const struct problem *pr, bool of_task);
/* The end of a run by an error that no try is asked about. t: its task.faulted (of_task), taken
 * over; NULL with of_task: no memory. */
int run_fault_end(struct part *p, struct run *run, const struct problem *pr, struct rec *t,
                  bool of_task);
/* A fault of the engine's own finding. What a definition may expect (too large, unknown outcome) a
 * try may catch; what would only come again (unknown place, too many tasks) ends the run. */
int run_fault_with(struct part *p, struct run *run, bool may_catch, const char *name,
                   const char *title, const char *detail);
/* run.faulted for a task.faulted that a former owner left without it. */
int fact_end_faulted(struct part *p, struct run *run);

/* ---- times.c ---- */

/* A timeout that has passed: of the run (*ret_frame -1), or of a frame, outermost first; of an
 * attempt when *ret_attempt. */
bool run_expired(const struct part *p, const struct run_state *st, int *ret_frame,
                 bool *ret_attempt);
/* What is inside is stopped, and the fault is written. */
int run_expire(struct part *p, struct run *r, int frame, bool attempt);
/* Wakes the run at the next time that means something to it: end of a wait or of a retry's delay, a
 * timeout. */
int run_arm(struct part *p, struct run *r);
