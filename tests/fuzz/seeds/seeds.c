/* Writes seeds of the fuzz targets with the program's own encoders: fuzz_seeds FOLDER makes
 * FOLDER/core_fold, FOLDER/core_state, FOLDER/triggers_event and FOLDER/broker_segment. Run by hand
 * when a format changes (docs/testing.md); what it writes is kept in tests/fuzz/corpus. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <CUnit/Basic.h>

#include "base/file.h"
#include "core/fake.h"
#include "fuzz/fuzz.h"
#include "seeds.h"
#include "unit.h"

static const char *folder;

void seed_write(const char *target, const char *name, struct slice bytes)
{
    char path[1024];
    struct err e = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, target);
    must(dir_make(path, &e) == 0, e.msg);
    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    must(file_write_atomic(path, bytes, &e) == 0, e.msg);
}

/* The fixtures of the unit tests check as they go. */
void unit_check_str(const char *seen, const char *want, const char *file, int line)
{
    must(seen && want && !strcmp(seen, want), want);
}

void unit_check_int(long long seen, long long want, const char *file, int line)
{
    must(seen == want, file);
}

/* ---- journals ---- */

static void put_record(struct buf *b, const struct rec *r, int64_t gap)
{
    struct fuzz_record f = {.kind = (int)((r->time_ms - FAKE_TIME) / 1000) & 0xff, .gap = (int)gap};
    struct rec_wire w;
    must(rec_encode(r, &w) == 0, "a seed's record can be encoded");
    f.key = w.key;
    f.value = w.value;
    for (size_t i = 0; i < w.nheaders && i < FUZZ_HEADERS_MAX; i++) {
        f.headers[f.nheaders].name = w.headers[i].name;
        f.headers[f.nheaders++].value = w.headers[i].value;
    }
    fuzz_record_write(b, &f);
    rec_wire_free(&w);
}

static void state_seeds(const struct flog *l, const char *name)
{
    struct state st;
    struct buf b;
    char file[64];
    struct slice k;
    void *v;
    size_t pos = 0;
    state_init(&st, 0);
    for (int64_t i = 0; i < l->end; i++)
        if (l->v[i])
            must(state_apply(&st, l->v[i]) == 0, "the fold takes a seed");
    buf_init(&b, 1 << 20);
    buf_addc(&b, 0);
    must(state_write(&st, NULL, NULL, &b) == 0, "a part.state can be written");
    (void)snprintf(file, sizeof file, "part_%s", name);
    seed_write("core_state", file, buf_slice(&b));
    while (map_next(&st.runs, &pos, &k, &v)) {
        buf_reset(&b);
        buf_addc(&b, 1);
        must(run_state_write(&((struct run *)v)->known, &b) == 0, "a snapshot can be written");
        (void)snprintf(file, sizeof file, "run_%s", name);
        seed_write("core_state", file, buf_slice(&b));
    }
    buf_free(&b);
    state_free(&st);
}

static void journal(struct flog *l, const char *name)
{
    struct buf b;
    int64_t gap = 0;
    buf_init(&b, 1 << 20);
    for (int64_t i = 0; i < l->end; i++) {
        if (l->v[i])
            put_record(&b, l->v[i], gap);
        gap = l->v[i] ? 0 : gap + 1;
    }
    seed_write("core_fold", name, buf_slice(&b));
    buf_free(&b);
    state_seeds(l, name);
    flog_free(l);
}

static void finished(int agent, const char *name)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 7);
    flog_request(&l, agent, 1, 0);
    fake_finish_all(&n);
    fake_time(&n, 6000);
    part_leased(n.p, n.boot_ms);
    fake_finish_all(&n);
    part_tick(n.p, true);
    fake_run_all(&n);
    fake_close(&n);
    journal(&l, name);
}

static void controls(void)
{
    struct flog l = {0};
    struct fnode n;
    fake_open(&n, &l, NULL);
    fake_own(&n, 8);
    for (int i = 1; i < 5; i++)
        flog_request(&l, i % 2, i, i - 1);
    flog_request(&l, 0, 2, 0);
    fake_run_all(&n);
    flog_control(&l, REC_SUSPEND, 1);
    flog_control(&l, REC_SUSPEND, 1);
    flog_control(&l, REC_CANCEL, 2);
    flog_control(&l, REC_RETRY, 3);
    flog_control(&l, REC_RESUME, 99);
    fake_run_all(&n);
    flog_control(&l, REC_RESUME, 1);
    flog_request_api(&l, 0, 1, NULL);
    flog_request_api(&l, 0, 1, NULL);
    fake_run_all(&n);
    fake_close(&n);
    journal(&l, "controls");
}

/* The second owner's records make those of the first void; one of them is compacted away. */
static void takeover(void)
{
    struct flog l = {0};
    struct fnode a, b;
    fake_open(&a, &l, NULL);
    fake_own(&a, 9);
    flog_request(&l, 2, 1, 0);
    flog_request(&l, 0, 2, 1);
    fake_run_all(&a);
    fake_open(&b, &l, NULL);
    fake_own(&b, 10);
    fake_finish(&a, 1);
    (void)part_work(a.p);
    while (a.nout)
        fake_land(&a);
    fake_finish_all(&b);
    fake_close(&a);
    fake_close(&b);
    l.v[2] = rec_unref(l.v[2]);
    journal(&l, "takeover");
}

static struct rec *composite_fact(struct fnode *n, enum rec_type t, const char *ref,
                                  const char *next, enum step_phase phase)
{
    struct rec *r = fact_new(n->p, t, fake_run(1));
    must(r != NULL, "memory");
    r->ref = strdup(ref);
    r->body.has_output = t == REC_TASK_COMPLETED;
    r->body.output = val_text_new(SL("{\"a\":[1,2]}"));
    r->body.has_context = t == REC_TASK_COMPLETED;
    r->body.context = val_text_new(SL("{\"c\":null}"));
    r->body.next = next ? strdup(next) : NULL;
    r->body.phase = phase;
    must(rec_write_body(r) == 0, "memory");
    return r;
}

/* Inside a composite task, with a snapshot in two pieces. */
static void composite(void)
{
    struct flog l = {0};
    struct fnode n;
    struct buf text;
    fake_open(&n, &l, NULL);
    fake_own(&n, 11);
    flog_request(&l, 0, 1, 0);
    fake_run_all(&n);
    struct rec *v[] = {
        composite_fact(&n, REC_TASK_COMPLETED, "/do/0/p", "/do/1/d", PHASE_TASK),
        composite_fact(&n, REC_TASK_STARTED, "/do/1/d", "/do/1/d/do/0/x", PHASE_TASK),
        composite_fact(&n, REC_TASK_COMPLETED, "/do/1/d/do/0/x", "/do/1/d", PHASE_LEAVE),
    };
    for (size_t i = 0; i < 3; i++) {
        flog_land(&l, v[i]);
        rec_unref(v[i]);
    }
    fake_consume(&n);
    buf_init(&text, 1 << 20);
    must(run_state_write(&part_run(n.p, fake_run(1))->known, &text) == 0, "a snapshot");
    for (int i = 0; i < 2; i++) {
        struct rec *r = fact_new(n.p, REC_SNAPSHOT, fake_run(1));
        r->at = l.end - i;
        r->chunk = i;
        r->chunks = 2;
        r->value = val_text_new(sl(text.p + (i ? 100 : 0), i ? text.n - 100 : 100));
        flog_land(&l, r);
        rec_unref(r);
    }
    buf_free(&text);
    fake_close(&n);
    journal(&l, "composite");
}

/* A fork brings the state of another run. */
static void fork_of(void)
{
    struct flog l = {0};
    struct fnode n;
    struct buf b;
    fake_open(&n, &l, NULL);
    fake_own(&n, 12);
    flog_request(&l, 0, 1, 0);
    fake_run_all(&n);
    buf_init(&b, 1 << 20);
    buf_adds(&b, "{\"agent\":\"t/x\",\"input\":{\"a\":1},\"state\":");
    must(run_state_write(&part_run(n.p, fake_run(1))->known, &b) == 0, "a state");
    buf_adds(&b, "}");
    flog_request_api(&l, 0, 5, b.p);
    buf_free(&b);
    fake_finish_all(&n);
    fake_close(&n);
    journal(&l, "fork");
}

/* ---- events ---- */

static void event(const char *name, const char *const *headers, struct slice value)
{
    struct fuzz_record f = {.kind = 3, .gap = 1, .key = SL("k1"), .value = value};
    struct buf b;
    for (; *headers; headers += 2) {
        f.headers[f.nheaders].name = sl_str(headers[0]);
        f.headers[f.nheaders++].value =
            headers[1][0] == '-' ? (struct slice){NULL, 0} : sl_str(headers[1]);
    }
    buf_init(&b, 1 << 16);
    fuzz_record_write(&b, &f);
    seed_write("triggers_event", name, buf_slice(&b));
    buf_free(&b);
}

static void events(void)
{
    static const char *const
        plain[] = {NULL},
        *const binary[] = {"ce_specversion",
                           "1.0",
                           "ce_id",
                           "7",
                           "ce_source",
                           "/shop",
                           "ce_type",
                           "order.new",
                           "ce_subject",
                           "s",
                           "ce_time",
                           "2026-01-01T00:00:00Z",
                           "ce_Tenant",
                           "a",
                           "content-type",
                           "application/json; charset=utf-8",
                           "traceparent",
                           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                           "empty",
                           "-",
                           NULL},
        *const structured[] = {"content-type", "application/cloudevents+json; charset=UTF-8", NULL},
        *const text[] = {"content-type", "text/plain", NULL},
        *const bytes[] = {"content-type",
                          "application/octet-stream",
                          "ce_id",
                          "1",
                          "ce_type",
                          "t",
                          "ce_source",
                          "s",
                          NULL},
        *const noid[] = {"ce_specversion", "1.0", "ce_id", "", NULL},
        *const twice[] = {"ce_id", "1", "ce_id",     "2", "ce_ID",   "3", "ce_data", "x",
                          "ce_",   "y", "ce_source", "s", "ce_type", "t", NULL};
    event("plain", plain, SL("{\"n\":[1,2.5,\"\\u00e9\"]}"));
    event("tombstone", plain, (struct slice){NULL, 0});
    event("binary", binary, SL("{\"order\":{\"id\":7,\"total\":12.5}}"));
    event("structured", structured,
          SL("{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/s\",\"type\":\"t\",\"data\":[1],"
             "\"traceparent\":\"00-x\",\"data_base64\":\"AAA=\"}"));
    event("structured_list", structured, SL("[]"));
    event("text", text, SL("hello"));
    event("bytes", bytes, sl("\xff\0z", 3));
    event("no_id", noid, SL("{}"));
    event("twice", twice, SL("{}"));
    event("not_json", plain, SL("{\"a\":"));
}

static void all(void)
{
    static const char *const names[] = {"pure_safe_world", "raise", "once", "wait",
                                        "eleven",          "now"};
    for (int i = 0; i < 6; i++)
        finished(i, names[i]);
    controls();
    takeover();
    composite();
    fork_of();
    events();
    segment_seeds();
}

/* As one test, since the fixtures check with CUnit. */
int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    map_fix_seed(1);
    must(CU_initialize_registry() == CUE_SUCCESS, "CUnit starts");
    CU_pSuite suite = CU_add_suite("seeds", NULL, NULL);
    must(suite && CU_add_test(suite, "all", all) && CU_basic_run_tests() == CUE_SUCCESS,
         "CUnit runs");
    unsigned failed = CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
