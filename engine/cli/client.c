/* See client.h. */
#include "cli/client.h"

#include <curl/curl.h> /* for reading addresses */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define REPEAT_MS    15000 /* how long a request that may be repeated is */
#define PAUSE_MS     200   /* between two attempts, if the server names no time */
#define PAUSE_MAX_MS 5000
#define CONNECT_MS   10000
#define ANSWER_MS    60000 /* of one attempt */
#define ANSWER_BYTES (256u << 20)
#define TOKEN_BYTES  1024
#define ERRORS_SHOWN 8
#define FIELDS_MAX   12

struct client {
    struct http_blocking *http;
    char *base;          /* http://HOST:PORT, without a / at the end */
    bool local;          /* which is this machine */
    char *authorization; /* the field's value; NULL: no token */
    struct http_result answer;
};

static const char *server_of(const struct cli *c)
{
    const char *s = cli_get(c, "server");
    return s ? s : getenv("TIDEMARK_SERVER");
}

bool client_wanted(const struct cli *c)
{
    const char *s = server_of(c);
    return s && *s && (cli_has(c, "server") || !cli_has(c, "brokers"));
}

void client_free(struct client *k)
{
    if (!k)
        return;
    http_blocking_free(k->http);
    if (k->authorization)
        explicit_bzero(k->authorization, strlen(k->authorization));
    free(k->authorization);
    free(k->base);
    free(k);
}

/* ---- where, and who asks ---- */

static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "[::1]");
}

static char *url_part(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    return curl_url_get(u, part, &text, 0) ? NULL : text;
}

/* The base of every address. */
static int read_server(struct cli *c, struct client *k)
{
    const char *text = server_of(c);
    CURLU *u = curl_url();
    struct buf b;
    buf_init(&b, 4096);
    if (!strstr(text, "://"))
        buf_adds(&b, "http://");
    buf_adds(&b, text);
    int bad = !u || buf_error(&b) || curl_url_set(u, CURLUPART_URL, b.p, 0);
    char *scheme = bad ? NULL : url_part(u, CURLUPART_SCHEME),
         *host = bad ? NULL : url_part(u, CURLUPART_HOST),
         *path = bad ? NULL : url_part(u, CURLUPART_PATH),
         *query = bad ? NULL : url_part(u, CURLUPART_QUERY),
         *user = bad ? NULL : url_part(u, CURLUPART_USER);
    if (!scheme || !host || query || user || (path && strcmp(path, "/") != 0) ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        err_set(&c->e, -EINVAL,
                "as in http://127.0.0.1:8274 or https://tidemark.example.com, without a path; the "
                "token goes to TIDEMARK_TOKEN",
                "the server can't be \"%.200s\"", text);
    k->local = host && is_loopback(host);
    while (b.n && b.p[b.n - 1] == '/')
        b.p[--b.n] = 0;
    k->base = c->e.code ? NULL : buf_take(&b);
    curl_free(scheme);
    curl_free(host);
    curl_free(path);
    curl_free(query);
    curl_free(user);
    curl_url_cleanup(u);
    buf_free(&b);
    return c->e.code ? c->e.code : k->base ? 0 : -ENOMEM;
}

/* What lies in the file of --token-file, else in TIDEMARK_TOKEN, else in the file that
 * TIDEMARK_TOKEN_FILE names. */
static int read_token(struct cli *c, struct client *k)
{
    const char *flag = cli_get(c, "token-file"), *text = getenv("TIDEMARK_TOKEN"),
               *file = flag ? flag : getenv("TIDEMARK_TOKEN_FILE");
    struct buf b, field;
    int error = 0;
    buf_init(&b, TOKEN_BYTES);
    buf_init(&field, TOKEN_BYTES + 64);
    if (!flag && text && *text)
        buf_adds(&b, text);
    else if (file && *file)
        error = file_read(file, &b, &c->e);
    struct slice t = sl_trim(buf_slice(&b));
    for (size_t i = 0; !error && i < t.n; i++)
        if (t.p[i] <= 0x20 || t.p[i] > 0x7e)
            error = err_set(&c->e, -EINVAL, "one line, as `tidemark keys create` printed it",
                            "the token can't be used: it has blanks or other odd characters");
    if (!error && t.n) {
        buf_addf(&field, "Bearer %.*s", SL_ARG(t));
        k->authorization = buf_take(&field);
        if (!k->authorization)
            error = -ENOMEM;
    }
    buf_free(&b);
    buf_free(&field);
    return error;
}

static int open_client(struct cli *c)
{
    if (c->client)
        return 0;
    struct client *k = c->client = calloc(1, sizeof *k);
    if (!k)
        return err_set(&c->e, -ENOMEM, "close other programs", "no memory for the HTTP client");
    int error = (k->http = http_blocking_new(&c->e)) ? 0 : c->e.code;
    if (!error)
        error = read_server(c, k);
    if (!error)
        error = read_token(c, k);
    if (error)
        return error;
    if (k->authorization && !k->local && !strncmp(k->base, "http://", 7))
        fprintf(stderr,
                "tidemark: warning: the token goes to %s unencrypted; https:// keeps it "
                "from whoever listens\n",
                k->base);
    return 0;
}

/* ---- one attempt ---- */

static size_t fields(const struct client *k, const struct client_ask *q,
                     struct http_header v[FIELDS_MAX])
{
    size_t n = 0;
    v[n++] = (struct http_header){SL("Accept"), SL("application/json")};
    if (q->type)
        v[n++] = (struct http_header){SL("Content-Type"), sl_str(q->type)};
    if (k->authorization)
        v[n++] = (struct http_header){SL("Authorization"), sl_str(k->authorization)};
    for (size_t i = 0; i < q->nheaders && n < FIELDS_MAX; i++)
        v[n++] = q->headers[i];
    return n;
}

/* What came of it is in k->answer; or an error of the arguments. */
static int attempt(struct cli *c, struct client *k, const struct client_ask *q, int64_t left_ms)
{
    struct buf url;
    struct http_header head[FIELDS_MAX];
    int64_t ms = ANSWER_MS + q->wait_ms;
    buf_init(&url, 64 * 1024);
    buf_adds(&url, k->base);
    buf_adds(&url, q->path);
    struct http_spec s = {.method = sl_str(q->method),
                          .url = buf_slice(&url),
                          .headers = head,
                          .nheaders = fields(k, q, head),
                          .body = q->body,
                          .has_body = q->type != NULL,
                          .env_proxy = !k->local,
                          .body_max = ANSWER_BYTES,
                          .timeout_ms = ms < left_ms ? ms : left_ms,
                          .connect_timeout_ms = CONNECT_MS < left_ms ? CONNECT_MS : left_ms,
                          .ca = cli_get(c, "ca")};
    int error = buf_error(&url)
                    ? err_set(&c->e, -EINVAL, "ask for less", "the request's address is too long")
                    : http_blocking_ask(k->http, &s, &k->answer, &c->e);
    buf_free(&url);
    return error;
}

/* ---- what came of it ---- */

static int code_of(int status)
{
    switch (status) {
    case 404:
        return -ENOENT;
    case 409:
    case 422:
        return -EEXIST;
    case 401:
    case 403:
        return -EACCES;
    default:
        return status == 429 || status >= 500 ? -EAGAIN : -EINVAL;
    }
}

/* "; /name: is no string" of each of the places that the answer names. */
static void add_places(struct buf *b, struct json_object *o)
{
    struct json_object *v = js_get(o, "errors");
    for (size_t i = 0; i < js_length(v) && i < ERRORS_SHOWN; i++) {
        const char *at = js_str(js_at(v, i), "pointer"), *what = js_str(js_at(v, i), "detail");
        int64_t line = js_int(js_at(v, i), "line", 0);
        if (line)
            buf_addf(b, "; line %lld", (long long)line);
        else
            buf_addf(b, "; %s", at && *at ? at : "the whole");
        buf_addf(b, ": %s", what ? what : "?");
    }
    if (js_length(v) > ERRORS_SHOWN)
        buf_addf(b, "; and %zu more", js_length(v) - ERRORS_SHOWN);
}

static int problem(struct cli *c, const struct client *k)
{
    int status = k->answer.status;
    struct json_object *o = NULL;
    struct buf b;
    int code = code_of(status);
    buf_init(&b, sizeof c->e.msg);
    const char *detail = NULL, *hint = NULL;
    if (js_parse(k->answer.body, &o, NULL) == 0) {
        detail = js_str(o, "detail");
        hint = js_str(o, "hint");
    }
    if (detail)
        buf_adds(&b, detail);
    else
        buf_addf(&b, "%s answered with status %d", k->base, status);
    add_places(&b, o);
    if (status == 401 && !k->authorization)
        hint = "put the token of an API key into TIDEMARK_TOKEN, or its file's name into "
               "TIDEMARK_TOKEN_FILE; `tidemark keys create` makes one";
    if (!hint)
        hint = detail ? "see docs/http.md" : "is a node of tidemark there, and no other server?";
    err_set(&c->e, code, hint, "%.*s", (int)b.n, b.n ? b.p : "");
    buf_free(&b);
    json_object_put(o);
    return code;
}

static int unreachable(struct cli *c, const struct client *k)
{
    const char *why = k->answer.error_text;
    switch (k->answer.error) {
    case -ETIMEDOUT:
        return err_set(&c->e, -ETIMEDOUT,
                       "what it did until then stands; ask again, or give it "
                       "more time with --timeout",
                       "no answer from %s in time", k->base);
    case -EMSGSIZE:
        return err_set(&c->e, -EMSGSIZE, "ask for less at a time, as with --limit",
                       "the answer of %s can't be read: %s", k->base, why);
    case -EKEYREJECTED:
        return err_set(&c->e, -EACCES, "--ca FILE names the certificate of the authority to trust",
                       "the certificate of %s is not trusted: %s", k->base, why);
    default:
        return err_set(&c->e, -ECONNREFUSED,
                       "is a node serving HTTP there (`http.listen`)? --brokers HOST:PORT goes to "
                       "the log without one",
                       "%s can't be reached: %s", k->base, why);
    }
}

/* Seconds, or a date (RFC 9110 10.2.3), which says no more than a short pause. */
static int64_t retry_after_ms(const struct http_result *r)
{
    int64_t s = 0;
    for (size_t i = 0; i < r->nheaders; i++)
        if (sl_is(r->headers[i].name, "retry-after") && sl_i64(r->headers[i].value, &s) < 0)
            s = 0;
    return s < PAUSE_MAX_MS / 1000 ? s * 1000 : PAUSE_MAX_MS;
}

/* Milliseconds until the next attempt; -1: there is none. */
static int64_t pause_ms(const struct http_result *r, int n)
{
    int64_t ms = PAUSE_MS << (n < 4 ? n : 4), after;
    if (r->error)
        return r->error == -ECONNRESET ? ms : -1;
    if (r->status != 429 && r->status != 502 && r->status != 503 && r->status != 504)
        return -1;
    after = retry_after_ms(r);
    return after > 0 ? after : ms;
}

static int understood(struct cli *c, const struct client *k, int *ret_status,
                      struct json_object **ret)
{
    struct err bad = {0};
    if (ret_status)
        *ret_status = k->answer.status;
    if (!ret)
        return 0;
    *ret = NULL;
    if (!k->answer.body.n || js_parse(k->answer.body, ret, &bad) == 0)
        return 0;
    return err_set(&c->e, -EBADMSG, "is a node of tidemark there, and no other server?",
                   "the answer of %s is not JSON: %s", k->base, bad.msg);
}

int client_call(struct cli *c, const struct client_ask *q, int *ret_status,
                struct json_object **ret)
{
    int error = open_client(c);
    struct client *k = c->client;
    int64_t now = clock_boot_ms();
    int64_t until = c->timeout_ms < 0 ? INT64_MAX : now + c->timeout_ms;
    int64_t repeat = now + REPEAT_MS < until ? now + REPEAT_MS : until;
    for (int n = 0; !error; n++) {
        error = attempt(c, k, q, until > now ? until - now : 1);
        int64_t ms = error ? -1 : pause_ms(&k->answer, n);
        now = clock_boot_ms();
        if (error)
            break;
        if (ms >= 0 && now + ms < repeat) {
            if (c->tty && n == 0)
                fprintf(stderr, "tidemark: %s can't answer now; asking again\n", k->base);
            usleep((useconds_t)ms * 1000);
            now = clock_boot_ms();
            continue;
        }
        if (k->answer.error)
            return unreachable(c, k);
        if (k->answer.status >= 300 && !(k->answer.status == 409 && q->may_conflict))
            return problem(c, k);
        return understood(c, k, ret_status, ret);
    }
    return error;
}

int client_get(struct cli *c, const char *path, struct json_object **ret)
{
    const struct client_ask q = {.method = "GET", .path = path};
    return client_call(c, &q, NULL, ret);
}

int client_pages(struct cli *c, const char *path, const char *name, struct json_object *list,
                 struct json_object **ret_first)
{
    char *next = strdup(path);
    int error = next ? 0 : -ENOMEM;
    if (ret_first)
        *ret_first = NULL;
    while (next && !error) {
        struct json_object *page = NULL;
        error = client_get(c, next, &page);
        struct json_object *v = js_get(page, name);
        for (size_t i = 0; i < js_length(v); i++)
            json_object_array_add(list, json_object_get(js_at(v, i)));
        free(next);
        next = js_str(page, "next") ? strdup(js_str(page, "next")) : NULL;
        if (ret_first && !*ret_first && !error) {
            *ret_first = json_object_get(page);
            json_object_object_del(page, name);
            json_object_object_del(page, "next");
        }
        json_object_put(page);
    }
    free(next);
    return error;
}
