/* run: shell and run: script (DSL reference, "Run"). */
#include "flow/parse_int.h"

#define RUN_EXAMPLE                                                                                \
    "run: {shell: {command: ls}} or run: {script: {language: python, code: print(1)}}"

static const char *const returns[] = {"stdout", "stderr", "code", "all", "none", NULL};
static const struct prop run_props[] = {{"shell", T_ANY},
                                        {"script", T_ANY},
                                        {"container", T_ANY, PROP_LATER},
                                        {"workflow", T_ANY, PROP_LATER},
                                        {"await", T_BOOL, 0, NULL, "await: false"},
                                        {"return", T_TEXT, 0, returns, NULL},
                                        {0}};

#define PROCESS_PROPS                                                                              \
    {"stdin", T_TEXT, 0, NULL, "a text; for JSON: ${ . | tojson }"},                               \
        {"arguments", T_ARR, 0, NULL, "arguments: [one, \"${ .two }\"]"},                          \
    {                                                                                              \
        "environment", T_OBJ, 0, NULL, "environment: {LANG: C.UTF-8}"                              \
    }

static const char *const languages[] = {"python", "js", "javascript", NULL};
static const struct prop shell_props[] = {{"command", T_TEXT, PROP_NEED, NULL, "command: ls"},
                                          PROCESS_PROPS,
                                          {0}};
static const struct prop script_props[] = {{"language", T_TEXT, PROP_NEED, languages,
                                            "language: python"},
                                           {"code", T_TEXT, 0, NULL, "code: print(1)"},
                                           {"source", T_OBJ, 0, NULL,
                                            "source: {endpoint: file:///opt/check.py}"},
                                           PROCESS_PROPS,
                                           {0}};

static void check_source(struct parser *p, struct json_object *s)
{
    static const struct prop props[] = {{"name", T_TEXT},
                                        {"endpoint", T_TEXT | T_OBJ, PROP_NEED, NULL,
                                         "endpoint: file:///opt/check.py"},
                                        {0}};
    static const struct prop uri_props[] = {{"uri", T_TEXT, PROP_NEED, NULL,
                                             "uri: file:///opt/check.py"},
                                            {"authentication", T_ANY, PROP_LATER, NULL,
                                             "fetch the script in a task of its own"},
                                            {0}};
    struct json_object *o = parse_object(p, MEMBER(s, "source"), "source", props, props[1].hint);
    if (json_object_is_type(prop_get(o, props, "endpoint"), json_type_object))
        parse_object(p, MEMBER(o, "endpoint"), "endpoint", uri_props, uri_props[0].hint);
}

static void check_values(struct parser *p, struct json_object *s, const struct prop *table)
{
    struct json_object *args = prop_get(s, table, "arguments"),
                       *env = prop_get(s, table, "environment");
    for (size_t i = 0; args && i < json_object_array_length(args); i++)
        if (!json_object_is_type(json_object_array_get_idx(args, i), json_type_string))
            parse_bad(p, ELEMENT(args, i), "put it into quotes", "an argument must be a text");
    if (!env)
        return;
    json_object_object_foreach(env, name, v)
    {
        if (!((T_TEXT | T_NUM | T_BOOL) & 1u << json_object_get_type(v)))
            parse_bad(p, MEMBER(env, name), "a text; for JSON: ${ .value | tojson }",
                      "environment.%.100s must be a text, a number or true or false", name);
        if (!*name || strchr(name, '='))
            parse_bad_key(p, env, name, "without =", "this is not the name of a variable");
    }
}

/* Secrets may reach the process, but not stand in its code or command line, which is data of the
 * definition. */
static void check_exprs(struct parser *p, struct json_object *s)
{
    static const char *const handed[] = {"stdin", "arguments", "environment"};
    static const char *const own[] = {"command", "code", "language", "source"};
    for (size_t i = 0; i < sizeof handed / sizeof *handed; i++)
        if (json_object_object_get_ex(s, handed[i], NULL))
            parse_check_exprs(p, MEMBER(s, handed[i]), p->mode, VARS_SECRET, 0);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (json_object_object_get_ex(s, own[i], NULL))
            parse_check_exprs(p, MEMBER(s, own[i]), p->mode, VARS_INPUT, TEXT_OWN_SYNTAX);
}

static void process(struct parser *p, struct task *t, struct json_object *run, const char *kind)
{
    size_t before = p->d->errors;
    const struct prop *table = t->type == TASK_SHELL ? shell_props : script_props;
    struct json_object *s = parse_object(p, MEMBER(run, kind), kind, table, RUN_EXAMPLE);
    if (!s)
        return;
    if (t->type == TASK_SCRIPT) {
        bool code = json_object_object_get_ex(s, "code", NULL),
             source = json_object_object_get_ex(s, "source", NULL);
        if (code == source)
            parse_bad(p, MEMBER(run, kind),
                      "code: the text itself; source: {endpoint: its address}",
                      "a script has exactly one of code and source");
        if (prop_get(s, table, "source"))
            check_source(p, s);
    }
    check_values(p, s, table);
    check_exprs(p, s);
    if (p->d->errors == before)
        t->with = parse_compile(p, MEMBER(run, kind), s, VARS_SECRET);
}

void parse_run(struct parser *p, struct task *t, struct json_object *o)
{
    struct json_object *run = parse_object(p, MEMBER(o, "run"), "run", run_props, RUN_EXAMPLE);
    t->effect = EFFECT_WORLD;
    t->type = TASK_SHELL;
    if (!run)
        return;
    bool shell = json_object_object_get_ex(run, "shell", NULL),
         script = json_object_object_get_ex(run, "script", NULL),
         later = js_get(run, "container") || js_get(run, "workflow");
    t->type = script ? TASK_SCRIPT : TASK_SHELL;
    struct json_object *await = prop_get(run, run_props, "await");
    t->await = !await || json_object_get_boolean(await);
    t->returns = prop_choice(run, run_props, "return", RETURN_STDOUT);
    if (shell != script)
        process(p, t, run, shell ? "shell" : "script");
    else if (!later)
        parse_bad(p, MEMBER(o, "run"), RUN_EXAMPLE, "run has exactly one of shell and script");
}
