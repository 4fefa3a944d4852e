/* A disk in memory for the tests of the log: a table of system calls (fileops.h) that keeps what
 * programs see apart from what a loss of power would leave, and that fails calls on demand.
 *
 * Each file and folder has its live state, its state on disk, and the changes between the two in
 * the order in which they were made; datasync and sync move changes to the disk. A loss of power
 * makes a new disk from the disk's state and some of the changes.
 *
 * Thread-safe. "The test's thread" is the one that made the disk (or called shadow_adopt); only its
 * calls are counted and frozen at. Other threads' syncs pass a gate, so that a test decides when a
 * worker's sync happens. */
#pragma once
#include "broker/fileops.h"

struct shadow_node;
struct shadow;

struct shadow *shadow_new(void);               /* empty; paths begin with / */
struct shadow *shadow_free(struct shadow *sh); /* NULL is fine */
struct fileops *shadow_ops(struct shadow *sh); /* good as long as the disk */

/* The disk as the death of the process leaves it: what was not synced is there and still not
 * synced. */
struct shadow *shadow_kill(struct shadow *sh);
/* The disk as a loss of power leaves it. Sectors have 512 bytes. */
enum loss {
    LOSE_ALL,     /* that was not synced */
    LOSE_NONE,    /* all of it had just arrived */
    LOSE_LAST,    /* changes arrived in order up to some point; the last write is torn */
    LOSE_ANY,     /* sectors and sizes arrived in any order; names of one folder in order */
    LOSE_ANY_NAME /* names as well in any order */
};
struct shadow *shadow_lose_power(struct shadow *sh, enum loss how, unsigned *seed);
/* How many independent parts (sectors, sizes, names) are not synced; and the disk to which exactly
 * those of the mask have arrived. */
int shadow_parts(struct shadow *sh);
struct shadow *shadow_pick(struct shadow *sh, uint64_t mask);

void shadow_adopt(struct shadow *sh);    /* the calling thread is the test's from now on */
int64_t shadow_calls(struct shadow *sh); /* of the test's thread so far */
/* Before call number n a copy as of shadow_kill is kept for shadow_take_frozen (once; the caller
 * owns it; NULL: not yet reached). 0: none. */
void shadow_freeze_at(struct shadow *sh, int64_t n);
int64_t shadow_freeze_left(struct shadow *sh); /* calls until then */
bool shadow_is_frozen(struct shadow *sh);
struct shadow *shadow_take_frozen(struct shadow *sh);
/* The sync that is left out from now on: reported as done, does nothing. -1: none. */
void shadow_leave_out(struct shadow *sh, int point);

/* Syncs of other threads wait while the gate is closed; a ticket lets one pass. */
void shadow_gate(struct shadow *sh, bool open);
void shadow_ticket(struct shadow *sh);  /* returns when the sync is done; one must be on its way */
bool shadow_waiting(struct shadow *sh); /* a thread stands at the gate */

/* Faults. The n-th call from now (of any thread; 1: the next) fails with `code`, and all that
 * follow when `forever`; n 0: none. A failed datasync or sync loses what it should have covered,
 * and no later one makes up for it. */
void shadow_fail(struct shadow *sh, int64_t n, int code, bool forever);
bool shadow_failed(struct shadow *sh);                         /* the fault has happened */
const char *shadow_failed_call(struct shadow *sh);             /* its name and path, for messages */
void shadow_fail_sync(struct shadow *sh, int point, int code); /* the next one of that kind */
void shadow_space(struct shadow *sh, int64_t bytes);           /* left for growth; -1: no limit */
void shadow_fd_limit(struct shadow *sh, int n);                /* 0: none */
void shadow_choppy(struct shadow *sh,
                   unsigned seed); /* reads and writes come short or interrupted */
