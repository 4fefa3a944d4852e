/* The API keys of the group (gateway/keyring.h says how a record reads).
 *
 * keys_*: loop's thread. Every node follows the topic, so a key that was made, rotated or revoked
 * counts on each within the moment that it takes to read one record; a node that can't reach the
 * log goes by what it has read. keyring_*: what they know.
 *
 * keyadmin_*: blocking, for the CLI. A change that another one came before is done again on what
 * holds then, a few times; -EBUSY when that was not enough. */
#pragma once
#include "gateway/keyring.h"
#include "log/kadmin.h"
#include "triggers/names.h"

struct keys;
/* on_change: after each record, and when the end that the topic had at the start is reached. */
struct keys *keys_new(struct klog *k, const struct names *n, struct log *log,
                      void (*on_change)(void *arg), void *arg, struct err *e);
struct keys *keys_free(struct keys *k);
/* NULL until that end is reached. */
struct keyring *keys_ring(const struct keys *k);

/* ---- blocking ---- */

/* Whether the group has a key at all; no topic: it has none. */
int keyadmin_any(struct kadmin *a, const struct names *n, bool *ret, struct err *e);
/* All of them; the caller frees the ring. */
int keyadmin_list(struct kadmin *a, const struct names *n, struct keyring **ret, struct err *e);
/* A new key with one token, whose text is the caller's to show once and to free. `spec` has name,
 * scopes, rate and burst. -EEXIST. */
int keyadmin_create(struct kadmin *a, const struct names *n, const struct key *spec,
                    int64_t expires_ms, struct key *ret, struct secret **ret_text, struct err *e);
/* One more token. -ENOENT; -EEXIST when there are two that work. */
int keyadmin_rotate(struct kadmin *a, const struct names *n, const char *name, int64_t expires_ms,
                    struct key *ret, struct secret **ret_text, struct err *e);
/* Takes a token away. -ENOENT; -EBUSY when it is the last one. */
int keyadmin_retire(struct kadmin *a, const struct names *n, const char *name, const char *id,
                    struct key *ret, struct err *e);
/* *ret_left: how many keys remain. -ENOENT. */
int keyadmin_revoke(struct kadmin *a, const struct names *n, const char *name, size_t *ret_left,
                    struct err *e);
