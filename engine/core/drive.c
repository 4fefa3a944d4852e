/* Runs forward: one run's steps, as far as the rules let it go now.
 *
 * Write-ahead, in one place (may_begin): a world-changing effect and a model call start when
 * nothing of the run is unknown, so the request and every result below are in the log and in the
 * known prefix; a safe effect may be up to RUN_AHEAD_MAX ahead; pure tasks need nothing. An
 * at-most-once task waits for its own task.started besides; a `started` found at takeover is an
 * unknown outcome. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/drive_int.h"

static int add_local(struct json_object **o, const char *name, struct json_object *v)
{
    if (!*o && !(*o = json_object_new_object()))
        return -ENOMEM;
    return json_object_object_add(*o, name, v) ? -ENOMEM : 0;
}

/* Variables of the loops and catches around the present place; inner ones hide outer ones. */
static int make_locals(const struct flow *flow, const struct run_state *st,
                       struct json_object **ret)
{
    int error = 0;
    for (size_t i = 0; i < st->nframes && !error; i++) {
        const struct frame *f = &st->frames[i];
        const struct task *t = f->items || f->error ? flow_task(flow, sl_str(f->ref)) : NULL;
        struct json_object *items = val_tree(f->items);
        if (t && t->loop && json_object_is_type(items, json_type_array)) {
            struct json_object *item = json_object_array_get_idx(items, (size_t)f->index);
            error = add_local(ret, t->loop->each, json_object_get(item));
            error |= add_local(ret, t->loop->at, json_object_new_int64(f->index));
        } else if (t && t->catch_ && f->error) {
            error = add_local(ret, t->catch_->as, json_object_get(val_tree(f->error)));
        }
    }
    return error;
}

/* What a step needs from the state; borrowed values are referenced by step_new. -ENOENT: there is
 * no such place (here). */
static int make_step(struct part *p, struct run *r)
{
    struct run_state *st = &r->spec;
    struct flow *f = p->ops->flow(p->arg, st->agent);
    const struct frame *top = run_top(st);
    if (!f || !run_placed(st))
        return -ENOENT;
    struct step_in in = {
        .flow = f,
        .phase = st->phase,
        .raw = st->last,
        .context = st->context,
        .wf_raw = st->wf_raw,
        .now_ms = st->task_started_ms, /* of the fact that brought the run here, for repeats too */
        .task_started_ms = st->task_started_ms,
        .run_started_ms = st->run_started_ms,
        .ref = st->ref,
        .visit = st->visit,
        .attempt = st->attempt,
        .run_id = r->id,
        .secrets = p->ops->secrets(p->arg, f),
    };
    if (st->ref && !(in.task = flow_task(f, sl_str(st->ref))))
        return -ENOENT;
    if (st->phase == PHASE_LEAVE || st->phase == PHASE_CATCH) {
        if (st->phase == PHASE_CATCH && !in.task->catch_)
            return -ENOENT;
        in.frame_raw = top->raw;
        in.frame_in = top->in;
        in.task_started_ms = in.frame_started_ms = top->started_ms;
        in.visit = top->visit;
        in.attempt = top->tries;
        in.items = top->items;
        in.index = top->index;
        in.exiting = st->exiting;
        in.caught = top->caught && in.task->catch_;
        in.error = top->error;
        in.retries = top->retries;
    }
    int error = make_locals(f, st, &in.locals);
    if (!error && !(r->step = step_new(&in)))
        error = -ENOMEM;
    json_object_put(in.locals);
    return error;
}

/* 1: begin now; 0: gated, woken again when something becomes known or the lease comes back;
 * negative: error; 2: a fact was appended, wait for it; 3: the run was faulted. */
static int may_begin(struct part *p, struct run *r, const struct task *t)
{
    bool ahead = r->inflight > 0;
    if (t->effect == EFFECT_ONCE && r->spec.started && !r->started_here) {
        if (t->on_unknown != UNKNOWN_RETRY) {
            int error = run_fault_with(p, r, true, "runtime",
                                       "the outcome of an at-most-once task is unknown",
                                       "the former owner began it and left no result; "
                                       "metadata.tidemark.onUnknown is fail");
            return error ? error : 3;
        }
    }
    if (t->effect == EFFECT_SAFE) {
        if (ahead && r->ahead >= RUN_AHEAD_MAX)
            return 0;
    } else if (t->effect != EFFECT_PURE && ahead && part_rule(p, RULE_WRITE_AHEAD)) {
        return 0;
    }
    if (!part_may_begin(p, r))
        return 0;
    if (t->effect == EFFECT_ONCE && !r->started_here) {
        int error = fact_leaf_started(p, r);
        if (error)
            return error;
        r->started_here = true;
        return 2; /* begun when it is known: inflight is 0 again then */
    }
    return 1;
}

static int begin_effect(struct part *p, struct run *r)
{
    const struct task *t = flow_task(p->ops->flow(p->arg, r->spec.agent), sl_str(r->spec.ref));
    int go = may_begin(p, r, t);
    r->gated = go == 0 || go == 2;
    if (go != 1)
        return go < 0 ? go : go == 3 ? 1 : 0;
    bool ahead = t->effect == EFFECT_SAFE && r->inflight > 0;
    int error = r->started_here ? 0 : fact_leaf_started(p, r);
    if (error)
        return error;
    r->started_here = true;
    r->busy = BUSY_EFFECT;
    r->work_id = ++p->next_work;
    if ((error = p->ops->effect(p->arg, p, r)))
        r->busy = BUSY_NO;
    else
        r->ahead += ahead;
    return error;
}

static int begin_eval(struct part *p, struct run *r)
{
    struct err e = {0};
    r->busy = BUSY_EVAL;
    r->work_id = ++p->next_work;
    int error = p->ops->eval(p->arg, p, r, &e);
    if (!error)
        return 0;
    r->busy = BUSY_NO;
    if (error == -EAGAIN || error == -ENOMEM)
        return error;
    step_answer_eval(r->step, NULL, &e);
    return 1;
}

static int do_wait(struct part *p, struct run *r)
{
    if (!r->spec.wait_until_ms) {
        int error = fact_waiting(p, r);
        if (error)
            return error;
    }
    if (p->wall_ms >= r->spec.wait_until_ms) {
        step_answer_wait(r->step);
        return 1;
    }
    return 0; /* woken by run_arm() */
}

static int too_many(struct part *p, struct run *r)
{
    return run_fault_with(p, r, false, "runtime", "too many tasks",
                          "a run may have at most 100000 finished tasks and attempts");
}

/* One step. 1: go on; 0: stop here for now; negative: error. */
static int one_step(struct part *p, struct run *r)
{
    int error;
    if (r->spec.retry_at_ms > p->wall_ms)
        return 0;
    if (!r->step && (error = make_step(p, r)))
        return error == -ENOMEM
                   ? error
                   : run_fault_with(p, r, false, "configuration", "the run can't go on",
                                    "its definition is not known here, or has no such task");
    if (p->ops->crashes && p->ops->crashes(p->arg, r->id) >= CRASHES_MAX)
        return run_fault_with(p, r, false, "runtime", "the run crashed the engine",
                              "the process died three times in the middle of this run's step");
    if (p->ops->risky)
        p->ops->risky(p->arg, r->id);
    enum step_want want = step_run(r->step);
    if (p->ops->risky)
        p->ops->risky(p->arg, NULL);
    switch (want) {
    case STEP_EVAL:
        return begin_eval(p, r);
    case STEP_EFFECT:
        return begin_effect(p, r);
    case STEP_WAIT:
        return do_wait(p, r);
    case STEP_ENTER:
        error = r->spec.nframes >= FRAMES_MAX
                    ? run_fault_with(p, r, false, "runtime", "too deep",
                                     "at most 64 composite tasks may be inside each other")
                    : fact_enter(p, r);
        break;
    case STEP_ITERATE:
        error = fact_iterate(p, r);
        break;
    case STEP_CAUGHT:
        error = r->spec.tasks >= RUN_TASKS_MAX ? too_many(p, r) : fact_caught(p, r);
        break;
    case STEP_FAULT:
        if (step_again(r->step)) {
            r->step = step_free(r->step);
            return -ENOMEM;
        }
        error = run_fault(p, r, step_problem(r->step),
                          r->spec.phase != PHASE_START && r->spec.phase != PHASE_FINISH);
        break;
    default:
        error = r->spec.tasks >= RUN_TASKS_MAX ? too_many(p, r) : fact_done(p, r);
        break;
    }
    if (error == -EMSGSIZE)
        error =
            run_fault_with(p, r, true, "runtime", "the result is too large for the journal",
                           "input, output and context of a task may have at most 512 KiB together; "
                           "keep large data outside and pass a reference");
    if (error)
        return error;
    r->step = step_free(r->step);
    r->started_here = false;
    return run_live(r->spec.status);
}

/* As far as the run goes now: 1: it has more to do in a later turn, 0: something will wake it,
 * negative: error. */
static int run_on(struct part *p, struct run *r)
{
    int go = 1, frame;
    bool attempt;
    for (int i = 0; i < STEPS_A_TURN && go > 0; i++) {
        bool live = r->spec.status == RUN_ACTIVE ||
                    (r->spec.status == RUN_SUSPENDED && (r->step || r->spec.error));
        if (!live || r->inflight >= RUN_INFLIGHT_MAX)
            return 0;
        if (r->spec.error)
            return fact_end_faulted(p, r);
        if (r->spec.status == RUN_ACTIVE && run_expired(p, &r->spec, &frame, &attempt)) {
            int error = run_expire(p, r, frame, attempt);
            if (error)
                return error;
            continue;
        }
        if (r->busy != BUSY_NO)
            return 0;
        if (!r->admitted &&
            r->spec.status ==
                RUN_ACTIVE) { /* found at takeover: begun already, so it has its place */
            p->ops->admit(p->arg, p, true);
            r->admitted = true;
            p->active++;
        }
        go = one_step(p, r);
    }
    return go;
}

void drive(struct part *p, struct run *r)
{
    int go = run_on(p, r), error = run_arm(p, r);
    p->later = p->later || go < 0 || error;
    if (go != 0 || error)
        run_wake(p, r);
}
