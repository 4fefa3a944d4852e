/* runs start|list|show|watch|history and the requests cancel|suspend|resume. Forks and retries:
 * cmd_fork.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cli/cli.h"
#include "triggers/request.h"

#define WATCH_EVERY_MS 250

/* Reads the run's partition; *ret is NULL when there is no such run. */
static int read_run(struct cli *c, struct journal_reader *j, const char *id, struct trace_run **ret)
{
    trace_init(&j->trace, id, true);
    int error = cli_journal_read(c, j, run_id_partition(sl_str(id)));
    *ret = error ? NULL : map_get(&j->trace.runs, sl_str(id));
    return error;
}

static int no_run(struct cli *c, const char *id)
{
    err_set(&c->e, -ENOENT, "`tidemark runs list` has the runs that the journal still holds",
            "no run %s", id);
    return cli_fail(c, -ENOENT);
}

int cmd_runs_show(struct cli *c)
{
    struct journal_reader j = {0};
    struct trace_run *r;
    if (!run_id_check(c, c->args[0]))
        return EXIT_USAGE;
    int error = cli_open(c), status;
    if (!error)
        error = read_run(c, &j, c->args[0], &r);
    if (error)
        return cli_fail(c, error);
    if (!r) {
        status = no_run(c, c->args[0]);
    } else {
        struct json_object *o = trace_json(r, true);
        (void)run_show(c, o);
        json_object_put(o);
        status = EXIT_DONE;
    }
    trace_free(&j.trace);
    return status;
}

/* Waits for the end; the answer's print is the caller's. *ret NULL: time-out. */
static int wait_end(struct cli *c, const char *id, struct journal_reader *j, struct trace_run **ret)
{
    int64_t until = c->timeout_ms < 0 ? INT64_MAX : clock_boot_ms() + c->timeout_ms;
    for (;;) {
        memset(j, 0, sizeof *j);
        int error = read_run(c, j, id, ret);
        if (error || (*ret && (*ret)->ended_ms))
            return error;
        *ret = NULL;
        trace_free(&j->trace);
        if (clock_boot_ms() >= until)
            return 0;
        usleep(WATCH_EVERY_MS * 1000);
    }
}

static int watch(struct cli *c, const char *id)
{
    struct journal_reader j;
    struct trace_run *r = NULL;
    int error = wait_end(c, id, &j, &r);
    if (error)
        return cli_fail(c, error);
    if (!r)
        return run_not_ended(id);
    struct json_object *o = trace_json(r, true);
    int status = run_show(c, o);
    json_object_put(o);
    trace_free(&j.trace);
    return status;
}

int cmd_runs_watch(struct cli *c)
{
    if (!run_id_check(c, c->args[0]))
        return EXIT_USAGE;
    int error = cli_open(c);
    return error ? cli_fail(c, error) : watch(c, c->args[0]);
}

struct history {
    struct cli *c;
    const char *id;
    struct json_object *list;
};

static int on_history(void *arg, struct rec *r, bool is_void)
{
    struct history *h = arg;
    if (strcmp(r->run, h->id))
        return 0;
    json_object_array_add(h->list, trace_record_json(r, is_void));
    return 0;
}

int cmd_runs_history(struct cli *c)
{
    struct history h = {c, c->args[0], NULL};
    struct journal_reader j = {.fn = on_history, .arg = &h};
    if (!run_id_check(c, c->args[0]))
        return EXIT_USAGE;
    int error = cli_open(c);
    if (error)
        return cli_fail(c, error);
    h.list = json_object_new_array();
    trace_init(&j.trace, c->args[0], false);
    error = cli_journal_read(c, &j, run_id_partition(sl_str(c->args[0])));
    trace_free(&j.trace);
    int status = EXIT_DONE;
    if (error)
        status = cli_fail(c, error);
    else if (!json_object_array_length(h.list))
        status = no_run(c, c->args[0]);
    else
        cli_print_list(c, h.list, history_columns);
    json_object_put(h.list);
    return status;
}

/* ---- list ---- */

static int by_time(const void *a, const void *b)
{
    const struct trace_run *x = *(struct trace_run *const *)a, *y = *(struct trace_run *const *)b;
    return x->requested_ms != y->requested_ms ? (x->requested_ms < y->requested_ms ? -1 : 1)
                                              : strcmp(x->id, y->id);
}

/* The newest `limit` that match, oldest first. */
static struct json_object *pick(struct cli *c, struct trace_run **v, size_t n, size_t limit)
{
    struct json_object *list = json_object_new_array(), *out = json_object_new_array();
    if (n)
        qsort(v, n, sizeof *v, by_time);
    for (size_t i = n; i > 0 && (!limit || json_object_array_length(list) < limit); i--) {
        struct json_object *o = trace_json(v[i - 1], false);
        if (cli_where(c, o))
            json_object_array_add(list, o);
        else
            json_object_put(o);
    }
    for (size_t i = json_object_array_length(list); i > 0; i--)
        json_object_array_add(out, json_object_get(json_object_array_get_idx(list, i - 1)));
    json_object_put(list);
    return out;
}

int cmd_runs_list(struct cli *c)
{
    int64_t max;
    int n = 0, status = runs_limit(c, &max);
    if (status)
        return status;
    int error = cli_open(c);
    if (!error)
        error = cli_journal_partitions(c, &n);
    if (error)
        return cli_fail(c, error);
    struct journal_reader j = {0};
    trace_init(&j.trace, NULL, false);
    for (int p = 0; p < n && !error; p++)
        error = cli_journal_read(c, &j, p);
    if (!error) {
        struct json_object *list = pick(c, j.trace.order, j.trace.n, (size_t)max);
        runs_show(c, list);
        json_object_put(list);
    }
    trace_free(&j.trace);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- requests: the answer to one with --id ---- */

struct decision {
    int64_t request;
    char status[64]; /* of request.settled */
    bool made;
};

/* Whether the writer is still the owner is not asked: every owner decides alike, since the fold
 * does. */
static int on_decision(void *arg, struct rec *r, bool is_void)
{
    struct decision *d = arg;
    if (r->consumed != d->request)
        return 0;
    d->made = true;
    if (r->type == REC_SETTLED && r->status)
        (void)snprintf(d->status, sizeof d->status, "%s", r->status);
    return 1;
}

/* The owner's word on whether the id stands for another request: 0 or -EEXIST. With --wait only,
 * since it takes an owner; when the time is over the request still waits for one. */
static int decided(struct cli *c, const char *id, int partition, int64_t offset)
{
    struct decision d = {.request = offset};
    struct journal_start from = {offset, -1, 0};
    int64_t until = c->timeout_ms < 0 ? INT64_MAX : clock_boot_ms() + c->timeout_ms;
    while (!d.made && clock_boot_ms() < until) {
        struct journal_reader j = {.fn = on_decision, .arg = &d};
        trace_init(&j.trace, id, false);
        int error = journal_read(c->admin, &c->names, &j, partition, &from, -1, &c->e);
        trace_free(&j.trace);
        if (error < 0)
            return error;
        if (!d.made)
            usleep(20000);
    }
    if (strcmp(d.status, "conflict") != 0)
        return 0;
    return err_set(&c->e, -EEXIST, "give each request an --id of its own; it is kept for a day",
                   "the --id was used for a request with another input, key or version");
}

static int send_request(struct cli *c, const struct request *q, int partition)
{
    struct rec *r = NULL;
    int64_t offset = -1;
    int error = request_make(q, &r, &c->e);
    FAILPOINT_OF("request", NULL, q->run_id);
    if (!error)
        error = cli_journal_send(c, r, partition, &offset);
    rec_unref(r);
    if (error)
        return cli_fail(c, error);
    FAILPOINT_OF("requested", NULL, q->run_id);
    if (cli_has(c, "wait") && !q->random_id && offset >= 0 &&
        (error = decided(c, q->run_id, partition, offset)))
        return cli_fail(c, error);
    if (cli_has(c, "wait"))
        return watch(c, q->run_id);
    return run_say_started(c, q->run_id, partition, offset);
}

/* --id is an Idempotency-Key: the run is the same by HTTP and by the brokers. Without it the key
 * decides on the partition. */
int cmd_runs_start(struct cli *c)
{
    char hash[FLOW_HASH_MAX], agent[2 * FLOW_NAME_MAX + 2], version[64], uuid[37], run[RUN_ID_MAX];
    const char *id = cli_get(c, "id"), *asked = strchr(c->args[0], ':');
    struct json_object *input = NULL;
    int n = 0, partition;
    int error = cli_open(c);
    if (!error)
        error = cli_json_arg(c, cli_get(c, "input") ? cli_get(c, "input") : "{}", &input);
    if (!error)
        error = agents_find(c->admin, &c->names, c->args[0], hash, agent, version, &c->e);
    if (!error)
        error = cli_journal_partitions(c, &n);
    if (error) {
        json_object_put(input);
        return cli_fail(c, error);
    }
    uuid4(uuid);
    const char *key = cli_get(c, "key") ? cli_get(c, "key") : id ? id : uuid;
    if (id) {
        request_keyed_id(run, &partition, agent, sl_str(id), n);
    } else {
        partition = run_partition(sl_str(agent), sl_str(key), n);
        run_id_make(run, partition, sl_str(agent), SL("api"), SL("cli"), sl_str(uuid));
    }
    struct request q = {.agent = agent,
                        .version = version,
                        .hash = hash,
                        .key = key,
                        .input = input,
                        .run_id = run,
                        .random_id = !id,
                        .asked_version = asked ? asked + 1 : NULL,
                        .priority = 5,
                        .src_offset = -1,
                        .floor = -1,
                        .time_ms = clock_wall_ms()};
    int status = send_request(c, &q, partition);
    json_object_put(input);
    return status;
}

static int control(struct cli *c, enum rec_type t)
{
    int error = cli_open(c);
    for (int i = 0; i < c->nargs && !error; i++) {
        struct rec *r = NULL;
        error = request_control(t, c->args[i], cli_get(c, "reason"), clock_wall_ms(), &r, &c->e);
        if (!error)
            error = cli_journal_send(c, r, run_id_partition(sl_str(c->args[i])), NULL);
        if (!error)
            run_say_requested(c->args[i], rec_type_name(t) + 4);
        rec_unref(r);
    }
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_runs_cancel(struct cli *c)
{
    return control(c, REC_CANCEL);
}

int cmd_runs_suspend(struct cli *c)
{
    return control(c, REC_SUSPEND);
}

int cmd_runs_resume(struct cli *c)
{
    return control(c, REC_RESUME);
}
