/* The promises, checked against the fold of the whole history. */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static bool wire_header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct rec_wire *w = arg;
    if (i >= w->nheaders)
        return false;
    *name = w->headers[i].name;
    *value = w->headers[i].value;
    return true;
}

struct rec *srec_read(struct srec *s)
{
    struct rec *r = NULL;
    struct err e = {0};
    int error = rec_decode(s->offset, s->rec->time_ms, s->wire.key, s->wire.value, wire_header,
                           &s->wire, &r, &e);
    if (error) {
        fprintf(stderr, "sim: own record can't be decoded: %s\n", e.msg);
        abort();
    }
    return r;
}

static uint64_t digest(const struct state *st)
{
    struct buf b;
    buf_init(&b, 16 << 20);
    state_digest(st, &b);
    uint64_t h = hash64(buf_slice(&b), 1);
    buf_free(&b);
    return h;
}

static void print_state(struct world *w, const char *what, const struct state *st)
{
    struct buf b;
    if (!w->trace)
        return;
    buf_init(&b, 16 << 20);
    state_digest(st, &b);
    say(w, "   %s: %s", what, b.p);
    buf_free(&b);
}

/* A settled repeat: there was a request before it, and if they are keyed it asked for the same, or
 * not. */
static void check_repeat(struct world *w, const struct rec *settled, bool conflict)
{
    const struct rec *repeat = w->log[settled->consumed]->rec, *first = NULL;
    for (int64_t i = 0; i < settled->consumed && !first; i++)
        if (w->log[i]->rec->type == REC_REQUESTED && !strcmp(w->log[i]->rec->run, settled->run))
            first = w->log[i]->rec;
    if (!first)
        violate(w, "I1 the only request of %s so far was settled as a duplicate", settled->run);
    else if (repeat->keyed && (first->idem != repeat->idem) != conflict)
        violate(w, "the request of %s at %" PRId64 " was settled as a %s", settled->run,
                settled->consumed, settled->status);
}

static void observe(struct world *w, struct rec *r)
{
    bool end = r->type == REC_COMPLETED || r->type == REC_FAULTED || r->type == REC_CANCELLED;
    void *at = (void *)(intptr_t)(r->offset + 1);
    if (r->type == REC_STARTED) {
        if (map_has(&w->begun, sl_str(r->run)))
            violate(w, "I1 %s started a second time at %" PRId64, r->run, r->offset);
        map_put(&w->begun, sl_str(r->run), at, NULL);
    } else if (end) {
        if (map_has(&w->ended, sl_str(r->run)))
            violate(w, "I1 %s ended a second time at %" PRId64, r->run, r->offset);
        map_put(&w->ended, sl_str(r->run), at, NULL);
        if (r->type != REC_FAULTED)
            map_put(&w->told, sl_str(r->run), at,
                    NULL); /* only faulted runs have something to be told */
    } else if (r->type == REC_SETTLED && r->status && !strncmp(r->status, "duplicate", 9)) {
        check_repeat(w, r, false);
    } else if (r->type == REC_SETTLED && r->status && !strcmp(r->status, "conflict")) {
        check_repeat(w, r, true);
    }
}

void check_landed(struct world *w, struct srec *s)
{
    struct rec *r = srec_read(s);
    bool ok = r->type == REC_OWNER || rec_is_request(r->type) || state_valid(&w->canon, r);
    say(w, "   log %" PRId64 ": %.*s %s%s", s->offset, SL_ARG(s->wire.key),
        r->status ? r->status : "", ok ? "" : "   VOID");
    if (ok && !rec_is_request(r->type)) {
        if (!(w->off & SIM_ALL) && map_has(&w->keys, s->wire.key))
            violate(w, "a second fact with the key %.*s", SL_ARG(s->wire.key));
        map_put(&w->keys, s->wire.key, s, NULL);
        observe(w, r);
    }
    state_apply(&w->canon, r);
    rec_unref(r);
    w->hist[w->end] = digest(&w->canon);
}

static void note_effect(struct world *w, struct node_s *n, struct run *r, const char *given)
{
    if (w->nledger == w->ledger_cap) {
        w->ledger_cap = w->ledger_cap ? 2 * w->ledger_cap : 64;
        w->ledger = realloc(w->ledger, w->ledger_cap * sizeof *w->ledger);
    }
    struct ledger *l = &w->ledger[w->nledger++];
    *l = (struct ledger){.given = strdup(given),
                         .node = n->name,
                         .nonce = n->part->nonce,
                         .visit = r->spec.visit,
                         .attempt = r->spec.attempt};
    snprintf(l->run, sizeof l->run, "%s", r->id);
    snprintf(l->ref, sizeof l->ref, "%s", r->spec.ref);
}

/* I3 and I5 at the moment a world-changing effect happens. */
void check_effect(struct world *w, struct node_s *n, struct run *r, const struct task *t)
{
    struct json_object *call = step_call(r->step);
    const char *given = json_object_to_json_string_ext(call, JSON_C_TO_STRING_PLAIN);
    const char *ref = r->spec.ref;
    if (t->effect != EFFECT_WORLD && t->effect != EFFECT_ONCE)
        return;
    say(w, "   EFFECT by %c: %s %s %s", 'A' + n->name, r->id, ref, given);
    for (size_t i = 0; i < w->nledger; i++) {
        struct ledger *l = &w->ledger[i];
        if (strcmp(l->run, r->id) || strcmp(l->ref, ref) || l->visit != r->spec.visit ||
            l->attempt != r->spec.attempt)
            continue;
        if (strcmp(l->given, given))
            violate(w, "I3 %s %s repeated with input %s, was %s", r->id, ref, given, l->given);
        if (t->effect == EFFECT_ONCE)
            violate(w, "I3 %s %s is at-most-once and was performed twice", r->id, ref);
        if (l->nonce == n->part->nonce)
            violate(w, "I3 %s %s repeated within one ownership", r->id, ref);
    }
    note_effect(w, n, r, given);
    if (map_has(&w->ended, sl_str(r->id)))
        violate(w, "I3 %s %s performed by %c after the run's end", r->id, ref, 'A' + n->name);
    struct run *c = map_get(&w->canon.runs, sl_str(r->id));
    if (!c || !run_live(c->known.status)) {
        bool pending = false;
        LIST_EACH(it, &w->canon.pending)
        pending = pending || !strcmp(LIST_ENTRY(it, struct pend, node)->rec->run, r->id);
        if (!pending)
            violate(w, "I5 %s %s: the log knows neither the run nor a request", r->id, ref);
        else if (strcmp(ref, "/do/0/w"))
            violate(w, "I5 %s %s: the log does not have the run's beginning", r->id, ref);
        return;
    }
    if (run_visits(&c->known, ref) > r->spec.visit)
        violate(w, "I3 %s %s performed by %c after its checkpoint", r->id, ref, 'A' + n->name);
    else if (!c->known.ref || strcmp(c->known.ref, ref) || c->known.attempt != r->spec.attempt)
        violate(w, "I5 %s %s performed, the log is at %s", r->id, ref,
                c->known.ref ? c->known.ref : "-");
    else if (!val_equal(c->known.last, r->spec.last))
        violate(w, "I5 %s %s has an input that the log does not have", r->id, ref);
}

void check_live(struct world *w, struct node_s *n)
{
    struct part *p = n->part;
    if (!p || p->status != PART_OWNER || p->st.next > w->end)
        return;
    if (digest(&p->st) != w->hist[p->st.next]) {
        print_state(w, "live", &p->st);
        violate(w, "I6 node %c at %" PRId64 " has another state than the fold of that prefix",
                'A' + n->name, p->st.next);
    }
}

bool fold_from(struct world *w, const char *metadata, int64_t upto, struct state *st)
{
    struct part_mark m;
    int64_t from = w->start;
    state_init(st, from);
    if (world_start(w, metadata, &m)) {
        if (!w->log[m.first]->present)
            return false;
        struct rec *r = srec_read(w->log[m.first]);
        int error = state_load(st, val_text(r->value), r->epoch, r->nonce, &m);
        rec_unref(r);
        if (error)
            return false;
        from = m.at;
    }
    for (int64_t i = from; i < upto; i++) {
        if (!w->log[i]->present)
            continue;
        struct rec *r = srec_read(w->log[i]);
        state_apply(st, r);
        rec_unref(r);
    }
    st->next = upto;
    return true;
}

static void check_start(struct world *w, const char *metadata, const char *what)
{
    struct state st;
    if (!fold_from(w, metadata, w->end, &st)) {
        violate(w, "I6 the committed starting point (%s) is gone", metadata);
    } else if (digest(&st) != w->hist[w->end]) {
        print_state(w, "fold", &st);
        print_state(w, "all ", &w->canon);
        violate(w, "I6 the fold from %s differs from the fold of the whole history", what);
    }
    state_free(&st);
}

void check_starts(struct world *w)
{
    if (!w->start)
        check_start(w, "", "the log's start");
    if (w->metadata[0])
        check_start(w, w->metadata, w->metadata);
}

/* The fold of every prefix, which is what a fork of a run from there reads. */
static void check_prefixes(struct world *w, int64_t to)
{
    struct state st;
    state_init(&st, 0);
    for (int64_t i = 0; i < w->end && !w->violation[0]; i++) {
        if (w->log[i]->present) {
            struct rec *r = srec_read(w->log[i]);
            state_apply(&st, r);
            rec_unref(r);
        }
        st.next = i + 1;
        if (digest(&st) != w->hist[i + 1])
            violate(w, "I6 compaction up to %" PRId64 " changes the fold up to %" PRId64, to,
                    i + 1);
    }
    state_free(&st);
}

/* Whatever the cleaner may have got to: it drops below `to` what a later record there has the key
 * of. */
void compact_to(struct world *w, int64_t to)
{
    struct map latest;
    map_init(&latest);
    for (int64_t i = to - 1; i >= w->start; i--) {
        if (!w->log[i]->present)
            continue;
        if (map_has(&latest, w->log[i]->wire.key)) {
            say(w, "   compaction drops %" PRId64, i);
            w->log[i]->present = false;
        } else {
            map_put(&latest, w->log[i]->wire.key, w, NULL);
        }
    }
    map_free(&latest);
}

void check_compaction(struct world *w)
{
    bool present[LOG_MAX];
    for (int64_t i = w->start; i < w->end; i++)
        present[i] = w->log[i]->present;
    for (int64_t k = 1; k <= COMPACTIONS && !w->violation[0]; k++) {
        int64_t to = w->start + (w->end - w->start) * k / COMPACTIONS;
        compact_to(w, to);
        check_starts(w);
        if (!w->start && k == COMPACTIONS)
            check_prefixes(w, to);
        for (int64_t i = w->start; i < w->end; i++)
            w->log[i]->present = present[i];
    }
}

void check_commit(struct world *w, int64_t mark, const char *metadata)
{
    if (mark < w->mark)
        violate(w, "I4 the mark goes back from %" PRId64 " to %" PRId64, w->mark, mark);
    struct heap_node *pin = heap_top(&w->canon.pins);
    for (size_t i = 0; i < w->canon.pins.n; i++) {
        struct run *r = state_pinned_by(&w->canon, w->canon.pins.v[i]);
        if (r && r->known.pin < mark)
            violate(w, "I4 mark %" PRId64 " passes the run %s pinned at %" PRId64, mark, r->id,
                    r->known.pin);
    }
    (void)pin;
    LIST_EACH(it, &w->canon.pending)
    {
        struct pend *d = LIST_ENTRY(it, struct pend, node);
        if (d->rec->offset < mark)
            violate(w, "I4 mark %" PRId64 " passes the request at %" PRId64, mark, d->rec->offset);
    }
    LIST_EACH(it, &w->canon.ends)
    {
        struct ended *e = LIST_ENTRY(it, struct ended, node);
        if (e->hold < mark && !map_has(&w->told, sl_str(e->run)))
            violate(w, "I4 mark %" PRId64 " passes the untold end of %s", mark, e->run);
    }
}

void check_end(struct world *w)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    for (int src = 0; src < w->events; src++) {
        char id[RUN_ID_MAX], text[16];
        snprintf(text, sizeof text, "%d", src);
        run_id_make(id, 0, SL("sim/x"), SL("live"), SL("src"), sl_str(text));
        if (!map_has(&w->ended, sl_str(id)))
            violate(w, "I1 event %d (%s) never ended", src, id);
    }
    if (w->canon.npending)
        violate(w, "I1 %zu requests were never consumed nor settled", w->canon.npending);
    while (map_next(&w->ended, &pos, &k, &v))
        if (!map_has(&w->told, k))
            violate(w, "I1 the end of %.*s was never told", SL_ARG(k));
    check_starts(w);
    check_compaction(w);
}
