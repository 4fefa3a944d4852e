/* See dead.h. */
#include "triggers/dead.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/js.h"

#define TEXT_KEPT 1024 /* bytes of each text of an error that is too long */

static void add(struct krec *out, struct kheader *h, const char *name, struct slice v)
{
    if (v.p && out->nheaders < DEAD_HEADERS_MAX)
        h[out->nheaders++] = (struct kheader){sl_str(name), v};
}

/* Ends a text behind its first TEXT_KEPT bytes, not inside a character. */
static void cut(char *s)
{
    size_t n = s ? strlen(s) : 0;
    if (n <= TEXT_KEPT)
        return;
    for (n = TEXT_KEPT; n && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
        ;
    memcpy(s + n - 3, "...", 4);
}

/* Appends the error, its texts cut when it is long as a whole. */
static int add_error(struct buf *mem, const char *json)
{
    struct problem p = {0};
    struct json_object *o = NULL;
    if (!json || strlen(json) <= DEAD_ERROR_MAX)
        return json ? buf_adds(mem, json) : 0;
    int error = js_parse(sl_str(json), &o, NULL);
    if (!error && !(error = problem_from_json(&p, o))) {
        cut(p.type);
        cut(p.title);
        cut(p.detail);
        cut(p.instance);
        json_object_put(o);
        o = problem_json(&p);
        error = o ? js_write(o, mem) : -ENOMEM;
    }
    json_object_put(o);
    problem_free(&p);
    return error == -ENOMEM ? error : error ? buf_adds(mem, "{}") : 0;
}

/* The event's own headers, as many as there is room for. Returns whether all are there. */
static bool add_own(struct krec *out, struct kheader *h, const struct krec *original, size_t places)
{
    size_t bytes = 0;
    for (size_t i = 0; i < original->nheaders; i++) {
        const struct kheader *x = &original->headers[i];
        if (!places || bytes + x->name.n + x->value.n > DEAD_HEAD_BYTES)
            return false;
        bytes += x->name.n + x->value.n;
        h[out->nheaders++] = *x;
        places--;
    }
    return true;
}

static void add_original(struct krec *out, struct kheader *h, const struct krec *original)
{
    static const char *const cuts[] = {NULL, "value", "headers", "value,headers"};
    size_t place = out->nheaders++; /* kept free; the event's headers stand behind it */
    unsigned what = 0;
    if (out->value.n > DEAD_VALUE_MAX) {
        out->value = SL("");
        what = 1;
    }
    if (!add_own(out, h, original, DEAD_HEADERS_MAX - out->nheaders))
        what |= 2;
    if (what)
        h[place] = (struct kheader){SL("tm-dlq-cut"), sl_str(cuts[what])};
    else
        memmove(&h[place], &h[place + 1], (--out->nheaders - place) * sizeof *h);
}

int dead_make(struct krec *out, struct kheader *h, struct buf *mem, const char *topic,
              const struct dead_letter *d, const struct krec *original, struct slice key,
              struct slice value)
{
    char time[TIME_TEXT_MAX];
    memset(out, 0, sizeof *out);
    out->topic = sl_str(topic);
    out->partition = -1;
    out->time_ms = d->time_ms;
    out->key = key;
    out->value = value;
    out->headers = h;
    time_write(time, d->time_ms);
    int error = add_error(mem, d->error_json);
    size_t error_n = mem->n;
    if (error || buf_addf(mem, "%d", d->attempts) < 0)
        return -ENOMEM;
    size_t attempts_n = mem->n - error_n;
    if (buf_adds(mem, time) < 0)
        return -ENOMEM;
    add(out, h, "tm-dlq-kind", sl_str(d->kind));
    add(out, h, "tm-dlq-error", sl(d->error_json ? mem->p : NULL, error_n));
    add(out, h, "tm-dlq-origin", sl_str(d->origin));
    add(out, h, "tm-dlq-feed", sl_str(d->feed));
    add(out, h, "tm-dlq-run", sl_str(d->run));
    add(out, h, "tm-dlq-agent", sl_str(d->agent));
    add(out, h, "tm-dlq-task", sl_str(d->task));
    add(out, h, "tm-dlq-attempts", sl(mem->p + error_n, attempts_n));
    add(out, h, "tm-dlq-time", sl_from(buf_slice(mem), error_n + attempts_n));
    if (original)
        add_original(out, h, original);
    return 0;
}
