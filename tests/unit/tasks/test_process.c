/* run: shell and run: script with real processes. */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "world.h"

SUITE("tasks/process")

static struct world w;
static struct task task;
static char with[200000];

static void setup(int type, int max_processes)
{
    world_open(&w, max_processes);
    task = (struct task){.name = "t", .ref = "/do/0/t", .type = type, .await = true};
}

static const char *sh(const char *command, const char *more)
{
    (void)snprintf(with, sizeof with, "{\"command\":\"%s\"%s}", command, more);
    return world_run(&w, &task, with);
}

TEST(shell_gives_stdout_less_one_newline_and_never_parses_it)
{
    setup(TASK_SHELL, 2);
    CHECK_STR(sh("echo; echo 1; echo", ""), "\"\\n1\\n\"");
    CHECK_STR(sh("echo '{}'", ""), "\"{}\"");
    CHECK_STR(sh("true", ""), "\"\"");
    CHECK_STR(sh("printf 'a\\\\377b'", ""), "\"a\xef\xbf\xbd"
                                            "b\"");
    world_close(&w);
}

TEST(shell_takes_arguments_stdin_and_environment)
{
    setup(TASK_SHELL, 2);
    CHECK_STR(sh("cat; echo $2 $1 $V",
                 ",\"stdin\":\"in \",\"arguments\":[\"a\",2],\"environment\":{\"V\":true}"),
              "\"in 2 a true\"");
    CHECK_STR(sh("cat", ",\"stdin\":{\"a\":[1]}"), "\"{\\\"a\\\":[1]}\"");
    CHECK_STR(sh("echo $TIDEMARK_RUN_ID $TIDEMARK_TASK $TIDEMARK_IDEMPOTENCY_KEY $TIDEMARK_ATTEMPT",
                 ""),
              "\"0001aaaaaaaaaaaaaaaaaaaaaaaaaa /do/0/t k-1 1\"");
    CHECK_STR(sh("echo $TRACEPARENT", ""),
              "\"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\"");
    world_close(&w);
}

TEST(shell_sees_no_variable_of_the_engine_but_the_harmless)
{
    setup(TASK_SHELL, 2);
    CHECK_INT(setenv("TIDEMARK_SECRET_X", "hidden", 1), 0);
    CHECK_STR(sh("env | grep -c hidden || true", ""), "\"0\"");
    CHECK_INT(unsetenv("TIDEMARK_SECRET_X"), 0);
    world_close(&w);
}

TEST(shell_failure_is_runtime_500_with_its_last_words)
{
    setup(TASK_SHELL, 2);
    CHECK_STR(sh("echo why >&2; exit 3", ""), "runtime 500");
    CHECK_STR(world_detail(), "exit status 3: why");
    CHECK_STR(sh("kill -9 $$", ""), "runtime 500");
    CHECK(strstr(world_detail(), "signal 9") != NULL);
    world_close(&w);
}

TEST(shell_return_decides_the_output)
{
    setup(TASK_SHELL, 2);
    const char *c = "echo o; echo e >&2; exit 4";
    task.returns = RETURN_CODE;
    CHECK_STR(sh(c, ""), "4");
    task.returns = RETURN_ALL;
    CHECK_STR(sh(c, ""), "{\"code\":4,\"stdout\":\"o\",\"stderr\":\"e\"}");
    task.returns = RETURN_STDERR;
    CHECK_STR(sh("echo e >&2", ""), "\"e\"");
    CHECK_STR(sh(c, ""), "runtime 500");
    task.returns = RETURN_NONE;
    CHECK_STR(sh("echo o", ""), "null");
    world_close(&w);
}

TEST(shell_output_over_the_limit_is_an_error)
{
    setup(TASK_SHELL, 2);
    CHECK_STR(sh("head -c 524290 /dev/zero | tr '\\\\0' x", ""), "runtime 500");
    CHECK_STR(sh("head -c 900000 /dev/zero | tr '\\\\0' x", ""), "runtime 500");
    task.returns = RETURN_NONE;
    CHECK_STR(sh("head -c 900000 /dev/zero | tr '\\\\0' x", ""), "null");
    world_close(&w);
}

TEST(shell_timeout_is_408_and_kills_the_group)
{
    setup(TASK_SHELL, 1);
    char dir[] = "/tmp/tm-tasks-XXXXXX", file[64];
    NEED(mkdtemp(dir) != NULL);
    (void)snprintf(file, sizeof file, "%s/pid", dir);
    struct answer a;
    (void)snprintf(with, sizeof with, "{\"command\":\"sleep 100 & echo $! > %s; wait\"}", file);
    NEED(world_start(&w, &task, with, &a, 300) != NULL);
    world_wait(&w, &a);
    CHECK_STR(world_said(&a), "timeout 408");
    answer_free(&a);
    struct buf b;
    buf_init(&b, 64);
    NEED(file_read(file, &b, NULL) == 0);
    char proc[64];
    (void)snprintf(proc, sizeof proc, "/proc/%d/task", (int)strtol(b.p, NULL, 10));
    struct stat st;
    for (int i = 0; i < 100 && stat(proc, &st) == 0; i++)
        loop_turn(w.loop, 20);
    CHECK(stat(proc, &st) != 0);
    buf_free(&b);
    CHECK_STR(sh("echo again", ""), "\"again\"");
    (void)unlink(file);
    CHECK_INT(rmdir(dir), 0);
    world_close(&w);
}

TEST(processes_beyond_the_limit_wait_for_a_place)
{
    setup(TASK_SHELL, 1);
    struct answer a[4];
    struct task_run *r[4];
    for (int i = 0; i < 4; i++) {
        (void)snprintf(with, sizeof with, "{\"command\":\"echo %d\"}", i);
        r[i] = world_start(&w, &task, with, &a[i], 0);
        NEED(r[i] != NULL);
    }
    tasks_cancel(r[2]); /* while it waits */
    world_wait(&w, &a[0]);
    world_wait(&w, &a[3]);
    CHECK_STR(world_said(&a[0]), "\"0\"");
    CHECK_STR(world_said(&a[1]), "\"1\"");
    CHECK_STR(world_said(&a[3]), "\"3\"");
    CHECK_INT(a[2].calls, 0);
    for (int i = 0; i < 4; i++)
        answer_free(&a[i]);
    CHECK_INT(tasks_running(w.tasks), 0);
    world_close(&w);
}

TEST(a_full_line_of_waiting_processes_refuses)
{
    enum { LINE = 4096 };
    setup(TASK_SHELL, 1);
    struct answer *a = calloc(LINE + 2, sizeof *a);
    struct task_run **r = calloc(LINE + 2, sizeof *r);
    NEED(a && r);
    for (int i = 0; i <= LINE; i++) {
        r[i] = world_start(&w, &task, "{\"command\":\"exec sleep 60\"}", &a[i], 0);
        NEED(r[i] != NULL);
    }
    CHECK(world_start(&w, &task, "{\"command\":\"true\"}", &a[LINE + 1], 0) == NULL);
    for (int i = LINE; i >= 0; i--) /* those that wait first: each that ends lets one begin */
        tasks_cancel(r[i]);
    CHECK_STR(sh("echo again", ""), "\"again\"");
    for (int i = 0; i <= LINE + 1; i++)
        answer_free(&a[i]);
    free(a);
    free(r);
    world_close(&w);
}

TEST(process_that_is_not_awaited_gives_its_input_and_keeps_its_place)
{
    setup(TASK_SHELL, 1);
    task.await = false;
    CHECK_STR(sh("sleep 0.2", ",\"$input\":{\"a\":1}"), "{\"a\":1}");
    CHECK_INT(tasks_running(w.tasks), 1);
    task.await = true;
    CHECK_STR(sh("echo next", ""), "\"next\"");
    CHECK_INT(tasks_running(w.tasks), 0);
    world_close(&w);
}

TEST(script_python_and_js_see_their_arguments)
{
    setup(TASK_SCRIPT, 2);
    CHECK_STR(world_run(&w, &task,
                        "{\"language\":\"python\",\"code\":\"import sys\\nprint(sys.argv[1:], "
                        "sys.stdin.read())\","
                        "\"arguments\":[\"a\",\"-b\"],\"stdin\":\"in\"}"),
              "\"['a', '-b'] in\"");
    const char *js =
        "{\"language\":\"js\",\"code\":\"const [_, __, a, b] = process.argv; console.log(a, b)\","
        "\"arguments\":[\"a\",\"-b\"]}";
    CHECK_STR(world_run(&w, &task, js), "\"a -b\"");
    CHECK_STR(world_run(&w, &task, "{\"language\":\"ruby\",\"code\":\"1\"}"), "configuration 400");
    world_close(&w);
}

TEST(script_without_its_interpreter_is_a_configuration_error_with_a_hint)
{
    setup(TASK_SCRIPT, 2);
    char *path = strdup(getenv("PATH"));
    CHECK_INT(setenv("PATH", "/nowhere", 1), 0);
    CHECK_STR(world_run(&w, &task, "{\"language\":\"js\",\"code\":\"1\"}"), "configuration 400");
    CHECK(strstr(world_detail(), "apt install nodejs") != NULL);
    CHECK_INT(setenv("PATH", path, 1), 0);
    free(path);
    world_close(&w);
}

static const char *give_script(int n, const char *request)
{
    return n == 1 ? "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nprint(40+2)\n"
                  : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
}

TEST(script_comes_from_a_file_or_the_web)
{
    setup(TASK_SCRIPT, 2);
    char file[] = "/tmp/tm-script-XXXXXX";
    int fd = mkstemp(file);
    NEED(fd >= 0);
    CHECK_INT(fd_write_all(fd, SL("import sys\nprint(sys.argv[1])\n")), 0);
    (void)close(fd);
    (void)snprintf(
        with, sizeof with,
        "{\"language\":\"python\",\"source\":{\"endpoint\":\"file://%s\"},\"arguments\":[\"x\"]}",
        file);
    CHECK_STR(world_run(&w, &task, with), "\"x\"");
    CHECK_INT(unlink(file), 0);
    w.server->answer = give_script;
    (void)snprintf(with, sizeof with,
                   "{\"language\":\"python\",\"source\":{\"endpoint\":{\"uri\":\"%s\"}}}",
                   world_url(&w, "/s.py"));
    CHECK_STR(world_run(&w, &task, with), "\"42\"");
    CHECK_STR(world_run(&w, &task, with), "communication 404");
    world_close(&w);
}

TEST(process_definitions_that_can_not_be_run_are_answered)
{
    setup(TASK_SHELL, 2);
    CHECK_STR(sh("true", ",\"arguments\":{\"a\":1}"), "expression 400");
    CHECK_STR(sh("true", ",\"arguments\":[[1]]"), "expression 400");
    CHECK_STR(sh("true", ",\"environment\":{\"a b\":1}"), "configuration 400");
    CHECK_STR(sh("true", ",\"arguments\":[\"a\\u0000b\"]"), "validation 400");
    CHECK_STR(world_run(&w, &task, "{\"command\":7}"), "expression 400");
    struct buf b;
    buf_init(&b, 200000);
    buf_adds(&b, "{\"command\":\"true\",\"arguments\":[\"");
    for (int i = 0; i < 150000; i++)
        buf_addc(&b, 'x');
    buf_adds(&b, "\"]}");
    CHECK_STR(world_run(&w, &task, b.p), "validation 400");
    buf_free(&b);
    world_close(&w);
}
