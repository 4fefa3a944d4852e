/* See run_place.h. */
#include "gateway/run_place.h"

#include <string.h>

#include "base/hash.h"
#include "base/intset.h"
#include "gateway/peers.h"
#include "view/view.h"

/* What was lost lately is still in the file, and falls behind. */
static bool keeps(struct gateway *g, int partition)
{
    struct intset of;
    if (!strcmp(g->config->view, "all"))
        return true;
    if (!g->o.view || partition >= g->partitions || intset_init(&of, g->partitions))
        return false;
    intset_put(&of, partition);
    view_keeps(g->o.view, &of);
    bool kept = intset_has(&of, partition);
    intset_free(&of);
    return kept;
}

bool run_place(struct gateway *g, struct kadmin *a, const char *run, bool others,
               const char *authorization, struct run_place *ret)
{
    struct run_place theirs;
    ret->spans.n = 0;
    ret->next.from = -1;
    if (g->o.view)
        (void)view_run(g->o.view, run, ret, NULL, 0, NULL);
    if (others && !keeps(g, run_id_partition(sl_str(run))) &&
        peers_place(g, a, run, authorization, &theirs))
        *ret = theirs;
    if (ret->next.from < 0)
        ret->spans.n = 0;
    return ret->next.from >= 0;
}

/* ---- between nodes ---- */

static void put_owner(struct json_object *o, int64_t epoch, uint64_t nonce)
{
    char text[17];
    hex_u64(text, nonce);
    js_put_new(o, "epoch", json_object_new_int64(epoch));
    js_put_new(o, "nonce", json_object_new_string(text));
}

void run_place_json(const struct run_place *p, struct json_object *o)
{
    struct json_object *spans = json_object_new_array(), *next = json_object_new_object();
    for (int i = 0; i < p->spans.n; i++) {
        const struct span *x = &p->spans.v[i];
        struct json_object *one = json_object_new_object();
        js_put_new(one, "from", json_object_new_int64(x->from));
        js_put_new(one, "to", json_object_new_int64(x->to));
        put_owner(one, x->epoch, x->nonce);
        js_push_new(spans, one);
    }
    js_put_new(next, "from", json_object_new_int64(p->next.from));
    put_owner(next, p->next.epoch, p->next.nonce);
    js_put_new(o, "spans", spans);
    js_put_new(o, "next", next);
}

static bool read_owner(struct json_object *o, int64_t *from, int64_t *epoch, uint64_t *nonce)
{
    const char *text = js_str(o, "nonce");
    *from = js_int(o, "from", -1);
    *epoch = js_int(o, "epoch", -1);
    return text && hex_read_u64(sl_str(text), nonce) == 0 && *from >= 0 && *epoch >= -1 &&
           *epoch < *from;
}

bool run_place_from(struct slice json, struct run_place *ret)
{
    struct json_object *o = NULL;
    *ret = (struct run_place){0};
    if (js_parse(json, &o, NULL))
        return false;
    struct json_object *spans = js_get(o, "spans"), *next = js_get(o, "next");
    size_t n = js_length(spans);
    bool good =
        n <= SPANS_MAX && read_owner(next, &ret->next.from, &ret->next.epoch, &ret->next.nonce);
    for (size_t i = 0; i < n && good; i++) {
        struct span *x = &ret->spans.v[i];
        struct json_object *one = js_at(spans, i);
        good = read_owner(one, &x->from, &x->epoch, &x->nonce);
        x->to = js_int(one, "to", -1);
        good = good && x->to > x->from && (!i || x->from >= x[-1].to);
        ret->spans.n++;
    }
    json_object_put(o);
    return good;
}

/* ---- what to read ---- */

/* The log was cut inside of a range, and who owns the partition there does not stand in it. */
static int begin_at_low(struct kadmin *a, const struct names *n, int partition, struct span *x,
                        struct err *e)
{
    struct journal_start s;
    int error = journal_begin(a, n, partition, &s, e);
    if (error)
        return error;
    x->from = s.from;
    x->epoch = s.epoch;
    x->nonce = s.nonce;
    if (x->to < x->from)
        x->to = x->from;
    return 0;
}

static int plan_all(struct gateway *g, struct kadmin *a, int partition, int64_t want, int64_t to,
                    int64_t low, int64_t high, struct run_plan *ret, struct err *e)
{
    struct journal_start s;
    want = want < low ? low : want > high ? high : want;
    int error = 0;
    if (!owners_start(g->owners, partition, want, low, high, &s))
        error = journal_begin(a, &g->names, partition, &s, e);
    ret->v[0] = (struct span){s.from, to < s.from ? s.from : to, s.epoch, s.nonce};
    ret->n = 1;
    ret->placed = false;
    return error;
}

int run_plan(struct gateway *g, struct kadmin *a, int partition, const struct run_place *place,
             int64_t want, int64_t to, int64_t low, int64_t high, struct run_plan *ret,
             struct err *e)
{
    /* A place above the end is of another log under the same name. */
    if (place->next.from < 0 || place->next.from > high)
        return plan_all(g, a, partition, want, to, low, high, ret, e);
    int error = 0;
    ret->n = run_place_ranges(place, want, to, ret->v);
    ret->placed = true;
    for (int i = 0; i < ret->n && !error; i++)
        if (ret->v[i].from < low)
            error = begin_at_low(a, &g->names, partition, &ret->v[i], e);
    return error;
}

void run_plan_learn(struct gateway *g, int partition, const struct run_plan *plan, int64_t to,
                    const struct owned *seen)
{
    struct journal_start s = {plan->v[0].from, plan->v[0].epoch, plan->v[0].nonce};
    if (!plan->placed)
        owners_learn(g->owners, partition, &s, to, seen);
}
