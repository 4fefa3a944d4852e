/* Building an HTTP request from `with` of call: http (specification, section "HTTP Call").
 * Errors are of the definition or its data, so nothing here is retried by itself: configuration for
 * what the author wrote, expression for values that can't stand where they were put. */
#include "tasks/call.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "tasks/url.h"

static bool token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f ||
            strchr("()<>@,;:\\\"/[]?={}", *s))
            return false;
    return true;
}

static int fail_err(struct problem *p, const char *name, const struct err *e)
{
    if (e->code == -ENOMEM)
        return -ENOMEM;
    return problem_set(p, name, 0, NULL, "%s%s%s", e->msg, e->hint[0] ? "; " : "", e->hint)
               ? -ENOMEM
               : -EINVAL;
}

/* problem_set as a result: -EINVAL, or -ENOMEM when not even that was possible. */
#define REFUSE(p, ...) (problem_set((p), __VA_ARGS__) ? -ENOMEM : -EINVAL)

bool http_call_has(const struct http_call *h, const char *name)
{
    for (size_t i = 0; i < h->nheaders; i++)
        if (!strcasecmp(h->headers[i].name, name))
            return true;
    return false;
}

static int add_header(struct http_call *h, const char *name, struct slice value, bool secret,
                      struct problem *p)
{
    if (!token(name))
        return REFUSE(p, "configuration", 0, NULL, "'%s' is not a name of an HTTP header", name);
    if (memchr(value.p ? value.p : "", '\r', value.n) ||
        memchr(value.p ? value.p : "", '\n', value.n) || memchr(value.p ? value.p : "", 0, value.n))
        return REFUSE(p, "expression", 0, NULL,
                      "the header '%s' has a line break or zero byte in its value", name);
    if (h->nheaders == HTTP_HEADERS_MAX)
        return REFUSE(p, "configuration", 0, NULL, "more than %d headers", HTTP_HEADERS_MAX);
    struct call_header n = {strdup(name), sl_dup(value), secret};
    if (!n.name || !n.value) {
        free(n.name);
        free(n.value);
        return -ENOMEM;
    }
    h->headers[h->nheaders++] = n;
    return 0;
}

static bool is_secret_header(const char *name)
{
    static const char *const names[] = {"authorization", "proxy-authorization", "cookie",
                                        "x-api-key", "api-key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcasecmp(name, names[i]))
            return true;
    return false;
}

static int add_headers(struct http_call *h, struct json_object *headers, struct problem *p)
{
    if (!headers)
        return 0;
    if (!json_object_is_type(headers, json_type_object))
        return REFUSE(p, "expression", 0, NULL, "headers is %s, not an object of names and values",
                      js_kind(headers));
    json_object_object_foreach(headers, name, v)
    {
        struct buf text;
        buf_init(&text, HTTP_HEADER_BYTES_MAX);
        int rc = task_scalar(v, &text);
        if (rc == -EINVAL)
            rc = REFUSE(p, "expression", 0, NULL, "the header '%s' is an %s; give text", name,
                        js_kind(v));
        else if (rc == -ENOBUFS)
            rc = REFUSE(p, "expression", 0, NULL, "the header '%s' is longer than %d bytes", name,
                        HTTP_HEADER_BYTES_MAX);
        else if (!rc && v) /* null: not sent */
            rc = add_header(h, name, buf_slice(&text), is_secret_header(name), p);
        buf_free(&text);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_body(struct http_call *h, struct json_object *with, struct problem *p)
{
    struct json_object *body = NULL;
    if (!json_object_object_get_ex(with, "body", &body))
        return 0;
    h->has_body = true;
    int rc;
    if (json_object_is_type(body, json_type_string)) {
        rc = task_scalar(body, &h->body);
    } else {
        rc = js_write(body, &h->body);
        if (!rc && !http_call_has(h, "content-type"))
            rc = add_header(h, "Content-Type", SL("application/json"), false, p);
    }
    if (rc == -ENOBUFS)
        return REFUSE(p, "validation", 0, NULL, "the body is larger than %d bytes", CALL_BODY_MAX);
    return rc;
}

/* A secret's JSON object for {use: NAME} inside basic or bearer, or the text itself as `plain`. */
static int use_secret(const struct tasks *t, const char *name, const char *plain,
                      struct json_object **ret, struct problem *p)
{
    struct err e = {0};
    struct secret *s = NULL;
    int rc = config_secret(t->o.config, name, &s, &e);
    if (rc)
        return rc == -ENOMEM ? rc : fail_err(p, "authorization", &e);
    struct json_object *o = NULL;
    rc = js_parse(secret_reveal(s), &o, NULL);
    if ((rc || !json_object_is_type(o, json_type_object)) && plain) {
        json_object_put(o);
        o = json_object_new_object();
        struct json_object *text = task_text(secret_reveal(s));
        rc = !o || !text || json_object_object_add(o, plain, text) ? -ENOMEM : 0;
        if (rc)
            json_object_put(text);
    } else if (rc || !json_object_is_type(o, json_type_object)) {
        rc = REFUSE(p, "authorization", 0, NULL,
                    "the secret '%s' is not a JSON object with username and password", name);
    }
    secret_free(s);
    if (rc) {
        json_object_put(o);
        return rc;
    }
    *ret = o;
    return 0;
}

static int set_basic(struct http_call *h, struct json_object *o, struct problem *p)
{
    const char *user = js_str(o, "username"), *password = js_str(o, "password");
    if (!user || !password)
        return REFUSE(p, "configuration", 0, NULL,
                      "basic authentication needs username and password, both text");
    if (strchr(user, ':'))
        return REFUSE(p, "configuration", 0, NULL,
                      "a username of basic authentication has no colon");
    h->user = secret_new(sl_str(user));
    h->password = secret_new(sl_str(password));
    return h->user && h->password ? 0 : -ENOMEM;
}

static int set_bearer(struct http_call *h, struct json_object *o, struct problem *p)
{
    const char *token_text = js_str(o, "token");
    if (!token_text || !*token_text)
        return REFUSE(p, "configuration", 0, NULL,
                      "bearer authentication needs token, a text that is not empty");
    struct buf b;
    buf_init(&b, HTTP_HEADER_BYTES_MAX);
    buf_adds(&b, "Bearer ");
    buf_adds(&b, token_text);
    int rc = buf_error(&b);
    if (!rc)
        rc = add_header(h, "Authorization", buf_slice(&b), true, p);
    else if (rc == -ENOBUFS)
        rc = REFUSE(p, "configuration", 0, NULL, "the bearer token is too long");
    if (b.p)
        explicit_bzero(b.p, b.n);
    buf_free(&b);
    return rc;
}

static int add_authentication(struct http_call *h, const struct tasks *t, struct json_object *auth,
                              struct problem *p)
{
    if (!auth)
        return 0;
    struct json_object *basic = js_get(auth, "basic"), *bearer = js_get(auth, "bearer");
    if (!basic && !bearer)
        return REFUSE(p, "configuration", 0, NULL,
                      "this authentication is not supported; use basic or bearer");
    const char *use = js_str(basic ? basic : bearer, "use");
    struct json_object *secret = NULL;
    int rc = use ? use_secret(t, use, basic ? NULL : "token", &secret, p) : 0;
    if (!rc && basic)
        rc = set_basic(h, secret ? secret : basic, p);
    else if (!rc)
        rc = set_bearer(h, secret ? secret : bearer, p);
    json_object_put(secret);
    return rc;
}

/* An endpoint that the author wrote as one expression is not a template: braces in its value are
 * data. */
static bool is_expression(const struct task *t)
{
    struct json_object *e = js_get(js_get(t->definition, "with"), "endpoint");
    const char *s = json_object_is_type(e, json_type_object)   ? js_str(e, "uri")
                    : json_object_is_type(e, json_type_string) ? json_object_get_string(e)
                                                               : NULL;
    return s && sl_starts(sl_trim(sl_str(s)), SL("${"));
}

static int set_url(struct http_call *h, const struct task_call *c, struct problem *p)
{
    struct json_object *endpoint = js_get(c->with, "endpoint");
    const char *uri = json_object_is_type(endpoint, json_type_string)
                          ? json_object_get_string(endpoint)
                          : js_str(endpoint, "uri");
    if (!uri)
        return REFUSE(p, "expression", 0, NULL,
                      "the endpoint is %s; give text, or an object with uri", js_kind(endpoint));
    struct err e = {0};
    struct buf expanded, whole;
    buf_init(&expanded, URL_MAX_BYTES);
    buf_init(&whole, URL_MAX_BYTES);
    int rc = c->task->endpoint_expr || is_expression(c->task)
                 ? buf_adds(&expanded, uri)
                 : url_expand(sl_str(uri), js_get(c->with, "$input"), &expanded, &e);
    if (!rc)
        rc = url_add_query(sl_trim(buf_slice(&expanded)), js_get(c->with, "query"), &whole, &e);
    buf_free(&expanded);
    struct slice url = buf_slice(&whole);
    if (rc)
        rc = e.code ? fail_err(p, "expression", &e) : rc;
    else if (!sl_starts(url, SL("http://")) && !sl_starts(url, SL("https://")))
        rc = REFUSE(p, "configuration", 0, NULL,
                    "the endpoint '%.*s' does not begin with http:// or https://",
                    (int)(url.n > 200 ? 200 : url.n), url.p ? url.p : "");
    if (!rc)
        rc = (h->url = buf_take(&whole)) ? 0 : -ENOMEM;
    buf_free(&whole);
    return rc;
}

static int set_method(struct http_call *h, struct json_object *with, struct problem *p)
{
    const char *m = js_str(with, "method");
    if (!m || !token(m) || strlen(m) > 32)
        return REFUSE(p, "configuration", 0, NULL, "'%s' is not an HTTP method", m ? m : "");
    h->method = strdup(m);
    if (!h->method)
        return -ENOMEM;
    for (char *s = h->method; *s; s++)
        if (*s >= 'a' && *s <= 'z')
            *s = (char)(*s - 'a' + 'A');
    return 0;
}

/* What the engine adds; what the author gave stays. */
static int add_own(struct http_call *h, const struct task_call *c, struct problem *p)
{
    bool read = !strcmp(h->method, "GET") || !strcmp(h->method, "HEAD");
    int rc = 0;
    if (c->idempotency_key && !read && !http_call_has(h, "idempotency-key"))
        rc = add_header(h, "Idempotency-Key", sl_str(c->idempotency_key), false, p);
    if (!rc && c->traceparent && !http_call_has(h, "traceparent"))
        rc = add_header(h, "traceparent", sl_str(c->traceparent), false, p);
    if (!rc && !http_call_has(h, "user-agent"))
        rc = add_header(h, "User-Agent", SL("tidemark/" TIDEMARK_VERSION), false, p);
    return rc;
}

int http_call_build(struct http_call *h, const struct tasks *t, const struct task_call *c,
                    struct problem *p)
{
    buf_init(&h->body, CALL_BODY_MAX);
    struct json_object *with = c->with;
    int rc = set_method(h, with, p);
    if (!rc)
        rc = set_url(h, c, p);
    if (!rc)
        rc = add_headers(h, js_get(with, "headers"), p);
    if (!rc)
        rc = add_body(h, with, p);
    if (!rc) {
        struct json_object *auth = js_get(with, "authentication");
        rc =
            add_authentication(h, t,
                               auth ? auth : js_get(js_get(with, "endpoint"), "authentication"), p);
    }
    return rc ? rc : add_own(h, c, p);
}

void http_call_free(struct http_call *h)
{
    free(h->method);
    free(h->url);
    for (size_t i = 0; i < h->nheaders; i++) {
        explicit_bzero(h->headers[i].value, strlen(h->headers[i].value));
        free(h->headers[i].name);
        free(h->headers[i].value);
    }
    buf_free(&h->body);
    secret_free(h->user);
    secret_free(h->password);
    *h = (struct http_call){0};
}
