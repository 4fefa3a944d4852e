/* Events: a Kafka record as a CloudEvent 1.0 (Kafka protocol binding: binary mode with ce_ headers,
 * structured mode with content type application/cloudevents+json) in JSON format. A record without
 * either is an event with type = topic name, source = topic, id = partition/offset. */
#pragma once
#include "base/err.h"
#include "base/js.h"
#include "log/klog.h"

#define EVENT_BYTES_MAX (512 * 1024)

struct event {
    struct json_object
        *envelope; /* specversion, id, source, type, subject?, time?, datacontenttype?, dataschema?,
                      extensions, data | data_base64 */
    struct json_object
        *raw; /* {topic,partition,offset,timestamp,key,headers,value} for schedule.read: raw */
    struct json_object *kafka;      /* $kafka: {topic,partition,offset,key,timestamp} */
    bool ce;                        /* it came as a CloudEvent: its id is its own */
    const char *source, *id, *type; /* borrowed from the envelope */
    const char *traceparent;        /* extension or header `traceparent`, or NULL */
};
/* -EBADMSG: data is not JSON although it says or must be, -EMSGSIZE too large, -EPROTO a CloudEvent
 * without id, source or type, -ENOMEM; e explains, and nothing is kept. Header names that are not
 * UTF-8 stand in base64 in `raw`; as attributes they are left out. */
int event_read(struct event *ev, const struct krec *r, struct err *e);
void event_free(struct event *ev);
