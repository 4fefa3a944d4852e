/* The parser of jq programs: patterns behind `as`. What it is and how it is shared:
 * expr_parse_int.h. Only a single $name is evaluated inline; of the others the names are kept. */
#include "flow/expr_parse_int.h"

static bool pattern(struct parser *p, struct name **names);

static bool dollar(struct parser *p, struct name **names, const char **ret)
{
    const char *name = parse_dollar(p);
    if (!name || !parse_push(p, names, sl_str(name), 0))
        return false;
    if (ret)
        *ret = name;
    lex_next(&p->l);
    return true;
}

static bool array_pattern(struct parser *p, struct name **names)
{
    do {
        lex_next(&p->l);
        if (!pattern(p, names))
            return false;
    } while (p->l.tok == ',');
    return parse_take(p, ']', "`]`");
}

static bool object_member(struct parser *p, struct name **names)
{
    if (p->l.tok == '$') {
        if (!dollar(p, names, NULL))
            return false;
        if (p->l.tok != ':')
            return true;
    } else if (p->l.tok == TOK_IDENT) {
        lex_next(&p->l);
    } else if (p->l.tok == TOK_QUOTE || p->l.tok == TOK_FORMAT) {
        if (p->l.tok == TOK_FORMAT)
            lex_next(&p->l);
        if (p->l.tok != TOK_QUOTE)
            return parse_unexpected(p, "a text as key") != NULL;
        if (!parse_string(p))
            return false;
    } else if (p->l.tok == '(') {
        lex_next(&p->l);
        parse_exp(p, 0);
        if (!parse_take(p, ')', "`)`"))
            return false;
    } else {
        return parse_unexpected(p, "a key of the pattern") != NULL;
    }
    return parse_take(p, ':', "`:`") && pattern(p, names);
}

static bool object_pattern(struct parser *p, struct name **names)
{
    do {
        lex_next(&p->l);
        if (!object_member(p, names))
            return false;
    } while (p->l.tok == ',');
    return parse_take(p, '}', "`}`");
}

static bool pattern(struct parser *p, struct name **names)
{
    if (p->failed)
        return false;
    if (++p->nest > EXPR_NEST_MAX)
        return parse_fail(p, "split it into several tasks",
                          "the expression is nested too deeply") != NULL;
    bool ok;
    if (p->l.tok == '$')
        ok = dollar(p, names, NULL);
    else if (p->l.tok == '[')
        ok = array_pattern(p, names);
    else if (p->l.tok == '{')
        ok = object_pattern(p, names);
    else
        ok = parse_unexpected(p, "$name, [ or {") != NULL;
    p->nest--;
    return ok;
}

bool parse_patterns(struct parser *p, struct name **names, const char **ret_single)
{
    *ret_single = NULL;
    if (p->failed)
        return false;
    bool single = p->l.tok == '$';
    if (single ? !dollar(p, names, ret_single) : !pattern(p, names))
        return false;
    while (p->l.tok == TOK_ALT_PAT) {
        *ret_single = NULL;
        lex_next(&p->l);
        if (!pattern(p, names))
            return false;
    }
    return true;
}
