/* Looking at one run, as the journal has it: GET /v1/runs/{id}, its output, its history.
 *
 *   read between the run's first and last offset (a job) -> answered
 *
 * Any node answers for any run, since any node reads the journal. What would be too large for one
 * answer comes in pages. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/job.h"
#include "gateway/run_place.h"
#include "gateway/run_read.h"
#include "gateway/run_wait.h"
#include "view/view.h"

#define PAGE_BYTES       (2u << 20) /* of values in one answer; one item may exceed it */
#define TASKS            1000       /* of one answer, if `limit` says nothing */
#define PAGE_TASKS_MAX   10000
#define RECORDS          100
#define PAGE_RECORDS_MAX 1000

struct look {
    struct api_job job;
    struct run_read run;
    int64_t limit, after;
    /* output */
    struct run_wait wait;
    int64_t wait_ms; /* -1: not asked for */
    bool read;
    /* history */
    struct json_object *list;
    size_t bytes;
    int64_t last; /* offset of the latest record in the list */
    bool more;
};

static void look_release(struct api_job *j)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    run_wait_stop(&l->wait);
    json_object_put(l->list);
    run_read_free(&l->run);
}

static void look(struct call *c, bool tasks, int64_t limit, int64_t limit_max, int64_t after,
                 void (*fn)(struct api_job *j, struct kadmin *a))
{
    struct look *l = calloc(1, sizeof *l);
    if (!l) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    if (!api_query_int(c, "limit", 1, limit_max, limit, &l->limit) ||
        !api_query_int(c, "after", 0, INT64_MAX - 1, after, &l->after) ||
        !run_read_init(&l->run, c, c->args[0], tasks)) {
        free(l);
        return;
    }
    l->job.release = look_release;
    api_job_start(c, &l->job, fn);
}

static void put_next(struct json_object *o, const struct look *l, const char *what, int64_t after,
                     bool more)
{
    char text[160];
    (void)snprintf(text, sizeof text, "/v1/runs/%s%s?limit=%lld&after=%lld", l->run.id, what,
                   (long long)l->limit, (long long)after);
    if (more)
        js_put_new(o, "next", json_object_new_string(text));
    else
        js_put(o, "next", NULL);
}

static void set_etag(struct look *l)
{
    const struct trace_run *r = l->run.run;
    (void)snprintf(l->job.etag, sizeof l->job.etag, "\"%d-%lld\"", l->run.partition,
                   (long long)r->last);
}

/* ---- the run ---- */

static void read_run(struct api_job *j, struct kadmin *a)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    struct trace *t = &l->run.j.trace;
    t->values_from = (size_t)l->after;
    t->values_end = t->values_from + (size_t)l->limit;
    t->values_max = PAGE_BYTES;
    if (run_read(&l->run, a, &j->read.e))
        return;
    const struct trace_run *r = l->run.run;
    j->status = 200;
    j->o = trace_json_page(r, t->values_from, t->values_end);
    js_put_new(j->o, "tasksTotal", json_object_new_int64((int64_t)r->ntasks));
    put_next(j->o, l, "", (int64_t)t->values_end, t->values_end < r->ntasks);
    set_etag(l);
}

static void get_run(struct call *c)
{
    look(c, true, TASKS, PAGE_TASKS_MAX, 0, read_run);
}

/* ---- its output ---- */

/* How the run ended, when it did not complete. */
static struct json_object *end_problem(const char *id, enum run_status status,
                                       struct json_object *error)
{
    const char *detail = js_str(error, "detail"), *title = js_str(error, "title"),
               *reason = js_str(error, "reason");
    struct json_object *o;
    if (status == RUN_CANCELLED)
        o = api_problem(409, "POST /v1/runs/{id}/fork begins a new run at one of its tasks",
                        "the run was cancelled%s%s", reason ? ": " : "", reason ? reason : "");
    else
        o = api_problem(409, "POST /v1/runs/{id}/retry goes on at the task that failed",
                        "the run has faulted: %s",
                        detail  ? detail
                        : title ? title
                                : "its error has no detail");
    js_put_new(o, "run", json_object_new_string(id));
    js_put_new(o, "runStatus", json_object_new_string(run_status_name(status)));
    js_put(o, "error", json_object_get(error));
    return o;
}

static void read_output(struct api_job *j, struct kadmin *a)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    if (run_read(&l->run, a, &j->read.e))
        return;
    const struct trace_run *r = l->run.run;
    if (r->status == RUN_COMPLETED) {
        j->status = 200;
        j->o = json_object_get(val_tree(r->output));
        set_etag(l);
    } else if (r->ended_ms) {
        j->status = 409;
        j->o = end_problem(r->id, r->status, val_tree(r->error));
    } else {
        j->status = 202;
        j->later = true;
        j->o = json_object_new_object();
        js_put_new(j->o, "id", json_object_new_string(r->id));
        js_put_new(j->o, "status", json_object_new_string(run_status_name(r->status)));
    }
}

/* From the record that ended the run while it was waited for. */
static void set_end(struct look *l, const struct rec *end)
{
    struct api_job *j = &l->job;
    struct json_object *v = val_tree(end->value);
    if (end->type == REC_COMPLETED) {
        (void)snprintf(j->etag, sizeof j->etag, "\"%d-%lld\"", l->run.partition,
                       (long long)end->offset);
        api_job_set(j, 200, json_object_get(js_get(v, "output")));
    } else if (end->type == REC_FAULTED) {
        api_job_set(j, 409, end_problem(l->run.id, RUN_FAULTED, js_get(v, "error")));
    } else {
        api_job_set(j, 409, end_problem(l->run.id, RUN_CANCELLED, v));
    }
}

static void on_wait(struct run_wait *w)
{
    struct look *l = LIST_ENTRY(w, struct look, wait);
    if (!l->read || (!w->end && !w->late))
        return;
    if (w->end)
        set_end(l, w->end);
    l->job.read.c->cancel = NULL;
    api_job_answer(&l->job);
}

static void on_cancel(struct call *c)
{
    api_job_drop(&((struct look *)c->data)->job);
}

/* The journal was read: the run has ended, or its end is waited for. */
static bool output_ready(struct api_job *j)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    struct call *c = j->read.c;
    if (j->status != 202 || !l->wait.sub || !c->g->n)
        return true;
    l->read = true;
    c->data = l;
    c->cancel = on_cancel;
    run_wait_until(&l->wait, l->wait_ms);
    on_wait(&l->wait);
    return false;
}

/* The wait begins before the reading, so that no end falls between the two. */
static void get_output(struct call *c)
{
    struct look *l = calloc(1, sizeof *l);
    if (!l) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    l->wait_ms = api_prefer_wait(c);
    if (!run_read_init(&l->run, c, c->args[0], false)) {
        free(l);
        return;
    }
    if (l->wait_ms >= 0 &&
        (!api_need_node(c) || !run_wait_begin(&l->wait, c, l->run.id, NULL, on_wait))) {
        run_read_free(&l->run);
        free(l);
        return;
    }
    l->job.waited = l->wait_ms >= 0;
    l->job.ready = output_ready;
    l->job.release = look_release;
    api_job_start(c, &l->job, read_output);
}

/* ---- its records ---- */

static int on_record(void *arg, struct rec *r, bool is_void)
{
    struct look *l = arg;
    if (strcmp(r->run, l->run.id) || r->offset <= l->after)
        return 0;
    if (json_object_array_length(l->list) == (size_t)l->limit ||
        (l->bytes && l->bytes + val_text(r->value).n > PAGE_BYTES)) {
        l->more = true;
        return 1;
    }
    l->bytes += val_text(r->value).n;
    l->last = r->offset;
    return js_push_new(l->list, trace_record_json(r, is_void));
}

static void read_history(struct api_job *j, struct kadmin *a)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    l->run.j.fn = on_record;
    l->run.j.arg = l;
    l->last = l->after;
    l->list = json_object_new_array();
    int error = run_read_from(&l->run, a, l->after, &j->read.e);
    if (error < 0)
        return;
    if (!json_object_array_length(l->list) && l->after < 0) {
        err_set(&j->read.e, -ENOENT, "GET /v1/runs has the runs that the journal still holds",
                "there is no run %s", l->run.id);
        return;
    }
    j->status = 200;
    j->o = json_object_new_object();
    (void)snprintf(j->etag, sizeof j->etag, "\"%d-%lld%s\"", l->run.partition, (long long)l->last,
                   l->more ? "+" : "");
    js_put(j->o, "records", l->list);
    l->list = NULL;
    put_next(j->o, l, "/history", l->last, l->more);
}

static void get_history(struct call *c)
{
    look(c, false, RECORDS, PAGE_RECORDS_MAX, -1, read_history);
}

/* ---- the routes ---- */

static const struct param run_params[] = {
    {"limit", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000}",
     "tasks of one answer; default 1000"},
    {"after", "query", "{\"type\":\"integer\",\"minimum\":0}", "how many tasks to pass over"},
    {"If-None-Match", "header", "{\"type\":\"string\"}", "the ETag of an earlier answer"},
    {NULL}};
static const struct param output_params[] = {{"If-None-Match", "header", "{\"type\":\"string\"}",
                                              "the ETag of an earlier answer"},
                                             {NULL}};
static const struct param history_params[] = {
    {"limit", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000}",
     "records of one answer; default 100"},
    {"after", "query", "{\"type\":\"integer\",\"minimum\":0}", "an offset: only records behind it"},
    {"If-None-Match", "header", "{\"type\":\"string\"}", "the ETag of an earlier answer"},
    {NULL}};

/* ---- where it is ---- */

static void read_place(struct api_job *j, struct kadmin *a)
{
    struct look *l = LIST_ENTRY(j, struct look, job);
    struct run_place at;
    if (view_run(j->read.g->o.view, l->run.id, &at, NULL, 0, &j->read.e) && at.next.from < 0)
        return;
    err_clear(&j->read.e);
    j->status = 200;
    j->o = json_object_new_object();
    js_put_new(j->o, "id", json_object_new_string(l->run.id));
    js_put_new(j->o, "partition", json_object_new_int(l->run.partition));
    run_place_json(&at, j->o);
}

static void get_place(struct call *c)
{
    if (c->g->o.view)
        look(c, false, 1, 1, 0, read_place);
    else
        http_problem(c->r, 501, NULL, "ask a node with `view: all` or `view: owned`",
                     "this node keeps no read model (view: none)");
}

#define TASK                                                                                       \
    "{\"type\":\"object\",\"required\":[\"name\",\"reference\",\"visit\",\"status\",\"attempts\"," \
    "\"offset\"],\"properties\":{\"name\":{\"type\":\"string\"},\"reference\":{\"type\":"          \
    "\"string\"},\"visit\":{\"type\":\"integer\"},\"status\":{\"type\":\"string\"},\"attempts\":{" \
    "\"type\":\"integer\"},\"retries\":{\"type\":\"integer\"},\"retryAt\":{\"type\":\"string\"},"  \
    "\"startedAt\":{\"type\":[\"string\",\"null\"]},\"endedAt\":{\"type\":[\"string\",\"null\"]}," \
    "\"offset\":{\"type\":\"integer\"},\"output\":{},\"error\":{}}}"
#define RUN                                                                                        \
    "{\"type\":\"object\",\"required\":[\"id\",\"agent\",\"status\",\"partition\",\"offset\","     \
    "\"lastOffset\",\"tasks\",\"tasksTotal\",\"next\"],\"properties\":{\"id\":{\"type\":"          \
    "\"string\"},\"agent\":{\"type\":\"string\"},\"version\":{\"type\":\"string\"},\"status\":{"   \
    "\"type\":\"string\"},\"key\":{\"type\":[\"string\",\"null\"]},\"feed\":{\"type\":["           \
    "\"string\",\"null\"]},\"partition\":{\"type\":\"integer\"},\"offset\":{\"type\":"             \
    "\"integer\"},\"lastOffset\":{\"type\":\"integer\"},\"requestedAt\":{\"type\":\"string\"},"    \
    "\"startedAt\":{\"type\":[\"string\",\"null\"]},\"endedAt\":{\"type\":[\"string\","            \
    "\"null\"]},\"source\":{\"type\":\"string\"},\"forkOf\":{\"type\":\"object\"},\"input\":{},"   \
    "\"output\":{},\"error\":{},\"tasks\":{\"type\":\"array\",\"items\":" TASK                     \
    "},\"tasksTotal\":{\"type\":\"integer\"},\"next\":{\"type\":[\"string\",\"null\"]}}}"
#define HISTORY                                                                                    \
    "{\"type\":\"object\",\"required\":[\"records\",\"next\"],\"properties\":{\"records\":{"       \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"offset\",\"time\","         \
    "\"type\",\"void\"],\"properties\":{\"offset\":{\"type\":\"integer\"},\"time\":{\"type\":["    \
    "\"string\",\"null\"]},\"type\":{\"type\":\"string\"},\"task\":{\"type\":[\"string\","         \
    "\"null\"]},\"epoch\":{\"type\":[\"integer\",\"null\"]},\"void\":{\"type\":\"boolean\"},"      \
    "\"status\":{\"type\":\"string\"},\"value\":{}}}},\"next\":{\"type\":[\"string\","             \
    "\"null\"]}}}"

static const struct answer run_answers[] = {{200,
                                             "the run, its tasks in the order in which they began",
                                             RUN},
                                            {304, "nothing has happened since the ETag"},
                                            {0}};
static const struct answer output_answers[] = {
    {200, "the run has completed: its output", "{}"},
    {202, "it has not ended yet",
     "{\"type\":\"object\",\"required\":[\"id\",\"status\"],\"properties\":{\"id\":{\"type\":"
     "\"string\"},\"status\":{\"type\":\"string\"}}}"},
    {304, "it is that of the ETag"},
    {0}};
#define OWNER "\"epoch\":{\"type\":\"integer\"},\"nonce\":{\"type\":\"string\"}"
#define PLACE                                                                                      \
    "{\"type\":\"object\",\"required\":[\"id\",\"partition\",\"spans\",\"next\"],\"properties\":{" \
    "\"id\":{\"type\":\"string\"},\"partition\":{\"type\":\"integer\"},\"spans\":{\"type\":"       \
    "\"array\","                                                                                   \
    "\"items\":{\"type\":\"object\",\"required\":[\"from\",\"to\",\"epoch\",\"nonce\"],"           \
    "\"properties\":{\"from\":{\"type\":\"integer\"},\"to\":{\"type\":\"integer\"}," OWNER         \
    "}}},\"next\":{\"type\":\"object\",\"required\":[\"from\",\"epoch\",\"nonce\"],"               \
    "\"properties\":{"                                                                             \
    "\"from\":{\"type\":\"integer\"}," OWNER "}}}}"
static const struct answer place_answers[] = {
    {200,
     "ranges of offsets with all its records below `next`, and whose the partition was at the "
     "begin of each: what one node asks another",
     PLACE},
    {501, "this node keeps no read model", "{\"$ref\":\"#/components/schemas/Problem\"}"},
    {0}};
static const struct answer history_answers[] = {
    {200, "the records in the order of the journal; void ones are of former owners", HISTORY},
    {304, "nothing has happened since the ETag"},
    {0}};

const struct route routes_runs[] = {
    {.method = "GET",
     .path = "/v1/runs/{id}",
     .scope = SCOPE_READ,
     .fn = get_run,
     .id = "getRun",
     .tag = "runs",
     .summary = "One run with its tasks",
     .params = run_params,
     .answers = run_answers},
    {.method = "GET",
     .path = "/v1/runs/{id}/output",
     .scope = SCOPE_READ,
     .fn = get_output,
     .id = "getRunOutput",
     .tag = "runs",
     .summary = "The output of a run that has completed",
     .params = output_params,
     .answers = output_answers},
    {.method = "GET",
     .path = "/v1/runs/{id}/history",
     .scope = SCOPE_READ,
     .fn = get_history,
     .id = "getRunHistory",
     .tag = "runs",
     .summary = "The records of the journal about a run",
     .params = history_params,
     .answers = history_answers},
    {.method = "GET",
     .path = "/v1/runs/{id}/place",
     .scope = SCOPE_READ,
     .fn = get_place,
     .id = "getRunPlace",
     .tag = "runs",
     .summary = "Where the run begins in the journal, by this node's read model alone",
     .answers = place_answers},
    {.method = NULL},
};
