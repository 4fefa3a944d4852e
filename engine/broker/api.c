/* The table of Kafka APIs, and what is done with every request before and after its handler.
 *
 * Owning thread: the broker's thread. ApiVersions is made from the table. A request is walked by
 * its shape (codec.h) before its handler sees it, so handlers work on whole requests only. */
#include <ctype.h>
#include <errno.h>
#include <arpa/inet.h>
#include <stdio.h>

#include "broker/wire_int.h"

/* Sorted by key. Versions: clients differ in what they look for. librdkafka before 2.11 enables
 * compression only if Produce 0, FindCoordinator 0 and JoinGroup 0 are in range, though it uses
 * newer ones; Fetch stops at 12 (13 needs topic ids), Produce at 11 and so on before the versions
 * that would make a client expect transactions of the second kind. */
static const struct api table[] = {
    {0, 0, 11, 9, "Produce", "3:S h i [s[iB]]", api_produce},
    {1, 4, 12, 12, "Fetch", "i i i i b 7:i 7:i [s[i 9:i l 12:i 5:l i]] 7:[s*i] 11:s", api_fetch},
    {2, 1, 7, 6, "ListOffsets", "i 2:b [s[i 4:i l]]", api_list_offsets},
    {3, 0, 12, 9, "Metadata", "?[10:u 10:S -9:s] 4:b 8-10:b 8:b", api_metadata},
    {8, 2, 9, 8, "OffsetCommit", "s i s 7:S 2-4:l [s[i l 6:i S]]", api_offset_commit},
    {9, 1, 8, 6, "OffsetFetch", "-7:s -7:?[s*i] 8:[s?[s*i]] 7:b", api_offset_fetch},
    {10, 0, 4, 3, "FindCoordinator", "-3:s 1:b 4:*s", api_find_coordinator},
    {11, 0, 9, 6, "JoinGroup", "s i 1:i s 5:S s [sB] 8:S", api_join_group},
    {12, 0, 4, 4, "Heartbeat", "s i s 3:S", api_heartbeat},
    {13, 0, 5, 4, "LeaveGroup", "s -2:s 3:[s S 5:S]", api_leave_group},
    {14, 0, 5, 4, "SyncGroup", "s i s 3:S 5:S 5:S [sB]", api_sync_group},
    {15, 0, 5, 5, "DescribeGroups", "*s 3:b", api_describe_groups},
    {16, 0, 4, 3, "ListGroups", "4:*s", api_list_groups},
    {18, 0, 4, 3, "ApiVersions", "3:s 3:s", api_versions},
    {19, 2, 7, 5, "CreateTopics", "[s i h [i*i] [sS]] i b", api_create_topics},
    {20, 1, 6, 4, "DeleteTopics", "6:[Su] -5:*s i", api_delete_topics},
    {21, 0, 2, 2, "DeleteRecords", "[s[il]] i", api_delete_records},
    {22, 0, 4, 2, "InitProducerId", "S i 3:l 3:h", api_init_producer_id},
    {32, 1, 4, 4, "DescribeConfigs", "[b s ?*s] b 3:b", api_describe_configs},
    {33, 0, 2, 2, "AlterConfigs", "[b s [sS]] b", api_alter_configs},
    {35, 1, 4, 2, "DescribeLogDirs", "?[s*i]", api_describe_log_dirs},
    {37, 0, 3, 2, "CreatePartitions", "[s i ?[*i]] i b", api_create_partitions},
    {42, 0, 2, 2, "DeleteGroups", "*s", api_delete_groups},
    {44, 0, 1, 1, "IncrementalAlterConfigs", "[b s [s b S]] b", api_incremental_alter_configs},
    {47, 0, 0, INT16_MAX, "OffsetDelete", "s[s[i]]", api_offset_delete},
    {60, 0, 1, 0, "DescribeCluster", "b 1:b", api_describe_cluster},
};
#define NAPIS         (sizeof table / sizeof table[0])
#define API_VERSIONS  18
#define CLIENT_ID_MAX 1024

const struct api *api_table(size_t *ret_n)
{
    *ret_n = NAPIS;
    return table;
}

const struct api *api_find(int key)
{
    for (size_t i = 0; i < NAPIS; i++) {
        if (table[i].key == key)
            return &table[i];
    }
    return NULL;
}

static void write_versions(struct wr *w, int version, int16_t error)
{
    wr_i16(w, error);
    wr_array(w, (int32_t)NAPIS);
    for (size_t i = 0; i < NAPIS; i++) {
        wr_i16(w, table[i].key);
        wr_i16(w, table[i].min);
        wr_i16(w, table[i].max);
        wr_tags(w);
    }
    if (version >= 1)
        wr_i32(w, 0);
    wr_tags(w);
}

int api_versions(struct req *q)
{
    write_versions(&q->out, q->version, KERR_NONE);
    return REQ_DONE;
}

/* A client newer than we are asks with a version that we don't know: it is told in the form that
 * every client reads, and tries again. */
static int answer_unknown_versions(struct conn *c, int32_t corr)
{
    struct reply *r = reply_new(c);
    if (!r)
        return -ENOMEM;
    struct wr w = {&r->out, false};
    wr_i32(&w, 0);
    wr_i32(&w, corr);
    write_versions(&w, 0, KERR_UNSUPPORTED_VERSION);
    reply_done(r);
    return 0;
}

static int run(struct conn *c, const struct api *a, struct req *q, int32_t corr)
{
    struct reply *r = reply_new(c);
    if (!r)
        return -ENOMEM;
    r->api = a->key;
    r->version = (int16_t)q->version;
    r->flex = q->in.flex;
    q->r = r;
    q->out = reply_wr(r);
    wr_i32(&q->out, 0); /* the size, set by reply_done */
    wr_i32(&q->out, corr);
    if (a->key != API_VERSIONS) /* its response header never has tagged fields */
        wr_tags(&q->out);
    int rc = a->fn(q);
    if (rc == REQ_DONE)
        reply_done(r);
    if (rc >= 0)
        return 0;
    c->nreplies--; /* a handler that fails has parked nothing */
    reply_free(r);
    return rc;
}

int api_dispatch(struct conn *c, char *p, size_t n, const char **why)
{
    struct rd h = rd_init(p, n, false);
    int16_t key = rd_i16(&h), version = rd_i16(&h);
    int32_t corr = rd_i32(&h);
    const struct api *a = api_find(key);
    if (!a) {
        *why = "an API key that this log does not serve";
        return -EPROTO;
    }
    if (version < a->min || version > a->max) {
        if (key == API_VERSIONS)
            return answer_unknown_versions(c, corr);
        *why = "a version of the API that this log does not serve";
        return -EPROTO;
    }
    struct req q = {.b = c->b, .c = c, .version = version, .client_id = rd_nstr(&h)};
    q.in = rd_init(h.p, rd_left(&h), version >= a->flex_from);
    q.in.bad = h.bad || q.client_id.n > CLIENT_ID_MAX;
    rd_tags(&q.in); /* of the request header, whose client id stays in the old encoding */
    q.body = sl(q.in.p, rd_left(&q.in));
    if (q.in.bad || !rd_skim(q.in, a->shape, version)) {
        *why = "a malformed request";
        log_debug(c->b->log, "malformed request", "api=%s version=%d bytes=%zu", a->name, version,
                  n);
        return -EPROTO;
    }
    return run(c, a, &q, corr);
}

int16_t kerr_of(int rc)
{
    switch (-rc) {
    case 0:
        return KERR_NONE;
    case EEXIST:
        return KERR_TOPIC_ALREADY_EXISTS;
    case ENOENT:
        return KERR_UNKNOWN_TOPIC_OR_PARTITION;
    case ERANGE:
        return KERR_OFFSET_OUT_OF_RANGE;
    case EINVAL:
        return KERR_INVALID_CONFIG;
    case EIO:
    case ENOSPC:
        return KERR_STORAGE;
    default:
        return KERR_UNKNOWN;
    }
}

bool topic_name_ok(struct slice name)
{
    if (name.n < 1 || name.n > 249 || sl_is(name, ".") || sl_is(name, ".."))
        return false;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char ch = (unsigned char)name.p[i];
        if (!isalnum(ch) && ch != '.' && ch != '_' && ch != '-')
            return false;
    }
    return true;
}

struct plog *find_part(struct broker *b, struct slice topic, int32_t index)
{
    struct topic *t = store_topic(b->store, topic);
    return t && index >= 0 && index < t->npartitions ? t->parts[index] : NULL;
}

struct topic *find_topic_id(struct broker *b, const uint8_t id[16])
{
    size_t pos = 0;
    struct topic *t;
    while (store_topic_next(b->store, &pos, &t)) {
        if (memcmp(t->id, id, 16) == 0)
            return t;
    }
    return NULL;
}

struct slice broker_advertised(const struct conn *c, char buf[static 64])
{
    const struct broker *b = c->b;
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (b->o.advertised_host)
        return sl_str(b->o.advertised_host);
    if (!b->wildcard || getsockname(c->fd, (struct sockaddr *)&a, &n) != 0)
        return sl_str(b->o.host);
    if (a.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, buf, 64);
        return sl_str(buf);
    }
    const struct in6_addr *in6 = &((struct sockaddr_in6 *)&a)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(in6))
        inet_ntop(AF_INET, (const char *)in6 + 12, buf, 64);
    else
        inet_ntop(AF_INET6, in6, buf, 64);
    return sl_str(buf);
}
