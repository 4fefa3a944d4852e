/* Dead letters read and driven again, blocking, for commands and the gateway. What a letter is:
 * dead.h. A letter is named by its place, PARTITION/OFFSET of tidemark.<group>.dlq. */
#pragma once
#include "core/ids.h"
#include "log/kadmin.h"
#include "triggers/names.h"

/* {letter, kind, time, agent, run, task, origin, feed, attempts, reason}; whole: also error, the
 * headers that it had and its value, which is in base64 too if it is no text. */
struct json_object *letter_json(const struct krec *r, bool whole);

struct letters_ask {
    /* Which are wanted, as letter_json(r, false) has them; NULL: all. */
    bool (*want)(void *arg, struct json_object *o);
    void *arg;
    int partition; /* from this place on */
    int64_t offset;
    size_t limit;     /* letters; 0: all */
    int64_t until_ms; /* CLOCK_BOOTTIME: what was found until then; 0: no limit */
};
/* Those of all partitions, one after the other; one that was sent again after a takeover once. They
 * are added to the array `list`. *ret_partition -1: that was all; else where to go on. */
int letters_list(struct kadmin *a, const struct names *n, const struct letters_ask *q,
                 struct json_object *list, int *ret_partition, int64_t *ret_offset, struct err *e);
/* Calls fn with the letter and returns what it does. -ENOENT: there is none. */
int letter_read(struct kadmin *a, const struct names *n, int partition, int64_t offset,
                int (*fn)(void *arg, const struct krec *r), void *arg, struct err *e);

/* What was, or would be, driven again: of a run another run of the agent's active version, of an
 * event a replay of that one event. Both are named after the letter, so a repeat makes no double.
 */
struct redriven {
    char agent[160], run[RUN_ID_MAX]; /* run "": an event */
    char replay[64], topic[NAME_MAX_BYTES + 1];
    int64_t partition, offset; /* of the event */
    bool existing;             /* the replay was started before */
};
int letter_redrive(struct kadmin *a, const struct names *n, const struct krec *r, bool dry_run,
                   struct redriven *ret, struct err *e);
