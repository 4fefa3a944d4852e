/* The formats of JSON Schema that are judged (draft 7 validation, section 7.3), each by the
 * standard that it names. Pure. */
#include <arpa/inet.h>
#include <stdio.h>

#include "flow/schema.h"
#include "flow/schema_valijson.h"

static bool digits(struct slice *s, size_t n, int *ret)
{
    int v = 0;
    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = 10 * v + (s->p[i] - '0');
    }
    *s = sl(s->p + n, s->n - n);
    *ret = v;
    return true;
}

static bool take(struct slice *s, const char *any)
{
    if (!s->n || !s->p[0] || !strchr(any, s->p[0]))
        return false;
    *s = sl(s->p + 1, s->n - 1);
    return true;
}

/* RFC 3339, section 5.6: full-date. */
static bool read_date(struct slice *s)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d;
    if (!digits(s, 4, &y) || !take(s, "-") || !digits(s, 2, &m) || !take(s, "-") ||
        !digits(s, 2, &d) || m < 1 || m > 12 || d < 1)
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return d <= days[m - 1] + (m == 2 && leap);
}

/* full-time; a leap second may only be the last one of a day in UTC. */
static bool read_time(struct slice *s)
{
    int h, m, sec, zh = 0, zm = 0, n;
    if (!digits(s, 2, &h) || !take(s, ":") || !digits(s, 2, &m) || !take(s, ":") ||
        !digits(s, 2, &sec) || h > 23 || m > 59 || sec > 60)
        return false;
    if (take(s, ".")) {
        if (!digits(s, 1, &n))
            return false;
        while (digits(s, 1, &n))
            ;
    }
    int sign = s->n && s->p[0] == '-' ? -1 : 1;
    if (!take(s, "Zz") && (!take(s, "+-") || !digits(s, 2, &zh) || !take(s, ":") ||
                           !digits(s, 2, &zm) || zh > 23 || zm > 59))
        return false;
    int utc = (h * 60 + m - sign * (zh * 60 + zm) + 2 * 1440) % 1440;
    return sec < 60 || utc == 1439;
}

static bool date(struct slice s)
{
    return read_date(&s) && !s.n;
}

static bool time_of_day(struct slice s)
{
    return read_time(&s) && !s.n;
}

static bool date_time(struct slice s)
{
    return read_date(&s) && take(&s, "Tt") && read_time(&s) && !s.n;
}

static bool address(struct slice s, int family)
{
    char text[64];
    unsigned char out[16];
    if (s.n >= sizeof text || (s.n && memchr(s.p, 0, s.n)))
        return false;
    (void)snprintf(text, sizeof text, "%.*s", SL_ARG(s));
    return inet_pton(family, text, out) == 1;
}

static bool ipv4(struct slice s)
{
    return address(s, AF_INET);
}

static bool ipv6(struct slice s)
{
    return address(s, AF_INET6);
}

static bool alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 1123, section 2.1: labels of 63 at most. */
static bool hostname(struct slice s)
{
    size_t start = 0;
    if (!s.n || s.n > 253)
        return false;
    for (size_t i = 0; i <= s.n; i++) {
        if (i < s.n && s.p[i] != '.') {
            if (!alnum(s.p[i]) && s.p[i] != '-')
                return false;
            continue;
        }
        if (i == start || i - start > 63 || s.p[start] == '-' || s.p[i - 1] == '-')
            return false;
        start = i + 1;
    }
    return true;
}

/* RFC 5321, section 4.1.2: Mailbox, without quoted local parts and address literals. */
static bool email(struct slice s)
{
    static const char others[] = "!#$%&'*+-/=?^_`{|}~.";
    ptrdiff_t at = sl_find(s, '@');
    if (at < 1 || at > 64 || s.p[0] == '.' || s.p[at - 1] == '.')
        return false;
    for (ptrdiff_t i = 0; i < at; i++)
        if ((!alnum(s.p[i]) && (!s.p[i] || !strchr(others, s.p[i]))) ||
            (s.p[i] == '.' && s.p[i + 1] == '.'))
            return false;
    return hostname(sl(s.p + at + 1, s.n - (size_t)at - 1));
}

static bool hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* RFC 3986, appendix A: the characters of a URI or a reference. */
static bool uri_reference(struct slice s)
{
    bool fragment = false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%') {
            if (i + 2 >= s.n || !hex(s.p[i + 1]) || !hex(s.p[i + 2]))
                return false;
        } else if (s.p[i] == '#') {
            if (fragment)
                return false;
            fragment = true;
        } else if (!alnum(s.p[i]) && (!s.p[i] || !strchr("-._~:/?[]@!$&'()*+,;=", s.p[i]))) {
            return false;
        }
    }
    return true;
}

static bool uri(struct slice s)
{
    ptrdiff_t colon = sl_find(s, ':');
    if (colon < 1 || (s.p[0] >= '0' && s.p[0] <= '9') || !alnum(s.p[0]))
        return false;
    for (ptrdiff_t i = 0; i < colon; i++)
        if (!alnum(s.p[i]) && !strchr("+-.", s.p[i]))
            return false;
    return uri_reference(s);
}

/* RFC 4122, section 3. */
static bool uuid(struct slice s)
{
    for (size_t i = 0; i < s.n && s.n == 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? s.p[i] != '-' : !hex(s.p[i]))
            return false;
    return s.n == 36;
}

/* RFC 6901, section 3. */
static bool json_pointer(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '~' && (i + 1 == s.n || (s.p[i + 1] != '0' && s.p[i + 1] != '1')))
            return false;
    return !s.n || s.p[0] == '/';
}

const char *const schema_formats[] = {"date",          "date-time", "email",        "hostname",
                                      "ipv4",          "ipv6",      "time",         "uri",
                                      "uri-reference", "uuid",      "json-pointer", NULL};
static bool (*const judges[])(struct slice s) = {date,          date_time, email,       hostname,
                                                 ipv4,          ipv6,      time_of_day, uri,
                                                 uri_reference, uuid,      json_pointer};

static size_t find(const char *name)
{
    size_t i = 0;
    while (schema_formats[i] && strcmp(schema_formats[i], name))
        i++;
    return i;
}

bool schema_format_known(const char *name)
{
    return schema_formats[find(name)] != NULL;
}

bool schema_format_ok(const char *name, struct slice text)
{
    size_t i = find(name);
    return !schema_formats[i] || judges[i](text);
}

bool schema_format_judge(const char *name, const char *text, size_t n)
{
    return schema_format_ok(name, sl(text, n));
}
