/* Which run of an agent an event will start, told before the router has read it. Pure. */
#pragma once
#include "core/ids.h"
#include "triggers/defs.h"
#include "triggers/event.h"

/* Whether the agent reads events of the topic at all. */
bool route_reads(const struct agent *a, struct slice topic);
/* 1: `run` has its id; 0: the event does not wake the agent; -EINPROGRESS: only an expression child
 * can tell. `key`: of the record, p NULL: none. Only for events with an id of their own (ev->ce).
 */
int route_guess(const struct agent *a, const struct event *ev, struct slice topic, struct slice key,
                int partitions, char run[RUN_ID_MAX]);
