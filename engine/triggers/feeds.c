/* See feeds.h: the followed side. A crash between "all committed" and "done": the next node starts
 * the router again, sees at once that everything is committed, and writes done. */
#include "triggers/feeds.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define FEEDS_MAX 32 /* replays at once on one node; further ones wait */

struct feed {
    struct list node;
    struct feeds *feeds;
    char *name, *label; /* NAME, replay:NAME */
    struct json_object *def;
    const char **topics;
    struct router_range *ranges;
    size_t nranges;
    char *agent;
    struct router *router;
    bool done, closing;
};
struct feeds {
    struct router_opts base;
    struct kread *read;
    struct loop_timer retry;
    int64_t next;
    struct list all;
    size_t running;
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void feed_free(struct feed *f)
{
    list_del(&f->node);
    for (size_t i = 0; i < f->nranges; i++)
        free(f->ranges[i].topic);
    free(f->ranges);
    free(f->topics);
    free(f->name);
    free(f->label);
    free(f->agent);
    json_object_put(f->def);
    free(f);
}

/* "replay:NAME"; the name of a dead letter's feed is taken as it is. */
static char *label_of(const char *name)
{
    char text[300];
    snprintf(text, sizeof text, strncmp(name, "dlq:", 4) ? "replay:%s" : "%s", name);
    return strdup(text);
}

static int add_ranges(struct feed *f)
{
    struct json_object *from = js_get(f->def, "from"), *to = js_get(f->def, "to");
    size_t ntopics = 0, cap = 0;
    if (!json_object_is_type(from, json_type_object) || !json_object_is_type(to, json_type_object))
        return -EPROTO;
    if (!(f->topics = calloc((size_t)json_object_object_length(to) + 1, sizeof *f->topics)))
        return -ENOMEM;
    json_object_object_foreach(to, topic, ends)
    {
        struct json_object *starts = js_get(from, topic);
        if (!json_object_is_type(ends, json_type_array) ||
            (starts && !json_object_is_type(starts, json_type_array)))
            return -EPROTO;
        f->topics[ntopics++] = topic;
        for (size_t i = 0; i < json_object_array_length(ends); i++) {
            if (f->nranges == cap) {
                cap = cap ? 2 * cap : 8;
                struct router_range *v = realloc(f->ranges, cap * sizeof *v);
                if (!v)
                    return -ENOMEM;
                f->ranges = v;
            }
            struct json_object *start = starts ? json_object_array_get_idx(starts, i) : NULL;
            f->ranges[f->nranges++] =
                (struct router_range){strdup(topic), (int)i,
                                      start ? json_object_get_int64(start) : 0,
                                      json_object_get_int64(json_object_array_get_idx(ends, i))};
        }
    }
    return f->nranges ? 0 : -EPROTO;
}

static struct feed *find(struct feeds *fs, const char *name)
{
    LIST_EACH(n, &fs->all)
    if (!strcmp(LIST_ENTRY(n, struct feed, node)->name, name))
        return LIST_ENTRY(n, struct feed, node);
    return NULL;
}

static void on_written(struct sent *s, int error, int partition, int64_t offset, const char *why)
{
    free(s);
}

static void write_done(struct feed *f)
{
    struct buf b;
    char key[300];
    struct sent *s = calloc(1, sizeof *s);
    buf_init(&b, 1 << 20);
    json_object_object_add(f->def, "done", json_object_new_boolean(true));
    js_write(f->def, &b);
    snprintf(key, sizeof key, "replay/%s", f->name);
    struct krec r = {.topic = sl_str(f->feeds->base.names->marks),
                     .partition = 0,
                     .time_ms = clock_wall_ms(),
                     .key = sl_str(key),
                     .value = buf_slice(&b)};
    if (s)
        s->done = on_written;
    if (!s || buf_error(&b) || kprod_send(f->feeds->base.prod, &r, s) < 0)
        free(s);
    buf_free(&b);
}

static void all_closed(struct feeds *fs)
{
    if (!fs->closing || fs->running)
        return;
    void (*fn)(void *) = fs->closed;
    void *arg = fs->closed_arg;
    LIST_EACH(n, &fs->all)
    feed_free(LIST_ENTRY(n, struct feed, node));
    free(fs);
    if (fn)
        fn(arg);
}

static void on_router_closed(void *arg)
{
    struct feed *f = arg;
    struct feeds *fs = f->feeds;
    f->router = NULL;
    f->closing = false;
    fs->running--;
    all_closed(fs);
}

static void feed_close(struct feed *f)
{
    if (!f->router || f->closing)
        return;
    f->closing = true;
    router_close(f->router, on_router_closed, f);
}

static void on_done(void *arg, struct router *r)
{
    struct feeds *fs = arg;
    LIST_EACH(n, &fs->all)
    {
        struct feed *f = LIST_ENTRY(n, struct feed, node);
        if (f->router != r)
            continue;
        log_info(fs->base.log, "replay is routed", "replay=%s runs=%lld dead=%lld", log_q(f->name),
                 (long long)router_routed(r), (long long)router_dead(r));
        f->done = true;
        write_done(f);
    }
}

static void feed_start(struct feed *f)
{
    struct err e = {0};
    struct router_opts o = f->feeds->base;
    o.feed = f->label;
    o.topics = f->topics;
    o.ranges = f->ranges;
    o.nranges = f->nranges;
    o.only_agent = f->agent;
    o.on_done = on_done;
    o.arg = f->feeds;
    if ((f->router = router_new(&o, &e))) {
        f->feeds->running++;
        log_info(o.log, "replay begins", "replay=%s", log_q(f->name));
    } else {
        log_error(o.log, "replay can't start", "replay=%s error=%s", log_q(f->name), log_q(e.msg));
        f->done = true;
    }
}

static void set_feed(struct feeds *fs, const char *name, struct slice text)
{
    struct json_object *o = NULL;
    struct feed *f = find(fs, name);
    if (js_parse(text, &o, NULL) < 0) {
        log_error(fs->base.log, "replay record can't be read", "replay=%s", log_q(name));
        return;
    }
    if (f) {
        f->done = f->done || js_bool(o, "done", false);
        json_object_put(o);
        return;
    }
    if (js_bool(o, "done", false) || !(f = calloc(1, sizeof *f))) {
        json_object_put(o);
        return;
    }
    list_init(&f->node);
    f->feeds = fs;
    f->def = o;
    f->name = strdup(name);
    f->label = label_of(name);
    f->agent = js_str(o, "agent") ? strdup(js_str(o, "agent")) : NULL;
    if (add_ranges(f) < 0) {
        log_error(fs->base.log, "replay has no range", "replay=%s", log_q(name));
        feed_free(f);
        return;
    }
    list_push(&fs->all, &f->node);
}

static void on_record(void *arg, const struct krec *r)
{
    struct feeds *fs = arg;
    fs->next = r->offset + 1;
    if (!r->value.p || !sl_starts(r->key, SL("replay/")))
        return;
    char *name = sl_dup(sl_from(r->key, 7));
    if (name)
        set_feed(fs, name, r->value);
    free(name);
}

static void start(struct feeds *fs);

static void on_end(void *arg, int error)
{
    struct feeds *fs = arg;
    fs->read = NULL; /* a reader ends with its `done` */
    loop_timer_set(fs->base.loop, &fs->retry, loop_now(fs->base.loop) + 1000);
}

static void start(struct feeds *fs)
{
    fs->read = kread_start(fs->base.klog, fs->base.names->marks, 0, fs->next ? fs->next : -2,
                           INT64_MAX, on_record, on_end, fs, NULL);
    if (!fs->read)
        loop_timer_set(fs->base.loop, &fs->retry, loop_now(fs->base.loop) + 1000);
}

static void on_retry(struct loop_timer *t)
{
    start(LIST_ENTRY(t, struct feeds, retry));
}

struct feeds *feeds_new(const struct router_opts *base, struct err *e)
{
    struct feeds *fs = calloc(1, sizeof *fs);
    if (!fs) {
        err_set(e, -ENOMEM, NULL, "no memory");
        return NULL;
    }
    fs->base = *base;
    list_init(&fs->all);
    fs->retry.fn = on_retry;
    start(fs);
    return fs;
}

void feeds_tick(struct feeds *fs)
{
    if (fs->closing || !defs_ready(fs->base.defs))
        return;
    LIST_EACH(n, &fs->all)
    {
        struct feed *f = LIST_ENTRY(n, struct feed, node);
        if (f->done)
            feed_close(f);
        else if (!f->router && fs->running < FEEDS_MAX)
            feed_start(f);
        if (f->router && !f->closing)
            router_tick(f->router);
    }
}

void feeds_close(struct feeds *fs, void (*fn)(void *arg), void *arg)
{
    if (fs->read)
        fs->read = kread_stop(fs->read);
    loop_timer_unset(&fs->retry);
    fs->closing = true;
    fs->closed = fn;
    fs->closed_arg = arg;
    LIST_EACH(n, &fs->all)
    feed_close(LIST_ENTRY(n, struct feed, node));
    all_closed(fs);
}
