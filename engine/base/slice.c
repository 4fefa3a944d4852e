/* Slices: comparing, searching, cutting and reading numbers. Thread-safe: pure functions. */
#include "base/slice.h"

#include <errno.h>
#include <stdlib.h>

int sl_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    if (c)
        return c < 0 ? -1 : 1;
    return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

ptrdiff_t sl_find(struct slice a, char c)
{
    const char *at = a.n ? memchr(a.p, c, a.n) : NULL;
    return at ? at - a.p : -1;
}

bool sl_split(struct slice *rest, char sep, struct slice *ret_part)
{
    if (!rest->p)
        return false;
    ptrdiff_t at = sl_find(*rest, sep);
    if (at < 0) {
        *ret_part = *rest;
        *rest = (struct slice){NULL, 0};
        return true;
    }
    *ret_part = sl(rest->p, (size_t)at);
    *rest = sl(rest->p + at + 1, rest->n - (size_t)at - 1);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice sl_trim(struct slice a)
{
    while (a.n && is_blank(a.p[0])) {
        a.p++;
        a.n--;
    }
    while (a.n && is_blank(a.p[a.n - 1]))
        a.n--;
    return a;
}

int sl_i64(struct slice a, int64_t *ret)
{
    bool neg = a.n && a.p[0] == '-';
    size_t i = a.n && (a.p[0] == '-' || a.p[0] == '+') ? 1 : 0;
    if (i == a.n)
        return -EINVAL;
    /* Counted downwards, because the lowest number has no positive counterpart. */
    int64_t v = 0;
    bool range = false;
    for (; i < a.n; i++) {
        if (a.p[i] < '0' || a.p[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_sub_overflow(v, (int64_t)(a.p[i] - '0'), &v))
            range = true;
    }
    if (range || (!neg && v == INT64_MIN))
        return -ERANGE;
    *ret = neg ? v : -v;
    return 0;
}

char *sl_dup(struct slice a)
{
    char *s = a.n == SIZE_MAX ? NULL : malloc(a.n + 1);
    if (!s)
        return NULL;
    if (a.n)
        memcpy(s, a.p, a.n);
    s[a.n] = 0;
    return s;
}
