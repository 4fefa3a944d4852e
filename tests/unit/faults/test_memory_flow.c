/* Expressions, templates, the pool of expression children and the configuration when memory runs
 * out. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "config/config.h"
#include "flow/evalpool.h"
#include "loop/child.h"
#include "paths.h"

SUITE("faults/memory_flow")

static struct json_object *value, *input;

static int evaluate(char **ret)
{
    struct expr_args a = {.present = 1u << VAR_CONTEXT, .now_ms = 1};
    struct json_object *out = NULL;
    struct err e = {0};
    struct buf b;
    struct tmpl *t = tmpl_compile(value, TMPL_LOOSE, 1u << VAR_CONTEXT, NULL, NULL, &e);
    int error = t ? tmpl_eval_inline(t, input, &a, &out, &e) : -ENOMEM;
    fault_off();
    if (error) {
        CHECK(e.msg[0] && !out);
    } else {
        buf_init(&b, 1 << 16);
        NEED(js_write(out, &b) == 0);
        *ret = buf_take(&b);
    }
    json_object_put(out);
    tmpl_free(t);
    return error;
}

TEST(expressions)
{
    NEED(js_parse(
             SL("{\"a\":\".x.y[0]\",\"b\":[\"[.x.y[] | . * 2 + 1]\",\"plain text, no program\"],"
                "\"c\":\"{k: (.x.y | length), (.name): .name}\",\"d\":\".x.y | map(. + 1) | add\","
                "\"e\":\"\\\"\\\\(.name)-\\\\(.x.y | join(\\\",\\\"))\\\"\",\"f\":\".none // "
                "\\\"d\\\"\","
                "\"g\":\".name | split(\\\"a\\\")\",\"h\":\".x | to_entries\"}"),
             &value, NULL) == 0);
    NEED(js_parse(SL("{\"x\":{\"y\":[1,2,3]},\"name\":\"abacus\"}"), &input, NULL) == 0);
    every_allocation("a template", evaluate);
    json_object_put(value);
    json_object_put(input);
}

/* ---- an evaluation in a child that is here already ---- */

#define FAKE_PID 0x7ffffff0

static const char answer[] = "\x20\0\0\0{\"r\":[{\"v\":[0,1,2]},{\"v\":1e17}]}";
static int peer = -1;

int __real_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo)
{
    return pid == FAKE_PID ? 0 : __real_kill(pid, signo);
}

pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
    return pid == FAKE_PID ? pid : __real_waitpid(pid, status, options);
}

static bool fake_child;
int __real_child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd,
                      int *ret_pidfd, pid_t *ret_pid, struct err *e);
int __wrap_child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd,
                      int *ret_pidfd, pid_t *ret_pid, struct err *e);
int __wrap_child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd,
                      int *ret_pidfd, pid_t *ret_pid, struct err *e)
{
    int fd[2];
    if (!fake_child)
        return __real_child_pair(argv, memory_max_bytes, ret_fd, ret_pidfd, ret_pid, e);
    if (peer >= 0)
        close(peer);
    NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
    NEED(write(fd[1], answer, sizeof answer - 1) == sizeof answer - 1);
    *ret_fd = fd[0];
    *ret_pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *ret_pid = FAKE_PID;
    peer = fd[1];
    return 0;
}

static struct tmpl *asked;
static char *given;
static int answers;

static void on_value(void *arg, struct json_object *v, const struct err *e)
{
    bool on = fault_off();
    struct buf b;
    answers++;
    if (e && e->code && getenv("TIDEMARK_TEST_FAULT"))
        fprintf(stderr, "answer: %s\n", e->msg);
    CHECK(!e || !e->code || (e->msg[0] && e->hint[0] && !v));
    if (!e) {
        buf_init(&b, 1 << 16);
        NEED(js_write(v, &b) == 0);
        given = buf_take(&b);
    }
    json_object_put(v);
    fault_back(on);
}

/* The answer comes once, or the request was refused. */
static int ask_child(char **ret)
{
    struct evalpool_opts o = {.children = 1};
    struct expr_args a = {.now_ms = 1};
    struct err e = {0};
    bool on = fault_off();
    struct loop *l = loop_new(&e);
    NEED(l != NULL);
    fault_back(on);
    struct evalpool *p = evalpool_new(l, &o, NULL, &e);
    int error = p ? evalpool_submit(p, asked, input, &a, on_value, NULL) : -ENOMEM;
    if (!p)
        CHECK(e.msg[0] && e.hint[0]);
    answers = 0;
    given = NULL;
    fake_child = true;
    for (int i = 0; !error && i < 50 && !answers; i++)
        loop_turn(l, 0);
    fault_off();
    for (int i = 0; !error && i < 3000 && !answers; i++) /* a start that failed is tried again */
        loop_turn(l, 1);
    fake_child = false;
    CHECK_INT(answers, error ? 0 : 1);
    *ret = given;
    evalpool_free(p);
    loop_free(l);
    if (peer >= 0)
        close(peer);
    peer = -1;
    return error ? error : given ? 0 : -ENOMEM;
}

TEST(an_evaluation_in_a_child)
{
    struct err e = {0};
    int before = fault_descriptors();
    NEED(js_parse(
             SL("{\"a\":\"${ [limit(3; .[])] }\",\"b\":[1,\"${ . }\",\"${ [limit(1; .[])] }\"]}"),
             &value, NULL) == 0);
    NEED(js_parse(SL("[1,2,3]"), &input, NULL) == 0);
    asked = tmpl_compile(value, TMPL_STRICT, 0, NULL, NULL, &e);
    NEED(asked != NULL);
    every_allocation("an evaluation in a child", ask_child);
    tmpl_free(asked);
    json_object_put(value);
    json_object_put(input);
    CHECK_INT(fault_descriptors(), before);
}

/* ---- the configuration ---- */

static char config_path[128];

static int load(char **ret)
{
    struct diags d;
    struct buf b;
    diags_init(&d);
    struct config *c = config_load(config_path, &d);
    fault_off();
    CHECK((c == NULL) == (d.errors > 0));
    if (c) {
        buf_init(&b, 1 << 16);
        buf_addf(&b, "%s %s %d %s %s %s %zu", c->group, c->node_id, c->max_active_runs,
                 config_kafka(c, "bootstrap.servers"), config_kafka(c, "linger.ms"), c->agents_dir,
                 c->ntopics);
        for (size_t i = 0; i < c->ntopics; i++)
            buf_addf(&b, " %s %d %s", c->topics[i].name, c->topics[i].partitions,
                     c->topics[i].types ? c->topics[i].types[0] : "");
        *ret = buf_take(&b);
    }
    int error = c ? 0 : -ENOMEM;
    config_free(c);
    diags_free(&d);
    return error;
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[160];
    struct err e = {0};
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    NEED(file_write_atomic(path, sl_str(text), &e) == 0);
}

TEST(the_configuration)
{
    char dir[] = "/tmp/tm-faults-XXXXXX", path[64];
    int before = fault_descriptors();
    NEED(mkdtemp(dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/config", dir);
    NEED(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof path, "%s/topics", dir);
    NEED(mkdir(path, 0700) == 0);
    put(dir, "config/tidemark.yaml",
        "group: shop\nnode: {id: n1}\nkafka: {bootstrap.servers: 'h:1', linger.ms: 5}\n"
        "runs: {active: 7}\ntopics:\n  orders: {partitions: 3, types: [order.new, order.old]}\n");
    put(dir, "topics/more.yaml", "partitions: 2\ntypes: [more.x]\n");
    (void)snprintf(config_path, sizeof config_path, "%s/config/tidemark.yaml", dir);
    every_allocation("config_load", load);
    CHECK_INT(fault_descriptors(), before);
    unit_remove(dir);
}
