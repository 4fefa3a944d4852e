/* Errors and lists of problems as people see them. */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "unit.h"

SUITE("base/err")

TEST(error_has_place_message_and_hint)
{
    struct err e = {0};
    char text[1500];
    CHECK_INT(err_set(&e, -EINVAL, "write it so", "bad %s", "thing"), -EINVAL);
    err_format(&e, text, sizeof text);
    CHECK_STR(text, "bad thing\nhint: write it so");
    err_at(&e, "a.yaml", 3, 7);
    err_format(&e, text, sizeof text);
    CHECK_STR(text, "a.yaml:3:7: bad thing\nhint: write it so");
    err_at(&e, NULL, 3, 0);
    err_set(&e, -EIO, NULL, "again: %s", e.msg);
    err_format(&e, text, sizeof text);
    CHECK_STR(text, "again: bad thing");
    err_clear(&e);
    CHECK_INT(e.code, 0);
    CHECK_INT(err_set(NULL, -EIO, NULL, "x"), -EIO);
    err_at(NULL, "f", 1, 1);
}

TEST(long_messages_are_cut_not_overrun)
{
    struct err e;
    char small[8];
    err_set(&e, -EIO, NULL, "%2000d", 1);
    CHECK_INT(strlen(e.msg), sizeof e.msg - 1);
    err_format(&e, small, sizeof small);
    CHECK_INT(strlen(small), 7);
}

TEST(problems_are_sorted_and_bounded)
{
    struct diags d;
    diags_init(&d);
    diags_add(&d, "b.yaml", 1, 1, NULL, "third");
    diags_warn(&d, "a.yaml", 9, 1, "hint", "second");
    diags_add(&d, "a.yaml", 2, 5, NULL, "first");
    diags_sort(&d);
    CHECK_STR(d.v[0].msg, "first");
    CHECK_STR(d.v[1].msg, "second");
    CHECK_STR(d.v[1].hint, "hint");
    CHECK_STR(d.v[2].msg, "third");
    CHECK_INT(d.errors, 2);
    for (int i = 0; i < DIAGS_MAX; i++)
        diags_add(&d, "c.yaml", i, 1, NULL, "more");
    CHECK_INT(d.n, DIAGS_MAX);
    CHECK_INT(d.dropped, 3);
    CHECK_INT(d.errors, 2 + DIAGS_MAX);
    diags_free(&d);
}

TEST(did_you_mean_finds_near_words_only)
{
    static const char *const words[] = {"document", "input", "output", "export", "do", NULL};
    CHECK_STR(err_nearest(SL("documnet"), words), "document");
    CHECK_STR(err_nearest(SL("outptu"), words), "output");
    CHECK_STR(err_nearest(SL("Input"), words), "input");
    CHECK(err_nearest(SL("zebra"), words) == NULL);
    CHECK(err_nearest(SL(""), words) == NULL);
    CHECK(err_nearest(SL("xy"), words) == NULL);
}
