/* The C++ shim over libvalijson, for the expression child only: it may crash, hang or take all
 * memory. Only plain C types here, since the headers of base are not for C++. One thread. */
#pragma once
#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct schema_valid; /* a compiled schema */
/* Of a prepared schema (schema_int.h). NULL with `why`: the place in the schema's document, a line
 * feed, and what is wrong. */
struct schema_valid *schema_valid_new(struct json_object *prepared, char *why, size_t why_size);
void schema_valid_free(struct schema_valid *s);
/* The list of problems as JSON, at most SCHEMA_PROBLEMS_MAX; *ret is the caller's to free. 0, or
 * -EINVAL with `why`: the value can't be judged. */
int schema_valid_run(const struct schema_valid *s, struct json_object *value, char **ret, char *why,
                     size_t why_size);
/* schema_format_ok for the shim. */
bool schema_format_judge(const char *name, const char *text, size_t n);

#ifdef __cplusplus
}
#endif
