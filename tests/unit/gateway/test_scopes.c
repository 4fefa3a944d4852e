/* What a key needs for each route, from the tables themselves. */
#include <stdio.h>

#include "gateway/auth.h"
#include "unit.h"

SUITE("gateway/scopes")

/* Who only reads changes nothing, and who changes what runs are made of is an administrator. */
static bool fits(const struct route *r)
{
    if (!strcmp(r->method, "GET"))
        return r->scope == SCOPE_READ ||
               (r->scope == SCOPE_NONE && strncmp(r->path, "/v1/", 4) != 0);
    if (!strncmp(r->path, "/v1/agents/", 11) && strcmp(r->method, "POST") != 0)
        return r->scope == SCOPE_ADMIN;
    return r->scope == SCOPE_PUBLISH || r->scope == SCOPE_OPERATE || r->scope == SCOPE_ADMIN;
}

TEST(each_route_has_the_scope_of_what_it_does)
{
    size_t n = 0;
    for (const struct route *const *table = route_tables; *table; table++)
        for (const struct route *r = *table; r->method; r++, n++)
            if (!fits(r))
                CHECK_STR(r->path, scope_name(r->scope));
    CHECK(n > 10);
}

TEST(a_key_opens_the_routes_of_its_scopes_and_no_other)
{
    static const enum scope scopes[] = {SCOPE_PUBLISH, SCOPE_READ, SCOPE_OPERATE, SCOPE_ADMIN};
    struct auth *a = auth_new(&(struct auth_opts){.loopback = true});
    struct keyring *ring = keyring_new();
    NEED(a && ring);
    for (size_t i = 0; i < 4; i++) {
        struct key k = {.name = "a",
                        .scopes = 1u << scopes[i],
                        .created_ms = 1,
                        .seen = INT64_MAX,
                        .ntokens = 1};
        struct secret *text = NULL;
        struct buf b;
        char header[80];
        NEED(token_make(1, 0, &k.tokens[0], &text) == 0);
        snprintf(header, sizeof header, "Bearer %.*s", SL_ARG(secret_reveal(text)));
        buf_init(&b, 4096);
        key_write(&k, &b);
        CHECK_INT(keyring_put(ring, SL("a"), buf_slice(&b), 1, NULL), 0);
        for (const struct route *const *table = route_tables; *table; table++)
            for (const struct route *r = *table; r->method; r++) {
                struct auth_ask q = {.authorization = header,
                                     .any_of = r->scope ? 1u << r->scope : 0,
                                     .wall_ms = 2};
                struct auth_verdict v;
                bool may = !r->scope || r->scope == scopes[i] || scopes[i] == SCOPE_ADMIN;
                auth_judge(a, ring, &q, &v);
                CHECK_INT(v.status, may ? 0 : 403);
                q.authorization = NULL;
                auth_judge(a, ring, &q, &v);
                CHECK(r->scope ? v.status == 401 || v.status == 429 : v.status == 0);
            }
        buf_free(&b);
        secret_free(text);
    }
    keyring_free(ring);
    auth_free(a);
}
