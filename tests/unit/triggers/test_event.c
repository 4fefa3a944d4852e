/* Events: CloudEvents 1.0 over Kafka, both modes, and plain records. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "triggers/event.h"
#include "unit.h"

SUITE("triggers/event")

#define H(n, v)                                                                                    \
    {                                                                                              \
        {n, sizeof n - 1},                                                                         \
        {                                                                                          \
            v, sizeof v - 1                                                                        \
        }                                                                                          \
    }

static struct krec record(const struct kheader *h, size_t n, const char *value)
{
    return (struct krec){.topic = SL("orders"),
                         .partition = 3,
                         .offset = 41,
                         .time_ms = 1700000000123,
                         .key = SL("k1"),
                         .value = value ? sl_str(value) : (struct slice){NULL, 0},
                         .headers = h,
                         .nheaders = n};
}

static const char *data(const struct event *ev, const char *key)
{
    return json_object_to_json_string_ext(js_get(ev->envelope, key), JSON_C_TO_STRING_PLAIN);
}

TEST(binary_mode_takes_attributes_from_headers)
{
    struct kheader h[] = {H("ce_specversion", "1.0"),
                          H("ce_id", "7"),
                          H("ce_source", "/shop"),
                          H("ce_type", "order.new"),
                          H("ce_Tenant", "a"),
                          H("other", "x"),
                          H("content-type", "application/json; charset=utf-8")};
    struct krec r = record(h, 7, "{\"n\":1}");
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK(ev.ce);
    CHECK_STR(ev.id, "7");
    CHECK_STR(ev.source, "/shop");
    CHECK_STR(ev.type, "order.new");
    CHECK_STR(js_str(ev.envelope, "tenant"), "a"); /* attribute names are lower case */
    CHECK(js_get(ev.envelope, "other") == NULL);
    CHECK_STR(data(&ev, "data"), "{\"n\":1}");
    CHECK_STR(js_str(js_get(ev.raw, "headers"), "other"), "x");
    CHECK_STR(js_str(ev.raw, "value"), "{\"n\":1}");
    CHECK_STR(js_str(ev.kafka, "key"), "k1");
    CHECK(js_get(ev.kafka, "headers") == NULL);
    event_free(&ev);
}

/* Written as JSON they would all be the same replacement character, and a journal record with a key
 * twice is no record. */
TEST(header_names_that_are_no_text_stay_apart)
{
    struct kheader h[] = {H("ce_id", "7"),   H("ce_source", "/shop"), H("ce_type", "order.new"),
                          H("ce_\xff", "a"), H("ce_\xfe", "b"),       H("\xff", "c"),
                          H("\xfe", "d"),    H("a\0b", "e"),          H("ce_", "f")};
    struct krec r = record(h, 9, "{}");
    struct json_object *again = NULL;
    struct event ev;
    struct err e = {0};
    struct buf b;
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK_INT(json_object_object_length(ev.envelope), 4);
    CHECK_STR(js_str(js_get(ev.raw, "headers"), "/w=="), "c");
    CHECK_STR(js_str(js_get(ev.raw, "headers"), "/g=="), "d");
    CHECK_STR(js_str(js_get(ev.raw, "headers"), "YQBi"), "e");
    buf_init(&b, 4096);
    CHECK_INT(js_write(ev.raw, &b), 0);
    CHECK_INT(js_parse(buf_slice(&b), &again, &e), 0);
    json_object_put(again);
    buf_free(&b);
    event_free(&ev);
}

TEST(structured_mode_is_the_value)
{
    struct kheader h[] = {H("content-type", "application/cloudevents+json; charset=UTF-8")};
    struct krec r = record(h, 1,
                           "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\","
                           "\"data\":[1],\"traceparent\":\"00-x\"}");
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK(ev.ce);
    CHECK_STR(ev.id, "7");
    CHECK_STR(ev.traceparent, "00-x");
    CHECK_STR(data(&ev, "data"), "[1]");
    event_free(&ev);
}

TEST(a_plain_record_is_named_by_its_place)
{
    struct krec r = record(NULL, 0, "5");
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK(!ev.ce);
    CHECK_STR(ev.id, "3/41");
    CHECK_STR(ev.source, "orders");
    CHECK_STR(ev.type, "orders");
    CHECK_STR(data(&ev, "data"), "5");
    event_free(&ev);
}

TEST(a_trace_header_is_found_too)
{
    struct kheader h[] = {H("traceparent", "00-a-b-01")};
    struct krec r = record(h, 1, "{}");
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK_STR(ev.traceparent, "00-a-b-01");
    event_free(&ev);
}

TEST(other_content_is_text_or_base64)
{
    struct kheader text[] = {H("content-type", "text/plain")};
    struct kheader bytes[] = {H("content-type", "application/octet-stream")};
    struct krec r = record(text, 1, "hello");
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK_STR(js_str(ev.envelope, "data"), "hello");
    event_free(&ev);
    r = record(bytes, 1, NULL);
    r.value = sl("\xff\x00z", 3);
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK(js_get(ev.envelope, "data") == NULL);
    CHECK_STR(js_str(ev.envelope, "data_base64"), "/wB6");
    CHECK_STR(js_str(ev.raw, "value"), "/wB6");
    event_free(&ev);
}

TEST(a_record_without_value_has_no_data)
{
    struct krec r = record(NULL, 0, NULL);
    struct event ev;
    struct err e = {0};
    NEED(event_read(&ev, &r, &e) == 0);
    CHECK(!json_object_object_get_ex(ev.envelope, "data", NULL));
    event_free(&ev);
}

TEST(what_is_not_an_event_is_refused_with_a_hint)
{
    struct kheader noid[] = {H("ce_specversion", "1.0"), H("ce_type", "t")};
    struct kheader empty[] = {H("ce_id", ""), H("ce_type", "t"), H("ce_source", "s")};
    struct kheader structured[] = {H("content-type", "application/cloudevents+json")};
    struct event ev;
    struct err e = {0};
    struct krec r = record(NULL, 0, "{");
    CHECK_INT(event_read(&ev, &r, &e), -EBADMSG);
    CHECK(e.hint[0] != 0);
    r = record(noid, 2, "{}");
    CHECK_INT(event_read(&ev, &r, &e), -EPROTO);
    r = record(empty, 3, "{}");
    CHECK_INT(event_read(&ev, &r, &e), -EPROTO);
    r = record(structured, 1, "[]");
    CHECK_INT(event_read(&ev, &r, &e), -EBADMSG);
    r = record(structured, 1, "{\"id\":7,\"source\":\"s\",\"type\":\"t\"}");
    CHECK_INT(event_read(&ev, &r, &e), -EPROTO);
    r = record(structured, 1, NULL);
    CHECK_INT(event_read(&ev, &r, &e), -EBADMSG);
    char *big = malloc(EVENT_BYTES_MAX + 1);
    memset(big, '1', EVENT_BYTES_MAX + 1);
    r = record(NULL, 0, NULL);
    r.value = sl(big, EVENT_BYTES_MAX + 1);
    CHECK_INT(event_read(&ev, &r, &e), -EMSGSIZE);
    free(big);
}
