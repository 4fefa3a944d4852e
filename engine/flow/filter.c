/* Event filters (flow.h; DSL reference, "Event filter"). What an attribute says:
 * - a text is a literal; with characters that mean something in a regular expression (the point
 * alone does not) it matches as one too, POSIX extended, the whole value;
 * - ${ } is an expression over the envelope, for `data` over the data, whose truth counts; always
 * strict;
 * - `data` may be any value, which the data must equal.
 * Reading is part of the parser; matching is pure. */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "flow/parse_int.h"

#define FILTER_EXAMPLE   "{with: {type: com.example.made}}"
#define REGEX_TEXT_MAX   1024
#define REGEX_REPEAT_MAX 100
#define REGEX_COPIES_MAX 1000000 /* of characters, as if all repetitions were inside each other */
#define REGEX_VALUE_MAX  4096    /* longer values match literals only */
#define FILTER_ATTRS_MAX 64

static const struct prop filter_props[] = {{"with", T_OBJ, PROP_NEED, NULL,
                                            "with: {type: com.example.made}"},
                                           {"correlate", T_ANY, PROP_LATER},
                                           {0}};

/* Repetition of repetition makes regcomp take gigabytes: it copies what a {m,n} repeats, and once
 * more what a + repeats, so that a++++ is sixteen copies. Back-references make regexec take for
 * ever. */
static bool costly(const char *s)
{
    int braces = 0;
    size_t copies = strlen(s);
    for (; *s; s++) {
        if (*s == '\\' && s[1] >= '1' && s[1] <= '9')
            return true;
        if (*s == '\\' && s[1])
            s++;
        else if (*s == '{') {
            char *end;
            if (++braces > 1 || strtol(s + 1, &end, 10) > REGEX_REPEAT_MAX ||
                (*end == ',' && strtol(end + 1, NULL, 10) > REGEX_REPEAT_MAX))
                return true;
            copies *= REGEX_REPEAT_MAX;
        } else if (*s == '+') {
            copies *= 2;
        }
        if (copies > REGEX_COPIES_MAX)
            return true;
    }
    return false;
}

static void set_regex(struct parser *p, struct spot at, struct filter_attr *a, const char *s)
{
    static const char *const hint = "POSIX extended syntax; it must match the whole value";
    char text[REGEX_TEXT_MAX + 8], why[200];
    regex_t *re;
    if (!strpbrk(s, "^$*+?()[]{}|\\"))
        return;
    if (strlen(s) > REGEX_TEXT_MAX || costly(s)) {
        parse_bad(p, at,
                  "at most 1024 bytes, one {m,n} up to 100, few +, no back-references; or an "
                  "expression ${ }",
                  "the regular expression is too costly");
        return;
    }
    if (!(re = malloc(sizeof *re))) {
        parse_bad(p, at, "give the process more memory", "no memory for a filter");
        return;
    }
    (void)snprintf(text, sizeof text, "^(%s)$", s);
    int error = regcomp(re, text, REG_EXTENDED | REG_NOSUB);
    if (error) {
        (void)regerror(error, re, why, sizeof why);
        free(re);
        parse_bad(p, at, hint, "not a regular expression: %s", why);
        return;
    }
    a->kind = MATCH_REGEX;
    a->regex = re;
}

static bool holds_expr(struct json_object *v)
{
    if (json_object_is_type(v, json_type_string))
        return text_is_expr(v);
    if (json_object_is_type(v, json_type_array))
        for (size_t i = 0; i < json_object_array_length(v); i++)
            if (holds_expr(json_object_array_get_idx(v, i)))
                return true;
    if (json_object_is_type(v, json_type_object)) {
        json_object_object_foreach(v, key, member)
        {
            (void)key;
            if (holds_expr(member))
                return true;
        }
    }
    return false;
}

static void read_data(struct parser *p, struct spot at, struct json_object *v)
{
    if (!json_object_is_type(v, json_type_string) && holds_expr(v))
        parse_bad(p, at, "one expression over the data: data: ${ .status == \"open\" }",
                  "an expression can't stand inside a value that data must equal");
    else if (json_object_is_type(v, json_type_string) && json_object_get_string(v)[0] == '.')
        parse_warn(p, at, "if an expression is meant, write ${ } around it",
                   "data must equal this text");
}

static void read_attr(struct parser *p, struct spot at, struct filter_attr *a)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    struct json_object *v = a->literal;
    bool data = !strcmp(a->name, "data");
    if (!*a->name || strspn(a->name, chars) != strlen(a->name)) {
        parse_bad_key(p, at.parent, a->name, "lower-case letters and digits (CloudEvents 1.0)",
                      "\"%.100s\" can't be the name of an attribute", a->name);
    } else if (text_is_expr(v)) {
        a->kind = MATCH_EXPR;
        a->expr = parse_tmpl(p, at, TMPL_STRICT, V(EVENT));
    } else if (data) {
        read_data(p, at, v);
    } else if (!((T_TEXT | T_INT | T_BOOL) & 1u << json_object_get_type(v))) {
        parse_bad(p, at, "a text, a regular expression or ${ }", "the attribute %s must be a text",
                  a->name);
    } else if (text_opens_expr(v)) {
        parse_bad(p, at, "an expression begins with ${ and ends with }",
                  "this begins like an expression but is none");
    } else if (json_object_is_type(v, json_type_string)) {
        set_regex(p, at, a, json_object_get_string(v));
    }
}

bool parse_filter(struct parser *p, struct spot at, struct filter *f)
{
    size_t before = p->d->errors;
    struct json_object *o = parse_object(p, at, "an event filter", filter_props, FILTER_EXAMPLE),
                       *with = prop_get(o, filter_props, "with");
    *f = (struct filter){0};
    if (!with)
        return false;
    size_t n = (size_t)json_object_object_length(with);
    if (!n || n > FILTER_ATTRS_MAX) {
        parse_bad(p, MEMBER(o, "with"), FILTER_EXAMPLE, "an event filter names 1 to %d attributes",
                  FILTER_ATTRS_MAX);
        return false;
    }
    if (!(f->v = calloc(n, sizeof *f->v))) {
        parse_bad(p, MEMBER(o, "with"), "give the process more memory", "no memory for a filter");
        return false;
    }
    json_object_object_foreach(with, name, v)
    {
        struct filter_attr *a = &f->v[f->n++];
        *a = (struct filter_attr){.name = name, .kind = MATCH_LITERAL, .literal = v};
        read_attr(p, MEMBER(with, name), a);
        if (!strcmp(name, "type") && a->kind == MATCH_LITERAL &&
            json_object_is_type(v, json_type_string))
            f->type = json_object_get_string(v);
    }
    return p->d->errors == before;
}

struct filter *filter_parse(const struct ydoc *y, struct json_object *o, struct diags *d)
{
    struct parser p = {.y = y, .d = d, .mode = TMPL_STRICT};
    struct filter *f = calloc(1, sizeof *f);
    if (!f)
        diags_add(d, ydoc_name(y), 0, 0, "give the process more memory", "no memory for a filter");
    else if (!parse_filter(&p, (struct spot){o, NULL, 0}, f))
        f = filter_free(f, 1);
    return f;
}

struct filter *filter_free(struct filter *f, size_t n)
{
    for (size_t i = 0; f && i < n; i++) {
        for (size_t k = 0; k < f[i].n; k++) {
            tmpl_free(f[i].v[k].expr);
            if (f[i].v[k].regex)
                regfree(f[i].v[k].regex);
            free(f[i].v[k].regex);
        }
        free(f[i].v);
    }
    free(f);
    return NULL;
}

/* In binary mode every attribute is text, so 5 and "5" are one value. */
static bool same(const struct filter_attr *a, struct json_object *v)
{
    if (js_equal(v, a->literal))
        return true;
    return strcmp(a->name, "data") && v && a->literal &&
           !strcmp(json_object_get_string(v), json_object_get_string(a->literal));
}

static bool match_plain(const struct filter_attr *a, struct json_object *ev)
{
    struct json_object *v = js_get(ev, a->name);
    if (!json_object_object_get_ex(ev, a->name, NULL))
        return false;
    if (same(a, v))
        return true;
    return a->kind == MATCH_REGEX && json_object_is_type(v, json_type_string) &&
           json_object_get_string_len(v) <= REGEX_VALUE_MAX &&
           regexec(a->regex, json_object_get_string(v), 0, NULL, 0) == 0;
}

static int match_expr(const struct filter_attr *a, struct json_object *ev, struct err *e)
{
    struct expr_args args = {.present = V(EVENT)};
    struct json_object *r = NULL;
    args.var[VAR_EVENT] = ev;
    if (!tmpl_is_inline(a->expr))
        return -EINPROGRESS;
    int error =
        tmpl_eval_inline(a->expr, !strcmp(a->name, "data") ? js_get(ev, "data") : ev, &args, &r, e);
    if (error)
        return error;
    bool yes = js_truthy(r);
    json_object_put(r);
    return yes;
}

int filter_match(const struct filter *f, struct json_object *ev, struct err *e)
{
    bool pending = false;
    if (f->type) {
        const char *type = js_str(ev, "type");
        if (!type || strcmp(type, f->type))
            return 0;
    }
    for (size_t i = 0; i < f->n; i++)
        if (f->v[i].kind != MATCH_EXPR && !match_plain(&f->v[i], ev))
            return 0;
    for (size_t i = 0; i < f->n; i++) {
        int r = f->v[i].kind == MATCH_EXPR ? match_expr(&f->v[i], ev, e) : 1;
        if (r == -EINPROGRESS)
            pending = true;
        else if (r <= 0)
            return r;
    }
    return pending ? -EINPROGRESS : 1;
}
