/* The HTTP client without a loop: the caller's thread waits. One easy handle serves all requests,
 * since it is what keeps the connection. */
#include <errno.h>
#include <stdlib.h>

#include "loop/http_int.h"

struct http_blocking {
    struct http_req r; /* the latest; all zero but for the handle before the first */
};

struct http_blocking *http_blocking_new(struct err *e)
{
    struct http_blocking *b = calloc(1, sizeof *b);
    if (b && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        return b;
    free(b);
    err_set(e, -ENOMEM, "give the process more memory", "no memory for the HTTP client");
    return NULL;
}

struct http_blocking *http_blocking_free(struct http_blocking *b)
{
    if (!b)
        return NULL;
    http_clear(&b->r);
    curl_easy_cleanup(b->r.easy);
    curl_global_cleanup();
    free(b);
    return NULL;
}

int http_blocking_ask(struct http_blocking *b, const struct http_spec *s, struct http_result *ret,
                      struct err *e)
{
    http_clear(&b->r);
    b->r = (struct http_req){.easy = b->r.easy};
    int error = http_setup(&b->r, s, e);
    if (!error)
        http_result_make(&b->r, curl_easy_perform(b->r.easy), ret);
    return error;
}
