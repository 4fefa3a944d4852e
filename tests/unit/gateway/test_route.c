/* Which content types a client accepts. */
#include "gateway/route.h"

#include "unit.h"

SUITE("gateway/route")

TEST(an_accept_field_is_held_against_what_a_route_answers)
{
    static const struct answer json[] = {{200, "", "{}", NULL}, {404, "", "{}", NULL}, {0}},
                               stream[] = {{200, "", NULL, "text/event-stream"}, {0}},
                               none[] = {{204, "", NULL, NULL}, {0}};
    static const struct {
        const char *accept;
        bool json, stream;
    } rows[] = {
        {NULL, true, true},
        {"", true, true},
        {"*/*", true, true},
        {"application/json", true, false},
        {"APPLICATION/JSON; charset=utf-8", true, false},
        {"application/*", true, false},
        {"text/*", false, true},
        {"text/event-stream", false, true},
        {"text/html", false, false},
        {"text/html, */*;q=0.1", true, true},
        {"text/html;q=1,application/json;q=0.001", true, false},
        {"*/*, application/json;q=0", false, true},
        {"application/json;q=0.0, */*", false, true},
        {"application/json;q=0, application/*;q=1", false, false},
        {"application/jsonx, xapplication/json, application", false, false},
        {",;,", false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (route_accepted(&(struct route){.answers = json}, rows[i].accept) != rows[i].json ||
            route_accepted(&(struct route){.answers = stream}, rows[i].accept) != rows[i].stream)
            CHECK_STR(rows[i].accept, "the expected");
        CHECK(route_accepted(&(struct route){.answers = none}, rows[i].accept));
    }
}
