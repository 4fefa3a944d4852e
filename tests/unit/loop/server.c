/* The test server. One connection at a time; bounded waits, so that a broken client can't hang a
 * test. */
#include "server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

#define WAIT_MS 120000

static int wait_for(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1;
}

void server_read(int fd, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (;;) {
        char *end = strstr(text, "\r\n\r\n"), *len = strcasestr(text, "\r\ncontent-length:");
        size_t want = len && len < end ? strtoul(len + 17, NULL, 10) : 0;
        if (end && n >= (size_t)(end + 4 - text) + want)
            return;
        ssize_t r = wait_for(fd) ? read(fd, text + n, size - 1 - n) : 0;
        if (r <= 0)
            return;
        n += (size_t)r;
        text[n] = 0;
    }
}

static void *run(void *arg)
{
    struct server *s = arg;
    static char request[1 << 18];
    for (;;) {
        struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN},
                              {.fd = s->stop[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[1].revents)
            return NULL;
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            continue;
        server_read(fd, request, sizeof request);
        if (request[0])
            s->answer(s, fd, request);
        close(fd);
    }
}

void server_start(struct server *s, void (*answer)(struct server *s, int fd, const char *request))
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    s->answer = answer;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(s->fd >= 0 && pipe(s->stop) == 0);
    NEED(bind(s->fd, (struct sockaddr *)&a, n) == 0 && listen(s->fd, 64) == 0);
    NEED(getsockname(s->fd, (struct sockaddr *)&a, &n) == 0);
    s->port = ntohs(a.sin_port);
    NEED(pthread_create(&s->thread, NULL, run, s) == 0);
}

void server_stop(struct server *s)
{
    CHECK_INT(write(s->stop[1], "x", 1), 1);
    pthread_join(s->thread, NULL);
    close(s->stop[0]);
    close(s->stop[1]);
    close(s->fd);
}

void server_say(int fd, const char *fmt, ...)
{
    static char text[1 << 18];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (int at = 0; at < n;) {
        ssize_t r = send(fd, text + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (r <= 0)
            return; /* the client had enough: some tests want that */
        at += (int)r;
    }
}

void server_wait_close(int fd)
{
    char c;
    while (wait_for(fd) && read(fd, &c, 1) > 0)
        ;
}
