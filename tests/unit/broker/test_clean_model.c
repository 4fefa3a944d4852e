/* Compaction of random logs against a model: of each key the latest record, at its own offset with
 * its own time and headers; everything that was not cleaned yet as it was; tombstones for their
 * time.
 *
 * A failure prints the seed; TM_TEST_SEED=N runs that one alone. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "store_fixture.h"

SUITE("broker/clean-model")

#define ROOM      ((size_t)64 << 20)
#define RECORDS   1300
#define KEYS      40
#define PRODUCERS 3
#define RETENTION 50

struct made {
    int key; /* -1: none */
    bool tombstone, durable;
    int64_t ms, cleaned_ms; /* when a pass covered it first; 0: none yet */
    uint64_t hash;          /* of key, value and headers as they lie in the record */
};
struct model {
    uint64_t rng;
    struct fixture f;
    struct plog *p;
    struct made *v;
    int64_t n, now;
    int32_t seq[PRODUCERS];
    int64_t base_of[PRODUCERS][5]; /* the last five batches, the newest first; -1: none */
    int32_t count_of[PRODUCERS][5];
    int64_t passes;
};

static uint64_t rnd(struct model *m, uint64_t below)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return m->rng % below;
}

static void put_varint(struct buf *b, int64_t v)
{
    uint64_t u = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
    for (; u >= 0x80; u >>= 7)
        buf_addc(b, (char)(u | 0x80));
    buf_addc(b, (char)u);
}

static void put_bytes(struct buf *b, const char *p, size_t n)
{
    put_varint(b, p ? (int64_t)n : -1);
    buf_add(b, p ? p : "", p ? n : 0);
}

/* Key, value and headers of a random record; what it is goes into *r. */
static void body(struct model *m, struct made *r, struct buf *b)
{
    char key[16], value[64];
    r->key = rnd(m, 30) == 0 ? -1 : (int)rnd(m, KEYS);
    r->tombstone = r->key >= 0 && rnd(m, 6) == 0;
    snprintf(key, sizeof key, "k%d", r->key);
    snprintf(value, sizeof value, "v%llu", (unsigned long long)rnd(m, UINT32_MAX));
    put_bytes(b, r->key < 0 ? NULL : key, strlen(key));
    put_bytes(b, r->tombstone ? NULL : value, strlen(value) * (1 + rnd(m, 2)) / 2);
    int headers = (int)rnd(m, 3);
    put_varint(b, headers);
    for (int i = 0; i < headers; i++) {
        put_bytes(b, "header", 6);
        put_bytes(b, rnd(m, 2) ? value : NULL, 2);
    }
}

/* One batch of random records, as a client would make it, without its codec. */
static int make(struct model *m, struct buf *b)
{
    int n = 1 + (int)rnd(m, 6);
    int64_t base_ms = m->now - (int64_t)rnd(m, 100), max = 0;
    struct buf one;
    char head[BATCH_HEAD_BYTES] = {0};
    buf_init(&one, ROOM);
    buf_add(b, head, sizeof head);
    for (int i = 0; i < n; i++) {
        struct made *r = &m->v[m->n + i];
        int64_t delta = (int64_t)rnd(m, 400) - 200;
        *r = (struct made){.ms = base_ms + delta};
        if (i == 0 || delta > max)
            max = delta;
        buf_reset(&one);
        buf_addc(&one, 0);
        put_varint(&one, delta);
        put_varint(&one, i);
        size_t at = one.n;
        body(m, r, &one);
        r->hash = hash64(sl(one.p + at, one.n - at), 1);
        put_varint(b, (int64_t)one.n);
        buf_add_slice(b, buf_slice(&one));
    }
    buf_free(&one);
    b->p[16] = 2;
    save32(b->p + 23, n - 1);
    save64(b->p + 27, base_ms);
    save64(b->p + 35, base_ms + max);
    save64(b->p + 43, -1);
    save16(b->p + 51, -1);
    save32(b->p + 53, -1);
    save32(b->p + 57, n);
    return n;
}

static void pack(struct model *m, struct buf *b)
{
    int codec = (int)rnd(m, 8);
    struct buf out;
    buf_init(&out, ROOM);
    if (codec >= 1 && codec <= 4) {
        NEED(recompress(codec, sl_from(buf_slice(b), BATCH_HEAD_BYTES), &out) == 0);
        b->n = BATCH_HEAD_BYTES;
        buf_add_slice(b, buf_slice(&out));
        save16(b->p + 21, (int16_t)codec);
    }
    buf_free(&out);
}

static void do_append(struct model *m)
{
    struct buf b;
    struct append_result r;
    buf_init(&b, ROOM);
    int n = make(m, &b), producer = (int)rnd(m, PRODUCERS * 2);
    pack(m, &b);
    if (producer < PRODUCERS) {
        save64(b.p + 43, 100 + producer);
        save16(b.p + 51, 0);
        save32(b.p + 53, m->seq[producer]);
    }
    seal_batch(b.p, b.n);
    plog_append(m->p, b.p, b.n, m->now, &r);
    buf_free(&b);
    CHECK_INT(r.error, 0);
    CHECK_INT(r.base_offset, m->n);
    if (producer < PRODUCERS) {
        memmove(&m->base_of[producer][1], m->base_of[producer], 4 * sizeof(int64_t));
        memmove(&m->count_of[producer][1], m->count_of[producer], 4 * sizeof(int32_t));
        m->base_of[producer][0] = m->n;
        m->count_of[producer][0] = n;
        m->seq[producer] += n;
    }
    m->n += n;
    wait_durable(m->p);
}

/* What a client sends again, because the answer was lost. */
static void do_repeat(struct model *m)
{
    int producer = (int)rnd(m, PRODUCERS), back = (int)rnd(m, 5);
    int64_t base = m->base_of[producer][back];
    struct buf b;
    struct append_result r;
    if (base < 0 || base < plog_start(m->p)) /* nothing knows what was deleted */
        return;
    int32_t seq = m->seq[producer];
    for (int i = 0; i <= back; i++)
        seq -= m->count_of[producer][i];
    struct spec spec = {.n = m->count_of[producer][back],
                        .idempotent = true,
                        .pid = 100 + producer,
                        .seq = seq};
    buf_init(&b, ROOM);
    make_batch(&b, &spec);
    plog_append(m->p, b.p, b.n, m->now, &r);
    buf_free(&b);
    CHECK_INT(r.error, 0);
    CHECK(r.duplicate);
    CHECK_INT(r.base_offset, base);
}

static void do_restart(struct model *m)
{
    int how = (int)rnd(m, 3);
    if (how == 0)
        fixture_close(&m->f);
    else
        fixture_copy(&m->f);
    for (int64_t base = 0; how == 2 && base <= m->n; base++) {
        char path[256];
        fixture_path(&m->f, path, "t-0/%020lld.snapshot", (long long)base);
        unlink(path);
        fixture_path(&m->f, path, "t-0/%020lld.index", (long long)base);
        unlink(path);
    }
    fixture_open(&m->f);
    m->p = fixture_part(&m->f, "t");
    m->passes = 0;
    CHECK_INT(plog_end(m->p), m->n);
}

/* The latest record below `to` with the key of record i, from i on. */
static int64_t latest(const struct model *m, int64_t i, int64_t to)
{
    int64_t last = i;
    for (int64_t k = i + 1; k < to; k++)
        if (m->v[k].key == m->v[i].key)
            last = k;
    return last;
}

enum fate { GONE, THERE, EITHER };

static enum fate fate(const struct model *m, int64_t i)
{
    const struct made *r = &m->v[i];
    int64_t to = m->p->clean_to;
    if (i < plog_start(m->p))
        return GONE;
    if (i >= to)
        return THERE;
    if (r->key < 0 || latest(m, i, to) != i)
        return GONE;
    /* Its time begins when it is cleaned first; when it is over, the next pass takes it away. */
    return !r->tombstone || m->now < r->cleaned_ms + RETENTION ? THERE : EITHER;
}

struct seen {
    struct model *m;
    int64_t next;
};

static void check_gap(struct model *m, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        if (fate(m, i) == THERE)
            CHECK_INT(i, -1); /* this record is missing */
}

static void check_record(struct seen *s, const struct batch *b, const struct record *r,
                         const char *end)
{
    struct model *m = s->m;
    int64_t offset = b->base + r->delta;
    if (offset < plog_start(m->p))
        return;
    check_gap(m, s->next, offset);
    CHECK(offset >= s->next && offset < m->n);
    CHECK(fate(m, offset) != GONE);
    CHECK_INT(record_ms(b, r), m->v[offset].ms);
    struct buf body_of;
    buf_init(&body_of, ROOM);
    const char *from = r->null_key ? r->value.p : r->key.p;
    if (r->null_key) { /* its length is made anew, what follows is as it lies */
        put_varint(&body_of, -1);
        put_varint(&body_of, (int64_t)r->value.n);
    } else {
        put_varint(&body_of, (int64_t)r->key.n);
    }
    buf_add(&body_of, from, (size_t)(end - from));
    CHECK(hash64(buf_slice(&body_of), 1) == m->v[offset].hash);
    buf_free(&body_of);
    s->next = offset + 1;
}

static void check_log(struct model *m)
{
    struct buf b, room;
    struct seen s = {m, plog_start(m->p)};
    int64_t at = plog_start(m->p);
    buf_init(&b, ROOM);
    buf_init(&room, ROOM);
    while (at < m->n) {
        struct batch h;
        size_t pieces = 1 + rnd(m, 3000);
        buf_reset(&b);
        NEED(plog_read(m->p, at, pieces, true, &b) == 0 && b.n > 0);
        for (size_t i = 0; i < b.n; i += h.size) {
            struct slice rest;
            struct record r;
            NEED(batch_head(b.p + i, b.n - i, &h) && batch_crc_ok(b.p + i, &h));
            NEED(batch_records(b.p + i, &h, &room, &rest) == 0 || h.count == 0);
            int32_t n = 0;
            for (; h.count && record_next(&rest, &r); n++)
                check_record(&s, &h, &r, rest.p);
            CHECK_INT(n, h.count);
            CHECK(batch_end(&h) > at);
            at = batch_end(&h);
        }
    }
    check_gap(m, s.next, m->n);
    CHECK_INT(at, m->n);
    buf_free(&b);
    buf_free(&room);
}

static int note_one(void *arg, int64_t offset, struct slice key, struct slice value,
                    bool null_value)
{
    ((char *)arg)[offset] = 1;
    return 0;
}

/* Searches by time give what a look at all that is there gives. */
static void check_times(struct model *m)
{
    char *there = calloc((size_t)m->n + 1, 1);
    CHECK_INT(plog_each(m->p, plog_start(m->p), note_one, there), 0);
    int64_t max = -1, offset, ms;
    for (int64_t i = 0; i < m->n; i++)
        if (there[i] && m->v[i].ms > max)
            max = m->v[i].ms;
    CHECK_INT(plog_max_time(m->p, &offset, &ms), 0);
    CHECK_INT(ms, max);
    for (int k = 0; k < 5; k++) {
        int64_t want = m->now - (int64_t)rnd(m, 2000), first = -1;
        for (int64_t i = 0; i < m->n && first < 0; i++)
            if (there[i] && m->v[i].ms >= want)
                first = i;
        CHECK_INT(plog_by_time(m->p, want, &offset, &ms), 0);
        CHECK_INT(offset, first);
        if (first >= 0)
            CHECK_INT(ms, m->v[first].ms);
    }
    free(there);
}

static void do_clean(struct model *m)
{
    int64_t before = m->p->clean_to, passes = store_clean_totals(m->f.s)->passes;
    m->p->t->conf.compact = true; /* only for this: it would take no record without a key */
    fixture_clean(&m->f, m->now);
    m->p->t->conf.compact = false;
    CHECK_INT(store_clean_totals(m->f.s)->failed, 0);
    m->passes += store_clean_totals(m->f.s)->passes - passes;
    for (int64_t i = before; i < m->p->clean_to; i++)
        m->v[i].cleaned_ms = m->now;
    CHECK(m->p->clean_to >= before);
    check_log(m);
}

static void do_delete(struct model *m)
{
    int64_t start = plog_start(m->p), to;
    to = start + (int64_t)rnd(m, (uint64_t)(m->n - start) / 8 + 1);
    CHECK_INT(plog_delete_to(m->p, to, &start), 0);
}

static void step(struct model *m)
{
    m->now += (int64_t)rnd(m, 20);
    switch (rnd(m, 24)) {
    case 0:
        do_clean(m);
        break;
    case 1:
        do_restart(m);
        break;
    case 2:
        do_repeat(m);
        break;
    case 3:
        do_delete(m);
        break;
    case 4:
        check_times(m);
        break;
    case 5:
        if (plog_active(m->p) && plog_active(m->p)->size) {
            CHECK_INT(plog_roll(m->p, m->p->end), 0);
            CHECK_INT(sync_now(m->p), 0);
        }
        break;
    default:
        do_append(m);
    }
}

static int no_sync(struct fileops *o, int fd, enum sync_point why)
{
    return 0;
}

static void run(uint64_t seed)
{
    unsigned failed = CU_get_number_of_failures();
    struct model m = {.rng = seed * 2654435761u + 88172645463325252u, .now = T0};
    for (int i = 0; i < 3; i++)
        rnd(&m, 2);
    m.v = calloc(RECORDS, sizeof *m.v);
    memset(m.base_of, 0xff, sizeof m.base_of);
    struct fileops quick = *fileops_real(); /* nothing here depends on what a disk has */
    quick.datasync = quick.sync = no_sync;
    m.f.files = &quick;
    m.f.clean_map_bytes = rnd(&m, 2) ? 1 : 0;
    fixture_open(&m.f);
    char settings[256];
    snprintf(settings, sizeof settings,
             "retention.ms=-1 segment.bytes=%d delete.retention.ms=%d "
             "min.cleanable.dirty.ratio=%s",
             1024 << rnd(&m, 4), RETENTION, rnd(&m, 2) ? "0" : "0.3");
    m.p = fixture_topic(&m.f, "t", settings);
    while (m.n < RECORDS - 10 && CU_get_number_of_failures() == failed)
        step(&m);
    if (CU_get_number_of_failures() != failed)
        fprintf(stderr, "seed %llu failed\n", (unsigned long long)seed);
    check_times(&m);
    fixture_end(&m.f);
    free(m.v);
}

TEST(random_logs_hold_what_the_model_says)
{
    const char *only = getenv("TM_TEST_SEED");
    uint64_t from = only ? strtoull(only, NULL, 10) : 1, to = only ? from : 15;
    unsigned failed = CU_get_number_of_failures();
    for (uint64_t seed = from; seed <= to && CU_get_number_of_failures() == failed; seed++)
        run(seed);
}
