/* See flows.h. */
#include "flows.h"

#include <stdio.h>

#include "base/clock.h"
#include "flow/evalpool.h"
#include "unit.h"

void flow_problems(struct diags *d, struct buf *out)
{
    diags_sort(d);
    for (size_t i = 0; i < d->n; i++)
        buf_addf(out, "%d:%d: %s%s\n    %s\n", d->v[i].line, d->v[i].col,
                 d->v[i].warning ? "warning: " : "", d->v[i].msg,
                 d->v[i].hint ? d->v[i].hint : "-");
}

struct flow *flow_of(const char *text, struct buf *problems)
{
    struct diags d;
    struct flow *f = NULL;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl_str(text), "test.yaml", &d);
    int error = y ? flow_parse(y, false, &f, &d) : -1;
    CHECK((error == 0) == (d.errors == 0));
    CHECK((f != NULL) == (d.errors == 0));
    if (problems)
        flow_problems(&d, problems);
    else
        for (size_t i = 0; i < d.n; i++)
            fprintf(stderr, "%d:%d: %s\n", d.v[i].line, d.v[i].col, d.v[i].msg);
    diags_free(&d);
    ydoc_free(y);
    return f;
}

struct json_object *json_of(const char *text)
{
    struct json_object *o = NULL;
    struct err e = {0};
    CHECK_INT(js_parse(sl_str(text), &o, &e), 0);
    return o;
}

const char *text_of(struct json_object *o)
{
    static char ring[4][64 * 1024];
    static int at;
    char *out = ring[at++ % 4];
    struct buf b;
    buf_init(&b, sizeof ring[0] - 1);
    CHECK_INT(js_write(o, &b), 0);
    (void)snprintf(out, sizeof ring[0], "%s", b.p ? b.p : "");
    buf_free(&b);
    return out;
}

const char *flows_folder(const char *name)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/tests/data/flows/%s", TM_ROOT, name);
    return path;
}

struct answer {
    bool done;
    struct json_object *value;
    struct err e;
};

static void on_answer(void *arg, struct json_object *value, const struct err *e)
{
    struct answer *a = arg;
    a->done = true;
    a->value = value;
    if (e)
        a->e = *e;
}

struct json_object *flow_evaluate(const struct tmpl *t, struct json_object *in,
                                  const struct expr_args *a, struct err *e)
{
    struct evalpool_opts o = {.children = 1, .deadline_ms = 20000};
    struct answer answer = {0};
    struct loop *l = loop_new(e);
    NEED(l != NULL);
    struct evalpool *p = evalpool_new(l, &o, NULL, e);
    NEED(p != NULL);
    CHECK_INT(evalpool_submit(p, t, in, a, on_answer, &answer), 0);
    int64_t until = clock_boot_ms() + 180000;
    while (!answer.done && clock_boot_ms() < until)
        loop_turn(l, 1000);
    CHECK(answer.done);
    evalpool_free(p);
    loop_free(l);
    *e = answer.e;
    return answer.value;
}
