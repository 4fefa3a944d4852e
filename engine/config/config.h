/* tidemark.yaml: what depends on the place. Fixed structure, checked and stored in one walk along
 * one table of fields (ydoc.h gives places; libcyaml would stop at the first error and misplace
 * it). Unknown keys are errors with "did you mean"; every problem is reported at once. Immutable
 * after loading; the owner frees it. */
#pragma once
#include "base/err.h"
#include "base/map.h"
#include "base/buf.h"

struct config_prop {
    char *name, *value; /* librdkafka property; value may be a secret: never log it */
};
struct json_object;
struct ydoc;
struct config_topic { /* topics/NAME.yaml or `topics:` in tidemark.yaml */
    char *name;
    int partitions;              /* 0: not said; apply uses 4 */
    int replication;             /* 0: broker's default */
    int64_t retention_ms;        /* -2: not said */
    char **types;                /* event types it declares, NULL-terminated; may be NULL */
    bool from_latest;            /* from: latest */
    struct config_prop *configs; /* further topic settings */
    size_t nconfigs;
    /* schema: JSON Schema of the events' data, for flow/schema.h: member `key` of `parent`, or
     * `parent` itself when key is NULL; the document owns both. doc NULL: none. */
    struct {
        struct ydoc *doc;
        struct json_object *parent;
        const char *key;
    } schema;
};
struct config {
    char *group;               /* "main" */
    char *node_id;             /* NULL: dynamic membership */
    char *node_url;            /* may be NULL */
    struct config_prop *kafka; /* librdkafka properties; the engine's own are refused with the
                                  reason (DECISIONS 18) */
    size_t nkafka;
    int journal_partitions;     /* 0: 32 (4 in dev) */
    int journal_replication;    /* 0: 1 in dev, else the broker's default */
    int64_t journal_history_ms; /* 7 days */
    int64_t journal_state_ms;   /* 60 s: part.state at most this far apart */
    int journal_snapshot_kib;   /* 1024: a run holds the tide mark over this much log before it is
                                   re-anchored */
    struct config_topic *topics;
    size_t ntopics;
    char *http_listen;                  /* "127.0.0.1:8274"; "off": no HTTP */
    char *http_tls_cert, *http_tls_key; /* PEM files, both or none */
    char *http_tls_ca;                  /* PEM file; NULL: the system's authorities */
    char **http_cors; /* origins of web pages that may ask, NULL-terminated; NULL: none */
    int http_body_kib, http_connections;
    int64_t http_request_ms, http_idle_ms;
    int http_streams;             /* 10,000 */
    char *view;                   /* "all", "owned" or "none" */
    char *log_level, *log_format; /* "info"; "auto" | "logfmt" */
    char *log_data, *log_listen;  /* the embedded log of dev: folder and HOST:PORT */
    char *events_default;         /* topic for emit when no other fits, or NULL */
    char *secrets_dir;            /* NULL: only TIDEMARK_SECRET_NAME */
    int max_active_runs;          /* runs.active; default 1000 */
    int max_inflight_tasks;       /* runs.tasks; default 256: effects under way on this node */
    int max_processes;            /* runs.processes; default 16 */
    int max_waiting_runs;         /* runs.waiting; default 20000 */
    int64_t session_timeout_ms;   /* node.session, default 10 s (6 s in dev) */
    int64_t handover_ms;          /* node.handover, default 1 s */
    char *agents_dir,
        *topics_dir; /* "config/agents", "topics" relative to the file's project root */
};

/* Defaults for everything. */
struct config *config_new(void);
struct config *config_free(struct config *c);
/* Loads the file (NULL: none) over the defaults, then topics/NAME.yaml files of topics_dir.
 * Problems go to d; NULL when one is an error. */
struct config *config_load(const char *path, struct diags *d);
/* Sets one librdkafka property (later wins); -EINVAL for the engine's own with the reason in e. */
int config_set_kafka(struct config *c, const char *name, const char *value, struct err *e);
const char *config_kafka(const struct config *c, const char *name); /* NULL: not set */
/* The value of secret NAME: environment TIDEMARK_SECRET_<NAME> (upper case, '-' and '.' as '_'),
 * else secrets_dir/NAME (one trailing newline dropped). -ENOENT when missing (e has the hint).
 * Caller frees with secret_free. */
struct secret;
int config_secret(const struct config *c, const char *name, struct secret **ret, struct err *e);
/* The topic that declares the event type, or NULL. */
const struct config_topic *config_topic_of_type(const struct config *c, const char *type);
const struct config_topic *config_topic(const struct config *c, const char *name);
/* "500ms", "10s", "5m", "2h", "7d" in ms; "forever" is -1. -EINVAL, -ERANGE. */
int config_duration(struct slice text, int64_t *ret_ms);
/* The table of fields as text for docs/config.md: name, type, default, meaning. */
int config_fields_write(struct buf *b);
/* The same table as a JSON Schema: of tidemark.yaml, or of topics/NAME.yaml. */
int config_schema_write(bool topic, struct buf *b);
