/* See router.h. Life of a router: join the group; for partitions without a committed offset find
 * the start and commit it with a new incarnation before anything is routed; route; commit what is
 * acknowledged.
 *
 * A crash between acknowledgement and commit: the next router repeats requests with the same run
 * ids and lower floors; they are duplicates. A crash between minting an incarnation and its commit:
 * nothing was routed under it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/clock.h"
#include "base/fail.h"
#include "triggers/router_int.h"

static void jobs_drop(struct rpart *p)
{
    LIST_EACH(n, &p->jobs)
    {
        struct job *j = LIST_ENTRY(n, struct job, node);
        if (j->asked) { /* its answer frees it */
            list_del(&j->node);
            j->part = NULL;
            p->router->orphans++;
        } else {
            job_free(j);
        }
    }
    p->njobs = 0;
}

static void finish(struct router *r);

static void parts_free(struct router *r)
{
    for (size_t i = 0; i < r->nparts; i++) {
        struct rpart *p = r->parts[i];
        jobs_drop(p);
        route_free(&p->route);
        free(p->topic);
        free(p);
    }
    free(r->parts);
    r->parts = NULL;
    r->nparts = 0;
    r->generation++;
}

static int64_t range_of(const struct router *r, const char *topic, int partition, int64_t *ret_from)
{
    for (size_t i = 0; i < r->o.nranges; i++)
        if (!strcmp(r->o.ranges[i].topic, topic) && r->o.ranges[i].partition == partition) {
            *ret_from = r->o.ranges[i].from;
            return r->o.ranges[i].to;
        }
    *ret_from = 0;
    return r->o.nranges
               ? 0
               : INT64_MAX; /* a partition that came after the replay was fixed: nothing of it */
}

/* "inc=<16 hex> table=<n>" */
static void read_metadata(const char *text, uint64_t *incarnation, int64_t *table)
{
    struct slice rest = sl_str(text), word;
    while (sl_split(&rest, ' ', &word)) {
        if (sl_starts(word, SL("inc=")))
            hex_read_u64(sl_from(word, 4), incarnation);
        else if (sl_starts(word, SL("table=")))
            sl_i64(sl_from(word, 6), table);
    }
}

static struct rpart *rpart_new(struct router *r, const struct kpart *k)
{
    struct rpart *p = calloc(1, sizeof *p);
    int64_t from, table = 0;
    if (!p || !(p->topic = strdup(k->topic))) {
        free(p);
        return NULL;
    }
    p->router = r;
    p->partition = k->partition;
    p->to = range_of(r, k->topic, k->partition, &from);
    list_init(&p->jobs);
    route_init(&p->route, k->offset);
    if (k->metadata)
        read_metadata(k->metadata, &p->incarnation, &table);
    p->ready = k->offset >= 0 && p->incarnation;
    if (!p->incarnation)
        p->incarnation = random_u64() | 1;
    if (k->offset < 0 && r->o.nranges)
        route_init(&p->route, from);
    if (!p->ready)
        p->route.committed = -1;
    snprintf(p->src_name, sizeof p->src_name, "%s:%s/%016" PRIx64 "/%d", r->o.feed, p->topic,
             p->incarnation, p->partition);
    return p;
}

/* For failpoints: the commit of a first start, with a new incarnation, or of what was routed. */
__attribute__((unused)) static const char *commit_kind(const struct rpart *p)
{
    return p->ready ? "routed" : "start";
}

static void commit(struct rpart *p, int64_t offset)
{
    char meta[96];
    snprintf(meta, sizeof meta, "inc=%016" PRIx64 " table=%" PRId64, p->incarnation,
             defs_version(p->router->o.defs));
    FAILPOINT_OF("source-commit", commit_kind(p), meta);
    if (kgroup_commit(p->router->group, p->topic, p->partition, offset, meta, p) == 0) {
        p->committing = true;
        p->commit_offset = offset;
    }
    FAILPOINT_OF("source-commit-sent", commit_kind(p), meta);
}

static void on_commit(void *arg, void *opaque, int error)
{
    struct router *r = arg;
    for (size_t i = 0; i < r->nparts; i++) { /* opaque may be a partition that is gone */
        struct rpart *p = r->parts[i];
        if (p != opaque)
            continue;
        p->committing = false;
        if (error)
            return;
        FAILPOINT_OF("source-commit-acked", commit_kind(p), NULL);
        p->route.committed = p->commit_offset;
        FAILPOINT_OF("source-committed", commit_kind(p), NULL);
        if (!p->ready) {
            p->ready = true;
            jobs_run(p);
        }
    }
}

/* ---- the first start of a partition: where does it begin ---- */

struct find_start {
    struct pool_job job;
    struct router *router;
    uint64_t generation;
    size_t n;
    struct {
        char topic[NAME_MAX_BYTES + 1];
        int partition;
        bool latest;
        int64_t low, high;
        int error;
    } v[];
};

static void find_work(struct pool_job *j)
{
    struct find_start *f = LIST_ENTRY(j, struct find_start, job);
    for (size_t i = 0; i < f->n; i++)
        f->v[i].error = kadmin_watermarks(f->router->admin, f->v[i].topic, f->v[i].partition,
                                          &f->v[i].low, &f->v[i].high, 10000, NULL);
}

static void assign_all(struct router *r);

static void find_done(struct pool_job *j)
{
    struct find_start *f = LIST_ENTRY(j, struct find_start, job);
    struct router *r = f->router;
    r->helping = false;
    if (f->generation == r->generation && !r->closing) {
        for (size_t i = 0; i < f->n; i++)
            for (size_t k = 0; k < r->nparts; k++)
                if (!f->v[i].error && r->parts[k]->partition == f->v[i].partition &&
                    !strcmp(r->parts[k]->topic, f->v[i].topic))
                    route_init(&r->parts[k]->route, f->v[i].latest ? f->v[i].high : f->v[i].low);
        for (size_t k = 0; k < r->nparts; k++)
            if (!r->parts[k]->ready)
                r->parts[k]->route.committed = -1;
        assign_all(r);
    }
    free(f);
    if (r->closing)
        finish(r);
}

static bool needs_start(const struct rpart *p)
{
    return p->route.next < 0;
}

static void find_starts(struct router *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->nparts; i++)
        n += needs_start(r->parts[i]);
    if (!n) {
        assign_all(r);
        return;
    }
    struct find_start *f = calloc(1, sizeof *f + n * sizeof f->v[0]);
    if (!f || r->helping)
        goto failed;
    f->router = r;
    f->generation = r->generation;
    f->job.work = find_work;
    f->job.done = find_done;
    for (size_t i = 0; i < r->nparts; i++) {
        if (!needs_start(r->parts[i]))
            continue;
        const struct config_topic *t = config_topic(r->o.config, r->parts[i]->topic);
        snprintf(f->v[f->n].topic, sizeof f->v[0].topic, "%s", r->parts[i]->topic);
        f->v[f->n].partition = r->parts[i]->partition;
        f->v[f->n++].latest = t && t->from_latest;
    }
    if (pool_submit(r->o.helpers, &f->job) == 0) {
        r->helping = true;
        return;
    }
failed:
    free(f);
    r->broken = true; /* tried again at the next tick */
}

/* ---- assignment ---- */

static void assign_all(struct router *r)
{
    struct kpart *v = calloc(r->nparts + 1, sizeof *v);
    if (!v)
        return;
    for (size_t i = 0; i < r->nparts; i++) {
        struct rpart *p = r->parts[i];
        if (needs_start(p)) {
            r->broken = true;
            free(v);
            return;
        }
        v[i] =
            (struct kpart){.topic = p->topic, .partition = p->partition, .offset = p->route.next};
        p->paused = false;
        p->ended = p->route.next >= p->to;
    }
    int error = kgroup_assign(r->group, v, r->nparts);
    free(v);
    if (error) {
        r->broken = true;
        return;
    }
    for (size_t i = 0; i < r->nparts; i++)
        if (!r->parts[i]->ready)
            commit(r->parts[i], r->parts[i]->route.next);
}

static void on_assign(void *arg, struct kpart *v, size_t n)
{
    struct router *r = arg;
    parts_free(r);
    r->broken = false;
    r->parts = calloc(n + 1, sizeof *r->parts);
    for (size_t i = 0; r->parts && i < n; i++) {
        struct rpart *p = rpart_new(r, &v[i]);
        if (p)
            r->parts[r->nparts++] = p;
    }
    log_info(r->o.log, "routing", "feed=%s partitions=%zu", log_q(r->o.feed), r->nparts);
    find_starts(r);
}

static void on_revoke(void *arg, bool lost)
{
    struct router *r = arg;
    for (size_t i = 0; i < r->nparts && !lost; i++) {
        struct rpart *p = r->parts[i];
        if (p->ready && !p->committing && route_floor(&p->route) > p->route.committed)
            commit(p, route_floor(&p->route));
    }
    parts_free(r);
    kgroup_revoke_done(r->group);
}

/* Begins again at the committed offsets of the present assignment. */
static void restart(struct router *r)
{
    r->broken = false;
    r->generation++;
    for (size_t i = 0; i < r->nparts; i++) {
        struct rpart *p = r->parts[i];
        jobs_drop(p);
        int64_t from = p->route.committed, next = p->route.next;
        route_free(&p->route);
        route_init(&p->route, p->ready ? from : next);
        if (!p->ready)
            p->route.committed = -1;
    }
    find_starts(r);
}

static struct rpart *part_of(struct router *r, const char *topic, size_t topic_len, int partition)
{
    for (size_t i = 0; i < r->nparts; i++)
        if (r->parts[i]->partition == partition &&
            sl_eq(sl_str(r->parts[i]->topic), sl(topic, topic_len)))
            return r->parts[i];
    return NULL;
}

static void on_record(void *arg, const struct krec *rec)
{
    struct router *r = arg;
    struct rpart *p = part_of(r, rec->topic.p, rec->topic.n, rec->partition);
    if (!p || rec->offset < p->route.next || r->broken)
        return;
    if (rec->offset >= p->to) {
        p->ended = true;
        return;
    }
    struct job *j = job_new(p, rec);
    if (!j || route_begin(&p->route, rec->offset) < 0) {
        if (j)
            job_free(j);
        r->broken = true;
        return;
    }
    list_push(&p->jobs, &j->node);
    p->njobs++;
    p->ended = p->route.next >= p->to;
    if (!p->paused && p->njobs > JOBS_PAUSE) {
        p->paused = true;
        kgroup_pause(r->group, p->topic, p->partition);
    }
    jobs_run(p);
}

static void on_end(void *arg, int partition, const char *topic)
{
    struct router *r = arg;
    struct rpart *p = part_of(r, topic, strlen(topic), partition);
    if (p && r->o.nranges)
        p->ended = true; /* what is missing up to `to` was compacted or cut away */
}

static void on_reset(void *arg, const char *topic, int partition)
{
    struct router *r = arg;
    struct rpart *p = part_of(r, topic, strlen(topic), partition);
    if (!p)
        return;
    log_error(r->o.log, "events below the retention are gone; going on at the oldest that is left",
              "topic=%s partition=%d wanted=%" PRId64, log_q(topic), partition, p->route.next);
    p->route.next = -1;
    p->ready = false;
    r->broken = true;
}

static void on_fatal(void *arg, const char *why)
{
    struct router *r = arg;
    log_error(r->o.log, "the router's group member is dead", "feed=%s why=%s", log_q(r->o.feed),
              log_q(why));
    parts_free(r);
}

/* ---- sending ---- */

static void on_routed(struct sent *s, int error, int partition, int64_t offset, const char *why)
{
    struct routed *x = LIST_ENTRY(s, struct routed, sent);
    struct router *r = x->router;
    r->under_way--;
    if (x->generation != r->generation) {
        ; /* of a former assignment: its offset is routed again, as a duplicate */
    } else if (error) {
        log_warn(r->o.log, "a request was not delivered; routing begins again at the commit",
                 "feed=%s why=%s", log_q(r->o.feed), log_q(why));
        r->broken = true;
    } else {
        FAILPOINT("route-acked");
        route_release(&r->parts[x->part]->route, x->offset);
        FAILPOINT("routed");
    }
    free(x);
    if (r->closing)
        finish(r);
}

bool router_full(const struct router *r)
{
    return r->o.full && r->o.full(r->o.full_arg, r->under_way);
}

int router_send(struct rpart *p, int64_t offset, const struct krec *rec)
{
    struct router *r = p->router;
    struct routed *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    x->sent.done = on_routed;
    x->router = r;
    x->generation = r->generation;
    x->offset = offset;
    while (x->part < r->nparts && r->parts[x->part] != p)
        x->part++;
    FAILPOINT("route");
    int error = kprod_send(r->o.prod, rec, &x->sent);
    FAILPOINT("route-sent");
    if (error) {
        free(x);
        return error;
    }
    r->under_way++;
    route_hold(&p->route, offset);
    return 0;
}

/* ---- life ---- */

struct router *router_new(const struct router_opts *o, struct err *e)
{
    struct router *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, -ENOMEM, NULL, "no memory");
        return NULL;
    }
    r->o = *o;
    if (!strcmp(o->feed, "live"))
        snprintf(r->group_id, sizeof r->group_id, "%s", o->names->router);
    else
        names_feed_group(r->group_id, sizeof r->group_id, o->config->group, o->feed);
    struct kgroup_opts g = {.group_id = r->group_id,
                            .topics = o->topics,
                            .instance_id = o->config->node_id,
                            .session_timeout_ms = o->config->session_timeout_ms,
                            .on_assign = on_assign,
                            .on_revoke = on_revoke,
                            .on_record = on_record,
                            .on_commit = on_commit,
                            .on_end = on_end,
                            .on_reset = on_reset,
                            .on_fatal = on_fatal,
                            .arg = r};
    r->admin = kadmin_new(o->config, e);
    if (r->admin)
        r->group = kgroup_new(o->klog, &g, e);
    if (!r->group) {
        kadmin_free(r->admin);
        free(r);
        return NULL;
    }
    return r;
}

/* Freed only when nothing under way can call back any more. */
static void finish(struct router *r)
{
    if (r->group || r->under_way || r->orphans || r->helping)
        return;
    void (*fn)(void *) = r->closed;
    void *arg = r->closed_arg;
    kadmin_free(r->admin);
    free(r);
    if (fn)
        fn(arg);
}

void router_orphan_gone(struct router *r)
{
    r->orphans--;
    if (r->closing)
        finish(r);
}

static void on_closed(void *arg)
{
    struct router *r = arg;
    r->group = NULL;
    parts_free(r);
    finish(r);
}

void router_close(struct router *r, void (*fn)(void *arg), void *arg)
{
    if (r->closing)
        return;
    r->closing = true;
    r->closed = fn;
    r->closed_arg = arg;
    kgroup_close(r->group, on_closed, r);
}

struct router *router_drop(struct router *r)
{
    if (!r)
        return NULL;
    kgroup_drop(r->group);
    parts_free(r);
    kadmin_free(r->admin);
    free(r);
    return NULL;
}

/* ---- the end of a replay ---- */

/* Everything that this node reads of the replay is routed and committed. */
static bool is_done_here(const struct router *r)
{
    for (size_t i = 0; i < r->nparts; i++) {
        const struct rpart *p = r->parts[i];
        if (!p->ended || !p->ready || p->njobs || p->route.n || p->committing ||
            route_floor(&p->route) > p->route.committed)
            return false;
    }
    return r->nparts > 0;
}

/* What is missing below the end was compacted or cut away: the commit says so to the other nodes.
 */
static void commit_to_end(struct rpart *p)
{
    if (p->router->o.nranges && p->ended && !p->njobs && !p->route.n && p->route.next < p->to)
        p->route.next = p->to;
}

struct check_done {
    struct pool_job job;
    struct router *router;
    bool all;
    struct kpart v[];
};

static void check_work(struct pool_job *j)
{
    struct check_done *c = LIST_ENTRY(j, struct check_done, job);
    const struct router_opts *o = &c->router->o;
    c->all =
        kadmin_committed(c->router->admin, c->router->group_id, c->v, o->nranges, 5000, NULL) == 0;
    for (size_t i = 0; i < o->nranges; i++) {
        const struct router_range *g = &o->ranges[i];
        c->all = c->all && (g->from >= g->to || c->v[i].offset >= g->to);
        free(c->v[i].metadata);
    }
}

static void check_done(struct pool_job *j)
{
    struct check_done *c = LIST_ENTRY(j, struct check_done, job);
    struct router *r = c->router;
    bool all = c->all;
    free(c);
    r->helping = false;
    if (r->closing) {
        finish(r);
    } else if (all && !r->done_told) {
        r->done_told = true;
        if (r->o.on_done)
            r->o.on_done(r->o.arg, r);
    }
}

/* Other nodes may still route their partitions: the replay is done when all commits are at its end.
 */
static void look_at_all(struct router *r)
{
    int64_t now = clock_boot_ms();
    struct check_done *c;
    if (r->done_told || r->helping || now - r->checked_ms < 500 || !is_done_here(r) ||
        !(c = calloc(1, sizeof *c + r->o.nranges * sizeof c->v[0])))
        return;
    c->router = r;
    c->job.work = check_work;
    c->job.done = check_done;
    for (size_t i = 0; i < r->o.nranges; i++)
        c->v[i] = (struct kpart){.topic = r->o.ranges[i].topic,
                                 .partition = r->o.ranges[i].partition,
                                 .offset = -1};
    r->checked_ms = now;
    if (pool_submit(r->o.helpers, &c->job) == 0)
        r->helping = true;
    else
        free(c);
}

void router_tick(struct router *r)
{
    bool full = router_full(r);
    if (r->closing)
        return;
    if (r->broken && !r->helping)
        restart(r);
    for (size_t i = 0; i < r->nparts; i++) {
        struct rpart *p = r->parts[i];
        jobs_run(p);
        commit_to_end(p);
        int64_t floor = route_floor(&p->route);
        if (p->ready && !p->committing && floor > p->route.committed)
            commit(p, floor);
        if (!p->ready && !p->committing && !r->helping && !needs_start(p))
            commit(p, p->route.next);
        bool want = full || p->njobs > (p->paused ? JOBS_PAUSE / 2 : JOBS_PAUSE) ||
                    p->route.n > ROUTE_WINDOW_MAX / 2;
        if (want != p->paused) {
            p->paused = want;
            want ? kgroup_pause(r->group, p->topic, p->partition)
                 : kgroup_resume(r->group, p->topic, p->partition);
        }
    }
    if (r->o.nranges)
        look_at_all(r);
}

void router_defs_changed(struct router *r)
{
    (void)r; /* the table is read event by event: nothing is kept */
}

int64_t router_routed(const struct router *r)
{
    return r->routed;
}

int64_t router_dead(const struct router *r)
{
    return r->dead;
}
