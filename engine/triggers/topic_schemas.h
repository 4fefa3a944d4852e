/* The schemas of topics (topics/NAME.yaml), compiled: what the data of their events must fit. The
 * configuration outlives them. One thread. */
#pragma once
#include "config/config.h"
#include "flow/expr.h"

struct topic_schemas;
/* Of all topics that have one, problems with their places in `d`; NULL when there are errors, or no
 * memory. `deep`: compiled in a child too; for `topics apply`. */
struct topic_schemas *topic_schemas_new(const struct config *c, bool deep, struct diags *d);
struct topic_schemas *topic_schemas_free(struct topic_schemas *s);
/* Borrowed; NULL: the topic has none. */
const struct tmpl *topic_schema(const struct topic_schemas *s, struct slice topic);
