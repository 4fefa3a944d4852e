/* Expressions: whatever the bytes, compiling ends and tells a refusal with a hint; what is inline
 * ends within its limits on the input that stands behind the first zero byte (null without one),
 * and its result can be written and read again. */
#include <stdlib.h>

#include "flow/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void need(bool ok)
{
    if (!ok)
        abort();
}

static void readable(struct json_object *o)
{
    struct json_object *again = NULL;
    struct buf b;
    buf_init(&b, 64u << 20);
    need(js_write(o, &b) == 0);
    need(js_parse(buf_slice(&b), &again, NULL) == 0);
    need(js_equal(o, again));
    json_object_put(again);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const locals[] = {"item", NULL};
    const uint8_t *zero = n ? memchr(p, 0, n) : NULL;
    size_t len = zero ? (size_t)(zero - p) : n;
    struct json_object *in = NULL, *out = NULL;
    struct expr_args a = {.present = 1u << VAR_CONTEXT, .now_ms = 1};
    struct err e = {0};
    struct expr *x = expr_compile(sl(p, len), 1u << VAR_CONTEXT | 1u << VAR_INPUT, locals, &e);
    need(x || (e.msg[0] && e.hint[0]));
    if (x && expr_is_inline(x) && (!zero || js_parse(sl(zero + 1, n - len - 1), &in, NULL) == 0)) {
        a.var[VAR_CONTEXT] = in;
        if (expr_eval_inline(x, in, &a, &out, &e) == 0)
            readable(out);
        else
            need(e.msg[0] && e.hint[0]);
        json_object_put(out);
        json_object_put(in);
    }
    expr_free(x);
    return 0;
}
