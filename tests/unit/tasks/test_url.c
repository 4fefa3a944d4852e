/* URLs of calls: templates, query parameters, what may be shown. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>

#include "tasks/url.h"

SUITE("tasks/url")

static char out[32768];

static const char *expand(const char *tmpl, const char *vars)
{
    struct json_object *o = NULL;
    struct buf b;
    struct err e = {0};
    NEED(js_parse(sl_str(vars), &o, NULL) == 0);
    buf_init(&b, URL_MAX_BYTES);
    int rc = url_expand(sl_str(tmpl), o, &b, &e);
    (void)snprintf(out, sizeof out, "%s", rc ? e.msg : b.p ? b.p : "");
    CHECK_INT(rc, e.code);
    buf_free(&b);
    json_object_put(o);
    return out;
}

static const char *query(const char *url, const char *members)
{
    struct json_object *o = NULL;
    struct buf b;
    struct err e = {0};
    NEED(js_parse(sl_str(members), &o, NULL) == 0);
    buf_init(&b, URL_MAX_BYTES);
    int rc = url_add_query(sl_str(url), o, &b, &e);
    (void)snprintf(out, sizeof out, "%s", rc ? e.msg : b.p ? b.p : "");
    buf_free(&b);
    json_object_put(o);
    return out;
}

TEST(template_takes_top_level_scalars_and_encodes_them)
{
    CHECK_STR(expand("http://h/{a}/x?q={b}", "{\"a\":1,\"b\":\"c d/&\"}"),
              "http://h/1/x?q=c%20d%2F%26");
    CHECK_STR(expand("http://h/{a.b}", "{\"a\":{\"b\":1},\"a.b\":true}"), "http://h/true");
    CHECK_STR(expand("http://h/{gone}-{n}.", "{\"n\":null}"), "http://h/-.");
    CHECK_STR(expand("http://h/{a}", "\"text\""), "http://h/");
    CHECK_STR(expand("http://h/{a", "{\"a\":1}"), "http://h/{a");
}

TEST(template_with_an_array_is_an_error)
{
    CHECK_STR(expand("http://h/{a}", "{\"a\":[1]}"), "{a} of the endpoint is an array");
}

TEST(query_is_merged_before_the_fragment)
{
    CHECK_STR(query("http://h/p", "{\"a\":\"x y\",\"b\":2}"), "http://h/p?a=x%20y&b=2");
    CHECK_STR(query("http://h/p?z=1#f", "{\"a\":true,\"skip\":null}"), "http://h/p?z=1&a=true#f");
    CHECK_STR(query("http://h/p?", "{\"a\":[1,\"2\"]}"), "http://h/p?a=1&a=2");
    CHECK_STR(query("http://h/p", "{}"), "http://h/p");
    CHECK_STR(query("http://h/p", "null"), "http://h/p");
    CHECK_STR(query("http://h/p", "{\"a\":{}}"),
              "the query parameter 'a' has a value that can't stand in a URL");
    CHECK_STR(query("http://h/p", "[]"), "the query is array, not an object");
}

TEST(shown_url_has_no_credentials_and_no_query)
{
    struct slice s = url_shown(SL("https://me:pw@h/p?token=1#x"));
    CHECK(sl_is(s, "h/p"));
    s = url_shown(SL("https://h/p/a@b"));
    CHECK(sl_is(s, "https://h/p/a@b"));
}
