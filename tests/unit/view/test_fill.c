/* Records into rows: however they are cut into transactions, the rows are the same. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ids.h"
#include "triggers/recwire.h"
#include "unit.h"
#include "view/view_int.h"

SUITE("view fill")

#define PARTITIONS 2
#define RUNS       12
#define RECORDS    400

/* A journal: runs are requested (some twice), begin, stop, go on, end, and begin again; a former
 * owner's facts among them. */
struct journal {
    struct rec *v[RECORDS];
    struct recwire w[RECORDS];
    struct krec k[RECORDS];
    size_t n;
    int64_t end[PARTITIONS], epoch[PARTITIONS];
};

static void append(struct journal *j, struct rec *r, int partition)
{
    size_t i = j->n++;
    NEED(i < RECORDS && r);
    r->offset = j->end[partition]++;
    r->time_ms = 1700000000000 + (int64_t)i * 1000;
    NEED(recwire_make(&j->w[i], r, "t", partition, &j->k[i]) == 0);
    j->k[i].offset = r->offset;
    j->k[i].time_ms = r->time_ms;
    j->k[i].partition = partition;
    j->v[i] = r;
}

static void run_of(int n, char id[RUN_ID_MAX])
{
    char name[16];
    (void)snprintf(name, sizeof name, "run%d", n);
    run_id_make(id, n % PARTITIONS, SL("t/a"), SL("api"), SL("test"), sl_str(name));
}

static void owner(struct journal *j, int partition)
{
    struct rec *r = rec_new(REC_OWNER, NULL);
    r->nonce = (uint64_t)j->end[partition] + 7;
    r->value = val_text_new(SL("{\"node\":\"n\",\"url\":\"\",\"version\":\"1\",\"bootId\":\"b\"}"));
    j->epoch[partition] = j->end[partition];
    append(j, r, partition);
}

static void request(struct journal *j, int n, int turn)
{
    char id[RUN_ID_MAX], text[256];
    run_of(n, id);
    struct rec *r = rec_new(REC_REQUESTED, id);
    (void)snprintf(text, sizeof text,
                   "{\"agent\":\"t/%c\",\"version\":\"1.0.0\",\"key\":\"k%d\",\"input\":{\"word\":"
                   "\"in%dput%d\"}}",
                   'a' + n % 3, n, n, turn);
    r->value = val_text_new(sl_str(text));
    r->uuid = strdup(text);
    r->agent = strdup("hash");
    append(j, r, n % PARTITIONS);
}

static void fact(struct journal *j, int n, enum rec_type type, bool former)
{
    char id[RUN_ID_MAX], text[128];
    int p = n % PARTITIONS;
    run_of(n, id);
    struct rec *r = rec_new(type, id);
    r->epoch = j->epoch[p];
    r->nonce = (uint64_t)j->epoch[p] + (former ? 8 : 7);
    (void)snprintf(text, sizeof text,
                   type == REC_CANCELLED
                       ? "{\"reason\":\"because%d\"}"
                       : "{\"output\":%d,\"next\":null,\"error\":{\"title\":\"oh\"}}",
                   n);
    r->value = val_text_new(sl_str(text));
    append(j, r, p);
}

static void make(struct journal *j, unsigned seed)
{
    static const enum rec_type types[] = {REC_STARTED,   REC_SUSPENDED, REC_RESUMED,
                                          REC_COMPLETED, REC_FAULTED,   REC_CANCELLED};
    memset(j, 0, sizeof *j);
    srandom(seed);
    for (int p = 0; p < PARTITIONS; p++)
        owner(j, p);
    for (int n = 0; n < RUNS / 2; n++)
        request(j, n, 0);
    while (j->n < RECORDS) {
        int n = (int)(random() % RUNS), what = (int)(random() % 20);
        if (what == 0)
            owner(j, n % PARTITIONS);
        else if (what < 4)
            request(j, n, (int)j->n);
        else
            fact(j, n, types[random() % 6], what == 4);
    }
}

static void drop(struct journal *j)
{
    for (size_t i = 0; i < j->n; i++) {
        recwire_free(&j->w[i]);
        rec_unref(j->v[i]);
    }
}

/* ---- what is in the file ---- */

static int add_row(void *arg, int n, char **v, char **names)
{
    (void)names;
    for (int i = 0; i < n; i++)
        buf_addf(arg, "%s|", v[i] ? v[i] : "NULL");
    return buf_addc(arg, '\n');
}

static char *dump(struct fill *f)
{
    static const char *const questions[] = {
        "SELECT id, agent, version, status, key, feed, partition, first, last, requested, started,"
        " ended, priority, fork_of, error, words, spans FROM runs ORDER BY id",
        "SELECT id, partition, last, spans FROM orphans ORDER BY id",
        "SELECT agent, status, partition, n FROM counts WHERE n <> 0 ORDER BY 1, 2, 3",
        "SELECT r.id FROM search JOIN runs r ON r.n = search.rowid WHERE search MATCH 'oh' ORDER "
        "BY 1",
        "SELECT r.id FROM search JOIN runs r ON r.n = search.rowid WHERE search MATCH 'because*'"
        " ORDER BY 1",
        "INSERT INTO search(search) VALUES('integrity-check')"};
    struct buf b;
    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        NEED(sqlite3_exec(f->db.db, questions[i], add_row, &b, NULL) == SQLITE_OK);
    char *text = buf_take(&b);
    NEED(text != NULL);
    return text;
}

/* A file of its own; `path` is mkstemp's template. */
static void open_new(struct fill *f, char *path)
{
    struct err e = {0};
    int fd = mkstemp(path);
    NEED(fd >= 0);
    close(fd);
    NEED(fill_open(f, path, "journal", PARTITIONS, &e) == 0);
}

/* Reads the whole journal; what is below the places is passed over. */
static void read_all(struct fill *f, struct journal *j)
{
    for (size_t i = 0; i < j->n; i++)
        NEED(fill_record(f, &j->k[i]) == 0);
    NEED(fill_commit(f) == 0);
}

/* every: commits after so many records, 0: at random; at random some are rolled back and read
 * again. The caller frees. */
static char *filled(struct journal *j, size_t every, bool rolls_back)
{
    char path[] = "/tmp/tm_fill_XXXXXX";
    struct fill f;
    open_new(&f, path);
    for (size_t i = 0; i < j->n; i++) {
        NEED(fill_record(&f, &j->k[i]) == 0);
        if (rolls_back && random() % 20 == 0) {
            fill_rollback(&f);
            NEED(fill_places(&f) == 0);
            for (size_t k = 0; k <= i; k++) /* what is below the places is passed over */
                NEED(fill_record(&f, &j->k[k]) == 0);
        }
        if (every ? i % every == every - 1 : random() % 9 == 0)
            NEED(fill_commit(&f) == 0);
    }
    NEED(fill_commit(&f) == 0);
    char *text = dump(&f);
    fill_close(&f);
    unlink(path);
    return text;
}

TEST(rows_are_the_same_however_records_are_cut_into_transactions)
{
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct journal j;
        make(&j, seed);
        char *one = filled(&j, 1, false);
        CHECK(strstr(one, "because") && strstr(one, "|k3|"));
        for (size_t k = 0; k < 4; k++) {
            char *other = filled(&j, (size_t[]){7, 100, RECORDS, 0}[k], k == 3);
            CHECK_STR(other, one);
            free(other);
        }
        free(one);
        drop(&j);
    }
}

TEST(what_waits_to_be_written_is_bounded_and_cutting_sees_it)
{
    struct journal j;
    struct fill f;
    char path[] = "/tmp/tm_fill_XXXXXX";
    make(&j, 3);
    open_new(&f, path);
    for (size_t i = 0; i < j.n; i++) {
        NEED(fill_record(&f, &j.k[i]) == 0);
        CHECK(f.by_id.n <= RUNS);
        if (i == 100) {
            f.held = FILL_HELD_BYTES;
            NEED(f.by_id.n > 0);
        }
        if (i == 101)
            CHECK_INT(f.by_id.n, 0);
    }
    NEED(fill_cut(&f, 0, INT64_MAX) == 0 && fill_cut(&f, 1, INT64_MAX) == 0);
    NEED(fill_commit(&f) == 0);
    char *text = dump(&f);
    for (int n = 0; n < RUNS; n++) { /* those that have ended are gone */
        char id[RUN_ID_MAX];
        run_of(n, id);
        const char *at = strstr(text, id), *line = at ? strchr(at, '\n') : NULL;
        CHECK(!line || memmem(at, (size_t)(line - at), "|3|k", 4) == NULL);
    }
    free(text);
    fill_close(&f);
    unlink(path);
    drop(&j);
}

/* How many lines behind the first begin with a run id of the partition. */
static int lines_of(const char *text, int partition)
{
    char begin[8];
    int n = 0;
    (void)snprintf(begin, sizeof begin, "\n%04x", partition);
    for (const char *at = text; (at = strstr(at, begin)); at++)
        n++;
    return n;
}

TEST(a_partition_that_is_dropped_leaves_nothing_and_can_be_made_again)
{
    struct journal j;
    struct fill f;
    char path[] = "/tmp/tm_fill_XXXXXX";
    make(&j, 5);
    open_new(&f, path);
    read_all(&f, &j);
    char *whole = dump(&f);
    CHECK(lines_of(whole, 1) > RUNS / 4);
    NEED(fill_drop(&f, 1) == 0 && fill_commit(&f) == 0);
    char *less = dump(&f);
    CHECK_INT(lines_of(less, 1), 0);
    CHECK(lines_of(less, 0) > RUNS / 4);
    CHECK(!strstr(less, "|1|1|\n") && strstr(less, "|0|1|\n")); /* counts: partition, number */
    NEED(fill_places(&f) == 0);
    CHECK_INT(f.places[1].next, 0);
    CHECK_INT(f.places[0].next, j.end[0]);
    read_all(&f, &j);
    char *again = dump(&f);
    CHECK_STR(again, whole);
    free(whole);
    free(less);
    free(again);
    fill_close(&f);
    unlink(path);
    drop(&j);
}

TEST(agents_with_long_names_are_counted_apart)
{
    struct vdb t;
    struct err e = {0};
    char path[] = "/tmp/tm_fill_XXXXXX", name[2][600], id[RUN_ID_MAX];
    int fd = mkstemp(path), n = 0;
    NEED(fd >= 0);
    close(fd);
    NEED(vdb_open(&t, path, "test", &e) == 0 && vdb_begin(&t) == 0);
    for (int i = 0; i < 2; i++) { /* the same but for their last character */
        bool fresh = false;
        memset(name[i], 'n', sizeof name[i]);
        name[i][sizeof name[i] - 1] = (char)('a' + i);
        run_of(i, id);
        struct run_row x = {.id = id,
                            .status = 1,
                            .agent = sl(name[i], sizeof name[i]),
                            .spans = &(struct spans){0}};
        NEED(vdb_insert(&t, &x, &fresh) == 0 && fresh);
    }
    NEED(vdb_commit(&t) == 0);
    sqlite3_stmt *s = NULL;
    NEED(sqlite3_prepare_v2(t.db, "SELECT n FROM counts", -1, &s, NULL) == SQLITE_OK);
    for (; sqlite3_step(s) == SQLITE_ROW; n++)
        CHECK_INT(sqlite3_column_int(s, 0), 1);
    CHECK_INT(n, 2);
    sqlite3_finalize(s);
    vdb_close(&t);
    unlink(path);
}
