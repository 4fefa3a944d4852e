/* Administration and simple reads that block up to timeout_ms: for the CLI, for start-up, and for
 * the helper pool. Thread-safe: each struct kadmin is used by one thread at a time. Errors carry
 * what the broker said and a hint. */
#pragma once
#include "log/klog.h"

struct kadmin;
struct kadmin *kadmin_new(const struct config *c, struct err *e);
struct kadmin *kadmin_free(struct kadmin *a);
/* Waits until a broker answers. Brokers that refuse the connection are given two seconds, for one
 * that is just being started; those of whom nothing is heard, timeout_ms. -ETIMEDOUT or -EACCES,
 * with the reason of the last attempt. */
int kadmin_reach(struct kadmin *a, int timeout_ms, struct err *e);

struct ktopic_spec {
    const char *name;
    int partitions, replication;       /* replication 0: the broker's default */
    const struct config_prop *configs; /* name, value */
    size_t nconfigs;
};
/* -EEXIST when it exists. -ETIMEDOUT: unreachable. */
int kadmin_create(struct kadmin *a, const struct ktopic_spec *t, int timeout_ms, struct err *e);
int kadmin_delete(struct kadmin *a, const char *topic, int timeout_ms, struct err *e);
int kadmin_grow(struct kadmin *a, const char *topic, int partitions, int timeout_ms, struct err *e);
int kadmin_alter(struct kadmin *a, const char *topic, const struct config_prop *v, size_t n,
                 int timeout_ms, struct err *e); /* the whole set */
struct ktopic_info {
    char *name;
    int partitions, replication;
};
int kadmin_topics(struct kadmin *a, struct ktopic_info **ret, size_t *ret_n, int timeout_ms,
                  struct err *e); /* internal ones too */
void ktopics_free(struct ktopic_info *v, size_t n);
int kadmin_topic(struct kadmin *a, const char *topic, int *ret_partitions, int *ret_replication,
                 int timeout_ms, struct err *e); /* -ENOENT */
/* The effective value of a topic setting, malloced; NULL value when unknown. */
int kadmin_config(struct kadmin *a, const char *topic, const char *name, char **ret, int timeout_ms,
                  struct err *e);
int kadmin_configs(struct kadmin *a, const char *topic, struct config_prop **ret, size_t *ret_n,
                   bool only_set, int timeout_ms, struct err *e);
void kconfigs_free(struct config_prop *v, size_t n);
int kadmin_watermarks(struct kadmin *a, const char *topic, int partition, int64_t *ret_low,
                      int64_t *ret_high, int timeout_ms, struct err *e);
/* First record at or after the time; the high watermark when there is none. */
int kadmin_offset_at(struct kadmin *a, const char *topic, int partition, int64_t unix_ms,
                     int64_t *ret, int timeout_ms, struct err *e);
int kadmin_delete_records(struct kadmin *a, const char *topic, int partition, int64_t before,
                          int timeout_ms, struct err *e);
/* Committed offsets with metadata of a group for the partitions in v (topic and partition are read,
 * the rest is filled). */
int kadmin_committed(struct kadmin *a, const char *group, struct kpart *v, size_t n, int timeout_ms,
                     struct err *e);
void kparts_free(struct kpart *v, size_t n);
/* Group members: calls fn for each, and each of its partitions. `client`: its client id, which is a
 * node's. */
int kadmin_group(struct kadmin *a, const char *group, char **ret_state,
                 void (*fn)(void *arg, const char *member, const char *client, const char *host,
                            const char *topic, int partition),
                 void *arg, int timeout_ms, struct err *e);

/* Reads a partition range in this thread: fn returns non-zero to stop (that value is returned).
 * from -2: begin; to -1: high watermark now. */
int kadmin_read(struct kadmin *a, const char *topic, int partition, int64_t from, int64_t to,
                int (*fn)(void *arg, const struct krec *r), void *arg, int timeout_ms,
                struct err *e);
/* Produces one record and waits for its acknowledgement. */
int kadmin_send(struct kadmin *a, const struct krec *r, int64_t *ret_offset, int *ret_partition,
                int timeout_ms, struct err *e);
