/* One event on its way: which agents it wakes, and the requests that come of it. A machine that
 * stops where an expression has to be evaluated in a child, or where the producer is full, and is
 * run again. Order inside a source partition is kept. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "flow/schema.h"
#include "triggers/dead.h"
#include "triggers/route_guess.h"
#include "triggers/recwire.h"
#include "triggers/request.h"
#include "triggers/router_int.h"

static struct slice put(char **at, struct slice s)
{
    struct slice r = {s.p ? *at : NULL, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return r;
}

struct job *job_new(struct rpart *p, const struct krec *r)
{
    struct job *j = calloc(1, sizeof *j);
    size_t n = r->topic.n + r->key.n + r->value.n + 1;
    for (size_t i = 0; i < r->nheaders; i++)
        n += r->headers[i].name.n + r->headers[i].value.n;
    if (!j || !(j->mem = malloc(n))) {
        free(j);
        return NULL;
    }
    char *at = j->mem;
    j->part = p;
    j->router = p->router;
    j->offset = r->offset;
    j->time_ms = r->time_ms;
    j->rec = *r;
    j->rec.topic = put(&at, r->topic);
    j->rec.key = put(&at, r->key);
    j->rec.value = put(&at, r->value);
    j->rec.headers = j->headers;
    for (size_t i = 0; i < r->nheaders && i < KREC_HEADERS_MAX; i++)
        j->headers[i] =
            (struct kheader){put(&at, r->headers[i].name), put(&at, r->headers[i].value)};
    list_init(&j->node);
    return j;
}

static void drop_candidates(struct job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        flow_unref(j->v[i].flow);
        free(j->v[i].id);
    }
    free(j->v);
    j->v = NULL;
    j->n = 0;
}

void job_free(struct job *j)
{
    list_del(&j->node);
    drop_candidates(j);
    event_free(&j->event);
    json_object_put(j->value);
    problem_free(&j->problem);
    free(j->key);
    free(j->mem);
    free(j);
}

/* ---- evaluations ---- */

static void on_value(void *arg, struct json_object *value, const struct err *e)
{
    struct job *j = arg;
    j->asked = false;
    if (!j->part) { /* the partition was taken away meanwhile */
        json_object_put(value);
        struct router *r = j->router;
        job_free(j);
        router_orphan_gone(r);
        return;
    }
    j->answered = true;
    j->value = value;
    err_clear(&j->error);
    if (e && e->code)
        j->error = *e;
    jobs_run(j->part);
}

/* 1: *ret (owned) is the value; 0: asked; negative: failed, e set. */
static int evaluate(struct job *j, const struct tmpl *t, struct json_object *in,
                    struct json_object **ret, struct err *e)
{
    struct expr_args a = {.present = 1u << VAR_KAFKA | 1u << VAR_RUNTIME | 1u << VAR_EVENT,
                          .now_ms = j->time_ms};
    a.var[VAR_KAFKA] = j->event.kafka;
    a.var[VAR_EVENT] = j->event.envelope;
    if (j->answered) {
        j->answered = false;
        *ret = j->value;
        j->value = NULL;
        if (j->error.code)
            *e = j->error;
        return j->error.code ? -EINVAL : 1;
    }
    if (tmpl_is_inline(t)) {
        int error = tmpl_eval_inline(t, in, &a, ret, e);
        return error == -ENOMEM ? 0 : error ? -EINVAL : 1; /* tried again at the next tick */
    }
    int error = evalpool_submit(j->router->o.pool, t, in, &a, on_value, j);
    if (error == -EAGAIN || error == -ENOMEM)
        return 0; /* the queue is full: tried again at the next tick */
    if (error)
        return err_set(e, error, NULL, "the expression can't be evaluated: %s", strerror(-error));
    j->asked = true;
    return 0;
}

/* ---- phases: 1 go on, 0 stop for now ---- */

static int dead(struct job *j, const char *name, const char *title, const struct err *e)
{
    if (problem_set(&j->problem, name, 0, title, "%s%s%s", e->msg, e->hint[0] ? "; " : "",
                    e->hint) < 0)
        return 0; /* a letter without its reason is none: tried again at the next tick */
    j->phase = JOB_DEAD;
    return 1;
}

static bool wanted(const struct job *j, const struct agent *a)
{
    const struct router_opts *o = &j->router->o;
    return route_reads(a, j->rec.topic) && (!o->only_agent || !strcmp(o->only_agent, a->id));
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)a)->id, ((const struct candidate *)b)->id);
}

static int phase_read(struct job *j)
{
    struct err e = {0};
    const struct agent *a;
    size_t pos = 0, n = 0;
    int error = event_read(&j->event, &j->rec, &e);
    if (error == -ENOMEM)
        return 0; /* tried again at the next tick */
    if (error)
        return dead(j, "validation", "the event can't be read", &e);
    while (defs_next(j->router->o.defs, &pos, &a))
        n += wanted(j, a);
    if (n && !(j->v = calloc(n, sizeof *j->v))) {
        event_free(&j->event);
        return 0;
    }
    pos = 0;
    while (n && defs_next(j->router->o.defs, &pos, &a))
        if (wanted(j, a))
            j->v[j->n++] = (struct candidate){flow_ref(a->flow), strdup(a->id)};
    for (size_t i = 0; i < j->n; i++)
        if (!j->v[i].id) {
            drop_candidates(j); /* read again at the next tick */
            event_free(&j->event);
            return 0;
        }
    if (j->n)
        qsort(j->v, j->n, sizeof *j->v, by_id);
    j->phase = JOB_SCHEMA;
    return 1;
}

/* The event as a whole is set aside: no agent's letter. */
static int unfit(struct job *j, const char *title, const char *detail, int n)
{
    problem_set(&j->problem, "validation", 0, title, "%.*s", n, detail);
    j->i = j->n;
    j->phase = JOB_DEAD;
    return 1;
}

static int unfit_list(struct job *j, struct json_object *problems)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_adds(&b, "the topic's schema: ");
    schema_explain(problems, &b);
    json_object_put(problems);
    int r = unfit(j, "the data does not fit the topic's schema", b.n ? b.p : "", (int)b.n);
    buf_free(&b);
    return r;
}

/* By the schema of the topic. A replay for agents that are not wanted here judges nothing. */
static int phase_schema(struct job *j)
{
    const struct tmpl *t = topic_schema(j->router->o.schemas, j->rec.topic);
    struct json_object *problems = NULL, *envelope = j->event.envelope;
    struct err e = {0};
    j->phase = j->n ? JOB_FILTER : JOB_DONE;
    if (!t || (!j->n && j->router->o.ranges))
        return 1;
    if (json_object_object_get_ex(envelope, "data_base64", NULL)) {
        static const char why[] = "the topic's schema needs JSON, but the content type is another";
        return unfit(j, "the data does not fit the topic's schema", why, (int)strlen(why));
    }
    int r = evaluate(j, t, js_get(envelope, "data"), &problems, &e);
    if (r == 0) {
        j->phase = JOB_SCHEMA;
        return 0;
    }
    if (r < 0)
        return unfit(j, "the data can't be judged by the topic's schema", e.msg,
                     (int)strlen(e.msg));
    if (json_object_array_length(problems))
        return unfit_list(j, problems);
    json_object_put(problems);
    return 1;
}

static int next_candidate(struct job *j)
{
    j->filter = j->attr = 0;
    j->phase = ++j->i < j->n ? JOB_FILTER : JOB_DONE;
    return 1;
}

/* The attributes of a filter that only a child can evaluate; all others have matched. 1 yes, 0 no,
 * -EINPROGRESS asked, -EINVAL. */
static int match_in_child(struct job *j, const struct filter *f, struct err *e)
{
    for (; j->attr < f->n; j->attr++) {
        const struct filter_attr *at = &f->v[j->attr];
        struct json_object *v = NULL;
        if (at->kind != MATCH_EXPR || tmpl_is_inline(at->expr))
            continue;
        struct json_object *in =
            !strcmp(at->name, "data") ? js_get(j->event.envelope, "data") : j->event.envelope;
        int r = evaluate(j, at->expr, in, &v, e);
        if (r <= 0)
            return r < 0 ? -EINVAL : -EINPROGRESS;
        bool yes = js_truthy(v);
        json_object_put(v);
        if (!yes)
            return 0;
    }
    return 1;
}

static int phase_filter(struct job *j)
{
    const struct flow_schedule *s = &flow_info(j->v[j->i].flow)->schedule;
    if (s->any_event) {
        j->phase = JOB_KEY;
        return 1;
    }
    for (; j->filter < s->nfilters; j->filter++, j->attr = 0) {
        struct err e = {0};
        const struct filter *f = &s->filters[j->filter];
        int r = j->attr || j->answered ? -EINPROGRESS : filter_match(f, j->event.envelope, &e);
        if (r == -EINPROGRESS)
            r = match_in_child(j, f, &e);
        if (r == -EINPROGRESS || r == -ENOMEM)
            return 0;
        if (r < 0) /* an expression that fails does not match; it must not hold up other agents */
            log_warn(j->router->o.log, "event filter failed, taken as no match",
                     "agent=%s topic=%s partition=%d offset=%" PRId64 " error=%s",
                     log_q(j->v[j->i].id), log_qs(j->rec.topic), j->rec.partition, j->offset,
                     log_q(e.msg));
        if (r == 1) {
            j->phase = JOB_KEY;
            j->attr = 0;
            return 1;
        }
    }
    return next_candidate(j);
}

static char *key_text(struct json_object *v)
{
    const char *text = json_object_get_string(v);
    return text ? strdup(text) : NULL;
}

static int phase_key(struct job *j)
{
    const struct flow_info *fi = flow_info(j->v[j->i].flow);
    struct json_object *v = NULL;
    struct err e = {0};
    if (fi->key) {
        int r = evaluate(j, fi->key, j->event.envelope, &v, &e);
        if (r == 0)
            return 0;
        if (r < 0)
            return dead(j, "expression", "the key expression failed", &e);
    }
    if (v &&
        (json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array))) {
        err_set(&e, -EINVAL, "use a text, a number or a boolean, such as .subject",
                "the key is an %s", js_kind(v));
        json_object_put(v);
        return dead(j, "expression", "the key is not a scalar", &e);
    }
    free(j->key);
    j->key = v ? key_text(v) : j->rec.key.p ? sl_dup(j->rec.key) : strdup(j->event.id);
    json_object_put(v);
    if (!j->key)
        return 0; /* another key would be another partition: tried again at the next tick */
    j->phase = JOB_SEND;
    return 1;
}

static struct json_object *input_of(const struct job *j, const struct flow_schedule *s)
{
    struct json_object *list = json_object_new_array(), *item;
    if (s->read == READ_RAW)
        item = json_object_get(j->event.raw);
    else if (s->read == READ_ENVELOPE)
        item = json_object_get(j->event.envelope);
    else if (!json_object_object_get_ex(j->event.envelope, "data", &item))
        item = json_object_get(js_get(j->event.envelope, "data_base64"));
    else
        item = json_object_get(item);
    if (list && json_object_array_add(list, item) == 0)
        return list;
    json_object_put(item);
    json_object_put(list);
    return NULL;
}

static struct json_object *attributes_of(const struct job *j)
{
    struct json_object *o = json_object_new_object();
    int error = 0;
    json_object_object_foreach(j->event.envelope, key, v)
    {
        if (strcmp(key, "data") && strcmp(key, "data_base64"))
            error |= js_put(o, key, json_object_get(v));
    }
    if (!error)
        return o;
    json_object_put(o);
    return NULL;
}

static void make_id(const struct job *j, const struct candidate *c, int partition,
                    char out[RUN_ID_MAX])
{
    char source[NAME_MAX_BYTES + 64];
    snprintf(source, sizeof source, "%.*s/%016" PRIx64, SL_ARG(j->rec.topic), j->part->incarnation);
    run_id_make(out, partition, sl_str(c->id), sl_str(j->router->o.feed),
                j->event.ce ? sl_str(j->event.source) : sl_str(source), sl_str(j->event.id));
}

static int send_record(struct job *j, struct rec *r, int partition)
{
    struct recwire w;
    struct krec k;
    int error = recwire_make(&w, r, j->router->o.names->runs, partition, &k);
    if (error)
        return error;
    error = router_send(j->part, j->offset, &k);
    recwire_free(&w);
    return error;
}

static int phase_send(struct job *j)
{
    const struct candidate *c = &j->v[j->i];
    const struct flow_info *fi = flow_info(c->flow);
    char id[RUN_ID_MAX];
    struct err e = {0};
    struct rec *r = NULL;
    int partition =
        run_partition(sl_str(c->id), sl_str(j->key ? j->key : ""), j->router->o.journal_partitions);
    make_id(j, c, partition, id);
    struct json_object *input = input_of(j, &fi->schedule), *event = attributes_of(j);
    if (!input || !event) {
        json_object_put(input);
        json_object_put(event);
        return 0; /* no memory: tried again at the next tick */
    }
    struct request q = {.agent = c->id,
                        .version = fi->version,
                        .hash = fi->hash,
                        .key = j->key,
                        .input = input,
                        .event = event,
                        .run_id = id,
                        .traceparent = j->event.traceparent,
                        .priority = fi->priority,
                        .src_name = j->part->src_name,
                        .src_offset = j->offset,
                        .floor = j->part->route.committed,
                        .time_ms = clock_wall_ms()};
    int error = request_make(&q, &r, &e);
    json_object_put(input);
    json_object_put(event);
    if (!error)
        error = send_record(j, r, partition);
    rec_unref(r);
    if (error == -EAGAIN || error == -ENOMEM)
        return 0; /* tried again at the next tick */
    if (error) {
        if (!e.code)
            err_set(&e, error, "keep large data outside and publish a reference to it",
                    "the request can't be written: %s", strerror(-error));
        return dead(j, "validation", "the request is too large", &e);
    }
    j->router->routed++;
    return next_candidate(j);
}

/* An event that can't be read is one dead letter; one that fails for an agent (its key expression,
 * its size) is a letter for that agent, and the others have theirs. */
static int phase_dead(struct job *j)
{
    char key[NAME_MAX_BYTES + 128 + 2 * FLOW_NAME_MAX], origin[NAME_MAX_BYTES + 64];
    struct kheader h[DEAD_HEADERS_MAX];
    struct krec k;
    struct buf mem;
    struct json_object *p = problem_json(&j->problem);
    const char *why = p ? json_object_to_json_string_ext(p, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE)
                        : NULL;
    const char *agent = j->i < j->n ? j->v[j->i].id : NULL;
    snprintf(key, sizeof key, "event/%s/%.*s/%d/%" PRId64 "%s%s", j->router->o.feed,
             SL_ARG(j->rec.topic), j->rec.partition, j->offset, agent ? "/" : "",
             agent ? agent : "");
    snprintf(origin, sizeof origin, "%.*s/%d/%" PRId64, SL_ARG(j->rec.topic), j->rec.partition,
             j->offset);
    struct dead_letter d = {.kind = "event",
                            .error_json = why,
                            .origin = origin,
                            .feed = j->router->o.feed,
                            .attempts = 1,
                            .time_ms = clock_wall_ms(),
                            .agent = agent};
    buf_init(&mem, DEAD_MEM_MAX);
    int error = why ? dead_make(&k, h, &mem, j->router->o.names->dlq, &d, &j->rec, sl_str(key),
                                j->rec.value)
                    : -ENOMEM;
    if (!error)
        error = router_send(j->part, j->offset, &k);
    buf_free(&mem);
    json_object_put(p);
    if (error)
        return 0;
    log_warn(j->router->o.log, "event set aside as a dead letter",
             "topic=%s partition=%d offset=%" PRId64 " error=%s", log_qs(j->rec.topic),
             j->rec.partition, j->offset, log_q(j->problem.detail));
    j->router->dead++;
    problem_free(&j->problem);
    memset(&j->problem, 0, sizeof j->problem);
    return next_candidate(j); /* none is left when the event could not be read */
}

static int (*const phases[])(struct job *) = {
    [JOB_READ] = phase_read, [JOB_SCHEMA] = phase_schema, [JOB_FILTER] = phase_filter,
    [JOB_KEY] = phase_key,   [JOB_SEND] = phase_send,     [JOB_DEAD] = phase_dead,
};

/* Nothing is judged before the table of agents is here: an event would pass as one that wakes
 * nobody, and be committed. The router's tick comes back to what waits. */
void jobs_run(struct rpart *p)
{
    if (!defs_ready(p->router->o.defs))
        return;
    while (p->ready && !list_empty(&p->jobs) && !router_full(p->router)) {
        struct job *j = LIST_ENTRY(p->jobs.next, struct job, node);
        if (j->asked)
            return;
        while (j->phase != JOB_DONE)
            if (!phases[j->phase](j))
                return;
        route_release(&p->route, j->offset);
        p->njobs--;
        job_free(j);
    }
}
