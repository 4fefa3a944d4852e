/* References of a schema (schema_int.h): where they lead, whether a value ends them, and the
 * definitions of the prepared form. JSON Schema core, section 8.3 (draft 7); RFC 6901. Pure. */
#include <stdio.h>

#include "flow/schema_int.h"

#define CHAIN_MAX 500 /* schemas that judge one value, inside each other by reference */

/* %41 in a fragment is a byte. */
static char *decode(struct schema_reader *r, const char *s)
{
    char *out = arena_alloc(&r->mem, strlen(s) + 1), *to = out;
    while (out && *s) {
        unsigned c;
        if (*s == '%' && sscanf(s + 1, "%2x", &c) == 1 && c) {
            *to++ = (char)c;
            s += s[2] ? 3 : 2;
        } else {
            *to++ = *s++;
        }
    }
    return out;
}

static void lost(struct schema_reader *r, const struct snode *from, const char *path)
{
    const char *names[257];
    char hint[200];
    size_t n = 0;
    for (size_t i = 0; i < r->n && n < 256; i++)
        if (!strncmp(r->v[i].path, "/definitions/", 13) || !strncmp(r->v[i].path, "/$defs/", 7))
            names[n++] = r->v[i].path;
    names[n] = NULL;
    parse_bad(r->p, MEMBER(schema_value(from->at), "$ref"),
              parse_near(hint, sizeof hint, path, names,
                         "write it as '#/definitions/NAME', where NAME is a schema"),
              "#%.200s is no schema of this document", path);
}

static struct snode *target(struct schema_reader *r, const struct snode *from)
{
    char *path = decode(r, from->ref_path);
    size_t i = path ? (size_t)map_get(&r->by_path, sl_str(path)) : 0;
    if (!i)
        lost(r, from, path ? path : "");
    return i ? &r->v[i - 1] : NULL;
}

/* Each node's `made` keeps its place; what is referred to moves into a definition of its own. */
static void move_to_defs(struct schema_reader *r, struct snode *t, struct json_object *defs)
{
    char name[32], where[48];
    struct json_object *body = json_object_new_object();
    if (!body || !defs) {
        schema_put(r, defs, "", body);
        return;
    }
    t->def = json_object_object_length(defs);
    (void)snprintf(name, sizeof name, "%d", t->def);
    (void)snprintf(where, sizeof where, "#/definitions/%d", t->def);
    json_object_object_foreach(t->made, key, v)
    {
        schema_put(r, body, key, json_object_get(v));
    }
    json_object_object_foreach(body, moved, unused)
    {
        (void)unused;
        json_object_object_del(t->made, moved);
    }
    schema_put(r, t->made, "$ref", json_object_new_string(where));
    schema_put(r, defs, name, body);
}

/* True when judging a value by node i would come back to it without going into the value. */
static bool circle(struct schema_reader *r, size_t i, int depth)
{
    struct snode *s = &r->v[i];
    if (s->state == DONE)
        return false;
    if (s->state == ON_THE_WAY || depth > CHAIN_MAX) {
        parse_bad(r->p, s->at,
                  "a reference to the schema around it belongs into properties or items",
                  s->state == ON_THE_WAY ? "this schema refers to itself without end"
                                         : "more than %d schemas inside each other",
                  CHAIN_MAX);
        return true;
    }
    s->state = ON_THE_WAY;
    bool found = false;
    for (size_t e = s->edges; e && !found; e = r->edges[e - 1].next)
        found = circle(r, r->edges[e - 1].to, depth + 1);
    s->state = DONE;
    return found;
}

void schema_resolve(struct schema_reader *r, struct json_object *defs)
{
    for (size_t i = 0; i < r->n && !r->failed; i++) {
        struct snode *t = r->v[i].ref_path ? target(r, &r->v[i]) : NULL;
        char where[48];
        if (!t)
            continue;
        if (t->def < 0)
            move_to_defs(r, t, defs);
        if (r->failed) /* the holder may be gone with what could not be placed */
            return;
        (void)snprintf(where, sizeof where, "#/definitions/%d", t->def);
        schema_put(r, r->v[i].ref_holder, "$ref", json_object_new_string(where));
        schema_same(r, i, (size_t)(t - r->v));
    }
    for (size_t i = 0; i < r->n && !r->failed; i++)
        if (circle(r, i, 0))
            return;
}
