/* Finding members in JSON text that is known to be valid, without a tree. Thread-safe: pure
 * functions. Input that is not valid ends the walk; it never leads outside the text. */
#include "base/js_int.h"

static size_t blanks(struct slice d, size_t i)
{
    while (i < d.n && (d.p[i] == ' ' || d.p[i] == '\n' || d.p[i] == '\r' || d.p[i] == '\t'))
        i++;
    return i;
}

/* Behind the string whose quote is at i; d.n when it does not end. */
static size_t string_end(struct slice d, size_t i)
{
    for (i++; i < d.n; i++) {
        if (d.p[i] == '\\')
            i++;
        else if (d.p[i] == '"')
            return i + 1;
    }
    return d.n;
}

/* Behind the value that begins at i. Brackets are only counted: that they match is known. */
static size_t value_end(struct slice d, size_t i)
{
    size_t depth = 0;
    while (i < d.n) {
        char c = d.p[i];
        if (c == '"') {
            i = string_end(d, i);
        } else if (c == '{' || c == '[') {
            depth++;
            i++;
            continue;
        } else if (c == '}' || c == ']') {
            if (!depth)
                return i;
            depth--;
            i++;
        } else if (depth) {
            i++;
            continue;
        } else {
            while (i < d.n && !strchr(",]} \t\r\n", d.p[i]))
                i++;
            return i;
        }
        if (!depth)
            return i;
    }
    return d.n;
}

/* The first place after `open` or, later, after a comma; false at the end. */
static bool enter(struct slice d, size_t *pos, char open)
{
    size_t i = blanks(d, *pos);
    if (i >= d.n || d.p[i] != (*pos ? ',' : open))
        return false;
    bool first = *pos == 0;
    i = blanks(d, i + 1);
    if (i >= d.n || (first && (d.p[i] == '}' || d.p[i] == ']')))
        return false;
    *pos = i;
    return true;
}

bool js_next(struct slice doc, size_t *pos, struct slice *ret_key, struct slice *ret_value)
{
    size_t i = *pos;
    if (!enter(doc, &i, '{') || doc.p[i] != '"')
        return false;
    size_t end = string_end(doc, i);
    if (end - i < 2)
        return false;
    struct slice key = sl(doc.p + i + 1, end - i - 2);
    i = blanks(doc, end);
    if (i >= doc.n || doc.p[i] != ':')
        return false;
    i = blanks(doc, i + 1);
    end = value_end(doc, i);
    if (end == i)
        return false;
    *ret_key = key;
    *ret_value = sl(doc.p + i, end - i);
    *pos = end;
    return true;
}

bool js_next_item(struct slice doc, size_t *pos, struct slice *ret_value)
{
    size_t i = *pos;
    if (!enter(doc, &i, '['))
        return false;
    size_t end = value_end(doc, i);
    if (end == i)
        return false;
    *ret_value = sl(doc.p + i, end - i);
    *pos = end;
    return true;
}

/* The name may be written with escapes. */
static bool same_name(struct slice raw, const char *key)
{
    if (sl_find(raw, '\\') < 0)
        return sl_is(raw, key);
    struct buf room;
    buf_init(&room, raw.n);
    struct slice name;
    const char *next, *bad, *hint;
    bool same = js_string(raw.p - 1, raw.p + raw.n + 1, &room, &name, &next, &bad, &hint) == 0 &&
                sl_is(name, key);
    buf_free(&room);
    return same;
}

bool js_member(struct slice doc, const char *key, struct slice *ret_value)
{
    size_t pos = 0;
    struct slice k, v;
    while (js_next(doc, &pos, &k, &v))
        if (same_name(k, key)) {
            *ret_value = v;
            return true;
        }
    return false;
}
