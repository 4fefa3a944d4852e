/* Blocking administration against a live broker. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "broker/broker.h"
#include "fixture.h"

SUITE("log/kadmin")
#define MS 120000

TEST(topics_are_created_described_grown_and_deleted)
{
    struct fixture f;
    struct err e = {0};
    fixture_start(&f, 2);
    int partitions = 0, replication = 0;
    CHECK_INT(kadmin_topic(f.admin, f.topic, &partitions, &replication, MS, &e), 0);
    CHECK_INT(partitions, 2);
    CHECK_INT(replication, 1);
    struct ktopic_spec again = {.name = f.topic, .partitions = 2};
    CHECK_INT(kadmin_create(f.admin, &again, MS, &e), -EEXIST);
    CHECK(e.hint[0] != 0);
    err_clear(&e);
    CHECK_INT(kadmin_grow(f.admin, f.topic, 5, MS, &e), 0);
    CHECK_STR(e.msg, "");
    CHECK_INT(kadmin_topic(f.admin, f.topic, &partitions, NULL, MS, &e), 0);
    CHECK_INT(partitions, 5);
    struct ktopic_info *v = NULL;
    size_t n = 0;
    bool found = false;
    CHECK_INT(kadmin_topics(f.admin, &v, &n, MS, &e), 0);
    for (size_t i = 0; i < n; i++)
        found |= !strcmp(v[i].name, f.topic) && v[i].partitions == 5;
    ktopics_free(v, n);
    CHECK(found);
    CHECK_INT(kadmin_topic(f.admin, "no-such-topic", NULL, NULL, MS, &e), -ENOENT);
    CHECK_INT(kadmin_delete(f.admin, "no-such-topic", MS, &e), -ENOENT);
    fixture_stop(&f);
}

TEST(settings_are_replaced_as_a_whole)
{
    struct fixture f;
    struct err e = {0};
    fixture_start(&f, 1);
    struct config_prop set[] = {{"retention.ms", "12345000"}, {"cleanup.policy", "compact,delete"}};
    CHECK_INT(kadmin_alter(f.admin, f.topic, set, 2, MS, &e), 0);
    CHECK_STR(e.msg, "");
    char *value = NULL;
    /* A controller passes changes on; wait until the broker shows them. */
    int64_t until = clock_boot_ms() + 120000;
    do {
        free(value);
        CHECK_INT(kadmin_config(f.admin, f.topic, "retention.ms", &value, MS, &e), 0);
    } while (value && strcmp(value, "12345000") != 0 && clock_boot_ms() < until);
    CHECK_STR(value, "12345000");
    free(value);
    struct config_prop *v = NULL;
    size_t n = 0;
    CHECK_INT(kadmin_configs(f.admin, f.topic, &v, &n, true, MS, &e), 0);
    CHECK_INT(n, 2);
    kconfigs_free(v, n);
    value = NULL;
    CHECK_INT(kadmin_config(f.admin, f.topic, "no.such.setting", &value, MS, &e), 0);
    CHECK(value == NULL);
    struct config_prop bad[] = {{"retention.ms", "soon"}};
    CHECK_INT(kadmin_alter(f.admin, f.topic, bad, 1, MS, &e), -EINVAL);
    CHECK(e.hint[0] != 0);
    CHECK_INT(kadmin_config(f.admin, "no-such-topic", "retention.ms", &value, MS, &e), -ENOENT);
    fixture_stop(&f);
}

struct seen {
    int n, stop_after;
    int64_t last;
    char value[32], header[32];
};

static int on_record(void *arg, const struct krec *r)
{
    struct seen *s = arg;
    s->n++;
    s->last = r->offset;
    (void)snprintf(s->value, sizeof s->value, "%.*s", SL_ARG(r->value));
    if (r->nheaders)
        (void)snprintf(s->header, sizeof s->header, "%.*s=%.*s", SL_ARG(r->headers[0].name),
                       SL_ARG(r->headers[0].value));
    return s->n == s->stop_after ? 7 : 0;
}

TEST(a_range_is_read_exactly)
{
    struct fixture f;
    struct err e = {0};
    fixture_start(&f, 2);
    fixture_fill(&f, 1, 10);
    int64_t low = -9, high = -9;
    CHECK_INT(kadmin_watermarks(f.admin, f.topic, 1, &low, &high, MS, &e), 0);
    CHECK_INT(low, 0);
    CHECK_INT(high, 10);
    struct seen s = {0};
    CHECK_INT(kadmin_read(f.admin, f.topic, 1, -2, -1, on_record, &s, MS, &e), 0);
    CHECK_INT(s.n, 10);
    s = (struct seen){0};
    CHECK_INT(kadmin_read(f.admin, f.topic, 1, 3, 6, on_record, &s, MS, &e), 0);
    CHECK_INT(s.n, 3);
    CHECK_STR(s.value, "v5");
    s = (struct seen){.stop_after = 2};
    CHECK_INT(kadmin_read(f.admin, f.topic, 1, -2, -1, on_record, &s, MS, &e), 7);
    CHECK_INT(s.n, 2);
    s = (struct seen){0};
    CHECK_INT(kadmin_read(f.admin, f.topic, 0, -2, -1, on_record, &s, MS, &e), 0);
    CHECK_INT(s.n, 0);
    CHECK_INT(kadmin_read(f.admin, f.topic, 1, 11, -1, on_record, &s, MS, &e), -ERANGE);
    CHECK_INT(kadmin_read(f.admin, f.topic, 9, -2, -1, on_record, &s, MS, &e), -ENOENT);
    fixture_stop(&f);
}

TEST(a_cut_moves_the_start_and_times_are_found)
{
    struct fixture f;
    struct err e = {0};
    fixture_start(&f, 1);
    struct kheader h = {SL("tm-v"), SL("1")};
    for (int i = 0; i < 4; i++) {
        struct krec r = {.topic = sl_str(f.topic),
                         .partition = 0,
                         .time_ms = 1700000000000 + i * 1000,
                         .value = SL("x"),
                         .headers = &h,
                         .nheaders = 1};
        int64_t offset = -1;
        int partition = -1;
        CHECK_INT(kadmin_send(f.admin, &r, &offset, &partition, MS, &e), 0);
        CHECK_INT(offset, i);
        CHECK_INT(partition, 0);
    }
    int64_t at = -1;
    CHECK_INT(kadmin_offset_at(f.admin, f.topic, 0, 1700000001500, &at, MS, &e), 0);
    CHECK_INT(at, 2);
    CHECK_INT(kadmin_offset_at(f.admin, f.topic, 0, 1800000000000, &at, MS, &e), 0);
    CHECK_INT(at, 4);
    CHECK_INT(kadmin_delete_records(f.admin, f.topic, 0, 3, MS, &e), 0);
    CHECK_STR(e.msg, "");
    int64_t low = -1;
    CHECK_INT(kadmin_watermarks(f.admin, f.topic, 0, &low, NULL, MS, &e), 0);
    CHECK_INT(low, 3);
    struct seen s = {0};
    CHECK_INT(kadmin_read(f.admin, f.topic, 0, 1, -1, on_record, &s, MS, &e), -ERANGE);
    CHECK_INT(kadmin_read(f.admin, f.topic, 0, -2, -1, on_record, &s, MS, &e), 0);
    CHECK_INT(s.n, 1);
    CHECK_STR(s.header, "tm-v=1");
    fixture_stop(&f);
}

TEST(an_unreachable_broker_is_said_with_a_hint)
{
    struct config *c = config_new();
    struct err e = {0};
    CHECK_INT(config_set_kafka(c, "bootstrap.servers", "127.0.0.1:1", &e), 0);
    struct kadmin *a = kadmin_new(c, &e);
    NEED(a != NULL);
    struct ktopic_spec t = {.name = "x", .partitions = 1};
    CHECK_INT(kadmin_create(a, &t, 500, &e), -ETIMEDOUT);
    CHECK(strstr(e.hint, "bootstrap.servers") != NULL);
    struct krec r = {.topic = SL("x"), .partition = 0, .value = SL("1")};
    CHECK_INT(kadmin_send(a, &r, NULL, NULL, 500, &e), -ETIMEDOUT);
    CHECK_INT(kadmin_topic(a, "x", NULL, NULL, 500, &e), -ETIMEDOUT);
    CHECK_INT(kadmin_reach(a, 600000, &e), -ETIMEDOUT); /* refused: no need to wait ten minutes */
    CHECK(strstr(e.msg, "127.0.0.1:1") != NULL && strstr(e.hint, "bootstrap.servers") != NULL);
    kadmin_free(a);
    config_free(c);
}

/* The broker is away when a group's coordinator is asked for, and comes back after the time-out:
 * librdkafka 2.0.2 aborts then, unless its own time-out is kept from coming first (KASK_MS). */
TEST(a_group_that_could_not_be_asked_in_time_can_be_asked_later)
{
    char dir[] = "/tmp/tm_kadmin_XXXXXX", servers[64];
    struct err e = {0};
    NEED(mkdtemp(dir) != NULL);
    struct broker_opts b = {.data_dir = dir, .host = "127.0.0.1"};
    struct broker *broker = broker_start(&b, &e);
    NEED(broker != NULL);
    b.port = broker_port(broker);
    (void)snprintf(servers, sizeof servers, "127.0.0.1:%d", b.port);
    struct config *c = config_new();
    CHECK_INT(config_set_kafka(c, "bootstrap.servers", servers, &e), 0);
    CHECK_INT(config_set_kafka(c, "reconnect.backoff.max.ms", "100", &e), 0);
    struct kadmin *a = kadmin_new(c, &e);
    NEED(a != NULL);
    CHECK_INT(kadmin_reach(a, 120000, &e), 0);
    broker_stop(broker);
    struct kpart part = {.topic = "x", .partition = 0};
    CHECK_INT(kadmin_committed(a, "g", &part, 1, 200, &e), -ETIMEDOUT);
    CHECK_INT(kadmin_group(a, "g", NULL, NULL, NULL, 200, &e), -ETIMEDOUT);
    broker = broker_start(&b, &e);
    NEED(broker != NULL);
    CHECK_INT(kadmin_committed(a, "g", &part, 1, 120000, &e), 0);
    CHECK_INT(part.offset, -1);
    CHECK(kadmin_group(a, "g", NULL, NULL, NULL, 120000, &e) != 0); /* nobody is in it */
    kadmin_free(a);
    config_free(c);
    broker_stop(broker);
    unit_remove(dir);
}
