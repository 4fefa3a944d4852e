/* Places, problems and tables of properties for the parser (parse_int.h). Pure but for the list of
 * problems. */
#include <stdarg.h>
#include <stdio.h>

#include "flow/parse_int.h"

#define TEXT_MAX 512

struct ydoc_pos spot_pos(const struct parser *p, struct spot at)
{
    struct ydoc_pos pos = {0, 0};
    if (at.parent && (at.key || json_object_is_type(at.parent, json_type_array)))
        pos = ydoc_value_pos(p->y, at.parent, at.key, at.index);
    if (!pos.line && at.parent)
        pos = ydoc_node_pos(p->y, at.parent);
    return pos.line ? pos : (struct ydoc_pos){1, 1};
}

void parse_bad(struct parser *p, struct spot at, const char *hint, const char *fmt, ...)
{
    char text[TEXT_MAX];
    struct ydoc_pos pos = spot_pos(p, at);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diags_add(p->d, ydoc_name(p->y), pos.line, pos.col, hint, "%s", text);
}

void parse_warn(struct parser *p, struct spot at, const char *hint, const char *fmt, ...)
{
    char text[TEXT_MAX];
    struct ydoc_pos pos = spot_pos(p, at);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diags_warn(p->d, ydoc_name(p->y), pos.line, pos.col, hint, "%s", text);
}

void parse_bad_key(struct parser *p, struct json_object *o, const char *key, const char *hint,
                   const char *fmt, ...)
{
    char text[TEXT_MAX];
    struct ydoc_pos pos = ydoc_key_pos(p->y, o, key);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diags_add(p->d, ydoc_name(p->y), pos.line, pos.col, hint, "%s", text);
}

const char *parse_near(char *buf, size_t size, const char *word, const char *const *words,
                       const char *otherwise)
{
    const char *near = err_nearest(sl_str(word), words);
    if (near)
        (void)snprintf(buf, size, "did you mean %s?", near);
    else
        (void)snprintf(buf, size, "%s", otherwise);
    return buf;
}

const char *parse_near_member(char *buf, size_t size, const char *word, struct json_object *o,
                              const char *otherwise)
{
    const char *names[257];
    size_t n = 0;
    if (o) {
        json_object_object_foreach(o, name, v)
        {
            (void)v;
            if (n < 256)
                names[n++] = name;
        }
    }
    names[n] = NULL;
    return parse_near(buf, size, word, names, otherwise);
}

bool text_opens_expr(struct json_object *o)
{
    return json_object_is_type(o, json_type_string) &&
           sl_starts(sl_trim(sl(json_object_get_string(o), (size_t)json_object_get_string_len(o))),
                     SL("${"));
}

bool text_is_expr(struct json_object *o)
{
    return text_opens_expr(o) &&
           sl_ends(sl_trim(sl(json_object_get_string(o), (size_t)json_object_get_string_len(o))),
                   SL("}"));
}

/* What may stand there, in words. */
static const char *kinds(char *buf, size_t size, const struct prop *q)
{
    static const struct {
        uint32_t type;
        const char *word;
    } words[] = {{T_TEXT, "a text"},
                 {T_OBJ, "a mapping"},
                 {T_ARR, "a list"},
                 {T_NUM, "a number"},
                 {T_BOOL, "true or false"}};
    size_t n = 0;
    buf[0] = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!(q->types & words[i].type))
            continue;
        const char *word = words[i].type == T_NUM && !(q->types & 1u << json_type_double)
                               ? "a whole number"
                           : words[i].type == T_TEXT && q->flags & PROP_EXPR ? "an expression ${ }"
                                                                             : words[i].word;
        int w = snprintf(buf + n, size - n, "%s%s", n ? " or " : "", word);
        n += w < 0 || (size_t)w >= size - n ? 0 : (size_t)w;
    }
    return buf;
}

static const char *seen(struct json_object *v)
{
    switch (json_object_get_type(v)) {
    case json_type_null:
        return "empty";
    case json_type_string:
        return "a text";
    case json_type_object:
        return "a mapping";
    case json_type_array:
        return "a list";
    case json_type_boolean:
        return "true or false";
    default:
        return "a number";
    }
}

static bool fits(struct json_object *v, const struct prop *q)
{
    if (!(q->types & 1u << json_object_get_type(v)))
        return false;
    if (!json_object_is_type(v, json_type_string))
        return true;
    if (q->flags & PROP_EXPR && !text_is_expr(v))
        return false;
    if (!q->values)
        return true;
    for (size_t i = 0; q->values[i]; i++)
        if (!strcmp(q->values[i], json_object_get_string(v)))
            return true;
    return false;
}

static void tell_values(struct parser *p, struct spot at, struct json_object *v,
                        const struct prop *q)
{
    char list[200] = "", near[96], hint[320];
    size_t n = 0;
    for (size_t i = 0; q->values[i]; i++) {
        int w = snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", q->values[i]);
        n += w < 0 || (size_t)w >= sizeof list - n ? 0 : (size_t)w;
    }
    const char *word = json_object_get_string(v);
    parse_near(near, sizeof near, word, q->values, "");
    (void)snprintf(hint, sizeof hint, "one of %s%s%s", list, near[0] ? "; " : "", near);
    parse_bad(p, at, hint, "%s can't be \"%.100s\"", q->name, word);
}

static void check_value(struct parser *p, struct json_object *o, const struct prop *q,
                        struct json_object *v)
{
    char words[128];
    struct spot at = MEMBER(o, q->name);
    if (fits(v, q))
        return;
    if (json_object_is_type(v, json_type_string) && q->types & T_TEXT && q->values) {
        tell_values(p, at, v, q);
        return;
    }
    bool quote = q->types == T_TEXT && (T_NUM | T_BOOL) & 1u << json_object_get_type(v);
    const char *hint = quote     ? "put it into quotes"
                       : q->hint ? q->hint
                                 : "write a value of that kind, or leave the property out";
    parse_bad(p, at, hint, "%s must be %s, but is %s", q->name, kinds(words, sizeof words, q),
              seen(v));
}

static const struct prop *prop_find(const struct prop *table, const char *name)
{
    for (; table->name; table++)
        if (!strcmp(table->name, name))
            return table;
    return NULL;
}

static void tell_unknown(struct parser *p, struct json_object *o, const char *key,
                         const struct prop *table)
{
    const char *names[65];
    char hint[400], all[300] = "may stand here: ";
    size_t n = 0, at = strlen(all);
    if (!strncmp(key, "${", 2)) /* told by parse_find_traps */
        return;
    for (const struct prop *q = table; q->name && n < 64; q++) {
        if (q->flags & PROP_ELSEWHERE)
            continue;
        names[n++] = q->name;
        if (q->flags & PROP_LATER)
            continue;
        int w = snprintf(all + at, sizeof all - at, "%s%s", at > 16 ? ", " : "", q->name);
        at += w < 0 || (size_t)w >= sizeof all - at ? 0 : (size_t)w;
    }
    names[n] = NULL;
    parse_near(hint, sizeof hint, key, names, all);
    parse_bad_key(p, o, key, hint, "unknown property \"%.100s\"", key);
}

struct json_object *parse_object(struct parser *p, struct spot at, const char *what,
                                 const struct prop *table, const char *hint)
{
    struct json_object *o = at.key ? js_get(at.parent, at.key)
                            : json_object_is_type(at.parent, json_type_array)
                                ? json_object_array_get_idx(at.parent, at.index)
                                : at.parent;
    if (at.key && !json_object_object_get_ex(at.parent, at.key, NULL)) {
        parse_bad(p, at, hint, "%s is missing", what);
        return NULL;
    }
    if (!json_object_is_type(o, json_type_object)) {
        parse_bad(p, at, hint, "%s must be a mapping, but is %s", what, seen(o));
        return NULL;
    }
    json_object_object_foreach(o, key, v)
    {
        const struct prop *q = prop_find(table, key);
        if (!q)
            tell_unknown(p, o, key, table);
        else if (q->flags & PROP_ELSEWHERE)
            parse_bad_key(p, o, key, q->hint, "%s has no meaning here", key);
        else if (q->flags & PROP_LATER)
            parse_bad_key(p, o, key, q->hint ? q->hint : FLOW_LATER_HINT,
                          "%s is not supported yet by this version", key);
        else
            check_value(p, o, q, v);
    }
    for (const struct prop *q = table; q->name; q++)
        if (q->flags & PROP_NEED && !json_object_object_get_ex(o, q->name, NULL))
            parse_bad(p, at, q->hint ? q->hint : hint, "%s is missing in %s", q->name, what);
    return o;
}

struct json_object *prop_get(struct json_object *o, const struct prop *table, const char *name)
{
    const struct prop *q = prop_find(table, name);
    struct json_object *v = js_get(o, name);
    return q && !(q->flags & (PROP_LATER | PROP_ELSEWHERE)) && fits(v, q) ? v : NULL;
}

const char *prop_text(struct json_object *o, const struct prop *table, const char *name)
{
    struct json_object *v = prop_get(o, table, name);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

int prop_choice(struct json_object *o, const struct prop *table, const char *name, int otherwise)
{
    const struct prop *q = prop_find(table, name);
    const char *s = prop_text(o, table, name);
    for (int i = 0; s && q->values && q->values[i]; i++)
        if (!strcmp(q->values[i], s))
            return i;
    return otherwise;
}
