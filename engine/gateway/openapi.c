/* The description of the interface: an OpenAPI 3.1 document made from the tables of routes. What
 * all routes have in common (problems, the key, path parameters) is added here. */
#include "gateway/openapi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/js.h"
#include "gateway/api_int.h"

#define PROBLEM                                                                                    \
    "{\"type\":\"object\",\"required\":[\"title\",\"status\"],\"properties\":{\"type\":{"          \
    "\"type\":\"string\"},\"title\":{\"type\":\"string\"},\"status\":{\"type\":\"integer\"},"      \
    "\"detail\":{\"type\":\"string\"},\"hint\":{\"description\":\"what to do about it\","          \
    "\"type\":\"string\"},\"errors\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}}}"
#define ACCEPTED                                                                                   \
    "{\"type\":\"object\",\"required\":[\"id\",\"agent\",\"version\",\"status\",\"partition\","    \
    "\"links\"],\"properties\":{\"id\":{\"type\":\"string\"},\"agent\":{\"type\":\"string\"},"     \
    "\"version\":{\"type\":\"string\"},\"status\":{\"enum\":[\"pending\",\"running\","             \
    "\"suspended\",\"completed\",\"faulted\",\"cancelled\"]},\"partition\":{\"type\":"             \
    "\"integer\"},\"offset\":{\"type\":[\"integer\",\"null\"]},\"output\":{},\"error\":{},"        \
    "\"links\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}}}"

static const struct {
    const char *name, *schema;
} schemas[] = {{"Problem", PROBLEM}, {"Accepted", ACCEPTED}};

/* What a route may answer besides its own. */
static const struct {
    int status;
    const char *help;
    bool body;
} problems[] = {
    {400, "something in the request can't be used", false},
    {401, "no key, or one that is not known", false},
    {403, "the key has not the scope", false},
    {404, "there is no such thing", false},
    {406, "the Accept field names no type that is answered here", false},
    {409, "it is not in a state for that", false},
    {413, "the body, or what would be written, is too large", true},
    {415, "the body is of another content type", true},
    {422, "it contradicts what is there", true},
    {429, "too much at a time; Retry-After", false},
    {500, "a defect of the program", false},
    {503, "not now; Retry-After", false},
    {504, "reading took too long", false},
};

static struct json_object *object(void)
{
    return json_object_new_object();
}

static void text(struct json_object *o, const char *key, const char *v)
{
    js_put_new(o, key, json_object_new_string(v));
}

/* The tables are the program's own: a schema that can't be read is found by the tests. */
static struct json_object *parsed(const char *schema)
{
    struct json_object *o = NULL;
    return js_parse(sl_str(schema), &o, NULL) == 0 && o ? o : object();
}

static struct json_object *content(const char *types, const char *schema)
{
    struct json_object *all = object();
    struct slice rest = sl_str(types), type;
    while (sl_split(&rest, ',', &type)) {
        char name[80];
        struct json_object *one = object();
        (void)snprintf(name, sizeof name, "%.*s", SL_ARG(type));
        js_put_new(one, "schema", parsed(schema));
        js_put_new(all, name, one);
    }
    return all;
}

static struct json_object *param(const char *name, const char *in, const char *schema,
                                 const char *help, bool required)
{
    struct json_object *o = object();
    text(o, "name", name);
    text(o, "in", in);
    if (help)
        text(o, "description", help);
    js_put_new(o, "required", json_object_new_boolean(required));
    js_put_new(o, "schema", parsed(schema));
    return o;
}

static struct json_object *params(const struct route *r)
{
    struct json_object *v = json_object_new_array();
    struct slice rest = sl_str(r->path), part;
    while (sl_split(&rest, '/', &part)) {
        char name[64];
        if (part.n < 3 || part.p[0] != '{')
            continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)part.n - 2, part.p + 1);
        bool number = !strcmp(name, "partition") || !strcmp(name, "offset");
        js_push_new(v, param(name, "path",
                             number ? "{\"type\":\"integer\",\"minimum\":0}"
                                    : "{\"type\":\"string\",\"minLength\":1}",
                             NULL, true));
    }
    for (const struct param *p = r->params; p && p->name; p++)
        js_push_new(v, param(p->name, p->in, p->schema, p->help, p->required));
    return v;
}

static void put_answer(struct json_object *all, int status, const char *help, const char *type,
                       const char *schema)
{
    char key[8];
    struct json_object *o = object();
    (void)snprintf(key, sizeof key, "%d", status);
    if (json_object_object_get_ex(all, key, NULL)) {
        json_object_put(o);
        return;
    }
    text(o, "description", help);
    if (schema)
        js_put_new(o, "content", content(type, schema));
    js_put_new(all, key, o);
}

static struct json_object *answers(const struct route *r)
{
    struct json_object *all = object();
    for (const struct answer *a = r->answers; a && a->status; a++)
        put_answer(all, a->status, a->help,
                   a->type            ? a->type
                   : a->status >= 400 ? "application/problem+json"
                                      : "application/json",
                   a->schema);
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        if (r->scope != SCOPE_NONE && (!problems[i].body || r->body))
            put_answer(all, problems[i].status, problems[i].help, "application/problem+json",
                       "{\"$ref\":\"#/components/schemas/Problem\"}");
    }
    return all;
}

static struct json_object *operation(const struct route *r)
{
    struct json_object *o = object(), *tags = json_object_new_array();
    text(o, "operationId", r->id);
    text(o, "summary", r->summary);
    js_push_new(tags, json_object_new_string(r->tag));
    js_put_new(o, "tags", tags);
    js_put_new(o, "parameters", params(r));
    if (r->body) {
        struct json_object *b = object();
        js_put_new(b, "required", json_object_new_boolean(!r->body_optional));
        js_put_new(b, "content",
                   content(r->body_type ? r->body_type : "application/json", r->body));
        js_put_new(o, "requestBody", b);
    }
    js_put_new(o, "responses", answers(r));
    if (r->scope != SCOPE_NONE) {
        struct json_object *v = json_object_new_array(), *any = object(),
                           *key = json_object_new_array();
        js_push_new(key, json_object_new_string(scope_name(r->scope)));
        js_put_new(any, "bearer", key);
        js_push_new(v, any);
        js_push_new(v, object()); /* a group without keys needs none, on a loopback address */
        js_put_new(o, "security", v);
        text(o, "x-scope", scope_name(r->scope));
    }
    return o;
}

static void put_route(struct json_object *paths, const struct route *r)
{
    char method[16];
    size_t n = strlen(r->method);
    struct json_object *path = js_get(paths, r->path);
    for (size_t i = 0; i <= n && i < sizeof method; i++)
        method[i] =
            (char)(r->method[i] >= 'A' && r->method[i] <= 'Z' ? r->method[i] + 32 : r->method[i]);
    if (!path) {
        path = object();
        js_put_new(paths, r->path, path);
    }
    js_put_new(path, method, operation(r));
}

static struct json_object *components(void)
{
    struct json_object *o = object(), *all = object(), *security = object(), *bearer = object();
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        js_put_new(all, schemas[i].name, parsed(schemas[i].schema));
    js_put_new(o, "schemas", all);
    text(bearer, "type", "http");
    text(bearer, "scheme", "bearer");
    text(bearer, "description", "a key of `tidemark keys create`");
    js_put_new(security, "bearer", bearer);
    js_put_new(o, "securitySchemes", security);
    return o;
}

int openapi_write(struct buf *b)
{
    struct json_object *o = object(), *info = object(), *paths = object();
    text(o, "openapi", "3.1.0");
    text(info, "title", "tidemark");
    text(info, "version", TIDEMARK_VERSION);
    text(info, "description",
         "Hand work over to agents, look at it, wait for it, stream it, steer it. See "
         "docs/http.md.");
    js_put_new(o, "info", info);
    for (const struct route *const *t = route_tables; *t; t++)
        for (const struct route *r = *t; r->method; r++)
            put_route(paths, r);
    js_put_new(o, "paths", paths);
    js_put_new(o, "components", components());
    int error = js_write_pretty(o, b);
    json_object_put(o);
    return error ? error : buf_addc(b, '\n');
}

static void get_openapi(struct call *c)
{
    static const struct http_field fields[] = {{"Content-Type", "application/json"}, {NULL, NULL}};
    struct buf b;
    buf_init(&b, 8u << 20);
    if (openapi_write(&b))
        api_later(c, 503, "try again", "no memory for the description");
    else
        http_answer(c->r, 200, fields, buf_slice(&b));
    buf_free(&b);
}

static const struct answer openapi_answers[] = {{200, "an OpenAPI 3.1 document",
                                                 "{\"type\":\"object\"}"},
                                                {0}};

const struct route routes_openapi[] = {
    {.method = "GET",
     .path = "/openapi.json",
     .scope = SCOPE_NONE,
     .fn = get_openapi,
     .id = "getDescription",
     .tag = "node",
     .summary = "This description",
     .answers = openapi_answers},
    {.method = NULL},
};
