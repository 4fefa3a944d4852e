/* Durations: what is read and what is refused. */
#include "flows.h"
#include "unit.h"

SUITE("flow/duration")

static void good(const char *json, int64_t want)
{
    struct json_object *o = json_of(json);
    struct err e = {0};
    int64_t ms = -1;
    CHECK_INT(duration_read(o, &ms, &e), 0);
    CHECK_INT(ms, want);
    CHECK_STR(e.msg, "");
    json_object_put(o);
}

static void wrong(const char *json, const char *msg)
{
    struct json_object *o = json_of(json);
    struct err e = {0};
    int64_t ms = -1;
    CHECK(duration_read(o, &ms, &e) < 0);
    CHECK_INT(ms, -1);
    CHECK_STR(e.msg, msg);
    CHECK(e.hint[0] != 0);
    json_object_put(o);
}

TEST(objects)
{
    good("{\"seconds\":5}", 5000);
    good("{\"days\":1,\"hours\":2,\"minutes\":3,\"seconds\":4,\"milliseconds\":5}", 93784005);
    good("{\"minutes\":1,\"seconds\":-30}", 30000);
    good("{\"seconds\":0}", 0);
    wrong("{}", "the duration is empty");
    wrong("{\"seconds\":0.5}", "seconds must be a whole number");
    wrong("{\"seconds\":\"5\"}", "seconds must be a whole number");
    wrong("{\"weeks\":5}", "\"weeks\" is not a unit of a duration");
    wrong("{\"seconds\":-1}", "the duration is negative");
    wrong("{\"days\":9223372036854775807}", "the duration is too long");
    wrong("{\"days\":106000000000,\"hours\":2562047788015}", "the duration is too long");
    wrong("{\"days\":400000}", "the duration is too long");
}

TEST(texts)
{
    good("\"PT5S\"", 5000);
    good("\"PT0.5S\"", 500);
    good("\"PT1.5H\"", 5400000);
    good("\"P1W2DT3H4M5.006S\"", 604800000 + 2 * 86400000LL + 3 * 3600000 + 4 * 60000 + 5006);
    good("\"P0.5D\"", 43200000);
    good("\"PT0S\"", 0);
}

TEST(texts_that_are_none)
{
    static const char *const bad[] = {"",       "P",
                                      "PT",     "P1DT",
                                      "pt5s",   "PT5s",
                                      "5S",     "PT5",
                                      "PT1S1H", "P1S",
                                      "PT1D",   "PT1H2H",
                                      "PT-5S",  "PT+5S",
                                      "PT.5S",  "PT5.S",
                                      "PT1e3S", "PT0x1S",
                                      "PT5S ",  " PT5S",
                                      "PTT5S",  "PT1234567890123456S",
                                      "P1D2W"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json_object *o = json_object_new_string(bad[i]);
        struct err e = {0};
        int64_t ms = -1;
        if (duration_read(o, &ms, &e) == 0)
            CHECK_STR(bad[i], "(refused)");
        CHECK(strstr(e.msg, "is not an ISO 8601 duration") != NULL);
        json_object_put(o);
    }
    wrong("\"P1Y\"", "years and months are not supported in \"P1Y\"");
    wrong("\"P1M\"", "years and months are not supported in \"P1M\"");
    wrong("\"P1Y2M3DT4H\"", "years and months are not supported in \"P1Y2M3DT4H\"");
    wrong("\"P999999999999999W\"", "the duration is too long");
    wrong("5", "a duration must be a text or a mapping, not number");
    wrong("null", "a duration must be a text or a mapping, not null");
    wrong("\"PT5S\\u0000\"", "a duration must be a text or a mapping, not string");
}
