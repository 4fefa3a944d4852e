/* emit, with a producer that keeps what it was given: the record, the output, refusals, late
 * reports. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

SUITE("tasks/emit")

/* Stands in for log/'s producer: the linker takes these before the library's. */
struct kprod {
    struct kprod_opts o;
};
static struct kprod *made;
static int nmade, send_error;
static void *opaque;
static char record[8192];

struct kprod *kprod_new(struct klog *k, const struct kprod_opts *o, struct err *e)
{
    nmade++;
    made = calloc(1, sizeof *made);
    made->o = *o;
    return made;
}

struct kprod *kprod_free(struct kprod *p, bool silent)
{
    if (opaque && !silent)
        p->o.on_delivery(p->o.arg, opaque, -ECANCELED, -1, -1, "gone");
    opaque = NULL;
    free(p);
    return NULL;
}

int kprod_send(struct kprod *p, const struct krec *r, void *o)
{
    if (send_error)
        return send_error;
    opaque = o;
    struct buf b;
    buf_init(&b, sizeof record - 1);
    buf_addf(&b, "%.*s %.*s %s|", SL_ARG(r->topic), SL_ARG(r->key), r->value.p ? "" : "null");
    buf_add_slice(&b, r->value);
    for (size_t i = 0; i < r->nheaders; i++)
        buf_addf(&b, "|%.*s=%.*s", SL_ARG(r->headers[i].name), SL_ARG(r->headers[i].value));
    memcpy(record, b.p, b.n + 1);
    buf_free(&b);
    return 0;
}

size_t kprod_inflight(const struct kprod *p)
{
    return opaque != NULL;
}

static void report(int error)
{
    void *o = opaque;
    opaque = NULL;
    made->o.on_delivery(made->o.arg, o, error, 0, error ? -1 : 7, error ? "no" : NULL);
}

static struct world w;
static struct task task;

static void setup(const char *topic)
{
    world_open(&w, 1);
    w.tasks = tasks_free(w.tasks);
    /* Only handed to kprod_new, which here does not look at it. */
    struct tasks_opts o = {.loop = w.loop, .config = w.config, .klog = (struct klog *)&w};
    w.tasks = tasks_new(&o, NULL);
    NEED(w.tasks != NULL);
    task = (struct task){.name = "t", .ref = "/do/0/t", .type = TASK_EMIT, .emit_topic = topic};
    nmade = send_error = 0;
}

static const char *emit(const char *with, int error)
{
    struct answer a;
    NEED(world_start(&w, &task, with, &a, 0) != NULL);
    loop_turn(w.loop, 0);
    if (opaque) {
        CHECK_INT(a.calls, 0); /* not before the acknowledgement */
        report(error);
    }
    world_wait(&w, &a);
    const char *s = world_said(&a);
    answer_free(&a);
    return s;
}

#define TRACE "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"

TEST(emit_writes_a_binary_cloudevent_and_gives_it_as_output)
{
    setup("events");
    CHECK_STR(emit("{\"type\":\"a.b\",\"data\":{\"n\":1},\"subject\":\"s\",\"tenant\":\"x\"}", 0),
              "{\"specversion\":\"1.0\",\"id\":\"event-1\",\"source\":\"/ns/agent/"
              "1.0.0\",\"type\":\"a.b\","
              "\"time\":\"1970-01-01T00:00:01.000Z\",\"subject\":\"s\",\"tenant\":\"x\","
              "\"traceparent\":\"" TRACE
              "\",\"datacontenttype\":\"application/json\",\"data\":{\"n\":1}}");
    CHECK_STR(record,
              "events key "
              "|{\"n\":1}|ce_specversion=1.0|ce_id=event-1|ce_source=/ns/agent/1.0.0|ce_type=a.b|"
              "ce_time=1970-01-01T00:00:01.000Z|ce_subject=s|ce_tenant=x|ce_traceparent=" TRACE
              "|content-type=application/json");
    world_close(&w);
}

TEST(emit_keeps_what_the_author_gave)
{
    setup("events");
    emit("{\"type\":\"t\",\"id\":\"i\",\"source\":\"/s\",\"time\":\"2026-01-02T03:04:05Z\","
         "\"datacontenttype\":\"text/plain\",\"data\":\"plain\"}",
         0);
    CHECK_STR(record,
              "events key |plain|ce_specversion=1.0|ce_id=i|ce_source=/s|ce_type=t|"
              "ce_time=2026-01-02T03:04:05Z|ce_traceparent=" TRACE "|content-type=text/plain");
    emit("{\"type\":\"t\"}", 0);
    CHECK(strncmp(record, "events key null||", 17) == 0);
    CHECK_INT(nmade, 1);
    world_close(&w);
}

TEST(emit_without_any_topic_is_a_configuration_error)
{
    setup(NULL);
    CHECK_STR(emit("{\"type\":\"t\"}", 0), "configuration 400");
    CHECK(strstr(world_detail(), "events.default") != NULL);
    world_close(&w);
}

TEST(emit_refuses_what_is_no_cloudevent)
{
    setup("events");
    CHECK_STR(emit("{\"type\":7}", 0), "expression 400");
    CHECK_STR(emit("{\"type\":\"t\",\"time\":\"now\"}", 0), "expression 400");
    CHECK_STR(emit("{\"type\":\"t\",\"Tenant\":\"x\"}", 0), "validation 400");
    CHECK_STR(emit("{\"type\":\"t\",\"tenant\":[1]}", 0), "validation 400");
    CHECK_INT(nmade, 0);
    world_close(&w);
}

TEST(emit_refuses_data_and_attributes_that_are_too_large)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    setup("events");
    buf_adds(&b, "{\"type\":\"t\",\"data\":\"");
    while (b.n < 512 * 1024 + 30)
        buf_addc(&b, 'x');
    buf_adds(&b, "\"}");
    CHECK_STR(emit(b.p, 0), "validation 400");
    buf_reset(&b);
    buf_adds(&b, "{\"type\":\"t\",\"tenant\":\"");
    while (b.n < 17 * 1024)
        buf_addc(&b, 'x');
    buf_adds(&b, "\"}");
    CHECK_STR(emit(b.p, 0), "validation 400");
    CHECK_INT(nmade, 0);
    buf_free(&b);
    world_close(&w);
}

TEST(emit_tells_of_a_refusal_by_the_log)
{
    setup("events");
    CHECK_STR(emit("{\"type\":\"t\"}", -ETIMEDOUT), "communication 500");
    send_error = -EMSGSIZE;
    CHECK_STR(emit("{\"type\":\"t\"}", 0), "validation 400");
    send_error = -EAGAIN;
    struct answer a;
    CHECK(world_start(&w, &task, "{\"type\":\"t\"}", &a, 0) == NULL);
    world_close(&w);
}

TEST(emit_survives_a_late_report_and_a_dead_producer)
{
    setup("events");
    struct answer a;
    struct task_run *r = world_start(&w, &task, "{\"type\":\"t\"}", &a, 0);
    NEED(r != NULL);
    tasks_cancel(r);
    report(0);
    CHECK_INT(a.calls, 0);
    NEED(world_start(&w, &task, "{\"type\":\"t\"}", &a, 0) != NULL);
    made->o.on_fatal(made->o.arg, "gap");
    world_wait(&w, &a);
    CHECK_STR(world_said(&a), "communication 500");
    answer_free(&a);
    CHECK(emit("{\"type\":\"t\"}", 0)[0] == '{');
    CHECK_INT(nmade, 2);
    NEED(world_start(&w, &task, "{\"type\":\"t\"}", &a, 0) != NULL); /* freed while under way */
    world_close(&w);
    CHECK_INT(a.calls, 0);
}
