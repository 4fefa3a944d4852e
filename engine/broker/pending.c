/* Replies that wait for several changes: see pending_int.h. The broker's thread owns them. */
#include <stdlib.h>

#include "broker/pending_int.h"

struct pending *pending_new(struct reply *r)
{
    struct pending *p = malloc(sizeof *p);
    if (p)
        *p = (struct pending){r, 1};
    return p;
}

struct pending_part *pending_part(struct pending *p, size_t max)
{
    struct pending_part *part = calloc(1, sizeof *part + max * sizeof part->at[0]);
    if (!part)
        return NULL;
    part->p = p;
    p->waiting++;
    return part;
}

void pending_end(struct pending *p)
{
    if (--p->waiting > 0)
        return;
    struct reply *r = p->r;
    free(p);
    reply_done(r);
}

void pending_part_done(void *arg, int16_t error)
{
    struct pending_part *part = arg;
    for (size_t i = 0; error && i < part->n; i++)
        wr_patch_i16(&part->p->r->out, part->at[i], error);
    pending_end(part->p);
    free(part);
}
