/* The broker and the client of a test; see fixture.h. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/broker.h"

#define WAIT_MS 120000

void fixture_start(struct fixture *f, int partitions)
{
    *f = (struct fixture){.dir = "/tmp/tm_log_XXXXXX"};
    struct err e = {0};
    const char *given = getenv("TIDEMARK_TEST_BROKERS");
    NEED(mkdtemp(f->dir) != NULL);
    if (given) {
        (void)snprintf(f->servers, sizeof f->servers, "%s", given);
    } else {
        struct broker_opts b = {.data_dir = f->dir, .host = "127.0.0.1"};
        f->broker = broker_start(&b, &e);
        CHECK_STR(e.msg, "");
        NEED(f->broker != NULL);
        (void)snprintf(f->servers, sizeof f->servers, "127.0.0.1:%d", broker_port(f->broker));
    }
    f->config = config_new();
    NEED(f->config != NULL);
    CHECK_INT(config_set_kafka(f->config, "bootstrap.servers", f->servers, &e), 0);
    f->loop = loop_new(&e);
    f->log = log_new(2, getenv("TIDEMARK_TEST_LOG") ? LOG_DEBUG : LOG_ERROR, false);
    struct klog_opts o = {.config = f->config, .loop = f->loop, .log = f->log, .client_id = "unit"};
    f->klog = klog_new(&o, &e);
    CHECK_STR(e.msg, "");
    NEED(f->klog != NULL);
    f->admin = kadmin_new(f->config, &e);
    NEED(f->admin != NULL);
    (void)snprintf(f->topic, sizeof f->topic, "t%016llx", (unsigned long long)random_u64());
    struct ktopic_spec t = {.name = f->topic, .partitions = partitions};
    CHECK_INT(kadmin_create(f->admin, &t, WAIT_MS, &e), 0);
    CHECK_STR(e.msg, "");
}

void fixture_stop(struct fixture *f)
{
    (void)kadmin_delete(f->admin, f->topic, WAIT_MS, NULL);
    kadmin_free(f->admin);
    klog_free(f->klog);
    loop_free(f->loop);
    log_free(f->log);
    config_free(f->config);
    if (f->broker)
        broker_stop(f->broker);
    unit_remove(f->dir);
}

void fixture_fill(struct fixture *f, int partition, int n)
{
    for (int i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "v%d", i);
        struct krec r = {.topic = sl_str(f->topic),
                         .partition = partition,
                         .key = SL("k"),
                         .value = sl_str(text)};
        struct err e = {0};
        int64_t offset = -5;
        CHECK_INT(kadmin_send(f->admin, &r, &offset, NULL, WAIT_MS, &e), 0);
        CHECK_STR(e.msg, "");
    }
}
