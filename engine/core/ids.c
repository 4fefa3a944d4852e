/* See ids.h. Every hash is over length-prefixed parts, so no two different lists of parts are
 * alike. */
#include "core/ids.h"

#include <stdio.h>

static void hash_parts(uint8_t out[SHA256_BYTES], const struct slice *v, size_t n)
{
    struct digest d;
    digest_init(&d);
    for (size_t i = 0; i < n; i++)
        digest_part(&d, v[i]);
    digest_end(&d, out);
}

void run_id_make(char out[RUN_ID_MAX], int partition, struct slice agent, struct slice feed,
                 struct slice source, struct slice id)
{
    uint8_t h[SHA256_BYTES];
    hash_parts(h, (struct slice[]){agent, feed, source, id}, 4);
    snprintf(out, 5, "%04x", (unsigned)partition & 0xffff);
    base32_write(out + 4, h, 16);
}

void run_id_fork(char out[RUN_ID_MAX], struct slice original, struct slice ref, int visit,
                 struct slice uuid)
{
    uint8_t h[SHA256_BYTES];
    char v[16];
    snprintf(v, sizeof v, "%d", visit);
    hash_parts(h, (struct slice[]){SL("fork"), original, ref, sl_str(v), uuid}, 5);
    memcpy(out, original.p, 4);
    base32_write(out + 4, h, 16);
}

bool run_id_valid(struct slice id)
{
    if (id.n != RUN_ID_LEN)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        char c = id.p[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        bool b32 = (c >= '0' && c <= '9') ||
                   (c >= 'a' && c <= 'z' && c != 'i' && c != 'l' && c != 'o' && c != 'u');
        if (i < 4 ? !hex : !b32)
            return false;
    }
    return true;
}

int run_id_partition(struct slice id)
{
    uint64_t p;
    if (!run_id_valid(id) || hex_read_u64(sl(id.p, 4), &p) < 0)
        return -1;
    return (int)p;
}

int run_partition(struct slice agent, struct slice key, int count)
{
    uint32_t h = murmur2_parts((struct slice[]){agent, sl("", 1), key}, 3);
    return (int)((h & 0x7fffffff) % (uint32_t)count);
}

void idempotency_key(char out[IDEM_KEY_MAX], const char *run, const char *ref, int visit,
                     int rewind)
{
    uint8_t h[SHA256_BYTES];
    char v[16], w[16];
    snprintf(v, sizeof v, "%d", visit);
    snprintf(w, sizeof w, "%d", rewind);
    hash_parts(h, (struct slice[]){sl_str(run), sl_str(ref), sl_str(v), sl_str(w)}, 4);
    hex_write(out, h, 16);
}

/* W3C Trace Context: version ff and ids of zeros are invalid. */
static bool is_traceparent(const char *s)
{
    if (!s || strlen(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-')
        return false;
    for (int i = 0; i < 55; i++)
        if (i != 2 && i != 35 && i != 52 && !strchr("0123456789abcdef", s[i]))
            return false;
    return strncmp(s, "ff", 2) && strspn(s + 3, "0") < 32 && strspn(s + 36, "0") < 16;
}

void trace_task(char out[TRACEPARENT_MAX], const char *parent, const char *run, const char *ref,
                int visit, int attempt)
{
    uint8_t trace[SHA256_BYTES], span[SHA256_BYTES];
    char v[16], a[16], hex[33], hspan[17];
    snprintf(v, sizeof v, "%d", visit);
    snprintf(a, sizeof a, "%d", attempt);
    hash_parts(span, (struct slice[]){SL("span"), sl_str(run), sl_str(ref), sl_str(v), sl_str(a)},
               5);
    hex_write(hspan, span, 8);
    if (is_traceparent(parent)) {
        snprintf(out, TRACEPARENT_MAX, "00-%.32s-%s-%.2s", parent + 3, hspan, parent + 53);
        return;
    }
    hash_parts(trace, (struct slice[]){SL("trace"), sl_str(run)}, 2);
    hex_write(hex, trace, 16);
    snprintf(out, TRACEPARENT_MAX, "00-%s-%s-01", hex, hspan);
}
