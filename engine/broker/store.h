/* The storage of the embedded log: topics, partitions, segments, syncs. Folder-private.
 *
 * Owning thread: the broker's thread calls everything here; sync workers inside only run fdatasync
 * and report back through an eventfd, and store_poll (broker's thread) publishes what became
 * durable.
 *
 * Invariants: bytes on disk are RecordBatch v2 as on the wire (baseOffset and partitionLeaderEpoch
 * rewritten, both outside the CRC). log_start <= durable_end <= end. Readers see only [log_start,
 * durable_end). An append is acknowledged when durable_end has passed it. After an fdatasync error
 * a partition is failed for good: every later append and read answers -EIO until the process is
 * restarted (a retry of fsync may report success falsely). */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/logger.h"
#include "base/map.h"

struct fileops;
struct store;
struct plog; /* one partition */

enum store_sync { STORE_SYNC_ALWAYS, STORE_SYNC_INTERVAL, STORE_SYNC_NEVER };
struct store_opts {
    const char *dir;
    int64_t segment_bytes; /* default of segment.bytes */
    enum store_sync sync;
    int sync_threads;       /* 0: 2 */
    size_t clean_map_bytes; /* memory for keys while a partition is compacted; 0: 32 MiB */
    int64_t verify_bytes;   /* of a partition, that a start reads of its own accord; 0: see
                               VERIFY_*_BYTES. Never less than what may be torn. */
    struct log *log;
    struct fileops *files; /* NULL: the system's */
};

/* Topic settings that the store acts on; all others are kept as text and given back by
 * DescribeConfigs. */
struct topic_conf {
    int64_t segment_bytes, segment_ms, retention_ms, retention_bytes, max_message_bytes,
        min_insync_replicas, min_lag_ms, max_lag_ms, delete_retention_ms;
    double min_dirty_ratio;
    bool compact, del;    /* cleanup.policy */
    bool log_append_time; /* message.timestamp.type */
};
struct topic {
    char *name;
    uint8_t id[16]; /* random, kept */
    int npartitions;
    struct plog **parts;
    struct map config;      /* name -> char *value: what was set explicitly */
    struct topic_conf conf; /* effective */
    void *user;             /* for the protocol side; not touched by the store */
};

struct store *store_open(const struct store_opts *o,
                         struct err *e);    /* recovery; see segment.c for the rules */
struct store *store_close(struct store *s); /* syncs, writes the clean-shutdown marker */
/* Descriptor to watch for POLLIN; call store_poll when readable. store_poll calls on_durable(arg,
 * plog) for every partition whose durable end moved or which failed. */
int store_event_fd(const struct store *s);
void store_poll(struct store *s, void (*on_durable)(void *arg, struct plog *p), void *arg);
int64_t store_syncs(const struct store *s);
/* Retention, segment age, deletion of files, compaction: call about once a second. now_ms: Unix
 * time. */
void store_tick(struct store *s, int64_t now_ms);
/* What the cleaner has done since the store was opened. */
struct clean_totals {
    int64_t passes, failed, bytes_read, bytes_written, records_dropped;
};
const struct clean_totals *store_clean_totals(const struct store *s);

/* Topic changes are durable when these return 0 (blocking fsync of the metadata file and folders;
 * rare). Names: 1..249 of [a-zA-Z0-9._-], not "." or "..". -EEXIST, -EINVAL (e says what), -ENOENT,
 * -ENOSPC, -EIO. */
int store_topic_create(struct store *s, struct slice name, int npartitions,
                       const struct slice (*configs)[2], size_t nconfigs, struct topic **ret,
                       struct err *e);
int store_topic_delete(struct store *s, struct slice name, struct err *e);
int store_topic_grow(struct store *s, struct topic *t, int npartitions, struct err *e);
/* Replaces the whole set of explicit settings. Unknown names and bad values: -EINVAL and nothing
 * changed. dry_run: only checks. */
int store_topic_configure(struct store *s, struct topic *t, const struct slice (*configs)[2],
                          size_t n, bool dry_run, struct err *e);
struct topic *store_topic(struct store *s, struct slice name);           /* NULL: no such topic */
bool store_topic_next(struct store *s, size_t *pos, struct topic **ret); /* in no order */
/* The table of known settings with default text, for DescribeConfigs. */
struct topic_setting {
    const char *name, *dflt, *doc;
    enum {
        SETTING_BOOL = 1,
        SETTING_STRING = 2,
        SETTING_INT = 3,
        SETTING_LONG = 5,
        SETTING_DOUBLE = 6,
        SETTING_LIST = 7
    } type; /* Kafka's ConfigType numbers */
};
const struct topic_setting *topic_settings(size_t *ret_n);

/* Producer ids, durable before they are handed out (blocks of 1000). */
int store_new_producer_id(struct store *s, int64_t *ret);

/* Appending. `batches` is what a Produce request carried for one partition: one or more whole v2
 * batches. Checked: magic, lengths, CRC, record count and offset deltas (decompressing to count
 * records if compressed), size against max.message.bytes, null keys on compacted topics, producer
 * epoch and sequence. */
enum append_error { /* values are Kafka error codes */
                    APPEND_OK = 0,
                    APPEND_CORRUPT = 2,
                    APPEND_TOO_LARGE = 10,
                    APPEND_OUT_OF_ORDER = 45,
                    APPEND_DUPLICATE_OLD = 46,
                    APPEND_BAD_EPOCH = 47,
                    APPEND_UNSUPPORTED_FORMAT = 43,
                    APPEND_INVALID_RECORD = 87,
                    APPEND_STORAGE = 56,
                    APPEND_INVALID_TIMESTAMP = 32
};
struct append_result {
    enum append_error error;
    const char *why;        /* static text for the error message of Produce v8+ */
    int64_t base_offset;    /* the original one for a duplicate */
    int64_t end_offset;     /* acknowledge when durable_end >= this */
    int64_t append_time_ms; /* -1 unless LogAppendTime */
    bool duplicate;
};
/* The caller's buffer is changed in place (offsets, times). Starts a sync by itself. now_ms: Unix
 * time. */
void plog_append(struct plog *p, char *batches, size_t n, int64_t now_ms, struct append_result *r);
/* Builds one uncompressed batch of records for the broker's own use (offsets topic) into b. */
struct plog_record {
    struct slice key, value;
    bool null_value; /* a tombstone */
};
void batch_build(struct buf *b, const struct plog_record *v, size_t n, int64_t now_ms);

int64_t plog_start(const struct plog *p);
int64_t plog_durable_end(const struct plog *p); /* the high watermark; also the last stable offset
                                                   as long as there are no transactions */
int64_t plog_end(const struct plog *p);
bool plog_failed(const struct plog *p);
struct topic *plog_topic(const struct plog *p);
int plog_index(const struct plog *p);
int64_t plog_size(const struct plog *p); /* bytes on disk */
void **plog_user(struct plog *p);        /* a pointer's place for the protocol side (waiters) */

/* Reads whole batches from the one that holds `offset` on, up to max_bytes and the durable end,
 * appending them to b (the first batch even if it alone exceeds max_bytes, when at_least_one).
 * Returns 0, -ERANGE (offset below start or above the durable end), -EIO. */
int plog_read(struct plog *p, int64_t offset, size_t max_bytes, bool at_least_one, struct buf *b);
/* Bytes readable from offset on, up to `max` (for min_bytes waits). */
size_t plog_readable(struct plog *p, int64_t offset, size_t max);
/* The first record with timestamp >= ms: offset and its timestamp, or offset -1. Exact by reading
 * the batch. */
int plog_by_time(struct plog *p, int64_t ms, int64_t *ret_offset, int64_t *ret_ms);
/* Record with the largest timestamp. */
int plog_max_time(struct plog *p, int64_t *ret_offset, int64_t *ret_ms);
/* DeleteRecords: the new log start, durable when this returns. -ERANGE when above the durable end.
 * -1 means the durable end. */
int plog_delete_to(struct plog *p, int64_t offset, int64_t *ret_start);
/* Calls fn for each record of the partition in [from, durable end): for the coordinator's recovery.
 * Stops when fn returns non-zero. */
int plog_each(struct plog *p, int64_t from,
              int (*fn)(void *arg, int64_t offset, struct slice key, struct slice value,
                        bool null_value),
              void *arg);
