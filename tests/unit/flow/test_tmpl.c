/* Templates: which texts are expressions in which mode, and what is told about the others. */
#include <stdlib.h>

#include "flow/expr.h"
#include "unit.h"

SUITE("flow/tmpl")

static struct tmpl *compile(const char *text, enum tmpl_mode mode, char *path, struct err *e)
{
    struct json_object *value = NULL;
    NEED(js_parse(sl_str(text), &value, e) == 0);
    struct tmpl *t = tmpl_compile(value, mode, 1u << VAR_CONTEXT, NULL, path, e);
    json_object_put(value);
    return t;
}

static void expect(const char *text, enum tmpl_mode mode, const char *want)
{
    struct json_object *in = NULL, *out = NULL;
    struct err e = {0};
    struct expr_args a = {0};
    struct buf b;
    buf_init(&b, 1 << 16);
    NEED(js_parse(SL("{\"a\":1,\"s\":\"${ .a }\"}"), &in, &e) == 0);
    struct tmpl *t = compile(text, mode, NULL, &e);
    if (!t)
        buf_addf(&b, "REFUSED %s", e.msg);
    else if (tmpl_eval_inline(t, in, &a, &out, &e))
        buf_addf(&b, "ERROR %s", e.msg);
    else
        js_write(out, &b);
    CHECK_STR(b.p, want);
    json_object_put(in);
    json_object_put(out);
    tmpl_free(t);
    buf_free(&b);
}

TEST(strict_mode_takes_only_texts_that_are_one_expression)
{
    expect("{\"x\":\"${ .a }\",\"y\":\" ${.a+1} \",\"z\":\".a\",\"t\":\"is ${ .a "
           "}\",\"n\":[1,null,true]}",
           TMPL_STRICT, "{\"x\":1,\"y\":2,\"z\":\".a\",\"t\":\"is ${ .a }\",\"n\":[1,null,true]}");
    expect("\"${ .missing.deep }\"", TMPL_STRICT, "null");
    expect("\"${ .a.b }\"", TMPL_STRICT, "ERROR Cannot index number with string \"b\"");
}

TEST(a_bare_place_takes_the_text_itself_but_not_those_inside)
{
    expect("\".a\"", TMPL_BARE, "1");
    expect("\"${ .a }\"", TMPL_BARE, "1");
    expect("{\"x\":\".a\",\"y\":\"${ .a }\"}", TMPL_BARE, "{\"x\":\".a\",\"y\":1}");
}

TEST(loose_mode_tries_every_text_and_keeps_what_fails)
{
    expect("[\".a\",\".a.b\",\"hello\",\"two words\",\"${ .a }\",\"1 +\",\"$nobody\"]", TMPL_LOOSE,
           "[1,\".a.b\",\"hello\",\"two words\",1,\"1 +\",\"$nobody\"]");
}

TEST(text_of_the_input_is_never_evaluated)
{
    expect("\"${ .s }\"", TMPL_STRICT, "\"${ .a }\"");
    expect("\".s\"", TMPL_LOOSE, "\"${ .a }\"");
}

TEST(a_refusal_names_the_place_and_the_variable)
{
    struct err e = {0};
    char path[256];
    CHECK(compile("{\"x\":[1,\"${ $output }\"]}", TMPL_STRICT, path, &e) == NULL);
    CHECK_STR(path, "/x/1");
    CHECK_STR(e.msg, "expression, column 2: $output is not available here");
    CHECK_STR(e.hint, "available here: $context");
}

TEST(programs_for_the_child_are_listed)
{
    struct err e = {0};
    struct slice v[4];
    struct tmpl *t =
        compile("[\"${ .a }\",\"${ [range(2)] }\",{\"k\":\"${ .a | test($context) }\"}]",
                TMPL_STRICT, NULL, &e);
    NEED(t != NULL);
    CHECK(!tmpl_is_inline(t));
    CHECK(!tmpl_is_const(t));
    CHECK_INT(tmpl_vars(t), 1u << VAR_CONTEXT);
    CHECK_INT(tmpl_programs(t, v, 4), 2);
    CHECK(sl_is(v[0], "[range(2)]"));
    CHECK(sl_is(v[1], ".a | test($context)"));
    tmpl_free(t);
    t = compile("{\"a\":[1,\"x\"]}", TMPL_STRICT, NULL, &e);
    NEED(t != NULL);
    CHECK(tmpl_is_const(t) && tmpl_is_inline(t));
    tmpl_free(t);
}
