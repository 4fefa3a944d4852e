/* The file that names all topics. Owning thread: the broker's.
 *
 * DIR/topics.json, replaced as a whole by rename and synced before a topic change is answered: one
 * line of JSON and one line `crc32c XXXXXXXX` over it and its line feed.
 *   {"version":1,"producerIds":N,"topics":[{"name":..,"id":hex,"partitions":N,"config":{..}},
 * ..],"deleting":[..]} producerIds: all ids from N on were never handed out. A topic exists if and
 * only if it is named under topics. deleting names the topic whose deletion this very version of
 * the file decided: its folders are put aside afterwards, at the next start if a crash comes
 * between. Other folders are nobody's and are never touched. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/js.h"
#include "broker/store_int.h"

#define META_MAX_BYTES ((size_t)64 << 20)
#define CRC_LINE_BYTES 16 /* "crc32c XXXXXXXX\n" */

void settings_free(struct map *config)
{
    size_t pos = 0;
    void *value;
    while (map_next(config, &pos, NULL, &value))
        free(value);
    map_free(config);
}

int config_put(struct map *config, struct slice name, struct slice value)
{
    char *copy = sl_dup(value);
    void *old = NULL;
    if (!copy || map_put(config, name, copy, &old) < 0) {
        free(copy);
        return -ENOMEM;
    }
    free(old);
    return 0;
}

struct topic *topic_new(struct slice name)
{
    struct topic *t = calloc(1, sizeof *t);
    if (!t || !(t->name = sl_dup(name))) {
        free(t);
        return NULL;
    }
    map_init(&t->config);
    return t;
}

struct topic *topic_free(struct topic *t)
{
    if (!t)
        return NULL;
    for (int i = 0; t->parts && i < t->npartitions; i++)
        plog_free(t->parts[i]);
    free(t->parts);
    settings_free(&t->config);
    free(t->name);
    free(t);
    return NULL;
}

static void write_topic(struct buf *b, const struct topic *t)
{
    char id[33];
    size_t pos = 0;
    struct slice name;
    void *value;
    bool first = true;
    hex_write(id, t->id, sizeof t->id);
    buf_adds(b, "{\"name\":");
    js_write_str(b, sl_str(t->name));
    buf_addf(b, ",\"id\":\"%s\",\"partitions\":%d,\"config\":{", id, t->npartitions);
    while (map_next(&t->config, &pos, &name, &value)) {
        if (!first)
            buf_addc(b, ',');
        first = false;
        js_write_str(b, name);
        buf_addc(b, ':');
        js_write_str(b, sl_str(value));
    }
    buf_adds(b, "}}");
}

/* Either version of the list may be found after a crash, so that a record acknowledged from now on
 * might be in a topic that is not there. */
static void store_fail(struct store *s, int code)
{
    size_t pos = 0;
    struct topic *t;
    s->failed = true;
    log_error(s->o.log, "log failed", "at=%s error=%s hint=%s", "topics.json",
              log_q(strerror(-code)),
              log_q("check the disk, then restart; the log serves nothing until then"));
    while (store_topic_next(s, &pos, &t))
        for (int i = 0; t->parts && i < t->npartitions; i++)
            plog_fail(t->parts[i], code, "sync of the list of topics");
}

int meta_save(struct store *s, int64_t pid_limit, const struct topic *without, struct err *e)
{
    struct buf b;
    struct topic *t;
    size_t pos = 0;
    bool first = true;
    char path[4096];
    if (s->failed)
        return err_set(e, -EIO, "check the disk, then restart the log",
                       "the list of topics failed to sync before");
    buf_init(&b, META_MAX_BYTES);
    buf_addf(&b, "{\"version\":1,\"producerIds\":%lld,\"topics\":[", (long long)pid_limit);
    while (store_topic_next(s, &pos, &t)) {
        if (t == without)
            continue;
        if (!first)
            buf_addc(&b, ',');
        first = false;
        write_topic(&b, t);
    }
    buf_adds(&b, "],\"deleting\":[");
    if (without)
        write_topic(&b, without);
    buf_adds(&b, "]}\n");
    buf_addf(&b, "crc32c %08x\n", crc32c(0, b.p, b.n));
    int rc = buf_error(&b);
    if (rc == 0 && snprintf(path, sizeof path, "%s/topics.json", s->dir) >= (int)sizeof path)
        rc = -ENAMETOOLONG;
    FAILPOINT("log.meta.before");
    bool unknown = false;
    if (rc < 0)
        err_set(e, rc, "delete topics that are not needed",
                "the list of topics cannot be written: %s", strerror(-rc));
    else if ((rc = fo_replace_file(s->files, path, buf_slice(&b), SYNC_TOPICS, SYNC_TOPICS_NAME,
                                   &unknown)) < 0)
        err_set(e, rc,
                rc == -ENOSPC || rc == -EDQUOT ? "free space on that disk" : "check the disk",
                "cannot write %s: %s", path, strerror(-rc));
    if (unknown)
        store_fail(s, rc);
    FAILPOINT("log.meta.after");
    buf_free(&b);
    return rc;
}

static int bad_meta(const char *path, const char *why, struct err *e)
{
    return err_set(e, -EBADMSG, "restore the file from a backup of the data folder",
                   "%s is damaged: %s", path, why);
}

static int read_configs(struct json_object *o, struct topic *t, int64_t segment_bytes,
                        struct err *e)
{
    struct slice(*v)[2] = calloc((size_t)json_object_object_length(o) + 1, sizeof *v);
    size_t n = 0;
    int rc = v ? 0 : -ENOMEM;
    if (rc == 0) {
        json_object_object_foreach(o, key, value)
        {
            v[n][0] = sl_str(key);
            v[n][1] = sl_str(json_object_get_string(value));
            n++;
        }
    }
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = config_put(&t->config, v[i][0], v[i][1]);
    if (rc == 0)
        rc = settings_check((const struct slice(*)[2])v, n, segment_bytes, &t->conf, e);
    free(v);
    return rc;
}

static int read_topic(struct store *s, struct json_object *o, const char *path, struct err *e)
{
    const char *name = js_str(o, "name"), *id = js_str(o, "id");
    struct json_object *config = js_get(o, "config");
    int64_t n = js_int(o, "partitions", 0);
    if (!name || !id || !config || n < 1 || n > PARTITIONS_MAX)
        return bad_meta(path, "a topic lacks a member", e);
    struct topic *t = topic_new(sl_str(name));
    int rc = t ? hex_read(sl_str(id), t->id, sizeof t->id) : -ENOMEM;
    if (rc == 0)
        rc = read_configs(config, t, s->o.segment_bytes, e);
    if (rc == 0)
        rc = map_put(&s->topics, sl_str(name), t, NULL);
    if (rc < 0) {
        topic_free(t);
        return rc == -ENOMEM
                   ? err_set(e, rc, "give the process more memory", "no memory for a topic")
                   : bad_meta(path, name, e);
    }
    t->npartitions = (int)n;
    return 0;
}

static int read_all(struct store *s, struct json_object *doc, const char *path, struct err *e)
{
    struct json_object *topics = js_get(doc, "topics");
    int rc = 0;
    s->next_pid = s->pid_limit = js_int(doc, "producerIds", -1);
    if (js_int(doc, "version", 0) != 1)
        return err_set(e, -EBADMSG, "use the version of tidemark that wrote this folder",
                       "%s has a format that this version does not know", path);
    if (s->next_pid < 0 || !json_object_is_type(topics, json_type_array) ||
        !json_object_is_type(js_get(doc, "deleting"), json_type_array))
        return bad_meta(path, "a member is missing", e);
    for (size_t i = 0; i < json_object_array_length(topics) && rc == 0; i++)
        rc = read_topic(s, json_object_array_get_idx(topics, i), path, e);
    struct json_object *gone = js_get(doc, "deleting");
    for (size_t i = 0; rc == 0 && gone && i < json_object_array_length(gone); i++) {
        struct json_object *o = json_object_array_get_idx(gone, i);
        int64_t n = js_int(o, "partitions", 0);
        for (int k = 0; js_str(o, "name") && rc == 0 && k < n; k++)
            rc = store_put_aside(s, js_str(o, "name"), k, e);
    }
    return rc;
}

int meta_load(struct store *s, struct err *e)
{
    char path[4096], crc[CRC_LINE_BYTES + 1];
    struct buf b;
    struct json_object *doc = NULL;
    if (snprintf(path, sizeof path, "%s/topics.json", s->dir) >= (int)sizeof path)
        return err_set(e, -ENAMETOOLONG, "use a shorter path",
                       "the path of the data folder is too long");
    buf_init(&b, META_MAX_BYTES);
    int rc = fo_read_file(s->files, path, &b);
    if (rc < 0)
        err_set(e, rc, "check the disk, and the owner and the mode of the file",
                "cannot read %s: %s", path, strerror(-rc));
    if (rc == 0) {
        struct slice text = sl(b.p, b.n > CRC_LINE_BYTES ? b.n - CRC_LINE_BYTES : 0);
        snprintf(crc, sizeof crc, "crc32c %08x\n", crc32c(0, text.p, text.n));
        if (text.n == 0 || !sl_is(sl_from(buf_slice(&b), text.n), crc))
            rc = bad_meta(path, "the check sum does not match", e);
        else if (js_parse(text, &doc, e) < 0)
            rc = bad_meta(path, "it is no JSON", e);
        else
            rc = read_all(s, doc, path, e);
    }
    json_object_put(doc);
    buf_free(&b);
    return rc;
}
