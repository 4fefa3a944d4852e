/* The table of fields as JSON Schemas (draft 7): schemas/tidemark.json and schemas/topic.json are
 * what this writes. A range of durations is not expressible there and stands in the description.
 * Failed allocations of json-c show as a text that does not compare equal; only tests call this. */
#include <stdio.h>

#include "base/js.h"
#include "config/config_int.h"

static struct json_object *text(const char *s)
{
    return json_object_new_string(s);
}

static void put(struct json_object *o, const char *key, struct json_object *v)
{
    json_object_object_add(o, key, v);
}

/* {"type": [...]}: any scalar where the program takes its text. */
static struct json_object *scalar(void)
{
    struct json_object *o = json_object_new_object(), *v = json_object_new_array();
    json_object_array_add(v, text("string"));
    json_object_array_add(v, text("number"));
    json_object_array_add(v, text("boolean"));
    put(o, "type", v);
    return o;
}

static struct json_object *map_of(void)
{
    struct json_object *o = json_object_new_object();
    put(o, "type", text("object"));
    put(o, "properties", json_object_new_object());
    put(o, "additionalProperties", json_object_new_boolean(false));
    return o;
}

static struct json_object *words_of(const struct field *f)
{
    static const char *const from[] = {"earliest", "latest", NULL};
    struct json_object *o = json_object_new_object(), *v = json_object_new_array();
    for (const char *const *w = f->kind == FIELD_FROM ? from : f->words; *w; w++)
        json_object_array_add(v, text(*w));
    put(o, "enum", v);
    return o;
}

static struct json_object *types_of(const struct field *f)
{
    struct json_object *o = json_object_new_object(), *item = json_object_new_object();
    put(o, "type", text("array"));
    put(o, "minItems", json_object_new_int(1));
    put(o, "maxItems", json_object_new_int64(f->max));
    put(item, "type", text("string"));
    put(item, "minLength", json_object_new_int(1));
    if (f->kind == FIELD_ORIGINS)
        put(item, "pattern", text("^https?://[a-z0-9._\\[\\]:-]+$"));
    put(o, "items", item);
    return o;
}

static struct json_object *number_of(const struct field *f)
{
    struct json_object *o = json_object_new_object();
    put(o, "type", text("integer"));
    put(o, "minimum", json_object_new_int64(f->min));
    put(o, "maximum", json_object_new_int64(f->max));
    return o;
}

static struct json_object *settings_of(const struct field *f)
{
    struct json_object *o = json_object_new_object();
    put(o, "type", text("object"));
    put(o, "maxProperties", json_object_new_int64(f->max));
    put(o, "additionalProperties", scalar());
    return o;
}

static struct json_object *document_of(const struct field *f)
{
    struct json_object *o = json_object_new_object(), *v = json_object_new_array();
    json_object_array_add(v, text("string"));
    json_object_array_add(v, text("object"));
    put(o, "type", v);
    return o;
}

static struct json_object *text_of(const struct field *f)
{
    struct json_object *o = scalar();
    if (f->kind == FIELD_NAME)
        put(o, "pattern", text("^[A-Za-z0-9._-]+$"));
    put(o, "minLength", json_object_new_int64(f->min));
    put(o, "maxLength", json_object_new_int64(f->max));
    return o;
}

static struct json_object *duration_of(const struct field *f)
{
    struct json_object *o = json_object_new_object();
    put(o, "type", text("string"));
    put(o, "pattern", text(f->min < 0 ? "^([0-9]+(ms|s|m|h|d)|forever)$" : "^[0-9]+(ms|s|m|h|d)$"));
    return o;
}

static struct json_object *schema_of(const struct field *f)
{
    static struct json_object *(*const make[])(const struct field *) = {
        [FIELD_TEXT] = text_of,       [FIELD_NAME] = text_of,
        [FIELD_PATH] = text_of,       [FIELD_WORD] = words_of,
        [FIELD_INT] = number_of,      [FIELD_DURATION] = duration_of,
        [FIELD_FROM] = words_of,      [FIELD_TYPES] = types_of,
        [FIELD_ORIGINS] = types_of,   [FIELD_SETTINGS] = settings_of,
        [FIELD_SCHEMA] = document_of,
    };
    struct json_object *o = make[f->kind](f);
    put(o, "description", text(f->help));
    if (f->preset && f->kind == FIELD_INT)
        put(o, "default", json_tokener_parse(f->preset));
    else if (f->preset)
        put(o, "default", text(f->preset));
    return o;
}

/* Puts each field at its place: SECTION.PART.NAME below maps of the section and its part. */
static void put_fields(struct json_object *root, const struct field *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct json_object *at = js_get(root, "properties"), *section;
        const char *name = v[i].path, *dot;
        for (; (dot = strchr(name, '.')); name = dot + 1) {
            char part[64];
            (void)snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
            if (!(section = js_get(at, part)))
                put(at, part, section = map_of());
            at = js_get(section, "properties");
        }
        put(at, name, schema_of(&v[i]));
    }
}

static struct json_object *kafka_schema(void)
{
    struct json_object *o = json_object_new_object(), *props = json_object_new_object(),
                       *any = json_object_new_array(), *more = json_object_new_object(),
                       *secret = map_of(), *need = json_object_new_array();
    const char *name;
    for (size_t i = 0; (name = config_owned_name(i)); i++)
        put(props, name, json_object_new_boolean(false));
    json_object_array_add(need, text("secret"));
    put(secret, "required", need);
    struct json_object *named = json_object_new_object();
    put(named, "type", text("string"));
    put(js_get(secret, "properties"), "secret", named);
    json_object_array_add(any, scalar());
    json_object_array_add(any, secret);
    put(more, "anyOf", any);
    put(o, "description", text("librdkafka properties, but for those that tidemark sets itself."));
    put(o, "type", text("object"));
    put(o, "properties", props);
    put(o, "additionalProperties", more);
    return o;
}

static struct json_object *topic_schema(void)
{
    struct json_object *o = map_of(), *kinds = json_object_new_array();
    json_object_array_add(kinds, text("object"));
    json_object_array_add(kinds, text("null"));
    put(o, "type", kinds);
    put_fields(o, topic_fields, topic_nfields);
    return o;
}

static struct json_object *topics_schema(void)
{
    struct json_object *o = json_object_new_object(), *names = json_object_new_object();
    put(names, "pattern", text("^(?!tidemark\\.)[A-Za-z0-9._-]+$"));
    put(names, "maxLength", json_object_new_int(TOPIC_NAME_MAX));
    put(o, "type", text("object"));
    put(o, "maxProperties", json_object_new_int(CONFIG_TOPICS_MAX));
    put(o, "propertyNames", names);
    put(o, "additionalProperties", topic_schema());
    return o;
}

int config_schema_write(bool topic, struct buf *b)
{
    struct json_object *o = topic ? topic_schema() : map_of();
    put(o, "$schema", text("http://json-schema.org/draft-07/schema#"));
    put(o, "title", text(topic ? "topics/NAME.yaml" : "config/tidemark.yaml"));
    if (!topic) {
        put_fields(o, config_fields, config_nfields);
        put(js_get(o, "properties"), "kafka", kafka_schema());
        put(js_get(o, "properties"), "topics", topics_schema());
    }
    int error = js_write_pretty(o, b);
    json_object_put(o);
    buf_addc(b, '\n');
    return error ? error : buf_error(b);
}
