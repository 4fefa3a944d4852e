/* What waits for a partition: acknowledgements for its durable end, parked fetches for data.
 *
 * Owning thread: the broker's thread. A partition's waits hang at plog_user, made on first use and
 * freed when the partition goes away (wait_drop).
 * Invariant: acks are ordered by their end, so a durable end settles a prefix of the list. */
#include <errno.h>
#include <stdlib.h>

#include "broker/fetch_int.h"
#include "broker/wire_int.h"

struct waits {
    struct list acks, fetches;
};

static struct waits *waits_of(struct plog *p)
{
    void **place = plog_user(p);
    if (!*place) {
        struct waits *w = malloc(sizeof *w);
        if (!w)
            return NULL;
        list_init(&w->acks);
        list_init(&w->fetches);
        *place = w;
    }
    return *place;
}

bool wait_ack(struct broker *b, struct plog *p, struct ack_wait *w)
{
    if (plog_durable_end(p) >= w->end) {
        wait_on_durable(b, p); /* without syncs data is readable at once and nothing else says so */
        return false;
    }
    struct waits *ws = waits_of(p);
    if (!ws || plog_failed(p)) {
        w->fn(b, w, KERR_STORAGE);
        return true;
    }
    /* Nearly always the last; a duplicate of an older batch may end before it. */
    struct list *at = ws->acks.prev;
    while (at != &ws->acks && LIST_ENTRY(at, struct ack_wait, node)->end > w->end)
        at = at->prev;
    list_push(at->next, &w->node);
    return true;
}

int wait_data(struct plog *p, struct fetch_link *l)
{
    struct waits *ws = waits_of(p);
    if (!ws)
        return -ENOMEM;
    list_push(&ws->fetches, &l->node);
    return 0;
}

static void wake_fetches(struct waits *ws)
{
    /* fetch_wake takes all links of that fetch out of all lists, so begin again at the head. */
    while (!list_empty(&ws->fetches))
        fetch_wake(LIST_ENTRY(ws->fetches.next, struct fetch_link, node)->f);
}

void wait_on_durable(void *arg, struct plog *p)
{
    struct waits *ws = *plog_user(p);
    if (!ws)
        return;
    int16_t err = plog_failed(p) ? KERR_STORAGE : KERR_NONE;
    int64_t end = plog_durable_end(p);
    while (!list_empty(&ws->acks)) {
        struct ack_wait *w = LIST_ENTRY(ws->acks.next, struct ack_wait, node);
        bool durable = w->end <= end;
        if (!durable && !err)
            break;
        list_del(&w->node);
        w->fn(arg, w, durable ? KERR_NONE : err);
    }
    wake_fetches(ws);
}

void wait_drop(struct broker *b, struct plog *p, int16_t err)
{
    struct waits *ws = *plog_user(p);
    if (!ws)
        return;
    struct list *n;
    while ((n = list_pop(&ws->acks)))
        LIST_ENTRY(n, struct ack_wait, node)->fn(b, LIST_ENTRY(n, struct ack_wait, node), err);
    wake_fetches(ws);
    *plog_user(p) = NULL;
    free(ws);
}
