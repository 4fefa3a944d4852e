/* See source.h. */
#include "core/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char API[] = ""; /* the name of the source of requests without event */

void sources_init(struct sources *s)
{
    memset(s, 0, sizeof *s);
    map_init(&s->by_name);
    map_init(&s->by_run);
    s->api.name = (char *)API;
    s->api.floor = -1;
    s->api_max = SOURCE_API_MAX;
    heap_init(&s->api.ids);
}

static void free_ids(struct source *src)
{
    struct heap_node *n;
    while ((n = heap_top(&src->ids))) {
        heap_remove(&src->ids, n);
        free(LIST_ENTRY(n, struct source_id, node));
    }
    heap_free(&src->ids);
}

void sources_free(struct sources *s)
{
    size_t pos = 0;
    struct slice k;
    void *v;
    while (map_next(&s->by_name, &pos, &k, &v)) {
        struct source *src = v;
        free_ids(src);
        free(src->name);
        free(src);
    }
    free_ids(&s->api);
    map_free(&s->by_name);
    map_free(&s->by_run);
}

static struct source *source_get(struct sources *s, const char *name)
{
    struct source *src;
    if (!name || !*name)
        return &s->api;
    if ((src = map_get(&s->by_name, sl_str(name))))
        return src;
    if (!(src = calloc(1, sizeof *src)))
        return NULL;
    src->floor = -1;
    heap_init(&src->ids);
    if (!(src->name = strdup(name)) || map_put(&s->by_name, sl_str(name), src, NULL) < 0) {
        free(src->name);
        free(src);
        return NULL;
    }
    return src;
}

static void forget_below(struct sources *s, struct source *src, int64_t key)
{
    struct heap_node *n;
    while ((n = heap_top(&src->ids)) && n->key < key) {
        struct source_id *id = LIST_ENTRY(n, struct source_id, node);
        heap_remove(&src->ids, n);
        map_del(&s->by_run, sl_str(id->run));
        free(id);
    }
}

static int note(struct sources *s, struct source *src, int64_t key, const struct source_id *what)
{
    struct source_id *id = malloc(sizeof *id);
    if (!id)
        return -ENOMEM;
    *id = *what;
    id->source = src;
    if (heap_add(&src->ids, &id->node, key) < 0) {
        free(id);
        return -ENOMEM;
    }
    if (map_put(&s->by_run, sl_str(id->run), id, NULL) < 0) {
        heap_remove(&src->ids, &id->node);
        free(id);
        return -ENOMEM;
    }
    return 0;
}

int sources_raise(struct sources *s, const char *name, int64_t floor)
{
    struct source *src = source_get(s, name);
    if (!src)
        return -ENOMEM;
    if (floor > src->floor && src != &s->api) {
        src->floor = floor;
        forget_below(s, src, floor);
    }
    return 0;
}

int sources_judge(struct sources *s, const struct rec *r)
{
    struct source *src = source_get(s, r->src.name);
    if (!src)
        return -ENOMEM;
    bool below = src != &s->api && r->src.offset < src->floor && !s->ignore_floors;
    const struct source_id *was = map_get(&s->by_run, sl_str(r->run));
    if (!below && !was) {
        struct source_id id = {.request = r->offset, .idem = r->idem, .keyed = r->keyed};
        memcpy(id.run, r->run, sizeof id.run);
        int error = note(s, src, src == &s->api ? r->time_ms : r->src.offset, &id);
        if (error)
            return error;
        if (s->api.ids.n > s->api_max)
            forget_below(s, &s->api, heap_top(&s->api.ids)->key + 1);
    }
    bool repeat = below || was;
    bool conflict = was && was->keyed && r->keyed && was->idem != r->idem && !s->ignore_keys;
    if (src != &s->api)                                  /* which may forget what `was` */
        (void)sources_raise(s, src->name, r->src.floor); /* the source is there: no memory needed */
    return conflict ? JUDGED_CONFLICT : repeat ? JUDGED_DUPLICATE : JUDGED_NEW;
}

void sources_ended(struct sources *s, const char *run)
{
    struct source_id *id = map_get(&s->by_run, sl_str(run));
    if (!id || id->source != &s->api || (id->keyed && !s->ignore_keys))
        return;
    map_del(&s->by_run, sl_str(run));
    heap_remove(&s->api.ids, &id->node);
    free(id);
}

void sources_expire(struct sources *s, int64_t now_ms)
{
    forget_below(s, &s->api, now_ms - SOURCE_API_WINDOW_MS);
}

size_t sources_ids(const struct sources *s)
{
    return s->by_run.n;
}

/* ---- text ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct source *const *)a)->name, (*(struct source *const *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct source_id *x = *(struct source_id *const *)a, *y = *(struct source_id *const *)b;
    int c = strcmp(x->source->name, y->source->name);
    if (!c)
        c = x->node.key < y->node.key ? -1 : x->node.key > y->node.key;
    return c ? c : strcmp(x->run, y->run);
}

static void **sorted(const struct map *m, int (*cmp)(const void *, const void *))
{
    void **v = calloc(m->n + 1, sizeof *v), *value;
    struct slice k;
    size_t pos = 0, n = 0;
    while (v && map_next(m, &pos, &k, &value))
        v[n++] = value;
    if (v)
        qsort(v, n, sizeof *v, cmp);
    return v;
}

typedef int64_t (*floor_fn)(void *arg, const char *source, int64_t known);

static int64_t floor_now(const struct source *src, floor_fn fn, void *arg)
{
    return fn && *src->name ? fn(arg, src->name, src->floor) : src->floor;
}

static void write_floors(struct source *const *v, size_t n, floor_fn fn, void *arg, struct buf *b)
{
    const char *sep = "";
    buf_adds(b, "\"floors\":{");
    for (size_t i = 0; i < n; i++) {
        int64_t floor = floor_now(v[i], fn, arg);
        if (floor < 0)
            continue;
        buf_adds(b, sep);
        js_write_str(b, sl_str(v[i]->name));
        buf_addf(b, ":%" PRId64, floor);
        sep = ",";
    }
    buf_addc(b, '}');
}

static void write_ids(struct source_id *const *v, size_t n, floor_fn fn, void *arg, struct buf *b)
{
    const char *sep = "";
    buf_adds(b, ",\"ids\":[");
    for (size_t i = 0; i < n; i++) {
        if (*v[i]->source->name && v[i]->node.key < floor_now(v[i]->source, fn, arg))
            continue;
        buf_addf(b, "%s[\"%s\",", sep, v[i]->run);
        js_write_str(b, sl_str(v[i]->source->name));
        buf_addf(b, ",%" PRId64 ",%" PRId64, v[i]->node.key, v[i]->request);
        if (v[i]->keyed)
            buf_addf(b, ",\"%016" PRIx64 "\"", v[i]->idem);
        buf_addc(b, ']');
        sep = ",";
    }
    buf_addc(b, ']');
}

int sources_write(const struct sources *s, floor_fn fn, void *arg, struct buf *b)
{
    struct source **src = (struct source **)sorted(&s->by_name, by_name);
    struct source_id **ids = (struct source_id **)sorted(&s->by_run, by_place);
    int error = src && ids ? 0 : -ENOMEM;
    if (!error) {
        write_floors(src, s->by_name.n, fn, arg, b);
        write_ids(ids, s->by_run.n, fn, arg, b);
        error = buf_error(b);
    }
    free(src);
    free(ids);
    return error;
}

static int read_id(struct sources *s, struct json_object *row)
{
    size_t n = js_length(row);
    struct source_id id = {.keyed = n == 5};
    if (n != 4 && n != 5)
        return -EPROTO;
    const char *run = json_object_get_string(json_object_array_get_idx(row, 0));
    const char *name = json_object_get_string(json_object_array_get_idx(row, 1));
    const char *idem = json_object_get_string(js_at(row, 4));
    if (!run || !name || !run_id_valid(sl_str(run)) ||
        (id.keyed && (!idem || hex_read_u64(sl_str(idem), &id.idem) < 0)))
        return -EPROTO;
    struct source *src = source_get(s, name);
    if (!src)
        return -ENOMEM;
    memcpy(id.run, run, sizeof id.run);
    id.request = json_object_get_int64(json_object_array_get_idx(row, 3));
    return note(s, src, json_object_get_int64(json_object_array_get_idx(row, 2)), &id);
}

int sources_read(struct sources *s, struct json_object *o)
{
    struct json_object *floors = js_get(o, "floors"), *ids = js_get(o, "ids");
    if (!json_object_is_type(floors, json_type_object) ||
        !json_object_is_type(ids, json_type_array))
        return -EPROTO;
    json_object_object_foreach(floors, name, v)
    {
        if (sources_raise(s, name, json_object_get_int64(v)) < 0)
            return -ENOMEM;
    }
    for (size_t i = 0; i < json_object_array_length(ids); i++) {
        int error = read_id(s, json_object_array_get_idx(ids, i));
        if (error)
            return error;
    }
    return 0;
}
