/* Shared by view.c (thread and file), fill.c (records into rows), query.c (questions). */
#pragma once
#include <pthread.h>
#include <sqlite3.h>

#include "base/list.h"
#include "base/map.h"
#include "core/rec.h"
#include "core/state.h"
#include "log/klog.h"
#include "view/spans.h"
#include "view/view.h"

#define VIEW_VERSION  "4" /* of the tables; another one: made anew */
#define VIEW_PATH_MAX 4096

#define FILL_HELD_BYTES (16 << 20) /* of records that wait to be written */

struct place { /* of one partition */
    int64_t next, epoch, low, high;
    uint64_t nonce;
    bool moved;      /* since it was written */
    bool followed;   /* it is kept */
    int64_t lost_ms; /* since when it is not, though the file has it; 0: not noticed */
};

/* ---- vdb.c: the tables ---- */

enum { /* prepared once */
       SQL_INSERT,
       SQL_FIND,
       SQL_UPDATE,
       SQL_SPANS,
       SQL_ORPHAN,
       SQL_ORPHAN_FIND,
       SQL_ORPHAN_CUT,
       SQL_WORDS,
       SQL_FORGET,
       SQL_COUNTS,
       SQL_PLACE,
       SQL_UNPLACE,
       SQL_BEGIN,
       SQL_COMMIT,
       SQL_ROLLBACK,
       SQL_OLD,
       SQL_CUT,
       SQL_COUNT
};
struct vdb {
    sqlite3 *db;
    sqlite3_stmt *v[SQL_COUNT];
    struct map counts; /* struct count: what this transaction changes */
    bool open;         /* a transaction is */
};
/* What is to be written of a run. Slices without p: null. */
struct run_row {
    const char *id;
    int status;         /* -1: as it was */
    int64_t started_ms; /* -1: as it was */
    int64_t last;
    bool ends;                 /* ended_ms and error are new */
    int64_t ended_ms;          /* 0: null */
    struct slice error;        /* its text */
    struct slice words;        /* to be found by; added to those that are there */
    const struct spans *spans; /* where its records are; added to those that are there */
    /* Of its request, for vdb_insert. */
    struct slice agent, version, key, feed, fork_of;
    int partition, priority;
    int64_t first, requested_ms;
};
/* 0; -EPROTO: the file is of no use (not `id`, or damaged): remove it; else -errno. Close it in any
 * case. */
int vdb_open(struct vdb *t, const char *path, const char *id, struct err *e);
void vdb_close(struct vdb *t);
/* 0, or -EIO: damaged, or the disk is full. All but these three want an open transaction. */
int vdb_begin(struct vdb *t); /* there may be one */
int vdb_commit(struct vdb *t);
void vdb_rollback(struct vdb *t);
/* *ret_new false: the run is there, and was left as it is. */
int vdb_insert(struct vdb *t, const struct run_row *x, bool *ret_new);
/* With status -1, started_ms -1 and no words only its spans. Of a run that is not there (its
 * request was cut before this file was made) only where its records are. */
int vdb_update(struct vdb *t, const struct run_row *x);
/* Removes the partition's runs that have ended and whose last fact is below `below`; -1: all. */
int vdb_cut(struct vdb *t, int partition, int64_t below);
int vdb_places(struct vdb *t, struct place *v, int n);
int vdb_place(struct vdb *t, int partition, const struct place *p);
int vdb_unplace(struct vdb *t, int partition);

/* ---- fill.c: records into rows ---- */

struct fill {
    struct vdb db;
    struct place *places;
    int n;            /* partitions */
    struct list rows; /* struct row: what it says of runs, not written yet */
    struct map by_id; /* the same by run */
    int64_t held;     /* bytes of the records in them */
    int64_t fresh;    /* records applied since the transaction began */
};
/* Errors of vdb_open. `journal`: identity of the journal. */
int fill_open(struct fill *f, const char *path, const char *journal, int partitions, struct err *e);
void fill_close(struct fill *f);
/* One record; 0, or -EIO: the file is damaged or the disk is full. */
int fill_record(struct fill *f, const struct krec *k);
/* Writes the offsets and ends the transaction. */
int fill_commit(struct fill *f);
void fill_rollback(struct fill *f); /* places are those of the file again: call fill_places */
int fill_places(struct fill *f);
/* Drops runs that have ended and whose last record is below the log's begin. */
int fill_cut(struct fill *f, int partition, int64_t low);
/* Forgets a partition: its runs and its place. */
int fill_drop(struct fill *f, int partition);

/* ---- view.c ---- */

struct view {
    struct view_opts o;
    struct names names;
    struct log *log;
    char path[VIEW_PATH_MAX];
    int lock_fd;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t wake;
    bool stop;
    struct intset owned;    /* by view_own */
    int64_t told, followed; /* how often it was another one; which of them is followed */
    struct view_progress progress;
};
