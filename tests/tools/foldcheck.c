/* foldcheck FILE: does every starting point of a journal partition give the same state (I6)?
 *
 * FILE has the records of one partition from its beginning, in offset order, one a line:
 *   {"offset":N,"time":MS,"key":TEXT,"value":TEXT or null,"headers":[[NAME,TEXT],..]}
 *
 * The program folds them from the first and notes the state's digest after each. Then it folds from
 * each whole part.state that the first fold found, and compares at each later prefix at which that
 * starting point is valid: when every live run and open request is at or above its `at`. Prints
 *   {"voids":N,"compared":N,"starts":[{"at":..,"first":..,"last":..},..],
 *    "prefixes":[[NEXT,LOW,DIGEST],..]}
 * where NEXT is the prefix, LOW what it still needs, DIGEST as in the node's log at debug level.
 * Exit status: 0 all agree, 1 some differ (told on stderr), 2 the file can't be read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "core/state.h"

#define FILE_MAX   (256u << 20)
#define DIGEST_MAX (64u << 20)
#define TOLD_MAX   5 /* differences shown in full */

struct prefix {
    int64_t next, low;
    uint64_t digest;
};
struct line {
    int64_t offset;
    struct rec *rec; /* NULL: none of ours, or a tombstone */
};
struct check {
    struct line *lines;
    struct prefix *prefixes; /* after each line */
    size_t n, compared, different;
};

static _Noreturn void die(const char *what, size_t line)
{
    fprintf(stderr, "foldcheck: line %zu: %s\n", line, what);
    exit(2);
}

static bool header(void *arg, size_t i, struct slice *name, struct slice *value)
{
    struct json_object *row = json_object_array_get_idx(arg, i);
    if (!row)
        return false;
    *name = sl_str(json_object_get_string(json_object_array_get_idx(row, 0)));
    *value = sl_str(json_object_get_string(json_object_array_get_idx(row, 1)));
    return true;
}

static void read_line(struct check *c, struct slice text)
{
    struct json_object *o = NULL;
    struct err e = {0};
    struct line *l = &c->lines[c->n++];
    if (js_parse(text, &o, NULL) < 0)
        die("not JSON", c->n);
    const char *value = js_str(o, "value");
    l->offset = js_int(o, "offset", -1);
    if (l->offset < 0 || (c->n > 1 && l->offset <= l[-1].offset))
        die("the offsets do not rise", c->n);
    int error =
        rec_decode(l->offset, js_int(o, "time", 0), sl_str(js_str(o, "key")),
                   value ? sl_str(value) : sl(NULL, 0), header, js_get(o, "headers"), &l->rec, &e);
    if (error && error != -ENODATA)
        die(e.msg[0] ? e.msg : strerror(-error), c->n);
    json_object_put(o);
}

static void read_file(struct check *c, const char *path)
{
    struct buf b;
    struct slice rest, text;
    buf_init(&b, FILE_MAX);
    if (file_read(path, &b, NULL) < 0)
        die(path, 0);
    size_t lines = 1;
    for (size_t i = 0; i < b.n; i++)
        lines += b.p[i] == '\n';
    c->lines = calloc(lines, sizeof *c->lines);
    c->prefixes = calloc(lines, sizeof *c->prefixes);
    if (!c->lines || !c->prefixes)
        die("no memory", 0);
    rest = buf_slice(&b);
    while (sl_split(&rest, '\n', &text))
        if (text.n)
            read_line(c, text);
    buf_free(&b);
}

static void digest_text(const struct state *st, struct buf *b)
{
    buf_init(b, DIGEST_MAX);
    if (state_digest(st, b) < 0)
        die("no memory for a digest", 0);
}

static uint64_t digest(const struct state *st)
{
    struct buf b;
    digest_text(st, &b);
    uint64_t h = hash64(buf_slice(&b), 0);
    buf_free(&b);
    return h;
}

/* What still has to be done; dead letters that may have been told are left out, since only commits
 * tell of them. */
static int64_t low(const struct state *st)
{
    int64_t at = st->next;
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&st->runs, &pos, &k, &v)) {
        const struct run_state *r = &((struct run *)v)->known;
        if (run_live(r->status) && r->pin < at)
            at = r->pin;
    }
    if (!list_empty(&st->pending)) {
        const struct pend *p = LIST_ENTRY(st->pending.next, struct pend, node);
        if (p->rec->offset < at)
            at = p->rec->offset;
    }
    return at;
}

static void apply(struct state *st, const struct line *l)
{
    if (l->rec && state_apply(st, l->rec) < 0)
        die("no memory for the fold", 0);
    if (!l->rec)
        st->next = l->offset + 1;
}

static void fold_all(struct check *c, struct state *st)
{
    state_init(st, 0);
    for (size_t i = 0; i < c->n; i++) {
        apply(st, &c->lines[i]);
        c->prefixes[i] = (struct prefix){st->next, low(st), digest(st)};
    }
}

/* The state that the fold had, for a person: the digest's text. */
static void tell(struct check *c, const struct part_mark *m, const struct state *st, size_t at)
{
    struct state whole;
    struct buf b;
    if (c->different++ >= TOLD_MAX)
        return;
    state_init(&whole, 0);
    for (size_t i = 0; i <= at; i++)
        apply(&whole, &c->lines[i]);
    digest_text(&whole, &b);
    fprintf(stderr, "prefix %" PRId64 " from the log's start:\n  %s\n", st->next, b.p);
    buf_free(&b);
    digest_text(st, &b);
    fprintf(stderr, "the same from part.state at %" PRId64 " (record %" PRId64 "):\n  %s\n", m->at,
            m->first, b.p);
    buf_free(&b);
    state_free(&whole);
}

static void load(struct check *c, const struct part_mark *m, struct state *st)
{
    struct buf text;
    const struct rec *first = NULL;
    buf_init(&text, FILE_MAX);
    for (size_t i = 0; i < c->n; i++) {
        const struct rec *r = c->lines[i].rec;
        if (!r || r->offset < m->first || r->offset > m->last || r->type != REC_PART_STATE)
            continue;
        first = first ? first : r;
        if (r->at == m->at && r->nonce == first->nonce)
            buf_add_slice(&text, val_text(r->value));
    }
    state_init(st, m->at);
    if (!first || state_load(st, buf_slice(&text), first->epoch, first->nonce, m) < 0)
        die("a part.state can't be loaded", (size_t)m->first);
    buf_free(&text);
}

static void check_start(struct check *c, const struct part_mark *m)
{
    struct state st;
    load(c, m, &st);
    for (size_t i = 0; i < c->n; i++) {
        const struct prefix *p = &c->prefixes[i];
        if (c->lines[i].offset < m->at)
            continue;
        apply(&st, &c->lines[i]);
        if (p->next <= m->last || p->low < m->at)
            continue;
        c->compared++;
        if (digest(&st) != p->digest)
            tell(c, m, &st, i);
    }
    state_free(&st);
}

int main(int argc, char **argv)
{
    struct check c = {0};
    struct state all;
    if (argc != 2)
        die("usage: foldcheck FILE", 0);
    read_file(&c, argv[1]);
    fold_all(&c, &all);
    printf("{\"voids\":%" PRId64 ",\"starts\":[", all.voids);
    for (size_t i = 0; i < all.nmarks; i++) {
        const struct part_mark *m = &all.marks[i];
        check_start(&c, m);
        printf("%s{\"at\":%" PRId64 ",\"first\":%" PRId64 ",\"last\":%" PRId64 "}", i ? "," : "",
               m->at, m->first, m->last);
    }
    printf("],\"compared\":%zu,\"prefixes\":[", c.compared);
    for (size_t i = 0; i < c.n; i++) {
        const struct prefix *p = &c.prefixes[i];
        printf("%s[%" PRId64 ",%" PRId64 ",\"%016" PRIx64 "\"]", i ? "," : "", p->next, p->low,
               p->digest);
        rec_unref(c.lines[i].rec);
    }
    printf("]}\n");
    state_free(&all);
    free(c.lines);
    free(c.prefixes);
    return c.different ? 1 : 0;
}
