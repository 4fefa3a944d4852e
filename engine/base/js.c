/* The strict JSON reader: one descent over the text that checks and, if wanted, builds the json-c
 * tree at once. Own reading instead of json-c's tokener, because that takes NaN, cuts member names
 * at U+0000, saturates large integers and says no line; so there is one set of rules and one pass.
 * A tree belongs to one thread. Invariants: depth <= JS_DEPTH_MAX, which bounds the recursion; the
 * member names under check lie in `names`, those of an object on top of those of the objects around
 * it. */
#include "base/js.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/js_int.h"

#define NUMBER_MAX_BYTES 1024
#define FEW_NAMES        12 /* up to here comparing each with each is faster than sorting */

struct name {
    uint64_t hash;
    const char *at; /* its opening quote */
    size_t n;       /* bytes with both quotes */
};

struct reader {
    const char *start, *p, *end;
    struct err *e;
    struct buf text; /* the last string, unescaped */
    struct name *names;
    size_t nnames, cap_names;
    int depth;
    uint64_t seed;
};

static int fail(struct reader *r, const char *at, const char *hint, const char *what)
{
    int line = 1, col = 1;
    for (const char *q = r->start; q < at; q++) {
        if (*q == '\n') {
            line++;
            col = 1;
        } else if ((*q & 0xc0) != 0x80) {
            col++;
        }
    }
    err_set(r->e, -EINVAL, hint, "invalid JSON: %s", what);
    err_at(r->e, r->e ? r->e->file : NULL, line, col);
    return -EINVAL;
}

static int no_memory(struct reader *r)
{
    return err_set(r->e, -ENOMEM, "give the process more memory", "no memory while reading JSON");
}

static int unexpected(struct reader *r, const char *wanted)
{
    char what[96];
    unsigned char c = r->p < r->end ? (unsigned char)*r->p : 0;
    if (r->p >= r->end)
        (void)snprintf(what, sizeof what, "the text ends where %s should stand", wanted);
    else if (c > ' ' && c < 0x7f)
        (void)snprintf(what, sizeof what, "'%c' where %s should stand", c, wanted);
    else
        (void)snprintf(what, sizeof what, "byte 0x%02x where %s should stand", c, wanted);
    const char *hint = "compare the text with RFC 8259 at this place";
    if (r->p >= r->end)
        hint = "the text is cut or a bracket or quote is not closed";
    else if (c == '\'')
        hint = "JSON strings stand in double quotes";
    else if (c == '/' || c == '#')
        hint = "JSON has no comments";
    else if ((c == '}' || c == ']') && r->p > r->start)
        hint = "a comma before a closing bracket is not allowed";
    return fail(r, r->p, hint, what);
}

static void blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
        r->p++;
}

/* The string at r->p, unescaped; valid until the next one is read. */
static int read_string(struct reader *r, struct slice *ret)
{
    const char *bad = NULL, *hint = NULL;
    int rc = js_string(r->p, r->end, &r->text, ret, &r->p, &bad, &hint);
    if (!rc)
        return 0;
    return bad ? fail(r, r->p, hint, bad) : no_memory(r);
}

static int number_tree(struct reader *r, struct slice t, bool whole, struct json_object **ret)
{
    int64_t i;
    if (whole && !(t.n == 2 && t.p[0] == '-' && t.p[1] == '0') && sl_i64(t, &i) == 0) {
        if (ret && !(*ret = json_object_new_int64(i)))
            return no_memory(r);
        return 0;
    }
    char copy[NUMBER_MAX_BYTES + 1];
    if (t.n > NUMBER_MAX_BYTES)
        return fail(r, t.p, "write it with fewer digits", "a number of more than 1024 characters");
    memcpy(copy, t.p, t.n);
    copy[t.n] = 0;
    double d = strtod(copy, NULL);
    if (!isfinite(d))
        return fail(r, t.p, "the largest number is about 1.8e308; send it as a string",
                    "a number beyond the range of a double");
    /* The exponent's digits don't count: 0e5 is a real zero, 1e-999 is not. */
    if (d == 0 && strcspn(copy, "123456789") < strcspn(copy, "eE"))
        return fail(r, t.p, "the smallest number is about 5e-324; send it as a string",
                    "a number too small for a double");
    if (ret && !(*ret = json_object_new_double(d)))
        return no_memory(r);
    return 0;
}

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static int read_number(struct reader *r, struct json_object **ret)
{
    const char *from = r->p, *p = r->p + (*r->p == '-');
    bool whole = true;
    r->p = p;
    if (p == r->end || *p < '0' || *p > '9')
        return p < r->end && *p == 'I'
                   ? fail(r, from, "JSON has no Infinity; use null or a string", "-Infinity")
                   : unexpected(r, "a digit");
    if (*p == '0' && p + 1 < r->end && p[1] >= '0' && p[1] <= '9')
        return fail(r, from, "write it without the zero, or as a string",
                    "a number that begins with 0");
    p = digits(p, r->end);
    if (p < r->end && *p == '.') {
        whole = false;
        r->p = p + 1;
        if ((p = digits(r->p, r->end)) == r->p)
            return unexpected(r, "a digit after the point");
    }
    if (p < r->end && (*p == 'e' || *p == 'E')) {
        whole = false;
        r->p = p + 1;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        if ((p = digits(r->p, r->end)) == r->p)
            return unexpected(r, "a digit of the exponent");
    }
    r->p = p;
    return number_tree(r, sl(from, (size_t)(p - from)), whole, ret);
}

static int read_word(struct reader *r, struct json_object **ret)
{
    struct slice t = sl(r->p, (size_t)(r->end - r->p));
    if (sl_starts(t, SL("true")) || sl_starts(t, SL("false"))) {
        bool yes = *r->p == 't';
        r->p += yes ? 4 : 5;
        if (ret && !(*ret = json_object_new_boolean(yes)))
            return no_memory(r);
        return 0;
    }
    if (sl_starts(t, SL("null"))) {
        r->p += 4;
        return 0; /* json-c's null is the NULL pointer */
    }
    if (sl_starts(t, SL("NaN")) || sl_starts(t, SL("nan")))
        return fail(r, r->p, "JSON has no NaN; use null or a string", "NaN");
    if (sl_starts(t, SL("Infinity")))
        return fail(r, r->p, "JSON has no Infinity; use null or a string", "Infinity");
    return unexpected(r, "a value");
}

static int read_value(struct reader *r, struct json_object **ret);

/* After an item or member: 1 when `close` ended the list, 0 after a comma, else a negative errno.
 */
static int read_separator(struct reader *r, char close, const char *wanted)
{
    blanks(r);
    if (r->p == r->end || (*r->p != close && *r->p != ','))
        return unexpected(r, wanted);
    return *r->p++ == close;
}

/* True, and read, when an empty list or object ends at once. */
static bool read_empty(struct reader *r, char close)
{
    r->p++;
    blanks(r);
    if (r->p == r->end || *r->p != close)
        return false;
    r->p++;
    return true;
}

/* `into` is NULL when only checking. */
static int read_items(struct reader *r, struct json_object *into)
{
    if (read_empty(r, ']'))
        return 0;
    for (;;) {
        struct json_object *item = NULL;
        int rc = read_value(r, into ? &item : NULL);
        if (!rc && into && json_object_array_add(into, item)) {
            json_object_put(item);
            rc = no_memory(r);
        }
        if (!rc)
            rc = read_separator(r, ']', "a comma or ]");
        if (rc)
            return rc < 0 ? rc : 0;
    }
}

/* Reads a member's name and notes it for the check of duplicates. */
static int read_name(struct reader *r, struct json_object *into, char **ret_key)
{
    blanks(r);
    if (r->p == r->end || *r->p != '"')
        return unexpected(r, "a member name in double quotes");
    const char *at = r->p;
    struct slice name;
    int rc = read_string(r, &name);
    if (rc)
        return rc;
    if (sl_find(name, 0) >= 0)
        return fail(r, at, "take U+0000 out of the name", "a member name with U+0000");
    if (r->nnames == r->cap_names) {
        size_t cap = r->cap_names ? r->cap_names * 2 : 32;
        struct name *v = realloc(r->names, cap * sizeof *v);
        if (!v)
            return no_memory(r);
        r->names = v;
        r->cap_names = cap;
    }
    r->names[r->nnames++] = (struct name){hash64(name, r->seed), at, (size_t)(r->p - at)};
    if (into && !(*ret_key = sl_dup(name)))
        return no_memory(r);
    blanks(r);
    if (r->p == r->end || *r->p != ':')
        return unexpected(r, "a colon");
    r->p++;
    return 0;
}

static int by_hash(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->at == y->at ? 0 : x->at < y->at ? -1 : 1;
}

static int duplicate(struct reader *r, const struct name *n)
{
    char what[160];
    int len = n->n > 80 ? 80 : (int)n->n;
    (void)snprintf(what, sizeof what, "the member %.*s%s stands twice in one object", len, n->at,
                   len < (int)n->n ? "..." : "");
    return fail(r, n->at, "keep one of the two", what);
}

/* The names of one object, from `first` on. Two names are held to be the same when their 64-bit
 * keyed hashes are: the seed is new for each text, so nobody can send two different names that
 * meet. */
static int check_names(struct reader *r, size_t first)
{
    struct name *v = r->names + first;
    size_t n = r->nnames - first;
    r->nnames = first;
    if (n <= FEW_NAMES) {
        for (size_t i = 1; i < n; i++)
            for (size_t j = 0; j < i; j++)
                if (v[i].hash == v[j].hash)
                    return duplicate(r, &v[i]);
        return 0;
    }
    qsort(v, n, sizeof *v, by_hash);
    for (size_t i = 1; i < n; i++)
        if (v[i].hash == v[i - 1].hash)
            return duplicate(r, &v[i]);
    return 0;
}

static int read_members(struct reader *r, struct json_object *into)
{
    if (read_empty(r, '}'))
        return 0;
    size_t first = r->nnames;
    for (;;) {
        char *key = NULL;
        struct json_object *value = NULL;
        int rc = read_name(r, into, &key);
        if (!rc)
            rc = read_value(r, into ? &value : NULL);
        /* Not marked as new: a name that stands twice replaces its value here and is refused at the
         * end. */
        if (!rc && into && json_object_object_add(into, key, value)) {
            json_object_put(value);
            rc = no_memory(r);
        }
        free(key);
        if (!rc)
            rc = read_separator(r, '}', "a comma or }");
        if (rc)
            return rc < 0 ? rc : check_names(r, first);
    }
}

static int read_value(struct reader *r, struct json_object **ret)
{
    blanks(r);
    if (r->p == r->end)
        return unexpected(r, "a value");
    char c = *r->p;
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(r, ret);
    if (c == '"') {
        struct slice s;
        int rc = read_string(r, &s);
        if (!rc && s.n > INT_MAX)
            return fail(r, r->p, "send it in parts", "a string of more than 2 GiB");
        if (!rc && ret && !(*ret = json_object_new_string_len(s.p, (int)s.n)))
            return no_memory(r);
        return rc;
    }
    if (c != '{' && c != '[')
        return read_word(r, ret);
    if (r->depth == JS_DEPTH_MAX)
        return fail(r, r->p, "at most 128 arrays and objects may stand inside each other",
                    "too many levels");
    struct json_object *into = NULL;
    if (ret && !(into = c == '{' ? json_object_new_object() : json_object_new_array_ext(4)))
        return no_memory(r);
    r->depth++;
    int rc = c == '{' ? read_members(r, into) : read_items(r, into);
    r->depth--;
    if (rc) {
        json_object_put(into);
        return rc;
    }
    if (ret)
        *ret = into;
    return 0;
}

static int read_document(struct slice text, struct json_object **ret, struct err *e)
{
    if (!text.n)
        text.p = "";
    struct reader r = {.start = text.p, .p = text.p, .end = text.p + text.n, .e = e};
    r.seed = random_u64();
    buf_init(&r.text, text.n);
    struct json_object *o = NULL;
    int rc = read_value(&r, ret ? &o : NULL);
    if (!rc) {
        blanks(&r);
        if (r.p != r.end) {
            json_object_put(o);
            rc = fail(&r, r.p, "send one JSON value only",
                      "there is more behind the end of the value");
        }
    }
    free(r.names);
    buf_free(&r.text);
    if (!rc && ret)
        *ret = o;
    return rc;
}

int js_parse(struct slice text, struct json_object **ret, struct err *e)
{
    return read_document(text, ret, e);
}

int js_check(struct slice text, struct err *e)
{
    return read_document(text, NULL, e);
}
