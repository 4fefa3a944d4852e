/* "No duplicates": floors and ids. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/source.h"
#include "unit.h"

SUITE("core/source")

#define SRC "live:t/1/0"

static int judge_keyed(struct sources *s, const char *src, int64_t offset, int64_t floor, int id,
                       bool keyed, uint64_t idem)
{
    char run[RUN_ID_MAX], text[16];
    snprintf(text, sizeof text, "%d", id);
    run_id_make(run, 0, SL("a/b"), SL("f"), SL("s"), sl_str(text));
    struct rec *r = rec_new(REC_REQUESTED, run);
    r->src.name = src ? strdup(src) : NULL;
    r->src.offset = offset;
    r->src.floor = floor;
    r->time_ms = offset;
    r->offset = 1000 + id;
    r->keyed = keyed;
    r->idem = idem;
    int dup = sources_judge(s, r);
    rec_unref(r);
    return dup;
}

static int judge(struct sources *s, const char *src, int64_t offset, int64_t floor, int id)
{
    return judge_keyed(s, src, offset, floor, id, false, 0);
}

static char *text_of(const struct sources *s)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_addc(&b, '{');
    NEED(sources_write(s, NULL, NULL, &b) == 0);
    buf_addc(&b, '}');
    return buf_take(&b);
}

TEST(a_repeat_is_a_duplicate_by_id_then_by_floor)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(judge(&s, SRC, 5, 0, 5), 0);
    CHECK_INT(judge(&s, SRC, 5, 0, 5), 1);
    CHECK_INT(judge(&s, SRC, 6, 6, 6), 0);
    CHECK_INT(sources_ids(&s), 1); /* 5 is below the floor 6 */
    CHECK_INT(judge(&s, SRC, 5, 6, 5), 1);
    CHECK_INT(judge(&s, SRC, 7, 6, 7), 0);
    sources_free(&s);
}

/* A request is judged by floors of lower records, not by its own. */
TEST(a_floor_counts_only_for_what_comes_behind_it)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(judge(&s, SRC, 3, 9, 3), 0);
    CHECK_INT(judge(&s, SRC, 4, 0, 4), 1);
    CHECK_INT(judge(&s, SRC, 9, 0, 9), 0);
    sources_free(&s);
}

TEST(one_record_that_wakes_two_agents_is_two_runs)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(judge(&s, SRC, 3, 0, 30), 0);
    CHECK_INT(judge(&s, SRC, 3, 0, 31), 0);
    CHECK_INT(judge(&s, SRC, 3, 0, 30), 1);
    CHECK_INT(judge(&s, SRC, 3, 0, 31), 1);
    sources_free(&s);
}

TEST(sources_do_not_touch_each_other)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(judge(&s, "live:t/1/0", 3, 0, 1), 0);
    CHECK_INT(judge(&s, "live:t/1/1", 3, 9, 2), 0);
    CHECK_INT(judge(&s, "live:t/1/0", 4, 0, 3), 0);
    CHECK_INT(judge(&s, "live:t/2/1", 3, 0, 4), 0); /* a topic made again starts anew */
    sources_free(&s);
}

TEST(an_id_without_event_is_remembered_for_its_window)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(judge(&s, NULL, 1000, -1, 1), 0);
    CHECK_INT(judge(&s, NULL, 2000, -1, 1), 1);
    sources_expire(&s, 1000 + SOURCE_API_WINDOW_MS);
    CHECK_INT(judge(&s, NULL, 3000, -1, 1), 1);
    sources_expire(&s, 1001 + SOURCE_API_WINDOW_MS);
    CHECK_INT(judge(&s, NULL, 4000, -1, 1), 0);
    sources_free(&s);
}

/* A restart in the middle: what was read back forgets the same ids, though part.state has lost the
 * order of those of one millisecond. */
TEST(ids_without_event_are_bounded_and_the_same_ones_go_after_a_restart)
{
    struct sources s, c;
    struct json_object *o = NULL;
    sources_init(&s);
    sources_init(&c);
    s.api_max = c.api_max = 10;
    for (int i = 0; i < 8; i++) /* the oldest three stand at one time, in no order of their ids */
        CHECK_INT(judge_keyed(&s, NULL, 1000 + (i < 3 ? 0 : i), -1, 9 - i, true, 7), JUDGED_NEW);
    char *text = text_of(&s), *b;
    NEED(js_parse(sl_str(text), &o, NULL) == 0);
    NEED(sources_read(&c, o) == 0);
    for (int i = 20; i < 60; i++) {
        CHECK_INT(judge_keyed(&s, NULL, 2000 + i / 3, -1, i, true, 7), JUDGED_NEW);
        CHECK_INT(judge_keyed(&c, NULL, 2000 + i / 3, -1, i, true, 7), JUDGED_NEW);
        CHECK(sources_ids(&s) <= 10 && sources_ids(&s) > 4);
        free(text);
        text = text_of(&s);
        b = text_of(&c);
        CHECK_STR(b, text);
        free(b);
    }
    CHECK_INT(judge_keyed(&s, NULL, 2100, -1, 59, true, 7), JUDGED_DUPLICATE);
    CHECK_INT(judge_keyed(&s, NULL, 2100, -1, 9, true, 8), JUDGED_NEW); /* forgotten */
    json_object_put(o);
    free(text);
    sources_free(&s);
    sources_free(&c);
}

TEST(a_key_stands_for_one_request_over_its_window)
{
    struct sources s;
    char run[RUN_ID_MAX];
    sources_init(&s);
    run_id_make(run, 0, SL("a/b"), SL("f"), SL("s"), SL("1"));
    CHECK_INT(judge_keyed(&s, NULL, 1000, -1, 1, true, 7), JUDGED_NEW);
    CHECK_INT(judge_keyed(&s, NULL, 2000, -1, 1, true, 7), JUDGED_DUPLICATE);
    CHECK_INT(judge_keyed(&s, NULL, 2000, -1, 1, true, 8), JUDGED_CONFLICT);
    sources_ended(&s, run); /* its end does not end the key */
    CHECK_INT(judge_keyed(&s, NULL, 3000, -1, 1, true, 8), JUDGED_CONFLICT);
    char *a = text_of(&s);
    struct json_object *o = NULL;
    struct sources c;
    sources_init(&c);
    NEED(js_parse(sl_str(a), &o, NULL) == 0);
    CHECK_INT(sources_read(&c, o), 0);
    CHECK_INT(judge_keyed(&c, NULL, 3000, -1, 1, true, 7), JUDGED_DUPLICATE);
    CHECK_INT(judge_keyed(&c, NULL, 3000, -1, 1, true, 8), JUDGED_CONFLICT);
    sources_expire(&c, 1001 + SOURCE_API_WINDOW_MS);
    CHECK_INT(judge_keyed(&c, NULL, 4000, -1, 1, true, 8), JUDGED_NEW);
    json_object_put(o);
    free(a);
    sources_free(&s);
    sources_free(&c);
}

TEST(a_random_id_is_remembered_as_long_as_its_run_lives)
{
    struct sources s;
    char run[RUN_ID_MAX];
    sources_init(&s);
    run_id_make(run, 0, SL("a/b"), SL("f"), SL("s"), SL("1"));
    CHECK_INT(judge(&s, NULL, 1000, -1, 1), JUDGED_NEW);
    CHECK_INT(judge(&s, NULL, 1000, -1, 1), JUDGED_DUPLICATE);
    sources_ended(&s, run);
    CHECK_INT(sources_ids(&s), 0);
    CHECK_INT(judge(&s, NULL, 1000, -1, 1), JUDGED_NEW);
    sources_free(&s);
}

TEST(a_floor_never_falls)
{
    struct sources s;
    sources_init(&s);
    CHECK_INT(sources_raise(&s, SRC, 9), 0);
    CHECK_INT(sources_raise(&s, SRC, 4), 0);
    CHECK_INT(judge(&s, SRC, 8, 0, 8), 1);
    sources_free(&s);
}

static int64_t floor_of(void *arg, const char *source, int64_t known)
{
    return known < 6 ? 6 : known;
}

TEST(written_and_read_back_they_judge_alike)
{
    struct sources s, c;
    struct json_object *o = NULL;
    sources_init(&s);
    sources_init(&c);
    for (int i = 0; i < 10; i++)
        judge(&s, i % 2 ? SRC : "live:t\"/1/1", i, i / 2, i);
    judge(&s, NULL, 77, -1, 77);
    char *a = text_of(&s);
    NEED(js_parse(sl_str(a), &o, NULL) == 0);
    CHECK_INT(sources_read(&c, o), 0);
    json_object_put(o);
    char *b = text_of(&c);
    CHECK_STR(b, a);
    CHECK_INT(sources_ids(&c), sources_ids(&s));
    CHECK_INT(judge(&c, SRC, 9, 0, 9), 1);
    CHECK_INT(judge(&c, NULL, 78, -1, 77), 1);
    free(a);
    free(b);
    sources_free(&s);
    sources_free(&c);
}

TEST(ids_below_a_raised_floor_are_not_written)
{
    struct sources s;
    struct buf b;
    sources_init(&s);
    judge(&s, SRC, 5, 0, 5);
    buf_init(&b, 4096);
    NEED(sources_write(&s, floor_of, NULL, &b) == 0);
    CHECK_STR(b.p, "\"floors\":{\"live:t/1/0\":6},\"ids\":[]");
    CHECK_INT(sources_ids(&s), 1); /* the fold itself is not touched */
    buf_free(&b);
    sources_free(&s);
}

TEST(text_of_another_form_is_refused)
{
    const char *bad[] = {
        "{}",
        "{\"floors\":[],\"ids\":[]}",
        "{\"floors\":{},\"ids\":{}}",
        "{\"floors\":{},\"ids\":[[1]]}",
        "{\"floors\":{},\"ids\":[[\"notarun\",\"s\",1,2]]}",
        "{\"floors\":{},\"ids\":[[\"0000ew3v7n8y8h2j5k6m7n8p9q0rst\",\"\",1,2,\"x\"]]}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sources s;
        struct json_object *o = NULL;
        sources_init(&s);
        NEED(js_parse(sl_str(bad[i]), &o, NULL) == 0);
        CHECK_INT(sources_read(&s, o), -EPROTO);
        json_object_put(o);
        sources_free(&s);
    }
}
