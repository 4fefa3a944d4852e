/* The codec and the records of the offsets topic: what is written reads back the same, and bytes
 * that are cut, too long or random never lead outside the buffer. */
#include <stdlib.h>

#include "base/clock.h"
#include "broker/codec.h"
#include "broker/group_record.h"
#include "broker/wire_int.h"
#include "unit.h"

SUITE("broker/wire/codec")

TEST(numbers_and_strings_come_back_in_both_encodings)
{
    for (int flex = 0; flex < 2; flex++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        struct wr w = {&b, flex};
        wr_i8(&w, -5);
        wr_i16(&w, -300);
        wr_i32(&w, 70000);
        wr_i64(&w, INT64_MIN);
        wr_str(&w, SL("abc"));
        wr_nstr(&w, (struct slice){NULL, 0});
        wr_str(&w, SL(""));
        wr_bytes(&w, SL("xy"));
        wr_bytes(&w, (struct slice){NULL, 0});
        wr_array(&w, 2);
        wr_i8(&w, 1);
        wr_i8(&w, 2);
        wr_array(&w, -1);
        wr_tags(&w);
        struct rd r = rd_init(b.p, b.n, flex);
        CHECK_INT(rd_i8(&r), -5);
        CHECK_INT(rd_i16(&r), -300);
        CHECK_INT(rd_i32(&r), 70000);
        CHECK(rd_i64(&r) == INT64_MIN);
        CHECK(sl_is(rd_str(&r), "abc"));
        CHECK(rd_nstr(&r).p == NULL);
        struct slice empty = rd_str(&r);
        CHECK(empty.p != NULL && empty.n == 0);
        CHECK(sl_is(rd_bytes(&r), "xy"));
        CHECK(rd_bytes(&r).p == NULL);
        CHECK_INT(rd_array(&r), 2);
        rd_i16(&r);
        CHECK_INT(rd_narray(&r), -1);
        rd_tags(&r);
        CHECK(!r.bad);
        CHECK_INT(rd_left(&r), 0);
        buf_free(&b);
    }
}

TEST(a_length_set_later_reads_as_bytes)
{
    for (int flex = 0; flex < 2; flex++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        struct wr w = {&b, flex};
        size_t at = wr_len_begin(&w);
        for (int i = 0; i < 300; i++)
            wr_i8(&w, (int8_t)i);
        wr_len_end(&w, at);
        struct rd r = rd_init(b.p, b.n, flex);
        CHECK_INT(rd_bytes(&r).n, 300);
        CHECK(!r.bad);
        CHECK_INT(rd_left(&r), 0);
        buf_free(&b);
    }
}

TEST(reading_beyond_the_end_sticks)
{
    char bytes[] = {0, 1, 2};
    struct rd r = rd_init(bytes, sizeof bytes, false);
    CHECK_INT(rd_i32(&r), 0);
    CHECK(r.bad);
    CHECK_INT(rd_i8(&r), 0);
    CHECK_INT(rd_left(&r), 3);
}

TEST(an_array_larger_than_what_is_left_is_refused)
{
    char bytes[] = {0x7f, -1, -1, -1, 0, 0};
    struct rd r = rd_init(bytes, sizeof bytes, false);
    CHECK_INT(rd_array(&r), 0);
    CHECK(r.bad);
    char minus_two[] = {-1, -1, -1, -2};
    r = rd_init(minus_two, sizeof minus_two, false);
    CHECK_INT(rd_narray(&r), 0);
    CHECK(r.bad);
}

TEST(a_varint_over_32_bits_is_refused)
{
    char bytes[] = {-1, -1, -1, -1, 0x1f};
    struct rd r = rd_init(bytes, sizeof bytes, true);
    rd_uvarint(&r);
    CHECK(r.bad);
    char endless[] = {-1, -1, -1, -1, -1, -1, -1};
    r = rd_init(endless, sizeof endless, true);
    rd_uvarint(&r);
    CHECK(r.bad);
}

TEST(unknown_tags_are_skipped)
{
    char bytes[] = {2, 7, 3, 'a', 'b', 'c', 9, 0, 42};
    struct rd r = rd_init(bytes, sizeof bytes, true);
    rd_tags(&r);
    CHECK_INT(rd_i8(&r), 42);
    CHECK(!r.bad);
}

TEST(a_shape_follows_versions_and_nulls)
{
    char v0[] = {0, 1, 'a'};                  /* -1:s 2:i */
    char v2[] = {0, 0, 0, 7, -1, -1, -1, -1}; /* 2:i, then a null array */
    CHECK(rd_skim(rd_init(v0, sizeof v0, false), "-1:s 2:i", 0));
    CHECK(rd_skim(rd_init(v2, sizeof v2, false), "-1:s 2:i ?[s*i]", 2));
    CHECK(!rd_skim(rd_init(v2, sizeof v2, false), "-1:s 2:i [s*i]", 2));
    CHECK(!rd_skim(rd_init(v0, 2, false), "-1:s 2:i", 0));
    char nested[] = {0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 6};
    CHECK(rd_skim(rd_init(nested, sizeof nested, false), "[s*i]", 0));
    CHECK(rd_skim(rd_init(nested, sizeof nested, false), "[s[i]]", 0));
    CHECK(!rd_skim(rd_init(nested, sizeof nested - 1, false), "[s[i]]", 0));
}

/* Every API's shape over random bytes: ends, stays inside (ASan), and never accepts what is cut. */
TEST(random_bytes_never_lead_outside)
{
    size_t n;
    const struct api *a = api_table(&n);
    uint64_t seed = random_u64(), x = seed;
    for (size_t i = 0; i < n; i++) {
        for (int round = 0; round < 300; round++) {
            size_t len = (size_t)round % 64;
            char *p = malloc(len + 1); /* exact size, so that a read beyond it is seen */
            for (size_t k = 0; k < len; k++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                p[k] = (char)((x >> 33) % 5 ? (x >> 40) % 4 : x >> 48);
            }
            for (int v = a[i].min; v <= a[i].max; v++)
                (void)rd_skim(rd_init(p, len, v >= a[i].flex_from), a[i].shape, v);
            free(p);
        }
    }
    CHECK(true);
}

TEST(the_table_is_sorted_and_its_ranges_make_sense)
{
    size_t n;
    const struct api *a = api_table(&n);
    for (size_t i = 0; i < n; i++) {
        CHECK(a[i].min <= a[i].max);
        CHECK(i == 0 || a[i - 1].key < a[i].key);
        CHECK(api_find(a[i].key) == &a[i]);
    }
    CHECK(api_find(24) == NULL); /* transactions are not there yet */
    /* librdkafka before 2.11 compresses only when it finds these. */
    CHECK_INT(api_find(0)->min, 0);
    CHECK(api_find(0)->max >= 7);
    CHECK(api_find(1)->max >= 10);
    CHECK_INT(api_find(10)->min, 0);
    CHECK_INT(api_find(11)->min, 0);
}

TEST(offset_records_come_back)
{
    struct buf b;
    struct group_key k;
    struct offset_value v;
    buf_init(&b, 1 << 16);
    offset_key_write(&b, SL("g"), SL("topic"), 7);
    CHECK_INT(group_key_read(buf_slice(&b), &k), GROUP_KEY_OFFSET);
    CHECK(sl_is(k.group, "g") && sl_is(k.topic, "topic"));
    CHECK_INT(k.partition, 7);
    CHECK(group_key_read(sl(b.p, b.n - 1), &k) < 0);
    buf_reset(&b);
    offset_value_write(&b, 42, 3, SL("meta"), 1000);
    NEED(offset_value_read(buf_slice(&b), &v) == 0);
    CHECK_INT(v.offset, 42);
    CHECK_INT(v.epoch, 3);
    CHECK_INT(v.time_ms, 1000);
    CHECK(sl_is(v.metadata, "meta"));
    for (size_t n = 0; n < b.n; n++)
        CHECK(offset_value_read(sl(b.p, n), &v) < 0);
    buf_free(&b);
}

TEST(other_versions_of_records_are_read_or_left)
{
    struct group_key k;
    struct offset_value v;
    char key0[] = {0, 0, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 1};
    CHECK_INT(group_key_read(sl(key0, sizeof key0), &k), GROUP_KEY_OFFSET);
    char key9[] = {0, 9, 1, 2, 3};
    CHECK_INT(group_key_read(sl(key9, sizeof key9), &k), GROUP_KEY_OTHER);
    char v1[] = {0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 'm', 0, 0,
                 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,   10};
    NEED(offset_value_read(sl(v1, sizeof v1), &v) == 0);
    CHECK_INT(v.offset, 5);
    CHECK_INT(v.epoch, -1);
    char v9[] = {0, 9};
    CHECK(offset_value_read(sl(v9, sizeof v9), &v) < 0);
}
