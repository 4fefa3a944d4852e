/* Partitions given back in order. The loop's thread.
 *
 * A rebalance takes every partition away (the protocol is eager), also those that come back at
 * once. Calls that are cut off by it are made again by the next owner, so a revocation waits for
 * them:
 *
 *  ENDING    nothing new begins, neither effect nor run; calls under way end and their results
 * become facts; for node.handover at most SETTLING  nothing is appended; what was is acknowledged,
 * and the commit under way has its answer; for HANDOVER_SETTLE_MS at most then the marks are
 * committed and the partitions given up.
 *
 * Until then the ownership is as good as before: the member's heartbeats go on, its commits are
 * accepted in the present generation, and the coordinator gives nothing away before every member
 * has joined again or was silent for a session. A crash meanwhile is that of an owner with calls
 * under way. Records are not consumed meanwhile, so the known prefix stands still; acknowledged is
 * enough for the next owner, who reads everything before it begins. */
#include "node/node_int.h"

void handover_begin(struct node *n)
{
    n->handover = HANDOVER_ENDING;
    /* A node that leaves has waited already. */
    n->handover_until_ms = clock_boot_ms() + (n->leaving ? 0 : n->config->handover_ms);
    handover_step(n);
}

static bool unsettled(const struct node *n)
{
    if (n->journal && !n->journal_lost && kprod_inflight(n->journal) > 0)
        return true;
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && n->parts[i]->committing)
            return true;
    return false;
}

void handover_step(struct node *n)
{
    int64_t now = clock_boot_ms();
    if (n->handover == HANDOVER_ENDING) {
        if (effects_under_way(n) > 0 && now < n->handover_until_ms)
            return;
        n->handover = HANDOVER_SETTLING;
        n->handover_until_ms = now + HANDOVER_SETTLE_MS;
    }
    if (n->handover != HANDOVER_SETTLING || (unsettled(n) && now < n->handover_until_ms))
        return;
    log_debug(n->log, "partitions handed over", "effects=%zu", effects_under_way(n));
    claims_commit_all(n);
    claims_drop(n);
    kgroup_revoke_done(n->group);
}
