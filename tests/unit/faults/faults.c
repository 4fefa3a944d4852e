/* See faults.h. */
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "unit.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

static struct {
    enum fault_kind kind;
    bool on, hit, first;
    size_t at, seen;
    const char *name;
} f;

void fault_begin(enum fault_kind kind)
{
    memset(&f, 0, sizeof f);
    f.kind = kind;
    f.first = true;
}

bool fault_next(void)
{
    bool more = f.first || f.hit;
    f.first = f.hit = f.on = false;
    f.seen = 0;
    f.at += more;
    if (f.at > FAULT_ROUNDS_MAX) {
        CU_FAIL("the path never goes through");
        return false;
    }
    return more;
}

void fault_on(void)
{
    f.on = true;
}

bool fault_off(void)
{
    bool was = f.on;
    f.on = false;
    return was;
}

void fault_back(bool was_on)
{
    f.on = was_on;
}

bool fault_hit(void)
{
    return f.hit;
}

const char *fault_name(void)
{
    return f.hit ? f.name : "nothing";
}

size_t fault_rounds(void)
{
    return f.at;
}

static void show_stack(void)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_print_stack_trace();
#endif
}

/* True for the call that is to fail. */
bool fault_here(enum fault_kind kind, const char *name);
bool fault_here(enum fault_kind kind, const char *name)
{
    if (!f.on || f.kind != kind || ++f.seen != f.at)
        return false;
    f.hit = true;
    f.name = name;
    const char *show = getenv("TIDEMARK_TEST_FAULT");
    if (show && strtoul(show, NULL, 10) == f.at)
        show_stack();
    return true;
}

void fault_check_leaks(const char *path)
{
#if defined(__SANITIZE_ADDRESS__)
    int leaks = __lsan_do_recoverable_leak_check();
    if (leaks)
        fprintf(stderr, "%s leaks\n", path);
    CHECK_INT(leaks, 0);
#endif
}

int fault_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* ---- memory ---- */

#define WRAP(type, name, params, args, failed)                                                     \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        if (fault_here(FAULT_MEMORY, #name)) {                                                     \
            errno = ENOMEM;                                                                        \
            return failed;                                                                         \
        }                                                                                          \
        return __real_##name args;                                                                 \
    }

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), NULL)
WRAP(int, vasprintf, (char **to, const char *fmt, va_list ap), (to, fmt, ap), -1)
WRAP(struct json_object *, json_object_new_object, (void), (), NULL)
WRAP(struct json_object *, json_object_new_array, (void), (), NULL)
WRAP(struct json_object *, json_object_new_array_ext, (int n), (n), NULL)
WRAP(struct json_object *, json_object_new_string, (const char *s), (s), NULL)
WRAP(struct json_object *, json_object_new_string_len, (const char *s, int n), (s, n), NULL)
WRAP(struct json_object *, json_object_new_int, (int32_t v), (v), NULL)
WRAP(struct json_object *, json_object_new_int64, (int64_t v), (v), NULL)
WRAP(struct json_object *, json_object_new_uint64, (uint64_t v), (v), NULL)
WRAP(struct json_object *, json_object_new_double, (double v), (v), NULL)
WRAP(struct json_object *, json_object_new_boolean, (json_bool v), (v), NULL)
WRAP(int, json_object_object_add, (struct json_object * o, const char *key, struct json_object *v),
     (o, key, v), -1)
WRAP(int, json_object_object_add_ex,
     (struct json_object * o, const char *key, struct json_object *v, unsigned opts),
     (o, key, v, opts), -1)
WRAP(int, json_object_array_add, (struct json_object * o, struct json_object *v), (o, v), -1)
WRAP(int, json_object_array_put_idx, (struct json_object * o, size_t i, struct json_object *v),
     (o, i, v), -1)
WRAP(const char *, json_object_to_json_string_ext, (struct json_object * o, int flags), (o, flags),
     NULL)
WRAP(int, yaml_parser_initialize, (yaml_parser_t * p), (p), 0)

int __real_yaml_parser_parse(yaml_parser_t *p, yaml_event_t *ev);
int __wrap_yaml_parser_parse(yaml_parser_t *p, yaml_event_t *ev);
int __wrap_yaml_parser_parse(yaml_parser_t *p, yaml_event_t *ev)
{
    if (!fault_here(FAULT_MEMORY, "yaml_parser_parse"))
        return __real_yaml_parser_parse(p, ev);
    memset(ev, 0, sizeof *ev);
    p->error = YAML_MEMORY_ERROR;
    return 0;
}

int __wrap_asprintf(char **to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = __wrap_vasprintf(to, fmt, ap);
    va_end(ap);
    return n;
}
