/* The inline evaluator. Each node hands its outputs, one after the other, to a sink, in the order
 * in which jq backtracks; what follows in the program runs inside the sink. So, as in jq 1.6, `try`
 * also drops an error that is raised behind it while it could still give another output, and of two
 * operands the right one varies slowest.
 *
 * One thread owns an evaluation. Invariants: recursion is bounded by the number of nodes, since no
 * node stands twice on the stack; a sink borrows its value; after -EINVAL v->error is set. */
#include "flow/expr_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct env { /* a variable bound by `as` */
    const struct env *next;
    const char *name;
    struct json_object *value;
};
struct sink {
    int (*fn)(struct sink *k, struct json_object *o);
    struct ev *v;
};

static int gen(struct ev *v, const struct node *n, struct json_object *in, const struct env *env,
               struct sink *k);

int ev_fail(struct ev *v, const char *fmt, ...)
{
    free(v->error);
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&v->error, fmt, ap) < 0)
        v->error = NULL;
    va_end(ap);
    return -EINVAL;
}

int ev_limit(struct ev *v, const char *what)
{
    ev_fail(v, "%s", what);
    v->exhausted = true;
    return -EINVAL;
}

int ev_full(struct ev *v, const struct buf *b)
{
    return ev_limit(v, buf_error(b) == -ENOMEM ? "no memory while evaluating"
                                               : "the expression makes too much data");
}

int ev_charge(struct ev *v, size_t steps, size_t bytes)
{
    v->steps += steps;
    v->bytes += bytes;
    if (v->steps > EXPR_STEPS_MAX)
        return ev_limit(v, "the expression takes too many steps");
    if (v->bytes > EXPR_BYTES_MAX)
        return ev_limit(v, "the expression makes too much data");
    return 0;
}

/* A sink that goes on with another node, once with the value as its input, once for pairs of
 * values. */
struct then_sink {
    struct sink k;
    const struct node *next;
    const struct env *env;
    struct json_object *in; /* N_BINARY and the like: the input of the whole node; NULL is null */
    struct json_object *other, *third;
    const struct node *n;
    struct sink *out;
    bool found;
};

/* Gives an owned value to a sink and drops it. */
static int give(struct sink *k, struct json_object *o)
{
    int rc = k->fn(k, o);
    json_object_put(o);
    return rc;
}

static int on_pipe(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    return gen(k->v, s->next, o, s->env, s->out);
}

/* ---- Two operands: the right one is the outer loop. */
static int on_left(struct sink *k, struct json_object *a)
{
    struct then_sink *s = (struct then_sink *)k;
    struct json_object *r = NULL;
    int rc = s->n->kind == N_BINARY ? op_binary(k->v, s->n->op, a, s->other, &r)
                                    : op_index(k->v, a, s->other, &r);
    if (rc && s->n->opt && !k->v->exhausted)
        return 0;
    return rc ? rc : give(s->out, r);
}

static int on_right(struct sink *k, struct json_object *b)
{
    struct then_sink *s = (struct then_sink *)k;
    struct then_sink left = {.k = {on_left, k->v}, .n = s->n, .other = b, .out = s->out};
    return gen(k->v, s->n->a, s->in, s->env, &left.k);
}

/* ---- Slices: from, then to, then the value. */
static int on_sliced(struct sink *k, struct json_object *t)
{
    struct then_sink *s = (struct then_sink *)k;
    struct json_object *r = NULL;
    int rc = op_slice(k->v, t, s->other, s->third, &r);
    if (rc && s->n->opt && !k->v->exhausted)
        return 0;
    return rc ? rc : give(s->out, r);
}

static int on_to(struct sink *k, struct json_object *to)
{
    struct then_sink *s = (struct then_sink *)k;
    struct then_sink t = {
        .k = {on_sliced, k->v}, .n = s->n, .other = s->other, .third = to, .out = s->out};
    return gen(k->v, s->n->a, s->in, s->env, &t.k);
}

static int on_from(struct sink *k, struct json_object *from)
{
    struct then_sink *s = (struct then_sink *)k;
    struct then_sink t = *s;
    t.k.fn = on_to;
    t.other = from;
    return s->n->c ? gen(k->v, s->n->c, s->in, s->env, &t.k) : on_to(&t.k, NULL);
}

/* ---- Elements */
static int each(struct ev *v, struct json_object *o, bool opt, struct sink *k)
{
    int rc = 0;
    enum json_type t = json_object_get_type(o);
    if (t == json_type_array) {
        for (size_t i = 0; !rc && i < json_object_array_length(o); i++)
            if (!(rc = ev_charge(v, 1, 0)))
                rc = k->fn(k, json_object_array_get_idx(o, i));
    } else if (t == json_type_object) {
        for (struct lh_entry *m = json_object_get_object(o)->head; !rc && m; m = m->next)
            if (!(rc = ev_charge(v, 1, 0)))
                rc = k->fn(k, (struct json_object *)lh_entry_v(m));
    } else if (!opt) {
        char shown[EV_SHOWN];
        rc = ev_fail(v, "Cannot iterate over %s (%s)", js_kind(o), ev_shown(o, shown));
    }
    return rc;
}

static int on_each(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    return each(k->v, o, s->n->opt, s->out);
}

static int on_unary(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    struct json_object *r = NULL;
    int rc;
    if (s->n->kind == N_TEXT)
        rc = call_value(k->v, FN_TOSTRING, o, NULL, &r);
    else if (jq_is(o, "number"))
        rc = ev_number(k->v, -jq_double(o), &r);
    else
        rc = ev_type_error(k->v, o, "cannot be negated");
    return rc ? rc : give(s->out, r);
}

/* ---- Booleans and conditions */
static int give_bool(struct ev *v, struct sink *k, bool b)
{
    struct json_object *r = NULL;
    int rc = ev_bool(v, b, &r);
    return rc ? rc : give(k, r);
}

static int on_second(struct sink *k, struct json_object *o)
{
    return give_bool(k->v, ((struct then_sink *)k)->out, js_truthy(o));
}

static int on_first(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    bool yes = js_truthy(o);
    if (yes == (s->n->kind == N_OR))
        return give_bool(k->v, s->out, yes);
    struct then_sink second = {.k = {on_second, k->v}, .out = s->out};
    return gen(k->v, s->n->b, s->in, s->env, &second.k);
}

static int on_cond(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    return gen(k->v, js_truthy(o) ? s->n->b : s->n->c, s->in, s->env, s->out);
}

static int on_alt(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    if (!js_truthy(o))
        return 0;
    s->found = true;
    return s->out->fn(s->out, o);
}

static int gen_alt(struct ev *v, const struct node *n, struct json_object *in,
                   const struct env *env, struct sink *k)
{
    struct then_sink s = {.k = {on_alt, v}, .out = k};
    int rc = gen(v, n->a, in, env, &s.k);
    return rc || s.found ? rc : gen(v, n->b, in, env, k);
}

/* ---- Collecting and objects */
struct collect_sink {
    struct sink k;
    struct json_object *array;
};

static int on_collect(struct sink *k, struct json_object *o)
{
    return ev_push(k->v, ((struct collect_sink *)k)->array, json_object_get(o));
}

static int gen_collect(struct ev *v, const struct node *n, struct json_object *in,
                       const struct env *env, struct sink *k)
{
    struct collect_sink s = {{on_collect, v}, NULL};
    int rc = ev_array(v, &s.array);
    if (!rc)
        rc = gen(v, n, in, env, &s.k);
    if (!rc)
        return give(k, s.array);
    json_object_put(s.array);
    return rc;
}

struct object_sink {
    struct sink k;
    const struct node *n;
    size_t at; /* which pair */
    struct json_object *in, *key;
    const struct env *env;
    const struct object_sink *before; /* the pair before this one, with its value */
    struct json_object *value;
    struct sink *out;
};

static int gen_pair(struct object_sink *s);

static int add_pairs(struct ev *v, const struct object_sink *s, struct json_object *o)
{
    int rc = s->before ? add_pairs(v, s->before, o) : 0;
    if (!rc)
        rc = ev_set(v, o, jq_text(s->key), json_object_get(s->value));
    return rc;
}

static int on_value(struct sink *k, struct json_object *o)
{
    struct object_sink *s = (struct object_sink *)k;
    if (!jq_is(s->key, "string")) {
        char shown[EV_SHOWN];
        return ev_fail(k->v, "Cannot use %s (%s) as object key", js_kind(s->key),
                       ev_shown(s->key, shown));
    }
    s->value = o;
    struct object_sink next = {.k = {NULL, k->v},
                               .n = s->n,
                               .at = s->at + 2,
                               .in = s->in,
                               .env = s->env,
                               .before = s,
                               .out = s->out};
    return gen_pair(&next);
}

static int on_key(struct sink *k, struct json_object *key)
{
    struct object_sink *s = (struct object_sink *)k;
    struct object_sink t = *s;
    t.k.fn = on_value;
    t.key = key;
    const struct node *value = s->n->v[s->at + 1];
    if (value)
        return gen(k->v, value, s->in, s->env, &t.k);
    struct json_object *r = NULL;
    int rc = op_index(k->v, s->in, key, &r);
    return rc ? rc : give(&t.k, r);
}

static int gen_pair(struct object_sink *s)
{
    struct ev *v = s->k.v;
    if (s->at < s->n->n) {
        s->k.fn = on_key;
        return gen(v, s->n->v[s->at], s->in, s->env, &s->k);
    }
    struct json_object *o = NULL;
    int rc = ev_object(v, &o);
    if (!rc && s->before)
        rc = add_pairs(v, s->before, o);
    if (!rc)
        return give(s->out, o);
    json_object_put(o);
    return rc;
}

/* ---- Variables */
static int on_bind(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    struct env env = {s->env, s->n->name, o};
    return gen(k->v, s->n->b, s->in, &env, s->out);
}

static int gen_var(struct ev *v, const struct node *n, const struct env *env, struct sink *k)
{
    struct json_object *o = NULL;
    if (n->bound) {
        while (strcmp(env->name, n->name) != 0)
            env = env->next;
        return k->fn(k, env->value);
    }
    const struct expr_args *a = v->args;
    if (a && a->locals && json_object_object_get_ex(a->locals, n->name, &o))
        return k->fn(k, o);
    if (!a || n->var < 0 || !(a->present >> n->var & 1))
        return ev_fail(v, "$%s is not defined", n->name);
    return k->fn(k, a->var[n->var]);
}

/* ---- Functions */
static int on_argument(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    struct json_object *r = NULL;
    int rc = call_value(k->v, s->n->fn, s->in, o, &r);
    return rc ? rc : give(s->out, r);
}

static int on_select(struct sink *k, struct json_object *o)
{
    struct then_sink *s = (struct then_sink *)k;
    return js_truthy(o) ? s->out->fn(s->out, s->in) : 0;
}

static int on_test(struct sink *k, struct json_object *o)
{
    ((struct then_sink *)k)->found = js_truthy(o);
    return 0;
}

struct any_sink {
    struct sink k;
    const struct node *n; /* the condition, NULL: the element itself */
    const struct env *env;
    bool wanted, found; /* wanted: any looks for true, all for false */
};

/* jq leaves the loop at the element after the one that decided; that has no effect that could be
 * seen. */
static int on_any(struct sink *k, struct json_object *o)
{
    struct any_sink *s = (struct any_sink *)k;
    if (s->found)
        return 0;
    bool yes = js_truthy(o);
    if (s->n) {
        struct then_sink t = {.k = {on_test, k->v}};
        int rc = gen(k->v, s->n, o, s->env, &t.k);
        if (rc)
            return rc;
        yes = t.found;
    }
    s->found = yes == s->wanted;
    return 0;
}

static int gen_any(struct ev *v, const struct node *n, struct json_object *in,
                   const struct env *env, struct sink *k)
{
    bool any = n->fn == FN_ANY || n->fn == FN_ANY1;
    struct any_sink s = {{on_any, v}, n->a, env, any, false};
    int rc = each(v, in, false, &s.k);
    return rc ? rc : give_bool(v, k, s.found == any);
}

static int on_map(struct sink *k, struct json_object *o)
{
    return on_pipe(k, o);
}

static int gen_map(struct ev *v, const struct node *n, struct json_object *in,
                   const struct env *env, struct sink *k)
{
    struct collect_sink all = {{on_collect, v}, NULL};
    int rc = ev_array(v, &all.array);
    struct then_sink s = {.k = {on_map, v}, .next = n->a, .env = env, .out = &all.k};
    if (!rc)
        rc = each(v, in, false, &s.k);
    if (!rc)
        return give(k, all.array);
    json_object_put(all.array);
    return rc;
}

static int gen_call(struct ev *v, const struct node *n, struct json_object *in,
                    const struct env *env, struct sink *k)
{
    struct json_object *r = NULL;
    int rc;
    switch (n->fn) {
    case FN_EMPTY:
        return 0;
    case FN_VALUES:
        return in ? k->fn(k, in) : 0;
    case FN_MAP:
        return gen_map(v, n, in, env, k);
    case FN_ANY:
    case FN_ALL:
    case FN_ANY1:
    case FN_ALL1:
        return gen_any(v, n, in, env, k);
    case FN_NOW:
        rc = ev_number(v, (double)(v->args ? v->args->now_ms : 0) / 1000.0, &r);
        return rc ? rc : give(k, r);
    default:
        break;
    }
    if (n->a) {
        struct then_sink s = {.k = {n->fn == FN_SELECT ? on_select : on_argument, v},
                              .n = n,
                              .in = in,
                              .out = k};
        return gen(v, n->a, in, env, &s.k);
    }
    rc = call_value(v, n->fn, in, NULL, &r);
    return rc ? rc : give(k, r);
}

static int gen_try(struct ev *v, const struct node *n, struct json_object *in,
                   const struct env *env, struct sink *k)
{
    int rc = gen(v, n->a, in, env, k);
    return rc == -EINVAL && !v->exhausted ? 0 : rc;
}

static int gen_object(struct ev *v, const struct node *n, struct json_object *in,
                      const struct env *env, struct sink *k)
{
    struct object_sink s = {.k = {NULL, v}, .n = n, .in = in, .env = env, .out = k};
    return gen_pair(&s);
}

static int gen(struct ev *v, const struct node *n, struct json_object *in, const struct env *env,
               struct sink *k)
{
    int rc = ev_charge(v, 1, 0);
    if (rc)
        return rc;
    struct then_sink s = {.k = {NULL, v}, .n = n, .next = n->b, .env = env, .in = in, .out = k};
    static int (*const via_a[])(struct sink *, struct json_object *) = {
        [N_PIPE] = on_pipe,  [N_EACH] = on_each, [N_NEG] = on_unary,
        [N_TEXT] = on_unary, [N_AND] = on_first, [N_OR] = on_first,
        [N_IF] = on_cond,    [N_BIND] = on_bind, [N_CALL] = NULL};
    switch (n->kind) {
    case N_DOT:
        return k->fn(k, in);
    case N_CONST:
        return k->fn(k, n->lit);
    case N_COMMA:
        rc = gen(v, n->a, in, env, k);
        return rc ? rc : gen(v, n->b, in, env, k);
    case N_INDEX:
    case N_BINARY:
        s.k.fn = on_right;
        return gen(v, n->b, in, env, &s.k);
    case N_SLICE:
        s.k.fn = on_from;
        return n->b ? gen(v, n->b, in, env, &s.k) : on_from(&s.k, NULL);
    case N_ALT:
        return gen_alt(v, n, in, env, k);
    case N_TRY:
        return gen_try(v, n, in, env, k);
    case N_COLLECT:
        return gen_collect(v, n->a, in, env, k);
    case N_OBJECT:
        return gen_object(v, n, in, env, k);
    case N_VAR:
        return gen_var(v, n, env, k);
    case N_CALL:
        return gen_call(v, n, in, env, k);
    default:
        s.k.fn = via_a[n->kind];
        return gen(v, n->a, in, env, &s.k);
    }
}

/* ---- One value */
struct one_sink {
    struct sink k;
    struct json_object *value;
    size_t n;
};

static int on_one(struct sink *k, struct json_object *o)
{
    struct one_sink *s = (struct one_sink *)k;
    if (s->n++)
        return ev_limit(k->v, "the expression gives several values where one is expected");
    s->value = json_object_get(o);
    return 0;
}

int ev_run(struct ev *v, const struct node *root, struct json_object *in, struct json_object **ret)
{
    struct one_sink s = {{on_one, v}, NULL, 0};
    int rc = gen(v, root, in, NULL, &s.k);
    if (rc)
        json_object_put(s.value);
    else
        *ret = s.value;
    return rc;
}
