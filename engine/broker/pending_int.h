/* A reply that waits for several changes to become durable. Folder-private; the broker's thread.
 *
 * The response is written as if all went well; each part remembers the error codes to overwrite
 * when its change fails. The reply is done when pending_end was called and every part has ended. */
#pragma once
#include "broker/wire_int.h"

struct pending {
    struct reply *r;
    int waiting;
};
struct pending_part {
    struct pending *p;
    size_t n;
    size_t at[]; /* places of n error codes in the reply */
};

struct pending *pending_new(struct reply *r); /* NULL: no memory */
/* Room for `max` error codes; NULL: no memory. */
struct pending_part *pending_part(struct pending *p, size_t max);
void pending_part_done(void *part, int16_t error); /* frees the part; a gstore_done */
void pending_end(struct pending *p);
