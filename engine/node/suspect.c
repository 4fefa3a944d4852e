/* Crash suspects. A page of a file, mapped shared: the run whose step is being computed is noted
 * there, and the note is cleared afterwards. If the process dies in between, the kernel still has
 * the page; the next start counts it. Runs that were merely in flight are not blamed. Layout: slot
 * of 64 bytes with the run being worked on, then SUSPECTS_MAX entries of {run, count}. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/node_int.h"

#define SUSPECTS_MAX 60

struct entry {
    char run[32];
    uint32_t count;
    char unused[28];
};
struct page {
    char now[64];
    struct entry v[SUSPECTS_MAX];
};
struct suspects {
    struct page *page;
    bool any;
};

static void count(struct suspects *s, const char *run, struct log *log)
{
    struct entry *place = &s->page->v[0];
    for (size_t i = 0; i < SUSPECTS_MAX; i++) {
        struct entry *e = &s->page->v[i];
        if (!strncmp(e->run, run, sizeof e->run)) {
            place = e;
            break;
        }
        if (e->count < place->count)
            place = e;
    }
    if (strncmp(place->run, run, sizeof place->run)) {
        memset(place, 0, sizeof *place);
        snprintf(place->run, sizeof place->run, "%.31s", run);
    }
    place->count++;
    log_warn(log, "the process died in the middle of a run's step", "run=%s times=%u", run,
             place->count);
}

struct suspects *suspects_open(const char *dir, struct log *log, struct err *e)
{
    char path[4096];
    struct suspects *s = calloc(1, sizeof *s);
    snprintf(path, sizeof path, "%s/suspects", dir);
    int fd = s ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || ftruncate(fd, sizeof(struct page)) < 0) {
        err_set(e, -errno, "is the data folder writable?", "%s can't be opened: %s", path,
                strerror(errno));
        if (fd >= 0)
            close(fd);
        free(s);
        return NULL;
    }
    s->page = mmap(NULL, sizeof *s->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (s->page == MAP_FAILED) {
        err_set(e, -errno, "is there memory left?", "%s can't be mapped: %s", path,
                strerror(errno));
        free(s);
        return NULL;
    }
    s->page->now[sizeof s->page->now - 1] = 0;
    if (s->page->now[0])
        count(s, s->page->now, log);
    s->page->now[0] = 0;
    for (size_t i = 0; i < SUSPECTS_MAX; i++)
        s->any = s->any || s->page->v[i].count;
    return s;
}

struct suspects *suspects_close(struct suspects *s)
{
    if (s) {
        munmap(s->page, sizeof *s->page);
        free(s);
    }
    return NULL;
}

void suspects_note(struct suspects *s, const char *run)
{
    if (run)
        memcpy(s->page->now + 1, run + 1, RUN_ID_LEN);
    /* The first byte last: a note is there or not. */
    *(volatile char *)s->page->now = run ? run[0] : 0;
}

int suspects_crashes(const struct suspects *s, const char *run)
{
    for (size_t i = 0; s->any && i < SUSPECTS_MAX; i++)
        if (!strncmp(s->page->v[i].run, run, sizeof s->page->v[i].run))
            return (int)s->page->v[i].count;
    return 0;
}
