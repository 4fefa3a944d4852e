/* The system calls by which the log touches its files. Folder-private.
 *
 * Everything in this folder that opens, writes, syncs, renames or removes a file goes through one
 * table, which belongs to the store (store_opts.files). The real one calls the system; the tests'
 * one (tests/unit/broker/shadow.h) keeps beside it what a disk would hold after a loss of power,
 * and can make any call fail.
 *
 * What the log relies on, and the tests' table grants no more: a write or a new size is on disk
 * once datasync of that file has returned 0; a name in a folder (made, renamed, removed) once sync
 * of that folder has. Before that it may be there or not, in parts and in any order. After a failed
 * datasync or sync nothing is known of what it should have covered, also when a second one returns
 * 0.
 *
 * Every function returns 0 or more, or a negative errno. Any thread may call them; two calls on one
 * descriptor may overlap. Descriptors are the system's own. */
#pragma once
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Every sync of the log and what it is for: tests/unit/broker/test_power.c leaves out one after the
 * other and wants to see each missed. */
enum sync_point {
    SYNC_RECORDS,         /* records, before they are acknowledged or read */
    SYNC_SEGMENT_NAME,    /* the name of a new segment, before records in it are */
    SYNC_START,           /* a new log start, before DeleteRecords is answered or files go */
    SYNC_FOUND_START,     /* a log start that a start found, before it shows and files go */
    SYNC_CHECKPOINT_NAME, /* the name of the file that it is in */
    SYNC_TOPICS,          /* topics.json, before it gets its name */
    SYNC_TOPICS_NAME,     /* the same, before a topic change or producer ids are answered */
    SYNC_PARTITION_NAMES, /* the folders of new partitions, before topics.json names them */
    SYNC_CLUSTER_ID,      /* the cluster's id, before it gets its name */
    SYNC_CLUSTER_ID_NAME, /* the same, before a client sees it */
    SYNC_FOLDERS_ABOVE,   /* the way down to a new data folder */
    SYNC_FOUND_TOPICS,    /* topics.json as a start found it; that the clean marker is gone */
    SYNC_RECOVERED,       /* records that a start found, before they are read */
    SYNC_RECOVERED_NAMES, /* the names of their segments, and what a start removed */
    SYNC_NEW_START_NAME,  /* the segment of a log that ended below its own start */
    SYNC_LATE_NAME,       /* SYNC_SEGMENT_NAME when records are not synced one by one */
    SYNC_POINTS,
    /* And of a compaction, for tests/unit/broker/test_clean_power.c. */
    SYNC_CLEANED = SYNC_POINTS, /* the new segment, before it gets a name that counts */
    SYNC_SWAP_NAME,             /* that name, before the old segments go */
    SYNC_SWAP_GONE,             /* that they are gone, before the new one takes the place of one */
    SYNC_POINTS_ALL
};

struct fileops {
    /* flags as of open(2), O_CLOEXEC is added; new files get mode 0600. */
    int (*open)(struct fileops *o, const char *path, int flags);
    int (*close)(struct fileops *o, int fd);
    ssize_t (*pread)(struct fileops *o, int fd, void *to, size_t n, int64_t at); /* may be short */
    ssize_t (*pwrite)(struct fileops *o, int fd, const void *p, size_t n, int64_t at); /* as well */
    int (*truncate)(struct fileops *o, int fd, int64_t size);
    int (*datasync)(struct fileops *o, int fd, enum sync_point why); /* contents, size of a file */
    int (*sync)(struct fileops *o, int fd, enum sync_point why);     /* names in a folder */
    int (*lock)(struct fileops *o, int fd); /* against other processes, until close; -EWOULDBLOCK */
    int (*rename)(struct fileops *o, const char *from, const char *to);
    int (*unlink)(struct fileops *o, const char *path);
    int (*mkdir)(struct fileops *o, const char *path); /* mode 0700 */
    int (*rmdir)(struct fileops *o, const char *path);
    int (*size)(struct fileops *o, const char *path, int64_t *ret);
    /* Calls each(arg, name) for every entry but . and .. until it returns non-zero, which is then
     * returned. Follows no link. each may remove the entry that it was given. */
    int (*list)(struct fileops *o, const char *path, int (*each)(void *arg, const char *name),
                void *arg);
};

struct fileops *fileops_real(void);

/* All n bytes, through interruptions and short counts. The count that was read is less than n only
 * at the end of the file. A write that takes nothing: -ENOSPC; *ret_done, when given, is how much
 * was written. */
ssize_t fo_read(struct fileops *o, int fd, void *to, size_t n, int64_t at);
int fo_write(struct fileops *o, int fd, struct slice s, int64_t at, size_t *ret_done);
int fo_sync_folder(struct fileops *o, const char *path, enum sync_point why);
/* Appended to b, whose maximum bounds it (-EFBIG). */
int fo_read_file(struct fileops *o, const char *path, struct buf *b);
/* Not synced. On failure there is no such file. */
int fo_write_file(struct fileops *o, const char *path, struct slice s);
/* Temporary file, datasync (`why`), rename, sync of the folder (`why_name`). *ret_unknown: the
 * rename happened and the sync behind it failed, so that either version may be found after a crash.
 */
int fo_replace_file(struct fileops *o, const char *path, struct slice s, enum sync_point why,
                    enum sync_point why_name, bool *ret_unknown);
int fo_make_folders(struct fileops *o, const char *path); /* with parents; not synced */
/* Syncs all folders above path, so that the names down to it are durable. Those that may not be
 * opened are left out. */
int fo_sync_parents(struct fileops *o, const char *path);
