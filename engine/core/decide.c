/* Requests: each is consumed by a fact or settled with its reason, in one place. Requests that
 * begin runs wait in p->starts (by priority, then offset) for a place among the active runs; all
 * others are decided at once, in offset order. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/part_int.h"

/* A definition is in its topic before a request names it, so it is only a matter of reading on;
 * after a while the run begins without it, and faults. The while is measured here: the request's
 * own time is of another machine's clock. */
static bool definition_here(struct part *p, const struct pend *d)
{
    return p->ops->flow(p->arg, d->rec->agent ? d->rec->agent : "") ||
           p->boot_ms - d->seen_ms > DEFINITION_WAIT_MS;
}

static int add_start(struct part *p, struct pend *d)
{
    return heap_add(&p->starts, &d->start_node, (int64_t)d->rec->priority << 48 | d->rec->offset);
}

/* A request that may begin stands in starts; one that waits for its definition (or for memory), and
 * everything else, in todo. Who gave a key waits for the answer that it is the first with it; if
 * that is not the begin of its run at once, a fact of its own says so. */
void decide_later(struct part *p, struct pend *d)
{
    if (!d->seen_ms)
        d->seen_ms = p->boot_ms;
    if (d->rec->keyed && !d->duplicate && list_empty(&d->tell))
        list_push(&p->tell, &d->tell);
    bool starts = d->rec->type == REC_REQUESTED && !d->duplicate && definition_here(p, d);
    if (!starts || add_start(p, d))
        list_push(&p->todo, &d->todo);
}

void decide_reset(struct part *p)
{
    struct heap_node *n;
    while ((n = heap_top(&p->starts)))
        heap_remove(&p->starts, n);
    while (list_pop(&p->todo) || list_pop(&p->tell))
        ;
    LIST_EACH(it, &p->st.pending)
    {
        struct pend *d = LIST_ENTRY(it, struct pend, node);
        d->taken = false;
        if (p->status == PART_OWNER)
            decide_later(p, d);
    }
}

static int append_settled(struct part *p, struct rec *r, const char *reason, struct pend *d)
{
    r->status = strdup(reason);
    r->value = val_text_new(SL("{}"));
    if (r->status && r->value)
        return fact_append(p, r, NULL, d);
    rec_unref(r);
    return -ENOMEM;
}

static int settle(struct part *p, struct pend *d, const char *reason)
{
    if (!part_rule(p, RULE_SETTLE))
        return 0;
    struct rec *r = fact_new(p, REC_SETTLED, d->rec->run);
    if (!r)
        return -ENOMEM;
    r->consumed = d->rec->offset;
    return append_settled(p, r, reason, d);
}

/* A fact about a live run that consumes the request and carries its reason. */
static int answer(struct part *p, struct pend *d, struct run *run, enum rec_type t)
{
    struct rec *r = fact_new(p, t, run->id);
    if (!r)
        return -ENOMEM;
    r->consumed = d->rec->offset;
    r->value = val_ref(d->rec->value);
    int error = fact_append(p, r, run, d);
    if (!error)
        run_wake(p, run);
    return error;
}

/* 0: there is none, or it can be read; -ENOMEM; else it can't. */
static int check_fork(const struct rec *request)
{
    struct slice text;
    struct json_object *o = NULL;
    struct run_state st = {0};
    if (!js_member(val_text(request->value), "state", &text))
        return 0;
    int error = js_parse(text, &o, NULL);
    if (!error)
        error = run_state_read(&st, o);
    json_object_put(o);
    run_state_free(&st);
    return error;
}

static int write_started(struct part *p, struct rec *r, const struct pend *d)
{
    struct flow *f = p->ops->flow(p->arg, d->rec->agent ? d->rec->agent : "");
    r->consumed = d->rec->offset;
    if (f) {
        struct step_next next = step_first(f, NULL);
        r->body.phase = step_starts(f) ? PHASE_START : next.phase;
        if (r->body.phase != PHASE_START && next.task && !(r->body.next = strdup(next.task->ref)))
            return -ENOMEM;
    }
    return rec_write_body(r);
}

/* run.started: the run exists from here on. Its first step (input.from) runs as a step of its own.
 */
static int start(struct part *p, struct pend *d)
{
    struct run *run = NULL;
    /* A publisher that repeats an event after the router has committed the first one: below no
     * floor and among no ids any more. The fold would take it for a run again; the owner knows
     * better for a while, and so writes no fact key twice. */
    if (map_has(&p->ended, sl_str(d->rec->run)))
        return settle(p, d, "duplicate: the run of this id has ended");
    int error = check_fork(d->rec);
    if (error)
        return error == -ENOMEM ? error
                                : settle(p, d, "the state that the fork brings can't be read");
    struct rec *r = fact_new(p, REC_STARTED, d->rec->run);
    error = r ? write_started(p, r, d) : -ENOMEM;
    if (!error)
        error = state_run(&p->st, d->rec->run, &run);
    if (!error)
        error = fact_append(p, r, run, d);
    else
        rec_unref(r);
    if (!error)
        run_wake(p, run);
    else if (run && !run->inflight && run->known.status == RUN_NONE)
        state_run_drop(&p->st, run); /* it came to nothing */
    return error;
}

static struct pend *request_of(struct part *p, const char *run)
{
    LIST_EACH(it, &p->st.pending)
    {
        struct pend *d = LIST_ENTRY(it, struct pend, node);
        if (d->rec->type == REC_REQUESTED && !d->duplicate && !d->taken &&
            !strcmp(d->rec->run, run))
            return d;
    }
    return NULL;
}

static int cancel(struct part *p, struct pend *d, struct run *run)
{
    if (!run) {
        struct pend *first = request_of(p, d->rec->run);
        if (!first)
            return settle(p, d, "no such run, or it has ended");
        int error = start(p, first); /* it begins and ends at once: every request ends as a run */
        run = part_run(p, d->rec->run);
        if (error || !run)
            return error;
    }
    int error = answer(p, d, run, REC_CANCELLED);
    if (!error)
        run_unstep(p, run);
    return error;
}

static int control(struct part *p, struct pend *d)
{
    struct run *run = part_run(p, d->rec->run);
    if (run && !run_live(run->spec.status))
        return run_live(run->known.status) || run->inflight ? 0 : settle(p, d, "the run has ended");
    switch (d->rec->type) {
    case REC_CANCEL:
        return cancel(p, d, run);
    case REC_SUSPEND:
        if (!run)
            return request_of(p, d->rec->run) ? 0 : settle(p, d, "no such run, or it has ended");
        return run->spec.status == RUN_SUSPENDED ? settle(p, d, "already suspended")
                                                 : answer(p, d, run, REC_SUSPENDED);
    case REC_RESUME:
        if (!run)
            return request_of(p, d->rec->run) ? 0 : settle(p, d, "no such run, or it has ended");
        return run->spec.status == RUN_ACTIVE ? settle(p, d, "not suspended")
                                              : answer(p, d, run, REC_RESUMED);
    case REC_RETRY:
        if (!run)
            return request_of(p, d->rec->run) ? 0 : settle(p, d, "no such run, or it has ended");
        return run->spec.retry_at_ms > p->wall_ms ? answer(p, d, run, REC_RETRIED)
                                                  : settle(p, d, "the run has no pending retry");
    default:
        return settle(p, d, "not supported by this version");
    }
}

/* Deliveries: no definition listens in this version, so none is ever waited for; one fact settles
 * all. */
static int settle_deliveries(struct part *p, int64_t up_to)
{
    struct rec *r = fact_new(p, REC_SETTLED, NULL);
    if (!r)
        return -ENOMEM;
    r->up_to = up_to;
    return append_settled(p, r, "no run waits for it", NULL);
}

/* One of todo. What can't be decided yet (its definition, or its run's own request or end, is under
 * way) is left as it is. */
static int decide_one(struct part *p, struct pend *d)
{
    if (d->rec->type != REC_REQUESTED)
        return control(p, d);
    if (d->duplicate)
        return settle(p, d, d->conflict ? "conflict" : "duplicate");
    return definition_here(p, d) ? add_start(p, d) : 0;
}

static void move(struct list *from, struct list *to)
{
    struct list *it;
    while ((it = list_pop(from)))
        list_push(to, it);
}

/* Deciding one may take another out of the list (a cancel begins its run), so the list is emptied
 * from its head, and what stays undecided is put back. */
static int decide_others(struct part *p)
{
    int64_t up_to = -1;
    struct list left, delivered, *it;
    int error = 0;
    list_init(&left);
    list_init(&delivered);
    while (!error && (it = list_pop(&p->todo))) {
        struct pend *d = LIST_ENTRY(it, struct pend, todo);
        if (d->rec->type == REC_DELIVERED) {
            up_to = d->rec->offset + 1;
            list_push(&delivered, it);
            continue;
        }
        error = decide_one(p, d);
        if (!d->taken && !heap_in(&d->start_node))
            list_push(&left, it);
    }
    move(&p->todo, &left);
    if (!error && up_to >= 0)
        error = settle_deliveries(p, up_to);
    if (error)
        move(&delivered, &left);
    while (list_pop(&delivered))
        ; /* settled by one fact; a new ownership looks at them again if it does not land */
    move(&left, &p->todo);
    return error;
}

static int accept(struct part *p, const struct pend *d)
{
    struct rec *r = fact_new(p, REC_ACCEPTED, d->rec->run);
    if (!r)
        return -ENOMEM;
    r->consumed = d->rec->offset;
    if ((r->value = val_text_new(SL("{}"))))
        return fact_append(p, r, NULL, NULL);
    rec_unref(r);
    return -ENOMEM;
}

/* Those with a key that did not begin in this turn. */
static int accept_keyed(struct part *p)
{
    struct list *it;
    int error = 0;
    while (!error && !p->broken && p->ops->room(p->arg, p) && (it = list_pop(&p->tell))) {
        struct pend *d = LIST_ENTRY(it, struct pend, tell);
        if (!d->taken && (error = accept(p, d)))
            list_push(&p->tell, it);
    }
    return error;
}

void decide(struct part *p)
{
    struct heap_node *n;
    int error = p->ops->room(p->arg, p) ? decide_others(p) : 0;
    while (!error && !p->broken && p->ops->room(p->arg, p) && (n = heap_top(&p->starts)) &&
           p->ops->admit(p->arg, p, false)) {
        struct pend *d = LIST_ENTRY(n, struct pend, start_node);
        error = start(p, d);
        struct run *run = part_run(p, d->rec->run);
        /* A run of that id may live already: ids without an event are remembered for a day. */
        if (!error && run && run_live(run->spec.status) && !run->admitted) {
            run->admitted = true;
            p->active++;
        } else {
            p->ops->release(p->arg, p);
        }
    }
    if (!error)
        error = accept_keyed(p);
    p->later = p->later || error;
}
