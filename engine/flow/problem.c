/* Problem details of the DSL's errors. Pure; the strings of a problem are owned by it.
 * Invariant: after problem_set `type` and `title` are there, and `status` is not 0. */
#include "flow/problem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/js.h"

#define DETAIL_MAX_BYTES 4096

static const struct kind {
    const char *name, *title;
    int status;
} kinds[] = {
    {"configuration", "Configuration error", 400}, {"validation", "Validation error", 400},
    {"expression", "Expression error", 400},       {"authentication", "Authentication error", 401},
    {"authorization", "Authorization error", 403}, {"timeout", "Timeout", 408},
    {"communication", "Communication error", 500}, {"runtime", "Runtime error", 500},
};

static const struct kind *kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

static char *join(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    char *s = malloc(n + m + 1);
    if (!s)
        return NULL;
    memcpy(s, a, n);
    memcpy(s + n, b, m + 1);
    return s;
}

static char *detail_text(const char *fmt, va_list ap)
{
    struct buf b, q;
    char text[DETAIL_MAX_BYTES];
    (void)vsnprintf(text, sizeof text, fmt, ap);
    /* A cut in the middle of a character, or bytes of the world that are no text, must not make
     * the record invalid JSON. */
    buf_init(&q, DETAIL_MAX_BYTES * 8);
    buf_init(&b, DETAIL_MAX_BYTES * 4);
    char *s = NULL;
    if (!js_write_str(&q, sl_str(text)) && !js_unquote(buf_slice(&q), &b))
        s = b.n ? buf_take(&b) : strdup("");
    buf_free(&q);
    buf_free(&b);
    return s;
}

int problem_set(struct problem *p, const char *name, int status, const char *title,
                const char *detail, ...)
{
    const struct kind *k = kind_of(name);
    struct problem n = {.status = status ? status : k ? k->status : 500};
    n.type = join(PROBLEM_PREFIX, name);
    n.title = strdup(title ? title : k ? k->title : name);
    bool ok = n.type && n.title;
    if (ok && detail) {
        va_list ap;
        va_start(ap, detail);
        n.detail = detail_text(detail, ap);
        va_end(ap);
        ok = n.detail != NULL;
    }
    /* The place of the error outlives a change of its words. */
    if (ok && p->instance) {
        n.instance = p->instance;
        p->instance = NULL;
    }
    if (!ok) {
        p->status = n.status; /* a problem is one also when there is no memory for its words */
        problem_free(&n);
        return -ENOMEM;
    }
    problem_free(p);
    *p = n;
    return 0;
}

void problem_free(struct problem *p)
{
    free(p->type);
    free(p->title);
    free(p->detail);
    free(p->instance);
    *p = (struct problem){0};
}

static bool add_text(struct json_object *o, const char *key, const char *text)
{
    if (!text)
        return true;
    struct json_object *s = json_object_new_string(text);
    if (s && !json_object_object_add(o, key, s))
        return true;
    json_object_put(s);
    return false;
}

struct json_object *problem_json(const struct problem *p)
{
    struct json_object *o = json_object_new_object();
    if (!o)
        return NULL;
    bool ok = add_text(o, "type", p->type);
    struct json_object *status = json_object_new_int(p->status);
    if (!status || json_object_object_add(o, "status", status)) {
        json_object_put(status);
        ok = false;
    }
    ok = ok && add_text(o, "title", p->title) && add_text(o, "detail", p->detail) &&
         add_text(o, "instance", p->instance);
    if (ok)
        return o;
    json_object_put(o);
    return NULL;
}

/* A copy of an optional text member: 0, -EINVAL when it is no text, -ENOMEM. */
static int take_text(struct json_object *o, const char *key, char **ret)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(o, key, &v) || !v)
        return 0;
    if (!json_object_is_type(v, json_type_string))
        return -EINVAL;
    *ret = strdup(json_object_get_string(v));
    return *ret ? 0 : -ENOMEM;
}

int problem_from_json(struct problem *p, struct json_object *o)
{
    if (!json_object_is_type(o, json_type_object))
        return -EINVAL;
    int64_t status = js_int(o, "status", 0);
    if (status < 1 || status > 999)
        return -EINVAL;
    struct problem n = {.status = (int)status};
    int rc = take_text(o, "type", &n.type);
    if (!rc && !n.type)
        rc = -EINVAL;
    if (!rc)
        rc = take_text(o, "title", &n.title);
    if (!rc)
        rc = take_text(o, "detail", &n.detail);
    if (!rc)
        rc = take_text(o, "instance", &n.instance);
    if (rc) {
        problem_free(&n);
        return rc;
    }
    problem_free(p);
    *p = n;
    return 0;
}

/* What follows a known prefix: https://HOST/spec/VERSION/errors/ or https://HOST/dsl/errors/types/
 * of the specification's present and former hosts. */
static struct slice known_name(const char *type)
{
    static const char *const hosts[] = {"https://open-workflow-specification.org/",
                                        "https://serverlessworkflow.io/"};
    struct slice s = sl_str(type);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct slice rest = s;
        if (!sl_starts(s, sl_str(hosts[i])))
            continue;
        rest = sl_from(s, strlen(hosts[i]));
        if (sl_starts(rest, SL("dsl/errors/types/")))
            return sl_from(rest, strlen("dsl/errors/types/"));
        if (!sl_starts(rest, SL("spec/")))
            continue;
        rest = sl_from(rest, strlen("spec/"));
        ptrdiff_t slash = sl_find(rest, '/');
        if (slash <= 0 || !sl_starts(sl_from(rest, (size_t)slash), SL("/errors/")))
            continue;
        return sl_from(rest, (size_t)slash + strlen("/errors/"));
    }
    return (struct slice){NULL, 0};
}

bool problem_is(const struct problem *p, const char *name)
{
    if (!p->type)
        return false;
    struct slice is = known_name(p->type);
    return is.p && sl_is(is, name);
}
