/* Events, requests, records and the router when memory runs out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "paths.h"
#include "triggers/dead.h"
#include "triggers/recwire.h"
#include "triggers/request.h"
#include "triggers/router_int.h"

SUITE("faults/memory_events")

#define RUN "0002x8fazsj5ede5ykkgwyy5tg63c4"
#define H(n, v)                                                                                    \
    {                                                                                              \
        SL(n), SL(v)                                                                               \
    }

static const struct kheader headers[] = {
    {{"ce_id", 5}, {"7", 1}},       {{"ce_source", 9}, {"/shop", 5}},
    {{"ce_type", 7}, {"new", 3}},   {{"content-type", 12}, {"application/json", 16}},
    {{"\xff", 1}, {"\xfe\x01", 2}}, {{"traceparent", 11}, {"00-a", 4}},
    {{"none", 4}, {NULL, 0}},
};

static struct krec record(const char *value)
{
    return (struct krec){.topic = SL("orders"),
                         .partition = 3,
                         .offset = 41,
                         .time_ms = 1700000000123,
                         .key = SL("k1"),
                         .value = sl_str(value),
                         .headers = headers,
                         .nheaders = sizeof headers / sizeof *headers};
}

static int read_event(char **ret)
{
    struct krec r = record("{\"order\":{\"total\":12.5,\"lines\":[1,2]}}");
    struct event ev;
    struct err e = {0};
    struct buf b;
    int error = event_read(&ev, &r, &e);
    fault_off();
    if (error) {
        CHECK(e.msg[0] && e.hint[0] && !ev.envelope && !ev.raw && !ev.kafka);
        return error;
    }
    buf_init(&b, 1 << 16);
    NEED(js_write(ev.envelope, &b) == 0 && js_write(ev.raw, &b) == 0 &&
         js_write(ev.kafka, &b) == 0);
    buf_adds(&b, ev.traceparent);
    *ret = buf_take(&b);
    event_free(&ev);
    return 0;
}

/* As the log would give it back: a record that lost anything has another text. */
static int wire_text(struct rec *r, struct buf *b)
{
    struct recwire w;
    struct krec k;
    free(r->uuid);
    r->uuid = strdup("u");
    NEED(recwire_make(&w, r, "t", 0, &k) == 0);
    buf_add_slice(b, k.key);
    buf_add_slice(b, k.value);
    for (size_t i = 0; i < k.nheaders; i++) {
        buf_add_slice(b, k.headers[i].name);
        buf_add_slice(b, k.headers[i].value);
    }
    recwire_free(&w);
    return 0;
}

static struct json_object *input;

static int make_request(char **ret)
{
    struct request q = {.agent = "acme/triage",
                        .version = "1.0.0",
                        .hash = "9f2c",
                        .key = "k",
                        .input = input,
                        .run_id = RUN,
                        .traceparent = "00-x",
                        .src_name = "live:t/1/0",
                        .src_offset = 17,
                        .floor = 16,
                        .time_ms = 1};
    struct rec *r = NULL;
    struct err e = {0};
    struct buf b;
    int error = request_make(&q, &r, &e);
    fault_off();
    buf_init(&b, 1 << 16);
    if (!error) {
        (void)wire_text(r, &b);
        *ret = buf_take(&b);
    }
    buf_free(&b);
    rec_unref(r);
    return error;
}

static int make_control(char **ret)
{
    struct rec *r = NULL;
    struct err e = {0};
    struct buf b;
    int error = request_control(REC_CANCEL, RUN, "because", 1, &r, &e);
    fault_off();
    CHECK(!error || e.hint[0]);
    buf_init(&b, 1 << 16);
    if (!error) {
        (void)wire_text(r, &b);
        *ret = buf_take(&b);
    }
    buf_free(&b);
    rec_unref(r);
    return error;
}

/* Every kind of key, and a body with all its members. */
static int there_and_back(char **ret)
{
    static const enum rec_type types[] = {REC_REQUESTED, REC_OWNER,    REC_TASK_COMPLETED,
                                          REC_STARTED,   REC_SNAPSHOT, REC_SETTLED};
    struct buf b;
    int error = 0;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof types / sizeof *types && !error; i++) {
        struct recwire w;
        struct krec k;
        struct rec *again = NULL, *r = rec_new(types[i], RUN);
        bool whole = r && (r->uuid = strdup("u")) && (r->agent = strdup("9f2c")) &&
                     (r->ref = strdup("/do/0/a")) && (r->src.name = strdup("live:t/1/0")) &&
                     (r->status = strdup("skipped")) && (r->traceparent = strdup("00-x")) &&
                     (r->value = val_text_new(
                          SL("{\"output\":1,\"context\":{},\"input\":[],\"next\":\"/do/1/b\","
                             "\"until\":\"2026-01-01T00:00:00Z\"}")));
        if (r) {
            r->src.offset = r->at = r->epoch = 5;
            r->consumed = 3;
        }
        error = whole ? recwire_make(&w, r, "t", 0, &k) : -ENOMEM;
        if (!error) {
            error = recwire_read(&k, &again, NULL);
            recwire_free(&w);
        }
        if (!error)
            error = rec_read_body(again);
        if (!error)
            error = rec_write_body(again);
        if (!error) {
            bool on = fault_off();
            (void)wire_text(again, &b);
            fault_back(on);
        }
        rec_unref(again);
        rec_unref(r);
    }
    fault_off();
    if (!error)
        *ret = buf_take(&b);
    buf_free(&b);
    return error;
}

TEST(events_requests_and_records)
{
    NEED(js_parse(SL("{\"a\":[1,\"x\"]}"), &input, NULL) == 0);
    every_allocation("event_read", read_event);
    every_allocation("request_make", make_request);
    every_allocation("request_control", make_control);
    every_allocation("records", there_and_back);
    json_object_put(input);
}

/* ---- one event through the router ---- */

static struct agent agents[2];
static struct buf sent;

bool __wrap_defs_next(const struct defs *d, size_t *pos, const struct agent **ret);
bool __wrap_defs_ready(const struct defs *d);
bool __wrap_defs_ready(const struct defs *d)
{
    return true;
}

bool __wrap_defs_next(const struct defs *d, size_t *pos, const struct agent **ret)
{
    if (*pos >= 2)
        return false;
    *ret = &agents[(*pos)++];
    return true;
}

/* What the producer would take over; it copies, and can have no memory for it. */
int __wrap_router_send(struct rpart *p, int64_t offset, const struct krec *r);
int __wrap_router_send(struct rpart *p, int64_t offset, const struct krec *r)
{
    void *copy = malloc(1);
    if (!copy)
        return -ENOMEM;
    free(copy);
    bool on = fault_off();
    buf_addf(&sent, "%d ", r->partition);
    buf_add_slice(&sent, r->value);
    for (size_t i = 0; i < r->nheaders; i++)
        if (!sl_starts(r->headers[i].name, SL("tm-dlq-time")))
            buf_addf(&sent, " %.*s=%.*s", SL_ARG(r->headers[i].name), SL_ARG(r->headers[i].value));
    buf_addc(&sent, '\n');
    fault_back(on);
    return 0;
}

static const char *event_text;

/* What can't be done now is done at a later tick; then it is the same as without a fault. */
static int route_one(char **ret)
{
    struct names names;
    struct router router = {.o = {.names = &names, .journal_partitions = 8, .feed = "live"}};
    struct rpart p = {.router = &router,
                      .partition = 3,
                      .ready = true,
                      .src_name = "live:orders/1/3"};
    struct krec r = record(event_text);
    names_make(&names, "g");
    list_init(&p.jobs);
    route_init(&p.route, 41);
    buf_reset(&sent);
    struct job *j = job_new(&p, &r);
    if (!j)
        return -ENOMEM;
    if (route_begin(&p.route, r.offset)) {
        job_free(j);
        return -ENOMEM;
    }
    list_push(&p.jobs, &j->node);
    p.njobs = 1;
    for (int tick = 0; tick < 3 && p.njobs; tick++)
        jobs_run(&p);
    fault_off();
    CHECK_INT(p.njobs, 0);
    CHECK_INT(route_floor(&p.route), 42);
    route_free(&p.route);
    *ret = sl_dup(buf_slice(&sent));
    return 0;
}

#define HEAD(name, key)                                                                            \
    "{\"document\":{\"dsl\":\"1.0.0\",\"namespace\":\"t\",\"name\":\"" name                        \
    "\",\"version\":\"1.0.0\",\"metadata\":{\"tidemark\":{\"key\":\"" key "\"}}},"
#define DO "\"do\":[{\"s\":{\"set\":{\"a\":1}}}]}"

TEST(an_event_is_routed_once_and_whole)
{
    static const char *const texts[] = {
        HEAD("a", ".data.n") "\"schedule\":{\"on\":{\"one\":{\"with\":{\"type\":\"new\","
                             "\"data\":\"${ .n > 1 }\"}}}}," DO,
        HEAD("b", ".data") "\"schedule\":{\"on\":{\"any\":[]}}," DO};
    for (int i = 0; i < 2; i++) {
        struct err e = {0};
        agents[i] = (struct agent){.id = i ? "t/b" : "t/a", .version = "1.0.0", .active = true};
        int error = flow_from_text(sl_str(texts[i]), &agents[i].flow, &e);
        if (error)
            fprintf(stderr, "%s\n", e.msg);
        NEED(error == 0);
    }
    buf_init(&sent, 1 << 16);
    event_text = "{\"n\":2}"; /* the second agent's key is no scalar: a dead letter of its own */
    every_allocation("a route and a dead letter", route_one);
    CHECK(strstr(sent.p, "\"agent\":\"t/a\"") && strstr(sent.p, "\"key\":\"2\""));
    CHECK(strstr(sent.p, "tm-dlq-kind=event") && strstr(sent.p, "the key is an object"));
    event_text = "{\"n\":";
    every_allocation("an event that can't be read", route_one);
    for (int i = 0; i < 2; i++)
        flow_unref(agents[i].flow);
    buf_free(&sent);
}
