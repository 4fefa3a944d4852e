/* What stands between a request and its route: pages of other sites (CORS), OPTIONS, API keys. The
 * loop's thread; only gateway_may_start blocks, before there is a node. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/api_int.h"
#include "gateway/tls.h"

#define PREFLIGHT_S "600" /* a browser may remember the answer of OPTIONS */
#define HEADERS_MAX 1024  /* bytes of Access-Control-Request-Headers */
#define EXPOSED     "Location, Retry-After, WWW-Authenticate, Link"

/* ---- opening ---- */

int guard_open(struct gateway *g, const char *host, struct err *e)
{
    struct auth_opts o = {.log = g->log,
                          .loopback = auth_is_loopback(host),
                          .insecure = g->o.insecure,
                          .tls = g->config->http_tls_cert != NULL,
                          .origins = (const char *const *)g->config->http_cors};
    int error = tls_read(g->config, g->log, &g->tls_cert, &g->tls_key, e);
    if (error)
        return error;
    g->loopback = o.loopback;
    if (!(g->auth = auth_new(&o)))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the gateway");
    return 0;
}

int gateway_may_start(struct gateway *g, struct err *e)
{
    bool any = false;
    if (g->loopback || g->o.insecure)
        return 0;
    struct kadmin *a = kadmin_new(g->config, e);
    int error = a ? keyadmin_any(a, &g->names, &any, e) : -EIO;
    kadmin_free(a);
    if (!error && !any)
        error = err_set(e, -EACCES,
                        "make one: `tidemark keys create NAME --scope ...`; or listen on 127.0.0.1 "
                        "(http.listen); or say --insecure",
                        "%s is no loopback address, and the group %s has no API key: everyone who "
                        "reaches it could do everything",
                        g->address, g->config->group);
    else if (error == -EACCES) /* of the brokers: waiting may mend it, as for the node */
        e->code = error = -EIO;
    return error;
}

static void on_keys(void *arg)
{
    struct gateway *g = arg;
    LIST_EACH(n, &g->key_watches)
    {
        struct key_watch *w = LIST_ENTRY(n, struct key_watch, node);
        w->fn(w);
    }
}

void guard_node(struct gateway *g)
{
    struct err e = {0};
    g->keys = keys_free(g->keys);
    if (g->n && !(g->keys = keys_new(node_klog(g->n), &g->names, g->log, on_keys, g, &e)))
        log_error(g->log, "requests are refused: the API keys can't be read", "error=%s hint=%s",
                  log_q(e.msg), log_q(e.hint));
}

void guard_free(struct gateway *g)
{
    g->keys = keys_free(g->keys);
    g->auth = auth_free(g->auth);
    free(g->tls_cert);
    g->tls_cert = NULL;
    g->tls_key = secret_free(g->tls_key);
}

/* ---- pages of other sites ---- */

static void add_cors(struct call *c, const char *origin)
{
    http_add_field(c->r, "Vary", "Origin");
    if (!origin || !auth_origin_listed(c->g->auth, origin))
        return;
    http_add_field(c->r, "Access-Control-Allow-Origin", origin);
    http_add_field(c->r, "Access-Control-Expose-Headers", EXPOSED);
}

/* Names of headers and commas; anything else is not sent back. */
static bool is_list(const char *text)
{
    size_t n = strlen(text);
    return n && n <= HEADERS_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ") == n;
}

/* OPTIONS, from a browser before it sends a page's request (fetch.spec, CORS-preflight) or from
 * anyone who asks what is allowed. It needs no key: browsers send none with it. */
static void answer_options(struct call *c, const char *origin, const char *allow)
{
    const char *wanted = http_header(c->r, "Access-Control-Request-Headers");
    struct http_field fields[6] = {{"Allow", *allow ? allow : NULL}};
    size_t n = 1;
    if (!*allow && strcmp(http_path(c->r), "*") != 0) {
        http_problem(c->r, 404, NULL, "/openapi.json describes every route", "there is no %s",
                     http_path(c->r));
        return;
    }
    if (origin && auth_origin_listed(c->g->auth, origin)) {
        fields[n++] = (struct http_field){"Access-Control-Allow-Methods", allow};
        fields[n++] = (struct http_field){"Access-Control-Max-Age", PREFLIGHT_S};
        if (wanted && is_list(wanted))
            fields[n++] = (struct http_field){"Access-Control-Allow-Headers", wanted};
    }
    fields[n] = (struct http_field){NULL, NULL};
    http_answer(c->r, 204, fields, SL(""));
}

/* ---- a request ---- */

bool guard_call(struct call *c, const char *allow)
{
    struct gateway *g = c->g;
    const char *origin = http_header(c->r, "Origin");
    if (g->config->http_cors)
        add_cors(c, origin);
    if (!strcmp(http_method(c->r), "OPTIONS")) {
        answer_options(c, origin, allow);
        return false;
    }
    unsigned any_of = !c->route                       ? AUTH_ANY_KEY
                      : c->route->scope == SCOPE_NONE ? 0
                                                      : 1u << c->route->scope;
    return !auth_check(g->auth, keys_ring(g->keys), c->r, any_of, loop_now(g->loop),
                       loop_wall(g->loop), &c->who);
}

void guard_watch(struct gateway *g, struct key_watch *w)
{
    list_push(&g->key_watches, &w->node);
}

void guard_unwatch(struct key_watch *w)
{
    if (w->node.next)
        list_del(&w->node);
}

bool guard_still(struct gateway *g, const struct auth_who *who, enum scope scope)
{
    return auth_still(g->auth, keys_ring(g->keys), who, scope ? 1u << scope : 0,
                      loop_wall(g->loop));
}
