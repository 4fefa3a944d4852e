/* The cleaner's map from keys to their latest offset, of a bounded size.
 *
 * Owning thread: the cleaner's. A key is known by 128 bits: two SipHash values with random seeds of
 * this very map, so that nobody can make keys that are taken for each other, and by chance it
 * happens to one pair in 2^128. A slot is 24 bytes; at most three quarters of the slots are used.
 * Open addressing; nothing is ever deleted. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "broker/clean_int.h"

#define SLOTS_MIN 64

struct key_slot {
    uint64_t a, b;
    int64_t offset; /* + 1; 0: empty */
};

size_t key_map_slot_bytes(void)
{
    return sizeof(struct key_slot);
}

int key_map_init(struct key_map *m, size_t bytes_max, int64_t keys_at_most)
{
    size_t cap = SLOTS_MIN, most = bytes_max / sizeof(struct key_slot);
    while (cap < most && (int64_t)(cap - cap / 4) < keys_at_most)
        cap *= 2;
    if (cap > most && most >= SLOTS_MIN)
        cap = most;
    *m = (struct key_map){.cap = cap, .room = cap - cap / 4};
    m->seed[0] = random_u64();
    m->seed[1] = random_u64();
    m->v = calloc(cap, sizeof *m->v);
    return m->v ? 0 : -ENOMEM;
}

void key_map_free(struct key_map *m)
{
    free(m->v);
    *m = (struct key_map){0};
}

static struct key_slot *find(const struct key_map *m, struct slice key, struct key_slot *ret)
{
    ret->a = hash64(key, m->seed[0]);
    ret->b = hash64(key, m->seed[1]);
    size_t i = (size_t)(((unsigned __int128)ret->a * m->cap) >> 64);
    while (m->v[i].offset && (m->v[i].a != ret->a || m->v[i].b != ret->b))
        i = i + 1 == m->cap ? 0 : i + 1;
    return &m->v[i];
}

bool key_map_put(struct key_map *m, struct slice key, int64_t offset)
{
    struct key_slot k, *s = find(m, key, &k);
    if (!s->offset) {
        if (m->n == m->room)
            return false;
        m->n++;
        *s = k;
    }
    s->offset = offset + 1;
    return true;
}

int64_t key_map_get(const struct key_map *m, struct slice key)
{
    struct key_slot k;
    return find(m, key, &k)->offset - 1;
}
