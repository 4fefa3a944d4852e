/* Compiling expressions: what is refused and how that is told, what is inline, and the limits of
 * one evaluation. That inline results are jq's is the matter of test_expr_jq.c. */
#include <stdlib.h>

#include "flow/expr.h"
#include "unit.h"

SUITE("flow/expr")

static const char *const locals[] = {"item", NULL};
#define ALLOWED (1u << VAR_CONTEXT | 1u << VAR_INPUT)

static void refused(const char *text, const char *message, const char *hint)
{
    struct err e = {0};
    struct expr *x = expr_compile(sl_str(text), ALLOWED, locals, &e);
    CHECK(x == NULL);
    CHECK_STR(e.msg, message);
    CHECK_STR(e.hint, hint);
    expr_free(x);
}

static void accepted(const char *text, bool is_inline)
{
    struct err e = {0};
    struct expr *x = expr_compile(sl_str(text), ALLOWED, locals, &e);
    CHECK_STR(x ? "" : e.msg, "");
    if (x)
        CHECK_INT(expr_is_inline(x), is_inline);
    expr_free(x);
}

TEST(mistakes_are_told_with_their_column_and_a_hint)
{
    refused(".a + ", "expression, column 6: it ends where an expression should stand",
            "a bracket, a quote or the rest of the expression is missing");
    refused(".a = = 1", "expression, column 6: `=` where an expression should stand",
            "jq compares with ==");
    refused("{a: .x + 1}",
            "expression, column 8: an operator in the value of a key (jq 1.6 needs brackets there)",
            "put the value in brackets: {key: (.a + 1)}");
    refused("if . then 1 end", "expression, column 13: `if` without `else`",
            "jq 1.6 needs it: add `else .` or `else null`");
    refused("lenght", "expression, column 1: lenght/0 is not defined", "did you mean length?");
    refused("join", "expression, column 1: join/0 is not defined",
            "join exists with another number of arguments; they are separated by ;");
    refused(".a\n| 'x'", "expression, line 2, column 3: `'` where an expression should stand",
            "texts stand in double quotes");
    refused("\"a", "expression, column 1: a text that is not closed", "close it with \"");
    refused("", "expression, column 1: an empty expression", "write . for the input itself");
}

TEST(variables_are_those_of_the_place)
{
    refused("$output", "expression, column 2: $output is not available here",
            "available here: $context $input $item");
    refused("$contxt", "expression, column 2: $contxt is not defined", "did you mean $context?");
    accepted("$context.a + $item + (1 as $x | $x)", true);
    accepted("reduce .[] as [$k, {v: $n}] (0; . + $n + $k)", false);
    accepted("def f($a; g): $a + (g | a); f(1; 2)", false);
    refused("(1 as $x | $x) + $x", "expression, column 19: $x is not defined",
            "available here: $context $input $item");
    accepted("label $out | 1, break $out", false);
}

TEST(an_expression_is_pure)
{
    refused("env.HOME", "expression, column 1: env is not available in expressions",
            "expressions do not read the environment; declare a secret in use.secrets or pass the "
            "value in the input");
    refused("$ENV.HOME", "expression, column 2: expressions do not read the environment",
            "declare a secret in use.secrets or pass the value in the input");
    refused("import \"x\" as x; 1", "expression, column 1: expressions can not load modules",
            "define functions with def inside the expression");
    refused("x::f", "expression, column 1: expressions can not load modules",
            "define functions with def inside the expression");
    struct err e = {0};
    static const char *const others[] = {
        "input",        "[inputs]",        "1 | debug",         "stderr",
        "halt",         "halt_error(1)",   "input_line_number", "$__loc__",
        "$__prog_args", "get_search_list", "\"\\(input)\"",     "modulemeta"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK(expr_compile(sl_str(others[i]), ALLOWED, NULL, &e) == NULL);
    /* The same words as names of members and in texts are nothing special. */
    accepted("{input: .env, debug: \"import input $ENV\", import: 1} | .input # halt", true);
}

TEST(a_program_cannot_leave_its_brackets)
{
    struct err e = {0};
    CHECK(expr_compile(SL("1) | (2"), ALLOWED, NULL, &e) == NULL);
    CHECK(expr_compile(SL("\"\\(1\" + \")\""), ALLOWED, NULL, &e) == NULL);
    accepted("1 # ) (", true);
}

TEST(the_text_of_a_program_is_bounded)
{
    struct err e = {0};
    struct buf t;
    buf_init(&t, 2 * EXPR_TEXT_MAX);
    buf_addc(&t, '1');
    while (t.n < EXPR_TEXT_MAX)
        buf_addc(&t, ' ');
    struct expr *x = expr_compile(buf_slice(&t), ALLOWED, NULL, &e);
    CHECK(x != NULL);
    expr_free(x);
    buf_addc(&t, ' ');
    CHECK(expr_compile(buf_slice(&t), ALLOWED, NULL, &e) == NULL);
    CHECK(e.msg[0] && e.hint[0]);
    buf_free(&t);
}

static int run(const char *text, const char *input, struct err *e)
{
    struct json_object *in = NULL, *out = NULL;
    struct expr_args a = {0};
    struct expr *x = expr_compile(sl_str(text), ALLOWED, locals, e);
    NEED(x && expr_is_inline(x));
    NEED(js_parse(sl_str(input), &in, e) == 0);
    int rc = expr_eval_inline(x, in, &a, &out, e);
    json_object_put(out);
    json_object_put(in);
    expr_free(x);
    return rc;
}

/* Constants are looked for in divisions and keys; nodes beyond those that are kept are no tree. */
TEST(a_program_with_more_nodes_than_are_kept_is_left_to_the_child)
{
    static const char *const ends[] = {"(.) / (.)", "(. / 3) / (. / 3)", "{(. + 1): 2}"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct buf b;
        buf_init(&b, 64 << 10);
        for (int k = 0; k < 1000; k++)
            buf_adds(&b, ". - ");
        buf_adds(&b, ends[i]);
        NEED(!buf_error(&b));
        accepted(b.p, false);
        buf_free(&b);
    }
}

TEST(an_evaluation_is_bounded)
{
    struct err e = {0};
    struct buf t;
    buf_init(&t, 1 << 16);
    buf_addc(&t, '.');
    for (int i = 0; i < 60; i++)
        buf_adds(&t, " | [., .]");
    CHECK_INT(run(t.p, "1", &e), -EINVAL);
    CHECK_STR(e.msg, "the result is larger than 16 MiB");
    CHECK(e.hint[0]);
    buf_adds(&t, " | tojson | length");
    CHECK_INT(run(t.p, "1", &e), -EINVAL);
    buf_reset(&t);
    buf_addc(&t, '.');
    for (int i = 0; i < 30; i++)
        buf_adds(&t, " | (., .)");
    CHECK_INT(run(t.p, "1", &e), -EINVAL);
    CHECK_INT(run("\"x\" * 1e9", "1", &e), -EINVAL);
    CHECK_INT(run("\"\\u0005\" * 2000000", "1", &e), 0);
    CHECK_INT(run("\"\\u0005\" * 3000000", "1", &e), -EINVAL); /* 18 MB when it is written */
    CHECK_INT(run("[.[] | . * 100000] | add",
                  "[\"aaaaaaaaaaaaaaaa\",\"bbbbbbbbbbbbbbb\",\"a\",\"a\",\"a\"]", &e),
              0);
    buf_reset(&t);
    for (int i = 0; i < 5000; i++)
        buf_addc(&t, '[');
    CHECK(expr_compile(buf_slice(&t), 0, NULL, &e) == NULL);
    CHECK_STR(e.hint, "split it into several tasks");
    buf_free(&t);
}

TEST(an_absent_variable_is_an_error_of_the_evaluation)
{
    struct err e = {0};
    CHECK_INT(run("$context", "1", &e), -EINVAL);
    CHECK_STR(e.msg, "$context is not defined");
}
