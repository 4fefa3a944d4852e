/* Metrics as Prometheus text 0.0.4. Any thread: values are read atomically, names never change. */
#include "base/metric.h"

#include <inttypes.h>

/* The name without labels: one HELP and TYPE stand for all its label sets. */
static struct slice family(const struct metric *m)
{
    struct slice name = sl_str(m->name);
    ptrdiff_t at = sl_find(name, '{');
    return at < 0 ? name : sl(name.p, (size_t)at);
}

static void write_help(struct buf *b, const char *help)
{
    for (; *help; help++) {
        if (*help == '\\')
            buf_adds(b, "\\\\");
        else if (*help == '\n')
            buf_adds(b, "\\n");
        else
            buf_addc(b, *help);
    }
}

int metrics_write(const struct metric *v, size_t n, struct buf *b)
{
    for (size_t i = 0; i < n; i++) {
        struct slice f = family(&v[i]);
        if (!i || !sl_eq(f, family(&v[i - 1]))) {
            buf_addf(b, "# HELP %.*s ", SL_ARG(f));
            write_help(b, v[i].help);
            buf_addf(b, "\n# TYPE %.*s %s\n", SL_ARG(f),
                     v[i].kind == METRIC_COUNTER ? "counter" : "gauge");
        }
        buf_addf(b, "%s %" PRId64 "\n", v[i].name, metric_get(&v[i]));
    }
    return buf_error(b);
}
