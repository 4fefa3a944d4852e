/* Fuzz target of the texts that stand in for a prefix of the journal: the first byte says
 * part.state (even) or run.snapshot (odd), the rest is the text. Rules: what is refused is refused
 * with -EPROTO; what is taken reads back as it is written, and facts can be applied to it. */
#include <errno.h>

#include "core/state.h"
#include "fuzz.h"

static void part_state(struct slice text)
{
    struct part_mark m = {10, 8, 9, 0};
    struct state st;
    struct buf b, c;
    state_init(&st, 10);
    int error = state_load(&st, text, 3, 7, &m);
    must(error == 0 || error == -EPROTO, "a part.state is taken or refused");
    buf_init(&b, 64u << 20);
    buf_init(&c, 64u << 20);
    if (!error) {
        struct state again;
        struct rec *r = rec_new(REC_REQUESTED, "00020123456789abcdefghjkmnpqrs");
        must(state_write(&st, NULL, NULL, &b) == 0, "it can be written");
        state_init(&again, 10);
        must(state_load(&again, buf_slice(&b), 3, 7, &m) == 0, "it can be read again");
        must(state_write(&again, NULL, NULL, &c) == 0 && sl_eq(buf_slice(&b), buf_slice(&c)),
             "it is the same");
        state_free(&again);
        r->offset = 11;
        must(state_apply(&st, r) == 0, "the fold goes on behind it");
        rec_unref(r);
    }
    buf_free(&b);
    buf_free(&c);
    state_free(&st);
}

static void apply_facts(struct run_state *st)
{
    static const enum rec_type types[] = {REC_TASK_STARTED, REC_TASK_COMPLETED, REC_TASK_WAITING,
                                          REC_SUSPENDED,    REC_RESUMED,        REC_COMPLETED};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct rec *r = rec_new(types[i], "00020123456789abcdefghjkmnpqrs");
        r->ref = strdup("/do/0/a");
        r->value = val_text_new(
            SL("{\"output\":1,\"next\":\"/do/1/b\",\"until\":\"2026-01-01T00:00:00Z\"}"));
        must(rec_read_body(r) == 0 && run_apply(st, r, NULL) == 0, "facts can be applied");
        rec_unref(r);
    }
}

static void snapshot(struct slice text)
{
    struct run_state st = {0}, again = {0};
    struct json_object *o = NULL, *p = NULL;
    struct buf b, c;
    buf_init(&b, 64u << 20);
    buf_init(&c, 64u << 20);
    int error = js_parse(text, &o, NULL) < 0 ? -EPROTO : run_state_read(&st, o);
    must(error == 0 || error == -EPROTO, "a snapshot is taken or refused");
    must(error == 0 || (!st.nframes && !st.ref), "what is refused leaves nothing");
    if (!error && run_state_write(&st, &b) == 0 && js_parse(buf_slice(&b), &p, NULL) == 0) {
        must(run_state_read(&again, p) == 0, "it can be read again");
        must(run_state_write(&again, &c) == 0 && sl_eq(buf_slice(&b), buf_slice(&c)),
             "it is the same");
    }
    if (!error)
        apply_facts(&st);
    json_object_put(o);
    json_object_put(p);
    run_state_free(&st);
    run_state_free(&again);
    buf_free(&b);
    buf_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    map_fix_seed(1);
    struct slice text = sl(data + 1, size - 1);
    if (data[0] & 1)
        snapshot(text);
    else
        part_state(text);
    return 0;
}
