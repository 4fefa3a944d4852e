/* A definition as a whole (flow.h): parsed once, counted, freed when the last run lets go of it.
 * Canonical text: the document with its members sorted; its SHA-256 is the identity of the
 * definition. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "flow/parse_int.h"

#define LOOP_MARK        "/for/"
#define LOOP_HOLE        "/for/-/"
#define REF_CONCRETE_MAX 512 /* REC_REF_MAX of the journal */

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_sorted(struct json_object *o, struct buf *b)
{
    if (json_object_is_type(o, json_type_array)) {
        buf_addc(b, '[');
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            buf_adds(b, i ? "," : "");
            write_sorted(json_object_array_get_idx(o, i), b);
        }
        buf_addc(b, ']');
    } else if (json_object_is_type(o, json_type_object)) {
        size_t n = 0, len = (size_t)json_object_object_length(o);
        const char **keys = calloc(len + 1, sizeof *keys);
        if (!keys) {
            b->error = -ENOMEM;
            return;
        }
        json_object_object_foreach(o, key, v)
        {
            (void)v;
            keys[n++] = key;
        }
        qsort(keys, n, sizeof *keys, by_key);
        buf_addc(b, '{');
        for (size_t i = 0; i < n; i++) {
            buf_adds(b, i ? "," : "");
            js_write_str(b, sl_str(keys[i]));
            buf_addc(b, ':');
            write_sorted(js_get(o, keys[i]), b);
        }
        buf_addc(b, '}');
        free(keys);
    } else {
        js_write(o, b);
    }
}

static int set_text(struct flow *f)
{
    struct buf b;
    uint8_t h[SHA256_BYTES];
    buf_init(&b, FLOW_BYTES_MAX);
    write_sorted(f->root, &b);
    if (buf_error(&b)) {
        int error = buf_error(&b);
        buf_free(&b);
        return error;
    }
    sha256(buf_slice(&b), h);
    hex_write(f->hash, h, SHA256_BYTES);
    f->info.hash = f->hash;
    f->info.text = buf_slice(&b);
    f->text = b.p;
    return 0;
}

int flow_parse(const struct ydoc *y, bool deep, struct flow **ret, struct diags *d)
{
    struct flow *f = calloc(1, sizeof *f);
    struct parser p = {.y = y, .d = d, .f = f, .deep = deep};
    size_t before = d->errors;
    if (!f) {
        diags_add(d, ydoc_name(y), 0, 0, "give the process more memory", "no memory");
        return -ENOMEM;
    }
    f->refs = 1;
    arena_init(&f->mem, FLOW_BYTES_MAX);
    map_init(&f->by_ref);
    f->root = json_object_get(ydoc_root(y));
    if (json_object_is_type(f->root, json_type_object))
        parse_root(&p, f->root);
    else
        diags_add(d, ydoc_name(y), 1, 1,
                  "a definition begins with document:", "the file is not a mapping");
    int error = d->errors > before ? -EINVAL : set_text(f);
    if (error && d->errors == before)
        diags_add(d, ydoc_name(y), 1, 1, "split it", "the definition is too large");
    if (error) {
        flow_unref(f);
        return error;
    }
    *ret = f;
    return 0;
}

/* The text is JSON, which YAML would read with other rules for line separators and long keys. */
int flow_from_text(struct slice text, struct flow **ret, struct err *e)
{
    struct diags d;
    struct json_object *root = NULL;
    struct ydoc *y;
    int error = js_parse(text, &root, e);
    if (error)
        return error;
    if (!(y = ydoc_from_json(root, "definition")))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for a definition");
    diags_init(&d);
    error = flow_parse(y, false, ret, &d);
    for (size_t i = 0; error && i < d.n; i++)
        if (!d.v[i].warning) {
            err_set(e, error, d.v[i].hint, "%s", d.v[i].msg);
            break;
        }
    if (error && !d.errors)
        err_set(e, error, "make it smaller", "the definition can't be read");
    diags_free(&d);
    ydoc_free(y);
    return error;
}

struct flow *flow_ref(struct flow *f)
{
    if (f)
        f->refs++;
    return f;
}

static void flow_retry_release(struct retry *r)
{
    if (!r)
        return;
    tmpl_free(r->when);
    tmpl_free(r->except_when);
    tmpl_free(r->delay);
    tmpl_free(r->jitter_from);
    tmpl_free(r->jitter_to);
    tmpl_free(r->duration);
    tmpl_free(r->attempt_duration);
}

void flow_task_release(struct task *t)
{
    tmpl_free(t->cond);
    tmpl_free(t->input_from);
    tmpl_free(t->output_as);
    tmpl_free(t->export_as);
    tmpl_free(t->input_schema);
    tmpl_free(t->output_schema);
    tmpl_free(t->export_schema);
    tmpl_free(t->with);
    tmpl_free(t->timeout);
    if (t->loop) {
        tmpl_free(t->loop->in);
        tmpl_free(t->loop->cond);
    }
    if (t->catch_) {
        tmpl_free(t->catch_->when);
        tmpl_free(t->catch_->except_when);
        flow_retry_release(t->catch_->retry);
    }
    for (size_t i = 0; i < t->ncases; i++)
        tmpl_free(t->cases[i].when);
    if (t->function) {
        tmpl_free(t->function->args);
        tmpl_free(t->function->input_from);
        tmpl_free(t->function->output_as);
        tmpl_free(t->function->input_schema);
        tmpl_free(t->function->output_schema);
    }
}

struct flow *flow_unref(struct flow *f)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    if (!f || --f->refs > 0)
        return NULL;
    while (map_next(&f->by_ref, &pos, &k, &v))
        flow_task_release(v);
    map_free(&f->by_ref);
    tmpl_free(f->info.input_from);
    tmpl_free(f->info.output_as);
    tmpl_free(f->info.input_schema);
    tmpl_free(f->info.output_schema);
    tmpl_free(f->info.timeout);
    tmpl_free(f->info.key);
    filter_free(f->info.schedule.filters, f->info.schedule.nfilters);
    arena_free(&f->mem);
    json_object_put(f->root);
    free(f->text);
    free(f);
    return NULL;
}

const struct flow_info *flow_info(const struct flow *f)
{
    return &f->info;
}

/* The length of the digits after a "/for/" at s, when they are one whole segment; else 0. Only an
 * index can stand there: behind the name of a task comes a word. */
static size_t index_after(const char *s, const char *end)
{
    size_t n = 0;
    if ((size_t)(end - s) < sizeof LOOP_MARK || memcmp(s, LOOP_MARK, sizeof LOOP_MARK - 1))
        return 0;
    s += sizeof LOOP_MARK - 1;
    while (s + n < end && s[n] >= '0' && s[n] <= '9')
        n++;
    return n && (s + n == end || s[n] == '/') ? n : 0;
}

struct task *flow_task(const struct flow *f, struct slice ref)
{
    char text[FLOW_REF_MAX + 1];
    size_t n = 0;
    const char *end = ref.p + ref.n;
    struct task *t = map_get(&f->by_ref, ref);
    if (t || ref.n > REF_CONCRETE_MAX)
        return t;
    for (const char *s = ref.p; s < end;) {
        size_t digits = index_after(s, end), keep = digits ? sizeof LOOP_MARK - 1 : 1;
        if (n + keep + 1 > FLOW_REF_MAX)
            return NULL;
        memcpy(text + n, s, keep);
        n += keep;
        s += keep + digits;
        if (digits)
            text[n++] = '-';
    }
    return map_get(&f->by_ref, sl(text, n));
}

size_t flow_loops(const char *ref)
{
    size_t n = 0;
    for (const char *s = ref; (s = strstr(s, LOOP_HOLE)); s += sizeof LOOP_HOLE - 2)
        n++;
    return n;
}

int flow_ref_at(const char *ref, const int64_t *indexes, size_t n, char *ret, size_t size)
{
    size_t at = 0, seen = 0;
    const char *s = ref, *hole;
    while ((hole = strstr(s, LOOP_HOLE))) {
        if (seen == n)
            return -EINVAL;
        int w = snprintf(ret + at, size - at, "%.*s" LOOP_MARK "%" PRId64, (int)(hole - s), s,
                         indexes[seen++]);
        if (w < 0 || (size_t)w >= size - at)
            return -ENAMETOOLONG;
        at += (size_t)w;
        s = hole + sizeof LOOP_HOLE - 2; /* the slash behind belongs to what follows */
    }
    int w = snprintf(ret + at, size - at, "%s", s);
    if (w < 0 || (size_t)w >= size - at)
        return -ENAMETOOLONG;
    return seen == n ? 0 : -EINVAL;
}
