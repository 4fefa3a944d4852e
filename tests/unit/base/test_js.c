/* JSON: what is refused and where, how numbers come back, scanning, comparing, counted values. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/val.h"
#include "unit.h"

SUITE("base/js")

static void check_roundtrip(struct slice text, const char *want)
{
    struct json_object *o = NULL;
    struct err e = {0};
    struct buf b;
    buf_init(&b, 4096);
    CHECK_INT(js_parse(text, &o, &e), 0);
    if (e.code)
        fprintf(stderr, "%s\n", e.msg);
    CHECK_INT(js_check(text, NULL), 0);
    CHECK_INT(js_write(o, &b), 0);
    CHECK_STR(b.p, want);
    json_object_put(o);
    buf_free(&b);
}

static void check_refused(struct slice text, int line, int col, const char *part)
{
    struct json_object *o = (struct json_object *)&text;
    struct err e = {0}, f = {0};
    CHECK_INT(js_parse(text, &o, &e), -EINVAL);
    CHECK(o == (struct json_object *)&text);
    CHECK_INT(js_check(text, &f), -EINVAL);
    CHECK_STR(f.msg, e.msg);
    CHECK_INT(e.line, line);
    CHECK_INT(e.col, col);
    CHECK(e.hint[0] != 0);
    if (!strstr(e.msg, part))
        CHECK_STR(e.msg, part);
}

TEST(values_come_back_as_they_were)
{
    check_roundtrip(SL("{\"a\":[1,true,false,null,\"x/y\"],\"b\":{}}"),
                    "{\"a\":[1,true,false,null,\"x/y\"],\"b\":{}}");
    check_roundtrip(SL(" \t\r\n[ ] "), "[]");
    check_roundtrip(SL("null"), "null");
    check_roundtrip(SL("{\"z\":1,\"a\":2,\"m\":{\"q\":[[]]}}"),
                    "{\"z\":1,\"a\":2,\"m\":{\"q\":[[]]}}");
    check_roundtrip(SL("\"\\u00e9\\ud83d\\ude00\\n\\u0001\\/\\\"\\\\\""),
                    "\"\xc3\xa9\xf0\x9f\x98\x80\\n\\u0001/\\\"\\\\\"");
    check_roundtrip(SL("\"a\\u0000b\""), "\"a\\u0000b\"");
    /* U+1DA00: its low 16 bits alone would be a surrogate. */
    check_roundtrip(SL("\"\\ud836\\ude00\""), "\"\xf0\x9d\xa8\x80\"");
}

TEST(numbers_keep_their_shortest_text)
{
    static const char *const same[] = {"0",
                                       "-1",
                                       "9223372036854775807",
                                       "-9223372036854775808",
                                       "0.1",
                                       "-0",
                                       "2.5",
                                       "1e+100",
                                       "1.7976931348623157e+308",
                                       "5e-324",
                                       "1e-05",
                                       "0.0001",
                                       "123456.789",
                                       "0.3333333333333333",
                                       "2.2250738585072014e-308",
                                       "1.5e+300",
                                       NULL};
    for (int i = 0; same[i]; i++)
        check_roundtrip(sl_str(same[i]), same[i]);
    check_roundtrip(SL("3.0"), "3");
    check_roundtrip(SL("1E2"), "100");
    check_roundtrip(SL("1e16"), "10000000000000000");
    check_roundtrip(SL("0e5"), "0");
    check_roundtrip(SL("0.000"), "0");
    check_roundtrip(SL("9223372036854775808"), "9223372036854776000");
    check_roundtrip(SL("18446744073709551615"), "18446744073709552000");
    check_roundtrip(SL("0.30000000000000004"), "0.30000000000000004");
}

TEST(every_double_is_read_back_exactly)
{
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = random_u64();
        double d;
        memcpy(&d, &bits, sizeof d);
        if (!isfinite(d))
            continue;
        struct json_object *o = json_object_new_double(d), *back = NULL;
        struct buf b;
        buf_init(&b, 64);
        js_write(o, &b);
        CHECK_INT(js_parse(buf_slice(&b), &back, NULL), 0);
        double got = json_object_get_double(back);
        if (got != d)
            fprintf(stderr, "%.17g was written as %s\n", d, b.p);
        CHECK(got == d);
        json_object_put(o);
        json_object_put(back);
        buf_free(&b);
    }
}

TEST(numbers_that_json_lacks_are_written_as_jq_does)
{
    struct buf b;
    buf_init(&b, 100);
    struct json_object *v[] = {json_object_new_double(NAN), json_object_new_double(-INFINITY),
                               json_object_new_uint64(UINT64_MAX)};
    for (int i = 0; i < 3; i++) {
        js_write(v[i], &b);
        buf_addc(&b, ' ');
        json_object_put(v[i]);
    }
    CHECK_STR(b.p, "null -1.7976931348623157e+308 18446744073709552000 ");
    buf_free(&b);
}

TEST(errors_tell_line_and_column)
{
    check_refused(SL(""), 1, 1, "ends where a value");
    check_refused(SL("[1,]"), 1, 4, "']'");
    check_refused(SL("{\n  \"a\": 1\n  \"b\": 2}"), 3, 3, "comma");
    check_refused(SL("{\"\xc3\xa9\": x}"), 1, 7, "'x'");
    check_refused(SL("1 2"), 1, 3, "more behind");
    check_refused(SL("\xef\xbb\xbf{}"), 1, 1, "0xef");
    check_refused(SL("{\"a\":1"), 1, 7, "ends");
    check_refused(SL("[tru]"), 1, 2, "value");
    check_refused(SL("{a:1}"), 1, 2, "double quotes");
    check_refused(SL("{\"a\",1}"), 1, 5, "colon");
}

TEST(numbers_that_are_none_are_refused)
{
    check_refused(SL("NaN"), 1, 1, "NaN");
    check_refused(SL("[Infinity]"), 1, 2, "Infinity");
    check_refused(SL("-Infinity"), 1, 1, "Infinity");
    check_refused(SL("1e999"), 1, 1, "range");
    check_refused(SL("1e-999"), 1, 1, "small");
    check_refused(SL("01"), 1, 1, "begins with 0");
    check_refused(SL("1."), 1, 3, "digit");
    check_refused(SL("1e"), 1, 3, "digit");
    check_refused(SL("+1"), 1, 1, "'+'");
    check_refused(SL("-"), 1, 2, "digit");
    check_refused(SL(".5"), 1, 1, "'.'");
    static char long_number[2000];
    memset(long_number, '9', sizeof long_number);
    check_refused(sl(long_number, sizeof long_number), 1, 1, "1024");
}

TEST(strings_that_are_none_are_refused)
{
    check_refused(SL("\"a\nb\""), 1, 3, "control");
    check_refused(SL("\"abc"), 1, 5, "does not end");
    check_refused(SL("\"\\x\""), 1, 2, "escape");
    check_refused(SL("\"\\u12g4\""), 1, 2, "hexadecimal");
    check_refused(SL("\"\\ud800\""), 1, 2, "surrogate");
    check_refused(SL("\"\\udc00\\ud800\""), 1, 2, "surrogate");
    check_refused(SL("\"\\ud800\\u0041\""), 1, 2, "surrogate");
    check_refused(SL("\"ab\xff\""), 1, 4, "UTF-8");
    check_refused(SL("\"\xed\xa0\x80\""), 1, 2, "UTF-8");
    check_refused(SL("{\"a\\u0000b\":1}"), 1, 2, "U+0000");
    check_refused(SL("{'a':1}"), 1, 2, "'''");
}

TEST(duplicate_members_are_refused_at_any_depth)
{
    check_refused(SL("{\"a\":1,\n\"a\":2}"), 2, 1, "\"a\"");
    check_refused(SL("[{\"x\":{\"b\":1,\"\\u0062\":2}}]"), 1, 14, "twice");
    check_roundtrip(SL("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}"),
                    "{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}");
    struct buf b;
    buf_init(&b, 100000);
    buf_adds(&b, "{\"k500\":0");
    for (int i = 0; i < 500; i++)
        buf_addf(&b, ",\"k%d\":%d", i, i);
    buf_adds(&b, "}");
    CHECK_INT(js_check(buf_slice(&b), NULL), 0);
    b.p[b.n - 1] = ',';
    buf_adds(&b, "\"k77\":0}");
    CHECK_INT(js_check(buf_slice(&b), NULL), -EINVAL);
    buf_free(&b);
}

TEST(depth_is_bounded)
{
    struct buf b;
    buf_init(&b, 1000000);
    for (int n = JS_DEPTH_MAX; n <= JS_DEPTH_MAX + 1; n++) {
        buf_reset(&b);
        for (int i = 0; i < n; i++)
            buf_addc(&b, '[');
        for (int i = 0; i < n; i++)
            buf_addc(&b, ']');
        struct json_object *o = NULL;
        CHECK_INT(js_parse(buf_slice(&b), &o, NULL), n > JS_DEPTH_MAX ? -EINVAL : 0);
        json_object_put(o);
    }
    buf_reset(&b);
    for (int i = 0; i < 900000; i++)
        buf_addc(&b, '[');
    CHECK_INT(js_check(buf_slice(&b), NULL), -EINVAL);
    /* A tree that was computed deeper is not written, since nobody could read it. */
    struct json_object *deep = json_object_new_array();
    for (int i = 0; i < JS_DEPTH_MAX; i++) {
        struct json_object *outer = json_object_new_array();
        json_object_array_add(outer, deep);
        deep = outer;
    }
    buf_reset(&b);
    CHECK_INT(js_write(deep, &b), -E2BIG);
    json_object_put(deep);
    buf_free(&b);
}

TEST(random_damage_never_leads_outside)
{
    static const char text[] =
        "{\"a\":[1,2.5e3,\"x\\u00e9\\ud83d\\ude00\",{\"b\":null}],\"c\":true,\"d\":-0.1}";
    size_t n = sizeof text - 1;
    for (int i = 0; i < 20000; i++) {
        char *copy = sl_dup(sl(text, n)); /* on the heap, so that ASan sees each byte beyond */
        NEED(copy != NULL);
        size_t len = random_u64() % (n + 1);
        for (int k = 0; k < 3; k++)
            copy[random_u64() % n] = (char)random_u64();
        char *exact = malloc(len ? len : 1);
        NEED(exact != NULL);
        memcpy(exact, copy, len);
        struct slice s = sl(exact, len), key, value;
        struct json_object *o = NULL;
        int rc = js_parse(s, &o, NULL);
        CHECK_INT(js_check(s, NULL), rc);
        json_object_put(o);
        for (size_t pos = 0; js_next(s, &pos, &key, &value);)
            CHECK(value.p >= s.p && value.p + value.n <= s.p + s.n);
        for (size_t pos = 0; js_next_item(s, &pos, &value);)
            CHECK(value.p >= s.p && value.p + value.n <= s.p + s.n);
        js_member(s, "zz", &value);
        free(exact);
        free(copy);
    }
}

TEST(members_are_found_without_a_tree)
{
    struct slice doc =
                     SL(" { \"a\" : [1,{\"x\":\"]}\"}] , \"b\\n\":\"q\\\"w\",\"c\":12 ,\"d\":{}} "),
                 v, k;
    NEED(js_member(doc, "a", &v));
    CHECK(sl_is(v, "[1,{\"x\":\"]}\"}]"));
    NEED(js_member(doc, "b\n", &v));
    CHECK(sl_is(v, "\"q\\\"w\""));
    NEED(js_member(doc, "c", &v));
    CHECK(sl_is(v, "12"));
    NEED(js_member(doc, "d", &v));
    CHECK(sl_is(v, "{}"));
    CHECK(!js_member(doc, "x", &v));
    CHECK(!js_member(SL("[1]"), "x", &v));
    CHECK(!js_member(SL("{}"), "x", &v));
    size_t pos = 0, n = 0;
    while (js_next(doc, &pos, &k, &v))
        n++;
    CHECK_INT(n, 4);
    struct slice items = SL("[ 1, [2,3] ,\"a,b\",{} , null]");
    static const char *const want[] = {"1", "[2,3]", "\"a,b\"", "{}", "null"};
    pos = n = 0;
    while (js_next_item(items, &pos, &v)) {
        NEED(n < 5);
        CHECK(sl_is(v, want[n++]));
    }
    CHECK_INT(n, 5);
    pos = 0;
    CHECK(!js_next_item(SL("[]"), &pos, &v));
}

TEST(the_size_of_a_string_is_known_before_it_is_written)
{
    struct buf b;
    char all[127];
    for (int i = 0; i < 127; i++)
        all[i] = (char)(i + 1);
    struct slice v[] = {SL(""), SL("plain"), sl(all, sizeof all), SL("\0\0"),
                        SL("\xc3\xa4\xe2\x82\xac")};
    buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        buf_reset(&b);
        NEED(js_write_str(&b, v[i]) == 0);
        CHECK_INT(js_str_size(v[i]), b.n);
    }
    buf_free(&b);
}

TEST(strings_are_unquoted_and_quoted)
{
    struct buf b;
    buf_init(&b, 200);
    CHECK_INT(js_unquote(SL("\"a\\tb\\u20ac\""), &b), 0);
    CHECK_STR(b.p, "a\tb\xe2\x82\xac");
    CHECK_INT(js_unquote(SL("12"), &b), -EINVAL);
    CHECK_INT(js_unquote(SL("\"a\"b"), &b), -EINVAL);
    buf_reset(&b);
    js_write_str(&b, SL("\xff"
                        "a\xc3"
                        "\xc3\xa9\x7f\x1f"));
    CHECK_STR(b.p, "\"\xef\xbf\xbd"
                   "a\xef\xbf\xbd\xc3\xa9\\u007f\\u001f\"");
    buf_free(&b);
}

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;
    NEED(js_parse(sl_str(text), &o, NULL) == 0);
    return o;
}

TEST(trees_are_compared_by_value)
{
    static const struct {
        const char *a, *b;
        bool same;
    } t[] = {{"1", "1.0", true},
             {"{\"a\":1,\"b\":[2]}", "{\"b\":[2.0],\"a\":1}", true},
             {"{\"a\":1}", "{\"a\":1,\"b\":1}", false},
             {"{\"a\":null}", "{\"b\":null}", false},
             {"[1,2]", "[2,1]", false},
             {"\"a\"", "\"b\"", false},
             {"null", "false", false},
             {"null", "null", true},
             {"9007199254740993", "9007199254740992", true},
             {"0", "\"0\"", false}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct json_object *a = parsed(t[i].a), *b = parsed(t[i].b);
        CHECK_INT(js_equal(a, b), t[i].same);
        json_object_put(a);
        json_object_put(b);
    }
}

TEST(copies_and_lookups)
{
    struct json_object *o =
        parsed("{\"s\":\"x\",\"n\":7,\"d\":2.9,\"b\":true,\"l\":[{\"q\":null}]}");
    bool ok;
    struct json_object *c = js_copy(o, &ok);
    CHECK(ok && c != o && js_equal(o, c));
    CHECK_STR(js_str(c, "s"), "x");
    CHECK(js_str(c, "n") == NULL && js_str(NULL, "s") == NULL);
    CHECK_INT(js_int(c, "n", 0), 7);
    CHECK_INT(js_int(c, "d", 0), 2);
    CHECK_INT(js_int(c, "s", -3), -3);
    CHECK(js_bool(c, "b", false) && js_bool(c, "none", true));
    CHECK_STR(js_kind(js_get(c, "l")), "array");
    CHECK_STR(js_kind(js_get(c, "d")), "number");
    CHECK_STR(js_kind(NULL), "null");
    struct buf b;
    buf_init(&b, 1000);
    js_write_pretty(js_get(c, "l"), &b);
    CHECK_STR(b.p, "[\n  {\n    \"q\": null\n  }\n]");
    buf_free(&b);
    json_object_put(o);
    json_object_put(c);
    CHECK(js_copy(NULL, &ok) == NULL && ok);
}

TEST(values_make_text_and_tree_when_asked)
{
    struct val *a = val_text_new(SL("{\"x\": 1}")), *b = val_tree_new(parsed("{\"x\":1.0}"));
    NEED(a && b);
    CHECK(val_equal(a, b) && !val_equal(a, NULL));
    CHECK(sl_is(val_text(a), "{\"x\": 1}"));
    CHECK(sl_is(val_text(b), "{\"x\":1}"));
    CHECK(js_int(val_tree(a), "x", 0) == 1);
    CHECK(val_ref(a) == a);
    CHECK(val_unref(a) == NULL);
    CHECK(sl_is(val_text(a), "{\"x\": 1}"));
    val_unref(a);
    val_unref(b);
    CHECK(sl_is(val_text(NULL), "null") && val_tree(NULL) == NULL && val_unref(NULL) == NULL);
    struct val *n = val_text_new(SL("null")), *m = val_tree_new(NULL);
    CHECK(n && m && val_tree(n) == NULL && sl_is(val_text(m), "null"));
    CHECK(val_equal(n, NULL) && val_equal(m, n));
    val_unref(n);
    val_unref(m);
}
