/* Loss of power: whatever the log has promised is there afterwards, wherever it struck. */
#include <stdio.h>
#include <stdlib.h>

#include "power.h"

SUITE("broker/power")

#define ROUNDS        4
#define MASKS         128 /* more ways are tried by chance */
#define MASKS_MUTATED 16
#define KILLED        (LOSE_ANY_NAME + 1) /* only the process */
#define STEPS         60

static int env_int(const char *name, int dflt)
{
    const char *v = getenv(name);
    int64_t n;
    return v && sl_i64(sl_str(v), &n) == 0 ? (int)n : dflt;
}

/* The disk as it is kept by the freeze, or as it is now. */
static struct shadow *frozen(struct power *w)
{
    struct shadow *f = shadow_take_frozen(w->disk);
    return f ? f : shadow_kill(w->disk);
}

static struct shadow *after(struct power *w, struct shadow *f, unsigned how)
{
    return how == KILLED ? shadow_kill(f) : shadow_lose_power(f, (enum loss)how, &w->seed);
}

/* Starts a store on what one loss left, and checks. What it shows is promised from then on: a loss
 * right after the start takes nothing of it; tried when nothing was lost before. */
static void check_loss(struct power *w, struct shadow *disk, unsigned how)
{
    struct power c;
    power_copy(&c, w, disk);
    c.any_names |= how == LOSE_ANY_NAME;
    if (w->trace)
        fprintf(stderr, "loss\n");
    if (power_open(&c))
        power_check(&c, c.s, true);
    if (c.s && !c.why[0] && how == KILLED) {
        struct shadow *again = shadow_lose_power(c.disk, LOSE_ALL, &c.seed);
        power_abandon(&c);
        shadow_free(c.disk);
        c.disk = again;
        if (power_open(&c))
            power_check(&c, c.s, true);
    }
    w->losses = c.losses;
    memcpy(w->why, c.why, sizeof w->why);
    power_free(&c);
}

static void live(struct power *w)
{
    if (!power_open(w) || shadow_is_frozen(w->disk))
        return;
    power_check(w, w->s, true);
    if (!w->why[0])
        power_retry_producers(w);
    for (int i = 0; i < STEPS && !w->why[0] && !shadow_is_frozen(w->disk); i++) {
        if (power_rand(w, 60) == 0) {
            int64_t left = w->disk ? shadow_freeze_left(w->disk) : 0;
            power_kill(w);
            shadow_freeze_at(w->disk, shadow_calls(w->disk) + left);
        } else {
            power_step(w);
        }
    }
}

/* Several lives, each ended by a loss. */
static void run(struct power *w, unsigned seed, int leave_out)
{
    static const enum store_sync modes[] = {STORE_SYNC_ALWAYS, STORE_SYNC_ALWAYS,
                                            STORE_SYNC_INTERVAL, STORE_SYNC_ALWAYS,
                                            STORE_SYNC_NEVER};
    map_fix_seed(seed);
    power_init(w, seed);
    w->trace = env_int("TIDEMARK_POWER_TRACE", 0) != 0;
    w->sync = modes[seed % 5];
    w->verify_bytes = seed % 2;
    shadow_leave_out(w->disk, leave_out);
    for (int round = 0; round < ROUNDS && !w->why[0]; round++) {
        shadow_freeze_at(w->disk, 1 + power_rand(w, power_rand(w, 2) ? 40 : 250));
        live(w);
        struct shadow *f = frozen(w);
        power_abandon(w);
        for (unsigned how = LOSE_ALL; how <= KILLED && !w->why[0]; how++)
            check_loss(w, after(w, f, how), how);
        shadow_free(w->disk);
        unsigned how = power_rand(w, KILLED + 1);
        w->any_names |= how == LOSE_ANY_NAME;
        w->disk = after(w, f, how);
        shadow_free(f);
    }
}

TEST(many_losses_of_power_break_no_promise)
{
    int first = env_int("TIDEMARK_POWER_SEED", 1), n = env_int("TIDEMARK_POWER_SEEDS", 80);
    int64_t losses = 0;
    for (int seed = first; seed < first + n; seed++) {
        struct power w;
        run(&w, (unsigned)seed, -1);
        losses += w.losses;
        power_free(&w);
        if (w.why[0])
            fprintf(stderr, "seed %d: %s\n", seed, w.why);
        CHECK_STR(w.why, "");
        if (w.why[0] && n > 1)
            break;
    }
    CHECK(losses >= n);
}

/* Small cases: a few steps, the power lost before each of their calls, and everything that the disk
 * could then hold when it has few parts. */
#define DO(step)                                                                                   \
    do {                                                                                           \
        step;                                                                                      \
        if (w->why[0] || shadow_is_frozen(w->disk))                                                \
            return;                                                                                \
    } while (0)

static void first_start(struct power *w)
{
    DO(power_open(w));
    DO(power_create(w, 0, 1, 0));
}

static void one_topic(struct power *w)
{
    DO(power_open(w));
    DO(power_create(w, 0, 1, 0));
    DO(power_append(w, 0, 0, 2, 40, true));
    DO(power_wait(w));
}

static void records(struct power *w)
{
    DO(power_append(w, 0, 0, 1, 20, false));
    DO(power_wait(w));
    DO(power_append(w, 0, 0, 1, 700, true));
    DO(power_append(w, 0, 0, 1, 20, false));
    DO(power_wait(w));
}

static void rolls(struct power *w)
{
    DO(power_append(w, 0, 0, 1, 2800, true));
    DO(power_append(w, 0, 0, 1, 400, false));
    DO(power_append(w, 0, 0, 1, 2700, false));
    DO(power_wait(w));
}

/* The worker is at it while the segment is rolled by age. */
static void rolls_by_age(struct power *w)
{
    DO(power_configure(w, 0, 3));
    DO(power_append(w, 0, 0, 1, 20, false));
    DO(power_poll(w));
    DO(power_append(w, 0, 0, 1, 20, false));
    DO(power_tick(w, 30000));
    DO(power_wait(w));
}

static void starts_move(struct power *w)
{
    DO(power_cut(w, 0, 0, 1));
    DO(power_tick(w, 1000));
    DO(power_append(w, 0, 0, 2, 2900, false));
    DO(power_append(w, 0, 0, 1, 400, false));
    DO(power_wait(w));
    DO(power_cut(w, 0, 0, 5));
    DO(power_tick(w, 1000));
}

static void topics_change(struct power *w)
{
    DO(power_configure(w, 0, 1));
    DO(power_grow(w, 0));
    DO(power_append(w, 0, 1, 1, 20, false));
    DO(power_wait(w));
    DO(power_new_pid(w));
    DO(power_delete(w, 0));
    DO(power_create(w, 0, 2, 2));
    DO(power_append(w, 0, 1, 1, 20, false));
    DO(power_wait(w));
    DO(power_tick(w, 1000));
}

static void stops(struct power *w)
{
    DO(power_append(w, 0, 0, 1, 20, false));
    DO(power_restart(w));
    DO(power_append(w, 0, 0, 2, 1500, false));
    DO(power_append(w, 0, 0, 1, 400, false));
}

/* A log that ends below its start, with syncs off. */
static void ends_below_its_start(struct power *w)
{
    w->sync = STORE_SYNC_NEVER;
    one_topic(w);
    DO(power_restart(w)); /* which is durable with syncs off as well */
    DO(power_append(w, 0, 0, 2, 100, false));
    DO(power_wait(w));
    DO(power_cut(w, 0, 0, 3));
    struct shadow *lost = shadow_lose_power(w->disk, LOSE_ALL, &w->seed);
    power_abandon(w);
    shadow_free(w->disk);
    w->disk = lost;
}

static void off_and_known(struct power *w)
{
    w->sync = STORE_SYNC_NEVER;
    one_topic(w);
    DO(power_restart(w));
}

static void deletes_unsynced(struct power *w)
{
    DO(rolls(w));
    DO(power_cut(w, 0, 0, 5));
    DO(power_tick(w, 1000));
}

static void starts(struct power *w)
{
    DO(power_open(w));
}

static const struct {
    void (*before)(struct power *w), (*steps)(struct power *w);
} cases[] = {
    {NULL, first_start},       {one_topic, records},           {one_topic, rolls},
    {one_topic, rolls_by_age}, {one_topic, starts_move},       {one_topic, topics_change},
    {one_topic, stops},        {ends_below_its_start, starts}, {off_and_known, deletes_unsynced},
};

static void check_losses(struct power *w, struct shadow *f, uint64_t masks)
{
    int parts = shadow_parts(f);
    uint64_t all = (uint64_t)1 << (parts < 63 ? parts : 63);
    check_loss(w, shadow_kill(f), KILLED);
    for (uint64_t i = 0; i < (all < masks ? all : masks) && !w->why[0]; i++) {
        uint64_t mask = all <= masks ? i : (uint64_t)rand_r(&w->seed) << 16 ^ rand_r(&w->seed);
        check_loss(w, shadow_pick(f, mask), LOSE_ANY_NAME);
    }
    for (unsigned how = LOSE_ALL; how <= LOSE_ANY_NAME && all > masks && !w->why[0]; how++)
        check_loss(w, after(w, f, how), how);
}

/* false: the steps were through before call n. */
static bool lose_at(struct power *w, size_t which, int64_t n, int leave_out)
{
    map_fix_seed(n + 1);
    power_init(w, (unsigned)n);
    w->verify_bytes = n % 2;
    w->trace = env_int("TIDEMARK_POWER_TRACE", 0) != 0;
    shadow_leave_out(w->disk, leave_out);
    if (cases[which].before)
        cases[which].before(w);
    int64_t at = shadow_calls(w->disk) + n;
    shadow_freeze_at(w->disk, at);
    if (!w->why[0])
        cases[which].steps(w);
    bool reached = shadow_is_frozen(w->disk);
    struct shadow *f = frozen(w);
    power_abandon(w);
    if (!w->why[0])
        check_losses(w, f, leave_out < 0 ? MASKS : MASKS_MUTATED);
    shadow_free(f);
    return reached;
}

static int64_t small_cases(struct power *w, int leave_out)
{
    int64_t losses = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int64_t n = 1;; n++) {
            bool more = lose_at(w, i, n, leave_out);
            power_free(w);
            losses += w->losses;
            if (w->why[0])
                return losses;
            if (!more)
                break;
        }
    return losses;
}

TEST(small_cases_lose_power_before_each_call_in_every_way)
{
    struct power w;
    int64_t losses = small_cases(&w, -1);
    CHECK_STR(w.why, "");
    CHECK(losses > 500);
    printf("%lld losses\n", (long long)losses);
}

#define POINT(point) [point] = #point
static const char *const points[SYNC_POINTS] = {
    POINT(SYNC_RECORDS),         POINT(SYNC_SEGMENT_NAME),    POINT(SYNC_START),
    POINT(SYNC_FOUND_START),     POINT(SYNC_CHECKPOINT_NAME), POINT(SYNC_TOPICS),
    POINT(SYNC_TOPICS_NAME),     POINT(SYNC_PARTITION_NAMES), POINT(SYNC_CLUSTER_ID),
    POINT(SYNC_CLUSTER_ID_NAME), POINT(SYNC_FOLDERS_ABOVE),   POINT(SYNC_FOUND_TOPICS),
    POINT(SYNC_RECOVERED),       POINT(SYNC_RECOVERED_NAMES), POINT(SYNC_NEW_START_NAME),
    POINT(SYNC_LATE_NAME),
};

/* The table of mutations. `unit_broker each_sync` prints by what each was found. */
TEST(each_sync_that_is_left_out_is_missed)
{
    int n = env_int("TIDEMARK_POWER_SEEDS", 80);
    for (int point = 0; point < SYNC_POINTS; point++) {
        struct power w = {0};
        int seed = 0;
        NEED(points[point] != NULL);
        if (point == SYNC_CLUSTER_ID || point == SYNC_CLUSTER_ID_NAME)
            continue;
        small_cases(&w, point);
        while (!w.why[0] && seed < n) {
            run(&w, (unsigned)++seed, point);
            power_free(&w);
        }
        printf("%-22s %s %d: %s\n", points[point],
               !w.why[0] ? "NOT MISSED, seeds up to"
               : seed    ? "seed"
                         : "small case",
               seed, w.why);
        CHECK(w.why[0] != 0);
    }
}
