/* Blocking administration: topics and their settings. One thread at a time owns a struct kadmin.
 * Every request goes to the broker's answer queue and is waited for; a request that gets no answer
 * in time is -ETIMEDOUT, and its late answer is dropped with the producer that sent it. */
#include "log/kadmin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "log/kadmin_int.h"

#define GRACE_MS        500 /* librdkafka ends a request by itself; wait a little longer than it does */
#define TOPICS_LIST_MAX 100000
#define CONFIGS_MAX     1000

#define REACH_ASK_MS     250
#define REACH_REFUSED_MS 2000

int kadmin_fail(struct err *e, rd_kafka_resp_err_t err, const char *text, const char *what)
{
    return err_set(e, kerrno(err), khint(err), "cannot %s: %s", what,
                   text && *text ? text : rd_kafka_err2str(err));
}

rd_kafka_t *kadmin_prod(struct kadmin *a, struct err *e)
{
    if (a->prod)
        return a->prod;
    struct kprops p = {.config = a->config,
                       .client_id = "tidemark-admin",
                       .events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR};
    a->prod = khandle_new(KHANDLE_PLAIN, &p, e);
    if (a->prod)
        a->queue = rd_kafka_queue_new(a->prod);
    return a->prod;
}

void kadmin_drop_prod(struct kadmin *a)
{
    if (a->queue)
        rd_kafka_queue_destroy(a->queue);
    if (a->prod) {
        (void)rd_kafka_purge(a->prod, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                          RD_KAFKA_PURGE_F_NON_BLOCKING);
        rd_kafka_destroy(a->prod);
    }
    a->queue = NULL;
    a->prod = NULL;
}

struct kadmin *kadmin_new(const struct config *c, struct err *e)
{
    struct kadmin *a = calloc(1, sizeof *a);
    if (!a) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the log client");
        return NULL;
    }
    a->config = c;
    struct kprops p = {.config = c, .client_id = "tidemark-admin"};
    a->cons = khandle_new(KHANDLE_RANGE, &p, e);
    return a->cons && kadmin_prod(a, e) ? a : kadmin_free(a);
}

struct kadmin *kadmin_free(struct kadmin *a)
{
    if (!a)
        return NULL;
    kadmin_drop_prod(a);
    if (a->cons)
        rd_kafka_destroy(a->cons);
    free(a);
    return NULL;
}

/* What was reported since the last look; true when every broker was found down. */
static bool take_errors(struct kadmin *a, rd_kafka_resp_err_t *err, char *why, size_t size)
{
    rd_kafka_queue_t *q = rd_kafka_queue_get_main(a->prod);
    rd_kafka_event_t *ev;
    bool down = false;
    while ((ev = rd_kafka_queue_poll(q, 0))) {
        rd_kafka_resp_err_t code = rd_kafka_event_error(ev);
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ERROR && code) {
            down = down || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
            if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
                *err = code;
                (void)snprintf(why, size, "%s", rd_kafka_event_error_string(ev));
            }
        }
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_queue_destroy(q);
    return down;
}

int kadmin_reach(struct kadmin *a, int timeout_ms, struct err *e)
{
    char why[256] = "";
    rd_kafka_resp_err_t last = RD_KAFKA_RESP_ERR__TIMED_OUT;
    int64_t begun = clock_boot_ms(), spent = 0, ask = REACH_ASK_MS;
    bool down = false;
    if (!kadmin_prod(a, e))
        return -EINVAL;
    while (spent < timeout_ms && !(down && spent >= REACH_REFUSED_MS)) {
        const struct rd_kafka_metadata *m;
        rd_kafka_resp_err_t err = rd_kafka_metadata(a->prod, 0, NULL, &m, (int)ask);
        if (!err) {
            rd_kafka_metadata_destroy(m);
            return 0;
        }
        down = take_errors(a, &last, why, sizeof why) || down;
        /* Longer each time, so that a slow answer is waited for in the end. */
        ask = down ? REACH_ASK_MS : 2 * ask;
        spent = clock_boot_ms() - begun;
    }
    if (kerrno(last) != -EACCES)
        last = RD_KAFKA_RESP_ERR__TIMED_OUT;
    return kadmin_fail(e, last, why, "reach a broker");
}

rd_kafka_AdminOptions_t *kadmin_options(struct kadmin *a, rd_kafka_admin_op_t op, int timeout_ms)
{
    char why[128];
    rd_kafka_AdminOptions_t *o = rd_kafka_AdminOptions_new(a->prod, op);
    (void)rd_kafka_AdminOptions_set_request_timeout(o, timeout_ms, why, sizeof why);
    /* Not every request has an operation time-out; those without refuse it, which is fine. */
    (void)rd_kafka_AdminOptions_set_operation_timeout(o, timeout_ms, why, sizeof why);
    return o;
}

rd_kafka_event_t *kadmin_wait(struct kadmin *a, int timeout_ms, const char *what, struct err *e)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(a->queue, timeout_ms + GRACE_MS);
    if (!ev) {
        kadmin_drop_prod(a);
        kadmin_fail(e, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL, what);
        return NULL;
    }
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    if (!err)
        return ev;
    kadmin_fail(e, err, rd_kafka_event_error_string(ev), what);
    rd_kafka_event_destroy(ev);
    return NULL;
}

static int topic_results(const rd_kafka_topic_result_t **v, size_t n, const char *what,
                         struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t err = rd_kafka_topic_result_error(v[i]);
        if (err)
            return kadmin_fail(e, err, rd_kafka_topic_result_error_string(v[i]), what);
    }
    return 0;
}

static int no_answer(const struct err *e)
{
    return e->code ? e->code : -EIO;
}

int kadmin_create(struct kadmin *a, const struct ktopic_spec *t, int timeout_ms, struct err *e)
{
    char what[320], why[256] = "";
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "create topic %s", t->name);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(t->name, t->partitions, t->replication > 0 ? t->replication : -1, why,
                              sizeof why);
    if (!topic)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__INVALID_ARG, why, what);
    for (size_t i = 0; i < t->nconfigs; i++) {
        rd_kafka_resp_err_t err =
            rd_kafka_NewTopic_set_config(topic, t->configs[i].name, t->configs[i].value);
        if (err) {
            rd_kafka_NewTopic_destroy(topic);
            return kadmin_fail(e, err, NULL, what);
        }
    }
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout_ms);
    rd_kafka_CreateTopics(a->prod, &topic, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return no_answer(e);
    size_t n = 0;
    const rd_kafka_topic_result_t **v =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
    int rc = topic_results(v, n, what, e);
    rd_kafka_event_destroy(ev);
    return rc;
}

int kadmin_delete(struct kadmin *a, const char *topic, int timeout_ms, struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "delete topic %s", topic);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_DeleteTopic_t *t = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_DELETETOPICS, timeout_ms);
    rd_kafka_DeleteTopics(a->prod, &t, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_DeleteTopic_destroy(t);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return no_answer(e);
    size_t n = 0;
    const rd_kafka_topic_result_t **v =
        rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(ev), &n);
    int rc = topic_results(v, n, what, e);
    rd_kafka_event_destroy(ev);
    return rc;
}

int kadmin_grow(struct kadmin *a, const char *topic, int partitions, int timeout_ms, struct err *e)
{
    char what[320], why[256] = "";
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "give topic %s %d partitions", topic, partitions);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_NewPartitions_t *p =
        partitions > 0 ? rd_kafka_NewPartitions_new(topic, (size_t)partitions, why, sizeof why)
                       : NULL;
    if (!p)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__INVALID_ARG, why, what);
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, timeout_ms);
    rd_kafka_CreatePartitions(a->prod, &p, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_NewPartitions_destroy(p);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return no_answer(e);
    size_t n = 0;
    const rd_kafka_topic_result_t **v =
        rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(ev), &n);
    int rc = topic_results(v, n, what, e);
    rd_kafka_event_destroy(ev);
    return rc;
}

static int resource_results(const rd_kafka_ConfigResource_t **v, size_t n, const char *what,
                            struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t err = rd_kafka_ConfigResource_error(v[i]);
        if (err)
            return kadmin_fail(e, err, rd_kafka_ConfigResource_error_string(v[i]), what);
    }
    return n ? 0 : kadmin_fail(e, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, NULL, what);
}

int kadmin_alter(struct kadmin *a, const char *topic, const struct config_prop *v, size_t n,
                 int timeout_ms, struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "change the settings of topic %s", topic);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_ConfigResource_t *r = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t err = rd_kafka_ConfigResource_set_config(r, v[i].name, v[i].value);
        if (err) {
            rd_kafka_ConfigResource_destroy(r);
            return kadmin_fail(e, err, NULL, what);
        }
    }
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_ALTERCONFIGS, timeout_ms);
    rd_kafka_AlterConfigs(a->prod, &r, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ConfigResource_destroy(r);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return no_answer(e);
    size_t count = 0;
    const rd_kafka_ConfigResource_t **got =
        rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(ev), &count);
    int rc = resource_results(got, count, what, e);
    rd_kafka_event_destroy(ev);
    return rc;
}

static bool is_set(const rd_kafka_ConfigEntry_t *c)
{
    rd_kafka_ConfigSource_t s = rd_kafka_ConfigEntry_source(c);
    if (s == RD_KAFKA_CONFIG_SOURCE_UNKNOWN_CONFIG)
        return !rd_kafka_ConfigEntry_is_default(c);
    return s == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG;
}

static int take_configs(const rd_kafka_ConfigResource_t *r, bool only_set, struct config_prop **ret,
                        size_t *ret_n, struct err *e)
{
    size_t n = 0, kept = 0;
    const rd_kafka_ConfigEntry_t **v = rd_kafka_ConfigResource_configs(r, &n);
    n = n > CONFIGS_MAX ? CONFIGS_MAX : n;
    struct config_prop *out = calloc(n ? n : 1, sizeof *out);
    bool ok = out;
    for (size_t i = 0; ok && i < n; i++) {
        const char *value = rd_kafka_ConfigEntry_value(v[i]);
        if (only_set && !is_set(v[i]))
            continue;
        out[kept].name = sl_dup(sl_str(rd_kafka_ConfigEntry_name(v[i])));
        out[kept].value = sl_dup(sl_str(value ? value : ""));
        ok = out[kept].name && out[kept].value;
        kept++;
    }
    if (!ok) {
        kconfigs_free(out, kept);
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for topic settings");
    }
    *ret = out;
    *ret_n = kept;
    return 0;
}

int kadmin_configs(struct kadmin *a, const char *topic, struct config_prop **ret, size_t *ret_n,
                   bool only_set, int timeout_ms, struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "read the settings of topic %s", topic);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_ConfigResource_t *r = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout_ms);
    rd_kafka_DescribeConfigs(a->prod, &r, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ConfigResource_destroy(r);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return no_answer(e);
    size_t n = 0;
    const rd_kafka_ConfigResource_t **v =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);
    int rc = resource_results(v, n, what, e);
    if (!rc)
        rc = take_configs(v[0], only_set, ret, ret_n, e);
    rd_kafka_event_destroy(ev);
    return rc;
}

int kadmin_config(struct kadmin *a, const char *topic, const char *name, char **ret, int timeout_ms,
                  struct err *e)
{
    struct config_prop *v;
    size_t n;
    int rc = kadmin_configs(a, topic, &v, &n, false, timeout_ms, e);
    if (rc)
        return rc;
    *ret = NULL;
    for (size_t i = 0; i < n; i++)
        if (!*ret && !strcmp(v[i].name, name)) {
            *ret = v[i].value;
            v[i].value = NULL;
        }
    kconfigs_free(v, n);
    return 0;
}

void kconfigs_free(struct config_prop *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++) {
        free(v[i].name);
        free(v[i].value);
    }
    free(v);
}

static int replicas_of(const rd_kafka_metadata_topic_t *t)
{
    return t->partition_cnt > 0 ? t->partitions[0].replica_cnt : 0;
}

int kadmin_topics(struct kadmin *a, struct ktopic_info **ret, size_t *ret_n, int timeout_ms,
                  struct err *e)
{
    const struct rd_kafka_metadata *m;
    rd_kafka_resp_err_t err = rd_kafka_metadata(a->cons, 1, NULL, &m, timeout_ms);
    if (err)
        return kadmin_fail(e, err, NULL, "list the topics");
    size_t n = m->topic_cnt > TOPICS_LIST_MAX ? TOPICS_LIST_MAX : (size_t)m->topic_cnt;
    struct ktopic_info *v = calloc(n ? n : 1, sizeof *v);
    bool ok = v;
    for (size_t i = 0; ok && i < n; i++) {
        const rd_kafka_metadata_topic_t *t = &m->topics[i];
        v[i] = (struct ktopic_info){sl_dup(sl_str(t->topic)), t->partition_cnt, replicas_of(t)};
        ok = v[i].name;
    }
    rd_kafka_metadata_destroy(m);
    if (!ok) {
        ktopics_free(v, n);
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the topics");
    }
    *ret = v;
    *ret_n = n;
    return 0;
}

void ktopics_free(struct ktopic_info *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        free(v[i].name);
    free(v);
}

int kadmin_topic(struct kadmin *a, const char *topic, int *ret_partitions, int *ret_replication,
                 int timeout_ms, struct err *e)
{
    char what[320];
    (void)snprintf(what, sizeof what, "look up topic %s", topic);
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(a->cons, topic, NULL);
    if (!rkt)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__INVALID_ARG, "not a topic's name", what);
    const struct rd_kafka_metadata *m;
    rd_kafka_resp_err_t err = rd_kafka_metadata(a->cons, 0, rkt, &m, timeout_ms);
    rd_kafka_topic_destroy(rkt);
    if (err)
        return kadmin_fail(e, err, NULL, what);
    const rd_kafka_metadata_topic_t *t = m->topic_cnt == 1 ? &m->topics[0] : NULL;
    err = t ? t->err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    int rc = err ? kadmin_fail(e, err, NULL, what) : 0;
    if (!rc && ret_partitions)
        *ret_partitions = t->partition_cnt;
    if (!rc && ret_replication)
        *ret_replication = replicas_of(t);
    rd_kafka_metadata_destroy(m);
    return rc;
}
