/* See journal.h. */
#include "triggers/journal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "core/part.h"
#include "triggers/recwire.h"

#define READ_MS    600000 /* without progress */
#define TELL_EVERY 1000   /* records */

int journal_partitions(struct kadmin *a, const struct names *n, int *ret, struct err *e)
{
    int error = kadmin_topic(a, n->runs, ret, NULL, JOURNAL_ADMIN_MS, e);
    if (error == -ENOENT)
        err_set(e, error, "has a node of this group run before? see --group and --brokers",
                "the journal %s does not exist", n->runs);
    return error;
}

int journal_send(struct kadmin *a, const struct names *n, const struct rec *r, int partition,
                 int64_t *ret_offset, struct err *e)
{
    struct recwire w;
    struct krec k;
    int error = recwire_make(&w, r, n->runs, partition, &k);
    if (error)
        return err_set(e, error, "keep large data outside and pass a reference to it",
                       "the request is too large");
    error = kadmin_send(a, &k, ret_offset, NULL, JOURNAL_ADMIN_MS, e);
    recwire_free(&w);
    return error;
}

/* ---- who owns the partition at the begin of a log that was cut ---- */

struct first_owner {
    int64_t low, epoch;
    uint64_t nonce;
};

/* The log is cut at what a valid part.state describes, and that one comes soon after. One of the
 * same place that is void is of an earlier owner, so the latest epoch is the valid one's. */
static int on_begin(void *arg, const struct krec *k)
{
    struct first_owner *f = arg;
    struct rec *r = NULL;
    if (sl_starts(k->key, SL("!owner/")))
        return 1;
    if (!sl_starts(k->key, SL("!part/")))
        return 0;
    int error = recwire_read(k, &r, NULL);
    if (error)
        return error == -ENOMEM ? error : 0;
    if (r->at == f->low && r->epoch < f->low && r->epoch > f->epoch) {
        f->epoch = r->epoch;
        f->nonce = r->nonce;
    }
    bool past = r->at > f->low && f->epoch >= 0;
    rec_unref(r);
    return past;
}

int journal_begin(struct kadmin *a, const struct names *n, int partition, struct journal_start *ret,
                  struct err *e)
{
    struct first_owner f = {.epoch = -1};
    int error = kadmin_watermarks(a, n->runs, partition, &f.low, NULL, JOURNAL_ADMIN_MS, e);
    if (!error && f.low > 0)
        error = kadmin_read(a, n->runs, partition, f.low, -1, on_begin, &f, READ_MS, e);
    *ret = (struct journal_start){f.low, f.epoch, f.nonce};
    return error < 0 ? error : 0;
}

/* A committed part.state is valid: whoever wrote it was the owner at its place. */
static int on_state(void *arg, const struct krec *k)
{
    struct journal_start *s = arg;
    struct rec *r = NULL;
    int error = recwire_read(k, &r, NULL);
    if (error == -ENOMEM)
        return error;
    if (!error && r->type == REC_PART_STATE)
        *s = (struct journal_start){k->offset + 1, r->epoch, r->nonce};
    rec_unref(r);
    return 1;
}

int journal_near_end(struct kadmin *a, const struct names *n, int partition,
                     struct journal_start *ret, struct err *e)
{
    struct kpart k = {.topic = (char *)n->runs, .partition = partition};
    struct part_mark m;
    int error = kadmin_committed(a, n->owners, &k, 1, JOURNAL_ADMIN_MS, e);
    bool named = !error && k.metadata && part_metadata_read(k.metadata, &m) == 0;
    free(k.metadata);
    ret->from = -1;
    if (named)
        error = kadmin_read(a, n->runs, partition, m.last, -1, on_state, ret, READ_MS, e);
    if (error < 0 && error != -ERANGE)
        return error;
    return ret->from >= 0 ? 0 : journal_begin(a, n, partition, ret, e);
}

/* ---- reading ---- */

struct reading {
    struct journal_reader *j;
    struct slice run; /* p NULL: all */
    int partition;
    int64_t n;
};

static int on_record(void *arg, const struct krec *k)
{
    struct reading *x = arg;
    struct journal_reader *j = x->j;
    struct rec *r = NULL;
    if (++x->n % TELL_EVERY == 0) {
        if (j->progress)
            j->progress(j->arg, x->partition, k->offset);
        if (j->until_ms && clock_boot_ms() > j->until_ms)
            return -ETIMEDOUT;
    }
    if (x->run.p && !sl_starts(k->key, x->run) && !sl_starts(k->key, SL("!owner/")))
        return 0;
    int error = recwire_read(k, &r, NULL);
    if (error) {
        j->trace.bad += error == -EPROTO;
        return error == -ENOMEM ? error : 0;
    }
    error = j->fn ? j->fn(j->arg, r, trace_is_void(&j->trace, r)) : 0;
    if (!error && trace_add(&j->trace, r) < 0)
        error = -ENOMEM;
    rec_unref(r);
    return error;
}

int journal_read(struct kadmin *a, const struct names *n, struct journal_reader *j, int partition,
                 const struct journal_start *start, int64_t to, struct err *e)
{
    struct reading x = {.j = j, .run = sl_str(j->trace.only), .partition = partition};
    struct journal_start begin;
    int error, tries = start ? 1 : 3; /* the log may be cut just now */
    int64_t ms = j->until_ms ? j->until_ms - clock_boot_ms() : READ_MS;
    ms = ms > READ_MS ? READ_MS : ms < 0 ? 0 : ms;
    do {
        error = start ? 0 : journal_begin(a, n, partition, &begin, e);
        if (error)
            return error;
        const struct journal_start *s = start ? start : &begin;
        j->trace.epoch = s->epoch;
        j->trace.nonce = s->nonce;
        error = kadmin_read(a, n->runs, partition, s->from, to, on_record, &x, (int)ms, e);
    } while (error == -ERANGE && --tries);
    if (error == -ENOMEM)
        err_set(e, error, "give the process more memory", "no memory for the journal");
    else if (error == -ETIMEDOUT && j->until_ms && clock_boot_ms() > j->until_ms)
        err_set(e, error, "the read model (view: all) makes this quick",
                "reading partition %d of the journal takes too long", partition);
    return error;
}
