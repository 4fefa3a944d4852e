/* Loss of power before each system call of a compaction, and in the middle of a start that finishes
 * one: of each key the latest record is there, and the next compaction comes to the same end. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "shadow.h"
#include "store_fixture.h"

SUITE("broker/clean-power")

#define DIR        "/log"
#define IMAGES_MAX 4096
#define SEGMENTS   3

/* A shadow disk's calls, with a copy of what a loss would leave before each that changes it. */
static struct camera {
    struct fileops ops;
    struct shadow *disk;
    struct shadow *images[IMAGES_MAX];
    size_t n;
    bool on;
    unsigned seed;
} cam;

static void shoot(void)
{
    if (!cam.on)
        return;
    for (unsigned how = LOSE_ALL; how <= LOSE_ANY_NAME; how++) {
        NEED(cam.n < IMAGES_MAX);
        cam.images[cam.n++] = shadow_lose_power(cam.disk, (enum loss)how, &cam.seed);
    }
    NEED(cam.n < IMAGES_MAX);
    cam.images[cam.n++] = shadow_kill(cam.disk);
}

static struct fileops *real(void)
{
    return shadow_ops(cam.disk);
}

static int cam_open(struct fileops *o, const char *path, int flags)
{
    shoot();
    return real()->open(real(), path, flags);
}
static int cam_close(struct fileops *o, int fd)
{
    return real()->close(real(), fd);
}
static ssize_t cam_pread(struct fileops *o, int fd, void *to, size_t n, int64_t at)
{
    return real()->pread(real(), fd, to, n, at);
}
static ssize_t cam_pwrite(struct fileops *o, int fd, const void *p, size_t n, int64_t at)
{
    shoot();
    return real()->pwrite(real(), fd, p, n, at);
}
static int cam_truncate(struct fileops *o, int fd, int64_t size)
{
    shoot();
    return real()->truncate(real(), fd, size);
}
static int cam_datasync(struct fileops *o, int fd, enum sync_point why)
{
    shoot();
    return real()->datasync(real(), fd, why);
}
static int cam_sync(struct fileops *o, int fd, enum sync_point why)
{
    shoot();
    return real()->sync(real(), fd, why);
}
static int cam_lock(struct fileops *o, int fd)
{
    return real()->lock(real(), fd);
}
static int cam_rename(struct fileops *o, const char *from, const char *to)
{
    shoot();
    return real()->rename(real(), from, to);
}
static int cam_unlink(struct fileops *o, const char *path)
{
    shoot();
    return real()->unlink(real(), path);
}
static int cam_mkdir(struct fileops *o, const char *path)
{
    return real()->mkdir(real(), path);
}
static int cam_rmdir(struct fileops *o, const char *path)
{
    return real()->rmdir(real(), path);
}
static int cam_size(struct fileops *o, const char *path, int64_t *ret)
{
    return real()->size(real(), path, ret);
}
static int cam_list(struct fileops *o, const char *path, int (*each)(void *arg, const char *name),
                    void *arg)
{
    return real()->list(real(), path, each, arg);
}

static void camera_open(struct shadow *disk)
{
    cam.disk = disk;
    cam.ops = (struct fileops){.open = cam_open,
                               .close = cam_close,
                               .pread = cam_pread,
                               .pwrite = cam_pwrite,
                               .truncate = cam_truncate,
                               .datasync = cam_datasync,
                               .sync = cam_sync,
                               .lock = cam_lock,
                               .rename = cam_rename,
                               .unlink = cam_unlink,
                               .mkdir = cam_mkdir,
                               .rmdir = cam_rmdir,
                               .size = cam_size,
                               .list = cam_list};
    shadow_gate(disk, true);
}

/* NULL when the start is refused. */
static struct store *start(struct fileops *ops)
{
    struct err e = {0};
    struct store_opts o = {.dir = DIR, .sync_threads = 1, .files = ops};
    return store_open(&o, &e);
}

static void put(struct plog *p, const char *key, const char *value)
{
    struct buf b;
    buf_init(&b, 4096);
    batch_build(&b, &(struct plog_record){.key = sl_str(key), .value = sl_str(value)}, 1, T0);
    CHECK_INT(append_bytes(p, &b).error, 0);
    CHECK_INT(sync_now(p), 0);
}

static void nothing(void *arg, struct plog *p)
{
}

static void clean(struct store *s)
{
    store_tick(s, T0);
    while (cleaner_busy(s)) {
        struct pollfd pfd = {store_event_fd(s), POLLIN, 0};
        NEED(poll(&pfd, 1, 60000) == 1);
        store_poll(s, nothing, NULL);
    }
}

/* Some segments of 3 keys; the last value of each: "3". */
static struct plog *fill(struct store *s)
{
    static const struct slice settings[][2] = {
        {{"cleanup.policy", 14}, {"compact", 7}},
        {{"min.cleanable.dirty.ratio", 25}, {"0", 1}},
    };
    struct topic *t = NULL;
    NEED(store_topic_create(s, SL("t"), 1, settings, 2, &t, NULL) == 0);
    struct plog *p = t->parts[0];
    for (int i = 1; i <= SEGMENTS; i++) {
        char value[8];
        snprintf(value, sizeof value, "%d", i);
        put(p, "a", value);
        put(p, "b", value);
        put(p, "c", value);
        CHECK_INT(plog_roll(p, p->end), 0);
        CHECK_INT(sync_now(p), 0);
    }
    put(p, "b", "3"); /* the active segment, which everything before must lead up to */
    return p;
}

static int take(void *arg, int64_t offset, struct slice key, struct slice value, bool null_value)
{
    ((char *)arg)[key.p[0] - 'a'] = value.p[0];
    return 0;
}

/* Is what must be there in it? */
static bool whole(struct store *s)
{
    struct topic *t = s ? store_topic(s, SL("t")) : NULL;
    char seen[4] = "---";
    if (!t || t->parts[0]->end != 3 * SEGMENTS + 1 || t->parts[0]->start != 0)
        return false;
    return plog_each(t->parts[0], 0, take, seen) == 0 && strcmp(seen, "333") == 0;
}

static bool ends_clean(struct store *s)
{
    struct plog *p = store_topic(s, SL("t"))->parts[0];
    p->clean_to = 0;
    clean(s);
    return whole(s) && p->nsegs == 2 && store_clean_totals(s)->failed == 0;
}

/* Is one of the images not what it must be? Frees them. Some are compacted again. */
static bool broken_images(void)
{
    bool broken = false;
    for (size_t i = 0; i < cam.n; i++) {
        if (!broken) {
            shadow_gate(cam.images[i], true);
            struct store *s = start(shadow_ops(cam.images[i]));
            broken = !whole(s) || (i % 8 == 3 && !ends_clean(s));
            store_close(s);
        }
        shadow_free(cam.images[i]);
    }
    cam.n = 0;
    return broken;
}

/* The compaction under the camera with one sync left out. */
static bool broken_without(int point)
{
    camera_open(shadow_new());
    struct store *s = start(&cam.ops);
    NEED(s != NULL);
    fill(s);
    shadow_leave_out(cam.disk, point);
    cam.on = true;
    clean(s);
    shoot();
    cam.on = false;
    CHECK(whole(s));
    store_close(s);
    shadow_free(cam.disk);
    CHECK(cam.n > 50); /* the camera was on */
    return broken_images();
}

TEST(a_loss_of_power_at_any_step_of_a_compaction_loses_nothing)
{
    cam.seed = 1;
    CHECK(!broken_without(-1));
}

TEST(each_sync_of_a_compaction_is_needed)
{
    for (int point = SYNC_CLEANED; point < SYNC_POINTS_ALL; point++) {
        bool broken = false;
        for (unsigned seed = 1; seed <= 20 && !broken; seed++) {
            cam.seed = seed;
            broken = broken_without(point);
        }
        if (!broken)
            CHECK_INT(point, -1); /* nothing is missed without it */
    }
}

/* A start finds a committed swap, and loses power while it finishes it. */
TEST(a_loss_of_power_while_a_start_finishes_a_compaction_loses_nothing)
{
    camera_open(shadow_new());
    struct store *s = start(&cam.ops);
    fill(s);
    cam.on = true;
    clean(s);
    cam.on = false;
    store_close(s);
    shadow_free(cam.disk);
    struct shadow *disks[IMAGES_MAX];
    size_t n = cam.n;
    memcpy(disks, cam.images, n * sizeof *disks);
    cam.n = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 41 != 4) { /* each has a hundred images of its own */
            shadow_free(disks[i]);
            continue;
        }
        camera_open(disks[i]);
        cam.on = true;
        s = start(&cam.ops);
        cam.on = false;
        CHECK(whole(s));
        store_close(s);
        shadow_free(disks[i]);
        CHECK(!broken_images());
    }
}
