/* See run_read.h. */
#include "gateway/run_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/job.h"
#include "gateway/run_place.h"
#include "view/view.h"

bool run_read_init(struct run_read *x, struct call *c, const char *id, bool tasks)
{
    const struct run *live = NULL;
    if (!run_id_valid(sl_str(id))) {
        http_problem(c->r, 404, NULL,
                     "a run id has 30 characters: 4 hexadecimal digits and 26 more",
                     "\"%.64s\" is not a run id", id);
        return false;
    }
    if (c->g->n && run_id_partition(sl_str(id)) >= node_partitions(c->g->n)) {
        http_problem(c->r, 404, NULL, "GET /v1/runs has the runs that the journal still holds",
                     "there is no run %s", id);
        return false;
    }
    memcpy(x->id, id, sizeof x->id); /* its length was checked */
    x->g = c->g;
    x->partition = run_id_partition(sl_str(id));
    if (c->g->n)
        live = node_run(c->g->n, id);
    x->first = live ? live->known.request : -1;
    const char *key = x->first < 0 ? http_header(c->r, "Authorization") : NULL;
    x->authorization = key ? strdup(key) : NULL;
    trace_init(&x->j.trace, x->id, tasks);
    return true;
}

void run_read_free(struct run_read *x)
{
    if (x->g)
        trace_free(&x->j.trace);
    if (x->authorization)
        explicit_bzero(x->authorization, strlen(x->authorization));
    free(x->authorization);
    x->authorization = NULL;
}

struct pass {
    struct run_read *x;
    struct owned seen;
    bool failed;
};

static int on_record(void *arg, struct rec *r, bool is_void)
{
    struct pass *p = arg;
    if (r->type == REC_OWNER && !owned_add(&p->seen, r->offset, r->nonce))
        p->failed = true;
    return p->x->fn ? p->x->fn(p->x->arg, r, is_void) : 0;
}

static int no_run(const struct run_read *x, struct err *e)
{
    return err_set(e, -ENOENT, "GET /v1/runs has the runs that the journal still holds",
                   "there is no run %s", x->id);
}

static int read_ranges(struct run_read *x, struct kadmin *a, const struct run_plan *plan,
                       struct err *e)
{
    int error = 0;
    for (int i = 0; i < plan->n && !error; i++) {
        const struct span *v = &plan->v[i];
        struct journal_start s = {v->from, v->epoch, v->nonce};
        if (v->from < v->to)
            error = journal_read(a, &x->g->names, &x->j, x->partition, &s, v->to, e);
    }
    return error;
}

int run_read_from(struct run_read *x, struct kadmin *a, int64_t after, struct err *e)
{
    const struct names *n = &x->g->names;
    struct run_place place;
    struct run_plan plan;
    struct pass pass = {.x = x};
    int64_t low, high, want = x->first > after ? x->first : after + 1;
    /* Where nobody knows it, since it is not there, or not yet: all of the partition is read. */
    (void)run_place(x->g, a, x->id, x->first < 0, x->authorization, &place);
    int error = kadmin_watermarks(a, n->runs, x->partition, &low, &high, JOURNAL_ADMIN_MS, e);
    if (error == -ENOENT)
        return no_run(x, e);
    if (!error)
        error = run_plan(x->g, a, x->partition, &place, want, high, low, high, &plan, e);
    if (error)
        return error;
    x->fn = x->j.fn;
    x->arg = x->j.arg;
    x->j.fn = on_record;
    x->j.arg = &pass;
    x->j.until_ms = clock_boot_ms() + (x->deadline_ms ? x->deadline_ms : JOB_READ_MS);
    error = read_ranges(x, a, &plan, e);
    x->j.fn = x->fn;
    x->j.arg = x->arg;
    x->run = map_get(&x->j.trace.runs, sl_str(x->id));
    if (!error && !pass.failed)
        run_plan_learn(x->g, x->partition, &plan, high, &pass.seen);
    free(pass.seen.v);
    return error;
}

int run_read(struct run_read *x, struct kadmin *a, struct err *e)
{
    int error = run_read_from(x, a, -1, e);
    return error || x->run ? error : no_run(x, e);
}

int run_agent(struct gateway *g, struct kadmin *a, const char *run, char *ret_agent, size_t size,
              struct err *e)
{
    struct run_read x = {.g = g, .first = -1, .partition = run_id_partition(sl_str(run))};
    ret_agent[0] = 0;
    if (g->o.view && view_run(g->o.view, run, NULL, ret_agent, size, NULL) == 0 && ret_agent[0])
        return 0;
    (void)snprintf(x.id, sizeof x.id, "%s", run);
    trace_init(&x.j.trace, x.id, false);
    int error = run_read(&x, a, e);
    (void)snprintf(ret_agent, size, "%s", !error && x.run->agent ? x.run->agent : "");
    if (error == -ENOENT) {
        err_clear(e);
        error = 0;
    }
    run_read_free(&x);
    return error;
}
