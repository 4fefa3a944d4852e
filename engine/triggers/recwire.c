/* See recwire.h. */
#include "triggers/recwire.h"

int recwire_make(struct recwire *w, const struct rec *r, const char *topic, int partition,
                 struct krec *k)
{
    int error = rec_encode(r, &w->wire);
    if (error)
        return error;
    for (size_t i = 0; i < w->wire.nheaders; i++)
        w->headers[i] = (struct kheader){w->wire.headers[i].name, w->wire.headers[i].value};
    *k = (struct krec){.topic = sl_str(topic),
                       .partition = partition,
                       .time_ms = r->time_ms,
                       .key = w->wire.key,
                       .value = w->wire.value,
                       .headers = w->headers,
                       .nheaders = w->wire.nheaders};
    return 0;
}

void recwire_free(struct recwire *w)
{
    rec_wire_free(&w->wire);
}

static bool header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    const struct krec *k = arg;
    if (i >= k->nheaders)
        return false;
    *name = k->headers[i].name;
    *value = k->headers[i].value;
    return true;
}

int recwire_read(const struct krec *k, struct rec **ret, struct err *e)
{
    return rec_decode(k->offset, k->time_ms, k->key, k->value, header, (void *)k, ret, e);
}
