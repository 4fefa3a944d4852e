/* The DSL's schema object (DSL reference, "Schema"): {format, document} or {format, resource}. A
 * resource is a file beside the definition, which is put in its place before the definition is
 * parsed; what stands in it is schema.c's. */
#include "flow/parse_int.h"
#include "flow/schema.h"

#define EXAMPLE       "schema: {document: {type: object, required: [id]}}"
#define RESOURCE_HINT "resource: {endpoint: schemas/order.yaml}"

static const struct prop schema_props[] = {{"format", T_TEXT, 0, NULL, "format: json"},
                                           {"document", T_OBJ | T_BOOL, 0, NULL,
                                            "document: {type: object}"},
                                           {"resource", T_OBJ, 0, NULL, RESOURCE_HINT},
                                           {0}};
static const struct prop resource_props[] = {
    {"name", T_TEXT}, {"endpoint", T_TEXT | T_OBJ, PROP_NEED, NULL, RESOURCE_HINT}, {0}};
static const struct prop endpoint_props[] = {{"uri", T_TEXT, PROP_NEED, NULL, RESOURCE_HINT},
                                             {"authentication", T_ANY, PROP_LATER, NULL,
                                              "a schema is a file, which needs none"},
                                             {0}};

static bool is_json(const char *format)
{
    static const char *const versions[] = {"draft-07", "draft7", "7", "2019-09", "2020-12"};
    if (!strcmp(format, "json"))
        return true;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (!strncmp(format, "json:", 5) && !strcmp(format + 5, versions[i]))
            return true;
    return false;
}

/* The schema object of o's `what`, checked; NULL when there is none or it is wrong. */
static struct json_object *schema_of(struct parser *p, struct json_object *o, const char *what)
{
    struct json_object *shape = js_get(o, what), *schema;
    if (!json_object_is_type(shape, json_type_object) || /* told by parse_shape */
        !json_object_object_get_ex(shape, "schema", NULL) ||
        !(schema = parse_object(p, MEMBER(shape, "schema"), "schema", schema_props, EXAMPLE)))
        return NULL;
    const char *format = prop_text(schema, schema_props, "format");
    bool document = json_object_object_get_ex(schema, "document", NULL),
         resource = json_object_object_get_ex(schema, "resource", NULL);
    if (format && !is_json(format))
        parse_bad(p, MEMBER(schema, "format"), "format: json, or leave it out",
                  "schemas of the format \"%.100s\" are not supported", format);
    else if (document == resource)
        parse_bad(p, MEMBER(shape, "schema"), EXAMPLE,
                  "a schema has either a document or a resource");
    else
        return schema;
    return NULL;
}

struct tmpl *parse_schema(struct parser *p, struct json_object *o, const char *what)
{
    struct json_object *schema = schema_of(p, o, what);
    if (!schema)
        return NULL;
    if (!json_object_object_get_ex(schema, "resource", NULL))
        return prop_get(schema, schema_props, "document")
                   ? schema_compile(p->y, schema, "document", p->deep, p->d)
                   : NULL;
    parse_bad_key(p, schema, "resource", "`tidemark agents apply` puts the file in its place",
                  "the schema is in a file that was not read");
    return NULL;
}

/* ---- resources ---- */

struct embedding {
    struct parser p;
    struct json_object *(*read)(void *arg, const char *path, struct diags *d);
    void *arg;
    struct json_object *kept;
};

/* The path that a resource names, NULL with the problem told. */
static const char *path_of(struct parser *p, struct json_object *resource)
{
    struct json_object *endpoint = prop_get(resource, resource_props, "endpoint");
    struct spot at = MEMBER(resource, "endpoint");
    if (json_object_is_type(endpoint, json_type_object)) {
        if (!(endpoint = parse_object(p, at, "endpoint", endpoint_props, RESOURCE_HINT)))
            return NULL;
        at = MEMBER(endpoint, "uri");
        endpoint = prop_get(endpoint, endpoint_props, "uri");
    }
    if (!endpoint)
        return NULL;
    const char *s = json_object_get_string(endpoint);
    if (!strncmp(s, "file:///", 8))
        return s + 7;
    if (text_opens_expr(endpoint) || strchr(s, '{'))
        parse_bad(p, at, RESOURCE_HINT, "the place of a schema can't be an expression");
    else if (strstr(s, "://"))
        parse_bad(p, at, "keep it as a file beside the definition: " RESOURCE_HINT,
                  "schemas are not fetched from the network");
    else if (!*s)
        parse_bad(p, at, RESOURCE_HINT, "the path is empty");
    else
        return s;
    return NULL;
}

static void embed(struct embedding *e, struct json_object *o, const char *what)
{
    struct json_object *shape = js_get(o, what), *schema = js_get(shape, "schema"),
                       *resource = js_get(schema, "resource"), *document;
    if (!json_object_is_type(resource, json_type_object) ||
        json_object_object_get_ex(schema, "document", NULL) ||
        !parse_object(&e->p, MEMBER(schema, "resource"), "resource", resource_props, RESOURCE_HINT))
        return;
    const char *path = path_of(&e->p, resource);
    document = path ? e->read(e->arg, path, e->p.d) : NULL;
    /* Kept, since places are found by the addresses of what they belong to. What is wrong was told:
     * `true` stands for it, so that it is not told again. */
    json_object_array_add(e->kept, json_object_get(resource));
    json_object_object_del(schema, "resource");
    json_object_object_add(schema, "document", document ? document : json_object_new_boolean(true));
}

static void embed_all(struct embedding *e, struct json_object *o);

static void embed_list(struct embedding *e, struct json_object *list)
{
    if (!json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        if (!json_object_is_type(item, json_type_object))
            continue;
        json_object_object_foreach(item, name, task)
        {
            (void)name;
            embed_all(e, task);
        }
    }
}

/* A task, a function, or the definition. */
static void embed_all(struct embedding *e, struct json_object *o)
{
    static const char *const shapes[] = {"input", "output", "export"};
    for (size_t i = 0; i < 3; i++)
        embed(e, o, shapes[i]);
    embed_list(e, js_get(o, "do"));
    embed_list(e, js_get(o, "try"));
    embed_list(e, js_get(js_get(o, "catch"), "do"));
    embed_list(e, js_get(js_get(o, "fork"), "branches"));
}

void flow_embed_schemas(const struct ydoc *y,
                        struct json_object *(*read)(void *arg, const char *path, struct diags *d),
                        void *arg, struct json_object *kept, struct diags *d)
{
    struct embedding e = {.p = {.y = y, .d = d}, .read = read, .arg = arg, .kept = kept};
    struct json_object *root = ydoc_root(y), *functions = js_get(js_get(root, "use"), "functions");
    embed_all(&e, root);
    if (!json_object_is_type(functions, json_type_object))
        return;
    json_object_object_foreach(functions, name, fn)
    {
        (void)name;
        embed_all(&e, fn);
    }
}
