/* See spans.h. */
#include "view/spans.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"

static void join(struct spans *s, int at)
{
    if (s->v[at + 1].to > s->v[at].to)
        s->v[at].to = s->v[at + 1].to;
    memmove(&s->v[at + 1], &s->v[at + 2], (size_t)(s->n - at - 2) * sizeof *s->v);
    s->n--;
}

static int nearest(const struct spans *s)
{
    int at = 0;
    for (int i = 1; i + 1 < s->n; i++)
        if (s->v[i + 1].from - s->v[i].to < s->v[at + 1].from - s->v[at].to)
            at = i;
    return at;
}

void spans_add(struct spans *s, const struct span *x)
{
    struct span *last = s->n ? &s->v[s->n - 1] : NULL;
    if (last && x->from - last->to < SPAN_GAP) {
        if (x->to > last->to)
            last->to = x->to;
        return;
    }
    if (s->n == SPANS_MAX) {
        int at = nearest(s);
        if (x->from - last->to < s->v[at + 1].from - s->v[at].to) {
            last->to = x->to;
            return;
        }
        join(s, at);
    }
    s->v[s->n++] = *x;
}

void spans_write(const struct spans *s, struct buf *b)
{
    char nonce[17];
    for (int i = 0; i < s->n; i++) {
        const struct span *x = &s->v[i];
        hex_u64(nonce, x->nonce);
        buf_addf(b, "%s%" PRId64 "-%" PRId64 ":%" PRId64 ":%s", i ? "," : "", x->from, x->to,
                 x->epoch, nonce);
    }
}

static bool read_one(struct slice s, struct span *ret)
{
    struct slice from, to, epoch;
    return sl_split(&s, '-', &from) && sl_split(&s, ':', &to) && sl_split(&s, ':', &epoch) &&
           sl_i64(from, &ret->from) == 0 && sl_i64(to, &ret->to) == 0 &&
           sl_i64(epoch, &ret->epoch) == 0 && hex_read_u64(s, &ret->nonce) == 0 && ret->from >= 0 &&
           ret->from < ret->to && ret->epoch >= -1 && ret->epoch < ret->from;
}

int spans_read(struct slice text, struct spans *ret)
{
    struct slice one;
    ret->n = 0;
    if (!text.n)
        return 0;
    while (sl_split(&text, ',', &one)) {
        struct span *x = &ret->v[ret->n];
        if (ret->n == SPANS_MAX || !read_one(one, x) || (ret->n && x->from < x[-1].to)) {
            ret->n = 0;
            return -EINVAL;
        }
        ret->n++;
    }
    return 0;
}

int run_place_ranges(const struct run_place *p, int64_t after, int64_t to,
                     struct span ret[SPANS_MAX + 1])
{
    int n = 0;
    for (int i = 0; i < p->spans.n; i++) {
        struct span x = p->spans.v[i];
        if (x.to > to)
            x.to = to;
        if (x.from < x.to && x.to > after)
            ret[n++] = x;
    }
    if (p->next.from < to)
        ret[n++] = (struct span){p->next.from, to, p->next.epoch, p->next.nonce};
    return n;
}
