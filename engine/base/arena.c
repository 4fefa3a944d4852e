/* Arenas: blocks in a chain, the newest at the head, each filled from its start. One thread owns an
 * arena. Invariants: what lies behind `fill` in a block is zero; `used` is the sum of the sizes
 * handed out and is at most `max`. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGN_BYTES     16
#define BLOCK_MIN_BYTES 4096
#define BLOCK_MAX_BYTES (256 * 1024)

struct arena_block {
    struct arena_block *next;
    size_t size, fill;
    _Alignas(ALIGN_BYTES) char data[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

void arena_free(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->head = NULL;
    a->used = 0;
}

void arena_reset(struct arena *a)
{
    struct arena_block *b = a->head;
    while (b && b->next) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
    a->head = b;
    a->used = 0;
    if (b) {
        memset(b->data, 0, b->fill);
        b->fill = 0;
    }
}

static struct arena_block *block_add(struct arena *a, size_t need)
{
    size_t size = a->head ? a->head->size * 2 : BLOCK_MIN_BYTES;
    if (size > BLOCK_MAX_BYTES)
        size = BLOCK_MAX_BYTES;
    if (size < need)
        size = need;
    struct arena_block *b = calloc(1, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    b->next = a->head;
    a->head = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t n)
{
    if (n > SIZE_MAX / 2 || a->used > a->max)
        return NULL;
    n = n ? (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES : ALIGN_BYTES;
    if (n > a->max - a->used)
        return NULL;
    struct arena_block *b = a->head;
    if (!b || b->size - b->fill < n)
        b = block_add(a, n);
    if (!b)
        return NULL;
    void *p = b->data + b->fill;
    b->fill += n;
    a->used += n;
    return p;
}

char *arena_strdup(struct arena *a, struct slice s)
{
    char *p = s.n == SIZE_MAX ? NULL : arena_alloc(a, s.n + 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

struct slice arena_slice(struct arena *a, struct slice s)
{
    char *p = arena_strdup(a, s);
    return (struct slice){p, p ? s.n : 0};
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}
