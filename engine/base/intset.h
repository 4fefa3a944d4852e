/* A set of whole numbers below a bound, such as partitions, and its text as ranges: "0-3,7". One
 * thread owns a set. */
#pragma once
#include "base/buf.h"

struct intset {
    unsigned char *v; /* v[i]: i is in it */
    int n;            /* numbers below n */
};
/* Empty. 0 or -ENOMEM. */
int intset_init(struct intset *s, int n);
void intset_free(struct intset *s);                         /* a zeroed one too */
int intset_copy(struct intset *to, const struct intset *s); /* `to` is overwritten */
static inline bool intset_has(const struct intset *s, int i)
{
    return i >= 0 && i < s->n && s->v[i];
}
void intset_put(struct intset *s, int i); /* out of bounds: nothing */
void intset_del(struct intset *s, int i);
void intset_fill(struct intset *s); /* all below the bound */
int intset_count(const struct intset *s);
bool intset_same(const struct intset *a, const struct intset *b);
/* Adds what the text says. -EINVAL: it is not such a text; -ERANGE: a number is not below the
 * bound. */
int intset_read(struct intset *s, struct slice text);
/* Writes numbers from `from` on until the text has max_bytes or more; the first that was not
 * written, or n. */
int intset_write(const struct intset *s, int from, size_t max_bytes, struct buf *b);
