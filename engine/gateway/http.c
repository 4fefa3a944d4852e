/* See http.h. libmicrohttpd is used without threads: its epoll descriptor is one of the loop's, its
 * timeouts are one timer.
 *
 * It frees a connection only by itself, so a request that outlives its connection (the client went
 * away, the server was freed) is freed by whichever of the two comes last: `con` NULL says that the
 * connection is gone, `answered` that the handler is done.
 *
 * libmicrohttpd's own time-out counts from the latest byte; a client that sends one byte now and
 * then would hold its place for ever. Hence a deadline of our own for each connection, which cuts
 * the socket. And when nearly all places are taken, each new connection costs the one its place
 * that has waited longest for its client: many who send nothing, or slowly, keep nobody out. */
#include "gateway/http_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/js.h"

#define MEMORY_BYTES   (32 * 1024) /* http_daemon.memory: head and answer's fields must fit */
#define STREAM_BYTES   (10 * 1024) /* the same; accept.c: HEAD_MAX */
#define BODY_FIRST     4096
#define ANSWER_TIME_MS 600000 /* an answer must be read by then */

/* ---- connections ---- */

static void set_deadline(struct http_conn *c, int64_t ms)
{
    loop_timer_set(c->server->o.loop, &c->deadline, loop_now(c->server->o.loop) + ms);
}

static void cut(struct http_conn *c)
{
    c->server->stats.refused++;
    shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd sees the end and closes it */
}

static void on_deadline(struct loop_timer *t)
{
    struct http_conn *c = LIST_ENTRY(t, struct http_conn, deadline);
    cut(c);
}

/* It waits for its client from now on; or no longer. */
static void set_waiting(struct http_conn *c, bool waiting)
{
    list_del(&c->node);
    if (waiting)
        list_push(&c->server->waiting, &c->node);
}

/* A place for a further one. */
static void make_room(struct http_server *s)
{
    unsigned most = s->o.connections_max - (s->o.connections_max + 7) / 8;
    struct list *l = s->main.connections > most ? list_pop(&s->waiting) : NULL;
    if (l)
        cut(LIST_ENTRY(l, struct http_conn, node));
}

static void on_connection(void *arg, struct MHD_Connection *con, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_daemon *d = arg;
    struct http_server *s = d->server;
    struct http_conn *c = *context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c) {
            loop_timer_unset(&c->deadline);
            list_del(&c->node);
            free(c);
            s->stats.connections--;
            d->connections--;
        }
        return;
    }
    if (!(c = calloc(1, sizeof *c)))
        return; /* it is served without a deadline of ours */
    c->server = s;
    c->daemon = d;
    c->deadline.fn = on_deadline;
    c->fd = MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    list_init(&c->node);
    s->stats.connections++;
    if (++d->connections && d == &s->main)
        make_room(s);
    set_waiting(c, true);
    set_deadline(c, s->o.request_ms);
    *context = c;
}

/* ---- requests ---- */

void http_request_free(struct http_request *r)
{
    if (r->response)
        MHD_destroy_response(r->response);
    if (r->release)
        r->release(r->data);
    buf_free(&r->body);
    for (size_t i = 0; i < r->nadded; i++)
        free(r->added[i].value);
    free(r->method);
    free(r->uri);
    free(r->path);
    free(r);
}

/* The connection is done with it. */
static void on_completed(void *arg, struct MHD_Connection *con, void **context,
                         enum MHD_RequestTerminationCode why)
{
    struct http_request *r = *context;
    *context = NULL;
    if (!r)
        return;
    list_del(&r->node);
    if (r->place) {
        set_deadline(r->place, r->server->o.idle_ms + r->server->o.request_ms);
        set_waiting(r->place, true);
    }
    r->con = NULL;
    r->place = NULL;
    if (r->stream)
        http_stream_gone(r);
    if (r->given && !r->answered)
        r->server->stats.waiting--;
    if (r->answered || !r->given)
        http_request_free(r);
}

static void note_peer(struct http_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    if (a && a->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, r->peer,
                  sizeof r->peer);
    else if (a && a->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, r->peer,
                  sizeof r->peer);
}

/* The path of a request's target: "/a/b?c", "http://host/a/b?c" (RFC 9112, section 3.2), "*". */
static char *path_of(const char *uri)
{
    const char *authority = strstr(uri, "://");
    if (authority && uri[0] != '/' && authority < uri + strcspn(uri, "/?"))
        uri = authority + 3 + strcspn(authority + 3, "/?");
    return *uri == '?' || !*uri ? strdup("/") : strndup(uri, strcspn(uri, "?"));
}

static struct http_request *request_new(struct http_daemon *d, struct MHD_Connection *con,
                                        const char *uri)
{
    struct http_server *s = d->server;
    struct http_request *r = calloc(1, sizeof *r);
    const union MHD_ConnectionInfo *place;
    if (!r)
        return NULL;
    r->server = s;
    r->daemon = d;
    r->con = con;
    r->uri = strdup(uri);
    r->path = path_of(uri);
    buf_init(&r->body, s->o.body_max);
    list_init(&r->node);
    if (!r->uri || !r->path) {
        http_request_free(r);
        return NULL;
    }
    place = MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    r->place = place ? place->socket_context : NULL;
    list_push(&s->requests, &r->node);
    if (r->place) {
        set_deadline(r->place, s->o.request_ms);
        set_waiting(r->place, true);
    }
    note_peer(r);
    return r;
}

static void refuse(struct http_request *r)
{
    static const struct http_field close_it[] = {{"Connection", "close"}, {NULL, NULL}};
    r->server->stats.refused++;
    http_problem(r, r->refused.status, close_it, r->refused.hint, "%s", r->refused.detail);
}

static enum MHD_Result send_answer(struct http_request *r)
{
    if (r->place && !r->stream)
        set_deadline(r->place, ANSWER_TIME_MS);
    return MHD_queue_response(r->con, (unsigned)r->status, r->response);
}

/* The whole request is here: to the handler, which may answer before it returns. */
static enum MHD_Result give(struct http_request *r)
{
    struct http_server *s = r->server;
    if (r->place) {
        loop_timer_unset(&r->place->deadline);
        set_waiting(r->place, false);
    }
    r->given = true;
    s->stats.requests++;
    s->stats.waiting++;
    if (r->refused.status)
        refuse(r);
    else
        s->o.fn(s->o.arg, r);
    if (r->answered)
        return send_answer(r);
    r->suspended = true;
    MHD_suspend_connection(r->con);
    return MHD_YES;
}

/* The request line was read; what this returns is the request's *context from now on. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *con)
{
    return request_new(arg, con, uri);
}

/* The head was read. */
static enum MHD_Result begin(struct http_request *r, const char *method)
{
    if (!(r->method = strdup(method)))
        return MHD_NO;
    http_head_check(r->con, r->uri, strlen(r->path), r->server->o.body_max, &r->refused);
    /* Refused before its body is sent, which closes the connection. */
    return r->refused.status ? give(r) : MHD_YES;
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *con, const char *path,
                                 const char *method, const char *version, const char *data,
                                 size_t *size, void **context)
{
    struct http_request *r = *context;
    if (!r) /* there was no memory for it */
        return MHD_NO;
    if (!r->method)
        return begin(r, method);
    if (r->answered) /* resumed */
        return send_answer(r);
    if (*size) {
        if (!r->refused.status && buf_add(&r->body, data, *size) == -ENOMEM)
            r->refused = (struct http_refusal){503, "try again", "no memory for the body"};
        else if (!r->refused.status && buf_error(&r->body))
            http_too_large(r->server->o.body_max, &r->refused);
        *size = 0;
        return MHD_YES;
    }
    return r->given ? MHD_YES : give(r);
}

/* ---- the daemons in the loop ---- */

static void arm_timer(struct http_daemon *d)
{
    struct loop *l = d->server->o.loop;
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(d->mhd, &ms) == MHD_YES)
        loop_timer_set(l, &d->timer, loop_now(l) + (int64_t)(ms < 60000 ? ms : 60000));
    else
        loop_timer_unset(&d->timer);
}

void http_run(struct http_daemon *d)
{
    d->fresh = 0;
    MHD_run(d->mhd);
    arm_timer(d);
}

static void on_epoll(struct loop_fd *w, uint32_t events)
{
    http_run(LIST_ENTRY(w, struct http_daemon, epoll));
}

static void on_timer(struct loop_timer *t)
{
    http_run(LIST_ENTRY(t, struct http_daemon, timer));
}

void http_resume(struct http_request *r)
{
    r->suspended = false;
    MHD_resume_connection(r->con);
    r->daemon->resumed = true;
}

/* A resumed connection goes on at the next MHD_run; one of those serves all of this turn. */
static void before_sleep(struct loop_hook *h)
{
    struct http_server *s = LIST_ENTRY(h, struct http_server, hook);
    struct http_daemon *const v[] = {&s->main, &s->streams};
    for (int i = 0; i < 2; i++)
        if (v[i]->resumed) {
            v[i]->resumed = false;
            http_run(v[i]);
        }
}

static void on_mhd_log(void *arg, const char *fmt, va_list ap)
{
    struct http_server *s = ((struct http_daemon *)arg)->server;
    char text[256];
    (void)vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = 0;
    log_debug(s->o.log, "http", "said=%s", log_q(text));
}

/* Connections come by MHD_add_connection (accept.c). */
static int start(struct http_daemon *d, struct err *e)
{
    struct http_server *s = d->server;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     MHD_USE_NO_LISTEN_SOCKET | (s->o.tls_cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)s->o.tls_cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)s->o.tls_key},
        {MHD_OPTION_END, 0, NULL},
    };
    errno = 0;
    d->mhd =
        MHD_start_daemon(flags, 0, NULL, NULL, on_access, d, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
                         d, MHD_OPTION_URI_LOG_CALLBACK, on_uri, d, MHD_OPTION_CONNECTION_LIMIT,
                         d->most, MHD_OPTION_CONNECTION_MEMORY_LIMIT, d->memory,
                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((s->o.idle_ms + 999) / 1000),
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, d, MHD_OPTION_NOTIFY_CONNECTION,
                         on_connection, d, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                         MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 0,
                         s->o.tls_cert ? MHD_OPTION_ARRAY : MHD_OPTION_END, tls, MHD_OPTION_END);
    if (!d->mhd)
        return err_set(e, errno ? -errno : -EINVAL,
                       s->o.tls_cert ? "are certificate and key PEM, and do they belong together?"
                                     : "raise the limit of open files (ulimit -n)",
                       "the HTTP server can't be started%s%s", errno ? ": " : "",
                       errno ? strerror(errno) : "");
    d->epoll.fd = MHD_get_daemon_info(d->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    d->epoll.fn = on_epoll;
    d->epoll.events = EPOLLIN;
    d->timer.fn = on_timer;
    int error = loop_fd_add(s->o.loop, &d->epoll);
    return error ? err_set(e, error, "raise the limit of open files", "cannot watch HTTP") : 0;
}

static void stop(struct http_daemon *d)
{
    if (!d->mhd)
        return;
    loop_fd_del(&d->epoll);
    loop_timer_unset(&d->timer);
    MHD_stop_daemon(d->mhd);
}

static void set_defaults(struct http_opts *o)
{
    o->body_max = o->body_max ? o->body_max : 1 << 20;
    o->connections_max = o->connections_max ? o->connections_max : 1024;
    o->streams_max = o->streams_max ? o->streams_max : 10000;
    o->idle_ms = o->idle_ms ? o->idle_ms : 60000;
    o->request_ms = o->request_ms ? o->request_ms : 30000;
}

struct http_server *http_server_new(const struct http_opts *o, struct err *e)
{
    struct http_server *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the HTTP server");
        return NULL;
    }
    s->o = *o;
    set_defaults(&s->o);
    list_init(&s->waiting);
    list_init(&s->requests);
    list_init(&s->newcomers);
    s->hook.fn = before_sleep;
    s->main =
        (struct http_daemon){.server = s, .memory = MEMORY_BYTES, .most = s->o.connections_max};
    s->streams =
        (struct http_daemon){.server = s, .memory = STREAM_BYTES, .most = s->o.streams_max};
    loop_before_sleep(o->loop, &s->hook);
    if (start(&s->main, e) || start(&s->streams, e) || http_listen(s, e))
        return http_server_free(s);
    return s;
}

int http_server_port(const struct http_server *s)
{
    return s->port;
}

void http_server_quiesce(struct http_server *s)
{
    http_listen_end(s);
}

struct http_server *http_server_free(struct http_server *s)
{
    if (!s)
        return NULL;
    /* A daemon with suspended connections can't be stopped: they go on, and find no answer. */
    LIST_EACH(n, &s->requests)
    {
        struct http_request *r = LIST_ENTRY(n, struct http_request, node);
        if (r->suspended)
            MHD_resume_connection(r->con);
        r->suspended = false;
    }
    http_listen_end(s);
    loop_hook_del(&s->hook);
    stop(&s->main);
    stop(&s->streams);
    free(s);
    return NULL;
}

void http_stats(const struct http_server *s, struct http_stats *ret)
{
    *ret = s->stats;
    ret->streams = s->streams.connections;
}
