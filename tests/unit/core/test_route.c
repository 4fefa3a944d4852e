/* Which source offset a router may commit. */
#include <errno.h>

#include "core/route.h"
#include "unit.h"

SUITE("core/route")

TEST(the_commit_stands_at_the_lowest_offset_not_done)
{
    struct route r;
    route_init(&r, 10);
    CHECK_INT(route_floor(&r), 10);
    CHECK_INT(route_begin(&r, 10), 0);
    CHECK_INT(route_begin(&r, 12), 0); /* 11 is not there */
    CHECK_INT(route_begin(&r, 13), 0);
    CHECK_INT(r.next, 14);
    route_release(&r, 12);
    route_release(&r, 13);
    CHECK_INT(route_floor(&r), 10);
    route_release(&r, 10);
    CHECK_INT(route_floor(&r), 14);
    route_free(&r);
}

TEST(an_offset_is_done_when_all_its_records_are)
{
    struct route r;
    route_init(&r, 0);
    route_begin(&r, 0);
    route_hold(&r, 0);
    route_hold(&r, 0);
    route_release(&r, 0);
    route_release(&r, 0);
    CHECK_INT(route_floor(&r), 0);
    route_release(&r, 0);
    CHECK_INT(route_floor(&r), 1);
    route_release(&r, 0); /* once too often: nothing */
    route_release(&r, 77);
    route_hold(&r, 77);
    CHECK_INT(route_floor(&r), 1);
    route_free(&r);
}

TEST(the_window_is_bounded_and_says_so)
{
    struct route r;
    route_init(&r, 0);
    for (int i = 0; i < ROUTE_WINDOW_MAX; i++)
        NEED(route_begin(&r, i) == 0);
    CHECK_INT(route_begin(&r, ROUTE_WINDOW_MAX), -ENOBUFS);
    CHECK_INT(r.next, ROUTE_WINDOW_MAX);
    for (int i = 0; i < 3 * ROUTE_WINDOW_MAX; i++) { /* the ring goes round */
        route_release(&r, i);
        CHECK_INT(route_floor(&r), i + 1);
        NEED(route_begin(&r, ROUTE_WINDOW_MAX + i) == 0);
    }
    route_free(&r);
}
