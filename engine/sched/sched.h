/* Which effect starts next on this node: a bound on those under way, priority classes 0 (first) to
 * 9, first come first served inside a class, and one in every SCHED_AGING turns given to the oldest
 * of all, so that a low class is never starved. Bounded by the owners: an entry a run. Pure; one
 * thread. */
#pragma once
#include "base/heap.h"
#include "base/list.h"

#define SCHED_CLASSES 10
#define SCHED_AGING   8

struct sched_item {
    struct list node; /* in its class */
    struct list age;  /* in order of coming */
    bool queued, running;
};
struct sched {
    struct list classes[SCHED_CLASSES], age;
    size_t queued, running, max_running;
    unsigned turn;
};
void sched_init(struct sched *s, size_t max_running);
void sched_add(struct sched *s, struct sched_item *it, int priority);
/* The next that may start, marked running; NULL: none, or the bound is reached. */
struct sched_item *sched_next(struct sched *s);
/* It ended, or is not wanted any more, queued or running. */
void sched_remove(struct sched *s, struct sched_item *it);
