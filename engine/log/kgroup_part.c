/* Positions and commits of a group consumer. The loop's thread.
 * Why positions are kept here: librdkafka 2.0.2 rewinds a partition that is resumed without having
 * been paused, and purges what it had fetched at a pause. So pausing is idempotent here, resuming
 * seeks to `next`, and a record below `next` is dropped.
 * Why seek and not assign: the real partitions are assigned at once, at the log's end, so that a
 * rebalance meanwhile is seen; kgroup_assign then only moves the positions. What was fetched from
 * the end carries an older version in librdkafka and is never handed out after the seek.
 * Invariant: outstanding counts the parts that are committing. */
#include <errno.h>
#include <stdlib.h>

#include "log/kgroup_int.h"

struct gpart *gpart_find(struct kgroup *g, const char *topic, int partition)
{
    for (size_t i = 0; i < g->nparts; i++) {
        size_t at = (g->last + i) % g->nparts;
        struct gpart *p = &g->parts[at];
        if (p->partition == partition && !strcmp(p->topic, topic)) {
            g->last = at;
            return p;
        }
    }
    return NULL;
}

void gparts_clear(struct kgroup *g)
{
    for (size_t i = 0; i < g->nparts; i++) {
        free(g->parts[i].topic);
        free(g->parts[i].metadata);
    }
    free(g->parts);
    g->parts = NULL;
    g->nparts = g->last = 0;
}

static rd_kafka_topic_partition_list_t *one(const struct gpart *p, int64_t offset)
{
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(v, p->topic, p->partition)->offset = offset;
    return v;
}

static void seek(struct kgroup *g, const struct gpart *p)
{
    rd_kafka_topic_partition_list_t *v = one(p, p->next);
    rd_kafka_error_t *error = rd_kafka_seek_partitions(g->rk, v, 0);
    if (error) {
        log_warn(klog_log(g->klog), "cannot move a position", "topic=%s partition=%d why=%s",
                 log_q(p->topic), p->partition, log_q(rd_kafka_error_string(error)));
        rd_kafka_error_destroy(error);
    }
    rd_kafka_topic_partition_list_destroy(v);
}

static bool assigned(const struct kgroup *g)
{
    return (g->state == KGROUP_ASSIGNED || g->state == KGROUP_RUNNING) && !g->closing &&
           !rd_kafka_assignment_lost(g->rk);
}

/* A partition whose position was gone is no longer fetched and can't be sought: assign anew. */
static int assign_all(struct kgroup *g)
{
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new((int)g->nparts);
    for (size_t i = 0; i < g->nparts; i++) {
        struct gpart *p = &g->parts[i];
        rd_kafka_topic_partition_list_add(v, p->topic, p->partition)->offset =
            p->active ? p->next : RD_KAFKA_OFFSET_END;
        p->reset = false;
    }
    rd_kafka_resp_err_t err = rd_kafka_assign(g->rk, v);
    rd_kafka_topic_partition_list_destroy(v);
    return kerrno(err);
}

int kgroup_assign(struct kgroup *g, const struct kpart *v, size_t n)
{
    if (!assigned(g))
        return -ESTALE;
    bool anew = false;
    for (size_t i = 0; i < n; i++) {
        if (!gpart_find(g, v[i].topic, v[i].partition))
            return -ESTALE;
        if (v[i].offset < -2)
            return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        struct gpart *p = gpart_find(g, v[i].topic, v[i].partition);
        p->next = v[i].offset;
        p->active = true;
        anew |= p->reset;
        if (!p->reset)
            seek(g, p);
    }
    kgroup_set(g, KGROUP_RUNNING);
    kwake_again(&g->wake);
    return anew ? assign_all(g) : 0;
}

static int set_paused(struct kgroup *g, struct gpart *p, bool paused)
{
    if (p->paused == paused)
        return 0;
    rd_kafka_topic_partition_list_t *v = one(p, p->next);
    if (!paused && p->active && !p->reset && p->next != RD_KAFKA_OFFSET_END)
        seek(g, p);
    rd_kafka_resp_err_t err =
        paused ? rd_kafka_pause_partitions(g->rk, v) : rd_kafka_resume_partitions(g->rk, v);
    if (!err)
        err = v->elems[0].err;
    rd_kafka_topic_partition_list_destroy(v);
    if (!err)
        p->paused = paused;
    return kerrno(err);
}

static int pause_some(struct kgroup *g, const char *topic, int partition, bool paused)
{
    if (g->state != KGROUP_ASSIGNED && g->state != KGROUP_RUNNING)
        return -ESTALE;
    int rc = partition < 0 ? 0 : -ENOENT;
    for (size_t i = 0; i < g->nparts; i++) {
        struct gpart *p = &g->parts[i];
        if ((topic && strcmp(p->topic, topic) != 0) ||
            (partition >= 0 && p->partition != partition))
            continue;
        int one_rc = set_paused(g, p, paused);
        rc = rc == -ENOENT || !rc ? one_rc : rc;
    }
    return rc;
}

int kgroup_pause(struct kgroup *g, const char *topic, int partition)
{
    return pause_some(g, topic, partition, true);
}

int kgroup_resume(struct kgroup *g, const char *topic, int partition)
{
    return pause_some(g, topic, partition, false);
}

static void on_gone(struct kgroup *g, const rd_kafka_message_t *m)
{
    struct gpart *p = m->rkt ? gpart_find(g, rd_kafka_topic_name(m->rkt), m->partition) : NULL;
    /* Whoever could not answer with kgroup_assign is not asked; `active` is RUNNING or later. */
    if (!p || !p->active || !assigned(g))
        return;
    p->active = false;
    p->reset = true;
    log_warn(klog_log(g->klog), "the log was cut below a position",
             "group=%s topic=%s partition=%d offset=%lld", log_q(g->group_id), log_q(p->topic),
             p->partition, (long long)p->next);
    g->o.on_reset(g->o.arg, p->topic, p->partition);
}

void gparts_drained(struct kgroup *g)
{
    if (!kflow_drained(&g->flow) || g->state != KGROUP_RUNNING)
        return;
    for (size_t i = 0; i < g->nparts; i++) {
        struct gpart *p = &g->parts[i];
        if (p->active && !p->paused && !p->reset && p->next >= 0)
            seek(g, p);
    }
}

void gpart_message(struct kgroup *g, const rd_kafka_message_t *m, struct kheader *h)
{
    struct krec rec;
    if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
        on_gone(g, m);
        return;
    }
    if (m->err && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        log_debug(klog_log(g->klog), "consumer", "group=%s why=%s", log_q(g->group_id),
                  log_q(rd_kafka_message_errstr(m)));
        return;
    }
    struct gpart *p = gpart_find(g, rd_kafka_topic_name(m->rkt), m->partition);
    if (!p || !p->active || g->state != KGROUP_RUNNING || g->closing)
        return;
    if (m->err) {
        if (p->next < 0)
            p->next = m->offset;
        if (g->o.on_end && m->offset >= p->next)
            g->o.on_end(g->o.arg, p->partition, p->topic);
        return;
    }
    if (m->offset < p->next)
        return;
    p->next = m->offset + 1;
    kflow_take(&g->flow, m);
    if (krec_from(m, h, &rec))
        log_warn(klog_log(g->klog), "a record with unreadable headers",
                 "topic=%s partition=%d offset=%lld", log_q(p->topic), p->partition,
                 (long long)m->offset);
    g->o.on_record(g->o.arg, &rec);
}

/* ---- commits ---- */

static bool may_commit(const struct kgroup *g)
{
    bool member = g->state == KGROUP_ASSIGNED || g->state == KGROUP_RUNNING ||
                  (g->state == KGROUP_REVOKING && !g->lost && !g->revoke_done);
    /* After losing its membership librdkafka would commit without a generation, and a group that is
     * empty accepts that. */
    return member && !rd_kafka_assignment_lost(g->rk);
}

int kgroup_commit(struct kgroup *g, const char *topic, int partition, int64_t offset,
                  const char *metadata, void *opaque)
{
    struct gpart *p = may_commit(g) ? gpart_find(g, topic, partition) : NULL;
    if (!p)
        return -ESTALE;
    if (p->committing)
        return -EAGAIN;
    size_t size = metadata ? strlen(metadata) : 0;
    if (offset < 0)
        return -EINVAL;
    if (size > KCOMMIT_META_MAX)
        return -EMSGSIZE;
    rd_kafka_topic_partition_list_t *v = one(p, offset);
    if (metadata) {
        v->elems[0].metadata = sl_dup(sl_str(metadata));
        v->elems[0].metadata_size = v->elems[0].metadata ? size : 0;
        if (!v->elems[0].metadata) {
            rd_kafka_topic_partition_list_destroy(v);
            return -ENOMEM;
        }
    }
    rd_kafka_resp_err_t err = rd_kafka_commit_queue(g->rk, v, g->aux, NULL, p);
    rd_kafka_topic_partition_list_destroy(v);
    if (err)
        return kerrno(err);
    p->committing = true;
    p->commit_opaque = opaque;
    g->outstanding++;
    return 0;
}

static void commit_end(struct kgroup *g, struct gpart *p, int error)
{
    void *opaque = p->commit_opaque;
    p->committing = false;
    g->outstanding--;
    g->o.on_commit(g->o.arg, opaque, error);
}

void gcommit_event(struct kgroup *g, rd_kafka_event_t *ev)
{
    struct gpart *p = rd_kafka_event_opaque(ev);
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    rd_kafka_topic_partition_list_t *v = rd_kafka_event_topic_partition_list(ev);
    if (!err && v && v->cnt == 1)
        err = v->elems[0].err;
    /* The flag stays set until the revocation is served, so a commit that went out after the loss
     * is found here even if the broker took it. */
    bool lost = rd_kafka_assignment_lost(g->rk);
    commit_end(g, p, lost ? -ESTALE : kerrno(err));
}

void gcommits_drop(struct kgroup *g)
{
    for (size_t i = 0; i < g->nparts; i++)
        if (g->parts[i].committing)
            commit_end(g, &g->parts[i], -ESTALE);
}
