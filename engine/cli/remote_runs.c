/* The commands about runs by a node's HTTP interface: docs/http.md. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/client.h"
#include "view/view.h"

#define WAIT_S 60 /* of one request that waits; then it is asked again */

static int path_of_run(struct cli *c, struct buf *b, const char *id, const char *rest)
{
    if (!run_id_check(c, id))
        return EXIT_USAGE;
    buf_init(b, 4096);
    buf_addf(b, "/v1/runs/%s%s", id, rest);
    return 0;
}

static int get_run(struct cli *c, const char *id, struct json_object **ret)
{
    struct json_object *tasks = json_object_new_array();
    struct buf b;
    buf_init(&b, 4096);
    buf_addf(&b, "/v1/runs/%s", id);
    int error = client_pages(c, b.p, "tasks", tasks, ret);
    if (!error) {
        json_object_object_del(*ret, "tasksTotal");
        js_put(*ret, "tasks", tasks);
    } else {
        json_object_put(tasks);
    }
    buf_free(&b);
    return error;
}

int remote_runs_show(struct cli *c)
{
    struct json_object *o = NULL;
    if (!run_id_check(c, c->args[0]))
        return EXIT_USAGE;
    int error = get_run(c, c->args[0], &o);
    if (!error)
        (void)run_show(c, o);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_runs_history(struct cli *c)
{
    struct json_object *list = json_object_new_array();
    struct buf b;
    int status = path_of_run(c, &b, c->args[0], "/history?limit=1000");
    if (!status) {
        int error = client_pages(c, b.p, "records", list, NULL);
        if (error)
            status = cli_fail(c, error);
        else
            cli_print_list(c, list, history_columns);
        buf_free(&b);
    }
    json_object_put(list);
    return status;
}

/* ---- waiting for the end ---- */

/* `until`: CLOCK_BOOTTIME in ms. *ret_ended false: the time has passed. */
static int wait_end(struct cli *c, const char *id, int64_t until, bool *ret_ended)
{
    struct buf path;
    int error = 0, status = 202;
    buf_init(&path, 4096);
    buf_addf(&path, "/v1/runs/%s/output", id);
    while (!error && status == 202) {
        char prefer[32];
        int64_t left = (until - clock_boot_ms()) / 1000;
        int s = left < 0 ? 0 : left < WAIT_S ? (int)left : WAIT_S;
        (void)snprintf(prefer, sizeof prefer, "wait=%d", s);
        const struct http_header h = {SL("Prefer"), sl_str(prefer)};
        struct client_ask q = {.method = "GET",
                               .path = path.p,
                               .headers = &h,
                               .nheaders = 1,
                               .may_conflict = true, /* it faulted, or was cancelled */
                               .wait_ms = s * 1000};
        error = client_call(c, &q, &status, NULL);
        if (!error && status == 202 && s == 0)
            break;
    }
    buf_free(&path);
    *ret_ended = status != 202;
    return error;
}

static int watch(struct cli *c, const char *id)
{
    struct json_object *o = NULL;
    int timeout_ms = c->timeout_ms, status;
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_boot_ms() + timeout_ms;
    bool ended = false;
    c->timeout_ms = -1; /* the run's time, not that of an answer */
    int error = wait_end(c, id, until, &ended);
    if (error)
        return cli_fail(c, error);
    if (!ended)
        return run_not_ended(id);
    error = get_run(c, id, &o);
    status = error ? cli_fail(c, error) : run_show(c, o);
    json_object_put(o);
    return status;
}

int remote_runs_watch(struct cli *c)
{
    return run_id_check(c, c->args[0]) ? watch(c, c->args[0]) : EXIT_USAGE;
}

/* ---- lists and counts ---- */

static void add_conditions(struct cli *c, struct buf *b)
{
    const char *w;
    for (size_t i = 0; (w = cli_nth(c, "where", i)); i++) {
        const char *eq = strchr(w, '=');
        buf_addf(b, "&%.*s=", (int)(eq - w), w);
        buf_add_uri(b, eq + 1, "");
    }
}

/* "cursor" of GET /v1/runs goes into the next request, where the other routes have a path. */
static int list_pages(struct cli *c, int64_t max, struct json_object *list, bool *ret_complete)
{
    char *cursor = NULL;
    int error = 0;
    do {
        struct json_object *page = NULL;
        struct buf b;
        int64_t left = max ? max - (int64_t)js_length(list) : VIEW_LIMIT_MAX;
        buf_init(&b, 64 * 1024);
        buf_addf(&b, "/v1/runs?limit=%d", left < VIEW_LIMIT_MAX ? (int)left : VIEW_LIMIT_MAX);
        add_conditions(c, &b);
        if (cursor) {
            buf_adds(&b, "&cursor=");
            buf_add_uri(&b, cursor, "");
        }
        error = buf_error(&b) ? buf_error(&b) : client_get(c, b.p, &page);
        buf_free(&b);
        struct json_object *v = js_get(page, "runs");
        for (size_t i = 0; i < js_length(v); i++)
            json_object_array_add(list, json_object_get(js_at(v, i)));
        free(cursor);
        cursor = js_str(page, "next") ? strdup(js_str(page, "next")) : NULL;
        *ret_complete = js_bool(page, "complete", true);
        json_object_put(page);
    } while (!error && cursor && (!max || (int64_t)js_length(list) < max));
    free(cursor);
    return error;
}

/* The oldest first, as without a server; and no member that only the read model has. */
static struct json_object *oldest_first(struct json_object *list)
{
    struct json_object *out = json_object_new_array();
    for (size_t i = js_length(list); i > 0; i--) {
        struct json_object *o = js_at(list, i - 1);
        json_object_object_del(o, "error");
        json_object_object_del(o, "forkOf");
        json_object_array_add(out, json_object_get(o));
    }
    return out;
}

static void say_incomplete(bool complete)
{
    if (!complete)
        fprintf(stderr, "tidemark: there may be more: a read model still catches up, or a node "
                        "does not answer\n");
}

/* All of them, or those of one agent: the node has counted. False: it has to be asked for them. */
static bool can_count(struct cli *c)
{
    const char *w = cli_nth(c, "where", 0);
    return cli_has(c, "count") && !cli_has(c, "limit") &&
           (!w || (!strncmp(w, "agent=", 6) && !cli_nth(c, "where", 1)));
}

static int counts(struct cli *c)
{
    struct json_object *o = NULL;
    struct buf b;
    buf_init(&b, 64 * 1024);
    buf_adds(&b, "/v1/counts?");
    add_conditions(c, &b);
    int error = client_get(c, b.p, &o);
    if (!error && js_get(o, "statuses"))
        runs_show_counts(c, js_get(o, "statuses"));
    say_incomplete(error || js_bool(o, "complete", true));
    json_object_put(o);
    buf_free(&b);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_runs_list(struct cli *c)
{
    int64_t max;
    int status = runs_limit(c, &max);
    if (status)
        return status;
    if (can_count(c))
        return counts(c);
    struct json_object *list = json_object_new_array(), *out = NULL;
    bool complete = true;
    int error = list_pages(c, max, list, &complete);
    if (!error) {
        out = oldest_first(list);
        runs_show(c, out);
        say_incomplete(complete);
    }
    json_object_put(out);
    json_object_put(list);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- starting ---- */

/* "/v1/agents/NS/NAME/runs?..." */
static int start_path(struct cli *c, struct buf *b)
{
    struct slice version = sl_str(c->args[0]), name;
    const char *key = cli_get(c, "key");
    char *text = NULL;
    (void)sl_split(&version, ':', &name);
    buf_init(b, 64 * 1024);
    if (!memchr(name.p, '/', name.n))
        return cli_usage(c, "NAMESPACE/NAME or NAMESPACE/NAME:VERSION", "\"%s\" names no agent",
                         c->args[0]);
    struct slice rest = name, ns;
    (void)sl_split(&rest, '/', &ns);
    buf_adds(b, "/v1/agents/");
    if ((text = sl_dup(ns)))
        buf_add_uri(b, text, "");
    free(text);
    buf_adds(b, "/");
    if ((text = sl_dup(rest)))
        buf_add_uri(b, text, "");
    free(text);
    buf_adds(b, "/runs?");
    if (version.n && (text = sl_dup(version))) {
        buf_adds(b, "version=");
        buf_add_uri(b, text, "");
        free(text);
    }
    if (key) {
        buf_adds(b, "&key=");
        buf_add_uri(b, key, "");
    }
    return 0;
}

/* Without --id the key is a random one, so that the request can be repeated under way. */
static int start(struct cli *c, const char *path, struct slice input)
{
    struct json_object *o = NULL;
    char uuid[37], id[RUN_ID_MAX] = "", idem[320];
    uuid4(uuid);
    const char *name = cli_get(c, "id") ? cli_get(c, "id") : uuid;
    if (strlen(name) > 255)
        return cli_usage(c, "255 bytes at most", "--id is too long");
    (void)snprintf(idem, sizeof idem, "\"%s\"", name);
    const struct http_header key = {SL("Idempotency-Key"), sl_str(idem)};
    struct client_ask q = {.method = "POST",
                           .path = path,
                           .type = "application/json",
                           .body = input,
                           .headers = &key,
                           .nheaders = 1};
    int error = client_call(c, &q, NULL, &o);
    if (!error && js_str(o, "id"))
        (void)snprintf(id, sizeof id, "%s", js_str(o, "id"));
    int status = error ? cli_fail(c, error) : EXIT_DONE;
    if (!error && !cli_has(c, "wait"))
        status = run_say_started(c, id, (int)js_int(o, "partition", -1), js_int(o, "offset", -1));
    json_object_put(o);
    return !error && cli_has(c, "wait") ? watch(c, id) : status;
}

int remote_runs_start(struct cli *c)
{
    struct json_object *input = NULL;
    struct buf path, body;
    int status = start_path(c, &path);
    buf_init(&body, 64u << 20);
    if (!status) {
        int error = cli_json_arg(c, cli_get(c, "input") ? cli_get(c, "input") : "{}", &input);
        if (!error)
            error = js_write(input, &body);
        status = error ? cli_fail(c, error) : start(c, path.p, buf_slice(&body));
    }
    json_object_put(input);
    buf_free(&path);
    buf_free(&body);
    return status;
}

/* ---- steering ---- */

static int post(struct cli *c, const char *path, struct json_object *body, struct json_object **ret)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    js_write(body, &b);
    struct client_ask q = {.method = "POST",
                           .path = path,
                           .type = "application/json",
                           .body = buf_slice(&b)};
    int error = buf_error(&b) ? buf_error(&b) : client_call(c, &q, NULL, ret);
    buf_free(&b);
    return error;
}

static void put_flag(struct cli *c, struct json_object *o, const char *name)
{
    if (cli_get(c, name))
        js_put_new(o, name, json_object_new_string(cli_get(c, name)));
}

static int control(struct cli *c, const char *word)
{
    struct json_object *body = json_object_new_object();
    char path[96];
    int status = EXIT_DONE;
    put_flag(c, body, "reason");
    for (int i = 0; i < c->nargs && !status; i++) {
        if (!run_id_check(c, c->args[i])) {
            status = EXIT_USAGE;
            break;
        }
        (void)snprintf(path, sizeof path, "/v1/runs/%s/%s", c->args[i], word);
        int error = post(c, path, body, NULL);
        if (error)
            status = cli_fail(c, error);
        else
            run_say_requested(c->args[i], word);
    }
    json_object_put(body);
    return status;
}

int remote_runs_cancel(struct cli *c)
{
    return control(c, "cancel");
}

int remote_runs_suspend(struct cli *c)
{
    return control(c, "suspend");
}

int remote_runs_resume(struct cli *c)
{
    return control(c, "resume");
}

static int fork_or_retry(struct cli *c, const char *word)
{
    struct json_object *body = json_object_new_object(), *o = NULL;
    char path[96], uuid[37];
    int64_t visit;
    int status = run_visit(c, &visit);
    if (status || !run_id_check(c, c->args[0])) {
        json_object_put(body);
        return EXIT_USAGE;
    }
    uuid4(uuid);
    put_flag(c, body, "from");
    put_flag(c, body, "agent");
    js_put_new(body, "id", json_object_new_string(cli_get(c, "id") ? cli_get(c, "id") : uuid));
    if (visit >= 0)
        js_put_new(body, "visit", json_object_new_int64(visit));
    (void)snprintf(path, sizeof path, "/v1/runs/%s/%s", c->args[0], word);
    int error = post(c, path, body, &o);
    if (!error)
        run_say_forked(c, js_get(o, "forkOf") ? js_str(o, "run") : NULL, js_get(o, "forkOf"),
                       js_int(o, "offset", -1));
    json_object_put(body);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_runs_fork(struct cli *c)
{
    if (!cli_get(c, "from"))
        return run_no_from(c);
    return fork_or_retry(c, "fork");
}

int remote_runs_retry(struct cli *c)
{
    return fork_or_retry(c, "retry");
}
