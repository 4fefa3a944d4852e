/* topics apply|list|show and group show. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "node/node.h"
#include "triggers/lag.h"
#include "triggers/topic_schemas.h"

#define ADMIN_MS 15000

static size_t settings_of(const struct config_topic *t, struct config_prop *v, char *retention,
                          size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < t->nconfigs && n < 62; i++)
        v[n++] = t->configs[i];
    if (t->retention_ms != -2) {
        snprintf(retention, size, "%lld", (long long)t->retention_ms);
        v[n++] = (struct config_prop){"retention.ms", retention};
    }
    return n;
}

/* Creates, grows or alters one topic; says what it did. */
static int apply_topic(struct cli *c, const struct config_topic *t)
{
    struct config_prop v[64];
    char retention[32];
    int have = 0, want = t->partitions ? t->partitions : 4;
    size_t n = settings_of(t, v, retention, sizeof retention);
    bool dry = cli_has(c, "dry-run");
    int error = kadmin_topic(c->admin, t->name, &have, NULL, ADMIN_MS, &c->e);
    if (error == -ENOENT) {
        struct ktopic_spec s = {.name = t->name,
                                .partitions = want,
                                .replication = t->replication,
                                .configs = v,
                                .nconfigs = n};
        err_clear(&c->e);
        error = dry ? 0 : kadmin_create(c->admin, &s, ADMIN_MS, &c->e);
        if (!error)
            printf("%s created, %d partitions%s\n", t->name, want,
                   dry ? ", not written (--dry-run)" : "");
        return error;
    }
    if (error)
        return error;
    if (t->partitions && have > t->partitions)
        return err_set(&c->e, -EBUSY, "set partitions to what it has, or make a new topic",
                       "%s has %d partitions; a topic can't have fewer than before (%d)", t->name,
                       have, t->partitions);
    if (t->partitions > have && !dry)
        error = kadmin_grow(c->admin, t->name, t->partitions, ADMIN_MS, &c->e);
    if (!error && n && !dry)
        error = kadmin_alter(c->admin, t->name, v, n, ADMIN_MS, &c->e);
    if (!error)
        printf("%s %s%s\n", t->name,
               t->partitions > have ? "grown"
               : n                  ? "settings applied"
                                    : "unchanged",
               dry ? ", not written (--dry-run)" : "");
    return error;
}

/* tidemark's own topics: made if they are missing, the journal's settings mended. */
static int apply_own(struct cli *c)
{
    bool mended = false;
    int error = 0;
    if (!cli_has(c, "dry-run"))
        error = node_topics_mend(c->admin, &c->names, &mended, &c->e);
    if (mended)
        printf("settings of tidemark's own topics mended\n");
    return error || cli_has(c, "dry-run") ? error : cli_own_topics(c);
}

/* Every problem of the schemas, each at its place; before anything is changed. */
static int check_schemas(struct cli *c)
{
    struct diags d;
    diags_init(&d);
    struct topic_schemas *s = topic_schemas_new(c->config, true, &d);
    diags_sort(&d);
    cli_diags(&d, stderr);
    diags_free(&d);
    if (!s)
        return err_set(&c->e, -EINVAL, "mend the places above", "the schema of a topic is wrong");
    topic_schemas_free(s);
    return 0;
}

/* Names that no file declares: -ENOENT. */
static int check_declared(struct cli *c)
{
    for (int k = 0; k < c->nargs; k++)
        if (!config_topic(c->config, c->args[k]))
            return err_set(&c->e, -ENOENT, "declare it in topics/, see docs/config.md",
                           "no topic %s is declared", c->args[k]);
    return 0;
}

int cmd_topics_apply(struct cli *c)
{
    int error = cli_config(c);
    if (!error)
        error = check_schemas(c);
    if (!error)
        error = check_declared(c);
    if (!error)
        error = cli_open(c);
    if (!error && !c->nargs)
        error = apply_own(c);
    for (size_t i = 0; !error && i < c->config->ntopics; i++) {
        bool wanted = c->nargs == 0;
        for (int k = 0; k < c->nargs; k++)
            wanted = wanted || !strcmp(c->args[k], c->config->topics[i].name);
        if (wanted)
            error = apply_topic(c, &c->config->topics[i]);
    }
    if (!error && !c->config->ntopics)
        return cli_usage(c, "declare topics in topics/*.yaml, see docs/config.md",
                         "no topic is declared");
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_topics_list(struct cli *c)
{
    static const char *const columns[] = {"topic", "partitions", "replication", "declared", NULL};
    struct ktopic_info *v = NULL;
    size_t n = 0;
    int error = cli_open(c);
    if (!error)
        error = kadmin_topics(c->admin, &v, &n, ADMIN_MS, &c->e);
    if (error)
        return cli_fail(c, error);
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "topic", json_object_new_string(v[i].name));
        json_object_object_add(o, "partitions", json_object_new_int(v[i].partitions));
        json_object_object_add(o, "replication", json_object_new_int(v[i].replication));
        json_object_object_add(o, "declared",
                               json_object_new_boolean(config_topic(c->config, v[i].name) != NULL));
        json_object_array_add(list, o);
    }
    ktopics_free(v, n);
    cli_print_list(c, list, columns);
    json_object_put(list);
    return EXIT_DONE;
}

int cmd_topics_show(struct cli *c)
{
    struct config_prop *v = NULL;
    size_t nv = 0;
    int n = 0, replication = 0, error = cli_open(c);
    if (!error)
        error = kadmin_topic(c->admin, c->args[0], &n, &replication, ADMIN_MS, &c->e);
    struct json_object *o = json_object_new_object(), *parts = json_object_new_array(),
                       *conf = json_object_new_object();
    for (int p = 0; p < n && !error; p++) {
        int64_t low = 0, high = 0;
        error = kadmin_watermarks(c->admin, c->args[0], p, &low, &high, ADMIN_MS, &c->e);
        struct json_object *x = json_object_new_object();
        json_object_object_add(x, "partition", json_object_new_int(p));
        json_object_object_add(x, "low", json_object_new_int64(low));
        json_object_object_add(x, "high", json_object_new_int64(high));
        json_object_array_add(parts, x);
    }
    if (!error)
        error = kadmin_configs(c->admin, c->args[0], &v, &nv, true, ADMIN_MS, &c->e);
    for (size_t i = 0; i < nv; i++)
        json_object_object_add(conf, v[i].name,
                               v[i].value ? json_object_new_string(v[i].value) : NULL);
    kconfigs_free(v, nv);
    json_object_object_add(o, "topic", json_object_new_string(c->args[0]));
    json_object_object_add(o, "replication", json_object_new_int(replication));
    json_object_object_add(o, "partitions", parts);
    json_object_object_add(o, "settings", conf);
    if (!error && c->format == OUT_TABLE)
        c->format = OUT_YAML;
    if (!error)
        cli_print_one(c, o);
    json_object_put(o);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

/* Its records, as far as the log still has them. */
static int count_records(struct cli *c, const char *topic, int partitions, int64_t *ret)
{
    int error = 0;
    *ret = 0;
    for (int p = 0; p < partitions && !error; p++) {
        int64_t low = 0, high = 0;
        error = kadmin_watermarks(c->admin, topic, p, &low, &high, ADMIN_MS, &c->e);
        *ret += high - low;
    }
    return error;
}

static int delete_topic(struct cli *c, const char *topic)
{
    char question[400];
    int n = 0;
    int64_t records = 0;
    if (!strncmp(topic, "tidemark.", 9) || !strncmp(topic, "__", 2))
        return cli_usage(c, "nodes of its group need it; other tools can delete it",
                         "the topic %s belongs to tidemark or to the log itself", topic);
    int error = kadmin_topic(c->admin, topic, &n, NULL, ADMIN_MS, &c->e);
    if (!error)
        error = count_records(c, topic, n, &records);
    if (error)
        return cli_fail(c, error);
    snprintf(question, sizeof question, "Delete the topic %.249s with %lld records?", topic,
             (long long)records);
    if (cli_has(c, "dry-run")) {
        printf("%s with %lld records would be deleted\n", topic, (long long)records);
        return EXIT_DONE;
    }
    if (!cli_confirm(c, question))
        return cli_usage(c, "--yes deletes without asking", "the topic %s was not deleted", topic);
    error = kadmin_delete(c->admin, topic, ADMIN_MS, &c->e);
    if (error)
        return cli_fail(c, error);
    printf("%s deleted, %lld records\n", topic, (long long)records);
    return EXIT_DONE;
}

int cmd_topics_delete(struct cli *c)
{
    int error = cli_open(c), status = EXIT_DONE;
    if (error)
        return cli_fail(c, error);
    for (int i = 0; i < c->nargs && !status; i++)
        status = delete_topic(c, c->args[i]);
    return status;
}

void group_say(struct cli *c, const char *group, const char *state, struct json_object *members)
{
    static const char *const columns[] = {"member", "host", "topic", "partition", NULL};
    if (c->format == OUT_TABLE)
        printf("group %s: %s\n", group ? group : "?", state ? state : "?");
    cli_print_list(c, members, columns);
}

int cmd_group_show(struct cli *c)
{
    struct json_object *list = NULL;
    char *state = NULL;
    int error = cli_open(c);
    if (!error)
        error = lag_members(c->admin, &c->names, &state, &list, &c->e);
    if (!error)
        group_say(c, c->names.owners, state, list);
    free(state);
    json_object_put(list);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_version(struct cli *c)
{
    printf("tidemark %s\n", TIDEMARK_VERSION);
    return EXIT_DONE;
}
