/* The parser of jq programs: operators and statements. What it is and how it is shared:
 * expr_parse_int.h. Invariant: recursion is bounded by EXPR_NEST_MAX. */
#include "flow/expr_parse_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct node *parse_fail(struct parser *p, const char *hint, const char *fmt, ...)
{
    if (p->failed)
        return NULL;
    p->failed = true;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int line = 1, col = 1;
    for (size_t i = 0; i < p->l.start && i < p->l.src.n; i++) {
        bool begins = ((unsigned char)p->l.src.p[i] & 0xc0) != 0x80;
        line += p->l.src.p[i] == '\n';
        col = p->l.src.p[i] == '\n' ? 1 : col + begins;
    }
    if (memchr(p->l.src.p, '\n', p->l.src.n))
        err_set(p->e, -EINVAL, hint, "expression, line %d, column %d: %s", line, col, text);
    else
        err_set(p->e, -EINVAL, hint, "expression, column %d: %s", col, text);
    return NULL;
}

struct node *parse_memory(struct parser *p)
{
    if (!p->failed)
        err_set(p->e, -ENOMEM, "give the process more memory", "no memory for the expression");
    p->failed = true;
    return NULL;
}

struct node *parse_unexpected(struct parser *p, const char *wanted)
{
    struct slice seen = sl(p->l.src.p + p->l.start, p->l.at - p->l.start);
    if (p->l.tok == TOK_END)
        return parse_fail(p, "a bracket, a quote or the rest of the expression is missing",
                          "it ends where %s should stand", wanted);
    const char *hint = "the language is jq 1.6";
    if (p->l.tok == '\'' || (seen.n && seen.p[0] == '\''))
        hint = "texts stand in double quotes";
    else if (sl_is(seen, "&") || sl_is(seen, "!"))
        hint = "jq writes `and`, `or` and `| not`";
    else if (sl_is(seen, "="))
        hint = "jq compares with ==";
    return parse_fail(p, hint, "`%.*s` where %s should stand", (int)(seen.n > 40 ? 40 : seen.n),
                      seen.p, wanted);
}

struct node *node_new(struct parser *p, enum node_kind kind, struct node *a, struct node *b)
{
    if (p->failed)
        return NULL;
    struct node *n = p->nodes < EXPR_NODES_MAX ? arena_alloc(&p->x->arena, sizeof *n) : &p->scratch;
    if (!n)
        return parse_memory(p);
    if (++p->nodes > EXPR_NODES_MAX)
        p->plain = false;
    *n = (struct node){.kind = kind, .a = a, .b = b, .var = -1};
    return n;
}

struct node *node_const(struct parser *p, struct json_object *lit)
{
    struct expr *x = p->x;
    if (lit && x->nlits == x->cap_lits) {
        size_t cap = x->cap_lits ? 2 * x->cap_lits : 8;
        struct json_object **v = realloc(x->lits, cap * sizeof *v);
        if (!v) {
            json_object_put(lit);
            return parse_memory(p);
        }
        x->lits = v;
        x->cap_lits = cap;
    }
    if (lit)
        x->lits[x->nlits++] = lit;
    struct node *n = node_new(p, N_CONST, NULL, NULL);
    if (n)
        n->lit = lit;
    return n;
}

struct node *node_made(struct parser *p, struct json_object *lit)
{
    return lit ? node_const(p, lit) : parse_memory(p);
}

bool parse_take(struct parser *p, int tok, const char *wanted)
{
    if (!p->failed && p->l.tok != tok)
        parse_unexpected(p, wanted);
    if (p->failed)
        return false;
    lex_next(&p->l);
    return true;
}

bool parse_word(const struct parser *p, const char *word)
{
    return p->l.tok == TOK_IDENT && sl_is(p->l.text, word);
}

bool parse_keyword(struct slice s)
{
    static const char *const words[] = {"as",    "import", "include", "module",  "def",
                                        "if",    "then",   "else",    "elif",    "and",
                                        "or",    "end",    "reduce",  "foreach", "try",
                                        "catch", "label",  "break",   "__loc__"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (sl_is(s, words[i]))
            return true;
    return false;
}

char *parse_text(struct parser *p, struct slice s)
{
    char *text = arena_strdup(&p->x->arena, s);
    if (!text)
        parse_memory(p);
    return text;
}

bool parse_push(struct parser *p, struct name **list, struct slice text, size_t args)
{
    struct name *n = arena_alloc(&p->x->arena, sizeof *n);
    char *copy = parse_text(p, text);
    if (!n || !copy)
        return parse_memory(p) != NULL;
    *n = (struct name){*list, copy, args};
    *list = n;
    return true;
}

static bool take_word(struct parser *p, const char *word, const char *wanted)
{
    if (p->failed)
        return false;
    if (!parse_word(p, word)) {
        parse_unexpected(p, wanted);
        return false;
    }
    lex_next(&p->l);
    return true;
}

/* def NAME(params): BODY; */
static bool parse_def(struct parser *p)
{
    lex_next(&p->l);
    if (p->l.tok != TOK_IDENT || parse_keyword(p->l.text)) {
        parse_unexpected(p, "the name of a function");
        return false;
    }
    struct slice name = p->l.text;
    struct name *vars = p->vars, *fns = p->fns, *inner = NULL;
    size_t args = 0;
    lex_next(&p->l);
    if (p->l.tok == '(') {
        do {
            lex_next(&p->l);
            bool dollar = p->l.tok == '$';
            if (dollar)
                lex_next(&p->l);
            if (p->l.tok != TOK_IDENT || parse_keyword(p->l.text)) {
                parse_unexpected(p, "the name of a parameter");
                return false;
            }
            if ((dollar && !parse_push(p, &p->vars, p->l.text, 0)) ||
                !parse_push(p, &inner, p->l.text, 0))
                return false;
            args++;
            lex_next(&p->l);
        } while (p->l.tok == ';');
        if (!parse_take(p, ')', "`)`"))
            return false;
    }
    /* The function sees itself, and its parameters hide it. */
    if (!parse_take(p, ':', "`:`") || !parse_push(p, &p->fns, name, args))
        return false;
    for (struct name *n = inner; n; n = n->next)
        if (!parse_push(p, &p->fns, sl_str(n->text), 0))
            return false;
    parse_exp(p, 0);
    p->vars = vars;
    p->fns = fns;
    return parse_take(p, ';', "`;` behind the function") && parse_push(p, &p->fns, name, args);
}

static struct node *parse_if(struct parser *p)
{
    lex_next(&p->l); /* if or elif */
    struct node *n = node_new(p, N_IF, NULL, NULL);
    struct node *cond = parse_exp(p, 0);
    if (!take_word(p, "then", "`then`"))
        return NULL;
    struct node *yes = parse_exp(p, 0), *no = NULL;
    if (!p->failed && parse_word(p, "elif")) {
        if (++p->nest > EXPR_NEST_MAX)
            return parse_fail(p, "split it into several tasks",
                              "the expression is nested too deeply");
        no = parse_if(p);
        p->nest--;
    } else if (!p->failed && parse_word(p, "end")) {
        return parse_fail(p, "jq 1.6 needs it: add `else .` or `else null`", "`if` without `else`");
    } else {
        if (!take_word(p, "else", "`else`"))
            return NULL;
        no = parse_exp(p, 0);
        if (!take_word(p, "end", "`end`"))
            return NULL;
    }
    if (p->failed)
        return NULL;
    n->a = cond;
    n->b = yes;
    n->c = no;
    return n;
}

/* reduce and foreach run in the child; their scopes are read here. */
static struct node *parse_fold(struct parser *p, bool foreach)
{
    lex_next(&p->l);
    p->plain = false;
    parse_term(p);
    struct name *bound = NULL, *outer = p->vars;
    const char *single;
    if (!take_word(p, "as", "`as`") || !parse_patterns(p, &bound, &single) ||
        !parse_take(p, '(', "`(`"))
        return NULL;
    parse_exp(p, 0);
    if (!parse_take(p, ';', "`;`"))
        return NULL;
    for (struct name *n = bound; n; n = n->next)
        if (!parse_push(p, &p->vars, sl_str(n->text), 0))
            return NULL;
    parse_exp(p, 0);
    if (foreach && !p->failed && p->l.tok == ';') {
        lex_next(&p->l);
        parse_exp(p, 0);
    }
    p->vars = outer;
    return parse_take(p, ')', "`)`") ? node_new(p, N_DOT, NULL, NULL) : NULL;
}

static struct node *parse_label(struct parser *p)
{
    lex_next(&p->l);
    p->plain = false;
    if (p->l.tok != '$')
        return parse_unexpected(p, "`$` and the label's name");
    lex_next(&p->l);
    struct name *outer = p->labels;
    if (p->l.tok != TOK_IDENT || parse_keyword(p->l.text))
        return parse_unexpected(p, "the label's name");
    if (!parse_push(p, &p->labels, p->l.text, 0))
        return NULL;
    lex_next(&p->l);
    if (!parse_take(p, '|', "`|`"))
        return NULL;
    struct node *n = parse_exp(p, 0);
    p->labels = outer;
    return n;
}

static struct node *parse_bind(struct parser *p, struct node *source)
{
    lex_next(&p->l);
    struct name *bound = NULL, *outer = p->vars;
    const char *single = NULL;
    struct node *n = node_new(p, N_BIND, source, NULL);
    if (!parse_patterns(p, &bound, &single) || !parse_take(p, '|', "`|`"))
        return NULL;
    if (!single)
        p->plain = false;
    for (struct name *b = bound; b; b = b->next)
        if (!parse_push(p, &p->vars, sl_str(b->text), 0))
            return NULL;
    struct node *body = parse_exp(p, 0);
    p->vars = outer;
    if (p->failed)
        return NULL;
    n->name = single;
    n->b = body;
    return n;
}

static struct node *parse_prefix(struct parser *p);

static struct node *parse_try(struct parser *p)
{
    lex_next(&p->l);
    struct node *n = node_new(p, N_TRY, NULL, NULL), *body = parse_prefix(p);
    if (!p->failed && parse_word(p, "catch")) {
        p->plain = false;
        lex_next(&p->l);
        parse_prefix(p);
    }
    if (p->failed)
        return NULL;
    n->a = body;
    return n;
}

enum {
    PREC_PIPE = 1,
    PREC_COMMA,
    PREC_ALT,
    PREC_ASSIGN,
    PREC_OR,
    PREC_AND,
    PREC_COMPARE,
    PREC_ADD,
    PREC_MUL
};

static struct node *prefix(struct parser *p)
{
    if (parse_word(p, "def"))
        return parse_def(p) ? (p->plain = false, parse_exp(p, 0)) : NULL;
    if (parse_word(p, "reduce") || parse_word(p, "foreach"))
        return parse_fold(p, parse_word(p, "foreach"));
    if (parse_word(p, "if"))
        return parse_if(p);
    if (parse_word(p, "try"))
        return parse_try(p);
    if (parse_word(p, "label"))
        return parse_label(p);
    if (p->l.tok == '-') {
        lex_next(&p->l);
        struct node *n = node_new(p, N_NEG, NULL, NULL), *a = parse_exp(p, PREC_ADD + 1);
        if (p->failed)
            return NULL;
        n->a = a;
        return n;
    }
    struct node *n = parse_term(p);
    return n && parse_word(p, "as") ? parse_bind(p, n) : n;
}

static struct node *parse_prefix(struct parser *p)
{
    if (p->failed)
        return NULL;
    if (++p->nest > EXPR_NEST_MAX)
        return parse_fail(p, "split it into several tasks", "the expression is nested too deeply");
    struct name *fns = p->fns;
    struct node *n = prefix(p);
    p->fns = fns;
    p->nest--;
    return n;
}

static int precedence(const struct parser *p)
{
    if (p->l.tok == TOK_IDENT)
        return sl_is(p->l.text, "or") ? PREC_OR : sl_is(p->l.text, "and") ? PREC_AND : 0;
    static const struct {
        int tok, prec;
    } table[] = {{'|', PREC_PIPE},       {',', PREC_COMMA},         {TOK_ALT, PREC_ALT},
                 {'=', PREC_ASSIGN},     {TOK_ASSIGN, PREC_ASSIGN}, {TOK_EQ, PREC_COMPARE},
                 {TOK_NE, PREC_COMPARE}, {'<', PREC_COMPARE},       {'>', PREC_COMPARE},
                 {TOK_LE, PREC_COMPARE}, {TOK_GE, PREC_COMPARE},    {'+', PREC_ADD},
                 {'-', PREC_ADD},        {'*', PREC_MUL},           {'/', PREC_MUL},
                 {'%', PREC_MUL}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].tok == p->l.tok)
            return table[i].prec;
    return 0;
}

static bool constant(const struct node *n)
{
    if (!n || n->kind == N_CONST)
        return true;
    if (n->kind == N_PIPE)
        return (n->a->kind == N_DOT || constant(n->a)) && (n->b->kind == N_DOT || constant(n->b));
    for (size_t i = 0; n->kind == N_OBJECT && i < n->n; i++)
        if (!constant(n->v[i]))
            return false;
    return n->kind == N_OBJECT || (n->kind == N_BINARY && constant(n->a) && constant(n->b));
}

bool node_constant(const struct parser *p, const struct node *n)
{
    return p->plain && constant(n); /* else the nodes may be no tree: parser.scratch */
}

static bool is_number(const struct node *n)
{
    return n->kind == N_CONST && n->lit && jq_is(n->lit, "number");
}

/* libjq computes with constants while it compiles and refuses an infinite quotient then: leave that
 * to it. */
static bool folds_badly(const struct parser *p, int op, const struct node *a, const struct node *b)
{
    return op == '/' && node_constant(p, a) && node_constant(p, b);
}

static struct node *combine(struct parser *p, int prec, int op, struct node *a, struct node *b)
{
    static const enum node_kind kinds[] = {
        [PREC_PIPE] = N_PIPE,      [PREC_COMMA] = N_COMMA, [PREC_ALT] = N_ALT,
        [PREC_ASSIGN] = N_DOT,     [PREC_OR] = N_OR,       [PREC_AND] = N_AND,
        [PREC_COMPARE] = N_BINARY, [PREC_ADD] = N_BINARY,  [PREC_MUL] = N_BINARY};
    struct node *n = node_new(p, kinds[prec], a, b);
    if (!n)
        return NULL;
    n->op = op;
    if (prec == PREC_ASSIGN || folds_badly(p, op, a, b))
        p->plain = false;
    /* A constant sum may be a constant divisor or key: it must stay visible as one. */
    if (n->kind == N_BINARY && is_number(a) && is_number(b) && strchr("+-*", op) && op < 128) {
        double x = jq_double(a->lit), y = jq_double(b->lit);
        return node_made(p, jq_number(op == '+' ? x + y : op == '-' ? x - y : x * y));
    }
    return n;
}

struct node *parse_exp(struct parser *p, int min)
{
    struct node *left = parse_prefix(p);
    for (int last = 0; !p->failed;) {
        if (p->l.tok == '?') {
            lex_next(&p->l);
            left = node_new(p, N_TRY, left, NULL);
            continue;
        }
        int prec = precedence(p), op = p->l.tok;
        if (!prec || prec < min)
            return left;
        bool once = prec == PREC_COMPARE || prec == PREC_ASSIGN;
        if (once && last == prec)
            return parse_unexpected(p, "the end of the comparison (use brackets)");
        last = prec;
        lex_next(&p->l);
        /* // joins to the right; | may join to the left, which means the same and needs no
         * recursion */
        struct node *right = parse_exp(p, prec == PREC_ALT ? prec : prec + 1);
        if (!p->failed)
            left = combine(p, prec, op, left, right);
    }
    return NULL;
}

static void keep_plain(struct expr *x, const struct parser *p, struct node *root)
{
    x->root = p->plain ? root : NULL;
}

int expr_parse(struct expr *x, uint32_t allowed, const char *const *locals, bool any_var,
               struct err *e)
{
    struct parser p = {.l = {.src = x->text},
                       .x = x,
                       .e = e,
                       .allowed = allowed,
                       .locals = locals,
                       .any_var = any_var,
                       .plain = true};
    lex_next(&p.l);
    if (parse_word(&p, "import") || parse_word(&p, "include") || parse_word(&p, "module"))
        parse_fail(&p, "define functions with def inside the expression",
                   "expressions can not load modules");
    else if (p.l.tok == TOK_END)
        parse_fail(&p, "write . for the input itself", "an empty expression");
    struct node *root = parse_exp(&p, 0);
    if (!p.failed && p.l.tok != TOK_END)
        parse_unexpected(&p, "an operator or the end");
    if (p.failed)
        return -EINVAL;
    keep_plain(x, &p, root);
    return 0;
}
