/* See part.h. Here: life cycle, known prefix, own facts under way, answers. */
#include "core/part_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void on_pend_new(void *arg, struct pend *d);
static void on_pend_gone(void *arg, struct pend *d);
static void on_run_ending(void *arg, struct run *r);

static void watch(struct part *p)
{
    p->st.watch.pend_new = on_pend_new;
    p->st.watch.pend_gone = on_pend_gone;
    p->st.watch.run_ending = on_run_ending;
    p->st.watch.arg = p;
}

struct part *part_new(const struct part_opts *o, const struct part_ops *ops, void *arg)
{
    struct part *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->o = *o;
    p->ops = ops;
    p->arg = arg;
    if (!p->o.state_every_records)
        p->o.state_every_records = 20000;
    if (!p->o.state_every_ms)
        p->o.state_every_ms = 60000;
    if (!p->o.state_bytes_max)
        p->o.state_bytes_max = STATE_BYTES_MAX;
    if (!p->o.snapshot_bytes_min)
        p->o.snapshot_bytes_min = 1 << 20;
    p->epoch = p->committed_mark = p->committed_at = p->mark0 = -1;
    list_init(&p->own);
    imap_init(&p->acked);
    list_init(&p->ready);
    heap_init(&p->starts);
    list_init(&p->todo);
    list_init(&p->tell);
    heap_init(&p->waits);
    map_init(&p->floors);
    map_init(&p->ended);
    state_init(&p->st, 0);
    watch(p);
    return p;
}

static void forget_ended(struct part *p)
{
    map_free(&p->ended);
    map_init(&p->ended);
    free(p->ended_ring);
    p->ended_ring = NULL;
    p->ended_at = 0;
}

/* Without memory it is not remembered, which costs nothing but what this is for (decide.c). */
static void remember_ended(struct part *p, const char *id)
{
    if (!p->ended_ring && !(p->ended_ring = calloc(ENDED_MAX, sizeof *p->ended_ring)))
        return;
    char *slot = p->ended_ring[p->ended_at];
    if (slot[0])
        map_del(&p->ended, sl_str(slot));
    slot[0] = 0;
    if (map_has(&p->ended, sl_str(id)) || map_put(&p->ended, sl_str(id), p, NULL) < 0)
        return;
    memcpy(slot, id, RUN_ID_MAX);
    p->ended_at = (p->ended_at + 1) % ENDED_MAX;
}

static void drop_floors(struct part *p)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&p->floors, &pos, &k, &v))
        free(v);
    map_free(&p->floors);
    map_init(&p->floors);
    p->floors_asked = false;
}

struct part *part_free(struct part *p)
{
    if (!p)
        return NULL;
    part_end_ownership(p);
    memset(&p->st.watch, 0, sizeof p->st.watch);
    state_free(&p->st);
    drop_floors(p);
    map_free(&p->floors);
    forget_ended(p);
    imap_free(&p->acked);
    heap_free(&p->starts);
    heap_free(&p->waits);
    free(p);
    return NULL;
}

void part_time(struct part *p, int64_t boot_ms, int64_t wall_ms)
{
    p->boot_ms = boot_ms;
    p->wall_ms = wall_ms;
}

int64_t part_start(struct part *p, int64_t mark, int64_t from, const struct slice *text,
                   int64_t epoch, uint64_t nonce, const struct part_mark *m)
{
    int error = 0;
    memset(&p->st.watch, 0, sizeof p->st.watch);
    state_free(&p->st);
    state_init(&p->st, text ? m->at : from);
    p->st.sources.ignore_keys = !part_rule(p, RULE_KEYS);
    p->st.sources.ignore_floors = !part_rule(p, RULE_FLOOR);
    p->st.off = p->off;
    if (text)
        error = state_load(&p->st, *text, epoch, nonce, m);
    watch(p);
    p->mark0 = p->committed_mark = mark;
    p->committed_at = text ? m->at : -1;
    p->consumed = p->st.next;
    p->status = PART_FOLLOWING;
    p->lost = error != 0;
    return error ? error : p->st.next;
}

/* ---- ownership ---- */

int part_claim(struct part *p, uint64_t nonce)
{
    char text[1024];
    part_end_ownership(p);
    struct rec *r = p->lost ? NULL : rec_new(REC_OWNER, NULL);
    if (!r)
        return -ENOMEM;
    snprintf(text, sizeof text,
             "{\"node\":\"%.200s\",\"url\":\"%.300s\",\"version\":\"%s\",\"bootId\":\"%.64s\"}",
             p->o.node_id ? p->o.node_id : "", p->o.node_url ? p->o.node_url : "", TIDEMARK_VERSION,
             p->o.boot_id ? p->o.boot_id : "");
    if (!(r->value = val_text_new(sl_str(text)))) {
        rec_unref(r);
        return -ENOMEM;
    }
    r->nonce = p->nonce = nonce;
    r->time_ms = p->wall_ms;
    p->status = PART_CLAIMING;
    int error = fact_append(p, r, NULL, NULL);
    if (error)
        p->status = PART_FOLLOWING;
    return error;
}

static void drop_own(struct part *p)
{
    struct list *n;
    while ((n = list_pop(&p->own))) {
        struct own_rec *o = LIST_ENTRY(n, struct own_rec, node);
        o->rec->folded = true; /* a late acknowledgement means nothing any more */
        if (o->request)
            o->request->taken = false;
        rec_unref(o->rec);
        free(o);
    }
    p->nown = 0;
    imap_free(&p->acked);
    imap_init(&p->acked);
}

static void drop_work(struct part *p)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&p->st.runs, &pos, &k, &v)) {
        struct run *r = v;
        run_unstep(p, r);
        list_del(&r->ready);
        heap_remove(&p->waits, &r->wait_node);
        if (r->admitted)
            p->ops->release(p->arg, p);
        r->admitted = r->queued = r->gated = r->snapshotting = r->started_here = false;
        r->inflight = r->ahead = 0;
        r->snap_at = -1;
        run_state_free(&r->spec);
        if (!run_live(r->known.status))
            state_run_drop(&p->st, r);
    }
    p->active = 0;
    LIST_EACH(n, &p->st.ends)
    LIST_ENTRY(n, struct ended, node)->telling = false;
}

void part_end_ownership(struct part *p)
{
    if (p->status != PART_CLAIMING && p->status != PART_OWNER)
        return;
    p->status = PART_FOLLOWING;
    p->broken = false;
    p->lease_until = 0;
    p->epoch = -1;
    p->nonce = 0;
    drop_own(p);
    drop_work(p);
    forget_ended(p);
    drop_floors(p);
    decide_reset(p);
}

/* Own `owner` read back: from here on this process is the owner, under the epoch of that offset. */
static int become_owner(struct part *p, int64_t epoch)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    p->status = PART_OWNER;
    p->epoch = epoch;
    p->state_ms = p->wall_ms;
    p->state_next = p->st.next;
    p->state_chunks = 0;
    p->appended = p->settled = 0;
    while (map_next(&p->st.runs, &pos, &k, &v)) {
        struct run *r = v;
        int error = run_state_copy(&r->spec, &r->known);
        if (error)
            return error;
        run_wake(p, r);
    }
    decide_reset(p);
    LIST_EACH(n, &p->st.ends)
    {
        struct ended *e = LIST_ENTRY(n, struct ended, node);
        if (e->hold < p->mark0) /* the mark could pass it: it was told */
            ended_free(&p->st, e);
    }
    return 0;
}

/* Another boot of the same static member may still be under way elsewhere: wait one session. */
static void check_boot(struct part *p)
{
    struct json_object *o = val_tree(p->st.owner);
    const char *node = js_str(o, "node"), *boot = js_str(o, "bootId");
    if (p->o.static_member && node && boot && p->o.node_id && p->o.boot_id &&
        !strcmp(node, p->o.node_id) && strcmp(boot, p->o.boot_id))
        p->hold_until = p->boot_ms + p->o.lease_ms;
}

/* ---- the known prefix ---- */

static void settle_own(struct part *p, struct own_rec *o)
{
    list_del(&o->node);
    p->nown--;
    p->settled++;
    o->rec->folded = true;
    if (o->run) {
        struct run *r = o->run;
        if (o->rec->type == REC_SNAPSHOT && o->rec->chunk == o->rec->chunks - 1)
            r->snapshotting = false;
        if (--r->inflight == 0)
            r->ahead = 0;
        if (r->gated || r->inflight == 0 || r->inflight == RUN_INFLIGHT_MAX / 2)
            run_wake(p, r);
    }
    rec_unref(o->rec);
    free(o);
}

/* Facts of one producer land in order and without gaps (librdkafka's gapless guarantee), so that
 * what is read of this ownership is always the oldest one under way. */
static bool same_fact(const struct rec *a, const struct rec *b)
{
    return a == b ||
           (a->type == b->type && a->visit == b->visit && a->attempt == b->attempt &&
            a->chunk == b->chunk && a->consumed == b->consumed && !strcmp(a->run, b->run) &&
            !strcmp(a->ref ? a->ref : "", b->ref ? b->ref : ""));
}

static int apply_known(struct part *p, struct rec *r)
{
    struct own_rec *o = NULL;
    bool own_owner = r->type == REC_OWNER && p->status == PART_CLAIMING &&
                     (r->nonce == p->nonce || !part_rule(p, RULE_NONCE));
    if (r->type == REC_OWNER && !own_owner &&
        (p->status == PART_OWNER || p->status == PART_CLAIMING))
        if (p->status ==
            PART_OWNER) /* fenced; a claim under way goes on: its own record comes later */
            part_end_ownership(p);
    if (own_owner)
        check_boot(p);
    rec_ref(r); /* it may be of p->own, which an end of the ownership drops */
    if (!rec_is_request(r->type) && r->nonce == p->nonce && p->nonce && !list_empty(&p->own)) {
        o = LIST_ENTRY(p->own.next, struct own_rec, node);
        if (!same_fact(o->rec,
                       r)) { /* one before it is lost: what is under way can't be relied on */
            o = NULL;
            part_end_ownership(p);
        }
    }
    if (o) { /* the record as it was sent; what was read is the same */
        o->rec->offset = r->offset;
        rec_ref(o->rec);
        rec_unref(r);
        r = o->rec;
        settle_own(p, o);
    }
    int error = state_apply(&p->st, r);
    p->lost = p->lost || error;
    if (!error && own_owner && (error = become_owner(p, r->offset)))
        p->broken = true;
    rec_unref(r);
    return error;
}

/* Own facts that are acknowledged and stand at the end of the known prefix are known. */
static int advance(struct part *p)
{
    struct own_rec *o;
    int error = 0;
    while (!error && (o = imap_del(&p->acked, p->st.next)))
        error = apply_known(p, o->rec);
    return error;
}

int part_consumed(struct part *p, int64_t offset, struct rec *r)
{
    int error = 0;
    if (p->lost)
        return -ENOMEM;
    if (offset < p->st.next)
        return 0;
    p->consumed = offset + 1;
    imap_del(&p->acked, offset);
    if (offset > p->st.next)
        p->st.next = offset; /* the offsets between were compacted away or are not records */
    if (r)
        error = apply_known(p, r);
    else
        p->st.next = offset + 1;
    return error ? error : advance(p);
}

int part_acked(struct part *p, struct rec *r, int64_t offset)
{
    if (r->folded || offset < 0)
        return 0; /* counted when it was consumed, or will be then */
    r->offset = offset;
    if (p->lost)
        return -ENOMEM;
    if (offset < p->st.next)
        return 0;
    if (!part_rule(p, r->type == REC_OWNER ? RULE_READ_BACK : RULE_KNOWN_PREFIX))
        p->st.next = offset; /* as if everything below were known */
    if (imap_put(&p->acked, offset, r->sender) < 0)
        return -ENOMEM;
    return advance(p);
}

/* ---- own facts ---- */

struct rec *fact_new(struct part *p, enum rec_type t, const char *run)
{
    struct rec *r = rec_new(t, run);
    if (r) {
        r->epoch = p->epoch;
        r->nonce = p->nonce;
        r->time_ms = p->wall_ms;
    }
    return r;
}

int fact_append(struct part *p, struct rec *r, struct run *run, struct pend *request)
{
    struct own_rec *o = NULL;
    int error = p->broken || !val_text(r->value).p ? -ENOMEM : 0;
    if (val_text(r->value).n > REC_VALUE_MAX)
        error = -EMSGSIZE;
    if (!error && !(o = calloc(1, sizeof *o)))
        error = -ENOMEM;
    if (!error) {
        r->bytes = val_text(r->value).n + (r->ref ? strlen(r->ref) : 0) + 200;
        error = p->ops->append(p->arg, p, r);
    }
    if (error) {
        free(o);
        rec_unref(r);
        return error;
    }
    o->rec = r;
    r->sender = o;
    o->run = run;
    o->request = request;
    list_push(&p->own, &o->node);
    p->nown++;
    p->appended++;
    if (request) {
        request->taken = true;
        heap_remove(&p->starts, &request->start_node);
        list_del(&request->todo);
    }
    if (!run)
        return 0;
    run->inflight++;
    error = rec_read_body(r);
    if (!error && r->type != REC_SNAPSHOT)
        error = run_apply(&run->spec, r, request ? request->rec : NULL);
    p->broken = p->broken || error; /* it is under way: only a new ownership knows what it did */
    return error;
}

/* ---- what the fold tells ---- */

static void on_pend_new(void *arg, struct pend *d)
{
    struct part *p = arg;
    if (p->status == PART_OWNER)
        decide_later(p, d);
}

static void on_pend_gone(void *arg, struct pend *d)
{
    struct part *p = arg;
    /* The own fact that consumed it was the head of p->own and is settled already; not so when a
     * foreign fact may count. */
    LIST_EACH(it, &p->own)
    {
        if (part_rule(p, RULE_NONCE))
            break;
        if (LIST_ENTRY(it, struct own_rec, node)->request == d)
            LIST_ENTRY(it, struct own_rec, node)->request = NULL;
    }
    heap_remove(&p->starts, &d->start_node);
    list_del(&d->todo);
}

static void on_run_ending(void *arg, struct run *r)
{
    struct part *p = arg;
    if (p->ops->ended)
        p->ops->ended(p->arg, p, r);
    if (p->status == PART_OWNER)
        remember_ended(p, r->id);
    run_unstep(p, r);
    list_del(&r->ready);
    heap_remove(&p->waits, &r->wait_node);
    if (r->admitted) {
        p->ops->release(p->arg, p);
        p->active--;
    }
}

/* ---- answers ---- */

struct run *part_run(struct part *p, const char *id)
{
    return map_get(&p->st.runs, sl_str(id));
}

static void wake_gated(struct part *p)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&p->st.runs, &pos, &k, &v))
        if (((struct run *)v)->gated)
            run_wake(p, v);
}

void part_leased(struct part *p, int64_t sent_boot_ms)
{
    int64_t until = sent_boot_ms + p->o.lease_ms;
    if (until <= p->lease_until)
        return;
    bool lapsed = p->lease_until <= p->boot_ms;
    p->lease_until = until;
    if (lapsed)
        wake_gated(p);
}

bool part_may_begin(struct part *p, struct run *r)
{
    bool leased = p->boot_ms < p->lease_until || !part_rule(p, RULE_LEASE);
    return p->status == PART_OWNER && leased && p->boot_ms >= p->hold_until &&
           r->spec.status == RUN_ACTIVE;
}

static struct run *working(struct part *p, const char *run, uint64_t work_id, enum run_busy kind)
{
    struct run *r = part_run(p, run);
    if (!r || r->busy != kind || r->work_id != work_id || !r->step)
        return NULL;
    r->busy = BUSY_NO;
    run_wake(p, r);
    return r;
}

void part_evaluated(struct part *p, const char *run, uint64_t work_id, struct json_object *value,
                    const struct err *e)
{
    struct run *r = working(p, run, work_id, BUSY_EVAL);
    if (r)
        step_answer_eval(r->step, value, e);
    else
        json_object_put(value);
}

void part_effect_done(struct part *p, const char *run, uint64_t work_id, struct json_object *output,
                      const struct problem *problem)
{
    struct run *r = working(p, run, work_id, BUSY_EFFECT);
    if (r)
        step_answer_effect(r->step, output, problem);
    else
        json_object_put(output);
}

size_t part_unwritten(const struct part *p)
{
    struct slice k;
    void *v;
    size_t pos = 0, n = 0;
    while (p->status == PART_OWNER && map_next(&p->st.runs, &pos, &k, &v)) {
        const struct run *r = v;
        n += r->step && step_answered(r->step);
    }
    return n;
}

void part_told(struct part *p, const char *run)
{
    LIST_EACH(n, &p->st.ends)
    {
        struct ended *e = LIST_ENTRY(n, struct ended, node);
        if (!strcmp(e->run, run)) {
            ended_free(&p->st, e);
            return;
        }
    }
}

void part_not_told(struct part *p, const char *run)
{
    LIST_EACH(n, &p->st.ends)
    {
        struct ended *e = LIST_ENTRY(n, struct ended, node);
        if (!strcmp(e->run, run))
            e->telling = false;
    }
}

void run_wake(struct part *p, struct run *r)
{
    if (p->status == PART_OWNER && list_empty(&r->ready))
        list_push(&p->ready, &r->ready);
}

void run_unstep(struct part *p, struct run *r)
{
    if (r->busy != BUSY_NO)
        p->ops->stop(p->arg, p, r);
    r->busy = BUSY_NO;
    r->gated = false;
    r->step = step_free(r->step);
}

int64_t part_next_due(const struct part *p)
{
    struct heap_node *n = heap_top(&p->waits);
    return n ? n->key : INT64_MAX;
}

bool part_work(struct part *p)
{
    struct heap_node *due;
    if (p->status != PART_OWNER)
        return false;
    if (p->hold_until && p->boot_ms >= p->hold_until) {
        p->hold_until = 0;
        wake_gated(p);
    }
    while ((due = heap_top(&p->waits)) && due->key <= p->wall_ms) {
        heap_remove(&p->waits, due);
        run_wake(p, LIST_ENTRY(due, struct run, wait_node));
    }
    p->later = false;
    part_tell(p);
    decide(p);
    bool room = p->ops->room(p->arg, p);
    size_t rounds = p->st.runs.n; /* each ready run at most once a call */
    while (room && !p->broken && rounds-- && !list_empty(&p->ready)) {
        drive(p, LIST_ENTRY(list_pop(&p->ready), struct run, ready));
        room = p->ops->room(p->arg, p);
    }
    if (p->broken)
        part_end_ownership(p);
    return room && !p->later && !list_empty(&p->ready);
}

size_t part_backlog(const struct part *p)
{
    return p->st.npending + p->st.runs.n;
}
