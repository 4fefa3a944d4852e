/* The keywords of JSON Schema: what each one may hold and what becomes of it (schema_int.h).
 * Draft 7: json-schema-validation, section 6; the newer ones: core and validation of 2020-12. Pure.
 */
#include <stdio.h>

#include "flow/schema_int.h"

#define NEWER_HINT                                                                                 \
    "it is of 2020-12: say $schema: https://json-schema.org/draft/2020-12/schema at the top"
#define NOT_JUDGED "it would not be judged: leave it out"

static bool count(struct schema_reader *r, struct spot at, struct json_object *v)
{
    if (json_object_get_int64(v) >= 0)
        return true;
    parse_bad(r->p, at, "a whole number from 0", "%s can't be negative", at.key);
    return false;
}

static bool divisor(struct schema_reader *r, struct spot at, struct json_object *v)
{
    if (json_object_get_double(v) > 0)
        return true;
    parse_bad(r->p, at, "such as 1, 10 or 0.01", "multipleOf must be above 0");
    return false;
}

static bool one_type(struct schema_reader *r, struct spot at, struct json_object *v)
{
    static const char *const types[] = {"array",  "boolean", "integer", "null",
                                        "number", "object",  "string",  NULL};
    char hint[160];
    const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
    for (size_t i = 0; types[i]; i++)
        if (!strcmp(s, types[i]))
            return true;
    parse_bad(r->p, at,
              parse_near(hint, sizeof hint, s, types,
                         "one of array, boolean, integer, null, number, object, string"),
              "\"%.100s\" is not a type", s);
    return false;
}

static bool type(struct schema_reader *r, struct spot at, struct json_object *v)
{
    if (!json_object_is_type(v, json_type_array))
        return one_type(r, at, v);
    bool ok = json_object_array_length(v) > 0;
    if (!ok)
        parse_bad(r->p, at, "type: [string, \"null\"]", "type is an empty list");
    for (size_t i = 0; i < json_object_array_length(v); i++)
        ok = one_type(r, ELEMENT(v, i), json_object_array_get_idx(v, i)) && ok;
    return ok;
}

static bool names(struct schema_reader *r, struct spot at, struct json_object *v)
{
    bool ok = true;
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        if (json_object_is_type(json_object_array_get_idx(v, i), json_type_string))
            continue;
        parse_bad(r->p, ELEMENT(v, i), "required: [id, total]", "%s is a list of property names",
                  at.key);
        ok = false;
    }
    return ok;
}

static bool names_by_name(struct schema_reader *r, struct spot at, struct json_object *v)
{
    bool ok = true;
    json_object_object_foreach(v, name, list)
    {
        if (json_object_is_type(list, json_type_array)) {
            ok = names(r, MEMBER(v, name), list) && ok;
            continue;
        }
        parse_bad(r->p, MEMBER(v, name), "{card: [address]}", "a list of property names is needed");
        ok = false;
    }
    return ok;
}

static bool values(struct schema_reader *r, struct spot at, struct json_object *v)
{
    if (json_object_array_length(v))
        return true;
    parse_bad(r->p, at, "enum: [red, green]", "enum is an empty list, which no value fits");
    return false;
}

static bool pattern(struct schema_reader *r, struct spot at, struct json_object *v)
{
    if (json_object_get_string_len(v) <= SCHEMA_PATTERN_MAX)
        return true;
    parse_bad(r->p, at, "use several patterns in allOf", "a pattern has at most %d bytes",
              SCHEMA_PATTERN_MAX);
    return false;
}

static bool patterns(struct schema_reader *r, struct spot at, struct json_object *v)
{
    json_object_object_foreach(v, name, unused)
    {
        (void)unused;
        if (strlen(name) <= SCHEMA_PATTERN_MAX)
            continue;
        parse_bad_key(r->p, v, name, "use several patterns", "a pattern has at most %d bytes",
                      SCHEMA_PATTERN_MAX);
        return false;
    }
    return true;
}

static bool format(struct schema_reader *r, struct spot at, struct json_object *v)
{
    char list[200] = "one of ", hint[320];
    const char *s = json_object_get_string(v);
    if (schema_format_known(s))
        return true;
    for (size_t i = 0, n = strlen(list); schema_formats[i]; i++) {
        int w = snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", schema_formats[i]);
        n += w < 0 || (size_t)w >= sizeof list - n ? 0 : (size_t)w;
    }
    parse_bad(r->p, at, parse_near(hint, sizeof hint, s, schema_formats, list),
              "the format \"%.100s\" is not supported", s);
    return false;
}

static bool at_root(struct schema_reader *r, struct spot at)
{
    if (at.parent == r->root)
        return true;
    parse_bad_key(r->p, at.parent, at.key, "it may stand at the top of the document only",
                  "%s inside a schema is not supported", at.key);
    return false;
}

static bool identity(struct schema_reader *r, struct spot at, struct json_object *v)
{
    return at_root(r, at);
}

static bool dialect(struct schema_reader *r, struct spot at, struct json_object *v)
{
    static const char *const known[] = {"draft-07", "draft-06",      "draft-04",
                                        "schema#",  "draft/2019-09", "draft/2020-12"};
    const char *s = json_object_get_string(v);
    if (!at_root(r, at))
        return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strstr(s, known[i]) && strstr(s, "json-schema.org"))
            return true;
    parse_bad(r->p, at, "$schema: http://json-schema.org/draft-07/schema#, or leave it out",
              "schemas of \"%.100s\" are not supported", s);
    return false;
}

#define SAME WORD_SAME
static const struct word words[] = {
    {"$schema", WORD_NOTE, T_TEXT, 0, NULL, dialect},
    {"$id", WORD_NOTE, T_TEXT, 0, NULL, identity},
    {"$ref", WORD_OWN, T_TEXT, 0, "$ref: '#/definitions/NAME'"},
    {"$comment", WORD_NOTE, T_TEXT},
    {"title", WORD_NOTE, T_TEXT},
    {"description", WORD_NOTE, T_TEXT},
    {"default", WORD_NOTE, T_ANY},
    {"examples", WORD_NOTE, T_ARR},
    {"readOnly", WORD_NOTE, T_BOOL},
    {"writeOnly", WORD_NOTE, T_BOOL},
    {"deprecated", WORD_NOTE, T_BOOL},
    {"type", WORD_LEAF, T_TEXT | T_ARR, 0, NULL, type},
    {"enum", WORD_KEEP, T_ARR, 0, NULL, values},
    {"const", WORD_KEEP, T_ANY},
    {"multipleOf", WORD_LEAF, T_NUM, 0, NULL, divisor},
    {"maximum", WORD_LEAF, T_NUM},
    {"minimum", WORD_LEAF, T_NUM},
    {"exclusiveMaximum", WORD_LEAF, T_NUM, 0, "a number: exclusiveMaximum: 100"},
    {"exclusiveMinimum", WORD_LEAF, T_NUM, 0, "a number: exclusiveMinimum: 0"},
    {"maxLength", WORD_LEAF, T_INT, 0, NULL, count},
    {"minLength", WORD_LEAF, T_INT, 0, NULL, count},
    {"pattern", WORD_LEAF, T_TEXT, 0, NULL, pattern},
    {"format", WORD_LEAF, T_TEXT, 0, NULL, format},
    {"uniqueItems", WORD_LEAF, T_BOOL},
    {"maxItems", WORD_KEEP, T_INT, 0, NULL, count},
    {"minItems", WORD_KEEP, T_INT, 0, NULL, count},
    {"maxProperties", WORD_KEEP, T_INT, 0, NULL, count},
    {"minProperties", WORD_KEEP, T_INT, 0, NULL, count},
    {"required", WORD_KEEP, T_ARR, 0, "a list: required: [id]", names},
    {"items", WORD_OWN, T_ANY},
    {"prefixItems", WORD_OWN, T_ARR, WORD_NEWER, "draft 7 writes items: [...]"},
    {"additionalItems", WORD_ONE, T_ANY, WORD_OLDER, "2020-12 writes prefixItems and items"},
    {"contains", WORD_ONE, T_ANY},
    {"properties", WORD_MAP, T_OBJ},
    {"patternProperties", WORD_MAP, T_OBJ, 0, NULL, patterns},
    {"additionalProperties", WORD_ONE, T_ANY},
    {"propertyNames", WORD_OWN, T_ANY},
    {"dependencies", WORD_OWN, T_OBJ, WORD_OLDER,
     "2020-12 writes dependentRequired and dependentSchemas"},
    {"dependentRequired", WORD_OWN, T_OBJ, WORD_NEWER, "draft 7 writes dependencies",
     names_by_name},
    {"dependentSchemas", WORD_OWN, T_OBJ, WORD_NEWER, "draft 7 writes dependencies"},
    {"allOf", WORD_LIST, T_ARR, SAME},
    {"anyOf", WORD_LIST, T_ARR, SAME},
    {"oneOf", WORD_LIST, T_ARR, SAME},
    {"not", WORD_ONE, T_ANY, SAME},
    {"if", WORD_ONE, T_ANY, SAME},
    {"then", WORD_ONE, T_ANY, SAME},
    {"else", WORD_ONE, T_ANY, SAME},
    {"definitions", WORD_OWN, T_OBJ},
    {"$defs", WORD_OWN, T_OBJ},
    {"id", WORD_NO, T_ANY, 0, "write $id, at the top of the document"},
    {"$anchor", WORD_NO, T_ANY, 0, "refer by place: $ref: '#/$defs/NAME'"},
    {"$dynamicRef", WORD_NO, T_ANY, 0, "refer by place: $ref: '#/$defs/NAME'"},
    {"$dynamicAnchor", WORD_NO, T_ANY, 0, "refer by place: $ref: '#/$defs/NAME'"},
    {"$recursiveRef", WORD_NO, T_ANY, 0, "refer by place: $ref: '#'"},
    {"$recursiveAnchor", WORD_NO, T_ANY, 0, "refer by place: $ref: '#'"},
    {"$vocabulary", WORD_NO, T_ANY, 0, NOT_JUDGED},
    {"unevaluatedItems", WORD_NO, T_ANY, 0,
     "use additionalItems: false, or items after prefixItems"},
    {"unevaluatedProperties", WORD_NO, T_ANY, 0, "use additionalProperties"},
    {"maxContains", WORD_NO, T_ANY, 0, NOT_JUDGED},
    {"minContains", WORD_NO, T_ANY, 0, NOT_JUDGED},
    {"contentEncoding", WORD_NO, T_ANY, 0, NOT_JUDGED ", or write it into description"},
    {"contentMediaType", WORD_NO, T_ANY, 0, NOT_JUDGED ", or write it into description"},
    {"contentSchema", WORD_NO, T_ANY, 0, NOT_JUDGED},
    {"nullable", WORD_NO, T_ANY, 0, "it is of OpenAPI: write type: [string, \"null\"]"},
    {"discriminator", WORD_NO, T_ANY, 0, "it is of OpenAPI: use oneOf with const"},
    {"divisibleBy", WORD_NO, T_ANY, 0, "write multipleOf"},
    {0}};

const struct word *word_find(const char *name)
{
    for (const struct word *w = words; w->name; w++)
        if (!strcmp(w->name, name))
            return w;
    return NULL;
}

static void unknown(struct schema_reader *r, struct json_object *o, const char *key)
{
    const char *known[sizeof words / sizeof *words];
    char hint[160];
    size_t n = 0;
    for (const struct word *w = words; w->name; w++)
        if (w->kind != WORD_NO)
            known[n++] = w->name;
    known[n] = NULL;
    parse_bad_key(r->p, o, key,
                  parse_near(hint, sizeof hint, key, known,
                             "it would not be judged: leave it out, or begin its name with x-"),
                  "the keyword \"%.100s\" is not supported in schemas", key);
}

bool word_ok(struct schema_reader *r, struct json_object *o, const char *key)
{
    const struct word *w = word_find(key);
    struct json_object *v = js_get(o, key);
    if (!strncmp(key, "x-", 2) && strcmp(key, SCHEMA_LEAF))
        return true;
    if (!w) {
        unknown(r, o, key);
        return false;
    }
    bool age = (w->flags & WORD_NEWER && !r->newer) || (w->flags & WORD_OLDER && r->newer);
    if (w->kind == WORD_NO || age) {
        parse_bad_key(r->p, o, key, w->hint, "%s is not supported in %s", key,
                      !age       ? "schemas"
                      : r->newer ? "a schema of 2019-09 or 2020-12"
                                 : "a schema of draft 7, which this one is without $schema");
        return false;
    }
    struct prop table[] = {{w->name, w->types, 0, NULL, w->hint}, {0}};
    if (!prop_get(o, table, key) && w->types != T_ANY) {
        parse_bad(r->p, MEMBER(o, key), w->hint ? w->hint : "see JSON Schema, draft 7",
                  "%s can't be %s %s", key, strchr("aeiou", js_kind(v)[0]) ? "an" : "a",
                  js_kind(v));
        return false;
    }
    return !w->check || w->check(r, MEMBER(o, key), v);
}
