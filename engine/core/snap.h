/* Members of a struct as a JSON object, along a table of fields: written into snapshots, read back,
 * copied and freed in one way. Pure but for allocation. */
#pragma once
#include "base/map.h"
#include "base/val.h"

enum snap_kind {
    SNAP_INT,   /* int, or an enum */
    SNAP_I64,   /* int64_t */
    SNAP_BOOL,  /* 0 or 1 */
    SNAP_TEXT,  /* char *, owned */
    SNAP_VAL,   /* struct val *, one reference */
    SNAP_COUNTS /* struct map of counts from 0 */
};
struct snap_field {
    const char *name;
    enum snap_kind kind;
    size_t at;
    int64_t preset; /* of a number that is absent */
    bool optional;  /* left out when it has its preset; texts and values are when they are NULL */
    bool counted;   /* must not be negative */
};
/* The members of the object, without braces; the buffer has its error. */
void snap_write(const struct snap_field *v, size_t n, const void *base, struct buf *b);
/* Into a zeroed struct. 0, -EPROTO (a negative count) or -ENOMEM; snap_free takes what was read in
 * any case. */
int snap_read(const struct snap_field *v, size_t n, void *base, struct json_object *o);
/* Gives `to`, a byte copy of `from`, texts and counts of its own and references of the values. On
 * -ENOMEM it can only be freed. */
int snap_copy(const struct snap_field *v, size_t n, void *to, const void *from);
void snap_free(const struct snap_field *v, size_t n, void *base);

/* Replaces a text by a copy of another (NULL: none), and a reference. */
int set_text(char **to, const char *text);
void set_val(struct val **to, struct val *v);
