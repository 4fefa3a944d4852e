/* Shared by flow.c and the files of the parser (parse_*.c). One thread parses; a parser lives for
 * one call of flow_parse. Objects of the DSL are described by tables of their properties (struct
 * prop), so that an unknown, missing, misplaced or not yet supported property is told in one place
 * and the same way everywhere.
 *
 * Invariant: each problem is added to `d` with the place of the value or key it is about; a
 * function that returns false or NULL has added one. */
#pragma once
#include "base/arena.h"
#include "base/map.h"
#include "flow/flow.h"

#define FLOW_BYTES_MAX  (16u << 20) /* canonical text; memory of tasks */
#define FLOW_REF_MAX    480         /* bytes of a task's reference; the journal's keys hold 512 */
#define FLOW_INDEX_MAX  6           /* digits of a loop's index, for which references leave room */
#define FLOW_LOCALS_MAX 64          /* variables of loops and catches in scope at one place */
#define FLOW_CASES_MAX  1000        /* of one switch */
#define FLOW_LATER_HINT "docs/dsl.md says what is supported so far"

#define FLOW_SECRET_HINT                                                                           \
    "allowed in headers, query, body, endpoint and authentication of call: http, and in "          \
    "arguments, environment and "                                                                  \
    "stdin of run; elsewhere its value would get into the journal"

struct flow {
    int refs;
    struct flow_info info;
    char hash[FLOW_HASH_MAX];
    char *text;
    struct json_object *root; /* the document; literals and names point into it */
    struct map by_ref;        /* reference -> struct task */
    struct arena mem;         /* tasks, lists, cases */
};

struct parser {
    const struct ydoc *y;
    struct diags *d;
    struct flow *f;
    bool deep;
    enum tmpl_mode mode; /* TMPL_STRICT or TMPL_LOOSE */
    struct json_object *functions, *errors, *authentications, *secrets, *retries,
        *timeouts; /* of `use`; NULL or of the right kind */
    size_t ntasks;
    /* Variables of the enclosing loops and catches, NULL-terminated; inner ones come later. */
    const char *locals[FLOW_LOCALS_MAX + 1];
    size_t nlocals;
};

/* ---- places and problems (parse_check.c) ---- */

/* A value's place: member `key` of an object, or element `index` of an array when key is NULL. */
struct spot {
    struct json_object *parent;
    const char *key;
    size_t index;
};
#define MEMBER(o, name) ((struct spot){(o), (name), 0})
#define ELEMENT(a, i)   ((struct spot){(a), NULL, (i)})

struct ydoc_pos spot_pos(const struct parser *p, struct spot at);
void parse_bad(struct parser *p, struct spot at, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void parse_warn(struct parser *p, struct spot at, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* At the member's key. */
void parse_bad_key(struct parser *p, struct json_object *o, const char *key, const char *hint,
                   const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* "did you mean X?" when a word is near, else `otherwise`. Written to buf. */
const char *parse_near(char *buf, size_t size, const char *word, const char *const *words,
                       const char *otherwise);
const char *parse_near_member(char *buf, size_t size, const char *word, struct json_object *o,
                              const char *otherwise);

/* ---- properties (parse_check.c) ---- */

#define T_BOOL (1u << json_type_boolean)
#define T_NUM  (1u << json_type_double | 1u << json_type_int)
#define T_INT  (1u << json_type_int)
#define T_OBJ  (1u << json_type_object)
#define T_ARR  (1u << json_type_array)
#define T_TEXT (1u << json_type_string)
#define T_ANY  (~0u)

enum {
    PROP_NEED = 1,
    PROP_LATER = 2,    /* of the specification, not supported yet */
    PROP_EXPR = 4,     /* a text is right only as one ${ } */
    PROP_ELSEWHERE = 8 /* its place is elsewhere, as the hint says */
};
struct prop {
    const char *name;
    uint32_t types;
    unsigned flags;
    const char *const *values; /* the texts that may stand here, or NULL */
    const char *hint;          /* for a wrong or missing value */
};

/* Checks the object at `at` against the table (which ends with a NULL name). NULL, with the problem
 * added, when it is no object; else the object, whose members of a wrong kind are told and must be
 * read with prop_get. */
struct json_object *parse_object(struct parser *p, struct spot at, const char *what,
                                 const struct prop *table, const char *hint);
/* The member if it is there and of a kind that the table allows, and not PROP_LATER; else NULL. */
struct json_object *prop_get(struct json_object *o, const struct prop *table, const char *name);
const char *prop_text(struct json_object *o, const struct prop *table, const char *name);
/* Index in a list of texts, or `otherwise` when the member is absent or wrong. */
int prop_choice(struct json_object *o, const struct prop *table, const char *name, int otherwise);

bool text_is_expr(struct json_object *o);    /* a text of the form ${ ... } */
bool text_opens_expr(struct json_object *o); /* a text that begins with ${ */

/* ---- expressions (parse_tmpl.c): table (b) of the data flow ---- */

#define V(name)     (1u << VAR_##name)
#define VARS_BASE   (V(WORKFLOW) | V(RUNTIME))
#define VARS_TASK   (VARS_BASE | V(CONTEXT) | V(TASK)) /* if, input.from */
#define VARS_INPUT  (VARS_TASK | V(INPUT))             /* the definition, output.as */
#define VARS_SECRET (VARS_INPUT | V(SECRETS))          /* what is sent or handed to a process */
#define VARS_EXPORT (VARS_INPUT | V(OUTPUT))           /* export.as */

enum { TEXT_OWN_SYNTAX = 1 /* ${ inside a text means something there: shell, code */ };
/* Checks every expression inside the value, each problem at its own place. */
bool parse_check_exprs(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars,
                       unsigned flags);
/* True when an expression in it names $secrets (and it has no errors). */
bool parse_names_secret(const struct parser *p, struct json_object *value);
/* Checks, then compiles; NULL with problems added. Null as a value compiles too. */
struct tmpl *parse_tmpl(struct parser *p, struct spot at, enum tmpl_mode mode, uint32_t vars);
/* Compiles `value`, whose parts were checked before; problems are told at `at`. */
struct tmpl *parse_compile(struct parser *p, struct spot at, struct json_object *value,
                           uint32_t vars);
/* Unquoted ${ { a: b } } is a mapping to YAML: tells of each key that begins with ${. */
void parse_find_traps(struct parser *p, struct json_object *o);

/* ---- objects of the DSL ---- */

void parse_root(struct parser *p, struct json_object *root); /* parse.c */
/* Reads {from} or {as}; NULL when absent. `what`: "input", "output", "export". */
struct tmpl *parse_shape(struct parser *p, struct json_object *o, const char *what, uint32_t vars);
/* The schema of that {schema: ...}; NULL when absent or wrong. parse_schema.c. */
struct tmpl *parse_schema(struct parser *p, struct json_object *o, const char *what);
bool parse_texts(struct parser *p, struct spot at, const char *what, const char *const **ret);
void parse_use(struct parser *p, struct json_object *root); /* parse_use.c: the names, then: */
void parse_use_functions(struct parser *p);
/* An error definition: returns it, or NULL with the problem added. */
struct json_object *parse_error(struct parser *p, struct spot at);
/* Authentication policy at an endpoint or in use.authentications; `reference`: {use: NAME} is right
 * too. *ret is what is to be used, borrowed, NULL when it is wrong. */
void parse_authentication(struct parser *p, struct spot at, bool reference,
                          struct json_object **ret);
void parse_schedule(struct parser *p, struct json_object *root); /* parse_schedule.c */
/* One event filter; false: with problems added, *ret is to be freed with filter_free all the same.
 * filter.c. */
bool parse_filter(struct parser *p, struct spot at, struct filter *ret);
/* `way`: how the list is reached from its owner, in references: "do", "try", "catch/do". */
void parse_list(struct parser *p, struct spot at, const char *way, struct task *owner,
                struct task_list *ret); /* parse_list.c */
void parse_then(struct parser *p, struct spot at, struct task *t, struct then *ret);
void parse_reach(struct parser *p, const struct task_list *l);
void parse_task(struct parser *p, struct task *t); /* parse_task.c */
/* A function of use.functions as the body of t: what it does, without data flow of the caller. */
void parse_function(struct parser *p, struct task *t, struct json_object *fn, const char *name);
/* The kinds of task that have a file of their own; o is the task, or the function that it calls. */
void parse_call(struct parser *p, struct task *t, struct json_object *o); /* parse_call.c */
void parse_http(struct parser *p, struct task *t, struct json_object *o);
void parse_run(struct parser *p, struct task *t, struct json_object *o); /* parse_run.c */
void parse_for(struct parser *p, struct task *t, struct json_object *o); /* parse_for.c */
void parse_try(struct parser *p, struct task *t, struct json_object *o); /* parse_try.c */
/* Brings a variable into scope (the name of member `key` of o, or `otherwise`); false, with the
 * problem added, when it is no name. End its scope by setting p->nlocals back with parse_leave. */
bool parse_local(struct parser *p, struct json_object *o, const char *key, const char *otherwise,
                 const char **ret);
void parse_leave(struct parser *p, size_t nlocals);
/* A retry policy; NULL with the problem added. parse_retry.c. */
struct retry *parse_retry(struct parser *p, struct spot at);
/* Member `timeout` of o, {after} or a name of use.timeouts; NULL when absent or wrong. */
struct tmpl *parse_timeout(struct parser *p, struct json_object *o, uint32_t vars);
/* A duration that stands in the definition, or one expression. */
struct tmpl *parse_duration(struct parser *p, struct spot at, uint32_t vars);
void parse_use_policies(struct parser *p); /* use.retries and use.timeouts, used or not */
void flow_task_release(struct task *t);    /* frees what a task owns outside of the arena */
