/* Which steps are possible, in a fixed order; and the end, when faults stop. */
#include <string.h>

#include "sim.h"

struct list_s {
    struct step_s *v;
    size_t n, max;
};

static void add(struct list_s *l, enum step_kind k, int node, int arg)
{
    if (l->n < l->max)
        l->v[l->n++] = (struct step_s){k, node, arg};
}

static bool movable(const struct world *w, const struct group_s *g, const struct node_s *n,
                    bool journal)
{
    const struct node_s *h = g->node >= 0 ? &w->nodes[g->node] : NULL;
    if (!h || !h->alive || (journal ? h->gen_j : h->gen_s) != g->gen)
        return true;
    return h != n && (world_up(h) || w->now >= g->seen + LEASE_TICKS);
}

static void owner_steps(struct world *w, struct node_s *n, struct list_s *l)
{
    struct part *p = n->part;
    char metadata[128];
    bool todo = !list_empty(&p->ready) || !list_empty(&p->todo) || (p->starts.n && n->active < 3);
    LIST_EACH(it, &p->st.ends)
    todo = todo || !LIST_ENTRY(it, struct ended, node)->telling;
    if (todo || part_next_due(p) <= p->wall_ms)
        add(l, ST_WORK, n->name, 0);
    for (int i = 0; i < 64; i++) {
        struct seffect *e = &n->effects[i];
        struct run *r = e->used ? part_run(p, e->run) : NULL;
        if (e->used && e->begun)
            add(l, ST_FINISH, n->name, i);
        else if (e->used && (!r || part_may_begin(p, r)))
            add(l, ST_BEGIN, n->name, i);
        if (e->used && e->begun && e->may_fail)
            add(l, ST_FAIL, n->name, i);
    }
    for (size_t i = 0; i < n->ntells; i++)
        add(l, ST_TELL, n->name, (int)i);
    int64_t mark = part_mark(p);
    part_metadata(p, mark, metadata);
    if (mark != w->mark || (metadata[0] && strcmp(metadata, w->metadata)))
        add(l, ST_COMMIT, n->name, 0);
    if (p->st.next > p->state_next + 3)
        add(l, ST_PART, n->name, 0);
    if (heap_top(&p->st.pins) && p->st.next - heap_top(&p->st.pins)->key > 5)
        add(l, ST_SNAP, n->name, 0);
    if (part_cut(p) > w->start)
        add(l, ST_CUT, n->name, 0);
    if (n->asked_floors)
        add(l, ST_FLOORS, n->name, 0);
}

static void node_steps(struct world *w, struct node_s *n, struct list_s *l)
{
    int me = n->name;
    if (n->acks.n)
        add(l, ST_ACK, me, 0);
    if (n->part && n->part->status == PART_FOLLOWING)
        add(l, ST_CLAIM, me, 0);
    if (n->part && n->position < w->end)
        add(l, ST_CONSUME, me, 0);
    if (n->gen_s >= 0) {
        if (n->route.next < w->events)
            add(l, ST_ROUTE, me, 0);
        if (route_floor(&n->route) > n->route.committed)
            add(l, ST_SCOMMIT, me, 0);
    }
    if ((n->gen_j >= 0 && n->gen_j != w->j.gen) || (n->gen_s >= 0 && n->gen_s != w->s.gen))
        add(l, ST_LEARN, me, 0);
    if (n->renew_sent >= 0)
        add(l, ST_RENEWED, me, 0);
    else if (n->part && n->part->lease_until - w->now * TICK_MS < LEASE_TICKS * TICK_MS / 2)
        add(l, ST_RENEW, me, 0);
    if (n->part) {
        world_time(w, n);
        if (n->part->status == PART_OWNER)
            owner_steps(w, n, l);
    }
    if (w->draining)
        return;
    add(l, ST_PAUSE, me, 0);
    if (w->crashes < 6)
        add(l, ST_CRASH, me, 0);
    if (n->inflight.n && w->norphans < 16)
        add(l, ST_ERROR, me, 0);
    if (w->keyed < 4)
        add(l, ST_KEYED, me, (int)(w->rng % 4));
    if (w->controls < 4)
        add(l, ST_CONTROL, me, (int)(w->rng % (uint64_t)(3 * w->events)));
}

size_t world_steps(struct world *w, struct step_s *v, size_t max)
{
    struct list_s l = {v, 0, max};
    if (w->end > LOG_MAX - 64)
        return 0;
    add(&l, ST_TICK, 0, 0);
    for (int i = 0; i < NODES; i++) {
        struct node_s *n = &w->nodes[i];
        if (world_up(n)) {
            node_steps(w, n, &l);
            if (movable(w, &w->j, n, true) &&
                (!w->draining || w->j.node < 0 || w->nodes[w->j.node].gen_j != w->j.gen))
                add(&l, ST_ASSIGN, i, 0);
            if (movable(w, &w->s, n, false) &&
                (!w->draining || w->s.node < 0 || w->nodes[w->s.node].gen_s != w->s.gen))
                add(&l, ST_SASSIGN, i, 0);
        } else {
            add(&l, n->alive ? ST_GO : ST_RESTART, i, 0);
        }
        if (n->inflight.n) {
            add(&l, ST_LAND, i, 0);
            if (!w->draining)
                add(&l, ST_LOST, i, 0);
        }
    }
    for (size_t i = 0; i < w->norphans; i++) {
        add(&l, ST_ORPHAN, 0, (int)i);
        if (!w->draining)
            add(&l, ST_DROP, 0, (int)i);
    }
    if (!w->draining && w->end > 3)
        add(&l, ST_COMPACT, 0, 0);
    return l.n;
}

/* A run that stands still because it is suspended is no fault: it is resumed. */
static bool resume_one(struct world *w)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&w->canon.runs, &pos, &k, &v))
        for (int src = 0; src < w->events; src++)
            if (((struct run *)v)->known.status == RUN_SUSPENDED &&
                ((struct run *)v)->known.src.offset == src) {
                world_control(w, &w->nodes[0], src + 2 * w->events);
                return true;
            }
    return false;
}

void world_drain(struct world *w)
{
    struct step_s v[512];
    w->draining = true;
    say(w, "-- faults stop");
    for (int i = 0; i < NODES; i++) {
        w->nodes[i].paused = false;
        w->nodes[i].alive = true;
    }
    while (w->norphans && !w->violation[0])
        world_do(w, (struct step_s){ST_ORPHAN, 0, 0});
    for (int i = 0; i < 6000 && !w->violation[0]; i++) {
        size_t n = world_steps(w, v, 512);
        bool only_time = true;
        for (int k = 0; k < NODES; k++) /* without a lease nothing begins: its renewal is work */
            if (w->nodes[k].part && w->nodes[k].part->status == PART_OWNER &&
                (w->nodes[k].part->lease_until <= w->now * TICK_MS ||
                 part_next_due(w->nodes[k].part) != INT64_MAX)) /* a retry or a timeout comes */
                only_time = false;
        for (size_t k = 0; k < n; k++) /* what keeps itself going does not count as work */
            only_time = only_time &&
                        (v[k].kind == ST_TICK || v[k].kind == ST_RENEW || v[k].kind == ST_RENEWED ||
                         v[k].kind == ST_PART || v[k].kind == ST_COMMIT || v[k].kind == ST_CUT ||
                         v[k].kind == ST_FLOORS || v[k].kind == ST_SNAP);
        if (only_time && n) {
            if (resume_one(w))
                continue;
            check_end(w);
            return;
        }
        world_do(w, v[world_random(w) % n]);
    }
    if (!w->violation[0] && w->end <= LOG_MAX - 64)
        violate(w, "I8 no rest after the faults stopped");
}
