/* Timeouts of runs, composite tasks and attempts, and when a run is to be woken (drive_int.h).
 * Times are record times, so that a takeover goes on with the same deadlines. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/drive_int.h"

static int64_t sooner(int64_t a, int64_t b)
{
    return b && b < a ? b : a;
}

/* An attempt is over when its list is: what its try then decides takes as long as it takes. */
bool run_expired(const struct part *p, const struct run_state *st, int *ret_frame,
                 bool *ret_attempt)
{
    int64_t now = p->wall_ms;
    *ret_attempt = false;
    *ret_frame = -1;
    if (st->deadline_ms && st->deadline_ms <= now)
        return true;
    for (size_t i = 0; i < st->nframes; i++) {
        const struct frame *f = &st->frames[i];
        bool deciding = i + 1 == st->nframes && st->phase != PHASE_TASK;
        *ret_frame = (int)i;
        if (f->deadline_ms && f->deadline_ms <= now)
            return true;
        *ret_attempt =
            f->attempt_deadline_ms && f->attempt_deadline_ms <= now && !deciding && !f->caught;
        if (*ret_attempt)
            return true;
    }
    return false;
}

/* The fault of a composite whose timeout has passed: what is inside is left as it is. */
static struct rec *composite_faulted(struct part *p, struct run *run, const struct frame *f)
{
    struct rec *r = fact_new(p, REC_TASK_FAULTED, run->id);
    if (r) {
        r->ref = strdup(f->ref);
        r->visit = f->visit;
        r->attempt = f->attempt;
        r->rewind = run->spec.rewind;
    }
    return r && r->ref ? r : rec_unref(r);
}

int run_expire(struct part *p, struct run *r, int frame, bool attempt)
{
    struct problem pr = {0};
    const struct frame *f = frame >= 0 ? &r->spec.frames[frame] : NULL;
    int error;
    run_unstep(p, r);
    problem_set(&pr, "timeout", 0, NULL, "%s did not end in time",
                attempt ? "this attempt"
                : f     ? "the task"
                        : "the run");
    if (f)
        pr.instance = strdup(f->ref);
    if (attempt) { /* its own try is asked */
        struct rec *t = task_fact(p, REC_TASK_FAULTED, r);
        error = t ? fact_for_catch(p, t, r, &pr, f) : -ENOMEM;
    } else if (f) {
        struct rec *t = composite_faulted(p, r, f);
        const struct frame *try = run_catcher(&r->spec, (size_t)frame);
        error = !t    ? -ENOMEM
                : try ? fact_for_catch(p, t, r, &pr, try)
                      : run_fault_end(p, r, &pr, t, true);
    } else {
        error = run_fault_end(p, r, &pr, NULL, false);
    }
    problem_free(&pr);
    r->started_here = false;
    return error;
}

int run_arm(struct part *p, struct run *r)
{
    const struct run_state *st = &r->spec;
    int64_t due = INT64_MAX;
    heap_remove(&p->waits, &r->wait_node);
    if (st->status != RUN_ACTIVE)
        return 0;
    if (st->wait_until_ms > p->wall_ms)
        due = st->wait_until_ms;
    if (st->retry_at_ms > p->wall_ms)
        due = sooner(due, st->retry_at_ms);
    if (st->deadline_ms > p->wall_ms)
        due = sooner(due, st->deadline_ms);
    for (size_t i = 0; i < st->nframes; i++) {
        if (st->frames[i].deadline_ms > p->wall_ms)
            due = sooner(due, st->frames[i].deadline_ms);
        if (st->frames[i].attempt_deadline_ms > p->wall_ms)
            due = sooner(due, st->frames[i].attempt_deadline_ms);
    }
    return due == INT64_MAX ? 0 : heap_add(&p->waits, &r->wait_node, due);
}
