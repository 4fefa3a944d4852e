/* Connections: framing, replies in request order, back-pressure.
 *
 * Owning thread: the broker's thread. States of a connection: open; paused (more than MAX_PARKED
 * replies or MAX_OUTPUT_BYTES wait, so nothing is read or handled until half of that is gone); dead
 * (closed, freed at the end of the turn, because a caller further up may still hold it).
 *
 * Invariants: replies stand in request order; out_bytes counts the unsent bytes of finished ones.
 * An input buffer grows with the bytes that came, never with the size that a frame only claims. */
#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/wire_int.h"

#define IOV_MAX_REPLIES 64
#define READ_BYTES      ((size_t)256 << 10)

static void peer_name(struct conn *c)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    snprintf(c->host, sizeof c->host, "unknown");
    if (getpeername(c->fd, (struct sockaddr *)&a, &n) == 0) {
        if (a.ss_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)&a)->sin_addr, c->host, sizeof c->host);
        else if (a.ss_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a)->sin6_addr, c->host, sizeof c->host);
    }
    int port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                             : ((struct sockaddr_in *)&a)->sin_port);
    snprintf(c->peer, sizeof c->peer, "%.50s:%d", c->host, port);
}

struct conn *conn_new(struct broker *b, int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->b = b;
    c->fd = fd;
    c->events = EPOLLIN;
    c->last_ms = b->now_ms;
    buf_init(&c->in, b->o.max_request_bytes + READ_TURN_BYTES);
    list_init(&c->replies);
    list_init(&c->dirty);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(b->epfd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        buf_free(&c->in);
        free(c);
        return NULL;
    }
    peer_name(c);
    list_push(&b->conns, &c->node);
    b->nconns++;
    return c;
}

/* Marks it dead; conn_free follows at the end of the turn. `why` NULL: the client left. */
void conn_close(struct conn *c, const char *why)
{
    if (c->dead)
        return;
    if (why)
        log_warn(c->b->log, "connection closed", "peer=%s reason=%s", c->peer, log_q(why));
    c->dead = true;
    epoll_ctl(c->b->epfd, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
    LIST_EACH(n, &c->replies)
    {
        struct reply *r = LIST_ENTRY(n, struct reply, node);
        list_del(&r->node);
        r->c = NULL;
        if (r->done)
            reply_free(r);
        else if (r->cancel)
            r->cancel(r);
    }
    c->nreplies = 0;
    if (list_empty(&c->dirty))
        list_push(&c->b->dirty, &c->dirty);
}

struct conn *conn_free(struct conn *c)
{
    if (!c)
        return NULL;
    conn_close(c, NULL);
    list_del(&c->dirty);
    list_del(&c->node);
    c->b->nconns--;
    c->b->in_bytes -= c->in.cap;
    buf_free(&c->in);
    free(c);
    return NULL;
}

static void conn_watch(struct conn *c, uint32_t events)
{
    if (c->dead || c->events == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = c};
    if (epoll_ctl(c->b->epfd, EPOLL_CTL_MOD, c->fd, &ev) != 0)
        conn_close(c, strerror(errno));
    c->events = events;
}

static void conn_rewatch(struct conn *c, bool want_out)
{
    bool in = !c->paused && !c->eof;
    conn_watch(c, (in ? (uint32_t)EPOLLIN : 0) | (want_out ? (uint32_t)EPOLLOUT : 0));
}

struct reply *reply_new(struct conn *c)
{
    struct reply *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->c = c;
    r->b = c->b;
    buf_init(&r->out, MAX_REPLY_BYTES);
    list_push(&c->replies, &r->node);
    c->nreplies++;
    return r;
}

struct reply *reply_free(struct reply *r)
{
    if (!r)
        return NULL;
    list_del(&r->node);
    buf_free(&r->out);
    free(r);
    return NULL;
}

/* The response is complete: fills in its size and lets it be sent when those before it are. */
void reply_done(struct reply *r)
{
    struct conn *c = r->c;
    r->done = true;
    r->cancel = NULL;
    if (!c) {
        reply_free(r);
        return;
    }
    if (r->silent)
        buf_reset(&r->out);
    else
        wr_patch_i32(&r->out, 0, (int32_t)(r->out.n - 4));
    if (buf_error(&r->out)) {
        conn_close(c, "a response is too large or memory ran out");
        return;
    }
    c->out_bytes += r->out.n;
    if (list_empty(&c->dirty))
        list_push(&c->b->dirty, &c->dirty);
}

struct wr reply_wr(struct reply *r)
{
    return (struct wr){&r->out, r->flex};
}

static const char *frame_guess(const char *p)
{
    if ((unsigned char)p[0] == 0x16 && p[1] == 3)
        return "the client speaks TLS; this listener speaks plain Kafka protocol";
    if (memcmp(p, "GET ", 4) == 0 || memcmp(p, "POST", 4) == 0 || memcmp(p, "HEAD", 4) == 0)
        return "the client speaks HTTP; this listener speaks Kafka protocol";
    return "the size of a request is out of range";
}

static bool conn_full(const struct conn *c, bool half)
{
    int parked = half ? MAX_PARKED / 2 : MAX_PARKED;
    size_t out = half ? MAX_OUTPUT_BYTES / 2 : MAX_OUTPUT_BYTES;
    return c->nreplies >= parked || c->out_bytes >= out;
}

/* Handles the whole frames in the input buffer, then drops them. */
static void conn_process(struct conn *c)
{
    while (!c->dead && c->in.n - c->in_at >= 4) {
        if (conn_full(c, false)) {
            c->paused = true;
            break;
        }
        char *p = c->in.p + c->in_at;
        uint32_t size;
        memcpy(&size, p, 4);
        size = be32toh(size);
        if (size < 8 || size > c->b->o.max_request_bytes) {
            conn_close(c, frame_guess(p));
            return;
        }
        if (c->in.n - c->in_at - 4 < size)
            break;
        c->in_at += 4 + (size_t)size;
        const char *why = "malformed request";
        if (api_dispatch(c, p + 4, size, &why) < 0)
            conn_close(c, why);
    }
    if (c->dead)
        return;
    buf_consume(&c->in, c->in_at);
    c->in_at = 0;
    if (c->eof && !c->paused && list_empty(&c->replies))
        conn_close(c, NULL);
    conn_rewatch(c, (c->events & EPOLLOUT) != 0);
}

/* How much to ask for: the rest of a large frame, up to what was already received (so that memory
 * follows the bytes that came), at least READ_BYTES. */
static size_t read_size(const struct conn *c)
{
    size_t want = READ_BYTES;
    if (c->in.n >= 4) {
        uint32_t size;
        memcpy(&size, c->in.p, 4);
        size_t rest = (size_t)be32toh(size) + 4 - c->in.n;
        if (rest > c->b->o.max_request_bytes)
            return want;
        if (rest > want)
            want = rest < c->in.n ? rest : c->in.n;
        else if (c->in.n > READ_BYTES)
            return rest; /* no more: the buffer of a large frame must not double for its last bytes
                          */
    }
    return want < READ_BYTES ? READ_BYTES : want;
}

static void conn_read(struct conn *c)
{
    for (size_t got = 0; got < READ_TURN_BYTES && !c->dead && !c->paused;) {
        size_t want = read_size(c), cap = c->in.cap;
        char *p = buf_reserve(&c->in, want);
        c->b->in_bytes += c->in.cap - cap;
        if (!p || c->b->in_bytes > c->b->o.max_input_bytes) {
            conn_close(c, buf_error(&c->in) == -ENOMEM ? "no memory for the request"
                                                       : "requests in memory exceed the limit");
            c->b->in_bytes -= c->in.cap; /* at once: others read in this turn are not to blame */
            buf_free(&c->in);
            return;
        }
        ssize_t n = recv(c->fd, p, want, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            conn_close(c, errno == ECONNRESET ? NULL : strerror(errno));
            return;
        }
        if (n == 0) {
            c->eof = true;
            if (c->in.n > 0)
                log_debug(c->b->log, "connection ended inside a request", "peer=%s", c->peer);
            conn_process(c);
            return;
        }
        buf_commit(&c->in, (size_t)n);
        got += (size_t)n;
        c->last_ms = c->b->now_ms;
        conn_process(c);
        if ((size_t)n < want)
            return;
    }
}

/* Sends the finished head of the replies. True: the socket is full. */
static bool conn_send(struct conn *c)
{
    while (!c->dead) {
        struct iovec iov[IOV_MAX_REPLIES];
        int niov = 0;
        LIST_EACH(n, &c->replies)
        {
            struct reply *r = LIST_ENTRY(n, struct reply, node);
            if (!r->done || niov == IOV_MAX_REPLIES)
                break;
            iov[niov++] = (struct iovec){r->out.p + r->sent, r->out.n - r->sent};
        }
        if (niov == 0)
            return false;
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)niov};
        ssize_t sent = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return true;
        if (sent < 0) {
            conn_close(c, NULL);
            return false;
        }
        c->out_bytes -= (size_t)sent;
        c->last_ms = c->b->now_ms;
        for (size_t left = (size_t)sent; niov > 0; niov--) {
            struct reply *r = LIST_ENTRY(c->replies.next, struct reply, node);
            size_t part = r->out.n - r->sent;
            if (part > left) {
                r->sent += left;
                break;
            }
            left -= part;
            c->nreplies--;
            reply_free(r);
        }
    }
    return false;
}

void conn_flush(struct conn *c)
{
    bool full = conn_send(c);
    if (c->dead)
        return;
    conn_rewatch(c, full);
    if (c->paused && !conn_full(c, true)) {
        c->paused = false;
        conn_process(c);
    }
    if (!c->dead && c->eof && !c->paused && list_empty(&c->replies))
        conn_close(c, NULL);
}

void conn_ready(struct conn *c, uint32_t events)
{
    if (c->dead)
        return;
    if (events & EPOLLOUT)
        conn_flush(c);
    if (!c->dead && (events & EPOLLIN) && !c->paused && !c->eof)
        conn_read(c);
    else if (!c->dead && (events & (EPOLLERR | EPOLLHUP)))
        conn_close(c, NULL);
}
