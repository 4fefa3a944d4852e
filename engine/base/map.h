/* A hash map from byte keys (copied) to pointers, open addressing, seeded per map. One thread owns
 * a map. Values are not freed by the map. */
#pragma once
#include "base/slice.h"

struct map_entry {
    char *key;
    size_t klen;
    uint64_t hash;
    void *value;
};
struct map {
    struct map_entry *v;
    size_t n, cap, dead;
    uint64_t seed;
};

void map_init(struct map *m);
/* For simulations: maps that get their first entry from here on use this seed, so that their order
 * repeats. 0: random again. */
void map_fix_seed(uint64_t seed);
void map_free(struct map *m);
void *map_get(const struct map *m, struct slice key); /* NULL: not there */
bool map_has(const struct map *m, struct slice key);
/* Sets or replaces; the former value through ret_old (may be NULL). 0 or -ENOMEM. */
int map_put(struct map *m, struct slice key, void *value, void **ret_old);
void *map_del(struct map *m, struct slice key); /* the value that was there, or NULL */
/* Iterates in no particular order; start with *pos = 0. The current entry may be deleted while
 * iterating. */
bool map_next(const struct map *m, size_t *pos, struct slice *ret_key, void **ret_value);

/* The same for 64-bit keys. */
struct imap_entry {
    int64_t key;
    void *value;
    uint8_t used;
};
struct imap {
    struct imap_entry *v;
    size_t n, cap, dead;
};
void imap_init(struct imap *m);
void imap_free(struct imap *m);
void *imap_get(const struct imap *m, int64_t key);
int imap_put(struct imap *m, int64_t key, void *value);
void *imap_del(struct imap *m, int64_t key);
bool imap_next(const struct imap *m, size_t *pos, int64_t *ret_key, void **ret_value);
