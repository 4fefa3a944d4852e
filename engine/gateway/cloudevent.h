/* CloudEvents 1.0 over HTTP (HTTP protocol binding): a request as the record that the Kafka
 * protocol binding has for the same event, which triggers/event.h reads. */
#pragma once
#include "gateway/http.h"
#include "log/klog.h"

enum ce_mode { CE_NONE, CE_BINARY, CE_STRUCTURED, CE_BATCH };
/* What the request is by its content type and its ce-* headers. CE_NONE: no CloudEvent. */
enum ce_mode ce_mode(const struct http_request *r);

struct ce_record {
    struct krec
        k; /* headers and value (the request's body); topic, partition, time: the caller's */
    struct kheader headers[KREC_HEADERS_MAX];
    char *mem[2 * KREC_HEADERS_MAX];
    size_t nmem;
};
/* Of a request in binary or structured mode, which must outlive the record. -EPROTO with the
 * reason: no CloudEvent (400); -ENOTSUP: a format that is not JSON (415); -ENOMEM. */
int ce_record(const struct http_request *r, struct ce_record *ret, struct err *e);
void ce_record_free(struct ce_record *x); /* takes a zeroed one too */
