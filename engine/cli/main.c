/* The entry: one table of commands; parsing and help are made from it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "flow/evalpool.h"

const struct cli_opt cli_common[] = {
    {"config", "FILE", "configuration; default ./config/tidemark.yaml if it exists"},
    {"brokers", "HOST:PORT,..",
     "the log; default TIDEMARK_BROKERS, then .tidemark/dev.json, then the configuration"},
    {"group", "NAME", "the group; default TIDEMARK_GROUP, then the configuration (main)"},
    {"server", "URL", "a node's HTTP interface instead of the log; default TIDEMARK_SERVER"},
    {"token-file", "FILE",
     "the token of an API key for --server; default TIDEMARK_TOKEN, then TIDEMARK_TOKEN_FILE"},
    {"ca", "FILE", "certificates of the authorities to trust with --server (PEM)"},
    {"o", "table|json|jsonl|yaml", "form of the output"},
    {"json", NULL, "the same as -o json"},
    {"timeout", "SECONDS", "give up after; exit status 124 when the work goes on"},
    {"yes", NULL, "do not ask"},
    {"help", NULL, "this text"},
    {NULL, NULL, NULL},
};
#define HTTP_OPT                                                                                   \
    {"http", "HOST:PORT|off", "address of the HTTP interface (default: http.listen)"},             \
    {                                                                                              \
        "insecure", NULL, "let everyone in on any address while the group has no API key"          \
    }
static const struct cli_opt dev_opts[] = {{"port", "N",
                                           "port of the log; 0 picks a free one (default 9092)"},
                                          HTTP_OPT,
                                          {"data", "DIR", "data folder (default .tidemark)"},
                                          {"log-level", "LEVEL", "error, warn, info or debug"},
                                          {NULL, NULL, NULL}};
static const struct cli_opt serve_opts[] = {
    HTTP_OPT,
    {"apply", "DIR", "apply the agents of this folder first"},
    {"data", "DIR", "folder for this node's own files (default .tidemark)"},
    {"log-level", "LEVEL", "error, warn, info or debug"},
    {NULL, NULL, NULL}};
static const struct cli_opt log_opts[] = {{"data", "DIR", "data folder"},
                                          {"listen", "HOST:PORT",
                                           "address (default 127.0.0.1:9092; port 0 picks one)"},
                                          {"sync", "always|interval|never",
                                           "when an acknowledgement may be sent (default always)"},
                                          {"partitions", "N", "of topics made without a count"},
                                          {NULL, NULL, NULL}};
static const struct cli_opt run_opts[] = {{"input", "JSON|@FILE|-", "the run's input (default {})"},
                                          {"log-level", "LEVEL", "error, warn, info or debug"},
                                          {NULL, NULL, NULL}};
static const struct cli_opt apply_opts[] = {{"dry-run", NULL, "only say what would change"},
                                            {"force", NULL,
                                             "replace a version that exists with another content"},
                                            {NULL, NULL, NULL}};
static const struct cli_opt dry_opts[] = {{"dry-run", NULL, "only say what would be done"},
                                          {NULL, NULL, NULL}};
static const struct cli_opt publish_opts[] = {{"type", "T", "event type"},
                                              {"data", "JSON|@FILE|-", "the event's data"},
                                              {"key", "K", "record key"},
                                              {"id", "I", "event id (default random)"},
                                              {"source", "S",
                                               "event source (default tidemark/cli)"},
                                              {"subject", "S", "event subject"},
                                              {"lines", NULL, "--data has one event's data a line"},
                                              {"no-check", NULL,
                                               "publish data that does not fit the topic's schema"},
                                              {NULL, NULL, NULL}};
static const struct cli_opt tail_opts[] = {{"from", "begin|end|OFFSET",
                                            "where to begin (default end)"},
                                           {"count", "N", "stop after N events"},
                                           {NULL, NULL, NULL}};
static const struct cli_opt start_opts[] = {{"input", "JSON|@FILE|-",
                                             "the run's input (default {})"},
                                            {"key", "K", "the run's key"},
                                            {"id", "TEXT",
                                             "repeats a request without a double (24 hours); "
                                             "another input is a conflict, told with --wait"},
                                            {"wait", NULL, "wait for its end and print the output"},
                                            {NULL, NULL, NULL}};
static const struct cli_opt list_opts[] = {{"where", "NAME=VALUE",
                                            "agent=, status=, key=, feed=; may be repeated"},
                                           {"limit", "N", "the newest N (default 50; 0: all)"},
                                           {"count", NULL, "only how many, by status"},
                                           {NULL, NULL, NULL}};
static const struct cli_opt letters_opts[] = {
    {"where", "NAME=VALUE", "agent=, kind=, run=, feed=, origin=; may be repeated"},
    {NULL, NULL, NULL}};
static const struct cli_opt reason_opts[] = {{"reason", "TEXT", "kept in the journal"},
                                             {NULL, NULL, NULL}};
static const struct cli_opt fork_opts[] = {{"from", "TASKREF",
                                            "the task to go on from: its name or its reference"},
                                           {"visit", "N", "which visit of it (default the last)"},
                                           {"id", "UUID", "repeats a fork without a double"},
                                           {"agent", "NS/NAME[:VERSION]",
                                            "go on with another version of the definition"},
                                           {NULL, NULL, NULL}};
static const struct cli_opt mark_opts[] = {{"topic", "TOPIC", "only this topic; may be repeated"},
                                           {"at", "TIME", "offsets as of a time instead of now"},
                                           {NULL, NULL, NULL}};
static const struct cli_opt replay_opts[] = {
    {"from", "MARK|TIME|TOPIC:PARTITION:OFFSET",
     "where the range begins; the last form may be repeated"},
    {"to", "MARK|TIME|TOPIC:PARTITION:OFFSET", "where it ends (default: now)"},
    {"agent", "NS/NAME", "only for this agent"},
    {"name", "N", "name of the replay; part of the run ids (default made from the range)"},
    {"dry-run", NULL, "only say what would be fed"},
    {NULL, NULL, NULL}};
static const struct cli_opt key_opts[] = {
    {"scope", "publish|read|operate|admin",
     "what it may do; several with commas between, or repeated"},
    {"rate", "N", "at most N requests a second on each node (default: any number)"},
    {"burst", "N", "requests at once (default: as --rate)"},
    {"expires", "DURATION|never", "when its token ends, such as 90d (default never)"},
    {NULL, NULL, NULL}};
static const struct cli_opt rotate_opts[] = {
    {"expires", "DURATION|never", "when the new token ends, such as 90d (default never)"},
    {NULL, NULL, NULL}};
static const struct cli_opt check_opts[] = {{"fast", NULL, "do not compile expressions in a child"},
                                            {NULL, NULL, NULL}};

static const struct cli_opt view_opts[] = {{"data", "DIR", "data folder (default .tidemark)"},
                                           {NULL, NULL, NULL}};

const struct cli_cmd cli_table[] = {
    {"dev", "[PATH...]",
     "log and engine in one process, agents applied again when their files change", 0, -1, dev_opts,
     cmd_dev, cmd_dev},
    {"serve", "", "a node of the group named in the configuration", 0, 0, serve_opts, cmd_serve,
     cmd_serve},
    {"log", "", "only the embedded log", 0, 0, log_opts, cmd_log_cli, cmd_log_cli},
    {"check", "FILE...", "every problem of agent files, with its place", 1, -1, check_opts,
     cmd_check, cmd_check},
    {"run", "FILE", "one run to its end on a private, temporary log", 1, 1, run_opts, cmd_run,
     cmd_run},
    {"publish", "TOPIC", "short for events publish", 1, 1, publish_opts, cmd_events_publish,
     remote_events_publish},
    {"events publish", "TOPIC", "publish CloudEvents", 1, 1, publish_opts, cmd_events_publish,
     remote_events_publish},
    {"events tail", "TOPIC", "print events as they come", 1, 1, tail_opts, cmd_events_tail, NULL},
    {"topics apply", "[TOPIC...]", "make the broker's topics match topics/", 0, -1, dry_opts,
     cmd_topics_apply, NULL},
    {"topics list", "", "topics of the log", 0, 0, NULL, cmd_topics_list, remote_topics_list},
    {"topics show", "TOPIC", "partitions, offsets and settings", 1, 1, NULL, cmd_topics_show, NULL},
    {"topics delete", "TOPIC...", "delete topics of events with all their records", 1, -1, dry_opts,
     cmd_topics_delete, NULL},
    {"agents apply", "FILE|DIR...", "check definitions and make them the active version", 1, -1,
     apply_opts, cmd_agents_apply, remote_agents_apply},
    {"agents list", "", "agents and their versions", 0, 0, NULL, cmd_agents_list,
     remote_agents_list},
    {"agents show", "NS/NAME[:VERSION]", "a definition as it is stored", 1, 1, NULL,
     cmd_agents_show, remote_agents_show},
    {"agents deactivate", "NS/NAME", "wake it no more; its runs finish", 1, 1, NULL,
     cmd_agents_deactivate, remote_agents_deactivate},
    {"runs start", "NS/NAME[:VERSION]", "request a run; prints its id", 1, 1, start_opts,
     cmd_runs_start, remote_runs_start},
    {"runs list", "", "runs, folded from the journal", 0, 0, list_opts, cmd_runs_list,
     remote_runs_list},
    {"runs show", "RUN", "one run as a tree of its tasks", 1, 1, NULL, cmd_runs_show,
     remote_runs_show},
    {"runs watch", "RUN", "wait for its end", 1, 1, NULL, cmd_runs_watch, remote_runs_watch},
    {"runs history", "RUN", "its journal records", 1, 1, NULL, cmd_runs_history,
     remote_runs_history},
    {"runs cancel", "RUN...", "cancel", 1, -1, reason_opts, cmd_runs_cancel, remote_runs_cancel},
    {"runs suspend", "RUN...", "start no further task", 1, -1, reason_opts, cmd_runs_suspend,
     remote_runs_suspend},
    {"runs resume", "RUN...", "go on with a suspended run", 1, -1, reason_opts, cmd_runs_resume,
     remote_runs_resume},
    {"runs retry", "RUN",
     "a faulted run: fork it at the failed task; a live one: begin its waiting retry now", 1, 1,
     fork_opts, cmd_runs_retry, remote_runs_retry},
    {"runs fork", "RUN", "a new run that goes on from a task of this one", 1, 1, fork_opts,
     cmd_runs_fork, remote_runs_fork},
    {"why", "RUN", "short for runs show", 1, 1, NULL, cmd_runs_show, remote_runs_show},
    {"marks set", "NAME", "save the present offsets of the event topics under a name", 1, 1,
     mark_opts, cmd_marks_set, remote_marks_set},
    {"marks list", "", "marks", 0, 0, NULL, cmd_marks_list, remote_marks_list},
    {"marks delete", "MARK", "delete a mark", 1, 1, NULL, cmd_marks_delete, remote_marks_delete},
    {"replays start", "", "feed a range of events again, as new runs", 0, 0, replay_opts,
     cmd_replays_start, remote_replays_start},
    {"replays list", "", "replays and their progress", 0, 0, NULL, cmd_replays_list,
     remote_replays_list},
    {"dlq list", "", "dead letters", 0, 0, letters_opts, cmd_dlq_list, remote_dlq_list},
    {"dlq show", "PARTITION/OFFSET", "one dead letter, whole", 1, 1, NULL, cmd_dlq_show,
     remote_dlq_show},
    {"dlq redrive", "PARTITION/OFFSET...", "try again, as a feed of its own", 1, -1, dry_opts,
     cmd_dlq_redrive, remote_dlq_redrive},
    {"group show", "", "nodes and the partitions they own", 0, 0, NULL, cmd_group_show,
     remote_group_show},
    {"keys create", "NAME", "an API key; prints its token, once", 1, 1, key_opts, cmd_keys_create,
     NULL},
    {"keys list", "", "API keys, what they may do and their tokens", 0, 0, NULL, cmd_keys_list,
     NULL},
    {"keys rotate", "KEY", "a second token for a key; prints it, once", 1, 1, rotate_opts,
     cmd_keys_rotate, NULL},
    {"keys retire", "KEY TOKEN", "take one of its two tokens away", 2, 2, NULL, cmd_keys_retire,
     NULL},
    {"keys revoke", "KEY", "end a key with all its tokens, on every node at once", 1, 1, NULL,
     cmd_keys_revoke, NULL},
    {"view show", "", "the read model of a node's data folder", 0, 0, view_opts, cmd_view_show,
     cmd_view_show},
    {"view rebuild", "", "make the read model anew from the journal", 0, 0, view_opts,
     cmd_view_rebuild, cmd_view_rebuild},
    {"completion", "bash|zsh", "a script for the shell: source <(tidemark completion bash)", 1, 3,
     NULL, cmd_completion, cmd_completion},
    {"openapi", "", "the description of the HTTP interface (OpenAPI 3.1)", 0, 0, NULL, cmd_openapi,
     cmd_openapi},
    {"version", "", "version", 0, 0, NULL, cmd_version, cmd_version},
    {NULL, NULL, NULL, 0, 0, NULL, NULL, NULL},
};

static void print_opts(const struct cli_opt *o)
{
    for (; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s", strlen(o->name) == 1 ? "-" : "--", o->name,
                 o->arg ? " " : "", o->arg ? o->arg : "");
        printf("  %-32s %s\n", left, o->help);
    }
}

static void print_all(FILE *to)
{
    fprintf(to, "tidemark: durable agents on the log you already run\n\nusage: tidemark COMMAND "
                "[ARGUMENTS] [FLAGS]\n\n");
    for (const struct cli_cmd *m = cli_table; m->words; m++) {
        char left[80];
        snprintf(left, sizeof left, "%s %s", m->words, m->args);
        fprintf(to, "  %-40s %s\n", left, m->summary);
    }
    fprintf(to, "\n`tidemark COMMAND --help` has its flags. Exit status: 0 done, 1 run faulted or "
                "cancelled, 2 bad usage or file,\n"
                "3 not found, 4 conflict, 5 denied, 6 unreachable or full, 124 time-out, 130 "
                "interrupted.\n");
}

static void print_help(const struct cli_cmd *m)
{
    printf("usage: tidemark %s %s [FLAGS]\n\n%s\n", m->words, m->args, m->summary);
    if (m->opts) {
        printf("\n");
        print_opts(m->opts);
    }
    printf("\n");
    print_opts(cli_common);
}

int cli_words_match(const struct cli_cmd *m, int argc, const char *const *argv)
{
    const char *at = m->words;
    int used = 0;
    while (*at) {
        size_t n = strcspn(at, " ");
        if (used == argc || strlen(argv[used]) != n || strncmp(argv[used], at, n))
            return 0;
        used++;
        at += n + (at[n] == ' ');
    }
    return used;
}

static const struct cli_opt *find_opt(const struct cli_opt *o, const char *name, size_t n)
{
    for (; o && o->name; o++)
        if (strlen(o->name) == n && !strncmp(o->name, name, n))
            return o;
    return NULL;
}

static int unknown_flag(struct cli *c, const char *arg)
{
    const char *words[64];
    size_t n = 0;
    for (const struct cli_opt *o = c->cmd->opts; o && o->name && n < 40; o++)
        words[n++] = o->name;
    for (const struct cli_opt *o = cli_common; o->name && n < 62; o++)
        words[n++] = o->name;
    words[n] = NULL;
    const char *near = err_nearest(sl_str(arg + strspn(arg, "-")), words);
    char hint[128];
    snprintf(hint, sizeof hint,
             near ? "did you mean --%s?" : "`tidemark %s --help` lists the flags",
             near ? near : c->cmd->words);
    return cli_usage(c, hint, "unknown flag %s", arg);
}

static int take_flag(struct cli *c, char **argv, int argc, int *i)
{
    const char *arg = argv[*i], *name = arg + (arg[1] == '-' ? 2 : 1), *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct cli_opt *o = find_opt(c->cmd->opts, name, n);
    if (!o)
        o = find_opt(cli_common, name, n);
    if (!o)
        return unknown_flag(c, arg);
    if (c->nvalues == CLI_VALUES_MAX)
        return cli_usage(c, "leave some out", "too many flags");
    const char *value = "";
    if (o->arg && eq)
        value = eq + 1;
    else if (o->arg && *i + 1 < argc)
        value = argv[++*i];
    else if (o->arg)
        return cli_usage(c, "see --help", "--%s needs a value: %s", o->name, o->arg);
    c->values[c->nvalues].name = o->name;
    c->values[c->nvalues++].value = value;
    return 0;
}

static int set_common(struct cli *c)
{
    const char *o = cli_has(c, "json") ? "json" : cli_get(c, "o"), *t = cli_get(c, "timeout");
    static const char *const forms[] = {"table", "json", "jsonl", "yaml"};
    c->timeout_ms = -1;
    if (t) {
        char *end;
        double s = strtod(t, &end);
        if (*end || s < 0 || s > 1e6)
            return cli_usage(c, "a number of seconds, such as 30", "--timeout %s is not a time", t);
        c->timeout_ms = (int)(s * 1000);
    }
    for (int i = 0; o && i < 4; i++)
        if (!strcmp(o, forms[i])) {
            c->format = (enum cli_format)i;
            return 0;
        }
    return o ? cli_usage(c, "one of table, json, jsonl, yaml", "-o %s is not a form of output", o)
             : 0;
}

static int parse(struct cli *c, int argc, char **argv, char **args)
{
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        if (!only_args && !strcmp(argv[i], "--")) {
            only_args = true;
        } else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
            int status = take_flag(c, argv, argc, &i);
            if (status)
                return status;
        } else {
            args[c->nargs++] = argv[i];
        }
    }
    c->args = args;
    if (cli_has(c, "help"))
        return 0;
    if (c->nargs < c->cmd->min_args || (c->cmd->max_args >= 0 && c->nargs > c->cmd->max_args))
        return cli_usage(c, "see --help", "usage: tidemark %s %s", c->cmd->words, c->cmd->args);
    return set_common(c);
}

static int no_command(const char *word)
{
    const char *words[64];
    size_t n = 0;
    for (const struct cli_cmd *m = cli_table; m->words && n < 63; m++)
        words[n++] = m->words;
    words[n] = NULL;
    const char *near = err_nearest(sl_str(word), words);
    fprintf(stderr, "tidemark: no command \"%s\"\n", word);
    if (near)
        fprintf(stderr, "  hint: did you mean `tidemark %s`?\n", near);
    else
        fprintf(stderr, "  hint: `tidemark help` lists the commands\n");
    return EXIT_USAGE;
}

static int by_server(struct cli *c)
{
    if (cli_has(c, "brokers"))
        return cli_usage(c, "--server asks a node, --brokers the log",
                         "--server and --brokers exclude each other");
    if (!c->cmd->remote)
        return cli_usage(c, "--brokers HOST:PORT,.. says where the log is",
                         "`tidemark %s` works on the log itself, and no server can do it",
                         c->cmd->words);
    return c->cmd->remote(c);
}

int main(int argc, char **argv)
{
    struct cli c = {0};
    int used = 0;
    if (argc > 1 && !strcmp(argv[1], "--eval-child"))
        return evalchild_main();
    if (argc < 2 || !strcmp(argv[1], "help") || !strcmp(argv[1], "--help") ||
        !strcmp(argv[1], "-h")) {
        print_all(argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : 0;
    }
    for (const struct cli_cmd *m = cli_table; m->words && !used; m++)
        if ((used = cli_words_match(m, argc - 1, (const char *const *)argv + 1)))
            c.cmd = m;
    if (!used && !strcmp(argv[1], "--version"))
        return cmd_version(&c);
    if (!used)
        return no_command(argv[1]);
    char **args = calloc((size_t)argc + 1, sizeof *args);
    if (!args)
        return EXIT_UNREACHABLE;
    c.tty = isatty(1);
    c.colour = c.tty && !getenv("NO_COLOR");
    int status = parse(&c, argc - 1 - used, argv + 1 + used, args);
    if (!status && cli_has(&c, "help"))
        print_help(c.cmd);
    else if (!status)
        status = client_wanted(&c) ? by_server(&c) : c.cmd->fn(&c);
    client_free(c.client);
    cli_close(&c);
    free(args);
    return status;
}
