/* The supervised expression children: two processes of this same binary (argv[1] = "--eval-child",
 * empty environment but TZ=UTC, memory limit, descriptor 3 is the socket), each serving one request
 * at a time over a socket pair. A dead child or one past its deadline is killed and replaced; the
 * evaluation that ran in it fails (of that one run only); the queued ones go on. Compiled programs
 * are kept in the child (bounded). All functions are for the loop's thread. */
#pragma once
#include "flow/expr.h"
#include "loop/loop.h"
#include "base/logger.h"

struct evalpool;
#define EVAL_DEADLINE_MS  2000
#define EVAL_MEMORY_BYTES (256u << 20)
#define EVAL_QUEUE_MAX    10000
struct evalpool_opts {
    int children;              /* 0: 2 */
    int64_t deadline_ms;       /* of processor time for one program, and thirty times as much
                                  of any; 0: EVAL_DEADLINE_MS */
    uint64_t memory_max_bytes; /* 0: EVAL_MEMORY_BYTES */
    size_t queue_max;          /* 0: EVAL_QUEUE_MAX */
    const char *self;          /* path of this binary; NULL: /proc/self/exe */
};
struct evalpool *evalpool_new(struct loop *l, const struct evalpool_opts *o, struct log *log,
                              struct err *e);
struct evalpool *evalpool_free(struct evalpool *p); /* pending ones end without callback */
/* Evaluates a template (its inline parts too, in this process). Input and args are written out
 * before it returns, so they need not outlive the call. fn gets an owned tree, or an error. 0, or
 * -EAGAIN when the queue is full, -E2BIG, -ENOMEM. */
int evalpool_submit(struct evalpool *p, const struct tmpl *t, struct json_object *in,
                    const struct expr_args *a,
                    void (*fn)(void *arg, struct json_object *value, const struct err *e),
                    void *arg);
/* Whether the queue takes another evaluation now. */
bool evalpool_room(const struct evalpool *p);
/* Blocking: compiles a program in a child of its own and gives jq's message; for `check`. 0 or
 * -EINVAL. */
int evalpool_check(struct slice program, struct err *e);
/* The same for a schema; a place in the document may stand before the message, with a line feed. */
int evalpool_check_schema(const struct tmpl *schema, struct err *e);
/* The child's main; returns the exit status. */
int evalchild_main(void);
