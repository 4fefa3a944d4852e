/* URLs of calls. Pure; RFC 3986 sections 2 and 3, RFC 6570 section 3.2.2. */
#include "tasks/url.h"

#include <errno.h>
#include <stdlib.h>

#include "tasks/tasks_int.h"

static bool unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

int url_encode(struct slice s, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (unreserved(c)) {
            buf_addc(out, (char)c);
        } else {
            char esc[3] = {'%', hex[c >> 4], hex[c & 15]};
            buf_add(out, esc, sizeof esc);
        }
    }
    return buf_error(out);
}

/* Appends the percent-encoded text of a scalar. */
static int encode_value(struct json_object *v, struct buf *out)
{
    struct buf text;
    buf_init(&text, URL_MAX_BYTES);
    int rc = task_scalar(v, &text);
    if (!rc)
        rc = url_encode(buf_slice(&text), out);
    buf_free(&text);
    return rc;
}

static struct json_object *member(struct json_object *o, struct slice name)
{
    char *key = sl_dup(name);
    struct json_object *v = key ? js_get(o, key) : NULL;
    free(key);
    return v;
}

static int too_long(int rc, struct err *e)
{
    if (rc == -ENOBUFS)
        return err_set(e, rc, "send large values in the body", "the URL is longer than %d bytes",
                       URL_MAX_BYTES);
    return err_set(e, rc, "give the process more memory", "no memory for a URL");
}

int url_expand(struct slice tmpl, struct json_object *vars, struct buf *out, struct err *e)
{
    while (tmpl.n) {
        ptrdiff_t open = sl_find(tmpl, '{');
        ptrdiff_t end = open < 0 ? -1 : sl_find(sl_from(tmpl, (size_t)open), '}');
        if (end < 0) { /* no further variable; the client refuses a lone brace */
            buf_add_slice(out, tmpl);
            break;
        }
        struct slice name = sl(tmpl.p + open + 1, (size_t)end - 1);
        buf_add(out, tmpl.p, (size_t)open);
        int rc = encode_value(member(vars, name), out);
        if (rc == -EINVAL)
            return err_set(e, rc,
                           "only text, numbers and booleans can stand in a URL; pick a member with "
                           "input.from or an expression",
                           "{%.*s} of the endpoint is an %s", SL_ARG(name),
                           js_kind(member(vars, name)));
        if (rc)
            return too_long(rc, e);
        tmpl = sl_from(tmpl, (size_t)(open + end) + 1);
    }
    return buf_error(out) ? too_long(buf_error(out), e) : 0;
}

struct query {
    struct buf *out;
    bool first; /* no '?' stands in the URL yet */
    bool bare;  /* the URL ends in '?' or '&' */
};

static int add_param(struct query *q, const char *name, struct json_object *v)
{
    if (!v)
        return 0;
    if (!q->bare)
        buf_addc(q->out, q->first ? '?' : '&');
    q->first = q->bare = false;
    url_encode(sl_str(name), q->out);
    buf_addc(q->out, '=');
    return encode_value(v, q->out);
}

int url_add_query(struct slice url, struct json_object *query, struct buf *out, struct err *e)
{
    ptrdiff_t hash = sl_find(url, '#');
    struct slice fragment = hash < 0 ? (struct slice){NULL, 0} : sl_from(url, (size_t)hash);
    struct slice head = hash < 0 ? url : sl(url.p, (size_t)hash);
    struct query q = {.out = out, .first = sl_find(head, '?') < 0};
    q.bare = !q.first && (head.p[head.n - 1] == '?' || head.p[head.n - 1] == '&');
    buf_add_slice(out, head);
    if (query && !json_object_is_type(query, json_type_object))
        return err_set(e, -EINVAL, "give a map of names and values",
                       "the query is %s, not an object", js_kind(query));
    if (query) {
        json_object_object_foreach(query, name, v)
        {
            int rc = 0;
            if (json_object_is_type(v, json_type_array)) {
                for (size_t i = 0; !rc && i < json_object_array_length(v); i++)
                    rc = add_param(&q, name, json_object_array_get_idx(v, i));
            } else {
                rc = add_param(&q, name, v);
            }
            if (rc == -EINVAL)
                return err_set(e, rc, "give text, a number, a boolean or an array of these",
                               "the query parameter '%s' has a value that can't stand in a URL",
                               name);
            if (rc)
                return too_long(rc, e);
        }
    }
    buf_add_slice(out, fragment);
    return buf_error(out) ? too_long(buf_error(out), e) : 0;
}

struct slice url_shown(struct slice url)
{
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] == '?' || url.p[i] == '#')
            url.n = i;
    for (size_t i = 0, slashes = 0; i < url.n && slashes < 3; i++) {
        slashes += url.p[i] == '/';
        if (url.p[i] == '@' && slashes >= 2)
            return sl_from(url, i + 1);
    }
    return url;
}
