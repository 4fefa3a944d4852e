/* Writing JSON from json-c trees: compact and for people. One thread owns a tree; the functions are
 * pure otherwise. Numbers: an integer stays one; a double has the fewest digits that read back as
 * the same double, in jq 1.6's form, but whole numbers below 1e17 without an exponent. What JSON
 * has no number for is written as jq does: NaN becomes null, an infinity the largest double. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/js.h"

#define PLAIN_MAX 1e17

/* The digits and the decimal point's place of |d|, d finite and not 0: 0.digits * 10^place. */
static int shortest(double d, char digits[20], int *ret_place)
{
    char text[40];
    /* A normal double needs 15 to 17 digits, or fewer that 15 show with zeros at the end. */
    for (int n = fabs(d) < DBL_MIN ? 1 : 15; n <= 17; n++) {
        (void)snprintf(text, sizeof text, "%.*e", n - 1, fabs(d));
        if (strtod(text, NULL) == fabs(d))
            break;
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    *ret_place = (int)strtol(p + 1, NULL, 10) + 1;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = 0;
    return n;
}

static int write_double(struct buf *b, double d)
{
    if (isnan(d))
        return buf_adds(b, "null");
    if (isinf(d))
        d = d < 0 ? -DBL_MAX : DBL_MAX;
    if (d == trunc(d) && fabs(d) < PLAIN_MAX && !(d == 0 && signbit(d)))
        return buf_addf(b, "%.0f", d);
    if (d == 0)
        return buf_adds(b, "-0");
    char v[20];
    int place, n = shortest(d, v, &place);
    if (d < 0)
        buf_addc(b, '-');
    if (place <= -4 || place > n + 15) {
        buf_addc(b, v[0]);
        if (n > 1)
            buf_addf(b, ".%s", v + 1);
        return buf_addf(b, "e%c%02d", place < 1 ? '-' : '+', abs(place - 1));
    }
    if (place <= 0)
        return buf_addf(b, "0.%.*s%s", -place, "0000", v);
    if (place >= n)
        return buf_addf(b, "%s%.*s", v, place - n, "0000000000000000");
    return buf_addf(b, "%.*s.%s", place, v, v + place);
}

static void line(struct buf *b, int depth, bool pretty)
{
    if (!pretty)
        return;
    buf_addc(b, '\n');
    for (int i = 0; i < depth; i++)
        buf_adds(b, "  ");
}

static int write_value(struct buf *b, struct json_object *o, int depth, bool pretty);

static int write_array(struct buf *b, struct json_object *o, int depth, bool pretty)
{
    size_t n = json_object_array_length(o);
    buf_addc(b, '[');
    for (size_t i = 0; i < n && !buf_error(b); i++) {
        if (i)
            buf_addc(b, ',');
        line(b, depth + 1, pretty);
        write_value(b, json_object_array_get_idx(o, i), depth + 1, pretty);
    }
    if (n)
        line(b, depth, pretty);
    return buf_addc(b, ']');
}

static int write_object(struct buf *b, struct json_object *o, int depth, bool pretty)
{
    bool first = true;
    buf_addc(b, '{');
    for (struct lh_entry *m = json_object_get_object(o)->head; m && !buf_error(b); m = m->next) {
        if (!first)
            buf_addc(b, ',');
        first = false;
        line(b, depth + 1, pretty);
        js_write_str(b, sl_str(lh_entry_k(m)));
        buf_adds(b, pretty ? ": " : ":");
        write_value(b, (struct json_object *)lh_entry_v(m), depth + 1, pretty);
    }
    if (!first)
        line(b, depth, pretty);
    return buf_addc(b, '}');
}

static int write_value(struct buf *b, struct json_object *o, int depth, bool pretty)
{
    enum json_type t = json_object_get_type(o);
    /* What is written must be readable again, and the recursion has to end. */
    if ((t == json_type_array || t == json_type_object) && depth >= JS_DEPTH_MAX) {
        if (!b->error)
            b->error = -E2BIG;
        return b->error;
    }
    switch (t) {
    case json_type_null:
        return buf_adds(b, "null");
    case json_type_boolean:
        return buf_adds(b, json_object_get_boolean(o) ? "true" : "false");
    case json_type_int:
        /* json-c keeps integers above 2^63-1 apart and shows them to get_int64 as 2^63-1. */
        if (json_object_get_uint64(o) > INT64_MAX)
            return write_double(b, (double)json_object_get_uint64(o));
        return buf_addf(b, "%lld", (long long)json_object_get_int64(o));
    case json_type_double:
        return write_double(b, json_object_get_double(o));
    case json_type_string:
        return js_write_str(b,
                            sl(json_object_get_string(o), (size_t)json_object_get_string_len(o)));
    case json_type_array:
        return write_array(b, o, depth, pretty);
    case json_type_object:
        return write_object(b, o, depth, pretty);
    }
    return buf_error(b);
}

int js_write(struct json_object *o, struct buf *b)
{
    return write_value(b, o, 0, false);
}

int js_write_pretty(struct json_object *o, struct buf *b)
{
    return write_value(b, o, 0, true);
}
