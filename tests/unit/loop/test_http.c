/* The HTTP client against a server in a thread: requests as sent, redirects, limits, failures,
 * ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/http.h"
#include "server.h"
#include "unit.h"

SUITE("loop/http")

#define WAIT_MS 120000
#define OK_HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\n"

struct seen {
    bool done;
    int calls, error, status;
    char text[256], body[70000], url[256], type[64];
    size_t nheaders;
};

static void on_result(void *arg, const struct http_result *r)
{
    struct seen *s = arg;
    s->done = true;
    s->calls++;
    s->error = r->error;
    s->status = r->status;
    s->nheaders = r->nheaders;
    (void)snprintf(s->text, sizeof s->text, "%s", r->error_text ? r->error_text : "");
    (void)snprintf(s->body, sizeof s->body, "%.*s", SL_ARG(r->body));
    (void)snprintf(s->url, sizeof s->url, "%s", r->final_url);
    for (size_t i = 0; i < r->nheaders; i++)
        if (sl_is(r->headers[i].name, "content-type"))
            (void)snprintf(s->type, sizeof s->type, "%.*s", SL_ARG(r->headers[i].value));
}

static struct server server;
static struct loop *l;
static struct http *h;

static bool allow_none(void *arg, const struct sockaddr *sa)
{
    CHECK_INT(sa->sa_family, AF_INET);
    (*(int *)arg)++;
    return false;
}

static void set_up(void (*answer)(struct server *s, int fd, const char *request))
{
    server_start(&server, answer);
    l = loop_new(NULL);
    NEED(l != NULL);
    h = http_new(l, 8, NULL, NULL, NULL);
    NEED(h != NULL);
}

static void take_down(void)
{
    h = http_free(h);
    l = loop_free(l);
    server_stop(&server);
}

static void wait_done(struct seen *s)
{
    int64_t end = clock_boot_ms() + WAIT_MS;
    while (!s->done && clock_boot_ms() < end)
        loop_turn(l, 100);
    CHECK_INT(s->calls, 1);
}

static struct seen *ask(const char *path, struct http_spec spec)
{
    static struct seen s;
    char url[512];
    struct err e = {0};
    memset(&s, 0, sizeof s);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
    if (!spec.url.n)
        spec.url = sl_str(url);
    if (!spec.method.n)
        spec.method = SL("GET");
    if (!spec.body_max)
        spec.body_max = sizeof s.body;
    if (!http_start(h, &spec, on_result, &s, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        CHECK(false);
        return &s;
    }
    wait_done(&s);
    return &s;
}

static void echo(struct server *s, int fd, const char *request)
{
    server_say(fd,
               OK_HEAD "Content-Type:  Text/Plain \r\nX-UPPER: v\r\nContent-Length: %zu\r\n\r\n%s",
               strncmp(request, "HEAD", 4) ? strlen(request) : 5,
               strncmp(request, "HEAD", 4) ? request : "");
}

TEST(request_is_sent_as_asked_and_response_read)
{
    set_up(echo);
    struct http_header headers[] = {{SL("X-Key"), SL("a b")}, {SL("X-Empty"), SL("")}};
    struct seen *s = ask("/p?q=1", (struct http_spec){.headers = headers, .nheaders = 2});
    CHECK_INT(s->error, 0);
    CHECK_INT(s->status, 200);
    CHECK_STR(s->type, "Text/Plain");
    CHECK(sl_starts(sl_str(s->body), SL("GET /p?q=1 HTTP/1.1\r\n")));
    CHECK(strstr(s->body, "\r\nX-Key: a b\r\n") != NULL);
    CHECK(strstr(s->body, "\r\nX-Empty:\r\n") != NULL);
    CHECK(strstr(s->body, "\r\nUser-Agent: tidemark/") != NULL);
    CHECK(strstr(s->body, "Content-Type") == NULL && strstr(s->body, "Expect") == NULL);
    static const char *const methods[] = {"POST", "PUT", "PATCH", "DELETE"};
    for (int i = 0; i < 4; i++) {
        s = ask("/", (struct http_spec){.method = sl_str(methods[i]),
                                        .has_body = true,
                                        .body = SL("{\"a\":1}")});
        CHECK_INT(s->error, 0);
        CHECK(sl_starts(sl_str(s->body), sl_str(methods[i])));
        CHECK(sl_ends(sl_str(s->body), SL("\r\n\r\n{\"a\":1}")));
        CHECK(strstr(s->body, "Content-Type") == NULL);
    }
    s = ask("/", (struct http_spec){.method = SL("POST")});
    CHECK(strstr(s->body, "Content-Length: 0\r\n") != NULL);
    s = ask("/", (struct http_spec){.method = SL("DELETE")});
    CHECK(sl_starts(sl_str(s->body), SL("DELETE / ")) && !strstr(s->body, "Content-Length"));
    s = ask("/", (struct http_spec){.method = SL("HEAD"), .body_max = 3});
    CHECK_INT(s->error, 0);
    CHECK_STR(s->body, "");
    s = ask("/", (struct http_spec){.user = SL("u"), .password = SL("p"), .auth = HTTP_AUTH_BASIC});
    CHECK(strstr(s->body, "Authorization: Basic dTpw\r\n") != NULL);
    take_down();
}

/* /CODE/n redirects to /CODE/n-1, /CODE/0 echoes; /away leads to another host name for the same
 * server. */
static void redirect(struct server *s, int fd, const char *request)
{
    const char *path = strchr(request, ' ') + 1;
    int code = 0, n = 0;
    if (sscanf(path, "/%d/%d", &code, &n) == 2 && n > 0)
        server_say(fd,
                   "HTTP/1.1 %d Moved\r\nLocation: /%d/%d\r\nX-First: 1\r\nConnection: close\r\n"
                   "Content-Length: 4\r\n\r\nmove",
                   code, code, n - 1);
    else if (strncmp(path, "/away", 5) == 0)
        server_say(
            fd,
            "HTTP/1.1 302 Moved\r\nLocation: http://localhost:%d/302/0\r\nConnection: close\r\n"
            "Content-Length: 0\r\n\r\n",
            s->port);
    else if (strncmp(path, "/file", 5) == 0)
        server_say(fd, "HTTP/1.1 302 Moved\r\nLocation: file:///etc/passwd\r\nConnection: close\r\n"
                       "Content-Length: 0\r\n\r\n");
    else
        echo(s, fd, request);
}

TEST(redirects_follow_rfc_9110_up_to_their_maximum)
{
    set_up(redirect);
    struct seen *s = ask("/302/2", (struct http_spec){.redirects_max = 2});
    CHECK_INT(s->status, 200);
    CHECK(strstr(s->url, "/302/0") != NULL);
    CHECK(strstr(s->body, "move") == NULL && s->nheaders == 4);
    s = ask("/302/3", (struct http_spec){.redirects_max = 2});
    CHECK_INT(s->error, -EPROTO);
    s = ask("/302/1", (struct http_spec){.redirects_max = 0});
    CHECK_INT(s->error, 0);
    CHECK_INT(s->status, 302);
    CHECK_STR(s->body, "move");
    s = ask("/file", (struct http_spec){.redirects_max = 5});
    CHECK_INT(s->error, -EINVAL);
    static const struct {
        const char *method, *path, *becomes;
        bool body;
    } t[] = {{"POST", "/302/1", "GET", false},  {"POST", "/307/1", "POST", true},
             {"PUT", "/302/1", "PUT", true},    {"PUT", "/303/1", "GET", false},
             {"PUT", "/307/1", "PUT", true},    {"PATCH", "/301/1", "PATCH", true},
             {"PATCH", "/303/1", "GET", false}, {"DELETE", "/308/1", "DELETE", true}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        s = ask(t[i].path, (struct http_spec){.method = sl_str(t[i].method),
                                              .has_body = true,
                                              .body = SL("thebody"),
                                              .redirects_max = 3});
        CHECK_INT(s->error, 0);
        if (!sl_starts(sl_str(s->body), sl_str(t[i].becomes)) ||
            (strstr(s->body, "thebody") != NULL) != t[i].body)
            fprintf(stderr, "%s %s became %s\n", t[i].method, t[i].path, s->body);
        CHECK(sl_starts(sl_str(s->body), sl_str(t[i].becomes)));
        CHECK_INT(strstr(s->body, "thebody") != NULL, t[i].body);
    }
    take_down();
}

TEST(credentials_do_not_cross_hosts)
{
    set_up(redirect);
    struct http_header bearer = {SL("Authorization"), SL("Bearer topsecret")};
    struct seen *s =
        ask("/302/1", (struct http_spec){.redirects_max = 3, .headers = &bearer, .nheaders = 1});
    CHECK(strstr(s->body, "topsecret") != NULL);
    s = ask("/away", (struct http_spec){.redirects_max = 3, .headers = &bearer, .nheaders = 1});
    CHECK_INT(s->status, 200);
    CHECK(strstr(s->url, "//localhost") != NULL && strstr(s->body, "topsecret") == NULL);
    s = ask("/away", (struct http_spec){.redirects_max = 3,
                                        .user = SL("u"),
                                        .password = SL("p"),
                                        .auth = HTTP_AUTH_BASIC});
    CHECK(strstr(s->body, "Authorization") == NULL);
    take_down();
}

static void misbehave(struct server *s, int fd, const char *request)
{
    const char *path = strchr(request, ' ') + 1;
    if (strncmp(path, "/slow", 5) == 0) {
        server_say(fd, OK_HEAD "Content-Length: 10\r\n\r\nabc");
        server_wait_close(fd);
    } else if (strncmp(path, "/silent", 7) == 0) {
        server_wait_close(fd);
    } else if (strncmp(path, "/large", 6) == 0) {
        server_say(fd, OK_HEAD "Content-Length: 2000\r\n\r\n%02000d", 1);
    } else if (strncmp(path, "/endless", 8) == 0) {
        server_say(fd, OK_HEAD "\r\n%02000d", 1);
    } else if (strncmp(path, "/cut", 4) == 0) {
        server_say(fd, OK_HEAD "Content-Length: 10\r\n\r\nabc");
    } else if (strncmp(path, "/junk", 5) == 0) {
        server_say(fd, "this is not HTTP\r\n\r\n");
    } else if (strncmp(path, "/headers", 8) == 0) {
        server_say(fd, OK_HEAD);
        for (int i = 0; i < 70; i++)
            server_say(fd, "X-%d: 1\r\n", i);
        server_say(fd, "\r\n");
    } else if (strncmp(path, "/wide", 5) == 0) {
        server_say(fd, OK_HEAD "X-W: %070000d\r\n\r\n", 1);
    }
}

TEST(failures_have_their_own_errors)
{
    set_up(misbehave);
    static const struct {
        const char *path;
        int error;
        size_t body_max;
    } t[] = {{"/slow", -ETIMEDOUT, 0},      {"/silent", -ETIMEDOUT, 0}, {"/large", -EMSGSIZE, 1999},
             {"/endless", -EMSGSIZE, 1999}, {"/cut", -ECONNRESET, 0},   {"/junk", -EPROTO, 0},
             {"/headers", -EMSGSIZE, 0},    {"/wide", -EMSGSIZE, 0},    {"/empty", -ECONNRESET, 0},
             {"/large", 0, 2000},           {"/endless", 0, 2000}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct seen *s =
            ask(t[i].path, (struct http_spec){.timeout_ms = t[i].error == -ETIMEDOUT ? 200 : 0,
                                              .body_max = t[i].body_max});
        if (s->error != t[i].error)
            fprintf(stderr, "%s: %s\n", t[i].path, s->text);
        CHECK_INT(s->error, t[i].error);
        CHECK(!s->error || s->text[0]);
    }
    take_down();
}

TEST(refused_unknown_and_forbidden_hosts)
{
    set_up(echo);
    int fd = socket(AF_INET, SOCK_STREAM, 0), asked = 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    NEED(bind(fd, (struct sockaddr *)&a, n) ==
         0); /* bound, not listening: surely nobody is there */
    NEED(getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(a.sin_port));
    CHECK_INT(ask("", (struct http_spec){.url = sl_str(url)})->error, -ECONNREFUSED);
    CHECK_INT(ask("", (struct http_spec){.url = SL("http://no-such-host.invalid/")})->error,
              -EHOSTUNREACH);
    close(fd);
    http_free(h);
    h = http_new(l, 8, allow_none, &asked, NULL);
    struct seen *s = ask("/", (struct http_spec){0});
    CHECK_INT(s->error, -EACCES);
    CHECK_INT(asked, 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* must not matter */
    http_free(h);
    h = http_new(l, 8, NULL, NULL, NULL);
    CHECK_INT(ask("/", (struct http_spec){0})->error, 0);
    unsetenv("http_proxy");
    take_down();
}

/* 60,000 times "z", by `gzip -9n`. */
static const unsigned char packed[] = {
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00,
    0x00, 0xc2, 0xa0, 0xde, 0x4b, 0x6f, 0x0d, 0x0f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0xbe, 0x0c, 0x06, 0x48, 0x0b, 0x2b, 0x60, 0xea, 0x00, 0x00};

static void zipped(struct server *s, int fd, const char *request)
{
    server_say(fd, OK_HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", sizeof packed);
    (void)!send(fd, packed, sizeof packed, MSG_NOSIGNAL);
}

TEST(decompressed_size_counts)
{
    set_up(zipped);
    struct seen *s = ask("/", (struct http_spec){.body_max = 60000});
    CHECK_INT(s->error, 0);
    CHECK_INT(strlen(s->body), 60000);
    CHECK_INT(ask("/", (struct http_spec){.body_max = 59999})->error, -EMSGSIZE);
    take_down();
}

TEST(bad_arguments_are_refused_at_once)
{
    set_up(echo);
    struct seen s = {0};
    struct http_header bad_headers[] = {{SL("X Y"), SL("v")},
                                        {SL(""), SL("v")},
                                        {SL("X"), SL("a\r\nEvil: 1")},
                                        {SL("X"), SL("a\0b")},
                                        {SL("content-LENGTH"), SL("5")},
                                        {SL("Transfer-Encoding"), SL("chunked")}};
    struct http_spec specs[12];
    size_t n = 0;
    for (; n < 6; n++)
        specs[n] = (struct http_spec){.method = SL("GET"),
                                      .url = SL("http://127.0.0.1/"),
                                      .headers = &bad_headers[n],
                                      .nheaders = 1};
    specs[n++] = (struct http_spec){.method = SL("GET /"), .url = SL("http://127.0.0.1/")};
    specs[n++] = (struct http_spec){.method = SL(""), .url = SL("http://127.0.0.1/")};
    specs[n++] = (struct http_spec){.method = SL("GET"), .url = SL("file:///etc/passwd")};
    specs[n++] = (struct http_spec){.method = SL("GET"), .url = SL("")};
    specs[n++] = (struct http_spec){.method = SL("GET"), .url = SL("http://a b/")};
    specs[n++] = (struct http_spec){.method = SL("GET"), .url = SL("http://a/\r\nX: y")};
    for (size_t i = 0; i < n; i++) {
        struct err e = {0};
        CHECK(http_start(h, &specs[i], on_result, &s, &e) == NULL);
        CHECK_INT(e.code, -EINVAL);
        CHECK(e.hint[0] != 0);
    }
    CHECK_INT(s.calls, 0);
    take_down();
}

static struct http_req *start(const char *path, void (*fn)(void *, const struct http_result *),
                              void *arg)
{
    char url[128];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
    struct http_spec spec = {.method = SL("GET"), .url = sl_str(url), .body_max = 1000};
    struct http_req *r = http_start(h, &spec, fn, arg, NULL);
    NEED(r != NULL);
    return r;
}

TEST(cancelled_and_abandoned_requests_call_nobody)
{
    set_up(misbehave);
    static struct seen a, b;
    a = b = (struct seen){0};
    struct http_req *r = start("/silent", on_result, &a);
    for (int i = 0; i < 5; i++)
        loop_turn(l, 20);
    http_cancel(r);
    start("/silent", on_result, &b);
    for (int i = 0; i < 5; i++)
        loop_turn(l, 20);
    take_down();
    CHECK_INT(a.calls + b.calls, 0);
}

static void free_client(void *arg, const struct http_result *r)
{
    on_result(arg, r);
    h = http_free(h);
}

TEST(client_may_be_freed_in_a_callback)
{
    set_up(misbehave);
    static struct seen a, b;
    a = b = (struct seen){0};
    start("/large", free_client, &a);
    start("/silent", on_result, &b);
    wait_done(&a);
    CHECK(h == NULL);
    loop_turn(l, 0);
    CHECK_INT(b.calls, 0);
    take_down();
}

static _Atomic int received;

/* The first request of a connection is answered; the second is read, and the connection closed. */
static void answer_one(struct server *s, int fd, const char *request)
{
    char more[4096];
    received++;
    server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    if (read(fd, more, sizeof more) > 0)
        received++;
}

TEST(what_may_happen_once_is_not_sent_again_on_another_connection)
{
    set_up(answer_one);
    received = 0;
    struct http_spec post = {.method = SL("POST"), .body = SL("x"), .has_body = true, .once = true};
    CHECK_INT(ask("/", post)->status, 200);
    struct seen *s = ask("/", post);
    CHECK_INT(s->error, -EPIPE);
    CHECK_INT(received, 2);
    /* Without a body there is nothing to rewind. */
    struct http_spec bare = {.method = SL("DELETE"), .once = true};
    CHECK_INT(ask("/", bare)->status, 200);
    CHECK_INT(ask("/", bare)->error, -EPIPE);
    CHECK_INT(received, 4);
    /* What is safe is repeated, as libcurl does it. */
    struct http_spec get = {.method = SL("GET")};
    CHECK_INT(ask("/", get)->status, 200);
    CHECK_INT(ask("/", get)->status, 200);
    CHECK_INT(received, 7);
    take_down();
}

TEST(many_requests_share_few_connections)
{
    set_up(echo);
    static struct seen s[40];
    memset(s, 0, sizeof s);
    for (int i = 0; i < 40; i++)
        start("/", on_result, &s[i]);
    for (int i = 0; i < 40; i++) {
        wait_done(&s[i]);
        CHECK_INT(s[i].error, 0);
    }
    take_down();
}
