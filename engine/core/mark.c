/* Bounded restart: the tide mark, part.state, snapshots, the cut.
 *
 * part.state describes the known prefix up to `at`. Floors that were read from the routers' commits
 * go into it only when they are safe: an own fact appended after the reading is known, so every
 * request below those commits (acknowledged before them) is below `at` too. Without that a request
 * that the fold has not seen yet would be judged a duplicate by a fold that starts here.
 *
 * A crash after part.state and before the commit that names it: the former one is used. A crash
 * after the commit and before the cut: the cut comes later. The cut is at a committed starting
 * point only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/part_int.h"

int64_t part_mark(const struct part *p)
{
    int64_t low = part_rule(p, RULE_MARK) ? state_low(&p->st) : p->st.next;
    return low > p->committed_mark ? low : p->committed_mark;
}

static const struct part_mark *best(const struct part *p, int64_t mark)
{
    if (!part_rule(p, RULE_PART_STATE))
        return NULL;
    for (size_t i = p->st.nmarks; i > 0; i--)
        if (p->st.marks[i - 1].at <= mark)
            return &p->st.marks[i - 1];
    return NULL;
}

void part_metadata(const struct part *p, int64_t mark, char out[128])
{
    const struct part_mark *m = best(p, mark);
    out[0] = 0;
    if (m)
        snprintf(out, 128, "part.state %" PRId64 " %" PRId64 " %" PRId64, m->at, m->first, m->last);
}

int part_metadata_read(const char *text, struct part_mark *ret)
{
    struct slice rest = sl_str(text), word;
    int64_t v[3];
    if (!sl_split(&rest, ' ', &word) || !sl_is(word, "part.state"))
        return -EINVAL;
    for (int i = 0; i < 3; i++)
        if (!sl_split(&rest, ' ', &word) || sl_i64(word, &v[i]) < 0 || v[i] < 0)
            return -EINVAL;
    if (v[1] > v[2] || v[0] > v[1])
        return -EINVAL;
    *ret = (struct part_mark){.at = v[0], .first = v[1], .last = v[2]};
    return 0;
}

int64_t part_cut(const struct part *p)
{
    if (!part_rule(p, RULE_PART_STATE))
        return p->committed_mark;
    for (size_t i = p->st.nmarks; i > 0; i--) {
        const struct part_mark *m = &p->st.marks[i - 1];
        if (m->at <= p->committed_at && m->at <= p->committed_mark &&
            m->time_ms <= p->wall_ms - p->o.history_ms)
            return m->at;
    }
    return -1;
}

/* Starting points below the one that the log may be cut at are of no use any more. */
static void forget_marks(struct part *p)
{
    int64_t cut = part_cut(p);
    size_t n = 0;
    while (n < p->st.nmarks && p->st.marks[n].at < cut)
        n++;
    p->st.nmarks -= n;
    memmove(p->st.marks, p->st.marks + n, p->st.nmarks * sizeof *p->st.marks);
}

void part_committed(struct part *p, int64_t mark, const char *metadata)
{
    struct part_mark m;
    if (mark > p->committed_mark)
        p->committed_mark = mark;
    if (metadata && part_metadata_read(metadata, &m) == 0 && m.at > p->committed_at)
        p->committed_at = m.at;
    if (p->st.nmarks)
        forget_marks(p);
}

/* ---- floors ---- */

int part_floor(struct part *p, const char *source, int64_t floor)
{
    struct floor *f = map_get(&p->floors, sl_str(source));
    if (!f) {
        if (!(f = calloc(1, sizeof *f)))
            return -ENOMEM;
        f->value = -1;
        if (map_put(&p->floors, sl_str(source), f, NULL) < 0) {
            free(f);
            return -ENOMEM;
        }
    }
    if (floor > f->value) {
        f->value = floor;
        f->barrier = p->appended;
    }
    return 0;
}

void part_floors_read(struct part *p)
{
    p->floors_asked = false;
}

static int64_t safe_floor(void *arg, const char *source, int64_t known)
{
    struct part *p = arg;
    struct floor *f = map_get(&p->floors, sl_str(source));
    bool safe = f && (p->settled > f->barrier || !part_rule(p, RULE_SAFE_FLOORS));
    return safe && f->value > known ? f->value : known;
}

/* ---- values in pieces ---- */

/* Appends `text` as records of type t, each at most REC_CHUNK_BYTES. */
static int append_chunks(struct part *p, enum rec_type t, struct run *run, struct slice text,
                         int64_t at)
{
    int n = (int)((text.n + REC_CHUNK_BYTES - 1) / REC_CHUNK_BYTES), error = 0;
    for (int i = 0; i < n && !error; i++) {
        size_t from = (size_t)i * REC_CHUNK_BYTES;
        size_t len = text.n - from < REC_CHUNK_BYTES ? text.n - from : REC_CHUNK_BYTES;
        struct rec *r = fact_new(p, t, run ? run->id : NULL);
        if (!r)
            return -ENOMEM;
        r->at = at;
        r->chunk = i;
        r->chunks = n;
        r->agent = run && run->spec.agent ? strdup(run->spec.agent) : NULL;
        r->value = val_text_new(sl(text.p + from, len));
        r->body.ready = true;
        if (!r->value || (run && run->spec.agent && !r->agent)) {
            rec_unref(r);
            return -ENOMEM;
        }
        error = fact_append(p, r, run, NULL);
    }
    return error;
}

static void write_state(struct part *p)
{
    struct buf b;
    buf_init(&b, p->o.state_bytes_max);
    if (state_write(&p->st, safe_floor, p, &b) == 0 &&
        append_chunks(p, REC_PART_STATE, NULL, buf_slice(&b), p->st.next) == 0) {
        p->state_ms = p->wall_ms;
        p->state_next = p->st.next;
        p->state_chunks = (int64_t)((b.n + REC_CHUNK_BYTES - 1) / REC_CHUNK_BYTES);
    }
    buf_free(&b);
}

static void snapshot(struct part *p, struct run *r)
{
    struct buf b;
    const struct run_state *st = part_rule(p, RULE_SNAPSHOT_UNDER_WAY) ? &r->spec : &r->known;
    if (r->snapshotting || r->snap_at == p->st.next || !run_live(r->spec.status))
        return;
    buf_init(&b, p->o.state_bytes_max);
    if (run_state_write(st, &b) == 0) {
        r->snapshotting = true;
        r->snap_at = p->st.next;
        if (append_chunks(p, REC_SNAPSHOT, r, buf_slice(&b), p->st.next) < 0)
            r->snapshotting = false;
    }
    buf_free(&b);
}

/* About what a snapshot of every live run would take. */
static int64_t live_bytes(const struct part *p)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    int64_t sum = 0;
    while (map_next(&p->st.runs, &pos, &k, &v)) {
        const struct run_state *st = &((struct run *)v)->known;
        sum += 500 + (int64_t)(val_text(st->origin).n + val_text(st->wf_raw).n +
                               val_text(st->context).n + val_text(st->last).n);
        sum += (int64_t)st->visits.n * 40;
    }
    return sum;
}

/* Runs that pin more log than four times what all snapshots would take are re-anchored, the oldest
 * first. */
static void re_anchor(struct part *p)
{
    struct heap_node *top = heap_top(&p->st.pins);
    if (!top)
        return;
    struct run *r = state_pinned_by(&p->st, top);
    if (!r || r->snapshotting)
        return; /* an end whose dead letter is under way holds it */
    int64_t held = p->st.bytes - r->bytes_at_pin;
    if (held < (int64_t)p->o.snapshot_bytes_min || held < 4 * live_bytes(p))
        return;
    snapshot(p, r);
}

static void tell_ends(struct part *p)
{
    LIST_EACH(n, &p->st.ends)
    {
        struct ended *e = LIST_ENTRY(n, struct ended, node);
        if (!e->telling) {
            e->telling = true;
            p->ops->notify(p->arg, p, e);
        }
    }
}

void part_tell(struct part *p)
{
    if (p->status == PART_OWNER)
        tell_ends(p);
}

/* With many ids to remember it is large, so it is written less often: a restart folds at most
 * STATE_IDS_FACTOR records for each of them, or state_every_records. */
static bool state_due(const struct part *p)
{
    int64_t ids = (int64_t)sources_ids(&p->st.sources), came = p->st.next - p->state_next;
    int64_t since = p->wall_ms - p->state_ms, enough = STATE_IDS_FACTOR * ids;
    if (came >= (enough > p->o.state_every_records ? enough : p->o.state_every_records))
        return true;
    return since >= p->o.state_every_ms && (came >= ids || since >= 10 * p->o.state_every_ms);
}

void part_tick(struct part *p, bool now)
{
    if (p->status != PART_OWNER)
        return;
    tell_ends(p);
    re_anchor(p);
    bool due = now || state_due(p);
    /* An idle partition writes none: nothing but the former part.state itself came since. */
    if (due && p->st.next > p->state_next + p->state_chunks) {
        write_state(p);
        if (!p->floors_asked) {
            p->floors_asked = true;
            p->ops->floors(p->arg, p);
        }
    }
}
