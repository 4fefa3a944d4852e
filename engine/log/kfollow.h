/* Following partitions of a topic in a thread of one's own, without a group: for the read
 * model. Blocking; one thread at a time. */
#pragma once
#include "log/klog.h"

struct kfollow;
#define KFOLLOW_NONE (-1) /* a partition that is not followed */
/* from[i]: the offset to begin at in partition i. NULL with `e`. */
struct kfollow *kfollow_new(const struct config *c, const char *topic, const int64_t *from, int n,
                            struct err *e);
struct kfollow *kfollow_free(struct kfollow *f);
/* Hands over what has come, at most `max` records, waiting up to timeout_ms for the first; fn
 * returns non-zero to stop, which is returned. How many; or negative: -ERANGE, -ENOENT: positions
 * are gone, or the topic is; another errno: begin anew later. */
int kfollow_next(struct kfollow *f, int timeout_ms, int max,
                 int (*fn)(void *arg, const struct krec *r), void *arg);
