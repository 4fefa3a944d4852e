/* The shared part of the tests of tasks. One thread. */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include <sys/epoll.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/list.h"
#include "unit.h"

struct conn {
    struct list node;
    struct loop_fd w;
    struct server *server;
    char in[65536];
    size_t n;
};

static void conn_close(struct conn *c)
{
    loop_fd_del(&c->w);
    close(c->w.fd);
    list_del(&c->node);
    free(c);
}

/* The length of the whole request when all of it is there, else 0. */
static size_t complete(struct conn *c)
{
    c->in[c->n] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return 0;
    size_t head = (size_t)(end - c->in) + 4;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    return c->n >= head + body ? head + body : 0;
}

static void on_conn(struct loop_fd *w, uint32_t events)
{
    struct conn *c = LIST_ENTRY(w, struct conn, w);
    ssize_t n = read(w->fd, c->in + c->n, sizeof c->in - 1 - c->n);
    if (n <= 0) {
        conn_close(c);
        return;
    }
    c->n += (size_t)n;
    if (!complete(c))
        return;
    struct server *s = c->server;
    memcpy(s->last, c->in, c->n + 1);
    s->requests++;
    const char *text = s->answer(s->requests, s->last);
    c->n = 0;
    if (!text)
        return;
    CHECK_INT(fd_write_all(w->fd, sl_str(text)), 0);
    conn_close(c);
}

static void on_accept(struct loop_fd *w, uint32_t events)
{
    struct server *s = LIST_ENTRY(w, struct server, listener);
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
    NEED(fd >= 0);
    struct conn *c = calloc(1, sizeof *c);
    NEED(c != NULL);
    c->server = s;
    c->w.fd = fd;
    c->w.events = EPOLLIN;
    c->w.fn = on_conn;
    list_push(&s->conns, &c->node);
    NEED(loop_fd_add(s->loop, &c->w) == 0);
}

static void server_open(struct world *w)
{
    struct server *s = calloc(1, sizeof *s);
    NEED(s != NULL);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    s->loop = w->loop;
    list_init(&s->conns);
    s->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(bind(s->listener.fd, (struct sockaddr *)&a, sizeof a) == 0);
    NEED(listen(s->listener.fd, 16) == 0);
    NEED(getsockname(s->listener.fd, (struct sockaddr *)&a, &n) == 0);
    s->listener.events = EPOLLIN;
    s->listener.fn = on_accept;
    NEED(loop_fd_add(w->loop, &s->listener) == 0);
    w->port = ntohs(a.sin_port);
    w->server = s;
}

void world_open(struct world *w, int max_processes)
{
    *w = (struct world){0};
    w->loop = loop_new(NULL);
    w->config = config_new();
    NEED(w->loop && w->config);
    struct tasks_opts o = {.loop = w->loop,
                           .config = w->config,
                           .max_processes = max_processes,
                           .max_connections = 8};
    w->tasks = tasks_new(&o, NULL);
    NEED(w->tasks != NULL);
    server_open(w);
}

void world_close(struct world *w)
{
    w->tasks = tasks_free(w->tasks);
    while (!list_empty(&w->server->conns))
        conn_close(LIST_ENTRY(w->server->conns.next, struct conn, node));
    loop_fd_del(&w->server->listener);
    close(w->server->listener.fd);
    buf_free(&w->server->made);
    free(w->server);
    config_free(w->config);
    loop_free(w->loop);
}

static void on_done(void *arg, struct json_object *output, const struct problem *p)
{
    struct answer *a = arg;
    a->calls++;
    a->output = output;
    if (!p->status)
        return;
    struct json_object *o = problem_json(p);
    CHECK_INT(problem_from_json(&a->problem, o), 0);
    json_object_put(o);
}

struct task_run *world_start(struct world *w, struct task *t, const char *with, struct answer *a,
                             int64_t timeout_ms)
{
    struct err e = {0};
    struct task_call c = {
        .task = t,
        .run_id = "0001aaaaaaaaaaaaaaaaaaaaaaaaaa",
        .ref = "/do/0/t",
        .idempotency_key = "k-1",
        .traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        .run_key = "key",
        .event_source = "/ns/agent/1.0.0",
        .event_id = "event-1",
        .event_time_ms = 1000,
        .attempt = 1,
        .timeout_ms = timeout_ms,
    };
    *a = (struct answer){0};
    if (js_parse(sl_str(with), &c.with, &e))
        fprintf(stderr, "%s\n", e.msg);
    NEED(c.with != NULL);
    struct task_run *r = tasks_start(w->tasks, &c, on_done, a);
    json_object_put(c.with);
    CHECK_INT(a->calls, 0);
    return r;
}

void world_wait(struct world *w, const struct answer *a)
{
    int64_t until = clock_boot_ms() + 120000;
    while (!a->calls && clock_boot_ms() < until)
        loop_turn(w->loop, 100);
    CHECK_INT(a->calls, 1);
}

static char said[700000], detail[4096];

const char *world_said(const struct answer *a)
{
    struct buf b;
    buf_init(&b, sizeof said - 1);
    if (a->problem.status)
        buf_addf(&b, "%s %d", strrchr(a->problem.type, '/') + 1, a->problem.status);
    else
        js_write(a->output, &b);
    NEED(!buf_error(&b));
    memcpy(said, b.p, b.n + 1);
    buf_free(&b);
    (void)snprintf(detail, sizeof detail, "%s", a->problem.detail ? a->problem.detail : "");
    return said;
}

const char *world_detail(void)
{
    return detail;
}

void answer_free(struct answer *a)
{
    json_object_put(a->output);
    problem_free(&a->problem);
    *a = (struct answer){0};
}

const char *world_run(struct world *w, struct task *t, const char *with)
{
    struct answer a;
    NEED(world_start(w, t, with, &a, 0) != NULL);
    world_wait(w, &a);
    const char *s = world_said(&a);
    answer_free(&a);
    return s;
}

const char *world_url(const struct world *w, const char *path)
{
    static char ring[8][256];
    static int at;
    char *s = ring[at++ % 8];
    (void)snprintf(s, sizeof *ring, "http://127.0.0.1:%d%s", w->port, path);
    return s;
}
