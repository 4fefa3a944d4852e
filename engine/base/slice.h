/* A view of bytes that somebody else owns: pointer and length, no terminating zero. Used instead of
 * C strings at every protocol edge. A slice must not outlive what it points into. Thread-safe. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

/* A slice of a string literal, and of a C string (NULL gives the empty slice). */
#define SL(lit) ((struct slice){(lit), sizeof(lit) - 1})
static inline struct slice sl_str(const char *s)
{
    return (struct slice){s, s ? strlen(s) : 0};
}
static inline struct slice sl(const void *p, size_t n)
{
    return (struct slice){p, n};
}
static inline bool sl_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool sl_is(struct slice a, const char *s)
{
    return sl_eq(a, sl_str(s));
}
static inline bool sl_starts(struct slice a, struct slice prefix)
{
    return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}
static inline bool sl_ends(struct slice a, struct slice suffix)
{
    return a.n >= suffix.n &&
           (suffix.n == 0 || memcmp(a.p + a.n - suffix.n, suffix.p, suffix.n) == 0);
}
/* From byte `at` to the end; empty when `at` is beyond it. */
static inline struct slice sl_from(struct slice a, size_t at)
{
    return at >= a.n ? (struct slice){a.p + a.n, 0} : (struct slice){a.p + at, a.n - at};
}
/* printf("%.*s", SL_ARG(s)) */
#define SL_ARG(s) (int)(s).n, (s).p

/* Byte order like memcmp, the shorter first when one begins with the other. */
int sl_cmp(struct slice a, struct slice b);
/* First place of byte `c`, or -1. */
ptrdiff_t sl_find(struct slice a, char c);
/* Cuts off what stands before the first `sep` and moves `rest` behind it; without `sep`, all of it.
 * Returns false when `rest` was exhausted before (rest->p == NULL). */
bool sl_split(struct slice *rest, char sep, struct slice *ret_part);
/* Without blanks, tabs, CR and LF at both ends. */
struct slice sl_trim(struct slice a);
/* A whole decimal number, with an optional sign: 0, or -EINVAL / -ERANGE with *ret untouched. */
int sl_i64(struct slice a, int64_t *ret);
/* A zero-terminated copy, to be freed with free(); NULL when there is no memory. */
char *sl_dup(struct slice a);
