/* Topics: creation, deletion, growth, settings, the lock, producer ids, the file that names them.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_fixture.h"

SUITE("broker/topics")

TEST(a_topic_survives_with_id_partitions_and_settings)
{
    struct fixture f = {0};
    uint8_t id[16];
    struct topic *t;
    struct err e = {0};
    const struct slice v[2][2] = {{SL("retention.ms"), SL("1234")},
                                  {SL("cleanup.policy"), SL("compact,delete")}};
    fixture_open(&f);
    CHECK_INT(store_topic_create(f.s, SL("a.b_c-D"), 3, v, 2, &t, &e), 0);
    memcpy(id, t->id, sizeof id);
    CHECK_INT(store_topic_create(f.s, SL("a.b_c-D"), 3, NULL, 0, &t, &e), -EEXIST);
    CHECK_INT(store_topic_grow(f.s, t, 5, &e), 0);
    CHECK_INT(store_topic_grow(f.s, t, 5, &e), -EINVAL);
    append_ok(t->parts[4], &(struct spec){.n = 3});
    fixture_crash(&f);
    t = store_topic(f.s, SL("a.b_c-D"));
    NEED(t != NULL);
    CHECK(memcmp(id, t->id, sizeof id) == 0);
    CHECK_INT(t->npartitions, 5);
    CHECK_INT(t->conf.retention_ms, 1234);
    CHECK(t->conf.compact && t->conf.del);
    CHECK_INT(t->conf.max_message_bytes, 1048588);
    CHECK_STR(map_get(&t->config, SL("cleanup.policy")), "compact,delete");
    CHECK_INT(plog_end(t->parts[4]), 3);
    fixture_end(&f);
}

TEST(refuses_bad_names_and_counts)
{
    struct fixture f = {0};
    struct topic *t;
    struct err e = {0};
    char longest[251];
    memset(longest, 'x', sizeof longest);
    fixture_open(&f);
    const struct slice bad[] = {SL(""),    SL("."),    SL(".."),        SL("a/b"),
                                SL("a b"), SL("a\0b"), sl(longest, 250)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(store_topic_create(f.s, bad[i], 1, NULL, 0, &t, &e), -EINVAL);
    CHECK_INT(store_topic_create(f.s, sl(longest, 249), 1, NULL, 0, &t, &e), 0);
    CHECK_INT(store_topic_create(f.s, SL("x"), 0, NULL, 0, &t, &e), -EINVAL);
    CHECK_INT(store_topic_create(f.s, SL("x"), 10001, NULL, 0, &t, &e), -EINVAL);
    fixture_end(&f);
}

TEST(a_deleted_topic_is_gone_and_its_name_free)
{
    struct fixture f = {0};
    struct err e = {0};
    char path[256];
    fixture_open(&f);
    append_ok(fixture_topic(&f, "t", NULL), &(struct spec){.n = 3});
    CHECK_INT(store_topic_delete(f.s, SL("t"), &e), 0);
    CHECK_INT(store_topic_delete(f.s, SL("t"), &e), -ENOENT);
    CHECK_INT(plog_end(fixture_topic(&f, "t", NULL)), 0);
    fixture_crash(&f);
    CHECK_INT(plog_end(fixture_part(&f, "t")), 0);
    CHECK(!list_empty(&f.s->gone)); /* its files are still there, and found again */
    for (int i = 0; i < 5; i++)
        store_tick(f.s, T0);
    CHECK(list_empty(&f.s->gone));
    fixture_path(&f, path, "t-0");
    CHECK(file_there(path));
    fixture_end(&f);
}

TEST(a_deletion_that_a_crash_interrupted_is_finished)
{
    struct fixture f = {0};
    struct err e = {0};
    char path[256];
    fixture_open(&f);
    append_ok(fixture_topic(&f, "t", NULL), &(struct spec){.n = 3});
    CHECK_INT(meta_save(f.s, 0, store_topic(f.s, SL("t")), &e), 0); /* and no further */
    fixture_crash(&f);
    CHECK(store_topic(f.s, SL("t")) == NULL);
    fixture_path(&f, path, "t-0");
    CHECK(!file_there(path));
    CHECK_INT(plog_end(fixture_topic(&f, "t", NULL)), 0);
    fixture_end(&f);
}

TEST(folders_of_others_are_never_touched)
{
    struct fixture f = {0};
    struct topic *t;
    struct err e = {0};
    char path[256], inside[256];
    fixture_open(&f);
    fixture_path(&f, path, "photos-0");
    NEED(mkdir(path, 0700) == 0);
    fixture_path(&f, inside, "photos-0/a");
    NEED(mkdir(inside, 0700) == 0);
    fixture_crash(&f);
    fixture_path(&f, inside, "photos-0/a");
    CHECK(file_there(inside));
    CHECK_INT(store_topic_create(f.s, SL("photos"), 1, NULL, 0, &t, &e), -EIO);
    CHECK(strstr(e.msg, "in the way") != NULL);
    CHECK(store_topic(f.s, SL("photos")) == NULL && file_there(inside));
    fixture_end(&f);
}

static int configure(struct fixture *f, const char *name, const char *value, bool dry_run,
                     struct err *e)
{
    const struct slice v[1][2] = {{sl_str(name), sl_str(value)}};
    err_clear(e);
    return store_topic_configure(f->s, store_topic(f->s, SL("t")), v, 1, dry_run, e);
}

TEST(settings_are_checked_and_replaced_as_a_set)
{
    struct fixture f = {0};
    struct err e;
    fixture_open(&f);
    struct topic *t = fixture_topic(&f, "t", "retention.ms=5")->t;
    CHECK_INT(configure(&f, "retention.mss", "5", false, &e), -EINVAL);
    CHECK(strstr(e.hint, "retention.ms") != NULL);
    CHECK_INT(configure(&f, "retention.ms", "-2", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "retention.ms", "soon", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "cleanup.policy", "burn", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "message.timestamp.type", "Never", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "min.cleanable.dirty.ratio", "1.5", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "preallocate", "yes", false, &e), -EINVAL);
    CHECK_INT(configure(&f, "segment.bytes", "2048", true, &e), 0);
    CHECK_INT(t->conf.retention_ms, 5); /* none of that changed anything */
    CHECK_INT(configure(&f, "segment.bytes", "2048", false, &e), 0);
    CHECK_INT(t->conf.retention_ms, 604800000);
    CHECK_INT(t->conf.segment_bytes, 2048);
    CHECK(!map_has(&t->config, SL("retention.ms")));
    fixture_crash(&f);
    CHECK_INT(store_topic(f.s, SL("t"))->conf.segment_bytes, 2048);
    fixture_end(&f);
}

TEST(every_default_of_the_table_is_a_value_it_takes)
{
    size_t n;
    const struct topic_setting *t = topic_settings(&n);
    CHECK(n > 20);
    for (size_t i = 0; i < n; i++) {
        const struct slice v[1][2] = {{sl_str(t[i].name), sl_str(t[i].dflt)}};
        struct topic_conf conf;
        struct err e = {0};
        CHECK_INT(settings_check(v, 1, 1 << 30, &conf, &e), 0);
        CHECK_STR(e.msg, "");
    }
}

TEST(a_second_process_is_kept_out)
{
    struct fixture f = {0};
    struct err e = {0};
    fixture_open(&f);
    struct store *first = f.s;
    fixture_refused(&f, &e);
    CHECK_INT(e.code, -EBUSY);
    f.s = first;
    fixture_end(&f);
}

TEST(producer_ids_are_never_handed_out_twice)
{
    struct fixture f = {0};
    int64_t last = -1, id;
    fixture_open(&f);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1500; i++) {
            CHECK_INT(store_new_producer_id(f.s, &id), 0);
            CHECK(id > last);
            last = id;
        }
        fixture_crash(&f);
    }
    fixture_end(&f);
}

TEST(a_damaged_or_missing_list_of_topics_is_refused)
{
    struct fixture f = {0};
    struct err e = {0};
    char path[256];
    fixture_open(&f);
    append_ok(fixture_topic(&f, "t", NULL), &(struct spec){0});
    fixture_close(&f);
    fixture_path(&f, path, "topics.json");
    for (size_t i = 0; i < file_bytes(path); i++) {
        file_flip(path, i);
        fixture_refused(&f, &e);
        file_flip(path, i);
    }
    unlink(path);
    fixture_refused(&f, &e);
    CHECK(strstr(e.msg, "no topics.json") != NULL);
    fixture_end(&f);
}
