/* Sets of numbers and their texts. */
#include <errno.h>

#include "base/intset.h"
#include "unit.h"

SUITE("base intset")

static int reads(const char *text, const char *expected)
{
    struct intset s;
    struct buf b;
    NEED(intset_init(&s, 100) == 0);
    buf_init(&b, 1000);
    int error = intset_read(&s, sl_str(text));
    if (!error) {
        CHECK_INT(intset_write(&s, 0, 1000, &b), 100);
        CHECK_STR(b.n ? b.p : "", expected);
    }
    buf_free(&b);
    intset_free(&s);
    return error;
}

TEST(texts_are_ranges)
{
    CHECK_INT(reads("7", "7"), 0);
    CHECK_INT(reads("0-3,7", "0-3,7"), 0);
    CHECK_INT(reads("3,2,1,2", "1-3"), 0);
    CHECK_INT(reads("99,0", "0,99"), 0);
    CHECK_INT(reads("0-99", "0-99"), 0);
    static const char *const bad[] = {"",   ",",   "1,",   "a",    "1-",
                                      "-1", "3-2", "1--2", "1 ,2", "1-2-3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(reads(bad[i], ""), -EINVAL);
    CHECK_INT(reads("100", ""), -ERANGE);
    CHECK_INT(reads("0-4000000000", ""), -ERANGE);
}

TEST(long_sets_are_written_in_pieces)
{
    struct intset s, back;
    NEED(intset_init(&s, 1000) == 0 && intset_init(&back, 1000) == 0);
    for (int i = 0; i < 1000; i += 2)
        intset_put(&s, i);
    CHECK_INT(intset_count(&s), 500);
    int pieces = 0;
    for (int from = 0; from < s.n; pieces++) {
        struct buf b;
        buf_init(&b, 200);
        from = intset_write(&s, from, 100, &b);
        CHECK(buf_error(&b) == 0 && b.n < 110);
        CHECK_INT(intset_read(&back, buf_slice(&b)), 0);
        buf_free(&b);
    }
    CHECK(pieces > 10 && intset_same(&s, &back));
    intset_del(&back, 4);
    CHECK(!intset_same(&s, &back) && !intset_has(&back, 4) && intset_has(&back, 6));
    intset_put(&back, 1000);
    intset_put(&back, -1);
    CHECK(!intset_has(&back, 1000) && !intset_has(&back, -1));
    intset_fill(&back);
    CHECK_INT(intset_count(&back), 1000);
    intset_free(&s);
    intset_free(&back);
}

TEST(sets_of_nothing)
{
    struct intset s, copy;
    NEED(intset_init(&s, 0) == 0 && intset_copy(&copy, &s) == 0);
    CHECK(intset_same(&s, &copy) && !intset_has(&s, 0) && intset_count(&s) == 0);
    CHECK_INT(intset_read(&s, SL("0")), -ERANGE);
    intset_fill(&s);
    intset_free(&s);
    intset_free(&copy);
}
