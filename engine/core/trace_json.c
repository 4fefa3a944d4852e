/* See trace.h: runs, tasks and records as JSON for people. */
#include <stdio.h>

#include "base/clock.h"
#include "core/trace.h"

static void add_text(struct json_object *o, const char *key, const char *v)
{
    if (v)
        js_put_new(o, key, json_object_new_string(v));
    else
        js_put(o, key, NULL);
}

static void add_time(struct json_object *o, const char *key, int64_t ms)
{
    char text[TIME_TEXT_MAX];
    if (ms)
        time_write(text, ms);
    add_text(o, key, ms ? text : NULL);
}

static void add_val(struct json_object *o, const char *key, struct val *v)
{
    js_put(o, key, json_object_get(val_tree(v)));
}

static struct json_object *task_json(const struct trace_task *t)
{
    struct json_object *o = json_object_new_object();
    const char *slash = strrchr(t->ref, '/');
    add_text(o, "name", slash ? slash + 1 : t->ref);
    add_text(o, "reference", t->ref);
    js_put_new(o, "visit", json_object_new_int(t->visit));
    add_text(o, "status", t->status);
    js_put_new(o, "attempts", json_object_new_int(t->attempt));
    if (t->retries)
        js_put_new(o, "retries", json_object_new_int(t->retries));
    if (t->retry_ms && !t->ended_ms)
        add_time(o, "retryAt", t->retry_ms);
    add_time(o, "startedAt", t->started_ms);
    add_time(o, "endedAt", t->ended_ms);
    js_put_new(o, "offset", json_object_new_int64(t->last));
    add_val(o, "output", t->output);
    add_val(o, "error", t->error);
    return o;
}

static struct json_object *head_json(const struct trace_run *r)
{
    struct json_object *o = json_object_new_object();
    add_text(o, "id", r->id);
    add_text(o, "agent", r->agent);
    add_text(o, "version", r->version);
    add_text(o, "status", run_status_name(r->status));
    add_text(o, "key", r->key);
    add_text(o, "feed", r->feed);
    js_put_new(o, "partition", json_object_new_int(run_id_partition(sl_str(r->id))));
    js_put_new(o, "offset", json_object_new_int64(r->first));
    js_put_new(o, "lastOffset", json_object_new_int64(r->last));
    add_time(o, "requestedAt", r->requested_ms);
    add_time(o, "startedAt", r->started_ms);
    add_time(o, "endedAt", r->ended_ms);
    return o;
}

struct json_object *trace_json_page(const struct trace_run *r, size_t from, size_t to)
{
    struct json_object *o = head_json(r), *v = json_object_new_array();
    if (r->src_name) {
        char text[600];
        (void)snprintf(text, sizeof text, "%s/%lld", r->src_name, (long long)r->src_offset);
        add_text(o, "source", text);
    }
    if (r->fork_of)
        add_val(o, "forkOf", r->fork_of);
    add_val(o, "input", r->input);
    add_val(o, "output", r->output);
    add_val(o, "error", r->error);
    for (size_t i = from; i < to && i < r->ntasks; i++)
        js_push_new(v, task_json(&r->tasks[i]));
    js_put_new(o, "tasks", v);
    return o;
}

struct json_object *trace_json(const struct trace_run *r, bool tasks)
{
    return tasks ? trace_json_page(r, 0, r->ntasks) : head_json(r);
}

struct json_object *trace_record_json(const struct rec *r, bool is_void)
{
    struct json_object *o = json_object_new_object();
    js_put_new(o, "offset", json_object_new_int64(r->offset));
    add_time(o, "time", r->time_ms);
    add_text(o, "type", rec_type_name(r->type));
    add_text(o, "task", r->ref);
    if (r->epoch >= 0)
        js_put_new(o, "epoch", json_object_new_int64(r->epoch));
    else
        js_put(o, "epoch", NULL);
    js_put_new(o, "void", json_object_new_boolean(is_void));
    if (r->status)
        add_text(o, "status", r->status);
    add_val(o, "value", r->value);
    return o;
}
