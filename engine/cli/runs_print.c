/* A run as a tree of its tasks, from the JSON that the journal's fold and a node alike give
 * (core/trace.h). */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"

static void print_value(const char *label, struct json_object *v)
{
    const char *s =
        json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t n = strlen(s);
    if (v)
        printf("%s%.*s%s\n", label, (int)(n > 400 ? 400 : n), s, n > 400 ? " ..." : "");
}

/* 0: there is none. */
static int64_t time_of(struct json_object *o, const char *name)
{
    const char *text = js_str(o, name);
    int64_t ms = 0;
    return text && time_read(sl_str(text), &ms) == 0 ? ms : 0;
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

static void print_task(struct cli *c, struct json_object *t, bool last)
{
    static const char *const marks[][2] = {{"completed", "\033[32m"}, {"faulted", "\033[31m"},
                                           {"running", "\033[33m"},   {"waiting", "\033[33m"},
                                           {"retrying", "\033[33m"},  {"catching", "\033[33m"}};
    const char *ref = js_str(t, "reference"), *status = js_str(t, "status"), *colour = "";
    int64_t started = time_of(t, "startedAt"), ended = time_of(t, "endedAt"),
            retries = js_int(t, "retries", 0);
    char ago[32] = "", index[32];
    int depth = 0;
    if (!ref || !status)
        return;
    for (const char *p = ref; *p; p++)
        depth += *p == '/';
    const char *name = strrchr(ref, '/');
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (!strcmp(marks[k][0], status))
            colour = marks[k][1];
    if (ended)
        cli_ago(ended - started, ago);
    printf("  %*s%s%s%s%s", depth > 2 ? (depth - 2) : 0, "", last ? "└─ " : "├─ ",
           c->colour ? colour : "", iteration(ref, index, sizeof index), name ? name + 1 : ref);
    if (js_int(t, "visit", 0))
        printf(" #%lld", (long long)js_int(t, "visit", 0));
    printf("%s  %s", c->colour ? "\033[0m" : "", status);
    if (ago[0])
        printf("  %s", ago);
    if (js_int(t, "attempts", 0) > 1)
        printf("  attempt %lld", (long long)js_int(t, "attempts", 0));
    if (retries)
        printf("  %lld %s", (long long)retries, retries == 1 ? "retry" : "retries");
    if (time_of(t, "retryAt") > started && !ended)
        printf("  next attempt %s", js_str(t, "retryAt"));
    printf("  @%lld\n", (long long)js_int(t, "offset", -1));
    print_value("       ", js_get(t, "error"));
}

static void print_run(struct cli *c, struct json_object *r)
{
    const char *requested = js_str(r, "requestedAt"), *source = js_str(r, "source"),
               *id = js_str(r, "id"), *agent = js_str(r, "agent"), *version = js_str(r, "version"),
               *status = js_str(r, "status");
    struct json_object *tasks = js_get(r, "tasks");
    int64_t ended = time_of(r, "endedAt");
    char ago[32] = "";
    if (ended)
        cli_ago(ended - time_of(r, "requestedAt"), ago);
    printf("%s  %s:%s  %s%s%s\n", id ? id : "?", agent ? agent : "?", version ? version : "?",
           status ? status : "?", ago[0] ? " in " : "", ago);
    printf("  partition %lld, offsets %lld to %lld, requested %s%s%s\n",
           (long long)js_int(r, "partition", -1), (long long)js_int(r, "offset", -1),
           (long long)js_int(r, "lastOffset", -1), requested ? requested : "?",
           source ? ", from " : "", source ? source : "");
    print_value("  fork of ", js_get(r, "forkOf"));
    print_value("  input   ", js_get(r, "input"));
    for (size_t i = 0; i < js_length(tasks); i++)
        print_task(c, js_at(tasks, i), i + 1 == js_length(tasks));
    print_value("  output  ", js_get(r, "output"));
    print_value("  error   ", js_get(r, "error"));
}

int run_show(struct cli *c, struct json_object *r)
{
    const char *status = js_str(r, "status");
    if (c->format == OUT_TABLE)
        print_run(c, r);
    else
        cli_print_one(c, r);
    return status && (!strcmp(status, "faulted") || !strcmp(status, "cancelled")) ? EXIT_RUN
                                                                                  : EXIT_DONE;
}

int run_say_started(struct cli *c, const char *id, int partition, int64_t offset)
{
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

int run_not_ended(const char *id)
{
    fprintf(stderr, "tidemark: %s has not ended yet; it goes on\n", id);
    return EXIT_TIMEOUT;
}

static struct json_object *count(struct json_object *list)
{
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < js_length(list); i++) {
        const char *s = js_str(js_at(list, i), "status");
        if (s)
            json_object_object_add(o, s, json_object_new_int64(js_int(o, s, 0) + 1));
    }
    return o;
}

void runs_show_counts(struct cli *c, struct json_object *counts)
{
    if (c->format != OUT_TABLE) {
        cli_print_one(c, counts);
        return;
    }
    json_object_object_foreach(counts, key, v)
    {
        printf("%-10s %s\n", key, json_object_get_string(v));
    }
}

void runs_show(struct cli *c, struct json_object *list)
{
    static const char *const columns[] = {"run=id",        "agent", "status",
                                          "key",           "feed",  "requested=requestedAt",
                                          "ended=endedAt", NULL};
    if (!cli_has(c, "count")) {
        cli_print_list(c, list, columns);
        return;
    }
    struct json_object *counts = count(list);
    runs_show_counts(c, counts);
    json_object_put(counts);
}

bool run_id_check(struct cli *c, const char *id)
{
    if (run_id_valid(sl_str(id)))
        return true;
    (void)cli_usage(c, "a run id has 30 characters, as printed by `tidemark runs list`",
                    "\"%s\" is not a run id", id);
    return false;
}

const char *const history_columns[] = {"offset", "time", "type",  "task",
                                       "epoch",  "void", "value", NULL};

int runs_limit(struct cli *c, int64_t *ret)
{
    static const char *const names[] = {"agent", "status", "key", "feed", "version", NULL};
    const char *limit = cli_get(c, "limit");
    *ret = cli_has(c, "count") ? 0 : 50;
    if (limit && (sl_i64(sl_str(limit), ret) < 0 || *ret < 0))
        return cli_usage(c, "a whole number; 0 for all", "--limit %s is not a number", limit);
    return cli_where_check(c, names);
}

void run_say_requested(const char *id, const char *word)
{
    printf("%s %s requested\n", id, word);
}

void run_say_forked(struct cli *c, const char *id, struct json_object *of, int64_t offset)
{
    if (!id) {
        run_say_requested(c->args[0], "retry");
    } else if (c->format == OUT_TABLE) {
        printf("%s\n", id);
    } else {
        struct json_object *o = json_object_new_object();
        js_put(o, "forkOf", json_object_get(of));
        js_put_new(o, "id", json_object_new_string(id));
        js_put_new(o, "offset", json_object_new_int64(offset));
        cli_print_one(c, o);
        json_object_put(o);
    }
}

int run_visit(struct cli *c, int64_t *ret)
{
    const char *v = cli_get(c, "visit");
    *ret = -1;
    if (!v || (sl_i64(sl_str(v), ret) == 0 && *ret >= 0 && *ret <= INT32_MAX))
        return 0;
    return cli_usage(c, "a whole number from 0", "--visit %s is not a visit", v);
}

int run_no_from(struct cli *c)
{
    return cli_usage(c, "`tidemark runs show RUN` lists the tasks", "--from TASKREF is missing");
}
