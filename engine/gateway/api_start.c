/* POST /v1/agents/{namespace}/{name}/runs: a run is requested, and its id is answered when the log
 * has acknowledged the request.
 *
 *   read -> (input schema judged in a child) -> sent -> acknowledged -> 202
 *                                                         |  Idempotency-Key: the owner decides
 *                                                         |    -> 202, the same run again, or 422
 *                                                         \  Prefer: wait: the run ends -> 200
 *
 * A crash before the acknowledgement: the client has no answer, and asks again; with an
 * Idempotency-Key that is the same run. After it: the run is in the log, whatever happens here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "flow/evalpool.h"
#include "flow/schema.h"
#include "gateway/run_read.h"
#include "gateway/run_wait.h"
#include "triggers/request.h"

#define KEY_MAX      512         /* bytes of a run's key */
#define IDEM_KEY_LEN 255         /* bytes of an Idempotency-Key */
#define ANSWER_BYTES (64u << 20) /* far more than a value may have */

struct start {
    struct call *c; /* NULL: cancelled, while the schema is judged */
    struct flow *flow;
    char *key, *idem; /* idem: the Idempotency-Key; NULL: none */
    char id[RUN_ID_MAX], agent[2 * FLOW_NAME_MAX + 2];
    int partition, priority;
    struct json_object *input;
    int64_t wait_ms; /* Prefer: wait; -1: not asked for */
    int64_t offset;  /* of the request; -1: not known */
    bool sent, repeat;
    struct run_wait wait;
};

static struct start *start_free(struct start *s)
{
    run_wait_stop(&s->wait);
    json_object_put(s->input);
    flow_unref(s->flow);
    free(s->key);
    free(s->idem);
    free(s);
    return NULL;
}

/* ---- the answer ---- */

static void write_links(struct buf *b, const char *id)
{
    static const char *const names[] = {"self", "output", "history", "stream", "cancel"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        buf_addf(b, "%s\"%s\":\"/v1/runs/%s%s%s\"", i ? "," : ",\"links\":{", names[i], id,
                 i ? "/" : "", i ? names[i] : "");
    buf_adds(b, "}}\n");
}

static void write_text(struct buf *b, const char *name, const char *text)
{
    buf_addf(b, ",\"%s\":", name);
    js_write_str(b, sl_str(text));
}

/* 202, or 200 with what the run ended with. A text of the value is taken from its last fact. It is
 * written without a tree, since most of a busy node's answers are these. */
static void answer(struct start *s, const char *status, const char *what, struct json_object *value)
{
    char location[64];
    bool ended = what != NULL;
    (void)snprintf(location, sizeof location, "/v1/runs/%s", s->id);
    const struct http_field fields[] = {{"Content-Type", "application/json"},
                                        {"Location", location},
                                        {"Preference-Applied", s->wait_ms >= 0 ? "wait" : NULL},
                                        {"Idempotency-Replayed", s->repeat ? "true" : NULL},
                                        {NULL, NULL}};
    struct buf b;
    buf_init(&b, ANSWER_BYTES);
    buf_addf(&b, "{\"id\":\"%s\"", s->id);
    write_text(&b, "agent", s->agent);
    write_text(&b, "version", flow_info(s->flow)->version);
    write_text(&b, "status", status);
    buf_addf(&b, ",\"partition\":%d,\"offset\":", s->partition);
    if (s->offset >= 0)
        buf_addf(&b, "%lld", (long long)s->offset);
    else
        buf_adds(&b, "null");
    if (ended) {
        buf_addf(&b, ",\"%s\":", what);
        js_write(value, &b);
    }
    write_links(&b, s->id);
    if (buf_error(&b)) /* it is accepted all the same, and the place says where it is */
        http_answer(s->c->r, ended ? 200 : 202, fields + 1, SL(""));
    else
        http_answer(s->c->r, ended ? 200 : 202, fields, buf_slice(&b));
    buf_free(&b);
    start_free(s);
}

static void answer_ended(struct start *s, const struct rec *end)
{
    struct json_object *v = val_tree(end->value);
    if (end->type == REC_COMPLETED)
        answer(s, "completed", "output", js_get(v, "output"));
    else if (end->type == REC_FAULTED)
        answer(s, "faulted", "error", js_get(v, "error"));
    else
        answer(s, "cancelled", "error", v);
}

/* ---- a repeat whose run may have ended long ago ---- */

struct again {
    struct api_read read;
    struct run_read run;
    struct start *s;
};

static void read_again(struct api_read *r, struct kadmin *a)
{
    struct again *x = LIST_ENTRY(r, struct again, read);
    run_read(&x->run, a, &r->e);
}

static void read_again_done(struct api_read *r)
{
    struct again *x = LIST_ENTRY(r, struct again, read);
    struct start *s = x->s;
    const struct trace_run *t = r->e.code ? NULL : x->run.run;
    const char *status = run_status_name(t ? t->status : RUN_NONE);
    if (t && t->ended_ms && s->wait_ms >= 0)
        answer(s, status, t->status == RUN_COMPLETED ? "output" : "error",
               val_tree(t->status == RUN_COMPLETED ? t->output : t->error));
    else
        answer(s, status, NULL, NULL);
    run_read_free(&x->run);
    free(x);
}

static void answer_repeat(struct start *s)
{
    struct call *c = s->c;
    struct again *x = calloc(1, sizeof *x);
    run_wait_stop(&s->wait);
    c->cancel = NULL;
    s->repeat = true;
    if (!x || !run_read_init(&x->run, c, s->id, false)) {
        free(x);
        answer(s, "pending", NULL, NULL);
        return;
    }
    x->s = s;
    x->read.work = read_again;
    x->read.done = read_again_done;
    if (!api_read_start(c, &x->read)) {
        run_read_free(&x->run);
        free(x);
        start_free(s);
    }
}

/* ---- waiting ---- */

static void done(struct start *s)
{
    run_wait_stop(&s->wait);
    s->c->cancel = NULL;
}

static void conflict(struct start *s)
{
    done(s);
    http_problem(s->c->r, 422, NULL, "give each request a key of its own; a key is kept for a day",
                 "this Idempotency-Key was used for another request");
    start_free(s);
}

static void undecided(struct start *s)
{
    done(s);
    api_later(s->c, 503, "ask again with the same Idempotency-Key, which is never a second run",
              "no owner of the run's partition has decided in time");
    start_free(s);
}

/* Whatever comes first: the owner's decision about a key, the run's end, the end of the time. */
static void on_wait(struct run_wait *w)
{
    struct start *s = LIST_ENTRY(w, struct start, wait);
    const struct rec *a = w->answer;
    const char *status = a && a->type == REC_SETTLED && a->status ? a->status : "";
    if (!s->sent)
        return; /* its acknowledgement is still to come */
    if (s->idem && !strcmp(status, "conflict")) {
        conflict(s);
    } else if (s->idem && !strncmp(status, "duplicate", 9)) {
        answer_repeat(s);
    } else if (w->end && s->wait_ms >= 0) {
        struct rec *end = rec_ref(w->end);
        done(s);
        answer_ended(s, end);
        rec_unref(end);
    } else if (s->idem && !a) {
        if (w->late)
            undecided(s);
    } else if (s->wait_ms < 0 || w->late) {
        done(s);
        answer(s, "pending", NULL, NULL);
    }
}

static void cancel_start(struct call *c)
{
    api_send_cancel(c);
    start_free(c->data);
    c->data = NULL;
}

/* ---- sending ---- */

static void on_sent(struct call *c, int error, int partition, int64_t offset, const char *why)
{
    struct start *s = c->data;
    if (error) {
        run_wait_stop(&s->wait);
        api_later(c, 503,
                  s->idem ? "ask again with the same Idempotency-Key, which is never a second run"
                          : "ask again; without an Idempotency-Key that may be a second run",
                  "the log did not acknowledge the request: %s", why ? why : strerror(-error));
        start_free(s);
        return;
    }
    s->sent = true;
    s->offset = offset;
    if (!s->wait.sub) {
        answer(s, "pending", NULL, NULL);
        return;
    }
    c->cancel = cancel_start;
    run_wait_until(&s->wait, s->wait_ms > DECIDE_MAX_MS || !s->idem ? s->wait_ms : DECIDE_MAX_MS);
    on_wait(&s->wait);
}

static void send_request(struct start *s)
{
    struct call *c = s->c;
    const struct flow_info *fi = flow_info(s->flow);
    struct rec *r = NULL;
    struct err e = {0};
    struct request q = {.agent = s->agent,
                        .version = fi->version,
                        .hash = fi->hash,
                        .key = s->key,
                        .input = s->input,
                        .run_id = s->id,
                        .random_id = !s->idem,
                        .asked_version = http_query(c->r, "version"),
                        .traceparent = http_header(c->r, "traceparent"),
                        .priority = s->priority,
                        .src_offset = -1,
                        .floor = -1,
                        .time_ms = clock_wall_ms()};
    int error = request_make(&q, &r, &e);
    if (error) {
        err_set(&e, error, e.hint[0] ? e.hint : "try again", "%s",
                e.msg[0] ? e.msg : "no memory for the request");
        api_fail(c, &e);
        start_free(s);
        return;
    }
    c->data = s;
    bool waits = s->idem || s->wait_ms >= 0;
    if ((waits && !run_wait_begin(&s->wait, c, s->id, r->uuid, on_wait)) ||
        !api_send_rec(c, r, s->partition, on_sent))
        start_free(s);
    else
        c->cancel = cancel_start;
    rec_unref(r);
}

/* ---- the input's schema ---- */

static void on_judged(void *arg, struct json_object *problems, const struct err *e)
{
    struct start *s = arg;
    struct call *c = s->c;
    if (!c) {
        json_object_put(problems);
        start_free(s);
        return;
    }
    c->cancel = NULL;
    if (e && e->code) {
        http_problem(c->r, 400, NULL, e->hint,
                     "the input can't be judged by the agent's schema: %s", e->msg);
        start_free(s);
    } else if (js_length(problems)) {
        api_unfit(c, "the input does not fit the agent's schema", problems);
        start_free(s);
    } else {
        send_request(s);
    }
    json_object_put(problems);
}

static void cancel_judging(struct call *c)
{
    ((struct start *)c->data)->c = NULL;
}

static void judge(struct start *s)
{
    struct call *c = s->c;
    struct expr_args none = {.now_ms = clock_wall_ms()};
    const struct tmpl *t = flow_info(s->flow)->input_schema;
    if (!t) {
        send_request(s);
        return;
    }
    c->data = s;
    c->cancel = cancel_judging;
    int error = evalpool_submit(node_evals(c->g->n), t, s->input, &none, on_judged, s);
    if (!error)
        return;
    c->cancel = NULL;
    if (error == -E2BIG)
        http_problem(c->r, 413, NULL, "keep large data outside and pass a reference to it",
                     "the input is too large to be judged by the agent's schema");
    else
        api_later(c, 503, "send less at a time", "too many expressions wait on this node");
    start_free(s);
}

/* ---- reading the request ---- */

static struct flow *version_of(struct call *c, const struct agent *a, const char *version)
{
    const char *hash = version ? js_str(js_get(a->record, "versions"), version) : a->hash;
    struct flow *f = hash ? defs_flow(node_defs(c->g->n), hash) : NULL;
    if (!version && !a->active)
        http_problem(c->r, 409, NULL, "apply it again, or name a version",
                     "the agent %s is deactivated", a->id);
    else if (!hash)
        http_problem(c->r, 404, NULL, "GET /v1/agents lists the versions", "%s has no version %s",
                     a->id, version);
    else if (!f)
        api_later(c, 503, "try again", "the definition of %s is not read yet", a->id);
    else
        return f;
    return NULL;
}

static struct flow *agent_of(struct call *c, struct start *s)
{
    (void)snprintf(s->agent, sizeof s->agent, "%.*s/%.*s", FLOW_NAME_MAX, c->args[0], FLOW_NAME_MAX,
                   c->args[1]);
    const struct agent *a = defs_agent(node_defs(c->g->n), s->agent);
    if (a)
        return version_of(c, a, http_query(c->r, "version"));
    http_problem(c->r, 404, NULL, "GET /v1/agents lists the agents", "there is no agent %s",
                 s->agent);
    return NULL;
}

/* A string of RFC 8941 in its quotes, or the bare text: visible ASCII. False: it is neither. */
static bool read_idem(const char *text, char **ret)
{
    struct slice t = sl_trim(sl_str(text));
    if (t.n > 1 && t.p[0] == '"' && t.p[t.n - 1] == '"')
        t = sl(t.p + 1, t.n - 2);
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] < 0x20 || t.p[i] > 0x7e || t.p[i] == '"' || t.p[i] == '\\')
            return false;
    *ret = t.n && t.n <= IDEM_KEY_LEN ? sl_dup(t) : NULL;
    return *ret;
}

static void make_id(struct call *c, struct start *s, const char *uuid)
{
    int n = node_partitions(c->g->n);
    if (s->idem) {
        request_keyed_id(s->id, &s->partition, s->agent, sl_str(s->idem), n);
        return;
    }
    s->partition = run_partition(sl_str(s->agent), sl_str(s->key), n);
    run_id_make(s->id, s->partition, sl_str(s->agent), SL("api"), SL("http"), sl_str(uuid));
}

/* True, or the call is answered. */
static bool read_options(struct call *c, struct start *s)
{
    const char *key = http_query(c->r, "key"), *priority = http_query(c->r, "priority"),
               *idem = http_header(c->r, "Idempotency-Key");
    int64_t n = flow_info(s->flow)->priority;
    char uuid[37];
    uuid4(uuid);
    s->wait_ms = api_prefer_wait(c);
    s->offset = -1;
    if (key && (!*key || strlen(key) > KEY_MAX))
        http_problem(c->r, 400, NULL, "1 to 512 bytes", "the parameter key is empty or too long");
    else if (priority && (sl_i64(sl_str(priority), &n) < 0 || n < 0 || n > 9))
        http_problem(c->r, 400, NULL, "0 (first) to 9", "the parameter priority is no priority");
    else if (idem && !read_idem(idem, &s->idem))
        http_problem(c->r, 400, NULL, "1 to 255 visible characters without \" and \\",
                     "the Idempotency-Key can't be used");
    else if (!(s->key = strdup(key ? key : s->idem ? s->idem : uuid)))
        api_later(c, 503, "try again", "no memory for the request");
    else {
        s->priority = (int)n;
        make_id(c, s, uuid);
        return true;
    }
    return false;
}

static void start_run(struct call *c)
{
    if (!api_need_node(c))
        return;
    struct start *s = calloc(1, sizeof *s);
    if (!s) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    s->c = c;
    s->flow = agent_of(c, s);
    if (s->flow)
        flow_ref(s->flow);
    if (!s->flow || !api_json_body(c, true, &s->input) || !read_options(c, s) ||
        !api_has_room(c, s->partition)) {
        start_free(s);
        return;
    }
    judge(s);
}

static const struct param start_params[] = {
    {"version", "query", "{\"type\":\"string\"}", "a version of the agent; default the active one"},
    {"key", "query", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":512}",
     "the run's key; runs of one key are in one partition"},
    {"priority", "query", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":9}",
     "0 is first; default the agent's"},
    {"Idempotency-Key", "header", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":257}",
     "the same key and body within a day: the same run; it also decides on the partition"},
    {"Prefer", "header", "{\"type\":\"string\"}",
     "wait=N: answer with the output if the run ends within N seconds, 120 at most"},
    {"traceparent", "header", "{\"type\":\"string\"}", "W3C trace context, passed on to the tasks"},
    {NULL}};
static const struct answer start_answers[] = {
    {202, "accepted: the log has acknowledged the request",
     "{\"$ref\":\"#/components/schemas/Accepted\"}"},
    {409, "the agent is deactivated", "{\"$ref\":\"#/components/schemas/Problem\"}"},
    {422, "the Idempotency-Key was used for another request",
     "{\"$ref\":\"#/components/schemas/Problem\"}"},
    {0}};

const struct route routes_start[] = {
    {.method = "POST",
     .path = "/v1/agents/{namespace}/{name}/runs",
     .scope = SCOPE_PUBLISH,
     .fn = start_run,
     .id = "startRun",
     .tag = "runs",
     .summary = "Request a run; the body is its input",
     .params = start_params,
     .body = "{}",
     .body_optional = true,
     .answers = start_answers},
    {.method = NULL},
};
