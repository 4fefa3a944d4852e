/* See tls.h. */
#include "gateway/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/pem.h"

#define SOON_MS (14 * INT64_C(86400000))

static int read_file(const char *field, const char *path, struct buf *b, struct err *e)
{
    struct err why = {0};
    buf_init(b, TLS_FILE_MAX);
    int error = file_read(path, b, &why);
    return error ? err_set(e, -EINVAL,
                           why.hint[0] ? why.hint : "is the path right, and may this user read it?",
                           "%s: %s", field, why.msg[0] ? why.msg : strerror(-error))
                 : 0;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_free(b);
}

static void warn(const struct config *c, struct log *log, int64_t until_ms)
{
    struct stat st;
    char until[TIME_TEXT_MAX];
    int64_t now = clock_wall_ms();
    if (stat(c->http_tls_key, &st) == 0 && st.st_mode & S_IROTH)
        log_warn(log, "everyone on this machine may read the private key", "file=%s hint=%s",
                 log_q(c->http_tls_key), log_q("chmod 600 it"));
    time_write(until, until_ms < INT64_MAX ? until_ms : 0);
    if (until_ms - now < SOON_MS)
        log_warn(log, until_ms < now ? "the certificate has ended" : "the certificate ends soon",
                 "file=%s until=%s hint=%s", log_q(c->http_tls_cert), until,
                 log_q("replace it and start the node again"));
}

static int check(const struct config *c, struct slice cert, struct slice key, int64_t *ret_until,
                 struct err *e)
{
    struct err why = {0};
    enum pem_part part;
    int error = pem_check(cert, key, ret_until, &part, &why);
    if (error && part == PEM_BOTH)
        return err_set(e, -EINVAL, why.hint, "http.tls: %s: %s and %s", why.msg, c->http_tls_cert,
                       c->http_tls_key);
    if (error)
        return err_set(e, -EINVAL, why.hint, "http.tls.%s: %s: %s",
                       part == PEM_CERT ? "cert" : "key",
                       part == PEM_CERT ? c->http_tls_cert : c->http_tls_key, why.msg);
    return 0;
}

int tls_read(const struct config *c, struct log *log, char **ret_cert, struct secret **ret_key,
             struct err *e)
{
    struct buf cert = {0}, key = {0};
    int64_t until = 0;
    *ret_cert = NULL;
    *ret_key = NULL;
    if (!c->http_tls_cert && !c->http_tls_key)
        return 0;
    if (!c->http_tls_cert || !c->http_tls_key)
        return err_set(e, -EINVAL, "name both files, or none", "http.tls has no %s",
                       c->http_tls_cert ? "key" : "cert");
    int error = read_file("http.tls.cert", c->http_tls_cert, &cert, e);
    if (!error)
        error = read_file("http.tls.key", c->http_tls_key, &key, e);
    if (!error)
        error = check(c, buf_slice(&cert), buf_slice(&key), &until, e);
    if (!error) {
        warn(c, log, until);
        *ret_cert = buf_take(&cert);
        *ret_key = secret_new(buf_slice(&key));
        if (!*ret_cert || !*ret_key)
            error = err_set(e, -ENOMEM, "give the process more memory", "no memory for the key");
    }
    buf_free(&cert);
    wipe(&key);
    return error;
}
