/* CRC-32C (Castagnoli, reflected polynomial 0x82f63b78). Thread-safe: the tables are made before
 * main. With SSE4.2 the processor's instruction takes eight bytes at a time, else eight tables do.
 */
#include "base/hash.h"

static uint32_t table[8][256];

__attribute__((constructor)) static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78 : c >> 1;
        table[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (uint32_t i = 0; i < 256; i++)
            table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t by_table(uint32_t c, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        c ^= p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = table[7][c & 0xff] ^ table[6][c >> 8 & 0xff] ^ table[5][c >> 16 & 0xff] ^
            table[4][c >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; p++, n--)
        c = c >> 8 ^ table[0][(c ^ *p) & 0xff];
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_processor(uint32_t c, const uint8_t *p,
                                                               size_t n)
{
    uint64_t wide = c;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof w);
        wide = __builtin_ia32_crc32di(wide, w);
    }
    c = (uint32_t)wide;
    for (; n; p++, n--)
        c = __builtin_ia32_crc32qi(c, *p);
    return c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~by_processor(~crc, p, n);
#endif
    return ~by_table(~crc, p, n);
}

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

/* For the test that holds both ways against each other. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n)
{
    return ~by_table(~crc, p, n);
}
