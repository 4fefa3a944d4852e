/* The records of __consumer_offsets in Kafka's own schemas, so that other tools can read them.
 * Folder-private; pure functions. */
#pragma once
#include "broker/codec.h"
#include "broker/group.h"

/* Keys: version 1 for an offset, 2 for a group. */
void offset_key_write(struct buf *b, struct slice group, struct slice topic, int32_t partition);
void group_key_write(struct buf *b, struct slice group);
/* Value version 3. */
void offset_value_write(struct buf *b, int64_t offset, int32_t epoch, struct slice metadata,
                        int64_t time_ms);
void group_value_write(struct buf *b, const struct group *g);

enum group_key_kind { GROUP_KEY_OTHER, GROUP_KEY_OFFSET, GROUP_KEY_GROUP };
struct group_key {
    struct slice group, topic;
    int32_t partition;
};
/* GROUP_KEY_OTHER: a kind of record that this log does not use. -EBADMSG: cut short. */
int group_key_read(struct slice key, struct group_key *ret);
struct offset_value {
    int64_t offset, time_ms;
    int32_t epoch;
    struct slice metadata;
};
int offset_value_read(struct slice value, struct offset_value *ret); /* versions 0 to 4 */
/* Makes the group what the value (version 0 to 3) says. */
int group_value_read(struct slice value, struct group *g);
