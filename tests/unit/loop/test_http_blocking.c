/* The HTTP client without a loop, against a server in a thread: the connection is kept, nothing of
 * one request is left in the next, and failures have the codes of the other client. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "loop/http.h"
#include "server.h"
#include "unit.h"

SUITE("loop/http_blocking")

static struct server server;
static struct http_blocking *b;
static atomic_int connections;

/* Answers each request of the connection with its own text, until the client closes. */
static void echo_all(struct server *s, int fd, const char *request)
{
    char next[4096];
    atomic_fetch_add(&connections, 1);
    (void)snprintf(next, sizeof next, "%s", request);
    while (next[0]) {
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nRetry-After: 2\r\n\r\n%s",
                   strlen(next), next);
        server_read(fd, next, sizeof next);
    }
}

static void misbehave(struct server *s, int fd, const char *request)
{
    if (strncmp(request, "GET /cut", 8) == 0)
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    else if (strncmp(request, "GET /large", 10) == 0)
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n%2000s", "");
    else if (strncmp(request, "GET /slow", 9) == 0)
        server_wait_close(fd);
    else if (strncmp(request, "GET /empty", 10) != 0)
        server_say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
}

static void set_up(void (*answer)(struct server *s, int fd, const char *request))
{
    struct err e = {0};
    atomic_store(&connections, 0);
    server_start(&server, answer);
    b = http_blocking_new(&e);
    NEED(b != NULL);
}

static void take_down(void)
{
    b = http_blocking_free(b);
    server_stop(&server);
}

static struct http_result ask(const char *path, struct http_spec s)
{
    struct http_result r = {0};
    struct err e = {0};
    char url[128];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, path);
    s.url = sl_str(url);
    if (!s.method.n)
        s.method = SL("GET");
    s.body_max = s.body_max ? s.body_max : 65536;
    CHECK_INT(http_blocking_ask(b, &s, &r, &e), 0);
    return r;
}

static bool has(struct http_result r, const char *text)
{
    return memmem(r.body.p, r.body.n, text, strlen(text)) != NULL;
}

TEST(one_connection_serves_all_and_nothing_stays)
{
    set_up(echo_all);
    const struct http_header h = {SL("X-One"), SL("1")};
    struct http_result r = ask("/a", (struct http_spec){.method = SL("POST"),
                                                        .headers = &h,
                                                        .nheaders = 1,
                                                        .body = SL("{\"x\":1}"),
                                                        .has_body = true,
                                                        .user = SL("u"),
                                                        .password = SL("p"),
                                                        .auth = HTTP_AUTH_BASIC});
    CHECK_INT(r.error, 0);
    CHECK_INT(r.status, 200);
    CHECK(has(r, "POST /a HTTP/1.1\r\n") && has(r, "X-One: 1") && has(r, "{\"x\":1}"));
    CHECK(has(r, "Authorization: Basic "));
    CHECK_INT(r.nheaders, 2);
    CHECK(sl_is(r.headers[1].name, "retry-after") && sl_is(r.headers[1].value, "2"));
    r = ask("/b", (struct http_spec){0});
    CHECK(has(r, "GET /b HTTP/1.1\r\n") && !has(r, "X-One") && !has(r, "{"));
    CHECK(!has(r, "Authorization") && !has(r, "Content-"));
    r = ask("/c", (struct http_spec){.method = SL("DELETE")});
    CHECK(has(r, "DELETE /c HTTP/1.1\r\n"));
    r = ask("/d", (struct http_spec){.method = SL("PUT"), .body = SL("put"), .has_body = true});
    CHECK(has(r, "PUT /d HTTP/1.1\r\n") && has(r, "put"));
    r = ask("/e", (struct http_spec){0});
    CHECK(has(r, "GET /e HTTP/1.1\r\n") && !has(r, "put"));
    CHECK_INT(atomic_load(&connections), 1);
    take_down();
}

TEST(failures_have_codes_and_the_client_goes_on)
{
    static const struct {
        const char *path;
        int error;
    } t[] = {{"/cut", -ECONNRESET},
             {"/empty", -ECONNRESET},
             {"/large", -EMSGSIZE},
             {"/slow", -ETIMEDOUT},
             {"/other", 0}};
    set_up(misbehave);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct http_result r = ask(t[i].path, (struct http_spec){
                                                  .body_max = 1999,
                                                  .timeout_ms = t[i].error == -ETIMEDOUT ? 100 : 0,
                                              });
        CHECK_INT(r.error, t[i].error);
        CHECK(r.error ? r.error_text[0] : r.status == 404 && sl_is(r.body, "no"));
    }
    take_down();
}

TEST(bad_arguments_are_no_request)
{
    struct http_result r;
    struct err e = {0};
    set_up(echo_all);
    struct http_spec s = {.method = SL("GET"), .url = SL("ftp://127.0.0.1/"), .body_max = 10};
    CHECK_INT(http_blocking_ask(b, &s, &r, &e), -EINVAL);
    CHECK(e.msg[0] && e.hint[0]);
    const struct http_header broken = {SL("X-A"), SL("a\r\nX-B: b")};
    s = (struct http_spec){.method = SL("GET"), .url = SL("http://127.0.0.1:1/"), .body_max = 10};
    s.headers = &broken;
    s.nheaders = 1;
    e = (struct err){0};
    CHECK_INT(http_blocking_ask(b, &s, &r, &e), -EINVAL);
    CHECK_INT(atomic_load(&connections), 0);
    CHECK_INT(ask("/fine", (struct http_spec){0}).status, 200);
    take_down();
}
