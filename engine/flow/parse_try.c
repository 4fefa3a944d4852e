/* try and catch (DSL reference, "Try"). Which errors are caught is partly static (errors.with), so
 * that a filter that can never match is told here. */
#include <stdio.h>

#include "flow/parse_int.h"
#include "flow/problem.h"

#define TRY_EXAMPLE                                                                                \
    "try: [- step: ...], catch: {retry: {delay: PT1S, limit: {attempt: {count: 3}}}}"

static const struct prop catch_props[] = {
    {"errors", T_OBJ, 0, NULL, "errors: {with: {status: 503}}"},
    {"as", T_TEXT, 0, NULL, "as: error"},
    {"when", T_TEXT, 0, NULL, "an expression such as $error.status == 503"},
    {"exceptWhen", T_TEXT, 0, NULL, "an expression such as $error.status == 404"},
    {"retry", T_ANY},
    {"do", T_ANY},
    {"then", T_ANY},
    {0}};
static const struct prop errors_props[] = {{"with", T_OBJ, PROP_NEED, NULL, "with: {status: 503}"},
                                           {0}};
static const struct prop with_props[] = {{"type", T_TEXT, 0, NULL,
                                          "type: " PROBLEM_PREFIX "timeout"},
                                         {"status", T_INT, 0, NULL, "status: 503"},
                                         {"instance", T_TEXT, 0, NULL, "instance: /do/0/step"},
                                         {"title", T_TEXT, 0, NULL, NULL},
                                         {"detail", T_TEXT, 0, NULL, NULL},
                                         {0}};

static void errors(struct parser *p, struct json_object *c, struct catch_ *ret)
{
    struct json_object *e, *with;
    if (!json_object_object_get_ex(c, "errors", NULL) ||
        !(e = parse_object(p, MEMBER(c, "errors"), "errors", errors_props,
                           "errors: {with: {status: 503}}")) ||
        !(with = prop_get(e, errors_props, "with")))
        return;
    parse_object(p, MEMBER(e, "with"), "errors.with", with_props, "with: {status: 503}");
    if (!json_object_object_length(with))
        parse_bad(p, MEMBER(e, "with"), "with: {status: 503}; leave errors out to catch all",
                  "errors.with must have one member or more");
    json_object_object_foreach(with, key, v)
    {
        if (text_opens_expr(v))
            parse_bad(p, MEMBER(with, key), "use when: for conditions that are expressions",
                      "errors.with compares with values that are written there");
    }
    ret->with = with;
}

static void catch_flow(struct parser *p, struct task *t, struct json_object *c)
{
    struct catch_ *k = t->catch_;
    if (json_object_object_get_ex(c, "do", NULL)) {
        k->has_body = true;
        parse_list(p, MEMBER(c, "do"), "catch/do", t, &k->body);
    }
    if (json_object_object_get_ex(c, "then", NULL)) {
        k->has_then = true;
        parse_then(p, MEMBER(c, "then"), t, &k->then);
    }
}

static void catch_(struct parser *p, struct task *t, struct json_object *o)
{
    size_t outer = p->nlocals;
    struct catch_ *k = t->catch_;
    struct json_object *c = parse_object(p, MEMBER(o, "catch"), "catch", catch_props, TRY_EXAMPLE);
    if (!c)
        return;
    errors(p, c, k);
    if (parse_local(p, c, "as", "error", &k->as)) {
        if (prop_get(c, catch_props, "when"))
            k->when = parse_tmpl(p, MEMBER(c, "when"), TMPL_BARE, VARS_INPUT);
        if (prop_get(c, catch_props, "exceptWhen"))
            k->except_when = parse_tmpl(p, MEMBER(c, "exceptWhen"), TMPL_BARE, VARS_INPUT);
        if (json_object_object_get_ex(c, "retry", NULL))
            k->retry = parse_retry(p, MEMBER(c, "retry"));
        catch_flow(p, t, c);
    }
    parse_leave(p, outer);
}

void parse_try(struct parser *p, struct task *t, struct json_object *o)
{
    t->type = TASK_TRY;
    if (!(t->catch_ = arena_alloc(&p->f->mem, sizeof *t->catch_))) {
        parse_bad(p, MEMBER(o, "try"), "split the definition", "the definition is too large");
        return;
    }
    parse_list(p, MEMBER(o, "try"), "try", t, &t->body);
    if (json_object_object_get_ex(o, "catch", NULL))
        catch_(p, t, o);
    else
        parse_bad(p, MEMBER(o, "try"), TRY_EXAMPLE, "catch is missing beside try");
}
