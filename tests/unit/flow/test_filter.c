/* Event filters: literals, regular expressions over the whole value, expressions over envelope and
 * data. */
#include <errno.h>
#include <stdio.h>

#include "flows.h"
#include "unit.h"

SUITE("flow/filter")

#define EVENT                                                                                      \
    "{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"com.example.made\",\"source\":\"https://"    \
    "a.example/x?y=1\","                                                                           \
    "\"subject\":\"order-17\",\"priority\":\"5\",\"data\":{\"total\":20,\"tags\":[\"a\"]}}"

static int match(const char *with, const char *event)
{
    struct diags d;
    struct err e = {0};
    char text[1024];
    (void)snprintf(text, sizeof text, "with: %s\n", with);
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(text), "filter.yaml", &d);
    NEED(y != NULL);
    struct filter *f = filter_parse(y, ydoc_root(y), &d);
    struct json_object *ev = json_of(event);
    int r = -1000;
    for (size_t i = 0; i < d.n; i++)
        CHECK_STR(d.v[i].msg, "");
    if (f)
        r = filter_match(f, ev, &e);
    filter_free(f, 1);
    json_object_put(ev);
    ydoc_free(y);
    diags_free(&d);
    return r;
}

TEST(literals)
{
    CHECK_INT(match("{type: com.example.made}", EVENT), 1);
    CHECK_INT(match("{type: com.example.lost}", EVENT), 0);
    CHECK_INT(match("{type: comXexampleXmade}", EVENT), 0);
    CHECK_INT(match("{type: com.example.made, subject: order-17}", EVENT), 1);
    CHECK_INT(match("{type: com.example.made, subject: order-18}", EVENT), 0);
    CHECK_INT(match("{nosuch: a}", EVENT), 0);
    /* Binary mode carries text only. */
    CHECK_INT(match("{priority: 5}", EVENT), 1);
    CHECK_INT(match("{priority: '5'}", EVENT), 1);
    CHECK_INT(match("{priority: 6}", EVENT), 0);
    /* Characters of regular expressions in a literal. */
    CHECK_INT(match("{source: 'https://a.example/x?y=1'}", EVENT), 1);
    CHECK_INT(match("{type: a}", "{\"data\":1}"), 0);
    CHECK_INT(match("{type: a}", "[]"), 0);
}

TEST(the_data_must_equal_a_literal)
{
    CHECK_INT(match("{data: {tags: [a], total: 20.0}}", EVENT), 1);
    CHECK_INT(match("{data: {total: 20}}", EVENT), 0);
    CHECK_INT(match("{data: text}", "{\"data\":\"text\"}"), 1);
    CHECK_INT(match("{data: 5}", "{\"data\":\"5\"}"), 0);
    CHECK_INT(match("{data: null}", "{\"data\":null}"), 1);
    CHECK_INT(match("{data: null}", "{\"id\":\"1\"}"), 0);
}

TEST(regular_expressions_match_the_whole_value)
{
    CHECK_INT(match("{type: 'com\\.example\\..*'}", EVENT), 1);
    CHECK_INT(match("{type: 'com\\.example'}", EVENT), 0);
    CHECK_INT(match("{subject: 'order-[0-9]+'}", EVENT), 1);
    CHECK_INT(match("{subject: 'order|order-1'}", EVENT), 0);
    CHECK_INT(match("{subject: 'order-(17|18)'}", EVENT), 1);
}

TEST(expressions)
{
    CHECK_INT(match("{type: com.example.made, data: '${ .total > 10 }'}", EVENT), 1);
    CHECK_INT(match("{type: com.example.made, data: '${ .total > 100 }'}", EVENT), 0);
    CHECK_INT(match("{subject: '${ .subject == \"order-17\" }'}", EVENT), 1);
    CHECK_INT(match("{subject: '${ $event.data.total == 20 }'}", EVENT), 1);
    CHECK_INT(match("{data: '${ .nosuch }'}", EVENT), 0);
    CHECK(match("{data: '${ .total.x }'}", EVENT) < 0);
    /* A literal that does not match decides before an expression can fail. */
    CHECK_INT(match("{data: '${ .total.x }', subject: other}", EVENT), 0);
}

TEST(an_expression_for_a_child_is_in_progress_when_all_else_matches)
{
    CHECK_INT(match("{data: '${ [limit(1; .tags[])] | length == 1 }'}", EVENT), -EINPROGRESS);
    CHECK_INT(match("{data: '${ [limit(1; .tags[])] | length == 1 }', subject: other}", EVENT), 0);
    CHECK_INT(match("{data: '${ [limit(1; .tags[])] | length == 1 }', subject: '${ false }'}",
                    EVENT),
              0);
}
