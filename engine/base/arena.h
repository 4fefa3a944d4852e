/* Memory that is freed all at once: one arena a request, a file or a step. Bounded by `max` bytes;
 * beyond it allocations return NULL. Everything is zeroed and aligned to 16 bytes. One thread owns
 * an arena. */
#pragma once
#include "base/slice.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    size_t used, max;
};

void arena_init(struct arena *a, size_t max);
void arena_free(struct arena *a);
void arena_reset(struct arena *a); /* as new; keeps the first block */
void *arena_alloc(struct arena *a, size_t n);
char *arena_strdup(struct arena *a, struct slice s); /* zero-terminated copy */
struct slice arena_slice(struct arena *a, struct slice s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
