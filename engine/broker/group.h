/* Consumer groups: membership and generations. Folder-private; knows nothing of sockets or files.
 *
 * Owning thread: the broker's thread. The clock comes in as an argument, what happens later goes
 * out through struct groups_ops, so the whole machine is tested without a broker.
 *
 * States of a group (group_set_state in group.c is the only writer):
 *   EMPTY        no members; may hold offsets
 *   PREPARING    members are asked to join again; ends when all have, or at the rebalance time-out
 *   COMPLETING   a new generation is out; the leader's assignment is awaited, then stored
 *   STABLE       all members have an assignment
 *   DEAD         only while it is being freed
 * Invariants: generation never goes back while the group lives; a member is in `members` once; a
 * token given to join or sync is answered exactly once; an assignment is handed out only after
 * group_stored said that it is durable. */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "broker/kerr.h"

#define GROUPS_MAX           100000
#define GROUP_MEMBERS_MAX    1000
#define GROUP_NAME_MAX       1024 /* of group, member, instance and protocol names */
#define GROUP_PROTOCOLS_MAX  64
#define GROUP_METADATA_MAX   (1 << 20) /* all protocols of a member; also its assignment */
#define GROUP_SESSION_MIN_MS 100
#define GROUP_SESSION_MAX_MS 1800000
#define GROUP_FORGET_MS      5000

enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_DEAD };

struct group;
struct group_timer {
    struct heap_node node;
    void (*fn)(struct group_timer *t);
    struct group *g;
};
struct group_protocol {
    struct slice name, metadata; /* both in one allocation of the member */
};
struct member {
    struct list node; /* group.members, or group.pending before it was told its id and came back */
    struct group *g;
    char *id, *instance; /* instance: NULL for a dynamic member */
    char *client_id, *client_host;
    int session_ms, rebalance_ms;
    struct group_protocol *protocols; /* owned, with the bytes behind it */
    int nprotocols;
    char *assignment; /* owned */
    size_t nassignment;
    void *join_token, *sync_token; /* an unanswered request, or NULL */
    struct group_timer timer;      /* session */
};
struct group {
    struct groups *gs;
    char *id;
    enum group_state state;
    int generation;
    char *protocol_type; /* NULL while nobody ever joined */
    char *protocol;      /* chosen one, NULL while EMPTY or PREPARING */
    struct member *leader;
    struct list members, pending;
    int nmembers, npending;
    bool assigned; /* COMPLETING: the leader sent the assignment, its storing is awaited */
    int storing;   /* metadata records on their way to the disk */
    struct group_timer timer; /* rebalance time-out; while EMPTY, when to forget the group */
    int64_t state_ms;         /* wall clock of the last change of state */
    struct map offsets;       /* key: topic, zero byte, 4-byte partition -> struct group_offset */
    int commits_pending;      /* not durable yet: the group is not freed */
};
struct group_offset {
    int64_t offset, time_ms;
    int32_t epoch, partition;
    size_t ntopic, nmetadata;
    char text[]; /* topic, then metadata */
};

struct group_join {
    struct slice group, member, instance, client_id, client_host,
        protocol_type; /* instance.p NULL: none */
    int session_ms, rebalance_ms;
    const struct group_protocol *protocols;
    int nprotocols;
    bool id_required; /* a new dynamic member is told its id first (JoinGroup 4 and later) */
    bool can_skip;    /* the leader understands skip_assignment (9 and later) */
};
struct group_joined {
    int16_t error;
    int generation;
    bool skip_assignment;
    struct slice protocol_type, protocol, leader, member; /* .p NULL: none */
    const struct group *members;                          /* NULL: not the leader */
};
struct group_synced {
    int16_t error;
    struct slice protocol_type, protocol, assignment;
};
struct group_assignment {
    struct slice member, assignment;
};

struct groups_ops {
    void (*joined)(void *arg, void *token, const struct group_joined *r);
    void (*synced)(void *arg, void *token, const struct group_synced *r);
    /* Writes the group's metadata; when that is durable or failed, group_stored must follow (now or
     * later). */
    void (*store)(void *arg, struct group *g);
    /* The group is about to be freed: writes its tombstone. */
    void (*forget)(void *arg, struct group *g);
};
struct groups {
    struct map by_name;
    struct heap timers;
    const struct groups_ops *ops;
    void *arg;
    int64_t now_ms, wall_ms;
    int initial_delay_ms; /* how long a first rebalance of an empty group waits for more members */
    uint64_t next_member;
};

void groups_init(struct groups *gs, const struct groups_ops *ops, void *arg);
void groups_free(struct groups *gs); /* tokens still open: COORDINATOR_NOT_AVAILABLE */
void groups_clock(struct groups *gs, int64_t now_ms, int64_t wall_ms);
int64_t groups_next_ms(const struct groups *gs); /* -1: no timer */
void groups_tick(struct groups *gs);             /* timers up to the clock */

struct group *group_find(struct groups *gs, struct slice id);
struct group *group_get(struct groups *gs,
                        struct slice id); /* made when missing; NULL: too many or no memory */
/* Frees an EMPTY group after a while unless it has something to keep by then. */
void group_forget_later(struct group *g);
void group_drop(struct group *g); /* frees it; its tombstones are the affair of the caller */
void group_delete(
    struct group *g); /* at once, with ops->forget; the caller has checked that it may go */
const char *group_state_name(enum group_state s);
int16_t group_id_check(struct slice id);
struct member *group_find_member(struct group *g, struct slice id);

/* The answers come through ops, at once or later. */
void group_join(struct groups *gs, const struct group_join *j, void *token);
void group_sync(struct groups *gs, struct slice group, int generation, struct slice member,
                struct slice instance, struct slice protocol_type, struct slice protocol,
                const struct group_assignment *v, int n, void *token);
void group_stored(struct groups *gs, struct slice group, int generation, int16_t error);
int16_t group_heartbeat(struct groups *gs, struct slice group, int generation, struct slice member,
                        struct slice instance);
int16_t group_leave(struct groups *gs, struct slice group, struct slice member,
                    struct slice instance);
/* May these offsets be committed? A commit counts as a sign of life. */
int16_t group_may_commit(struct groups *gs, struct slice group, int generation, struct slice member,
                         struct slice instance);
/* Takes over a group read from the log; members get a whole session from now. */
struct member *group_restore_member(struct group *g, const struct group_join *j,
                                    struct slice assignment);
int group_restored(struct group *g, int generation, struct slice protocol_type,
                   struct slice protocol, struct slice leader);
void group_clear(struct group *g); /* before a later record of the same group is restored */

/* group_int: shared by group.c, group_join.c and group_member.c. */
void group_set_state(struct group *g, enum group_state s);
void group_store(struct group *g);
void group_timer_set(struct group_timer *t, int64_t in_ms);
void group_timer_unset(struct group_timer *t);
void group_rebalance(struct group *g);
void group_try_complete(struct group *g);
void group_member_alive(struct member *m);
struct member *member_new(struct group *g, struct slice id, const struct group_join *j);
void member_remove(struct member *m); /* ends its requests and frees it; group_left follows */
void group_left(struct group *g);     /* rebalances after members were removed */
int member_update(struct member *m, const struct group_join *j);
struct member *group_static(struct group *g, struct slice instance);
/* The member that a request speaks for: KERR_NONE, UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID. */
int16_t group_claim(struct group *g, struct slice id, struct slice instance, struct member **ret);
void group_answer_join(struct member *m, int16_t error);
void group_answer_sync(struct member *m, int16_t error);
struct slice group_choose(const struct group *g); /* the protocol that all know; .p NULL: none */
