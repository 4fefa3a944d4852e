/* Memory that runs out at any one allocation of a short path: the path says so with -ENOMEM or in
 * its problems, or goes through with the right result; nothing leaks, nothing is half done. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "flow/flow.h"
#include "flow/schema.h"
#include "flow/tmpl_int.h"
#include "paths.h"

SUITE("faults/memory")

/* Written without faults: what counts is what the path made. */
static int text_of(struct json_object *o, char **ret)
{
    struct buf b;
    fault_off();
    buf_init(&b, 1 << 20);
    NEED(js_write(o, &b) == 0);
    *ret = buf_take(&b);
    buf_free(&b);
    return 0;
}

static const char doc[] =
    "{\"a\":[1,2.5,-3,18446744073709551615,\"text\\u00e9\",\"\\u0000\",true,null],"
    "\"b\":{\"c\":{\"d\":[]}},\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}";

static int parse_json(char **ret)
{
    struct json_object *o = NULL, *copy = NULL;
    struct err e = {0};
    bool ok = false;
    int error = js_parse(SL(doc), &o, &e);
    CHECK(!error || (e.msg[0] && e.hint[0]));
    if (!error)
        copy = js_copy(o, &ok);
    if (!error && !ok)
        error = -ENOMEM;
    if (!error)
        (void)text_of(copy, ret);
    json_object_put(o);
    json_object_put(copy);
    return error;
}

static int write_json(char **ret)
{
    static struct json_object *o;
    struct buf b;
    if (!o) {
        NEED(js_parse(SL(doc), &o, NULL) == 0);
        return text_of(o, ret);
    }
    buf_init(&b, 1 << 20);
    int error = js_write(o, &b);
    if (!error && !(*ret = buf_take(&b)))
        error = -ENOMEM;
    buf_free(&b);
    fault_off();
    return error;
}

TEST(json)
{
    every_allocation("js_parse", parse_json);
    every_allocation("js_write", write_json);
}

/* ---- schemas ---- */

static const char schema[] =
    "{\"schema\":{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"$ref\":"
    "\"#/$defs/a~1b\",\"type\":\"object\",\"propertyNames\":{\"maxLength\":3},\"properties\":{"
    "\"a\":{\"enum\":[1,null]},\"b\":{\"const\":null},\"c\":false},\"patternProperties\":{\"^x\":"
    "true},\"additionalProperties\":{\"prefixItems\":[{\"anyOf\":[true,{\"$ref\":\"#\"}]}],"
    "\"items\":false},\"dependentRequired\":{\"a\":[\"b\"]},\"dependentSchemas\":{\"a\":{\"not\":"
    "{\"required\":[\"c\"]}}},\"$defs\":{\"a/b\":{\"minProperties\":1}}}}";

/* The prepared text, in which nothing may be missing. */
static int compile_schema(char **ret)
{
    struct diags d;
    struct tmpl *t = NULL;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(SL(schema), "s.json", &d);
    if (y)
        t = schema_compile(y, ydoc_root(y), "schema", false, &d);
    if (!t)
        CHECK(d.errors > 0);
    fault_off();
    for (size_t i = 0; i < d.n; i++)
        CHECK(d.v[i].hint && d.v[i].hint[0]);
    if (t)
        *ret = sl_dup(tmpl_schema_text(t));
    int error = t ? 0 : -ENOMEM;
    tmpl_free(t);
    ydoc_free(y);
    diags_free(&d);
    return error;
}

TEST(a_schema)
{
    every_allocation("schema_compile", compile_schema);
}

/* ---- definitions ---- */

static struct buf flow_text;

/* A problem is told, even if there is no memory for its text. */
static int read_flow(char **ret)
{
    struct diags d;
    struct flow *flow = NULL;
    int error = -ENOMEM;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(buf_slice(&flow_text), "f.yaml", &d);
    if (y)
        error = flow_parse(y, false, &flow, &d);
    if (error)
        CHECK(d.errors > 0 && !flow);
    fault_off();
    for (size_t i = 0; i < d.n; i++)
        CHECK(d.v[i].hint && d.v[i].hint[0]);
    if (!error)
        *ret = strdup(flow_info(flow)->hash);
    flow_unref(flow);
    ydoc_free(y);
    diags_free(&d);
    return error ? -ENOMEM : 0;
}

static char *canonical;

static int read_canonical(char **ret)
{
    struct flow *flow = NULL;
    struct err e = {0};
    int error = flow_from_text(sl_str(canonical), &flow, &e);
    if (error)
        CHECK(e.msg[0] && !flow);
    fault_off();
    if (!error)
        *ret = strdup(flow_info(flow)->hash);
    flow_unref(flow);
    return error ? -ENOMEM : 0;
}

static void load_flow(const char *path)
{
    struct err e = {0};
    buf_init(&flow_text, 1 << 20);
    NEED(file_read(path, &flow_text, &e) == 0);
    struct diags d;
    struct flow *flow = NULL;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(buf_slice(&flow_text), "f.yaml", &d);
    NEED(y && flow_parse(y, false, &flow, &d) == 0);
    canonical = sl_dup(flow_info(flow)->text);
    flow_unref(flow);
    ydoc_free(y);
    diags_free(&d);
}

TEST(a_definition)
{
    load_flow(TEST_DATA "/flows/good/every_kind.yaml");
    every_allocation("flow_parse", read_flow);
    every_allocation("flow_from_text", read_canonical);
    buf_free(&flow_text);
    free(canonical);
}
