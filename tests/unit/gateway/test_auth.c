/* Who may ask for what: each rule with the keys, the address and the clock given. */
#include "gateway/auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "unit.h"

SUITE("gateway/auth")

#define NOW    INT64_C(1000000)
#define WALL   INT64_C(1764028800000)
#define BIT(s) (1u << (s))

struct site {
    struct auth *a;
    struct keyring *ring;
    struct secret *text;
    char header[80];
    struct auth_ask q;
};

static void open_site(struct site *x, struct auth_opts o)
{
    memset(x, 0, sizeof *x);
    x->a = auth_new(&o);
    x->ring = keyring_new();
    NEED(x->a && x->ring);
    x->q = (struct auth_ask){.host = "127.0.0.1:8274",
                             .peer = "127.0.0.1",
                             .any_of = BIT(SCOPE_READ),
                             .now_ms = NOW,
                             .wall_ms = WALL};
}

static void close_site(struct site *x)
{
    auth_free(x->a);
    keyring_free(x->ring);
    secret_free(x->text);
}

/* A key with one token, which the questions carry from now on. */
static void add_key(struct site *x, const char *name, unsigned scopes, int rate, int64_t expires_ms)
{
    struct key k = {.scopes = scopes,
                    .rate = rate,
                    .burst = rate,
                    .created_ms = WALL,
                    .seen = INT64_MAX,
                    .ntokens = 1};
    struct buf b;
    snprintf(k.name, sizeof k.name, "%s", name);
    secret_free(x->text);
    NEED(token_make(WALL, expires_ms, &k.tokens[0], &x->text) == 0);
    buf_init(&b, 4096);
    key_write(&k, &b);
    CHECK_INT(keyring_put(x->ring, sl_str(name), buf_slice(&b), 1, NULL), 0);
    buf_free(&b);
    snprintf(x->header, sizeof x->header, "Bearer %.*s", SL_ARG(secret_reveal(x->text)));
    x->q.authorization = x->header;
}

static enum auth_why ask(struct site *x, int status)
{
    struct auth_verdict v;
    auth_judge(x->a, x->ring, &x->q, &v);
    CHECK_INT(v.status, status);
    return v.why;
}

TEST(without_keys_a_loopback_address_is_open_and_another_is_closed)
{
    struct site x;
    open_site(&x, (struct auth_opts){.loopback = true});
    CHECK_INT(ask(&x, 0), AUTH_OK);
    close_site(&x);
    open_site(&x, (struct auth_opts){.loopback = false});
    CHECK_INT(ask(&x, 401), AUTH_CLOSED);
    x.q.any_of = 0; /* /healthz */
    CHECK_INT(ask(&x, 0), AUTH_OK);
    close_site(&x);
    open_site(&x, (struct auth_opts){.insecure = true});
    CHECK_INT(ask(&x, 0), AUTH_OK);
    x.q.host = "tidemark.example";
    CHECK_INT(ask(&x, 0), AUTH_OK);
    close_site(&x);
}

TEST(before_the_keys_are_read_nobody_is_let_in)
{
    struct site x;
    struct auth_verdict v;
    open_site(&x, (struct auth_opts){.loopback = true});
    auth_judge(x.a, NULL, &x.q, &v);
    CHECK_INT(v.status, 503);
    x.q.any_of = 0;
    auth_judge(x.a, NULL, &x.q, &v);
    CHECK_INT(v.status, 0);
    close_site(&x);
}

TEST(a_page_of_another_site_can_not_use_an_open_node)
{
    static const char *const origins[] = {"http://localhost:3000", NULL};
    static const char *const here[] = {"localhost:8274", "LOCALHOST", "127.0.0.1", "127.9.9.9:1",
                                       "[::1]:8274"};
    static const char *const elsewhere[] = {"evil.example:8274",     "10.0.0.1", "[::2]:1", "", "[",
                                            "127.0.0.1.evil.example"};
    struct site x;
    open_site(&x, (struct auth_opts){.loopback = true, .origins = origins});
    for (size_t i = 0; i < sizeof here / sizeof *here; i++) {
        x.q.host = here[i];
        CHECK_INT(ask(&x, 0), AUTH_OK);
    }
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        x.q.host = elsewhere[i];
        CHECK_INT(ask(&x, 403), AUTH_HOST);
    }
    x.q.host = "127.0.0.1:8274";
    x.q.origin = "http://evil.example";
    CHECK_INT(ask(&x, 403), AUTH_ORIGIN);
    x.q.origin = "null";
    CHECK_INT(ask(&x, 403), AUTH_ORIGIN);
    x.q.origin = "https://127.0.0.1:8274"; /* another scheme */
    CHECK_INT(ask(&x, 403), AUTH_ORIGIN);
    x.q.origin = "http://127.0.0.1:8274";
    CHECK_INT(ask(&x, 0), AUTH_OK);
    x.q.origin = origins[0];
    CHECK_INT(ask(&x, 0), AUTH_OK);
    /* With keys a page can do nothing that its token does not allow. */
    add_key(&x, "a", BIT(SCOPE_READ), 0, 0);
    x.q.origin = "http://evil.example";
    CHECK_INT(ask(&x, 0), AUTH_OK);
    close_site(&x);
}

TEST(with_a_key_it_is_needed_as_a_bearer_token)
{
    static const char *const bad[] = {"", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer"};
    struct site x;
    char lower[96];
    open_site(&x, (struct auth_opts){.loopback = true});
    add_key(&x, "a", BIT(SCOPE_READ), 0, 0);
    CHECK_INT(ask(&x, 0), AUTH_OK);
    snprintf(lower, sizeof lower, "bEARER  %.*s ", SL_ARG(secret_reveal(x.text)));
    x.q.authorization = lower;
    CHECK_INT(ask(&x, 0), AUTH_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        x.q.authorization = bad[i];
        CHECK_INT(ask(&x, 401), AUTH_MALFORMED);
    }
    x.q.authorization = NULL;
    CHECK_INT(ask(&x, 401), AUTH_MISSING);
    x.q.authorization = "Bearer tm_00000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    CHECK_INT(ask(&x, 401), AUTH_UNKNOWN);
    x.q.authorization = x.header;
    keyring_del(x.ring, SL("a"), 0);
    CHECK_INT(ask(&x, 0), AUTH_OK); /* loopback, and no key any more */
    close_site(&x);
}

TEST(scopes_are_apart_and_admin_has_them_all)
{
    static const enum scope scopes[] = {SCOPE_PUBLISH, SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN};
    for (size_t i = 0; i < 4; i++) {
        struct site x;
        open_site(&x, (struct auth_opts){.loopback = true});
        add_key(&x, "a", BIT(scopes[i]), 0, 0);
        for (size_t j = 0; j < 4; j++) {
            bool may = i == j || scopes[i] == SCOPE_ADMIN;
            x.q.any_of = BIT(scopes[j]);
            CHECK_INT(ask(&x, may ? 0 : 403), may ? AUTH_OK : AUTH_SCOPE);
        }
        x.q.any_of = AUTH_ANY_KEY;
        CHECK_INT(ask(&x, 0), AUTH_OK);
        close_site(&x);
    }
}

TEST(a_token_ends_by_the_wall_clock_and_an_open_stream_with_it)
{
    struct site x;
    struct auth_verdict v;
    open_site(&x, (struct auth_opts){.loopback = true});
    add_key(&x, "a", BIT(SCOPE_READ), 0, WALL + 5000);
    x.q.wall_ms = WALL + 4999;
    auth_judge(x.a, x.ring, &x.q, &v);
    CHECK_INT(v.status, 0);
    CHECK_STR(v.who.name, "a");
    CHECK(auth_still(x.a, x.ring, &v.who, BIT(SCOPE_READ), WALL + 4999));
    CHECK(!auth_still(x.a, x.ring, &v.who, BIT(SCOPE_READ), WALL + 5000));
    CHECK(!auth_still(x.a, x.ring, &v.who, BIT(SCOPE_OPERATE), WALL));
    x.q.wall_ms = WALL + 5000;
    CHECK_INT(ask(&x, 401), AUTH_EXPIRED);
    keyring_del(x.ring, SL("a"), 0);
    CHECK(!auth_still(x.a, x.ring, &v.who, BIT(SCOPE_READ), WALL));
    struct auth_who nobody = {.name = ""};
    CHECK(auth_still(x.a, x.ring, &nobody, BIT(SCOPE_READ), WALL));
    add_key(&x, "b", BIT(SCOPE_READ), 0, 0);
    CHECK(!auth_still(x.a, x.ring, &nobody, BIT(SCOPE_READ), WALL));
    close_site(&x);
}

TEST(a_key_has_its_rate)
{
    struct site x;
    struct auth_verdict v;
    open_site(&x, (struct auth_opts){.loopback = true});
    add_key(&x, "a", BIT(SCOPE_READ), 3, 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(ask(&x, 0), AUTH_OK);
    auth_judge(x.a, x.ring, &x.q, &v);
    CHECK_INT(v.status, 429);
    CHECK_INT(v.wait_ms, 334);
    x.q.now_ms += 334;
    CHECK_INT(ask(&x, 0), AUTH_OK);
    close_site(&x);
}

TEST(failures_are_counted_by_address_and_hold_back_no_good_token)
{
    struct site x;
    char peer[64];
    open_site(&x, (struct auth_opts){.loopback = true});
    add_key(&x, "a", BIT(SCOPE_READ), 0, 0);
    x.q.authorization = NULL;
    for (int i = 0; i < AUTH_PEER_BURST; i++)
        CHECK_INT(ask(&x, 401), AUTH_MISSING);
    CHECK_INT(ask(&x, 429), AUTH_FAILURES);
    x.q.authorization = x.header;
    CHECK_INT(ask(&x, 0), AUTH_OK);
    x.q.authorization = NULL;
    x.q.peer = "10.0.0.1";
    CHECK_INT(ask(&x, 401), AUTH_MISSING);
    x.q.peer = "127.0.0.1";
    x.q.now_ms += 1000;
    CHECK_INT(ask(&x, 401), AUTH_MISSING);
    /* All addresses of one IPv6 network are one; many networks do not need more room. */
    for (int i = 0; i < AUTH_PEER_BURST; i++) {
        snprintf(peer, sizeof peer, "2001:db8::%x", i + 1);
        x.q.peer = peer;
        CHECK_INT(ask(&x, 401), AUTH_MISSING);
    }
    CHECK_INT(ask(&x, 429), AUTH_FAILURES);
    for (int i = 0; i < 4 * AUTH_PEERS; i++) {
        snprintf(peer, sizeof peer, "2001:db8:%x::1", i + 1);
        CHECK_INT(ask(&x, 401), AUTH_MISSING);
    }
    close_site(&x);
}
