/* The HTTP client, on libcurl: many requests on the loop, or one at a time in a thread that may
 * block. http and https only, environment proxies ignored unless asked for, bodies and headers
 * bounded, decompressed size counted, credentials not sent across hosts on redirects. */
#pragma once
#include "base/buf.h"
#include <sys/socket.h>

#include "loop/loop.h"

#define HTTP_HEADERS_MAX      64
#define HTTP_HEADER_BYTES_MAX (64 * 1024)

struct http;
struct http_req;

struct http_header {
    struct slice name, value;
};
/* Everything is copied by http_start and http_blocking_ask. */
struct http_spec {
    struct slice method, url;
    const struct http_header *headers;
    size_t nheaders;
    struct slice body;
    bool has_body;
    /* Never sent again by itself: libcurl repeats a request when the kept connection that carried
     * it is closed without a byte of answer, though the server may have done what it asks. Then the
     * error is -EPIPE. */
    bool once;
    bool env_proxy;              /* through the proxy that the environment names, if it does */
    int redirects_max;           /* 0: redirects are not followed */
    size_t body_max;             /* bytes of the response body; more: error -EMSGSIZE */
    int64_t timeout_ms;          /* for the whole request; 0: 24 h */
    int64_t connect_timeout_ms;  /* 0: 10 s */
    struct slice user, password; /* with auth: sent as HTTP authentication */
    const char *ca;              /* PEM file with the authorities that count; NULL: the system's */
    enum { HTTP_AUTH_NONE, HTTP_AUTH_BASIC, HTTP_AUTH_DIGEST } auth;
};
struct http_result {
    int error; /* 0, or negative errno: -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH (name), -EMSGSIZE,
                  -EPROTO, -EACCES (address refused by policy), -EINVAL (URL),
                  -ECONNRESET (broken before the answer was whole), -EKEYREJECTED (the server's
                  certificate is not trusted), -EPIPE (closed before an answer, and not sent
                  again) */
    const char *error_text; /* libcurl's words when error */
    int status;
    const struct http_header *headers; /* of the last response, names lower-cased */
    size_t nheaders;
    struct slice body;
    const char *final_url;
};
/* allow_address: asked at connect with the peer address (SSRF guard), NULL: all allowed. */
struct http *http_new(struct loop *l, int max_connections,
                      bool (*allow_address)(void *arg, const struct sockaddr *sa), void *arg,
                      struct err *e);
struct http *http_free(struct http *h); /* pending requests end without callback */
/* fn is called once from the loop; the result is valid during the call. NULL with e set on bad
 * arguments. */
struct http_req *http_start(struct http *h, const struct http_spec *s,
                            void (*fn)(void *arg, const struct http_result *r), void *arg,
                            struct err *e);
void http_cancel(struct http_req *r); /* fn is not called */

/* ---- without a loop ---- */

/* For one thread, or several in turn: one request at a time, over a connection that is kept from
 * one to the next. No address is refused. */
struct http_blocking;
struct http_blocking *http_blocking_new(struct err *e); /* NULL with e set */
struct http_blocking *http_blocking_free(struct http_blocking *b);
/* Returns when the request has ended; what came of it is in *ret, valid until the next one. 0, or
 * -EINVAL or -ENOMEM with e set, without a request, on bad arguments. */
int http_blocking_ask(struct http_blocking *b, const struct http_spec *s, struct http_result *ret,
                      struct err *e);
