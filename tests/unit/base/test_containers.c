/* Maps, heap and list under random work, held against a plain array. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "unit.h"

SUITE("base/containers")

#define N 500

TEST(map_agrees_with_an_array_under_random_work)
{
    struct map m;
    map_init(&m);
    void *want[N] = {0};
    unsigned seed = 7;
    for (int i = 0; i < 40000; i++) {
        int k = rand_r(&seed) % N;
        char key[16];
        struct slice s = sl(key, (size_t)snprintf(key, sizeof key, "k%d", k));
        if (rand_r(&seed) % 3) {
            void *old = NULL, *value = &want[rand_r(&seed) % N];
            CHECK_INT(map_put(&m, s, value, &old), 0);
            CHECK(old == want[k]);
            want[k] = value;
        } else {
            CHECK(map_del(&m, s) == want[k]);
            want[k] = NULL;
        }
        CHECK(map_get(&m, s) == want[k] && map_has(&m, s) == (want[k] != NULL));
    }
    size_t pos = 0, seen = 0;
    while (map_next(&m, &pos, NULL, NULL))
        seen++;
    CHECK_INT(seen, m.n);
    CHECK(m.cap <= 4096);
    map_free(&m);
}

TEST(map_entries_may_be_deleted_while_walking)
{
    struct map m;
    map_init(&m);
    CHECK(map_get(&m, SL("x")) == NULL && map_del(&m, SL("x")) == NULL);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        NEED(map_put(&m, sl(key, (size_t)snprintf(key, sizeof key, "%d", i)), &m, NULL) == 0);
    }
    size_t pos = 0, n = 0;
    struct slice k;
    void *v;
    while (map_next(&m, &pos, &k, &v)) {
        n++;
        CHECK(v == &m && map_del(&m, k) == &m);
    }
    CHECK_INT(n, 1000);
    CHECK_INT(m.n, 0);
    CHECK_INT(m.cap, 0);
    CHECK_INT(map_put(&m, SL(""), &m, NULL), 0);
    CHECK(map_has(&m, sl(NULL, 0)));
    CHECK_INT(map_put(&m, SL("a\0b"), NULL, NULL), 0);
    CHECK(!map_has(&m, SL("a")) && map_has(&m, SL("a\0b")));
    map_free(&m);
}

TEST(imap_agrees_with_an_array_under_random_work)
{
    struct imap m;
    imap_init(&m);
    void *want[N] = {0};
    unsigned seed = 11;
    for (int i = 0; i < 40000; i++) {
        int k = rand_r(&seed) % N;
        int64_t key = ((int64_t)k - N / 2) * 4096;
        if (rand_r(&seed) % 3) {
            want[k] = &want[rand_r(&seed) % N];
            CHECK_INT(imap_put(&m, key, want[k]), 0);
        } else {
            CHECK(imap_del(&m, key) == want[k]);
            want[k] = NULL;
        }
        CHECK(imap_get(&m, key) == want[k]);
    }
    size_t pos = 0, seen = 0;
    int64_t key;
    while (imap_next(&m, &pos, &key, NULL)) {
        seen++;
        imap_del(&m, key);
    }
    CHECK(seen > 100);
    CHECK_INT(m.n, 0);
    imap_free(&m);
}

TEST(heap_gives_nodes_in_order_of_key_then_insertion)
{
    struct heap h;
    heap_init(&h);
    static struct heap_node nodes[N];
    unsigned seed = 3;
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < N; i++) {
            heap_remove(&h, &nodes[i]);
            NEED(heap_add(&h, &nodes[i], rand_r(&seed) % 50) == 0);
        }
    for (int i = 0; i < N; i += 3)
        heap_remove(&h, &nodes[i]);
    int64_t key = -1;
    uint64_t seq = 0;
    struct heap_node *top;
    size_t n = 0;
    for (; (top = heap_top(&h)); n++) {
        CHECK(top->key > key || (top->key == key && top->seq > seq));
        key = top->key;
        seq = top->seq;
        heap_remove(&h, top);
        CHECK(!heap_in(top));
    }
    CHECK_INT(n, N - (N + 2) / 3);
    heap_add(&h, &nodes[0], 1);
    heap_free(&h);
    CHECK(!heap_in(&nodes[0]));
}

TEST(list_keeps_order_and_lets_the_current_node_go)
{
    struct list head, nodes[5];
    list_init(&head);
    for (int i = 0; i < 5; i++)
        list_push(&head, &nodes[i]);
    int i = 0;
    LIST_EACH(it, &head)
    {
        CHECK(it == &nodes[i++]);
        list_del(it);
    }
    CHECK_INT(i, 5);
    CHECK(list_empty(&head) && list_pop(&head) == NULL);
}
