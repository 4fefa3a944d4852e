/* See power.h. */
#include "power.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define DATA_DIR "/srv/new/data"

static const struct {
    const char *name, *value;
} settings[][2] = {
    {{0}},
    {{"retention.bytes", "5000"}},
    {{"segment.ms", "30000"}, {"retention.bytes", "9000"}},
    {{"segment.ms", "20000"}, {"retention.ms", "60000"}},
};
#define SETTINGS ((int)(sizeof settings / sizeof *settings))

void power_init(struct power *w, unsigned seed)
{
    *w = (struct power){.seed = seed * 2654435761u + 1, .now_ms = T0, .next_tag = 1, .max_pid = -1};
    w->disk = shadow_new();
}

void power_free(struct power *w)
{
    power_abandon(w);
    w->disk = shadow_free(w->disk);
    for (int t = 0; t < POWER_TOPICS; t++)
        for (int p = 0; p < POWER_PARTS; p++)
            free(w->topics[t].parts[p].v);
}

void power_copy(struct power *w, const struct power *from, struct shadow *disk)
{
    *w = *from;
    w->disk = disk;
    w->s = NULL;
    for (int t = 0; t < POWER_TOPICS; t++)
        for (int p = 0; p < POWER_PARTS; p++) {
            struct power_part *m = &w->topics[t].parts[p];
            const struct power_rec *v = m->v;
            m->cap = m->n;
            m->v = malloc((size_t)(m->n + 1) * sizeof *m->v);
            NEED(m->v != NULL);
            if (m->n)
                memcpy(m->v, v, (size_t)m->n * sizeof *m->v);
        }
}

unsigned power_rand(struct power *w, unsigned below)
{
    return (unsigned)rand_r(&w->seed) % below;
}

void power_bad(struct power *w, const char *fmt, ...)
{
    va_list ap;
    if (w->why[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, ap);
    va_end(ap);
}

/* One step, when a seed is looked at closely. */
static void say(struct power *w, const char *fmt, ...)
{
    va_list ap;
    if (!w->trace)
        return;
    va_start(ap, fmt);
    fprintf(stderr, "%5lld ", (long long)shadow_calls(w->disk));
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

/* A call failed: that breaks no promise when the disk did. */
static void failed(struct power *w, const char *what, const char *why)
{
    if (shadow_failed(w->disk))
        w->refused = true;
    else
        power_bad(w, "%s: %s", what, why);
}

bool power_open(struct power *w)
{
    say(w, "open");
    struct err e = {0};
    struct store_opts o = {.dir = DATA_DIR,
                           .segment_bytes = 3000,
                           .sync = w->sync,
                           .sync_threads = 1,
                           .verify_bytes = w->verify_bytes,
                           .files = shadow_ops(w->disk)};
    w->s = store_open(&o, &e);
    if (!w->s)
        failed(w, "the start was refused", e.msg);
    shadow_gate(w->disk, false);
    return w->s != NULL;
}

void power_abandon(struct power *w)
{
    if (!w->s)
        return;
    shadow_gate(w->disk, true);
    w->s = store_close(w->s);
}

static void topic_name(int t, char name[static 16])
{
    snprintf(name, 16, "t%d", t);
}

static struct topic *topic_of(struct store *s, int t)
{
    char name[16];
    topic_name(t, name);
    return store_topic(s, sl_str(name));
}

/* Records: the tag in hex, then a letter that depends on it. */
static void value_of(struct power_rec r, char *to)
{
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)r.tag);
    for (uint32_t i = 0; i < r.size; i++)
        to[i] = i < 16 ? hex[i] : (char)('a' + r.tag % 26);
}

static void make(struct power *w, struct buf *b, uint64_t tag, int n, uint32_t size, int64_t pid)
{
    struct plog_record v[8];
    char *room = malloc((size_t)n * size);
    NEED(room != NULL && n <= 8);
    for (int i = 0; i < n; i++) {
        value_of((struct power_rec){tag + (uint64_t)i, size}, room + (size_t)i * size);
        v[i] = (struct plog_record){SL("key"), sl(room + (size_t)i * size, size), false};
    }
    batch_build(b, v, (size_t)n, w->now_ms);
    if (pid >= 0) {
        save64(b->p + 43, pid);
        save16(b->p + 51, 0);
        save32(b->p + 53, 0);
        seal_batch(b->p, b->n);
    }
    free(room);
}

/* Checks. */
struct walk {
    struct power *w;
    const struct power_part *m;
    const char *what;
    int64_t next;
};

static int check_record(void *arg, int64_t offset, struct slice key, struct slice value,
                        bool null_value)
{
    struct walk *k = arg;
    char want[8192];
    if (offset != k->next || offset >= k->m->n) {
        power_bad(k->w, "%s: offset %lld seen, %lld expected of %lld", k->what, (long long)offset,
                  (long long)k->next, (long long)k->m->n);
        return 1;
    }
    struct power_rec r = k->m->v[offset];
    value_of(r, want);
    if (value.n != r.size || memcmp(value.p, want, r.size) != 0) {
        power_bad(k->w, "%s: another record at offset %lld", k->what, (long long)offset);
        return 1;
    }
    k->next++;
    return 0;
}

static void check_start(struct power *w, const struct power_part *m, const struct plog *p, int t,
                        int i)
{
    int64_t most = m->start;
    if (w->doing.what == TICKING)
        most = m->n;
    if (w->doing.what == CUTTING && w->doing.topic == t && w->doing.part == i)
        most = w->doing.value;
    if (p->start < m->start)
        power_bad(w, "t%d-%d: deleted records are back: the start is %lld, was %lld", t, i,
                  (long long)p->start, (long long)m->start);
    if (p->start > most &&
        !(w->any_names && (w->sync != STORE_SYNC_ALWAYS || p->start >= m->acked)))
        power_bad(w, "t%d-%d: the start is %lld, nobody asked for more than %lld", t, i,
                  (long long)p->start, (long long)most);
}

static void check_part(struct power *w, struct power_part *m, struct plog *p, int t, int i,
                       bool adopt)
{
    char what[32];
    snprintf(what, sizeof what, "t%d-%d", t, i);
    if (p->failed || p->end != p->durable_end)
        power_bad(w, "%s: not usable", what);
    check_start(w, m, p, t, i);
    if (w->sync == STORE_SYNC_ALWAYS && p->end < m->acked)
        power_bad(w, "%s: ends at %lld, acknowledged up to %lld", what, (long long)p->end,
                  (long long)m->acked);
    struct walk k = {w, m, what, p->start};
    int rc = plog_each(p, p->start, check_record, &k);
    if (rc < 0)
        power_bad(w, "%s: unreadable at offset %lld: %s", what, (long long)k.next, strerror(-rc));
    if (k.next != p->end)
        power_bad(w, "%s: reads end at %lld, not %lld", what, (long long)k.next, (long long)p->end);
    int64_t offset, ms;
    if (plog_max_time(p, &offset, &ms) < 0)
        power_bad(w, "%s: no largest time", what);
    if (!adopt)
        return;
    m->start = p->start;
    m->acked = p->end;
    m->n = p->end;
    if (m->pid_base + m->pid_n > p->end || m->pid_base < p->start)
        m->pid_n = 0;
}

static bool has_settings(const struct topic *t, int which)
{
    struct map *config = (struct map *)(uintptr_t)&t->config;
    size_t n = 0;
    for (int i = 0; i < 2 && settings[which][i].name; i++, n++) {
        const char *v = map_get(config, sl_str(settings[which][i].name));
        if (!v || strcmp(v, settings[which][i].value) != 0)
            return false;
    }
    return config->n == n;
}

static void check_topic(struct power *w, struct store *s, int t, bool adopt)
{
    struct power_topic *m = &w->topics[t];
    struct topic *topic = topic_of(s, t);
    bool mine = w->doing.topic == t;
    if (!topic) {
        if (m->there && !(w->doing.what == DELETING && mine))
            power_bad(w, "topic t%d is gone", t);
        if (adopt)
            m->there = false;
        return;
    }
    if (!m->there && !(w->doing.what == CREATING && mine)) {
        power_bad(w, "topic t%d is back", t);
        return;
    }
    if (m->there && memcmp(m->id, topic->id, sizeof m->id) != 0)
        power_bad(w, "topic t%d is another one", t);
    int want = m->there ? m->nparts : (int)w->doing.value;
    if (topic->npartitions != want &&
        !(w->doing.what == GROWING && mine && topic->npartitions == want + 1))
        power_bad(w, "topic t%d has %d partitions, not %d", t, topic->npartitions, want);
    int set = m->there ? m->settings : w->doing.settings;
    bool changed = w->doing.what == CONFIGURING && mine && has_settings(topic, w->doing.settings);
    if (!changed && !has_settings(topic, set))
        power_bad(w, "topic t%d has other settings", t);
    if (w->why[0])
        return;
    if (adopt && !m->there)
        memset(m->id, 0, sizeof m->id);
    struct power_part none = {0};
    for (int i = 0; i < topic->npartitions; i++)
        check_part(w, m->there && i < m->nparts ? &m->parts[i] : &none, topic->parts[i], t, i,
                   adopt);
    if (!adopt)
        return;
    for (int i = m->there ? m->nparts : 0; i < topic->npartitions; i++) {
        free(m->parts[i].v);
        m->parts[i] = none;
    }
    m->there = true;
    memcpy(m->id, topic->id, sizeof m->id);
    m->nparts = topic->npartitions;
    m->settings = changed ? w->doing.settings : set;
}

void power_check(struct power *w, struct store *s, bool adopt)
{
    w->losses++;
    for (int t = 0; t < POWER_TOPICS && !w->why[0]; t++)
        check_topic(w, s, t, adopt);
    if (s->next_pid <= w->max_pid)
        power_bad(w, "producer id %lld would be given again", (long long)w->max_pid);
    if (!adopt)
        return;
    w->doing.what = IDLE;
    w->any_names = false;
}

/* Steps. */
static bool seen(struct power *w)
{
    return !w->refused && !shadow_is_frozen(w->disk);
}

static void notice(struct power *w)
{
    for (int t = 0; t < POWER_TOPICS; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++)
            w->topics[t].parts[i].acked = topic->parts[i]->durable_end;
    }
}

static void reserve(struct power_part *m, int64_t n)
{
    if (n <= m->cap)
        return;
    m->cap = n * 2;
    m->v = realloc(m->v, (size_t)m->cap * sizeof *m->v);
    NEED(m->v != NULL);
}

static struct append_result send(struct power *w, struct plog *p, uint64_t tag, int n,
                                 uint32_t size, int64_t pid)
{
    struct buf b;
    struct append_result r;
    buf_init(&b, (size_t)1 << 20);
    make(w, &b, tag, n, size, pid);
    plog_append(p, b.p, b.n, w->now_ms, &r);
    buf_free(&b);
    return r;
}

void power_append(struct power *w, int topic, int part, int n, uint32_t size, bool producer)
{
    struct plog *p = topic_of(w->s, topic)->parts[part];
    struct power_part *m = &w->topics[topic].parts[part];
    int64_t base = p->end, pid = producer ? 1000000 + (int64_t)w->next_tag : -1;
    reserve(m, base + n);
    for (int i = 0; i < n; i++)
        m->v[base + i] = (struct power_rec){w->next_tag + (uint64_t)i, size};
    m->n = base + n;
    say(w, "append t%d-%d base=%lld n=%d size=%u", topic, part, (long long)base, n, size);
    struct append_result r = send(w, p, w->next_tag, n, size, pid);
    if (r.error)
        failed(w, "append refused", r.why);
    if (producer && m->acked >= m->pid_base + m->pid_n) {
        m->pid = pid;
        m->pid_base = base;
        m->pid_n = n;
        m->pid_tag = w->next_tag;
        m->pid_size = size;
    }
    w->next_tag += (uint64_t)n;
    if (seen(w))
        notice(w);
}

void power_retry_producers(struct power *w)
{
    for (int t = 0; t < POWER_TOPICS && !w->why[0]; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++) {
            struct power_part *m = &w->topics[t].parts[i];
            if (m->pid_n == 0 || m->pid_base < m->start || m->pid_base + m->pid_n > m->acked)
                continue;
            struct append_result r =
                send(w, topic->parts[i], m->pid_tag, m->pid_n, m->pid_size, m->pid);
            if (r.error || !r.duplicate || r.base_offset != m->pid_base)
                power_bad(w, "t%d-%d: a batch sent again is no duplicate: error %d, offset %lld", t,
                          i, r.error, (long long)r.base_offset);
        }
    }
}

static bool job_is_out(struct power *w)
{
    bool out = false;
    pthread_mutex_lock(&w->s->lock);
    for (int t = 0; t < POWER_TOPICS; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++)
            out |= topic->parts[i]->job.out && !topic->parts[i]->job.returned;
    }
    pthread_mutex_unlock(&w->s->lock);
    return out;
}

static void on_durable(void *arg, struct plog *p)
{
}

/* The worker stands at the gate or has nothing to do. */
static bool settle(struct power *w)
{
    bool out;
    while ((out = job_is_out(w)) && !shadow_waiting(w->disk))
        sched_yield();
    return out;
}

void power_poll(struct power *w)
{
    say(w, "poll");
    settle(w);
    store_poll(w->s, on_durable, NULL);
    if (seen(w))
        notice(w);
}

void power_ticket(struct power *w)
{
    say(w, "ticket");
    if (settle(w))
        shadow_ticket(w->disk);
}

static bool all_durable(struct power *w)
{
    bool all = !job_is_out(w);
    for (int t = 0; t < POWER_TOPICS; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++)
            all &= topic->parts[i]->durable_end == topic->parts[i]->end || topic->parts[i]->failed;
    }
    return all;
}

/* A job that found no descriptor waits for the tick. False: it does not get one now either. A job
 * that came back in this moment is still to be collected, so it counts as out. */
static bool push_again(struct power *w)
{
    bool out = false;
    store_poll(w->s, on_durable, NULL);
    for (int t = 0; t < POWER_TOPICS; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++) {
            sync_push(topic->parts[i]);
            out |= topic->parts[i]->job.out;
        }
    }
    return out || all_durable(w);
}

void power_wait(struct power *w)
{
    say(w, "wait");
    shadow_gate(w->disk, true);
    for (;;) {
        store_poll(w->s, on_durable, NULL);
        if (all_durable(w) || (!job_is_out(w) && !push_again(w)))
            break;
        sched_yield();
    }
    shadow_gate(w->disk, false);
    if (seen(w))
        notice(w);
}

static size_t settings_of(int which, struct slice v[2][2])
{
    size_t n = 0;
    for (; n < 2 && settings[which][n].name; n++) {
        v[n][0] = sl_str(settings[which][n].name);
        v[n][1] = sl_str(settings[which][n].value);
    }
    return n;
}

void power_create(struct power *w, int topic, int nparts, int set)
{
    struct power_topic *m = &w->topics[topic];
    struct topic *made;
    struct slice v[2][2];
    struct err e = {0};
    char name[16];
    topic_name(topic, name);
    size_t n = settings_of(set, v);
    say(w, "create t%d parts=%d settings=%d", topic, nparts, set);
    w->doing.what = CREATING;
    w->doing.topic = topic;
    w->doing.settings = set;
    w->doing.value = nparts;
    if (store_topic_create(w->s, sl_str(name), nparts, (const struct slice(*)[2])v, n, &made, &e) <
        0)
        failed(w, "not created", e.msg);
    if (!seen(w) || w->why[0])
        return;
    w->doing.what = IDLE;
    m->there = true;
    m->nparts = nparts;
    m->settings = set;
    memcpy(m->id, made->id, sizeof m->id);
    for (int i = 0; i < POWER_PARTS; i++) {
        free(m->parts[i].v);
        m->parts[i] = (struct power_part){0};
    }
}

void power_delete(struct power *w, int topic)
{
    struct err e = {0};
    char name[16];
    topic_name(topic, name);
    say(w, "delete t%d", topic);
    power_wait(w); /* so that a seed is the same each time: deletion waits for the worker */
    shadow_gate(w->disk, true);
    w->doing.what = DELETING;
    w->doing.topic = topic;
    if (store_topic_delete(w->s, sl_str(name), &e) < 0)
        failed(w, "not deleted", e.msg);
    shadow_gate(w->disk, false);
    if (!seen(w))
        return;
    w->doing.what = IDLE;
    w->topics[topic].there = false;
}

void power_grow(struct power *w, int topic)
{
    struct power_topic *m = &w->topics[topic];
    struct err e = {0};
    say(w, "grow t%d", topic);
    w->doing.what = GROWING;
    w->doing.topic = topic;
    if (store_topic_grow(w->s, topic_of(w->s, topic), m->nparts + 1, &e) < 0)
        failed(w, "not grown", e.msg);
    if (!seen(w))
        return;
    w->doing.what = IDLE;
    free(m->parts[m->nparts].v);
    m->parts[m->nparts++] = (struct power_part){0};
}

void power_configure(struct power *w, int topic, int set)
{
    struct slice v[2][2];
    struct err e = {0};
    size_t n = settings_of(set, v);
    say(w, "configure t%d settings=%d", topic, set);
    w->doing.what = CONFIGURING;
    w->doing.topic = topic;
    w->doing.settings = set;
    if (store_topic_configure(w->s, topic_of(w->s, topic), (const struct slice(*)[2])v, n, false,
                              &e) < 0)
        failed(w, "not configured", e.msg);
    if (!seen(w))
        return;
    w->doing.what = IDLE;
    w->topics[topic].settings = set;
}

void power_cut(struct power *w, int topic, int part, int64_t offset)
{
    struct power_part *m = &w->topics[topic].parts[part];
    int64_t start;
    say(w, "cut t%d-%d at=%lld", topic, part, (long long)offset);
    w->doing.what = CUTTING;
    w->doing.topic = topic;
    w->doing.part = part;
    w->doing.value = offset;
    int rc = plog_delete_to(topic_of(w->s, topic)->parts[part], offset, &start);
    if (rc < 0)
        failed(w, "records not deleted", strerror(-rc));
    if (!seen(w))
        return;
    w->doing.what = IDLE;
    m->start = start;
}

void power_tick(struct power *w, int64_t later_ms)
{
    say(w, "tick later=%lld", (long long)later_ms);
    w->now_ms += later_ms;
    w->doing.what = TICKING;
    store_tick(w->s, w->now_ms);
    if (!seen(w))
        return;
    w->doing.what = IDLE;
    for (int t = 0; t < POWER_TOPICS; t++) {
        struct topic *topic = topic_of(w->s, t);
        for (int i = 0; topic && i < topic->npartitions; i++)
            w->topics[t].parts[i].start = topic->parts[i]->start;
    }
}

void power_new_pid(struct power *w)
{
    int64_t pid;
    say(w, "producer id");
    int rc = store_new_producer_id(w->s, &pid);
    if (rc < 0)
        failed(w, "no producer id", strerror(-rc));
    else if (seen(w))
        w->max_pid = pid;
}

static void begin_again(struct power *w)
{
    if (power_open(w) && seen(w))
        power_check(w, w->s, true);
    if (w->why[0] && shadow_failed(w->disk)) { /* it could not read: the disk's fault */
        w->why[0] = 0;
        w->refused = true;
    }
}

void power_restart(struct power *w)
{
    say(w, "restart");
    power_wait(w);
    power_abandon(w);
    if (seen(w))
        begin_again(w);
}

void power_kill(struct power *w)
{
    say(w, "kill");
    settle(w);
    struct shadow *left = shadow_kill(w->disk);
    power_abandon(w);
    shadow_free(w->disk);
    w->disk = left;
    begin_again(w);
}

static void step_on_topic(struct power *w, int t, unsigned what)
{
    struct power_topic *m = &w->topics[t];
    int part = m->there ? (int)power_rand(w, (unsigned)m->nparts) : 0;
    if (!m->there)
        power_create(w, t, 1 + (int)power_rand(w, POWER_PARTS), (int)power_rand(w, SETTINGS));
    else if (what < 50)
        power_append(w, t, part, 1 + (int)power_rand(w, 4),
                     16 + power_rand(w, what < 5 ? 3000 : 300), what % 3 == 0);
    else if (what < 53)
        power_delete(w, t);
    else if (what < 56)
        power_configure(w, t, (int)power_rand(w, SETTINGS));
    else if (what < 58 && m->nparts < POWER_PARTS)
        power_grow(w, t);
    else if (what < 62 && m->parts[part].acked > m->parts[part].start)
        power_cut(w, t, part,
                  m->parts[part].start + 1 +
                      (int64_t)power_rand(w,
                                          (unsigned)(m->parts[part].acked - m->parts[part].start)));
}

void power_step(struct power *w)
{
    settle(w); /* the worker's syncs begin before what this step writes */
    unsigned what = power_rand(w, 100);
    if (what < 62)
        step_on_topic(w, (int)power_rand(w, POWER_TOPICS), what);
    else if (what < 72)
        power_ticket(w);
    else if (what < 82)
        power_poll(w);
    else if (what < 88)
        power_wait(w);
    else if (what < 94)
        power_tick(w, power_rand(w, 15000));
    else if (what < 96)
        power_new_pid(w);
    else if (what < 98)
        power_restart(w);
    else
        power_retry_producers(w);
}
