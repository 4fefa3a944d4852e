/* What nodes tell each other of a run's place. */
#include "base/js.h"
#include "gateway/run_place.h"
#include "unit.h"

SUITE("gateway place")

TEST(a_place_is_read_as_it_was_written)
{
    struct run_place again,
        p = {.spans = {.n = 2, .v = {{10, 20, -1, 0}, {50, 60, 40, UINT64_MAX}}}};
    struct json_object *o = json_object_new_object();
    struct buf b;
    p.next = (struct journal_start){100, 70, 3};
    run_place_json(&p, o);
    buf_init(&b, 4096);
    NEED(js_write(o, &b) == 0 && run_place_from(buf_slice(&b), &again));
    CHECK_INT(again.spans.n, 2);
    CHECK(memcmp(again.spans.v, p.spans.v, 2 * sizeof *p.spans.v) == 0);
    CHECK_INT(again.next.from, 100);
    CHECK_INT(again.next.epoch, 70);
    CHECK_INT(again.next.nonce, 3);
    json_object_put(o);
    buf_free(&b);
}

TEST(what_is_no_place_is_refused)
{
#define NEXT "\"next\":{\"from\":9,\"epoch\":1,\"nonce\":\"a\"}"
    static const char *const bad[] = {
        "",
        "[]",
        "{\"spans\":[]}",
        "{\"spans\":[],\"next\":{\"from\":9,\"epoch\":9,\"nonce\":\"a\"}}",
        "{\"spans\":[],\"next\":{\"from\":9,\"epoch\":1}}",
        "{\"spans\":[7]," NEXT "}",
        "{\"spans\":[{\"from\":3,\"to\":3,\"epoch\":1,\"nonce\":\"a\"}]," NEXT "}",
        "{\"spans\":[{\"from\":3,\"to\":6,\"epoch\":1,\"nonce\":\"a\"},"
        "{\"from\":5,\"to\":7,\"epoch\":1,\"nonce\":\"a\"}]," NEXT "}"};
    struct run_place p;
    struct buf b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!run_place_from(sl_str(bad[i]), &p));
    CHECK(run_place_from(SL("{" NEXT "}"), &p) && p.spans.n == 0);
    buf_init(&b, 1 << 16);
    buf_adds(&b, "{\"spans\":[");
    for (int i = 0; i <= SPANS_MAX; i++)
        buf_addf(&b, "%s{\"from\":%d,\"to\":%d,\"epoch\":-1,\"nonce\":\"a\"}", i ? "," : "", 2 * i,
                 2 * i + 1);
    buf_adds(&b, "]," NEXT "}");
    CHECK(!run_place_from(buf_slice(&b), &p));
    buf_free(&b);
}
