/* See event.h. CloudEvents 1.0, Kafka protocol binding sections 3.1 (content modes) and 3.2
 * (binary), JSON event format section 3.1. */
#include "triggers/event.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/hash.h"

static struct slice header(const struct krec *r, const char *name)
{
    for (size_t i = 0; i < r->nheaders; i++)
        if (sl_is(r->headers[i].name, name) && r->headers[i].value.p)
            return r->headers[i].value;
    return (struct slice){NULL, 0};
}

static struct json_object *text_or_base64(struct slice s, bool is_text)
{
    struct buf b;
    struct json_object *o = NULL;
    if (is_text)
        return json_object_new_string_len(s.n ? s.p : "", (int)s.n);
    buf_init(&b, 2 * EVENT_BYTES_MAX);
    if (base64_write(&b, s) == 0)
        o = json_object_new_string_len(b.n ? b.p : "", (int)b.n);
    buf_free(&b);
    return o;
}

/* NULL: no memory. */
static struct json_object *text(struct slice s)
{
    return text_or_base64(s, utf8_valid(s));
}

/* Takes over v, which is NULL when memory ran out. */
static int add(struct json_object *o, const char *key, struct json_object *v)
{
    if (v && json_object_object_add(o, key, v) == 0)
        return 0;
    json_object_put(v);
    return -ENOMEM;
}

/* A null slice adds nothing. */
static int add_text(struct json_object *o, const char *key, struct slice v)
{
    return v.p ? add(o, key, text(v)) : 0;
}

/* A null slice adds null. */
static int add_nullable(struct json_object *o, const char *key, struct slice v)
{
    return v.p ? add(o, key, text(v)) : json_object_object_add(o, key, NULL) ? -ENOMEM : 0;
}

/* "application/json", "application/x+json", with parameters. */
static bool is_json_type(struct slice type)
{
    ptrdiff_t semi = sl_find(type, ';');
    struct slice t = sl_trim(semi >= 0 ? sl(type.p, (size_t)semi) : type);
    return (t.n == 16 && !strncasecmp(t.p, "application/json", 16)) ||
           (t.n == 9 && !strncasecmp(t.p, "text/json", 9)) ||
           (t.n > 5 && !strncasecmp(t.p + t.n - 5, "+json", 5));
}

static int add_json(struct event *ev, struct slice value, struct err *e)
{
    struct json_object *data = NULL;
    struct err inner = {0};
    int error = js_parse(value, &data, &inner);
    if (error == -ENOMEM)
        return error;
    if (error)
        return err_set(e, -EBADMSG,
                       "send JSON, or name another content type in the header content-type",
                       "the event's data is not JSON: %s (line %d, column %d)", inner.msg,
                       inner.line, inner.col);
    if (json_object_object_add(ev->envelope, "data", data) == 0)
        return 0;
    json_object_put(data);
    return -ENOMEM;
}

static int add_data(struct event *ev, const struct krec *r, struct slice type, struct err *e)
{
    if (!r->value.p)
        return 0;
    if (!type.p || is_json_type(type))
        return add_json(ev, r->value, e);
    if (type.n >= 5 && !strncasecmp(type.p, "text/", 5) && utf8_valid(r->value))
        return add_text(ev->envelope, "data", r->value);
    return add(ev->envelope, "data_base64", text_or_base64(r->value, false));
}

/* Two names that are no text could be written as the same text, and JSON takes a key but once. */
static bool is_name(struct slice name)
{
    return utf8_valid(name) && (!name.n || !memchr(name.p, 0, name.n));
}

static int read_binary(struct event *ev, const struct krec *r, struct err *e)
{
    char name[64];
    int error = 0;
    for (size_t i = 0; i < r->nheaders && !error; i++) {
        struct slice n = r->headers[i].name;
        if (!sl_starts(n, SL("ce_")) || n.n == 3 || n.n - 3 >= sizeof name || !is_name(n))
            continue;
        for (size_t k = 0; k < n.n - 3; k++)
            name[k] = (char)tolower((unsigned char)n.p[k + 3]);
        name[n.n - 3] = 0;
        error = add_text(ev->envelope, name, r->headers[i].value);
    }
    struct slice type = header(r, "content-type");
    if (!error)
        error = add_text(ev->envelope, "datacontenttype", type);
    return error ? error : add_data(ev, r, type, e);
}

static int read_structured(struct event *ev, const struct krec *r, struct err *e)
{
    struct err inner = {0};
    struct json_object *o = NULL;
    int error = js_parse(r->value, &o, &inner);
    if (error == -ENOMEM)
        return error;
    if (error || !json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        return err_set(e, -EBADMSG,
                       "structured mode needs one JSON object, see CloudEvents JSON format",
                       "the structured CloudEvent is not a JSON object: %s", inner.msg);
    }
    json_object_put(ev->envelope);
    ev->envelope = o;
    return 0;
}

static int read_plain(struct event *ev, const struct krec *r, struct err *e)
{
    char id[64];
    struct slice type = header(r, "content-type");
    snprintf(id, sizeof id, "%d/%lld", r->partition, (long long)r->offset);
    int error = add_text(ev->envelope, "specversion", SL("1.0"));
    if (!error)
        error = add_text(ev->envelope, "id", sl_str(id));
    if (!error)
        error = add_text(ev->envelope, "source", r->topic);
    if (!error)
        error = add_text(ev->envelope, "type", r->topic);
    if (!error)
        error = add_text(ev->envelope, "datacontenttype", type);
    return error ? error : add_data(ev, r, type, e);
}

static int add_header(struct json_object *o, const struct kheader *h)
{
    struct json_object *name = text_or_base64(h->name, is_name(h->name));
    int error = name ? add_nullable(o, json_object_get_string(name), h->value) : -ENOMEM;
    json_object_put(name);
    return error;
}

static int add_place(struct json_object *k, const struct krec *r)
{
    int error = add_text(k, "topic", r->topic);
    if (!error)
        error = add(k, "partition", json_object_new_int(r->partition));
    if (!error)
        error = add(k, "offset", json_object_new_int64(r->offset));
    if (!error)
        error = add_nullable(k, "key", r->key);
    return error ? error : add(k, "timestamp", json_object_new_int64(r->time_ms));
}

static int make_kafka(struct event *ev, const struct krec *r)
{
    struct json_object *headers = json_object_new_object();
    int error =
        headers && (ev->kafka = json_object_new_object()) && (ev->raw = json_object_new_object())
            ? 0
            : -ENOMEM;
    if (!error)
        error = add_place(ev->kafka, r);
    if (!error)
        error = add_place(ev->raw, r);
    for (size_t i = 0; i < r->nheaders && !error; i++)
        error = add_header(headers, &r->headers[i]);
    if (!error)
        error = add(ev->raw, "headers", json_object_get(headers));
    json_object_put(headers);
    return error ? error : add_nullable(ev->raw, "value", r->value);
}

static int check(struct event *ev, struct err *e)
{
    ev->id = js_str(ev->envelope, "id");
    ev->source = js_str(ev->envelope, "source");
    ev->type = js_str(ev->envelope, "type");
    if (!ev->id || !*ev->id || !ev->source || !*ev->source || !ev->type || !*ev->type)
        return err_set(e, -EPROTO,
                       "a CloudEvent needs id, source and type (headers ce_id, ce_source, ce_type)",
                       "the CloudEvent has no %s",
                       !ev->id || !*ev->id           ? "id"
                       : !ev->source || !*ev->source ? "source"
                                                     : "type");
    return 0;
}

int event_read(struct event *ev, const struct krec *r, struct err *e)
{
    memset(ev, 0, sizeof *ev);
    if (r->value.n > EVENT_BYTES_MAX)
        return err_set(e, -EMSGSIZE, "keep large data outside and publish a reference to it",
                       "the event has %zu bytes; the limit is %d", r->value.n, EVENT_BYTES_MAX);
    ev->envelope = json_object_new_object();
    struct slice type = header(r, "content-type");
    bool structured = sl_starts(type, SL("application/cloudevents"));
    int error;
    ev->ce = structured || header(r, "ce_specversion").p || header(r, "ce_id").p ||
             header(r, "ce_type").p;
    error = !ev->envelope ? -ENOMEM
            : structured  ? read_structured(ev, r, e)
            : ev->ce      ? read_binary(ev, r, e)
                          : read_plain(ev, r, e);
    if (!error)
        error = check(ev, e);
    if (!error)
        error = make_kafka(ev, r);
    if (error) {
        event_free(ev);
        return error == -ENOMEM
                   ? err_set(e, error, "give the process more memory", "no memory for the event")
                   : error;
    }
    ev->traceparent = js_str(ev->envelope, "traceparent");
    if (!ev->traceparent && js_str(js_get(ev->raw, "headers"), "traceparent"))
        ev->traceparent = js_str(js_get(ev->raw, "headers"), "traceparent");
    return 0;
}

void event_free(struct event *ev)
{
    json_object_put(ev->envelope);
    json_object_put(ev->raw);
    json_object_put(ev->kafka);
    memset(ev, 0, sizeof *ev);
}
