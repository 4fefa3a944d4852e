/* dlq list|show|redrive: triggers/letters.h. */
#include <errno.h>

#include "cli/cli.h"
#include "triggers/letters.h"

static bool wanted(void *arg, struct json_object *o)
{
    return cli_where(arg, o);
}

const char *const letters_columns[] = {"letter", "kind", "time", "agent", "origin", "reason", NULL};

int letters_conditions(struct cli *c)
{
    static const char *const names[] = {"agent", "kind", "run", "feed", "origin", NULL};
    return cli_where_check(c, names);
}

int cmd_dlq_list(struct cli *c)
{
    struct letters_ask ask = {.want = wanted, .arg = c};
    int partition, error = letters_conditions(c);
    int64_t offset;
    if (error)
        return error;
    error = cli_open(c);
    struct json_object *list = json_object_new_array();
    if (!error)
        error = letters_list(c->admin, &c->names, &ask, list, &partition, &offset, &c->e);
    if (!error)
        cli_print_list(c, list, letters_columns);
    json_object_put(list);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int letters_place(struct cli *c, const char *name, int *ret_partition, int64_t *ret_offset)
{
    struct slice rest = sl_str(name), part;
    int64_t partition;
    if (!sl_split(&rest, '/', &part) || sl_i64(part, &partition) < 0 ||
        sl_i64(rest, ret_offset) < 0 || partition < 0 || partition > INT32_MAX || *ret_offset < 0)
        return cli_usage(c, "as in the first column of `tidemark dlq list`",
                         "\"%s\" is not PARTITION/OFFSET", name);
    *ret_partition = (int)partition;
    return 0;
}

static int with_letter(struct cli *c, const char *name, int (*fn)(void *c, const struct krec *r))
{
    int partition = -1;
    int64_t offset = -1;
    int status = letters_place(c, name, &partition, &offset);
    if (status)
        return status;
    int error = letter_read(c->admin, &c->names, partition, offset, fn, c, &c->e);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

void letters_show(struct cli *c, struct json_object *letter)
{
    if (c->format == OUT_TABLE)
        c->format = OUT_YAML;
    cli_print_one(c, letter);
}

static int show(void *arg, const struct krec *r)
{
    struct cli *c = arg;
    struct json_object *o = letter_json(r, true);
    letters_show(c, o);
    json_object_put(o);
    return 0;
}

int cmd_dlq_show(struct cli *c)
{
    int error = cli_open(c);
    return error ? cli_fail(c, error) : with_letter(c, c->args[0], show);
}

void letters_say(const struct redriven *x, bool dry)
{
    if (x->run[0] && dry)
        printf("%s would be requested as %s\n", x->agent, x->run);
    else if (x->run[0])
        printf("%s\n", x->run);
    else
        printf("%s: event %s/%lld/%lld %s\n", x->replay, x->topic, (long long)x->partition,
               (long long)x->offset,
               dry           ? "would be fed again"
               : x->existing ? "was fed again before"
                             : "is fed again");
}

static int redrive(void *arg, const struct krec *r)
{
    struct cli *c = arg;
    struct redriven x;
    bool dry = cli_has(c, "dry-run");
    int error = letter_redrive(c->admin, &c->names, r, dry, &x, &c->e);
    if (!error)
        letters_say(&x, dry);
    return error;
}

int cmd_dlq_redrive(struct cli *c)
{
    int error = cli_open(c), status = EXIT_DONE;
    if (error)
        return cli_fail(c, error);
    for (int i = 0; i < c->nargs && !status; i++)
        status = with_letter(c, c->args[i], redrive);
    return status;
}
