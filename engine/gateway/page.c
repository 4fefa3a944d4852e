/* See page.h. Facts can be judged only by who owned the partition before them: a reading begins
 * where that is known (owners.h), or at the log's begin. */
#include "gateway/page.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/run_place.h"
#include "triggers/recwire.h"

#define READ_MS 20000

struct reading {
    struct page *p;
    struct owned seen;
    int64_t epoch, next;
    uint64_t nonce;
    bool failed;
};

void page_free_items(struct list *items)
{
    struct list *l;
    while ((l = list_pop(items))) {
        struct page_item *i = LIST_ENTRY(l, struct page_item, node);
        rec_unref(i->rec);
        free(i);
    }
}

void page_drop(struct page *p)
{
    page_free_items(&p->items);
    if (p->authorization)
        explicit_bzero(p->authorization, strlen(p->authorization));
    free(p->authorization);
    p->authorization = NULL;
    free(p->place);
    p->place = NULL;
}

static int keep(struct page *p, struct rec *r)
{
    struct page_item *i = malloc(sizeof *i);
    if (!i)
        return -ENOMEM;
    i->rec = rec_ref(r);
    list_push(&p->items, &i->node);
    p->n++;
    p->bytes += r->bytes;
    return 0;
}

static int on_record(void *arg, const struct krec *k)
{
    struct reading *x = arg;
    struct page *p = x->p;
    struct rec *r = NULL;
    bool owner = sl_starts(k->key, SL("!owner/"));
    if (p->n >= STREAM_PAGE_RECORDS || p->bytes >= STREAM_PAGE_BYTES)
        return 1;
    if (k->offset >= p->to) { /* is there such a run? */
        p->exists = sl_starts(k->key, sl_str(p->run));
        return p->exists;
    }
    x->next = k->offset + 1;
    if (!owner && (k->offset < p->from || (p->run[0] && !sl_starts(k->key, sl_str(p->run)))))
        return 0;
    int error = recwire_read(k, &r, NULL);
    if (error)
        return error == -ENOMEM ? error : 0;
    if (r->type == REC_OWNER) {
        x->epoch = r->offset;
        x->nonce = r->nonce;
        x->failed = !owned_add(&x->seen, r->offset, r->nonce) || x->failed;
    }
    bool valid = r->type == REC_OWNER || rec_is_request(r->type) ||
                 (r->epoch == x->epoch && r->nonce == x->nonce);
    if (valid && r->run[0] && k->offset >= p->from)
        error = keep(p, r);
    rec_unref(r);
    return error;
}

/* 1: stopped by on_record; 0: to the end. */
static int read_ranges(struct reading *x, struct kadmin *a, const struct run_plan *plan,
                       struct err *e)
{
    struct page *p = x->p;
    int rc = 0;
    for (int i = 0; i < plan->n && !rc; i++) {
        const struct span *v = &plan->v[i];
        x->epoch = v->epoch;
        x->nonce = v->nonce;
        x->next = v->from;
        if (v->from < v->to)
            rc = kadmin_read(a, p->read.g->names.runs, p->partition, v->from, v->to, on_record, x,
                             READ_MS, e);
    }
    return rc;
}

/* What is above the page, so that the next one begins where this one ended. */
static void cut_place(const struct reading *x, const struct run_plan *plan)
{
    struct run_place *l = x->p->place;
    int n = 0;
    for (int i = 0; i < l->spans.n && plan->placed; i++)
        if (l->spans.v[i].to > x->next)
            l->spans.v[n++] = l->spans.v[i];
    l->spans.n = n;
    struct span *first = n && l->spans.v[0].from < x->next ? &l->spans.v[0] : NULL;
    if (first)
        *first = (struct span){x->next, first->to, x->epoch, x->nonce};
    else if (!plan->placed || l->next.from < x->next)
        l->next = (struct journal_start){x->next, x->epoch, x->nonce};
}

static int find_place(struct page *p, struct kadmin *a, struct err *e)
{
    if (p->place)
        return 0;
    if (!(p->place = calloc(1, sizeof *p->place)))
        return err_set(e, -ENOMEM, "try again", "no memory for the journal");
    p->place->next.from = -1;
    if (p->run[0])
        (void)run_place(p->read.g, a, p->run, true, p->authorization, p->place);
    return 0;
}

void page_read(struct api_read *r, struct kadmin *a)
{
    struct page *p = LIST_ENTRY(r, struct page, read);
    struct gateway *g = r->g;
    struct reading x = {.p = p};
    struct run_plan plan;
    int64_t high;
    int error = find_place(p, a, &r->e);
    if (!error)
        error = kadmin_watermarks(a, g->names.runs, p->partition, &p->low, &high, JOURNAL_ADMIN_MS,
                                  &r->e);
    if (error)
        return;
    if (p->to < 0 || p->to > high)
        p->to = high;
    p->exists = p->exists || p->place->spans.n;
    int64_t end = p->run[0] && !p->exists ? high : p->to;
    if (run_plan(g, a, p->partition, p->place, p->from, end, p->low, high, &plan, &r->e))
        return;
    error = read_ranges(&x, a, &plan, &r->e);
    if (error == -ENOMEM)
        err_set(&r->e, error, "try again", "no memory for the journal");
    else if (error >= 0)
        memset(&r->e, 0, sizeof r->e);
    if (error >= 0 && !x.failed)
        run_plan_learn(g, p->partition, &plan, x.next, &x.seen);
    free(x.seen.v);
    p->exists = p->exists || p->n;
    bool full = p->n >= STREAM_PAGE_RECORDS || p->bytes >= STREAM_PAGE_BYTES;
    p->from = error == 0 || x.next >= p->to || (p->exists && !full) ? p->to : x.next;
    cut_place(&x, &plan);
}
