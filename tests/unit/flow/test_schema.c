/* JSON Schema: the official test suite for draft 7 through a child, what is refused and where, and
 * schemas that would hang or kill the process that judges them. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "flow/evalpool.h"
#include "flow/schema.h"
#include "flows.h"
#include "unit.h"

SUITE("flow/schema")

#define SUITE_FOLDER "/usr/share/json-schema-test-suite/tests/draft7" /* Debian's package */

static struct loop *loop;
static struct evalpool *pool;

static void begin(int64_t deadline_ms)
{
    struct evalpool_opts o = {.deadline_ms = deadline_ms};
    struct err e = {0};
    NEED((loop = loop_new(&e)) != NULL);
    NEED((pool = evalpool_new(loop, &o, NULL, &e)) != NULL);
}

static void end(void)
{
    pool = evalpool_free(pool);
    loop = loop_free(loop);
}

struct answer {
    bool done;
    struct json_object *problems;
    struct err e;
};

static void on_answer(void *arg, struct json_object *value, const struct err *e)
{
    struct answer *a = arg;
    a->done = true;
    a->problems = value;
    if (e)
        a->e = *e;
}

static struct answer judge(const struct tmpl *t, struct json_object *value)
{
    struct answer a = {0};
    struct expr_args none = {0};
    int64_t until = clock_boot_ms() + 180000;
    CHECK_INT(evalpool_submit(pool, t, value, &none, on_answer, &a), 0);
    while (!a.done && clock_boot_ms() < until)
        loop_turn(loop, 1000);
    CHECK(a.done);
    return a;
}

/* The schema of {"schema": ...}; problems as lines in `problems`. */
static struct tmpl *compile(const char *text, bool deep, struct buf *problems)
{
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(text), "schema.yaml", &d);
    struct tmpl *t = y ? schema_compile(y, ydoc_root(y), "schema", deep, &d) : NULL;
    buf_init(problems, 1 << 16);
    flow_problems(&d, problems);
    buf_addc(problems, 0);
    diags_free(&d);
    ydoc_free(y);
    return t;
}

/* ---- the official suite ---- */

/* Groups whose schema is refused when it is read, by name and with a place; all others are judged
 * right, to the last test. */
static const struct {
    const char *file, *group, *why;
} refused[] = {
    {"definitions.json", NULL, "remote"}, /* both refer to the meta schema */
    {"refRemote.json", NULL, "remote"},
    {"ref.json", "remote ref, containing refs itself", "remote"},
    {"ref.json", "Recursive references between schemas", "$id inside, references to it"},
    {"ref.json", "escaped pointer ref", "schemas stand outside of definitions"},
    {"ref.json", "ref overrides any sibling keywords", "keywords beside $ref"},
    {"content.json", NULL, "contentEncoding and contentMediaType"},
    {"ecmascript-regex.json", "ECMA 262 regex non-compliance", "format: regex"},
    {"idn-email.json", NULL, "format"},
    {"idn-hostname.json", NULL, "format"},
    {"iri-reference.json", NULL, "format"},
    {"iri.json", NULL, "format"},
    {"regex.json", NULL, "format"},
    {"relative-json-pointer.json", NULL, "format"},
    {"uri-template.json", NULL, "format"},
};

static bool is_refused(const char *file, const char *group)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(refused[i].file, file) &&
            (!refused[i].group || !strcmp(refused[i].group, group)))
            return true;
    return false;
}

static size_t judged;

static void run_group(const char *file, struct json_object *group)
{
    const char *name = js_str(group, "description");
    struct json_object *tests = js_get(group, "tests");
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_from_json(json_object_get(group), file);
    struct tmpl *t = schema_compile(y, group, "schema", false, &d);
    if (!t != is_refused(file, name)) {
        fprintf(stderr, "%s: %s: %s %s\n", file, name,
                t ? "is not refused" : "is refused:", d.n ? d.v[0].msg : "");
        CHECK(false);
    }
    for (size_t i = 0; t && i < json_object_array_length(tests); i++) {
        struct json_object *test = json_object_array_get_idx(tests, i);
        const char *what = js_str(test, "description");
        struct answer a = judge(t, js_get(test, "data"));
        bool valid = !a.e.code && !json_object_array_length(a.problems);
        bool right = !a.e.code && valid == js_bool(test, "valid", false);
        judged++;
        if (!right) {
            fprintf(stderr, "%s: %s: %s: saw %s %s\n", file, name, what,
                    a.e.code ? a.e.msg
                    : valid  ? "valid"
                             : "invalid",
                    text_of(a.problems));
            CHECK(false);
        }
        json_object_put(a.problems);
    }
    tmpl_free(t);
    ydoc_free(y);
    diags_free(&d);
}

static int is_json(const struct dirent *e)
{
    return sl_ends(sl_str(e->d_name), SL(".json"));
}

static void run_folder(const char *folder)
{
    struct dirent **v = NULL;
    int n = scandir(folder, &v, is_json, alphasort);
    if (n <= 0)
        fprintf(stderr, "%s: apt-get install json-schema-test-suite\n", folder);
    CHECK(n > 0);
    for (int i = 0; i < n; i++) {
        char path[512];
        struct buf b;
        struct json_object *groups = NULL;
        (void)snprintf(path, sizeof path, "%s/%s", folder, v[i]->d_name);
        buf_init(&b, 4 << 20);
        CHECK_INT(file_read(path, &b, NULL), 0);
        CHECK_INT(js_parse(buf_slice(&b), &groups, NULL), 0);
        for (size_t k = 0; k < json_object_array_length(groups); k++)
            run_group(v[i]->d_name, json_object_array_get_idx(groups, k));
        json_object_put(groups);
        buf_free(&b);
        free(v[i]);
    }
    free(v);
}

TEST(the_official_suite_of_draft_7_is_judged_right)
{
    begin(20000);
    judged = 0;
    run_folder(SUITE_FOLDER);
    run_folder(SUITE_FOLDER "/optional");
    run_folder(SUITE_FOLDER "/optional/format");
    CHECK(judged > 400);
    end();
}

/* ---- what is refused, and where ---- */

static void says(const char *text, bool deep, const char *want)
{
    struct buf seen;
    struct tmpl *t = compile(text, deep, &seen);
    CHECK_STR(seen.p, want);
    CHECK(!t == (*want != 0));
    tmpl_free(t);
    buf_free(&seen);
}

TEST(what_would_not_be_judged_is_refused_by_name_at_its_place)
{
    says("schema:\n  type: object\n  properties:\n    a: {type: strin}\n", false,
         "4:15: \"strin\" is not a type\n    did you mean string?\n");
    says("schema:\n  propertys: {}\n", false,
         "2:3: the keyword \"propertys\" is not supported in schemas\n    did you mean "
         "properties?\n");
    says("schema:\n  items:\n    minContains: 2\n", false,
         "3:5: minContains is not supported in schemas\n    it would not be judged: leave it "
         "out\n");
    says("schema: {prefixItems: [true]}\n", false,
         "1:10: prefixItems is not supported in a schema of draft 7, which this one is without "
         "$schema\n    draft 7 writes items: [...]\n");
    says("schema: {format: e-mail}\n", false,
         "1:18: the format \"e-mail\" is not supported\n    did you mean email?\n");
    says("schema: {exclusiveMinimum: true}\n", false,
         "1:28: exclusiveMinimum can't be a boolean\n    a number: exclusiveMinimum: 0\n");
    says("schema: {minLength: -1, required: id, multipleOf: 0}\n", false,
         "1:21: minLength can't be negative\n    a whole number from 0\n"
         "1:35: required can't be a string\n    a list: required: [id]\n"
         "1:51: multipleOf must be above 0\n    such as 1, 10 or 0.01\n");
    says("schema: {not: 5}\n", false,
         "1:15: a schema is a mapping, true or false, but this is number\n"
         "    such as {type: string}, true or false\n");
    says("schema: {$schema: 'https://example.com/mine'}\n", false,
         "1:19: schemas of \"https://example.com/mine\" are not supported\n"
         "    $schema: http://json-schema.org/draft-07/schema#, or leave it out\n");
    says("schema: {x-note: mine, $comment: fine, title: Also}\n", true, "");
}

TEST(a_reference_leads_to_a_schema_of_the_document_and_comes_to_an_end)
{
    says("schema: {$ref: 'https://example.com/a.json'}\n", false,
         "1:16: schemas outside of the document are not fetched\n"
         "    put that schema into definitions and write $ref: '#/definitions/NAME'\n");
    says("schema: {$ref: '#here'}\n", false,
         "1:16: references to an anchor are not supported\n"
         "    refer by place: $ref: '#/definitions/NAME'\n");
    says("schema:\n  definitions: {total: {type: number}}\n  items: {$ref: "
         "'#/definitions/totl'}\n",
         false,
         "3:17: #/definitions/totl is no schema of this document\n"
         "    did you mean /definitions/total?\n");
    says("schema: {$ref: '#'}\n", false,
         "1:9: this schema refers to itself without end\n"
         "    a reference to the schema around it belongs into properties or items\n");
    says("schema:\n  definitions:\n    a: {anyOf: [{type: \"null\"}, {not: {$ref: "
         "'#/definitions/b'}}]}\n    b: {if: {$ref: '#/definitions/a'}}\n",
         false,
         "3:8: this schema refers to itself without end\n"
         "    a reference to the schema around it belongs into properties or items\n");
    says("schema: {$ref: '#/definitions/a', maximum: 3, definitions: {a: true}}\n", false,
         "1:35: draft 7 ignores maximum beside $ref\n"
         "    write allOf: [{$ref: ...}] for the reference\n");
    says("schema: {properties: {next: {$ref: '#'}}, propertyNames: {maxLength: 4}}\n", true, "");
}

TEST(a_pattern_that_is_none_is_told_where_it_stands)
{
    struct buf seen;
    struct tmpl *t = compile("schema:\n  properties:\n    a:\n      pattern: '(['\n", true, &seen);
    CHECK(t == NULL);
    CHECK(strstr(seen.p, "4:7: ") &&
          strstr(seen.p, "the pattern \"([\" is not a regular expression"));
    buf_free(&seen);
    t = compile("schema:\n  patternProperties:\n    '*': true\n", true, &seen);
    CHECK(t == NULL && strstr(seen.p, "the pattern \"*\" is not"));
    buf_free(&seen);
}

/* ---- what is told of a value ---- */

static void tells(const char *schema, const char *value, const char *want)
{
    struct buf seen, line;
    struct tmpl *t = compile(schema, false, &seen);
    struct json_object *v = json_of(value);
    CHECK_STR(seen.p, "");
    NEED(t != NULL);
    struct answer a = judge(t, v);
    buf_init(&line, 1 << 16);
    a.e.code ? buf_addf(&line, "ERROR %s", a.e.msg) : schema_explain(a.problems, &line);
    buf_addc(&line, 0);
    if (want)
        CHECK_STR(line.p, want);
    json_object_put(a.problems);
    json_object_put(v);
    tmpl_free(t);
    buf_free(&line);
    buf_free(&seen);
}

TEST(each_problem_has_its_pointer_and_says_what_is_wrong)
{
    begin(0);
    tells("schema: {required: [id, total], properties: {id: {type: string}, total: {minimum: 0.5}},"
          " additionalProperties: false}",
          "{\"id\":5,\"total\":0.25,\"a/b~c\":1}",
          "/id: must be a string, but is an integer; /total: must be at least 0.5; "
          "/a~1b~0c: is not allowed");
    tells("schema: {items: {type: [integer, \"null\"]}, maxItems: 2, uniqueItems: true}",
          "[1,\"x\",1.0]",
          "/1: must be an integer or null, but is a string; must have at most 2 elements; the "
          "elements 0 and 2 are equal");
    tells("schema: {propertyNames: {maxLength: 2}, minProperties: 2}", "{\"abc\":1}",
          "has a property whose name is not allowed; must have at least 2 properties");
    tells("schema: {enum: [a, b]}", "\"c\"", "must be one of the values of enum");
    tells("schema: {const: 1}", "1.0", "");
    tells("schema: {anyOf: [{type: string}, {maximum: 3}]}", "7",
          "must be a string, but is an integer; must be at most 3; fits none of the schemas of "
          "anyOf");
    tells("schema: {oneOf: [{minimum: 1}, {maximum: 3}]}", "2",
          "fits more than one of the schemas of oneOf");
    tells("schema: {not: {type: string}}", "\"\"", "fits the schema of not");
    tells("schema: {contains: {type: string}}", "[1]", "no element fits contains");
    tells("schema: {pattern: '^.{2}$', format: date}", "\"\\u00e4\\ud83d\\ude00\"",
          "must be a valid date");
    tells("schema: {multipleOf: 7}", "7.5", "must be a multiple of 7");
    tells("schema: {maximum: 9007199254740992}", "9007199254740993",
          "must be at most 9007199254740992");
    tells("schema: {if: {type: string}, then: {minLength: 2}}", "\"a\"",
          "must have at least 2 characters");
    tells("schema: {dependencies: {a: [b], c: {required: [d]}, e: {required: [f]}}}",
          "{\"a\":1,\"e\":1}", "lacks the property that others need: 'b'; lacks the property 'f'");
    tells("schema: {$schema: 'https://json-schema.org/draft/2020-12/schema', prefixItems: [{type: "
          "string}], items: {type: number}, dependentRequired: {a: [b]}}",
          "[1,\"x\"]",
          "/0: must be a string, but is an integer; /1: must be a number, but is a string");
    end();
}

/* ---- schemas and values that would hang or kill ---- */

/* "aaa...": n times, between quotes. */
static char *many(char c, size_t n)
{
    char *s = malloc(n + 3);
    NEED(s != NULL);
    memset(s, c, n + 2);
    s[0] = s[n + 1] = '"';
    s[n + 2] = 0;
    return s;
}

static void submit(const char *schema, const char *value, struct tmpl **t, struct answer *a)
{
    struct buf seen;
    struct expr_args none = {0};
    struct json_object *v = json_of(value);
    *t = compile(schema, false, &seen);
    NEED(*t != NULL);
    *a = (struct answer){0};
    CHECK_INT(evalpool_submit(pool, *t, v, &none, on_answer, a), 0);
    json_object_put(v);
    buf_free(&seen);
}

TEST(a_schema_that_takes_too_long_fails_alone)
{
    struct buf doubling;
    struct answer a[4];
    struct tmpl *t[4];
    begin(4000);
    buf_init(&doubling, 1 << 16);
    buf_adds(&doubling,
             "schema:\n  $ref: '#/definitions/a0'\n  definitions:\n    a40: {type: string}\n");
    for (int i = 0; i < 40; i++)
        buf_addf(&doubling,
                 "    a%d: {allOf: [{$ref: '#/definitions/a%d'}, {$ref: '#/definitions/a%d'}]}\n",
                 i, i + 1, i + 1);
    buf_addc(&doubling, 0);
    submit("schema: {pattern: '^(a+)+$'}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"", &t[0],
           &a[0]);
    submit(doubling.p, "\"x\"", &t[1], &a[1]);
    submit("schema: {type: string}", "\"x\"", &t[2], &a[2]);
    submit("schema: {type: string}", "5", &t[3], &a[3]);
    int64_t until = clock_boot_ms() + 180000;
    while (!(a[0].done && a[1].done && a[2].done && a[3].done) && clock_boot_ms() < until)
        loop_turn(loop, 1000);
    CHECK_STR(a[0].e.msg, "the schema took too long");
    CHECK_STR(a[1].e.msg, "the schema took too long");
    CHECK_STR(text_of(a[2].problems), "[]");
    CHECK(strstr(text_of(a[3].problems), "must be a string") != NULL);
    for (int i = 0; i < 4; i++) {
        json_object_put(a[i].problems);
        tmpl_free(t[i]);
    }
    buf_free(&doubling);
    end();
}

TEST(long_texts_and_many_problems_stay_within_the_bounds)
{
    begin(20000);
    char *fits = many('a', 4096), *longer = many('a', 4097);
    tells("schema: {pattern: '^(a|b)*$'}", fits, "");
    tells("schema: {pattern: '^(a|b)*$'}", longer,
          "is longer than 4096 characters, too long for a pattern");
    struct buf list;
    buf_init(&list, 4 << 20);
    buf_addc(&list, '[');
    for (int i = 0; i < 200000; i++)
        buf_adds(&list, i ? ",0" : "0");
    buf_adds(&list, "]");
    buf_addc(&list, 0);
    struct buf seen;
    struct tmpl *t = compile("schema: {items: {type: string}}", false, &seen);
    struct json_object *v = json_of(list.p);
    struct answer a = judge(t, v);
    CHECK_STR(a.e.msg, "");
    CHECK_INT(json_object_array_length(a.problems), SCHEMA_PROBLEMS_MAX);
    CHECK_STR(js_str(json_object_array_get_idx(a.problems, 18), "pointer"), "/18");
    const char *last = js_str(json_object_array_get_idx(a.problems, 19), "message");
    CHECK(last && strstr(last, " more problems") != NULL);
    json_object_put(a.problems);
    tmpl_free(t);
    buf_free(&seen);
    tells("schema: {uniqueItems: true}", list.p, "the elements 0 and 1 are equal");
    json_object_put(v);
    buf_free(&list);
    free(fits);
    free(longer);
    end();
}

TEST(a_schema_has_a_largest_size_and_depth)
{
    struct buf wide, seen;
    buf_init(&wide, 4 << 20);
    buf_adds(&wide, "schema: {allOf: [true");
    for (int i = 0; i < SCHEMA_NODES_MAX; i++)
        buf_adds(&wide, ",true");
    buf_adds(&wide, "]}\n");
    buf_addc(&wide, 0);
    struct tmpl *t = compile(wide.p, false, &seen);
    CHECK(!t && strstr(seen.p, "the schema is too large"));
    buf_free(&seen);
    buf_free(&wide);
    begin(0);
    buf_init(&wide, 1 << 20);
    buf_adds(&wide, "schema: ");
    for (int i = 0; i < 30; i++)
        buf_adds(&wide, "{items: {not: ");
    buf_adds(&wide, "{type: string}");
    for (int i = 0; i < 30; i++)
        buf_adds(&wide, "}}");
    buf_addc(&wide, 0);
    tells(wide.p, "[[[[]]]]", NULL);
    buf_free(&wide);
    end();
}

static void beyond(struct buf *text, const char *want)
{
    struct buf seen;
    buf_addc(text, 0);
    struct tmpl *t = compile(text->p, false, &seen);
    CHECK(t == NULL);
    if (!strstr(seen.p, want))
        CHECK_STR(seen.p, want);
    tmpl_free(t);
    buf_free(&seen);
    buf_reset(text);
}

TEST(a_schemas_text_patterns_and_references_have_a_largest_size)
{
    struct buf b;
    buf_init(&b, 4 << 20);
    buf_adds(&b, "schema: {pattern: '");
    for (int i = 0; i <= SCHEMA_PATTERN_MAX; i++)
        buf_addc(&b, 'a');
    buf_adds(&b, "'}\n");
    beyond(&b, "at most 1024 bytes");
    buf_adds(&b, "schema: {enum: [");
    while (b.n < 2 * SCHEMA_BYTES_MAX)
        buf_addf(&b, "'%zu%s', ", b.n,
                 "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww");
    buf_adds(&b, "'last and more than there is room for']}\n");
    beyond(&b, "larger than 1048576 bytes");
    buf_adds(&b, "schema:\n  $ref: '#/definitions/d0'\n  definitions:\n");
    for (int i = 0; i < 600; i++)
        buf_addf(&b, "    d%d: {$ref: '#/definitions/d%d'}\n", i, i + 1);
    buf_adds(&b, "    d600: true\n");
    beyond(&b, "500");
    buf_free(&b);
}

TEST(many_schemas_take_turns_in_the_childs_table)
{
    begin(0);
    for (int i = 0; i < 200; i++) {
        char text[64], want[64];
        (void)snprintf(text, sizeof text, "schema: {minimum: %d}", i + 1);
        (void)snprintf(want, sizeof want, "must be at least %d", i + 1);
        tells(text, "0", want);
    }
    tells("schema: {minimum: 1}", "0", "must be at least 1");
    end();
}
