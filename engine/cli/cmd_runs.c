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

static int bad_id(struct cli *c, const char *id)
{
    return cli_usage(c, "a run id has 30 characters, as printed by `tidemark runs list`",
                     "\"%s\" is not a run id", id);
}

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

static void print_value(const char *label, struct val *v)
{
    struct slice s = val_text(v);
    if (v)
        printf("%s%.*s%s\n", label, (int)(s.n > 400 ? 400 : s.n), s.p, s.n > 400 ? " ..." : "");
}

/* "[3] " for a task directly inside iteration 3 of a loop, else "". */
static const char *iteration(const char *ref, char *buf, size_t size)
{
    const char *found = NULL;
    for (const char *s = ref; (s = strstr(s, "/for/")); s++)
        if (s[5] >= '0' && s[5] <= '9')
            found = s + 5;
    int slashes = 0;
    for (const char *s = found; s && *s; s++)
        slashes += *s == '/';
    if (slashes == 3) /* N/do/INDEX/NAME */
        (void)snprintf(buf, size, "[%.*s] ", (int)strspn(found, "0123456789"), found);
    else
        buf[0] = 0;
    return buf;
}

static void print_task(struct cli *c, const struct trace_run *r, size_t i)
{
    const struct trace_task *t = &r->tasks[i];
    static const char *const marks[][2] = {{"completed", "\033[32m"}, {"faulted", "\033[31m"},
                                           {"running", "\033[33m"},   {"waiting", "\033[33m"},
                                           {"retrying", "\033[33m"},  {"catching", "\033[33m"}};
    char ago[32] = "", index[32], at[TIME_TEXT_MAX];
    int depth = 0;
    const char *name = strrchr(t->ref, '/'), *colour = "";
    for (const char *p = t->ref; *p; p++)
        depth += *p == '/';
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (!strcmp(marks[k][0], t->status))
            colour = marks[k][1];
    if (t->ended_ms)
        cli_ago(t->ended_ms - t->started_ms, ago);
    printf("  %*s%s%s%s%s", depth > 2 ? (depth - 2) : 0, "", i + 1 < r->ntasks ? "├─ " : "└─ ",
           c->colour ? colour : "", iteration(t->ref, index, sizeof index),
           name ? name + 1 : t->ref);
    if (t->visit)
        printf(" #%d", t->visit);
    printf("%s  %s", c->colour ? "\033[0m" : "", t->status);
    if (ago[0])
        printf("  %s", ago);
    if (t->attempt > 1)
        printf("  attempt %d", t->attempt);
    if (t->retries)
        printf("  %d %s", t->retries, t->retries == 1 ? "retry" : "retries");
    if (t->retry_ms > t->started_ms && !t->ended_ms) {
        time_write(at, t->retry_ms);
        printf("  next attempt %s", at);
    }
    printf("  @%lld\n", (long long)t->last);
    if (t->error)
        print_value("       ", t->error);
}

static void print_run(struct cli *c, const struct trace_run *r)
{
    char ago[32] = "", time[TIME_TEXT_MAX];
    time_write(time, r->requested_ms);
    if (r->ended_ms)
        cli_ago(r->ended_ms - r->requested_ms, ago);
    printf("%s  %s:%s  %s%s%s\n", r->id, r->agent, r->version, run_status_name(r->status),
           ago[0] ? " in " : "", ago);
    printf("  partition %d, offsets %lld to %lld, requested %s", run_id_partition(sl_str(r->id)),
           (long long)r->first, (long long)r->last, time);
    if (r->src_name)
        printf(", from %s/%lld", r->src_name, (long long)r->src_offset);
    printf("\n");
    if (r->fork_of)
        print_value("  fork of ", r->fork_of);
    print_value("  input   ", r->input);
    for (size_t i = 0; i < r->ntasks; i++)
        print_task(c, r, i);
    print_value("  output  ", r->output);
    print_value("  error   ", r->error);
}

static int status_of_run(const struct trace_run *r)
{
    return r->status == RUN_FAULTED || r->status == RUN_CANCELLED ? EXIT_RUN : EXIT_DONE;
}

int cmd_runs_show(struct cli *c)
{
    struct journal_reader j = {0};
    struct trace_run *r;
    if (!run_id_valid(sl_str(c->args[0])))
        return bad_id(c, c->args[0]);
    int error = cli_open(c), status;
    if (!error)
        error = read_run(c, &j, c->args[0], &r);
    if (error)
        return cli_fail(c, error);
    if (!r) {
        status = no_run(c, c->args[0]);
    } else if (c->format == OUT_TABLE) {
        print_run(c, r);
        status = EXIT_DONE;
    } else {
        struct json_object *o = trace_json(r, true);
        cli_print_one(c, o);
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
    if (!r) {
        fprintf(stderr, "tidemark: %s has not ended yet; it goes on\n", id);
        return EXIT_TIMEOUT;
    }
    if (c->format == OUT_TABLE) {
        print_run(c, r);
    } else {
        struct json_object *o = trace_json(r, true);
        cli_print_one(c, o);
        json_object_put(o);
    }
    int status = status_of_run(r);
    trace_free(&j.trace);
    return status;
}

int cmd_runs_watch(struct cli *c)
{
    if (!run_id_valid(sl_str(c->args[0])))
        return bad_id(c, c->args[0]);
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
    static const char *const columns[] = {"offset", "time", "type",  "task",
                                          "epoch",  "void", "value", NULL};
    struct history h = {c, c->args[0], NULL};
    struct journal_reader j = {.fn = on_history, .arg = &h};
    if (!run_id_valid(sl_str(c->args[0])))
        return bad_id(c, c->args[0]);
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
        cli_print_list(c, h.list, columns);
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

static void print_counts(struct cli *c, struct json_object *list)
{
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *s = js_str(json_object_array_get_idx(list, i), "status");
        json_object_object_add(o, s, json_object_new_int64(js_int(o, s, 0) + 1));
    }
    if (c->format == OUT_TABLE) {
        json_object_object_foreach(o, key, v)
        {
            printf("%-10s %s\n", key, json_object_get_string(v));
        }
    } else {
        cli_print_one(c, o);
    }
    json_object_put(o);
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
    static const char *const columns[] = {"run=id",        "agent", "status",
                                          "key",           "feed",  "requested=requestedAt",
                                          "ended=endedAt", NULL};
    const char *limit = cli_get(c, "limit");
    int64_t max = cli_has(c, "count") ? 0 : 50;
    int n = 0;
    if (limit && (sl_i64(sl_str(limit), &max) < 0 || max < 0))
        return cli_usage(c, "a whole number; 0 for all", "--limit %s is not a number", limit);
    static const char *const names[] = {"agent", "status", "key", "feed", "version", NULL};
    int error = cli_where_check(c, names);
    if (error)
        return error;
    error = cli_open(c);
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
        if (cli_has(c, "count"))
            print_counts(c, list);
        else
            cli_print_list(c, list, columns);
        json_object_put(list);
    }
    trace_free(&j.trace);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- requests ---- */

/* ---- the answer to a request with --id ---- */

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

static int send_request(struct cli *c, const char *id, const char *agent, const char *version,
                        const char *hash, const char *key, struct json_object *input, int partition)
{
    struct rec *r = NULL;
    int64_t offset = -1;
    struct request q = {.agent = agent,
                        .version = version,
                        .hash = hash,
                        .key = key,
                        .input = input,
                        .run_id = id,
                        .random_id = !cli_get(c, "id"),
                        .priority = 5,
                        .src_offset = -1,
                        .floor = -1,
                        .time_ms = clock_wall_ms()};
    int error = request_make(&q, &r, &c->e);
    FAILPOINT_OF("request", NULL, id);
    if (!error)
        error = cli_journal_send(c, r, partition, &offset);
    rec_unref(r);
    if (error)
        return cli_fail(c, error);
    FAILPOINT_OF("requested", NULL, id);
    if (cli_has(c, "wait") && cli_get(c, "id") && offset >= 0 &&
        (error = decided(c, id, partition, offset)))
        return cli_fail(c, error);
    if (cli_has(c, "wait"))
        return watch(c, id);
    if (c->format == OUT_TABLE) {
        printf("%s\n", id);
    } else {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "id", json_object_new_string(id));
        json_object_object_add(o, "partition", json_object_new_int(partition));
        json_object_object_add(o, "offset", json_object_new_int64(offset));
        cli_print_one(c, o);
        json_object_put(o);
    }
    return EXIT_DONE;
}

int cmd_runs_start(struct cli *c)
{
    char hash[FLOW_HASH_MAX], id[2 * FLOW_NAME_MAX + 2], version[64], uuid[37], run[RUN_ID_MAX];
    struct json_object *input = NULL;
    int n = 0;
    int error = cli_open(c);
    if (!error)
        error = cli_json_arg(c, cli_get(c, "input") ? cli_get(c, "input") : "{}", &input);
    if (!error)
        error = agents_find(c->admin, &c->names, c->args[0], hash, id, version, &c->e);
    if (!error)
        error = cli_journal_partitions(c, &n);
    if (error) {
        json_object_put(input);
        return cli_fail(c, error);
    }
    uuid4(uuid);
    /* The key decides on the partition, which is a part of the run's id: the same --id and --key
     * (or none) give the same run. */
    const char *name = cli_get(c, "id") ? cli_get(c, "id") : uuid;
    const char *key = cli_get(c, "key") ? cli_get(c, "key") : name;
    int partition = run_partition(sl_str(id), sl_str(key), n);
    run_id_make(run, partition, sl_str(id), SL("api"), SL("cli"), sl_str(name));
    int status = send_request(c, run, id, version, hash, key, input, partition);
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
            printf("%s %s requested\n", c->args[i], rec_type_name(t) + 4);
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
