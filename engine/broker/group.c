/* Consumer groups: life cycle, timers and the rebalance. See group.h for states and invariants.
 *
 * Owning thread: the broker's thread. */
#include <errno.h>
#include <stdlib.h>

#include "broker/group.h"

/* Clients may say that a rebalance takes no time at all. */
#define WAIT_ON_MIN_MS 1000

void groups_init(struct groups *gs, const struct groups_ops *ops, void *arg)
{
    *gs = (struct groups){.ops = ops, .arg = arg};
    map_init(&gs->by_name);
    heap_init(&gs->timers);
}

void groups_clock(struct groups *gs, int64_t now_ms, int64_t wall_ms)
{
    gs->now_ms = now_ms;
    gs->wall_ms = wall_ms;
}

int64_t groups_next_ms(const struct groups *gs)
{
    struct heap_node *n = heap_top(&gs->timers);
    return n ? n->key : -1;
}

void groups_tick(struct groups *gs)
{
    struct heap_node *n;
    while ((n = heap_top(&gs->timers)) && n->key <= gs->now_ms) {
        heap_remove(&gs->timers, n);
        struct group_timer *t =
            (struct group_timer *)((char *)n - offsetof(struct group_timer, node));
        t->fn(t);
    }
}

void group_timer_set(struct group_timer *t, int64_t in_ms)
{
    struct groups *gs = t->g->gs;
    heap_remove(&gs->timers, &t->node);
    /* Without memory the timer does not run: a silent member then stays until the next rebalance.
     */
    (void)heap_add(&gs->timers, &t->node, gs->now_ms + in_ms);
}

void group_timer_unset(struct group_timer *t)
{
    heap_remove(&t->g->gs->timers, &t->node);
}

struct group *group_find(struct groups *gs, struct slice id)
{
    return map_get(&gs->by_name, id);
}

static void group_free(struct group *g)
{
    size_t pos = 0;
    void *o;
    struct slice key;
    group_clear(g);
    while (map_next(&g->offsets, &pos, &key, &o))
        free(o);
    map_free(&g->offsets);
    group_timer_unset(&g->timer);
    free(g->protocol_type);
    free(g->id);
    free(g);
}

static void on_rebalance_time(struct group_timer *t);

struct group *group_get(struct groups *gs, struct slice id)
{
    struct group *g = group_find(gs, id);
    if (g || gs->by_name.n >= GROUPS_MAX)
        return g;
    g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->gs = gs;
    g->id = sl_dup(id);
    g->timer = (struct group_timer){.fn = on_rebalance_time, .g = g};
    list_init(&g->members);
    list_init(&g->pending);
    map_init(&g->offsets);
    g->state_ms = gs->wall_ms;
    if (!g->id || map_put(&gs->by_name, id, g, NULL) < 0) {
        group_free(g);
        return NULL;
    }
    group_forget_later(g);
    return g;
}

void group_drop(struct group *g)
{
    struct groups *gs = g->gs;
    group_set_state(g, GROUP_DEAD);
    map_del(&gs->by_name, sl_str(g->id));
    group_free(g);
}

void group_forget_later(struct group *g)
{
    if (g->state == GROUP_EMPTY && g->offsets.n == 0)
        group_timer_set(&g->timer, GROUP_FORGET_MS);
}

/* Frees a group that has nothing left to keep. */
static void maybe_forget(struct group *g)
{
    if (g->npending || g->commits_pending || g->storing)
        group_forget_later(g);
    else if (g->offsets.n == 0) {
        g->gs->ops->forget(g->gs->arg, g);
        group_drop(g);
    }
}

static void answer_all(struct group *g, int16_t error)
{
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        group_answer_join(m, error);
        group_answer_sync(m, error);
    }
}

void groups_free(struct groups *gs)
{
    size_t pos = 0;
    struct slice key;
    void *g;
    while (map_next(&gs->by_name, &pos, &key, &g)) {
        answer_all(g, KERR_COORDINATOR_NOT_AVAILABLE);
        group_free(g);
    }
    map_free(&gs->by_name);
    heap_free(&gs->timers);
}

const char *group_state_name(enum group_state s)
{
    static const char *const names[] = {"Empty", "PreparingRebalance", "CompletingRebalance",
                                        "Stable", "Dead"};
    return names[s];
}

int16_t group_id_check(struct slice id)
{
    return id.n >= 1 && id.n <= GROUP_NAME_MAX ? KERR_NONE : KERR_INVALID_GROUP_ID;
}

void group_set_state(struct group *g, enum group_state s)
{
    g->state = s;
    g->state_ms = g->gs->wall_ms;
    if (s == GROUP_EMPTY || s == GROUP_PREPARING) {
        free(g->protocol);
        g->protocol = NULL;
    }
}

struct member *group_find_member(struct group *g, struct slice id)
{
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        if (sl_is(id, m->id))
            return m;
    }
    return NULL;
}

struct member *group_static(struct group *g, struct slice instance)
{
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        if (m->instance && sl_is(instance, m->instance))
            return m;
    }
    return NULL;
}

int16_t group_claim(struct group *g, struct slice id, struct slice instance, struct member **ret)
{
    struct member *m;
    if (instance.p) {
        m = group_static(g, instance);
        if (m && !sl_is(id, m->id))
            return KERR_FENCED_INSTANCE_ID;
    } else {
        m = group_find_member(g, id);
    }
    if (!m)
        return KERR_UNKNOWN_MEMBER_ID;
    *ret = m;
    return KERR_NONE;
}

static bool member_knows(const struct member *m, struct slice protocol)
{
    for (int i = 0; i < m->nprotocols; i++) {
        if (sl_eq(m->protocols[i].name, protocol))
            return true;
    }
    return false;
}

static int find_name(const struct slice *v, int n, struct slice name)
{
    for (int i = 0; i < n; i++) {
        if (sl_eq(v[i], name))
            return i;
    }
    return -1;
}

static bool all_know(const struct group *g, struct slice protocol)
{
    LIST_EACH(n, &g->members)
    {
        if (!member_knows(LIST_ENTRY(n, struct member, node), protocol))
            return false;
    }
    return true;
}

/* Each member votes for the first of its own that all know; most votes win. */
struct slice group_choose(const struct group *g)
{
    struct slice common[GROUP_PROTOCOLS_MAX];
    int ncommon = 0, votes[GROUP_PROTOCOLS_MAX] = {0}, best = 0;
    if (g->members.next == &g->members)
        return (struct slice){NULL, 0};
    const struct member *first = LIST_ENTRY(g->members.next, struct member, node);
    for (int i = 0; i < first->nprotocols; i++) {
        if (all_know(g, first->protocols[i].name))
            common[ncommon++] = first->protocols[i].name;
    }
    LIST_EACH(n, &g->members)
    {
        const struct member *m = LIST_ENTRY(n, struct member, node);
        int at = -1;
        for (int i = 0; i < m->nprotocols && at < 0; i++)
            at = find_name(common, ncommon, m->protocols[i].name);
        if (at >= 0)
            votes[at]++;
    }
    for (int i = 1; i < ncommon; i++) {
        if (votes[i] > votes[best])
            best = i;
    }
    return ncommon ? common[best] : (struct slice){NULL, 0};
}

void group_answer_join(struct member *m, int16_t error)
{
    struct group *g = m->g;
    void *token = m->join_token;
    if (!token)
        return;
    m->join_token = NULL;
    struct group_joined r = {.error = error, .generation = -1, .member = sl_str(m->id)};
    if (!error) {
        r.generation = g->generation;
        r.protocol_type = sl_str(g->protocol_type);
        r.protocol = sl_str(g->protocol);
        r.leader = g->leader ? sl_str(g->leader->id) : SL("");
        r.members = m == g->leader ? g : NULL;
        group_member_alive(m);
    }
    g->gs->ops->joined(g->gs->arg, token, &r);
}

void group_answer_sync(struct member *m, int16_t error)
{
    struct group *g = m->g;
    void *token = m->sync_token;
    if (!token)
        return;
    m->sync_token = NULL;
    struct group_synced r = {.error = error};
    if (!error) {
        r.protocol_type = sl_str(g->protocol_type);
        r.protocol = sl_str(g->protocol);
        r.assignment = sl(m->assignment ? m->assignment : "", m->nassignment);
        group_member_alive(m);
    }
    g->gs->ops->synced(g->gs->arg, token, &r);
}

static int longest_rebalance(const struct group *g)
{
    int ms = 0;
    LIST_EACH(n, &g->members)
    {
        const struct member *m = LIST_ENTRY(n, struct member, node);
        ms = m->rebalance_ms > ms ? m->rebalance_ms : ms;
    }
    return ms;
}

/* Asks every member to join again. Those that wait for an assignment of the old generation are told
 * so; those that come with heartbeats learn it there. */
void group_rebalance(struct group *g)
{
    bool first = g->state == GROUP_EMPTY;
    if (g->state == GROUP_PREPARING || g->state == GROUP_DEAD)
        return;
    group_set_state(g, GROUP_PREPARING);
    LIST_EACH(n, &g->members)
    {
        group_answer_sync(LIST_ENTRY(n, struct member, node), KERR_REBALANCE_IN_PROGRESS);
    }
    group_timer_set(&g->timer, first && g->gs->initial_delay_ms ? g->gs->initial_delay_ms
                                                                : longest_rebalance(g));
}

void group_store(struct group *g)
{
    g->storing++;
    g->gs->ops->store(g->gs->arg, g);
}

/* A new generation of those that joined. */
static void next_generation(struct group *g)
{
    group_timer_unset(&g->timer);
    g->generation++;
    if (g->nmembers == 0) {
        g->leader = NULL;
        group_set_state(g, GROUP_EMPTY);
        group_store(g);
        group_forget_later(g);
        return;
    }
    struct slice protocol = group_choose(g);
    group_set_state(g, GROUP_COMPLETING);
    free(g->protocol);
    g->protocol = sl_dup(protocol);
    g->assigned = false;
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        free(m->assignment);
        m->assignment = NULL;
        m->nassignment = 0;
    }
    /* A member that does not come back with SyncGroup is expelled with the same time-out. */
    group_timer_set(&g->timer, longest_rebalance(g));
    LIST_EACH(n, &g->members)
    {
        group_answer_join(LIST_ENTRY(n, struct member, node), KERR_NONE);
    }
}

static bool all_joined(const struct group *g)
{
    LIST_EACH(n, &g->members)
    {
        if (!LIST_ENTRY(n, struct member, node)->join_token)
            return false;
    }
    return g->npending == 0;
}

void group_try_complete(struct group *g)
{
    if (g->state != GROUP_PREPARING || !all_joined(g))
        return;
    /* The first rebalance of a group takes its whole delay, so that members that start together are
     * in one generation. */
    if (g->generation == 0 && g->gs->initial_delay_ms && heap_in(&g->timer.node) && g->nmembers)
        return;
    next_generation(g);
}

/* Members that must act and did not: gone, except static ones that have not yet missed a session.
 */
static void expel_silent(struct group *g)
{
    bool joining = g->state == GROUP_PREPARING;
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        bool silent = joining ? !m->join_token : !m->sync_token;
        if (silent && (!m->instance || !joining))
            member_remove(m);
    }
    LIST_EACH(n, &g->pending)
    {
        member_remove(LIST_ENTRY(n, struct member, node));
    }
}

static struct member *any_joining(struct group *g)
{
    LIST_EACH(n, &g->members)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        if (m->join_token)
            return m;
    }
    return NULL;
}

static void on_rebalance_time(struct group_timer *t)
{
    struct group *g = t->g;
    if (g->state == GROUP_EMPTY) {
        maybe_forget(g); /* may free it */
    } else if (g->state == GROUP_COMPLETING && !g->assigned) {
        expel_silent(g);
        group_rebalance(g);
        group_try_complete(g);
    } else if (g->state == GROUP_PREPARING) {
        expel_silent(g);
        struct member *m = any_joining(g);
        if (g->nmembers && !m) { /* only static members, none of them back yet: wait on */
            int ms = longest_rebalance(g);
            group_timer_set(t, ms > WAIT_ON_MIN_MS ? ms : WAIT_ON_MIN_MS);
            return;
        }
        if (g->leader && !g->leader->join_token)
            g->leader = m;
        next_generation(g);
    }
}
