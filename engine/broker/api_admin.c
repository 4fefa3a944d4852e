/* Topics: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords, DescribeLogDirs; and
 * InitProducerId.
 *
 * Owning thread: the broker's thread. A change of topics blocks it for the sync of the metadata,
 * which is rare; the offsets of a deleted topic end with an ordinary append that the reply waits
 * for. */
#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/fail.h"
#include "broker/group_store.h"
#include "broker/pending_int.h"

#define MAX_CONFIGS 200

struct new_topic {
    struct slice name;
    int32_t partitions;
    int16_t replication;
    int32_t nassigned; /* partitions whose replicas the client chose */
    bool foreign;      /* to a node that does not exist */
    struct slice configs[MAX_CONFIGS][2];
    int32_t nconfigs;
};

static void read_new_topic(struct rd *in, struct new_topic *t)
{
    t->name = rd_str(in);
    t->partitions = rd_i32(in);
    t->replication = rd_i16(in);
    t->nassigned = rd_array(in);
    t->foreign = false;
    for (int32_t i = 0; i < t->nassigned; i++) {
        rd_i32(in);
        int32_t n = rd_array(in);
        t->foreign |= n != 1;
        for (; n > 0; n--)
            t->foreign |= rd_i32(in) != NODE_ID;
        rd_tags(in);
    }
    t->nconfigs = rd_array(in);
    for (int32_t i = 0; i < t->nconfigs; i++) {
        struct slice name = rd_str(in), value = rd_nstr(in);
        rd_tags(in);
        if (i < MAX_CONFIGS) {
            t->configs[i][0] = name;
            t->configs[i][1] = value.p ? value : SL("");
        }
    }
    rd_tags(in);
}

static int16_t check_new_topic(struct broker *b, struct new_topic *t, struct err *e)
{
    const char *hint = "";
    int16_t error = KERR_NONE;
    if (!topic_name_ok(t->name)) {
        error = KERR_INVALID_TOPIC;
        hint = "a topic name is 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'";
    } else if (store_topic(b->store, t->name)) {
        error = KERR_TOPIC_ALREADY_EXISTS;
        hint = "the topic exists already";
    } else if (t->nassigned > 0 && (t->partitions != -1 || t->replication != -1)) {
        error = KERR_INVALID_REQUEST;
        hint = "a count of partitions or replicas and an assignment exclude each other";
    } else if (t->foreign) {
        error = KERR_INVALID_REPLICA_ASSIGNMENT;
        hint = "this log is one node, with id 1";
    } else if (t->nassigned == 0 && t->replication != -1 && t->replication != 1) {
        error = KERR_INVALID_REPLICATION_FACTOR;
        hint = "this log is one node: the replication factor is 1";
    } else if (t->nconfigs > MAX_CONFIGS) {
        error = KERR_INVALID_CONFIG;
        hint = "too many settings";
    }
    if (t->nassigned > 0)
        t->partitions = t->nassigned;
    else if (t->partitions == -1)
        t->partitions = b->o.default_partitions;
    if (!error && (t->partitions < 1 || t->partitions > MAX_PARTITIONS)) {
        error = KERR_INVALID_PARTITIONS;
        hint = "a topic has 1 to 10000 partitions";
    }
    if (error)
        err_set(e, -EINVAL, NULL, "%s", hint);
    return error;
}

/* Settings are checked by a dry run on the one topic that is always there: the check does not
 * depend on the topic. */
static int16_t make_topic(struct broker *b, const struct new_topic *t, bool only_check,
                          struct topic **ret, struct err *e)
{
    const struct slice(*configs)[2] = t->configs;
    int rc;
    if (only_check)
        rc = store_topic_configure(b->store, store_topic(b->store, SL(OFFSETS_TOPIC)), configs,
                                   (size_t)t->nconfigs, true, e);
    else
        rc = store_topic_create(b->store, t->name, t->partitions, configs, (size_t)t->nconfigs, ret,
                                e);
    if (rc == 0 && !only_check)
        log_info(b->log, "topic created", "topic=%s partitions=%d", log_qs(t->name), t->partitions);
    return kerr_of(rc);
}

static void write_configs(struct wr *w, const struct topic *t)
{
    size_t n = 0;
    const struct topic_setting *s = topic_settings(&n);
    if (!t)
        n = 0;
    wr_array(w, (int32_t)n);
    for (size_t i = 0; i < n; i++) {
        const char *set = map_get(&t->config, sl_str(s[i].name));
        wr_str(w, sl_str(s[i].name));
        wr_nstr(w, sl_str(set ? set : s[i].dflt));
        wr_i8(w, 0);
        wr_i8(w, set ? 1 : 5);
        wr_i8(w, 0);
        wr_tags(w);
    }
}

static void write_new_topic(struct wr *w, int version, const struct new_topic *t, int16_t error,
                            const struct topic *made, const struct err *e)
{
    static const uint8_t no_id[16];
    wr_str(w, t->name);
    if (version >= 7)
        wr_uuid(w, made ? made->id : no_id);
    wr_i16(w, error);
    wr_nstr(w, error ? sl_str(e->msg) : (struct slice){NULL, 0});
    if (version >= 5) {
        wr_i32(w, error ? -1 : t->partitions);
        wr_i16(w, error ? -1 : 1);
        write_configs(w, made);
    }
    wr_tags(w);
}

/* The flag stands behind the topics. */
static bool only_check_flag(struct rd in)
{
    struct new_topic *t = calloc(1, sizeof *t);
    for (int32_t n = rd_array(&in); t && n > 0; n--)
        read_new_topic(&in, t);
    rd_i32(&in);
    bool only = !t || rd_i8(&in) != 0; /* without memory, change nothing */
    free(t);
    return only;
}

int api_create_topics(struct req *q)
{
    struct new_topic *t = calloc(1, sizeof *t);
    bool only_check = only_check_flag(q->in);
    if (!t)
        return -ENOMEM;
    wr_i32(&q->out, 0);
    int32_t n = rd_array(&q->in);
    wr_array(&q->out, n);
    while (n-- > 0) {
        struct err e = {0};
        struct topic *made = NULL;
        read_new_topic(&q->in, t);
        int16_t error = check_new_topic(q->b, t, &e);
        if (!error)
            error = make_topic(q->b, t, only_check, &made, &e);
        write_new_topic(&q->out, q->version, t, error, made, &e);
    }
    wr_tags(&q->out);
    free(t);
    return REQ_DONE;
}

static int16_t delete_topic(struct broker *b, struct topic *t, struct pending_part *part,
                            struct err *e)
{
    char *name = sl_dup(sl_str(t->name));
    if (!name)
        return (int16_t)KERR_UNKNOWN;
    for (int i = 0; i < t->npartitions; i++)
        wait_drop(b, t->parts[i], KERR_UNKNOWN_TOPIC_OR_PARTITION);
    int rc = store_topic_delete(b->store, sl_str(name), e);
    FAILPOINT("log.topic.deleted");
    if (rc == 0) {
        log_info(b->log, "topic deleted", "topic=%s", log_q(name));
        gstore_groups(b);
        gstore_topic_gone(b, sl_str(name), pending_part_done, part);
    }
    free(name);
    return kerr_of(rc);
}

static void delete_one(struct req *q, struct pending *p, struct slice name, const uint8_t *id)
{
    static const uint8_t no_id[16];
    struct wr *w = &q->out;
    struct err e = {0};
    struct topic *t = name.p ? store_topic(q->b->store, name) : find_topic_id(q->b, id);
    int16_t error = t        ? KERR_NONE
                    : name.p ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                             : KERR_UNKNOWN_TOPIC_ID;
    if (t && sl_is(SL(OFFSETS_TOPIC), t->name))
        error = KERR_INVALID_TOPIC;
    uint8_t found[16];
    memcpy(found, t ? t->id : id ? id : no_id, 16);
    struct pending_part *part = error ? NULL : pending_part(p, 1);
    if (!error && !part)
        error = KERR_UNKNOWN;
    if (q->version >= 6) {
        wr_nstr(w, t ? sl_str(t->name) : name);
        wr_uuid(w, found);
    } else {
        wr_str(w, name);
    }
    size_t error_at = w->b->n;
    wr_i16(w, error);
    if (!error) {
        part->at[part->n++] = error_at;
        error = delete_topic(q->b, t, part, &e);
        if (error)
            pending_part_done(part, error);
    }
    if (q->version >= 5)
        wr_nstr(w, error && e.msg[0] ? sl_str(e.msg) : (struct slice){NULL, 0});
    wr_tags(w);
}

int api_delete_topics(struct req *q)
{
    struct pending *p = pending_new(q->r);
    if (!p)
        return -ENOMEM;
    wr_i32(&q->out, 0);
    int32_t n = rd_array(&q->in);
    wr_array(&q->out, n);
    while (n-- > 0) {
        uint8_t id[16] = {0};
        struct slice name = q->version >= 6 ? rd_nstr(&q->in) : rd_str(&q->in);
        if (q->version >= 6) {
            rd_uuid(&q->in, id);
            rd_tags(&q->in);
        }
        delete_one(q, p, name, id);
    }
    wr_tags(&q->out);
    pending_end(p);
    return REQ_PARKED;
}

static int16_t grow(struct broker *b, struct slice name, int32_t count, bool foreign,
                    bool only_check, struct err *e)
{
    struct topic *t = store_topic(b->store, name);
    if (!t)
        return (int16_t)KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (sl_is(name, OFFSETS_TOPIC) || count <= t->npartitions || count > MAX_PARTITIONS) {
        err_set(e, -EINVAL, NULL,
                "the topic has %d partitions; the new count is above that, up to %d",
                t->npartitions, MAX_PARTITIONS);
        return KERR_INVALID_PARTITIONS;
    }
    if (foreign)
        return KERR_INVALID_REPLICA_ASSIGNMENT;
    return only_check ? KERR_NONE : kerr_of(store_topic_grow(b->store, t, count, e));
}

static bool read_growth(struct rd *in, struct slice *name, int32_t *count)
{
    bool foreign = false;
    *name = rd_str(in);
    *count = rd_i32(in);
    for (int32_t n = rd_narray(in); n > 0; n--) {
        int32_t nodes = rd_array(in);
        foreign |= nodes != 1;
        for (; nodes > 0; nodes--)
            foreign |= rd_i32(in) != NODE_ID;
        rd_tags(in);
    }
    rd_tags(in);
    return foreign;
}

int api_create_partitions(struct req *q)
{
    struct rd look = q->in;
    struct slice name;
    int32_t count;
    for (int32_t n = rd_array(&look); n > 0; n--)
        read_growth(&look, &name, &count);
    rd_i32(&look);
    bool only_check = rd_i8(&look) != 0;
    wr_i32(&q->out, 0);
    int32_t n = rd_array(&q->in);
    wr_array(&q->out, n);
    while (n-- > 0) {
        struct err e = {0};
        bool foreign = read_growth(&q->in, &name, &count);
        int16_t error = grow(q->b, name, count, foreign, only_check, &e);
        wr_str(&q->out, name);
        wr_i16(&q->out, error);
        wr_nstr(&q->out, error && e.msg[0] ? sl_str(e.msg) : (struct slice){NULL, 0});
        wr_tags(&q->out);
    }
    wr_tags(&q->out);
    return REQ_DONE;
}

static int16_t delete_records(struct broker *b, struct slice topic, int32_t index, int64_t offset,
                              int64_t *ret_start)
{
    struct plog *p = find_part(b, topic, index);
    if (!p)
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (!plog_topic(p)->conf.del)
        return KERR_POLICY_VIOLATION;
    return kerr_of(plog_delete_to(p, offset, ret_start));
}

int api_delete_records(struct req *q)
{
    struct rd *in = &q->in;
    struct wr *w = &q->out;
    wr_i32(w, 0);
    int32_t nt = rd_array(in);
    wr_array(w, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(in);
        int32_t np = rd_array(in);
        wr_str(w, topic);
        wr_array(w, np);
        for (; np > 0; np--) {
            int32_t index = rd_i32(in);
            int64_t offset = rd_i64(in), start = -1;
            int16_t error = delete_records(q->b, topic, index, offset, &start);
            rd_tags(in);
            wr_i32(w, index);
            wr_i64(w, error ? -1 : start);
            wr_i16(w, error);
            wr_tags(w);
        }
        rd_tags(in);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

static void write_dir_part(struct wr *w, int32_t index, const struct plog *p)
{
    wr_i32(w, index);
    wr_i64(w, plog_size(p));
    wr_i64(w, 0);
    wr_i8(w, 0);
    wr_tags(w);
}

static void write_dir_all(struct req *q)
{
    size_t pos = 0;
    int32_t n = 0;
    struct topic *t;
    while (store_topic_next(q->b->store, &pos, &t))
        n++;
    wr_array(&q->out, n);
    for (pos = 0; store_topic_next(q->b->store, &pos, &t);) {
        wr_str(&q->out, sl_str(t->name));
        wr_array(&q->out, t->npartitions);
        for (int32_t i = 0; i < t->npartitions; i++)
            write_dir_part(&q->out, i, t->parts[i]);
        wr_tags(&q->out);
    }
}

static void write_dir_named(struct req *q, int32_t nt)
{
    wr_array(&q->out, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(&q->in);
        int32_t np = rd_array(&q->in), there = 0;
        struct rd look = q->in;
        for (int32_t i = 0; i < np; i++)
            there += find_part(q->b, topic, rd_i32(&look)) != NULL;
        wr_str(&q->out, topic);
        wr_array(&q->out, there);
        for (; np > 0; np--) {
            int32_t index = rd_i32(&q->in);
            struct plog *p = find_part(q->b, topic, index);
            if (p)
                write_dir_part(&q->out, index, p);
        }
        rd_tags(&q->in);
        wr_tags(&q->out);
    }
}

int api_describe_log_dirs(struct req *q)
{
    struct wr *w = &q->out;
    struct statvfs fs;
    bool known = statvfs(q->b->o.data_dir, &fs) == 0;
    wr_i32(w, 0);
    if (q->version >= 3)
        wr_i16(w, KERR_NONE);
    wr_array(w, 1);
    wr_i16(w, KERR_NONE);
    wr_str(w, sl_str(q->b->o.data_dir));
    int32_t nt = rd_narray(&q->in);
    if (nt < 0)
        write_dir_all(q);
    else
        write_dir_named(q, nt);
    if (q->version >= 4) {
        wr_i64(w, known ? (int64_t)(fs.f_blocks * fs.f_frsize) : -1);
        wr_i64(w, known ? (int64_t)(fs.f_bavail * fs.f_frsize) : -1);
    }
    wr_tags(w);
    wr_tags(w);
    return REQ_DONE;
}

int api_init_producer_id(struct req *q)
{
    struct wr *w = &q->out;
    struct slice txn = rd_nstr(&q->in);
    int64_t id = -1;
    int16_t error = txn.p ? KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED : KERR_NONE;
    if (!error)
        error = kerr_of(store_new_producer_id(q->b->store, &id));
    wr_i32(w, 0);
    wr_i16(w, error);
    wr_i64(w, error ? -1 : id);
    wr_i16(w, error ? -1 : 0);
    wr_tags(w);
    return REQ_DONE;
}
