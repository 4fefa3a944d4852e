/* Offsets and group metadata as records of __consumer_offsets: see group_store.h.
 *
 * Owning thread: the broker's thread. Records of one group are applied in memory in the order of
 * the log, because the waits of a partition end in that order. */
#include <errno.h>
#include <stdlib.h>

#include "base/fail.h"
#include "broker/group_record.h"
#include "broker/group_store.h"

#define KERR_INVALID_COMMIT_OFFSET_SIZE 28
#define BATCH_MAX                       ((size_t)16 << 20)
#define OFFSETS_SEGMENT_BYTES           "4194304"
#define KEY_MAX                         (249 + 1 + 4)

struct commit {
    struct ack_wait w;
    struct list node; /* gstore.pending */
    struct group *g;  /* kept by commits_pending; NULL: nothing to apply */
    gstore_done *fn;
    void *arg;
    size_t n;
    struct {
        struct group_offset *o; /* owned until it is applied */
        bool drop;
    } v[];
};
struct meta {
    struct ack_wait w;
    int generation;
    char group[];
};

struct groups *gstore_groups(struct broker *b)
{
    groups_clock(&b->gstore->groups, b->now_ms, b->wall_ms);
    return &b->gstore->groups;
}

void gstore_tick(struct broker *b)
{
    groups_tick(gstore_groups(b));
}

void gstore_schedule(struct broker *b)
{
    int64_t next = groups_next_ms(&b->gstore->groups);
    if (next < 0)
        timer_unset(b, &b->group_timer);
    else if (!heap_in(&b->group_timer.node) || b->group_timer.node.key != next)
        timer_set(b, &b->group_timer, next);
}

static struct slice offset_key(char out[static KEY_MAX], struct slice topic, int32_t partition)
{
    size_t n = topic.n > 249 ? 249 : topic.n;
    uint32_t be = htobe32((uint32_t)partition);
    memcpy(out, topic.p, n);
    out[n] = 0;
    memcpy(out + n + 1, &be, 4);
    return sl(out, n + 5);
}

const struct group_offset *gstore_offset(const struct group *g, struct slice topic,
                                         int32_t partition)
{
    char key[KEY_MAX];
    return map_get(&g->offsets, offset_key(key, topic, partition));
}

static struct group_offset *offset_new(const struct offset_commit *c, int64_t time_ms)
{
    struct group_offset *o = calloc(1, sizeof *o + c->topic.n + c->metadata.n + 1);
    if (!o)
        return NULL;
    *o = (struct group_offset){.offset = c->offset,
                               .time_ms = time_ms,
                               .epoch = c->epoch,
                               .partition = c->partition,
                               .ntopic = c->topic.n,
                               .nmetadata = c->metadata.n};
    memcpy(o->text, c->topic.p, c->topic.n);
    if (c->metadata.n)
        memcpy(o->text + c->topic.n, c->metadata.p, c->metadata.n);
    return o;
}

/* Takes `o` over. */
static void apply(struct group *g, struct group_offset *o, bool drop)
{
    char key[KEY_MAX];
    void *old = NULL;
    struct slice k = offset_key(key, offset_topic(o), o->partition);
    if (drop) {
        free(map_del(&g->offsets, k));
        free(o);
        group_forget_later(g);
    } else if (map_put(&g->offsets, k, o, &old) < 0) {
        free(o); /* the log has it: a restart shows it again */
    } else {
        free(old);
    }
}

static void commit_done(struct broker *b, struct ack_wait *w, int16_t err)
{
    struct commit *c = (struct commit *)w;
    FAILPOINT("log.commit.durable");
    list_del(&c->node);
    for (size_t i = 0; i < c->n; i++) {
        if (err)
            free(c->v[i].o);
        else
            apply(c->g, c->v[i].o, c->v[i].drop);
    }
    if (c->g)
        c->g->commits_pending--;
    if (c->fn)
        c->fn(c->arg, err ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_NONE);
    else if (err)
        log_error(b->log, "group records not stored", "error=%d", err);
    free(c);
}

/* A record whose key and value lie in gstore.text, as places because that may move while it grows.
 */
struct place {
    size_t key, value, end;
    bool tombstone;
};

/* Appends the records and begins the wait. A Kafka error when nothing was appended. */
static int16_t append(struct gstore *s, const struct place *v, size_t n, struct ack_wait *w)
{
    struct plog_record *rec = calloc(n, sizeof *rec);
    if (!rec || buf_error(&s->text)) {
        free(rec);
        return KERR_INVALID_COMMIT_OFFSET_SIZE;
    }
    for (size_t i = 0; i < n; i++) {
        rec[i].key = sl(s->text.p + v[i].key, v[i].value - v[i].key);
        rec[i].value = sl(s->text.p + v[i].value, v[i].end - v[i].value);
        rec[i].null_value = v[i].tombstone;
    }
    buf_reset(&s->batch);
    batch_build(&s->batch, rec, n, s->b->wall_ms);
    free(rec);
    if (buf_error(&s->batch))
        return KERR_INVALID_COMMIT_OFFSET_SIZE;
    struct append_result r = {0};
    plog_append(s->log, s->batch.p, s->batch.n, s->b->wall_ms, &r);
    buf_trim(&s->batch, KEEP_BYTES);
    buf_trim(&s->text, KEEP_BYTES);
    if (r.error) {
        log_error(s->b->log, "cannot write group records", "error=%d why=%s", (int)r.error,
                  log_q(r.why ? r.why : ""));
        return r.error == APPEND_TOO_LARGE ? KERR_INVALID_COMMIT_OFFSET_SIZE
                                           : KERR_COORDINATOR_NOT_AVAILABLE;
    }
    FAILPOINT("log.group.appended");
    w->end = r.end_offset;
    if (!wait_ack(s->b, s->log, w))
        w->fn(s->b, w, KERR_NONE);
    return KERR_NONE;
}

static struct place place_offset(struct gstore *s, struct slice group,
                                 const struct offset_commit *c)
{
    struct place p = {.key = s->text.n, .tombstone = c->drop};
    offset_key_write(&s->text, group, c->topic, c->partition);
    p.value = s->text.n;
    if (!c->drop)
        offset_value_write(&s->text, c->offset, c->epoch, c->metadata, s->b->wall_ms);
    p.end = s->text.n;
    return p;
}

static struct commit *commit_new(struct gstore *s, struct group *g, size_t n, gstore_done *fn,
                                 void *arg)
{
    struct commit *c = calloc(1, sizeof *c + n * sizeof c->v[0]);
    if (!c)
        return NULL;
    c->w.fn = commit_done;
    c->g = g;
    c->fn = fn;
    c->arg = arg;
    if (g)
        g->commits_pending++;
    list_push(&s->pending, &c->node);
    return c;
}

void gstore_commit(struct broker *b, struct group *g, const struct offset_commit *v, size_t n,
                   gstore_done *fn, void *arg)
{
    struct gstore *s = b->gstore;
    struct commit *c = commit_new(s, g, n, fn, arg);
    struct place *p = calloc(n, sizeof *p);
    if (!c || !p) {
        free(p);
        if (c)
            commit_done(b, &c->w, KERR_STORAGE);
        else if (fn)
            fn(arg, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    buf_reset(&s->text);
    bool whole = true;
    for (size_t i = 0; i < n && whole; i++) {
        p[i] = place_offset(s, sl_str(g->id), &v[i]);
        c->v[i].o = offset_new(&v[i], b->wall_ms);
        c->v[i].drop = v[i].drop;
        c->n++;
        whole = c->v[i].o != NULL;
    }
    if (!whole || append(s, p, n, &c->w) != KERR_NONE)
        commit_done(b, &c->w, KERR_STORAGE);
    free(p);
}

void gstore_delete_group(struct broker *b, struct group *g, gstore_done *fn, void *arg)
{
    struct gstore *s = b->gstore;
    struct commit *c = commit_new(s, NULL, 0, fn, arg);
    struct place *p = calloc(g->offsets.n + 1, sizeof *p);
    size_t pos = 0, n = 0;
    struct slice key;
    void *o;
    if (!c || !p) {
        free(p);
        if (c)
            commit_done(b, &c->w, KERR_STORAGE);
        else if (fn)
            fn(arg, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    buf_reset(&s->text);
    while (map_next(&g->offsets, &pos, &key, &o)) {
        struct offset_commit drop = {.topic = offset_topic(o), .drop = true};
        drop.partition = ((struct group_offset *)o)->partition;
        p[n++] = place_offset(s, sl_str(g->id), &drop);
    }
    p[n] = (struct place){.key = s->text.n, .tombstone = true};
    group_key_write(&s->text, sl_str(g->id));
    p[n].value = p[n].end = s->text.n;
    if (append(s, p, n + 1, &c->w) == KERR_NONE)
        group_drop(g);
    else
        commit_done(b, &c->w, KERR_STORAGE);
    free(p);
}

/* One tombstone for each key of the topic that is in memory or on its way there. */
static size_t collect(struct gstore *s, struct group *g, struct slice topic,
                      struct offset_commit *out, size_t max)
{
    size_t pos = 0, n = 0;
    struct slice key;
    void *value;
    while (n < max && map_next(&g->offsets, &pos, &key, &value)) {
        struct group_offset *o = value;
        if (sl_eq(offset_topic(o), topic))
            out[n++] =
                (struct offset_commit){.topic = topic, .partition = o->partition, .drop = true};
    }
    LIST_EACH(it, &s->pending)
    {
        struct commit *c = LIST_ENTRY(it, struct commit, node);
        for (size_t i = 0; c->g == g && i < c->n && n < max; i++) {
            if (sl_eq(offset_topic(c->v[i].o), topic) && !c->v[i].drop)
                out[n++] = (struct offset_commit){.topic = topic,
                                                  .partition = c->v[i].o->partition,
                                                  .drop = true};
        }
    }
    return n;
}

struct gone {
    int waiting;
    int16_t error;
    gstore_done *fn;
    void *arg;
};

static void gone_done(void *arg, int16_t error)
{
    struct gone *w = arg;
    if (error)
        w->error = error;
    if (--w->waiting > 0)
        return;
    w->fn(w->arg, w->error);
    free(w);
}

void gstore_topic_gone(struct broker *b, struct slice topic, gstore_done *fn, void *arg)
{
    struct gone *w = calloc(1, sizeof *w);
    struct offset_commit *v = calloc(2 * MAX_PARTITIONS, sizeof *v);
    size_t pos = 0;
    struct slice key;
    void *g;
    if (!w || !v) {
        free(w);
        free(v);
        fn(arg, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    *w = (struct gone){.waiting = 1, .fn = fn, .arg = arg};
    while (map_next(&b->gstore->groups.by_name, &pos, &key, &g)) {
        size_t n = collect(b->gstore, g, topic, v, 2 * MAX_PARTITIONS);
        if (n == 0)
            continue;
        w->waiting++;
        gstore_commit(b, g, v, n, gone_done, w);
    }
    free(v);
    gone_done(w, KERR_NONE);
}

static void meta_done(struct broker *b, struct ack_wait *w, int16_t err)
{
    struct meta *m = (struct meta *)w;
    FAILPOINT("log.group.durable");
    group_stored(gstore_groups(b), sl_str(m->group), m->generation,
                 err ? KERR_COORDINATOR_NOT_AVAILABLE : KERR_NONE);
    free(m);
}

static void op_store(void *arg, struct group *g)
{
    struct gstore *s = arg;
    size_t n = strlen(g->id) + 1;
    struct meta *m = malloc(sizeof *m + n);
    if (!m) {
        group_stored(&s->groups, sl_str(g->id), g->generation, KERR_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    m->w = (struct ack_wait){.fn = meta_done};
    m->generation = g->generation;
    memcpy(m->group, g->id, n);
    buf_reset(&s->text);
    struct place p = {0};
    group_key_write(&s->text, sl_str(g->id));
    p.value = s->text.n;
    group_value_write(&s->text, g);
    p.end = s->text.n;
    if (append(s, &p, 1, &m->w) != KERR_NONE)
        meta_done(s->b, &m->w, KERR_STORAGE);
}

static void forget_done(struct broker *b, struct ack_wait *w, int16_t err)
{
    free(w); /* a tombstone that was lost only lets an empty group appear again after a restart */
}

static void op_forget(void *arg, struct group *g)
{
    struct gstore *s = arg;
    struct ack_wait *w = g->generation > 0 ? calloc(1, sizeof *w) : NULL;
    if (!w) /* never stored */
        return;
    w->fn = forget_done;
    buf_reset(&s->text);
    struct place p = {.tombstone = true};
    group_key_write(&s->text, sl_str(g->id));
    p.value = p.end = s->text.n;
    if (append(s, &p, 1, w) != KERR_NONE)
        free(w);
}

static int load_offset(struct gstore *s, const struct group_key *k, struct slice value,
                       bool null_value)
{
    struct group *g = group_get(&s->groups, k->group);
    struct offset_value v = {0};
    if (!g)
        return -ENOMEM;
    if (!null_value && offset_value_read(value, &v) < 0)
        return -EBADMSG;
    struct offset_commit c = {.topic = k->topic,
                              .metadata = v.metadata,
                              .partition = k->partition,
                              .epoch = v.epoch,
                              .offset = v.offset};
    struct group_offset *o = offset_new(&c, v.time_ms);
    if (!o)
        return -ENOMEM;
    apply(g, o, null_value);
    return 0;
}

static int load_group(struct gstore *s, const struct group_key *k, struct slice value,
                      bool null_value)
{
    struct group *g =
        null_value ? group_find(&s->groups, k->group) : group_get(&s->groups, k->group);
    if (!g)
        return null_value ? 0 : -ENOMEM;
    if (!null_value)
        return group_value_read(value, g);
    group_clear(g);
    group_restored(g, 0, SL(""), (struct slice){NULL, 0}, SL(""));
    return 0;
}

static int load_record(void *arg, int64_t offset, struct slice key, struct slice value,
                       bool null_value)
{
    struct gstore *s = arg;
    struct group_key k;
    int kind = group_key_read(key, &k), rc = kind;
    if (kind == GROUP_KEY_OFFSET && k.topic.n <= 249)
        rc = load_offset(s, &k, value, null_value);
    else if (kind == GROUP_KEY_GROUP)
        rc = load_group(s, &k, value, null_value);
    if (rc == -ENOMEM)
        return rc;
    if (rc < 0)
        log_warn(s->b->log, "unreadable record in " OFFSETS_TOPIC, "offset=%lld",
                 (long long)offset);
    return 0;
}

/* A crash may fall between the end of a topic and the tombstones of its offsets. */
static void drop_orphans(struct gstore *s)
{
    size_t pos = 0, at;
    struct slice key;
    void *g, *value;
    while (map_next(&s->groups.by_name, &pos, &key, &g)) {
        at = 0;
        while (map_next(&((struct group *)g)->offsets, &at, &key, &value)) {
            struct group_offset *o = value;
            if (find_part(s->b, offset_topic(o), o->partition))
                continue;
            map_del(&((struct group *)g)->offsets, key);
            free(o);
        }
    }
}

static bool is_set(struct topic *t, const struct slice (*settings)[2], size_t n)
{
    bool same = t->config.n == n;
    for (size_t i = 0; i < n && same; i++) {
        const char *value = map_get(&t->config, settings[i][0]);
        same = value && sl_is(settings[i][1], value);
    }
    return same;
}

/* Segments are small, so that a start reads little more than what the cleaner leaves. */
static int open_topic(struct gstore *s, struct err *e)
{
    const struct slice settings[][2] = {
        {SL("cleanup.policy"), SL("compact")},
        {SL("max.message.bytes"), SL("16777216")},
        {SL("segment.bytes"), SL(OFFSETS_SEGMENT_BYTES)},
    };
    size_t n = sizeof settings / sizeof *settings;
    struct topic *t = store_topic(s->b->store, SL(OFFSETS_TOPIC));
    int rc = 0;
    if (!t)
        rc = store_topic_create(s->b->store, SL(OFFSETS_TOPIC), 1, settings, n, &t, e);
    else if (!is_set(t, settings, n)) /* of another version; clients can't change them */
        rc = store_topic_configure(s->b->store, t, settings, n, false, e);
    if (rc == 0)
        s->log = t->parts[0];
    return rc;
}

int gstore_open(struct broker *b, struct err *e)
{
    static const struct groups_ops ops = {group_joined_reply, group_synced_reply, op_store,
                                          op_forget};
    struct gstore *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, -ENOMEM, "free some memory", "no memory for the groups");
    b->gstore = s;
    s->b = b;
    list_init(&s->pending);
    buf_init(&s->batch, BATCH_MAX);
    buf_init(&s->text, BATCH_MAX);
    groups_init(&s->groups, &ops, s);
    gstore_groups(b);
    int rc = open_topic(s, e);
    if (rc < 0)
        return rc;
    rc = plog_each(s->log, plog_start(s->log), load_record, s);
    if (rc < 0)
        return err_set(e, rc, "see the log lines before this one; free memory or restore the data",
                       "cannot read the consumer groups from " OFFSETS_TOPIC ": %s", strerror(-rc));
    drop_orphans(s);
    return 0;
}

void gstore_close(struct broker *b)
{
    struct gstore *s = b->gstore;
    if (!s)
        return;
    groups_free(&s->groups);
    buf_free(&s->batch);
    buf_free(&s->text);
    free(s);
    b->gstore = NULL;
}
