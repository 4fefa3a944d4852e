/* Expressions of the DSL (jq) and templates: JSON values with expressions at their leaves.
 *
 * Strict mode: only text of the form ${ ... } (blanks around allowed) is an expression; loose mode:
 * any text may be one, and its failure yields the text. Some places take a bare expression in both
 * modes (facts, part m).
 *
 * Programs that are simple (paths, slices, iteration, literals, operators, //, object and array
 * construction, text with \( ), if, $name bindings, `?`, and the functions marked in the table of
 * expr_fn.c) are evaluated inline with results identical to jq 1.6; all others run in a child
 * process (evalpool.h). An evaluation gives exactly one value: no output gives null, several
 * outputs are an error whose hint says to wrap them in [ ]. Evaluation is pure: `now` is the time
 * given in the arguments, there is no environment, no input, no import.
 *
 * One thread owns an expression's evaluation; compiled expressions are immutable and may be shared.
 */
#pragma once
#include <json-c/json.h>

#include "base/err.h"
#include "base/js.h"
#include "base/val.h"

#define EXPR_TEXT_MAX (64 * 1024)

/* The variables an expression may name; bit n of expr_vars is set when it names variable n. */
enum expr_var {
    VAR_CONTEXT,
    VAR_INPUT,
    VAR_OUTPUT,
    VAR_TASK,
    VAR_WORKFLOW,
    VAR_RUNTIME,
    VAR_SECRETS,
    VAR_AUTHORIZATION,
    VAR_ERROR,
    VAR_EVENT,
    VAR_KAFKA,
    VAR_COUNT
};
extern const char *const expr_var_names[VAR_COUNT]; /* "context", ... without the dollar */

/* What an evaluation sees. Trees are borrowed; absent variables are NULL and `present` has their
 * bit clear (naming an absent one is an error of check, and of evaluation). locals: an object of
 * loop and catch variables, or NULL. */
struct expr_args {
    struct json_object *var[VAR_COUNT];
    uint32_t present;
    struct json_object *locals;
    int64_t now_ms;
};

struct expr; /* one compiled expression */
/* text: the jq program without ${ }. `allowed`: bits of the variables that may be named here;
 * others are refused with a hint. Programs that are not inline are only checked for what can be
 * seen without libjq (balanced brackets and quotes, no
 * import/include/input/inputs/$ENV/env/$__prog_args, halt); expr_text and evalpool_check give the
 * rest. */
struct expr *expr_compile(struct slice text, uint32_t allowed, const char *const *locals,
                          struct err *e);
struct expr *expr_free(struct expr *x);
bool expr_is_inline(const struct expr *x);
uint32_t expr_vars(const struct expr *x);
struct slice expr_text(const struct expr *x);
/* Only for inline ones. 0 and *ret (owned by the caller, may be NULL for null), -EINVAL with jq's
 * message in e, or -ENOMEM. */
int expr_eval_inline(const struct expr *x, struct json_object *in, const struct expr_args *a,
                     struct json_object **ret, struct err *e);
/* jq's truth: everything but null and false. */
bool js_truthy(struct json_object *o);

/* A template: any JSON value; its ${ } strings (strict), or all strings (loose), are expressions.
 */
struct tmpl;
enum tmpl_mode {
    TMPL_STRICT, /* ${...} texts are expressions, other text is literal */
    TMPL_LOOSE,  /* every text is tried; failure yields the text */
    TMPL_BARE /* a top-level string is an expression with or without ${ }; inside objects as strict
               */
};
/* `value` is borrowed and copied as needed. Errors carry no place: the caller adds it.
 * path_of_error (may be NULL, 256 bytes) gets the JSON pointer inside the value. */
struct tmpl *tmpl_compile(struct json_object *value, enum tmpl_mode mode, uint32_t allowed,
                          const char *const *locals, char *path_of_error, struct err *e);
struct tmpl *tmpl_free(struct tmpl *t);
bool tmpl_is_const(const struct tmpl *t);  /* no expression inside */
bool tmpl_is_inline(const struct tmpl *t); /* all its expressions are inline */
uint32_t tmpl_vars(const struct tmpl *t);
/* A template that judges its input by a prepared schema (schema.h) and gives the list of problems,
 * [{pointer, keyword, message}]; empty: the input is valid. Never inline. -E2BIG. */
struct tmpl *tmpl_schema(struct json_object *prepared, struct err *e);
bool tmpl_is_schema(const struct tmpl *t);
size_t tmpl_programs(const struct tmpl *t, struct slice *v,
                     size_t max); /* texts of the non-inline ones, for check */
/* Evaluates all when tmpl_is_inline. */
int tmpl_eval_inline(const struct tmpl *t, struct json_object *in, const struct expr_args *a,
                     struct json_object **ret, struct err *e);
