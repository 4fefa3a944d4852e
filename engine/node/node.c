/* See node.h: life of a node. One tick of 50 ms for what is due by time; everything else is done in
 * the turn in which it came. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "node/node_int.h"

#define CLOCK_SET_MS  1000 /* further off than this the clock was set */
#define CLOCK_FOLLOWS 20

static void on_delivery(void *arg, void *opaque, int error, int partition, int64_t offset,
                        const char *why)
{
    ((struct sent *)opaque)->done(opaque, error, partition, offset, why);
}

static void on_journal_fatal(void *arg, const char *why)
{
    claims_journal_lost(arg, why);
}

static void on_plain_fatal(void *arg, const char *why)
{
    struct node *n = arg;
    struct err e = {0};
    err_set(&e, -EIO, "restart the node; see the broker's log", "the producer is dead: %s", why);
    if (n->o.on_fatal)
        n->o.on_fatal(n->o.arg, &e);
}

static struct kprod *producer(struct node *n, enum kprod_kind kind, struct err *e)
{
    struct kprod_opts o = {.kind = kind,
                           .on_delivery = on_delivery,
                           .on_fatal = kind == KPROD_JOURNAL ? on_journal_fatal : on_plain_fatal,
                           .arg = n};
    return kprod_new(n->klog, &o, e);
}

static void on_defs(void *arg)
{
    struct node *n = arg;
    node_wake(n);
}

static bool backlog_full(void *arg, size_t under_way)
{
    struct node *n = arg;
    size_t pending = under_way, bytes = 0;
    for (int i = 0; i < n->partitions; i++) {
        if (!n->parts[i] || !n->parts[i]->part)
            continue;
        pending += n->parts[i]->part->st.npending;
        bytes += n->parts[i]->part->st.pending_bytes;
    }
    return pending > (size_t)n->config->max_waiting_runs || bytes > PENDING_BYTES_MAX;
}

static void set_router_opts(struct node *n, struct router_opts *o)
{
    *o = (struct router_opts){.loop = n->loop,
                              .klog = n->klog,
                              .log = n->log,
                              .config = n->config,
                              .names = &n->names,
                              .defs = n->defs,
                              .schemas = n->schemas,
                              .pool = n->evals,
                              .helpers = n->helpers,
                              .prod = n->plain,
                              .journal_partitions = n->partitions,
                              .feed = "live",
                              .topics = n->topics,
                              .full = backlog_full,
                              .full_arg = n};
}

static int open_schemas(struct node *n, struct err *e)
{
    struct diags d;
    diags_init(&d);
    n->schemas = topic_schemas_new(n->config, false, &d);
    if (!n->schemas && d.n) {
        err_set(e, -EINVAL, d.v[0].hint, "the schema of a topic: %s", d.v[0].msg);
        err_at(e, d.v[0].file, d.v[0].line, d.v[0].col);
    }
    diags_free(&d);
    return n->schemas ? 0 : -EINVAL;
}

static int open_routing(struct node *n, struct err *e)
{
    struct router_opts o;
    if (open_schemas(n, e))
        return -EINVAL;
    if (!(n->topics = calloc(n->config->ntopics + 1, sizeof *n->topics)))
        return err_set(e, -ENOMEM, NULL, "no memory");
    for (size_t i = 0; i < n->config->ntopics; i++)
        n->topics[i] = n->config->topics[i].name;
    set_router_opts(n, &o);
    if (n->config->ntopics && !(n->router = router_new(&o, e)))
        return -EIO;
    n->feeds = feeds_new(&o, e);
    return n->feeds ? 0 : -EIO;
}

/* ---- turns ---- */

static void on_work(struct loop_task *t)
{
    struct node *n = LIST_ENTRY(t, struct node, work);
    bool more = false;
    for (int i = 0; i < n->partitions; i++) {
        struct npart *np = n->parts[i];
        if (!np || !np->part || np->failed || n->handover == HANDOVER_SETTLING)
            continue;
        part_now(np->part);
        more = part_work(np->part) || more;
    }
    effects_dispatch(n);
    handover_step(n);
    if (more)
        loop_timer_set(n->loop, &n->tick, loop_now(n->loop));
}

void node_wake(struct node *n)
{
    loop_later(n->loop, &n->work);
}

/* The time of day that runs see never jumps: when the system's clock is set, it follows by at most
 * one part in twenty. So a wait under way keeps its length, within that, and time never goes back
 * within an ownership. */
static void follow_clock(struct node *n)
{
    int64_t boot = clock_boot_ms(), off = clock_wall_ms() - boot - n->wall_ahead_ms;
    int64_t most = (boot - n->clock_read_ms) / CLOCK_FOLLOWS;
    bool set = off > CLOCK_SET_MS || off < -CLOCK_SET_MS;
    if (set && !n->clock_told)
        log_warn(n->log, "the system's clock was set; runs follow it slowly",
                 "by_ms=%" PRId64 " takes_ms=%" PRId64, off,
                 (off < 0 ? -off : off) * CLOCK_FOLLOWS);
    n->clock_told = set;
    n->wall_ahead_ms += off > most ? most : off < -most ? -most : off;
    n->clock_read_ms = boot;
}

static void retry_journal(struct node *n)
{
    struct err e = {0};
    if (!n->journal_lost || clock_boot_ms() < n->journal_retry_ms)
        return;
    n->journal = kprod_free(n->journal, true);
    n->journal = producer(n, KPROD_JOURNAL, &e);
    if (n->journal)
        n->journal_lost = false; /* claims follow the next successful commits */
    else
        n->journal_retry_ms = clock_boot_ms() + 1000;
}

static void drain_step(struct node *n);

static void on_tick(struct loop_timer *t)
{
    struct node *n = LIST_ENTRY(t, struct node, tick);
    loop_timer_set(n->loop, &n->tick, loop_now(n->loop) + TICK_MS);
    if (n->group_closed)
        return;
    follow_clock(n);
    retry_journal(n);
    claims_tick(n);
    if (n->router && !n->draining && defs_ready(n->defs))
        router_tick(n->router);
    if (n->feeds && !n->draining)
        feeds_tick(n->feeds);
    on_work(&n->work);
    if (n->draining)
        drain_step(n);
}

/* ---- life ---- */

static void read_boot_id(struct node *n)
{
    struct buf b;
    buf_init(&b, sizeof n->boot_id - 1);
    if (file_read("/proc/sys/kernel/random/boot_id", &b, NULL) == 0)
        snprintf(n->boot_id, sizeof n->boot_id, "%.*s", SL_ARG(sl_trim(buf_slice(&b))));
    buf_free(&b);
    if (n->config->node_id) {
        snprintf(n->node_id, sizeof n->node_id, "%s", n->config->node_id);
        return;
    }
    char hex[17];
    hex_u64(hex, random_u64());
    snprintf(n->node_id, sizeof n->node_id, "node-%.8s", hex);
}

static int open_topics(struct node *n, struct err *e)
{
    struct diags warn;
    diags_init(&warn);
    int error = node_topics(n->admin, n->config, &n->names, &n->partitions, &warn, e);
    for (size_t i = 0; i < warn.n; i++)
        log_warn(n->log, warn.v[i].msg, "topic=%s hint=%s", log_q(warn.v[i].file),
                 log_q(warn.v[i].hint ? warn.v[i].hint : ""));
    diags_free(&warn);
    if (!error && !(n->parts = calloc((size_t)n->partitions, sizeof(struct npart *))))
        error = err_set(e, -ENOMEM, NULL, "no memory");
    return error;
}

static int open_all(struct node *n, struct err *e)
{
    struct klog_opts ko = {.config = n->config,
                           .loop = n->loop,
                           .log = n->log,
                           .client_id = n->node_id};
    int error;
    if (!(n->admin = kadmin_new(n->config, e)))
        return -EIO;
    if ((error = open_topics(n, e)))
        return error;
    if (n->o.data_dir && !(n->suspects = suspects_open(n->o.data_dir, n->log, e)))
        return -EIO;
    if (!(n->helpers = pool_new(n->loop, 2, 1000, e)) || !(n->klog = klog_new(&ko, e)) ||
        !(n->journal = producer(n, KPROD_JOURNAL, e)) ||
        !(n->plain = producer(n, KPROD_PLAIN, e)) ||
        !(n->defs = defs_new(n->klog, &n->names, n->log, on_defs, n, e)))
        return -EIO;
    if ((error = effects_open(n, e)) || (error = claims_open(n, e)))
        return error;
    return n->o.route ? open_routing(n, e) : 0;
}

static void node_free(struct node *n)
{
    loop_timer_unset(&n->tick);
    if (n->parts)
        claims_drop(n);
    if (n->tasks || n->evals)
        effects_close(n);
    n->helpers = n->helpers ? pool_free(n->helpers) : NULL;
    kprod_free(n->journal, true);
    kprod_free(n->plain, true);
    /* These two are still there when opening failed, or the drain's time was over. */
    n->router = router_drop(n->router);
    n->group = kgroup_drop(n->group);
    defs_free(n->defs);
    topic_schemas_free(n->schemas);
    klog_free(n->klog);
    kadmin_free(n->admin);
    suspects_close(n->suspects);
    free(n->topics);
    free(n->parts);
    free(n);
}

struct node *node_open(const struct node_opts *o, struct err *e)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n) {
        err_set(e, -ENOMEM, NULL, "no memory");
        return NULL;
    }
    n->o = *o;
    n->config = o->config;
    n->loop = o->loop;
    n->log = o->log;
    n->tick.fn = on_tick;
    n->work.fn = on_work;
    n->clock_read_ms = clock_boot_ms();
    n->wall_ahead_ms = clock_wall_ms() - n->clock_read_ms;
    /* Once a second is often enough, but for intervals shorter than that. */
    n->tick_parts_ms = n->config->journal_state_ms < 1000 ? n->config->journal_state_ms : 1000;
    list_init(&n->work.node);
    list_init(&n->works);
    list_init(&n->evals_pending);
    names_make(&n->names, o->config->group);
    read_boot_id(n);
    if (open_all(n, e)) {
        node_free(n);
        return NULL;
    }
    loop_timer_set(n->loop, &n->tick, loop_now(n->loop) + TICK_MS);
    return n;
}

bool node_agent_is(const struct node *n, const char *agent, const char *hash, bool active)
{
    const struct agent *a = defs_agent(n->defs, agent);
    return a && a->active == active && !strcmp(a->hash, hash);
}

const struct defs *node_defs(const struct node *n)
{
    return n->defs;
}

bool node_knows_agents(const struct node *n)
{
    return defs_ready(n->defs);
}

struct klog *node_klog(const struct node *n)
{
    return n->klog;
}

struct evalpool *node_evals(const struct node *n)
{
    return n->evals;
}

struct topic_schemas *node_schemas(const struct node *n)
{
    return n->schemas;
}

struct kprod *node_producer(const struct node *n)
{
    return n->plain;
}

const char *node_id(const struct node *n)
{
    return n->node_id;
}

int node_partitions(const struct node *n)
{
    return n->partitions;
}

static struct part *owned(const struct node *n, int partition)
{
    struct npart *np = partition >= 0 && partition < n->partitions ? n->parts[partition] : NULL;
    return np && np->part && np->part->status == PART_OWNER ? np->part : NULL;
}

bool node_owns(const struct node *n, int partition)
{
    return owned(n, partition) != NULL;
}

size_t node_waiting(const struct node *n, int partition)
{
    const struct part *p = owned(n, partition);
    return p ? p->st.npending : 0;
}

bool node_position(const struct node *n, int partition, int64_t *ret_next, int64_t *ret_epoch,
                   uint64_t *ret_nonce)
{
    const struct part *p = owned(n, partition);
    if (!p)
        return false;
    *ret_next = p->st.next;
    *ret_epoch = p->st.epoch;
    *ret_nonce = p->st.nonce;
    return true;
}

const struct run *node_run(const struct node *n, const char *id)
{
    struct part *p = owned(n, run_id_partition(sl_str(id)));
    struct run *r = p ? part_run(p, id) : NULL;
    return r && r->known.status != RUN_NONE ? r : NULL;
}

void node_stats(const struct node *n, struct node_stats *ret)
{
    *ret = n->stats;
    ret->active = (size_t)n->active;
    ret->backlog = 0;
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && n->parts[i]->part)
            ret->backlog += part_backlog(n->parts[i]->part);
}

/* ---- drain ---- */

static void on_router_closed(void *arg)
{
    struct node *n = arg;
    n->router = NULL;
    n->router_closed = true;
}

static void on_feeds_closed(void *arg)
{
    struct node *n = arg;
    n->feeds = NULL;
    n->feeds_closed = true;
}

static void on_finished(struct loop_timer *t)
{
    struct node *n = LIST_ENTRY(t, struct node, tick);
    void (*fn)(void *) = n->drained;
    void *arg = n->drained_arg;
    node_free(n);
    if (fn)
        fn(arg);
}

static void on_group_closed(void *arg)
{
    struct node *n = arg;
    n->group = NULL;
    n->group_closed = true;
    n->tick.fn = on_finished; /* not inside a callback of what is freed */
    loop_timer_set(n->loop, &n->tick, loop_now(n->loop));
}

/* Effects under way end and their results are acknowledged; then a last part.state, and the group
 * is left. */
static void drain_step(struct node *n)
{
    bool late = clock_boot_ms() >= n->drain_until_ms;
    bool busy = effects_under_way(n) > 0 || (n->journal && kprod_inflight(n->journal) > 0);
    if (!late && (busy || !n->router_closed || !n->feeds_closed))
        return;
    if (n->leaving || !n->group)
        return;
    n->leaving = true;
    struct kgroup *g = n->group;
    n->drain_until_ms = INT64_MAX;
    log_info(n->log, "leaving the group", "effects=%zu", n->sched.running);
    kgroup_close(g, on_group_closed, n);
}

void node_drain(struct node *n, int64_t timeout_ms, void (*fn)(void *arg), void *arg)
{
    if (n->draining)
        return;
    n->draining = true;
    n->drained = fn;
    n->drained_arg = arg;
    n->drain_until_ms = clock_boot_ms() + timeout_ms;
    n->router_closed = !n->router;
    n->feeds_closed = !n->feeds;
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && n->parts[i]->part && n->parts[i]->loaded) {
            part_now(n->parts[i]->part);
            part_tick(n->parts[i]->part, true);
        }
    if (n->router)
        router_close(n->router, on_router_closed, n);
    if (n->feeds)
        feeds_close(n->feeds, on_feeds_closed, n);
}
