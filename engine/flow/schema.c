/* See schema.h. Walks the document once, checks each keyword (schema_words.c) and builds the
 * prepared form; then references are resolved (schema_refs.c). */
#include "flow/schema.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "flow/evalpool.h"
#include "flow/schema_int.h"
#include "flow/tmpl_int.h"

#define MEM_MAX (16u << 20)
#define NONE    SIZE_MAX

struct building {
    struct schema_reader *r;
    struct json_object *o, *made, *leaf;
    size_t node;
    const char *path;
};

static size_t read_node(struct schema_reader *r, struct spot at, const char *path);

struct json_object *schema_value(struct spot at)
{
    return at.key ? js_get(at.parent, at.key)
           : json_object_is_type(at.parent, json_type_array)
               ? json_object_array_get_idx(at.parent, at.index)
               : at.parent;
}

static size_t too_large(struct schema_reader *r, struct spot at)
{
    if (!r->failed)
        parse_bad(r->p, at, "split it, or describe less",
                  "the schema is too large: at most %d parts", SCHEMA_NODES_MAX);
    r->failed = true;
    return NONE;
}

static void no_memory(struct schema_reader *r)
{
    if (!r->failed && r->p->d->errors == r->before)
        parse_bad(r->p, (struct spot){r->root, NULL, 0}, "give the process more memory",
                  "no memory for a schema");
    r->failed = true;
}

void schema_put(struct schema_reader *r, struct json_object *o, const char *key,
                struct json_object *v)
{
    if ((v || r->p->d->errors == r->before) && js_put_new(o, key, v))
        no_memory(r);
}

void schema_push(struct schema_reader *r, struct json_object *list, struct json_object *v)
{
    if ((v || r->p->d->errors == r->before) && js_push_new(list, v))
        no_memory(r);
}

const char *schema_path(struct schema_reader *r, const char *path, const char *segment)
{
    struct buf b;
    buf_init(&b, MEM_MAX);
    for (const char *s = segment; *s; s++)
        *s == '~' ? buf_adds(&b, "~0") : *s == '/' ? buf_adds(&b, "~1") : buf_addc(&b, *s);
    const char *out =
        buf_error(&b) ? NULL : arena_printf(&r->mem, "%s/%.*s", path, (int)b.n, b.p ? b.p : "");
    buf_free(&b);
    if (!out)
        too_large(r, (struct spot){r->root, NULL, 0});
    return out ? out : "";
}

static size_t new_node(struct schema_reader *r, struct spot at, const char *path)
{
    if (r->n == SCHEMA_NODES_MAX || r->failed)
        return too_large(r, at);
    if (r->n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct snode *v = realloc(r->v, cap * sizeof *v);
        if (!v)
            return too_large(r, at);
        r->v = v;
        r->cap = cap;
    }
    struct json_object *made = json_object_new_object();
    if (!made || map_put(&r->by_path, sl_str(path), (void *)(r->n + 1), NULL) < 0) {
        json_object_put(made);
        return too_large(r, at);
    }
    r->v[r->n] = (struct snode){.path = path, .at = at, .made = made, .def = -1};
    return r->n++;
}

void schema_same(struct schema_reader *r, size_t from, size_t to)
{
    if (r->nedges == r->cap_edges) {
        size_t cap = r->cap_edges ? 2 * r->cap_edges : 64;
        struct sedge *v = realloc(r->edges, cap * sizeof *v);
        if (!v) {
            too_large(r, r->v[from].at);
            return;
        }
        r->edges = v;
        r->cap_edges = cap;
    }
    r->edges[r->nedges] = (struct sedge){to, r->v[from].edges};
    r->v[from].edges = ++r->nedges;
}

/* The schema at `at` as a part of b, owned by the caller; NULL when it is wrong. */
static struct json_object *part(struct schema_reader *r, struct building *b, struct spot at,
                                const char *path, bool same)
{
    size_t i = read_node(r, at, path);
    if (i == NONE)
        return NULL;
    if (same)
        schema_same(r, b->node, i);
    return r->v[i].made;
}

static struct json_object *part_list(struct schema_reader *r, struct building *b, const char *key,
                                     bool same)
{
    struct json_object *v = js_get(b->o, key), *list = json_object_new_array();
    const char *path = schema_path(r, b->path, key);
    if (!json_object_array_length(v) && same)
        parse_bad(r->p, MEMBER(b->o, key), "a list of schemas", "%s is an empty list", key);
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        char step[24];
        (void)snprintf(step, sizeof step, "%zu", i);
        schema_push(r, list, part(r, b, ELEMENT(v, i), schema_path(r, path, step), same));
    }
    return list;
}

static struct json_object *part_map(struct schema_reader *r, struct building *b, const char *key,
                                    bool same)
{
    struct json_object *v = js_get(b->o, key), *map = json_object_new_object();
    const char *path = schema_path(r, b->path, key);
    json_object_object_foreach(v, name, unused)
    {
        (void)unused;
        schema_put(r, map, name, part(r, b, MEMBER(v, name), schema_path(r, path, name), same));
    }
    return map;
}

/* ---- keywords that are prepared in a way of their own ---- */

/* One more schema in the prepared allOf. */
static void add_to_all(struct building *b, struct json_object *schema)
{
    struct json_object *list = js_get(b->made, "allOf");
    if (!list)
        schema_put(b->r, b->made, "allOf", list = json_object_new_array());
    if (b->r->failed)
        list = NULL;
    schema_push(b->r, list, schema);
}

static void ref(struct schema_reader *r, struct building *b, const char *key)
{
    const char *s = js_str(b->o, key);
    struct spot at = MEMBER(b->o, key);
    if (s[0] != '#') {
        parse_bad(r->p, at, "put that schema into definitions and write $ref: '#/definitions/NAME'",
                  "schemas outside of the document are not fetched");
        return;
    }
    if (s[1] && s[1] != '/') {
        parse_bad(r->p, at, "refer by place: $ref: '#/definitions/NAME'",
                  "references to an anchor are not supported");
        return;
    }
    json_object_object_foreach(b->o, other, unused)
    {
        (void)unused;
        const struct word *w = word_find(other);
        if (!r->newer && w && w->kind != WORD_NOTE && strcmp(other, "$ref") &&
            strcmp(other, "definitions") && strcmp(other, "$defs"))
            parse_bad_key(r->p, b->o, other, "write allOf: [{$ref: ...}] for the reference",
                          "draft 7 ignores %s beside $ref", other);
    }
    struct json_object *holder = json_object_new_object();
    r->v[b->node].ref_path = s + 1;
    r->v[b->node].ref_holder = holder;
    add_to_all(b, holder);
}

static void items(struct schema_reader *r, struct building *b, const char *key)
{
    struct json_object *v = js_get(b->o, key);
    bool list = json_object_is_type(v, json_type_array);
    if (list && r->newer)
        parse_bad_key(r->p, b->o, key, "2020-12 writes prefixItems for a list of schemas",
                      "items can't be a list here");
    else if (list)
        schema_put(r, b->made, "items", part_list(r, b, key, false));
    else /* behind prefixItems, which is `items` to draft 7, it is the rest */
        schema_put(r, b->made,
                   js_get(b->o, "prefixItems") && r->newer ? "additionalItems" : "items",
                   part(r, b, MEMBER(b->o, key), schema_path(r, b->path, key), false));
}

static void prefix_items(struct schema_reader *r, struct building *b, const char *key)
{
    schema_put(r, b->made, "items", part_list(r, b, key, false));
}

/* The library says nothing about a name that does not fit, and mixes this schema up with the one
 * around it where that is referred to. */
static void property_names(struct schema_reader *r, struct building *b, const char *key)
{
    struct json_object *inner = json_object_new_object(), *cond = json_object_new_object(),
                       *no = json_object_new_object();
    schema_put(r, inner, key, part(r, b, MEMBER(b->o, key), schema_path(r, b->path, key), false));
    schema_put(r, no, SCHEMA_LEAF, json_object_new_string("{\"never\":\"propertyNames\"}"));
    schema_put(r, cond, "if", inner);
    schema_put(r, cond, "else", no);
    add_to_all(b, cond);
}

static void add_dependency(struct building *b, const char *name, struct json_object *v)
{
    struct json_object *all = js_get(b->made, "dependencies");
    if (!all)
        schema_put(b->r, b->made, "dependencies", all = json_object_new_object());
    if (b->r->failed) {
        json_object_put(v);
        return;
    }
    if (json_object_object_get_ex(all, name, NULL)) { /* of both newer keywords */
        struct json_object *one = json_object_new_object(), *map = json_object_new_object();
        schema_put(b->r, map, name, v);
        schema_put(b->r, one, "dependencies", map);
        add_to_all(b, one);
        return;
    }
    schema_put(b->r, all, name, v);
}

static void dependencies(struct schema_reader *r, struct building *b, const char *key)
{
    struct json_object *v = js_get(b->o, key);
    const char *path = schema_path(r, b->path, key);
    json_object_object_foreach(v, name, value)
    {
        if (!json_object_is_type(value, json_type_array) || !strcmp(key, "dependentSchemas")) {
            add_dependency(b, name, part(r, b, MEMBER(v, name), schema_path(r, path, name), true));
            continue;
        }
        for (size_t i = 0; i < json_object_array_length(value); i++)
            if (!json_object_is_type(json_object_array_get_idx(value, i), json_type_string))
                parse_bad(r->p, ELEMENT(value, i), "{card: [address]}",
                          "a list of property names is needed");
        add_dependency(b, name, json_object_get(value));
    }
}

/* Read, so that what is wrong in them is told; only those that are referred to get into the
 * prepared schema. */
static void definitions(struct schema_reader *r, struct building *b, const char *key)
{
    schema_push(r, r->kept, part_map(r, b, key, false));
}

static const struct {
    const char *name;
    void (*prepare)(struct schema_reader *r, struct building *b, const char *key);
} own[] = {{"$ref", ref},
           {"items", items},
           {"prefixItems", prefix_items},
           {"propertyNames", property_names},
           {"dependencies", dependencies},
           {"dependentRequired", dependencies},
           {"dependentSchemas", dependencies},
           {"definitions", definitions},
           {"$defs", definitions}};

static void prepare(struct schema_reader *r, struct building *b, const char *key,
                    struct json_object *v)
{
    const struct word *w = word_find(key);
    bool same = w && w->flags & WORD_SAME;
    if (!w || w->kind == WORD_NOTE)
        return;
    for (size_t i = 0; w->kind == WORD_OWN && i < sizeof own / sizeof *own; i++)
        if (!strcmp(own[i].name, key))
            own[i].prepare(r, b, key);
    if (w->kind == WORD_LEAF) {
        schema_put(r, b->leaf, key, json_object_get(v));
    } else if (w->kind == WORD_KEEP) {
        if (js_put(b->made, key, json_object_get(v))) /* null is a value here */
            no_memory(r);
    } else if (w->kind == WORD_ONE) {
        schema_put(r, b->made, key,
                   part(r, b, MEMBER(b->o, key), schema_path(r, b->path, key), same));
    } else if (w->kind == WORD_MAP) {
        schema_put(r, b->made, key, part_map(r, b, key, same));
    } else if (w->kind == WORD_LIST) {
        struct json_object *list = part_list(r, b, key, same), *made = js_get(b->made, key);
        for (size_t i = 0; made && i < json_object_array_length(list); i++)
            schema_push(r, made, json_object_get(json_object_array_get_idx(list, i)));
        if (made)
            json_object_put(list);
        else
            schema_put(r, b->made, key, list);
    }
}

/* ---- one schema ---- */

/* Patterns are compiled by the shim too, so that a wrong one is told when the schema is compiled.
 */
static void add_patterns(struct building *b)
{
    struct json_object *v = js_get(b->o, "patternProperties"), *list;
    if (!json_object_is_type(v, json_type_object))
        return;
    schema_put(b->r, b->leaf, "names", list = json_object_new_array());
    if (b->r->failed)
        return;
    json_object_object_foreach(v, name, unused)
    {
        (void)unused;
        schema_push(b->r, list, json_object_new_string(name));
    }
}

static void set_leaf(struct schema_reader *r, struct building *b)
{
    struct buf t;
    buf_init(&t, SCHEMA_BYTES_MAX);
    schema_put(r, b->leaf, "at", json_object_new_string(b->path));
    js_write(b->leaf, &t);
    if (buf_error(&t))
        too_large(r, r->v[b->node].at);
    else
        schema_put(r, b->made, SCHEMA_LEAF, json_object_new_string_len(t.p, (int)t.n));
    buf_free(&t);
}

/* The node's index; its `made` is the caller's to place (or NONE, with the problem told). */
static size_t read_node(struct schema_reader *r, struct spot at, const char *path)
{
    struct json_object *o = schema_value(at);
    if (!json_object_is_type(o, json_type_object) && !json_object_is_type(o, json_type_boolean)) {
        parse_bad(r->p, at, "such as {type: string}, true or false",
                  "a schema is a mapping, true or false, but this is %s", js_kind(o));
        return NONE;
    }
    size_t i = new_node(r, at, path);
    if (i == NONE)
        return NONE;
    struct building b = {r, o, r->v[i].made, json_object_new_object(), i, path};
    if (json_object_is_type(o, json_type_boolean)) {
        if (!json_object_get_boolean(o))
            schema_put(r, b.leaf, "never", json_object_new_string("false"));
    } else {
        json_object_object_foreach(o, key, v)
        {
            if (word_ok(r, o, key))
                prepare(r, &b, key, v);
        }
        add_patterns(&b);
    }
    set_leaf(r, &b);
    json_object_put(b.leaf);
    return i;
}

static bool is_newer(struct json_object *root)
{
    const char *s = js_str(root, "$schema");
    return s && (strstr(s, "draft/2019-09") || strstr(s, "draft/2020-12"));
}

/* ---- the whole ---- */

static struct json_object *read_all(struct schema_reader *r, struct spot at)
{
    struct json_object *root = json_object_new_object(), *all = json_object_new_array(),
                       *defs = json_object_new_object();
    size_t i = read_node(r, at, "");
    schema_put(r, root, "allOf", all);
    schema_put(r, root, "definitions", defs);
    if (i != NONE && !r->failed)
        schema_push(r, all, r->v[i].made);
    else if (i != NONE)
        json_object_put(r->v[i].made);
    if (i != NONE && !r->failed)
        schema_resolve(r, defs);
    return root;
}

/* The message of a child may begin with the place in the document. */
static void tell_child(struct schema_reader *r, struct spot at, const struct err *e)
{
    const char *cut = strchr(e->msg, '\n');
    struct slice path = sl(e->msg, cut ? (size_t)(cut - e->msg) : 0);
    size_t i = (size_t)map_get(&r->by_path, path);
    if (cut && i)
        at = r->v[i - 1].at;
    parse_bad(r->p, at, e->hint[0] ? e->hint : "simplify it", "%s", cut ? cut + 1 : e->msg);
}

struct tmpl *schema_compile(const struct ydoc *y, struct json_object *parent, const char *key,
                            bool deep, struct diags *d)
{
    struct parser p = {.y = y, .d = d};
    struct schema_reader r = {.p = &p};
    struct spot at = {parent, key, 0};
    struct tmpl *t = NULL;
    struct err e = {0};
    r.before = d->errors;
    r.root = schema_value(at);
    r.newer = is_newer(r.root);
    r.kept = json_object_new_array();
    arena_init(&r.mem, MEM_MAX);
    map_init(&r.by_path);
    struct json_object *made = read_all(&r, at);
    if (d->errors == r.before && !(t = tmpl_schema(made, &e)))
        parse_bad(&p, at, e.hint, "%s", e.msg);
    if (t && deep && evalpool_check_schema(t, &e) < 0) {
        tell_child(&r, at, &e);
        t = tmpl_free(t);
    }
    json_object_put(made);
    json_object_put(r.kept);
    map_free(&r.by_path);
    arena_free(&r.mem);
    free(r.edges);
    free(r.v);
    return t;
}

void schema_explain(struct json_object *problems, struct buf *b)
{
    for (size_t i = 0; i < json_object_array_length(problems); i++) {
        struct json_object *x = json_object_array_get_idx(problems, i);
        const char *pointer = js_str(x, "pointer"), *message = js_str(x, "message");
        if (i)
            buf_adds(b, "; ");
        if (pointer && *pointer)
            buf_addf(b, "%s: ", pointer);
        buf_adds(b, message ? message : "does not match");
    }
}
