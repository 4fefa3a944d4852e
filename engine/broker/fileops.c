/* The real table of system calls, and what is made of such calls. Any thread; no state. */
#include "broker/fileops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define CHUNK_BYTES 65536

static int result(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int real_open(struct fileops *o, const char *path, int flags)
{
    return result(open(path, flags | O_CLOEXEC, 0600));
}

static int real_close(struct fileops *o, int fd)
{
    return result(close(fd));
}

static ssize_t real_pread(struct fileops *o, int fd, void *to, size_t n, int64_t at)
{
    ssize_t r = pread(fd, to, n, at);
    return r < 0 ? -errno : r;
}

static ssize_t real_pwrite(struct fileops *o, int fd, const void *p, size_t n, int64_t at)
{
    ssize_t r = pwrite(fd, p, n, at);
    return r < 0 ? -errno : r;
}

static int real_truncate(struct fileops *o, int fd, int64_t size)
{
    return result(ftruncate(fd, size));
}

static int real_datasync(struct fileops *o, int fd, enum sync_point why)
{
    return result(fdatasync(fd));
}

static int real_sync(struct fileops *o, int fd, enum sync_point why)
{
    return result(fsync(fd));
}

static int real_lock(struct fileops *o, int fd)
{
    return result(flock(fd, LOCK_EX | LOCK_NB));
}

static int real_rename(struct fileops *o, const char *from, const char *to)
{
    return result(rename(from, to));
}

static int real_unlink(struct fileops *o, const char *path)
{
    return result(unlink(path));
}

static int real_mkdir(struct fileops *o, const char *path)
{
    return result(mkdir(path, 0700));
}

static int real_rmdir(struct fileops *o, const char *path)
{
    return result(rmdir(path));
}

static int real_size(struct fileops *o, const char *path, int64_t *ret)
{
    struct stat st;
    int rc = result(stat(path, &st));
    if (rc == 0)
        *ret = st.st_size;
    return rc;
}

static int real_list(struct fileops *o, const char *path, int (*each)(void *arg, const char *name),
                     void *arg)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int rc = -errno;
        if (fd >= 0)
            close(fd);
        return rc;
    }
    struct dirent *ent = NULL;
    int rc = 0;
    while (rc == 0 && (errno = 0, ent = readdir(d)))
        if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
            rc = each(arg, ent->d_name);
    if (rc == 0 && !ent && errno)
        rc = -errno;
    closedir(d);
    return rc;
}

struct fileops *fileops_real(void)
{
    static struct fileops real = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pwrite = real_pwrite,
        .truncate = real_truncate,
        .datasync = real_datasync,
        .sync = real_sync,
        .lock = real_lock,
        .rename = real_rename,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .size = real_size,
        .list = real_list,
    };
    return &real;
}

ssize_t fo_read(struct fileops *o, int fd, void *to, size_t n, int64_t at)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = o->pread(o, fd, (char *)to + done, n - done, at + (int64_t)done);
        if (r == 0)
            break;
        if (r < 0 && r != -EINTR)
            return r;
        done += r > 0 ? (size_t)r : 0;
    }
    return (ssize_t)done;
}

int fo_write(struct fileops *o, int fd, struct slice s, int64_t at, size_t *ret_done)
{
    size_t done = 0;
    ssize_t w = 0;
    while (done < s.n && (w >= 0 || w == -EINTR)) {
        w = o->pwrite(o, fd, s.p + done, s.n - done, at + (int64_t)done);
        if (w == 0)
            w = -ENOSPC;
        done += w > 0 ? (size_t)w : 0;
    }
    if (ret_done)
        *ret_done = done;
    return done < s.n ? (int)w : 0;
}

int fo_sync_folder(struct fileops *o, const char *path, enum sync_point why)
{
    int fd = o->open(o, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    int rc = o->sync(o, fd, why);
    o->close(o, fd);
    return rc;
}

static int read_all(struct fileops *o, int fd, struct buf *b)
{
    for (int64_t at = 0;;) {
        size_t left = b->max - b->n, room = left < CHUNK_BYTES ? left : CHUNK_BYTES;
        char one;
        char *p = room ? buf_reserve(b, room) : &one; /* full: one more byte means too large */
        if (!p)
            return buf_error(b);
        ssize_t r = o->pread(o, fd, p, room ? room : 1, at);
        if (r == -EINTR)
            continue;
        if (r <= 0)
            return (int)r;
        if (!room)
            return -EFBIG;
        buf_commit(b, (size_t)r);
        at += r;
    }
}

int fo_read_file(struct fileops *o, const char *path, struct buf *b)
{
    int fd = o->open(o, path, O_RDONLY);
    if (fd < 0)
        return fd;
    int rc = read_all(o, fd, b);
    o->close(o, fd);
    return rc;
}

int fo_write_file(struct fileops *o, const char *path, struct slice s)
{
    int fd = o->open(o, path, O_WRONLY | O_CREAT | O_TRUNC);
    int rc = fd < 0 ? fd : fo_write(o, fd, s, 0, NULL);
    if (fd >= 0)
        o->close(o, fd);
    if (rc < 0)
        o->unlink(o, path); /* an old one must not be taken for it */
    return rc;
}

static int write_synced(struct fileops *o, const char *path, struct slice s, enum sync_point why)
{
    int fd = o->open(o, path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd < 0)
        return fd;
    int rc = fo_write(o, fd, s, 0, NULL);
    if (rc == 0)
        rc = o->datasync(o, fd, why);
    int closed = o->close(o, fd);
    return rc < 0 ? rc : closed;
}

/* The folder of a path, for the caller to free. */
static char *parent_of(const char *path)
{
    const char *cut = strrchr(path, '/');
    return !cut ? sl_dup(SL(".")) : sl_dup(sl(path, cut == path ? 1 : (size_t)(cut - path)));
}

int fo_replace_file(struct fileops *o, const char *path, struct slice s, enum sync_point why,
                    enum sync_point why_name, bool *ret_unknown)
{
    char *tmp = NULL, *folder = parent_of(path);
    *ret_unknown = false;
    if (!folder || asprintf(&tmp, "%s.%016llx.tmp", path, (unsigned long long)random_u64()) < 0) {
        free(folder);
        return -ENOMEM;
    }
    int rc = write_synced(o, tmp, s, why);
    if (rc == 0)
        rc = o->rename(o, tmp, path);
    if (rc < 0) {
        o->unlink(o, tmp);
    } else {
        rc = fo_sync_folder(o, folder, why_name);
        *ret_unknown = rc < 0;
    }
    free(tmp);
    free(folder);
    return rc;
}

static int make_one(struct fileops *o, const char *path)
{
    int rc = o->mkdir(o, path);
    if (rc != -EEXIST)
        return rc;
    int fd = o->open(o, path, O_RDONLY | O_DIRECTORY);
    if (fd >= 0)
        o->close(o, fd);
    return fd < 0 && fd != -EACCES ? fd : 0; /* what is only passed through need not be read */
}

int fo_make_folders(struct fileops *o, const char *path)
{
    char *p = sl_dup(sl_str(path));
    if (!p)
        return -ENOMEM;
    int rc = p[0] ? 0 : -ENOENT;
    for (char *q = p + (p[0] == '/'); rc == 0 && *q; q++) {
        if (*q != '/')
            continue;
        *q = 0;
        rc = make_one(o, p);
        *q = '/';
    }
    if (rc == 0)
        rc = make_one(o, p);
    free(p);
    return rc;
}

int fo_sync_parents(struct fileops *o, const char *path)
{
    char *p = sl_dup(sl_str(path));
    int rc = p ? 0 : -ENOMEM;
    for (char *cut = p ? strrchr(p, '/') : NULL; rc == 0 && p; cut = strrchr(p, '/')) {
        if (cut)
            cut[cut == p ? 1 : 0] = 0;
        rc = fo_sync_folder(o, cut ? p : ".", SYNC_FOLDERS_ABOVE);
        if (rc == -EACCES || rc == -EPERM) /* whoever may not read it has not made a folder in it */
            rc = 0;
        if (!cut || cut == p)
            break;
    }
    free(p);
    return rc;
}
