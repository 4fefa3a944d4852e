/* See cloudevent.h. */
#include "gateway/cloudevent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hash.h"
#include "gateway/route.h"

#define MEDIA_TYPE     "application/cloudevents"
#define NAME_MAX_CHARS 60 /* of an attribute; the specification asks for 20 */

static bool type_starts(const char *type, const char *with)
{
    return type && !strncasecmp(type, with, strlen(with));
}

static void on_mode(void *arg, const char *name, const char *value)
{
    (void)value;
    if (!strncasecmp(name, "ce-", 3))
        *(enum ce_mode *)arg = CE_BINARY;
}

enum ce_mode ce_mode(const struct http_request *r)
{
    const char *type = http_header(r, "Content-Type");
    enum ce_mode m = CE_NONE;
    if (type_starts(type, MEDIA_TYPE "-batch"))
        return CE_BATCH;
    if (type_starts(type, MEDIA_TYPE))
        return CE_STRUCTURED;
    http_headers(r, on_mode, &m);
    return m;
}

/* ---- attributes from headers ---- */

struct reading {
    struct ce_record *x;
    struct err *e;
    int error;
};

static int fail(struct reading *d, const char *hint, const char *what, const char *name)
{
    return d->error = err_set(d->e, -EPROTO, hint, "the header %.80s %s", name, what);
}

/* A double-quoted string without its quotes and backslashes (RFC 9110, section 5.6.4), which older
 * senders write; anything else as it is. In place. */
static struct slice unquote(char *v)
{
    size_t n = strlen(v), to = 0;
    if (n < 2 || v[0] != '"' || v[n - 1] != '"')
        return sl(v, n);
    for (size_t i = 1; i < n - 1; i++) {
        if (v[i] == '\\' && i + 1 < n - 1)
            i++;
        v[to++] = v[i];
    }
    return sl(v, to);
}

static bool is_name(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(s);
}

/* Takes over name and value. */
static int add(struct reading *d, char *name, char *value)
{
    struct ce_record *x = d->x;
    x->mem[x->nmem++] = name;
    x->mem[x->nmem++] = value;
    for (size_t i = 0; i < x->k.nheaders; i++)
        if (sl_is(x->headers[i].name, name))
            return fail(d, "send each attribute once", "stands twice", name);
    x->headers[x->k.nheaders++] = (struct kheader){sl_str(name), sl_str(value)};
    return 0;
}

static void on_header(void *arg, const char *name, const char *value)
{
    struct reading *d = arg;
    char *copy = NULL, *key = NULL, *text = NULL;
    bool attribute = !strncasecmp(name, "ce-", 3);
    if (d->error || (!attribute && strcasecmp(name, "traceparent")))
        return;
    if (d->x->k.nheaders == KREC_HEADERS_MAX - 1) { /* one is for the content type */
        (void)fail(d, "at most 62 attributes", "is one too many", name);
        return;
    }
    if (!(copy = strdup(value)) || !(key = strdup(name))) {
        free(copy);
        d->error = -ENOMEM;
        return;
    }
    for (char *p = key; *p; p++)
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 'a' - 'A' : *p);
    int status = route_decode(unquote(copy), &text);
    free(copy);
    if (attribute)
        key[2] = '_';
    if (status == 500)
        d->error = -ENOMEM;
    else if (status || !utf8_valid(sl_str(text)))
        (void)fail(d, "percent-encode its UTF-8 bytes, as the HTTP binding says",
                   "can't be decoded", name);
    else if (attribute && (!is_name(key + 3) || strlen(key) > NAME_MAX_CHARS))
        (void)fail(d, "lower-case letters and digits, at most 20 of them",
                   "is no name of an attribute", name);
    else if (attribute && !strcmp(key, "ce_datacontenttype"))
        (void)fail(d, "Content-Type says it", "must not be there in binary mode", name);
    else {
        (void)add(d, key, text);
        return;
    }
    free(key);
    free(text);
}

static int read_binary(const struct http_request *r, struct ce_record *x, struct err *e)
{
    static const char *const needed[] = {"ce_specversion", "ce_id", "ce_source", "ce_type"};
    struct reading d = {x, e, 0};
    http_headers(r, on_header, &d);
    for (size_t i = 0; i < 4 && !d.error; i++) {
        size_t k = 0;
        while (k < x->k.nheaders && !sl_is(x->headers[k].name, needed[i]))
            k++;
        if (k == x->k.nheaders || !x->headers[k].value.n)
            d.error = err_set(e, -EPROTO,
                              "send ce-specversion, ce-id, ce-source and ce-type, or "
                              "application/cloudevents+json",
                              "the CloudEvent has no header ce-%s", needed[i] + 3);
        else if (!i && !sl_is(x->headers[k].value, "1.0"))
            d.error = err_set(e, -EPROTO, "send ce-specversion: 1.0",
                              "the version of CloudEvents is not 1.0");
    }
    return d.error;
}

/* ---- the record ---- */

int ce_record(const struct http_request *r, struct ce_record *ret, struct err *e)
{
    const char *type = http_header(r, "Content-Type");
    enum ce_mode m = ce_mode(r);
    int error = 0;
    memset(ret, 0, sizeof *ret);
    ret->k.headers = ret->headers;
    ret->k.value = http_body(r);
    if (m == CE_STRUCTURED && !type_starts(type, MEDIA_TYPE "+json"))
        return err_set(e, -ENOTSUP, "send application/cloudevents+json",
                       "CloudEvents are read in the JSON format only, not as %.80s", type);
    if (m == CE_BATCH)
        return err_set(e, -ENOTSUP, "send one event, as application/cloudevents+json",
                       "a batch of events is not taken here");
    if (m != CE_STRUCTURED)
        error = read_binary(r, ret, e);
    if (!error && type)
        ret->headers[ret->k.nheaders++] = (struct kheader){SL("content-type"), sl_str(type)};
    if (error == -ENOMEM)
        err_set(e, error, "try again", "no memory for the event");
    if (error)
        ce_record_free(ret);
    return error;
}

void ce_record_free(struct ce_record *x)
{
    for (size_t i = 0; i < x->nmem; i++)
        free(x->mem[i]);
    x->nmem = 0;
}
