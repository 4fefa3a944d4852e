/* A workflow definition of the Open Workflow Specification DSL 1.0, parsed, checked and compiled:
 * immutable after flow_parse, counted, shared by all runs that are on its content hash. One thread
 * owns the references. */
#pragma once
#include "config/ydoc.h"
#include "flow/expr.h"

#define FLOW_HASH_MAX  65 /* SHA-256 of the canonical JSON, hex and a zero */
#define FLOW_TASKS_MAX 10000
#define FLOW_NAME_MAX  64

enum task_type {
    TASK_DO,
    TASK_SET,
    TASK_SWITCH,
    TASK_HTTP,
    TASK_SHELL,
    TASK_SCRIPT,
    TASK_EMIT,
    TASK_WAIT,
    TASK_RAISE,
    TASK_FOR,
    TASK_TRY
};
/* DECISIONS 13. once = world with at-most-once. */
enum effect { EFFECT_PURE, EFFECT_SAFE, EFFECT_MODEL, EFFECT_WORLD, EFFECT_ONCE };
enum on_unknown { UNKNOWN_RETRY, UNKNOWN_FAIL, UNKNOWN_ASK };

enum then_kind { THEN_CONTINUE, THEN_EXIT, THEN_END, THEN_TASK };
struct then {
    enum then_kind kind;
    struct task *target; /* THEN_TASK: in the same list */
};

struct task_list {
    struct task **v;
    size_t n;
};

struct switch_case {
    const char *name;
    struct tmpl *when; /* NULL: the default case */
    struct then then;
};

/* A call of use.functions.NAME. The task has the function's type, `with` and options; around them:
 * input of the task -> args -> input_from -> with -> ... -> output_as -> output of the task. While
 * `with` and output_as are evaluated, $input is what the function was given. */
struct function {
    const char *name;
    struct tmpl *args; /* the call's `with`; NULL: the task's transformed input goes in */
    struct tmpl *input_from, *output_as;       /* of the function; NULL: none */
    struct tmpl *input_schema, *output_schema; /* schema.h; NULL: none */
};

/* for: the body runs once for each element of `in`, evaluated once. */
struct loop {
    const char *each, *at; /* names of the variables in scope: the element, its index from 0 */
    struct tmpl *in;       /* gives an array */
    struct tmpl *cond;     /* while, before each iteration; NULL: none */
};

/* A retry policy. Retry number n (from 1) waits delay, delay * n or delay * 2^(n-1), plus jitter.
 */
struct retry {
    struct tmpl *when, *except_when; /* NULL: none */
    struct tmpl *delay, *jitter_from,
        *jitter_to;                /* durations; delay NULL: 1 s; jitter NULL: none */
    struct tmpl *duration;         /* limit over all attempts; NULL: none */
    struct tmpl *attempt_duration; /* limit of each attempt; NULL: none */
    enum { BACKOFF_CONSTANT, BACKOFF_LINEAR, BACKOFF_EXPONENTIAL } backoff;
    int64_t count; /* retries at most, not counting the first attempt; -1: no limit */
};

/* catch of a try. */
struct catch_ {
    struct json_object *with; /* errors.with: members that must be equal; NULL: every error */
    const char *as;           /* name of the variable with the error */
    struct tmpl *when, *except_when; /* NULL: none */
    struct retry *retry;             /* NULL: none */
    struct task_list body;           /* catch.do */
    bool has_body;
    bool has_then; /* catch.then: instead of the task's own, when an error was caught */
    struct then then;
};

struct task {
    const char *name;
    /* JSON pointer in the definition: /do/2/search. Inside a loop it holds "for/-": the place of
     * the index, as in /do/1/loop/for/-/do/0/step (flow_task, flow_ref_at). */
    const char *ref;
    enum task_type type;
    struct task *parent;    /* enclosing composite task, NULL at the root */
    struct task_list *list; /* the list it stands in */
    size_t index;           /* its place there */
    struct tmpl *cond;      /* if; NULL: none */
    struct tmpl *input_from, *output_as, *export_as;           /* NULL: none */
    struct tmpl *input_schema, *output_schema, *export_schema; /* schema.h; NULL: none */
    struct then then;
    enum effect effect;
    enum on_unknown on_unknown;
    struct json_object
        *definition; /* borrowed from the document: the task's own object, for $task.definition */
    struct json_object *metadata; /* or NULL */
    int line, col;
    struct task_list body; /* do, for, try */
    struct loop *loop;     /* for */
    struct catch_ *catch_; /* try */
    struct tmpl *timeout;  /* timeout.after, a duration; NULL: none */
    /* What is evaluated when it runs; meaning by type:
     * set: the value; http: object {method, endpoint, headers, query, body, authentication}; shell:
     * {command, arguments, environment, stdin}; script: {language, code | source, arguments,
     * environment, stdin}; emit: the event attributes; wait: the duration (object, text or
     * expression); raise: the error object. Members that are not given are absent. */
    struct tmpl *with;
    struct switch_case *cases; /* switch */
    size_t ncases;
    /* Options that are never expressions. */
    enum { OUT_CONTENT, OUT_RAW, OUT_RESPONSE } http_output;
    bool http_redirect;
    bool endpoint_expr; /* the endpoint is one expression: braces in its value are no template */
    enum { RETURN_STDOUT, RETURN_STDERR, RETURN_CODE, RETURN_ALL, RETURN_NONE } returns;
    bool await;                /* run: false = do not wait for the end */
    const char *emit_topic;    /* metadata.tidemark.topic or NULL */
    struct function *function; /* the task calls use.functions.NAME; NULL otherwise */
};

/* A CloudEvent filter: all attributes must match. */
struct filter_attr {
    const char *name; /* type, source, subject, data, extension... */
    enum { MATCH_LITERAL, MATCH_REGEX, MATCH_EXPR } kind;
    struct json_object *literal; /* borrowed; for data any JSON value */
    void *regex;                 /* compiled POSIX ERE, whole value; the text itself matches too */
    struct tmpl *expr;           /* sees the envelope; for `data` the data */
};
struct filter {
    struct filter_attr *v;
    size_t n;
    const char *type; /* the literal type if there is one: matched first; else NULL */
};

struct flow;
struct flow_schedule {
    bool on;                /* schedule.on is present */
    bool any_event;         /* any: [] */
    struct filter *filters; /* one or any */
    size_t nfilters;
    enum { READ_DATA, READ_ENVELOPE, READ_RAW } read;
};

struct flow_info {
    const char *ns, *name, *version, *title;
    const char *hash;  /* FLOW_HASH_MAX */
    struct slice text; /* canonical JSON of the definition, what is kept in the agents topic */
    struct tmpl *input_from, *output_as; /* of the workflow */
    struct tmpl *input_schema, *output_schema;
    struct tmpl *timeout; /* timeout.after of the workflow; NULL: none */
    struct task_list tasks;
    struct flow_schedule schedule;
    struct tmpl *key; /* metadata.tidemark.key or NULL */
    int priority;     /* metadata.tidemark.priority: 0 high .. 9 low, default 5 */
    const char *const
        *topics; /* metadata.tidemark.topics, NULL-terminated, or NULL: every declared topic */
    const char *const *secrets; /* use.secrets, NULL-terminated */
    bool loose;                 /* evaluate.mode */
};

/* Parses and checks a document, reporting every problem in `d` with its place. *ret is NULL when
 * there are errors; warnings alone do not prevent a result. `deep`: also compiles non-inline
 * programs in a child process (slow; for `check` and `apply`). */
int flow_parse(const struct ydoc *y, bool deep, struct flow **ret, struct diags *d);
/* Replaces the resource of each schema by the document that it names, so that the definition is
 * whole and its hash covers it; before flow_parse, for definitions that come from files. `read`
 * gives an owned document, or NULL with its problems in `d`. Problems are told in `d`. What is
 * taken out of the tree goes into the array `kept`, which must outlive `y`. */
void flow_embed_schemas(const struct ydoc *y,
                        struct json_object *(*read)(void *arg, const char *path, struct diags *d),
                        void *arg, struct json_object *kept, struct diags *d);
/* From the canonical text that the agents topic holds. */
int flow_from_text(struct slice text, struct flow **ret, struct err *e);
struct flow *flow_ref(struct flow *f);
struct flow *flow_unref(struct flow *f);
const struct flow_info *flow_info(const struct flow *f);
/* The task with this reference (concrete loop indexes included), NULL when there is none. */
struct task *flow_task(const struct flow *f, struct slice ref);
/* How many loops `ref`, a reference of the definition, stands inside. */
size_t flow_loops(const char *ref);
/* Writes the reference of a run: `ref` of the definition with the indexes of its loops, outermost
 * first (n of them). 0, -EINVAL when n is not flow_loops(ref), -ENAMETOOLONG. */
int flow_ref_at(const char *ref, const int64_t *indexes, size_t n, char *ret, size_t size);

/* ISO 8601 duration text, or the DSL's duration object: milliseconds. 0 or -EINVAL (e says why).
 * Years and months need no calendar here: they are refused with a hint. */
int duration_read(struct json_object *o, int64_t *ret_ms, struct err *e);
/* Parses `{with: {...}}` of a filter; the place of problems by y. */
struct filter *filter_parse(const struct ydoc *y, struct json_object *o, struct diags *d);
struct filter *filter_free(struct filter *f, size_t n);
/* Matches an event envelope (CloudEvents JSON format: specversion, id, type, ..., data). 1 yes, 0
 * no, -EINPROGRESS when an expression of it is not inline and all else matched (ask filter_exprs),
 * negative errno on an expression error. */
int filter_match(const struct filter *f, struct json_object *envelope, struct err *e);
