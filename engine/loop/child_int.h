/* Private to this folder: starting a process. Blocks until the program was executed or failed to be
 * (well under a millisecond as a rule, bounded by the kernel's exec). Any thread, but the child
 * ends with the thread that started it (PR_SET_PDEATHSIG), so use the loop's. */
#pragma once
#include <sys/types.h>

#include "base/err.h"

struct spawn {
    const char *const *argv, *const *envp;
    const char *cwd;                           /* NULL: unchanged */
    int in, out, err;                          /* become 0, 1 and 2 */
    int extra;                                 /* becomes 3; -1: none */
    uint64_t memory_max_bytes, file_max_bytes; /* 0: none */
};
/* 0, or a negative errno with `e` set. The process leads a group of its own; the caller reaps it.
 */
int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e);
