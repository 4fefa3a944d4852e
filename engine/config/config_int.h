/* Private to this folder: the one table of configuration fields, from which come the check, the
 * defaults and docs/config.md. Read-only, so any thread may use it. */
#pragma once
#include "config/config.h"

#define CONFIG_TEXT_MAX     4096 /* bytes of one value */
#define CONFIG_KAFKA_MAX    256  /* librdkafka properties */
#define CONFIG_TOPICS_MAX   1000
#define CONFIG_TYPES_MAX    200 /* event types a topic declares */
#define CONFIG_ORIGINS_MAX  100
#define CONFIG_SETTINGS_MAX 64 /* further settings of a topic */
#define TOPIC_NAME_MAX      249
#define GROUP_NAME_MAX      100 /* leaves room for tidemark.GROUP.SOMETHING */

enum field_kind {
    FIELD_TEXT,
    FIELD_NAME,     /* letters, digits, '.', '_', '-' */
    FIELD_PATH,     /* relative to the project root */
    FIELD_WORD,     /* one of `words` */
    FIELD_INT,      /* int */
    FIELD_DURATION, /* int64_t ms, written 500ms, 10s, 5m, 2h, 7d */
    FIELD_FROM,     /* bool: latest */
    FIELD_TYPES,    /* a list of texts */
    FIELD_ORIGINS,  /* a list of SCHEME://HOST[:PORT], as browsers write them */
    FIELD_SETTINGS, /* a map of scalars */
    FIELD_SCHEMA    /* a map, or a path relative to the project root */
};
struct field {
    const char *path; /* SECTION.NAME, SECTION.PART.NAME or NAME */
    enum field_kind kind;
    size_t at; /* offset in struct config, or in struct config_topic */
    int64_t min, max;
    const char *const *words;
    const char *preset; /* default as the user would write it; NULL: none */
    const char *help;
};
extern const struct field config_fields[];
extern const size_t config_nfields;
extern const struct field topic_fields[]; /* of topics.NAME and of topics/NAME.yaml */
extern const size_t topic_nfields;

/* The reason why a librdkafka property belongs to the engine, and what to do instead; NULL: it is
 * the user's. */
const char *config_owned_reason(const char *property);
const char *config_owned_name(size_t i); /* the i-th such property; NULL: no more */
bool config_origin_ok(const char *text); /* RFC 6454, section 6.2 */
bool config_name_ok(struct slice s, size_t max);
/* Writes the text into the field: 0 or -EINVAL / -ERANGE / -ENOMEM with message and hint. `base` is
 * the struct. */
int field_set(const struct field *f, void *base, struct slice text, struct err *e);
/* Appends to an array of properties, or replaces the value of the same name. */
int config_prop_put(struct config_prop **v, size_t *n, size_t max, struct slice name,
                    struct slice value, struct err *e);
void config_topic_clear(struct config_topic *t);
void config_topic_init(struct config_topic *t);
