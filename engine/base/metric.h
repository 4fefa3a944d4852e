/* Counters and gauges by name, made for Prometheus text. A registry is filled at start from one
 * table; after that updates are atomic and from any thread. */
#pragma once
#include <stdatomic.h>
#include "base/buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE };
struct metric {
    const char *name, *help;
    enum metric_kind kind;
    _Atomic int64_t value;
};
static inline void metric_add(struct metric *m, int64_t by)
{
    atomic_fetch_add_explicit(&m->value, by, memory_order_relaxed);
}
static inline void metric_set(struct metric *m, int64_t to)
{
    atomic_store_explicit(&m->value, to, memory_order_relaxed);
}
static inline int64_t metric_get(const struct metric *m)
{
    return atomic_load_explicit(&((struct metric *)m)->value, memory_order_relaxed);
}
/* Prometheus text format 0.0.4 of n metrics. */
int metrics_write(const struct metric *v, size_t n, struct buf *b);
