/* Membership of a group consumer. The loop's thread; librdkafka calls back only inside
 * rd_kafka_consumer_poll, and then we only take notes.
 *
 * States (kgroup_set): NONE -> FETCHING -> ASSIGNED -> RUNNING -> REVOKING -> NONE; LEAVING and
 * DEAD end it. A revocation, step by step:
 *  1. librdkafka reports it; on_revoke tells the owner, who may still commit unless it is lost.
 *  2. kgroup_revoke_done, or revoke_ms pass. Meanwhile the member stays: librdkafka sends
 * heartbeats while it waits for our answer, and the coordinator waits for the member to join again.
 *  3. No commit is under way: the partitions are given up. Else, because a commit that librdkafka
 *     holds back would carry the *next* generation, this consumer is destroyed in the pool, its
 *     commits are reported as -ESTALE, and another consumer is opened.
 * Invariants: partitions are given up only with no commit under way; on_assign and on_revoke
 * alternate; nothing is called back after `closed`. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/kgroup_int.h"

/* Another consumer is made before librdkafka's own time-out would end a question. */
#define ASK_GIVE_UP_MS (KASK_MS - 600000)
#define ASK_AGAIN_MS   300
#define REVOKE_MS      1000
#define CLOSE_MS       5000
#define FENCE_MS       60000
#define FAST_MS        50
#define AUX_A_TURN     1000
#define TOPICS_MAX     1000
#define PARTS_MAX      100000

static void poll_group(struct kgroup *g);

void kgroup_set(struct kgroup *g, enum kgroup_state s)
{
    assert(g->state != KGROUP_LEAVING);
    g->state = s;
}

/* ---- the handle ---- */

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err,
                         rd_kafka_topic_partition_list_t *v, void *opaque)
{
    struct kgroup *g = opaque;
    bool room = g->nseen < sizeof g->seen / sizeof *g->seen;
    /* LEAVING: the pool's thread closes the consumer, nobody is interested any more. */
    if (g->state == KGROUP_LEAVING || !room) {
        (void)rd_kafka_assign(rk, NULL);
        return;
    }
    bool assign = err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    g->seen[g->nseen].assigned = assign ? rd_kafka_topic_partition_list_copy(v) : NULL;
    g->seen[g->nseen].lost = !assign && rd_kafka_assignment_lost(rk);
    g->nseen++;
}

static void on_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
    struct kgroup *g = opaque;
    if (g->state == KGROUP_LEAVING)
        return;
    if (err != RD_KAFKA_RESP_ERR__FATAL) { /* transient: klog tells of brokers that are down */
        g->disturbed_ms = loop_now(klog_loop(g->klog));
        return;
    }
    char why[200] = "";
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(rk, why, sizeof why);
    (void)snprintf(g->why, sizeof g->why, "%s: %s", rd_kafka_err2name(cause), why);
    g->fatal = true;
    g->fenced = cause == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
}

static int open_handle(struct kgroup *g, struct err *e)
{
    struct kprops p = {.group_id = g->group_id,
                       .instance_id = g->instance_id,
                       .session_timeout_ms = g->o.session_timeout_ms,
                       .opaque = g,
                       .rebalance = on_rebalance,
                       .error = on_error};
    klog_props(g->klog, &p);
    g->rk = khandle_new(KHANDLE_GROUP, &p, e);
    if (!g->rk)
        return -EINVAL;
    (void)rd_kafka_poll_set_consumer(g->rk);
    g->queue = rd_kafka_queue_get_consumer(g->rk);
    g->aux = rd_kafka_queue_new(g->rk);
    kwake_watch(&g->wake, g->queue);
    kwake_watch(&g->wake, g->aux);
    rd_kafka_resp_err_t err = rd_kafka_subscribe(g->rk, g->topics);
    return err ? err_set(e, kerrno(err), "check the names of the group and of its topics",
                         "cannot join the group %s: %s", g->group_id, rd_kafka_err2str(err))
               : 0;
}

static void release_queues(struct kgroup *g)
{
    rd_kafka_queue_t *v[] = {g->queue, g->aux};
    for (size_t i = 0; i < 2; i++)
        if (v[i]) {
            kwake_unwatch(v[i]);
            rd_kafka_queue_destroy(v[i]);
        }
    g->queue = g->aux = NULL;
}

static void forget_seen(struct kgroup *g)
{
    for (size_t i = 0; i < g->nseen; i++)
        if (g->seen[i].assigned)
            rd_kafka_topic_partition_list_destroy(g->seen[i].assigned);
    g->nseen = 0;
}

static void destroy(struct kgroup *g)
{
    loop_timer_unset(&g->tick);
    loop_task_cancel(&g->later);
    kwake_end(&g->wake);
    forget_seen(g);
    gparts_clear(g);
    rd_kafka_topic_partition_list_destroy(g->topics);
    free(g->group_id);
    free(g->instance_id);
    free(g);
}

static void on_left(void *arg)
{
    struct kgroup *g = arg;
    void (*closed)(void *a) = g->closed;
    void *closed_arg = g->closed_arg;
    destroy(g);
    if (closed)
        closed(closed_arg);
}

static void leave(struct kgroup *g, bool orderly)
{
    rd_kafka_t *rk = g->rk;
    gcommits_drop(g);
    release_queues(g);
    loop_timer_unset(&g->tick);
    g->rk = NULL;
    kgroup_set(g, KGROUP_LEAVING);
    if (rk)
        khandle_bury(g->klog, rk, orderly, on_left, g);
    else
        on_left(g);
}

static void die(struct kgroup *g)
{
    bool told = g->state == KGROUP_ASSIGNED || g->state == KGROUP_RUNNING;
    kgroup_set(g, KGROUP_DEAD);
    gcommits_drop(g);
    log_error(klog_log(g->klog), "a consumer ended", "group=%s why=%s", log_q(g->group_id),
              log_q(g->why));
    if (told)
        g->o.on_revoke(g->o.arg, true);
    g->o.on_fatal(g->o.arg, g->why);
}

/* ---- assignment ---- */

static void ask_committed(struct kgroup *g)
{
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new((int)g->nparts);
    for (size_t i = 0; i < g->nparts; i++)
        rd_kafka_topic_partition_list_add(v, g->parts[i].topic, g->parts[i].partition);
    rd_kafka_AdminOptions_t *o =
        rd_kafka_AdminOptions_new(g->rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
    char why[128];
    (void)rd_kafka_AdminOptions_set_request_timeout(o, KASK_MS, why, sizeof why);
    rd_kafka_AdminOptions_set_opaque(o, (void *)(uintptr_t)g->seq);
    rd_kafka_ListConsumerGroupOffsets_t *question =
        rd_kafka_ListConsumerGroupOffsets_new(g->group_id, v);
    rd_kafka_ListConsumerGroupOffsets(g->rk, &question, 1, o, g->aux);
    rd_kafka_ListConsumerGroupOffsets_destroy(question);
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_topic_partition_list_destroy(v);
    g->ask_at_ms = 0;
    if (!g->asked++)
        g->asked_ms = loop_now(klog_loop(g->klog));
}

static void tell_assigned(struct kgroup *g)
{
    struct kpart *v = calloc(g->nparts ? g->nparts : 1, sizeof *v);
    if (!v) {
        g->ask_at_ms = loop_now(klog_loop(g->klog)) + ASK_AGAIN_MS;
        return;
    }
    for (size_t i = 0; i < g->nparts; i++) {
        struct gpart *p = &g->parts[i];
        v[i] = (struct kpart){p->topic, p->partition, p->committed, p->metadata, p->error};
    }
    kgroup_set(g, KGROUP_ASSIGNED);
    g->o.on_assign(g->o.arg, v, g->nparts);
    free(v);
}

static void on_committed(struct kgroup *g, rd_kafka_event_t *ev)
{
    const rd_kafka_ListConsumerGroupOffsets_result_t *r =
        rd_kafka_event_ListConsumerGroupOffsets_result(ev);
    uint64_t seq = (uint64_t)(uintptr_t)rd_kafka_event_opaque(ev);
    if (g->asked)
        g->asked--;
    if (g->state != KGROUP_FETCHING || seq != g->seq)
        return; /* of an assignment that is gone */
    size_t n = 0;
    const rd_kafka_group_result_t **groups =
        rd_kafka_event_error(ev) ? NULL : rd_kafka_ListConsumerGroupOffsets_result_groups(r, &n);
    const rd_kafka_error_t *error = n ? rd_kafka_group_result_error(groups[0]) : NULL;
    if (n != 1 || error) {
        log_warn(klog_log(g->klog), "cannot read committed offsets, retrying", "group=%s why=%s",
                 log_q(g->group_id),
                 log_q(error ? rd_kafka_error_string(error) : rd_kafka_event_error_string(ev)));
        g->ask_at_ms = loop_now(klog_loop(g->klog)) + ASK_AGAIN_MS;
        return;
    }
    const rd_kafka_topic_partition_list_t *v = rd_kafka_group_result_partitions(groups[0]);
    for (int i = 0; v && i < v->cnt; i++) {
        const rd_kafka_topic_partition_t *t = &v->elems[i];
        struct gpart *p = gpart_find(g, t->topic, t->partition);
        if (!p)
            continue;
        p->error = kerrno(t->err);
        p->committed = t->err || t->offset < 0 ? -1 : t->offset;
        free(p->metadata);
        p->metadata = t->metadata_size ? sl_dup(sl(t->metadata, t->metadata_size)) : NULL;
    }
    tell_assigned(g);
}

static int take_parts(struct kgroup *g, const rd_kafka_topic_partition_list_t *v)
{
    gparts_clear(g);
    if (v->cnt > PARTS_MAX)
        return -E2BIG;
    g->parts = calloc(v->cnt ? (size_t)v->cnt : 1, sizeof *g->parts);
    for (int i = 0; g->parts && i < v->cnt; i++) {
        struct gpart *p = &g->parts[i];
        *p = (struct gpart){.partition = v->elems[i].partition, .committed = -1};
        p->topic = sl_dup(sl_str(v->elems[i].topic));
        if (!p->topic)
            return -ENOMEM;
        g->nparts++;
    }
    return g->parts ? 0 : -ENOMEM;
}

static void assigned(struct kgroup *g, rd_kafka_topic_partition_list_t *v)
{
    int rc = take_parts(g, v);
    g->seq++;
    g->lost = g->revoke_done = false;
    for (int i = 0; i < v->cnt; i++)
        v->elems[i].offset = RD_KAFKA_OFFSET_END; /* kgroup_part.c tells why */
    rd_kafka_resp_err_t err = rc ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_assign(g->rk, v);
    if (rc || err) {
        (void)snprintf(g->why, sizeof g->why, "cannot take an assignment of %d partitions: %s",
                       v->cnt, rc ? strerror(-rc) : rd_kafka_err2str(err));
        die(g);
        return;
    }
    kgroup_set(g, KGROUP_FETCHING);
    if (g->nparts)
        ask_committed(g);
    else
        tell_assigned(g);
}

/* ---- revocation ---- */

/* Another consumer in the place of one whose commits or question are stuck. */
static void replace(struct kgroup *g, const char *why)
{
    log_warn(klog_log(g->klog), "opening another consumer", "group=%s why=%s commits=%zu",
             log_q(g->group_id), log_q(why), g->outstanding);
    rd_kafka_t *old = g->rk;
    gcommits_drop(g);
    release_queues(g);
    forget_seen(g);
    gparts_clear(g);
    g->rk = NULL;
    g->asked = 0;
    g->fatal = g->fenced = false;
    khandle_bury(g->klog, old, false, NULL, NULL);
    kgroup_set(g, KGROUP_NONE);
    struct err e = {0};
    if (g->closing || !open_handle(g, &e))
        return;
    (void)snprintf(g->why, sizeof g->why, "%.200s", e.msg);
    die(g);
}

static void give_up(struct kgroup *g, bool late)
{
    if (g->state != KGROUP_REVOKING || !(g->revoke_done || late))
        return;
    g->revoke_done = true;
    if (g->outstanding && !late)
        return;
    if (g->outstanding) {
        replace(g, "a commit hangs");
        return;
    }
    (void)rd_kafka_assign(g->rk, NULL);
    gparts_clear(g);
    kgroup_set(g, KGROUP_NONE);
}

static void revoked(struct kgroup *g, bool lost)
{
    bool told = g->state == KGROUP_ASSIGNED || g->state == KGROUP_RUNNING;
    if (g->state == KGROUP_DEAD || g->state == KGROUP_NONE) {
        (void)rd_kafka_assign(g->rk, NULL);
        return;
    }
    g->lost = lost;
    g->revoke_done = !told;
    g->deadline_ms = loop_now(klog_loop(g->klog)) + g->o.revoke_ms;
    kgroup_set(g, KGROUP_REVOKING);
    (void)loop_timer_set(klog_loop(g->klog), &g->tick, loop_now(klog_loop(g->klog)) + FAST_MS);
    if (told)
        g->o.on_revoke(g->o.arg, lost);
}

void kgroup_revoke_done(struct kgroup *g)
{
    g->revoke_done = true;
    loop_later(klog_loop(g->klog), &g->later);
}

/* A static member that joins again while its broker dies may miss the answer with its new member
 * id. Its next join has the old one, which the coordinator takes for a second process with the same
 * instance id. So one fencing soon after trouble with the brokers is answered by joining anew; if
 * there is another process, the next one follows, and is final. */
static bool forgivable(struct kgroup *g)
{
    int64_t now = loop_now(klog_loop(g->klog));
    bool soon = g->disturbed_ms && now - g->disturbed_ms < FENCE_MS;
    bool again = g->forgiven_ms && now - g->forgiven_ms < FENCE_MS;
    return g->fenced && soon && !again && !g->closing;
}

static void on_fatal_error(struct kgroup *g)
{
    bool told = g->state == KGROUP_ASSIGNED || g->state == KGROUP_RUNNING;
    if (!forgivable(g)) {
        die(g);
        return;
    }
    g->forgiven_ms = loop_now(klog_loop(g->klog));
    g->lost = true;
    replace(g, "fenced after trouble with the brokers");
    if (told)
        g->o.on_revoke(g->o.arg, true);
}

/* ---- turns ---- */

static void serve_seen(struct kgroup *g)
{
    for (size_t i = 0; i < g->nseen && g->state != KGROUP_DEAD; i++) {
        rd_kafka_topic_partition_list_t *v = g->seen[i].assigned;
        if (v)
            assigned(g, v);
        else
            revoked(g, g->seen[i].lost);
    }
    forget_seen(g);
}

static void poll_aux(struct kgroup *g)
{
    /* DEAD: what was under way was reported as dropped. */
    for (int i = 0; g->aux && g->state != KGROUP_DEAD && i < AUX_A_TURN; i++) {
        rd_kafka_event_t *ev = rd_kafka_queue_poll(g->aux, 0);
        if (!ev)
            return;
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            gcommit_event(g, ev);
        else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT)
            on_committed(g, ev);
        rd_kafka_event_destroy(ev);
    }
    kwake_again(&g->wake);
}

static void close_step(struct kgroup *g)
{
    int64_t now = loop_now(klog_loop(g->klog));
    if (!g->closing || g->state == KGROUP_LEAVING)
        return;
    if (g->state == KGROUP_DEAD || !g->rk || now >= g->close_at_ms) {
        leave(g, false);
        return;
    }
    if (!g->unsubscribed) {
        g->unsubscribed = true;
        (void)rd_kafka_unsubscribe(g->rk);
    }
    if (g->state == KGROUP_NONE)
        leave(g, true);
}

static void poll_group(struct kgroup *g)
{
    struct kheader h[KREC_HEADERS_MAX];
    kwake_clear(&g->wake);
    poll_aux(g);
    int left = KTURN_MAX;
    while (g->rk && left-- > 0) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(g->rk, 0);
        bool any = m || g->nseen;
        if (m && m->err == RD_KAFKA_RESP_ERR__FATAL)
            on_error(g->rk, m->err, NULL, g);
        serve_seen(g);
        if (m) {
            if (!g->fatal)
                gpart_message(g, m, h);
            rd_kafka_message_destroy(m);
        }
        if (g->fatal)
            break;
        if (!any) {
            gparts_drained(g);
            break;
        }
    }
    /* Here, where no message of the handle is held. */
    if (g->rk && g->fatal && g->state != KGROUP_DEAD)
        on_fatal_error(g);
    if (left <= 0)
        kwake_again(&g->wake);
    give_up(g, false);
    close_step(g);
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
    poll_group(LIST_ENTRY(w, struct kgroup, wake.w));
}

static void on_later(struct loop_task *t)
{
    struct kgroup *g = LIST_ENTRY(t, struct kgroup, later);
    give_up(g, false);
    close_step(g);
}

static void on_tick(struct loop_timer *t)
{
    struct kgroup *g = LIST_ENTRY(t, struct kgroup, tick);
    struct loop *l = klog_loop(g->klog);
    bool busy = g->state == KGROUP_REVOKING || g->state == KGROUP_FETCHING || g->closing;
    (void)loop_timer_set(l, t, loop_now(l) + (busy ? FAST_MS : KPOLL_MS));
    if (g->state == KGROUP_FETCHING && g->ask_at_ms && loop_now(l) >= g->ask_at_ms)
        ask_committed(g);
    if ((g->state == KGROUP_FETCHING || g->state == KGROUP_NONE) && g->rk && g->asked &&
        loop_now(l) - g->asked_ms > ASK_GIVE_UP_MS)
        replace(g, "no answer about committed offsets");
    if (g->state == KGROUP_REVOKING && loop_now(l) >= g->deadline_ms)
        give_up(g, true);
    poll_group(g);
}

/* ---- the whole ---- */

struct kgroup *kgroup_new(struct klog *k, const struct kgroup_opts *o, struct err *e)
{
    struct kgroup *g = calloc(1, sizeof *g);
    if (!g) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a consumer");
        return NULL;
    }
    g->klog = k;
    g->o = *o;
    g->o.revoke_ms = o->revoke_ms > 0 ? o->revoke_ms : REVOKE_MS;
    g->tick.fn = on_tick;
    g->later.fn = on_later;
    g->wake.w.fd = -1;
    g->group_id = sl_dup(sl_str(o->group_id));
    g->instance_id = o->instance_id ? sl_dup(sl_str(o->instance_id)) : NULL;
    g->topics = rd_kafka_topic_partition_list_new(4);
    for (size_t i = 0; o->topics[i] && i < TOPICS_MAX; i++)
        rd_kafka_topic_partition_list_add(g->topics, o->topics[i], RD_KAFKA_PARTITION_UA);
    int rc = kwake_init(&g->wake, klog_loop(k), on_wake);
    if (rc)
        err_set(e, rc, "raise the limit of open files (ulimit -n)", "cannot watch a consumer");
    if (!rc)
        rc = open_handle(g, e);
    if (!rc)
        rc = loop_timer_set(klog_loop(k), &g->tick, loop_now(klog_loop(k)) + KPOLL_MS);
    if (!rc)
        return g;
    release_queues(g);
    if (g->rk)
        khandle_bury(k, g->rk, false, NULL, NULL);
    destroy(g);
    return NULL;
}

void kgroup_close(struct kgroup *g, void (*fn)(void *arg), void *arg)
{
    assert(!g->closing);
    g->closing = true;
    g->closed = fn;
    g->closed_arg = arg;
    g->close_at_ms = loop_now(klog_loop(g->klog)) + CLOSE_MS;
    loop_later(klog_loop(g->klog), &g->later);
    (void)loop_timer_set(klog_loop(g->klog), &g->tick, loop_now(klog_loop(g->klog)) + FAST_MS);
}

struct kgroup *kgroup_drop(struct kgroup *g)
{
    if (!g)
        return NULL;
    if (g->state == KGROUP_LEAVING) { /* its handle is being buried: on_left frees it */
        g->closed = NULL;
        return NULL;
    }
    gcommits_drop(g);
    release_queues(g);
    if (g->rk)
        khandle_bury(g->klog, g->rk, false, NULL, NULL);
    destroy(g);
    return NULL;
}
