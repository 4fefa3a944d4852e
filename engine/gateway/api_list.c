/* Lists and counts of runs, by the read model, in jobs off the loop's thread. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "core/state.h"
#include "gateway/job.h"
#include "view/view.h"

#define RUNS 50 /* of one answer, if `limit` says nothing */

struct list_job {
    struct api_job job;
    struct view *view;
    struct view_query q; /* its texts are in `texts` */
    char *texts[6];
};

static void list_release(struct api_job *j)
{
    struct list_job *l = LIST_ENTRY(j, struct list_job, job);
    for (size_t i = 0; i < sizeof l->texts / sizeof *l->texts; i++)
        free(l->texts[i]);
}

static void put_complete(struct list_job *l)
{
    struct view_progress p;
    view_progress(l->view, &p);
    js_put_new(l->job.o, "complete", json_object_new_boolean(p.complete));
}

static void do_list(struct api_job *j, struct kadmin *a)
{
    struct list_job *l = LIST_ENTRY(j, struct list_job, job);
    if (view_list(l->view, &l->q, &j->o, &j->read.e))
        return;
    j->status = 200;
    put_complete(l);
}

static void do_counts(struct api_job *j, struct kadmin *a)
{
    struct list_job *l = LIST_ENTRY(j, struct list_job, job);
    if (view_counts(l->view, &l->q, &j->o, &j->read.e))
        return;
    j->status = 200;
    put_complete(l);
}

static struct list_job *list_new(struct call *c)
{
    struct list_job *l = c->g->o.view ? calloc(1, sizeof *l) : NULL;
    if (l) {
        l->view = c->g->o.view;
        l->job.release = list_release;
        return l;
    }
    if (c->g->o.view)
        api_later(c, 503, "try again", "no memory for the request");
    else
        http_problem(c->r, 501, NULL, "ask a node with `view: all`",
                     "this node keeps no read model (view: none), and so lists no runs");
    return NULL;
}

/* "completed,faulted". */
static bool read_statuses(struct call *c, unsigned *ret)
{
    struct slice rest = sl_str(http_query(c->r, "status")), one;
    while (rest.p && sl_split(&rest, ',', &one)) {
        int s = RUN_CANCELLED;
        while (s >= 0 && !sl_is(one, run_status_name((enum run_status)s)))
            s--;
        if (s < 0) {
            http_problem(c->r, 400, NULL,
                         "pending, running, suspended, completed, faulted or cancelled",
                         "the parameter status has no status %.*s", one.n > 40 ? 40 : (int)one.n,
                         one.p);
            return false;
        }
        *ret |= 1u << s;
    }
    return true;
}

static bool read_time(struct call *c, const char *name, int64_t *ret)
{
    const char *v = http_query(c->r, name);
    if (!v || time_read(sl_str(v), ret) == 0)
        return true;
    http_problem(c->r, 400, NULL, "as in 2026-11-25T18:00:00Z", "the parameter %s is no time",
                 name);
    return false;
}

static bool read_texts(struct call *c, struct list_job *l)
{
    static const char *const names[] = {"agent", "key", "feed", "version", "text", "cursor"};
    const char **const to[] = {&l->q.agent,   &l->q.key,  &l->q.feed,
                               &l->q.version, &l->q.text, &l->q.cursor};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = http_query(c->r, names[i]);
        if (v && !(l->texts[i] = strdup(v))) {
            api_later(c, 503, "try again", "no memory for the request");
            return false;
        }
        *to[i] = l->texts[i];
    }
    return true;
}

static void list_runs(struct call *c)
{
    struct list_job *l = list_new(c);
    if (!l)
        return;
    if (!api_query_int(c, "limit", 1, VIEW_LIMIT_MAX, RUNS, &l->q.limit) ||
        !read_statuses(c, &l->q.statuses) || !read_time(c, "from", &l->q.from_ms) ||
        !read_time(c, "to", &l->q.to_ms) || !read_texts(c, l)) {
        api_job_drop(&l->job);
        return;
    }
    api_job_start(c, &l->job, do_list);
}

static void count_runs(struct call *c)
{
    struct list_job *l = list_new(c);
    if (!l)
        return;
    if (read_texts(c, l))
        api_job_start(c, &l->job, do_counts);
    else
        api_job_drop(&l->job);
}

#define TEXT       "{\"type\":\"string\"}"
#define MAYBE_TEXT "{\"type\":[\"string\",\"null\"]}"
#define RUN                                                                                        \
    "{\"type\":\"object\",\"required\":[\"id\",\"agent\",\"status\",\"partition\",\"offset\","     \
    "\"requestedAt\"],\"properties\":{\"id\":" TEXT ",\"agent\":" TEXT ",\"version\":" MAYBE_TEXT  \
    ",\"status\":" TEXT ",\"key\":" MAYBE_TEXT ",\"feed\":" MAYBE_TEXT                             \
    ",\"partition\":{\"type\":\"integer\"},\"offset\":{\"type\":\"integer\"},\"lastOffset\":{"     \
    "\"type\":\"integer\"},\"requestedAt\":" MAYBE_TEXT ",\"startedAt\":" MAYBE_TEXT               \
    ",\"endedAt\":" MAYBE_TEXT ",\"error\":{},\"forkOf\":" TEXT "}}"
#define RUNS_SCHEMA                                                                                \
    "{\"type\":\"object\",\"required\":[\"runs\",\"next\",\"complete\"],\"properties\":{"          \
    "\"runs\":{\"type\":\"array\",\"items\":" RUN "},\"next\":" MAYBE_TEXT                         \
    ",\"complete\":{\"type\":\"boolean\"}}}"
#define BY_STATUS                                                                                  \
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\",\"minimum\":0}}"
#define COUNTS_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"statuses\",\"agents\",\"complete\"],\"properties\":{"    \
    "\"statuses\":" BY_STATUS                                                                      \
    ",\"agents\":{\"type\":\"object\",\"additionalProperties\":" BY_STATUS                         \
    "},\"complete\":{\"type\":\"boolean\"}}}"

static const struct param list_params[] = {
    {"agent", "query", TEXT, "only of this agent, NAMESPACE/NAME"},
    {"status", "query", TEXT, "only with this status, or one of several (comma)"},
    {"key", "query", TEXT, "only with this key"},
    {"feed", "query", TEXT, "only of this feed: live, api, replay:NAME, ..."},
    {"version", "query", TEXT, "only of this version of the agent"},
    {"from", "query", "{\"type\":\"string\",\"format\":\"date-time\"}",
     "requested at this time or later"},
    {"to", "query", "{\"type\":\"string\",\"format\":\"date-time\"}", "requested before this time"},
    {"text", "query", TEXT,
     "words, or their begins, in key, input or error (first 512 bytes each)"},
    {"limit", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":500}",
     "runs of one answer; default 50"},
    {"cursor", "query", TEXT,
     "`next` of an earlier answer: goes on there, whatever came meanwhile"},
    {NULL}};
static const struct param count_params[] = {{"agent", "query", TEXT,
                                             "only of this agent, NAMESPACE/NAME"},
                                            {NULL}};
static const struct answer list_answers[] = {
    {200, "the newest first; complete: false while the read model still catches up", RUNS_SCHEMA},
    {501, "this node keeps no read model", "{\"$ref\":\"#/components/schemas/Problem\"}"},
    {0}};
static const struct answer count_answers[] = {{200, "how many runs have which status",
                                               COUNTS_SCHEMA},
                                              {501, "this node keeps no read model",
                                               "{\"$ref\":\"#/components/schemas/Problem\"}"},
                                              {0}};

const struct route routes_list[] = {
    {.method = "GET",
     .path = "/v1/runs",
     .scope = SCOPE_READ,
     .fn = list_runs,
     .id = "listRuns",
     .tag = "runs",
     .summary = "The runs, newest first",
     .params = list_params,
     .answers = list_answers},
    {.method = "GET",
     .path = "/v1/counts",
     .scope = SCOPE_READ,
     .fn = count_runs,
     .id = "countRuns",
     .tag = "runs",
     .summary = "How many runs there are, by status and agent",
     .params = count_params,
     .answers = count_answers},
    {.method = NULL},
};
