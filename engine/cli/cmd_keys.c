/* keys create|list|rotate|retire|revoke: API keys, straight at the brokers. A token is printed
 * once, on standard output, and is kept nowhere. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "gateway/keys.h"

static void put_time(struct json_object *o, const char *member, int64_t ms)
{
    char text[TIME_TEXT_MAX];
    time_write(text, ms);
    js_put_new(o, member, json_object_new_string(text));
}

static struct json_object *token_json(const struct key_token *t, int64_t now)
{
    struct json_object *o = json_object_new_object();
    js_put_new(o, "id", json_object_new_string(t->id));
    put_time(o, "createdAt", t->created_ms);
    if (t->expires_ms) {
        put_time(o, "expiresAt", t->expires_ms);
        js_put_new(o, "expired", json_object_new_boolean(t->expires_ms <= now));
    }
    return o;
}

/* Without hashes: nobody needs them. */
static struct json_object *key_json(const struct key *k)
{
    int64_t now = clock_wall_ms();
    struct json_object *o = json_object_new_object(), *scopes = json_object_new_array(), *rate,
                       *tokens = json_object_new_array();
    char text[SCOPES_TEXT_MAX];
    struct slice rest, word;
    scopes_write(k->scopes, text);
    rest = sl_str(text);
    while (*text && sl_split(&rest, ',', &word))
        js_push_new(scopes, json_object_new_string_len(word.p, (int)word.n));
    js_put_new(o, "name", json_object_new_string(k->name));
    js_put_new(o, "scopes", scopes);
    if (k->rate) {
        rate = json_object_new_object();
        js_put_new(rate, "perSecond", json_object_new_int(k->rate));
        js_put_new(rate, "burst", json_object_new_int(k->burst));
        js_put_new(o, "rate", rate);
    }
    put_time(o, "createdAt", k->created_ms);
    for (size_t i = 0; i < k->ntokens; i++)
        js_push_new(tokens, token_json(&k->tokens[i], now));
    js_put_new(o, "tokens", tokens);
    return o;
}

/* ---- what flags say ---- */

static int read_expiry(struct cli *c, int64_t *ret)
{
    const char *text = cli_get(c, "expires");
    int64_t ms = 0;
    *ret = 0;
    if (!text || !strcmp(text, "never"))
        return 0;
    if (config_duration(sl_str(text), &ms) < 0 || ms <= 0)
        return err_set(&c->e, -EINVAL, "a number and a unit, such as 12h or 90d; or never",
                       "--expires %s is not a duration", text);
    if (__builtin_add_overflow(clock_wall_ms(), ms, ret) || ms > INT64_C(86400000) * 36500)
        return err_set(&c->e, -EINVAL, "at most 36500d; or never", "--expires %s is too far away",
                       text);
    return 0;
}

static int read_rate(struct cli *c, struct key *k)
{
    const char *rate = cli_get(c, "rate"), *burst = cli_get(c, "burst");
    int64_t n = 0, most = 0;
    if (!rate && burst)
        return err_set(&c->e, -EINVAL, "--rate N is requests a second", "--burst needs --rate");
    if (!rate)
        return 0;
    if (sl_i64(sl_str(rate), &n) < 0 || n < 1 || n > KEY_RATE_MAX)
        return err_set(&c->e, -EINVAL, "a number of requests a second from 1 to 1000000",
                       "--rate %s is no rate", rate);
    most = n;
    if (burst && (sl_i64(sl_str(burst), &most) < 0 || most < 1 || most > KEY_RATE_MAX))
        return err_set(&c->e, -EINVAL, "a number of requests at once from 1 to 1000000",
                       "--burst %s is no number", burst);
    k->rate = (int)n;
    k->burst = (int)most;
    return 0;
}

static int read_spec(struct cli *c, struct key *k)
{
    const char *text;
    int error = key_name_check(c->args[0], &c->e);
    if (error)
        return error;
    (void)snprintf(k->name, sizeof k->name, "%s", c->args[0]);
    for (size_t i = 0; (text = cli_nth(c, "scope", i)) && !error; i++) {
        unsigned bits = 0;
        error = scopes_read(sl_str(text), &bits, &c->e);
        k->scopes |= bits;
    }
    if (!error && !k->scopes)
        error =
            err_set(&c->e, -EINVAL, "some of publish, read, operate, admin, with commas between",
                    "--scope is missing: what may the key do?");
    return error ? error : read_rate(c, k);
}

/* ---- answers ---- */

/* The token stands alone on standard output, so that $(tidemark keys create ...) is the token. */
static void print_token(struct cli *c, const struct key *k, const struct secret *text)
{
    const struct key_token *t = &k->tokens[k->ntokens - 1];
    struct slice s = secret_reveal(text);
    if (c->format == OUT_TABLE) {
        char until[TIME_TEXT_MAX] = "", scopes[SCOPES_TEXT_MAX];
        scopes_write(k->scopes, scopes);
        if (t->expires_ms)
            time_write(until, t->expires_ms);
        fprintf(stderr, "key %s, scopes %s, token %s%s%s; it is shown this once:\n", k->name,
                scopes, t->id, *until ? " until " : "", until);
        fflush(stderr);
        printf("%.*s\n", SL_ARG(s));
        return;
    }
    struct json_object *o = key_json(k);
    js_put_new(o, "id", json_object_new_string(t->id));
    js_put_new(o, "token", json_object_new_string_len(s.p, (int)s.n));
    cli_print_one(c, o);
    json_object_put(o);
}

static void print_key(struct cli *c, const struct key *k, const char *what)
{
    if (c->format == OUT_TABLE) {
        printf("%s\n", what);
        return;
    }
    struct json_object *o = key_json(k);
    cli_print_one(c, o);
    json_object_put(o);
}

int cmd_keys_create(struct cli *c)
{
    struct key spec = {.ntokens = 0}, made;
    struct secret *text = NULL;
    int64_t expires = 0;
    int error = read_spec(c, &spec);
    if (!error)
        error = read_expiry(c, &expires);
    if (!error)
        error = cli_open(c);
    if (!error) /* before the first node: the broker may make them with other settings */
        error = cli_own_topics(c);
    if (!error)
        error = keyadmin_create(c->admin, &c->names, &spec, expires, &made, &text, &c->e);
    if (error)
        return cli_fail(c, error);
    print_token(c, &made, text);
    secret_free(text);
    return EXIT_DONE;
}

int cmd_keys_rotate(struct cli *c)
{
    struct key k;
    struct secret *text = NULL;
    int64_t expires = 0;
    int error = read_expiry(c, &expires);
    if (!error)
        error = cli_open(c);
    if (!error)
        error = keyadmin_rotate(c->admin, &c->names, c->args[0], expires, &k, &text, &c->e);
    if (error)
        return cli_fail(c, error);
    print_token(c, &k, text);
    secret_free(text);
    return EXIT_DONE;
}

int cmd_keys_retire(struct cli *c)
{
    struct key k;
    char said[160];
    int error = cli_open(c);
    if (!error)
        error = keyadmin_retire(c->admin, &c->names, c->args[0], c->args[1], &k, &c->e);
    if (error)
        return cli_fail(c, error);
    (void)snprintf(said, sizeof said, "token %s of %s retired", c->args[1], k.name);
    print_key(c, &k, said);
    return EXIT_DONE;
}

int cmd_keys_revoke(struct cli *c)
{
    char question[160];
    size_t left = 0;
    (void)snprintf(question, sizeof question,
                   "Revoke the key %.80s? Who uses it is refused at once.", c->args[0]);
    int error = cli_open(c);
    if (error)
        return cli_fail(c, error);
    if (!cli_confirm(c, question))
        return cli_usage(c, "--yes revokes without asking", "the key %s was not revoked",
                         c->args[0]);
    if ((error = keyadmin_revoke(c->admin, &c->names, c->args[0], &left, &c->e)))
        return cli_fail(c, error);
    if (c->format == OUT_TABLE) {
        printf("%s revoked\n", c->args[0]);
    } else {
        struct json_object *o = json_object_new_object();
        js_put_new(o, "name", json_object_new_string(c->args[0]));
        js_put_new(o, "revoked", json_object_new_boolean(true));
        js_put_new(o, "left", json_object_new_int64((int64_t)left));
        cli_print_one(c, o);
        json_object_put(o);
    }
    if (!left)
        fprintf(stderr,
                "that was the last key: nodes on a loopback address are open to everyone on "
                "their machine, others refuse everything\n");
    return EXIT_DONE;
}

/* ---- the list ---- */

static int by_name(const void *a, const void *b)
{
    struct json_object *x = *(struct json_object *const *)a, *y = *(struct json_object *const *)b;
    return strcmp(js_str(x, "name"), js_str(y, "name"));
}

/* For the table: one cell each. */
static void add_cells(struct json_object *o, const struct key *k)
{
    char scopes[SCOPES_TEXT_MAX], text[64] = "";
    size_t n = 0;
    int64_t now = clock_wall_ms();
    scopes_write(k->scopes, scopes);
    for (size_t i = 0; i < k->ntokens; i++) {
        const struct key_token *t = &k->tokens[i];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s", n ? ", " : "", t->id,
                              t->expires_ms && t->expires_ms <= now ? " (expired)" : "");
    }
    js_put_new(o, "scopeText", json_object_new_string(k->scopes ? scopes : "(damaged)"));
    js_put_new(o, "tokenText", json_object_new_string(text));
    (void)snprintf(text, sizeof text, k->rate ? "%d/s" : "", k->rate);
    js_put_new(o, "rateText", json_object_new_string(text));
}

int cmd_keys_list(struct cli *c)
{
    static const char *const columns[] = {
        "name", "scopes=scopeText", "rate=rateText", "tokens=tokenText", "created=createdAt", NULL};
    struct keyring *ring = NULL;
    const struct key *k;
    size_t pos = 0;
    int error = cli_open(c);
    if (!error)
        error = keyadmin_list(c->admin, &c->names, &ring, &c->e);
    if (error)
        return cli_fail(c, error);
    struct json_object *list = json_object_new_array();
    while (keyring_next(ring, &pos, &k)) {
        struct json_object *o = key_json(k);
        if (c->format == OUT_TABLE)
            add_cells(o, k);
        js_push_new(list, o);
    }
    json_object_array_sort(list, by_name);
    cli_print_list(c, list, columns);
    json_object_put(list);
    keyring_free(ring);
    return EXIT_DONE;
}
