/* Bytes as text: hexadecimal, Crockford base32, base64, and the check of UTF-8. Thread-safe: pure
 * functions. */
#include <errno.h>

#include "base/hash.h"

void hex_write(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_read(struct slice text, uint8_t *out, size_t n)
{
    if (text.n / 2 != n || text.n % 2)
        return -EINVAL;
    for (size_t i = 0; i < text.n; i++)
        if (hex_value(text.p[i]) < 0)
            return -EINVAL;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(hex_value(text.p[2 * i]) << 4 | hex_value(text.p[2 * i + 1]));
    return 0;
}

void hex_u64(char out[17], uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (56 - 8 * i));
    hex_write(out, b, sizeof b);
}

int hex_read_u64(struct slice text, uint64_t *ret)
{
    if (!text.n || text.n > 16)
        return -EINVAL;
    uint64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        int d = hex_value(text.p[i]);
        if (d < 0)
            return -EINVAL;
        v = v << 4 | (uint64_t)d;
    }
    *ret = v;
    return 0;
}

void base32_write(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | p[i];
        have += 8;
        while (have >= 5) {
            have -= 5;
            *out++ = digits[bits >> have & 31];
        }
    }
    if (have)
        *out++ = digits[bits << (5 - have) & 31];
    *out = 0;
}

int base64_write(struct buf *b, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)p[i] << 16;
        if (left > 1)
            v |= (uint32_t)p[i + 1] << 8;
        if (left > 2)
            v |= p[i + 2];
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        if (buf_add(b, four, sizeof four))
            break;
    }
    return buf_error(b);
}

void base64url_write(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t have = 0;
    int bits = 0;
    for (size_t i = 0; i < n; i++) {
        have = have << 8 | p[i];
        for (bits += 8; bits >= 6; bits -= 6)
            *out++ = digits[have >> (bits - 6) & 63];
    }
    if (bits)
        *out++ = digits[have << (6 - bits) & 63];
    *out = 0;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_read(struct slice text, struct buf *b)
{
    if (text.n % 4)
        return -EINVAL;
    size_t before = b->n;
    for (size_t i = 0; i < text.n; i += 4) {
        const char *q = text.p + i;
        bool last = i + 4 == text.n;
        size_t pad = last && q[3] == '=' ? (q[2] == '=' ? 2 : 1) : 0;
        int v[4] = {0};
        for (size_t k = 0; k < 4 - pad; k++)
            if ((v[k] = base64_value(q[k])) < 0)
                goto bad;
        uint32_t w =
            (uint32_t)v[0] << 18 | (uint32_t)v[1] << 12 | (uint32_t)v[2] << 6 | (uint32_t)v[3];
        /* Bits behind the end must be zero, so that one text means one value and the other way
         * round. */
        if ((pad == 1 && (w & 0xff)) || (pad == 2 && (w & 0xffff)))
            goto bad;
        char three[3] = {(char)(w >> 16), (char)(w >> 8), (char)w};
        if (buf_add(b, three, 3 - pad))
            return buf_error(b);
    }
    return buf_error(b);
bad:
    b->n = before;
    if (b->p)
        b->p[b->n] = 0;
    return -EINVAL;
}

bool utf8_valid(struct slice s)
{
    const uint8_t *p = (const uint8_t *)s.p, *end = s.n ? p + s.n : p;
    while (p < end) {
        uint8_t c = *p;
        if (c < 0x80) {
            p++;
            continue;
        }
        int more = c >= 0xc2 && c <= 0xdf   ? 1
                   : (c & 0xf0) == 0xe0     ? 2
                   : c >= 0xf0 && c <= 0xf4 ? 3
                                            : 0;
        if (!more || end - p <= more)
            return false;
        for (int i = 1; i <= more; i++)
            if ((p[i] & 0xc0) != 0x80)
                return false;
        /* Overlong forms, surrogates, beyond U+10FFFF. */
        if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ||
            (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
            return false;
        p += more + 1;
    }
    return true;
}
