/* run: shell and run: script. Loop's thread.
 * States of a process task: FETCHING (its code, from the web) -> WAITING for a place -> RUNNING ->
 * answered. At most max_processes run and PROCESSES_WAITING_MAX wait. A process that is not awaited
 * answers as soon as it runs and keeps its place to its end.
 * A stopped task's whole process group is killed. */
#include <errno.h>
#include <stdlib.h>

#include "loop/child.h"
#include "tasks/command.h"
#include "tasks/url.h"

#define PROCESSES_WAITING_MAX 4096
#define STDERR_SHOWN_BYTES    500
#define REDIRECTS_MAX         10

struct process {
    struct task_run run; /* first */
    struct command cmd;
    struct list wait; /* in tasks.waiting when `waits` */
    bool waits;
    struct http_req *fetch;
    struct child *child;
    struct json_object *input; /* what a task that is not awaited gives */
};

static int begin(struct process *x);

/* Gives a free place to the longest waiting. Not while closing: those are swept away next. */
static void serve_waiting(struct tasks *t)
{
    while (!t->closing && t->nprocesses < (size_t)t->o.max_processes && !list_empty(&t->waiting)) {
        struct process *x = LIST_ENTRY(list_pop(&t->waiting), struct process, wait);
        x->waits = false;
        t->nwaiting--;
        if (begin(x) == -ENOMEM)
            task_fail_memory(&x->run);
    }
}

static bool wants_out(const struct task *t)
{
    return t->returns == RETURN_STDOUT || t->returns == RETURN_ALL;
}

static bool wants_err(const struct task *t)
{
    return t->returns == RETURN_STDERR || t->returns == RETURN_ALL;
}

/* The text of a stream without one trailing newline. */
static struct json_object *stream(struct slice s)
{
    if (s.n && s.p[s.n - 1] == '\n')
        s.n--;
    return task_text(s);
}

static struct json_object *all_of(const struct child_result *c)
{
    struct json_object *o = json_object_new_object(), *v[3];
    static const char *const keys[] = {"code", "stdout", "stderr"};
    v[0] = json_object_new_int(c->status);
    v[1] = stream(c->out);
    v[2] = stream(c->err);
    bool ok = o != NULL;
    for (size_t i = 0; i < 3; i++) {
        if (ok && v[i] && !json_object_object_add(o, keys[i], v[i]))
            continue;
        json_object_put(v[i]);
        ok = false;
    }
    if (ok)
        return o;
    json_object_put(o);
    return NULL;
}

static void give_output(struct task_run *r, const struct child_result *c)
{
    struct json_object *o = NULL;
    switch (r->task->returns) {
    case RETURN_STDOUT:
        o = stream(c->out);
        break;
    case RETURN_STDERR:
        o = stream(c->err);
        break;
    case RETURN_CODE:
        o = json_object_new_int(c->status);
        break;
    case RETURN_ALL:
        o = all_of(c);
        break;
    case RETURN_NONE:
        task_finish(r, NULL);
        return;
    }
    if (o)
        task_finish(r, o);
    else
        task_fail_memory(r);
}

/* The end of what it said on stderr, from a whole line on if there is one. */
static struct slice last_words(struct slice s)
{
    s = sl_trim(s);
    if (s.n <= STDERR_SHOWN_BYTES)
        return s;
    s = sl_from(s, s.n - STDERR_SHOWN_BYTES);
    ptrdiff_t nl = sl_find(s, '\n');
    return nl >= 0 && (size_t)nl + 1 < s.n ? sl_from(s, (size_t)nl + 1) : s;
}

static void failed(struct task_run *r, const struct child_result *c)
{
    struct slice words = last_words(c->err);
    if (c->signo)
        task_fail(r, "runtime", 500, "Process killed", "ended by signal %d (%s)%s%.*s", c->signo,
                  strsignal(c->signo), words.n ? ": " : "", SL_ARG(words));
    else
        task_fail(r, "runtime", 500, "Process failed", "exit status %d%s%.*s", c->status,
                  words.n ? ": " : "", SL_ARG(words));
}

static void on_end(void *arg, const struct child_result *c)
{
    struct process *x = arg;
    struct task_run *r = &x->run;
    struct tasks *t = r->tasks;
    x->child = NULL;
    t->nprocesses--;
    if (r->lingers) {
        if (c->status)
            log_warn(t->o.log, "a process that is not awaited failed",
                     "run=%s task=%s status=%d stderr=%s", log_q(r->run_id), log_q(r->ref),
                     c->status, log_qs(last_words(c->err)));
        task_release(r);
    } else if (c->status && r->task->returns != RETURN_CODE && r->task->returns != RETURN_ALL) {
        failed(r, c);
    } else if (c->truncated && ((wants_out(r->task) && c->out.n > TASK_OUTPUT_MAX) ||
                                (wants_err(r->task) && c->err.n > TASK_OUTPUT_MAX))) {
        task_fail(r, "runtime", 500, "Output too large",
                  "the process wrote more than %d bytes; let it write to a file and print its path",
                  TASK_OUTPUT_MAX);
    } else {
        give_output(r, c);
    }
    serve_waiting(t);
}

static void not_started(struct task_run *r, const struct command *m, const struct err *e)
{
    if (e->code == -ENOENT && r->task->type == TASK_SCRIPT)
        task_fail(r, "configuration", 0, "Interpreter missing",
                  "%s is not on the engine's PATH; install it (Debian: apt install %s)", m->argv[0],
                  !strcmp(m->argv[0], "node") ? "nodejs" : m->argv[0]);
    else if (e->code == -E2BIG)
        task_fail(r, "validation", 0, NULL,
                  "arguments and environment are too large together; pass data by stdin");
    else
        task_fail(r, e->code == -ENOENT ? "configuration" : "runtime", 0, "Process not started",
                  "%s%s%s", e->msg, e->hint[0] ? "; " : "", e->hint);
}

/* Starts the process: 0 (under way or answered) or -ENOMEM (not answered). */
static int begin(struct process *x)
{
    struct task_run *r = &x->run;
    struct tasks *t = r->tasks;
    struct err e = {0};
    struct child_spec s = {
        .argv = (const char *const *)x->cmd.argv,
        .envp = (const char *const *)x->cmd.envp,
        .input = buf_slice(&x->cmd.input),
        .output_max =
            TASK_OUTPUT_MAX + 2, /* one newline is not output; one byte more shows excess */
    };
    bool await = r->task->await;
    x->child = child_start(t->o.loop, &s, on_end, x, &e);
    if (!x->child) {
        if (e.code == -ENOMEM)
            return -ENOMEM;
        not_started(r, &x->cmd, &e);
        return 0;
    }
    t->nprocesses++;
    command_free(&x->cmd);
    if (!await) {
        struct json_object *o = x->input;
        x->input = NULL;
        r->lingers = true;
        task_finish(r, o);
    }
    return 0;
}

/* At the end of the line, or at once when there is a place: 0, -EAGAIN the line is full, -ENOMEM.
 */
static int line_up(struct process *x)
{
    struct tasks *t = x->run.tasks;
    if (t->nprocesses < (size_t)t->o.max_processes)
        return begin(x);
    if (t->nwaiting >= PROCESSES_WAITING_MAX)
        return -EAGAIN;
    list_push(&t->waiting, &x->wait);
    x->waits = true;
    t->nwaiting++;
    return 0;
}

static void fail_with(struct task_run *r, struct problem *p)
{
    const char *name = strrchr(p->type, '/') + 1;
    task_fail(r, name, p->status, p->title, "%s", p->detail ? p->detail : "");
    problem_free(p);
}

static void on_code(void *arg, const struct http_result *h)
{
    struct process *x = arg;
    struct task_run *r = &x->run;
    struct problem p = {0};
    struct slice url = url_shown(sl_str(x->cmd.source));
    x->fetch = NULL;
    if (h->error == -ETIMEDOUT) {
        task_fail(r, "timeout", 0, NULL, "fetching the script from %.*s: %s", SL_ARG(url),
                  h->error_text ? h->error_text : "no answer in time");
        return;
    }
    if (h->error) {
        task_fail(r, "communication", 500, "No answer", "fetching the script from %.*s: %s",
                  SL_ARG(url), h->error_text ? h->error_text : strerror(-h->error));
        return;
    }
    if (h->status < 200 || h->status > 299) {
        task_fail(r, "communication", h->status, "Script not found",
                  "%.*s answered %d instead of the script", SL_ARG(url), h->status);
        return;
    }
    int rc = command_set_code(&x->cmd, h->body, &p);
    if (rc == -EINVAL) {
        fail_with(r, &p);
        return;
    }
    if (!rc)
        rc = line_up(x);
    if (rc == -EAGAIN)
        task_fail(r, "runtime", 500, "Too many processes", "%d processes wait for a place already",
                  PROCESSES_WAITING_MAX);
    else if (rc)
        task_fail_memory(r);
}

static int fetch_code(struct process *x)
{
    struct err e = {0};
    struct http_spec s = {
        .method = SL("GET"),
        .url = sl_str(x->cmd.source),
        .redirects_max = REDIRECTS_MAX,
        .body_max = COMMAND_TEXT_MAX_BYTES,
    };
    x->fetch = http_start(x->run.tasks->http, &s, on_code, x, &e);
    if (x->fetch)
        return 0;
    if (e.code == -ENOMEM || e.code == -EAGAIN)
        return e.code;
    task_fail(&x->run, "configuration", 0, NULL, "%s%s%s", e.msg, e.hint[0] ? "; " : "", e.hint);
    return 0;
}

static int start(struct task_run *r, const struct task_call *c)
{
    struct process *x = (struct process *)r;
    struct problem p = {0};
    int rc = command_build(&x->cmd, c, &p);
    if (rc == -EINVAL) {
        fail_with(r, &p);
        return 0;
    }
    if (rc)
        return rc;
    if (!r->task->await)
        x->input = json_object_get(js_get(c->with, "$input"));
    return x->cmd.source ? fetch_code(x) : line_up(x);
}

static void stop(struct task_run *r)
{
    struct process *x = (struct process *)r;
    struct tasks *t = r->tasks;
    if (x->fetch)
        http_cancel(x->fetch);
    x->fetch = NULL;
    if (x->waits) {
        list_del(&x->wait);
        x->waits = false;
        t->nwaiting--;
    }
    command_free(&x->cmd);
    json_object_put(x->input);
    x->input = NULL;
    if (!x->child)
        return;
    child_kill(x->child);
    x->child = NULL;
    t->nprocesses--;
    serve_waiting(t);
}

const struct task_kind task_process = {"process", sizeof(struct process), start, stop};
