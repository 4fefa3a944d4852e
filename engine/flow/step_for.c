/* Loops (step.h): what a `for` runs over, and whether there is one more iteration. */
#include "flow/step_int.h"

#include <errno.h>

static int not_a_list(struct step *s, struct json_object *v)
{
    problem_set(&s->problem, "expression", 0, "not a list",
                "for.in must give a list, but gave %s; write .items // [] for what may be absent",
                js_kind(v));
    json_object_put(v);
    return STAGE_FAULT;
}

int stage_in(struct step *s)
{
    struct json_object *v = NULL;
    int r = step_evaluate(s, s->in.task->loop->in, s->input, "for.in", &v);
    if (r <= 0)
        return r;
    if (!json_object_is_type(v, json_type_array))
        return not_a_list(s, v);
    if (step_keep(s, &s->items, v))
        return STAGE_FAULT;
    s->index = 0;
    s->stage = ST_WHILE;
    return STAGE_ON;
}

/* The variables of the iteration that `while` is asked about. */
static int set_locals(struct step *s, struct json_object *item)
{
    const struct loop *l = s->in.task->loop;
    struct json_object *o = json_object_new_object();
    int error = o ? 0 : -ENOMEM;
    if (s->in.locals) {
        json_object_object_foreach(s->in.locals, name, v)
        {
            error |= js_put(o, name, json_object_get(v));
        }
    }
    error |= js_put(o, l->each, json_object_get(item));
    error |= js_put_new(o, l->at, json_object_new_int64(s->index));
    if (error) {
        json_object_put(o);
        return -ENOMEM;
    }
    json_object_put(s->locals);
    s->locals = o;
    return 0;
}

/* Asked before each iteration, from the TASK phase for the first one. Without another one the
 * output of the latest is the output of the loop; without any, its input. */
int stage_while(struct step *s)
{
    const struct loop *l = s->in.task->loop;
    bool first = s->in.phase == PHASE_TASK, more;
    struct json_object *items = val_tree(first ? s->items : s->in.items);
    struct val *in = first ? s->input : s->in.raw;
    size_t n = json_object_is_type(items, json_type_array) ? json_object_array_length(items) : 0;
    more = s->index < (int64_t)n;
    if (more && l->cond) {
        if (!s->locals && set_locals(s, json_object_array_get_idx(items, (size_t)s->index)) < 0) {
            problem_set(&s->problem, "runtime", 0, NULL, "no memory for the variables of the loop");
            return STAGE_FAULT;
        }
        int r = step_condition(s, l->cond, in, true, "while", &more);
        if (r <= 0)
            return r;
    }
    json_object_put(s->locals);
    s->locals = NULL;
    if (more) {
        s->want = first ? STEP_ENTER : STEP_ITERATE;
        s->output = val_ref(in);
        s->stage = ST_END;
        return STAGE_ON;
    }
    if (first)
        s->raw_out = val_ref(s->input);
    s->stage = ST_AS;
    return STAGE_ON;
}
