/* See defs.h: the followed table. agents_*: defs_admin.c. */
#include "triggers/defs.h"

#include <errno.h>
#include <stdlib.h>

struct defs {
    struct klog *klog;
    struct log *log;
    char topic[NAME_MAX_BYTES + 1];
    struct map flows;  /* hash -> struct flow */
    struct map agents; /* id -> struct agent */
    struct kread *read;
    struct loop_timer retry;
    struct loop *loop;
    int64_t version; /* next offset */
    bool ready;
    void (*on_change)(void *arg);
    void *arg;
};

static void agent_free(struct agent *a)
{
    free(a->id);
    free(a->version);
    flow_unref(a->flow);
    json_object_put(a->record);
    free(a);
}

static void set_flow(struct defs *d, const char *hash, struct slice text)
{
    struct flow *f = NULL;
    struct err e = {0};
    if (map_has(&d->flows, sl_str(hash)))
        return;
    if (flow_from_text(text, &f, &e) < 0) {
        log_error(d->log, "definition can't be read", "hash=%s error=%s", hash, log_q(e.msg));
        return;
    }
    if (strcmp(flow_info(f)->hash, hash)) {
        log_error(d->log, "definition does not have the hash it is stored under", "hash=%s", hash);
        flow_unref(f);
        return;
    }
    if (map_put(&d->flows, sl_str(hash), f, NULL) < 0)
        flow_unref(f);
}

static void set_agent(struct defs *d, const char *id, struct slice text)
{
    struct json_object *o = NULL;
    struct agent *a = map_get(&d->agents, sl_str(id));
    if (js_parse(text, &o, NULL) < 0 || !js_str(o, "hash") || !js_str(o, "version")) {
        log_error(d->log, "agent record can't be read", "agent=%s", log_q(id));
        json_object_put(o);
        return;
    }
    if (!a) {
        a = calloc(1, sizeof *a);
        if (!a || !(a->id = strdup(id)) || map_put(&d->agents, sl_str(id), a, NULL) < 0) {
            json_object_put(o);
            return;
        }
    }
    free(a->version);
    a->version = strdup(js_str(o, "version"));
    snprintf(a->hash, sizeof a->hash, "%s", js_str(o, "hash"));
    a->active = js_bool(o, "active", false);
    flow_unref(a->flow);
    a->flow = flow_ref(map_get(&d->flows, sl_str(a->hash)));
    if (!a->flow)
        log_error(d->log, "agent names a definition that is not in the topic", "agent=%s hash=%s",
                  log_q(id), a->hash);
    json_object_put(a->record);
    a->record = o;
}

static void on_record(void *arg, const struct krec *r)
{
    struct defs *d = arg;
    char *key = sl_dup(r->key);
    d->version = r->offset + 1;
    if (key && r->value.p) {
        if (!strncmp(key, "def/", 4))
            set_flow(d, key + 4, r->value);
        else if (!strncmp(key, "agent/", 6))
            set_agent(d, key + 6, r->value);
    }
    free(key);
    if (d->ready && d->on_change)
        d->on_change(d->arg);
}

static void start(struct defs *d);

static void on_end(void *arg, int error)
{
    struct defs *d = arg;
    d->read = NULL; /* a reader ends with its `done` */
    if (error) {
        log_warn(d->log, "agents topic can't be read, trying again", "topic=%s error=%s", d->topic,
                 strerror(-error));
        loop_timer_set(d->loop, &d->retry, loop_now(d->loop) + 1000);
        return;
    }
    if (!d->ready) {
        d->ready = true;
        if (d->on_change)
            d->on_change(d->arg);
    }
    start(d);
}

static void start(struct defs *d)
{
    struct err e = {0};
    int64_t from = d->version ? d->version : -2;
    d->read = kread_start(d->klog, d->topic, 0, from, d->ready ? INT64_MAX : -1, on_record, on_end,
                          d, &e);
    if (!d->read)
        loop_timer_set(d->loop, &d->retry, loop_now(d->loop) + 1000);
}

static void on_retry(struct loop_timer *t)
{
    start(LIST_ENTRY(t, struct defs, retry));
}

struct defs *defs_new(struct klog *k, const struct names *n, struct log *log,
                      void (*on_change)(void *arg), void *arg, struct err *e)
{
    struct defs *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, -ENOMEM, NULL, "no memory");
        return NULL;
    }
    d->klog = k;
    d->log = log;
    d->loop = klog_loop(k);
    snprintf(d->topic, sizeof d->topic, "%s", n->agents);
    map_init(&d->flows);
    map_init(&d->agents);
    d->retry.fn = on_retry;
    d->on_change = on_change;
    d->arg = arg;
    start(d);
    return d;
}

struct defs *defs_free(struct defs *d)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    if (!d)
        return NULL;
    if (d->read)
        kread_stop(d->read);
    loop_timer_unset(&d->retry);
    while (map_next(&d->agents, &pos, &k, &v))
        agent_free(v);
    pos = 0;
    while (map_next(&d->flows, &pos, &k, &v))
        flow_unref(v);
    map_free(&d->agents);
    map_free(&d->flows);
    free(d);
    return NULL;
}

bool defs_ready(const struct defs *d)
{
    return d->ready;
}

int64_t defs_version(const struct defs *d)
{
    return d->version;
}

struct flow *defs_flow(const struct defs *d, const char *hash)
{
    return hash ? map_get(&d->flows, sl_str(hash)) : NULL;
}

const struct agent *defs_agent(const struct defs *d, const char *id)
{
    return map_get(&d->agents, sl_str(id));
}

bool defs_next(const struct defs *d, size_t *pos, const struct agent **ret)
{
    struct slice k;
    void *v;
    if (!map_next(&d->agents, pos, &k, &v))
        return false;
    *ret = v;
    return true;
}
