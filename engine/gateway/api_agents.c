/* Agents: the table that every node follows, and changes of it.
 *
 *   PUT, DELETE: checked and written to the log (a job) -> read by this node -> answered
 *
 * So what is asked here after the answer is routed by the new definition; other nodes read it when
 * they do. A crash before the answer: the change is in the log or not, and a repeat of the request
 * says "unchanged" or makes it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/job.h"

#define LOOK_EVERY_MS 10
#define LOOK_MS       10000 /* for this node to read what was written; then 503 */

/* ---- looking ---- */

static struct json_object *agent_json(const struct agent *a)
{
    struct json_object *o = json_object_new_object();
    js_put_new(o, "agent", json_object_new_string(a->id));
    json_object_object_foreach(a->record, key, v)
    {
        js_put(o, key, json_object_get(v));
    }
    return o;
}

static void list_agents(struct call *c)
{
    const struct agent *a;
    size_t pos = 0;
    if (!api_need_node(c))
        return;
    struct json_object *o = json_object_new_object(), *v = json_object_new_array();
    while (defs_next(node_defs(c->g->n), &pos, &a))
        js_push_new(v, agent_json(a));
    agents_sort(v);
    js_put_new(o, "agents", v);
    http_answer_json(c->r, 200, NULL, o);
}

static void id_of(struct call *c, char id[2 * FLOW_NAME_MAX + 2])
{
    (void)snprintf(id, 2 * FLOW_NAME_MAX + 2, "%.*s/%.*s", FLOW_NAME_MAX, c->args[0], FLOW_NAME_MAX,
                   c->args[1]);
}

/* The definition as it was stored: the bytes that its hash is of. */
static void answer_text(struct call *c, const char *hash, struct flow *f)
{
    char etag[FLOW_HASH_MAX + 2];
    const char *known = http_header(c->r, "If-None-Match");
    (void)snprintf(etag, sizeof etag, "\"%.*s\"", FLOW_HASH_MAX - 1, hash);
    const struct http_field fields[] = {{"ETag", etag},
                                        {"Content-Type", "application/json"},
                                        {NULL, NULL}};
    bool same = known && (!strcmp(known, "*") || strstr(known, etag));
    http_answer(c->r, same ? 304 : 200, fields,
                same ? (struct slice){NULL, 0} : flow_info(f)->text);
}

static void get_agent(struct call *c)
{
    const char *version = http_query(c->r, "version"), *format = http_query(c->r, "format");
    char id[2 * FLOW_NAME_MAX + 2];
    struct json_object *definition = NULL;
    if (!api_need_node(c))
        return;
    id_of(c, id);
    const struct agent *a = defs_agent(node_defs(c->g->n), id);
    const char *hash = !a        ? NULL
                       : version ? js_str(js_get(a->record, "versions"), version)
                                 : a->hash;
    struct flow *f = hash ? defs_flow(node_defs(c->g->n), hash) : NULL;
    bool text = format && !strcmp(format, "text");
    if (format && !text && strcmp(format, "json"))
        http_problem(c->r, 400, NULL, "json or text", "the parameter format is unknown");
    else if (!a)
        http_problem(c->r, 404, NULL, "GET /v1/agents lists the agents", "there is no agent %s",
                     id);
    else if (!hash)
        http_problem(c->r, 404, NULL, "GET /v1/agents lists the versions", "%s has no version %s",
                     id, version);
    else if (!f || js_parse(flow_info(f)->text, &definition, NULL))
        api_later(c, 503, "try again", "the definition of %s is not read yet", id);
    else if (text)
        answer_text(c, hash, f);
    else {
        struct json_object *o = agent_json(a);
        js_put_new(o, "version", json_object_new_string(flow_info(f)->version));
        js_put_new(o, "hash", json_object_new_string(hash));
        js_put(o, "definition", json_object_get(definition));
        http_answer_json(c->r, 200, NULL, o);
    }
    json_object_put(definition);
}

/* ---- changing ---- */

struct change {
    struct api_job job;
    char id[2 * FLOW_NAME_MAX + 2];
    struct slice body; /* of the request, which stays until its answer */
    bool force, dry_run;
    struct agents_change made;
    struct loop_timer timer;
    int64_t until_ms;
};

/* What was found, each with its place; NULL when there is nothing. */
static struct json_object *places(const struct diags *d, bool warnings)
{
    struct json_object *v = json_object_new_array();
    for (size_t i = 0; i < d->n; i++) {
        const struct diag *x = &d->v[i];
        struct json_object *o;
        if (x->warning != warnings)
            continue;
        o = json_object_new_object();
        js_put_new(o, "detail", json_object_new_string(x->msg));
        js_put_new(o, "line", json_object_new_int(x->line));
        js_put_new(o, "column", json_object_new_int(x->col));
        if (x->hint)
            js_put_new(o, "hint", json_object_new_string(x->hint));
        js_push_new(v, o);
    }
    if (json_object_array_length(v))
        return v;
    json_object_put(v);
    return NULL;
}

static void refuse(struct api_job *j, const struct diags *d)
{
    j->status = 400;
    j->o =
        api_problem(400, "each of `errors` names a place of the body", "the definition has %zu %s",
                    d->errors, d->errors == 1 ? "problem" : "problems");
    js_put(j->o, "errors", places(d, false));
}

static const char *change_name(int what)
{
    static const char *const names[] = {"unchanged", "created", "updated", "activated",
                                        "deactivated"};
    return names[what];
}

static void answer_change(struct change *x, struct json_object *warnings)
{
    struct api_job *j = &x->job;
    const struct agents_change *m = &x->made;
    j->status = m->what == AGENT_CREATED && !x->dry_run ? 201 : 200;
    (void)snprintf(j->location, sizeof j->location, "/v1/agents/%s", m->id);
    j->o = json_object_new_object();
    js_put_new(j->o, "agent", json_object_new_string(m->id));
    js_put_new(j->o, "version", json_object_new_string(m->version));
    js_put_new(j->o, "hash", json_object_new_string(m->hash));
    js_put_new(j->o, "change", json_object_new_string(change_name(m->what)));
    js_put_new(j->o, "written", json_object_new_boolean(!x->dry_run && m->what != AGENT_UNCHANGED));
    if (warnings)
        js_put(j->o, "warnings", warnings);
}

static bool named_as_asked(struct change *x, const struct flow *f)
{
    const struct flow_info *fi = flow_info(f);
    char id[2 * FLOW_NAME_MAX + 2];
    (void)snprintf(id, sizeof id, "%s/%s", fi->ns, fi->name);
    if (!strcmp(id, x->id))
        return true;
    x->job.status = 400;
    x->job.o = api_problem(400, "put it to the path of its document.namespace and document.name",
                           "the path names %s, the definition %s", x->id, id);
    return false;
}

static void do_put(struct api_job *j, struct kadmin *a)
{
    struct change *x = LIST_ENTRY(j, struct change, job);
    struct flow *f = NULL;
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(x->body, "body", &d);
    int error = y ? flow_parse(y, true, &f, &d) : -EINVAL;
    diags_sort(&d);
    if (error) {
        refuse(j, &d);
    } else if (named_as_asked(x, f)) {
        error = agents_apply(a, &j->read.g->names, f, x->force, x->dry_run, &x->made, &j->read.e);
        if (!error)
            answer_change(x, places(&d, true));
        else if (error == -EEXIST)
            (void)snprintf(j->read.e.hint, sizeof j->read.e.hint,
                           "raise document.version, or replace it with ?force=true");
    }
    flow_unref(f);
    ydoc_free(y);
    diags_free(&d);
}

static void do_delete(struct api_job *j, struct kadmin *a)
{
    struct change *x = LIST_ENTRY(j, struct change, job);
    if (!agents_deactivate(a, &j->read.g->names, x->id, &x->made, &j->read.e))
        answer_change(x, NULL);
}

/* Whether this node has read it, so that what is asked next is answered by it. */
static bool is_read(struct change *x)
{
    struct gateway *g = x->job.read.g;
    bool deleted = !x->body.p;
    return g->n && node_agent_is(g->n, x->made.id, x->made.hash, !deleted);
}

static void on_timer(struct loop_timer *t)
{
    struct change *x = LIST_ENTRY(t, struct change, timer);
    struct gateway *g = x->job.read.g;
    struct call *c = x->job.read.c;
    if (!is_read(x) && loop_now(g->loop) < x->until_ms) {
        (void)loop_timer_set(g->loop, t, loop_now(g->loop) + LOOK_EVERY_MS);
        return;
    }
    c->cancel = NULL;
    if (!is_read(x))
        err_set(&x->job.read.e, -EBUSY, "it is in the log; GET /v1/agents shows when it is read",
                "this node has not read the change yet");
    api_job_answer(&x->job);
}

static void on_cancel(struct call *c)
{
    struct change *x = c->data;
    loop_timer_unset(&x->timer);
    api_job_drop(&x->job);
}

static bool ready(struct api_job *j)
{
    struct change *x = LIST_ENTRY(j, struct change, job);
    struct gateway *g = j->read.g;
    if (j->status >= 400 || x->dry_run || is_read(x))
        return true;
    x->timer.fn = on_timer;
    x->until_ms = loop_now(g->loop) + LOOK_MS;
    if (loop_timer_set(g->loop, &x->timer, loop_now(g->loop) + LOOK_EVERY_MS))
        return true;
    j->read.c->data = x;
    j->read.c->cancel = on_cancel;
    return false;
}

static void change(struct call *c, struct slice body, bool force, bool dry_run,
                   void (*fn)(struct api_job *j, struct kadmin *a))
{
    struct change *x = NULL;
    if (!api_need_node(c))
        return;
    if (!(x = calloc(1, sizeof *x))) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    id_of(c, x->id);
    x->body = body;
    x->force = force;
    x->dry_run = dry_run;
    x->job.ready = ready;
    api_job_start(c, &x->job, fn);
}

/* YAML or JSON, which YAML contains. */
static bool is_definition(const char *type)
{
    static const char *const known[] = {"application/yaml",
                                        "application/x-yaml",
                                        "text/yaml",
                                        "text/x-yaml",
                                        "application/json",
                                        "text/plain",
                                        "application/x-www-form-urlencoded"};
    struct slice s = type ? sl_trim(sl(type, strcspn(type, ";"))) : SL("application/yaml");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (s.n == strlen(known[i]) && !strncasecmp(s.p, known[i], s.n))
            return true;
    return (s.n > 5 && !strncasecmp(s.p + s.n - 5, "+json", 5)) ||
           (s.n > 5 && !strncasecmp(s.p + s.n - 5, "+yaml", 5));
}

static void put_agent(struct call *c)
{
    const char *type = http_header(c->r, "Content-Type");
    bool force, dry_run;
    if (!api_query_bool(c, "force", &force) || !api_query_bool(c, "dryRun", &dry_run))
        return;
    if (!is_definition(type))
        http_problem(c->r, 415, NULL, "Content-Type: application/yaml or application/json",
                     "the body is %.100s", type);
    else if (!http_body(c->r).n)
        http_problem(c->r, 400, NULL, "the body is a definition, in YAML or JSON",
                     "the body is empty");
    else
        change(c, http_body(c->r), force, dry_run, do_put);
}

static void delete_agent(struct call *c)
{
    if (http_query(c->r, "dryRun")) /* better than to do what was not to be done */
        http_problem(c->r, 400, NULL, "GET /v1/agents tells whether it is active",
                     "deactivating has no dryRun");
    else
        change(c, (struct slice){NULL, 0}, false, false, do_delete);
}

/* ---- the routes ---- */

#define AGENT_MEMBERS                                                                              \
    "\"agent\":{\"type\":\"string\"},\"version\":{\"type\":\"string\"},\"hash\":{\"type\":"        \
    "\"string\"},\"active\":{\"type\":\"boolean\"},\"title\":{\"type\":[\"string\",\"null\"]},"    \
    "\"versions\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}"
#define AGENT_REQUIRED "\"required\":[\"agent\",\"version\",\"hash\",\"active\",\"versions\"]"
#define AGENTS                                                                                     \
    "{\"type\":\"object\",\"required\":[\"agents\"],\"properties\":{\"agents\":{\"type\":"         \
    "\"array\",\"items\":{\"type\":\"object\"," AGENT_REQUIRED ",\"properties\":{" AGENT_MEMBERS   \
    "}}}}}"
#define AGENT                                                                                      \
    "{\"type\":\"object\"," AGENT_REQUIRED ",\"properties\":{" AGENT_MEMBERS                       \
    ",\"definition\":{\"type\":\"object\"}}}"
#define CHANGE                                                                                     \
    "{\"type\":\"object\",\"required\":[\"agent\",\"version\",\"hash\",\"change\",\"written\"],"   \
    "\"properties\":{\"agent\":{\"type\":\"string\"},\"version\":{\"type\":\"string\"},\"hash\":{" \
    "\"type\":\"string\"},\"change\":{\"enum\":[\"unchanged\",\"created\",\"updated\","            \
    "\"activated\",\"deactivated\"]},\"written\":{\"type\":\"boolean\"},\"warnings\":{\"type\":"   \
    "\"array\"}}}"
#define FLAG "{\"type\":\"boolean\"}"

static const struct param get_params[] = {
    {"version", "query", "{\"type\":\"string\"}", "a version of the agent; default the active one"},
    {"format", "query", "{\"enum\":[\"json\",\"text\"]}",
     "text: the definition alone, byte by byte what its hash is of"},
    {"If-None-Match", "header", "{\"type\":\"string\"}", "the ETag of an earlier text"},
    {NULL}};
static const struct param put_params[] = {{"force", "query", FLAG,
                                           "replace the same version with another content"},
                                          {"dryRun", "query", FLAG,
                                           "check only, and say what would change"},
                                          {NULL}};
static const struct answer list_answers[] = {{200, "every agent, inactive ones too", AGENTS}, {0}};
static const struct answer get_answers[] = {{200, "the agent with its definition", AGENT},
                                            {304, "the text is that of the ETag"},
                                            {0}};
static const struct answer put_answers[] = {{200, "it was there: updated, activated, or unchanged",
                                             CHANGE},
                                            {201, "it is new", CHANGE},
                                            {0}};
static const struct answer delete_answers[] = {
    {200, "no event wakes it any more; runs under way go on, and PUT activates it again", CHANGE},
    {0}};

const struct route routes_agents[] = {
    {.method = "GET",
     .path = "/v1/agents",
     .scope = SCOPE_READ,
     .fn = list_agents,
     .id = "listAgents",
     .tag = "agents",
     .summary = "The agents with their versions",
     .answers = list_answers},
    {.method = "GET",
     .path = "/v1/agents/{namespace}/{name}",
     .scope = SCOPE_READ,
     .fn = get_agent,
     .id = "getAgent",
     .tag = "agents",
     .summary = "One agent with its definition",
     .params = get_params,
     .answers = get_answers},
    {.method = "PUT",
     .path = "/v1/agents/{namespace}/{name}",
     .scope = SCOPE_ADMIN,
     .fn = put_agent,
     .id = "putAgent",
     .tag = "agents",
     .summary = "Check a definition and make it the agent's active version",
     .params = put_params,
     .body = "{\"type\":\"object\"}",
     .body_type = "application/yaml",
     .answers = put_answers},
    {.method = "DELETE",
     .path = "/v1/agents/{namespace}/{name}",
     .scope = SCOPE_ADMIN,
     .fn = delete_agent,
     .id = "deactivateAgent",
     .tag = "agents",
     .summary = "Deactivate an agent; its definitions are kept",
     .answers = delete_answers},
    {.method = NULL},
};
