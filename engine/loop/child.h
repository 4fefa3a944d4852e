/* Child processes by pidfd: argv (no shell), explicit environment, limits, own process group,
 * output collected up to a maximum, a deadline after which the whole group gets SIGKILL. */
#pragma once
#include <sys/types.h>

#include "base/buf.h"
#include "loop/loop.h"

struct child;
struct child_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up on PATH */
    const char *const *envp; /* NULL-terminated; NULL: empty environment */
    const char *cwd;         /* NULL: unchanged */
    struct slice input;      /* written to its stdin, copied; then stdin is closed */
    size_t output_max;  /* bytes kept of stdout and of stderr each; more is read and dropped, see
                           truncated */
    int64_t timeout_ms; /* 0: none */
    uint64_t memory_max_bytes; /* RLIMIT_AS; 0: none */
    uint64_t file_max_bytes;   /* RLIMIT_FSIZE; 0: none */
};
struct child_result {
    int status; /* exit code, or 128 + signal */
    int signo;  /* 0 or the signal that ended it */
    bool timed_out, truncated;
    struct slice out, err; /* valid during the callback */
};
/* Starts it; fn is called once in the loop's thread after the process ended and both pipes are at
 * their end (or 1 s after its end, when a grandchild keeps them open). NULL with `e` set when it
 * can't be started: -ENOENT no such program, -EAGAIN too many processes. */
struct child *child_start(struct loop *l, const struct child_spec *spec,
                          void (*fn)(void *arg, const struct child_result *r), void *arg,
                          struct err *e);
/* SIGKILL to the group; fn is not called. */
void child_kill(struct child *c);

/* A long-lived child that speaks over a socket pair (its end is descriptor 3): for expression
 * children. The caller watches *ret_fd (non-blocking) and *ret_pidfd itself and closes both. */
int child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd, int *ret_pidfd,
               pid_t *ret_pid, struct err *e);
