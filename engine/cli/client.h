/* A node's HTTP interface as commands use it (docs/http.md): one request at a time, over a
 * connection that is kept.
 *
 * Which node: --server, else TIDEMARK_SERVER; a command line that names brokers goes to them. The
 * token (an API key's): TIDEMARK_TOKEN, or the file of --token-file or TIDEMARK_TOKEN_FILE; never
 * an argument, which others on the machine can see.
 *
 * Every request of a command can be repeated without a double, so it is: while the server says "not
 * now" (429, 502, 503, 504), or the connection breaks under way, until REPEAT_MS or --timeout have
 * passed. A server that refuses the connection is told at once. */
#pragma once
#include "cli/cli.h"
#include "loop/http.h"

struct client_ask {
    const char *method, *path; /* the path with its query, already escaped */
    struct slice body;
    const char *type;                  /* Content-Type; NULL: no body */
    const struct http_header *headers; /* more of them */
    size_t nheaders;
    bool may_conflict; /* 409 is an answer, not an error */
    int wait_ms;       /* how much longer than usual the answer may take (Prefer: wait) */
};

/* Whether the command line or the environment names a server. */
bool client_wanted(const struct cli *c);
/* Sends, and reads the whole answer. *ret_status (NULL: not wanted) is the HTTP status; *ret (NULL:
 * not wanted) its JSON, which the caller owns; NULL when the body is null. 0, or -errno with c->e
 * set from the problem details (RFC 9457): -ENOENT 404, -EEXIST 409 and 422, -EACCES 401 and 403,
 * -EINVAL other 4xx, -EAGAIN 429 and 5xx, -ECONNREFUSED and others when there is no answer. */
int client_call(struct cli *c, const struct client_ask *q, int *ret_status,
                struct json_object **ret);
/* GET path. */
int client_get(struct cli *c, const char *path, struct json_object **ret);
/* Follows `next` (a path) from page to page and adds the elements of the member `name` to `list`.
 * *ret_first (NULL: not wanted) is the first page, without the member and without `next`. */
int client_pages(struct cli *c, const char *path, const char *name, struct json_object *list,
                 struct json_object **ret_first);
void client_free(struct client *k);
