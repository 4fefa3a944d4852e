/* Comparing, copying and asking json-c trees. One thread owns a tree. Recursion is bounded by
 * TREE_DEPTH_MAX, since trees that were computed can be deeper than any that was read. */
#include <errno.h>

#include "base/js.h"

#define TREE_DEPTH_MAX 4096

static bool equal(struct json_object *a, struct json_object *b, int depth);

static bool equal_objects(struct json_object *a, struct json_object *b, int depth)
{
    if (json_object_object_length(a) != json_object_object_length(b))
        return false;
    for (struct lh_entry *m = json_object_get_object(a)->head; m; m = m->next) {
        struct json_object *other;
        if (!json_object_object_get_ex(b, lh_entry_k(m), &other) ||
            !equal((struct json_object *)lh_entry_v(m), other, depth + 1))
            return false;
    }
    return true;
}

static double number(struct json_object *o)
{
    if (json_object_get_type(o) == json_type_double)
        return json_object_get_double(o);
    int64_t i = json_object_get_int64(o);
    return i < 0 ? (double)i : (double)json_object_get_uint64(o);
}

static bool is_number(enum json_type t)
{
    return t == json_type_int || t == json_type_double;
}

static bool equal(struct json_object *a, struct json_object *b, int depth)
{
    if (a == b)
        return true;
    if (depth > TREE_DEPTH_MAX)
        return false;
    enum json_type t = json_object_get_type(a), u = json_object_get_type(b);
    /* jq knows doubles only, so large integers that meet in a double are equal there too. */
    if (is_number(t) && is_number(u))
        return number(a) == number(b);
    if (t != u)
        return false;
    switch (t) {
    case json_type_boolean:
        return json_object_get_boolean(a) == json_object_get_boolean(b);
    case json_type_string:
        return sl_eq(sl(json_object_get_string(a), (size_t)json_object_get_string_len(a)),
                     sl(json_object_get_string(b), (size_t)json_object_get_string_len(b)));
    case json_type_array: {
        size_t n = json_object_array_length(a);
        if (n != json_object_array_length(b))
            return false;
        for (size_t i = 0; i < n; i++)
            if (!equal(json_object_array_get_idx(a, i), json_object_array_get_idx(b, i), depth + 1))
                return false;
        return true;
    }
    case json_type_object:
        return equal_objects(a, b, depth);
    default:
        return true; /* null: numbers were compared above */
    }
}

bool js_equal(struct json_object *a, struct json_object *b)
{
    return equal(a, b, 0);
}

static struct json_object *copy(struct json_object *o, bool *ok, int depth)
{
    struct json_object *c = NULL;
    enum json_type t = json_object_get_type(o);
    if (depth > TREE_DEPTH_MAX) {
        *ok = false;
        return NULL;
    }
    if (t == json_type_null)
        return NULL;
    if (t == json_type_boolean)
        c = json_object_new_boolean(json_object_get_boolean(o));
    else if (t == json_type_double)
        c = json_object_new_double(json_object_get_double(o));
    else if (t == json_type_int)
        c = json_object_get_uint64(o) > INT64_MAX
                ? json_object_new_uint64(json_object_get_uint64(o))
                : json_object_new_int64(json_object_get_int64(o));
    else if (t == json_type_string)
        c = json_object_new_string_len(json_object_get_string(o), json_object_get_string_len(o));
    else if (t == json_type_array)
        c = json_object_new_array_ext((int)json_object_array_length(o) + 1);
    else
        c = json_object_new_object();
    if (!c)
        *ok = false;
    for (size_t i = 0; *ok && t == json_type_array && i < json_object_array_length(o); i++) {
        struct json_object *item = copy(json_object_array_get_idx(o, i), ok, depth + 1);
        if (*ok && json_object_array_add(c, item)) {
            json_object_put(item);
            *ok = false;
        }
    }
    struct lh_entry *m = t == json_type_object ? json_object_get_object(o)->head : NULL;
    for (; *ok && m; m = m->next) {
        struct json_object *value = copy((struct json_object *)lh_entry_v(m), ok, depth + 1);
        if (*ok && json_object_object_add(c, lh_entry_k(m), value)) {
            json_object_put(value);
            *ok = false;
        }
    }
    if (*ok)
        return c;
    json_object_put(c);
    return NULL;
}

struct json_object *js_copy(struct json_object *o, bool *ok)
{
    *ok = true;
    return copy(o, ok, 0);
}

struct json_object *js_get(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (json_object_get_type(o) == json_type_object)
        json_object_object_get_ex(o, key, &v);
    return v;
}

int js_put(struct json_object *o, const char *key, struct json_object *v)
{
    if (o && json_object_object_add(o, key, v) == 0)
        return 0;
    json_object_put(v);
    return -ENOMEM;
}

int js_put_new(struct json_object *o, const char *key, struct json_object *v)
{
    return v ? js_put(o, key, v) : -ENOMEM;
}

int js_push_new(struct json_object *array, struct json_object *v)
{
    if (array && v && json_object_array_add(array, v) == 0)
        return 0;
    json_object_put(v);
    return -ENOMEM;
}

size_t js_length(struct json_object *o)
{
    return json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
}

struct json_object *js_at(struct json_object *o, size_t i)
{
    return i < js_length(o) ? json_object_array_get_idx(o, i) : NULL;
}

const char *js_str(struct json_object *o, const char *key)
{
    struct json_object *v = js_get(o, key);
    return json_object_get_type(v) == json_type_string ? json_object_get_string(v) : NULL;
}

int64_t js_int(struct json_object *o, const char *key, int64_t otherwise)
{
    struct json_object *v = js_get(o, key);
    return is_number(json_object_get_type(v)) ? json_object_get_int64(v) : otherwise;
}

bool js_bool(struct json_object *o, const char *key, bool otherwise)
{
    struct json_object *v = js_get(o, key);
    return json_object_get_type(v) == json_type_boolean ? json_object_get_boolean(v) : otherwise;
}

const char *js_kind(struct json_object *o)
{
    switch (json_object_get_type(o)) {
    case json_type_boolean:
        return "boolean";
    case json_type_double:
    case json_type_int:
        return "number";
    case json_type_string:
        return "string";
    case json_type_array:
        return "array";
    case json_type_object:
        return "object";
    default:
        return "null";
    }
}
