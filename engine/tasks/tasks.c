/* The common part of all kinds of task: life of a run, deadline, the one answer. Loop's thread.
 * Invariants: fn is called exactly once for a run that is neither cancelled nor swept away by
 * tasks_free, never from inside tasks_start; a run is in tasks.runs from its start to its end. */
#include "tasks/tasks_int.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"

struct tasks *tasks_new(const struct tasks_opts *o, struct err *e)
{
    assert(o->loop && o->config);
    struct tasks *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the tasks");
        return NULL;
    }
    t->o = *o;
    if (t->o.max_processes <= 0)
        t->o.max_processes = 1;
    if (t->o.max_connections <= 0)
        t->o.max_connections = 64;
    list_init(&t->runs);
    list_init(&t->waiting);
    t->http = http_new(o->loop, t->o.max_connections, NULL, NULL, e);
    if (!t->http) {
        free(t);
        return NULL;
    }
    return t;
}

static void run_free(struct task_run *r)
{
    struct tasks *t = r->tasks;
    r->kind->stop(r);
    loop_timer_unset(&r->deadline);
    loop_task_cancel(&r->answer);
    list_del(&r->node);
    t->nruns--;
    json_object_put(r->output);
    problem_free(&r->problem);
    free(r->run_id);
    free(r->ref);
    free(r);
}

struct tasks *tasks_free(struct tasks *t)
{
    if (!t)
        return NULL;
    t->closing = true;
    while (!list_empty(&t->runs))
        run_free(LIST_ENTRY(t->runs.next, struct task_run, node));
    emitter_free(t->emitter);
    http_free(t->http);
    free(t);
    return NULL;
}

size_t tasks_running(const struct tasks *t)
{
    return t->nruns;
}

static void on_answer(struct loop_task *lt)
{
    struct task_run *r = LIST_ENTRY(lt, struct task_run, answer);
    const char *kind = r->kind->name;
    task_done_fn fn = r->fn;
    void *arg = r->arg;
    struct json_object *output = r->output;
    struct problem p = r->problem;
    r->output = NULL;
    r->problem = (struct problem){0};
    r->task = NULL;
    FAILPOINT_OF("effect-done", kind, r->run_id);
    if (r->lingers)
        r->state = RUN_LINGERS;
    else
        run_free(r);
    fn(arg, output, &p);
    FAILPOINT_OF("effect-kept", kind, NULL);
    problem_free(&p);
}

static void answer(struct task_run *r)
{
    assert(r->state == RUN_OPEN);
    r->state = RUN_ANSWERED;
    loop_timer_unset(&r->deadline);
    loop_later(r->tasks->o.loop, &r->answer);
}

/* An answer that can't even be put into words still has to be one: the type alone says enough. */
static void set_problem(struct task_run *r, const char *name, int status, const char *title,
                        const char *detail)
{
    if (problem_set(&r->problem, name, status, title, "%s", detail) == 0)
        return;
    problem_free(&r->problem);
    r->problem.status = status ? status : 500;
    log_error(r->tasks->o.log, "no memory for a task's problem", "run=%s task=%s problem=%s",
              log_q(r->run_id), log_q(r->ref), log_q(name));
}

void task_fail(struct task_run *r, const char *name, int status, const char *title,
               const char *detail, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, detail);
    (void)vsnprintf(text, sizeof text, detail, ap);
    va_end(ap);
    set_problem(r, name, status, title, text);
    answer(r);
}

void task_fail_memory(struct task_run *r)
{
    task_fail(r, "runtime", 500, "Out of memory", "the engine had no memory for this task");
}

void task_finish(struct task_run *r, struct json_object *output)
{
    struct buf b;
    buf_init(&b, TASK_OUTPUT_MAX);
    int rc = js_write(output, &b);
    buf_free(&b);
    if (rc) {
        json_object_put(output);
        if (rc == -ENOBUFS)
            task_fail(
                r, "runtime", 500, "Output too large",
                "the output is larger than %d bytes of JSON; let the task give less, or write "
                "it elsewhere and give its address",
                TASK_OUTPUT_MAX);
        else
            task_fail_memory(r);
        return;
    }
    r->output = output;
    answer(r);
}

void task_release(struct task_run *r)
{
    assert(r->lingers);
    if (r->state == RUN_LINGERS)
        run_free(r);
    else /* the answer is still queued and frees it */
        r->lingers = false;
}

static void on_deadline(struct loop_timer *lt)
{
    struct task_run *r = LIST_ENTRY(lt, struct task_run, deadline);
    r->kind->stop(r);
    task_fail(r, "timeout", 0, NULL, "the task did not end within %lld ms",
              (long long)r->timeout_ms);
}

static const struct task_kind *kind_of(const struct task *t)
{
    switch (t->type) {
    case TASK_HTTP:
        return &task_http;
    case TASK_SHELL:
    case TASK_SCRIPT:
        return &task_process;
    case TASK_EMIT:
        return &task_emit;
    default:
        return NULL;
    }
}

struct task_run *tasks_start(struct tasks *t, const struct task_call *c, task_done_fn fn, void *arg)
{
    const struct task_kind *k = kind_of(c->task);
    assert(k && fn && !t->closing); /* core keeps the other types to itself */
    struct task_run *r = calloc(1, k->size);
    if (!r)
        return NULL;
    r->tasks = t;
    r->kind = k;
    r->task = c->task;
    r->fn = fn;
    r->arg = arg;
    r->answer.fn = on_answer;
    r->deadline.fn = on_deadline;
    r->timeout_ms = c->timeout_ms;
    r->run_id = strdup(c->run_id ? c->run_id : "");
    r->ref = strdup(c->ref ? c->ref : "");
    list_push(&t->runs, &r->node);
    t->nruns++;
    struct loop *l = t->o.loop;
    int rc = r->run_id && r->ref ? 0 : -ENOMEM;
    if (!rc && c->timeout_ms > 0)
        rc = loop_timer_set(l, &r->deadline, loop_now(l) + c->timeout_ms);
    FAILPOINT_OF("effect", k->name, r->run_id);
    if (!rc)
        rc = k->start(r, c);
    FAILPOINT_OF("effect-begun", k->name, c->run_id);
    if (rc) {
        run_free(r);
        return NULL;
    }
    return r;
}

void tasks_cancel(struct task_run *r)
{
    assert(r && r->state != RUN_LINGERS);
    run_free(r);
}

struct json_object *task_text(struct slice s)
{
    if (s.n > TASK_OUTPUT_MAX)
        return NULL;
    if (utf8_valid(s))
        return json_object_new_string_len(s.p ? s.p : "", (int)s.n);
    struct buf quoted, plain;
    buf_init(&quoted, s.n * 6 + 2);
    buf_init(&plain, s.n * 3);
    struct json_object *o = NULL;
    if (!js_write_str(&quoted, s) && !js_unquote(buf_slice(&quoted), &plain))
        o = json_object_new_string_len(plain.p, (int)plain.n);
    buf_free(&quoted);
    buf_free(&plain);
    return o;
}

int task_scalar(struct json_object *o, struct buf *b)
{
    if (!o)
        return 0;
    switch (json_object_get_type(o)) {
    case json_type_string:
        return buf_add(b, json_object_get_string(o), (size_t)json_object_get_string_len(o));
    case json_type_array:
    case json_type_object:
        return -EINVAL;
    default:
        return js_write(o, b);
    }
}
