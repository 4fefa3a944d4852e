/* Records to and from librdkafka's form. Thread-safe: nothing is kept. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/klog_int.h"

int krec_from(const rd_kafka_message_t *m, struct kheader *h, struct krec *ret)
{
    rd_kafka_headers_t *list = NULL;
    rd_kafka_resp_err_t err = rd_kafka_message_headers(m, &list);
    if (err && err != RD_KAFKA_RESP_ERR__NOENT)
        return -EBADMSG;
    size_t n = list ? rd_kafka_header_cnt(list) : 0;
    bool too_many = n > KREC_HEADERS_MAX;
    if (too_many)
        n = KREC_HEADERS_MAX;
    for (size_t i = 0; i < n; i++) {
        const char *name;
        const void *value;
        size_t size;
        if (rd_kafka_header_get_all(list, i, &name, &value, &size))
            return -EBADMSG;
        h[i] = (struct kheader){sl_str(name), {value, value ? size : 0}};
    }
    int64_t time_ms = rd_kafka_message_timestamp(m, NULL);
    *ret = (struct krec){.topic = sl_str(rd_kafka_topic_name(m->rkt)),
                         .partition = m->partition,
                         .offset = m->offset,
                         .time_ms = time_ms < 0 ? 0 : time_ms,
                         .key = {m->key, m->key ? m->key_len : 0},
                         .value = {m->payload, m->payload ? m->len : 0},
                         .headers = h,
                         .nheaders = n};
    return too_many ? -EBADMSG : 0;
}

static rd_kafka_headers_t *headers_of(const struct krec *r)
{
    rd_kafka_headers_t *list = rd_kafka_headers_new(r->nheaders);
    for (size_t i = 0; i < r->nheaders; i++) {
        const struct kheader *h = &r->headers[i];
        /* librdkafka takes size -1 as "measure the string", so a null value needs both zero. */
        if (rd_kafka_header_add(list, h->name.p, (ssize_t)h->name.n, h->value.p,
                                h->value.p ? (ssize_t)h->value.n : 0)) {
            rd_kafka_headers_destroy(list);
            return NULL;
        }
    }
    return list;
}

static int check(const struct krec *r)
{
    size_t bytes = 0;
    if (r->nheaders > KREC_HEADERS_MAX)
        return -EMSGSIZE;
    for (size_t i = 0; i < r->nheaders; i++) {
        if (r->headers[i].name.n > KREC_HEADER_BYTES || r->headers[i].value.n > KREC_HEADER_BYTES)
            return -EMSGSIZE;
        bytes += r->headers[i].name.n + r->headers[i].value.n;
    }
    return bytes > KREC_HEADER_BYTES ? -EMSGSIZE : 0;
}

/* What it takes in a request, with the most that its lengths and counts can take. */
static size_t wire_size(const struct krec *r)
{
    size_t n = KREC_OVERHEAD + r->key.n + r->value.n;
    for (size_t i = 0; i < r->nheaders; i++)
        n += r->headers[i].name.n + r->headers[i].value.n + 10;
    return n;
}

int krec_pack(const struct krec *r, struct kpacked *ret)
{
    int rc = check(r);
    if (rc)
        return rc;
    struct kpacked k = {.partition = r->partition < 0 ? RD_KAFKA_PARTITION_UA : r->partition,
                        .time_ms = r->time_ms,
                        .value = {NULL, r->value.p ? r->value.n : 0},
                        .key = {NULL, r->key.p ? r->key.n : 0},
                        .size = wire_size(r)};
    k.block = malloc(k.value.n + k.key.n + 1);
    if (!k.block)
        return -ENOMEM;
    if (r->value.p) {
        k.value.p = k.block;
        memcpy(k.block, r->value.p, k.value.n);
    }
    if (r->key.p) {
        k.key.p = k.block + k.value.n;
        memcpy(k.block + k.value.n, r->key.p, k.key.n);
    }
    if (r->nheaders && !(k.headers = headers_of(r))) {
        free(k.block);
        return -EINVAL;
    }
    *ret = k;
    return 0;
}

void kpacked_free(struct kpacked *k)
{
    free(k->block);
    if (k->headers)
        rd_kafka_headers_destroy(k->headers);
    *k = (struct kpacked){0};
}

int krec_hand(rd_kafka_t *rk, rd_kafka_topic_t *rkt, struct kpacked *k, void *opaque)
{
    /* With F_FREE the block, which begins with the value, becomes librdkafka's; the key is copied.
     */
    int flags = k->value.p ? RD_KAFKA_MSG_F_FREE : RD_KAFKA_MSG_F_COPY;
    rd_kafka_vu_t v[8] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = rkt},
        {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = k->partition},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)k->value.p, k->value.n}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)k->key.p, k->key.n}},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = flags},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = opaque},
    };
    size_t n = 6;
    if (k->time_ms > 0)
        v[n++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = k->time_ms};
    if (k->headers)
        v[n++] = (rd_kafka_vu_t){.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = k->headers};
    rd_kafka_error_t *error = rd_kafka_produceva(rk, v, n);
    if (error) {
        int rc = kerrno(rd_kafka_error_code(error));
        rd_kafka_error_destroy(error);
        return rc;
    }
    k->headers = NULL;
    if (k->value.p)
        k->block = NULL;
    kpacked_free(k);
    return 0;
}

int krec_send(rd_kafka_t *rk, rd_kafka_topic_t *rkt, const struct krec *r, void *opaque)
{
    struct kpacked k;
    int rc = krec_pack(r, &k);
    if (rc)
        return rc;
    rc = krec_hand(rk, rkt, &k, opaque);
    if (rc)
        kpacked_free(&k);
    return rc;
}
