/* User errors with message, hint and place. Thread-safe: each works on the struct it is given. */
#include "base/err.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#define NEAREST_MAX 64 /* longer words are not compared */

int err_set(struct err *e, int code, const char *hint, const char *fmt, ...)
{
    assert(code < 0);
    if (!e)
        return code;
    /* Through a copy: the arguments may point into the error that is replaced. */
    struct err fresh = {.code = code};
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(fresh.msg, sizeof fresh.msg, fmt, ap);
    va_end(ap);
    (void)snprintf(fresh.hint, sizeof fresh.hint, "%s", hint ? hint : "");
    *e = fresh;
    return code;
}

void err_at(struct err *e, const char *file, int line, int col)
{
    if (!e)
        return;
    if (file && file != e->file)
        (void)snprintf(e->file, sizeof e->file, "%s", file);
    e->line = line;
    e->col = col;
}

void err_format(const struct err *e, char *out, size_t size)
{
    char place[300] = "";
    const char *sep = e->file[0] ? ":" : "";
    if (e->line > 0 && e->col > 0)
        (void)snprintf(place, sizeof place, "%s%s%d:%d: ", e->file, sep, e->line, e->col);
    else if (e->line > 0)
        (void)snprintf(place, sizeof place, "%s%s%d: ", e->file, sep, e->line);
    else if (e->file[0])
        (void)snprintf(place, sizeof place, "%s: ", e->file);
    (void)snprintf(out, size, "%s%s%s%s", place, e->msg, e->hint[0] ? "\nhint: " : "", e->hint);
}

void err_clear(struct err *e)
{
    if (e)
        *e = (struct err){0};
}

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edit distance with swaps of neighbours counted once, without regard to case. */
static int distance(struct slice a, struct slice b)
{
    int rows[3][NEAREST_MAX + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (size_t j = 0; j <= b.n; j++)
        last[j] = (int)j;
    for (size_t i = 1; i <= a.n; i++) {
        now[0] = (int)i;
        for (size_t j = 1; j <= b.n; j++) {
            int ca = tolower((unsigned char)a.p[i - 1]), cb = tolower((unsigned char)b.p[j - 1]);
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b.p[j - 2]) &&
                cb == tolower((unsigned char)a.p[i - 2]) && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *t = before;
        before = last;
        last = now;
        now = t;
    }
    return last[b.n];
}

const char *err_nearest(struct slice word, const char *const *words)
{
    if (!word.n || word.n > NEAREST_MAX)
        return NULL;
    int best = word.n < 3 ? 1 : (int)(word.n / 3) + 1;
    if (best > 4)
        best = 4;
    const char *found = NULL;
    for (size_t i = 0; words[i]; i++) {
        struct slice w = sl_str(words[i]);
        if (!w.n || w.n > NEAREST_MAX)
            continue;
        int d = distance(word, w);
        /* A distance as long as the word itself would suggest something unrelated. */
        if (d <= best && d < (int)w.n && d < (int)word.n + (word.n == 1)) {
            if (found && d == best)
                continue;
            best = d;
            found = words[i];
        }
    }
    return found;
}
