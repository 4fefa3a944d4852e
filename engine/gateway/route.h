/* The routes: each file api_*.c has a table of its own, and route.c lists the tables. Matching,
 * authorisation, /openapi.json and the tests that go through all routes are made from them.
 *
 * A path is a template: "/v1/runs/{id}/cancel"; each {name} is one segment, percent-decoded, given
 * to the handler in order. No two routes of one method may match the same path. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

#define ROUTE_ARGS_MAX 4

enum scope { SCOPE_NONE, SCOPE_PUBLISH, SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN };
const char *scope_name(enum scope s);

/* JSON Schemas are texts; {"$ref":"#/components/schemas/NAME"} names one of openapi.c. */
struct param {
    const char *name, *in; /* "path", "query", "header" */
    const char *schema, *help;
    bool required;
};
struct answer {
    int status;
    const char *help;
    const char *schema; /* NULL: no body, or no JSON */
    const char *type;   /* content type; NULL: application/json */
};
struct call;
struct route {
    const char *method, *path;
    enum scope scope;
    void (*fn)(struct call *c);
    const char *id;             /* operationId */
    const char *tag, *summary;  /* one sentence without a full stop */
    const struct param *params; /* ended by a NULL name; NULL: none (path parameters are known) */
    const char *body;           /* JSON Schema of the request's body; NULL: none is read */
    const char *body_type;      /* NULL: application/json */
    bool body_optional;
    const struct answer *answers; /* ended by status 0; problems are added to all */
};
extern const struct route *const route_tables[]; /* NULL-terminated; each ended by a NULL method */

/* The route of a method and path (without query). ret_args get malloced, decoded segments, NULL
 * beyond. NULL: none; *ret_status then is 404, 405 (the path exists; `allow` gets its methods), 400
 * (a segment that does not decode) or 500 (no memory). HEAD matches GET. */
const struct route *route_find(const char *method, const char *path, char *ret_args[ROUTE_ARGS_MAX],
                               int *ret_status, char *allow, size_t allow_size);

/* Percent-decodes (RFC 3986, section 2.1) into a malloced text: 0, 400 (a broken escape, or a zero
 * byte) or 500 (no memory). */
int route_decode(struct slice s, char **ret);
/* Whether one of the content types that the route answers with is among those that an Accept field
 * (RFC 9110, section 12.5.1; NULL: any) names. */
bool route_accepted(const struct route *r, const char *accept);
