/* Tide mark, part.state, snapshots, the cut: a fold from any valid starting point is the same. */
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "unit.h"

SUITE("core/mark")

static void same(char *seen, char *want)
{
    CHECK_STR(seen, want);
    free(seen);
    free(want);
}

static void commit(struct fnode *n, char metadata[128])
{
    int64_t mark = part_mark(n->p);
    part_metadata(n->p, mark, metadata);
    part_committed(n->p, mark, metadata);
}

TEST(an_unfinished_run_holds_the_mark_at_its_request)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    CHECK_INT(part_mark(n.p), 1);
    flog_request(&l, 0, 0, 0);
    fake_finish_all(&n);
    int64_t end = l.end;
    CHECK_INT(part_mark(n.p), end);
    flog_request(&l, 1, 1, 0);
    fake_run_all(&n);
    CHECK_INT(part_mark(n.p), end);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_request_not_consumed_holds_the_mark)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    n.places = 0;
    flog_request(&l, 0, 0, 0);
    flog_control(&l, REC_CANCEL, 9);
    fake_run_all(&n);
    CHECK_INT(part_mark(n.p), 1);
    fake_close(&n);
    flog_free(&l);
}

TEST(the_mark_never_goes_back)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    part_committed(n.p, 9, NULL);
    CHECK_INT(part_mark(n.p), 9);
    fake_close(&n);
    flog_free(&l);
}

TEST(metadata_names_a_starting_point_and_is_read_back)
{
    struct part_mark m;
    CHECK_INT(part_metadata_read("part.state 40 41 43", &m), 0);
    CHECK_INT(m.at, 40);
    CHECK_INT(m.first, 41);
    CHECK_INT(m.last, 43);
    CHECK(part_metadata_read("", &m) < 0);
    CHECK(part_metadata_read("part.state 40 41", &m) < 0);
    CHECK(part_metadata_read("part.state 40 43 41", &m) < 0);
    CHECK(part_metadata_read("part.state 44 43 44", &m) < 0);
    CHECK(part_metadata_read("part.state -1 43 44", &m) < 0);
    CHECK(part_metadata_read("inc=12", &m) < 0);
}

TEST(a_fold_from_part_state_is_the_fold_from_the_start)
{
    struct flog l = {0};
    struct fnode n, late;
    char metadata[128];
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 0, 0, 0);
    flog_request(&l, 1, 1, 0);
    flog_request_api(&l, 0, 1, NULL);
    fake_finish_all(&n);
    for (size_t i = 0; i < n.ntold; i++)
        part_told(n.p, n.told[i]);
    part_tick(n.p, true);
    fake_run_all(&n);
    CHECK_INT(l.v[l.end - 1]->type, REC_PART_STATE);
    commit(&n, metadata);
    CHECK(metadata[0] != 0);
    flog_request(&l, 0, 2, 1);
    flog_request(&l, 0, 1, 1); /* duplicate by its id, which part.state carries */
    fake_run_all(&n);
    int64_t mark = part_mark(n.p);
    fake_open_at(&late, &l, mark, metadata);
    CHECK(late.position > 5);
    fake_consume(&late);
    same(fake_digest(&late), fake_digest_log(&l));
    same(fake_digest(&late), fake_digest(&n));
    fake_own(&late, 2);
    fake_finish_all(&late);
    CHECK_INT(late.nended, 1);
    CHECK_INT(part_backlog(late.p), 0);
    fake_close(&late);
    fake_close(&n);
    flog_free(&l);
}

TEST(part_state_above_the_mark_is_not_named)
{
    struct flog l = {0};
    struct fnode n;
    char metadata[128], first[128];
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    part_tick(n.p, true);
    fake_run_all(&n);
    commit(&n, first);
    flog_request(&l, 1, 0, 0);
    fake_run_all(&n);
    part_tick(n.p, true);
    fake_run_all(&n);
    CHECK_INT(l.v[l.end - 1]->type, REC_PART_STATE);
    commit(&n, metadata);
    CHECK_STR(metadata, first); /* the run pins the mark below the later one */
    fake_close(&n);
    flog_free(&l);
}

TEST(part_state_larger_than_a_record_comes_in_pieces)
{
    struct flog l = {0};
    struct fnode n, late;
    char metadata[128], run[RUN_ID_MAX], id[16];
    struct part_mark m;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    for (int i = 0; i < 9000; i++) { /* noted as the fold would; no records needed */
        struct rec *r;
        snprintf(id, sizeof id, "%d", i);
        run_id_make(run, 2, SL("t/x"), SL("live"), SL("src"), sl_str(id));
        r = rec_new(REC_REQUESTED, run);
        r->src.name = strdup("live:src/1/0");
        r->src.offset = i;
        r->offset = i;
        sources_judge(&n.p->st.sources, r);
        rec_unref(r);
    }
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    part_tick(n.p, true);
    CHECK(n.nout > 1);
    fake_run_all(&n);
    commit(&n, metadata);
    NEED(part_metadata_read(metadata, &m) == 0);
    CHECK(m.last > m.first);
    fake_open_at(&late, &l, part_mark(n.p), metadata);
    fake_consume(&late);
    CHECK_INT(sources_ids(&late.p->st.sources), 9000);
    same(fake_digest(&late), fake_digest(&n));
    fake_close(&late);
    fake_close(&n);
    flog_free(&l);
}

static char *big_request(size_t n)
{
    struct buf b;
    buf_init(&b, 2 << 20);
    buf_adds(&b, "{\"agent\":\"t/x\",\"input\":\"");
    for (size_t i = 0; i < n; i++)
        buf_addc(&b, (char)('a' + i % 26));
    buf_adds(&b, "\"}");
    return buf_take(&b);
}

/* origin, input and the present input are the same text here: over two records in all. */
TEST(a_snapshot_larger_than_a_record_re_anchors_the_run)
{
    struct flog l = {0};
    struct fnode n, late;
    struct part_opts o = {.partition = 2, .lease_ms = 6000, .snapshot_bytes_min = 1};
    char *value = big_request(300 * 1024);
    fake_open(&n, &l, &o);
    fake_own(&n, 1);
    flog_request_api(&l, 1, 1, value);
    fake_run_all(&n);
    CHECK_INT(part_mark(n.p), 1);
    for (int i = 0; i < 40; i++) { /* others' log behind the pin */
        flog_request_api(&l, 0, 100 + i, value);
        flog_control(&l, REC_CANCEL, 0);
    }
    n.places = 1;
    fake_run_all(&n);
    part_tick(n.p, false);
    CHECK(n.nout >= 2);
    for (size_t i = 0; i < n.nout; i++)
        CHECK_INT(n.out[i]->type, REC_SNAPSHOT);
    fake_run_all(&n);
    struct run *r = part_run(n.p, fake_run_api(1));
    NEED(r != NULL);
    CHECK(r->known.pin > 1);
    CHECK(!r->snapshotting);
    same(fake_digest(&n), fake_digest_log(&l));
    /* A fold that does not know the run before its snapshot gets it whole. */
    fake_open(&late, &l, NULL);
    int64_t at = r->known.pin;
    part_start(late.p, at, at, NULL, -1, 0, NULL);
    late.p->st.epoch = n.p->epoch;
    late.p->st.nonce = 1;
    late.position = at;
    fake_consume(&late);
    struct run *copy = part_run(late.p, fake_run_api(1));
    NEED(copy != NULL);
    CHECK(val_equal(copy->known.last, r->known.last));
    CHECK_STR(copy->known.ref, "/do/0/w");
    fake_close(&late);
    fake_close(&n);
    flog_free(&l);
    free(value);
}

TEST(a_snapshot_holds_facts_that_are_still_under_way)
{
    struct flog l = {0};
    struct fnode n;
    struct part_opts o = {.partition = 2, .lease_ms = 6000, .snapshot_bytes_min = 1};
    fake_open(&n, &l, &o);
    fake_own(&n, 1);
    flog_request(&l, 0, 0, 0);
    fake_run_all(&n);
    for (int i = 0; i < 60; i++)
        flog_control(&l, REC_CANCEL, 50);
    fake_run_all(&n);
    fake_finish(&n, 5);
    part_work(n.p); /* completed s and what follows are under way */
    CHECK(n.nout > 0);
    part_tick(n.p, false);
    CHECK_INT(n.out[n.nout - 1]->type, REC_SNAPSHOT);
    fake_run_all(&n);
    struct run *r = part_run(n.p, fake_run(0));
    NEED(r != NULL);
    CHECK_STR(r->known.ref, "/do/2/w");
    CHECK_INT(run_visits(&r->known, "/do/1/s"), 1);
    same(fake_digest(&n), fake_digest_log(&l));
    fake_close(&n);
    flog_free(&l);
}

TEST(a_floor_that_was_read_is_written_only_when_it_is_safe)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_request(&l, 0, 0, 0);
    fake_run_all(&n);
    part_tick(n.p, true);
    CHECK_INT(n.floors_asked, 1);
    fake_run_all(&n);
    int64_t first = l.end - 1;
    part_floor(n.p, "live:src/1/0", 5);
    part_floors_read(n.p);
    flog_control(&l, REC_CANCEL, 9);
    flog_control(&l, REC_CANCEL, 9);
    fake_consume(&n); /* no own fact since the reading is known */
    part_tick(n.p, true);
    CHECK(strstr(val_text(n.out[0]->value).p, "\"live:src/1/0\":0}") != NULL);
    fake_run_all(&n);
    CHECK_INT(l.v[first]->type, REC_PART_STATE);
    flog_control(&l, REC_CANCEL, 9);
    fake_run_all(&n);
    part_tick(n.p, true);
    CHECK(strstr(val_text(n.out[0]->value).p, "\"live:src/1/0\":5}") != NULL);
    CHECK(strstr(val_text(n.out[0]->value).p, "\"ids\":[]") != NULL);
    fake_run_all(&n);
    CHECK_INT(sources_ids(&n.p->st.sources), 0);
    fake_close(&n);
    flog_free(&l);
}

TEST(an_idle_partition_writes_no_part_state)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 1);
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    fake_time(&n, 61000);
    part_tick(n.p, false);
    fake_run_all(&n);
    int64_t end = l.end;
    CHECK_INT(l.v[end - 1]->type, REC_PART_STATE);
    for (int i = 0; i < 5; i++) {
        fake_time(&n, 61000);
        part_tick(n.p, false);
        fake_run_all(&n);
    }
    CHECK_INT(l.end, end);
    fake_close(&n);
    flog_free(&l);
}

TEST(the_log_is_cut_at_a_committed_starting_point_older_than_the_horizon)
{
    struct flog l = {0};
    struct fnode n;
    char metadata[128];
    struct part_opts o = {.partition = 2, .lease_ms = 6000, .history_ms = 10000};
    fake_open(&n, &l, &o);
    fake_own(&n, 1);
    flog_control(&l, REC_CANCEL, 0);
    fake_run_all(&n);
    part_tick(n.p, true);
    fake_run_all(&n);
    CHECK_INT(part_cut(n.p), -1);
    commit(&n, metadata);
    CHECK_INT(part_cut(n.p), -1); /* younger than the horizon */
    fake_time(&n, 10000);
    CHECK_INT(part_cut(n.p), 3);
    fake_close(&n);
    flog_free(&l);
}

/* A year of part.state records must not stay in memory. */
TEST(starting_points_below_the_cut_are_forgotten)
{
    struct flog l = {0};
    struct fnode n;
    char metadata[128];
    struct part_opts o = {.partition = 2, .lease_ms = 6000};
    fake_open(&n, &l, &o);
    fake_own(&n, 1);
    for (int i = 0; i < 40; i++) {
        flog_control(&l, REC_CANCEL, 0);
        fake_run_all(&n);
        fake_time(&n, 61000);
        part_tick(n.p, false);
        fake_run_all(&n);
        commit(&n, metadata);
    }
    CHECK(n.p->st.nmarks <= 2);
    CHECK(part_cut(n.p) > 100);
    fake_close(&n);
    flog_free(&l);
}
