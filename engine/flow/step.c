/* See step.h. The machine is a list of stages in the order of the specification's data flow; a
 * stage that needs an evaluation stops there and is entered again when the answer has come. */
#include "flow/step_int.h"

#include <errno.h>
#include <stdlib.h>

int step_no_memory(struct step *s)
{
    s->no_memory = true;
    problem_set(&s->problem, "runtime", 0, "no memory", "the engine had no memory for this step");
    return STAGE_FAULT;
}

int step_keep(struct step *s, struct val **to, struct json_object *v)
{
    struct val *n = val_tree_new(v);
    if (!n)
        return step_no_memory(s);
    val_unref(*to);
    *to = n;
    return 0;
}

static int fail_expression(struct step *s, const char *place, const struct err *e)
{
    if (e->code == -ENOMEM)
        return step_no_memory(s);
    problem_set(&s->problem, "expression", 0, "the expression failed", "%s: %s%s%s", place, e->msg,
                e->hint[0] ? "; " : "", e->hint);
    return -EINVAL;
}

int step_evaluate(struct step *s, const struct tmpl *t, struct val *in, const char *place,
                  struct json_object **ret)
{
    struct err e = {0};
    if (s->answered) {
        s->answered = s->asked = false;
        *ret = s->eval_out;
        s->eval_out = NULL;
        return s->problem.status ? -EINVAL : 1;
    }
    if (step_set_args(s, t)) {
        err_set(&e, -ENOMEM, "give the process more memory", "no memory for its variables");
        return fail_expression(s, place, &e);
    }
    s->eval_in = val_tree(in);
    if (tmpl_is_inline(t)) {
        int r = tmpl_eval_inline(t, s->eval_in, &s->args, ret, &e);
        return r < 0 ? fail_expression(s, place, &e) : 1;
    }
    s->tmpl = t;
    s->asked = true;
    return 0;
}

int step_duration(struct step *s, const struct tmpl *t, const char *place, int64_t *ret_ms)
{
    struct json_object *v = NULL;
    struct err e = {0};
    int r = step_evaluate(s, t, s->input, place, &v);
    if (r <= 0)
        return r;
    if (duration_read(v, ret_ms, &e) < 0) {
        problem_set(&s->problem, "expression", 0, "not a duration", "%s: %s", place, e.msg);
        r = STAGE_FAULT;
    }
    json_object_put(v);
    return r;
}

int step_condition(struct step *s, const struct tmpl *t, struct val *in, bool otherwise,
                   const char *place, bool *ret)
{
    struct json_object *v = NULL;
    *ret = otherwise;
    if (!t)
        return STAGE_ON;
    int r = step_evaluate(s, t, in, place, &v);
    if (r <= 0)
        return r;
    *ret = js_truthy(v);
    json_object_put(v);
    return STAGE_ON;
}

struct step *step_new(const struct step_in *in)
{
    struct step *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->in = *in;
    val_ref(in->raw);
    val_ref(in->context);
    val_ref(in->frame_raw);
    val_ref(in->frame_in);
    val_ref(in->wf_raw);
    val_ref(in->items);
    val_ref(in->error);
    json_object_get(in->secrets);
    json_object_get(in->locals);
    s->want = STEP_DONE;
    s->timeout_ms = s->attempt_ms = -1;
    switch (in->phase) {
    case PHASE_START:
        s->stage = ST_CHECK_IN;
        break;
    case PHASE_TASK:
        s->stage = ST_COND;
        s->then = in->task->then;
        break;
    case PHASE_LEAVE:
        s->stage = ST_AS;
        s->then =
            in->caught && in->task->catch_->has_then ? in->task->catch_->then : in->task->then;
        s->input = val_ref(in->frame_in);
        s->raw_out = val_ref(in->raw);
        s->index = in->index + 1;
        if (in->task->type == TASK_FOR && !in->exiting)
            s->stage = ST_WHILE;
        break;
    case PHASE_CATCH:
        s->input = val_ref(in->frame_in);
        step_catch_begin(s);
        break;
    case PHASE_FINISH:
        s->stage = ST_AS;
        s->raw_out = val_ref(in->raw);
        break;
    }
    return s;
}

struct step *step_free(struct step *s)
{
    if (!s)
        return NULL;
    val_unref(s->in.raw);
    val_unref(s->in.context);
    val_unref(s->in.frame_raw);
    val_unref(s->in.frame_in);
    val_unref(s->in.wf_raw);
    val_unref(s->in.items);
    val_unref(s->in.error);
    val_unref(s->items);
    val_unref(s->input);
    val_unref(s->fn_input);
    val_unref(s->raw_out);
    val_unref(s->output);
    val_unref(s->context);
    json_object_put(s->in.secrets);
    json_object_put(s->in.locals);
    json_object_put(s->locals);
    json_object_put(s->with);
    json_object_put(s->eval_out);
    json_object_put(s->task_var);
    json_object_put(s->wf_var);
    json_object_put(s->runtime_var);
    problem_free(&s->problem);
    free(s);
    return NULL;
}

/* ---- stages ---- */

static int stage_cond(struct step *s)
{
    bool yes;
    int r = step_condition(s, s->in.task->cond, s->in.raw, true, "if", &yes);
    if (r <= 0)
        return r;
    s->stage = ST_CHECK_IN;
    if (!yes) { /* skipped: raw input is the output, its own `then` is not followed */
        s->skipped = true;
        s->output = val_ref(s->in.raw);
        s->then = (struct then){THEN_CONTINUE, NULL};
        s->stage = ST_END;
    }
    return STAGE_ON;
}

static int stage_from(struct step *s)
{
    const struct tmpl *from =
        s->in.phase == PHASE_START ? flow_info(s->in.flow)->input_from : s->in.task->input_from;
    struct json_object *v = NULL;
    if (from) {
        int r = step_evaluate(s, from, s->in.raw, "input.from", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->input, v))
            return STAGE_FAULT;
    } else {
        s->input = val_ref(s->in.raw);
    }
    s->stage = ST_TIMEOUT;
    return STAGE_ON;
}

/* What comes after the input, by kind of task. */
static enum stage stage_of_kind(const struct task *t)
{
    switch (t->type) {
    case TASK_SWITCH:
        return ST_CASES;
    case TASK_DO:
        return ST_END;
    case TASK_FOR:
        return ST_IN;
    case TASK_TRY:
        return ST_ATTEMPT;
    default:
        return t->function ? ST_ARGS : ST_WITH;
    }
}

static int stage_timeout(struct step *s)
{
    const struct task *t = s->in.phase == PHASE_TASK ? s->in.task : NULL;
    const struct tmpl *after = t ? t->timeout : flow_info(s->in.flow)->timeout;
    int r = after ? step_duration(s, after, "timeout.after", &s->timeout_ms) : STAGE_ON;
    if (r <= 0)
        return r;
    s->stage = t ? stage_of_kind(t) : ST_END;
    if (!t || t->type == TASK_DO || t->type == TASK_TRY)
        s->output = val_ref(s->input);
    if (t && t->type == TASK_DO)
        s->want = STEP_ENTER;
    return STAGE_ON;
}

/* A call of a function: what it is given. */
static int stage_args(struct step *s)
{
    const struct function *f = s->in.task->function;
    struct json_object *v = NULL;
    if (f->args) {
        int r = step_evaluate(s, f->args, s->input, "the function's arguments", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->fn_input, v))
            return STAGE_FAULT;
    } else {
        s->fn_input = val_ref(s->input);
    }
    s->stage = ST_CHECK_FN_IN;
    return 1;
}

static int stage_fn_from(struct step *s)
{
    const struct function *f = s->in.task->function;
    struct json_object *v = NULL;
    if (f->input_from) {
        int r = step_evaluate(s, f->input_from, s->fn_input, "the function's input.from", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->fn_input, v))
            return STAGE_FAULT;
    }
    s->in_function = true;
    s->stage = ST_WITH;
    return 1;
}

static int stage_fn_as(struct step *s)
{
    const struct function *f = s->in.task->function;
    struct json_object *v = NULL;
    if (f && f->output_as) {
        int r = step_evaluate(s, f->output_as, s->raw_out, "the function's output.as", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->raw_out, v))
            return STAGE_FAULT;
    }
    s->in_function = false;
    s->stage = ST_CHECK_FN_OUT;
    return 1;
}

static struct val *call_input(const struct step *s)
{
    return s->in_function ? s->fn_input : s->input;
}

static int stage_with(struct step *s)
{
    const struct task *t = s->in.task;
    if (t->with) {
        int r = step_evaluate(s, t->with, call_input(s), "the task's definition", &s->with);
        if (r <= 0)
            return r;
    }
    s->stage = ST_BODY;
    return 1;
}

static int stage_cases(struct step *s)
{
    const struct task *t = s->in.task;
    const struct switch_case *dflt = NULL;
    for (; s->next_case < t->ncases; s->next_case++) {
        const struct switch_case *c = &t->cases[s->next_case];
        struct json_object *v = NULL;
        if (!c->when)
            continue;
        int r = step_evaluate(s, c->when, s->input, c->name, &v);
        if (r <= 0)
            return r;
        bool yes = js_truthy(v);
        json_object_put(v);
        if (yes)
            break;
    }
    for (size_t i = 0; i < t->ncases; i++)
        dflt = t->cases[i].when ? dflt : &t->cases[i];
    if (s->next_case < t->ncases)
        s->then = t->cases[s->next_case].then;
    else if (dflt)
        s->then = dflt->then;
    s->raw_out = val_ref(s->input);
    s->stage = ST_AS;
    return 1;
}

static int body_raise(struct step *s)
{
    if (problem_from_json(&s->problem, s->with) < 0)
        problem_set(
            &s->problem, "configuration", 0, "the raised error has no type or status",
            "raise.error must evaluate to an object with type (text) and status (100 to 599)");
    return -1;
}

static int body_wait(struct step *s)
{
    struct err e = {0};
    if (s->waited && s->timed_out) {
        problem_set(&s->problem, "timeout", 0, NULL, "the wait is longer than the task's timeout");
        return STAGE_FAULT;
    }
    if (s->waited) {
        s->raw_out = val_ref(call_input(s));
        s->stage = ST_FN_AS;
        return 1;
    }
    if (duration_read(s->with, &s->wait_ms, &e) < 0) {
        problem_set(&s->problem, "expression", 0, "not a duration", "wait: %s", e.msg);
        return -1;
    }
    if (s->timeout_ms >= 0 && s->wait_ms > s->timeout_ms) {
        s->timed_out = true;
        s->wait_ms = s->timeout_ms;
    }
    return 3;
}

/* The transformed input goes along for URI templates and for what is not waited for; it is part of
 * the call, not of the definition. */
static int add_call_input(struct step *s)
{
    bool wanted = s->in.task->type != TASK_EMIT && json_object_is_type(s->with, json_type_object) &&
                  !json_object_object_get_ex(s->with, "$input", NULL);
    return wanted && js_put(s->with, "$input", json_object_get(val_tree(call_input(s))))
               ? step_no_memory(s)
               : 0;
}

static int stage_body(struct step *s)
{
    switch (s->in.task->type) {
    case TASK_SET:
        if (step_keep(s, &s->raw_out, json_object_get(s->with)))
            return STAGE_FAULT;
        json_object_put(s->with);
        s->with = NULL;
        s->stage = ST_FN_AS;
        return 1;
    case TASK_RAISE:
        return body_raise(s);
    case TASK_WAIT:
        return body_wait(s);
    default:
        if (!s->effect_done)
            return add_call_input(s) ? STAGE_FAULT : 2;
        if (s->problem.status)
            return -1;
        s->stage = ST_FN_AS;
        return 1;
    }
}

static int stage_as(struct step *s)
{
    const struct tmpl *as =
        s->in.phase == PHASE_FINISH ? flow_info(s->in.flow)->output_as : s->in.task->output_as;
    struct json_object *v = NULL;
    if (as) {
        int r = step_evaluate(s, as, s->raw_out, "output.as", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->output, v))
            return STAGE_FAULT;
    } else {
        s->output = val_ref(s->raw_out);
    }
    s->stage = ST_CHECK_OUT;
    return 1;
}

static int stage_export(struct step *s)
{
    const struct tmpl *as = s->in.task->export_as;
    struct json_object *v = NULL;
    if (as) {
        int r = step_evaluate(s, as, s->output, "export.as", &v);
        if (r <= 0)
            return r;
        if (step_keep(s, &s->context, v))
            return STAGE_FAULT;
        s->exported = true;
    }
    s->stage = ST_CHECK_EXPORT;
    return 1;
}

static int (*const stages[])(struct step *) = {
    [ST_COND] = stage_cond,
    [ST_CHECK_IN] = stage_check_in,
    [ST_CHECK_FN_IN] = stage_check_fn_in,
    [ST_CHECK_FN_OUT] = stage_check_fn_out,
    [ST_CHECK_OUT] = stage_check_out,
    [ST_CHECK_EXPORT] = stage_check_export,
    [ST_FROM] = stage_from,
    [ST_ARGS] = stage_args,
    [ST_FN_FROM] = stage_fn_from,
    [ST_WITH] = stage_with,
    [ST_CASES] = stage_cases,
    [ST_BODY] = stage_body,
    [ST_FN_AS] = stage_fn_as,
    [ST_AS] = stage_as,
    [ST_EXPORT] = stage_export,
    [ST_TIMEOUT] = stage_timeout,
    [ST_IN] = stage_in,
    [ST_WHILE] = stage_while,
    [ST_ATTEMPT] = stage_attempt,
    [ST_CATCH_WHEN] = stage_catch_when,
    [ST_CATCH_EXCEPT] = stage_catch_except,
    [ST_RETRY_WHEN] = stage_retry_when,
    [ST_RETRY_EXCEPT] = stage_retry_except,
    [ST_RETRY_LIMIT] = stage_retry_limit,
    [ST_RETRY_DELAY] = stage_retry_delay,
    [ST_RETRY_FROM] = stage_retry_from,
    [ST_RETRY_TO] = stage_retry_to,
    [ST_RETRY_ATTEMPT] = stage_retry_attempt,
};

enum step_want step_run(struct step *s)
{
    while (s->stage != ST_END) {
        int r = stages[s->stage](s);
        if (r < 0) {
            if (s->in.task && !s->problem.instance)
                s->problem.instance = strdup(s->in.ref ? s->in.ref : s->in.task->ref);
            return STEP_FAULT;
        }
        if (r == 0)
            return STEP_EVAL;
        if (r == 2)
            return STEP_EFFECT;
        if (r == 3)
            return STEP_WAIT;
    }
    return s->want;
}

const struct tmpl *step_eval_tmpl(const struct step *s)
{
    return s->tmpl;
}

struct json_object *step_eval_input(const struct step *s)
{
    return s->eval_in;
}

const struct expr_args *step_eval_args(const struct step *s)
{
    return &s->args;
}

void step_answer_eval(struct step *s, struct json_object *value, const struct err *e)
{
    s->answered = true;
    s->eval_out = value;
    if (e && e->code && !step_not_judged(s, e))
        fail_expression(s, s->in.ref ? s->in.ref : "the workflow", e);
}

struct json_object *step_call(const struct step *s)
{
    return s->with;
}

bool step_answered(const struct step *s)
{
    return s->effect_done;
}

void step_answer_effect(struct step *s, struct json_object *output, const struct problem *p)
{
    s->effect_done = true;
    if (p && p->status) {
        problem_free(&s->problem);
        s->problem.type = p->type ? strdup(p->type) : NULL;
        s->problem.status = p->status;
        s->problem.title = p->title ? strdup(p->title) : NULL;
        s->problem.detail = p->detail ? strdup(p->detail) : NULL;
        s->problem.instance = p->instance ? strdup(p->instance) : NULL;
        json_object_put(output);
    } else {
        if (output)
            (void)step_keep(s, &s->raw_out, output); /* a fault when there is no memory for it */
    }
}

void step_answer_wait(struct step *s)
{
    s->waited = true;
}

struct val *step_output(const struct step *s)
{
    return s->output;
}

struct val *step_context(const struct step *s)
{
    return s->context;
}

bool step_exports(const struct step *s)
{
    return s->exported;
}

bool step_skipped(const struct step *s)
{
    return s->skipped;
}

int64_t step_wait_ms(const struct step *s)
{
    return s->wait_ms;
}

struct val *step_items(const struct step *s)
{
    return s->items;
}

int64_t step_index(const struct step *s)
{
    return s->index;
}

int64_t step_timeout_ms(const struct step *s)
{
    return s->timeout_ms;
}

int64_t step_attempt_ms(const struct step *s)
{
    return s->attempt_ms;
}

bool step_retries(const struct step *s, int64_t *ret_delay_ms)
{
    *ret_delay_ms = s->delay_ms;
    return s->retrying;
}

bool step_again(const struct step *s)
{
    return s->no_memory && !s->effect_done;
}

const struct problem *step_problem(const struct step *s)
{
    return &s->problem;
}

bool step_starts(const struct flow *f)
{
    return flow_info(f)->input_schema || flow_info(f)->input_from || flow_info(f)->timeout;
}

static struct step_next next_at(enum step_phase phase, const struct task *t)
{
    return (struct step_next){phase, t, -1, false};
}

static struct step_next first_of(const struct task_list *l, const struct task *owner, int64_t index)
{
    if (l->n)
        return (struct step_next){PHASE_TASK, l->v[0], index, false};
    return owner ? next_at(PHASE_LEAVE, owner) : next_at(PHASE_FINISH, NULL);
}

struct step_next step_first(const struct flow *f, const struct task *t)
{
    return t ? first_of(&t->body, t, t->type == TASK_FOR ? 0 : -1)
             : first_of(&flow_info(f)->tasks, NULL, -1);
}

struct step_next step_follow(const struct task *t, const struct then *then)
{
    if (then->kind == THEN_END)
        return next_at(PHASE_FINISH, NULL);
    if (then->kind == THEN_TASK)
        return next_at(PHASE_TASK, then->target);
    if (then->kind == THEN_CONTINUE && t->index + 1 < t->list->n)
        return next_at(PHASE_TASK, t->list->v[t->index + 1]);
    if (!t->parent)
        return next_at(PHASE_FINISH, NULL);
    return (struct step_next){PHASE_LEAVE, t->parent, -1,
                              then->kind == THEN_EXIT && t->parent->type == TASK_FOR};
}

static struct step_next next_of_catch(const struct step *s)
{
    const struct task *t = s->in.task;
    if (s->retrying)
        return first_of(&t->body, t, -1);
    return first_of(&t->catch_->body, t, -1);
}

struct step_next step_next(const struct step *s)
{
    if (s->in.phase == PHASE_START)
        return step_first(s->in.flow, NULL);
    if (s->in.phase == PHASE_FINISH)
        return next_at(PHASE_FINISH, NULL);
    if (s->want == STEP_CAUGHT)
        return next_of_catch(s);
    if (s->want == STEP_ITERATE)
        return first_of(&s->in.task->body, s->in.task, s->index);
    if (s->want == STEP_ENTER)
        return step_first(s->in.flow, s->in.task);
    return step_follow(s->in.task, &s->then);
}
