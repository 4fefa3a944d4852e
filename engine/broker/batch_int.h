/* Record batches, format v2: reading the header, checking what a client sent, iterating records,
 * building. Folder-private; pure functions over the caller's bytes, any thread.
 *
 * A batch as it lies on the wire and on disk, big-endian:
 *
 *      at  bytes  field
 *       0      8  base offset                   set by the log
 *       8      4  length of what follows (from 12 on)
 *      12      4  partition leader epoch        on disk the stamp, see below; 0 when read by
 * clients 16      1  magic, 2 17      4  CRC-32C of all from 21 on 21      2  attributes: codec
 * 0-2, log-append time 3, transactional 4, control 5 23      4  last offset delta 27      8  base
 * timestamp 35      8  largest timestamp 43      8  producer id, -1: none 51      2  producer epoch
 *      53      4  base sequence
 *      57      4  record count
 *      61         records, compressed as a whole if a codec is set
 *
 * The stamp uses the four bytes that only the log itself writes: 8 bits that check base offset,
 * length and lag (salted by the partition), then 24 bits of lag: how many offsets before this
 * batch's base offset the durable end stood when the batch was written; all ones: no statement.
 * segment.c tells what it is for. */
#pragma once
#include <endian.h>

#include "base/buf.h"
#include "broker/store.h"

#define BATCH_HEAD_BYTES      61
#define BATCH_LENGTH_AT       12                  /* the length field counts from here */
#define BATCH_UNPACKED_MAX    ((size_t)128 << 20) /* records of one batch, decompressed */
#define BATCH_CONTROL         0x20
#define BATCH_TRANSACTIONAL   0x10
#define BATCH_LOG_APPEND_TIME 0x08
/* Written by the cleaner only (KIP-534): the base timestamp is not a record's but the time from
 * which on the batch's tombstones may go. */
#define BATCH_HORIZON 0x40
#define BATCH_CODEC   0x07
#define STAMP_NO_LAG  0xffffffu

static inline int16_t load16(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return (int16_t)be16toh(v);
}
static inline int32_t load32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return (int32_t)be32toh(v);
}
static inline int64_t load64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return (int64_t)be64toh(v);
}
static inline void save16(char *p, int16_t v)
{
    uint16_t n = htobe16((uint16_t)v);
    memcpy(p, &n, sizeof n);
}
static inline void save32(char *p, int32_t v)
{
    uint32_t n = htobe32((uint32_t)v);
    memcpy(p, &n, sizeof n);
}
static inline void save64(char *p, int64_t v)
{
    uint64_t n = htobe64((uint64_t)v);
    memcpy(p, &n, sizeof n);
}

struct batch {
    int64_t base, base_ms, max_ms, pid;
    size_t size; /* of the whole batch */
    uint32_t stamp, crc;
    int32_t last_delta, base_seq, count;
    int16_t attributes, epoch;
};
static inline int64_t batch_end(const struct batch *b)
{
    return b->base + b->last_delta + 1;
}

/* Reads a header of BATCH_HEAD_BYTES bytes at least. False when it can't be one: magic, a length
 * below the header's, negative counts. Says nothing about the CRC nor whether all bytes are there.
 */
bool batch_head(const char *p, size_t n, struct batch *ret);
bool batch_crc_ok(const char *p, const struct batch *b);
/* Writes base offset and stamp. `durable` is the durable end as of now, at most base. */
void batch_stamp(char *p, int64_t base, int64_t durable, uint32_t salt);
bool batch_stamp_ok(const char *p, const struct batch *b, uint32_t salt);
/* The durable end that the stamp vouches for; -1: none. */
int64_t batch_durable(const struct batch *b);

/* One record of an uncompressed records section. */
struct record {
    int64_t delta_ms;
    int32_t delta; /* offset - base offset */
    struct slice key, value;
    bool null_key, null_value;
};
/* Takes the next record off `rest`. False at the end or when malformed: then rest->n is not 0. */
bool record_next(struct slice *rest, struct record *ret);
/* The same record, `raw` with its length, with another timestamp delta. False: malformed. */
bool record_redate(struct buf *out, struct slice raw, int64_t delta_ms);
/* The records section, decompressed into `room` (emptied first) if need be. -EBADMSG when it can't
 * be decompressed, -EMSGSIZE beyond BATCH_UNPACKED_MAX, -ENOMEM. */
int batch_records(const char *p, const struct batch *b, struct buf *room, struct slice *ret);
static inline int64_t record_ms(const struct batch *b, const struct record *r)
{
    return b->attributes & BATCH_LOG_APPEND_TIME ? b->max_ms : b->base_ms + r->delta_ms;
}

/* Checks one batch of a client, with all its records, and writes what the log decides about time:
 * the largest timestamp where the client's is wrong, log-append time; the CRC is made anew then. */
struct batch_rules {
    int64_t max_bytes, now_ms;
    bool compact, log_append_time;
};
enum append_error batch_check(char *p, size_t n, const struct batch_rules *rules, struct buf *room,
                              struct batch *ret, const char **ret_why);

/* decompress.c: codec 1 gzip, 2 snappy (raw or in snappy-java's framing), 3 lz4 frame, 4 zstd.
 * Appends to out, whose maximum bounds the result. Errors as batch_records. */
int decompress(int codec, struct slice in, struct buf *out);
/* recompress.c: the other way. -ENOMEM, -ENOBUFS beyond the maximum of out. */
int recompress(int codec, struct slice in, struct buf *out);
