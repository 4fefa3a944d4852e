/* Between the files of the cleaner, which compacts partitions whose cleanup.policy has compact in
 * it. Folder-private.
 *
 * Threads: cleaner.c chooses and switches segments in the broker's thread and runs the passes in
 * the cleaner's own; clean_pass.c, clean_filter.c and clean_map.c run in the cleaner's only. A job
 * belongs to the cleaner's thread from the hand-over until it is done; of its partition that thread
 * uses only dir, salt and store, which never change. */
#pragma once
#include "broker/fileops.h"
#include "broker/store_int.h"

#define CLEAN_MAP_BYTES   ((size_t)32 << 20) /* of the key map, unless store_opts says otherwise */
#define CLEAN_GROUP_FILES 64                 /* segments that become one at a time */

struct key_slot;
struct key_map {
    struct key_slot *v;
    size_t cap, room, n;
    uint64_t seed[2];
};
/* As large as keys_at_most keys need, up to bytes_max. 0 or -ENOMEM. */
int key_map_init(struct key_map *m, size_t bytes_max, int64_t keys_at_most);
void key_map_free(struct key_map *m);
/* Offsets of a key come in rising order. False: the map is full and the key not in it. */
bool key_map_put(struct key_map *m, struct slice key, int64_t offset);
int64_t key_map_get(const struct key_map *m, struct slice key); /* -1: not there */
size_t key_map_slot_bytes(void);

struct clean_counts {
    int64_t records, superseded, tombstones, without_key, below_start; /* all but the first: gone */
    int64_t segments_before, segments_after, bytes_before, bytes_after, bytes_read, bytes_written;
};

/* clean_filter.c: what becomes of one batch. */
struct clean_filter {
    const struct key_map *map;
    int64_t start;      /* the log start: what lies below is gone already */
    int64_t map_end;    /* the map knows the records below it */
    int64_t now_ms;     /* Unix time */
    int64_t horizon_ms; /* when tombstones that are seen for the first time may go */
    uint32_t salt;
    const int64_t *kept; /* base offsets of batches that producers may repeat, rising */
    size_t nkept;
    struct buf unpacked, records; /* scratch */
    struct clean_counts n;
    int64_t latest_horizon_ms; /* of the tombstones that stay; 0: none */
};
enum clean_verdict {
    CLEAN_SAME,  /* stays as it is */
    CLEAN_LESS,  /* `out` has what is left, at the same offsets */
    CLEAN_EMPTY, /* `out` has its header, without records */
    CLEAN_NONE   /* nothing is left */
};
/* keep: the batch stays even without records, because it ends a segment. Appends to out. 0,
 * -EBADMSG: damaged, -ENOMEM, -ENOBUFS. */
int clean_batch(struct clean_filter *f, const char *p, const struct batch *b, bool keep,
                struct buf *out, enum clean_verdict *ret);

struct clean_source {
    int64_t base, end, size;
};
/* One pass over one partition. */
struct clean_job {
    struct plog *p;
    struct fileops *files;
    struct clean_source *src; /* all sealed segments that may be cleaned, in order */
    size_t nsrc;
    int64_t dirty_from;  /* what lies below was cleaned before */
    int64_t group_bytes; /* segments are put together up to this size */
    size_t map_bytes;
    int64_t *kept; /* owned; filter.kept */
    struct clean_filter filter;

    /* The group under way: n segments from src[first] become `out`, whose file is out_fd. */
    size_t first, n;
    struct segment *out;
    int out_fd;
    int64_t out_end;

    /* What came of it. cleaned_to is filter.map_end when error is 0. */
    bool more; /* the map was full: another pass goes on behind cleaned_to */
    int error; /* -ECANCELED: told to stop, or its segments have gone */
    const char *at;
    int64_t bad_base, bad_pos; /* where the damage is, with -EBADMSG */
    int64_t began_ms;
};
struct cleaner;
/* clean_pass.c: runs the whole pass; what it has begun and not finished is removed. */
void clean_run(struct cleaner *c, struct clean_job *j);
/* The path of a file that takes the place of segments from BASE to END. */
char *clean_swap_path(const struct plog *p, int64_t base, int64_t end);
#define CLEAN_SWAP_NAME_CHARS 46 /* 20 digits, -, 20 digits, .swap */

/* cleaner.c, called by the pass. */
enum clean_ask {
    ASK_LOCK,   /* is the group still there? From here on it is not deleted. */
    ASK_SWITCH, /* the new segment is the log's from here on; its file still has another name */
    ASK_UNLOCK, /* and now its own; or, with no j->out, the group stays as it is */
    ASK_DONE
};
/* Waits until the broker's thread has done it. 0 or -ECANCELED. */
int cleaner_ask(struct cleaner *c, enum clean_ask what);
/* After some work: rests when others use the log. -ECANCELED when it shall stop. */
int cleaner_breathe(struct cleaner *c);
