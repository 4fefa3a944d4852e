/* Dead letters: tidemark.<group>.dlq. Value and headers as they were; the rest in headers:
 *   tm-dlq-kind      event | run
 *   tm-dlq-error     problem details as JSON; texts in it that are too long are cut
 *   tm-dlq-origin    TOPIC/PARTITION/OFFSET of the event, or of the run's source; absent for runs
 *                    without event
 *   tm-dlq-feed      live, replay:NAME, ...
 *   tm-dlq-run       run id
 *   tm-dlq-agent     NAMESPACE/NAME, of a run with :VERSION
 *   tm-dlq-task      reference of the task that failed
 *   tm-dlq-attempts
 *   tm-dlq-time      RFC 3339
 *   tm-dlq-cut       what of the event was too large to be kept: value, headers, or both with a
 *                    comma; the event still lies at its origin, from where a redrive takes it
 * Keys are deterministic (event/FEED/TOPIC/PARTITION/OFFSET[/AGENT], run/RUNID), so a letter sent
 * again after a takeover is recognised. The value of a run's letter is the value of its request:
 * {agent, version, key, input, event}. A letter always fits into one record of the default size:
 * one that did not could never be written, and what waits for it would wait for ever. */
#pragma once
#include "flow/problem.h"
#include "log/klog.h"

struct dead_letter {
    const char *kind, *error_json, *origin, *feed, *run, *agent, *task;
    int attempts;
    int64_t time_ms;
};
#define DEAD_HEADERS_MAX (KREC_HEADERS_MAX)
#define DEAD_VALUE_MAX   (896 * 1024) /* bytes of an event that a letter keeps */
#define DEAD_HEAD_BYTES  (32 * 1024)  /* of the event's own headers */
#define DEAD_ERROR_MAX   (16 * 1024)  /* of the error as JSON */
#define DEAD_MEM_MAX     (2 * DEAD_ERROR_MAX)
/* Fills `out` (its headers array has DEAD_HEADERS_MAX places in `h`) from the original (may be NULL
 * for runs). Slices point into `mem` (of DEAD_MEM_MAX bytes), the letter and the original. */
int dead_make(struct krec *out, struct kheader *h, struct buf *mem, const char *topic,
              const struct dead_letter *d, const struct krec *original, struct slice key,
              struct slice value);
