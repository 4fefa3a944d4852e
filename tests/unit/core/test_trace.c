/* A run's history for people. */
#include <stdio.h>
#include <stdlib.h>

#include "core/trace.h"
#include "fake.h"
#include "unit.h"

SUITE("core/trace")

static void whole(struct fnode *n)
{
    for (int i = 0; i < 50; i++) {
        fake_run_all(n);
        if (!fake_begin(n))
            return;
        fake_finish(n, i);
    }
}

static void add_all(struct trace *t, const struct flog *l)
{
    for (int64_t i = 0; i < l->end; i++)
        CHECK(trace_add(t, l->v[i]) >= 0);
}

TEST(a_run_is_told_task_by_task)
{
    struct flog l = {0};
    struct fnode n;
    struct trace t;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 0, 4, 0);
    flog_request(&l, 1, 5, 0);
    whole(&n);
    trace_init(&t, fake_run(4), true);
    add_all(&t, &l);
    NEED(t.n == 1);
    struct trace_run *r = t.order[0];
    CHECK_INT(r->status, RUN_COMPLETED);
    CHECK_STR(r->agent, "t/x");
    CHECK_STR(r->feed, "live");
    CHECK_INT(r->src_offset, 4);
    CHECK_INT(r->first, 1);
    CHECK_STR(val_text(r->input).p, "4");
    CHECK_INT(r->ntasks, 4);
    CHECK_STR(r->tasks[0].ref, "/do/0/p");
    for (size_t i = 0; i < r->ntasks; i++)
        CHECK_STR(r->tasks[i].status, "completed");
    CHECK(r->tasks[3].first > r->tasks[2].last);
    CHECK(!t.cut);
    trace_free(&t);
    trace_init(&t, NULL, false);
    add_all(&t, &l);
    CHECK_INT(t.n, 2);
    CHECK_INT(t.order[1]->status, RUN_FAULTED);
    CHECK_INT(t.order[1]->faulted_tasks, 1);
    CHECK(t.order[1]->error != NULL);
    trace_free(&t);
    fake_close(&n);
    flog_free(&l);
}

TEST(values_of_tasks_are_kept_for_a_page_of_bounded_size)
{
    struct flog l = {0};
    struct fnode n;
    struct trace t;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 0, 4, 0);
    whole(&n);
    for (size_t from = 0; from < 5; from++)
        for (size_t max = 0; max < 2; max++) {
            trace_init(&t, fake_run(4), true);
            t.values_from = from;
            t.values_end = from + 2;
            t.values_max = max ? 1000 : 1; /* bytes: of all tasks, or not of two */
            add_all(&t, &l);
            NEED(t.n == 1 && t.order[0]->ntasks == 4);
            CHECK_INT(t.values_end, max || from >= 3 ? from + 2 : from + 1);
            for (size_t i = 0; i < 4; i++)
                CHECK_INT(t.order[0]->tasks[i].output != NULL, i >= from && i < t.values_end);
            struct json_object *o = trace_json_page(t.order[0], from, t.values_end);
            CHECK_INT(js_length(js_get(o, "tasks")), from >= 4 ? 0 : from == 3 ? 1 : 1 + max);
            json_object_put(o);
            trace_free(&t);
        }
    fake_close(&n);
    flog_free(&l);
}

TEST(what_a_former_owner_wrote_late_is_void_in_the_history_too)
{
    struct flog l = {0};
    struct fnode a, b;
    struct trace t;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&a);
    fake_open(&b, &l, NULL);
    fake_own(&b, 2);
    fake_finish(&a, 66);
    part_work(a.p);
    while (a.nout)
        fake_land(&a);
    fake_run_all(&b);
    fake_finish(&b, 77);
    fake_run_all(&b);
    trace_init(&t, NULL, true);
    add_all(&t, &l);
    CHECK(t.voids > 0);
    NEED(t.n == 1);
    CHECK_STR(val_text(t.order[0]->tasks[0].output).p, "77");
    trace_free(&t);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_duplicate_request_is_no_second_run)
{
    struct flog l = {0};
    struct fnode n;
    struct trace t;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    whole(&n);
    flog_request(&l, 1, 0, 0);
    whole(&n);
    trace_init(&t, NULL, true);
    add_all(&t, &l);
    NEED(t.n == 1);
    CHECK_INT(t.order[0]->status, RUN_FAULTED);
    trace_free(&t);
    fake_close(&n);
    flog_free(&l);
}

/* An id without an event is free again after a day: the latest run of it counts, nothing leaks. */
TEST(an_id_used_again_after_its_window_leaks_nothing)
{
    struct flog l = {0};
    struct fnode n;
    struct trace t;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request_api(&l, 1, 1, NULL);
    whole(&n);
    sources_expire(&n.p->st.sources, FAKE_TIME + 2 * SOURCE_API_WINDOW_MS);
    flog_request_api(&l, 1, 1, NULL);
    whole(&n);
    trace_init(&t, NULL, true);
    add_all(&t, &l);
    CHECK_INT(t.n, 1);
    trace_free(&t);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_log_that_was_cut_is_said_to_be)
{
    struct flog l = {0};
    struct fnode n;
    struct trace t;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    trace_init(&t, NULL, true);
    for (int64_t i = 0; i < l.end; i++)
        if (i != 1)
            trace_add(&t, l.v[i]);
    CHECK_INT(t.n, 0);
    CHECK(t.cut);
    trace_free(&t);
    fake_close(&n);
    flog_free(&l);
}
