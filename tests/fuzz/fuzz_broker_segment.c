/* Fuzz target of recovery: any bytes as the files of a partition (segment.h here has the form).
 * Rules: the log opens, or refuses with a reason and a hint and leaves the segments as they are;
 * what opened can be read to its end, takes a record and gives it back; opened anew after a crash
 * it ends where it did. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "broker/store_int.h"
#include "fuzz.h"
#include "segment.h"

#define TOPIC_ID "00112233445566778899aabbccddeeff"
#define FILE_MAX ((size_t)4 << 20)

static char dir[64];

static void remove_files(const char *path)
{
    char sub[512];
    DIR *d = opendir(path);
    struct dirent *ent;
    while (d && (ent = readdir(d))) {
        (void)snprintf(sub, sizeof sub, "%s/%s", path, ent->d_name);
        if (ent->d_name[0] != '.' && unlink(sub) < 0) {
            remove_files(sub);
            (void)rmdir(sub);
        }
    }
    if (d)
        closedir(d);
}

static void at_exit(void)
{
    remove_files(dir);
    (void)rmdir(dir);
}

static void put_file(const char *name, struct slice s)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && fd_write_all(fd, s) == 0, "a file can be written");
    close(fd);
}

static void topics_file(void)
{
    struct buf b;
    buf_init(&b, 4096);
    buf_adds(&b, "{\"version\":1,\"producerIds\":0,\"topics\":[{\"name\":\"t\",\"id\":\"" TOPIC_ID
                 "\",\"partitions\":1,\"config\":{}}],\"deleting\":[]}\n");
    buf_addf(&b, "crc32c %08x\n", crc32c(0, b.p, b.n));
    put_file("topics.json", buf_slice(&b));
    buf_free(&b);
}

static uint32_t salt(void)
{
    uint8_t id[16];
    char n[4] = {0};
    must(hex_read(SL(TOPIC_ID), id, 16) == 0, "the id is hex");
    return crc32c(crc32c(0, id, sizeof id), n, sizeof n);
}

/* The claim about the durable end stays what the input says. */
static void seal(char *p, size_t n)
{
    struct batch b;
    for (size_t at = 0;
         n - at >= BATCH_HEAD_BYTES && batch_head(p + at, n - at, &b) && b.size <= n - at;
         at += b.size) {
        int64_t durable = batch_durable(&b);
        save32(p + at + 17, (int32_t)crc32c(0, p + at + 21, b.size - 21));
        if (b.base >= 0 && durable <= b.base)
            batch_stamp(p + at, b.base, durable < 0 ? 0 : durable, salt());
    }
}

static void put_segment(int64_t base, struct slice s, unsigned flags)
{
    char name[64];
    struct buf b;
    buf_init(&b, FILE_MAX);
    buf_add_slice(&b, s);
    if (flags & SEGMENT_SEAL && b.n)
        seal(b.p, b.n);
    (void)snprintf(name, sizeof name, "t-0/%020lld.log", (long long)base);
    put_file(name, buf_slice(&b));
    buf_free(&b);
}

static void put_checkpoint(struct slice s)
{
    char t[56] = {0};
    memcpy(t, s.p, s.n < sizeof t ? s.n : sizeof t);
    memcpy(t, "TMCP\0\0\0\1", 8);
    save32(t + 48, (int32_t)salt());
    save32(t + 52, (int32_t)crc32c(0, t, 52));
    put_file("t-0/checkpoint", sl(t, sizeof t));
}

static int64_t put_files(struct slice in)
{
    char name[64];
    struct slice part[SEGMENT_PARTS];
    unsigned flags = fuzz_byte(&in), base = fuzz_byte(&in);
    for (int i = 0; i < SEGMENT_PARTS; i++)
        part[i] = fuzz_bytes(&in);
    remove_files(dir);
    (void)snprintf(name, sizeof name, "%s/t-0", dir);
    must(mkdir(name, 0700) == 0, "a folder can be made");
    topics_file();
    put_segment(0, part[0], flags);
    if (base)
        put_segment(base, part[1], flags);
    if (flags & SEGMENT_INDEX)
        put_file("t-0/00000000000000000000.index", part[2]);
    (void)snprintf(name, sizeof name, "t-0/%020u.snapshot", base);
    if (flags & SEGMENT_SNAPSHOT)
        put_file(name, part[3]);
    if (flags & SEGMENT_CHECKPOINT && part[4].p)
        put_checkpoint(part[4]);
    if (flags & SEGMENT_CLEAN)
        put_file("clean", SL("1\n"));
    return base;
}

static int64_t sum(int64_t base)
{
    char path[256];
    struct buf b;
    buf_init(&b, FILE_MAX);
    (void)snprintf(path, sizeof path, "%s/t-0/%020lld.log", dir, (long long)base);
    int64_t v = file_read(path, &b, NULL) == 0 ? crc32c(0, b.p, b.n) : -1;
    buf_free(&b);
    return v;
}

static struct store *open_store(struct err *e)
{
    struct store_opts o = {.dir = dir, .sync = STORE_SYNC_ALWAYS, .sync_threads = 1};
    return store_open(&o, e);
}

static int count(void *arg, int64_t offset, struct slice key, struct slice value, bool null_value)
{
    int64_t *next = arg;
    must(offset >= *next, "offsets go up");
    *next = offset + 1;
    return 0;
}

static void nothing(void *arg, struct plog *p)
{
}

static void take_one(struct plog *p)
{
    struct plog_record v = {.key = SL("k"), .value = SL("v")};
    struct append_result r;
    struct buf b;
    buf_init(&b, 4096);
    batch_build(&b, &v, 1, 1700000000000);
    plog_append(p, b.p, b.n, 1700000000000, &r);
    buf_free(&b);
    must(r.error == APPEND_OK && r.end_offset == plog_end(p), "a record is taken");
    while (plog_durable_end(p) < r.end_offset && !plog_failed(p)) {
        struct pollfd pfd = {store_event_fd(p->s), POLLIN, 0};
        (void)poll(&pfd, 1, 1000);
        store_poll(p->s, nothing, NULL);
    }
    int64_t next = r.base_offset;
    must(plog_each(p, r.base_offset, count, &next) == 0 && next == r.end_offset,
         "and is read back");
}

static int look(void *arg, int64_t offset, struct slice key, struct slice value, bool null_value)
{
    uint32_t *sum_of = arg; /* every byte is looked at, so that ASan sees it */
    *sum_of =
        crc32c(*sum_of, key.n ? key.p : "", key.n) + crc32c(0, value.n ? value.p : "", value.n);
    return 0;
}

/* A right CRC may stand around records that no client may send, since the fuzzer seals them itself.
 */
static void read_all(struct plog *p)
{
    uint32_t seen = 0;
    int error = plog_each(p, plog_start(p), look, &seen);
    must(error == 0 || error == -EIO || error == -EBADMSG || error == -EMSGSIZE,
         "what opened can be read, or says what it is");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    if (!dir[0]) {
        (void)snprintf(dir, sizeof dir, "%s/tm-fuzz-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        must(mkdtemp(dir) != NULL, "a folder can be made");
        atexit(at_exit);
    }
    int64_t base = put_files(sl(data, size));
    int64_t first = sum(0), second = sum(base);
    struct store *s = open_store(&e);
    if (!s) {
        must(e.msg[0] && e.hint[0], "a refusal has a reason and a hint");
        must(sum(base) == second, "a refusal changes nothing");
        must(sum(0) == first || base, "nor the first segment, if it is not below the log's start");
        return 0;
    }
    struct plog *p = store_topic(s, SL("t"))->parts[0];
    read_all(p);
    take_one(p);
    int64_t start = plog_start(p), end = plog_end(p);
    store_close(s);
    s = open_store(&e);
    must(s != NULL, "what was open can be opened again");
    p = store_topic(s, SL("t"))->parts[0];
    must(plog_start(p) == start && plog_end(p) == end, "it ends where it did");
    store_close(s);
    return 0;
}
