/* Segments: one file of record batches each. Owning thread: the broker's; a sync worker uses the
 * descriptor of a segment that is in its job, which is therefore not closed.
 *
 * FILES of the partition folder NAME-N, all numbers big-endian:
 *
 *   BASE.log        record batches v2 one behind the other (batch_int.h), nothing else. BASE, 20
 * digits, is at or below the first batch's base offset and equals the end of the segment before it.
 *   BASE.index      made at roll and at a clean stop (segment_index.c): end, size, times, sparse
 * index. Fits only a log of exactly the size it names; can be rebuilt; never synced. BASE.snapshot
 * producers at offset BASE (producer_state.c). Can be rebuilt; never synced. checkpoint      log
 * start and known-durable end (checkpoint.c). cleaned         up to where it was compacted
 * (cleaner.c). BASE.cleaned, BASE-END.swap: a compaction under way (clean_pass.c).
 *
 * A segment is active (the last one, appended to) or sealed. A sealed one is never changed; the
 * cleaner may put a new file in the place of one or several. Offsets then have holes inside and
 * between batches, but the last batch stays, if only as a header without records: so the end of
 * each segment stands in its file, and segments abut. What is missing at the end of a file is
 * damage, or a torn tail, also after a compaction.
 *
 * THE DURABLE POINT. An acknowledgement costs one fdatasync of the log file and nothing else, so
 * after a crash the question is which end of the file was promised to a client. Three things tell,
 * none of which costs a sync:
 *   1. The stamp in each batch says where the durable end stood when the batch was written. A later
 * batch therefore vouches for the earlier ones: whatever lies below its statement had been synced,
 * and may have been acknowledged.
 *   2. The checkpoint file, written about once a second when the durable end moved, and at a clean
 * stop. It is written after the sync that it speaks of; an old copy only says less.
 *   3. The log start, which is synced before DeleteRecords is answered.
 * K, the known-durable end, is the largest of these statements.
 *
 * RECOVERY of one partition:
 *   1. Read the checkpoint; write its log start once more and sync it unless that is known to have
 * happened. Finish or undo a compaction that was interrupted (recover_swap.c). Delete segments that
 * end at or below the log start.
 *   2. Sealed segments that lie below K and whose index fits the file's size are taken as they are,
 * but for the newest bytes, which are verified at each start (VERIFY_*_BYTES). The rest is read,
 * every batch checked: header, stamp, CRC, base offset not below the end so far. After a crash the
 * last segment is always among the rest.
 *   3. At the first batch that fails, at position P and offset X: look on behind P, byte by byte
 * and through all later segments, for batches whose stamp and CRC are right, and take the largest
 * statement among them into K. K > X:  acknowledged records are damaged. Refuse to start, naming
 * file and position; change nothing. K <= X: a torn tail. Cut the file at P, delete the later
 * segments.
 *   4. The end is X. K > X is damage here as well: the file is shorter than what was promised.
 *   5. What lies beyond K is written once more at its place and synced before anyone can read it:
 * after a failed fdatasync the kernel may hold pages that it counts as clean and that never reached
 * the disk.
 *
 * A TORN TAIL is whatever a crash may leave behind the last completed sync: half a batch, zeros
 * where the size was changed but not the data, pages in any order, so also good batches behind bad
 * ones, even in a later segment whose folder entry arrived first. That is why a good batch behind a
 * bad one is no proof of damage by itself; its statement about the durable end is. What can't be
 * told: bytes of the very last sync, damaged later by the medium, with no batch written and no
 * checkpoint made (one second) between that sync and the crash. They look like a torn tail. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/store_int.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define EVICT_LOOKS 32

struct segment *segment_new(struct plog *p, int64_t base)
{
    struct segment *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    *g = (struct segment){.p = p, .base = base, .end = base, .fd = -1};
    g->max_ms = g->max_base = g->first_ms = -1;
    list_init(&g->lru);
    return g;
}

void segment_close(struct segment *g)
{
    if (g->fd < 0)
        return;
    /* Nothing can be lost here: what matters was synced, and a sync's error was seen. */
    g->p->s->files->close(g->p->s->files, g->fd);
    g->fd = -1;
    list_del(&g->lru);
    g->p->s->nopen--;
}

struct segment *segment_free(struct segment *g)
{
    if (!g)
        return NULL;
    segment_close(g);
    free(g->idx);
    free(g);
    return NULL;
}

char *segment_path(const struct plog *p, int64_t base, const char *suffix)
{
    char *path = NULL;
    return asprintf(&path, "%s/%020lld.%s", p->dir, (long long)base, suffix) < 0 ? NULL : path;
}

int segment_unlink(struct segment *g, const char *suffix)
{
    char *path = segment_path(g->p, g->base, suffix);
    int rc = path ? g->p->s->files->unlink(g->p->s->files, path) : -ENOMEM;
    free(path);
    return rc == -ENOENT ? 0 : rc;
}

bool segment_evict(struct store *s)
{
    int looks = 0;
    LIST_EACH(it, &s->open_files)
    {
        struct segment *g = LIST_ENTRY(it, struct segment, lru);
        if (!g->dirty && !g->in_job && !g->swapping) {
            segment_close(g);
            if (g != plog_active(g->p))
                index_drop(g);
            return true;
        }
        if (++looks == EVICT_LOOKS)
            break;
    }
    return false;
}

int segment_open(struct segment *g, bool create)
{
    struct store *s = g->p->s;
    if (g->fd >= 0) {
        if (s->open_files.prev != &g->lru) {
            list_del(&g->lru);
            list_push(&s->open_files, &g->lru);
        }
        return 0;
    }
    char *path = segment_path(g->p, g->base, "log");
    if (!path)
        return -ENOMEM;
    if (s->nopen >= OPEN_FILES_MAX)
        segment_evict(s);
    int fd = store_open_file(s, path, O_RDWR | (create ? O_CREAT | O_TRUNC : 0));
    free(path);
    if (fd < 0)
        return fd;
    g->fd = fd;
    list_push(&s->open_files, &g->lru);
    s->nopen++;
    return 0;
}

int segment_write(struct segment *g, const char *bytes, size_t n, bool *ret_broken)
{
    int64_t at = g->size;
    size_t done = 0;
    int rc = segment_open(g, false);
    *ret_broken = false;
    if (rc < 0)
        return rc;
    struct fileops *o = g->p->s->files;
    FAILPOINT("log.write.before");
    rc = fo_write(o, g->fd, sl(bytes, n), at, &done);
    FAILPOINT("log.write.after");
    if (rc < 0 && done > 0 && o->truncate(o, g->fd, at) < 0)
        *ret_broken = true;
    return rc;
}

void segment_note(struct segment *g, const struct batch *b, int64_t pos, int64_t now_ms)
{
    if (g->nidx == 0 || (size_t)(pos - g->idx[g->nidx - 1].pos) >= INDEX_EVERY_BYTES)
        index_add(g, b->base, pos);
    if (b->max_ms > g->max_ms) {
        g->max_ms = b->max_ms;
        g->max_base = b->base;
    }
    if (g->first_ms < 0)
        g->first_ms = now_ms;
    g->end = batch_end(b);
    g->size = pos + (int64_t)b->size;
}

int segment_pread(struct segment *g, char *to, size_t n, int64_t pos)
{
    int rc = segment_open(g, false);
    if (rc < 0)
        return rc;
    ssize_t r = fo_read(g->p->s->files, g->fd, to, n, pos);
    return r < 0 ? (int)r : (size_t)r < n ? -EIO : 0; /* shorter than we know it to be */
}

static int fill_chunk(struct segment_walk *w)
{
    struct buf *chunk = &w->g->p->s->chunk;
    int64_t left = w->limit - w->pos;
    size_t n = left < (int64_t)CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    buf_reset(chunk);
    char *to = buf_reserve(chunk, CHUNK_BYTES);
    if (!to)
        return -ENOMEM;
    int rc = segment_pread(w->g, to, n, w->pos);
    if (rc < 0)
        return rc;
    w->chunk_at = w->pos;
    w->chunk_n = n;
    return 0;
}

int segment_next(struct segment_walk *w, struct batch *b, int64_t *ret_pos)
{
    int64_t left = w->limit - w->pos;
    if (left <= 0)
        return 0;
    int64_t at = w->pos - w->chunk_at;
    if (left >= BATCH_HEAD_BYTES &&
        (at < 0 || at + BATCH_HEAD_BYTES > (int64_t)w->chunk_n || w->chunk_n == 0)) {
        int rc = fill_chunk(w);
        if (rc < 0)
            return rc;
        at = 0;
    }
    if (left < BATCH_HEAD_BYTES || !batch_head(w->g->p->s->chunk.p + at, BATCH_HEAD_BYTES, b) ||
        (int64_t)b->size > left)
        return -EIO; /* it was whole when it was written or recovered: the medium has changed it */
    *ret_pos = w->pos;
    w->pos += (int64_t)b->size;
    return 1;
}

/* The last entry at or below the offset. */
static int64_t offset_floor(const struct segment *g, int64_t offset)
{
    size_t lo = 0, hi = g->nidx;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (g->base + g->idx[mid].delta <= offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? g->idx[lo - 1].pos : 0;
}

int segment_find(struct segment *g, int64_t offset, int64_t limit, int64_t *ret_pos)
{
    struct batch b;
    int64_t pos;
    int rc = index_need(g);
    if (rc < 0)
        return rc;
    struct segment_walk w = {.g = g, .pos = offset_floor(g, offset), .limit = limit};
    while ((rc = segment_next(&w, &b, &pos)) > 0) {
        if (batch_end(&b) > offset) {
            *ret_pos = pos;
            return 0;
        }
    }
    if (rc == 0)
        *ret_pos = limit;
    return rc;
}

int segment_time_floor(struct segment *g, int64_t ms, int64_t *ret_pos)
{
    int rc = index_need(g);
    if (rc < 0)
        return rc;
    size_t lo = 0, hi = g->nidx;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (g->idx[mid].max_ms_before < ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_pos = lo ? g->idx[lo - 1].pos : 0;
    return 0;
}
