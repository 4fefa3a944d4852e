/* A binary min-heap of nodes that are embedded in their owners, ordered by `key` then by insertion.
 * One thread. */
#pragma once
#include <stdint.h>
#include <stddef.h>
#include <stdbool.h>

struct heap_node {
    int64_t key;
    uint64_t seq;
    size_t at; /* place in the heap + 1, 0: not in a heap */
};
struct heap {
    struct heap_node **v;
    size_t n, cap;
    uint64_t seq;
};
void heap_init(struct heap *h);
void heap_free(struct heap *h);
int heap_add(struct heap *h, struct heap_node *node, int64_t key); /* 0 or -ENOMEM */
void heap_remove(struct heap *h, struct heap_node *node);          /* nothing if it is in none */
struct heap_node *heap_top(const struct heap *h);                  /* NULL: empty */
static inline bool heap_in(const struct heap_node *node)
{
    return node->at != 0;
}
