/* tidemark.yaml and topics/NAME.yaml into struct config. One thread; nothing is kept.
 * The text is parsed once, by ydoc, and checked and stored in one walk along the table of fields,
 * so that every problem of all files is reported at once and at its own place. libcyaml is not used
 * for it: it stops at the first error, and a second parser could understand the file differently
 * from the one that checked it. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/js.h"
#include "base/secret.h"
#include "config/config_int.h"
#include "config/ydoc.h"

#define PATH_BYTES_MAX (CONFIG_TEXT_MAX * 2)
#define WORDS_MAX      64
#define KEY_PATH_MAX   160

struct load {
    struct config *config;
    struct diags *d;
    struct ydoc *doc; /* the file being read */
    char root[CONFIG_TEXT_MAX];
    bool topics_dir_given;
};

static void problem(struct load *l, struct ydoc_pos at, const char *hint, const char *msg)
{
    diags_add(l->d, ydoc_name(l->doc), at.line, at.col, hint, "%s", msg);
}

static void problem_at(struct load *l, struct json_object *parent, const char *key,
                       const struct err *e)
{
    problem(l, ydoc_value_pos(l->doc, parent, key, 0), e->hint[0] ? e->hint : NULL, e->msg);
}

static void wrong_kind(struct load *l, struct json_object *parent, const char *key,
                       const char *want, const char *hint)
{
    struct err e = {0};
    err_set(&e, -EINVAL, hint, "%s must be %s, but is %s", key, want, js_kind(js_get(parent, key)));
    problem_at(l, parent, key, &e);
}

/* words: what may stand in this place. */
static void unknown_key(struct load *l, struct json_object *parent, const char *key,
                        const char *const *words)
{
    char msg[320], hint[160];
    const char *near = err_nearest(sl_str(key), words);
    (void)snprintf(msg, sizeof msg, "there is no key %.200s here", key);
    if (near)
        (void)snprintf(hint, sizeof hint, "did you mean %s?", near);
    else
        (void)snprintf(hint, sizeof hint, "docs/config.md lists all keys");
    problem(l, ydoc_key_pos(l->doc, parent, key), hint, msg);
}

/* The text of a scalar as the user wrote it, near enough; false when it is none. */
static bool scalar_text(struct json_object *v, char *room, size_t size, struct slice *ret)
{
    switch (json_object_get_type(v)) {
    case json_type_string:
        *ret = sl(json_object_get_string(v), (size_t)json_object_get_string_len(v));
        return true;
    case json_type_int:
        (void)snprintf(room, size, "%lld", (long long)json_object_get_int64(v));
        break;
    case json_type_boolean:
        (void)snprintf(room, size, "%s", json_object_get_boolean(v) ? "true" : "false");
        break;
    case json_type_double:
        (void)snprintf(room, size, "%s", json_object_to_json_string(v));
        break;
    default:
        return false;
    }
    *ret = sl_str(room);
    return true;
}

/* Event types, or origins: *at becomes a NULL-terminated list. */
static void load_texts(struct load *l, const struct field *f, char ***at,
                       struct json_object *parent, const char *key)
{
    bool types = f->kind == FIELD_TYPES;
    struct json_object *v = js_get(parent, key);
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    if (!n || n > (size_t)f->max) {
        wrong_kind(l, parent, key, types ? "a list of event types" : "a list of origins",
                   types ? "write one type a line: - com.example.made"
                         : "write one origin a line: - https://app.example.com");
        return;
    }
    char **made = calloc(n + 1, sizeof *made);
    bool whole = made != NULL;
    for (size_t i = 0, kept = 0; whole && i < n; i++) {
        struct json_object *item = json_object_array_get_idx(v, i);
        const char *text =
            json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
        if (types ? !*text : !config_origin_ok(text))
            problem(l, ydoc_value_pos(l->doc, v, NULL, i),
                    types ? "write a text such as com.example.made"
                          : "write SCHEME://HOST[:PORT] in small letters, as in "
                            "https://app.example.com; there is no wildcard",
                    types ? "an event type is a text that is not empty" : "this is no origin");
        else if ((made[kept] = sl_dup(sl_str(text))))
            kept++;
        else
            whole = false;
    }
    *at = made;
    if (!whole)
        problem(l, ydoc_value_pos(l->doc, parent, key, 0), "give the process more memory",
                "no memory for a list");
}

static void load_settings(struct load *l, const struct field *f, struct config_topic *t,
                          struct json_object *parent, const char *key)
{
    struct json_object *v = js_get(parent, key);
    if (!json_object_is_type(v, json_type_object)) {
        wrong_kind(l, parent, key, "a map of settings",
                   "write cleanup.policy: compact, for example");
        return;
    }
    json_object_object_foreach(v, name, value)
    {
        char room[64];
        struct slice text;
        struct err e = {0};
        if (!scalar_text(value, room, sizeof room, &text))
            wrong_kind(l, v, name, "a single value",
                       "Kafka's topic settings are texts and numbers");
        else if (config_prop_put(&t->configs, &t->nconfigs, (size_t)f->max, sl_str(name), text, &e))
            problem_at(l, v, name, &e);
    }
}

/* A path in the file is relative to the project root; *text then points into `room`. */
static void resolve(const struct load *l, struct slice *text, char *room, size_t size)
{
    if (!text->n || text->p[0] == '/' || !strcmp(l->root, "."))
        return;
    (void)snprintf(room, size, "%s/%.*s", l->root, SL_ARG(*text));
    *text = sl_str(room);
}

static void load_schema(struct load *l, struct config_topic *t, struct json_object *parent,
                        const char *key)
{
    struct json_object *v = js_get(parent, key);
    char path[PATH_BYTES_MAX];
    if (json_object_is_type(v, json_type_object)) {
        t->schema.doc = ydoc_ref(l->doc);
        t->schema.parent = parent;
        t->schema.key = key;
        return;
    }
    if (!json_object_is_type(v, json_type_string) || !json_object_get_string_len(v) ||
        json_object_get_string_len(v) > CONFIG_TEXT_MAX) {
        wrong_kind(l, parent, key, "a JSON Schema, or the path of one",
                   "write schemas/order.json, or {type: object, required: [id]}");
        return;
    }
    struct slice text = sl_str(json_object_get_string(v));
    resolve(l, &text, path, sizeof path);
    char *name = sl_dup(text);
    if (name && (t->schema.doc = ydoc_load(name, l->d)))
        t->schema.parent = ydoc_root(t->schema.doc);
    free(name);
}

static void load_field(struct load *l, const struct field *f, void *base,
                       struct json_object *parent, const char *key)
{
    char room[64], path[PATH_BYTES_MAX];
    struct slice text;
    struct err e = {0};
    if (f->kind == FIELD_TYPES || f->kind == FIELD_ORIGINS) {
        load_texts(l, f, (char ***)(void *)((char *)base + f->at), parent, key);
        return;
    }
    if (f->kind == FIELD_SETTINGS) {
        load_settings(l, f, base, parent, key);
        return;
    }
    if (f->kind == FIELD_SCHEMA) {
        load_schema(l, base, parent, f->path);
        return;
    }
    struct json_object *v = js_get(parent, key);
    if (!scalar_text(v, room, sizeof room, &text)) {
        wrong_kind(l, parent, key, "a single value", f->help);
        return;
    }
    if (f->kind == FIELD_INT && !json_object_is_type(v, json_type_int)) {
        wrong_kind(l, parent, key, "a whole number", "write it without quotes, point or unit");
        return;
    }
    if (f->kind == FIELD_PATH)
        resolve(l, &text, path, sizeof path);
    if (field_set(f, base, text, &e))
        problem_at(l, parent, key, &e);
}

static void load_topic(struct load *l, struct config_topic *t, struct json_object *v)
{
    const char *words[WORDS_MAX] = {0};
    for (size_t i = 0; i < topic_nfields; i++)
        words[i] = topic_fields[i].path;
    json_object_object_foreach(v, key, value)
    {
        (void)value;
        const struct field *f = NULL;
        for (size_t i = 0; i < topic_nfields; i++)
            if (!strcmp(topic_fields[i].path, key))
                f = &topic_fields[i];
        if (f)
            load_field(l, f, t, v, key);
        else
            unknown_key(l, v, key, words);
    }
}

/* `at` is where the name stands. */
static struct config_topic *add_topic(struct load *l, const char *name, struct ydoc_pos at)
{
    struct config *c = l->config;
    char msg[400];
    const char *hint = NULL;
    if (!config_name_ok(sl_str(name), TOPIC_NAME_MAX)) {
        (void)snprintf(msg, sizeof msg, "not a topic's name: %.249s", name);
        hint = "use letters, digits, '.', '_' and '-'";
    } else if (!strncmp(name, "tidemark.", 9)) {
        (void)snprintf(msg, sizeof msg, "the topic %.249s belongs to tidemark itself", name);
        hint = "choose a name that does not begin with tidemark.";
    } else if (config_topic(c, name)) {
        (void)snprintf(msg, sizeof msg, "the topic %.249s is declared twice", name);
        hint = "keep one of its declarations";
    } else if (c->ntopics == CONFIG_TOPICS_MAX) {
        (void)snprintf(msg, sizeof msg, "more than %d topics", CONFIG_TOPICS_MAX);
        hint = "remove what is not needed";
    }
    if (hint) {
        problem(l, at, hint, msg);
        return NULL;
    }
    struct config_topic *v = realloc(c->topics, (c->ntopics + 1) * sizeof *v);
    char *copy = v ? sl_dup(sl_str(name)) : NULL;
    if (v)
        c->topics = v;
    if (!copy) {
        problem(l, at, "give the process more memory", "no memory for a topic");
        return NULL;
    }
    config_topic_init(&v[c->ntopics]);
    v[c->ntopics].name = copy;
    return &v[c->ntopics++];
}

static void load_topics(struct load *l, struct json_object *root)
{
    struct json_object *v = js_get(root, "topics");
    if (!json_object_is_type(v, json_type_object)) {
        wrong_kind(l, root, "topics", "a map of topics",
                   "write NAME: {partitions: 4}, or a file topics/NAME.yaml");
        return;
    }
    json_object_object_foreach(v, name, value)
    {
        if (value && !json_object_is_type(value, json_type_object)) {
            wrong_kind(l, v, name, "a map", "write NAME: {partitions: 4}");
            continue;
        }
        struct config_topic *t = add_topic(l, name, ydoc_key_pos(l->doc, v, name));
        if (t && value)
            load_topic(l, t, value);
    }
}

static int secret_text(const struct load *l, struct json_object *value, struct secret **ret,
                       struct err *e)
{
    const char *name = js_str(value, "secret");
    if (!name || json_object_object_length(value) != 1)
        return err_set(e, -EINVAL, "write a text, a number, or {secret: NAME}",
                       "a librdkafka property has one value");
    return config_secret(l->config, name, ret, e);
}

static void load_kafka(struct load *l, struct json_object *root)
{
    struct json_object *v = js_get(root, "kafka");
    if (!json_object_is_type(v, json_type_object)) {
        wrong_kind(l, root, "kafka", "a map of librdkafka properties",
                   "write bootstrap.servers: HOST:9092");
        return;
    }
    json_object_object_foreach(v, name, value)
    {
        char room[64];
        struct slice text = {0};
        struct secret *secret = NULL;
        struct err e = {0};
        int rc = 0;
        if (!scalar_text(value, room, sizeof room, &text))
            rc = secret_text(l, value, &secret, &e);
        if (secret)
            text = secret_reveal(secret);
        char *copy = rc ? NULL : sl_dup(text);
        if (!rc && !copy)
            rc = err_set(&e, -ENOMEM, "give the process more memory", "no memory for a property");
        if (copy) {
            rc = config_set_kafka(l->config, name, copy, &e);
            explicit_bzero(copy, text.n);
            free(copy);
        }
        secret_free(secret);
        if (rc == -EINVAL && config_owned_reason(name))
            problem(l, ydoc_key_pos(l->doc, v, name), e.hint, e.msg);
        else if (rc)
            problem_at(l, v, name, &e);
    }
}

/* The keys that may stand at the top, or inside `section`. Returns how many. */
static size_t words_of(const char *section, char room[][64], const char **words)
{
    size_t n = 0, skip = section ? strlen(section) + 1 : 0;
    for (size_t i = 0; i < config_nfields && n < WORDS_MAX - 3; i++) {
        const char *path = config_fields[i].path;
        if (section && (strncmp(path, section, skip - 1) != 0 || path[skip - 1] != '.'))
            continue;
        (void)snprintf(room[n], 64, "%.*s", (int)strcspn(path + skip, "."), path + skip);
        if (n && !strcmp(room[n], room[n - 1]))
            continue;
        words[n] = room[n];
        n++;
    }
    if (!section) {
        words[n++] = "kafka";
        words[n++] = "topics";
    }
    words[n] = NULL;
    return n;
}

static const struct field *field_of(const char *path)
{
    for (size_t i = 0; i < config_nfields; i++)
        if (!strcmp(config_fields[i].path, path))
            return &config_fields[i];
    return NULL;
}

/* `section` is SECTION or SECTION.PART, which stands as `name` in `parent`. */
static void load_section(struct load *l, struct json_object *parent, const char *name,
                         const char *section)
{
    char room[WORDS_MAX][64], path[KEY_PATH_MAX];
    const char *words[WORDS_MAX];
    struct json_object *v = js_get(parent, name);
    size_t n = words_of(section, room, words);
    if (!json_object_is_type(v, json_type_object)) {
        wrong_kind(l, parent, name, "a map", "docs/config.md lists its keys");
        return;
    }
    json_object_object_foreach(v, key, value)
    {
        (void)value;
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known |= !strcmp(words[i], key);
        (void)snprintf(path, sizeof path, "%s.%s", section, key);
        const struct field *f = known ? field_of(path) : NULL;
        if (f)
            load_field(l, f, l->config, v, key);
        else if (known)
            load_section(l, v, key, path);
        else
            unknown_key(l, v, key, words);
        l->topics_dir_given |= f && !strcmp(f->path, "dirs.topics");
    }
}

static void load_root(struct load *l, struct json_object *root)
{
    char room[WORDS_MAX][64];
    const char *words[WORDS_MAX];
    size_t n = words_of(NULL, room, words);
    json_object_object_foreach(root, key, value)
    {
        (void)value;
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known |= !strcmp(words[i], key);
        if (field_of(key))
            load_field(l, field_of(key), l->config, root, key);
        else if (!known)
            unknown_key(l, root, key, words);
        else if (strcmp(key, "kafka") != 0 && strcmp(key, "topics") != 0)
            load_section(l, root, key, key);
    }
    /* After the sections: a property may need secrets.dir. */
    if (json_object_object_get_ex(root, "topics", NULL))
        load_topics(l, root);
    if (json_object_object_get_ex(root, "kafka", NULL))
        load_kafka(l, root);
}

/* ---- topics/NAME.yaml ---- */

static void load_topic_file(struct load *l, const char *path, const char *name)
{
    l->doc = ydoc_load(path, l->d);
    if (!l->doc)
        return;
    struct json_object *root = ydoc_root(l->doc);
    if (root && !json_object_is_type(root, json_type_object)) {
        problem(l, (struct ydoc_pos){1, 1}, "write partitions: 4, for example",
                "a topic's file must be a map");
    } else {
        struct config_topic *t = add_topic(l, name, (struct ydoc_pos){1, 1});
        if (t && root)
            load_topic(l, t, root);
    }
    l->doc = ydoc_free(l->doc);
}

static int is_yaml(const struct dirent *f)
{
    return f->d_name[0] != '.' &&
           (sl_ends(sl_str(f->d_name), SL(".yaml")) || sl_ends(sl_str(f->d_name), SL(".yml")));
}

static void load_topics_dir(struct load *l)
{
    const char *dir = l->config->topics_dir;
    struct dirent **v;
    int n = scandir(dir, &v, is_yaml, alphasort);
    if (n < 0) {
        if (errno != ENOENT || l->topics_dir_given)
            diags_add(l->d, dir, 0, 0, "make the folder, or correct dirs.topics",
                      "cannot read the folder of topics: %s", strerror(errno));
        return;
    }
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES_MAX], name[256];
        (void)snprintf(path, sizeof path, "%s/%s", dir, v[i]->d_name);
        (void)snprintf(name, sizeof name, "%.*s", (int)(strrchr(v[i]->d_name, '.') - v[i]->d_name),
                       v[i]->d_name);
        load_topic_file(l, path, name);
        free(v[i]);
    }
    free(v);
}

static void check_types(struct load *l)
{
    for (size_t i = 0; i < l->config->ntopics; i++)
        for (char **t = l->config->topics[i].types; t && *t; t++) {
            const struct config_topic *first = config_topic_of_type(l->config, *t);
            if (first != &l->config->topics[i])
                diags_warn(l->d, l->config->topics[i].name, 0, 0,
                           "name the topic in the task, or declare the type once",
                           "the type %s is declared by the topics %s and %s; emit uses the first",
                           *t, first->name, l->config->topics[i].name);
        }
}

/* The folder of the file, or the one above when that is called config. */
static void find_root(struct load *l, const char *path)
{
    struct slice dir = sl_str(path);
    while (dir.n && dir.p[dir.n - 1] != '/')
        dir.n--;
    while (dir.n > 1 && dir.p[dir.n - 1] == '/')
        dir.n--;
    if (sl_is(dir, "config"))
        dir.n = 0;
    else if (sl_ends(dir, SL("/config")))
        dir.n -= dir.n > 7 ? 7 : 6;
    if (!dir.n)
        dir = SL(".");
    (void)snprintf(l->root, sizeof l->root, "%.*s", SL_ARG(dir));
}

static int resolve_presets(struct load *l)
{
    for (size_t i = 0; i < config_nfields; i++) {
        const struct field *f = &config_fields[i];
        char path[PATH_BYTES_MAX];
        if (f->kind != FIELD_PATH || !f->preset)
            continue;
        struct slice text = sl_str(f->preset);
        resolve(l, &text, path, sizeof path);
        int rc = field_set(f, l->config, text, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

struct config *config_load(const char *path, struct diags *d)
{
    struct load l = {.d = d, .config = config_new()};
    size_t before = d->errors;
    find_root(&l, path ? path : "");
    if (!l.config || resolve_presets(&l)) {
        diags_add(d, path ? path : "", 0, 0, "give the process more memory",
                  "no memory for the configuration");
        return config_free(l.config);
    }
    if (path && !(l.doc = ydoc_load(path, d)))
        return config_free(l.config);
    struct json_object *root = l.doc ? ydoc_root(l.doc) : NULL;
    if (root && !json_object_is_type(root, json_type_object))
        problem(&l, (struct ydoc_pos){1, 1}, "write group: main, for example",
                "the configuration must be a map");
    else if (root)
        load_root(&l, root);
    l.doc = ydoc_free(l.doc);
    load_topics_dir(&l);
    check_types(&l);
    return d->errors > before ? config_free(l.config) : l.config;
}
