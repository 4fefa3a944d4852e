/* A value that must not be seen: a type of its own, printed as ***, wiped when freed. One thread
 * owns a secret. */
#pragma once
#include "base/buf.h"

struct secret;
struct secret *secret_new(struct slice value);      /* NULL when memory ran out */
struct secret *secret_free(struct secret *s);       /* wipes */
struct slice secret_reveal(const struct secret *s); /* for the one place that needs it */
/* Whether n bytes are the same, in a time that does not depend on where they differ. */
bool secret_equal(const void *a, const void *b, size_t n);
/* Replaces every occurrence of the known secrets' values (of 4 bytes and more) in text by ***. */
int secret_redact(struct secret *const *v, size_t n, struct slice text, struct buf *out);
