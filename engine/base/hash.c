/* SHA-256, SipHash and murmur2. Thread-safe. */
#include "base/hash.h"

#include <stdlib.h>

/* The forms that need no memory of their own are deprecated in favour of those that do. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct digest), "libcrypto's state has its place");

static SHA256_CTX *ctx_of(struct digest *d)
{
    return (SHA256_CTX *)d->state;
}

/* None of these has a way to fail; a wrong digest would be a wrong id: stop. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

void digest_init(struct digest *d)
{
    must(SHA256_Init(ctx_of(d)));
}

void digest_part(struct digest *d, struct slice s)
{
    if (s.n > UINT32_MAX)
        abort(); /* no caller takes input of 4 GiB; a cut length would make two inputs alike */
    uint8_t len[4] = {(uint8_t)(s.n >> 24), (uint8_t)(s.n >> 16), (uint8_t)(s.n >> 8),
                      (uint8_t)s.n};
    must(SHA256_Update(ctx_of(d), len, sizeof len));
    if (s.n)
        must(SHA256_Update(ctx_of(d), s.p, s.n));
}

void digest_end(struct digest *d, uint8_t out[SHA256_BYTES])
{
    must(SHA256_Final(out, ctx_of(d)));
}

void sha256(struct slice s, uint8_t out[SHA256_BYTES])
{
    struct digest d;
    digest_init(&d);
    if (s.n)
        must(SHA256_Update(ctx_of(&d), s.p, s.n));
    digest_end(&d, out);
}

static uint32_t murmur2_word(uint32_t h, uint32_t k)
{
    const uint32_t m = 0x5bd1e995;
    k *= m;
    k ^= k >> 24;
    return (h * m) ^ (k * m);
}

uint32_t murmur2_parts(const struct slice *v, size_t n)
{
    uint32_t h, word = 0;
    unsigned have = 0;
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += v[i].n;
    h = 0x9747b28c ^ (uint32_t)total;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < v[i].n; k++) {
            word |= (uint32_t)(uint8_t)v[i].p[k] << 8 * have++;
            if (have == 4) {
                h = murmur2_word(h, word);
                word = have = 0;
            }
        }
    }
    if (have)
        h = (h ^ word) * 0x5bd1e995;
    h ^= h >> 13;
    h *= 0x5bd1e995;
    return h ^ h >> 15;
}

uint32_t murmur2(struct slice s)
{
    return murmur2_parts(&s, 1);
}

static uint64_t rotl(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

uint64_t hash64(struct slice s, uint64_t seed)
{
    uint64_t k1 = rotl(seed, 32) * 0x9e3779b97f4a7c15u;
    uint64_t v[4] = {seed ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
                     seed ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = s.n;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w = load_le(p, 8);
        v[3] ^= w;
        sip_round(v);
        v[0] ^= w;
    }
    uint64_t last = load_le(p, n) | (uint64_t)s.n << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
