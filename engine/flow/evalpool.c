/* See evalpool.h. States of a child: idle, busy (a request was sent, its answer is read, the
 * deadline runs), dead (to be started again when there is work). A child that misbehaves is killed;
 * what ran in it fails; the queue goes on.
 *
 * The deadline counts the child's processor time: on a machine that is busy, or was suspended, an
 * expression that is cheap must not fault its run. */
#include "flow/evalpool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "flow/evalwire.h"
#include "flow/expr_int.h"
#include "flow/tmpl_int.h"
#include "loop/child.h"

#define CHILDREN_MAX 16
#define PROGRAMS_MAX 256
#define QUEUE_BYTES  (256u << 20) /* of all requests that wait */
#define WALL_TIMES   30           /* a child that neither computes nor answers is given up, too */
#define CHECK_MS     5000         /* for compiling one expression in `check` */

struct request {
    struct list node;
    struct buf frame; /* length and JSON */
    const struct tmpl *t;
    struct json_object *in; /* referenced: trees are immutable while they are shared */
    struct expr_args args;
    size_t programs;
    void (*fn)(void *arg, struct json_object *value, const struct err *e);
    void *arg;
};
struct evalchild {
    struct evalpool *pool;
    struct loop_fd w;
    struct loop_timer deadline;
    int64_t begun_ms, begun_cpu_ms; /* of the present program */
    int pidfd;
    pid_t pid;
    bool alive;
    struct request *now;
    size_t sent;
    struct buf in;
};
struct evalpool {
    struct loop *loop;
    struct log *log;
    struct evalpool_opts o;
    char *self;
    struct evalchild v[CHILDREN_MAX];
    struct list queue;
    size_t queued, queued_bytes;
    struct loop_task pump;
    int64_t next_start_ms;
    struct loop_timer again;
};

static void arm(struct evalchild *c)
{
    c->begun_ms = loop_now(c->pool->loop);
    c->begun_cpu_ms = clock_cpu_ms(c->pid);
    loop_timer_set(c->pool->loop, &c->deadline, c->begun_ms + c->pool->o.deadline_ms);
}

static void request_free(struct request *q)
{
    for (int i = 0; i < VAR_COUNT; i++)
        json_object_put(q->args.var[i]);
    json_object_put(q->args.locals);
    json_object_put(q->in);
    buf_free(&q->frame);
    free(q);
}

static void finish(struct request *q, struct json_object *value, const struct err *e)
{
    q->fn(q->arg, value, e);
    request_free(q);
}

static void fail(struct request *q, const char *hint, const char *why)
{
    struct err e = {0};
    err_set(&e, -EINVAL, hint, "%s", why);
    finish(q, NULL, &e);
}

static void bury(struct evalchild *c)
{
    if (!c->alive)
        return;
    loop_timer_unset(&c->deadline);
    loop_fd_del(&c->w);
    close(c->w.fd);
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->pidfd);
    c->alive = false;
    buf_free(&c->in);
}

/* The child died or is killed: what ran in it fails. `what` it did is told of the expression or of
 * the schema. */
static void lose(struct evalchild *c, const char *what)
{
    struct request *q = c->now;
    struct evalpool *p = c->pool;
    bool schema = q && tmpl_is_schema(q->t);
    char why[128];
    (void)snprintf(why, sizeof why, "the %s %s", schema ? "schema" : "expression", what);
    bury(c);
    c->now = NULL;
    log_warn(p->log, "an expression child was lost", "why=%s", log_q(why));
    loop_later(p->loop, &p->pump);
    if (q)
        fail(q,
             schema ? "make its patterns simpler, or the data smaller"
                    : "make the expression do less, or split it into several tasks",
             why);
}

static void deliver(struct evalchild *c, struct slice text)
{
    struct json_object *o = NULL, *values[PROGRAMS_MAX] = {0}, *result = NULL;
    const char *errors[PROGRAMS_MAX] = {0};
    struct request *q = c->now;
    struct err e = {0};
    c->now = NULL;
    loop_timer_unset(&c->deadline);
    loop_later(c->pool->loop, &c->pool->pump);
    int bad = js_parse(text, &o, &e);
    struct json_object *r = js_get(o, "r");
    struct err *why = calloc(q->programs + 1, sizeof *why);
    if (!why) {
        json_object_put(o);
        fail(q, "give the process more memory", "no memory for the result of an expression");
        return;
    }
    if (bad || js_length(r) != q->programs) {
        json_object_put(o);
        free(why);
        fail(q, "make it smaller", bad ? e.msg : "the result of the expression is too large");
        return;
    }
    for (size_t i = 0; i < q->programs; i++) {
        struct json_object *x = js_at(r, i);
        errors[i] = js_str(x, "e");
        /* The same form as inline results have: 1e17 is an integer wherever it was computed. */
        if (!errors[i] && jq_canon(json_object_get(js_get(x, "v")), &values[i], &why[i]))
            errors[i] = why[i].msg;
    }
    int error = tmpl_fill(q->t, q->in, &q->args, values, errors, q->programs, &result, &e);
    for (size_t i = 0; i < q->programs; i++)
        json_object_put(values[i]);
    free(why);
    json_object_put(o);
    finish(q, error ? NULL : result, error ? &e : NULL);
}

/* True when the answer came, or the child was lost. */
static bool take_frames(struct evalchild *c)
{
    uint32_t n;
    while (c->in.n >= sizeof n) {
        memcpy(&n, c->in.p, sizeof n);
        if (n > EVAL_FRAME_MAX || !c->now) {
            lose(c, "made its process send nonsense");
            return true;
        }
        if (n == 0) { /* one more program is done */
            buf_consume(&c->in, sizeof n);
            arm(c);
            continue;
        }
        if (c->in.n < sizeof n + n)
            return false;
        struct buf whole = c->in;
        buf_init(&c->in, EVAL_FRAME_MAX + 65536);
        deliver(c, sl(whole.p + sizeof n, n));
        buf_free(&whole);
        return true;
    }
    return false;
}

static void read_more(struct evalchild *c)
{
    for (;;) {
        char *to = buf_reserve(&c->in, 65536);
        ssize_t r = to ? read(c->w.fd, to, 65536) : -1;
        if (!to || r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR)) {
            lose(c, "crashed its process, or took more memory than is allowed");
            return;
        }
        if (r < 0)
            return;
        buf_commit(&c->in, (size_t)r);
        if (take_frames(c))
            return;
    }
}

static void write_more(struct evalchild *c)
{
    struct request *q = c->now;
    while (q && c->sent < q->frame.n) {
        ssize_t r = send(c->w.fd, q->frame.p + c->sent, q->frame.n - c->sent, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno == EAGAIN) {
            loop_fd_mod(&c->w, EPOLLIN | EPOLLOUT);
            return;
        }
        if (r < 0) {
            lose(c, "has lost its process");
            return;
        }
        c->sent += (size_t)r;
    }
    loop_fd_mod(&c->w, EPOLLIN);
}

static void on_fd(struct loop_fd *w, uint32_t events)
{
    struct evalchild *c = LIST_ENTRY(w, struct evalchild, w);
    if (events & EPOLLOUT)
        write_more(c);
    if (c->alive && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_more(c);
}

/* How much of `limit_ms` of processor time the process has not used since `begun_ms`. */
static int64_t time_left(pid_t pid, int64_t begun_ms, int64_t limit_ms)
{
    int64_t now = clock_cpu_ms(pid);
    return now < 0 ? 0 : limit_ms - (now - begun_ms);
}

static void on_deadline(struct loop_timer *t)
{
    struct evalchild *c = LIST_ENTRY(t, struct evalchild, deadline);
    struct evalpool *p = c->pool;
    int64_t now = loop_now(p->loop), left = time_left(c->pid, c->begun_cpu_ms, p->o.deadline_ms);
    if (left > 0 && now - c->begun_ms < WALL_TIMES * p->o.deadline_ms)
        loop_timer_set(p->loop, t, now + left);
    else
        lose(c, "took too long");
}

static int start_child(struct evalchild *c)
{
    struct evalpool *p = c->pool;
    const char *argv[] = {p->self, "--eval-child", NULL};
    struct err e = {0};
    int fd;
    if (child_pair(argv, p->o.memory_max_bytes, &fd, &c->pidfd, &c->pid, &e) < 0) {
        log_error(p->log, "an expression child can't be started", "error=%s", log_q(e.msg));
        return -EIO;
    }
    c->w = (struct loop_fd){.fd = fd, .events = EPOLLIN, .fn = on_fd};
    c->deadline.fn = on_deadline;
    buf_init(&c->in, EVAL_FRAME_MAX + 65536);
    if (loop_fd_add(p->loop, &c->w) < 0) {
        close(fd);
        kill(c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
        close(c->pidfd);
        return -EIO;
    }
    c->alive = true;
    return 0;
}

static void on_pump(struct loop_task *t)
{
    struct evalpool *p = LIST_ENTRY(t, struct evalpool, pump);
    for (int i = 0; i < p->o.children && !list_empty(&p->queue); i++) {
        struct evalchild *c = &p->v[i];
        if (c->now)
            continue;
        if (!c->alive &&
            start_child(c) < 0) { /* tried again in a second; the queue keeps what waits */
            loop_timer_set(p->loop, &p->again, loop_now(p->loop) + 1000);
            continue;
        }
        c->now = LIST_ENTRY(list_pop(&p->queue), struct request, node);
        p->queued--;
        p->queued_bytes -= c->now->frame.n;
        c->sent = 0;
        arm(c);
        write_more(c);
    }
}

static void on_again(struct loop_timer *t)
{
    struct evalpool *p = LIST_ENTRY(t, struct evalpool, again);
    loop_later(p->loop, &p->pump);
}

struct evalpool *evalpool_new(struct loop *l, const struct evalpool_opts *o, struct log *log,
                              struct err *e)
{
    struct evalpool *p = calloc(1, sizeof *p);
    if (!p || !(p->self = strdup(o->self ? o->self : "/proc/self/exe"))) {
        free(p);
        err_set(e, -ENOMEM, "give the process more memory",
                "no memory for the expression children");
        return NULL;
    }
    p->loop = l;
    p->log = log;
    p->o = *o;
    if (p->o.children <= 0 || p->o.children > CHILDREN_MAX)
        p->o.children = 2;
    if (!p->o.deadline_ms)
        p->o.deadline_ms = EVAL_DEADLINE_MS;
    if (!p->o.memory_max_bytes)
        p->o.memory_max_bytes = EVAL_MEMORY_BYTES;
    if (!p->o.queue_max)
        p->o.queue_max = EVAL_QUEUE_MAX;
    list_init(&p->queue);
    list_init(&p->pump.node);
    p->pump.fn = on_pump;
    p->again.fn = on_again;
    for (int i = 0; i < CHILDREN_MAX; i++)
        p->v[i].pool = p;
    return p;
}

struct evalpool *evalpool_free(struct evalpool *p)
{
    struct list *n;
    if (!p)
        return NULL;
    for (int i = 0; i < p->o.children; i++) {
        bury(&p->v[i]);
        if (p->v[i].now)
            request_free(p->v[i].now);
    }
    while ((n = list_pop(&p->queue)))
        request_free(LIST_ENTRY(n, struct request, node));
    loop_task_cancel(&p->pump);
    loop_timer_unset(&p->again);
    free(p->self);
    free(p);
    return NULL;
}

/* ---- requests ---- */

static void put_vars(struct buf *b, const struct expr_args *a, uint32_t used)
{
    bool first = true;
    buf_adds(b, ",\"v\":{");
    for (int i = 0; i < VAR_COUNT; i++) {
        if (!(used & 1u << i))
            continue;
        buf_addf(b, "%s\"%s\":", first ? "" : ",", expr_var_names[i]);
        js_write(a->present & 1u << i ? a->var[i] : NULL, b);
        first = false;
    }
    buf_addc(b, '}');
    if (a->locals) {
        buf_adds(b, ",\"l\":");
        js_write(a->locals, b);
    }
}

static int end_request(struct buf *b)
{
    if (buf_error(b))
        return buf_error(b) == -ENOMEM ? -ENOMEM : -E2BIG;
    uint32_t len = (uint32_t)(b->n - sizeof len);
    memcpy(b->p, &len, sizeof len);
    return 0;
}

static void begin_request(struct buf *b)
{
    uint32_t len = 0;
    buf_init(b, EVAL_FRAME_MAX);
    buf_add(b, &len, sizeof len);
}

static int write_schema(struct request *q, const struct tmpl *t, struct json_object *in)
{
    begin_request(&q->frame);
    buf_adds(&q->frame, "{\"s\":");
    buf_add_slice(&q->frame, tmpl_schema_text(t));
    buf_adds(&q->frame, ",\"i\":");
    js_write(in, &q->frame);
    buf_addc(&q->frame, '}');
    return end_request(&q->frame);
}

static int write_request(struct request *q, const struct expr *const *x, size_t n,
                         struct json_object *in, const struct expr_args *a, uint32_t used)
{
    struct buf *b = &q->frame;
    begin_request(b);
    buf_adds(b, "{\"i\":");
    js_write(in, b);
    put_vars(b, a, used);
    buf_addf(b, ",\"n\":%.3f,\"p\":[", (double)a->now_ms / 1000);
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? "," : "");
        js_write_str(b, expr_text(x[i]));
    }
    buf_adds(b, "]}");
    return end_request(b);
}

bool evalpool_room(const struct evalpool *p)
{
    return p->queued < p->o.queue_max && p->queued_bytes <= QUEUE_BYTES;
}

int evalpool_submit(struct evalpool *p, const struct tmpl *t, struct json_object *in,
                    const struct expr_args *a,
                    void (*fn)(void *arg, struct json_object *value, const struct err *e),
                    void *arg)
{
    const struct expr *x[PROGRAMS_MAX];
    size_t n = tmpl_pending(t, x, PROGRAMS_MAX);
    if (!evalpool_room(p))
        return -EAGAIN;
    if (n > PROGRAMS_MAX)
        return -E2BIG;
    struct request *q = calloc(1, sizeof *q);
    if (!q)
        return -ENOMEM;
    int error =
        tmpl_is_schema(t) ? write_schema(q, t, in) : write_request(q, x, n, in, a, tmpl_vars(t));
    if (error) {
        buf_free(&q->frame);
        free(q);
        return error;
    }
    q->t = t;
    q->in = json_object_get(in);
    q->args = *a;
    for (int i = 0; i < VAR_COUNT; i++)
        json_object_get(q->args.var[i]);
    json_object_get(q->args.locals);
    q->programs = tmpl_is_schema(t) ? 1 : n;
    q->fn = fn;
    q->arg = arg;
    list_push(&p->queue, &q->node);
    p->queued++;
    p->queued_bytes += q->frame.n;
    loop_later(p->loop, &p->pump);
    return 0;
}

/* ---- check ---- */

static int wait_answer(int fd, pid_t pid, struct buf *b)
{
    int64_t until = clock_boot_ms() + WALL_TIMES * CHECK_MS;
    uint32_t n = 0;
    for (;;) {
        struct pollfd pf = {.fd = fd, .events = POLLIN};
        int64_t left = time_left(pid, 0, CHECK_MS);
        if (left <= 0 || clock_boot_ms() >= until)
            return -ETIMEDOUT;
        if (poll(&pf, 1, (int)left) <= 0)
            continue;
        char *to = buf_reserve(b, 65536);
        ssize_t r = to ? read(fd, to, 65536) : -1;
        if (r <= 0)
            return r < 0 && errno == EAGAIN ? -EAGAIN : -EPIPE;
        buf_commit(b, (size_t)r);
        if (b->n < sizeof n)
            continue;
        memcpy(&n, b->p, sizeof n);
        if (b->n >= sizeof n + n)
            return 0;
    }
}

static int send_all(int fd, const struct buf *b)
{
    size_t sent = 0;
    while (sent < b->n) {
        struct pollfd pf = {.fd = fd, .events = POLLOUT};
        ssize_t r = send(fd, b->p + sent, b->n - sent, MSG_NOSIGNAL);
        if (r < 0 && errno == EAGAIN && poll(&pf, 1, CHECK_MS) > 0)
            continue;
        if (r < 0 && errno != EINTR)
            return -EPIPE;
        sent += r > 0 ? (size_t)r : 0;
    }
    return 0;
}

/* What is to be compiled, for the messages. */
struct checked {
    const char *what, *library, *hint;
};

static int ask_check(int fd, pid_t pid, struct buf *b, const struct checked *k, struct err *e)
{
    struct buf in;
    struct json_object *o = NULL;
    buf_init(&in, EVAL_FRAME_MAX);
    int error = end_request(b);
    if (!error && !(error = send_all(fd, b)))
        error = wait_answer(fd, pid, &in);
    if (error) {
        if (error == -ETIMEDOUT)
            err_set(e, -EINVAL, "simplify it", "compiling the %s takes too long", k->what);
        else
            err_set(e, -EINVAL, "simplify it", "the %s crashes %s", k->what, k->library);
    } else if (js_parse(sl(in.p + sizeof(uint32_t), in.n - sizeof(uint32_t)), &o, NULL) == 0) {
        const char *why = js_str(js_at(js_get(o, "r"), 0), "e");
        if (why)
            error = err_set(e, -EINVAL, k->hint, "%s", why);
    }
    json_object_put(o);
    buf_free(&in);
    return error ? -EINVAL : 0;
}

/* In a child of its own, which ends with it. */
static int check(struct buf *b, const struct checked *k, struct err *e)
{
    const char *argv[] = {"/proc/self/exe", "--eval-child", NULL};
    int fd, pidfd;
    pid_t pid;
    int error = child_pair(argv, 256u << 20, &fd, &pidfd, &pid, e);
    if (error)
        return error;
    error = ask_check(fd, pid, b, k, e);
    close(fd);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(pidfd);
    return error;
}

/* Names that the program uses are bound to null, so that only its syntax and its functions are
 * judged. */
int evalpool_check(struct slice program, struct err *e)
{
    static const struct checked k = {"expression", "libjq",
                                     "the language of expressions is jq 1.6"};
    struct buf b;
    struct expr *x = expr_compile_any(program, e);
    if (!x)
        return -EINVAL;
    begin_request(&b);
    buf_adds(&b, "{\"c\":true,\"v\":{");
    for (size_t i = 0; i < x->nlocals; i++)
        buf_addf(&b, "%s\"%s\":null", i ? "," : "", x->locals[i]);
    buf_adds(&b, "},\"p\":[");
    js_write_str(&b, x->text);
    buf_adds(&b, "]}");
    int error = check(&b, &k, e);
    expr_free(x);
    buf_free(&b);
    return error;
}

int evalpool_check_schema(const struct tmpl *schema, struct err *e)
{
    static const struct checked k = {"schema", "libvalijson", "patterns are ECMAScript's"};
    struct buf b;
    begin_request(&b);
    buf_adds(&b, "{\"c\":true,\"s\":");
    buf_add_slice(&b, tmpl_schema_text(schema));
    buf_addc(&b, '}');
    int error = check(&b, &k, e);
    buf_free(&b);
    return error;
}
