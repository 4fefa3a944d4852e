/* Questions to the read model: each opens the file for itself, read-only, so that a file that was
 * made anew meanwhile is simply the next one. Any thread; blocks for milliseconds. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "core/state.h"
#include "view/view_int.h"

#define WORDS_MAX     16
#define SQL_BYTES_MAX 65536 /* with 4,096 partitions in it */

struct question {
    sqlite3 *db;
    sqlite3_stmt *s;
    int64_t until_ms;
};

static int on_progress(void *arg)
{
    return clock_boot_ms() > ((struct question *)arg)->until_ms;
}

static int fail(struct question *q, struct err *e)
{
    int rc = q->db ? sqlite3_errcode(q->db) : SQLITE_NOMEM;
    if (rc == SQLITE_INTERRUPT)
        return err_set(e, -ETIMEDOUT, "ask for less: a shorter time, one agent",
                       "the question took more than %d s", VIEW_QUERY_MS / 1000);
    return err_set(e, -EAGAIN, "it is made anew by itself; ask again",
                   "the read model can't be read now: %s",
                   q->db ? sqlite3_errmsg(q->db) : "no memory");
}

static int open_at(struct question *q, const char *path, struct err *e)
{
    memset(q, 0, sizeof *q);
    q->until_ms = clock_boot_ms() + VIEW_QUERY_MS;
    if (sqlite3_open_v2(path, &q->db, SQLITE_OPEN_READONLY, NULL))
        return fail(q, e);
    sqlite3_busy_timeout(q->db, 1000);
    sqlite3_progress_handler(q->db, 10000, on_progress, q);
    return 0;
}

static void close_it(struct question *q)
{
    sqlite3_finalize(q->s);
    sqlite3_close(q->db);
}

static void text(struct json_object *o, const char *key, sqlite3_stmt *s, int at)
{
    const char *v = (const char *)sqlite3_column_text(s, at);
    if (v)
        js_put_new(o, key, json_object_new_string(v));
    else
        js_put(o, key, NULL);
}

static void when(struct json_object *o, const char *key, sqlite3_stmt *s, int at)
{
    char t[TIME_TEXT_MAX];
    int64_t ms = sqlite3_column_int64(s, at);
    if (ms) {
        time_write(t, ms);
        js_put_new(o, key, json_object_new_string(t));
    } else {
        js_put(o, key, NULL);
    }
}

#define COLUMNS                                                                                    \
    "id, agent, version, status, key, feed, partition, first, last, requested, started, ended, "   \
    "error, fork_of"

static struct json_object *row(sqlite3_stmt *s)
{
    struct json_object *o = json_object_new_object(), *error = NULL;
    const char *why = (const char *)sqlite3_column_text(s, 12);
    text(o, "id", s, 0);
    text(o, "agent", s, 1);
    text(o, "version", s, 2);
    js_put_new(o, "status",
               json_object_new_string(run_status_name((enum run_status)sqlite3_column_int(s, 3))));
    text(o, "key", s, 4);
    text(o, "feed", s, 5);
    js_put_new(o, "partition", json_object_new_int(sqlite3_column_int(s, 6)));
    js_put_new(o, "offset", json_object_new_int64(sqlite3_column_int64(s, 7)));
    js_put_new(o, "lastOffset", json_object_new_int64(sqlite3_column_int64(s, 8)));
    when(o, "requestedAt", s, 9);
    when(o, "startedAt", s, 10);
    when(o, "endedAt", s, 11);
    if (why && js_parse(sl_str(why), &error, NULL) == 0 && error)
        js_put(o, "error", error);
    if (sqlite3_column_type(s, 13) != SQLITE_NULL)
        text(o, "forkOf", s, 13);
    return o;
}

/* ---- lists ---- */

/* "MS.RUN": the place of the last run of an answer, which stays its place whatever is written. */
static int read_cursor(const char *cursor, int64_t *ms, const char **run, struct err *e)
{
    const char *dot = cursor ? strchr(cursor, '.') : NULL;
    if (!cursor)
        return 0;
    if (!dot || sl_i64(sl(cursor, (size_t)(dot - cursor)), ms) < 0 ||
        !run_id_valid(sl_str(dot + 1)))
        return err_set(e, -EINVAL, "take it from `next` of an earlier answer",
                       "the cursor can't be read");
    *run = dot + 1;
    return 0;
}

void view_cursor(struct json_object *run, char *ret, size_t size)
{
    const char *at = js_str(run, "requestedAt"), *id = js_str(run, "id");
    int64_t ms = 0;
    if (at)
        (void)time_read(sl_str(at), &ms); /* as it was written: `when` */
    (void)snprintf(ret, size, "%lld.%s", (long long)ms, id ? id : "");
}

int view_cursor_check(const char *cursor, struct err *e)
{
    int64_t ms;
    const char *run;
    return read_cursor(cursor, &ms, &run, e);
}

/* Each word as the begin of one: "ada"* "lov"*. Other signs part words. */
static void match_text(const char *text, struct buf *b)
{
    int n = 0;
    for (const char *p = text; *p && n < WORDS_MAX; n++) {
        while (*p && (unsigned char)*p < 0x80 && !((*p | 32) >= 'a' && (*p | 32) <= 'z') &&
               !(*p >= '0' && *p <= '9'))
            p++;
        const char *begin = p;
        while (*p && ((unsigned char)*p >= 0x80 || ((*p | 32) >= 'a' && (*p | 32) <= 'z') ||
                      (*p >= '0' && *p <= '9')))
            p++;
        if (p > begin)
            buf_addf(b, "%s\"%.*s\"*", b->n ? " " : "", (int)(p - begin), begin);
    }
}

static void of_partitions(const struct intset *set, struct buf *b)
{
    const char *comma = "";
    buf_adds(b, "partition IN (");
    for (int i = 0; i < set->n; i++)
        if (intset_has(set, i)) {
            buf_addf(b, "%s%d", comma, i);
            comma = ",";
        }
    buf_addc(b, ')');
}

static void conditions(const struct view_query *q, const char *run, const char *match,
                       struct buf *b)
{
    const char *sep = " WHERE ";
#define AND(cond, sql)                                                                             \
    if (cond) {                                                                                    \
        buf_addf(b, "%s" sql, sep);                                                                \
        sep = " AND ";                                                                             \
    }
    AND(q->agent, "agent = ?1")
    AND(q->key, "key = ?2")
    AND(q->feed, "feed = ?3")
    AND(q->version, "version = ?4")
    AND(q->from_ms, "requested >= ?5")
    AND(q->to_ms, "requested < ?6")
    AND(run, "(requested, id) < (?7, ?8)")
    AND(match, "n IN (SELECT rowid FROM search WHERE search MATCH ?9)")
    if (q->partitions) {
        buf_addf(b, "%s", sep);
        of_partitions(q->partitions, b);
        sep = " AND ";
    }
    if (!q->statuses)
        return;
    buf_addf(b, "%sstatus IN (", sep);
    const char *comma = "";
    for (int s = 0; s < 8; s++)
        if (q->statuses & 1u << s) {
            buf_addf(b, "%s%d", comma, s);
            comma = ",";
        }
    buf_addc(b, ')');
#undef AND
}

static int prepare_list(struct question *x, const struct view_query *q, struct err *e)
{
    int64_t ms = 0;
    const char *run = NULL;
    struct buf sql, match;
    int error = read_cursor(q->cursor, &ms, &run, e);
    if (error)
        return error;
    buf_init(&sql, SQL_BYTES_MAX);
    buf_init(&match, 8192);
    if (q->text)
        match_text(q->text, &match);
    buf_adds(&sql, "SELECT " COLUMNS " FROM runs");
    conditions(q, run, q->text ? "" : NULL, &sql);
    buf_adds(&sql, " ORDER BY requested DESC, id DESC LIMIT ?10");
    if (buf_error(&sql) || buf_error(&match))
        error = err_set(e, -EINVAL, "use fewer words", "the text is too long");
    else if (sqlite3_prepare_v2(x->db, sql.p, -1, &x->s, NULL))
        error = fail(x, e);
    if (!error) {
        const char *const texts[] = {q->agent, q->key, q->feed, q->version};
        for (int i = 0; i < 4; i++)
            if (texts[i])
                sqlite3_bind_text(x->s, i + 1, texts[i], -1, SQLITE_TRANSIENT);
        sqlite3_bind_int64(x->s, 5, q->from_ms);
        sqlite3_bind_int64(x->s, 6, q->to_ms);
        sqlite3_bind_int64(x->s, 7, ms);
        sqlite3_bind_text(x->s, 8, run, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(x->s, 9, match.n ? match.p : "\"\"", -1, SQLITE_TRANSIENT);
        sqlite3_bind_int64(x->s, 10, q->limit + 1);
    }
    buf_free(&sql);
    buf_free(&match);
    return error;
}

int view_list(struct view *v, const struct view_query *q, struct json_object **ret, struct err *e)
{
    struct question x;
    char next[64] = "";
    int rc = 0;
    int error = open_at(&x, v->path, e);
    if (!error)
        error = prepare_list(&x, q, e);
    struct json_object *list = json_object_new_array(), *o;
    for (int64_t n = 0; !error && (rc = sqlite3_step(x.s)) == SQLITE_ROW; n++) {
        if (n == q->limit)
            break;
        (void)snprintf(next, sizeof next, "%lld.%s", (long long)sqlite3_column_int64(x.s, 9),
                       (const char *)sqlite3_column_text(x.s, 0));
        js_push_new(list, row(x.s));
    }
    if (!error && rc != SQLITE_ROW && rc != SQLITE_DONE)
        error = fail(&x, e);
    close_it(&x);
    if (error) {
        json_object_put(list);
        return error;
    }
    o = json_object_new_object();
    js_put_new(o, "runs", list);
    if (rc == SQLITE_ROW)
        js_put_new(o, "next", json_object_new_string(next));
    else
        js_put(o, "next", NULL);
    *ret = o;
    return 0;
}

/* ---- counts ---- */

static void count(struct json_object *o, const char *status, int64_t n)
{
    js_put_new(o, status, json_object_new_int64(js_int(o, status, 0) + n));
}

static int prepare_counts(struct question *x, const struct view_query *q, struct err *e)
{
    struct buf sql;
    int error = 0;
    buf_init(&sql, SQL_BYTES_MAX);
    buf_adds(&sql, "SELECT agent, status, sum(n) FROM counts WHERE (?1 IS NULL OR agent = ?1)");
    if (q->partitions) {
        buf_adds(&sql, " AND ");
        of_partitions(q->partitions, &sql);
    }
    buf_adds(&sql, " GROUP BY agent, status HAVING sum(n) > 0 ORDER BY agent, status");
    if (buf_error(&sql) || sqlite3_prepare_v2(x->db, sql.p, -1, &x->s, NULL))
        error = fail(x, e);
    buf_free(&sql);
    return error;
}

int view_counts(struct view *v, const struct view_query *q, struct json_object **ret, struct err *e)
{
    struct question x;
    int rc = SQLITE_DONE, error = open_at(&x, v->path, e);
    struct json_object *o = json_object_new_object(), *agents = json_object_new_object(),
                       *all = json_object_new_object();
    if (!error)
        error = prepare_counts(&x, q, e);
    if (!error && q->agent)
        sqlite3_bind_text(x.s, 1, q->agent, -1, SQLITE_TRANSIENT);
    while (!error && (rc = sqlite3_step(x.s)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(x.s, 0),
                   *status = run_status_name((enum run_status)sqlite3_column_int(x.s, 1));
        struct json_object *one = js_get(agents, name ? name : "");
        if (!one) {
            one = json_object_new_object();
            js_put_new(agents, name ? name : "", one);
        }
        count(one, status, sqlite3_column_int64(x.s, 2));
        count(all, status, sqlite3_column_int64(x.s, 2));
    }
    if (!error && rc != SQLITE_DONE)
        error = fail(&x, e);
    close_it(&x);
    js_put_new(o, "statuses", all);
    js_put_new(o, "agents", agents);
    if (error)
        json_object_put(o);
    else
        *ret = o;
    return error;
}

/* ---- one ---- */

/* One statement, so that the run and its partition's position are of the same moment. */
static const char one_run[] =
    "SELECT r.agent, coalesce(r.spans, o.spans), p.next, p.epoch, p.nonce FROM places p"
    " LEFT JOIN runs r ON r.id = ?1 LEFT JOIN orphans o ON o.id = ?1 WHERE p.partition = ?2";

static struct slice column(sqlite3_stmt *s, int at)
{
    const char *p = (const char *)sqlite3_column_text(s, at);
    return sl(p ? p : "", p ? (size_t)sqlite3_column_bytes(s, at) : 0);
}

static int read_place(struct question *x, struct run_place *ret, struct err *e)
{
    ret->next.from = sqlite3_column_int64(x->s, 2);
    ret->next.epoch = sqlite3_column_int64(x->s, 3);
    if (spans_read(column(x->s, 1), &ret->spans) || hex_read_u64(column(x->s, 4), &ret->next.nonce))
        return err_set(e, -EAGAIN, "tidemark view rebuild makes it anew",
                       "the read model does not say where the run is");
    return 0;
}

int view_run(struct view *v, const char *id, struct run_place *ret_place, char *ret_agent,
             size_t size, struct err *e)
{
    struct question x;
    struct run_place place = {.next = {-1, -1, 0}};
    int rc = SQLITE_DONE, error = open_at(&x, v->path, e);
    if (!error && sqlite3_prepare_v2(x.db, one_run, -1, &x.s, NULL))
        error = fail(&x, e);
    if (!error) {
        sqlite3_bind_text(x.s, 1, id, -1, SQLITE_TRANSIENT);
        sqlite3_bind_int(x.s, 2, run_id_partition(sl_str(id)));
        rc = sqlite3_step(x.s);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            error = fail(&x, e);
    }
    if (!error && rc == SQLITE_ROW)
        error = read_place(&x, &place, e);
    if (!error && ret_agent)
        (void)snprintf(ret_agent, size, "%.*s", SL_ARG(column(x.s, 0)));
    close_it(&x);
    if (!error && !place.spans.n)
        error = err_set(e, -ENOENT, "GET /v1/runs lists those that there are",
                        "the read model has no run %s", id);
    if (ret_place)
        *ret_place = place;
    return error;
}

/* ---- the command line ---- */

int view_show(const struct view_opts *o, struct json_object **ret, struct err *e)
{
    struct question x;
    struct stat st;
    char path[VIEW_PATH_MAX];
    (void)snprintf(path, sizeof path, "%.3800s/view/%.200s.db", o->data_dir, o->config->group);
    if (stat(path, &st) < 0)
        return err_set(e, -ENOENT,
                       "a node with this data folder makes it, or `tidemark view rebuild`",
                       "there is no read model %s", path);
    int error = open_at(&x, path, e);
    struct json_object *r = json_object_new_object(), *places = json_object_new_array();
    js_put_new(r, "path", json_object_new_string(path));
    js_put_new(r, "bytes", json_object_new_int64(st.st_size));
    if (!error &&
        (sqlite3_prepare_v2(x.db, "SELECT coalesce(sum(n), 0) FROM counts", -1, &x.s, NULL) ||
         sqlite3_step(x.s) != SQLITE_ROW))
        error = fail(&x, e);
    if (!error)
        js_put_new(r, "runs", json_object_new_int64(sqlite3_column_int64(x.s, 0)));
    sqlite3_finalize(x.s);
    x.s = NULL;
    if (!error &&
        sqlite3_prepare_v2(x.db, "SELECT partition, next FROM places ORDER BY 1", -1, &x.s, NULL))
        error = fail(&x, e);
    while (!error && sqlite3_step(x.s) == SQLITE_ROW) {
        struct json_object *p = json_object_new_object();
        js_put_new(p, "partition", json_object_new_int(sqlite3_column_int(x.s, 0)));
        js_put_new(p, "next", json_object_new_int64(sqlite3_column_int64(x.s, 1)));
        js_push_new(places, p);
    }
    close_it(&x);
    js_put_new(r, "partitions", places);
    if (error)
        json_object_put(r);
    else
        *ret = r;
    return error;
}
