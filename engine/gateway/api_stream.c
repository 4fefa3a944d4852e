/* Server-sent events (the HTML standard, section 9.2): what the journal says of one run, or of all,
 * as it comes, and from any offset that it still holds.
 *
 *   subscribed to the tail -> the tail's position is known -> what is below it is read in pages
 * (jobs)
 *   -> what the tail gave meanwhile -> live
 *
 * The id of an event says what was seen: the offset for one run, "PARTITION:NEXT,..." for several
 * partitions; with Last-Event-ID a stream goes on behind it, on any node. Nothing is dropped: a
 * client that does not read is cut off, and goes on from what it has seen. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/page.h"
#include "gateway/run_read.h"
#include "gateway/streams.h"
#include "gateway/tail.h"
#include "view/view.h"

#define OUT_MAX   (4u << 20) /* bytes that a client may leave unread */
#define QUEUE_MAX 10000      /* records that wait for a page */
#define BEAT_MS   15000
#define RETRY_MS  2000 /* what clients are told */

struct stream;
struct spart {
    struct stream *s;
    int partition;
    struct tail_sub *sub;
    int64_t next; /* of the client: everything below was sent, or is of no interest; -1: none yet */
    struct list page, queue; /* struct page_item: read from the log; given by the tail */
    size_t n;                /* in the queue */
    int64_t read_to;         /* where the next page begins */
    struct run_place *place; /* what of the journal is still to be read; NULL: not known */
    bool live, busy;         /* all below the queue was read; a page or an agent is being read */
};
struct stream {
    struct list node; /* in gateway.streams */
    struct call *c;
    struct gateway *g;
    struct http_stream *out; /* NULL: not begun */
    struct key_watch watch;
    char run[RUN_ID_MAX], agent[AGENT_ID_BYTES]; /* "": all */
    struct spart *v;
    int n, jobs, known_places;
    bool gone, found, ended; /* found: there is such a run */
};
struct stream_page {
    struct page page; /* first */
    struct spart *p;
};
struct agent_read {
    struct api_read read; /* first */
    struct spart *p;
    char run[RUN_ID_MAX], agent[AGENT_ID_BYTES];
};

static void go_on(struct spart *p);
static void refuse(struct stream *s, const struct err *e);
static void read_page(struct spart *p, int64_t from, const char *key);

/* ---- life ---- */

static void stream_free(struct stream *s)
{
    if (s->jobs)
        return; /* the last of them frees it */
    list_del(&s->node);
    for (int i = 0; i < s->n; i++)
        free(s->v[i].place);
    free(s->v);
    free(s);
}

/* Lets go of everything; jobs under way find it gone. */
static void leave(struct stream *s)
{
    s->gone = true;
    guard_unwatch(&s->watch);
    for (int i = 0; i < s->n; i++) {
        s->v[i].sub = tail_unsubscribe(s->v[i].sub);
        page_free_items(&s->v[i].queue);
        page_free_items(&s->v[i].page);
    }
    stream_free(s);
}

static void on_closed(void *arg)
{
    struct stream *s = arg;
    s->out = NULL;
    leave(s);
}

static void on_cancel(struct call *c)
{
    leave(c->data);
}

static void cut(struct stream *s, const char *why)
{
    log_debug(s->g->log, "a stream is cut off", "peer=%s why=%s", log_q(http_peer(s->c->r)),
              log_q(why));
    s->ended = true;
    http_stream_cut(s->out);
}

static void on_keys(struct key_watch *w)
{
    struct stream *s = LIST_ENTRY(w, struct stream, watch);
    if (s->out && !s->ended && !guard_still(s->g, &s->c->who, SCOPE_READ))
        cut(s, "its key is not good any more");
}

/* ---- events ---- */

/* Where the tail has nothing for it, below where the tail is all was seen. */
static void keep_up(struct stream *s, const struct spart *but)
{
    for (int i = 0; i < s->n; i++) {
        struct spart *p = &s->v[i];
        int64_t seen = p != but && p->live && !p->busy && list_empty(&p->page) && !p->n
                           ? tail_seen(p->sub)
                           : -1;
        if (seen > p->next)
            p->next = seen;
    }
}

/* Of a run the last offset that was seen. */
static void put_id(const struct stream *s, struct buf *b)
{
    const char *comma = "";
    buf_adds(b, "id: ");
    if (s->run[0])
        buf_addf(b, "%" PRId64, s->v[0].next - 1);
    for (int i = 0; !s->run[0] && i < s->n; i++)
        if (s->v[i].next >= 0) {
            buf_addf(b, "%s%d:%" PRId64, comma, i, s->v[i].next);
            comma = ",";
        }
    buf_addc(b, '\n');
}

static void put_member(struct buf *b, const char *key, struct slice json)
{
    if (json.p) {
        buf_addf(b, ",\"%s\":", key);
        buf_add_slice(b, json);
    }
}

static struct slice member(const struct rec *r, const char *key)
{
    struct slice v = {0};
    (void)js_member(val_text(r->value), key, &v);
    return v;
}

static void put_data(const struct rec *r, int partition, struct buf *b)
{
    char time[TIME_TEXT_MAX];
    time_write(time, r->time_ms);
    buf_addf(b,
             "data: {\"run\":\"%s\",\"type\":\"%s\",\"partition\":%d,\"offset\":%" PRId64
             ",\"time\":\"%s\"",
             r->run, rec_type_name(r->type), partition, r->offset, time);
    if (r->ref) {
        buf_adds(b, ",\"task\":");
        js_write_str(b, sl_str(r->ref));
        buf_addf(b, ",\"visit\":%d,\"attempt\":%d", r->visit, r->attempt);
    }
    if (r->status) {
        buf_adds(b, ",\"status\":");
        js_write_str(b, sl_str(r->status));
    }
    static const char *const members[] = {"agent", "version", "key",    "output",
                                          "error", "until",   "reason", "forkOf"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        put_member(b, members[i], member(r, members[i]));
    buf_adds(b, "}\n\n");
}

static void send_event(struct spart *p, const struct rec *r)
{
    struct stream *s = p->s;
    struct buf b;
    buf_init(&b, 2 * OUT_MAX);
    buf_addf(&b, "event: %s\n", rec_type_name(r->type));
    keep_up(s, p);
    put_id(s, &b);
    put_data(r, p->partition, &b);
    if (buf_error(&b) || http_stream_send(s->out, buf_slice(&b)))
        cut(s, "it does not read");
    buf_free(&b);
}

static bool is_end(enum rec_type t)
{
    return t == REC_COMPLETED || t == REC_FAULTED || t == REC_CANCELLED;
}

/* ---- whose run it is: only of what is read from below, since the tail knows of the rest ---- */

/* 1 wanted, 2 not, 0 not known. */
static int wanted(struct stream *s, const struct rec *r)
{
    const char *agent = s->agent[0] ? tail_agent_of(s->g->tail, r) : s->agent;
    return !agent ? 0 : strcmp(agent, s->agent) ? 2 : 1;
}

static void find_agent(struct api_read *r, struct kadmin *a)
{
    struct agent_read *x = LIST_ENTRY(r, struct agent_read, read);
    run_agent(r->g, a, x->run, x->agent, sizeof x->agent, &r->e);
}

static void found_agent(struct api_read *r)
{
    struct agent_read *x = LIST_ENTRY(r, struct agent_read, read);
    struct spart *p = x->p;
    struct stream *s = p->s;
    s->jobs--;
    p->busy = false;
    if (!r->e.code && r->g->tail)
        tail_know(r->g->tail, x->run, x->agent);
    if (s->gone)
        stream_free(s);
    else if (r->e.code)
        cut(s, r->e.msg); /* the client comes again, behind what it has seen */
    else
        go_on(p);
    free(x);
}

/* Of a run that began below. */
static void ask_agent(struct spart *p, const struct rec *r)
{
    struct agent_read *x = calloc(1, sizeof *x);
    if (x) {
        x->p = p;
        memcpy(x->run, r->run, sizeof x->run);
        x->read.work = find_agent;
        x->read.done = found_agent;
    }
    if (!x || api_work(p->s->g, &x->read)) {
        free(x);
        cut(p->s, "too much is read at present");
        return;
    }
    p->s->jobs++;
    p->busy = true;
}

/* ---- what is sent ---- */

/* False: it waits for its agent. */
static bool deliver(struct spart *p, const struct rec *r, bool read)
{
    struct stream *s = p->s;
    int want = r->offset < p->next ? 2 : read ? wanted(s, r) : 1;
    if (!want) {
        ask_agent(p, r);
        return s->ended;
    }
    if (r->offset >= p->next)
        p->next = r->offset + 1;
    if (want == 1)
        send_event(p, r);
    if (s->run[0] && is_end(r->type) && !s->ended) {
        s->ended = true;
        http_stream_end(s->out);
    }
    return true;
}

static bool drain(struct spart *p, struct list *l)
{
    while (!p->s->ended && !p->busy && !list_empty(l)) {
        struct page_item *i = LIST_ENTRY(l->next, struct page_item, node);
        if (!deliver(p, i->rec, l == &p->page))
            return false;
        list_del(&i->node);
        p->n -= l == &p->queue;
        rec_unref(i->rec);
        free(i);
    }
    return list_empty(l) && !p->busy && !p->s->ended;
}

/* The page, then the next one, then what the tail gave. */
static void go_on(struct spart *p)
{
    if (!drain(p, &p->page))
        return;
    if (!p->live)
        read_page(p, p->read_to, NULL);
    else
        (void)drain(p, &p->queue);
}

static void on_tail(void *arg, const struct rec *r)
{
    struct spart *p = arg;
    struct page_item *i;
    if (p->s->ended || (r && !r->run[0]))
        return;
    if (!r) { /* what it missed it is told, or reads, when it comes again with its last id */
        struct err e = {0};
        err_set(&e, -EAGAIN, "ask again", "something was missed");
        refuse(p->s, &e);
        return;
    }
    if (p->n >= QUEUE_MAX || !(i = malloc(sizeof *i))) {
        if (p->s->out)
            cut(p->s, "too much came while it was read");
        return;
    }
    i->rec = rec_ref((struct rec *)(uintptr_t)r);
    list_push(&p->queue, &i->node);
    p->n++;
    if (p->live && list_empty(&p->page))
        (void)drain(p, &p->queue);
}

/* ---- beginning ---- */

static bool begin(struct stream *s)
{
    static const struct http_field fields[] = {{"Content-Type", "text/event-stream"},
                                               {"X-Accel-Buffering", "no"},
                                               {NULL, NULL}};
    char retry[32];
    if (s->out)
        return true;
    s->c->cancel = NULL;
    s->out = http_stream_begin(s->c->r, fields, OUT_MAX, on_closed, s);
    if (!s->out) {
        api_later(s->c, 503, "try again", "no memory for a stream");
        leave(s);
        return false;
    }
    (void)snprintf(retry, sizeof retry, "retry: %d\n\n", RETRY_MS);
    (void)http_stream_send(s->out, sl_str(retry));
    s->watch.fn = on_keys;
    guard_watch(s->g, &s->watch);
    return true;
}

static void refuse(struct stream *s, const struct err *e)
{
    struct call *c = s->c;
    c->cancel = NULL;
    if (s->out) {
        cut(s, e->msg);
        return;
    }
    api_fail(c, e);
    leave(s);
}

/* Told where the log begins, when what was asked for is gone. */
static void tell_gap(struct spart *p, int64_t low)
{
    char text[160];
    if (low <= p->next || p->next <= 0)
        return;
    (void)snprintf(text, sizeof text,
                   "event: gap\ndata: {\"partition\":%d,\"from\":%" PRId64 ",\"to\":%" PRId64
                   "}\n\n",
                   p->partition, p->next, low);
    (void)http_stream_send(p->s->out, sl_str(text));
    p->next = low;
}

static void page_done(struct api_read *r)
{
    struct stream_page *x = LIST_ENTRY(r, struct stream_page, page.read);
    struct page *g = &x->page;
    struct spart *p = x->p;
    struct stream *s = p->s;
    struct list *l;
    s->jobs--;
    p->busy = false;
    bool all = g->from >= g->to;
    if (s->gone) {
        stream_free(s);
    } else if (r->e.code) {
        refuse(s, &r->e);
    } else if (s->run[0] && !s->found && !g->exists && !p->n && all && p->next <= 0) {
        struct err e = {0};
        err_set(&e, -ENOENT, "GET /v1/runs lists the runs", "there is no run %s", s->run);
        refuse(s, &e);
    } else if (begin(s)) {
        s->found = true;
        tell_gap(p, g->low);
        while ((l = list_pop(&g->items)))
            list_push(&p->page, l);
        p->live = all;
        p->read_to = g->from;
        if (!all) {
            p->place = g->place;
            g->place = NULL;
        }
        go_on(p);
    }
    page_drop(g);
    free(x);
}

static void read_page(struct spart *p, int64_t from, const char *key)
{
    struct stream *s = p->s;
    struct stream_page *x = calloc(1, sizeof *x);
    if (x) {
        list_init(&x->page.items);
        x->p = p;
        x->page.partition = p->partition;
        memcpy(x->page.run, s->run, sizeof x->page.run);
        x->page.from = from;
        x->page.to = tail_next(p->sub);
        x->page.place = p->place;
        p->place = NULL;
        x->page.authorization = key ? strdup(key) : NULL;
        x->page.read.work = page_read;
        x->page.read.done = page_done;
    }
    if (!x || api_work(s->g, &x->page.read)) {
        struct err e = {0};
        if (x)
            page_drop(&x->page);
        free(x);
        err_set(&e, -EAGAIN, "ask again", "too many requests read the log at present");
        refuse(s, &e);
        return;
    }
    s->jobs++;
    p->busy = true;
}

/* Another node may be asked where a run is. */
static void read_first(struct spart *p)
{
    struct stream *s = p->s;
    bool asks = s->run[0] && !s->out;
    read_page(p, p->next, asks ? http_header(s->c->r, "Authorization") : NULL);
}

/* The tail's position is known. Nothing is sent before those of all partitions are, since an
 * event's id names them all. */
static void on_live(void *arg)
{
    struct stream *s = ((struct spart *)arg)->s;
    if (s->ended || ++s->known_places < s->n)
        return;
    bool now = false;
    for (int i = 0; i < s->n; i++)
        if (s->v[i].next < 0) { /* from now on */
            s->v[i].next = tail_next(s->v[i].sub);
            s->v[i].live = now = true;
        }
    if (now && !begin(s))
        return;
    for (int i = 0; i < s->n && !s->gone && !s->ended; i++)
        if (s->v[i].live)
            go_on(&s->v[i]);
        else
            read_first(&s->v[i]);
}

static bool subscribe(struct stream *s)
{
    for (int i = 0; i < s->n; i++) {
        struct spart *p = &s->v[i];
        p->sub = tail_subscribe(s->g->tail, p->partition, s->run[0] ? s->run : NULL,
                                s->agent[0] ? s->agent : NULL, on_tail, on_live, p);
        if (!p->sub) {
            api_later(s->c, 503, "ask again", "too many streams and requests wait on this node");
            leave(s);
            return false;
        }
    }
    s->c->cancel = on_cancel;
    return true;
}

static struct stream *stream_new(struct call *c, int n)
{
    struct stream *s = calloc(1, sizeof *s);
    if (s && !(s->v = calloc((size_t)n, sizeof *s->v))) {
        free(s);
        s = NULL;
    }
    if (!s) {
        api_later(c, 503, "try again", "no memory for a stream");
        return NULL;
    }
    s->c = c;
    s->g = c->g;
    s->n = n;
    c->data = s;
    list_init(&s->watch.node);
    list_push(&c->g->streams, &s->node);
    for (int i = 0; i < n; i++) {
        struct spart *p = &s->v[i];
        *p = (struct spart){.s = s, .partition = i, .next = -1};
        list_init(&p->page);
        list_init(&p->queue);
    }
    return s;
}

/* The header, or for browsers' first request the parameter. */
static const char *last_id(const struct call *c)
{
    const char *v = http_header(c->r, "Last-Event-ID");
    return v && *v ? v : http_query(c->r, "lastEventId");
}

static void bad_id(struct call *c, struct stream *s)
{
    http_problem(c->r, 400, NULL, "send the id of the last event that came, as it was",
                 "the Last-Event-ID is none of this stream");
    leave(s);
}

static void stream_run(struct call *c)
{
    const char *id = last_id(c);
    int64_t after = -1;
    if (!run_id_valid(sl_str(c->args[0]))) {
        http_problem(c->r, 404, NULL, "a run id has 30 characters", "\"%.64s\" is not a run id",
                     c->args[0]);
        return;
    }
    int partition = run_id_partition(sl_str(c->args[0]));
    if (!api_need_node(c))
        return;
    if (partition >= node_partitions(c->g->n)) {
        http_problem(c->r, 404, NULL, "GET /v1/runs lists the runs", "there is no run %s",
                     c->args[0]);
        return;
    }
    struct stream *s = stream_new(c, 1);
    if (!s)
        return;
    memcpy(s->run, c->args[0], sizeof s->run);
    if (id && (sl_i64(sl_str(id), &after) < 0 || after < 0 || after == INT64_MAX)) {
        bad_id(c, s);
        return;
    }
    s->v[0].partition = partition;
    s->v[0].next = after + 1;
    (void)subscribe(s);
}

static bool read_vector(struct stream *s, const char *id)
{
    struct slice rest = sl_str(id), one, p;
    int64_t partition, next;
    while (sl_split(&rest, ',', &one)) {
        if (!sl_split(&one, ':', &p) || sl_i64(p, &partition) < 0 || sl_i64(one, &next) < 0 ||
            partition < 0 || partition >= s->n || next < 0)
            return false;
        s->v[partition].next = next;
    }
    return true;
}

static void stream_all(struct call *c)
{
    const char *id = last_id(c), *agent = http_query(c->r, "agent");
    if (!api_need_node(c))
        return;
    struct stream *s = stream_new(c, node_partitions(c->g->n));
    if (!s)
        return;
    if (agent && strlen(agent) < sizeof s->agent)
        memcpy(s->agent, agent, strlen(agent) + 1);
    if (id && !read_vector(s, id)) {
        bad_id(c, s);
        return;
    }
    (void)subscribe(s);
}

/* ---- all of them ---- */

/* A comment; or, when something was passed over since, an id without an event (which sets the last
 * event id all the same), so that a client that comes again hours later need not read all that. */
static void beat(struct stream *s)
{
    int64_t was = 0, is = 0;
    struct buf b;
    for (int i = 0; i < s->n; i++)
        was += s->v[i].next;
    keep_up(s, NULL);
    for (int i = 0; i < s->n; i++)
        is += s->v[i].next;
    buf_init(&b, OUT_MAX);
    if (is > was)
        put_id(s, &b);
    else
        buf_addc(&b, ':');
    buf_adds(&b, is > was ? "\n" : "\n\n");
    if (buf_error(&b) || http_stream_send(s->out, buf_slice(&b)))
        cut(s, "it does not read");
    buf_free(&b);
}

void streams_tick(struct gateway *g)
{
    int64_t now = loop_now(g->loop);
    if (now < g->beat_ms)
        return;
    g->beat_ms = now + BEAT_MS;
    LIST_EACH(l, &g->streams)
    {
        struct stream *s = LIST_ENTRY(l, struct stream, node);
        if (!s->out || s->ended)
            continue;
        on_keys(&s->watch); /* tokens expire */
        if (!s->ended)
            beat(s);
    }
}

void streams_end(struct gateway *g)
{
    LIST_EACH(l, &g->streams)
    {
        struct stream *s = LIST_ENTRY(l, struct stream, node);
        if (!s->out || s->ended)
            continue;
        s->ended = true;
        http_stream_end(s->out);
    }
}

#define EVENTS                                                                                     \
    "{\"type\":\"string\",\"description\":\"server-sent events; data is JSON: run, type, "         \
    "partition, offset, time, task, visit, attempt, output, error\"}"
static const struct param run_params[] = {{"Last-Event-ID", "header", "{\"type\":\"string\"}",
                                           "the id of the last event that came"},
                                          {"lastEventId", "query", "{\"type\":\"string\"}",
                                           "the same, where headers can't be set"},
                                          {NULL}};
static const struct param all_params[] = {
    {"agent", "query", "{\"type\":\"string\"}", "only runs of this agent, NAMESPACE/NAME"},
    {"Last-Event-ID", "header", "{\"type\":\"string\"}", "the id of the last event that came"},
    {"lastEventId", "query", "{\"type\":\"string\"}", "the same, where headers can't be set"},
    {NULL}};
static const struct answer run_answers[] = {
    {200, "what happened and happens to the run, until its end", EVENTS, "text/event-stream"}, {0}};
static const struct answer all_answers[] = {
    {200, "what happens to all runs, from now on or behind the Last-Event-ID", EVENTS,
     "text/event-stream"},
    {0}};

const struct route routes_stream[] = {
    {.method = "GET",
     .path = "/v1/runs/{id}/stream",
     .scope = SCOPE_READ,
     .fn = stream_run,
     .id = "streamRun",
     .tag = "streams",
     .summary = "What happens to a run, as server-sent events",
     .params = run_params,
     .answers = run_answers},
    {.method = "GET",
     .path = "/v1/stream",
     .scope = SCOPE_READ,
     .fn = stream_all,
     .id = "streamRuns",
     .tag = "streams",
     .summary = "What happens to all runs, or those of one agent, as server-sent events",
     .params = all_params,
     .answers = all_answers},
    {.method = NULL},
};
