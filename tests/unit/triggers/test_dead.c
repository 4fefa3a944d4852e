/* Dead letters keep what came, and say why. */
#include <stdlib.h>
#include <string.h>

#include "base/js.h"
#include "triggers/dead.h"
#include "unit.h"

SUITE("triggers/dead")

static const char *find(const struct krec *r, const char *name)
{
    static char text[256];
    for (size_t i = 0; i < r->nheaders; i++)
        if (sl_is(r->headers[i].name, name)) {
            snprintf(text, sizeof text, "%.*s", SL_ARG(r->headers[i].value));
            return text;
        }
    return NULL;
}

TEST(an_event_keeps_its_bytes_and_headers)
{
    struct kheader own[] = {{SL("ce_id"), SL("7")}, {SL("x"), {NULL, 0}}};
    struct krec in = {.topic = SL("t"), .headers = own, .nheaders = 2}, out;
    struct kheader h[DEAD_HEADERS_MAX];
    struct buf mem;
    struct dead_letter d = {.kind = "event",
                            .error_json = "{\"status\":400}",
                            .origin = "t/0/5",
                            .feed = "live",
                            .attempts = 2,
                            .time_ms = 1700000000123};
    buf_init(&mem, DEAD_MEM_MAX);
    NEED(dead_make(&out, h, &mem, "dlq", &d, &in, SL("event/live/t/0/5"), sl("\0\xff", 2)) == 0);
    CHECK(sl_is(out.topic, "dlq"));
    CHECK(sl_is(out.key, "event/live/t/0/5"));
    CHECK_INT(out.value.n, 2);
    CHECK_INT(out.partition, -1);
    CHECK_STR(find(&out, "tm-dlq-kind"), "event");
    CHECK_STR(find(&out, "tm-dlq-error"), "{\"status\":400}");
    CHECK_STR(find(&out, "tm-dlq-origin"), "t/0/5");
    CHECK_STR(find(&out, "tm-dlq-attempts"), "2");
    CHECK_STR(find(&out, "tm-dlq-time"), "2023-11-14T22:13:20.123Z");
    CHECK_STR(find(&out, "ce_id"), "7");
    CHECK_STR(find(&out, "x"), "");
    CHECK(find(&out, "tm-dlq-run") == NULL);
    buf_free(&mem);
}

/* Letter and record of `value` and `n` headers of `bytes` each; NULL when it can't be made. */
static struct krec *letter_of(struct slice value, size_t n, size_t bytes, const char *error)
{
    static struct kheader own[DEAD_HEADERS_MAX], h[DEAD_HEADERS_MAX];
    static struct krec out;
    static struct buf mem;
    static char text[64 * 1024];
    struct krec in = {.topic = SL("t"), .headers = own, .nheaders = n, .value = value};
    struct dead_letter d = {.kind = "event", .attempts = 1, .error_json = error};
    memset(text, 'v', sizeof text);
    for (size_t i = 0; i < n; i++)
        own[i] = (struct kheader){SL("h"), sl(text, bytes)};
    buf_free(&mem);
    buf_init(&mem, DEAD_MEM_MAX);
    return dead_make(&out, h, &mem, "dlq", &d, &in, SL("k"), in.value) ? NULL : &out;
}

TEST(headers_beyond_the_places_are_left_out_and_that_is_said)
{
    struct krec *r = letter_of(SL("v"), DEAD_HEADERS_MAX, 1, "{}");
    NEED(r != NULL);
    CHECK_INT(r->nheaders, DEAD_HEADERS_MAX);
    CHECK_STR(find(r, "tm-dlq-kind"), "event");
    CHECK_STR(find(r, "tm-dlq-cut"), "headers");
}

TEST(headers_and_value_beyond_the_bytes_are_left_out_and_that_is_said)
{
    char *large = calloc(1, DEAD_VALUE_MAX + 1);
    struct krec *r = letter_of(sl(large, DEAD_VALUE_MAX), 5, DEAD_HEAD_BYTES / 4, "{}");
    NEED(r != NULL && large != NULL);
    CHECK_STR(find(r, "tm-dlq-cut"), "headers");
    CHECK_INT(r->value.n, DEAD_VALUE_MAX);
    CHECK_INT(r->nheaders, 5 + 3); /* four do not fit with their names */
    r = letter_of(sl(large, DEAD_VALUE_MAX + 1), 5, DEAD_HEAD_BYTES / 4, "{}");
    CHECK_STR(find(r, "tm-dlq-cut"), "value,headers");
    CHECK_INT(r->value.n, 0);
    CHECK(r->value.p != NULL); /* no tombstone */
    r = letter_of(sl(large, DEAD_VALUE_MAX + 1), 1, 1, "{}");
    CHECK_STR(find(r, "tm-dlq-cut"), "value");
    free(large);
}

TEST(an_error_that_is_too_long_keeps_the_beginning_of_its_texts)
{
    static char json[3 * DEAD_ERROR_MAX];
    size_t n = (size_t)snprintf(json, sizeof json, "{\"type\":\"t\",\"status\":500,\"detail\":\"a");
    while (n < 2 * DEAD_ERROR_MAX)
        n += (size_t)snprintf(json + n, sizeof json - n, "\xc3\xa4");
    (void)snprintf(json + n, sizeof json - n, "\"}");
    struct krec *r = letter_of(SL("v"), 0, 0, json);
    struct json_object *o = NULL;
    NEED(r != NULL && r->nheaders > 1 && sl_is(r->headers[1].name, "tm-dlq-error"));
    CHECK(r->headers[1].value.n < 4096);
    CHECK_INT(js_parse(r->headers[1].value, &o, NULL), 0); /* no half character */
    CHECK_INT(js_int(o, "status", 0), 500);
    CHECK(js_str(o, "detail") && sl_ends(sl_str(js_str(o, "detail")), SL("...")));
    json_object_put(o);
}
