/* Records of the journal: the one table of types, and a record as the engine handles it.
 *
 * Any node may append requests; only the owner of the partition appends facts. Metadata stands in
 * headers (ASCII), the value is JSON. docs/journal.md lists key, headers, value and writer of each
 * type; DECISIONS "Formats" 1 to 7a settles them. */
#pragma once
#include "base/val.h"
#include "core/ids.h"
#include "flow/step.h"

enum rec_type {
    REC_NONE,
    /* requests */
    REC_REQUESTED,
    REC_CANCEL,
    REC_SUSPEND,
    REC_RESUME,
    REC_RETRY,
    REC_REWIND,
    REC_PURGE,
    REC_DELIVERED,
    /* facts */
    REC_OWNER,
    REC_PART_STATE,
    REC_STARTED,
    REC_TASK_STARTED,
    REC_TASK_COMPLETED,
    REC_TASK_FAULTED,
    REC_TASK_WAITING,
    REC_TASK_CAUGHT,
    REC_COMPLETED,
    REC_FAULTED,
    REC_CANCELLED,
    REC_SUSPENDED,
    REC_RESUMED,
    REC_REWOUND,
    REC_RETRIED,
    REC_PURGED,
    REC_SNAPSHOT,
    REC_SETTLED,
    REC_ACCEPTED,
    REC_FIRED,
    REC_TYPES
};
const char *rec_type_name(enum rec_type t);   /* "run.requested" */
enum rec_type rec_type_of(struct slice name); /* REC_NONE: unknown */
bool rec_is_request(enum rec_type t);

#define REC_VERSION           1
#define REC_VALUE_MAX         (512 * 1024)
#define REC_HEADERS_BYTES_MAX (16 * 1024)
#define REC_REF_MAX           512
#define REC_CHUNK_BYTES       (384 * 1024) /* of a value that needs several records */

/* Where an event came from: the identity of a source partition, and the offset in it. */
struct rec_src {
    char *name; /* feed:topic/incarnation/partition, as in tm-src; NULL: no source */
    int64_t offset;
    int64_t floor; /* tm-floor: the committed offset of the router for this source; -1: none */
};

/* One record. Owned, counted: the same struct is folded when its acknowledgement comes. */
struct rec {
    int refs;
    enum rec_type type;
    int64_t offset;       /* -1: not in the log yet, or not known where */
    int64_t time_ms;      /* CreateTime */
    char run[RUN_ID_MAX]; /* "" for partition records */
    int64_t epoch;        /* facts; -1 for requests */
    uint64_t nonce;       /* facts (owner too) */
    /* the place in the run, task facts */
    char *ref;
    int visit, rewind, attempt;
    /* what else stands in headers; NULL / -1 / 0 when absent */
    char *agent;       /* hash of the definition: requested, snapshot */
    int64_t consumed;  /* offset of the request that this fact consumes; -1 */
    int64_t up_to;     /* settled: all deliveries below; -1 */
    int64_t at;        /* part.state, snapshot: the offset it describes; -1 */
    int chunk, chunks; /* part.state, snapshot */
    int priority;      /* 0..9, default 5 */
    char *uuid;        /* requests */
    bool keyed;        /* requested with an idempotency key: the run id is made from it */
    uint64_t idem;     /* keyed: hash of what is asked for */
    char *status; /* tm-status: "skipped" of a completed task, the reason of a settled request */
    char *traceparent;
    struct rec_src src; /* requested, delivered */
    struct val *value;
    /* The members of `value` that the fold uses: set by the sender, or by rec_body from the text.
     */
    struct rec_body {
        bool ready;
        struct val *output, *context, *input;
        bool has_output, has_context, has_input;
        struct val *items;     /* task.started of a loop: what it runs over; NULL: absent */
        struct val *error;     /* of a faulted task that a try is asked about; NULL: absent */
        enum step_phase phase; /* where the run goes on; TASK, LEAVE and CATCH with `next` */
        char *next;
        bool exit; /* LEAVE: by `exit` */
        /* task.waiting: its end; task.started of a composite, and the workflow's own first fact:
         * the deadline; task.caught: the next attempt. 0: none. */
        int64_t until_ms;
        int attempt; /* task.started of a try, task.caught: number of the (next) attempt; 0: none */
        int64_t attempt_until_ms; /* its deadline; 0: none */
    } body;
    /* bookkeeping of the sender, not of the log */
    bool folded;  /* already applied to the known state */
    void *sender; /* struct own_rec while it is under way */
    size_t bytes; /* size in the log, about */
};

struct rec *rec_new(enum rec_type t, const char *run); /* NULL: no memory */
struct rec *rec_ref(struct rec *r);
struct rec *rec_unref(struct rec *r);

/* Writes `value` of a started, completed or waiting fact from its body; 0, -ENOMEM, or -EMSGSIZE
 * when it is far beyond REC_VALUE_MAX. */
int rec_write_body(struct rec *r);
/* Fills `body` from `value` when it is not there yet. -EPROTO when a member has the wrong form or
 * the place to go on is missing; -ENOMEM. The body is empty then. */
int rec_read_body(struct rec *r);

#define REC_HEADERS_MAX 16
/* A record on its way into the log: slices into `mem`, valid until rec_wire_free. */
struct rec_wire {
    struct slice key, value;
    struct {
        struct slice name, value;
    } headers[REC_HEADERS_MAX];
    size_t nheaders;
    struct buf mem;
};
/* 0; -EMSGSIZE when value or headers exceed their limits; -ENOMEM. */
int rec_encode(const struct rec *r, struct rec_wire *w);
void rec_wire_free(struct rec_wire *w);

/* A header by index, from whatever client read the record. */
typedef bool (*rec_header_fn)(void *arg, size_t i, struct slice *ret_name, struct slice *ret_value);
/* From what was read. -EPROTO with the reason in e: not a record of ours (unknown version or type,
 * missing header, bad number, value not JSON); such a record is skipped by the fold on every node
 * alike, and counted. A tombstone gives -ENODATA. */
int rec_decode(int64_t offset, int64_t time_ms, struct slice key, struct slice value,
               rec_header_fn fn, void *arg, struct rec **ret, struct err *e);
