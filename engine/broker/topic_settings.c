/* The table of topic settings, and their check. Threads: pure, any thread.
 *
 * One row a setting: name, default, kind, what DescribeConfigs says about it, and, where the store
 * acts on it, the field of struct topic_conf that it goes to. All others are only kept and given
 * back, so that tools find what they set. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/store_int.h"

#define VALUE_MAX 4096

enum field {
    F_NONE,
    F_SEGMENT_BYTES,
    F_SEGMENT_MS,
    F_RETENTION_MS,
    F_RETENTION_BYTES,
    F_MAX_MESSAGE,
    F_MIN_ISR,
    F_MIN_LAG,
    F_MAX_LAG,
    F_DELETE_RETENTION
};

#define INT  SETTING_INT
#define LONG SETTING_LONG
static const struct topic_setting table[] = {
    {"cleanup.policy", "delete",
     "delete: drop old segments; compact: keep the latest record of each key", SETTING_LIST},
    {"compression.type", "producer", "kept for tools; batches stay as the producer compressed them",
     SETTING_STRING},
    {"delete.retention.ms", "86400000",
     "how long tombstones of a compacted topic stay after they were cleaned first", LONG},
    {"file.delete.delay.ms", "60000", "kept for tools; files are deleted at once", LONG},
    {"flush.messages", "9223372036854775807", "kept for tools; the log's sync mode decides", LONG},
    {"flush.ms", "9223372036854775807", "kept for tools; the log's sync mode decides", LONG},
    {"follower.replication.throttled.replicas", "", "kept for tools; there is one replica",
     SETTING_LIST},
    {"index.interval.bytes", "4096", "kept for tools; an index entry is made each 32 KiB", INT},
    {"leader.replication.throttled.replicas", "", "kept for tools; there is one replica",
     SETTING_LIST},
    {"max.compaction.lag.ms", "9223372036854775807", "the longest a record stays uncompacted",
     LONG},
    {"max.message.bytes", "1048588", "largest record batch taken, in bytes", INT},
    {"message.timestamp.after.max.ms", "9223372036854775807", "kept for tools", LONG},
    {"message.timestamp.before.max.ms", "9223372036854775807", "kept for tools", LONG},
    {"message.timestamp.type", "CreateTime", "CreateTime: the producer's; LogAppendTime: the log's",
     SETTING_STRING},
    {"min.cleanable.dirty.ratio", "0.5", "share of uncompacted bytes at which compaction begins",
     SETTING_DOUBLE},
    {"min.compaction.lag.ms", "0", "the shortest a record stays uncompacted", LONG},
    {"min.insync.replicas", "1", "kept for tools; there is one replica", INT},
    {"preallocate", "false", "kept for tools; files grow as they are written", SETTING_BOOL},
    {"retention.bytes", "-1",
     "bytes of a partition above which the oldest segments go; -1: no bound", LONG},
    {"retention.ms", "604800000", "age at which segments go; -1: never", LONG},
    {"segment.bytes", "1073741824", "size at which a new segment is begun", INT},
    {"segment.index.bytes", "10485760", "kept for tools", INT},
    {"segment.jitter.ms", "0", "kept for tools", LONG},
    {"segment.ms", "604800000", "age at which a new segment is begun", LONG},
    {"unclean.leader.election.enable", "false", "kept for tools; there is one replica",
     SETTING_BOOL},
};

/* Bounds of numbers, and where they go. Rows not named here: 0 and up. */
static const struct bound {
    const char *name;
    int64_t min, max;
    enum field field;
} bounds[] = {
    {"max.message.bytes", 1, 100 << 20, F_MAX_MESSAGE},
    {"min.insync.replicas", 1, INT32_MAX, F_MIN_ISR},
    {"retention.bytes", -1, INT64_MAX, F_RETENTION_BYTES},
    {"retention.ms", -1, INT64_MAX, F_RETENTION_MS},
    {"segment.bytes", 1024, INT32_MAX, F_SEGMENT_BYTES},
    {"segment.ms", 1, INT64_MAX, F_SEGMENT_MS},
    {"max.compaction.lag.ms", 1, INT64_MAX, F_MAX_LAG},
    {"min.compaction.lag.ms", 0, INT64_MAX, F_MIN_LAG},
    {"delete.retention.ms", 0, INT64_MAX, F_DELETE_RETENTION},
    {"segment.index.bytes", 4, INT32_MAX, F_NONE},
};

const struct topic_setting *topic_settings(size_t *ret_n)
{
    *ret_n = sizeof table / sizeof *table;
    return table;
}

static const struct topic_setting *find(struct slice name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (sl_is(name, table[i].name))
            return &table[i];
    return NULL;
}

static int unknown(struct slice name, struct err *e)
{
    const char *names[sizeof table / sizeof *table + 1];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        names[i] = table[i].name;
    names[sizeof table / sizeof *table] = NULL;
    const char *near = err_nearest(name, names);
    char hint[256];
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    else
        snprintf(hint, sizeof hint, "DescribeConfigs lists the settings of a topic");
    return err_set(e, -EINVAL, hint, "there is no topic setting %.*s",
                   (int)(name.n < 200 ? name.n : 200), name.p);
}

static int bad_value(const struct topic_setting *t, struct slice v, const char *want, struct err *e)
{
    return err_set(e, -EINVAL, want, "bad value '%.*s' of %s", (int)(v.n < 200 ? v.n : 200),
                   v.p ? v.p : "", t->name);
}

static void store_number(struct topic_conf *c, enum field f, int64_t v)
{
    int64_t *to[] = {NULL,
                     &c->segment_bytes,
                     &c->segment_ms,
                     &c->retention_ms,
                     &c->retention_bytes,
                     &c->max_message_bytes,
                     &c->min_insync_replicas,
                     &c->min_lag_ms,
                     &c->max_lag_ms,
                     &c->delete_retention_ms};
    if (to[f])
        *to[f] = v;
}

static int number(const struct topic_setting *t, struct slice v, struct topic_conf *c,
                  struct err *e)
{
    struct bound b = {t->name, 0, t->type == SETTING_INT ? INT32_MAX : INT64_MAX, F_NONE};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (strcmp(bounds[i].name, t->name) == 0)
            b = bounds[i];
    char want[96];
    snprintf(want, sizeof want, "a whole number from %lld to %lld", (long long)b.min,
             (long long)b.max);
    int64_t n;
    if (sl_i64(v, &n) < 0 || n < b.min || n > b.max)
        return bad_value(t, v, want, e);
    store_number(c, b.field, n);
    return 0;
}

static int policy(const struct topic_setting *t, struct slice v, struct topic_conf *c,
                  struct err *e)
{
    struct slice part;
    bool compact = false, del = false;
    while (sl_split(&v, ',', &part)) {
        part = sl_trim(part);
        if (sl_is(part, "compact"))
            compact = true;
        else if (sl_is(part, "delete"))
            del = true;
        else
            return bad_value(t, part, "delete, compact, or both with a comma between", e);
    }
    c->compact = compact;
    c->del = del;
    return 0;
}

static int ratio(const struct topic_setting *t, struct slice v, struct topic_conf *c, struct err *e)
{
    char text[64] = "", *end = text;
    double d = 2;
    if (v.n > 0 && v.n < sizeof text && (isdigit((unsigned char)v.p[0]) || v.p[0] == '.')) {
        memcpy(text, v.p, v.n);
        d = strtod(text, &end);
    }
    if (*end || end == text || !(d >= 0 && d <= 1))
        return bad_value(t, v, "a number from 0 to 1", e);
    c->min_dirty_ratio = d; /* the only one of this kind */
    return 0;
}

static int one_of(const struct topic_setting *t, struct slice v, const char *const *words,
                  const char *want, struct err *e)
{
    for (; *words; words++)
        if (sl_is(v, *words))
            return 0;
    return bad_value(t, v, want, e);
}

static int check_value(const struct topic_setting *t, struct slice v, struct topic_conf *c,
                       struct err *e)
{
    static const char *const codecs[] = {"producer", "uncompressed", "gzip", "snappy",
                                         "lz4",      "zstd",         NULL};
    static const char *const times[] = {"CreateTime", "LogAppendTime", NULL};
    static const char *const bools[] = {"true", "false", NULL};
    switch (t->type) {
    case SETTING_INT:
    case SETTING_LONG:
        return number(t, v, c, e);
    case SETTING_BOOL:
        return one_of(t, v, bools, "true or false", e);
    case SETTING_DOUBLE:
        return ratio(t, v, c, e);
    case SETTING_LIST:
        return strcmp(t->name, "cleanup.policy") == 0 ? policy(t, v, c, e) : 0;
    case SETTING_STRING:
        if (strcmp(t->name, "compression.type") == 0)
            return one_of(t, v, codecs, "producer, uncompressed, gzip, snappy, lz4 or zstd", e);
        c->log_append_time = sl_is(v, "LogAppendTime");
        return one_of(t, v, times, "CreateTime or LogAppendTime", e);
    }
    return -EINVAL;
}

int settings_check(const struct slice (*configs)[2], size_t n, int64_t segment_bytes,
                   struct topic_conf *ret, struct err *e)
{
    struct topic_conf c = {0};
    int rc = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table && rc == 0; i++)
        rc = check_value(&table[i], sl_str(table[i].dflt), &c, e);
    c.segment_bytes = segment_bytes;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct topic_setting *t = find(configs[i][0]);
        struct slice v = configs[i][1];
        if (!t)
            rc = unknown(configs[i][0], e);
        else if (!v.p || v.n > VALUE_MAX)
            rc = bad_value(t, sl(NULL, 0), "give a value of 4096 bytes at most", e);
        else
            rc = check_value(t, v, &c, e);
    }
    if (rc == 0)
        *ret = c;
    return rc;
}
