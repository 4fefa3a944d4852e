/* Digests and text encodings of bytes. Thread-safe. */
#pragma once
#include "base/buf.h"

#define SHA256_BYTES 32
/* An incremental SHA-256 over length-prefixed parts (4-byte big-endian length before each), so that
 * ("ab","c") and ("a","bc") differ. */
struct digest {
    uint64_t
        state[16]; /* libcrypto's, in place: what is computed here are names, so it may not fail */
};
void digest_init(struct digest *d);
void digest_part(struct digest *d, struct slice s);
void digest_end(struct digest *d, uint8_t out[SHA256_BYTES]);
void sha256(struct slice s, uint8_t out[SHA256_BYTES]);

/* CRC-32C (Castagnoli), start with crc = 0; hardware instructions where the processor has them. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* Kafka's default partitioner: murmur2 with seed 0x9747b28c; the partition is (h & 0x7fffffff) %
 * count. */
uint32_t murmur2(struct slice s);
uint32_t murmur2_parts(const struct slice *v, size_t n); /* of the parts one behind the other */
/* SipHash-1-3 with a 64-bit seed, for hash tables fed by users. */
uint64_t hash64(struct slice s, uint64_t seed);

void hex_write(char *out, const uint8_t *p, size_t n);   /* 2n characters and a zero */
int hex_read(struct slice text, uint8_t *out, size_t n); /* exactly n bytes, else -EINVAL */
void hex_u64(char out[17], uint64_t v);                  /* 16 digits and a zero */
int hex_read_u64(struct slice text, uint64_t *ret);      /* 1 to 16 digits */
void base32_write(char *out, const uint8_t *p,
                  size_t n); /* Crockford, lower case: ceil(8n/5) characters and a zero */
int base64_write(struct buf *b, struct slice s);
/* RFC 4648, section 5, without padding: ceil(4n/3) characters and a zero. */
void base64url_write(char *out, const uint8_t *p, size_t n);
int base64_read(struct slice text, struct buf *b); /* standard alphabet, padding required */
bool utf8_valid(struct slice s);
