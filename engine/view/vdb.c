/* The tables of the read model: opening them, one run's row with its words and counts, places. One
 * thread, one transaction at a time.
 *
 * There are no triggers: a statement that writes more than one row keeps a journal of its own of
 * every page that it touches, which cost more than the rest. So search words are statements of
 * their own, and counts are put together in memory and written when the transaction ends. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "view/view_int.h"

#define SPANS_TEXT_MAX (SPANS_MAX * 96)

static const char tables[] =
    "CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;"
    "CREATE TABLE places(partition INTEGER PRIMARY KEY, next INTEGER, epoch INTEGER, nonce TEXT);"
    "CREATE TABLE runs(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, agent TEXT, version TEXT,"
    " status INTEGER NOT NULL, key TEXT, feed TEXT, partition INTEGER, first INTEGER, last INTEGER,"
    " requested INTEGER, started INTEGER, ended INTEGER, priority INTEGER, fork_of TEXT,"
    " error TEXT, words TEXT, spans TEXT);"
    "CREATE INDEX runs_time ON runs(requested, id);"
    "CREATE INDEX runs_agent ON runs(agent, requested, id);"
    "CREATE INDEX runs_status ON runs(status, requested, id);"
    "CREATE INDEX runs_key ON runs(key, requested, id);"
    "CREATE INDEX runs_place ON runs(partition, last);"
    /* Records of runs without a row: so a run that is in neither table has none. */
    "CREATE TABLE orphans(id TEXT PRIMARY KEY, partition INTEGER, last INTEGER, spans TEXT)"
    " WITHOUT ROWID;"
    "CREATE TABLE counts(agent TEXT, status INTEGER, partition INTEGER, n INTEGER NOT NULL,"
    " PRIMARY KEY(agent, status, partition)) WITHOUT ROWID;"
    "CREATE VIRTUAL TABLE search USING fts5(words, content='runs', content_rowid='n');";

static const char *const statements[SQL_COUNT] = {
    /* A repeat of a request changes nothing. */
    [SQL_INSERT] = "INSERT INTO runs(id, status, started, last, ended, error, words, agent,"
                   " version, key, feed, partition, first, requested, priority, fork_of,"
                   " spans)"
                   " VALUES(?1, ?2, ?3, ?4, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,"
                   " ?17, ?18)"
                   " ON CONFLICT DO NOTHING",
    [SQL_FIND] = "SELECT n, agent, status, partition, words, spans FROM runs WHERE id = ?1",
    /* What is null stays as it was; ?5: ended and error are new, null or not. */
    [SQL_UPDATE] = "UPDATE runs SET status = coalesce(?2, status), started = coalesce(?3, started),"
                   " last = ?4, ended = iif(?5, ?6, ended), error = iif(?5, ?7, error),"
                   " words = words || ?8, spans = ?9 WHERE n = ?1",
    [SQL_SPANS] = "UPDATE runs SET spans = ?2 WHERE n = ?1", /* no index is touched */
    [SQL_ORPHAN] = "INSERT OR REPLACE INTO orphans VALUES(?1, ?2, ?3, ?4)",
    [SQL_ORPHAN_FIND] = "SELECT spans FROM orphans WHERE id = ?1",
    [SQL_ORPHAN_CUT] = "DELETE FROM orphans WHERE partition = ?1 AND"
                       " last < coalesce(?2, 9223372036854775807)",
    [SQL_WORDS] = "INSERT INTO search(rowid, words) VALUES(?1, ?2)",
    [SQL_FORGET] = "INSERT INTO search(search, rowid, words) VALUES('delete', ?1, ?2)",
    [SQL_COUNTS] = "INSERT INTO counts VALUES(?1, ?2, ?3, ?4)"
                   " ON CONFLICT DO UPDATE SET n = n + excluded.n",
    [SQL_PLACE] = "INSERT OR REPLACE INTO places VALUES(?1, ?2, ?3, ?4)",
    [SQL_UNPLACE] = "DELETE FROM places WHERE partition = ?1",
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    /* ?2: those that ended below it; null: all. */
    [SQL_OLD] = "SELECT n, agent, status, words FROM runs WHERE partition = ?1 AND"
                " last < coalesce(?2, 9223372036854775807) AND (?2 IS NULL OR ended IS NOT NULL)",
    [SQL_CUT] = "DELETE FROM runs WHERE partition = ?1 AND"
                " last < coalesce(?2, 9223372036854775807) AND (?2 IS NULL OR ended IS NOT NULL)",
};

/* ---- opening ---- */

static int fail(struct vdb *t, const char *what, struct err *e)
{
    int rc = sqlite3_errcode(t->db);
    return err_set(e, rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? -EPROTO : -EIO,
                   "is there space, and may the folder be written to?", "the read model: %s: %s",
                   what, sqlite3_errmsg(t->db));
}

static int run(struct vdb *t, const char *sql, struct err *e)
{
    return sqlite3_exec(t->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(t, "can't write", e);
}

/* What the file says it is: "VERSION JOURNAL PARTITIONS"; "" for a new one. */
static int identity(struct vdb *t, char *out, size_t size, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int n = 0;
    *out = 0;
    if (sqlite3_prepare_v2(t->db, "SELECT count(*) FROM sqlite_master", -1, &s, NULL) ||
        sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return fail(t, "can't be read", e);
    }
    n = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    if (!n)
        return 0;
    if (sqlite3_prepare_v2(t->db, "SELECT v FROM meta WHERE k = 'identity'", -1, &s, NULL) ||
        sqlite3_step(s) != SQLITE_ROW) {
        sqlite3_finalize(s);
        return err_set(e, -EPROTO, NULL, "the read model has no identity");
    }
    (void)snprintf(out, size, "%s", (const char *)sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return 0;
}

static int make_tables(struct vdb *t, const char *id, struct err *e)
{
    char sql[512];
    (void)snprintf(sql, sizeof sql, "INSERT INTO meta VALUES('identity', '%s')", id);
    int error = run(t, "BEGIN IMMEDIATE", e);
    if (!error)
        error = run(t, tables, e);
    if (!error)
        error = run(t, sql, e);
    return error ? error : run(t, "COMMIT", e);
}

static int prepare(struct vdb *t, struct err *e)
{
    for (int i = 0; i < SQL_COUNT; i++)
        if (sqlite3_prepare_v3(t->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &t->v[i], NULL))
            return fail(t, "can't be used", e);
    return 0;
}

int vdb_open(struct vdb *t, const char *path, const char *id, struct err *e)
{
    char found[300];
    *t = (struct vdb){0};
    map_init(&t->counts);
    if (sqlite3_open_v2(path, &t->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL))
        return fail(t, "can't be opened", e);
    sqlite3_busy_timeout(t->db, 5000);
    int error = run(t, "PRAGMA journal_mode = WAL", e);
    if (!error)
        error = run(t,
                    "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000; PRAGMA "
                    "wal_autocheckpoint = 8000",
                    e);
    if (!error)
        error = identity(t, found, sizeof found, e);
    if (!error && !*found)
        error = make_tables(t, id, e);
    else if (!error && strcmp(found, id))
        error = err_set(e, -EPROTO, NULL, "the read model is \"%s\", not \"%s\"", found, id);
    return error ? error : prepare(t, e);
}

static void drop_counts(struct vdb *t)
{
    struct slice key;
    size_t pos = 0;
    void *v;
    while (map_next(&t->counts, &pos, &key, &v))
        free(v);
    map_free(&t->counts);
    map_init(&t->counts);
}

void vdb_close(struct vdb *t)
{
    drop_counts(t);
    map_free(&t->counts);
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(t->v[i]);
    sqlite3_close(t->db);
    memset(t, 0, sizeof *t);
}

/* ---- statements ---- */

static int step(struct vdb *t, int which)
{
    int rc = sqlite3_step(t->v[which]);
    sqlite3_reset(t->v[which]);
    sqlite3_clear_bindings(t->v[which]);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -EIO;
}

/* Texts stay until the statement has run. */
static void bind_text(sqlite3_stmt *s, int at, struct slice v)
{
    if (v.p)
        sqlite3_bind_text(s, at, v.p, (int)v.n, SQLITE_STATIC);
}

static void bind_some(sqlite3_stmt *s, int at, int64_t v)
{
    if (v >= 0)
        sqlite3_bind_int64(s, at, v);
}

static struct slice text_at(sqlite3_stmt *s, int at)
{
    const char *p = (const char *)sqlite3_column_text(s, at);
    return sl(p ? p : "", p ? (size_t)sqlite3_column_bytes(s, at) : 0);
}

/* ---- counts ---- */

struct count {
    int status, partition;
    int64_t n; /* more, or less, than in the table */
    size_t nagent;
    char agent[];
};

static struct count *count_new(struct vdb *t, struct slice key, struct slice agent, int status,
                               int partition)
{
    struct count *c = malloc(sizeof *c + agent.n + 1);
    if (!c || map_put(&t->counts, key, c, NULL)) {
        free(c);
        return NULL;
    }
    *c = (struct count){status, partition, 0, agent.n};
    memcpy(c->agent, agent.p, agent.n);
    return c;
}

/* An agent's name is whatever the record has, of any length. */
static int count(struct vdb *t, struct slice agent, int status, int partition, int n)
{
    struct buf key;
    buf_init(&key, agent.n + 64);
    buf_addf(&key, "%d %d ", status, partition);
    buf_add_slice(&key, agent);
    struct count *c = buf_error(&key) ? NULL : map_get(&t->counts, buf_slice(&key));
    if (!c && !buf_error(&key))
        c = count_new(t, buf_slice(&key), agent, status, partition);
    buf_free(&key);
    if (!c)
        return -ENOMEM;
    c->n += n;
    return 0;
}

static int write_counts(struct vdb *t)
{
    struct slice key;
    size_t pos = 0;
    void *v;
    int error = 0;
    while (!error && map_next(&t->counts, &pos, &key, &v)) {
        const struct count *c = v;
        sqlite3_stmt *s = t->v[SQL_COUNTS];
        if (!c->n)
            continue;
        bind_text(s, 1, sl(c->agent, c->nagent));
        sqlite3_bind_int(s, 2, c->status);
        sqlite3_bind_int(s, 3, c->partition);
        sqlite3_bind_int64(s, 4, c->n);
        error = step(t, SQL_COUNTS);
    }
    drop_counts(t);
    return error;
}

/* ---- the transaction ---- */

int vdb_begin(struct vdb *t)
{
    int error = t->open ? 0 : step(t, SQL_BEGIN);
    t->open = t->open || !error;
    return error;
}

int vdb_commit(struct vdb *t)
{
    int error = t->open ? write_counts(t) : 0;
    if (!error && t->open)
        error = step(t, SQL_COMMIT);
    t->open = t->open && error;
    return error;
}

void vdb_rollback(struct vdb *t)
{
    drop_counts(t);
    if (t->open)
        (void)step(t, SQL_ROLLBACK);
    t->open = false;
}

/* ---- runs ---- */

static int words(struct vdb *t, int which, int64_t n, struct slice text)
{
    sqlite3_bind_int64(t->v[which], 1, n);
    bind_text(t->v[which], 2, text);
    return step(t, which);
}

static void bind_state(sqlite3_stmt *s, const struct run_row *x)
{
    bind_some(s, 3, x->started_ms);
    sqlite3_bind_int64(s, 4, x->last);
    if (x->ended_ms)
        sqlite3_bind_int64(s, 6, x->ended_ms);
    bind_text(s, 7, x->error);
}

static int write_spans(const struct spans *s, struct buf *b)
{
    buf_init(b, SPANS_TEXT_MAX);
    spans_write(s, b);
    return buf_error(b);
}

static int insert(struct vdb *t, const struct run_row *x, struct slice spans, bool *ret_new)
{
    sqlite3_stmt *s = t->v[SQL_INSERT];
    int status = x->status >= 0 ? x->status : (int)RUN_NONE;
    bind_text(s, 1, sl_str(x->id));
    sqlite3_bind_int(s, 2, status);
    bind_state(s, x);
    bind_text(s, 8, x->words);
    bind_text(s, 9, x->agent);
    bind_text(s, 10, x->version);
    bind_text(s, 11, x->key);
    bind_text(s, 12, x->feed);
    sqlite3_bind_int(s, 13, x->partition);
    sqlite3_bind_int64(s, 14, x->first);
    sqlite3_bind_int64(s, 15, x->requested_ms);
    sqlite3_bind_int(s, 16, x->priority);
    bind_text(s, 17, x->fork_of);
    bind_text(s, 18, spans);
    int error = step(t, SQL_INSERT);
    *ret_new = !error && sqlite3_changes(t->db) == 1;
    if (error || !*ret_new)
        return error;
    error = words(t, SQL_WORDS, sqlite3_last_insert_rowid(t->db), x->words);
    return error ? error : count(t, x->agent, status, x->partition, 1);
}

int vdb_insert(struct vdb *t, const struct run_row *x, bool *ret_new)
{
    struct buf spans;
    int error = write_spans(x->spans, &spans);
    if (!error)
        error = insert(t, x, buf_slice(&spans), ret_new);
    buf_free(&spans);
    return error;
}

static int change_spans(struct vdb *t, int64_t n, struct slice spans)
{
    sqlite3_bind_int64(t->v[SQL_SPANS], 1, n);
    bind_text(t->v[SQL_SPANS], 2, spans);
    return step(t, SQL_SPANS);
}

/* What the statement SQL_FIND stands at, changed. */
static int change(struct vdb *t, const struct run_row *x, struct slice spans, sqlite3_stmt *found)
{
    int64_t n = sqlite3_column_int64(found, 0);
    int old = sqlite3_column_int(found, 2), partition = sqlite3_column_int(found, 3), error = 0;
    struct slice agent = text_at(found, 1), text = text_at(found, 4);
    sqlite3_stmt *s = t->v[SQL_UPDATE];
    if (x->status < 0 && x->started_ms < 0 && !x->words.n)
        return change_spans(t, n, spans);
    if (x->status >= 0 && x->status != old) {
        error = count(t, agent, old, partition, -1);
        error = error ? error : count(t, agent, x->status, partition, 1);
    }
    if (!error && x->words.n) {
        struct buf b;
        buf_init(&b, text.n + x->words.n);
        buf_add_slice(&b, text);
        buf_add_slice(&b, x->words);
        error = buf_error(&b) ? -ENOMEM : words(t, SQL_FORGET, n, text);
        error = error ? error : words(t, SQL_WORDS, n, buf_slice(&b));
        buf_free(&b);
    }
    sqlite3_bind_int64(s, 1, n);
    bind_some(s, 2, x->status);
    bind_state(s, x);
    sqlite3_bind_int(s, 5, x->ends);
    bind_text(s, 8, x->words.p ? x->words : SL(""));
    bind_text(s, 9, spans);
    return error ? error : step(t, SQL_UPDATE);
}

/* Those of x behind those that are there, as text, which the caller frees. */
static int more_spans(struct slice there, const struct run_row *x, struct buf *ret)
{
    struct spans all;
    buf_init(ret, 0);
    if (spans_read(there, &all))
        return -EIO; /* damaged: it is made anew */
    for (int i = 0; i < x->spans->n; i++)
        spans_add(&all, &x->spans->v[i]);
    return write_spans(&all, ret);
}

static int change_found(struct vdb *t, const struct run_row *x, sqlite3_stmt *found)
{
    struct buf text;
    int error = more_spans(text_at(found, 5), x, &text);
    if (!error)
        error = change(t, x, buf_slice(&text), found);
    buf_free(&text);
    return error;
}

static int put_orphan(struct vdb *t, const struct run_row *x, struct slice spans)
{
    sqlite3_stmt *s = t->v[SQL_ORPHAN];
    bind_text(s, 1, sl_str(x->id));
    sqlite3_bind_int(s, 2, run_id_partition(sl_str(x->id)));
    sqlite3_bind_int64(s, 3, x->spans->v[x->spans->n - 1].to - 1);
    bind_text(s, 4, spans);
    return step(t, SQL_ORPHAN);
}

static int orphan(struct vdb *t, const struct run_row *x)
{
    sqlite3_stmt *found = t->v[SQL_ORPHAN_FIND];
    struct buf text;
    if (!x->spans->n)
        return 0;
    bind_text(found, 1, sl_str(x->id));
    int rc = sqlite3_step(found);
    int error = rc != SQLITE_ROW && rc != SQLITE_DONE
                    ? -EIO
                    : more_spans(rc == SQLITE_ROW ? text_at(found, 0) : SL(""), x, &text);
    sqlite3_reset(found);
    if (!error)
        error = put_orphan(t, x, buf_slice(&text));
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        buf_free(&text);
    return error;
}

int vdb_update(struct vdb *t, const struct run_row *x)
{
    sqlite3_stmt *found = t->v[SQL_FIND];
    bind_text(found, 1, sl_str(x->id));
    int rc = sqlite3_step(found);
    int error = rc == SQLITE_ROW ? change_found(t, x, found) : rc == SQLITE_DONE ? 0 : -EIO;
    sqlite3_reset(found);
    return rc == SQLITE_DONE ? orphan(t, x) : error;
}

static void bind_old(sqlite3_stmt *s, int partition, int64_t below)
{
    sqlite3_bind_int(s, 1, partition);
    bind_some(s, 2, below);
}

int vdb_cut(struct vdb *t, int partition, int64_t below)
{
    sqlite3_stmt *s = t->v[SQL_OLD];
    int error = 0, rc = SQLITE_DONE, found = 0;
    bind_old(s, partition, below);
    while (!error && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        error = words(t, SQL_FORGET, sqlite3_column_int64(s, 0), text_at(s, 3));
        if (!error)
            error = count(t, text_at(s, 1), sqlite3_column_int(s, 2), partition, -1);
        found++;
    }
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    if (error || rc != SQLITE_DONE)
        return error ? error : -EIO;
    bind_old(t->v[SQL_ORPHAN_CUT], partition, below);
    error = step(t, SQL_ORPHAN_CUT);
    if (error || !found)
        return error;
    bind_old(t->v[SQL_CUT], partition, below);
    return step(t, SQL_CUT);
}

/* ---- places ---- */

int vdb_places(struct vdb *t, struct place *v, int n)
{
    sqlite3_stmt *s = NULL;
    for (int i = 0; i < n; i++) {
        v[i].next = 0;
        v[i].epoch = -1;
        v[i].nonce = 0;
    }
    int rc =
        sqlite3_prepare_v2(t->db, "SELECT partition, next, epoch, nonce FROM places", -1, &s, NULL);
    while (!rc && sqlite3_step(s) == SQLITE_ROW) {
        int p = sqlite3_column_int(s, 0);
        if (p < 0 || p >= n)
            continue;
        v[p].next = sqlite3_column_int64(s, 1);
        v[p].epoch = sqlite3_column_int64(s, 2);
        (void)hex_read_u64(text_at(s, 3), &v[p].nonce);
    }
    sqlite3_finalize(s);
    return rc ? -EIO : 0;
}

int vdb_place(struct vdb *t, int partition, const struct place *p)
{
    char nonce[17];
    sqlite3_stmt *s = t->v[SQL_PLACE];
    hex_u64(nonce, p->nonce);
    sqlite3_bind_int(s, 1, partition);
    sqlite3_bind_int64(s, 2, p->next);
    sqlite3_bind_int64(s, 3, p->epoch);
    bind_text(s, 4, sl(nonce, 16));
    return step(t, SQL_PLACE);
}

int vdb_unplace(struct vdb *t, int partition)
{
    sqlite3_bind_int(t->v[SQL_UNPLACE], 1, partition);
    return step(t, SQL_UNPLACE);
}
