/* An immutable, counted JSON value that is kept as text, as a tree, or both, each made when first
 * asked for. One thread owns all references of a value. NULL stands for JSON null and is taken
 * everywhere. */
#pragma once
#include "base/js.h"

struct val;

/* From text known to be valid JSON (copied). NULL when memory ran out; see val_null for JSON null.
 */
struct val *val_text_new(struct slice text);
/* Takes over the caller's reference of the tree; the tree must not change any more. */
struct val *val_tree_new(struct json_object *tree);
struct val *val_ref(struct val *v);
/* Drops a reference; returns NULL, so that `x = val_unref(x)` leaves nothing dangling. */
struct val *val_unref(struct val *v);
/* The text; stays valid as long as the value. "null" for NULL. An empty slice when memory ran out.
 */
struct slice val_text(struct val *v);
/* The tree, borrowed; NULL for JSON null (and when the text doesn't parse, which val_text_new's
 * contract excludes). */
struct json_object *val_tree(struct val *v);
bool val_equal(struct val *a, struct val *b);
