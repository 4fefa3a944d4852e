/* One journal partition as this process sees it. A pure state machine: what happened comes in by
 * the part_* functions, what is to be done goes out through struct part_ops, whose functions only
 * enqueue and never call back into the part.
 *
 *   IDLE --part_start--> FOLLOWING --part_claim--> CLAIMING --own owner record folded--> OWNER
 *   OWNER --foreign owner folded, append failed, revoked--> FOLLOWING (the fold goes on, nothing is
 * begun)
 *
 * Rules of DESIGN.md section 3 and where they are: known prefix: part_consumed and part_acked
 * (advance); write-ahead: may_begin in drive.c; lease: part_may_begin; ownership: on_owner_folded;
 * requests: decide.c; tide mark, part.state, snapshots: mark.c.
 *
 * Times: `boot_ms` is CLOCK_BOOTTIME (leases), `wall_ms` Unix time (record times, waits). One
 * thread owns a part. */
#pragma once
#include "core/state.h"

enum part_status { PART_IDLE, PART_FOLLOWING, PART_CLAIMING, PART_OWNER };
struct part;

struct part_ops {
    /* Room for at least 64 more own facts in the journal producer? Asked before a step begins; else
     * the part tries again at the next part_work. */
    bool (*room)(void *arg, struct part *p);
    /* An own fact, checked for size: hand it to the journal producer; keeps a reference of its own.
     * 0, or a negative errno when the producer is broken: the caller of the part then ends the
     * ownership. */
    int (*append)(void *arg, struct part *p, struct rec *r);
    /* Evaluate what run->step asks for; answer with part_evaluated(p, run id, work_id, ...).
     * -EAGAIN, -ENOMEM: not now, it is asked again at a later part_work; another error: it fails
     * with what e says.
     */
    int (*eval)(void *arg, struct part *p, struct run *r, struct err *e);
    /* Queue the effect that run->step asks for. Just before it starts ask part_may_begin; answer
     * with part_effect_done. -ENOMEM: not now, as above. */
    int (*effect)(void *arg, struct part *p, struct run *r);
    /* The run's evaluation or effect `work_id` is not wanted any more. */
    void (*stop)(void *arg, struct part *p, struct run *r);
    /* Send the dead letter of a faulted run (deterministic key: its run id), then part_told(p, run
     * id). */
    void (*notify)(void *arg, struct part *p, struct ended *e);
    /* The run reached its end in the known state: for waiters (run FILE) and counters. May be NULL.
     */
    void (*ended)(void *arg, struct part *p, const struct run *r);
    /* The definition with this hash, borrowed; NULL: not known on this node (now). */
    struct flow *(*flow)(void *arg, const char *hash);
    /* A place among the active runs of this node; true takes it, release gives it back. `force`: a
     * run that had begun before takes one in any case (a takeover may exceed the bound for a
     * while). */
    bool (*admit)(void *arg, struct part *p, bool force);
    void (*release)(void *arg, struct part *p);
    /* name -> text for $secrets of this definition, borrowed; NULL when it names none. */
    struct json_object *(*secrets)(void *arg, struct flow *f);
    /* Crash suspects: noted before in-process work on a run that could kill the process, and (run
     * NULL) after it; and how often the process died in the middle of it. Both may be NULL. */
    void (*risky)(void *arg, const char *run);
    int (*crashes)(void *arg, const char *run);
    /* Read the router groups' committed offsets for the floors; answer with part_floors. */
    void (*floors)(void *arg, struct part *p);
};

struct part_opts {
    int partition;
    int64_t state_every_ms;      /* part.state at most this far apart; default 60 s */
    int64_t state_every_records; /* or this many records: bounds what a restart folds again; default
                                    20,000 */
    int64_t history_ms;          /* records younger than this are not cut */
    int64_t lease_ms;            /* how long a successful commit is good for, from its sending */
    size_t snapshot_bytes_min;   /* re-anchor no sooner than this much log after the pin; default 1
                                    MiB */
    size_t state_bytes_max;      /* of a part.state or a snapshot; default 256 MiB */
    bool static_member;          /* node.id is set */
    const char *node_id, *node_url, *boot_id; /* for the owner record; borrowed */
};

struct part {
    struct part_opts o;
    const struct part_ops *ops;
    void *arg;
    uint32_t off; /* rules switched off (simulation only) */
    enum part_status status;
    /* No memory: `lost`: the known state misses a record, so nothing is folded or claimed any more
     * and the part must be made anew; `broken`: a spec misses an own fact, so the ownership ends at
     * the next part_work; `later`: something is to be tried again, but not at once. */
    bool lost, broken, later;
    struct state st;
    uint64_t nonce; /* of the present or coming ownership */
    int64_t epoch;
    int64_t boot_ms, wall_ms; /* as of the latest part_time */
    int64_t lease_until;      /* boot_ms */
    int64_t
        hold_until;  /* boot_ms: no world-changing effect before (static member on another boot) */
    struct list own; /* struct own_rec: appended in this ownership, not folded yet, in order */
    size_t nown;
    struct imap acked;  /* offset -> struct own_rec, above the known prefix */
    int64_t consumed;   /* every record below was consumed or is not there */
    struct list ready;  /* struct run.ready: has work */
    struct heap starts; /* struct pend.start_node: priority, then offset */
    struct list todo;   /* struct pend.todo: other requests to decide */
    struct list tell;   /* struct pend.tell: keyed requests that wait for an answer */
    struct heap waits;  /* struct run.wait_node by Unix time */
    uint64_t next_work;
    int active; /* admitted runs */
    /* mark.c */
    int64_t mark0; /* committed when this fold began: ends held below it were told */
    int64_t committed_mark, committed_at; /* of the latest successful commit */
    int64_t state_ms;                     /* wall_ms of the latest own part.state */
    int64_t state_next, state_chunks;     /* st.next then, and how many records it took */
    uint64_t appended, settled;           /* own facts of this ownership: sent, known */
    /* Runs that ended in this ownership, the latest ENDED_MAX: id -> 1, and their order. */
    struct map ended;
    char (*ended_ring)[RUN_ID_MAX];
    size_t ended_at;
    struct map floors; /* source name -> struct floor: read from the routers' commits, waiting to be
                          safe */
    bool floors_asked;
};

/* NULL: no memory. */
struct part *part_new(const struct part_opts *o, const struct part_ops *ops, void *arg);
struct part *part_free(struct part *p);
void part_time(struct part *p, int64_t boot_ms, int64_t wall_ms);

/* IDLE: begin to fold. `mark`: the committed tide mark or -1. text NULL: fold from `from` (the
 * log's start); else the joined part.state and its headers; the fold goes on at m->at. Returns the
 * offset from which records are to be consumed, or -EPROTO. */
int64_t part_start(struct part *p, int64_t mark, int64_t from, const struct slice *text,
                   int64_t epoch, uint64_t nonce, const struct part_mark *m);
/* The partition is assigned to this process: append `owner`. nonce: fresh random bits. */
int part_claim(struct part *p, uint64_t nonce);
/* The ownership is over (revoked, producer lost): effects are stopped, facts under way are
 * forgotten, the fold stays. */
void part_end_ownership(struct part *p);

/* A record of the partition in offset order; r NULL: one that is not ours or not there (offset
 * tells how far). Takes no reference. 0, or -ENOMEM: the part is lost if p->lost. */
int part_consumed(struct part *p, int64_t offset, struct rec *r);
/* The producer's answer to an own fact: its offset, or -1 when it can't tell. */
int part_acked(struct part *p, struct rec *r, int64_t offset);
/* A successful generation-checked commit that was sent at sent_boot_ms. */
void part_leased(struct part *p, int64_t sent_boot_ms);
/* Lease valid, owner, and the run still wants it: asked just before an effect starts. */
bool part_may_begin(struct part *p, struct run *r);

struct run *part_run(struct part *p, const char *id);
/* Late answers (another work_id, or no such run) are dropped. Values and problems as step_answer_*.
 */
void part_evaluated(struct part *p, const char *run, uint64_t work_id, struct json_object *value,
                    const struct err *e);
void part_effect_done(struct part *p, const char *run, uint64_t work_id, struct json_object *output,
                      const struct problem *problem);
/* Runs whose effect has ended and whose fact that tells of it is not appended yet: what is lost
 * with them is done again. */
size_t part_unwritten(const struct part *p);
void part_told(struct part *p, const char *run);
void part_not_told(struct part *p, const char *run); /* to be sent again at the next tick */
/* Committed offsets of the routers by source name; then part_floors_read. */
int part_floor(struct part *p, const char *source, int64_t floor);
void part_floors_read(struct part *p);

/* Decides requests and drives runs; true when there is more to do at once. Call after inputs and
 * once a tick. */
bool part_work(struct part *p);
/* Unix time of the next wait, INT64_MAX: none. */
int64_t part_next_due(const struct part *p);

/* mark.c: what to commit: the tide mark and the starting point for its metadata ("" when there is
 * none). */
int64_t part_mark(const struct part *p);
void part_metadata(const struct part *p, int64_t mark, char out[128]);
/* "A1,B2" of part_metadata back: at, first and last offset of the chunks. */
int part_metadata_read(const char *text, struct part_mark *ret);
void part_committed(struct part *p, int64_t mark, const char *metadata);
/* The offset below which the log may be cut, or -1. */
int64_t part_cut(const struct part *p);
/* Sends the dead letters of runs that faulted meanwhile. Called by part_work and part_tick. */
void part_tell(struct part *p);
/* Writes part.state when it is due (or `now`: hand-over), snapshots long pins. Call about once a
 * second. */
void part_tick(struct part *p, bool now);
/* Runs and requests this part still has to do something for. */
size_t part_backlog(const struct part *p);
