/* Retry policies and timeouts, inline or by their name in `use` (DSL reference, "Retry Policy",
 * "Timeout"). Each is compiled where it is used, because its expressions see that place. */
#include "flow/parse_int.h"

#define RETRY_EXAMPLE                                                                              \
    "retry: {delay: PT1S, backoff: {exponential: {}}, limit: {attempt: {count: 5}}}"

static const struct prop retry_props[] = {
    {"when", T_TEXT, 0, NULL, "an expression such as $error.status == 503"},
    {"exceptWhen", T_TEXT, 0, NULL, "an expression such as $error.status == 404"},
    {"delay", T_ANY},
    {"backoff", T_OBJ, 0, NULL, "backoff: {exponential: {}}"},
    {"limit", T_OBJ, 0, NULL, "limit: {attempt: {count: 5}}"},
    {"jitter", T_OBJ, 0, NULL, "jitter: {from: PT0S, to: PT1S}"},
    {0}};
static const struct prop backoff_props[] = {{"constant", T_OBJ, 0, NULL, "constant: {}"},
                                            {"linear", T_OBJ, 0, NULL, "linear: {}"},
                                            {"exponential", T_OBJ, 0, NULL, "exponential: {}"},
                                            {0}};
static const struct prop limit_props[] = {{"attempt", T_OBJ, 0, NULL, "attempt: {count: 5}"},
                                          {"duration", T_ANY},
                                          {0}};
static const struct prop attempt_props[] = {{"count", T_INT, 0, NULL, "count: 5"},
                                            {"duration", T_ANY},
                                            {0}};
static const struct prop jitter_props[] = {{"from", T_ANY, PROP_NEED, NULL, "from: PT0S"},
                                           {"to", T_ANY, PROP_NEED, NULL, "to: PT1S"},
                                           {0}};
static const struct prop timeout_props[] = {{"after", T_ANY, PROP_NEED, NULL, "after: PT30S"}, {0}};

struct tmpl *parse_duration(struct parser *p, struct spot at, uint32_t vars)
{
    struct json_object *v = js_get(at.parent, at.key);
    struct err e = {0};
    int64_t ms;
    /* In loose mode a text that is no duration may be an expression. */
    bool may_be_expr =
        text_is_expr(v) || (p->mode == TMPL_LOOSE && json_object_is_type(v, json_type_string));
    if (!may_be_expr && duration_read(v, &ms, &e) < 0) {
        parse_bad(p, at, e.hint, "%s", e.msg);
        return NULL;
    }
    return parse_tmpl(p, at, p->mode, vars);
}

static struct tmpl *duration_of(struct parser *p, struct json_object *o, const char *key)
{
    return json_object_object_get_ex(o, key, NULL) ? parse_duration(p, MEMBER(o, key), VARS_INPUT)
                                                   : NULL;
}

static void backoff(struct parser *p, struct json_object *o, struct retry *r)
{
    struct json_object *b;
    if (!json_object_object_get_ex(o, "backoff", NULL) ||
        !(b = parse_object(p, MEMBER(o, "backoff"), "backoff", backoff_props,
                           "backoff: {exponential: {}}")))
        return;
    if (json_object_object_length(b) != 1)
        parse_bad(p, MEMBER(o, "backoff"), "backoff: {exponential: {}}",
                  "backoff has exactly one of constant, linear and exponential");
    json_object_object_foreach(b, key, v)
    {
        if (json_object_is_type(v, json_type_object) && json_object_object_length(v))
            parse_bad(p, MEMBER(b, key), "write it as {}: the specification gives it no members",
                      "%s has no members", key);
    }
    r->backoff = json_object_object_get_ex(b, "linear", NULL)        ? BACKOFF_LINEAR
                 : json_object_object_get_ex(b, "exponential", NULL) ? BACKOFF_EXPONENTIAL
                                                                     : BACKOFF_CONSTANT;
}

static void limit(struct parser *p, struct json_object *o, struct retry *r)
{
    struct json_object *l, *a, *count;
    if (!json_object_object_get_ex(o, "limit", NULL) ||
        !(l = parse_object(p, MEMBER(o, "limit"), "limit", limit_props,
                           "limit: {attempt: {count: 5}}")))
        return;
    r->duration = duration_of(p, l, "duration");
    if (!prop_get(l, limit_props, "attempt") ||
        !(a = parse_object(p, MEMBER(l, "attempt"), "attempt", attempt_props,
                           "attempt: {count: 5}")))
        return;
    r->attempt_duration = duration_of(p, a, "duration");
    if (!(count = prop_get(a, attempt_props, "count")))
        return;
    r->count = json_object_get_int64(count);
    if (r->count < 0) {
        parse_bad(p, MEMBER(a, "count"), "0 or more retries", "count can't be negative");
        r->count = 0;
    }
}

static void jitter(struct parser *p, struct json_object *o, struct retry *r)
{
    struct json_object *j;
    int64_t from, to;
    if (!json_object_object_get_ex(o, "jitter", NULL) ||
        !(j = parse_object(p, MEMBER(o, "jitter"), "jitter", jitter_props,
                           "jitter: {from: PT0S, to: PT1S}")))
        return;
    r->jitter_from = duration_of(p, j, "from");
    r->jitter_to = duration_of(p, j, "to");
    if (!duration_read(js_get(j, "from"), &from, NULL) &&
        !duration_read(js_get(j, "to"), &to, NULL) && from > to)
        parse_bad(p, MEMBER(o, "jitter"), "put the smaller one first",
                  "jitter.from is longer than jitter.to");
}

static struct retry *policy(struct parser *p, struct spot at)
{
    struct json_object *o = parse_object(p, at, "retry", retry_props, RETRY_EXAMPLE);
    struct retry *r = o ? arena_alloc(&p->f->mem, sizeof *r) : NULL;
    if (!r)
        return NULL;
    r->count = -1;
    if (prop_get(o, retry_props, "when"))
        r->when = parse_tmpl(p, MEMBER(o, "when"), TMPL_BARE, VARS_INPUT);
    if (prop_get(o, retry_props, "exceptWhen"))
        r->except_when = parse_tmpl(p, MEMBER(o, "exceptWhen"), TMPL_BARE, VARS_INPUT);
    r->delay = duration_of(p, o, "delay");
    backoff(p, o, r);
    limit(p, o, r);
    jitter(p, o, r);
    if (r->count < 0 && !r->duration)
        parse_warn(p, at, "limit: {attempt: {count: 5}}",
                   "without a limit it is tried again for ever");
    return r;
}

/* The place of what `at` holds or names in `table`; false, with the problem added: no such name. */
static bool resolve(struct parser *p, struct spot at, struct json_object *table, const char *what,
                    struct spot *ret)
{
    char hint[160];
    struct json_object *v = js_get(at.parent, at.key);
    *ret = at;
    if (!json_object_is_type(v, json_type_string))
        return true;
    const char *name = json_object_get_string(v);
    if (table && json_object_object_get_ex(table, name, NULL)) {
        *ret = MEMBER(table, name);
        return true;
    }
    parse_bad(p, at, parse_near_member(hint, sizeof hint, name, table, "declare it in use"),
              "there is no %s \"%.100s\"", what, name);
    return false;
}

struct retry *parse_retry(struct parser *p, struct spot at)
{
    struct spot place;
    return resolve(p, at, p->retries, "retry policy", &place) ? policy(p, place) : NULL;
}

static struct tmpl *timeout_at(struct parser *p, struct spot at, uint32_t vars)
{
    struct json_object *o =
        parse_object(p, at, "timeout", timeout_props, "timeout: {after: PT30S}");
    return o && json_object_object_get_ex(o, "after", NULL)
               ? parse_duration(p, MEMBER(o, "after"), vars)
               : NULL;
}

struct tmpl *parse_timeout(struct parser *p, struct json_object *o, uint32_t vars)
{
    struct spot place;
    if (!json_object_object_get_ex(o, "timeout", NULL) ||
        !resolve(p, MEMBER(o, "timeout"), p->timeouts, "timeout", &place))
        return NULL;
    return timeout_at(p, place, vars);
}

/* Used or not: a problem is told once, at its own place. Variables of a catch are known only at the
 * place of use, so that only the form is checked here. */
void parse_use_policies(struct parser *p)
{
    if (p->timeouts) {
        json_object_object_foreach(p->timeouts, name, v)
        {
            (void)v;
            tmpl_free(timeout_at(p, MEMBER(p->timeouts, name), VARS_INPUT));
        }
    }
    if (p->retries) {
        json_object_object_foreach(p->retries, name, v)
        {
            (void)v;
            parse_object(p, MEMBER(p->retries, name), "retry", retry_props, RETRY_EXAMPLE);
        }
    }
}
