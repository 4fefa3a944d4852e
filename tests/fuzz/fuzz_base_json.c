/* Fuzz target of engine/base/js: any bytes. Rules: the check and the parser agree on what is JSON;
 * what was parsed can be written, and reads back as the same value; the scanners that build no tree
 * see the same members; json-c's own strict parser takes it too and finds the same value. */
#include "base/js.h"
#include "fuzz.h"

static void members(struct slice text, struct json_object *o)
{
    if (!json_object_is_type(o, json_type_object))
        return;
    struct slice key, value;
    size_t pos = 0;
    int n = 0;
    while (js_next(text, &pos, &key, &value)) {
        struct err e = {0};
        must(js_check(value, &e) == 0, "a member's text is JSON");
        n++;
    }
    must(n == json_object_object_length(o), "js_next meets every member");
}

static void items(struct slice text, struct json_object *o)
{
    if (!json_object_is_type(o, json_type_array))
        return;
    struct slice value;
    size_t pos = 0, n = 0;
    while (js_next_item(text, &pos, &value))
        n++;
    must(n == json_object_array_length(o), "js_next_item meets every element");
}

static void round_trip(struct json_object *o, size_t size)
{
    struct buf b;
    struct err e = {0};
    struct json_object *again = NULL;
    bool ok = false;
    buf_init(&b, 64 * size + 4096);
    must(js_write(o, &b) == 0, "what was parsed can be written");
    must(js_parse(buf_slice(&b), &again, &e) == 0, "what was written can be parsed");
    must(js_equal(o, again), "it reads back as the same value");
    struct json_object *copy = js_copy(o, &ok);
    must(ok && js_equal(o, copy), "a copy is equal");
    json_object_put(copy);
    json_object_put(again);
    buf_free(&b);
}

/* Beyond 64 bits json-c's integers end; here they go on as doubles. */
static bool has_long_number(struct slice text)
{
    size_t digits = 0;
    for (size_t i = 0; i < text.n && digits < 19; i++)
        digits = text.p[i] >= '0' && text.p[i] <= '9' ? digits + 1 : 0;
    return digits >= 19;
}

/* An escaped character whose low 16 bits are those of a surrogate, as U+1DA00: json-c 0.16 takes
 * the pair for halves and puts U+FFFD in its place. */
static bool has_odd_pair(struct slice text)
{
    for (size_t i = 0; i + 6 <= text.n; i++) {
        unsigned high = 0;
        char digits[5] = {0};
        if (text.p[i] != '\\' || text.p[i + 1] != 'u')
            continue;
        memcpy(digits, text.p + i + 2, 4);
        high = (unsigned)strtoul(digits, NULL, 16);
        if (high >= 0xD800 && high <= 0xDBFF && ((high & 0x3F) == 0x36 || (high & 0x3F) == 0x37))
            return true;
    }
    return false;
}

static void as_json_c(struct slice text, struct json_object *o)
{
    struct json_tokener *t = json_tokener_new_ex(JS_DEPTH_MAX + 1);
    must(t != NULL, "memory");
    json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *p = json_tokener_parse_ex(t, text.p, (int)text.n);
    if (json_tokener_get_error(t) == json_tokener_continue) /* a number may go on */
        p = json_tokener_parse_ex(t, "", 1);
    bool good = json_tokener_get_error(t) == json_tokener_success;
    must((good && js_equal(o, p)) || has_long_number(text) || has_odd_pair(text),
         "json-c reads the same value");
    json_object_put(p);
    json_tokener_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = sl(data, size);
    struct err e = {0}, e2 = {0};
    struct json_object *o = NULL;
    int parsed = js_parse(text, &o, &e), checked = js_check(text, &e2);
    must((parsed == 0) == (checked == 0), "js_parse and js_check agree");
    if (parsed == 0) {
        members(text, o);
        items(text, o);
        as_json_c(text, o);
        round_trip(o, size);
    }
    json_object_put(o);
    return 0;
}
