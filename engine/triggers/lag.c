/* See lag.h. */
#include "triggers/lag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/js.h"

#define ADMIN_MS 15000

static void on_member(void *arg, const char *member, const char *client, const char *host,
                      const char *topic, int partition)
{
    struct json_object *o = json_object_new_object();
    js_put_new(o, "member", json_object_new_string(member));
    js_put_new(o, "node", json_object_new_string(client ? client : ""));
    js_put_new(o, "host", json_object_new_string(host));
    js_put(o, "topic", topic ? json_object_new_string(topic) : NULL);
    js_put(o, "partition", topic ? json_object_new_int(partition) : NULL);
    js_push_new(arg, o);
}

int lag_members(struct kadmin *a, const struct names *n, char **ret_state,
                struct json_object **ret_members, struct err *e)
{
    struct json_object *list = json_object_new_array();
    char *state = NULL;
    int error = list ? kadmin_group(a, n->owners, &state, on_member, list, ADMIN_MS, e)
                     : err_set(e, -ENOMEM, "try again", "no memory for the group");
    if (error == -ENOENT)
        err_set(e, error, "`tidemark serve` or `tidemark dev` starts one",
                "no node of the group %s has run yet", n->owners + strlen("tidemark."));
    if (error) {
        json_object_put(list);
        free(state);
        return error;
    }
    *ret_state = state;
    *ret_members = list;
    return 0;
}

static struct json_object *part_json(const struct kpart *p, int64_t low, int64_t high)
{
    struct json_object *o = json_object_new_object();
    int64_t from = p->offset < low ? low : p->offset;
    js_put_new(o, "topic", json_object_new_string(p->topic));
    js_put_new(o, "partition", json_object_new_int(p->partition));
    js_put_new(o, "low", json_object_new_int64(low));
    js_put_new(o, "high", json_object_new_int64(high));
    if (p->offset >= 0)
        js_put_new(o, "committed", json_object_new_int64(p->offset));
    else
        js_put(o, "committed", NULL);
    js_put_new(o, "lag", json_object_new_int64(high > from ? high - from : 0));
    return o;
}

int lag_add(struct kadmin *a, const char *group, const char *topic, struct json_object *list,
            struct err *e)
{
    int n = 0, error = kadmin_topic(a, topic, &n, NULL, ADMIN_MS, e);
    struct kpart *v = error ? NULL : calloc((size_t)n, sizeof *v);
    if (!error && !v)
        error = err_set(e, -ENOMEM, "try again", "no memory for %d partitions", n);
    for (int p = 0; p < n && !error; p++) {
        v[p].partition = p;
        if (!(v[p].topic = strdup(topic)))
            error = err_set(e, -ENOMEM, "try again", "no memory for %d partitions", n);
    }
    if (!error)
        error = kadmin_committed(a, group, v, (size_t)n, ADMIN_MS, e);
    for (int p = 0; p < n && !error; p++) {
        int64_t low, high;
        error = kadmin_watermarks(a, topic, p, &low, &high, ADMIN_MS, e);
        if (!error)
            js_push_new(list, part_json(&v[p], low, high));
    }
    kparts_free(v, v ? (size_t)n : 0);
    return error;
}
