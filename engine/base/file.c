/* Whole-file operations. Blocking; thread-safe. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define CHUNK_BYTES 65536

static const char *hint_for(int code)
{
    switch (code) {
    case -ENOENT:
        return "check the path";
    case -EACCES:
    case -EPERM:
    case -EROFS:
        return "check the owner and the mode of the file and its folders";
    case -ENOSPC:
    case -EDQUOT:
        return "free space on that disk";
    case -EISDIR:
        return "name a file, not a folder";
    case -ENOTDIR:
        return "a part of the path is a file, not a folder";
    case -EMFILE:
    case -ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "check the disk and the path";
    }
}

static int fail(struct err *e, int code, const char *what, const char *path)
{
    return err_set(e, code, hint_for(code), "cannot %s %s: %s", what, path, strerror(-code));
}

int fd_write_all(int fd, struct slice s)
{
    while (s.n) {
        ssize_t r = write(fd, s.p, s.n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        s = sl_from(s, (size_t)r);
    }
    return 0;
}

static int read_all(int fd, struct buf *b)
{
    for (;;) {
        size_t left = b->max - b->n, room = left < CHUNK_BYTES ? left : CHUNK_BYTES;
        char one;
        char *p = room ? buf_reserve(b, room) : &one; /* full: one more byte means too large */
        if (!p)
            return buf_error(b);
        ssize_t r = read(fd, p, room ? room : 1);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return 0;
        if (!room)
            return -EFBIG;
        buf_commit(b, (size_t)r);
    }
}

int file_read(const char *path, struct buf *b, struct err *e)
{
    if (buf_error(b))
        return fail(e, buf_error(b), "read", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(e, -errno, "open", path);
    size_t before = b->n;
    int rc = read_all(fd, b);
    close(fd);
    if (!rc)
        return 0;
    if (!buf_error(b) && b->p) {
        b->n = before;
        b->p[before] = 0;
    }
    if (rc == -EFBIG)
        return err_set(e, rc, "use a smaller file", "%s is larger than %zu bytes", path, b->max);
    return fail(e, rc, "read", path);
}

static int sync_folder(const char *path)
{
    char *folder = sl_dup(sl_str(path));
    if (!folder)
        return -ENOMEM;
    char *cut = strrchr(folder, '/');
    if (cut)
        cut[cut == folder ? 1 : 0] = 0;
    int fd = open(cut ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) ? -errno : 0;
    close(fd);
    return rc;
}

static int write_synced(const char *path, struct slice s)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = fd_write_all(fd, s);
    if (!rc && fsync(fd))
        rc = -errno;
    if (close(fd) && !rc)
        rc = -errno;
    return rc;
}

int file_write_atomic(const char *path, struct slice s, struct err *e)
{
    char *tmp = NULL;
    /* In the same folder, because a rename does not cross file systems; random, because two may
     * write at once. */
    if (asprintf(&tmp, "%s.%016llx.tmp", path, (unsigned long long)random_u64()) < 0)
        return fail(e, -ENOMEM, "write", path);
    int rc = write_synced(tmp, s);
    if (!rc && rename(tmp, path))
        rc = -errno;
    if (rc)
        unlink(tmp);
    else
        rc = sync_folder(path);
    free(tmp);
    return rc ? fail(e, rc, "write", path) : 0;
}

static int make_one(const char *path)
{
    if (mkdir(path, 0700) == 0)
        return 0;
    int rc = -errno;
    struct stat st;
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    return rc;
}

int dir_make(const char *path, struct err *e)
{
    char *p = sl_dup(sl_str(path));
    if (!p)
        return fail(e, -ENOMEM, "make the folder", path);
    int rc = p[0] ? 0 : -ENOENT;
    for (char *q = p + (p[0] == '/'); !rc && *q; q++) {
        if (*q != '/')
            continue;
        *q = 0;
        rc = make_one(p);
        *q = '/';
    }
    if (!rc)
        rc = make_one(p);
    free(p);
    return rc ? fail(e, rc, "make the folder", path) : 0;
}
