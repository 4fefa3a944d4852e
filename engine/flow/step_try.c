/* Errors inside a try (step.h, phase CATCH): is it caught, is the list run again, and when. The
 * limits count from record times, jitter comes from a hash of the place, so that a repeat after a
 * takeover decides the same. DSL reference, "Catch" and "Retry Policy". */
#include "flow/step_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

#define RETRY_DELAY_MS   1000                      /* when the policy has no delay */
#define RETRY_DELAY_MAX  (1000LL * 366 * 86400000) /* as durations */
#define RETRY_JITTER_KEY 0x7469646d61726b21ULL

static bool type_matches(const char *want, const struct problem *p)
{
    struct problem filter = {.type = (char *)want, .status = 1};
    static const char *const names[] = {"configuration",  "validation",    "expression",
                                        "authentication", "authorization", "timeout",
                                        "communication",  "runtime"};
    if (p->type && !strcmp(p->type, want))
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) /* whatever known prefix it has */
        if (problem_is(&filter, names[i]))
            return problem_is(p, names[i]);
    return false;
}

/* errors.with: members compare as they stand there. */
static bool filter_matches(struct json_object *with, struct json_object *error)
{
    struct problem p = {0};
    bool yes = true;
    if (!with)
        return true;
    if (problem_from_json(&p, error) < 0)
        return false;
    json_object_object_foreach(with, key, v)
    {
        const char *text = json_object_get_string(v);
        yes = yes && (!strcmp(key, "type") ? type_matches(text, &p)
                                           : json_object_equal(v, js_get(error, key)) == 1);
    }
    problem_free(&p);
    return yes;
}

/* The error goes on outwards, as it is. */
static int not_caught(struct step *s)
{
    if (problem_from_json(&s->problem, val_tree(s->in.error)) < 0)
        problem_set(&s->problem, "runtime", 0, NULL, "an error without type or status");
    return STAGE_FAULT;
}

void step_catch_begin(struct step *s)
{
    s->stage = ST_CATCH_WHEN;
}

int stage_catch_when(struct step *s)
{
    const struct catch_ *c = s->in.task->catch_;
    bool yes;
    if (!filter_matches(c->with, val_tree(s->in.error)))
        return not_caught(s);
    int r = step_condition(s, c->when, s->input, true, "catch.when", &yes);
    if (r <= 0)
        return r;
    if (!yes)
        return not_caught(s);
    s->stage = ST_CATCH_EXCEPT;
    return STAGE_ON;
}

/* Handled: catch.do, or the try ends with its input as output. With a policy that gave up and no
 * catch.do the error is raised again. */
static int handle(struct step *s)
{
    const struct catch_ *c = s->in.task->catch_;
    if (c->retry && !c->has_body)
        return not_caught(s);
    s->want = STEP_CAUGHT;
    s->stage = ST_END;
    return STAGE_ON;
}

int stage_catch_except(struct step *s)
{
    const struct catch_ *c = s->in.task->catch_;
    bool except;
    int r = step_condition(s, c->except_when, s->input, false, "catch.exceptWhen", &except);
    if (r <= 0)
        return r;
    if (except)
        return not_caught(s);
    if (!c->retry || (c->retry->count >= 0 && s->in.retries >= c->retry->count))
        return handle(s);
    s->stage = ST_RETRY_WHEN;
    return STAGE_ON;
}

int stage_retry_when(struct step *s)
{
    bool yes;
    int r = step_condition(s, s->in.task->catch_->retry->when, s->input, true, "retry.when", &yes);
    if (r <= 0)
        return r;
    if (!yes)
        return handle(s);
    s->stage = ST_RETRY_EXCEPT;
    return STAGE_ON;
}

int stage_retry_except(struct step *s)
{
    bool except;
    int r = step_condition(s, s->in.task->catch_->retry->except_when, s->input, false,
                           "retry.exceptWhen", &except);
    if (r <= 0)
        return r;
    if (except)
        return handle(s);
    s->limit_ms = -1;
    s->stage = s->in.task->catch_->retry->duration ? ST_RETRY_LIMIT : ST_RETRY_DELAY;
    return STAGE_ON;
}

int stage_retry_limit(struct step *s)
{
    int r = step_duration(s, s->in.task->catch_->retry->duration, "limit.duration", &s->limit_ms);
    if (r <= 0)
        return r;
    s->stage = ST_RETRY_DELAY;
    return STAGE_ON;
}

static int64_t grown(int64_t delay, int backoff, int64_t n)
{
    int64_t factor = 1, out;
    if (backoff == BACKOFF_LINEAR)
        factor = n;
    else if (backoff == BACKOFF_EXPONENTIAL)
        factor = n > 62 ? INT64_MAX : (int64_t)1 << (n - 1);
    if (__builtin_mul_overflow(delay, factor, &out) || out > RETRY_DELAY_MAX)
        return RETRY_DELAY_MAX;
    return out;
}

int stage_retry_delay(struct step *s)
{
    const struct retry *p = s->in.task->catch_->retry;
    int64_t delay = RETRY_DELAY_MS;
    int r = p->delay ? step_duration(s, p->delay, "retry.delay", &delay) : STAGE_ON;
    if (r <= 0)
        return r;
    s->delay_ms = grown(delay, (int)p->backoff, s->in.retries + 1);
    s->stage = p->jitter_from && p->jitter_to ? ST_RETRY_FROM : ST_RETRY_ATTEMPT;
    return STAGE_ON;
}

int stage_retry_from(struct step *s)
{
    int r =
        step_duration(s, s->in.task->catch_->retry->jitter_from, "jitter.from", &s->jitter_from_ms);
    if (r <= 0)
        return r;
    s->stage = ST_RETRY_TO;
    return STAGE_ON;
}

/* A number in [0, span] that is the same at every repeat of this decision. */
static int64_t chosen(const struct step *s, int64_t span)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "%s %s %d %d", s->in.run_id, s->in.ref, s->in.visit,
                     s->in.attempt);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return (int64_t)(hash64(sl(text, len), RETRY_JITTER_KEY) % ((uint64_t)span + 1));
}

int stage_retry_to(struct step *s)
{
    int64_t to;
    int r = step_duration(s, s->in.task->catch_->retry->jitter_to, "jitter.to", &to);
    if (r <= 0)
        return r;
    int64_t span = to > s->jitter_from_ms ? to - s->jitter_from_ms : 0;
    int64_t jitter = s->jitter_from_ms + chosen(s, span);
    if (__builtin_add_overflow(s->delay_ms, jitter, &s->delay_ms) || s->delay_ms > RETRY_DELAY_MAX)
        s->delay_ms = RETRY_DELAY_MAX;
    s->stage = ST_RETRY_ATTEMPT;
    return STAGE_ON;
}

/* The last question of a retry: it must begin within the limit over all attempts. */
int stage_retry_attempt(struct step *s)
{
    const struct retry *p = s->in.task->catch_->retry;
    int64_t passed = s->in.now_ms - s->in.frame_started_ms;
    if (s->limit_ms >= 0 && passed + s->delay_ms > s->limit_ms)
        return handle(s);
    int r = p->attempt_duration
                ? step_duration(s, p->attempt_duration, "limit.attempt.duration", &s->attempt_ms)
                : STAGE_ON;
    if (r <= 0)
        return r;
    s->retrying = true;
    s->want = STEP_CAUGHT;
    s->stage = ST_END;
    return STAGE_ON;
}

/* The same limit for the first attempt, when the try is entered. */
int stage_attempt(struct step *s)
{
    const struct retry *p = s->in.task->catch_->retry;
    int r = p && p->attempt_duration
                ? step_duration(s, p->attempt_duration, "limit.attempt.duration", &s->attempt_ms)
                : STAGE_ON;
    if (r <= 0)
        return r;
    s->want = STEP_ENTER;
    s->stage = ST_END;
    return STAGE_ON;
}
