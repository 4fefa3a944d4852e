/* A growing byte buffer that can't be made without a maximum size. The first failure (-ENOBUFS
 * beyond the maximum, -ENOMEM) sticks: later additions do nothing, so a writer checks `buf_error`
 * once at the end. One thread owns a buffer. The content is always followed by a zero byte that
 * does not count. */
#pragma once
#include <stdarg.h>

#include "base/slice.h"

struct buf {
    char *p;
    size_t n, cap, max;
    int error;
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);  /* takes a zeroed or freed buffer too */
void buf_reset(struct buf *b); /* empty again, error cleared, memory kept */
void buf_trim(struct buf *b,
              size_t keep_bytes); /* empty again; gives memory above keep_bytes back */
static inline int buf_error(const struct buf *b)
{
    return b->error;
}
int buf_add(struct buf *b, const void *p, size_t n); /* each add returns b->error */
int buf_addc(struct buf *b, char c);
int buf_adds(struct buf *b, const char *s);
int buf_add_slice(struct buf *b, struct slice s);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *fmt, va_list ap);
/* Escaped for a part of a URI: all but the unreserved characters and those in `also` (RFC 3986,
 * sections 2.1 and 2.3). */
int buf_add_uri(struct buf *b, const char *text, const char *also);
/* Room for n bytes at the end, to be filled by the caller, who then calls buf_commit(b, used). */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t used);
/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);
static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->n};
}
/* The content as a zero-terminated string that the caller frees; the buffer is empty then. NULL on
 * error. */
char *buf_take(struct buf *b);
