/* The configuration as a value: presets, librdkafka properties, look-ups, secrets. One thread
 * fills it; afterwards it is read by any. Invariant: kafka[] has each name once and none of the
 * engine's own. */
#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/secret.h"
#include "config/config_int.h"
#include "config/ydoc.h"

#define SECRET_NAME_MAX  128
#define SECRET_BYTES_MAX (64 * 1024)

/* Properties on which the promises rest; the engine sets them itself (engine/log/klog.c). */
static const struct {
    const char *name, *reason;
} owned[] = {
    {"group.id", "the group comes from `group`, so that all nodes of it agree"},
    {"group.instance.id", "static membership is `node.id`, which is also guarded by a lock"},
    {"session.timeout.ms", "the session is `node.session`; the lease is derived from it"},
    {"heartbeat.interval.ms", "it is derived from `node.session`"},
    {"acks", "an acknowledged record must be on all in-sync replicas"},
    {"request.required.acks", "an acknowledged record must be on all in-sync replicas"},
    {"enable.idempotence", "without it a retry could write a record twice"},
    {"enable.gapless.guarantee", "nothing may land in the journal after a failed record"},
    {"max.in.flight", "the order of records depends on it"},
    {"max.in.flight.requests.per.connection", "the order of records depends on it"},
    {"retries", "a record is retried until it is acknowledged or given up as a whole"},
    {"message.send.max.retries",
     "a record is retried until it is acknowledged or given up as a whole"},
    {"message.timeout.ms", "a record that times out by itself would leave a gap"},
    {"delivery.timeout.ms", "a record that times out by itself would leave a gap"},
    {"transactional.id", "the journal is fenced by epochs in the log, not by transactions"},
    {"partitioner", "a run's partition is computed from its key by every node in the same way"},
    {"enable.auto.commit", "an offset is committed only when its work is done"},
    {"auto.commit.enable", "an offset is committed only when its work is done"},
    {"enable.auto.offset.store", "an offset is committed only when its work is done"},
    {"auto.offset.reset", "a missing offset must be an error, not a silent jump"},
    {"enable.partition.eof", "the engine must see where the log ends"},
    {"isolation.level", "records of aborted transactions must not be seen"},
    {"partition.assignment.strategy", "all members of a group must use the same one"},
    {"statistics.interval.ms", "the engine sees from the statistics whether brokers are reachable"},
    {"topic.metadata.propagation.max.ms", "a topic made a moment ago must not count as missing"},
};

const char *config_owned_reason(const char *property)
{
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        if (!strcmp(owned[i].name, property))
            return owned[i].reason;
    return NULL;
}

const char *config_owned_name(size_t i)
{
    return i < sizeof owned / sizeof *owned ? owned[i].name : NULL;
}

void config_topic_init(struct config_topic *t)
{
    *t = (struct config_topic){.retention_ms = -2};
}

static void props_free(struct config_prop *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(v[i].name);
        if (v[i].value)
            explicit_bzero(v[i].value, strlen(v[i].value));
        free(v[i].value);
    }
    free(v);
}

static void texts_free(char **v)
{
    for (char **s = v; s && *s; s++)
        free(*s);
    free(v);
}

void config_topic_clear(struct config_topic *t)
{
    free(t->name);
    texts_free(t->types);
    props_free(t->configs, t->nconfigs);
    ydoc_free(t->schema.doc);
    *t = (struct config_topic){0};
}

struct config *config_new(void)
{
    struct config *c = calloc(1, sizeof *c);
    for (size_t i = 0; c && i < config_nfields; i++) {
        const struct field *f = &config_fields[i];
        if (f->preset && field_set(f, c, sl_str(f->preset), NULL))
            return config_free(c);
    }
    return c;
}

struct config *config_free(struct config *c)
{
    if (!c)
        return NULL;
    for (size_t i = 0; i < config_nfields; i++) {
        enum field_kind k = config_fields[i].kind;
        if (k == FIELD_TEXT || k == FIELD_NAME || k == FIELD_PATH || k == FIELD_WORD)
            free(*(char **)((char *)c + config_fields[i].at));
        else if (k == FIELD_ORIGINS)
            texts_free(*(char ***)(void *)((char *)c + config_fields[i].at));
    }
    props_free(c->kafka, c->nkafka);
    for (size_t i = 0; i < c->ntopics; i++)
        config_topic_clear(&c->topics[i]);
    free(c->topics);
    free(c);
    return NULL;
}

int config_prop_put(struct config_prop **v, size_t *n, size_t max, struct slice name,
                    struct slice value, struct err *e)
{
    char *copy = sl_dup(value);
    for (size_t i = 0; copy && i < *n; i++)
        if (sl_is(name, (*v)[i].name)) {
            explicit_bzero((*v)[i].value, strlen((*v)[i].value));
            free((*v)[i].value);
            (*v)[i].value = copy;
            return 0;
        }
    if (copy && *n >= max) {
        free(copy);
        return err_set(e, -E2BIG, "remove what is not needed", "more than %zu properties", max);
    }
    struct config_prop *grown = copy ? realloc(*v, (*n + 1) * sizeof **v) : NULL;
    if (grown) {
        *v = grown;
        grown[*n] = (struct config_prop){sl_dup(name), copy};
    }
    if (!grown || !grown[*n].name) {
        free(copy);
        return err_set(e, -ENOMEM, "give the process more memory",
                       "no memory for the configuration");
    }
    (*n)++;
    return 0;
}

int config_set_kafka(struct config *c, const char *name, const char *value, struct err *e)
{
    const char *reason = config_owned_reason(name);
    if (reason)
        return err_set(e, -EINVAL, "remove it from `kafka`", "%s is set by tidemark itself: %s",
                       name, reason);
    if (!*name || strlen(name) > CONFIG_TEXT_MAX || strlen(value) > SECRET_BYTES_MAX)
        return err_set(e, -EINVAL, "look up the property's name in librdkafka's CONFIGURATION.md",
                       "a librdkafka property has no name or is too long");
    return config_prop_put(&c->kafka, &c->nkafka, CONFIG_KAFKA_MAX, sl_str(name), sl_str(value), e);
}

const char *config_kafka(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nkafka; i++)
        if (!strcmp(c->kafka[i].name, name))
            return c->kafka[i].value;
    return NULL;
}

const struct config_topic *config_topic(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->ntopics; i++)
        if (!strcmp(c->topics[i].name, name))
            return &c->topics[i];
    return NULL;
}

const struct config_topic *config_topic_of_type(const struct config *c, const char *type)
{
    for (size_t i = 0; i < c->ntopics; i++)
        for (char **t = c->topics[i].types; t && *t; t++)
            if (!strcmp(*t, type))
                return &c->topics[i];
    return NULL;
}

static int secret_from_file(const char *path, struct secret **ret, struct err *e)
{
    struct buf b;
    buf_init(&b, SECRET_BYTES_MAX);
    int rc = file_read(path, &b, e);
    struct slice value = buf_slice(&b);
    if (sl_ends(value, SL("\n")))
        value.n--;
    struct secret *s = rc ? NULL : secret_new(value);
    if (b.p)
        explicit_bzero(b.p, b.cap);
    buf_free(&b);
    if (rc)
        return rc;
    if (!s)
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for a secret");
    *ret = s;
    return 0;
}

int config_secret(const struct config *c, const char *name, struct secret **ret, struct err *e)
{
    if (!config_name_ok(sl_str(name), SECRET_NAME_MAX))
        return err_set(e, -EINVAL, "use letters, digits, '.', '_' and '-'",
                       "not a secret's name: %.128s", name);
    char variable[sizeof "TIDEMARK_SECRET_" + SECRET_NAME_MAX];
    int n = snprintf(variable, sizeof variable, "TIDEMARK_SECRET_%s", name);
    for (int i = 0; i < n; i++)
        variable[i] = strchr(".-", variable[i]) ? '_' : (char)toupper((unsigned char)variable[i]);
    const char *value = getenv(variable);
    if (value) {
        struct secret *s = secret_new(sl_str(value));
        if (!s)
            return err_set(e, -ENOMEM, "give the process more memory", "no memory for a secret");
        *ret = s;
        return 0;
    }
    char path[CONFIG_TEXT_MAX + SECRET_NAME_MAX + 2], hint[384];
    if (c->secrets_dir) {
        (void)snprintf(path, sizeof path, "%s/%s", c->secrets_dir, name);
        struct err file = {0};
        int rc = secret_from_file(path, ret, &file);
        if (rc != -ENOENT) {
            if (rc && e)
                *e = file;
            return rc;
        }
        (void)snprintf(hint, sizeof hint, "set %.150s or write it to %.200s", variable, path);
    } else {
        (void)snprintf(hint, sizeof hint, "set %.150s, or name a folder in secrets.dir", variable);
    }
    return err_set(e, -ENOENT, hint, "there is no secret %s", name);
}
