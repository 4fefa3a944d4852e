/* Between evalpool.c and evalchild.c, over the socket pair: frames of a 4-byte length (host order)
 * and JSON.
 *
 *   request  {"i": input, "v": {variables}, "l": {locals}, "n": now in seconds, "p": [program,
 * ...], "c": true to compile only}
 *            {"s": prepared schema, "i": value, "c": true to compile only} (schema.h)
 *   answer   {"r": [{"v": value} | {"e": message}, ...]} in the order of the programs; of a schema
 *            one, whose value is the list of problems and whose message may begin with the place in
 *            the schema and a line feed.
 *
 * An empty frame before it says that one more program is done: the deadline is for one program, and
 * the first compile of many takes long. */
#pragma once
#include "base/buf.h"
#include "base/js.h"

#define EVAL_FRAME_MAX (64u << 20)
#define EVAL_FD        3
#define EVAL_LEVELS    3 /* of brackets around a value in an answer */

/* The child's side: answers requests until the other end is closed. The exit status: 3 when a
 * request was not JSON. */
int evalchild_serve(int fd);
