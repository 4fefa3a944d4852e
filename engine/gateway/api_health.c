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

static void readyz(struct call *c)
{
    const struct node *n = c->g->n;
    struct node_stats st = {0};
    struct json_object *o = json_object_new_object();
    bool broker = n && klog_up(node_klog(n)), agents = n && node_knows_agents(n);
    if (n)
        node_stats(n, &st);
    bool keys = keys_ring(c->g->keys) != NULL;
    bool owns = st.owned == st.assigned;
    bool ready = broker && agents && keys && owns && !c->g->quiet;
    add_bool(o, "ready", ready);
    add_bool(o, "log", broker);
    add_bool(o, "agents", agents);
    add_bool(o, "keys", keys);
    add_bool(o, "draining", c->g->quiet);
    js_put_new(o, "assigned", json_object_new_int(st.assigned));
    js_put_new(o, "owned", json_object_new_int(st.owned));
    http_answer_json(c->r, ready ? 200 : 503, NULL, o);
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
