/* The world of sim.h: what can happen, and how it is done to the real core. */
#include "sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *const step_names[ST_KINDS] = {"tick",    "consume", "ack",     "land",    "lost",
                                          "work",    "begin",   "finish",  "fail",    "route",
                                          "scommit", "claim",   "renew",   "renewed", "commit",
                                          "part",    "snap",    "cut",     "tell",    "control",
                                          "learn",   "pause",   "go",      "crash",   "restart",
                                          "error",   "assign",  "sassign", "orphan",  "drop",
                                          "compact", "floors",  "keyed"};

uint64_t world_random(struct world *w)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng;
}

void say(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (!w->trace)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void violate(struct world *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!w->violation[0])
        vsnprintf(w->violation, sizeof w->violation, fmt, ap);
    va_end(ap);
    say(w, "VIOLATION %s", w->violation);
}

/* ---- queues ---- */

static void push(struct queue_s *q, struct srec *s)
{
    if (q->n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 16;
        q->v = realloc(q->v, q->cap * sizeof *q->v);
    }
    q->v[q->n++] = s;
}

static struct srec *pop(struct queue_s *q)
{
    struct srec *s = q->v[0];
    memmove(q->v, q->v + 1, --q->n * sizeof *q->v);
    return s;
}

static void srec_free(struct srec *s)
{
    rec_unref(s->rec);
    rec_wire_free(&s->wire);
    free(s);
}

static void drop_all(struct queue_s *q)
{
    for (size_t i = 0; i < q->n; i++)
        srec_free(q->v[i]);
    free(q->v);
    memset(q, 0, sizeof *q);
}

static void drop_between(struct slice *key, size_t from, size_t to)
{
    memmove((char *)key->p + from, key->p + to, key->n - to);
    key->n -= to - from;
}

/* A rule about keys that is switched off takes its part out of the key. */
static void cut_key(struct world *w, struct srec *s)
{
    struct slice *k = &s->wire.key;
    const char *at = memchr(k->p, '@', k->n), *slash;
    enum rec_type t = s->rec->type;
    bool task = t >= REC_TASK_STARTED && t <= REC_TASK_CAUGHT;
    if (!at)
        return;
    size_t end = (size_t)(at - k->p), from = end;
    if (w->off & SIM_KEYS)
        k->n = end;
    slash = memrchr(k->p, '/', end);
    if (slash)
        from = (size_t)(slash - k->p);
    if ((w->off & SIM_PART_KEY && t == REC_PART_STATE) ||
        (w->off & SIM_STATE_KEY && t == REC_SNAPSHOT) || (w->off & SIM_TASK_KEY && task))
        drop_between(k, from + 1, end);
}

struct srec *world_send(struct world *w, struct node_s *n, struct rec *r, bool fact, int source)
{
    struct srec *s = calloc(1, sizeof *s);
    s->rec = rec_ref(r);
    s->node = n->name;
    s->fact = fact;
    s->present = true;
    s->source = source;
    if (rec_encode(r, &s->wire) < 0)
        violate(w, "a record of type %s can't be encoded", rec_type_name(r->type));
    cut_key(w, s);
    push(&n->inflight, s);
    return s;
}

static struct bound bounds[NODES];

/* ---- life ---- */

void world_time(struct world *w, struct node_s *n)
{
    if (n->part)
        part_time(n->part, w->now * TICK_MS, 1700000000000 + w->now * TICK_MS);
}

static void forget_journal(struct world *w, struct node_s *n)
{
    n->part = part_free(n->part);
    n->gen_j = -1;
    n->renew_sent = -1;
    n->ntells = 0;
    n->asked_floors = false;
    n->active = 0;
    memset(n->effects, 0, sizeof n->effects);
}

static void forget_source(struct node_s *n)
{
    route_free(&n->route);
    route_init(&n->route, 0);
    n->gen_s = -1;
}

void world_open(struct world *w, uint64_t seed, uint32_t off)
{
    bool trace = w->trace;
    memset(w, 0, sizeof *w);
    w->trace = trace;
    w->rng = seed * 0x9e3779b97f4a7c15u + 0x1234567;
    for (int i = 0; i < 8; i++)
        world_random(w);
    w->off = off;
    w->events = 1 + (int)(world_random(w) % 4);
    w->agents = (int)(world_random(w) % 4);
    w->j.node = w->s.node = -1;
    w->mark = w->src_mark = 0;
    state_init(&w->canon, 0);
    map_init(&w->begun);
    map_init(&w->ended);
    map_init(&w->told);
    map_init(&w->keys);
    struct buf b;
    buf_init(&b, 1 << 20);
    state_digest(&w->canon, &b);
    w->hist[0] = hash64(buf_slice(&b), 1);
    buf_free(&b);
    for (int i = 0; i < NODES; i++) {
        w->nodes[i] =
            (struct node_s){.name = i, .alive = true, .gen_j = -1, .gen_s = -1, .renew_sent = -1};
        route_init(&w->nodes[i].route, 0);
        bounds[i] = (struct bound){w, &w->nodes[i]};
    }
}

void world_close(struct world *w)
{
    for (int i = 0; i < NODES; i++) {
        part_free(w->nodes[i].part);
        drop_all(&w->nodes[i].inflight);
        free(w->nodes[i].acks.v); /* what landed belongs to the log */
        route_free(&w->nodes[i].route);
    }
    for (size_t i = 0; i < w->norphans; i++)
        drop_all(&w->orphans[i]);
    for (int64_t i = 0; i < w->end; i++)
        srec_free(w->log[i]);
    for (size_t i = 0; i < w->nledger; i++)
        free(w->ledger[i].given);
    free(w->ledger);
    state_free(&w->canon);
    map_free(&w->begun);
    map_free(&w->ended);
    map_free(&w->told);
    map_free(&w->keys);
}

/* ---- steps ---- */

bool world_up(const struct node_s *n)
{
    return n->alive && !n->paused;
}

bool world_start(const struct world *w, const char *metadata, struct part_mark *m)
{
    if (part_metadata_read(metadata, m) < 0)
        return false;
    if (w->off & SIM_PART_AT)
        m->at = m->last + 1;
    return true;
}

static void do_assign(struct world *w, struct node_s *n)
{
    struct node_s *h = w->j.node >= 0 ? &w->nodes[w->j.node] : NULL;
    if (h && world_up(h) && h->gen_j == w->j.gen)
        forget_journal(w, h);
    w->j = (struct group_s){.node = n->name, .gen = w->j.gen + 1, .seen = w->now};
    forget_journal(w, n);
    n->gen_j = w->j.gen;
    struct part_opts o = {.partition = 0,
                          .lease_ms = LEASE_TICKS * TICK_MS,
                          .state_every_ms = 1,
                          .snapshot_bytes_min = 1,
                          .history_ms = 0};
    n->part = part_new(&o, &world_ops, &bounds[n->name]);
    n->part->off = w->off & ~(uint32_t)SIM_ALL;
    world_time(w, n);
    struct part_mark m;
    if (world_start(w, w->metadata, &m)) {
        struct srec *s = w->log[m.first];
        if (!s->present) {
            violate(w, "I6 the committed starting point at %" PRId64 " is gone", m.first);
            return;
        }
        struct rec *r = srec_read(s);
        struct slice text = val_text(r->value);
        part_start(n->part, w->mark, 0, &text, r->epoch, r->nonce, &m);
        rec_unref(r);
    } else {
        part_start(n->part, w->mark, w->start, NULL, -1, 0, NULL);
    }
    n->position = n->part->st.next;
}

static void do_sassign(struct world *w, struct node_s *n)
{
    struct node_s *h = w->s.node >= 0 ? &w->nodes[w->s.node] : NULL;
    if (h && world_up(h) && h->gen_s == w->s.gen)
        forget_source(h);
    w->s = (struct group_s){.node = n->name, .gen = w->s.gen + 1, .seen = w->now};
    forget_source(n);
    route_free(&n->route);
    route_init(&n->route, w->src_mark);
    n->gen_s = w->s.gen;
}

static void do_consume(struct world *w, struct node_s *n)
{
    if (n->position < w->start) {
        if (n->part->st.next < w->start) {
            if (n->gen_j == w->j.gen)
                violate(w, "I4 the log was cut to %" PRId64 " under node %d at %" PRId64, w->start,
                        n->name, n->part->st.next);
            forget_journal(w, n);
            return;
        }
        n->position = w->start;
    }
    while (n->position < w->end && !w->log[n->position]->present)
        n->position++;
    if (n->position >= w->end)
        return;
    struct srec *s = w->log[n->position];
    struct rec *r = srec_read(s);
    part_consumed(n->part, s->offset, r);
    rec_unref(r);
    n->position = s->offset + 1;
    check_live(w, n);
}

static void land(struct world *w, struct srec *s)
{
    s->offset = w->end;
    w->log[w->end++] = s;
    check_landed(w, s);
}

static void do_land(struct world *w, struct node_s *n, bool lost)
{
    struct srec *s = pop(&n->inflight);
    land(w, s);
    if (!n->alive)
        return;
    push(&n->acks, s);
    if (lost)
        s->node |= 0x100; /* the acknowledgement will not tell the offset */
}

static void do_ack(struct world *w, struct node_s *n)
{
    struct srec *s = pop(&n->acks);
    bool lost = s->node & 0x100;
    if (s->source >= 0)
        route_release(&n->route, s->source);
    if (s->fact && n->part) {
        part_acked(n->part, s->rec, lost ? -1 : s->offset);
        check_live(w, n);
    }
}

static void do_begin(struct world *w, struct node_s *n, int i)
{
    struct seffect *e = &n->effects[i];
    struct run *r = part_run(n->part, e->run);
    if (!r || r->work_id != e->work_id || r->busy != BUSY_EFFECT) {
        e->used = false;
        return;
    }
    if (!part_may_begin(n->part, r))
        return;
    e->begun = true;
    e->may_fail = flow_task(flow_of(r->spec.agent), sl_str(r->spec.ref))->parent &&
                  r->spec.nframes &&
                  r->spec.frames[0].ref[strlen(r->spec.frames[0].ref) - 1] == 'F';
    check_effect(w, n, r, flow_task(flow_of(r->spec.agent), sl_str(r->spec.ref)));
}

static void do_finish(struct world *w, struct node_s *n, int i)
{
    struct seffect e = n->effects[i];
    n->effects[i].used = false;
    part_effect_done(n->part, e.run, e.work_id, json_object_new_int64((int64_t)++w->outputs), NULL);
}

static void do_fail(struct world *w, struct node_s *n, int i)
{
    struct seffect e = n->effects[i];
    struct problem p = {0};
    n->effects[i].used = false;
    problem_set(&p, "communication", 0, NULL, "the simulation says so");
    part_effect_done(n->part, e.run, e.work_id, NULL, &p);
    problem_free(&p);
}

static void do_route(struct world *w, struct node_s *n)
{
    char id[RUN_ID_MAX], text[64], uuid[32];
    int src = (int)n->route.next;
    struct rec *r;
    snprintf(text, sizeof text, "%d", src);
    run_id_make(id, 0, SL("sim/x"), SL("live"), SL("src"), sl_str(text));
    r = rec_new(REC_REQUESTED, id);
    snprintf(text, sizeof text, "{\"agent\":\"sim/x\",\"input\":%d}", src);
    snprintf(uuid, sizeof uuid, "u%" PRIu64, ++w->uuids);
    r->value = val_text_new(sl_str(text));
    r->agent = strdup(agent_hash(w, src));
    r->uuid = strdup(uuid);
    r->src.name = strdup("live:src/1/0");
    r->src.offset = src;
    r->src.floor = n->route.committed;
    r->time_ms = 1700000000000 + w->now * TICK_MS;
    route_begin(&n->route, src);
    world_send(w, n, r, false, src);
    rec_unref(r);
}

/* arg: event, plus `events` for a suspension, twice that for a resume. */
void world_control(struct world *w, struct node_s *n, int arg)
{
    static const enum rec_type types[] = {REC_CANCEL, REC_SUSPEND, REC_RESUME};
    int src = arg % w->events;
    char id[RUN_ID_MAX], text[32], uuid[32];
    snprintf(text, sizeof text, "%d", src);
    run_id_make(id, 0, SL("sim/x"), SL("live"), SL("src"), sl_str(text));
    struct rec *r = rec_new(types[arg / w->events], id);
    snprintf(uuid, sizeof uuid, "u%" PRIu64, ++w->uuids);
    r->uuid = strdup(uuid);
    r->value = val_text_new(SL("{}"));
    r->time_ms = 1700000000000 + w->now * TICK_MS;
    w->controls++;
    world_send(w, n, r, false, -1);
    rec_unref(r);
}

/* A gateway's request with an idempotency key. arg: one of two keys, plus twice one of two bodies.
 */
void world_keyed(struct world *w, struct node_s *n, int arg)
{
    char id[RUN_ID_MAX], text[64], uuid[32];
    snprintf(text, sizeof text, "%d", arg % 2);
    run_id_make(id, 0, SL("sim/x"), SL("api"), SL("key"), sl_str(text));
    struct rec *r = rec_new(REC_REQUESTED, id);
    snprintf(text, sizeof text, "{\"agent\":\"sim/x\",\"input\":%d}", arg / 2);
    snprintf(uuid, sizeof uuid, "u%" PRIu64, ++w->uuids);
    r->value = val_text_new(sl_str(text));
    r->agent = strdup(agent_hash(w, arg / 2));
    r->uuid = strdup(uuid);
    r->keyed = true;
    r->idem = (uint64_t)(arg / 2);
    r->time_ms = 1700000000000 + w->now * TICK_MS;
    w->keyed++;
    world_send(w, n, r, false, -1);
    rec_unref(r);
}

static void do_crash(struct world *w, struct node_s *n)
{
    if (n->inflight.n && w->norphans < 16)
        w->orphans[w->norphans++] = n->inflight;
    else
        drop_all(&n->inflight);
    free(n->acks.v);
    forget_journal(w, n);
    forget_source(n);
    memset(&n->inflight, 0, sizeof n->inflight);
    memset(&n->acks, 0, sizeof n->acks);
    n->alive = false;
    w->crashes++;
}

/* The producer is lost: what it sent may land later, and is of nobody. */
static void do_error(struct world *w, struct node_s *n)
{
    if (w->off & SIM_GAPLESS) { /* one record is lost, and the producer goes on */
        srec_free(pop(&n->inflight));
        return;
    }
    if (n->inflight.n && w->norphans < 16)
        w->orphans[w->norphans++] = n->inflight;
    else
        drop_all(&n->inflight);
    free(n->acks.v);
    memset(&n->inflight, 0, sizeof n->inflight);
    memset(&n->acks, 0, sizeof n->acks);
    int64_t committed = n->route.committed;
    route_free(&n->route);
    route_init(&n->route, committed);
    if (n->part)
        part_end_ownership(n->part);
}

static void do_commit(struct world *w, struct node_s *n)
{
    char metadata[128];
    if (n->gen_j != w->j.gen) {
        forget_journal(w, n);
        return;
    }
    w->j.seen = w->now;
    int64_t mark = part_mark(n->part);
    part_metadata(n->part, mark, metadata);
    if (!metadata[0])
        snprintf(metadata, sizeof metadata, "%s", w->metadata);
    check_commit(w, mark, metadata);
    w->mark = mark;
    memcpy(w->metadata, metadata, sizeof metadata);
    part_committed(n->part, mark, metadata);
    check_starts(w);
}

static void do_cut(struct world *w, struct node_s *n)
{
    int64_t before = part_cut(n->part);
    for (int64_t i = w->start; i < before; i++)
        w->log[i]->present = false;
    w->start = before;
    check_starts(w);
}

static void do_compact(struct world *w)
{
    compact_to(w, w->end);
    check_starts(w);
}

static void drop_orphans(struct world *w, int i)
{
    drop_all(&w->orphans[i]);
    w->orphans[i] = w->orphans[--w->norphans];
}

static void learn(struct world *w, struct node_s *n)
{
    if (n->gen_j >= 0 && n->gen_j != w->j.gen)
        forget_journal(w, n);
    if (n->gen_s >= 0 && n->gen_s != w->s.gen)
        forget_source(n);
}

static void do_scommit(struct world *w, struct node_s *n)
{
    if (n->gen_s != w->s.gen)
        forget_source(n);
    else
        n->route.committed = w->src_mark = route_floor(&n->route);
}

static void do_renew(struct world *w, struct node_s *n)
{
    n->renew_sent = w->now * TICK_MS;
    n->renew_ok = n->gen_j == w->j.gen;
    if (n->renew_ok)
        w->j.seen = w->now;
}

static void do_renewed(struct world *w, struct node_s *n)
{
    if (n->renew_ok)
        part_leased(n->part, n->renew_sent);
    else
        forget_journal(w, n);
    n->renew_sent = -1;
}

static void do_tell(struct world *w, struct node_s *n, int i)
{
    if (!map_has(&w->ended, sl_str(n->tells[i])))
        violate(w, "I1 %s was told before its end is in the log", n->tells[i]);
    map_put(&w->told, sl_str(n->tells[i]), (void *)1, NULL);
    part_told(n->part, n->tells[i]);
    memmove(n->tells[i], n->tells[i + 1], (--n->ntells - (size_t)i) * RUN_ID_MAX);
}

static void do_effect(struct world *w, struct node_s *n, struct step_s s)
{
    if (s.kind == ST_BEGIN)
        do_begin(w, n, s.arg);
    else if (s.kind == ST_FINISH)
        do_finish(w, n, s.arg);
    else
        do_fail(w, n, s.arg);
}

static void do_node(struct world *w, struct step_s s, struct node_s *n)
{
    world_time(w, n);
    switch (s.kind) {
    case ST_CONSUME:
        do_consume(w, n);
        break;
    case ST_ACK:
        do_ack(w, n);
        break;
    case ST_LAND:
        do_land(w, n, false);
        break;
    case ST_LOST:
        do_land(w, n, true);
        break;
    case ST_WORK:
        part_work(n->part);
        break;
    case ST_BEGIN:
    case ST_FINISH:
    case ST_FAIL:
        do_effect(w, n, s);
        break;
    case ST_ROUTE:
        do_route(w, n);
        break;
    case ST_SCOMMIT:
        do_scommit(w, n);
        break;
    case ST_CLAIM:
        part_claim(n->part, ++w->nonces);
        break;
    case ST_RENEW:
        do_renew(w, n);
        break;
    case ST_RENEWED:
        do_renewed(w, n);
        break;
    case ST_COMMIT:
        do_commit(w, n);
        break;
    case ST_PART:
        n->part->state_ms = 0;
        part_tick(n->part, true);
        break;
    case ST_SNAP:
        part_tick(n->part, false);
        break;
    case ST_CUT:
        do_cut(w, n);
        break;
    case ST_TELL:
        do_tell(w, n, s.arg);
        break;
    case ST_CONTROL:
        world_control(w, n, s.arg);
        break;
    case ST_LEARN:
        learn(w, n);
        break;
    case ST_PAUSE:
        n->paused = true;
        break;
    case ST_GO:
        n->paused = false;
        break;
    case ST_CRASH:
        do_crash(w, n);
        break;
    case ST_RESTART:
        n->alive = true;
        break;
    case ST_ERROR:
        do_error(w, n);
        break;
    case ST_ASSIGN:
        do_assign(w, n);
        break;
    case ST_SASSIGN:
        do_sassign(w, n);
        break;
    case ST_FLOORS:
        part_floor(n->part, "live:src/1/0", w->src_mark);
        part_floors_read(n->part);
        n->asked_floors = false;
        break;
    default:
        break;
    }
}

void world_do(struct world *w, struct step_s s)
{
    w->count[s.kind]++;
    if (s.kind != ST_TICK)
        say(w, "%s %c %d", step_names[s.kind], 'A' + s.node, s.arg);
    if (s.kind == ST_TICK) {
        w->now++;
    } else if (s.kind == ST_ORPHAN) {
        land(w, pop(&w->orphans[s.arg]));
        if (!w->orphans[s.arg].n)
            drop_orphans(w, s.arg);
    } else if (s.kind == ST_DROP) {
        drop_orphans(w, s.arg);
    } else if (s.kind == ST_COMPACT) {
        do_compact(w);
    } else if (s.kind == ST_KEYED) {
        world_keyed(w, &w->nodes[s.node], s.arg);
    } else {
        do_node(w, s, &w->nodes[s.node]);
    }
}
