/* YAML with places: the core schema of YAML 1.2, what is refused, and where things stood. */
#include "config/ydoc.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/js.h"
#include "unit.h"

SUITE("config/ydoc")

static void write_json(struct json_object *o, char *out, size_t size)
{
    struct buf b;
    buf_init(&b, size);
    js_write(o, &b);
    (void)snprintf(out, size, "%s", b.p ? b.p : "");
    buf_free(&b);
}

static void check_value(const char *yaml, const char *json)
{
    char seen[4096];
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(yaml), "t.yaml", &d);
    for (size_t i = 0; i < d.n; i++)
        CHECK_STR(d.v[i].msg, "");
    NEED(y != NULL);
    write_json(ydoc_root(y), seen, sizeof seen);
    CHECK_STR(seen, json);
    ydoc_free(y);
    diags_free(&d);
}

/* Problems as "LINE:COL message;" one after the other. */
static void check_problems(struct slice yaml, const char *want)
{
    char seen[2048] = "";
    size_t n = 0;
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(yaml, "t.yaml", &d);
    CHECK(y == NULL);
    for (size_t i = 0; i < d.n; i++) {
        n += (size_t)snprintf(seen + n, sizeof seen - n, "%d:%d %s;", d.v[i].line, d.v[i].col,
                              d.v[i].msg);
        CHECK(d.v[i].hint && d.v[i].hint[0]);
        CHECK_STR(d.v[i].file, "t.yaml");
    }
    CHECK_STR(seen, want);
    ydoc_free(y);
    diags_free(&d);
}

TEST(plain_scalars_follow_the_core_schema)
{
    check_value("[null, ~, Null]\n", "[null,null,null]");
    check_value("a:\nb: ''\n", "{\"a\":null,\"b\":\"\"}");
    check_value("[true, True, FALSE, on, off, yes, No, y]\n",
                "[true,true,false,\"on\",\"off\",\"yes\",\"No\",\"y\"]");
    check_value("[1, -2, +3, 007, 0x1F, 0o17, 1_000, 0b1]\n", "[1,-2,3,7,31,15,\"1_000\",\"0b1\"]");
    check_value("[1.5, .5, 1., -1e3, 1e-2, '1.5', 1.0.3, 12:30, .]\n",
                "[1.5,0.5,1,-1000,0.01,\"1.5\",\"1.0.3\",\"12:30\",\".\"]");
    check_value("[9223372036854775807, 9223372036854775808]\n",
                "[9223372036854775807,9223372036854776000]");
    check_value("[-, +, e5, 1e, 0x, 0o8, 2026-11-25]\n",
                "[\"-\",\"+\",\"e5\",\"1e\",\"0x\",\"0o8\",\"2026-11-25\"]");
}

TEST(the_key_on_stays_a_text)
{
    check_value("on: {one: {}}\nyes: no\n", "{\"on\":{\"one\":{}},\"yes\":\"no\"}");
}

TEST(quoted_and_block_texts)
{
    check_value("a: '1'\nb: \"x\\ty\"\nc: |\n  one\n  two\nd: >-\n  one\n  two\n",
                "{\"a\":\"1\",\"b\":\"x\\ty\",\"c\":\"one\\ntwo\\n\",\"d\":\"one two\"}");
}

TEST(json_is_read_too)
{
    check_value("{\"a\":[1,2.5,null,true,\"x\\u00e9\"],\"b\":{}}",
                "{\"a\":[1,2.5,null,true,\"xé\"],\"b\":{}}");
}

TEST(an_empty_file_is_null)
{
    check_value("", "null");
    check_value("# only a comment\n", "null");
}

TEST(problems_that_leave_the_shape_are_told_together)
{
    check_problems(
        SL("a: 1\nb: &x 2\na: 3\nc: !!str 4\nd: *x\n? [1]\n: 2\ne: {a: 1, a: 2}\n"),
        "2:4 anchors are not supported: &x;3:1 the key \"a\" stands here twice;"
        "4:4 tags are not supported: tag:yaml.org,2002:str;5:4 aliases are not supported: *x;"
        "6:3 a key must be a text;8:11 the key \"a\" stands here twice;");
    check_problems(SL("a: {b: 1}\na: {c: [1], d: {}}\nz: {y: [1]}\n"),
                   "2:1 the key \"a\" stands here twice;");
    check_problems(SL("\"a\\0b\": 1\n"), "1:1 a key holds a zero byte;");
    check_problems(
        SL("[.inf, -.Inf, .nan, 1e999]\n"),
        "1:2 JSON has no number .inf;1:8 JSON has no number -.Inf;1:15 JSON has no number .nan;"
        "1:21 the number 1e999 is too large;");
}

TEST(syntax_errors_have_a_place)
{
    check_problems(SL("a: b: c\n"),
                   "1:5 not YAML: mapping values are not allowed in this context;");
    check_problems(SL("a: [1, 2\n"),
                   "2:1 not YAML: did not find expected ',' or ']' while parsing a flow sequence;");
    check_problems(SL("a: 1\n---\nb: 2\n"), "2:1 a second document begins here;");
    check_problems(SL("a: 1\nb: \x01\n"), "2:4 not YAML: control characters are not allowed;");
    check_problems(sl("a: \xff\n", 5), "1:4 not YAML: invalid leading UTF-8 octet;");
}

static void check_hint(const char *yaml, bool quotes)
{
    struct diags d;
    diags_init(&d);
    CHECK(ydoc_parse(sl_str(yaml), "t.yaml", &d) == NULL);
    NEED(d.n == 1 && d.v[0].hint);
    CHECK(!strncmp(d.v[0].hint, "put quotes around an expression", 31) == quotes);
    diags_free(&d);
}

TEST(an_unquoted_expression_has_its_own_hint)
{
    check_hint("as: ${ { a: .b } }\n", true);
    check_hint("set: {a: ${ .b }}\n", true);
    check_hint("list: [${ .b }, 1]\n", true);
    check_hint("as: a: b\n", false);
}

TEST(depth_and_size_are_bounded)
{
    char text[2 * YDOC_DEPTH_MAX + 8] = "";
    memset(text, '[', YDOC_DEPTH_MAX);
    memset(text + YDOC_DEPTH_MAX, ']', YDOC_DEPTH_MAX);
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(text), "t.yaml", &d);
    CHECK(y != NULL);
    ydoc_free(y);
    diags_free(&d);
    memset(text, '[', YDOC_DEPTH_MAX + 1);
    memset(text + YDOC_DEPTH_MAX + 1, ']', YDOC_DEPTH_MAX + 1);
    check_problems(sl_str(text), "1:65 more than 64 levels of mappings and lists;");
    char *large = calloc(1, YDOC_BYTES_MAX + 2);
    NEED(large != NULL);
    memset(large, '#', YDOC_BYTES_MAX + 1);
    check_problems(sl(large, YDOC_BYTES_MAX + 1), "0:0 the file has more than 4194304 bytes;");
    free(large);
}

static void check_pos(struct ydoc_pos p, int line, int col)
{
    CHECK_INT(p.line, line);
    CHECK_INT(p.col, col);
}

TEST(places)
{
    struct diags d;
    diags_init(&d);
    struct ydoc *y =
        ydoc_parse(SL("a:\n  b: text\n  c: 'q'\nlist:\n  - one\n  - {x: 1}\n"), "t.yaml", &d);
    NEED(y != NULL);
    struct json_object *root = ydoc_root(y), *a = js_get(root, "a"), *list = js_get(root, "list"),
                       *item = json_object_array_get_idx(list, 1);
    CHECK_STR(ydoc_name(y), "t.yaml");
    check_pos(ydoc_key_pos(y, root, "a"), 1, 1);
    check_pos(ydoc_value_pos(y, root, "a", 0), 2, 3);
    check_pos(ydoc_node_pos(y, a), 2, 3);
    check_pos(ydoc_key_pos(y, a, "c"), 3, 3);
    check_pos(ydoc_value_pos(y, a, "c", 0), 3, 6);
    check_pos(ydoc_value_pos(y, list, NULL, 1), 6, 5);
    check_pos(ydoc_value_pos(y, item, "x", 0), 6, 9);
    check_pos(ydoc_node_pos(y, item), 6, 5);
    CHECK(ydoc_is_plain(y, a, "b", 0));
    CHECK(!ydoc_is_plain(y, a, "c", 0));
    CHECK(ydoc_is_plain(y, list, NULL, 0));
    check_pos(ydoc_value_pos(y, a, "nosuch", 0), 0, 0);
    check_pos(ydoc_value_pos(y, list, NULL, 9), 0, 0);
    check_pos(ydoc_node_pos(y, NULL), 0, 0);
    ydoc_free(y);
    diags_free(&d);
}

TEST(a_tree_has_no_places)
{
    struct json_object *o = NULL;
    CHECK_INT(js_parse(SL("{\"a\":1}"), &o, NULL), 0);
    struct ydoc *y = ydoc_from_json(o, "tree");
    NEED(y != NULL);
    CHECK(ydoc_root(y) == o);
    check_pos(ydoc_key_pos(y, o, "a"), 0, 0);
    CHECK(!ydoc_is_plain(y, o, "a", 0));
    ydoc_free(y);
}

TEST(files)
{
    char path[] = "/tmp/tm_ydoc_XXXXXX";
    struct diags d;
    int fd = mkstemp(path);
    NEED(fd >= 0);
    CHECK_INT(write(fd, "a: 1\n", 5), 5);
    close(fd);
    diags_init(&d);
    struct ydoc *y = ydoc_load(path, &d);
    NEED(y != NULL);
    CHECK_INT(js_int(ydoc_root(y), "a", 0), 1);
    ydoc_free(y);
    unlink(path);
    CHECK(ydoc_load(path, &d) == NULL);
    CHECK_INT(d.n, 1);
    diags_free(&d);
}
