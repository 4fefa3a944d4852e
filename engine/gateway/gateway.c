/* See gateway.h: opening and closing, and the way of a request to its handler. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/api_int.h"
#include "gateway/owners.h"
#include "gateway/peers.h"
#include "gateway/streams.h"
#include "gateway/tail.h"
#include "loop/http.h"

#define QUIET_MS 20

/* ---- calls ---- */

static void call_free(void *data)
{
    struct call *c = data;
    list_del(&c->node);
    c->g->ncalls--;
    for (size_t i = 0; i < ROUTE_ARGS_MAX; i++)
        free(c->args[i]);
    free(c);
}

static void no_route(struct http_request *r, int status, const char *allow)
{
    const struct http_field fields[] = {{"Allow", allow}, {NULL, NULL}};
    if (status == 405)
        http_problem(r, status, fields, "see /openapi.json", "%s is not allowed here; %s is",
                     http_method(r), allow);
    else if (status == 400)
        http_problem(r, status, NULL, "escape it as RFC 3986, section 2.1, says",
                     "the path has an escape that can't be decoded");
    else if (status == 404)
        http_problem(r, status, NULL, "/openapi.json describes every route", "there is no %s",
                     http_path(r));
    else
        http_problem(r, status, NULL, "try again", "no memory for the request");
}

static void on_request(void *arg, struct http_request *r)
{
    struct gateway *g = arg;
    struct call *c = calloc(1, sizeof *c);
    char allow[128];
    int status = 500;
    if (!c) {
        no_route(r, status, NULL);
        return;
    }
    c->g = g;
    c->r = r;
    list_init(&c->sends);
    c->route = route_find(http_method(r), http_path(r), c->args, &status, allow, sizeof allow);
    list_push(&g->calls, &c->node);
    g->ncalls++;
    http_set_data(r, c, call_free);
    if (!guard_call(c, allow))
        return;
    if (!c->route)
        no_route(r, status, allow);
    else if (!route_accepted(c->route, http_header(r, "Accept")))
        http_problem(r, 406, NULL, "leave Accept out, or accept what /openapi.json says",
                     "there is no answer of a type that the Accept field names");
    else if (g->quiet && c->route->scope != SCOPE_NONE)
        api_later(c, 503, "another node of the group takes it", "this node is shutting down");
    else
        c->route->fn(c);
}

/* ---- life ---- */

static void on_tick(struct loop_timer *t)
{
    struct gateway *g = LIST_ENTRY(t, struct gateway, tick);
    api_sends_tick(g);
    streams_tick(g);
    peers_tick(g);
    loop_timer_set(g->loop, t, loop_now(g->loop) + GATEWAY_TICK_MS);
}

static int read_listen(const char *text, char *host, size_t size, int *ret_port, struct err *e)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || colon == text || sl_i64(sl_str(colon + 1), &port) < 0 || port < 0 ||
        port > 65535 || (size_t)(colon - text) >= size)
        return err_set(e, -EINVAL, "as in 127.0.0.1:8274; port 0 picks a free one",
                       "http.listen: %s is not HOST:PORT", text);
    bool six = text[0] == '[';
    (void)snprintf(host, size, "%.*s", (int)(colon - text) - (six ? 2 : 0), text + six);
    *ret_port = (int)port;
    return 0;
}

static int open_http(struct gateway *g, struct err *e)
{
    char host[100];
    int port = 0, error = read_listen(g->o.listen, host, sizeof host, &port, e);
    if (error)
        return error;
    if ((error = guard_open(g, host, e)))
        return error;
    struct http_opts o = {.loop = g->loop,
                          .log = g->log,
                          .host = host,
                          .port = port,
                          .tls_cert = g->tls_cert,
                          .tls_key = g->tls_key ? secret_reveal(g->tls_key).p : NULL,
                          .body_max = (size_t)g->config->http_body_kib * 1024,
                          .connections_max = (unsigned)g->config->http_connections,
                          .streams_max = (unsigned)g->config->http_streams,
                          .idle_ms = g->config->http_idle_ms,
                          .request_ms = g->config->http_request_ms,
                          .fn = on_request,
                          .arg = g};
    g->http = http_server_new(&o, e);
    g->tls_key = secret_free(g->tls_key); /* the server has read it */
    if (!g->http)
        return e->code ? e->code : -EIO;
    (void)snprintf(g->address, sizeof g->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host,
                   http_server_port(g->http));
    return 0;
}

struct gateway *gateway_open(const struct gateway_opts *o, struct err *e)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (!g) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the gateway");
        return NULL;
    }
    g->o = *o;
    g->loop = o->loop;
    g->log = o->log;
    g->config = o->config;
    list_init(&g->calls);
    list_init(&g->key_watches);
    list_init(&g->sends);
    list_init(&g->streams);
    list_init(&g->admins);
    pthread_mutex_init(&g->lock, NULL);
    names_make(&g->names, o->config->group);
    if (!(g->owners = owners_new()) || !(g->tail = tail_new(g))) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the gateway");
        return gateway_free(g);
    }
    if (!(g->pool = pool_new(g->loop, GATEWAY_READERS, GATEWAY_READS_MAX, e)) || open_http(g, e) ||
        peers_open(g, e))
        return gateway_free(g);
    g->tick.fn = on_tick;
    loop_timer_set(g->loop, &g->tick, loop_now(g->loop) + GATEWAY_TICK_MS);
    return g;
}

int gateway_port(const struct gateway *g)
{
    return http_server_port(g->http);
}

bool gateway_tls(const struct gateway *g)
{
    return g->tls_cert != NULL;
}

const char *gateway_address(const struct gateway *g)
{
    return g->address;
}

/* Answers all that wait, since what they wait for does not come. */
static void cancel_all(struct gateway *g)
{
    struct list waiting, *l;
    list_init(&waiting);
    while ((l = list_pop(&g->calls)))
        list_push(&waiting, l);
    while ((l = list_pop(&waiting))) {
        struct call *c = LIST_ENTRY(l, struct call, node);
        list_push(&g->calls, l);
        if (!c->cancel)
            continue; /* a read, which ends by itself */
        c->cancel(c);
        c->cancel = NULL;
        api_later(c, 503, "ask again, here or at another node of the group",
                  "this node stops; what it was asked for may have been accepted");
    }
}

void gateway_node(struct gateway *g, struct node *n)
{
    if (!n) {
        cancel_all(g);
        streams_end(g);
        if (g->tail)
            tail_node(g->tail, false);
    }
    g->n = n;
    guard_node(g);
    if (n) {
        g->partitions = node_partitions(n);
        (void)snprintf(g->node_id, sizeof g->node_id, "%s", node_id(n));
        tail_node(g->tail, true);
    }
}

static void quiet_done(struct gateway *g)
{
    loop_timer_unset(&g->quiet_timer);
    void (*fn)(void *) = g->quiet_fn;
    g->quiet_fn = NULL;
    if (fn)
        fn(g->quiet_arg);
}

static void on_quiet(struct loop_timer *t)
{
    struct gateway *g = LIST_ENTRY(t, struct gateway, quiet_timer);
    if (!g->ncalls || loop_now(g->loop) >= g->quiet_until_ms)
        quiet_done(g);
    else
        loop_timer_set(g->loop, t, loop_now(g->loop) + QUIET_MS);
}

void gateway_quiesce(struct gateway *g, int64_t timeout_ms, void (*fn)(void *arg), void *arg)
{
    g->quiet = true;
    g->quiet_fn = fn;
    g->quiet_arg = arg;
    g->quiet_until_ms = loop_now(g->loop) + timeout_ms;
    g->quiet_timer.fn = on_quiet;
    http_server_quiesce(g->http);
    streams_end(g);
    loop_timer_set(g->loop, &g->quiet_timer, loop_now(g->loop));
}

struct gateway *gateway_free(struct gateway *g)
{
    if (!g)
        return NULL;
    loop_timer_unset(&g->quiet_timer);
    loop_timer_unset(&g->tick);
    gateway_node(g, NULL);
    g->pool = g->pool ? pool_free(g->pool) : NULL; /* reads under way answer their calls */
    http_server_free(g->http);                     /* streams end here */
    http_free(g->client);
    peers_free(g);
    g->tail = tail_free(g->tail);
    guard_free(g);
    api_sends_forget(g);
    pthread_mutex_destroy(&g->lock);
    owners_free(g->owners);
    struct list *l;
    while ((l = list_pop(&g->admins)))
        api_admin_free(l);
    free(g);
    return NULL;
}
