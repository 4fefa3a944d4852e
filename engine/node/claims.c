/* Assignment, starting points, claims, leases, commits, the cut.
 *
 * On assignment each partition is loaded from the starting point that its commit names (or from the
 * log's start), consumed from there, and claimed at once: the fold up to the own `owner` record
 * makes this node the owner. A commit every quarter of the session keeps the lease; it repeats the
 * present offset and metadata, or carries a tide mark that moved.
 *
 * After fencing the fold goes on; if a commit still succeeds (so the partition is still ours), it
 * is claimed again. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "node/node_int.h"
#include "triggers/recwire.h"

struct commit {
    int partition;
    uint64_t generation;
    int64_t sent_ms, offset;
    char metadata[128];
};

struct npart *node_part(struct node *n, int partition, uint64_t generation)
{
    struct npart *np = partition >= 0 && partition < n->partitions ? n->parts[partition] : NULL;
    return np && np->generation == generation && np->part && np->loaded ? np : NULL;
}

/* What the live state is, at debug level: tests compare it with folds of their own (I6). */
static void log_digest(const struct npart *np, const char *what)
{
    const struct log *l = np->node->log;
    struct buf b;
    if (!np->loaded || np->failed || !log_on(l, LOG_DEBUG))
        return;
    buf_init(&b, 256u << 20);
    if (state_digest(&np->part->st, &b) == 0)
        log_debug(np->node->log, what, "partition=%d next=%" PRId64 " digest=%016" PRIx64,
                  np->partition, np->part->st.next, hash64(buf_slice(&b), 0));
    buf_free(&b);
}

void claims_owned(struct npart *np, enum part_status before)
{
    const struct part *p = np->part;
    if (before == PART_OWNER || p->status != PART_OWNER)
        return;
    log_info(np->node->log, "partition owned",
             "partition=%d epoch=%" PRId64 " runs=%zu pending=%zu", np->partition, p->epoch,
             p->st.runs.n, p->st.npending);
    log_digest(np, "partition state when owned");
    FAILPOINT("owned");
}

static void npart_free(struct npart *np)
{
    log_digest(np, "partition state when left");
    if (np->load)
        kread_stop(np->load);
    part_free(np->part);
    buf_free(&np->load_text);
    free(np);
}

void claims_drop(struct node *n)
{
    for (int i = 0; i < n->partitions; i++) {
        if (n->parts[i])
            npart_free(n->parts[i]);
        n->parts[i] = NULL;
    }
    n->generation++;
    n->assigned = n->awaiting = false;
    n->handover = HANDOVER_NONE;
}

/* ---- commits ---- */

/* For failpoints: a commit that moves the mark or names another starting point, or one that keeps
 * the lease only. */
__attribute__((unused)) static const char *commit_kind(const struct npart *np, int64_t offset,
                                                       const char *metadata)
{
    return offset > np->committed || strcmp(metadata, np->metadata) != 0 ? "mark" : "lease";
}

static void commit(struct npart *np, int64_t offset, const char *metadata)
{
    struct commit *c = calloc(1, sizeof *c);
    if (!c)
        return;
    *c = (struct commit){.partition = np->partition,
                         .generation = np->generation,
                         .sent_ms = clock_boot_ms(),
                         .offset = offset};
    snprintf(c->metadata, sizeof c->metadata, "%s", metadata);
    FAILPOINT_OF("commit", commit_kind(np, offset, metadata), metadata);
    if (kgroup_commit(np->node->group, np->node->names.runs, np->partition, offset, metadata, c) <
        0) {
        free(c);
        return;
    }
    np->committing = true;
    np->commit_sent_ms = c->sent_ms;
    FAILPOINT_OF("commit-sent", commit_kind(np, offset, metadata), metadata);
}

static void no_memory(struct node *n, int partition)
{
    struct err e = {0};
    err_set(&e, -ENOMEM, "give the process more memory and start it again; nothing is lost",
            "no memory for the state of journal partition %d", partition);
    if (n->o.on_fatal)
        n->o.on_fatal(n->o.arg, &e);
}

void claims_no_memory(struct npart *np)
{
    part_end_ownership(np->part);
    if (!np->part->lost)
        return; /* claimed again with the next commit */
    np->failed = true;
    no_memory(np->node, np->partition);
}

static void claim(struct npart *np)
{
    part_now(np->part);
    if (part_claim(np->part, random_u64() | 1) < 0)
        log_warn(np->node->log, "partition can't be claimed now", "partition=%d", np->partition);
}

static void on_commit(void *arg, void *opaque, int error)
{
    struct node *n = arg;
    struct commit *c = opaque;
    struct npart *np = node_part(n, c->partition, c->generation);
    if (np) {
        np->committing = false;
        if (!error) {
            const char *kind = commit_kind(np, c->offset, c->metadata);
            FAILPOINT_OF("commit-acked", kind, c->metadata);
            np->committed = c->offset;
            memcpy(np->metadata, c->metadata, sizeof np->metadata);
            part_now(np->part);
            part_committed(np->part, c->offset, c->metadata);
            part_leased(np->part, c->sent_ms);
            FAILPOINT_OF("committed", kind, c->metadata);
            if (np->part->status == PART_FOLLOWING && !n->draining && !n->handover && n->journal)
                claim(np);
            node_wake(n);
        } else {
            log_debug(n->log, "commit refused", "partition=%d error=%s", np->partition,
                      strerror(-error));
        }
    }
    free(c);
}

/* A moved mark soon, the lease always in time; only one at once, and only what the part allows. */
static void commit_due(struct npart *np)
{
    struct node *n = np->node;
    char metadata[128];
    int64_t now = clock_boot_ms(), since = now - np->commit_sent_ms;
    if (np->committing)
        return;
    bool lease = since >= n->config->session_timeout_ms / 4;
    int64_t mark = np->part->status == PART_OWNER ? part_mark(np->part) : np->committed;
    if (np->part->status == PART_OWNER && (mark > np->committed || lease) &&
        since >= COMMIT_EVERY_MS) {
        part_metadata(np->part, mark, metadata);
        if (!metadata[0]) /* never give up a starting point that the log has */
            snprintf(metadata, sizeof metadata, "%s", np->metadata);
        commit(np, mark, metadata);
    } else if (lease) {
        commit(np, np->committed, np->metadata);
    }
}

/* ---- the cut ---- */

struct cut {
    struct pool_job job;
    struct node *node;
    int partition, error;
    uint64_t generation;
    int64_t before;
    struct err e;
};

static void cut_work(struct pool_job *j)
{
    struct cut *c = LIST_ENTRY(j, struct cut, job);
    FAILPOINT("cut");
    c->error = kadmin_delete_records(c->node->admin, c->node->names.runs, c->partition, c->before,
                                     10000, &c->e);
    FAILPOINT("cut-done");
}

static void cut_done(struct pool_job *j)
{
    struct cut *c = LIST_ENTRY(j, struct cut, job);
    struct npart *np = node_part(c->node, c->partition, c->generation);
    c->node->admin_busy = false;
    if (np) {
        np->cutting = false;
        FAILPOINT("cut-acked");
        if (!c->error)
            np->cut = c->before;
        else
            log_warn(c->node->log, "the journal can't be cut",
                     "partition=%d before=%" PRId64 " error=%s", c->partition, c->before,
                     log_q(c->e.msg));
    }
    free(c);
}

static void cut_due(struct npart *np)
{
    struct node *n = np->node;
    int64_t before = part_cut(np->part), now = clock_boot_ms();
    if (np->part->status != PART_OWNER || np->cutting || n->admin_busy || before <= np->cut ||
        now - np->cut_ms < 5000)
        return;
    struct cut *c = calloc(1, sizeof *c);
    if (!c)
        return;
    c->node = n;
    c->partition = np->partition;
    c->generation = np->generation;
    c->before = before;
    c->job.work = cut_work;
    c->job.done = cut_done;
    np->cut_ms = now;
    if (pool_submit(n->helpers, &c->job) < 0) {
        free(c);
        return;
    }
    np->cutting = n->admin_busy = true;
}

/* ---- starting points ---- */

static void all_loaded(struct node *n);

static void start_part(struct npart *np, const struct slice *text)
{
    struct node *n = np->node;
    int64_t r =
        part_start(np->part, np->committed, 0, text, np->load_epoch, np->load_nonce, &np->start);
    if (r == -ENOMEM)
        claims_no_memory(np);
    if (r < 0) {
        np->failed = true;
        log_error(n->log, "the starting point can't be read; the partition is not claimed",
                  "partition=%d at=%" PRId64, np->partition, np->start.at);
    }
    np->consume_from = text ? r : -2;
    np->loaded = true;
    buf_free(&np->load_text);
    all_loaded(n);
}

static void on_chunk(void *arg, const struct krec *k)
{
    struct npart *np = arg;
    struct rec *r = NULL;
    if (recwire_read(k, &r, NULL) < 0)
        return;
    if (r->type == REC_PART_STATE && r->at == np->start.at && r->chunk == np->load_next) {
        np->load_epoch = r->epoch;
        np->load_nonce = r->nonce;
        np->load_total = r->chunks;
        np->start.time_ms = r->time_ms;
        np->load_next++;
        buf_add_slice(&np->load_text, val_text(r->value));
    }
    rec_unref(r);
}

static void on_loaded(void *arg, int error)
{
    struct npart *np = arg;
    np->load = NULL;
    if (!error && np->load_next && np->load_next == np->load_total && !buf_error(&np->load_text)) {
        struct slice text = buf_slice(&np->load_text);
        start_part(np, &text);
        return;
    }
    np->failed = true;
    np->loaded = true;
    log_error(np->node->log,
              "the committed starting point is not in the journal; the partition is not claimed",
              "partition=%d part.state=%" PRId64 " error=%s", np->partition, np->start.first,
              error ? strerror(-error) : "incomplete");
    all_loaded(np->node);
}

static void load(struct npart *np)
{
    struct err e = {0};
    if (part_metadata_read(np->metadata, &np->start) < 0) {
        np->start.last = -1;
        start_part(np, NULL);
        return;
    }
    buf_init(&np->load_text, 256u << 20);
    np->load = kread_start(np->node->klog, np->node->names.runs, np->partition, np->start.first,
                           np->start.last + 1, on_chunk, on_loaded, np, &e);
    if (!np->load) {
        np->failed = np->loaded = true;
        log_error(np->node->log, "the starting point can't be read", "partition=%d error=%s",
                  np->partition, log_q(e.msg));
        all_loaded(np->node);
    }
}

static struct npart *npart_new(struct node *n, const struct kpart *k)
{
    struct npart *np = calloc(1, sizeof *np);
    struct part_opts o = {.partition = k->partition,
                          .history_ms = n->config->journal_history_ms,
                          .state_every_ms = n->config->journal_state_ms,
                          .snapshot_bytes_min = (size_t)n->config->journal_snapshot_kib << 10,
                          .lease_ms = n->config->session_timeout_ms,
                          .static_member = n->config->node_id != NULL,
                          .node_id = n->node_id,
                          .node_url = n->config->node_url,
                          .boot_id = n->boot_id};
    if (!np || !(np->part = part_new(&o, &node_part_ops, n))) {
        free(np);
        return NULL;
    }
    np->node = n;
    np->partition = k->partition;
    np->generation = n->generation;
    np->committed = k->offset < 0 ? 0 : k->offset;
    snprintf(np->metadata, sizeof np->metadata, "%s", k->metadata ? k->metadata : "");
    return np;
}

/* Every partition has its starting point (and the definitions are here): consume and claim. */
static void all_loaded(struct node *n)
{
    size_t count = 0;
    if (!n->awaiting || !defs_ready(n->defs))
        return;
    for (int i = 0; i < n->partitions; i++) {
        if (n->parts[i] && !n->parts[i]->loaded)
            return;
        count += n->parts[i] != NULL;
    }
    struct kpart *v = calloc(count + 1, sizeof *v);
    if (!v)
        return;
    count = 0;
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && !n->parts[i]->failed)
            v[count++] = (struct kpart){.topic = n->names.runs,
                                        .partition = i,
                                        .offset = n->parts[i]->consume_from};
    int error = kgroup_assign(n->group, v, count);
    free(v);
    if (error) {
        log_error(n->log, "the assignment was not taken", "error=%s", strerror(-error));
        return;
    }
    n->assigned = true;
    n->awaiting = false;
    for (int i = 0; i < n->partitions; i++) {
        struct npart *np = n->parts[i];
        if (!np || np->failed)
            continue;
        commit(np, np->committed, np->metadata);
        claim(np);
    }
}

static void on_assign(void *arg, struct kpart *v, size_t count)
{
    struct node *n = arg;
    claims_drop(n);
    n->awaiting = true;
    for (size_t i = 0; i < count; i++)
        if (v[i].partition < n->partitions && !(n->parts[v[i].partition] = npart_new(n, &v[i])))
            no_memory(n, v[i].partition);
    n->stats.assigned = (int)count;
    log_info(n->log, "partitions assigned", "count=%zu", count);
    uint64_t generation = n->generation;
    for (int i = 0; i < n->partitions && n->generation == generation; i++)
        if (n->parts[i])
            load(n->parts[i]);
    if (!count)
        all_loaded(n);
}

static void on_revoke(void *arg, bool lost)
{
    struct node *n = arg;
    log_info(n->log, "partitions revoked", "lost=%d effects=%zu", lost, n->sched.running);
    if (!lost && n->assigned) {
        handover_begin(n);
        return;
    }
    claims_drop(n);
    kgroup_revoke_done(n->group);
}

void claims_commit_all(struct node *n)
{
    for (int i = 0; i < n->partitions; i++) {
        struct npart *np = n->parts[i];
        char metadata[128];
        if (!np || !np->loaded || np->part->status != PART_OWNER || np->committing)
            continue;
        int64_t mark = part_mark(np->part);
        part_metadata(np->part, mark, metadata);
        commit(np, mark, metadata[0] ? metadata : np->metadata);
    }
}

/* ---- consuming ---- */

static void on_record(void *arg, const struct krec *k)
{
    struct node *n = arg;
    struct npart *np = k->partition < n->partitions ? n->parts[k->partition] : NULL;
    struct rec *r = NULL;
    struct err e = {0};
    if (!np || !np->part || np->failed)
        return;
    part_now(np->part);
    int error = recwire_read(k, &r, &e);
    if (error == -EPROTO) {
        np->part->st.bad++;
        log_error(n->log, "a record of the journal can't be read and is ignored",
                  "partition=%d offset=%" PRId64 " error=%s", k->partition, k->offset,
                  log_q(e.msg));
    }
    if (error == -ENOMEM) /* without it nothing that follows can be folded */
        np->part->lost = true;
    enum part_status before = np->part->status;
    if (part_consumed(np->part, k->offset, r) < 0)
        claims_no_memory(np);
    rec_unref(r);
    claims_owned(np, before);
    if (before == PART_OWNER && np->part->status != PART_OWNER)
        log_warn(n->log, "partition lost to another owner", "partition=%d offset=%" PRId64,
                 k->partition, k->offset);
    node_wake(n);
}

static void on_reset(void *arg, const char *topic, int partition)
{
    struct node *n = arg;
    struct npart *np = partition < n->partitions ? n->parts[partition] : NULL;
    if (np) {
        np->failed = true;
        part_end_ownership(np->part);
        log_error(n->log,
                  "the journal was cut below this node's position; the partition is given up until "
                  "the next assignment",
                  "partition=%d", partition);
    }
}

static void on_fatal(void *arg, const char *why)
{
    struct node *n = arg;
    struct err e = {0};
    claims_drop(n);
    err_set(&e, -ECANCELED, "is another process running with the same node.id?",
            "the group member is dead: %s", why);
    if (n->o.on_fatal)
        n->o.on_fatal(n->o.arg, &e);
}

int claims_open(struct node *n, struct err *e)
{
    const char *topics[] = {n->names.runs, NULL};
    struct kgroup_opts o = {.group_id = n->names.owners,
                            .topics = topics,
                            .instance_id = n->config->node_id,
                            .session_timeout_ms = n->config->session_timeout_ms,
                            .revoke_ms = n->config->handover_ms + HANDOVER_SETTLE_MS + 1000,
                            .on_assign = on_assign,
                            .on_revoke = on_revoke,
                            .on_record = on_record,
                            .on_commit = on_commit,
                            .on_reset = on_reset,
                            .on_fatal = on_fatal,
                            .arg = n};
    n->group = kgroup_new(n->klog, &o, e);
    return n->group ? 0 : -EIO;
}

/* The journal's producer is lost: every ownership ends with it, since what it sent last may or may
 * not land. */
void claims_journal_lost(struct node *n, const char *why)
{
    if (n->journal_lost)
        return;
    n->journal_lost = true;
    n->journal_retry_ms = clock_boot_ms() + 200;
    log_warn(n->log, "the journal's producer is lost; ownerships end and are claimed again",
             "why=%s", log_q(why));
    for (int i = 0; i < n->partitions; i++)
        if (n->parts[i] && n->parts[i]->part)
            part_end_ownership(n->parts[i]->part);
}

void claims_tick(struct node *n)
{
    int owned = 0, claimable = 0;
    all_loaded(n);
    for (int i = 0; i < n->partitions && n->assigned; i++) {
        struct npart *np = n->parts[i];
        if (!np || np->failed)
            continue;
        claimable++;
        owned += np->part->status == PART_OWNER;
        part_now(np->part);
        int64_t now = clock_boot_ms();
        if (n->handover == HANDOVER_SETTLING)
            continue;
        if (now - np->ticked_ms >= n->tick_parts_ms) {
            np->ticked_ms = now;
            part_tick(np->part, false);
        }
        commit_due(np);
        cut_due(np);
    }
    n->stats.owned = owned;
    if (claimable && owned == claimable && !n->ready_told) {
        n->ready_told = true;
        if (n->o.on_ready)
            n->o.on_ready(n->o.arg);
    }
}
