/* Names made from what a thing is: the same on every node and version. */
#include <string.h>

#include "core/ids.h"
#include "unit.h"

SUITE("core/ids")

TEST(a_run_id_holds_its_partition_and_depends_on_every_part)
{
    char a[RUN_ID_MAX], b[RUN_ID_MAX];
    run_id_make(a, 0x2f, SL("acme/triage"), SL("live"), SL("tickets"), SL("1"));
    CHECK_INT(strlen(a), RUN_ID_LEN);
    CHECK(run_id_valid(sl_str(a)));
    CHECK_INT(run_id_partition(sl_str(a)), 0x2f);
    run_id_make(b, 0x2f, SL("acme/triage"), SL("live"), SL("tickets"), SL("1"));
    CHECK_STR(b, a);
    run_id_make(b, 0x2f, SL("acme/triage"), SL("replay:x"), SL("tickets"), SL("1"));
    CHECK(strcmp(a, b) != 0);
    run_id_make(b, 0x2f, SL("acme/triag"), SL("elive"), SL("tickets"), SL("1"));
    CHECK(strcmp(a, b) != 0); /* parts are length-prefixed */
    run_id_make(b, 0x2f, SL("acme/triage"), SL("live"), SL("tickets"), SL("2"));
    CHECK(strcmp(a, b) != 0);
}

TEST(what_is_not_a_run_id_is_refused)
{
    CHECK(!run_id_valid(SL("")));
    CHECK(!run_id_valid(SL("0000abc")));
    CHECK(!run_id_valid(SL("00G0x8fazsj5ede5ykkgwyy5tg63c4")));
    CHECK(!run_id_valid(SL("0000X8fazsj5ede5ykkgwyy5tg63c4")));
    CHECK(!run_id_valid(SL("0000i8fazsj5ede5ykkgwyy5tg63c4"))); /* not Crockford */
    CHECK(run_id_valid(SL("0000x8fazsj5ede5ykkgwyy5tg63c4")));
    CHECK_INT(run_id_partition(SL("zz")), -1);
}

TEST(a_fork_stays_in_the_partition_of_its_original)
{
    char a[RUN_ID_MAX], f[RUN_ID_MAX], g[RUN_ID_MAX];
    run_id_make(a, 0x1234, SL("x/y"), SL("live"), SL("s"), SL("1"));
    run_id_fork(f, sl_str(a), SL("/do/0/a"), 0, SL("u1"));
    CHECK_INT(run_id_partition(sl_str(f)), 0x1234);
    CHECK(run_id_valid(sl_str(f)));
    run_id_fork(g, sl_str(a), SL("/do/0/a"), 1, SL("u1"));
    CHECK(strcmp(f, g) != 0);
    run_id_fork(g, sl_str(a), SL("/do/0/a"), 0, SL("u2"));
    CHECK(strcmp(f, g) != 0);
    run_id_fork(g, sl_str(a), SL("/do/0/a"), 0, SL("u1"));
    CHECK_STR(g, f); /* --id repeats it */
}

/* Fixed values: another partition of the same key would break the order of its runs. */
TEST(a_key_has_the_partition_of_kafkas_partitioner)
{
    char big[2000];
    memset(big, 'k', sizeof big);
    for (int n = 1; n < 40; n++) {
        int p = run_partition(SL("acme/triage"), SL("k1"), n);
        CHECK(p >= 0 && p < n);
        CHECK_INT(p, (int)((murmur2(SL("acme/triage\0k1")) & 0x7fffffff) % (unsigned)n));
    }
    CHECK_INT(run_partition(SL("a/b"), sl(big, sizeof big), 32),
              run_partition(SL("a/b"), sl(big, sizeof big), 32));
    CHECK_INT(run_partition(SL("a/b"), SL(""), 1), 0);
}

TEST(an_idempotency_key_has_no_attempt_and_tells_rewinds_apart)
{
    char a[IDEM_KEY_MAX], b[IDEM_KEY_MAX];
    idempotency_key(a, "r", "/do/1/x", 0, 0);
    CHECK_INT(strlen(a), 32);
    idempotency_key(b, "r", "/do/1/x", 0, 0);
    CHECK_STR(a, b);
    idempotency_key(b, "r", "/do/1/x", 1, 0);
    CHECK(strcmp(a, b) != 0);
    idempotency_key(b, "r", "/do/1/x", 0, 1);
    CHECK(strcmp(a, b) != 0);
}

TEST(a_task_continues_the_trace_of_its_run)
{
    char t[TRACEPARENT_MAX], u[TRACEPARENT_MAX];
    const char *parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    trace_task(t, parent, "r", "/do/0/a", 0, 1);
    CHECK_INT(strlen(t), 55);
    CHECK_INT(strncmp(t, parent, 35), 0);
    CHECK(strncmp(t + 36, parent + 36, 16) != 0);
    CHECK_STR(t + 53, "00"); /* its sampling flag too */
    trace_task(u, parent, "r", "/do/0/a", 0, 2);
    CHECK(strcmp(t, u) != 0);
}

TEST(a_malformed_trace_context_is_replaced_by_one_of_the_run)
{
    const char *bad[] = {NULL,
                         "",
                         "00-xyz",
                         "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00",
                         "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-00",
                         "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                         "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                         "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"};
    char t[TRACEPARENT_MAX], u[TRACEPARENT_MAX];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        trace_task(t, bad[i], "r", "/do/0/a", 0, 1);
        trace_task(u, NULL, "r", "/do/0/a", 0, 1);
        CHECK_STR(t, u);
        CHECK_INT(strlen(t), 55);
    }
}
