/* Records of __consumer_offsets: see group_record.h. Pure functions over the caller's bytes.
 *
 *   key    int16 version; 0 and 1: string group, string topic, int32 partition; 2: string group
 *   offset int16 version; int64 offset; 3+: int32 leader epoch; string metadata; int64 time;
 *          1: int64 expiry
 *   group  int16 version; string type; int32 generation; nullable string protocol, leader;
 *          2+: int64 time; members: string id; 3+: nullable string instance; string client id,
 * host; 1+: int32 rebalance time-out; int32 session time-out; bytes subscription, assignment
 * Version 4 of the values has the flexible encoding. */
#include <errno.h>

#include "broker/group_record.h"

#define VALUE_VERSION 3

void offset_key_write(struct buf *b, struct slice group, struct slice topic, int32_t partition)
{
    struct wr w = {b, false};
    wr_i16(&w, 1);
    wr_str(&w, group);
    wr_str(&w, topic);
    wr_i32(&w, partition);
}

void group_key_write(struct buf *b, struct slice group)
{
    struct wr w = {b, false};
    wr_i16(&w, 2);
    wr_str(&w, group);
}

void offset_value_write(struct buf *b, int64_t offset, int32_t epoch, struct slice metadata,
                        int64_t time_ms)
{
    struct wr w = {b, false};
    wr_i16(&w, VALUE_VERSION);
    wr_i64(&w, offset);
    wr_i32(&w, epoch);
    wr_str(&w, metadata);
    wr_i64(&w, time_ms);
}

static struct slice chosen_metadata(const struct group *g, const struct member *m)
{
    for (int i = 0; g->protocol && i < m->nprotocols; i++) {
        if (sl_is(m->protocols[i].name, g->protocol))
            return m->protocols[i].metadata;
    }
    return SL("");
}

void group_value_write(struct buf *b, const struct group *g)
{
    struct wr w = {b, false};
    wr_i16(&w, VALUE_VERSION);
    wr_str(&w, sl_str(g->protocol_type));
    wr_i32(&w, g->generation);
    wr_nstr(&w, sl_str(g->protocol));
    wr_nstr(&w, g->leader ? sl_str(g->leader->id) : (struct slice){NULL, 0});
    wr_i64(&w, g->state_ms);
    wr_array(&w, g->nmembers);
    LIST_EACH(n, &g->members)
    {
        const struct member *m = LIST_ENTRY(n, struct member, node);
        wr_str(&w, sl_str(m->id));
        wr_nstr(&w, sl_str(m->instance));
        wr_str(&w, sl_str(m->client_id));
        wr_str(&w, sl_str(m->client_host));
        wr_i32(&w, m->rebalance_ms);
        wr_i32(&w, m->session_ms);
        wr_bytes(&w, chosen_metadata(g, m));
        wr_bytes(&w, sl(m->assignment ? m->assignment : "", m->nassignment));
    }
}

int group_key_read(struct slice key, struct group_key *ret)
{
    struct rd r = rd_init((char *)key.p, key.n, false);
    int16_t version = rd_i16(&r);
    if (r.bad)
        return -EBADMSG;
    if (version < 0 || version > 2)
        return GROUP_KEY_OTHER;
    struct group_key k = {.group = rd_str(&r), .partition = -1};
    if (version < 2) {
        k.topic = rd_str(&r);
        k.partition = rd_i32(&r);
    }
    if (r.bad)
        return -EBADMSG;
    *ret = k;
    return version < 2 ? GROUP_KEY_OFFSET : GROUP_KEY_GROUP;
}

int offset_value_read(struct slice value, struct offset_value *ret)
{
    struct rd r = rd_init((char *)value.p, value.n, false);
    int16_t version = rd_i16(&r);
    if (r.bad || version < 0 || version > 4)
        return -EBADMSG;
    r.flex = version >= 4;
    struct offset_value v = {.offset = rd_i64(&r), .epoch = -1};
    if (version >= 3)
        v.epoch = rd_i32(&r);
    v.metadata = rd_str(&r);
    v.time_ms = rd_i64(&r);
    if (r.bad)
        return -EBADMSG;
    *ret = v;
    return 0;
}

static int read_member(struct rd *r, int version, struct slice type, struct slice protocol,
                       struct group *g)
{
    struct group_protocol p = {.name = protocol.p ? protocol : SL("")};
    struct group_join j = {.protocol_type = type, .protocols = &p, .nprotocols = 1};
    j.member = rd_str(r);
    if (version >= 3)
        j.instance = rd_nstr(r);
    j.client_id = rd_str(r);
    j.client_host = rd_str(r);
    j.rebalance_ms = version >= 1 ? rd_i32(r) : -1;
    j.session_ms = rd_i32(r);
    if (j.rebalance_ms < 0)
        j.rebalance_ms = j.session_ms;
    p.metadata = rd_bytes(r);
    struct slice assignment = rd_bytes(r);
    rd_tags(r);
    if (r->bad)
        return -EBADMSG;
    return group_restore_member(g, &j, assignment) ? 0 : -ENOMEM;
}

int group_value_read(struct slice value, struct group *g)
{
    struct rd r = rd_init((char *)value.p, value.n, false);
    int16_t version = rd_i16(&r);
    if (r.bad || version < 0 || version > 4)
        return -EBADMSG;
    r.flex = version >= 4;
    struct slice type = rd_str(&r);
    int32_t generation = rd_i32(&r);
    struct slice protocol = rd_nstr(&r), leader = rd_nstr(&r);
    if (version >= 2)
        rd_i64(&r);
    group_clear(g);
    int rc = 0;
    for (int32_t n = rd_array(&r); n > 0 && rc == 0 && !r.bad; n--)
        rc = read_member(&r, version, type, protocol, g);
    if (rc == 0 && r.bad)
        rc = -EBADMSG;
    if (rc == 0 && group_restored(g, generation, type, protocol, leader) != KERR_NONE)
        rc = -ENOMEM;
    return rc;
}
