/* Where a run's records lie. */
#include <errno.h>
#include <stdlib.h>

#include "unit.h"
#include "view/spans.h"

SUITE("view spans")

static void add(struct spans *s, int64_t offset)
{
    spans_add(s, &(struct span){offset, offset + 1, offset / 5000 * 5000 - 1, 7});
}

static bool covers(const struct spans *s, int64_t offset)
{
    for (int i = 0; i < s->n; i++)
        if (offset >= s->v[i].from && offset < s->v[i].to)
            return true;
    return false;
}

TEST(near_records_are_one_range_and_far_ones_are_not)
{
    struct spans s = {0};
    add(&s, 10);
    add(&s, 12);
    add(&s, 12 + SPAN_GAP);
    CHECK_INT(s.n, 1);
    CHECK_INT(s.v[0].to, 13 + SPAN_GAP);
    add(&s, 13 + 2 * SPAN_GAP);
    CHECK_INT(s.n, 2);
    CHECK_INT(s.v[1].from, 13 + 2 * SPAN_GAP);
}

TEST(beyond_so_many_ranges_the_nearest_become_one)
{
    struct spans s = {0};
    for (int i = 0; i < SPANS_MAX; i++)
        add(&s, i * 10000 - (i == 5 ? 2000 : 0));
    CHECK_INT(s.n, SPANS_MAX);
    add(&s, SPANS_MAX * 10000);
    CHECK_INT(s.n, SPANS_MAX);
    CHECK_INT(s.v[4].from, 40000); /* with the sixth */
    CHECK_INT(s.v[4].to, 48001);
    CHECK_INT(s.v[4].epoch, 39999); /* as it was at the begin */
    CHECK_INT(s.v[SPANS_MAX - 1].from, SPANS_MAX * 10000);
    add(&s, SPANS_MAX * 10000 + 1500); /* nearer than any two: it joins the last */
    CHECK_INT(s.n, SPANS_MAX);
    CHECK_INT(s.v[SPANS_MAX - 1].to, SPANS_MAX * 10000 + 1501);
}

/* By records, or by what several transactions put together. */
TEST(whatever_comes_is_covered_in_order_and_bounded)
{
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct spans s = {0}, part = {0};
        int64_t seen[400], at = 1;
        int n = 0;
        srandom(seed);
        for (; n < 400; n++) {
            at += random() % 3 ? random() % 40 : random() % 9000;
            seen[n] = at++;
            add(&part, seen[n]);
            if (random() % 10 == 0 || n == 399) {
                for (int i = 0; i < part.n; i++)
                    spans_add(&s, &part.v[i]);
                part.n = 0;
            }
        }
        NEED(s.n > 0 && s.n <= SPANS_MAX);
        for (int i = 0; i < n; i++)
            CHECK(covers(&s, seen[i]));
        for (int i = 0; i < s.n; i++) {
            CHECK(s.v[i].from < s.v[i].to && (!i || s.v[i - 1].to < s.v[i].from));
            CHECK_INT(s.v[i].epoch, s.v[i].from / 5000 * 5000 - 1);
        }
        struct spans again;
        struct buf b;
        buf_init(&b, 4096);
        spans_write(&s, &b);
        NEED(!buf_error(&b) && spans_read(buf_slice(&b), &again) == 0);
        CHECK_INT(again.n, s.n);
        CHECK(memcmp(again.v, s.v, (size_t)s.n * sizeof *s.v) == 0);
        buf_free(&b);
    }
}

TEST(text_that_is_none_is_refused)
{
    static const char *const bad[] = {"1",
                                      "1-2",
                                      "1-2:0",
                                      "1-2:0:",
                                      "1-2:0:zz",
                                      "2-2:0:1",
                                      "3-2:0:1",
                                      "-1-2:-1:1",
                                      "1-2:1:1",
                                      "1-2:-2:1",
                                      "5-6:0:1,5-7:0:1",
                                      "1-2:0:1,",
                                      "1-2:0:1,x",
                                      "99999999999999999999-1:0:1"};
    struct spans s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(spans_read(sl_str(bad[i]), &s), -EINVAL);
        CHECK_INT(s.n, 0);
    }
    CHECK_INT(spans_read(SL(""), &s), 0);
    CHECK_INT(spans_read(SL("1-2:-1:1,5-7:3:ff"), &s), 0);
    CHECK_INT(s.v[1].nonce, 255);
    struct buf many;
    buf_init(&many, 4096);
    for (int i = 0; i <= SPANS_MAX; i++)
        buf_addf(&many, "%s%d-%d:-1:1", i ? "," : "", 2 * i, 2 * i + 1);
    CHECK_INT(spans_read(buf_slice(&many), &s), -EINVAL);
    buf_free(&many);
}

TEST(what_is_to_be_read_is_what_lies_behind_and_what_is_not_known)
{
    struct run_place p = {.spans = {.n = 2, .v = {{10, 20, 5, 1}, {50, 60, 40, 2}}}};
    struct span v[SPANS_MAX + 1];
    p.next = (struct journal_start){100, 70, 3};
    NEED(run_place_ranges(&p, 0, 120, v) == 3);
    CHECK_INT(v[0].from, 10);
    CHECK_INT(v[2].from, 100);
    CHECK_INT(v[2].to, 120);
    CHECK_INT(v[2].epoch, 70);
    NEED(run_place_ranges(&p, 15, 55, v) == 2); /* from where the owner is known */
    CHECK_INT(v[0].from, 10);
    CHECK_INT(v[1].to, 55);
    NEED(run_place_ranges(&p, 20, 100, v) == 1);
    CHECK_INT(v[0].from, 50);
    CHECK_INT(run_place_ranges(&p, 60, 100, v), 0);
    CHECK_INT(run_place_ranges(&p, 0, 10, v), 0);
}
