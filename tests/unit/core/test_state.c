/* The fold: what a prefix of the log means. */
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "unit.h"

SUITE("core/state")

static void fold(struct state *st, const struct flog *l)
{
    state_init(st, 0);
    for (int64_t i = 0; i < l->end; i++)
        CHECK_INT(state_apply(st, l->v[i]), 0);
}

static void land_fact(struct flog *l, enum rec_type t, int64_t epoch, uint64_t nonce,
                      const char *run, const char *value)
{
    struct rec *r = rec_new(t, run);
    r->epoch = epoch;
    r->nonce = nonce;
    r->time_ms = FAKE_TIME;
    if (t >= REC_TASK_STARTED && t <= REC_TASK_WAITING)
        r->ref = strdup("/do/0/w");
    r->value = val_text_new(sl_str(value));
    if (t == REC_STARTED)
        r->consumed = 1;
    flog_land(l, r);
    rec_unref(r);
}

TEST(only_facts_of_the_latest_owner_below_them_count)
{
    struct flog l = {0};
    struct state st;
    land_fact(&l, REC_OWNER, -1, 1, NULL, "{}");
    flog_request(&l, 1, 0, 0);
    land_fact(&l, REC_STARTED, 0, 1, fake_run(0), "{\"next\":\"/do/0/w\"}");
    land_fact(&l, REC_OWNER, -1, 2, NULL, "{}");
    land_fact(&l, REC_FAULTED, 0, 1, fake_run(0), "{}"); /* former owner */
    land_fact(&l, REC_FAULTED, 3, 1, fake_run(0), "{}"); /* right epoch, foreign nonce */
    land_fact(&l, REC_FAULTED, 0, 2, fake_run(0), "{}"); /* right nonce, another epoch */
    fold(&st, &l);
    CHECK_INT(st.voids, 3);
    CHECK_INT(st.runs.n, 1);
    CHECK_INT(st.epoch, 3);
    state_free(&st);
    land_fact(&l, REC_FAULTED, 3, 2, fake_run(0), "{}");
    fold(&st, &l);
    CHECK_INT(st.runs.n, 0);
    state_free(&st);
    flog_free(&l);
}

TEST(facts_before_any_owner_are_void)
{
    struct flog l = {0};
    struct state st;
    land_fact(&l, REC_STARTED, 0, 0, fake_run(0), "{}");
    fold(&st, &l);
    CHECK_INT(st.voids, 1);
    state_free(&st);
    flog_free(&l);
}

TEST(requests_count_whoever_owns_and_change_nothing_by_themselves)
{
    struct flog l = {0};
    struct state st;
    flog_request(&l, 1, 0, 0);
    flog_control(&l, REC_CANCEL, 0);
    fold(&st, &l);
    CHECK_INT(st.npending, 2);
    CHECK_INT(st.runs.n, 0);
    CHECK_INT(state_low(&st), 0);
    state_free(&st);
    flog_free(&l);
}

TEST(a_fact_about_an_unknown_run_still_consumes_its_request)
{
    struct flog l = {0};
    struct state st;
    land_fact(&l, REC_OWNER, -1, 1, NULL, "{}");
    flog_control(&l, REC_CANCEL, 0); /* offset 1 */
    struct rec *r = rec_new(REC_CANCELLED, fake_run(0));
    r->epoch = 0;
    r->nonce = 1;
    r->consumed = 1;
    r->value = val_text_new(SL("{}"));
    flog_land(&l, r);
    rec_unref(r);
    fold(&st, &l);
    CHECK_INT(st.npending, 0);
    CHECK_INT(state_low(&st), 3);
    state_free(&st);
    flog_free(&l);
}

static void land_part(struct flog *l, int64_t epoch, uint64_t nonce, int64_t at, int chunk,
                      int chunks, const char *text)
{
    struct rec *r = rec_new(REC_PART_STATE, NULL);
    r->epoch = epoch;
    r->nonce = nonce;
    r->at = at;
    r->chunk = chunk;
    r->chunks = chunks;
    r->value = val_text_new(sl_str(text));
    flog_land(l, r);
    rec_unref(r);
}

TEST(a_part_state_counts_only_when_all_its_pieces_are_there)
{
    struct flog l = {0};
    struct state st;
    land_fact(&l, REC_OWNER, -1, 1, NULL, "{}");
    land_part(&l, 0, 1, 1, 0, 2, "{\"floors\":{\"s\":"); /* its owner dies here */
    land_fact(&l, REC_OWNER, -1, 2, NULL, "{}");
    land_part(&l, 0, 1, 1, 1, 2, "7},\"ids\":[]}"); /* late, void */
    fold(&st, &l);
    CHECK_INT(st.nmarks, 0);
    state_free(&st);
    land_part(&l, 2, 2, 3, 1, 2, "7},\"ids\":[]}"); /* a second piece alone */
    land_part(&l, 2, 2, 4, 0, 2, "{\"floors\":{\"s\":");
    land_part(&l, 2, 2, 4, 1, 2, "7},\"ids\":[]}");
    fold(&st, &l);
    NEED(st.nmarks == 1);
    CHECK_INT(st.marks[0].at, 4);
    CHECK_INT(st.marks[0].first, 5);
    CHECK_INT(st.marks[0].last, 6);
    state_free(&st);
    flog_free(&l);
}

TEST(a_part_state_that_is_not_json_is_counted_and_ignored)
{
    struct flog l = {0};
    struct state st;
    land_fact(&l, REC_OWNER, -1, 1, NULL, "{}");
    land_part(&l, 0, 1, 1, 0, 1, "{");
    fold(&st, &l);
    CHECK_INT(st.bad, 1);
    CHECK_INT(st.nmarks, 0);
    state_free(&st);
    flog_free(&l);
}

TEST(a_starting_point_of_another_form_is_refused)
{
    struct part_mark m = {3, 4, 4, 0};
    const char *bad[] = {"", "[]", "{\"floors\":1,\"ids\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct state st;
        state_init(&st, 0);
        CHECK(state_load(&st, sl_str(bad[i]), 1, 1, &m) < 0);
        state_free(&st);
    }
}

TEST(offsets_that_are_not_there_do_not_matter)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    CHECK_INT(part_consumed(n.p, l.end, NULL), 0); /* a record that can't be read */
    CHECK_INT(n.p->st.next, l.end + 1);
    CHECK_INT(part_consumed(n.p, 1, l.v[1]), 0); /* read again: known already */
    CHECK_INT(n.p->st.npending, 0);
    fake_close(&n);
    flog_free(&l);
}
