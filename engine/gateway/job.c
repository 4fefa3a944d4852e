/* See job.h. */
#include "gateway/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX (64u << 20) /* of one answer; handlers page far below it */

struct json_object *api_problem(int status, const char *hint, const char *fmt, ...)
{
    char text[2048];
    struct json_object *o = json_object_new_object();
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    js_put_new(o, "type", json_object_new_string("about:blank"));
    js_put_new(o, "title", json_object_new_string(http_reason(status)));
    js_put_new(o, "status", json_object_new_int(status));
    js_put_new(o, "detail", json_object_new_string(text));
    js_put_new(o, "hint", json_object_new_string(hint));
    return o;
}

bool api_query_int(struct call *c, const char *name, int64_t low, int64_t high, int64_t otherwise,
                   int64_t *ret)
{
    const char *text = http_query(c->r, name);
    char hint[96];
    *ret = otherwise;
    if (!text || (sl_i64(sl_str(text), ret) == 0 && *ret >= low && *ret <= high))
        return true;
    (void)snprintf(hint, sizeof hint, "a whole number from %lld to %lld", (long long)low,
                   (long long)high);
    http_problem(c->r, 400, NULL, hint, "the parameter %s is out of range or no number", name);
    return false;
}

bool api_query_bool(struct call *c, const char *name, bool *ret)
{
    const char *v = http_query(c->r, name);
    *ret = v && strcmp(v, "false");
    if (!v || !*v || !strcmp(v, "true") || !strcmp(v, "false"))
        return true;
    http_problem(c->r, 400, NULL, "true or false", "the parameter %s is neither true nor false",
                 name);
    return false;
}

void api_job_drop(struct api_job *j)
{
    if (j->release)
        j->release(j);
    json_object_put(j->o);
    buf_free(&j->text);
    free(j->if_none_match);
    free(j);
}

/* RFC 9110, section 13.1.2: a weak comparison with each of the list. */
static bool unchanged(const struct api_job *j)
{
    const char *s = j->if_none_match;
    return s && j->etag[0] && (!strcmp(s, "*") || strstr(s, j->etag));
}

void api_job_answer(struct api_job *j)
{
    struct api_read *r = &j->read;
    struct http_field fields[8];
    size_t n = 0;
    if (r->e.code) {
        api_fail(r->c, &r->e);
        api_job_drop(j);
        return;
    }
    bool same = j->status == 200 && unchanged(j);
    if (!same)
        fields[n++] =
            (struct http_field){"Content-Type", j->type            ? j->type
                                                : j->status >= 400 ? "application/problem+json"
                                                                   : "application/json"};
    if (j->etag[0]) {
        fields[n++] = (struct http_field){"ETag", j->etag};
        fields[n++] = (struct http_field){"Cache-Control", "no-cache"};
    }
    if (j->location[0])
        fields[n++] = (struct http_field){"Location", j->location};
    if (j->later)
        fields[n++] = (struct http_field){"Retry-After", RETRY_AFTER_S};
    if (j->waited)
        fields[n++] = (struct http_field){"Preference-Applied", "wait"};
    fields[n] = (struct http_field){NULL, NULL};
    http_answer(r->c->r, same ? 304 : j->status, fields,
                same ? (struct slice){NULL, 0} : buf_slice(&j->text));
    api_job_drop(j);
}

static void on_done(struct api_read *r)
{
    struct api_job *j = LIST_ENTRY(r, struct api_job, read);
    if (r->e.code || !j->ready || j->ready(j))
        api_job_answer(j);
}

void api_job_set(struct api_job *j, int status, struct json_object *o)
{
    j->status = status;
    j->later = false;
    buf_reset(&j->text);
    if (js_write(o, &j->text) < 0)
        err_set(&j->read.e, -ENOMEM, "ask again", "no memory for the answer");
    json_object_put(o);
}

static void on_work(struct api_read *r, struct kadmin *a)
{
    struct api_job *j = LIST_ENTRY(r, struct api_job, read);
    buf_reset(&j->text);
    j->fn(j, a);
    if (!r->e.code && !j->type && js_write(j->o, &j->text) < 0)
        err_set(&r->e, -ENOMEM, "ask for less at once", "no memory for the answer");
    json_object_put(j->o);
    j->o = NULL;
}

void api_job_again(struct api_job *j)
{
    if (!api_read_start(j->read.c, &j->read))
        api_job_drop(j);
}

void api_job_start(struct call *c, struct api_job *j,
                   void (*fn)(struct api_job *j, struct kadmin *a))
{
    const char *known = http_header(c->r, "If-None-Match");
    if (c->g->n && !klog_up(node_klog(c->g->n))) {
        api_later(c, 503, "GET /readyz tells when the log is back",
                  "this node does not reach the log");
        api_job_drop(j);
        return;
    }
    j->fn = fn;
    j->read.work = on_work;
    j->read.done = on_done;
    j->if_none_match = known ? strdup(known) : NULL;
    buf_init(&j->text, ANSWER_BYTES_MAX);
    if (!api_read_start(c, &j->read))
        api_job_drop(j);
}
