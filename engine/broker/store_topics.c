/* Topics: creating, growing, configuring, deleting. Owning thread: the broker's.
 *
 * Order of a creation: folders, sync, then topics.json, which alone makes the topic exist. Order of
 * a deletion: topics.json (it names what is being deleted), then the folders are renamed to
 * .deleted-*, whose files are removed a few at a time by the tick. A failure before topics.json was
 * written leaves everything as it was. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/hash.h"
#include "broker/store_int.h"

#define NAME_MAX_CHARS 249
#define DELETE_FILES   8 /* in one tick: removing a large file takes the file system a while */

static int no_memory(struct err *e)
{
    return err_set(e, -ENOMEM, "give the process more memory", "no memory for a topic");
}

static int check_name(struct slice name, struct err *e)
{
    bool good = name.n >= 1 && name.n <= NAME_MAX_CHARS && !sl_is(name, ".") && !sl_is(name, "..");
    for (size_t i = 0; i < name.n && good; i++)
        good = isalnum((unsigned char)name.p[i]) || (name.p[i] && strchr("._-", name.p[i]));
    return good ? 0
                : err_set(e, -EINVAL,
                          "use 1 to 249 of the letters a-z A-Z 0-9 . _ - ; not . or .. alone",
                          "bad topic name '%.*s'", (int)(name.n < 300 ? name.n : 300),
                          name.p ? name.p : "");
}

static int check_count(int n, struct err *e)
{
    return n >= 1 && n <= PARTITIONS_MAX ? 0
                                         : err_set(e, -EINVAL, "use 1 to 10000 partitions",
                                                   "bad number of partitions: %d", n);
}

struct topic *store_topic(struct store *s, struct slice name)
{
    return map_get(&s->topics, name);
}

bool store_topic_next(struct store *s, size_t *pos, struct topic **ret)
{
    void *v;
    if (!map_next(&s->topics, pos, NULL, &v))
        return false;
    *ret = v;
    return true;
}

static char *folder(const struct store *s, const char *name, int index)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s-%d", s->dir, name, index) < 0 ? NULL : path;
}

int gone_add(struct store *s, const char *name)
{
    struct gone *g = calloc(1, sizeof *g);
    if (!g)
        return -ENOMEM;
    list_init(&g->node);
    if (snprintf(g->name, sizeof g->name, "%s", name) >= (int)sizeof g->name) {
        free(g); /* none of ours */
        return 0;
    }
    list_push(&s->gone, &g->node);
    return 0;
}

int store_put_aside(struct store *s, const char *name, int index, struct err *e)
{
    char to[sizeof DELETED_PREFIX + 17] = DELETED_PREFIX;
    hex_u64(to + strlen(to), random_u64());
    char *from = folder(s, name, index), *path = NULL;
    int rc = from && asprintf(&path, "%s/%s", s->dir, to) >= 0 ? 0 : -ENOMEM;
    if (rc == 0)
        rc = s->files->rename(s->files, from, path);
    if (rc == 0)
        rc = gone_add(s, to);
    free(from);
    free(path);
    if (rc == 0 || rc == -ENOENT)
        return 0;
    return err_set(e, rc, "check the data folder", "cannot rename the folder of %s-%d: %s", name,
                   index, strerror(-rc));
}

struct removal {
    struct store *s;
    const char *folder;
    int left; /* files that may still be removed in this tick */
};

/* 1: enough for now. */
static int remove_file(void *arg, const char *name)
{
    struct removal *r = arg;
    char *path = NULL;
    if (r->left == 0)
        return 1;
    r->left--;
    int rc = asprintf(&path, "%s/%s", r->folder, name) < 0 ? -ENOMEM
                                                           : r->s->files->unlink(r->s->files, path);
    free(path);
    return rc;
}

/* Removes some files of a folder, then the folder. 1: it is gone. */
static int remove_some(struct removal *r)
{
    struct fileops *o = r->s->files;
    int rc = o->list(o, r->folder, remove_file, r);
    if (rc == 0)
        rc = o->rmdir(o, r->folder);
    else if (rc > 0)
        return 0;
    return rc == 0 || rc == -ENOENT ? 1 : rc;
}

void store_delete_some(struct store *s)
{
    struct removal r = {.s = s, .left = DELETE_FILES};
    while (r.left > 0 && !list_empty(&s->gone)) {
        struct gone *g = LIST_ENTRY(s->gone.next, struct gone, node);
        char path[4096];
        int rc = snprintf(path, sizeof path, "%s/%s", s->dir, g->name) < (int)sizeof path
                     ? 0
                     : -ENAMETOOLONG;
        r.folder = path;
        if (rc == 0)
            rc = remove_some(&r);
        if (rc < 0)
            log_warn(s->o.log, "deleted folder not removed, left for the next start",
                     "folder=%s error=%s", log_q(g->name), log_q(strerror(-rc)));
        if (rc == 0)
            break; /* enough for now */
        list_del(&g->node);
        free(g);
    }
}

static void remove_folder(struct store *s, const char *name, int index)
{
    if (s->failed)
        return; /* topics.json may name it */
    char *path = folder(s, name, index);
    if (path)
        (void)s->files->rmdir(s->files, path); /* empty: it was made a moment ago */
    free(path);
}

static int make_folder(struct store *s, const char *name, int index, struct err *e)
{
    char *path = folder(s, name, index);
    int rc = path ? 0 : -ENOMEM;
    if (rc == 0)
        rc = s->files->mkdir(s->files, path);
    if (rc == -EEXIST &&
        s->files->rmdir(s->files, path) == 0) /* an earlier creation got no further */
        rc = s->files->mkdir(s->files, path);
    if (rc == -EEXIST)
        rc = err_set(e, -EIO, "move the folder away; it belongs to no topic", "%s is in the way",
                     path);
    else if (rc < 0)
        err_set(e, rc, "check the space and the mode of the data folder",
                "cannot make a folder for %s-%d: %s", name, index, strerror(-rc));
    free(path);
    return rc;
}

/* Takes away the partitions from n on, and their folders. */
static void shrink(struct store *s, struct topic *t, int n)
{
    while (t->npartitions > n) {
        plog_free(t->parts[--t->npartitions]);
        remove_folder(s, t->name, t->npartitions);
    }
}

/* Adds empty partitions up to n, folders synced; on failure all is as before. */
static int add_partitions(struct store *s, struct topic *t, int n, struct err *e)
{
    int before = t->npartitions, rc = 0;
    struct plog **v = realloc(t->parts, (size_t)n * sizeof *v);
    if (!v)
        return no_memory(e);
    t->parts = v;
    while (rc == 0 && t->npartitions < n) {
        rc = make_folder(s, t->name, t->npartitions, e);
        struct err own;
        struct err *pe = e ? e : &own;
        if (rc == 0 && !(v[t->npartitions] = plog_open(s, t, t->npartitions, pe))) {
            rc = pe->code;
            remove_folder(s, t->name, t->npartitions);
        }
        t->npartitions += rc == 0;
    }
    if (rc == 0 && (rc = fo_sync_folder(s->files, s->dir, SYNC_PARTITION_NAMES)) < 0)
        err_set(e, rc, "check the disk", "cannot sync %s: %s", s->dir, strerror(-rc));
    if (rc < 0)
        shrink(s, t, before);
    return rc;
}

static int set_configs(struct map *config, const struct slice (*configs)[2], size_t n)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = config_put(config, configs[i][0], configs[i][1]);
    return rc;
}

int store_topic_create(struct store *s, struct slice name, int npartitions,
                       const struct slice (*configs)[2], size_t nconfigs, struct topic **ret,
                       struct err *e)
{
    int rc = check_name(name, e);
    if (rc == 0)
        rc = check_count(npartitions, e);
    if (rc < 0)
        return rc;
    if (store_topic(s, name))
        return err_set(e, -EEXIST, "choose another name, or use the topic that is there",
                       "topic %.*s exists", SL_ARG(name));
    struct topic *t = topic_new(name);
    if (!t)
        return no_memory(e);
    random_bytes(t->id, sizeof t->id);
    rc = settings_check(configs, nconfigs, s->o.segment_bytes, &t->conf, e);
    if (rc == 0 && (rc = set_configs(&t->config, configs, nconfigs)) < 0)
        no_memory(e);
    if (rc == 0)
        rc = add_partitions(s, t, npartitions, e);
    if (rc == 0 && (rc = map_put(&s->topics, name, t, NULL)) < 0)
        no_memory(e);
    if (rc == 0 && (rc = meta_save(s, s->pid_limit, NULL, e)) < 0)
        map_del(&s->topics, name);
    if (rc < 0) {
        shrink(s, t, 0);
        topic_free(t);
        return rc;
    }
    if (ret)
        *ret = t;
    return 0;
}

int store_topic_delete(struct store *s, struct slice name, struct err *e)
{
    struct topic *t = store_topic(s, name);
    if (!t)
        return err_set(e, -ENOENT, "list the topics to see their names", "there is no topic %.*s",
                       SL_ARG(name));
    int rc = meta_save(s, s->pid_limit, t, e);
    if (rc < 0)
        return rc;
    FAILPOINT("log.topic.delete");
    map_del(&s->topics, sl_str(t->name));
    while (t->npartitions > 0) {
        struct err own;
        plog_free(t->parts[--t->npartitions]);
        if (store_put_aside(s, t->name, t->npartitions, &own) <
            0) /* it is gone for clients all the same */
            log_warn(s->o.log, "folder of a deleted topic is left", "error=%s", log_q(own.msg));
    }
    topic_free(t);
    return 0;
}

int store_topic_grow(struct store *s, struct topic *t, int npartitions, struct err *e)
{
    int before = t->npartitions, rc = check_count(npartitions, e);
    if (rc < 0)
        return rc;
    if (npartitions <= before)
        return err_set(e, -EINVAL, "give a larger number; partitions are never taken away",
                       "topic %s has %d partitions already", t->name, before);
    rc = add_partitions(s, t, npartitions, e);
    if (rc == 0 && (rc = meta_save(s, s->pid_limit, NULL, e)) < 0)
        shrink(s, t, before);
    return rc;
}

int store_topic_configure(struct store *s, struct topic *t, const struct slice (*configs)[2],
                          size_t n, bool dry_run, struct err *e)
{
    struct topic_conf conf;
    struct map config, old = t->config;
    int rc = settings_check(configs, n, s->o.segment_bytes, &conf, e);
    if (rc < 0 || dry_run)
        return rc;
    map_init(&config);
    rc = set_configs(&config, configs, n);
    if (rc < 0) {
        settings_free(&config);
        return no_memory(e);
    }
    t->config = config;
    rc = meta_save(s, s->pid_limit, NULL, e);
    if (rc < 0) {
        t->config = old;
        settings_free(&config);
        return rc;
    }
    t->conf = conf;
    settings_free(&old);
    return 0;
}
