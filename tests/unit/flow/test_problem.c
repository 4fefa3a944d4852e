/* Problem details: type URIs, default status, JSON there and back, known prefixes. */
#include "unit.h"

#include <errno.h>

#include "base/js.h"
#include "flow/problem.h"

SUITE("flow/problem")

TEST(problem_has_uri_default_status_and_title)
{
    struct problem p = {0};
    NEED(problem_set(&p, "communication", 0, NULL, "host %s", "x") == 0);
    CHECK_STR(p.type, PROBLEM_PREFIX "communication");
    CHECK_INT(p.status, 500);
    CHECK_STR(p.title, "Communication error");
    CHECK_STR(p.detail, "host x");
    NEED(problem_set(&p, "communication", 404, "Not there", NULL) == 0);
    CHECK_INT(p.status, 404);
    CHECK_STR(p.title, "Not there");
    CHECK(p.detail == NULL);
    problem_free(&p);
    CHECK_INT(p.status, 0);
}

TEST(problem_defaults_follow_the_specification)
{
    static const struct {
        const char *name;
        int status;
    } want[] = {{"configuration", 400},  {"validation", 400},    {"expression", 400},
                {"authentication", 401}, {"authorization", 403}, {"timeout", 408},
                {"communication", 500},  {"runtime", 500}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct problem p = {0};
        NEED(problem_set(&p, want[i].name, 0, NULL, NULL) == 0);
        CHECK_INT(p.status, want[i].status);
        CHECK(problem_is(&p, want[i].name));
        problem_free(&p);
    }
}

TEST(problem_goes_through_json)
{
    struct problem p = {0}, q = {0};
    NEED(problem_set(&p, "timeout", 0, NULL, "after %d ms", 5) == 0);
    p.instance = strdup("/do/0/a");
    struct json_object *o = problem_json(&p);
    NEED(o != NULL);
    NEED(problem_from_json(&q, o) == 0);
    CHECK_STR(q.type, p.type);
    CHECK_STR(q.detail, "after 5 ms");
    CHECK_STR(q.instance, "/do/0/a");
    CHECK_INT(q.status, 408);
    json_object_put(o);
    problem_free(&p);
    problem_free(&q);
}

TEST(problem_from_json_needs_type_and_status)
{
    static const char *const bad[] = {"[]",
                                      "{}",
                                      "{\"type\":\"x\"}",
                                      "{\"status\":400}",
                                      "{\"type\":1,\"status\":400}",
                                      "{\"type\":\"x\",\"status\":400,\"title\":[]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json_object *o = NULL;
        NEED(js_parse(sl_str(bad[i]), &o, NULL) == 0);
        struct problem p = {0};
        CHECK_INT(problem_from_json(&p, o), -EINVAL);
        CHECK(p.type == NULL);
        json_object_put(o);
    }
}

TEST(problem_is_known_under_its_former_addresses)
{
    static const struct {
        const char *type;
        bool is;
    } t[] = {{"https://open-workflow-specification.org/spec/1.0.0/errors/timeout", true},
             {"https://serverlessworkflow.io/spec/1.0.0/errors/timeout", true},
             {"https://serverlessworkflow.io/spec/1.0.3/errors/timeout", true},
             {"https://serverlessworkflow.io/dsl/errors/types/timeout", true},
             {"https://open-workflow-specification.org/dsl/errors/types/timeout", true},
             {"https://example.com/errors/timeout", false},
             {"https://serverlessworkflow.io/spec/1.0.0/errors/timeouts", false},
             {"https://serverlessworkflow.io/spec/1.0.0/errors/x/timeout", false},
             {"timeout", false}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct problem p = {.type = (char *)t[i].type, .status = 1};
        CHECK_INT(problem_is(&p, "timeout"), t[i].is);
    }
}

TEST(problem_detail_is_always_text)
{
    struct problem p = {0};
    NEED(problem_set(&p, "runtime", 0, NULL, "%s",
                     "a\xff"
                     "b") == 0);
    CHECK_STR(p.detail, "a\xef\xbf\xbd"
                        "b");
    problem_free(&p);
}
