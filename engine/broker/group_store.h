/* Offsets and group metadata as records of __consumer_offsets. Folder-private.
 *
 * Owning thread: the broker's thread. Invariant: what OffsetFetch shows is durable: a commit is
 * applied in memory, and its caller told, only after the sync covered its record. */
#pragma once
#include "broker/group.h"
#include "broker/wire_int.h"

#define OFFSET_METADATA_MAX 4096

struct gstore {
    struct broker *b;
    struct groups groups;
    struct plog *log;    /* the offsets topic has one partition: one sync covers all groups */
    struct list pending; /* commits whose records are not durable yet */
    struct buf batch, text;
};

int gstore_open(struct broker *b, struct err *e); /* makes the topic or reads it */
void gstore_close(struct broker *b);
void gstore_tick(struct broker *b);
void gstore_schedule(struct broker *b); /* sets the broker's timer to the next of the groups */
struct groups *gstore_groups(struct broker *b); /* with the clock of this turn */

/* When the records are durable (0) or failed. Called exactly once, perhaps before the call returns.
 */
typedef void gstore_done(void *arg, int16_t error);

struct offset_commit {
    struct slice topic, metadata;
    int32_t partition, epoch;
    int64_t offset;
    bool drop; /* a tombstone */
};
/* Commits n >= 1 offsets of an existing group in one batch. fn may be NULL. */
void gstore_commit(struct broker *b, struct group *g, const struct offset_commit *v, size_t n,
                   gstore_done *fn, void *arg);
/* Tombstones for the group and all its offsets; the group is freed. */
void gstore_delete_group(struct broker *b, struct group *g, gstore_done *fn, void *arg);
/* Drops every group's offsets of a topic (partition -1) that was deleted. */
void gstore_topic_gone(struct broker *b, struct slice topic, gstore_done *fn, void *arg);
const struct group_offset *gstore_offset(const struct group *g, struct slice topic,
                                         int32_t partition);
static inline struct slice offset_topic(const struct group_offset *o)
{
    return sl(o->text, o->ntopic);
}
static inline struct slice offset_metadata(const struct group_offset *o)
{
    return sl(o->text + o->ntopic, o->nmetadata);
}
