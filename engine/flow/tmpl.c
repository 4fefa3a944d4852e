/* Templates (expr.h): a tree of the value's shape whose leaves are literals or expressions.
 * Immutable once compiled. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "flow/expr_int.h"
#include "flow/schema.h"
#include "flow/tmpl_int.h"

#define TMPL_DEPTH_MAX 64
#define TMPL_EXPRS_MAX 256 /* that need a child, in one template */

enum kind { T_LITERAL, T_EXPR, T_OBJECT, T_ARRAY, T_SCHEMA };
struct tmpl {
    enum kind kind;
    bool loose;                  /* T_EXPR: failure yields the text */
    struct json_object *literal; /* T_LITERAL; T_EXPR when loose: its text */
    struct expr *expr;
    struct tmpl **v;
    char **keys;  /* T_OBJECT */
    char *schema; /* T_SCHEMA: the prepared document's text */
    size_t schema_len;
    size_t n;
};
struct maker {
    enum tmpl_mode mode;
    uint32_t allowed;
    const char *const *locals;
    char *path; /* JSON pointer of the present place; 256 bytes */
    struct err *e;
};

struct tmpl *tmpl_free(struct tmpl *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->n; i++) {
        tmpl_free(t->v[i]);
        if (t->keys)
            free(t->keys[i]);
    }
    free(t->v);
    free(t->keys);
    free(t->schema);
    expr_free(t->expr);
    json_object_put(t->literal);
    free(t);
    return NULL;
}

/* ${ ... } around the whole text. */
static bool braces(struct slice s, struct slice *ret)
{
    struct slice t = sl_trim(s);
    if (!sl_starts(t, SL("${")) || !sl_ends(t, SL("}")) || t.n < 3)
        return false;
    *ret = sl_trim(sl(t.p + 2, t.n - 3));
    return true;
}

static struct tmpl *make_text(struct maker *m, struct tmpl *t, struct json_object *value, bool top)
{
    struct slice text =
                     sl(json_object_get_string(value), (size_t)json_object_get_string_len(value)),
                 program = text;
    bool marked = braces(text, &program);
    if (!marked && m->mode != TMPL_LOOSE && !(top && m->mode == TMPL_BARE)) {
        t->kind = T_LITERAL;
        t->literal = json_object_get(value);
        return t;
    }
    struct err inner = {0};
    t->kind = T_EXPR;
    t->loose = !marked && m->mode == TMPL_LOOSE;
    t->expr = expr_compile(program, m->allowed, m->locals, &inner);
    if (!t->expr && (!t->loose || inner.code == -ENOMEM)) {
        *m->e = inner;
        return tmpl_free(t);
    }
    if (t->loose)
        t->literal = json_object_get(value);
    if (!t->expr)
        t->kind = T_LITERAL;
    return t;
}

static struct tmpl *make(struct maker *m, struct json_object *value, int depth);

static struct tmpl *make_child(struct maker *m, struct json_object *value, const char *step,
                               int depth)
{
    size_t at = strlen(m->path);
    snprintf(m->path + at, 256 - at, "/%s", step);
    struct tmpl *t = make(m, value, depth + 1);
    if (t)
        m->path[at] = 0; /* after a failure it stays, to say where */
    return t;
}

static struct tmpl *make_object(struct maker *m, struct tmpl *t, struct json_object *value,
                                int depth)
{
    size_t n = (size_t)json_object_object_length(value);
    t->kind = T_OBJECT;
    t->v = calloc(n + 1, sizeof *t->v);
    t->keys = calloc(n + 1, sizeof *t->keys);
    if (!t->v || !t->keys)
        goto memory;
    json_object_object_foreach(value, key, member)
    {
        if (!(t->v[t->n] = make_child(m, member, key, depth)))
            return tmpl_free(t);
        if (!(t->keys[t->n++] = strdup(key)))
            goto memory;
    }
    return t;
memory:
    err_set(m->e, -ENOMEM, "give the process more memory", "no memory for an expression");
    return tmpl_free(t);
}

static struct tmpl *make_array(struct maker *m, struct tmpl *t, struct json_object *value,
                               int depth)
{
    size_t n = json_object_array_length(value);
    char step[24];
    t->kind = T_ARRAY;
    if (!(t->v = calloc(n + 1, sizeof *t->v))) {
        err_set(m->e, -ENOMEM, NULL, "no memory");
        return tmpl_free(t);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(step, sizeof step, "%zu", i);
        if (!(t->v[t->n] = make_child(m, json_object_array_get_idx(value, i), step, depth)))
            return tmpl_free(t);
        t->n++;
    }
    return t;
}

static struct tmpl *make(struct maker *m, struct json_object *value, int depth)
{
    struct tmpl *t = calloc(1, sizeof *t);
    if (!t || depth > TMPL_DEPTH_MAX) {
        err_set(m->e, t ? -E2BIG : -ENOMEM, t ? "at most 64 levels" : NULL,
                t ? "the value is too deep" : "no memory");
        return tmpl_free(t);
    }
    switch (json_object_get_type(value)) {
    case json_type_string:
        return make_text(m, t, value, depth == 0);
    case json_type_object:
        return make_object(m, t, value, depth);
    case json_type_array:
        return make_array(m, t, value, depth);
    default:
        t->literal = json_object_get(value);
        return t;
    }
}

struct tmpl *tmpl_compile(struct json_object *value, enum tmpl_mode mode, uint32_t allowed,
                          const char *const *locals, char *path_of_error, struct err *e)
{
    char path[256] = "";
    struct err own = {0};
    struct maker m = {mode, allowed, locals, path_of_error ? path_of_error : path, e ? e : &own};
    m.path[0] = 0;
    struct tmpl *t = make(&m, value, 0);
    if (t && tmpl_pending(t, NULL, 0) > TMPL_EXPRS_MAX) {
        err_set(e, -E2BIG, "split it into several tasks",
                "more than %d expressions that need a child", TMPL_EXPRS_MAX);
        return tmpl_free(t);
    }
    return t;
}

struct tmpl *tmpl_schema(struct json_object *prepared, struct err *e)
{
    struct tmpl *t = calloc(1, sizeof *t);
    struct buf b;
    buf_init(&b, SCHEMA_BYTES_MAX);
    js_write(prepared, &b);
    if (!t || buf_error(&b)) {
        err_set(e, -E2BIG, "split it, or describe less", "the schema is larger than %d bytes",
                SCHEMA_BYTES_MAX);
        buf_free(&b);
        return tmpl_free(t);
    }
    t->kind = T_SCHEMA;
    t->schema_len = b.n;
    t->schema = buf_take(&b);
    buf_free(&b);
    return t;
}

bool tmpl_is_schema(const struct tmpl *t)
{
    return t && t->kind == T_SCHEMA;
}

struct slice tmpl_schema_text(const struct tmpl *t)
{
    return sl(t->schema, t->schema_len);
}

bool tmpl_is_const(const struct tmpl *t)
{
    if (t->kind == T_EXPR || t->kind == T_SCHEMA)
        return false;
    for (size_t i = 0; i < t->n; i++)
        if (!tmpl_is_const(t->v[i]))
            return false;
    return true;
}

bool tmpl_is_inline(const struct tmpl *t)
{
    return t->kind != T_SCHEMA && tmpl_pending(t, NULL, 0) == 0;
}

uint32_t tmpl_vars(const struct tmpl *t)
{
    uint32_t vars = t->kind == T_EXPR ? expr_vars(t->expr) : 0;
    for (size_t i = 0; i < t->n; i++)
        vars |= tmpl_vars(t->v[i]);
    return vars;
}

static void pending(const struct tmpl *t, const struct expr **v, size_t max, size_t *n)
{
    if (t->kind == T_EXPR && !expr_is_inline(t->expr)) {
        if (*n < max)
            v[*n] = t->expr;
        ++*n;
    }
    for (size_t i = 0; i < t->n; i++)
        pending(t->v[i], v, max, n);
}

size_t tmpl_pending(const struct tmpl *t, const struct expr **v, size_t max)
{
    size_t n = 0;
    pending(t, v, max, &n);
    return n;
}

size_t tmpl_programs(const struct tmpl *t, struct slice *v, size_t max)
{
    const struct expr *x[TMPL_EXPRS_MAX];
    size_t n = tmpl_pending(t, x, TMPL_EXPRS_MAX);
    for (size_t i = 0; i < n && i < max && i < TMPL_EXPRS_MAX; i++)
        v[i] = expr_text(x[i]);
    return n < max ? n : max;
}

/* ---- evaluation ---- */

struct filler {
    struct json_object *in;
    const struct expr_args *a;
    struct json_object *const *values;
    const char *const *errors;
    size_t n, next;
    struct err *e;
};

static int fill(struct filler *f, const struct tmpl *t, struct json_object **ret);

static int fill_expr(struct filler *f, const struct tmpl *t, struct json_object **ret)
{
    struct err inner = {0};
    int error = 0;
    if (expr_is_inline(t->expr)) {
        error = expr_eval_inline(t->expr, f->in, f->a, ret, &inner);
    } else if (f->next >= f->n) {
        return err_set(f->e, -ENOTSUP, "report this as a bug",
                       "the expression needs an expression child");
    } else {
        const char *why = f->errors[f->next];
        struct json_object *v = f->values[f->next++];
        if (why)
            error = err_set(&inner, -EINVAL, expr_hint(why), "%s", why);
        else
            *ret = json_object_get(v);
    }
    if (error && error != -ENOMEM && t->loose) {
        *ret = json_object_get(t->literal);
        return 0;
    }
    if (error && f->e)
        *f->e = inner;
    return error;
}

static int no_memory(struct filler *f)
{
    return err_set(f->e, -ENOMEM, "give the process more memory",
                   "no memory for the value of a template");
}

static int fill_container(struct filler *f, const struct tmpl *t, struct json_object **ret)
{
    struct json_object *o =
        t->kind == T_OBJECT ? json_object_new_object() : json_object_new_array();
    if (!o)
        return no_memory(f);
    for (size_t i = 0; i < t->n; i++) {
        struct json_object *v = NULL;
        int error = fill(f, t->v[i], &v);
        if (error) {
            json_object_put(o);
            return error;
        }
        if (t->kind == T_OBJECT ? json_object_object_add(o, t->keys[i], v)
                                : json_object_array_add(o, v)) {
            json_object_put(v);
            json_object_put(o);
            return no_memory(f);
        }
    }
    *ret = o;
    return 0;
}

static int fill_schema(struct filler *f, struct json_object **ret)
{
    if (f->next >= f->n)
        return err_set(f->e, -ENOTSUP, "report this as a bug",
                       "a schema needs an expression child");
    const char *why = f->errors[f->next];
    struct json_object *v = f->values[f->next++];
    if (why)
        return err_set(f->e, -EINVAL, "make the schema or the data simpler", "%s", why);
    *ret = json_object_get(v);
    return 0;
}

static int fill(struct filler *f, const struct tmpl *t, struct json_object **ret)
{
    if (t->kind == T_SCHEMA)
        return fill_schema(f, ret);
    if (t->kind == T_EXPR)
        return fill_expr(f, t, ret);
    if (t->kind == T_LITERAL) {
        *ret = json_object_get(t->literal);
        return 0;
    }
    return fill_container(f, t, ret);
}

int tmpl_fill(const struct tmpl *t, struct json_object *in, const struct expr_args *a,
              struct json_object *const *values, const char *const *errors, size_t n,
              struct json_object **ret, struct err *e)
{
    struct filler f = {in, a, values, errors, n, 0, e};
    return fill(&f, t, ret);
}

int tmpl_eval_inline(const struct tmpl *t, struct json_object *in, const struct expr_args *a,
                     struct json_object **ret, struct err *e)
{
    return tmpl_fill(t, in, a, NULL, NULL, 0, ret, e);
}
