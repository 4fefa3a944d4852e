/* The other nodes of the group, as far as lists of runs need them: where each is reached, what its
 * read model keeps, which partitions it works on.
 *
 * Each node writes its address to the marks topic when it begins and every six hours (node/ID:
 * {name, url, view, time}; who finds one that is older than a day takes it away). Who works on
 * which partition says the group's coordinator. Both are read when somebody asks for what this node
 * does not keep itself, and hold for ten seconds: a node that does not keep what it is asked for
 * says so, and then they are read again. */
#pragma once
#include "base/intset.h"
#include "gateway/api_int.h"
#include "view/spans.h"

/* ---- the loop's thread ---- */

/* -EINVAL: node.url is no address. */
int peers_open(struct gateway *g, struct err *e);
void peers_free(struct gateway *g); /* after the pool and the node */
/* Twice a second or so: writes this node's address when it is time, and tells the read model which
 * partitions are owned now. */
void peers_tick(struct gateway *g);

/* ---- a thread of the pool ---- */

/* To be asked for these partitions. */
struct peer_ask {
    char *base; /* http://HOST:PORT; the array's owner frees it */
    struct intset of;
};
/* Who is to be asked for which of `want`; Nodes whose addresses are in
 * `avoid` (NULL-terminated) are left out. `anew`: what is known is read again. The caller
 * frees the plan, after an error too. */
struct peer_plan {
    struct peer_ask *v;
    size_t n;
    bool some; /* another node keeps runs, whether it is asked or not */
};
int peers_plan(struct gateway *g, struct kadmin *a, const struct intset *want,
               const char *const *avoid, bool anew, struct peer_plan *ret, struct err *e);
void peer_plan_free(struct peer_plan *p);
/* Where a run is, as its owner's read model knows it; blocks for two seconds at most. False: not
 * known. */
bool peers_place(struct gateway *g, struct kadmin *a, const char *run, const char *authorization,
                 struct run_place *ret);
