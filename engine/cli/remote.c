/* The commands about agents, events, marks, replays, dead letters and the group by a node's HTTP
 * interface: docs/http.md. About runs: remote_runs.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/client.h"
#include "triggers/letters.h"

/* "/v1/what/PART", the part escaped; rest "": none. */
static void path_to(struct buf *b, const char *what, const char *part, const char *rest)
{
    buf_init(b, 64 * 1024);
    buf_adds(b, what);
    buf_add_uri(b, part, "");
    buf_adds(b, rest);
}

/* GET of a list under the member `name`, every page. */
static int list(struct cli *c, const char *path, const char *name, const char *const *columns)
{
    struct json_object *v = json_object_new_array();
    int error = client_pages(c, path, name, v, NULL);
    if (!error)
        cli_print_list(c, v, columns);
    json_object_put(v);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

static int send_json(struct cli *c, const char *method, const char *path, struct json_object *o,
                     struct json_object **ret)
{
    struct buf b;
    buf_init(&b, 16u << 20);
    int error = js_write(o, &b);
    struct client_ask q = {.method = method,
                           .path = path,
                           .type = "application/json",
                           .body = buf_slice(&b)};
    if (!error)
        error = client_call(c, &q, NULL, ret);
    buf_free(&b);
    return error;
}

/* ---- agents ---- */

/* "/v1/agents/NS/NAME"; the version behind the colon (NULL: none) is cut off `ref`. */
static int agent_path(struct cli *c, char *ref, struct buf *b, const char **ret_version)
{
    char *colon = strchr(ref, ':'), *slash = strchr(ref, '/');
    if (colon)
        *colon++ = 0;
    *ret_version = colon;
    if (!slash || !slash[1] || slash == ref)
        return cli_usage(c, "NAMESPACE/NAME or NAMESPACE/NAME:VERSION", "\"%s\" names no agent",
                         ref);
    *slash = 0;
    path_to(b, "/v1/agents/", ref, "/");
    buf_add_uri(b, slash + 1, "");
    *slash = '/';
    return 0;
}

static void say_change(struct json_object *o)
{
    const char *id = js_str(o, "agent"), *version = js_str(o, "version"), *hash = js_str(o, "hash"),
               *change = js_str(o, "change");
    agents_say(id ? id : "?", version ? version : "?", change ? change : "?",
               js_bool(o, "written", true), hash ? hash : "?");
}

static int apply(struct cli *c, const struct flow *f)
{
    const struct flow_info *fi = flow_info(f);
    struct json_object *o = NULL;
    struct buf b;
    path_to(&b, "/v1/agents/", fi->ns, "/");
    buf_add_uri(&b, fi->name, "");
    buf_addf(&b, "?force=%s&dryRun=%s", cli_has(c, "force") ? "true" : "false",
             cli_has(c, "dry-run") ? "true" : "false");
    struct client_ask q = {.method = "PUT",
                           .path = b.p,
                           .type = "application/json",
                           .body = fi->text};
    int error = client_call(c, &q, NULL, &o);
    if (!error)
        say_change(o);
    json_object_put(o);
    buf_free(&b);
    return error;
}

/* Checked here, so that places are those of the file, and again by the node. */
int remote_agents_apply(struct cli *c)
{
    char **files = NULL;
    size_t n = 0;
    int error = 0;
    for (int i = 0; i < c->nargs && !error; i++)
        error = agents_files(c, c->args[i], &files, &n);
    for (size_t i = 0; i < n; i++) {
        struct flow *f = NULL;
        if (!error && !(error = load_flow(c, files[i], true, &f)))
            error = apply(c, f);
        flow_unref(f);
        free(files[i]);
    }
    free(files);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_agents_list(struct cli *c)
{
    return list(c, "/v1/agents", "agents", agents_columns);
}

int remote_agents_show(struct cli *c)
{
    struct json_object *o = NULL;
    const char *version;
    struct buf b;
    int status = agent_path(c, c->args[0], &b, &version);
    if (status)
        return status;
    if (version) {
        buf_adds(&b, "?version=");
        buf_add_uri(&b, version, "");
    }
    int error = client_get(c, b.p, &o);
    if (c->format == OUT_TABLE)
        c->format = OUT_YAML;
    if (!error)
        cli_print_one(c, js_get(o, "definition"));
    json_object_put(o);
    buf_free(&b);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_agents_deactivate(struct cli *c)
{
    struct json_object *o = NULL;
    const char *version;
    struct buf b;
    int status = agent_path(c, c->args[0], &b, &version);
    if (status)
        return status;
    struct client_ask q = {.method = "DELETE", .path = b.p};
    int error = client_call(c, &q, NULL, &o);
    if (!error)
        say_change(o);
    json_object_put(o);
    buf_free(&b);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- events ---- */

#define ATTRIBUTES_MAX 7

static void add_attribute(struct buf *b, const char *name, const char *value)
{
    if (b->n)
        buf_addc(b, 0);
    buf_addf(b, "ce-%s: ", name);
    buf_add_uri(b, value, ""); /* the HTTP binding of CloudEvents 1.0, section 3.1.3.2 */
}

/* In binary mode. Its id is made here if --id gives none, so a repeat under way is the same event.
 */
static int publish_one(void *arg, struct slice data)
{
    struct cli *c = arg;
    char uuid[37], time[TIME_TEXT_MAX], path[NAME_MAX_BYTES * 3 + 64];
    const char *id = cli_get(c, "id"), *source = cli_get(c, "source");
    struct json_object *o = NULL;
    struct buf b, topic;
    uuid4(uuid);
    time_write(time, clock_wall_ms());
    path_to(&topic, "/v1/topics/", c->args[0], "/events");
    (void)snprintf(path, sizeof path, "%s", topic.p);
    buf_free(&topic);
    buf_init(&b, 64 * 1024);
    add_attribute(&b, "specversion", "1.0");
    add_attribute(&b, "id", id ? id : uuid);
    add_attribute(&b, "source", source ? source : "tidemark/cli");
    add_attribute(&b, "type", cli_get(c, "type"));
    add_attribute(&b, "time", time);
    if (cli_get(c, "subject"))
        add_attribute(&b, "subject", cli_get(c, "subject"));
    if (cli_get(c, "key"))
        add_attribute(&b, "partitionkey", cli_get(c, "key"));
    struct client_ask q = {.method = "POST",
                           .path = path,
                           .type = "application/json",
                           .body = data};
    struct http_header v[ATTRIBUTES_MAX];
    q.headers = v;
    for (const char *p = b.p; p && p < b.p + b.n && q.nheaders < ATTRIBUTES_MAX;
         p += strlen(p) + 1) {
        size_t n = strcspn(p, ":");
        v[q.nheaders++] = (struct http_header){sl(p, n), sl_str(p + n + 1)};
    }
    int error = buf_error(&b) ? buf_error(&b) : client_call(c, &q, NULL, &o);
    struct json_object *e = js_at(js_get(o, "events"), 0);
    if (!error)
        events_say(c, id ? id : uuid, (int)js_int(e, "partition", -1), js_int(e, "offset", -1));
    json_object_put(o);
    buf_free(&b);
    return error;
}

int remote_events_publish(struct cli *c)
{
    if (cli_has(c, "no-check"))
        return cli_usage(c, "--brokers HOST:PORT publishes without a node",
                         "a node checks events always: --no-check is not for --server");
    return events_each(c, publish_one, c);
}

/* ---- topics and the group ---- */

int remote_topics_list(struct cli *c)
{
    static const char *const columns[] = {"topic",  "partitions", "replication",
                                          "exists", "types",      NULL};
    return list(c, "/v1/topics", "topics", columns);
}

int remote_group_show(struct cli *c)
{
    struct json_object *o = NULL;
    int error = client_get(c, "/v1/group", &o);
    if (!error) {
        struct json_object *v = js_get(o, "members"), *none = json_object_new_array();
        group_say(c, js_str(o, "group"), js_str(o, "state"), v ? v : none);
        json_object_put(none);
    }
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- marks and replays ---- */

int remote_marks_set(struct cli *c)
{
    struct json_object *body = json_object_new_object(), *o = NULL, *v;
    const char *t;
    struct buf b;
    if (cli_get(c, "at"))
        js_put_new(body, "at", json_object_new_string(cli_get(c, "at")));
    for (size_t i = 0; (t = cli_nth(c, "topic", i)); i++) {
        if (!(v = js_get(body, "topics")))
            js_put_new(body, "topics", v = json_object_new_array());
        js_push_new(v, json_object_new_string(t));
    }
    path_to(&b, "/v1/marks/", c->args[0], "");
    int error = send_json(c, "PUT", b.p, body, &o);
    if (!error)
        marks_say(c, js_get(o, "offsets"));
    json_object_put(body);
    json_object_put(o);
    buf_free(&b);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_marks_list(struct cli *c)
{
    return list(c, "/v1/marks", "marks", marks_columns);
}

int remote_marks_delete(struct cli *c)
{
    struct buf b;
    path_to(&b, "/v1/marks/", c->args[0], "");
    struct client_ask q = {.method = "DELETE", .path = b.p};
    int error = client_call(c, &q, NULL, NULL);
    buf_free(&b);
    if (error)
        return cli_fail(c, error);
    printf("%s deleted\n", c->args[0]);
    return EXIT_DONE;
}

int remote_replays_list(struct cli *c)
{
    return list(c, "/v1/replays", "replays", replays_columns);
}

int remote_replays_start(struct cli *c)
{
    static const char *const flags[] = {"name", "agent"}, *const ends[] = {"from", "to"};
    struct json_object *body = json_object_new_object(), *o = NULL;
    bool dry = cli_has(c, "dry-run");
    int error = 0;
    if (!cli_has(c, "from")) {
        json_object_put(body);
        return replays_no_from(c);
    }
    for (size_t i = 0; i < 2; i++)
        if (cli_get(c, flags[i]))
            js_put_new(body, flags[i], json_object_new_string(cli_get(c, flags[i])));
    for (size_t i = 0; i < 2 && !error; i++) {
        struct json_object *v = NULL;
        error = replays_end(c, ends[i], &v);
        if (!error && v)
            js_put(body, ends[i], v);
    }
    if (!error)
        error = send_json(c, "POST", dry ? "/v1/replays?dryRun=true" : "/v1/replays", body, &o);
    if (!error)
        replays_say(js_str(o, "name"), js_int(o, "events", 0), dry, js_bool(o, "existing", false));
    json_object_put(body);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* ---- dead letters ---- */

int remote_dlq_list(struct cli *c)
{
    const char *w;
    struct buf b;
    int status = letters_conditions(c);
    if (status)
        return status;
    buf_init(&b, 64 * 1024);
    buf_adds(&b, "/v1/dlq?limit=1000");
    for (size_t i = 0; (w = cli_nth(c, "where", i)); i++) {
        const char *eq = strchr(w, '=');
        buf_addf(&b, "&%.*s=", (int)(eq - w), w);
        buf_add_uri(&b, eq + 1, "");
    }
    status = list(c, b.p, "letters", letters_columns);
    buf_free(&b);
    return status;
}

static int letter_path(struct cli *c, const char *name, const char *rest, char *path, size_t size)
{
    int partition;
    int64_t offset;
    int status = letters_place(c, name, &partition, &offset);
    (void)snprintf(path, size, "/v1/dlq/%d/%lld%s", status ? 0 : partition,
                   (long long)(status ? 0 : offset), rest);
    return status;
}

int remote_dlq_show(struct cli *c)
{
    struct json_object *o = NULL;
    char path[96];
    int status = letter_path(c, c->args[0], "", path, sizeof path);
    if (status)
        return status;
    int error = client_get(c, path, &o);
    if (!error)
        letters_show(c, o);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

static int redrive(struct cli *c, const char *name, bool dry)
{
    struct json_object *o = NULL;
    struct redriven x = {.partition = -1, .offset = -1};
    char path[96];
    int status = letter_path(c, name, dry ? "/redrive?dryRun=true" : "/redrive", path, sizeof path);
    if (status)
        return status;
    struct client_ask q = {.method = "POST", .path = path};
    int error = client_call(c, &q, NULL, &o);
    const struct {
        const char *name;
        char *to;
        size_t size;
    } texts[] = {{"agent", x.agent, sizeof x.agent},
                 {"run", x.run, sizeof x.run},
                 {"replay", x.replay, sizeof x.replay},
                 {"topic", x.topic, sizeof x.topic}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *v = js_str(o, texts[i].name);
        (void)snprintf(texts[i].to, texts[i].size, "%s", v ? v : "");
    }
    x.partition = js_int(o, "partition", -1);
    x.offset = js_int(o, "offset", -1);
    x.existing = js_bool(o, "existing", false);
    if (!error)
        letters_say(&x, dry);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int remote_dlq_redrive(struct cli *c)
{
    int status = EXIT_DONE;
    for (int i = 0; i < c->nargs && !status; i++)
        status = redrive(c, c->args[i], cli_has(c, "dry-run"));
    return status;
}
