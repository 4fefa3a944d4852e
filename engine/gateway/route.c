/* See route.h. */
#include "gateway/route.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/api_int.h"

const struct route *const route_tables[] = {
    routes_openapi, routes_health, routes_list, routes_metrics, routes_events,
    routes_stream,  routes_start,  routes_runs, routes_steer,   routes_agents,
    routes_dlq,     routes_group,  NULL};

const char *scope_name(enum scope s)
{
    static const char *const names[] = {"none", "publish", "read", "operate", "admin"};
    return names[s];
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int route_decode(struct slice s, char **ret)
{
    char *to = malloc(s.n + 1), *p = to;
    if (!to)
        return 500;
    for (size_t i = 0; i < s.n; i++) {
        int c = (unsigned char)s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex(s.p[i + 1]) : -1, low = high < 0 ? -1 : hex(s.p[i + 2]);
            c = low < 0 ? 0 : high * 16 + low;
            i += 2;
        }
        if (!c) {
            free(to);
            return 400;
        }
        *p++ = (char)c;
    }
    *p = 0;
    *ret = to;
    return 0;
}

static bool is_arg(struct slice s)
{
    return s.n > 2 && s.p[0] == '{';
}

/* The segments of `path` that stand at the {names} of the template; false: no match. */
static bool match(const char *template, const char *path, struct slice args[ROUTE_ARGS_MAX],
                  size_t *ret_n)
{
    struct slice t = sl_str(template), p = sl_str(path), a, b;
    *ret_n = 0;
    for (;;) {
        bool more = sl_split(&t, '/', &a);
        if (more != sl_split(&p, '/', &b))
            return false;
        if (!more)
            return true;
        if (is_arg(a) && b.n && *ret_n < ROUTE_ARGS_MAX)
            args[(*ret_n)++] = b;
        else if (!sl_eq(a, b))
            return false;
    }
}

static void add_allowed(char *allow, size_t size, const char *method)
{
    size_t n = strlen(allow);
    if (!strstr(allow, method))
        (void)snprintf(allow + n, size - n, "%s%s%s", n ? ", " : "", method,
                       !strcmp(method, "GET") ? ", HEAD" : "");
}

const struct route *route_find(const char *method, const char *path, char *ret_args[ROUTE_ARGS_MAX],
                               int *ret_status, char *allow, size_t allow_size)
{
    struct slice args[ROUTE_ARGS_MAX];
    const char *wanted = !strcmp(method, "HEAD") ? "GET" : method;
    size_t n;
    *ret_status = 404;
    *allow = 0;
    memset(ret_args, 0, ROUTE_ARGS_MAX * sizeof *ret_args);
    for (const struct route *const *table = route_tables; *table; table++)
        for (const struct route *r = *table; r->method; r++) {
            if (!match(r->path, path, args, &n))
                continue;
            *ret_status = 405;
            add_allowed(allow, allow_size, r->method);
            if (strcmp(r->method, wanted))
                continue;
            int status = 0;
            for (size_t i = 0; i < n && !status; i++)
                status = route_decode(args[i], &ret_args[i]);
            *ret_status = status;
            return status ? NULL : r;
        }
    if (*allow)
        add_allowed(allow, allow_size, "OPTIONS");
    return NULL;
}

/* ---- content types ---- */

/* "q=0", "q=0.0": not acceptable. */
static bool is_refused(struct slice params)
{
    struct slice one;
    while (sl_split(&params, ';', &one)) {
        one = sl_trim(one);
        if (one.n < 3 || (one.p[0] | 0x20) != 'q' || one.p[1] != '=')
            continue;
        for (size_t i = 2; i < one.n; i++)
            if (one.p[i] != '0' && one.p[i] != '.')
                return false;
        return true;
    }
    return false;
}

/* How closely a range such as "text/" + "*" names the type: 0 not at all, 3 as it is. */
static int closeness(struct slice range, const char *type)
{
    size_t n = strlen(type), main = strcspn(type, "/");
    if (sl_is(range, "*/*"))
        return 1;
    if (range.n == main + 2 && range.p[main + 1] == '*' && !strncasecmp(range.p, type, main + 1))
        return 2;
    return range.n == n && !strncasecmp(range.p, type, n) ? 3 : 0;
}

/* The range that names the type most closely decides. */
static bool type_accepted(const char *type, const char *accept)
{
    struct slice rest = sl_str(accept), item, range;
    int best = 0;
    bool yes = false;
    while (sl_split(&rest, ',', &item)) {
        struct slice params = item;
        (void)sl_split(&params, ';', &range);
        int c = closeness(sl_trim(range), type);
        if (c > best) {
            best = c;
            yes = !params.p || !is_refused(params);
        }
    }
    return yes;
}

bool route_accepted(const struct route *r, const char *accept)
{
    if (!accept || !sl_trim(sl_str(accept)).n)
        return true;
    for (const struct answer *a = r->answers; a && a->status; a++)
        if (a->status < 300 && ((!a->schema && !a->type) ||
                                type_accepted(a->type ? a->type : "application/json", accept)))
            return true;
    return !r->answers;
}
