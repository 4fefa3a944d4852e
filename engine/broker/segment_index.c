/* The index of a segment: sparse, rebuildable, never needed for correctness. Owning thread: the
 * broker's.
 *
 * BASE.index, big-endian:
 *      0   4  "TMIX"                    4   4  version, 1
 *      8   8  base                     16   8  end
 *     24   8  size of the log file     32   8  largest timestamp
 *     40   8  base offset of the first batch with it
 *     48   8  when the first batch was written, ms
 *     56   4  count of entries         60   4  CRC-32C of the entries
 *     64   4  CRC-32C of the 64 bytes before
 *     68      entries: offset - base 4, position 4, largest timestamp of all batches before 8
 *
 * The entries of an active segment are in memory; those of a sealed one are loaded when it is read
 * and dropped when its file is closed. Offsets are looked up by the floor of `offset`, times by the
 * floor of the timestamp, which never falls. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/hash.h"
#include "broker/store_int.h"

#define HEAD_BYTES  68
#define ENTRY_BYTES 16

void index_add(struct segment *g, int64_t offset, int64_t pos)
{
    if (g->nidx == g->capidx) {
        size_t cap = g->capidx ? g->capidx * 2 : 64;
        struct index_entry *v = realloc(g->idx, cap * sizeof *v);
        if (!v)
            return; /* a gap in a sparse index only makes a search longer */
        g->idx = v;
        g->capidx = cap;
    }
    g->idx[g->nidx++] =
        (struct index_entry){(uint32_t)(offset - g->base), (uint32_t)pos, g->max_ms};
}

void index_drop(struct segment *g)
{
    free(g->idx);
    g->idx = NULL;
    g->nidx = g->capidx = 0;
    g->indexed = false;
}

static void write_head(char *h, const struct segment *g, const char *entries)
{
    memcpy(h, "TMIX", 4);
    save32(h + 4, 1);
    save64(h + 8, g->base);
    save64(h + 16, g->end);
    save64(h + 24, g->size);
    save64(h + 32, g->max_ms);
    save64(h + 40, g->max_base);
    save64(h + 48, g->first_ms);
    save32(h + 56, (int32_t)g->nidx);
    save32(h + 60, (int32_t)crc32c(0, entries, g->nidx * ENTRY_BYTES));
    save32(h + 64, (int32_t)crc32c(0, h, 64));
}

int index_save(struct segment *g)
{
    if (!g->indexed)
        return 0; /* what the file says still holds */
    size_t n = HEAD_BYTES + g->nidx * ENTRY_BYTES;
    char *path = segment_path(g->p, g->base, "index"), *text = malloc(n);
    int rc = path && text ? 0 : -ENOMEM;
    if (rc == 0) {
        for (size_t i = 0; i < g->nidx; i++) {
            char *t = text + HEAD_BYTES + i * ENTRY_BYTES;
            save32(t, (int32_t)g->idx[i].delta);
            save32(t + 4, (int32_t)g->idx[i].pos);
            save64(t + 8, g->idx[i].max_ms_before);
        }
        write_head(text, g, text + HEAD_BYTES);
        rc = fo_write_file(g->p->s->files, path, sl(text, n));
    } else {
        (void)segment_unlink(g, "index"); /* an old one must not fit by chance */
    }
    free(path);
    free(text);
    return rc;
}

static int read_entries(struct segment *g, int fd, size_t count, uint32_t crc)
{
    size_t n = count * ENTRY_BYTES;
    char *text = malloc(n + 1);
    struct index_entry *v = malloc((count + 1) * sizeof *v);
    int rc = !text || !v ? -ENOMEM : 0;
    ssize_t r = rc == 0 ? fo_read(g->p->s->files, fd, text, n, HEAD_BYTES) : 0;
    if (rc == 0 && (r != (ssize_t)n || crc32c(0, text, n) != crc))
        rc = r < 0 ? (int)r : -EBADMSG;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *t = text + i * ENTRY_BYTES;
        v[i] = (struct index_entry){(uint32_t)load32(t), (uint32_t)load32(t + 4), load64(t + 8)};
    }
    free(text);
    if (rc < 0) {
        free(v);
        return rc;
    }
    free(g->idx);
    g->idx = v;
    g->nidx = count;
    g->capidx = count + 1;
    g->indexed = true;
    return 0;
}

static int load_from(struct segment *g, int fd, int64_t size, bool entries)
{
    char h[HEAD_BYTES];
    ssize_t r = fo_read(g->p->s->files, fd, h, sizeof h, 0);
    if (r < 0)
        return (int)r;
    if (r != (ssize_t)sizeof h || memcmp(h, "TMIX", 4) != 0 || load32(h + 4) != 1 ||
        (uint32_t)load32(h + 64) != crc32c(0, h, 64) || load64(h + 8) != g->base ||
        load64(h + 24) != size)
        return -EBADMSG;
    int32_t count = load32(h + 56);
    if (count < 0 || (int64_t)count > size / BATCH_HEAD_BYTES)
        return -EBADMSG;
    int rc = entries ? read_entries(g, fd, (size_t)count, (uint32_t)load32(h + 60)) : 0;
    if (rc < 0)
        return rc;
    g->end = load64(h + 16);
    g->size = size;
    g->max_ms = load64(h + 32);
    g->max_base = load64(h + 40);
    g->first_ms = load64(h + 48);
    return 0;
}

int index_load(struct segment *g, int64_t size, bool entries)
{
    char *path = segment_path(g->p, g->base, "index");
    int fd = path ? store_open_file(g->p->s, path, O_RDONLY) : -ENOMEM;
    int rc = fd < 0 ? fd : load_from(g, fd, size, entries);
    if (fd >= 0)
        g->p->s->files->close(g->p->s->files, fd);
    free(path);
    return rc;
}

int index_need(struct segment *g)
{
    if (g->indexed)
        return 0;
    int rc = index_load(g, g->size, true);
    if (rc == 0 || rc == -ENOMEM)
        return rc;
    index_drop(g);
    struct segment t = *g; /* nothing of g changes unless all of it could be read */
    t.max_ms = t.max_base = -1;
    struct segment_walk w = {.g = g, .limit = g->size};
    struct batch b;
    int64_t pos;
    while ((rc = segment_next(&w, &b, &pos)) > 0)
        segment_note(&t, &b, pos, g->first_ms);
    if (rc < 0) {
        free(t.idx);
        return rc;
    }
    g->idx = t.idx;
    g->nidx = t.nidx;
    g->capidx = t.capidx;
    g->indexed = true;
    return 0;
}
