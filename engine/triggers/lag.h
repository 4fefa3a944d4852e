/* Consumer groups looked at, blocking, for commands and the gateway. */
#pragma once
#include "log/kadmin.h"
#include "triggers/names.h"

/* The group of the nodes: its state, and its members as [{member, node, host, topic, partition}],
 * one for each partition assigned. -ENOENT: no node has run yet. The caller frees both. */
int lag_members(struct kadmin *a, const struct names *n, char **ret_state,
                struct json_object **ret_members, struct err *e);
/* Adds {topic, partition, low, high, committed, lag} of each partition of a topic to the array
 * `list`; committed null: nothing yet, and the lag is everything. -ENOENT: no such topic. */
int lag_add(struct kadmin *a, const char *group, const char *topic, struct json_object *list,
            struct err *e);
