/* A task and the kinds that need no file of their own: set, switch, do, emit, wait, raise (DSL
 * reference, "Task"). A function of use.functions is a task without flow of its own. */
#include <stdio.h>

#include "flow/parse_int.h"

#define KINDS "one of call, do, emit, for, raise, run, set, switch, try, wait"

static const char *const effects[] = {"pure", "safe", "world", "once", NULL};
static const char *const unknowns[] = {"retry", "fail", "ask", NULL};
static const struct prop tidemark_props[] = {{"effect", T_TEXT, 0, effects, "effect: safe"},
                                             {"onUnknown", T_TEXT, 0, unknowns, "onUnknown: fail"},
                                             {"topic", T_TEXT, 0, NULL, "topic: orders"},
                                             {0}};

#define KIND_PROPS                                                                                 \
    {"call", T_ANY}, {"with", T_ANY}, {"set", T_ANY}, {"run", T_ANY}, {"emit", T_ANY},             \
        {"wait", T_ANY},                                                                           \
    {                                                                                              \
        "raise", T_ANY                                                                             \
    }
#define LATER_PROPS                                                                                \
    {"fork", T_ANY, PROP_LATER}, {"listen", T_ANY, PROP_LATER},                                    \
    {                                                                                              \
        "foreach", T_ANY, PROP_LATER                                                               \
    }

static const struct prop task_props[] = {
    {"if", T_TEXT, 0, NULL, "an expression such as .total > 100"},
    {"input", T_ANY},
    {"output", T_ANY},
    {"export", T_ANY},
    {"then", T_ANY},
    {"metadata", T_OBJ, 0, NULL, "metadata: {tidemark: {effect: safe}}"},
    {"do", T_ANY},
    {"switch", T_ANY},
    {"for", T_ANY},
    {"while", T_TEXT, 0, NULL, "an expression such as $index < 10"},
    {"try", T_ANY},
    {"catch", T_ANY},
    {"timeout", T_ANY},
    KIND_PROPS,
    {"await", T_ANY, PROP_ELSEWHERE, NULL, "put it inside run"},
    {"return", T_ANY, PROP_ELSEWHERE, NULL, "put it inside run"},
    LATER_PROPS,
    {0}};

static const struct prop function_props[] = {
    {"input", T_ANY},
    {"output", T_ANY},
    {"metadata", T_OBJ, 0, NULL, "metadata: {tidemark: {effect: safe}}"},
    KIND_PROPS,
    {"do", T_ANY, PROP_LATER},
    {"switch", T_ANY, PROP_LATER},
    {"for", T_ANY, PROP_LATER},
    {"while", T_ANY, PROP_LATER},
    {"try", T_ANY, PROP_LATER},
    {"catch", T_ANY, PROP_LATER},
    {"timeout", T_ANY, PROP_LATER, NULL, "put it at the task that calls the function"},
    {"if", T_ANY, PROP_LATER, NULL, "put it at the task that calls the function"},
    {"export", T_ANY, PROP_LATER, NULL, "put it at the task that calls the function"},
    {"then", T_ANY, PROP_LATER, NULL, "put it at the task that calls the function"},
    LATER_PROPS,
    {0}};

/* ---- metadata.tidemark ---- */

static bool has_effect(const struct task *t)
{
    return t->type == TASK_HTTP || t->type == TASK_SHELL || t->type == TASK_SCRIPT ||
           t->type == TASK_EMIT;
}

static void effect(struct parser *p, struct task *t, struct json_object *tm)
{
    static const enum effect meaning[] = {EFFECT_PURE, EFFECT_SAFE, EFFECT_WORLD, EFFECT_ONCE};
    int i = prop_choice(tm, tidemark_props, "effect", -1);
    if (i < 0)
        return;
    if (has_effect(t))
        t->effect = meaning[i];
    else
        parse_warn(p, MEMBER(tm, "effect"), "it matters for call, run and emit",
                   "effect means nothing for this kind of task, which is pure");
}

static void on_unknown(struct parser *p, struct task *t, struct json_object *tm)
{
    int i = prop_choice(tm, tidemark_props, "onUnknown", -1);
    if (i < 0)
        return;
    if (i == UNKNOWN_ASK)
        parse_bad(p, MEMBER(tm, "onUnknown"), FLOW_LATER_HINT,
                  "onUnknown: ask is not supported yet by this version");
    else if (t->effect != EFFECT_ONCE)
        parse_bad(p, MEMBER(tm, "onUnknown"), "add effect: once, or leave onUnknown out",
                  "onUnknown is for tasks that are done at most once");
    t->on_unknown = (enum on_unknown)i;
}

static void tidemark(struct parser *p, struct task *t, struct json_object *metadata)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    struct json_object *tm;
    if (!json_object_object_get_ex(metadata, "tidemark", NULL) ||
        !(tm = parse_object(p, MEMBER(metadata, "tidemark"), "metadata.tidemark", tidemark_props,
                            "tidemark: {effect: safe}")))
        return;
    effect(p, t, tm);
    on_unknown(p, t, tm);
    const char *topic = prop_text(tm, tidemark_props, "topic");
    if (topic && t->type != TASK_EMIT)
        parse_bad(p, MEMBER(tm, "topic"), "it says where emit writes", "topic is for emit only");
    else if (topic && (!*topic || strspn(topic, chars) != strlen(topic) || strlen(topic) > 249))
        parse_bad(p, MEMBER(tm, "topic"), "letters, digits, '.', '_' and '-', at most 249",
                  "\"%.100s\" is not the name of a topic", topic);
    else if (topic)
        t->emit_topic = topic;
}

/* ---- kinds ---- */

static void set(struct parser *p, struct task *t, struct json_object *o)
{
    struct json_object *v = js_get(o, "set");
    struct spot at = MEMBER(o, "set");
    t->type = TASK_SET;
    if (json_object_is_type(v, json_type_object) ? !json_object_object_length(v)
                                                 : !json_object_is_type(v, json_type_string)) {
        parse_bad(p, at, "set: {total: \"${ .a + .b }\"}",
                  "set must be a mapping with one key or more, or an expression");
        return;
    }
    if (p->mode == TMPL_STRICT && json_object_is_type(v, json_type_string) && !text_opens_expr(v))
        parse_warn(p, at, "if an expression is meant, write ${ } around it",
                   "set to a text without ${ } gives that text");
    t->with = parse_tmpl(p, at, p->mode, VARS_INPUT);
}

static void switch_case(struct parser *p, struct task *t, struct spot at, bool *has_default)
{
    static const struct prop props[] = {{"when", T_TEXT, 0, NULL,
                                         "an expression such as .total > 100"},
                                        {"then", T_ANY, PROP_NEED, NULL,
                                         "then: continue, exit, end, or the name of a task"},
                                        {0}};
    struct switch_case *c = &t->cases[t->ncases++];
    c->name = at.key;
    struct json_object *o =
        parse_object(p, at, "a case", props, "{when: .total > 100, then: check}");
    if (!o)
        return;
    if (prop_get(o, props, "when")) {
        c->when = parse_tmpl(p, MEMBER(o, "when"), TMPL_BARE, VARS_INPUT);
    } else if (!json_object_object_get_ex(o, "when", NULL)) {
        if (*has_default)
            parse_bad_key(p, at.parent, at.key, "at most one case may be without when",
                          "a second default case");
        *has_default = true;
    }
    if (json_object_object_get_ex(o, "then", NULL))
        parse_then(p, MEMBER(o, "then"), t, &c->then);
}

static void switch_(struct parser *p, struct task *t, struct json_object *o)
{
    static const char *const example = "switch: [- large: {when: .total > 100, then: check}]";
    struct json_object *v = js_get(o, "switch");
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    bool has_default = false;
    t->type = TASK_SWITCH;
    if (!n || n > FLOW_CASES_MAX) {
        parse_bad(p, MEMBER(o, "switch"), example, "switch must be a list of 1 to %d cases",
                  FLOW_CASES_MAX);
        return;
    }
    if (!(t->cases = arena_alloc(&p->f->mem, n * sizeof *t->cases))) {
        parse_bad(p, MEMBER(o, "switch"), "split the definition", "the definition is too large");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(v, i);
        if (!json_object_is_type(item, json_type_object) || json_object_object_length(item) != 1) {
            parse_bad(p, ELEMENT(v, i), "- large: {when: .total > 100, then: check}",
                      "a case is a mapping with exactly one key, its name");
            continue;
        }
        json_object_object_foreach(item, name, body)
        {
            (void)body;
            switch_case(p, t, MEMBER(item, name), &has_default);
        }
    }
}

static void do_(struct parser *p, struct task *t, struct json_object *o)
{
    t->type = TASK_DO;
    parse_list(p, MEMBER(o, "do"), "do", t, &t->body);
}

static void attribute(struct parser *p, struct json_object *with, const char *name,
                      struct json_object *v)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    if (!*name || strspn(name, chars) != strlen(name))
        parse_bad_key(p, with, name, "lower-case letters and digits (CloudEvents 1.0)",
                      "\"%.100s\" can't be the name of an attribute", name);
    else if (!strcmp(name, "specversion") && (!json_object_is_type(v, json_type_string) ||
                                              strcmp(json_object_get_string(v), "1.0")))
        parse_bad(p, MEMBER(with, name), "leave it out", "events are written in version 1.0");
    else if (!((T_TEXT | T_INT | T_BOOL) & 1u << json_object_get_type(v)))
        parse_bad(p, MEMBER(with, name), "put values of other kinds into data",
                  "the attribute %s must be a text, a whole number or true or false", name);
    else if (!strcmp(name, "type") && text_opens_expr(v))
        parse_bad(p, MEMBER(with, name), "use one emit for each type, behind a switch",
                  "the type of an emitted event can't be an expression");
}

static void emit(struct parser *p, struct task *t, struct json_object *o)
{
    static const char *const example = "emit: {event: {with: {type: com.example.done}}}";
    static const struct prop emit_props[] = {{"event", T_OBJ, PROP_NEED}, {0}};
    struct json_object *e = parse_object(p, MEMBER(o, "emit"), "emit", emit_props, example), *event,
                       *with;
    t->type = TASK_EMIT;
    t->effect = EFFECT_WORLD;
    if (!(event = prop_get(e, emit_props, "event")))
        return;
    json_object_object_foreach(event, key, unused)
    {
        (void)unused;
        if (strcmp(key, "with"))
            parse_warn(p, MEMBER(event, key), "attributes belong into with",
                       "event.%.100s is not used", key);
    }
    if (!json_object_is_type(with = js_get(event, "with"), json_type_object)) {
        parse_bad(p, MEMBER(event, "with"), example, "event.with must be a mapping");
        return;
    }
    if (!json_object_is_type(js_get(with, "type"), json_type_string))
        parse_bad(p, MEMBER(event, "with"), "type: com.example.done",
                  "an emitted event needs a type, a text");
    json_object_object_foreach(with, name, v)
    {
        if (strcmp(name, "data"))
            attribute(p, with, name, v);
    }
    t->with = parse_tmpl(p, MEMBER(event, "with"), p->mode, VARS_INPUT);
}

static void wait_(struct parser *p, struct task *t, struct json_object *o)
{
    t->type = TASK_WAIT;
    t->with = parse_duration(p, MEMBER(o, "wait"), VARS_INPUT);
}

static void raise_(struct parser *p, struct task *t, struct json_object *o)
{
    static const char *const example =
        "raise: {error: {type: https://example.com/errors/no, status: 400}}";
    static const struct prop props[] = {{"error", T_TEXT | T_OBJ, PROP_NEED}, {0}};
    struct json_object *r = parse_object(p, MEMBER(o, "raise"), "raise", props, example);
    struct json_object *error = prop_get(r, props, "error");
    char hint[160];
    t->type = TASK_RAISE;
    if (!error)
        return;
    struct spot at = MEMBER(r, "error");
    if (json_object_is_type(error, json_type_object)) {
        if (!parse_error(p, at))
            return;
    } else {
        const char *name = json_object_get_string(error);
        if (!json_object_is_type(error = js_get(p->errors, name), json_type_object)) {
            parse_bad(p, at,
                      parse_near_member(hint, sizeof hint, name, p->errors,
                                        "declare it in use.errors"),
                      "there is no error \"%.100s\"", name);
            return;
        }
    }
    if (!p->d->errors)
        t->with = parse_compile(p, at, error, VARS_INPUT);
}

/* ---- tasks and functions ---- */

static const struct kind {
    const char *name;
    void (*parse)(struct parser *p, struct task *t, struct json_object *o);
} kinds[] = {{"call", parse_call}, {"do", do_},        {"emit", emit}, {"for", parse_for},
             {"raise", raise_},    {"run", parse_run}, {"set", set},   {"switch", switch_},
             {"try", parse_try},   {"wait", wait_}};

/* Members that belong to one kind. */
static const struct {
    const char *member, *kind;
} belongs[] = {{"with", "call"}, {"while", "for"}, {"catch", "try"}};

static bool has_later(struct json_object *o, const struct prop *table)
{
    for (; table->name; table++)
        if (table->flags & PROP_LATER && strcmp(table->name, "timeout") &&
            json_object_object_get_ex(o, table->name, NULL))
            return true;
    return false;
}

static void tell_belongs(struct parser *p, struct json_object *o, const char *member,
                         const char *kind, const char *beside)
{
    char hint[64];
    (void)snprintf(hint, sizeof hint, "%s belongs to %s", member, kind);
    parse_bad_key(p, o, member, hint, "%s means nothing beside %s", member, beside);
}

/* The one kind that o has; NULL with the problem told. */
static const struct kind *kind_of(struct parser *p, struct json_object *o, struct ydoc_pos at,
                                  const struct prop *table, size_t errors_before)
{
    const struct kind *found = NULL;
    size_t n = 0;
    bool loop = json_object_object_get_ex(o, "for", NULL);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (json_object_object_get_ex(o, kinds[i].name, NULL) &&
            !(loop && !strcmp(kinds[i].name, "do"))) { /* the body of a for */
            found = &kinds[i];
            n++;
        }
    if (has_later(o, table)) /* told already, and its parts mean something else there */
        return NULL;
    if (n > 1)
        diags_add(p->d, ydoc_name(p->y), at.line, at.col, KINDS, "a task has exactly one kind");
    else if (!n && p->d->errors == errors_before) /* else a misspelt one was told */
        diags_add(p->d, ydoc_name(p->y), at.line, at.col, KINDS, "this task has no kind");
    for (size_t i = 0; n == 1 && i < sizeof belongs / sizeof *belongs; i++)
        if (json_object_object_get_ex(o, belongs[i].member, NULL) &&
            strcmp(found->name, belongs[i].kind))
            tell_belongs(p, o, belongs[i].member, belongs[i].kind, found->name);
    return n == 1 ? found : NULL;
}

void parse_task(struct parser *p, struct task *t)
{
    struct json_object *o = t->definition;
    size_t before = p->d->errors;
    if (!json_object_is_type(o, json_type_object)) {
        diags_add(p->d, ydoc_name(p->y), t->line, t->col, "name: {set: {text: hello}}",
                  "the task \"%.100s\" must be a mapping", t->name);
        return;
    }
    parse_object(p, (struct spot){o, NULL, 0}, "a task", task_props, KINDS);
    const struct kind *k = kind_of(p, o, (struct ydoc_pos){t->line, t->col}, task_props, before);
    t->metadata = prop_get(o, task_props, "metadata");
    if (prop_get(o, task_props, "if"))
        t->cond = parse_tmpl(p, MEMBER(o, "if"), TMPL_BARE, VARS_TASK);
    t->input_schema = parse_schema(p, o, "input");
    t->output_schema = parse_schema(p, o, "output");
    t->export_schema = parse_schema(p, o, "export");
    t->input_from = parse_shape(p, o, "input", VARS_TASK);
    t->output_as = parse_shape(p, o, "output", VARS_INPUT);
    t->export_as = parse_shape(p, o, "export", VARS_EXPORT);
    if (json_object_object_get_ex(o, "then", NULL))
        parse_then(p, MEMBER(o, "then"), t, &t->then);
    t->timeout = parse_timeout(p, o, VARS_INPUT);
    if (k)
        k->parse(p, t, o);
    if (t->metadata && k)
        tidemark(p, t, t->metadata);
}

void parse_function(struct parser *p, struct task *t, struct json_object *fn, const char *name)
{
    size_t before = p->d->errors;
    struct ydoc_pos at = ydoc_key_pos(p->y, p->functions, name);
    struct json_object *call = js_get(fn, "call"), *metadata;
    parse_object(p, (struct spot){fn, NULL, 0}, "a function", function_props, KINDS);
    const struct kind *k = kind_of(p, fn, at, function_props, before);
    if (!(t->function = arena_alloc(&p->f->mem, sizeof *t->function))) {
        diags_add(p->d, ydoc_name(p->y), at.line, at.col, "split the definition",
                  "the definition is too large");
        return;
    }
    /* A function sees what it is given, not the variables of its caller. */
    const char *callers = p->locals[0];
    p->locals[0] = NULL;
    t->function->name = name;
    t->function->input_schema = parse_schema(p, fn, "input");
    t->function->output_schema = parse_schema(p, fn, "output");
    t->function->input_from = parse_shape(p, fn, "input", VARS_TASK);
    t->function->output_as = parse_shape(p, fn, "output", VARS_INPUT);
    if (k && !strcmp(k->name, "call") && json_object_is_type(call, json_type_string) &&
        strcmp(json_object_get_string(call), "http") &&
        json_object_object_get_ex(p->functions, json_object_get_string(call), NULL))
        parse_bad(p, MEMBER(fn, "call"), FLOW_LATER_HINT,
                  "a function that calls a function is not supported yet by this version");
    else if (k)
        k->parse(p, t, fn);
    if (k && (metadata = prop_get(fn, function_props, "metadata")))
        tidemark(p, t, metadata);
    p->locals[0] = callers;
}
