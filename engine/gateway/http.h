/* The HTTP/1.1 server: libmicrohttpd without threads, its epoll descriptor nested in the loop's.
 * Everything is in the loop's thread. A request is given to its handler whole, with its body; the
 * handler answers at once or later (the connection is suspended meanwhile). Resumes of one turn are
 * carried out together before the loop sleeps.
 *
 *   headers read -> body read (bounded) -> fn -> http_answer, now or later -> sent -> freed
 *                                            \-> the client went away: freed at the answer
 *
 * Every answer says that its type is not to be guessed, and unless the handler says otherwise that
 * it is not to be kept (X-Content-Type-Options, Cache-Control).
 *
 * Limits, each with what exceeds it: docs/limits.md. Requests follow RFC 9110 and 9112 as far as
 * libmicrohttpd reads them; errors are problem details (RFC 9457). */
#pragma once
#include <json-c/json.h>

#include "base/logger.h"
#include "loop/loop.h"

#define HTTP_HEAD_BYTES_MAX (16 * 1024) /* request line and headers: 431 */
#define HTTP_PATH_MAX       2048        /* 414 */
#define HTTP_FIELDS_MAX     100         /* 431 */

struct http_server;
struct http_request;
struct http_field;

struct http_opts {
    struct loop *loop;
    struct log *log;
    const char *host; /* an address, no name */
    int port;         /* 0: one is picked */
    /* PEM texts, read by http_server_new; NULL: no TLS. */
    const char *tls_cert, *tls_key;
    size_t body_max; /* bytes: 413; default 1 MiB */
    /* Near it, those that wait longest for their clients are closed; further ones wait in the
     * listen queue. Default 1024. */
    unsigned connections_max;
    unsigned streams_max; /* connections of streams; default 10000 */
    int64_t idle_ms;      /* a connection on which nothing happens; default 60 s */
    int64_t request_ms; /* from the first byte of a request to the last one; default 30 s: closed */
    /* A whole request. It must be answered exactly once with http_answer. */
    void (*fn)(void *arg, struct http_request *r);
    void *arg;
};
/* -EADDRINUSE with a hint, -EINVAL a bad address or TLS material. */
struct http_server *http_server_new(const struct http_opts *o, struct err *e);
int http_server_port(const struct http_server *s);
/* Takes no further connection; answers of those under way still go out. */
void http_server_quiesce(struct http_server *s);
/* Closes everything. Requests not answered yet are freed by their http_answer, which may come after
 * this. */
struct http_server *http_server_free(struct http_server *s);

/* An answer that goes on: 200 with what is sent bit by bit (chunked), until it is ended. Instead of
 * http_answer; `closed` is called once, when the client has gone or all was sent after
 * http_stream_end; the stream and the request are gone then. Connections that begin with the
 * request line of a stream (its path ends with /stream) have a daemon of their own, since each
 * resume of a connection walks all suspended ones. NULL: no memory, or the client has gone: answer
 * it. */
struct http_stream;
struct http_stream *http_stream_begin(struct http_request *r, const struct http_field *fields,
                                      size_t max_bytes, void (*closed)(void *arg), void *arg);
/* 0; -ENOBUFS: the client does not read, and more than max_bytes wait for it; -ENOMEM. */
int http_stream_send(struct http_stream *s, struct slice text);
void http_stream_end(struct http_stream *s); /* after what was sent */
void http_stream_cut(struct http_stream *s); /* at once; `closed` follows, not in this call */

struct http_stats {
    int64_t requests, refused;            /* refused: by a limit, before fn */
    size_t connections, streams, waiting; /* waiting: given to fn, not answered */
};
void http_stats(const struct http_server *s, struct http_stats *ret);

const char *http_method(const struct http_request *r); /* "GET", ... */
const char *http_path(const struct http_request *r);   /* as sent, without the query */
/* NULL: absent. Names of headers in any case. Percent-escapes of the query are decoded. */
const char *http_query(const struct http_request *r, const char *name);
const char *http_header(const struct http_request *r, const char *name);
struct slice http_body(const struct http_request *r);
const char *http_peer(const struct http_request *r); /* address of the client */
/* Calls fn for each header. */
void http_headers(const struct http_request *r,
                  void (*fn)(void *arg, const char *name, const char *value), void *arg);
/* The handler's own, freed by `release` (may be NULL) with the request. */
void http_set_data(struct http_request *r, void *data, void (*release)(void *data));
void *http_data(const struct http_request *r);
/* True when the client has closed the connection while the answer was being made. */
bool http_gone(const struct http_request *r);

struct http_field {
    const char *name, *value;
};
#define HTTP_ADDED_MAX 6
/* A field for the answer, whatever that will be. `name` is kept, `value` copied. False: no memory,
 * or HTTP_ADDED_MAX were added. */
bool http_add_field(struct http_request *r, const char *name, const char *value);
/* Status, header fields (ended by a NULL name; NULL: none) and body (copied). The request must not
 * be used afterwards. */
void http_answer(struct http_request *r, int status, const struct http_field *fields,
                 struct slice body);
/* JSON, with its content type; o is taken over. */
void http_answer_json(struct http_request *r, int status, const struct http_field *fields,
                      struct json_object *o);
/* Problem details: type "about:blank", title of the status, detail, hint. */
void http_problem(struct http_request *r, int status, const struct http_field *fields,
                  const char *hint, const char *detail, ...) __attribute__((format(printf, 5, 6)));
/* "Not Found"; "" for a status that has no name. */
const char *http_reason(int status);
