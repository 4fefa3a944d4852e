/* Publishing events: POST /v1/topics/{topic}/events, and POST /v1/events, where the type says which
 * topic. CloudEvents 1.0 by the HTTP protocol binding: one in binary or structured mode, or a
 * batch.
 *
 *   every event read and checked -> each judged by its topic's schema (a child) -> all sent, in
 * order, as fast as the queue for the log takes them -> each acknowledged -> 202 with where they
 * are and which runs they start
 *
 * Nothing is written before all of them were read and judged. When one can't be written, no more
 * are sent, what is under way is waited for, and the answer says which ones the log has; a crash
 * leaves some of them there, and no answer. Events keep their ids when they are published again: a
 * run's id is made from source and id. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "flow/evalpool.h"
#include "gateway/cloudevent.h"
#include "gateway/api_int.h"
#include "gateway/job.h"
#include "triggers/route_guess.h"
#include "triggers/topic_schemas.h"

#define BATCH_MAX 1000 /* events of one request */

struct one {
    struct ce_record rec;
    struct kheader header; /* of a batch's event */
    struct event ev;
    const struct config_topic *topic;
    char *key;
    bool written;
    int partition;
    int64_t offset;
};
struct publish {
    struct call *c; /* NULL: cancelled, while a schema is judged */
    struct one *v;
    size_t n, at;     /* at: the one that is read, judged or sent next */
    size_t under_way; /* sent, not acknowledged yet */
    char why[160];    /* why one can't be written; "" */
    bool all_runs;
};

static void publish_free(struct publish *p)
{
    for (size_t i = 0; i < p->n; i++) {
        event_free(&p->v[i].ev);
        ce_record_free(&p->v[i].rec);
        free(p->v[i].key);
    }
    free(p->v);
    free(p);
}

/* ---- sending ---- */

static void put_runs(struct publish *p, const struct one *x, struct json_object *o)
{
    struct json_object *runs = json_object_new_array();
    const struct agent *a;
    char run[RUN_ID_MAX];
    size_t pos = 0;
    while (defs_next(node_defs(p->c->g->n), &pos, &a)) {
        if (!route_reads(a, sl_str(x->topic->name)))
            continue;
        int r = route_guess(a, &x->ev, sl_str(x->topic->name), sl_str(x->key),
                            node_partitions(p->c->g->n), run);
        if (r < 0)
            p->all_runs = false;
        if (r != 1)
            continue;
        struct json_object *one = json_object_new_object();
        js_put_new(one, "id", json_object_new_string(run));
        js_put_new(one, "agent", json_object_new_string(a->id));
        js_push_new(runs, one);
    }
    js_put_new(o, "runs", runs);
}

/* Whoever publishes the others again is told which these are. */
static void break_off(struct publish *p)
{
    static const struct http_field fields[] = {{"Content-Type", "application/problem+json"},
                                               {"Retry-After", RETRY_AFTER_S},
                                               {NULL, NULL}};
    struct json_object *list = json_object_new_array(), *o;
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].written)
            js_push_new(list, json_object_new_int64((int64_t)i));
    o = api_problem(503,
                    "publish those that are not in `acknowledged`; some of them may be there all "
                    "the same, so keep their ids",
                    "the log has acknowledged %zu of %zu events: %s", js_length(list), p->n,
                    p->why);
    js_put_new(o, "acknowledged", list);
    http_answer_json(p->c->r, 503, fields, o);
    publish_free(p);
}

static void answer(struct publish *p)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    for (size_t i = 0; i < p->n; i++) {
        const struct one *x = &p->v[i];
        struct json_object *one = json_object_new_object();
        js_put_new(one, "id", json_object_new_string(x->ev.id));
        js_put_new(one, "source", json_object_new_string(x->ev.source));
        js_put_new(one, "type", json_object_new_string(x->ev.type));
        js_put_new(one, "topic", json_object_new_string(x->topic->name));
        js_put_new(one, "partition", json_object_new_int(x->partition));
        js_put_new(one, "offset", x->offset >= 0 ? json_object_new_int64(x->offset) : NULL);
        put_runs(p, x, one);
        js_push_new(list, one);
    }
    js_put_new(o, "events", list);
    js_put_new(o, "runsComplete", json_object_new_boolean(p->all_runs));
    http_answer_json(p->c->r, 202, NULL, o);
    publish_free(p);
}

static void send_more(struct publish *p);

static void on_sent(struct call *c, size_t nth, int error, int partition, int64_t offset,
                    const char *why)
{
    struct publish *p = c->data;
    struct one *x = &p->v[nth];
    p->under_way--;
    x->written = !error;
    x->partition = partition;
    x->offset = offset;
    if (error && !p->why[0])
        (void)snprintf(p->why, sizeof p->why, "%s", why ? why : strerror(-error));
    send_more(p);
}

static void cancel_send(struct call *c)
{
    api_send_cancel(c);
    publish_free(c->data);
}

static int send_one(struct publish *p, size_t nth)
{
    struct one *x = &p->v[nth];
    x->rec.k.topic = sl_str(x->topic->name);
    x->rec.k.partition = -1;
    x->rec.k.time_ms = clock_wall_ms();
    x->rec.k.key = sl_str(x->key);
    return api_send_nth(p->c, nth, &x->rec.k, on_sent);
}

static void send_more(struct publish *p)
{
    struct call *c = p->c;
    int error = 0;
    while (p->at < p->n && !p->why[0] && !(error = send_one(p, p->at))) {
        p->at++;
        p->under_way++;
    }
    if (error && !p->at) { /* nothing was written */
        api_send_refuse(c, error);
        publish_free(p);
        return;
    }
    /* A full queue: when one of these was taken out of it. */
    if (error && (error != -EAGAIN || !p->under_way) && !p->why[0])
        (void)snprintf(p->why, sizeof p->why, "%s",
                       error == -ENOTCONN ? "it can't be reached any more" : strerror(-error));
    if (p->under_way)
        c->cancel = cancel_send;
    else if (p->why[0])
        break_off(p);
    else
        answer(p);
}

/* ---- the topics' schemas ---- */

static void judge_next(struct publish *p);

static void on_judged(void *arg, struct json_object *problems, const struct err *e)
{
    struct publish *p = arg;
    struct call *c = p->c;
    if (c)
        c->cancel = NULL;
    if (!c) {
        publish_free(p);
    } else if (e && e->code) {
        http_problem(c->r, 400, NULL, e->hint,
                     "event %zu can't be judged by its topic's schema: %s", p->at, e->msg);
        publish_free(p);
    } else if (js_length(problems)) {
        char text[96];
        (void)snprintf(text, sizeof text, "the data of event %zu does not fit its topic's schema",
                       p->at);
        api_unfit(c, text, problems);
        publish_free(p);
    } else {
        p->at++;
        judge_next(p);
    }
    json_object_put(problems);
}

static void cancel_judging(struct call *c)
{
    ((struct publish *)c->data)->c = NULL;
}

static void judge_next(struct publish *p)
{
    struct call *c = p->c;
    struct topic_schemas *all = node_schemas(c->g->n);
    const struct tmpl *t = NULL;
    struct expr_args none = {.now_ms = clock_wall_ms()};
    while (p->at < p->n && !(t = all ? topic_schema(all, sl_str(p->v[p->at].topic->name)) : NULL))
        p->at++;
    if (p->at == p->n) {
        p->at = 0;
        send_more(p);
        return;
    }
    struct json_object *envelope = p->v[p->at].ev.envelope;
    if (json_object_object_get_ex(envelope, "data_base64", NULL)) { /* as the router has it */
        http_problem(c->r, 400, NULL, "its topic has a schema, so its data must be JSON",
                     "the data of event %zu is not JSON", p->at);
        publish_free(p);
        return;
    }
    c->cancel = cancel_judging;
    int error =
        evalpool_submit(node_evals(c->g->n), t, js_get(envelope, "data"), &none, on_judged, p);
    if (!error)
        return;
    c->cancel = NULL;
    if (error == -E2BIG)
        http_problem(c->r, 413, NULL, "keep large data outside and publish a reference to it",
                     "event %zu is too large to be judged by its topic's schema", p->at);
    else
        api_later(c, 503, "send less at a time", "too many expressions wait on this node");
    publish_free(p);
}

/* ---- reading ---- */

static bool find_topic(struct call *c, struct one *x, const char *name)
{
    const struct config *conf = c->g->config;
    const char *names[65];
    size_t n = 0;
    if (name && !strncmp(name, "tidemark.", 9)) {
        http_problem(c->r, 403, NULL, "publish to a topic of events",
                     "%.100s is a topic of tidemark's own", name);
        return false;
    }
    if (!name && !(x->topic = config_topic_of_type(conf, x->ev.type)) && conf->events_default)
        x->topic = config_topic(conf, conf->events_default);
    if (name)
        x->topic = config_topic(conf, name);
    if (x->topic)
        return true;
    for (; n < conf->ntopics && n < 64; n++)
        names[n] = conf->topics[n].name;
    names[n] = NULL;
    if (name) {
        const char *near = err_nearest(sl_str(name), names);
        http_problem(c->r, 404, NULL, near ? near : "GET /v1/topics lists the topics",
                     "the configuration declares no topic %.100s%s", name,
                     near ? "; did you mean the one of the hint?" : "");
    } else {
        http_problem(c->r, 400, NULL, "declare it under `types` of a topic, or set events.default",
                     "no topic declares the type %.200s", x->ev.type);
    }
    return false;
}

static bool read_one(struct call *c, struct publish *p, struct one *x, const char *topic)
{
    struct err e = {0};
    int error = event_read(&x->ev, &x->rec.k, &e);
    if (error) {
        err_set(&e, error, e.hint[0] ? e.hint : "see CloudEvents 1.0", "event %zu: %s", p->at,
                e.msg[0] ? e.msg : strerror(-error));
        api_fail(c, &e);
        return false;
    }
    const char *key = js_str(x->ev.envelope, "partitionkey"),
               *version = js_str(x->ev.envelope, "specversion");
    if (!version || strcmp(version, "1.0") != 0) {
        http_problem(c->r, 400, NULL, "specversion: 1.0", "event %zu is of another specversion",
                     p->at);
        return false;
    }
    if (key && !(x->key = strdup(key))) {
        api_later(c, 503, "try again", "no memory for the request");
        return false;
    }
    p->at++;
    return find_topic(c, x, topic);
}

static bool read_batch(struct call *c, struct publish *p, const char *topic)
{
    struct slice body = http_body(c->r), item;
    struct err e = {0};
    size_t pos = 0;
    if (js_check(body, &e) || !body.n || sl_trim(body).p[0] != '[') {
        http_problem(c->r, 400, NULL, "a JSON array of CloudEvents in JSON format",
                     "the batch can't be read: %s", e.msg[0] ? e.msg : "it is no array");
        return false;
    }
    if (!(p->v = calloc(BATCH_MAX, sizeof *p->v))) {
        api_later(c, 503, "try again", "no memory for the request");
        return false;
    }
    while (js_next_item(body, &pos, &item)) {
        if (p->n == BATCH_MAX) {
            http_problem(c->r, 413, NULL, "send several batches", "a batch may have %d events",
                         BATCH_MAX);
            return false;
        }
        struct one *x = &p->v[p->n++];
        x->header =
            (struct kheader){SL("content-type"), SL("application/cloudevents+json; charset=UTF-8")};
        x->rec.k.headers = &x->header;
        x->rec.k.nheaders = 1;
        x->rec.k.value = item;
        if (!read_one(c, p, x, topic))
            return false;
    }
    return true;
}

static bool read_single(struct call *c, struct publish *p, const char *topic)
{
    struct err e = {0};
    if (!(p->v = calloc(1, sizeof *p->v))) {
        api_later(c, 503, "try again", "no memory for the request");
        return false;
    }
    p->n = 1;
    int error = ce_record(c->r, &p->v[0].rec, &e);
    if (!error)
        return read_one(c, p, &p->v[0], topic);
    if (error == -ENOTSUP)
        http_problem(c->r, 415, NULL, e.hint, "%s", e.msg);
    else
        api_fail(c, &e);
    return false;
}

static void publish(struct call *c, const char *topic)
{
    if (!api_need_node(c))
        return;
    struct publish *p = calloc(1, sizeof *p);
    if (!p) {
        api_later(c, 503, "try again", "no memory for the request");
        return;
    }
    p->c = c;
    c->data = p;
    p->all_runs = true;
    bool ok = ce_mode(c->r) == CE_BATCH ? read_batch(c, p, topic) : read_single(c, p, topic);
    if (!ok) {
        publish_free(p);
        return;
    }
    p->at = 0;
    judge_next(p);
}

static void publish_to(struct call *c)
{
    publish(c, c->args[0]);
}

static void publish_by_type(struct call *c)
{
    publish(c, NULL);
}

#define TEXT "{\"type\":\"string\"}"
#define PUBLISHED                                                                                  \
    "{\"type\":\"object\",\"required\":[\"events\",\"runsComplete\"],\"properties\":{\"events\":{" \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"id\",\"source\",\"type\","  \
    "\"topic\",\"partition\",\"offset\",\"runs\"],\"properties\":{\"id\":" TEXT                    \
    ",\"source\":" TEXT ",\"type\":" TEXT ",\"topic\":" TEXT                                       \
    ",\"partition\":{\"type\":\"integer\"},\"offset\":{\"type\":[\"integer\",\"null\"]},"          \
    "\"runs\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"id\":" TEXT     \
    ",\"agent\":" TEXT "}}}}}},\"runsComplete\":{\"type\":\"boolean\"}}}"
static const struct answer publish_answers[] = {
    {202,
     "the log has acknowledged all; `runs` names those that each event starts, runsComplete: false "
     "if there may be more",
     PUBLISHED},
    {0}};
#define PUBLISH_TYPES "application/cloudevents+json,application/cloudevents-batch+json"

const struct route routes_events[] = {
    {.method = "POST",
     .path = "/v1/topics/{topic}/events",
     .scope = SCOPE_PUBLISH,
     .fn = publish_to,
     .id = "publishToTopic",
     .tag = "events",
     .summary = "Publish CloudEvents to a topic",
     .body = "{}",
     .body_type = PUBLISH_TYPES,
     .answers = publish_answers},
    {.method = "POST",
     .path = "/v1/events",
     .scope = SCOPE_PUBLISH,
     .fn = publish_by_type,
     .id = "publish",
     .tag = "events",
     .summary = "Publish CloudEvents; their types say to which topics",
     .body = "{}",
     .body_type = PUBLISH_TYPES,
     .answers = publish_answers},
    {.method = NULL},
};
