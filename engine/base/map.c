/* Hash maps with open addressing and linear probing. One thread owns a map.
 * A slot is empty, full or dead (deleted: probing goes on over it). Deleting never moves an entry,
 * so a walk may delete what it stands on; dead slots vanish when the table is built anew by an
 * insertion. Invariants: cap is 0 or a power of two; n + dead <= 3/4 cap, so that each probe ends
 * at an empty slot. */
#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"

/* The one global of this folder: a simulation must see the same order each time (map_fix_seed). */
static uint64_t fixed_seed;

void map_fix_seed(uint64_t seed)
{
    fixed_seed = seed;
}

#define CAP_MIN  16
#define CAP_KEEP 256 /* an empty map gives larger tables back */

static char dead_key[1];

static bool full(const struct map_entry *e)
{
    return e->key && e->key != dead_key;
}

static size_t cap_for(size_t n)
{
    size_t cap = CAP_MIN;
    while (cap / 2 < n)
        cap *= 2;
    return cap;
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_free(struct map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (full(&m->v[i]))
            free(m->v[i].key);
    free(m->v);
    *m = (struct map){0};
}

static struct map_entry *find(const struct map *m, struct slice key, uint64_t hash)
{
    if (!m->n)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_entry *e = &m->v[i];
        if (!e->key)
            return NULL;
        if (e->hash == hash && full(e) && sl_eq(sl(e->key, e->klen), key))
            return e;
    }
}

void *map_get(const struct map *m, struct slice key)
{
    struct map_entry *e = m->n ? find(m, key, hash64(key, m->seed)) : NULL;
    return e ? e->value : NULL;
}

bool map_has(const struct map *m, struct slice key)
{
    return m->n && find(m, key, hash64(key, m->seed));
}

static int rebuild(struct map *m)
{
    size_t cap = cap_for(m->n + 1);
    struct map_entry *v = calloc(cap, sizeof *v);
    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        if (!full(&m->v[i]))
            continue;
        size_t j = m->v[i].hash & (cap - 1);
        while (v[j].key)
            j = (j + 1) & (cap - 1);
        v[j] = m->v[i];
    }
    free(m->v);
    m->v = v;
    m->cap = cap;
    m->dead = 0;
    return 0;
}

int map_put(struct map *m, struct slice key, void *value, void **ret_old)
{
    if (!m->seed)
        m->seed = fixed_seed ? fixed_seed : random_u64() | 1;
    uint64_t hash = hash64(key, m->seed);
    struct map_entry *e = find(m, key, hash);
    if (e) {
        if (ret_old)
            *ret_old = e->value;
        e->value = value;
        return 0;
    }
    char *copy = sl_dup(key);
    if (!copy)
        return -ENOMEM;
    if ((m->n + m->dead + 1) * 4 > m->cap * 3 && rebuild(m)) {
        free(copy);
        return -ENOMEM;
    }
    size_t i = hash & (m->cap - 1);
    while (full(&m->v[i]))
        i = (i + 1) & (m->cap - 1);
    if (m->v[i].key)
        m->dead--;
    m->v[i] = (struct map_entry){copy, key.n, hash, value};
    m->n++;
    if (ret_old)
        *ret_old = NULL;
    return 0;
}

void *map_del(struct map *m, struct slice key)
{
    struct map_entry *e = m->n ? find(m, key, hash64(key, m->seed)) : NULL;
    if (!e)
        return NULL;
    void *value = e->value;
    free(e->key);
    *e = (struct map_entry){.key = dead_key};
    m->n--;
    m->dead++;
    if (!m->n && m->cap > CAP_KEEP) {
        free(m->v);
        m->v = NULL;
        m->cap = m->dead = 0;
    }
    return value;
}

bool map_next(const struct map *m, size_t *pos, struct slice *ret_key, void **ret_value)
{
    for (; *pos < m->cap; ++*pos) {
        const struct map_entry *e = &m->v[*pos];
        if (!full(e))
            continue;
        if (ret_key)
            *ret_key = sl(e->key, e->klen);
        if (ret_value)
            *ret_value = e->value;
        ++*pos;
        return true;
    }
    return false;
}
