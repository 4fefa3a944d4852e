/* See fake.h. */
#include "fake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

#define HEAD(name)                                                                                 \
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"t\",\"name\":\"" name                        \
    "\",\"version\":\"1.0.0\"},\"do\":["
#define GET(name)                                                                                  \
    "{\"" name "\":{\"call\":\"http\",\"with\":{\"method\":\"get\",\"endpoint\":\"http://x/" name  \
    "\"}}}"
#define POST(name)                                                                                 \
    "{\"" name "\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/" name \
    "\",\"body\":\"${ . }\"}}}"

static const char *const texts[] = {
    HEAD("a") "{\"p\":{\"set\":{\"n\":\"${ . }\"}}}," GET("s") "," POST("w") "," POST("v") "]}",
    HEAD("b") POST("w") ",{\"f\":{\"raise\":{\"error\":{\"type\":\"https://x/"
                        "e\",\"status\":400}}}}]}",
    HEAD(
        "c") "{\"o\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/o\"},"
             "\"metadata\":{\"tidemark\":{\"effect\":\"once\",\"onUnknown\":\"fail\"}}}}," POST(
                 "w") "]}",
    HEAD("d") "{\"t\":{\"wait\":{\"seconds\":5}}}," POST("w") "]}",
    HEAD("e") GET("s0") "," GET("s1") "," GET("s2") "," GET("s3") "," GET("s4") "," GET(
        "s5") "," GET("s6") "," GET("s7") "," GET("s8") "," GET("s9") "," GET("s10") "]}",
    HEAD("f") "{\"n\":{\"call\":\"http\",\"with\":{\"method\":\"post\",\"endpoint\":\"http://x/n\","
              "\"body\":\"${ {now: now, at: $task.startedAt} }\"}}}]}",
};
#define AGENTS (int)(sizeof texts / sizeof texts[0] + 1)
static struct flow *flows[sizeof texts / sizeof texts[0] + 1];

__attribute__((destructor)) static void free_flows(void)
{
    for (int i = 0; i < AGENTS; i++)
        flow_unref(flows[i]);
}

void fake_use(const char *yaml)
{
    struct diags d;
    struct buf b;
    diags_init(&d);
    buf_init(&b, 1 << 16);
    buf_addf(&b, "document: {dsl: 1.0.0, namespace: t, name: own, version: 1.0.0}\n%s", yaml);
    struct ydoc *y = ydoc_parse(buf_slice(&b), "own", &d);
    flows[FAKE_OWN] = flow_unref(flows[FAKE_OWN]);
    if (!y || flow_parse(y, false, &flows[FAKE_OWN], &d) < 0)
        fprintf(stderr, "%d:%d: %s\n", d.v[0].line, d.v[0].col, d.v[0].msg);
    ydoc_free(y);
    diags_free(&d);
    buf_free(&b);
    NEED(flows[FAKE_OWN] != NULL);
}

struct flow *fake_flow(int agent)
{
    struct err e = {0};
    if (!flows[agent] && agent < AGENTS - 1 &&
        flow_from_text(sl_str(texts[agent]), &flows[agent], &e) < 0) {
        fprintf(stderr, "agent %d: %s\n", agent, e.msg);
        abort();
    }
    return flows[agent];
}

/* ---- the log ---- */

static bool wire_header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct rec_wire *w = arg;
    if (i >= w->nheaders)
        return false;
    *name = w->headers[i].name;
    *value = w->headers[i].value;
    return true;
}

int64_t flog_land(struct flog *l, const struct rec *r)
{
    struct rec_wire w;
    struct err e = {0};
    NEED(l->end < FAKE_MAX);
    NEED(rec_encode(r, &w) == 0);
    int error = rec_decode(l->end, r->time_ms, w.key, w.value, wire_header, &w, &l->v[l->end], &e);
    if (error)
        fprintf(stderr, "own record can't be read: %s\n", e.msg);
    rec_wire_free(&w);
    NEED(error == 0);
    return l->end++;
}

void flog_free(struct flog *l)
{
    for (int64_t i = 0; i < l->end; i++)
        rec_unref(l->v[i]);
    memset(l, 0, sizeof *l);
}

const char *fake_run(int src)
{
    static char id[8][RUN_ID_MAX];
    static int at;
    char text[16];
    at = (at + 1) % 8;
    snprintf(text, sizeof text, "%d", src);
    run_id_make(id[at], 2, SL("t/x"), SL("live"), SL("src"), sl_str(text));
    return id[at];
}

const char *fake_run_api(int n)
{
    static char id[RUN_ID_MAX];
    char text[16];
    snprintf(text, sizeof text, "%d", n);
    run_id_make(id, 2, SL("t/x"), SL("api"), SL("api"), sl_str(text));
    return id;
}

static struct rec *request(struct flog *l, enum rec_type t, const char *run)
{
    char uuid[16];
    struct rec *r = rec_new(t, run);
    snprintf(uuid, sizeof uuid, "u%d", ++l->uuids);
    r->uuid = strdup(uuid);
    r->time_ms = FAKE_TIME;
    r->value = val_text_new(SL("{}"));
    return r;
}

static int64_t land_free(struct flog *l, struct rec *r)
{
    int64_t offset = flog_land(l, r);
    rec_unref(r);
    return offset;
}

int64_t flog_request(struct flog *l, int agent, int src, int64_t floor)
{
    char text[64];
    struct rec *r = request(l, REC_REQUESTED, fake_run(src));
    snprintf(text, sizeof text, "{\"agent\":\"t/x\",\"input\":%d}", src);
    val_unref(r->value);
    r->value = val_text_new(sl_str(text));
    r->agent = strdup(flow_info(fake_flow(agent))->hash);
    r->src.name = strdup("live:src/1/0");
    r->src.offset = src;
    r->src.floor = floor;
    return land_free(l, r);
}

int64_t flog_request_api(struct flog *l, int agent, int n, const char *value)
{
    char text[64];
    struct rec *r = request(l, REC_REQUESTED, fake_run_api(n));
    snprintf(text, sizeof text, "{\"agent\":\"t/x\",\"input\":%d}", n);
    val_unref(r->value);
    r->value = val_text_new(sl_str(value ? value : text));
    r->agent = strdup(flow_info(fake_flow(agent))->hash);
    return land_free(l, r);
}

int64_t flog_control(struct flog *l, enum rec_type t, int src)
{
    return land_free(l, request(l, t, fake_run(src)));
}

/* ---- what the part asks for ---- */

static bool op_room(void *arg, struct part *p)
{
    return !((struct fnode *)arg)->no_room;
}

static int op_append(void *arg, struct part *p, struct rec *r)
{
    struct fnode *n = arg;
    if (n->broken)
        return -32; /* EPIPE */
    if (n->nout == FAKE_MAX)
        return -105; /* ENOBUFS */
    n->out[n->nout++] = rec_ref(r);
    return 0;
}

static int op_eval(void *arg, struct part *p, struct run *r, struct err *e)
{
    struct fnode *n = arg;
    n->evals++;
    return n->refuse ? err_set(e, n->refuse, "do less", "refused") : 0;
}

static int op_effect(void *arg, struct part *p, struct run *r)
{
    struct fnode *n = arg;
    if (n->refuse)
        return n->refuse;
    if (n->neffects == FAKE_MAX)
        abort();
    memcpy(n->effects[n->neffects].run, r->id, RUN_ID_MAX);
    n->effects[n->neffects++].work_id = r->work_id;
    return 0;
}

static void drop_effect(struct fnode *n, size_t i)
{
    memmove(&n->effects[i], &n->effects[i + 1], (--n->neffects - i) * sizeof n->effects[0]);
}

static void op_stop(void *arg, struct part *p, struct run *r)
{
    struct fnode *n = arg;
    n->stops++;
    for (size_t i = 0; i < n->neffects; i++)
        if (n->effects[i].work_id == r->work_id && !strcmp(n->effects[i].run, r->id)) {
            drop_effect(n, i);
            return;
        }
}

static void op_notify(void *arg, struct part *p, struct ended *e)
{
    struct fnode *n = arg;
    if (n->ntold < 16)
        memcpy(n->told[n->ntold++], e->run, RUN_ID_MAX);
}

static void op_ended(void *arg, struct part *p, const struct run *r)
{
    struct fnode *n = arg;
    if (n->nended < 16)
        memcpy(n->ended[n->nended++], r->id, RUN_ID_MAX);
}

static struct flow *op_flow(void *arg, const char *hash)
{
    if (((struct fnode *)arg)->no_flows)
        return NULL;
    for (int i = 0; i < AGENTS; i++)
        if (!strcmp(flow_info(fake_flow(i))->hash, hash))
            return flows[i];
    return NULL;
}

static bool op_admit(void *arg, struct part *p, bool force)
{
    struct fnode *n = arg;
    if (!force && n->active >= n->places)
        return false;
    n->active++;
    return true;
}

static void op_release(void *arg, struct part *p)
{
    ((struct fnode *)arg)->active--;
}

static struct json_object *op_secrets(void *arg, struct flow *f)
{
    return NULL;
}

static void op_floors(void *arg, struct part *p)
{
    ((struct fnode *)arg)->floors_asked++;
}

static const struct part_ops ops = {.room = op_room,
                                    .append = op_append,
                                    .eval = op_eval,
                                    .effect = op_effect,
                                    .stop = op_stop,
                                    .notify = op_notify,
                                    .ended = op_ended,
                                    .flow = op_flow,
                                    .admit = op_admit,
                                    .release = op_release,
                                    .secrets = op_secrets,
                                    .floors = op_floors};

/* ---- a node ---- */

static void prepare(struct fnode *n, struct flog *l, const struct part_opts *opts)
{
    struct part_opts o = {.partition = 2, .lease_ms = 6000, .node_id = "n", .boot_id = "b"};
    memset(n, 0, sizeof *n);
    n->log = l;
    n->places = 100;
    n->boot_ms = 1000;
    n->wall_ms = FAKE_TIME + 1000;
    n->p = part_new(opts ? opts : &o, &ops, n);
    NEED(n->p != NULL);
    part_time(n->p, n->boot_ms, n->wall_ms);
}

void fake_open(struct fnode *n, struct flog *l, const struct part_opts *opts)
{
    prepare(n, l, opts);
    n->position = part_start(n->p, -1, 0, NULL, -1, 0, NULL);
    NEED(n->position == 0);
}

void fake_open_at(struct fnode *n, struct flog *l, int64_t mark, const char *metadata)
{
    struct part_mark m;
    struct buf b;
    prepare(n, l, NULL);
    NEED(part_metadata_read(metadata, &m) == 0);
    buf_init(&b, 64 << 20);
    for (int64_t i = m.first; i <= m.last; i++)
        if (l->v[i]->type == REC_PART_STATE && l->v[i]->at == m.at)
            buf_add_slice(&b, val_text(l->v[i]->value));
    struct slice text = buf_slice(&b);
    n->position = part_start(n->p, mark, 0, &text, l->v[m.first]->epoch, l->v[m.first]->nonce, &m);
    buf_free(&b);
    NEED(n->position == m.at);
}

void fake_close(struct fnode *n)
{
    n->p = part_free(n->p);
    CHECK_INT(n->active, 0); /* every place was given back */
    for (size_t i = 0; i < n->nout; i++)
        rec_unref(n->out[i]);
    for (size_t i = 0; i < n->nacks; i++)
        rec_unref(n->acks[i].r);
    memset(n, 0, sizeof *n);
}

void fake_time(struct fnode *n, int64_t ms)
{
    n->boot_ms += ms;
    n->wall_ms += ms;
    part_time(n->p, n->boot_ms, n->wall_ms);
}

int64_t fake_land(struct fnode *n)
{
    if (!n->nout)
        return -1;
    struct rec *r = n->out[0];
    memmove(n->out, n->out + 1, --n->nout * sizeof n->out[0]);
    int64_t offset = flog_land(n->log, r);
    n->acks[n->nacks].r = r;
    n->acks[n->nacks++].offset = offset;
    return offset;
}

static void answer(struct fnode *n, bool told)
{
    NEED(n->nacks > 0);
    struct rec *r = n->acks[0].r;
    int64_t offset = n->acks[0].offset;
    memmove(n->acks, n->acks + 1, --n->nacks * sizeof n->acks[0]);
    CHECK_INT(part_acked(n->p, r, told ? offset : -1), 0);
    rec_unref(r);
}

void fake_ack(struct fnode *n)
{
    answer(n, true);
}

void fake_ack_unknown(struct fnode *n)
{
    answer(n, false);
}

void fake_consume(struct fnode *n)
{
    for (; n->position < n->log->end; n->position++)
        if (n->log->v[n->position])
            CHECK_INT(part_consumed(n->p, n->position, n->log->v[n->position]), 0);
}

void fake_run_all(struct fnode *n)
{
    bool moved = true;
    for (int i = 0; moved && i < 1000; i++) {
        moved = part_work(n->p) || n->nout || n->nacks;
        while (n->nout)
            fake_land(n);
        while (n->nacks)
            fake_ack(n);
        moved = moved || n->position < n->log->end;
        fake_consume(n);
    }
}

void fake_own(struct fnode *n, uint64_t nonce)
{
    fake_consume(n);
    NEED(part_claim(n->p, nonce) == 0);
    while (n->nout)
        fake_land(n);
    while (n->nacks)
        fake_ack(n);
    fake_consume(n);
    NEED(n->p->status == PART_OWNER);
    part_leased(n->p, n->boot_ms);
}

const char *fake_begin(struct fnode *n)
{
    struct run *r = n->neffects ? part_run(n->p, n->effects[0].run) : NULL;
    if (!r || r->busy != BUSY_EFFECT || !part_may_begin(n->p, r))
        return NULL;
    return r->spec.ref;
}

void fake_finish(struct fnode *n, int64_t output)
{
    NEED(n->neffects > 0);
    char run[RUN_ID_MAX];
    uint64_t id = n->effects[0].work_id;
    memcpy(run, n->effects[0].run, sizeof run);
    drop_effect(n, 0);
    part_effect_done(n->p, run, id, json_object_new_int64(output), NULL);
}

void fake_fail(struct fnode *n)
{
    NEED(n->neffects > 0);
    char run[RUN_ID_MAX];
    uint64_t id = n->effects[0].work_id;
    struct problem p = {0};
    memcpy(run, n->effects[0].run, sizeof run);
    drop_effect(n, 0);
    problem_set(&p, "communication", 0, NULL, "the test says so");
    part_effect_done(n->p, run, id, NULL, &p);
    problem_free(&p);
}

static char *digest(const struct state *st)
{
    struct buf b;
    buf_init(&b, 64 << 20);
    NEED(state_digest(st, &b) == 0);
    return buf_take(&b);
}

char *fake_digest_log(const struct flog *l)
{
    struct state st;
    state_init(&st, 0);
    for (int64_t i = 0; i < l->end; i++)
        if (l->v[i])
            state_apply(&st, l->v[i]);
    char *text = digest(&st);
    state_free(&st);
    return text;
}

char *fake_digest(const struct fnode *n)
{
    return digest(&n->p->st);
}

char *fake_types(const struct flog *l, int64_t from)
{
    struct buf b;
    buf_init(&b, 64 << 10);
    for (int64_t i = from; i < l->end; i++)
        buf_addf(&b, "%s%s", i > from ? " " : "", l->v[i] ? rec_type_name(l->v[i]->type) : "-");
    if (!b.n)
        buf_adds(&b, "");
    return b.n ? buf_take(&b) : strdup("");
}

void fake_check_fold(struct fnode *n)
{
    char *live = fake_digest(n), *all = fake_digest_log(n->log);
    CHECK_STR(live, all);
    free(live);
    free(all);
}

void fake_check_types(const struct flog *l, int64_t from, const char *want)
{
    char *seen = fake_types(l, from);
    CHECK_STR(seen, want);
    free(seen);
}

void fake_finish_all(struct fnode *n)
{
    static int64_t output = 100;
    for (int i = 0; i < 200; i++) {
        fake_run_all(n);
        if (!fake_begin(n))
            return;
        fake_finish(n, ++output);
    }
}
