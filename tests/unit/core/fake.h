/* A journal partition in memory and nodes on it, for tests of struct part. A record lands encoded
 * and is read back decoded, as with a broker; every step (land, acknowledge, consume, work, begin,
 * finish) is the test's own. One thread. */
#pragma once
#include "core/part.h"
#include "core/part_int.h"

#define FAKE_MAX  512
#define FAKE_TIME 1700000000000LL

struct flog {
    struct rec *v[FAKE_MAX]; /* decoded; NULL: not there any more */
    int64_t end;
    int uuids;
};
struct fnode {
    struct part *p;
    struct flog *log;
    struct rec *out[FAKE_MAX]; /* appended, not landed */
    size_t nout;
    struct {
        struct rec *r;
        int64_t offset;
    } acks[FAKE_MAX]; /* landed, not acknowledged */
    size_t nacks;
    int64_t position; /* next to consume */
    struct {
        char run[RUN_ID_MAX];
        uint64_t work_id;
    } effects[FAKE_MAX];
    size_t neffects;
    char told[16][RUN_ID_MAX], ended[16][RUN_ID_MAX];
    size_t ntold, nended, stops, evals;
    int places, active; /* admissions */
    int floors_asked;
    bool no_room, broken, no_flows;
    int refuse; /* what eval and effect answer */
    int64_t boot_ms, wall_ms;
};

void flog_free(struct flog *l);
/* Lands a copy of r (not taken over) as a broker would: encoded, then decoded. */
int64_t flog_land(struct flog *l, const struct rec *r);
/* A run.requested for event `src` of the one source partition, with the router's floor. */
int64_t flog_request(struct flog *l, int agent, int src, int64_t floor);
/* run.requested without an event, with this value (NULL: {"input":N}). */
int64_t flog_request_api(struct flog *l, int agent, int n, const char *value);
int64_t flog_control(struct flog *l, enum rec_type t, int src);
const char *fake_run(int src); /* the run id of event src */
const char *fake_run_api(int n);
/* Agent 0: pure p, safe s, world w, world v. 1: world w, then raise. 2: once o (onUnknown fail),
 * world w. 3: wait 5 s, world w. 4: eleven safe tasks.
 * 5: world n, whose body has `now` and $task.startedAt. */
struct flow *fake_flow(int agent);
/* Makes FAKE_OWN the agent with this `do` and what else stands at the root, in YAML. */
#define FAKE_OWN 6
void fake_use(const char *yaml);

/* An IDLE part that folds from the log's start. opts may be NULL. */
void fake_open(struct fnode *n, struct flog *l, const struct part_opts *opts);
/* The same from a committed starting point. */
void fake_open_at(struct fnode *n, struct flog *l, int64_t mark, const char *metadata);
void fake_close(struct fnode *n);
void fake_time(struct fnode *n, int64_t ms); /* goes on by ms */
int64_t fake_land(struct fnode *n);          /* the oldest appended record; its offset, -1: none */
void fake_ack(struct fnode *n);              /* the oldest landed one */
void fake_ack_unknown(struct fnode *n);      /* the same, but the offset is not told */
void fake_consume(struct fnode *n);          /* everything up to the log's end */
/* Work, land, acknowledge and consume until nothing moves; effects are not begun. */
void fake_run_all(struct fnode *n);
/* Claims, becomes owner, takes a lease. */
void fake_own(struct fnode *n, uint64_t nonce);
/* The oldest queued effect begins if it may: its reference; else NULL. */
const char *fake_begin(struct fnode *n);
/* It ends with this output. */
void fake_finish(struct fnode *n, int64_t output);
/* It fails with communication/500. */
void fake_fail(struct fnode *n);
/* state_digest of a fold of the whole log, and of the part; to be freed. */
char *fake_digest_log(const struct flog *l);
char *fake_digest(const struct fnode *n);
/* Types of the log's records from `from` on, separated by a blank: "owner run.requested ...". */
char *fake_types(const struct flog *l, int64_t from);
/* The part's state is the fold of the whole log. */
void fake_check_fold(struct fnode *n);
void fake_check_types(const struct flog *l, int64_t from, const char *want);
/* Everything to the end, effects as they come. */
void fake_finish_all(struct fnode *n);
