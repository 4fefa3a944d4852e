/* An error of the DSL: problem details (RFC 9457) with the specification's type URIs. Owned
 * strings. */
#pragma once
#include <json-c/json.h>

#include "base/slice.h"

#define PROBLEM_PREFIX "https://open-workflow-specification.org/spec/1.0.0/errors/"
struct problem {
    char *type;                      /* whole URI */
    int status;                      /* 0: no problem */
    char *title, *detail, *instance; /* NULL when absent; instance: the task's reference */
};
/* name: configuration validation expression authentication authorization timeout communication
 * runtime; status 0: the name's own (400 400 400 401 403 408 500 500). Frees what was there. 0 or
 * -ENOMEM. */
int problem_set(struct problem *p, const char *name, int status, const char *title,
                const char *detail, ...) __attribute__((format(printf, 5, 6)));
void problem_free(struct problem *p); /* zeroed afterwards */
struct json_object *
problem_json(const struct problem *p); /* {type,status,title,detail,instance}; NULL: no memory */
int problem_from_json(struct problem *p, struct json_object *o); /* 0 or -EINVAL */
/* True when type's last segment is `name`, whatever known prefix it has. */
bool problem_is(const struct problem *p, const char *name);
