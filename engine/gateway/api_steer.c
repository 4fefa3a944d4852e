/* Steering a run: cancel, suspend, resume, retry, fork.
 *
 *   (retry, fork: the run folded from the journal up to a task, a job) -> sent -> acknowledged
 *     -> 202, or with Prefer: wait the owner's decision -> 200, 409
 *
 * A request is in the log when it is answered; what comes of it its owner decides, on whatever node
 * that is. Repeating one does no harm: it is settled with its reason. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cloudevent.h"
#include "gateway/job.h"
#include "gateway/run_read.h"
#include "gateway/run_wait.h"
#include "triggers/event.h"
#include "triggers/fork.h"
#include "triggers/request.h"

#define REASON_MAX 4096 /* bytes */
#define EVENT_NOTE                                                                                 \
    "no task listens for events yet: the owner settles it, and the run's history keeps it"
#define FORK_ID_MAX 36 /* bytes of the name that makes repeats of a fork the same run */

/* The run's id, if it can be one of this journal; else answered with 404. */
static bool is_run(struct call *c)
{
    const char *id = c->args[0];
    if (run_id_valid(sl_str(id)) && run_id_partition(sl_str(id)) < node_partitions(c->g->n))
        return true;
    http_problem(c->r, 404, NULL, "GET /v1/runs lists the runs", "there is no run %.64s", id);
    return false;
}

/* A text of the body, NULL when it is absent. False: answered with 400. */
static bool text_of(struct call *c, struct json_object *o, const char *name, size_t max,
                    const char **ret)
{
    struct json_object *v = js_get(o, name);
    *ret = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
    size_t n = *ret ? strlen(*ret) : 0;
    if (!v || (*ret && n && n <= max && n == (size_t)json_object_get_string_len(v)))
        return true;
    http_problem(c->r, 400, NULL, "see /openapi.json", "%s is no text of 1 to %zu bytes", name,
                 max);
    return false;
}

/* ---- sending, and waiting for the decision ---- */

/* A request on its way; its call's `data`. */
struct steer {
    struct call *c;
    struct run_wait wait;
    int64_t wait_ms; /* -1: not asked for */
    int64_t offset;
    bool sent;
    char run[RUN_ID_MAX]; /* of the request; of a fork the new one */
    char request[16];     /* "cancel", ... */
    struct json_object *fork_of;
};

static void steer_free(struct steer *s)
{
    run_wait_stop(&s->wait);
    json_object_put(s->fork_of);
    free(s);
}

static void steer_cancel(struct call *c)
{
    api_send_cancel(c);
    steer_free(c->data);
}

static void steer_done(struct steer *s, int status, const char *decided)
{
    struct json_object *o = json_object_new_object();
    char location[64];
    (void)snprintf(location, sizeof location, "/v1/runs/%s", s->run);
    const struct http_field fields[] = {{"Location", location},
                                        {"Preference-Applied", s->wait_ms >= 0 ? "wait" : NULL},
                                        {NULL, NULL}};
    js_put_new(o, "run", json_object_new_string(s->run));
    js_put_new(o, "request", json_object_new_string(s->request));
    js_put_new(o, "partition", json_object_new_int(run_id_partition(sl_str(s->run))));
    js_put(o, "offset", s->offset >= 0 ? json_object_new_int64(s->offset) : NULL);
    if (s->fork_of)
        js_put(o, "forkOf", json_object_get(s->fork_of));
    if (decided)
        js_put_new(o, "decided", json_object_new_string(decided));
    if (!strcmp(s->request, "event"))
        js_put_new(o, "note", json_object_new_string(EVENT_NOTE));
    s->c->cancel = NULL;
    http_answer_json(s->c->r, status, fields, o);
    steer_free(s);
}

static void steer_refused(struct steer *s, const char *reason)
{
    struct call *c = s->c;
    c->cancel = NULL;
    http_problem(c->r, 409, NULL, "GET /v1/runs/{id} shows how it is; the request is in the log",
                 "the owner of the run has settled the request: %s", reason);
    steer_free(s);
}

static void on_wait(struct run_wait *w)
{
    struct steer *s = LIST_ENTRY(w, struct steer, wait);
    const struct rec *a = w->answer;
    if (!s->sent)
        return; /* its acknowledgement is still to come */
    /* A fork that was asked for before is the run that was made then. */
    bool repeat = a && s->fork_of && a->status && !strncmp(a->status, "duplicate", 9);
    if (a && a->type == REC_SETTLED && !repeat)
        steer_refused(s, a->status ? a->status : "it came to nothing");
    else if (a)
        steer_done(s, 200, rec_type_name(a->type));
    else if (w->late)
        steer_done(s, 202, NULL);
}

static void on_sent(struct call *c, int error, int partition, int64_t offset, const char *why)
{
    struct steer *s = c->data;
    if (error) {
        api_later(c, 503,
                  s->fork_of ? "ask again; with an id of your own it is never a second run"
                             : "ask again; a repeat does no harm",
                  "the log did not acknowledge the request: %s", why ? why : strerror(-error));
        steer_free(s);
        return;
    }
    s->sent = true;
    s->offset = offset;
    if (!s->wait.sub) {
        steer_done(s, 202, NULL);
        return;
    }
    c->cancel = steer_cancel;
    run_wait_until(&s->wait, s->wait_ms);
    on_wait(&s->wait);
}

/* Sends a request for `run` and answers the call. Takes a reference of fork_of (or NULL). */
static void steer(struct call *c, struct rec *r, const char *run, const char *request,
                  struct json_object *fork_of)
{
    struct steer *s = calloc(1, sizeof *s);
    if (!s) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    s->c = c;
    s->offset = -1;
    s->wait_ms = r->type == REC_DELIVERED ? -1 : api_prefer_wait(c);
    s->fork_of = json_object_get(fork_of);
    (void)snprintf(s->run, sizeof s->run, "%.*s", RUN_ID_LEN, run);
    (void)snprintf(s->request, sizeof s->request, "%s", request);
    c->data = s;
    if ((s->wait_ms >= 0 && !run_wait_begin(&s->wait, c, s->run, r->uuid, on_wait)) ||
        !api_send_rec(c, r, run_id_partition(sl_str(s->run)), on_sent))
        steer_free(s);
    else
        c->cancel = steer_cancel;
}

/* ---- cancel, suspend, resume ---- */

static void control(struct call *c, enum rec_type type)
{
    static const char *const names[] = {"reason", NULL};
    struct json_object *o = NULL;
    const char *reason;
    struct rec *r = NULL;
    struct err e = {0};
    if (!api_need_node(c) || !is_run(c) || !api_object_body(c, true, names, &o))
        return;
    if (text_of(c, o, "reason", REASON_MAX, &reason)) {
        if (request_control(type, c->args[0], reason, clock_wall_ms(), &r, &e))
            api_fail(c, &e);
        else
            steer(c, r, c->args[0], strrchr(c->route->path, '/') + 1, NULL);
    }
    rec_unref(r);
    json_object_put(o);
}

static void cancel_run(struct call *c)
{
    control(c, REC_CANCEL);
}

static void suspend_run(struct call *c)
{
    control(c, REC_SUSPEND);
}

static void resume_run(struct call *c)
{
    control(c, REC_RESUME);
}

/* ---- retry and fork ---- */

struct forking {
    struct api_job job;
    struct run_read run;
    struct json_object *body; /* the texts of `ask` and `from` */
    struct fork_ask ask;
    const char *from;
    int visit;
    struct fork_made made;
};

static void forking_release(struct api_job *j)
{
    struct forking *f = LIST_ENTRY(j, struct forking, job);
    run_read_free(&f->run);
    json_object_put(f->body);
    fork_made_free(&f->made);
}

static void do_fork(struct api_job *j, struct kadmin *a)
{
    struct forking *f = LIST_ENTRY(j, struct forking, job);
    struct err *e = &j->read.e;
    struct fork fork;
    fork_init(&fork, &f->run.j.trace, f->run.id, f->from, f->visit);
    f->run.j.fn = fork_record;
    f->run.j.arg = &fork;
    int error = run_read(&f->run, a, e);
    if (!error)
        error = fork_make(&fork, a, &j->read.g->names, &f->ask, &f->made, e);
    if (error && !e->code)
        err_set(e, error, "try again", "the run can't be forked now");
    if (e->code == -EBUSY) /* its state forbids it */
        e->code = -EEXIST;
    fork_free(&fork);
}

/* The request is made: it is sent from here. */
static bool fork_ready(struct api_job *j)
{
    struct forking *f = LIST_ENTRY(j, struct forking, job);
    const struct fork_made *m = &f->made;
    struct call *c = j->read.c;
    if (api_need_node(c))
        steer(c, m->rec, m->id[0] ? m->id : f->run.id, m->id[0] ? "fork" : "retry", m->of);
    api_job_drop(j);
    return false;
}

static bool read_visit(struct call *c, struct json_object *o, int *ret)
{
    struct json_object *v = js_get(o, "visit");
    int64_t n = v ? json_object_get_int64(v) : -1;
    *ret = (int)n;
    if (!v || (json_object_is_type(v, json_type_int) && n >= 0 && n <= INT32_MAX))
        return true;
    http_problem(c->r, 400, NULL, "GET /v1/runs/{id} has the visits of each task",
                 "visit is no whole number from 0");
    return false;
}

static void fork_or_retry(struct call *c, const char *const *names, bool retry)
{
    struct forking *f = NULL;
    struct json_object *o = NULL;
    if (!api_need_node(c) || !is_run(c) || !api_object_body(c, retry, names, &o))
        return;
    if (!(f = calloc(1, sizeof *f))) {
        json_object_put(o);
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    f->body = o;
    f->ask.retry = retry;
    if (!text_of(c, o, "from", REC_REF_MAX, &f->from) ||
        !text_of(c, o, "id", FORK_ID_MAX, &f->ask.id) ||
        !text_of(c, o, "agent", 3 * FLOW_NAME_MAX, &f->ask.agent) ||
        !text_of(c, o, "reason", REASON_MAX, &f->ask.reason) || !read_visit(c, o, &f->visit))
        goto answered;
    if (!retry && !f->from) {
        http_problem(c->r, 400, NULL, "GET /v1/runs/{id} lists its tasks",
                     "from is missing: the name or reference of the task to go on at");
        goto answered;
    }
    if (!run_read_init(&f->run, c, c->args[0], false))
        goto answered;
    f->job.release = forking_release;
    f->job.ready = fork_ready;
    api_job_start(c, &f->job, do_fork);
    return;
answered:
    json_object_put(f->body);
    free(f);
}

static void retry_run(struct call *c)
{
    static const char *const names[] = {"reason", "from", "visit", "agent", "id", NULL};
    fork_or_retry(c, names, true);
}

static void fork_run(struct call *c)
{
    static const char *const names[] = {"from", "visit", "agent", "id", NULL};
    fork_or_retry(c, names, false);
}

/* ---- an event for one run ---- */

/* It is in the journal when it is answered. No task listens for events yet: the owner settles it
 * when it sees it, and `history` has it. */
static void send_event(struct call *c)
{
    struct ce_record x = {0};
    struct event ev = {0};
    struct rec *r = NULL;
    struct err e = {0};
    if (!api_need_node(c) || !is_run(c))
        return;
    int error = ce_record(c->r, &x, &e);
    if (!error)
        error = event_read(&ev, &x.k, &e);
    if (!error)
        error = request_delivered(c->args[0], ev.envelope, clock_wall_ms(), &r, &e);
    if (!error)
        steer(c, r, c->args[0], "event", NULL);
    else if (error == -ENOTSUP)
        http_problem(c->r, 415, NULL, e.hint, "%s", e.msg);
    else
        api_fail(c, &e);
    rec_unref(r);
    event_free(&ev);
    ce_record_free(&x);
}

/* ---- the routes ---- */

#define TEXT "{\"type\":\"string\",\"minLength\":1}"
#define REASON                                                                                     \
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"reason\":{\"type\":"    \
    "\"string\",\"minLength\":1,\"maxLength\":4096}}}"
#define FORK_MEMBERS                                                                               \
    "\"from\":" TEXT ",\"visit\":{\"type\":\"integer\",\"minimum\":0},\"agent\":" TEXT             \
    ",\"id\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":36}"
#define FORK                                                                                       \
    "{\"type\":\"object\",\"required\":[\"from\"],\"additionalProperties\":false,\"properties\":{" \
    "" FORK_MEMBERS "}}"
#define RETRY                                                                                      \
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"reason\":{\"type\":"    \
    "\"string\",\"minLength\":1,\"maxLength\":4096}," FORK_MEMBERS "}}"
#define STEERED                                                                                    \
    "{\"type\":\"object\",\"required\":[\"run\",\"request\",\"partition\",\"offset\"],"            \
    "\"properties\":{\"run\":{\"type\":\"string\"},\"request\":{\"type\":\"string\"},"             \
    "\"partition\":{\"type\":\"integer\"},\"offset\":{\"type\":[\"integer\",\"null\"]},"           \
    "\"forkOf\":{\"type\":\"object\"},\"decided\":" TEXT ",\"note\":" TEXT "}}"

static const struct param steer_params[] = {
    {"Prefer", "header", TEXT, "wait=N: the answer waits up to N seconds for the owner's decision"},
    {NULL}};
#define DECIDED                                                                                    \
    {                                                                                              \
        200, "the owner has decided: `decided` is the fact that says so", STEERED                  \
    }
static const struct answer control_answers[] = {
    DECIDED,
    {202, "the log has acknowledged the request; the run's owner decides it", STEERED},
    {0}};
static const struct answer fork_answers[] = {
    DECIDED, {202, "the log has acknowledged the request; `run` is the new run", STEERED}, {0}};
static const struct answer retry_answers[] = {
    DECIDED,
    {202,
     "the log has acknowledged the request; `run` is the new run that goes on at the failed task, "
     "or the run itself, whose next attempt begins now",
     STEERED},
    {0}};

static const struct answer event_answers[] = {{202, "the log has acknowledged the event", STEERED},
                                              {0}};

#define STEER(word, function, name, text, schema, optional, answer_table)                          \
    {                                                                                              \
        .method = "POST", .path = "/v1/runs/{id}/" word, .scope = SCOPE_OPERATE, .fn = function,   \
        .id = name, .tag = "runs", .summary = text, .params = steer_params, .body = schema,        \
        .body_optional = optional, .answers = answer_table                                         \
    }
const struct route routes_steer[] = {
    STEER("cancel", cancel_run, "cancelRun", "End a run without waiting for what it does", REASON,
          true, control_answers),
    STEER("suspend", suspend_run, "suspendRun",
          "Begin no further task of a run until it is resumed", REASON, true, control_answers),
    STEER("resume", resume_run, "resumeRun", "Let a suspended run go on", REASON, true,
          control_answers),
    STEER("retry", retry_run, "retryRun",
          "Go on with a faulted run at the task that failed, as a new run", RETRY, true,
          retry_answers),
    STEER("fork", fork_run, "forkRun", "Go on from a task of a run, as a new run", FORK, false,
          fork_answers),
    {.method = "POST",
     .path = "/v1/runs/{id}/events",
     .scope = SCOPE_OPERATE,
     .fn = send_event,
     .id = "sendRunEvent",
     .tag = "runs",
     .summary = "Send a CloudEvent to one run; no task listens for events yet, so it is only kept",
     .body = "{}",
     .answers = event_answers},
    {.method = NULL},
};
