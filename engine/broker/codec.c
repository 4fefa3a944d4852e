/* Reading requests and writing responses: see codec.h. One thread owns a reader or writer.
 * Invariants: a reader's p never passes its end; a bad reader reads nothing more. */
#include "broker/codec.h"

#include <ctype.h>

uint32_t rd_uvarint(struct rd *r)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 35; shift += 7) {
        const char *p = rd_raw(r, 1);
        if (!p)
            return 0;
        v |= (uint64_t)((unsigned char)*p & 0x7f) << shift;
        if (!((unsigned char)*p & 0x80)) {
            if (v <= UINT32_MAX)
                return (uint32_t)v;
            break;
        }
    }
    r->bad = true;
    return 0;
}

void rd_uuid(struct rd *r, uint8_t out[16])
{
    const char *p = rd_raw(r, 16);
    if (p)
        memcpy(out, p, 16);
    else
        memset(out, 0, 16);
}

/* A length by the encoding; wide: int32 in the old one, else int16. -1 for null. */
static int64_t rd_length(struct rd *r, bool wide)
{
    int64_t n;
    if (r->flex)
        n = (int64_t)rd_uvarint(r) - 1;
    else
        n = wide ? rd_i32(r) : rd_i16(r);
    if (n < -1)
        r->bad = true;
    return r->bad ? -1 : n;
}

static struct slice rd_sized(struct rd *r, bool wide)
{
    int64_t n = rd_length(r, wide);
    if (n < 0)
        return (struct slice){NULL, 0};
    const char *p = rd_raw(r, (size_t)n);
    return p ? sl(p, (size_t)n) : (struct slice){NULL, 0};
}

struct slice rd_nstr(struct rd *r)
{
    return rd_sized(r, false);
}

struct slice rd_str(struct rd *r)
{
    struct slice s = rd_sized(r, false);
    if (!s.p)
        r->bad = true;
    return s;
}

struct slice rd_bytes(struct rd *r)
{
    return rd_sized(r, true);
}

int32_t rd_narray(struct rd *r)
{
    int64_t n = rd_length(r, true);
    if (n > (int64_t)rd_left(r))
        r->bad = true;
    return r->bad ? 0 : (int32_t)n;
}

int32_t rd_array(struct rd *r)
{
    int32_t n = rd_narray(r);
    if (n < 0) {
        r->bad = true;
        return 0;
    }
    return n;
}

void rd_tags(struct rd *r)
{
    if (!r->flex)
        return;
    uint32_t n = rd_uvarint(r);
    if (n > rd_left(r))
        r->bad = true;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        rd_uvarint(r);
        rd_raw(r, rd_uvarint(r));
    }
}

/* The range of versions before a field, if there is one; moves *s behind it. */
static bool shape_has(const char **s, int version)
{
    const char *p = *s;
    int lo = 0, hi = INT16_MAX;
    if (*p != '-' && !isdigit((unsigned char)*p))
        return true;
    for (; isdigit((unsigned char)*p); p++)
        lo = lo * 10 + (*p - '0');
    if (*p == '-') {
        p++;
        for (hi = 0; isdigit((unsigned char)*p); p++)
            hi = hi * 10 + (*p - '0');
    }
    *s = p + 1; /* the colon */
    return version >= lo && version <= hi;
}

/* The field's end: behind the matching bracket or the simple type. */
static const char *shape_skip(const char *s)
{
    if (*s == '?')
        s++;
    if (*s == '*')
        return s + 2;
    if (*s != '[')
        return s + 1;
    int depth = 0;
    do {
        depth += *s == '[' ? 1 : *s == ']' ? -1 : 0;
        s++;
    } while (depth);
    return s;
}

static void skim_simple(struct rd *r, char type)
{
    switch (type) {
    case 'b':
        rd_raw(r, 1);
        break;
    case 'h':
        rd_raw(r, 2);
        break;
    case 'i':
        rd_raw(r, 4);
        break;
    case 'l':
        rd_raw(r, 8);
        break;
    case 'u':
        rd_raw(r, 16);
        break;
    case 's':
        rd_str(r);
        break;
    case 'S':
        rd_nstr(r);
        break;
    case 'B':
        rd_bytes(r);
        break;
    default:
        r->bad = true;
    }
}

/* Fields up to the closing bracket or the end of the shape, then the tagged fields. Recursion is as
 * deep as the shape's brackets, which are ours. */
static void skim_fields(struct rd *r, const char *s, int version)
{
    while (*s && *s != ']' && !r->bad) {
        if (*s == ' ') {
            s++;
            continue;
        }
        bool there = shape_has(&s, version);
        const char *next = shape_skip(s);
        bool nullable = *s == '?';
        if (nullable)
            s++;
        if (there && (*s == '[' || *s == '*')) {
            int32_t n = nullable ? rd_narray(r) : rd_array(r);
            for (int32_t i = 0; i < n && !r->bad; i++) {
                if (*s == '[')
                    skim_fields(r, s + 1, version);
                else
                    skim_simple(r, s[1]);
            }
        } else if (there) {
            skim_simple(r, *s);
        }
        s = next;
    }
    rd_tags(r);
}

bool rd_skim(struct rd r, const char *shape, int version)
{
    skim_fields(&r, shape, version);
    return !r.bad;
}

void wr_uvarint(struct wr *w, uint32_t v)
{
    while (v >= 0x80) {
        buf_addc(w->b, (char)(v | 0x80));
        v >>= 7;
    }
    buf_addc(w->b, (char)v);
}

void wr_uuid(struct wr *w, const uint8_t id[16])
{
    buf_add(w->b, id, 16);
}

/* Strings of the old encoding have an int16 length; all that we write is far shorter, and what
 * is not is cut rather than sent with a wrong length. */
void wr_nstr(struct wr *w, struct slice s)
{
    if (s.p && s.n > INT16_MAX)
        s.n = INT16_MAX;
    if (w->flex)
        wr_uvarint(w, s.p ? (uint32_t)s.n + 1 : 0);
    else
        wr_i16(w, s.p ? (int16_t)s.n : -1);
    if (s.p)
        buf_add(w->b, s.p, s.n);
}

void wr_str(struct wr *w, struct slice s)
{
    wr_nstr(w, s.p ? s : sl("", 0));
}

void wr_bytes(struct wr *w, struct slice s)
{
    if (w->flex)
        wr_uvarint(w, s.p ? (uint32_t)s.n + 1 : 0);
    else
        wr_i32(w, s.p ? (int32_t)s.n : -1);
    if (s.p)
        buf_add(w->b, s.p, s.n);
}

void wr_array(struct wr *w, int32_t n)
{
    if (w->flex)
        wr_uvarint(w, (uint32_t)(n + 1));
    else
        wr_i32(w, n);
}

void wr_tags(struct wr *w)
{
    if (w->flex)
        buf_addc(w->b, 0);
}

size_t wr_len_begin(struct wr *w)
{
    size_t at = w->b->n;
    buf_add(w->b, "\0\0\0\0\0", w->flex ? 5 : 4);
    return at;
}

void wr_len_end(struct wr *w, size_t at)
{
    if (buf_error(w->b))
        return;
    if (!w->flex) {
        wr_patch_i32(w->b, at, (int32_t)(w->b->n - at - 4));
        return;
    }
    uint32_t v = (uint32_t)(w->b->n - at - 5) + 1;
    for (int i = 0; i < 4; i++, v >>= 7)
        w->b->p[at + (size_t)i] = (char)(v | 0x80);
    w->b->p[at + 4] = (char)v;
}

void wr_patch_i16(struct buf *b, size_t at, int16_t v)
{
    uint16_t n = htobe16((uint16_t)v);
    if (!buf_error(b))
        memcpy(b->p + at, &n, 2);
}

void wr_patch_i32(struct buf *b, size_t at, int32_t v)
{
    uint32_t n = htobe32((uint32_t)v);
    if (!buf_error(b))
        memcpy(b->p + at, &n, 4);
}

void wr_patch_i64(struct buf *b, size_t at, int64_t v)
{
    uint64_t n = htobe64((uint64_t)v);
    if (!buf_error(b))
        memcpy(b->p + at, &n, 8);
}
