/* JSON Schema: a document of draft 7, or what 2019-09 and 2020-12 share with it, becomes a template
 * (expr.h) whose input is the value to be checked and whose result is the list of its problems. It
 * is judged in an expression child (evalchild.c), because a pattern or a schema may hang the
 * library.
 *
 * A keyword that would not be judged is refused by its name, never passed over. References stay
 * inside the document. One thread; nothing is kept but the template. */
#pragma once
#include "config/ydoc.h"
#include "flow/expr.h"

#define SCHEMA_NODES_MAX    10000   /* schemas inside one document */
#define SCHEMA_BYTES_MAX    1048576 /* its prepared text */
#define SCHEMA_PATTERN_MAX  1024    /* bytes of one pattern */
#define SCHEMA_PROBLEMS_MAX 20 /* told of one value; the last one then says how many are left */

/* The schema is member `key` of `parent`, or `parent` itself when key is NULL; problems are told in
 * `d` with their places in `y`. `deep`: also compiled in a child (slow; for check and apply). NULL
 * when there were problems. */
struct tmpl *schema_compile(const struct ydoc *y, struct json_object *parent, const char *key,
                            bool deep, struct diags *d);
/* The problems of a value, as an evaluation of the template gives them, in one line: "/a/0: must be
 * a string; ...". */
void schema_explain(struct json_object *problems, struct buf *b);
/* The names of format that are judged. */
bool schema_format_known(const char *name);
bool schema_format_ok(const char *name, struct slice text);
extern const char *const schema_formats[]; /* NULL-terminated */
