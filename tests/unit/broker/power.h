/* A random life of the log on a disk that loses its power: a store on a shadow disk (shadow.h),
 * what it has promised so far, and the check of a store against those promises.
 *
 * Promises, as callers see them: what store_topic_create, _delete, _grow, _configure,
 * store_new_producer_id and plog_delete_to returned; every record below a durable end that was
 * seen; every log start that was seen. One call may be under way when the power goes: its effect
 * may be there or not. */
#pragma once
#include "shadow.h"
#include "store_fixture.h"

#define POWER_TOPICS 3
#define POWER_PARTS  3

struct power_rec {
    uint64_t tag; /* its value begins with it */
    uint32_t size;
};
struct power_part {
    struct power_rec *v; /* by offset: what was last appended there */
    int64_t n, cap;
    int64_t start, acked;
    /* The last batch of a producer, which must be known as a duplicate once it is acknowledged. */
    int64_t pid, pid_base;
    uint64_t pid_tag;
    int pid_n;
    uint32_t pid_size;
};
struct power_topic {
    bool there;
    uint8_t id[16];
    int nparts, settings;
    struct power_part parts[POWER_PARTS];
};
struct power {
    struct shadow *disk;
    struct store *s;
    enum store_sync sync;
    unsigned seed;
    int64_t now_ms, max_pid, verify_bytes;
    uint64_t next_tag;
    struct power_topic topics[POWER_TOPICS];
    struct { /* the call under way */
        enum {
            IDLE,
            CREATING,
            DELETING,
            GROWING,
            CONFIGURING,
            CUTTING, /* DeleteRecords up to `value` */
            TICKING
        } what;
        int topic, part, settings;
        int64_t value;
    } doing;
    bool any_names; /* names of one folder came in any order: a log without a checkpoint may then
                       begin behind a segment in which nothing was acknowledged */
    bool refused;   /* a call failed because the disk had; its effect may be there or not */
    bool trace;     /* each step to stderr */
    int64_t losses; /* images that were checked */
    char why[1024]; /* the first promise that was broken; "": none */
};

void power_init(struct power *w, unsigned seed);
void power_free(struct power *w);
/* The promises of another life so far, with a disk of its own, which is taken over. */
void power_copy(struct power *w, const struct power *from, struct shadow *disk);
unsigned power_rand(struct power *w, unsigned below);
void power_bad(struct power *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Opens the store on w->disk and closes the gate; false, and w->why: it refused. */
bool power_open(struct power *w);
/* Ends the store; what it still writes to the disk does not matter. */
void power_abandon(struct power *w);
/* Compares a store with the promises; adopt: takes what is there for promised from now on. */
void power_check(struct power *w, struct store *s, bool adopt);
void power_retry_producers(struct power *w); /* the last batch of each is a duplicate */

/* One step; nothing is noted when the disk was frozen during it. */
void power_append(struct power *w, int topic, int part, int n, uint32_t size, bool producer);
void power_poll(struct power *w);   /* takes what the worker has done so far */
void power_ticket(struct power *w); /* lets one sync of the worker pass */
void power_wait(struct power *w);   /* until all is durable */
void power_create(struct power *w, int topic, int nparts, int settings);
void power_delete(struct power *w, int topic);
void power_grow(struct power *w, int topic);
void power_configure(struct power *w, int topic, int settings);
void power_cut(struct power *w, int topic, int part, int64_t offset);
void power_tick(struct power *w, int64_t later_ms);
void power_new_pid(struct power *w);
void power_restart(struct power *w); /* a clean stop and a start */
void power_kill(struct power *w);    /* kill and a start */
void power_step(struct power *w);    /* one of these by chance */
