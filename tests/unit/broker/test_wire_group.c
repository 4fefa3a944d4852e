/* The state machine of consumer groups, with a clock and a disk of the test's own. */
#include <stdio.h>
#include <stdlib.h>

#include "broker/group.h"
#include "broker/group_record.h"
#include "unit.h"

SUITE("broker/wire/group")

#define MAX 32
/* What a request got; its address is the token. */
struct answer {
    bool joined, synced;
    int16_t error;
    int generation, members;
    bool skip;
    char member[400], leader[400], protocol[32], assignment[64];
};
struct world {
    struct groups gs;
    struct answer a[MAX];
    int stores, forgets;
    int rebalance_ms; /* of those who join */
    bool hold;        /* storing is answered by the test */
    struct buf stored;
};
static struct world *w;

static void text(char *out, size_t size, struct slice s)
{
    snprintf(out, size, "%.*s", (int)s.n, s.p ? s.p : "");
}

static void on_joined(void *arg, void *token, const struct group_joined *r)
{
    struct answer *a = token;
    CHECK(!a->joined); /* answered once */
    a->joined = true;
    a->error = r->error;
    a->generation = r->generation;
    a->members = r->members ? r->members->nmembers : 0;
    a->skip = r->skip_assignment;
    text(a->member, sizeof a->member, r->member);
    text(a->leader, sizeof a->leader, r->leader);
    text(a->protocol, sizeof a->protocol, r->protocol);
}

static void on_synced(void *arg, void *token, const struct group_synced *r)
{
    struct answer *a = token;
    CHECK(!a->synced);
    a->synced = true;
    a->error = r->error;
    text(a->assignment, sizeof a->assignment, r->assignment);
}

static void on_store(void *arg, struct group *g)
{
    w->stores++;
    buf_reset(&w->stored);
    group_value_write(&w->stored, g);
    if (!w->hold)
        group_stored(&w->gs, sl_str(g->id), g->generation, KERR_NONE);
}

static void on_forget(void *arg, struct group *g)
{
    w->forgets++;
}

static void open_world(void)
{
    static const struct groups_ops ops = {on_joined, on_synced, on_store, on_forget};
    w = calloc(1, sizeof *w);
    w->rebalance_ms = 10000;
    buf_init(&w->stored, 1 << 20);
    groups_init(&w->gs, &ops, NULL);
    groups_clock(&w->gs, 1000, 1000);
}

static void close_world(void)
{
    groups_free(&w->gs);
    buf_free(&w->stored);
    free(w);
}

static void pass(int64_t ms)
{
    groups_clock(&w->gs, w->gs.now_ms + ms, w->gs.wall_ms + ms);
    groups_tick(&w->gs);
}

static struct answer *fresh(int i)
{
    w->a[i] = (struct answer){0};
    return &w->a[i];
}

static struct answer *join_as(int i, const char *member, const char *instance, const char *protocol,
                              const char *metadata)
{
    struct group_protocol p = {sl_str(protocol), sl_str(metadata)};
    struct group_join j = {.group = SL("g"),
                           .member = sl_str(member),
                           .instance = sl_str(instance),
                           .client_id = SL("c"),
                           .client_host = SL("h"),
                           .protocol_type = SL("consumer"),
                           .session_ms = 6000,
                           .rebalance_ms = w->rebalance_ms,
                           .protocols = &p,
                           .nprotocols = 1,
                           .can_skip = true};
    struct answer *a = fresh(i);
    group_join(&w->gs, &j, a);
    return a;
}

static struct answer *join(int i, const char *member)
{
    return join_as(i, member, NULL, "range", "t");
}

static struct answer *sync_as(int i, const char *member, int generation, const char *to,
                              const char *assignment)
{
    struct group_assignment v = {sl_str(to), sl_str(assignment)};
    struct answer *a = fresh(i);
    struct slice none = {NULL, 0};
    group_sync(&w->gs, SL("g"), generation, sl_str(member), none, none, none, &v, to ? 1 : 0, a);
    return a;
}

static int16_t beat(const char *member, int generation)
{
    return group_heartbeat(&w->gs, SL("g"), generation, sl_str(member), (struct slice){NULL, 0});
}

static enum group_state state(void)
{
    struct group *g = group_find(&w->gs, SL("g"));
    return g ? g->state : GROUP_DEAD;
}

/* One stable member; its id stays in w->a[0].member. */
static void one_stable(void)
{
    struct answer *a = join(0, "");
    NEED(a->joined && a->error == 0);
    char id[400];
    snprintf(id, sizeof id, "%s", a->member);
    struct answer *s = sync_as(1, id, a->generation, id, "all");
    NEED(s->synced && s->error == 0);
    CHECK_STR(s->assignment, "all");
    NEED(state() == GROUP_STABLE);
}

TEST(one_member_leads_and_gets_what_it_assigned)
{
    open_world();
    one_stable();
    CHECK_INT(w->a[0].members, 1);
    CHECK_STR(w->a[0].leader, w->a[0].member);
    CHECK_STR(w->a[0].protocol, "range");
    CHECK_INT(beat(w->a[0].member, 1), 0);
    close_world();
}

TEST(the_assignment_is_handed_out_after_it_is_stored)
{
    open_world();
    w->hold = true;
    struct answer *a = join(0, "");
    struct answer *s = sync_as(1, a->member, 1, a->member, "x");
    CHECK(!s->synced);
    CHECK_INT(state(), GROUP_COMPLETING);
    group_stored(&w->gs, SL("g"), 1, 0);
    CHECK(s->synced && s->error == 0);
    CHECK_INT(state(), GROUP_STABLE);
    close_world();
}

TEST(a_failed_store_starts_a_new_rebalance)
{
    open_world();
    w->hold = true;
    struct answer *a = join(0, "");
    struct answer *s = sync_as(1, a->member, 1, a->member, "x");
    group_stored(&w->gs, SL("g"), 1, KERR_COORDINATOR_NOT_AVAILABLE);
    CHECK_INT(s->error, KERR_COORDINATOR_NOT_AVAILABLE);
    CHECK_INT(state(), GROUP_PREPARING);
    close_world();
}

TEST(a_second_member_makes_the_first_join_again)
{
    open_world();
    one_stable();
    char first[400];
    snprintf(first, sizeof first, "%s", w->a[0].member);
    struct answer *b = join(2, "");
    CHECK(!b->joined);
    CHECK_INT(beat(first, 1), KERR_REBALANCE_IN_PROGRESS);
    struct answer *a = join(3, first);
    CHECK(a->joined && b->joined);
    CHECK_INT(a->generation, 2);
    CHECK_INT(a->members, 2);
    CHECK_INT(b->members, 0);
    struct answer *sb = sync_as(4, b->member, 2, NULL, NULL);
    CHECK(!sb->synced);
    struct answer *sa = sync_as(5, first, 2, b->member, "half");
    CHECK(sa->synced && sb->synced);
    CHECK_STR(sb->assignment, "half");
    CHECK_STR(sa->assignment, "");
    CHECK_INT(beat(first, 1), KERR_ILLEGAL_GENERATION);
    CHECK_INT(beat("nobody", 2), KERR_UNKNOWN_MEMBER_ID);
    close_world();
}

TEST(new_clients_are_told_their_id_first)
{
    open_world();
    struct group_protocol p = {SL("range"), SL("t")};
    struct group_join j = {.group = SL("g"),
                           .member = SL(""),
                           .client_id = SL("c"),
                           .client_host = SL("h"),
                           .protocol_type = SL("consumer"),
                           .session_ms = 6000,
                           .rebalance_ms = w->rebalance_ms,
                           .protocols = &p,
                           .nprotocols = 1,
                           .id_required = true};
    struct answer *a = fresh(0);
    group_join(&w->gs, &j, a);
    CHECK_INT(a->error, KERR_MEMBER_ID_REQUIRED);
    j.member = sl_str(a->member);
    struct answer *b = fresh(1);
    group_join(&w->gs, &j, b);
    CHECK(b->joined && b->error == 0);
    CHECK_STR(b->member, a->member);
    j.member = SL("made-up");
    struct answer *c = fresh(2);
    group_join(&w->gs, &j, c);
    CHECK_INT(c->error, KERR_UNKNOWN_MEMBER_ID);
    close_world();
}

TEST(a_silent_member_is_gone_after_its_session)
{
    open_world();
    one_stable();
    pass(5000);
    CHECK_INT(beat(w->a[0].member, 1), 0);
    pass(5000);
    CHECK_INT(state(), GROUP_STABLE);
    pass(1001);
    CHECK_INT(state(), GROUP_EMPTY);
    CHECK_INT(beat(w->a[0].member, 1), KERR_UNKNOWN_MEMBER_ID);
    close_world();
}

TEST(who_does_not_rejoin_is_left_out_at_the_rebalance_timeout)
{
    open_world();
    one_stable();
    struct answer *b = join(2, "");
    for (int i = 0; i < 3; i++) { /* alive, but it never joins again */
        pass(3000);
        CHECK_INT(beat(w->a[0].member, 1), KERR_REBALANCE_IN_PROGRESS);
    }
    CHECK(!b->joined);
    pass(1001);
    CHECK(b->joined && b->error == 0);
    CHECK_INT(b->members, 1);
    CHECK_STR(b->leader, b->member);
    CHECK_INT(beat(w->a[0].member, 1), KERR_UNKNOWN_MEMBER_ID);
    close_world();
}

TEST(a_leader_that_never_assigns_is_expelled)
{
    open_world();
    struct answer *a = join(0, "");
    NEED(a->joined);
    for (int i = 0; i < 3; i++) {
        pass(3000);
        beat(a->member, 1);
    }
    pass(1001);
    CHECK_INT(state(), GROUP_EMPTY);
    CHECK_INT(beat(a->member, 1), KERR_UNKNOWN_MEMBER_ID);
    close_world();
}

TEST(leaving_rebalances_at_once_and_an_empty_group_is_forgotten)
{
    open_world();
    one_stable();
    CHECK_INT(group_leave(&w->gs, SL("g"), SL("nobody"), (struct slice){NULL, 0}),
              KERR_UNKNOWN_MEMBER_ID);
    CHECK_INT(group_leave(&w->gs, SL("g"), sl_str(w->a[0].member), (struct slice){NULL, 0}), 0);
    CHECK_INT(state(), GROUP_EMPTY);
    CHECK_INT(w->forgets, 0);
    pass(GROUP_FORGET_MS + 1);
    CHECK_INT(w->forgets, 1);
    CHECK_INT(state(), GROUP_DEAD);
    close_world();
}

TEST(a_static_member_comes_back_to_its_assignment)
{
    open_world();
    struct answer *a = join_as(0, "", "i1", "range", "t");
    char old[400];
    snprintf(old, sizeof old, "%s", a->member);
    sync_as(1, old, 1, old, "mine");
    /* claim by id alone is refused for static members only when the instance does not fit */
    struct answer *b = join_as(2, "", "i1", "range", "t");
    CHECK(b->joined && b->error == 0);
    CHECK_INT(b->generation, 1);
    CHECK(b->skip);
    CHECK(strcmp(b->member, old) != 0);
    CHECK_INT(state(), GROUP_STABLE);
    struct answer *s = sync_as(3, b->member, 1, NULL, NULL);
    CHECK_STR(s->assignment, "mine");
    CHECK_INT(group_heartbeat(&w->gs, SL("g"), 1, sl_str(old), SL("i1")), KERR_FENCED_INSTANCE_ID);
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 1, sl_str(old), SL("i1")), KERR_FENCED_INSTANCE_ID);
    CHECK_INT(group_heartbeat(&w->gs, SL("g"), 1, sl_str(b->member), SL("i1")), 0);
    close_world();
}

/* The broker's thread once asked without end whether it was back. */
TEST(a_static_member_without_time_to_rebalance_is_waited_for)
{
    open_world();
    w->rebalance_ms = 0;
    struct answer *a = join_as(0, "", "i1", "range", "t");
    sync_as(1, a->member, 1, a->member, "mine");
    NEED(state() == GROUP_STABLE);
    struct answer *b = join(2, "");
    struct answer *again = join_as(3, a->member, "i1", "range", "t");
    NEED(b->joined && again->joined && b->generation == 2);
    sync_as(4, b->member, 2, NULL, NULL);
    sync_as(5, again->member, 2, b->member, "x");
    NEED(state() == GROUP_STABLE);
    CHECK_INT(group_leave(&w->gs, SL("g"), sl_str(b->member), (struct slice){NULL, 0}), 0);
    CHECK_INT(state(), GROUP_PREPARING);
    pass(0);
    CHECK_INT(state(), GROUP_PREPARING);
    CHECK(groups_next_ms(&w->gs) > w->gs.now_ms);
    struct answer *back = join_as(6, a->member, "i1", "range", "t");
    CHECK(back->joined && back->error == 0);
    CHECK_INT(back->members, 1);
    close_world();
}

TEST(protocols_must_have_one_in_common)
{
    open_world();
    one_stable();
    struct answer *b = join_as(2, "", NULL, "sticky", "t");
    CHECK_INT(b->error, KERR_INCONSISTENT_GROUP_PROTOCOL);
    CHECK_INT(state(), GROUP_STABLE);
    close_world();
}

TEST(a_changed_subscription_rebalances_and_the_same_does_not)
{
    open_world();
    one_stable();
    char first[400];
    snprintf(first, sizeof first, "%s", w->a[0].member);
    struct answer *b = join(2, "");
    struct answer *a = join(3, first);
    sync_as(4, b->member, 2, NULL, NULL);
    sync_as(5, first, 2, b->member, "x");
    NEED(state() == GROUP_STABLE);
    struct answer *same = join(6, b->member);
    CHECK(same->joined);
    CHECK_INT(same->generation, 2);
    CHECK_INT(state(), GROUP_STABLE);
    struct answer *other = join_as(7, b->member, NULL, "range", "t,u");
    CHECK(!other->joined);
    CHECK_INT(state(), GROUP_PREPARING);
    CHECK(a->joined);
    close_world();
}

TEST(commits_are_checked_as_kafka_does)
{
    open_world();
    struct slice none = {NULL, 0};
    CHECK_INT(group_may_commit(&w->gs, SL("g"), -1, SL(""), none), 0);
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 3, SL("m"), none), KERR_ILLEGAL_GENERATION);
    CHECK_INT(group_may_commit(&w->gs, SL(""), -1, SL(""), none), KERR_INVALID_GROUP_ID);
    one_stable();
    const char *id = w->a[0].member;
    CHECK_INT(group_may_commit(&w->gs, SL("g"), -1, SL(""), none), KERR_UNKNOWN_MEMBER_ID);
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 2, sl_str(id), none), KERR_ILLEGAL_GENERATION);
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 1, sl_str(id), none), 0);
    join(2, "");
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 1, sl_str(id), none),
              0); /* still of its generation */
    join(3, id);
    CHECK_INT(group_may_commit(&w->gs, SL("g"), 2, sl_str(w->a[3].member), none),
              KERR_REBALANCE_IN_PROGRESS);
    close_world();
}

TEST(bad_joins_are_refused)
{
    open_world();
    struct group_protocol p = {SL("range"), SL("t")};
    struct group_join j = {.group = SL("g"),
                           .member = SL(""),
                           .client_host = SL("h"),
                           .protocol_type = SL("consumer"),
                           .session_ms = 1,
                           .rebalance_ms = 1,
                           .protocols = &p,
                           .nprotocols = 1};
    group_join(&w->gs, &j, fresh(0));
    CHECK_INT(w->a[0].error, KERR_INVALID_SESSION_TIMEOUT);
    j.session_ms = GROUP_SESSION_MAX_MS + 1;
    group_join(&w->gs, &j, fresh(0));
    CHECK_INT(w->a[0].error, KERR_INVALID_SESSION_TIMEOUT);
    j.session_ms = 6000;
    j.nprotocols = 0;
    group_join(&w->gs, &j, fresh(1));
    CHECK_INT(w->a[1].error, KERR_INCONSISTENT_GROUP_PROTOCOL);
    j.nprotocols = 1;
    j.group = SL("");
    group_join(&w->gs, &j, fresh(2));
    CHECK_INT(w->a[2].error, KERR_INVALID_GROUP_ID);
    close_world();
}

/* Fills answers 0 and 1 in turn; the members of the group are pending until somebody leads. */
static int16_t join_large(size_t metadata_bytes, size_t name_bytes)
{
    char *large = calloc(1, metadata_bytes + name_bytes + 1);
    memset(large, 'm', metadata_bytes + name_bytes);
    struct group_protocol p = {SL("range"), sl(large, metadata_bytes)};
    struct group_join j = {.group = SL("large"),
                           .member = sl(large, name_bytes),
                           .client_id = SL("c"),
                           .client_host = SL("h"),
                           .protocol_type = SL("consumer"),
                           .session_ms = 6000,
                           .rebalance_ms = 6000,
                           .protocols = &p,
                           .nprotocols = 1};
    group_join(&w->gs, &j, fresh(0));
    free(large);
    pass(20000); /* whoever joined is answered, and gone again */
    return w->a[0].error;
}

TEST(a_subscription_and_names_are_bounded)
{
    open_world();
    CHECK_INT(join_large(GROUP_METADATA_MAX, 0), 0);
    CHECK_INT(join_large(GROUP_METADATA_MAX + 1, 0), KERR_INVALID_REQUEST);
    CHECK_INT(join_large(1, GROUP_NAME_MAX), KERR_UNKNOWN_MEMBER_ID);
    CHECK_INT(join_large(1, GROUP_NAME_MAX + 1), KERR_INVALID_REQUEST);
    close_world();
}

TEST(a_group_has_at_most_so_many_members)
{
    open_world();
    struct answer *all = calloc(GROUP_MEMBERS_MAX + 1, sizeof *all);
    struct group_protocol p = {SL("range"), SL("t")};
    struct group_join j = {.group = SL("crowd"),
                           .client_id = SL("c"),
                           .client_host = SL("h"),
                           .protocol_type = SL("consumer"),
                           .session_ms = 6000,
                           .rebalance_ms = 6000,
                           .protocols = &p,
                           .nprotocols = 1};
    for (int i = 0; i <= GROUP_MEMBERS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "i%d", i);
        j.instance = sl_str(name);
        group_join(&w->gs, &j, &all[i]);
    }
    CHECK(all[GROUP_MEMBERS_MAX].joined);
    CHECK_INT(all[GROUP_MEMBERS_MAX].error, KERR_GROUP_MAX_SIZE_REACHED);
    pass(20000);
    close_world();
    free(all);
}

TEST(a_group_read_back_goes_on_with_its_members)
{
    open_world();
    one_stable();
    char id[400];
    snprintf(id, sizeof id, "%s", w->a[0].member);
    struct buf kept = w->stored;
    buf_init(&w->stored, 1 << 20);
    close_world();
    open_world();
    struct group *g = group_get(&w->gs, SL("g"));
    NEED(group_value_read(buf_slice(&kept), g) == 0);
    CHECK_INT(g->state, GROUP_STABLE);
    CHECK_INT(beat(id, 1), 0);
    struct answer *s = sync_as(1, id, 1, NULL, NULL);
    CHECK_STR(s->assignment, "all");
    pass(6001); /* and with its session */
    CHECK_INT(beat(id, 1), KERR_UNKNOWN_MEMBER_ID);
    for (size_t n = 0; n < kept.n; n++) { /* what is cut is refused and never read beyond */
        char *exact = malloc(n + 1);
        memcpy(exact, kept.p, n);
        CHECK(group_value_read(sl(exact, n), group_get(&w->gs, SL("h"))) < 0);
        free(exact);
    }
    buf_free(&kept);
    close_world();
}

/* Random requests of four clients, each with a slot of its own: whatever comes in whatever order,
 * each is answered exactly once (on_joined and on_synced check "once"), and when time is over
 * nobody is left. */
TEST(random_histories_answer_everyone_once)
{
    enum { STEPS = 150 };
    for (unsigned seed = 1; seed <= 300; seed++) {
        open_world();
        struct answer *log = calloc(STEPS, sizeof *log);
        char ids[4][400] = {"", "", "", ""};
        int last_join[4] = {-1, -1, -1, -1};
        bool sent[STEPS] = {false};
        srand(seed);
        for (int step = 0; step < STEPS; step++) {
            int m = rand() % 4, what = rand() % 10;
            struct slice none = {NULL, 0}, id = sl_str(ids[m]);
            struct group *g = group_find(&w->gs, SL("g"));
            int generation = g ? g->generation - (rand() % 8 == 0) : 0;
            if (last_join[m] >= 0 && log[last_join[m]].joined && !log[last_join[m]].error)
                snprintf(ids[m], sizeof ids[m], "%s", log[last_join[m]].member);
            if (what < 4) {
                struct group_protocol p = {SL("range"), rand() % 4 ? SL("t") : SL("u")};
                struct group_join j = {.group = SL("g"),
                                       .member = id,
                                       .instance = m == 3 ? SL("static") : none,
                                       .client_id = SL("c"),
                                       .client_host = SL("h"),
                                       .protocol_type = SL("consumer"),
                                       .session_ms = 6000,
                                       .rebalance_ms = w->rebalance_ms,
                                       .protocols = &p,
                                       .nprotocols = 1};
                last_join[m] = step;
                sent[step] = true;
                group_join(&w->gs, &j, &log[step]);
                if (log[step].error == KERR_UNKNOWN_MEMBER_ID ||
                    log[step].error == KERR_FENCED_INSTANCE_ID)
                    ids[m][0] = 0;
            } else if (what < 7) {
                struct group_assignment v = {id, SL("x")};
                sent[step] = true;
                w->hold = rand() % 3 == 0;
                group_sync(&w->gs, SL("g"), generation, id, m == 3 ? SL("static") : none, none,
                           none, &v, 1, &log[step]);
            } else if (what == 7) {
                pass(2500);
                for (int k = 0; g && k < 3; k++) /* stores that were held, late ones too */
                    group_stored(&w->gs, SL("g"), generation - k, rand() % 4 ? 0 : KERR_UNKNOWN);
            } else if (what == 8) {
                group_leave(&w->gs, SL("g"), id, none);
                ids[m][0] = 0;
            } else {
                group_heartbeat(&w->gs, SL("g"), generation, id, none);
            }
        }
        for (int i = 0; i < 60; i++) {
            struct group *g = group_find(&w->gs, SL("g"));
            if (g)
                group_stored(&w->gs, SL("g"), g->generation, 0);
            pass(3000);
        }
        struct group *g = group_find(&w->gs, SL("g"));
        CHECK(!g || g->nmembers == 0);
        for (int i = 0; i < STEPS; i++) {
            if (sent[i] && !log[i].joined && !log[i].synced) {
                fprintf(stderr, "seed %u: the request of step %d was not answered\n", seed, i);
                CHECK(false);
            }
        }
        free(log);
        close_world();
    }
}

TEST(who_still_waits_when_the_log_stops_is_answered)
{
    open_world();
    one_stable();
    struct answer *waits = join(2, ""); /* for the first one to join again */
    CHECK(!waits->joined);
    groups_free(&w->gs);
    CHECK(waits->joined);
    CHECK_INT(waits->error, KERR_COORDINATOR_NOT_AVAILABLE);
    groups_init(&w->gs, w->gs.ops, NULL);
    close_world();
}

TEST(there_are_at_most_so_many_groups)
{
    open_world();
    char name[16];
    for (int i = 0; i < GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "g%d", i);
        NEED(group_get(&w->gs, sl_str(name)) != NULL);
    }
    struct answer *a = join_as(0, "", "one-more", "range", "t"); /* of the group "g" */
    CHECK_INT(a->error, KERR_GROUP_MAX_SIZE_REACHED);
    CHECK(group_get(&w->gs, SL("g0")) != NULL);
    close_world();
}
