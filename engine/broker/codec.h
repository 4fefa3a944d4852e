/* Reading requests and writing responses of the Kafka protocol. Folder-private.
 *
 * One thread owns a reader or a writer. A reader never leaves its bytes: the first read beyond the
 * end, a negative length or a null where none is allowed makes it `bad` for good, and every read
 * after that gives zero; the caller checks once. Array counts are checked against the bytes that
 * are left before anything is allocated or looped over. `flex` selects the flexible encoding
 * (KIP-482: compact lengths of N + 1, tagged fields). */
#pragma once
#include <endian.h>

#include "base/buf.h"
#include "base/slice.h"

struct rd {
    char *p, *end; /* into the caller's bytes, which Produce changes in place */
    bool flex, bad;
};

static inline struct rd rd_init(char *p, size_t n, bool flex)
{
    return (struct rd){.p = p, .end = p + n, .flex = flex};
}
static inline size_t rd_left(const struct rd *r)
{
    return (size_t)(r->end - r->p);
}
/* The next n bytes, or NULL (and bad). */
static inline char *rd_raw(struct rd *r, size_t n)
{
    if (r->bad || rd_left(r) < n) {
        r->bad = true;
        return NULL;
    }
    char *p = r->p;
    r->p += n;
    return p;
}
static inline int8_t rd_i8(struct rd *r)
{
    const char *p = rd_raw(r, 1);
    return p ? (int8_t)*p : 0;
}
static inline int16_t rd_i16(struct rd *r)
{
    uint16_t v = 0;
    const char *p = rd_raw(r, 2);
    if (p)
        memcpy(&v, p, 2);
    return (int16_t)be16toh(v);
}
static inline int32_t rd_i32(struct rd *r)
{
    uint32_t v = 0;
    const char *p = rd_raw(r, 4);
    if (p)
        memcpy(&v, p, 4);
    return (int32_t)be32toh(v);
}
static inline int64_t rd_i64(struct rd *r)
{
    uint64_t v = 0;
    const char *p = rd_raw(r, 8);
    if (p)
        memcpy(&v, p, 8);
    return (int64_t)be64toh(v);
}
uint32_t rd_uvarint(struct rd *r);
void rd_uuid(struct rd *r, uint8_t out[16]);
/* A string; null makes the reader bad. Points into the request. */
struct slice rd_str(struct rd *r);
/* A nullable string, and nullable bytes: .p is NULL for null, never for an empty one. */
struct slice rd_nstr(struct rd *r);
struct slice rd_bytes(struct rd *r);
/* The count of an array, at most what the bytes left can hold at one byte an element; null gives
 * -1 from rd_narray and makes rd_array bad. */
int32_t rd_array(struct rd *r);
int32_t rd_narray(struct rd *r);
/* Skips the tagged fields that end a structure; nothing in the old encoding. */
void rd_tags(struct rd *r);

/* Walks a whole request by its shape and reports whether it is well formed, so that a handler never
 * begins on a request that turns out to be cut. A shape is a list of fields, blanks ignored:
 *   b h i l u   int8 or bool, int16, int32, int64, uuid
 *   s S B       string, nullable string, nullable bytes
 *   [ ... ]     array of structures        *x   array of one simple type
 *   ?           before an array: may be null
 *   3:x  2-4:x  -7:x   the field is there from version 3, in 2 to 4, up to 7
 * `r` is taken by value: it is not moved. */
bool rd_skim(struct rd r, const char *shape, int version);

struct wr {
    struct buf *b;
    bool flex;
};
static inline void wr_i8(struct wr *w, int8_t v)
{
    buf_addc(w->b, (char)v);
}
static inline void wr_i16(struct wr *w, int16_t v)
{
    uint16_t n = htobe16((uint16_t)v);
    buf_add(w->b, &n, 2);
}
static inline void wr_i32(struct wr *w, int32_t v)
{
    uint32_t n = htobe32((uint32_t)v);
    buf_add(w->b, &n, 4);
}
static inline void wr_i64(struct wr *w, int64_t v)
{
    uint64_t n = htobe64((uint64_t)v);
    buf_add(w->b, &n, 8);
}
void wr_uvarint(struct wr *w, uint32_t v);
void wr_uuid(struct wr *w, const uint8_t id[16]);
void wr_str(struct wr *w, struct slice s);  /* .p NULL is written as the empty string */
void wr_nstr(struct wr *w, struct slice s); /* .p NULL is null */
void wr_bytes(struct wr *w, struct slice s);
void wr_array(struct wr *w, int32_t n); /* -1: null */
void wr_tags(struct wr *w);             /* no tagged fields */
/* A bytes length that is filled in later: returns its place; wr_len_end sets it to what was added
 * since. In the flexible encoding the length takes five bytes whatever its value. */
size_t wr_len_begin(struct wr *w);
void wr_len_end(struct wr *w, size_t at);
/* Overwrites bytes that were written before. */
void wr_patch_i16(struct buf *b, size_t at, int16_t v);
void wr_patch_i32(struct buf *b, size_t at, int32_t v);
void wr_patch_i64(struct buf *b, size_t at, int64_t v);
