/* Journal records (core/rec.h) as records of the log (log/klog.h), and back. */
#pragma once
#include "core/rec.h"
#include "log/klog.h"

/* What a krec made from a rec points into. */
struct recwire {
    struct rec_wire wire;
    struct kheader headers[REC_HEADERS_MAX];
};
/* Fills `k` for a topic and partition; valid until recwire_free. -EMSGSIZE, -ENOMEM as rec_encode.
 */
int recwire_make(struct recwire *w, const struct rec *r, const char *topic, int partition,
                 struct krec *k);
void recwire_free(struct recwire *w);
/* As rec_decode. */
int recwire_read(const struct krec *k, struct rec **ret, struct err *e);
