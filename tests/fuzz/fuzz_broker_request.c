/* Fuzz target of the log's protocol: any bytes as the body of any request, or as a record of the
 * offsets topic. Rules: nothing outside the bytes is read (ASan); a request that was accepted is
 * accepted again with bytes behind it and, as a whole, never one byte shorter, so that nothing was
 * read that is not there. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/group_record.h"
#include "broker/wire_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool held, const char *rule)
{
    if (held)
        return;
    fprintf(stderr, "rule broken: %s\n", rule);
    abort();
}

/* In an allocation of exactly its size, so that a read beyond it is seen. */
static char *exact(const uint8_t *p, size_t n)
{
    char *copy = malloc(n ? n : 1);
    must(copy != NULL, "memory");
    memcpy(copy, p, n);
    return copy;
}

static void request(const struct api *a, int version, const uint8_t *p, size_t n)
{
    bool flex = version >= a->flex_from;
    char *whole = exact(p, n);
    size_t need = n;
    if (rd_skim(rd_init(whole, n, flex), a->shape, version)) {
        /* The shortest prefix that is accepted: what the request really is. */
        while (need > 0 && rd_skim(rd_init(whole, need - 1, flex), a->shape, version))
            need--;
        char *part = exact(p, need);
        must(rd_skim(rd_init(part, need, flex), a->shape, version), "bytes behind change nothing");
        free(part);
    }
    free(whole);
}

static void ignore_joined(void *arg, void *token, const struct group_joined *r)
{
}
static void ignore_synced(void *arg, void *token, const struct group_synced *r)
{
}
static void ignore_group(void *arg, struct group *g)
{
}

static void record(const uint8_t *p, size_t n)
{
    static const struct groups_ops ops = {ignore_joined, ignore_synced, ignore_group, ignore_group};
    struct groups gs;
    struct group_key k;
    struct offset_value v;
    char *bytes = exact(p, n);
    groups_init(&gs, &ops, NULL);
    groups_clock(&gs, 1, 1);
    (void)group_key_read(sl(bytes, n), &k);
    (void)offset_value_read(sl(bytes, n), &v);
    struct group *g = group_get(&gs, SL("g"));
    if (group_value_read(sl(bytes, n), g) == 0) {
        struct buf b;
        buf_init(&b, 64 << 20);
        group_value_write(&b, g);
        if (!buf_error(&b))
            must(group_value_read(buf_slice(&b), g) == 0, "what was read can be written and read");
        buf_free(&b);
    }
    groups_clock(&gs, INT32_MAX, 1);
    groups_tick(&gs);
    groups_free(&gs);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n;
    const struct api *a = api_table(&n);
    if (size < 2 || size > 4096)
        return 0;
    if (data[0] == 255) {
        record(data + 1, size - 1);
        return 0;
    }
    a += data[0] % n;
    request(a, a->min + data[1] % (a->max - a->min + 1), data + 2, size - 2);
    return 0;
}
