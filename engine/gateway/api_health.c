/* /healthz: the process serves. /readyz: it can take and do work. */
#include "gateway/api_int.h"
#include "gateway/keys.h"

static void healthz(struct call *c)
{
    http_answer_json(c->r, 200, NULL, json_object_new_object());
}

static void add_bool(struct json_object *o, const char *key, bool v)
{
    js_put_new(o, key, json_object_new_boolean(v));
}

struct health {
    bool log, agents, keys, quiet;
    int assigned, owned;
};

static struct health health_of(const struct gateway *g)
{
    struct health s = {.keys = keys_ring(g->keys) != NULL, .quiet = g->quiet};
    struct node_stats st = {0};
    if (!g->n)
        return s;
    node_stats(g->n, &st);
    s.log = klog_up(node_klog(g->n));
    s.agents = node_knows_agents(g->n);
    s.assigned = st.assigned;
    s.owned = st.owned;
    return s;
}

static bool is_ready(const struct health *s)
{
    return s->log && s->agents && s->keys && !s->quiet && s->owned == s->assigned;
}

bool gateway_ready(const struct gateway *g)
{
    struct health s = health_of(g);
    return is_ready(&s);
}

static void readyz(struct call *c)
{
    struct json_object *o = json_object_new_object();
    struct health s = health_of(c->g);
    add_bool(o, "ready", is_ready(&s));
    add_bool(o, "log", s.log);
    add_bool(o, "agents", s.agents);
    add_bool(o, "keys", s.keys);
    add_bool(o, "draining", s.quiet);
    js_put_new(o, "assigned", json_object_new_int(s.assigned));
    js_put_new(o, "owned", json_object_new_int(s.owned));
    http_answer_json(c->r, is_ready(&s) ? 200 : 503, NULL, o);
}

static const struct answer health_answers[] = {{200, "the process serves", "{\"type\":\"object\"}"},
                                               {0}};
#define FLAG "{\"type\":\"boolean\"}"
#define READY                                                                                      \
    "{\"type\":\"object\",\"required\":[\"ready\"],\"properties\":{\"ready\":" FLAG                \
    ",\"log\":" FLAG ",\"agents\":" FLAG ",\"keys\":" FLAG ",\"draining\":" FLAG                   \
    ",\"assigned\":{\"type\":\"integer\"},\"owned\":{\"type\":\"integer\"}}}"
static const struct answer ready_answers[] = {
    {200, "it takes work and does its part of it", READY},
    {503, "not yet, or not any more; the members say what is missing", READY},
    {0}};

const struct route routes_health[] = {
    {.method = "GET",
     .path = "/healthz",
     .scope = SCOPE_NONE,
     .fn = healthz,
     .id = "health",
     .tag = "node",
     .summary = "Whether the process serves",
     .answers = health_answers},
    {.method = "GET",
     .path = "/readyz",
     .scope = SCOPE_NONE,
     .fn = readyz,
     .id = "ready",
     .tag = "node",
     .summary = "Whether the node can take and do work",
     .answers = ready_answers},
    {.method = NULL},
};
