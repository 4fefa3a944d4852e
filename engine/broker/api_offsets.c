/* ListOffsets, and the committed offsets of groups: OffsetCommit, OffsetFetch, OffsetDelete.
 *
 * Owning thread: the broker's thread. A commit is answered when its records are durable. */
#include <errno.h>
#include <stdlib.h>

#include "broker/group_store.h"
#include "broker/pending_int.h"

#define MAX_COMMITS 100000
#define AT_LATEST   (-1)
#define AT_EARLIEST (-2)
#define AT_MAX_TIME (-3)

static int16_t look_up(struct plog *p, int64_t when, int64_t *ret_offset, int64_t *ret_ms)
{
    int rc = 0;
    *ret_offset = *ret_ms = -1;
    if (plog_failed(p))
        return KERR_STORAGE;
    if (when == AT_LATEST)
        *ret_offset = plog_durable_end(p);
    else if (when == AT_EARLIEST)
        *ret_offset = plog_start(p);
    else if (when == AT_MAX_TIME)
        rc = plog_max_time(p, ret_offset, ret_ms);
    else if (when >= 0)
        rc = plog_by_time(p, when, ret_offset, ret_ms);
    else
        return KERR_UNSUPPORTED_VERSION;
    return rc < 0 ? kerr_of(rc) : KERR_NONE;
}

int api_list_offsets(struct req *q)
{
    struct rd *in = &q->in;
    struct wr *w = &q->out;
    rd_i32(in);
    if (q->version >= 2) {
        rd_i8(in);
        wr_i32(w, 0);
    }
    int32_t nt = rd_array(in);
    wr_array(w, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(in);
        int32_t np = rd_array(in);
        wr_str(w, topic);
        wr_array(w, np);
        for (; np > 0; np--) {
            int32_t index = rd_i32(in), epoch = q->version >= 4 ? rd_i32(in) : -1;
            int64_t when = rd_i64(in), offset = -1, ms = -1;
            struct plog *p = find_part(q->b, topic, index);
            int16_t error = !p          ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                            : epoch > 0 ? KERR_UNKNOWN_LEADER_EPOCH
                                        : look_up(p, when, &offset, &ms);
            rd_tags(in);
            wr_i32(w, index);
            wr_i16(w, error);
            wr_i64(w, ms);
            wr_i64(w, offset);
            if (q->version >= 4)
                wr_i32(w, offset >= 0 ? 0 : -1);
            wr_tags(w);
        }
        rd_tags(in);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

/* How many partitions stand in an array of topics; `item` reads one. */
static size_t count_items(struct rd in, int version,
                          void (*item)(struct rd *, int, struct offset_commit *))
{
    size_t n = 0;
    struct offset_commit c;
    for (int32_t nt = rd_array(&in); nt > 0; nt--) {
        rd_str(&in);
        for (int32_t np = rd_array(&in); np > 0; np--, n++)
            item(&in, version, &c);
        rd_tags(&in);
    }
    return n;
}

static void read_commit(struct rd *in, int version, struct offset_commit *c)
{
    c->partition = rd_i32(in);
    c->offset = rd_i64(in);
    c->epoch = version >= 6 ? rd_i32(in) : -1;
    c->metadata = rd_nstr(in);
    rd_tags(in);
}

static void read_partition(struct rd *in, int version, struct offset_commit *c)
{
    c->partition = rd_i32(in);
    rd_tags(in);
}

static int16_t check_commit(struct broker *b, const struct offset_commit *c)
{
    if (!find_part(b, c->topic, c->partition))
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    return c->metadata.n > OFFSET_METADATA_MAX ? KERR_OFFSET_METADATA_TOO_LARGE : KERR_NONE;
}

/* Writes the topics of the response; what may be committed goes to v, its error place to part. */
static size_t take_commits(struct req *q, int16_t error, struct offset_commit *v,
                           struct pending_part *part)
{
    struct rd *in = &q->in;
    struct wr *w = &q->out;
    size_t n = 0;
    int32_t nt = rd_array(in);
    wr_array(w, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(in);
        int32_t np = rd_array(in);
        wr_str(w, topic);
        wr_array(w, np);
        for (; np > 0; np--) {
            struct offset_commit c = {.topic = topic};
            read_commit(in, q->version, &c);
            int16_t e = error ? error : check_commit(q->b, &c);
            wr_i32(w, c.partition);
            if (!e) {
                part->at[part->n++] = w->b->n;
                v[n++] = c;
            }
            wr_i16(w, e);
            wr_tags(w);
        }
        rd_tags(in);
        wr_tags(w);
    }
    wr_tags(w);
    return n;
}

int api_offset_commit(struct req *q)
{
    struct rd *in = &q->in;
    struct slice id = rd_str(in);
    int32_t generation = rd_i32(in);
    struct slice member = rd_str(in), instance = {0};
    if (q->version >= 7)
        instance = rd_nstr(in);
    if (q->version <= 4)
        rd_i64(in); /* retention: offsets are kept until they are deleted */
    struct groups *gs = gstore_groups(q->b);
    int16_t error = group_may_commit(gs, id, generation, member, instance);
    struct group *g = error ? NULL : group_get(gs, id);
    if (!error && !g)
        error = KERR_COORDINATOR_NOT_AVAILABLE;
    size_t max = count_items(*in, q->version, read_commit);
    if (max > MAX_COMMITS)
        return -E2BIG;
    struct pending *p = pending_new(q->r);
    struct pending_part *part = p ? pending_part(p, max) : NULL;
    struct offset_commit *v = calloc(max + 1, sizeof *v);
    if (!part || !v) {
        free(p);
        free(part);
        free(v);
        return -ENOMEM;
    }
    if (q->version >= 3)
        wr_i32(&q->out, 0);
    size_t n = take_commits(q, error, v, part);
    if (n > 0)
        gstore_commit(q->b, g, v, n, pending_part_done, part);
    else
        pending_part_done(part, KERR_NONE);
    free(v);
    pending_end(p);
    return REQ_PARKED;
}

static void write_offset(struct wr *w, int version, int32_t partition, const struct group_offset *o)
{
    wr_i32(w, partition);
    wr_i64(w, o ? o->offset : -1);
    if (version >= 5)
        wr_i32(w, o ? o->epoch : -1);
    wr_nstr(w, o ? offset_metadata(o) : SL(""));
    wr_i16(w, KERR_NONE);
    wr_tags(w);
}

static int by_topic(const void *a, const void *b)
{
    const struct group_offset *x = *(void *const *)a, *y = *(void *const *)b;
    int order = sl_cmp(offset_topic(x), offset_topic(y));
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Everything the group ever committed, by topic. */
static int write_all(struct wr *w, int version, const struct group *g)
{
    size_t n = 0, pos = 0, topics = 0;
    struct slice key;
    void *o;
    const struct group_offset **v = calloc((g ? g->offsets.n : 0) + 1, sizeof *v);
    if (!v)
        return -ENOMEM;
    while (g && map_next(&g->offsets, &pos, &key, &o))
        v[n++] = o;
    qsort(v, n, sizeof *v, by_topic);
    for (size_t i = 0; i < n; i++)
        topics += i == 0 || !sl_eq(offset_topic(v[i]), offset_topic(v[i - 1]));
    wr_array(w, (int32_t)topics);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && sl_eq(offset_topic(v[i]), offset_topic(v[end]));)
            end++;
        wr_str(w, offset_topic(v[i]));
        wr_array(w, (int32_t)(end - i));
        for (size_t k = i; k < end; k++)
            write_offset(w, version, v[k]->partition, v[k]);
        wr_tags(w);
    }
    free(v);
    return 0;
}

/* The topics asked for; null: all (from version 2 on). */
static int write_topics(struct req *q, const struct group *g)
{
    struct rd *in = &q->in;
    struct wr *w = &q->out;
    int32_t nt = rd_narray(in);
    if (nt < 0)
        return write_all(w, q->version, g);
    wr_array(w, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(in);
        int32_t np = rd_array(in);
        wr_str(w, topic);
        wr_array(w, np);
        for (; np > 0; np--) {
            int32_t index = rd_i32(in);
            write_offset(w, q->version, index, g ? gstore_offset(g, topic, index) : NULL);
        }
        rd_tags(in);
        wr_tags(w);
    }
    return 0;
}

int api_offset_fetch(struct req *q)
{
    struct wr *w = &q->out;
    struct groups *gs = gstore_groups(q->b);
    int rc = 0;
    if (q->version >= 3)
        wr_i32(w, 0);
    int32_t n = 1;
    if (q->version >= 8) {
        n = rd_array(&q->in);
        wr_array(w, n);
    }
    for (; n > 0 && rc == 0; n--) {
        struct slice id = rd_str(&q->in);
        if (q->version >= 8)
            wr_str(w, id);
        rc = write_topics(q, group_find(gs, id));
        if (q->version >= 2)
            wr_i16(w, KERR_NONE);
        if (q->version >= 8) {
            rd_tags(&q->in);
            wr_tags(w);
        }
    }
    wr_tags(w);
    return rc < 0 ? rc : REQ_DONE;
}

/* Does a live member of a group with the consumer protocol read this topic? Its subscription is
 * int16 version, then an array of topics; one that can't be read counts as reading it. */
static bool subscribed(const struct group *g, struct slice topic)
{
    LIST_EACH(it, &g->members)
    {
        const struct member *m = LIST_ENTRY(it, struct member, node);
        if (m->nprotocols == 0)
            continue;
        struct slice s = m->protocols[0].metadata;
        struct rd r = rd_init((char *)s.p, s.n, false);
        rd_i16(&r);
        for (int32_t n = rd_array(&r); n > 0; n--) {
            if (sl_eq(rd_str(&r), topic))
                return true;
        }
        if (r.bad)
            return true;
    }
    return false;
}

static int16_t check_delete(struct broker *b, const struct group *g, struct slice topic,
                            int32_t index)
{
    if (!find_part(b, topic, index))
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    return g->nmembers && subscribed(g, topic) ? KERR_GROUP_SUBSCRIBED_TO_TOPIC : KERR_NONE;
}

static size_t take_deletes(struct req *q, const struct group *g, struct offset_commit *v,
                           struct pending_part *part)
{
    size_t n = 0;
    int32_t nt = rd_array(&q->in);
    wr_array(&q->out, nt);
    for (; nt > 0; nt--) {
        struct slice topic = rd_str(&q->in);
        int32_t np = rd_array(&q->in);
        wr_str(&q->out, topic);
        wr_array(&q->out, np);
        for (; np > 0; np--) {
            int32_t index = rd_i32(&q->in);
            int16_t error = check_delete(q->b, g, topic, index);
            wr_i32(&q->out, index);
            if (!error) {
                part->at[part->n++] = q->out.b->n;
                v[n++] = (struct offset_commit){.topic = topic, .partition = index, .drop = true};
            }
            wr_i16(&q->out, error);
        }
    }
    return n;
}

int api_offset_delete(struct req *q)
{
    struct slice id = rd_str(&q->in);
    struct group *g = group_find(gstore_groups(q->b), id);
    bool consumer = g && g->protocol_type && sl_is(SL("consumer"), g->protocol_type);
    int16_t error = !g                         ? KERR_GROUP_ID_NOT_FOUND
                    : g->nmembers && !consumer ? KERR_NON_EMPTY_GROUP
                                               : KERR_NONE;
    wr_i16(&q->out, error);
    wr_i32(&q->out, 0);
    if (error) {
        wr_array(&q->out, 0);
        return REQ_DONE;
    }
    size_t max = count_items(q->in, 0, read_partition);
    if (max > MAX_COMMITS)
        return -E2BIG;
    struct pending *p = pending_new(q->r);
    struct pending_part *part = p ? pending_part(p, max) : NULL;
    struct offset_commit *v = calloc(max + 1, sizeof *v);
    if (!part || !v) {
        free(p);
        free(part);
        free(v);
        return -ENOMEM;
    }
    size_t n = take_deletes(q, g, v, part);
    if (n > 0)
        gstore_commit(q->b, g, v, n, pending_part_done, part);
    else
        pending_part_done(part, KERR_NONE);
    free(v);
    pending_end(p);
    return REQ_PARKED;
}
