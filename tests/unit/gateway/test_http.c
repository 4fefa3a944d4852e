/* The HTTP server, spoken to by plain sockets in the same thread. */
#include "gateway/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "unit.h"

SUITE("gateway/http")

struct site {
    struct loop *loop;
    struct http_server *server;
    struct http_request *held[8]; /* requests below /later, not answered */
    size_t nheld;
    int calls;
};

static void handle(void *arg, struct http_request *r)
{
    struct site *x = arg;
    char text[256];
    struct slice body = http_body(r);
    x->calls++;
    if (!strncmp(http_path(r), "/later", 6) && x->nheld < 8) {
        x->held[x->nheld++] = r;
        return;
    }
    if (!strcmp(http_path(r), "/none")) {
        http_problem(r, 404, NULL, "see /", "there is no %s", http_path(r));
        return;
    }
    snprintf(text, sizeof text, "%s %s q=%s h=%s from=%s body=%zu", http_method(r), http_path(r),
             http_query(r, "q") ? http_query(r, "q") : "-",
             http_header(r, "x-thing") ? http_header(r, "X-Thing") : "-", http_peer(r), body.n);
    static const struct http_field fields[] = {{"X-Answer", "yes"}, {NULL, NULL}};
    http_answer(r, 200, fields, sl_str(text));
}

static void open_site(struct site *x, struct http_opts o)
{
    struct err e = {0};
    memset(x, 0, sizeof *x);
    x->loop = loop_new(&e);
    NEED(x->loop != NULL);
    o.loop = x->loop;
    o.host = "127.0.0.1";
    o.fn = handle;
    o.arg = x;
    x->server = http_server_new(&o, &e);
    CHECK_STR(e.msg, "");
    NEED(x->server != NULL);
}

static void close_site(struct site *x)
{
    http_server_free(x->server);
    for (size_t i = 0; i < x->nheld; i++) /* late answers find nobody */
        http_answer(x->held[i], 200, NULL, SL("late"));
    loop_free(x->loop);
}

static int dial(const struct site *x)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)http_server_port(x->server)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    NEED(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static void say(int fd, const char *text)
{
    CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* Turns until the answer has `until`, or the connection is closed; what was read. */
static char *hear(struct site *x, int fd, const char *until)
{
    static char text[65536];
    size_t n = 0;
    memset(text, 0, sizeof text);
    for (int i = 0; i < 3000; i++) {
        loop_turn(x->loop, 10);
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got == 0)
            break;
        if (got > 0)
            n += (size_t)got;
        if (until && strstr(text, until))
            break;
    }
    return text;
}

static void check_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        CHECK_STR(text, part);
}

TEST(a_request_and_its_answer)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    say(fd, "GET /a/b?q=x%20y HTTP/1.1\r\nHost: a\r\nX-Thing: 7\r\n\r\n");
    const char *seen = hear(&x, fd, "body=0");
    check_has(seen, "HTTP/1.1 200 OK");
    check_has(seen, "X-Answer: yes");
    check_has(seen, "GET /a/b q=x y h=7 from=127.0.0.1 body=0");
    /* The same connection again, with a body. */
    say(fd, "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    check_has(hear(&x, fd, "body=5"), "POST /c q=- h=- from=127.0.0.1 body=5");
    say(fd, "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
            "chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    check_has(hear(&x, fd, "body=7"), "body=7");
    struct http_stats st;
    http_stats(x.server, &st);
    CHECK_INT(st.requests, 3);
    CHECK_INT(st.connections, 1);
    CHECK_INT(st.waiting, 0);
    close(fd);
    close_site(&x);
}

TEST(a_problem_is_rfc_9457)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    say(fd, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    const char *seen = hear(&x, fd, "hint");
    check_has(seen, "404 Not Found");
    check_has(seen, "application/problem+json");
    check_has(seen, "\"title\":\"Not Found\",\"status\":404,\"detail\":\"there is no "
                    "/none\",\"hint\":\"see /\"");
    close(fd);
    close_site(&x);
}

TEST(an_answer_may_come_later_and_others_do_not_wait)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int a = dial(&x), b = dial(&x);
    say(a, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 500 && !x.nheld; i++)
        loop_turn(x.loop, 10);
    NEED(x.nheld == 1);
    say(b, "GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    check_has(hear(&x, b, "body=0"), "GET /now");
    http_answer(x.held[0], 202, NULL, SL("at last"));
    x.nheld = 0;
    const char *seen = hear(&x, a, "at last");
    check_has(seen, "202 Accepted");
    check_has(seen, "at last");
    close(a);
    close(b);
    close_site(&x);
}

TEST(a_client_that_went_away_costs_nothing)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    say(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 500 && !x.nheld; i++)
        loop_turn(x.loop, 10);
    NEED(x.nheld == 1);
    close(fd);
    http_answer(x.held[0], 200, NULL, SL("nobody reads this"));
    x.nheld = 0;
    struct http_stats st = {.connections = 1};
    for (int i = 0; i < 500 && st.connections; i++) {
        loop_turn(x.loop, 10);
        http_stats(x.server, &st);
    }
    CHECK_INT(st.connections, 0);
    CHECK_INT(st.waiting, 0);
    close_site(&x);
}

TEST(a_server_may_end_before_its_handlers_do)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    say(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 500 && !x.nheld; i++)
        loop_turn(x.loop, 10);
    NEED(x.nheld == 1);
    close_site(&x); /* answers after the server is gone */
    close(fd);
}

TEST(too_large_is_told_before_and_after_the_body)
{
    struct site x;
    open_site(&x, (struct http_opts){.body_max = 10});
    int fd = dial(&x);
    say(fd, "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    const char *seen = hear(&x, fd, "hint");
    check_has(seen, "413 ");
    check_has(seen, "at most 10 bytes");
    close(fd);
    fd = dial(&x);
    say(fd, "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
            "chunked\r\n\r\n8\r\nabcdefgh\r\n8\r\nabcdefgh\r\n0\r\n\r\n");
    check_has(hear(&x, fd, "hint"), "413 ");
    close(fd);
    CHECK_INT(x.calls, 0);
    close_site(&x);
}

TEST(a_head_that_is_too_large_is_refused)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_adds(&b, "GET /");
    for (int i = 0; i < 3000; i++)
        buf_addc(&b, 'a');
    buf_adds(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    say(fd, b.p);
    check_has(hear(&x, fd, "hint"), "414 ");
    close(fd);
    fd = dial(&x);
    buf_reset(&b);
    buf_adds(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 2000; i++)
        buf_addf(&b, "X-%d: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    buf_adds(&b, "\r\n");
    say(fd, b.p);
    check_has(hear(&x, fd, "\r\n\r\n"), "431 ");
    close(fd);
    buf_free(&b);
    CHECK_INT(x.calls, 0);
    close_site(&x);
}

TEST(nonsense_is_refused)
{
    static const char *const texts[] = {"\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n",
                                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
                                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
                                        "GET / HTTP/1.1\r\n\r\n"};
    struct site x;
    open_site(&x, (struct http_opts){0});
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = dial(&x);
        say(fd, texts[i]);
        shutdown(fd, SHUT_WR);
        const char *seen = hear(&x, fd, NULL);
        CHECK(!strstr(seen, " 200 "));
        close(fd);
    }
    CHECK_INT(x.calls, 0);
    close_site(&x);
}

/* Each alone on a connection, of which the client's side ends: the status of the answer; 0: closed
 * without one, or with what libmicrohttpd says by itself. None reaches the handler. */
TEST(what_two_servers_could_read_differently_is_refused)
{
    static const struct {
        int status;
        const char *text;
    } heads[] = {
        {400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"},
        {400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"},
        {400, "Content-Length: 5\r\nContent-Length: 5\r\n"},
        {400, "Content-Length: 5\r\nContent-Length: 0\r\n"},
        {0, "Content-Length: +5\r\n"},
        {0, "Content-Length: 5, 5\r\n"},
        {0, "Content-Length: 0x5\r\n"},
        {0, "Content-Length: 99999999999999999999999\r\n"},
        {501, "Transfer-Encoding: gzip\r\n"},
        {501, "Transfer-Encoding: gzip, chunked\r\n"},
        {501, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"},
        {501, "Transfer-Encoding: xchunked\r\n"},
        {400, "Content-Length : 5\r\n"},
        {400, "Trans\x01"
              "fer-Encoding: chunked\r\n"},
        {400, "X: a\x01z\r\n"},
        {400, "Host: b\r\n"},
        {400, "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"},
        {0, "no colon at all\r\n"},
    };
    struct site x;
    struct buf b;
    char want[16];
    open_site(&x, (struct http_opts){0});
    buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        int fd = dial(&x);
        buf_reset(&b);
        buf_addf(&b, "POST /a HTTP/1.1\r\nHost: a\r\n%s\r\nhello", heads[i].text);
        say(fd, b.p);
        shutdown(fd, SHUT_WR);
        const char *seen = hear(&x, fd, NULL);
        snprintf(want, sizeof want, "HTTP/1.1 %d ", heads[i].status);
        if (heads[i].status && strncmp(seen, want, strlen(want)) != 0)
            CHECK_STR(seen, heads[i].text);
        CHECK(!strstr(seen, " 200 "));
        if (heads[i].status)
            check_has(seen, "\"hint\":");
        close(fd);
    }
    CHECK_INT(x.calls, 0);
    buf_free(&b);
    close_site(&x);
}

TEST(chunks_that_are_none_close_the_connection)
{
    static const char *const bodies[] = {"x\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n",
                                         "5\r\nhelloX0\r\n\r\n", "fffffffffffffffffff\r\nhello",
                                         "5;\r\nhell"};
    struct site x;
    struct buf b;
    open_site(&x, (struct http_opts){.request_ms = 300}); /* for the one that just ends */
    buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        int fd = dial(&x);
        buf_reset(&b);
        buf_addf(&b, "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s",
                 bodies[i]);
        say(fd, b.p);
        shutdown(fd, SHUT_WR);
        CHECK(!strstr(hear(&x, fd, "\r\n\r\n"), " 200 "));
        close(fd);
    }
    CHECK_INT(x.calls, 0);
    buf_free(&b);
    close_site(&x);
}

TEST(a_path_is_given_as_it_was_sent)
{
    static const struct {
        const char *sent, *path;
    } lines[] = {{"/a%2Fb", "/a%2Fb"},
                 {"/a%252Fb", "/a%252Fb"},
                 {"/a/../b?q=1", "/a/../b"},
                 {"http://host:1/a?q=/", "/a"},
                 {"http://host", "/"},
                 {"/x?u=http://y/", "/x"},
                 {"*", "*"}};
    static const char *const bad[] = {"/%", "/%1", "/%zz", "/a%00b", "/a?q=%00", "/a?q=%x"};
    struct site x;
    char text[128];
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        snprintf(text, sizeof text, "OPTIONS %s HTTP/1.1\r\nHost: a\r\n\r\n", lines[i].sent);
        say(fd, text);
        snprintf(text, sizeof text, "OPTIONS %s q=", lines[i].path);
        check_has(hear(&x, fd, "body=0"), text);
    }
    close(fd);
    int calls = x.calls;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fd = dial(&x);
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", bad[i]);
        say(fd, text);
        check_has(hear(&x, fd, "hint"), "HTTP/1.1 400 ");
        close(fd);
    }
    CHECK_INT(x.calls, calls);
    close_site(&x);
}

TEST(header_fields_are_bounded_and_told_as_a_problem)
{
    struct site x;
    struct buf b;
    open_site(&x, (struct http_opts){0});
    buf_init(&b, 1 << 20);
    for (int many = 0; many < 2; many++) {
        int fd = dial(&x);
        buf_reset(&b);
        buf_adds(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 0; many && i < HTTP_FIELDS_MAX; i++)
            buf_addf(&b, "X-%d: a\r\n", i);
        for (int i = 0; !many && i < HTTP_HEAD_BYTES_MAX / 1000 + 1; i++)
            buf_addf(&b, "X-%d: %01000d\r\n", i, 7);
        buf_adds(&b, "\r\n");
        say(fd, b.p);
        const char *seen = hear(&x, fd, "hint");
        check_has(seen, "HTTP/1.1 431 ");
        check_has(seen, "application/problem+json");
        close(fd);
    }
    CHECK_INT(x.calls, 0);
    buf_free(&b);
    close_site(&x);
}

TEST(every_answer_says_that_it_is_not_to_be_guessed_or_kept)
{
    struct site x;
    open_site(&x, (struct http_opts){0});
    int fd = dial(&x);
    say(fd, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    const char *seen = hear(&x, fd, "hint");
    check_has(seen, "X-Content-Type-Options: nosniff\r\n");
    check_has(seen, "Cache-Control: no-store\r\n");
    CHECK(!strstr(seen, "\r\nServer:"));
    say(fd, "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    seen = hear(&x, fd, "body=0");
    CHECK(!strstr(seen, "HEAD /a q")); /* its body, which would begin the next answer */
    check_has(seen, "GET /b q");
    close(fd);
    close_site(&x);
}

TEST(many_who_send_nothing_keep_nobody_out)
{
    enum { MOST = 16, IDLE = 100 };
    struct site x;
    int idle[IDLE];
    open_site(&x, (struct http_opts){.connections_max = MOST});
    for (int i = 0; i < IDLE; i++) {
        idle[i] = dial(&x);
        say(idle[i], i % 2 ? "G" : "GET / HTTP/1.1\r\nX: ");
        loop_turn(x.loop, 0);
    }
    int fd = dial(&x);
    say(fd, "GET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    check_has(hear(&x, fd, "body=0"), "GET /now");
    struct http_stats st;
    http_stats(x.server, &st);
    CHECK(st.connections <= MOST);
    CHECK(st.refused >= IDLE - MOST);
    /* One whose request is under way is not among those that are closed. */
    say(fd, "GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 500 && !x.nheld; i++)
        loop_turn(x.loop, 10);
    NEED(x.nheld == 1);
    for (int i = 0; i < IDLE; i++) {
        close(idle[i]);
        idle[i] = dial(&x);
        loop_turn(x.loop, 0);
    }
    http_answer(x.held[0], 200, NULL, SL("at last"));
    x.nheld = 0;
    check_has(hear(&x, fd, "at last"), "at last");
    for (int i = 0; i < IDLE; i++)
        close(idle[i]);
    close(fd);
    close_site(&x);
}

TEST(one_that_sends_byte_by_byte_is_cut_off)
{
    struct site x;
    open_site(&x, (struct http_opts){.request_ms = 300, .idle_ms = 60000});
    int fd = dial(&x);
    const char *text =
        "GET /slow HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    bool cut = false;
    int64_t until = loop_now(x.loop) + 30000;
    for (int i = 0; loop_now(x.loop) < until && !cut; i++) {
        char c;
        (void)!send(fd, &text[i % (int)strlen(text)], 1, MSG_NOSIGNAL);
        loop_turn(x.loop, 20);
        usleep(2000); /* so that it is few bytes, not that it takes long */
        cut = recv(fd, &c, 1, 0) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
    CHECK(cut);
    CHECK_INT(x.calls, 0);
    close(fd);
    close_site(&x);
}

TEST(a_port_in_use_is_told)
{
    struct site x;
    struct err e = {0};
    open_site(&x, (struct http_opts){0});
    struct http_opts o = {.loop = x.loop,
                          .host = "127.0.0.1",
                          .port = http_server_port(x.server),
                          .fn = handle,
                          .arg = &x};
    CHECK(!http_server_new(&o, &e));
    CHECK_INT(e.code, -EADDRINUSE);
    CHECK(strlen(e.hint) > 0);
    o.host = "localhost";
    CHECK(!http_server_new(&o, &e));
    CHECK_INT(e.code, -EINVAL);
    close_site(&x);
}
