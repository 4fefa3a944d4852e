/* What the files of the gateway share. The loop's thread.
 *
 * A call is one request under way. Its handler answers it exactly once, now or later, by http_* on
 * c->r; afterwards neither may be used. It stays valid until then, even if the client has left. A
 * handler that answers later sets `cancel`, which is called when the node goes or the gateway
 * closes: it lets go of what it waits for, and must not answer (the gateway does, with 503). */
#pragma once
#include <pthread.h>

#include "gateway/auth.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keys.h"
#include "gateway/route.h"
#include "node/node.h"
#include "triggers/defs.h"
#include "triggers/router.h"

#define GATEWAY_READERS   4
#define GATEWAY_READS_MAX 1000 /* jobs that wait for a reader: 503 */
#define RETRY_AFTER_S     "1"
#define SEND_MS           10000 /* for the log's acknowledgement; then 503 */
#define GATEWAY_TICK_MS   500

struct call {
    struct list node; /* in gateway.calls */
    struct gateway *g;
    struct http_request *r;
    const struct route *route;
    struct auth_who who;        /* by whose key */
    char *args[ROUTE_ARGS_MAX]; /* of the path, decoded */
    void (*cancel)(struct call *c);
    struct list sends; /* struct send, of this call, under way */
    void *data;        /* the handler's own */
};

struct gateway {
    struct gateway_opts o;
    struct loop *loop;
    struct log *log;
    const struct config *config;
    struct http_server *http;
    struct node *n; /* NULL: none */
    struct auth *auth;
    bool loopback;  /* the address */
    char *tls_cert; /* PEM texts; NULL: HTTP */
    struct secret *tls_key;
    struct keys *keys;       /* NULL: no node */
    struct list key_watches; /* struct key_watch */
    struct names names;
    struct list calls; /* struct call, not answered yet */
    struct list sends; /* struct send, not acknowledged yet */
    size_t ncalls;
    struct pool *pool;     /* blocking reads of the log, each thread's kadmin in `admins` */
    struct list admins;    /* struct admin, not in use */
    pthread_mutex_t lock;  /* of admins */
    struct owners *owners; /* of journal partitions, as read so far */
    struct tail *tail;     /* the journal's live end */
    struct peers *peers;   /* the other nodes */
    struct http *client;   /* asks them; NULL: none was asked yet */
    int64_t unanswered_ms; /* when it was last told that one did not answer */
    char node_id[256];     /* of this node; "": there was none yet */
    int partitions;        /* of the journal; 0: the same */
    struct list streams;   /* struct stream */
    int64_t beat_ms;       /* of the next heartbeat */
    bool quiet;
    struct loop_timer quiet_timer, tick;
    int64_t quiet_until_ms;
    void (*quiet_fn)(void *arg);
    void *quiet_arg;
    char address[128];
};

/* ---- who may (guard.c) ---- */

/* -EINVAL, -EACCES with a hint. `host` is that of the address. */
int guard_open(struct gateway *g, const char *host, struct err *e);
void guard_node(struct gateway *g); /* g->n was set, or is about to go */
void guard_free(struct gateway *g);
/* Whether the call goes on to its route; else it was answered: OPTIONS, 401, 403, 429, 503. */
bool guard_call(struct call *c, const char *allow);
/* For what goes on after it was let in, such as a stream: `fn` is called when a key was made,
 * changed or revoked; guard_still says whether the one who asked would still be let in (ask it now
 * and then as well: tokens expire). */
struct key_watch {
    struct list node;
    void (*fn)(struct key_watch *w);
};
void guard_watch(struct gateway *g, struct key_watch *w);
void guard_unwatch(struct key_watch *w); /* safe when it is not watched */
bool guard_still(struct gateway *g, const struct auth_who *who, enum scope scope);

/* ---- answers ---- */

/* Problem with "Retry-After: 1": 503 for what is not ready, 429 for what is full. */
void api_later(struct call *c, int status, const char *hint, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));
/* By the errno of `e`: 404, 409, 400, 413, 503, 504, 500 with its message and hint. */
void api_fail(struct call *c, const struct err *e);
/* 400 with the problems that a schema's evaluation gave (flow/schema.h), as `errors`: [{pointer,
 * detail}]. */
void api_unfit(struct call *c, const char *detail, struct json_object *problems);
/* The body as JSON: true, or the call was answered with 400 or 415. An empty body is {} when it is
 * `optional`. The caller owns *ret. */
bool api_json_body(struct call *c, bool optional, struct json_object **ret);
/* The same, an object with no other members than `names` (NULL-terminated): else 400. */
bool api_object_body(struct call *c, bool optional, const char *const *names,
                     struct json_object **ret);
/* Whether the partition takes a further request: false with 429 when too many wait there, as far as
 * this node knows. */
bool api_has_room(struct call *c, int partition);
/* True when there is a node whose definitions are read; else the call was answered with 503. */
bool api_need_node(struct call *c);

/* ---- writing ---- */

/* Sends the record by the node's producer; `done` is called once, unless the call is cancelled
 * before: error 0, or a negative errno with its reason. 0; or nothing was sent: -ENOTCONN the log
 * can't be reached, -EAGAIN the queue is full, -EMSGSIZE, -ENOMEM. */
int api_send_try(struct call *c, const struct krec *k,
                 void (*done)(struct call *c, int error, int partition, int64_t offset,
                              const char *why));
/* The same; false when nothing was sent and the call was answered so: 503, 413. */
bool api_send(struct call *c, const struct krec *k,
              void (*done)(struct call *c, int error, int partition, int64_t offset,
                           const char *why));
/* For several records of one call: `done` of each is called with its number, in any order, and the
 * handler sets c->cancel itself. Errors of api_send_try. */
int api_send_nth(struct call *c, size_t nth, const struct krec *k,
                 void (*done)(struct call *c, size_t nth, int error, int partition, int64_t offset,
                              const char *why));
/* Answers with 503 or 413, by an error of these. */
void api_send_refuse(struct call *c, int error);
/* `done` is not called any more; for a handler's own cancel. */
void api_send_cancel(struct call *c);
bool api_send_rec(struct call *c, const struct rec *r, int partition,
                  void (*done)(struct call *c, int error, int partition, int64_t offset,
                               const char *why));

/* ---- blocking work ---- */

/* A job off the loop's thread, with a kadmin that is its own meanwhile. `work` fills `e` (code 0:
 * all is well) and its own members (struct read first in a struct of the handler's); `done`, in the
 * loop's thread, answers r->c and frees r. Such a call has no `cancel`: it ends by itself. */
struct api_read {
    struct pool_job job;
    struct gateway *g;
    struct call *c; /* answered by `done` alone */
    void (*work)(struct api_read *r, struct kadmin *a);
    void (*done)(struct api_read *r);
    struct err e;
};
/* False when the call was answered with 503 instead (the queue is full); the caller frees r then.
 */
bool api_read_start(struct call *c, struct api_read *r);
/* The same for no call: 0, or -EAGAIN when the queue is full. */
int api_work(struct gateway *g, struct api_read *r);
void api_admin_free(struct list *l);
void api_sends_forget(struct gateway *g);
void api_sends_tick(struct gateway *g); /* once a second or so */

extern const struct route routes_openapi[], routes_list[], routes_metrics[], routes_events[],
    routes_stream[], routes_start[], routes_health[], routes_runs[], routes_steer[],
    routes_agents[], routes_dlq[], routes_group[];
