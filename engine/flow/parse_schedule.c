/* schedule: which events wake the agent (DSL reference, "Schedule" and "Event consumption
 * strategy"). */
#include <stdlib.h>

#include "flow/parse_int.h"

#define ON_EXAMPLE "on: {one: {with: {type: com.example.made}}}, or any: [ ... ]"

static const char *const reads[] = {"data", "envelope", "raw", NULL};
static const struct prop schedule_props[] = {{"on", T_ANY},
                                             {"read", T_TEXT, 0, reads, NULL},
                                             {"every", T_ANY, PROP_LATER},
                                             {"cron", T_ANY, PROP_LATER},
                                             {"after", T_ANY, PROP_LATER},
                                             {0}};
static const struct prop on_props[] = {
    {"one", T_OBJ, 0, NULL, "one: {with: {type: com.example.made}}"},
    {"any", T_ARR, 0, NULL, "any: [{with: {type: com.example.made}}], or any: [] for every event"},
    {"all", T_ANY, PROP_LATER},
    {"until", T_ANY, PROP_LATER},
    {0}};

static void filters(struct parser *p, struct json_object *on, struct flow_schedule *s)
{
    struct json_object *one = prop_get(on, on_props, "one"), *any = prop_get(on, on_props, "any");
    size_t n = one ? 1 : any ? json_object_array_length(any) : 0;
    s->any_event = any && !n;
    if (!n)
        return;
    if (!(s->filters = calloc(n, sizeof *s->filters))) {
        parse_bad(p, MEMBER(on, one ? "one" : "any"), "use fewer filters",
                  "no memory for the filters");
        return;
    }
    for (size_t i = 0; i < n; i++, s->nfilters++)
        parse_filter(p, one ? MEMBER(on, "one") : ELEMENT(any, i), &s->filters[i]);
}

void parse_schedule(struct parser *p, struct json_object *root)
{
    struct flow_schedule *s = &p->f->info.schedule;
    struct json_object *o, *on;
    if (!json_object_object_get_ex(root, "schedule", NULL) ||
        !(o = parse_object(p, MEMBER(root, "schedule"), "schedule", schedule_props, ON_EXAMPLE)))
        return;
    s->read = prop_choice(o, schedule_props, "read", READ_DATA);
    if (!json_object_object_get_ex(o, "on", NULL)) {
        if (js_get(o, "read"))
            parse_bad_key(p, o, "read", ON_EXAMPLE, "read needs on");
        return;
    }
    if (!(on = parse_object(p, MEMBER(o, "on"), "on", on_props, ON_EXAMPLE)))
        return;
    bool one = json_object_object_get_ex(on, "one", NULL),
         any = json_object_object_get_ex(on, "any", NULL),
         all = json_object_object_get_ex(on, "all", NULL);
    if (one + any + all != 1)
        parse_bad(p, MEMBER(o, "on"), ON_EXAMPLE, "on has exactly one of one and any");
    s->on = true;
    filters(p, on, s);
}
