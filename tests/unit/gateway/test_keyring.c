/* API keys: their records, tokens, buckets, and the ring that finds a key by a token. */
#include "gateway/keyring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/route.h"
#include "unit.h"

SUITE("gateway/keyring")

#define T0 INT64_C(1764028800000) /* 2025-11-25 */

struct made {
    struct key key;
    struct secret *text[KEY_TOKENS_MAX];
};

static void add_token(struct made *m, int64_t expires_ms)
{
    size_t i = m->key.ntokens++;
    NEED(token_make(T0, expires_ms, &m->key.tokens[i], &m->text[i]) == 0);
}

static void make_key(struct made *m, const char *name, unsigned scopes, int64_t expires_ms)
{
    memset(m, 0, sizeof *m);
    snprintf(m->key.name, sizeof m->key.name, "%s", name);
    m->key.scopes = scopes;
    m->key.created_ms = T0;
    m->key.seen = INT64_MAX;
    add_token(m, expires_ms);
}

static int64_t offset; /* of the next record */

static void put(struct keyring *r, const struct made *m)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, 4096);
    CHECK_INT(key_write(&m->key, &b), 0);
    CHECK_INT(keyring_put(r, sl_str(m->key.name), buf_slice(&b), offset++, &e), 0);
    CHECK_STR(e.msg, "");
    buf_free(&b);
}

static void done(struct made *m)
{
    for (size_t i = 0; i < KEY_TOKENS_MAX; i++)
        m->text[i] = secret_free(m->text[i]);
}

static enum key_found find(struct keyring *r, struct slice text, int64_t now, const char **ret_name)
{
    struct key *k = NULL;
    const struct key_token *t = NULL;
    enum key_found f = keyring_find(r, text, now, &k, &t);
    *ret_name = k ? k->name : "";
    return f;
}

TEST(a_token_says_nothing_of_its_secret_in_what_is_kept)
{
    struct made a, b;
    struct buf kept;
    make_key(&a, "a", 1u << SCOPE_READ, 0);
    make_key(&b, "b", 1u << SCOPE_READ, 0);
    struct slice text = secret_reveal(a.text[0]);
    CHECK_INT(text.n, TOKEN_LEN);
    CHECK(sl_starts(text, SL("tm_")) && text.p[11] == '_');
    CHECK(!strncmp(text.p + 3, a.key.tokens[0].id, TOKEN_ID_LEN));
    CHECK(!sl_eq(text, secret_reveal(b.text[0])));
    CHECK(strcmp(a.key.tokens[0].id, b.key.tokens[0].id) != 0);
    buf_init(&kept, 4096);
    key_write(&a.key, &kept);
    CHECK(!strstr(kept.p, text.p + 12));
    CHECK(!!strstr(kept.p, a.key.tokens[0].id));
    buf_free(&kept);
    done(&a);
    done(&b);
}

TEST(a_record_is_read_as_it_was_written)
{
    struct made m;
    struct key k;
    struct err e = {0};
    struct buf b, again;
    buf_init(&b, 4096);
    buf_init(&again, 4096);
    make_key(&m, "both.of-them_2", 1u << SCOPE_PUBLISH | 1u << SCOPE_OPERATE, T0 + 1);
    add_token(&m, 0);
    m.key.rate = 20;
    m.key.burst = 50;
    CHECK_INT(key_write(&m.key, &b), 0);
    CHECK_INT(key_read(SL("both.of-them_2"), buf_slice(&b), &k, &e), 0);
    CHECK_INT(key_write(&k, &again), 0);
    CHECK_STR(again.p, b.p);
    CHECK_INT(k.rate, 20);
    CHECK_INT(k.burst, 50);
    CHECK_INT(k.tokens[0].expires_ms, T0 + 1);
    CHECK_INT(k.tokens[1].expires_ms, 0);
    buf_free(&b);
    buf_free(&again);
    done(&m);
}

TEST(a_key_is_found_by_each_of_its_tokens_and_by_no_other_text)
{
    struct keyring *r = keyring_new();
    struct made a, b;
    const char *name;
    char text[TOKEN_LEN + 2];
    make_key(&a, "a", 1u << SCOPE_READ, 0);
    add_token(&a, 0);
    make_key(&b, "b", 1u << SCOPE_READ, 0);
    put(r, &a);
    put(r, &b);
    CHECK_INT(find(r, secret_reveal(a.text[0]), T0, &name), KEY_FOUND);
    CHECK_STR(name, "a");
    CHECK_INT(find(r, secret_reveal(a.text[1]), T0, &name), KEY_FOUND);
    CHECK_INT(find(r, secret_reveal(b.text[0]), T0, &name), KEY_FOUND);
    CHECK_STR(name, "b");
    /* Each byte counts. */
    for (size_t i = 0; i < TOKEN_LEN; i++) {
        memcpy(text, secret_reveal(a.text[0]).p, TOKEN_LEN);
        text[i] = (char)(text[i] == 'x' ? 'y' : 'x');
        CHECK_INT(find(r, sl(text, TOKEN_LEN), T0, &name), KEY_UNKNOWN);
        CHECK_STR(name, "");
    }
    memcpy(text, secret_reveal(a.text[0]).p, TOKEN_LEN);
    text[TOKEN_LEN] = 'x';
    CHECK_INT(find(r, sl(text, TOKEN_LEN + 1), T0, &name), KEY_UNKNOWN);
    CHECK_INT(find(r, sl(text, TOKEN_LEN - 1), T0, &name), KEY_UNKNOWN);
    CHECK_INT(find(r, SL(""), T0, &name), KEY_UNKNOWN);
    /* The secret of one behind the id of another. */
    memcpy(text, secret_reveal(a.text[0]).p, TOKEN_LEN);
    memcpy(text + 3, b.key.tokens[0].id, TOKEN_ID_LEN);
    CHECK_INT(find(r, sl(text, TOKEN_LEN), T0, &name), KEY_UNKNOWN);
    done(&a);
    done(&b);
    keyring_free(r);
}

TEST(a_token_ends_at_its_time_and_with_its_key)
{
    struct keyring *r = keyring_new();
    struct made a;
    const char *name;
    make_key(&a, "a", 1u << SCOPE_READ, T0 + 1000);
    add_token(&a, 0);
    put(r, &a);
    CHECK_INT(find(r, secret_reveal(a.text[0]), T0 + 999, &name), KEY_FOUND);
    CHECK_INT(find(r, secret_reveal(a.text[0]), T0 + 1000, &name), KEY_EXPIRED);
    CHECK_STR(name, "a");
    CHECK_INT(find(r, secret_reveal(a.text[1]), T0 + 1000, &name), KEY_FOUND);
    key_expire(&a.key, T0 + 1000);
    CHECK_INT(a.key.ntokens, 1);
    put(r, &a); /* rotated: only the second one is left */
    CHECK_INT(find(r, secret_reveal(a.text[0]), T0, &name), KEY_UNKNOWN);
    CHECK_INT(find(r, secret_reveal(a.text[1]), T0, &name), KEY_FOUND);
    CHECK_INT(keyring_count(r), 1);
    keyring_del(r, SL("a"), offset++);
    keyring_del(r, SL("a"), offset++);
    CHECK_INT(find(r, secret_reveal(a.text[1]), T0, &name), KEY_UNKNOWN);
    CHECK_INT(keyring_count(r), 0);
    done(&a);
    keyring_free(r);
}

TEST(a_damaged_record_lets_nobody_in_and_is_a_key_all_the_same)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"scopes\":[\"root\"],\"createdAt\":\"2025-11-25T00:00:00Z\",\"tokens\":[]}",
        "{\"scopes\":[1],\"createdAt\":\"2025-11-25T00:00:00Z\",\"tokens\":[]}",
        "{\"scopes\":[\"read\"],\"tokens\":[]}",
        "{\"scopes\":[\"read\"],\"createdAt\":\"2025-11-25T00:00:00Z\",\"tokens\":[{\"id\":"
        "\"short\"}]}",
        "{\"scopes\":[\"read\"],\"createdAt\":\"2025-11-25T00:00:00Z\",\"tokens\":[{\"id\":"
        "\"12345678\",\"sha256\":\"00\",\"createdAt\":\"2025-11-25T00:00:00Z\"}]}",
        "{\"scopes\":[\"read\"],\"createdAt\":\"2025-11-25T00:00:00Z\",\"tokens\":[{},{},{}]}",
        "{\"scopes\":[\"read\"],\"rate\":{\"perSecond\":0},\"createdAt\":\"2025-11-25T00:00:00Z\","
        "\"tokens\":[]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct keyring *r = keyring_new();
        struct made a;
        struct err e = {0};
        const char *name;
        make_key(&a, "a", 1u << SCOPE_READ, 0);
        put(r, &a);
        CHECK_INT(keyring_put(r, SL("a"), sl_str(texts[i]), offset++, &e), -EBADMSG);
        CHECK(*e.msg && *e.hint);
        CHECK_INT(find(r, secret_reveal(a.text[0]), T0, &name), KEY_UNKNOWN);
        CHECK_INT(keyring_count(r), 1);
        CHECK_STR(keyring_key(r, "a")->name, "a");
        put(r, &a); /* mended */
        CHECK_INT(find(r, secret_reveal(a.text[0]), T0, &name), KEY_FOUND);
        done(&a);
        keyring_free(r);
    }
}

TEST(keys_are_bounded)
{
    struct keyring *r = keyring_new();
    struct made a;
    struct buf b;
    struct err e = {0};
    char name[KEY_NAME_MAX + 2];
    make_key(&a, "a", 1u << SCOPE_READ, 0);
    buf_init(&b, 4096);
    key_write(&a.key, &b);
    for (int i = 0; i < KEYS_MAX; i++) {
        snprintf(name, sizeof name, "k%d", i);
        NEED(keyring_put(r, sl_str(name), buf_slice(&b), offset++, &e) == 0);
    }
    CHECK_INT(keyring_put(r, SL("more"), buf_slice(&b), offset++, &e), -ENOSPC);
    CHECK_INT(keyring_put(r, SL("k7"), buf_slice(&b), offset++, &e), 0);
    memset(name, 'x', sizeof name);
    CHECK_INT(keyring_put(r, sl(name, sizeof name), buf_slice(&b), offset++, &e), -EBADMSG);
    keyring_free(r);
    r = keyring_new(); /* what did not fit is still no reason to be open */
    CHECK_INT(keyring_put(r, sl(name, sizeof name), buf_slice(&b), offset++, &e), -EBADMSG);
    CHECK_INT(keyring_count(r), 1);
    keyring_free(r);
    buf_free(&b);
    done(&a);
}

TEST(of_two_who_change_a_key_the_first_one_wins_and_revoked_stays_revoked)
{
    struct keyring *r = keyring_new();
    struct made a, one, two;
    struct buf b;
    struct err e = {0};
    const char *name;
    buf_init(&b, 4096);
    make_key(&a, "a", 1u << SCOPE_READ, 0);
    a.key.seen = 7; /* after a compaction: what it was based on is not there any more */
    key_write(&a.key, &b);
    CHECK_INT(keyring_put(r, SL("a"), buf_slice(&b), 20, &e), 0);
    make_key(&one, "a", 1u << SCOPE_READ, 0);
    make_key(&two, "a", 1u << SCOPE_ADMIN, 0);
    one.key.seen = two.key.seen = 21; /* both have read the first one */
    buf_reset(&b);
    key_write(&one.key, &b);
    CHECK_INT(keyring_put(r, SL("a"), buf_slice(&b), 21, &e), 0);
    buf_reset(&b);
    key_write(&two.key, &b);
    CHECK_INT(keyring_put(r, SL("a"), buf_slice(&b), 22, &e), -ESTALE);
    CHECK_INT(find(r, secret_reveal(one.text[0]), T0, &name), KEY_FOUND);
    CHECK_INT(find(r, secret_reveal(two.text[0]), T0, &name), KEY_UNKNOWN);
    CHECK_INT(keyring_key(r, "a")->at, 21);
    keyring_del(r, SL("a"), 23);
    two.key.seen = 23; /* rotated by one who had not read that */
    buf_reset(&b);
    key_write(&two.key, &b);
    CHECK_INT(keyring_put(r, SL("a"), buf_slice(&b), 24, &e), -ESTALE);
    CHECK_INT(keyring_count(r), 0);
    two.key.seen = 24; /* and made anew by one who had */
    buf_reset(&b);
    key_write(&two.key, &b);
    CHECK_INT(keyring_put(r, SL("a"), buf_slice(&b), 25, &e), 0);
    CHECK_INT(find(r, secret_reveal(two.text[0]), T0, &name), KEY_FOUND);
    done(&a);
    done(&one);
    done(&two);
    buf_free(&b);
    keyring_free(r);
}

TEST(a_bucket_holds_its_burst_and_fills_at_its_rate)
{
    struct bucket b = {0};
    int64_t wait;
    for (int i = 0; i < 5; i++)
        CHECK(bucket_take(&b, 2, 5, T0, &wait));
    CHECK(!bucket_take(&b, 2, 5, T0, &wait));
    CHECK_INT(wait, 500);
    CHECK(!bucket_take(&b, 2, 5, T0 + 499, &wait));
    CHECK_INT(wait, 1);
    CHECK(bucket_take(&b, 2, 5, T0 + 500, &wait));
    CHECK(!bucket_take(&b, 2, 5, T0 + 500, &wait));
    for (int i = 0; i < 5; i++) /* an hour later it is full, not fuller */
        CHECK(bucket_take(&b, 2, 5, T0 + 3600000, &wait));
    CHECK(!bucket_take(&b, 2, 5, T0 + 3600000, &wait));
    /* Many in one millisecond, and a clock that stands still or goes back. */
    struct bucket fast = {0};
    for (int i = 0; i < 3; i++)
        CHECK(bucket_take(&fast, KEY_RATE_MAX, 3, T0, &wait));
    CHECK(!bucket_take(&fast, KEY_RATE_MAX, 3, T0 - 1, &wait));
    CHECK_INT(wait, 1);
    CHECK(bucket_take(&fast, KEY_RATE_MAX, 3, T0 + 1, &wait));
}

TEST(a_rotated_key_keeps_its_bucket)
{
    struct keyring *r = keyring_new();
    struct made a;
    int64_t wait;
    make_key(&a, "a", 1u << SCOPE_READ, 0);
    a.key.rate = a.key.burst = 1;
    put(r, &a);
    CHECK(bucket_take(&keyring_key(r, "a")->bucket, 1, 1, T0, &wait));
    put(r, &a);
    CHECK(!bucket_take(&keyring_key(r, "a")->bucket, 1, 1, T0, &wait));
    done(&a);
    keyring_free(r);
}

TEST(scopes_and_names_are_told_apart)
{
    unsigned bits = 0;
    char text[SCOPES_TEXT_MAX];
    struct err e = {0};
    CHECK_INT(scopes_read(SL("read, publish,operate,admin"), &bits, &e), 0);
    scopes_write(bits, text);
    CHECK_STR(text, "publish,read,operate,admin");
    CHECK_INT(scopes_read(SL("read,root"), &bits, &e), -EINVAL);
    CHECK(!!strstr(e.hint, "operate"));
    CHECK_INT(scopes_read(SL("none"), &bits, &e), -EINVAL);
    CHECK_INT(scopes_read(SL(""), &bits, &e), -EINVAL);
    CHECK_INT(key_name_check("a.b-c_9", &e), 0);
    CHECK_INT(key_name_check("", &e), -EINVAL);
    CHECK_INT(key_name_check("a/b", &e), -EINVAL);
    CHECK_INT(key_name_check("0123456789012345678901234567890123456789012345678901234567890123x",
                             &e),
              -EINVAL);
}
