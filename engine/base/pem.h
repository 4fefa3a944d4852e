/* A certificate and its private key as PEM texts (RFC 7468). Thread-safe. */
#pragma once
#include "base/err.h"

enum pem_part { PEM_BOTH, PEM_CERT, PEM_KEY };
/* Whether they can be read and belong together; *ret_until_ms (Unix time) is when the certificate
 * ends. -EINVAL with message and hint; *ret_part says which of them is wrong. */
int pem_check(struct slice cert, struct slice key, int64_t *ret_until_ms, enum pem_part *ret_part,
              struct err *e);
