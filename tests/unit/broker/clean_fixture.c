/* See clean_fixture.h. */
#include "clean_fixture.h"

/* One batch of one record each, or all in one. */
void put_batch(struct plog *p, const struct kv *v, size_t n, int64_t ms)
{
    struct plog_record r[16];
    struct buf b;
    buf_init(&b, ROOM);
    for (size_t i = 0; i < n; i++)
        r[i] = (struct plog_record){.key = sl_str(v[i].key),
                                    .value = sl_str(v[i].value),
                                    .null_value = !v[i].value};
    batch_build(&b, r, n, ms);
    CHECK_INT(append_bytes(p, &b).error, 0);
    wait_durable(p);
}

void put(struct plog *p, const char *key, const char *value)
{
    put_batch(p, &(struct kv){key, value}, 1, T0);
}

void roll(struct plog *p)
{
    CHECK_INT(plog_roll(p, p->end), 0);
    sync_request(p);
    CHECK_INT(sync_now(p), 0);
}

static int print_one(void *arg, int64_t offset, struct slice key, struct slice value,
                     bool null_value)
{
    buf_addf(arg, "%s%lld:%.*s", ((struct buf *)arg)->n ? " " : "", (long long)offset, SL_ARG(key));
    if (null_value)
        buf_addc(arg, '-');
    else
        buf_addf(arg, "=%.*s", SL_ARG(value));
    return 0;
}

const char *dump(struct plog *p)
{
    static struct buf ring[2];
    static int at;
    struct buf *b = &ring[at++ % 2];
    if (!b->max)
        buf_init(b, ROOM);
    buf_reset(b);
    CHECK_INT(plog_each(p, p->start, print_one, b), 0);
    return b->n ? b->p : "";
}
