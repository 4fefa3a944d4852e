/* Slices, buffers and arenas: limits, edges, errors that stick. */
#include <errno.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "unit.h"

SUITE("base/bytes")

TEST(slices_compare_split_and_trim)
{
    CHECK_INT(sl_cmp(SL("ab"), SL("abc")), -1);
    CHECK_INT(sl_cmp(SL("b"), SL("abc")), 1);
    CHECK_INT(sl_cmp(SL(""), sl(NULL, 0)), 0);
    CHECK_INT(sl_cmp(SL("\xff"), SL("a")), 1);
    struct slice rest = SL("a,,b"), part;
    NEED(sl_split(&rest, ',', &part));
    CHECK(sl_is(part, "a"));
    NEED(sl_split(&rest, ',', &part));
    CHECK_INT(part.n, 0);
    NEED(sl_split(&rest, ',', &part));
    CHECK(sl_is(part, "b"));
    CHECK(!sl_split(&rest, ',', &part));
    CHECK(sl_is(sl_trim(SL(" \t x y\r\n")), "x y"));
    CHECK_INT(sl_trim(SL("  ")).n, 0);
    CHECK_INT(sl_from(SL("ab"), 5).n, 0);
}

TEST(numbers_are_read_whole_or_refused)
{
    int64_t v = 7;
    CHECK_INT(sl_i64(SL("-9223372036854775808"), &v), 0);
    CHECK(v == INT64_MIN);
    CHECK_INT(sl_i64(SL("+9223372036854775807"), &v), 0);
    CHECK(v == INT64_MAX);
    v = 7;
    CHECK_INT(sl_i64(SL("9223372036854775808"), &v), -ERANGE);
    CHECK_INT(sl_i64(SL("99999999999999999999999"), &v), -ERANGE);
    CHECK_INT(sl_i64(SL("99999999999999999999999x"), &v), -EINVAL);
    CHECK_INT(sl_i64(SL(""), &v), -EINVAL);
    CHECK_INT(sl_i64(SL("-"), &v), -EINVAL);
    CHECK_INT(sl_i64(SL(" 1"), &v), -EINVAL);
    CHECK_INT(v, 7);
}

TEST(buffer_grows_up_to_its_maximum_and_the_error_sticks)
{
    struct buf b;
    buf_init(&b, 100);
    for (int i = 0; i < 10; i++)
        CHECK_INT(buf_adds(&b, "0123456789"), 0);
    CHECK_INT(b.n, 100);
    CHECK_INT(b.p[100], 0);
    CHECK_INT(buf_addc(&b, 'x'), -ENOBUFS);
    CHECK_INT(buf_add(&b, "", 0), -ENOBUFS);
    CHECK_INT(buf_addf(&b, "%s", ""), -ENOBUFS);
    CHECK_INT(b.n, 100);
    CHECK(buf_take(&b) == NULL);
    CHECK_INT(buf_error(&b), 0);
    buf_free(&b);
}

TEST(buffer_formats_across_its_growth)
{
    struct buf b;
    buf_init(&b, 1000);
    for (int i = 0; i < 20; i++)
        CHECK_INT(buf_addf(&b, "%05d", i), 0);
    CHECK_INT(b.n, 100);
    CHECK(sl_starts(buf_slice(&b), SL("000000000100002")));
    CHECK(sl_ends(buf_slice(&b), SL("00019")));
    buf_reset(&b);
    CHECK_INT(buf_addf(&b, "%900d", 1), 0);
    CHECK_INT(buf_addf(&b, "%900d", 1), -ENOBUFS);
    CHECK_INT(b.n, 900);
    CHECK_INT(strlen(b.p), 900);
    buf_free(&b);
}

TEST(buffer_reserves_consumes_and_gives_its_text)
{
    struct buf b;
    buf_init(&b, 64);
    char *p = buf_reserve(&b, 5);
    NEED(p != NULL);
    memcpy(p, "hello", 5);
    buf_commit(&b, 5);
    buf_consume(&b, 2);
    CHECK_STR(b.p, "llo");
    CHECK(buf_reserve(&b, 62) == NULL);
    CHECK_INT(buf_error(&b), -ENOBUFS);
    buf_reset(&b);
    buf_adds(&b, "text");
    char *s = buf_take(&b);
    CHECK_STR(s, "text");
    free(s);
    s = buf_take(&b);
    CHECK_STR(s, "");
    free(s);
    buf_adds(&b, "abc");
    buf_trim(&b, 1);
    CHECK(b.p == NULL && b.n == 0 && b.cap == 0);
    struct buf zero = {0};
    buf_free(&zero);
    buf_free(&b);
}

TEST(arena_is_bounded_zeroed_and_aligned)
{
    struct arena a;
    arena_init(&a, 20000);
    for (int i = 0; i < 100; i++) {
        char *p = arena_alloc(&a, 100);
        NEED(p != NULL);
        CHECK_INT((uintptr_t)p % 16, 0);
        CHECK(p[0] == 0 && memcmp(p, p + 1, 99) == 0);
        memset(p, 0xff, 100);
    }
    CHECK(arena_alloc(&a, 10000) == NULL);
    CHECK(arena_alloc(&a, SIZE_MAX) == NULL);
    arena_reset(&a);
    char *p = arena_alloc(&a, 2000);
    NEED(p != NULL);
    CHECK(p[0] == 0 && memcmp(p, p + 1, 1999) == 0);
    CHECK_STR(arena_strdup(&a, SL("x")), "x");
    CHECK_STR(arena_printf(&a, "%d-%s", 5, "y"), "5-y");
    CHECK(sl_is(arena_slice(&a, SL("zz")), "zz"));
    CHECK(arena_alloc(&a, 0) != NULL);
    arena_free(&a);
    CHECK_STR(arena_strdup(&a, SL("again")), "again");
    arena_free(&a);
}
