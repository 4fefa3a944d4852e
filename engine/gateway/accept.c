/* The listening socket. Each connection is looked at before a daemon gets it: one that begins with
 * the head of a request for a stream, whole and small, goes to the streams' daemon, everything else
 * to the main one.
 * Whoever sends nothing for LOOK_MS, or is one of too many that do, is the main daemon's too, which
 * knows how to deal with slow clients; so is everything over TLS, where nothing can be seen.
 * Streams work there as well, and only cost more. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/http_int.h"

#define BACKLOG       1024
#define A_TURN        64   /* connections, before others have their turn */
#define DEFER_S       5    /* a connection without a byte is handed over then */
#define AGAIN_MS      200  /* when there are no descriptors */
#define HEAD_MAX      4096 /* of a stream: its daemon has little memory for a connection */
#define LOOK_MS       500  /* for the first bytes of a connection */
#define NEWCOMERS_MAX 64

union address {
    struct sockaddr a;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int read_address(const struct http_opts *o, union address *a, socklen_t *size, struct err *e)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, o->host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons((uint16_t)o->port);
        *size = sizeof a->v4;
        return 0;
    }
    if (inet_pton(AF_INET6, o->host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons((uint16_t)o->port);
        *size = sizeof a->v6;
        return 0;
    }
    return err_set(e, -EINVAL, "an IPv4 or IPv6 address such as 127.0.0.1", "%s is not an address",
                   o->host);
}

/* 1: "GET /v1/.../stream HTTP/1.1", with or without a query, and the fields up to the empty line;
 * 0: not; -EAGAIN: nothing came yet. */
static int begins_stream(int fd)
{
    char line[HEAD_MAX];
    ssize_t n = recv(fd, line, sizeof line, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (n < 5 || memcmp(line, "GET ", 4) != 0)
        return 0;
    size_t end = 4;
    while (end < (size_t)n && line[end] != ' ' && line[end] != '?' && line[end] != '\r')
        end++;
    return end < (size_t)n && end > 11 && !memcmp(line + end - 7, "/stream", 7) &&
           memmem(line, (size_t)n, "\r\n\r\n", 4);
}

/* A connection that has sent nothing yet. */
struct newcomer {
    struct list node; /* in server.newcomers, the oldest first */
    struct http_server *server;
    struct loop_fd w;
    struct loop_timer timer;
    union address a;
    socklen_t size;
};

static void hand(struct http_server *s, int fd, const union address *a, socklen_t size, bool stream)
{
    struct http_daemon *d = stream ? &s->streams : &s->main;
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)MHD_add_connection(d->mhd, fd, &a->a, size); /* it closes what it does not take */
    d->fresh++;
    /* Near its limit it must know of each one before the next is taken from the kernel. */
    if (d->connections + d->fresh > d->most - (d->most + 7) / 8)
        http_run(d);
    else
        d->resumed = true;
}

static void settle(struct newcomer *n, bool stream)
{
    struct http_server *s = n->server;
    int fd = n->w.fd;
    loop_fd_del(&n->w);
    loop_timer_unset(&n->timer);
    list_del(&n->node);
    s->nnewcomers--;
    hand(s, fd, &n->a, n->size, stream);
    free(n);
}

static void on_first_bytes(struct loop_fd *w, uint32_t events)
{
    struct newcomer *n = LIST_ENTRY(w, struct newcomer, w);
    int r = begins_stream(w->fd);
    if (r != -EAGAIN)
        settle(n, r == 1);
}

static void on_silence(struct loop_timer *t)
{
    settle(LIST_ENTRY(t, struct newcomer, timer), false);
}

static void take(struct http_server *s, int fd, const union address *a, socklen_t size)
{
    int r = s->o.tls_cert ? 0 : begins_stream(fd);
    struct newcomer *n = r == -EAGAIN ? calloc(1, sizeof *n) : NULL;
    if (n) {
        *n = (struct newcomer){.server = s,
                               .w = {.fd = fd, .events = EPOLLIN, .fn = on_first_bytes},
                               .timer = {.fn = on_silence},
                               .a = *a,
                               .size = size};
        if (loop_fd_add(s->o.loop, &n->w) == 0) {
            loop_timer_set(s->o.loop, &n->timer, loop_now(s->o.loop) + LOOK_MS);
            list_push(&s->newcomers, &n->node);
            if (++s->nnewcomers > NEWCOMERS_MAX)
                settle(LIST_ENTRY(s->newcomers.next, struct newcomer, node), false);
            return;
        }
        free(n);
    }
    hand(s, fd, a, size, r == 1);
}

static void on_again(struct loop_timer *t)
{
    struct http_server *s = LIST_ENTRY(t, struct http_server, listen_again);
    (void)loop_fd_mod(&s->listener, EPOLLIN);
}

static void on_connections(struct loop_fd *w, uint32_t events)
{
    struct http_server *s = LIST_ENTRY(w, struct http_server, listener);
    for (int i = 0; i < A_TURN; i++) {
        union address a;
        socklen_t size = sizeof a;
        /* The main daemon is full: they wait in the kernel's queue. */
        if (s->main.connections >= s->main.most)
            break;
        int fd = accept4(w->fd, &a.a, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(s, fd, &a, size);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            break;
        return; /* none is left, or this one has gone again */
    }
    if (loop_fd_mod(w, 0) == 0)
        loop_timer_set(s->o.loop, &s->listen_again,
                       loop_now(s->o.loop) + (s->main.connections < s->main.most ? 0 : AGAIN_MS));
}

static int fail(const struct http_server *s, int fd, struct err *e)
{
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (error == EADDRINUSE)
        return err_set(e, -EADDRINUSE, "choose another port, or 0 for any",
                       "port %d of %s is in use", s->o.port, s->o.host);
    return err_set(e, -error, "is this an address of this machine?",
                   "cannot listen on %s, port %d: %s", s->o.host, s->o.port, strerror(error));
}

int http_listen(struct http_server *s, struct err *e)
{
    union address a;
    socklen_t size;
    int one = 1, error = read_address(&s->o, &a, &size, e);
    s->listener.fd = -1;
    if (error)
        return error;
    int fd = socket(a.a.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(s, fd, e);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.a.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, &a.a, size) < 0 || listen(fd, BACKLOG) < 0 || getsockname(fd, &a.a, &size) < 0)
        return fail(s, fd, e);
    s->port = ntohs(a.a.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    s->listener = (struct loop_fd){.fd = fd, .events = EPOLLIN, .fn = on_connections};
    s->listen_again.fn = on_again;
    if ((error = loop_fd_add(s->o.loop, &s->listener))) {
        close(fd);
        s->listener.fd = -1;
        return err_set(e, error, "raise the limit of open files", "cannot watch the HTTP port");
    }
    return 0;
}

void http_listen_end(struct http_server *s)
{
    struct list *l;
    loop_timer_unset(&s->listen_again);
    while ((l = list_pop(&s->newcomers)))
        settle(LIST_ENTRY(l, struct newcomer, node), false);
    if (s->listener.fd < 0 || !s->listener.fn)
        return;
    loop_fd_del(&s->listener);
    close(s->listener.fd);
    s->listener.fd = -1;
}
