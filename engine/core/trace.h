/* A run's history for people: what its records say, task by task. Follows validity as the fold does
 * (facts of the latest owner only) but keeps what the fold forgets: outputs, times, offsets, voids.
 * For the CLI, `run FILE` and the gateway; one partition at a time. */
#pragma once
#include "core/rec.h"
#include "core/state.h"

struct trace_task {
    char *ref;
    int visit, rewind, attempt;
    /* "running", "waiting", "completed", "skipped", "faulted"; of a try also "retrying",
     * "catching"; "interrupted": left by a timeout, an error beside it, or the run's end */
    const char *status;
    int retries;                  /* of a try */
    int64_t retry_ms;             /* of a try that is retrying: when the attempt begins */
    int64_t started_ms, ended_ms; /* 0: not */
    int64_t first, last;          /* offsets of its first and last record */
    struct val *output, *error;
};
struct trace_run {
    char id[RUN_ID_MAX];
    enum run_status status; /* RUN_NONE: pending */
    char *agent, *version, *key, *hash, *feed, *src_name;
    int64_t src_offset;
    struct val *input, *output, *error, *fork_of;
    int64_t requested_ms, started_ms, ended_ms, first, last;
    struct trace_task *tasks; /* in start order; only when the trace keeps tasks */
    size_t ntasks, cap;
    struct map places; /* reference, visit and rewind -> place in tasks + 1 */
    size_t faulted_tasks;
};
struct trace {
    const char *only; /* run id, or NULL: all */
    bool keep_tasks;
    int64_t epoch;
    uint64_t nonce;
    struct map runs;          /* id -> struct trace_run */
    struct trace_run **order; /* as requested */
    size_t n, cap;
    int64_t voids, bad;
    bool cut; /* facts of runs whose request is gone were seen */
    /* Outputs and errors of tasks are kept for the places [values_from, values_end) only, and
     * values_end comes down when they would exceed values_max bytes; that of values_from is kept
     * in any case. So a long run can be looked at page by page in bounded memory. For a trace of
     * one run; trace_init: all. */
    size_t values_from, values_end, values_max, values_bytes;
};
void trace_init(struct trace *t, const char *only, bool keep_tasks);
void trace_free(struct trace *t);
/* 1: the record counted, 0: not of interest, void or a duplicate; -ENOMEM. */
int trace_add(struct trace *t, struct rec *r);
/* True when r is a fact of a former owner at its place. Call before trace_add. */
bool trace_is_void(const struct trace *t, const struct rec *r);

/* As JSON, for the CLI and the gateway (trace_json.c). The caller owns what is returned. `tasks`:
 * with input, output, error and the tasks; else the line of a list. */
struct json_object *trace_json(const struct trace_run *r, bool tasks);
/* The same with the tasks of the places [from, to) only. */
struct json_object *trace_json_page(const struct trace_run *r, size_t from, size_t to);
/* One record, as `runs history` lists it. */
struct json_object *trace_record_json(const struct rec *r, bool is_void);
