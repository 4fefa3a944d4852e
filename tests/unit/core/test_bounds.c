/* The bounds of a run and of a partition's state: what exceeds them gets what docs/limits.md says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"
#include "unit.h"

SUITE("core/bounds")

/* The log's last record is run.faulted and its error has the text. */
static void check_faulted(const struct flog *l, const char *text)
{
    const struct rec *r = l->end ? l->v[l->end - 1] : NULL;
    NEED(r != NULL);
    CHECK_INT(r->type, REC_FAULTED);
    struct slice v = val_text(r->value);
    char *copy = sl_dup(v);
    CHECK(copy && strstr(copy, text) != NULL);
    free(copy);
}

TEST(a_run_faults_at_its_hundred_thousandth_finished_task)
{
    struct flog l = {0};
    struct fnode n;
    char value[512];
    for (int left = 1; left >= 0; left--) {
        fake_use("do: [{a: {set: {n: 1}}}, {b: {set: {n: 2}}}]");
        fake_open(&n, &l, NULL);
        fake_own(&n, 1);
        (void)
            snprintf(value, sizeof value,
                     "{\"agent\":\"t/x\",\"input\":1,\"state\":{\"status\":\"running\",\"phase\":1,"
                     "\"ref\":\"/do/0/a\",\"tasks\":%d}}",
                     RUN_TASKS_MAX - 1 - 2 * left);
        flog_request_api(&l, FAKE_OWN, 1, value);
        fake_run_all(&n);
        if (left)
            CHECK_INT(l.v[l.end - 1]->type, REC_COMPLETED);
        else
            check_faulted(&l, "at most 100000 finished tasks");
        fake_close(&n);
        flog_free(&l);
        memset(&l, 0, sizeof l);
    }
}

TEST(a_run_faults_in_its_sixty_fifth_composite_task)
{
    struct flog l = {0};
    struct fnode n;
    struct buf b;
    fake_use("do: [{box: {do: [{a: {set: {n: 1}}}]}}]");
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    buf_init(&b, 8192);
    buf_adds(&b, "{\"agent\":\"t/x\",\"input\":1,\"state\":{\"status\":\"running\",\"phase\":1,"
                 "\"ref\":\"/do/0/box\",\"frames\":[");
    for (int i = 0; i < FRAMES_MAX; i++)
        buf_addf(&b, "%s{\"ref\":\"/do/0/box\",\"visit\":0}", i ? "," : "");
    buf_adds(&b, "]}}");
    flog_request_api(&l, FAKE_OWN, 1, b.p);
    fake_run_all(&n);
    check_faulted(&l, "at most 64 composite tasks");
    buf_free(&b);
    fake_close(&n);
    flog_free(&l);
}

/* An endless loop of pure tasks, and a broker that acknowledges nothing. */
TEST(a_run_waits_with_256_facts_that_are_not_known)
{
    struct flog l = {0};
    struct fnode n;
    fake_use("do: [{a: {set: {n: 1}}}, {b: {set: {n: 2}, then: a}}]");
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request_api(&l, FAKE_OWN, 1, NULL);
    fake_consume(&n);
    for (int i = 0; i < 1000; i++)
        part_work(n.p);
    CHECK_INT(n.nout, RUN_INFLIGHT_MAX);
    while (fake_land(&n) >= 0)
        fake_ack(&n);
    CHECK_INT(n.nout, 0);
    part_work(n.p);
    CHECK(n.nout > 0); /* it goes on */
    fake_close(&n);
    flog_free(&l);
}

static int three_times(void *arg, const char *run)
{
    (void)arg;
    return strcmp(run, fake_run_api(1)) ? 0 : CRASHES_MAX;
}

/* tests/e2e/test_limits.py has the processes that die. */
TEST(a_run_in_whose_step_the_process_died_three_times_is_set_aside)
{
    struct flog l = {0};
    struct fnode n;
    fake_use("do: [{a: {set: {n: 1}}}]");
    fake_open(&n, &l, NULL);
    struct part_ops ops = *n.p->ops;
    ops.crashes = three_times;
    n.p->ops = &ops;
    fake_own(&n, 1);
    flog_request_api(&l, FAKE_OWN, 1, NULL);
    flog_request_api(&l, FAKE_OWN, 2, NULL);
    fake_run_all(&n);
    int faulted = 0, completed = 0;
    for (int64_t i = 0; i < l.end; i++) {
        faulted += l.v[i] && l.v[i]->type == REC_FAULTED && !strcmp(l.v[i]->run, fake_run_api(1));
        completed += l.v[i] && l.v[i]->type == REC_COMPLETED;
    }
    CHECK_INT(faulted, 1);
    CHECK_INT(completed, 1);
    CHECK_INT(n.ntold, 1); /* its dead letter */
    fake_close(&n);
    flog_free(&l);
}

/* A state beyond its bound is not written: starting points of before go on serving. */
TEST(a_state_beyond_its_bound_is_not_written)
{
    struct flog l = {0};
    struct fnode n;
    struct part_opts o = {.partition = 2,
                          .lease_ms = 6000,
                          .snapshot_bytes_min = 1,
                          .state_bytes_max = 200};
    fake_open(&n, &l, &o);
    fake_own(&n, 1);
    for (int i = 1; i <= 40; i++)
        flog_request_api(&l, 3, i, NULL); /* they wait five seconds: snapshots would be due */
    fake_run_all(&n);
    part_tick(n.p, true);
    CHECK_INT(n.nout, 0);
    n.p->o.state_bytes_max = 1 << 20;
    part_tick(n.p, true);
    CHECK(n.nout > 0);
    fake_close(&n);
    flog_free(&l);
}
