/* API keys in memory: who may do what, and how often. Pure: clocks come in as arguments. One thread
 * owns a ring.
 *
 * A key is a record of the compacted topic tidemark.<group>.keys: `key/NAME` with
 *   {"name":NAME,"scopes":["read",..],"rate":{"perSecond":N,"burst":N},"createdAt":TIME,
 *    "tokens":[{"id":ID,"sha256":HEX,"createdAt":TIME,"expiresAt":TIME},..],"seen":OFFSET}
 * (rate and expiresAt only where there is one); a tombstone revokes it. A key has at most two
 * tokens, so that its users can go from the old one to the new one without a pause.
 *
 * `seen` is the offset up to which its writer had read the topic. A record is void when the key was
 * changed, or any key revoked, at or beyond it: of two who change a key at the same time the first
 * one in the log wins, and nobody brings back what was revoked. All readers judge alike; the writer
 * of a void record finds that by reading on, and writes what holds once more, so that compaction
 * does not keep the void one.
 *
 * A token is tm_ID_SECRET: ID 8 characters by which it is found (no secret), SECRET 32 random bytes
 * in base64url. Kept is the SHA-256 of the whole text, without salt and without a slow function:
 * those protect what people choose; 256 random bits are in no table and are not found by trying.
 * Hashes are compared in constant time. */
#pragma once
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/secret.h"

#define KEY_NAME_MAX   64
#define KEY_TOKENS_MAX 2
#define KEY_RATE_MAX   1000000 /* requests a second */
#define KEYS_MAX       10000
#define TOKEN_ID_LEN   8
#define TOKEN_LEN      55 /* tm_ + ID + _ + 43 */

/* A token bucket: `burst` at once, `rate` a second. All zero: full at its first use. */
struct bucket {
    int64_t level, at_ms; /* in thousandths */
    bool used;
};
/* Whether one more fits; if not, *ret_wait_ms until one does. */
bool bucket_take(struct bucket *b, int rate, int burst, int64_t now_ms, int64_t *ret_wait_ms);

struct key_token {
    char id[TOKEN_ID_LEN + 1];
    uint8_t sha256[SHA256_BYTES];
    int64_t created_ms, expires_ms; /* Unix time; expires 0: never */
};
struct key {
    char name[KEY_NAME_MAX + 1];
    unsigned scopes; /* bits 1 << enum scope (gateway/route.h) */
    int rate, burst; /* rate 0: any */
    int64_t created_ms;
    int64_t seen, at; /* offsets: read up to by the writer; of the record itself */
    struct key_token tokens[KEY_TOKENS_MAX];
    size_t ntokens;
    struct bucket bucket; /* of this node */
};
/* 1 to 64 letters, digits, '.', '_', '-'; -EINVAL. */
int key_name_check(const char *name, struct err *e);
/* The value of a record. -EBADMSG with what is wrong. */
int key_read(struct slice name, struct slice value, struct key *ret, struct err *e);
int key_write(const struct key *k, struct buf *b);
/* "publish,read" to bits; -EINVAL with the words. And back; out holds SCOPES_TEXT_MAX. */
#define SCOPES_TEXT_MAX 40
int scopes_read(struct slice text, unsigned *ret, struct err *e);
void scopes_write(unsigned scopes, char out[SCOPES_TEXT_MAX]);
/* Forgets tokens that have expired. */
void key_expire(struct key *k, int64_t wall_ms);

/* Makes a token (random): its text, and what is kept of it. -ENOMEM. */
int token_make(int64_t wall_ms, int64_t expires_ms, struct key_token *ret,
               struct secret **ret_text);

struct keyring;
struct keyring *keyring_new(void);
struct keyring *keyring_free(struct keyring *r);
size_t keyring_count(const struct keyring *r);
/* Sets or replaces a key by its record, at an offset; its bucket goes on. -ESTALE: the record is
 * void, nothing has changed. A record that can't be read (-EBADMSG, with e) leaves a key without
 * tokens: it lets nobody in, and is not "no key" either. -ENOMEM, -ENOSPC beyond KEYS_MAX: as well.
 */
int keyring_put(struct keyring *r, struct slice name, struct slice value, int64_t offset,
                struct err *e);
void keyring_del(struct keyring *r, struct slice name, int64_t offset);
enum key_found { KEY_FOUND, KEY_UNKNOWN, KEY_EXPIRED };
/* The key and token of a token's text; both are set for KEY_EXPIRED too. */
enum key_found keyring_find(struct keyring *r, struct slice text, int64_t wall_ms,
                            struct key **ret_key, const struct key_token **ret_token);
bool keyring_has_id(const struct keyring *r, const char *token_id);
struct key *keyring_key(struct keyring *r, const char *name);
bool keyring_next(const struct keyring *r, size_t *pos, const struct key **ret);
