/* The table of definitions, followed from the agents topic (compacted, one partition):
 *   def/HASH                 canonical JSON of the definition
 *   agent/NAMESPACE/NAME     {"version":V,"hash":H,"active":true|false,"versions":{V:HASH,..}}
 * A definition's record is written before the agent record that names it. The table's version is
 * the offset after its latest record; a router keeps it in its commit metadata, so that a successor
 * never routes by an older table.
 *
 * defs_*: loop's thread. agents_*: blocking, for the CLI. */
#pragma once
#include "flow/flow.h"
#include "log/kadmin.h"
#include "triggers/names.h"

struct defs;
struct agent {
    char *id;      /* namespace/name */
    char *version; /* the active one */
    char hash[FLOW_HASH_MAX];
    bool active;
    struct flow *flow;          /* of hash; NULL if its definition can't be read */
    struct json_object *record; /* its whole record, as above */
};
/* on_change: after each record applied (and once when the end was first reached: `ready`). */
struct defs *defs_new(struct klog *k, const struct names *n, struct log *log,
                      void (*on_change)(void *arg), void *arg, struct err *e);
struct defs *defs_free(struct defs *d);
bool defs_ready(const struct defs *d); /* the end that the topic had at the start is reached */
int64_t defs_version(const struct defs *d);
struct flow *defs_flow(const struct defs *d, const char *hash);       /* borrowed; NULL: unknown */
const struct agent *defs_agent(const struct defs *d, const char *id); /* NULL: unknown */
bool defs_next(const struct defs *d, size_t *pos,
               const struct agent **ret); /* all agents, inactive ones too */

/* ---- blocking ---- */
struct agents_change {
    char id[2 * FLOW_NAME_MAX + 2], version[64], hash[FLOW_HASH_MAX];
    enum { AGENT_UNCHANGED, AGENT_CREATED, AGENT_UPDATED, AGENT_ACTIVATED, AGENT_DEACTIVATED } what;
};
/* Writes the definition and makes its version the active one. -EEXIST: the same version with
 * another content (hint: raise document.version, or --force). dry_run: only says what would change.
 */
int agents_apply(struct kadmin *a, const struct names *n, const struct flow *f, bool force,
                 bool dry_run, struct agents_change *ret, struct err *e);
int agents_deactivate(struct kadmin *a, const struct names *n, const char *id,
                      struct agents_change *ret, struct err *e); /* -ENOENT */
/* By the member "agent". */
void agents_sort(struct json_object *list);
/* The whole table as JSON: [{agent,version,hash,active,versions,title}], sorted, and one
 * definition's text. Caller frees. */
int agents_list(struct kadmin *a, const struct names *n, struct json_object **ret, struct err *e);
int agents_text(struct kadmin *a, const struct names *n, const char *hash, struct buf *b,
                struct err *e); /* -ENOENT */
/* NAMESPACE/NAME[:VERSION] to its hash. -ENOENT with the nearest name in the hint. */
int agents_find(struct kadmin *a, const struct names *n, const char *ref, char hash[FLOW_HASH_MAX],
                char id[2 * FLOW_NAME_MAX + 2], char version[64], struct err *e);
