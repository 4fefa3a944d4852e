/* Producers: acknowledgements, bounds, and that nothing lands after a failure. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fixture.h"

SUITE("log/kprod")
#define MS 120000

struct acks {
    int n, failed, cancelled, fatal;
    int64_t offsets[200];
    int order[200];
    struct kprod *prod;
    bool free_on_fatal, free_on_first;
};

static void on_delivery(void *arg, void *opaque, int error, int partition, int64_t offset,
                        const char *why)
{
    struct acks *a = arg;
    if (a->n < 200) {
        a->order[a->n] = (int)(intptr_t)opaque;
        a->offsets[a->n] = offset;
    }
    a->n++;
    a->failed += error != 0;
    a->cancelled += error == -ECANCELED;
    CHECK((error != 0) == (why != NULL));
    if (a->free_on_first && a->prod) {
        struct kprod *p = a->prod;
        a->prod = NULL;
        kprod_free(p, true);
    }
}

static void on_fatal(void *arg, const char *why)
{
    struct acks *a = arg;
    a->fatal++;
    CHECK(why && *why);
    if (a->free_on_fatal && a->prod) {
        struct kprod *p = a->prod;
        a->prod = NULL;
        kprod_free(p, false);
    }
}

static struct kprod *producer(struct fixture *f, enum kprod_kind kind, struct acks *a, size_t max)
{
    struct err e = {0};
    struct kprod_opts o = {.kind = kind,
                           .max_inflight = max,
                           .on_delivery = on_delivery,
                           .on_fatal = on_fatal,
                           .arg = a};
    a->prod = kprod_new(f->klog, &o, &e);
    CHECK_STR(e.msg, "");
    NEED(a->prod != NULL);
    return a->prod;
}

static int send(struct fixture *f, struct kprod *p, int i)
{
    char text[16];
    (void)snprintf(text, sizeof text, "v%d", i);
    struct krec r = {.topic = sl_str(f->topic), .partition = 0, .value = sl_str(text)};
    return kprod_send(p, &r, (void *)(intptr_t)i);
}

TEST(acknowledgements_carry_offsets_in_order)
{
    struct fixture f;
    struct acks a = {0};
    fixture_start(&f, 1);
    struct kprod *p = producer(&f, KPROD_JOURNAL, &a, 0);
    for (int i = 0; i < 100; i++)
        CHECK_INT(send(&f, p, i), 0);
    CHECK_INT(kprod_inflight(p), 100);
    CHECK(TURN_UNTIL(&f, a.n == 100));
    for (int i = 0; i < 100; i++) {
        CHECK_INT(a.order[i], i);
        CHECK_INT(a.offsets[i], i);
    }
    CHECK_INT(kprod_inflight(p), 0);
    CHECK_INT(a.failed, 0);
    CHECK(TURN_UNTIL(&f, klog_up(f.klog)));
    kprod_free(p, false);
    fixture_stop(&f);
}

TEST(a_full_queue_says_so_and_a_closed_producer_reports_the_rest)
{
    struct fixture f;
    struct acks a = {0};
    fixture_start(&f, 1);
    struct kprod *p = producer(&f, KPROD_PLAIN, &a, 3);
    for (int i = 0; i < 3; i++)
        CHECK_INT(send(&f, p, i), 0);
    CHECK_INT(send(&f, p, 3), -EAGAIN);
    kprod_free(p, false);
    CHECK_INT(a.n, 3);
    CHECK_INT(a.cancelled, 3);
    fixture_stop(&f);
}

TEST(too_large_records_are_refused_at_once)
{
    struct fixture f;
    struct acks a = {0};
    fixture_start(&f, 1);
    struct kprod *p = producer(&f, KPROD_JOURNAL, &a, 0);
    size_t size = 3 << 20;
    char *big = calloc(1, size);
    NEED(big != NULL);
    struct krec r = {.topic = sl_str(f.topic), .partition = 0, .value = sl(big, size)};
    CHECK_INT(kprod_send(p, &r, NULL), -EMSGSIZE);
    free(big);
    CHECK_INT(kprod_inflight(p), 0);
    CHECK_INT(send(&f, p, 1), 0);
    CHECK(TURN_UNTIL(&f, a.n == 1));
    CHECK_INT(a.failed, 0);
    CHECK_INT(a.fatal, 0);
    kprod_free(p, false);
    fixture_stop(&f);
}

TEST(a_producer_may_be_freed_in_its_own_callback)
{
    struct fixture f;
    struct acks a = {.free_on_first = true};
    fixture_start(&f, 1);
    struct kprod *p = producer(&f, KPROD_PLAIN, &a, 0);
    for (int i = 0; i < 5; i++)
        CHECK_INT(send(&f, p, i), 0);
    CHECK(TURN_UNTIL(&f, a.n == 1));
    fixture_stop(&f);
}

/* Nothing listens there, so nothing is ever acknowledged. */
TEST(a_partition_with_enough_under_way_holds_the_rest_back)
{
    struct acks a = {0};
    struct err e = {0};
    struct fixture f = {.config = config_new(), .loop = loop_new(&e), .topic = "held"};
    CHECK_INT(config_set_kafka(f.config, "bootstrap.servers", "127.0.0.1:1", &e), 0);
    struct klog_opts o = {.config = f.config, .loop = f.loop, .client_id = "unit"};
    f.klog = klog_new(&o, &e);
    NEED(f.klog != NULL);
    struct kprod *p = producer(&f, KPROD_JOURNAL, &a, 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(send(&f, p, i), 0);
    CHECK_INT(kprod_held(p), 3); /* until the turn ends */
    loop_turn(f.loop, 0);
    CHECK_INT(kprod_held(p), 0);
    for (int i = 3; i < 13; i++)
        CHECK_INT(send(&f, p, i), 0);
    loop_turn(f.loop, 0);
    CHECK_INT(kprod_held(p), 0); /* three were under way: there was room for a batch */
    CHECK_INT(send(&f, p, 13), 0);
    struct krec other = {.topic = sl_str(f.topic), .partition = 1, .value = SL("x")};
    CHECK_INT(kprod_send(p, &other, (void *)(intptr_t)14), 0);
    loop_turn(f.loop, 0);
    CHECK_INT(kprod_held(p), 1); /* the other partition has room */
    CHECK_INT(kprod_inflight(p), 15);
    kprod_free(p, false);
    CHECK_INT(a.n, 15);
    CHECK_INT(a.cancelled, 15);
    klog_free(f.klog);
    loop_free(f.loop);
    config_free(f.config);
}

static int count(void *arg, const struct krec *r)
{
    struct slice *last = arg;
    last->n++;
    CHECK(!sl_starts(r->value, SL("after")));
    return 0;
}

/* The broker refuses one record for good (the topic's own limit of bytes); what was sent behind it
 * must not land, in any interleaving with its acknowledgement. */
TEST(nothing_lands_after_a_failed_record)
{
    struct fixture f;
    struct acks a = {0};
    struct err e = {0};
    fixture_start(&f, 1);
    struct config_prop limit = {"max.message.bytes", "2000"};
    CHECK_INT(kadmin_alter(f.admin, f.topic, &limit, 1, MS, &e), 0);
    CHECK_STR(e.msg, "");
    char big[5000];
    memset(big, 'x', sizeof big);
    struct kprod *p = producer(&f, KPROD_JOURNAL, &a, 0);
    CHECK_INT(send(&f, p, 0), 0);
    CHECK(TURN_UNTIL(&f, a.n == 1));
    CHECK_INT(a.failed, 0);
    struct krec bad = {.topic = sl_str(f.topic), .partition = 0, .value = sl(big, sizeof big)};
    struct krec after = {.topic = sl_str(f.topic), .partition = 0, .value = SL("after")};
    CHECK_INT(kprod_send(p, &bad, NULL), 0);
    int sent = 2;
    while (!a.fatal && sent < 5000) {
        int rc = kprod_send(p, &after, NULL);
        sent += rc == 0;
        loop_turn(f.loop, 1);
    }
    CHECK_INT(a.fatal, 1);
    CHECK(TURN_UNTIL(&f, a.n == sent));
    CHECK_INT(a.failed, sent - 1);
    CHECK_INT(kprod_send(p, &after, NULL), -EPIPE);
    kprod_free(p, false);
    struct slice n = {0};
    CHECK_INT(kadmin_read(f.admin, f.topic, 0, -2, -1, count, &n, MS, &e), 0);
    CHECK_INT(n.n, 1);
    fixture_stop(&f);
}

TEST(a_bad_property_is_refused_in_librdkafkas_words)
{
    struct config *c = config_new();
    struct err e = {0};
    CHECK_INT(config_set_kafka(c, "no.such.property", "1", &e), 0);
    struct loop *l = loop_new(&e);
    struct klog_opts o = {.config = c, .loop = l};
    CHECK(klog_new(&o, &e) == NULL);
    CHECK_INT(e.code, -EINVAL);
    CHECK(strstr(e.msg, "no.such.property") != NULL);
    loop_free(l);
    config_free(c);
}
