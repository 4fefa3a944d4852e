/* Who may ask for what: the rules of API keys (gateway/keyring.h) for requests. The loop's thread.
 *
 *   the keys are not read yet          503
 *   no key in the group                on a loopback address, or told --insecure: open, but for web
 *                                      pages of other sites; else 401 for everyone
 *   keys                               Authorization: Bearer TOKEN (RFC 6750), nothing else: 401;
 *                                      a scope that is missing: 403; too many requests: 429
 *
 * A request that fails is counted against its peer's address (an IPv6 one by its /64): with too
 * many it gets 429. Requests with a good token are never held back by that, since many clients may
 * come from one proxy. */
#pragma once
#include "base/logger.h"
#include "gateway/http.h"
#include "gateway/keyring.h"
#include "gateway/route.h"

#define AUTH_PEERS      1024 /* addresses with failures that are remembered; the best one goes */
#define AUTH_PEER_BURST 100  /* failures of one address at once, and a second */
#define AUTH_PEER_RATE  10
#define AUTH_ANY_KEY    (~0u) /* any key will do */

struct auth;
struct auth_opts {
    struct log *log;
    bool loopback; /* it listens on a loopback address */
    bool insecure; /* open without keys all the same */
    bool tls;
    const char *const
        *origins; /* of web pages that may ask (http.cors), NULL-terminated; or NULL */
};
struct auth *auth_new(const struct auth_opts *o);
struct auth *auth_free(struct auth *a);

/* By whom a request was made; name "" when no key was needed. */
struct auth_who {
    char name[KEY_NAME_MAX + 1], token[TOKEN_ID_LEN + 1];
};

enum auth_why {
    AUTH_OK,
    AUTH_NOT_READ,
    AUTH_CLOSED, /* no keys, and that is not enough here */
    AUTH_MISSING,
    AUTH_MALFORMED,
    AUTH_UNKNOWN,
    AUTH_EXPIRED,
    AUTH_SCOPE,
    AUTH_RATE,
    AUTH_FAILURES,
    AUTH_HOST,
    AUTH_ORIGIN
};
struct auth_ask {
    const char *authorization, *host, *origin, *peer; /* NULL: absent */
    unsigned any_of; /* bits 1 << enum scope; one of them, or admin; 0: for everyone */
    int64_t now_ms, wall_ms;
};
struct auth_verdict {
    enum auth_why why;
    int status;      /* 0: allowed */
    int64_t wait_ms; /* of 429 */
    unsigned scopes; /* of the key */
    struct auth_who who;
};
/* Pure but for the buckets. ring NULL: the keys are not read yet. */
void auth_judge(struct auth *a, struct keyring *ring, const struct auth_ask *q,
                struct auth_verdict *ret);
/* Judges a request: 0, or the status that it was answered with. */
int auth_check(struct auth *a, struct keyring *ring, struct http_request *r, unsigned any_of,
               int64_t now_ms, int64_t wall_ms, struct auth_who *ret);
/* Whether one who was let in would be let in again now (a stream that goes on while its key is
 * revoked, retired, or expires); takes nothing from its rate. */
bool auth_still(struct auth *a, struct keyring *ring, const struct auth_who *who, unsigned any_of,
                int64_t wall_ms);
bool auth_is_loopback(const char *address); /* IPv4 or IPv6, without port and brackets */
/* Whether a page of this origin may ask: listed in http.cors. */
bool auth_origin_listed(const struct auth *a, const char *origin);
