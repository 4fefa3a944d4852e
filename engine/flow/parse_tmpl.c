/* Expressions of a definition: each text that is one is compiled at its own place first, so that
 * every problem inside a value is told at its line and column; then the value is compiled as a
 * whole. Where which variable may be named: parse_int.h. Specification: "Runtime expression
 * arguments"; facts, parts b and m. */
#include <stdio.h>

#include "flow/evalpool.h"
#include "flow/parse_int.h"

#define PROGRAMS_MAX 4 /* one text holds one program */

static struct json_object *value_at(struct spot at)
{
    return at.key ? js_get(at.parent, at.key) : json_object_array_get_idx(at.parent, at.index);
}

static void tell(struct parser *p, struct spot at, const struct err *e)
{
    parse_bad(p, at,
              e->hint[0] ? e->hint
                         : "jq, as in ${ .name }: see https://jqlang.github.io/jq/manual/v1.6/",
              "%s", e->msg);
}

/* True when the value would compile if it might name the variable too. */
static bool only_lacks(const struct parser *p, struct json_object *v, enum tmpl_mode mode,
                       uint32_t vars, uint32_t variable)
{
    struct tmpl *t =
        vars & variable ? NULL : tmpl_compile(v, mode, vars | variable, p->locals, NULL, NULL);
    bool yes = t && tmpl_vars(t) & variable;
    tmpl_free(t);
    return yes;
}

/* A departure from the specification, for promise I9: a secret must not get into the journal, and
 * whatever becomes data or context does. */
static void tell_why(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars,
                     const struct err *e)
{
    struct json_object *v = value_at(at);
    if (only_lacks(p, v, mode, vars, V(SECRETS)))
        parse_bad(p, at, FLOW_SECRET_HINT, "$secrets can't be used here");
    else if (only_lacks(p, v, mode, vars, V(AUTHORIZATION)))
        parse_bad(p, at, FLOW_LATER_HINT, "$authorization is not supported yet by this version");
    else
        tell(p, at, e);
}

bool parse_names_secret(const struct parser *p, struct json_object *value)
{
    struct tmpl *t = tmpl_compile(value, p->mode, VARS_SECRET, p->locals, NULL, NULL);
    bool yes = t && tmpl_vars(t) & V(SECRETS);
    tmpl_free(t);
    return yes;
}

static bool check_text(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars)
{
    struct err e = {0};
    struct json_object *v = value_at(at);
    struct slice programs[PROGRAMS_MAX];
    struct tmpl *t = tmpl_compile(v, mode, vars, p->locals, NULL, &e);
    if (!t) {
        tell_why(p, at, mode, vars, &e);
        return false;
    }
    bool ok = true;
    if (tmpl_vars(t) & V(SECRETS) && (!p->secrets || !json_object_array_length(p->secrets))) {
        parse_bad(p, at,
                  "use: {secrets: [NAME]}, and its value in TIDEMARK_SECRET_NAME or secrets.dir",
                  "$secrets is used, but no secret is declared");
        ok = false;
    }
    size_t n = p->deep && mode != TMPL_LOOSE ? tmpl_programs(t, programs, PROGRAMS_MAX) : 0;
    for (size_t i = 0; i < n && i < PROGRAMS_MAX; i++)
        if (evalpool_check(programs[i], &e) < 0) {
            tell(p, at, &e);
            ok = false;
        }
    tmpl_free(t);
    return ok;
}

/* A text that holds ${ but is no expression as a whole stays as it is, which is seldom meant. */
static void warn_embedded(struct parser *p, struct spot at, struct json_object *v)
{
    if (!strstr(json_object_get_string(v), "${"))
        return;
    if (text_opens_expr(v))
        parse_warn(p, at,
                   "an expression begins with ${ and ends with }; if it holds # or ': ', put "
                   "quotes around it",
                   "this text begins like an expression but is taken as it stands");
    else
        parse_warn(p, at, "make the whole text an expression: ${ \"Hello \" + .name }",
                   "${ } inside a text is taken as it stands");
}

static bool check(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars,
                  unsigned flags)
{
    struct json_object *v = value_at(at);
    bool ok = true;
    if (json_object_is_type(v, json_type_string)) {
        if (mode == TMPL_STRICT && !text_is_expr(v)) {
            if (!(flags & TEXT_OWN_SYNTAX))
                warn_embedded(p, at, v);
            return true;
        }
        return check_text(p, at, mode, vars);
    }
    enum tmpl_mode inner = mode == TMPL_BARE ? TMPL_STRICT : mode;
    if (json_object_is_type(v, json_type_object)) {
        json_object_object_foreach(v, key, member)
        {
            (void)member;
            ok = check(p, MEMBER(v, key), inner, vars, flags) && ok;
        }
    } else if (json_object_is_type(v, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(v); i++)
            ok = check(p, ELEMENT(v, i), inner, vars, flags) && ok;
    }
    return ok;
}

bool parse_check_exprs(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars,
                       unsigned flags)
{
    return check(p, at, mode, vars, flags);
}

static struct tmpl *compile(struct parser *p, struct spot at, struct json_object *value,
                            enum tmpl_mode mode, uint32_t vars)
{
    struct err e = {0};
    struct tmpl *t = tmpl_compile(value, mode, vars, p->locals, NULL, &e);
    if (!t)
        parse_bad(p, at, e.hint[0] ? e.hint : "split the task", "%s", e.msg);
    return t;
}

struct tmpl *parse_tmpl(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars)
{
    return check(p, at, mode, vars, 0) ? compile(p, at, value_at(at), mode, vars) : NULL;
}

struct tmpl *parse_compile(struct parser *p, struct spot at, struct json_object *value,
                           uint32_t vars)
{
    return compile(p, at, value, p->mode, vars);
}

void parse_find_traps(struct parser *p, struct json_object *o)
{
    if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++)
            parse_find_traps(p, json_object_array_get_idx(o, i));
    } else if (json_object_is_type(o, json_type_object)) {
        json_object_object_foreach(o, key, v)
        {
            if (!strncmp(key, "${", 2))
                parse_bad_key(p, o, key,
                              "put quotes around the whole expression: \"${ { a: .b } }\"",
                              "YAML takes this unquoted expression for a mapping");
            parse_find_traps(p, v);
        }
    }
}
