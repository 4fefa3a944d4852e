/* Fuzz target of the socket between the engine and an expression child, either end of it. First
 * byte even: the rest is what a child sends to the engine. Odd: the rest is what the engine sends
 * to a child, in pieces (2 bytes length, big-endian); each gets a right frame length before it
 * unless the first byte has bit 1. Rules: each evaluation is answered once, with a value or with a
 * reason and a hint; what a child answers are frames of JSON with a list. libjq itself is not
 * meant, so that it sees only a few programs.
 */
#include <fcntl.h>
#include <jq.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flow/evalpool.h"
#include "flow/evalwire.h"
#include "fuzz.h"
#include "loop/child.h"

#define FAKE_PID 0x7ffffff0

int __wrap_child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd,
                      int *ret_pidfd, pid_t *ret_pid, struct err *e);
int __real_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo);
pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __real_jq_compile(jq_state *jq, const char *text);
int __wrap_jq_compile(jq_state *jq, const char *text);

static struct slice hostile;
static int peer = -1;

int __wrap_kill(pid_t pid, int signo)
{
    return pid == FAKE_PID ? 0 : __real_kill(pid, signo);
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
    return pid == FAKE_PID ? pid : __real_waitpid(pid, status, options);
}

/* The child is there and has said everything already. */
int __wrap_child_pair(const char *const *argv, uint64_t memory_max_bytes, int *ret_fd,
                      int *ret_pidfd, pid_t *ret_pid, struct err *e)
{
    int fd[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0,
         "a socket pair");
    (void)!write(fd[1], hostile.p, hostile.n);
    shutdown(fd[1], SHUT_WR);
    if (peer >= 0)
        close(peer);
    peer = fd[1];
    *ret_fd = fd[0];
    *ret_pidfd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *ret_pid = FAKE_PID;
    return 0;
}

int __wrap_jq_compile(jq_state *jq, const char *text)
{
    static const char *const programs[] = {"(.\n)", "(.[]\n)", "($input\n)", "(error(\"x\")\n)",
                                           "([limit(2; .[])]\n)"};
    const char *names = strstr(text, "def now:");
    size_t n = strlen(text);
    bool known = false;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        size_t k = strlen(programs[i]);
        known = known || (n > k && !strcmp(text + n - k, programs[i]));
    }
    for (const char *p = text; names && known && p < names; p++)
        known = strchr(" $_.[]\"|", *p) || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
    return known && names && __real_jq_compile(jq, text);
}

/* ---- the engine's end ---- */

static int answers;

static void on_value(void *arg, struct json_object *value, const struct err *e)
{
    answers++;
    must(!e || !e->code || (!value && e->msg[0] && e->hint[0]),
         "a failure has a reason and a hint");
    if (value) {
        struct buf b;
        buf_init(&b, 64u << 20);
        must(js_write(value, &b) == 0, "a value can be written");
        buf_free(&b);
    }
    json_object_put(value);
}

static void engine(struct slice in)
{
    static struct tmpl *t;
    struct evalpool_opts o = {.children = 1};
    struct expr_args a = {.now_ms = 1};
    struct err e = {0};
    struct json_object *input = NULL;
    if (!t) {
        struct json_object *v =
            json_tokener_parse("{\"a\":\"${ [limit(2; .[])] }\",\"b\":[1,\"${ . }\"],"
                               "\"c\":\"${ [limit(1; .[])] }\"}");
        t = tmpl_compile(v, TMPL_STRICT, 0, NULL, NULL, &e);
        json_object_put(v);
        must(t && !tmpl_is_inline(t), "the template needs a child");
    }
    hostile = in;
    struct loop *l = loop_new(&e);
    struct evalpool *p = evalpool_new(l, &o, NULL, &e);
    must(l && p && js_parse(SL("[1,2,3]"), &input, &e) == 0, "memory");
    answers = 0;
    must(evalpool_submit(p, t, input, &a, on_value, NULL) == 0, "it is taken");
    for (int i = 0; i < 200 && !answers; i++)
        loop_turn(l, 0);
    must(answers == 1, "it is answered once");
    loop_turn(l, 0);
    must(answers == 1, "and only once");
    evalpool_free(p);
    loop_free(l);
    json_object_put(input);
    close(peer);
    peer = -1;
}

/* ---- the child's end ---- */

struct drain {
    int fd;
    struct buf b;
};

static void *drain(void *arg)
{
    struct drain *d = arg;
    char room[65536];
    ssize_t n;
    while ((n = read(d->fd, room, sizeof room)) > 0)
        buf_add(&d->b, room, (size_t)n);
    return NULL;
}

static void check_answers(struct slice s)
{
    uint32_t n;
    while (s.n >= sizeof n) {
        memcpy(&n, s.p, sizeof n);
        s = sl_from(s, sizeof n);
        must(n <= s.n, "an answer is whole");
        struct json_object *o = NULL;
        must(n == 0 || js_parse(sl(s.p, n), &o, NULL) == 0, "an answer is JSON");
        must(n == 0 || json_object_is_type(js_get(o, "r"), json_type_array),
             "an answer has a list");
        json_object_put(o);
        s = sl_from(s, n);
    }
    must(s.n == 0, "nothing follows");
}

static void child(struct slice in, bool raw)
{
    struct buf b;
    struct drain d;
    pthread_t thread;
    int fd[2];
    buf_init(&b, 1 << 20);
    while (in.n) {
        struct slice part = fuzz_bytes(&in);
        uint32_t n = (uint32_t)part.n;
        if (!raw)
            buf_add(&b, &n, sizeof n);
        buf_add_slice(&b, part);
    }
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0, "a socket pair");
    must(write(fd[1], b.p ? b.p : "", b.n) == (ssize_t)b.n, "it fits the socket");
    shutdown(fd[1], SHUT_WR);
    d.fd = fd[1];
    buf_init(&d.b, 64u << 20);
    must(pthread_create(&thread, NULL, drain, &d) == 0, "a thread");
    int status = evalchild_serve(fd[0]);
    must(status == 0 || status == 3, "it ends");
    close(fd[0]);
    pthread_join(thread, NULL);
    check_answers(buf_slice(&d.b));
    buf_free(&d.b);
    buf_free(&b);
    close(fd[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size || size > 32768)
        return 0;
    if (data[0] & 1)
        child(sl(data + 1, size - 1), data[0] & 2);
    else
        engine(sl(data + 1, size - 1));
    return 0;
}
