/* URLs of calls: URI templates (RFC 6570, simple expansion of top-level names), query parameters,
 * percent-encoding. Pure. */
#pragma once
#include "base/js.h"

#define URL_MAX_BYTES (16 * 1024)

/* Expands {name} with members of `vars` (an object, anything else: no members). The name is taken
 * as it stands, so {a.b} means the member "a.b"; missing and null give nothing, values are
 * percent-encoded. -EINVAL with e set when a value is an array or object. */
int url_expand(struct slice tmpl, struct json_object *vars, struct buf *out, struct err *e);
/* Appends the members of `query` to the URL, before its fragment. An array repeats its name, null
 * is left out. -EINVAL with e set for objects inside, or a query that is no object. */
int url_add_query(struct slice url, struct json_object *query, struct buf *out, struct err *e);
/* Appends s with everything but RFC 3986's unreserved characters percent-encoded. */
int url_encode(struct slice s, struct buf *out);
/* Without user, password, query and fragment: what may stand in an error's text. */
struct slice url_shown(struct slice url);
