/* One pass of the cleaner over one partition: builds the key map from the dirty part, then goes
 * through the segments from the oldest on and writes anew those in which something changes.
 *
 * Owning thread: the cleaner's; it reads sealed files by descriptors of its own and asks the
 * broker's thread (cleaner_ask) for whatever concerns the partition.
 *
 * THE SWAP of segments A, B, C by one that holds what is left of them. At each point a crash leaves
 * either the old segments or the new one, and recovery (recover_swap.c) needs no more than the
 * names to tell which:
 *   1. A.cleaned is written and synced. Recovery: deleted.
 *   2. It is renamed to A-END.swap, and the folder synced. From here on the new one counts.
 *      Recovery: goes on with 3.
 *   3. The log reads from the new one. A.index and the files of B and C are deleted, and the folder
 *      synced. (A.index speaks of the old file; the next step must not find it there.)
 *   4. A-END.swap is renamed to A.log, which replaces the old one. Not synced: with either name
 *      recovery ends here.
 * The last batch of the group stays in any case, if only as a header, so the new segment ends where
 * C ended.
 *
 * A segment in which nothing changes is not written: writing begins with the first batch that is
 * not to stay as it is, by copying what lies before it. Segments are put together up to
 * segment.bytes, so that rolling by age leaves no crowd of small files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/clean_int.h"

#define WINDOW_BYTES     ((size_t)1 << 20)
#define WINDOW_MAX_BYTES ((size_t)SEGMENT_BYTES_MAX + BATCH_HEAD_BYTES)
#define SYNC_EVERY_BYTES ((int64_t)4 << 20) /* so that no sync of an append waits for much */
#define OUT_MAX_BYTES    ((size_t)512 << 20)
#define OUT_FLUSH_BYTES  ((size_t)1 << 20)

/* Reads a file batch by batch; `window` holds the bytes from window_at on. */
struct reader {
    int fd;
    int64_t size, pos, window_at;
    int64_t next, end; /* offsets: of the next batch at least, and where the segment ends */
    struct buf window;
};
struct pass {
    struct cleaner *c;
    struct clean_job *j;
    struct reader in;
    struct buf out; /* not written yet */
    int64_t flushed, synced;
    bool writing;
};

char *clean_swap_path(const struct plog *p, int64_t base, int64_t end)
{
    char *path = NULL;
    return asprintf(&path, "%s/%020lld-%020lld.swap", p->dir, (long long)base, (long long)end) < 0
               ? NULL
               : path;
}

static int by_path(struct clean_job *j, int (*fn)(struct fileops *, const char *), char *path)
{
    int rc = path ? fn(j->files, path) : -ENOMEM;
    free(path);
    return rc == -ENOENT ? 0 : rc;
}

static int delete_path(struct fileops *o, const char *path)
{
    return o->unlink(o, path);
}

static void close_source(struct pass *s)
{
    if (s->in.fd >= 0)
        s->j->files->close(s->j->files, s->in.fd);
    s->in.fd = -1;
}

static int open_source(struct pass *s, const struct clean_source *src)
{
    struct clean_job *j = s->j;
    close_source(s);
    char *path = segment_path(j->p, src->base, "log");
    if (!path)
        return -ENOMEM;
    int fd = j->files->open(j->files, path, O_RDONLY);
    free(path);
    if (fd < 0)
        return fd == -ENOENT ? -ECANCELED : fd; /* retention was quicker */
    buf_reset(&s->in.window);
    s->in.fd = fd;
    s->in.size = src->size;
    s->in.pos = s->in.window_at = 0;
    s->in.next = src->base;
    s->in.end = src->end;
    return 0;
}

static int fill(struct pass *s, size_t n)
{
    struct reader *in = &s->in;
    size_t want = n > WINDOW_BYTES ? n : WINDOW_BYTES;
    if ((int64_t)want > in->size - in->pos)
        want = (size_t)(in->size - in->pos);
    int rc = cleaner_breathe(s->c);
    buf_reset(&in->window);
    char *to = rc == 0 ? buf_reserve(&in->window, want) : NULL;
    if (!to)
        return rc < 0 ? rc : buf_error(&in->window);
    ssize_t got = fo_read(s->j->files, in->fd, to, want, in->pos);
    if (got != (ssize_t)want)
        return got < 0 ? (int)got : -EBADMSG;
    buf_commit(&in->window, want);
    in->window_at = in->pos;
    s->j->filter.n.bytes_read += (int64_t)want;
    return 0;
}

/* 1: a batch, good until the next call; 0: the end. */
static int next_batch(struct pass *s, const char **ret, struct batch *b)
{
    struct reader *in = &s->in;
    size_t need = BATCH_HEAD_BYTES;
    int rc = 0;
    if (in->pos == in->size)
        return 0;
    for (int look = 0; look < 2; look++, need = b->size) {
        int64_t at = in->pos - in->window_at;
        if (in->size - in->pos < (int64_t)need)
            return -EBADMSG;
        if (at + (int64_t)need > (int64_t)in->window.n)
            rc = fill(s, need);
        if (rc < 0)
            return rc;
        *ret = in->window.p + (in->pos - in->window_at);
        if (!batch_head(*ret, BATCH_HEAD_BYTES, b))
            return -EBADMSG;
    }
    if (!batch_stamp_ok(*ret, b, s->j->filter.salt) || !batch_crc_ok(*ret, b) ||
        b->base < in->next || batch_end(b) > in->end)
        return -EBADMSG;
    in->next = batch_end(b);
    in->pos += (int64_t)b->size;
    return 1;
}

/* Remembers where a damaged batch stands. */
static int found(struct pass *s, size_t i, int64_t pos, int rc)
{
    if (rc == -EBADMSG) {
        s->j->bad_base = s->j->src[i].base;
        s->j->bad_pos = pos;
    }
    return rc;
}

/* 1: the map is full, and does not know the record at filter.map_end. */
static int map_batch(struct pass *s, struct key_map *m, const char *p, const struct batch *b)
{
    struct clean_filter *f = &s->j->filter;
    struct slice rest;
    struct record r;
    if (batch_end(b) <= s->j->dirty_from || b->count == 0 ||
        b->attributes & (BATCH_CONTROL | BATCH_TRANSACTIONAL))
        return 0;
    int rc = batch_records(p, b, &f->unpacked, &rest);
    if (rc < 0)
        return rc == -EMSGSIZE ? -EBADMSG : rc;
    while (record_next(&rest, &r)) {
        if (b->base + r.delta < s->j->dirty_from || r.null_key)
            continue;
        if (!key_map_put(m, r.key, b->base + r.delta)) {
            f->map_end = b->base + r.delta;
            return 1;
        }
    }
    return rest.n ? -EBADMSG : 0;
}

static int map_source(struct pass *s, struct key_map *m, size_t i)
{
    const char *p;
    struct batch b;
    int64_t pos = 0;
    int rc = open_source(s, &s->j->src[i]);
    while (rc == 0) {
        pos = s->in.pos;
        rc = next_batch(s, &p, &b);
        if (rc <= 0)
            break;
        rc = map_batch(s, m, p, &b);
    }
    return found(s, i, pos, rc);
}

static int build_map(struct pass *s, struct key_map *m)
{
    struct clean_job *j = s->j;
    int rc = 0;
    for (size_t i = 0; i < j->nsrc && rc == 0; i++)
        if (j->src[i].end > j->dirty_from)
            rc = map_source(s, m, i);
    j->more = rc > 0;
    return rc < 0 ? rc : 0;
}

/* Writes out what is collected, and syncs every few MiB. */
static int flush(struct pass *s, bool all)
{
    struct clean_job *j = s->j;
    if (!all && s->out.n < OUT_FLUSH_BYTES)
        return 0;
    int rc = fo_write(j->files, j->out_fd, buf_slice(&s->out), s->flushed, NULL);
    if (rc < 0)
        return rc;
    s->flushed += (int64_t)s->out.n;
    j->filter.n.bytes_written += (int64_t)s->out.n;
    buf_trim(&s->out, 2 * OUT_FLUSH_BYTES);
    if (all || s->flushed - s->synced >= SYNC_EVERY_BYTES) {
        rc = j->files->datasync(j->files, j->out_fd, SYNC_CLEANED);
        s->synced = s->flushed;
    }
    return rc < 0 ? rc : cleaner_breathe(s->c);
}

/* The first n bytes of the group's first segment as they are; they are in out's index already. */
static int copy_head(struct pass *s, int64_t n)
{
    int rc = 0;
    for (int64_t at = 0; rc == 0 && at < n;) {
        size_t piece = n - at < (int64_t)OUT_FLUSH_BYTES ? (size_t)(n - at) : OUT_FLUSH_BYTES;
        char *to = buf_reserve(&s->out, piece);
        ssize_t got = to ? fo_read(s->j->files, s->in.fd, to, piece, at) : buf_error(&s->out);
        if (got != (ssize_t)piece)
            return got < 0 ? (int)got : -EBADMSG;
        buf_commit(&s->out, piece);
        at += (int64_t)piece;
        rc = flush(s, false);
    }
    return rc;
}

/* Begins the new file. What was read of the group so far, `same` bytes of its first segment, stays
 * as it is. */
static int begin(struct pass *s, int64_t same)
{
    struct clean_job *j = s->j;
    FAILPOINT("log.clean.before");
    char *path = segment_path(j->p, j->out->base, "cleaned");
    int fd = path ? j->files->open(j->files, path, O_RDWR | O_CREAT | O_TRUNC) : -ENOMEM;
    free(path);
    if (fd < 0)
        return fd;
    j->out_fd = fd;
    s->writing = true;
    s->flushed = s->synced = 0;
    return copy_head(s, same);
}

/* Notes a batch that stands in the new segment. */
static int note(struct pass *s, const char *p, int64_t now_ms)
{
    struct segment *out = s->j->out;
    struct batch b;
    if (!batch_head(p, BATCH_HEAD_BYTES, &b))
        return -EBADMSG;
    if (out->size + (int64_t)b.size > SEGMENT_BYTES_MAX)
        return -EFBIG;
    segment_note(out, &b, out->size, now_ms);
    return 0;
}

static int filter_batch(struct pass *s, const char *p, const struct batch *b, int64_t pos,
                        bool last)
{
    enum clean_verdict v;
    size_t at = s->out.n;
    int rc = clean_batch(&s->j->filter, p, b, last, &s->out, &v);
    if (rc < 0)
        return rc;
    bool drop = v == CLEAN_NONE;
    if (!s->writing && (v == CLEAN_SAME || (drop && b->count == 0)))
        return note(s, p, s->j->filter.now_ms); /* an empty header alone is not worth writing */
    if (!s->writing) { /* what the filter wrote comes behind what is copied now */
        struct buf made = s->out;
        buf_init(&s->out, OUT_MAX_BYTES);
        rc = begin(s, pos);
        at = s->out.n;
        if (rc == 0)
            rc = buf_add_slice(&s->out, buf_slice(&made));
        buf_free(&made);
    }
    if (rc == 0 && v == CLEAN_SAME)
        rc = buf_add(&s->out, p, b->size);
    if (rc == 0 && !drop)
        rc = note(s, s->out.p + at, s->j->filter.now_ms);
    return rc < 0 ? rc : flush(s, false);
}

static int filter_source(struct pass *s, size_t i, bool last)
{
    const char *p;
    struct batch b;
    int64_t pos = 0;
    int rc = open_source(s, &s->j->src[i]);
    while (rc == 0) {
        pos = s->in.pos;
        rc = next_batch(s, &p, &b);
        if (rc <= 0)
            break;
        rc = filter_batch(s, p, &b, pos, last && s->in.pos == s->in.size);
    }
    return found(s, i, pos, rc);
}

/* How many segments from src[first] on become one. */
static size_t group_of(const struct clean_job *j, size_t first)
{
    const struct clean_source *a = &j->src[first];
    int64_t bytes = a->size;
    size_t n = 1;
    for (; first + n < j->nsrc && n < CLEAN_GROUP_FILES; n++) {
        const struct clean_source *b = &a[n];
        bytes += b->size;
        if (bytes > j->group_bytes || b->end - a->base > INT32_MAX || b->base >= j->filter.map_end)
            break;
    }
    return n;
}

static int make_group(struct pass *s)
{
    struct clean_job *j = s->j;
    j->out = segment_new(j->p, j->src[j->first].base);
    if (!j->out)
        return -ENOMEM;
    buf_trim(&s->out, 2 * OUT_FLUSH_BYTES);
    s->writing = false;
    int rc = j->n > 1 ? begin(s, 0) : 0;
    for (size_t i = 0; i < j->n && rc == 0; i++)
        rc = filter_source(s, j->first + i, i + 1 == j->n);
    close_source(s);
    if (rc == 0 && s->writing)
        rc = flush(s, true);
    j->out->indexed = true;
    FAILPOINT("log.clean.after");
    return rc;
}

/* Forgets the new file, which is not the log's yet. */
static void drop_group(struct pass *s)
{
    struct clean_job *j = s->j;
    if (j->out_fd >= 0)
        j->files->close(j->files, j->out_fd);
    if (s->writing) /* left over it is deleted at the next start */
        (void)by_path(j, delete_path, segment_path(j->p, j->out->base, "cleaned"));
    j->out_fd = -1;
    j->out = segment_free(j->out);
    s->writing = false;
}

/* Step 2. */
static int commit_group(struct clean_job *j)
{
    char *from = segment_path(j->p, j->out->base, "cleaned");
    char *to = clean_swap_path(j->p, j->out->base, j->out_end);
    FAILPOINT("log.swap.before");
    int rc = from && to ? j->files->rename(j->files, from, to) : -ENOMEM;
    if (rc == 0) {
        rc = fo_sync_folder(j->files, j->p->dir, SYNC_SWAP_NAME);
        /* Whether it is durable is not known; without the name it is not. */
        if (rc < 0 && (j->files->unlink(j->files, to) < 0 ||
                       fo_sync_folder(j->files, j->p->dir, SYNC_SWAP_NAME) < 0))
            j->at = "compaction";
    }
    free(from);
    free(to);
    FAILPOINT("log.swap.commit");
    return rc;
}

/* Steps 3 and 4. */
static int swap_group(struct clean_job *j)
{
    struct fileops *o = j->files;
    int64_t base = j->src[j->first].base;
    int rc = by_path(j, delete_path, segment_path(j->p, base, "index"));
    for (size_t i = 1; i < j->n && rc == 0; i++) {
        int64_t gone = j->src[j->first + i].base;
        rc = by_path(j, delete_path, segment_path(j->p, gone, "log"));
        if (rc == 0)
            rc = by_path(j, delete_path, segment_path(j->p, gone, "index"));
        if (rc == 0)
            rc = by_path(j, delete_path, segment_path(j->p, gone, "snapshot"));
        FAILPOINT("log.swap.delete");
    }
    if (rc == 0)
        rc = fo_sync_folder(o, j->p->dir, SYNC_SWAP_GONE);
    FAILPOINT("log.swap.rename");
    char *from = clean_swap_path(j->p, base, j->out_end), *to = segment_path(j->p, base, "log");
    if (rc == 0)
        rc = from && to ? o->rename(o, from, to) : -ENOMEM;
    free(from);
    free(to);
    FAILPOINT("log.swap.after");
    return rc;
}

/* The group is written; puts it in the place of its segments. */
static int replace_group(struct pass *s)
{
    struct clean_job *j = s->j;
    j->out_end = j->src[j->first + j->n - 1].end;
    if (j->out->end != j->out_end)
        return -EBADMSG; /* the last batch ends elsewhere than the segment is said to */
    int rc = cleaner_ask(s->c, ASK_LOCK);
    if (rc < 0)
        return rc;
    rc = commit_group(j);
    if (rc < 0) {
        drop_group(s);
        (void)cleaner_ask(s->c, ASK_UNLOCK);
        return rc;
    }
    s->writing = false;
    (void)cleaner_ask(s->c, ASK_SWITCH); /* it can't be refused any more */
    rc = swap_group(j);
    if (rc < 0)
        j->at = "compaction";
    (void)cleaner_ask(s->c, ASK_UNLOCK);
    return rc;
}

static int clean_groups(struct pass *s)
{
    struct clean_job *j = s->j;
    int rc = 0;
    for (j->first = 0; j->first < j->nsrc && rc == 0; j->first += j->n) {
        if (j->src[j->first].base >= j->filter.map_end)
            break;
        j->n = group_of(j, j->first);
        rc = make_group(s);
        if (rc == 0) {
            j->filter.n.segments_before += (int64_t)j->n;
            j->filter.n.segments_after++;
            j->filter.n.bytes_after += j->out->size;
            for (size_t i = 0; i < j->n; i++)
                j->filter.n.bytes_before += j->src[j->first + i].size;
        }
        if (rc == 0 && s->writing)
            rc = replace_group(s);
        if (j->out)
            drop_group(s);
    }
    return rc;
}

void clean_run(struct cleaner *c, struct clean_job *j)
{
    struct pass s = {.c = c, .j = j, .in = {.fd = -1}};
    struct key_map m = {0};
    buf_init(&s.in.window, WINDOW_MAX_BYTES);
    buf_init(&s.out, OUT_MAX_BYTES);
    buf_init(&j->filter.unpacked, BATCH_UNPACKED_MAX);
    buf_init(&j->filter.records, BATCH_UNPACKED_MAX);
    int rc = key_map_init(&m, j->map_bytes, j->filter.map_end - j->dirty_from);
    j->filter.map = &m;
    if (rc == 0)
        rc = build_map(&s, &m);
    if (rc == 0)
        rc = clean_groups(&s);
    close_source(&s);
    key_map_free(&m);
    j->filter.map = NULL;
    buf_free(&s.in.window);
    buf_free(&s.out);
    buf_free(&j->filter.unpacked);
    buf_free(&j->filter.records);
    j->error = rc;
}
