/* What the tests of compaction share: records of given keys and values, and the log as text. */
#pragma once
#include "store_fixture.h"

#define ROOM       ((size_t)64 << 20)
#define AGGRESSIVE "cleanup.policy=compact min.cleanable.dirty.ratio=0 "
#define RETENTION  1000
#define COMPACT_1S AGGRESSIVE "delete.retention.ms=1000"

struct kv {
    const char *key, *value; /* NULL value: a tombstone */
};

void put_batch(struct plog *p, const struct kv *v, size_t n, int64_t ms); /* durable */
void put(struct plog *p, const char *key, const char *value);             /* at T0 */
void roll(struct plog *p);                                                /* a new segment */
/* "0:a=1 3:b-": offsets, keys, values. Valid until the next call but one. */
const char *dump(struct plog *p);
