/* What handlers have in common: answers by errno, sends, blocking work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/api_int.h"
#include "triggers/recwire.h"

/* ---- answers ---- */

void api_later(struct call *c, int status, const char *hint, const char *detail, ...)
{
    static const struct http_field fields[] = {{"Retry-After", RETRY_AFTER_S}, {NULL, NULL}};
    char text[1024];
    va_list ap;
    va_start(ap, detail);
    (void)vsnprintf(text, sizeof text, detail, ap);
    va_end(ap);
    http_problem(c->r, status, fields, hint, "%s", text);
}

void api_fail(struct call *c, const struct err *e)
{
    static const struct {
        int error, status;
    } table[] = {{-ENOENT, 404},    {-EEXIST, 409},       {-EINVAL, 400},      {-EBADMSG, 400},
                 {-EPROTO, 400},    {-ERANGE, 400},       {-EMSGSIZE, 413},    {-E2BIG, 413},
                 {-ETIMEDOUT, 504}, {-EAGAIN, 503},       {-ENOMEM, 503},      {-EPIPE, 503},
                 {-EBUSY, 503},     {-ECONNREFUSED, 503}, {-EHOSTUNREACH, 503}};
    int status = 500;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].error == e->code)
            status = table[i].status;
    if (status == 503 || status == 504)
        api_later(c, status, e->hint, "%s", e->msg);
    else
        http_problem(c->r, status, NULL, e->hint, "%s", e->msg);
}

void api_unfit(struct call *c, const char *detail, struct json_object *problems)
{
    static const struct http_field fields[] = {{"Content-Type", "application/problem+json"},
                                               {NULL, NULL}};
    struct json_object *o = json_object_new_object(), *errors = json_object_new_array();
    for (size_t i = 0; i < js_length(problems); i++) {
        struct json_object *p = js_at(problems, i), *x = json_object_new_object();
        js_put(x, "pointer", json_object_get(js_get(p, "pointer")));
        js_put(x, "detail", json_object_get(js_get(p, "message")));
        js_push_new(errors, x);
    }
    js_put_new(o, "type", json_object_new_string("about:blank"));
    js_put_new(o, "title", json_object_new_string(http_reason(400)));
    js_put_new(o, "status", json_object_new_int(400));
    js_put_new(o, "detail", json_object_new_string(detail));
    js_put_new(o, "hint", json_object_new_string("each of `errors` names a place of the value"));
    js_put_new(o, "errors", errors);
    http_answer_json(c->r, 400, fields, o);
}

/* application/json, or a structured suffix of it; parameters are ignored. */
static bool is_json(const char *type)
{
    size_t n = strcspn(type, ";");
    struct slice s = sl_trim(sl(type, n));
    return (s.n == 16 && !strncasecmp(s.p, "application/json", 16)) ||
           (s.n > 5 && !strncasecmp(s.p + s.n - 5, "+json", 5));
}

bool api_json_body(struct call *c, bool optional, struct json_object **ret)
{
    const char *type = http_header(c->r, "Content-Type");
    struct slice body = http_body(c->r);
    struct err e = {0};
    if (!body.n && optional) {
        *ret = json_object_new_object();
        return true;
    }
    if (type && !is_json(type)) {
        http_problem(c->r, 415, NULL, "Content-Type: application/json", "the body is %.100s", type);
        return false;
    }
    if (js_parse(body, ret, &e) == 0)
        return true;
    http_problem(c->r, 400, NULL, e.hint[0] ? e.hint : "see RFC 8259",
                 "the body is no JSON: line %d, column %d: %s", e.line, e.col, e.msg);
    return false;
}

static bool object_fits(struct call *c, struct json_object *o, const char *const *names)
{
    if (!json_object_is_type(o, json_type_object)) {
        http_problem(c->r, 400, NULL, "see /openapi.json", "the body is no JSON object");
        return false;
    }
    json_object_object_foreach(o, key, v)
    {
        size_t i = 0;
        if (!v) {
            http_problem(c->r, 400, NULL, "leave out what has no value",
                         "the member %.100s is null", key);
            return false;
        }
        while (names[i] && strcmp(names[i], key))
            i++;
        if (names[i])
            continue;
        const char *near = err_nearest(sl_str(key), names);
        http_problem(c->r, 400, NULL, near ? near : "see /openapi.json",
                     "the body has a member %.100s, which is not known here%s", key,
                     near ? "; did you mean the one of the hint?" : "");
        return false;
    }
    return true;
}

bool api_object_body(struct call *c, bool optional, const char *const *names,
                     struct json_object **ret)
{
    struct json_object *o = NULL;
    if (!api_json_body(c, optional, &o))
        return false;
    if (!object_fits(c, o, names)) {
        json_object_put(o);
        return false;
    }
    *ret = o;
    return true;
}

bool api_has_room(struct call *c, int partition)
{
    if (node_waiting(c->g->n, partition) < (size_t)c->g->config->max_waiting_runs)
        return true;
    api_later(c, 429, "ask again later, or add nodes; runs.waiting is the limit",
              "%d requests wait for their turn in this partition", c->g->config->max_waiting_runs);
    return false;
}

bool api_need_node(struct call *c)
{
    if (c->g->n && node_knows_agents(c->g->n))
        return true;
    api_later(c, 503, "GET /readyz tells when it can work",
              "this node has not read the log yet, or can't reach it");
    return false;
}

/* ---- writing ---- */

struct send {
    struct sent sent; /* first, as for every opaque of a producer */
    struct list node; /* in gateway.sends, the oldest first */
    struct list mine; /* in call.sends */
    struct call *c;   /* NULL: cancelled */
    int64_t until_ms;
    size_t nth;
    /* One of the two. */
    void (*done)(struct call *c, int error, int partition, int64_t offset, const char *why);
    void (*done_nth)(struct call *c, size_t nth, int error, int partition, int64_t offset,
                     const char *why);
};

/* Its call hears of it no more. */
static struct call *let_go(struct send *x)
{
    struct call *c = x->c;
    x->c = NULL;
    list_del(&x->mine);
    if (list_empty(&c->sends))
        c->cancel = NULL;
    return c;
}

static void report(struct send *x, int error, int partition, int64_t offset, const char *why)
{
    struct call *c = let_go(x);
    if (x->done_nth)
        x->done_nth(c, x->nth, error, partition, offset, why);
    else
        x->done(c, error, partition, offset, why);
}

static void on_sent(struct sent *s, int error, int partition, int64_t offset, const char *why)
{
    struct send *x = (struct send *)s;
    list_del(&x->node);
    if (x->c)
        report(x, error, partition, offset, why);
    free(x);
}

void api_send_cancel(struct call *c)
{
    struct list *l;
    while ((l = list_pop(&c->sends)))
        LIST_ENTRY(l, struct send, mine)->c = NULL; /* its acknowledgement may still come */
}

void api_send_refuse(struct call *c, int error)
{
    if (error == -EMSGSIZE || error == -E2BIG)
        http_problem(c->r, 413, NULL, "keep large data outside and pass a reference to it",
                     "what would be written is larger than a record of the log may be");
    else if (error == -ENOTCONN)
        api_later(c, 503, "nothing was accepted; GET /readyz tells when the log is back",
                  "this node does not reach the log");
    else if (error == -EAGAIN)
        api_later(c, 503, "send less at a time", "the queue of records for the log is full");
    else
        api_later(c, 503, "try again", "the record can't be written now: %s", strerror(-error));
}

static int send_it(struct call *c, const struct krec *k, const struct send *how)
{
    if (!c->g->n || !klog_up(node_klog(c->g->n)))
        return -ENOTCONN;
    struct send *x = malloc(sizeof *x);
    if (!x)
        return -ENOMEM;
    *x = *how;
    x->until_ms = loop_now(c->g->loop) + SEND_MS;
    x->sent.done = on_sent;
    x->c = c;
    list_push(&c->g->sends, &x->node);
    int error = kprod_send(node_producer(c->g->n), k, x);
    if (error) {
        list_del(&x->node);
        free(x);
        return error;
    }
    list_push(&c->sends, &x->mine);
    return 0;
}

int api_send_try(struct call *c, const struct krec *k,
                 void (*done)(struct call *c, int error, int partition, int64_t offset,
                              const char *why))
{
    int error = send_it(c, k, &(struct send){.done = done});
    if (!error)
        c->cancel = api_send_cancel;
    return error;
}

int api_send_nth(struct call *c, size_t nth, const struct krec *k,
                 void (*done)(struct call *c, size_t nth, int error, int partition, int64_t offset,
                              const char *why))
{
    return send_it(c, k, &(struct send){.nth = nth, .done_nth = done});
}

bool api_send(struct call *c, const struct krec *k,
              void (*done)(struct call *c, int error, int partition, int64_t offset,
                           const char *why))
{
    int error = api_send_try(c, k, done);
    if (error)
        api_send_refuse(c, error);
    return !error;
}

bool api_send_rec(struct call *c, const struct rec *r, int partition,
                  void (*done)(struct call *c, int error, int partition, int64_t offset,
                               const char *why))
{
    struct recwire w;
    struct krec k;
    int error = recwire_make(&w, r, c->g->names.runs, partition, &k);
    if (error) {
        api_send_refuse(c, error);
        return false;
    }
    bool ok = api_send(c, &k, done);
    recwire_free(&w);
    return ok;
}

void api_sends_tick(struct gateway *g)
{
    LIST_EACH(l, &g->sends)
    {
        struct send *x = LIST_ENTRY(l, struct send, node);
        if (x->until_ms > loop_now(g->loop))
            return;
        if (x->c)
            report(x, -ETIMEDOUT, -1, -1, "it did not answer in time, and may still accept it");
    }
}

/* Sends whose report will never come: the node has gone. */
void api_sends_forget(struct gateway *g)
{
    struct list *l;
    while ((l = list_pop(&g->sends)))
        free(LIST_ENTRY(l, struct send, node));
}

/* ---- blocking work ---- */

struct admin {
    struct list node;
    struct kadmin *k;
};

static struct admin *admin_take(struct gateway *g, struct err *e)
{
    pthread_mutex_lock(&g->lock);
    struct list *l = list_pop(&g->admins);
    pthread_mutex_unlock(&g->lock);
    if (l)
        return LIST_ENTRY(l, struct admin, node);
    struct admin *a = calloc(1, sizeof *a);
    if (a && (a->k = kadmin_new(g->config, e)))
        return a;
    if (!a)
        err_set(e, -ENOMEM, "try again", "no memory for the request");
    free(a);
    return NULL;
}

void api_admin_free(struct list *l)
{
    struct admin *a = LIST_ENTRY(l, struct admin, node);
    kadmin_free(a->k);
    free(a);
}

static void on_work(struct pool_job *j)
{
    struct api_read *r = LIST_ENTRY(j, struct api_read, job);
    struct admin *a = admin_take(r->g, &r->e);
    if (!a)
        return;
    r->work(r, a->k);
    if (r->e.code == -ETIMEDOUT) { /* what it was asked for may still come: not to the next one */
        api_admin_free(&a->node);
        return;
    }
    pthread_mutex_lock(&r->g->lock);
    list_push(&r->g->admins, &a->node);
    pthread_mutex_unlock(&r->g->lock);
}

static void on_work_done(struct pool_job *j)
{
    struct api_read *r = LIST_ENTRY(j, struct api_read, job);
    r->done(r);
}

int api_work(struct gateway *g, struct api_read *r)
{
    r->g = g;
    r->job.work = on_work;
    r->job.done = on_work_done;
    return pool_submit(g->pool, &r->job);
}

bool api_read_start(struct call *c, struct api_read *r)
{
    r->c = c;
    if (api_work(c->g, r) == 0)
        return true;
    api_later(c, 503, "ask for less at a time", "too many requests read the log at present");
    return false;
}
