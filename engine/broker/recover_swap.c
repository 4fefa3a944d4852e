/* What a crash left of the cleaner's work: new segments that were not finished are removed, swaps
 * that were committed are finished. The steps stand in clean_pass.c.
 *
 * Owning thread: the one that opens the store, before the segments are listed. Can be repeated: a
 * crash in the middle of it leaves a state that it takes up again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/clean_int.h"
#include "broker/recover_int.h"

#define SWAPS_MAX 16 /* the cleaner has one at a time */

struct swaps {
    struct plog *p;
    int64_t base[SWAPS_MAX], end[SWAPS_MAX];
    size_t n;
    int64_t *gone; /* bases of segments */
    size_t ngone, cap;
    bool changed;
};

static bool swap_name(const char *name, int64_t *ret_base, int64_t *ret_end)
{
    struct slice s = sl_str(name);
    return s.n == CLEAN_SWAP_NAME_CHARS && name[20] == '-' && strcmp(name + 41, ".swap") == 0 &&
           sl_i64(sl(name, 20), ret_base) == 0 && sl_i64(sl(name + 21, 20), ret_end) == 0 &&
           *ret_base >= 0 && *ret_end > *ret_base;
}

static int see(void *arg, const char *name)
{
    struct swaps *w = arg;
    int64_t base, end;
    if (recover_name(name, "cleaned") >= 0) {
        char *path = segment_path(w->p, recover_name(name, "cleaned"), "cleaned");
        int rc = path ? w->p->s->files->unlink(w->p->s->files, path) : -ENOMEM;
        free(path);
        return rc;
    }
    if (!swap_name(name, &base, &end))
        return 0;
    if (w->n == SWAPS_MAX)
        return -E2BIG;
    w->base[w->n] = base;
    w->end[w->n++] = end;
    return 0;
}

static int see_old(void *arg, const char *name)
{
    struct swaps *w = arg;
    int64_t base = recover_name(name, "log");
    bool gone = false;
    for (size_t i = 0; i < w->n && base >= 0; i++)
        gone |= base > w->base[i] && base < w->end[i];
    if (!gone)
        return 0;
    if (w->ngone == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 16;
        int64_t *v = realloc(w->gone, cap * sizeof *v);
        if (!v)
            return -ENOMEM;
        w->gone = v;
        w->cap = cap;
    }
    w->gone[w->ngone++] = base;
    return 0;
}

static int delete_file(struct plog *p, int64_t base, const char *suffix)
{
    char *path = segment_path(p, base, suffix);
    int rc = path ? p->s->files->unlink(p->s->files, path) : -ENOMEM;
    free(path);
    return rc == -ENOENT ? 0 : rc;
}

static int rename_swap(struct plog *p, int64_t base, int64_t end)
{
    char *from = clean_swap_path(p, base, end), *to = segment_path(p, base, "log");
    int rc = from && to ? p->s->files->rename(p->s->files, from, to) : -ENOMEM;
    free(from);
    free(to);
    return rc;
}

static int finish(struct swaps *w)
{
    struct plog *p = w->p;
    int rc =
        fo_sync_folder(p->s->files, p->dir, SYNC_SWAP_NAME); /* it may be of a killed process */
    for (size_t i = 0; i < w->ngone && rc == 0; i++) {
        rc = delete_file(p, w->gone[i], "log");
        if (rc == 0)
            rc = delete_file(p, w->gone[i], "index");
        if (rc == 0)
            rc = delete_file(p, w->gone[i], "snapshot");
    }
    for (size_t i = 0; i < w->n && rc == 0; i++)
        rc = delete_file(p, w->base[i], "index");
    FAILPOINT("log.recover.swap");
    if (rc == 0)
        rc = fo_sync_folder(p->s->files, p->dir, SYNC_SWAP_GONE);
    for (size_t i = 0; i < w->n && rc == 0; i++)
        rc = rename_swap(p, w->base[i], w->end[i]);
    return rc;
}

int recover_swaps(struct plog *p, struct err *e)
{
    struct swaps w = {.p = p};
    struct fileops *o = p->s->files;
    int rc = o->list(o, p->dir, see, &w);
    if (rc == 0 && w.n)
        rc = o->list(o, p->dir, see_old, &w);
    if (rc == 0 && w.n)
        rc = finish(&w);
    if (rc == 0 && w.n)
        log_info(p->s->o.log, "compaction finished that a crash had interrupted",
                 "topic=%s partition=%d swaps=%zu old_segments=%zu", log_q(p->t->name), p->index,
                 w.n, w.ngone);
    free(w.gone);
    return rc < 0 ? err_set(e, rc, "check the disk, and the owner and the mode of the data folder",
                            "cannot finish the compaction of %s: %s", p->dir, strerror(-rc))
                  : 0;
}
