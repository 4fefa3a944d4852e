/* Folders, batches and faults for the tests of the log's storage. */
#include "store_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <lz4frame.h>
#include <poll.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/file.h"
#include "base/hash.h"

#define FILE_MAX ((size_t)64 << 20)

static void open_store(struct fixture *f, struct err *e)
{
    struct store_opts o = {.dir = f->dir,
                           .segment_bytes = f->segment_bytes,
                           .clean_map_bytes = f->clean_map_bytes,
                           .files = f->files,
                           .sync = f->sync};
    if (!f->dir[0])
        unit_folder(f->dir, sizeof f->dir);
    f->s = store_open(&o, e);
}

void fixture_open(struct fixture *f)
{
    struct err e = {0};
    open_store(f, &e);
    CHECK_STR(e.msg, "");
    NEED(f->s != NULL);
}

void fixture_refused(struct fixture *f, struct err *e)
{
    open_store(f, e);
    NEED(f->s == NULL);
    CHECK(e->code < 0 && e->msg[0] && e->hint[0]);
}

void fixture_close(struct fixture *f)
{
    f->s = store_close(f->s);
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *ent;
    while (d && (ent = readdir(d))) {
        char sub[512];
        if (ent->d_name[0] == '.' && strlen(ent->d_name) < 3)
            continue;
        snprintf(sub, sizeof sub, "%s/%s", path, ent->d_name);
        if (unlink(sub) < 0)
            remove_tree(sub);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

void fixture_end(struct fixture *f)
{
    fixture_close(f);
    if (f->dir[0])
        remove_tree(f->dir);
    f->dir[0] = 0;
}

static void copy_tree(const char *from, const char *to)
{
    DIR *d = opendir(from);
    struct dirent *ent;
    NEED(d != NULL);
    mkdir(to, 0700);
    while ((ent = readdir(d))) {
        char a[512], b[512];
        struct stat st;
        snprintf(a, sizeof a, "%s/%s", from, ent->d_name);
        snprintf(b, sizeof b, "%s/%s", to, ent->d_name);
        if (strcmp(ent->d_name, ".") == 0 || strcmp(ent->d_name, "..") == 0 || stat(a, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            copy_tree(a, b);
            continue;
        }
        struct buf t;
        buf_init(&t, FILE_MAX);
        NEED(file_read(a, &t, NULL) == 0);
        int fd = open(b, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        NEED(fd >= 0 && fd_write_all(fd, buf_slice(&t)) == 0);
        close(fd);
        buf_free(&t);
    }
    closedir(d);
}

void fixture_copy(struct fixture *f)
{
    char to[64];
    unit_folder(to, sizeof to);
    copy_tree(f->dir, to);
    f->s = store_close(f->s);
    remove_tree(f->dir);
    memcpy(f->dir, to, sizeof to);
}

void fixture_crash(struct fixture *f)
{
    fixture_copy(f);
    fixture_open(f);
}

struct plog *fixture_part(struct fixture *f, const char *name)
{
    struct topic *t = store_topic(f->s, sl_str(name));
    NEED(t != NULL);
    return t->parts[0];
}

struct plog *fixture_topic(struct fixture *f, const char *name, const char *settings)
{
    struct slice v[16][2], rest = sl_str(settings), part;
    size_t n = 0;
    while (settings && n < 16 && sl_split(&rest, ' ', &part)) {
        sl_split(&part, '=', &v[n][0]);
        v[n++][1] = part;
    }
    struct topic *t = NULL;
    struct err e = {0};
    store_topic_create(f->s, sl_str(name), 1, (const struct slice(*)[2])v, n, &t, &e);
    CHECK_STR(e.msg, "");
    NEED(t != NULL);
    return t->parts[0];
}

void fixture_path(struct fixture *f, char path[static 256], const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(path, 256, "%s/", f->dir);
    va_start(ap, fmt);
    vsnprintf(path + n, 256 - (size_t)n, fmt, ap);
    va_end(ap);
}

static void gzip(struct slice in, struct buf *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
    NEED(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    size_t room = deflateBound(&z, in.n) + 64;
    z.next_out = (Bytef *)buf_reserve(out, room);
    z.avail_out = (uInt)room;
    NEED(deflate(&z, Z_FINISH) == Z_STREAM_END);
    buf_commit(out, z.total_out);
    deflateEnd(&z);
}

static void snap(struct slice in, struct buf *out)
{
    size_t n = snappy_max_compressed_length(in.n);
    NEED(snappy_compress(in.p, in.n, buf_reserve(out, n), &n) == SNAPPY_OK);
    buf_commit(out, n);
}

static void snap_xerial(struct slice in, struct buf *out)
{
    buf_add(out, "\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16);
    while (in.n) {
        size_t n = in.n < 300 ? in.n : 300, at = out->n;
        buf_add(out, "\0\0\0\0", 4);
        snap(sl(in.p, n), out);
        save32(out->p + at, (int32_t)(out->n - at - 4));
        in = sl_from(in, n);
    }
}

static void compress_records(const struct spec *spec, struct slice in, struct buf *out)
{
    size_t n;
    switch (spec->codec) {
    case 1:
        gzip(in, out);
        break;
    case 2:
        spec->xerial ? snap_xerial(in, out) : snap(in, out);
        break;
    case 3:
        n = LZ4F_compressFrameBound(in.n, NULL);
        n = LZ4F_compressFrame(buf_reserve(out, n), n, in.p, in.n, NULL);
        NEED(!LZ4F_isError(n));
        buf_commit(out, n);
        break;
    case 4:
        n = ZSTD_compressBound(in.n);
        n = ZSTD_compress(buf_reserve(out, n), n, in.p, in.n, 3);
        NEED(!ZSTD_isError(n));
        buf_commit(out, n);
        break;
    }
}

void seal_batch(char *p, size_t n)
{
    save32(p + 8, (int32_t)(n - BATCH_LENGTH_AT));
    save32(p + 17, (int32_t)crc32c(0, p + 21, n - 21));
}

/* Patches the one-byte timestamp deltas that batch_build wrote as 0: record i is i ms later, up
 * to 63. */
static void spread_times(char *p, size_t n, int count)
{
    struct slice rest = sl(p + BATCH_HEAD_BYTES, n - BATCH_HEAD_BYTES);
    struct record r;
    for (int i = 0; i < count; i++) {
        char *at = (char *)(uintptr_t)rest.p;
        while (*at & 0x80)
            at++;
        at[2] = (char)((i < 63 ? i : 63) * 2);
        NEED(record_next(&rest, &r));
    }
}

void make_batch(struct buf *b, const struct spec *spec)
{
    int n = spec->n ? spec->n : 1;
    size_t bytes = spec->value_bytes ? spec->value_bytes : 10, at = b->n;
    int64_t ms = spec->ms ? spec->ms : T0;
    struct plog_record *v = calloc((size_t)n, sizeof *v);
    char *value = malloc(bytes);
    NEED(v && value);
    for (size_t i = 0; i < bytes; i++)
        value[i] = (char)('a' + (spec->seed + i) % 26);
    for (int i = 0; i < n; i++)
        v[i] = (struct plog_record){.key = spec->null_key ? sl(NULL, 0) : SL("key"),
                                    .value = sl(value, bytes)};
    batch_build(b, v, (size_t)n, ms);
    spread_times(b->p + at, b->n - at, n);
    free(v);
    free(value);
    if (spec->codec) {
        struct buf out;
        buf_init(&out, FILE_MAX);
        compress_records(spec, sl(b->p + at + BATCH_HEAD_BYTES, b->n - at - BATCH_HEAD_BYTES),
                         &out);
        b->n = at + BATCH_HEAD_BYTES;
        buf_add_slice(b, buf_slice(&out));
        buf_free(&out);
        save16(b->p + at + 21, (int16_t)spec->codec);
    }
    if (spec->idempotent) {
        save64(b->p + at + 43, spec->pid);
        save16(b->p + at + 51, spec->epoch);
        save32(b->p + at + 53, spec->seq);
    }
    save64(b->p + at + 35, ms + (n - 1 < 63 ? n - 1 : 63));
    seal_batch(b->p + at, b->n - at);
}

struct append_result append_bytes(struct plog *p, struct buf *b)
{
    struct append_result r;
    plog_append(p, b->p, b->n, T0, &r);
    buf_free(b);
    return r;
}

struct append_result append(struct plog *p, const struct spec *spec)
{
    struct buf b;
    buf_init(&b, FILE_MAX);
    make_batch(&b, spec);
    return append_bytes(p, &b);
}

static void nothing(void *arg, struct plog *p)
{
}

void wait_durable(struct plog *p)
{
    while (p->durable_end < p->end && !p->failed) {
        struct pollfd pfd = {store_event_fd(p->s), POLLIN, 0};
        NEED(poll(&pfd, 1, 120000) == 1);
        store_poll(p->s, nothing, NULL);
    }
}

void fixture_clean(struct fixture *f, int64_t now_ms)
{
    store_tick(f->s, now_ms);
    while (cleaner_busy(f->s)) {
        struct pollfd pfd = {store_event_fd(f->s), POLLIN, 0};
        NEED(poll(&pfd, 1, 120000) == 1);
        store_poll(f->s, nothing, NULL);
    }
}

int64_t append_ok(struct plog *p, const struct spec *spec)
{
    struct append_result r = append(p, spec);
    CHECK_INT(r.error, 0);
    wait_durable(p);
    return r.base_offset;
}

struct counting {
    int64_t next;
    int n;
};

static int count_one(void *arg, int64_t offset, struct slice key, struct slice value,
                     bool null_value)
{
    struct counting *c = arg;
    CHECK_INT(offset, c->next);
    CHECK(value.n > 0 && !null_value);
    c->next = offset + 1;
    c->n++;
    return 0;
}

int count_records(struct plog *p, int64_t from)
{
    struct counting c = {from, 0};
    CHECK_INT(plog_each(p, from, count_one, &c), 0);
    return c.n;
}

size_t file_bytes(const char *path)
{
    struct stat st;
    NEED(stat(path, &st) == 0);
    return (size_t)st.st_size;
}

void file_cut(const char *path, size_t n)
{
    NEED(truncate(path, (off_t)n) == 0);
}

void file_flip(const char *path, size_t at)
{
    char c = 0;
    int fd = open(path, O_RDWR);
    NEED(fd >= 0 && pread(fd, &c, 1, (off_t)at) == 1);
    c ^= 0x55;
    NEED(pwrite(fd, &c, 1, (off_t)at) == 1);
    close(fd);
}

void file_zero(const char *path, size_t from, size_t to)
{
    int fd = open(path, O_RDWR);
    char *zeros = calloc(1, to - from + 1);
    NEED(fd >= 0 && zeros && pwrite(fd, zeros, to - from, (off_t)from) == (ssize_t)(to - from));
    free(zeros);
    close(fd);
}

bool file_there(const char *path)
{
    return access(path, F_OK) == 0;
}
