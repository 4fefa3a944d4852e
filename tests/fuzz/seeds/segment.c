/* Partition folders as the embedded log writes them. See fuzz_broker_segment.c for the form. */
#include "base/file.h"
#include "broker/store_fixture.h"
#include "fuzz/fuzz.h"
#include "fuzz/segment.h"
#include "seeds.h"

static void read_into(struct fixture *f, const char *name, struct buf *b)
{
    char path[256];
    struct err e = {0};
    buf_init(b, 1 << 20);
    fixture_path(f, path, "t-0/%s", name);
    if (file_there(path))
        must(file_read(path, b, &e) == 0, e.msg);
}

/* Two segments, an index of the first, a snapshot of producers. */
static void folder(const char *name, const struct spec *v, size_t n, unsigned flags, bool roll)
{
    struct fixture f = {.segment_bytes = roll ? 300 : 0};
    char second[64], snapshot[64];
    struct buf b, part[SEGMENT_PARTS];
    fixture_open(&f);
    struct plog *p = fixture_topic(&f, "t", NULL);
    for (size_t i = 0; i < n; i++)
        (void)append_ok(p, &v[i]);
    int64_t base = p->nsegs > 1 ? p->segs[1]->base : 0;
    (void)snprintf(second, sizeof second, "%020lld.log", (long long)base);
    (void)snprintf(snapshot, sizeof snapshot, "%020lld.snapshot", (long long)base);
    fixture_close(&f);
    read_into(&f, "00000000000000000000.log", &part[0]);
    read_into(&f, base ? second : "none", &part[1]);
    read_into(&f, "00000000000000000000.index", &part[2]);
    read_into(&f, base ? snapshot : "none", &part[3]);
    read_into(&f, "checkpoint", &part[4]);
    buf_init(&b, 1 << 20);
    buf_addc(&b, (char)flags);
    buf_addc(&b, (char)base);
    for (int i = 0; i < SEGMENT_PARTS; i++) {
        fuzz_put(&b, i == 4 && part[4].n > 60 ? sl(part[4].p, 60) : buf_slice(&part[i]));
        buf_free(&part[i]);
    }
    seed_write("broker_segment", name, buf_slice(&b));
    buf_free(&b);
    fixture_end(&f);
}

void segment_seeds(void)
{
    static const struct spec plain[] = {{.n = 2}, {.n = 1}, {.n = 3}},
                             mixed[] = {{.n = 4, .codec = 1},
                                        {.n = 4, .codec = 2},
                                        {.n = 4, .codec = 3},
                                        {.n = 4, .codec = 4},
                                        {.n = 2, .idempotent = true, .pid = 5, .seq = 0},
                                        {.n = 2, .idempotent = true, .pid = 5, .seq = 2}};
    folder("plain", plain, 3, SEGMENT_SEAL, false);
    folder("plain_clean", plain, 3, SEGMENT_SEAL | SEGMENT_CLEAN, false);
    folder("codecs", mixed, 6, SEGMENT_SEAL, false);
    folder("two_segments", mixed, 6, SEGMENT_SEAL, true);
    folder("two_segments_clean", mixed, 6, SEGMENT_SEAL | SEGMENT_CLEAN, true);
    folder("two_segments_checkpoint", mixed, 6, SEGMENT_SEAL | SEGMENT_CHECKPOINT, true);
}
