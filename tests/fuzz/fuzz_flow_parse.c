/* Definitions: whatever the bytes, reading ends, every problem has a place and a hint, and what is
 * accepted survives its canonical text with the same identity. */
#include <stdlib.h>

#include "flow/flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void need(bool ok)
{
    if (!ok)
        abort();
}

static void again(const struct flow *f)
{
    struct flow *g = NULL;
    struct err e = {0};
    need(flow_from_text(flow_info(f)->text, &g, &e) == 0);
    need(!strcmp(flow_info(g)->hash, flow_info(f)->hash));
    flow_unref(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct diags d;
    struct flow *f = NULL;
    diags_init(&d);
    struct ydoc *y = ydoc_parse(sl(p, n), "fuzz.yaml", &d);
    need((y == NULL) == (d.errors > 0));
    if (y) {
        int error = flow_parse(y, false, &f, &d);
        need((error == 0) == (f != NULL));
        need((error == 0) == (d.errors == 0));
    }
    for (size_t i = 0; i < d.n; i++)
        need(d.v[i].hint && d.v[i].hint[0]);
    if (f)
        again(f);
    flow_unref(f);
    ydoc_free(y);
    diags_free(&d);
    return 0;
}
