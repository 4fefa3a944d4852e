/* Blocking administration: offsets, groups, reading and sending. One thread at a time.
 * kadmin_read takes timeout_ms as the longest time without progress, so that a long partition can
 * be read to its end; everything else takes it as a whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "log/kadmin_int.h"

#define BATCH    1000
#define SLICE_MS 100

int kadmin_watermarks(struct kadmin *a, const char *topic, int partition, int64_t *ret_low,
                      int64_t *ret_high, int timeout_ms, struct err *e)
{
    char what[320];
    int64_t low, high;
    int partitions = 0;
    (void)snprintf(what, sizeof what, "read the watermarks of %s/%d", topic, partition);
    /* A partition that does not exist would be waited for until the time-out. */
    int rc = kadmin_topic(a, topic, &partitions, NULL, timeout_ms, e);
    if (rc)
        return rc;
    if (partition < 0 || partition >= partitions)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, NULL, what);
    rd_kafka_resp_err_t err =
        rd_kafka_query_watermark_offsets(a->cons, topic, partition, &low, &high, timeout_ms);
    if (err)
        return kadmin_fail(e, err, NULL, what);
    if (ret_low)
        *ret_low = low;
    if (ret_high)
        *ret_high = high;
    return 0;
}

int kadmin_offset_at(struct kadmin *a, const char *topic, int partition, int64_t unix_ms,
                     int64_t *ret, int timeout_ms, struct err *e)
{
    char what[320];
    (void)snprintf(what, sizeof what, "find a time in %s/%d", topic, partition);
    if (unix_ms < 0)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__INVALID_ARG, "the time is before 1970", what);
    int64_t high;
    int rc = kadmin_watermarks(a, topic, partition, NULL, &high, timeout_ms, e);
    if (rc)
        return rc;
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(v, topic, partition)->offset = unix_ms;
    rd_kafka_resp_err_t err = rd_kafka_offsets_for_times(a->cons, v, timeout_ms);
    if (!err)
        err = v->elems[0].err;
    int64_t offset = v->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(v);
    if (err)
        return kadmin_fail(e, err, NULL, what);
    *ret = offset < 0 ? high : offset;
    return 0;
}

int kadmin_delete_records(struct kadmin *a, const char *topic, int partition, int64_t before,
                          int timeout_ms, struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "cut %s/%d", topic, partition);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(v, topic, partition)->offset = before;
    rd_kafka_DeleteRecords_t *d = rd_kafka_DeleteRecords_new(v);
    rd_kafka_topic_partition_list_destroy(v);
    rd_kafka_AdminOptions_t *o = kadmin_options(a, RD_KAFKA_ADMIN_OP_DELETERECORDS, timeout_ms);
    rd_kafka_DeleteRecords(a->prod, &d, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_DeleteRecords_destroy(d);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return e->code;
    const rd_kafka_topic_partition_list_t *got =
        rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(ev));
    rd_kafka_resp_err_t err = got && got->cnt == 1 ? got->elems[0].err : RD_KAFKA_RESP_ERR__FAIL;
    rd_kafka_event_destroy(ev);
    return err ? kadmin_fail(e, err, NULL, what) : 0;
}

static int take_committed(const rd_kafka_topic_partition_list_t *got, struct kpart *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i].offset = -1;
        v[i].metadata = NULL;
        v[i].error = 0;
        rd_kafka_topic_partition_t *t =
            rd_kafka_topic_partition_list_find((rd_kafka_topic_partition_list_t *)got, v[i].topic,
                                               v[i].partition);
        if (!t)
            continue;
        v[i].error = kerrno(t->err);
        if (!t->err && t->offset >= 0)
            v[i].offset = t->offset;
        if (!t->err && t->metadata_size) {
            v[i].metadata = sl_dup(sl(t->metadata, t->metadata_size));
            if (!v[i].metadata)
                return -ENOMEM;
        }
    }
    return 0;
}

int kadmin_committed(struct kadmin *a, const char *group, struct kpart *v, size_t n, int timeout_ms,
                     struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "read the offsets of group %s", group);
    if (!n)
        return 0;
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new((int)n);
    for (size_t i = 0; i < n; i++)
        rd_kafka_topic_partition_list_add(parts, v[i].topic, v[i].partition);
    rd_kafka_ListConsumerGroupOffsets_t *q = rd_kafka_ListConsumerGroupOffsets_new(group, parts);
    rd_kafka_topic_partition_list_destroy(parts);
    rd_kafka_AdminOptions_t *o =
        kadmin_options(a, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, KASK_MS);
    rd_kafka_ListConsumerGroupOffsets(a->prod, &q, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_ListConsumerGroupOffsets_destroy(q);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return e->code;
    size_t count = 0;
    const rd_kafka_group_result_t **g = rd_kafka_ListConsumerGroupOffsets_result_groups(
        rd_kafka_event_ListConsumerGroupOffsets_result(ev), &count);
    const rd_kafka_error_t *error = count ? rd_kafka_group_result_error(g[0]) : NULL;
    int rc = 0;
    if (error)
        rc = kadmin_fail(e, rd_kafka_error_code(error), rd_kafka_error_string(error), what);
    else if (!count || take_committed(rd_kafka_group_result_partitions(g[0]), v, n))
        rc = err_set(e, -ENOMEM, "give the process more memory", "no memory for offsets");
    rd_kafka_event_destroy(ev);
    return rc;
}

void kparts_free(struct kpart *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++) {
        free(v[i].topic);
        free(v[i].metadata);
    }
    free(v);
}

static int take_group(const rd_kafka_ConsumerGroupDescription_t *d, char **ret_state,
                      void (*fn)(void *arg, const char *member, const char *client,
                                 const char *host, const char *topic, int partition),
                      void *arg)
{
    if (ret_state) {
        *ret_state = sl_dup(
            sl_str(rd_kafka_consumer_group_state_name(rd_kafka_ConsumerGroupDescription_state(d))));
        if (!*ret_state)
            return -ENOMEM;
    }
    size_t members = rd_kafka_ConsumerGroupDescription_member_count(d);
    for (size_t i = 0; fn && i < members; i++) {
        const rd_kafka_MemberDescription_t *m = rd_kafka_ConsumerGroupDescription_member(d, i);
        const char *id = rd_kafka_MemberDescription_consumer_id(m);
        const char *client = rd_kafka_MemberDescription_client_id(m);
        const char *host = rd_kafka_MemberDescription_host(m);
        const rd_kafka_MemberAssignment_t *as = rd_kafka_MemberDescription_assignment(m);
        const rd_kafka_topic_partition_list_t *v =
            as ? rd_kafka_MemberAssignment_partitions(as) : NULL;
        if (!v || !v->cnt)
            fn(arg, id, client, host, NULL, -1);
        for (int p = 0; v && p < v->cnt; p++)
            fn(arg, id, client, host, v->elems[p].topic, v->elems[p].partition);
    }
    return 0;
}

int kadmin_group(struct kadmin *a, const char *group, char **ret_state,
                 void (*fn)(void *arg, const char *member, const char *client, const char *host,
                            const char *topic, int partition),
                 void *arg, int timeout_ms, struct err *e)
{
    char what[320];
    struct err own = {0};
    e = e ? e : &own;
    (void)snprintf(what, sizeof what, "describe group %s", group);
    if (!kadmin_prod(a, e))
        return -EINVAL;
    rd_kafka_AdminOptions_t *o =
        kadmin_options(a, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, KASK_MS);
    rd_kafka_DescribeConsumerGroups(a->prod, &group, 1, o, a->queue);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_event_t *ev = kadmin_wait(a, timeout_ms, what, e);
    if (!ev)
        return e->code;
    size_t n = 0;
    const rd_kafka_ConsumerGroupDescription_t **v = rd_kafka_DescribeConsumerGroups_result_groups(
        rd_kafka_event_DescribeConsumerGroups_result(ev), &n);
    const rd_kafka_error_t *error = n ? rd_kafka_ConsumerGroupDescription_error(v[0]) : NULL;
    int rc = 0;
    if (error)
        rc = kadmin_fail(e, rd_kafka_error_code(error), rd_kafka_error_string(error), what);
    else if (!n ||
             rd_kafka_ConsumerGroupDescription_state(v[0]) == RD_KAFKA_CONSUMER_GROUP_STATE_DEAD)
        rc = kadmin_fail(e, RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND, NULL, what);
    else if (take_group(v[0], ret_state, fn, arg))
        rc = err_set(e, -ENOMEM, "give the process more memory", "no memory for a group");
    rd_kafka_event_destroy(ev);
    return rc;
}

/* ---- reading ---- */

struct range {
    int64_t next, to;
    int (*fn)(void *arg, const struct krec *r);
    void *arg;
    bool ended;
    int rc;
    rd_kafka_resp_err_t err;
    struct kflow flow;
};

static void take(struct range *r, const rd_kafka_message_t *m)
{
    struct kheader h[KREC_HEADERS_MAX];
    struct krec rec;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF || (!m->err && m->offset >= r->to)) {
        r->ended = m->offset >= r->to;
        return;
    }
    if (m->err) {
        r->err = kerrno(m->err) == -ETIMEDOUT ? RD_KAFKA_RESP_ERR_NO_ERROR : m->err;
        r->ended = r->err;
        return;
    }
    if (m->offset < r->next)
        return;
    r->next = m->offset + 1;
    kflow_take(&r->flow, m);
    /* Headers beyond the limit are cut; the record itself is still good to see. */
    (void)krec_from(m, h, &rec);
    r->rc = r->fn(r->arg, &rec);
    r->ended = r->rc || r->next >= r->to;
}

/* Takes what is there; the first record is waited for, since a batch with a time-out would wait
 * until it is full. Returns how many messages came. */
static size_t read_some(struct range *r, rd_kafka_queue_t *q, rd_kafka_message_t **v)
{
    rd_kafka_message_t *first = rd_kafka_consume_queue(q, SLICE_MS);
    if (!first)
        return 0;
    take(r, first);
    rd_kafka_message_destroy(first);
    ssize_t n = rd_kafka_consume_batch_queue(q, 0, v, BATCH);
    for (ssize_t i = 0; i < n; i++) {
        if (!r->ended)
            take(r, v[i]);
        rd_kafka_message_destroy(v[i]);
    }
    return 1 + (n > 0 ? (size_t)n : 0);
}

static int read_range(struct range *r, rd_kafka_topic_t *rkt, int partition, rd_kafka_queue_t *q,
                      int timeout_ms)
{
    rd_kafka_message_t **v = calloc(BATCH, sizeof *v);
    if (!v)
        return -ENOMEM;
    int64_t last = clock_boot_ms();
    bool late = false;
    while (!r->ended && !late) {
        size_t n = read_some(r, q, v);
        if (n)
            last = clock_boot_ms();
        if (n <= 1 && kflow_drained(&r->flow))
            (void)rd_kafka_seek(rkt, partition, r->next, 0);
        late = clock_boot_ms() - last > timeout_ms;
    }
    free(v);
    return r->ended ? 0 : -ETIMEDOUT;
}

int kadmin_read(struct kadmin *a, const char *topic, int partition, int64_t from, int64_t to,
                int (*fn)(void *arg, const struct krec *r), void *arg, int timeout_ms,
                struct err *e)
{
    char what[320];
    int64_t low, high;
    (void)snprintf(what, sizeof what, "read %s/%d", topic, partition);
    int rc = kadmin_watermarks(a, topic, partition, &low, &high, timeout_ms, e);
    if (rc)
        return rc;
    struct range r = {.next = from == -2 ? low : from,
                      .to = to == -1 ? high : to,
                      .fn = fn,
                      .arg = arg};
    if (r.next < low || r.next > high)
        return err_set(e, -ERANGE, "read from an offset that the log still holds",
                       "offset %lld of %s/%d is not in the log, which holds %lld to %lld",
                       (long long)r.next, topic, partition, (long long)low, (long long)high);
    if (r.next >= r.to)
        return 0;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(a->cons, topic, NULL);
    rd_kafka_queue_t *q = rd_kafka_queue_new(a->cons);
    if (rd_kafka_consume_start_queue(rkt, partition, r.next, q)) {
        rc = kadmin_fail(e, rd_kafka_last_error(), NULL, what);
    } else {
        rc = read_range(&r, rkt, partition, q, timeout_ms);
        (void)rd_kafka_consume_stop(rkt, partition);
        if (r.err)
            rc = kadmin_fail(e, r.err, NULL, what);
        else if (rc)
            rc = kadmin_fail(e, RD_KAFKA_RESP_ERR__TIMED_OUT, NULL, what);
    }
    rd_kafka_queue_destroy(q);
    rd_kafka_topic_destroy(rkt);
    return rc ? rc : r.rc;
}

/* ---- sending ---- */

struct receipt {
    bool done;
    rd_kafka_resp_err_t err;
    int64_t offset;
    int partition;
};

static void wait_receipt(rd_kafka_queue_t *main, struct receipt *r, int timeout_ms)
{
    int64_t until = clock_boot_ms() + timeout_ms, left = timeout_ms;
    while (!r->done && left >= 0) {
        rd_kafka_event_t *ev = rd_kafka_queue_poll(main, (int)left);
        const rd_kafka_message_t *m;
        if (ev && rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DR)
            while ((m = rd_kafka_event_message_next(ev)))
                if (m->_private == r)
                    *r = (struct receipt){true, m->err, m->offset, m->partition};
        if (ev)
            rd_kafka_event_destroy(ev);
        left = until - clock_boot_ms();
    }
}

int kadmin_send(struct kadmin *a, const struct krec *rec, int64_t *ret_offset, int *ret_partition,
                int timeout_ms, struct err *e)
{
    char what[320];
    (void)snprintf(what, sizeof what, "write to topic %.*s", SL_ARG(rec->topic));
    rd_kafka_t *rk = kadmin_prod(a, e);
    if (!rk)
        return -EINVAL;
    char *name = sl_dup(rec->topic);
    rd_kafka_topic_t *rkt = name ? rd_kafka_topic_new(rk, name, NULL) : NULL;
    free(name);
    if (!rkt)
        return kadmin_fail(e, RD_KAFKA_RESP_ERR__INVALID_ARG, "not a topic's name", what);
    struct receipt r = {0};
    int rc = krec_send(rk, rkt, rec, &r);
    if (!rc) {
        rd_kafka_queue_t *main = rd_kafka_queue_get_main(rk);
        wait_receipt(main, &r, timeout_ms);
        rd_kafka_queue_destroy(main);
    }
    rd_kafka_topic_destroy(rkt);
    if (rc)
        return err_set(e, rc,
                       rc == -EMSGSIZE ? khint(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
                                       : "check the topic and the partition",
                       "cannot %s: %s", what, strerror(-rc));
    if (!r.done || r.err) {
        /* A later record must not follow one of which nobody knows whether it landed. */
        kadmin_drop_prod(a);
        return kadmin_fail(e, r.done ? r.err : RD_KAFKA_RESP_ERR__TIMED_OUT, NULL, what);
    }
    if (ret_offset)
        *ret_offset = r.offset < 0 ? -1 : r.offset;
    if (ret_partition)
        *ret_partition = r.partition;
    return 0;
}
