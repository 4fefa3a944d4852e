/* What core asks for, carried out: appends, evaluations, effects, dead letters, floors (struct
 * part_ops, core/part.h).
 *
 * Nothing here calls back into a part from inside an operation: answers come in later turns. An
 * answer names partition, assignment, run and work id, so that one that is too late is dropped. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/secret.h"
#include "node/node_int.h"
#include "triggers/dead.h"
#include "triggers/recwire.h"

/* ---- append ---- */

struct fact_sent {
    struct sent sent; /* first, as for every opaque of a producer */
    struct node *node;
    struct rec *rec;
    int partition;
    uint64_t generation;
};

static void on_fact(struct sent *s, int error, int partition, int64_t offset, const char *why)
{
    struct fact_sent *f = LIST_ENTRY(s, struct fact_sent, sent);
    struct node *n = f->node;
    struct npart *np = node_part(n, f->partition, f->generation);
    if (error && error != -ECANCELED) {
        claims_journal_lost(n, why ? why : strerror(-error));
    } else if (np && !error) {
        FAILPOINT_OF("fact-acked", rec_type_name(f->rec->type), f->rec->run);
        part_now(np->part);
        enum part_status before = np->part->status;
        if (part_acked(np->part, f->rec, offset) < 0)
            claims_no_memory(np);
        claims_owned(np, before);
        FAILPOINT_OF("fact-kept", rec_type_name(f->rec->type), f->rec->run);
        node_wake(n);
    }
    rec_unref(f->rec);
    free(f);
}

static struct npart *npart_of(struct node *n, struct part *p)
{
    return n->parts[p->o.partition];
}

static bool op_room(void *arg, struct part *p)
{
    struct node *n = arg;
    return n->journal && !n->journal_lost && kprod_inflight(n->journal) < 50000 &&
           evalpool_room(n->evals);
}

static int op_append(void *arg, struct part *p, struct rec *r)
{
    struct node *n = arg;
    struct recwire w;
    struct krec k;
    if (!n->journal || n->journal_lost)
        return -EPIPE;
    int error = recwire_make(&w, r, n->names.runs, p->o.partition, &k);
    if (error)
        return error;
    struct fact_sent *f = calloc(1, sizeof *f);
    error = f ? 0 : -ENOMEM;
    if (f) {
        *f = (struct fact_sent){
            {on_fact}, n, rec_ref(r), p->o.partition, npart_of(n, p)->generation};
        FAILPOINT_OF("append", rec_type_name(r->type), r->run);
        error = kprod_send(n->journal, &k, &f->sent);
        FAILPOINT_OF("appended", rec_type_name(r->type), r->run);
    }
    if (error && f) {
        rec_unref(r);
        free(f);
    }
    recwire_free(&w);
    return error;
}

/* ---- evaluate ---- */

struct eval_wait {
    struct list node;
    struct node *owner;
    int partition;
    uint64_t generation, work_id;
    char run[RUN_ID_MAX];
};

static void on_value(void *arg, struct json_object *value, const struct err *e)
{
    struct eval_wait *w = arg;
    struct npart *np = node_part(w->owner, w->partition, w->generation);
    if (np) {
        part_now(np->part);
        part_evaluated(np->part, w->run, w->work_id, value, e);
        node_wake(w->owner);
    } else {
        json_object_put(value);
    }
    list_del(&w->node);
    free(w);
}

static int op_eval(void *arg, struct part *p, struct run *r, struct err *e)
{
    struct node *n = arg;
    struct eval_wait *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    *w = (struct eval_wait){.owner = n,
                            .partition = p->o.partition,
                            .generation = npart_of(n, p)->generation,
                            .work_id = r->work_id};
    memcpy(w->run, r->id, sizeof w->run);
    int error = evalpool_submit(n->evals, step_eval_tmpl(r->step), step_eval_input(r->step),
                                step_eval_args(r->step), on_value, w);
    if (error) {
        free(w);
        return err_set(e, error, "its input is too large, or it has too many expressions",
                       "the expression can't be evaluated: %s", strerror(-error));
    }
    list_push(&n->evals_pending, &w->node);
    return 0;
}

/* ---- effects ---- */

static void work_free(struct work *w)
{
    struct node *n = w->owner;
    sched_remove(&n->sched, &w->item);
    list_del(&w->node);
    if (map_get(&n->works_by_run, sl_str(w->run)) == w)
        map_del(&n->works_by_run, sl_str(w->run));
    flow_unref(w->flow);
    free(w->key);
    free(w->source);
    free(w);
}

static int op_effect(void *arg, struct part *p, struct run *r)
{
    struct node *n = arg;
    struct work *w = calloc(1, sizeof *w);
    if (!w || map_put(&n->works_by_run, sl_str(r->id), w, NULL) < 0) {
        free(w);
        return -ENOMEM;
    }
    w->owner = n;
    w->partition = p->o.partition;
    w->generation = npart_of(n, p)->generation;
    w->work_id = r->work_id;
    memcpy(w->run, r->id, sizeof w->run);
    w->flow = flow_ref(defs_flow(n->defs, r->spec.agent));
    w->priority = r->spec.priority;
    list_push(&n->works, &w->node);
    sched_add(&n->sched, &w->item, w->priority);
    return 0;
}

static void op_stop(void *arg, struct part *p, struct run *r)
{
    struct node *n = arg;
    struct work *w = map_get(&n->works_by_run, sl_str(r->id));
    if (!w || w->work_id != r->work_id)
        return;
    if (w->task)
        tasks_cancel(w->task);
    work_free(w);
}

static void on_effect(void *arg, struct json_object *output, const struct problem *p)
{
    struct work *w = arg;
    struct node *n = w->owner;
    struct npart *np = node_part(n, w->partition, w->generation);
    w->task = NULL;
    if (np) {
        part_now(np->part);
        part_effect_done(np->part, w->run, w->work_id, output, p);
    } else {
        json_object_put(output);
    }
    work_free(w);
    node_wake(n);
}

static char *origin_text(const struct run_state *st, const char *member)
{
    const char *v = js_str(val_tree(st->origin), member);
    return v ? strdup(v) : NULL;
}

/* A timeout of 0 ms is one, but 0 means none to a task. */
static int64_t limit_ms(const struct step *s)
{
    int64_t ms = step_timeout_ms(s);
    return ms < 0 ? 0 : ms == 0 ? 1 : ms;
}

/* Starts the effect: the lease was checked just before. */
static bool begin(struct work *w, struct run *r, const struct task *t)
{
    struct node *n = w->owner;
    const struct flow_info *fi = flow_info(w->flow);
    char source[3 * 80];
    snprintf(source, sizeof source, "/%s/%s/%s", fi->ns, fi->name, fi->version);
    idempotency_key(w->idem, r->id, r->spec.ref, r->spec.visit, r->spec.rewind);
    trace_task(w->trace, r->spec.traceparent, r->id, r->spec.ref, r->spec.visit, r->spec.attempt);
    w->key = origin_text(&r->spec, "key");
    w->source = strdup(source);
    struct task_call c = {.task = t,
                          .with = step_call(r->step),
                          .run_id = w->run,
                          .ref = r->spec.ref,
                          .idempotency_key = w->idem,
                          .traceparent = w->trace,
                          .run_key = w->key,
                          .event_source = w->source,
                          .event_id = w->idem,
                          .event_time_ms = r->spec.task_started_ms,
                          .attempt = r->spec.attempt,
                          .timeout_ms = limit_ms(r->step)};
    w->task = tasks_start(n->tasks, &c, on_effect, w);
    if (w->task)
        n->stats.effects++;
    return w->task != NULL;
}

/* It may not start now: back into its class, not before a while. */
static void put_back(struct work *w)
{
    sched_remove(&w->owner->sched, &w->item);
    free(w->key);
    free(w->source);
    w->key = w->source = NULL;
    w->not_before_ms = clock_boot_ms() + EFFECT_DELAY_MS;
}

static void start_work(struct node *n, struct work *w)
{
    struct npart *np = node_part(n, w->partition, w->generation);
    struct run *r = np ? part_run(np->part, w->run) : NULL;
    if (!r || r->busy != BUSY_EFFECT || r->work_id != w->work_id || !r->step) {
        work_free(w);
        return;
    }
    part_now(np->part);
    const struct task *t = flow_task(w->flow, sl_str(r->spec.ref));
    if (n->draining || n->handover || !part_may_begin(np->part, r) || !begin(w, r, t))
        put_back(w);
}

size_t effects_under_way(const struct node *n)
{
    size_t count = n->sched.running;
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && n->parts[i]->part)
            count += part_unwritten(n->parts[i]->part);
    return count;
}

void effects_dispatch(struct node *n)
{
    struct sched_item *it;
    int64_t now = clock_boot_ms();
    LIST_EACH(l, &n->works)
    {
        struct work *w = LIST_ENTRY(l, struct work, node);
        if (w->not_before_ms && now >= w->not_before_ms) {
            w->not_before_ms = 0;
            sched_add(&n->sched, &w->item, w->priority);
        }
    }
    while ((it = sched_next(&n->sched)))
        start_work(n, LIST_ENTRY(it, struct work, item));
}

/* ---- dead letters ---- */

struct letter_sent {
    struct sent sent;
    struct node *node;
    int partition;
    uint64_t generation;
    char run[RUN_ID_MAX];
};

static void on_letter(struct sent *s, int error, int partition, int64_t offset, const char *why)
{
    struct letter_sent *l = LIST_ENTRY(s, struct letter_sent, sent);
    struct npart *np = node_part(l->node, l->partition, l->generation);
    FAILPOINT_OF("notify-acked", NULL, l->run);
    if (np && error)
        part_not_told(np->part, l->run);
    else if (np)
        part_told(np->part, l->run);
    FAILPOINT_OF("notified", NULL, l->run);
    free(l);
}

static int send_letter(struct node *n, struct part *p, struct ended *e, struct sent *s)
{
    char key[RUN_ID_MAX + 8], agent[512], origin[512];
    struct kheader h[DEAD_HEADERS_MAX];
    struct krec k;
    struct buf mem;
    struct slice problem = val_text(e->error), src = sl_str(e->src.name), feed = {NULL, 0};
    struct json_object *o = val_tree(e->origin);
    js_member(val_text(e->error), "error", &problem);
    char *text = sl_dup(problem), *feed_text = NULL;
    snprintf(key, sizeof key, "run/%s", e->run);
    snprintf(agent, sizeof agent, "%s:%s", js_str(o, "agent") ? js_str(o, "agent") : "",
             js_str(o, "version") ? js_str(o, "version") : "");
    struct dead_letter d = {.kind = "run",
                            .error_json = text,
                            .run = e->run,
                            .agent = agent,
                            .task = e->ref,
                            .attempts = 1,
                            .time_ms = e->time_ms};
    if (e->src.name && sl_split(&src, ':', &feed) &&
        src.p) { /* FEED:TOPIC/INCARNATION/PARTITION; a feed may hold one colon */
        ptrdiff_t colon = sl_find(src, ':');
        if (colon >= 0) {
            feed.n += (size_t)colon + 1;
            src = sl_from(src, (size_t)colon + 1);
        }
        feed_text = sl_dup(feed);
        struct slice topic = src, inc = src;
        sl_split(&src, '/', &topic); /* the incarnation is no part of a place to look at */
        sl_split(&src, '/', &inc);
        snprintf(origin, sizeof origin, "%.*s/%.*s/%" PRId64, SL_ARG(topic), SL_ARG(src),
                 e->src.offset);
        d.feed = feed_text;
        d.origin = origin;
    }
    buf_init(&mem, DEAD_MEM_MAX);
    int error =
        text ? dead_make(&k, h, &mem, n->names.dlq, &d, NULL, sl_str(key), val_text(e->origin))
             : -ENOMEM;
    if (!error)
        error = kprod_send(n->plain, &k, s);
    buf_free(&mem);
    free(text);
    free(feed_text);
    return error;
}

static void op_notify(void *arg, struct part *p, struct ended *e)
{
    struct node *n = arg;
    struct letter_sent *l = calloc(1, sizeof *l);
    if (!l) {
        e->telling = false;
        return;
    }
    *l = (struct letter_sent){{on_letter}, n, p->o.partition, npart_of(n, p)->generation, ""};
    memcpy(l->run, e->run, sizeof l->run);
    FAILPOINT_OF("notify", NULL, e->run);
    if (send_letter(n, p, e, &l->sent) < 0) {
        free(l);
        e->telling = false; /* again at the next tick */
    }
    FAILPOINT_OF("notify-sent", NULL, e->run);
}

/* ---- floors ---- */

struct floors_job {
    struct pool_job job;
    struct node *node;
    int partition;
    uint64_t generation;
    size_t n;
    struct {
        char source[NAME_MAX_BYTES + 128], group[NAME_MAX_BYTES + 1], topic[NAME_MAX_BYTES + 1],
            incarnation[32];
        int partition;
        int64_t offset;
    } v[];
};

/* FEED:TOPIC/INCARNATION/PARTITION */
static int parse_source(struct node *n, struct floors_job *f, const char *name)
{
    struct slice s = sl_str(name), topic, inc;
    int64_t partition;
    size_t colon = s.n;
    while (colon > 0 && s.p[colon - 1] != ':')
        colon--;
    if (colon < 2 || f->n == 256 || s.n >= sizeof f->v[0].source)
        return -EINVAL;
    struct slice feed = sl(s.p, colon - 1), rest = sl_from(s, colon);
    if (!sl_split(&rest, '/', &topic) || !sl_split(&rest, '/', &inc) ||
        sl_i64(rest, &partition) < 0)
        return -EINVAL;
    char feed_text[NAME_MAX_BYTES + 1];
    snprintf(feed_text, sizeof feed_text, "%.*s", SL_ARG(feed));
    if (sl_is(feed, "live"))
        snprintf(f->v[f->n].group, sizeof f->v[0].group, "%s", n->names.router);
    else
        names_feed_group(f->v[f->n].group, sizeof f->v[0].group, n->config->group, feed_text);
    snprintf(f->v[f->n].source, sizeof f->v[0].source, "%s", name);
    snprintf(f->v[f->n].topic, sizeof f->v[0].topic, "%.*s", SL_ARG(topic));
    snprintf(f->v[f->n].incarnation, sizeof f->v[0].incarnation, "inc=%.*s", SL_ARG(inc));
    f->v[f->n].partition = (int)partition;
    f->v[f->n++].offset = -1;
    return 0;
}

static void floors_work(struct pool_job *j)
{
    struct floors_job *f = LIST_ENTRY(j, struct floors_job, job);
    for (size_t i = 0; i < f->n; i++) {
        struct kpart k = {.topic = f->v[i].topic, .partition = f->v[i].partition};
        if (kadmin_committed(f->node->admin, f->v[i].group, &k, 1, 5000, NULL) == 0 && k.metadata &&
            strstr(k.metadata, f->v[i].incarnation))
            f->v[i].offset = k.offset;
        free(k.metadata);
    }
}

static void floors_done(struct pool_job *j)
{
    struct floors_job *f = LIST_ENTRY(j, struct floors_job, job);
    struct npart *np = node_part(f->node, f->partition, f->generation);
    f->node->admin_busy = false;
    for (size_t i = 0; np && i < f->n; i++)
        if (f->v[i].offset >= 0)
            part_floor(np->part, f->v[i].source, f->v[i].offset);
    if (np)
        part_floors_read(np->part);
    free(f);
}

static void op_floors(void *arg, struct part *p)
{
    struct node *n = arg;
    struct slice k;
    void *v;
    size_t pos = 0;
    struct floors_job *f = n->admin_busy ? NULL : calloc(1, sizeof *f + 256 * sizeof f->v[0]);
    if (!f) {
        part_floors_read(p);
        return;
    }
    f->node = n;
    f->partition = p->o.partition;
    f->generation = npart_of(n, p)->generation;
    f->job.work = floors_work;
    f->job.done = floors_done;
    while (map_next(&p->st.sources.by_name, &pos, &k, &v))
        parse_source(n, f, ((struct source *)v)->name);
    if (!f->n || pool_submit(n->helpers, &f->job) < 0) {
        free(f);
        part_floors_read(p);
        return;
    }
    n->admin_busy = true;
}

/* ---- the rest ---- */

static void op_ended(void *arg, struct part *p, const struct run *r)
{
    struct node *n = arg;
    n->stats.runs_ended++;
    n->stats.runs_faulted += r->known.status == RUN_FAULTED;
    if (n->o.on_ended)
        n->o.on_ended(n->o.arg, r);
}

static struct flow *op_flow(void *arg, const char *hash)
{
    return defs_flow(((struct node *)arg)->defs, hash);
}

static bool op_admit(void *arg, struct part *p, bool force)
{
    struct node *n = arg;
    if (!force && (n->active >= n->config->max_active_runs || n->draining || n->handover))
        return false;
    n->active++;
    n->stats.runs_started += !force;
    return true;
}

static void op_release(void *arg, struct part *p)
{
    ((struct node *)arg)->active--;
}

/* Resolved when first asked for and kept for the node's life; a missing one is absent, so that its
 * use is null. */
static struct json_object *op_secrets(void *arg, struct flow *f)
{
    struct node *n = arg;
    const struct flow_info *fi = flow_info(f);
    struct json_object *o;
    if (!fi->secrets || !fi->secrets[0])
        return NULL;
    if ((o = map_get(&n->secrets, sl_str(fi->hash))))
        return o;
    o = json_object_new_object();
    for (size_t i = 0; fi->secrets[i]; i++) {
        struct secret *s = NULL;
        struct err e = {0};
        if (config_secret(n->config, fi->secrets[i], &s, &e) < 0) {
            log_error(n->log, "a secret is missing", "name=%s agent=%s hint=%s",
                      log_q(fi->secrets[i]), log_q(fi->name), log_q(e.hint));
            continue;
        }
        struct slice v = secret_reveal(s);
        json_object_object_add(o, fi->secrets[i], json_object_new_string_len(v.p, (int)v.n));
        secret_free(s);
    }
    map_put(&n->secrets, sl_str(fi->hash), o, NULL);
    return o;
}

static void op_risky(void *arg, const char *run)
{
    struct node *n = arg;
    if (n->suspects)
        suspects_note(n->suspects, run);
    if (run)
        FAILPOINT_OF("step", (const char *)NULL, run);
}

static int op_crashes(void *arg, const char *run)
{
    struct node *n = arg;
    return n->suspects ? suspects_crashes(n->suspects, run) : 0;
}

const struct part_ops node_part_ops = {
    .room = op_room,
    .append = op_append,
    .eval = op_eval,
    .effect = op_effect,
    .stop = op_stop,
    .notify = op_notify,
    .ended = op_ended,
    .flow = op_flow,
    .admit = op_admit,
    .release = op_release,
    .secrets = op_secrets,
    .risky = op_risky,
    .crashes = op_crashes,
    .floors = op_floors,
};

int effects_open(struct node *n, struct err *e)
{
    struct evalpool_opts eo = {.self = n->o.self};
    struct tasks_opts to = {.loop = n->loop,
                            .config = n->config,
                            .klog = n->klog,
                            .log = n->log,
                            .max_processes = n->config->max_processes,
                            .max_connections = 256};
    list_init(&n->works);
    list_init(&n->evals_pending);
    map_init(&n->works_by_run);
    map_init(&n->secrets);
    sched_init(&n->sched, (size_t)n->config->max_inflight_tasks);
    n->evals = evalpool_new(n->loop, &eo, n->log, e);
    n->tasks = n->evals ? tasks_new(&to, e) : NULL;
    return n->tasks ? 0 : -EIO;
}

void effects_close(struct node *n)
{
    struct list *l;
    struct slice k;
    void *v;
    size_t pos = 0;
    LIST_EACH(it, &n->works)
    {
        struct work *w = LIST_ENTRY(it, struct work, node);
        if (w->task)
            tasks_cancel(w->task);
        work_free(w);
    }
    n->tasks = tasks_free(n->tasks);
    n->evals = evalpool_free(n->evals);
    while ((l = list_pop(&n->evals_pending)))
        free(LIST_ENTRY(l, struct eval_wait, node));
    while (map_next(&n->secrets, &pos, &k, &v))
        json_object_put(v);
    map_free(&n->secrets);
    map_free(&n->works_by_run);
}
