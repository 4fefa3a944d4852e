/* marks set|list|delete and replays start|list. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"

/* The event topics: --topic, else those that are declared. Borrowed texts; free the array. */
static const char **event_topics(struct cli *c)
{
    const char **v = cli_has(c, "topic") ? calloc(CLI_VALUES_MAX + 1, sizeof *v) : NULL, *t;
    if (!cli_has(c, "topic"))
        return marks_topics(c->config);
    for (size_t i = 0; v && (t = cli_nth(c, "topic", i)); i++)
        v[i] = t;
    return v;
}

static int no_topics(struct cli *c)
{
    return err_set(&c->e, -EINVAL, "declare topics in topics/*.yaml, or name them with --topic",
                   "there are no event topics");
}

static int offsets_at(struct cli *c, const char *const *topics, const char *text,
                      struct json_object **ret)
{
    int64_t ms;
    if (!text)
        return marks_now(c->admin, topics, ret, &c->e);
    if (time_read(sl_str(text), &ms) < 0)
        return err_set(&c->e, -EINVAL, "as in 2026-11-25T15:00:00Z", "\"%s\" is not a time", text);
    return marks_at(c->admin, topics, ms, ret, &c->e);
}

void marks_say(struct cli *c, struct json_object *offsets)
{
    if (c->format == OUT_TABLE)
        printf("%s %s\n", c->args[0],
               json_object_to_json_string_ext(offsets, JSON_C_TO_STRING_PLAIN));
    else
        cli_print_one(c, offsets);
}

int cmd_marks_set(struct cli *c)
{
    struct json_object *offsets = NULL;
    int error = cli_open(c);
    const char **topics = error ? NULL : event_topics(c);
    if (!error && (!topics || !topics[0]))
        error = no_topics(c);
    if (!error)
        error = offsets_at(c, topics, cli_get(c, "at"), &offsets);
    if (!error)
        error = marks_set(c->admin, &c->names, c->args[0], offsets, &c->e);
    if (!error)
        marks_say(c, offsets);
    free(topics);
    json_object_put(offsets);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

static int list(struct cli *c, const char *prefix, const char *const *columns)
{
    struct json_object *v = NULL;
    int error = cli_open(c);
    if (!error)
        error = marks_list(c->admin, &c->names, prefix, &v, &c->e);
    if (error)
        return cli_fail(c, error);
    cli_print_list(c, v, columns);
    json_object_put(v);
    return EXIT_DONE;
}

const char *const marks_columns[] = {"name", "time", "offsets", NULL};
const char *const replays_columns[] = {"name", "time", "agent", "done", "from", "to", NULL};

int cmd_marks_list(struct cli *c)
{
    return list(c, "mark/", marks_columns);
}

int cmd_replays_list(struct cli *c)
{
    return list(c, "replay/", replays_columns);
}

int cmd_marks_delete(struct cli *c)
{
    int error = cli_open(c);
    if (!error)
        error = marks_delete(c->admin, &c->names, c->args[0], &c->e);
    if (error)
        return cli_fail(c, error);
    printf("%s deleted\n", c->args[0]);
    return EXIT_DONE;
}

/* ---- replays ---- */

/* TOPIC:PARTITION:OFFSET into offsets; false: another form. */
static bool is_place(const char *text, char *topic, size_t size, int64_t *partition,
                     int64_t *offset)
{
    const char *last = strrchr(text, ':'), *first;
    if (!last || last == text)
        return false;
    for (first = last - 1; first > text && *first != ':'; first--)
        ;
    if (*first != ':' || sl_i64(sl(first + 1, (size_t)(last - first - 1)), partition) < 0 ||
        sl_i64(sl_str(last + 1), offset) < 0)
        return false;
    snprintf(topic, size, "%.*s", (int)(first - text), text);
    return *partition >= 0 && *partition < 10000 && *offset >= 0;
}

static void set_place(struct json_object *o, const char *topic, int64_t partition, int64_t offset)
{
    struct json_object *v = js_get(o, topic);
    if (!v) {
        v = json_object_new_array();
        json_object_object_add(o, topic, v);
    }
    while ((int64_t)json_object_array_length(v) <= partition)
        json_object_array_add(v, NULL);
    json_object_array_put_idx(v, (size_t)partition, json_object_new_int64(offset));
}

int replays_end(struct cli *c, const char *flag, struct json_object **ret)
{
    const char *text = cli_get(c, flag), *t;
    char topic[NAME_MAX_BYTES + 1];
    int64_t partition, offset;
    *ret = NULL;
    if (!text)
        return 0;
    if (!is_place(text, topic, sizeof topic, &partition, &offset)) {
        *ret = json_object_new_string(text);
        return 0;
    }
    *ret = json_object_new_object();
    for (size_t i = 0; (t = cli_nth(c, flag, i)); i++) {
        if (!is_place(t, topic, sizeof topic, &partition, &offset))
            return err_set(&c->e, -EINVAL, "TOPIC:PARTITION:OFFSET in each",
                           "--%s %s is not a place", flag, t);
        set_place(*ret, topic, partition, offset);
    }
    return 0;
}

int replays_no_from(struct cli *c)
{
    return cli_usage(c, "a mark, a time, or TOPIC:PARTITION:OFFSET", "--from is missing");
}

void replays_say(const char *name, int64_t events, bool dry, bool existing)
{
    printf("%s: %lld events%s\n", name ? name : "?", (long long)events,
           dry        ? ", not started (--dry-run)"
           : existing ? ", goes on"
                      : ", started");
}

int cmd_replays_start(struct cli *c)
{
    struct replay_ask q = {.name = cli_get(c, "name"),
                           .agent = cli_get(c, "agent"),
                           .dry_run = cli_has(c, "dry-run")};
    struct replay_made m = {0};
    if (!cli_has(c, "from"))
        return replays_no_from(c);
    int error = cli_open(c);
    if (!error)
        error = replays_end(c, "from", &q.from);
    if (!error)
        error = replays_end(c, "to", &q.to);
    if (!error)
        error = replays_ask(c->admin, &c->names, c->config, &q, &m, &c->e);
    if (!error)
        replays_say(m.name, m.events, q.dry_run, m.existing);
    replay_made_free(&m);
    json_object_put(q.from);
    json_object_put(q.to);
    return error ? cli_fail(c, error) : EXIT_DONE;
}
