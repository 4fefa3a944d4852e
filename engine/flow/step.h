/* One step of a run as a pure machine: it asks for evaluations and for an effect, and is run again
 * with the answers. No clock, no random source, no I/O: a repeat after a takeover, from the same
 * inputs, asks the same and gives the same.
 *
 * Phases of a run: START (workflow input.from), then a TASK at a time, LEAVE when the list inside a
 * composite task has ended, CATCH when something inside a try has failed, FINISH (workflow
 * output.as). Each ends in ENTER or ITERATE (into a list), DONE with where to go on, CAUGHT, or
 * FAULT.
 *
 *   new -> run -> EVAL -> answer_eval -> run -> ... -> EFFECT -> answer_effect -> run -> ... ->
 * ENTER | ITERATE | DONE | CAUGHT | FAULT
 *
 * A loop: its TASK phase evaluates `in` and enters with index 0; LEAVE, after each iteration, gives
 * ITERATE or, at the end, DONE. A try: LEAVE when its list or catch.do has ended; CATCH decides
 * about an error: try again (CAUGHT with retry), catch.do or LEAVE (CAUGHT), or not caught (FAULT
 * with the same error).
 *
 * Data flow: specification, section "Data Flow" (facts, part b). One thread owns a step. */
#pragma once
#include "base/val.h"
#include "flow/flow.h"
#include "flow/problem.h"

/* Numbers stand in snapshots: new ones at the end. */
enum step_phase { PHASE_START, PHASE_TASK, PHASE_LEAVE, PHASE_FINISH, PHASE_CATCH };

/* Where a run goes on. task NULL with PHASE_FINISH: behind the last task of the root list. */
struct step_next {
    enum step_phase phase;
    const struct task *task; /* TASK: the next one; LEAVE, CATCH: the composite */
    int64_t index;           /* of the loop whose body begins there; -1: as it was */
    bool exit;               /* LEAVE: by `exit`, so that a loop ends */
};

/* What a step is computed from. Values are referenced by the step, everything else is borrowed for
 * its life. */
struct step_in {
    const struct flow *flow;
    enum step_phase phase;
    const struct task *task; /* TASK, LEAVE, CATCH */
    const char *ref;         /* its reference in the run, with the indexes of loops */
    int visit, attempt;
    struct val *raw; /* START: raw input of the workflow; TASK: raw input of the task; LEAVE: output
                        of the last inner task; FINISH: output of the last task */
    struct val *context;              /* $context */
    struct val *frame_raw, *frame_in; /* LEAVE, CATCH: raw and transformed input of the composite */
    struct val *items;                /* LEAVE of a loop: what it runs over, and how far it is */
    int64_t index;
    bool exiting;               /* LEAVE of a loop: by `exit` */
    bool caught;                /* LEAVE of a try: after an error */
    struct val *error;          /* CATCH: problem details */
    int64_t retries;            /* CATCH: how often it was tried again */
    int64_t frame_started_ms;   /* CATCH: when the try began */
    struct json_object *locals; /* variables of enclosing loops and catches, or NULL */
    struct val *wf_raw;         /* $workflow.input */
    int64_t now_ms;             /* record time of the latest fact this depends on */
    int64_t task_started_ms, run_started_ms;
    const char *run_id;
    struct json_object *secrets; /* name -> text for $secrets, or NULL */
};

enum step_want {
    STEP_EVAL,
    STEP_EFFECT,
    STEP_ENTER,
    STEP_ITERATE,
    STEP_CAUGHT,
    STEP_DONE,
    STEP_WAIT,
    STEP_FAULT
};

struct step;
struct step *step_new(const struct step_in *in); /* NULL: no memory */
struct step *step_free(struct step *s);
enum step_want step_run(struct step *s);

/* Its effect has ended; the step has not, for an evaluation or for want of another turn. */
bool step_answered(const struct step *s);

/* STEP_EVAL: what is to be evaluated; borrowed until the answer. */
const struct tmpl *step_eval_tmpl(const struct step *s);
struct json_object *step_eval_input(const struct step *s);
const struct expr_args *step_eval_args(const struct step *s);
/* value is taken over; e->code != 0: failed. */
void step_answer_eval(struct step *s, struct json_object *value, const struct err *e);

/* STEP_EFFECT: the evaluated definition (borrowed), for tasks_start. */
struct json_object *step_call(const struct step *s);
/* output is taken over (NULL: null) when p is NULL or p->status == 0; else the problem is copied.
 */
void step_answer_effect(struct step *s, struct json_object *output, const struct problem *p);

/* STEP_ENTER and STEP_DONE (START and FINISH too): results, borrowed from the step. */
struct val *
step_output(const struct step *s); /* transformed output; ENTER and START: transformed input */
struct val *
step_context(const struct step *s); /* the new $context, NULL: unchanged (see step_exports) */
bool step_exports(const struct step *s);
bool step_skipped(const struct step *s); /* its `if` was false */
struct step_next step_next(const struct step *s);
int64_t step_wait_ms(const struct step *s); /* STEP_WAIT: how long */
/* ENTER of a loop: the array that it runs over; else NULL. Borrowed. */
struct val *step_items(const struct step *s);
/* ITERATE: the iteration that begins. */
int64_t step_index(const struct step *s);
/* The task's timeout in ms, -1: none. EFFECT: of the effect; ENTER: of all inside; START: of the
 * run. A wait that is longer than its timeout ends with it, as a fault. */
int64_t step_timeout_ms(const struct step *s);
/* ENTER of a try, CAUGHT with retry: the limit of one attempt in ms, -1: none. */
int64_t step_attempt_ms(const struct step *s);
/* CAUGHT: true when the list is to be run again, after *ret_delay_ms; else step_next says where to
 * go on. */
bool step_retries(const struct step *s, int64_t *ret_delay_ms);
/* STEP_WAIT is over: the step goes on. */
void step_answer_wait(struct step *s);
const struct problem *step_problem(const struct step *s); /* STEP_FAULT */
/* STEP_FAULT for lack of memory, before anything was done that counts: a new step may be made. */
bool step_again(const struct step *s);
/* Where the run goes after `t` ended with its own `then` (or with `then` of a switch case). Pure.
 */
struct step_next step_follow(const struct task *t, const struct then *then);
/* True when the run has something to do before its first task (phase START). */
bool step_starts(const struct flow *f);
/* The first place of a list (its owner `t`, NULL: the root list). */
struct step_next step_first(const struct flow *f, const struct task *t);
