/* Fuzz target of the journal's decoder and the fold: any records in any order. Rules: the fold
 * never crashes and takes each record that was decoded; folding the same twice gives the same
 * digest; what was decoded can be encoded and decodes to the same fold; the state has no more runs,
 * requests and ids than there were records that could make one; the snapshot of each live run and
 * the part.state read back as they were written. */
#include <errno.h>

#include "core/state.h"
#include "fuzz.h"

#define RECORDS_MAX 400

static bool header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct fuzz_record *f = arg;
    if (i >= f->nheaders)
        return false;
    *name = f->headers[i].name;
    *value = f->headers[i].value;
    return true;
}

static bool wire_header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct rec_wire *w = arg;
    if (i >= w->nheaders)
        return false;
    *name = w->headers[i].name;
    *value = w->headers[i].value;
    return true;
}

static size_t decode(struct slice in, struct rec **v)
{
    static struct fuzz_record f;
    struct err e;
    int64_t offset = 0, time_ms = 1700000000000;
    size_t n = 0;
    while (n < RECORDS_MAX && fuzz_record_read(&in, &f)) {
        err_clear(&e);
        offset += f.gap;
        int error =
            rec_decode(offset, time_ms + 1000 * f.kind, f.key, f.value, header, &f, &v[n], &e);
        must(error == 0 || error == -ENODATA || (error == -EPROTO && e.msg[0] && e.hint[0]),
             "a refusal has its reason");
        n += error == 0;
        offset++;
    }
    return n;
}

/* As another writer would send it: -EMSGSIZE when its headers or its value are too large. */
static struct rec *encoded(const struct rec *r)
{
    struct rec_wire w;
    struct rec *again = NULL;
    struct err e = {0};
    int error = rec_encode(r, &w);
    must(error == 0 || error == -EMSGSIZE, "what was decoded can be encoded");
    if (error)
        return NULL;
    error = rec_decode(r->offset, r->time_ms, w.key, w.value, wire_header, &w, &again, &e);
    if (error)
        fprintf(stderr, "offset %lld, %s: %s\n", (long long)r->offset, rec_type_name(r->type),
                e.msg);
    must(error == 0, "what was encoded can be decoded");
    /* Epoch and nonce are a fact's; on a request they mean nothing and are left out. */
    bool fact = !rec_is_request(r->type);
    must(again->type == r->type &&
             (!fact || (again->epoch == r->epoch && again->nonce == r->nonce)) &&
             again->consumed == r->consumed && again->up_to == r->up_to && again->at == r->at &&
             again->chunk == r->chunk && again->chunks == r->chunks && !strcmp(again->run, r->run),
         "it is the same record");
    rec_wire_free(&w);
    return again;
}

static void digest(const struct state *st, struct buf *b)
{
    buf_init(b, 256u << 20);
    must(state_digest(st, b) == 0, "a digest can be made");
}

static void fold(struct rec **v, size_t n, bool wire, struct state *st)
{
    state_init(st, 0);
    for (size_t i = 0; i < n; i++) {
        struct rec *r = wire ? encoded(v[i]) : NULL;
        must(state_apply(st, r ? r : v[i]) == 0, "the fold takes every record");
        rec_unref(r);
    }
}

static void same(struct rec **v, size_t n, bool wire, struct slice want)
{
    struct state st;
    struct buf b;
    fold(v, n, wire, &st);
    digest(&st, &b);
    must(sl_eq(buf_slice(&b), want), "the same records give the same state");
    buf_free(&b);
    state_free(&st);
}

static void bounded(const struct state *st, struct rec **v, size_t n)
{
    size_t requests = 0, begun = 0, requested = 0;
    for (size_t i = 0; i < n; i++) {
        requests += rec_is_request(v[i]->type);
        requested += v[i]->type == REC_REQUESTED;
        begun += v[i]->type == REC_STARTED || v[i]->type == REC_SNAPSHOT;
    }
    must(st->npending <= requests, "no more requests than came");
    must(st->runs.n <= begun, "no more runs than began");
    must(st->run_chunks.n <= begun, "no more snapshots under way than began");
    must(st->nmarks <= n && sources_ids(&st->sources) <= requested, "no more ids than requests");
}

static void snapshots(const struct state *st)
{
    struct slice k;
    void *value;
    size_t pos = 0;
    while (map_next(&st->runs, &pos, &k, &value)) {
        struct run *r = value;
        struct run_state again = {0};
        struct json_object *o = NULL, *same = NULL;
        struct buf b, c;
        buf_init(&b, 64u << 20);
        buf_init(&c, 64u << 20);
        if (run_live(r->known.status) && run_placed(&r->known) &&
            run_state_write(&r->known, &b) == 0 && js_parse(buf_slice(&b), &o, NULL) == 0) {
            must(run_state_read(&again, o) == 0, "a snapshot can be read");
            /* By value: a text may be escaped in another way. */
            must(run_state_write(&again, &c) == 0 && js_parse(buf_slice(&c), &same, NULL) == 0 &&
                     js_equal(o, same),
                 "a snapshot is the run");
        }
        json_object_put(o);
        json_object_put(same);
        run_state_free(&again);
        buf_free(&b);
        buf_free(&c);
    }
}

static void starting_point(const struct state *st)
{
    struct part_mark m = {st->next, 0, 0, 0};
    struct state again;
    struct buf b, c;
    buf_init(&b, 64u << 20);
    buf_init(&c, 64u << 20);
    state_init(&again, st->next);
    must(state_write(st, NULL, NULL, &b) == 0, "part.state can be written");
    must(state_load(&again, buf_slice(&b), st->epoch, st->nonce, &m) == 0,
         "part.state can be read");
    must(state_write(&again, NULL, NULL, &c) == 0 && sl_eq(buf_slice(&b), buf_slice(&c)),
         "part.state is the state");
    state_free(&again);
    buf_free(&b);
    buf_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rec *v[RECORDS_MAX];
    struct state st;
    struct buf b;
    map_fix_seed(1);
    size_t n = decode(sl(data, size), v);
    fold(v, n, false, &st);
    digest(&st, &b);
    bounded(&st, v, n);
    snapshots(&st);
    starting_point(&st);
    same(v, n, false, buf_slice(&b));
    same(v, n, true, buf_slice(&b));
    state_free(&st);
    buf_free(&b);
    for (size_t i = 0; i < n; i++)
        rec_unref(v[i]);
    return 0;
}
