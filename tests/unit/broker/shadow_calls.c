/* The table of shadow.h: the calls on the live state, counting, freezing, gate, faults. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shadow_int.h"

static struct shadow *of(struct fileops *o)
{
    return (struct shadow *)o;
}

/* Before a call: counts and freezes (calls of the test's thread that change something), and says
 * whether it is to fail. Under the lock. */
static int begin(struct shadow *sh, const char *call, const char *path, bool changes)
{
    if (changes && pthread_equal(pthread_self(), sh->test) && ++sh->calls == sh->freeze_at)
        sh->frozen = disk_copy(sh);
    if (sh->fail_in == 0 || --sh->fail_in > 0)
        return 0;
    if (sh->fail_forever)
        sh->fail_in = 1;
    if (!sh->failed)
        snprintf(sh->failed_call, sizeof sh->failed_call, "%s %s", call, path ? path : "");
    sh->failed = true;
    return sh->fail_code;
}

/* The node of a path, or its folder and last name. */
static int walk(struct shadow *sh, const char *path, struct shadow_node **ret_folder,
                struct name **ret, char last[static 256])
{
    struct slice rest = sl_str(path), part;
    struct shadow_node *at = sh->root;
    *ret_folder = NULL;
    *ret = NULL;
    last[0] = 0;
    while (sl_split(&rest, '/', &part)) {
        if (part.n == 0)
            continue;
        if (last[0]) {
            if (!*ret)
                return -ENOENT;
            at = (*ret)->node;
        }
        if (!at->folder)
            return -ENOTDIR;
        if (part.n > 255)
            return -ENAMETOOLONG;
        snprintf(last, 256, "%.*s", SL_ARG(part));
        *ret_folder = at;
        *ret = names_find(&at->live_names, last);
    }
    return 0;
}

static struct shadow_node *node_at(struct shadow *sh, int fd)
{
    fd -= FD_BASE;
    return fd >= 0 && fd < SHADOW_FDS ? sh->fds[fd] : NULL;
}

static int64_t used(const struct shadow_node *n)
{
    int64_t sum = (int64_t)n->live.n;
    for (size_t i = 0; i < n->live_names.n; i++)
        sum += used(n->live_names.v[i].node);
    return sum;
}

static int64_t room(struct shadow *sh)
{
    int64_t left = sh->space < 0 ? INT64_MAX : sh->space - used(sh->root);
    return left < 0 ? 0 : left;
}

static void link_node(struct shadow *sh, struct shadow_node *folder, const char *name,
                      struct shadow_node *n)
{
    names_put(&folder->live_names, name, n);
    change_add(sh, folder, (struct change){CHANGE_LINK, .name = strdup(name), .node = n});
}

static void resize(struct shadow *sh, struct shadow_node *n, size_t size)
{
    if (size == n->live.n)
        return;
    bytes_resize(&n->live, size);
    change_add(sh, n, (struct change){CHANGE_SIZE, .at = size});
}

static int open_node(struct shadow *sh, const char *path, int flags, struct shadow_node **ret)
{
    struct shadow_node *folder;
    struct name *name;
    char last[256];
    int rc = walk(sh, path, &folder, &name, last);
    if (rc < 0)
        return rc;
    struct shadow_node *n = name ? name->node : last[0] ? NULL : sh->root;
    if (n && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (!n && !(flags & O_CREAT))
        return -ENOENT;
    if (n && n->folder != !!(flags & O_DIRECTORY))
        return n->folder ? -EISDIR : -ENOTDIR;
    if (!n) {
        if (room(sh) == 0)
            return -ENOSPC;
        n = node_new(sh, false);
        link_node(sh, folder, last, n);
    } else if (flags & O_TRUNC) {
        resize(sh, n, 0);
    }
    *ret = n;
    return 0;
}

static int sh_open(struct fileops *o, const char *path, int flags)
{
    struct shadow *sh = of(o);
    struct shadow_node *n = NULL;
    int fd = 0;
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, "open", path, flags & (O_CREAT | O_TRUNC));
    if (rc == 0 && sh->fd_limit && sh->nfds >= sh->fd_limit)
        rc = -EMFILE;
    if (rc == 0)
        rc = open_node(sh, path, flags, &n);
    while (rc == 0 && sh->fds[fd])
        rc = ++fd < SHADOW_FDS ? 0 : -EMFILE;
    if (rc == 0) {
        sh->fds[fd] = n;
        sh->nfds++;
        rc = FD_BASE + fd;
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_close(struct fileops *o, int fd)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *n = node_at(sh, fd);
    int rc = n ? begin(sh, "close", NULL, false) : -EBADF;
    if (n) { /* a close that fails has closed */
        sh->fds[fd - FD_BASE] = NULL;
        sh->nfds--;
        if (n->locked_by == fd)
            n->locked_by = 0;
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

/* Cuts n and sometimes interrupts. */
static int chop(struct shadow *sh, size_t *n)
{
    if (!sh->choppy || *n == 0)
        return 0;
    if (rand_r(&sh->choppy) % 4 == 0)
        return -EINTR;
    if (rand_r(&sh->choppy) % 2)
        *n = 1 + (size_t)rand_r(&sh->choppy) % *n;
    return 0;
}

static ssize_t sh_pread(struct fileops *o, int fd, void *to, size_t n, int64_t at)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *node = node_at(sh, fd);
    ssize_t rc = node ? begin(sh, "pread", NULL, false) : -EBADF;
    if (rc == 0)
        rc = chop(sh, &n);
    if (rc == 0 && (size_t)at < node->live.n) {
        size_t left = node->live.n - (size_t)at;
        rc = (ssize_t)(n < left ? n : left);
        if (rc)
            memcpy(to, node->live.p + at, (size_t)rc);
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static ssize_t sh_pwrite(struct fileops *o, int fd, const void *p, size_t n, int64_t at)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *node = node_at(sh, fd);
    ssize_t rc = node ? begin(sh, "pwrite", NULL, true) : -EBADF;
    if (rc == 0)
        rc = chop(sh, &n);
    if (rc == 0 && (size_t)at + n > node->live.n) {
        size_t growth = (size_t)at + n - node->live.n, left = (size_t)room(sh);
        if (growth > left)
            n = growth - left < n ? n - (growth - left) : 0;
        rc = n ? 0 : -ENOSPC;
    }
    if (rc == 0) {
        char *copy = malloc(n);
        bytes_write(&node->live, p, n, (size_t)at);
        if (copy)
            memcpy(copy, p, n);
        change_add(sh, node,
                   (struct change){CHANGE_WRITE, .at = (size_t)at, .n = n, .bytes = copy});
        rc = (ssize_t)n;
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_truncate(struct fileops *o, int fd, int64_t size)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *n = node_at(sh, fd);
    int rc = n ? begin(sh, "truncate", NULL, true) : -EBADF;
    if (rc == 0)
        resize(sh, n, (size_t)size);
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static void pass_gate(struct shadow *sh)
{
    sh->waiting++;
    while (!sh->open_gate && sh->tickets == 0)
        pthread_cond_wait(&sh->moved, &sh->lock);
    sh->waiting--;
    if (!sh->open_gate)
        sh->tickets--;
}

static int sync_node(struct fileops *o, int fd, enum sync_point why, const char *call, bool folder)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *n = node_at(sh, fd);
    /* Only what came before the call is promised. */
    uint64_t seq = n && n->nchanges ? n->changes[n->nchanges - 1].seq : 0;
    if (!pthread_equal(pthread_self(), sh->test))
        pass_gate(sh);
    int rc = !n ? -EBADF : n->folder != folder ? -EINVAL : begin(sh, call, NULL, true);
    if (rc == 0 && (int)why == sh->sync_fault) {
        rc = sh->sync_code;
        sh->sync_fault = -1;
        sh->failed = true;
    }
    if (n && (int)why != sh->left_out)
        node_settle(n, seq, rc < 0);
    sh->passed++;
    pthread_cond_broadcast(&sh->moved);
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_datasync(struct fileops *o, int fd, enum sync_point why)
{
    return sync_node(o, fd, why, "datasync", false);
}

static int sh_sync(struct fileops *o, int fd, enum sync_point why)
{
    return sync_node(o, fd, why, "sync", true);
}

static int sh_lock(struct fileops *o, int fd)
{
    struct shadow *sh = of(o);
    pthread_mutex_lock(&sh->lock);
    struct shadow_node *n = node_at(sh, fd);
    int rc = !n ? -EBADF : n->locked_by ? -EWOULDBLOCK : begin(sh, "lock", NULL, false);
    if (rc == 0)
        n->locked_by = fd;
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

/* Within one folder, which is all that the log does. */
static int sh_rename(struct fileops *o, const char *from, const char *to)
{
    struct shadow *sh = of(o);
    struct shadow_node *a, *b;
    struct name *x, *y;
    char last[256], new[256];
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, "rename", from, true);
    if (rc == 0)
        rc = walk(sh, to, &b, &y, new);
    bool taken = rc == 0 && y && y->node->folder;
    if (rc == 0)
        rc = walk(sh, from, &a, &x, last);
    if (rc == 0)
        rc = !x ? -ENOENT : a != b ? -EXDEV : taken ? -EEXIST : 0;
    if (rc == 0) {
        struct change c = {CHANGE_MOVE, .name = strdup(last), .to = strdup(new), .node = x->node};
        change_apply(&c, &a->live_names, NULL);
        change_add(sh, a, c);
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int remove_name(struct fileops *o, const char *path, bool folder)
{
    struct shadow *sh = of(o);
    struct shadow_node *at;
    struct name *x;
    char last[256];
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, folder ? "rmdir" : "unlink", path, true);
    if (rc == 0)
        rc = walk(sh, path, &at, &x, last);
    if (rc == 0)
        rc = !x                           ? -ENOENT
             : x->node->folder != folder  ? (folder ? -ENOTDIR : -EISDIR)
             : x->node->live_names.n != 0 ? -ENOTEMPTY
                                          : 0;
    if (rc == 0) {
        names_del(&at->live_names, last);
        change_add(sh, at, (struct change){CHANGE_UNLINK, .name = strdup(last)});
    }
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_unlink(struct fileops *o, const char *path)
{
    return remove_name(o, path, false);
}

static int sh_rmdir(struct fileops *o, const char *path)
{
    return remove_name(o, path, true);
}

static int sh_mkdir(struct fileops *o, const char *path)
{
    struct shadow *sh = of(o);
    struct shadow_node *at;
    struct name *x;
    char last[256];
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, "mkdir", path, true);
    if (rc == 0)
        rc = walk(sh, path, &at, &x, last);
    if (rc == 0)
        rc = x || !last[0] ? -EEXIST : room(sh) == 0 ? -ENOSPC : 0;
    if (rc == 0)
        link_node(sh, at, last, node_new(sh, true));
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_size(struct fileops *o, const char *path, int64_t *ret)
{
    struct shadow *sh = of(o);
    struct shadow_node *at;
    struct name *x;
    char last[256];
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, "size", path, false);
    if (rc == 0)
        rc = walk(sh, path, &at, &x, last);
    if (rc == 0 && !x)
        rc = -ENOENT;
    if (rc == 0)
        *ret = (int64_t)x->node->live.n;
    pthread_mutex_unlock(&sh->lock);
    return rc;
}

static int sh_list(struct fileops *o, const char *path, int (*each)(void *arg, const char *name),
                   void *arg)
{
    struct shadow *sh = of(o);
    struct shadow_node *at;
    struct name *x;
    char last[256], **v = NULL;
    size_t n = 0;
    pthread_mutex_lock(&sh->lock);
    int rc = begin(sh, "list", path, false);
    if (rc == 0)
        rc = walk(sh, path, &at, &x, last);
    at = rc == 0 && x ? x->node : rc == 0 && !last[0] ? sh->root : NULL;
    if (rc == 0)
        rc = !at ? -ENOENT : !at->folder ? -ENOTDIR : 0;
    if (rc == 0 && (v = calloc(at->live_names.n + 1, sizeof *v)))
        for (; n < at->live_names.n; n++)
            v[n] = strdup(at->live_names.v[n].name);
    pthread_mutex_unlock(&sh->lock);
    for (size_t i = 0; i < n; i++) {
        if (rc == 0)
            rc = each(arg, v[i]);
        free(v[i]);
    }
    free(v);
    return rc;
}

void shadow_table(struct fileops *o)
{
    *o = (struct fileops){sh_open,     sh_close, sh_pread, sh_pwrite, sh_truncate,
                          sh_datasync, sh_sync,  sh_lock,  sh_rename, sh_unlink,
                          sh_mkdir,    sh_rmdir, sh_size,  sh_list};
}

void shadow_adopt(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    sh->test = pthread_self();
    pthread_mutex_unlock(&sh->lock);
}

int64_t shadow_calls(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    int64_t n = sh->calls;
    pthread_mutex_unlock(&sh->lock);
    return n;
}

void shadow_freeze_at(struct shadow *sh, int64_t n)
{
    pthread_mutex_lock(&sh->lock);
    sh->freeze_at = n;
    pthread_mutex_unlock(&sh->lock);
}

int64_t shadow_freeze_left(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    int64_t n = sh->freeze_at > sh->calls ? sh->freeze_at - sh->calls : 1;
    pthread_mutex_unlock(&sh->lock);
    return n;
}

bool shadow_is_frozen(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    bool yes = sh->frozen != NULL;
    pthread_mutex_unlock(&sh->lock);
    return yes;
}

struct shadow *shadow_take_frozen(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    struct shadow *f = sh->frozen;
    sh->frozen = NULL;
    pthread_mutex_unlock(&sh->lock);
    return f;
}

void shadow_leave_out(struct shadow *sh, int point)
{
    pthread_mutex_lock(&sh->lock);
    sh->left_out = point;
    pthread_mutex_unlock(&sh->lock);
}

void shadow_gate(struct shadow *sh, bool open)
{
    pthread_mutex_lock(&sh->lock);
    sh->open_gate = open;
    sh->tickets = 0;
    pthread_cond_broadcast(&sh->moved);
    pthread_mutex_unlock(&sh->lock);
}

void shadow_ticket(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    int64_t before = sh->passed;
    sh->tickets = 1;
    pthread_cond_broadcast(&sh->moved);
    while (sh->passed == before)
        pthread_cond_wait(&sh->moved, &sh->lock);
    pthread_mutex_unlock(&sh->lock);
}

bool shadow_waiting(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    bool yes = sh->waiting > 0;
    pthread_mutex_unlock(&sh->lock);
    return yes;
}

void shadow_fail(struct shadow *sh, int64_t n, int code, bool forever)
{
    pthread_mutex_lock(&sh->lock);
    sh->fail_in = n;
    sh->fail_code = code;
    sh->fail_forever = forever;
    sh->failed = false;
    pthread_mutex_unlock(&sh->lock);
}

bool shadow_failed(struct shadow *sh)
{
    pthread_mutex_lock(&sh->lock);
    bool yes = sh->failed;
    pthread_mutex_unlock(&sh->lock);
    return yes;
}

const char *shadow_failed_call(struct shadow *sh)
{
    return sh->failed_call;
}

void shadow_fail_sync(struct shadow *sh, int point, int code)
{
    pthread_mutex_lock(&sh->lock);
    sh->sync_fault = point;
    sh->sync_code = code;
    sh->failed = false;
    pthread_mutex_unlock(&sh->lock);
}

void shadow_space(struct shadow *sh, int64_t bytes)
{
    pthread_mutex_lock(&sh->lock);
    sh->space = bytes < 0 ? -1 : used(sh->root) + bytes;
    pthread_mutex_unlock(&sh->lock);
}

void shadow_fd_limit(struct shadow *sh, int n)
{
    pthread_mutex_lock(&sh->lock);
    sh->fd_limit = n;
    pthread_mutex_unlock(&sh->lock);
}

void shadow_choppy(struct shadow *sh, unsigned seed)
{
    pthread_mutex_lock(&sh->lock);
    sh->choppy = seed;
    pthread_mutex_unlock(&sh->lock);
}
