/* See frame.h. */
#include "core/frame.h"

#include <errno.h>
#include <stdlib.h>

#define LOOP_MARK "/for/"

#define AT(member) offsetof(struct frame, member)
static const struct snap_field fields[] = {
    {"ref", SNAP_TEXT, AT(ref)},
    {"visit", SNAP_INT, AT(visit)},
    {"attempt", SNAP_INT, AT(attempt), .preset = 1},
    {"startedMs", SNAP_I64, AT(started_ms)},
    {"raw", SNAP_VAL, AT(raw)},
    {"in", SNAP_VAL, AT(in)},
    {"deadlineMs", SNAP_I64, AT(deadline_ms), .optional = true},
    {"items", SNAP_VAL, AT(items)},
    {"index", SNAP_I64, AT(index), .optional = true, .counted = true},
    {"tries", SNAP_INT, AT(tries), .optional = true, .counted = true},
    {"triesMax", SNAP_INT, AT(tries_max), .optional = true},
    {"retries", SNAP_I64, AT(retries), .optional = true, .counted = true},
    {"attemptDeadlineMs", SNAP_I64, AT(attempt_deadline_ms), .optional = true},
    {"caught", SNAP_BOOL, AT(caught), .optional = true},
    {"error", SNAP_VAL, AT(error)},
    {"context", SNAP_VAL, AT(context)},
    {"base", SNAP_COUNTS, AT(base), .optional = true},
};
#undef AT
#define NFIELDS (sizeof fields / sizeof *fields)

void frame_free(struct frame *f)
{
    snap_free(fields, NFIELDS, f);
}

int frame_copy(struct frame *to, const struct frame *from)
{
    *to = *from;
    return snap_copy(fields, NFIELDS, to, from);
}

/* True for a task inside the list that a try runs again; not for what is in its catch. */
static bool inside(const struct frame *f, struct slice ref)
{
    struct slice own = sl_str(f->ref);
    return sl_starts(ref, own) && sl_starts(sl_from(ref, own.n), SL("/try/"));
}

/* At its first visit nothing inside can have been visited. */
static int keep_visits(struct frame *f, const struct map *visits)
{
    struct slice k;
    void *v;
    size_t pos = 0;
    while (f->visit > 0 && map_next(visits, &pos, &k, &v))
        if (inside(f, k) && map_put(&f->base, k, v, NULL) < 0)
            return -ENOMEM;
    return 0;
}

int frame_push(struct run_state *st, const struct rec *r)
{
    if (st->nframes == FRAMES_MAX)
        return 0;
    struct frame *v = realloc(st->frames, (st->nframes + 1) * sizeof *v);
    if (!v)
        return -ENOMEM;
    st->frames = v;
    struct frame *f = &v[st->nframes];
    *f = (struct frame){.visit = r->visit,
                        .attempt = r->attempt,
                        .started_ms = r->time_ms,
                        .deadline_ms = r->body.until_ms,
                        .tries = r->body.attempt,
                        .tries_max = r->body.attempt,
                        .attempt_deadline_ms = r->body.attempt_until_ms};
    map_init(&f->base);
    st->nframes++;
    if (set_text(&f->ref, r->ref))
        return -ENOMEM;
    set_val(&f->raw, st->last);
    set_val(&f->in, r->body.has_input ? r->body.input : st->last);
    set_val(&f->items, r->body.items);
    set_val(&st->last, f->in);
    if (!f->tries)
        return 0;
    set_val(&f->context, st->context);
    return keep_visits(f, &st->visits);
}

static struct frame *enclosing_try(struct run_state *st, size_t below)
{
    while (below-- > 0)
        if (st->frames[below].tries)
            return &st->frames[below];
    return NULL;
}

void frame_pop(struct run_state *st)
{
    struct frame *f = &st->frames[st->nframes - 1];
    struct frame *outer = f->tries ? enclosing_try(st, st->nframes - 1) : NULL;
    if (outer && f->tries_max > outer->tries_max)
        outer->tries_max = f->tries_max;
    frame_free(f);
    st->nframes--;
}

int frame_unwind(struct run_state *st, const char *ref)
{
    size_t keep = st->nframes;
    while (keep > 0 && strcmp(st->frames[keep - 1].ref, ref))
        keep--;
    if (!keep)
        return -ENOENT;
    while (st->nframes > keep) {
        if (note_visit(st, st->frames[st->nframes - 1].ref))
            return -ENOMEM;
        frame_pop(st);
    }
    return 0;
}

int frame_retry(struct run_state *st, int attempt)
{
    struct frame *f = &st->frames[st->nframes - 1];
    struct slice k;
    void *v;
    size_t pos = 0;
    while (map_next(&st->visits, &pos, &k, &v)) /* the current one may be deleted */
        if (inside(f, k))
            map_del(&st->visits, k);
    pos = 0;
    while (map_next(&f->base, &pos, &k, &v))
        if (map_put(&st->visits, k, v, NULL) < 0)
            return -ENOMEM;
    f->retries++;
    f->tries = attempt;
    f->tries_max = attempt > f->tries_max ? attempt : f->tries_max;
    set_val(&st->context, f->context);
    return 0;
}

int frames_attempt(const struct run_state *st)
{
    for (size_t i = st->nframes; i-- > 0;)
        if (st->frames[i].tries && !st->frames[i].caught)
            return st->frames[i].tries;
    return 1;
}

bool frame_iteration(const struct run_state *st, const char *ref, int64_t *ret_index)
{
    const struct frame *f = st->nframes ? &st->frames[st->nframes - 1] : NULL;
    struct slice s = sl_str(ref);
    if (!f || !f->items || !sl_starts(s, sl_str(f->ref)))
        return false;
    s = sl_from(s, strlen(f->ref));
    return sl_starts(s, SL(LOOP_MARK)) &&
           sl_i64(sl_from(s, sizeof LOOP_MARK - 1), ret_index) == 0 && *ret_index >= 0;
}

void frames_write(const struct run_state *st, struct buf *b)
{
    buf_adds(b, ",\"frames\":[");
    for (size_t i = 0; i < st->nframes; i++) {
        buf_adds(b, i ? ",{" : "{");
        snap_write(fields, NFIELDS, &st->frames[i], b);
        buf_addc(b, '}');
    }
    buf_addc(b, ']');
}

static int read_frame(struct frame *f, struct json_object *o)
{
    int error = snap_read(fields, NFIELDS, f, o);
    return error ? error : !f->ref || f->retries > INT32_MAX ? -EPROTO : 0;
}

int frames_read(struct run_state *st, struct json_object *v)
{
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    if (n > FRAMES_MAX)
        return -EPROTO;
    if (n && !(st->frames = calloc(n, sizeof *st->frames)))
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        int error = read_frame(&st->frames[st->nframes++], json_object_array_get_idx(v, i));
        if (error)
            return error;
    }
    return 0;
}
