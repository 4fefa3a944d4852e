/* Fuzz target of events: one record with any headers and any value, as a CloudEvent in binary or
 * structured mode or as a plain record. Rules: it is read, or refused with a reason and a hint;
 * what was read has id, source and type; envelope, raw form and $kafka can be written as JSON; a
 * dead letter can be made of any record. */
#include <errno.h>

#include "fuzz.h"
#include "triggers/dead.h"
#include "triggers/event.h"

static void writable(struct json_object *o)
{
    struct json_object *again = NULL;
    struct buf b;
    buf_init(&b, 64u << 20);
    must(js_write(o, &b) == 0, "it can be written");
    must(js_parse(buf_slice(&b), &again, NULL) == 0 && js_equal(o, again),
         "it reads back the same");
    json_object_put(again);
    buf_free(&b);
}

static void letter(const struct krec *r)
{
    struct kheader h[DEAD_HEADERS_MAX];
    struct krec out;
    struct buf mem;
    struct dead_letter d = {.kind = "event",
                            .error_json = "{}",
                            .origin = "t/0/1",
                            .feed = "live",
                            .attempts = 1,
                            .time_ms = 1};
    buf_init(&mem, 4096);
    must(dead_make(&out, h, &mem, "dlq", &d, r, SL("event/live/t/0/1"), r->value) == 0,
         "a dead letter can be made");
    must(out.nheaders <= DEAD_HEADERS_MAX, "its headers are bounded");
    buf_free(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_record f;
    struct kheader h[FUZZ_HEADERS_MAX];
    struct slice in = sl(data, size);
    struct event ev;
    struct err e = {0};
    if (!fuzz_record_read(&in, &f))
        return 0;
    for (size_t i = 0; i < f.nheaders; i++)
        h[i] =
            (struct kheader){f.headers[i].name.p ? f.headers[i].name : SL(""), f.headers[i].value};
    struct krec r = {.topic = SL("orders"),
                     .partition = f.gap,
                     .offset = f.kind,
                     .time_ms = 1700000000000,
                     .key = f.key,
                     .value = f.value,
                     .headers = h,
                     .nheaders = f.nheaders};
    if (event_read(&ev, &r, &e) == 0) {
        must(ev.id[0] && ev.source[0] && ev.type[0], "it has id, source and type");
        must(js_str(ev.envelope, "id") == ev.id, "they are the envelope's");
        writable(ev.envelope);
        writable(ev.raw);
        writable(ev.kafka);
        event_free(&ev);
    } else {
        must(e.msg[0] && e.hint[0], "a refusal has a reason and a hint");
        must(!ev.envelope && !ev.raw && !ev.kafka, "a refusal leaves nothing");
    }
    letter(&r);
    return 0;
}
