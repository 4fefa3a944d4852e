/* What `check` says of wrong definitions: every problem at once, at its place, with a hint. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "flow/evalpool.h"
#include "flows.h"
#include "unit.h"

SUITE("flow/check")

static int is_yaml(const struct dirent *e)
{
    return sl_ends(sl_str(e->d_name), SL(".yaml"));
}

static void read_file(const char *folder, const char *name, struct buf *b)
{
    char path[1536];
    struct err e = {0};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    buf_init(b, 1 << 20);
    CHECK_INT(file_read(path, b, &e), 0);
    CHECK_STR(e.msg, "");
}

/* Of the messages about an expression only the place inside it is ours. */
static void compare(const char *name, struct slice seen, struct slice want)
{
    struct slice s, w;
    bool expression = false;
    while (sl_split(&want, '\n', &w)) {
        if (!sl_split(&seen, '\n', &s))
            s = SL("");
        char a[1200], b[1200];
        (void)snprintf(a, sizeof a, "%s: %.*s", name, SL_ARG(s));
        (void)snprintf(b, sizeof b, "%s: %.*s", name, SL_ARG(w));
        if (expression && sl_starts(w, SL("    "))) {
            expression = false;
            continue;
        }
        char *cut = strstr(b, "expression, column ");
        expression = cut != NULL;
        if (cut) {
            size_t n = (size_t)(strchr(cut, ':') - b);
            a[n] = b[n] = 0;
        }
        CHECK_STR(a, b);
    }
    if (sl_split(&seen, '\n', &s))
        CHECK_STR(s.p, "");
}

static void check_file(const char *folder, const char *yaml)
{
    char name[256], path[1536];
    struct buf text, want, seen;
    struct err e = {0};
    (void)snprintf(name, sizeof name, "%.*s.expect", (int)(strlen(yaml) - 5), yaml);
    read_file(folder, yaml, &text);
    buf_init(&seen, 1 << 20);
    flow_unref(flow_of(text.p, &seen));
    CHECK(seen.n > 0);
    if (getenv("WRITE_EXPECTATIONS")) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, name);
        CHECK_INT(file_write_atomic(path, buf_slice(&seen), &e), 0);
    }
    read_file(folder, name, &want);
    compare(yaml, buf_slice(&seen), buf_slice(&want));
    buf_free(&text);
    buf_free(&want);
    buf_free(&seen);
}

TEST(bad_definitions)
{
    struct dirent **v;
    char folder[1024];
    (void)snprintf(folder, sizeof folder, "%s", flows_folder("bad"));
    int n = scandir(folder, &v, is_yaml, alphasort);
    NEED(n > 10);
    for (int i = 0; i < n; i++) {
        check_file(folder, v[i]->d_name);
        free(v[i]);
    }
    free(v);
}

TEST(every_error_has_a_hint)
{
    struct dirent **v;
    char folder[1024];
    (void)snprintf(folder, sizeof folder, "%s", flows_folder("bad"));
    int n = scandir(folder, &v, is_yaml, alphasort);
    NEED(n > 10);
    for (int i = 0; i < n; i++) {
        struct buf text, seen;
        read_file(folder, v[i]->d_name, &text);
        buf_init(&seen, 1 << 20);
        flow_unref(flow_of(text.p, &seen));
        CHECK(!strstr(seen.p, "\n    -\n"));
        buf_free(&text);
        buf_free(&seen);
        free(v[i]);
    }
    free(v);
}

/* A part of the specification that is not there yet must be told, wherever it stands. */
TEST(what_is_not_supported_yet_is_refused_never_ignored)
{
    static const char *const tasks[] = {"fork: {branches: []}",
                                        "listen: {to: {any: []}}",
                                        "call: openapi\n      with: {}",
                                        "call: grpc\n      with: {}",
                                        "call: asyncapi\n      with: {}",
                                        "call: a2a\n      with: {}",
                                        "call: mcp\n      with: {}",
                                        "call: f:1.0.0@global",
                                        "call: https://example.com/function.yaml",
                                        "run: {container: {image: a}}",
                                        "run: {workflow: {namespace: a, name: b, version: 1.0.0}}",
                                        "call: http\n      with: {method: get, endpoint: {uri: "
                                        "https://a.b, authentication: {oauth2: {}}}}",
                                        "call: http\n      with: {method: get, endpoint: {uri: "
                                        "https://a.b, authentication: {oidc: {}}}}",
                                        "call: http\n      with: {method: get, endpoint: {uri: "
                                        "https://a.b, authentication: {digest: {}}}}"};
    static const char *const roots[] = {"schedule: {every: PT1S}",
                                        "schedule: {cron: '* * * * *'}",
                                        "schedule: {after: PT1S}",
                                        "schedule: {on: {all: []}}",
                                        "schedule: {on: {any: [], until: .x}}",
                                        "use: {extensions: []}",
                                        "use: {catalogs: {}}"};
    char text[1024];
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks + sizeof roots / sizeof *roots; i++) {
        struct buf seen;
        size_t n = sizeof tasks / sizeof *tasks;
        if (i < n)
            (void)snprintf(text, sizeof text, FLOW_HEAD "do:\n  - a:\n      %s\n", tasks[i]);
        else
            (void)snprintf(text, sizeof text, FLOW_HEAD "%s\ndo: []\n", roots[i - n]);
        buf_init(&seen, 1 << 16);
        struct flow *f = flow_of(text, &seen);
        if (f || !strstr(seen.p ? seen.p : "", "not supported yet by this version"))
            CHECK_STR(seen.p ? seen.p : "", text);
        flow_unref(f);
        buf_free(&seen);
    }
}

TEST(limits_are_told)
{
    struct buf text, seen;
    buf_init(&text, 4 << 20);
    buf_init(&seen, 1 << 20);
    buf_adds(&text, FLOW_HEAD "do:\n");
    for (int i = 0; i <= FLOW_TASKS_MAX; i++)
        buf_addf(&text, "  - t%d: {set: {a: 1}}\n", i);
    CHECK(!flow_of(text.p, &seen));
    CHECK_STR(seen.p,
              "10003:13: a definition may have at most 10000 tasks\n    split the definition\n");
    buf_reset(&text);
    buf_reset(&seen);
    buf_adds(&text, FLOW_HEAD "do:\n  - ");
    for (int i = 0; i < 500; i++)
        buf_addc(&text, 'n');
    buf_adds(&text, ": {set: {a: 1}}\n");
    CHECK(!flow_of(text.p, &seen));
    CHECK(seen.p && strstr(seen.p, "reference is longer than 480 bytes"));
    buf_reset(&text);
    buf_reset(&seen);
    buf_adds(&text, FLOW_HEAD "do:\n");
    for (int i = 0; i < 300; i++)
        buf_addf(&text, "  - t%d: {sett: {a: 1}}\n", i);
    CHECK(!flow_of(text.p, &seen)); /* more problems than a list holds */
    buf_reset(&text);
    buf_reset(&seen);
    buf_adds(&text, FLOW_HEAD "schedule: {on: {one: {with: {type: 'a+");
    for (int i = 0; i < 1024; i++)
        buf_addc(&text, 'b');
    buf_adds(&text, "'}}}}\ndo: [{a: {set: {n: 1}}}]\n");
    CHECK(!flow_of(text.p, &seen));
    CHECK(seen.p && strstr(seen.p, "1024 bytes"));
    buf_free(&text);
    buf_free(&seen);
}

/* Run as an expression child, this program is one. */
__attribute__((constructor)) static void be_a_child(void)
{
    char line[4096];
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f)
        (void)fclose(f);
    line[n] = 0;
    const char *first = line + strlen(line) + 1;
    if (first < line + n && !strcmp(first, "--eval-child"))
        _exit(evalchild_main());
}

TEST(deep_compiles_what_only_jq_can_judge)
{
    static const char *const text =
        FLOW_HEAD "do:\n  - a: {set: {x: '${ {(1): 2} }', y: '${ [limit(1; .[])] }'}}\n";
    struct diags d;
    struct flow *f = NULL;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(text), "test.yaml", &d);
    NEED(y != NULL);
    CHECK_INT(flow_parse(y, false, &f, &d), 0);
    f = flow_unref(f);
    CHECK_INT(d.n, 0);
    CHECK_INT(flow_parse(y, true, &f, &d), -EINVAL);
    CHECK_INT(d.n, 1);
    if (d.n) {
        CHECK_INT(d.v[0].line, 3);
        CHECK_INT(d.v[0].col, 18);
        CHECK(strstr(d.v[0].msg, "Cannot use number (1) as object key") != NULL);
    }
    diags_free(&d);
    ydoc_free(y);
}
