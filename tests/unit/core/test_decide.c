/* Requests: each is consumed by a fact, or settled with its reason. */
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "unit.h"

SUITE("core/decide")

TEST(a_second_request_for_one_event_is_a_duplicate_by_its_id)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 5, 0);
    flog_request(&l, 1, 5, 0);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    int settled = 0, started = 0;
    for (int64_t i = 0; i < l.end; i++) {
        started += l.v[i]->type == REC_STARTED;
        if (l.v[i]->type == REC_SETTLED) {
            settled++;
            CHECK_STR(l.v[i]->status, "duplicate");
            CHECK_INT(l.v[i]->consumed, 2);
        }
    }
    CHECK_INT(started, 1);
    CHECK_INT(settled, 1);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_request_below_the_floor_is_a_duplicate_although_its_id_is_forgotten)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 5, 0);
    flog_request(&l, 1, 9, 9); /* the floor 9 forgets event 5 */
    fake_finish_all(&n);
    CHECK_INT(sources_ids(&n.p->st.sources), 1);
    flog_request(&l, 1, 5, 0);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 2);
    CHECK_STR(l.v[l.end - 1]->status, "duplicate");
    fake_close(&n);
    flog_free(&l);
}

/* The publisher repeats an event, as a record of its own. */
TEST(an_event_that_is_published_again_later_is_a_duplicate_for_this_owner)
{
    struct flog l = {0};
    struct fnode n, m;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 5, 0);
    flog_request(&l, 1, 9, 9); /* the floor 9 forgets event 5 */
    fake_finish_all(&n);
    CHECK_INT(n.nended, 2);
    struct rec *again = rec_new(REC_REQUESTED, fake_run(5));
    again->uuid = strdup("again");
    again->time_ms = FAKE_TIME;
    again->agent = strdup(flow_info(fake_flow(1))->hash);
    again->value = val_text_new(SL("{\"agent\":\"t/x\",\"input\":5}"));
    again->src.name = strdup("live:src/1/0");
    again->src.offset = 12; /* its new place */
    again->src.floor = 9;
    flog_land(&l, again);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 2);
    CHECK_STR(l.v[l.end - 1]->status, "duplicate: the run of this id has ended");
    fake_check_fold(&n);
    /* Another owner does not know; its keys are its own. */
    fake_open(&m, &l, NULL);
    fake_own(&m, 2);
    flog_request(&l, 1, 20, 20);
    again->src.offset = 21;
    flog_land(&l, again);
    size_t before = m.nended; /* seen while it followed */
    fake_finish_all(&m);
    fake_check_fold(&m);
    CHECK_INT(m.nended - before, 2);
    rec_unref(again);
    fake_close(&n);
    fake_close(&m);
    flog_free(&l);
}

TEST(a_cancel_before_the_start_ends_the_run_as_cancelled)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.places = 0; /* it can't begin */
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    CHECK_INT(l.end, 2);
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.requested run.cancel run.started run.cancelled");
    CHECK_INT(n.nended, 1);
    CHECK_INT(n.p->st.npending, 0);
    CHECK_INT(n.neffects, 0);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_cancel_stops_the_effect_and_its_late_result_is_dropped)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    NEED(fake_begin(&n) != NULL);
    uint64_t id = n.effects[0].work_id;
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    CHECK_INT(n.stops, 1);
    CHECK_INT(n.nended, 1);
    part_effect_done(n.p, fake_run(0), id, json_object_new_int(1), NULL);
    fake_run_all(&n);
    CHECK_INT(l.v[l.end - 1]->type, REC_CANCELLED);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_cancel_of_an_unknown_run_is_settled_with_its_reason)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_control(&l, REC_CANCEL, 4);
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.cancel request.settled");
    CHECK_STR(l.v[2]->status, "no such run, or it has ended");
    CHECK_INT(part_mark(n.p), 3);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_suspended_run_begins_nothing_until_it_is_resumed)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 0, 0, 0);
    fake_run_all(&n);
    CHECK_STR(fake_begin(&n), "/do/1/s");
    flog_control(&l, REC_SUSPEND, 0);
    fake_run_all(&n);
    fake_finish(&n, 1); /* a result that comes meanwhile is kept */
    fake_run_all(&n);
    CHECK_INT(l.v[l.end - 1]->type, REC_TASK_COMPLETED);
    CHECK_INT(n.neffects, 0);
    flog_control(&l, REC_SUSPEND, 0);
    fake_run_all(&n);
    CHECK_STR(l.v[l.end - 1]->status, "already suspended");
    flog_control(&l, REC_RESUME, 0);
    fake_run_all(&n);
    CHECK_STR(fake_begin(&n), "/do/2/w");
    flog_control(&l, REC_RESUME, 0);
    fake_run_all(&n);
    CHECK_STR(l.v[l.end - 1]->status, "not suspended");
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_suspension_holds_over_a_takeover)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&a);
    flog_control(&l, REC_SUSPEND, 0);
    fake_run_all(&a);
    fake_open(&b, &l, NULL);
    fake_own(&b, 2);
    fake_run_all(&b);
    CHECK_INT(b.neffects, 0);
    flog_control(&l, REC_RESUME, 0);
    fake_finish_all(&b);
    CHECK_INT(b.nended, 1);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(deliveries_are_settled_by_one_fact)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    for (int i = 0; i < 5; i++)
        flog_control(&l, REC_DELIVERED, i);
    fake_run_all(&n);
    CHECK_INT(l.end, 7);
    CHECK_INT(l.v[6]->up_to, 6);
    CHECK_INT(n.p->st.npending, 0);
    CHECK_INT(part_mark(n.p), 7);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

/* A node that has not read the agents topic far enough must not fault what it will know soon. */
TEST(a_request_waits_for_its_definition)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.no_flows = true;
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.requested");
    n.no_flows = false;
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    CHECK_STR(l.v[2] ? rec_type_name(l.v[2]->type) : "", "run.started");
    CHECK(l.v[l.end - 1]->type == REC_FAULTED); /* by its raise, after its effect */
    CHECK_INT(part_backlog(n.p), 0);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_definition_that_never_comes_faults_the_run)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.no_flows = true;
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    fake_time(&n, DEFINITION_WAIT_MS + 2000);
    fake_run_all(&n);
    CHECK_INT(n.nended, 1);
    CHECK_INT(l.v[l.end - 1]->type, REC_FAULTED);
    fake_close(&n);
    flog_free(&l);
}

/* The one who asked has a clock that is a day behind. */
TEST(a_request_waits_for_its_definition_whatever_its_time)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.no_flows = true;
    flog_request(&l, 1, 0, 0);
    NEED(l.v[l.end - 1] != NULL);
    l.v[l.end - 1]->time_ms -= 86400000;
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.requested");
    fake_close(&n);
    flog_free(&l);
}

/* The cancel stands before the request that it waits for in what is to be decided. */
TEST(a_cancel_read_before_a_request_without_definition_ends_both)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.no_flows = true;
    flog_control(&l, REC_CANCEL, 0);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.cancel run.requested run.started run.cancelled");
    CHECK_INT(n.nended, 1);
    CHECK_INT(n.p->st.npending, 0);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_wait_goes_on_at_its_time_also_after_a_takeover)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 3, 0, 0);
    fake_run_all(&a);
    CHECK_INT(l.v[l.end - 1]->type, REC_TASK_WAITING);
    CHECK_INT(part_next_due(a.p), a.wall_ms + 5000);
    fake_open(&b, &l, NULL);
    fake_time(&b, 3000);
    fake_own(&b, 2);
    fake_run_all(&b);
    CHECK_INT(b.neffects, 0);
    CHECK_INT(part_next_due(b.p), a.wall_ms + 5000); /* not begun anew */
    fake_time(&b, 2000);
    fake_run_all(&b);
    CHECK_STR(fake_begin(&b), "/do/1/w");
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(priority_goes_first_then_the_order_of_the_log)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.places = 1;
    for (int i = 0; i < 3; i++)
        flog_request(&l, 1, i, 0);
    l.v[3]->priority = 1;
    fake_run_all(&n);
    CHECK_STR(n.effects[0].run, fake_run(2));
    fake_finish(&n, 1);
    fake_run_all(&n);
    CHECK_STR(n.effects[0].run, fake_run(0));
    fake_finish_all(&n);
    CHECK_INT(n.nended, 3);
    fake_close(&n);
    flog_free(&l);
}

/* The id window of requests without an event is 24 hours; a run may live longer. */
TEST(a_repeated_id_of_a_live_run_takes_no_second_place)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request_api(&l, 1, 1, NULL);
    fake_run_all(&n);
    CHECK_INT(n.active, 1);
    sources_expire(&n.p->st.sources, FAKE_TIME + 2 * SOURCE_API_WINDOW_MS);
    flog_request_api(&l, 1, 1, NULL);
    fake_run_all(&n);
    CHECK_INT(n.active, 1);
    CHECK_INT(n.p->st.npending, 0);
    fake_finish_all(&n);
    CHECK_INT(n.active, 0);
    CHECK_INT(n.nended, 1);
    fake_close(&n);
    flog_free(&l);
}

static int64_t keyed_request(struct flog *l, uint64_t idem)
{
    struct rec *r = rec_new(REC_REQUESTED, fake_run_api(1));
    r->uuid = strdup("u");
    r->time_ms = FAKE_TIME;
    r->agent = strdup(flow_info(fake_flow(0))->hash);
    r->value = val_text_new(SL("{\"agent\":\"t/x\",\"input\":5}"));
    r->keyed = true;
    r->idem = idem;
    int64_t at = flog_land(l, r);
    rec_unref(r);
    return at;
}

static const struct rec *answer_to(const struct flog *l, int64_t request)
{
    for (int64_t i = request; i < l->end; i++)
        if (l->v[i]->consumed == request)
            return l->v[i];
    return NULL;
}

/* Whoever gave a key hears from the owner, also when the run has to wait for its place. */
TEST(each_request_with_a_key_is_answered)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.places = 0;
    int64_t first = keyed_request(&l, 7), same = keyed_request(&l, 7), other = keyed_request(&l, 8);
    fake_run_all(&n);
    NEED(answer_to(&l, first) && answer_to(&l, same) && answer_to(&l, other));
    CHECK_INT(answer_to(&l, first)->type, REC_ACCEPTED);
    CHECK_STR(answer_to(&l, same)->status, "duplicate");
    CHECK_STR(answer_to(&l, other)->status, "conflict");
    CHECK_INT(n.p->st.npending, 1); /* an acceptance consumes nothing */
    int64_t end = l.end;
    fake_run_all(&n);
    CHECK_INT(l.end, end); /* and is said once */
    n.places = 10;
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    int64_t late = keyed_request(&l, 7);
    fake_run_all(&n);
    CHECK_STR(answer_to(&l, late)->status, "duplicate");
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_fork_goes_on_from_the_state_that_it_brings)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request_api(&l, 0, 1,
                     "{\"agent\":\"t/x\",\"input\":{\"a\":1},\"state\":{\"status\":\"running\","
                     "\"phase\":1,\"ref\":\"/do/2/w\",\"visit\":0,\"visits\":{\"/do/0/p\":1,\"/do/"
                     "1/s\":1},\"frames\":[],\"last\":{\"x\":7}}}");
    fake_run_all(&n);
    CHECK_STR(fake_begin(&n), "/do/2/w");
    struct run *r = part_run(n.p, fake_run_api(1));
    NEED(r != NULL);
    CHECK_STR(val_text(r->spec.last).p, "{\"x\":7}");
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_fork_whose_state_is_unreadable_is_settled)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request_api(&l, 0, 1, "{\"input\":1,\"state\":{\"phase\":77}}");
    fake_run_all(&n);
    fake_check_types(&l, 1, "run.requested request.settled");
    CHECK_INT(n.p->st.runs.n, 0);
    CHECK_INT(n.active, 0);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_faulted_run_is_told_once_its_end_is_known)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    fake_finish(&n, 1);
    part_work(n.p);
    CHECK_INT(n.ntold, 0); /* run.faulted is under way */
    fake_run_all(&n);
    CHECK_INT(n.ntold, 1);
    CHECK_INT(part_mark(n.p), 1); /* held by what the letter is made from */
    part_not_told(n.p, fake_run(0));
    fake_run_all(&n);
    CHECK_INT(n.ntold, 2);
    part_told(n.p, fake_run(0));
    CHECK_INT(part_mark(n.p), l.end);
    fake_close(&n);
    flog_free(&l);
}
