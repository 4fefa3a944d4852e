/* JSON Schema: whatever the document {schema, value}, reading the schema ends, every problem has a
 * hint, and what is accepted is compiled and judged by the library without an exception that gets
 * out; each problem of the value has a pointer and a message. Patterns are left to the child's
 * deadline: schemas that have some are only read. */
#include <stdlib.h>

#include "flow/schema.h"
#include "flow/schema_valijson.h"
#include "flow/tmpl_int.h"
#include "fuzz.h"

static void check_problems(const char *text)
{
    struct json_object *list = NULL;
    must(js_parse(sl_str(text), &list, NULL) == 0, "problems are JSON");
    must(json_object_is_type(list, json_type_array) &&
             json_object_array_length(list) <= SCHEMA_PROBLEMS_MAX,
         "problems are a list within the bound");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *x = json_object_array_get_idx(list, i);
        must(js_str(x, "pointer") && js_str(x, "message"), "a problem has a pointer and words");
    }
    json_object_put(list);
}

static void judge(const struct tmpl *t, struct json_object *value)
{
    struct json_object *prepared = NULL;
    char why[512] = "", *problems = NULL;
    must(js_parse(tmpl_schema_text(t), &prepared, NULL) == 0, "the prepared form is JSON");
    struct schema_valid *v = schema_valid_new(prepared, why, sizeof why);
    must(v != NULL, "only a pattern is refused by the library");
    if (schema_valid_run(v, value, &problems, why, sizeof why) == 0)
        check_problems(problems);
    else
        must(why[0], "what is not judged has a reason");
    free(problems);
    schema_valid_free(v);
    json_object_put(prepared);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct diags d;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl(p, n), "fuzz.yaml", &d);
    struct tmpl *t = y && json_object_is_type(ydoc_root(y), json_type_object)
                         ? schema_compile(y, ydoc_root(y), "schema", false, &d)
                         : NULL;
    for (size_t i = 0; i < d.n; i++)
        must(d.v[i].hint && d.v[i].hint[0], "a problem has a hint");
    if (t && !memmem(tmpl_schema_text(t).p, tmpl_schema_text(t).n, "pattern", 7))
        judge(t, js_get(ydoc_root(y), "value"));
    tmpl_free(t);
    ydoc_free(y);
    diags_free(&d);
    return 0;
}
