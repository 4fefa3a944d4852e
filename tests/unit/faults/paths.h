/* The common frame of the memory tests. */
#pragma once
#include "faults.h"
#include "unit.h"

/* A path: 0 with the text of its result (owned by the caller), or -ENOMEM and nothing. It calls
 * fault_off before it makes the text. */
typedef int (*path_fn)(char **ret_text);
/* Each allocation of the path fails in turn: it then gives -ENOMEM, or the text of the round
 * without a fault; nothing leaks. */
void every_allocation(const char *name, path_fn path);
