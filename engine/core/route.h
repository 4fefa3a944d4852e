/* What a router knows of one source partition: which offsets are routed for good, so what may be
 * committed (the floor). Pure.
 *
 * An offset is begun in order, has any number of records under way because of it, and is done when
 * all are acknowledged and nothing more will come of it. The commit may stand at the lowest offset
 * not done. */
#pragma once
#include "base/map.h"

#define ROUTE_WINDOW_MAX 20000 /* offsets begun and not done; beyond it the partition is paused */

struct route_slot {
    int64_t offset;
    int pending; /* 1 while open, and 1 a record under way */
};
struct route {
    int64_t committed;       /* what the log has: the floor of requests; -1: none */
    int64_t next;            /* the next offset to begin */
    struct route_slot *ring; /* begun, in order */
    size_t head, n, cap;
};
void route_init(struct route *r, int64_t committed);
void route_free(struct route *r);
int route_begin(struct route *r, int64_t offset); /* 0, -ENOBUFS window full, -ENOMEM */
void route_hold(struct route *r, int64_t offset); /* one record more is under way */
void route_release(struct route *r,
                   int64_t offset); /* one acknowledged; also closes what route_begin opened */
int64_t route_floor(const struct route *r); /* what may be committed now */
