/* Durations (flow.h): the DSL's object of whole numbers, or ISO 8601 text (DSL reference,
 * "Duration"). Pure. A departure from the specification: years and months are refused, because
 * their length needs a calendar, and so is a negative sum, because nothing can be waited for
 * backwards. */
#include <errno.h>
#include <stdio.h>

#include "flow/flow.h"

#define DURATION_MAX_MS (1000LL * 366 * 86400000) /* a thousand years */
#define DIGITS_MAX      15

static const struct {
    const char *name;
    int64_t ms;
} units[] = {{"days", 86400000},
             {"hours", 3600000},
             {"minutes", 60000},
             {"seconds", 1000},
             {"milliseconds", 1}};
#define UNITS (sizeof units / sizeof *units)

static int too_long(struct err *e)
{
    return err_set(e, -EINVAL, "at most a thousand years", "the duration is too long");
}

static int read_object(struct json_object *o, int64_t *ret, struct err *e)
{
    static const char *const names[] = {"days",    "hours",        "minutes",
                                        "seconds", "milliseconds", NULL};
    int64_t sum = 0, part;
    if (!json_object_object_length(o))
        return err_set(e, -EINVAL, "for example {seconds: 5}", "the duration is empty");
    json_object_object_foreach(o, key, v)
    {
        size_t u = 0;
        while (u < UNITS && strcmp(units[u].name, key))
            u++;
        if (u == UNITS) {
            const char *near = err_nearest(sl_str(key), names);
            char hint[64];
            (void)snprintf(hint, sizeof hint, "did you mean %s?", near ? near : "");
            return err_set(e, -EINVAL, near ? hint : "days, hours, minutes, seconds, milliseconds",
                           "\"%.64s\" is not a unit of a duration", key);
        }
        if (!json_object_is_type(v, json_type_int))
            return err_set(e, -EINVAL, "use a smaller unit for fractions",
                           "%s must be a whole number", key);
        if (__builtin_mul_overflow(json_object_get_int64(v), units[u].ms, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            return too_long(e);
    }
    if (sum < 0)
        return err_set(e, -EINVAL, "zero or more", "the duration is negative");
    if (sum > DURATION_MAX_MS)
        return too_long(e);
    *ret = sum;
    return 0;
}

struct designator {
    char c;
    bool time;
    int64_t ms; /* 0: needs a calendar */
};
/* In the order in which they may stand, each at most once. */
static const struct designator designators[] = {{'Y', false, 0},         {'M', false, 0},
                                                {'W', false, 604800000}, {'D', false, 86400000},
                                                {'H', true, 3600000},    {'M', true, 60000},
                                                {'S', true, 1000}};
#define DESIGNATORS (sizeof designators / sizeof *designators)

/* digits [. digits]; false: none, or too many. */
static bool number(const char **s, double *ret)
{
    double v = 0, scale = 1;
    size_t n = strspn(*s, "0123456789");
    if (!n || n > DIGITS_MAX)
        return false;
    for (; n; n--)
        v = v * 10 + (*(*s)++ - '0');
    if (**s == '.') {
        (*s)++;
        n = strspn(*s, "0123456789");
        if (!n || n > DIGITS_MAX)
            return false;
        for (; n; n--)
            v += (*(*s)++ - '0') * (scale /= 10);
    }
    *ret = v;
    return true;
}

static int not_iso(const char *s, struct err *e)
{
    return err_set(e, -EINVAL, "as in PT30S, PT1H30M or P2D, in capital letters",
                   "\"%.64s\" is not an ISO 8601 duration", s);
}

static int read_text(const char *text, int64_t *ret, struct err *e)
{
    const char *s = text;
    double sum = 0, v;
    bool time = false, calendar = false;
    size_t next = 0;
    if (*s++ != 'P' || !*s)
        return not_iso(text, e);
    while (*s) {
        if (*s == 'T' && !time) {
            time = true;
            s++;
        }
        if (!number(&s, &v))
            return not_iso(text, e);
        while (next < DESIGNATORS && (designators[next].c != *s || designators[next].time != time))
            next++;
        if (next == DESIGNATORS)
            return not_iso(text, e);
        calendar = calendar || !designators[next].ms;
        sum += v * (double)designators[next++].ms;
        s++;
    }
    if (calendar)
        return err_set(e, -EINVAL, "use weeks or days: the length of a month depends on a calendar",
                       "years and months are not supported in \"%.64s\"", text);
    if (sum > (double)DURATION_MAX_MS)
        return too_long(e);
    *ret = (int64_t)(sum + 0.5);
    return 0;
}

int duration_read(struct json_object *o, int64_t *ret, struct err *e)
{
    if (json_object_is_type(o, json_type_object))
        return read_object(o, ret, e);
    if (json_object_is_type(o, json_type_string) &&
        strlen(json_object_get_string(o)) == (size_t)json_object_get_string_len(o))
        return read_text(json_object_get_string(o), ret, e);
    return err_set(e, -EINVAL, "as in PT30S or {seconds: 30}",
                   "a duration must be a text or a mapping, not %s", js_kind(o));
}
