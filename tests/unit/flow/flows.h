/* Definitions for the tests of the DSL: from text, with a head where the test does not care about
 * one. */
#pragma once
#include "flow/flow.h"

#define FLOW_HEAD "document: {dsl: '1.0.3', namespace: acme, name: test, version: '1.0.0'}\n"

/* NULL when it has errors. Problems are written to `problems` (may be NULL) as lines "LINE:COL:
 * [warning: ]message" and "    hint". */
struct flow *flow_of(const char *text, struct buf *problems);
void flow_problems(struct diags *d, struct buf *out);
struct json_object *json_of(const char *text);
/* Compact text in a ring of static buffers. */
const char *text_of(struct json_object *o);
/* Folder tests/data/flows/NAME. */
const char *flows_folder(const char *name);
/* Evaluates in a child started for it: an owned value, or NULL with `e` set. */
struct json_object *flow_evaluate(const struct tmpl *t, struct json_object *in,
                                  const struct expr_args *a, struct err *e);
