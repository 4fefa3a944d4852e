/* See http.h: what a handler sees of a request, and its answer. The loop's thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/js.h"
#include "gateway/http_int.h"

/* ---- what a handler sees ---- */

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_query(const struct http_request *r, const char *name)
{
    return r->con ? MHD_lookup_connection_value(r->con, MHD_GET_ARGUMENT_KIND, name) : NULL;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return r->con ? MHD_lookup_connection_value(r->con, MHD_HEADER_KIND, name) : NULL;
}

struct slice http_body(const struct http_request *r)
{
    return buf_slice(&r->body);
}

const char *http_peer(const struct http_request *r)
{
    return r->peer;
}

struct each {
    void (*fn)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                 const char *value)
{
    struct each *x = arg;
    x->fn(x->arg, name, value ? value : "");
    return MHD_YES;
}

void http_headers(const struct http_request *r,
                  void (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    struct each x = {fn, arg};
    if (r->con)
        MHD_get_connection_values(r->con, MHD_HEADER_KIND, on_header, &x);
}

void http_set_data(struct http_request *r, void *data, void (*release)(void *data))
{
    r->data = data;
    r->release = release;
}

void *http_data(const struct http_request *r)
{
    return r->data;
}

bool http_gone(const struct http_request *r)
{
    return !r->con;
}

/* ---- answers ---- */

bool http_add_field(struct http_request *r, const char *name, const char *value)
{
    char *copy = r->nadded < HTTP_ADDED_MAX ? strdup(value) : NULL;
    if (!copy)
        return false;
    r->added[r->nadded].name = name;
    r->added[r->nadded++].value = copy;
    return true;
}

void http_add_fields(struct http_request *r, const struct http_field *fields)
{
    bool kept = false;
    for (const struct http_field *f = fields; f && f->name; f++)
        if (f->value) {
            MHD_add_response_header(r->response, f->name, f->value);
            kept |= !strcmp(f->name, "Cache-Control");
        }
    for (size_t i = 0; i < r->nadded; i++)
        MHD_add_response_header(r->response, r->added[i].name, r->added[i].value);
    if (!kept)
        MHD_add_response_header(r->response, "Cache-Control", "no-store");
    MHD_add_response_header(r->response, "X-Content-Type-Options", "nosniff");
}

void http_answer(struct http_request *r, int status, const struct http_field *fields,
                 struct slice body)
{
    r->answered = true;
    if (!r->con) { /* nobody is there any more */
        http_request_free(r);
        return;
    }
    r->server->stats.waiting--;
    r->status = status;
    r->response = MHD_create_response_from_buffer(body.n, (void *)body.p, MHD_RESPMEM_MUST_COPY);
    if (r->response)
        http_add_fields(r, fields);
    else { /* no memory: the connection ends without an answer */
        if (r->place)
            shutdown(r->place->fd, SHUT_RDWR);
    }
    if (r->suspended)
        http_resume(r);
}

void http_answer_json(struct http_request *r, int status, const struct http_field *fields,
                      struct json_object *o)
{
    struct buf b;
    struct http_field all[16] = {{"Content-Type", "application/json"}};
    size_t n = 1;
    for (; fields && fields->name && n < 15; fields++)
        if (!strcmp(fields->name, "Content-Type"))
            all[0] = *fields;
        else
            all[n++] = *fields;
    buf_init(&b, 64u << 20);
    js_write(o, &b);
    buf_addc(&b, '\n');
    if (buf_error(&b))
        http_answer(r, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, SL(""));
    else
        http_answer(r, status, all, buf_slice(&b));
    buf_free(&b);
    json_object_put(o);
}

const char *http_reason(int status)
{
    const char *text = status > 0 ? MHD_get_reason_phrase_for((unsigned)status) : NULL;
    return text ? text : "";
}

static void put(struct json_object *o, const char *key, const char *text)
{
    if (text && *text)
        json_object_object_add(o, key, json_object_new_string(text));
}

void http_problem(struct http_request *r, int status, const struct http_field *fields,
                  const char *hint, const char *detail, ...)
{
    char text[2048];
    struct http_field all[15] = {{"Content-Type", "application/problem+json"}};
    struct json_object *o = json_object_new_object();
    va_list ap;
    va_start(ap, detail);
    (void)vsnprintf(text, sizeof text, detail, ap);
    va_end(ap);
    for (size_t n = 1; fields && fields->name && n < 14; fields++)
        all[n++] = *fields;
    put(o, "type", "about:blank");
    put(o, "title", http_reason(status));
    json_object_object_add(o, "status", json_object_new_int(status));
    put(o, "detail", text);
    put(o, "hint", hint);
    http_answer_json(r, status, all, o);
}
