/* jq 1.6's operators, comparison and access, on json-c trees, and how the evaluator makes values.
 * Arguments are borrowed and never changed; results are owned by the caller and may share parts
 * with the arguments. One thread. */
#include "flow/expr_int.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

const char *ev_shown(struct json_object *o, char out[EV_SHOWN])
{
    /* jq cuts the text at 14 bytes; a character that is cut in two becomes U+FFFD. */
    struct buf b;
    char cut[15];
    buf_init(&b, EXPR_BYTES_MAX);
    jq_dump(o, &b);
    size_t len = b.n, n = len > 14 ? 11 : len, at = 0;
    if (n)
        memcpy(cut, b.p, n);
    buf_free(&b);
    for (size_t i = 0; i < n;) {
        size_t want = (unsigned char)cut[i] < 0x80   ? 1
                      : (unsigned char)cut[i] < 0xe0 ? 2
                      : (unsigned char)cut[i] < 0xf0 ? 3
                                                     : 4;
        if (i + want > n) {
            memcpy(out + at, "\xef\xbf\xbd", 3);
            at += 3;
            break;
        }
        memcpy(out + at, cut + i, want);
        at += want;
        i += want;
    }
    memcpy(out + at, "...", len > 14 ? 3 : 0);
    out[at + (len > 14 ? 3 : 0)] = 0;
    return out;
}

int ev_type_error(struct ev *v, struct json_object *o, const char *what)
{
    char shown[EV_SHOWN];
    return ev_fail(v, "%s (%s) %s", js_kind(o), ev_shown(o, shown), what);
}

int ev_type_error2(struct ev *v, struct json_object *a, struct json_object *b, const char *what)
{
    char one[EV_SHOWN], two[EV_SHOWN];
    return ev_fail(v, "%s (%s) and %s (%s) %s", js_kind(a), ev_shown(a, one), js_kind(b),
                   ev_shown(b, two), what);
}

static int made(struct ev *v, struct json_object *o, size_t bytes, struct json_object **ret)
{
    if (!o)
        return ev_limit(v, "no memory while evaluating");
    int rc = ev_charge(v, 0, bytes);
    if (rc)
        json_object_put(o);
    else
        *ret = o;
    return rc;
}

int ev_string(struct ev *v, struct slice s, struct json_object **ret)
{
    if (s.n > EXPR_BYTES_MAX)
        return ev_limit(v, "the expression makes too much data");
    return made(v, json_object_new_string_len(s.n ? s.p : "", (int)s.n), s.n + 48, ret);
}

int ev_number(struct ev *v, double d, struct json_object **ret)
{
    return made(v, jq_number(d), 48, ret);
}

int ev_bool(struct ev *v, bool b, struct json_object **ret)
{
    return made(v, json_object_new_boolean(b), 48, ret);
}

int ev_array(struct ev *v, struct json_object **ret)
{
    return made(v, json_object_new_array_ext(4), 96, ret);
}

int ev_object(struct ev *v, struct json_object **ret)
{
    return made(v, json_object_new_object(), 800, ret);
}

int ev_push(struct ev *v, struct json_object *array, struct json_object *item)
{
    int rc = ev_charge(v, 1, 16);
    if (!rc && json_object_array_add(array, item))
        rc = ev_limit(v, "no memory while evaluating");
    if (rc)
        json_object_put(item);
    return rc;
}

int ev_set(struct ev *v, struct json_object *object, struct slice key, struct json_object *item)
{
    int rc = ev_charge(v, 1, key.n + 64);
    /* A tree can't have such a name, and JSON with it would be refused by the next reader. */
    if (!rc && memchr(key.p, 0, key.n))
        rc = ev_limit(v, "a key with a zero byte in it");
    char *name = rc ? NULL : sl_dup(key);
    if (!rc && !name)
        rc = ev_limit(v, "no memory while evaluating");
    if (!rc && json_object_object_add(object, name, item))
        rc = ev_limit(v, "no memory while evaluating");
    if (rc)
        json_object_put(item);
    free(name);
    return rc;
}

/* ---- Order and equality */
static int rank(struct json_object *o)
{
    switch (json_object_get_type(o)) {
    case json_type_null:
        return 0;
    case json_type_boolean:
        return json_object_get_boolean(o) ? 2 : 1;
    case json_type_int:
    case json_type_double:
        return 3;
    case json_type_string:
        return 4;
    case json_type_array:
        return 5;
    default:
        return 6;
    }
}

static int compare_numbers(double a, double b)
{
    /* Not a number counts as null there, and so stands below every number, itself included. */
    if (a != a)
        return -1;
    if (b != b)
        return 1;
    return a < b ? -1 : a > b;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sorted_keys(struct json_object *o)
{
    size_t n = (size_t)json_object_object_length(o), i = 0;
    const char **v = malloc((n + 1) * sizeof *v);
    if (!v)
        return NULL;
    for (struct lh_entry *m = json_object_get_object(o)->head; m; m = m->next)
        v[i++] = lh_entry_k(m);
    qsort(v, n, sizeof *v, by_key);
    v[n] = NULL;
    return v;
}

static int compare_objects(struct ev *v, struct json_object *a, struct json_object *b, int *ret)
{
    const char **ka = sorted_keys(a), **kb = sorted_keys(b);
    int rc =
        ka && kb
            ? ev_charge(v,
                        (size_t)json_object_object_length(a) + (size_t)json_object_object_length(b),
                        0)
            : ev_limit(v, "no memory while evaluating");
    *ret = 0;
    size_t i = 0;
    for (; !rc && !*ret && ka[i] && kb[i]; i++)
        *ret = strcmp(ka[i], kb[i]);
    if (!rc && !*ret)
        *ret = (ka[i] != NULL) - (kb[i] != NULL);
    for (i = 0; !rc && !*ret && ka[i]; i++)
        rc = op_compare(v, js_get(a, ka[i]), js_get(b, ka[i]), ret);
    free(ka);
    free(kb);
    return rc;
}

int op_compare(struct ev *v, struct json_object *a, struct json_object *b, int *ret)
{
    int ra = rank(a), rb = rank(b), rc = ev_charge(v, 1, 0);
    if (rc)
        return rc;
    *ret = ra - rb;
    if (*ret || ra < 3)
        return 0;
    if (ra == 3) {
        *ret = compare_numbers(jq_double(a), jq_double(b));
    } else if (ra == 4) {
        *ret = sl_cmp(jq_text(a), jq_text(b));
    } else if (ra == 6) {
        return compare_objects(v, a, b, ret);
    } else {
        size_t na = json_object_array_length(a), nb = json_object_array_length(b);
        for (size_t i = 0; !rc && !*ret && i < na && i < nb; i++)
            rc = op_compare(v, json_object_array_get_idx(a, i), json_object_array_get_idx(b, i),
                            ret);
        if (!rc && !*ret)
            *ret = na < nb ? -1 : na > nb;
    }
    return rc;
}

int op_equal(struct ev *v, struct json_object *a, struct json_object *b, bool *ret)
{
    int ra = rank(a), rc = ev_charge(v, 1, 0);
    *ret = ra == rank(b);
    if (rc || !*ret || ra < 3)
        return rc;
    if (ra == 3) {
        *ret = jq_double(a) == jq_double(b);
    } else if (ra == 4) {
        *ret = sl_eq(jq_text(a), jq_text(b));
    } else if (a == b) {
        return 0;
    } else if (ra == 5) {
        size_t n = json_object_array_length(a);
        *ret = n == json_object_array_length(b);
        for (size_t i = 0; !rc && *ret && i < n; i++)
            rc = op_equal(v, json_object_array_get_idx(a, i), json_object_array_get_idx(b, i), ret);
    } else {
        *ret = json_object_object_length(a) == json_object_object_length(b);
        struct json_object *other = NULL;
        for (struct lh_entry *m = json_object_get_object(a)->head; !rc && *ret && m; m = m->next) {
            *ret = json_object_object_get_ex(b, lh_entry_k(m), &other);
            if (*ret)
                rc = op_equal(v, (struct json_object *)lh_entry_v(m), other, ret);
        }
    }
    return rc;
}

/* ---- Access */
static int codepoint_slice(struct ev *v, struct slice s, size_t from, size_t to,
                           struct json_object **ret)
{
    size_t a = jq_advance(s, from);
    return ev_string(v, sl(s.p + a, jq_advance(sl_from(s, a), to - from)), ret);
}

/* The number of a bound; false when it is none. */
static bool bound(struct json_object *o, double otherwise, double *ret)
{
    *ret = o ? jq_double(o) : otherwise;
    return !o || (jq_is(o, "number") && *ret == *ret);
}

static int slice_error(struct ev *v, struct json_object *t)
{
    return ev_fail(v, "Start and end indices of an %s slice must be numbers", js_kind(t));
}

int op_slice(struct ev *v, struct json_object *t, struct json_object *from, struct json_object *to,
             struct json_object **ret)
{
    if (!t) {
        *ret = NULL;
        return 0;
    }
    bool text = jq_is(t, "string");
    if (!text && !jq_is(t, "array"))
        return ev_fail(v, "Cannot index %s with object", js_kind(t));
    double len = text ? (double)jq_codepoints(jq_text(t)) : (double)json_object_array_length(t), a,
           b;
    int rc = ev_charge(v, 1 + (size_t)len / 16, 0);
    if (rc)
        return rc;
    if ((from && !jq_is(from, "number")) || (to && !jq_is(to, "number")) || !bound(from, 0, &a) ||
        !bound(to, len, &b))
        return slice_error(v, t);
    a = a < 0 ? a + len : a;
    b = b < 0 ? b + len : b;
    a = a < 0 ? 0 : a > len ? len : a;
    size_t start = (size_t)a, end = b > len ? (size_t)len : b < 0 ? 0 : (size_t)ceil(b);
    if (end < start)
        end = start;
    if (text)
        return codepoint_slice(v, jq_text(t), start, end, ret);
    struct json_object *r = NULL;
    rc = ev_array(v, &r);
    for (size_t i = start; !rc && i < end; i++)
        rc = ev_push(v, r, json_object_get(json_object_array_get_idx(t, i)));
    if (rc)
        json_object_put(r);
    else
        *ret = r;
    return rc;
}

/* .[[...]]: the places where the second array begins in the first, with the odd rule of jq 1.6 for
 * partial matches. */
static int indexes(struct ev *v, struct json_object *a, struct json_object *b,
                   struct json_object **ret)
{
    struct json_object *r = NULL;
    size_t na = json_object_array_length(a), nb = json_object_array_length(b);
    int rc = ev_array(v, &r);
    for (size_t i = 0; !rc && i < na; i++) {
        bool here = false;
        for (size_t j = 0; !rc && j < nb; j++) {
            bool same = i + j < na;
            if (same)
                rc = op_equal(v, json_object_array_get_idx(a, i + j),
                              json_object_array_get_idx(b, j), &same);
            here = same && (here || j == 0);
        }
        struct json_object *at = NULL;
        if (!rc && here && !(rc = ev_number(v, (double)i, &at)))
            rc = ev_push(v, r, at);
    }
    if (rc)
        json_object_put(r);
    else
        *ret = r;
    return rc;
}

static int member(struct json_object *t, struct json_object *k, struct json_object **ret)
{
    struct slice key = jq_text(k);
    /* A tree has no name with a zero byte in it, and must not be asked for its first part. */
    *ret = memchr(key.p, 0, key.n) ? NULL : json_object_get(js_get(t, key.p));
    return 0;
}

static int element(struct json_object *t, double d, struct json_object **ret)
{
    *ret = NULL;
    if (!(d >= INT_MIN && d <= INT_MAX) || d != trunc(d))
        return 0;
    double i = d < 0 ? d + (double)json_object_array_length(t) : d;
    if (i >= 0 && i < (double)json_object_array_length(t))
        *ret = json_object_get(json_object_array_get_idx(t, (size_t)i));
    return 0;
}

/* A slice by an object: both members have to be there, null for an open end. */
static int slice_by(struct ev *v, struct json_object *t, struct json_object *k,
                    struct json_object **ret)
{
    struct json_object *from = NULL, *to = NULL;
    if (!json_object_object_get_ex(k, "start", &from) || !json_object_object_get_ex(k, "end", &to))
        return slice_error(v, t);
    return op_slice(v, t, from, to, ret);
}

int op_index(struct ev *v, struct json_object *t, struct json_object *k, struct json_object **ret)
{
    int rt = rank(t), rk = rank(k);
    if (rt == 6 && rk == 4)
        return member(t, k, ret);
    if (rt == 5 && rk == 3)
        return element(t, jq_double(k), ret);
    if ((rt == 5 || rt == 4) && rk == 6)
        return slice_by(v, t, k, ret);
    if (rt == 5 && rk == 5)
        return indexes(v, t, k, ret);
    if (rt == 0 && (rk == 4 || rk == 3 || rk == 6)) {
        *ret = NULL;
        return 0;
    }
    struct slice key = rk == 4 ? jq_text(k) : SL("");
    if (rk == 4 && key.n < 30)
        return ev_fail(v, "Cannot index %s with string \"%s\"", js_kind(t), key.p);
    return ev_fail(v, "Cannot index %s with %s", js_kind(t), js_kind(k));
}
