/* See route.h. A ring of slots in offset order; the lowest open one bounds the commit. */
#include "core/route.h"

#include <errno.h>
#include <stdlib.h>

void route_init(struct route *r, int64_t committed)
{
    memset(r, 0, sizeof *r);
    r->committed = r->next = committed;
}

void route_free(struct route *r)
{
    free(r->ring);
    memset(r, 0, sizeof *r);
}

static struct route_slot *slot(const struct route *r, size_t i)
{
    return &r->ring[(r->head + i) % r->cap];
}

static int grow(struct route *r)
{
    size_t cap = r->cap ? 2 * r->cap : 64;
    struct route_slot *v = malloc(cap * sizeof *v);
    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < r->n; i++)
        v[i] = *slot(r, i);
    free(r->ring);
    r->ring = v;
    r->cap = cap;
    r->head = 0;
    return 0;
}

int route_begin(struct route *r, int64_t offset)
{
    if (r->n >= ROUTE_WINDOW_MAX)
        return -ENOBUFS;
    if (r->n == r->cap) {
        int error = grow(r);
        if (error)
            return error;
    }
    *slot(r, r->n++) = (struct route_slot){offset, 1};
    r->next = offset + 1;
    return 0;
}

static struct route_slot *find(struct route *r, int64_t offset)
{
    size_t lo = 0, hi = r->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (slot(r, mid)->offset < offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->n && slot(r, lo)->offset == offset ? slot(r, lo) : NULL;
}

void route_hold(struct route *r, int64_t offset)
{
    struct route_slot *s = find(r, offset);
    if (s)
        s->pending++;
}

void route_release(struct route *r, int64_t offset)
{
    struct route_slot *s = find(r, offset);
    if (s && s->pending > 0)
        s->pending--;
    while (r->n && slot(r, 0)->pending == 0) {
        r->head = (r->head + 1) % r->cap;
        r->n--;
    }
}

int64_t route_floor(const struct route *r)
{
    return r->n ? slot(r, 0)->offset : r->next;
}
