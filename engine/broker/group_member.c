/* What members of a consumer group do after joining: fetch their assignment, give signs of life,
 * leave, commit; and groups read back from the log. See group.h.
 *
 * Owning thread: the broker's thread. */
#include <stdlib.h>

#include "broker/group.h"

/* The group and the member that a request of a generation speaks for. */
static int16_t claim(struct groups *gs, struct slice group, int generation, struct slice member,
                     struct slice instance, struct member **ret)
{
    int16_t error = group_id_check(group);
    struct group *g = error ? NULL : group_find(gs, group);
    if (error)
        return error;
    if (!g)
        return KERR_UNKNOWN_MEMBER_ID;
    error = group_claim(g, member, instance, ret);
    if (!error && generation != g->generation)
        error = KERR_ILLEGAL_GENERATION;
    return error;
}

void group_left(struct group *g)
{
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
        group_rebalance(g);
    group_try_complete(g);
    group_forget_later(g);
}

/* Members that the leader left out get an empty assignment. */
static int16_t set_assignments(struct group *g, const struct group_assignment *v, int n)
{
    for (int i = 0; i < n; i++) {
        struct member *m = group_find_member(g, v[i].member);
        if (v[i].assignment.n > GROUP_METADATA_MAX)
            return KERR_INVALID_REQUEST;
        if (!m || v[i].assignment.n == 0)
            continue;
        char *copy = malloc(v[i].assignment.n);
        if (!copy)
            return KERR_COORDINATOR_NOT_AVAILABLE;
        memcpy(copy, v[i].assignment.p, v[i].assignment.n);
        free(m->assignment);
        m->assignment = copy;
        m->nassignment = v[i].assignment.n;
    }
    return KERR_NONE;
}

static void refuse(struct groups *gs, void *token, int16_t error)
{
    struct group_synced r = {.error = error};
    gs->ops->synced(gs->arg, token, &r);
}

static int16_t check_sync(const struct group *g, struct slice type, struct slice protocol)
{
    if ((type.p && g->protocol_type && !sl_is(type, g->protocol_type)) ||
        (protocol.p && g->protocol && !sl_is(protocol, g->protocol)))
        return KERR_INCONSISTENT_GROUP_PROTOCOL;
    if (g->state == GROUP_PREPARING)
        return KERR_REBALANCE_IN_PROGRESS;
    if (g->state != GROUP_COMPLETING && g->state != GROUP_STABLE)
        return KERR_UNKNOWN_MEMBER_ID;
    return KERR_NONE;
}

void group_sync(struct groups *gs, struct slice group, int generation, struct slice member,
                struct slice instance, struct slice protocol_type, struct slice protocol,
                const struct group_assignment *v, int n, void *token)
{
    struct member *m;
    int16_t error = claim(gs, group, generation, member, instance, &m);
    if (!error)
        error = check_sync(m->g, protocol_type, protocol);
    struct group *g = error ? NULL : m->g;
    bool assigns = g && g->state == GROUP_COMPLETING && m == g->leader && !g->assigned;
    if (assigns)
        error = set_assignments(g, v, n);
    if (error) {
        refuse(gs, token, error);
        return;
    }
    group_answer_sync(m, KERR_UNKNOWN_MEMBER_ID); /* an older request of the same member */
    m->sync_token = token;
    group_member_alive(m);
    if (g->state == GROUP_STABLE) {
        group_answer_sync(m, KERR_NONE);
    } else if (assigns) {
        g->assigned = true;
        group_store(g);
    }
}

void group_stored(struct groups *gs, struct slice group, int generation, int16_t error)
{
    struct group *g = group_find(gs, group);
    if (!g)
        return;
    g->storing -= g->storing > 0;
    if (g->state != GROUP_COMPLETING || g->generation != generation || !g->assigned)
        return;
    if (!error) {
        group_timer_unset(&g->timer);
        group_set_state(g, GROUP_STABLE);
    }
    LIST_EACH(it, &g->members)
    {
        group_answer_sync(LIST_ENTRY(it, struct member, node), error);
    }
    if (error)
        group_rebalance(g);
}

int16_t group_heartbeat(struct groups *gs, struct slice group, int generation, struct slice member,
                        struct slice instance)
{
    struct member *m;
    int16_t error = claim(gs, group, generation, member, instance, &m);
    if (error)
        return error;
    group_member_alive(m);
    return m->g->state == GROUP_PREPARING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

int16_t group_leave(struct groups *gs, struct slice group, struct slice member,
                    struct slice instance)
{
    int16_t error = group_id_check(group);
    struct group *g = error ? NULL : group_find(gs, group);
    struct member *m = NULL;
    if (error)
        return error;
    if (!g)
        return KERR_UNKNOWN_MEMBER_ID;
    if (instance.p && member.n == 0) { /* an administrator names only the instance */
        m = group_static(g, instance);
    } else if (instance.p) {
        error = group_claim(g, member, instance, &m);
    } else {
        m = group_find_member(g, member);
        LIST_EACH(n, &g->pending)
        {
            struct member *p = LIST_ENTRY(n, struct member, node);
            if (!m && sl_is(member, p->id))
                m = p;
        }
    }
    if (!m)
        return error ? error : KERR_UNKNOWN_MEMBER_ID;
    member_remove(m);
    group_left(g);
    return KERR_NONE;
}

int16_t group_may_commit(struct groups *gs, struct slice group, int generation, struct slice member,
                         struct slice instance)
{
    int16_t error = group_id_check(group);
    struct group *g = error ? NULL : group_find(gs, group);
    bool simple = generation < 0 && member.n == 0 && !instance.p;
    struct member *m;
    if (error)
        return error;
    if (!g)
        return generation < 0 ? KERR_NONE : KERR_ILLEGAL_GENERATION;
    if (simple && g->state == GROUP_EMPTY)
        return KERR_NONE;
    error = claim(gs, group, generation, member, instance, &m);
    if (error)
        return error;
    group_member_alive(m);
    return g->state == GROUP_COMPLETING ? KERR_REBALANCE_IN_PROGRESS : KERR_NONE;
}

struct member *group_restore_member(struct group *g, const struct group_join *j,
                                    struct slice assignment)
{
    char *copy = assignment.n ? malloc(assignment.n) : NULL;
    if (assignment.n && !copy)
        return NULL;
    struct member *m = member_new(g, j->member, j);
    if (!m) {
        free(copy);
        return NULL;
    }
    if (copy)
        memcpy(copy, assignment.p, assignment.n);
    m->assignment = copy;
    m->nassignment = assignment.n;
    group_member_alive(m);
    return m;
}

int group_restored(struct group *g, int generation, struct slice protocol_type,
                   struct slice protocol, struct slice leader)
{
    char *type = sl_dup(protocol_type), *name = protocol.p ? sl_dup(protocol) : NULL;
    if (!type || (protocol.p && !name)) {
        free(type);
        free(name);
        return KERR_UNKNOWN;
    }
    free(g->protocol_type);
    g->protocol_type = type;
    g->generation = generation;
    g->leader = group_find_member(g, leader);
    group_set_state(g, g->nmembers ? GROUP_STABLE : GROUP_EMPTY);
    if (!g->leader && g->nmembers)
        g->leader = LIST_ENTRY(g->members.next, struct member, node);
    free(g->protocol);
    g->protocol = g->nmembers ? name : NULL;
    if (!g->nmembers)
        free(name);
    else
        group_timer_unset(&g->timer);
    group_forget_later(g);
    return KERR_NONE;
}
