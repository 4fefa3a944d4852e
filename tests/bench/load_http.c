/* load http: POSTs {"n":N} over CONNECTIONS kept connections, one request at a time on each, and
 * times each from its sending to the end of its answer. Every answer must be 2xx; one that is not
 * ends the program with its text. HTTP/1.1 with Content-Length, or chunked, as the peers answer. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define ANSWER_MAX  16384
#define PATIENCE_MS 30000

struct connection {
    int fd;
    int64_t sent_ns;
    bool busy;
    size_t n;
    char text[ANSWER_MAX + 1];
};
struct load {
    const char *host, *path;
    int port, epoll;
    int64_t warm, total, sent, done, begun_ns;
    double *took_ms;
};

static int dial(const struct load *l)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, l->host, &a.sin_addr) != 1)
        fail("%s is not an address", l->host);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        fail("no connection to %s:%d: %s", l->host, l->port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void ask(struct load *l, struct connection *c)
{
    char body[32], text[512];
    int nbody = snprintf(body, sizeof body, "{\"n\":%lld}", (long long)l->sent);
    int n = snprintf(text, sizeof text,
                     "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n%s",
                     l->path, l->host, l->port, nbody, body);
    if (n < 0 || (size_t)n >= sizeof text)
        fail("the path is too long");
    l->sent++;
    c->n = 0;
    c->busy = true;
    c->sent_ns = now_ns();
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        fail("a request could not be sent: %s", strerror(errno));
}

/* Whether the answer is whole. */
static bool whole(struct connection *c)
{
    c->text[c->n] = 0;
    const char *end = strstr(c->text, "\r\n\r\n"), *at;
    if (!end)
        return false;
    size_t head = (size_t)(end - c->text) + 4;
    at = strcasestr(c->text, "\r\ncontent-length:");
    if (at && at < end)
        return c->n - head >= strtoul(at + 17, NULL, 10);
    return c->n >= head + 5 && !memcmp(c->text + c->n - 5, "0\r\n\r\n", 5);
}

static void answered(struct load *l, struct connection *c)
{
    if (strncmp(c->text, "HTTP/1.1 2", 10) != 0)
        fail("answered: %.400s", c->text);
    int64_t now = now_ns();
    c->busy = false;
    if (l->done >= l->warm)
        l->took_ms[l->done - l->warm] = (double)(now - c->sent_ns) / 1e6;
    if (++l->done == l->warm)
        l->begun_ns = now;
}

static void hear(struct load *l, struct connection *c)
{
    ssize_t n = recv(c->fd, c->text + c->n, ANSWER_MAX - c->n, 0);
    if (n <= 0)
        fail("a connection ended: %s", n ? strerror(errno) : "closed by the server");
    c->n += (size_t)n;
    if (c->n == ANSWER_MAX)
        fail("an answer is too long");
    if (!whole(c))
        return;
    answered(l, c);
    if (l->sent < l->total)
        ask(l, c);
}

static struct connection *open_all(struct load *l, int64_t n)
{
    struct connection *v = calloc((size_t)n, sizeof *v);
    for (int64_t i = 0; v && i < n; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &v[i]};
        v[i].fd = dial(l);
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, v[i].fd, &ev) < 0)
            fail("epoll: %s", strerror(errno));
    }
    if (!v)
        fail("out of memory");
    return v;
}

int load_http(int argc, char **argv)
{
    struct load l = {.host = argv[0], .path = argv[2], .port = (int)number(argv[1], 1, "PORT")};
    int64_t connections = number(argv[3], 1, "CONNECTIONS");
    l.warm = number(argv[4], 1, "WARM");
    l.total = l.warm + number(argv[5], 1, "COUNT");
    l.took_ms = calloc((size_t)(l.total - l.warm), sizeof *l.took_ms);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!l.took_ms || l.epoll < 0)
        fail("out of memory or descriptors");
    struct connection *v = open_all(&l, connections);
    struct epoll_event ready[256];
    for (int64_t i = 0; i < connections && l.sent < l.total; i++)
        ask(&l, &v[i]);
    while (l.done < l.total) {
        int n = epoll_wait(l.epoll, ready, 256, PATIENCE_MS);
        if (n <= 0)
            fail("no answer for %d s", PATIENCE_MS / 1000);
        for (int i = 0; i < n; i++)
            hear(&l, ready[i].data.ptr);
    }
    int64_t count = l.total - l.warm;
    report(count, (double)(now_ns() - l.begun_ns) / 1e9, l.took_ms, (size_t)count);
    for (int64_t i = 0; i < connections; i++)
        close(v[i].fd);
    close(l.epoll);
    free(v);
    free(l.took_ms);
    return 0;
}
