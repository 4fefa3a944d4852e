/* See tail.h. A record goes to the subscribers of its run by one look-up, and to those of all runs;
 * so a subscriber of another run costs nothing while it waits.
 *
 * A callback may subscribe, and unsubscribe anybody: who leaves while a record is being given is
 * only marked, and freed when all were given it. */
#include "gateway/tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/api_int.h"
#include "triggers/journal.h"
#include "triggers/recwire.h"

#define RETRY_MS  500
#define LINGER_MS 30000 /* it is read on so long without a subscriber */

struct tail_sub {
    struct list node; /* in follow.all, or its run's list */
    struct list wait; /* in follow.born until it is live; in follow.dead when it has left */
    struct follow *follow;
    struct list *run; /* head of its run's list; NULL: all runs */
    int64_t next;     /* -1: not live yet */
    bool gone;
    void (*fn)(void *arg, const struct rec *r);
    void (*live)(void *arg);
    void *arg;
    char id[RUN_ID_MAX];
};

struct follow {
    struct tail *tail;
    int partition;
    struct kread *read;
    int64_t next, epoch; /* next -1: not begun */
    uint64_t nonce;
    struct list all, born, dead;
    struct map runs; /* run id -> struct list, malloced, of subscribers */
    size_t n;
    bool starting, giving;
    struct loop_timer timer; /* the next attempt; or its end, when nobody listens */
    struct loop_task tell;   /* those born that it is live */
};

struct tail {
    struct gateway *g;
    struct follow **v; /* by partition */
    size_t n;
    bool there;
    struct tail_stats stats;
};

/* A job that finds where a following begins. */
struct beginning {
    struct api_read read;
    int partition;
    struct journal_start start;
};

static void begin(struct follow *f);

/* ---- subscribers ---- */

static void sub_free(struct tail_sub *s)
{
    list_del(&s->node);
    list_del(&s->wait);
    if (s->run && list_empty(s->run)) {
        map_del(&s->follow->runs, sl_str(s->id));
        free(s->run);
    }
    free(s);
}

static void give_list(struct list *l, const struct rec *r)
{
    LIST_EACH(it, l)
    {
        struct tail_sub *s = LIST_ENTRY(it, struct tail_sub, node);
        if (!s->gone && s->next >= 0 && r->offset >= s->next)
            s->fn(s->arg, r);
    }
}

static void give(struct follow *f, const struct rec *r)
{
    struct list *l = r->run[0] ? map_get(&f->runs, sl_str(r->run)) : NULL;
    f->giving = true;
    give_list(&f->all, r);
    if (l)
        give_list(l, r);
    f->giving = false;
    while ((l = list_pop(&f->dead)))
        sub_free(LIST_ENTRY(l, struct tail_sub, wait));
}

static struct list *list_of(struct follow *f, const char *run)
{
    struct list *l = map_get(&f->runs, sl_str(run));
    if (l || !(l = malloc(sizeof *l)))
        return l;
    list_init(l);
    if (map_put(&f->runs, sl_str(run), l, NULL) == 0)
        return l;
    free(l);
    return NULL;
}

static struct follow *follow_of(struct tail *t, int partition)
{
    if ((size_t)partition >= t->n) {
        struct follow **v = realloc(t->v, ((size_t)partition + 1) * sizeof(struct follow *));
        if (!v)
            return NULL;
        for (t->v = v; t->n <= (size_t)partition; t->n++)
            v[t->n] = NULL;
    }
    return t->v[partition];
}

/* ---- following ---- */

static void on_record(void *arg, const struct krec *k)
{
    struct follow *f = arg;
    struct rec *r = NULL;
    f->next = k->offset + 1;
    f->tail->stats.records++;
    if (recwire_read(k, &r, NULL) < 0)
        return; /* not ours, or a tombstone */
    if (r->type == REC_OWNER) {
        f->epoch = r->offset;
        f->nonce = r->nonce;
    }
    bool is_void = !rec_is_request(r->type) && r->type != REC_OWNER &&
                   (r->epoch != f->epoch || r->nonce != f->nonce);
    if (!is_void && f->n)
        give(f, r);
    rec_unref(r);
}

static void again(struct follow *f, int64_t in_ms)
{
    loop_timer_set(f->tail->g->loop, &f->timer, loop_now(f->tail->g->loop) + in_ms);
}

/* The reader has ended by itself. -ERANGE: what is to come was cut, or the log is another one. */
static void on_end(void *arg, int error)
{
    struct follow *f = arg;
    f->read = NULL;
    log_info(f->tail->g->log, "the journal's end is read anew",
             "partition=%d next=%" PRId64 " error=%s", f->partition, f->next,
             log_q(strerror(-error)));
    if (error == -ERANGE)
        f->next = -1;
    again(f, RETRY_MS);
}

static void on_tell(struct loop_task *t)
{
    struct follow *f = LIST_ENTRY(t, struct follow, tell);
    struct list *l;
    while (f->next >= 0 && (l = list_pop(&f->born))) {
        struct tail_sub *s = LIST_ENTRY(l, struct tail_sub, wait);
        if (s->next < 0)
            s->next = f->next;
        if (s->live)
            s->live(s->arg);
    }
}

static void read_on(struct follow *f)
{
    struct gateway *g = f->tail->g;
    struct err e = {0};
    f->read = kread_start(node_klog(g->n), g->names.runs, f->partition, f->next, INT64_MAX,
                          on_record, on_end, f, &e);
    if (!f->read) {
        log_warn(g->log, "the journal's end can't be read", "partition=%d error=%s", f->partition,
                 log_q(e.msg));
        again(f, RETRY_MS);
        return;
    }
    LIST_EACH(it, &f->born)
    LIST_ENTRY(it, struct tail_sub, wait)->next = f->next;
    loop_later(g->loop, &f->tell);
}

static void work(struct api_read *r, struct kadmin *a)
{
    struct beginning *b = LIST_ENTRY(r, struct beginning, read);
    journal_near_end(a, &r->g->names, b->partition, &b->start, &r->e);
}

static void done(struct api_read *r)
{
    struct beginning *b = LIST_ENTRY(r, struct beginning, read);
    struct tail *t = r->g->tail;
    struct follow *f = t ? t->v[b->partition] : NULL;
    if (f && f->starting) {
        f->starting = false;
        if (r->e.code) {
            log_warn(t->g->log, "the journal's end can't be found", "partition=%d error=%s",
                     f->partition, log_q(r->e.msg));
            again(f, RETRY_MS);
        } else if (t->there && f->n) {
            f->next = b->start.from;
            f->epoch = b->start.epoch;
            f->nonce = b->start.nonce;
            read_on(f);
        }
    }
    free(b);
}

static void find_begin(struct follow *f)
{
    struct beginning *b = calloc(1, sizeof *b);
    if (b) {
        b->partition = f->partition;
        b->read.work = work;
        b->read.done = done;
        f->starting = api_work(f->tail->g, &b->read) == 0;
    }
    if (!f->starting) { /* no memory, or the pool's queue is full */
        free(b);
        again(f, RETRY_MS);
    }
}

static void begin(struct follow *f)
{
    struct tail *t = f->tail;
    if (!t->there || f->read || f->starting)
        return;
    if (f->next >= 0 || node_position(t->g->n, f->partition, &f->next, &f->epoch, &f->nonce))
        read_on(f);
    else
        find_begin(f);
}

static void stop(struct follow *f)
{
    if (f->read)
        f->read = kread_stop(f->read);
    f->next = -1;
}

static void on_timer(struct loop_timer *t)
{
    struct follow *f = LIST_ENTRY(t, struct follow, timer);
    if (f->n)
        begin(f);
    else
        stop(f);
}

static struct follow *follow_new(struct tail *t, int partition)
{
    struct follow *f = follow_of(t, partition);
    if (f || (size_t)partition >= t->n || !(f = calloc(1, sizeof *f)))
        return f;
    f->tail = t;
    f->partition = partition;
    f->next = -1;
    f->timer.fn = on_timer;
    f->tell.fn = on_tell;
    list_init(&f->tell.node);
    list_init(&f->all);
    list_init(&f->born);
    list_init(&f->dead);
    map_init(&f->runs);
    t->v[partition] = f;
    return f;
}

/* ---- the interface ---- */

struct tail_sub *tail_subscribe(struct tail *t, int partition, const char *run,
                                void (*fn)(void *arg, const struct rec *r), void (*live)(void *arg),
                                void *arg)
{
    if (partition < 0 || t->stats.subscribers >= TAIL_SUBSCRIBERS_MAX)
        return NULL;
    struct follow *f = follow_new(t, partition);
    struct tail_sub *s = f ? calloc(1, sizeof *s) : NULL;
    struct list *l = s ? (run ? list_of(f, run) : &f->all) : NULL;
    if (!l) {
        free(s);
        return NULL;
    }
    s->follow = f;
    s->run = run ? l : NULL;
    s->fn = fn;
    s->live = live;
    s->arg = arg;
    s->next = f->read ? f->next : -1;
    if (run)
        (void)snprintf(s->id, sizeof s->id, "%s", run);
    list_push(l, &s->node);
    list_push(&f->born, &s->wait);
    t->stats.subscribers++;
    if (f->n++ == 0)
        loop_timer_unset(&f->timer);
    if (f->read)
        loop_later(t->g->loop, &f->tell);
    else
        begin(f);
    return s;
}

struct tail_sub *tail_unsubscribe(struct tail_sub *s)
{
    if (!s)
        return NULL;
    struct follow *f = s->follow;
    f->tail->stats.subscribers--;
    if (--f->n == 0)
        again(f, LINGER_MS);
    if (!f->giving) {
        sub_free(s);
        return NULL;
    }
    s->gone = true;
    list_del(&s->wait);
    list_push(&f->dead, &s->wait);
    return NULL;
}

int64_t tail_next(const struct tail_sub *s)
{
    return s->next;
}

void tail_node(struct tail *t, bool there)
{
    t->there = there;
    for (size_t i = 0; i < t->n; i++) {
        struct follow *f = t->v[i];
        if (f && !there && f->read)
            f->read = kread_stop(f->read);
        else if (f && there && f->n)
            begin(f);
    }
}

struct tail *tail_new(struct gateway *g)
{
    struct tail *t = calloc(1, sizeof *t);
    if (t)
        t->g = g;
    return t;
}

static void free_list(struct list *l)
{
    struct list *it;
    while ((it = list_pop(l)))
        free(LIST_ENTRY(it, struct tail_sub, node));
}

struct tail *tail_free(struct tail *t)
{
    if (!t)
        return NULL;
    tail_node(t, false);
    for (size_t i = 0; i < t->n; i++) {
        struct follow *f = t->v[i];
        struct slice k;
        void *v;
        size_t pos = 0;
        if (!f)
            continue;
        loop_timer_unset(&f->timer);
        loop_task_cancel(&f->tell);
        free_list(&f->all);
        while (map_next(&f->runs, &pos, &k, &v)) {
            free_list(v);
            free(v);
        }
        map_free(&f->runs);
        free(f);
    }
    free(t->v);
    free(t);
    return NULL;
}

void tail_stats(const struct tail *t, struct tail_stats *ret)
{
    *ret = t->stats;
    for (size_t i = 0; i < t->n; i++)
        ret->partitions += t->v[i] && t->v[i]->read;
}
