/* The expression children: what they answer, and that an expression which kills, hangs or floods
 * its process fails alone. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "flow/evalpool.h"
#include "unit.h"

SUITE("flow/evalpool")

/* The pool starts this same program as its children. */
__attribute__((constructor)) static void be_the_child(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--eval-child") == 0)
        _exit(evalchild_main());
}

static struct loop *loop;
static struct evalpool *pool;
static const char *self; /* another program as the child; NULL: this one */
static size_t answers;

struct asked {
    struct tmpl *t;
    char *text; /* the value, or "ERROR message" */
    bool hint;
};

static void on_answer(void *arg, struct json_object *value, const struct err *e)
{
    struct asked *q = arg;
    struct buf b;
    buf_init(&b, 64u << 20);
    if (e)
        buf_addf(&b, "ERROR %s", e->msg);
    else
        js_write(value, &b);
    q->hint = e && e->hint[0];
    q->text = buf_take(&b);
    json_object_put(value);
    answers++;
}

static void begin(int64_t deadline_ms, size_t queue_max)
{
    struct evalpool_opts o = {.deadline_ms = deadline_ms, .queue_max = queue_max, .self = self};
    struct err e = {0};
    answers = 0;
    loop = loop_new(&e);
    NEED(loop != NULL);
    pool = evalpool_new(loop, &o, NULL, &e);
    NEED(pool != NULL);
}

static void end(void)
{
    pool = evalpool_free(pool);
    loop = loop_free(loop);
}

static int ask(struct asked *q, const char *template, enum tmpl_mode mode, const char *input,
               const struct expr_args *a)
{
    struct json_object *value = NULL, *in = NULL;
    struct err e = {0};
    struct expr_args none = {.now_ms = 1500};
    NEED(js_parse(sl_str(template), &value, &e) == 0);
    NEED(js_parse(sl_str(input), &in, &e) == 0);
    *q = (struct asked){.t = tmpl_compile(value, mode, a ? a->present : 0, NULL, NULL, &e)};
    json_object_put(value);
    if (!q->t)
        fprintf(stderr, "%s: %s\n", template, e.msg);
    NEED(q->t != NULL);
    int rc = evalpool_submit(pool, q->t, in, a ? a : &none, on_answer, q);
    json_object_put(in);
    return rc;
}

static void wait_for(size_t n)
{
    int64_t until = clock_boot_ms() + 180000;
    while (answers < n && clock_boot_ms() < until)
        loop_turn(loop, 1000);
    CHECK_INT(answers, n);
}

static void settle(struct asked *q)
{
    free(q->text);
    tmpl_free(q->t);
}

static void expect(const char *template, const char *input, const char *want)
{
    struct asked q;
    size_t before = answers;
    CHECK_INT(ask(&q, template, TMPL_STRICT, input, NULL), 0);
    wait_for(before + 1);
    if (q.text && strlen(q.text) > 1000) /* a failure should stay readable */
        q.text[1000] = 0;
    CHECK_STR(q.text, want);
    settle(&q);
}

TEST(a_template_is_filled_with_what_the_child_and_this_process_compute)
{
    begin(0, 0);
    expect("{\"a\":\"${ [.x | range(3)] }\",\"b\":[\"${ .x }\",\"text\",\"${ .x | sqrt }\"]}",
           "{\"x\":9}", "{\"a\":[0,1,2],\"b\":[9,\"text\",3]}");
    expect("\"${ now | floor, empty | todate }\"", "null", "\"1970-01-01T00:00:01Z\"");
    expect("\"${ reduce .[] as $i (0; . + $i) }\"", "[1,2,3.5]", "6.5");
    expect("\"${ range(3) | 1e17 | select(false) }\"", "null", "null");
    expect("\"${ 1e17 | tojson | fromjson }\"", "null", "100000000000000000");
    expect("\"${ test(\\\"^a\\\") }\"", "\"abc\"", "true");
    expect("\"${ . as [$a, {b: $c}] | $a + $c }\"", "[1,{\"b\":2}]", "3");
    end();
}

TEST(variables_and_locals_reach_the_child)
{
    struct expr_args a = {.present = 1u << VAR_CONTEXT | 1u << VAR_INPUT, .now_ms = 0};
    struct asked q;
    begin(0, 0);
    NEED(js_parse(SL("{\"n\":2}"), &a.var[VAR_CONTEXT], NULL) == 0);
    CHECK_INT(ask(&q, "\"${ [limit($context.n; .[])] + [$input] }\"", TMPL_STRICT, "[1,2,3]", &a),
              0);
    wait_for(1);
    CHECK_STR(q.text, "[1,2,null]");
    settle(&q);
    json_object_put(a.var[VAR_CONTEXT]);
    end();
}

TEST(errors_are_those_of_jq_and_have_a_hint)
{
    struct asked q;
    begin(0, 0);
    CHECK_INT(ask(&q, "\"${ .a | tonumber }\"", TMPL_STRICT, "{\"a\":\"x\"}", NULL), 0);
    wait_for(1);
    CHECK_STR(q.text,
              "ERROR Invalid numeric literal at EOF at line 1, column 1 (while parsing 'x')");
    CHECK(q.hint);
    settle(&q);
    expect("\"${ error(\\\"stop\\\") }\"", "null", "ERROR stop");
    expect("\"${ error({a: 1}) }\"", "null", "ERROR {\"a\":1}");
    expect("\"${ range(2) }\"", "null",
           "ERROR the expression gives several values where one is expected");
    expect("\"${ 1, error(\\\"late\\\") | tojson | fromjson }\"", "null", "ERROR late");
    end();
}

TEST(in_loose_mode_a_failure_in_the_child_yields_the_text)
{
    struct asked q;
    begin(0, 0);
    CHECK_INT(ask(&q, "[\". | tonumber\", \"hello world\", \"hello\"]", TMPL_LOOSE, "\"x\"", NULL),
              0);
    wait_for(1);
    CHECK_STR(q.text, "[\". | tonumber\",\"hello world\",\"hello\"]");
    settle(&q);
    end();
}

/* Each of these kills or hangs a process that uses libjq 1.6. */
static const char *const killers[] = {
    "\"${ 1e18 | todate }\"",
    "\"${ [.[1e9] = 1] | length }\"",
    "\"${ def f: f; f }\"",
    "\"${ [range(1e9)] | length }\"",
    "\"${ [recurse(. + \\\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\\")] | length }\"",
    "\"${ reduce range(1e6) as $i (.; [.]) | [.] | tojson | length }\"",
    "\"${ reduce range(1e6) as $i (.; [.]) | 1 }\"",
};
#define KILLERS (sizeof killers / sizeof *killers)

TEST(what_kills_its_process_fails_alone_and_the_others_go_on)
{
    struct asked bad[KILLERS], good[2 * KILLERS];
    begin(1000, 0);
    for (size_t i = 0; i < KILLERS; i++) {
        CHECK_INT(ask(&good[2 * i], "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), 0);
        CHECK_INT(ask(&bad[i], killers[i], TMPL_STRICT, "null", NULL), 0);
        CHECK_INT(ask(&good[2 * i + 1], "\"${ [range(2)] }\"", TMPL_STRICT, "null", NULL), 0);
    }
    wait_for(3 * KILLERS);
    for (size_t i = 0; i < KILLERS; i++) {
        /* Some need no death on some machines; then they are a value. What must not be is silence
         * or a wrong neighbour. */
        CHECK(bad[i].text != NULL);
        if (i < 4) {
            CHECK(strncmp(bad[i].text, "ERROR ", 6) == 0 || strstr(bad[i].text, "\"") != NULL);
            CHECK(bad[i].hint || strncmp(bad[i].text, "ERROR ", 6) != 0);
        }
        CHECK_STR(good[2 * i].text, "[0,1,2]");
        CHECK_STR(good[2 * i + 1].text, "[0,1]");
        settle(&bad[i]);
        settle(&good[2 * i]);
        settle(&good[2 * i + 1]);
    }
    end();
}

TEST(an_endless_program_ends_at_its_deadline)
{
    struct asked q;
    begin(300, 0);
    CHECK_INT(ask(&q, "\"${ def f: f; f }\"", TMPL_STRICT, "null", NULL), 0);
    wait_for(1);
    CHECK_STR(q.text, "ERROR the expression took too long");
    settle(&q);
    end();
}

/* The one child of this process. */
static pid_t find_child(void)
{
    struct dirent *d;
    pid_t found = 0;
    DIR *dir = opendir("/proc");
    NEED(dir != NULL);
    while ((d = readdir(dir))) {
        char path[300], text[512] = "";
        int pid = 0, parent = 0;
        (void)snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
        FILE *f = fopen(path, "re");
        if (!f)
            continue;
        if (fgets(text, sizeof text, f) && sscanf(text, "%d (%*[^)]) %*c %d", &pid, &parent) == 2 &&
            parent == getpid())
            found = pid;
        (void)fclose(f);
    }
    (void)closedir(dir);
    return found;
}

TEST(a_child_that_gets_no_processor_is_waited_for)
{
    struct asked q[2];
    begin(200, 0);
    CHECK_INT(ask(&q[0], "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), 0);
    wait_for(1);
    pid_t pid = find_child();
    NEED(pid > 0);
    CHECK_INT(kill(pid, SIGSTOP), 0);
    CHECK_INT(ask(&q[1], "\"${ [range(4)] }\"", TMPL_STRICT, "null", NULL), 0);
    int64_t until = clock_boot_ms() + 1000;
    while (clock_boot_ms() < until)
        loop_turn(loop, 20);
    CHECK_INT(answers, 1);
    CHECK_INT(kill(pid, SIGCONT), 0);
    wait_for(2);
    CHECK_STR(q[1].text, "[0,1,2,3]");
    settle(&q[0]);
    settle(&q[1]);
    end();
}

TEST(the_deadline_is_for_one_program_of_a_template)
{
    struct asked q;
    struct buf t;
    begin(1000, 0);
    buf_init(&t, 1 << 16);
    buf_addc(&t, '[');
    for (int i = 0; i < 100; i++) /* each is compiled for the first time */
        buf_addf(&t, "%s\"${ [range(%d)] | length }\"", i ? "," : "", i);
    buf_addc(&t, ']');
    CHECK_INT(ask(&q, t.p, TMPL_STRICT, "null", NULL), 0);
    wait_for(1);
    CHECK(q.text && strncmp(q.text, "[0,1,2,3,4,5", 12) == 0);
    settle(&q);
    buf_free(&t);
    end();
}

TEST(a_full_queue_refuses)
{
    struct asked q[3];
    begin(0, 2);
    CHECK_INT(ask(&q[0], "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), 0);
    CHECK_INT(ask(&q[1], "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), 0);
    CHECK_INT(ask(&q[2], "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), -EAGAIN);
    wait_for(2);
    for (int i = 0; i < 3; i++)
        settle(&q[i]);
    end();
}

TEST(what_is_pending_ends_without_an_answer_when_the_pool_is_freed)
{
    struct asked q[4];
    begin(0, 0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(ask(&q[i], "\"${ def f: f; f }\"", TMPL_STRICT, "null", NULL), 0);
    loop_turn(loop, 0);
    loop_turn(loop, 10);
    end();
    CHECK_INT(answers, 0);
    for (int i = 0; i < 4; i++)
        settle(&q[i]);
}

/* Frames: no list, no object, a length beyond the limit, one that nobody asked for. */
TEST(a_child_that_talks_nonsense_fails_only_its_evaluation)
{
    static const char *const frames[] = {
        "\\002\\000\\000\\000{}",   "\\007\\000\\000\\000{\"r\":7}", "\\004\\000\\000\\000null",
        "\\003\\000\\000\\000{\"r", "\\377\\377\\377\\377",          "\\000\\000\\000\\000"};
    char dir[] = "/tmp/tm-evalpool-XXXXXX", path[64], text[256];
    struct err e = {0};
    NEED(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/child", dir);
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct asked q;
        (void)snprintf(text, sizeof text, "#!/bin/sh\nprintf '%s' >&3\n", frames[i]);
        NEED(file_write_atomic(path, sl_str(text), &e) == 0 && chmod(path, 0700) == 0);
        self = path;
        begin(0, 0);
        self = NULL;
        CHECK_INT(ask(&q, "\"${ [range(3)] }\"", TMPL_STRICT, "null", NULL), 0);
        wait_for(1);
        CHECK(q.text && strncmp(q.text, "ERROR ", 6) == 0 && q.hint);
        settle(&q);
        end();
    }
    unit_remove(dir);
}

TEST(results_beyond_the_limits_are_errors)
{
    begin(60000, 0);
    expect("\"${ reduce range(127) as $i (.; [.]) }\"", "null",
           "ERROR the result is nested more than 125 levels deep");
    expect("\"${ [limit(1; .) * 17000000] }\"", "\"x\"", "ERROR the result is larger than 16 MiB");
    end();
}

TEST(check_tells_what_libjq_says)
{
    struct err e = {0};
    CHECK_INT(evalpool_check(SL("[.a | range(3)] | $context + $local"), &e), 0);
    CHECK_INT(evalpool_check(SL(".a ||"), &e), -EINVAL);
    CHECK_STR(e.msg, "expression, column 5: `|` where an expression should stand");
    CHECK_INT(evalpool_check(SL("1/0"), &e), -EINVAL);
    CHECK_STR(e.msg, "Division by zero?");
    CHECK(e.hint[0]);
}
