/* runs fork and runs retry: triggers/fork.h. */
#include "triggers/fork.h"

#include "cli/cli.h"

static void say(struct cli *c, const struct fork_made *m, int64_t offset)
{
    if (!m->id[0]) {
        printf("%s retry requested\n", c->args[0]);
    } else if (c->format == OUT_TABLE) {
        printf("%s\n", m->id);
    } else {
        struct json_object *o = json_object_new_object();
        js_put(o, "forkOf", json_object_get(m->of));
        js_put_new(o, "id", json_object_new_string(m->id));
        js_put_new(o, "offset", json_object_new_int64(offset));
        cli_print_one(c, o);
        json_object_put(o);
    }
}

static int fork_run(struct cli *c, const char *from, bool retry)
{
    struct journal_reader j = {.fn = fork_record};
    struct fork f;
    struct fork_made made = {0};
    struct fork_ask ask = {.agent = cli_get(c, "agent"), .id = cli_get(c, "id"), .retry = retry};
    int64_t visit = -1, offset = -1;
    const char *id = c->args[0];
    if (!run_id_valid(sl_str(id)))
        return cli_usage(c, "a run id has 30 characters, as printed by `tidemark runs list`",
                         "\"%s\" is not a run id", id);
    if (cli_get(c, "visit") &&
        (sl_i64(sl_str(cli_get(c, "visit")), &visit) < 0 || visit < 0 || visit > INT32_MAX))
        return cli_usage(c, "a whole number from 0", "--visit %s is not a visit",
                         cli_get(c, "visit"));
    int error = cli_open(c);
    if (error)
        return cli_fail(c, error);
    int partition = run_id_partition(sl_str(id));
    trace_init(&j.trace, id, false);
    fork_init(&f, &j.trace, id, from, (int)visit);
    j.arg = &f;
    error = cli_journal_read(c, &j, partition);
    if (!error)
        error = fork_make(&f, c->admin, &c->names, &ask, &made, &c->e);
    if (!error)
        error = cli_journal_send(c, made.rec, partition, &offset);
    if (!error)
        say(c, &made, offset);
    fork_made_free(&made);
    trace_free(&j.trace);
    fork_free(&f);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_runs_fork(struct cli *c)
{
    const char *from = cli_get(c, "from");
    if (!from)
        return cli_usage(c, "`tidemark runs show RUN` lists the tasks",
                         "--from TASKREF is missing");
    return fork_run(c, from, false);
}

int cmd_runs_retry(struct cli *c)
{
    return fork_run(c, cli_get(c, "from"), true);
}
