/* The parser of jq programs: terms, texts, objects, patterns, names. What it is and how it is
 * shared: expr_parse_int.h. */
#include "flow/expr_parse_int.h"

#include <stdio.h>
#include <stdlib.h>

static bool in_scope(const struct name *list, const char *text, size_t args)
{
    for (; list; list = list->next)
        if (list->args == args && strcmp(list->text, text) == 0)
            return true;
    return false;
}

static bool is_local(const struct parser *p, const char *name)
{
    for (const char *const *l = p->locals; l && *l; l++)
        if (strcmp(*l, name) == 0)
            return true;
    return false;
}

/* Remembers a free local, once. */
static bool add_local(struct parser *p, const char *name)
{
    struct expr *x = p->x;
    for (size_t i = 0; i < x->nlocals; i++)
        if (strcmp(x->locals[i], name) == 0)
            return true;
    const char **v = (const char **)x->locals;
    if (!v)
        v = arena_alloc(&x->arena, EXPR_LOCALS_MAX * sizeof *v);
    if (!v || x->nlocals == EXPR_LOCALS_MAX)
        return parse_fail(p, "split it into several tasks", "more than %d variables",
                          EXPR_LOCALS_MAX) != NULL;
    x->locals = v;
    v[x->nlocals++] = name;
    return true;
}

static struct node *unknown_var(struct parser *p, const char *name, bool known)
{
    char hint[384] = "available here:";
    const char *words[VAR_COUNT + 1];
    size_t n = 0, at = strlen(hint);
    for (int i = 0; i < VAR_COUNT; i++)
        if (p->allowed >> i & 1)
            words[n++] = expr_var_names[i];
    words[n] = NULL;
    const char *near = known ? NULL : err_nearest(sl_str(name), words);
    for (size_t i = 0; i < n && at < sizeof hint; i++)
        at += (size_t)snprintf(hint + at, sizeof hint - at, " $%s", words[i]);
    for (const char *const *l = p->locals; l && *l && at < sizeof hint; l++)
        at += (size_t)snprintf(hint + at, sizeof hint - at, " $%s", *l);
    if (near)
        (void)snprintf(hint, sizeof hint, "did you mean $%s?", near);
    else if (!n && !(p->locals && *p->locals))
        (void)snprintf(hint, sizeof hint, "no variable is available here");
    return parse_fail(p, hint, known ? "$%s is not available here" : "$%s is not defined", name);
}

struct node *parse_var(struct parser *p, const char *name)
{
    struct node *n = node_new(p, N_VAR, NULL, NULL);
    if (!n)
        return NULL;
    n->name = name;
    if (in_scope(p->vars, name, 0)) {
        n->bound = true;
        return n;
    }
    if (strcmp(name, "ENV") == 0)
        return parse_fail(p, "declare a secret in use.secrets or pass the value in the input",
                          "expressions do not read the environment");
    if (is_local(p, name) || p->any_var)
        return add_local(p, name) ? n : NULL;
    for (int i = 0; i < VAR_COUNT; i++) {
        if (strcmp(expr_var_names[i], name) != 0)
            continue;
        if (!(p->allowed >> i & 1))
            return unknown_var(p, name, true);
        n->var = i;
        p->x->vars |= 1u << i;
        return n;
    }
    return unknown_var(p, name, false);
}

const char *parse_dollar(struct parser *p)
{
    lex_next(&p->l);
    if (parse_word(p, "__loc__"))
        return parse_fail(p, "name the place in a text of your own",
                          "$__loc__ is not available in expressions"),
               NULL;
    if (p->l.tok != TOK_IDENT || parse_keyword(p->l.text))
        return parse_unexpected(p, "the name of a variable"), NULL;
    if (memchr(p->l.text.p, ':', p->l.text.n))
        return parse_fail(p, "define functions with def inside the expression",
                          "expressions can not load modules"),
               NULL;
    return parse_text(p, p->l.text);
}

/* Texts: "a\(x)b" is "" + "a" + (x|tostring) + "b", as jq builds it. */
struct node *parse_string(struct parser *p)
{
    struct node *n = NULL;
    for (;;) {
        struct buf text;
        buf_init(&text, EXPR_TEXT_MAX + 1);
        int end = lex_string(&p->l, &text, &p->plain);
        struct json_object *lit =
            buf_error(&text) ? NULL : json_object_new_string_len(text.n ? text.p : "", (int)text.n);
        buf_free(&text);
        if (!lit)
            return parse_memory(p);
        struct node *piece = node_const(p, lit);
        struct node *sum = n ? node_new(p, N_BINARY, n, piece) : piece;
        if (!sum)
            return NULL;
        if (n)
            sum->op = '+';
        n = sum;
        if (end == TOK_END)
            return parse_fail(p, "close it with \"", "a text that is not closed");
        if (end == '"')
            break;
        lex_next(&p->l);
        struct node *inner = parse_exp(p, 0);
        if (!p->failed && p->l.tok != ')')
            return parse_unexpected(p, "`)`");
        /* The lexer stands behind the bracket, where the text goes on. */
        struct node *shown = node_new(p, N_TEXT, inner, NULL);
        n = node_new(p, N_BINARY, n, shown);
        if (!n)
            return NULL;
        n->op = '+';
    }
    lex_next(&p->l);
    return n;
}

static struct node *parse_number(struct parser *p)
{
    struct slice t = p->l.text;
    char copy[64];
    bool simple = t.n < sizeof copy && t.p[0] != '.';
    for (size_t i = 0, points = 0; i < t.n && simple; i++) {
        points += t.p[i] == '.';
        simple = points < 2 &&
                 !(t.p[i] == '.' && (i + 1 == t.n || t.p[i + 1] < '0' || t.p[i + 1] > '9'));
    }
    double d = 0;
    if (simple) {
        memcpy(copy, t.p, t.n);
        copy[t.n] = 0;
        d = strtod(copy, NULL);
    }
    /* Odd forms and infinities: libjq's own reading decides. */
    if (!simple || d > 1.7976931348623157e308)
        p->plain = false;
    lex_next(&p->l);
    struct json_object *lit = jq_number(d);
    return node_made(p, lit);
}

static struct node *undefined(struct parser *p, const char *name, size_t args)
{
    char hint[256];
    const char *near = expr_fn_near(sl_str(name));
    if (near && strcmp(near, name) == 0)
        (void)snprintf(hint, sizeof hint,
                       "%s exists with another number of arguments; they are separated by ;", name);
    else if (near)
        (void)snprintf(hint, sizeof hint, "did you mean %s?", near);
    else
        (void)snprintf(hint, sizeof hint, "a member of the input is .%.60s, a text is \"%.30s\"",
                       name, name);
    return parse_fail(p, hint, "%s/%zu is not defined", name, args);
}

/* True when a node gives exactly one output or an error, whatever the input, and catches nothing.
 */
static bool is_single(const struct node *n)
{
    if (!n)
        return true;
    switch (n->kind) {
    case N_COMMA:
    case N_EACH:
    case N_TRY:
        return false;
    case N_INDEX:
    case N_SLICE:
        if (n->opt)
            return false;
        break;
    case N_COLLECT:
        return false; /* may catch inside; not worth telling */
    case N_CALL:
        if (n->fn == FN_EMPTY || n->fn == FN_SELECT || n->fn == FN_VALUES || n->fn == FN_MAP ||
            n->fn == FN_ANY1 || n->fn == FN_ALL1)
            return false;
        break;
    default:
        break;
    }
    for (size_t i = 0; i < n->n; i++)
        if (!is_single(n->v[i]))
            return false;
    return is_single(n->a) && is_single(n->b) && is_single(n->c);
}

static struct node *resolve(struct parser *p, const char *name, struct node *arg, size_t args)
{
    if (memchr(name, ':', strlen(name)))
        return parse_fail(p, "define functions with def inside the expression",
                          "expressions can not load modules");
    struct node *n = node_new(p, N_CALL, arg, NULL);
    if (!n)
        return NULL;
    if (in_scope(p->fns, name, args)) {
        p->plain = false;
        return n;
    }
    const char *why = expr_fn_refused(sl_str(name));
    if (why)
        return parse_fail(p, why, "%s is not available in expressions", name);
    n->fn = expr_fn(sl_str(name), args);
    if (n->fn < 0)
        return undefined(p, name, args);
    if (n->fn == FN_CHILD || ((n->fn == FN_ANY1 || n->fn == FN_ALL1) && !is_single(arg)))
        p->plain = false;
    return n;
}

static struct node *parse_call(struct parser *p)
{
    struct lexer at = p->l;
    if (parse_keyword(p->l.text))
        return parse_unexpected(p, "an expression");
    const char *name = parse_text(p, p->l.text);
    if (!name)
        return NULL;
    lex_next(&p->l);
    if (p->l.tok != '(') {
        bool yes = strcmp(name, "true") == 0;
        if (yes || strcmp(name, "false") == 0)
            return node_made(p, json_object_new_boolean(yes));
        if (strcmp(name, "null") == 0)
            return node_const(p, NULL);
    }
    struct node *arg = NULL;
    size_t args = 0;
    if (p->l.tok == '(') {
        do {
            lex_next(&p->l);
            arg = parse_exp(p, 0);
            args++;
        } while (!p->failed && p->l.tok == ';');
        if (!parse_take(p, ')', "`)`"))
            return NULL;
    }
    struct lexer after = p->l;
    p->l = at; /* an error is told at the name */
    struct node *n = resolve(p, name, arg, args);
    p->l = after;
    return n;
}

static struct node *parse_value(struct parser *p) /* ExpD: what may stand behind a key */
{
    if (p->failed)
        return NULL;
    if (++p->nest > EXPR_NEST_MAX)
        return parse_fail(p, "split it into several tasks", "the expression is nested too deeply");
    struct node *n;
    if (p->l.tok == '-') {
        lex_next(&p->l);
        struct node *a = parse_value(p);
        n = node_new(p, N_NEG, a, NULL);
    } else {
        n = parse_term(p);
    }
    while (!p->failed && p->l.tok == '|') {
        lex_next(&p->l);
        struct node *next = parse_value(p);
        n = node_new(p, N_PIPE, n, next);
    }
    p->nest--;
    return n;
}

static struct node *key_text(struct parser *p, struct slice text)
{
    struct json_object *lit = json_object_new_string_len(text.p, (int)text.n);
    return node_made(p, lit);
}

/* One member: *key and *value (NULL: the input's member of that name). */
static bool parse_pair(struct parser *p, struct node **key, struct node **value)
{
    bool needs = true;
    *value = NULL;
    if (p->l.tok == '$') {
        const char *name = parse_dollar(p);
        *key = name ? key_text(p, sl_str(name)) : NULL;
        *value = name ? parse_var(p, name) : NULL;
        lex_next(&p->l);
        return !p->failed;
    }
    if (p->l.tok == TOK_IDENT) {
        needs = parse_keyword(p->l.text);
        *key = key_text(p, p->l.text);
        lex_next(&p->l);
    } else if (p->l.tok == TOK_QUOTE || p->l.tok == TOK_FORMAT) {
        needs = false;
        if (p->l.tok == TOK_FORMAT) {
            p->plain = false;
            lex_next(&p->l);
        }
        if (p->l.tok != TOK_QUOTE)
            return parse_unexpected(p, "a text as key") != NULL;
        *key = parse_string(p);
    } else if (p->l.tok == '(') {
        lex_next(&p->l);
        *key = parse_exp(p, 0);
        if (!parse_take(p, ')', "`)`"))
            return false;
        /* A constant key that is no text is an error of libjq's compiler, which computes with
         * constants. */
        if (node_constant(p, *key) && !((*key)->lit && jq_is((*key)->lit, "string")))
            p->plain = false;
    } else {
        return parse_unexpected(p, "a key: a name, a text, $name or (expression)") != NULL;
    }
    if (p->failed || (!needs && p->l.tok != ':'))
        return !p->failed;
    if (!parse_take(p, ':', "`:`"))
        return false;
    *value = parse_value(p);
    return !p->failed;
}

static bool is_operator(const struct parser *p)
{
    return (p->l.tok < 128 && strchr("+-*/%<>=", p->l.tok)) ||
           (p->l.tok >= TOK_EQ && p->l.tok <= TOK_ALT) || parse_word(p, "and") ||
           parse_word(p, "or");
}

static struct node *parse_object(struct parser *p)
{
    struct node *n = node_new(p, N_OBJECT, NULL, NULL);
    struct node **v = NULL;
    size_t cap = 0, count = 0;
    lex_next(&p->l);
    while (!p->failed && p->l.tok != '}') {
        if (count + 2 > cap) {
            struct node **more = arena_alloc(&p->x->arena, (cap = cap ? 2 * cap : 8) * sizeof *v);
            if (!more)
                return parse_memory(p);
            if (count)
                memcpy(more, v, count * sizeof *v);
            v = more;
        }
        if (!parse_pair(p, &v[count], &v[count + 1]))
            return NULL;
        count += 2;
        if (p->l.tok == ',') {
            lex_next(&p->l);
            continue;
        }
        if (is_operator(p))
            return parse_fail(p, "put the value in brackets: {key: (.a + 1)}",
                              "an operator in the value of a key (jq 1.6 needs brackets there)");
        if (p->l.tok != '}')
            return parse_unexpected(p, "`,` or `}`");
    }
    if (!parse_take(p, '}', "`}`"))
        return NULL;
    n->v = v;
    n->n = count;
    return n;
}

/* Behind [ : each, index or slice of a. */
static struct node *parse_brackets(struct parser *p, struct node *a)
{
    lex_next(&p->l);
    struct node *n = node_new(p, N_INDEX, a, NULL), *first = NULL, *second = NULL;
    if (p->l.tok == ']') {
        lex_next(&p->l);
        if (n)
            n->kind = N_EACH;
        return n;
    }
    if (p->l.tok != ':')
        first = parse_exp(p, 0);
    if (!p->failed && p->l.tok == ':') {
        lex_next(&p->l);
        if (p->l.tok != ']' || !first)
            second = parse_exp(p, 0);
        if (n)
            n->kind = N_SLICE;
    }
    if (!parse_take(p, ']', "`]`"))
        return NULL;
    n->b = first;
    n->c = second;
    return n;
}

static struct node *member(struct parser *p, struct node *a, struct node *key)
{
    return node_new(p, N_INDEX, a, key);
}

/* The ? of an access, which only drops the error of this access. */
static struct node *optional(struct parser *p, struct node *n)
{
    if (p->failed || p->l.tok != '?')
        return n;
    n->opt = true;
    lex_next(&p->l);
    return n;
}

static struct node *parse_dot(struct parser *p)
{
    lex_next(&p->l);
    struct node *dot = node_new(p, N_DOT, NULL, NULL);
    if (p->l.tok == TOK_FORMAT) {
        p->plain = false;
        lex_next(&p->l);
        if (p->l.tok != TOK_QUOTE)
            return parse_unexpected(p, "a text");
    }
    if (p->l.tok == TOK_QUOTE)
        return optional(p, member(p, dot, parse_string(p)));
    if (p->l.tok == TOK_IDENT && !parse_keyword(p->l.text))
        return parse_fail(p, "write .[\"name\"] for members with unusual names",
                          "a blank between the point and the name");
    return dot;
}

static struct node *parse_bracketed(struct parser *p)
{
    bool list = p->l.tok == '[';
    lex_next(&p->l);
    if (list && p->l.tok == ']') {
        lex_next(&p->l);
        return node_made(p, json_object_new_array());
    }
    struct node *inner = parse_exp(p, 0);
    if (!parse_take(p, list ? ']' : ')', list ? "`]`" : "`)`"))
        return NULL;
    return list ? node_new(p, N_COLLECT, inner, NULL) : inner;
}

static struct node *parse_break(struct parser *p)
{
    lex_next(&p->l);
    p->plain = false;
    if (p->l.tok != '$')
        return parse_unexpected(p, "`$` and the label's name");
    lex_next(&p->l);
    if (p->l.tok != TOK_IDENT || parse_keyword(p->l.text))
        return parse_unexpected(p, "the label's name");
    const char *name = parse_text(p, p->l.text);
    if (name && !in_scope(p->labels, name, 0))
        return parse_fail(p, "a label stands before it: label $name | ...",
                          "$*label-%s is not defined", name);
    lex_next(&p->l);
    return node_new(p, N_DOT, NULL, NULL);
}

static struct node *parse_primary(struct parser *p)
{
    if (p->failed)
        return NULL;
    switch (p->l.tok) {
    case '.':
        return parse_dot(p);
    case TOK_FIELD: {
        struct node *key = key_text(p, p->l.text), *dot = node_new(p, N_DOT, NULL, NULL);
        lex_next(&p->l);
        return optional(p, member(p, dot, key));
    }
    case TOK_REC:
        p->plain = false;
        lex_next(&p->l);
        return node_new(p, N_DOT, NULL, NULL);
    case TOK_NUMBER:
        return parse_number(p);
    case TOK_FORMAT:
        p->plain = false;
        lex_next(&p->l);
        return p->l.tok == TOK_QUOTE ? parse_string(p) : node_new(p, N_DOT, NULL, NULL);
    case TOK_QUOTE:
        return parse_string(p);
    case '(':
    case '[':
        return parse_bracketed(p);
    case '{':
        return parse_object(p);
    case '$': {
        const char *name = parse_dollar(p);
        struct node *n = name ? parse_var(p, name) : NULL;
        lex_next(&p->l);
        return n;
    }
    case TOK_IDENT:
        return parse_word(p, "break") ? parse_break(p) : parse_call(p);
    default:
        return parse_unexpected(p, "an expression");
    }
}

struct node *parse_term(struct parser *p)
{
    struct node *n = parse_primary(p);
    while (!p->failed) {
        if (p->l.tok == TOK_FIELD) {
            struct node *key = key_text(p, p->l.text);
            lex_next(&p->l);
            n = member(p, n, key);
        } else if (p->l.tok == '[') {
            n = parse_brackets(p, n);
        } else if (p->l.tok == '.') {
            lex_next(&p->l);
            if (p->l.tok == TOK_FORMAT) {
                p->plain = false;
                lex_next(&p->l);
            }
            if (p->l.tok != TOK_QUOTE)
                return parse_unexpected(p, "the name of a member");
            n = member(p, n, parse_string(p));
        } else {
            return n;
        }
        n = optional(p, n);
    }
    return NULL;
}
