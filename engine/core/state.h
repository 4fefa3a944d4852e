/* The fold: what a prefix of one journal partition means. `state_apply` is the only writer of the
 * known state; it evaluates no expression and reads no clock, so every node gets the same from the
 * same records (promise I6).
 *
 * A run is held twice: `known` is the fold of the known prefix, `spec` has the owner's own facts
 * under way on top (they are of one writer and land in order, so spec is always what known will
 * be). Only an owner has spec.
 *
 * One thread owns a state. */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "core/rec.h"
#include "core/source.h"

enum run_status { RUN_NONE, RUN_ACTIVE, RUN_SUSPENDED, RUN_COMPLETED, RUN_FAULTED, RUN_CANCELLED };
const char *run_status_name(enum run_status s); /* "running", "suspended", "completed", ... */
static inline bool run_live(enum run_status s)
{
    return s == RUN_ACTIVE || s == RUN_SUSPENDED;
}

/* An entered composite task. */
struct frame {
    char *ref;
    int visit, attempt;   /* its own, as a task */
    struct val *raw, *in; /* its raw and transformed input */
    int64_t started_ms;
    int64_t deadline_ms; /* its timeout; 0: none */
    /* a loop */
    struct val *items; /* NULL: no loop */
    int64_t index;
    /* A try. Attempts of what is inside are counted in `tries`, which grows over all tries inside
     * one another, so that no task has the same visit and attempt twice. A new attempt begins with
     * the context and the visits of the first one. */
    int tries, tries_max; /* attempt under way, highest one used inside; 0: no try */
    int64_t retries;
    int64_t attempt_deadline_ms; /* 0: none */
    struct val *context;         /* when it was entered */
    struct map base;             /* visits inside it then */
    struct val *error;           /* what happened; NULL: nothing so far in this attempt */
    bool caught;                 /* catch.do, or what follows it, is under way */
};

struct run_state {
    enum run_status status;
    int64_t pin;     /* the tide mark may not pass this offset while the run lives */
    int64_t request; /* offset of its request */
    char *agent;     /* hash of the definition */
    struct val
        *origin; /* value of its request: agent, version, key, input, event; for dead letters too */
    struct rec_src src;
    int priority;
    char *traceparent;
    struct val *wf_raw;         /* raw input of the workflow */
    struct val *context, *last; /* $context; raw input of what comes next */
    enum step_phase phase;
    char *ref; /* TASK: the next task; LEAVE: the composite; else NULL */
    int visit, rewind, attempt;
    bool started;          /* task.started of the present task is in the log */
    int64_t wait_until_ms; /* task.waiting; 0: none */
    int64_t retry_at_ms;   /* task.caught: the next attempt begins then; 0: at once */
    int64_t deadline_ms;   /* of the run; 0: none */
    bool exiting;          /* LEAVE: by `exit` */
    struct frame *frames;
    size_t nframes;
    struct map visits; /* ref -> (intptr_t) how often it has ended */
    /* Record times: run.started, the fact that brought the run to its present place (`now` and
     * $task.startedAt of its expressions), the latest fact. */
    int64_t run_started_ms, task_started_ms, time_ms;
    int64_t tasks;     /* ended ones */
    struct val *error; /* of a faulted run, or of one whose task has faulted and whose end is not in
                          the log yet */
    size_t bytes;      /* of what a snapshot would hold, about */
};

enum run_busy { BUSY_NO, BUSY_EVAL, BUSY_EFFECT };

struct run {
    char id[RUN_ID_MAX];
    struct run_state known, spec;
    struct heap_node pin_node; /* in state.pins, by known.pin */
    int64_t bytes_at_pin;      /* state.bytes when the pin was set */
    int64_t snap_at;           /* `at` of the latest snapshot written in this ownership */
    /* the owner's work on it; all void when there is no ownership */
    struct step *step;
    enum run_busy busy;
    uint64_t
        work_id; /* names the evaluation or effect under way, so that late answers are told apart */
    int inflight; /* own facts not known yet */
    int ahead;    /* safe effects begun on results not known yet */
    bool gated, queued, admitted, snapshotting;
    bool started_here;          /* task.started of the present task was written in this ownership */
    struct list ready;          /* in part.ready */
    struct heap_node wait_node; /* in part.waits */
};

/* A request not consumed yet. */
struct pend {
    struct list node;            /* in state.pending, in offset order */
    struct heap_node start_node; /* in part.starts: begins a run, not a duplicate and not begun */
    struct list todo;            /* in part.todo: everything else, until it is decided */
    struct rec *rec;
    int64_t seen_ms;       /* boot clock, when the owner first saw it; 0: not yet */
    bool duplicate, taken; /* taken: an own fact that consumes it is under way */
    bool conflict;         /* a duplicate whose key stands for another request */
    struct list tell;      /* in part.tell: keyed, and not answered yet */
};

/* A faulted run whose dead letter is not acknowledged, as far as this fold knows. */
struct ended {
    struct list node;
    struct heap_node hold_node; /* in state.pins */
    char run[RUN_ID_MAX];
    int64_t end, hold;
    enum run_status status;
    struct val *origin, *error;
    struct rec_src src;
    char *agent, *ref;
    int64_t time_ms;
    bool telling, told;
};

/* A part.state record seen, usable as a starting point. */
struct part_mark {
    int64_t at;          /* what it describes */
    int64_t first, last; /* offsets of its chunks */
    int64_t time_ms;
};

struct chunks { /* a value coming in pieces */
    uint64_t nonce;
    int64_t at, first;
    int next, total;
    struct buf text;
};

/* Rules that the simulation can switch off, to show what each is for. 0 in the product. */
enum part_rule {
    RULE_KNOWN_PREFIX = 1,
    RULE_LEASE = 2,
    RULE_FLOOR = 4,
    RULE_READ_BACK = 8,
    RULE_MARK = 16,
    RULE_PART_STATE = 32,
    RULE_WRITE_AHEAD = 64,
    RULE_SETTLE = 128,
    RULE_END_FIRST = 256,
    RULE_SNAPSHOT_UNDER_WAY = 512,
    RULE_SAFE_FLOORS = 1024,
    RULE_NONCE = 2048,
    RULE_PIN_AT = 4096,   /* a snapshot pins the mark at what it describes, not at its own place */
    RULE_KEYS = 1u << 20, /* idempotency keys outlive their runs and tell requests apart */
    RULE_HOLD_PIN = 8192  /* an end holds the mark at its run's pin, not at its own place */
};

struct state {
    int64_t next;  /* every offset below is folded: the known prefix */
    int64_t epoch; /* -1: no owner yet */
    uint64_t nonce;
    struct val *owner;   /* value of the latest owner record */
    struct map runs;     /* id -> struct run, live ones (and those begun but not known yet) */
    struct list pending; /* struct pend */
    struct imap pend_at; /* offset -> struct pend */
    size_t npending, pending_bytes;
    struct sources sources;
    struct list ends; /* struct ended */
    struct heap pins; /* run.pin_node and ended.hold_node */
    struct part_mark *marks;
    size_t nmarks, marks_cap;
    struct chunks part_chunks;
    struct map run_chunks; /* run id -> struct chunks */
    int64_t bytes;         /* of log folded since the start, for re-anchoring */
    uint32_t off;          /* rules switched off (simulation only) */
    int64_t voids, bad;    /* facts of former owners ignored; records that are not ours */
    /* Told about changes, may be NULL (followers). They only note and enqueue. */
    struct state_watch {
        void (*run_ending)(void *arg, struct run *r); /* just before a known run leaves */
        void (*pend_gone)(void *arg, struct pend *p);
        void (*pend_new)(void *arg, struct pend *p);
        void *arg;
    } watch;
};

void state_init(struct state *s, int64_t next);
void state_free(struct state *s);
/* Folds the record at r->offset; all lower offsets must be folded, gone or not there. 0 or -ENOMEM
 * (the state must be thrown away then). */
int state_apply(struct state *s, struct rec *r);
/* True for a fact of the latest owner before it. */
bool state_valid(const struct state *s, const struct rec *r);
/* Loads a part.state from its joined text; the state must be fresh. `nonce`/`epoch`: of its
 * headers; `at`, first, last: where. -EPROTO. */
int state_load(struct state *s, struct slice text, int64_t epoch, uint64_t nonce,
               const struct part_mark *m);
/* The text of a part.state of this state, with floors raised to what floor_of says (see
 * sources_write). */
int state_write(const struct state *s,
                int64_t (*floor_of)(void *arg, const char *source, int64_t known), void *arg,
                struct buf *b);
/* The live run that a node of s->pins belongs to; NULL: it is the hold of an ended one. */
struct run *state_pinned_by(const struct state *s, struct heap_node *pin);
/* The lowest offset that is still needed, apart from starting points. */
int64_t state_low(const struct state *s);
/* Canonical text of everything that decides what happens next, for comparing two folds (I6). */
int state_digest(const struct state *s, struct buf *b);

/* Facts about one run, on known and spec alike: the only writer of a run_state. `request`: what
 * run.started consumes. */
int run_apply(struct run_state *st, const struct rec *r, const struct rec *request);
int run_state_copy(struct run_state *to, const struct run_state *from);
#define STATE_BYTES_MAX (256u << 20)       /* of a part.state or a snapshot, all pieces */
#define FRAMES_MAX      64                 /* composite tasks inside each other */
void run_state_free(struct run_state *st); /* zeroed afterwards */
/* Snapshot text of a run_state, and back. */
int run_state_write(const struct run_state *st, struct buf *b);
int run_state_read(struct run_state *st, struct json_object *o); /* -EPROTO */
int run_visits(const struct run_state *st, const char *ref);
/* The place is one that a step can be made for: composites that are left or asked about are the
 * innermost. False only behind facts that no owner writes; such a run faults. */
bool run_placed(const struct run_state *st);

/* The run of that id, made when it is not there (owner's own facts under way); and away with one
 * that came to nothing. */
int state_run(struct state *s, const char *id, struct run **ret);
void state_run_drop(struct state *s, struct run *r);
void ended_free(struct state *s, struct ended *e);
