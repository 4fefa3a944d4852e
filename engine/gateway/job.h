/* A request that is answered by a job off the loop's thread: what blocks (the journal of one run,
 * administration) is done there, the answer is made and written there, and sent in the loop's
 * thread. A handler's struct begins with a struct api_job. */
#pragma once
#include "base/js.h"
#include "gateway/api_int.h"

#define JOB_ETAG_MAX     48
#define JOB_LOCATION_MAX 256
#define JOB_READ_MS      30000 /* for reading one run: then 504 */

struct api_job {
    struct api_read read; /* read.e: set by `fn`: answered by api_fail */
    /* In a thread of the pool. It reads what the handler has put beside this struct, c->args, and
     * what of the gateway never changes (names, config); sets status, and o or text. */
    void (*fn)(struct api_job *j, struct kadmin *a);
    /* In the loop's thread, before an answer that is no error is sent: false: not yet,
     * api_job_answer is called later; meanwhile c->cancel must be set, and call api_job_drop. NULL:
     * at once. */
    bool (*ready)(struct api_job *j);
    void (*release)(struct api_job *j); /* frees the handler's own members; NULL: there are none */
    int status;
    struct json_object *o;           /* owned; problem details when status is 400 or more */
    struct buf text;                 /* instead of o: the body as it is */
    const char *type;                /* of `text` */
    char etag[JOB_ETAG_MAX];         /* quoted; "" none */
    char location[JOB_LOCATION_MAX]; /* "" none */
    bool later;                      /* Retry-After */
    bool waited;                     /* Preference-Applied: wait */
    char *if_none_match;
};
/* Takes j over (calloced, the handler's members filled). The call is answered in any case. */
void api_job_start(struct call *c, struct api_job *j,
                   void (*fn)(struct api_job *j, struct kadmin *a));
void api_job_answer(struct api_job *j);
/* In the loop's thread, after `ready` said no: `fn` once more. The call is answered in any case. */
void api_job_again(struct api_job *j);
/* In the loop's thread: another answer than that of `fn`. Takes o over. */
void api_job_set(struct api_job *j, int status, struct json_object *o);
void api_job_drop(struct api_job *j); /* not answered: the gateway does */

/* Problem details of a status as an object, to which members can be added. */
struct json_object *api_problem(int status, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A parameter of the query as a whole number from `low` to `high`; `otherwise` when it is absent.
 * False: answered with 400. */
bool api_query_int(struct call *c, const char *name, int64_t low, int64_t high, int64_t otherwise,
                   int64_t *ret);
/* The same, true or false; `otherwise` false. */
bool api_query_bool(struct call *c, const char *name, bool *ret);
