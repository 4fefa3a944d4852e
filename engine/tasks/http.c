/* call: http. One request of the loop's HTTP client a run; its answer becomes the raw output in the
 * form that the definition asks for. Loop's thread. An answer outside the accepted range of status
 * codes is a communication error with that status; so is a connection that could not be made, with
 * 500. */
#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "tasks/call.h"
#include "tasks/url.h"

#define REDIRECTS_MAX     10
#define EXCERPT_MAX_BYTES 300 /* of an error's body, when it is text */

struct http_run {
    struct task_run run; /* first */
    struct http_call call;
    struct http_req *req; /* NULL: not under way */
};

static struct slice header(const struct http_result *h, const char *name)
{
    for (size_t i = h->nheaders; i-- > 0;)
        if (sl_is(h->headers[i].name, name))
            return h->headers[i].value;
    return (struct slice){NULL, 0};
}

/* The media type without parameters: of "a/b; c=d", a/b. */
static struct slice media_type(struct slice content_type)
{
    ptrdiff_t semi = sl_find(content_type, ';');
    return sl_trim(semi < 0 ? content_type : sl(content_type.p, (size_t)semi));
}

static bool ends_nocase(struct slice s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && !strncasecmp(s.p + s.n - n, end, n);
}

static bool is_json(struct slice type)
{
    return (type.n == 16 && ends_nocase(type, "application/json")) || ends_nocase(type, "+json") ||
           (type.n == 9 && ends_nocase(type, "text/json"));
}

/* The charset parameter of a content type, zero-terminated in out; false when there is none. */
static bool charset_of(struct slice content_type, char *out, size_t size)
{
    struct slice part;
    while (sl_split(&content_type, ';', &part)) {
        part = sl_trim(part);
        if (part.n < 8 || strncasecmp(part.p, "charset=", 8))
            continue;
        part = sl_from(part, 8);
        if (part.n >= 2 && part.p[0] == '"' && part.p[part.n - 1] == '"')
            part = sl(part.p + 1, part.n - 2);
        if (!part.n || part.n >= size || memchr(part.p, '/', part.n))
            return false;
        memcpy(out, part.p, part.n);
        out[part.n] = 0;
        return true;
    }
    return false;
}

/* To UTF-8; 0, -EINVAL when the charset is unknown or the bytes are none of it, or b's error. */
static int convert(struct slice s, const char *charset, struct buf *b)
{
    iconv_t cd = iconv_open("UTF-8", charset);
    if (cd == (iconv_t)-1)
        return -EINVAL;
    char *in = (char *)s.p;
    size_t left = s.n;
    int rc = 0;
    while (left && !rc) {
        size_t room = left * 2 + 16, free_bytes = room;
        char *out = buf_reserve(b, room);
        if (!out) {
            rc = buf_error(b);
            break;
        }
        if (iconv(cd, &in, &left, &out, &free_bytes) == (size_t)-1 && errno != E2BIG)
            rc = -EINVAL;
        buf_commit(b, room - free_bytes);
    }
    iconv_close(cd);
    return rc;
}

/* The content as text: 0 with *ret, -EINVAL when it is none. */
static int text_content(struct slice body, struct slice content_type, struct json_object **ret)
{
    char charset[64];
    if (utf8_valid(body)) {
        *ret = task_text(body);
        return *ret ? 0 : -ENOMEM;
    }
    if (!charset_of(content_type, charset, sizeof charset))
        return -EINVAL;
    struct buf b;
    buf_init(&b, (size_t)TASK_OUTPUT_MAX * 4);
    int rc = convert(body, charset, &b);
    if (!rc)
        rc = (*ret = json_object_new_string_len(b.p ? b.p : "", (int)b.n)) ? 0 : -ENOMEM;
    buf_free(&b);
    return rc;
}

/* The body in the form of `output: content`. 0, or the problem was answered. */
static int content(struct task_run *r, const struct http_result *h, struct json_object **ret)
{
    struct slice ct = header(h, "content-type");
    struct err e = {0};
    *ret = NULL;
    if (!h->body.n)
        return 0;
    if (is_json(media_type(ct))) {
        int rc = js_parse(h->body, ret, &e);
        if (!rc)
            return 0;
        if (rc == -ENOMEM)
            task_fail_memory(r);
        else
            task_fail(r, "communication", 500, "Answer is not valid JSON",
                      "the answer says it is JSON, but at %d:%d: %s; use output: raw to take it as "
                      "it is",
                      e.line, e.col, e.msg);
        return rc;
    }
    int rc = text_content(h->body, ct, ret);
    if (rc == -EINVAL)
        task_fail(r, "runtime", 500, "Answer is not text",
                  "the answer (%.*s) is neither JSON nor UTF-8 text; use output: raw to get it as "
                  "base64",
                  (int)(ct.n > 100 ? 100 : ct.n), ct.p ? ct.p : "");
    else if (rc)
        task_fail_memory(r);
    return rc;
}

static struct json_object *base64(struct slice body)
{
    struct buf b;
    buf_init(&b, body.n / 3 * 4 + 8);
    struct json_object *o = NULL;
    if (!base64_write(&b, body))
        o = json_object_new_string_len(b.p ? b.p : "", (int)b.n);
    buf_free(&b);
    return o;
}

/* Adds a member and takes over v; false when v is NULL or memory ran out. */
static bool add(struct json_object *o, const char *key, struct json_object *v)
{
    if (v && o && !json_object_object_add(o, key, v))
        return true;
    json_object_put(v);
    return false;
}

/* What was sent, secrets hidden. */
static struct json_object *sent(const struct http_run *x)
{
    struct json_object *headers = json_object_new_object(), *o = json_object_new_object();
    bool ok = headers && o;
    for (size_t i = 0; ok && i < x->call.nheaders; i++) {
        const struct call_header *h = &x->call.headers[i];
        ok = add(headers, h->name, task_text(h->secret ? SL("***") : sl_str(h->value)));
    }
    if (ok && x->call.user)
        ok = add(headers, "Authorization", task_text(SL("***")));
    ok = ok && add(o, "method", task_text(sl_str(x->call.method))) &&
         add(o, "uri", task_text(sl_str(x->call.url)));
    if (!add(o, "headers", headers) || !ok) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

/* A header that came several times is joined by ", " (RFC 9110 section 5.3). */
static bool add_received(struct json_object *o, struct http_header h)
{
    struct buf b;
    buf_init(&b, HTTP_HEADER_BYTES_MAX * 2);
    char *name = sl_dup(h.name);
    const char *before = name ? js_str(o, name) : NULL;
    if (before) {
        buf_adds(&b, before);
        buf_adds(&b, ", ");
    }
    buf_add_slice(&b, h.value);
    bool ok = name && !buf_error(&b) && add(o, name, task_text(buf_slice(&b)));
    free(name);
    buf_free(&b);
    return ok;
}

static void finish_response(struct http_run *x, const struct http_result *h)
{
    struct json_object *body = NULL;
    if (content(&x->run, h, &body))
        return;
    struct json_object *o = json_object_new_object(), *headers = json_object_new_object();
    bool ok = o && headers;
    for (size_t i = 0; ok && i < h->nheaders; i++)
        ok = add_received(headers, h->headers[i]);
    ok = ok && add(o, "request", sent(x)) && add(o, "statusCode", json_object_new_int(h->status));
    if (!add(o, "headers", headers))
        ok = false;
    if (!ok || json_object_object_add(o, "content", body)) {
        json_object_put(body);
        json_object_put(o);
        task_fail_memory(&x->run);
        return;
    }
    task_finish(&x->run, o);
}

static void finish(struct http_run *x, const struct http_result *h)
{
    struct json_object *o = NULL;
    switch (x->run.task->http_output) {
    case OUT_CONTENT:
        if (!content(&x->run, h, &o))
            task_finish(&x->run, o);
        return;
    case OUT_RAW:
        if ((o = base64(h->body)))
            task_finish(&x->run, o);
        else
            task_fail_memory(&x->run);
        return;
    case OUT_RESPONSE:
        finish_response(x, h);
        return;
    }
}

static void no_answer(struct http_run *x, const struct http_result *h)
{
    const char *text = h->error_text ? h->error_text : strerror(-h->error);
    struct slice url = url_shown(sl_str(x->call.url));
    struct task_run *r = &x->run;
    if (h->error == -EMSGSIZE)
        task_fail(r, "runtime", 500, "Answer too large",
                  "%s %.*s: the answer is larger than %d bytes; ask for less, or fetch it in a "
                  "process and keep only what is needed",
                  x->call.method, SL_ARG(url), TASK_OUTPUT_MAX);
    else if (h->error == -ETIMEDOUT)
        task_fail(r, "timeout", 0, NULL, "%s %.*s: %s", x->call.method, SL_ARG(url), text);
    else if (h->error == -EINVAL)
        task_fail(r, "configuration", 0, NULL, "%.*s is not a usable URL: %s", SL_ARG(url), text);
    else if (h->error == -EACCES)
        task_fail(r, "authorization", 0, NULL, "%.*s: %s", SL_ARG(url), text);
    else if (h->error == -ENOMEM)
        task_fail_memory(r);
    else
        task_fail(r, "communication", 500, "No answer", "%s %.*s: %s", x->call.method, SL_ARG(url),
                  text);
}

static void bad_status(struct http_run *x, const struct http_result *h)
{
    struct slice ct = media_type(header(h, "content-type")), url = url_shown(sl_str(x->call.url));
    struct json_object *body = NULL;
    char title[TASK_TITLE_MAX];
    (void)snprintf(title, sizeof title, "HTTP status %d", h->status);
    /* Only a help for the reader: a body that can't be read leaves the status to speak. */
    if (is_json(ct) && js_parse(h->body, &body, NULL))
        body = NULL;
    const char *detail = js_str(body, "detail"), *said = js_str(body, "title");
    if (detail && ends_nocase(ct, "/problem+json"))
        task_fail(&x->run, "communication", h->status, said ? said : title, "%s", detail);
    else if (h->body.n && utf8_valid(h->body))
        task_fail(&x->run, "communication", h->status, title, "%s %.*s answered %d: %.*s%s",
                  x->call.method, SL_ARG(url), h->status,
                  (int)(h->body.n > EXCERPT_MAX_BYTES ? EXCERPT_MAX_BYTES : h->body.n), h->body.p,
                  h->body.n > EXCERPT_MAX_BYTES ? "..." : "");
    else
        task_fail(&x->run, "communication", h->status, title, "%s %.*s answered %d", x->call.method,
                  SL_ARG(url), h->status);
    json_object_put(body);
}

static void on_result(void *arg, const struct http_result *h)
{
    struct http_run *x = arg;
    x->req = NULL;
    int above = x->run.task->http_redirect ? 400 : 300;
    if (h->error)
        no_answer(x, h);
    else if (h->status < 200 || h->status >= above)
        bad_status(x, h);
    else
        finish(x, h);
}

static int send_request(struct http_run *x, struct err *e)
{
    struct http_header headers[HTTP_HEADERS_MAX];
    const struct http_call *c = &x->call;
    for (size_t i = 0; i < c->nheaders; i++)
        headers[i] = (struct http_header){sl_str(c->headers[i].name), sl_str(c->headers[i].value)};
    struct http_spec s = {
        .method = sl_str(c->method),
        .url = sl_str(c->url),
        .headers = headers,
        .nheaders = c->nheaders,
        .body = buf_slice(&c->body),
        .has_body = c->has_body,
        .redirects_max = x->run.task->http_redirect ? REDIRECTS_MAX : 0,
        .body_max = TASK_OUTPUT_MAX,
        .once = x->run.task->effect != EFFECT_SAFE,
    };
    if (c->user) {
        s.auth = HTTP_AUTH_BASIC;
        s.user = secret_reveal(c->user);
        s.password = secret_reveal(c->password);
    }
    x->req = http_start(x->run.tasks->http, &s, on_result, x, e);
    return x->req ? 0 : e->code ? e->code : -ENOMEM;
}

static int start(struct task_run *r, const struct task_call *c)
{
    struct http_run *x = (struct http_run *)r;
    struct problem p = {0};
    struct err e = {0};
    int rc = http_call_build(&x->call, r->tasks, c, &p);
    if (!rc)
        rc = send_request(x, &e);
    if (rc == -ENOMEM || rc == -EAGAIN) {
        problem_free(&p);
        return rc;
    }
    if (p.status) {
        const char *slash = strrchr(p.type, '/');
        task_fail(r, slash + 1, p.status, p.title, "%s", p.detail);
    } else if (rc) {
        task_fail(r, "configuration", 0, NULL, "%s%s%s", e.msg, e.hint[0] ? "; " : "", e.hint);
    }
    problem_free(&p);
    return 0;
}

static void stop(struct task_run *r)
{
    struct http_run *x = (struct http_run *)r;
    if (x->req)
        http_cancel(x->req);
    x->req = NULL;
    http_call_free(&x->call);
}

const struct task_kind task_http = {"http", sizeof(struct http_run), start, stop};
