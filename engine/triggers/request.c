/* See request.h. */
#include "triggers/request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

static void member(struct buf *b, const char *key, struct json_object *o)
{
    buf_addf(b, "%s\"%s\":", b->n > 1 ? "," : "", key);
    js_write(o, b);
}

static void member_text(struct buf *b, const char *key, const char *v)
{
    if (!v)
        return;
    buf_addf(b, "%s\"%s\":", b->n > 1 ? "," : "", key);
    js_write_str(b, sl_str(v));
}

static int write_value(const struct request *q, struct buf *b)
{
    buf_addc(b, '{');
    member_text(b, "agent", q->agent);
    member_text(b, "version", q->version);
    member_text(b, "key", q->key);
    member(b, "input", q->input);
    if (q->event)
        member(b, "event", q->event);
    if (q->extra) {
        json_object_object_foreach(q->extra, key, v)
        {
            member(b, key, v);
        }
    }
    buf_addc(b, '}');
    return buf_error(b);
}

/* What a key stands for: 64 bits are plenty, since a collision only hurts who makes it. */
static int hash_asked(const struct request *q, uint64_t *ret)
{
    uint8_t sum[SHA256_BYTES];
    struct digest d;
    struct buf b;
    struct json_object *fork = q->extra ? js_get(q->extra, "forkOf") : NULL;
    buf_init(&b, 8 * REC_VALUE_MAX);
    js_write(q->input, &b);
    digest_init(&d);
    digest_part(&d, sl_str(q->agent));
    digest_part(&d, sl_str(q->asked_version));
    digest_part(&d, sl_str(q->key));
    digest_part(&d, buf_slice(&b));
    buf_reset(&b);
    js_write(fork, &b);
    digest_part(&d, fork ? buf_slice(&b) : SL(""));
    digest_end(&d, sum);
    int error = buf_error(&b);
    buf_free(&b);
    *ret = 0;
    for (int i = 0; i < 8; i++)
        *ret = *ret << 8 | sum[i];
    return error;
}

void request_keyed_id(char run[RUN_ID_MAX], int *ret_partition, const char *agent,
                      struct slice idempotency_key, int partitions)
{
    *ret_partition = run_partition(sl_str(agent), idempotency_key, partitions);
    run_id_make(run, *ret_partition, sl_str(agent), SL("api"), SL("key"), idempotency_key);
}

int request_make(const struct request *q, struct rec **ret, struct err *e)
{
    struct rec *r = rec_new(REC_REQUESTED, q->run_id);
    struct buf b;
    char uuid[37];
    if (!r)
        return -ENOMEM;
    buf_init(&b, 8 * REC_VALUE_MAX);
    int error = write_value(q, &b);
    if (!error && b.n > REC_VALUE_MAX)
        error = -EMSGSIZE;
    uuid4(uuid);
    if (!error) {
        r->value = val_text_new(buf_slice(&b));
        r->uuid = strdup(uuid);
        r->agent = strdup(q->hash);
        bool traced = q->traceparent && strlen(q->traceparent) < TRACEPARENT_MAX + 64;
        r->traceparent = traced ? strdup(q->traceparent) : NULL;
        r->priority = q->priority;
        r->time_ms = q->time_ms;
        r->keyed = !q->src_name && !q->random_id;
        if (r->keyed)
            error = hash_asked(q, &r->idem);
        r->src.name = q->src_name ? strdup(q->src_name) : NULL;
        r->src.offset = q->src_offset;
        r->src.floor = q->floor;
        if (!r->value || !r->uuid || !r->agent || (q->src_name && !r->src.name) ||
            (traced && !r->traceparent))
            error = -ENOMEM;
    }
    buf_free(&b);
    if (error) {
        rec_unref(r);
        return error == -ENOMEM
                   ? -ENOMEM
                   : err_set(e, -EMSGSIZE, "keep large data outside and pass a reference to it",
                             "the input is too large for one request: the limit is %d bytes",
                             REC_VALUE_MAX);
    }
    *ret = r;
    return 0;
}

/* A request about a run with this value, which may have been too large or not written for want of
 * memory. */
static int about_run(enum rec_type t, const char *run_id, struct buf *value, int64_t time_ms,
                     struct rec **ret, struct err *e)
{
    struct rec *r = NULL;
    char uuid[37];
    if (!run_id_valid(sl_str(run_id)))
        return err_set(e, -EINVAL, "a run id has 30 characters, as printed by `tidemark runs list`",
                       "\"%s\" is not a run id", run_id);
    if ((buf_error(value) && buf_error(value) != -ENOMEM) || value->n > REC_VALUE_MAX)
        return err_set(e, -EMSGSIZE, "keep large data outside and pass a reference to it",
                       "it is too large for one request: the limit is %d bytes", REC_VALUE_MAX);
    if (!buf_error(value) && (r = rec_new(t, run_id))) {
        uuid4(uuid);
        r->value = val_text_new(buf_slice(value));
        r->uuid = strdup(uuid);
        r->time_ms = time_ms;
        if (r->value && r->uuid) {
            *ret = r;
            return 0;
        }
    }
    rec_unref(r);
    return err_set(e, -ENOMEM, "give the process more memory", "no memory for the request");
}

int request_control(enum rec_type t, const char *run_id, const char *reason, int64_t time_ms,
                    struct rec **ret, struct err *e)
{
    struct buf b;
    buf_init(&b, 2 * REC_VALUE_MAX);
    buf_addc(&b, '{');
    member_text(&b, "reason", reason);
    buf_addc(&b, '}');
    int error = about_run(t, run_id, &b, time_ms, ret, e);
    buf_free(&b);
    return error;
}

int request_delivered(const char *run_id, struct json_object *event, int64_t time_ms,
                      struct rec **ret, struct err *e)
{
    struct buf b;
    buf_init(&b, 2 * REC_VALUE_MAX);
    js_write(event, &b);
    int error = about_run(REC_DELIVERED, run_id, &b, time_ms, ret, e);
    buf_free(&b);
    return error;
}
