/* Hash maps with 64-bit keys: as map.c, without copies of keys. One thread owns a map. Invariants
 * as there. Keys are numbers that the program itself gives out (offsets, partitions, identifiers),
 * so the hash has no seed. */
#include <errno.h>
#include <stdlib.h>

#include "base/map.h"

#define CAP_MIN  16
#define CAP_KEEP 256

enum { SLOT_EMPTY, SLOT_FULL, SLOT_DEAD };

static size_t slot_of(int64_t key, size_t cap)
{
    uint64_t h = (uint64_t)key;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    return (size_t)h & (cap - 1);
}

void imap_init(struct imap *m)
{
    *m = (struct imap){0};
}

void imap_free(struct imap *m)
{
    free(m->v);
    *m = (struct imap){0};
}

static struct imap_entry *find(const struct imap *m, int64_t key)
{
    if (!m->n)
        return NULL;
    for (size_t i = slot_of(key, m->cap);; i = (i + 1) & (m->cap - 1)) {
        struct imap_entry *e = &m->v[i];
        if (e->used == SLOT_EMPTY)
            return NULL;
        if (e->used == SLOT_FULL && e->key == key)
            return e;
    }
}

void *imap_get(const struct imap *m, int64_t key)
{
    struct imap_entry *e = find(m, key);
    return e ? e->value : NULL;
}

static int rebuild(struct imap *m)
{
    size_t cap = CAP_MIN;
    while (cap / 2 < m->n + 1)
        cap *= 2;
    struct imap_entry *v = calloc(cap, sizeof *v);
    if (!v)
        return -ENOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->v[i].used != SLOT_FULL)
            continue;
        size_t j = slot_of(m->v[i].key, cap);
        while (v[j].used)
            j = (j + 1) & (cap - 1);
        v[j] = m->v[i];
    }
    free(m->v);
    m->v = v;
    m->cap = cap;
    m->dead = 0;
    return 0;
}

int imap_put(struct imap *m, int64_t key, void *value)
{
    struct imap_entry *e = find(m, key);
    if (e) {
        e->value = value;
        return 0;
    }
    if ((m->n + m->dead + 1) * 4 > m->cap * 3 && rebuild(m))
        return -ENOMEM;
    size_t i = slot_of(key, m->cap);
    while (m->v[i].used == SLOT_FULL)
        i = (i + 1) & (m->cap - 1);
    if (m->v[i].used == SLOT_DEAD)
        m->dead--;
    m->v[i] = (struct imap_entry){key, value, SLOT_FULL};
    m->n++;
    return 0;
}

void *imap_del(struct imap *m, int64_t key)
{
    struct imap_entry *e = find(m, key);
    if (!e)
        return NULL;
    void *value = e->value;
    *e = (struct imap_entry){.used = SLOT_DEAD};
    m->n--;
    m->dead++;
    if (!m->n && m->cap > CAP_KEEP) {
        free(m->v);
        m->v = NULL;
        m->cap = m->dead = 0;
    }
    return value;
}

bool imap_next(const struct imap *m, size_t *pos, int64_t *ret_key, void **ret_value)
{
    for (; *pos < m->cap; ++*pos) {
        const struct imap_entry *e = &m->v[*pos];
        if (e->used != SLOT_FULL)
            continue;
        if (ret_key)
            *ret_key = e->key;
        if (ret_value)
            *ret_value = e->value;
        ++*pos;
        return true;
    }
    return false;
}
