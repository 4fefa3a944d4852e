/* The request of an HTTP call, built from its evaluated definition. Loop's thread; one call owns
 * it. */
#pragma once
#include "base/secret.h"
#include "tasks/tasks_int.h"

#define CALL_BODY_MAX (1024 * 1024) /* bytes of a request's body */

struct call_header {
    char *name, *value;
    bool secret; /* shown as *** */
};
struct http_call {
    char *method, *url;
    struct call_header headers[HTTP_HEADERS_MAX];
    size_t nheaders;
    struct buf body;
    bool has_body;
    struct secret *user, *password; /* basic authentication, or NULL */
};
/* 0, or -errno with the problem filled in (-ENOMEM: not filled in). */
int http_call_build(struct http_call *h, const struct tasks *t, const struct task_call *c,
                    struct problem *p);
void http_call_free(struct http_call *h); /* takes a zeroed one too */
bool http_call_has(const struct http_call *h,
                   const char *name); /* a header, in any case of letters */
