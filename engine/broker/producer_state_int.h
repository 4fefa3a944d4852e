/* What a partition knows of its idempotent producers: id -> epoch and the last five batches.
 * Folder-private; the broker's thread owns it. */
#pragma once
#include "base/map.h"
#include "base/list.h"
#include "broker/batch_int.h"

#define PRODUCER_BATCHES 5 /* as many as a client may have in flight */
#define PRODUCERS_MAX                                                                              \
    65536 /* of one partition; beyond it the one silent for longest is forgotten */
#define PRODUCER_EXPIRATION_MS ((int64_t)24 * 3600 * 1000)

struct producer_batch {
    int64_t base;
    int32_t first_seq, last_seq;
};
struct producer {
    struct list node; /* producers.old, the one silent for longest first */
    int64_t pid, last_ms;
    int64_t known; /* how many sequence numbers up to the last one are surely in the log */
    int16_t epoch;
    uint8_t n; /* batches; 0: nothing was written yet, any sequence is taken */
    struct producer_batch v[PRODUCER_BATCHES]; /* the newest last */
};
struct producers {
    struct imap by_id;
    struct list old;
};

void producers_init(struct producers *ps);
void producers_free(struct producers *ps);
/* Judges a batch with b->pid >= 0 before it is written. APPEND_OK with *ret_base >= 0: a duplicate
 * that starts at that offset; -1: write it. Makes room beforehand, so that producers_note can't
 * fail after the write. */
enum append_error producers_check(struct producers *ps, const struct batch *b, int64_t now_ms,
                                  int64_t *ret_base, const char **ret_why);
/* The batch is in the log at b->base. Also feeds recovery, which finds only what was accepted
 * before. 0 or -ENOMEM. */
int producers_note(struct producers *ps, const struct batch *b, int64_t now_ms);
void producers_expire(struct producers *ps, int64_t now_ms);
/* The state of all producers at `offset`, and back; -EBADMSG when it is damaged (state is empty
 * then), -ENOMEM. */
int producers_save(const struct producers *ps, int64_t offset, struct buf *b);
int producers_load(struct producers *ps, struct slice text, int64_t *ret_offset);
