/* Lists of problems for checks that report everything at once. One thread owns a list.
 * Invariants: n <= cap <= DIAGS_MAX; what did not fit or found no memory counts in `dropped`. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MSG_MAX_BYTES 1024

void diags_init(struct diags *d)
{
    *d = (struct diags){0};
}

void diags_free(struct diags *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->v[i].file);
        free(d->v[i].msg);
        free(d->v[i].hint);
    }
    free(d->v);
    *d = (struct diags){0};
}

static struct diag *room(struct diags *d)
{
    if (d->n < d->cap)
        return &d->v[d->n];
    if (d->n == DIAGS_MAX)
        return NULL;
    size_t cap = d->cap ? d->cap * 2 : 8;
    if (cap > DIAGS_MAX)
        cap = DIAGS_MAX;
    struct diag *v = realloc(d->v, cap * sizeof *v);
    if (!v)
        return NULL;
    d->v = v;
    d->cap = cap;
    return &d->v[d->n];
}

/* What is used in several places (a named policy) is checked in each, and told once. */
static bool told(const struct diags *d, const struct diag *at, const char *file, const char *msg)
{
    for (size_t i = 0; i < d->n; i++)
        if (at->line && d->v[i].line == at->line && d->v[i].col == at->col &&
            !strcmp(d->v[i].msg, msg) && !strcmp(d->v[i].file, file))
            return true;
    return false;
}

static void add(struct diags *d, struct diag at, const char *file, const char *hint,
                const char *fmt, va_list ap)
{
    char msg[MSG_MAX_BYTES];
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    if (told(d, &at, file, msg))
        return;
    if (!at.warning)
        d->errors++;
    struct diag *slot = room(d);
    if (slot) {
        at.file = sl_dup(sl_str(file));
        at.msg = sl_dup(sl_str(msg));
        at.hint = hint ? sl_dup(sl_str(hint)) : NULL;
        if (at.file && at.msg && (at.hint || !hint)) {
            *slot = at;
            d->n++;
            return;
        }
        free(at.file);
        free(at.msg);
        free(at.hint);
    }
    d->dropped++;
}

void diags_add(struct diags *d, const char *file, int line, int col, const char *hint,
               const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(d, (struct diag){.line = line, .col = col}, file, hint, fmt, ap);
    va_end(ap);
}

void diags_warn(struct diags *d, const char *file, int line, int col, const char *hint,
                const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(d, (struct diag){.line = line, .col = col, .warning = true}, file, hint, fmt, ap);
    va_end(ap);
}

static int compare(const struct diag *a, const struct diag *b)
{
    int c = strcmp(a->file, b->file);
    if (c)
        return c;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->col == b->col ? 0 : a->col < b->col ? -1 : 1;
}

void diags_sort(struct diags *d)
{
    /* Insertion keeps problems at one place in the order they were found; there are at most
     * DIAGS_MAX. */
    for (size_t i = 1; i < d->n; i++) {
        struct diag x = d->v[i];
        size_t j = i;
        for (; j && compare(&x, &d->v[j - 1]) < 0; j--)
            d->v[j] = d->v[j - 1];
        d->v[j] = x;
    }
}
