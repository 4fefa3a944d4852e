/* run.requested and controls as records. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "triggers/request.h"
#include "unit.h"

SUITE("triggers/request")

#define RUN "0002x8fazsj5ede5ykkgwyy5tg63c4"

static struct request base(struct json_object *input)
{
    return (struct request){.agent = "acme/triage",
                            .version = "1.0.0",
                            .hash = "9f2c",
                            .key = "k\"1",
                            .input = input,
                            .run_id = RUN,
                            .priority = 3,
                            .src_name = "live:t/1/0",
                            .src_offset = 17,
                            .floor = 16,
                            .time_ms = 1700000000000};
}

TEST(a_request_carries_its_input_by_value)
{
    struct json_object *input = json_object_new_object(), *extra = json_object_new_object();
    json_object_object_add(input, "a", json_object_new_int(1));
    json_object_object_add(extra, "position", json_object_new_string("/do/1"));
    struct request q = base(input);
    struct rec *r = NULL;
    struct err e = {0};
    q.extra = extra;
    q.traceparent = "00-x";
    NEED(request_make(&q, &r, &e) == 0);
    CHECK_STR(val_text(r->value).p, "{\"agent\":\"acme/triage\",\"version\":\"1.0.0\",\"key\":"
                                    "\"k\\\"1\",\"input\":{\"a\":1},\"position\":\"/do/1\"}");
    CHECK_STR(r->run, RUN);
    CHECK_STR(r->agent, "9f2c");
    CHECK_STR(r->src.name, "live:t/1/0");
    CHECK_INT(r->src.offset, 17);
    CHECK_INT(r->src.floor, 16);
    CHECK_INT(r->priority, 3);
    CHECK_STR(r->traceparent, "00-x");
    CHECK_INT(strlen(r->uuid), 36);
    rec_unref(r);
    json_object_put(input);
    json_object_put(extra);
}

TEST(two_requests_never_have_one_key)
{
    struct request q = base(NULL);
    struct rec *a = NULL, *b = NULL;
    struct err e = {0};
    NEED(request_make(&q, &a, &e) == 0);
    NEED(request_make(&q, &b, &e) == 0);
    CHECK(strcmp(a->uuid, b->uuid) != 0);
    rec_unref(a);
    rec_unref(b);
}

TEST(an_input_that_is_too_large_is_refused_with_a_hint)
{
    char *big = malloc(REC_VALUE_MAX + 1);
    memset(big, 'x', REC_VALUE_MAX);
    big[REC_VALUE_MAX] = 0;
    struct json_object *input = json_object_new_string(big);
    struct request q = base(input);
    struct rec *r = NULL;
    struct err e = {0};
    CHECK_INT(request_make(&q, &r, &e), -EMSGSIZE);
    CHECK(r == NULL);
    CHECK(e.hint[0] != 0);
    json_object_put(input);
    free(big);
}

TEST(a_control_names_a_run_and_its_reason)
{
    struct rec *r = NULL;
    struct err e = {0};
    NEED(request_control(REC_CANCEL, RUN, "not \"needed\"", 5, &r, &e) == 0);
    CHECK_INT(r->type, REC_CANCEL);
    CHECK_STR(val_text(r->value).p, "{\"reason\":\"not \\\"needed\\\"\"}");
    CHECK_INT(r->time_ms, 5);
    rec_unref(r);
    r = NULL;
    NEED(request_control(REC_RESUME, RUN, NULL, 5, &r, &e) == 0);
    CHECK_STR(val_text(r->value).p, "{}");
    rec_unref(r);
    r = NULL;
    CHECK_INT(request_control(REC_CANCEL, "nonsense", NULL, 5, &r, &e), -EINVAL);
    CHECK(e.hint[0] != 0);
    CHECK(r == NULL);
}
