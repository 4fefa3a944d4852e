/* Record batches: what is taken, what is refused, and that all codecs come back as they went in. */
#include <errno.h>

#include "store_fixture.h"

SUITE("broker/batch")

#define ROOM ((size_t)64 << 20)

static enum append_error check_bytes(char *p, size_t n, const char **why)
{
    struct batch_rules rules = {1 << 20, T0, false, false};
    struct batch b;
    struct buf room;
    *why = "";
    buf_init(&room, BATCH_UNPACKED_MAX);
    enum append_error e = batch_check(p, n, &rules, &room, &b, why);
    buf_free(&room);
    return e;
}

static enum append_error check_spec(const struct spec *spec)
{
    struct buf b;
    const char *why;
    buf_init(&b, ROOM);
    make_batch(&b, spec);
    enum append_error e = check_bytes(b.p, b.n, &why);
    buf_free(&b);
    return e;
}

TEST(takes_every_codec)
{
    for (int codec = 0; codec <= 4; codec++)
        CHECK_INT(check_spec(&(struct spec){.n = 50, .codec = codec, .value_bytes = 200}),
                  APPEND_OK);
    CHECK_INT(check_spec(&(struct spec){.n = 50, .codec = 2, .value_bytes = 200, .xerial = true}),
              APPEND_OK);
}

TEST(notices_every_changed_byte_of_what_the_crc_covers)
{
    struct buf b;
    const char *why;
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 3});
    for (size_t i = 16; i < b.n; i++) {
        b.p[i] ^= 0x40;
        CHECK(check_bytes(b.p, b.n, &why) != APPEND_OK);
        CHECK(why[0] != 0);
        b.p[i] ^= 0x40;
    }
    CHECK_INT(check_bytes(b.p, b.n, &why), APPEND_OK);
    buf_free(&b);
}

TEST(refuses_every_cut_length)
{
    for (int k = 0; k <= 5;
         k++) { /* snappy also in snappy-java's framing, cut down to the empty one */
        int codec = k == 5 ? 2 : k;
        struct buf b, c;
        const char *why;
        buf_init(&b, ROOM);
        make_batch(&b, &(struct spec){.n = 3, .codec = codec, .xerial = k == 5});
        for (size_t n = 0; n < b.n; n++) {
            CHECK(check_bytes(b.p, n, &why) != APPEND_OK);
            if (n < BATCH_HEAD_BYTES)
                continue;
            buf_init(&c, ROOM); /* cut, but with length and CRC made right again */
            buf_add(&c, b.p, n);
            seal_batch(c.p, n);
            CHECK(check_bytes(c.p, n, &why) != APPEND_OK);
            buf_free(&c);
        }
        buf_free(&b);
    }
}

static enum append_error patched(size_t at, int bytes, int64_t v)
{
    struct buf b;
    const char *why;
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 3});
    if (bytes == 2)
        save16(b.p + at, (int16_t)v);
    else if (bytes == 4)
        save32(b.p + at, (int32_t)v);
    else
        save64(b.p + at, v);
    seal_batch(b.p, b.n);
    enum append_error e = check_bytes(b.p, b.n, &why);
    buf_free(&b);
    return e;
}

TEST(refuses_headers_that_do_not_agree_with_the_records)
{
    CHECK_INT(patched(57, 4, 2), APPEND_INVALID_RECORD);
    CHECK_INT(patched(57, 4, 4), APPEND_INVALID_RECORD);
    CHECK_INT(patched(23, 4, 5), APPEND_INVALID_RECORD);
    CHECK_INT(patched(21, 2, 0x20), APPEND_INVALID_RECORD);
    CHECK_INT(patched(21, 2, 0x10), APPEND_INVALID_RECORD);
    CHECK_INT(patched(21, 2, 0x08), APPEND_INVALID_TIMESTAMP);
    CHECK_INT(patched(21, 2, 7), APPEND_INVALID_RECORD);
    CHECK_INT(patched(27, 8, INT64_MAX), APPEND_INVALID_TIMESTAMP);
}

TEST(names_old_formats_as_such)
{
    struct buf b;
    const char *why;
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 1});
    b.p[16] = 1;
    CHECK_INT(check_bytes(b.p, b.n, &why), APPEND_UNSUPPORTED_FORMAT);
    buf_free(&b);
}

TEST(corrects_a_wrong_largest_timestamp)
{
    struct buf b, room;
    const char *why;
    struct batch_rules rules = {1 << 20, T0, false, false};
    struct batch h;
    buf_init(&b, ROOM);
    buf_init(&room, ROOM);
    make_batch(&b, &(struct spec){.n = 5});
    save64(b.p + 35, 12345);
    seal_batch(b.p, b.n);
    CHECK_INT(batch_check(b.p, b.n, &rules, &room, &h, &why), APPEND_OK);
    CHECK_INT(h.max_ms, T0 + 4);
    CHECK(batch_head(b.p, b.n, &h) && batch_crc_ok(b.p, &h));
    CHECK_INT(h.max_ms, T0 + 4);
    buf_free(&b);
    buf_free(&room);
}

TEST(bounds_what_it_decompresses)
{
    for (int codec = 1; codec <= 4; codec++) {
        struct buf b, room;
        struct slice records;
        struct batch h;
        buf_init(&b, ROOM);
        buf_init(&room, 100000);
        make_batch(&b, &(struct spec){.n = 40, .codec = codec, .value_bytes = 4000});
        NEED(batch_head(b.p, b.n, &h));
        CHECK_INT(batch_records(b.p, &h, &room, &records), -EMSGSIZE);
        buf_free(&b);
        buf_free(&room);
    }
}

TEST(the_stamp_tells_the_durable_end_and_notices_a_moved_batch)
{
    struct buf b;
    struct batch h;
    buf_init(&b, ROOM);
    make_batch(&b, &(struct spec){.n = 2});
    batch_stamp(b.p, 1000, 990, 77);
    NEED(batch_head(b.p, b.n, &h));
    CHECK_INT(h.base, 1000);
    CHECK_INT(batch_durable(&h), 990);
    CHECK(batch_stamp_ok(b.p, &h, 77) && !batch_stamp_ok(b.p, &h, 78));
    b.p[7] ^= 1;
    NEED(batch_head(b.p, b.n, &h));
    CHECK(!batch_stamp_ok(b.p, &h, 77));
    batch_stamp(b.p, (int64_t)1 << 40, 5, 77);
    NEED(batch_head(b.p, b.n, &h));
    CHECK(batch_stamp_ok(b.p, &h, 77));
    CHECK_INT(batch_durable(&h), -1);
    buf_free(&b);
}
