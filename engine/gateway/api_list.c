/* Lists and counts of runs: the parameters; gather.c answers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "core/state.h"
#include "gateway/gather.h"

#define RUNS        50          /* of one answer, if `limit` says nothing */
#define QUERY_BYTES (64 * 1024) /* of the URL for other nodes; more than a request's head has */

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

static bool read_texts(struct call *c, struct gather *x)
{
    static const char *const names[] = {"agent", "key", "feed", "version", "text", "cursor"};
    const char **const to[] = {&x->q.agent,   &x->q.key,  &x->q.feed,
                               &x->q.version, &x->q.text, &x->q.cursor};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = http_query(c->r, names[i]);
        if (v && !(x->texts[i] = strdup(v))) {
            api_later(c, 503, "try again", "no memory for the request");
            return false;
        }
        *to[i] = x->texts[i];
    }
    return true;
}

/* Which partitions are asked for: all, or those of the parameter. */
static bool read_partitions(struct call *c, struct gather *x)
{
    const char *v = http_query(c->r, "partitions");
    int n = c->g->n ? node_partitions(c->g->n) : 0;
    if ((v || strcmp(c->g->config->view, "all") != 0) && !api_need_node(c))
        return false;
    if (intset_init(&x->want, n)) {
        api_later(c, 503, "try again", "no memory for the request");
        return false;
    }
    x->own = v != NULL;
    if (!v)
        intset_fill(&x->want);
    else if (intset_read(&x->want, sl_str(v)) < 0) {
        http_problem(c->r, 400, NULL, "as in 0-3,7",
                     "the parameter partitions is no set of "
                     "numbers below %d",
                     n);
        return false;
    }
    return true;
}

/* What another node is asked: the same, but for `partitions`. */
static bool copy_query(struct call *c, struct gather *x, const struct param *params)
{
    buf_init(&x->query, QUERY_BYTES);
    for (const struct param *p = params; p->name; p++) {
        const char *v = http_query(c->r, p->name);
        if (!v || !strcmp(p->name, "partitions"))
            continue;
        buf_addf(&x->query, "%s=", p->name);
        buf_add_uri(&x->query, v, "");
        buf_addc(&x->query, '&');
    }
    if (buf_error(&x->query) == 0)
        return true;
    api_later(c, 503, "try again", "no memory for the request");
    return false;
}

static struct gather *gather_of(struct call *c, bool counts)
{
    struct gather *x = calloc(1, sizeof *x);
    if (!x) {
        api_later(c, 503, "try again", "no memory for the request");
        return NULL;
    }
    x->view = c->g->o.view;
    x->counts = counts;
    return x;
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
#define MISSING "{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}"
#define RUNS_SCHEMA                                                                                \
    "{\"type\":\"object\",\"required\":[\"runs\",\"next\",\"complete\",\"missing\"],"              \
    "\"properties\":{"                                                                             \
    "\"runs\":{\"type\":\"array\",\"items\":" RUN "},\"next\":" MAYBE_TEXT                         \
    ",\"complete\":{\"type\":\"boolean\"},\"missing\":" MISSING "}}"
#define BY_STATUS                                                                                  \
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\",\"minimum\":0}}"
#define COUNTS_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"statuses\",\"agents\",\"complete\",\"missing\"],"        \
    "\"properties\":{"                                                                             \
    "\"statuses\":" BY_STATUS                                                                      \
    ",\"agents\":{\"type\":\"object\",\"additionalProperties\":" BY_STATUS                         \
    "},\"complete\":{\"type\":\"boolean\"},\"missing\":" MISSING "}}"

#define PARTITIONS                                                                                 \
    "only what this node itself keeps of these partitions, as in 0-3,7: what one node asks "       \
    "another"
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
    {"partitions", "query", TEXT, PARTITIONS},
    {NULL}};
static const struct param count_params[] = {{"agent", "query", TEXT,
                                             "only of this agent, NAMESPACE/NAME"},
                                            {"partitions", "query", TEXT, PARTITIONS},
                                            {NULL}};
static const struct answer list_answers[] = {
    {200, "the newest first; complete: false while read models catch up, or partitions are missing",
     RUNS_SCHEMA},
    {501, "no node that can be asked keeps a read model",
     "{\"$ref\":\"#/components/schemas/Problem\"}"},
    {0}};
static const struct answer count_answers[] = {{200, "how many runs have which status",
                                               COUNTS_SCHEMA},
                                              {501, "no node that can be asked keeps a read model",
                                               "{\"$ref\":\"#/components/schemas/Problem\"}"},
                                              {0}};

static bool read_cursor(struct call *c, const struct gather *x)
{
    struct err e = {0};
    if (view_cursor_check(x->q.cursor, &e) == 0)
        return true;
    http_problem(c->r, 400, NULL, e.hint, "%s", e.msg);
    return false;
}

static void list_runs(struct call *c)
{
    struct gather *x = gather_of(c, false);
    if (!x)
        return;
    if (api_query_int(c, "limit", 1, VIEW_LIMIT_MAX, RUNS, &x->q.limit) &&
        read_statuses(c, &x->q.statuses) && read_time(c, "from", &x->q.from_ms) &&
        read_time(c, "to", &x->q.to_ms) && read_texts(c, x) && read_cursor(c, x) &&
        read_partitions(c, x) && copy_query(c, x, list_params))
        gather_start(c, x);
    else
        gather_drop(x);
}

static void count_runs(struct call *c)
{
    struct gather *x = gather_of(c, true);
    if (!x)
        return;
    if (read_texts(c, x) && read_partitions(c, x) && copy_query(c, x, count_params))
        gather_start(c, x);
    else
        gather_drop(x);
}

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
