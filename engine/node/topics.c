/* tidemark's own topics (node.h, node_topics). Their settings are promises: the journal must never
 * lose a record by time alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node.h"

#define TOPICS_MS 10000

static const struct config_prop journal_conf[] = {{"cleanup.policy", "compact,delete"},
                                                  {"retention.ms", "-1"},
                                                  {"retention.bytes", "-1"},
                                                  {"max.message.bytes", "1048588"}};
static const struct config_prop compact_conf[] = {{"cleanup.policy", "compact"}};
static const struct config_prop dead_conf[] = {{"cleanup.policy", "delete"},
                                               {"retention.ms", "-1"}};

static int make(struct kadmin *a, const char *name, int partitions, int replication,
                const struct config_prop *v, size_t n, struct err *e)
{
    struct ktopic_spec t = {.name = name,
                            .partitions = partitions,
                            .replication = replication,
                            .configs = v,
                            .nconfigs = n};
    int error = kadmin_create(a, &t, TOPICS_MS, e);
    if (error == -EEXIST) {
        err_clear(e);
        error = 0;
    }
    return error;
}

static int check_setting(struct kadmin *a, const char *topic, const struct config_prop *want,
                         struct err *e)
{
    char *seen = NULL;
    int error = kadmin_config(a, topic, want->name, &seen, TOPICS_MS, e);
    bool same = seen && (!strcmp(seen, want->value) || (!strcmp(want->value, "compact,delete") &&
                                                        !strcmp(seen, "delete,compact")));
    if (!error && !strcmp(want->name, "max.message.bytes"))
        same = seen && strtoll(seen, NULL, 10) >= strtoll(want->value, NULL, 10);
    if (!error && !same) {
        char hint[384];
        snprintf(hint, sizeof hint,
                 "mend it: kafka-configs --alter --entity-type topics --entity-name %s "
                 "--add-config '%s=[%s]' (or: tidemark topics apply)",
                 topic, want->name, want->value);
        error = err_set(e, -EINVAL, hint, "the topic %s has %s=%s; it must be %s", topic,
                        want->name, seen ? seen : "(unknown)", want->value);
    }
    free(seen);
    return error;
}

static void check_safety(struct kadmin *a, const char *topic, int replication, struct diags *warn)
{
    char *isr = NULL;
    if (replication < 3)
        diags_warn(warn, topic, 0, 0,
                   "3 replicas with min.insync.replicas=2 survive the loss of one broker",
                   "the journal has %d replica%s", replication, replication == 1 ? "" : "s");
    else if (kadmin_config(a, topic, "min.insync.replicas", &isr, TOPICS_MS, NULL) == 0 && isr &&
             strtol(isr, NULL, 10) < 2)
        diags_warn(warn, topic, 0, 0, "set min.insync.replicas=2",
                   "the journal acknowledges with one replica");
    free(isr);
}

static int journal(struct kadmin *a, const struct config *c, const struct names *n,
                   int *ret_partitions, struct diags *warn, struct err *e)
{
    int partitions = 0, replication = 0, want = c->journal_partitions ? c->journal_partitions : 32;
    int error = kadmin_topic(a, n->runs, &partitions, &replication, TOPICS_MS, e);
    if (error == -ENOENT) {
        err_clear(e);
        error = make(a, n->runs, want, c->journal_replication, journal_conf, 4, e);
        partitions = want;
        replication = 0;
    } else if (!error) {
        for (size_t i = 0; i < 4 && !error; i++)
            error = check_setting(a, n->runs, &journal_conf[i], e);
        if (!error && c->journal_partitions && partitions != want)
            error = err_set(e, -EINVAL,
                            "the count is fixed when the journal is made, since run ids contain "
                            "it: set journal.partitions to what the topic has",
                            "the journal %s has %d partitions, the configuration says %d", n->runs,
                            partitions, want);
    }
    if (!error && replication && c->journal_replication != 1) /* 1: asked for */
        check_safety(a, n->runs, replication, warn);
    if (!error)
        *ret_partitions = partitions;
    return error;
}

/* Where a key that is not used for long would be deleted by time, its absence would open the node.
 */
static int keys(struct kadmin *a, const struct config *c, const struct names *n, struct err *e)
{
    int partitions, error = kadmin_topic(a, n->keys, &partitions, NULL, TOPICS_MS, e);
    if (error != -ENOENT)
        return error ? error : check_setting(a, n->keys, &compact_conf[0], e);
    err_clear(e); /* a broker may not tell of one that was just made */
    return make(a, n->keys, 1, c->journal_replication, compact_conf, 1, e);
}

static int mend(struct kadmin *a, const char *topic, const struct config_prop *want, size_t n,
                bool *ret_changed, struct err *e)
{
    int partitions, error = kadmin_topic(a, topic, &partitions, NULL, TOPICS_MS, e);
    if (error == -ENOENT) {
        err_clear(e);
        return 0;
    }
    for (size_t i = 0; i < n && !error; i++)
        error = check_setting(a, topic, &want[i], e);
    if (error != -EINVAL)
        return error;
    err_clear(e);
    error = kadmin_alter(a, topic, want, n, TOPICS_MS, e);
    *ret_changed |= !error;
    return error;
}

int node_topics_mend(struct kadmin *a, const struct names *n, bool *ret_changed, struct err *e)
{
    *ret_changed = false;
    int error = mend(a, n->runs, journal_conf, 4, ret_changed, e);
    return error ? error : mend(a, n->keys, compact_conf, 1, ret_changed, e);
}

int node_topics(struct kadmin *a, const struct config *c, const struct names *n,
                int *ret_partitions, struct diags *warn, struct err *e)
{
    int error = kadmin_reach(a, TOPICS_MS, e);
    if (!error)
        error = journal(a, c, n, ret_partitions, warn, e);
    if (!error)
        error = make(a, n->agents, 1, c->journal_replication, compact_conf, 1, e);
    if (!error)
        error = make(a, n->marks, 1, c->journal_replication, compact_conf, 1, e);
    if (!error)
        error = keys(a, c, n, e);
    if (!error)
        error = make(a, n->dlq, 1, c->journal_replication, dead_conf, 2, e);
    return error;
}
