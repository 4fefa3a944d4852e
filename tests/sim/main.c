/* Chooses the steps: random schedules under a seed, or every sequence of a small depth after random
 * beginnings. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

static const double weight[ST_KINDS] = {
    [ST_TICK] = 1.5,   [ST_CONSUME] = 12, [ST_ACK] = 8,       [ST_LAND] = 8,
    [ST_LOST] = 0.3,   [ST_WORK] = 8,     [ST_BEGIN] = 8,     [ST_FINISH] = 8,
    [ST_FAIL] = 4,     [ST_ROUTE] = 3,    [ST_SCOMMIT] = 2,   [ST_CLAIM] = 6,
    [ST_RENEW] = 8,    [ST_RENEWED] = 8,  [ST_COMMIT] = 2,    [ST_PART] = 1,
    [ST_SNAP] = 1,     [ST_CUT] = 1,      [ST_TELL] = 2,      [ST_CONTROL] = 0.3,
    [ST_LEARN] = 1,    [ST_PAUSE] = 0.3,  [ST_GO] = 1.5,      [ST_CRASH] = 0.25,
    [ST_RESTART] = 2,  [ST_ERROR] = 0.2,  [ST_ASSIGN] = 0.3,  [ST_SASSIGN] = 0.3,
    [ST_ORPHAN] = 0.8, [ST_DROP] = 0.2,   [ST_COMPACT] = 0.1, [ST_FLOORS] = 2,
    [ST_KEYED] = 0.5};

static const struct {
    const char *name;
    uint32_t rule;
    uint64_t
        seed; /* that was seen to miss it; another one is looked for when it does not any more */
} rules[] = {{"known-prefix", RULE_KNOWN_PREFIX, 3},
             {"lease", RULE_LEASE, 6441},
             {"floor", RULE_FLOOR, 4},
             {"mark", RULE_MARK, 1},
             {"part-state", RULE_PART_STATE, 1},
             {"write-ahead", RULE_WRITE_AHEAD, 1},
             {"settle", RULE_SETTLE, 1},
             {"end-first", RULE_END_FIRST, 1},
             {"snapshot-under-way", RULE_SNAPSHOT_UNDER_WAY, 3},
             {"safe-floors", RULE_SAFE_FLOORS, 62},
             {"read-back", RULE_READ_BACK, 2},
             {"nonce", RULE_NONCE, 1},
             {"keys", SIM_KEYS, 2},
             {"pin-at", RULE_PIN_AT, 1},
             {"idempotency-keys", RULE_KEYS, 1},
             {"hold-pin", RULE_HOLD_PIN, 3},
             {"part-key", SIM_PART_KEY, 1},
             {"state-key", SIM_STATE_KEY, 4657},
             {"task-key", SIM_TASK_KEY, 2},
             {"part-at", SIM_PART_AT, 1},
             {"gapless", SIM_GAPLESS, 14},
             {NULL, 0, 0}};

struct options {
    uint64_t seed, runs, steps, depth;
    uint32_t off;
    bool trace, mutations;
    const char *rule; /* of --mutations */
};

static struct step_s choose(struct world *w, const struct step_s *v, size_t n, const double *boost)
{
    double sum = 0, at;
    for (size_t i = 0; i < n; i++)
        sum += weight[v[i].kind] * boost[v[i].kind];
    at = (double)(world_random(w) >> 11) / (double)(1ull << 53) * sum;
    for (size_t i = 0; i < n; i++)
        if ((at -= weight[v[i].kind] * boost[v[i].kind]) <= 0)
            return v[i];
    return v[n - 1];
}

static void begin(struct world *w, uint64_t seed, uint64_t steps, uint32_t off)
{
    struct step_s v[512];
    double boost[ST_KINDS];
    static const double factors[] = {0.3, 1, 1, 3};
    world_open(w, seed, off);
    for (int k = 0; k < ST_KINDS; k++)
        boost[k] = factors[world_random(w) % 4];
    for (uint64_t i = 0; i < steps && !w->violation[0]; i++) {
        size_t n = world_steps(w, v, 512);
        if (!n)
            return;
        world_do(w, choose(w, v, n, boost));
    }
}

static bool report(const struct world *w, uint64_t seed, const char *rule)
{
    if (!w->violation[0])
        return false;
    if (rule)
        printf("%s: ", rule);
    printf("seed %llu: VIOLATION %s\n", (unsigned long long)seed, w->violation);
    return true;
}

/* Every sequence of `depth` steps after the beginning; the world is made again for each, since it
 * can't be copied. */
static bool exhaust(struct world *w, uint64_t seed, const struct options *o, struct step_s *path,
                    size_t at, uint64_t *count)
{
    struct step_s v[512];
    begin(w, seed, o->steps, o->off);
    for (size_t i = 0; i < at && !w->violation[0]; i++)
        world_do(w, path[i]);
    bool bad = report(w, seed, o->rule);
    size_t n = bad ? 0 : world_steps(w, v, 512);
    world_close(w);
    ++*count;
    if (bad || at == o->depth)
        return bad;
    for (size_t i = 0; i < n; i++) {
        path[at] = v[i];
        if (exhaust(w, seed, o, path, at + 1, count))
            return true;
    }
    return false;
}

static int run(const struct options *o)
{
    static struct world w;
    struct step_s path[16];
    uint64_t count = 0, total[ST_KINDS] = {0};
    w.trace = o->trace;
    for (uint64_t seed = o->seed; seed < o->seed + o->runs; seed++) {
        if (o->depth) {
            if (exhaust(&w, seed, o, path, 0, &count))
                return 1;
            continue;
        }
        begin(&w, seed, o->steps, o->off);
        if (!w.violation[0])
            world_drain(&w);
        bool bad = report(&w, seed, o->rule);
        for (int k = 0; k < ST_KINDS; k++)
            total[k] += w.count[k];
        world_close(&w);
        if (bad)
            return 1;
    }
    if (o->rule)
        printf("%s: ", o->rule);
    printf("no violation: %llu runs%s", (unsigned long long)o->runs, o->depth ? "" : "; steps:");
    for (int k = 0; !o->depth && k < ST_KINDS; k++)
        printf(" %s %llu", step_names[k], (unsigned long long)total[k]);
    if (o->depth)
        printf(", %llu sequences", (unsigned long long)count);
    printf("\n");
    return 0;
}

/* Every rule off, one after the other: each must be missed by some seed. */
static int mutations(const struct options *o)
{
    int missed = 0;
    for (int k = 0; rules[k].name; k++) {
        struct options one = *o;
        one.off = rules[k].rule;
        one.rule = rules[k].name;
        struct options seen = one;
        seen.seed = rules[k].seed;
        seen.runs = 1;
        missed += run(&seen) == 0 && run(&one) == 0;
        fflush(stdout);
    }
    if (missed)
        printf("%d rules are missed by no seed: the simulation does not show what they are for\n",
               missed);
    return missed != 0;
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .runs = 500, .steps = 300};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(a, "--trace")) {
            o.trace = true;
            continue;
        }
        if (!strcmp(a, "--mutations")) {
            o.mutations = true;
            continue;
        }
        if (!strcmp(a, "--off")) {
            uint32_t before = o.off;
            for (int k = 0; rules[k].name; k++)
                if (!strcmp(rules[k].name, v))
                    o.off |= rules[k].rule;
            if (o.off == before) {
                fprintf(stderr, "sim: no rule %s\n", v);
                return 2;
            }
        }
        if (!strcmp(a, "--seed")) {
            o.seed = strtoull(v, NULL, 10);
            o.runs = 1;
        }
        if (!strcmp(a, "--from"))
            o.seed = strtoull(v, NULL, 10);
        if (!strcmp(a, "--runs"))
            o.runs = strtoull(v, NULL, 10);
        if (!strcmp(a, "--steps"))
            o.steps = strtoull(v, NULL, 10);
        if (!strcmp(a, "--exhaust"))
            o.depth = strtoull(v, NULL, 10);
        i++;
    }
    map_fix_seed(1);
    if (o.depth > 16)
        o.depth = 16;
    return o.mutations ? mutations(&o) : run(&o);
}
