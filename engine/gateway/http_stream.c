/* Answers that go on: see http.h. libmicrohttpd asks for more whenever the socket takes some; with
 * nothing to give the connection is suspended, and resumed by the next http_stream_send. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/http_int.h"

#define BLOCK 512 /* bytes that are kept for a stream between two events */

struct http_stream {
    struct http_request *r; /* NULL: its connection is gone */
    struct buf out;
    size_t taken; /* of out, by libmicrohttpd */
    bool ending;
    void (*closed)(void *arg);
    void *arg;
};

static ssize_t on_more(void *arg, uint64_t pos, char *to, size_t max)
{
    struct http_stream *s = arg;
    size_t n = s->out.n - s->taken;
    if (!n && s->ending)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!n) {
        if (s->r && !s->r->suspended) {
            s->r->suspended = true;
            MHD_suspend_connection(s->r->con);
        }
        return 0;
    }
    n = n < max ? n : max;
    memcpy(to, s->out.p + s->taken, n);
    s->taken += n;
    if (s->taken == s->out.n) {
        buf_trim(&s->out, BLOCK);
        s->taken = 0;
    }
    return (ssize_t)n;
}

/* The response's end: the last that uses it. */
static void on_free(void *arg)
{
    struct http_stream *s = arg;
    buf_free(&s->out);
    free(s);
}

void http_stream_gone(struct http_request *r)
{
    struct http_stream *s = r->stream;
    r->stream = NULL;
    s->r = NULL;
    s->closed(s->arg);
}

struct http_stream *http_stream_begin(struct http_request *r, const struct http_field *fields,
                                      size_t max_bytes, void (*closed)(void *arg), void *arg)
{
    struct http_stream *s = r->con ? calloc(1, sizeof *s) : NULL;
    if (s)
        r->response =
            MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_more, s, on_free);
    if (!s || !r->response) {
        free(s);
        return NULL;
    }
    s->r = r;
    s->closed = closed;
    s->arg = arg;
    buf_init(&s->out, max_bytes);
    http_add_fields(r, fields);
    r->server->stats.waiting--;
    r->answered = true;
    r->stream = s;
    r->status = MHD_HTTP_OK;
    if (r->suspended)
        http_resume(r);
    return s;
}

int http_stream_send(struct http_stream *s, struct slice text)
{
    if (s->taken && s->taken >= s->out.n / 2) {
        buf_consume(&s->out, s->taken);
        s->taken = 0;
    }
    int error = buf_add_slice(&s->out, text);
    if (s->r && s->r->suspended)
        http_resume(s->r);
    return error;
}

void http_stream_end(struct http_stream *s)
{
    s->ending = true;
    if (s->r && s->r->suspended)
        http_resume(s->r);
}

void http_stream_cut(struct http_stream *s)
{
    if (s->r && s->r->place)
        (void)shutdown(s->r->place->fd, SHUT_RDWR);
    http_stream_end(s);
}
