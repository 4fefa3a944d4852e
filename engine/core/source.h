/* Floors and run ids: the rule "No duplicates" of DESIGN.md section 3, part of the fold.
 *
 * A request is judged at its own place in the log: it is a duplicate when its source offset is
 * below the highest floor carried by a lower record, or when its run id was requested at a lower
 * offset and is not below that floor. Then its own floor is raised. Requests without an event
 * source are judged by id alone: keyed ones (their id is made from an idempotency key) over a
 * window of record time, all others as long as their run lives, since their ids are random. There
 * are at most SOURCE_API_MAX of these: the oldest are forgotten earlier, all of one millisecond
 * together, so that a fold from a part.state (which has their times, not their order) forgets the
 * same ones.
 *
 * Memory: one entry an id at or above its source's floor. One thread owns it. */
#pragma once
#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "core/rec.h"

#define SOURCE_API_WINDOW_MS                                                                       \
    (24 * 3600 * 1000LL)      /* how long an id without event source is remembered */
#define SOURCE_API_MAX 500000 /* of a partition: 90 MB, 35 MB of part.state */

struct source {
    char *name;
    int64_t floor;   /* everything below was routed and committed; -1: none */
    struct heap ids; /* of struct source_id by offset */
};
struct source_id {
    struct heap_node node; /* key: source offset, or record time for the api source */
    struct source *source;
    int64_t request; /* offset of the request in the journal */
    uint64_t idem;   /* keyed: hash of what was asked for */
    bool keyed;
    char run[RUN_ID_MAX];
};
struct sources {
    struct map by_name, by_run;
    struct source api;
    size_t api_max;                  /* SOURCE_API_MAX; tests lower it */
    bool ignore_floors, ignore_keys; /* RULE_FLOOR, RULE_KEYS switched off (simulation only) */
};
void sources_init(struct sources *s);
void sources_free(struct sources *s);
enum judgement { JUDGED_NEW, JUDGED_DUPLICATE, JUDGED_CONFLICT /* the key is another request's */ };
/* Judges and notes one run.requested. -ENOMEM. */
int sources_judge(struct sources *s, const struct rec *r);
/* The run has ended, or its request came to nothing: without source and key its id is forgotten. */
void sources_ended(struct sources *s, const char *run);
/* Raises a floor (never lowers). 0 or -ENOMEM. */
int sources_raise(struct sources *s, const char *name, int64_t floor);
/* Forgets ids without event source that are older than the window at record time now_ms. */
void sources_expire(struct sources *s, int64_t now_ms);
/* {"floors":{NAME:N,..},"ids":[[RUN,SOURCE,OFFSET,REQUEST],[RUN,"",MS,REQUEST,IDEM],..]} members,
 * without braces, in a fixed order (by name, offset, run). */
/* floor_of (may be NULL) gives the floor to write for a source, at least the known one; ids below
 * it are left out. */
int sources_write(const struct sources *s,
                  int64_t (*floor_of)(void *arg, const char *source, int64_t known), void *arg,
                  struct buf *b);
int sources_read(struct sources *s,
                 struct json_object *o); /* the object with both members; -EPROTO */
size_t sources_ids(const struct sources *s);
