/* call: http, and calls of use.functions (DSL reference, "Call" and "HTTP"). */
#include <stdio.h>
#include <strings.h>

#include "flow/parse_int.h"

#define HTTP_EXAMPLE "with: {method: get, endpoint: https://example.com/things/{id}}"
#define ENDPOINT_EXAMPLE                                                                           \
    "https://example.com/things/{id}, ${ .url }, or {uri: ..., authentication: {use: NAME}}"
#define TOKEN_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

static const char *const outputs[] = {"content", "raw", "response", NULL};
static const struct prop http_props[] = {
    {"method", T_TEXT, PROP_NEED, NULL, "method: get"},
    {"endpoint", T_TEXT | T_OBJ, PROP_NEED, NULL, ENDPOINT_EXAMPLE},
    {"headers", T_TEXT | T_OBJ, PROP_EXPR, NULL, "headers: {accept: application/json}"},
    {"query", T_TEXT | T_OBJ, PROP_EXPR, NULL, "query: {page: '1'}"},
    {"body", T_ANY},
    {"output", T_TEXT, 0, outputs, NULL},
    {"redirect", T_BOOL, 0, NULL, "redirect: true"},
    {"authentication", T_ANY, PROP_ELSEWHERE, NULL,
     "put it into the endpoint: {uri: ..., authentication: {use: NAME}}"},
    {0}};

/* scheme ":" at the front: where the address begins. */
static bool has_scheme(const char *s, size_t *ret)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    *ret = n;
    return n && s[n] == ':';
}

static void check_template(struct parser *p, struct spot at, const char *s)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.%";
    for (const char *c = s; (c = strchr(c, '{')); c++) {
        size_t n = strspn(c + 1, name);
        if (!n || c[n + 1] != '}') {
            parse_bad(p, at,
                      "{name}, a member of the task's input; for anything else one expression ${ }",
                      "the URI template holds something else than {name}");
            return;
        }
    }
}

/* A literal address or URI template. */
static void check_uri(struct parser *p, struct spot at, struct json_object *v)
{
    const char *s = json_object_get_string(v);
    size_t n;
    if (text_is_expr(v) || p->mode == TMPL_LOOSE)
        return;
    if (text_opens_expr(v))
        parse_bad(p, at,
                  "an expression begins with ${ and ends with }; with text around it: ${ "
                  "\"https://\" + .host }",
                  "the endpoint begins like an expression but is none");
    else if (!*s || strpbrk(s, " \t\r\n"))
        parse_bad(p, at, "blanks are written %20", "the endpoint is empty or holds blanks");
    else if (has_scheme(s, &n) ? strncasecmp(s, "http:", 5) && strncasecmp(s, "https:", 6)
                               : *s != '{')
        parse_bad(p, at, "https://HOST/PATH", "the endpoint must begin with http:// or https://");
    else
        check_template(p, at, s);
}

/* The endpoint as it is to be compiled: a named authentication is written out. NULL: wrong or no
 * memory. */
static struct json_object *endpoint(struct parser *p, struct task *t, struct json_object *with)
{
    static const struct prop props[] = {{"uri", T_TEXT, PROP_NEED, NULL, ENDPOINT_EXAMPLE},
                                        {"authentication", T_ANY},
                                        {0}};
    struct json_object *v = prop_get(with, http_props, "endpoint"), *auth, *out;
    if (!v)
        return NULL;
    if (json_object_is_type(v, json_type_string)) {
        check_uri(p, MEMBER(with, "endpoint"), v);
        parse_check_exprs(p, MEMBER(with, "endpoint"), p->mode, VARS_SECRET, TEXT_OWN_SYNTAX);
        t->endpoint_expr = text_is_expr(v);
        return json_object_get(v);
    }
    parse_object(p, MEMBER(with, "endpoint"), "endpoint", props, ENDPOINT_EXAMPLE);
    struct json_object *uri = prop_get(v, props, "uri");
    if (uri) {
        check_uri(p, MEMBER(v, "uri"), uri);
        parse_check_exprs(p, MEMBER(v, "uri"), p->mode, VARS_SECRET, TEXT_OWN_SYNTAX);
        t->endpoint_expr = text_is_expr(uri);
    }
    if (!json_object_object_get_ex(v, "authentication", NULL))
        return json_object_get(v);
    parse_authentication(p, MEMBER(v, "authentication"), true, &auth);
    if (!uri || !auth || !(out = json_object_new_object()))
        return NULL;
    if (js_put(out, "uri", json_object_get(uri)) ||
        js_put(out, "authentication", json_object_get(auth))) {
        json_object_put(out);
        return NULL;
    }
    return out;
}

/* headers and query: names to texts. */
static void check_map(struct parser *p, struct json_object *with, const char *key, bool tokens)
{
    struct json_object *o = prop_get(with, http_props, key);
    if (json_object_is_type(o, json_type_object)) {
        json_object_object_foreach(o, name, v)
        {
            if (!json_object_is_type(v, json_type_string))
                parse_bad(p, MEMBER(o, name),
                          (T_NUM | T_BOOL) & 1u << json_object_get_type(v)
                              ? "put it into quotes"
                              : "a text; for an expression: \"${ .value }\"",
                          "%s.%.100s must be a text", key, name);
            if (tokens && (!*name || strspn(name, TOKEN_CHARS) != strlen(name)))
                parse_bad_key(p, o, name, "letters, digits and -",
                              "\"%.100s\" is not the name of a header", name);
        }
    }
    if (o)
        parse_check_exprs(p, MEMBER(with, key), p->mode, VARS_SECRET, 0);
}

static bool check_method(struct parser *p, struct json_object *with)
{
    struct json_object *v = prop_get(with, http_props, "method");
    const char *s = v ? json_object_get_string(v) : "";
    if (v && !text_is_expr(v) && p->mode != TMPL_LOOSE &&
        (!*s || strspn(s, TOKEN_CHARS) != strlen(s)))
        parse_bad(p, MEMBER(with, "method"), "get, post, put, patch, delete, head or another token",
                  "\"%.100s\" is not an HTTP method", s);
    if (v)
        parse_check_exprs(p, MEMBER(with, "method"), p->mode, VARS_INPUT, 0);
    return !strcasecmp(s, "get") || !strcasecmp(s, "head");
}

/* The answer in the form `response` tells what was sent, and goes to the journal. */
static void check_response(struct parser *p, struct json_object *with)
{
    struct json_object *ep = prop_get(with, http_props, "endpoint");
    struct json_object *uri = json_object_is_type(ep, json_type_object) ? js_get(ep, "uri") : ep;
    const struct {
        const char *key;
        struct json_object *value;
    } sent[] = {{"endpoint", uri},
                {"headers", prop_get(with, http_props, "headers")},
                {"query", prop_get(with, http_props, "query")}};
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++)
        if (sent[i].value && parse_names_secret(p, sent[i].value))
            parse_bad(p, MEMBER(with, sent[i].key),
                      "use output: content, or put the secret into authentication, which is hidden",
                      "with output: response the secret in %s would get into the journal",
                      sent[i].key);
}

void parse_http(struct parser *p, struct task *t, struct json_object *o)
{
    static const char *const copied[] = {"method", "headers", "query", "body"};
    size_t before = p->d->errors;
    struct json_object *with = parse_object(p, MEMBER(o, "with"), "with", http_props, HTTP_EXAMPLE);
    t->type = TASK_HTTP;
    t->effect = EFFECT_WORLD;
    if (!with)
        return;
    if (check_method(p, with))
        t->effect = EFFECT_SAFE; /* DECISIONS 13 */
    check_map(p, with, "headers", true);
    check_map(p, with, "query", false);
    if (json_object_object_get_ex(with, "body", NULL))
        parse_check_exprs(p, MEMBER(with, "body"), p->mode, VARS_SECRET, 0);
    t->http_output = prop_choice(with, http_props, "output", OUT_CONTENT);
    if (t->http_output == OUT_RESPONSE)
        check_response(p, with);
    t->http_redirect = json_object_get_boolean(prop_get(with, http_props, "redirect"));
    struct json_object *ep = endpoint(p, t, with), *w = json_object_new_object(), *v;
    bool ok = ep && w && js_put(w, "endpoint", json_object_get(ep)) == 0;
    for (size_t i = 0; ok && i < sizeof copied / sizeof *copied; i++)
        if (json_object_object_get_ex(with, copied[i], &v))
            ok = js_put(w, copied[i], json_object_get(v)) == 0;
    if (ok && p->d->errors == before)
        t->with = parse_compile(p, MEMBER(o, "with"), w, VARS_SECRET);
    else if (p->d->errors == before)
        parse_bad(p, MEMBER(o, "with"), "split the definition", "no memory for this call");
    json_object_put(ep);
    json_object_put(w);
}

/* What the function does was checked in use.functions; here it is compiled for this task, and
 * problems in it are not told again. */
static void call_function(struct parser *p, struct task *t, struct json_object *o, const char *name)
{
    struct diags own = {0}, *all = p->d;
    bool deep = p->deep;
    diags_init(&own);
    p->d = &own;
    p->deep = false;
    if (json_object_is_type(js_get(p->functions, name), json_type_object))
        parse_function(p, t, js_get(p->functions, name), name);
    p->d = all;
    p->deep = deep;
    if (own.errors && !all->errors)
        parse_bad(p, MEMBER(o, "call"), "see use.functions", "the function %.100s is wrong", name);
    diags_free(&own);
    if (!json_object_object_get_ex(o, "with", NULL))
        return;
    if (!json_object_is_type(js_get(o, "with"), json_type_object))
        parse_bad(p, MEMBER(o, "with"), "with: {name: value}", "with must be a mapping");
    else if (t->function)
        t->function->args = parse_tmpl(p, MEMBER(o, "with"), p->mode, VARS_INPUT);
}

void parse_call(struct parser *p, struct task *t, struct json_object *o)
{
    static const char *const later[] = {"openapi", "grpc", "asyncapi", "a2a", "mcp"};
    struct json_object *v = js_get(o, "call");
    struct spot at = MEMBER(o, "call");
    char hint[160];
    if (!json_object_is_type(v, json_type_string)) {
        parse_bad(p, at, "http, or the name of a function in use.functions", "call must be a text");
        return;
    }
    const char *what = json_object_get_string(v);
    if (!strcmp(what, "http")) {
        parse_http(p, t, o);
        return;
    }
    bool unsupported = strchr(what, '@') || strstr(what, "://");
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        unsupported = unsupported || !strcmp(what, later[i]);
    if (unsupported)
        parse_bad(p, at, FLOW_LATER_HINT, "call: %.100s is not supported yet by this version",
                  what);
    else if (json_object_object_get_ex(p->functions, what, NULL))
        call_function(p, t, o, what);
    else if (err_nearest(sl_str(what), (const char *const[]){"http", NULL}))
        parse_bad(p, at, "did you mean http?", "there is no function \"%.100s\"", what);
    else
        parse_bad(p, at,
                  parse_near_member(hint, sizeof hint, what, p->functions,
                                    "http, or a function declared in use.functions"),
                  "there is no function \"%.100s\"", what);
}
