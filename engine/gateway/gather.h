/* Lists and counts of runs over all nodes of the group: each is asked for the partitions that its
 * read model keeps, by the same routes with `partitions`, and what they say is put together.
 *
 *   own part -> (others are needed) plan -> asked -> put together -> (some is missing) plan anew ->
 *   ... at most ROUNDS times -> answer: complete, or with what is missing
 *
 * A question with `partitions` is never handed on, so questions don't go round in circles. The
 * others are asked with the key of who asks here, so that he sees nothing that he may not see. */
#pragma once
#include "base/intset.h"
#include "gateway/job.h"
#include "view/view.h"

struct gather {
    struct api_job job;
    struct view *view; /* NULL: none here */
    bool counts;
    bool own;            /* only what this node keeps: `partitions` was given */
    struct view_query q; /* its texts are in `texts` */
    char *texts[6];
    struct buf query;   /* of the URL for others, without `partitions` */
    struct intset want; /* what is missing as yet */
    /* gather.c's own */
    struct json_object *found; /* what was answered so far */
    bool any, complete, more, some;
    char *authorization;
    struct asked *asked;
    size_t nasked, open;
    char **avoid; /* addresses of nodes that did not answer, NULL-terminated */
    size_t navoid;
    int rounds, refused;
    struct buf refusal;
};
/* Takes x over, made with calloc and filled. The call is answered in any case. */
void gather_start(struct call *c, struct gather *x);
void gather_drop(struct gather *x); /* instead of that; the call was answered */

/* Pure, for tests: the runs of a list, as others answered them, in order, once each, at most
 * `limit`; *ret_next: the cursor behind the last, "" when nothing follows. `more`: something
 * follows in one of the parts. */
void gather_sort(struct json_object *runs, int64_t limit, bool more, char *ret_next, size_t size);
/* Adds the counts `part` to `all`: {statuses, agents}. */
void gather_add(struct json_object *all, struct json_object *part);
