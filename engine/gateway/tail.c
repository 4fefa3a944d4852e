/* See tail.h. A record goes to the subscribers of its run and of its agent by a look-up each, and
 * to those of all runs; so a subscriber of another run or agent costs nothing while it waits.
 *
 * A callback may subscribe, and unsubscribe anybody: who leaves while a record is being given is
 * only marked, and freed when all were given it. */
#include "gateway/tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/run_read.h"
#include "triggers/journal.h"
#include "triggers/recwire.h"

#define RETRY_MS  500
#define LINGER_MS 30000 /* it is read on so long without a subscriber */

struct tail_sub {
    struct list node; /* in follow.all, or the list of its run or agent */
    struct list wait; /* in follow.born until it is live; in follow.dead when it has left */
    struct follow *follow;
    struct map *in;    /* follow.runs or follow.agents; NULL: all runs */
    struct list *head; /* of its list there */
    int64_t next;      /* -1: not live yet */
    bool gone;
    void (*fn)(void *arg, const struct rec *r);
    void (*live)(void *arg);
    void *arg;
    char id[]; /* the run or agent; "" */
};

/* A record that waits until the agent of a run is known. */
struct held {
    struct list node; /* in follow.held */
    struct rec *rec;
};

struct follow {
    struct tail *tail;
    int partition;
    struct kread *read;
    int64_t next, epoch; /* next -1: not begun */
    uint64_t nonce;
    struct list all, born, dead;
    struct map runs, agents; /* run id or agent -> struct list, malloced, of subscribers */
    struct list held;        /* for those of agents; the first one's agent is asked for */
    size_t n, nheld;
    bool starting, giving, asking;
    struct loop_timer timer; /* the next attempt; or its end, when nobody listens */
    struct loop_task tell;   /* those born that it is live */
    struct loop_task lost;   /* those of agents that they miss something */
};

struct tail {
    struct gateway *g;
    struct follow **v; /* by partition */
    size_t n;
    bool there;
    struct map known,
        former;       /* run id -> its agent, a text in `names`; the latest, and those before */
    struct map names; /* agent -> the same, malloced */
    struct tail_stats stats;
};

/* A job that finds where a following begins. */
struct beginning {
    struct api_read read;
    int partition;
    struct journal_start start;
};

/* A job that finds whose run the first held record is about. */
struct asking {
    struct api_read read;
    int partition;
    char run[RUN_ID_MAX], agent[AGENT_ID_BYTES];
};

static void begin(struct follow *f);
static void give_agents(struct follow *f, const struct rec *r);

/* ---- whose run ---- */

static const char *name_of(struct tail *t, struct slice agent)
{
    char *name = map_get(&t->names, agent);
    if (name || !(name = sl_dup(agent)) || map_put(&t->names, agent, name, NULL) == 0)
        return name;
    free(name);
    return NULL;
}

static void know(struct tail *t, const char *run, struct slice agent)
{
    const char *name = name_of(t, agent);
    if (t->known.n >= TAIL_KNOWN_MAX) {
        map_free(&t->former);
        t->former = t->known;
        map_init(&t->known);
    }
    if (name)
        (void)map_put(&t->known, sl_str(run), (void *)(uintptr_t)name, NULL);
}

void tail_know(struct tail *t, const char *run, const char *agent)
{
    know(t, run, sl_str(agent));
}

const char *tail_agent_of(struct tail *t, const struct rec *r)
{
    struct slice run = sl_str(r->run), a = {0};
    struct buf b;
    const char *name = map_get(&t->known, run);
    if (!name && (name = map_get(&t->former, run)))
        know(t, r->run, sl_str(name));
    if (name || r->type != REC_REQUESTED)
        return name;
    buf_init(&b, 4096);
    if (js_member(val_text(r->value), "agent", &a) && js_unquote(a, &b) == 0)
        know(t, r->run, buf_slice(&b));
    buf_free(&b);
    return map_get(&t->known, run);
}

/* ---- subscribers ---- */

static void sub_free(struct tail_sub *s)
{
    list_del(&s->node);
    list_del(&s->wait);
    if (s->in && list_empty(s->head)) {
        map_del(s->in, sl_str(s->id));
        free(s->head);
    }
    free(s);
}

/* r NULL: it misses something. */

static void give_list(struct list *l, const struct rec *r)
{
    LIST_EACH(it, l)
    {
        struct tail_sub *s = LIST_ENTRY(it, struct tail_sub, node);
        if (!s->gone && s->next >= 0 && (!r || r->offset >= s->next))
            s->fn(s->arg, r);
    }
}

static void given(struct follow *f)
{
    struct list *l;
    f->giving = false;
    while ((l = list_pop(&f->dead)))
        sub_free(LIST_ENTRY(l, struct tail_sub, wait));
}

static void give_map(const struct map *m, const struct rec *r)
{
    struct slice k;
    void *l;
    size_t pos = 0;
    while (map_next(m, &pos, &k, &l))
        give_list(l, r);
}

static void give(struct follow *f, const struct rec *r)
{
    struct list *l = r->run[0] ? map_get(&f->runs, sl_str(r->run)) : NULL;
    f->giving = true;
    give_list(&f->all, r);
    if (l)
        give_list(l, r);
    if (r->run[0] && f->agents.n)
        give_agents(f, r);
    given(f);
}

static struct list *list_of(struct map *m, const char *id)
{
    struct list *l = map_get(m, sl_str(id));
    if (l || !(l = malloc(sizeof *l)))
        return l;
    list_init(l);
    if (map_put(m, sl_str(id), l, NULL) == 0)
        return l;
    free(l);
    return NULL;
}

/* ---- subscribers of agents: held back until it is known whose a run is ---- */

static void drop_held(struct follow *f)
{
    struct list *l;
    while ((l = list_pop(&f->held))) {
        struct held *h = LIST_ENTRY(l, struct held, node);
        rec_unref(h->rec);
        free(h);
    }
    f->nheld = 0;
}

/* Never inside giving. */
static void lose(struct follow *f, bool all)
{
    drop_held(f);
    f->giving = true;
    give_map(&f->agents, NULL);
    if (all) {
        give_map(&f->runs, NULL);
        give_list(&f->all, NULL);
    }
    given(f);
}

/* True, or its agent is not known. */
static bool give_agent(struct follow *f, const struct rec *r)
{
    const char *agent = tail_agent_of(f->tail, r);
    struct list *l = agent ? map_get(&f->agents, sl_str(agent)) : NULL;
    if (l)
        give_list(l, r);
    return agent;
}

static void find_agent(struct api_read *r, struct kadmin *a)
{
    struct asking *x = LIST_ENTRY(r, struct asking, read);
    run_agent(r->g, a, x->run, x->agent, sizeof x->agent, &r->e);
}

static void ask(struct follow *f);

static void found_agent(struct api_read *r)
{
    struct asking *x = LIST_ENTRY(r, struct asking, read);
    struct tail *t = r->g->tail;
    struct follow *f = t ? t->v[x->partition] : NULL;
    if (f && r->e.code) {
        f->asking = false;
        log_warn(t->g->log, "whose a run is can't be found", "run=%s error=%s", x->run,
                 log_q(r->e.msg));
        lose(f, false);
    } else if (f) {
        f->asking = false;
        tail_know(t, x->run, x->agent);
        f->giving = true;
        while (!list_empty(&f->held)) {
            struct held *h = LIST_ENTRY(f->held.next, struct held, node);
            if (f->agents.n && !give_agent(f, h->rec))
                break;
            list_del(&h->node);
            f->nheld--;
            rec_unref(h->rec);
            free(h);
        }
        given(f);
        if (f->nheld)
            ask(f);
    }
    free(x);
}

static void ask(struct follow *f)
{
    struct asking *x = calloc(1, sizeof *x);
    const struct held *first = LIST_ENTRY(f->held.next, struct held, node);
    if (x) {
        x->partition = f->partition;
        memcpy(x->run, first->rec->run, sizeof x->run);
        x->read.work = find_agent;
        x->read.done = found_agent;
        f->asking = api_work(f->tail->g, &x->read) == 0;
    }
    if (!f->asking) { /* no memory, or the pool's queue is full */
        free(x);
        loop_later(f->tail->g->loop, &f->lost);
    }
}

static void on_lost(struct loop_task *t)
{
    lose(LIST_ENTRY(t, struct follow, lost), false);
}

static void give_agents(struct follow *f, const struct rec *r)
{
    if (!f->nheld && give_agent(f, r))
        return;
    struct held *h = f->nheld < TAIL_HELD_MAX ? malloc(sizeof *h) : NULL;
    if (!h) {
        loop_later(f->tail->g->loop, &f->lost);
        return;
    }
    h->rec = rec_ref((struct rec *)(uintptr_t)r);
    list_push(&f->held, &h->node);
    f->nheld++;
    if (!f->asking)
        ask(f);
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
    if (error == -ERANGE) {
        f->next = -1;
        lose(f, true);
    }
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
    f->lost.fn = on_lost;
    list_init(&f->tell.node);
    list_init(&f->lost.node);
    list_init(&f->held);
    map_init(&f->agents);
    list_init(&f->all);
    list_init(&f->born);
    list_init(&f->dead);
    map_init(&f->runs);
    t->v[partition] = f;
    return f;
}

/* ---- the interface ---- */

struct tail_sub *tail_subscribe(struct tail *t, int partition, const char *run, const char *agent,
                                void (*fn)(void *arg, const struct rec *r), void (*live)(void *arg),
                                void *arg)
{
    const char *id = run ? run : agent ? agent : "";
    if (partition < 0 || t->stats.subscribers >= TAIL_SUBSCRIBERS_MAX)
        return NULL;
    struct follow *f = follow_new(t, partition);
    struct tail_sub *s = f ? calloc(1, sizeof *s + strlen(id) + 1) : NULL;
    struct map *in = run ? &f->runs : agent ? &f->agents : NULL;
    struct list *l = !s ? NULL : in ? list_of(in, id) : &f->all;
    if (!l) {
        free(s);
        return NULL;
    }
    s->follow = f;
    s->in = in;
    s->head = l;
    memcpy(s->id, id, strlen(id) + 1);
    s->fn = fn;
    s->live = live;
    s->arg = arg;
    s->next = f->read ? f->next : -1;
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

int64_t tail_seen(const struct tail_sub *s)
{
    const struct follow *f = s->follow;
    int64_t seen = f->next;
    if (s->next < 0)
        return -1;
    if (s->in == &f->agents && f->nheld)
        seen = LIST_ENTRY(f->held.next, struct held, node)->rec->offset;
    return seen > s->next ? seen : s->next;
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
    if (!t)
        return NULL;
    t->g = g;
    map_init(&t->known);
    map_init(&t->former);
    map_init(&t->names);
    return t;
}

static void free_list(struct list *l)
{
    struct list *it;
    while ((it = list_pop(l)))
        free(LIST_ENTRY(it, struct tail_sub, node));
}

static void free_lists(struct map *m)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(m, &pos, &k, &v)) {
        free_list(v);
        free(v);
    }
    map_free(m);
}

struct tail *tail_free(struct tail *t)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    if (!t)
        return NULL;
    tail_node(t, false);
    for (size_t i = 0; i < t->n; i++) {
        struct follow *f = t->v[i];
        if (!f)
            continue;
        loop_timer_unset(&f->timer);
        loop_task_cancel(&f->tell);
        loop_task_cancel(&f->lost);
        drop_held(f);
        free_list(&f->all);
        free_lists(&f->runs);
        free_lists(&f->agents);
        free(f);
    }
    map_free(&t->known);
    map_free(&t->former);
    while (map_next(&t->names, &pos, &k, &v))
        free(v);
    map_free(&t->names);
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
