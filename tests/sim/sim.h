/* The simulated world: see README.md. */
#pragma once
#include "core/part_int.h"
#include "core/route.h"

#define NODES       2
#define EVENTS_MAX  6
#define LOG_MAX     4096
#define COMPACTIONS 8 /* prefixes that check_compaction looks at */
#define LEASE_TICKS 6
#define TICK_MS     1000

/* Rules that do not stand in the core's decisions: what a key is made of (core/rec.c, here cut
 * off), where a fold begins, and that nothing of a producer lands after a record that failed
 * (librdkafka's gapless guarantee). */
enum {
    SIM_KEYS = 1 << 30,
    SIM_GAPLESS = 1 << 29,
    SIM_PART_KEY = 1 << 28,  /* part.state names what it describes in its key */
    SIM_STATE_KEY = 1 << 27, /* run.snapshot too */
    SIM_TASK_KEY = 1 << 26,  /* a task's facts name their type in their key */
    SIM_PART_AT = 1 << 25,   /* folding goes on at what a part.state describes, not behind it */
    SIM_ALL = 0x7e000000
};

/* A record of the log, or on its way into it. */
struct srec {
    struct rec *rec;      /* counted; of the sender, or decoded by a reader */
    struct rec_wire wire; /* what lands: encoded once */
    int node;             /* who sent it */
    bool fact;            /* by the journal's producer */
    bool present;         /* false: compacted or cut away */
    int64_t offset;
    int source; /* router requests: source offset; -1 */
};
struct queue_s {
    struct srec **v;
    size_t n, cap;
};
struct seffect {
    bool used, begun, may_fail; /* may_fail: its agent catches errors */
    char run[RUN_ID_MAX];
    uint64_t work_id;
    uint64_t nonce;
};
struct node_s {
    int name;
    bool alive, paused;
    struct part *part;       /* NULL: not assigned */
    int64_t position;        /* next offset to consume */
    int64_t gen_j, gen_s;    /* generations it believes in; -1 none */
    struct queue_s inflight; /* sent, not landed */
    struct queue_s acks;     /* landed, not acknowledged; offset -1 when lost */
    struct seffect effects[64];
    char tells[64][RUN_ID_MAX];
    size_t ntells;
    bool asked_floors;
    struct route route; /* router */
    int64_t renew_sent; /* boot time of a lease commit under way; -1 */
    bool renew_ok;
    int active;
};
struct ledger {
    char run[RUN_ID_MAX], ref[96];
    int visit, attempt;
    char *given;
    int node;
    uint64_t nonce;
};
struct group_s {
    int node; /* -1: nobody */
    int64_t gen, seen;
};
struct world {
    uint64_t rng;
    int events;
    int64_t now; /* ticks */
    struct srec *log[LOG_MAX];
    int64_t end, start;
    struct group_s j, s;
    int64_t mark, src_mark;
    char metadata[128];
    struct node_s nodes[NODES];
    struct queue_s orphans[16];
    size_t norphans;
    struct state canon;
    uint64_t hist[LOG_MAX + 1];
    struct ledger *ledger;
    size_t nledger, ledger_cap;
    struct map begun, ended, told; /* run id -> offset + 1 */
    struct map keys;               /* of valid facts */
    int agents;                    /* event 0 is for this agent, event 1 for the next one */
    int controls, crashes, keyed;
    uint64_t nonces, outputs, uuids;
    uint32_t off; /* rules switched off */
    bool trace, draining;
    char violation[512];
    uint64_t count[40]; /* how often each kind of step was done */
};

enum step_kind {
    ST_TICK,
    ST_CONSUME,
    ST_ACK,
    ST_LAND,
    ST_LOST,
    ST_WORK,
    ST_BEGIN,
    ST_FINISH,
    ST_FAIL,
    ST_ROUTE,
    ST_SCOMMIT,
    ST_CLAIM,
    ST_RENEW,
    ST_RENEWED,
    ST_COMMIT,
    ST_PART,
    ST_SNAP,
    ST_CUT,
    ST_TELL,
    ST_CONTROL,
    ST_LEARN,
    ST_PAUSE,
    ST_GO,
    ST_CRASH,
    ST_RESTART,
    ST_ERROR,
    ST_ASSIGN,
    ST_SASSIGN,
    ST_ORPHAN,
    ST_DROP,
    ST_COMPACT,
    ST_FLOORS,
    ST_KEYED,
    ST_KINDS
};
struct step_s {
    enum step_kind kind;
    int node, arg;
};

extern const char *const step_names[ST_KINDS];
void world_open(struct world *w, uint64_t seed, uint32_t off);
void world_close(struct world *w);
/* Every step that is possible now, in a fixed order. */
size_t world_steps(struct world *w, struct step_s *v, size_t max);
void world_do(struct world *w, struct step_s s);
uint64_t world_random(struct world *w);
/* Faults stop; everything must come to rest. */
void world_drain(struct world *w);

void violate(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void say(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Shared by the files of the world. */
struct bound { /* the argument of world_ops */
    struct world *w;
    struct node_s *n;
};
extern const struct part_ops world_ops;
struct srec *world_send(struct world *w, struct node_s *n, struct rec *r, bool fact, int source);
bool world_up(const struct node_s *n);
/* The committed starting point, false: none. */
bool world_start(const struct world *w, const char *metadata, struct part_mark *m);
void world_time(struct world *w, struct node_s *n);
void world_control(struct world *w, struct node_s *n, int arg);
void world_keyed(struct world *w, struct node_s *n, int arg);

/* check.c */
void check_landed(struct world *w, struct srec *s);
void check_effect(struct world *w, struct node_s *n, struct run *r, const struct task *t);
void check_commit(struct world *w, int64_t mark, const char *metadata);
void check_live(struct world *w, struct node_s *n);
void check_starts(struct world *w);
void compact_to(struct world *w, int64_t to); /* not below the log start */
/* Nothing is lost by compaction, wherever it ends. Changes nothing. */
void check_compaction(struct world *w);
void check_end(struct world *w);
struct rec *srec_read(struct srec *s);
/* Fold of what is in the log now from the committed starting point (or the log's start); false: it
 * can't be read. */
bool fold_from(struct world *w, const char *metadata, int64_t upto, struct state *st);
const char *agent_hash(const struct world *w, int source);
struct flow *flow_of(const char *hash);
