/* for and while (DSL reference, "For"), and the variables that loops and catches bring into scope.
 * A variable is seen inside the task that declares it; an inner one hides an outer one of the same
 * name. */
#include "flow/parse_int.h"

#define FOR_EXAMPLE "for: {each: item, in: .items}, do: [- step: {set: {a: \"${ $item }\"}}]"

static const struct prop for_props[] = {{"each", T_TEXT, 0, NULL, "each: item"},
                                        {"in", T_TEXT | T_ARR, PROP_NEED, NULL,
                                         "an expression that gives a list, such as .items"},
                                        {"at", T_TEXT, 0, NULL, "at: index"},
                                        {0}};

static bool is_identifier(const char *s)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char rest[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return *s && strchr(first, *s) && strspn(s, rest) == strlen(s) && strlen(s) < FLOW_NAME_MAX;
}

bool parse_local(struct parser *p, struct json_object *o, const char *key, const char *otherwise,
                 const char **ret)
{
    struct json_object *v = js_get(o, key);
    const char *name =
        json_object_is_type(v, json_type_string) ? json_object_get_string(v) : otherwise;
    *ret = name;
    for (int i = VAR_CONTEXT; i <= VAR_AUTHORIZATION; i++) /* the others have no meaning in tasks */
        if (!strcmp(name, expr_var_names[i])) {
            parse_bad(p, MEMBER(o, key), "give it another name", "$%s has a meaning already", name);
            return false;
        }
    if (!is_identifier(name)) {
        parse_bad(p, MEMBER(o, key), "letters, digits and _, not beginning with a digit",
                  "\"%.100s\" can't be the name of a variable", name);
        return false;
    }
    if (p->nlocals == FLOW_LOCALS_MAX) {
        parse_bad(p, MEMBER(o, key), "fewer loops and catches inside one another",
                  "at most %d variables can be in scope", FLOW_LOCALS_MAX);
        return false;
    }
    p->locals[p->nlocals++] = name;
    p->locals[p->nlocals] = NULL;
    return true;
}

void parse_leave(struct parser *p, size_t nlocals)
{
    p->nlocals = nlocals;
    p->locals[nlocals] = NULL;
}

void parse_for(struct parser *p, struct task *t, struct json_object *o)
{
    size_t outer = p->nlocals;
    struct json_object *f = parse_object(p, MEMBER(o, "for"), "for", for_props, FOR_EXAMPLE);
    t->type = TASK_FOR;
    if (!f || !(t->loop = arena_alloc(&p->f->mem, sizeof *t->loop)))
        return;
    if (prop_get(f, for_props, "in"))
        t->loop->in = parse_tmpl(p, MEMBER(f, "in"), TMPL_BARE, VARS_INPUT);
    if (parse_local(p, f, "each", "item", &t->loop->each) &&
        parse_local(p, f, "at", "index", &t->loop->at) && !strcmp(t->loop->each, t->loop->at))
        parse_bad(p, MEMBER(o, "for"), "give them different names",
                  "each and at name the same variable");
    if (json_object_is_type(js_get(o, "while"), json_type_string))
        t->loop->cond = parse_tmpl(p, MEMBER(o, "while"), TMPL_BARE, VARS_INPUT);
    if (json_object_object_get_ex(o, "do", NULL))
        parse_list(p, MEMBER(o, "do"), "for/-/do", t, &t->body);
    else
        parse_bad(p, MEMBER(o, "for"), FOR_EXAMPLE, "do is missing beside for");
    if (!t->body.n && json_object_is_type(js_get(o, "do"), json_type_array))
        parse_warn(p, MEMBER(o, "do"), "put the tasks of the loop there", "the loop does nothing");
    parse_leave(p, outer);
}
