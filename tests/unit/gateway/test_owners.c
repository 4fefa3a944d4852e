/* Who owned a partition at an offset, as far as it was read. */
#include "gateway/owners.h"

#include <stdlib.h>

#include "unit.h"

SUITE("gateway/owners")

static void learn(struct owners *o, struct journal_start s, int64_t to, const int64_t *epochs,
                  size_t n)
{
    struct owned seen = {0};
    for (size_t i = 0; i < n; i++)
        NEED(owned_add(&seen, epochs[i], (uint64_t)epochs[i] + 7));
    owners_learn(o, 2, &s, to, &seen);
    free(seen.v);
}

/* Epoch at the place where a reading begins, and that place. */
static void begins(struct owners *o, int64_t want, int64_t from, int64_t epoch)
{
    struct journal_start s;
    NEED(owners_start(o, 2, want, 0, 10000000, &s));
    CHECK_INT(s.from, from);
    CHECK_INT(s.epoch, epoch);
    CHECK(epoch < 0 || s.nonce == (uint64_t)epoch + 7);
}

TEST(a_reading_begins_where_the_owner_is_known)
{
    struct owners *o = owners_new();
    struct journal_start s;
    NEED(o != NULL);
    CHECK(!owners_start(o, 2, 5, 1, 100, &s)); /* nothing is known, and the log begins at 1 */
    learn(o, (struct journal_start){0, -1, 0}, 100, (int64_t[]){3, 40}, 2);
    begins(o, 0, 0, -1);
    begins(o, 3, 3, -1);
    begins(o, 4, 4, 3);
    begins(o, 40, 40, 3);
    begins(o, 41, 41, 40);
    begins(o, 100, 100, 40);
    begins(o, 500, 100, 40); /* not known there: from where the known ends */
    learn(o, (struct journal_start){100, 40, 47}, 600, (int64_t[]){550}, 1);
    begins(o, 500, 500, 40);
    begins(o, 600, 600, 550);
    learn(o, (struct journal_start){20, 3, 10}, 100, (int64_t[]){40}, 1); /* known before */
    begins(o, 600, 600, 550);
    CHECK(!owners_start(o, 2, 700, 650, 1000, &s)); /* cut above what is known */
    CHECK(!owners_start(o, 2, 40, 1, 50, &s));      /* another log under this name */
    owners_free(o);
}

TEST(a_reading_not_joined_to_what_is_known_begins_anew)
{
    struct owners *o = owners_new();
    struct journal_start s;
    learn(o, (struct journal_start){0, -1, 0}, 100, (int64_t[]){3}, 1);
    learn(o, (struct journal_start){200, 150, 157}, 300, (int64_t[]){250}, 1);
    begins(o, 220, 220, 150);
    begins(o, 300, 300, 250);
    CHECK(!owners_start(o, 2, 50, 10, 300, &s) || s.from == 10);
    owners_free(o);
}

TEST(the_oldest_owners_are_let_go)
{
    struct owners *o = owners_new();
    struct journal_start s;
    int64_t *v = calloc(3 * OWNERS_MAX, sizeof *v);
    for (int64_t i = 0; i < 3 * OWNERS_MAX; i++)
        v[i] = 10 * i;
    learn(o, (struct journal_start){0, -1, 0}, 30 * OWNERS_MAX, v, 3 * OWNERS_MAX);
    begins(o, 30 * OWNERS_MAX, 30 * OWNERS_MAX, 30 * OWNERS_MAX - 10);
    begins(o, 30 * OWNERS_MAX - 15, 30 * OWNERS_MAX - 15, 30 * OWNERS_MAX - 20);
    CHECK(!owners_start(o, 2, 55, 1, 30 * OWNERS_MAX, &s));
    free(v);
    owners_free(o);
}
