/* See pem.h. */
#include "base/pem.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <time.h>

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing;
    *(bool *)arg = true;
    return -1;
}

static int read_cert(struct slice text, X509 **ret, struct err *e)
{
    BIO *b = BIO_new_mem_buf(text.p, (int)text.n);
    *ret = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    BIO_free(b);
    return *ret ? 0
                : err_set(
                      e, -EINVAL,
                      "a PEM file: -----BEGIN CERTIFICATE-----, then those between it and the root",
                      "there is no certificate that can be read");
}

static int read_key(struct slice text, EVP_PKEY **ret, struct err *e)
{
    bool locked = false;
    BIO *b = BIO_new_mem_buf(text.p, (int)text.n);
    *ret = b ? PEM_read_bio_PrivateKey(b, NULL, no_passphrase, &locked) : NULL;
    BIO_free(b);
    if (*ret)
        return 0;
    if (locked)
        return err_set(e, -EINVAL, "`openssl pkey -in FILE -out FILE` takes the passphrase away",
                       "the private key has a passphrase");
    return err_set(e, -EINVAL, "a PEM file: -----BEGIN PRIVATE KEY-----",
                   "there is no private key that can be read");
}

static int64_t end_of(const X509 *cert)
{
    struct tm t;
    return ASN1_TIME_to_tm(X509_get0_notAfter(cert), &t) ? (int64_t)timegm(&t) * 1000 : INT64_MAX;
}

int pem_check(struct slice cert, struct slice key, int64_t *ret_until_ms, enum pem_part *ret_part,
              struct err *e)
{
    X509 *c = NULL;
    EVP_PKEY *k = NULL;
    *ret_part = PEM_CERT;
    int error = read_cert(cert, &c, e);
    if (!error) {
        *ret_part = PEM_KEY;
        error = read_key(key, &k, e);
    }
    if (!error && X509_check_private_key(c, k) != 1) {
        *ret_part = PEM_BOTH;
        error = err_set(e, -EINVAL, "the first certificate of the file must be that of the key",
                        "the certificate does not belong to the private key");
    }
    if (!error)
        *ret_until_ms = end_of(c);
    EVP_PKEY_free(k);
    X509_free(c);
    ERR_clear_error();
    return error;
}
