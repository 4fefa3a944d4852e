/* The functions that are evaluated inline, each with jq 1.6's results and messages. Ownership as in
 * expr_op.c. */
#include "flow/expr_int.h"

#include <math.h>
#include <stdlib.h>

static int finish(int rc, struct json_object *r, struct json_object **ret)
{
    if (rc)
        json_object_put(r);
    else
        *ret = r;
    return rc;
}

static int length(struct ev *v, struct json_object *in, double *ret)
{
    if (!in)
        *ret = 0;
    else if (jq_is(in, "array"))
        *ret = (double)json_object_array_length(in);
    else if (jq_is(in, "object"))
        *ret = (double)json_object_object_length(in);
    else if (jq_is(in, "string"))
        *ret = (double)jq_codepoints(jq_text(in));
    else if (jq_is(in, "number"))
        *ret = fabs(jq_double(in));
    else
        return ev_type_error(v, in, "has no length");
    return 0;
}

static int f_length(struct ev *v, struct json_object *in, struct json_object *arg,
                    struct json_object **ret)
{
    double n = 0;
    int rc = length(v, in, &n);
    return rc ? rc : ev_number(v, n, ret);
}

static int f_not(struct ev *v, struct json_object *in, struct json_object *arg,
                 struct json_object **ret)
{
    return ev_bool(v, !js_truthy(in), ret);
}

static int f_type(struct ev *v, struct json_object *in, struct json_object *arg,
                  struct json_object **ret)
{
    return ev_string(v, sl_str(js_kind(in)), ret);
}

static int f_tojson(struct ev *v, struct json_object *in, struct json_object *arg,
                    struct json_object **ret)
{
    struct buf b;
    buf_init(&b, EXPR_BYTES_MAX);
    int rc = jq_dump(in, &b) ? ev_full(v, &b) : ev_charge(v, b.n / 16, 0);
    if (!rc)
        rc = ev_string(v, buf_slice(&b), ret);
    buf_free(&b);
    return rc;
}

static int f_tostring(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    if (!jq_is(in, "string"))
        return f_tojson(v, in, arg, ret);
    *ret = json_object_get(in);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int keys(struct ev *v, struct json_object *in, bool sorted, struct json_object **ret)
{
    struct json_object *r = NULL, *key = NULL;
    bool list = jq_is(in, "array");
    if (!list && !jq_is(in, "object"))
        return ev_type_error(v, in, "has no keys");
    int rc = ev_array(v, &r);
    for (size_t i = 0; !rc && list && i < json_object_array_length(in); i++)
        if (!(rc = ev_number(v, (double)i, &key)))
            rc = ev_push(v, r, key);
    size_t n = list ? 0 : (size_t)json_object_object_length(in), i = 0;
    const char **names = malloc((n + 1) * sizeof *names);
    if (!rc && !names)
        rc = ev_limit(v, "no memory while evaluating");
    struct lh_entry *m = rc || list ? NULL : json_object_get_object(in)->head;
    for (; m; m = m->next)
        names[i++] = lh_entry_k(m);
    if (!rc && sorted)
        qsort(names, n, sizeof *names, by_text);
    for (i = 0; !rc && i < n; i++)
        if (!(rc = ev_string(v, sl_str(names[i]), &key)))
            rc = ev_push(v, r, key);
    free(names);
    return finish(rc, r, ret);
}

static int f_keys(struct ev *v, struct json_object *in, struct json_object *arg,
                  struct json_object **ret)
{
    return keys(v, in, true, ret);
}

static int f_keys_unsorted(struct ev *v, struct json_object *in, struct json_object *arg,
                           struct json_object **ret)
{
    return keys(v, in, false, ret);
}

static int f_to_entries(struct ev *v, struct json_object *in, struct json_object *arg,
                        struct json_object **ret)
{
    struct json_object *names = NULL, *r = NULL;
    int rc = keys(v, in, false, &names);
    if (!rc)
        rc = ev_array(v, &r);
    for (size_t i = 0; !rc && i < json_object_array_length(names); i++) {
        struct json_object *pair = NULL, *value = NULL, *key = json_object_array_get_idx(names, i);
        if ((rc = op_index(v, in, key, &value)) || (rc = ev_object(v, &pair))) {
            json_object_put(value);
            break;
        }
        if (!(rc = ev_set(v, pair, SL("key"), json_object_get(key))))
            rc = ev_set(v, pair, SL("value"), json_object_get(value));
        json_object_put(value);
        if (rc)
            json_object_put(pair);
        else
            rc = ev_push(v, r, pair);
    }
    json_object_put(names);
    return finish(rc, r, ret);
}

static int f_has(struct ev *v, struct json_object *in, struct json_object *arg,
                 struct json_object **ret)
{
    if (!in)
        return ev_bool(v, false, ret);
    if (jq_is(in, "object") && jq_is(arg, "string")) {
        struct slice key = jq_text(arg);
        return ev_bool(v, !memchr(key.p, 0, key.n) && json_object_object_get_ex(in, key.p, NULL),
                       ret);
    }
    if (jq_is(in, "array") && jq_is(arg, "number")) {
        double i = trunc(jq_double(arg));
        return ev_bool(v, i >= 0 && i < (double)json_object_array_length(in), ret);
    }
    return ev_fail(v, "Cannot check whether %s has a %s key", js_kind(in), js_kind(arg));
}

static int contains(struct ev *v, struct json_object *a, struct json_object *b, bool *ret)
{
    int rc = ev_charge(v, 1, 0);
    *ret = strcmp(js_kind(a), js_kind(b)) == 0;
    if (rc || !*ret)
        return rc;
    if (jq_is(a, "object")) {
        for (struct lh_entry *m = json_object_get_object(b)->head; !rc && *ret && m; m = m->next) {
            struct json_object *mine = NULL;
            *ret = json_object_object_get_ex(a, lh_entry_k(m), &mine);
            if (*ret)
                rc = contains(v, mine, (struct json_object *)lh_entry_v(m), ret);
        }
        return rc;
    }
    if (jq_is(a, "array")) {
        for (size_t i = 0; !rc && *ret && i < json_object_array_length(b); i++) {
            bool found = false;
            for (size_t j = 0; !rc && !found && j < json_object_array_length(a); j++)
                rc = contains(v, json_object_array_get_idx(a, j), json_object_array_get_idx(b, i),
                              &found);
            *ret = found;
        }
        return rc;
    }
    if (!jq_is(a, "string"))
        return op_equal(v, a, b, ret);
    /* jq looks at both up to their first zero byte. */
    *ret = strstr(json_object_get_string(a), json_object_get_string(b)) != NULL;
    return 0;
}

static int f_contains(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    bool yes = false;
    /* true and false are different kinds for jq */
    if (strcmp(js_kind(in), js_kind(arg)) != 0 ||
        (jq_is(in, "boolean") && js_truthy(in) != js_truthy(arg)))
        return ev_type_error2(v, in, arg, "cannot have their containment checked");
    int rc = contains(v, in, arg, &yes);
    return rc ? rc : ev_bool(v, yes, ret);
}

static bool both_texts(struct json_object *a, struct json_object *b)
{
    return jq_is(a, "string") && jq_is(b, "string");
}

static int f_startswith(struct ev *v, struct json_object *in, struct json_object *arg,
                        struct json_object **ret)
{
    if (!both_texts(in, arg))
        return ev_fail(v, "startswith() requires string inputs");
    return ev_bool(v, sl_starts(jq_text(in), jq_text(arg)), ret);
}

static int f_endswith(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    if (!both_texts(in, arg))
        return ev_fail(v, "endswith() requires string inputs");
    return ev_bool(v, sl_ends(jq_text(in), jq_text(arg)), ret);
}

static int f_ltrimstr(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    if (both_texts(in, arg) && sl_starts(jq_text(in), jq_text(arg)))
        return ev_string(v, sl_from(jq_text(in), jq_text(arg).n), ret);
    *ret = json_object_get(in);
    return 0;
}

static int f_rtrimstr(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    if (both_texts(in, arg) && sl_ends(jq_text(in), jq_text(arg)))
        return ev_string(v, sl(jq_text(in).p, jq_text(in).n - jq_text(arg).n), ret);
    *ret = json_object_get(in);
    return 0;
}

static int push_text(struct ev *v, struct json_object *r, struct slice s)
{
    struct json_object *o = NULL;
    int rc = ev_string(v, s, &o);
    return rc ? rc : ev_push(v, r, o);
}

static int f_split(struct ev *v, struct json_object *in, struct json_object *arg,
                   struct json_object **ret)
{
    if (!both_texts(in, arg))
        return ev_fail(v, "split input and separator must be strings");
    struct slice rest = jq_text(in), sep = jq_text(arg);
    struct json_object *r = NULL;
    int rc = ev_array(v, &r);
    while (!rc && rest.n) {
        const char *at = sep.n ? memmem(rest.p, rest.n, sep.p, sep.n) : NULL;
        size_t part = at ? (size_t)(at - rest.p) : sep.n ? rest.n : jq_advance(rest, 1);
        rc = push_text(v, r, sl(rest.p, part));
        /* A separator at the very end has an empty text behind it. */
        if (!rc && at && part + sep.n == rest.n)
            rc = push_text(v, r, SL(""));
        rest = sl_from(rest, part + (at ? sep.n : 0));
    }
    return finish(rc, r, ret);
}

static int letters(struct ev *v, struct json_object *in, char from, char to,
                   struct json_object **ret)
{
    if (!jq_is(in, "string"))
        return ev_fail(v, "explode input must be a string");
    struct slice s = jq_text(in);
    struct buf b;
    buf_init(&b, EXPR_BYTES_MAX);
    buf_add_slice(&b, s);
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] >= from && b.p[i] <= from + 25)
            b.p[i] = (char)(b.p[i] - from + to);
    int rc = buf_error(&b) ? ev_full(v, &b) : ev_string(v, buf_slice(&b), ret);
    buf_free(&b);
    return rc;
}

static int f_downcase(struct ev *v, struct json_object *in, struct json_object *arg,
                      struct json_object **ret)
{
    return letters(v, in, 'A', 'a', ret);
}

static int f_upcase(struct ev *v, struct json_object *in, struct json_object *arg,
                    struct json_object **ret)
{
    return letters(v, in, 'a', 'A', ret);
}

static int f_floor(struct ev *v, struct json_object *in, struct json_object *arg,
                   struct json_object **ret)
{
    if (!jq_is(in, "number"))
        return ev_type_error(v, in, "number required");
    return ev_number(v, floor(jq_double(in)), ret);
}

static int at_index(struct ev *v, struct json_object *in, double i, struct json_object **ret)
{
    struct json_object *k = NULL;
    int rc = ev_number(v, i, &k);
    if (!rc)
        rc = op_index(v, in, k, ret);
    json_object_put(k);
    return rc;
}

static int f_first(struct ev *v, struct json_object *in, struct json_object *arg,
                   struct json_object **ret)
{
    return at_index(v, in, 0, ret);
}

static int f_last(struct ev *v, struct json_object *in, struct json_object *arg,
                  struct json_object **ret)
{
    return at_index(v, in, -1, ret);
}

/* [.[length - 1 - range(0; length)]], whatever the input is. */
static int f_reverse(struct ev *v, struct json_object *in, struct json_object *arg,
                     struct json_object **ret)
{
    struct json_object *r = NULL, *item = NULL;
    double n = 0;
    int rc = length(v, in, &n);
    if (!rc)
        rc = ev_array(v, &r);
    for (double i = 0; !rc && i < n; i++)
        if (!(rc = at_index(v, in, n - 1 - i, &item)))
            rc = ev_push(v, r, item);
    return finish(rc, r, ret);
}

/* ---- Elements: .[] of an array or object, for add and join. */
static int elements(struct ev *v, struct json_object *in, struct json_object ***ret, size_t *ret_n)
{
    enum json_type t = json_object_get_type(in);
    char shown[EV_SHOWN];
    if (t != json_type_array && t != json_type_object)
        return ev_fail(v, "Cannot iterate over %s (%s)", js_kind(in), ev_shown(in, shown));
    size_t n = t == json_type_array ? json_object_array_length(in)
                                    : (size_t)json_object_object_length(in),
           i = 0;
    int rc = ev_charge(v, n, 0);
    if (rc)
        return rc;
    struct json_object **items = malloc((n + 1) * sizeof *items);
    if (!items)
        return ev_limit(v, "no memory while evaluating");
    for (; t == json_type_array && i < n; i++)
        items[i] = json_object_array_get_idx(in, i);
    for (struct lh_entry *m = t == json_type_object ? json_object_get_object(in)->head : NULL; m;
         m = m->next)
        items[i++] = (struct json_object *)lh_entry_v(m);
    *ret = items;
    *ret_n = n;
    return 0;
}

/* All texts at once, all lists at once: adding one by one would copy the sum each time. */
static int add_same(struct ev *v, struct json_object **items, size_t n, bool texts,
                    struct json_object **ret)
{
    struct json_object *r = NULL;
    struct buf b;
    buf_init(&b, EXPR_BYTES_MAX);
    int rc = texts ? 0 : ev_array(v, &r);
    for (size_t i = 0; !rc && i < n; i++) {
        if (texts)
            buf_add_slice(&b, jq_text(items[i]));
        for (size_t j = 0; !texts && !rc && j < json_object_array_length(items[i]); j++)
            rc = ev_push(v, r, json_object_get(json_object_array_get_idx(items[i], j)));
    }
    if (buf_error(&b))
        rc = ev_full(v, &b);
    if (!rc && texts)
        rc = ev_string(v, buf_slice(&b), &r);
    buf_free(&b);
    return finish(rc, r, ret);
}

static int f_add(struct ev *v, struct json_object *in, struct json_object *arg,
                 struct json_object **ret)
{
    struct json_object **items = NULL, *sum = NULL;
    size_t n = 0;
    int rc = elements(v, in, &items, &n);
    bool texts = n > 1, lists = n > 1;
    for (size_t i = 0; !rc && i < n; i++) {
        texts = texts && jq_is(items[i], "string");
        lists = lists && jq_is(items[i], "array");
    }
    if (!rc && (texts || lists))
        rc = add_same(v, items, n, texts, &sum);
    for (size_t i = 0; !rc && !texts && !lists && i < n; i++) {
        struct json_object *next = NULL;
        if ((rc = op_plus(v, sum, items[i], &next)))
            break;
        json_object_put(sum);
        sum = next;
    }
    free(items);
    return finish(rc, sum, ret);
}

/* One element of join: numbers and booleans as texts, null as "". False when jq would add it as it
 * is, and fail. */
static bool join_one(struct buf *b, struct json_object *o)
{
    if (jq_is(o, "string"))
        buf_add_slice(b, jq_text(o));
    else if (jq_is(o, "number") || jq_is(o, "boolean"))
        jq_dump(o, b);
    else
        return o == NULL;
    return true;
}

static int join_error(struct ev *v, struct buf *b, struct json_object *o)
{
    struct json_object *sum = NULL;
    int rc = ev_string(v, buf_slice(b), &sum);
    if (!rc)
        rc = ev_type_error2(v, sum, o, "cannot be added");
    json_object_put(sum);
    return rc;
}

static int f_join(struct ev *v, struct json_object *in, struct json_object *arg,
                  struct json_object **ret)
{
    struct json_object **items = NULL;
    size_t n = 0;
    struct buf b;
    buf_init(&b, EXPR_BYTES_MAX);
    int rc = elements(v, in, &items, &n);
    for (size_t i = 0; !rc && i < n; i++) {
        if (i && jq_is(arg, "string"))
            buf_add_slice(&b, jq_text(arg));
        else if (i && arg)
            rc = join_error(v, &b, arg);
        if (!rc && !join_one(&b, items[i]))
            rc = join_error(v, &b, items[i]);
    }
    if (buf_error(&b))
        rc = ev_full(v, &b);
    if (!rc)
        rc = ev_string(v, buf_slice(&b), ret);
    free(items);
    buf_free(&b);
    return rc;
}

/* ---- Order. A merge sort, since a comparison can fail and jq's order is stable. */
static int merge_sort(struct ev *v, struct json_object **a, struct json_object **room, size_t n)
{
    if (n < 2)
        return 0;
    size_t half = n / 2, i = 0, j = half, at = 0;
    int rc = merge_sort(v, a, room, half);
    if (!rc)
        rc = merge_sort(v, a + half, room, n - half);
    while (!rc && at < n) {
        int c = i == half ? 1 : -1;
        if (i < half && j < n)
            rc = op_compare(v, a[i], a[j], &c);
        room[at++] = c <= 0 ? a[i++] : a[j++];
    }
    if (!rc)
        memcpy(a, room, n * sizeof *a);
    return rc;
}

static int f_sort(struct ev *v, struct json_object *in, struct json_object *arg,
                  struct json_object **ret)
{
    if (!jq_is(in, "array"))
        return ev_type_error(v, in, "cannot be sorted, as it is not an array");
    struct json_object **items = NULL, *r = NULL;
    size_t n = 0;
    int rc = elements(v, in, &items, &n);
    struct json_object **room = rc ? NULL : malloc((n + 1) * sizeof *room);
    if (!rc && !room)
        rc = ev_limit(v, "no memory while evaluating");
    if (!rc)
        rc = merge_sort(v, items, room, n);
    if (!rc)
        rc = ev_array(v, &r);
    for (size_t i = 0; !rc && i < n; i++)
        rc = ev_push(v, r, json_object_get(items[i]));
    free(items);
    free(room);
    return finish(rc, r, ret);
}

static int extreme(struct ev *v, struct json_object *in, bool min, struct json_object **ret)
{
    if (!jq_is(in, "array"))
        return ev_type_error2(v, in, in, "cannot be iterated over");
    struct json_object *best =
        json_object_array_length(in) ? json_object_array_get_idx(in, 0) : NULL;
    int rc = 0;
    for (size_t i = 1; !rc && i < json_object_array_length(in); i++) {
        int c = 0;
        struct json_object *o = json_object_array_get_idx(in, i);
        rc = op_compare(v, o, best, &c);
        if ((c < 0) == min)
            best = o;
    }
    if (!rc)
        *ret = json_object_get(best);
    return rc;
}

static int f_min(struct ev *v, struct json_object *in, struct json_object *arg,
                 struct json_object **ret)
{
    return extreme(v, in, true, ret);
}

static int f_max(struct ev *v, struct json_object *in, struct json_object *arg,
                 struct json_object **ret)
{
    return extreme(v, in, false, ret);
}

int call_value(struct ev *v, int fn, struct json_object *in, struct json_object *arg,
               struct json_object **ret)
{
    static int (*const table[])(struct ev *, struct json_object *, struct json_object *,
                                struct json_object **) = {[FN_ADD] = f_add,
                                                          [FN_CONTAINS] = f_contains,
                                                          [FN_DOWNCASE] = f_downcase,
                                                          [FN_ENDSWITH] = f_endswith,
                                                          [FN_FIRST] = f_first,
                                                          [FN_FLOOR] = f_floor,
                                                          [FN_HAS] = f_has,
                                                          [FN_JOIN] = f_join,
                                                          [FN_KEYS] = f_keys,
                                                          [FN_KEYS_UNSORTED] = f_keys_unsorted,
                                                          [FN_LAST] = f_last,
                                                          [FN_LENGTH] = f_length,
                                                          [FN_LTRIMSTR] = f_ltrimstr,
                                                          [FN_MAX] = f_max,
                                                          [FN_MIN] = f_min,
                                                          [FN_NOT] = f_not,
                                                          [FN_REVERSE] = f_reverse,
                                                          [FN_RTRIMSTR] = f_rtrimstr,
                                                          [FN_SORT] = f_sort,
                                                          [FN_SPLIT] = f_split,
                                                          [FN_STARTSWITH] = f_startswith,
                                                          [FN_TO_ENTRIES] = f_to_entries,
                                                          [FN_TOJSON] = f_tojson,
                                                          [FN_TOSTRING] = f_tostring,
                                                          [FN_TYPE] = f_type,
                                                          [FN_UPCASE] = f_upcase};
    int rc = ev_charge(v, 1, 0);
    return rc ? rc : table[fn](v, in, arg, ret);
}
