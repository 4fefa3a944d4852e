/* From a struct http_spec to a transfer: the checks of what the caller gives, and libcurl's
 * options. The loop's thread only. Invariant: libcurl never sees a text with a line break or a zero
 * byte in it, so nobody can smuggle in a header or a second request. */
#include <errno.h>
#include <strings.h>
#include <unistd.h>

#include "loop/http_int.h"

#define URL_MAX_BYTES      (64 * 1024)
#define BODY_MAX_BYTES     ((size_t)1 << 30)
#define TIMEOUT_DEFAULT_MS (24 * 3600 * 1000L)
#define CONNECT_DEFAULT_MS 10000L
#define ONCE_IDLE_S        3L

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct http_req *r = arg;
    struct http *h = r->http;
    if (h && h->allow && !h->allow(h->allow_arg, &a->addr)) {
        r->refused = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    if (fd < 0)
        r->open_error = errno;
    return fd;
}

static size_t on_upload(char *p, size_t size, size_t n, void *arg)
{
    struct http_req *r = arg;
    struct slice left = sl_from(buf_slice(&r->request_body), r->sent);
    n = size * n < left.n ? size * n : left.n;
    if (n)
        memcpy(p, left.p, n);
    r->sent += n;
    return n;
}

/* libcurl sends again from the start after a redirect or an authentication round. */
static int on_seek(void *arg, curl_off_t to, int origin)
{
    struct http_req *r = arg;
    if (origin != SEEK_SET || to < 0 || (size_t)to > r->request_body.n)
        return CURL_SEEKFUNC_CANTSEEK;
    r->sent = (size_t)to;
    return CURL_SEEKFUNC_OK;
}

static int bad(struct err *e, const char *hint, const char *what)
{
    return err_set(e, -EINVAL, hint, "invalid HTTP request: %s", what);
}

/* RFC 9110 5.6.2 */
static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (!c || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return s.n > 0;
}

static bool one_line(struct slice s)
{
    return sl_find(s, '\r') < 0 && sl_find(s, '\n') < 0 && sl_find(s, 0) < 0;
}

static int check_url(const char *url, struct err *e)
{
    CURLU *u = curl_url();
    if (!u)
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for an HTTP request");
    char *scheme = NULL;
    CURLUcode code = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    int rc = 0;
    if (code)
        rc = err_set(e, -EINVAL, "a URL looks like https://host/path", "invalid URL: %s",
                     curl_url_strerror(code));
    else if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
             (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        rc = err_set(e, -EINVAL, "use http or https", "the URL's scheme %s is not supported",
                     scheme ? scheme : "");
    curl_free(scheme);
    curl_url_cleanup(u);
    return rc;
}

static int set_url(struct http_req *r, struct slice url, struct err *e)
{
    if (!url.n || url.n > URL_MAX_BYTES || !one_line(url))
        return bad(e, "a URL has 1 to 65536 characters on one line",
                   "the URL is empty, too long or broken");
    char *copy = arena_strdup(&r->arena, url);
    if (!copy)
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for an HTTP request");
    int rc = check_url(copy, e);
    if (!rc && curl_easy_setopt(r->easy, CURLOPT_URL, copy))
        rc = err_set(e, -ENOMEM, "give the process more memory", "no memory for an HTTP request");
    return rc;
}

/* The methods that libcurl knows are set its way, so that it changes them as it should on
 * redirects. */
static CURLcode set_method(struct http_req *r, const struct http_spec *s)
{
    CURL *c = r->easy;
    curl_off_t n = (curl_off_t)r->request_body.n;
    if (sl_is(s->method, "GET") && !s->has_body)
        return curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
    if (sl_is(s->method, "HEAD") && !s->has_body) {
        r->head = true;
        return curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    }
    if (sl_is(s->method, "PUT")) {
        CURLcode code = curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        code = code ? code : curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
        code = code ? code : curl_easy_setopt(c, CURLOPT_READDATA, r);
        code = code ? code : curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        code = code ? code : curl_easy_setopt(c, CURLOPT_SEEKDATA, r);
        return code ? code : curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, n);
    }
    CURLcode code = CURLE_OK;
    bool post = sl_is(s->method, "POST");
    if (post || s->has_body) {
        code = curl_easy_setopt(c, CURLOPT_POST, 1L);
        code = code ? code : curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, n);
        code = code ? code : curl_easy_setopt(c, CURLOPT_POSTFIELDS, n ? r->request_body.p : "");
    }
    if (post || code)
        return code;
    char *name = arena_strdup(&r->arena, s->method);
    if (!name)
        return CURLE_OUT_OF_MEMORY;
    r->custom_method = true;
    /* Only POST may become GET on 301 and 302; the others are repeated with their body. */
    code =
        curl_easy_setopt(c, CURLOPT_POSTREDIR, (long)(CURL_REDIR_POST_301 | CURL_REDIR_POST_302));
    return code ? code : curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, name);
}

static int add_header(struct http_req *r, const char *line)
{
    struct curl_slist *list = curl_slist_append(r->headers, line);
    if (!list)
        return -ENOMEM;
    r->headers = list;
    return 0;
}

/* "Name: value", and libcurl's own form "Name;" for an empty value. */
static int add_pair(struct http_req *r, struct http_header h)
{
    struct slice value = sl_trim(h.value);
    char *line = value.n ? arena_printf(&r->arena, "%.*s: %.*s", SL_ARG(h.name), SL_ARG(value))
                         : arena_printf(&r->arena, "%.*s;", SL_ARG(h.name));
    return line ? add_header(r, line) : -ENOMEM;
}

static bool same_name(struct slice name, const char *lower)
{
    return name.n == strlen(lower) && strncasecmp(name.p, lower, name.n) == 0;
}

static int set_headers(struct http_req *r, const struct http_spec *s, struct err *e)
{
    bool has_type = false, has_agent = false;
    size_t bytes = 0;
    int rc = 0;
    if (s->nheaders > HTTP_HEADERS_MAX)
        return bad(e, "send at most 64 headers", "too many headers");
    for (size_t i = 0; !rc && i < s->nheaders; i++) {
        struct http_header h = s->headers[i];
        if (!is_token(h.name))
            return bad(e, "header names have letters, digits and -",
                       "a header name with other characters");
        if (!one_line(h.value))
            return bad(e, "a header's value stands on one line",
                       "a header value with a line break");
        if (same_name(h.name, "content-length") || same_name(h.name, "transfer-encoding"))
            return bad(e, "leave Content-Length and Transfer-Encoding out",
                       "the client sets the length of the body by itself");
        bytes += h.name.n + h.value.n;
        if (bytes > HTTP_HEADER_BYTES_MAX / 2)
            return bad(e, "send at most 32 KiB of headers", "the headers are too large");
        has_type |= same_name(h.name, "content-type");
        has_agent |= same_name(h.name, "user-agent");
        rc = add_pair(r, h);
    }
    /* Expect would cost a second with servers that don't know it; libcurl's type for POST would be
     * a guess. */
    if (!rc)
        rc = add_header(r, "Expect:");
    if (!rc && !has_type)
        rc = add_header(r, "Content-Type:");
    if (!rc && !has_agent)
        rc = add_header(r, "User-Agent: tidemark/" TIDEMARK_VERSION);
    if (!rc && curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers))
        rc = -ENOMEM;
    return rc ? err_set(e, rc, "give the process more memory", "no memory for an HTTP request") : 0;
}

static CURLcode set_auth(struct http_req *r, const struct http_spec *s)
{
    if (s->auth == HTTP_AUTH_NONE)
        return CURLE_OK;
    char *user = arena_strdup(&r->arena, s->user), *password = arena_strdup(&r->arena, s->password);
    if (!user || !password)
        return CURLE_OUT_OF_MEMORY;
    CURLcode code = curl_easy_setopt(r->easy, CURLOPT_USERNAME, user);
    code = code ? code : curl_easy_setopt(r->easy, CURLOPT_PASSWORD, password);
    explicit_bzero(password, s->password.n); /* libcurl has its copy */
    long how = s->auth == HTTP_AUTH_BASIC ? CURLAUTH_BASIC : CURLAUTH_DIGEST;
    return code ? code : curl_easy_setopt(r->easy, CURLOPT_HTTPAUTH, how);
}

static CURLcode set_limits(struct http_req *r, const struct http_spec *s)
{
    CURL *c = r->easy;
    long all = s->timeout_ms > 0 ? (long)s->timeout_ms : TIMEOUT_DEFAULT_MS;
    long connect = s->connect_timeout_ms > 0 ? (long)s->connect_timeout_ms : CONNECT_DEFAULT_MS;
    CURLcode code = curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, all);
    code = code ? code : curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, connect);
    code =
        code ? code : curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, s->redirects_max > 0 ? 1L : 0L);
    code = code ? code : curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)s->redirects_max);
    /* Refuses early by Content-Length; 0 means no limit there, and HEAD announces a body that does
     * not come. */
    if (!code && s->body_max && !r->head)
        code = curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)s->body_max);
    return code;
}

/* Called before the request goes out on a connection, so a second time for a redirect, for
 * authentication, and for a repeat after nothing was received. */
static int on_send(void *arg, char *ip, char *own_ip, int port, int own_port)
{
    struct http_req *r = arg;
    r->unanswered = r->waiting;
    r->waiting = true;
    return r->unanswered ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static CURLcode set_once(struct http_req *r)
{
    CURLcode code = curl_easy_setopt(r->easy, CURLOPT_PREREQFUNCTION, on_send);
    code = code ? code : curl_easy_setopt(r->easy, CURLOPT_PREREQDATA, r);
    /* Servers close what is idle, the common ones after 5 s: do not run into that. */
    return code ? code : curl_easy_setopt(r->easy, CURLOPT_MAXAGE_CONN, ONCE_IDLE_S);
}

static CURLcode set_rest(struct http_req *r, const struct http_spec *s)
{
    CURL *c = r->easy;
    CURLcode code = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    code = code ? code : curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    if (!code && !s->env_proxy)
        code = curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    code = code ? code : curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    code = code ? code : curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
    code = code ? code : curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
    code = code ? code : curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->error_text);
    code = code ? code : curl_easy_setopt(c, CURLOPT_PRIVATE, r);
    code = code ? code : curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open);
    code = code ? code : curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, r);
    code = code ? code : curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, http_on_header);
    code = code ? code : curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    code = code ? code : curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, http_on_body);
    return code ? code : curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
}

int http_setup(struct http_req *r, const struct http_spec *s, struct err *e)
{
    /* Until the response begins the arena holds texts that libcurl copies. */
    arena_init(&r->arena, 4 * HTTP_HEADER_BYTES_MAX);
    buf_init(&r->request_body, BODY_MAX_BYTES);
    buf_init(&r->body, s->body_max);
    if (!is_token(s->method) || s->method.n > 32)
        return bad(e, "use GET, POST or another method of letters",
                   "the method is empty or broken");
    if (r->easy)
        curl_easy_reset(r->easy);
    else
        r->easy = curl_easy_init();
    if (!r->easy || (s->has_body && buf_add_slice(&r->request_body, s->body)))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for an HTTP request");
    int rc = set_url(r, s->url, e);
    if (!rc)
        rc = set_headers(r, s, e);
    if (rc)
        return rc;
    CURLcode code = set_method(r, s);
    code = code ? code : set_auth(r, s);
    code = code ? code : set_limits(r, s);
    code = code ? code : set_rest(r, s);
    if (!code && s->ca)
        code = curl_easy_setopt(r->easy, CURLOPT_CAINFO, s->ca);
    if (!code && s->once)
        code = set_once(r);
    if (code)
        return err_set(e, code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL,
                       "check that the installed libcurl is 7.85 or newer",
                       "cannot set up the HTTP request: %s", curl_easy_strerror(code));
    arena_reset(&r->arena);
    r->arena.max = HTTP_HEADER_BYTES_MAX + HTTP_HEADERS_MAX * (sizeof(struct http_header) + 32);
    return 0;
}

void http_clear(struct http_req *r)
{
    curl_slist_free_all(r->headers);
    buf_free(&r->request_body);
    buf_free(&r->body);
    arena_free(&r->arena);
}
