/* Settings of topics and what can be said of the broker: DescribeConfigs, AlterConfigs,
 * IncrementalAlterConfigs.
 *
 * Owning thread: the broker's thread. A change is durable when it is answered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/wire_int.h"

#define RESOURCE_TOPIC  2
#define RESOURCE_BROKER 4
#define MAX_CONFIGS     200
enum { SOURCE_TOPIC = 1, SOURCE_BROKER = 4, SOURCE_DEFAULT = 5 };
enum { OP_SET, OP_DELETE, OP_APPEND, OP_SUBTRACT };

struct config {
    const char *name, *value, *dflt, *doc;
    int8_t type, source;
    bool read_only;
};

/* The names asked for (null: all), read again for each setting. */
static bool wanted(struct rd in, const char *name)
{
    int32_t n = rd_narray(&in);
    if (n < 0)
        return true;
    while (n-- > 0) {
        if (sl_is(rd_str(&in), name))
            return true;
    }
    return false;
}

static void write_synonym(struct wr *w, const char *name, const char *value, int8_t source)
{
    wr_str(w, sl_str(name));
    wr_nstr(w, sl_str(value));
    wr_i8(w, source);
    wr_tags(w);
}

static void write_config(struct wr *w, int version, const struct config *c, bool synonyms,
                         bool docs)
{
    bool both = c->source != SOURCE_DEFAULT && c->dflt;
    wr_str(w, sl_str(c->name));
    wr_nstr(w, sl_str(c->value));
    wr_i8(w, c->read_only);
    wr_i8(w, c->source);
    wr_i8(w, 0); /* not sensitive */
    wr_array(w, synonyms ? 1 + both : 0);
    if (synonyms)
        write_synonym(w, c->name, c->value, c->source);
    if (synonyms && both)
        write_synonym(w, c->name, c->dflt, SOURCE_DEFAULT);
    if (version >= 3) {
        wr_i8(w, c->type);
        wr_nstr(w, docs ? sl_str(c->doc) : (struct slice){NULL, 0});
    }
    wr_tags(w);
}

struct describe {
    struct req *q;
    struct rd names; /* of the resource at hand */
    bool synonyms, docs;
    int32_t count;
    bool write; /* false: only counts */
};

static void take(struct describe *d, const struct config *c)
{
    if (!wanted(d->names, c->name))
        return;
    d->count++;
    if (d->write)
        write_config(&d->q->out, d->q->version, c, d->synonyms, d->docs);
}

static void each_topic_config(struct describe *d, const struct topic *t)
{
    size_t n;
    const struct topic_setting *s = topic_settings(&n);
    for (size_t i = 0; i < n; i++) {
        const char *set = map_get(&t->config, sl_str(s[i].name));
        struct config c = {.name = s[i].name,
                           .value = set ? set : s[i].dflt,
                           .dflt = s[i].dflt,
                           .doc = s[i].doc,
                           .type = (int8_t)s[i].type,
                           .source = set ? SOURCE_TOPIC : SOURCE_DEFAULT};
        take(d, &c);
    }
}

static void each_broker_config(struct describe *d)
{
    const struct broker *b = d->q->b;
    char partitions[16], request[32], segment[32];
    snprintf(partitions, sizeof partitions, "%d", b->o.default_partitions);
    snprintf(request, sizeof request, "%zu", b->o.max_request_bytes);
    snprintf(segment, sizeof segment, "%lld", (long long)b->o.segment_bytes);
    const struct config v[] = {
        {"auto.create.topics.enable", b->o.auto_create_topics ? "true" : "false", NULL,
         "topics are made when a client asks for them", SETTING_BOOL, SOURCE_BROKER, true},
        {"broker.id", "1", NULL, "the id of the one node", SETTING_INT, SOURCE_BROKER, true},
        {"default.replication.factor", "1", NULL, "there is one node", SETTING_INT, SOURCE_BROKER,
         true},
        {"log.dirs", b->o.data_dir, NULL, "the data folder", SETTING_STRING, SOURCE_BROKER, true},
        {"log.segment.bytes", segment, NULL, "default of segment.bytes", SETTING_LONG,
         SOURCE_BROKER, true},
        {"min.insync.replicas", "1", NULL, "there is one node", SETTING_INT, SOURCE_BROKER, true},
        {"num.partitions", partitions, NULL, "of topics made without a count", SETTING_INT,
         SOURCE_BROKER, true},
        {"socket.request.max.bytes", request, NULL, "limit of one request", SETTING_LONG,
         SOURCE_BROKER, true},
    };
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        take(d, &v[i]);
}

static void describe_one(struct describe *d, int8_t type, struct slice name)
{
    struct wr *w = &d->q->out;
    struct topic *t = type == RESOURCE_TOPIC ? store_topic(d->q->b->store, name) : NULL;
    bool broker = type == RESOURCE_BROKER && (name.n == 0 || sl_is(name, "1"));
    int16_t error = t || broker              ? KERR_NONE
                    : type == RESOURCE_TOPIC ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                                             : KERR_INVALID_REQUEST;
    wr_i16(w, error);
    wr_nstr(w, error ? SL("no such resource") : (struct slice){NULL, 0});
    wr_i8(w, type);
    wr_str(w, name);
    for (int pass = 0; pass < 2; pass++) {
        d->write = pass == 1;
        if (d->write)
            wr_array(w, d->count);
        d->count = 0;
        if (t)
            each_topic_config(d, t);
        else if (broker)
            each_broker_config(d);
    }
    wr_tags(w);
}

static void skip_names(struct rd *in)
{
    for (int32_t n = rd_narray(in); n > 0; n--)
        rd_str(in);
}

int api_describe_configs(struct req *q)
{
    struct describe d = {.q = q};
    struct rd look = q->in;
    for (int32_t n = rd_array(&look); n > 0; n--) {
        rd_i8(&look);
        rd_str(&look);
        skip_names(&look);
        rd_tags(&look);
    }
    d.synonyms = rd_i8(&look) != 0;
    d.docs = q->version >= 3 && rd_i8(&look) != 0;
    wr_i32(&q->out, 0);
    int32_t n = rd_array(&q->in);
    wr_array(&q->out, n);
    while (n-- > 0) {
        int8_t type = rd_i8(&q->in);
        struct slice name = rd_str(&q->in);
        d.names = q->in;
        d.count = 0;
        describe_one(&d, type, name);
        skip_names(&q->in);
        rd_tags(&q->in);
    }
    wr_tags(&q->out);
    return REQ_DONE;
}

/* The settings that a topic shall have, with the text that had to be made for lists. */
struct change {
    struct slice v[MAX_CONFIGS][2];
    size_t n;
    char *made[MAX_CONFIGS];
    size_t nmade;
};

static void change_free(struct change *c)
{
    for (size_t i = 0; i < c->nmade; i++)
        free(c->made[i]);
    free(c);
}

static ptrdiff_t change_find(const struct change *c, struct slice name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (sl_eq(c->v[i][0], name))
            return (ptrdiff_t)i;
    }
    return -1;
}

static int change_set(struct change *c, struct slice name, struct slice value)
{
    ptrdiff_t at = change_find(c, name);
    if (at < 0 && c->n == MAX_CONFIGS)
        return -E2BIG;
    if (at < 0)
        at = (ptrdiff_t)c->n++;
    c->v[at][0] = name;
    c->v[at][1] = value;
    return 0;
}

static void change_drop(struct change *c, struct slice name)
{
    ptrdiff_t at = change_find(c, name);
    if (at < 0)
        return;
    c->n--;
    c->v[at][0] = c->v[c->n][0];
    c->v[at][1] = c->v[c->n][1];
}

static const struct topic_setting *setting_of(struct slice name)
{
    size_t n;
    const struct topic_setting *s = topic_settings(&n);
    for (size_t i = 0; i < n; i++) {
        if (sl_is(name, s[i].name))
            return &s[i];
    }
    return NULL;
}

static bool in_list(struct slice list, struct slice item)
{
    struct slice part;
    while (sl_split(&list, ',', &part)) {
        if (sl_eq(sl_trim(part), sl_trim(item)))
            return true;
    }
    return false;
}

/* A list with the items of `value` added or taken away. */
static int change_list(struct change *c, struct slice name, struct slice value, bool add,
                       struct err *e)
{
    const struct topic_setting *s = setting_of(name);
    ptrdiff_t at = change_find(c, name);
    if (!s || s->type != SETTING_LIST)
        return err_set(e, -EINVAL, NULL, "%.*s is not a list", SL_ARG(name));
    struct slice old = at >= 0 ? c->v[at][1] : sl_str(s->dflt), part;
    struct buf b;
    buf_init(&b, 65536);
    struct slice lists[2] = {old, value};
    for (int i = 0; i < (add ? 2 : 1); i++) {
        while (sl_split(&lists[i], ',', &part)) {
            bool skip = part.n == 0 || (i == 0 ? !add && in_list(value, part) : in_list(old, part));
            if (skip)
                continue;
            if (b.n)
                buf_addc(&b, ',');
            buf_add_slice(&b, sl_trim(part));
        }
    }
    buf_addc(&b, 0);
    char *text = c->nmade < MAX_CONFIGS ? buf_take(&b) : NULL;
    buf_free(&b);
    if (!text)
        return err_set(e, -EINVAL, NULL, "the list is too long");
    c->made[c->nmade++] = text;
    return change_set(c, name, sl_str(text));
}

static int change_one(struct change *c, int8_t op, struct slice name, struct slice value,
                      struct err *e)
{
    if (op == OP_DELETE) {
        change_drop(c, name);
        return 0;
    }
    if (!value.p || op < OP_SET || op > OP_SUBTRACT)
        return err_set(e, -EINVAL, NULL, "no value, or an unknown operation, for %.*s",
                       SL_ARG(name));
    if (op != OP_SET)
        return change_list(c, name, value, op == OP_APPEND, e);
    return change_set(c, name, value);
}

/* Reads the settings of one resource in either API, and makes the change. */
static int16_t alter_one(struct req *q, bool incremental, bool only_check, int8_t type,
                         struct slice name, struct err *e)
{
    struct topic *t = type == RESOURCE_TOPIC ? store_topic(q->b->store, name) : NULL;
    struct change *c = calloc(1, sizeof *c);
    int rc = c ? 0 : -ENOMEM;
    size_t pos = 0;
    struct slice key;
    void *value;
    while (c && t && incremental && rc == 0 && map_next(&t->config, &pos, &key, &value))
        rc = change_set(c, key, sl_str(value));
    for (int32_t n = rd_array(&q->in); n > 0; n--) {
        struct slice k = rd_str(&q->in);
        int8_t op = incremental ? rd_i8(&q->in) : OP_SET;
        struct slice v = rd_nstr(&q->in);
        rd_tags(&q->in);
        if (rc == 0 && t)
            rc = change_one(c, op, k, v, e);
    }
    rd_tags(&q->in);
    int16_t error = t ? KERR_NONE : KERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (type != RESOURCE_TOPIC) {
        error = KERR_INVALID_REQUEST;
        err_set(e, -EINVAL, NULL, "only settings of topics can be changed");
    } else if (t && sl_is(name, OFFSETS_TOPIC)) {
        error = KERR_INVALID_REQUEST;
        err_set(e, -EINVAL, NULL, "the settings of the offsets topic belong to the log");
    }
    if (!error && rc == 0)
        rc = store_topic_configure(q->b->store, t, (const struct slice(*)[2])c->v, c->n, only_check,
                                   e);
    if (c)
        change_free(c);
    return error ? error : kerr_of(rc);
}

static int alter(struct req *q, bool incremental)
{
    struct rd look = q->in;
    struct wr *w = &q->out;
    for (int32_t n = rd_array(&look); n > 0; n--) {
        rd_i8(&look);
        rd_str(&look);
        for (int32_t k = rd_array(&look); k > 0; k--) {
            rd_str(&look);
            if (incremental)
                rd_i8(&look);
            rd_nstr(&look);
            rd_tags(&look);
        }
        rd_tags(&look);
    }
    bool only_check = rd_i8(&look) != 0;
    wr_i32(w, 0);
    int32_t n = rd_array(&q->in);
    wr_array(w, n);
    while (n-- > 0) {
        struct err e = {0};
        int8_t type = rd_i8(&q->in);
        struct slice name = rd_str(&q->in);
        int16_t error = alter_one(q, incremental, only_check, type, name, &e);
        wr_i16(w, error);
        wr_nstr(w, error && e.msg[0] ? sl_str(e.msg) : (struct slice){NULL, 0});
        wr_i8(w, type);
        wr_str(w, name);
        wr_tags(w);
    }
    wr_tags(w);
    return REQ_DONE;
}

int api_alter_configs(struct req *q)
{
    return alter(q, false);
}

int api_incremental_alter_configs(struct req *q)
{
    return alter(q, true);
}
