/* See keyring.h. */
#include "gateway/keyring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/js.h"
#include "gateway/route.h"

#define KEY_BYTES_MAX 4096
#define NAME_LETTERS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

struct keyring {
    struct map keys; /* name -> struct key */
    struct map ids;  /* token's id -> struct key; of keys in the ring only */
    int64_t gone;    /* offset behind the latest tombstone */
    bool full;       /* a key did not fit once: what is here is not all */
};

/* ---- buckets ---- */

bool bucket_take(struct bucket *b, int rate, int burst, int64_t now_ms, int64_t *ret_wait_ms)
{
    int64_t most = (int64_t)burst * 1000, passed = now_ms - b->at_ms;
    if (!b->used || passed < 0 || passed > most / rate)
        b->level = b->used && passed < 0 ? b->level : most;
    else
        b->level += passed * rate; /* a request a second is one thousandth a millisecond */
    b->level = b->level < most ? b->level : most;
    b->at_ms = now_ms;
    b->used = true;
    *ret_wait_ms = 0;
    if (b->level >= 1000) {
        b->level -= 1000;
        return true;
    }
    *ret_wait_ms = (1000 - b->level + rate - 1) / rate;
    return false;
}

/* ---- scopes ---- */

static const enum scope all_scopes[] = {SCOPE_PUBLISH, SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN};
#define NSCOPES (sizeof all_scopes / sizeof *all_scopes)

static unsigned scope_bit(struct slice word)
{
    for (size_t i = 0; i < NSCOPES; i++)
        if (sl_is(word, scope_name(all_scopes[i])))
            return 1u << all_scopes[i];
    return 0;
}

int scopes_read(struct slice text, unsigned *ret, struct err *e)
{
    struct slice word;
    unsigned bits = 0;
    while (sl_split(&text, ',', &word)) {
        unsigned bit = scope_bit(sl_trim(word));
        if (!bit)
            return err_set(e, -EINVAL, "some of publish, read, operate, admin with commas between",
                           "\"%.*s\" is not a scope", (int)(word.n < 40 ? word.n : 40), word.p);
        bits |= bit;
    }
    *ret = bits;
    return 0;
}

void scopes_write(unsigned scopes, char out[SCOPES_TEXT_MAX])
{
    size_t n = 0;
    *out = 0;
    for (size_t i = 0; i < NSCOPES; i++)
        if (scopes & 1u << all_scopes[i])
            n += (size_t)snprintf(out + n, SCOPES_TEXT_MAX - n, "%s%s", n ? "," : "",
                                  scope_name(all_scopes[i]));
}

/* ---- records ---- */

int key_name_check(const char *name, struct err *e)
{
    size_t n = strlen(name);
    if (n >= 1 && n <= KEY_NAME_MAX && strspn(name, NAME_LETTERS) == n)
        return 0;
    return err_set(e, -EINVAL, "use 1 to 64 letters, digits, '.', '_', '-'",
                   "\"%.80s\" is not a name for a key", name);
}

static int bad(struct err *e, const char *what)
{
    return err_set(e, -EBADMSG, "revoke the key and make another",
                   "the record of the key is damaged: %s", what);
}

static int read_time(struct json_object *o, const char *member, int64_t *ret)
{
    const char *text = js_str(o, member);
    return text ? time_read(sl_str(text), ret) : -EINVAL;
}

static int read_token(struct json_object *o, struct key_token *t, struct err *e)
{
    const char *id = js_str(o, "id"), *hash = js_str(o, "sha256");
    if (!id || strlen(id) != TOKEN_ID_LEN)
        return bad(e, "a token has no id");
    memcpy(t->id, id, TOKEN_ID_LEN + 1);
    if (!hash || hex_read(sl_str(hash), t->sha256, SHA256_BYTES) < 0)
        return bad(e, "a token has no hash");
    if (read_time(o, "createdAt", &t->created_ms) < 0)
        return bad(e, "a token has no createdAt");
    if (js_get(o, "expiresAt") && read_time(o, "expiresAt", &t->expires_ms) < 0)
        return bad(e, "a token's expiresAt is no time");
    return 0;
}

static int read_tokens(struct json_object *list, struct key *k, struct err *e)
{
    size_t n = js_length(list);
    if (n > KEY_TOKENS_MAX)
        return bad(e, "it has too many tokens");
    for (size_t i = 0; i < n; i++) {
        int error = read_token(js_at(list, i), &k->tokens[i], e);
        if (error)
            return error;
    }
    k->ntokens = n;
    return 0;
}

static int read_rate(struct json_object *o, struct key *k, struct err *e)
{
    int64_t rate = js_int(o, "perSecond", 0), burst = js_int(o, "burst", rate);
    if (!o)
        return 0;
    if (rate < 1 || rate > KEY_RATE_MAX || burst < 1 || burst > KEY_RATE_MAX)
        return bad(e, "its rate is out of range");
    k->rate = (int)rate;
    k->burst = (int)burst;
    return 0;
}

static int read_scopes(struct json_object *list, struct key *k, struct err *e)
{
    for (size_t i = 0; i < js_length(list); i++) {
        struct json_object *v = js_at(list, i);
        unsigned bit = json_object_is_type(v, json_type_string)
                           ? scope_bit(sl_str(json_object_get_string(v)))
                           : 0;
        if (!bit)
            return bad(e, "it has a scope that is none");
        k->scopes |= bit;
    }
    return 0;
}

int key_read(struct slice name, struct slice value, struct key *ret, struct err *e)
{
    struct json_object *o = NULL;
    struct key k = {.ntokens = 0};
    if (!name.n || name.n > KEY_NAME_MAX)
        return bad(e, "its name is empty or too long");
    memcpy(k.name, name.p, name.n);
    if (value.n > KEY_BYTES_MAX || js_parse(value, &o, NULL) < 0)
        return bad(e, "it is no JSON");
    int error = json_object_is_type(o, json_type_object) ? 0 : bad(e, "it is no object");
    if (!error)
        error = read_scopes(js_get(o, "scopes"), &k, e);
    if (!error)
        error = read_rate(js_get(o, "rate"), &k, e);
    if (!error)
        error = read_tokens(js_get(o, "tokens"), &k, e);
    if (!error && read_time(o, "createdAt", &k.created_ms) < 0)
        error = bad(e, "it has no createdAt");
    k.seen = js_int(o, "seen", INT64_MAX);
    json_object_put(o);
    if (!error)
        *ret = k;
    return error;
}

static void write_time(struct buf *b, const char *member, int64_t ms)
{
    char text[TIME_TEXT_MAX];
    time_write(text, ms);
    buf_addf(b, ",\"%s\":\"%s\"", member, text);
}

int key_write(const struct key *k, struct buf *b)
{
    const char *comma = "";
    buf_addf(b, "{\"name\":\"%s\",\"scopes\":[", k->name);
    for (size_t i = 0; i < NSCOPES; i++)
        if (k->scopes & 1u << all_scopes[i]) {
            buf_addf(b, "%s\"%s\"", comma, scope_name(all_scopes[i]));
            comma = ",";
        }
    buf_addc(b, ']');
    if (k->rate)
        buf_addf(b, ",\"rate\":{\"perSecond\":%d,\"burst\":%d}", k->rate, k->burst);
    write_time(b, "createdAt", k->created_ms);
    buf_adds(b, ",\"tokens\":[");
    for (size_t i = 0; i < k->ntokens; i++) {
        const struct key_token *t = &k->tokens[i];
        char hash[2 * SHA256_BYTES + 1];
        hex_write(hash, t->sha256, SHA256_BYTES);
        buf_addf(b, "%s{\"id\":\"%s\",\"sha256\":\"%s\"", i ? "," : "", t->id, hash);
        write_time(b, "createdAt", t->created_ms);
        if (t->expires_ms)
            write_time(b, "expiresAt", t->expires_ms);
        buf_addc(b, '}');
    }
    return buf_addf(b, "],\"seen\":%lld}", (long long)k->seen);
}

void key_expire(struct key *k, int64_t wall_ms)
{
    size_t n = 0;
    for (size_t i = 0; i < k->ntokens; i++)
        if (!k->tokens[i].expires_ms || k->tokens[i].expires_ms > wall_ms)
            k->tokens[n++] = k->tokens[i];
    k->ntokens = n;
}

/* ---- tokens ---- */

int token_make(int64_t wall_ms, int64_t expires_ms, struct key_token *ret, struct secret **ret_text)
{
    uint8_t id[TOKEN_ID_LEN * 5 / 8], random[32];
    char text[TOKEN_LEN + 1];
    struct key_token t = {.created_ms = wall_ms, .expires_ms = expires_ms};
    random_bytes(id, sizeof id);
    random_bytes(random, sizeof random);
    base32_write(t.id, id, sizeof id);
    (void)snprintf(text, sizeof text, "tm_%s_", t.id);
    base64url_write(text + strlen(text), random, sizeof random);
    sha256(sl_str(text), t.sha256);
    *ret_text = secret_new(sl_str(text));
    explicit_bzero(random, sizeof random);
    explicit_bzero(text, sizeof text);
    if (!*ret_text)
        return -ENOMEM;
    *ret = t;
    return 0;
}

/* ---- the ring ---- */

struct keyring *keyring_new(void)
{
    struct keyring *r = calloc(1, sizeof *r);
    if (r) {
        map_init(&r->keys);
        map_init(&r->ids);
    }
    return r;
}

struct keyring *keyring_free(struct keyring *r)
{
    struct slice name;
    void *k;
    size_t pos = 0;
    if (!r)
        return NULL;
    while (map_next(&r->keys, &pos, &name, &k))
        free(k);
    map_free(&r->keys);
    map_free(&r->ids);
    free(r);
    return NULL;
}

size_t keyring_count(const struct keyring *r)
{
    return r->keys.n + r->full;
}

static void forget_ids(struct keyring *r, const struct key *k)
{
    for (size_t i = 0; i < k->ntokens; i++)
        if (map_get(&r->ids, sl_str(k->tokens[i].id)) == k)
            map_del(&r->ids, sl_str(k->tokens[i].id));
}

/* The key of that name, made if there is none. */
static struct key *place(struct keyring *r, struct slice name)
{
    struct key *k = map_get(&r->keys, name);
    if (k || r->keys.n >= KEYS_MAX)
        return k;
    if (!(k = calloc(1, sizeof *k)) || map_put(&r->keys, name, k, NULL) < 0) {
        free(k);
        return NULL;
    }
    return k;
}

static int no_room(const struct keyring *r, struct err *e)
{
    if (r->keys.n < KEYS_MAX)
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for a key");
    return err_set(e, -ENOSPC, "revoke those that are not used", "there are %d keys", KEYS_MAX);
}

int keyring_put(struct keyring *r, struct slice name, struct slice value, int64_t offset,
                struct err *e)
{
    struct key new = {.ntokens = 0}, *k;
    int error = key_read(name, value, &new, e);
    const struct key *old = map_get(&r->keys, name);
    if (!error && (new.seen < r->gone || (old && new.seen <= old->at)))
        return err_set(e, -ESTALE, "read it, and do it again",
                       "the key was changed by someone else meanwhile");
    if (!(k = name.n <= KEY_NAME_MAX ? place(r, name) : NULL)) {
        r->full = true;
        return error ? error : no_room(r, e);
    }
    forget_ids(r, k);
    new.bucket = k->bucket;
    new.at = offset;
    memcpy(new.name, name.p, name.n);
    *k = new;
    for (size_t i = 0; i < k->ntokens && !error; i++)
        if (map_put(&r->ids, sl_str(k->tokens[i].id), k, NULL) < 0)
            error = no_room(r, e);
    return error;
}

void keyring_del(struct keyring *r, struct slice name, int64_t offset)
{
    struct key *k = map_get(&r->keys, name);
    r->gone = offset + 1;
    if (!k)
        return;
    forget_ids(r, k);
    map_del(&r->keys, name);
    free(k);
}

enum key_found keyring_find(struct keyring *r, struct slice text, int64_t wall_ms,
                            struct key **ret_key, const struct key_token **ret_token)
{
    static const struct key_token none;
    uint8_t hash[SHA256_BYTES];
    struct slice id = sl_from(text, 3);
    if (text.n != TOKEN_LEN || !sl_starts(text, SL("tm_")))
        return KEY_UNKNOWN;
    id.n = TOKEN_ID_LEN;
    struct key *k = map_get(&r->ids, id);
    const struct key_token *t = &none;
    for (size_t i = 0; k && i < k->ntokens; i++)
        if (sl_is(id, k->tokens[i].id))
            t = &k->tokens[i];
    sha256(text, hash); /* of an unknown one too: it takes as long */
    if (!secret_equal(hash, t->sha256, sizeof hash) || t == &none)
        return KEY_UNKNOWN;
    *ret_key = k;
    *ret_token = t;
    return t->expires_ms && t->expires_ms <= wall_ms ? KEY_EXPIRED : KEY_FOUND;
}

bool keyring_has_id(const struct keyring *r, const char *token_id)
{
    return map_has(&r->ids, sl_str(token_id));
}

struct key *keyring_key(struct keyring *r, const char *name)
{
    return map_get(&r->keys, sl_str(name));
}

bool keyring_next(const struct keyring *r, size_t *pos, const struct key **ret)
{
    struct slice name;
    void *k;
    if (!map_next(&r->keys, pos, &name, &k))
        return false;
    *ret = k;
    return true;
}
