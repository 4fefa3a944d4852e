/* See paths.h. */
#include "paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void every_allocation(const char *name, path_fn path)
{
    char *want = NULL;
    CHECK_INT(path(&want), 0);
    NEED(want != NULL);
    for (fault_begin(FAULT_MEMORY); fault_next();) {
        char *seen = NULL;
        fault_on();
        int error = path(&seen);
        fault_off();
        if (error != -ENOMEM && (error || !seen || strcmp(seen, want)))
            fprintf(stderr, "%s, %zu: %s fails: status %d\n", name, fault_rounds(), fault_name(),
                    error);
        CHECK_INT(error == -ENOMEM ? 0 : error, 0);
        CHECK(error == -ENOMEM || fault_hit() || seen);
        if (!error)
            CHECK_STR(seen, want);
        free(seen);
    }
    free(want);
    CHECK(fault_rounds() > 2);
    fault_check_leaks(name);
}
