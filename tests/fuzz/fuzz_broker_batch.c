/* Fuzz target of the log's batch check: any bytes as a client's record batch. The length and the
 * CRC are made right first, or nothing would get past them. Rules: what is taken has records that
 * can be walked, with the offsets and the largest timestamp that its header says, and its CRC is
 * right after the log's own changes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "broker/batch_int.h"

#define UNPACKED_MAX ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held, const char *rule)
{
    if (held)
        return;
    fprintf(stderr, "rule broken: %s\n", rule);
    abort();
}

static void walk(const char *p, const struct batch *b, struct buf *room, bool compact)
{
    struct slice rest;
    struct record r;
    int64_t max = INT64_MIN;
    int32_t n = 0;
    must(batch_records(p, b, room, &rest) == 0, "the records decompress again");
    while (record_next(&rest, &r)) {
        must(r.delta == n++, "offset deltas count up");
        must(!compact || !r.null_key, "no null key on a compacted topic");
        if (record_ms(b, &r) > max)
            max = record_ms(b, &r);
    }
    must(rest.n == 0 && n == b->count && n == b->last_delta + 1, "the header counts the records");
    must(max == b->max_ms, "the header has the largest timestamp");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < BATCH_HEAD_BYTES || size > UNPACKED_MAX)
        return 0;
    char *p = malloc(size); /* of exactly this size, so that a read beyond it is seen */
    if (!p)
        return 0;
    memcpy(p, data, size);
    save32(p + 8, (int32_t)(size - BATCH_LENGTH_AT));
    save32(p + 17, (int32_t)crc32c(0, p + 21, size - 21));
    struct batch_rules rules = {INT32_MAX, 1700000000000, data[0] & 1, data[0] & 2};
    struct batch b, again;
    const char *why = NULL;
    struct buf room;
    buf_init(&room, UNPACKED_MAX);
    enum append_error error = batch_check(p, size, &rules, &room, &b, &why);
    must(error == APPEND_OK || why, "a refusal has a reason");
    if (error == APPEND_OK) {
        must(batch_head(p, size, &again) && batch_crc_ok(p, &again), "the CRC is right");
        must(again.max_ms == b.max_ms && b.size == size, "header and result agree");
        walk(p, &b, &room, rules.compact);
    }
    buf_free(&room);
    free(p);
    return 0;
}
