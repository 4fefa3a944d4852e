/* See ydoc.h: libyaml's events made into a json-c tree. Places are kept per container, in the order
 * in which its members were added; a document does not change once read. Problems that leave the
 * shape of the document whole (keys that stand twice, tags, anchors) are told and reading goes on;
 * a syntax error ends it. */
#include "config/ydoc.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/file.h"
#include "base/js.h"
#include "base/map.h"

#define NUMBER_MAX 64 /* longer digits are text */
#define QUOTE_HINT "put quotes around an expression that holds { }, ': ' or '#': \"${ { a: .b } }\""

struct place {
    struct ydoc_pos key, value;
    bool plain;
};
struct node { /* of one object or array */
    struct ydoc_pos pos;
    struct place *v;
    size_t n, cap;
};
struct ydoc {
    int refs; /* beside the first */
    char *name;
    struct json_object *root;
    struct imap nodes; /* address of the container -> struct node */
};
struct reader {
    struct ydoc *y;
    struct slice text;
    yaml_parser_t p;
    struct diags *d;
    bool stopped; /* a syntax error, or no memory: nothing more is read */
};

static struct ydoc_pos pos_of(const yaml_mark_t *m)
{
    return (struct ydoc_pos){(int)m->line + 1, (int)m->column + 1};
}

static void bad(struct reader *r, struct ydoc_pos at, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void bad(struct reader *r, struct ydoc_pos at, const char *hint, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diags_add(r->d, r->y->name, at.line, at.col, hint, "%s", text);
}

static void no_memory(struct reader *r)
{
    if (!r->stopped)
        bad(r, (struct ydoc_pos){0, 0}, "give the process more memory",
            "no memory for this document");
    r->stopped = true;
}

/* ---- places ---- */

/* The address may be that of a container that was dropped, the value of a key that stood twice. */
static struct node *node_new(struct reader *r, const struct json_object *o, struct ydoc_pos pos)
{
    int64_t key = (int64_t)(intptr_t)o;
    struct node *n = o ? imap_del(&r->y->nodes, key) : NULL;
    if (n)
        free(n->v);
    free(n);
    n = o ? calloc(1, sizeof *n) : NULL;
    if (!n || imap_put(&r->y->nodes, key, n) < 0) {
        free(n);
        no_memory(r);
        return NULL;
    }
    n->pos = pos;
    return n;
}

static bool node_add(struct reader *r, struct node *n, struct place p)
{
    if (n->n == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 4;
        struct place *v = realloc(n->v, cap * sizeof *v);
        if (!v) {
            no_memory(r);
            return false;
        }
        n->v = v;
        n->cap = cap;
    }
    n->v[n->n++] = p;
    return true;
}

/* ---- scalars: the core schema of YAML 1.2 (section 10.3.2) ---- */

static bool any_of(struct slice s, const char *const *words)
{
    for (; *words; words++)
        if (sl_is(s, *words))
            return true;
    return false;
}

static bool is_float(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = strspn(s, "0123456789"), part = 0;
    s += whole;
    if (*s == '.') {
        part = strspn(++s, "0123456789");
        s += part;
    }
    if (!whole && !part)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '-' || *s == '+';
        size_t n = strspn(s, "0123456789");
        if (!n)
            return false;
        s += n;
    }
    return !*s;
}

/* 0x1F and 0o17. */
static bool based(const char *s, int64_t *ret)
{
    int base = !strncmp(s, "0x", 2) ? 16 : !strncmp(s, "0o", 2) ? 8 : 0;
    const char *digits = base == 16 ? "0123456789abcdefABCDEF" : "01234567";
    if (!base || !s[2] || strspn(s + 2, digits) != strlen(s + 2))
        return false;
    errno = 0;
    *ret = strtoll(s + 2, NULL, base);
    return !errno;
}

/* False when s is no number; *ret is NULL when memory ran out. */
static bool number(struct reader *r, struct slice s, struct ydoc_pos at, struct json_object **ret)
{
    char text[NUMBER_MAX];
    int64_t i;
    if (s.n >= sizeof text || memchr(s.p, 0, s.n))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    bool whole = based(text, &i);
    if (!whole && !is_float(text))
        return false;
    if (whole || (!strpbrk(text, ".eE") && sl_i64(s, &i) == 0)) {
        *ret = json_object_new_int64(i);
        return true;
    }
    double v = strtod(text, NULL);
    if (!isfinite(v))
        bad(r, at, "quotes make it a text", "the number %s is too large", text);
    *ret = json_object_new_double(isfinite(v) ? v : 0);
    return true;
}

static struct json_object *plain(struct reader *r, struct slice s, struct ydoc_pos at)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL},
                             *const yes[] = {"true", "True", "TRUE", NULL},
                             *const no[] = {"false", "False", "FALSE", NULL},
                             *const none[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                              "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                              ".NaN",  ".NAN",  NULL};
    if (any_of(s, nulls))
        return NULL;
    struct json_object *o = NULL;
    if (any_of(s, yes) || any_of(s, no)) {
        o = json_object_new_boolean(any_of(s, yes));
    } else {
        if (any_of(s, none))
            bad(r, at, "quotes make it a text", "JSON has no number %.*s", SL_ARG(s));
        if (!number(r, s, at, &o))
            o = json_object_new_string_len(s.p, (int)s.n);
    }
    if (!o)
        no_memory(r);
    return o;
}

static void refuse_extras(struct reader *r, const yaml_event_t *ev, const yaml_char_t *tag,
                          const yaml_char_t *anchor)
{
    struct ydoc_pos at = pos_of(&ev->start_mark);
    if (tag)
        bad(r, at, "leave the tag out; a text beginning with ! needs quotes",
            "tags are not supported: %.60s", (const char *)tag);
    if (anchor)
        bad(r, at, "write the value out where it is needed; a text beginning with & needs quotes",
            "anchors are not supported: &%.60s", (const char *)anchor);
}

static struct json_object *scalar(struct reader *r, const yaml_event_t *ev)
{
    struct slice s = sl(ev->data.scalar.value, ev->data.scalar.length);
    refuse_extras(r, ev, ev->data.scalar.tag, ev->data.scalar.anchor);
    if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return plain(r, s, pos_of(&ev->start_mark));
    struct json_object *o = json_object_new_string_len(s.p, (int)s.n);
    if (!o)
        no_memory(r);
    return o;
}

/* ---- events ---- */

/* True when the lines that a syntax error is about hold the beginning of an expression. */
static bool near_expression(const struct reader *r)
{
    size_t last = r->p.problem_mark.line, line = 0;
    size_t first = r->p.context && r->p.context_mark.line < last ? r->p.context_mark.line : last;
    struct slice rest = r->text, part;
    if (last - first > 2)
        first = last - 2;
    for (; sl_split(&rest, '\n', &part) && line <= last; line++)
        for (size_t i = 0; line >= first && i + 1 < part.n; i++)
            if (part.p[i] == '$' && part.p[i + 1] == '{')
                return true;
    return false;
}

static void syntax_error(struct reader *r)
{
    const char *what = r->p.problem ? r->p.problem : "syntax error";
    r->stopped = true;
    if (r->p.error == YAML_MEMORY_ERROR) {
        r->stopped = false;
        no_memory(r);
    } else if (r->p.error == YAML_READER_ERROR) {
        struct ydoc_pos at = {1, 1};
        for (size_t i = 0; i < r->p.problem_offset && i < r->text.n; i++) {
            at.col = r->text.p[i] == '\n' ? 1 : at.col + 1;
            at.line += r->text.p[i] == '\n';
        }
        bad(r, at, "save the file as UTF-8, without control characters", "not YAML: %s", what);
    } else {
        const char *hint =
            near_expression(r)
                ? QUOTE_HINT
                : "look at indentation, and quote texts that hold ': ', ' #' or braces";
        bad(r, pos_of(&r->p.problem_mark), hint, "not YAML: %s%s%s", what, r->p.context ? " " : "",
            r->p.context ? r->p.context : "");
    }
}

static bool next(struct reader *r, yaml_event_t *ev)
{
    if (r->stopped)
        return false;
    if (yaml_parser_parse(&r->p, ev))
        return true;
    syntax_error(r);
    return false;
}

static struct json_object *value(struct reader *r, const yaml_event_t *ev, int depth);

/* Reads the value behind a key and adds both. A key that can't be used leaves the value unread by
 * the tree only. */
static void member(struct reader *r, struct json_object *o, struct node *n, const yaml_event_t *k,
                   int depth)
{
    yaml_event_t ev;
    struct place p = {.key = pos_of(&k->start_mark)};
    bool usable = false;
    char *key = NULL;
    if (k->type != YAML_SCALAR_EVENT) {
        struct json_object *unused = value(r, k, depth);
        bad(r, p.key, QUOTE_HINT, "a key must be a text");
        json_object_put(unused);
    } else if (memchr(k->data.scalar.value, 0, k->data.scalar.length)) {
        bad(r, p.key, "leave it out", "a key holds a zero byte");
    } else {
        refuse_extras(r, k, k->data.scalar.tag, k->data.scalar.anchor);
        key = sl_dup(sl(k->data.scalar.value, k->data.scalar.length));
        usable = key != NULL;
        if (!key)
            no_memory(r);
    }
    if (usable && json_object_object_get_ex(o, key, NULL)) {
        bad(r, p.key, "each key may stand once in a mapping",
            "the key \"%.100s\" stands here twice", key);
        usable = false;
    }
    if (next(r, &ev)) {
        p.value = pos_of(&ev.start_mark);
        p.plain = ev.type == YAML_SCALAR_EVENT && ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        struct json_object *v = value(r, &ev, depth);
        yaml_event_delete(&ev);
        if (!usable || r->stopped || !node_add(r, n, p)) {
            json_object_put(v);
        } else if (json_object_object_add(o, key, v)) {
            json_object_put(v);
            no_memory(r);
        }
    }
    free(key);
}

static struct json_object *mapping(struct reader *r, const yaml_event_t *start, int depth)
{
    struct json_object *o = json_object_new_object();
    struct node *n = node_new(r, o, pos_of(&start->start_mark));
    yaml_event_t ev;
    refuse_extras(r, start, start->data.mapping_start.tag, start->data.mapping_start.anchor);
    while (n && next(r, &ev)) {
        bool end = ev.type == YAML_MAPPING_END_EVENT;
        if (!end)
            member(r, o, n, &ev, depth);
        yaml_event_delete(&ev);
        if (end)
            break;
    }
    return o;
}

static struct json_object *sequence(struct reader *r, const yaml_event_t *start, int depth)
{
    struct json_object *a = json_object_new_array();
    struct node *n = node_new(r, a, pos_of(&start->start_mark));
    yaml_event_t ev;
    refuse_extras(r, start, start->data.sequence_start.tag, start->data.sequence_start.anchor);
    while (n && next(r, &ev)) {
        bool end = ev.type == YAML_SEQUENCE_END_EVENT;
        if (!end) {
            struct place p = {.value = pos_of(&ev.start_mark),
                              .plain = ev.type == YAML_SCALAR_EVENT &&
                                       ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE};
            struct json_object *v = value(r, &ev, depth);
            if (r->stopped || !node_add(r, n, p)) {
                json_object_put(v);
            } else if (json_object_array_add(a, v)) {
                json_object_put(v);
                no_memory(r);
            }
        }
        yaml_event_delete(&ev);
        if (end)
            break;
    }
    return a;
}

static struct json_object *value(struct reader *r, const yaml_event_t *ev, int depth)
{
    struct ydoc_pos at = pos_of(&ev->start_mark);
    bool container = ev->type == YAML_MAPPING_START_EVENT || ev->type == YAML_SEQUENCE_START_EVENT;
    if (container && depth >= YDOC_DEPTH_MAX) {
        bad(r, at, "use fewer levels", "more than %d levels of mappings and lists", YDOC_DEPTH_MAX);
        r->stopped = true;
        return NULL;
    }
    if (ev->type == YAML_MAPPING_START_EVENT)
        return mapping(r, ev, depth + 1);
    if (ev->type == YAML_SEQUENCE_START_EVENT)
        return sequence(r, ev, depth + 1);
    if (ev->type == YAML_SCALAR_EVENT)
        return scalar(r, ev);
    bad(r, at, "write the value out; a text beginning with * needs quotes",
        "aliases are not supported%s%.60s", ev->type == YAML_ALIAS_EVENT ? ": *" : "",
        ev->type == YAML_ALIAS_EVENT ? (const char *)ev->data.alias.anchor : "");
    return NULL;
}

static void document(struct reader *r)
{
    yaml_event_t ev;
    bool any = false;
    while (next(r, &ev)) {
        yaml_event_type_t t = ev.type;
        if (t == YAML_DOCUMENT_START_EVENT && any) {
            bad(r, pos_of(&ev.start_mark), "put it into a file of its own",
                "a second document begins here");
            r->stopped = true;
        } else if (t != YAML_STREAM_START_EVENT && t != YAML_STREAM_END_EVENT &&
                   t != YAML_DOCUMENT_START_EVENT && t != YAML_DOCUMENT_END_EVENT) {
            r->y->root = value(r, &ev, 0);
            any = true;
        }
        yaml_event_delete(&ev);
        if (t == YAML_STREAM_END_EVENT)
            break;
    }
}

/* ---- documents ---- */

static struct ydoc *ydoc_new(const char *name)
{
    struct ydoc *y = calloc(1, sizeof *y);
    if (!y)
        return NULL;
    imap_init(&y->nodes);
    y->name = strdup(name);
    return y->name ? y : ydoc_free(y);
}

struct ydoc *ydoc_parse(struct slice text, const char *name, struct diags *d)
{
    size_t before = d->errors;
    struct ydoc *y = ydoc_new(name);
    struct reader r = {.y = y, .text = text, .d = d};
    if (!y) {
        diags_add(d, name, 0, 0, "give the process more memory", "no memory for this document");
        return NULL;
    }
    if (text.n > YDOC_BYTES_MAX) {
        diags_add(d, name, 0, 0, "split it", "the file has more than %u bytes", YDOC_BYTES_MAX);
        return ydoc_free(y);
    }
    if (!yaml_parser_initialize(&r.p)) {
        no_memory(&r);
        return ydoc_free(y);
    }
    yaml_parser_set_input_string(&r.p, (const unsigned char *)(text.n ? text.p : ""), text.n);
    document(&r);
    yaml_parser_delete(&r.p);
    return d->errors > before ? ydoc_free(y) : y;
}

struct ydoc *ydoc_load(const char *path, struct diags *d)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, YDOC_BYTES_MAX);
    if (file_read(path, &b, &e) < 0) {
        diags_add(d, path, 0, 0, e.hint[0] ? e.hint : "is the path right?", "%s", e.msg);
        buf_free(&b);
        return NULL;
    }
    struct ydoc *y = ydoc_parse(buf_slice(&b), path, d);
    buf_free(&b);
    return y;
}

struct ydoc *ydoc_from_json(struct json_object *root, const char *name)
{
    struct ydoc *y = ydoc_new(name);
    if (y)
        y->root = root;
    else
        json_object_put(root);
    return y;
}

struct ydoc *ydoc_ref(struct ydoc *y)
{
    y->refs++;
    return y;
}

struct ydoc *ydoc_free(struct ydoc *y)
{
    int64_t key;
    void *v;
    size_t pos = 0;
    if (!y || y->refs-- > 0)
        return NULL;
    while (imap_next(&y->nodes, &pos, &key, &v)) {
        free(((struct node *)v)->v);
        free(v);
    }
    imap_free(&y->nodes);
    json_object_put(y->root);
    free(y->name);
    free(y);
    return NULL;
}

struct json_object *ydoc_root(const struct ydoc *y)
{
    return y->root;
}

const char *ydoc_name(const struct ydoc *y)
{
    return y->name;
}

static const struct node *node_of(const struct ydoc *y, const struct json_object *o)
{
    return o ? imap_get(&y->nodes, (int64_t)(intptr_t)o) : NULL;
}

static const struct place *find(const struct ydoc *y, struct json_object *o, const char *key,
                                size_t index)
{
    const struct node *n = node_of(y, o);
    size_t i = 0;
    if (!n)
        return NULL;
    if (!key)
        return index < n->n ? &n->v[index] : NULL;
    if (!json_object_is_type(o, json_type_object))
        return NULL;
    json_object_object_foreach(o, name, v)
    {
        (void)v;
        if (!strcmp(name, key))
            return i < n->n ? &n->v[i] : NULL;
        i++;
    }
    return NULL;
}

struct ydoc_pos ydoc_value_pos(const struct ydoc *y, struct json_object *parent, const char *key,
                               size_t index)
{
    const struct place *p = find(y, parent, key, index);
    return p ? p->value : (struct ydoc_pos){0, 0};
}

struct ydoc_pos ydoc_key_pos(const struct ydoc *y, struct json_object *parent, const char *key)
{
    const struct place *p = find(y, parent, key, 0);
    return p ? p->key : (struct ydoc_pos){0, 0};
}

struct ydoc_pos ydoc_node_pos(const struct ydoc *y, struct json_object *container)
{
    const struct node *n = node_of(y, container);
    return n ? n->pos : (struct ydoc_pos){0, 0};
}

bool ydoc_is_plain(const struct ydoc *y, struct json_object *parent, const char *key, size_t index)
{
    const struct place *p = find(y, parent, key, index);
    return p && p->plain;
}
