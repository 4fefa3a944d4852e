/* An intrusive doubly linked list with a head node. One thread owns a list. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define LIST_ENTRY(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
#define LIST_EACH(it, head)                                                                        \
    for (struct list *it = (head)->next, *it##_n = it->next; it != (head);                         \
         it = it##_n, it##_n = it->next)

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}
static inline void list_push(struct list *head, struct list *node) /* at the end */
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void list_del(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_pop(struct list *head) /* the first, or NULL */
{
    struct list *n = head->next;
    if (n == head)
        return NULL;
    list_del(n);
    return n;
}
