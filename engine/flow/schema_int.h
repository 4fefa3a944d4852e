/* Shared by schema.c (the walk), schema_words.c (the keywords) and schema_refs.c (references and
 * cycles). A reader lives for one call of schema_compile.
 *
 * The prepared form is what the child's library judges right (schema_valijson.cc): every reference
 * is #/definitions/N, no `false`, no keyword that it misreads; SCHEMA_LEAF holds, as JSON text,
 * what the shim judges itself. */
#pragma once
#include "flow/parse_int.h"
#include "flow/schema.h"

#define SCHEMA_LEAF "x-tm"

struct snode {
    const char *path;               /* JSON pointer in the document, escaped */
    struct spot at;                 /* where it stands */
    struct json_object *made;       /* prepared, owned by its parent's made or by the reader */
    const char *ref_path;           /* of $ref, NULL: none */
    struct json_object *ref_holder; /* {"$ref": ...} to be set when the target is known */
    size_t edges;                   /* first edge + 1: schemas that judge the same value */
    enum { FRESH, ON_THE_WAY, DONE } state;
    int def; /* number of its definition, -1: no reference leads here */
};
struct sedge {
    size_t to, next;
};
struct schema_reader {
    struct parser *p;
    struct arena mem;
    struct map by_path; /* -> index + 1 */
    struct snode *v;
    size_t n, cap;
    struct sedge *edges;
    size_t nedges, cap_edges;
    struct json_object *root; /* of the document */
    struct json_object *kept; /* an array: prepared schemas that only references lead to */
    size_t before;            /* problems told before this schema */
    bool newer;               /* $schema is 2019-09 or 2020-12 */
    bool failed;
};

enum word_kind {
    WORD_NOTE, /* says nothing about values */
    WORD_LEAF, /* goes into SCHEMA_LEAF */
    WORD_KEEP, /* goes into the prepared schema */
    WORD_ONE,  /* a schema */
    WORD_LIST, /* a list of schemas */
    WORD_MAP,  /* schemas by name */
    WORD_OWN,  /* see schema.c */
    WORD_NO    /* refused */
};
enum { WORD_SAME = 1 /* its schemas judge the same value */, WORD_NEWER = 2, WORD_OLDER = 4 };
struct word {
    const char *name;
    enum word_kind kind;
    uint32_t types;
    unsigned flags;
    const char *hint;
    bool (*check)(struct schema_reader *r, struct spot at, struct json_object *v);
};
/* The keyword, NULL: unknown. */
const struct word *word_find(const char *name);
/* Tells of a keyword that can't stand there or has a wrong value. */
bool word_ok(struct schema_reader *r, struct json_object *o, const char *key);

/* Resolves every reference, refuses those that lead nowhere and circles that no value ends, and
 * moves what is referred to into `defs`. */
void schema_resolve(struct schema_reader *r, struct json_object *defs);
/* Add v, which is taken over; NULL was told already, or there was no memory for it. */
void schema_put(struct schema_reader *r, struct json_object *o, const char *key,
                struct json_object *v);
void schema_push(struct schema_reader *r, struct json_object *list, struct json_object *v);
/* `to` judges the value that `from` judges. */
void schema_same(struct schema_reader *r, size_t from, size_t to);
struct json_object *schema_value(struct spot at); /* borrowed */
/* A pointer's segment, escaped, behind `path`; NULL: no memory. */
const char *schema_path(struct schema_reader *r, const char *path, const char *segment);
