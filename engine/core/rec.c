/* See rec.h. Encoding and decoding are table-driven: one row a type says how the key is made and
 * which headers it has. */
#include "core/rec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

enum key_form { KEY_REQUEST, KEY_OWNER, KEY_PART, KEY_TASK, KEY_RUN, KEY_STATE, KEY_SETTLED };

static const struct {
    const char *name, *tail;
    enum key_form key;
    bool request;
} types[REC_TYPES] = {
    [REC_REQUESTED] = {"run.requested", "requested", KEY_REQUEST, true},
    [REC_CANCEL] = {"run.cancel", "cancel", KEY_REQUEST, true},
    [REC_SUSPEND] = {"run.suspend", "suspend", KEY_REQUEST, true},
    [REC_RESUME] = {"run.resume", "resume", KEY_REQUEST, true},
    [REC_RETRY] = {"run.retry", "retry", KEY_REQUEST, true},
    [REC_REWIND] = {"run.rewind", "rewind", KEY_REQUEST, true},
    [REC_PURGE] = {"run.purge", "purge", KEY_REQUEST, true},
    [REC_DELIVERED] = {"event.delivered", "delivered", KEY_REQUEST, true},
    [REC_OWNER] = {"owner", "", KEY_OWNER, false},
    [REC_PART_STATE] = {"part.state", "", KEY_PART, false},
    [REC_STARTED] = {"run.started", "started", KEY_RUN, false},
    [REC_TASK_STARTED] = {"task.started", "started", KEY_TASK, false},
    [REC_TASK_COMPLETED] = {"task.completed", "completed", KEY_TASK, false},
    [REC_TASK_FAULTED] = {"task.faulted", "faulted", KEY_TASK, false},
    [REC_TASK_WAITING] = {"task.waiting", "waiting", KEY_TASK, false},
    [REC_TASK_CAUGHT] = {"task.caught", "caught", KEY_TASK, false},
    [REC_COMPLETED] = {"run.completed", "completed", KEY_RUN, false},
    [REC_FAULTED] = {"run.faulted", "faulted", KEY_RUN, false},
    [REC_CANCELLED] = {"run.cancelled", "cancelled", KEY_RUN, false},
    [REC_SUSPENDED] = {"run.suspended", "suspended", KEY_SETTLED, false},
    [REC_RESUMED] = {"run.resumed", "resumed", KEY_SETTLED, false},
    [REC_REWOUND] = {"run.rewound", "rewound", KEY_SETTLED, false},
    [REC_RETRIED] = {"run.retried", "retried", KEY_SETTLED, false},
    [REC_PURGED] = {"run.purged", "purged", KEY_SETTLED, false},
    [REC_SNAPSHOT] = {"run.snapshot", "state", KEY_STATE, false},
    [REC_SETTLED] = {"request.settled", "settled", KEY_SETTLED, false},
    [REC_ACCEPTED] = {"request.accepted", "accepted", KEY_SETTLED, false},
    [REC_FIRED] = {"schedule.fired", "fired", KEY_SETTLED, false},
};

const char *rec_type_name(enum rec_type t)
{
    return t > REC_NONE && t < REC_TYPES ? types[t].name : "?";
}

enum rec_type rec_type_of(struct slice name)
{
    for (int t = REC_NONE + 1; t < REC_TYPES; t++)
        if (sl_is(name, types[t].name))
            return (enum rec_type)t;
    return REC_NONE;
}

bool rec_is_request(enum rec_type t)
{
    return t > REC_NONE && t < REC_TYPES && types[t].request;
}

struct rec *rec_new(enum rec_type t, const char *run)
{
    struct rec *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->refs = 1;
    r->type = t;
    r->offset = r->epoch = r->consumed = r->up_to = r->at = r->src.floor = r->src.offset = -1;
    r->priority = 5;
    r->attempt = 1;
    r->chunks = 1;
    if (run)
        snprintf(r->run, sizeof r->run, "%s", run);
    return r;
}

struct rec *rec_ref(struct rec *r)
{
    if (r)
        r->refs++;
    return r;
}

static void body_clear(struct rec_body *y)
{
    val_unref(y->output);
    val_unref(y->context);
    val_unref(y->input);
    val_unref(y->items);
    val_unref(y->error);
    free(y->next);
    memset(y, 0, sizeof *y);
}

struct rec *rec_unref(struct rec *r)
{
    if (!r || --r->refs > 0)
        return NULL;
    free(r->ref);
    free(r->agent);
    free(r->uuid);
    free(r->status);
    free(r->traceparent);
    free(r->src.name);
    val_unref(r->value);
    body_clear(&r->body);
    free(r);
    return NULL;
}

/* ---- the value ---- */

static void put_member(struct buf *b, const char *key, struct slice text)
{
    if (!text.p && !b->error)
        b->error = -ENOMEM; /* a value that could not be written out */
    buf_addf(b, "%s\"%s\":", b->n > 1 ? "," : "", key);
    buf_add_slice(b, text);
}

static void put_time(struct buf *b, const char *key, int64_t ms)
{
    char time[TIME_TEXT_MAX];
    if (!ms)
        return;
    time_write(time, ms);
    put_member(b, key, (struct slice){"", 0});
    js_write_str(b, sl_str(time));
}

static void put_next(struct buf *b, const struct rec_body *y)
{
    if (y->next) {
        put_member(b, "next", (struct slice){"", 0});
        js_write_str(b, sl_str(y->next));
        if (y->phase == PHASE_LEAVE)
            put_member(b, "leave", SL("true"));
        if (y->phase == PHASE_CATCH)
            put_member(b, "catch", SL("true"));
        if (y->exit)
            put_member(b, "exit", SL("true"));
    } else if (y->phase == PHASE_FINISH) {
        put_member(b, "next", SL("null"));
    }
}

int rec_write_body(struct rec *r)
{
    struct rec_body *y = &r->body;
    struct buf b;
    buf_init(&b, 4 * REC_VALUE_MAX);
    buf_addc(&b, '{');
    if (y->has_input)
        put_member(&b, "input", val_text(y->input));
    if (y->has_output)
        put_member(&b, "output", val_text(y->output));
    if (y->has_context)
        put_member(&b, "context", val_text(y->context));
    if (y->items)
        put_member(&b, "items", val_text(y->items));
    if (y->error)
        put_member(&b, "error", val_text(y->error));
    if (y->attempt) {
        put_member(&b, "attempt", (struct slice){"", 0});
        buf_addf(&b, "%d", y->attempt);
    }
    put_time(&b, "until", y->until_ms);
    put_time(&b, "attemptUntil", y->attempt_until_ms);
    put_next(&b, y);
    buf_addc(&b, '}');
    val_unref(r->value);
    int error = buf_error(&b);
    r->value = error ? NULL : val_text_new(buf_slice(&b));
    buf_free(&b);
    y->ready = true;
    return r->value ? 0 : error == -ENOBUFS ? -EMSGSIZE : -ENOMEM;
}

static int take_text(struct slice quoted, char **to)
{
    struct buf b;
    buf_init(&b, REC_REF_MAX);
    int error = js_unquote(quoted, &b);
    if (!error && !(*to = buf_take(&b)))
        error = -ENOMEM;
    buf_free(&b);
    return error == -ENOMEM ? error : error ? -EPROTO : 0;
}

static int read_until(struct slice quoted, int64_t *to)
{
    char *text = NULL;
    int error = take_text(quoted, &text);
    if (!error)
        error = time_read(sl_str(text), to) < 0 ? -EPROTO : 0;
    free(text);
    return error;
}

static int read_value(struct val **to, bool *has, struct slice text)
{
    val_unref(*to);
    *to = val_text_new(text);
    if (has)
        *has = true;
    return *to ? 0 : -ENOMEM;
}

static int read_attempt(int *to, struct slice text)
{
    int64_t n;
    if (sl_i64(text, &n) < 0 || n < 1 || n > INT32_MAX)
        return -EPROTO;
    *to = (int)n;
    return 0;
}

/* One member of where the run goes on, and when; others are of no interest here. */
static int read_place(struct rec_body *y, struct slice k, struct slice v)
{
    if (sl_is(k, "next") && sl_is(v, "null")) {
        y->phase = PHASE_FINISH;
    } else if (sl_is(k, "next") && !y->next) {
        y->phase = y->phase == PHASE_START ? PHASE_TASK : y->phase;
        return take_text(v, &y->next);
    } else if (sl_is(k, "leave") && sl_is(v, "true")) {
        y->phase = PHASE_LEAVE;
    } else if (sl_is(k, "catch") && sl_is(v, "true")) {
        y->phase = PHASE_CATCH;
    } else if (sl_is(k, "exit")) {
        y->exit = sl_is(v, "true");
    } else if (sl_is(k, "until")) {
        return read_until(v, &y->until_ms);
    } else if (sl_is(k, "attemptUntil")) {
        return read_until(v, &y->attempt_until_ms);
    } else if (sl_is(k, "attempt")) {
        return read_attempt(&y->attempt, v);
    }
    return 0;
}

static int read_member(struct rec_body *y, struct slice k, struct slice v)
{
    if (sl_is(k, "output"))
        return read_value(&y->output, &y->has_output, v);
    if (sl_is(k, "context"))
        return read_value(&y->context, &y->has_context, v);
    if (sl_is(k, "input"))
        return read_value(&y->input, &y->has_input, v);
    if (sl_is(k, "items"))
        return read_value(&y->items, NULL, v);
    if (sl_is(k, "error"))
        return read_value(&y->error, NULL, v);
    return read_place(y, k, v);
}

/* A fact that moves the run says where to. */
static bool has_place(const struct rec *r)
{
    const struct rec_body *y = &r->body;
    bool moves =
        r->type == REC_TASK_COMPLETED || y->phase == PHASE_LEAVE || y->phase == PHASE_CATCH;
    return y->next || !moves || y->phase == PHASE_FINISH;
}

int rec_read_body(struct rec *r)
{
    struct rec_body *y = &r->body;
    struct slice doc = val_text(r->value), k, v;
    size_t pos = 0;
    int error = doc.p ? 0 : -ENOMEM;
    if (y->ready)
        return 0;
    y->phase = r->type == REC_STARTED ? PHASE_START : PHASE_TASK;
    while (!error && js_next(doc, &pos, &k, &v))
        error = read_member(y, k, v);
    if (!error && !has_place(r))
        error = -EPROTO;
    if (error)
        body_clear(y);
    y->ready = !error;
    return error;
}

/* ---- encoding ---- */

static void write_key(const struct rec *r, struct buf *b)
{
    switch (types[r->type].key) {
    case KEY_REQUEST:
        buf_addf(b, "%s/?%s/%s", r->run, types[r->type].tail, r->uuid ? r->uuid : "");
        break;
    case KEY_OWNER:
        buf_addf(b, "!owner/%016" PRIx64, r->nonce);
        break;
    case KEY_PART:
        buf_addf(b, "!part/%" PRId64 ".%d@%016" PRIx64, r->at, r->chunk, r->nonce);
        break;
    case KEY_TASK:
        buf_addf(b, "%s%s#%d.%d.%d/%s@%016" PRIx64, r->run, r->ref ? r->ref : "", r->visit,
                 r->rewind, r->attempt, types[r->type].tail, r->nonce);
        break;
    case KEY_RUN:
        buf_addf(b, "%s/!%s@%016" PRIx64, r->run, types[r->type].tail, r->nonce);
        break;
    case KEY_STATE:
        buf_addf(b, "%s/!state/%" PRId64 ".%d@%016" PRIx64, r->run, r->at, r->chunk, r->nonce);
        break;
    case KEY_SETTLED:
        buf_addf(b, "%s/!%s/%" PRId64 "@%016" PRIx64, r->run, types[r->type].tail,
                 r->consumed >= 0 ? r->consumed : r->up_to, r->nonce);
        break;
    }
}

/* Headers are written to `mem` one after the other; their places are turned into slices when mem
 * has stopped moving. */
struct spans {
    struct rec_wire *w;
    size_t at[REC_HEADERS_MAX + 1];
};

static void put(struct spans *s, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(struct spans *s, const char *name, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (s->w->nheaders < REC_HEADERS_MAX) {
        s->w->headers[s->w->nheaders].name = sl_str(name);
        buf_vaddf(&s->w->mem, fmt, ap);
        s->at[++s->w->nheaders] = s->w->mem.n;
    }
    va_end(ap);
}

static void put_headers(const struct rec *r, struct spans *s)
{
    put(s, "tm-v", "%d", REC_VERSION);
    put(s, "tm-type", "%s", types[r->type].name);
    if (!types[r->type].request) {
        if (r->epoch >= 0)
            put(s, "tm-epoch", "%" PRId64, r->epoch);
        put(s, "tm-nonce", "%016" PRIx64, r->nonce);
    }
    if (r->consumed >= 0)
        put(s, "tm-consumed", "%" PRId64, r->consumed);
    if (r->up_to >= 0)
        put(s, "tm-up-to", "%" PRId64, r->up_to);
    if (r->at >= 0)
        put(s, "tm-at", "%" PRId64, r->at);
    if (r->chunks > 1)
        put(s, "tm-chunk", "%d/%d", r->chunk, r->chunks);
    if (r->agent)
        put(s, "tm-agent", "%s", r->agent);
    if (r->src.name)
        put(s, "tm-src", "%s/%" PRId64, r->src.name, r->src.offset);
    if (r->src.floor >= 0)
        put(s, "tm-floor", "%" PRId64, r->src.floor);
    if (r->keyed)
        put(s, "tm-idem", "%016" PRIx64, r->idem);
    if (r->priority != 5)
        put(s, "tm-prio", "%d", r->priority);
    if (r->status)
        put(s, "tm-status", "%s", r->status);
    if (r->traceparent)
        put(s, "traceparent", "%s", r->traceparent);
}

int rec_encode(const struct rec *r, struct rec_wire *w)
{
    struct spans s = {.w = w};
    memset(w, 0, sizeof *w);
    buf_init(&w->mem, REC_HEADERS_BYTES_MAX);
    put_headers(r, &s);
    size_t key_at = w->mem.n;
    write_key(r, &w->mem);
    w->value = val_text(r->value);
    int error = buf_error(&w->mem);
    if (error || w->value.n > REC_VALUE_MAX) {
        rec_wire_free(w);
        return error == -ENOMEM ? -ENOMEM : -EMSGSIZE;
    }
    for (size_t i = 0; i < w->nheaders; i++)
        w->headers[i].value = sl(w->mem.p + s.at[i], s.at[i + 1] - s.at[i]);
    w->key = sl(w->mem.p + key_at, w->mem.n - key_at);
    return 0;
}

void rec_wire_free(struct rec_wire *w)
{
    buf_free(&w->mem);
    memset(w, 0, sizeof *w);
}

/* ---- decoding ---- */

static int bad(struct err *e, const char *what)
{
    return err_set(e, -EPROTO, "only tidemark nodes may write to this topic: see docs/journal.md",
                   "%s", what);
}

static bool has_zero(struct slice s)
{
    return s.n && memchr(s.p, 0, s.n);
}

/* RUN/REF#VISIT.REWIND.ATTEMPT/tail@nonce */
static int read_task_key(struct rec *r, struct slice key, struct err *e)
{
    ptrdiff_t hash = -1;
    for (size_t i = RUN_ID_LEN; i < key.n; i++)
        if (key.p[i] == '#')
            hash = (ptrdiff_t)i;
    if (hash < 0 || hash - RUN_ID_LEN > REC_REF_MAX || !utf8_valid(sl(key.p, (size_t)hash)))
        return bad(e, "the key of a task record has no reference");
    r->ref = sl_dup(sl(key.p + RUN_ID_LEN, (size_t)hash - RUN_ID_LEN));
    struct slice rest = sl_from(key, (size_t)hash + 1), nums, part;
    int64_t v[3];
    sl_split(&rest, '/', &nums);
    for (int i = 0; i < 3; i++) {
        if (!sl_split(&nums, '.', &part) || sl_i64(part, &v[i]) < 0 || v[i] < 0 || v[i] > INT32_MAX)
            return bad(e, "the key of a task record has no visit, rewind and attempt");
    }
    r->visit = (int)v[0];
    r->rewind = (int)v[1];
    r->attempt = (int)v[2];
    return r->ref ? 0 : -ENOMEM;
}

static int read_key(struct rec *r, struct slice key, struct err *e)
{
    enum key_form form = types[r->type].key;
    if (has_zero(key))
        return bad(e, "the key has a zero byte");
    if (form == KEY_OWNER || form == KEY_PART)
        return 0;
    if (form == KEY_SETTLED && key.n && key.p[0] == '/') /* settled upTo: no run */
        return 0;
    if (key.n < RUN_ID_LEN || !run_id_valid(sl(key.p, RUN_ID_LEN)))
        return bad(e, "the key does not begin with a run id");
    memcpy(r->run, key.p, RUN_ID_LEN);
    if (form == KEY_TASK)
        return read_task_key(r, key, e);
    if (form == KEY_REQUEST) {
        struct slice s = key;
        while (sl_find(s, '/') >= 0)
            s = sl_from(s, (size_t)sl_find(s, '/') + 1);
        r->uuid = sl_dup(s);
        return r->uuid ? 0 : -ENOMEM;
    }
    return 0;
}

/* What a snapshot or a part.state is to hold must be text. A zero byte would end it earlier. */
static int read_text(char **to, struct slice v, struct err *e)
{
    if (!v.p || !utf8_valid(v) || has_zero(v))
        return bad(e, "a header is not UTF-8 text");
    free(*to);
    *to = sl_dup(v);
    return *to ? 0 : -ENOMEM;
}

static int read_src(struct rec *r, struct slice v, struct err *e)
{
    size_t cut = v.n;
    while (cut > 0 && v.p[cut - 1] != '/')
        cut--;
    if (cut < 2 || sl_i64(sl_from(v, cut), &r->src.offset) < 0 || r->src.offset < 0)
        return bad(e, "tm-src is not FEED:TOPIC/INCARNATION/PARTITION/OFFSET");
    return read_text(&r->src.name, sl(v.p, cut - 1), e);
}

static int read_chunk(struct rec *r, struct slice v, struct err *e)
{
    struct slice rest = v, a;
    int64_t c, n;
    sl_split(&rest, '/', &a);
    if (sl_i64(a, &c) < 0 || sl_i64(rest, &n) < 0 || c < 0 || n < 1 || c >= n || n > 10000)
        return bad(e, "tm-chunk is not N/COUNT");
    r->chunk = (int)c;
    r->chunks = (int)n;
    return 0;
}

static int read_number(int64_t *to, struct slice v, const char *what, struct err *e)
{
    return sl_i64(v, to) < 0 || *to < 0 ? bad(e, what) : 0;
}

static int read_header(struct rec *r, struct slice name, struct slice v, struct err *e)
{
    int64_t n = 0;
    int error = 0;
    if (sl_is(name, "tm-epoch"))
        return read_number(&r->epoch, v, "tm-epoch is not a number", e);
    if (sl_is(name, "tm-nonce"))
        return hex_read_u64(v, &r->nonce) < 0 ? bad(e, "tm-nonce is not 16 hex digits") : 0;
    if (sl_is(name, "tm-consumed"))
        return read_number(&r->consumed, v, "tm-consumed is not a number", e);
    if (sl_is(name, "tm-up-to"))
        return read_number(&r->up_to, v, "tm-up-to is not a number", e);
    if (sl_is(name, "tm-at"))
        return read_number(&r->at, v, "tm-at is not a number", e);
    if (sl_is(name, "tm-floor"))
        return read_number(&r->src.floor, v, "tm-floor is not a number", e);
    if (sl_is(name, "tm-prio")) {
        error = read_number(&n, v, "tm-prio is not a number", e);
        r->priority = n > 9 ? 9 : (int)n;
        return error;
    }
    if (sl_is(name, "tm-idem")) {
        r->keyed = true;
        return hex_read_u64(v, &r->idem) < 0 ? bad(e, "tm-idem is not 16 hex digits") : 0;
    }
    if (sl_is(name, "tm-chunk"))
        return read_chunk(r, v, e);
    if (sl_is(name, "tm-src"))
        return read_src(r, v, e);
    if (sl_is(name, "tm-agent"))
        return read_text(&r->agent, v, e);
    if (sl_is(name, "tm-status"))
        return read_text(&r->status, v, e);
    if (sl_is(name, "traceparent"))
        return read_text(&r->traceparent, v, e);
    return 0; /* headers of later versions are ignored */
}

static int read_headers(struct rec *r, rec_header_fn fn, void *arg, struct err *e)
{
    struct slice name, v;
    bool version = false;
    for (size_t i = 0; fn(arg, i, &name, &v); i++) {
        if (sl_is(name, "tm-type"))
            r->type = rec_type_of(v);
        else if (sl_is(name, "tm-v"))
            version = sl_is(v, "1");
        else {
            int error = read_header(r, name, v, e);
            if (error)
                return error;
        }
    }
    if (!version)
        return bad(e, "the record has no tm-v header of a known version");
    if (r->type == REC_NONE)
        return bad(e, "the record's tm-type is missing or unknown");
    if (!types[r->type].request && r->type != REC_OWNER && r->epoch < 0)
        return bad(e, "a fact without tm-epoch");
    return 0;
}

/* Pieces of a value are no JSON by themselves. */
static int check_value(const struct rec *r, struct slice value, struct err *e)
{
    int error = r->type == REC_SNAPSHOT || r->type == REC_PART_STATE ? 0 : js_check(value, NULL);
    return error && error != -ENOMEM ? bad(e, "the value is not JSON") : error;
}

int rec_decode(int64_t offset, int64_t time_ms, struct slice key, struct slice value,
               rec_header_fn fn, void *arg, struct rec **ret, struct err *e)
{
    if (!value.p)
        return err_set(e, -ENODATA, NULL, "a tombstone");
    struct rec *r = rec_new(REC_NONE, NULL);
    if (!r)
        return -ENOMEM;
    r->offset = offset;
    r->time_ms = time_ms;
    r->bytes = key.n + value.n + 200;
    int error = read_headers(r, fn, arg, e);
    if (!error)
        error = read_key(r, key, e);
    if (!error)
        error = check_value(r, value, e);
    if (!error && !(r->value = val_text_new(value)))
        error = -ENOMEM;
    if (error) {
        rec_unref(r);
        return error;
    }
    *ret = r;
    return 0;
}
