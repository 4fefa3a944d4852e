/* What the tests of tasks share: a loop, tasks on it, calls from JSON text, one answer, and a small
 * HTTP server. */
#pragma once
#include "base/buf.h"
#include "base/list.h"
#include "tasks/tasks.h"

struct world {
    struct loop *loop;
    struct config *config;
    struct tasks *tasks;
    int port; /* of the server */
    struct server *server;
};
struct answer {
    int calls;
    struct json_object *output;
    struct problem problem;
};

/* What the server got last, and how it answers. */
struct server {
    struct loop_fd listener;
    struct loop *loop;
    int requests;
    char last[65536]; /* the request as it came, head and body */
    /* The whole answer to the n-th request (from 1); NULL: none is ever sent. */
    const char *(*answer)(int n, const char *request);
    struct buf made;
    struct list conns;
};

void world_open(struct world *w, int max_processes);
void world_close(struct world *w);
/* Starts a task of this type with the definition in JSON text; NULL when it was refused. */
struct task_run *world_start(struct world *w, struct task *t, const char *with, struct answer *a,
                             int64_t timeout_ms);
/* Turns the loop until the answer is there; fails the test after 20 s. */
void world_wait(struct world *w, const struct answer *a);
/* Both; returns the output as compact text, or "TYPE STATUS" of the problem. Valid until the next
 * call. */
const char *world_run(struct world *w, struct task *t, const char *with);
const char *world_said(const struct answer *a);
const char *world_detail(void); /* detail of the problem of the last world_run, or "" */
void answer_free(struct answer *a);
/* URL of the server with this path, in a ring of buffers. */
const char *world_url(const struct world *w, const char *path);
