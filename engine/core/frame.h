/* Composite tasks that a run is inside of (struct frame, state.h): entering, leaving, and what a
 * try keeps for its next attempt. Part of the fold: called by run_apply only, on known and spec
 * alike. -ENOMEM leaves a state that must be thrown away. */
#pragma once
#include "core/snap.h"
#include "core/state.h"

void frame_free(struct frame *f);
int frame_copy(struct frame *to, const struct frame *from);
/* task.started of a composite. */
int frame_push(struct run_state *st, const struct rec *r);
/* Leaves the innermost one. */
void frame_pop(struct run_state *st);
/* Leaves all inside `ref` because of an error there; each counts as a visit that has ended.
 * -ENOENT: there is no such frame, nothing was changed. */
int frame_unwind(struct run_state *st, const char *ref);
/* A new attempt of the innermost frame, a try: visits inside it and the context are what they were
 * at the first. */
int frame_retry(struct run_state *st, int attempt);
/* The attempt that a task at the present place belongs to, from 1. */
int frames_attempt(const struct run_state *st);
/* True for `ref` being an iteration of the innermost frame: its reference with /for/N. */
bool frame_iteration(const struct run_state *st, const char *ref, int64_t *ret_index);

/* Snapshot text: the member "frames", and back. -EPROTO. */
void frames_write(const struct run_state *st, struct buf *b);
int frames_read(struct run_state *st, struct json_object *v);
int note_visit(struct run_state *st, const char *ref);
