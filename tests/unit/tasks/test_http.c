/* call: http against a small server: what is sent, what becomes of the answer, errors and
 * time-outs. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "world.h"

SUITE("tasks/http")

static struct world w;
static struct task task;
static char reply[600000];

static const char *say(int n, const char *request)
{
    return reply[0] ? reply : NULL;
}

static void setup(const char *status, const char *headers, const char *body)
{
    world_open(&w, 1);
    w.server->answer = say;
    task = (struct task){.name = "t", .ref = "/do/0/t", .type = TASK_HTTP};
    (void)snprintf(reply, sizeof reply, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status,
                   headers, strlen(body), body);
}

static const char *call(const char *method, const char *path, const char *more)
{
    static char with[4096];
    (void)snprintf(with, sizeof with, "{\"method\":\"%s\",\"endpoint\":\"%s\"%s}", method,
                   world_url(&w, path), more);
    return world_run(&w, &task, with);
}

static bool sent(const char *text)
{
    return strcasestr(w.server->last, text) != NULL;
}

TEST(http_get_gives_parsed_json)
{
    setup("200 OK", "Content-Type: application/json; charset=utf-8\r\n", "{\"a\":[1]}");
    CHECK_STR(call("get", "/x/{id}", ",\"$input\":{\"id\":\"a b\"},\"query\":{\"q\":1}"),
              "{\"a\":[1]}");
    CHECK(sent("GET /x/a%20b?q=1 HTTP/1.1"));
    CHECK(sent("traceparent: 00-0123456789abcdef"));
    CHECK(!sent("idempotency-key"));
    world_close(&w);
}

TEST(http_content_follows_the_media_type)
{
    setup("200 OK", "Content-Type: text/plain\r\n", "{\"a\":1}");
    CHECK_STR(call("GET", "/", ""), "\"{\\\"a\\\":1}\"");
    world_close(&w);
    setup("200 OK", "Content-Type: application/vnd.x+json\r\n", "7");
    CHECK_STR(call("GET", "/", ""), "7");
    world_close(&w);
    setup("204 No Content", "", "");
    CHECK_STR(call("DELETE", "/", ""), "null");
    world_close(&w);
    setup("200 OK", "Content-Type: text/plain; charset=ISO-8859-1\r\n", "caf\xe9");
    CHECK_STR(call("GET", "/", ""), "\"caf\xc3\xa9\"");
    world_close(&w);
    setup("200 OK", "Content-Type: image/png\r\n", "\x89PNG");
    CHECK_STR(call("GET", "/", ""), "runtime 500");
    world_close(&w);
    setup("200 OK", "Content-Type: application/json\r\n", "{oops");
    CHECK_STR(call("GET", "/", ""), "communication 500");
    world_close(&w);
}

TEST(http_raw_is_base64)
{
    setup("200 OK", "Content-Type: image/png\r\n", "\x89PNG");
    task.http_output = OUT_RAW;
    CHECK_STR(call("GET", "/", ""), "\"iVBORw==\"");
    world_close(&w);
}

TEST(http_post_sends_json_with_an_idempotency_key)
{
    setup("200 OK", "", "");
    call("post", "/", ",\"body\":{\"a\":\"\xc3\xa9\"},\"headers\":{\"X-N\":3}");
    CHECK(sent("POST / HTTP/1.1"));
    CHECK(sent("\r\nContent-Type: application/json\r\n"));
    CHECK(sent("\r\nIdempotency-Key: k-1\r\n"));
    CHECK(sent("\r\nX-N: 3\r\n"));
    CHECK(sent("{\"a\":\"\xc3\xa9\"}"));
    call("PUT", "/",
         ",\"body\":\"as it "
         "is\",\"headers\":{\"content-type\":\"text/x\",\"Idempotency-Key\":\"own\"}");
    CHECK(sent("content-type: text/x\r\n"));
    CHECK(sent("Idempotency-Key: own\r\n"));
    CHECK(!sent("k-1"));
    CHECK(sent("\r\n\r\nas it is"));
    world_close(&w);
}

TEST(http_response_shows_the_request_without_secrets)
{
    setup("201 Created", "Content-Type: application/json\r\nX-A: 1\r\nX-A: 2\r\n", "{\"b\":true}");
    task.http_output = OUT_RESPONSE;
    struct json_object *o = NULL;
    NEED(js_parse(sl_str(call("GET", "/p",
                              ",\"authentication\":{\"bearer\":{\"token\":\"tok-123\"}}")),
                  &o, NULL) == 0);
    CHECK(sent("\r\nAuthorization: Bearer tok-123\r\n"));
    CHECK_INT(js_int(o, "statusCode", 0), 201);
    CHECK_STR(js_str(js_get(o, "headers"), "x-a"), "1, 2");
    CHECK(js_bool(js_get(o, "content"), "b", false));
    CHECK_STR(js_str(js_get(o, "request"), "method"), "GET");
    CHECK_STR(js_str(js_get(o, "request"), "uri"), world_url(&w, "/p"));
    CHECK_STR(js_str(js_get(js_get(o, "request"), "headers"), "Authorization"), "***");
    json_object_put(o);
    world_close(&w);
}

TEST(http_basic_authentication_is_sent)
{
    setup("200 OK", "", "");
    call("GET", "/", ",\"authentication\":{\"basic\":{\"username\":\"u\",\"password\":\"p\"}}");
    CHECK(sent("\r\nAuthorization: Basic dTpw\r\n"));
    world_close(&w);
}

TEST(http_authentication_takes_a_named_secret)
{
    setup("200 OK", "", "");
    CHECK_INT(setenv("TIDEMARK_SECRET_API", "s3cret", 1), 0);
    call("GET", "/", ",\"authentication\":{\"bearer\":{\"use\":\"api\"}}");
    CHECK(sent("\r\nAuthorization: Bearer s3cret\r\n"));
    CHECK_INT(unsetenv("TIDEMARK_SECRET_API"), 0);
    CHECK_STR(call("GET", "/", ",\"authentication\":{\"bearer\":{\"use\":\"api\"}}"),
              "authorization 403");
    CHECK_STR(call("GET", "/", ",\"authentication\":{\"digest\":{}}"), "configuration 400");
    world_close(&w);
}

TEST(http_status_outside_2xx_is_a_communication_error_with_that_status)
{
    setup("404 Not Found", "Content-Type: text/plain\r\n", "no such pet");
    CHECK_STR(call("GET", "/pet?token=x", ""), "communication 404");
    CHECK(strstr(world_detail(), "no such pet") != NULL);
    CHECK(strstr(world_detail(), "token") == NULL);
    world_close(&w);
    setup("422 Unprocessable", "Content-Type: application/problem+json\r\n",
          "{\"title\":\"T\",\"detail\":\"D\"}");
    struct answer a;
    char with[256];
    (void)snprintf(with, sizeof with, "{\"method\":\"get\",\"endpoint\":{\"uri\":\"%s\"}}",
                   world_url(&w, "/"));
    NEED(world_start(&w, &task, with, &a, 0) != NULL);
    world_wait(&w, &a);
    CHECK_INT(a.problem.status, 422);
    CHECK_STR(a.problem.title, "T");
    CHECK_STR(a.problem.detail, "D");
    answer_free(&a);
    world_close(&w);
}

static const char *redirect_once(int n, const char *request)
{
    return n == 1 ? "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
                  : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

TEST(http_redirects_are_followed_only_when_asked)
{
    setup("200 OK", "", "");
    w.server->answer = redirect_once;
    CHECK_STR(call("GET", "/here", ""), "communication 302");
    w.server->requests = 0;
    task.http_redirect = true;
    CHECK_STR(call("GET", "/here", ""), "\"ok\"");
    CHECK(sent("GET /there "));
    world_close(&w);
}

TEST(http_304_is_accepted_with_redirect)
{
    setup("304 Not Modified", "", "");
    CHECK_STR(call("GET", "/", ""), "communication 304");
    task.http_redirect = true;
    CHECK_STR(call("GET", "/", ""), "null");
    world_close(&w);
}

TEST(http_timeout_is_408_and_a_refused_connection_500)
{
    setup("200 OK", "", "");
    reply[0] = 0; /* never answers */
    struct answer a;
    char with[256];
    (void)snprintf(with, sizeof with, "{\"method\":\"get\",\"endpoint\":\"%s\"}",
                   world_url(&w, "/"));
    NEED(world_start(&w, &task, with, &a, 50) != NULL);
    world_wait(&w, &a);
    CHECK_STR(world_said(&a), "timeout 408");
    answer_free(&a);
    loop_fd_del(&w.server->listener);
    CHECK_INT(shutdown(w.server->listener.fd, SHUT_RDWR), 0);
    CHECK_STR(world_run(&w, &task, with), "communication 500");
    world_close(&w);
}

TEST(http_bad_definitions_are_answered_not_sent)
{
    setup("200 OK", "", "");
    CHECK_STR(world_run(&w, &task, "{\"method\":\"get\",\"endpoint\":\"ftp://h/\"}"),
              "configuration 400");
    CHECK_STR(world_run(&w, &task, "{\"method\":\"get\",\"endpoint\":7}"), "expression 400");
    CHECK_STR(call("g t", "/", ""), "configuration 400");
    CHECK_STR(call("get", "/{a}", ",\"$input\":{\"a\":{}}"), "expression 400");
    CHECK_STR(call("get", "/", ",\"headers\":{\"a\":\"x\\r\\nb: c\"}"), "expression 400");
    CHECK_STR(call("get", "/", ",\"headers\":{\"a b\":\"x\"}"), "configuration 400");
    CHECK_STR(call("get", "/", ",\"headers\":[]"), "expression 400");
    CHECK_INT(w.server->requests, 0);
    world_close(&w);
}

TEST(http_endpoint_that_is_an_expression_is_no_template)
{
    setup("200 OK", "", "");
    NEED(js_parse(SL("{\"with\":{\"endpoint\":\"${ .url }\"}}"), &task.definition, NULL) == 0);
    call("get", "/{a}", ",\"$input\":{\"a\":\"secret\"}");
    CHECK(!sent("secret"));
    json_object_put(task.definition);
    world_close(&w);
}

TEST(http_answer_over_the_limit_is_a_runtime_error)
{
    static char big[550000];
    memset(big, 'x', sizeof big - 1);
    setup("200 OK", "", big);
    CHECK_STR(call("GET", "/", ""), "runtime 500");
    world_close(&w);
}

TEST(http_cancel_and_free_call_nobody_back)
{
    setup("200 OK", "", "");
    reply[0] = 0;
    struct answer a, b;
    char with[256];
    (void)snprintf(with, sizeof with, "{\"method\":\"get\",\"endpoint\":\"%s\"}",
                   world_url(&w, "/"));
    struct task_run *r = world_start(&w, &task, with, &a, 0);
    NEED(r != NULL);
    NEED(world_start(&w, &task, with, &b, 0) != NULL);
    CHECK_INT(tasks_running(w.tasks), 2);
    while (w.server->requests < 2)
        loop_turn(w.loop, 100);
    tasks_cancel(r);
    CHECK_INT(tasks_running(w.tasks), 1);
    world_close(&w);
    CHECK_INT(a.calls + b.calls, 0);
}
