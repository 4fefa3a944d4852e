/* A call of use.functions, step by step: what goes in, what `with` sees, what comes out. */
#include "flow/step.h"

#include <stdio.h>

#include "flows.h"
#include "unit.h"

SUITE("flow/function")

#define HEAD                                                                                       \
    FLOW_HEAD "use:\n  functions:\n    rate:\n      input: {from: '{to: .currency}'}\n"            \
              "      call: http\n      with: {method: get, endpoint: 'https://example.com/{to}', " \
              "query: {from: '${ $input.to }'}}\n      output: {as: .rate}\n"                      \
              "    plain: {set: {got: '${ . }', input: '${ $input }'}}\ndo:\n"

struct run {
    struct flow *flow;
    struct val *raw;
    struct step *step;
};

static void begin(struct run *r, const char *task, const char *ref, const char *raw)
{
    char text[2048];
    (void)snprintf(text, sizeof text, "%s  - %s\n", HEAD, task);
    r->flow = flow_of(text, NULL);
    NEED(r->flow != NULL);
    r->raw = val_text_new(sl_str(raw));
    struct step_in in = {.flow = r->flow,
                         .phase = PHASE_TASK,
                         .task = flow_task(r->flow, sl_str(ref)),
                         .raw = r->raw,
                         .run_id = "run"};
    NEED(in.task != NULL);
    r->step = step_new(&in);
    NEED(r->step != NULL);
}

static void end(struct run *r)
{
    step_free(r->step);
    val_unref(r->raw);
    flow_unref(r->flow);
}

TEST(arguments_pass_through_the_function_and_back)
{
    struct run r;
    begin(&r,
          "a: {call: rate, with: {currency: '${ .c }'}, input: {from: .order}, output: {as: "
          "'{rate: ., c: $input.c}'}}",
          "/do/0/a", "{\"order\":{\"c\":\"EUR\"}}");
    CHECK_INT(step_run(r.step), STEP_EFFECT);
    CHECK_STR(text_of(step_call(r.step)),
              "{\"endpoint\":\"https://example.com/"
              "{to}\",\"method\":\"get\",\"query\":{\"from\":\"EUR\"},\"$input\":"
              "{\"to\":\"EUR\"}}");
    step_answer_effect(r.step, json_of("{\"rate\":1.1}"), NULL);
    CHECK_INT(step_run(r.step), STEP_DONE);
    CHECK_STR(val_text(step_output(r.step)).p, "{\"rate\":1.1,\"c\":\"EUR\"}");
    end(&r);
}

TEST(without_arguments_the_input_goes_in)
{
    struct run r;
    begin(&r, "a: {call: plain, input: {from: .x}}", "/do/0/a", "{\"x\":[1]}");
    CHECK_INT(step_run(r.step), STEP_DONE);
    CHECK_STR(val_text(step_output(r.step)).p, "{\"got\":[1],\"input\":[1]}");
    end(&r);
}

TEST(a_failing_argument_is_an_expression_error_of_the_task)
{
    struct run r;
    begin(&r, "a: {call: plain, with: {x: '${ .a.b.c }'}}", "/do/0/a", "{\"a\":5}");
    CHECK_INT(step_run(r.step), STEP_FAULT);
    CHECK(problem_is(step_problem(r.step), "expression"));
    CHECK_STR(step_problem(r.step)->instance, "/do/0/a");
    end(&r);
}
