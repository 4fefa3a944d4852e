/* Between the two files of recovery. Folder-private; the thread that opens the store. */
#pragma once
#include "broker/store_int.h"

struct recovery {
    struct plog *p;
    int64_t known;    /* the known-durable end so far */
    int64_t snapshot; /* offset of the newest snapshot file, -1: none */
    int64_t now_ms;
    bool changed;
    struct buf window; /* bytes of the segment under way */
    int64_t window_at;
};

/* Reads a whole segment of `size` bytes and notes its batches up to the first that is not good;
 * *ret_good is where. Raises r->known by what the good ones state. 0 or negative errno of reading.
 */
int recover_verify(struct recovery *r, struct segment *g, int64_t size, int64_t *ret_good);
/* Raises r->known by all good batches from pos on whose offsets are not below `offset`, whatever
 * lies between them. Stops when known exceeds offset. */
int recover_statements(struct recovery *r, struct segment *g, int64_t pos, int64_t offset);
/* The number in NAME of NAME.SUFFIX, or -1. */
int64_t recover_name(const char *name, const char *suffix);
/* recover_swap.c: undoes or finishes what the cleaner was at. */
int recover_swaps(struct plog *p, struct err *e);
/* The producers at p->end: the newest snapshot that fits, and the batches behind it. */
int recover_producers(struct recovery *r);
