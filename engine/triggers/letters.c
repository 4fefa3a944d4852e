/* See letters.h. */
#include "triggers/letters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/map.h"
#include "triggers/defs.h"
#include "triggers/feeds.h"
#include "triggers/journal.h"
#include "triggers/request.h"

#define READ_MS 60000

static struct slice header(const struct krec *r, const char *name)
{
    for (size_t i = 0; i < r->nheaders; i++)
        if (sl_is(r->headers[i].name, name))
            return r->headers[i].value;
    return (struct slice){NULL, 0};
}

static void add(struct json_object *o, const char *key, struct slice v)
{
    json_object_object_add(o, key, v.p ? json_object_new_string_len(v.p, (int)v.n) : NULL);
}

/* Bytes that are no text, which a JSON string can't hold. */
static void add_base64(struct json_object *o, struct slice v)
{
    struct buf b;
    buf_init(&b, 2 * v.n + 16);
    if (base64_write(&b, v) == 0)
        add(o, "valueBase64", buf_slice(&b));
    buf_free(&b);
}

struct json_object *letter_json(const struct krec *r, bool whole)
{
    struct json_object *o = json_object_new_object(), *error = NULL;
    char id[64];
    (void)snprintf(id, sizeof id, "%d/%lld", r->partition, (long long)r->offset);
    json_object_object_add(o, "letter", json_object_new_string(id));
    add(o, "kind", header(r, "tm-dlq-kind"));
    add(o, "time", header(r, "tm-dlq-time"));
    add(o, "agent", header(r, "tm-dlq-agent"));
    add(o, "run", header(r, "tm-dlq-run"));
    add(o, "task", header(r, "tm-dlq-task"));
    add(o, "origin", header(r, "tm-dlq-origin"));
    add(o, "feed", header(r, "tm-dlq-feed"));
    add(o, "attempts", header(r, "tm-dlq-attempts"));
    if (header(r, "tm-dlq-cut").p)
        add(o, "cut", header(r, "tm-dlq-cut"));
    if (js_parse(header(r, "tm-dlq-error"), &error, NULL) == 0) {
        const char *detail =
            js_str(error, "detail") ? js_str(error, "detail") : js_str(error, "title");
        json_object_object_add(o, "reason", detail ? json_object_new_string(detail) : NULL);
    }
    if (!whole) {
        json_object_put(error);
        return o;
    }
    json_object_object_add(o, "error", error);
    struct json_object *hs = json_object_new_object();
    for (size_t i = 0; i < r->nheaders; i++) {
        char *name = sl_dup(r->headers[i].name);
        if (name && strncmp(name, "tm-dlq-", 7))
            add(hs, name, r->headers[i].value);
        free(name);
    }
    json_object_object_add(o, "headers", hs);
    add(o, "value", r->value);
    if (!utf8_valid(r->value))
        add_base64(o, r->value);
    return o;
}

/* ---- a list ---- */

struct listing {
    const struct letters_ask *q;
    struct json_object *list;
    struct map seen;     /* keys */
    size_t n, looked_at; /* in the list; of all */
    int64_t next;        /* offset to go on at, when it was stopped */
};

static int on_letter(void *arg, const struct krec *r)
{
    struct listing *l = arg;
    bool late = l->q->until_ms && clock_boot_ms() > l->q->until_ms;
    if ((l->q->limit && l->n == l->q->limit) || (late && l->looked_at)) {
        l->next = r->offset;
        return 1;
    }
    l->looked_at++;
    if (!r->value.p || map_has(&l->seen, r->key))
        return 0;
    struct json_object *o = letter_json(r, false);
    if (l->q->want && !l->q->want(l->q->arg, o)) {
        json_object_put(o);
        return 0;
    }
    if (map_put(&l->seen, r->key, l, NULL) || js_push_new(l->list, o))
        return -ENOMEM;
    l->n++;
    return 0;
}

/* One partition from `from` on: 1 when it was stopped. */
static int list_partition(struct kadmin *a, const struct names *n, struct listing *l, int p,
                          int64_t from, struct err *e)
{
    int64_t low = 0, high = 0;
    int error = kadmin_watermarks(a, n->dlq, p, &low, &high, JOURNAL_ADMIN_MS, e);
    from = from < low ? low : from;
    if (error || from >= high)
        return error;
    return kadmin_read(a, n->dlq, p, from, high, on_letter, l, READ_MS, e);
}

int letters_list(struct kadmin *a, const struct names *n, const struct letters_ask *q,
                 struct json_object *list, int *ret_partition, int64_t *ret_offset, struct err *e)
{
    struct listing l = {.q = q, .list = list, .next = -1};
    int partitions = 0, p, stopped = 0;
    map_init(&l.seen);
    int error = kadmin_topic(a, n->dlq, &partitions, NULL, JOURNAL_ADMIN_MS, e);
    for (p = q->partition; p < partitions && !error && !stopped; p += !stopped) {
        stopped = list_partition(a, n, &l, p, p == q->partition ? q->offset : 0, e);
        error = stopped < 0 ? stopped : 0;
    }
    map_free(&l.seen);
    if (error == -ENOMEM)
        return err_set(e, error, "ask for fewer at once", "no memory for the dead letters");
    *ret_partition = stopped ? p : -1;
    *ret_offset = l.next;
    return error;
}

/* ---- one ---- */

struct one {
    int (*fn)(void *arg, const struct krec *r);
    void *arg;
    bool any;
    int result;
};

static int on_one(void *arg, const struct krec *r)
{
    struct one *o = arg;
    o->any = true;
    o->result = o->fn(o->arg, r);
    return 1;
}

int letter_read(struct kadmin *a, const struct names *n, int partition, int64_t offset,
                int (*fn)(void *arg, const struct krec *r), void *arg, struct err *e)
{
    struct one o = {.fn = fn, .arg = arg};
    int64_t low = 0, high = 0;
    int error = kadmin_watermarks(a, n->dlq, partition, &low, &high, READ_MS, e);
    if (!error && offset >= low && offset < high) /* a reading beyond the end would wait for more */
        error = kadmin_read(a, n->dlq, partition, offset, offset + 1, on_one, &o, READ_MS, e);
    if (!o.any && (!error || error == -ERANGE || error == -ENOENT))
        return err_set(e, -ENOENT, "`tidemark dlq list` and GET /v1/dlq list them",
                       "no dead letter %d/%lld", partition, (long long)offset);
    return error < 0 ? error : o.result;
}

/* ---- again ---- */

/* A run: a new run of the agent's active version with the same input; its feed is the letter. */
static int redrive_run(struct kadmin *a, const struct names *n, const struct krec *r,
                       struct json_object *o, bool dry_run, struct redriven *ret, struct err *e)
{
    char hash[FLOW_HASH_MAX], version[64], feed[64];
    const char *agent = js_str(o, "agent"), *key = js_str(o, "key");
    struct rec *q = NULL;
    int partitions = 0;
    int error = agents_find(a, n, agent ? agent : "", hash, ret->agent, version, e);
    if (!error)
        error = journal_partitions(a, n, &partitions, e);
    if (error)
        return error;
    (void)snprintf(feed, sizeof feed, "dlq:%d/%lld", r->partition, (long long)r->offset);
    int partition = run_partition(sl_str(ret->agent), sl_str(key ? key : ""), partitions);
    run_id_make(ret->run, partition, sl_str(ret->agent), sl_str(feed), header(r, "tm-dlq-run"),
                SL("redrive"));
    struct request rq = {.agent = ret->agent,
                         .version = version,
                         .hash = hash,
                         .key = key,
                         .input = js_get(o, "input"),
                         .event = js_get(o, "event"),
                         .run_id = ret->run,
                         .priority = 5,
                         .src_offset = -1,
                         .floor = -1,
                         .time_ms = clock_wall_ms()};
    if (dry_run)
        return 0;
    error = request_make(&rq, &q, e);
    if (!error)
        error = journal_send(a, n, q, partition, NULL, e);
    rec_unref(q);
    return error;
}

/* The range of the one event, for a replay of its topic. */
static void range_of(const struct redriven *x, int partitions, struct json_object *from,
                     struct json_object *to)
{
    struct json_object *begin = json_object_new_array(), *end = json_object_new_array();
    for (int p = 0; p < partitions; p++) {
        js_push_new(begin, json_object_new_int64(p == x->partition ? x->offset : 0));
        js_push_new(end, json_object_new_int64(p == x->partition ? x->offset + 1 : 0));
    }
    js_put_new(from, x->topic, begin);
    js_put_new(to, x->topic, end);
}

/* An event: its place in the event topic is fed again by a replay of one record, under the letter's
 * name; only to the agent that the letter is for, since the others have their runs. */
static int redrive_event(struct kadmin *a, const struct names *n, const struct krec *r,
                         bool dry_run, struct redriven *ret, struct err *e)
{
    struct slice origin = header(r, "tm-dlq-origin"), topic, part,
                 agent = header(r, "tm-dlq-agent");
    int partitions = 0;
    if (!sl_split(&origin, '/', &topic) || !sl_split(&origin, '/', &part) ||
        sl_i64(part, &ret->partition) < 0 || sl_i64(origin, &ret->offset) < 0 ||
        topic.n > NAME_MAX_BYTES)
        return err_set(e, -EPROTO, "only letters written by tidemark can be redriven",
                       "the letter has no origin");
    (void)snprintf(ret->replay, sizeof ret->replay, "dlq:%d-%lld", r->partition,
                   (long long)r->offset);
    (void)snprintf(ret->topic, sizeof ret->topic, "%.*s", SL_ARG(topic));
    (void)snprintf(ret->agent, sizeof ret->agent, "%.*s", SL_ARG(agent));
    int error = kadmin_topic(a, ret->topic, &partitions, NULL, JOURNAL_ADMIN_MS, e);
    if (error || dry_run)
        return error;
    struct json_object *from = json_object_new_object(), *to = json_object_new_object();
    range_of(ret, partitions, from, to);
    error = replays_start(a, n, ret->replay, from, to, true, agent.n ? ret->agent : NULL,
                          &ret->existing, e);
    json_object_put(from);
    json_object_put(to);
    return error;
}

int letter_redrive(struct kadmin *a, const struct names *n, const struct krec *r, bool dry_run,
                   struct redriven *ret, struct err *e)
{
    struct json_object *o = NULL;
    memset(ret, 0, sizeof *ret);
    if (!sl_is(header(r, "tm-dlq-kind"), "run"))
        return redrive_event(a, n, r, dry_run, ret, e);
    if (js_parse(r->value, &o, e) < 0)
        return -EPROTO;
    int error = redrive_run(a, n, r, o, dry_run, ret, e);
    json_object_put(o);
    return error;
}
