/* What the files of the storage half share. Folder-private.
 *
 * Owning thread: the broker's thread owns everything; a sync worker touches only the sync_job that
 * was handed to it and the descriptors named there, which stay open while the job is out. */
#pragma once
#include <pthread.h>

#include "base/list.h"
#include "broker/fileops.h"
#include "broker/producer_state_int.h"
#include "broker/store.h"

#define WHOLE_MAX_BYTES      ((size_t)3 << 30)
#define OPEN_FILES_MAX       256 /* segment files kept open that need not be */
#define SYNC_FILES_MAX       8   /* files one sync covers; more go into the next */
#define INDEX_EVERY_BYTES    ((size_t)32 << 10)
#define SEGMENT_BYTES_MAX    ((int64_t)INT32_MAX)
#define PARTITIONS_MAX       10000 /* of one topic */
#define PRODUCER_ID_BLOCK    1000
#define VERIFY_CLEAN_BYTES   ((int64_t)64 << 20) /* of a partition, at a start after a clean stop */
#define VERIFY_UNCLEAN_BYTES ((int64_t)256 << 20) /* else; never less than what may be torn */
#define VERIFY_STORE_BYTES   ((int64_t)1 << 30) /* of all partitions, so that a start stays quick */
#define SCRATCH_KEEP_BYTES   ((size_t)1 << 20)
#define DELETED_PREFIX       ".deleted-"

/* One sparse index entry: the first batch that starts at or after each 32 KiB. */
struct index_entry {
    uint32_t delta, pos;   /* offset - segment base; place of the batch */
    int64_t max_ms_before; /* largest timestamp of all batches before it, so never falling */
};
struct segment {
    struct list lru; /* store.open_files, when fd >= 0 */
    struct plog *p;  /* its partition, which owns it */
    int64_t base, end, size;
    int64_t max_ms,
        max_base; /* largest timestamp and the base offset of the first batch with it; -1: none */
    int64_t first_ms; /* when its first batch was written; -1: empty */
    int fd;           /* -1: not open */
    bool dirty;       /* has bytes that no sync has covered */
    bool unsynced;    /* the same, sealed while syncs were off; nothing waits for one */
    bool in_job;      /* a worker holds fd */
    bool swapping;    /* the cleaner changes its files: neither deleted nor closed */
    bool indexed;     /* idx is complete */
    struct index_entry *idx;
    size_t nidx, capidx;
};

/* A position in the log that is known: offset, and the same in its segment. */
struct logpos {
    int64_t offset, base, pos;
};
struct sync_job {
    struct list node;
    struct plog *p;
    struct segment *files[SYNC_FILES_MAX];
    int64_t sizes[SYNC_FILES_MAX]; /* as of the hand-over */
    int fds[SYNC_FILES_MAX];
    int nfiles;
    int folder_fd;    /* the partition's folder, when it is to be synced too; else -1 */
    struct logpos to; /* what is durable once it succeeded */
    int error;
    bool out;      /* with the workers, or done and not yet collected */
    bool returned; /* done; under store.lock */
};

struct read_hint {
    int64_t offset, base, pos; /* the batch that starts at `offset` lies at pos of segment `base` */
};
#define HINTS 8

struct checkpoint {
    int64_t log_start;
    struct logpos durable;
};

struct plog {
    struct store *s;
    struct topic *t;
    int index;
    char *dir;
    uint32_t salt;
    struct segment *
        *segs; /* ordered by base; the last one is active; none until the first append */
    size_t nsegs, capsegs;
    int64_t start, end;
    int64_t durable_end; /* what readers see */
    struct logpos
        synced;          /* what a sync has covered; the same as durable_end unless syncs are off */
    struct logpos saved; /* in the checkpoint file */
    int64_t saved_start;
    uint64_t ckpt_seq;
    int ckpt_fd;
    bool ckpt_new;     /* the file was made and its folder not yet synced */
    bool start_unsure; /* the start that was read may not have reached the disk */
    int ckpt_slot;     /* which of the two synced slots is written next */
    bool folder_dirty, failed;
    bool announce; /* on_durable is due although no job came back */
    struct list announce_node;
    struct producers producers;
    struct sync_job job;
    struct read_hint hints[HINTS];
    unsigned next_hint;
    int64_t nbytes;         /* of all segments */
    int64_t clean_to;       /* up to here the log was compacted */
    int64_t tombstones_ms;  /* when all tombstones below may go; 0: none that is known of */
    int64_t clean_again_ms; /* not before this time */
    bool clean_more;        /* the last pass could not know all keys */
    void *user;
};

struct gone {
    struct list node;
    char name[32];
};

struct store {
    struct store_opts o;
    struct fileops *files;
    struct cleaner *cleaner;
    char *dir;
    int lock_fd, event_fd;
    struct map topics;
    int64_t next_pid, pid_limit;
    struct list open_files; /* the one unused for longest first */
    size_t nopen;
    struct list announce;
    struct buf scratch, chunk, whole; /* decompression; reading headers; reading whole batches */
    struct list gone;                 /* struct gone: folders to delete, the oldest first */
    bool failed; /* which topics.json is on disk is not known: nothing more is promised */
    int64_t ticks;
    bool clean;          /* the last stop was clean */
    int64_t verify_left; /* bytes that recovery may still read of its own accord */

    pthread_mutex_t lock; /* over todo, done, stopping, job.returned */
    pthread_cond_t work, finished;
    struct list todo, done;
    bool stopping;
    pthread_t *threads;
    int nthreads;
    int64_t syncs; /* atomic */
};

/* store.c */
/* Opens through store.files; when descriptors are out, a segment that can be spared gives its own.
 */
int store_open_file(struct store *s, const char *path, int flags);

/* segment.c */
struct segment *segment_new(struct plog *p, int64_t base);
struct segment *segment_free(struct segment *g); /* closes, does not delete */
char *segment_path(const struct plog *p, int64_t base, const char *suffix);
int segment_open(struct segment *g, bool create); /* 0: g->fd may be used */
void segment_close(struct segment *g);
/* Closes the file unused for longest that can be spared; false: none can. */
bool segment_evict(struct store *s);
int segment_unlink(struct segment *g, const char *suffix); /* 0 also when there is none */
/* Writes at the end. On failure the file is cut back; *ret_broken: that failed too, nothing may be
 * written behind it. */
int segment_write(struct segment *g, const char *bytes, size_t n, bool *ret_broken);
/* A batch stands at `pos`: keeps end, size, index and times. */
void segment_note(struct segment *g, const struct batch *b, int64_t pos, int64_t now_ms);
/* The batch that holds `offset`, or the first behind it. *ret_pos == limit: none below limit. */
int segment_find(struct segment *g, int64_t offset, int64_t limit, int64_t *ret_pos);
int segment_pread(struct segment *g, char *to, size_t n, int64_t pos); /* all n bytes, else -EIO */
/* Walks headers from pos to limit: 1: *b and *ret_pos are set, 0: the end, negative errno. One walk
 * at a time. */
struct segment_walk {
    struct segment *g;
    int64_t pos, limit;
    int64_t chunk_at;
    size_t chunk_n;
};
int segment_next(struct segment_walk *w, struct batch *b, int64_t *ret_pos);
/* Where a search for the first batch with a timestamp of at least ms begins. */
int segment_time_floor(struct segment *g, int64_t ms, int64_t *ret_pos);

/* segment_index.c */
int index_save(struct segment *g);
/* Takes over end, times and index if the file fits this size; -ENOENT, -EBADMSG: none that fits. */
int index_load(struct segment *g, int64_t size, bool entries);
int index_need(struct segment *g); /* loads or rebuilds the entries */
void index_add(struct segment *g, int64_t offset, int64_t pos);
void index_drop(struct segment *g);

/* recover.c */
int plog_recover(struct plog *p, struct err *e);

/* checkpoint.c */
int checkpoint_read(struct plog *p, struct checkpoint *ret, bool *ret_found, struct err *e);
/* From p->start and p->synced; why: a sync_point, or that it may arrive or not. */
#define CHECKPOINT_UNSYNCED (-1)
int checkpoint_write(struct plog *p, int why);

/* Age at which a segment is sealed. */
static inline int64_t segment_age_ms(const struct topic_conf *c)
{
    return c->compact && c->max_lag_ms < c->segment_ms ? c->max_lag_ms : c->segment_ms;
}

/* plog.c */
struct plog *plog_open(struct store *s, struct topic *t, int index, struct err *e);
struct plog *plog_free(struct plog *p); /* waits for its sync; writes nothing */
void plog_close(struct plog *p); /* syncs what is dirty, saves indexes, snapshot, checkpoint */
void plog_fail(struct plog *p, int code, const char *what);
int plog_add_segment(struct plog *p, struct segment *g);
struct segment *plog_active(const struct plog *p);
int64_t plog_limit(const struct plog *p,
                   const struct segment *g); /* bytes of it that readers may see */
int plog_roll(struct plog *p, int64_t base); /* a new active segment */
int plog_set_start(struct plog *p, int64_t start);
void plog_drop_old(struct plog *p); /* deletes segments wholly below the start */
int snapshot_save(struct plog *p);

/* plog_retain.c */
void plog_tick(struct plog *p, int64_t now_ms);

/* cleaner.c */
int cleaner_start(struct store *s, struct err *e);
void cleaner_stop(struct store *s); /* ends what it is at; for close */
void cleaner_tick(struct store *s, int64_t now_ms);
/* Does what the cleaner waits for; false: nothing. */
bool cleaner_collect(struct store *s);
bool cleaner_busy(const struct store *s);
void cleaner_forget(struct plog *p); /* it is not at work on p any more when this returns */
void cleaned_load(struct plog *p);   /* at start: p->clean_to */

/* sync.c */
int sync_start(struct store *s, struct err *e);
void sync_stop(struct store *s);
void sync_request(struct plog *p);  /* something is dirty: makes it visible as the sync mode says */
void sync_push(struct plog *p);     /* hands it to a worker, unless one is at it */
void sync_announce(struct plog *p); /* store_poll will call on_durable */
void sync_wait(struct plog *p);     /* until no job of it is out; the result is collected */
int sync_now(struct plog *p);       /* in this thread; for close and recovery */
void sync_wake(struct store *s);    /* from any thread: store_poll is due */

/* topic_meta.c: the file that names all topics */
int meta_load(struct store *s, struct err *e); /* -ENOENT: none yet */
int meta_save(struct store *s, int64_t pid_limit, const struct topic *without, struct err *e);
struct topic *topic_new(struct slice name);
struct topic *topic_free(struct topic *t); /* its partitions too */
int config_put(struct map *config, struct slice name, struct slice value);
void settings_free(struct map *config);

/* store_topics.c */
/* Renames the folder of a partition out of the way, to be deleted by and by; nothing if there is
 * none. */
int store_put_aside(struct store *s, const char *name, int index, struct err *e);
void store_delete_some(struct store *s); /* a bounded step of that */
int gone_add(struct store *s, const char *name);

/* topic_settings.c */
int settings_check(const struct slice (*configs)[2], size_t n, int64_t segment_bytes,
                   struct topic_conf *ret, struct err *e);
