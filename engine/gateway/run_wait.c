/* See run_wait.h. */
#include "gateway/run_wait.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "gateway/tail.h"

static bool ends(enum rec_type t)
{
    return t == REC_COMPLETED || t == REC_FAULTED || t == REC_CANCELLED;
}

static void on_record(void *arg, const struct rec *r)
{
    struct run_wait *w = arg;
    struct rec *kept = (struct rec *)(uintptr_t)r;
    if (!r) /* something was missed: if it was what is waited for, the time will tell */
        return;
    if (rec_is_request(r->type)) {
        if (w->request < 0 && w->uuid[0] && r->uuid && !strcmp(r->uuid, w->uuid))
            w->request = r->offset;
        return;
    }
    bool mine = w->request >= 0 && r->consumed == w->request;
    if (mine && !w->answer)
        w->answer = rec_ref(kept);
    else if (ends(r->type) && !w->end && (w->answer || !w->uuid[0]))
        w->end = rec_ref(kept);
    else
        return;
    if (ends(r->type) && !w->end) /* a cancel's answer is the end */
        w->end = rec_ref(kept);
    w->fn(w);
}

static void on_timer(struct loop_timer *t)
{
    struct run_wait *w = LIST_ENTRY(t, struct run_wait, timer);
    w->late = true;
    w->fn(w);
}

bool run_wait_begin(struct run_wait *w, struct call *c, const char *run, const char *uuid,
                    void (*fn)(struct run_wait *w))
{
    *w = (struct run_wait){.g = c->g, .request = -1, .fn = fn, .timer.fn = on_timer};
    if (uuid)
        (void)snprintf(w->uuid, sizeof w->uuid, "%s", uuid);
    w->sub =
        tail_subscribe(c->g->tail, run_id_partition(sl_str(run)), run, NULL, on_record, NULL, w);
    if (!w->sub)
        api_later(c, 503, "try again", "too many requests wait on this node");
    return w->sub;
}

void run_wait_until(struct run_wait *w, int64_t ms)
{
    w->late = false;
    loop_timer_set(w->g->loop, &w->timer, loop_now(w->g->loop) + ms);
}

void run_wait_stop(struct run_wait *w)
{
    if (!w->g)
        return;
    w->sub = tail_unsubscribe(w->sub);
    loop_timer_unset(&w->timer);
    w->answer = rec_unref(w->answer);
    w->end = rec_unref(w->end);
}

int64_t api_prefer_wait(const struct call *c)
{
    struct slice rest = sl_str(http_header(c->r, "Prefer")), part;
    int64_t s;
    while (rest.p && sl_split(&rest, ',', &part)) {
        part = sl_trim(part);
        if (part.n > 5 && !strncasecmp(part.p, "wait=", 5) && sl_i64(sl_from(part, 5), &s) == 0 &&
            s >= 0)
            return s > WAIT_MAX_MS / 1000 ? WAIT_MAX_MS : s * 1000;
    }
    return -1;
}
