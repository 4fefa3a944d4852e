/* See auth.h. */
#include "gateway/auth.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"

#define WAYS      4
#define HOST_MAX  256
#define LOG_BURST 10 /* lines about refused requests, and a second */
#define LOG_RATE  1
#define ADMIN_BIT (1u << SCOPE_ADMIN)
#define REALM     "Bearer realm=\"tidemark\""

struct peer {
    uint8_t address[16];
    struct bucket bucket;
};
struct auth {
    struct auth_opts o;
    struct peer peers[AUTH_PEERS / WAYS][WAYS];
    uint64_t seed;
    struct bucket lines;
    int64_t unsaid; /* refusals that were not logged */
};

struct auth *auth_new(const struct auth_opts *o)
{
    struct auth *a = calloc(1, sizeof *a);
    if (a) {
        a->o = *o;
        a->seed = random_u64();
    }
    return a;
}

struct auth *auth_free(struct auth *a)
{
    free(a);
    return NULL;
}

/* ---- failures by address ---- */

static void read_peer(const char *text, uint8_t out[16])
{
    memset(out, 0, 16);
    if (text && inet_pton(AF_INET6, text, out) == 1) {
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        if (memcmp(out, mapped, sizeof mapped) != 0)
            memset(out + 8, 0, 8); /* who has one address of a /64 has all of them */
    } else if (text) {
        out[10] = out[11] = 0xff;
        (void)inet_pton(AF_INET, text, out + 12);
    }
}

/* Its place; a new one takes that of the one longest without a failure. */
static struct bucket *peer_bucket(struct auth *a, const char *text)
{
    uint8_t address[16];
    read_peer(text, address);
    struct peer *set = a->peers[hash64(sl(address, 16), a->seed) % (AUTH_PEERS / WAYS)],
                *oldest = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].bucket.used && !memcmp(set[i].address, address, 16))
            return &set[i].bucket;
        if (!set[i].bucket.used ||
            (oldest->bucket.used && set[i].bucket.at_ms < oldest->bucket.at_ms))
            oldest = &set[i];
    }
    *oldest = (struct peer){.bucket = {0}};
    memcpy(oldest->address, address, 16);
    return &oldest->bucket;
}

/* ---- without keys: pages of other sites ---- */

bool auth_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Of a Host field: NAME[:PORT], an IPv6 address in brackets. */
static bool is_local(const char *host)
{
    char name[HOST_MAX];
    bool six = host[0] == '[';
    size_t n = strcspn(host + six, six ? "]" : ":");
    if (n >= sizeof name)
        return false;
    memcpy(name, host + six, n);
    name[n] = 0;
    return !strcasecmp(name, "localhost") || auth_is_loopback(name);
}

bool auth_origin_listed(const struct auth *a, const char *origin)
{
    for (const char *const *o = a->o.origins; o && *o; o++)
        if (!strcmp(*o, origin))
            return true;
    return false;
}

static bool same_origin(const struct auth *a, const char *origin, const char *host)
{
    const char *scheme = a->o.tls ? "https://" : "http://";
    size_t n = strlen(scheme);
    return host && !strncmp(origin, scheme, n) && !strcasecmp(origin + n, host);
}

/* Who needs no key is believed to be the machine's own user. A page in that user's browser is not:
 * it is known by its Origin; and by its Host when its name was made to point to this machine (DNS
 * rebinding), since then it has the same origin. */
static enum auth_why judge_open(const struct auth *a, const struct auth_ask *q)
{
    if (a->o.loopback && q->host && !is_local(q->host))
        return AUTH_HOST;
    if (q->origin && !same_origin(a, q->origin, q->host) && !auth_origin_listed(a, q->origin))
        return AUTH_ORIGIN;
    return AUTH_OK;
}

/* ---- with keys ---- */

/* The token of "Bearer TOKEN"; the scheme in any case. */
static bool bearer(const char *text, struct slice *ret)
{
    if (strncasecmp(text, "Bearer ", 7) != 0)
        return false;
    *ret = sl_trim(sl_str(text + 7));
    return ret->n > 0;
}

static enum auth_why judge_key(struct keyring *ring, const struct auth_ask *q,
                               struct auth_verdict *v)
{
    struct slice token;
    struct key *k = NULL;
    const struct key_token *t = NULL;
    if (!q->authorization)
        return AUTH_MISSING;
    if (!bearer(q->authorization, &token))
        return AUTH_MALFORMED;
    enum key_found found = keyring_find(ring, token, q->wall_ms, &k, &t);
    if (found == KEY_UNKNOWN)
        return AUTH_UNKNOWN;
    (void)snprintf(v->who.name, sizeof v->who.name, "%s", k->name);
    (void)snprintf(v->who.token, sizeof v->who.token, "%s", t->id);
    v->scopes = k->scopes;
    if (found == KEY_EXPIRED)
        return AUTH_EXPIRED;
    if (k->rate && !bucket_take(&k->bucket, k->rate, k->burst, q->now_ms, &v->wait_ms))
        return AUTH_RATE;
    return k->scopes & (q->any_of | ADMIN_BIT) ? AUTH_OK : AUTH_SCOPE;
}

static int status_of(enum auth_why why)
{
    switch (why) {
    case AUTH_OK:
        return 0;
    case AUTH_NOT_READ:
        return 503;
    case AUTH_SCOPE:
    case AUTH_HOST:
    case AUTH_ORIGIN:
        return 403;
    case AUTH_RATE:
    case AUTH_FAILURES:
        return 429;
    default:
        return 401;
    }
}

void auth_judge(struct auth *a, struct keyring *ring, const struct auth_ask *q,
                struct auth_verdict *ret)
{
    struct auth_verdict v = {.why = AUTH_OK};
    if (!q->any_of)
        v.why = AUTH_OK;
    else if (!ring)
        v.why = AUTH_NOT_READ;
    else if (keyring_count(ring))
        v.why = judge_key(ring, q, &v);
    else if (a->o.loopback || a->o.insecure)
        v.why = judge_open(a, q);
    else
        v.why = AUTH_CLOSED;
    v.status = status_of(v.why);
    if (v.status == 401 && !bucket_take(peer_bucket(a, q->peer), AUTH_PEER_RATE, AUTH_PEER_BURST,
                                        q->now_ms, &v.wait_ms)) {
        v.why = AUTH_FAILURES;
        v.status = 429;
    }
    *ret = v;
}

bool auth_still(struct auth *a, struct keyring *ring, const struct auth_who *who, unsigned any_of,
                int64_t wall_ms)
{
    if (!any_of || !ring)
        return true; /* nothing is known against it */
    if (!who->name[0])
        return !keyring_count(ring) && (a->o.loopback || a->o.insecure);
    const struct key *k = keyring_key(ring, who->name);
    for (size_t i = 0; k && i < k->ntokens; i++)
        if (!strcmp(k->tokens[i].id, who->token))
            return (!k->tokens[i].expires_ms || k->tokens[i].expires_ms > wall_ms) &&
                   k->scopes & (any_of | ADMIN_BIT);
    return false;
}

/* ---- answers ---- */

static const struct {
    const char *detail, *hint, *error; /* error: of WWW-Authenticate */
} texts[] = {
    [AUTH_NOT_READ] = {"the API keys are not read yet", "try again; /readyz tells when", NULL},
    [AUTH_CLOSED] = {"there is no API key, and this address is not a loopback one",
                     "`tidemark keys create NAME --scope ...` makes a key", NULL},
    [AUTH_MISSING] = {"an API key is needed here",
                      "send Authorization: Bearer TOKEN; `tidemark keys create` makes one", NULL},
    [AUTH_MALFORMED] = {"the Authorization is no Bearer token", "send Authorization: Bearer TOKEN",
                        "invalid_request"},
    [AUTH_UNKNOWN] = {"the token is not known, or not any more",
                      "`tidemark keys list` shows which keys there are", "invalid_token"},
    [AUTH_EXPIRED] = {"the token has expired", "`tidemark keys rotate` gives the key a new one",
                      "invalid_token"},
    [AUTH_FAILURES] = {"too many refused requests came from this address",
                       "wait as long as Retry-After says, and mend the token", NULL},
    [AUTH_RATE] = {"the key makes more requests than its rate allows",
                   "wait as long as Retry-After says", NULL},
    [AUTH_HOST] = {"without API keys only this machine may ask, by localhost or a loopback address",
                   "make a key: `tidemark keys create NAME --scope ...`", NULL},
    [AUTH_ORIGIN] = {"pages of other sites may not ask", "list the origin in http.cors", NULL},
};

static void note(struct auth *a, const struct auth_verdict *v, const struct auth_ask *q)
{
    int64_t wait;
    if (v->status != 401 && v->status != 403)
        return;
    if (!bucket_take(&a->lines, LOG_RATE, LOG_BURST, q->now_ms, &wait)) {
        a->unsaid++;
        return;
    }
    log_warn(a->o.log, "request refused", "peer=%s status=%d key=%s error=%s unsaid=%lld",
             q->peer ? q->peer : "", v->status, v->who.name[0] ? v->who.name : "-",
             log_q(v->why == AUTH_SCOPE ? "the key has not the scope" : texts[v->why].detail),
             (long long)a->unsaid);
    a->unsaid = 0;
}

static void refuse_scope(struct http_request *r, const struct auth_verdict *v, unsigned any_of)
{
    char authenticate[128], needed[SCOPES_TEXT_MAX], has[SCOPES_TEXT_MAX];
    scopes_write(any_of, needed);
    scopes_write(v->scopes, has);
    (void)snprintf(authenticate, sizeof authenticate,
                   "%s, error=\"insufficient_scope\", scope=\"%s\"", REALM, needed);
    const struct http_field fields[] = {{"WWW-Authenticate", authenticate}, {NULL, NULL}};
    http_problem(r, 403, fields, "use a key that has it",
                 "the key %s has the scopes %s; this needs %s", v->who.name, has, needed);
}

static void refuse(struct http_request *r, const struct auth_verdict *v)
{
    char authenticate[128], after[24];
    const char *error = texts[v->why].error;
    (void)snprintf(authenticate, sizeof authenticate, "%s%s%s%s", REALM, error ? ", error=\"" : "",
                   error ? error : "", error ? "\"" : "");
    (void)snprintf(after, sizeof after, "%lld", (long long)(v->wait_ms + 999) / 1000);
    struct http_field fields[2] = {{NULL, NULL}, {NULL, NULL}};
    if (v->status == 401)
        fields[0] = (struct http_field){"WWW-Authenticate", authenticate};
    else if (v->status == 429)
        fields[0] = (struct http_field){"Retry-After", after};
    else if (v->status == 503)
        fields[0] = (struct http_field){"Retry-After", "1"};
    http_problem(r, v->status, fields, texts[v->why].hint, "%s", texts[v->why].detail);
}

int auth_check(struct auth *a, struct keyring *ring, struct http_request *r, unsigned any_of,
               int64_t now_ms, int64_t wall_ms, struct auth_who *ret)
{
    struct auth_verdict v;
    struct auth_ask q = {.authorization = http_header(r, "Authorization"),
                         .host = http_header(r, "Host"),
                         .origin = http_header(r, "Origin"),
                         .peer = http_peer(r),
                         .any_of = any_of,
                         .now_ms = now_ms,
                         .wall_ms = wall_ms};
    auth_judge(a, ring, &q, &v);
    *ret = v.who;
    note(a, &v, &q);
    if (v.why == AUTH_SCOPE)
        refuse_scope(r, &v, any_of);
    else if (v.status)
        refuse(r, &v);
    return v.status;
}
