/* Private to this folder: one HTTP request and what was received for it. One thread only: the
 * loop's, or the one that waits for it. */
#pragma once
#include <curl/curl.h>

#include "base/arena.h"
#include "loop/http.h"

struct http {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer timer;
    struct loop_task deliver;
    struct list requests, sockets;
    bool (*allow)(void *arg, const struct sockaddr *sa);
    void *allow_arg;
    bool global; /* curl_global_init was done */
    bool *gone;  /* set while callbacks run: tells that http_free was called in one */
};

struct http_req {
    struct http *http; /* NULL: no loop, somebody waits for it */
    struct list node;  /* in http->requests */
    CURL *easy;
    struct curl_slist *headers;
    struct buf request_body; /* sent from `sent` on when it is uploaded */
    size_t sent;
    bool custom_method, head;
    bool waiting, unanswered; /* sent, nothing received yet; the connection was closed then */
    /* received */
    struct arena arena; /* names and values of the last response's headers */
    struct http_header *got;
    size_t ngot;
    struct buf body;
    bool refused;         /* the guard said no to an address */
    int open_error;       /* errno of a socket that could not be had; 0: none */
    const char *too_much; /* what went beyond its maximum, NULL: nothing */
    char error_text[CURL_ERROR_SIZE];
    void (*fn)(void *arg, const struct http_result *r);
    void *arg;
};

/* Checks what the caller gave and makes the transfer of it, with the easy handle that is there or a
 * new one. The request needs to be cleared after a failure too. 0, -EINVAL or -ENOMEM. */
int http_setup(struct http_req *r, const struct http_spec *s, struct err *e);
/* Frees what was sent and received; the easy handle stays, and with it a kept connection. */
void http_clear(struct http_req *r);

/* libcurl's callbacks; `arg` is the request. */
size_t http_on_header(char *p, size_t size, size_t n, void *arg);
size_t http_on_body(char *p, size_t size, size_t n, void *arg);
/* Fills *out from the finished transfer; it points into the request and its easy handle. */
void http_result_make(struct http_req *r, CURLcode code, struct http_result *out);
