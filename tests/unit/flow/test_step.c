/* The order of tasks and the flow of data, by walking whole definitions as the engine does: each
 * step gives where to go on, a stack of frames holds what surrounding tasks were given. Every
 * effect answers with the name of its task. */
#include "flow/step.h"

#include <errno.h>
#include <stdio.h>

#include "flows.h"
#include "unit.h"

SUITE("flow/step")

#define FRAMES    4
#define STEPS_MAX 64

struct walk {
    struct flow *flow;
    struct val *wf_raw, *value, *context;
    struct {
        struct val *raw, *in;
    } frames[FRAMES];
    size_t depth;
    char trace[1024]; /* tasks in order; (skipped), [wait in ms], /left */
    char fault[512];  /* type's name, status, instance: detail */
};

static void told(struct walk *w, const char *form, const char *name)
{
    size_t n = strlen(w->trace);
    (void)snprintf(w->trace + n, sizeof w->trace - n, n ? " " : "%s", "");
    n = strlen(w->trace);
    (void)snprintf(w->trace + n, sizeof w->trace - n, form, name);
}

static void told_fault(struct walk *w, const struct problem *p)
{
    const char *name = p->type ? strrchr(p->type, '/') : NULL;
    (void)snprintf(w->fault, sizeof w->fault, "%s %d %s: %s", name ? name + 1 : "-", p->status,
                   p->instance ? p->instance : "-", p->detail ? p->detail : "-");
}

static enum step_want to_its_end(struct walk *w, struct step *s, const struct task *t)
{
    char text[64];
    for (int i = 0; i < STEPS_MAX; i++) {
        enum step_want want = step_run(s);
        if (want == STEP_EFFECT) {
            (void)snprintf(text, sizeof text, "{\"from\":\"%s\"}", t->name);
            step_answer_effect(s, json_of(text), NULL);
        } else if (want == STEP_WAIT) {
            (void)snprintf(text, sizeof text, "%lld", (long long)step_wait_ms(s));
            told(w, "[%s]", text);
            step_answer_wait(s);
        } else if (want == STEP_EVAL) {
            struct err e = {0};
            struct json_object *v =
                flow_evaluate(step_eval_tmpl(s), step_eval_input(s), step_eval_args(s), &e);
            step_answer_eval(s, v, &e);
        } else {
            return want;
        }
    }
    return STEP_EVAL;
}

static void keep(struct val **at, struct val *v)
{
    struct val *old = *at;
    *at = val_ref(v);
    val_unref(old);
}

static void pop(struct walk *w)
{
    NEED(w->depth > 0);
    w->depth--;
    keep(&w->frames[w->depth].raw, NULL);
    keep(&w->frames[w->depth].in, NULL);
}

static struct step_in given(const struct walk *w, struct step_next at)
{
    struct step_in in = {.flow = w->flow,
                         .phase = at.phase,
                         .task = at.task,
                         .raw = w->value,
                         .context = w->context,
                         .wf_raw = w->wf_raw,
                         .now_ms = 1000,
                         .task_started_ms = 2000,
                         .run_started_ms = 3000,
                         .run_id = "run-1"};
    if (at.phase == PHASE_LEAVE) {
        in.frame_raw = w->frames[w->depth - 1].raw;
        in.frame_in = w->frames[w->depth - 1].in;
    }
    return in;
}

/* One step; false when the walk is over. */
static bool one(struct walk *w, struct step_next *at)
{
    bool last = at->phase == PHASE_FINISH;
    struct step_in in = given(w, *at);
    struct step *s = step_new(&in);
    NEED(s != NULL);
    enum step_want want = to_its_end(w, s, at->task);
    if (at->phase == PHASE_TASK)
        told(w, step_skipped(s) ? "(%s)" : "%s", at->task->name);
    if (at->phase == PHASE_LEAVE) {
        told(w, "/%s", at->task->name);
        pop(w);
    }
    if (want == STEP_FAULT) {
        told_fault(w, step_problem(s));
        step_free(s);
        return false;
    }
    if (want == STEP_ENTER) {
        NEED(w->depth < FRAMES);
        keep(&w->frames[w->depth].raw, w->value);
        keep(&w->frames[w->depth++].in, step_output(s));
    } else {
        CHECK_INT(want, STEP_DONE);
    }
    if (step_exports(s))
        keep(&w->context, step_context(s));
    keep(&w->value, step_output(s));
    *at = step_next(s);
    step_free(s);
    return !last;
}

static void walk(struct walk *w, const char *body, const char *input)
{
    char text[4096];
    memset(w, 0, sizeof *w);
    (void)snprintf(text, sizeof text, "%s%s", FLOW_HEAD, body);
    w->flow = flow_of(text, NULL);
    NEED(w->flow != NULL);
    w->wf_raw = val_text_new(sl_str(input));
    keep(&w->value, w->wf_raw);
    struct step_next at = {PHASE_START, NULL};
    int left = STEPS_MAX;
    while (left-- > 0 && one(w, &at)) {
    }
    CHECK(left > 0);
}

/* The walk's order and its output, or how what it failed with begins. */
static void check_walk(const char *body, const char *input, const char *trace, const char *result)
{
    struct walk w;
    walk(&w, body, input);
    CHECK_STR(w.trace, trace);
    if (strlen(w.fault) > strlen(result))
        w.fault[strlen(result)] = '\0';
    CHECK_STR(w.fault[0] ? w.fault : val_text(w.value).p, result);
    while (w.depth)
        pop(&w);
    val_unref(w.wf_raw);
    val_unref(w.value);
    val_unref(w.context);
    flow_unref(w.flow);
}

TEST(the_output_of_a_task_is_the_raw_input_of_the_next)
{
    check_walk("do:\n  - a: {set: {n: '${ .n + 1 }'}}\n  - b: {set: {n: '${ .n * 10 }'}}\n",
               "{\"n\":1}", "a b", "{\"n\":20}");
}

TEST(input_from_makes_dollar_input_and_output_as_makes_the_output)
{
    check_walk("do:\n  - a: {input: {from: .order}, set: {got: '${ . }', same: '${ $input }'},"
               " output: {as: '{got: .got, in: $input}'}}\n",
               "{\"order\":7}", "a", "{\"got\":7,\"in\":7}");
}

TEST(the_workflows_own_input_and_output)
{
    check_walk("input: {from: .body}\noutput: {as: '{answer: ., n: $workflow.input.body.n}'}\n"
               "do:\n  - a: {set: {m: '${ .n }'}}\n",
               "{\"body\":{\"n\":3}}", "a", "{\"answer\":{\"m\":3},\"n\":3}");
}

TEST(an_export_replaces_the_context_and_sees_the_output)
{
    check_walk("output: {as: $context}\ndo:\n"
               "  - a: {set: {x: 1}, output: {as: .x}, export: {as: '{a: .}'}}\n"
               "  - b: {set: {y: '${ $context.a }'}, export: {as: '{b: $output.y, in: $input}'}}\n"
               "  - c: {set: {z: 1}}\n",
               "{}", "a b c", "{\"b\":1,\"in\":1}");
}

TEST(context_is_null_before_the_first_export)
{
    check_walk("do:\n  - a: {set: {c: '${ $context }'}}\n", "{}", "a", "{\"c\":null}");
}

TEST(if_sees_the_raw_input_before_input_from)
{
    check_walk("do:\n  - a: {if: '.go', input: {from: .x}, set: {v: '${ . }'}}\n",
               "{\"go\":true,\"x\":5}", "a", "{\"v\":5}");
}

TEST(a_skipped_task_passes_its_raw_input_and_ignores_all_else)
{
    check_walk("do:\n"
               "  - a: {if: '.go', input: {from: .x}, set: {v: 1}, output: {as: .no},"
               " export: {as: '{bad: 1}'}, then: end}\n"
               "  - b: {set: {in: '${ . }', c: '${ $context }'}}\n",
               "{\"go\":false,\"x\":5}", "(a) b", "{\"in\":{\"go\":false,\"x\":5},\"c\":null}");
    check_walk("do:\n  - box: {if: 'null', do: [{in: {set: {x: 1}}}]}\n", "4", "(box)", "4");
}

TEST(zero_and_empty_text_are_true_only_null_and_false_are_not)
{
    check_walk("do:\n  - a: {if: '.z', set: {x: 1}, output: {as: '{z: \"\"}'}}\n"
               "  - b: {if: '.z', set: {x: 2}}\n",
               "{\"z\":0}", "a b", "{\"x\":2}");
}

TEST(then_goes_to_a_task_backwards_too)
{
    check_walk("do:\n"
               "  - up: {set: {n: '${ .n + 1 }'}}\n"
               "  - more: {switch: [{yes: {when: .n < 3, then: up}}, {no: {then: exit}}]}\n",
               "{\"n\":0}", "up more up more up more", "{\"n\":3}");
}

TEST(then_jumps_over_tasks)
{
    check_walk("do:\n  - a: {set: {x: 1}, then: c}\n  - b: {set: {x: 2}}\n"
               "  - c: {set: {y: '${ .x }'}}\n",
               "{}", "a c", "{\"y\":1}");
}

TEST(exit_ends_the_list_end_ends_the_workflow)
{
    const char *form = "output: {as: '{out: .}'}\ndo:\n  - box:\n      do:\n"
                       "        - in: {set: {x: 1}, then: %s}\n        - no: {set: {x: 2}}\n"
                       "      output: {as: '{boxed: .x}'}\n  - after: {set: {a: '${ . }'}}\n";
    char text[1024];
    (void)snprintf(text, sizeof text, form, "exit");
    check_walk(text, "{}", "box in /box after", "{\"out\":{\"a\":{\"boxed\":1}}}");
    (void)snprintf(text, sizeof text, form, "end");
    check_walk(text, "{}", "box in", "{\"out\":{\"x\":1}}");
    check_walk("do:\n  - a: {set: {x: 1}, then: exit}\n  - b: {set: {x: 2}}\n", "{}", "a",
               "{\"x\":1}");
}

TEST(a_switch_takes_the_first_case_that_holds)
{
    const char *body =
        "do:\n  - s:\n      switch:\n        - other: {then: c}\n"
        "        - low: {when: .n < 5, then: a}\n"
        "        - any: {when: .n < 9, then: b}\n"
        "  - a: {set: '${ \"a\" }', then: end}\n  - b: {set: '${ \"b\" }', then: end}\n"
        "  - c: {set: '${ \"c\" }', then: end}\n";
    check_walk(body, "{\"n\":1}", "s a", "\"a\"");
    check_walk(body, "{\"n\":7}", "s b", "\"b\"");
    check_walk(body, "{\"n\":9}", "s c", "\"c\"");
}

TEST(a_switch_without_a_match_goes_on_and_passes_its_input)
{
    check_walk("do:\n  - s: {input: {from: .o}, switch: [{a: {when: .n > 5, then: end}}]}\n"
               "  - b: {set: {got: '${ . }'}}\n",
               "{\"o\":{\"n\":1}}", "s b", "{\"got\":{\"n\":1}}");
    check_walk("do:\n  - s: {switch: [{a: {when: .n > 5, then: b}}], then: c}\n"
               "  - b: {set: {x: 1}, then: end}\n  - c: {set: {x: 2}}\n",
               "{\"n\":1}", "s c", "{\"x\":2}");
}

TEST(a_do_gives_its_input_in_and_the_last_output_out)
{
    check_walk("do:\n  - box:\n      input: {from: .o}\n      do:\n"
               "        - one: {set: {n: '${ .n + 1 }'}}\n"
               "        - inner: {do: [{two: {set: {n: '${ .n + 1 }'}}}]}\n"
               "      output: {as: '{sum: .n, in: $input.n, raw: $task.input.o.n}'}\n"
               "      export: {as: '{kept: $output.sum}'}\n"
               "  - after: {set: {s: '${ .sum }', all: '${ $context.kept }', in: '${ .in }',"
               " raw: '${ .raw }'}}\n",
               "{\"o\":{\"n\":1}}", "box one inner two /inner /box after",
               "{\"s\":3,\"all\":3,\"in\":1,\"raw\":1}");
}

TEST(an_empty_do_gives_its_input)
{
    check_walk("do:\n  - box: {input: {from: .o}, do: []}\n", "{\"o\":2}", "box /box", "2");
    check_walk("do: []\n", "{\"o\":2}", "", "{\"o\":2}");
}

TEST(a_wait_passes_its_input)
{
    check_walk("do:\n  - w: {wait: {seconds: 2}, input: {from: .o}}\n", "{\"o\":2}", "[2000] w",
               "2");
    check_walk("do:\n  - w: {wait: 'PT1.5S'}\n", "1", "[1500] w", "1");
    check_walk("do:\n  - w: {wait: '${ .d }'}\n", "{\"d\":{\"minutes\":1}}", "[60000] w",
               "{\"d\":{\"minutes\":1}}");
    check_walk("do:\n  - w: {wait: '${ .d }'}\n", "{\"d\":true}", "w",
               "expression 400 /do/0/w: wait: a duration must be a text or a mapping");
}

TEST(a_raise_ends_with_its_error_and_place)
{
    const char *body = "use: {errors: {gone: {type: 'https://example.com/gone', status: 410,"
                       " title: Gone, detail: '${ .why }'}}}\ndo:\n  - box:\n      do:\n"
                       "        - r: {raise: {error: gone}}\n  - no: {set: {x: 1}}\n";
    check_walk(body, "{\"why\":\"sold\"}", "box r", "gone 410 /do/0/box/do/0/r: sold");
    check_walk("do:\n  - r: {raise: {error: {type: 'https://example.com/t', status: 400,"
               " instance: /mine}}}\n",
               "{}", "r", "t 400 /mine: -");
}

TEST(an_effect_answers_with_the_raw_output)
{
    check_walk("do:\n  - a: {call: http, with: {method: get, endpoint: 'https://example.com/'},"
               " output: {as: '{by: .from}'}}\n",
               "{}", "a", "{\"by\":\"a\"}");
}

TEST(a_failed_expression_names_task_and_place)
{
    check_walk("do:\n  - a: {set: {x: 1}, output: {as: '.x.y'}}\n", "{}", "a",
               "expression 400 /do/0/a: output.as: Cannot index number with string \"y\"");
}

TEST(what_an_expression_can_know_of_task_and_run)
{
    check_walk("do:\n  - a: {set: {n: '${ $task.name }', r: '${ $task.reference }', i: "
               "'${ $task.input }', t: '${ $task.startedAt.epoch.seconds }', w: '${ $workflow.id "
               "}', v: '${ $workflow.definition.document.name }', k: '${ $runtime.name }'}}\n",
               "5", "a",
               "{\"n\":\"a\",\"r\":\"/do/0/a\",\"i\":5,\"t\":2,\"w\":\"run-1\",\"v\":\"test\","
               "\"k\":\"tidemark\"}");
}

TEST(the_same_inputs_give_the_same_step_again)
{
    struct walk w[2];
    const char *body = "do:\n  - a: {set: {t: '${ now }'}}\n";
    for (int i = 0; i < 2; i++)
        walk(&w[i], body, "{}");
    CHECK_STR(val_text(w[0].value).p, "{\"t\":1}");
    CHECK_STR(val_text(w[1].value).p, val_text(w[0].value).p);
    for (int i = 0; i < 2; i++) {
        val_unref(w[i].wf_raw);
        val_unref(w[i].value);
        flow_unref(w[i].flow);
    }
}

struct asked {
    struct flow *flow;
    struct val *raw;
    struct step *step;
};

static void ask(struct asked *a, const char *body, const char *raw)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "%sdo:\n  - a: %s\n", FLOW_HEAD, body);
    a->flow = flow_of(text, NULL);
    NEED(a->flow != NULL);
    a->raw = val_text_new(sl_str(raw));
    struct step_in in = {.flow = a->flow,
                         .phase = PHASE_TASK,
                         .task = flow_task(a->flow, sl_str("/do/0/a")),
                         .raw = a->raw,
                         .run_id = "run"};
    NEED(in.task != NULL);
    a->step = step_new(&in);
    NEED(a->step != NULL);
}

static void asked_end(struct asked *a)
{
    step_free(a->step);
    val_unref(a->raw);
    flow_unref(a->flow);
}

TEST(what_is_not_inline_is_asked_for_and_its_answer_used)
{
    struct asked a;
    ask(&a,
        "{input: {from: 'def f: .x; f'}, set: {v: '${ . }'}, output: {as: 'def g: $input; "
        "[g, .v]'}}",
        "{\"x\":4}");
    CHECK_INT(step_run(a.step), STEP_EVAL);
    CHECK_STR(text_of(step_eval_input(a.step)), "{\"x\":4}");
    step_answer_eval(a.step, json_of("4"), NULL);
    CHECK_INT(step_run(a.step), STEP_EVAL);
    CHECK_STR(text_of(step_eval_input(a.step)), "{\"v\":4}");
    CHECK_STR(text_of(step_eval_args(a.step)->var[VAR_INPUT]), "4");
    step_answer_eval(a.step, json_of("[4,4]"), NULL);
    CHECK_INT(step_run(a.step), STEP_DONE);
    CHECK_STR(val_text(step_output(a.step)).p, "[4,4]");
    asked_end(&a);
}

TEST(every_case_that_is_not_inline_is_asked_for_in_turn)
{
    struct asked a;
    ask(&a,
        "{switch: [{one: {when: 'def f: .x; f == 1', then: end}}, {no: {when: 'false', then: a}},"
        " {two: {when: 'def f: .x; f == 2', then: exit}}]}",
        "{\"x\":2}");
    CHECK_INT(step_run(a.step), STEP_EVAL);
    step_answer_eval(a.step, json_of("false"), NULL);
    CHECK_INT(step_run(a.step), STEP_EVAL);
    step_answer_eval(a.step, json_of("true"), NULL);
    CHECK_INT(step_run(a.step), STEP_DONE);
    CHECK_INT(step_next(a.step).phase, PHASE_FINISH);
    CHECK_STR(val_text(step_output(a.step)).p, "{\"x\":2}");
    asked_end(&a);
}

TEST(an_evaluation_that_failed_is_a_fault_of_the_task)
{
    struct asked a;
    struct err e = {0};
    ask(&a, "{set: {v: '${ def f: .x; f }'}}", "{\"x\":4}");
    CHECK_INT(step_run(a.step), STEP_EVAL);
    err_set(&e, -EINVAL, "try another", "no such thing");
    step_answer_eval(a.step, NULL, &e);
    CHECK_INT(step_run(a.step), STEP_FAULT);
    CHECK(problem_is(step_problem(a.step), "expression"));
    CHECK_STR(step_problem(a.step)->instance, "/do/0/a");
    CHECK(strstr(step_problem(a.step)->detail, "no such thing; try another") != NULL);
    asked_end(&a);
}

TEST(an_effect_that_failed_is_a_fault_with_its_problem)
{
    struct asked a;
    struct problem p = {0};
    ask(&a, "{run: {shell: {command: 'false'}}}", "{}");
    CHECK_INT(step_run(a.step), STEP_EFFECT);
    CHECK_STR(text_of(step_call(a.step)), "{\"command\":\"false\",\"$input\":{}}");
    CHECK_INT(problem_set(&p, "runtime", 0, "exit status 1", "%s", "it said no"), 0);
    step_answer_effect(a.step, NULL, &p);
    CHECK_INT(step_run(a.step), STEP_FAULT);
    CHECK_INT(step_problem(a.step)->status, 500);
    CHECK_STR(step_problem(a.step)->detail, "it said no");
    CHECK_STR(step_problem(a.step)->instance, "/do/0/a");
    problem_free(&p);
    asked_end(&a);
}

TEST(an_effect_that_gives_nothing_gives_null)
{
    struct asked a;
    ask(&a, "{run: {shell: {command: 'true'}, return: none}}", "{}");
    CHECK_INT(step_run(a.step), STEP_EFFECT);
    step_answer_effect(a.step, NULL, NULL);
    CHECK_INT(step_run(a.step), STEP_DONE);
    CHECK(val_tree(step_output(a.step)) == NULL);
    asked_end(&a);
}

/* ---- schemas ---- */

TEST(raw_input_is_judged_before_input_from_and_output_behind_output_as)
{
    const char *body = "do:\n  - a:\n      set: {n: '${ .n }', m: 1}\n"
                       "      input: {from: .in, schema: {document: {required: [in]}}}\n"
                       "      output: {as: .n, schema: {document: {type: number}}}\n";
    check_walk(body, "{\"in\":{\"n\":5}}", "a", "5");
    check_walk(body, "{\"n\":5}", "a",
               "validation 400 /do/0/a: input.schema: lacks the property 'in'");
    check_walk(body, "{\"in\":{\"n\":\"x\"}}", "a",
               "validation 400 /do/0/a: output.schema: must be a number, but is a string");
}

TEST(the_context_is_judged_behind_export_as)
{
    const char *body = "do:\n  - a:\n      set: {n: '${ .n }'}\n"
                       "      export: {as: '{n: .n}', schema: {document: {properties: {n: "
                       "{maximum: 3}}}}}\n";
    check_walk(body, "{\"n\":3}", "a", "{\"n\":3}");
    check_walk(body, "{\"n\":4}", "a",
               "validation 400 /do/0/a: export.schema: /n: must be at most 3");
}

TEST(a_workflow_judges_its_raw_input_and_its_output)
{
    const char *body = "input: {from: .n, schema: {document: {required: [n]}}}\n"
                       "output: {schema: {document: {minimum: 10}}}\n"
                       "do:\n  - a: {set: '${ . * 2 }'}\n";
    check_walk(body, "{\"n\":5}", "a", "10");
    check_walk(body, "{}", "", "validation 400 /input: input.schema: lacks the property 'n'");
    check_walk(body, "{\"n\":4}", "a",
               "validation 400 /output: output.schema: must be at least 10");
    check_walk("input: {schema: {document: false}}\ndo: []\n", "{}", "",
               "validation 400 /input: input.schema: is not allowed");
}

TEST(a_function_judges_what_it_is_given_and_what_it_gives)
{
    const char *body = "use:\n  functions:\n    double:\n      set: {n: '${ .n * 2 }'}\n"
                       "      input: {schema: {document: {properties: {n: {type: number}}}}}\n"
                       "      output: {as: .n, schema: {document: {maximum: 8}}}\n"
                       "do:\n  - a: {call: double, with: {n: '${ .x }'}}\n";
    check_walk(body, "{\"x\":4}", "a", "8");
    check_walk(body, "{\"x\":\"y\"}", "a",
               "validation 400 /do/0/a: the function's input.schema: /n: must be a number");
    check_walk(body, "{\"x\":5}", "a",
               "validation 400 /do/0/a: the function's output.schema: must be at most 8");
}

TEST(a_composite_task_judges_on_the_way_in_and_on_the_way_out_and_a_skipped_one_not_at_all)
{
    const char *body = "do:\n  - box:\n      if: .go\n"
                       "      input: {schema: {document: {required: [n]}}}\n"
                       "      output: {schema: {document: {required: [m]}}}\n"
                       "      do:\n        - in: {set: '${ .n }'}\n";
    check_walk(body, "{\"go\":true,\"n\":{\"m\":1}}", "box in /box", "{\"m\":1}");
    check_walk(body, "{\"go\":true}", "box",
               "validation 400 /do/0/box: input.schema: lacks the property 'n'");
    check_walk(body, "{\"go\":true,\"n\":{}}", "box in /box",
               "validation 400 /do/0/box: output.schema: lacks the property 'm'");
    check_walk(body, "{\"go\":false}", "(box)", "{\"go\":false}");
}
