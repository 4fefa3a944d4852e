/* See feeds.h: what someone asks to be fed again, made a range of offsets. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "triggers/feeds.h"

const char **marks_topics(const struct config *c)
{
    const char **v = calloc(c->ntopics + 1, sizeof *v);
    for (size_t i = 0; v && i < c->ntopics; i++)
        v[i] = c->topics[i].name;
    return v;
}

static int offsets_at(struct kadmin *a, const struct config *c, int64_t ms,
                      struct json_object **ret, struct err *e)
{
    const char **topics = marks_topics(c);
    int error = topics && topics[0]
                    ? marks_at(a, topics, ms, ret, e)
                    : err_set(e, -EINVAL, "declare topics in topics/*.yaml, or name them",
                              "there are no event topics");
    free(topics);
    return error;
}

static bool are_offsets(struct json_object *o)
{
    if (!json_object_is_type(o, json_type_object) || !json_object_object_length(o))
        return false;
    json_object_object_foreach(o, topic, v)
    {
        (void)topic;
        if (!json_object_is_type(v, json_type_array))
            return false;
        for (size_t i = 0; i < js_length(v); i++)
            if (js_at(v, i) && (!json_object_is_type(js_at(v, i), json_type_int) ||
                                json_object_get_int64(js_at(v, i)) < 0))
                return false;
    }
    return true;
}

/* One end of the range: a mark, a time, or offsets, which are copied. */
static int read_end(struct kadmin *a, const struct names *n, const struct config *c,
                    struct json_object *end, const char *what, struct json_object **ret,
                    struct err *e)
{
    const char *text =
        json_object_is_type(end, json_type_string) ? json_object_get_string(end) : NULL;
    struct json_object *mark = NULL;
    int64_t ms;
    bool ok = true;
    if (!text && !are_offsets(end))
        return err_set(e, -EINVAL, "the name of a mark, a time, or {TOPIC: [OFFSET, ...]}",
                       "%s is no place in the event topics", what);
    if (!text)
        return (*ret = js_copy(end, &ok)) && ok
                   ? 0
                   : err_set(e, -ENOMEM, "try again", "no memory for the replay");
    if (time_read(sl_str(text), &ms) == 0)
        return offsets_at(a, c, ms, ret, e);
    int error = marks_get(a, n, "mark/", text, &mark, e);
    if (!error)
        *ret = json_object_get(js_get(mark, "offsets"));
    json_object_put(mark);
    if (!error && !are_offsets(*ret))
        error = err_set(e, -EPROTO, "set it again", "the mark %s has no offsets", text);
    return error;
}

/* Both ends for the same partitions: what --from leaves open begins at --to (nothing), what --to
 * leaves open ends now. */
static int complete(struct kadmin *a, struct json_object *from, struct json_object **to,
                    struct err *e)
{
    const char *topics[256];
    size_t n = 0;
    struct json_object *now = NULL;
    json_object_object_foreach(from, topic, unused)
    {
        (void)unused;
        if (n == 255)
            return err_set(e, -EINVAL, "use several replays", "a replay has at most 255 topics");
        topics[n++] = topic;
    }
    topics[n] = NULL;
    int error = marks_now(a, topics, &now, e);
    if (error)
        return error;
    struct json_object *out = json_object_new_object();
    for (size_t i = 0; i < n; i++) {
        struct json_object *f = js_get(from, topics[i]), *t = js_get(*to, topics[i]),
                           *w = js_get(now, topics[i]), *v = json_object_new_array();
        for (size_t p = 0; p < json_object_array_length(w); p++) {
            struct json_object *end =
                t && p < json_object_array_length(t) ? json_object_array_get_idx(t, p) : NULL;
            int64_t high = json_object_get_int64(json_object_array_get_idx(w, p)),
                    stop = end ? json_object_get_int64(end) : high;
            bool given = p < json_object_array_length(f) && json_object_array_get_idx(f, p);
            if (p >= json_object_array_length(f))
                json_object_array_add(f, json_object_new_int64(stop > high ? high : stop));
            else if (!given)
                json_object_array_put_idx(f, p, json_object_new_int64(stop > high ? high : stop));
            json_object_array_add(v, json_object_new_int64(stop > high ? high : stop));
        }
        json_object_object_add(out, topics[i], v);
    }
    json_object_put(now);
    json_object_put(*to);
    *to = out;
    return 0;
}

static int64_t count_events(struct json_object *from, struct json_object *to)
{
    int64_t n = 0;
    json_object_object_foreach(to, topic, ends)
    {
        for (size_t p = 0; p < json_object_array_length(ends); p++) {
            int64_t a = json_object_get_int64(json_object_array_get_idx(js_get(from, topic), p)),
                    b = json_object_get_int64(json_object_array_get_idx(ends, p));
            n += b > a ? b - a : 0;
        }
    }
    return n;
}

static void name_range(const struct replay_ask *q, struct replay_made *m)
{
    uint8_t h[SHA256_BYTES];
    struct buf b;
    if (q->name) {
        (void)snprintf(m->name, sizeof m->name, "%s", q->name);
        return;
    }
    buf_init(&b, 1 << 20);
    js_write(m->from, &b);
    js_write(m->to, &b);
    buf_adds(&b, q->agent ? q->agent : "");
    sha256(buf_slice(&b), h);
    hex_write(m->name, h, 6);
    buf_free(&b);
}

static int start(struct kadmin *a, const struct names *n, const struct replay_ask *q,
                 struct replay_made *m, struct err *e)
{
    char hash[FLOW_HASH_MAX], id[2 * FLOW_NAME_MAX + 2], version[64];
    struct json_object *old = NULL;
    /* A replay that exists fixed its end when it was started. */
    if (!q->to && marks_get(a, n, "replay/", m->name, &old, NULL) == 0 && js_get(old, "to")) {
        json_object_put(m->to);
        m->to = json_object_get(js_get(old, "to"));
    }
    json_object_put(old);
    m->events = count_events(m->from, m->to);
    int error = q->agent ? agents_find(a, n, q->agent, hash, id, version, e) : 0;
    if (!error && !q->dry_run)
        error = replays_start(a, n, m->name, m->from, m->to, q->to, q->agent ? id : NULL,
                              &m->existing, e);
    return error;
}

int replays_ask(struct kadmin *a, const struct names *n, const struct config *c,
                const struct replay_ask *q, struct replay_made *ret, struct err *e)
{
    struct replay_made m = {0};
    int error = q->name && strlen(q->name) >= sizeof m.name
                    ? err_set(e, -EINVAL, "use 1 to 128 letters, digits, '.', '_', '-'",
                              "the name of the replay is too long")
                    : read_end(a, n, c, q->from, "from", &m.from, e);
    if (!error && q->to)
        error = read_end(a, n, c, q->to, "to", &m.to, e);
    if (!error)
        error = complete(a, m.from, &m.to, e);
    if (!error) {
        name_range(q, &m);
        error = start(a, n, q, &m, e);
    }
    if (error)
        replay_made_free(&m);
    else
        *ret = m;
    return error;
}

void replay_made_free(struct replay_made *m)
{
    json_object_put(m->from);
    json_object_put(m->to);
    *m = (struct replay_made){0};
}
