/* Producers. The loop's thread.
 *
 * States of a producer: open -> dead (a record failed in a journal producer, or librdkafka is
 * fatal) -> freed. Invariant: `count` is the number of records sent and not yet reported, at most
 * max; each has a struct sent, reported exactly once, that is in one of three lists:
 *   lane.held   kept here until the loop is about to sleep and its partition has room
 *   open        handed to librdkafka
 *   refused     to be reported as failed in the next turn
 * A dead producer accepts nothing, and refuses what it held, so nothing later can land after a
 * failure: librdkafka's gapless mode holds back what is in its queues.
 *
 * WHY RECORDS ARE HELD. An idempotent producer of librdkafka sends no request for a partition while
 * five of its messages or more are under way, and its thread then polls without a pause until that
 * changes (rd_kafka_toppar_producer_serve; in 2.0.2, and in later ones that were looked at): under
 * load it took half of this process's time. So no more is handed over than it may send at once: at
 * the end of a turn, everything of a partition (a lane) as one batch, if fewer than LANE_ROOM of
 * its records are under way; else when they are acknowledged. No record waits longer than
 * librdkafka would have let it wait. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "log/klog_int.h"

#define EVENTS_A_TURN   256
#define TOPICS_MAX      4096
#define DEFAULT_RECORDS 100000
#define DEFAULT_BYTES   (256u << 20)
#define SPARE_MAX       4096
#define LANE_ROOM       5 /* RD_KAFKA_IDEMP_MAX_INFLIGHT of librdkafka, which counts messages */

/* One partition of a topic; those whose partition the key decides share one. */
struct lane {
    struct list node; /* in kprod.waiting while something is held */
    rd_kafka_topic_t *rkt;
    struct list held;
    size_t under_way; /* handed to librdkafka, not yet reported */
};
struct topic {
    rd_kafka_topic_t *rkt;
    struct imap lanes; /* partition, -1: by key */
};
struct sent {
    struct list node;
    struct lane *lane;
    void *opaque;
    size_t size;
    struct kpacked rec; /* while it is held */
    int error;          /* while it is refused */
};
/* A callback may free the producer; its handle must then outlive the event that is being read. */
struct turn {
    bool gone;
    rd_kafka_t *rk;
};
struct kprod {
    struct klog *klog;
    struct kprod_opts o;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct kwake wake;
    struct loop_hook hook;
    struct map topics; /* name -> struct topic */
    struct list open, refused, spare, waiting;
    size_t count, nheld, nspare, max;
    size_t bytes, max_bytes, max_record; /* of records not yet reported */
    bool dead, fatal_said;
    struct turn *turn; /* set while on_wake runs */
    char why[256];
};

static void recycle(struct kprod *p, struct sent *s)
{
    list_del(&s->node);
    p->count--;
    p->bytes -= s->size;
    if (p->nspare < SPARE_MAX) {
        list_push(&p->spare, &s->node);
        p->nspare++;
    } else {
        free(s);
    }
}

/* Returns false when the producer is gone. */
static bool report(struct kprod *p, struct sent *s, int error, int partition, int64_t offset,
                   const char *why)
{
    void *opaque = s->opaque;
    recycle(p, s);
    if (error && p->o.kind == KPROD_JOURNAL && !p->dead) {
        p->dead = true;
        (void)snprintf(p->why, sizeof p->why, "a record was not written: %s", why);
    }
    struct turn *turn = p->turn;
    p->o.on_delivery(p->o.arg, opaque, error, partition, offset, why);
    return !turn->gone;
}

static bool report_delivery(struct kprod *p, const rd_kafka_message_t *m)
{
    struct sent *s = m->_private;
    s->lane->under_way--;
    return report(p, s, kerrno(m->err), m->partition, m->offset < 0 ? -1 : m->offset,
                  m->err ? rd_kafka_err2str(m->err) : NULL);
}

/* ---- lanes ---- */

static void refuse(struct kprod *p, struct sent *s, int error)
{
    list_del(&s->node);
    kpacked_free(&s->rec);
    s->error = error;
    list_push(&p->refused, &s->node);
    kwake_again(&p->wake);
}

static void empty_lane(struct kprod *p, struct lane *l, int refusal)
{
    while (!list_empty(&l->held)) {
        struct sent *s = LIST_ENTRY(l->held.next, struct sent, node);
        int error = refusal ? refusal : krec_hand(p->rk, l->rkt, &s->rec, s);
        if (error == -EAGAIN)
            return; /* an acknowledgement makes room, and wakes the loop */
        p->nheld--;
        if (error) {
            refuse(p, s, error);
        } else {
            l->under_way++;
            list_del(&s->node);
            list_push(&p->open, &s->node);
        }
    }
    list_del(&l->node);
}

static void before_sleep(struct loop_hook *h)
{
    struct kprod *p = LIST_ENTRY(h, struct kprod, hook);
    struct list *next;
    for (struct list *n = p->waiting.next; n != &p->waiting; n = next) {
        struct lane *l = LIST_ENTRY(n, struct lane, node);
        next = n->next;
        if (p->dead || l->under_way < LANE_ROOM)
            empty_lane(p, l, p->dead ? -ECANCELED : 0);
    }
}

static struct topic *topic_new(struct kprod *p, struct slice name)
{
    struct topic *t = p->topics.n < TOPICS_MAX ? calloc(1, sizeof *t) : NULL;
    char *text = t ? sl_dup(name) : NULL;
    if (text)
        t->rkt = rd_kafka_topic_new(p->rk, text, NULL);
    free(text);
    if (t && t->rkt && map_put(&p->topics, name, t, NULL) == 0) {
        imap_init(&t->lanes);
        return t;
    }
    if (t && t->rkt)
        rd_kafka_topic_destroy(t->rkt);
    free(t);
    return NULL;
}

static void free_topics(struct map *topics)
{
    size_t pos = 0;
    void *v, *lane;
    while (map_next(topics, &pos, NULL, &v)) {
        struct topic *t = v;
        size_t at = 0;
        while (imap_next(&t->lanes, &at, NULL, &lane))
            free(lane);
        imap_free(&t->lanes);
        rd_kafka_topic_destroy(t->rkt);
        free(t);
    }
    map_free(topics);
}

static struct lane *lane_of(struct kprod *p, struct slice name, int partition)
{
    int key = partition < 0 ? -1 : partition;
    struct topic *t = map_get(&p->topics, name);
    if (!t)
        t = topic_new(p, name);
    struct lane *l = t ? imap_get(&t->lanes, key) : NULL;
    if (l || !t)
        return l;
    l = calloc(1, sizeof *l);
    if (l && imap_put(&t->lanes, key, l)) {
        free(l);
        return NULL;
    }
    if (l) {
        l->rkt = t->rkt;
        list_init(&l->held);
    }
    return l;
}

/* ---- events ---- */

static void on_error(struct kprod *p, rd_kafka_event_t *ev)
{
    rd_kafka_resp_err_t err = rd_kafka_event_error(ev);
    if (err != RD_KAFKA_RESP_ERR__FATAL && !rd_kafka_event_error_is_fatal(ev))
        return; /* transient; librdkafka retries and klog tells of brokers that are down */
    char why[200] = "";
    rd_kafka_resp_err_t cause = rd_kafka_fatal_error(p->rk, why, sizeof why);
    if (!p->dead)
        (void)snprintf(p->why, sizeof p->why, "%s: %s", rd_kafka_err2name(cause), why);
    p->dead = true;
}

static bool say_fatal(struct kprod *p)
{
    if (!p->dead || p->fatal_said)
        return true;
    p->fatal_said = true;
    kwake_again(&p->wake); /* before_sleep refuses what is held; then that is to be reported */
    (void)rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                    RD_KAFKA_PURGE_F_NON_BLOCKING);
    log_warn(klog_log(p->klog), "a producer ended", "why=%s open=%zu", log_q(p->why), p->count);
    struct turn *turn = p->turn;
    if (p->o.on_fatal) {
        char why[sizeof p->why];
        memcpy(why, p->why, sizeof why);
        p->o.on_fatal(p->o.arg, why);
    }
    return !turn->gone;
}

static bool serve(struct kprod *p, rd_kafka_event_t *ev)
{
    const rd_kafka_message_t *m;
    if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ERROR)
        on_error(p, ev);
    else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DR)
        while ((m = rd_kafka_event_message_next(ev)))
            if (!report_delivery(p, m))
                return false;
    return say_fatal(p);
}

/* Returns false when the producer is gone. */
static bool serve_refused(struct kprod *p)
{
    while (!list_empty(&p->refused)) {
        struct sent *s = LIST_ENTRY(p->refused.next, struct sent, node);
        if (!report(p, s, s->error, -1, -1, strerror(-s->error)))
            return false;
    }
    return say_fatal(p);
}

static void on_wake(struct loop_fd *w, uint32_t events)
{
    struct kprod *p = LIST_ENTRY(w, struct kprod, wake.w);
    struct klog *k = p->klog;
    struct turn turn = {0};
    rd_kafka_event_t *ev = NULL;
    kwake_clear(&p->wake);
    p->turn = &turn;
    (void)serve_refused(p);
    for (int i = 0; i < EVENTS_A_TURN && !turn.gone; i++) {
        ev = rd_kafka_queue_poll(p->queue, 0);
        if (!ev)
            break;
        (void)serve(p, ev);
        rd_kafka_event_destroy(ev);
    }
    if (turn.gone) {
        if (turn.rk)
            khandle_bury(k, turn.rk, false, NULL, NULL);
        return;
    }
    p->turn = NULL;
    if (ev)
        kwake_again(&p->wake);
}

static size_t largest_record(const rd_kafka_t *rk)
{
    char text[32] = "";
    size_t n = sizeof text;
    (void)rd_kafka_conf_get(rd_kafka_conf((rd_kafka_t *)rk), "message.max.bytes", text, &n);
    long v = strtol(text, NULL, 10);
    return v > 0 ? (size_t)v : 1000000;
}

struct kprod *kprod_new(struct klog *k, const struct kprod_opts *o, struct err *e)
{
    struct kprod *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a producer");
        return NULL;
    }
    p->klog = k;
    p->o = *o;
    p->max = o->max_inflight ? o->max_inflight : DEFAULT_RECORDS;
    p->max_bytes = o->max_inflight_bytes ? o->max_inflight_bytes : DEFAULT_BYTES;
    map_init(&p->topics);
    list_init(&p->open);
    list_init(&p->refused);
    list_init(&p->spare);
    list_init(&p->waiting);
    p->hook.fn = before_sleep;
    loop_before_sleep(klog_loop(k), &p->hook);
    int rc = kwake_init(&p->wake, klog_loop(k), on_wake);
    if (rc) {
        err_set(e, rc, "raise the limit of open files (ulimit -n)", "cannot watch a producer");
        return kprod_free(p, true);
    }
    struct kprops props = {.events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR,
                           .max_inflight = p->max,
                           .max_inflight_bytes = p->max_bytes};
    klog_props(k, &props);
    p->rk = khandle_new(o->kind == KPROD_JOURNAL ? KHANDLE_JOURNAL : KHANDLE_PLAIN, &props, e);
    if (!p->rk)
        return kprod_free(p, true);
    p->max_record = largest_record(p->rk);
    p->queue = rd_kafka_queue_get_main(p->rk);
    kwake_watch(&p->wake, p->queue);
    return p;
}

static void free_sent(struct list *head)
{
    struct list *n;
    while ((n = list_pop(head)))
        free(LIST_ENTRY(n, struct sent, node));
}

/* Everything that is not reported yet ends in `open`. */
static void gather(struct kprod *p)
{
    struct list *n;
    while (!list_empty(&p->waiting))
        empty_lane(p, LIST_ENTRY(p->waiting.next, struct lane, node), -ECANCELED);
    while ((n = list_pop(&p->refused)))
        list_push(&p->open, n);
}

struct kprod *kprod_free(struct kprod *p, bool silent)
{
    if (!p)
        return NULL;
    struct turn *turn = p->turn;
    loop_hook_del(&p->hook);
    gather(p);
    if (p->queue) {
        kwake_unwatch(p->queue);
        rd_kafka_queue_destroy(p->queue);
    }
    kwake_end(&p->wake);
    free_topics(&p->topics);
    if (turn)
        *turn = (struct turn){true, p->rk};
    else if (p->rk)
        khandle_bury(p->klog, p->rk, false, NULL, NULL);
    p->dead = true; /* a callback that sends is told so */
    while (!silent && !list_empty(&p->open)) {
        struct sent *s = LIST_ENTRY(p->open.next, struct sent, node);
        void *opaque = s->opaque;
        recycle(p, s);
        p->o.on_delivery(p->o.arg, opaque, -ECANCELED, -1, -1, "the producer was closed");
    }
    free_sent(&p->open);
    free_sent(&p->spare);
    free(p);
    return NULL;
}

static struct sent *new_sent(struct kprod *p)
{
    struct list *n = list_pop(&p->spare);
    if (!n)
        return calloc(1, sizeof(struct sent));
    p->nspare--;
    return LIST_ENTRY(n, struct sent, node);
}

int kprod_send(struct kprod *p, const struct krec *r, void *opaque)
{
    if (p->dead)
        return -EPIPE;
    if (p->count >= p->max)
        return -EAGAIN;
    struct lane *l = lane_of(p, r->topic, r->partition);
    struct sent *s = l ? new_sent(p) : NULL;
    if (!s)
        return l ? -ENOMEM : -EINVAL;
    int rc = krec_pack(r, &s->rec);
    s->size = rc ? 0 : s->rec.size;
    if (!rc && (s->size > p->max_record || s->size > p->max_bytes - p->bytes)) {
        rc = s->size > p->max_record ? -EMSGSIZE : -EAGAIN;
        kpacked_free(&s->rec);
    }
    if (rc) {
        free(s);
        return rc;
    }
    s->lane = l;
    s->opaque = opaque;
    if (list_empty(&l->held))
        list_push(&p->waiting, &l->node);
    list_push(&l->held, &s->node);
    p->nheld++;
    p->count++;
    p->bytes += s->size;
    return 0;
}

size_t kprod_inflight(const struct kprod *p)
{
    return p->count;
}

size_t kprod_held(const struct kprod *p)
{
    return p->nheld;
}
