/* Reading without a group, in the loop. */
#include <errno.h>

#include "base/clock.h"
#include "fixture.h"

SUITE("log/kread")

struct reading {
    int n, done, error;
    int64_t first, last;
    struct kread *self;
    int stop_after;
};

static void on_record(void *arg, const struct krec *r)
{
    struct reading *s = arg;
    if (!s->n++)
        s->first = r->offset;
    s->last = r->offset;
    if (s->stop_after == s->n)
        s->self = kread_stop(s->self);
}

static void on_done(void *arg, int error)
{
    struct reading *s = arg;
    s->done++;
    s->error = error;
}

static void start(struct fixture *f, struct reading *s, int64_t from, int64_t to)
{
    struct err e = {0};
    s->self = kread_start(f->klog, f->topic, 0, from, to, on_record, on_done, s, &e);
    CHECK_STR(e.msg, "");
    NEED(s->self != NULL);
}

TEST(ranges_are_read_exactly)
{
    static const struct {
        int64_t from, to;
        int n, error;
    } cases[] = {{-2, -1, 20, 0}, {0, 20, 20, 0},       {5, 9, 4, 0},
                 {7, 7, 0, 0},    {20, -1, 0, 0},       {19, -1, 1, 0},
                 {-2, 3, 3, 0},   {21, -1, 0, -ERANGE}, {33, 40, 0, -ERANGE}};
    struct fixture f;
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 20);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading s = {0};
        start(&f, &s, cases[i].from, cases[i].to);
        CHECK_INT(s.done, 0);
        CHECK(TURN_UNTIL(&f, s.done));
        CHECK_INT(s.n, cases[i].n);
        CHECK_INT(s.error, cases[i].error);
    }
    fixture_stop(&f);
}

TEST(many_readers_of_one_partition_do_not_disturb_each_other)
{
    struct fixture f;
    struct reading v[4] = {0};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 20);
    for (int i = 0; i < 4; i++)
        start(&f, &v[i], i, 20);
    CHECK(TURN_UNTIL(&f, v[0].done && v[1].done && v[2].done && v[3].done));
    for (int i = 0; i < 4; i++) {
        CHECK_INT(v[i].n, 20 - i);
        CHECK_INT(v[i].first, i);
    }
    fixture_stop(&f);
}

TEST(a_tail_goes_on_and_can_be_stopped_in_its_callback)
{
    struct fixture f;
    struct reading s = {.stop_after = 5};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 3);
    start(&f, &s, -2, INT64_MAX);
    CHECK(TURN_UNTIL(&f, s.n == 3));
    fixture_fill(&f, 0, 3);
    CHECK(TURN_UNTIL(&f, s.n == 5));
    for (int i = 0; i < 20; i++)
        loop_turn(f.loop, 5);
    CHECK_INT(s.n, 5);
    CHECK_INT(s.done, 0);
    fixture_stop(&f);
}

TEST(a_missing_topic_is_said)
{
    struct fixture f;
    struct reading s = {0};
    struct err e = {0};
    fixture_start(&f, 1);
    s.self = kread_start(f.klog, "no-such-topic", 0, -2, -1, on_record, on_done, &s, &e);
    CHECK(TURN_UNTIL(&f, s.done));
    CHECK_INT(s.error, -ENOENT);
    s = (struct reading){0};
    s.self = kread_start(f.klog, "no-such-topic", 0, 0, 10, on_record, on_done, &s, &e);
    CHECK(TURN_UNTIL(&f, s.done));
    CHECK_INT(s.error, -ENOENT);
    fixture_stop(&f);
}

TEST(a_reader_stopped_before_its_answer_is_silent)
{
    struct fixture f;
    struct reading s = {0}, t = {0};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 3);
    start(&f, &s, -2, -1);
    kread_stop(s.self);
    start(&f, &t, -2, -1);
    CHECK(TURN_UNTIL(&f, t.done));
    CHECK_INT(t.n, 3);
    CHECK_INT(s.done, 0);
    fixture_stop(&f);
}

struct order {
    int64_t next;
    bool gap;
};

static void in_order(void *arg, const struct krec *r)
{
    struct order *o = arg;
    o->gap |= r->offset != o->next;
    o->next = r->offset + 1;
}

static void on_ordered(void *arg, int error)
{
    CHECK_INT(error, 0);
}

static int in_order_blocking(void *arg, const struct krec *r)
{
    in_order(arg, r);
    return 0;
}

static void on_sent(void *arg, void *opaque, int error, int partition, int64_t offset,
                    const char *why)
{
    *(int *)arg += !error;
}

static void on_assign(void *arg, struct kpart *v, size_t n)
{
    v[0].offset = 0;
    CHECK_INT(kgroup_assign(*(struct kgroup **)arg, v, n), 0);
}

struct grouped {
    struct kgroup *g;
    struct order o;
    int closed;
};

static void on_grouped(void *arg, const struct krec *r)
{
    in_order(&((struct grouped *)arg)->o, r);
}

static void on_gone(void *arg, bool lost)
{
    kgroup_revoke_done(((struct grouped *)arg)->g);
}

static void on_closed(void *arg)
{
    ((struct grouped *)arg)->closed = 1;
}

static void on_commit(void *arg, void *opaque, int error)
{
}

static void on_reset(void *arg, const char *topic, int partition)
{
    CU_FAIL("the position was lost");
}

static void on_fatal(void *arg, const char *why)
{
}

/* More than librdkafka's queues hold: each way of reading stalls, drains and goes on. */
TEST(a_long_partition_is_read_whole_and_in_order_in_every_way)
{
    enum { N = 60000 };
    struct fixture f;
    struct err e = {0};
    int sent = 0, acked = 0;
    fixture_start(&f, 1);
    struct kprod_opts po = {.kind = KPROD_PLAIN, .on_delivery = on_sent, .arg = &acked};
    struct kprod *p = kprod_new(f.klog, &po, &e);
    NEED(p != NULL);
    char value[300] = "x";
    struct krec r = {.topic = sl_str(f.topic), .partition = 0, .value = sl(value, sizeof value)};
    while (sent < N) {
        sent += kprod_send(p, &r, NULL) == 0;
        if (sent % 1000 == 0)
            loop_turn(f.loop, 0);
    }
    CHECK(TURN_UNTIL(&f, acked == N));
    kprod_free(p, true);

    struct order a = {0}, b = {0};
    struct kread *kr = kread_start(f.klog, f.topic, 0, -2, N, in_order, on_ordered, &a, &e);
    NEED(kr != NULL);
    CHECK(TURN_UNTIL(&f, a.next == N));
    CHECK(!a.gap);
    CHECK_INT(kadmin_read(f.admin, f.topic, 0, -2, -1, in_order_blocking, &b, 20000, &e), 0);
    CHECK_INT(b.next, N);
    CHECK(!b.gap);

    struct grouped g = {0};
    const char *topics[] = {f.topic, NULL};
    struct kgroup_opts go = {.group_id = f.topic,
                             .topics = topics,
                             .session_timeout_ms = 6000,
                             .on_assign = on_assign,
                             .on_revoke = on_gone,
                             .on_record = on_grouped,
                             .on_commit = on_commit,
                             .on_reset = on_reset,
                             .on_fatal = on_fatal,
                             .arg = &g};
    g.g = kgroup_new(f.klog, &go, &e);
    NEED(g.g != NULL);
    CHECK(TURN_UNTIL(&f, g.o.next == N));
    CHECK(!g.o.gap);
    kgroup_close(g.g, on_closed, &g);
    CHECK(TURN_UNTIL(&f, g.closed));
    fixture_stop(&f);
}
