/* The expression child (evalpool.h): libjq, and libvalijson for schemas, in a process of its own.
 * One request at a time; compiled programs and schemas are kept in small tables. It has no
 * environment, no files but its socket, a memory limit, and dies with its parent. The libraries may
 * abort, hang or exhaust memory here: the parent kills and replaces the process.
 *
 * Variables are not bound when a program is compiled but come with each input, so that a compiled
 * program serves every evaluation: . as $__all | $__all.v.input as $input | ... | $__all.i |
 * (PROGRAM) */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <jq.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>
#include <signal.h>

#include "flow/evalpool.h"
#include "flow/evalwire.h"
#include "flow/expr.h"
#include "flow/schema_valijson.h"

#define CACHE_MAX   256
#define SCHEMAS_MAX 64
#define STACK_BYTES (64u << 20) /* a regular expression goes deep into a long text */

struct compiled {
    char *text;
    jq_state *jq;
    uint64_t used;
};
struct compiled_schema {
    char *text;
    struct schema_valid *valid;
    uint64_t used;
};
struct child {
    int fd;
    struct compiled v[CACHE_MAX];
    size_t n;
    struct compiled_schema schemas[SCHEMAS_MAX];
    size_t nschemas;
    uint64_t clock;
    char why[512]; /* of the latest failure */
};

static void on_message(void *arg, jv msg)
{
    struct child *c = arg;
    jv text = jv_get_kind(msg) == JV_KIND_STRING ? jv_copy(msg) : jv_dump_string(jv_copy(msg), 0);
    if (!c->why[0])
        snprintf(c->why, sizeof c->why, "%s", jv_string_value(text));
    jv_free(text);
    jv_free(msg);
}

/* Names that reach outside are taken away; `now` is what the request says. */
static char *wrap(struct slice program, struct json_object *request)
{
    struct buf b;
    buf_init(&b, 2 * EXPR_TEXT_MAX);
    buf_adds(&b, ". as $__all | ");
    const char *const maps[] = {"v", "l"};
    for (int m = 0; m < 2; m++) {
        struct json_object *vars = js_get(request, maps[m]);
        if (!json_object_is_type(vars, json_type_object))
            continue;
        json_object_object_foreach(vars, name, value)
        {
            (void)value;
            buf_addf(&b, "$__all.%s[\"%s\"] as $%s | ", maps[m], name, name);
        }
    }
    buf_adds(&b, "def now: $__all.n; def env: {}; def input: error(\"input is not available\"); "
                 "def inputs: empty; def debug: .; def stderr: .; "
                 "def input_filename: null; def input_line_number: 0; def halt: error(\"halt is "
                 "not available\"); def halt_error: error; $__all.i | (");
    buf_add_slice(&b, program);
    buf_adds(&b, "\n)");
    char *text = buf_take(&b);
    buf_free(&b);
    return text;
}

static jq_state *compile(struct child *c, char *text)
{
    size_t oldest = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (!strcmp(c->v[i].text, text)) {
            free(text);
            c->v[i].used = ++c->clock;
            return c->v[i].jq;
        }
        if (c->v[i].used < c->v[oldest].used)
            oldest = i;
    }
    jq_state *jq = jq_init();
    c->why[0] = 0;
    if (jq)
        jq_set_error_cb(jq, on_message, c);
    if (!jq || !jq_compile(jq, text)) {
        jq_teardown(&jq);
        free(text);
        return NULL;
    }
    size_t at = c->n < CACHE_MAX ? c->n++ : oldest;
    if (c->v[at].jq) {
        jq_teardown(&c->v[at].jq);
        free(c->v[at].text);
    }
    c->v[at] = (struct compiled){text, jq, ++c->clock};
    return jq;
}

static int read_all(int fd, char *p, size_t n)
{
    while (n) {
        ssize_t r = read(fd, p, n);
        if (r == 0 || (r < 0 && errno != EINTR))
            return -1;
        if (r > 0) {
            p += r;
            n -= (size_t)r;
        }
    }
    return 0;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno != EINTR)
            return -1;
        if (r > 0) {
            p += r;
            n -= (size_t)r;
        }
    }
    return 0;
}

static void put_error(struct buf *out, const char *why)
{
    buf_adds(out, "{\"e\":");
    js_write_str(out, sl_str(why));
    buf_addc(out, '}');
}

/* "jq: error: syntax error, unexpected ... (Unix shell quoting issues?) at <top-level>, line 1:" to
 * what a person needs. */
static const char *clean(char *why)
{
    char *p = why, *cut;
    if (!strncmp(p, "jq: error: ", 11))
        p += 11;
    if ((cut = strstr(p, " (Unix shell")) || (cut = strstr(p, " at <top-level>")) ||
        (cut = strchr(p, '\n')))
        *cut = 0;
    return p;
}

/* Deeper than the engine's reader takes, less the levels of the answer around it. */
static bool too_deep(jv v, int left)
{
    jv_kind kind = jv_get_kind(v);
    bool deep = (kind == JV_KIND_ARRAY || kind == JV_KIND_OBJECT) && left == 0;
    for (int i = 0, n = kind == JV_KIND_ARRAY ? jv_array_length(jv_copy(v)) : 0; !deep && i < n;
         i++)
        deep = too_deep(jv_array_get(jv_copy(v), i), left - 1);
    for (int i = kind == JV_KIND_OBJECT ? jv_object_iter(v) : -1;
         !deep && kind == JV_KIND_OBJECT && jv_object_iter_valid(v, i);
         i = jv_object_iter_next(v, i))
        deep = too_deep(jv_object_iter_value(v, i), left - 1);
    jv_free(v);
    return deep;
}

/* Takes over `value`. */
static void put_value(jv value, struct buf *out)
{
    char why[96];
    if (too_deep(jv_copy(value), JS_DEPTH_MAX - EVAL_LEVELS)) {
        (void)snprintf(why, sizeof why, "the result is nested more than %d levels deep",
                       JS_DEPTH_MAX - EVAL_LEVELS);
        put_error(out, why);
        jv_free(value);
        return;
    }
    jv text = jv_dump_string(value, 0);
    buf_adds(out, "{\"v\":");
    buf_add(out, jv_string_value(text), (size_t)jv_string_length_bytes(jv_copy(text)));
    buf_addc(out, '}');
    jv_free(text);
}

/* Takes over `failed`, an invalid value: an error with its message, or no output, which is null. */
static void put_failure(jv failed, struct buf *out)
{
    if (!jv_invalid_has_msg(jv_copy(failed))) {
        jv_free(failed);
        buf_adds(out, "{\"v\":null}");
        return;
    }
    jv msg = jv_invalid_get_msg(failed);
    jv text = jv_get_kind(msg) == JV_KIND_STRING ? jv_copy(msg) : jv_dump_string(jv_copy(msg), 0);
    put_error(out, jv_string_value(text));
    jv_free(text);
    jv_free(msg);
}

static void run(jq_state *jq, jv input, struct buf *out)
{
    jq_start(jq, input, 0);
    jv value = jq_next(jq), more = jv_is_valid(value) ? jq_next(jq) : jv_invalid();
    if (jv_is_valid(more)) {
        put_error(out, "the expression gives several values where one is expected");
        jv_free(value);
        jv_free(more);
    } else if (jv_is_valid(value) && jv_invalid_has_msg(jv_copy(more))) {
        jv_free(value);
        put_failure(more, out);
    } else if (jv_is_valid(value)) {
        jv_free(more);
        put_value(value, out);
    } else {
        jv_free(more);
        put_failure(value, out);
    }
    /* What the program held is let go now: if that kills the process, it is this evaluation that
     * fails. */
    jq_start(jq, jv_null(), 0);
}

/* One more program is done; false when the engine is gone. */
static bool progress(int fd)
{
    uint32_t none = 0;
    return write_all(fd, (const char *)&none, sizeof none) == 0;
}

/* NULL with c->why set. */
static struct schema_valid *compile_schema(struct child *c, struct json_object *schema,
                                           struct slice text)
{
    size_t oldest = 0;
    for (size_t i = 0; i < c->nschemas; i++) {
        if (sl_is(text, c->schemas[i].text)) {
            c->schemas[i].used = ++c->clock;
            return c->schemas[i].valid;
        }
        if (c->schemas[i].used < c->schemas[oldest].used)
            oldest = i;
    }
    struct schema_valid *valid = schema_valid_new(schema, c->why, sizeof c->why);
    char *key = valid ? sl_dup(text) : NULL;
    if (!key) {
        schema_valid_free(valid);
        return NULL;
    }
    size_t at = c->nschemas < SCHEMAS_MAX ? c->nschemas++ : oldest;
    schema_valid_free(c->schemas[at].valid);
    free(c->schemas[at].text);
    c->schemas[at] = (struct compiled_schema){key, valid, ++c->clock};
    return valid;
}

static void answer_schema(struct child *c, struct json_object *request, struct slice text,
                          struct buf *out)
{
    struct slice key = {0};
    char *list = NULL;
    (void)js_member(text, "s", &key);
    c->why[0] = 0;
    struct schema_valid *valid = compile_schema(c, js_get(request, "s"), key);
    bool only = js_bool(request, "c", false);
    int error = !valid ? -EINVAL
                : only
                    ? 0
                    : schema_valid_run(valid, js_get(request, "i"), &list, c->why, sizeof c->why);
    buf_adds(out, "{\"r\":[");
    if (error)
        put_error(out, c->why[0] ? c->why : "no memory for the schema");
    else
        buf_addf(out, "{\"v\":%s}", list ? list : "[]");
    buf_adds(out, "]}");
    free(list);
}

static void answer(struct child *c, struct json_object *request, struct slice text, struct buf *out)
{
    struct json_object *programs = js_get(request, "p");
    bool only = js_bool(request, "c", false);
    jv input = jv_null();
    if (!programs) {
        answer_schema(c, request, text, out);
        return;
    }
    if (!only) { /* the whole request is the input, so nothing is converted twice */
        jv_free(input);
        input = jv_parse_sized(text.p, (int)text.n);
    }
    buf_adds(out, "{\"r\":[");
    for (size_t i = 0; i < js_length(programs); i++) {
        char *wrapped = wrap(sl_str(json_object_get_string(js_at(programs, i))), request);
        buf_adds(out, i ? "," : "");
        c->why[0] = 0;
        jq_state *jq = wrapped ? compile(c, wrapped) : NULL;
        if (!jq)
            put_error(out, c->why[0] ? clean(c->why) : "the expression can't be compiled");
        else if (only)
            buf_adds(out, "{\"v\":null}");
        else
            run(jq, jv_copy(input), out);
        if (i + 1 < js_length(programs) && !progress(c->fd))
            break;
    }
    buf_adds(out, "]}");
    jv_free(input);
}

/* A sanitizer reserves terabytes of addresses, so RLIMIT_AS can not bound memory in its builds: a
 * timer looks at what is resident instead. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WATCH_PAGES                                                                                \
    (768u << 8) /* 768 MiB of 4 KiB pages: a sanitizer keeps freed memory for a while */

static void on_alarm(int signo)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    size_t pages = 0, i = 0;
    while (n > 0 && text[i] && text[i] != ' ')
        i++;
    for (i++; n > 0 && i < sizeof text && text[i] >= '0' && text[i] <= '9'; i++)
        pages = 10 * pages + (size_t)(text[i] - '0');
    if (pages > WATCH_PAGES)
        raise(SIGKILL);
}

static void watch_memory(void)
{
    struct itimerval every = {{0, 20000}, {0, 20000}};
    struct sigaction a = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}
#else
static void watch_memory(void)
{
}
#endif

/* Reads one request and answers it. 1: go on; 0: the engine is gone, or asks for too much; -EPROTO.
 */
static int serve_one(struct child *c, struct buf *in, struct buf *out)
{
    struct json_object *request = NULL;
    uint32_t n;
    buf_reset(in);
    buf_reset(out);
    if (read_all(c->fd, (char *)&n, sizeof n) < 0 || n > EVAL_FRAME_MAX)
        return 0;
    char *to = buf_reserve(in, n);
    if (!to || read_all(c->fd, to, n) < 0)
        return 0;
    buf_commit(in, n);
    if (js_parse(buf_slice(in), &request, NULL) < 0)
        return -EPROTO;
    answer(c, request, buf_slice(in), out);
    json_object_put(request);
    if (buf_error(out)) { /* an answer over the limit */
        buf_reset(out);
        buf_adds(out, "{\"r\":[]}");
    }
    n = (uint32_t)out->n;
    return write_all(c->fd, (const char *)&n, sizeof n) == 0 &&
           write_all(c->fd, out->p, out->n) == 0;
}

int evalchild_serve(int fd)
{
    struct child c = {.fd = fd};
    struct buf in, out;
    int go = 1;
    buf_init(&in, EVAL_FRAME_MAX);
    buf_init(&out, EVAL_FRAME_MAX);
    while (go == 1)
        go = serve_one(&c, &in, &out);
    buf_free(&in);
    buf_free(&out);
    for (size_t i = 0; i < c.n; i++) {
        jq_teardown(&c.v[i].jq);
        free(c.v[i].text);
    }
    for (size_t i = 0; i < c.nschemas; i++) {
        schema_valid_free(c.schemas[i].valid);
        free(c.schemas[i].text);
    }
    return go < 0 ? 3 : 0;
}

int evalchild_main(void)
{
    struct rlimit none = {0, 0}, stack;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &none);
    getrlimit(RLIMIT_STACK, &stack);
    stack.rlim_cur = stack.rlim_max < STACK_BYTES ? stack.rlim_max : STACK_BYTES;
    setrlimit(RLIMIT_STACK, &stack);
    watch_memory();
    dup2(STDOUT_FILENO, STDERR_FILENO); /* libjq writes there before it aborts; it is no log line */
    closefrom(EVAL_FD + 1);
    setenv("TZ", "UTC", 1);
    int flags = fcntl(EVAL_FD, F_GETFL);
    if (flags < 0)
        return 2;
    fcntl(EVAL_FD, F_SETFL, flags & ~O_NONBLOCK);
    return evalchild_serve(EVAL_FD);
}
