/* Tokens of jq 1.6 programs. Pure; one lexer belongs to one parse. Invariant: at <= src.n, and each
 * call of lex_next moves on or gives TOK_END. */
#include "flow/expr_int.h"

static bool is_alpha(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static int peek(const struct lexer *l, size_t ahead)
{
    return l->at + ahead < l->src.n ? (unsigned char)l->src.p[l->at + ahead] : -1;
}

static void blanks(struct lexer *l)
{
    for (;;) {
        int c = peek(l, 0);
        if (c == ' ' || c == '\t' || c == '\n') {
            l->at++;
        } else if (c == '#') {
            while (l->at < l->src.n && peek(l, 0) != '\n' && peek(l, 0) != '\r')
                l->at++;
        } else {
            return;
        }
    }
}

static int done(struct lexer *l, int tok, size_t skip)
{
    l->text = sl(l->src.p + l->start + skip, l->at - l->start - skip);
    return tok;
}

static int word(struct lexer *l)
{
    while (is_alpha(peek(l, 0)) || is_digit(peek(l, 0)))
        l->at++;
    /* module::name is one identifier for jq */
    while (peek(l, 0) == ':' && peek(l, 1) == ':' && is_alpha(peek(l, 2))) {
        l->at += 2;
        while (is_alpha(peek(l, 0)) || is_digit(peek(l, 0)))
            l->at++;
    }
    return done(l, TOK_IDENT, 0);
}

/* jq takes any run of digits and points as one literal, and judges it afterwards. */
static int number(struct lexer *l)
{
    while (is_digit(peek(l, 0)) || peek(l, 0) == '.')
        l->at++;
    if (peek(l, 0) == 'e' || peek(l, 0) == 'E') {
        size_t sign = peek(l, 1) == '+' || peek(l, 1) == '-';
        if (is_digit(peek(l, 1 + sign))) {
            l->at += 1 + sign;
            while (is_digit(peek(l, 0)))
                l->at++;
        }
    }
    return done(l, TOK_NUMBER, 0);
}

static int point(struct lexer *l)
{
    if (is_alpha(peek(l, 1))) {
        l->at++;
        while (is_alpha(peek(l, 0)) || is_digit(peek(l, 0)))
            l->at++;
        return done(l, TOK_FIELD, 1);
    }
    if (is_digit(peek(l, 1)) || (peek(l, 1) == '.' && (is_digit(peek(l, 2)) || peek(l, 2) == '.')))
        return number(l);
    if (peek(l, 1) == '.') {
        l->at += 2;
        return TOK_REC;
    }
    l->at++;
    return '.';
}

static const struct {
    const char *text;
    int tok;
} operators[] = {
    {"?//", TOK_ALT_PAT}, {"//=", TOK_ASSIGN}, {"!=", TOK_NE},     {"==", TOK_EQ},
    {"//", TOK_ALT},      {"|=", TOK_ASSIGN},  {"+=", TOK_ASSIGN}, {"-=", TOK_ASSIGN},
    {"*=", TOK_ASSIGN},   {"/=", TOK_ASSIGN},  {"%=", TOK_ASSIGN}, {"<=", TOK_LE},
    {">=", TOK_GE},
};

static int operator_or_bad(struct lexer *l)
{
    struct slice rest = sl_from(l->src, l->at);
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        struct slice text = sl_str(operators[i].text);
        if (sl_starts(rest, text)) {
            l->at += text.n;
            return done(l, operators[i].tok, 0);
        }
    }
    int c = peek(l, 0);
    l->at++;
    return strchr("?=;,:|+-*/%$<>[]{}()", c) && c ? c : TOK_BAD;
}

static int format(struct lexer *l)
{
    if (!is_alpha(peek(l, 1)) && !is_digit(peek(l, 1))) {
        l->at++;
        return TOK_BAD;
    }
    l->at++;
    while (is_alpha(peek(l, 0)) || is_digit(peek(l, 0)))
        l->at++;
    return done(l, TOK_FORMAT, 1);
}

void lex_next(struct lexer *l)
{
    blanks(l);
    l->start = l->at;
    l->text = sl(NULL, 0);
    int c = peek(l, 0);
    if (c < 0) {
        l->tok = TOK_END;
    } else if (is_alpha(c)) {
        l->tok = word(l);
    } else if (is_digit(c)) {
        l->tok = number(l);
    } else if (c == '.') {
        l->tok = point(l);
    } else if (c == '@') {
        l->tok = format(l);
    } else if (c == '"') {
        l->at++;
        l->tok = TOK_QUOTE;
    } else {
        l->tok = operator_or_bad(l);
    }
}

static int hex4(const struct lexer *l, size_t ahead)
{
    int v = 0;
    for (size_t i = 0; i < 4; i++) {
        int c = peek(l, ahead + i);
        int d = is_digit(c)            ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static void add_codepoint(struct buf *b, int c)
{
    if (c < 0x80) {
        buf_addc(b, (char)c);
    } else if (c < 0x800) {
        buf_addc(b, (char)(0xc0 | c >> 6));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_addc(b, (char)(0xe0 | c >> 12));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    } else {
        buf_addc(b, (char)(0xf0 | c >> 18));
        buf_addc(b, (char)(0x80 | (c >> 12 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(b, (char)(0x80 | (c & 0x3f)));
    }
}

/* l->at stands on \u. Half a surrogate pair is left to libjq, which has its own idea of it. */
static void unicode(struct lexer *l, struct buf *b, bool *plain)
{
    int c = hex4(l, 2);
    l->at += 2;
    if (c < 0) {
        *plain = false;
        return;
    }
    l->at += 4;
    if (c >= 0xd800 && c < 0xdc00 && peek(l, 0) == '\\' && peek(l, 1) == 'u') {
        int low = hex4(l, 2);
        if (low >= 0xdc00 && low < 0xe000) {
            l->at += 6;
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    if (c >= 0xd800 && c < 0xe000)
        *plain = false;
    else
        add_codepoint(b, c);
}

int lex_string(struct lexer *l, struct buf *b, bool *plain)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    while (l->at < l->src.n) {
        int c = peek(l, 0), d = peek(l, 1);
        if (c == '"') {
            l->at++;
            return '"';
        }
        if (c != '\\') {
            buf_addc(b, (char)c);
            l->at++;
            continue;
        }
        if (d < 0)
            break;
        if (d == '(') {
            l->at += 2;
            return '(';
        }
        const char *known = d ? strchr(from, d) : NULL;
        if (d == 'u') {
            unicode(l, b, plain);
            continue;
        }
        if (known)
            buf_addc(b, to[known - from]);
        else
            *plain = false;
        l->at += 2;
    }
    return TOK_END;
}
