/* See owners.h. */
#include "gateway/owners.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct owners {
    pthread_mutex_t lock;
    struct owned *v; /* by partition */
    size_t n;
};

struct owners *owners_new(void)
{
    struct owners *o = calloc(1, sizeof *o);
    if (o)
        pthread_mutex_init(&o->lock, NULL);
    return o;
}

struct owners *owners_free(struct owners *o)
{
    for (size_t i = 0; o && i < o->n; i++)
        free(o->v[i].v);
    if (o) {
        free(o->v);
        pthread_mutex_destroy(&o->lock);
    }
    free(o);
    return NULL;
}

static struct owned *owned_of(struct owners *o, int partition)
{
    size_t n = (size_t)partition + 1;
    if (n <= o->n)
        return &o->v[partition];
    struct owned *v = realloc(o->v, n * sizeof *v);
    if (!v)
        return NULL;
    memset(v + o->n, 0, (n - o->n) * sizeof *v);
    o->v = v;
    o->n = n;
    return &v[partition];
}

/* The latest owner below `offset`; false: not known. */
static bool owner_below(const struct owned *p, int64_t offset, struct journal_start *ret)
{
    if (offset < p->base || offset > p->known)
        return false;
    *ret = (struct journal_start){offset, -1, 0};
    for (size_t i = p->n; i > 0 && ret->epoch < 0; i--)
        if (p->v[i - 1].epoch < offset) {
            ret->epoch = p->v[i - 1].epoch;
            ret->nonce = p->v[i - 1].nonce;
        }
    return true;
}

bool owners_start(struct owners *o, int partition, int64_t want, int64_t low, int64_t high,
                  struct journal_start *ret)
{
    pthread_mutex_lock(&o->lock);
    struct owned *p = owned_of(o, partition);
    bool found = false;
    if (p && p->known > high)
        p->base = p->known = 0, p->n = 0; /* another log under the same name */
    if (p && p->known >= low)
        found = owner_below(p, want, ret) || (p->known < want && owner_below(p, p->known, ret));
    pthread_mutex_unlock(&o->lock);
    return found;
}

bool owned_add(struct owned *p, int64_t epoch, uint64_t nonce)
{
    if (p->n && p->v[p->n - 1].epoch >= epoch)
        return true;
    if (p->n == OWNERS_MAX) {
        p->n /= 2;
        memmove(p->v, p->v + p->n, p->n * sizeof *p->v);
        p->base = p->v[0].epoch + 1;
    }
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 8;
        struct owner *v = realloc(p->v, cap * sizeof *v);
        if (!v)
            return false;
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = (struct owner){epoch, nonce};
    return true;
}

void owners_learn(struct owners *o, int partition, const struct journal_start *s, int64_t to,
                  const struct owned *seen)
{
    pthread_mutex_lock(&o->lock);
    struct owned *p = owned_of(o, partition);
    bool whole = p;
    if (p && (p->known < s->from || seen->base)) { /* not joined to what was known: anew */
        p->n = 0;
        p->base = p->known = seen->base ? seen->base : s->from;
        whole = seen->base || s->epoch < 0 || owned_add(p, s->epoch, s->nonce);
    }
    for (size_t i = 0; whole && i < seen->n; i++)
        if (seen->base || seen->v[i].epoch >= p->known)
            whole = owned_add(p, seen->v[i].epoch, seen->v[i].nonce);
    if (whole && to > p->known)
        p->known = to;
    else if (p && !whole)
        p->base = p->known = 0, p->n = 0; /* it is read again */
    pthread_mutex_unlock(&o->lock);
}
