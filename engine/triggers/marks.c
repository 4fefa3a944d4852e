/* See feeds.h: marks and replays as the CLI reads and writes them, blocking. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "triggers/feeds.h"

#define ADMIN_MS 15000

static int offsets_of(struct kadmin *a, const char *const *topics, bool by_time, int64_t ms,
                      struct json_object **ret, struct err *e)
{
    struct json_object *o = json_object_new_object();
    int error = 0;
    for (size_t i = 0; topics[i] && !error; i++) {
        struct json_object *v = json_object_new_array();
        int n = 0;
        json_object_object_add(o, topics[i], v);
        error = kadmin_topic(a, topics[i], &n, NULL, ADMIN_MS, e);
        for (int p = 0; p < n && !error; p++) {
            int64_t low, offset = 0;
            error = by_time ? kadmin_offset_at(a, topics[i], p, ms, &offset, ADMIN_MS, e)
                            : kadmin_watermarks(a, topics[i], p, &low, &offset, ADMIN_MS, e);
            json_object_array_add(v, json_object_new_int64(offset));
        }
    }
    if (error)
        json_object_put(o);
    else
        *ret = o;
    return error;
}

int marks_now(struct kadmin *a, const char *const *topics, struct json_object **ret, struct err *e)
{
    return offsets_of(a, topics, false, 0, ret, e);
}

int marks_at(struct kadmin *a, const char *const *topics, int64_t unix_ms, struct json_object **ret,
             struct err *e)
{
    return offsets_of(a, topics, true, unix_ms, ret, e);
}

int marks_put(struct kadmin *a, const struct names *n, const char *prefix, const char *name,
              struct json_object *o, struct err *e)
{
    char key[300];
    struct buf b;
    snprintf(key, sizeof key, "%s%s", prefix, name);
    buf_init(&b, 900 * 1024);
    int error = o ? js_write(o, &b) : 0;
    struct krec r = {.topic = sl_str(n->marks),
                     .partition = 0,
                     .time_ms = clock_wall_ms(),
                     .key = sl_str(key),
                     .value = buf_slice(&b)};
    if (!o)
        r.value = (struct slice){NULL, 0};
    if (!error)
        error = kadmin_send(a, &r, NULL, NULL, ADMIN_MS, e);
    buf_free(&b);
    return error;
}

static int check_name(const char *name, struct err *e)
{
    size_t n = strlen(name);
    bool ok =
        n >= 1 && n <= 128 &&
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") == n;
    return ok ? 0
              : err_set(e, -EINVAL, "use 1 to 128 letters, digits, '.', '_', '-'",
                        "\"%s\" is not a name", name);
}

struct all {
    const char *prefix;
    struct map v; /* name -> json_object */
};

static int on_record(void *arg, const struct krec *r)
{
    struct all *l = arg;
    struct json_object *o = NULL;
    void *old = NULL;
    if (!sl_starts(r->key, sl_str(l->prefix)))
        return 0;
    struct slice name = sl_from(r->key, strlen(l->prefix));
    if (!r->value.p)
        old = map_del(&l->v, name);
    else if (js_parse(r->value, &o, NULL) == 0 && map_put(&l->v, name, o, &old) < 0)
        json_object_put(o);
    json_object_put(old);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    struct json_object *x = *(struct json_object *const *)a, *y = *(struct json_object *const *)b;
    return strcmp(js_str(x, "name") ? js_str(x, "name") : "",
                  js_str(y, "name") ? js_str(y, "name") : "");
}

int marks_list(struct kadmin *a, const struct names *n, const char *prefix,
               struct json_object **ret, struct err *e)
{
    struct all l = {.prefix = prefix};
    struct slice k;
    void *v;
    size_t pos = 0;
    map_init(&l.v);
    int error = kadmin_read(a, n->marks, 0, -2, -1, on_record, &l, ADMIN_MS, e);
    struct json_object *list = json_object_new_array();
    while (map_next(&l.v, &pos, &k, &v))
        json_object_array_add(list, v);
    map_free(&l.v);
    json_object_array_sort(list, by_name);
    if (error)
        json_object_put(list);
    else
        *ret = list;
    return error;
}

int marks_get(struct kadmin *a, const struct names *n, const char *prefix, const char *name,
              struct json_object **ret, struct err *e)
{
    struct json_object *list, *found = NULL;
    int error = marks_list(a, n, prefix, &list, e);
    if (error)
        return error;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        if (js_str(o, "name") && !strcmp(js_str(o, "name"), name))
            found = json_object_get(o);
    }
    json_object_put(list);
    if (!found)
        return err_set(e, -ENOENT, "list them with `tidemark marks list`", "no %s named \"%s\"",
                       *prefix == 'm' ? "mark" : "replay", name);
    *ret = found;
    return 0;
}

static void add_time(struct json_object *o)
{
    char time[TIME_TEXT_MAX];
    time_write(time, clock_wall_ms());
    json_object_object_add(o, "time", json_object_new_string(time));
}

int marks_set(struct kadmin *a, const struct names *n, const char *name,
              struct json_object *offsets, struct err *e)
{
    int error = check_name(name, e);
    if (error)
        return error;
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "name", json_object_new_string(name));
    add_time(o);
    json_object_object_add(o, "offsets", json_object_get(offsets));
    error = marks_put(a, n, "mark/", name, o, e);
    json_object_put(o);
    return error;
}

int marks_delete(struct kadmin *a, const struct names *n, const char *name, struct err *e)
{
    struct json_object *o = NULL;
    int error = marks_get(a, n, "mark/", name, &o, e);
    json_object_put(o);
    return error ? error : marks_put(a, n, "mark/", name, NULL, e);
}

int replays_start(struct kadmin *a, const struct names *n, const char *name,
                  struct json_object *from, struct json_object *to, bool fixed, const char *agent,
                  bool *ret_existing, struct err *e)
{
    struct json_object *old = NULL, *o;
    int error = check_name(name, e);
    if (error)
        return error;
    *ret_existing = false;
    if (marks_get(a, n, "replay/", name, &old, NULL) == 0) {
        bool same =
            js_equal(js_get(old, "from"), from) && (!fixed || js_equal(js_get(old, "to"), to));
        json_object_put(old);
        if (!same)
            return err_set(e, -EEXIST,
                           "choose another --name; a name stands for one range, so that repeating "
                           "it makes no doubles",
                           "the replay \"%s\" exists with another range", name);
        *ret_existing = true;
        return 0;
    }
    o = json_object_new_object();
    json_object_object_add(o, "name", json_object_new_string(name));
    add_time(o);
    json_object_object_add(o, "from", json_object_get(from));
    json_object_object_add(o, "to", json_object_get(to));
    json_object_object_add(o, "agent", agent ? json_object_new_string(agent) : NULL);
    json_object_object_add(o, "done", json_object_new_boolean(false));
    error = marks_put(a, n, "replay/", name, o, e);
    json_object_put(o);
    return error;
}
