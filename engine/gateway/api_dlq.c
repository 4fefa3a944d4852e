/* Dead letters: looked at and driven again. Each request is a job. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/job.h"
#include "triggers/letters.h"

#define LETTERS          100 /* of one answer, if `limit` says nothing */
#define PAGE_LETTERS_MAX 1000
#define LIST_MS          5000 /* then the page ends where it is */

static const char *const filters[] = {"agent", "kind", "run", "feed", "origin"};
#define FILTERS (sizeof filters / sizeof *filters)

struct dlq {
    struct api_job job;
    int partition;
    int64_t offset, limit;
    char *wanted[FILTERS]; /* NULL: any */
    bool dry_run;
};

static void dlq_release(struct api_job *j)
{
    struct dlq *d = LIST_ENTRY(j, struct dlq, job);
    for (size_t i = 0; i < FILTERS; i++)
        free(d->wanted[i]);
}

static struct dlq *dlq_new(struct call *c)
{
    struct dlq *d = calloc(1, sizeof *d);
    if (!d)
        api_later(c, 503, "try again", "no memory for the request");
    else
        d->job.release = dlq_release;
    return d;
}

/* ---- the list ---- */

static bool wanted(void *arg, struct json_object *o)
{
    struct dlq *d = arg;
    for (size_t i = 0; i < FILTERS; i++) {
        const char *v = d->wanted[i] ? js_str(o, filters[i]) : NULL;
        if (d->wanted[i] && (!v || strcmp(v, d->wanted[i])))
            return false;
    }
    return true;
}

/* The parameters of the page, escaped for the link to the next one. */
static void add_escaped(struct buf *b, const char *name, const char *v)
{
    buf_addf(b, "&%s=", name);
    buf_add_uri(b, v, "/:");
}

static void put_next(struct json_object *o, const struct dlq *d, int partition, int64_t offset)
{
    struct buf b;
    buf_init(&b, 64 * 1024);
    buf_addf(&b, "/v1/dlq?limit=%lld&after=%d/%lld", (long long)d->limit, partition,
             (long long)offset);
    for (size_t i = 0; i < FILTERS; i++)
        if (d->wanted[i])
            add_escaped(&b, filters[i], d->wanted[i]);
    buf_addc(&b, 0);
    if (partition < 0 || buf_error(&b))
        js_put(o, "next", NULL);
    else
        js_put_new(o, "next", json_object_new_string(b.p));
    buf_free(&b);
}

static void do_list(struct api_job *j, struct kadmin *a)
{
    struct dlq *d = LIST_ENTRY(j, struct dlq, job);
    struct json_object *list = json_object_new_array();
    struct letters_ask q = {.want = wanted,
                            .arg = d,
                            .partition = d->partition,
                            .offset = d->offset,
                            .limit = (size_t)d->limit,
                            .until_ms = clock_boot_ms() + LIST_MS};
    int partition;
    int64_t offset;
    if (letters_list(a, &j->read.g->names, &q, list, &partition, &offset, &j->read.e)) {
        json_object_put(list);
        return;
    }
    j->status = 200;
    j->o = json_object_new_object();
    js_put(j->o, "letters", list);
    put_next(j->o, d, partition, offset);
}

/* PARTITION/OFFSET. */
static bool read_place(const char *text, int *partition, int64_t *offset)
{
    struct slice rest = sl_str(text), part;
    int64_t p;
    if (!sl_split(&rest, '/', &part) || sl_i64(part, &p) < 0 || sl_i64(rest, offset) < 0 || p < 0 ||
        p > INT32_MAX || *offset < 0)
        return false;
    *partition = (int)p;
    return true;
}

static void list_letters(struct call *c)
{
    struct dlq *d = dlq_new(c);
    const char *after = http_query(c->r, "after"), *v;
    bool ok = d;
    if (!d)
        return;
    if (after && !read_place(after, &d->partition, &d->offset)) {
        http_problem(c->r, 400, NULL, "as in `next` of an earlier answer",
                     "the parameter after is not PARTITION/OFFSET");
        api_job_drop(&d->job);
        return;
    }
    if (!api_query_int(c, "limit", 1, PAGE_LETTERS_MAX, LETTERS, &d->limit)) {
        api_job_drop(&d->job);
        return;
    }
    v = http_query(c->r, "kind");
    if (v && strcmp(v, "event") && strcmp(v, "run")) {
        http_problem(c->r, 400, NULL, "event or run", "the parameter kind is no kind of letter");
        api_job_drop(&d->job);
        return;
    }
    for (size_t i = 0; i < FILTERS; i++)
        if ((v = http_query(c->r, filters[i])))
            ok = (d->wanted[i] = strdup(v)) && ok;
    if (ok) {
        api_job_start(c, &d->job, do_list);
        return;
    }
    api_later(c, 503, "try again", "no memory for the request");
    api_job_drop(&d->job);
}

/* ---- one ---- */

static int show(void *arg, const struct krec *r)
{
    struct dlq *d = arg;
    d->job.status = 200;
    d->job.o = letter_json(r, true);
    return 0;
}

static void do_show(struct api_job *j, struct kadmin *a)
{
    struct dlq *d = LIST_ENTRY(j, struct dlq, job);
    (void)letter_read(a, &j->read.g->names, d->partition, d->offset, show, d, &j->read.e);
}

struct again {
    struct dlq *d;
    struct kadmin *a;
    struct redriven x;
};

static int redrive(void *arg, const struct krec *r)
{
    struct again *x = arg;
    struct api_job *j = &x->d->job;
    return letter_redrive(x->a, &j->read.g->names, r, x->d->dry_run, &x->x, &j->read.e);
}

static void do_redrive(struct api_job *j, struct kadmin *a)
{
    struct dlq *d = LIST_ENTRY(j, struct dlq, job);
    struct again x = {.d = d, .a = a};
    if (letter_read(a, &j->read.g->names, d->partition, d->offset, redrive, &x, &j->read.e))
        return;
    j->status = d->dry_run ? 200 : 202;
    j->o = json_object_new_object();
    if (x.x.run[0]) {
        js_put_new(j->o, "run", json_object_new_string(x.x.run));
        js_put_new(j->o, "agent", json_object_new_string(x.x.agent));
        (void)snprintf(j->location, sizeof j->location, "/v1/runs/%s", x.x.run);
    } else {
        js_put_new(j->o, "replay", json_object_new_string(x.x.replay));
        js_put_new(j->o, "topic", json_object_new_string(x.x.topic));
        js_put_new(j->o, "partition", json_object_new_int64(x.x.partition));
        js_put_new(j->o, "offset", json_object_new_int64(x.x.offset));
        js_put_new(j->o, "existing", json_object_new_boolean(x.x.existing));
    }
    js_put_new(j->o, "dryRun", json_object_new_boolean(d->dry_run));
}

static void one(struct call *c, void (*fn)(struct api_job *j, struct kadmin *a))
{
    int64_t partition, offset;
    bool dry_run;
    if (sl_i64(sl_str(c->args[0]), &partition) < 0 || sl_i64(sl_str(c->args[1]), &offset) < 0 ||
        partition < 0 || partition > INT32_MAX || offset < 0) {
        http_problem(c->r, 404, NULL, "GET /v1/dlq lists them as PARTITION/OFFSET",
                     "there is no dead letter %.64s/%.64s", c->args[0], c->args[1]);
        return;
    }
    struct dlq *d = api_query_bool(c, "dryRun", &dry_run) ? dlq_new(c) : NULL;
    if (!d)
        return;
    d->partition = (int)partition;
    d->offset = offset;
    d->dry_run = dry_run;
    api_job_start(c, &d->job, fn);
}

static void get_letter(struct call *c)
{
    one(c, do_show);
}

static void redrive_letter(struct call *c)
{
    one(c, do_redrive);
}

/* ---- the routes ---- */

#define TEXT "{\"type\":\"string\"}"
#define LETTER_MEMBERS                                                                             \
    "\"letter\":" TEXT ",\"kind\":{\"enum\":[\"event\",\"run\"]},\"time\":{\"type\":[\"string\","  \
    "\"null\"]},\"agent\":{\"type\":[\"string\",\"null\"]},\"run\":{\"type\":[\"string\","         \
    "\"null\"]},\"task\":{\"type\":[\"string\",\"null\"]},\"origin\":{\"type\":[\"string\","       \
    "\"null\"]},\"feed\":{\"type\":[\"string\",\"null\"]},\"attempts\":{\"type\":[\"string\","     \
    "\"null\"]},\"cut\":" TEXT ",\"reason\":{\"type\":[\"string\",\"null\"]}"
#define LETTERS_SCHEMA                                                                             \
    "{\"type\":\"object\",\"required\":[\"letters\",\"next\"],\"properties\":{\"letters\":{"       \
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"letter\"],\"properties\":"  \
    "{" LETTER_MEMBERS "}}},\"next\":{\"type\":[\"string\",\"null\"]}}}"
#define LETTER_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"letter\"],\"properties\":{" LETTER_MEMBERS               \
    ",\"error\":{\"type\":[\"object\",\"null\"]},\"headers\":{\"type\":\"object\"},\"value\":{"    \
    "\"type\":[\"string\",\"null\"]},\"valueBase64\":" TEXT "}}"
#define REDRIVEN                                                                                   \
    "{\"type\":\"object\",\"required\":[\"dryRun\"],\"properties\":{\"run\":" TEXT                 \
    ",\"agent\":" TEXT ",\"replay\":" TEXT ",\"topic\":" TEXT ",\"partition\":{\"type\":"          \
    "\"integer\"},\"offset\":{\"type\":\"integer\"},\"existing\":{\"type\":\"boolean\"},"          \
    "\"dryRun\":{\"type\":\"boolean\"}}}"

static const struct param list_params[] = {
    {"limit", "query", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000}",
     "letters of one answer; default 100"},
    {"after", "query", TEXT, "where to go on: `next` of an earlier answer has it"},
    {"agent", "query", TEXT, "only of this agent"},
    {"kind", "query", "{\"enum\":[\"event\",\"run\"]}", "only of this kind"},
    {"run", "query", TEXT, "only of this run"},
    {"feed", "query", TEXT, "only of this feed"},
    {"origin", "query", TEXT, "only of this event: TOPIC/PARTITION/OFFSET"},
    {NULL}};
static const struct param redrive_params[] = {{"dryRun", "query", "{\"type\":\"boolean\"}",
                                               "only say what would be driven again"},
                                              {NULL}};
static const struct answer list_answers[] = {
    {200, "the letters, a partition of the topic after the other", LETTERS_SCHEMA}, {0}};
static const struct answer letter_answers[] = {{200, "the letter with its bytes and headers",
                                                LETTER_SCHEMA},
                                               {0}};
static const struct answer redrive_answers[] = {
    {200, "what would be driven again", REDRIVEN},
    {202, "the log has acknowledged it: a run, or the replay of one event", REDRIVEN},
    {0}};

const struct route routes_dlq[] = {
    {.method = "GET",
     .path = "/v1/dlq",
     .scope = SCOPE_READ,
     .fn = list_letters,
     .id = "listLetters",
     .tag = "dead letters",
     .summary = "The dead letters",
     .params = list_params,
     .answers = list_answers},
    {.method = "GET",
     .path = "/v1/dlq/{partition}/{offset}",
     .scope = SCOPE_READ,
     .fn = get_letter,
     .id = "getLetter",
     .tag = "dead letters",
     .summary = "One dead letter, whole",
     .answers = letter_answers},
    {.method = "POST",
     .path = "/v1/dlq/{partition}/{offset}/redrive",
     .scope = SCOPE_OPERATE,
     .fn = redrive_letter,
     .id = "redriveLetter",
     .tag = "dead letters",
     .summary = "Try what is in a dead letter again; a repeat makes no double",
     .params = redrive_params,
     .answers = redrive_answers},
    {.method = NULL},
};
