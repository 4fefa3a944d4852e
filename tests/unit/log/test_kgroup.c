/* Group consumers: assignment with committed metadata, hand-over, and that no commit of a former
 * member is taken for good. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "base/clock.h"
#include "broker/broker.h"
#include "fixture.h"

SUITE("log/kgroup")

struct member {
    struct fixture *f;
    struct kgroup *g;
    int assigns, revokes, lost, records, commits, commit_error, ends, resets, fatal, closed;
    size_t nparts;
    int64_t committed, start_at, last;
    char metadata[64];
    int at_revoke; /* answer of a commit sent in on_revoke */
    bool commit_at_revoke, keep_revoked, wait_assign, close_at_reset;
    struct kpart own[8];
};

static void on_assign(void *arg, struct kpart *v, size_t n)
{
    struct member *m = arg;
    m->assigns++;
    m->nparts = n;
    m->last = -1;
    for (size_t i = 0; i < n && i < 8; i++) {
        m->own[i] = (struct kpart){m->f->topic, v[i].partition};
        m->own[i].offset = v[i].offset >= 0 ? v[i].offset : m->start_at;
        m->committed = v[i].offset;
        (void)snprintf(m->metadata, sizeof m->metadata, "%s", v[i].metadata ? v[i].metadata : "-");
    }
    if (!m->wait_assign)
        CHECK_INT(kgroup_assign(m->g, m->own, n), 0);
}

static void on_revoke(void *arg, bool lost)
{
    struct member *m = arg;
    m->revokes++;
    m->lost += lost;
    if (m->commit_at_revoke)
        m->at_revoke = kgroup_commit(m->g, m->f->topic, m->own[0].partition, 7, "bye", m);
    if (!m->keep_revoked)
        kgroup_revoke_done(m->g);
}

static void on_record(void *arg, const struct krec *r)
{
    struct member *m = arg;
    m->records++;
    CHECK(r->offset > m->last || m->nparts > 1);
    m->last = r->offset;
}

static void on_commit(void *arg, void *opaque, int error)
{
    struct member *m = arg;
    CHECK(opaque == m);
    m->commits++;
    m->commit_error = error;
}

static void on_end(void *arg, int partition, const char *topic)
{
    ((struct member *)arg)->ends++;
}

static void on_closed(void *arg)
{
    ((struct member *)arg)->closed++;
}

static void on_reset(void *arg, const char *topic, int partition)
{
    struct member *m = arg;
    m->resets++;
    struct kpart p = {(char *)topic, partition, -2};
    if (!m->close_at_reset)
        CHECK_INT(kgroup_assign(m->g, &p, 1), 0);
    else if (m->resets == 1)
        kgroup_close(m->g, on_closed, m);
}

static void on_fatal(void *arg, const char *why)
{
    ((struct member *)arg)->fatal++;
}

static void join(struct fixture *f, struct member *m, const char *instance, int64_t session_ms)
{
    struct err e = {0};
    const char *topics[] = {f->topic, NULL};
    m->f = f;
    struct kgroup_opts o = {.group_id = f->topic,
                            .topics = topics,
                            .instance_id = instance,
                            .session_timeout_ms = session_ms,
                            .on_assign = on_assign,
                            .on_revoke = on_revoke,
                            .on_record = on_record,
                            .on_commit = on_commit,
                            .on_end = on_end,
                            .on_reset = on_reset,
                            .on_fatal = on_fatal,
                            .arg = m};
    m->g = kgroup_new(f->klog, &o, &e);
    CHECK_STR(e.msg, "");
    NEED(m->g != NULL);
}

static void quit(struct fixture *f, struct member *m)
{
    kgroup_close(m->g, on_closed, m);
    CHECK(TURN_UNTIL(f, m->closed));
}

TEST(committed_offsets_and_metadata_come_with_the_assignment)
{
    struct fixture f;
    struct member a = {.start_at = -2}, b = {0};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 10);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.records == 10 && a.ends));
    CHECK_INT(a.committed, -1);
    CHECK_STR(a.metadata, "-");
    CHECK_INT(kgroup_commit(a.g, f.topic, 0, 4, "at=4", &a), 0);
    CHECK_INT(kgroup_commit(a.g, f.topic, 0, 5, "at=5", &a), -EAGAIN);
    CHECK_INT(kgroup_commit(a.g, f.topic, 3, 5, NULL, &a), -ESTALE);
    CHECK(TURN_UNTIL(&f, a.commits));
    CHECK_INT(a.commit_error, 0);
    quit(&f, &a);
    CHECK_INT(a.revokes, 1);
    CHECK_INT(a.lost, 0);
    join(&f, &b, NULL, 6000);
    CHECK(TURN_UNTIL(&f, b.records == 6));
    CHECK_INT(b.committed, 4);
    CHECK_STR(b.metadata, "at=4");
    struct kpart v = {f.topic, 0};
    CHECK_INT(kadmin_committed(f.admin, f.topic, &v, 1, 120000, NULL), 0);
    CHECK_INT(v.offset, 4);
    CHECK_STR(v.metadata, "at=4");
    free(v.metadata);
    quit(&f, &b);
    fixture_stop(&f);
}

TEST(two_members_share_and_the_leaver_hands_over_with_its_last_commit)
{
    struct fixture f;
    struct member a = {.start_at = -2}, b = {.start_at = -2};
    fixture_start(&f, 4);
    join(&f, &a, NULL, 60000);
    CHECK(TURN_UNTIL(&f, a.nparts == 4));
    join(&f, &b, NULL, 60000);
    CHECK(TURN_UNTIL(&f, a.assigns == 2 && b.assigns == 1));
    CHECK_INT(a.nparts, 2);
    CHECK_INT(b.nparts, 2);
    CHECK_INT(a.revokes, 1);
    b.commit_at_revoke = b.keep_revoked = true;
    int partition = b.own[0].partition;
    int64_t from = clock_boot_ms();
    kgroup_close(b.g, on_closed, &b);
    CHECK(TURN_UNTIL(&f, a.assigns == 3 && b.closed));
    CHECK(clock_boot_ms() - from < 50000);
    CHECK_INT(a.nparts, 4);
    CHECK_INT(b.at_revoke, 0);
    CHECK_INT(b.commits, 1);
    CHECK_INT(b.commit_error, 0);
    struct kpart v = {f.topic, partition};
    CHECK_INT(kadmin_committed(f.admin, f.topic, &v, 1, 120000, NULL), 0);
    CHECK_INT(v.offset, 7);
    free(v.metadata);
    quit(&f, &a);
    fixture_stop(&f);
}

TEST(a_static_member_leaves_at_once)
{
    struct fixture f;
    struct member a = {.start_at = -2}, b = {.start_at = -2};
    fixture_start(&f, 2);
    join(&f, &a, "one", 30000);
    join(&f, &b, "two", 30000);
    CHECK(TURN_UNTIL(&f, a.nparts == 1 && b.nparts == 1));
    int before = b.assigns;
    kgroup_close(a.g, on_closed, &a);
    CHECK(TURN_UNTIL(&f, a.closed && b.assigns > before));
    CHECK_INT(b.nparts, 2);
    quit(&f, &b);
    fixture_stop(&f);
}

TEST(a_replaced_static_member_is_told)
{
    struct fixture f;
    struct member a = {.start_at = -2}, b = {.start_at = -2};
    fixture_start(&f, 1);
    join(&f, &a, "same", 6000);
    CHECK(TURN_UNTIL(&f, a.nparts == 1));
    join(&f, &b, "same", 6000);
    CHECK(TURN_UNTIL(&f, a.fatal));
    CHECK_INT(a.lost, 1);
    CHECK_INT(kgroup_commit(a.g, f.topic, 0, 1, NULL, &a), -ESTALE);
    CHECK(TURN_UNTIL(&f, b.nparts == 1));
    quit(&f, &a);
    quit(&f, &b);
    fixture_stop(&f);
}

/* Joins as a process of its own that has the same instance id, and is gone again. */
static void intrude(struct fixture *f, const char *instance)
{
    char why[256];
    static const char *const names[] = {"bootstrap.servers", "group.id", "group.instance.id"};
    const char *values[] = {f->servers, f->topic, instance};
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    for (int i = 0; i < 3; i++)
        NEED(rd_kafka_conf_set(c, names[i], values[i], why, sizeof why) == RD_KAFKA_CONF_OK);
    rd_kafka_conf_set_log_cb(c, NULL);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, c, why, sizeof why);
    NEED(rk != NULL);
    rd_kafka_topic_partition_list_t *v = rd_kafka_topic_partition_list_new(1), *got = NULL;
    rd_kafka_topic_partition_list_add(v, f->topic, -1);
    NEED(rd_kafka_subscribe(rk, v) == RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t until = clock_boot_ms() + 120000;
    for (int n = 0; !n && clock_boot_ms() < until;) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 50);
        if (m)
            rd_kafka_message_destroy(m);
        if (rd_kafka_assignment(rk, &got) == RD_KAFKA_RESP_ERR_NO_ERROR) {
            n = got->cnt;
            rd_kafka_topic_partition_list_destroy(got);
        }
        loop_turn(f->loop, 0); /* the others must answer the rebalance */
    }
    rd_kafka_topic_partition_list_destroy(v);
    rd_kafka_destroy(rk);
}

static void restart_broker(struct fixture *f)
{
    struct err e = {0};
    struct broker_opts b = {.data_dir = f->dir, .host = "127.0.0.1"};
    b.port = broker_port(f->broker);
    broker_stop(f->broker);
    f->broker = broker_start(&b, &e);
    CHECK_STR(e.msg, "");
    NEED(f->broker != NULL);
}

/* When its broker died while it joined, a static member may be fenced by itself. */
TEST(a_fencing_after_trouble_with_the_brokers_is_answered_by_joining_again_once)
{
    struct fixture f;
    struct member a = {.start_at = -2};
    fixture_start(&f, 1);
    if (!f.broker) { /* a cluster of others is not ours to restart */
        fixture_stop(&f);
        return;
    }
    join(&f, &a, "same", 6000);
    CHECK(TURN_UNTIL(&f, a.nparts == 1 && a.assigns == 1));
    restart_broker(&f);
    CHECK_INT(kgroup_commit(a.g, f.topic, 0, 1, NULL, &a), 0);
    CHECK(TURN_UNTIL(&f, a.commits)); /* it has met the end of its connection */
    intrude(&f, "same");
    int before = a.assigns;
    CHECK(TURN_UNTIL(&f, a.assigns > before || a.fatal));
    CHECK_INT(a.fatal, 0);
    intrude(&f, "same"); /* again, and soon: there is another one */
    CHECK(TURN_UNTIL(&f, a.fatal));
    quit(&f, &a);
    fixture_stop(&f);
}

/* The loop hangs for longer than max.poll.interval.ms, so the member is out; a commit sent before
 * it learns of that must not count, although the group is empty and the broker would take it. */
TEST(a_commit_after_a_hang_is_stale)
{
    struct fixture f;
    struct member a = {.start_at = -2};
    fixture_start(&f, 1);
    struct err e = {0};
    CHECK_INT(config_set_kafka(f.config, "max.poll.interval.ms", "2000", &e), 0);
    join(&f, &a, NULL, 2000);
    CHECK(TURN_UNTIL(&f, a.nparts == 1 && a.ends));
    usleep(3500000); /* the hang itself is what is tested */
    int rc = kgroup_commit(a.g, f.topic, 0, 3, NULL, &a);
    CHECK(rc == -ESTALE || TURN_UNTIL(&f, a.commits));
    CHECK_INT(rc ? rc : a.commit_error, -ESTALE);
    CHECK(TURN_UNTIL(&f, a.assigns == 2));
    CHECK_INT(a.lost, 1);
    CHECK_INT(kgroup_commit(a.g, f.topic, 0, 3, NULL, &a), 0);
    a.commits = 0;
    CHECK(TURN_UNTIL(&f, a.commits));
    CHECK_INT(a.commit_error, 0);
    quit(&f, &a);
    fixture_stop(&f);
}

TEST(nothing_flows_before_the_answer_and_rebalances_go_on)
{
    struct fixture f;
    struct member a = {.start_at = -2, .wait_assign = true}, b = {.start_at = -2};
    fixture_start(&f, 2);
    fixture_fill(&f, 0, 5);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.assigns == 1));
    fixture_fill(&f, 0, 5);
    join(&f, &b, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.assigns == 2 && b.assigns == 1));
    CHECK_INT(a.records, 0);
    CHECK_INT(a.revokes, 1);
    CHECK_INT(kgroup_commit(a.g, f.topic, a.own[0].partition, 0, NULL, &a), 0);
    CHECK_INT(kgroup_assign(a.g, a.own, a.nparts), 0);
    CHECK(TURN_UNTIL(&f, a.records + b.records == 10 && a.commits));
    quit(&f, &a);
    quit(&f, &b);
    fixture_stop(&f);
}

TEST(pausing_loses_and_repeats_nothing)
{
    struct fixture f;
    struct member a = {.start_at = -2};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 30);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.records >= 1));
    CHECK_INT(kgroup_resume(a.g, f.topic, 0), 0); /* not paused: no rewind */
    for (int i = 0; i < 5; i++) {
        CHECK_INT(kgroup_pause(a.g, f.topic, 0), 0);
        CHECK_INT(kgroup_pause(a.g, NULL, -1), 0);
        int seen = a.records;
        fixture_fill(&f, 0, 2);
        for (int t = 0; t < 10; t++)
            loop_turn(f.loop, 10);
        CHECK_INT(a.records, seen);
        CHECK_INT(kgroup_resume(a.g, f.topic, 0), 0);
        CHECK(TURN_UNTIL(&f, a.records == 32 + 2 * i));
    }
    CHECK_INT(a.last, 39);
    quit(&f, &a);
    fixture_stop(&f);
}

TEST(a_cut_position_is_told_and_can_be_assigned_anew)
{
    struct fixture f;
    struct member a = {.start_at = 2};
    fixture_start(&f, 1);
    fixture_fill(&f, 0, 10);
    CHECK_INT(kadmin_delete_records(f.admin, f.topic, 0, 6, 120000, NULL), 0);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.records == 4));
    CHECK_INT(a.resets, 1);
    CHECK_INT(a.last, 9);
    quit(&f, &a);
    fixture_stop(&f);
}

/* The first lost position closes the consumer; what is known of the others then is for nobody. */
TEST(a_consumer_that_closes_hears_of_no_lost_position)
{
    struct fixture f;
    struct member a = {.start_at = 7, .close_at_reset = true};
    fixture_start(&f, 4);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.closed));
    CHECK_INT(a.resets, 1);
    CHECK_INT(a.revokes, 1);
    fixture_stop(&f);
}

TEST(a_group_can_be_closed_before_it_was_assigned_anything)
{
    struct fixture f;
    struct member a = {0}, b = {0};
    fixture_start(&f, 1);
    join(&f, &a, NULL, 6000);
    quit(&f, &a);
    CHECK_INT(a.assigns, a.revokes);
    join(&f, &b, NULL, 6000);
    CHECK(TURN_UNTIL(&f, b.assigns));
    quit(&f, &b);
    fixture_stop(&f);
}

static void on_member(void *arg, const char *member, const char *client, const char *host,
                      const char *topic, int partition)
{
    *(int *)arg += topic && partition >= 0;
}

TEST(a_group_is_described)
{
    struct fixture f;
    struct member a = {.start_at = -2};
    struct err e = {0};
    fixture_start(&f, 3);
    join(&f, &a, NULL, 6000);
    CHECK(TURN_UNTIL(&f, a.nparts == 3));
    int parts = 0;
    char *state = NULL;
    CHECK_INT(kadmin_group(f.admin, f.topic, &state, on_member, &parts, 120000, &e), 0);
    CHECK_STR(state, "Stable");
    free(state);
    CHECK_INT(parts, 3);
    quit(&f, &a);
    CHECK_INT(kadmin_group(f.admin, "no-such-group", NULL, NULL, NULL, 120000, &e), -ENOENT);
    fixture_stop(&f);
}
