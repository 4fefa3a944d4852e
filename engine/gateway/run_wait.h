/* A call that waits for what becomes of one run: of its own request, and of the run. By the tail,
 * so on any node.
 *
 *   run_wait_begin, then the request is sent -> the request is seen (by its uuid) -> the owner's
 * answer (the fact that consumes it) -> the run's end
 *
 * One is inside the handler's struct; the call's `cancel` must call run_wait_stop. */
#pragma once
#include "core/rec.h"
#include "gateway/api_int.h"

#define WAIT_MAX_MS   120000 /* of Prefer: wait; more is cut down to it */
#define DECIDE_MAX_MS 15000  /* for an owner's decision */

struct tail_sub;
struct run_wait {
    struct gateway *g;
    struct tail_sub *sub; /* NULL: not begun, or stopped */
    struct loop_timer timer;
    char uuid[37];
    int64_t request;                /* its offset; -1: not seen yet */
    struct rec *answer, *end;       /* NULL: not seen */
    bool late;                      /* the time is over */
    void (*fn)(struct run_wait *w); /* one of these has changed; it may stop the wait */
};
/* False: the call was answered with 503. uuid: of the request that will be sent; NULL: none, only
 * the run's end is of interest. */
bool run_wait_begin(struct run_wait *w, struct call *c, const char *run, const char *uuid,
                    void (*fn)(struct run_wait *w));
void run_wait_until(struct run_wait *w, int64_t ms); /* `late` after so many ms from now */
void run_wait_stop(struct run_wait *w);              /* as often as you like */

/* "Prefer: wait=N" in ms; -1: it was not asked for. RFC 7240, section 4.3. */
int64_t api_prefer_wait(const struct call *c);
