/* run FILE: one run to its end on a private, temporary log inside this process. The same engine as
 * everywhere: the run is requested, its facts go to a journal, and what is printed is read back
 * from it. */
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/broker.h"
#include "cli/cli.h"
#include "node/node.h"
#include "triggers/request.h"

struct one_run {
    struct cli *c;
    struct loop *loop;
    struct log *log;
    struct broker *broker;
    struct node *node;
    struct flow *flow;
    struct loop_signal signals;
    struct loop_timer timeout;
    char dir[4096], id[RUN_ID_MAX];
    struct json_object *input;
    int status;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void on_drained(void *arg)
{
    struct one_run *o = arg;
    o->node = NULL;
    loop_stop(o->loop, o->status);
}

static void finish(struct one_run *o, int status)
{
    o->status = status;
    if (o->node)
        node_drain(o->node, 1000, on_drained, o);
    else
        loop_stop(o->loop, status);
}

static void on_ended(void *arg, const struct run *r)
{
    struct one_run *o = arg;
    if (!strcmp(r->id, o->id))
        finish(o, r->known.status == RUN_COMPLETED ? EXIT_DONE : EXIT_RUN);
}

static void on_signal(struct loop_signal *s, int signo)
{
    finish(LIST_ENTRY(s, struct one_run, signals), EXIT_INTERRUPTED);
}

static void on_timeout(struct loop_timer *t)
{
    finish(LIST_ENTRY(t, struct one_run, timeout), EXIT_TIMEOUT);
}

static int open_log(struct one_run *o)
{
    struct cli *c = o->c;
    char address[64], dir[sizeof o->dir + 8];
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(o->dir, sizeof o->dir, "%s/tidemark-run-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (n >= (int)sizeof o->dir || !mkdtemp(o->dir)) {
        int error = n >= (int)sizeof o->dir ? -ENAMETOOLONG : -errno;
        o->dir[0] = '\0'; /* nothing to remove */
        return err_set(&c->e, error, "is TMPDIR a folder that can be written to?",
                       "no temporary folder in %s: %s", tmp && *tmp ? tmp : "/tmp",
                       strerror(-error));
    }
    snprintf(dir, sizeof dir, "%s/log", o->dir);
    struct broker_opts b = {.data_dir = dir,
                            .host = "127.0.0.1",
                            .default_partitions = 1,
                            .auto_create_topics = true,
                            .log = o->log};
    if (!(o->broker = broker_start(&b, &c->e)))
        return c->e.code ? c->e.code : -EIO;
    snprintf(address, sizeof address, "127.0.0.1:%d", broker_port(o->broker));
    c->config->journal_partitions = 1;
    c->config->journal_replication = 1;
    /* Nobody declares topics for a log that is gone afterwards. */
    if (!c->config->events_default && !(c->config->events_default = strdup("events")))
        return -ENOMEM;
    return config_set_kafka(c->config, "bootstrap.servers", address, &c->e);
}

static int request_run(struct one_run *o)
{
    struct cli *c = o->c;
    const struct flow_info *fi = flow_info(o->flow);
    struct agents_change ch;
    struct rec *r = NULL;
    struct diags warn;
    int partitions;
    diags_init(&warn);
    int error = node_topics(c->admin, c->config, &c->names, &partitions, &warn, &c->e);
    diags_free(&warn);
    if (!error)
        error = agents_apply(c->admin, &c->names, o->flow, true, false, &ch, &c->e);
    if (error)
        return error;
    run_id_make(o->id, 0, sl_str(ch.id), SL("api"), SL("run"), sl_str(o->dir));
    struct request q = {.agent = ch.id,
                        .version = fi->version,
                        .hash = fi->hash,
                        .key = o->id,
                        .input = o->input,
                        .run_id = o->id,
                        .priority = 5,
                        .src_offset = -1,
                        .floor = -1,
                        .time_ms = clock_wall_ms()};
    error = request_make(&q, &r, &c->e);
    if (!error)
        error = cli_journal_send(c, r, 0, NULL);
    rec_unref(r);
    return error;
}

static int go(struct one_run *o)
{
    static const int signos[] = {SIGTERM, SIGINT};
    struct cli *c = o->c;
    struct node_opts no = {
        .loop = o->loop, .config = c->config, .log = o->log, .on_ended = on_ended, .arg = o};
    o->signals.fn = on_signal;
    o->timeout.fn = on_timeout;
    loop_signal_add(o->loop, &o->signals, signos, 2);
    int error = open_log(o);
    if (!error)
        error = cli_open(c);
    if (!error)
        error = request_run(o);
    if (!error && !(o->node = node_open(&no, &c->e)))
        error = c->e.code ? c->e.code : -EIO;
    if (error)
        return cli_fail(c, error);
    if (c->timeout_ms >= 0)
        loop_timer_set(o->loop, &o->timeout, loop_now(o->loop) + c->timeout_ms);
    return loop_run(o->loop);
}

static struct json_object *emitted(const struct flow *f, const struct trace_run *r)
{
    struct json_object *v = json_object_new_array();
    for (size_t i = 0; i < r->ntasks; i++) {
        const struct task *t = flow_task(f, sl_str(r->tasks[i].ref));
        if (t && t->type == TASK_EMIT && r->tasks[i].output)
            json_object_array_add(v, json_object_get(val_tree(r->tasks[i].output)));
    }
    return v;
}

static void print_result(struct one_run *o, const struct trace_run *r)
{
    struct cli *c = o->c;
    struct json_object *all = trace_json(r, true), *out = json_object_new_object();
    static const char *const members[] = {"id", "status", "output", "error", "tasks"};
    for (size_t i = 0; i < 5; i++)
        json_object_object_add(out, members[i], json_object_get(js_get(all, members[i])));
    json_object_object_add(out, "events", emitted(o->flow, r));
    if (c->format != OUT_TABLE) {
        cli_print_one(c, out);
    } else if (r->status == RUN_COMPLETED) {
        struct buf b;
        buf_init(&b, 64u << 20);
        js_write_pretty(val_tree(r->output), &b);
        printf("%.*s\n", (int)b.n, b.p ? b.p : "");
        buf_free(&b);
    } else {
        fprintf(stderr, "tidemark: the run %s\n", run_status_name(r->status));
        struct buf b;
        buf_init(&b, 1 << 20);
        js_write_pretty(val_tree(r->error), &b);
        fprintf(stderr, "%.*s\n", (int)b.n, b.p ? b.p : "");
        buf_free(&b);
    }
    json_object_put(all);
    json_object_put(out);
}

static int print(struct one_run *o)
{
    struct journal_reader j = {0};
    trace_init(&j.trace, o->id, true);
    int error = cli_journal_read(o->c, &j, 0), status = error ? cli_fail(o->c, error) : 0;
    struct trace_run *r = error ? NULL : map_get(&j.trace.runs, sl_str(o->id));
    if (r)
        print_result(o, r);
    trace_free(&j.trace);
    return status;
}

int cmd_run(struct cli *c)
{
    struct one_run o = {.c = c};
    const char *level = cli_get(c, "log-level");
    int error = cli_config(c), status;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of the write */
    if (!error)
        error = load_flow(c, c->args[0], true, &o.flow);
    if (!error)
        error = cli_json_arg(c, cli_get(c, "input") ? cli_get(c, "input") : "{}", &o.input);
    if (!error && !(o.loop = loop_new(&c->e)))
        error = c->e.code;
    o.log = log_new(2,
                    level && !strcmp(level, "debug")  ? LOG_DEBUG
                    : level && !strcmp(level, "info") ? LOG_INFO
                                                      : LOG_ERROR,
                    false);
    if (error) {
        status = cli_fail(c, error);
    } else {
        status = go(&o);
        if ((status == EXIT_DONE || status == EXIT_RUN) && print(&o))
            status = EXIT_UNREACHABLE;
    }
    loop_timer_unset(&o.timeout);
    if (o.signals.w.loop)
        loop_signal_del(&o.signals);
    cli_close(c);
    if (o.broker)
        broker_stop(o.broker);
    loop_free(o.loop);
    log_free(o.log);
    flow_unref(o.flow);
    json_object_put(o.input);
    if (o.dir[0])
        nftw(o.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}
