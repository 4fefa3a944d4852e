/* See page.h. Facts can be judged only by who owned the partition before them: a reading begins
 * where that is known (owners.h), or at the log's begin. */
#include "gateway/page.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/owners.h"
#include "gateway/run_read.h"
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

void page_read(struct api_read *r, struct kadmin *a)
{
    struct page *p = LIST_ENTRY(r, struct page, read);
    struct gateway *g = r->g;
    struct journal_start s;
    struct reading x = {.p = p};
    int64_t high;
    struct journal_start at = {-1, -1, 0};
    if (p->find && run_place(g, a, p->run, p->authorization, &at))
        p->from = at.from;
    p->find = false;
    int64_t end;
    int error =
        kadmin_watermarks(a, g->names.runs, p->partition, &p->low, &high, JOURNAL_ADMIN_MS, &r->e);
    if (error)
        return;
    if (p->to < 0 || p->to > high)
        p->to = high;
    int64_t want = p->from < p->low ? p->low : p->from > high ? high : p->from;
    if (!owners_start(g->owners, p->partition, want, p->low, high, &s)) {
        s = at;
        if ((at.from < p->low || at.from > high) &&
            journal_begin(a, &g->names, p->partition, &s, &r->e))
            return;
    }
    x.epoch = s.epoch;
    x.nonce = s.nonce;
    x.next = s.from;
    end = p->run[0] ? high : p->to;
    error = s.from < end ? kadmin_read(a, g->names.runs, p->partition, s.from, end, on_record, &x,
                                       READ_MS, &r->e)
                         : 0;
    if (error == -ENOMEM)
        err_set(&r->e, error, "try again", "no memory for the journal");
    else if (error >= 0)
        memset(&r->e, 0, sizeof r->e);
    if (error >= 0 && !x.failed)
        owners_learn(g->owners, p->partition, &s, x.next, &x.seen);
    free(x.seen.v);
    p->exists = p->exists || p->n;
    p->from = error == 0 || x.next >= p->to ||
                      (p->exists && p->n < STREAM_PAGE_RECORDS && p->bytes < STREAM_PAGE_BYTES)
                  ? p->to
                  : x.next;
}
