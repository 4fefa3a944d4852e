/* A YAML document as a json-c tree that remembers where each value stood, so that every error can
 * say file:line:col. YAML 1.2 core schema: true/false/null/integers/floats only (`on`, `yes`, `no`
 * stay strings), duplicate keys refused, aliases and tags refused, one document a file, depth and
 * size bounded. JSON is read by the same function. One thread owns a document. */
#pragma once
#include <json-c/json.h>

#include "base/err.h"

#define YDOC_BYTES_MAX (4u << 20)
#define YDOC_DEPTH_MAX 64

struct ydoc;
struct ydoc_pos {
    int line, col; /* from 1 */
};

/* Reads text; `name` is used in messages. Problems go to `d` (all that can be found); NULL then. */
struct ydoc *ydoc_parse(struct slice text, const char *name, struct diags *d);
struct ydoc *ydoc_load(const char *path, struct diags *d);
/* A document without places, of a tree that was read elsewhere; takes over the reference of `root`.
 * NULL: no memory. */
struct ydoc *ydoc_from_json(struct json_object *root, const char *name);
struct ydoc *ydoc_ref(struct ydoc *y);               /* one more owner */
struct ydoc *ydoc_free(struct ydoc *y);              /* for each owner */
struct json_object *ydoc_root(const struct ydoc *y); /* borrowed */
const char *ydoc_name(const struct ydoc *y);
/* Place of a value, and of a member's key (parent object and key). {0,0} when unknown. Values are
 * found by identity for containers and by (container, key or index) for scalars. */
struct ydoc_pos ydoc_value_pos(const struct ydoc *y, struct json_object *parent, const char *key,
                               size_t index);
struct ydoc_pos ydoc_key_pos(const struct ydoc *y, struct json_object *parent, const char *key);
struct ydoc_pos ydoc_node_pos(const struct ydoc *y, struct json_object *container);
/* True when the scalar was written in plain style (unquoted), for hints about `${ { a: b } }`. */
bool ydoc_is_plain(const struct ydoc *y, struct json_object *parent, const char *key, size_t index);
