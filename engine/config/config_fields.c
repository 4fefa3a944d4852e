/* The table of fields and what is made from it: presets, single values with their checks, and the
 * text of docs/config.md. Pure but for allocation; the table is constant. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config_int.h"

static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const views[] = {"all", "owned", "none", NULL};
static const char *const formats[] = {"auto", "logfmt", NULL};

#define AT(member) offsetof(struct config, member)
const struct field config_fields[] = {
    {"group", FIELD_NAME, AT(group), 1, GROUP_NAME_MAX, NULL, "main",
     "Nodes with the same group share one journal and its work."},
    {"node.id", FIELD_NAME, AT(node_id), 1, 200, NULL, NULL,
     "Static membership: a restart within the session keeps the partitions. Unset: dynamic."},
    {"node.url", FIELD_TEXT, AT(node_url), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "The address under which other nodes and people reach this node's HTTP."},
    {"node.session", FIELD_DURATION, AT(session_timeout_ms), 1000, 1800000, NULL, "10s",
     "How long a node may be silent before its partitions go to another one (6s in dev)."},
    {"node.handover", FIELD_DURATION, AT(handover_ms), 0, 20000, NULL, "1s",
     "How long a rebalance waits for calls under way, which the next owner would make again."},
    {"journal.partitions", FIELD_INT, AT(journal_partitions), 1, 4096, NULL, NULL,
     "Fixed when the journal is created: 4 in dev, else 32."},
    {"journal.replication", FIELD_INT, AT(journal_replication), 1, 16, NULL, NULL,
     "Copies of the journal: 1 in dev, else the broker's default."},
    {"journal.history", FIELD_DURATION, AT(journal_history_ms), 0, INT64_MAX / 2, NULL, "7d",
     "How long ended runs stay readable before the journal is cut."},
    {"journal.state", FIELD_DURATION, AT(journal_state_ms), 100, 3600000, NULL, "60s",
     "How often a starting point is written: what a restart folds again at most."},
    {"journal.snapshot", FIELD_INT, AT(journal_snapshot_kib), 1, 1 << 20, NULL, "1024",
     "KiB of log that a long run holds back before its state is written anew."},
    {"runs.active", FIELD_INT, AT(max_active_runs), 1, 1000000, NULL, "1000",
     "Runs under way on this node; more wait in the journal."},
    {"runs.tasks", FIELD_INT, AT(max_inflight_tasks), 1, 100000, NULL, "256",
     "Effects under way on this node at a time."},
    {"runs.processes", FIELD_INT, AT(max_processes), 1, 4096, NULL, "16",
     "Child processes on this node at a time."},
    {"runs.waiting", FIELD_INT, AT(max_waiting_runs), 1, 10000000, NULL, "20000",
     "Requests that wait on this node; with more it takes no further events for the time being."},
    {"http.listen", FIELD_TEXT, AT(http_listen), 3, 300, NULL, "127.0.0.1:8274",
     "HOST:PORT of the HTTP interface of dev and serve; port 0 picks one, `off` is none."},
    {"http.tls.cert", FIELD_PATH, AT(http_tls_cert), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "PEM file with the certificate and those between it and the root: HTTPS instead of HTTP."},
    {"http.tls.key", FIELD_PATH, AT(http_tls_key), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "PEM file with the certificate's private key, without a passphrase."},
    {"http.tls.ca", FIELD_PATH, AT(http_tls_ca), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "PEM file with the authorities of the other nodes' certificates; unset: the system's."},
    {"http.cors", FIELD_ORIGINS, AT(http_cors), 0, CONFIG_ORIGINS_MAX, NULL, NULL,
     "Origins of web pages that may ask, such as https://app.example.com; unset: none."},
    {"http.body", FIELD_INT, AT(http_body_kib), 1, 65536, NULL, "1024",
     "KiB that a request's body may have."},
    {"http.connections", FIELD_INT, AT(http_connections), 8, 100000, NULL, "1024",
     "Connections at a time; near it those that are idle longest are closed."},
    {"http.streams", FIELD_INT, AT(http_streams), 1, 1000000, NULL, "10000",
     "Connections of streams (server-sent events) at a time; further ones are closed."},
    {"http.request", FIELD_DURATION, AT(http_request_ms), 100, 3600000, NULL, "30s",
     "How long a client may take to send a whole request."},
    {"http.idle", FIELD_DURATION, AT(http_idle_ms), 1000, 3600000, NULL, "60s",
     "How long a connection is kept between two requests."},
    {"view", FIELD_WORD, AT(view), 0, 0, views, "all",
     "The runs that this node's read model keeps (SQLite, in its data folder): all, owned (those "
     "of "
     "its partitions) or none."},
    {"log.level", FIELD_WORD, AT(log_level), 0, 0, levels, "info", "error, warn, info or debug."},
    {"log.format", FIELD_WORD, AT(log_format), 0, 0, formats, "auto",
     "auto is short and coloured on a terminal; logfmt is one event a line."},
    {"log.data", FIELD_PATH, AT(log_data), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "Folder of the embedded log of dev (.tidemark/log when unset)."},
    {"log.listen", FIELD_TEXT, AT(log_listen), 3, 300, NULL, NULL,
     "HOST:PORT of the embedded log of dev (127.0.0.1:9092 when unset; port 0 picks one)."},
    {"events.default", FIELD_NAME, AT(events_default), 1, TOPIC_NAME_MAX, NULL, NULL,
     "Topic for emit when neither the task nor a declared type names one."},
    {"secrets.dir", FIELD_PATH, AT(secrets_dir), 1, CONFIG_TEXT_MAX, NULL, NULL,
     "Folder with one file a secret; the environment (TIDEMARK_SECRET_NAME) comes first."},
    {"dirs.agents", FIELD_PATH, AT(agents_dir), 1, CONFIG_TEXT_MAX, NULL, "config/agents",
     "Where dev looks for agents."},
    {"dirs.topics", FIELD_PATH, AT(topics_dir), 1, CONFIG_TEXT_MAX, NULL, "topics",
     "Where topics are declared, one NAME.yaml a topic."},
};
const size_t config_nfields = sizeof config_fields / sizeof *config_fields;
#undef AT

#define AT(member) offsetof(struct config_topic, member)
const struct field topic_fields[] = {
    {"partitions", FIELD_INT, AT(partitions), 1, 10000, NULL, NULL, "Unset: apply makes 4."},
    {"replication", FIELD_INT, AT(replication), 1, 16, NULL, NULL,
     "Copies; unset: the broker's default."},
    {"retention", FIELD_DURATION, AT(retention_ms), -1, INT64_MAX / 2, NULL, NULL,
     "How long records are kept; `forever` keeps them."},
    {"types", FIELD_TYPES, AT(types), 0, CONFIG_TYPES_MAX, NULL, NULL,
     "Event types that this topic carries; emit finds the topic by them."},
    {"from", FIELD_FROM, AT(from_latest), 0, 0, NULL, "earliest",
     "Where a group without committed offsets starts: earliest or latest."},
    {"config", FIELD_SETTINGS, AT(configs), 0, CONFIG_SETTINGS_MAX, NULL, NULL,
     "Further topic settings by Kafka's names."},
    {"schema", FIELD_SCHEMA, 0, 1, CONFIG_TEXT_MAX, NULL, NULL,
     "JSON Schema that the events' data must fit: a map, or the path of its file."},
};
const size_t topic_nfields = sizeof topic_fields / sizeof *topic_fields;
#undef AT

bool config_name_ok(struct slice s, size_t max)
{
    if (!s.n || s.n > max || sl_is(s, ".") || sl_is(s, ".."))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i]) && !strchr("._-", s.p[i]))
            return false;
    return true;
}

bool config_origin_ok(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_[]:";
    struct slice s = sl_str(text);
    size_t skip = sl_starts(s, SL("https://")) ? 8 : sl_starts(s, SL("http://")) ? 7 : 0;
    return skip && text[skip] && text[skip] != ':' && strspn(text + skip, letters) == s.n - skip &&
           s.p[s.n - 1] != ':';
}

int config_duration(struct slice text, int64_t *ret)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (sl_is(text, "forever")) {
        *ret = -1;
        return 0;
    }
    size_t digits = 0;
    while (digits < text.n && isdigit((unsigned char)text.p[digits]))
        digits++;
    int64_t n;
    int rc = digits ? sl_i64(sl(text.p, digits), &n) : -EINVAL;
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (sl_is(sl_from(text, digits), units[i].unit))
            return __builtin_mul_overflow(n, units[i].ms, ret) ? -ERANGE : 0;
    return -EINVAL;
}

static int set_text(char **at, struct slice text, struct err *e)
{
    char *copy = sl_dup(text);
    if (!copy)
        return err_set(e, -ENOMEM, "give the process more memory",
                       "no memory for the configuration");
    free(*at);
    *at = copy;
    return 0;
}

static int set_number(const struct field *f, void *at, struct slice text, struct err *e)
{
    bool duration = f->kind == FIELD_DURATION;
    int64_t n = 0;
    int rc = duration ? config_duration(text, &n) : sl_i64(text, &n);
    if (rc == -EINVAL && duration)
        return err_set(e, rc, "write a number and a unit: 500ms, 10s, 5m, 2h or 7d",
                       "%s is not a duration: %.*s", f->path, SL_ARG(text));
    if (rc == -EINVAL)
        return err_set(e, rc, "write a whole number without quotes", "%s is not a number: %.*s",
                       f->path, SL_ARG(text));
    char hint[160];
    (void)snprintf(hint, sizeof hint, "it must be between %lld and %lld%s", (long long)f->min,
                   (long long)f->max, duration ? " ms" : "");
    if (rc || n < f->min || n > f->max)
        return err_set(e, -ERANGE, hint, "%s is out of range: %.*s", f->path, SL_ARG(text));
    if (duration)
        *(int64_t *)at = n;
    else
        *(int *)at = (int)n;
    return 0;
}

int field_set(const struct field *f, void *base, struct slice text, struct err *e)
{
    void *at = (char *)base + f->at;
    if (f->kind == FIELD_INT || f->kind == FIELD_DURATION)
        return set_number(f, at, text, e);
    if (f->kind == FIELD_FROM) {
        if (!sl_is(text, "latest") && !sl_is(text, "earliest"))
            return err_set(e, -EINVAL, "write earliest or latest", "%s is neither: %.*s", f->path,
                           SL_ARG(text));
        *(bool *)at = sl_is(text, "latest");
        return 0;
    }
    if (f->kind == FIELD_WORD) {
        char hint[160] = "use one of:";
        for (const char *const *w = f->words; *w; w++) {
            if (sl_is(text, *w))
                return set_text(at, text, e);
            size_t n = strlen(hint);
            (void)snprintf(hint + n, sizeof hint - n, " %s", *w);
        }
        return err_set(e, -EINVAL, hint, "%s has no value %.*s", f->path, SL_ARG(text));
    }
    if (f->kind == FIELD_NAME && !config_name_ok(text, (size_t)f->max))
        return err_set(e, -EINVAL, "use letters, digits, '.', '_' and '-'",
                       "%s is not a name: %.*s", f->path, SL_ARG(text));
    if ((int64_t)text.n < f->min || (int64_t)text.n > f->max || memchr(text.p, 0, text.n))
        return err_set(e, -ERANGE, "write a text of a sensible length without zero bytes",
                       "%s is empty, too long or has a zero byte", f->path);
    return set_text(at, text, e);
}

static const char *kind_name(const struct field *f)
{
    static const char *const names[] = {"text",          "name",     "path",       "word",
                                        "number",        "duration", "word",       "list of texts",
                                        "list of texts", "map",      "map or path"};
    return names[f->kind];
}

static void rows(struct buf *b, const char *prefix, const struct field *v, size_t n)
{
    buf_adds(b, "| key | kind | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < n; i++)
        buf_addf(b, "| `%s%s` | %s | %s | %s |\n", prefix, v[i].path, kind_name(&v[i]),
                 v[i].preset ? v[i].preset : "", v[i].help);
}

int config_fields_write(struct buf *b)
{
    rows(b, "", config_fields, config_nfields);
    buf_adds(b,
             "| `kafka.PROPERTY` | text | | Any librdkafka property, such as `bootstrap.servers`; "
             "a value `{secret: NAME}` is read as a secret. |\n\n");
    rows(b, "topics.NAME.", topic_fields, topic_nfields);
    return buf_error(b);
}
