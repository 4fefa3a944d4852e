/* What several nodes answered, put together. */
#include <stdlib.h>

#include "base/js.h"
#include "gateway/gather.h"
#include "unit.h"

SUITE("gateway gather")

static struct json_object *json(const char *text)
{
    struct json_object *o = NULL;
    struct err e = {0};
    NEED(js_parse(sl_str(text), &o, &e) == 0);
    return o;
}

static void add(struct json_object *runs, int ms, const char *id)
{
    char text[200];
    (void)snprintf(text, sizeof text,
                   "{\"id\":\"%s\",\"requestedAt\":\"2026-11-26T12:00:00.%03dZ\"}", id, ms);
    js_push_new(runs, json(text));
}

static void ids(struct json_object *runs, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < js_length(runs) && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s", js_str(js_at(runs, i), "id"));
}

static void sorted(int64_t limit, bool more, const char *expected, const char *last_ms)
{
    char seen[64], next[64];
    struct json_object *runs = json_object_new_array();
    add(runs, 5, "b"); /* one node's */
    add(runs, 3, "d");
    add(runs, 9, "a"); /* another's */
    add(runs, 5, "c");
    add(runs, 5, "b"); /* a partition that both had */
    add(runs, 1, "e");
    gather_sort(runs, limit, more, next, sizeof next);
    ids(runs, seen, sizeof seen);
    CHECK_STR(seen, expected);
    CHECK(last_ms[0] ? strstr(next, last_ms) != NULL : next[0] == 0);
    json_object_put(runs);
}

TEST(runs_stand_in_order_once_each)
{
    sorted(10, false, "acbde", "");
    sorted(5, false, "acbde", "");
    sorted(5, true, "acbde", "001.e");
    sorted(4, false, "acbd", "003.d");
    sorted(2, false, "ac", "005.c");
    sorted(1, true, "a", "009.a");
}

TEST(nothing_and_nonsense_are_put_in_order_too)
{
    char next[64];
    struct json_object *runs = json_object_new_array();
    gather_sort(runs, 5, true, next, sizeof next);
    CHECK_STR(next, "");
    js_push_new(runs, json("{}"));
    js_push_new(runs, json("{\"id\":7,\"requestedAt\":[]}"));
    js_push_new(runs, json("\"text\""));
    json_object_array_add(runs, NULL);
    gather_sort(runs, 2, false, next, sizeof next);
    CHECK_INT(js_length(runs), 2);
    json_object_put(runs);
}

TEST(counts_are_sums)
{
    struct json_object *
        all = json_object_new_object(),
       *v[] = {json("{\"statuses\":{\"completed\":2,\"faulted\":1},\"agents\":{\"t/"
                    "a\":{\"completed\":2},"
                    "\"t/b\":{\"faulted\":1}}}"),
               json("{\"statuses\":{\"completed\":5},\"agents\":{\"t/a\":{\"completed\":4},\"t/c\":"
                    "{\"completed\":1}}}"),
               json("{\"statuses\":[],\"agents\":{\"t/a\":7}}"), json("{}")};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        gather_add(all, v[i]);
        json_object_put(v[i]);
    }
    struct json_object *expected =
        json("{\"statuses\":{\"completed\":7,\"faulted\":1},\"agents\":{\"t/a\":{\"completed\":6},"
             "\"t/b\":{\"faulted\":1},\"t/c\":{\"completed\":1}}}");
    CHECK(js_equal(all, expected));
    json_object_put(all);
    json_object_put(expected);
}
