/* Records of the journal into rows. Facts count only by the partition's owner, as in every fold;
 * what tasks do is not kept, since one run is read from the journal itself. Headers tell most; of
 * the values only a few members are looked for, and no tree is built.
 *
 * What a transaction's records say of one run is put together first, and written as one row when it
 * ends: a short run is one insert, with its end, and no index is written twice. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/state.h"
#include "triggers/recwire.h"
#include "view/view_int.h"

static const char tables[] =
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;"
    "CREATE TABLE places(partition INTEGER PRIMARY KEY, next INTEGER, epoch INTEGER, nonce TEXT);"
    "CREATE TABLE runs(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, agent TEXT, version TEXT,"
    " status INTEGER NOT NULL, key TEXT, feed TEXT, partition INTEGER, first INTEGER, last INTEGER,"
    " requested INTEGER, started INTEGER, ended INTEGER, priority INTEGER, fork_of TEXT,"
    " error TEXT, words TEXT);"
    "CREATE INDEX runs_time ON runs(requested, id);"
    "CREATE INDEX runs_agent ON runs(agent, requested, id);"
    "CREATE INDEX runs_status ON runs(status, requested, id);"
    "CREATE INDEX runs_key ON runs(key, requested, id);"
    "CREATE TABLE counts(agent TEXT, status INTEGER, n INTEGER NOT NULL,"
    " PRIMARY KEY(agent, status)) WITHOUT ROWID;"
    "CREATE VIRTUAL TABLE search USING fts5(words, content='runs', content_rowid='n');"
    "CREATE TRIGGER run_new AFTER INSERT ON runs BEGIN"
    " INSERT INTO counts VALUES(new.agent, new.status, 1)"
    "  ON CONFLICT DO UPDATE SET n = n + 1;"
    " INSERT INTO search(rowid, words) VALUES(new.n, new.words); END;"
    "CREATE TRIGGER run_status AFTER UPDATE OF status ON runs WHEN old.status <> new.status BEGIN"
    " UPDATE counts SET n = n - 1 WHERE agent = old.agent AND status = old.status;"
    " INSERT INTO counts VALUES(new.agent, new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1; END;"
    "CREATE TRIGGER run_words AFTER UPDATE OF words ON runs WHEN old.words <> new.words BEGIN"
    " INSERT INTO search(search, rowid, words) VALUES('delete', old.n, old.words);"
    " INSERT INTO search(rowid, words) VALUES(new.n, new.words); END;"
    "CREATE TRIGGER run_gone AFTER DELETE ON runs BEGIN"
    " UPDATE counts SET n = n - 1 WHERE agent = old.agent AND status = old.status;"
    " INSERT INTO search(search, rowid, words) VALUES('delete', old.n, old.words); END;";

static const char *const statements[SQL_COUNT] = {
    /* A repeat of a request changes nothing. */
    [SQL_INSERT] =
        "INSERT INTO runs(id, status, started, last, ended, error, words, agent, version, key,"
        " feed, partition, first, requested, priority, fork_of)"
        " VALUES(?1, ?2, ?3, ?4, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
        " ON CONFLICT DO NOTHING",
    /* What is null stays as it was; ?5: ended and error are new, null or not. */
    [SQL_UPDATE] = "UPDATE runs SET status = coalesce(?2, status), started = coalesce(?3, started),"
                   " last = ?4, ended = iif(?5, ?6, ended), error = iif(?5, ?7, error),"
                   " words = words || ?8 WHERE id = ?1",
    [SQL_PLACE] = "INSERT OR REPLACE INTO places VALUES(?1, ?2, ?3, ?4)",
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_CUT] = "DELETE FROM runs WHERE partition = ?1 AND last < ?2 AND ended IS NOT NULL",
};

/* ---- opening ---- */

static int fail(struct fill *f, const char *what, struct err *e)
{
    int rc = sqlite3_errcode(f->db);
    return err_set(e, rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? -EPROTO : -EIO,
                   "is there space, and may the folder be written to?", "the read model: %s: %s",
                   what, sqlite3_errmsg(f->db));
}

static int run(struct fill *f, const char *sql, struct err *e)
{
    return sqlite3_exec(f->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(f, "can't write", e);
}

/* What the file says it is: "VERSION JOURNAL PARTITIONS"; "" for a new one. */
static int identity(struct fill *f, char *out, size_t size, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int n = 0;
    *out = 0;
    if (sqlite3_prepare_v2(f->db, "SELECT count(*) FROM sqlite_master", -1, &s, NULL) ||
        sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return fail(f, "can't be read", e);
    }
    n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    if (!n)
        return 0;
    if (sqlite3_prepare_v2(f->db, "SELECT v FROM meta WHERE k = 'identity'", -1, &s, NULL) ||
        sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return err_set(e, -EPROTO, NULL, "the read model has no identity");
    }
    (void)snprintf(out, size, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return 0;
}

static int make_tables(struct fill *f, const char *id, struct err *e)
{
    char sql[512];
    (void)snprintf(sql, sizeof sql, "INSERT INTO meta VALUES('identity', '%s')", id);
    int error = run(f, "BEGIN IMMEDIATE", e);
    if (!error)
        error = run(f, tables, e);
    if (!error)
        error = run(f, sql, e);
    return error ? error : run(f, "COMMIT", e);
}

static int prepare(struct fill *f, struct err *e)
{
    for (int i = 0; i < SQL_COUNT; i++)
        if (sqlite3_prepare_v3(f->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &f->v[i], NULL))
            return fail(f, "can't be used", e);
    return 0;
}

int fill_places(struct fill *f)
{
    sqlite3_stmt *s = NULL;
    for (int i = 0; i < f->n; i++) {
        f->places[i].next = 0;
        f->places[i].epoch = -1;
        f->places[i].nonce = 0;
    }
    int rc =
        sqlite3_prepare_v2(f->db, "SELECT partition, next, epoch, nonce FROM places", -1, &s, NULL);
    while (!rc && sqlite3_step(s) == SQLITE_ROW) {
        int p = sqlite3_column_int(s, 0);
        if (p < 0 || p >= f->n)
            continue;
        f->places[p].next = sqlite3_column_int64(s, 1);
        f->places[p].epoch = sqlite3_column_int64(s, 2);
        (void)hex_read_u64(sl_str((const char *)sqlite3_column_text(s, 3)), &f->places[p].nonce);
    }
    sqlite3_finalize(s);
    return rc ? -EIO : 0;
}

int fill_open(struct fill *f, const char *path, const char *journal, int partitions, struct err *e)
{
    char id[300], found[300];
    *f = (struct fill){.n = partitions};
    list_init(&f->rows);
    map_init(&f->by_id);
    (void)snprintf(id, sizeof id, "%s %.200s %d", VIEW_VERSION, journal, partitions);
    if (!(f->places = calloc((size_t)partitions, sizeof *f->places)))
        return err_set(e, -ENOMEM, "give the process more memory", "no memory for the read model");
    if (sqlite3_open_v2(path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL))
        return fail(f, "can't be opened", e);
    sqlite3_busy_timeout(f->db, 5000);
    int error = run(f, "PRAGMA journal_mode = WAL", e);
    if (!error)
        error = run(f,
                    "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000; PRAGMA "
                    "wal_autocheckpoint = 8000",
                    e);
    if (!error)
        error = identity(f, found, sizeof found, e);
    if (!error && !*found)
        error = make_tables(f, id, e);
    else if (!error && strcmp(found, id))
        error = err_set(e, -EPROTO, NULL, "the read model is \"%s\", not \"%s\"", found, id);
    if (!error)
        error = prepare(f, e);
    return error ? error : fill_places(f);
}

/* What this transaction says of a run. */
struct row {
    struct list node;    /* in fill.rows, in the order of their first records */
    struct rec *request; /* NULL: it was requested before */
    struct rec *end;     /* the last fact that ended it; NULL: none, or it began again */
    int status;          /* -1: as it was */
    int64_t started_ms, last;
    bool ends; /* whether it has ended, and how, is to be written */
    char id[RUN_ID_MAX];
};

static void drop_rows(struct fill *f)
{
    struct list *l;
    while ((l = list_pop(&f->rows))) {
        struct row *x = LIST_ENTRY(l, struct row, node);
        rec_unref(x->request);
        rec_unref(x->end);
        free(x);
    }
    map_free(&f->by_id);
    map_init(&f->by_id);
    f->held = 0;
}

void fill_close(struct fill *f)
{
    if (f->rows.next)
        drop_rows(f);
    map_free(&f->by_id);
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(f->v[i]);
    sqlite3_close(f->db);
    free(f->places);
    memset(f, 0, sizeof *f);
}

/* ---- rows ---- */

static int step(struct fill *f, int which)
{
    int rc = sqlite3_step(f->v[which]);
    sqlite3_reset(f->v[which]);
    sqlite3_clear_bindings(f->v[which]);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -EIO;
}

static void bind_text(sqlite3_stmt *s, int at, const char *p, size_t n)
{
    if (p)
        sqlite3_bind_text(s, at, p, (int)n, SQLITE_TRANSIENT);
}

static void bind_some(sqlite3_stmt *s, int at, int64_t v)
{
    if (v >= 0)
        sqlite3_bind_int64(s, at, v);
}

static struct row *row_of(struct fill *f, const struct rec *r)
{
    struct row *x = map_get(&f->by_id, sl_str(r->run));
    if (x || !(x = calloc(1, sizeof *x)))
        return x;
    *x = (struct row){.status = -1, .started_ms = -1};
    memcpy(x->id, r->run, sizeof x->id);
    if (map_put(&f->by_id, sl_str(x->id), x, NULL)) {
        free(x);
        return NULL;
    }
    list_push(&f->rows, &x->node);
    return x;
}

/* A JSON string member, unquoted into `b`. */
static struct slice text_of(struct slice doc, const char *key, struct buf *b)
{
    struct slice v;
    size_t at = b->n;
    if (!js_member(doc, key, &v) || js_unquote(v, b))
        return (struct slice){NULL, 0};
    return sl(b->p + at, b->n - at);
}

static void add_words(struct buf *b, struct slice s)
{
    size_t n = s.n > VIEW_TEXT_MAX ? VIEW_TEXT_MAX : s.n;
    while (n && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--; /* no half of a character */
    buf_addc(b, ' ');
    buf_add(b, s.p, n);
}

/* ?9 and more. `b` keeps the texts until the statement has run. */
static int bind_request(sqlite3_stmt *s, const struct rec *r, int partition, struct buf *b,
                        struct buf *words)
{
    struct slice doc = val_text(r->value), fork, input = {0}, of = {0};
    if (!buf_reserve(b, 2 * r->bytes + 256)) /* its texts must not move */
        return -ENOMEM;
    struct slice agent = text_of(doc, "agent", b), version = text_of(doc, "version", b),
                 key = text_of(doc, "key", b);
    if (js_member(doc, "forkOf", &fork))
        of = text_of(fork, "run", b);
    (void)js_member(doc, "input", &input);
    add_words(words, key);
    add_words(words, input);
    const char *slash = r->src.name ? strrchr(r->src.name, ':') : NULL;
    bind_text(s, 9, agent.p ? agent.p : "", agent.n);
    bind_text(s, 10, version.p, version.n);
    bind_text(s, 11, key.p, key.n);
    if (slash)
        bind_text(s, 12, r->src.name, (size_t)(slash - r->src.name));
    sqlite3_bind_int(s, 13, partition);
    sqlite3_bind_int64(s, 14, r->offset);
    sqlite3_bind_int64(s, 15, r->time_ms);
    sqlite3_bind_int(s, 16, r->priority);
    bind_text(s, 17, of.p, of.n);
    return 0;
}

/* How it ended: ?6, ?7. */
static void bind_end(sqlite3_stmt *s, const struct row *x, struct buf *words)
{
    struct slice doc = val_text(x->end->value), error = {0};
    if (x->end->type == REC_FAULTED)
        (void)js_member(doc, "error", &error);
    if (x->end->type == REC_CANCELLED)
        error = doc;
    if (error.p)
        add_words(words, error);
    sqlite3_bind_int64(s, 6, x->end->time_ms);
    if (error.n <= 4 * VIEW_TEXT_MAX)
        bind_text(s, 7, error.p, error.n);
}

static int write_row(struct fill *f, const struct row *x, bool insert)
{
    int which = insert ? SQL_INSERT : SQL_UPDATE, error = 0;
    sqlite3_stmt *s = f->v[which];
    struct buf b, words;
    buf_init(&b, 1 << 20);
    buf_init(&words, 1 << 14);
    bind_text(s, 1, x->id, strlen(x->id));
    if (insert)
        error = bind_request(s, x->request, run_id_partition(sl_str(x->id)), &b, &words);
    if (insert || x->status >= 0)
        sqlite3_bind_int(s, 2, x->status >= 0 ? x->status : (int)RUN_NONE);
    bind_some(s, 3, x->started_ms);
    sqlite3_bind_int64(s, 4, x->last);
    if (!insert)
        sqlite3_bind_int(s, 5, x->ends);
    if (x->end)
        bind_end(s, x, &words);
    bind_text(s, 8, words.p ? words.p : "", words.n);
    if (!error)
        error = buf_error(&words) == -ENOMEM ? -ENOMEM : step(f, which);
    buf_free(&b);
    buf_free(&words);
    return error;
}

static int write_rows(struct fill *f)
{
    int error = 0;
    LIST_EACH(l, &f->rows)
    {
        const struct row *x = LIST_ENTRY(l, struct row, node);
        bool known = !x->request;
        if (!error && x->request) {
            error = write_row(f, x, true);
            known = sqlite3_changes(f->db) == 0;
        }
        /* Of a repeated request only what came behind it counts. */
        if (!error && known && (x->status >= 0 || x->started_ms >= 0))
            error = write_row(f, x, false);
    }
    drop_rows(f);
    return error;
}

static const struct fact {
    enum rec_type type;
    enum run_status status;
    bool starts, ends;
} facts[] = {{REC_STARTED, RUN_ACTIVE, true, false},  {REC_SUSPENDED, RUN_SUSPENDED, false, false},
             {REC_RESUMED, RUN_ACTIVE, false, false}, {REC_COMPLETED, RUN_COMPLETED, false, true},
             {REC_FAULTED, RUN_FAULTED, false, true}, {REC_CANCELLED, RUN_CANCELLED, false, true}};

static int apply(struct fill *f, struct rec *r)
{
    const struct fact *t = NULL;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (facts[i].type == r->type)
            t = &facts[i];
    if (!t && r->type != REC_REQUESTED)
        return 0;
    struct row *x = row_of(f, r);
    /* What does not go into one row: the end before another beginning or end, facts before a
     * request. */
    bool apart = x && (t ? x->end && (t->starts || t->ends) : !x->request && x->status >= 0);
    int error = apart ? write_rows(f) : 0;
    if (error || !(x = row_of(f, r)))
        return error ? error : -ENOMEM;
    if (!t) {
        if (!x->request) { /* else a repeat */
            x->request = rec_ref(r);
            x->last = r->offset;
        }
        return 0;
    }
    x->status = (int)t->status;
    x->last = r->offset;
    if (t->starts)
        x->started_ms = r->time_ms;
    if (t->starts || t->ends) {
        rec_unref(x->end);
        x->end = t->ends ? rec_ref(r) : NULL;
        x->ends = true;
    }
    return 0;
}

/* Most records are about tasks; they are told by their header before anything else is read. */
static bool of_interest(const struct krec *k)
{
    for (size_t i = 0; i < k->nheaders; i++)
        if (sl_is(k->headers[i].name, "tm-type"))
            return !sl_starts(k->headers[i].value, SL("task.")) &&
                   !sl_is(k->headers[i].value, "part.state") &&
                   !sl_is(k->headers[i].value, "run.snapshot");
    return false;
}

int fill_record(struct fill *f, const struct krec *k)
{
    struct rec *r = NULL;
    if (k->partition < 0 || k->partition >= f->n)
        return 0;
    struct place *p = &f->places[k->partition];
    if (k->offset < p->next)
        return 0;
    int error = f->open ? 0 : step(f, SQL_BEGIN);
    if (error)
        return error;
    f->open = true;
    f->records++;
    f->fresh++;
    if (of_interest(k) && recwire_read(k, &r, NULL) == 0) {
        if (r->type == REC_OWNER) {
            p->epoch = r->offset;
            p->nonce = r->nonce;
        } else if (rec_is_request(r->type) || (r->epoch == p->epoch && r->nonce == p->nonce)) {
            error = apply(f, r);
            f->held += (int64_t)r->bytes;
        }
        rec_unref(r);
    }
    p->next = k->offset + 1;
    if (!error && f->held > FILL_HELD_BYTES)
        error = write_rows(f);
    return error;
}

int fill_cut(struct fill *f, int partition, int64_t low)
{
    int error = !f->open ? step(f, SQL_BEGIN) : write_rows(f);
    if (error)
        return error;
    f->open = true;
    f->places[partition].low = low;
    sqlite3_bind_int(f->v[SQL_CUT], 1, partition);
    sqlite3_bind_int64(f->v[SQL_CUT], 2, low);
    return step(f, SQL_CUT);
}

int fill_commit(struct fill *f)
{
    char nonce[17];
    if (!f->open)
        return 0;
    int error = write_rows(f);
    for (int i = 0; i < f->n && !error; i++) {
        sqlite3_stmt *s = f->v[SQL_PLACE];
        hex_u64(nonce, f->places[i].nonce);
        sqlite3_bind_int(s, 1, i);
        sqlite3_bind_int64(s, 2, f->places[i].next);
        sqlite3_bind_int64(s, 3, f->places[i].epoch);
        bind_text(s, 4, nonce, 16);
        error = step(f, SQL_PLACE);
    }
    if (!error)
        error = step(f, SQL_COMMIT);
    if (!error) {
        f->open = false;
        f->fresh = 0;
    }
    return error;
}

void fill_rollback(struct fill *f)
{
    drop_rows(f);
    if (f->open)
        (void)step(f, SQL_ROLLBACK);
    f->open = false;
    f->fresh = 0;
}
