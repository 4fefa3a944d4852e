/* The journal as those read it who own nothing of it: commands, and the gateway's jobs. Blocking;
 * one kadmin a thread. They read everything or one run, and append requests only. */
#pragma once
#include "core/trace.h"
#include "log/kadmin.h"
#include "triggers/names.h"

#define JOURNAL_ADMIN_MS 15000

/* How many partitions the journal has. -ENOENT: no node of the group has run yet. */
int journal_partitions(struct kadmin *a, const struct names *n, int *ret, struct err *e);
/* Appends a request and waits for its acknowledgement. -EMSGSIZE, or the errors of kadmin_send. */
int journal_send(struct kadmin *a, const struct names *n, const struct rec *r, int partition,
                 int64_t *ret_offset, struct err *e);

/* Where a reading begins, and who owns the partition there: facts can't be judged without. */
struct journal_start {
    int64_t from;
    int64_t epoch;
    uint64_t nonce;
};
/* The begin of the log, and the owner there, whose record may be cut off. */
int journal_begin(struct kadmin *a, const struct names *n, int partition, struct journal_start *ret,
                  struct err *e);
/* Not far from the end, and the owner there: at the part.state that the owner's latest commit
 * names, or at the begin of the log. */
int journal_near_end(struct kadmin *a, const struct names *n, int partition,
                     struct journal_start *ret, struct err *e);
/* Reads a range of one partition into the trace, which may hold several partitions afterwards. */
struct journal_reader {
    struct trace trace; /* trace_init before; of a trace of one run only that run's records are
                           decoded */
    /* Each of these, and each `owner` record, before it is added; non-zero stops. NULL: none. */
    int (*fn)(void *arg, struct rec *r, bool is_void);
    void (*progress)(void *arg, int partition, int64_t offset); /* now and then; NULL: none */
    void *arg;
    int64_t until_ms; /* CLOCK_BOOTTIME: -ETIMEDOUT then; 0: no limit but that something comes */
};
/* From `start` (NULL: the begin of the log, with the owner found) to `to` (-1: the end now; not
 * included). What fn returned, -ERANGE when the start is cut, the errors of kadmin_read. */
int journal_read(struct kadmin *a, const struct names *n, struct journal_reader *j, int partition,
                 const struct journal_start *start, int64_t to, struct err *e);
