/* The reusable parts of a definition: secrets, functions, errors, authentications (DSL reference,
 * "Use"). */
#include "flow/parse_int.h"

#define AUTH_EXAMPLE                                                                               \
    "{basic: {username: ..., password: ...}} or {bearer: {token: ...}}; each may be {use: SECRET}"
#define ERROR_EXAMPLE "{type: https://example.com/errors/not-found, status: 404}"

static const struct prop use_props[] = {
    {"functions", T_OBJ, 0, NULL, "functions: {greet: {call: http, with: ...}}"},
    {"secrets", T_ARR, 0, NULL, "secrets: [apiToken]"},
    {"errors", T_OBJ, 0, NULL, "errors: {notFound: " ERROR_EXAMPLE "}"},
    {"authentications", T_OBJ, 0, NULL, "authentications: {api: {bearer: {use: apiToken}}}"},
    {"retries", T_OBJ, 0, NULL, "retries: {often: {delay: PT1S, limit: {attempt: {count: 5}}}}"},
    {"timeouts", T_OBJ, 0, NULL, "timeouts: {short: {after: PT10S}}"},
    {"extensions", T_ANY, PROP_LATER},
    {"catalogs", T_ANY, PROP_LATER},
    {0}};

static const struct prop error_props[] = {{"type", T_TEXT, PROP_NEED, NULL,
                                           "type: https://example.com/errors/not-found"},
                                          {"status", T_INT, PROP_NEED, NULL, "status: 404"},
                                          {"instance", T_TEXT, 0, NULL,
                                           "a JSON pointer such as /do/0/step"},
                                          {"title", T_TEXT, 0, NULL, NULL},
                                          {"detail", T_TEXT, 0, NULL, NULL},
                                          {0}};

static const struct prop basic_props[] = {{"username", T_TEXT, 0, NULL, NULL},
                                          {"password", T_TEXT, 0, NULL, NULL},
                                          {"use", T_TEXT, 0, NULL, "use: SECRET"},
                                          {0}};
static const struct prop bearer_props[] = {{"token", T_TEXT, 0, NULL, NULL},
                                           {"use", T_TEXT, 0, NULL, "use: SECRET"},
                                           {0}};
static const struct prop auth_props[] = {{"use", T_TEXT, 0, NULL, "use: NAME"},
                                         {"basic", T_OBJ, 0, NULL, AUTH_EXAMPLE},
                                         {"bearer", T_OBJ, 0, NULL, AUTH_EXAMPLE},
                                         {"digest", T_ANY, PROP_LATER},
                                         {"oauth2", T_ANY, PROP_LATER},
                                         {"oidc", T_ANY, PROP_LATER},
                                         {0}};

struct json_object *parse_error(struct parser *p, struct spot at)
{
    size_t before = p->d->errors;
    struct json_object *o = parse_object(p, at, "an error", error_props, ERROR_EXAMPLE), *v;
    if (!o)
        return NULL;
    if ((v = prop_get(o, error_props, "status"))) {
        int64_t n = json_object_get_int64(v);
        if (n < 100 || n > 599)
            parse_bad(p, MEMBER(o, "status"), "an HTTP status code such as 404",
                      "%lld is not a status", (long long)n);
    }
    parse_check_exprs(p, at, p->mode, VARS_INPUT, 0);
    return p->d->errors == before ? o : NULL;
}

static void use_secret(struct parser *p, struct json_object *o, const char *name)
{
    const char *names[257];
    char hint[160];
    size_t n = 0, len = p->secrets ? json_object_array_length(p->secrets) : 0;
    for (size_t i = 0; i < len && n < 256; i++) {
        names[n] = json_object_get_string(json_object_array_get_idx(p->secrets, i));
        if (names[n] && !strcmp(names[n], name))
            return;
        n += names[n] != NULL;
    }
    names[n] = NULL;
    parse_bad(p, MEMBER(o, "use"),
              parse_near(hint, sizeof hint, name, names, "declare it: use: {secrets: [NAME]}"),
              "there is no secret \"%.100s\" in use.secrets", name);
}

/* basic or bearer: the values, or {use: SECRET}. */
static void credentials(struct parser *p, struct json_object *auth, const char *kind)
{
    bool basic = !strcmp(kind, "basic");
    const struct prop *table = basic ? basic_props : bearer_props;
    struct json_object *o = parse_object(p, MEMBER(auth, kind), kind, table, AUTH_EXAMPLE);
    if (!o)
        return;
    const char *use = prop_text(o, table, "use");
    bool use_there = json_object_object_get_ex(o, "use", NULL);
    size_t need = basic ? 2 : 1, there = 0;
    for (size_t i = 0; i < need; i++)
        there += json_object_object_get_ex(o, table[i].name, NULL);
    if (use && *use)
        use_secret(p, o, use);
    struct json_object *literal = prop_get(o, table, basic ? "password" : "token");
    if (literal && !text_is_expr(literal) && p->mode == TMPL_STRICT)
        parse_warn(p, MEMBER(o, basic ? "password" : "token"),
                   "declare a secret in use.secrets and write {use: NAME}",
                   "definitions are kept in the log, so this literal is no secret");
    if (use_there ? there != 0 : there != need)
        parse_bad(p, MEMBER(auth, kind), AUTH_EXAMPLE,
                  basic ? "basic needs username and password, or use"
                        : "bearer needs token, or use");
    parse_check_exprs(p, MEMBER(auth, kind), p->mode, VARS_SECRET, 0);
}

static void by_name(struct parser *p, struct json_object *auth, const char *name,
                    struct json_object **ret)
{
    char hint[160];
    struct json_object *found = js_get(p->authentications, name);
    if (found)
        *ret = found; /* checked where it is declared */
    else
        parse_bad(p, MEMBER(auth, "use"),
                  parse_near_member(hint, sizeof hint, name, p->authentications,
                                    "declare it in use.authentications"),
                  "there is no authentication \"%.100s\"", name);
}

void parse_authentication(struct parser *p, struct spot at, bool reference,
                          struct json_object **ret)
{
    static const char *const schemes[] = {"use", "basic", "bearer", "digest", "oauth2", "oidc"};
    struct json_object *o =
        parse_object(p, at, "authentication", auth_props,
                     reference ? "{use: NAME}, or " AUTH_EXAMPLE : AUTH_EXAMPLE);
    size_t n = 0;
    *ret = NULL;
    if (!o)
        return;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        n += json_object_object_get_ex(o, schemes[i], NULL);
    const char *use = prop_text(o, auth_props, "use");
    if (n != 1) {
        parse_bad(p, at, AUTH_EXAMPLE, "an authentication has exactly one scheme");
    } else if (use && reference) {
        by_name(p, o, use, ret);
    } else if (use) {
        parse_bad_key(p, o, "use", AUTH_EXAMPLE, "an authentication here can't refer to another");
    } else if (prop_get(o, auth_props, "basic") || prop_get(o, auth_props, "bearer")) {
        credentials(p, o, js_get(o, "basic") ? "basic" : "bearer");
        *ret = o;
    }
}

void parse_use(struct parser *p, struct json_object *root)
{
    static const char *const none[] = {NULL};
    struct json_object *use, *unused;
    p->f->info.secrets = none;
    if (!json_object_object_get_ex(root, "use", NULL) ||
        !(use = parse_object(p, MEMBER(root, "use"), "use", use_props, "use: {functions: ...}")))
        return;
    p->functions = prop_get(use, use_props, "functions");
    p->errors = prop_get(use, use_props, "errors");
    p->authentications = prop_get(use, use_props, "authentications");
    p->secrets = prop_get(use, use_props, "secrets");
    p->retries = prop_get(use, use_props, "retries");
    p->timeouts = prop_get(use, use_props, "timeouts");
    if (p->secrets && !parse_texts(p, MEMBER(use, "secrets"), "secret", &p->f->info.secrets))
        p->secrets = NULL;
    if (p->errors) {
        json_object_object_foreach(p->errors, name, v)
        {
            (void)v;
            parse_error(p, MEMBER(p->errors, name));
        }
    }
    if (p->authentications) {
        json_object_object_foreach(p->authentications, name, v)
        {
            (void)v;
            parse_authentication(p, MEMBER(p->authentications, name), false, &unused);
        }
    }
}

/* Each is checked where it stands, called or not; a call compiles it again for itself. */
void parse_use_functions(struct parser *p)
{
    static const char *const own[] = {"http", "openapi", "grpc", "asyncapi", "a2a", "mcp"};
    if (!p->functions)
        return;
    json_object_object_foreach(p->functions, name, v)
    {
        struct task t = {.name = name, .definition = v, .await = true, .ref = ""};
        if (!json_object_is_type(v, json_type_object)) {
            parse_bad(p, MEMBER(p->functions, name), "greet: {call: http, with: ...}",
                      "a function must be a mapping, one task");
            continue;
        }
        for (size_t i = 0; i < sizeof own / sizeof *own; i++)
            if (!strcmp(name, own[i]))
                parse_bad_key(p, p->functions, name, "give it another name",
                              "a function named %s could never be called", name);
        parse_function(p, &t, v, name);
        flow_task_release(&t);
    }
}
