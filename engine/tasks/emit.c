/* emit: one CloudEvent, binary mode (CloudEvents Kafka binding 1.0.2), answered when the log has
 * acknowledged it. Loop's thread.
 * A run that is stopped before its acknowledgement leaves its struct sent behind, which the
 * producer's report frees: what is on its way can't be called back. One producer for all, made at
 * the first emit and made anew after it died. Invariant: sent.run is NULL or points back. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tasks/tasks_int.h"

#define EVENT_VALUE_MAX  (512 * 1024)
#define EVENT_HEADER_MAX (16 * 1024)
#define ATTRS_MAX        48

struct emitter {
    struct tasks *tasks;
    struct kprod *prod; /* NULL: to be made */
    struct loop_task renew;
};

struct emit_run;
struct sent {
    struct emit_run *run; /* NULL: nobody waits any more */
};
struct emit_run {
    struct task_run run; /* first */
    struct sent *sent;
    struct json_object *event; /* the output */
};

/* The event while it is being built: attributes in CloudEvents JSON, and its record. */
struct draft {
    struct json_object *event;
    struct buf headers; /* names and values, cut by `attrs` */
    struct {
        size_t name, name_n, value, value_n;
    } attrs[ATTRS_MAX];
    size_t nattrs;
    struct buf value;
    bool has_value;
    const char *topic;
};

#define REFUSE(p, ...) (problem_set((p), __VA_ARGS__) ? -ENOMEM : -EINVAL)

static void on_delivery(void *arg, void *opaque, int error, int partition, int64_t offset,
                        const char *why)
{
    struct emitter *e = arg;
    struct sent *s = opaque;
    struct emit_run *x = s->run;
    free(s);
    if (!x)
        return;
    x->sent = NULL;
    if (error) {
        task_fail(&x->run, "communication", 500, "Event not accepted",
                  "the log refused the event: %s", why ? why : strerror(-error));
        return;
    }
    log_debug(e->tasks->o.log, "emitted", "run=%s task=%s partition=%d offset=%lld",
              log_q(x->run.run_id), log_q(x->run.ref), partition, (long long)offset);
    struct json_object *event = x->event;
    x->event = NULL;
    task_finish(&x->run, event);
}

static void on_renew(struct loop_task *lt)
{
    struct emitter *e = LIST_ENTRY(lt, struct emitter, renew);
    struct kprod *dead = e->prod;
    e->prod = NULL;
    kprod_free(dead, false);
}

static void on_fatal(void *arg, const char *why)
{
    struct emitter *e = arg;
    log_warn(e->tasks->o.log, "the producer of events died and is made anew", "why=%s", log_q(why));
    loop_later(e->tasks->o.loop, &e->renew); /* not from inside its own callback */
}

static struct kprod *producer(struct tasks *t, struct err *err)
{
    struct emitter *e = t->emitter;
    if (!e) {
        e = calloc(1, sizeof *e);
        if (!e) {
            err_set(err, -ENOMEM, "give the process more memory", "no memory for a producer");
            return NULL;
        }
        e->tasks = t;
        e->renew.fn = on_renew;
        t->emitter = e;
    }
    if (!e->prod) {
        struct kprod_opts o = {.kind = KPROD_PLAIN,
                               .on_delivery = on_delivery,
                               .on_fatal = on_fatal,
                               .arg = e};
        e->prod = kprod_new(t->o.klog, &o, err);
    }
    return e->prod;
}

/* All runs were freed before, so no report has anyone to tell; silent would leak their structs. */
struct emitter *emitter_free(struct emitter *e)
{
    if (!e)
        return NULL;
    loop_task_cancel(&e->renew);
    if (e->prod)
        kprod_free(e->prod, false);
    free(e);
    return NULL;
}

static int add_member(struct json_object *o, const char *key, struct json_object *v)
{
    if (v && !json_object_object_add(o, key, v))
        return 0;
    json_object_put(v);
    return -ENOMEM;
}

/* Notes one header; value is copied. */
static int add_header(struct draft *d, const char *prefix, const char *name, struct slice value,
                      struct problem *p)
{
    if (d->nattrs == ATTRS_MAX)
        return REFUSE(p, "validation", 0, NULL, "an event with more than %d attributes", ATTRS_MAX);
    size_t at = d->headers.n;
    buf_adds(&d->headers, prefix);
    buf_adds(&d->headers, name);
    size_t mid = d->headers.n;
    if (buf_add_slice(&d->headers, value) == -ENOBUFS)
        return REFUSE(p, "validation", 0, NULL,
                      "the attributes of the event are larger than %d bytes", EVENT_HEADER_MAX);
    d->attrs[d->nattrs].name = at;
    d->attrs[d->nattrs].name_n = mid - at;
    d->attrs[d->nattrs].value = mid;
    d->attrs[d->nattrs++].value_n = value.n;
    return buf_error(&d->headers);
}

static int add_text_attr(struct draft *d, const char *name, const char *text, struct problem *p)
{
    int rc = add_member(d->event, name, json_object_new_string(text));
    return rc ? rc : add_header(d, "ce_", name, sl_str(text), p);
}

static bool attr_name(const char *s)
{
    if (!*s || strlen(s) > 64)
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9')))
            return false;
    return true;
}

/* id, source, time and specversion: as given, else the run's own deterministic ones. */
static int add_required(struct draft *d, const struct task_call *c, struct problem *p)
{
    const char *type = js_str(c->with, "type"), *id = js_str(c->with, "id");
    const char *source = js_str(c->with, "source"), *time = js_str(c->with, "time");
    char now[TIME_TEXT_MAX];
    int64_t at;
    if (!type || !*type)
        return REFUSE(p, "expression", 0, NULL,
                      "the type of the event is %s; give text that is not empty",
                      js_kind(js_get(c->with, "type")));
    if (time && time_read(sl_str(time), &at))
        return REFUSE(p, "expression", 0, NULL,
                      "the time '%s' of the event is not an RFC 3339 date-time", time);
    time_write(now, c->event_time_ms);
    int rc = add_text_attr(d, "specversion", "1.0", p);
    if (!rc)
        rc = add_text_attr(d, "id", id && *id ? id : c->event_id, p);
    if (!rc)
        rc = add_text_attr(d, "source", source && *source ? source : c->event_source, p);
    if (!rc)
        rc = add_text_attr(d, "type", type, p);
    return rc ? rc : add_text_attr(d, "time", time ? time : now, p);
}

static bool one_of(const char *s, const char *const *v)
{
    for (; *v; v++)
        if (!strcmp(s, *v))
            return true;
    return false;
}

static int add_others(struct draft *d, struct json_object *with, struct problem *p)
{
    static const char *const apart[] = {"specversion", "id",   "source",          "type",
                                        "time",        "data", "datacontenttype", "$input",
                                        NULL};
    json_object_object_foreach(with, name, v)
    {
        if (one_of(name, apart) || !v)
            continue;
        if (!attr_name(name))
            return REFUSE(
                p, "validation", 0, NULL,
                "'%s' is not a name of a CloudEvents attribute; use lower-case letters and "
                "digits",
                name);
        struct buf b;
        buf_init(&b, EVENT_HEADER_MAX);
        int rc = task_scalar(v, &b);
        if (!rc && json_object_is_type(v, json_type_double))
            rc = -EINVAL;
        if (rc == -EINVAL)
            rc = REFUSE(p, "validation", 0, NULL,
                        "the attribute '%s' of the event is neither text, integer nor boolean",
                        name);
        else if (rc == -ENOBUFS)
            rc = REFUSE(p, "validation", 0, NULL, "the attribute '%s' is too long", name);
        if (!rc)
            rc = add_member(d->event, name, json_object_get(v));
        if (!rc)
            rc = add_header(d, "ce_", name, buf_slice(&b), p);
        buf_free(&b);
        if (rc)
            return rc;
    }
    return 0;
}

static bool is_json_type(const char *type)
{
    size_t n = strcspn(type, "; ");
    struct slice s = sl(type, n);
    return sl_is(s, "application/json") || sl_is(s, "text/json") || sl_ends(s, SL("+json"));
}

static int add_data(struct draft *d, struct json_object *with, struct problem *p)
{
    struct json_object *data = NULL;
    bool given = json_object_object_get_ex(with, "data", &data);
    const char *type = js_str(with, "datacontenttype");
    if (!given && !type)
        return 0;
    if (!type)
        type = "application/json";
    int rc = add_member(d->event, "datacontenttype", json_object_new_string(type));
    if (!rc)
        rc = add_header(d, "", "content-type", sl_str(type), p);
    if (rc || !given)
        return rc;
    if (json_object_object_add(d->event, "data", json_object_get(data))) {
        json_object_put(data);
        return -ENOMEM;
    }
    d->has_value = true;
    rc = !is_json_type(type) && json_object_is_type(data, json_type_string)
             ? task_scalar(data, &d->value)
             : js_write(data, &d->value);
    if (rc == -ENOBUFS)
        return REFUSE(
            p, "validation", 0, NULL,
            "the data of the event are larger than %d bytes; store them elsewhere and send "
            "the address",
            EVENT_VALUE_MAX);
    return rc;
}

/* DECISIONS 11. */
static int find_topic(struct draft *d, const struct tasks *t, const struct task_call *c,
                      struct problem *p)
{
    const char *type = js_str(c->with, "type");
    const struct config_topic *topic = type ? config_topic_of_type(t->o.config, type) : NULL;
    d->topic = c->task->emit_topic ? c->task->emit_topic
               : topic             ? topic->name
                                   : t->o.config->events_default;
    if (d->topic)
        return 0;
    return REFUSE(
        p, "configuration", 0, "No topic",
        "no topic declares the event type '%s'; name it in topics/, set metadata.tidemark.topic "
        "at the task, or events.default in tidemark.yaml",
        type ? type : "");
}

static int build(struct draft *d, const struct tasks *t, const struct task_call *c,
                 struct problem *p)
{
    d->event = json_object_new_object();
    if (!d->event)
        return -ENOMEM;
    int rc = find_topic(d, t, c, p);
    if (!rc)
        rc = add_required(d, c, p);
    if (!rc)
        rc = add_others(d, c->with, p);
    if (!rc && c->traceparent && !js_get(c->with, "traceparent"))
        rc = add_text_attr(d, "traceparent", c->traceparent, p);
    return rc ? rc : add_data(d, c->with, p);
}

static int send_draft(struct emit_run *x, const struct draft *d, const char *key)
{
    struct err err = {0};
    struct tasks *t = x->run.tasks;
    struct kprod *prod = producer(t, &err);
    if (!prod) {
        if (err.code == -ENOMEM)
            return -ENOMEM;
        task_fail(&x->run, "communication", 500, NULL, "%s%s%s", err.msg, err.hint[0] ? "; " : "",
                  err.hint);
        return 0;
    }
    struct kheader headers[ATTRS_MAX];
    for (size_t i = 0; i < d->nattrs; i++) {
        headers[i].name = sl(d->headers.p + d->attrs[i].name, d->attrs[i].name_n);
        headers[i].value = sl(d->headers.p + d->attrs[i].value, d->attrs[i].value_n);
    }
    struct krec r = {.topic = sl_str(d->topic),
                     .partition = -1,
                     .time_ms = loop_wall(t->o.loop),
                     .key = sl_str(key),
                     .headers = headers,
                     .nheaders = d->nattrs};
    if (d->has_value)
        r.value = buf_slice(&d->value);
    if (!(x->sent = calloc(1, sizeof *x->sent)))
        return -ENOMEM;
    x->sent->run = x;
    int rc = kprod_send(prod, &r, x->sent);
    if (!rc)
        return 0;
    free(x->sent);
    x->sent = NULL;
    if (rc == -EAGAIN || rc == -ENOMEM)
        return rc;
    task_fail(&x->run, rc == -EMSGSIZE ? "validation" : "communication", 0, NULL,
              "the log does not take the event for topic %s: %s", d->topic, strerror(-rc));
    return 0;
}

static int start(struct task_run *r, const struct task_call *c)
{
    struct emit_run *x = (struct emit_run *)r;
    if (!r->tasks->o.klog) {
        task_fail(r, "configuration", 0, "No log",
                  "there is no log to emit to; start the agent under tidemark dev or serve");
        return 0;
    }
    struct draft d = {0};
    struct problem p = {0};
    buf_init(&d.headers, EVENT_HEADER_MAX);
    buf_init(&d.value, EVENT_VALUE_MAX);
    int rc = build(&d, r->tasks, c, &p);
    if (rc == -EINVAL) {
        task_fail(r, strrchr(p.type, '/') + 1, p.status, p.title, "%s", p.detail ? p.detail : "");
        json_object_put(d.event);
        rc = 0;
    } else {
        x->event = d.event;
        if (!rc)
            rc = send_draft(x, &d, c->run_key);
    }
    problem_free(&p);
    buf_free(&d.headers);
    buf_free(&d.value);
    return rc;
}

static void stop(struct task_run *r)
{
    struct emit_run *x = (struct emit_run *)r;
    if (x->sent)
        x->sent->run = NULL;
    x->sent = NULL;
    json_object_put(x->event);
    x->event = NULL;
}

const struct task_kind task_emit = {"emit", sizeof(struct emit_run), start, stop};
