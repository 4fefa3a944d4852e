/* Records of the journal: key, headers and value there and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rec.h"
#include "unit.h"

SUITE("core/rec")

#define RUN "0002x8fazsj5ede5ykkgwyy5tg63c4"

struct headers {
    const char *v[12][2];
};

static bool from_wire(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct rec_wire *w = arg;
    if (i >= w->nheaders)
        return false;
    *name = w->headers[i].name;
    *value = w->headers[i].value;
    return true;
}

static bool from_table(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct headers *h = arg;
    if (i >= 12 || !h->v[i][0])
        return false;
    *name = sl_str(h->v[i][0]);
    *value = sl_str(h->v[i][1]);
    return true;
}

static struct rec *round_trip(struct rec *r, const char *key)
{
    struct rec_wire w;
    struct rec *out = NULL;
    struct err e = {0};
    NEED(rec_encode(r, &w) == 0);
    if (key) {
        char *seen = sl_dup(w.key);
        CHECK_STR(seen, key);
        free(seen);
    }
    CHECK_INT(rec_decode(7, r->time_ms, w.key, w.value, from_wire, &w, &out, &e), 0);
    rec_wire_free(&w);
    NEED(out != NULL);
    CHECK_INT(out->type, r->type);
    CHECK_INT(out->offset, 7);
    CHECK_STR(out->run, r->run);
    rec_unref(r);
    return out;
}

TEST(a_request_keeps_what_it_says)
{
    struct rec *r = rec_new(REC_REQUESTED, RUN);
    r->uuid = strdup("6b1e");
    r->agent = strdup("9f2c");
    r->traceparent = strdup("00-a");
    r->priority = 2;
    r->src.name = strdup("replay:x:tickets/inc/0");
    r->src.offset = 17;
    r->src.floor = 16;
    r->value = val_text_new(SL("{\"input\":1}"));
    r = round_trip(r, RUN "/?requested/6b1e");
    CHECK_STR(r->uuid, "6b1e");
    CHECK_STR(r->agent, "9f2c");
    CHECK_STR(r->traceparent, "00-a");
    CHECK_INT(r->priority, 2);
    CHECK_STR(r->src.name, "replay:x:tickets/inc/0");
    CHECK_INT(r->src.offset, 17);
    CHECK_INT(r->src.floor, 16);
    CHECK_INT(r->epoch, -1);
    rec_unref(r);
}

TEST(the_key_of_a_task_fact_names_place_and_writer)
{
    struct rec *r = rec_new(REC_TASK_COMPLETED, RUN);
    r->ref = strdup("/do/1/a#b/c");
    r->visit = 3;
    r->rewind = 1;
    r->attempt = 2;
    r->epoch = 40;
    r->nonce = 0xa1;
    r->status = strdup("skipped");
    r->value = val_text_new(SL("{}"));
    r = round_trip(r, RUN "/do/1/a#b/c#3.1.2/completed@00000000000000a1");
    CHECK_STR(r->ref, "/do/1/a#b/c");
    CHECK_INT(r->visit, 3);
    CHECK_INT(r->rewind, 1);
    CHECK_INT(r->attempt, 2);
    CHECK_INT(r->epoch, 40);
    CHECK_INT(r->nonce, 0xa1);
    CHECK_STR(r->status, "skipped");
    rec_unref(r);
}

TEST(keys_of_run_and_partition_facts)
{
    struct rec *r = rec_new(REC_STARTED, RUN);
    r->consumed = 42;
    r->epoch = 1;
    r->nonce = 2;
    r->value = val_text_new(SL("{}"));
    r = round_trip(r, RUN "/!started@0000000000000002");
    CHECK_INT(r->consumed, 42);
    rec_unref(r);
    r = rec_new(REC_OWNER, NULL);
    r->nonce = 0xffffffffffffffff;
    r->value = val_text_new(SL("{}"));
    r = round_trip(r, "!owner/ffffffffffffffff");
    CHECK(r->nonce == 0xffffffffffffffff);
    rec_unref(r);
    r = rec_new(REC_PART_STATE, NULL);
    r->at = 41;
    r->chunk = 1;
    r->chunks = 3;
    r->epoch = 40;
    r->nonce = 1;
    r->value = val_text_new(SL("half of a \"tex"));
    r = round_trip(r, "!part/41.1@0000000000000001");
    CHECK_INT(r->at, 41);
    CHECK_INT(r->chunk, 1);
    CHECK_INT(r->chunks, 3);
    rec_unref(r);
    r = rec_new(REC_SETTLED, NULL);
    r->up_to = 9;
    r->epoch = 0;
    r->nonce = 1;
    r->value = val_text_new(SL("{}"));
    r = round_trip(r, "/!settled/9@0000000000000001");
    CHECK_INT(r->up_to, 9);
    CHECK_INT(r->consumed, -1);
    rec_unref(r);
    r = rec_new(REC_SUSPENDED, RUN);
    r->consumed = 10;
    r->epoch = 0;
    r->nonce = 1;
    r->value = val_text_new(SL("{}"));
    rec_unref(round_trip(r, RUN "/!suspended/10@0000000000000001"));
}

TEST(every_type_has_a_name_and_is_found_by_it)
{
    for (int t = REC_NONE + 1; t < REC_TYPES; t++)
        CHECK_INT(rec_type_of(sl_str(rec_type_name((enum rec_type)t))), t);
    CHECK_INT(rec_type_of(SL("run.unknown")), REC_NONE);
    CHECK(rec_is_request(REC_DELIVERED));
    CHECK(!rec_is_request(REC_OWNER));
}

static int decode(const char *key, const char *value, const struct headers *h)
{
    struct rec *r = NULL;
    struct err e = {0};
    int error = rec_decode(0, 0, sl_str(key), value ? sl_str(value) : (struct slice){NULL, 0},
                           from_table, (void *)h, &r, &e);
    if (error == -EPROTO)
        CHECK(e.msg[0] && e.hint[0]);
    rec_unref(r);
    return error;
}

TEST(what_is_not_a_record_of_ours_is_refused_with_the_reason)
{
    struct headers ok = {{{"tm-v", "1"}, {"tm-type", "run.cancel"}}};
    CHECK_INT(decode(RUN "/?cancel/u", "{}", &ok), 0);
    CHECK_INT(decode(RUN "/?cancel/u", NULL, &ok), -ENODATA);
    CHECK_INT(decode(RUN "/?cancel/u", "{", &ok), -EPROTO);
    CHECK_INT(decode("hello", "{}", &ok), -EPROTO);
    CHECK_INT(decode("", "{}", &ok), -EPROTO);
    CHECK_INT(decode(RUN, "{}", &(struct headers){{{"tm-type", "run.cancel"}}}), -EPROTO);
    CHECK_INT(decode(RUN, "{}", &(struct headers){{{"tm-v", "2"}, {"tm-type", "run.cancel"}}}),
              -EPROTO);
    CHECK_INT(decode(RUN, "{}", &(struct headers){{{"tm-v", "1"}, {"tm-type", "run.x"}}}), -EPROTO);
    CHECK_INT(decode(RUN, "{}", &(struct headers){{{"tm-v", "1"}, {"tm-type", "run.started"}}}),
              -EPROTO);
    struct headers bad[] = {
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-src", "nonsense"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-src", "a/-4"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-prio", "x"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-floor", "-2"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.started"}, {"tm-epoch", "99999999999999999999"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.started"}, {"tm-epoch", "1"}, {"tm-nonce", "xyz"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.snapshot"}, {"tm-epoch", "1"}, {"tm-chunk", "3/3"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-src", "live:\xff/1/0/5"}}},
        {{{"tm-v", "1"}, {"tm-type", "run.requested"}, {"tm-agent", "\xc3("}}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_INT(decode(RUN "/?requested/u", "{}", &bad[i]), -EPROTO);
    struct headers task = {{{"tm-v", "1"}, {"tm-type", "task.completed"}, {"tm-epoch", "1"}}};
    CHECK_INT(decode(RUN "/do/0/a#0.0.1/completed@01", "{}", &task), 0);
    CHECK_INT(decode("/!settled/9@01", "{}", &task), -EPROTO); /* a task fact without a place */
    CHECK_INT(decode(RUN "/do/0/a/completed@01", "{}", &task), -EPROTO);
    CHECK_INT(decode(RUN "/do/0/\xff#0.0.1/completed@01", "{}", &task), -EPROTO);
    CHECK_INT(decode(RUN "/do/0/a#0.0/completed@01", "{}", &task), -EPROTO);
    CHECK_INT(decode(RUN "/do/0/a#0.-1.1/completed@01", "{}", &task), -EPROTO);
}

static bool source_with_zero(void *arg, size_t i, struct slice *name, struct slice *value)
{
    static const struct slice v[][2] = {{SL("tm-v"), SL("1")},
                                        {SL("tm-type"), SL("run.requested")},
                                        {SL("tm-src"), SL("live\0:t/1/0/3")}};
    if (i == 3)
        return false;
    *name = v[i][0];
    *value = v[i][1];
    return true;
}

/* A text would end there, and what is written again could not be read. */
TEST(zero_bytes_in_keys_and_headers_are_refused)
{
    struct headers ok = {{{"tm-v", "1"}, {"tm-type", "run.cancel"}}};
    struct rec *r = NULL;
    struct err e = {0};
    CHECK_INT(rec_decode(0, 0, SL(RUN "/?cancel/u\0v"), SL("{}"), from_table, &ok, &r, &e),
              -EPROTO);
    CHECK_INT(rec_decode(0, 0, SL(RUN "/?requested/u"), SL("{}"), source_with_zero, NULL, &r, &e),
              -EPROTO);
}

TEST(a_header_that_stands_twice_counts_as_the_last_and_leaks_nothing)
{
    struct headers h = {{{"tm-v", "1"},
                         {"tm-type", "run.requested"},
                         {"tm-src", "live:t/1/0/3"},
                         {"tm-src", "live:t/1/0/4"},
                         {"tm-agent", "a"},
                         {"tm-agent", "b"}}};
    struct rec *r = NULL;
    NEED(rec_decode(0, 0, SL(RUN "/?requested/u"), SL("{}"), from_table, &h, &r, NULL) == 0);
    CHECK_INT(r->src.offset, 4);
    CHECK_STR(r->agent, "b");
    rec_unref(r);
}

TEST(headers_of_later_versions_are_ignored)
{
    struct headers h = {{{"tm-v", "1"}, {"tm-type", "run.cancel"}, {"tm-later", "\xff"}}};
    CHECK_INT(decode(RUN "/?cancel/u", "{}", &h), 0);
}

TEST(sizes_are_checked_before_sending)
{
    struct rec_wire w;
    struct rec *r = rec_new(REC_REQUESTED, RUN);
    char *big = malloc(REC_VALUE_MAX + 8);
    memset(big, '1', REC_VALUE_MAX + 8);
    big[0] = '"';
    big[REC_VALUE_MAX - 1] = '"';
    r->value = val_text_new(sl(big, REC_VALUE_MAX));
    CHECK_INT(rec_encode(r, &w), 0);
    rec_wire_free(&w);
    val_unref(r->value);
    big[REC_VALUE_MAX - 1] = '1';
    big[REC_VALUE_MAX] = '"';
    r->value = val_text_new(sl(big, REC_VALUE_MAX + 1));
    CHECK_INT(rec_encode(r, &w), -EMSGSIZE);
    val_unref(r->value);
    r->value = val_text_new(SL("{}"));
    memset(big, 'x', REC_HEADERS_BYTES_MAX);
    big[REC_HEADERS_BYTES_MAX] = 0;
    r->agent = strdup(big);
    CHECK_INT(rec_encode(r, &w), -EMSGSIZE);
    rec_unref(r);
    free(big);
}

static void check_body(enum rec_type t, enum step_phase phase, const char *next)
{
    struct rec *r = rec_new(t, RUN);
    r->body.has_output = true;
    r->body.output = val_text_new(SL("{\"a\":[1,2]}"));
    r->body.has_context = true;
    r->body.phase = phase;
    r->body.next = next ? strdup(next) : NULL;
    r->body.until_ms = 1700000000123;
    CHECK_INT(rec_write_body(r), 0);
    struct rec *c = rec_new(t, RUN);
    c->value = val_ref(r->value);
    CHECK_INT(rec_read_body(c), 0);
    CHECK_INT(c->body.phase, phase);
    CHECK_STR(c->body.next, next);
    CHECK(val_equal(c->body.output, r->body.output));
    CHECK(c->body.has_context);
    CHECK(!c->body.has_input);
    CHECK_INT(c->body.until_ms, 1700000000123);
    rec_unref(c);
    rec_unref(r);
}

TEST(the_value_of_a_fact_says_where_the_run_goes_on)
{
    check_body(REC_TASK_COMPLETED, PHASE_TASK, "/do/2/x \"y\"");
    check_body(REC_TASK_COMPLETED, PHASE_LEAVE, "/do/2/x");
    check_body(REC_TASK_COMPLETED, PHASE_FINISH, NULL);
    check_body(REC_STARTED, PHASE_TASK, "/do/0/a");
    check_body(REC_STARTED, PHASE_START, NULL);
    check_body(REC_STARTED, PHASE_FINISH, NULL);
}

TEST(a_value_of_the_wrong_form_is_an_error_not_a_crash)
{
    const char *bad[] = {"{\"next\":5}",   "{\"until\":\"soon\"}", "{\"until\":7}",
                         "{\"output\":1}", "{\"leave\":true}",     "[1,2]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rec *r = rec_new(REC_TASK_COMPLETED, RUN);
        r->value = val_text_new(sl_str(bad[i]));
        CHECK_INT(rec_read_body(r), -EPROTO);
        CHECK_INT(rec_read_body(r), -EPROTO); /* each fold of it skips it */
        rec_unref(r);
    }
    struct rec *r = rec_new(REC_TASK_STARTED, RUN);
    r->value = val_text_new(SL("[1,2]"));
    CHECK_INT(rec_read_body(r), 0);
    rec_unref(r);
}
