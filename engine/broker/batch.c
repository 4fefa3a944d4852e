/* Record batches v2: header, check, records, building. The format stands in batch_int.h.
 *
 * Threads: pure functions, any thread. Invariant: after batch_check has said yes, header and
 * records agree (count, offset deltas, largest timestamp), so that readers may rely on the header
 * alone. */
#include "broker/batch_int.h"

#include <errno.h>

#include "base/hash.h"

#define CODEC_MAX      4
#define RECORD_MIN     7 /* length, attributes, two deltas, two lengths, header count */
#define VARINT32_BYTES 5
#define VARINT64_BYTES 10

bool batch_head(const char *p, size_t n, struct batch *ret)
{
    if (n < BATCH_HEAD_BYTES || p[16] != 2)
        return false;
    int32_t length = load32(p + 8);
    struct batch b = {
        .base = load64(p),
        .size = (size_t)BATCH_LENGTH_AT + (uint32_t)length,
        .stamp = (uint32_t)load32(p + 12),
        .crc = (uint32_t)load32(p + 17),
        .attributes = load16(p + 21),
        .last_delta = load32(p + 23),
        .base_ms = load64(p + 27),
        .max_ms = load64(p + 35),
        .pid = load64(p + 43),
        .epoch = load16(p + 51),
        .base_seq = load32(p + 53),
        .count = load32(p + 57),
    };
    if (length < BATCH_HEAD_BYTES - BATCH_LENGTH_AT || b.base < 0 || b.last_delta < 0 ||
        b.count < 0 || b.base > INT64_MAX - INT32_MAX - 1)
        return false;
    *ret = b;
    return true;
}

bool batch_crc_ok(const char *p, const struct batch *b)
{
    return crc32c(0, p + 21, b->size - 21) == b->crc;
}

static uint32_t stamp_check(const char *p, uint32_t lag, uint32_t salt)
{
    char n[4];
    save32(n, (int32_t)lag);
    return crc32c(crc32c(salt, p, 12), n, sizeof n) & 0xff;
}

void batch_stamp(char *p, int64_t base, int64_t durable, uint32_t salt)
{
    uint32_t lag = base - durable < STAMP_NO_LAG ? (uint32_t)(base - durable) : STAMP_NO_LAG;
    save64(p, base);
    save32(p + 12, (int32_t)(stamp_check(p, lag, salt) << 24 | lag));
}

bool batch_stamp_ok(const char *p, const struct batch *b, uint32_t salt)
{
    return stamp_check(p, b->stamp & 0xffffff, salt) == b->stamp >> 24;
}

int64_t batch_durable(const struct batch *b)
{
    uint32_t lag = b->stamp & 0xffffff;
    return lag == STAMP_NO_LAG || lag > b->base ? -1 : b->base - lag;
}

/* A zigzag varint of at most `most` bytes. */
static inline bool varint(const char **p, const char *end, int most, int64_t *ret)
{
    if (*p < end && !(**p & 0x80)) { /* nearly all are one byte */
        uint8_t one = (uint8_t) * (*p)++;
        *ret = (int64_t)(one >> 1) ^ -(int64_t)(one & 1);
        return true;
    }
    uint64_t v = 0;
    for (int i = 0; i < most && *p < end; i++) {
        uint8_t c = (uint8_t) * (*p)++;
        v |= (uint64_t)(c & 0x7f) << (7 * i);
        if (!(c & 0x80)) {
            *ret = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
            return most == VARINT64_BYTES || (*ret >= INT32_MIN && *ret <= INT32_MAX);
        }
    }
    return false;
}

/* Bytes with a varint length; -1 is null where allowed. */
static inline bool field(const char **p, const char *end, bool *ret_null, struct slice *ret)
{
    int64_t n;
    if (!varint(p, end, VARINT32_BYTES, &n) || n < -1 || n > end - *p)
        return false;
    if (n == -1 && !ret_null)
        return false;
    if (ret_null)
        *ret_null = n == -1;
    *ret = sl(n == -1 ? NULL : *p, n == -1 ? 0 : (size_t)n);
    *p += ret->n;
    return true;
}

static bool headers(const char **p, const char *end)
{
    int64_t n;
    if (!varint(p, end, VARINT32_BYTES, &n) || n < 0 || n > end - *p)
        return false;
    struct slice s;
    bool null;
    for (; n > 0; n--)
        if (!field(p, end, NULL, &s) || !field(p, end, &null, &s))
            return false;
    return true;
}

bool record_next(struct slice *rest, struct record *ret)
{
    if (rest->n == 0)
        return false; /* its pointer may be NULL */
    const char *p = rest->p, *end = p + rest->n;
    int64_t length, delta;
    struct record r;
    if (!varint(&p, end, VARINT32_BYTES, &length) || length < RECORD_MIN - 1 || length > end - p)
        return false;
    const char *stop = p + length;
    p++; /* attributes, unused by the format */
    if (!varint(&p, stop, VARINT64_BYTES, &r.delta_ms) ||
        !varint(&p, stop, VARINT32_BYTES, &delta) || delta < 0 ||
        !field(&p, stop, &r.null_key, &r.key) || !field(&p, stop, &r.null_value, &r.value) ||
        !headers(&p, stop) || p != stop)
        return false;
    r.delta = (int32_t)delta;
    *rest = sl(stop, (size_t)(end - stop));
    *ret = r;
    return true;
}

int batch_records(const char *p, const struct batch *b, struct buf *room, struct slice *ret)
{
    struct slice in = sl(p + BATCH_HEAD_BYTES, b->size - BATCH_HEAD_BYTES);
    int codec = b->attributes & 7;
    if (codec) {
        buf_reset(room);
        int rc = decompress(codec, in, room);
        if (rc < 0)
            return rc;
        in = buf_slice(room);
    }
    *ret = in;
    return 0;
}

static enum append_error no(enum append_error error, const char **ret_why, const char *why)
{
    *ret_why = why;
    return error;
}

static enum append_error check_head(const char *p, size_t n, const struct batch_rules *rules,
                                    struct batch *b, const char **why)
{
    if (n > 16 && (p[16] == 0 || p[16] == 1))
        return no(APPEND_UNSUPPORTED_FORMAT, why,
                  "message formats 0 and 1 are not stored: send record batches v2");
    if (!batch_head(p, n, b))
        return no(APPEND_CORRUPT, why, "this is no record batch v2");
    if (b->size > n)
        return no(APPEND_CORRUPT, why, "the record batch is cut short");
    if ((int64_t)b->size > rules->max_bytes)
        return no(APPEND_TOO_LARGE, why,
                  "the record batch is larger than the topic's max.message.bytes");
    if (!batch_crc_ok(p, b))
        return no(APPEND_CORRUPT, why, "the CRC of the record batch does not match");
    if (b->count < 1 || b->last_delta != b->count - 1)
        return no(APPEND_INVALID_RECORD, why,
                  "record count and last offset delta of the batch do not agree");
    if ((b->attributes & 7) > CODEC_MAX)
        return no(APPEND_INVALID_RECORD, why, "unknown compression codec");
    if (b->attributes & BATCH_CONTROL)
        return no(APPEND_INVALID_RECORD, why, "clients may not write control batches");
    if (b->attributes & BATCH_TRANSACTIONAL)
        return no(APPEND_INVALID_RECORD, why, "this log does not serve transactions yet");
    if (b->attributes & BATCH_LOG_APPEND_TIME)
        return no(APPEND_INVALID_TIMESTAMP, why, "only the log may set log-append time");
    if (b->attributes & ~7)
        return no(APPEND_INVALID_RECORD, why, "unknown attributes of the batch");
    if (b->pid >= 0 && (b->epoch < 0 || b->base_seq < 0))
        return no(APPEND_INVALID_RECORD, why, "a producer id without epoch or sequence");
    return APPEND_OK;
}

static enum append_error check_records(const char *p, const struct batch *b, bool compact,
                                       struct buf *room, int64_t *ret_max_ms, const char **why)
{
    struct slice rest;
    struct record r;
    int64_t max = INT64_MIN;
    int rc = batch_records(p, b, room, &rest);
    if (rc == -EMSGSIZE)
        return no(APPEND_TOO_LARGE, why, "the decompressed records exceed 128 MiB");
    if (rc == -ENOMEM)
        return no(APPEND_STORAGE, why, "no memory to decompress the batch");
    if (rc < 0)
        return no(APPEND_CORRUPT, why, "the records cannot be decompressed");
    for (int32_t i = 0; i < b->count; i++) {
        if (!record_next(&rest, &r))
            return no(APPEND_INVALID_RECORD, why, "a record is malformed or missing");
        if (r.delta != i)
            return no(APPEND_INVALID_RECORD, why, "the offset deltas are not 0, 1, 2, ...");
        if (compact && r.null_key)
            return no(APPEND_INVALID_RECORD, why, "a record without a key on a compacted topic");
        int64_t ms;
        if (__builtin_add_overflow(b->base_ms, r.delta_ms, &ms))
            return no(APPEND_INVALID_TIMESTAMP, why, "a timestamp is out of range");
        if (ms > max)
            max = ms;
    }
    if (rest.n)
        return no(APPEND_INVALID_RECORD, why, "more records than the batch's header counts");
    *ret_max_ms = max;
    return APPEND_OK;
}

enum append_error batch_check(char *p, size_t n, const struct batch_rules *rules, struct buf *room,
                              struct batch *ret, const char **ret_why)
{
    struct batch b;
    int64_t max_ms;
    enum append_error error = check_head(p, n, rules, &b, ret_why);
    if (!error)
        error = check_records(p, &b, rules->compact, room, &max_ms, ret_why);
    if (error)
        return error;
    if (rules->log_append_time) {
        max_ms = rules->now_ms;
        b.attributes |= BATCH_LOG_APPEND_TIME;
        save16(p + 21, b.attributes);
    }
    if (max_ms != b.max_ms || rules->log_append_time) {
        b.max_ms = max_ms;
        save64(p + 35, max_ms);
        b.crc = crc32c(0, p + 21, b.size - 21);
        save32(p + 17, (int32_t)b.crc);
    }
    *ret = b;
    return APPEND_OK;
}

static size_t put_varint(char *p, int64_t v)
{
    uint64_t u = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
    size_t n = 0;
    for (; u >= 0x80; u >>= 7)
        p[n++] = (char)(u | 0x80);
    p[n++] = (char)u;
    return n;
}

static size_t varint_bytes(int64_t v)
{
    char room[VARINT64_BYTES];
    return put_varint(room, v);
}

static void add_varint(struct buf *b, int64_t v)
{
    char room[VARINT64_BYTES];
    buf_add(b, room, put_varint(room, v));
}

static void add_record(struct buf *b, const struct plog_record *r, int64_t delta)
{
    int64_t klen = r->key.p ? (int64_t)r->key.n : -1;
    int64_t vlen = r->null_value ? -1 : (int64_t)r->value.n;
    size_t size = 1 + 1 + varint_bytes(delta) + varint_bytes(klen) + r->key.n + varint_bytes(vlen) +
                  (r->null_value ? 0 : r->value.n) + 1;
    add_varint(b, (int64_t)size);
    buf_addc(b, 0);
    buf_addc(b, 0);
    add_varint(b, delta);
    add_varint(b, klen);
    buf_add_slice(b, r->key);
    add_varint(b, vlen);
    if (!r->null_value)
        buf_add_slice(b, r->value);
    buf_addc(b, 0);
}

bool record_redate(struct buf *out, struct slice raw, int64_t delta_ms)
{
    const char *p = raw.p, *end = raw.p + raw.n;
    int64_t length, old;
    if (!varint(&p, end, VARINT32_BYTES, &length) || p == end)
        return false;
    char attributes = *p++;
    if (!varint(&p, end, VARINT64_BYTES, &old))
        return false;
    add_varint(out, 1 + (int64_t)varint_bytes(delta_ms) + (end - p));
    buf_addc(out, attributes);
    add_varint(out, delta_ms);
    buf_add(out, p, (size_t)(end - p));
    return true;
}

void batch_build(struct buf *b, const struct plog_record *v, size_t n, int64_t now_ms)
{
    size_t at = b->n;
    char head[BATCH_HEAD_BYTES] = {0};
    buf_add(b, head, sizeof head);
    for (size_t i = 0; i < n; i++)
        add_record(b, &v[i], (int64_t)i);
    if (buf_error(b))
        return;
    char *p = b->p + at;
    size_t size = b->n - at;
    save32(p + 8, (int32_t)(size - BATCH_LENGTH_AT));
    p[16] = 2;
    save32(p + 23, (int32_t)n - 1);
    save64(p + 27, now_ms);
    save64(p + 35, now_ms);
    save64(p + 43, -1);
    save16(p + 51, -1);
    save32(p + 53, -1);
    save32(p + 57, (int32_t)n);
    save32(p + 17, (int32_t)crc32c(0, p + 21, size - 21));
}
