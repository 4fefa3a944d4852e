/* What the expressions of a step see: the variables of the specification. */
#include <errno.h>

#include "base/clock.h"
#include "flow/step_int.h"

/* Each of these is NULL when memory ran out. */
static struct json_object *whole(struct json_object *o, int error)
{
    if (!error)
        return o;
    json_object_put(o);
    return NULL;
}

static struct json_object *moment(int64_t ms)
{
    char text[TIME_TEXT_MAX];
    struct json_object *o = json_object_new_object(), *epoch = json_object_new_object();
    time_write(text, ms);
    int error = js_put_new(o, "iso8601", json_object_new_string(text));
    error |= js_put_new(epoch, "seconds", json_object_new_int64(ms / 1000));
    error |= js_put_new(epoch, "milliseconds", json_object_new_int64(ms));
    error |= js_put_new(o, "epoch", epoch);
    return whole(o, error);
}

static struct json_object *task_var(const struct step *s)
{
    const struct task *t = s->in.task;
    struct json_object *o = json_object_new_object();
    struct val *raw = s->in.phase == PHASE_TASK ? s->in.raw : s->in.frame_raw;
    int error = js_put_new(o, "name", json_object_new_string(t->name));
    error |= js_put_new(o, "reference", json_object_new_string(s->in.ref ? s->in.ref : t->ref));
    error |= js_put(o, "definition", json_object_get(t->definition));
    error |= js_put(o, "input", json_object_get(val_tree(raw)));
    if (s->raw_out)
        error |= js_put(o, "output", json_object_get(val_tree(s->raw_out)));
    error |= js_put_new(o, "startedAt", moment(s->in.task_started_ms));
    return whole(o, error);
}

static struct json_object *workflow_var(const struct step *s)
{
    const struct flow_info *fi = flow_info(s->in.flow);
    struct json_object *o = json_object_new_object(), *def = NULL;
    int error = js_put_new(o, "id", json_object_new_string(s->in.run_id));
    error |= js_parse(fi->text, &def, NULL);
    error |= js_put(o, "definition", def);
    error |= js_put(o, "input", json_object_get(val_tree(s->in.wf_raw)));
    error |= js_put_new(o, "startedAt", moment(s->in.run_started_ms));
    return whole(o, error);
}

static struct json_object *runtime_var(void)
{
    struct json_object *o = json_object_new_object();
    int error = js_put_new(o, "name", json_object_new_string("tidemark"));
    error |= js_put_new(o, "version", json_object_new_string(TIDEMARK_VERSION));
    error |= js_put_new(o, "metadata", json_object_new_object());
    return whole(o, error);
}

int step_set_args(struct step *s, const struct tmpl *t)
{
    uint32_t vars = tmpl_vars(t);
    struct expr_args *a = &s->args;
    memset(a, 0, sizeof *a);
    a->present = 1u << VAR_CONTEXT | 1u << VAR_INPUT | 1u << VAR_WORKFLOW | 1u << VAR_RUNTIME |
                 1u << VAR_SECRETS;
    a->now_ms = s->in.now_ms;
    a->locals = s->in_function ? NULL : s->locals ? s->locals : s->in.locals;
    a->var[VAR_CONTEXT] = val_tree(s->in.context);
    a->var[VAR_INPUT] = val_tree(s->in_function ? s->fn_input : s->input ? s->input : s->in.raw);
    a->var[VAR_SECRETS] = s->in.secrets;
    if (s->output) {
        a->present |= 1u << VAR_OUTPUT;
        a->var[VAR_OUTPUT] = val_tree(s->output);
    }
    json_object_put(s->task_var);
    s->task_var = NULL;
    if (s->in.task) {
        a->present |= 1u << VAR_TASK;
        if (vars & 1u << VAR_TASK)
            a->var[VAR_TASK] = s->task_var = task_var(s);
    }
    if (vars & 1u << VAR_WORKFLOW) {
        if (!s->wf_var)
            s->wf_var = workflow_var(s);
        a->var[VAR_WORKFLOW] = s->wf_var;
    }
    if (vars & 1u << VAR_RUNTIME) {
        if (!s->runtime_var)
            s->runtime_var = runtime_var();
        a->var[VAR_RUNTIME] = s->runtime_var;
    }
    bool made = (!(vars & 1u << VAR_TASK) || !s->in.task || s->task_var) &&
                (!(vars & 1u << VAR_WORKFLOW) || s->wf_var) &&
                (!(vars & 1u << VAR_RUNTIME) || s->runtime_var);
    return made ? 0 : -ENOMEM;
}
