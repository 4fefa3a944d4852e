/* run.requested as a record for the journal: made by the router, by schedules, by `runs start` and
 * by forks alike. */
#pragma once
#include "core/rec.h"
#include "flow/flow.h"

struct request {
    const char *agent, *version, *hash; /* namespace/name */
    const char *key;                    /* the run's key */
    struct json_object *input;          /* borrowed */
    struct json_object *event;          /* the envelope without data, or NULL; borrowed */
    struct json_object
        *extra; /* forkOf, position, state of a fork: its members are added; or NULL */
    const char *run_id;
    const char *traceparent;
    int priority;
    /* No source: the request is keyed, that is, remembered by its run id for a day, and a repeat
     * that asks for something else is refused; unless its id is random, so that nobody can repeat
     * it. */
    bool random_id;
    const char *asked_version; /* what the key stands for besides key and input; NULL: none */
    const char *src_name;      /* FEED:TOPIC/INCARNATION/PARTITION or NULL */
    int64_t src_offset, floor;
    int64_t time_ms;
};
/* The run id and journal partition of an agent's request with this idempotency key, which alone
 * fixes both. */
void request_keyed_id(char run[RUN_ID_MAX], int *ret_partition, const char *agent,
                      struct slice idempotency_key, int partitions);
/* A record ready to be encoded; its uuid is made here from random bits. -EMSGSIZE: input too large
 * (512 KiB in all). */
int request_make(const struct request *q, struct rec **ret, struct err *e);
/* run.cancel, run.suspend, run.resume, run.retry with a reason. */
int request_control(enum rec_type t, const char *run_id, const char *reason, int64_t time_ms,
                    struct rec **ret, struct err *e);
/* event.delivered: an event (CloudEvents in JSON) for one run. The same errors, -EMSGSIZE. */
int request_delivered(const char *run_id, struct json_object *event, int64_t time_ms,
                      struct rec **ret, struct err *e);
