/* A broker, a loop and a log client for one test. With TIDEMARK_TEST_BROKERS set the tests run
 * against that cluster (Apache Kafka), else against an embedded log in a temporary folder. */
#pragma once
#include "log/kadmin.h"
#include "log/klog.h"
#include "unit.h"

struct broker;
struct fixture {
    char dir[64];
    struct broker *broker;
    char servers[64];
    struct config *config;
    struct loop *loop;
    struct log *log;
    struct klog *klog;
    struct kadmin *admin;
    char topic[64]; /* a fresh one, `partitions` wide */
};
void fixture_start(struct fixture *f, int partitions);
void fixture_stop(struct fixture *f);
/* Turns the loop until the condition holds; false after 20 s. */
#define TURN_UNTIL(f, cond)                                                                        \
    ({                                                                                             \
        int64_t until_ = clock_boot_ms() + 120000;                                                 \
        while (!(cond) && clock_boot_ms() < until_)                                                \
            loop_turn((f)->loop, 20);                                                              \
        (cond);                                                                                    \
    })
/* Sends n records "v0".. with the key to the partition by a blocking producer. */
void fixture_fill(struct fixture *f, int partition, int n);
