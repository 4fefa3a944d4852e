/* Records of the journal into rows. Facts count only by the partition's owner, as in every fold;
 * what tasks do is not kept, since one run is read from the journal itself. Headers tell most; of
 * the values only a few members are looked for, and no tree is built.
 *
 * What a transaction's records say of one run is put together first, and written as one row when it
 * ends: a short run is one insert, with its end, and no index is written twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/hash.h"
#include "triggers/recwire.h"
#include "view/view_int.h"

int fill_open(struct fill *f, const char *path, const char *journal, int partitions, struct err *e)
{
    char id[300];
    *f = (struct fill){.n = partitions};
    list_init(&f->rows);
    map_init(&f->by_id);
    (void)snprintf(id, sizeof id, "%s %.200s %d", VIEW_VERSION, journal, partitions);
    if (!(f->places = calloc((size_t)partitions, sizeof *f->places)))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the read model");
    int error = vdb_open(&f->db, path, id, e);
    return error ? error : fill_places(f);
}

int fill_places(struct fill *f)
{
    return vdb_places(&f->db, f->places, f->n);
}

/* What this transaction says of a run. */
struct row {
    struct list node;    /* in fill.rows, in the order of their first records */
    struct rec *request; /* NULL: it was requested before */
    struct rec *end;     /* the last fact that ended it; NULL: none, or it began again */
    int status;          /* -1: as it was */
    int64_t started_ms, last;
    bool ends; /* whether it has ended, and how, is to be written */
    struct spans spans;
    char id[RUN_ID_MAX];
};

static void drop_rows(struct fill *f)
{
    struct list *l;
    while ((l = list_pop(&f->rows))) {
        struct row *x = LIST_ENTRY(l, struct row, node);
        rec_unref(x->request);
        rec_unref(x->end);
        free(x);
    }
    map_free(&f->by_id);
    map_init(&f->by_id);
    f->held = 0;
}

void fill_close(struct fill *f)
{
    if (f->rows.next)
        drop_rows(f);
    map_free(&f->by_id);
    vdb_close(&f->db);
    free(f->places);
    memset(f, 0, sizeof *f);
}

/* ---- rows ---- */

static struct row *row_of(struct fill *f, const char *run)
{
    struct row *x = map_get(&f->by_id, sl_str(run));
    if (x || !(x = calloc(1, sizeof *x)))
        return x;
    x->status = -1;
    x->started_ms = -1;
    memcpy(x->id, run, sizeof x->id);
    f->held += (int64_t)sizeof *x;
    if (map_put(&f->by_id, sl_str(x->id), x, NULL)) {
        free(x);
        return NULL;
    }
    list_push(&f->rows, &x->node);
    return x;
}

/* A JSON string member, unquoted into `b`. */
static struct slice text_of(struct slice doc, const char *key, struct buf *b)
{
    struct slice v;
    size_t at = b->n;
    if (!js_member(doc, key, &v) || js_unquote(v, b))
        return (struct slice){NULL, 0};
    return sl(b->p + at, b->n - at);
}

static void add_words(struct buf *b, struct slice s)
{
    size_t n = s.n > VIEW_TEXT_MAX ? VIEW_TEXT_MAX : s.n;
    while (n && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--; /* no half of a character */
    buf_addc(b, ' ');
    buf_add(b, s.p, n);
}

/* `b` keeps the texts. */
static int read_request(struct run_row *o, const struct rec *r, struct buf *b, struct buf *words)
{
    struct slice doc = val_text(r->value), fork, input = {0};
    if (!buf_reserve(b, 2 * r->bytes + 256)) /* its texts must not move */
        return -ENOMEM;
    o->agent = text_of(doc, "agent", b);
    o->version = text_of(doc, "version", b);
    o->key = text_of(doc, "key", b);
    if (!o->agent.p)
        o->agent = SL("");
    if (js_member(doc, "forkOf", &fork))
        o->fork_of = text_of(fork, "run", b);
    (void)js_member(doc, "input", &input);
    add_words(words, o->key);
    add_words(words, input);
    const char *slash = r->src.name ? strrchr(r->src.name, ':') : NULL;
    if (slash)
        o->feed = sl(r->src.name, (size_t)(slash - r->src.name));
    o->partition = run_id_partition(sl_str(r->run));
    o->first = r->offset;
    o->requested_ms = r->time_ms;
    o->priority = r->priority;
    return 0;
}

static void read_end(struct run_row *o, const struct rec *end, struct buf *words)
{
    struct slice doc = val_text(end->value), error = {0};
    if (end->type == REC_FAULTED)
        (void)js_member(doc, "error", &error);
    if (end->type == REC_CANCELLED)
        error = doc;
    if (error.p)
        add_words(words, error);
    o->ended_ms = end->time_ms;
    if (error.n <= 4 * VIEW_TEXT_MAX)
        o->error = error;
}

static int write_row(struct fill *f, const struct row *x, bool insert, bool *ret_new)
{
    struct run_row o = {.id = x->id,
                        .status = x->status,
                        .started_ms = x->started_ms,
                        .last = x->last,
                        .ends = x->ends,
                        .spans = &x->spans};
    struct buf b, words;
    buf_init(&b, 1 << 20);
    buf_init(&words, 1 << 14);
    int error = insert ? read_request(&o, x->request, &b, &words) : 0;
    if (!error && x->end)
        read_end(&o, x->end, &words);
    o.words = sl(words.p ? words.p : "", words.n);
    if (!error && buf_error(&words) == -ENOMEM)
        error = -ENOMEM;
    if (!error)
        error = insert ? vdb_insert(&f->db, &o, ret_new) : vdb_update(&f->db, &o);
    buf_free(&b);
    buf_free(&words);
    return error;
}

static int write_rows(struct fill *f)
{
    int error = 0;
    LIST_EACH(l, &f->rows)
    {
        const struct row *x = LIST_ENTRY(l, struct row, node);
        bool fresh = false;
        if (!error && x->request)
            error = write_row(f, x, true, &fresh);
        /* Of a repeated request only what came behind it counts. */
        if (!error && !fresh)
            error = write_row(f, x, false, NULL);
    }
    drop_rows(f);
    return error;
}

static const struct fact {
    enum rec_type type;
    enum run_status status;
    bool starts, ends;
} facts[] = {{REC_STARTED, RUN_ACTIVE, true, false},  {REC_SUSPENDED, RUN_SUSPENDED, false, false},
             {REC_RESUMED, RUN_ACTIVE, false, false}, {REC_COMPLETED, RUN_COMPLETED, false, true},
             {REC_FAULTED, RUN_FAULTED, false, true}, {REC_CANCELLED, RUN_CANCELLED, false, true}};

static int apply(struct fill *f, struct rec *r)
{
    const struct fact *t = NULL;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (facts[i].type == r->type)
            t = &facts[i];
    if (!t && r->type != REC_REQUESTED)
        return 0;
    struct row *x = row_of(f, r->run);
    /* What does not go into one row: the end before another beginning or end, anything before a
     * request. */
    bool apart = x && (t ? x->end && (t->starts || t->ends) : !x->request && x->spans.n);
    int error = apart ? write_rows(f) : 0;
    if (error || !(x = row_of(f, r->run)))
        return error ? error : -ENOMEM;
    if (!t) {
        if (!x->request) { /* else a repeat */
            x->request = rec_ref(r);
            x->last = r->offset;
        }
        return 0;
    }
    x->status = (int)t->status;
    x->last = r->offset;
    if (t->starts)
        x->started_ms = r->time_ms;
    if (t->starts || t->ends) {
        rec_unref(x->end);
        x->end = t->ends ? rec_ref(r) : NULL;
        x->ends = true;
    }
    return 0;
}

/* Most records are about tasks; they are told by their header before anything else is read. */
static bool of_interest(const struct krec *k)
{
    for (size_t i = 0; i < k->nheaders; i++)
        if (sl_is(k->headers[i].name, "tm-type"))
            return !sl_starts(k->headers[i].value, SL("task.")) &&
                   !sl_is(k->headers[i].value, "part.state") &&
                   !sl_is(k->headers[i].value, "run.snapshot");
    return false;
}

/* Whatever it is, also of a former owner: who reads the run is to find it. */
static int note_place(struct fill *f, const struct place *p, const struct krec *k)
{
    char run[RUN_ID_MAX];
    if (k->key.n < sizeof run || k->key.p[sizeof run - 1] != '/' ||
        !run_id_valid(sl(k->key.p, sizeof run - 1)))
        return 0;
    memcpy(run, k->key.p, sizeof run - 1);
    run[sizeof run - 1] = 0;
    struct row *x = row_of(f, run);
    if (!x)
        return -ENOMEM;
    spans_add(&x->spans, &(struct span){k->offset, k->offset + 1, p->epoch, p->nonce});
    return 0;
}

int fill_record(struct fill *f, const struct krec *k)
{
    struct rec *r = NULL;
    if (k->partition < 0 || k->partition >= f->n)
        return 0;
    struct place *p = &f->places[k->partition];
    if (k->offset < p->next)
        return 0;
    int error = vdb_begin(&f->db);
    if (error)
        return error;
    f->fresh++;
    p->moved = true;
    if (of_interest(k) && recwire_read(k, &r, NULL) == 0) {
        if (r->type == REC_OWNER) {
            p->epoch = r->offset;
            p->nonce = r->nonce;
        } else if (rec_is_request(r->type) || (r->epoch == p->epoch && r->nonce == p->nonce)) {
            error = apply(f, r);
            f->held += (int64_t)r->bytes;
        }
        rec_unref(r);
    }
    if (!error)
        error = note_place(f, p, k);
    p->next = k->offset + 1;
    if (!error && f->held > FILL_HELD_BYTES)
        error = write_rows(f);
    return error;
}

int fill_cut(struct fill *f, int partition, int64_t low)
{
    int error = vdb_begin(&f->db);
    if (!error)
        error = write_rows(f);
    if (!error)
        error = vdb_cut(&f->db, partition, low);
    if (!error)
        f->places[partition].low = low;
    return error;
}

int fill_drop(struct fill *f, int partition)
{
    int error = vdb_begin(&f->db);
    if (!error)
        error = write_rows(f);
    if (!error)
        error = vdb_cut(&f->db, partition, -1);
    if (!error)
        error = vdb_unplace(&f->db, partition);
    if (!error)
        f->places[partition] = (struct place){.epoch = -1};
    return error;
}

int fill_commit(struct fill *f)
{
    if (!f->db.open)
        return 0;
    FAILPOINT("view.rows");
    int error = write_rows(f);
    FAILPOINT("view.places");
    for (int i = 0; i < f->n && !error; i++)
        if (f->places[i].moved && !(error = vdb_place(&f->db, i, &f->places[i])))
            f->places[i].moved = false;
    FAILPOINT("view.commit");
    if (!error)
        error = vdb_commit(&f->db);
    FAILPOINT("view.committed");
    if (!error)
        f->fresh = 0;
    return error;
}

void fill_rollback(struct fill *f)
{
    drop_rows(f);
    vdb_rollback(&f->db);
    f->fresh = 0;
}
