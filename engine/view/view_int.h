/* Shared by view.c (thread and file), fill.c (records into rows), query.c (questions). */
#pragma once
#include <pthread.h>
#include <sqlite3.h>

#include "base/list.h"
#include "base/map.h"
#include "core/rec.h"
#include "log/klog.h"
#include "view/view.h"

#define VIEW_VERSION  "1" /* of the tables; another one: made anew */
#define VIEW_PATH_MAX 4096

#define FILL_HELD_BYTES (16 << 20) /* of records that wait to be written */

struct place { /* of one partition */
    int64_t next, epoch, low, high;
    uint64_t nonce;
};
enum { /* statements of the fill, prepared once */
       SQL_INSERT,
       SQL_UPDATE,
       SQL_PLACE,
       SQL_BEGIN,
       SQL_COMMIT,
       SQL_ROLLBACK,
       SQL_CUT,
       SQL_COUNT
};
struct fill {
    sqlite3 *db;
    sqlite3_stmt *v[SQL_COUNT];
    struct place *places;
    int n;                  /* partitions */
    bool open;              /* a transaction is */
    struct list rows;       /* struct row: what it says of runs, not written yet */
    struct map by_id;       /* the same by run */
    int64_t held;           /* bytes of the records in them */
    int64_t records, fresh; /* applied in all; since the transaction began */
};
/* 0; -EPROTO: the file is of no use (another version, journal, or damaged): remove it; else -errno.
 * `journal`: identity of the journal. */
int fill_open(struct fill *f, const char *path, const char *journal, int partitions, struct err *e);
void fill_close(struct fill *f);
/* One record; 0, or -EIO: the file is damaged or the disk is full. */
int fill_record(struct fill *f, const struct krec *k);
/* Writes the offsets and ends the transaction. */
int fill_commit(struct fill *f);
void fill_rollback(struct fill *f); /* places are those of the file again: call fill_places */
int fill_places(struct fill *f);
/* Drops runs whose last record is below the log's begin. */
int fill_cut(struct fill *f, int partition, int64_t low);

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
    struct view_progress progress;
};
