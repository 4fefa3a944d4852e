/* Forks and retries: a new run, in the original's partition, that goes on from a task of it. The
 * original is folded up to the task by whoever asks, for commands and the gateway alike. */
#pragma once
#include "core/state.h"
#include "core/trace.h"
#include "log/kadmin.h"
#include "triggers/names.h"

/* Folds while a journal_reader reads the original: its `fn` is fork_record, its `arg` the fork. */
struct fork {
    const struct trace *trace; /* of the reader */
    struct state st;
    const char *run, *from; /* from: name or reference of the task; NULL: the one that faulted */
    int visit;              /* -1: the last */
    struct run_state found;
    bool any;
    enum run_status end;
    char *failed_ref;
};
void fork_init(struct fork *f, const struct trace *t, const char *run, const char *from, int visit);
int fork_record(void *arg, struct rec *r, bool is_void);
void fork_free(struct fork *f);

struct fork_ask {
    const char *agent;  /* NAMESPACE/NAME[:VERSION]; NULL: the original's definition */
    const char *id;     /* the same gives the same run, up to 36 bytes; NULL: a random one */
    const char *reason; /* of a retry; or NULL */
    bool retry; /* of a faulted run; of one that waits for its next attempt: that begins now */
};
struct fork_made {
    struct rec *rec;        /* the request, for the original's partition */
    char id[RUN_ID_MAX];    /* of the new run; "": rec is run.retry, of the run itself */
    struct json_object *of; /* forkOf: run, task, visit, uuid */
};
/* Blocking. -ENOENT: no such run, task or agent; -EBUSY: a retry of a run that has not faulted and
 * waits for no attempt; -EMSGSIZE. */
int fork_make(struct fork *f, struct kadmin *a, const struct names *n, const struct fork_ask *q,
              struct fork_made *ret, struct err *e);
void fork_made_free(struct fork_made *m);
