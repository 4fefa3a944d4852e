/* What all commands share. */
#pragma once
#include <stdio.h>

#include "config/config.h"
#include "log/kadmin.h"
#include "triggers/feeds.h"
#include "triggers/journal.h"

enum {
    EXIT_DONE = 0,
    EXIT_RUN = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4,
    EXIT_DENIED = 5,
    EXIT_UNREACHABLE = 6,
    EXIT_TIMEOUT = 124,
    EXIT_INTERRUPTED = 130
};

struct cli_opt {
    const char *name, *arg, *help; /* arg NULL: a switch; "FILE...": may be repeated */
};
#define CLI_VALUES_MAX 64
struct cli;
struct cli_cmd {
    const char *words, *args, *summary; /* "runs list", "RUN", ... */
    int min_args, max_args;             /* -1: any number */
    const struct cli_opt *opts;         /* ends with name NULL; NULL: none */
    int (*fn)(struct cli *c);
    /* What is done when a server is named (client.h): the same by HTTP; fn again for a command that
     * asks nobody; NULL: only the brokers can do it, and with a server it is refused. */
    int (*remote)(struct cli *c);
};
enum cli_format { OUT_TABLE, OUT_JSON, OUT_JSONL, OUT_YAML };
struct cli {
    const struct cli_cmd *cmd;
    char **args;
    int nargs;
    struct {
        const char *name, *value;
    } values[CLI_VALUES_MAX];
    size_t nvalues;
    enum cli_format format;
    bool tty, colour;
    int timeout_ms;        /* --timeout; -1: none given */
    struct config *config; /* cli_open */
    struct kadmin *admin;
    struct client *client; /* of the HTTP interface; client.h makes it */
    struct names names;
    struct err e;
};
extern const struct cli_cmd cli_table[];
extern const struct cli_opt cli_common[]; /* flags of all commands */
/* How many words of argv the command's name takes; 0: it is not this one. */
int cli_words_match(const struct cli_cmd *m, int argc, const char *const *argv);

const char *cli_get(const struct cli *c, const char *name); /* the last value, or NULL */
bool cli_has(const struct cli *c, const char *name);
const char *cli_nth(const struct cli *c, const char *name, size_t i); /* of a repeated one */
int cli_fail(struct cli *c, int code); /* prints c->e; the exit status that belongs to code */
int cli_usage(struct cli *c, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Configuration: --config, TIDEMARK_CONFIG, ./config/tidemark.yaml, then brokers from --brokers,
 * TIDEMARK_BROKERS, .tidemark/dev.json. 0 or -errno with c->e or diagnostics printed. */
int cli_config(struct cli *c);
int cli_open(struct cli *c);       /* cli_config and an admin client */
int cli_own_topics(struct cli *c); /* makes tidemark's own topics, or checks those that exist */
void cli_close(struct cli *c);
/* --data JSON|@FILE|-: the parsed value. */
int cli_json_arg(struct cli *c, const char *text, struct json_object **ret);
int cli_read_arg(struct cli *c, const char *text, struct buf *b); /* the bytes */
/* --where NAME=VALUE, which may be repeated: 0 or an exit status when one has another name; whether
 * the object's members of those names have those values. */
int cli_where_check(struct cli *c, const char *const *names);
bool cli_where(const struct cli *c, struct json_object *o);
bool cli_confirm(struct cli *c, const char *question); /* --yes, or asks on a terminal */

/* Output: a list of objects as a table with these columns (member names; "title=member"), or as
 * JSON. Takes no reference. */
void cli_print_list(struct cli *c, struct json_object *list, const char *const *columns);
void cli_print_one(struct cli *c, struct json_object *o);  /* pretty JSON, or YAML */
void cli_print_line(struct cli *c, struct json_object *o); /* one compact line */
const char *cli_ago(int64_t ms, char out[32]); /* "1.2s", "340ms", "3m12s" of a duration */
void cli_diags(const struct diags *d, FILE *to);

/* triggers/journal.h with c->admin and c->names, and with progress on a terminal when it takes
 * longer than a second. */
int cli_journal_read(struct cli *c, struct journal_reader *j, int partition);
int cli_journal_partitions(struct cli *c, int *ret);
int cli_journal_send(struct cli *c, struct rec *r, int partition, int64_t *ret_offset);

int cmd_dev(struct cli *c), cmd_serve(struct cli *c), cmd_check(struct cli *c),
    cmd_run(struct cli *c), cmd_version(struct cli *c), cmd_openapi(struct cli *c),
    cmd_completion(struct cli *c);
int cmd_log_cli(struct cli *c);
int cmd_topics_apply(struct cli *c), cmd_topics_list(struct cli *c), cmd_topics_show(struct cli *c),
    cmd_topics_delete(struct cli *c);
int cmd_events_publish(struct cli *c), cmd_events_tail(struct cli *c);
int cmd_agents_apply(struct cli *c), cmd_agents_list(struct cli *c), cmd_agents_show(struct cli *c),
    cmd_agents_deactivate(struct cli *c);
int cmd_runs_start(struct cli *c), cmd_runs_list(struct cli *c), cmd_runs_show(struct cli *c),
    cmd_runs_watch(struct cli *c), cmd_runs_history(struct cli *c);
int cmd_runs_cancel(struct cli *c), cmd_runs_suspend(struct cli *c), cmd_runs_resume(struct cli *c),
    cmd_runs_retry(struct cli *c), cmd_runs_fork(struct cli *c);
int cmd_marks_set(struct cli *c), cmd_marks_list(struct cli *c), cmd_marks_delete(struct cli *c);
int cmd_replays_start(struct cli *c), cmd_replays_list(struct cli *c);
int cmd_dlq_list(struct cli *c), cmd_dlq_show(struct cli *c), cmd_dlq_redrive(struct cli *c);
int cmd_group_show(struct cli *c);
int cmd_view_show(struct cli *c), cmd_view_rebuild(struct cli *c);
int cmd_keys_create(struct cli *c), cmd_keys_list(struct cli *c), cmd_keys_rotate(struct cli *c),
    cmd_keys_retire(struct cli *c), cmd_keys_revoke(struct cli *c);

/* By a node's HTTP interface: remote.c, remote_runs.c. */
int remote_runs_start(struct cli *c), remote_runs_list(struct cli *c),
    remote_runs_show(struct cli *c), remote_runs_watch(struct cli *c),
    remote_runs_history(struct cli *c), remote_runs_cancel(struct cli *c),
    remote_runs_suspend(struct cli *c), remote_runs_resume(struct cli *c),
    remote_runs_retry(struct cli *c), remote_runs_fork(struct cli *c),
    remote_events_publish(struct cli *c), remote_topics_list(struct cli *c),
    remote_agents_apply(struct cli *c), remote_agents_list(struct cli *c),
    remote_agents_show(struct cli *c), remote_agents_deactivate(struct cli *c),
    remote_marks_set(struct cli *c), remote_marks_list(struct cli *c),
    remote_marks_delete(struct cli *c), remote_replays_start(struct cli *c),
    remote_replays_list(struct cli *c), remote_dlq_list(struct cli *c),
    remote_dlq_show(struct cli *c), remote_dlq_redrive(struct cli *c),
    remote_group_show(struct cli *c);

/* ---- what a command says, whether it asked the brokers or a node ---- */
struct redriven;
void agents_say(const char *id, const char *version, const char *change, bool written,
                const char *hash);
void events_say(struct cli *c, const char *id, int partition, int64_t offset);
void group_say(struct cli *c, const char *group, const char *state, struct json_object *members);
void marks_say(struct cli *c, struct json_object *offsets);
void replays_say(const char *name, int64_t events, bool dry, bool existing);
void letters_say(const struct redriven *x, bool dry);
void letters_show(struct cli *c, struct json_object *letter);
extern const char *const agents_columns[], *const marks_columns[], *const replays_columns[],
                                                                       *const letters_columns[],
                                                                           *const history_columns[];
/* Of runs (runs_print.c), from their JSON (core/trace.h). run_show: the exit status is that of the
 * run. runs_show: the list, or with --count how many of each status. */
int run_show(struct cli *c, struct json_object *run);
void runs_show(struct cli *c, struct json_object *list);
void runs_show_counts(struct cli *c, struct json_object *counts);
int run_say_started(struct cli *c, const char *id, int partition, int64_t offset);
int run_not_ended(const char *id);
void run_say_requested(const char *id, const char *word);
/* id NULL: no fork, the retry of a live run. */
void run_say_forked(struct cli *c, const char *id, struct json_object *of, int64_t offset);

/* ---- what the flags and arguments of both mean; an exit status, 0: fine ---- */
bool run_id_check(struct cli *c, const char *id); /* false: told */
int run_visit(struct cli *c, int64_t *ret);       /* -1: not given */
int run_no_from(struct cli *c);
int runs_limit(struct cli *c, int64_t *ret); /* 0: all; checks --where too */
int letters_conditions(struct cli *c);
int letters_place(struct cli *c, const char *name, int *ret_partition, int64_t *ret_offset);
int replays_no_from(struct cli *c);
/* What --from or --to says, for replays_ask: places, or a text. *ret NULL when the flag is missing;
 * the caller owns it. 0 or -errno. */
int replays_end(struct cli *c, const char *flag, struct json_object **ret);
/* Calls fn for the data of each event: --data, of --lines each line. */
int events_each(struct cli *c, int (*fn)(void *arg, struct slice data), void *arg);

/* Shared by dev, agents apply and run. */
struct flow;
int load_flow(struct cli *c, const char *path, bool deep,
              struct flow **ret); /* prints what is wrong */
int agents_files(struct cli *c, const char *path, char ***ret,
                 size_t *ret_n); /* a file, or *.yaml of a folder with document.dsl */
