/* Shared by tmpl.c and evalpool.c. */
#pragma once
#include "flow/expr.h"

/* Texts of the expressions that only a child can evaluate, in the order in which tmpl_fill takes
 * their values. */
size_t tmpl_pending(const struct tmpl *t, const struct expr **v, size_t max);
/* The prepared schema's text; n == 0 when the template is none. A schema has one value to be
 * filled in, the list of problems. */
struct slice tmpl_schema_text(const struct tmpl *t);
/* Evaluates the whole with the answers of a child; `values` (borrowed) and `errors` (may hold NULL)
 * by tmpl_pending's order. */
int tmpl_fill(const struct tmpl *t, struct json_object *in, const struct expr_args *a,
              struct json_object *const *values, const char *const *errors, size_t n,
              struct json_object **ret, struct err *e);
