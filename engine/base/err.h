/* Errors that a user will read: a code, what is wrong, what to do about it and, if it came from a
 * file, where. An error without a hint is unfinished. Functions return 0 or a negative errno and
 * fill the struct err they were given (which may be NULL); on failure other results are untouched.
 */
#pragma once
#include "base/slice.h"

struct err {
    int code;       /* negative errno, 0: none */
    char msg[768];  /* one sentence, no full stop */
    char hint[384]; /* "" when there is none */
    char file[256]; /* "" or the file; line and col count from 1, 0: unknown */
    int line, col;
};

/* Sets code, message and hint (NULL: none) and returns `code`, which is negative. */
int err_set(struct err *e, int code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds a place to an error already set. */
void err_at(struct err *e, const char *file, int line, int col);
/* "FILE:LINE:COL: message" (parts that are unknown are left out); the hint goes to its own line. */
void err_format(const struct err *e, char *out, size_t size);
void err_clear(struct err *e);

/* A list of problems, each with its place, for checks that report all at once. Bounded: after
 * DIAGS_MAX further problems are only counted. */
#define DIAGS_MAX 200
struct diag {
    char *file, *msg, *hint; /* hint may be NULL */
    int line, col;
    bool warning;
};
struct diags {
    struct diag *v;
    size_t n, cap, dropped, errors; /* errors: how many are not warnings */
};
void diags_init(struct diags *d);
void diags_free(struct diags *d);
void diags_add(struct diags *d, const char *file, int line, int col, const char *hint,
               const char *fmt, ...) __attribute__((format(printf, 6, 7)));
void diags_warn(struct diags *d, const char *file, int line, int col, const char *hint,
                const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Orders by file, line, column. */
void diags_sort(struct diags *d);
/* The nearest of `words` (NULL-terminated) if it is near enough for a "did you mean", else NULL. */
const char *err_nearest(struct slice word, const char *const *words);
