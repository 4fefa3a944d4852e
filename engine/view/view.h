/* The read model: what the journal says of each run, in a SQLite file, for lists, counts and
 * search. Never the truth: it is filled from the journal alone, with the offsets in the same
 * transaction, and a file that is gone, damaged, of another version or of another journal is made
 * anew. It keeps all partitions of the journal, or those that this node owns.
 *
 *   a thread of its own:  open -> read from the stored offsets -> a transaction each 200 ms (2 s
 * while it is far behind) or 50,000 records -> ...
 *   any error of the log: rolled back, tried again from the stored offsets
 *   any error of the file, or another file in its place: made anew
 *
 * The thread has a low priority: under full load it lags, and says so (`complete`).
 *
 * Killed between any two lines, the next process goes on at the offsets of the last transaction.
 *
 * Readers open the file for each question; they may be in any thread and block (milliseconds). */
#pragma once
#include <json-c/json.h>

#include "base/intset.h"
#include "base/logger.h"
#include "config/config.h"
#include "core/ids.h"
#include "view/spans.h"

#define VIEW_LIMIT_MAX 500  /* runs of one answer */
#define VIEW_QUERY_MS  2000 /* for one question: -ETIMEDOUT then */
#define VIEW_TEXT_MAX  512  /* bytes of key, input and error that can be searched, each */

struct view;
struct view_opts {
    const struct config *config; /* borrowed */
    struct log *log;
    const char *data_dir; /* the file is DIR/view/GROUP.db */
    bool owned;           /* only the partitions that view_own names: none before */
};
/* Starts the thread. -EBUSY: another process fills this file; -EACCES and the like of the folder.
 */
struct view *view_open(const struct view_opts *o, struct err *e);
struct view *view_free(struct view *v); /* ends the thread: at most a second */
/* Which partitions to keep, as often as may be. Those that are not owned any more are not answered
 * for; their rows are removed ten minutes later. -ENOMEM: the former set holds. Any thread. */
int view_own(struct view *v, const struct intset *owned);
/* Takes out of `of` what is not kept here. Any thread. */
void view_keeps(struct view *v, struct intset *of);

struct view_progress {
    bool complete;       /* everything that the journal had a moment ago is in it */
    int64_t done, total; /* records of the journal: read, there */
};
void view_progress(struct view *v, struct view_progress *ret);

/* What is asked for; NULL and 0: no condition. Newest first. */
struct view_query {
    const char *agent, *key, *feed, *version, *text; /* text: words, each the begin of one */
    unsigned statuses;                               /* bits 1 << enum run_status */
    int64_t from_ms, to_ms;                          /* requested in [from, to) */
    int64_t limit;
    const char *cursor; /* `next` of an earlier answer */
    /* Only of these; what is not kept here is not told as such. */
    const struct intset *partitions;
};
/* {"runs":[...],"next":cursor or null}; the members of a run are those of trace_json. -EINVAL a bad
 * cursor, -ETIMEDOUT, -EAGAIN: the file is being made. */
int view_list(struct view *v, const struct view_query *q, struct json_object **ret, struct err *e);
/* {"agents":{NAME:{STATUS:N}},"statuses":{STATUS:N}}; of the query only `agent` and `partitions`
 * count. */
int view_counts(struct view *v, const struct view_query *q, struct json_object **ret,
                struct err *e);
/* The place of a run in lists, for `cursor`. */
void view_cursor(struct json_object *run, char *ret, size_t size);
/* 0, or -EINVAL: it is none. */
int view_cursor_check(const char *cursor, struct err *e);
/* Where the run's records lie; its agent's name ("" unknown). Any may be NULL. -ENOENT: it has no
 * record below ret_place->next (which is known if the partition is kept). */
int view_run(struct view *v, const char *id, struct run_place *ret_place, char *ret_agent,
             size_t size, struct err *e);

/* ---- for the command line ---- */
/* Fills the file in this thread until it is complete; `progress` now and then. -EBUSY: a node has
 * it. */
int view_build(const struct view_opts *o, void (*progress)(void *arg, int64_t done, int64_t total),
               void *arg, struct err *e);
/* Removes the file, also under a node that has it: it makes it anew. */
int view_remove(const struct view_opts *o, struct err *e);
/* {path, bytes, runs, partitions:[{partition, next}]}. -ENOENT. */
int view_show(const struct view_opts *o, struct json_object **ret, struct err *e);
