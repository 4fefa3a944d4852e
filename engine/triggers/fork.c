/* See fork.h. The state before the task goes along in the request by value, so the owner reads
 * nothing back (docs/design.md, departures). */
#include "triggers/fork.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "triggers/defs.h"
#include "triggers/request.h"

void fork_init(struct fork *f, const struct trace *t, const char *run, const char *from, int visit)
{
    *f = (struct fork){.trace = t, .run = run, .from = from, .visit = visit};
    state_init(&f->st, 0);
    map_init(&f->found.visits);
}

void fork_free(struct fork *f)
{
    state_free(&f->st);
    run_state_free(&f->found);
    free(f->failed_ref);
}

static bool is_task(const struct fork *f, const struct run_state *st)
{
    const char *want = f->from ? f->from : f->failed_ref, *name;
    if (st->phase != PHASE_TASK || !st->ref || !want || (f->visit >= 0 && f->visit != st->visit))
        return false;
    name = strrchr(st->ref, '/');
    return !strcmp(st->ref, want) || (name && want[0] != '/' && !strcmp(name + 1, want));
}

int fork_record(void *arg, struct rec *r, bool is_void)
{
    struct fork *f = arg;
    if (f->st.epoch < 0) { /* whose record is below where the reading begins */
        f->st.epoch = f->trace->epoch;
        f->st.nonce = f->trace->nonce;
    }
    if (r->type == REC_TASK_FAULTED && !is_void && !strcmp(r->run, f->run)) {
        free(f->failed_ref);
        f->failed_ref = strdup(r->ref);
        struct run *live = map_get(&f->st.runs, sl_str(f->run));
        if (!f->from && live && is_task(f, &live->known) &&
            run_state_copy(&f->found, &live->known) == 0)
            f->any = true;
    }
    if (state_apply(&f->st, r) < 0)
        return -ENOMEM;
    struct run *run = strcmp(r->run, f->run) ? NULL : map_get(&f->st.runs, sl_str(f->run));
    /* The place just before the task begins: not yet started. */
    if (run && f->from && !run->known.started && is_task(f, &run->known)) {
        if (run_state_copy(&f->found, &run->known) < 0)
            return -ENOMEM;
        f->any = true;
    }
    if ((r->type == REC_COMPLETED || r->type == REC_FAULTED || r->type == REC_CANCELLED) &&
        !is_void && !strcmp(r->run, f->run))
        f->end = r->type == REC_FAULTED     ? RUN_FAULTED
                 : r->type == REC_COMPLETED ? RUN_COMPLETED
                                            : RUN_CANCELLED;
    return 0;
}

static struct json_object *state_json(struct run_state *st)
{
    struct buf b;
    struct json_object *o = NULL;
    st->started = false;
    st->wait_until_ms = st->retry_at_ms = st->deadline_ms = 0; /* times of the original */
    for (size_t i = 0; i < st->nframes; i++)
        st->frames[i].deadline_ms = st->frames[i].attempt_deadline_ms = st->frames[i].retries = 0;
    val_unref(st->origin);
    st->origin = NULL; /* the request has its own */
    val_unref(st->error);
    st->error = NULL; /* of the original, if its task has just faulted */
    buf_init(&b, 64u << 20);
    if (run_state_write(st, &b) == 0)
        js_parse(buf_slice(&b), &o, NULL);
    buf_free(&b);
    return o;
}

static int make(struct fork *f, struct kadmin *a, const struct names *n, const struct fork_ask *q,
                struct json_object *origin, struct fork_made *ret, struct err *e)
{
    char uuid[37], hash[FLOW_HASH_MAX], agent[2 * FLOW_NAME_MAX + 2], version[64];
    struct json_object *extra = json_object_new_object(), *of = json_object_new_object();
    int error = 0;
    uuid4(uuid);
    if (q->id)
        (void)snprintf(uuid, sizeof uuid, "%s", q->id);
    (void)snprintf(hash, sizeof hash, "%s", f->found.agent);
    (void)snprintf(agent, sizeof agent, "%s",
                   js_str(origin, "agent") ? js_str(origin, "agent") : "");
    (void)snprintf(version, sizeof version, "%s",
                   js_str(origin, "version") ? js_str(origin, "version") : "");
    if (q->agent)
        error = agents_find(a, n, q->agent, hash, agent, version, e);
    run_id_fork(ret->id, sl_str(f->run), sl_str(f->found.ref), f->found.visit, sl_str(uuid));
    js_put_new(of, "run", json_object_new_string(f->run));
    js_put_new(of, "task", json_object_new_string(f->found.ref));
    js_put_new(of, "visit", json_object_new_int(f->found.visit));
    js_put_new(of, "uuid", json_object_new_string(uuid));
    ret->of = json_object_get(of);
    js_put_new(extra, "forkOf", of);
    struct request rq = {.agent = agent,
                         .version = version,
                         .hash = hash,
                         .key = js_str(origin, "key"),
                         .input = js_get(origin, "input"),
                         .event = js_get(origin, "event"),
                         .extra = extra,
                         .run_id = ret->id,
                         .random_id = !q->id,
                         .asked_version = q->agent,
                         .traceparent = f->found.traceparent,
                         .priority = f->found.priority,
                         .src_offset = -1,
                         .floor = -1,
                         .time_ms = clock_wall_ms()};
    if (!error) {
        js_put(extra, "state", state_json(&f->found));
        error = request_make(&rq, &ret->rec, e);
    }
    json_object_put(extra);
    return error;
}

/* The run is alive, and the next attempt of a try waits for its time. */
static bool retry_waits(struct fork *f)
{
    struct run *run = map_get(&f->st.runs, sl_str(f->run));
    return run && run_live(run->known.status) && run->known.retry_at_ms > clock_wall_ms();
}

static int not_faulted(const struct fork *f, struct err *e)
{
    return err_set(e, -EBUSY,
                   f->end == RUN_NONE ? "no retry waits; it goes on by itself: `tidemark runs "
                                        "show` and GET /v1/runs/{id} show "
                                        "where it is"
                                      : "fork it at one of its tasks",
                   "%s has not faulted", f->run);
}

int fork_make(struct fork *f, struct kadmin *a, const struct names *n, const struct fork_ask *q,
              struct fork_made *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    if (!map_has(&f->trace->runs, sl_str(f->run)))
        return err_set(
            e, -ENOENT,
            "`tidemark runs list` and GET /v1/runs have the runs that the journal still holds",
            "no run %s", f->run);
    if (q->retry && f->end == RUN_NONE && retry_waits(f))
        return request_control(REC_RETRY, f->run, q->reason, clock_wall_ms(), &ret->rec, e);
    if (q->retry && f->end != RUN_FAULTED)
        return not_faulted(f, e);
    if (!f->any)
        return err_set(
            e, -ENOENT,
            "`tidemark runs show` and GET /v1/runs/{id} list its tasks with their references",
            "the run never came to the task \"%s\"", f->from ? f->from : "that failed");
    struct val *origin = val_ref(f->found.origin);
    int error = make(f, a, n, q, val_tree(origin), ret, e);
    val_unref(origin);
    if (error)
        fork_made_free(ret);
    return error;
}

void fork_made_free(struct fork_made *m)
{
    rec_unref(m->rec);
    json_object_put(m->of);
    *m = (struct fork_made){0};
}
