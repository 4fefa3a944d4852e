/* jq 1.6's arithmetic on values of all types. Ownership as in expr_op.c. */
#include "flow/expr_int.h"

#include <limits.h>
#include <stdlib.h>

static int add_all(struct ev *v, struct json_object *r, struct json_object *from)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < json_object_array_length(from); i++)
        rc = ev_push(v, r, json_object_get(json_object_array_get_idx(from, i)));
    return rc;
}

static int merge(struct ev *v, struct json_object *r, struct json_object *from)
{
    int rc = 0;
    for (struct lh_entry *m = json_object_get_object(from)->head; !rc && m; m = m->next)
        rc = ev_set(v, r, sl_str(lh_entry_k(m)),
                    json_object_get((struct json_object *)lh_entry_v(m)));
    return rc;
}

static int finish(int rc, struct json_object *r, struct json_object **ret)
{
    if (rc)
        json_object_put(r);
    else
        *ret = r;
    return rc;
}

static int concat(struct ev *v, struct slice a, struct slice b, struct json_object **ret)
{
    struct buf t;
    buf_init(&t, EXPR_BYTES_MAX);
    buf_add_slice(&t, a);
    buf_add_slice(&t, b);
    int rc = buf_error(&t) ? ev_full(v, &t) : ev_string(v, buf_slice(&t), ret);
    buf_free(&t);
    return rc;
}

int op_plus(struct ev *v, struct json_object *a, struct json_object *b, struct json_object **ret)
{
    struct json_object *r = NULL;
    if (!a || !b) {
        *ret = json_object_get(a ? a : b);
        return 0;
    }
    const char *kind = js_kind(a);
    if (strcmp(kind, js_kind(b)) != 0 || strcmp(kind, "boolean") == 0)
        return ev_type_error2(v, a, b, "cannot be added");
    if (strcmp(kind, "number") == 0)
        return ev_number(v, jq_double(a) + jq_double(b), ret);
    if (strcmp(kind, "string") == 0)
        return concat(v, jq_text(a), jq_text(b), ret);
    bool list = strcmp(kind, "array") == 0;
    int rc = list ? ev_array(v, &r) : ev_object(v, &r);
    if (!rc)
        rc = list ? add_all(v, r, a) : merge(v, r, a);
    if (!rc)
        rc = list ? add_all(v, r, b) : merge(v, r, b);
    return finish(rc, r, ret);
}

static int minus(struct ev *v, struct json_object *a, struct json_object *b,
                 struct json_object **ret)
{
    if (jq_is(a, "number") && jq_is(b, "number"))
        return ev_number(v, jq_double(a) - jq_double(b), ret);
    if (!jq_is(a, "array") || !jq_is(b, "array"))
        return ev_type_error2(v, a, b, "cannot be subtracted");
    struct json_object *r = NULL;
    int rc = ev_array(v, &r);
    for (size_t i = 0; !rc && i < json_object_array_length(a); i++) {
        bool there = false;
        struct json_object *item = json_object_array_get_idx(a, i);
        for (size_t j = 0; !rc && !there && j < json_object_array_length(b); j++)
            rc = op_equal(v, item, json_object_array_get_idx(b, j), &there);
        if (!rc && !there)
            rc = ev_push(v, r, json_object_get(item));
    }
    return finish(rc, r, ret);
}

/* As the processor converts: what does not fit becomes the smallest number. */
static int64_t to_i64(double d)
{
    return d >= -9223372036854775808.0 && d < 9223372036854775808.0 ? (int64_t)d : INT64_MIN;
}

/* The count is cut to an int after taking one off, so 0.5 gives the text itself; Debian's jq
 * refuses long results. */
static int repeat(struct ev *v, struct slice s, double times, struct json_object **ret)
{
    if (times >= 2147483648.0 || (double)s.n * times >= 2147483648.0)
        return ev_fail(v, "Repeat string result too long");
    int n = times > 0 ? (int)(times - 1) : -1;
    if (n < 0) {
        *ret = NULL;
        return 0;
    }
    struct buf t;
    buf_init(&t, EXPR_BYTES_MAX);
    for (int i = 0; i <= n && !buf_error(&t) && s.n; i++)
        buf_add_slice(&t, s);
    int rc = buf_error(&t) ? ev_full(v, &t) : ev_string(v, buf_slice(&t), ret);
    buf_free(&t);
    return rc;
}

static int merge_deep(struct ev *v, struct json_object *a, struct json_object *b,
                      struct json_object **ret)
{
    struct json_object *r = NULL;
    int rc = ev_object(v, &r);
    if (!rc)
        rc = merge(v, r, a);
    for (struct lh_entry *m = rc ? NULL : json_object_get_object(b)->head; !rc && m; m = m->next) {
        struct json_object *old = js_get(r, lh_entry_k(m)),
                           *new = (struct json_object *)lh_entry_v(m), *both = NULL;
        if (jq_is(old, "object") && jq_is(new, "object"))
            rc = merge_deep(v, old, new, &both);
        else
            both = json_object_get(new);
        if (!rc)
            rc = ev_set(v, r, sl_str(lh_entry_k(m)), both);
    }
    return finish(rc, r, ret);
}

static int times(struct ev *v, struct json_object *a, struct json_object *b,
                 struct json_object **ret)
{
    if (jq_is(a, "number") && jq_is(b, "number"))
        return ev_number(v, jq_double(a) * jq_double(b), ret);
    if (jq_is(a, "string") && jq_is(b, "number"))
        return repeat(v, jq_text(a), jq_double(b), ret);
    if (jq_is(a, "number") && jq_is(b, "string"))
        return repeat(v, jq_text(b), jq_double(a), ret);
    if (jq_is(a, "object") && jq_is(b, "object"))
        return merge_deep(v, a, b, ret);
    return ev_type_error2(v, a, b, "cannot be multiplied");
}

static int divide(struct ev *v, struct json_object *a, struct json_object *b,
                  struct json_object **ret)
{
    if (jq_is(a, "string") && jq_is(b, "string"))
        return call_value(v, FN_SPLIT, a, b, ret);
    if (!jq_is(a, "number") || !jq_is(b, "number"))
        return ev_type_error2(v, a, b, "cannot be divided");
    if (jq_double(b) == 0)
        return ev_type_error2(v, a, b, "cannot be divided because the divisor is zero");
    return ev_number(v, jq_double(a) / jq_double(b), ret);
}

static int modulo(struct ev *v, struct json_object *a, struct json_object *b,
                  struct json_object **ret)
{
    if (!jq_is(a, "number") || !jq_is(b, "number"))
        return ev_type_error2(v, a, b, "cannot be divided (remainder)");
    int64_t x = to_i64(jq_double(a)), y = to_i64(jq_double(b));
    if (y == 0)
        return ev_type_error2(v, a, b, "cannot be divided (remainder) because the divisor is zero");
    /* jq itself dies of the smallest number modulo -1; the mathematical result is 0. */
    return ev_number(v, y == -1 ? 0 : (double)(x % y), ret);
}

static int relation(struct ev *v, int op, struct json_object *a, struct json_object *b,
                    struct json_object **ret)
{
    int c = 0;
    int rc = op_compare(v, a, b, &c);
    if (rc)
        return rc;
    return ev_bool(v, op == '<' ? c < 0 : op == '>' ? c > 0 : op == TOK_LE ? c <= 0 : c >= 0, ret);
}

int op_binary(struct ev *v, int op, struct json_object *a, struct json_object *b,
              struct json_object **ret)
{
    bool same = false;
    int rc;
    switch (op) {
    case '+':
        return op_plus(v, a, b, ret);
    case '-':
        return minus(v, a, b, ret);
    case '*':
        return times(v, a, b, ret);
    case '/':
        return divide(v, a, b, ret);
    case '%':
        return modulo(v, a, b, ret);
    case TOK_EQ:
    case TOK_NE:
        rc = op_equal(v, a, b, &same);
        return rc ? rc : ev_bool(v, same == (op == TOK_EQ), ret);
    default:
        return relation(v, op, a, b, ret);
    }
}
