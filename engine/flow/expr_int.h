/* Shared by the files of expressions: tokens, the syntax tree, the evaluator's state. A tree is
 * immutable once compiled; an evaluation belongs to one thread. */
#pragma once
#include <errno.h>

#include "base/arena.h"
#include "flow/expr.h"

/* ---- Limits. A program beyond NODES_MAX runs in the child; the others end an evaluation with an
 * error. */
#define EXPR_NODES_MAX  512     /* of an inline program; bounds the evaluator's recursion too */
#define EXPR_NEST_MAX   200     /* brackets within brackets while parsing */
#define EXPR_STEPS_MAX  2000000 /* visits and elements of one evaluation */
#define EXPR_BYTES_MAX  (64u * 1024 * 1024) /* made by one evaluation in all */
#define EXPR_RESULT_MAX (16u * 1024 * 1024) /* text of one result */
#define EXPR_LOCALS_MAX 64                  /* different free local variables in one program */

/* ---- Tokens. One-character operators are their own character. */
enum tok {
    TOK_END = 256,
    TOK_BAD,
    TOK_IDENT,
    TOK_FIELD, /* .name; text without the point */
    TOK_NUMBER,
    TOK_FORMAT, /* @name */
    TOK_QUOTE,  /* a string begins; the parser goes on with lex_string */
    TOK_REC,
    TOK_EQ,
    TOK_NE,
    TOK_LE,
    TOK_GE,
    TOK_ALT,     /* // */
    TOK_ALT_PAT, /* ?// */
    TOK_ASSIGN,  /* |= += -= *= /= %= //= ; plain = is its character */
};
struct lexer {
    struct slice src;
    size_t at;         /* behind the present token */
    int tok;           /* enum tok or a character */
    size_t start;      /* where it begins */
    struct slice text; /* of IDENT, FIELD, NUMBER, FORMAT, ASSIGN */
};
void lex_next(struct lexer *l);
/* The next piece of a string, from l->at: text up to the closing quote or \( is added to b. Returns
 * '"', '(' or TOK_END (not closed); *plain is cleared when an escape needs libjq to be judged. Does
 * not read a token. */
int lex_string(struct lexer *l, struct buf *b, bool *plain);

/* ---- The tree */
enum node_kind {
    N_DOT,
    N_CONST,  /* lit */
    N_PIPE,   /* a | b */
    N_COMMA,  /* a, b */
    N_INDEX,  /* a[b], opt */
    N_SLICE,  /* a[b:c], b or c may be NULL, opt */
    N_EACH,   /* a[], opt */
    N_BINARY, /* a op b */
    N_NEG,    /* -a */
    N_AND,
    N_OR,
    N_ALT,     /* a // b */
    N_IF,      /* a, b, c */
    N_TRY,     /* a? */
    N_COLLECT, /* [a] */
    N_OBJECT,  /* v: key, value, key, value...; value NULL: .[key] */
    N_VAR,     /* name; var >= 0: that variable when no local has the name */
    N_BIND,    /* a as $name | b */
    N_TEXT,    /* a | tostring, of \( ) */
    N_CALL,    /* fn with argument a */
};
struct node {
    enum node_kind kind;
    bool opt, bound; /* bound (N_VAR): by N_BIND around it */
    int op;          /* N_BINARY: character or enum tok */
    int fn;          /* N_CALL: enum fn */
    int var;
    struct node *a, *b, *c;
    struct node **v;
    size_t n;
    const char *name;
    struct json_object *lit; /* owned by the expression's list */
};

struct expr {
    struct arena arena;
    struct slice text;
    struct node *root; /* NULL: not inline */
    uint32_t vars;
    const char *const *locals; /* free local names, nlocals of them */
    size_t nlocals;
    struct json_object **lits;
    size_t nlits, cap_lits;
};

/* What to do about a message of an evaluation, inline or in the child. Never NULL. */
const char *expr_hint(const char *message);
/* Free names of a program, whatever it names: for the child's wrapper. Reads text without refusing
 * unknown variables. */
int expr_parse(struct expr *x, uint32_t allowed, const char *const *locals, bool any_var,
               struct err *e);
/* As expr_compile, but every variable may be named; for evalpool_check. */
struct expr *expr_compile_any(struct slice text, struct err *e);

/* ---- Functions: one table */
enum fn {
    FN_CHILD, /* known to jq, not inline */
    FN_ADD,
    FN_ALL,
    FN_ALL1,
    FN_ANY,
    FN_ANY1,
    FN_CONTAINS,
    FN_DOWNCASE,
    FN_EMPTY,
    FN_ENDSWITH,
    FN_FIRST,
    FN_FLOOR,
    FN_HAS,
    FN_JOIN,
    FN_KEYS,
    FN_KEYS_UNSORTED,
    FN_LAST,
    FN_LENGTH,
    FN_LTRIMSTR,
    FN_MAP,
    FN_MAX,
    FN_MIN,
    FN_NOT,
    FN_NOW,
    FN_REVERSE,
    FN_RTRIMSTR,
    FN_SELECT,
    FN_SORT,
    FN_SPLIT,
    FN_STARTSWITH,
    FN_TO_ENTRIES,
    FN_TOJSON,
    FN_TOSTRING,
    FN_TYPE,
    FN_UPCASE,
    FN_VALUES,
};
/* The function of this name and number of arguments, -ENOENT when jq has none. */
int expr_fn(struct slice name, size_t args);
/* Why a function is not available here, or NULL. */
const char *expr_fn_refused(struct slice name);
/* A function whose name is near, for a hint; NULL: none. */
const char *expr_fn_near(struct slice name);

/* ---- Evaluation */
struct ev {
    const struct expr_args *args;
    size_t steps, bytes;
    char *error;    /* jq's message, owned; set when a function returned -EINVAL */
    bool exhausted; /* a limit was met: not to be caught by ? */
};
/* All of these return 0, or -EINVAL with v->error set. Results are owned by the caller, arguments
 * borrowed. */
int ev_fail(struct ev *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int ev_limit(struct ev *v, const char *what);
int ev_full(struct ev *v, const struct buf *b); /* of a buffer with an error */
int ev_charge(struct ev *v, size_t steps, size_t bytes);
/* The beginning of a value's text, as jq's messages show it. */
#define EV_SHOWN 32
const char *ev_shown(struct json_object *o, char out[EV_SHOWN]);
int ev_type_error(struct ev *v, struct json_object *o, const char *what);
int ev_type_error2(struct ev *v, struct json_object *a, struct json_object *b, const char *what);
int ev_string(struct ev *v, struct slice s, struct json_object **ret);
int ev_number(struct ev *v, double d, struct json_object **ret);
int ev_bool(struct ev *v, bool b, struct json_object **ret);
int ev_array(struct ev *v, struct json_object **ret);
int ev_object(struct ev *v, struct json_object **ret);
/* Both take over the item's reference, on failure too. */
int ev_push(struct ev *v, struct json_object *array, struct json_object *item);
int ev_set(struct ev *v, struct json_object *object, struct slice key, struct json_object *item);

int op_binary(struct ev *v, int op, struct json_object *a, struct json_object *b,
              struct json_object **ret);
int op_plus(struct ev *v, struct json_object *a, struct json_object *b, struct json_object **ret);
int op_index(struct ev *v, struct json_object *t, struct json_object *k, struct json_object **ret);
int op_slice(struct ev *v, struct json_object *t, struct json_object *from, struct json_object *to,
             struct json_object **ret);
int op_compare(struct ev *v, struct json_object *a, struct json_object *b,
               int *ret); /* jq's order of all values */
int op_equal(struct ev *v, struct json_object *a, struct json_object *b, bool *ret);
/* Functions of the input and at most one evaluated argument. */
int call_value(struct ev *v, int fn, struct json_object *in, struct json_object *arg,
               struct json_object **ret);
/* Runs the program: 0 and *ret, or -EINVAL. */
int ev_run(struct ev *v, const struct node *root, struct json_object *in, struct json_object **ret);

/* ---- Values */
double jq_double(struct json_object *o);     /* of a number */
struct slice jq_text(struct json_object *o); /* of a string */
size_t jq_codepoints(struct slice s);
/* Byte length of the first n code points of s. */
size_t jq_advance(struct slice s, size_t n);
bool jq_is(struct json_object *o, const char *kind);
/* jq 1.6's text of a value, as tostring and error messages show it. */
int jq_dump(struct json_object *o, struct buf *b);
struct json_object *jq_number(double d); /* an integer where the value is one; NULL: no memory */
/* Gives a result the form that reading jq's text would have given: numbers in doubles' precision,
 * whole ones as integers, no NaN or infinity. Shares what needs no change. Refuses depth over
 * JS_DEPTH_MAX and text over EXPR_RESULT_MAX. Takes over `o`. */
int jq_canon(struct json_object *o, struct json_object **ret, struct err *e);
