/* Growing byte buffers with a maximum. One thread owns a buffer.
 * Invariants: p is NULL or has room for cap + 1 bytes; n <= cap; p[n] == 0; error is 0 or the first
 * failure. */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_CAP_BYTES 64

void buf_init(struct buf *b, size_t max)
{
    assert(max < SIZE_MAX / 2);
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->error = 0;
    if (b->p)
        b->p[0] = 0;
}

void buf_trim(struct buf *b, size_t keep_bytes)
{
    if (b->cap > keep_bytes) {
        free(b->p);
        b->p = NULL;
        b->cap = 0;
    }
    buf_reset(b);
}

/* Room for n more bytes and the zero; false with the error set when there is none. */
static bool grow(struct buf *b, size_t n)
{
    if (b->error)
        return false;
    if (n > b->max - b->n) {
        b->error = -ENOBUFS;
        return false;
    }
    size_t need = b->n + n;
    if (b->p && need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : FIRST_CAP_BYTES;
    while (cap < need)
        cap *= 2;
    if (cap > b->max)
        cap = b->max;
    char *p = realloc(b->p, cap + 1);
    if (!p) {
        b->error = -ENOMEM;
        return false;
    }
    b->p = p;
    b->cap = cap;
    b->p[b->n] = 0;
    return true;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
    if (!grow(b, n))
        return b->error;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
    return 0;
}

int buf_addc(struct buf *b, char c)
{
    if (b->error || !b->p || b->n == b->cap)
        return buf_add(b, &c, 1);
    b->p[b->n++] = c;
    b->p[b->n] = 0;
    return 0;
}

int buf_adds(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

int buf_add_slice(struct buf *b, struct slice s)
{
    return buf_add(b, s.p, s.n);
}

int buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    size_t room = b->p ? b->cap - b->n + 1 : 0;
    int n = b->error ? 0 : vsnprintf(room ? b->p + b->n : NULL, room, fmt, ap);
    if (n < 0) {
        b->error = -EINVAL;
    } else if (!b->error && (size_t)n < room) {
        b->n += (size_t)n;
    } else if (!b->error) {
        if (b->p)
            b->p[b->n] = 0;
        if (grow(b, (size_t)n)) {
            (void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
            b->n += (size_t)n;
        }
    }
    va_end(again);
    if (b->error && b->p)
        b->p[b->n] = 0;
    return b->error;
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = buf_vaddf(b, fmt, ap);
    va_end(ap);
    return r;
}

char *buf_reserve(struct buf *b, size_t n)
{
    return grow(b, n) ? b->p + b->n : NULL;
}

int buf_add_uri(struct buf *b, const char *text, const char *also)
{
    for (; *text; text++) {
        char c = *text;
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            strchr("-._~", c) || strchr(also, c))
            buf_addc(b, c);
        else
            buf_addf(b, "%%%02X", (unsigned char)c);
    }
    return b->error;
}

void buf_commit(struct buf *b, size_t used)
{
    assert(used <= b->cap - b->n);
    b->n += used;
    if (b->p)
        b->p[b->n] = 0;
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (!n)
        return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = 0;
}

char *buf_take(struct buf *b)
{
    char *p = NULL;
    if (!b->error && (b->p || grow(b, 0))) {
        p = b->p;
        b->p = NULL;
    }
    buf_free(b);
    return p;
}
