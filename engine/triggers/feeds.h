/* Replays: the marks topic (compacted, one partition) holds
 *   mark/NAME     {"name","time","offsets":{TOPIC:[N,..]}}
 *   replay/NAME
 * {"name","time","from":{TOPIC:[N,..]},"to":{TOPIC:[N,..]},"agent":ID|null,"done":bool} Every node
 * follows it and runs a router for each replay that is not done; they share the work as members of
 * the replay's group, whose commits are the progress. The member that sees all of it done writes
 * done.
 *
 * feeds_*: loop's thread. marks_*: blocking, for the CLI. */
#pragma once
#include "triggers/router.h"

struct feeds;
/* `base` is what every router of a replay has in common (loop, klog, defs, ...); feed, topics and
 * ranges are set here. */
struct feeds *feeds_new(const struct router_opts *base, struct err *e);
void feeds_tick(struct feeds *f);
/* Closes all routers, then fn; frees itself. */
void feeds_close(struct feeds *f, void (*fn)(void *arg), void *arg);

/* Current offsets (high watermarks) of the topics as {TOPIC:[N,..]}. */
int marks_now(struct kadmin *a, const char *const *topics, struct json_object **ret, struct err *e);
/* Offsets at a time: the first record at or after it in each partition. */
int marks_at(struct kadmin *a, const char *const *topics, int64_t unix_ms, struct json_object **ret,
             struct err *e);
int marks_set(struct kadmin *a, const struct names *n, const char *name,
              struct json_object *offsets, struct err *e);
int marks_delete(struct kadmin *a, const struct names *n, const char *name,
                 struct err *e); /* -ENOENT */
/* The event topics that the configuration declares. Borrowed texts; the caller frees the array.
 * NULL: no memory. */
const char **marks_topics(const struct config *c);
/* Writes PREFIX NAME; o NULL: takes it away. */
int marks_put(struct kadmin *a, const struct names *n, const char *prefix, const char *name,
              struct json_object *o, struct err *e);
/* [{...}] of all marks (prefix "mark/") or replays ("replay/"). */
int marks_list(struct kadmin *a, const struct names *n, const char *prefix,
               struct json_object **ret, struct err *e);
int marks_get(struct kadmin *a, const struct names *n, const char *prefix, const char *name,
              struct json_object **ret, struct err *e); /* -ENOENT */
/* Fixes the range and writes the replay. The same NAME with the same range goes on (*ret_existing);
 * with another: -EEXIST.
 * fixed: `to` was asked for, so it must be the same too; else the end that was fixed at the
 * replay's start holds. */
int replays_start(struct kadmin *a, const struct names *n, const char *name,
                  struct json_object *from, struct json_object *to, bool fixed, const char *agent,
                  bool *ret_existing, struct err *e);

struct replay_ask {
    const char *name;  /* NULL: made from the range, so that the same range has the same name */
    const char *agent; /* only for this one; NULL: all */
    /* {TOPIC:[N|null,..]}, or a text: the name of a mark, or a time (RFC 3339). `to` NULL: now. */
    struct json_object *from, *to;
    bool dry_run;
};
struct replay_made {
    char name[129];
    struct json_object *from, *to; /* {TOPIC:[N,..]}, owned */
    int64_t events;                /* at most */
    bool existing;                 /* it was started before, and goes on */
};
/* Reads the ends of the range, completes them and starts the replay. Errors of replays_start,
 * -ENOENT: no such mark, topic or agent; -EINVAL. */
int replays_ask(struct kadmin *a, const struct names *n, const struct config *c,
                const struct replay_ask *q, struct replay_made *ret, struct err *e);
void replay_made_free(struct replay_made *m);
