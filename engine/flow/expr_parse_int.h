/* Shared by the two files of the parser. A parser lives for one call of expr_parse and belongs to
 * one thread.
 *
 * The whole grammar of jq 1.6 is read, so that syntax errors, unknown functions and unknown
 * variables are found here with their place; a construct that is not evaluated inline clears
 * `plain`. After a failure every function returns NULL. */
#pragma once
#include "flow/expr_int.h"

struct name { /* a variable, function or label in scope */
    struct name *next;
    const char *text;
    size_t args;
};
struct parser {
    struct lexer l;
    struct expr *x;
    struct err *e;
    uint32_t allowed;
    const char *const *locals;
    bool any_var, plain, failed;
    size_t nodes;
    int nest;
    struct name *vars, *fns, *labels;
    struct node scratch; /* what is built beyond EXPR_NODES_MAX; never evaluated */
};

struct node *parse_exp(struct parser *p, int min);
struct node *parse_term(struct parser *p);
struct node *parse_string(struct parser *p); /* the opening quote is the present token */
/* Reads one pattern or several with ?//; the names go on top of *names. *ret_single is the name
 * when it is just $name. */
bool parse_patterns(struct parser *p, struct name **names, const char **ret_single);

struct node *node_new(struct parser *p, enum node_kind kind, struct node *a, struct node *b);
/* May be a constant for libjq's compiler; asked only as long as the program may be inline. */
bool node_constant(const struct parser *p, const struct node *n);
struct node *node_const(struct parser *p, struct json_object *lit); /* takes over lit */
struct node *node_made(struct parser *p, struct json_object *lit);  /* NULL: no memory for it */
struct node *parse_memory(struct parser *p);                        /* fails with -ENOMEM: NULL */
struct node *parse_fail(struct parser *p, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct node *parse_unexpected(struct parser *p, const char *wanted);
bool parse_take(struct parser *p, int tok, const char *wanted); /* moves on, or fails */
bool parse_word(const struct parser *p, const char *word);      /* the present token is this word */
bool parse_keyword(struct slice s);
char *parse_text(struct parser *p, struct slice s);
bool parse_push(struct parser *p, struct name **list, struct slice text, size_t args);
/* $ and a name: the present token is $. NULL after a failure. */
const char *parse_dollar(struct parser *p);
struct node *parse_var(struct parser *p, const char *name);
