/* What is refused by the head of a request (RFC 9110, 9112): too much of it, and whatever a proxy
 * in front could understand differently from this server (request smuggling). libmicrohttpd has
 * split it into lines; it takes more than the RFCs allow. Thread-safe. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/http_int.h"

struct head {
    size_t bytes, fields, lengths, hosts, codings, authorizations;
    struct slice length, coding;
    bool bad_name, bad_value;
};

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i]) && !memchr("!#$%&'*+-.^_`|~", s.p[i], 15))
            return false;
    return s.n > 0;
}

static bool is_value(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
            return false;
    return true;
}

static bool named(struct slice name, const char *what)
{
    return name.n == strlen(what) && !strncasecmp(name.p, what, name.n);
}

static enum MHD_Result on_field(void *arg, enum MHD_ValueKind kind, const char *name, size_t nname,
                                const char *value, size_t nvalue)
{
    struct head *h = arg;
    struct slice n = sl(name, nname), v = sl(value ? value : "", value ? nvalue : 0);
    h->fields++;
    h->bytes += n.n + v.n + 4; /* ": " and the end of the line */
    h->bad_name |= !is_token(n);
    h->bad_value |= !is_value(v);
    if (named(n, "Content-Length")) {
        h->lengths++;
        h->length = v;
    } else if (named(n, "Transfer-Encoding")) {
        h->codings++;
        h->coding = v;
    } else if (named(n, "Host")) {
        h->hosts++;
    } else if (named(n, "Authorization")) {
        h->authorizations++;
    }
    return MHD_YES;
}

/* Every escape is one, and none is a zero byte, which would end a text early. */
static bool escapes_ok(const char *uri)
{
    for (const char *p = uri; (p = strchr(p, '%')); p++)
        if (!isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]) ||
            (p[1] == '0' && p[2] == '0'))
            return false;
    for (const char *p = uri; *p; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7f)
            return false;
    return true;
}

__attribute__((format(printf, 4, 5))) static void set(struct http_refusal *r, int status,
                                                      const char *hint, const char *detail, ...)
{
    va_list ap;
    r->status = status;
    r->hint = hint;
    va_start(ap, detail);
    (void)vsnprintf(r->detail, sizeof r->detail, detail, ap);
    va_end(ap);
}

/* The length as digits alone: not "+5", "5, 5" or "0x5". False: it is none. */
static bool length_of(struct slice s, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < s.n; i++)
        if (!isdigit((unsigned char)s.p[i]) || __builtin_mul_overflow(*ret, 10, ret) ||
            __builtin_add_overflow(*ret, (uint64_t)(s.p[i] - '0'), ret))
            return false;
    return s.n > 0;
}

static void check_body(const struct head *h, size_t body_max, struct http_refusal *r)
{
    uint64_t n = 0;
    if (h->codings && h->lengths)
        set(r, 400, "send one of them", "both Content-Length and Transfer-Encoding are there");
    else if (h->codings > 1 || (h->codings && !named(h->coding, "chunked")))
        set(r, 501, "only chunked is known", "this Transfer-Encoding is not known");
    else if (h->lengths > 1)
        set(r, 400, "send it once", "there is more than one Content-Length");
    else if (h->lengths && !length_of(h->length, &n))
        set(r, 400, "see RFC 9110, section 8.6", "the Content-Length is not a number");
    else if (n > body_max)
        http_too_large(body_max, r);
}

void http_too_large(size_t body_max, struct http_refusal *ret)
{
    set(ret, 413, "keep large data outside and pass a reference to it",
        "a body may have at most %zu bytes", body_max);
}

void http_head_check(struct MHD_Connection *con, const char *uri, size_t path_n, size_t body_max,
                     struct http_refusal *ret)
{
    struct head h = {.bytes = 0};
    *ret = (struct http_refusal){.status = 0};
    MHD_get_connection_values_n(con, MHD_HEADER_KIND, on_field, &h);
    if (path_n > HTTP_PATH_MAX)
        set(ret, 414, "put data into the body", "a path may have at most %d bytes", HTTP_PATH_MAX);
    else if (h.bytes + strlen(uri) > HTTP_HEAD_BYTES_MAX)
        set(ret, 431, "send fewer and shorter header fields",
            "request line and header fields may have at most %d bytes", HTTP_HEAD_BYTES_MAX);
    else if (h.fields > HTTP_FIELDS_MAX)
        set(ret, 431, "send fewer header fields", "there may be at most %d header fields",
            HTTP_FIELDS_MAX);
    else if (!escapes_ok(uri))
        set(ret, 400, "escape it as RFC 3986, section 2.1, says",
            "the address has an escape that can't be decoded, or a character that must be escaped");
    else if (h.bad_name || h.bad_value)
        set(ret, 400, "see RFC 9110, section 5",
            "a header field has a character that it may not have");
    else if (h.hosts > 1 || h.authorizations > 1)
        set(ret, 400, "send it once", "there is more than one Host or Authorization");
    else
        check_body(&h, body_max, ret);
}
