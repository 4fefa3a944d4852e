/* Inside tasks: a task run and the vtable of its kind. Loop's thread only.
 *
 * States of a run: OPEN (under way) -> ANSWERED (fn queued for this turn) -> gone; a process that
 * is not awaited goes ANSWERED -> LINGERS (fn was called, the process still holds its place) ->
 * gone. Only task_finish, task_fail and task_release move a run on. */
#pragma once
#include "base/hash.h"
#include "base/list.h"
#include "tasks/tasks.h"

#define TASK_TITLE_MAX 128

enum run_state { RUN_OPEN, RUN_ANSWERED, RUN_LINGERS };

struct task_kind {
    const char *name;
    size_t size; /* of the kind's own struct, which begins with struct task_run */
    /* Begins. 0: under way or already answered; -EAGAIN or -ENOMEM: tasks_start gives NULL. It must
     * not use the call's `with` after it returned. */
    int (*start)(struct task_run *r, const struct task_call *c);
    /* Ends what is under way and frees the kind's own members; nothing is answered any more. */
    void (*stop)(struct task_run *r);
};

struct task_run {
    struct list node; /* in tasks.runs */
    struct tasks *tasks;
    const struct task_kind *kind;
    const struct task *task; /* borrowed until the answer */
    char *run_id, *ref;      /* for log lines */
    enum run_state state;
    bool lingers; /* after the answer, wait for task_release */
    struct loop_timer deadline;
    struct loop_task answer;
    int64_t timeout_ms;
    struct json_object *output;
    struct problem problem;
    task_done_fn fn;
    void *arg;
};

struct emitter;
struct tasks {
    struct tasks_opts o;
    struct list runs;
    size_t nruns;
    struct http *http;
    struct emitter *emitter; /* made at the first emit */
    struct list waiting;     /* processes without a place, by proc.wait */
    size_t nwaiting, nprocesses;
    bool closing;
};

extern const struct task_kind task_http, task_process, task_emit;

/* The answer; `output` is taken over (NULL: null). Refused with runtime/500 when it is too large.
 */
void task_finish(struct task_run *r, struct json_object *output);
/* A problem; name as in problem_set. */
void task_fail(struct task_run *r, const char *name, int status, const char *title,
               const char *detail, ...) __attribute__((format(printf, 5, 6)));
void task_fail_memory(struct task_run *r);
/* The effect of a lingering run has ended. */
void task_release(struct task_run *r);

/* Text of the world as a JSON string: what is no UTF-8 becomes U+FFFD. NULL: no memory. */
struct json_object *task_text(struct slice s);
/* The text of a scalar (string, number, boolean), "" for null: 0, -EINVAL for arrays and objects,
 * else the error of b. */
int task_scalar(struct json_object *o, struct buf *b);

struct emitter *emitter_free(struct emitter *e);
