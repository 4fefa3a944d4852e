/* One run's state and the facts that change it (state.h). run_apply has one small function a type
 * of fact. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/frame.h"

#define COUNT_MAX ((int64_t)1 << 53)

const char *run_status_name(enum run_status s)
{
    static const char *const names[] = {"pending",   "running", "suspended",
                                        "completed", "faulted", "cancelled"};
    return names[s];
}

#define AT(member) offsetof(struct run_state, member)
/* But for the status, which is a word there, and the frames. */
static const struct snap_field fields[] = {
    {"request", SNAP_I64, AT(request), .preset = -1},
    {"agent", SNAP_TEXT, AT(agent)},
    {"src", SNAP_TEXT, AT(src.name)},
    {"srcOffset", SNAP_I64, AT(src.offset), .preset = -1},
    {"priority", SNAP_INT, AT(priority), .preset = 5},
    {"traceparent", SNAP_TEXT, AT(traceparent)},
    {"phase", SNAP_INT, AT(phase), .preset = PHASE_START},
    {"ref", SNAP_TEXT, AT(ref)},
    {"visit", SNAP_INT, AT(visit), .counted = true},
    {"rewind", SNAP_INT, AT(rewind), .counted = true},
    {"attempt", SNAP_INT, AT(attempt), .preset = 1, .counted = true},
    {"started", SNAP_BOOL, AT(started)},
    {"waitUntilMs", SNAP_I64, AT(wait_until_ms)},
    {"runStartedMs", SNAP_I64, AT(run_started_ms)},
    {"taskStartedMs", SNAP_I64, AT(task_started_ms)},
    {"timeMs", SNAP_I64, AT(time_ms)},
    {"tasks", SNAP_I64, AT(tasks), .counted = true},
    {"retryAtMs", SNAP_I64, AT(retry_at_ms), .optional = true},
    {"deadlineMs", SNAP_I64, AT(deadline_ms), .optional = true},
    {"exiting", SNAP_BOOL, AT(exiting), .optional = true},
    {"visits", SNAP_COUNTS, AT(visits)},
    {"origin", SNAP_VAL, AT(origin)},
    {"input", SNAP_VAL, AT(wf_raw)},
    {"context", SNAP_VAL, AT(context)},
    {"last", SNAP_VAL, AT(last)},
    {"error", SNAP_VAL, AT(error)},
};
#undef AT
#define NFIELDS (sizeof fields / sizeof *fields)

void run_state_free(struct run_state *st)
{
    for (size_t i = 0; i < st->nframes; i++)
        frame_free(&st->frames[i]);
    free(st->frames);
    snap_free(fields, NFIELDS, st);
    memset(st, 0, sizeof *st);
}

int run_state_copy(struct run_state *to, const struct run_state *from)
{
    struct run_state n = *from;
    n.frames = NULL;
    n.nframes = 0;
    int error = snap_copy(fields, NFIELDS, &n, from);
    if (from->nframes && !(n.frames = calloc(from->nframes, sizeof *n.frames)))
        error = -ENOMEM;
    for (size_t i = 0; i < from->nframes && !error; i++)
        error = frame_copy(&n.frames[n.nframes++], &from->frames[i]);
    run_state_free(to);
    *to = n;
    return error ? -ENOMEM : 0;
}

int run_visits(const struct run_state *st, const char *ref)
{
    return ref ? (int)(intptr_t)map_get(&st->visits, sl_str(ref)) : 0;
}

int note_visit(struct run_state *st, const char *ref)
{
    return map_put(&st->visits, sl_str(ref), (void *)((intptr_t)run_visits(st, ref) + 1), NULL);
}

/* Where the run goes on after a fact. */
static int go_to(struct run_state *st, const struct rec *r)
{
    const struct rec_body *y = &r->body;
    int error = set_text(&st->ref, y->next);
    st->phase = y->phase;
    st->started = false;
    st->wait_until_ms = st->retry_at_ms = 0;
    st->exiting = y->exit;
    st->task_started_ms = r->time_ms;
    st->visit = run_visits(st, y->next);
    while (st->phase == PHASE_FINISH && st->nframes)
        frame_pop(st);
    st->attempt = frames_attempt(st);
    return error;
}

/* ---- one function a type ---- */

/* A fork brings the state it goes on from; everything else comes from the request. */
static int begin_fork(struct run_state *st, struct slice text)
{
    struct json_object *o = NULL;
    int error = js_parse(text, &o, NULL);
    if (!error)
        error = run_state_read(st, o);
    json_object_put(o);
    return error;
}

static int on_started(struct run_state *st, const struct rec *r, const struct rec *request)
{
    struct slice input, fork, doc;
    if (!request)
        return 0;
    doc = val_text(request->value);
    bool forked = js_member(doc, "state", &fork);
    if (forked) {
        int error = begin_fork(st, fork);
        if (error == -ENOMEM)
            return error;
        forked = !error;
    } else if (!st->visits.cap) {
        map_init(&st->visits);
    }
    st->status = RUN_ACTIVE;
    st->pin = st->request = request->offset;
    st->priority = request->priority;
    st->run_started_ms = st->task_started_ms = r->time_ms;
    set_val(&st->origin, request->value);
    st->src.offset = request->src.offset;
    st->src.floor = request->src.floor;
    if (set_text(&st->agent, request->agent) || set_text(&st->traceparent, request->traceparent) ||
        set_text(&st->src.name, request->src.name))
        return -ENOMEM;
    if (js_member(doc, "input", &input)) {
        struct val *v = val_text_new(input);
        if (!v)
            return -ENOMEM;
        set_val(&st->wf_raw, v);
        val_unref(v);
    }
    if (forked)
        return 0;
    set_val(&st->last, r->body.has_input ? r->body.input : st->wf_raw);
    return go_to(st, r);
}

static int on_task_started(struct run_state *st, const struct rec *r)
{
    if (!r->body.next) { /* a leaf; what its expressions see as the time stays as it is */
        st->started = true;
        st->attempt = r->attempt;
        return 0;
    }
    int64_t index;
    int error = 0;
    if (frame_iteration(st, r->ref, &index))
        st->frames[st->nframes - 1].index = index;
    else
        error = frame_push(st, r);
    return error ? error : go_to(st, r);
}

static int on_task_completed(struct run_state *st, const struct rec *r)
{
    if (st->nframes && !strcmp(st->frames[st->nframes - 1].ref, r->ref))
        frame_pop(st);
    if (r->body.has_output)
        set_val(&st->last, r->body.output);
    if (r->body.has_context)
        set_val(&st->context, r->body.context);
    st->tasks++;
    if (st->phase == PHASE_START && r->body.until_ms)
        st->deadline_ms = r->body.until_ms;
    int error = note_visit(st, r->ref);
    return error ? error : go_to(st, r);
}

/* Inside a try that is now asked about it; otherwise what comes next is the run's end, whoever
 * writes it: until then the run is live, but no step of it is done again. */
static int on_task_faulted(struct run_state *st, const struct rec *r)
{
    if (!r->body.next || r->body.phase != PHASE_CATCH) {
        set_val(&st->error, r->value);
        return 0;
    }
    if (st->phase == PHASE_TASK && st->ref && note_visit(st, st->ref))
        return -ENOMEM;
    int error = frame_unwind(st, r->body.next);
    if (error)
        return error == -ENOENT ? 0 : error;
    set_val(&st->frames[st->nframes - 1].error, r->body.error);
    return go_to(st, r);
}

/* What the try does about it: the next attempt, catch.do, or its end. */
static int on_task_caught(struct run_state *st, const struct rec *r)
{
    struct frame *f = st->nframes ? &st->frames[st->nframes - 1] : NULL;
    int error = 0;
    if (!f || strcmp(f->ref, r->ref))
        return 0;
    st->tasks++;
    set_val(&st->last, f->in);
    f->attempt_deadline_ms = r->body.attempt_until_ms;
    f->caught = !r->body.attempt;
    if (r->body.attempt) {
        f->error = val_unref(f->error);
        error = frame_retry(st, r->body.attempt);
    }
    if (!error)
        error = go_to(st, r);
    st->retry_at_ms = r->body.attempt ? r->body.until_ms : 0;
    return error;
}

static int on_task_waiting(struct run_state *st, const struct rec *r)
{
    st->wait_until_ms = r->body.until_ms;
    return 0;
}

static int on_end(struct run_state *st, const struct rec *r)
{
    st->status = r->type == REC_COMPLETED ? RUN_COMPLETED
                 : r->type == REC_FAULTED ? RUN_FAULTED
                                          : RUN_CANCELLED;
    set_val(&st->error, r->value);
    return 0;
}

int run_apply(struct run_state *st, const struct rec *r, const struct rec *request)
{
    int error = 0;
    if (r->type == REC_STARTED)
        error = run_live(st->status) ? 0 : on_started(st, r, request);
    else if (!run_live(st->status))
        return 0; /* a fact about a run that the fold does not know */
    else if (r->type == REC_TASK_STARTED)
        error = on_task_started(st, r);
    else if (r->type == REC_TASK_COMPLETED)
        error = on_task_completed(st, r);
    else if (r->type == REC_TASK_WAITING)
        error = on_task_waiting(st, r);
    else if (r->type == REC_TASK_FAULTED)
        error = on_task_faulted(st, r);
    else if (r->type == REC_TASK_CAUGHT)
        error = on_task_caught(st, r);
    else if (r->type == REC_COMPLETED || r->type == REC_FAULTED || r->type == REC_CANCELLED)
        error = on_end(st, r);
    else if (r->type == REC_SUSPENDED)
        st->status = RUN_SUSPENDED;
    else if (r->type == REC_RESUMED)
        st->status = RUN_ACTIVE;
    else if (r->type == REC_RETRIED)
        st->retry_at_ms = 0;
    st->time_ms = r->time_ms;
    return error;
}

/* ---- text of a snapshot ---- */

int run_state_write(const struct run_state *st, struct buf *b)
{
    buf_addf(b, "{\"status\":\"%s\"", run_status_name(st->status));
    snap_write(fields, NFIELDS, st, b);
    frames_write(st, b);
    buf_addc(b, '}');
    return buf_error(b);
}

static enum run_status status_of(const char *name)
{
    for (int s = RUN_NONE; s <= RUN_CANCELLED; s++)
        if (name && !strcmp(name, run_status_name((enum run_status)s)))
            return (enum run_status)s;
    return RUN_NONE;
}

bool run_placed(const struct run_state *st)
{
    const struct frame *top = st->nframes ? &st->frames[st->nframes - 1] : NULL;
    switch (st->phase) {
    case PHASE_TASK:
        return st->ref != NULL;
    case PHASE_LEAVE:
        return st->ref && top;
    case PHASE_CATCH:
        return st->ref && top && top->tries && top->error;
    default:
        return st->phase == PHASE_START || st->phase == PHASE_FINISH;
    }
}

int run_state_read(struct run_state *st, struct json_object *o)
{
    struct run_state n = {.status = status_of(js_str(o, "status"))};
    int error = snap_read(fields, NFIELDS, &n, o);
    n.src.floor = -1;
    if (!error)
        error = frames_read(&n, js_get(o, "frames"));
    if (error || !run_placed(&n) || n.tasks >= COUNT_MAX) {
        run_state_free(&n);
        return error == -ENOMEM ? error : -EPROTO;
    }
    run_state_free(st);
    *st = n;
    return 0;
}
