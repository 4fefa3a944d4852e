/* Secrets in pages of their own, which are kept out of core files and swap and wiped when freed.
 * One thread owns a secret. The pages are not locked against fork: a child process that is given a
 * secret copies it before. */
#include "base/secret.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

#define REDACT_MIN_BYTES 4 /* shorter ones would make any text unreadable */

struct secret {
    size_t n, mapped;
    char value[];
};

struct secret *secret_new(struct slice value)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (value.n > SIZE_MAX / 2)
        return NULL;
    size_t size = (sizeof(struct secret) + value.n + 1 + page - 1) / page * page;
    struct secret *s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return NULL;
    /* A secret that could reach a core file is worse than none. */
    if (madvise(s, size, MADV_DONTDUMP)) {
        munmap(s, size);
        return NULL;
    }
    /* Locking may be refused by a low RLIMIT_MEMLOCK: it only guards against swap, so go on
     * without. */
    (void)mlock(s, size);
    s->n = value.n;
    s->mapped = size;
    if (value.n)
        memcpy(s->value, value.p, value.n);
    return s;
}

struct secret *secret_free(struct secret *s)
{
    if (!s)
        return NULL;
    size_t size = s->mapped;
    explicit_bzero(s, size);
    munmap(s, size);
    return NULL;
}

struct slice secret_reveal(const struct secret *s)
{
    return s ? sl(s->value, s->n) : sl("", 0);
}

bool secret_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

/* Length of the longest secret that stands at the front of text, 0: none. */
static size_t match(struct secret *const *v, size_t n, struct slice text)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        struct slice s = secret_reveal(v[i]);
        if (s.n >= REDACT_MIN_BYTES && s.n > best && sl_starts(text, s))
            best = s.n;
    }
    return best;
}

int secret_redact(struct secret *const *v, size_t n, struct slice text, struct buf *out)
{
    size_t from = 0;
    for (size_t i = 0; i < text.n;) {
        size_t hit = match(v, n, sl_from(text, i));
        if (!hit) {
            i++;
            continue;
        }
        buf_add(out, text.p + from, i - from);
        buf_adds(out, "***");
        i += hit;
        from = i;
    }
    return from < text.n ? buf_add(out, text.p + from, text.n - from) : buf_error(out);
}
