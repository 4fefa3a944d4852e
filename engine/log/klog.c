/* The shared part: wake-ups, the orderly end of handles, reader handles, and whether brokers are
 * reachable. All of it in the loop's thread but for the work of kjobs.
 *
 * Which librdkafka properties are the engine's own, and why, stands in kconf.c.
 *
 * Up and down: librdkafka reports only failures, so a handle of its own (the probe) gives
 * statistics twice a second. States: unknown -> up <-> down. Down is said once the probe saw no
 * broker for DOWN_AFTER_MS, then every REPEAT_MS; up is said once.
 *
 * Invariants: a handle is destroyed in the pool only, after its queues were unwatched; klog_free
 * carries out all jobs that are left; readers and producers are ended by their owners before. */
#include "log/klog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/js.h"
#include "log/klog_int.h"

#define POOL_THREADS  3
#define POOL_JOBS_MAX 256
#define DOWN_AFTER_MS 1500
#define REPEAT_MS     10000
#define PROBE_TURN    64

struct kreader {
    struct list node;
    rd_kafka_t *rk;
    bool tail;
    struct map busy; /* "topic\0partition" -> this */
};
struct klog {
    const struct config *config;
    struct loop *loop;
    struct log *log;
    char *client_id;
    struct pool *pool;
    struct list late; /* jobs for which the pool had no room */
    bool ending;      /* no pool any more: jobs gather in `late` */
    struct list readers;
    size_t nreaders;
    rd_kafka_t *probe;
    rd_kafka_queue_t *probe_queue;
    struct kwake wake;
    struct loop_timer tick;
    bool up, ever_up, said_down;
    int64_t bad_since, said_at;
    char why[256];
};

/* ---- wake-ups ---- */

int kwake_init(struct kwake *k, struct loop *l, void (*fn)(struct loop_fd *w, uint32_t events))
{
    *k = (struct kwake){.loop = l, .w = {.events = EPOLLIN, .fn = fn}};
    k->w.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = k->w.fd < 0 ? -errno : loop_fd_add(l, &k->w);
    if (rc && k->w.fd >= 0)
        close(k->w.fd);
    if (rc)
        k->w.fd = -1;
    return rc;
}

void kwake_watch(struct kwake *k, rd_kafka_queue_t *q)
{
    static const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(q, k->w.fd, &one, sizeof one);
    /* librdkafka writes only when the queue ceases to be empty: what it holds already (the error of
     * a broker that is down) must be taken out, or nothing that comes later is ever told. */
    kwake_again(k);
}

void kwake_unwatch(rd_kafka_queue_t *q)
{
    rd_kafka_queue_io_event_enable(q, -1, NULL, 0);
}

void kwake_again(struct kwake *k)
{
    /* Fails only when the counter is full, and then it is readable anyway. */
    (void)!write(k->w.fd, &(uint64_t){1}, sizeof(uint64_t));
}

void kwake_clear(struct kwake *k)
{
    uint64_t count;
    /* EAGAIN: polled by the timer, nothing was there. */
    (void)!read(k->w.fd, &count, sizeof count);
}

void kwake_end(struct kwake *k)
{
    loop_fd_del(&k->w);
    if (k->w.fd >= 0)
        close(k->w.fd);
    k->w.fd = -1;
}

/* ---- jobs ---- */

static void job_work(struct pool_job *pj)
{
    struct kjob *j = LIST_ENTRY(pj, struct kjob, job);
    j->work(j);
}

static void submit_late(struct klog *k)
{
    LIST_EACH(it, &k->late)
    {
        struct kjob *j = LIST_ENTRY(it, struct kjob, late);
        list_del(it);
        if (pool_submit(k->pool, &j->job)) {
            list_push(&k->late, it);
            return;
        }
    }
}

static void job_done(struct pool_job *pj)
{
    struct kjob *j = LIST_ENTRY(pj, struct kjob, job);
    struct klog *k = j->klog;
    j->done(j);
    if (!k->ending)
        submit_late(k);
}

void kjob_start(struct klog *k, struct kjob *j)
{
    j->klog = k;
    j->job.work = job_work;
    j->job.done = job_done;
    list_init(&j->job.msg.node);
    list_init(&j->late);
    if (k->ending || !list_empty(&k->late) || pool_submit(k->pool, &j->job))
        list_push(&k->late, &j->late);
}

struct burial {
    struct kjob job;
    rd_kafka_t *rk;
    bool leave;
    void (*fn)(void *arg);
    void *arg;
};

static void bury_work(struct kjob *j)
{
    struct burial *b = LIST_ENTRY(j, struct burial, job);
    if (rd_kafka_type(b->rk) == RD_KAFKA_PRODUCER)
        (void)rd_kafka_purge(b->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                        RD_KAFKA_PURGE_F_NON_BLOCKING);
    else if (b->leave)
        (void)rd_kafka_consumer_close(b->rk);
    rd_kafka_destroy_flags(b->rk, b->leave ? 0 : RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void bury_done(struct kjob *j)
{
    struct burial *b = LIST_ENTRY(j, struct burial, job);
    if (b->fn)
        b->fn(b->arg);
    free(b);
}

void khandle_bury(struct klog *k, rd_kafka_t *rk, bool leave, void (*fn)(void *arg), void *arg)
{
    struct burial *b = calloc(1, sizeof *b);
    if (!b) {
        /* Better a stall than a handle whose threads go on for ever. */
        rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
        if (fn)
            fn(arg);
        return;
    }
    *b = (struct burial){{.work = bury_work, .done = bury_done}, rk, leave, fn, arg};
    kjob_start(k, &b->job);
}

/* ---- reachable or not ---- */

static bool any_broker_up(struct slice stats)
{
    struct slice brokers, name, broker, state;
    size_t pos = 0;
    if (!js_member(stats, "brokers", &brokers))
        return false;
    while (js_next(brokers, &pos, &name, &broker))
        if (js_member(broker, "state", &state) && sl_starts(state, SL("\"UP")))
            return true;
    return false;
}

static void set_up(struct klog *k, bool up)
{
    int64_t now = loop_now(k->loop);
    if (up) {
        if (k->said_down)
            log_info(k->log, "brokers are reachable again", "after_ms=%lld",
                     (long long)(now - k->bad_since));
        k->up = k->ever_up = true;
        k->said_down = false;
        k->bad_since = 0;
        return;
    }
    if (!k->bad_since)
        k->bad_since = now;
    if (now - k->bad_since < DOWN_AFTER_MS || (k->said_down && now - k->said_at < REPEAT_MS))
        return;
    k->up = false;
    k->said_at = now;
    const char *servers = config_kafka(k->config, "bootstrap.servers");
    log_warn(k->log,
             k->said_down ? "brokers still unreachable, retrying" : "brokers unreachable, retrying",
             "servers=%s why=%s for_ms=%lld", log_q(servers ? servers : "127.0.0.1:9092"),
             log_q(k->why[0] ? k->why : "no connection yet"), (long long)(now - k->bad_since));
    k->said_down = true;
}

static void on_probe_error(struct klog *k, rd_kafka_event_t *ev)
{
    const char *why = rd_kafka_event_error_string(ev);
    if (rd_kafka_event_error(ev) != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        (void)snprintf(k->why, sizeof k->why, "%s",
                       why ? why : rd_kafka_err2str(rd_kafka_event_error(ev)));
}

static void probe_poll(struct klog *k)
{
    kwake_clear(&k->wake);
    for (int i = 0; i < PROBE_TURN; i++) {
        rd_kafka_event_t *ev = rd_kafka_queue_poll(k->probe_queue, 0);
        if (!ev)
            return;
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_STATS)
            set_up(k, any_broker_up(sl_str(rd_kafka_event_stats(ev))));
        else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ERROR)
            on_probe_error(k, ev);
        rd_kafka_event_destroy(ev);
    }
    kwake_again(&k->wake);
}

static void on_probe(struct loop_fd *w, uint32_t events)
{
    probe_poll(LIST_ENTRY(w, struct klog, wake.w));
}

/* ---- reader handles ---- */

struct kreader *kreader_get(struct klog *k, bool tail, const char *key, struct err *e)
{
    struct kreader *r = NULL;
    LIST_EACH(it, &k->readers)
    {
        struct kreader *have = LIST_ENTRY(it, struct kreader, node);
        if (!r && have->tail == tail && !map_has(&have->busy, sl_str(key)))
            r = have;
    }
    if (!r && k->nreaders >= KREADERS_MAX) {
        err_set(e, -EAGAIN, "wait until another reader of it has ended",
                "too many readers of one partition");
        return NULL;
    }
    if (!r) {
        struct kprops p = {0};
        klog_props(k, &p);
        rd_kafka_t *rk = khandle_new(tail ? KHANDLE_TAIL : KHANDLE_RANGE, &p, e);
        r = rk ? calloc(1, sizeof *r) : NULL;
        if (!r) {
            if (rk)
                khandle_bury(k, rk, false, NULL, NULL);
            return NULL;
        }
        r->rk = rk;
        r->tail = tail;
        map_init(&r->busy);
        list_push(&k->readers, &r->node);
        k->nreaders++;
    }
    if (map_put(&r->busy, sl_str(key), r, NULL)) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for a reader");
        return NULL;
    }
    return r;
}

rd_kafka_t *kreader_handle(struct kreader *r)
{
    return r->rk;
}

void kreader_put(struct kreader *r, const char *key)
{
    (void)map_del(&r->busy, sl_str(key));
}

static void readers_end(struct klog *k)
{
    struct list *n;
    while ((n = list_pop(&k->readers))) {
        struct kreader *r = LIST_ENTRY(n, struct kreader, node);
        khandle_bury(k, r->rk, false, NULL, NULL);
        map_free(&r->busy);
        free(r);
    }
}

/* ---- the whole ---- */

static void on_tick(struct loop_timer *t)
{
    struct klog *k = LIST_ENTRY(t, struct klog, tick);
    probe_poll(k);
    (void)loop_timer_set(k->loop, t, loop_now(k->loop) + KPOLL_MS);
}

static int probe_start(struct klog *k, struct err *e)
{
    int rc = kwake_init(&k->wake, k->loop, on_probe);
    if (rc)
        return err_set(e, rc, "raise the limit of open files (ulimit -n)",
                       "cannot watch the Kafka client");
    struct kprops p = {.events = RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS};
    klog_props(k, &p);
    k->probe = khandle_new(KHANDLE_PROBE, &p, e);
    if (!k->probe)
        return -EINVAL;
    k->probe_queue = rd_kafka_queue_get_main(k->probe);
    kwake_watch(&k->wake, k->probe_queue);
    k->tick.fn = on_tick;
    rc = loop_timer_set(k->loop, &k->tick, loop_now(k->loop) + KPOLL_MS);
    return rc ? err_set(e, rc, "give the process more memory", "no memory for a timer") : 0;
}

struct klog *klog_new(const struct klog_opts *o, struct err *e)
{
    struct klog *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the log client");
        return NULL;
    }
    k->config = o->config;
    k->loop = o->loop;
    k->log = o->log;
    k->wake.w.fd = -1;
    list_init(&k->late);
    list_init(&k->readers);
    k->client_id = o->client_id ? sl_dup(sl_str(o->client_id)) : NULL;
    k->pool = pool_new(o->loop, POOL_THREADS, POOL_JOBS_MAX, e);
    if (!k->pool || probe_start(k, e))
        return klog_free(k);
    return k;
}

static void work_off(struct klog *k)
{
    struct list *n;
    while ((n = list_pop(&k->late))) {
        struct kjob *j = LIST_ENTRY(n, struct kjob, late);
        j->work(j);
        j->done(j);
    }
}

struct klog *klog_free(struct klog *k)
{
    if (!k)
        return NULL;
    loop_timer_unset(&k->tick);
    if (k->probe_queue) {
        kwake_unwatch(k->probe_queue);
        rd_kafka_queue_destroy(k->probe_queue);
    }
    kwake_end(&k->wake);
    /* First what still uses the handles, then the handles. */
    k->ending = true;
    pool_free(k->pool);
    if (k->probe)
        khandle_bury(k, k->probe, false, NULL, NULL);
    work_off(k);
    readers_end(k);
    work_off(k);
    free(k->client_id);
    free(k);
    return NULL;
}

bool klog_up(const struct klog *k)
{
    return k->up || (!k->ever_up && !k->said_down); /* unknown, for the first half second */
}

struct loop *klog_loop(const struct klog *k)
{
    return k->loop;
}

const struct config *klog_config(const struct klog *k)
{
    return k->config;
}

struct log *klog_log(const struct klog *k)
{
    return k->log;
}

void klog_props(const struct klog *k, struct kprops *p)
{
    p->config = k->config;
    p->client_id = k->client_id;
}
