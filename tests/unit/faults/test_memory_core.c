/* The fold and the owner's work when memory runs out. A fold that could not take a record is thrown
 * away; an owner goes on, or loses its ownership and is made owner again, and in the end the
 * journal says what it says without a fault: each task once, each run ended once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/fake.h"
#include "paths.h"

SUITE("faults/memory_core")

static struct flog journal;

static int fold(char **ret)
{
    struct state st;
    struct buf b;
    int error = 0;
    map_fix_seed(1);
    state_init(&st, 0);
    for (int64_t i = 0; i < journal.end && !error; i++) {
        struct rec_body *y = &journal.v[i]->body; /* as if it had just been read */
        val_unref(y->output);
        val_unref(y->context);
        val_unref(y->input);
        val_unref(y->items);
        val_unref(y->error);
        free(y->next);
        memset(y, 0, sizeof *y);
        error = state_apply(&st, journal.v[i]);
    }
    fault_off();
    if (!error) {
        buf_init(&b, 1 << 20);
        NEED(state_digest(&st, &b) == 0);
        *ret = buf_take(&b);
    }
    state_free(&st);
    return error;
}

/* A part.state and the snapshots of all live runs, written and read. */
static int texts(char **ret)
{
    struct state st, again;
    struct part_mark m = {journal.end, 0, 0, 0};
    struct buf b, c;
    struct slice k;
    void *v;
    size_t pos = 0;
    bool on = fault_off();
    map_fix_seed(1);
    state_init(&st, 0);
    state_init(&again, journal.end);
    for (int64_t i = 0; i < journal.end; i++)
        NEED(state_apply(&st, journal.v[i]) == 0);
    fault_back(on);
    buf_init(&b, 1 << 20);
    buf_init(&c, 1 << 20);
    int error = state_write(&st, NULL, NULL, &b);
    if (!error)
        error = state_load(&again, buf_slice(&b), 1, 2, &m);
    while (!error && map_next(&st.runs, &pos, &k, &v)) {
        struct run_state read = {0}, copy = {0};
        struct json_object *o = NULL;
        buf_reset(&c);
        error = run_state_copy(&copy, &((struct run *)v)->known);
        if (!error)
            error = run_state_write(&copy, &c);
        if (!error)
            error = js_parse(buf_slice(&c), &o, NULL);
        if (!error)
            error = run_state_read(&read, o);
        on = fault_off();
        if (!error)
            NEED(run_state_write(&read, &b) == 0);
        fault_back(on);
        json_object_put(o);
        run_state_free(&read);
        run_state_free(&copy);
    }
    fault_off();
    if (!error)
        *ret = buf_take(&b);
    buf_free(&b);
    buf_free(&c);
    state_free(&st);
    state_free(&again);
    return error;
}

TEST(a_fold_takes_every_record_or_says_so)
{
    struct fnode n;
    memset(&journal, 0, sizeof journal);
    fake_open(&n, &journal, NULL);
    fake_own(&n, 1);
    flog_request(&journal, 0, 0, 0);
    flog_request(&journal, 1, 1, 0);
    flog_control(&journal, REC_CANCEL, 9);
    fake_finish_all(&n);
    flog_request(&journal, 0, 2, 1);
    flog_request(&journal, 3, 3, 1);
    fake_run_all(&n);
    part_tick(n.p, true);
    fake_run_all(&n);
    fake_close(&n);
    every_allocation("state_apply", fold);
    every_allocation("part.state and run.snapshot", texts);
    flog_free(&journal);
}

/* ---- the owner ---- */

/* What the node does (claims.c): a lost part is made anew, an ownership that ended is claimed
 * again. */
static void as_the_node_does(struct fnode *n, struct flog *l, uint64_t *nonce)
{
    bool on = fault_off();
    if (n->p->lost || n->p->status != PART_OWNER) {
        while (n->nout)
            fake_land(n);
        int64_t boot = n->boot_ms, wall = n->wall_ms;
        if (n->p->lost) {
            fake_close(n);
            fake_open(n, l, NULL);
            n->boot_ms = boot;
            n->wall_ms = wall;
            part_time(n->p, boot, wall);
        } else {
            while (n->nacks)
                fake_ack(n);
        }
        fake_own(n, ++*nonce);
    }
    fault_back(on);
}

static void take(struct fnode *n, struct flog *l)
{
    bool on = fault_off();
    while (n->nout)
        fake_land(n);
    while (n->nacks && !n->p->lost) {
        struct rec *r = n->acks[0].r;
        int64_t offset = n->acks[0].offset;
        memmove(n->acks, n->acks + 1, --n->nacks * sizeof n->acks[0]);
        fault_back(on);
        (void)part_acked(n->p, r, offset);
        (void)fault_off();
        rec_unref(r);
    }
    for (; n->position < l->end && !n->p->lost; n->position++) {
        fault_back(on);
        (void)part_consumed(n->p, n->position, l->v[n->position]);
        (void)fault_off();
    }
    fault_back(on);
}

static const int *agents;

/* Each attempt of a fault is another history; what it comes to is the same. */
static int work(char **ret)
{
    struct flog l = {0};
    struct fnode n;
    struct buf b;
    uint64_t nonce = 1;
    bool on = fault_off();
    int completed = 0, ended = 0, outputs = 0;
    bool said =
        false; /* the result of an effect that is done can't be made again: the run faults */
    map_fix_seed(1);
    fake_open(&n, &l, NULL);
    fake_own(&n, nonce);
    for (int i = 0; agents[i] >= 0; i++)
        flog_request(&l, agents[i], i, 0);
    for (int turn = 0; turn < 60; turn++) {
        fake_time(&n, 1000);
        as_the_node_does(&n, &l, &nonce);
        part_leased(n.p, n.boot_ms);
        fault_back(on);
        take(&n, &l);
        if (!n.p->lost)
            (void)part_work(n.p);
        (void)fault_off();
        if (!n.p->lost && fake_begin(&n)) {
            fault_back(on);
            fake_finish(&n, ++outputs);
            (void)fault_off();
        }
    }
    fake_check_fold(&n);
    buf_init(&b, 1 << 16);
    for (int64_t i = 0; i < l.end; i++) {
        const struct rec *r = l.v[i];
        completed += r->type == REC_TASK_COMPLETED;
        ended += r->type == REC_COMPLETED || r->type == REC_FAULTED;
        said = said || (r->type == REC_FAULTED && strstr(val_text(r->value).p, "had no memory"));
    }
    buf_addf(&b, "%d tasks, %d ends, %zu live", completed, ended, n.p->st.runs.n);
    CHECK_INT(n.p->st.runs.n, 0);
    if (!said)
        *ret = buf_take(&b);
    buf_free(&b);
    fake_close(&n);
    flog_free(&l);
    return said ? -ENOMEM : 0;
}

TEST(an_owner_does_each_task_once)
{
    static const int some[] = {0, -1}, others[] = {1, 3, -1}, once[] = {2, -1};
    agents = some;
    every_allocation("an owner's work", work);
    agents = others;
    every_allocation("a fault and a wait", work);
    agents = once;
    every_allocation("an at-most-once task", work);
}
