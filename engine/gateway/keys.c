/* See keys.h: the followed table.
 *
 *   reading up to the end -> following -> (the log can't be read: again in a second, from where it
 * was; the place is gone, since the topic was made anew: from its beginning, with an empty ring)
 *
 * Until the end is reached for the first time there is no ring, so nobody is let in or refused by
 * half a table. */
#include "gateway/keys.h"

#include <errno.h>
#include <stdlib.h>

#define RETRY_MS 1000

struct keys {
    struct klog *klog;
    struct log *log;
    struct loop *loop;
    char topic[NAME_MAX_BYTES + 1];
    struct keyring *ring;
    struct kread *read;
    struct loop_timer retry;
    int64_t next; /* offset; 0: from the beginning */
    bool ready;
    void (*on_change)(void *arg);
    void *arg;
};

static void changed(struct keys *k)
{
    if (k->ready)
        k->on_change(k->arg);
}

static void on_record(void *arg, const struct krec *r)
{
    struct keys *k = arg;
    struct err e = {0};
    k->next = r->offset + 1;
    if (!sl_starts(r->key, SL("key/")))
        return;
    struct slice name = sl_from(r->key, 4);
    int error = 0;
    if (r->value.p)
        error = keyring_put(k->ring, name, r->value, r->offset, &e);
    else
        keyring_del(k->ring, name, r->offset);
    if (error && error != -ESTALE)
        log_error(k->log, "an API key can't be used", "key=%.*s offset=%lld error=%s hint=%s",
                  (int)(name.n < KEY_NAME_MAX ? name.n : KEY_NAME_MAX), name.p,
                  (long long)r->offset, log_q(e.msg), log_q(e.hint));
    changed(k);
}

static void start(struct keys *k);

static void again(struct keys *k)
{
    loop_timer_set(k->loop, &k->retry, loop_now(k->loop) + RETRY_MS);
}

static void begin_anew(struct keys *k)
{
    struct keyring *empty = keyring_new();
    if (!empty)
        return; /* the old one holds until there is memory */
    keyring_free(k->ring);
    k->ring = empty;
    k->next = 0;
    k->ready = false;
}

static void on_end(void *arg, int error)
{
    struct keys *k = arg;
    k->read = NULL; /* a reader ends with its `done` */
    if (error) {
        log_warn(k->log, "API keys can't be read, trying again", "topic=%s error=%s", k->topic,
                 strerror(-error));
        if (error == -ERANGE)
            begin_anew(k);
        again(k);
        return;
    }
    if (!k->ready) {
        k->ready = true;
        changed(k);
    }
    start(k);
}

static void start(struct keys *k)
{
    struct err e = {0};
    k->read = kread_start(k->klog, k->topic, 0, k->next ? k->next : -2, k->ready ? INT64_MAX : -1,
                          on_record, on_end, k, &e);
    if (!k->read)
        again(k);
}

static void on_retry(struct loop_timer *t)
{
    start(LIST_ENTRY(t, struct keys, retry));
}

struct keys *keys_new(struct klog *klog, const struct names *n, struct log *log,
                      void (*on_change)(void *arg), void *arg, struct err *e)
{
    struct keys *k = calloc(1, sizeof *k);
    if (!k || !(k->ring = keyring_new())) {
        free(k);
        err_set(e, -ENOMEM, "give the process more memory", "no memory for the API keys");
        return NULL;
    }
    k->klog = klog;
    k->log = log;
    k->loop = klog_loop(klog);
    (void)snprintf(k->topic, sizeof k->topic, "%s", n->keys);
    k->retry.fn = on_retry;
    k->on_change = on_change;
    k->arg = arg;
    start(k);
    return k;
}

struct keys *keys_free(struct keys *k)
{
    if (!k)
        return NULL;
    if (k->read)
        kread_stop(k->read);
    loop_timer_unset(&k->retry);
    keyring_free(k->ring);
    free(k);
    return NULL;
}

struct keyring *keys_ring(const struct keys *k)
{
    return k && k->ready ? k->ring : NULL;
}
