/* See client.h. */
#include "cli/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
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

struct client {
    CURL *easy;
    char *base;          /* http://HOST:PORT, without a / at the end */
    char *authorization; /* the field; NULL: no token */
    struct buf body;     /* of the answer */
    char curl_error[CURL_ERROR_SIZE];
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
    if (k->easy)
        curl_easy_cleanup(k->easy);
    if (k->authorization)
        explicit_bzero(k->authorization, strlen(k->authorization));
    free(k->authorization);
    free(k->base);
    buf_free(&k->body);
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

/* The base of every address; *ret_local: on this machine. */
static int read_server(struct cli *c, struct client *k, bool *ret_local)
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
    *ret_local = host && is_loopback(host);
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
        buf_addf(&field, "Authorization: Bearer %.*s", SL_ARG(t));
        k->authorization = buf_take(&field);
        if (!k->authorization)
            error = -ENOMEM;
    }
    buf_free(&b);
    buf_free(&field);
    return error;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct client *k = arg;
    return buf_add(&k->body, p, size * n) ? 0 : size * n;
}

static int open_client(struct cli *c)
{
    bool local = false;
    if (c->client)
        return 0;
    struct client *k = calloc(1, sizeof *k);
    if (!k || curl_global_init(CURL_GLOBAL_DEFAULT) || !(k->easy = curl_easy_init())) {
        client_free(k);
        return err_set(&c->e, -ENOMEM, "close other programs", "no memory for the HTTP client");
    }
    buf_init(&k->body, ANSWER_BYTES);
    c->client = k;
    int error = read_server(c, k, &local);
    if (!error)
        error = read_token(c, k);
    if (error)
        return error;
    if (k->authorization && !local && !strncmp(k->base, "http://", 7))
        fprintf(stderr,
                "tidemark: warning: the token goes to %s unencrypted; https:// keeps it "
                "from whoever listens\n",
                k->base);
    curl_easy_setopt(k->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(k->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(k->easy, CURLOPT_USERAGENT, "tidemark/" TIDEMARK_VERSION);
    curl_easy_setopt(k->easy, CURLOPT_ERRORBUFFER, k->curl_error);
    curl_easy_setopt(k->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(k->easy, CURLOPT_WRITEDATA, k);
    if (local)
        curl_easy_setopt(k->easy, CURLOPT_PROXY, "");
    if (cli_has(c, "ca"))
        curl_easy_setopt(k->easy, CURLOPT_CAINFO, cli_get(c, "ca"));
    return 0;
}

/* ---- one attempt ---- */

static struct curl_slist *head(const struct client *k, const struct client_ask *q)
{
    char type[160];
    struct curl_slist *v = curl_slist_append(NULL, "Accept: application/json");
    /* Without these libcurl adds a type for forms, and waits for a 100. */
    v = curl_slist_append(v, "Expect:");
    (void)snprintf(type, sizeof type, "Content-Type:%s%s", q->type ? " " : "",
                   q->type ? q->type : "");
    v = curl_slist_append(v, type);
    if (k->authorization)
        v = curl_slist_append(v, k->authorization);
    for (size_t i = 0; q->head[i]; i++)
        v = curl_slist_append(v, q->head[i]);
    return v;
}

static CURLcode attempt(struct client *k, const struct client_ask *q, int64_t left_ms)
{
    struct buf url;
    int64_t ms = ANSWER_MS + q->wait_ms;
    buf_init(&url, 64 * 1024);
    buf_adds(&url, k->base);
    buf_adds(&url, q->path);
    struct curl_slist *fields = head(k, q);
    buf_reset(&k->body);
    k->curl_error[0] = 0;
    if (buf_error(&url) || !fields) {
        buf_free(&url);
        curl_slist_free_all(fields);
        return CURLE_OUT_OF_MEMORY;
    }
    curl_easy_setopt(k->easy, CURLOPT_URL, url.p);
    curl_easy_setopt(k->easy, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(k->easy, CURLOPT_TIMEOUT_MS, (long)(ms < left_ms ? ms : left_ms));
    curl_easy_setopt(k->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(CONNECT_MS < left_ms ? CONNECT_MS : left_ms));
    bool post = !strcmp(q->method, "POST") || q->type;
    curl_easy_setopt(k->easy, CURLOPT_HTTPGET, 1L);
    if (post) {
        curl_easy_setopt(k->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(k->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n);
        curl_easy_setopt(k->easy, CURLOPT_POSTFIELDS, q->body.n ? q->body.p : "");
    }
    curl_easy_setopt(k->easy, CURLOPT_CUSTOMREQUEST, q->method);
    CURLcode code = curl_easy_perform(k->easy);
    curl_easy_setopt(k->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(fields);
    buf_free(&url);
    return code;
}

/* ---- what came of it ---- */

static int code_of(long status)
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

static int problem(struct cli *c, const struct client *k, long status)
{
    struct json_object *o = NULL;
    struct buf b;
    int code = code_of(status);
    buf_init(&b, sizeof c->e.msg);
    const char *detail = NULL, *hint = NULL;
    if (js_parse(buf_slice(&k->body), &o, NULL) == 0) {
        detail = js_str(o, "detail");
        hint = js_str(o, "hint");
    }
    if (detail)
        buf_adds(&b, detail);
    else
        buf_addf(&b, "%s answered with status %ld", k->base, status);
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

static int unreachable(struct cli *c, const struct client *k, CURLcode code)
{
    const char *why = k->curl_error[0] ? k->curl_error : curl_easy_strerror(code);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return err_set(&c->e, -ETIMEDOUT,
                       "what it did until then stands; ask again, or give it "
                       "more time with --timeout",
                       "no answer from %s in time", k->base);
    if (code == CURLE_WRITE_ERROR)
        return err_set(&c->e, -EMSGSIZE, "ask for less at a time, as with --limit",
                       "the answer of %s is larger than %u MiB", k->base, ANSWER_BYTES >> 20);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return err_set(&c->e, -EACCES, "--ca FILE names the certificate of the authority to trust",
                       "the certificate of %s is not trusted: %s", k->base, why);
    return err_set(&c->e, -ECONNREFUSED,
                   "is a node serving HTTP there (`http.listen`)? --brokers HOST:PORT goes to the "
                   "log without one",
                   "%s can't be reached: %s", k->base, why);
}

/* Milliseconds until the next attempt; -1: there is none. */
static int64_t pause_ms(const struct client *k, CURLcode code, long status, int n)
{
    curl_off_t after = 0;
    int64_t ms = PAUSE_MS << (n < 4 ? n : 4);
    switch (code) {
    case CURLE_OK:
        if (status != 429 && status != 502 && status != 503 && status != 504)
            return -1;
        (void)curl_easy_getinfo(k->easy, CURLINFO_RETRY_AFTER, &after);
        ms = after > 0 ? after * 1000 : ms;
        return ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        return ms;
    default:
        return -1;
    }
}

static int understood(struct cli *c, struct client *k, long status, int *ret_status,
                      struct json_object **ret)
{
    struct err bad = {0};
    if (ret_status)
        *ret_status = (int)status;
    if (!ret)
        return 0;
    *ret = NULL;
    if (!k->body.n || js_parse(buf_slice(&k->body), ret, &bad) == 0)
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
        long status = 0;
        CURLcode code = attempt(k, q, until > now ? until - now : 1);
        if (code == CURLE_OK)
            curl_easy_getinfo(k->easy, CURLINFO_RESPONSE_CODE, &status);
        int64_t ms = pause_ms(k, code, status, n);
        now = clock_boot_ms();
        if (ms >= 0 && now + ms < repeat) {
            if (c->tty && n == 0)
                fprintf(stderr, "tidemark: %s can't answer now; asking again\n", k->base);
            usleep((useconds_t)ms * 1000);
            now = clock_boot_ms();
            continue;
        }
        if (code)
            return unreachable(c, k, code);
        if (status >= 300 && !(status == 409 && q->may_conflict))
            return problem(c, k, status);
        return understood(c, k, status, ret_status, ret);
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
