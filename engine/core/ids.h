/* Names made from what a thing is: run ids, idempotency keys, source names, trace context. Pure. */
#pragma once
#include "base/hash.h"

#define RUN_ID_LEN                                                                                 \
    30 /* 4 hex digits of the partition, 26 characters Crockford base32 of 128 bits */
#define RUN_ID_MAX      31
#define IDEM_KEY_MAX    33
#define TRACEPARENT_MAX 56

/* DECISIONS 2. agent: namespace/name. source: with incarnation for events without ce_ headers. */
void run_id_make(char out[RUN_ID_MAX], int partition, struct slice agent, struct slice feed,
                 struct slice source, struct slice id);
/* Fork: DECISIONS 6. */
void run_id_fork(char out[RUN_ID_MAX], struct slice original, struct slice ref, int visit,
                 struct slice uuid);
bool run_id_valid(struct slice id);
int run_id_partition(struct slice id); /* -1: not a run id */
/* DECISIONS 3: murmur2 of agent\0key. */
int run_partition(struct slice agent, struct slice key, int count);
/* DECISIONS 5: 32 hex digits of hash(run, reference, visit, rewind). */
void idempotency_key(char out[IDEM_KEY_MAX], const char *run, const char *ref, int visit,
                     int rewind);
/* Trace context of a task: the run's trace id, a span id from (run, ref, visit, attempt). parent
 * may be NULL or malformed: a trace id of the run then. */
void trace_task(char out[TRACEPARENT_MAX], const char *parent, const char *run, const char *ref,
                int visit, int attempt);
