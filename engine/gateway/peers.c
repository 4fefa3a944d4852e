/* See peers.h.
 *
 *   this node's address:  due -> being written -> written -> due again in six hours
 *                                             \-> failed: due in five seconds
 * A crash anywhere leaves a record that is older than a day some time, and is then taken away. */
#include "gateway/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "core/ids.h"
#include "gateway/run_place.h"
#include "loop/http.h"
#include "triggers/feeds.h"
#include "view/view.h"

#define SAY_MS      (6 * 3600 * 1000LL)
#define AGAIN_MS    5000
#define OLD_MS      (24 * 3600 * 1000LL)
#define OLD_MAX     16 /* taken away at once */
#define FRESH_MS    10000
#define GROUP_MS    5000
#define NODE_PATH   "node/"
#define PLACE_MS    2000
#define PLACE_BYTES 65536

enum keeps { KEEPS_NONE, KEEPS_OWNED, KEEPS_ALL };

struct peer {
    char *node, *url; /* url NULL: not known */
    enum keeps keeps; /* nothing without a URL */
    struct intset owned;
};
struct peers {
    char *url; /* of this node; NULL: it has none that others could use */
    int64_t due_ms;
    bool saying, warned;
    pthread_mutex_t lock; /* of what follows */
    struct peer *v;
    size_t n, turn; /* turn: who of those that keep everything is next */
    int64_t looked_ms;
};

static void clear(struct peer *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(v[i].node);
        free(v[i].url);
        intset_free(&v[i].owned);
    }
    free(v);
}

/* ---- this node ---- */

static bool is_url(const char *text)
{
    struct slice s = sl_str(text);
    return (sl_starts(s, SL("http://")) && s.n > 7) || (sl_starts(s, SL("https://")) && s.n > 8);
}

static char *own_url(const struct gateway *g)
{
    const char *set = g->config->node_url;
    struct buf b;
    if (!set && (!strncmp(g->address, "0.0.0.0:", 8) || !strncmp(g->address, "[::]:", 5)))
        return NULL;
    buf_init(&b, 4096);
    if (set)
        buf_adds(&b, set);
    else
        buf_addf(&b, "http%s://%s", gateway_tls(g) ? "s" : "", g->address);
    while (b.n && b.p[b.n - 1] == '/')
        b.p[--b.n] = 0;
    return buf_take(&b);
}

int peers_open(struct gateway *g, struct err *e)
{
    const char *set = g->config->node_url;
    if (set && !is_url(set))
        return err_set(e, -EINVAL, "as in https://tidemark-1.example.com:8274",
                       "node.url: %.200s is no address of HTTP", set);
    if (!(g->peers = calloc(1, sizeof *g->peers)))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the gateway");
    pthread_mutex_init(&g->peers->lock, NULL);
    g->peers->url = own_url(g);
    return 0;
}

void peers_free(struct gateway *g)
{
    struct peers *p = g->peers;
    if (!p)
        return;
    clear(p->v, p->n);
    pthread_mutex_destroy(&p->lock);
    free(p->url);
    free(p);
    g->peers = NULL;
}

struct saying {
    struct api_read read;
    char id[256];
};

static void say(struct api_read *r, struct kadmin *a)
{
    struct saying *s = LIST_ENTRY(r, struct saying, read);
    struct json_object *o = json_object_new_object();
    char time[TIME_TEXT_MAX];
    time_write(time, clock_wall_ms());
    js_put_new(o, "name", json_object_new_string(s->id));
    js_put_new(o, "url", json_object_new_string(r->g->peers->url));
    js_put_new(o, "view", json_object_new_string(r->g->config->view));
    js_put_new(o, "time", json_object_new_string(time));
    (void)marks_put(a, &r->g->names, NODE_PATH, s->id, o, &r->e);
    json_object_put(o);
}

static void said(struct api_read *r)
{
    struct saying *s = LIST_ENTRY(r, struct saying, read);
    struct peers *p = r->g->peers;
    p->saying = false;
    p->due_ms = clock_boot_ms() + (r->e.code ? AGAIN_MS : SAY_MS);
    if (r->e.code)
        log_warn(r->g->log, "this node's address can't be written; trying again",
                 "error=%s hint=%s", log_q(r->e.msg), log_q(r->e.hint));
    free(s);
}

static void say_address(struct gateway *g)
{
    struct peers *p = g->peers;
    if (!p->url && !p->warned && strcmp(g->config->view, "owned") == 0)
        log_warn(g->log, "other nodes can't ask this one for its runs",
                 "listen=%s hint=\"set node.url, the address under which they reach it\"",
                 g->address);
    p->warned = true;
    if (!p->url || p->saying || clock_boot_ms() < p->due_ms)
        return;
    struct saying *s = calloc(1, sizeof *s);
    if (!s)
        return;
    (void)snprintf(s->id, sizeof s->id, "%s", node_id(g->n));
    s->read.work = say;
    s->read.done = said;
    p->saying = api_work(g, &s->read) == 0;
    if (!p->saying)
        free(s);
}

static void tell_view(struct gateway *g)
{
    struct intset owned;
    if (intset_init(&owned, g->n ? node_partitions(g->n) : 0))
        return;
    for (int i = 0; i < owned.n; i++)
        if (node_owns(g->n, i))
            intset_put(&owned, i);
    (void)view_own(g->o.view, &owned); /* without memory: again in half a second */
    intset_free(&owned);
}

void peers_tick(struct gateway *g)
{
    if (g->o.view && strcmp(g->config->view, "owned") == 0)
        tell_view(g);
    if (g->n && !g->quiet && klog_up(node_klog(g->n)))
        say_address(g);
}

/* ---- the others ---- */

struct looking {
    struct gateway *g;
    struct peer *v;
    size_t n;
    int partitions, error;
};

static struct peer *peer_of(struct looking *l, const char *node)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].node, node))
            return &l->v[i];
    return NULL;
}

static struct peer *add_peer(struct looking *l, const char *node)
{
    struct peer *v = realloc(l->v, (l->n + 1) * sizeof *v);
    if (!v)
        return NULL;
    l->v = v;
    v[l->n] = (struct peer){.node = strdup(node)};
    if (v[l->n].node && intset_init(&v[l->n].owned, l->partitions) == 0)
        return &v[l->n++];
    free(v[l->n].node);
    return NULL;
}

static void on_member(void *arg, const char *member, const char *client, const char *host,
                      const char *topic, int partition)
{
    struct looking *l = arg;
    struct peer *p = client ? peer_of(l, client) : NULL;
    if (!client || !strcmp(client, l->g->node_id))
        return;
    if (!p && !(p = add_peer(l, client)))
        l->error = -ENOMEM;
    else if (topic && !strcmp(topic, l->g->names.runs))
        intset_put(&p->owned, partition);
}

static void set_address(struct looking *l, struct json_object *o)
{
    const char *node = js_str(o, "name"), *url = js_str(o, "url"), *view = js_str(o, "view");
    struct peer *p = node ? peer_of(l, node) : NULL;
    if (!p || !url || !view || !is_url(url) || p->url)
        return;
    p->keeps = !strcmp(view, "all") ? KEEPS_ALL : !strcmp(view, "owned") ? KEEPS_OWNED : KEEPS_NONE;
    if (!(p->url = strdup(url)))
        l->error = -ENOMEM;
}

static bool is_old(struct json_object *o)
{
    const char *time = js_str(o, "time");
    int64_t ms;
    return !time || time_read(sl_str(time), &ms) < 0 || ms < clock_wall_ms() - OLD_MS;
}

static void read_addresses(struct looking *l, struct kadmin *a, struct json_object *list)
{
    struct err none = {0};
    int old = 0;
    for (size_t i = 0; i < js_length(list); i++) {
        struct json_object *o = js_at(list, i);
        if (!is_old(o))
            set_address(l, o);
        else if (js_str(o, "name") && old++ < OLD_MAX)
            (void)marks_put(a, &l->g->names, NODE_PATH, js_str(o, "name"), NULL, &none);
    }
}

static int look(struct looking *l, struct kadmin *a, struct err *e)
{
    struct json_object *list = NULL;
    int error = kadmin_group(a, l->g->names.owners, NULL, on_member, l, GROUP_MS, e);
    if (error == -ENOENT) { /* nobody is in it yet */
        err_clear(e);
        return 0;
    }
    if (!error)
        error = marks_list(a, &l->g->names, NODE_PATH, &list, e);
    read_addresses(l, a, list);
    json_object_put(list);
    if (!error && l->error)
        error = err_set(e, l->error, "try again", "no memory for the nodes of the group");
    return error;
}

static int look_anew(struct gateway *g, struct kadmin *a, int partitions, struct err *e)
{
    struct peers *p = g->peers;
    struct looking l = {.g = g, .partitions = partitions};
    int error = look(&l, a, e);
    if (error) {
        clear(l.v, l.n);
        return error;
    }
    pthread_mutex_lock(&p->lock);
    struct peer *old = p->v;
    size_t n = p->n;
    p->v = l.v;
    p->n = l.n;
    p->looked_ms = clock_boot_ms();
    pthread_mutex_unlock(&p->lock);
    clear(old, n);
    return 0;
}

/* ---- the plan ---- */

static bool avoided(const char *const *avoid, const char *url)
{
    for (; avoid && *avoid; avoid++)
        if (!strcmp(*avoid, url))
            return true;
    return false;
}

static struct peer_ask *ask_of(struct peer_plan *plan, const char *base, int partitions)
{
    struct peer_ask *x = &plan->v[plan->n];
    for (size_t i = 0; i < plan->n; i++)
        if (!strcmp(plan->v[i].base, base))
            return &plan->v[i];
    if (!(x->base = strdup(base)) || intset_init(&x->of, partitions)) {
        free(x->base);
        x->base = NULL;
        return NULL;
    }
    plan->n++;
    return x;
}

/* One that keeps everything, each in turn, since it is one question then. */
static const struct peer *whole(struct peers *p, const char *const *avoid)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct peer *x = &p->v[p->turn++ % p->n];
        if (x->keeps == KEEPS_ALL && !avoided(avoid, x->url))
            return x;
    }
    return NULL;
}

static const struct peer *owner(const struct peers *p, int partition, const char *const *avoid)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].keeps != KEEPS_NONE && intset_has(&p->v[i].owned, partition) &&
            !avoided(avoid, p->v[i].url))
            return &p->v[i];
    return NULL;
}

/* The lock is held. */
static int make_plan(struct peers *p, const struct intset *want, const char *const *avoid,
                     struct peer_plan *ret)
{
    const struct peer *all = p->n ? whole(p, avoid) : NULL;
    if (p->n && !(ret->v = calloc(p->n, sizeof *ret->v)))
        return -ENOMEM;
    for (size_t i = 0; i < p->n; i++)
        ret->some = ret->some || p->v[i].keeps != KEEPS_NONE;
    for (int i = 0; i < want->n; i++) {
        const struct peer *x = !intset_has(want, i) ? NULL : all ? all : owner(p, i, avoid);
        struct peer_ask *ask = x ? ask_of(ret, x->url, want->n) : NULL;
        if (x && !ask)
            return -ENOMEM;
        if (ask)
            intset_put(&ask->of, i);
    }
    return 0;
}

int peers_plan(struct gateway *g, struct kadmin *a, const struct intset *want,
               const char *const *avoid, bool anew, struct peer_plan *ret, struct err *e)
{
    struct peers *p = g->peers;
    *ret = (struct peer_plan){0};
    pthread_mutex_lock(&p->lock);
    anew = anew || !p->looked_ms || clock_boot_ms() - p->looked_ms > FRESH_MS;
    pthread_mutex_unlock(&p->lock);
    int error = anew ? look_anew(g, a, want->n, e) : 0;
    if (error)
        return error;
    pthread_mutex_lock(&p->lock);
    error = make_plan(p, want, avoid, ret);
    pthread_mutex_unlock(&p->lock);
    return error ? err_set(e, error, "try again", "no memory for the nodes of the group") : 0;
}

void peer_plan_free(struct peer_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].base);
        intset_free(&p->v[i].of);
    }
    free(p->v);
    *p = (struct peer_plan){0};
}

/* ---- where a run is ---- */

/* In a thread of the pool, which may block. False: no answer, or not that it is known. */
static bool ask(struct gateway *g, struct slice url, const char *authorization,
                struct run_place *ret)
{
    const struct http_header key = {SL("Authorization"), sl_str(authorization)};
    const struct http_spec s = {.method = SL("GET"),
                                .url = url,
                                .headers = &key,
                                .nheaders = authorization ? 1 : 0,
                                .body_max = PLACE_BYTES,
                                .timeout_ms = PLACE_MS,
                                .ca = g->config->http_tls_ca};
    struct http_result r;
    struct err none = {0};
    struct http_blocking *b = http_blocking_new(&none);
    bool good = b && http_blocking_ask(b, &s, &r, &none) == 0 && !r.error && r.status == 200 &&
                run_place_from(r.body, ret);
    http_blocking_free(b);
    return good;
}

bool peers_place(struct gateway *g, struct kadmin *a, const char *run, const char *authorization,
                 struct run_place *ret)
{
    struct intset want;
    struct peer_plan plan;
    struct err none = {0};
    struct buf url;
    bool good = false;
    if (!g->partitions || intset_init(&want, g->partitions))
        return false;
    intset_put(&want, run_id_partition(sl_str(run)));
    buf_init(&url, 8192);
    int error = peers_plan(g, a, &want, NULL, false, &plan, &none);
    if (!error && plan.n) {
        buf_addf(&url, "%s/v1/runs/%s/place", plan.v[0].base, run);
        good = buf_error(&url) == 0 && ask(g, buf_slice(&url), authorization, ret);
    }
    peer_plan_free(&plan);
    buf_free(&url);
    intset_free(&want);
    return good;
}
