/* The HTTP client: libcurl's multi-socket interface on the loop. The loop's thread only.
 * A request: added to the multi handle by http_start, driven by sockets and libcurl's one timer,
 * found finished by `deliver` (a task later in the turn, never inside libcurl), which takes it out,
 * calls fn and frees it. Invariants: no callback of ours calls back into libcurl's multi interface;
 * each socket that libcurl named has one watch in `sockets`; each request lies in `requests`. */
#include "loop/http.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loop/http_int.h"

struct sock {
    struct loop_fd w;
    struct list node;
    struct http *http;
};

static void act(struct http *h, curl_socket_t fd, int what)
{
    int running;
    (void)curl_multi_socket_action(h->multi, fd, what, &running);
    loop_later(h->loop, &h->deliver);
}

static void on_socket_ready(struct loop_fd *w, uint32_t events)
{
    struct sock *s = LIST_ENTRY(w, struct sock, w);
    int what = (events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    act(s->http, w->fd, what); /* may free s */
}

static void sock_free(struct sock *s)
{
    loop_fd_del(&s->w);
    list_del(&s->node);
    free(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http *h = arg;
    struct sock *s = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            sock_free(s);
        return 0;
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    if (s)
        return loop_fd_mod(&s->w, events) ? -1 : 0;
    s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    s->http = h;
    s->w = (struct loop_fd){.fd = fd, .events = events, .fn = on_socket_ready};
    if (loop_fd_add(h->loop, &s->w)) {
        free(s);
        return -1; /* libcurl ends its transfers with an error */
    }
    list_push(&h->sockets, &s->node);
    curl_multi_assign(h->multi, fd, s);
    return 0;
}

static int on_timeout_change(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *h = arg;
    if (timeout_ms < 0) {
        loop_timer_unset(&h->timer);
        return 0;
    }
    return loop_timer_set(h->loop, &h->timer, loop_now(h->loop) + timeout_ms) ? -1 : 0;
}

static void on_timer(struct loop_timer *t)
{
    act(LIST_ENTRY(t, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static struct http_req *req_free(struct http_req *r)
{
    list_del(&r->node);
    if (r->easy)
        curl_easy_cleanup(r->easy);
    http_clear(r);
    free(r);
    return NULL;
}

/* Takes the request out of the multi handle without a trace. */
static void take_out(struct http_req *r)
{
    (void)curl_multi_remove_handle(r->http->multi, r->easy);
}

static void on_deliver(struct loop_task *t)
{
    struct http *h = LIST_ENTRY(t, struct http, deliver);
    bool gone = false;
    CURLMsg *m;
    int left;
    h->gone = &gone;
    while (!gone && (m = curl_multi_info_read(h->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result; /* m does not outlive the removal */
        struct http_req *r = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        take_out(r);
        list_del(&r->node); /* an http_free inside fn must not meet it */
        struct http_result result;
        http_result_make(r, code, &result);
        r->fn(r->arg, &result);
        req_free(r);
    }
    if (!gone)
        h->gone = NULL;
    else
        curl_global_cleanup(); /* left over by http_free for the request that was under way */
}

struct http *http_new(struct loop *l, int max_connections,
                      bool (*allow_address)(void *arg, const struct sockaddr *sa), void *arg,
                      struct err *e)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the HTTP client");
        return NULL;
    }
    h->loop = l;
    h->allow = allow_address;
    h->allow_arg = arg;
    h->timer.fn = on_timer;
    h->deliver.fn = on_deliver;
    list_init(&h->requests);
    list_init(&h->sockets);
    h->global = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    h->multi = h->global ? curl_multi_init() : NULL;
    CURLM *m = h->multi;
    if (!m || curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket) ||
        curl_multi_setopt(m, CURLMOPT_SOCKETDATA, h) ||
        curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, on_timeout_change) ||
        curl_multi_setopt(m, CURLMOPT_TIMERDATA, h) ||
        curl_multi_setopt(m, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)max_connections) ||
        curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)max_connections)) {
        err_set(e, -EIO, "check that the installed libcurl is 7.85 or newer",
                "cannot start the HTTP client");
        return http_free(h);
    }
    return h;
}

struct http *http_free(struct http *h)
{
    if (!h)
        return NULL;
    while (!list_empty(&h->requests)) {
        struct http_req *r = LIST_ENTRY(h->requests.next, struct http_req, node);
        take_out(r);
        req_free(r);
    }
    if (h->multi)
        curl_multi_cleanup(h->multi);
    while (!list_empty(&h->sockets))
        sock_free(LIST_ENTRY(h->sockets.next, struct sock, node));
    loop_timer_unset(&h->timer);
    loop_task_cancel(&h->deliver);
    if (h->gone)
        *h->gone = true;
    else if (h->global)
        curl_global_cleanup();
    free(h);
    return NULL;
}

struct http_req *http_start(struct http *h, const struct http_spec *s,
                            void (*fn)(void *arg, const struct http_result *r), void *arg,
                            struct err *e)
{
    struct http_req *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, -ENOMEM, "give the process more memory", "no memory for an HTTP request");
        return NULL;
    }
    r->http = h;
    r->fn = fn;
    r->arg = arg;
    list_init(&r->node);
    if (http_setup(r, s, e))
        return req_free(r);
    CURLMcode code = curl_multi_add_handle(h->multi, r->easy);
    if (code) {
        err_set(e, -ENOMEM, "give the process more memory", "cannot start the HTTP request: %s",
                curl_multi_strerror(code));
        return req_free(r);
    }
    list_push(&h->requests, &r->node);
    return r;
}

void http_cancel(struct http_req *r)
{
    take_out(r);
    req_free(r);
}
