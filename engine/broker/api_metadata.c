/* Metadata and DescribeCluster: who serves which partition (always this node), and topics made on
 * first use.
 *
 * Owning thread: the broker's thread. */
#include <errno.h>

#include "broker/wire_int.h"

/* What stands behind the topics of a Metadata request. */
struct flags {
    bool create;
    int32_t cluster_operations, topic_operations;
};

static struct flags read_flags(struct rd in, int version, int32_t n)
{
    struct flags f = {true, OPERATIONS_UNKNOWN, OPERATIONS_UNKNOWN};
    while (n-- > 0) {
        uint8_t id[16];
        if (version >= 10)
            rd_uuid(&in, id);
        rd_nstr(&in);
        rd_tags(&in);
    }
    if (version >= 4)
        f.create = rd_i8(&in) != 0;
    if (version >= 8 && version <= 10 && rd_i8(&in))
        f.cluster_operations = OPERATIONS_CLUSTER;
    if (version >= 8 && rd_i8(&in))
        f.topic_operations = OPERATIONS_TOPIC;
    return f;
}

static void write_broker(struct req *q, bool rack)
{
    char text[64];
    wr_i32(&q->out, NODE_ID);
    wr_str(&q->out, broker_advertised(q->c, text));
    wr_i32(&q->out, q->b->port);
    if (rack)
        wr_nstr(&q->out, (struct slice){0});
    wr_tags(&q->out);
}

static void write_partition(struct wr *w, int version, int32_t index, bool failed)
{
    wr_i16(w, failed ? KERR_STORAGE : KERR_NONE);
    wr_i32(w, index);
    wr_i32(w, NODE_ID);
    if (version >= 7)
        wr_i32(w, 0);             /* leader epoch */
    for (int i = 0; i < 2; i++) { /* replicas, in-sync replicas */
        wr_array(w, 1);
        wr_i32(w, NODE_ID);
    }
    if (version >= 5)
        wr_array(w, 0);
    wr_tags(w);
}

static void write_topic(struct req *q, int16_t error, struct slice name, const uint8_t id[16],
                        const struct topic *t, int32_t operations)
{
    struct wr *w = &q->out;
    int version = q->version;
    wr_i16(w, error);
    if (version >= 12)
        wr_nstr(w, name);
    else
        wr_str(w, name);
    if (version >= 10)
        wr_uuid(w, t ? t->id : id);
    if (version >= 1)
        wr_i8(w, sl_is(name, OFFSETS_TOPIC));
    wr_array(w, t ? t->npartitions : 0);
    for (int i = 0; t && i < t->npartitions; i++)
        write_partition(w, version, i, plog_failed(t->parts[i]));
    if (version >= 8)
        wr_i32(w, operations);
    wr_tags(w);
}

/* The topic of that name, made when it is allowed. */
static struct topic *topic_or_make(struct broker *b, struct slice name, bool create,
                                   int16_t *ret_error)
{
    struct topic *t = store_topic(b->store, name);
    if (t)
        return t;
    *ret_error = topic_name_ok(name) ? KERR_UNKNOWN_TOPIC_OR_PARTITION : KERR_INVALID_TOPIC;
    if (!create || !b->o.auto_create_topics || *ret_error == KERR_INVALID_TOPIC)
        return NULL;
    struct err e = {0};
    int rc = store_topic_create(b->store, name, b->o.default_partitions, NULL, 0, &t, &e);
    if (rc < 0) {
        log_error(b->log, "cannot create topic", "topic=%s error=%s", log_qs(name), log_q(e.msg));
        *ret_error = kerr_of(rc);
        return NULL;
    }
    log_info(b->log, "topic created", "topic=%s partitions=%d", log_qs(name), t->npartitions);
    *ret_error = KERR_NONE;
    return t;
}

static void write_all(struct req *q, const struct flags *f)
{
    size_t pos = 0;
    int32_t n = 0;
    struct topic *t;
    while (store_topic_next(q->b->store, &pos, &t))
        n++;
    wr_array(&q->out, n);
    pos = 0;
    while (store_topic_next(q->b->store, &pos, &t))
        write_topic(q, KERR_NONE, sl_str(t->name), t->id, t, f->topic_operations);
}

static void write_named(struct req *q, int32_t n, const struct flags *f)
{
    static const uint8_t no_id[16];
    wr_array(&q->out, n);
    while (n-- > 0) {
        uint8_t id[16] = {0};
        if (q->version >= 10)
            rd_uuid(&q->in, id);
        struct slice name = q->version >= 10 ? rd_nstr(&q->in) : rd_str(&q->in);
        rd_tags(&q->in);
        int16_t error = KERR_NONE;
        struct topic *t;
        if (name.p) {
            t = topic_or_make(q->b, name, f->create, &error);
        } else {
            bool zero = memcmp(id, no_id, sizeof id) == 0;
            t = zero ? NULL : find_topic_id(q->b, id);
            error = t ? KERR_NONE : KERR_UNKNOWN_TOPIC_ID;
            name = t ? sl_str(t->name) : name;
        }
        write_topic(q, error, name, id, t, f->topic_operations);
    }
}

int api_metadata(struct req *q)
{
    struct wr *w = &q->out;
    int32_t n = rd_narray(&q->in);
    bool all = n < 0 || (n == 0 && q->version == 0);
    struct flags f = read_flags(q->in, q->version, n);
    if (q->version >= 3)
        wr_i32(w, 0);
    wr_array(w, 1);
    write_broker(q, q->version >= 1);
    if (q->version >= 2)
        wr_nstr(w, sl_str(q->b->cluster_id));
    if (q->version >= 1)
        wr_i32(w, NODE_ID);
    if (all)
        write_all(q, &f);
    else
        write_named(q, n, &f);
    if (q->version >= 8 && q->version <= 10)
        wr_i32(w, f.cluster_operations);
    wr_tags(w);
    return REQ_DONE;
}

int api_describe_cluster(struct req *q)
{
    struct wr *w = &q->out;
    bool operations = rd_i8(&q->in) != 0;
    int8_t endpoints = q->version >= 1 ? rd_i8(&q->in) : 1;
    wr_i32(w, 0);
    wr_i16(w, endpoints == 1 ? KERR_NONE : KERR_INVALID_REQUEST);
    wr_nstr(w, endpoints == 1 ? (struct slice){0} : SL("only brokers can be described"));
    if (q->version >= 1)
        wr_i8(w, endpoints);
    wr_str(w, sl_str(q->b->cluster_id));
    wr_i32(w, NODE_ID);
    wr_array(w, 1);
    write_broker(q, true);
    wr_i32(w, operations ? OPERATIONS_CLUSTER : OPERATIONS_UNKNOWN);
    wr_tags(w);
    return REQ_DONE;
}
