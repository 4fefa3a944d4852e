/* Digests and encodings against published vectors and against each other. */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "unit.h"

SUITE("base/hash")

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

TEST(sha256_and_length_prefixed_parts)
{
    uint8_t out[SHA256_BYTES], other[SHA256_BYTES];
    char hex[65];
    sha256(SL("abc"), out);
    hex_write(hex, out, sizeof out);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256(SL(""), out);
    hex_write(hex, out, sizeof out);
    CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct digest d;
    digest_init(&d);
    digest_part(&d, SL("ab"));
    digest_part(&d, SL("c"));
    digest_end(&d, out);
    sha256(SL("\0\0\0\2ab\0\0\0\1c"), other);
    CHECK(memcmp(out, other, sizeof out) == 0);
    digest_init(&d);
    digest_part(&d, SL("a"));
    digest_part(&d, SL("bc"));
    digest_end(&d, other);
    CHECK(memcmp(out, other, sizeof out) != 0);
}

TEST(crc32c_of_rfc_3720_and_both_ways_agree)
{
    uint8_t zeros[32] = {0}, data[1000];
    CHECK_INT(crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_INT(crc32c(0, zeros, 32), 0x8a9136aa);
    CHECK_INT(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    random_bytes(data, sizeof data);
    for (size_t n = 0; n < 300; n++) {
        size_t at = n % 13;
        CHECK_INT(crc32c(0, data + at, n), crc32c_by_table(0, data + at, n));
    }
}

TEST(murmur2_as_kafka_partitions)
{
    /* From the tests of Kafka's own clients. */
    CHECK_INT((int32_t)murmur2(SL("21")), -973932308);
    CHECK_INT((int32_t)murmur2(SL("foobar")), -790332482);
    CHECK_INT((int32_t)murmur2(SL("a-little-bit-long-string")), -985981536);
    CHECK_INT((int32_t)murmur2(SL("a-little-bit-longer-string")), -1486304829);
    CHECK_INT((int32_t)murmur2(SL("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8")), -58897971);
    CHECK_INT((int32_t)murmur2(SL("abc")), 479470107);
}

TEST(hash64_depends_on_every_byte_and_the_seed)
{
    char text[33] = "0123456789abcdef0123456789abcdef";
    uint64_t h = hash64(sl(text, 32), 1);
    CHECK(h == hash64(sl(text, 32), 1));
    CHECK(h != hash64(sl(text, 32), 2));
    for (int i = 0; i < 32; i++) {
        text[i] ^= 1;
        CHECK(h != hash64(sl(text, 32), 1));
        text[i] ^= 1;
    }
    for (size_t n = 0; n < 32; n++)
        CHECK(h != hash64(sl(text, n), 1));
}

TEST(hexadecimal_both_ways)
{
    char text[17];
    uint64_t v;
    uint8_t two[2] = {9, 9};
    hex_u64(text, 0xfedcba9876543210);
    CHECK_STR(text, "fedcba9876543210");
    CHECK_INT(hex_read_u64(SL("FEdcba9876543210"), &v), 0);
    CHECK(v == 0xfedcba9876543210);
    CHECK_INT(hex_read_u64(SL("f"), &v), 0);
    CHECK_INT(v, 15);
    CHECK_INT(hex_read_u64(SL(""), &v), -EINVAL);
    CHECK_INT(hex_read_u64(SL("12345678901234567"), &v), -EINVAL);
    CHECK_INT(hex_read(SL("00ag"), two, 2), -EINVAL);
    CHECK_INT(two[0], 9);
    CHECK_INT(hex_read(SL("00a"), two, 1), -EINVAL);
    CHECK_INT(hex_read(SL("00ab"), two, 2), 0);
    CHECK_INT(two[1], 0xab);
}

TEST(base32_and_base64)
{
    char out[32];
    base32_write(out, (const uint8_t *)"\xff\xff\xff\xff\xff\x00", 6);
    CHECK_STR(out, "zzzzzzzz00");
    base32_write(out, (const uint8_t *)"", 0);
    CHECK_STR(out, "");
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct buf b;
        buf_init(&b, 100);
        base64_write(&b, sl_str(pairs[i][0]));
        CHECK(sl_is(buf_slice(&b), pairs[i][1]));
        buf_reset(&b);
        CHECK_INT(base64_read(sl_str(pairs[i][1]), &b), 0);
        CHECK(sl_is(buf_slice(&b), pairs[i][0]));
        buf_free(&b);
    }
    static const char *const bad[] = {"Zg",   "Zg=",  "Zh==", "Zm9=", "Zg==Zg==",
                                      "Z===", "Zm8*", "====", NULL};
    for (size_t i = 0; bad[i]; i++) {
        struct buf b;
        buf_init(&b, 100);
        CHECK_INT(base64_read(sl_str(bad[i]), &b), -EINVAL);
        CHECK_INT(b.n, 0);
        buf_free(&b);
    }
}

TEST(base64url_has_no_padding)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg"},
                                           {"fo", "Zm8"},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg"},
                                           {"fooba", "Zm9vYmE"},
                                           {"\xff\xfe\xfd", "__79"},
                                           {"\xfb\xf0", "-_A"}};
    char out[16];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        base64url_write(out, (const uint8_t *)pairs[i][0], strlen(pairs[i][0]));
        CHECK_STR(out, pairs[i][1]);
    }
}

TEST(utf8_refuses_what_unicode_refuses)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf",
                                       NULL};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff",
                                      "\xc3(",
                                      NULL};
    for (int i = 0; good[i]; i++)
        CHECK(utf8_valid(sl_str(good[i])));
    for (int i = 0; bad[i]; i++)
        CHECK(!utf8_valid(sl_str(bad[i])));
}
