/* Clocks, random bytes and RFC 3339 time. Thread-safe. */
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/fail.h"

#define DAY_MS       86400000LL
#define YEAR_0_MS    (-62167219200000LL)
#define YEAR_9999_MS 253402300799999LL

static int64_t read_clock_us(clockid_t id)
{
    struct timespec t;
    if (clock_gettime(id, &t))
        abort(); /* both clocks exist since Linux 2.6.39 */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_boot_us(void)
{
    return read_clock_us(CLOCK_BOOTTIME);
}

int64_t clock_boot_ms(void)
{
    return clock_boot_us() / 1000;
}

int64_t clock_cpu_ms(int pid)
{
    clockid_t id;
    struct timespec t;
    if (clock_getcpuclockid(pid, &id) || clock_gettime(id, &t))
        return -1;
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_wall_ms(void)
{
    int64_t ms = read_clock_us(CLOCK_REALTIME) / 1000;
#ifdef TIDEMARK_FAILPOINTS
    ms += fail_clock_ms();
#endif
    return ms;
}

static void draw(void *p, size_t n)
{
    char *at = p;
    while (n) {
        ssize_t r = getrandom(at, n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            abort(); /* without random numbers ids and nonces would collide: no way to go on */
        at += r;
        n -= (size_t)r;
    }
}

/* A thread's few bytes in advance: a system call for each id costs more than the rest of it. What
 * was given away is wiped. A child that is forked runs another program before it asks for any. */
static _Thread_local struct {
    unsigned char v[512];
    size_t left;
} ahead;

void random_bytes(void *p, size_t n)
{
    if (n > sizeof ahead.v / 8) {
        draw(p, n);
        return;
    }
    if (n > ahead.left) {
        draw(ahead.v, sizeof ahead.v);
        ahead.left = sizeof ahead.v;
    }
    ahead.left -= n;
    memcpy(p, ahead.v + ahead.left, n);
    explicit_bzero(ahead.v + ahead.left, n);
}

uint64_t random_u64(void)
{
    uint64_t v;
    random_bytes(&v, sizeof v);
    return v;
}

void uuid4(char out[37])
{
    uint8_t b[16];
    random_bytes(b, sizeof b);
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    static const char digits[] = "0123456789abcdef";
    char *o = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *o++ = '-';
        *o++ = digits[b[i] >> 4];
        *o++ = digits[b[i] & 15];
    }
    *o = 0;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar, counted from 1 March so that the leap
 * day is last. */
static int64_t days_of(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int *y, int *m, int *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = (int)(yoe + era * 400 + (*m <= 2));
}

/* v with n digits and a character behind; returns the place behind both. */
static char *put(char *out, int v, int n, char behind)
{
    for (int i = n - 1; i >= 0; i--, v /= 10)
        out[i] = (char)('0' + v % 10);
    out[n] = behind;
    return out + n + 1;
}

void time_write(char out[TIME_TEXT_MAX], int64_t unix_ms)
{
    /* RFC 3339 has four digits for the year: times outside are shown as the nearest that can be. */
    if (unix_ms < YEAR_0_MS)
        unix_ms = YEAR_0_MS;
    if (unix_ms > YEAR_9999_MS)
        unix_ms = YEAR_9999_MS;
    int64_t days = unix_ms / DAY_MS, ms = unix_ms % DAY_MS;
    if (ms < 0) {
        ms += DAY_MS;
        days--;
    }
    int y, m, d, sec = (int)(ms / 1000);
    date_of(days, &y, &m, &d);
    out = put(out, y, 4, '-');
    out = put(out, m, 2, '-');
    out = put(out, d, 2, 'T');
    out = put(out, sec / 3600, 2, ':');
    out = put(out, sec / 60 % 60, 2, ':');
    out = put(out, sec % 60, 2, '.');
    out = put(out, (int)(ms % 1000), 3, 'Z');
    *out = 0;
}

/* Exactly n digits at the front of t, which moves behind them; -1 if there are other characters. */
static int digits_of(struct slice *t, size_t n)
{
    int v = 0;
    if (t->n < n)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (t->p[i] < '0' || t->p[i] > '9')
            return -1;
        v = v * 10 + t->p[i] - '0';
    }
    *t = sl_from(*t, n);
    return v;
}

static bool skip(struct slice *t, const char *any_of)
{
    if (!t->n || !strchr(any_of, t->p[0]) || !t->p[0])
        return false;
    *t = sl_from(*t, 1);
    return true;
}

static int month_days(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return days[m - 1] + (m == 2 && leap);
}

/* The fraction in ms, cut after the third digit; -1 without a digit. */
static int fraction_of(struct slice *t)
{
    int ms = 0, n = 0;
    for (; t->n && t->p[0] >= '0' && t->p[0] <= '9'; n++, *t = sl_from(*t, 1))
        if (n < 3)
            ms = ms * 10 + t->p[0] - '0';
    for (int i = n; i && i < 3; i++)
        ms *= 10;
    return n ? ms : -1;
}

/* Minutes east of UTC of `Z` or `+hh:mm` at the end. */
static int zone_of(struct slice *t, int *ret_min)
{
    if (skip(t, "Zz")) {
        *ret_min = 0;
        return t->n ? -EINVAL : 0;
    }
    int sign = t->n && t->p[0] == '-' ? -1 : 1;
    if (!skip(t, "+-"))
        return -EINVAL;
    int h = digits_of(t, 2);
    int m = skip(t, ":") ? digits_of(t, 2) : -1;
    if (h < 0 || h > 23 || m < 0 || m > 59 || t->n)
        return -EINVAL;
    *ret_min = sign * (h * 60 + m);
    return 0;
}

int time_read(struct slice text, int64_t *ret_unix_ms)
{
    struct slice t = text;
    int y = digits_of(&t, 4);
    int mo = skip(&t, "-") ? digits_of(&t, 2) : -1;
    int d = skip(&t, "-") ? digits_of(&t, 2) : -1;
    int h = skip(&t, "Tt ") ? digits_of(&t, 2) : -1;
    int mi = skip(&t, ":") ? digits_of(&t, 2) : -1;
    int s = skip(&t, ":") ? digits_of(&t, 2) : -1;
    if (y < 0 || mo < 1 || mo > 12 || d < 1 || d > month_days(y, mo))
        return -EINVAL;
    if (h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 60)
        return -EINVAL;
    int ms = skip(&t, ".") ? fraction_of(&t) : 0;
    int zone;
    if (ms < 0 || zone_of(&t, &zone))
        return -EINVAL;
    int64_t min = (int64_t)h * 60 + mi - zone;
    *ret_unix_ms = days_of(y, mo, d) * DAY_MS + min * 60000 + s * 1000 + ms;
    return 0;
}
