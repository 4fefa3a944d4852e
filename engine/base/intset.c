/* See intset.h. */
#include "base/intset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int intset_init(struct intset *s, int n)
{
    *s = (struct intset){calloc(n > 0 ? (size_t)n : 1, 1), n};
    return s->v ? 0 : -ENOMEM;
}

void intset_free(struct intset *s)
{
    free(s->v);
    *s = (struct intset){NULL, 0};
}

int intset_copy(struct intset *to, const struct intset *s)
{
    int error = intset_init(to, s->n);
    if (!error && s->n > 0)
        memcpy(to->v, s->v, (size_t)s->n);
    return error;
}

void intset_put(struct intset *s, int i)
{
    if (i >= 0 && i < s->n)
        s->v[i] = 1;
}

void intset_del(struct intset *s, int i)
{
    if (i >= 0 && i < s->n)
        s->v[i] = 0;
}

void intset_fill(struct intset *s)
{
    if (s->n > 0)
        memset(s->v, 1, (size_t)s->n);
}

int intset_count(const struct intset *s)
{
    int count = 0;
    for (int i = 0; i < s->n; i++)
        count += s->v[i];
    return count;
}

bool intset_same(const struct intset *a, const struct intset *b)
{
    return a->n == b->n && (a->n <= 0 || memcmp(a->v, b->v, (size_t)a->n) == 0);
}

static int read_range(struct intset *s, struct slice text)
{
    int64_t low, high;
    int dash = sl_find(text, '-');
    struct slice first = dash < 0 ? text : sl(text.p, (size_t)dash);
    struct slice last = dash < 0 ? text : sl_from(text, (size_t)dash + 1);
    if (sl_i64(first, &low) < 0 || sl_i64(last, &high) < 0 || low < 0 || high < low)
        return -EINVAL;
    if (high >= s->n)
        return -ERANGE;
    memset(s->v + low, 1, (size_t)(high - low) + 1);
    return 0;
}

int intset_read(struct intset *s, struct slice text)
{
    struct slice rest = text, one;
    int error = text.n ? 0 : -EINVAL;
    while (!error && rest.p && sl_split(&rest, ',', &one))
        error = read_range(s, one);
    return error;
}

int intset_write(const struct intset *s, int from, size_t max_bytes, struct buf *b)
{
    size_t begin = b->n;
    for (int i = from; i < s->n; i++) {
        int last = i;
        if (!s->v[i])
            continue;
        if (b->n - begin >= max_bytes)
            return i;
        while (last + 1 < s->n && s->v[last + 1])
            last++;
        buf_addf(b, last > i ? "%s%d-%d" : "%s%d", b->n > begin ? "," : "", i, last);
        i = last;
    }
    return s->n;
}
