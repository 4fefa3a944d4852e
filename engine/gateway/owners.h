/* Who owned the partitions of the journal, as far as they were read: a fact can be judged only by
 * who wrote the latest `owner` record before it, and a reading that begins in the middle does not
 * see that one. Each reading adds what it came across; what was never read is read once. struct
 * owners: any thread; struct owned: one. */
#pragma once
#include "triggers/journal.h"

#define OWNERS_MAX 4096 /* remembered for a partition; older ones are read again when asked for */

struct owner {
    int64_t epoch; /* offset of its record */
    uint64_t nonce;
};
/* Every owner record in [base, known) is in v, and the one before `base`. */
struct owned {
    int64_t base, known;
    struct owner *v; /* by epoch */
    size_t n, cap;
};
/* In order of epochs; the oldest are let go beyond OWNERS_MAX. False: no memory, and it is not
 * whole any more. */
bool owned_add(struct owned *p, int64_t epoch, uint64_t nonce);

struct owners;
struct owners *owners_new(void); /* NULL: no memory */
struct owners *owners_free(struct owners *o);
/* Where to begin, so that what stands at `want` can be judged: there, or where what is known of the
 * owners ends. The log holds [low, high), and low <= want <= high. False: at its begin. */
bool owners_start(struct owners *o, int partition, int64_t want, int64_t low, int64_t high,
                  struct journal_start *ret);
/* What a reading from `s` to `to` came across. */
void owners_learn(struct owners *o, int partition, const struct journal_start *s, int64_t to,
                  const struct owned *seen);
