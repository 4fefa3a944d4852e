/* What a definition is compiled to, and its identity. */
#include "flow/flow.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "flows.h"
#include "unit.h"

SUITE("flow/parse")

static struct flow *load(const char *name)
{
    char path[1200];
    struct diags d;
    struct flow *f = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", flows_folder("good"), name);
    diags_init(&d);
    struct ydoc *y = ydoc_load(path, &d);
    if (y)
        CHECK_INT(flow_parse(y, false, &f, &d), 0);
    for (size_t i = 0; i < d.n; i++)
        fprintf(stderr, "%s:%d:%d: %s\n", name, d.v[i].line, d.v[i].col, d.v[i].msg);
    CHECK_INT(d.n, 0);
    diags_free(&d);
    ydoc_free(y);
    return f;
}

/* Evaluates what a task is called with. */
static const char *with_of(const struct task *t, const char *input)
{
    struct expr_args a = {.present = 1u << VAR_INPUT | 1u << VAR_CONTEXT | 1u << VAR_SECRETS};
    struct json_object *in = json_of(input), *out = NULL,
                       *secrets = json_of("{\"apiToken\":\"t\",\"login\":\"l\"}");
    struct err e = {0};
    a.var[VAR_INPUT] = in;
    a.var[VAR_SECRETS] = secrets;
    CHECK_INT(tmpl_eval_inline(t->with, in, &a, &out, &e), 0);
    CHECK_STR(e.msg, "");
    const char *text = text_of(out);
    json_object_put(in);
    json_object_put(out);
    json_object_put(secrets);
    return text;
}

TEST(head_and_schedule)
{
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    const struct flow_info *fi = flow_info(f);
    CHECK_STR(fi->ns, "acme");
    CHECK_STR(fi->name, "every-kind");
    CHECK_STR(fi->version, "1.2.3-rc.1+build.7");
    CHECK_STR(fi->title, "Every kind");
    CHECK_INT(fi->priority, 2);
    CHECK(fi->key && fi->input_from && fi->output_as && !fi->loose);
    CHECK_STR(fi->topics[0], "orders");
    CHECK_STR(fi->topics[1], "returns");
    CHECK(!fi->topics[2]);
    CHECK_STR(fi->secrets[1], "login");
    CHECK(!fi->secrets[2]);
    CHECK(fi->schedule.on && !fi->schedule.any_event);
    CHECK_INT(fi->schedule.read, READ_ENVELOPE);
    CHECK_INT(fi->schedule.nfilters, 2);
    CHECK_STR(fi->schedule.filters[0].type, "com.example.order.made");
    CHECK(!fi->schedule.filters[1].type);
    CHECK_INT(fi->tasks.n, 16);
    flow_unref(f);
}

TEST(defaults)
{
    struct flow *f = load("smallest.yaml");
    NEED(f != NULL);
    const struct flow_info *fi = flow_info(f);
    CHECK_INT(fi->tasks.n, 0);
    CHECK_INT(fi->priority, 5);
    CHECK(!fi->schedule.on && !fi->topics && !fi->key && !fi->input_from && !fi->output_as);
    CHECK(fi->secrets && !fi->secrets[0]);
    CHECK(!flow_task(f, SL("/do/0/x")));
    flow_unref(f);
    f = load("every_event.yaml");
    NEED(f != NULL);
    CHECK(flow_info(f)->schedule.on && flow_info(f)->schedule.any_event);
    CHECK_INT(flow_info(f)->schedule.nfilters, 0);
    CHECK_INT(flow_info(f)->schedule.read, READ_RAW);
    flow_unref(f);
}

TEST(references_places_and_flow)
{
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    struct task *shape = flow_task(f, SL("/do/0/shape")),
                *choose = flow_task(f, SL("/do/1/choose")), *box = flow_task(f, SL("/do/2/box")),
                *first = flow_task(f, SL("/do/2/box/do/0/first")),
                *odd = flow_task(f, SL("/do/2/box/do/1/a~1b~0c"));
    NEED(shape && choose && box && first && odd);
    CHECK_STR(odd->name, "a/b~c");
    CHECK(shape->cond && shape->input_from && shape->output_as && shape->export_as);
    CHECK_INT(shape->then.kind, THEN_TASK);
    CHECK(shape->then.target == choose);
    CHECK(shape->list == choose->list && shape->parent == NULL && first->parent == box);
    CHECK(first->list == &box->body && first->index == 0 && odd->index == 1);
    CHECK_INT(first->then.kind, THEN_EXIT);
    CHECK_INT(shape->line, 43);
    CHECK_INT(shape->col, 5);
    CHECK_INT(choose->ncases, 2);
    CHECK_STR(choose->cases[0].name, "large");
    CHECK(choose->cases[0].when &&
          choose->cases[0].then.target == flow_task(f, SL("/do/14/raise")));
    CHECK(!choose->cases[1].when);
    CHECK_INT(choose->cases[1].then.kind, THEN_CONTINUE);
    CHECK_STR(js_str(shape->metadata, "note"), "any");
    CHECK(js_get(shape->definition, "set") != NULL);
    CHECK_INT(flow_task(f, SL("/do/13/pause3"))->then.kind, THEN_END);
    flow_unref(f);
}

/* DECISIONS 13. */
TEST(effects)
{
    static const struct {
        const char *ref;
        enum effect effect;
        enum on_unknown unknown;
    } want[] = {{"/do/0/shape", EFFECT_PURE, UNKNOWN_RETRY},
                {"/do/1/choose", EFFECT_PURE, UNKNOWN_RETRY},
                {"/do/2/box", EFFECT_PURE, UNKNOWN_RETRY},
                {"/do/3/get", EFFECT_SAFE, UNKNOWN_RETRY},
                {"/do/4/post", EFFECT_ONCE, UNKNOWN_FAIL},
                {"/do/5/method", EFFECT_WORLD, UNKNOWN_RETRY},
                {"/do/6/rate", EFFECT_SAFE, UNKNOWN_RETRY},
                {"/do/7/shell", EFFECT_WORLD, UNKNOWN_RETRY},
                {"/do/8/python", EFFECT_WORLD, UNKNOWN_RETRY},
                {"/do/10/emit", EFFECT_WORLD, UNKNOWN_RETRY},
                {"/do/11/pause", EFFECT_PURE, UNKNOWN_RETRY}};
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct task *t = flow_task(f, sl_str(want[i].ref));
        NEED(t != NULL);
        CHECK_INT(t->effect, want[i].effect);
        CHECK_INT(t->on_unknown, want[i].unknown);
    }
    CHECK_STR(flow_task(f, SL("/do/10/emit"))->emit_topic, "results");
    flow_unref(f);
}

TEST(http_calls)
{
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    const struct task *get = flow_task(f, SL("/do/3/get")), *post = flow_task(f, SL("/do/4/post")),
                      *method = flow_task(f, SL("/do/5/method"));
    CHECK_INT(get->type, TASK_HTTP);
    CHECK_INT(get->http_output, OUT_RESPONSE);
    CHECK(get->http_redirect && !get->endpoint_expr);
    CHECK_STR(with_of(get, "{}"), "{\"endpoint\":{\"uri\":\"https://api.example.com/"
                                  "{id}\",\"authentication\":{\"bearer\":{\"use\":"
                                  "\"apiToken\"}}},\"method\":\"GET\",\"headers\":{\"accept\":"
                                  "\"application/json\"},\"query\":{\"page\":"
                                  "\"1\"}}");
    CHECK_INT(post->http_output, OUT_RAW);
    CHECK(!post->http_redirect && post->endpoint_expr);
    CHECK_STR(with_of(post, "{\"id\":\"7\",\"headers\":{\"a\":\"b\"}}"),
              "{\"endpoint\":\"https://api.example.com/"
              "7\",\"method\":\"post\",\"headers\":{\"a\":\"b\"},\"body\":"
              "{\"key\":\"t\"}}");
    CHECK_STR(with_of(method, "{\"method\":\"put\"}"),
              "{\"endpoint\":{\"uri\":\"https://"
              "api.example.com\",\"authentication\":{\"basic\":{\"username\":\"a\","
              "\"password\":\"l\"}}},\"method\":\"put\"}");
    flow_unref(f);
}

TEST(processes_and_the_rest)
{
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    const struct task *shell = flow_task(f, SL("/do/7/shell")),
                      *python = flow_task(f, SL("/do/8/python")),
                      *raise = flow_task(f, SL("/do/14/raise"));
    CHECK_INT(shell->type, TASK_SHELL);
    CHECK_INT(shell->returns, RETURN_ALL);
    CHECK(!shell->await && python->await);
    CHECK_STR(with_of(shell, "{\"a\":\"x\"}"),
              "{\"command\":\"echo \\\"$1 "
              "${HOME}\\\"\",\"arguments\":[\"x\"],\"environment\":{\"N\":5},\"stdin\":"
              "\"{\\\"a\\\":\\\"x\\\"}\"}");
    CHECK_INT(python->type, TASK_SCRIPT);
    CHECK_INT(python->returns, RETURN_NONE);
    CHECK_INT(raise->type, TASK_RAISE);
    CHECK_STR(with_of(raise, "{\"total\":7}"),
              "{\"type\":\"https://example.com/errors/too-large\",\"status\":413,\"title\":\"Too "
              "large\",\"detail\":"
              "\"total 7\"}");
    CHECK_STR(with_of(flow_task(f, SL("/do/10/emit")), "{\"id\":\"7\"}"),
              "{\"type\":\"com.example.done\",\"subject\":\"7\",\"priority\":5,\"data\":{\"a\":{"
              "\"id\":\"7\"}}}");
    CHECK_STR(with_of(flow_task(f, SL("/do/11/pause")), "1"), "\"PT1M30S\"");
    CHECK_STR(with_of(flow_task(f, SL("/do/12/pause2")), "1"), "{\"minutes\":1}");
    CHECK_STR(with_of(flow_task(f, SL("/do/0/shape")), "{\"total\":5}"),
              "{\"total\":5,\"fixed\":\"text\",\"list\":[1,null]}");
    flow_unref(f);
}

TEST(function_calls)
{
    struct flow *f = load("every_kind.yaml");
    NEED(f != NULL);
    const struct task *t = flow_task(f, SL("/do/6/rate"));
    CHECK_INT(t->type, TASK_HTTP);
    NEED(t->function != NULL);
    CHECK_STR(t->function->name, "rate");
    CHECK(t->function->args && t->function->input_from && t->function->output_as);
    CHECK(!flow_task(f, SL("/do/3/get"))->function);
    flow_unref(f);
}

TEST(loose_mode_keeps_text_that_is_no_expression)
{
    struct flow *f = load("loose.yaml");
    NEED(f != NULL);
    CHECK(flow_info(f)->loose);
    CHECK_STR(with_of(flow_info(f)->tasks.v[0], "{\"total\":5,\"x\":1}"),
              "{\"a\":5,\"b\":\"no expression\",\"c\":1}");
    flow_unref(f);
}

static int is_yaml(const struct dirent *e)
{
    return sl_ends(sl_str(e->d_name), SL(".yaml"));
}

TEST(a_definition_survives_its_canonical_text)
{
    struct dirent **v;
    int n = scandir(flows_folder("good"), &v, is_yaml, alphasort);
    NEED(n > 0);
    for (int i = 0; i < n; i++) {
        struct flow *f = load(v[i]->d_name), *again = NULL;
        struct err e = {0};
        NEED(f != NULL);
        CHECK_INT(flow_from_text(flow_info(f)->text, &again, &e), 0);
        CHECK_STR(e.msg, "");
        NEED(again != NULL);
        CHECK_STR(flow_info(again)->hash, flow_info(f)->hash);
        CHECK_INT(flow_info(again)->tasks.n, flow_info(f)->tasks.n);
        flow_unref(f);
        flow_unref(again);
        free(v[i]);
    }
    free(v);
}

static void check_hash(const char *a, const char *b, bool same)
{
    struct flow *x = flow_of(a, NULL), *y = flow_of(b, NULL), *z = NULL;
    struct err e = {0};
    NEED(x && y);
    CHECK(!strcmp(flow_info(x)->hash, flow_info(y)->hash) == same);
    CHECK_INT(flow_from_text(flow_info(x)->text, &z, &e), 0);
    CHECK_STR(e.msg, "");
    if (z)
        CHECK_STR(flow_info(z)->hash, flow_info(x)->hash);
    flow_unref(x);
    flow_unref(y);
    flow_unref(z);
}

TEST(identity_is_of_content_not_of_form)
{
    check_hash(FLOW_HEAD "do: []\n",
               "# a comment\n{\"do\": [], \"document\": {\"version\": \"1.0.0\", \"name\": "
               "\"test\", \"namespace\": "
               "\"acme\", \"dsl\": \"1.0.3\"}}",
               true);
    check_hash(FLOW_HEAD "do: [a: {set: {x: 1.50, y: 1e3}}]\n",
               FLOW_HEAD "do: [a: {set: {y: 1000, x: 1.5}}]\n", true);
    check_hash(FLOW_HEAD "do: [a: {set: {x: 1}}]\n", FLOW_HEAD "do: [a: {set: {x: '1'}}]\n", false);
    /* What YAML would read differently from JSON: line separators, escapes, long keys. */
    check_hash(FLOW_HEAD "do: [a: {set: {x: \"\\L\\N\\u0001\\\"\\\\/\\U0001F600\\0\"}}]\n",
               FLOW_HEAD
               "do: [a: {set: {x: \"\\u2028\\x85\\x01\\\"\\\\/\xf0\x9f\x98\x80\\x00\"}}]\n",
               true);
    char text[4096], key[1500];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    (void)snprintf(text, sizeof text, FLOW_HEAD "do:\n- a:\n    set:\n      ? %s\n      : 1\n",
                   key);
    check_hash(text, text, true);
}

TEST(text_that_is_no_definition_is_an_error)
{
    struct flow *f = NULL;
    struct err e = {0};
    CHECK(flow_from_text(SL("{"), &f, &e) < 0);
    CHECK(e.msg[0] != 0);
    err_clear(&e);
    CHECK(flow_from_text(SL("[]"), &f, &e) < 0);
    CHECK_STR(e.msg, "the file is not a mapping");
    err_clear(&e);
    CHECK(flow_from_text(SL("{\"document\":{}}"), &f, &e) < 0);
    CHECK_STR(e.msg, "dsl is missing in document");
    CHECK(!f);
}

TEST(references_are_counted)
{
    struct flow *f = load("smallest.yaml");
    NEED(f != NULL);
    CHECK(flow_ref(f) == f);
    CHECK(!flow_unref(f));
    CHECK_STR(flow_info(f)->name, "b");
    CHECK(!flow_unref(f));
    CHECK(!flow_unref(NULL));
    CHECK(!flow_ref(NULL));
}
