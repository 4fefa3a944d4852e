/* Time as text, both ways; ids. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "unit.h"

SUITE("base/clock")

static int64_t read_ok(const char *text)
{
    int64_t ms = -1;
    CHECK_INT(time_read(sl_str(text), &ms), 0);
    return ms;
}

TEST(times_are_written_and_read_back)
{
    char out[TIME_TEXT_MAX];
    static const int64_t ms[] = {0,
                                 -1,
                                 1700000000123,
                                 951782400000, /* 2000-02-29 */
                                 4107542400000,
                                 -62167219200000,
                                 253402300799999};
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++) {
        time_write(out, ms[i]);
        CHECK_INT(read_ok(out), ms[i]);
    }
    time_write(out, 0);
    CHECK_STR(out, "1970-01-01T00:00:00.000Z");
    time_write(out, 951782400000);
    CHECK_STR(out, "2000-02-29T00:00:00.000Z");
    time_write(out, INT64_MAX);
    CHECK_STR(out, "9999-12-31T23:59:59.999Z");
    time_write(out, INT64_MIN);
    CHECK_STR(out, "0000-01-01T00:00:00.000Z");
}

TEST(rfc_3339_with_offsets_and_fractions)
{
    CHECK_INT(read_ok("1996-12-19T16:39:57-08:00"), read_ok("1996-12-20T00:39:57Z"));
    CHECK_INT(read_ok("1990-12-31T23:59:60Z"), read_ok("1991-01-01T00:00:00Z"));
    CHECK_INT(read_ok("1970-01-01t00:00:00.1z"), 100);
    CHECK_INT(read_ok("1970-01-01 00:00:00.123456789+00:00"), 123);
    CHECK_INT(read_ok("1970-01-01T05:30:00.05+05:30"), 50);
    static const char *const bad[] = {"",
                                      "1970-01-01",
                                      "1970-01-01T00:00:00",
                                      "1970-13-01T00:00:00Z",
                                      "1970-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "1970-01-01T24:00:00Z",
                                      "1970-01-01T00:00:00.Z",
                                      "1970-01-01T00:00:00Zx",
                                      "1970-01-01T00:00:00+0000",
                                      "1970-1-01T00:00:00Z",
                                      NULL};
    for (int i = 0; bad[i]; i++) {
        int64_t ms = 5;
        CHECK_INT(time_read(sl_str(bad[i]), &ms), -EINVAL);
        CHECK_INT(ms, 5);
    }
}

TEST(clocks_go_on_and_ids_differ)
{
    int64_t a = clock_boot_us();
    CHECK(clock_boot_us() >= a && clock_boot_ms() >= a / 1000);
    CHECK(clock_wall_ms() > 1700000000000);
    char x[37], y[37];
    uuid4(x);
    uuid4(y);
    CHECK_INT(strlen(x), 36);
    CHECK(x[14] == '4' && strchr("89ab", x[19]) && strcmp(x, y) != 0);
    CHECK(random_u64() != random_u64());
}
