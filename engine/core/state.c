/* See state.h. A record is first judged (request, valid fact, void fact), then applied by the
 * function of its type. */
#include "core/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void state_init(struct state *s, int64_t next)
{
    memset(s, 0, sizeof *s);
    s->next = next;
    s->epoch = -1;
    map_init(&s->runs);
    list_init(&s->pending);
    imap_init(&s->pend_at);
    sources_init(&s->sources);
    list_init(&s->ends);
    heap_init(&s->pins);
    map_init(&s->run_chunks);
    buf_init(&s->part_chunks.text, STATE_BYTES_MAX);
}

static void run_free(struct state *s, struct run *r)
{
    heap_remove(&s->pins, &r->pin_node);
    run_state_free(&r->known);
    run_state_free(&r->spec);
    step_free(r->step);
    free(r);
}

static void pend_free(struct state *s, struct pend *p)
{
    list_del(&p->node);
    list_del(&p->todo);
    list_del(&p->tell);
    imap_del(&s->pend_at, p->rec->offset);
    s->npending--;
    s->pending_bytes -= p->rec->bytes;
    rec_unref(p->rec);
    free(p);
}

void ended_free(struct state *s, struct ended *e)
{
    list_del(&e->node);
    heap_remove(&s->pins, &e->hold_node);
    val_unref(e->origin);
    val_unref(e->error);
    free(e->src.name);
    free(e->agent);
    free(e->ref);
    free(e);
}

static void chunks_free(struct chunks *c)
{
    if (c) {
        buf_free(&c->text);
        free(c);
    }
}

void state_free(struct state *s)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    LIST_EACH(n, &s->pending)
    pend_free(s, LIST_ENTRY(n, struct pend, node));
    LIST_EACH(n, &s->ends)
    ended_free(s, LIST_ENTRY(n, struct ended, node));
    while (map_next(&s->runs, &pos, &k, &v))
        run_free(s, v);
    pos = 0;
    while (map_next(&s->run_chunks, &pos, &k, &v))
        chunks_free(v);
    map_free(&s->runs);
    imap_free(&s->pend_at);
    sources_free(&s->sources);
    heap_free(&s->pins);
    map_free(&s->run_chunks);
    buf_free(&s->part_chunks.text);
    val_unref(s->owner);
    free(s->marks);
    memset(s, 0, sizeof *s);
}

bool state_valid(const struct state *s, const struct rec *r)
{
    return r->epoch == s->epoch && (s->off & RULE_NONCE || r->nonce == s->nonce);
}

int64_t state_low(const struct state *s)
{
    int64_t low = s->next;
    struct heap_node *pin = heap_top(&s->pins);
    if (pin && pin->key < low)
        low = pin->key;
    if (!list_empty(&s->pending)) {
        struct pend *p = LIST_ENTRY(s->pending.next, struct pend, node);
        if (p->rec->offset < low)
            low = p->rec->offset;
    }
    return low;
}

struct run *state_pinned_by(const struct state *s, struct heap_node *pin)
{
    LIST_EACH(n, &s->ends)
    if (&LIST_ENTRY(n, struct ended, node)->hold_node == pin)
        return NULL;
    return LIST_ENTRY(pin, struct run, pin_node);
}

/* ---- requests ---- */

static int on_request(struct state *s, struct rec *r)
{
    struct pend *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    if (r->type == REC_REQUESTED) {
        int dup = sources_judge(&s->sources, r);
        if (dup < 0) {
            free(p);
            return dup;
        }
        p->duplicate = dup != JUDGED_NEW;
        p->conflict = dup == JUDGED_CONFLICT;
    }
    list_init(&p->todo);
    list_init(&p->tell);
    p->rec = rec_ref(r);
    if (imap_put(&s->pend_at, r->offset, p) < 0) {
        rec_unref(r);
        free(p);
        return -ENOMEM;
    }
    list_push(&s->pending, &p->node);
    s->npending++;
    s->pending_bytes += r->bytes;
    if (s->watch.pend_new)
        s->watch.pend_new(s->watch.arg, p);
    return 0;
}

static void consume(struct state *s, int64_t offset)
{
    struct pend *p = offset >= 0 ? imap_get(&s->pend_at, offset) : NULL;
    if (!p)
        return;
    if (s->watch.pend_gone)
        s->watch.pend_gone(s->watch.arg, p);
    pend_free(s, p);
}

/* A request that came to nothing. */
static void settled(struct state *s, int64_t offset)
{
    struct pend *p = offset >= 0 ? imap_get(&s->pend_at, offset) : NULL;
    if (p && p->rec->type == REC_REQUESTED && !p->duplicate)
        sources_ended(&s->sources, p->rec->run);
    consume(s, offset);
}

/* One fact settles every delivery below. */
static void consume_deliveries(struct state *s, int64_t up_to)
{
    LIST_EACH(n, &s->pending)
    {
        struct pend *p = LIST_ENTRY(n, struct pend, node);
        if (p->rec->offset >= up_to)
            return;
        if (p->rec->type == REC_DELIVERED)
            consume(s, p->rec->offset);
    }
}

/* ---- runs ---- */

int state_run(struct state *s, const char *id, struct run **ret)
{
    struct run *r = map_get(&s->runs, sl_str(id));
    if (!r) {
        if (!(r = calloc(1, sizeof *r)))
            return -ENOMEM;
        snprintf(r->id, sizeof r->id, "%s", id);
        list_init(&r->ready);
        map_init(&r->known.visits);
        map_init(&r->spec.visits);
        if (map_put(&s->runs, sl_str(id), r, NULL) < 0) {
            free(r);
            return -ENOMEM;
        }
    }
    *ret = r;
    return 0;
}

void state_run_drop(struct state *s, struct run *r)
{
    map_del(&s->runs, sl_str(r->id));
    run_free(s, r);
}

static int set_pin(struct state *s, struct run *r)
{
    heap_remove(&s->pins, &r->pin_node);
    r->bytes_at_pin = s->bytes;
    return heap_add(&s->pins, &r->pin_node, r->known.pin);
}

static int dup_text(char **to, const char *s)
{
    *to = s ? strdup(s) : NULL;
    return s && !*to ? -ENOMEM : 0;
}

/* A faulted run stays until its dead letter is acknowledged, and what the letter is made from holds
 * the mark. */
static int note_end(struct state *s, struct run *r, struct rec *end)
{
    struct ended *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    snprintf(e->run, sizeof e->run, "%s", r->id);
    e->end = end->offset;
    e->hold = s->off & RULE_HOLD_PIN ? end->offset : r->known.pin;
    e->status = r->known.status;
    e->origin = val_ref(r->known.origin);
    e->error = val_ref(r->known.error);
    e->src.offset = r->known.src.offset;
    e->time_ms = end->time_ms;
    list_push(&s->ends, &e->node);
    if (dup_text(&e->src.name, r->known.src.name) || dup_text(&e->agent, r->known.agent) ||
        dup_text(&e->ref, r->known.ref))
        return -ENOMEM;
    return heap_add(&s->pins, &e->hold_node, e->hold);
}

static int on_run_fact(struct state *s, struct rec *r)
{
    struct run *run = map_get(&s->runs, sl_str(r->run));
    const struct rec *request = NULL;
    int error;
    if (r->type == REC_STARTED) {
        struct pend *p = imap_get(&s->pend_at, r->consumed);
        if (!p || p->rec->type != REC_REQUESTED)
            return 0; /* its request is below the starting point of this fold: an older run of the
                         like name */
        request = p->rec;
        if ((error = state_run(s, r->run, &run)))
            return error;
    }
    if (!run)
        goto consumed;
    bool lived = run_live(run->known.status);
    if ((error = run_apply(&run->known, r, request)))
        return error;
    if (!lived && run_live(run->known.status) && (error = set_pin(s, run)))
        return error;
    if (lived && !run_live(run->known.status)) {
        if (run->known.status == RUN_FAULTED && (error = note_end(s, run, r)))
            return error;
        if (s->watch.run_ending)
            s->watch.run_ending(s->watch.arg, run);
        sources_ended(&s->sources, run->id);
        state_run_drop(s, run);
    }
consumed:
    consume(s, r->consumed);
    return 0;
}

/* ---- values in pieces ---- */

/* 1 whole, 0 more to come or not usable, -ENOMEM. */
static int add_chunk(struct chunks *c, const struct rec *r)
{
    if (r->chunk == 0) {
        buf_reset(&c->text);
        c->nonce = r->nonce;
        c->at = r->at;
        c->first = r->offset;
        c->next = 0;
        c->total = r->chunks;
    }
    if (c->nonce != r->nonce || c->at != r->at || c->next != r->chunk || c->total != r->chunks)
        return 0;
    c->next++;
    int error = buf_add_slice(&c->text, val_text(r->value));
    return error == -ENOMEM ? error : !error && c->next == c->total;
}

static int add_mark(struct state *s, const struct part_mark *m)
{
    if (s->nmarks == s->marks_cap) {
        size_t cap = s->marks_cap ? 2 * s->marks_cap : 16;
        struct part_mark *v = realloc(s->marks, cap * sizeof *v);
        if (!v)
            return -ENOMEM;
        s->marks = v;
        s->marks_cap = cap;
    }
    s->marks[s->nmarks++] = *m;
    return 0;
}

/* Seen at its own place, a part.state only raises floors: they were safe at its `at` already, so
 * judgements between the two are the same with and without (a request below such a floor was
 * requested at a lower offset before). */
static int on_part_state(struct state *s, struct rec *r)
{
    struct json_object *o = NULL;
    int whole = add_chunk(&s->part_chunks, r);
    if (whole != 1)
        return whole;
    int error = js_parse(buf_slice(&s->part_chunks.text), &o, NULL);
    if (error) {
        s->bad += error != -ENOMEM;
        return error == -ENOMEM ? error : 0;
    }
    struct json_object *floors = js_get(o, "floors");
    if (json_object_is_type(floors, json_type_object)) {
        json_object_object_foreach(floors, name, v)
        {
            error |= sources_raise(&s->sources, name, json_object_get_int64(v));
        }
    }
    json_object_put(o);
    sources_expire(&s->sources, r->time_ms);
    struct part_mark m = {r->at, s->part_chunks.first, r->offset, r->time_ms};
    buf_trim(&s->part_chunks.text, 64 * 1024);
    return error ? -ENOMEM : add_mark(s, &m);
}

static int on_snapshot(struct state *s, struct rec *r)
{
    struct chunks *c = map_get(&s->run_chunks, sl_str(r->run));
    struct run *run;
    int error;
    if (!c) {
        if (!(c = calloc(1, sizeof *c)))
            return -ENOMEM;
        buf_init(&c->text, STATE_BYTES_MAX);
        if (map_put(&s->run_chunks, sl_str(r->run), c, NULL) < 0) {
            free(c); /* nothing is in its buffer yet */
            return -ENOMEM;
        }
    }
    int whole = add_chunk(c, r);
    if (whole < 0 || (!whole && c->next < c->total))
        return whole;
    map_del(&s->run_chunks, sl_str(r->run));
    struct json_object *o = NULL;
    struct run_state n = {0};
    error = whole ? js_parse(buf_slice(&c->text), &o, NULL) : -EPROTO;
    if (!error)
        error = run_state_read(&n, o);
    if (error && error != -ENOMEM) {
        s->bad++;
        error = 0;
    } else if (!error && (error = state_run(s, r->run, &run))) {
        run_state_free(&n);
    } else if (!error) {
        n.pin = s->off & RULE_PIN_AT ? r->offset : r->at;
        n.bytes = c->text.n;
        run_state_free(&run->known);
        run->known = n;
        error = set_pin(s, run);
    }
    json_object_put(o);
    chunks_free(c);
    return error;
}

static int on_owner(struct state *s, struct rec *r)
{
    s->epoch = r->offset;
    s->nonce = r->nonce;
    val_unref(s->owner);
    s->owner = val_ref(r->value);
    return 0;
}

static int on_fact(struct state *s, struct rec *r)
{
    if (!state_valid(s, r)) {
        s->voids++;
        return 0;
    }
    int error = rec_read_body(r);
    if (error) { /* skipped on every node alike, unless it is this node that has no memory */
        s->bad += error != -ENOMEM;
        return error == -ENOMEM ? error : 0;
    }
    switch (r->type) {
    case REC_PART_STATE:
        return on_part_state(s, r);
    case REC_SNAPSHOT:
        return on_snapshot(s, r);
    case REC_SETTLED:
        if (r->up_to >= 0)
            consume_deliveries(s, r->up_to);
        settled(s, r->consumed);
        return 0;
    case REC_ACCEPTED:
    case REC_FIRED:
        return 0;
    default:
        return on_run_fact(s, r);
    }
}

int state_apply(struct state *s, struct rec *r)
{
    int error;
    if (r->type == REC_OWNER)
        error = on_owner(s, r);
    else if (rec_is_request(r->type))
        error = on_request(s, r);
    else
        error = on_fact(s, r);
    s->next = r->offset + 1;
    s->bytes += (int64_t)r->bytes;
    return error;
}

/* ---- text ---- */

int state_write(const struct state *s,
                int64_t (*floor_of)(void *arg, const char *source, int64_t known), void *arg,
                struct buf *b)
{
    buf_adds(b, "{");
    int error = sources_write(&s->sources, floor_of, arg, b);
    buf_adds(b, "}");
    return error ? error : buf_error(b);
}

int state_load(struct state *s, struct slice text, int64_t epoch, uint64_t nonce,
               const struct part_mark *m)
{
    struct json_object *o = NULL;
    int error = js_parse(text, &o, NULL);
    if (error)
        return error == -ENOMEM ? error : -EPROTO;
    error = sources_read(&s->sources, o);
    json_object_put(o);
    s->next = m->at;
    s->epoch = epoch;
    s->nonce = nonce;
    return error ? error : add_mark(s, m);
}

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct run *const *)a)->id, (*(struct run *const *)b)->id);
}

int state_digest(const struct state *s, struct buf *b)
{
    struct run **v = calloc(s->runs.n + 1, sizeof *v);
    struct slice k;
    void *value;
    size_t pos = 0, n = 0;
    if (!v)
        return -ENOMEM;
    buf_addf(b,
             "{\"next\":%" PRId64 ",\"epoch\":%" PRId64 ",\"nonce\":\"%016" PRIx64
             "\",\"sources\":{",
             s->next, s->epoch, s->nonce);
    sources_write(&s->sources, NULL, NULL, b);
    buf_adds(b, "},\"pending\":[");
    LIST_EACH(p, &s->pending)
    {
        struct pend *x = LIST_ENTRY(p, struct pend, node);
        buf_addf(b, "%s[%" PRId64 ",%d]", p->prev == &s->pending ? "" : ",", x->rec->offset,
                 x->duplicate);
    }
    buf_adds(b, "],\"runs\":[");
    while (map_next(&s->runs, &pos, &k, &value))
        if (run_live(((struct run *)value)->known.status))
            v[n++] = value;
    qsort(v, n, sizeof *v, by_id);
    for (size_t i = 0; i < n; i++) {
        buf_addf(b, "%s[\"%s\",%" PRId64 ",", i ? "," : "", v[i]->id, v[i]->known.pin);
        run_state_write(&v[i]->known, b);
        buf_adds(b, "]");
    }
    buf_adds(b, "]}");
    free(v);
    return buf_error(b);
}
