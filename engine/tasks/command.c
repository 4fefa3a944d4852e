/* Building a process's command (specification, sections "Shell Process" and "Script Process").
 * The environment is explicit: a few harmless variables of the engine, what the author gave, and
 * what ties the process to its run. Secrets of the engine's environment never get there by
 * themselves. Code travels as an argument, so no file of a script is ever left behind. */
#include "tasks/command.h"

#include <errno.h>
#include <stdlib.h>

/* problem_set as a result: -EINVAL, or -ENOMEM when not even that was possible. */
#define REFUSE(p, ...) (problem_set((p), __VA_ARGS__) ? -ENOMEM : -EINVAL)

static const struct language {
    const char *name, *program, *option;
    /* Behind the code: ends the interpreter's own options and fills the place of the script's name,
     * so that process.argv begins as it does for a file. */
    const char *after[2];
} languages[] = {
    {"python", "python3", "-c", {NULL}},
    {"js", "node", "-e", {"--", "script"}},
    {"javascript", "node", "-e", {"--", "script"}},
};

/* Appends to a NULL-terminated list of strings; s is taken over. */
static int push(char ***v, size_t *n, size_t *cap, char *s)
{
    if (!s)
        return -ENOMEM;
    if (*n + 2 > *cap) {
        size_t want = *cap ? *cap * 2 : 16;
        char **w = realloc(*v, want * sizeof *w);
        if (!w) {
            free(s);
            return -ENOMEM;
        }
        *v = w;
        *cap = want;
    }
    (*v)[(*n)++] = s;
    (*v)[*n] = NULL;
    return 0;
}

static int push_arg(struct command *m, struct slice s)
{
    return push(&m->argv, &m->argc, &m->arg_cap, sl_dup(s));
}

/* One argument of the author: no zero byte, not too long. */
static int user_arg(struct command *m, struct slice s, const char *what, struct problem *p)
{
    if (s.n > COMMAND_TEXT_MAX_BYTES)
        return REFUSE(
            p, "validation", 0, NULL,
            "%s is longer than %d bytes, more than a process takes; pass it by stdin or a file",
            what, COMMAND_TEXT_MAX_BYTES);
    if (memchr(s.p ? s.p : "", 0, s.n))
        return REFUSE(p, "validation", 0, NULL, "%s has a zero byte; pass it by stdin", what);
    return push_arg(m, s);
}

/* "NAME=value"; replaces a variable of the same name. */
static int set_env(struct command *m, const char *name, struct slice value)
{
    size_t n = strlen(name);
    char *s = malloc(n + value.n + 2);
    if (!s)
        return -ENOMEM;
    memcpy(s, name, n);
    s[n] = '=';
    if (value.n)
        memcpy(s + n + 1, value.p, value.n);
    s[n + 1 + value.n] = 0;
    for (size_t i = 0; i < m->envc; i++) {
        if (!strncmp(m->envp[i], s, n + 1)) {
            free(m->envp[i]);
            m->envp[i] = s;
            return 0;
        }
    }
    return push(&m->envp, &m->envc, &m->env_cap, s);
}

static bool env_name(const char *s)
{
    if (!*s || (*s >= '0' && *s <= '9'))
        return false;
    for (; *s; s++)
        if (!(*s == '_' || (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') ||
              (*s >= 'A' && *s <= 'Z')))
            return false;
    return true;
}

/* A scalar as text in b, which the caller frees. `what` is said in the problem. */
static int scalar(struct json_object *v, struct buf *b, const char *what, struct problem *p)
{
    buf_init(b, COMMAND_INPUT_MAX);
    int rc = task_scalar(v, b);
    if (rc == -EINVAL)
        return REFUSE(p, "expression", 0, NULL,
                      "%s is an %s; give text (tojson makes one of any value) or pass it by stdin",
                      what, js_kind(v));
    if (rc == -ENOBUFS)
        return REFUSE(p, "validation", 0, NULL, "%s is larger than %d bytes", what,
                      COMMAND_INPUT_MAX);
    return rc;
}

static int user_env(struct command *m, struct json_object *env, struct problem *p)
{
    if (!env)
        return 0;
    if (!json_object_is_type(env, json_type_object))
        return REFUSE(p, "expression", 0, NULL,
                      "environment is %s, not an object of names and values", js_kind(env));
    json_object_object_foreach(env, name, v)
    {
        if (m->envc >= COMMAND_ARGS_MAX)
            return REFUSE(p, "validation", 0, NULL, "more than %d variables", COMMAND_ARGS_MAX);
        if (!env_name(name))
            return REFUSE(
                p, "configuration", 0, NULL,
                "'%s' is not a name of an environment variable; use letters, digits and _", name);
        struct buf b;
        int rc = scalar(v, &b, name, p);
        if (!rc && b.n > COMMAND_TEXT_MAX_BYTES)
            rc = REFUSE(p, "validation", 0, NULL,
                        "the variable %s is longer than %d bytes; pass it by stdin or a file", name,
                        COMMAND_TEXT_MAX_BYTES);
        if (!rc && memchr(b.p ? b.p : "", 0, b.n))
            rc = REFUSE(p, "validation", 0, NULL, "the variable %s has a zero byte", name);
        if (!rc)
            rc = set_env(m, name, buf_slice(&b));
        buf_free(&b);
        if (rc)
            return rc;
    }
    return 0;
}

static int build_env(struct command *m, const struct task_call *c, struct problem *p)
{
    static const char *const inherited[] = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"};
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof inherited / sizeof *inherited; i++) {
        const char *v = getenv(inherited[i]);
        if (v)
            rc = set_env(m, inherited[i], sl_str(v));
    }
    if (!rc)
        rc = user_env(m, js_get(c->with, "environment"), p);
    if (!rc && c->run_id)
        rc = set_env(m, "TIDEMARK_RUN_ID", sl_str(c->run_id));
    if (!rc && c->ref)
        rc = set_env(m, "TIDEMARK_TASK", sl_str(c->ref));
    if (!rc && c->idempotency_key)
        rc = set_env(m, "TIDEMARK_IDEMPOTENCY_KEY", sl_str(c->idempotency_key));
    if (!rc && c->traceparent)
        rc = set_env(m, "TRACEPARENT", sl_str(c->traceparent));
    if (rc)
        return rc;
    struct buf b;
    buf_init(&b, 16);
    buf_addf(&b, "%d", c->attempt);
    rc = set_env(m, "TIDEMARK_ATTEMPT", buf_slice(&b));
    buf_free(&b);
    return rc;
}

static int user_args(struct command *m, struct json_object *args, struct problem *p)
{
    if (!args)
        return 0;
    if (!json_object_is_type(args, json_type_array))
        return REFUSE(p, "expression", 0, NULL, "arguments is %s, not an array of text",
                      js_kind(args));
    size_t n = json_object_array_length(args);
    if (n > COMMAND_ARGS_MAX)
        return REFUSE(p, "validation", 0, NULL, "more than %d arguments", COMMAND_ARGS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct buf b;
        int rc = scalar(json_object_array_get_idx(args, i), &b, "an argument", p);
        if (!rc)
            rc = user_arg(m, buf_slice(&b), "an argument", p);
        buf_free(&b);
        if (rc)
            return rc;
    }
    return 0;
}

static int shell_args(struct command *m, struct json_object *with, struct problem *p)
{
    const char *command = js_str(with, "command");
    if (!command)
        return REFUSE(p, "expression", 0, NULL, "the command is %s, not text",
                      js_kind(js_get(with, "command")));
    int rc = push_arg(m, SL("/bin/sh"));
    if (!rc)
        rc = push_arg(m, SL("-c"));
    if (!rc)
        rc = user_arg(m, sl_str(command), "the command", p);
    return rc ? rc : push_arg(m, SL("sh")); /* $0 */
}

/* A script by its address: a file is given to the interpreter by its path, the web's is fetched
 * first. */
static int script_source(struct command *m, const struct language *l, struct json_object *source,
                         struct problem *p)
{
    struct json_object *endpoint =
        json_object_is_type(source, json_type_object) ? js_get(source, "endpoint") : source;
    if (js_get(endpoint, "authentication"))
        return REFUSE(
            p, "configuration", 0, NULL,
            "authentication of a script's source is not supported; fetch it in a task of its "
            "own, or use a file");
    const char *uri = json_object_is_type(endpoint, json_type_string)
                          ? json_object_get_string(endpoint)
                          : js_str(endpoint, "uri");
    if (!uri || !*uri)
        return REFUSE(p, "expression", 0, NULL, "the script's source has no address");
    struct slice s = sl_str(uri);
    if (sl_starts(s, SL("http://")) || sl_starts(s, SL("https://"))) {
        m->source = strdup(uri);
        int rc = m->source ? push_arg(m, sl_str(l->option)) : -ENOMEM;
        m->code_at = m->argc;
        if (!rc)
            rc = push_arg(m, SL(""));
        for (size_t i = 0; !rc && i < 2 && l->after[i]; i++)
            rc = push_arg(m, sl_str(l->after[i]));
        return rc;
    }
    if (sl_starts(s, SL("file://")))
        s = sl_from(s, strlen("file://"));
    else if (strstr(uri, "://"))
        return REFUSE(p, "configuration", 0, NULL,
                      "a script can come from http://, https://, file:// or a path, not from '%s'",
                      uri);
    if (s.p[0] != '-')
        return user_arg(m, s, "the script's path", p);
    return REFUSE(p, "configuration", 0, NULL, "the path '%s' begins with -; write ./%s", uri, uri);
}

static int script_args(struct command *m, struct json_object *with, struct problem *p)
{
    const char *name = js_str(with, "language"), *code = js_str(with, "code");
    const struct language *l = NULL;
    for (size_t i = 0; name && i < sizeof languages / sizeof *languages; i++)
        if (!strcmp(languages[i].name, name))
            l = &languages[i];
    if (!l)
        return REFUSE(p, "configuration", 0, NULL, "no interpreter for '%s'; use python or js",
                      name ? name : "");
    int rc = push_arg(m, sl_str(l->program));
    if (rc)
        return rc;
    if (!code && js_get(with, "source"))
        return script_source(m, l, js_get(with, "source"), p);
    if (!code)
        return REFUSE(p, "configuration", 0, NULL, "a script needs code or source");
    rc = push_arg(m, sl_str(l->option));
    if (!rc)
        rc = user_arg(m, sl_str(code), "the code", p);
    for (size_t i = 0; !rc && i < 2 && l->after[i]; i++)
        rc = push_arg(m, sl_str(l->after[i]));
    return rc;
}

int command_set_code(struct command *m, struct slice code, struct problem *p)
{
    if (code.n > COMMAND_TEXT_MAX_BYTES || memchr(code.p ? code.p : "", 0, code.n))
        return REFUSE(p, "configuration", 0, NULL,
                      "the fetched script is longer than %d bytes or has a zero byte",
                      COMMAND_TEXT_MAX_BYTES);
    char *s = sl_dup(code);
    if (!s)
        return -ENOMEM;
    free(m->argv[m->code_at]);
    m->argv[m->code_at] = s;
    return 0;
}

int command_build(struct command *m, const struct task_call *c, struct problem *p)
{
    struct json_object *with = c->with, *in = NULL;
    buf_init(&m->input, COMMAND_INPUT_MAX);
    int rc = c->task->type == TASK_SHELL ? shell_args(m, with, p) : script_args(m, with, p);
    if (!rc)
        rc = user_args(m, js_get(with, "arguments"), p);
    if (!rc)
        rc = build_env(m, c, p);
    if (rc || !json_object_object_get_ex(with, "stdin", &in) || !in)
        return rc;
    rc = json_object_is_type(in, json_type_string) ? task_scalar(in, &m->input)
                                                   : js_write(in, &m->input);
    if (rc == -ENOBUFS)
        return REFUSE(p, "validation", 0, NULL, "stdin is larger than %d bytes", COMMAND_INPUT_MAX);
    return rc;
}

static void free_list(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        explicit_bzero(v[i], strlen(v[i])); /* may hold a secret */
        free(v[i]);
    }
    free(v);
}

void command_free(struct command *m)
{
    free_list(m->argv, m->argc);
    free_list(m->envp, m->envc);
    free(m->source);
    buf_free(&m->input);
    *m = (struct command){0};
}
