/* The log sink. Thread-safe: a line is made on the caller's stack and leaves in one write(2), so
 * lines of several threads never mix. Invariant: no line holds a line break or another control
 * character. */
#include "base/logger.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_MAX_BYTES 8192
#define QUOTE_RING     8
#define QUOTE_BYTES    512

struct log {
    int fd; /* borrowed */
    bool pretty;
    _Atomic int level;
};

/* A line under way; what does not fit is cut and marked. */
struct line {
    char p[LINE_MAX_BYTES];
    size_t n;
};

struct log *log_new(int fd, enum log_level level, bool pretty)
{
    struct log *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->fd = fd;
    l->pretty = pretty;
    l->level = (int)level;
    return l;
}

struct log *log_free(struct log *l)
{
    free(l);
    return NULL;
}

void log_set_level(struct log *l, enum log_level level)
{
    atomic_store_explicit(&l->level, (int)level, memory_order_relaxed);
}

bool log_on(const struct log *l, enum log_level level)
{
    return l && (int)level <= atomic_load_explicit(&((struct log *)l)->level, memory_order_relaxed);
}

static void add(struct line *l, const char *p, size_t n)
{
    size_t room = sizeof l->p - l->n -
                  8; /* kept free for the mark of a cut, the colour's end and the line's */
    if (n > room)
        n = room;
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void adds(struct line *l, const char *s)
{
    add(l, s, strlen(s));
}

static bool secret_name(struct slice key)
{
    static const char *const words[] = {"token",  "password", "passwd",  "authorization", "secret",
                                        "apikey", "api_key",  "api-key", "cookie"};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        size_t n = strlen(words[w]);
        for (size_t i = 0; i + n <= key.n; i++)
            if (strncasecmp(key.p + i, words[w], n) == 0)
                return true;
    }
    return false;
}

/* Behind the value that begins at i: up to the closing quote, or to a blank. */
static size_t value_end(struct slice t, size_t i)
{
    if (i < t.n && t.p[i] == '"') {
        for (i++; i < t.n && t.p[i] != '"'; i++)
            if (t.p[i] == '\\')
                i++;
        return i < t.n ? i + 1 : t.n;
    }
    while (i < t.n && t.p[i] != ' ')
        i++;
    return i;
}

/* name=value; the padding of base64 is none. */
static bool is_field(struct slice word)
{
    ptrdiff_t eq = sl_find(word, '=');
    return eq > 0 && (size_t)eq + 1 < word.n && word.p[eq + 1] != '=';
}

/* The tail as the caller made it, with control characters blanked and the values of secret-like
 * fields hidden. An authorization value may have two words without quotes, so there everything up
 * to the next field goes. */
static void add_tail(struct line *l, struct slice t)
{
    size_t i = 0;
    while (i < t.n) {
        size_t eq = i;
        while (eq < t.n && t.p[eq] != '=' && t.p[eq] != ' ')
            eq++;
        if (eq == t.n || t.p[eq] == ' ') {
            eq = eq < t.n ? eq + 1 : eq;
            add(l, t.p + i, eq - i);
            i = eq;
            continue;
        }
        size_t end = value_end(t, eq + 1);
        if (!secret_name(sl(t.p + i, eq - i))) {
            add(l, t.p + i, end - i);
            i = end;
            continue;
        }
        for (size_t next; end < t.n; end = next) {
            next = value_end(t, end + 1);
            if (is_field(sl(t.p + end + 1, next - end - 1)))
                break;
        }
        add(l, t.p + i, eq + 1 - i);
        adds(l, "***");
        i = end;
    }
}

static void add_head(struct line *l, const struct log *log, enum log_level level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    static const char *const marks[] = {"\033[31merror\033[0m ", "\033[33mwarn\033[0m  ", "",
                                        "\033[2mdebug\033[0m "};
    int64_t now = clock_wall_ms();
    char t[TIME_TEXT_MAX];
    if (log->pretty) {
        time_t s = (time_t)(now / 1000);
        struct tm tm;
        if (!localtime_r(&s, &tm) || !strftime(t, sizeof t, "%H:%M:%S ", &tm))
            t[0] = 0;
        adds(l, t);
        adds(l, marks[level]);
        return;
    }
    time_write(t, now);
    adds(l, "time=");
    adds(l, t);
    adds(l, " level=");
    adds(l, names[level]);
    adds(l, " event=");
}

void log_put(struct log *log, enum log_level level, const char *event, const char *fmt, ...)
{
    if (!log_on(log, level))
        return;
    struct line l = {.n = 0};
    add_head(&l, log, level);
    size_t head = l.n; /* may hold escape sequences for colour */
    adds(&l, log->pretty ? event : log_q(event));
    char tail[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(tail, sizeof tail, fmt, ap);
    va_end(ap);
    bool cut = n >= (int)sizeof tail;
    if (n > 0) {
        add(&l, " ", 1);
        add_tail(&l, sl(tail, cut ? sizeof tail - 1 : (size_t)n));
    }
    for (size_t i = head; i < l.n; i++)
        if ((unsigned char)l.p[i] < ' ' || l.p[i] == 0x7f)
            l.p[i] = ' ';
    if (cut || l.n == sizeof l.p - 8) {
        memcpy(l.p + l.n, "...", 3);
        l.n += 3;
    }
    l.p[l.n++] = '\n';
    ssize_t r;
    do
        r = write(log->fd, l.p, l.n);
    while (r < 0 && errno == EINTR);
    /* A log that can't be written has nowhere to report that; the work goes on. */
}

static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '=' || s.p[i] == '\\' ||
            s.p[i] == 0x7f)
            return false;
    return s.n > 0;
}

const char *log_qs(struct slice s)
{
    static _Thread_local char ring[QUOTE_RING][QUOTE_BYTES];
    static _Thread_local unsigned turn;
    char *out = ring[turn++ % QUOTE_RING];
    size_t n = 0;
    if (s.n < QUOTE_BYTES && plain(s)) {
        memcpy(out, s.p, s.n);
        out[s.n] = 0;
        return out;
    }
    out[n++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (n + 9 > QUOTE_BYTES) {
            memcpy(out + n, "...", 3);
            n += 3;
            break;
        }
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c == '\n' || c == '\r' || c == '\t') {
            out[n++] = '\\';
            out[n++] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
        } else if (c < ' ' || c == 0x7f) {
            n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    out[n++] = '"';
    out[n] = 0;
    return out;
}

const char *log_q(const char *s)
{
    return log_qs(sl_str(s));
}
