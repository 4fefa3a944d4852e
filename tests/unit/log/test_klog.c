/* Brokers that stall or go away, by librdkafka's mock cluster: what a healthy broker can't show. */
#include <errno.h>
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "fixture.h"
#include "log/klog_int.h"

SUITE("log/klog")

struct mock {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
    struct fixture f; /* loop, config, log and klog only */
    int log_fd;
    char log_path[32];
};

static void mock_start(struct mock *m)
{
    char why[256];
    struct err e = {0};
    *m = (struct mock){.log_path = "/tmp/tm_klog_XXXXXX"};
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    NEED(rd_kafka_conf_set(c, "test.mock.num.brokers", "1", why, sizeof why) == RD_KAFKA_CONF_OK);
    rd_kafka_conf_set_log_cb(c, NULL);
    m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, why, sizeof why);
    NEED(m->rk != NULL);
    m->cluster = rd_kafka_handle_mock_cluster(m->rk);
    CHECK_INT(rd_kafka_mock_topic_create(m->cluster, "t", 1, 1), 0);
    (void)snprintf(m->f.topic, sizeof m->f.topic, "t");
    m->f.config = config_new();
    CHECK_INT(config_set_kafka(m->f.config, "bootstrap.servers",
                               rd_kafka_mock_cluster_bootstraps(m->cluster), &e),
              0);
    m->log_fd = mkstemp(m->log_path);
    NEED(m->log_fd >= 0);
    m->f.log = log_new(m->log_fd, LOG_INFO, false);
    m->f.loop = loop_new(&e);
    struct klog_opts o = {.config = m->f.config, .loop = m->f.loop, .log = m->f.log};
    m->f.klog = klog_new(&o, &e);
    CHECK_STR(e.msg, "");
    NEED(m->f.klog != NULL);
}

static void mock_stop(struct mock *m)
{
    klog_free(m->f.klog);
    loop_free(m->f.loop);
    log_free(m->f.log);
    config_free(m->f.config);
    close(m->log_fd);
    CHECK_INT(unlink(m->log_path), 0);
    rd_kafka_destroy(m->rk);
}

static int times_logged(struct mock *m, const char *what)
{
    char text[16384];
    ssize_t n = pread(m->log_fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    int times = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        times++;
    return times;
}

struct sends {
    int n, failed, last;
    bool disorder;
};

static void on_delivery(void *arg, void *opaque, int error, int partition, int64_t offset,
                        const char *why)
{
    struct sends *s = arg;
    int i = (int)(intptr_t)opaque;
    s->disorder |= i != s->last + 1;
    s->last = i;
    s->n++;
    s->failed += error != 0;
}

static void on_fatal(void *arg, const char *why)
{
    ((struct sends *)arg)->failed += 1000;
}

TEST(a_lost_broker_is_told_once_and_nothing_is_lost_meanwhile)
{
    struct mock m;
    struct sends s = {0};
    struct err e = {0};
    mock_start(&m);
    CHECK(TURN_UNTIL(&m.f, klog_up(m.f.klog)));
    struct kprod_opts o = {.kind = KPROD_JOURNAL,
                           .on_delivery = on_delivery,
                           .on_fatal = on_fatal,
                           .arg = &s};
    struct kprod *p = kprod_new(m.f.klog, &o, &e);
    NEED(p != NULL);
    struct krec r = {.topic = SL("t"), .partition = 0, .value = SL("v")};
    for (int i = 1; i <= 5; i++)
        CHECK_INT(kprod_send(p, &r, (void *)(intptr_t)i), 0);
    CHECK(TURN_UNTIL(&m.f, s.n == 5));
    CHECK_INT(rd_kafka_mock_broker_set_down(m.cluster, 1), 0);
    for (int i = 6; i <= 10; i++)
        CHECK_INT(kprod_send(p, &r, (void *)(intptr_t)i), 0);
    CHECK(TURN_UNTIL(&m.f, !klog_up(m.f.klog)));
    CHECK_INT(times_logged(&m, "brokers unreachable"), 1);
    CHECK_INT(s.n, 5);
    CHECK_INT(rd_kafka_mock_broker_set_up(m.cluster, 1), 0);
    CHECK(TURN_UNTIL(&m.f, s.n == 10 && klog_up(m.f.klog)));
    CHECK_INT(s.failed, 0);
    CHECK(!s.disorder);
    CHECK_INT(times_logged(&m, "brokers unreachable"), 1);
    CHECK_INT(times_logged(&m, "reachable again"), 1);
    kprod_free(p, false);
    mock_stop(&m);
}

static void on_unknown(void *arg, void *opaque, int error, int partition, int64_t offset,
                       const char *why)
{
    int64_t *seen = arg;
    CHECK_INT(error, 0);
    *seen = offset;
}

/* A retry that the broker recognises is acknowledged without an offset; the caller must be told so
 * and not get some number. */
TEST(an_acknowledgement_without_an_offset_is_told)
{
    struct mock m;
    struct err e = {0};
    int64_t offset = -9;
    mock_start(&m);
    struct kprod_opts o = {.kind = KPROD_JOURNAL, .on_delivery = on_unknown, .arg = &offset};
    struct kprod *p = kprod_new(m.f.klog, &o, &e);
    NEED(p != NULL);
    struct krec r = {.topic = SL("t"), .partition = 0, .value = SL("v")};
    CHECK_INT(kprod_send(p, &r, NULL), 0);
    CHECK(TURN_UNTIL(&m.f, offset == 0));
    enum { PRODUCE = 0 }; /* the request's number in the protocol */
    rd_kafka_mock_push_request_errors(m.cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER);
    CHECK_INT(kprod_send(p, &r, NULL), 0);
    CHECK(TURN_UNTIL(&m.f, offset != 0));
    CHECK_INT(offset, -1);
    kprod_free(p, false);
    mock_stop(&m);
}

struct member {
    struct kgroup *g;
    int assigns, revokes, commits, error, closed;
};

static void on_assign(void *arg, struct kpart *v, size_t n)
{
    struct member *a = arg;
    a->assigns++;
    CHECK_INT(kgroup_assign(a->g, v, 0), 0);
}

static void on_revoke(void *arg, bool lost)
{
    struct member *a = arg;
    a->revokes++;
    kgroup_revoke_done(a->g);
}

static void on_record(void *arg, const struct krec *r)
{
}

static void on_commit(void *arg, void *opaque, int error)
{
    struct member *a = arg;
    a->commits++;
    a->error = error;
}

static void on_reset(void *arg, const char *topic, int partition)
{
}

static void on_closed(void *arg)
{
    ((struct member *)arg)->closed++;
}

static void join(struct mock *m, struct member *a)
{
    static const char *const topics[] = {"t", NULL};
    struct err e = {0};
    struct kgroup_opts o = {.group_id = "g",
                            .topics = topics,
                            .session_timeout_ms = 3000,
                            .on_assign = on_assign,
                            .on_revoke = on_revoke,
                            .on_record = on_record,
                            .on_commit = on_commit,
                            .on_reset = on_reset,
                            .on_fatal = on_fatal,
                            .arg = a};
    a->g = kgroup_new(m->f.klog, &o, &e);
    NEED(a->g != NULL);
    CHECK(TURN_UNTIL(&m->f, a->assigns == 1));
}

/* A commit under way at the revocation must neither hold it up nor go out later in another
 * generation: the consumer is given up, the commit reported as stale, and a new one joins. */
TEST(a_hanging_commit_costs_the_consumer)
{
    struct mock m;
    struct member a = {0};
    mock_start(&m);
    join(&m, &a);
    CHECK_INT(rd_kafka_mock_broker_set_rtt(m.cluster, 1, 30000), 0);
    CHECK_INT(kgroup_commit(a.g, "t", 0, 1, "x", &a), 0);
    CHECK(TURN_UNTIL(&m.f, a.revokes == 1));
    int64_t from = clock_boot_ms();
    CHECK(TURN_UNTIL(&m.f, a.commits == 1));
    CHECK(clock_boot_ms() - from < 25000);
    CHECK_INT(a.error, -ESTALE);
    CHECK_INT(times_logged(&m, "a commit hangs"), 1);
    CHECK_INT(rd_kafka_mock_broker_set_rtt(m.cluster, 1, 0), 0);
    CHECK(TURN_UNTIL(&m.f, a.assigns == 2));
    CHECK_INT(a.commits, 1);
    kgroup_close(a.g, on_closed, &a);
    CHECK(TURN_UNTIL(&m.f, a.closed));
    mock_stop(&m);
}

TEST(closing_does_not_wait_for_a_stalled_broker)
{
    struct mock m;
    struct member a = {0};
    mock_start(&m);
    join(&m, &a);
    CHECK_INT(rd_kafka_mock_broker_set_rtt(m.cluster, 1, 30000), 0);
    CHECK_INT(kgroup_commit(a.g, "t", 0, 1, NULL, &a), 0);
    int64_t from = clock_boot_ms();
    kgroup_close(a.g, on_closed, &a);
    CHECK(TURN_UNTIL(&m.f, a.closed));
    CHECK(clock_boot_ms() - from < 25000);
    CHECK_INT(a.error, -ESTALE);
    CHECK_INT(rd_kafka_mock_broker_set_rtt(m.cluster, 1, 0), 0);
    mock_stop(&m);
}

struct woken {
    struct kwake wake;
    int times;
};

static void on_woken(struct loop_fd *w, uint32_t events)
{
    struct woken *x = LIST_ENTRY(w, struct woken, wake.w);
    kwake_clear(&x->wake);
    x->times++;
}

/* librdkafka writes to the eventfd when a queue ceases to be empty: what came before the queue was
 * watched, such as the error of a broker that is down, would keep every later event unseen. */
TEST(what_a_queue_held_before_it_was_watched_wakes_the_loop)
{
    char why[256];
    struct err e = {0};
    struct woken x = {0};
    struct fixture f = {.loop = loop_new(&e)};
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    NEED(rd_kafka_conf_set(c, "bootstrap.servers", "127.0.0.1:1", why, sizeof why) ==
         RD_KAFKA_CONF_OK);
    rd_kafka_conf_set_events(c, RD_KAFKA_EVENT_ERROR);
    rd_kafka_conf_set_log_cb(c, NULL);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, c, why, sizeof why);
    NEED(rk && f.loop);
    rd_kafka_queue_t *q = rd_kafka_queue_get_main(rk);
    CHECK(TURN_UNTIL(&f, rd_kafka_outq_len(rk) > 0));
    CHECK_INT(kwake_init(&x.wake, f.loop, on_woken), 0);
    kwake_watch(&x.wake, q);
    CHECK(TURN_UNTIL(&f, x.times > 0));
    kwake_unwatch(q);
    kwake_end(&x.wake);
    rd_kafka_queue_destroy(q);
    rd_kafka_destroy(rk);
    loop_free(f.loop);
}
