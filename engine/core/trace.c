/* See trace.h. */
#include "core/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void trace_init(struct trace *t, const char *only, bool keep_tasks)
{
    memset(t, 0, sizeof *t);
    t->only = only;
    t->keep_tasks = keep_tasks;
    t->epoch = -1;
    t->values_end = t->values_max = SIZE_MAX;
    map_init(&t->runs);
}

static void forget_tasks(struct trace_run *r)
{
    for (size_t i = 0; i < r->ntasks; i++) {
        free(r->tasks[i].ref);
        val_unref(r->tasks[i].output);
        val_unref(r->tasks[i].error);
    }
    r->ntasks = r->faulted_tasks = 0;
    map_free(&r->places);
    map_init(&r->places);
}

static void run_free(struct trace_run *r)
{
    forget_tasks(r);
    map_free(&r->places);
    free(r->tasks);
    free(r->agent);
    free(r->version);
    free(r->key);
    free(r->hash);
    free(r->feed);
    free(r->src_name);
    val_unref(r->input);
    val_unref(r->output);
    val_unref(r->error);
    val_unref(r->fork_of);
    free(r);
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->n; i++)
        run_free(t->order[i]);
    free(t->order);
    map_free(&t->runs);
}

bool trace_is_void(const struct trace *t, const struct rec *r)
{
    return !rec_is_request(r->type) && r->type != REC_OWNER &&
           (r->epoch != t->epoch || r->nonce != t->nonce);
}

static struct trace_run *run_new(struct trace *t, const char *id)
{
    struct trace_run *r = calloc(1, sizeof *r);
    if (r && t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct trace_run **v = realloc(t->order, cap * sizeof *v);
        if (v) {
            t->order = v;
            t->cap = cap;
        }
    }
    if (!r || t->n == t->cap) {
        free(r);
        return NULL;
    }
    snprintf(r->id, sizeof r->id, "%s", id);
    map_init(&r->places);
    if (map_put(&t->runs, sl_str(r->id), r, NULL) < 0) {
        free(r);
        return NULL;
    }
    t->order[t->n++] = r;
    return r;
}

static struct val *member(const struct rec *r, const char *key)
{
    struct slice v;
    return js_member(val_text(r->value), key, &v) ? val_text_new(v) : NULL;
}

static void set(struct val **to, struct val *v)
{
    val_unref(*to);
    *to = v;
}

static size_t val_bytes(struct val *v)
{
    return v ? val_text(v).n : 0;
}

/* The output or error of a task, as far as there is room for it: see values_from in trace.h. */
static void set_value(struct trace *t, struct trace_run *run, struct trace_task *k, struct val **to,
                      struct val *v)
{
    size_t place = (size_t)(k - run->tasks);
    t->values_bytes -= val_bytes(*to);
    if (place < t->values_from || place >= t->values_end)
        v = val_unref(v);
    set(to, v);
    t->values_bytes += val_bytes(v);
    if (t->values_bytes > t->values_max && t->values_end > run->ntasks)
        t->values_end = run->ntasks;
    while (t->values_bytes > t->values_max && t->values_end > t->values_from + 1) {
        struct trace_task *last = &run->tasks[--t->values_end];
        t->values_bytes -= val_bytes(last->output) + val_bytes(last->error);
        set(&last->output, NULL);
        set(&last->error, NULL);
    }
}

static char *text(const struct rec *r, const char *key)
{
    const char *s = js_str(val_tree(r->value), key);
    return s ? strdup(s) : NULL;
}

static char *feed_of(const char *src)
{
    size_t n = src ? strlen(src) : 0;
    while (n > 0 && src[n - 1] != ':')
        n--;
    return n > 1 ? strndup(src, n - 1) : NULL;
}

static int on_requested(struct trace *t, struct rec *r)
{
    if (map_has(&t->runs, sl_str(r->run)))
        return 0; /* a duplicate */
    struct trace_run *run = run_new(t, r->run);
    if (!run)
        return -ENOMEM;
    run->agent = text(r, "agent");
    run->version = text(r, "version");
    run->key = text(r, "key");
    run->input = t->keep_tasks ? member(r, "input") : NULL;
    run->fork_of = member(r, "forkOf");
    run->hash = r->agent ? strdup(r->agent) : NULL;
    run->src_name = r->src.name ? strdup(r->src.name) : NULL;
    run->src_offset = r->src.offset;
    run->feed = feed_of(r->src.name);
    run->requested_ms = r->time_ms;
    run->first = run->last = r->offset;
    return 1;
}

static struct trace_task *task_get(struct trace_run *run, const struct rec *r)
{
    char place[REC_REF_MAX + 32];
    int n = snprintf(place, sizeof place, "%s#%d.%d", r->ref, r->visit, r->rewind);
    struct slice key = sl(place, n < (int)sizeof place ? (size_t)n : sizeof place - 1);
    size_t known = (size_t)(intptr_t)map_get(&run->places, key);
    if (known)
        return &run->tasks[known - 1];
    if (run->ntasks == run->cap) {
        size_t cap = run->cap ? 2 * run->cap : 16;
        struct trace_task *v = realloc(run->tasks, cap * sizeof *v);
        if (!v)
            return NULL;
        run->tasks = v;
        run->cap = cap;
    }
    struct trace_task *t = &run->tasks[run->ntasks];
    *t = (struct trace_task){.ref = strdup(r->ref),
                             .visit = r->visit,
                             .rewind = r->rewind,
                             .status = "running",
                             .started_ms = r->time_ms,
                             .first = r->offset};
    if (!t->ref || map_put(&run->places, key, (void *)(intptr_t)(run->ntasks + 1), NULL) < 0) {
        free(t->ref);
        return NULL;
    }
    run->ntasks++;
    return t;
}

/* What is not over inside `ref` (everything for "") is left as it is. */
static void interrupt(struct trace_run *run, const char *ref, const struct trace_task *except,
                      int64_t now_ms)
{
    struct slice in = sl_str(ref);
    for (size_t i = run->ntasks; i > 0; i--) {
        struct trace_task *k = &run->tasks[i - 1];
        struct slice s = sl_str(k->ref);
        if (k->ended_ms || k == except || !sl_starts(s, in) || (in.n && s.p[in.n] != '/'))
            continue;
        k->status = "interrupted";
        k->ended_ms = now_ms;
    }
}

/* An iteration of a loop is a fact of its own, but no task. */
static bool is_iteration(const struct rec *r)
{
    const char *last = strrchr(r->ref, '/');
    return r->type == REC_TASK_STARTED && r->body.next && last && last - r->ref >= 4 &&
           !memcmp(last - 4, "/for", 4) && last[1] &&
           strspn(last + 1, "0123456789") == strlen(last + 1);
}

static void on_caught(struct trace_task *k, const struct rec *r)
{
    k->status = r->body.attempt ? "retrying" : "catching";
    k->retries += r->body.attempt > 0;
    k->retry_ms = r->body.attempt ? r->body.until_ms : 0;
}

static int on_task(struct trace *t, struct trace_run *run, struct rec *r)
{
    if (r->type == REC_TASK_FAULTED)
        run->faulted_tasks++;
    if (!t->keep_tasks)
        return 1;
    if (rec_read_body(r) < 0)
        t->bad++;
    if (is_iteration(r))
        return 1;
    struct trace_task *k = task_get(run, r);
    if (!k)
        return -ENOMEM;
    k->last = r->offset;
    if (r->type == REC_TASK_CAUGHT) {
        on_caught(k, r);
        return 1;
    }
    if (r->attempt != k->attempt) { /* begun again */
        k->attempt = r->attempt;
        k->ended_ms = 0;
        k->status = "running";
        set_value(t, run, k, &k->error, NULL);
    }
    if (r->type == REC_TASK_WAITING)
        k->status = "waiting";
    if (r->type == REC_TASK_COMPLETED) {
        k->status = r->status && !strcmp(r->status, "skipped") ? "skipped" : "completed";
        k->ended_ms = r->time_ms;
        set_value(t, run, k, &k->output, member(r, "output"));
    }
    if (r->type == REC_TASK_FAULTED) {
        k->status = "faulted";
        k->ended_ms = r->time_ms;
        set_value(t, run, k, &k->error, member(r, "error"));
        interrupt(run, r->body.next && r->body.phase == PHASE_CATCH ? r->body.next : r->ref, k,
                  r->time_ms);
    }
    return 1;
}

static void on_end(struct trace_run *run, struct rec *r)
{
    run->status = r->type == REC_COMPLETED ? RUN_COMPLETED
                  : r->type == REC_FAULTED ? RUN_FAULTED
                                           : RUN_CANCELLED;
    run->ended_ms = r->time_ms;
    interrupt(run, "", NULL, r->time_ms);
    set(&run->output, member(r, "output"));
    set(&run->error, r->type == REC_CANCELLED ? val_ref(r->value) : member(r, "error"));
}

static int on_fact(struct trace *t, struct rec *r)
{
    struct trace_run *run = map_get(&t->runs, sl_str(r->run));
    if (!run) {
        t->cut = t->cut || r->run[0];
        return 0;
    }
    if (r->type != REC_SETTLED)
        run->last = r->offset;
    switch (r->type) {
    case REC_STARTED:
        if (run->ended_ms) { /* an id without event that is used again after its window */
            forget_tasks(run);
            t->values_bytes = 0;
            set(&run->output, NULL);
            set(&run->error, NULL);
            run->ended_ms = 0;
        }
        run->status = RUN_ACTIVE;
        run->started_ms = r->time_ms;
        return 1;
    case REC_TASK_STARTED:
    case REC_TASK_COMPLETED:
    case REC_TASK_FAULTED:
    case REC_TASK_WAITING:
    case REC_TASK_CAUGHT:
        return on_task(t, run, r);
    case REC_COMPLETED:
    case REC_FAULTED:
    case REC_CANCELLED:
        on_end(run, r);
        return 1;
    case REC_SUSPENDED:
        run->status = RUN_SUSPENDED;
        return 1;
    case REC_RESUMED:
        run->status = RUN_ACTIVE;
        return 1;
    default:
        return 1;
    }
}

int trace_add(struct trace *t, struct rec *r)
{
    if (r->type == REC_OWNER) {
        t->epoch = r->offset;
        t->nonce = r->nonce;
        return 0;
    }
    if (trace_is_void(t, r)) {
        t->voids++;
        return 0;
    }
    if (t->only && strcmp(t->only, r->run))
        return 0;
    if (r->type == REC_REQUESTED)
        return on_requested(t, r);
    if (rec_is_request(r->type))
        return map_has(&t->runs, sl_str(r->run));
    return on_fact(t, r);
}
