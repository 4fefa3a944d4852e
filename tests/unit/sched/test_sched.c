/* Which effect starts next. */
#include "sched/sched.h"
#include "unit.h"

SUITE("sched")

TEST(no_more_run_at_once_than_the_bound)
{
    struct sched s;
    struct sched_item it[4];
    sched_init(&s, 2);
    for (int i = 0; i < 4; i++)
        sched_add(&s, &it[i], 5);
    CHECK(sched_next(&s) == &it[0]);
    CHECK(sched_next(&s) == &it[1]);
    CHECK(sched_next(&s) == NULL);
    CHECK_INT(s.running, 2);
    sched_remove(&s, &it[0]);
    CHECK(sched_next(&s) == &it[2]);
    sched_remove(&s, &it[3]); /* not wanted any more, while queued */
    CHECK_INT(s.queued, 0);
    sched_remove(&s, &it[3]); /* twice: nothing */
    CHECK_INT(s.running, 2);
    sched_remove(&s, &it[1]);
    sched_remove(&s, &it[2]);
    CHECK_INT(s.running, 0);
    CHECK(sched_next(&s) == NULL);
}

TEST(the_first_class_goes_first_and_in_order_of_coming)
{
    struct sched s;
    struct sched_item it[4];
    sched_init(&s, 10);
    sched_add(&s, &it[0], 9);
    sched_add(&s, &it[1], 5);
    sched_add(&s, &it[2], 0);
    sched_add(&s, &it[3], 5);
    CHECK(sched_next(&s) == &it[2]);
    CHECK(sched_next(&s) == &it[1]);
    CHECK(sched_next(&s) == &it[3]);
    CHECK(sched_next(&s) == &it[0]);
}

TEST(priorities_beyond_the_classes_are_the_nearest_class)
{
    struct sched s;
    struct sched_item it[3];
    sched_init(&s, 10);
    sched_add(&s, &it[0], 99);
    sched_add(&s, &it[1], 9);
    sched_add(&s, &it[2], -3);
    CHECK(sched_next(&s) == &it[2]);
    CHECK(sched_next(&s) == &it[0]);
    CHECK(sched_next(&s) == &it[1]);
}

TEST(a_low_class_is_never_starved)
{
    struct sched s;
    struct sched_item low, high[40];
    int turns = 0;
    sched_init(&s, 1000);
    sched_add(&s, &low, 9);
    for (int i = 0; i < 40; i++)
        sched_add(&s, &high[i], 0);
    while (!low.running && ++turns < 40)
        sched_next(&s);
    CHECK(turns <= SCHED_AGING);
}

/* Asking in vain must not use up the turn of the oldest. */
TEST(an_empty_queue_and_a_full_bound_cost_no_turn)
{
    struct sched s;
    struct sched_item low, high;
    sched_init(&s, 1);
    for (int i = 0; i < 3 * SCHED_AGING; i++)
        CHECK(sched_next(&s) == NULL);
    sched_add(&s, &low, 9);
    sched_add(&s, &high, 0);
    CHECK(sched_next(&s) == &high);
    for (int i = 0; i < 3 * SCHED_AGING; i++)
        CHECK(sched_next(&s) == NULL);
    sched_remove(&s, &high);
    CHECK(sched_next(&s) == &low);
}
