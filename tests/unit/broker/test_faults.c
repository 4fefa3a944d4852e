/* Failing system calls and a full disk: what is refused is refused by name, what is acknowledged
 * is there afterwards, and a failed sync is never believed by a second one. */
#include <errno.h>
#include <stdio.h>

#include "power.h"

SUITE("broker/faults")

#define DO(step)                                                                                   \
    do {                                                                                           \
        step;                                                                                      \
        if (w->why[0] || w->refused)                                                               \
            return;                                                                                \
    } while (0)

/* Start, topics, records, rolls, offsets that move, stop: each kind of call at least once. */
static void life(struct power *w)
{
    DO(power_open(w));
    DO(power_create(w, 0, 1, 0));
    DO(power_append(w, 0, 0, 2, 100, true));
    DO(power_wait(w));
    DO(power_append(w, 0, 0, 2, 1400, false));
    DO(power_append(w, 0, 0, 1, 900, false)); /* rolls */
    DO(power_wait(w));
    DO(power_cut(w, 0, 0, 4));
    DO(power_configure(w, 0, 1));
    DO(power_grow(w, 0));
    DO(power_new_pid(w));
    DO(power_create(w, 1, 1, 0));
    DO(power_delete(w, 1));
    DO(power_tick(w, 1000));
    DO(power_restart(w));
    DO(power_append(w, 0, 0, 1, 100, false));
    DO(power_wait(w));
}

/* What is there after the fault, by a kill and by a loss of power. */
static void check_after(struct power *w, bool lost)
{
    struct shadow *left =
        lost ? shadow_lose_power(w->disk, LOSE_ALL, &w->seed) : shadow_kill(w->disk);
    struct power c;
    power_copy(&c, w, left);
    c.refused = false;
    if (power_open(&c))
        power_check(&c, c.s, true);
    memcpy(w->why, c.why, sizeof w->why);
    power_free(&c);
}

/* A partition that has not failed takes records again. */
static void goes_on(struct power *w)
{
    struct topic *t = w->s ? store_topic(w->s, SL("t0")) : NULL;
    w->refused = false;
    if (!t || !w->topics[0].there || t->parts[0]->failed || w->doing.what == DELETING)
        return;
    power_append(w, 0, 0, 1, 50, false);
    power_wait(w);
    if (w->topics[0].parts[0].acked != w->topics[0].parts[0].n)
        power_bad(w, "no record is taken after the fault");
}

/* Returns false when the life was through before call n. */
static bool fail_at(int64_t n, int code, bool forever)
{
    struct power w;
    map_fix_seed(1);
    power_init(&w, 1);
    shadow_fail(w.disk, n, code, forever);
    life(&w);
    bool reached = shadow_failed(w.disk);
    char call[256];
    snprintf(call, sizeof call, "%s", shadow_failed_call(w.disk));
    shadow_fail(w.disk, 0, 0, false);
    if (!w.why[0])
        goes_on(&w);
    for (int lost = 0; lost < 2 && !w.why[0]; lost++)
        check_after(&w, lost);
    if (w.why[0])
        fprintf(stderr, "call %lld (%s) failed with %d: %s\n", (long long)n, call, code, w.why);
    CHECK_STR(w.why, "");
    power_free(&w);
    return reached;
}

static int fail_each(int code, bool forever)
{
    int n = 1;
    while (fail_at(n, code, forever))
        n++;
    return n;
}

TEST(each_call_of_a_life_may_fail_once)
{
    CHECK(fail_each(-EIO, false) > 100);
    CHECK(fail_each(-ENOSPC, false) > 100);
    CHECK(fail_each(-EMFILE, false) > 100);
}

TEST(each_call_of_a_life_may_be_the_first_of_many_to_fail)
{
    CHECK(fail_each(-EIO, true) > 100);
}

TEST(reads_and_writes_may_come_short_or_interrupted)
{
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct power w;
        power_init(&w, seed);
        shadow_choppy(w.disk, seed);
        life(&w);
        CHECK_STR(w.why, "");
        CHECK(!w.refused);
        check_after(&w, true);
        CHECK_STR(w.why, "");
        power_free(&w);
    }
}

TEST(a_failed_sync_of_records_is_final)
{
    struct power w;
    power_init(&w, 1);
    NEED(power_open(&w));
    power_create(&w, 0, 1, 0);
    power_append(&w, 0, 0, 1, 100, false);
    power_wait(&w);
    shadow_fail_sync(w.disk, SYNC_RECORDS, -EIO);
    power_append(&w, 0, 0, 1, 100, false);
    power_wait(&w);
    struct plog *p = store_topic(w.s, SL("t0"))->parts[0];
    CHECK(p->failed);
    CHECK_INT(p->durable_end, 1);
    struct append_result r = append(p, &(struct spec){.n = 1});
    CHECK_INT(r.error, APPEND_STORAGE);
    CHECK(strstr(r.why, "restart") != NULL);
    check_after(&w, true);
    CHECK_STR(w.why, "");
    power_free(&w);
}

TEST(a_topic_change_whose_sync_failed_stops_the_log)
{
    struct power w;
    power_init(&w, 1);
    NEED(power_open(&w));
    power_create(&w, 0, 1, 0);
    shadow_fail_sync(w.disk, SYNC_TOPICS_NAME, -EIO);
    power_delete(&w, 0);
    CHECK(w.refused);
    struct topic *t = store_topic(w.s, SL("t0"));
    NEED(t != NULL);
    /* After a crash it may be gone, so no record may be acknowledged in it. */
    CHECK_INT(append(t->parts[0], &(struct spec){.n = 1}).error, APPEND_STORAGE);
    struct err e = {0};
    CHECK_INT(store_topic_create(w.s, SL("t9"), 1, NULL, 0, NULL, &e), -EIO);
    CHECK(e.hint[0] != 0);
    for (int lost = 0; lost < 2; lost++)
        check_after(&w, lost);
    CHECK_STR(w.why, "");
    power_free(&w);
}

TEST(a_full_disk_refuses_and_takes_records_again_when_there_is_space)
{
    struct power w;
    power_init(&w, 1);
    NEED(power_open(&w));
    power_create(&w, 0, 1, 0);
    struct plog *p = store_topic(w.s, SL("t0"))->parts[0];
    power_append(&w, 0, 0, 1, 2500, false);
    power_wait(&w);
    int64_t size = plog_size(p);
    for (int64_t space = 0; space < 1200; space += 100) { /* too little for all, also for a roll */
        struct err e = {0};
        shadow_space(w.disk, space);
        struct append_result r = append(p, &(struct spec){.n = 1, .value_bytes = 2500});
        CHECK_INT(r.error, APPEND_STORAGE);
        CHECK_STR(r.why, "the disk of the log is full");
        CHECK(!p->failed);
        CHECK_INT(plog_size(p), size);
        if (space == 0) {
            CHECK_INT(store_topic_create(w.s, SL("t9"), 1, NULL, 0, NULL, &e), -ENOSPC);
            CHECK(strstr(e.hint, "space") != NULL);
        }
    }
    shadow_space(w.disk, -1);
    power_append(&w, 0, 0, 1, 2500, false);
    power_wait(&w);
    CHECK_INT(plog_durable_end(p), 2);
    power_create(&w, 1, 1, 0);
    check_after(&w, true);
    CHECK_STR(w.why, "");
    power_free(&w);
}
