/* The store as a whole: opening, closing, ticking, producer ids. Owning thread: the broker's.
 *
 * The data folder holds: lock (flock: one process at a time), topics.json (topic_meta.c), clean
 * (there only between a clean stop and the next start), NAME-N per partition (segment.c),
 * .deleted-* (being removed). Opening: lock, topics, recovery of each partition, only then the sync
 * workers; a failure undoes all of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fail.h"
#include "broker/store_int.h"

#define DEFAULT_SEGMENT_BYTES ((int64_t)1 << 30)
#define CHUNK_MAX_BYTES       ((size_t)1 << 20)
#define LOG_NAME_CHARS        24 /* 20 digits and .log */

int store_open_file(struct store *s, const char *path, int flags)
{
    int fd = s->files->open(s->files, path, flags);
    while ((fd == -EMFILE || fd == -ENFILE) && segment_evict(s))
        fd = s->files->open(s->files, path, flags);
    return fd;
}

static int path_of(const struct store *s, const char *name, char path[static 4096], struct err *e)
{
    if (snprintf(path, 4096, "%s/%s", s->dir, name) < 4096)
        return 0;
    return err_set(e, -ENAMETOOLONG, "use a shorter path",
                   "the path of the data folder is too long");
}

static int lock_folder(struct store *s, struct err *e)
{
    char path[4096];
    int rc = path_of(s, "lock", path, e);
    if (rc < 0)
        return rc;
    s->lock_fd = s->files->open(s->files, path, O_RDWR | O_CREAT);
    if (s->lock_fd < 0)
        return err_set(e, s->lock_fd, "check the owner and the mode of the data folder",
                       "cannot open %s: %s", path, strerror(-s->lock_fd));
    rc = s->files->lock(s->files, s->lock_fd);
    if (rc == 0)
        return 0;
    if (rc == -EWOULDBLOCK)
        return err_set(e, -EBUSY, "stop the other process, or choose another data folder",
                       "the data folder %s is in use by another process", s->dir);
    return err_set(e, rc, "use a file system that can lock files", "cannot lock %s: %s", path,
                   strerror(-rc));
}

static int is_segment(void *arg, const char *name)
{
    return strlen(name) == LOG_NAME_CHARS && strspn(name, "0123456789") == LOG_NAME_CHARS - 4 &&
           strcmp(name + LOG_NAME_CHARS - 4, ".log") == 0;
}

/* 1: the entry is a folder with segments in it. */
static int has_segments(void *arg, const char *name)
{
    struct store *s = arg;
    char path[4096];
    if (name[0] == '.' || path_of(s, name, path, NULL) < 0)
        return 0;
    int rc = s->files->list(s->files, path, is_segment, NULL);
    return rc == -ENOTDIR || rc == -ELOOP ? 0 : rc;
}

/* A folder with partitions but without the list of topics has lost it: beginning anew would hide
 * the records. */
static int begin_anew(struct store *s, struct err *e)
{
    int rc = s->files->list(s->files, s->dir, has_segments, s);
    if (rc < 0)
        return err_set(e, rc, "check the mode of the data folder", "cannot read %s: %s", s->dir,
                       strerror(-rc));
    if (rc > 0)
        return err_set(e, -EBADMSG,
                       "restore topics.json from a backup, or choose another data folder",
                       "%s holds partitions but no topics.json", s->dir);
    rc = fo_sync_parents(s->files, s->dir);
    if (rc < 0)
        return err_set(e, rc, "check the disk", "cannot sync the folders above %s: %s", s->dir,
                       strerror(-rc));
    return meta_save(s, 0, NULL, e);
}

static int take_clean_marker(struct store *s, struct err *e)
{
    char path[4096];
    int rc = path_of(s, "clean", path, e);
    if (rc < 0)
        return rc;
    rc = s->files->unlink(s->files, path);
    s->clean = rc == 0;
    if (!s->clean && rc != -ENOENT)
        return err_set(e, rc, "check the mode of the data folder", "cannot delete %s: %s", path,
                       strerror(-rc));
    /* Without one as well: a process that was killed may have deleted it, or named topics.json, and
     * not come to the sync. */
    rc = fo_sync_folder(s->files, s->dir, SYNC_FOUND_TOPICS);
    return rc < 0 ? err_set(e, rc, "check the disk", "cannot sync %s: %s", s->dir, strerror(-rc))
                  : 0;
}

/* What a crash left half deleted. */
static int note_gone(void *arg, const char *name)
{
    struct store *s = arg;
    if (sl_starts(sl_str(name), SL(DELETED_PREFIX)))
        return gone_add(s, name);
    size_t n = strlen(name);
    char path[4096];
    if (sl_starts(sl_str(name), SL("topics.json.")) && n > 4 && strcmp(name + n - 4, ".tmp") == 0 &&
        path_of(s, name, path, NULL) == 0)
        return s->files->unlink(s->files, path); /* a crash came before the rename */
    return 0;
}

static int find_gone(struct store *s, struct err *e)
{
    int rc = s->files->list(s->files, s->dir, note_gone, s);
    return rc < 0 ? err_set(e, rc, "check the data folder", "cannot read %s: %s", s->dir,
                            strerror(-rc))
                  : 0;
}

static int open_topics(struct store *s, struct err *e)
{
    size_t pos = 0;
    struct topic *t;
    while (store_topic_next(s, &pos, &t)) {
        int n = t->npartitions;
        t->npartitions = 0; /* as many as are open, for whoever frees it */
        t->parts = calloc((size_t)n, sizeof *t->parts);
        if (!t->parts)
            return err_set(e, -ENOMEM, "give the process more memory", "no memory for partitions");
        for (int i = 0; i < n; i++) {
            t->parts[i] = plog_open(s, t, i, e);
            if (!t->parts[i])
                return e && e->code ? e->code : -EIO;
            t->npartitions++;
        }
    }
    return 0;
}

static int open_all(struct store *s, struct err *e)
{
    int rc = fo_make_folders(s->files, s->dir);
    if (rc < 0)
        err_set(e, rc, "check the path, and the owner and the mode of the folder above",
                "cannot make the data folder %s: %s", s->dir, strerror(-rc));
    if (rc == 0)
        rc = lock_folder(s, e);
    if (rc == 0)
        rc = find_gone(s, e);
    if (rc == 0) {
        rc = meta_load(s, e);
        if (rc == -ENOENT) {
            err_clear(e);
            rc = begin_anew(s, e);
        }
    }
    if (rc == 0)
        rc = take_clean_marker(s, e);
    if (rc == 0)
        rc = open_topics(s, e);
    if (rc == 0)
        rc = sync_start(s, e);
    if (rc == 0)
        rc = cleaner_start(s, e);
    return rc;
}

static struct store *store_new(const struct store_opts *o)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s || !(s->dir = sl_dup(sl_str(o->dir)))) {
        free(s);
        return NULL;
    }
    s->o = *o;
    s->o.dir = s->dir;
    s->files = o->files ? o->files : fileops_real();
    if (s->o.segment_bytes <= 0)
        s->o.segment_bytes = DEFAULT_SEGMENT_BYTES;
    if (s->o.segment_bytes > SEGMENT_BYTES_MAX)
        s->o.segment_bytes = SEGMENT_BYTES_MAX;
    s->lock_fd = s->event_fd = -1;
    s->verify_left = VERIFY_STORE_BYTES;
    map_init(&s->topics);
    list_init(&s->gone);
    list_init(&s->open_files);
    list_init(&s->announce);
    list_init(&s->todo);
    list_init(&s->done);
    buf_init(&s->scratch, BATCH_UNPACKED_MAX);
    buf_init(&s->chunk, CHUNK_MAX_BYTES);
    buf_init(&s->whole, WHOLE_MAX_BYTES);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->finished, NULL);
    return s;
}

static struct store *store_free(struct store *s)
{
    struct list *n;
    size_t pos = 0;
    struct topic *t;
    cleaner_stop(s);
    while (store_topic_next(s, &pos, &t))
        topic_free(t);
    sync_stop(s);
    map_free(&s->topics);
    while ((n = list_pop(&s->gone)))
        free(LIST_ENTRY(n, struct gone, node));
    buf_free(&s->scratch);
    buf_free(&s->chunk);
    buf_free(&s->whole);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->finished);
    if (s->lock_fd >= 0)
        s->files->close(s->files, s->lock_fd);
    free(s->dir);
    free(s);
    return NULL;
}

struct store *store_open(const struct store_opts *o, struct err *e)
{
    struct err own;
    struct store *s = store_new(o);
    if (!e)
        e = &own;
    err_clear(e);
    if (!s) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the log");
        return NULL;
    }
    int64_t began = clock_boot_ms();
    if (open_all(s, e) < 0)
        return store_free(s);
    log_info(o->log, "log opened", "dir=%s topics=%zu clean=%d took_ms=%lld", log_q(s->dir),
             s->topics.n, s->clean, (long long)(clock_boot_ms() - began));
    return s;
}

struct store *store_close(struct store *s)
{
    if (!s)
        return NULL;
    size_t pos = 0;
    struct topic *t;
    char path[4096];
    bool good = true;
    cleaner_stop(s);
    while (store_topic_next(s, &pos, &t)) {
        for (int i = 0; i < t->npartitions; i++) {
            plog_close(t->parts[i]);
            good &= !t->parts[i]->failed;
        }
    }
    FAILPOINT("log.close");
    int rc = good ? path_of(s, "clean", path, NULL) : -EIO;
    if (rc == 0) /* not synced: without the marker the next start only verifies more */
        rc = fo_write_file(s->files, path, SL("1\n"));
    if (good && rc < 0)
        log_warn(s->o.log, "clean-shutdown marker not written", "error=%s", log_q(strerror(-rc)));
    return store_free(s);
}

void store_tick(struct store *s, int64_t now_ms)
{
    size_t pos = 0;
    struct topic *t;
    while (store_topic_next(s, &pos, &t))
        for (int i = 0; i < t->npartitions; i++)
            plog_tick(t->parts[i], now_ms);
    cleaner_tick(s, now_ms);
    store_delete_some(s);
}

int store_new_producer_id(struct store *s, int64_t *ret)
{
    if (s->next_pid == s->pid_limit) {
        int rc = meta_save(s, s->pid_limit + PRODUCER_ID_BLOCK, NULL, NULL);
        if (rc < 0)
            return rc;
        s->pid_limit += PRODUCER_ID_BLOCK;
    }
    *ret = s->next_pid++;
    return 0;
}
