/* What the targets share: a rule that is checked in every build, and records in a form that a
 * fuzzer can change piece by piece.
 *
 * A record: 1 byte kind, 1 byte how many offsets lie between (0: none), key, 1 byte number of
 * headers, each a name and a value, value. Key, name and value: 2 bytes length, big-endian (0xffff:
 * null), and the bytes. What is cut off is empty. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_HEADERS_MAX 24
struct fuzz_record {
    int kind, gap;
    struct slice key, value;
    struct {
        struct slice name, value;
    } headers[FUZZ_HEADERS_MAX];
    size_t nheaders;
};

static inline void must(bool held, const char *rule)
{
    if (held)
        return;
    fprintf(stderr, "rule broken: %s\n", rule);
    abort();
}

static inline unsigned fuzz_byte(struct slice *in)
{
    unsigned v = in->n ? (unsigned char)in->p[0] : 0;
    *in = sl_from(*in, in->n ? 1 : 0);
    return v;
}

static inline struct slice fuzz_bytes(struct slice *in)
{
    unsigned n = fuzz_byte(in) << 8;
    n |= fuzz_byte(in);
    if (n == 0xffff)
        return (struct slice){NULL, 0};
    struct slice s = sl(in->p, n < in->n ? n : in->n);
    *in = sl_from(*in, s.n);
    return s.n ? s : SL("");
}

/* False at the end. */
static inline bool fuzz_record_read(struct slice *in, struct fuzz_record *r)
{
    if (!in->n)
        return false;
    r->kind = (int)fuzz_byte(in);
    r->gap = (int)fuzz_byte(in);
    r->key = fuzz_bytes(in);
    r->nheaders = fuzz_byte(in) % (FUZZ_HEADERS_MAX + 1);
    for (size_t i = 0; i < r->nheaders; i++) {
        r->headers[i].name = fuzz_bytes(in);
        r->headers[i].value = fuzz_bytes(in);
    }
    r->value = fuzz_bytes(in);
    return true;
}

static inline void fuzz_put(struct buf *b, struct slice s)
{
    unsigned n = s.p ? (unsigned)s.n : 0xffff;
    must(s.n < 0xffff, "a seed fits");
    buf_addc(b, (char)(n >> 8));
    buf_addc(b, (char)n);
    if (s.p)
        buf_add_slice(b, s);
}

static inline void fuzz_record_write(struct buf *b, const struct fuzz_record *r)
{
    buf_addc(b, (char)r->kind);
    buf_addc(b, (char)r->gap);
    fuzz_put(b, r->key);
    buf_addc(b, (char)r->nheaders);
    for (size_t i = 0; i < r->nheaders; i++) {
        fuzz_put(b, r->headers[i].name);
        fuzz_put(b, r->headers[i].value);
    }
    fuzz_put(b, r->value);
}
