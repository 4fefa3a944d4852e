/* The embedded min-heap. One thread owns a heap.
 * Invariants: v[i]->at == i + 1; a parent never comes after its children in (key, seq). */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

void heap_init(struct heap *h)
{
    *h = (struct heap){0};
}

void heap_free(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++)
        h->v[i]->at = 0;
    free(h->v);
    *h = (struct heap){0};
}

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void place(struct heap *h, struct heap_node *node, size_t i)
{
    h->v[i] = node;
    node->at = i + 1;
}

static void sift_up(struct heap *h, struct heap_node *node, size_t i)
{
    while (i && before(node, h->v[(i - 1) / 2])) {
        place(h, h->v[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    place(h, node, i);
}

static void sift_down(struct heap *h, struct heap_node *node, size_t i)
{
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->n)
            break;
        if (c + 1 < h->n && before(h->v[c + 1], h->v[c]))
            c++;
        if (!before(h->v[c], node))
            break;
        place(h, h->v[c], i);
        i = c;
    }
    place(h, node, i);
}

int heap_add(struct heap *h, struct heap_node *node, int64_t key)
{
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 16;
        struct heap_node **v = realloc(h->v, cap * sizeof(*v));
        if (!v)
            return -ENOMEM;
        h->v = v;
        h->cap = cap;
    }
    node->key = key;
    node->seq = h->seq++;
    sift_up(h, node, h->n++);
    return 0;
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (!node->at)
        return;
    size_t i = node->at - 1;
    node->at = 0;
    struct heap_node *last = h->v[--h->n];
    if (last == node)
        return;
    if (i && before(last, h->v[(i - 1) / 2]))
        sift_up(h, last, i);
    else
        sift_down(h, last, i);
}

struct heap_node *heap_top(const struct heap *h)
{
    return h->n ? h->v[0] : NULL;
}
