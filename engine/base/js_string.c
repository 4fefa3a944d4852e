/* JSON strings: reading with escapes and UTF-8 checked, and writing. Thread-safe: pure functions.
 */
#include <errno.h>

#include "base/hash.h"
#include "base/js_int.h"

static int hex4(const char *p, const char *end, uint32_t *ret)
{
    uint64_t v;
    if (end - p < 4 || hex_read_u64(sl(p, 4), &v))
        return -EINVAL;
    *ret = (uint32_t)v;
    return 0;
}

static void add_utf8(struct buf *b, uint32_t c)
{
    char o[4];
    size_t n;
    if (c < 0x80) {
        o[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        o[0] = (char)(0xc0 | c >> 6);
        o[1] = (char)(0x80 | (c & 63));
        n = 2;
    } else if (c < 0x10000) {
        o[0] = (char)(0xe0 | c >> 12);
        o[1] = (char)(0x80 | (c >> 6 & 63));
        o[2] = (char)(0x80 | (c & 63));
        n = 3;
    } else {
        o[0] = (char)(0xf0 | c >> 18);
        o[1] = (char)(0x80 | (c >> 12 & 63));
        o[2] = (char)(0x80 | (c >> 6 & 63));
        o[3] = (char)(0x80 | (c & 63));
        n = 4;
    }
    buf_add(b, o, n);
}

/* The escape whose backslash is at *p; *p moves behind it. Returns what is wrong or NULL. */
static const char *read_escape(const char **p, const char *end, struct buf *out,
                               const char **ret_hint)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *q = *p + 1;
    const char *known = q < end && *q ? strchr(from, *q) : NULL;
    if (known) {
        buf_addc(out, to[known - from]);
        *p = q + 1;
        return NULL;
    }
    *ret_hint =
        "allowed are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\u with four hexadecimal digits";
    if (q == end || *q != 'u')
        return "an unknown escape in a string";
    uint32_t c, low;
    if (hex4(q + 1, end, &c))
        return "\\u without four hexadecimal digits";
    q += 5;
    if (c >= 0xd800 && c <= 0xdfff) {
        *ret_hint =
            "characters beyond U+FFFF are two escapes: \\uD800-\\uDBFF, then \\uDC00-\\uDFFF";
        if (c > 0xdbff || end - q < 6 || q[0] != '\\' || q[1] != 'u' || hex4(q + 2, end, &low) ||
            low < 0xdc00 || low > 0xdfff)
            return "half of a surrogate pair in a string";
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        q += 6;
    }
    add_utf8(out, c);
    *p = q;
    return NULL;
}

/* The end of the run of plain characters that begins at p. */
static const char *plain(const char *p, const char *end, bool *ascii)
{
    for (; p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20; p++)
        if ((unsigned char)*p >= 0x80)
            *ascii = false;
    return p;
}

/* The first byte of s that does not belong to valid UTF-8. */
static const char *first_bad(struct slice s)
{
    for (size_t i = 0; i < s.n;) {
        size_t n = 1;
        while (i + n < s.n && ((unsigned char)s.p[i + n] & 0xc0) == 0x80)
            n++;
        if (!utf8_valid(sl(s.p + i, n)))
            return s.p + i;
        i += n;
    }
    return s.p + s.n;
}

int js_string(const char *p, const char *end, struct buf *room, struct slice *ret_text,
              const char **ret_next, const char **ret_bad, const char **ret_hint)
{
    bool escaped = false;
    buf_reset(room);
    *ret_bad = NULL;
    p++;
    for (;;) {
        bool ascii = true;
        const char *run = p;
        p = plain(p, end, &ascii);
        struct slice s = sl(run, (size_t)(p - run));
        if (!ascii && !utf8_valid(s)) {
            *ret_next = first_bad(s);
            *ret_hint = "send the text in UTF-8";
            *ret_bad = "bytes that are not UTF-8 in a string";
            return -EINVAL;
        }
        if (p < end && *p == '"' && !escaped) {
            *ret_text = s;
            break;
        }
        buf_add_slice(room, s);
        if (p < end && *p == '"') {
            *ret_text = buf_slice(room);
            break;
        }
        *ret_next = p;
        if (p == end || *p != '\\') {
            *ret_hint = p == end
                            ? "the text is cut or a quote is missing"
                            : "write line breaks as \\n and other control characters as \\u00XX";
            *ret_bad = p == end ? "a string that does not end" : "a control character in a string";
            return -EINVAL;
        }
        escaped = true;
        *ret_bad = read_escape(&p, end, room, ret_hint);
        if (*ret_bad)
            return -EINVAL;
        if (buf_error(room))
            return -ENOMEM;
    }
    if (buf_error(room))
        return -ENOMEM;
    *ret_next = p + 1;
    return 0;
}

int js_unquote(struct slice text, struct buf *b)
{
    if (text.n < 2 || text.p[0] != '"')
        return -EINVAL;
    struct buf room;
    buf_init(&room, text.n);
    struct slice s;
    const char *next, *bad, *hint;
    int rc = js_string(text.p, text.p + text.n, &room, &s, &next, &bad, &hint);
    if (!rc && next != text.p + text.n)
        rc = -EINVAL;
    if (!rc)
        rc = buf_add_slice(b, s);
    buf_free(&room);
    return rc;
}

/* How many bytes from p form one valid character, 0: none. */
static size_t character(const char *p, const char *end)
{
    size_t n = 1;
    while (n < 4 && p + n < end && ((unsigned char)p[n] & 0xc0) == 0x80)
        n++;
    /* Trailing bytes that belong to nothing are left to the next round. */
    for (; n; n--)
        if (utf8_valid(sl(p, n)))
            return n;
    return 0;
}

static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";

size_t js_str_size(struct slice s)
{
    size_t n = 2 + s.n;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\')
            n += c && strchr(from, c) ? 1 : 5;
    }
    return n;
}

int js_write_str(struct buf *b, struct slice s)
{
    const char *p = s.p, *end = s.p + s.n;
    buf_addc(b, '"');
    while (p < end) {
        const char *run = p;
        while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f && *p != '"' &&
               *p != '\\')
            p++;
        buf_add(b, run, (size_t)(p - run));
        if (p == end)
            break;
        const char *known = *p ? strchr(from, *p) : NULL;
        if (known) {
            buf_addc(b, '\\');
            buf_addc(b, to[known - from]);
            p++;
        } else if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            buf_addf(b, "\\u%04x", (unsigned char)*p++);
        } else {
            size_t n = character(p, end);
            if (n)
                buf_add(b, p, n);
            else
                buf_adds(b, "\xef\xbf\xbd");
            p += n ? n : 1;
        }
    }
    return buf_addc(b, '"');
}
