/* Allocations and system calls that can be made to fail, for this program only: the linker sends
 * every call of the engine's objects through wrappers (-Wl,--wrap, tests/CMakeLists.txt). What
 * shared libraries allocate inside themselves is not met; json-c's and libyaml's functions fail as
 * a whole instead.
 *
 *     for (fault_begin(); fault_next();) { ... fault_on(); path(); fault_off(); ... }
 * *
 * makes the first, the second, ... of them fail until the path goes through without one. One
 * thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum fault_kind { FAULT_MEMORY, FAULT_CALL };

void fault_begin(enum fault_kind kind);
/* The next number; false when the last round met no fault. More than FAULT_ROUNDS_MAX fail the
 * test. */
bool fault_next(void);
/* Counting goes on, and stops. Only what happens between them can fail. */
void fault_on(void);
bool fault_off(void); /* whether it was on, for fault_back */
void fault_back(bool was_on);
bool fault_hit(void); /* this round's fault has happened */
/* What failed, for messages: "malloc", "json_object_new_object", "open". */
const char *fault_name(void);
/* Which round of how many, after the loop. */
size_t fault_rounds(void);

/* Leaks since the program began fail the test; names the path. */
void fault_check_leaks(const char *path);
/* How many descriptors are open, and that they are as many as before. */
int fault_descriptors(void);

#define FAULT_ROUNDS_MAX 20000
