/* See defs.h: the table read and changed by the CLI, blocking. Whoever changes it reads it first;
 * two at once: the later record wins, and both definitions are kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "triggers/defs.h"

#define ADMIN_MS 15000

struct table {
    struct map agents; /* id -> json_object */
    struct map defs;   /* hash -> char *text */
};

static int on_record(void *arg, const struct krec *r)
{
    struct table *t = arg;
    void *old = NULL;
    struct json_object *o = NULL;
    if (!r->value.p)
        return 0;
    if (sl_starts(r->key, SL("agent/")) && js_parse(r->value, &o, NULL) == 0) {
        if (map_put(&t->agents, sl_from(r->key, 6), o, &old) < 0)
            json_object_put(o);
        json_object_put(old);
    } else if (sl_starts(r->key, SL("def/"))) {
        char *text = sl_dup(r->value);
        if (!text || map_put(&t->defs, sl_from(r->key, 4), text, &old) < 0)
            free(text);
        free(old);
    }
    return 0;
}

static int table_read(struct table *t, struct kadmin *a, const struct names *n, struct err *e)
{
    map_init(&t->agents);
    map_init(&t->defs);
    return kadmin_read(a, n->agents, 0, -2, -1, on_record, t, ADMIN_MS, e);
}

static void table_free(struct table *t)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&t->agents, &pos, &k, &v))
        json_object_put(v);
    pos = 0;
    while (map_next(&t->defs, &pos, &k, &v))
        free(v);
    map_free(&t->agents);
    map_free(&t->defs);
}

static int send(struct kadmin *a, const struct names *n, const char *prefix, const char *key,
                struct slice value, struct err *e)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", prefix, key);
    struct krec r = {.topic = sl_str(n->agents),
                     .partition = 0,
                     .time_ms = clock_wall_ms(),
                     .key = sl_str(full),
                     .value = value};
    return kadmin_send(a, &r, NULL, NULL, ADMIN_MS, e);
}

static int write_agent(struct kadmin *a, const struct names *n, const char *id,
                       struct json_object *o, struct err *e)
{
    struct buf b;
    buf_init(&b, 512 * 1024);
    int error = js_write(o, &b);
    if (!error)
        error = send(a, n, "agent/", id, buf_slice(&b), e);
    buf_free(&b);
    return error;
}

static void judge(struct json_object *old, const struct flow_info *fi, struct agents_change *c)
{
    const char *hash = js_str(old, "hash");
    if (!old)
        c->what = AGENT_CREATED;
    else if (hash && !strcmp(hash, fi->hash))
        c->what = js_bool(old, "active", false) ? AGENT_UNCHANGED : AGENT_ACTIVATED;
    else
        c->what = AGENT_UPDATED;
}

static int apply(struct kadmin *a, const struct names *n, struct table *t,
                 const struct flow_info *fi, bool force, bool dry_run, struct agents_change *c,
                 struct err *e)
{
    struct json_object *old = map_get(&t->agents, sl_str(c->id)), *o, *versions,
                       *known = js_get(old, "versions");
    const char *same = js_str(known, fi->version);
    bool ok;
    judge(old, fi, c);
    if (same && strcmp(same, fi->hash) && !force)
        return err_set(e, -EEXIST, "raise document.version, or use --force to replace it",
                       "%s:%s exists with another content", c->id, fi->version);
    if (dry_run || c->what == AGENT_UNCHANGED)
        return 0;
    if (!map_has(&t->defs, sl_str(fi->hash))) {
        int error = send(a, n, "def/", fi->hash, fi->text, e);
        if (error)
            return error;
    }
    o = json_object_new_object();
    versions = known ? js_copy(known, &ok) : json_object_new_object();
    json_object_object_add(versions, fi->version, json_object_new_string(fi->hash));
    json_object_object_add(o, "version", json_object_new_string(fi->version));
    json_object_object_add(o, "hash", json_object_new_string(fi->hash));
    json_object_object_add(o, "active", json_object_new_boolean(true));
    json_object_object_add(o, "title", fi->title ? json_object_new_string(fi->title) : NULL);
    json_object_object_add(o, "versions", versions);
    int error = write_agent(a, n, c->id, o, e);
    json_object_put(o);
    return error;
}

int agents_apply(struct kadmin *a, const struct names *n, const struct flow *f, bool force,
                 bool dry_run, struct agents_change *ret, struct err *e)
{
    const struct flow_info *fi = flow_info(f);
    struct table t;
    struct agents_change c = {0};
    snprintf(c.id, sizeof c.id, "%s/%s", fi->ns, fi->name);
    snprintf(c.version, sizeof c.version, "%s", fi->version);
    snprintf(c.hash, sizeof c.hash, "%s", fi->hash);
    int error = table_read(&t, a, n, e);
    if (!error)
        error = apply(a, n, &t, fi, force, dry_run, &c, e);
    table_free(&t);
    if (!error)
        *ret = c;
    return error;
}

static int not_found(struct table *t, struct slice id, struct err *e)
{
    const char **words = calloc(t->agents.n + 1, sizeof *words), *near = NULL;
    struct slice k;
    void *v;
    size_t pos = 0, n = 0;
    char hint[256] = "list them with `tidemark agents list`";
    while (words && map_next(&t->agents, &pos, &k, &v))
        words[n++] = sl_dup(k);
    if (words && (near = err_nearest(id, words)))
        snprintf(hint, sizeof hint, "did you mean %s? `tidemark agents list` lists them", near);
    for (size_t i = 0; i < n; i++)
        free((char *)words[i]);
    free(words);
    return err_set(e, -ENOENT, hint, "no agent \"%.*s\"", SL_ARG(id));
}

int agents_deactivate(struct kadmin *a, const struct names *n, const char *id,
                      struct agents_change *ret, struct err *e)
{
    struct table t;
    struct agents_change c = {.what = AGENT_DEACTIVATED};
    snprintf(c.id, sizeof c.id, "%s", id);
    int error = table_read(&t, a, n, e);
    struct json_object *o = error ? NULL : map_get(&t.agents, sl_str(id));
    if (!error && !o)
        error = not_found(&t, sl_str(id), e);
    if (!error && !js_bool(o, "active", false))
        c.what = AGENT_UNCHANGED;
    if (!error) {
        snprintf(c.version, sizeof c.version, "%s",
                 js_str(o, "version") ? js_str(o, "version") : "");
        snprintf(c.hash, sizeof c.hash, "%s", js_str(o, "hash") ? js_str(o, "hash") : "");
    }
    if (!error && c.what == AGENT_DEACTIVATED) {
        json_object_object_add(o, "active", json_object_new_boolean(false));
        error = write_agent(a, n, id, o, e);
    }
    table_free(&t);
    if (!error)
        *ret = c;
    return error;
}

static int by_agent(const void *a, const void *b)
{
    const char *x = js_str(*(struct json_object *const *)a, "agent"),
               *y = js_str(*(struct json_object *const *)b, "agent");
    return strcmp(x ? x : "", y ? y : "");
}

void agents_sort(struct json_object *list)
{
    json_object_array_sort(list, by_agent);
}

int agents_list(struct kadmin *a, const struct names *n, struct json_object **ret, struct err *e)
{
    struct table t;
    int error = table_read(&t, a, n, e);
    struct json_object *list = json_object_new_array();
    struct slice k;
    void *v;
    size_t pos = 0;
    while (!error && map_next(&t.agents, &pos, &k, &v)) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "agent", json_object_new_string_len(k.p, (int)k.n));
        json_object_object_foreach((struct json_object *)v, key, member)
        {
            json_object_object_add(o, key, json_object_get(member));
        }
        json_object_array_add(list, o);
    }
    table_free(&t);
    agents_sort(list);
    if (error)
        json_object_put(list);
    else
        *ret = list;
    return error;
}

int agents_text(struct kadmin *a, const struct names *n, const char *hash, struct buf *b,
                struct err *e)
{
    struct table t;
    int error = table_read(&t, a, n, e);
    const char *text = error ? NULL : map_get(&t.defs, sl_str(hash));
    if (!error && !text)
        error = err_set(e, -ENOENT, "list versions with `tidemark agents list`",
                        "no definition with hash %s", hash);
    if (!error)
        error = buf_adds(b, text);
    table_free(&t);
    return error;
}

int agents_find(struct kadmin *a, const struct names *n, const char *ref, char hash[FLOW_HASH_MAX],
                char id[2 * FLOW_NAME_MAX + 2], char version[64], struct err *e)
{
    struct table t;
    struct slice s = sl_str(ref), name = s, want = {NULL, 0};
    ptrdiff_t colon = sl_find(s, ':');
    if (colon >= 0) {
        name = sl(s.p, (size_t)colon);
        want = sl_from(s, (size_t)colon + 1);
    }
    int error = table_read(&t, a, n, e);
    struct json_object *o = error ? NULL : map_get(&t.agents, name);
    if (!error && !o)
        error = not_found(&t, name, e);
    if (!error) {
        char *v = want.p ? sl_dup(want) : NULL;
        const char *h = v ? js_str(js_get(o, "versions"), v) : js_str(o, "hash");
        if (!h)
            error = err_set(e, -ENOENT, "`tidemark agents show` lists its versions",
                            "%.*s has no version \"%s\"", SL_ARG(name), v ? v : "");
        else {
            snprintf(hash, FLOW_HASH_MAX, "%s", h);
            snprintf(id, 2 * FLOW_NAME_MAX + 2, "%.*s", SL_ARG(name));
            snprintf(version, 64, "%s", v ? v : js_str(o, "version"));
        }
        free(v);
    }
    table_free(&t);
    return error;
}
