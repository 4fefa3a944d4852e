/* Certificate and key of the HTTP server, from the files that http.tls names. Blocking, at start.
 */
#pragma once
#include "base/logger.h"
#include "base/secret.h"
#include "config/config.h"

#define TLS_FILE_MAX (256 * 1024)

/* PEM texts that belong together, for the caller to free; both NULL when none are configured.
 * -EINVAL with the file and a hint. Warns of a key that others may read, and of a certificate that
 * ends soon. */
int tls_read(const struct config *c, struct log *log, char **ret_cert, struct secret **ret_key,
             struct err *e);
