/* runs fork and runs retry: triggers/fork.h. */
#include "triggers/fork.h"

#include "cli/cli.h"

static int fork_run(struct cli *c, const char *from, bool retry)
{
    struct journal_reader j = {.fn = fork_record};
    struct fork f;
    struct fork_made made = {0};
    struct fork_ask ask = {.agent = cli_get(c, "agent"), .id = cli_get(c, "id"), .retry = retry};
    int64_t visit, offset = -1;
    const char *id = c->args[0];
    if (!run_id_check(c, id) || run_visit(c, &visit))
        return EXIT_USAGE;
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
        run_say_forked(c, made.id[0] ? made.id : NULL, made.of, offset);
    fork_made_free(&made);
    trace_free(&j.trace);
    fork_free(&f);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_runs_fork(struct cli *c)
{
    const char *from = cli_get(c, "from");
    if (!from)
        return run_no_from(c);
    return fork_run(c, from, false);
}

int cmd_runs_retry(struct cli *c)
{
    return fork_run(c, cli_get(c, "from"), true);
}
