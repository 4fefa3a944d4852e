/* Values as jq 1.6 sees and shows them. Pure; a tree belongs to one thread. Recursion is bounded:
 * what is read is at most JS_DEPTH_MAX deep, and a program of EXPR_NODES_MAX nodes adds at most one
 * level a node. */
#include "flow/expr_int.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

double jq_double(struct json_object *o)
{
    if (json_object_get_type(o) == json_type_double)
        return json_object_get_double(o);
    int64_t i = json_object_get_int64(o);
    return i < 0 ? (double)i : (double)json_object_get_uint64(o);
}

struct slice jq_text(struct json_object *o)
{
    return sl(json_object_get_string(o), (size_t)json_object_get_string_len(o));
}

bool jq_is(struct json_object *o, const char *kind)
{
    return strcmp(js_kind(o), kind) == 0;
}

size_t jq_codepoints(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

size_t jq_advance(struct slice s, size_t n)
{
    size_t at = 0;
    while (n && at < s.n) {
        at++;
        while (at < s.n && ((unsigned char)s.p[at] & 0xc0) == 0x80)
            at++;
        n--;
    }
    return at;
}

struct json_object *jq_number(double d)
{
    bool whole = d >= -9223372036854775808.0 && d < 9223372036854775808.0 && d == trunc(d) &&
                 !(d == 0 && signbit(d));
    return whole ? json_object_new_int64((int64_t)d) : json_object_new_double(d);
}

static void dump_number(double d, struct buf *b)
{
    char text[40], v[20];
    if (isnan(d)) {
        buf_adds(b, "null");
        return;
    }
    if (isinf(d))
        d = d < 0 ? -DBL_MAX : DBL_MAX;
    if (d == 0) {
        buf_adds(b, signbit(d) ? "-0" : "0");
        return;
    }
    for (int n = fabs(d) < DBL_MIN ? 1 : 15; n <= 17; n++) {
        (void)snprintf(text, sizeof text, "%.*e", n - 1, fabs(d));
        if (strtod(text, NULL) == fabs(d))
            break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            v[n++] = *p;
    int place = (int)strtol(p + 1, NULL, 10) + 1; /* 0.digits * 10^place */
    while (n > 1 && v[n - 1] == '0')
        n--;
    v[n] = 0;
    if (d < 0)
        buf_addc(b, '-');
    if (place <= -4 || place > n + 15) {
        buf_addc(b, v[0]);
        if (n > 1)
            buf_addf(b, ".%s", v + 1);
        buf_addf(b, "e%c%02d", place < 1 ? '-' : '+', abs(place - 1));
    } else if (place <= 0) {
        buf_addf(b, "0.%.*s%s", -place, "0000", v);
    } else if (place >= n) {
        buf_addf(b, "%s%.*s", v, place - n, "0000000000000000");
    } else {
        buf_addf(b, "%.*s.%s", place, v, v + place);
    }
}

static void dump_string(struct slice s, struct buf *b)
{
    static const char special[] = "\"\\\b\f\n\r\t", shown[] = "\"\\bfnrt";
    size_t from = 0;
    buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= ' ' && c != '"' && c != '\\' && c != 0x7f)
            continue;
        buf_add(b, s.p + from, i - from);
        from = i + 1;
        const char *at = c ? strchr(special, c) : NULL;
        if (at)
            buf_addf(b, "\\%c", shown[at - special]);
        else
            buf_addf(b, "\\u%04x", c);
    }
    buf_add(b, s.p + from, s.n - from);
    buf_addc(b, '"');
}

static void dump(struct json_object *o, struct buf *b)
{
    if (buf_error(b))
        return;
    switch (json_object_get_type(o)) {
    case json_type_boolean:
        buf_adds(b, json_object_get_boolean(o) ? "true" : "false");
        return;
    case json_type_int:
    case json_type_double:
        dump_number(jq_double(o), b);
        return;
    case json_type_string:
        dump_string(jq_text(o), b);
        return;
    case json_type_array:
        buf_addc(b, '[');
        for (size_t i = 0; i < json_object_array_length(o) && !buf_error(b); i++) {
            if (i)
                buf_addc(b, ',');
            dump(json_object_array_get_idx(o, i), b);
        }
        buf_addc(b, ']');
        return;
    case json_type_object:
        buf_addc(b, '{');
        for (struct lh_entry *m = json_object_get_object(o)->head; m && !buf_error(b);
             m = m->next) {
            dump_string(sl_str(lh_entry_k(m)), b);
            buf_addc(b, ':');
            dump((struct json_object *)lh_entry_v(m), b);
            if (m->next)
                buf_addc(b, ',');
        }
        buf_addc(b, '}');
        return;
    default:
        buf_adds(b, "null");
    }
}

int jq_dump(struct json_object *o, struct buf *b)
{
    dump(o, b);
    return buf_error(b);
}

/* ---- The form of results. `size` counts the text roughly, so that a value that shares parts many
 * times is found out before it is written. */
struct canon {
    size_t size;
    int rc;
};

static bool canon_number(struct json_object *o)
{
    if (json_object_get_type(o) == json_type_int) {
        int64_t i = json_object_get_int64(o);
        return i > -(1LL << 53) && i < 1LL << 53;
    }
    double d = json_object_get_double(o);
    return isfinite(d) &&
           (d != trunc(d) || fabs(d) >= 9223372036854775808.0 || (d == 0 && signbit(d)));
}

static bool is_canon(struct json_object *o, int depth, struct canon *c)
{
    enum json_type t = json_object_get_type(o);
    if (c->size > EXPR_RESULT_MAX ||
        ((t == json_type_array || t == json_type_object) && depth >= JS_DEPTH_MAX))
        c->rc = c->size > EXPR_RESULT_MAX ? -E2BIG : -ELOOP;
    if (c->rc)
        return true;
    bool same = true;
    c->size += 4;
    if (t == json_type_int || t == json_type_double) {
        int64_t n = t == json_type_int ? json_object_get_int64(o) : INT64_MIN;
        uint64_t i = n < 0 ? -(uint64_t)n : (uint64_t)n;
        for (; i >= 1000; i /= 10)
            c->size++;
        return canon_number(o);
    }
    if (t == json_type_string)
        c->size +=
            js_str_size(sl(json_object_get_string(o), (size_t)json_object_get_string_len(o)));
    for (size_t i = 0; t == json_type_array && i < json_object_array_length(o) && !c->rc; i++)
        same &= is_canon(json_object_array_get_idx(o, i), depth + 1, c);
    struct lh_entry *m = t == json_type_object ? json_object_get_object(o)->head : NULL;
    for (; m && !c->rc; m = m->next) {
        c->size += js_str_size(sl_str(lh_entry_k(m)));
        same &= is_canon((struct json_object *)lh_entry_v(m), depth + 1, c);
    }
    return same;
}

static struct json_object *rebuilt(struct json_object *o, struct canon *c);

static struct json_object *rebuilt_container(struct json_object *o, struct canon *c)
{
    bool list = json_object_get_type(o) == json_type_array;
    struct json_object *n = list ? json_object_new_array_ext((int)json_object_array_length(o) + 1)
                                 : json_object_new_object();
    if (!n)
        c->rc = -ENOMEM;
    for (size_t i = 0; list && !c->rc && i < json_object_array_length(o); i++) {
        struct json_object *item = rebuilt(json_object_array_get_idx(o, i), c);
        if (!c->rc && json_object_array_add(n, item)) {
            json_object_put(item);
            c->rc = -ENOMEM;
        }
    }
    struct lh_entry *m = list ? NULL : json_object_get_object(o)->head;
    for (; m && !c->rc; m = m->next) {
        struct json_object *item = rebuilt((struct json_object *)lh_entry_v(m), c);
        if (!c->rc && json_object_object_add(n, lh_entry_k(m), item)) {
            json_object_put(item);
            c->rc = -ENOMEM;
        }
    }
    if (!c->rc)
        return n;
    json_object_put(n);
    return NULL;
}

static struct json_object *rebuilt(struct json_object *o, struct canon *c)
{
    enum json_type t = json_object_get_type(o);
    if (t == json_type_array || t == json_type_object)
        return rebuilt_container(o, c);
    if (t != json_type_int && t != json_type_double)
        return json_object_get(o);
    double d = jq_double(o);
    if (isnan(d))
        return NULL;
    struct json_object *n = jq_number(isinf(d) ? (d < 0 ? -DBL_MAX : DBL_MAX) : d);
    if (!n)
        c->rc = -ENOMEM;
    return n;
}

int jq_canon(struct json_object *o, struct json_object **ret, struct err *e)
{
    struct canon c = {0};
    bool same = is_canon(o, 0, &c);
    if (!c.rc && c.size > EXPR_RESULT_MAX)
        c.rc = -E2BIG;
    struct json_object *n = NULL;
    if (!c.rc)
        n = same ? json_object_get(o) : rebuilt(o, &c);
    json_object_put(o);
    if (!c.rc) {
        *ret = n;
        return 0;
    }
    if (c.rc == -ENOMEM)
        return err_set(e, -ENOMEM, "give the process more memory",
                       "no memory for the result of an expression");
    if (c.rc == -ELOOP)
        return err_set(e, -EINVAL, "make the value flatter",
                       "the result is nested more than %d levels deep", JS_DEPTH_MAX);
    return err_set(e, -EINVAL, "keep large data outside and pass a reference",
                   "the result is larger than %u MiB", EXPR_RESULT_MAX >> 20);
}
