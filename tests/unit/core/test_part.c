/* One partition's rules: known prefix, write-ahead, leases, ownership. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "unit.h"

SUITE("core/part")

/* The table of the design's example: four tasks, the owner is stopped in the third, another goes
 * on, and the former owner's result lands late. */
TEST(one_run_record_by_record_with_a_takeover)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 0xa1);
    flog_request(&l, 0, 17, 17);
    fake_run_all(&a);
    fake_check_types(&l, 0, "owner run.requested run.started task.completed task.started");
    CHECK_INT(l.v[2]->consumed, 1);
    CHECK_STR(l.v[3]->ref, "/do/0/p");
    CHECK_STR(fake_begin(&a), "/do/1/s");
    fake_finish(&a, 1);
    fake_run_all(&a);
    CHECK_STR(fake_begin(&a), "/do/2/w");
    fake_finish(&a, 2);
    fake_run_all(&a);
    fake_check_types(&l, 5, "task.completed task.started task.completed task.started");
    CHECK_STR(fake_begin(&a), "/do/3/v"); /* and is stopped in the middle of it */
    fake_check_fold(&a);

    fake_open(&b, &l, NULL);
    fake_own(&b, 0xb7);
    CHECK_INT(b.p->epoch, 9);
    fake_run_all(&b);
    fake_check_types(&l, 9, "owner task.started");
    CHECK_STR(fake_begin(&b), "/do/3/v");
    fake_finish(&a, 3); /* continued: its result lands late, and is void */
    part_work(a.p);
    CHECK_INT(fake_land(&a), 11);
    fake_ack(&a);
    CHECK_INT(a.p->status, PART_OWNER); /* 9 and 10 are not known to it yet */
    fake_consume(&a);
    CHECK_INT(a.p->status, PART_FOLLOWING);
    CHECK_INT(a.p->st.voids, 1);
    fake_run_all(&b);
    CHECK_INT(b.p->st.voids, 1);
    fake_finish(&b, 4);
    fake_run_all(&b);
    fake_check_types(&l, 11, "task.completed task.completed run.completed");
    CHECK_INT(b.nended, 1);
    CHECK_INT(part_mark(b.p), 14);
    fake_check_fold(&b);
    fake_consume(&a);
    fake_check_fold(&a);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_world_changing_effect_waits_for_every_acknowledgement)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0); /* /do/0/w is world-changing */
    fake_consume(&n);
    part_work(n.p);
    CHECK_INT(n.nout, 1); /* run.started is under way */
    CHECK_INT(n.neffects, 0);
    fake_land(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 0);
    fake_ack(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 1);
    CHECK_STR(fake_begin(&n), "/do/0/w");
    fake_close(&n);
    flog_free(&l);
}

TEST(an_acknowledged_fact_above_an_unread_record_is_not_known)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    flog_request(&l, 1, 1, 0); /* another's record lands below the fact */
    fake_land(&n);
    fake_ack(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 0);
    CHECK_INT(n.p->st.next, 2);
    fake_consume(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 1);
    fake_close(&n);
    flog_free(&l);
}

TEST(safe_effects_run_ahead_but_at_most_eight)
{
    struct flog l = {0};
    struct fnode n;
    int ahead = 0;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 4, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    while (n.neffects && ahead < 20) { /* nothing lands meanwhile */
        NEED(fake_begin(&n) != NULL);
        fake_finish(&n, ++ahead);
        part_work(n.p);
    }
    CHECK_INT(ahead, RUN_AHEAD_MAX);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(nothing_begins_without_a_lease)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    fake_time(&n, 6000); /* it lapsed */
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    CHECK_INT(n.neffects, 0);
    part_leased(n.p, n.boot_ms - 100);
    fake_run_all(&n);
    CHECK_STR(fake_begin(&n), "/do/0/w");
    fake_time(&n, 5900); /* queued, not begun, and it lapses again */
    CHECK(fake_begin(&n) == NULL);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_result_that_comes_after_the_lease_lapsed_is_kept)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    CHECK(fake_begin(&n) != NULL);
    fake_time(&n, 60000);
    fake_finish(&n, 1);
    fake_run_all(&n);
    CHECK_INT(n.nended, 1); /* the next task is a raise: pure */
    fake_close(&n);
    flog_free(&l);
}

TEST(a_claim_becomes_an_ownership_only_when_read_back)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    flog_request(&l, 1, 0, 0);
    CHECK_INT(part_claim(n.p, 7), 0);
    CHECK_INT(fake_land(&n), 1);
    fake_ack(&n);
    CHECK_INT(n.p->status, PART_CLAIMING); /* offset 0 is not known */
    fake_consume(&n);
    CHECK_INT(n.p->status, PART_OWNER);
    CHECK_INT(n.p->epoch, 1);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_foreign_owner_below_the_own_one_does_not_end_the_claim)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_open(&b, &l, NULL);
    CHECK_INT(part_claim(a.p, 1), 0);
    CHECK_INT(part_claim(b.p, 2), 0);
    fake_land(&b);
    fake_land(&a);
    fake_consume(&a);
    fake_consume(&b);
    CHECK_INT(a.p->status, PART_OWNER);
    CHECK_INT(a.p->epoch, 1);
    CHECK_INT(b.p->status, PART_FOLLOWING);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_foreign_owner_stops_effects_and_gives_places_back)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&a);
    CHECK_INT(a.active, 1);
    CHECK(fake_begin(&a) != NULL);
    fake_open(&b, &l, NULL);
    fake_own(&b, 2);
    fake_consume(&a);
    CHECK_INT(a.p->status, PART_FOLLOWING);
    CHECK_INT(a.stops, 1);
    CHECK_INT(a.active, 0);
    CHECK_INT(a.p->nown, 0);
    CHECK(!part_work(a.p));
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(an_acknowledgement_of_a_former_ownership_means_nothing)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 1, 0, 0);
    fake_consume(&a);
    part_work(a.p);
    fake_open(&b, &l, NULL);
    fake_own(&b, 2);
    fake_land(&a); /* void */
    fake_consume(&a);
    fake_ack(&a);
    CHECK_INT(a.p->st.next, l.end);
    fake_check_fold(&a);
    CHECK_INT(a.p->st.runs.n, 0);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(an_acknowledgement_without_offset_is_made_up_by_reading)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    fake_land(&n);
    fake_ack_unknown(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 0);
    fake_consume(&n);
    part_work(n.p);
    CHECK_INT(n.neffects, 1);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_fact_read_before_its_acknowledgement_counts_once)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    fake_land(&n);
    fake_consume(&n);
    CHECK_INT(n.p->nown, 0);
    fake_ack(&n);
    CHECK_INT(n.p->st.next, l.end);
    fake_check_fold(&n);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_repeat_after_a_takeover_has_the_same_place_and_input)
{
    struct flog l = {0};
    struct fnode a, b;
    char *first, *second;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 0, 3, 0);
    fake_run_all(&a);
    fake_finish(&a, 1);
    fake_run_all(&a);
    NEED(fake_begin(&a) != NULL);
    struct run *r = part_run(a.p, fake_run(3));
    first = strdup(json_object_to_json_string(step_call(r->step)));
    fake_open(&b, &l, NULL);
    fake_time(&b, 77777);
    fake_own(&b, 2);
    fake_run_all(&b);
    NEED(fake_begin(&b) != NULL);
    r = part_run(b.p, fake_run(3));
    second = strdup(json_object_to_json_string(step_call(r->step)));
    CHECK_STR(second, first);
    CHECK_INT(r->spec.attempt, 1);
    CHECK_INT(r->spec.visit, 0);
    free(first);
    free(second);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

/* `now` and $task.startedAt come from the record that brought the run to the task: a task.started,
 * a suspension or another owner's clock must not change what a repeat sends. */
TEST(a_repeat_sees_the_same_time)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 5, 3, 0);
    fake_consume(&a);
    part_work(a.p);
    fake_time(&a, 50);
    fake_run_all(&a);
    NEED(a.neffects == 1);
    struct run *r = part_run(a.p, fake_run(3));
    char *first = strdup(json_object_to_json_string(step_call(r->step)));
    CHECK(strstr(first, "now") != NULL);
    fake_time(&a, 900);
    flog_control(&l, REC_SUSPEND, 3);
    fake_run_all(&a);
    flog_control(&l, REC_RESUME, 3);
    fake_run_all(&a);
    fake_open(&b, &l, NULL);
    fake_time(&b, 77777);
    fake_own(&b, 2);
    fake_run_all(&b);
    NEED(b.neffects == 1);
    r = part_run(b.p, fake_run(3));
    char *second = strdup(json_object_to_json_string(step_call(r->step)));
    CHECK_STR(second, first);
    free(first);
    free(second);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(at_most_once_waits_for_its_own_started)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 2, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    fake_land(&n); /* run.started */
    fake_ack(&n);
    part_work(n.p);
    CHECK_INT(n.nout, 1); /* task.started */
    CHECK_INT(n.neffects, 0);
    fake_land(&n);
    fake_ack(&n);
    part_work(n.p);
    CHECK_STR(fake_begin(&n), "/do/0/o");
    fake_close(&n);
    flog_free(&l);
}

TEST(at_most_once_begun_by_a_former_owner_is_not_done_again)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 2, 0, 0);
    fake_run_all(&a);
    CHECK_STR(fake_begin(&a), "/do/0/o");
    fake_open(&b, &l, NULL);
    fake_own(&b, 2);
    fake_run_all(&b);
    CHECK_INT(b.neffects, 0);
    CHECK_INT(b.nended, 1);
    CHECK_INT(b.ntold, 1); /* faulted: a dead letter */
    CHECK_INT(l.v[l.end - 1]->type, REC_FAULTED);
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

/* Another boot of the same static member may still be at work for one session. */
TEST(after_a_reboot_a_static_member_waits_a_session_and_then_goes_on)
{
    struct flog l = {0};
    struct fnode a, b;
    struct part_opts o = {
        .partition = 2, .lease_ms = 6000, .static_member = true, .node_id = "n", .boot_id = "b2"};
    fake_open(&a, &l, NULL);
    fake_own(&a, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&a);
    fake_open(&b, &l, &o);
    fake_own(&b, 2);
    fake_run_all(&b);
    CHECK(fake_begin(&b) == NULL);
    fake_time(&b, 3000);
    part_leased(b.p, b.boot_ms); /* renewed in time, so it never lapses */
    fake_run_all(&b);
    CHECK(fake_begin(&b) == NULL);
    fake_time(&b, 3000);
    fake_run_all(&b);
    CHECK_STR(fake_begin(&b), "/do/0/w");
    fake_close(&a);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_lost_producer_ends_the_ownership_and_a_new_claim_goes_on)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_consume(&n);
    part_work(n.p);
    n.broken = true;
    part_end_ownership(n.p);
    CHECK_INT(part_claim(n.p, 2), -32);
    CHECK_INT(n.p->status, PART_FOLLOWING);
    n.broken = false;
    fake_land(&n); /* what was under way lands before the new owner record, and counts */
    fake_ack(&n);
    fake_own(&n, 3);
    fake_finish_all(&n);
    CHECK_INT(n.nended, 1);
    int started = 0;
    for (int64_t i = 0; i < l.end; i++)
        started += l.v[i]->type == REC_STARTED;
    CHECK_INT(started, 1);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

/* task.faulted is in the log, the run's end is not: the owner was killed between the two. */
static void die_between_fault_and_end(struct flog *l, int64_t *ret_at)
{
    struct fnode a;
    fake_open(&a, l, NULL);
    fake_own(&a, 0xa1);
    flog_request(l, 1, 0, 0);
    fake_run_all(&a);
    CHECK_STR(fake_begin(&a), "/do/0/w");
    fake_finish(&a, 1);
    part_work(a.p);
    fake_land(&a);
    *ret_at = fake_land(&a);
    fake_check_types(l, *ret_at - 1, "task.completed task.faulted");
    fake_close(&a);
}

TEST(a_fault_found_at_takeover_ends_the_run_and_does_nothing_again)
{
    struct flog l = {0};
    struct fnode b;
    int64_t at;
    die_between_fault_and_end(&l, &at);
    fake_open(&b, &l, NULL);
    fake_own(&b, 0xb7);
    fake_run_all(&b);
    fake_check_types(&l, at + 1, "owner run.faulted");
    CHECK(val_equal(l.v[at]->value, l.v[at + 2]->value));
    CHECK_INT(b.ntold, 1);
    fake_check_fold(&b);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_suspended_runs_fault_found_at_takeover_ends_it)
{
    struct flog l = {0};
    struct fnode b;
    int64_t at;
    die_between_fault_and_end(&l, &at);
    flog_control(&l, REC_SUSPEND, 0);
    fake_open(&b, &l, NULL);
    fake_own(&b, 0xb7);
    fake_run_all(&b);
    char *types = fake_types(&l, at + 1);
    CHECK(strstr(types, "run.faulted") && !strstr(types, "task.faulted"));
    free(types);
    CHECK_INT(b.nended, 1);
    fake_close(&b);
    flog_free(&l);
}

TEST(a_snapshot_keeps_the_fault_of_a_run_that_has_not_ended)
{
    struct flog l = {0};
    struct fnode b;
    struct buf text;
    struct json_object *o = NULL;
    struct run_state back = {0};
    int64_t at;
    die_between_fault_and_end(&l, &at);
    fake_open(&b, &l, NULL);
    fake_consume(&b);
    struct run *r = part_run(b.p, fake_run(0));
    NEED(r && r->known.error);
    buf_init(&text, 1 << 20);
    CHECK_INT(run_state_write(&r->known, &text), 0);
    CHECK_INT(js_parse(buf_slice(&text), &o, NULL), 0);
    CHECK_INT(run_state_read(&back, o), 0);
    CHECK(back.error && val_equal(back.error, r->known.error));
    json_object_put(o);
    run_state_free(&back);
    buf_free(&text);
    fake_close(&b);
    flog_free(&l);
}

/* As when memory runs out, or the queue of expressions is full. */
TEST(what_can_not_be_asked_for_now_is_asked_for_again_and_not_at_once)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    n.refuse = -ENOMEM;
    fake_run_all(&n);
    CHECK(!part_work(n.p)); /* the loop may sleep until the next tick */
    CHECK_INT(n.neffects, 0);
    CHECK_INT(part_run(n.p, fake_run(0))->busy, BUSY_NO);
    n.refuse = 0;
    fake_run_all(&n);
    CHECK_STR(fake_begin(&n), "/do/0/w");
    fake_finish_all(&n);
    fake_check_fold(&n);
    fake_check_types(&l, 2, "run.started task.started task.completed task.faulted run.faulted");
    fake_close(&n);
    flog_free(&l);
}
