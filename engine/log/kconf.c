/* librdkafka handles: which properties are the engine's own and why, what its errors mean here.
 * Thread-safe: nothing is kept. Order: presets, then the user's properties, then the engine's own;
 * what a user may not touch is refused by config (config.c has the reasons). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/klog_int.h"

#define PRODUCERS (1u << KHANDLE_JOURNAL | 1u << KHANDLE_PLAIN)
#define READERS   (1u << KHANDLE_RANGE | 1u << KHANDLE_TAIL)
#define CONSUMERS (READERS | 1u << KHANDLE_GROUP)
#define ALL       (PRODUCERS | CONSUMERS | 1u << KHANDLE_PROBE)

struct prop {
    unsigned kinds;
    const char *name, *value;
};

/* May be changed in `kafka` of the configuration. */
static const struct prop presets[] = {
    {ALL, "bootstrap.servers", "127.0.0.1:9092"},
    {ALL, "socket.nagle.disable", "true"},     /* Nagle costs 40 ms an acknowledgement */
    {ALL, "reconnect.backoff.max.ms", "1000"}, /* a returned broker is found within a second */
    {ALL, "socket.timeout.ms", "10000"},
    {ALL, "log.connection.close", "false"},
    {PRODUCERS, "linger.ms", "0"},           /* the loop batches by its turns */
    {PRODUCERS, "compression.type", "none"}, /* small records: compressing costs latency */
    {CONSUMERS, "fetch.wait.max.ms", "100"}, /* a new partition waits for the fetch under way */
    {CONSUMERS, "fetch.error.backoff.ms", "50"},
    {CONSUMERS, "queued.min.messages", "20000"},
    {CONSUMERS, "queued.max.messages.kbytes", "16384"},
};
/* Set last. */
static const struct prop engine[] = {
    {1u << KHANDLE_PROBE, "statistics.interval.ms", "500"},
    {PRODUCERS, "enable.idempotence", "true"},
    {PRODUCERS, "acks", "all"},
    {PRODUCERS, "message.timeout.ms", "0"},       /* giving up on a record would leave a gap */
    {PRODUCERS, "partitioner", "murmur2_random"}, /* the same partition as every node computes */
    {1u << KHANDLE_JOURNAL, "enable.gapless.guarantee", "true"},
    {CONSUMERS, "enable.auto.commit", "false"},
    {CONSUMERS, "enable.auto.offset.store", "false"},
    {CONSUMERS, "auto.offset.reset", "error"}, /* a position that is gone must be seen */
    {CONSUMERS, "enable.partition.eof", "true"},
    {CONSUMERS, "isolation.level", "read_committed"},
    {1u << KHANDLE_GROUP, "partition.assignment.strategy",
     "roundrobin"}, /* eager: facts/reliability.md */
    {1u << KHANDLE_RANGE, "fetch.wait.max.ms",
     "1"}, /* ranges end: what is asked next waits behind the fetch that is under way then */
    {CONSUMERS, "topic.metadata.propagation.max.ms", "5000"},
};

static int set(rd_kafka_conf_t *c, const char *name, const char *value, struct err *e)
{
    char why[512] = "";
    if (rd_kafka_conf_set(c, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    /* librdkafka repeats the value, which may be a secret, in some of its texts. */
    bool shows_value = *value && strstr(why, value);
    return err_set(e, -EINVAL, "correct it under `kafka` in tidemark.yaml",
                   "the Kafka client refuses the property %s%s%s", name, shows_value ? "" : ": ",
                   shows_value ? "" : why);
}

static int set_int(rd_kafka_conf_t *c, const char *name, int64_t value, struct err *e)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    return set(c, name, text, e);
}

static int set_table(rd_kafka_conf_t *c, enum khandle_kind kind, const struct prop *v, size_t n,
                     struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        if (v[i].kinds & 1u << kind)
            rc = set(c, v[i].name, v[i].value, e);
    return rc;
}

static int set_group(rd_kafka_conf_t *c, const struct kprops *p, struct err *e)
{
    /* A loop that hangs this long must lose its partitions, although librdkafka's own thread
     * still sends heartbeats. */
    int64_t hang = p->session_timeout_ms * 3 > 30000 ? p->session_timeout_ms * 3 : 30000;
    int64_t beat = p->session_timeout_ms / 6 > 3000 ? 3000 : p->session_timeout_ms / 6;
    int rc = set(c, "group.id", p->group_id, e);
    if (!rc && p->instance_id)
        rc = set(c, "group.instance.id", p->instance_id, e);
    if (!rc)
        rc = set_int(c, "session.timeout.ms", p->session_timeout_ms, e);
    if (!rc)
        rc = set_int(c, "heartbeat.interval.ms", beat > 0 ? beat : 1, e);
    if (!rc && !config_kafka(p->config, "max.poll.interval.ms"))
        rc = set_int(c, "max.poll.interval.ms", hang, e);
    return rc;
}

static int set_bounds(rd_kafka_conf_t *c, const struct kprops *p, struct err *e)
{
    int64_t kbytes = (int64_t)((p->max_inflight_bytes + 1023) / 1024);
    int rc = 0;
    if (p->max_inflight)
        rc = set_int(c, "queue.buffering.max.messages", (int64_t)p->max_inflight, e);
    if (!rc && kbytes)
        rc = set_int(c, "queue.buffering.max.kbytes", kbytes, e);
    return rc;
}

/* librdkafka's own lines are for its developers and repeat with every retry; what people need comes
 * as error events. Any thread. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
}

static int set_all(rd_kafka_conf_t *c, enum khandle_kind kind, const struct kprops *p,
                   struct err *e)
{
    int rc = set_table(c, kind, presets, sizeof presets / sizeof *presets, e);
    for (size_t i = 0; i < p->config->nkafka && !rc; i++)
        rc = set(c, p->config->kafka[i].name, p->config->kafka[i].value, e);
    if (!rc)
        rc = set_table(c, kind, engine, sizeof engine / sizeof *engine, e);
    if (!rc && p->client_id)
        rc = set(c, "client.id", p->client_id, e);
    if (!rc && kind == KHANDLE_GROUP)
        rc = set_group(c, p, e);
    if (!rc && (PRODUCERS & 1u << kind))
        rc = set_bounds(c, p, e);
    return rc;
}

rd_kafka_t *khandle_new(enum khandle_kind kind, const struct kprops *p, struct err *e)
{
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    if (set_all(c, kind, p, e)) {
        rd_kafka_conf_destroy(c);
        return NULL;
    }
    rd_kafka_conf_set_opaque(c, p->opaque);
    rd_kafka_conf_set_log_cb(c, on_log);
    if (p->events)
        rd_kafka_conf_set_events(c, p->events);
    if (p->rebalance)
        rd_kafka_conf_set_rebalance_cb(c, p->rebalance);
    if (p->error)
        rd_kafka_conf_set_error_cb(c, p->error);
    bool consumer = CONSUMERS & 1u << kind;
    char why[512] = "";
    rd_kafka_t *rk =
        rd_kafka_new(consumer ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, c, why, sizeof why);
    if (rk)
        return rk;
    rd_kafka_conf_destroy(c);
    err_set(e, -EINVAL,
            "check `kafka` in tidemark.yaml; librdkafka's CONFIGURATION.md explains "
            "each property",
            "cannot make a Kafka client: %s", why);
    return NULL;
}

static const struct {
    rd_kafka_resp_err_t err;
    int code;
} codes[] = {
    {RD_KAFKA_RESP_ERR__QUEUE_FULL, -EAGAIN},
    {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, -EMSGSIZE},
    {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, -EMSGSIZE},
    {RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE, -EMSGSIZE},
    {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, -ENOENT},
    {RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, -ENOENT},
    {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, -ENOENT},
    {RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND, -ENOENT},
    {RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, -EEXIST},
    {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, -ERANGE},
    {RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, -ERANGE},
    {RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, -ESTALE},
    {RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, -ESTALE},
    {RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, -ESTALE},
    {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, -ESTALE},
    {RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, -ESTALE},
    {RD_KAFKA_RESP_ERR__FENCED, -ESTALE},
    {RD_KAFKA_RESP_ERR__TIMED_OUT, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__TRANSPORT, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__WAIT_COORD, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, -ETIMEDOUT},
    {RD_KAFKA_RESP_ERR__PURGE_QUEUE, -ECANCELED},
    {RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, -ECANCELED},
    {RD_KAFKA_RESP_ERR__DESTROY, -ECANCELED},
    {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, -EACCES},
    {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, -EACCES},
    {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, -EACCES},
    {RD_KAFKA_RESP_ERR__AUTHENTICATION, -EACCES},
    {RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, -EACCES},
    {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, -EPERM},
    {RD_KAFKA_RESP_ERR_INVALID_CONFIG, -EINVAL},
    {RD_KAFKA_RESP_ERR_INVALID_PARTITIONS, -EINVAL},
    {RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR, -EINVAL},
    {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, -EINVAL},
    {RD_KAFKA_RESP_ERR_INVALID_REQUEST, -EINVAL},
    {RD_KAFKA_RESP_ERR__INVALID_ARG, -EINVAL},
    {RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, -EOPNOTSUPP},
    {RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, -EOPNOTSUPP},
};

int kerrno(rd_kafka_resp_err_t err)
{
    if (!err)
        return 0;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].err == err)
            return codes[i].code;
    return -EIO;
}

const char *khint(rd_kafka_resp_err_t err)
{
    switch (kerrno(err)) {
    case -ETIMEDOUT:
        return "is a broker running at kafka.bootstrap.servers, and is it reachable from here?";
    case -EACCES:
        return "check the credentials under `kafka` and the ACLs of the broker";
    case -ENOENT:
        return "see the topics that exist with `tidemark topics list`";
    case -EEXIST:
        return "see it with `tidemark topics show`";
    case -EMSGSIZE:
        return "make it smaller, or raise message.max.bytes on the topic";
    case -EPERM:
        return "the broker's policy forbids this; check the topic's cleanup.policy";
    case -EINVAL:
        return "correct the value that the broker names";
    case -EOPNOTSUPP:
        return "this broker is too old for the request";
    default:
        return "see the broker's log";
    }
}
