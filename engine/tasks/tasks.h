/* Carrying out effects: one file a kind of task (http.c, process.c for shell and script, emit.c),
 * each a struct task_kind. All functions are for the loop's thread. What is done here has been
 * checked against write-ahead and lease by the caller just before tasks_start. */
#pragma once
#include "base/logger.h"
#include "config/config.h"
#include "flow/flow.h"
#include "flow/problem.h"
#include "log/klog.h"
#include "loop/http.h"

#define TASK_OUTPUT_MAX                                                                            \
    (512 * 1024) /* bytes of JSON that may go to the journal; more: runtime/500 that says so */

struct tasks;
struct tasks_opts {
    struct loop *loop;
    const struct config *config;
    struct klog *klog; /* for emit; NULL: emit is refused (run FILE without a log gives one) */
    struct log *log;
    int max_processes; /* further processes wait in a bounded queue */
    int max_connections;
};
struct tasks *tasks_new(const struct tasks_opts *o, struct err *e);
struct tasks *tasks_free(struct tasks *t); /* kills what runs; no callbacks */

struct task_call {
    const struct task *task;  /* type and options; borrowed until the answer */
    struct json_object *with; /* evaluated definition (see flow.h, struct task.with); borrowed until
                                 tasks_start returns */
    const char *run_id, *ref; /* for logs and TIDEMARK_RUN_ID / TIDEMARK_TASK in processes */
    const char *idempotency_key; /* Idempotency-Key header, TIDEMARK_IDEMPOTENCY_KEY */
    const char *traceparent;     /* W3C trace context or NULL: traceparent header, TRACEPARENT */
    const char *run_key;         /* the run's key: key of emitted records */
    const char *event_source;    /* /{namespace}/{name}/{version} for emit */
    const char *event_id;        /* deterministic id for emit */
    int64_t event_time_ms;       /* deterministic time for emit */
    int attempt;
    int64_t timeout_ms; /* 0: none */
};
/* Exactly one callback a call that was started. output: the raw output (owned by the callee
 * afterwards; may be NULL for null) when p->status == 0. */
typedef void (*task_done_fn)(void *arg, struct json_object *output, const struct problem *p);
struct task_run;
struct task_run *tasks_start(struct tasks *t, const struct task_call *c, task_done_fn fn,
                             void *arg); /* NULL: no memory or full queue; fn is not called */
void tasks_cancel(struct task_run *r);   /* fn is not called; effects under way may still happen */
size_t tasks_running(const struct tasks *t);
