/* See gather.h. fn runs in a thread of the pool, as often as there are rounds; between two of them
 * the loop's thread asks. */
#include "gateway/gather.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/peers.h"
#include "loop/http.h"

#define ROUNDS      3
#define ASK_MS      3000
#define CONNECT_MS  1000
#define BODY_MAX    (8u << 20)
#define CLIENTS_MAX 64
#define SET_BYTES   1000  /* of `partitions` in one URL; a longer set is several questions */
#define TELL_MS     10000 /* between two lines about nodes that did not answer */
#define CURSOR_MAX  64

struct asked {
    struct gather *x;
    char *base;
    struct intset of;
    struct http_req *req; /* NULL: it has ended */
    int status;           /* 0: no answer */
    struct buf body;
};

/* ---- putting together ---- */

static int newest_first(const void *a, const void *b)
{
    struct json_object *x = *(struct json_object *const *)a, *y = *(struct json_object *const *)b;
    const char *s = js_str(x, "requestedAt"), *t = js_str(y, "requestedAt");
    int order = strcmp(t ? t : "", s ? s : "");
    if (order)
        return order;
    s = js_str(x, "id");
    t = js_str(y, "id");
    return strcmp(t ? t : "", s ? s : "");
}

static bool same_run(struct json_object *a, struct json_object *b)
{
    const char *s = js_str(a, "id"), *t = js_str(b, "id");
    return s && t && !strcmp(s, t);
}

void gather_sort(struct json_object *runs, int64_t limit, bool more, char *ret_next, size_t size)
{
    size_t n = 0, at = 0, all = js_length(runs);
    json_object_array_sort(runs, newest_first);
    ret_next[0] = 0;
    for (; at < all && (int64_t)n < limit; at++) { /* twice: its partition was at two nodes */
        struct json_object *run = js_at(runs, at);
        if (n && same_run(js_at(runs, n - 1), run))
            continue;
        if (n != at)
            json_object_array_put_idx(runs, n, json_object_get(run));
        n++;
    }
    if (n && (at < all || more))
        view_cursor(js_at(runs, n - 1), ret_next, size);
    if (n < all)
        json_object_array_del_idx(runs, n, all - n);
}

static void add_members(struct json_object *to, struct json_object *from)
{
    if (!from || !json_object_is_type(from, json_type_object))
        return;
    json_object_object_foreach(from, status, n)
        js_put_new(to, status,
                   json_object_new_int64(js_int(to, status, 0) + json_object_get_int64(n)));
}

static struct json_object *member(struct json_object *o, const char *name)
{
    struct json_object *v = js_get(o, name);
    if (!v) {
        v = json_object_new_object();
        js_put_new(o, name, v);
    }
    return v;
}

void gather_add(struct json_object *all, struct json_object *part)
{
    struct json_object *agents = js_get(part, "agents"), *to = member(all, "agents");
    add_members(member(all, "statuses"), js_get(part, "statuses"));
    if (!agents || !json_object_is_type(agents, json_type_object))
        return;
    json_object_object_foreach(agents, agent, counts) add_members(member(to, agent), counts);
}

static void add_part(struct gather *x, struct json_object *part)
{
    struct json_object *runs = js_get(part, "runs"), *to;
    x->any = true;
    if (x->counts) {
        gather_add(x->found, part);
        return;
    }
    to = js_get(x->found, "runs");
    for (size_t i = 0; i < js_length(runs); i++)
        js_push_new(to, json_object_get(js_at(runs, i)));
    x->more = x->more || js_get(part, "next");
}

/* ---- this node's part ---- */

/* False: answered with j->read.e. */
static bool own_part(struct gather *x)
{
    struct intset mine;
    struct json_object *part = NULL;
    struct view_progress p;
    struct err *e = &x->job.read.e;
    if (intset_copy(&mine, &x->want)) {
        err_set(e, -ENOMEM, "try again", "no memory for the request");
        return false;
    }
    view_keeps(x->view, &mine);
    x->q.partitions = x->own || strcmp(x->job.read.g->config->view, "all") != 0 ? &mine : NULL;
    int error =
        x->counts ? view_counts(x->view, &x->q, &part, e) : view_list(x->view, &x->q, &part, e);
    if (!error) {
        view_progress(x->view, &p);
        x->complete = x->complete && (p.complete || !intset_count(&mine));
        add_part(x, part);
        x->any = intset_count(&mine) > 0 || x->own;
        for (int i = 0; i < mine.n; i++)
            if (intset_has(&mine, i))
                intset_del(&x->want, i);
    }
    json_object_put(part);
    intset_free(&mine);
    return error == 0;
}

/* ---- the others' parts ---- */

static void avoid(struct gather *x, const char *base)
{
    char **v = realloc(x->avoid, (x->navoid + 2) * sizeof *v);
    if (!v)
        return;
    x->avoid = v;
    v[x->navoid] = strdup(base);
    x->navoid += v[x->navoid] != NULL;
    v[x->navoid] = NULL;
}

static void take(struct gather *x, struct asked *a)
{
    struct json_object *o = NULL, *missing;
    bool good = a->status == 200 && js_parse(buf_slice(&a->body), &o, NULL) == 0 &&
                json_object_is_type(o, json_type_object);
    if (a->status == 400 && !x->refused) {
        x->refused = a->status;
        buf_add_slice(&x->refusal, buf_slice(&a->body));
    }
    if (!good) {
        avoid(x, a->base);
        json_object_put(o);
        return;
    }
    missing = js_get(o, "missing");
    for (size_t i = 0; i < js_length(missing); i++)
        intset_del(&a->of, json_object_get_int(js_at(missing, i)));
    if (intset_count(&a->of)) {
        x->complete = x->complete && js_bool(o, "complete", false);
        add_part(x, o);
    }
    for (int i = 0; i < a->of.n; i++)
        if (intset_has(&a->of, i))
            intset_del(&x->want, i);
    json_object_put(o);
}

static void asked_free(struct gather *x)
{
    for (size_t i = 0; i < x->nasked; i++) {
        struct asked *a = &x->asked[i];
        if (a->req)
            http_cancel(a->req);
        free(a->base);
        intset_free(&a->of);
        buf_free(&a->body);
    }
    free(x->asked);
    x->asked = NULL;
    x->nasked = x->open = 0;
}

/* False: an error, which is answered. */
static bool make_questions(struct gather *x, struct kadmin *a)
{
    struct peer_plan plan;
    struct err *e = &x->job.read.e;
    bool anew = x->rounds++ > 0;
    int error =
        peers_plan(x->job.read.g, a, &x->want, (const char *const *)x->avoid, anew, &plan, e);
    x->some = x->some || plan.some;
    if (anew && !plan.n)
        x->rounds = ROUNDS; /* nobody, by what is known now */
    if (!error && plan.n && !(x->asked = calloc(plan.n, sizeof *x->asked)))
        error = err_set(e, -ENOMEM, "try again", "no memory for the request");
    for (size_t i = 0; !error && i < plan.n; i++) { /* the plan's parts are taken over */
        x->asked[i] = (struct asked){.x = x, .base = plan.v[i].base, .of = plan.v[i].of};
        plan.v[i] = (struct peer_ask){0};
        buf_init(&x->asked[i].body, BODY_MAX);
        x->nasked++;
    }
    peer_plan_free(&plan);
    return error == 0;
}

/* ---- the answer ---- */

static struct json_object *missing(const struct gather *x)
{
    struct json_object *v = json_object_new_array();
    for (int i = 0; i < x->want.n; i++)
        if (intset_has(&x->want, i))
            js_push_new(v, json_object_new_int(i));
    return v;
}

static void nobody(struct gather *x)
{
    struct api_job *j = &x->job;
    if (x->refused) {
        j->status = x->refused;
        j->type = "application/problem+json";
        buf_add_slice(&j->text, buf_slice(&x->refusal));
    } else if (x->some) {
        j->status = 503;
        j->later = true;
        j->o = api_problem(503, "ask again; GET /v1/group tells which nodes there are",
                           "the nodes that keep these runs did not answer");
    } else {
        j->status = 501;
        j->o = x->own ? api_problem(501, "leave `partitions` out: then the others are asked",
                                    "this node keeps no read model (view: none)")
                      : api_problem(501, "run a node with `view: all` or `view: owned`",
                                    "no node of the group keeps a read model that can be asked");
    }
}

static void finish(struct gather *x)
{
    struct api_job *j = &x->job;
    char next[CURSOR_MAX];
    if (!x->any) {
        nobody(x);
        return;
    }
    j->status = 200;
    j->o = x->found;
    x->found = NULL;
    if (!x->counts) {
        gather_sort(js_get(j->o, "runs"), x->q.limit, x->more, next, sizeof next);
        js_put(j->o, "next", next[0] ? json_object_new_string(next) : NULL);
    }
    js_put_new(j->o, "complete",
               json_object_new_boolean(x->complete && intset_count(&x->want) == 0));
    js_put_new(j->o, "missing", missing(x));
}

static bool wants_more(const struct gather *x)
{
    return !x->own && !x->refused && x->rounds < ROUNDS && intset_count(&x->want) > 0;
}

static void on_turn(struct api_job *j, struct kadmin *a)
{
    struct gather *x = LIST_ENTRY(j, struct gather, job);
    if (x->view && !x->rounds && !x->nasked && !own_part(x))
        return;
    for (size_t i = 0; i < x->nasked; i++)
        take(x, &x->asked[i]);
    asked_free(x);
    while (!x->nasked && wants_more(x))
        if (!make_questions(x, a))
            return;
    if (!x->nasked)
        finish(x);
}

/* ---- asking, in the loop's thread ---- */

static void did_not_answer(const struct asked *a, const char *why)
{
    struct gateway *g = a->x->job.read.g;
    int64_t now = loop_now(g->loop);
    if (g->unanswered_ms && now - g->unanswered_ms < TELL_MS)
        return;
    g->unanswered_ms = now;
    log_warn(g->log, "another node did not answer for its runs", "node=%s status=%d error=%s",
             log_q(a->base), a->status, log_q(why ? why : ""));
}

static void on_answer(void *arg, const struct http_result *r)
{
    struct asked *a = arg;
    struct gather *x = a->x;
    a->req = NULL;
    a->status = r->error ? 0 : r->status;
    if (a->status)
        buf_add_slice(&a->body, r->body);
    if (a->status != 200)
        did_not_answer(a, r->error_text);
    if (--x->open == 0) {
        x->job.read.c->cancel = NULL;
        api_job_again(&x->job);
    }
}

static void ask(struct asked *a, const char *url)
{
    struct gather *x = a->x;
    struct gateway *g = x->job.read.g;
    const struct http_header headers[] = {{SL("Authorization"), sl_str(x->authorization)}};
    struct http_spec s = {.method = SL("GET"),
                          .url = sl_str(url),
                          .headers = headers,
                          .nheaders = x->authorization ? 1 : 0,
                          .body_max = BODY_MAX,
                          .timeout_ms = ASK_MS,
                          .connect_timeout_ms = CONNECT_MS,
                          .ca = g->config->http_tls_ca};
    struct err e = {0};
    if (!g->client)
        g->client = http_new(g->loop, CLIENTS_MAX, NULL, NULL, &e);
    a->req = g->client ? http_start(g->client, &s, on_answer, a, &e) : NULL;
    if (a->req)
        x->open++;
    else
        did_not_answer(a, e.msg);
}

/* A set that is too long for one URL is asked for in part; the rest is missing, and the next
 * round's. */
static void question(struct asked *a)
{
    struct gather *x = a->x;
    struct buf b;
    buf_init(&b, 64 * 1024);
    buf_addf(&b, "%s/v1/%s?%.*spartitions=", a->base, x->counts ? "counts" : "runs",
             SL_ARG(buf_slice(&x->query)));
    int end = intset_write(&a->of, 0, SET_BYTES, &b);
    for (int i = end; i < a->of.n; i++)
        intset_del(&a->of, i);
    if (buf_error(&b) == 0)
        ask(a, b.p);
    buf_free(&b);
}

static void on_cancel(struct call *c)
{
    gather_drop(c->data);
    c->data = NULL;
}

static bool on_ready(struct api_job *j)
{
    struct gather *x = LIST_ENTRY(j, struct gather, job);
    struct call *c = j->read.c;
    if (!x->nasked)
        return true;
    if (!c->g->n) {
        api_job_set(j, 503, api_problem(503, "ask another node of the group", "this node stops"));
        j->later = true;
        return true;
    }
    c->data = x;
    c->cancel = on_cancel;
    x->open = 1; /* until all are asked */
    for (size_t i = 0; i < x->nasked; i++)
        question(&x->asked[i]);
    if (--x->open == 0) {
        c->cancel = NULL;
        api_job_again(j);
    }
    return false;
}

/* ---- life ---- */

static void release(struct api_job *j)
{
    struct gather *x = LIST_ENTRY(j, struct gather, job);
    asked_free(x);
    for (size_t i = 0; i < sizeof x->texts / sizeof *x->texts; i++)
        free(x->texts[i]);
    for (size_t i = 0; i < x->navoid; i++)
        free(x->avoid[i]);
    free(x->avoid);
    if (x->authorization)
        explicit_bzero(x->authorization, strlen(x->authorization));
    free(x->authorization);
    intset_free(&x->want);
    buf_free(&x->query);
    buf_free(&x->refusal);
    json_object_put(x->found);
}

void gather_drop(struct gather *x)
{
    x->job.release = release;
    api_job_drop(&x->job);
}

void gather_start(struct call *c, struct gather *x)
{
    const char *key = http_header(c->r, "Authorization");
    x->complete = true;
    x->some = x->view != NULL; /* its partitions are still to come */
    x->found = json_object_new_object();
    if (!x->counts)
        js_put_new(x->found, "runs", json_object_new_array());
    buf_init(&x->refusal, BODY_MAX);
    x->authorization = key ? strdup(key) : NULL;
    x->job.release = release;
    x->job.ready = on_ready;
    api_job_start(c, &x->job, on_turn);
}
