/* See snap.h. */
#include "core/snap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int set_text(char **to, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

void set_val(struct val **to, struct val *v)
{
    val_ref(v);
    val_unref(*to);
    *to = v;
}

/* ---- writing ---- */

static void put_name(struct buf *b, const char *name)
{
    buf_addf(b, "%s\"%s\":", b->n && b->p[b->n - 1] == '{' ? "" : ",", name);
}

static int by_key(const void *a, const void *b)
{
    return sl_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static void put_counts(struct buf *b, const struct map *m)
{
    struct slice *v = calloc(m->n + 1, sizeof *v);
    void *value;
    size_t pos = 0, n = 0;
    if (!v) {
        b->error = -ENOMEM;
        return;
    }
    while (map_next(m, &pos, &v[n], &value))
        n++;
    qsort(v, n, sizeof *v, by_key);
    buf_addc(b, '{');
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? "," : "");
        js_write_str(b, v[i]);
        buf_addf(b, ":%d", (int)(intptr_t)map_get(m, v[i]));
    }
    buf_addc(b, '}');
    free(v);
}

static void put_val(struct buf *b, struct val *v)
{
    struct slice text = val_text(v);
    buf_add_slice(b, text);
    if (!text.p && !b->error)
        b->error = -ENOMEM;
}

static int64_t number_at(const struct snap_field *f, const void *at)
{
    return f->kind == SNAP_INT    ? *(const int *)at
           : f->kind == SNAP_BOOL ? *(const bool *)at
                                  : *(const int64_t *)at;
}

static void put(const struct snap_field *f, const void *at, struct buf *b)
{
    const char *text = f->kind == SNAP_TEXT ? *(char *const *)at : NULL;
    struct val *v = f->kind == SNAP_VAL ? *(struct val *const *)at : NULL;
    const struct map *m = f->kind == SNAP_COUNTS ? at : NULL;
    if (f->kind <= SNAP_BOOL) {
        if (!f->optional || number_at(f, at) != f->preset) {
            put_name(b, f->name);
            buf_addf(b, "%" PRId64, number_at(f, at));
        }
    } else if (text) {
        put_name(b, f->name);
        js_write_str(b, sl_str(text));
    } else if (v) {
        put_name(b, f->name);
        put_val(b, v);
    } else if (m && (m->n || !f->optional)) {
        put_name(b, f->name);
        put_counts(b, m);
    }
}

void snap_write(const struct snap_field *v, size_t n, const void *base, struct buf *b)
{
    for (size_t i = 0; i < n; i++)
        put(&v[i], (const char *)base + v[i].at, b);
}

/* ---- reading ---- */

static int get_val(struct json_object *v, struct val **ret)
{
    *ret = v ? val_tree_new(json_object_get(v)) : NULL;
    return v && !*ret ? -ENOMEM : 0;
}

static int get_counts(struct json_object *v, struct map *m)
{
    map_init(m);
    if (!json_object_is_type(v, json_type_object))
        return 0;
    json_object_object_foreach(v, key, count)
    {
        int times = json_object_get_int(count);
        if (times < 0)
            return -EPROTO;
        if (map_put(m, sl_str(key), (void *)(intptr_t)times, NULL) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int get_number(const struct snap_field *f, int64_t n, void *at)
{
    if (f->kind == SNAP_INT)
        *(int *)at = (int)n;
    else if (f->kind == SNAP_BOOL)
        *(bool *)at = n != 0;
    else
        *(int64_t *)at = n;
    return f->counted && number_at(f, at) < 0 ? -EPROTO : 0;
}

static int get(const struct snap_field *f, struct json_object *o, void *at)
{
    switch (f->kind) {
    case SNAP_TEXT:
        return set_text(at, js_str(o, f->name));
    case SNAP_VAL:
        return get_val(js_get(o, f->name), at);
    case SNAP_COUNTS:
        return get_counts(js_get(o, f->name), at);
    default:
        return get_number(f, js_int(o, f->name, f->preset), at);
    }
}

int snap_read(const struct snap_field *v, size_t n, void *base, struct json_object *o)
{
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        int rc = get(&v[i], o, (char *)base + v[i].at);
        error = error == -ENOMEM || !rc ? error : rc;
    }
    return error;
}

/* ---- copies ---- */

static int copy_counts(struct map *to, const struct map *from)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    map_init(to);
    while (map_next(from, &pos, &k, &v))
        if (map_put(to, k, v, NULL) < 0)
            return -ENOMEM;
    return 0;
}

int snap_copy(const struct snap_field *v, size_t n, void *to, const void *from)
{
    int error = 0;
    for (size_t i = 0; i < n; i++) {
        void *at = (char *)to + v[i].at;
        const void *was = (const char *)from + v[i].at;
        if (v[i].kind == SNAP_VAL)
            val_ref(*(struct val **)at);
        if (v[i].kind == SNAP_COUNTS)
            error |= copy_counts(at, was);
        if (v[i].kind == SNAP_TEXT) {
            *(char **)at = NULL;
            error |= set_text(at, *(char *const *)was);
        }
    }
    return error;
}

void snap_free(const struct snap_field *v, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++) {
        void *at = (char *)base + v[i].at;
        if (v[i].kind == SNAP_TEXT)
            free(*(char **)at);
        else if (v[i].kind == SNAP_VAL)
            val_unref(*(struct val **)at);
        else if (v[i].kind == SNAP_COUNTS)
            map_free(at);
    }
}
