/* The facts that one step of a run gives, made from the step and the present place (drive_int.h).
 * A fact is appended and applied to the spec state by fact_append; nothing here decides. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/drive_int.h"

/* Where the run goes on, as a reference of this run: with the indexes of the loops that it is in,
 * and of the one whose body begins. */
static int set_next(struct rec *r, const struct run_state *st, struct step_next next)
{
    int64_t index[FRAMES_MAX + 1];
    char ref[REC_REF_MAX];
    r->body.phase = next.phase;
    r->body.exit = next.exit;
    if (!next.task)
        return 0;
    size_t want = flow_loops(next.task->ref), n = 0;
    for (size_t i = 0; i < st->nframes && n < want; i++)
        if (st->frames[i].items)
            index[n++] = st->frames[i].index;
    if (next.index >= 0 && want > 0) {
        n = want - 1 <= n ? want : n;
        index[want - 1] = next.index;
    }
    int error = flow_ref_at(next.task->ref, index, n, ref, sizeof ref);
    if (!error && !(r->body.next = strdup(ref)))
        error = -ENOMEM;
    return error;
}

struct rec *task_fact(struct part *p, enum rec_type t, struct run *run)
{
    struct rec *r = fact_new(p, t, run->id);
    if (!r)
        return NULL;
    r->ref = strdup(run->spec.ref ? run->spec.ref : "/input"); /* the workflow's own input.from */
    const struct frame *top = run_top(&run->spec);
    bool composite = (run->spec.phase == PHASE_LEAVE || run->spec.phase == PHASE_CATCH) && top;
    r->visit = composite ? top->visit : run->spec.visit;
    r->rewind = run->spec.rewind;
    r->attempt = composite ? top->attempt : run->spec.attempt;
    return r->ref ? r : rec_unref(r);
}

static int64_t deadline(const struct part *p, int64_t ms)
{
    return ms < 0 ? 0 : p->wall_ms + ms;
}

static int write_and_append(struct part *p, struct rec *r, struct run *run)
{
    int error = r ? rec_write_body(r) : -ENOMEM;
    if (!error)
        return fact_append(p, r, run, NULL);
    rec_unref(r);
    return error;
}

static int append_with_next(struct part *p, struct rec *r, struct run *run)
{
    int error = set_next(r, &run->spec, step_next(run->step));
    if (error) {
        rec_unref(r);
        return error;
    }
    return write_and_append(p, r, run);
}

int fact_done(struct part *p, struct run *run)
{
    struct step *s = run->step;
    struct rec *r;
    if (run->spec.phase == PHASE_FINISH) {
        r = fact_new(p, REC_COMPLETED, run->id);
        if (r) {
            r->body.phase = PHASE_TASK; /* no `next` in the end fact */
            r->body.has_output = true;
            r->body.output = val_ref(step_output(s));
        }
        return write_and_append(p, r, run);
    }
    if (!(r = task_fact(p, REC_TASK_COMPLETED, run)))
        return -ENOMEM;
    if (step_skipped(s)) {
        if (!(r->status = strdup("skipped"))) {
            rec_unref(r);
            return -ENOMEM;
        }
    } else {
        r->body.has_output = true;
        r->body.output = val_ref(step_output(s));
    }
    if (step_exports(s)) {
        r->body.has_context = true;
        r->body.context = val_ref(step_context(s));
    }
    if (run->spec.phase == PHASE_START)
        r->body.until_ms = deadline(p, step_timeout_ms(s));
    return append_with_next(p, r, run);
}

int fact_enter(struct part *p, struct run *run)
{
    struct rec *r = task_fact(p, REC_TASK_STARTED, run);
    if (!r)
        return -ENOMEM;
    r->body.has_input = true;
    r->body.input = val_ref(step_output(run->step));
    r->body.items = val_ref(step_items(run->step));
    r->body.until_ms = deadline(p, step_timeout_ms(run->step));
    const struct task *t = flow_task(p->ops->flow(p->arg, run->spec.agent), sl_str(run->spec.ref));
    if (t->type == TASK_TRY) {
        r->body.attempt = run->spec.attempt;
        r->body.attempt_until_ms = deadline(p, step_attempt_ms(run->step));
    }
    return append_with_next(p, r, run);
}

/* The next iteration of the innermost frame. */
int fact_iterate(struct part *p, struct run *run)
{
    struct rec *r = task_fact(p, REC_TASK_STARTED, run);
    struct step_next next = step_next(run->step);
    char ref[REC_REF_MAX];
    if (!r)
        return -ENOMEM;
    int n = snprintf(ref, sizeof ref, "%s/for/%" PRId64, run->spec.ref, step_index(run->step));
    free(r->ref);
    r->ref = n > 0 && (size_t)n < sizeof ref ? strdup(ref) : NULL;
    if (!r->ref) {
        rec_unref(r);
        return -ENOMEM;
    }
    next.index = step_index(run->step);
    int error = set_next(r, &run->spec, next);
    if (error) {
        rec_unref(r);
        return error;
    }
    return write_and_append(p, r, run);
}

int fact_caught(struct part *p, struct run *run)
{
    const struct frame *f = run_top(&run->spec);
    struct rec *r = task_fact(p, REC_TASK_CAUGHT, run);
    int64_t delay_ms;
    if (!r)
        return -ENOMEM;
    r->attempt = f->tries;
    if (step_retries(run->step, &delay_ms)) {
        int64_t limit = step_attempt_ms(run->step);
        r->body.attempt = f->tries_max + 1;
        r->body.until_ms = p->wall_ms + delay_ms;
        r->body.attempt_until_ms = limit < 0 ? 0 : r->body.until_ms + limit;
    }
    return append_with_next(p, r, run);
}

int fact_leaf_started(struct part *p, struct run *run)
{
    struct rec *r = task_fact(p, REC_TASK_STARTED, run);
    if (r)
        r->body.phase = PHASE_TASK;
    return write_and_append(p, r, run);
}

int fact_waiting(struct part *p, struct run *run)
{
    struct rec *r = task_fact(p, REC_TASK_WAITING, run);
    int64_t ms = step_wait_ms(run->step);
    if (r) {
        r->body.phase = PHASE_TASK;
        r->body.until_ms = p->wall_ms + (ms < 0 ? 0 : ms);
    }
    return write_and_append(p, r, run);
}

/* RULE_END_FIRST switched off: told while the end fact is still under way. */
static void tell_early(struct part *p, const struct run *run)
{
    struct ended e = {.status = RUN_FAULTED};
    snprintf(e.run, sizeof e.run, "%s", run->id);
    p->ops->notify(p->arg, p, &e);
}

const struct frame *run_catcher(const struct run_state *st, size_t below)
{
    while (below-- > 0)
        if (st->frames[below].tries && !st->frames[below].caught)
            return &st->frames[below];
    return NULL;
}

int fact_for_catch(struct part *p, struct rec *r, struct run *run, const struct problem *pr,
                   const struct frame *f)
{
    struct json_object *o = problem_json(pr);
    r->body.error = o ? val_tree_new(o) : NULL;
    r->body.phase = PHASE_CATCH;
    r->body.next = strdup(f->ref);
    if (!r->body.error || !r->body.next) {
        rec_unref(r);
        return -ENOMEM;
    }
    return write_and_append(p, r, run);
}

int fact_end_faulted(struct part *p, struct run *run)
{
    struct rec *r = fact_new(p, REC_FAULTED, run->id);
    if (!r)
        return -ENOMEM;
    r->value = val_ref(run->spec.error);
    return fact_append(p, r, run, NULL);
}

int run_fault(struct part *p, struct run *run, const struct problem *pr, bool of_task)
{
    /* A composite that fails when it is left, or asked, is the innermost frame itself. */
    size_t below = run->spec.nframes;
    if (below && (run->spec.phase == PHASE_LEAVE || run->spec.phase == PHASE_CATCH))
        below--;
    const struct frame *try = of_task ? run_catcher(&run->spec, below) : NULL;
    if (try) {
        struct rec *r = task_fact(p, REC_TASK_FAULTED, run);
        return r ? fact_for_catch(p, r, run, pr, try) : -ENOMEM;
    }
    return run_fault_end(p, run, pr, of_task ? task_fact(p, REC_TASK_FAULTED, run) : NULL, of_task);
}

int run_fault_end(struct part *p, struct run *run, const struct problem *pr, struct rec *t,
                  bool of_task)
{
    struct json_object *o = json_object_new_object(), *why = problem_json(pr);
    struct rec *f = fact_new(p, REC_FAULTED, run->id);
    int error = 0;
    if (!o || !why || json_object_object_add(o, "error", why)) {
        json_object_put(o);
        json_object_put(why);
        o = NULL;
    }
    if (o && f)
        f->value = val_tree_new(o);
    else
        json_object_put(o);
    if (!f || !f->value || (of_task && !t)) {
        rec_unref(t);
        rec_unref(f);
        return -ENOMEM;
    }
    if (t) {
        t->value = val_ref(f->value);
        error = fact_append(p, t, run, NULL);
    }
    if (error) {
        rec_unref(f);
        return error;
    }
    if (!part_rule(p, RULE_END_FIRST))
        tell_early(p, run);
    return fact_append(p, f, run, NULL);
}

int run_fault_with(struct part *p, struct run *run, bool may_catch, const char *name,
                   const char *title, const char *detail)
{
    struct problem pr = {0};
    problem_set(&pr, name, 0, title, "%s", detail);
    if (run->spec.ref)
        pr.instance = strdup(run->spec.ref);
    bool of_task = run->spec.ref != NULL;
    struct rec *t = of_task && !may_catch ? task_fact(p, REC_TASK_FAULTED, run) : NULL;
    int error =
        may_catch ? run_fault(p, run, &pr, of_task) : run_fault_end(p, run, &pr, t, of_task);
    problem_free(&pr);
    return error;
}
