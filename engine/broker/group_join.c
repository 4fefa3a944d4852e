/* Joining a consumer group: new, returning and static members. See group.h.
 *
 * Owning thread: the broker's thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "broker/group.h"

static void refuse(struct groups *gs, void *token, int16_t error, struct slice member)
{
    struct group_joined r = {.error = error, .generation = -1, .member = member};
    gs->ops->joined(gs->arg, token, &r);
}

static void on_session_time(struct group_timer *t)
{
    struct member *m = (struct member *)((char *)t - offsetof(struct member, timer));
    struct group *g = m->g;
    /* It waits for us, not we for it. */
    if (m->join_token || m->sync_token) {
        group_member_alive(m);
        return;
    }
    member_remove(m);
    group_left(g);
}

void group_member_alive(struct member *m)
{
    group_timer_set(&m->timer, m->session_ms);
}

static bool is_pending(const struct member *m)
{
    return m->nprotocols == 0;
}

static struct member *member_free(struct member *m)
{
    free(m->id);
    free(m->instance);
    free(m->client_id);
    free(m->client_host);
    free(m->protocols);
    free(m->assignment);
    free(m);
    return NULL;
}

/* One allocation: the table, then the bytes it points to. */
static struct group_protocol *copy_protocols(const struct group_protocol *v, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += v[i].name.n + v[i].metadata.n;
    struct group_protocol *to = malloc((size_t)n * sizeof *to + bytes);
    if (!to)
        return NULL;
    char *p = (char *)(to + n);
    for (int i = 0; i < n; i++) {
        to[i].name = sl(memcpy(p, v[i].name.p, v[i].name.n), v[i].name.n);
        p += v[i].name.n;
        to[i].metadata = sl(p, v[i].metadata.n);
        if (v[i].metadata.n)
            memcpy(p, v[i].metadata.p, v[i].metadata.n);
        p += v[i].metadata.n;
    }
    return to;
}

int member_update(struct member *m, const struct group_join *j)
{
    struct group_protocol *p = copy_protocols(j->protocols, j->nprotocols);
    if (!p)
        return KERR_UNKNOWN;
    free(m->protocols);
    m->protocols = p;
    m->nprotocols = j->nprotocols;
    m->session_ms = j->session_ms;
    m->rebalance_ms = j->rebalance_ms;
    return KERR_NONE;
}

struct member *member_new(struct group *g, struct slice id, const struct group_join *j)
{
    struct member *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->g = g;
    m->timer = (struct group_timer){.fn = on_session_time, .g = g};
    m->id = sl_dup(id);
    m->instance = j->instance.p ? sl_dup(j->instance) : NULL;
    m->client_id = sl_dup(j->client_id.p ? j->client_id : SL(""));
    m->client_host = sl_dup(j->client_host);
    m->session_ms = j->session_ms;
    m->rebalance_ms = j->rebalance_ms;
    bool copied = j->nprotocols == 0 || member_update(m, j) == KERR_NONE;
    if (!copied || !m->id || !m->client_id || !m->client_host || (j->instance.p && !m->instance))
        return member_free(m);
    bool pending = is_pending(m);
    list_push(pending ? &g->pending : &g->members, &m->node);
    *(pending ? &g->npending : &g->nmembers) += 1;
    return m;
}

void member_remove(struct member *m)
{
    struct group *g = m->g;
    group_answer_join(m, KERR_UNKNOWN_MEMBER_ID);
    group_answer_sync(m, KERR_UNKNOWN_MEMBER_ID);
    group_timer_unset(&m->timer);
    list_del(&m->node);
    *(is_pending(m) ? &g->npending : &g->nmembers) -= 1;
    if (g->leader == m)
        g->leader = g->nmembers ? LIST_ENTRY(g->members.next, struct member, node) : NULL;
    member_free(m);
}

void group_clear(struct group *g)
{
    struct list *const lists[] = {&g->members, &g->pending};
    for (int i = 0; i < 2; i++) {
        LIST_EACH(n, lists[i])
        {
            struct member *m = LIST_ENTRY(n, struct member, node);
            group_timer_unset(&m->timer);
            list_del(&m->node);
            member_free(m);
        }
    }
    g->nmembers = g->npending = 0;
    g->leader = NULL;
    free(g->protocol);
    g->protocol = NULL;
}

/* The beginning of an id is what people look for in lists: the instance or the client. */
static void make_id(struct groups *gs, const struct group_join *j, char *out, size_t size)
{
    char uuid[37];
    struct slice head = j->instance.p ? j->instance : j->client_id;
    uuid4(uuid);
    snprintf(out, size, "%.*s-%s", head.n > 255 ? 255 : (int)head.n, head.p ? head.p : "", uuid);
}

static int16_t check_join(const struct group_join *j)
{
    size_t bytes = 0;
    if (group_id_check(j->group) != KERR_NONE)
        return KERR_INVALID_GROUP_ID;
    if (j->session_ms < GROUP_SESSION_MIN_MS || j->session_ms > GROUP_SESSION_MAX_MS)
        return KERR_INVALID_SESSION_TIMEOUT;
    if (j->nprotocols < 1 || j->protocol_type.n == 0)
        return KERR_INCONSISTENT_GROUP_PROTOCOL;
    for (int i = 0; i < j->nprotocols; i++) {
        bytes += j->protocols[i].metadata.n;
        if (j->protocols[i].name.n > GROUP_NAME_MAX)
            return KERR_INVALID_REQUEST;
    }
    bool large = j->nprotocols > GROUP_PROTOCOLS_MAX || bytes > GROUP_METADATA_MAX ||
                 j->member.n > GROUP_NAME_MAX || j->instance.n > GROUP_NAME_MAX ||
                 j->protocol_type.n > GROUP_NAME_MAX;
    return large ? KERR_INVALID_REQUEST : KERR_NONE;
}

/* Would everyone still share a protocol with this one in it? `self` is left out of the rest. */
static bool compatible(const struct group *g, const struct group_join *j, const struct member *self)
{
    int others = g->nmembers - (self ? 1 : 0);
    if (others == 0)
        return true;
    if (!g->protocol_type || !sl_is(j->protocol_type, g->protocol_type))
        return false;
    for (int i = 0; i < j->nprotocols; i++) {
        int know = 0;
        LIST_EACH(n, &g->members)
        {
            const struct member *m = LIST_ENTRY(n, struct member, node);
            bool knows = false;
            for (int k = 0; m != self && k < m->nprotocols && !knows; k++)
                knows = sl_eq(m->protocols[k].name, j->protocols[i].name);
            know += knows;
        }
        if (know == others)
            return true;
    }
    return false;
}

static bool same_protocols(const struct member *m, const struct group_join *j)
{
    if (m->nprotocols != j->nprotocols)
        return false;
    for (int i = 0; i < j->nprotocols; i++) {
        if (!sl_eq(m->protocols[i].name, j->protocols[i].name) ||
            !sl_eq(m->protocols[i].metadata, j->protocols[i].metadata))
            return false;
    }
    return true;
}

/* The member waits for the next generation. */
static void await_join(struct member *m, void *token)
{
    struct group *g = m->g;
    group_answer_join(m, KERR_UNKNOWN_MEMBER_ID); /* an older request of the same member */
    m->join_token = token;
    if (!g->leader)
        g->leader = m;
    group_member_alive(m);
    group_rebalance(g);
    group_try_complete(g);
}

static void add_member(struct group *g, struct slice id, const struct group_join *j, void *token)
{
    if (g->nmembers >= GROUP_MEMBERS_MAX) {
        refuse(g->gs, token, KERR_GROUP_MAX_SIZE_REACHED, id);
        return;
    }
    if (g->nmembers == 0) {
        char *type = sl_dup(j->protocol_type);
        if (type) {
            free(g->protocol_type);
            g->protocol_type = type;
        }
    }
    struct member *m = g->protocol_type ? member_new(g, id, j) : NULL;
    if (!m) {
        refuse(g->gs, token, KERR_COORDINATOR_NOT_AVAILABLE, id);
        return;
    }
    await_join(m, token);
}

/* Dynamic members of newer clients are told their id and come back with it, so that a client which
 * gives up and tries again leaves no member behind that nobody is. */
static void require_id(struct group *g, struct slice id, const struct group_join *j, void *token)
{
    struct group_join bare = *j;
    bare.nprotocols = 0;
    struct member *m = g->npending < GROUP_MEMBERS_MAX ? member_new(g, id, &bare) : NULL;
    if (!m) {
        refuse(g->gs, token, KERR_GROUP_MAX_SIZE_REACHED, id);
        return;
    }
    group_member_alive(m);
    refuse(g->gs, token, KERR_MEMBER_ID_REQUIRED, id);
}

/* A static member came back without its old id: it takes over place and assignment under a new id,
 * and requests of the former holder are fenced. */
static void replace_static(struct group *g, struct member *m, struct slice id,
                           const struct group_join *j, void *token)
{
    char *copy = sl_dup(id);
    char *before = sl_dup(sl_str(g->protocol));
    if (!copy || (g->protocol && !before) || member_update(m, j) != KERR_NONE) {
        free(copy);
        free(before);
        refuse(g->gs, token, KERR_COORDINATOR_NOT_AVAILABLE, id);
        return;
    }
    group_answer_join(m, KERR_FENCED_INSTANCE_ID);
    group_answer_sync(m, KERR_FENCED_INSTANCE_ID);
    char *old_id = m->id;
    m->id = copy;
    group_member_alive(m);
    if (g->state != GROUP_STABLE || !before || !sl_is(group_choose(g), before)) {
        await_join(m, token);
        free(before);
        free(old_id);
        return;
    }
    /* The assignment stays, so no one else is disturbed. A leader that can't be told to keep it is
     * given its own former id as the leader's and so asks only for its part. */
    bool leader = g->leader == m;
    struct group_joined r = {.generation = g->generation,
                             .protocol_type = sl_str(g->protocol_type),
                             .protocol = sl_str(g->protocol),
                             .leader = sl_str(leader && !j->can_skip ? old_id : g->leader->id),
                             .member = sl_str(m->id),
                             .skip_assignment = leader && j->can_skip,
                             .members = leader && j->can_skip ? g : NULL};
    g->gs->ops->joined(g->gs->arg, token, &r);
    group_store(g); /* the new id must outlive a restart */
    free(before);
    free(old_id);
}

static void join_new(struct group *g, const struct group_join *j, void *token)
{
    char id[320];
    make_id(g->gs, j, id, sizeof id);
    struct member *m = j->instance.p ? group_static(g, j->instance) : NULL;
    if (!compatible(g, j, m))
        refuse(g->gs, token, KERR_INCONSISTENT_GROUP_PROTOCOL, SL(""));
    else if (m)
        replace_static(g, m, sl_str(id), j, token);
    else if (!j->instance.p && j->id_required)
        require_id(g, sl_str(id), j, token);
    else
        add_member(g, sl_str(id), j, token);
}

static struct member *find_pending(struct group *g, struct slice id)
{
    LIST_EACH(n, &g->pending)
    {
        struct member *m = LIST_ENTRY(n, struct member, node);
        if (sl_is(id, m->id))
            return m;
    }
    return NULL;
}

static void join_again(struct group *g, const struct group_join *j, void *token)
{
    struct member *m = NULL, *pending = j->instance.p ? NULL : find_pending(g, j->member);
    int16_t error = pending ? KERR_NONE : group_claim(g, j->member, j->instance, &m);
    if (!error && !compatible(g, j, m))
        error = KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (error) {
        refuse(g->gs, token, error, j->member);
        return;
    }
    if (pending) {
        member_remove(pending);
        add_member(g, j->member, j, token);
        return;
    }
    bool same = same_protocols(m, j);
    bool answer = (g->state == GROUP_COMPLETING && same) ||
                  (g->state == GROUP_STABLE && same && m != g->leader);
    if (!answer && member_update(m, j) != KERR_NONE) {
        refuse(g->gs, token, KERR_COORDINATOR_NOT_AVAILABLE, j->member);
    } else if (answer) { /* it lost our answer: the same again */
        group_answer_join(m, KERR_UNKNOWN_MEMBER_ID);
        m->join_token = token;
        group_answer_join(m, KERR_NONE);
    } else {
        await_join(m, token);
    }
}

void group_join(struct groups *gs, const struct group_join *j, void *token)
{
    int16_t error = check_join(j);
    if (error) {
        refuse(gs, token, error, j->member);
        return;
    }
    bool unknown = j->member.n > 0 && !group_find(gs, j->group);
    struct group *g = unknown ? NULL : group_get(gs, j->group);
    if (!g)
        refuse(gs, token, unknown ? KERR_UNKNOWN_MEMBER_ID : KERR_GROUP_MAX_SIZE_REACHED,
               j->member);
    else if (j->member.n == 0)
        join_new(g, j, token);
    else
        join_again(g, j, token);
}
