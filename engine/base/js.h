/* JSON on json-c: strict parsing with limits, compact writing, and a scanner that finds members
 * without building a tree. A json_object tree belongs to one thread. RFC 8259. */
#pragma once
#include <json-c/json.h>

#include "base/buf.h"
#include "base/err.h"

#define JS_DEPTH_MAX 128

/* Parses one whole document. Refuses, with line and column in `e`: anything json-c's STRICT and
 * VALIDATE_UTF8 refuse, NaN and Infinity, duplicate keys, numbers beyond double or int64 range that
 * would lose their value (integers above 2^63-1 become doubles), depth over JS_DEPTH_MAX, trailing
 * bytes. The caller owns *ret (json_object_put); note that the document `null` gives *ret == NULL
 * with return 0. */
int js_parse(struct slice text, struct json_object **ret, struct err *e);
/* The same checks without building a tree. */
int js_check(struct slice text, struct err *e);
/* Compact text with members in insertion order, no escaping of '/'. NULL writes `null`. */
int js_write(struct json_object *o, struct buf *b);
/* Writes s as a JSON string with quotes. Bytes that are not UTF-8 become U+FFFD. */
int js_write_str(struct buf *b, struct slice s);
size_t js_str_size(struct slice s); /* how many bytes that makes of valid UTF-8 */
/* Indented by two blanks, for people. */
int js_write_pretty(struct json_object *o, struct buf *b);

/* The text of a top-level member of an object whose text is known to be valid JSON: a slice into
 * `doc`, quotes included. Returns false when doc is not an object or has no such member. */
bool js_member(struct slice doc, const char *key, struct slice *ret_value);
/* Walks the top-level members: start with *pos = 0; false at the end. Key without quotes, not
 * unescaped. */
bool js_next(struct slice doc, size_t *pos, struct slice *ret_key, struct slice *ret_value);
/* Walks the elements of a top-level array in the same way. */
bool js_next_item(struct slice doc, size_t *pos, struct slice *ret_value);
/* The unescaped text of a JSON string (quotes included in `text`), appended to b. -EINVAL if not a
 * string. */
int js_unquote(struct slice text, struct buf *b);

/* Deep equality as jq's ==: numbers by value, objects without regard to order. */
bool js_equal(struct json_object *a, struct json_object *b);
/* Adds a member and takes v over, also when it fails: -ENOMEM, as well when o is NULL. js_put: v
 * NULL is JSON null; js_put_new: v was just made, and NULL says that there was no memory for it. */
int js_put(struct json_object *o, const char *key, struct json_object *v);
int js_put_new(struct json_object *o, const char *key, struct json_object *v);
int js_push_new(struct json_object *array, struct json_object *v); /* the same for an array */
/* A deep copy (NULL for NULL), *ok false when memory ran out. */
struct json_object *js_copy(struct json_object *o, bool *ok);
/* Member of an object or NULL, for any o. js_str: its string value or NULL. */
struct json_object *js_get(struct json_object *o, const char *key);
const char *js_str(struct json_object *o, const char *key);
/* Of an array; 0 and NULL for anything else (json-c's own functions end the process then). */
size_t js_length(struct json_object *o);
struct json_object *js_at(struct json_object *o, size_t i);
int64_t js_int(struct json_object *o, const char *key, int64_t otherwise);
bool js_bool(struct json_object *o, const char *key, bool otherwise);
/* A short name of the kind: "object", "array", "string", "number", "boolean", "null". */
const char *js_kind(struct json_object *o);
