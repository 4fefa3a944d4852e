/* The group: its nodes, topics, marks and replays. What blocks is a job. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/job.h"
#include "triggers/feeds.h"
#include "triggers/journal.h"
#include "triggers/lag.h"

struct ask {
    struct api_job job;
    struct json_object *body; /* NULL: none */
    const char *name;         /* of the path, which stays until the answer */
    bool dry_run;
};

static void ask_release(struct api_job *j)
{
    json_object_put(LIST_ENTRY(j, struct ask, job)->body);
}

/* Takes over the body. */
static void start(struct call *c, struct json_object *body, bool dry_run,
                  void (*fn)(struct api_job *j, struct kadmin *a))
{
    struct ask *x = calloc(1, sizeof *x);
    if (!x) {
        json_object_put(body);
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    x->body = body;
    x->name = c->args[0];
    x->dry_run = dry_run;
    x->job.release = ask_release;
    api_job_start(c, &x->job, fn);
}

/* A text of the body; NULL: absent. False: the job's error is set. */
static bool text_of(struct ask *x, const char *name, const char **ret)
{
    struct json_object *v = js_get(x->body, name);
    *ret = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
    if (!v || (*ret && **ret))
        return true;
    err_set(&x->job.read.e, -EINVAL, "see /openapi.json", "%s is no text", name);
    return false;
}

/* ---- the group ---- */

static int add_lags(struct api_job *j, struct kadmin *a, struct json_object *journal,
                    struct json_object *topics)
{
    const struct names *n = &j->read.g->names;
    const struct config *c = j->read.g->config;
    int error = lag_add(a, n->owners, n->runs, journal, &j->read.e);
    for (size_t i = 0; i < c->ntopics && !error; i++) {
        error = lag_add(a, n->router, c->topics[i].name, topics, &j->read.e);
        if (error == -ENOENT) { /* declared, and not made yet */
            err_clear(&j->read.e);
            error = 0;
        }
    }
    return error;
}

static void do_group(struct api_job *j, struct kadmin *a)
{
    const struct gateway *g = j->read.g;
    struct json_object *members = NULL, *journal = json_object_new_array(),
                       *topics = json_object_new_array();
    char *state = NULL;
    int error = lag_members(a, &g->names, &state, &members, &j->read.e);
    if (!error)
        error = add_lags(j, a, journal, topics);
    j->status = 200;
    j->o = json_object_new_object();
    js_put_new(j->o, "group", json_object_new_string(g->config->group));
    js_put(j->o, "state", state ? json_object_new_string(state) : NULL);
    js_put(j->o, "members", members);
    js_put(j->o, "journal", journal);
    js_put(j->o, "topics", topics);
    free(state);
}

static void get_group(struct call *c)
{
    start(c, NULL, false, do_group);
}

/* ---- topics ---- */

static struct json_object *topic_json(const struct config_topic *t, const struct ktopic_info *v,
                                      size_t n)
{
    struct json_object *o = json_object_new_object(), *types = json_object_new_array();
    const struct ktopic_info *found = NULL;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(v[i].name, t->name))
            found = &v[i];
    for (size_t i = 0; t->types && t->types[i]; i++)
        js_push_new(types, json_object_new_string(t->types[i]));
    js_put_new(o, "topic", json_object_new_string(t->name));
    js_put_new(o, "exists", json_object_new_boolean(found != NULL));
    js_put(o, "partitions", found ? json_object_new_int(found->partitions) : NULL);
    js_put(o, "replication", found ? json_object_new_int(found->replication) : NULL);
    js_put_new(o, "types", types);
    js_put_new(o, "schema", json_object_new_boolean(t->schema.doc != NULL));
    return o;
}

static void do_topics(struct api_job *j, struct kadmin *a)
{
    const struct config *c = j->read.g->config;
    struct ktopic_info *v = NULL;
    size_t n = 0;
    if (kadmin_topics(a, &v, &n, JOURNAL_ADMIN_MS, &j->read.e))
        return;
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < c->ntopics; i++)
        js_push_new(list, topic_json(&c->topics[i], v, n));
    ktopics_free(v, n);
    j->status = 200;
    j->o = json_object_new_object();
    js_put(j->o, "topics", list);
}

static void list_topics(struct call *c)
{
    start(c, NULL, false, do_topics);
}

/* ---- marks ---- */

static void do_marks(struct api_job *j, struct kadmin *a)
{
    struct json_object *list = NULL;
    if (marks_list(a, &j->read.g->names, "mark/", &list, &j->read.e))
        return;
    j->status = 200;
    j->o = json_object_new_object();
    js_put(j->o, "marks", list);
}

static void list_marks(struct call *c)
{
    start(c, NULL, false, do_marks);
}

static void do_get_mark(struct api_job *j, struct kadmin *a)
{
    struct ask *x = LIST_ENTRY(j, struct ask, job);
    j->status = 200;
    (void)marks_get(a, &j->read.g->names, "mark/", x->name, &j->o, &j->read.e);
}

static void get_mark(struct call *c)
{
    start(c, NULL, false, do_get_mark);
}

/* The topics of the body, else those that are declared; the caller frees the array. */
static const char **topics_of(struct ask *x)
{
    struct json_object *list = js_get(x->body, "topics");
    struct err *e = &x->job.read.e;
    const char **v =
        list ? calloc(js_length(list) + 1, sizeof *v) : marks_topics(x->job.read.g->config);
    bool ok = !list || json_object_is_type(list, json_type_array);
    if (!v) {
        err_set(e, -ENOMEM, "try again", "no memory for the request");
        return NULL;
    }
    for (size_t i = 0; list && i < js_length(list); i++) {
        ok = ok && json_object_is_type(js_at(list, i), json_type_string);
        v[i] = json_object_get_string(js_at(list, i));
    }
    if (!ok)
        err_set(e, -EINVAL, "[\"TOPIC\", ...]", "topics is no list of names");
    else if (!v[0])
        err_set(e, -EINVAL, "declare topics in topics/*.yaml, or name them in `topics`",
                "there are no event topics");
    return v;
}

static void do_set_mark(struct api_job *j, struct kadmin *a)
{
    struct ask *x = LIST_ENTRY(j, struct ask, job);
    struct err *e = &j->read.e, none = {0};
    const struct names *n = &j->read.g->names;
    struct json_object *offsets = NULL, *old = NULL;
    const char *at;
    int64_t ms;
    bool ok = text_of(x, "at", &at);
    const char **topics = ok ? topics_of(x) : NULL;
    if (!e->code && at && time_read(sl_str(at), &ms) < 0)
        err_set(e, -EINVAL, "as in 2026-11-25T15:00:00Z", "at is no time");
    if (!e->code)
        (void)(at ? marks_at(a, topics, ms, &offsets, e) : marks_now(a, topics, &offsets, e));
    if (!e->code) {
        j->status = marks_get(a, n, "mark/", x->name, &old, &none) ? 201 : 200;
        (void)marks_set(a, n, x->name, offsets, e);
    }
    json_object_put(old);
    free(topics);
    j->o = json_object_new_object();
    js_put_new(j->o, "name", json_object_new_string(x->name));
    js_put(j->o, "offsets", offsets);
    (void)snprintf(j->location, sizeof j->location, "/v1/marks/%.128s", x->name);
}

static void set_mark(struct call *c)
{
    static const char *const names[] = {"topics", "at", NULL};
    struct json_object *o = NULL;
    if (api_object_body(c, true, names, &o))
        start(c, o, false, do_set_mark);
}

static void do_delete_mark(struct api_job *j, struct kadmin *a)
{
    struct ask *x = LIST_ENTRY(j, struct ask, job);
    if (marks_delete(a, &j->read.g->names, x->name, &j->read.e))
        return;
    j->status = 200;
    j->o = json_object_new_object();
    js_put_new(j->o, "name", json_object_new_string(x->name));
    js_put_new(j->o, "deleted", json_object_new_boolean(true));
}

static void delete_mark(struct call *c)
{
    start(c, NULL, false, do_delete_mark);
}

/* ---- replays ---- */

static void do_replays(struct api_job *j, struct kadmin *a)
{
    struct json_object *list = NULL;
    if (marks_list(a, &j->read.g->names, "replay/", &list, &j->read.e))
        return;
    j->status = 200;
    j->o = json_object_new_object();
    js_put(j->o, "replays", list);
}

static void list_replays(struct call *c)
{
    start(c, NULL, false, do_replays);
}

static void do_start_replay(struct api_job *j, struct kadmin *a)
{
    struct ask *x = LIST_ENTRY(j, struct ask, job);
    const struct gateway *g = j->read.g;
    struct replay_ask q = {.from = js_get(x->body, "from"),
                           .to = js_get(x->body, "to"),
                           .dry_run = x->dry_run};
    struct replay_made m;
    if (!text_of(x, "name", &q.name) || !text_of(x, "agent", &q.agent) ||
        replays_ask(a, &g->names, g->config, &q, &m, &j->read.e)) {
        if (j->read.e.code == -EEXIST)
            (void)snprintf(j->read.e.hint, sizeof j->read.e.hint,
                           "choose another name; a name stands for one range, so that repeating it "
                           "makes no doubles");
        return;
    }
    j->status = x->dry_run || m.existing ? 200 : 201;
    j->o = json_object_new_object();
    js_put_new(j->o, "name", json_object_new_string(m.name));
    js_put(j->o, "from", json_object_get(m.from));
    js_put(j->o, "to", json_object_get(m.to));
    js_put_new(j->o, "events", json_object_new_int64(m.events));
    js_put_new(j->o, "existing", json_object_new_boolean(m.existing));
    js_put_new(j->o, "dryRun", json_object_new_boolean(x->dry_run));
    replay_made_free(&m);
}

static void start_replay(struct call *c)
{
    static const char *const names[] = {"name", "agent", "from", "to", NULL};
    struct json_object *o = NULL;
    bool dry_run;
    if (api_query_bool(c, "dryRun", &dry_run) && api_object_body(c, false, names, &o))
        start(c, o, dry_run, do_start_replay);
}

/* ---- the routes ---- */

#define TEXT   "{\"type\":\"string\"}"
#define NUMBER "{\"type\":\"integer\"}"
#define OFFSETS                                                                                    \
    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"array\",\"items\":{\"type\":["      \
    "\"integer\",\"null\"],\"minimum\":0}}}"
#define LIST_OF(name, item)                                                                        \
    "{\"type\":\"object\",\"required\":[\"" name "\"],\"properties\":{\"" name                     \
    "\":{\"type\":\"array\",\"items\":" item "}}}"
#define LAG                                                                                        \
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"topic\",\"partition\","    \
    "\"lag\"],\"properties\":{\"topic\":" TEXT ",\"partition\":" NUMBER ",\"low\":" NUMBER         \
    ",\"high\":" NUMBER ",\"committed\":{\"type\":[\"integer\",\"null\"]},\"lag\":" NUMBER "}}}"
#define GROUP                                                                                      \
    "{\"type\":\"object\",\"required\":[\"group\",\"state\",\"members\",\"journal\",\"topics\"],"  \
    "\"properties\":{\"group\":" TEXT ",\"state\":{\"type\":[\"string\",\"null\"]},\"members\":{"  \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"member\",\"host\"],"        \
    "\"properties\":{\"member\":" TEXT ",\"host\":" TEXT ",\"topic\":{\"type\":[\"string\","       \
    "\"null\"]},\"partition\":{\"type\":[\"integer\",\"null\"]}}}},\"journal\":" LAG               \
    ",\"topics\":" LAG "}}"
#define TOPIC                                                                                      \
    "{\"type\":\"object\",\"required\":[\"topic\",\"exists\",\"types\",\"schema\"],"               \
    "\"properties\":{\"topic\":" TEXT ",\"exists\":{\"type\":\"boolean\"},\"partitions\":{"        \
    "\"type\":[\"integer\",\"null\"]},\"replication\":{\"type\":[\"integer\",\"null\"]},"          \
    "\"types\":{\"type\":\"array\",\"items\":" TEXT "},\"schema\":{\"type\":\"boolean\"}}}"
#define MARK                                                                                       \
    "{\"type\":\"object\",\"required\":[\"name\",\"offsets\"],\"properties\":{\"name\":" TEXT      \
    ",\"time\":" TEXT ",\"offsets\":" OFFSETS "}}"
#define SET_MARK                                                                                   \
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"topics\":{\"type\":"    \
    "\"array\",\"minItems\":1,\"items\":" TEXT "},\"at\":{\"type\":\"string\",\"format\":"         \
    "\"date-time\"}}}"
#define DELETED                                                                                    \
    "{\"type\":\"object\",\"required\":[\"name\",\"deleted\"],\"properties\":{\"name\":" TEXT      \
    ",\"deleted\":{\"type\":\"boolean\"}}}"
#define REPLAY                                                                                     \
    "{\"type\":\"object\",\"required\":[\"name\",\"from\",\"to\"],\"properties\":{\"name\":" TEXT  \
    ",\"time\":" TEXT ",\"from\":" OFFSETS ",\"to\":" OFFSETS                                      \
    ",\"agent\":{\"type\":[\"string\",\"null\"]},\"done\":{\"type\":\"boolean\"},"                 \
    "\"events\":" NUMBER                                                                           \
    ",\"existing\":{\"type\":\"boolean\"},\"dryRun\":{\"type\":\"boolean\"}}}"
#define PLACE "{\"oneOf\":[" TEXT "," OFFSETS "]}"
#define START_REPLAY                                                                               \
    "{\"type\":\"object\",\"required\":[\"from\"],\"additionalProperties\":false,\"properties\":{" \
    "\"name\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":128},\"agent\":" TEXT             \
    ",\"from\":" PLACE ",\"to\":" PLACE "}}"

static const struct answer group_answers[] = {
    {200,
     "the nodes with their partitions; how far the journal's tide marks and the router's commits "
     "are behind",
     GROUP},
    {0}};
static const struct answer topics_answers[] = {
    {200, "the event topics that the configuration declares", LIST_OF("topics", TOPIC)}, {0}};
static const struct answer marks_answers[] = {{200, "the marks", LIST_OF("marks", MARK)}, {0}};
static const struct answer mark_answers[] = {{200, "the mark", MARK}, {0}};
static const struct answer set_mark_answers[] = {{200, "the mark was moved", MARK},
                                                 {201, "the mark is new", MARK},
                                                 {0}};
static const struct answer delete_mark_answers[] = {{200, "the mark is gone", DELETED}, {0}};
static const struct answer replays_answers[] = {{200, "the replays", LIST_OF("replays", REPLAY)},
                                                {0}};
static const struct answer start_replay_answers[] = {
    {200, "it was started before, or it is only asked for", REPLAY},
    {201, "the nodes begin to feed the events", REPLAY},
    {0}};
static const struct param replay_params[] = {{"dryRun", "query", "{\"type\":\"boolean\"}",
                                              "only say what would be fed"},
                                             {NULL}};

const struct route routes_group[] = {
    {.method = "GET",
     .path = "/v1/group",
     .scope = SCOPE_READ,
     .fn = get_group,
     .id = "getGroup",
     .tag = "group",
     .summary = "The nodes of the group, and how far they are behind",
     .answers = group_answers},
    {.method = "GET",
     .path = "/v1/topics",
     .scope = SCOPE_READ,
     .fn = list_topics,
     .id = "listTopics",
     .tag = "group",
     .summary = "The event topics",
     .answers = topics_answers},
    {.method = "GET",
     .path = "/v1/marks",
     .scope = SCOPE_READ,
     .fn = list_marks,
     .id = "listMarks",
     .tag = "marks",
     .summary = "The marks",
     .answers = marks_answers},
    {.method = "GET",
     .path = "/v1/marks/{name}",
     .scope = SCOPE_READ,
     .fn = get_mark,
     .id = "getMark",
     .tag = "marks",
     .summary = "One mark",
     .answers = mark_answers},
    {.method = "PUT",
     .path = "/v1/marks/{name}",
     .scope = SCOPE_OPERATE,
     .fn = set_mark,
     .id = "setMark",
     .tag = "marks",
     .summary = "Save the offsets of the event topics under a name",
     .body = SET_MARK,
     .body_optional = true,
     .answers = set_mark_answers},
    {.method = "DELETE",
     .path = "/v1/marks/{name}",
     .scope = SCOPE_OPERATE,
     .fn = delete_mark,
     .id = "deleteMark",
     .tag = "marks",
     .summary = "Delete a mark",
     .answers = delete_mark_answers},
    {.method = "GET",
     .path = "/v1/replays",
     .scope = SCOPE_READ,
     .fn = list_replays,
     .id = "listReplays",
     .tag = "marks",
     .summary = "The replays",
     .answers = replays_answers},
    {.method = "POST",
     .path = "/v1/replays",
     .scope = SCOPE_OPERATE,
     .fn = start_replay,
     .id = "startReplay",
     .tag = "marks",
     .summary = "Feed a range of events again, as new runs",
     .params = replay_params,
     .body = START_REPLAY,
     .answers = start_replay_answers},
    {.method = NULL},
};
