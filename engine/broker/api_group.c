/* The APIs of consumer groups: between the wire and group.c.
 *
 * Owning thread: the broker's thread. A JoinGroup or SyncGroup is parked with its reply as the
 * token that group.c gives back with the answer, perhaps before the call returns. */
#include <errno.h>
#include <stdlib.h>

#include "broker/group_record.h"
#include "broker/group_store.h"
#include "broker/pending_int.h"

#define MAX_PROTOCOLS   1000 /* read before group.c refuses more than it keeps */
#define MAX_ASSIGNMENTS 10000

static void write_coordinator(struct req *q, int16_t error)
{
    char text[64];
    wr_i32(&q->out, error ? -1 : NODE_ID);
    wr_str(&q->out, error ? SL("") : broker_advertised(q->c, text));
    wr_i32(&q->out, error ? -1 : q->b->port);
}

static int16_t coordinator_error(int8_t type, struct slice *ret_why)
{
    *ret_why = (struct slice){NULL, 0};
    if (type == 0)
        return KERR_NONE;
    *ret_why = type == 1 ? SL("this log does not serve transactions yet")
                         : SL("unknown kind of coordinator");
    return type == 1 ? KERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED : KERR_INVALID_REQUEST;
}

static int find_many(struct req *q)
{
    struct wr *w = &q->out;
    struct slice why;
    int16_t error = coordinator_error(rd_i8(&q->in), &why);
    int32_t n = rd_array(&q->in);
    wr_i32(w, 0);
    wr_array(w, n);
    while (n-- > 0) {
        wr_str(w, rd_str(&q->in));
        write_coordinator(q, error);
        wr_i16(w, error);
        wr_nstr(w, why);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

int api_find_coordinator(struct req *q)
{
    struct wr *w = &q->out;
    struct slice why;
    if (q->version >= 4)
        return find_many(q);
    rd_str(&q->in);
    int16_t error = coordinator_error(q->version >= 1 ? rd_i8(&q->in) : 0, &why);
    if (q->version >= 1)
        wr_i32(w, 0);
    wr_i16(w, error);
    if (q->version >= 1)
        wr_nstr(w, why);
    write_coordinator(q, error);
    wr_tags(w);
    return REQ_DONE;
}

static void write_members(struct wr *w, int version, const struct group *g)
{
    wr_array(w, g ? g->nmembers : 0);
    if (!g)
        return;
    LIST_EACH(n, &g->members)
    {
        const struct member *m = LIST_ENTRY(n, struct member, node);
        struct slice metadata = SL("");
        for (int i = 0; g->protocol && i < m->nprotocols; i++) {
            if (sl_is(m->protocols[i].name, g->protocol))
                metadata = m->protocols[i].metadata;
        }
        wr_str(w, sl_str(m->id));
        if (version >= 5)
            wr_nstr(w, sl_str(m->instance));
        wr_bytes(w, metadata);
        wr_tags(w);
    }
}

void group_joined_reply(void *arg, void *token, const struct group_joined *a)
{
    struct reply *r = token;
    struct wr w = reply_wr(r);
    int version = r->version;
    if (version >= 2)
        wr_i32(&w, 0);
    wr_i16(&w, a->error);
    wr_i32(&w, a->generation);
    if (version >= 7) {
        wr_nstr(&w, a->protocol_type);
        wr_nstr(&w, a->protocol);
    } else {
        wr_str(&w, a->protocol);
    }
    wr_str(&w, a->leader);
    if (version >= 9)
        wr_i8(&w, a->skip_assignment);
    wr_str(&w, a->member);
    write_members(&w, version, a->members);
    wr_tags(&w);
    reply_done(r);
}

int api_join_group(struct req *q)
{
    struct rd *in = &q->in;
    struct group_join j = {.client_id = q->client_id, .client_host = sl_str(q->c->host)};
    j.group = rd_str(in);
    j.session_ms = rd_i32(in);
    j.rebalance_ms = q->version >= 1 ? rd_i32(in) : j.session_ms;
    if (j.rebalance_ms < 0)
        j.rebalance_ms = j.session_ms;
    j.member = rd_str(in);
    if (q->version >= 5)
        j.instance = rd_nstr(in);
    j.protocol_type = rd_str(in);
    j.id_required = q->version >= 4;
    j.can_skip = q->version >= 9;
    int32_t n = rd_array(in);
    if (n > MAX_PROTOCOLS)
        return -E2BIG;
    struct group_protocol *v = calloc((size_t)n + 1, sizeof *v);
    if (!v)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        v[i].name = rd_str(in);
        v[i].metadata = rd_bytes(in);
        rd_tags(in);
    }
    j.protocols = v;
    j.nprotocols = n;
    group_join(gstore_groups(q->b), &j, q->r);
    free(v);
    return REQ_PARKED;
}

void group_synced_reply(void *arg, void *token, const struct group_synced *a)
{
    struct reply *r = token;
    struct wr w = reply_wr(r);
    if (r->version >= 1)
        wr_i32(&w, 0);
    wr_i16(&w, a->error);
    if (r->version >= 5) {
        wr_nstr(&w, a->protocol_type);
        wr_nstr(&w, a->protocol);
    }
    wr_bytes(&w, a->assignment.p ? a->assignment : SL(""));
    wr_tags(&w);
    reply_done(r);
}

int api_sync_group(struct req *q)
{
    struct rd *in = &q->in;
    struct slice group = rd_str(in);
    int32_t generation = rd_i32(in);
    struct slice member = rd_str(in), instance = {0}, type = {0}, protocol = {0};
    if (q->version >= 3)
        instance = rd_nstr(in);
    if (q->version >= 5) {
        type = rd_nstr(in);
        protocol = rd_nstr(in);
    }
    int32_t n = rd_array(in);
    if (n > MAX_ASSIGNMENTS)
        return -E2BIG;
    struct group_assignment *v = calloc((size_t)n + 1, sizeof *v);
    if (!v)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        v[i].member = rd_str(in);
        v[i].assignment = rd_bytes(in);
        rd_tags(in);
    }
    group_sync(gstore_groups(q->b), group, generation, member, instance, type, protocol, v, n,
               q->r);
    free(v);
    return REQ_PARKED;
}

int api_heartbeat(struct req *q)
{
    struct slice group = rd_str(&q->in);
    int32_t generation = rd_i32(&q->in);
    struct slice member = rd_str(&q->in), instance = {0};
    if (q->version >= 3)
        instance = rd_nstr(&q->in);
    if (q->version >= 1)
        wr_i32(&q->out, 0);
    wr_i16(&q->out, group_heartbeat(gstore_groups(q->b), group, generation, member, instance));
    wr_tags(&q->out);
    return REQ_DONE;
}

int api_leave_group(struct req *q)
{
    struct groups *gs = gstore_groups(q->b);
    struct wr *w = &q->out;
    struct slice group = rd_str(&q->in);
    if (q->version >= 1)
        wr_i32(w, 0);
    if (q->version < 3) {
        wr_i16(w, group_leave(gs, group, rd_str(&q->in), (struct slice){0}));
        return REQ_DONE;
    }
    int16_t error = group_id_check(group);
    int32_t n = rd_array(&q->in);
    wr_i16(w, error);
    wr_array(w, error ? 0 : n);
    while (!error && n-- > 0) {
        struct slice member = rd_str(&q->in), instance = rd_nstr(&q->in);
        if (q->version >= 5)
            rd_nstr(&q->in);
        rd_tags(&q->in);
        int16_t left = group_leave(gs, group, member, instance);
        wr_str(w, member);
        wr_nstr(w, instance);
        wr_i16(w, left);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

static void describe_member(struct wr *w, int version, const struct group *g,
                            const struct member *m)
{
    struct slice metadata = SL("");
    for (int i = 0; g->protocol && i < m->nprotocols; i++) {
        if (sl_is(m->protocols[i].name, g->protocol))
            metadata = m->protocols[i].metadata;
    }
    wr_str(w, sl_str(m->id));
    if (version >= 4)
        wr_nstr(w, sl_str(m->instance));
    wr_str(w, sl_str(m->client_id));
    wr_str(w, sl_str(m->client_host));
    wr_bytes(w, metadata);
    wr_bytes(w, sl(m->assignment ? m->assignment : "", m->nassignment));
    wr_tags(w);
}

int api_describe_groups(struct req *q)
{
    struct wr *w = &q->out;
    int32_t n = rd_array(&q->in);
    struct rd behind = q->in;
    for (int32_t i = 0; i < n; i++)
        rd_str(&behind);
    bool operations = q->version >= 3 && rd_i8(&behind);
    if (q->version >= 1)
        wr_i32(w, 0);
    wr_array(w, n);
    while (n-- > 0) {
        struct slice id = rd_str(&q->in);
        const struct group *g = group_find(gstore_groups(q->b), id);
        wr_i16(w, group_id_check(id));
        wr_str(w, id);
        wr_str(w, sl_str(group_state_name(g ? g->state : GROUP_DEAD)));
        wr_str(w, g ? sl_str(g->protocol_type) : SL(""));
        wr_str(w, g ? sl_str(g->protocol) : SL(""));
        wr_array(w, g ? g->nmembers : 0);
        if (g) {
            LIST_EACH(it, &g->members)
            {
                describe_member(w, q->version, g, LIST_ENTRY(it, struct member, node));
            }
        }
        if (q->version >= 3)
            wr_i32(w, operations ? OPERATIONS_GROUP : OPERATIONS_UNKNOWN);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

/* The filter is read again for each group: both are short. */
static bool listed(struct rd in, int version, const struct group *g)
{
    int32_t n = version >= 4 ? rd_array(&in) : 0;
    bool all = n == 0;
    while (!all && n-- > 0) {
        if (sl_is(rd_str(&in), group_state_name(g->state)))
            return true;
    }
    return all;
}

int api_list_groups(struct req *q)
{
    struct groups *gs = gstore_groups(q->b);
    struct wr *w = &q->out;
    struct slice key;
    void *value;
    size_t pos = 0;
    int32_t n = 0;
    while (map_next(&gs->by_name, &pos, &key, &value))
        n += listed(q->in, q->version, value);
    if (q->version >= 1)
        wr_i32(w, 0);
    wr_i16(w, KERR_NONE);
    wr_array(w, n);
    pos = 0;
    while (map_next(&gs->by_name, &pos, &key, &value)) {
        const struct group *g = value;
        if (!listed(q->in, q->version, g))
            continue;
        wr_str(w, sl_str(g->id));
        wr_str(w, sl_str(g->protocol_type));
        if (q->version >= 4)
            wr_str(w, sl_str(group_state_name(g->state)));
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

int api_delete_groups(struct req *q)
{
    struct wr *w = &q->out;
    int32_t n = rd_array(&q->in);
    struct pending *p = pending_new(q->r);
    if (!p)
        return -ENOMEM;
    wr_i32(w, 0);
    wr_array(w, n);
    while (n-- > 0) {
        struct slice id = rd_str(&q->in);
        struct group *g = group_find(gstore_groups(q->b), id);
        int16_t error = group_id_check(id);
        if (!error && !g)
            error = KERR_GROUP_ID_NOT_FOUND;
        else if (!error && (g->state != GROUP_EMPTY || g->commits_pending))
            error = KERR_NON_EMPTY_GROUP;
        struct pending_part *part = error ? NULL : pending_part(p, 1);
        if (!error && !part)
            error = KERR_UNKNOWN;
        wr_str(w, id);
        if (part)
            part->at[part->n++] = w->b->n;
        wr_i16(w, error);
        wr_tags(w);
        if (part)
            gstore_delete_group(q->b, g, pending_part_done, part);
    }
    wr_tags(w);
    pending_end(p);
    return REQ_PARKED;
}
