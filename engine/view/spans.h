/* Where in a partition the records of one run lie, so that reading it costs what it wrote and not
 * what all others wrote meanwhile: a few ranges of offsets, each with whose the partition was at
 * its begin, since facts can't be judged without. Everything of the run that was seen lies in one
 * of them; records of other runs may too. Pure.
 *
 * Records that are nearer than SPAN_GAP are read together, as that takes no longer than asking the
 * log once more. When there are too many ranges, the two that are nearest become one. */
#pragma once
#include "base/buf.h"
#include "triggers/journal.h"

#define SPANS_MAX 16
#define SPAN_GAP  1000 /* offsets */

struct span {
    int64_t from, to; /* [from, to) */
    int64_t epoch;    /* -1: nobody's */
    uint64_t nonce;
};
struct spans {
    int n;
    struct span v[SPANS_MAX]; /* in order, apart from each other */
};
/* x begins where the last one did, or behind. */
void spans_add(struct spans *s, const struct span *x);
/* FROM-TO:EPOCH:NONCE,... */
void spans_write(const struct spans *s, struct buf *b);
int spans_read(struct slice text, struct spans *ret); /* -EINVAL */

/* A run's place as a read model knows it: nothing of the run lies below `next` but in the spans. */
struct run_place {
    struct spans spans;
    struct journal_start next; /* from -1: nothing is known */
};
/* What has to be read for the run's records in [after, to): at most SPANS_MAX + 1 ranges, in order,
 * apart from each other. A range may begin below `after`, where its owner is known. */
int run_place_ranges(const struct run_place *p, int64_t after, int64_t to,
                     struct span ret[SPANS_MAX + 1]);
