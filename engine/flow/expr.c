/* Compiled expressions: making, freeing, asking, and one inline evaluation. A compiled expression
 * is immutable; one thread owns an evaluation. */
#include "flow/expr_int.h"

#include <stdlib.h>

#include "base/hash.h"

#define ARENA_MAX (16u * 1024 * 1024)

const char *const expr_var_names[VAR_COUNT] = {"context",  "input",   "output",  "task",
                                               "workflow", "runtime", "secrets", "authorization",
                                               "error",    "event",   "kafka"};

static struct expr *compile(struct slice text, uint32_t allowed, const char *const *locals,
                            bool any_var, struct err *e)
{
    if (text.n > EXPR_TEXT_MAX) {
        err_set(e, -E2BIG, "split it into several tasks", "an expression of more than %d bytes",
                EXPR_TEXT_MAX);
        return NULL;
    }
    if (text.n && memchr(text.p, 0, text.n)) {
        err_set(e, -EINVAL, "write \\u0000 inside a text", "a zero byte in an expression");
        return NULL;
    }
    if (!utf8_valid(text)) {
        err_set(e, -EINVAL, "save the file as UTF-8", "an expression that is not UTF-8");
        return NULL;
    }
    struct expr *x = calloc(1, sizeof *x);
    if (!x) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for an expression");
        return NULL;
    }
    arena_init(&x->arena, ARENA_MAX);
    x->text = arena_slice(&x->arena, text);
    if (text.n && !x->text.p) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for an expression");
        return expr_free(x);
    }
    return expr_parse(x, allowed, locals, any_var, e) ? expr_free(x) : x;
}

struct expr *expr_compile(struct slice text, uint32_t allowed, const char *const *locals,
                          struct err *e)
{
    return compile(text, allowed, locals, false, e);
}

struct expr *expr_compile_any(struct slice text, struct err *e)
{
    return compile(text, 0, NULL, true, e);
}

struct expr *expr_free(struct expr *x)
{
    if (!x)
        return NULL;
    for (size_t i = 0; i < x->nlits; i++)
        json_object_put(x->lits[i]);
    free(x->lits);
    arena_free(&x->arena);
    free(x);
    return NULL;
}

bool expr_is_inline(const struct expr *x)
{
    return x->root != NULL;
}

uint32_t expr_vars(const struct expr *x)
{
    return x->vars;
}

struct slice expr_text(const struct expr *x)
{
    return x->text;
}

bool js_truthy(struct json_object *o)
{
    return o && !(json_object_get_type(o) == json_type_boolean && !json_object_get_boolean(o));
}

const char *expr_hint(const char *message)
{
    static const struct {
        const char *part, *hint;
    } table[] = {
        {"several values", "put [ ] around it"},
        {"Cannot index",
         "the input has another shape there; .a? skips what has no member a, // gives a default"},
        {"Cannot iterate over null", "give a default first: (.list // [])[]"},
        {"Cannot iterate over", "only arrays and objects have elements; .[]? skips other values"},
        {"cannot be added", "convert one of them first, with tostring or tonumber"},
        {"cannot be", "convert the values first, with tonumber, tostring or a default (//)"},
        {"is not defined", "it has no value at this place of the workflow"},
        {"too many steps", "make the expression do less, or split it into several tasks"},
        {"too much data", "make the expression do less, or split it into several tasks"},
        {"zero byte", "take it out of the text before it becomes a key"},
        {"no memory", "give the process more memory"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(message, table[i].part))
            return table[i].hint;
    return "compare the expression (jq 1.6) with the input that it got";
}

int expr_eval_inline(const struct expr *x, struct json_object *in, const struct expr_args *a,
                     struct json_object **ret, struct err *e)
{
    if (!x->root)
        return err_set(e, -ENOTSUP, "report this as a bug",
                       "the expression needs an expression child");
    struct ev v = {.args = a};
    struct json_object *out = NULL;
    int rc = ev_run(&v, x->root, in, &out);
    static const char no_memory[] = "no memory while evaluating";
    const char *why = v.error ? v.error : no_memory;
    if (rc && !strcmp(why, no_memory))
        rc = -ENOMEM; /* not the program's own failure: nobody may take it for its result */
    if (rc)
        err_set(e, rc, expr_hint(why), "%s", why);
    else
        rc = jq_canon(out, ret, e);
    free(v.error);
    return rc;
}
