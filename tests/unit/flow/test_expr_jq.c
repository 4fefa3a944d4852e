/* The inline evaluator against libjq itself: random programs of the grammar, random inputs. A
 * program that is evaluated inline must give the same value, byte for byte, or the same message;
 * what the parser refuses, libjq's compiler must refuse, and the other way round.
 * TIDEMARK_TEST_SEED and TIDEMARK_TEST_ROUNDS make longer runs. */
#include <jq.h>
#include <stdio.h>
#include <stdlib.h>

#include "flow/expr_int.h"
#include "unit.h"

SUITE("flow/expr_jq")

/* libjq 1.6 loses some memory of its own when a program does not compile. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libjq.so\n";
}

static uint64_t state;

static unsigned roll(unsigned n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 20) % n);
}

#define PICK(list) list[roll(sizeof list / sizeof *list)]

static void value_text(struct buf *b, int depth)
{
    static const char *const leaves[] = {"null",
                                         "true",
                                         "false",
                                         "0",
                                         "1",
                                         "2",
                                         "-1",
                                         "3.5",
                                         "-0",
                                         "1e17",
                                         "1e-7",
                                         "9007199254740993",
                                         "123456789012345678901",
                                         "1.0",
                                         "1e300",
                                         "\"\"",
                                         "\"a\"",
                                         "\"b\"",
                                         "\"a,b\"",
                                         "\"abcabc\"",
                                         "\"\\u00e9\\u4e2d\\ud83d\\ude00x\"",
                                         "\"a\\u0000b\"",
                                         "\"\\n\\u0007\\u007f\\\"\"",
                                         "\"Abc dEf ghi jkl mno\"",
                                         "\"\\u4e2d\\u4e2d\\u4e2d\\u4e2d\\u4e2d\""};
    unsigned r = roll(depth > 3 ? 4 : 8);
    if (r < 4) {
        buf_adds(b, PICK(leaves));
        return;
    }
    unsigned n = roll(4);
    static const char *const names[] = {"a", "b", "c", "d e", "\\u00e9"};
    buf_addc(b, r < 6 ? '[' : '{');
    for (unsigned i = 0, at = roll(5); i < n; i++, at++) {
        if (i)
            buf_addc(b, ',');
        if (r >= 6)
            buf_addf(b, "\"%s\":", names[at % 5]);
        value_text(b, depth + 1);
    }
    buf_addc(b, r < 6 ? ']' : '}');
}

static void program(struct buf *b, int depth);

static void leaf(struct buf *b)
{
    static const char *const leaves[] = {".",
                                         ".",
                                         ".a",
                                         ".b",
                                         ".a.b",
                                         ".[0]",
                                         ".[-1]",
                                         ".[]",
                                         ".a[]?",
                                         "null",
                                         "true",
                                         "false",
                                         "1",
                                         "0",
                                         "2.5",
                                         "\"a\"",
                                         "\"b\"",
                                         "\",\"",
                                         "[]",
                                         "{}",
                                         "$input",
                                         "$context.a",
                                         ".a?",
                                         ".[1:]",
                                         ".[:-1]",
                                         ".[1.5:2.5]",
                                         ".[\"a\"]",
                                         ".\"b\"",
                                         "length",
                                         "not",
                                         "keys",
                                         "type",
                                         "tostring",
                                         "tojson",
                                         "add",
                                         "any",
                                         "all",
                                         "first",
                                         "last",
                                         "reverse",
                                         "sort",
                                         "min",
                                         "max",
                                         "to_entries",
                                         "floor",
                                         "values",
                                         "empty",
                                         "ascii_downcase",
                                         "ascii_upcase",
                                         "keys_unsorted",
                                         "join(\",\")",
                                         "9007199254740993",
                                         "{a}",
                                         "{\"b\"}",
                                         "{\"a\":1,b:2,\"a\":3}",
                                         "{$input}"};
    buf_adds(b, PICK(leaves));
}

/* Shapes of terms: p stands for a program, P for one of less depth, t for a term, T for one of less
 * depth, f for a function with an argument; the rest is text. */
static const char *const shapes[] = {"(p)",
                                     "[p]",
                                     "f(p)",
                                     "f(p)",
                                     "{a: t, \"b\": (p), (P): -T}",
                                     "\"x\\(p)\\n\\u00e9y\"",
                                     "if p then p else p end",
                                     "if p then p elif .a then 7 else p end",
                                     "t[p]",
                                     "t[p]?",
                                     "t[p:p]",
                                     "t[p:p]?",
                                     "t as $x | [$x, .] | p",
                                     "(p)?",
                                     "(p).a",
                                     "-t",
                                     "try t"};

static void term(struct buf *b, int depth)
{
    static const char *const calls[] = {"map",      "select",   "has",   "contains",
                                        "any",      "all",      "join",  "startswith",
                                        "endswith", "ltrimstr", "split", "rtrimstr"};
    if (depth > 3 || roll(3) == 0) {
        leaf(b);
        return;
    }
    char last = ' ';
    for (const char *s = PICK(shapes); *s; last = *s++) {
        bool word = strchr("pPtTf", *s) && !strchr("abcdefghijklmnopqrstuvwxyz\\", last) &&
                    (s[1] < 'a' || s[1] > 'z');
        if (!word)
            buf_addc(b, *s);
        else if (*s == 'f')
            buf_adds(b, PICK(calls));
        else if (*s == 'p' || *s == 'P')
            program(b, depth + 1 + (*s == 'P'));
        else
            term(b, depth + 1 + (*s == 'T'));
    }
}

static void program(struct buf *b, int depth)
{
    static const char *const ops[] = {" + ", " - ", " * ",  " / ",  " % ",   " == ", " != ",
                                      " < ", " > ", " <= ", " >= ", " and ", " or ", " // ",
                                      " | ", " | ", ", ",   "+",    "-"};
    term(b, depth);
    for (unsigned n = roll(depth > 3 ? 2 : 3); n; n--) {
        buf_adds(b, PICK(ops));
        term(b, depth + 1);
    }
}

static void silent(void *arg, jv message)
{
    *(jv *)arg = jv_copy(message);
    jv_free(message);
}

/* The result as text: the value, "ERROR message", or NULL for several values. */
static char *by_jq(jq_state *jq, const char *input)
{
    char *text = NULL;
    jq_start(jq, jv_parse(input), 0);
    jv first = jq_next(jq);
    if (jv_is_valid(first)) {
        jv next = jq_next(jq);
        if (jv_is_valid(next) || jv_invalid_has_msg(jv_copy(next))) {
            jv_free(first);
            first = jv_is_valid(next) ? jv_invalid()
                                      : jv_invalid_with_msg(jv_invalid_get_msg(jv_copy(next)));
            if (jv_is_valid(next))
                text = strdup("SEVERAL");
        }
        jv_free(next);
    } else if (!jv_invalid_has_msg(jv_copy(first))) {
        jv_free(first);
        first = jv_null();
    }
    if (jv_is_valid(first)) {
        jv s = jv_dump_string(first, 0);
        text = strdup(jv_string_value(s));
        jv_free(s);
    } else if (text) {
        jv_free(first);
    } else {
        jv m = jv_invalid_get_msg(first);
        if (asprintf(&text, "ERROR %s",
                     jv_get_kind(m) == JV_KIND_STRING ? jv_string_value(m) : "?") < 0)
            text = NULL;
        jv_free(m);
    }
    jq_start(jq, jv_null(), 0);
    return text;
}

/* The text that libjq's result has once it was read by js_parse and brought into the common form.
 */
static char *common(char *text)
{
    struct json_object *o = NULL, *c = NULL;
    if (!text || strncmp(text, "ERROR ", 6) == 0 || strcmp(text, "SEVERAL") == 0)
        return text;
    struct buf b;
    buf_init(&b, 1 << 22);
    NEED(js_parse(sl_str(text), &o, NULL) == 0);
    free(text);
    NEED(jq_canon(o, &c, NULL) == 0);
    js_write(c, &b);
    json_object_put(c);
    return buf_take(&b);
}

static char *by_us(const struct expr *x, const char *input, const struct expr_args *a)
{
    struct json_object *in = NULL, *out = NULL;
    struct err e = {0};
    char *text = NULL;
    struct buf b;
    buf_init(&b, 1 << 22);
    NEED(js_parse(sl_str(input), &in, &e) == 0);
    if (expr_eval_inline(x, in, a, &out, &e)) {
        if (strstr(e.msg, "several values"))
            buf_adds(&b, "SEVERAL");
        else
            buf_addf(&b, "ERROR %s", e.msg);
    } else {
        js_write(out, &b);
        json_object_put(out);
    }
    json_object_put(in);
    text = buf_take(&b);
    return text;
}

static size_t inlined, refused, compared;

static void try_inputs(jq_state *jq, const struct expr *x, const char *text,
                       const struct expr_args *a)
{
    for (int i = 0; i < 12; i++) {
        struct buf in;
        buf_init(&in, 1 << 20);
        value_text(&in, 0);
        char *seen = by_us(x, in.p, a), *want = common(by_jq(jq, in.p));
        /* The one known difference: trees have no names with a zero byte. */
        if (strstr(seen, "a key with a zero byte")) {
            free(want);
            want = strdup(seen);
        }
        if (strcmp(seen, want) != 0)
            fprintf(stderr, "program: %s\ninput:   %s\n", text, in.p);
        CHECK_STR(seen, want);
        compared++;
        free(seen);
        free(want);
        buf_free(&in);
    }
}

static void round_of(const struct expr_args *a)
{
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 16);
    program(&text, 0);
    /* Damage some, so that both parsers have something to refuse. */
    if (roll(8) == 0 && text.n > 2) {
        static const char *const bits[] = {")", "(",     ",", "|",  "]", "?", " end",
                                           ":", " and ", "$", "==", ".", "-", " as $y | "};
        const char *bit = PICK(bits);
        size_t at = roll((unsigned)text.n);
        char *rest = strdup(text.p + at);
        text.n = at;
        buf_adds(&text, bit);
        buf_adds(&text, rest + (roll(2) && *rest));
        free(rest);
    }
    struct expr *x = expr_compile(buf_slice(&text), 1u << VAR_INPUT | 1u << VAR_CONTEXT, NULL, &e);
    jq_state *jq = jq_init();
    jv message = jv_null();
    NEED(jq != NULL);
    jq_set_error_cb(jq, silent, &message);
    jv args = jv_object();
    args = jv_object_set(args, jv_string("input"), jv_parse("{\"a\":[1,\"x\"]}"));
    args = jv_object_set(args, jv_string("context"), jv_parse("{\"a\":2}"));
    int ok = jq_compile_args(jq, text.p, args);
    if (!x != !ok && (!x || !expr_is_inline(x) ? !x : true))
        fprintf(stderr, "program: %s\nours: %s\njq: %s\n", text.p, x ? "accepted" : e.msg,
                jv_get_kind(message) == JV_KIND_STRING ? jv_string_value(message) : "accepted");
    if (!x)
        CHECK_INT(ok, 0);
    else if (expr_is_inline(x))
        CHECK_INT(ok, 1);
    refused += !x;
    if (x && expr_is_inline(x) && ok) {
        inlined++;
        try_inputs(jq, x, text.p, a);
    }
    jv_free(message);
    jq_teardown(&jq);
    expr_free(x);
    buf_free(&text);
}

TEST(inline_results_are_those_of_libjq)
{
    const char *seed = getenv("TIDEMARK_TEST_SEED"), *rounds = getenv("TIDEMARK_TEST_ROUNDS");
    state = seed ? strtoull(seed, NULL, 10) * 2654435761u + 1 : 20261125;
    struct expr_args a = {.present = 1u << VAR_INPUT | 1u << VAR_CONTEXT};
    NEED(js_parse(SL("{\"a\":[1,\"x\"]}"), &a.var[VAR_INPUT], NULL) == 0);
    NEED(js_parse(SL("{\"a\":2}"), &a.var[VAR_CONTEXT], NULL) == 0);
    long n = rounds ? strtol(rounds, NULL, 10) : 250;
    for (long i = 0; i < n && CU_get_number_of_failures() < 10; i++)
        round_of(&a);
    json_object_put(a.var[VAR_INPUT]);
    json_object_put(a.var[VAR_CONTEXT]);
    /* The test would say nothing if the programs were not of the kind that is evaluated inline. */
    CHECK(inlined * 2 > (size_t)n);
    CHECK(compared > inlined);
    CHECK(refused > 0);
}
