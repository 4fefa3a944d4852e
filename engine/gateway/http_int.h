/* Private to http.c, http_head.c and http_answer.c: the server and a request. The loop's thread. */
#pragma once
#include <microhttpd.h>

#include "base/buf.h"
#include "gateway/http.h"

#define PEER_TEXT_MAX 64

/* Why a request is refused before its handler sees it. */
struct http_refusal {
    int status; /* 0: it is not */
    const char *hint;
    char detail[120];
};

/* One of libmicrohttpd's daemons in the loop. */
struct http_daemon {
    struct http_server *server;
    size_t memory;          /* bytes of a connection, libmicrohttpd's, which touches all of them */
    struct MHD_Daemon *mhd; /* NULL: not started */
    struct loop_fd epoll;
    struct loop_timer timer;
    bool resumed;                      /* connections were resumed in this turn */
    unsigned connections, most, fresh; /* fresh: added, and it has not run since */
};

struct http_conn {
    struct list node; /* in server.waiting, while its client is to send something */
    struct http_server *server;
    struct http_daemon *daemon;
    struct loop_timer deadline;
    int fd;
};

struct http_server {
    struct http_opts o;
    struct loop_fd listener;
    struct list newcomers; /* accept.c: connections that have sent nothing yet */
    size_t nnewcomers;
    struct loop_timer listen_again; /* descriptors had run out */
    struct http_daemon main, streams;
    struct loop_hook hook;
    struct list waiting;  /* struct http_conn that wait for their clients, the longest first */
    struct list requests; /* struct http_request: begun, their connection is there */
    int port;
    struct http_stats stats;
};

struct http_request {
    struct list node;
    struct http_server *server; /* NULL: freed */
    struct http_daemon *daemon;
    struct http_stream *stream; /* its answer goes on; NULL: it is whole */
    struct MHD_Connection *con; /* NULL: gone */
    struct http_conn *place;
    char *method, *uri, *path, peer[PEER_TEXT_MAX];
    struct buf body;
    struct http_refusal refused; /* its body is not kept */
    bool given, suspended, answered;
    struct MHD_Response *response;
    int status;
    struct {
        const char *name;
        char *value;
    } added[HTTP_ADDED_MAX];
    size_t nadded;
    void *data;
    void (*release)(void *data);
};

void http_request_free(struct http_request *r);
/* A suspended connection goes on, in this turn. */
void http_run(struct http_daemon *d);
void http_resume(struct http_request *r);
/* The answer's own fields, those that were added, and those of every answer. */
void http_add_fields(struct http_request *r, const struct http_field *fields);
void http_stream_gone(struct http_request *r); /* its connection is done with it */
/* accept.c: the listening socket. */
int http_listen(struct http_server *s, struct err *e);
void http_listen_end(struct http_server *s);
/* The request line and header fields: their size, what they say of the body, and what two readers
 * could understand differently. `uri` is as it was sent, its first path_n bytes are the path. */
void http_head_check(struct MHD_Connection *con, const char *uri, size_t path_n, size_t body_max,
                     struct http_refusal *ret);
void http_too_large(size_t body_max, struct http_refusal *ret); /* 413 */
