/* What comes back for an HTTP request: headers, body, and libcurl's codes as errno. The loop's
 * thread only. Invariants: `got` holds the headers of the latest response only (a redirect or a 1xx
 * starts anew); names are lower case; the body counts decompressed bytes and stops the transfer at
 * its maximum. */
#include <ctype.h>
#include <errno.h>

#include "loop/http_int.h"

static void start_anew(struct http_req *r)
{
    arena_reset(&r->arena);
    r->got = NULL;
    r->ngot = 0;
    buf_reset(&r->body);
}

static size_t refuse(struct http_req *r, const char *what)
{
    r->too_much = what;
    return 0; /* ends the transfer with CURLE_WRITE_ERROR */
}

/* After the headers of a 303: the next request is a GET whatever the first one was (RFC
 * 9110 15.4.4). libcurl does that for the methods that it knows; a method set by name it would
 * repeat. */
static void after_headers(struct http_req *r)
{
    long status = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 303 && r->custom_method)
        curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, NULL);
}

size_t http_on_header(char *p, size_t size, size_t n, void *arg)
{
    struct http_req *r = arg;
    struct slice line = sl(p, size * n);
    if (sl_starts(line, SL("HTTP/"))) {
        start_anew(r);
        r->waiting = false;
        return line.n;
    }
    ptrdiff_t colon = sl_find(line, ':');
    if (colon <= 0) {
        if (!sl_trim(line).n)
            after_headers(r);
        return line.n;
    }
    if (!r->got)
        r->got = arena_alloc(&r->arena, HTTP_HEADERS_MAX * sizeof *r->got);
    if (!r->got || r->ngot == HTTP_HEADERS_MAX)
        return refuse(r, "the response has more than 64 headers");
    char *name = arena_strdup(&r->arena, sl_trim(sl(line.p, (size_t)colon)));
    char *value = arena_strdup(&r->arena, sl_trim(sl_from(line, (size_t)colon + 1)));
    if (!name || !value)
        return refuse(r, "the headers of the response are larger than 64 KiB");
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    r->got[r->ngot++] = (struct http_header){sl_str(name), sl_str(value)};
    return line.n;
}

size_t http_on_body(char *p, size_t size, size_t n, void *arg)
{
    struct http_req *r = arg;
    if (buf_add(&r->body, p, size * n) == 0)
        return size * n;
    return refuse(r, buf_error(&r->body) == -ENOMEM
                         ? "no memory for the body of the response"
                         : "the body of the response is larger than allowed");
}

static int connect_error(struct http_req *r)
{
    long code = 0;
    curl_easy_getinfo(r->easy, CURLINFO_OS_ERRNO, &code);
    return code ? -(int)code : -ECONNREFUSED;
}

static int to_errno(struct http_req *r, CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
        return -EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
        return connect_error(r);
    case CURLE_FILESIZE_EXCEEDED:
        return -EMSGSIZE;
    case CURLE_URL_MALFORMAT:
        return -EINVAL;
    case CURLE_UNSUPPORTED_PROTOCOL: {
        /* The first URL was checked: it is where a redirect leads, or the answer was not HTTP/1.0
         * or newer. */
        long status = 0;
        curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
        return status >= 300 && status < 400 ? -EINVAL : -EPROTO;
    }
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        return -ECONNRESET;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return -EKEYREJECTED;
    default:
        return -EPROTO;
    }
}

void http_result_make(struct http_req *r, CURLcode code, struct http_result *out)
{
    long status = 0;
    char *url = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(r->easy, CURLINFO_EFFECTIVE_URL, &url);
    *out = (struct http_result){.error = to_errno(r, code),
                                .status = (int)status,
                                .headers = r->got,
                                .nheaders = r->ngot,
                                .body = buf_slice(&r->body),
                                .final_url = url ? url : ""};
    if (!out->error)
        return;
    out->error_text = r->error_text[0] ? r->error_text : curl_easy_strerror(code);
    if (r->too_much) {
        out->error = buf_error(&r->body) == -ENOMEM ? -ENOMEM : -EMSGSIZE;
        out->error_text = r->too_much;
    } else if (code == CURLE_FILESIZE_EXCEEDED) {
        out->error_text = "the body of the response is larger than allowed";
    } else if (r->unanswered && code == CURLE_ABORTED_BY_CALLBACK) {
        out->error = -EPIPE;
        out->error_text =
            "the connection was closed before an answer came; whether the request was "
            "carried out is not known";
    } else if (r->refused && code == CURLE_COULDNT_CONNECT) {
        out->error = -EACCES;
        out->error_text = "the address of the host is not allowed";
    } else if (r->open_error && code == CURLE_COULDNT_CONNECT) {
        out->error = -r->open_error;
        out->error_text = r->open_error == EMFILE || r->open_error == ENFILE
                              ? "no descriptor for a connection; raise the limit of open files "
                                "(ulimit -n)"
                              : strerror(r->open_error);
    }
}
