/* Counted JSON values. One thread owns all references.
 * Invariants: refs >= 1; text, tree or both are present and mean the same; has_tree tells a tree
 * that is NULL (JSON null) from one that was not made yet. */
#include "base/val.h"

#include <assert.h>
#include <stdlib.h>

#define TEXT_MAX_BYTES ((size_t)1 << 30)

struct val {
    int refs;
    bool has_text, has_tree;
    char *text; /* owned */
    size_t n;
    struct json_object *tree; /* one reference is owned */
};

struct val *val_text_new(struct slice text)
{
    struct val *v = calloc(1, sizeof *v);
    char *copy = sl_dup(text);
    if (!v || !copy) {
        free(v);
        free(copy);
        return NULL;
    }
    *v = (struct val){.refs = 1, .has_text = true, .text = copy, .n = text.n};
    return v;
}

struct val *val_tree_new(struct json_object *tree)
{
    struct val *v = calloc(1, sizeof *v);
    if (!v) {
        json_object_put(tree);
        return NULL;
    }
    *v = (struct val){.refs = 1, .has_tree = true, .tree = tree};
    return v;
}

struct val *val_ref(struct val *v)
{
    if (v)
        v->refs++;
    return v;
}

struct val *val_unref(struct val *v)
{
    if (!v || --v->refs)
        return NULL;
    free(v->text);
    json_object_put(v->tree);
    free(v);
    return NULL;
}

struct slice val_text(struct val *v)
{
    if (!v)
        return SL("null");
    if (!v->has_text) {
        struct buf b;
        buf_init(&b, TEXT_MAX_BYTES);
        js_write(v->tree, &b);
        size_t n = b.n;
        char *text = buf_take(&b);
        if (!text)
            return (struct slice){NULL, 0};
        v->text = text;
        v->n = n;
        v->has_text = true;
    }
    return sl(v->text, v->n);
}

struct json_object *val_tree(struct val *v)
{
    if (!v)
        return NULL;
    if (!v->has_tree) {
        struct json_object *tree;
        if (js_parse(sl(v->text, v->n), &tree, NULL))
            return NULL;
        v->tree = tree;
        v->has_tree = true;
    }
    return v->tree;
}

bool val_equal(struct val *a, struct val *b)
{
    if (a == b)
        return true;
    if (a && b && a->has_text && b->has_text && sl_eq(sl(a->text, a->n), sl(b->text, b->n)))
        return true;
    return js_equal(val_tree(a), val_tree(b));
}
