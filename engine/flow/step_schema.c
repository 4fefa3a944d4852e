/* The stages that hold data against a schema (step_int.h; specification, "Data Flow"): raw input
 * before input.from, output behind output.as, the new context behind export.as. Data that does not
 * fit is validation/400, and its detail names every place that is wrong. */
#include "flow/step_int.h"

#include <errno.h>

#include "flow/schema.h"

#define DETAIL_MAX 4000 /* bytes; problem_set has room for the rest of its sentence */

static int fault(struct step *s, struct json_object *problems, const char *what)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    schema_explain(problems, &b);
    bool cut = b.n > DETAIL_MAX;
    problem_set(&s->problem, "validation", 0, "the data does not fit its schema", "%s: %.*s%s",
                what, (int)(cut ? DETAIL_MAX : b.n), b.n ? b.p : "", cut ? "..." : "");
    buf_free(&b);
    if (!s->in.task && !s->problem.instance)
        s->problem.instance = strdup(s->in.phase == PHASE_START ? "/input" : "/output");
    return STAGE_FAULT;
}

static int check(struct step *s, const struct tmpl *schema, struct val *v, const char *what,
                 enum stage next)
{
    struct json_object *problems = NULL;
    int r = schema ? step_evaluate(s, schema, v, what, &problems) : STAGE_ON;
    if (schema && r > 0 && json_object_array_length(problems))
        r = fault(s, problems, what);
    json_object_put(problems);
    if (r > 0)
        s->stage = next;
    return r;
}

bool step_not_judged(struct step *s, const struct err *e)
{
    if (!tmpl_is_schema(s->tmpl))
        return false;
    problem_set(&s->problem, "validation", 0, "the data can't be judged by its schema", "%s; %s",
                e->msg, e->hint);
    if (!s->in.task && !s->problem.instance)
        s->problem.instance = strdup(s->in.phase == PHASE_START ? "/input" : "/output");
    return true;
}

int stage_check_in(struct step *s)
{
    const struct tmpl *schema =
        s->in.phase == PHASE_START ? flow_info(s->in.flow)->input_schema : s->in.task->input_schema;
    return check(s, schema, s->in.raw, "input.schema", ST_FROM);
}

int stage_check_fn_in(struct step *s)
{
    return check(s, s->in.task->function->input_schema, s->fn_input, "the function's input.schema",
                 ST_FN_FROM);
}

int stage_check_fn_out(struct step *s)
{
    const struct function *f = s->in.task->function;
    return check(s, f ? f->output_schema : NULL, s->raw_out, "the function's output.schema", ST_AS);
}

int stage_check_out(struct step *s)
{
    bool finish = s->in.phase == PHASE_FINISH;
    const struct tmpl *schema =
        finish ? flow_info(s->in.flow)->output_schema : s->in.task->output_schema;
    return check(s, schema, s->output, "output.schema", finish ? ST_END : ST_EXPORT);
}

int stage_check_export(struct step *s)
{
    struct val *context = s->exported ? s->context : s->in.context;
    return check(s, s->in.task->export_schema, context, "export.schema", ST_END);
}
