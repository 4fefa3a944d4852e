/* See route_guess.h; route_job.c does the same with the record in hand. */
#include "triggers/route_guess.h"

#include <errno.h>
#include <stdlib.h>

bool route_reads(const struct agent *a, struct slice topic)
{
    const struct flow_info *fi = a->active && a->flow ? flow_info(a->flow) : NULL;
    if (!fi || !fi->schedule.on)
        return false;
    for (size_t i = 0; fi->topics && fi->topics[i]; i++)
        if (sl_is(topic, fi->topics[i]))
            return true;
    return !fi->topics;
}

static int matches(const struct flow_schedule *s, const struct event *ev)
{
    int left = 0;
    if (s->any_event)
        return 1;
    for (size_t i = 0; i < s->nfilters; i++) {
        int r = filter_match(&s->filters[i], ev->envelope, NULL);
        if (r == 1)
            return left ? left : 1;
        left = r == -EINPROGRESS ? r : left; /* a failing expression does not match */
    }
    return left;
}

int route_guess(const struct agent *a, const struct event *ev, struct slice topic, struct slice key,
                int partitions, char run[RUN_ID_MAX])
{
    const struct flow_info *fi = flow_info(a->flow);
    struct json_object *v = NULL;
    struct expr_args args = {.present = 1u << VAR_EVENT};
    int r = matches(&fi->schedule, ev);
    if (r != 1)
        return r;
    args.var[VAR_EVENT] = ev->envelope;
    if (fi->key &&
        (!tmpl_is_inline(fi->key) || tmpl_eval_inline(fi->key, ev->envelope, &args, &v, NULL)))
        return -EINPROGRESS;
    if (json_object_is_type(v, json_type_object) || json_object_is_type(v, json_type_array)) {
        json_object_put(v); /* the router makes a dead letter of it */
        return 0;
    }
    if (v) {
        const char *text = json_object_get_string(v);
        key = sl_str(text ? text : "");
    } else if (!key.p) {
        key = sl_str(ev->id);
    }
    run_id_make(run, run_partition(sl_str(a->id), key, partitions), sl_str(a->id), SL("live"),
                sl_str(ev->source), sl_str(ev->id));
    json_object_put(v);
    return 1;
}
