/* One run's state: facts change it, snapshots keep it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/state.h"
#include "unit.h"

SUITE("core/run_state")

#define RUN "0002x8fazsj5ede5ykkgwyy5tg63c4"

static struct rec *fact(enum rec_type t, const char *ref, const char *value, int64_t time_ms)
{
    struct rec *r = rec_new(t, RUN);
    r->ref = ref ? strdup(ref) : NULL;
    r->value = val_text_new(sl_str(value));
    r->time_ms = time_ms;
    CHECK_INT(rec_read_body(r), 0);
    return r;
}

static void apply(struct run_state *st, enum rec_type t, const char *ref, const char *value,
                  int64_t time_ms)
{
    struct rec *r = fact(t, ref, value, time_ms);
    CHECK_INT(run_apply(st, r, NULL), 0);
    rec_unref(r);
}

static void start(struct run_state *st, const char *request, const char *value)
{
    struct rec *q = rec_new(REC_REQUESTED, RUN), *r = fact(REC_STARTED, NULL, value, 1000);
    memset(st, 0, sizeof *st);
    map_init(&st->visits);
    q->offset = 42;
    q->agent = strdup("9f2c");
    q->priority = 3;
    q->src.name = strdup("live:t/1/0");
    q->src.offset = 17;
    q->value = val_text_new(sl_str(request));
    CHECK_INT(run_apply(st, r, q), 0);
    rec_unref(q);
    rec_unref(r);
}

TEST(a_start_takes_everything_from_its_request)
{
    struct run_state st;
    start(&st, "{\"input\":{\"a\":1}}", "{\"next\":\"/do/0/a\"}");
    CHECK_INT(st.status, RUN_ACTIVE);
    CHECK_INT(st.pin, 42);
    CHECK_STR(st.agent, "9f2c");
    CHECK_INT(st.priority, 3);
    CHECK_STR(st.ref, "/do/0/a");
    CHECK_STR(val_text(st.wf_raw).p, "{\"a\":1}");
    CHECK(val_equal(st.last, st.wf_raw));
    CHECK_INT(st.time_ms, 1000);
    run_state_free(&st);
}

TEST(a_completed_task_moves_the_run_and_counts_a_visit)
{
    struct run_state st;
    start(&st, "{\"input\":1}", "{\"next\":\"/do/0/a\"}");
    apply(&st, REC_TASK_STARTED, "/do/0/a", "{}", 1500);
    CHECK(st.started);
    CHECK_INT(st.task_started_ms, 1000); /* what its expressions see does not change */
    apply(&st, REC_TASK_COMPLETED, "/do/0/a",
          "{\"output\":5,\"context\":{\"c\":1},\"next\":\"/do/0/a\"}", 2000);
    CHECK(!st.started);
    CHECK_STR(val_text(st.last).p, "5");
    CHECK_STR(val_text(st.context).p, "{\"c\":1}");
    CHECK_INT(st.visit, 1); /* backwards: the next visit */
    CHECK_INT(st.tasks, 1);
    apply(&st, REC_TASK_COMPLETED, "/do/0/a", "{\"next\":null}", 3000);
    CHECK_INT(st.phase, PHASE_FINISH);
    CHECK(st.ref == NULL);
    CHECK_STR(val_text(st.last).p, "5"); /* skipped: no output, the input goes on */
    apply(&st, REC_COMPLETED, NULL, "{\"output\":5}", 4000);
    CHECK_INT(st.status, RUN_COMPLETED);
    apply(&st, REC_CANCELLED, NULL, "{}", 5000);
    CHECK_INT(st.status, RUN_COMPLETED); /* it has ended */
    CHECK_INT(st.time_ms, 4000);
    run_state_free(&st);
}

TEST(composite_tasks_are_entered_and_left)
{
    struct run_state st;
    start(&st, "{\"input\":1}", "{\"next\":\"/do/0/d\"}");
    apply(&st, REC_TASK_STARTED, "/do/0/d", "{\"input\":7,\"next\":\"/do/0/d/do/0/x\"}", 1100);
    CHECK_INT(st.nframes, 1);
    CHECK_STR(val_text(st.last).p, "7");
    CHECK_STR(val_text(st.frames[0].raw).p, "1");
    apply(&st, REC_TASK_COMPLETED, "/do/0/d/do/0/x",
          "{\"output\":8,\"next\":\"/do/0/d\",\"leave\":true}", 1200);
    CHECK_INT(st.phase, PHASE_LEAVE);
    CHECK_INT(st.nframes, 1);
    apply(&st, REC_TASK_COMPLETED, "/do/0/d", "{\"output\":9,\"next\":\"/do/1/y\"}", 1300);
    CHECK_INT(st.nframes, 0);
    CHECK_STR(st.ref, "/do/1/y");
    run_state_free(&st);
}

TEST(the_end_of_the_root_list_leaves_every_composite)
{
    struct run_state st;
    start(&st, "{\"input\":1}", "{\"next\":\"/do/0/d\"}");
    apply(&st, REC_TASK_STARTED, "/do/0/d", "{\"input\":7,\"next\":\"/do/0/d/do/0/x\"}", 1100);
    apply(&st, REC_TASK_COMPLETED, "/do/0/d/do/0/x", "{\"output\":8,\"next\":null}", 1200);
    CHECK_INT(st.nframes, 0);
    CHECK_INT(st.phase, PHASE_FINISH);
    run_state_free(&st);
}

TEST(depth_is_bounded)
{
    struct run_state st;
    char ref[16], value[64];
    start(&st, "{\"input\":1}", "{\"next\":\"/0\"}");
    for (int i = 0; i < FRAMES_MAX + 5; i++) {
        snprintf(ref, sizeof ref, "/%d", i);
        snprintf(value, sizeof value, "{\"input\":1,\"next\":\"/%d\"}", i + 1);
        apply(&st, REC_TASK_STARTED, ref, value, 1100);
    }
    CHECK_INT(st.nframes, FRAMES_MAX);
    run_state_free(&st);
}

TEST(facts_about_a_run_that_the_fold_does_not_know_are_ignored)
{
    struct run_state st;
    memset(&st, 0, sizeof st);
    map_init(&st.visits);
    apply(&st, REC_TASK_COMPLETED, "/do/0/a", "{\"output\":5,\"next\":null}", 1);
    apply(&st, REC_FAULTED, NULL, "{}", 2);
    CHECK_INT(st.status, RUN_NONE);
    CHECK_INT(st.time_ms, 0);
    run_state_free(&st);
}

static char *text_of(const struct run_state *st)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    NEED(run_state_write(st, &b) == 0);
    return buf_take(&b);
}

TEST(a_snapshot_and_a_copy_hold_the_whole_state)
{
    struct run_state st, copy = {0}, read = {0};
    struct json_object *o = NULL;
    start(&st, "{\"agent\":\"a/b\",\"input\":{\"x\":\"\\\"\"}}", "{\"next\":\"/do/0/d\"}");
    apply(&st, REC_TASK_STARTED, "/do/0/d", "{\"input\":[1.5,null],\"next\":\"/do/0/d/do/0/x\"}",
          1100);
    apply(&st, REC_TASK_COMPLETED, "/do/0/d/do/0/x",
          "{\"output\":8,\"context\":{\"k\":[]},\"next\":\"/do/0/d/do/1/w\"}", 1200);
    apply(&st, REC_TASK_WAITING, "/do/0/d/do/1/w", "{\"until\":\"2026-11-25T15:04:05.123Z\"}",
          1300);
    char *a = text_of(&st);
    CHECK_INT(run_state_copy(&copy, &st), 0);
    char *b = text_of(&copy);
    CHECK_STR(b, a);
    NEED(js_parse(sl_str(a), &o, NULL) == 0);
    CHECK_INT(run_state_read(&read, o), 0);
    json_object_put(o);
    char *c = text_of(&read);
    CHECK_STR(c, a);
    CHECK(read.wait_until_ms > 0);
    CHECK_INT(run_visits(&read, "/do/0/d/do/0/x"), 1);
    free(a);
    free(b);
    free(c);
    run_state_free(&st);
    run_state_free(&copy);
    run_state_free(&read);
}

TEST(a_snapshot_of_another_form_is_refused_and_changes_nothing)
{
    const char *bad[] = {"{\"phase\":9}",    "{\"phase\":-1}",
                         "{\"phase\":1}",    "{\"phase\":3,\"frames\":[{}]}",
                         "{\"phase\":2}",    "{\"tasks\":9223372036854775807}",
                         "{\"attempt\":-1}", "{\"visits\":{\"/do/0/a\":-5}}"};
    struct run_state st;
    start(&st, "{\"input\":1}", "{\"next\":\"/do/0/a\"}");
    char *before = text_of(&st);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_object *o = NULL;
        NEED(js_parse(sl_str(bad[i]), &o, NULL) == 0);
        CHECK_INT(run_state_read(&st, o), -EPROTO);
        json_object_put(o);
    }
    char *after = text_of(&st);
    CHECK_STR(after, before);
    free(before);
    free(after);
    run_state_free(&st);
}
