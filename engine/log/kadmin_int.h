/* Private: what the files of the blocking administration share. */
#pragma once
#include "log/kadmin.h"
#include "log/klog_int.h"

struct kadmin {
    const struct config *config;
    rd_kafka_t *prod; /* requests and kadmin_send; NULL after a time-out, made again when needed */
    rd_kafka_t *cons; /* metadata (it never creates topics) and reads */
    rd_kafka_queue_t *queue; /* of prod: answers */
};
/* The producer, made when there is none. */
rd_kafka_t *kadmin_prod(struct kadmin *a, struct err *e);
void kadmin_drop_prod(struct kadmin *a);
/* Options for one request. A group's coordinator is asked with KASK_MS (klog_int.h). */
rd_kafka_AdminOptions_t *kadmin_options(struct kadmin *a, rd_kafka_admin_op_t op, int timeout_ms);
/* The answer, or NULL with `e` set; the caller destroys it. `what`: "create topic x". */
rd_kafka_event_t *kadmin_wait(struct kadmin *a, int timeout_ms, const char *what, struct err *e);
/* Sets e from an error of the broker and returns its errno. */
int kadmin_fail(struct err *e, rd_kafka_resp_err_t err, const char *text, const char *what);
