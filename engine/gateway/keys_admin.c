/* See keys.h: keys as the CLI reads and changes them, blocking. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "gateway/keys.h"

#define ADMIN_MS      15000
#define KEY_BYTES_MAX 4096

#define TRIES 5

struct table {
    struct keyring *ring;
    int64_t end; /* the offset behind what was read */
    /* Of the key `name`, if one is named: its latest record, and whether the record with the value
     * `mine` counts. */
    const char *name;
    struct slice mine;
    int64_t last;
    bool last_gone, mine_counts;
};

static int on_record(void *arg, const struct krec *r)
{
    struct table *t = arg;
    int error = 0;
    t->end = r->offset + 1;
    if (!sl_starts(r->key, SL("key/")))
        return 0;
    struct slice name = sl_from(r->key, 4);
    if (r->value.p)
        error = keyring_put(t->ring, name, r->value, r->offset, NULL);
    else
        keyring_del(t->ring, name, r->offset);
    if (t->name && sl_is(name, t->name)) {
        t->last = r->offset;
        t->last_gone = !r->value.p;
        t->mine_counts |= r->value.p && !error && sl_eq(r->value, t->mine);
    }
    return error == -ENOMEM ? error : 0;
}

static int table_read(struct table *t, struct kadmin *a, const struct names *n, struct err *e)
{
    t->end = 0;
    t->last = -1;
    if (!(t->ring = keyring_new()))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the keys");
    int error = kadmin_read(a, n->keys, 0, -2, -1, on_record, t, ADMIN_MS, e);
    if (error == -ENOENT) { /* no node and no command has made it yet */
        err_clear(e);
        error = 0;
    }
    if (error)
        t->ring = keyring_free(t->ring);
    return error;
}

int keyadmin_list(struct kadmin *a, const struct names *n, struct keyring **ret, struct err *e)
{
    struct table t = {.name = NULL};
    int error = table_read(&t, a, n, e);
    if (!error)
        *ret = t.ring;
    return error;
}

int keyadmin_any(struct kadmin *a, const struct names *n, bool *ret, struct err *e)
{
    struct table t = {.name = NULL};
    int error = table_read(&t, a, n, e);
    if (!error)
        *ret = keyring_count(t.ring) > 0;
    if (!error)
        keyring_free(t.ring);
    return error;
}

/* ---- writing ---- */

/* value p NULL: revoked. */
static int send(struct kadmin *a, const struct names *n, const char *name, struct slice value,
                struct err *e)
{
    char key[KEY_NAME_MAX + 5];
    (void)snprintf(key, sizeof key, "key/%s", name);
    struct krec r = {.topic = sl_str(n->keys),
                     .partition = 0,
                     .time_ms = clock_wall_ms(),
                     .key = sl_str(key),
                     .value = value};
    return kadmin_send(a, &r, NULL, NULL, ADMIN_MS, e);
}

/* Writes what holds once more, where the key's latest record is a void one. */
static int repair(struct kadmin *a, const struct names *n, const struct table *t, struct err *e)
{
    struct key *k = keyring_key(t->ring, t->name), copy;
    struct buf b;
    if (!k)
        return send(a, n, t->name, sl(NULL, 0), e);
    copy = *k;
    copy.seen = t->end;
    buf_init(&b, KEY_BYTES_MAX);
    int error = key_write(&copy, &b);
    error = error ? err_set(e, error, "give the process more memory", "no memory for the key")
                  : send(a, n, t->name, buf_slice(&b), e);
    buf_free(&b);
    return error;
}

/* After `mine` was sent. -ESTALE: it is void, since another one was before it. */
static int settle(struct kadmin *a, const struct names *n, const char *name, struct slice mine,
                  struct err *e)
{
    bool clean = false, counts = false;
    int error = 0;
    for (int i = 0; i < TRIES && !error && !clean; i++) {
        struct table t = {.name = name, .mine = mine};
        if ((error = table_read(&t, a, n, e)))
            break;
        const struct key *now = keyring_key(t.ring, name);
        counts |= t.mine_counts;
        clean = counts || (now ? now->at == t.last : t.last_gone);
        if (!clean)
            error = repair(a, n, &t, e);
        keyring_free(t.ring);
    }
    return error ? error : counts ? 0 : -ESTALE;
}

static int write_key(struct kadmin *a, const struct names *n, struct key *k, int64_t seen,
                     struct err *e)
{
    struct buf b;
    buf_init(&b, KEY_BYTES_MAX);
    k->seen = seen;
    int error = key_write(k, &b);
    if (error)
        err_set(e, error, "give the process more memory", "no memory for the key");
    if (!error)
        error = send(a, n, k->name, buf_slice(&b), e);
    if (!error)
        error = settle(a, n, k->name, buf_slice(&b), e);
    buf_free(&b);
    return error;
}

/* ---- changing ---- */

struct change {
    struct kadmin *a;
    const struct names *n;
    const char *name, *id;
    const struct key *spec;
    int64_t expires_ms;
    struct key *ret;
    struct secret **ret_text;
};

/* Does it on what holds now, until nobody else was before it. */
static int change(const struct change *c,
                  int (*once)(const struct change *c, const struct table *t, struct err *e),
                  struct err *e)
{
    int error = -ESTALE;
    for (int i = 0; i < TRIES && error == -ESTALE; i++) {
        struct table t = {.name = NULL};
        if ((error = table_read(&t, c->a, c->n, e)))
            return error;
        error = once(c, &t, e);
        keyring_free(t.ring);
    }
    return error == -ESTALE
               ? err_set(e, -EBUSY, "do it again", "others change the key %s all the time", c->name)
               : error;
}

static int not_found(const struct keyring *r, const char *name, struct err *e)
{
    const char **words = calloc(keyring_count(r) + 1, sizeof *words), *near = NULL;
    const struct key *k;
    char hint[256] = "list them with `tidemark keys list`";
    size_t pos = 0, n = 0;
    while (words && keyring_next(r, &pos, &k))
        words[n++] = k->name;
    if (words && (near = err_nearest(sl_str(name), words)))
        (void)snprintf(hint, sizeof hint, "did you mean %s? `tidemark keys list` lists them", near);
    free(words);
    return err_set(e, -ENOENT, hint, "no key \"%.80s\"", name);
}

/* A token for `k`, which is written then; an id that another key has is not taken. */
static int add_token(const struct change *c, const struct table *t, struct key *k, struct err *e)
{
    struct key_token *token = &k->tokens[k->ntokens];
    struct secret *text = NULL;
    int error;
    do {
        secret_free(text);
        error = token_make(clock_wall_ms(), c->expires_ms, token, &text);
    } while (!error && keyring_has_id(t->ring, token->id));
    if (error)
        return err_set(e, error, "give the process more memory", "no memory for a token");
    k->ntokens++;
    if ((error = write_key(c->a, c->n, k, t->end, e))) {
        secret_free(text);
        return error;
    }
    *c->ret_text = text;
    *c->ret = *k;
    return 0;
}

static int create(const struct change *c, const struct table *t, struct err *e)
{
    struct key k = *c->spec;
    k.ntokens = 0;
    k.created_ms = clock_wall_ms();
    if (keyring_key(t->ring, k.name))
        return err_set(
            e, -EEXIST,
            "`tidemark keys rotate` gives it a second token; `tidemark keys revoke` takes "
            "it away",
            "there is a key %s", k.name);
    if (keyring_count(t->ring) >= KEYS_MAX)
        return err_set(e, -ENOSPC, "revoke those that are not used", "there are %d keys already",
                       KEYS_MAX);
    return add_token(c, t, &k, e);
}

int keyadmin_create(struct kadmin *a, const struct names *n, const struct key *spec,
                    int64_t expires_ms, struct key *ret, struct secret **ret_text, struct err *e)
{
    struct change c = {.a = a,
                       .n = n,
                       .name = spec->name,
                       .spec = spec,
                       .expires_ms = expires_ms,
                       .ret = ret,
                       .ret_text = ret_text};
    int error = key_name_check(spec->name, e);
    return error ? error : change(&c, create, e);
}

/* The key as it is, without expired tokens. */
static int find(const struct table *t, const char *name, struct key *ret, struct err *e)
{
    const struct key *k = keyring_key(t->ring, name);
    if (!k)
        return not_found(t->ring, name, e);
    if (!k->scopes)
        return err_set(e, -EBADMSG, "`tidemark keys revoke` it and make another",
                       "the record of the key %s is damaged", name);
    *ret = *k;
    key_expire(ret, clock_wall_ms());
    return 0;
}

static int rotate(const struct change *c, const struct table *t, struct err *e)
{
    struct key k;
    int error = find(t, c->name, &k, e);
    if (error)
        return error;
    if (k.ntokens == KEY_TOKENS_MAX)
        return err_set(e, -EEXIST, "`tidemark keys retire NAME TOKEN_ID` takes the older one away",
                       "the key %s has two tokens that work, %s and %s", k.name, k.tokens[0].id,
                       k.tokens[1].id);
    return add_token(c, t, &k, e);
}

int keyadmin_rotate(struct kadmin *a, const struct names *n, const char *name, int64_t expires_ms,
                    struct key *ret, struct secret **ret_text, struct err *e)
{
    struct change c = {
        .a = a, .n = n, .name = name, .expires_ms = expires_ms, .ret = ret, .ret_text = ret_text};
    return change(&c, rotate, e);
}

static int take_token(struct key *k, const char *id, struct err *e)
{
    size_t i = 0;
    while (i < k->ntokens && strcmp(k->tokens[i].id, id) != 0)
        i++;
    if (i == k->ntokens)
        return err_set(e, -ENOENT, "`tidemark keys list` has the ids",
                       "the key %s has no token %.20s", k->name, id);
    if (k->ntokens == 1)
        return err_set(e, -EBUSY,
                       "`tidemark keys rotate` gives it another one first; `tidemark keys revoke` "
                       "ends the key",
                       "%s is the only token of the key %s", id, k->name);
    k->tokens[i] = k->tokens[--k->ntokens];
    return 0;
}

static int retire(const struct change *c, const struct table *t, struct err *e)
{
    struct key k;
    int error = find(t, c->name, &k, e);
    if (!error)
        error = take_token(&k, c->id, e);
    if (!error)
        error = write_key(c->a, c->n, &k, t->end, e);
    if (!error)
        *c->ret = k;
    return error;
}

int keyadmin_retire(struct kadmin *a, const struct names *n, const char *name, const char *id,
                    struct key *ret, struct err *e)
{
    struct change c = {.a = a, .n = n, .name = name, .id = id, .ret = ret};
    return change(&c, retire, e);
}

int keyadmin_revoke(struct kadmin *a, const struct names *n, const char *name, size_t *ret_left,
                    struct err *e)
{
    struct table t = {.name = NULL};
    int error = table_read(&t, a, n, e);
    if (error)
        return error;
    error = keyring_key(t.ring, name) ? send(a, n, name, sl(NULL, 0), e) /* it always counts */
                                      : not_found(t.ring, name, e);
    if (!error)
        *ret_left = keyring_count(t.ring) - 1;
    keyring_free(t.ring);
    return error;
}
