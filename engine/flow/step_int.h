/* Shared by the files of the step machine: step.c (the stages of the data flow), step_for.c
 * (loops), step_try.c (errors caught), step_schema.c (schemas), step_vars.c (variables of
 * expressions). A stage returns one of enum stage_out; it sets s->stage before STAGE_ON. */
#pragma once
#include "flow/step.h"

enum stage_out {
    STAGE_FAULT = -1,
    STAGE_ASK = 0, /* an evaluation is wanted: the stage is entered again with the answer */
    STAGE_ON = 1,
    STAGE_EFFECT = 2,
    STAGE_WAIT = 3
};

enum stage {
    ST_COND,
    ST_CHECK_IN, /* by the schemas */
    ST_FROM,
    ST_TIMEOUT,
    ST_ARGS,
    ST_CHECK_FN_IN,
    ST_FN_FROM,
    ST_WITH,
    ST_CASES,
    ST_IN,
    ST_WHILE,
    ST_ATTEMPT,
    ST_BODY,
    ST_FN_AS,
    ST_CHECK_FN_OUT,
    ST_AS,
    ST_CHECK_OUT,
    ST_EXPORT,
    ST_CHECK_EXPORT,
    ST_CATCH_WHEN, /* of the error, in this order */
    ST_CATCH_EXCEPT,
    ST_RETRY_WHEN,
    ST_RETRY_EXCEPT,
    ST_RETRY_LIMIT,
    ST_RETRY_DELAY,
    ST_RETRY_FROM,
    ST_RETRY_TO,
    ST_RETRY_ATTEMPT,
    ST_END
};

struct step {
    struct step_in in;
    enum stage stage;
    struct val *input; /* transformed input of the task */
    bool in_function;  /* `with` and output_as of a function see fn_input as $input */
    struct val *fn_input;
    struct val *raw_out; /* before output.as */
    struct val *output;  /* after output.as */
    struct val *context; /* new $context */
    bool exported, skipped;
    enum step_want want;        /* of ST_END */
    struct val *items;          /* loops */
    int64_t index;              /* the iteration that is asked about */
    struct json_object *locals; /* with the variables of that iteration; NULL: those of `in` */
    int64_t timeout_ms, attempt_ms;
    bool retrying; /* CAUGHT */
    int64_t delay_ms, jitter_from_ms, limit_ms;
    struct then then;
    size_t next_case;
    struct json_object *with; /* evaluated definition */
    int64_t wait_ms;
    struct problem problem;
    bool no_memory; /* what the problem is about */
    bool asked, answered;
    const struct tmpl *tmpl; /* the evaluation under way */
    struct json_object *eval_in, *eval_out, *task_var, *wf_var, *runtime_var;
    struct expr_args args;
    bool effect_done, waited, timed_out;
};

/* step_vars.c: s->args for an evaluation of t; only the variables that it names are made. -ENOMEM
 */
int step_set_args(struct step *s, const struct tmpl *t);
/* STAGE_FAULT, with a problem that says so. */
int step_no_memory(struct step *s);
/* Takes over v and keeps it in *to: 0 or STAGE_FAULT. */
int step_keep(struct step *s, struct val **to, struct json_object *v);
/* Evaluates t on `in`: STAGE_ON (*ret is owned by the caller), STAGE_ASK, or STAGE_FAULT with the
 * problem set. `place` names it in the problem. */
int step_evaluate(struct step *s, const struct tmpl *t, struct val *in, const char *place,
                  struct json_object **ret);
/* The same for a duration, in ms. */
int step_duration(struct step *s, const struct tmpl *t, const char *place, int64_t *ret_ms);
/* The same for a condition; a NULL template gives `otherwise`. */
int step_condition(struct step *s, const struct tmpl *t, struct val *in, bool otherwise,
                   const char *place, bool *ret);

/* step_schema.c */
int stage_check_in(struct step *s);
int stage_check_fn_in(struct step *s);
int stage_check_fn_out(struct step *s);
int stage_check_out(struct step *s);
int stage_check_export(struct step *s);
/* The child could not judge: no answer about the value, but the run can't go on with it. False:
 * what was evaluated is no schema. */
bool step_not_judged(struct step *s, const struct err *e);
/* step_for.c */
int stage_in(struct step *s);
int stage_while(struct step *s);
/* step_try.c */
void step_catch_begin(struct step *s); /* the first stage of CATCH */
int stage_attempt(struct step *s);
int stage_catch_when(struct step *s);
int stage_catch_except(struct step *s);
int stage_retry_when(struct step *s);
int stage_retry_except(struct step *s);
int stage_retry_limit(struct step *s);
int stage_retry_delay(struct step *s);
int stage_retry_from(struct step *s);
int stage_retry_to(struct step *s);
int stage_retry_attempt(struct step *s);
