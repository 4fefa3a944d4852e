/* The HTTP server that the benchmarks' calls go to: one thread, epoll, keep-alive, one fixed
 * answer.
 *
 * Prints `listening on HOST:PORT`, and at SIGTERM `requests=N connections=N`. Knows of HTTP what
 * such a caller sends: a request line, headers, a body with a Content-Length. Anything else closes
 * the connection. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_MAX 16384
#define EVENTS      64

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             "Content-Length: 26\r\n\r\n{\"ok\":true,\"from\":\"bench\"}";

struct conn {
    int fd;
    size_t n;
    char in[REQUEST_MAX];
};
static volatile sig_atomic_t stopped;

static void on_signal(int signo)
{
    (void)signo;
    stopped = 1;
}

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "httpd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on_free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    need(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 1024) == 0 &&
             getsockname(fd, (struct sockaddr *)&a, &n) == 0,
         "listen");
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

/* Bytes of the first whole request in the buffer; 0: not all of it is there; -1: nothing that is
 * known here. */
static ssize_t request_size(const char *in, size_t n)
{
    const char *end = memmem(in, n, "\r\n\r\n", 4);
    if (!end)
        return n == REQUEST_MAX ? -1 : 0;
    size_t body = 0;
    for (const char *p = in; p && p < end; p = memmem(p, (size_t)(end - p), "\r\n", 2)) {
        p += p == in ? 0 : 2;
        if (!strncasecmp(p, "content-length:", 15))
            body = strtoul(p + 15, NULL, 10);
    }
    size_t size = (size_t)(end - in) + 4 + body;
    return size > REQUEST_MAX ? -1 : size > n ? 0 : (ssize_t)size;
}

/* Answers every request that is there whole; false: the connection is done. */
static bool serve(struct conn *c, long *requests)
{
    ssize_t got = read(c->fd, c->in + c->n, REQUEST_MAX - c->n), size;
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    c->n += (size_t)got;
    while ((size = request_size(c->in, c->n)) > 0) {
        /* An answer fits any socket buffer; a caller that does not read its answers is let go. */
        if (write(c->fd, ANSWER, sizeof ANSWER - 1) != (ssize_t)sizeof ANSWER - 1)
            return false;
        ++*requests;
        c->n -= (size_t)size;
        memmove(c->in, c->in + size, c->n);
    }
    return size == 0;
}

static void accept_all(int ep, int listener, long *connections)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        need(c != NULL, "memory");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        need(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0, "epoll");
        ++*connections;
    }
}

int main(void)
{
    struct sigaction stop = {.sa_handler = on_signal}; /* without SA_RESTART: epoll_wait returns */
    struct epoll_event events[EVENTS], first = {.events = EPOLLIN};
    long requests = 0, connections = 0;
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on_free_port(), ep = epoll_create1(EPOLL_CLOEXEC);
    need(ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, listener, &first) == 0, "epoll");
    while (!stopped) {
        int n = epoll_wait(ep, events, EVENTS, 1000);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                accept_all(ep, listener, &connections);
            } else if (!serve(c, &requests)) {
                close(c->fd);
                free(c);
            }
        }
    }
    printf("requests=%ld connections=%ld\n", requests, connections);
    return 0;
}
