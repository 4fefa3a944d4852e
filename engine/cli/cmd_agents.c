/* check, agents apply|list|show|deactivate; loading definitions for dev and run. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/cli.h"
#include "flow/schema.h"

struct loading {
    const char *path;
    bool deep;
};

/* A schema's file, relative to the definition; told with its own places. */
static struct json_object *read_schema(void *arg, const char *name, struct diags *d)
{
    const struct loading *l = arg;
    const char *end = name[0] == '/' ? NULL : strrchr(l->path, '/');
    struct json_object *o = NULL;
    struct tmpl *t = NULL;
    struct buf full;
    buf_init(&full, 8192);
    buf_addf(&full, "%.*s%s", end ? (int)(end - l->path + 1) : 0, l->path, name);
    buf_addc(&full, 0);
    struct ydoc *y = buf_error(&full) ? NULL : ydoc_load(full.p, d);
    if (y && (t = schema_compile(y, ydoc_root(y), NULL, l->deep, d)))
        o = json_object_get(ydoc_root(y));
    tmpl_free(t);
    ydoc_free(y);
    buf_free(&full);
    return o;
}

int load_flow(struct cli *c, const char *path, bool deep, struct flow **ret)
{
    struct diags d;
    struct loading l = {path, deep};
    struct json_object *kept = json_object_new_array();
    diags_init(&d);
    struct ydoc *y = ydoc_load(path, &d);
    if (y)
        flow_embed_schemas(y, read_schema, &l, kept, &d);
    size_t told = d.errors;
    int error = y ? flow_parse(y, deep, ret, &d) : -EINVAL;
    if (!error && told) {
        *ret = flow_unref(*ret);
        error = -EINVAL;
    }
    diags_sort(&d);
    cli_diags(&d, stderr);
    diags_free(&d);
    ydoc_free(y);
    json_object_put(kept);
    if (error)
        err_set(&c->e, -EINVAL, "`tidemark check` shows every problem with its place",
                "%s is not a usable definition", path);
    return error;
}

static bool is_yaml(const char *name)
{
    struct slice s = sl_str(name);
    return sl_ends(s, SL(".yaml")) || sl_ends(s, SL(".yml"));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A file with `document.dsl` is a definition; others in a folder are passed over. */
static bool looks_like_flow(const char *path)
{
    struct buf b;
    buf_init(&b, YDOC_BYTES_MAX);
    bool yes = file_read(path, &b, NULL) == 0 && memmem(b.p, b.n, "document", 8) &&
               memmem(b.p, b.n, "dsl", 3);
    buf_free(&b);
    return yes;
}

int agents_files(struct cli *c, const char *path, char ***ret, size_t *ret_n)
{
    struct stat st;
    char **v = *ret;
    size_t n = *ret_n;
    if (stat(path, &st) < 0)
        return err_set(&c->e, -errno == -ENOENT ? -EINVAL : -errno, "is the path right?",
                       "%s can't be read: %s", path, strerror(errno));
    DIR *d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    struct dirent *ent;
    if (!d) {
        if (!(v = realloc(v, (n + 2) * sizeof *v)))
            return -ENOMEM;
        v[n++] = strdup(path);
    }
    while (d && (ent = readdir(d))) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", path, ent->d_name);
        if (!is_yaml(ent->d_name) || !looks_like_flow(full))
            continue;
        char **w = realloc(v, (n + 2) * sizeof *v);
        if (!w)
            break;
        v = w;
        v[n++] = strdup(full);
    }
    if (d)
        closedir(d);
    if (n > *ret_n)
        qsort(v + *ret_n, n - *ret_n, sizeof *v, by_text);
    *ret = v;
    *ret_n = n;
    return 0;
}

int cmd_check(struct cli *c)
{
    char **files = NULL;
    size_t n = 0, bad = 0;
    for (int i = 0; i < c->nargs; i++)
        if (agents_files(c, c->args[i], &files, &n))
            return cli_fail(c, c->e.code);
    for (size_t i = 0; i < n; i++) {
        struct flow *f = NULL;
        if (load_flow(c, files[i], !cli_has(c, "fast"), &f))
            bad++;
        else
            printf("%s: %s/%s %s is valid\n", files[i], flow_info(f)->ns, flow_info(f)->name,
                   flow_info(f)->version);
        flow_unref(f);
        free(files[i]);
    }
    free(files);
    if (!n)
        return cli_usage(c, "a definition has a `document` with `dsl`", "no definition found");
    return bad ? EXIT_USAGE : EXIT_DONE;
}

void agents_say(const char *id, const char *version, const char *change, bool written,
                const char *hash)
{
    printf("%s:%s %s%s (%.12s)\n", id, version, change,
           written || !strcmp(change, "unchanged") ? "" : ", not written (--dry-run)", hash);
}

static void say_change(const struct agents_change *ch, bool dry)
{
    static const char *const words[] = {"unchanged", "created", "updated", "activated",
                                        "deactivated"};
    agents_say(ch->id, ch->version, words[ch->what], !dry, ch->hash);
}

int cmd_agents_apply(struct cli *c)
{
    char **files = NULL;
    size_t n = 0;
    int error = cli_open(c);
    if (!error) /* before the first node: the broker may not make them, or with other settings */
        error = cli_own_topics(c);
    for (int i = 0; i < c->nargs && !error; i++)
        error = agents_files(c, c->args[i], &files, &n);
    for (size_t i = 0; i < n; i++) {
        struct flow *f = NULL;
        struct agents_change ch;
        if (!error && !(error = load_flow(c, files[i], true, &f)) &&
            !(error = agents_apply(c->admin, &c->names, f, cli_has(c, "force"),
                                   cli_has(c, "dry-run"), &ch, &c->e)))
            say_change(&ch, cli_has(c, "dry-run"));
        flow_unref(f);
        free(files[i]);
    }
    free(files);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

const char *const agents_columns[] = {"agent", "version", "active", "hash", "title", NULL};

int cmd_agents_list(struct cli *c)
{
    struct json_object *list = NULL;
    int error = cli_open(c);
    if (!error)
        error = agents_list(c->admin, &c->names, &list, &c->e);
    if (error)
        return cli_fail(c, error);
    cli_print_list(c, list, agents_columns);
    json_object_put(list);
    return EXIT_DONE;
}

int cmd_agents_show(struct cli *c)
{
    char hash[FLOW_HASH_MAX], id[2 * FLOW_NAME_MAX + 2], version[64];
    struct buf b;
    struct json_object *o = NULL;
    buf_init(&b, YDOC_BYTES_MAX);
    int error = cli_open(c);
    if (!error)
        error = agents_find(c->admin, &c->names, c->args[0], hash, id, version, &c->e);
    if (!error)
        error = agents_text(c->admin, &c->names, hash, &b, &c->e);
    if (!error)
        error = js_parse(buf_slice(&b), &o, &c->e);
    buf_free(&b);
    if (error)
        return cli_fail(c, error);
    if (c->format == OUT_TABLE)
        c->format = OUT_YAML;
    cli_print_one(c, o);
    json_object_put(o);
    return EXIT_DONE;
}

int cmd_agents_deactivate(struct cli *c)
{
    struct agents_change ch;
    int error = cli_open(c);
    if (!error)
        error = agents_deactivate(c->admin, &c->names, c->args[0], &ch, &c->e);
    if (error)
        return cli_fail(c, error);
    say_change(&ch, false);
    return EXIT_DONE;
}
