/* Loops, tries and timeouts on the real core: whole runs, record by record, in virtual time. After
 * every move the live state is the fold of the log, a snapshot of the run gives the run back, and
 * no fact key stands twice. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fake.h"
#include "unit.h"

SUITE("core/scopes")

/* One word a fact of a task: name of a completed one, !name a faulted one, ?name a try that handles
 * an error and ?name>N one that begins attempt N, [I] an iteration, (name) a composite that is
 * entered; #V a visit and .A an attempt that are not the first. */
static void word(struct buf *b, const struct rec *r)
{
    const char *name = r->ref ? strrchr(r->ref, '/') + 1 : "";
    if (r->type == REC_TASK_COMPLETED)
        buf_addf(b, " %s", name);
    else if (r->type == REC_TASK_FAULTED)
        buf_addf(b, " !%s", name);
    else if (r->type == REC_TASK_CAUGHT && r->body.attempt)
        buf_addf(b, " ?%s>%d", name, r->body.attempt);
    else if (r->type == REC_TASK_CAUGHT)
        buf_addf(b, " ?%s", name);
    else if (r->type == REC_TASK_STARTED && r->body.next && name[0] >= '0' && name[0] <= '9')
        buf_addf(b, " [%s]", name);
    else if (r->type == REC_TASK_STARTED && r->body.next)
        buf_addf(b, " (%s)", name);
    else
        return;
    if (r->visit)
        buf_addf(b, "#%d", r->visit);
    if (r->attempt > 1)
        buf_addf(b, ".%d", r->attempt);
}

static void check_snapshot(struct fnode *n)
{
    struct run *run = part_run(n->p, fake_run_api(1));
    struct buf a, b;
    struct json_object *o = NULL;
    struct run_state st = {0};
    if (!run)
        return;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    CHECK_INT(run_state_write(&run->known, &a), 0);
    CHECK_INT(js_parse(buf_slice(&a), &o, NULL), 0);
    CHECK_INT(run_state_read(&st, o), 0);
    CHECK_INT(run_state_write(&st, &b), 0);
    CHECK_STR(b.p, a.p);
    run_state_free(&st);
    json_object_put(o);
    buf_free(&a);
    buf_free(&b);
}

static void check_keys(const struct flog *l)
{
    struct map seen;
    map_init(&seen);
    for (int64_t i = 0; i < l->end; i++) {
        struct rec_wire w;
        NEED(rec_encode(l->v[i], &w) == 0);
        CHECK(!map_has(&seen, w.key));
        map_put(&seen, w.key, l->v[i], NULL);
        rec_wire_free(&w);
    }
    map_free(&seen);
}

/* An effect named failN fails in its attempts below N, fail always; slow never ends. */
static bool effect_fails(struct fnode *n, bool *slow)
{
    const char *name = strrchr(fake_begin(n), '/') + 1;
    struct run *r = part_run(n->p, fake_run_api(1));
    *slow = strcmp(name, "slow") == 0;
    if (strncmp(name, "fail", 4))
        return false;
    return !name[4] || r->spec.attempt < name[4] - '0';
}

struct ran {
    char *trace, *end;
    int64_t took_ms;
    struct flog log;
};

static void collect(struct ran *x)
{
    struct buf b, e;
    buf_init(&b, 1 << 16);
    buf_init(&e, 1 << 16);
    for (int64_t i = 0; i < x->log.end; i++) {
        struct rec *r = x->log.v[i];
        rec_read_body(r);
        word(&b, r);
        struct slice out = {NULL, 0}, error, type, status;
        if (r->type == REC_COMPLETED && js_member(val_text(r->value), "output", &out))
            buf_add_slice(&e, out);
        if (r->type == REC_FAULTED && js_member(val_text(r->value), "error", &error) &&
            js_member(error, "type", &type) && js_member(error, "status", &status)) {
            while (sl_find(type, '/') >= 0)
                type = sl_from(type, (size_t)sl_find(type, '/') + 1);
            buf_addf(&e, "%.*s %.*s", (int)type.n - 1, type.p, SL_ARG(status));
        }
    }
    x->trace = b.p ? buf_take(&b) : strdup("");
    x->end = e.p ? buf_take(&e) : strdup("");
}

static void ran_free(struct ran *x)
{
    flog_free(&x->log);
    free(x->trace);
    free(x->end);
}

/* The whole run. `restarts`: each step is done by a new owner, which goes on from the log. */
static struct ran run_it(const char *yaml, const char *input, bool restarts)
{
    struct ran x = {0};
    struct fnode n;
    char value[512];
    uint64_t nonce = 0xa1;
    snprintf(value, sizeof value, "{\"agent\":\"t/x\",\"input\":%s}", input);
    fake_use(yaml);
    fake_open(&n, &x.log, NULL);
    fake_own(&n, nonce);
    flog_request_api(&x.log, FAKE_OWN, 1, value);
    int64_t began = n.wall_ms;
    for (int i = 0; i < 300; i++) {
        bool slow = false;
        fake_run_all(&n);
        fake_check_fold(&n);
        check_snapshot(&n);
        if (restarts && part_run(n.p, fake_run_api(1)) && i % 2) {
            int64_t now = n.wall_ms;
            fake_close(&n);
            fake_open(&n, &x.log, NULL);
            fake_time(&n, now - n.wall_ms);
            fake_own(&n, ++nonce);
            continue;
        }
        if (fake_begin(&n)) {
            bool fails = effect_fails(&n, &slow);
            if (!slow && fails)
                fake_fail(&n);
            else if (!slow)
                fake_finish(&n, 5);
            if (!slow)
                continue;
        }
        if (part_next_due(n.p) == INT64_MAX)
            break;
        fake_time(&n, part_next_due(n.p) - n.wall_ms);
        part_leased(n.p, n.boot_ms);
    }
    x.took_ms = n.wall_ms - began;
    collect(&x);
    check_keys(&x.log);
    fake_close(&n);
    return x;
}

static void check_run(const char *yaml, const char *input, const char *trace, const char *end)
{
    struct ran x = run_it(yaml, input, false);
    CHECK_STR(x.trace[0] ? x.trace + 1 : "", trace);
    CHECK_STR(x.end, end);
    struct ran y = run_it(yaml, input, true);
    CHECK_STR(y.end, end);
    ran_free(&x);
    ran_free(&y);
}

#define POST(name) "{" name ": {call: http, with: {method: post, endpoint: http://x/, body: 1}}}"

TEST(a_loop_runs_once_for_each_element)
{
    check_run("do: [{l: {for: {in: .items}, do: [{a: {set: '${ {items, sum: (.sum + $item * 10 + "
              "$index)} }'}}]}}]",
              "{\"items\":[1,2,3],\"sum\":0}", "(l) a [1] a [2] a l",
              "{\"items\":[1,2,3],\"sum\":63}");
    check_run("do: [{l: {for: {each: n, at: i, in: '${ [5, 6] }'}, do: [{a: {set: '${ . + [$n, "
              "$i] }'}}], output: {as: '{out: .}'}}}]",
              "[]", "(l) a [1] a l", "{\"out\":[5,0,6,1]}");
}

TEST(a_loop_over_nothing_gives_its_input)
{
    check_run("do: [{l: {for: {in: '[]'}, do: [{a: {set: {x: 1}}}]}}]", "7", "l", "7");
    check_run("do: [{l: {for: {in: .}, do: [{a: {set: {x: 1}}}]}}]", "7", "!l", "expression 400");
    check_run("do: [{l: {for: {in: .x}, do: [{a: {set: {x: 1}}}]}}]", "{}", "!l", "expression 400");
    check_run("do: [{l: {for: {in: '[1,2]'}, do: []}}]", "7", "(l) [1] l", "7");
}

TEST(while_is_asked_before_each_iteration)
{
    check_run("do: [{l: {for: {in: '[1,2,3]'}, while: $item < 3 and . < 9, do: [{a: {set: '${ . + "
              "$item }'}}]}}]",
              "0", "(l) a [1] a l", "3");
    check_run("do: [{l: {for: {in: '[1,2,3]'}, while: $item > 1, do: [{a: {set: '${ 1 }'}}]}}]",
              "0", "l", "0");
}

TEST(exit_ends_the_loop_and_a_do_inside_ends_the_iteration)
{
    check_run("do: [{l: {for: {in: '[1,2,3]'}, do: [{a: {set: '${ $item }'}}, {s: {switch: [{two: "
              "{when: . == 2, then: exit}}]}}, {b: {set: '${ . }'}}]}}, {z: {set: '${ . * 10 }'}}]",
              "0", "(l) a s b [1] a s l z", "20");
    check_run("do: [{l: {for: {in: '[1,2,3]'}, do: [{d: {do: [{a: {if: $item == 2, set: '${ . "
              "}', then: exit}}, {b: {set: '${ $item }'}}]}}]}}]",
              "0", "(l) (d) a b d [1] (d) a d [2] (d) a b d l", "3");
    check_run("do: [{l: {for: {in: '[1,2,3]'}, do: [{a: {set: '${ $item }', then: end}}]}}]", "0",
              "(l) a", "1");
}

TEST(loops_inside_one_another_see_both_variables)
{
    check_run("do: [{l: {for: {each: a, in: '[1,2]'}, do: [{m: {for: {each: b, in: '[3,4]', at: "
              "i}, do: [{x: {set: '${ . + [$a * $b] }'}}]}}]}}]",
              "[]", "(l) (m) x [1] x m [1] (m) x [1] x m l", "[3,4,6,8]");
}

TEST(a_loop_that_is_entered_again_has_visits_of_its_own)
{
    check_run("do: [{l: {for: {in: '[1]'}, do: [{x: {set: '${ . + 1 }'}}]}}, {s: {switch: [{again: "
              "{when: . < 3, then: l}}]}}]",
              "0", "(l) x l s (l)#1 x#1 l#1 s#1 (l)#2 x#2 l#2 s#2", "3");
}

TEST(an_effect_in_a_loop_has_the_reference_of_its_iteration)
{
    struct ran x = run_it("do: [{l: {for: {in: '[1,2]'}, do: [" POST("p") "]}}]", "0", false);
    const char *last = NULL;
    for (int64_t i = 0; i < x.log.end; i++)
        if (x.log.v[i]->type == REC_TASK_COMPLETED &&
            x.log.v[i]->ref[strlen(x.log.v[i]->ref) - 1] == 'p')
            last = x.log.v[i]->ref;
    CHECK_STR(last, "/do/0/l/for/1/do/0/p");
    ran_free(&x);
}

#define RETRY2 "retry: {delay: PT1S, limit: {attempt: {count: 2}}}"

TEST(a_try_that_works_is_transparent)
{
    check_run("do: [{t: {try: [{a: {set: '${ . + 1 }'}}], catch: {}}}]", "1", "(t) a t", "2");
}

TEST(a_retry_runs_the_list_again_as_the_next_attempt)
{
    check_run("do: [{t: {try: [{a: {set: '${ . + 1 }'}}, " POST("fail3") "], catch: {" RETRY2
                                                                         "}}}]",
              "1", "(t) a !fail3 ?t>2 a.2 !fail3.2 ?t>3.2 a.3 fail3.3 t", "5");
}

TEST(exhausted_retries_raise_the_error_or_go_to_catch_do)
{
    check_run("do: [{t: {try: [" POST("fail") "], catch: {" RETRY2 "}}}]", "1",
              "(t) !fail ?t>2 !fail.2 ?t>3.2 !fail.3 !t", "communication 500");
    check_run("do: [{t: {try: [" POST(
                  "fail") "], catch: {" RETRY2
                          ", do: [{h: {set: '${ {was: ., e: $error.status} }'}}]}}}]",
              "1", "(t) !fail ?t>2 !fail.2 ?t>3.2 !fail.3 ?t.3 h t", "{\"was\":1,\"e\":500}");
}

TEST(a_caught_error_without_do_gives_the_tries_input)
{
    check_run("do: [{t: {input: {from: . + 1}, try: [{a: {set: '${ 99 }'}}, " POST(
                  "fail") "], catch: {}, output: {as: '[.]'}}}]",
              "1", "(t) a !fail ?t t", "[2]");
}

TEST(catch_then_leads_the_way_of_the_error_only)
{
    static const char *const flow =
        "do: [{t: {try: [%s], catch: {then: z}, then: y}}, {x: {set: '${ 1 }'}}, {y: {set: '${ 2 "
        "}', then: end}}, {z: {set: '${ 3 }'}}]";
    char text[512];
    snprintf(text, sizeof text, flow, POST("fail"));
    check_run(text, "0", "(t) !fail ?t t z", "3");
    snprintf(text, sizeof text, flow, POST("fine"));
    check_run(text, "0", "(t) fine t y", "2");
}

TEST(filters_say_which_errors_are_caught)
{
    static const struct {
        const char *catch_, *end;
    } rows[] = {
        {"errors: {with: {status: 409}}", "1"},
        {"errors: {with: {status: 408}}", "boom 409"},
        {"errors: {with: {type: 'https://x/boom', title: no}}", "1"},
        {"errors: {with: {title: nope}}", "boom 409"},
        {"when: $error.status == 409", "1"},
        {"when: $error.status == 1", "boom 409"},
        {"exceptWhen: $error.status == 409", "boom 409"},
        {"as: e, when: $e.title == \"no\"", "1"},
        {"errors: {with: {type: 'https://serverlessworkflow.io/spec/1.0.0/errors/timeout'}}",
         "boom 409"},
        {"retry: {delay: PT0S, when: $error.status == 1, limit: {attempt: {count: 1}}}",
         "boom 409"},
        {"retry: {delay: PT0S, exceptWhen: $error.status == 409, limit: {attempt: {count: 1}}}, "
         "do: []",
         "1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "do: [{t: {try: [{r: {raise: {error: {type: 'https://x/boom', status: 409, title: "
                 "no}}}}], catch: {%s}}}]",
                 rows[i].catch_);
        struct ran x = run_it(text, "1", false);
        CHECK_STR(x.end, rows[i].end);
        ran_free(&x);
    }
}

TEST(standard_errors_match_by_name_whatever_their_prefix)
{
    check_run("do: [{t: {try: [" POST(
                  "fail") "], catch: {errors: {with: {type: "
                          "'https://serverlessworkflow.io/spec/1.0.0/errors/communication'}}}}}]",
              "1", "(t) !fail ?t t", "1");
}

TEST(what_is_not_caught_goes_to_the_try_outside)
{
    check_run("do: [{o: {try: [{i: {try: [" POST(
                  "fail") "], catch: {errors: {with: {status: 1}}}}}], catch: {do: [{h: {set: '${ "
                          "$error.instance }'}}]}}}]",
              "1", "(o) (i) !fail !i ?o h o", "\"/do/0/o/try/0/i/try/0/fail\"");
    check_run("do: [{o: {try: [{i: {try: [" POST(
                  "fail") "], catch: {do: [{again: {raise: {error: {type: 'https://x/b', status: "
                          "410}}}}]}}}], "
                          "catch: {as: e, do: [{h: {set: '${ $e.status }'}}]}}}]",
              "1", "(o) (i) !fail ?i !again ?o h o", "410");
}

TEST(no_task_has_the_same_visit_and_attempt_twice)
{
    check_run("do: [{o: {try: [{i: {try: [" POST(
                  "fail") "], catch: {retry: {delay: PT0S, limit: {attempt: {count: 1}}}}}}], "
                          "catch: {retry: "
                          "{delay: PT0S, limit: {attempt: {count: 1}}}}}}]",
              "1", "(o) (i) !fail ?i>2 !fail.2 !i ?o>3 (i).3 !fail.3 ?i>4.3 !fail.4 !i.3 !o",
              "communication 500");
    /* The same try again, by a jump: what failed there counts as visited. */
    check_run("do: [{t: {try: [" POST("fail") "], catch: {}, output: {as: . + 1}}}, {s: {switch: "
                                              "[{again: {when: . < 2, then: t}}]}}]",
              "0", "(t) !fail ?t t s (t)#1 !fail#1 ?t#1 t#1 s#1", "2");
}

TEST(an_attempt_begins_with_the_context_and_visits_of_the_first)
{
    check_run("do: [{a: {set: '${ 1 }', export: {as: '[1]'}}}, {t: {try: [{b: {set: '${ $context "
              "}', export: {as: '$context + [2]'}}}, " POST("fail2") ", {c: {set: '${ $context "
                                                                     "}'}}], catch: {" RETRY2
                                                                     "}}}]",
              "0", "a (t) b !fail2 ?t>2 b.2 fail2.2 c.2 t", "[1,2]");
}

TEST(delays_grow_as_the_policy_says)
{
    static const struct {
        const char *policy;
        int64_t least, most;
    } rows[] = {{"delay: PT2S, limit: {attempt: {count: 3}}", 6000, 6000},
                {"limit: {attempt: {count: 2}}", 2000, 2000},
                {"delay: PT1S, backoff: {linear: {}}, limit: {attempt: {count: 3}}", 6000, 6000},
                {"delay: PT1S, backoff: {exponential: {}}, limit: {attempt: {count: 4}}", 15000,
                 15000},
                {"delay: PT1S, jitter: {from: PT1S, to: PT2S}, limit: {attempt: {count: 2}}", 4001,
                 5999},
                {"delay: '${ {seconds: .} }', limit: {attempt: {count: 1}}", 3000, 3000},
                {"delay: PT4S, limit: {duration: PT10S}", 8000, 8000},
                {"delay: PT4S, limit: {duration: PT10S, attempt: {count: 1}}", 4000, 4000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        snprintf(text, sizeof text, "do: [{t: {try: [" POST("fail") "], catch: {retry: {%s}}}}]",
                 rows[i].policy);
        struct ran x = run_it(text, "3", false);
        CHECK_STR(x.end, "communication 500");
        if (x.took_ms < rows[i].least || x.took_ms > rows[i].most)
            fprintf(stderr, "%s: %" PRId64 " ms\n", rows[i].policy, x.took_ms);
        CHECK(x.took_ms >= rows[i].least && x.took_ms <= rows[i].most);
        ran_free(&x);
    }
}

TEST(a_composite_that_takes_too_long_is_a_timeout_that_can_be_caught)
{
    check_run("do: [{d: {timeout: {after: PT3S}, do: [{a: {set: '${ 1 }'}}, {w: {wait: PT10S}}]}}]",
              "0", "(d) a !d", "timeout 408");
    check_run(
        "do: [{t: {try: [{d: {timeout: {after: PT3S}, do: [" POST(
            "slow") "]}}], catch: {do: [{h: {set: '${ [$error.status, $error.instance] }'}}]}}}]",
        "0", "(t) (d) !d ?t h t", "[408,\"/do/0/t/try/0/d\"]");
    /* In time: nothing happens. */
    check_run("do: [{d: {timeout: {after: PT3S}, do: [{w: {wait: PT2S}}]}}, {w: {wait: PT5S}}]",
              "0", "(d) w d w", "0");
}

TEST(a_wait_ends_with_its_timeout)
{
    check_run("do: [{t: {try: [{w: {timeout: {after: PT1S}, wait: PT5S}}], catch: {errors: {with: "
              "{status: 408}}}}}]",
              "4", "(t) !w ?t t", "4");
}

TEST(an_attempt_that_takes_too_long_is_tried_again)
{
    static const char *const flow = "do: [{t: {try: [" POST(
        "slow") "], catch: {retry: {delay: PT1S, limit: {attempt: {count: 1, "
                "duration: PT3S}}}}}}]";
    check_run(flow, "0", "(t) !slow ?t>2 !slow.2 !t", "timeout 408");
    struct ran x = run_it(flow, "0", false);
    CHECK_INT(x.took_ms, 7000);
    ran_free(&x);
}

TEST(a_run_that_takes_too_long_ends_whatever_catches)
{
    check_run("timeout: {after: PT5S}\ndo: [{t: {try: [{w: {wait: PT1H}}], catch: {do: [{h: {set: "
              "'${ 1 }'}}]}}}]",
              "0", "input (t)", "timeout 408");
    check_run("use: {timeouts: {long: {after: '${ .limit }'}}}\ntimeout: long\ndo: [{w: {wait: "
              "PT1S}}]",
              "{\"limit\":\"PT2S\"}", "input w", "{\"limit\":\"PT2S\"}");
}

TEST(the_outermost_timeout_wins)
{
    check_run("do: [{o: {timeout: {after: PT2S}, do: [{t: {try: [{i: {timeout: {after: PT2S}, do: "
              "[{w: {wait: PT9S}}]}}], catch: {}}}]}}]",
              "0", "(o) (t) (i) !o", "timeout 408");
}

TEST(a_suspended_run_times_out_when_it_is_resumed)
{
    struct flog l = {0};
    struct fnode n;
    fake_use("do: [{d: {timeout: {after: PT3S}, do: [{w: {wait: PT2S}}]}}]");
    fake_open(&n, &l, NULL);
    fake_own(&n, 0xa1);
    flog_request(&l, FAKE_OWN, 1, 0);
    fake_run_all(&n);
    flog_control(&l, REC_SUSPEND, 1);
    fake_run_all(&n);
    fake_time(&n, 60000);
    part_leased(n.p, n.boot_ms);
    fake_run_all(&n);
    CHECK_INT(n.nended, 0);
    flog_control(&l, REC_RESUME, 1);
    fake_run_all(&n);
    CHECK_INT(n.nended, 1);
    char *types = fake_types(&l, 0);
    CHECK(strstr(types, "task.faulted run.faulted") != NULL);
    free(types);
    fake_check_fold(&n);
    fake_close(&n);
    flog_free(&l);
}

TEST(a_retry_that_waits_can_be_asked_to_begin_now)
{
    struct flog l = {0};
    struct fnode n;
    fake_use("do: [{t: {try: [{r: {raise: {error: {type: 'https://x/e', status: 409}}}}], catch: "
             "{retry: {delay: PT1H, limit: {attempt: {count: 1}}}}}}]");
    fake_open(&n, &l, NULL);
    fake_own(&n, 0xa1);
    flog_request(&l, FAKE_OWN, 1, 0);
    fake_run_all(&n);
    CHECK_INT(n.nended, 0);
    flog_control(&l, REC_RETRY, 1);
    fake_run_all(&n);
    fake_check_fold(&n);
    CHECK_INT(n.nended, 1);
    char *types = fake_types(&l, 0);
    CHECK(strstr(types, "task.caught run.retry run.retried task.faulted") != NULL);
    free(types);
    flog_control(&l, REC_RETRY, 1); /* nothing to retry any more */
    fake_run_all(&n);
    types = fake_types(&l, l.end - 1);
    CHECK_STR(types, "request.settled");
    free(types);
    fake_close(&n);
    flog_free(&l);
}

TEST(what_is_tried_without_end_is_bounded)
{
    struct run_state st = {0};
    struct rec *r = rec_new(REC_TASK_CAUGHT, fake_run_api(1));
    r->ref = strdup("/do/0/t");
    r->body.ready = true;
    r->body.attempt = 2;
    st.status = RUN_ACTIVE;
    st.frames = calloc(1, sizeof *st.frames);
    st.nframes = 1;
    st.frames[0] = (struct frame){.ref = strdup("/do/0/t"), .tries = 1, .tries_max = 1};
    map_init(&st.frames[0].base);
    map_init(&st.visits);
    int64_t before = st.tasks;
    CHECK_INT(run_apply(&st, r, NULL), 0);
    CHECK_INT(st.tasks, before + 1); /* attempts count towards the tasks that a run may have */
    CHECK_INT(st.frames[0].tries, 2);
    rec_unref(r);
    run_state_free(&st);
}
