/* See cli.h: flags, context, errors, arguments. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "config/ydoc.h"
#include "node/node.h"

#define ARG_BYTES_MAX (64u << 20)
#define REACH_MS      15000

const char *cli_nth(const struct cli *c, const char *name, size_t i)
{
    for (size_t k = 0; k < c->nvalues; k++)
        if (!strcmp(c->values[k].name, name) && i-- == 0)
            return c->values[k].value;
    return NULL;
}

const char *cli_get(const struct cli *c, const char *name)
{
    const char *last = NULL;
    for (size_t k = 0; k < c->nvalues; k++)
        if (!strcmp(c->values[k].name, name))
            last = c->values[k].value;
    return last;
}

bool cli_has(const struct cli *c, const char *name)
{
    return cli_get(c, name) != NULL;
}

static int status_of(int code)
{
    switch (-code) {
    case 0:
        return EXIT_DONE;
    case ENOENT:
        return EXIT_NOT_FOUND;
    case EEXIST:
    case EBUSY:
        return EXIT_CONFLICT;
    case EACCES:
    case EPERM:
        return EXIT_DENIED;
    case EINVAL:
    case EBADMSG:
    case EPROTO:
    case EMSGSIZE:
    case ERANGE:
        return EXIT_USAGE;
    default:
        return EXIT_UNREACHABLE;
    }
}

int cli_fail(struct cli *c, int code)
{
    char text[2048];
    err_format(&c->e, text, sizeof text);
    fprintf(stderr, "tidemark: %s\n", text[0] ? text : strerror(-code));
    if (c->e.hint[0] && !strstr(text, c->e.hint))
        fprintf(stderr, "  hint: %s\n", c->e.hint);
    return status_of(code);
}

int cli_usage(struct cli *c, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "tidemark: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    if (hint)
        fprintf(stderr, "  hint: %s\n", hint);
    return EXIT_USAGE;
}

void cli_diags(const struct diags *d, FILE *to)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct diag *x = &d->v[i];
        fprintf(to, "%s", x->file ? x->file : "");
        if (x->line)
            fprintf(to, ":%d:%d", x->line, x->col);
        fprintf(to, ": %s%s\n", x->warning ? "warning: " : "", x->msg);
        if (x->hint)
            fprintf(to, "  hint: %s\n", x->hint);
    }
    if (d->dropped)
        fprintf(to, "and %zu more\n", d->dropped);
}

/* .tidemark/dev.json of a running `tidemark dev` in this folder. */
static void use_dev(struct cli *c)
{
    struct buf b;
    struct json_object *o = NULL;
    buf_init(&b, 64 * 1024);
    if (file_read(".tidemark/dev.json", &b, NULL) == 0 && js_parse(buf_slice(&b), &o, NULL) == 0) {
        if (js_str(o, "bootstrap") && !config_kafka(c->config, "bootstrap.servers"))
            config_set_kafka(c->config, "bootstrap.servers", js_str(o, "bootstrap"), NULL);
        if (js_int(o, "journalPartitions", 0) && !c->config->journal_partitions)
            c->config->journal_partitions = (int)js_int(o, "journalPartitions", 0);
    }
    json_object_put(o);
    buf_free(&b);
}

int cli_config(struct cli *c)
{
    const char *path = cli_get(c, "config"), *brokers = cli_get(c, "brokers"),
               *group = cli_get(c, "group");
    struct diags d;
    if (c->config)
        return 0;
    if (!path)
        path = getenv("TIDEMARK_CONFIG");
    if (!path && access("config/tidemark.yaml", R_OK) == 0)
        path = "config/tidemark.yaml";
    diags_init(&d);
    c->config = config_load(path, &d);
    if (d.n)
        cli_diags(&d, stderr);
    diags_free(&d);
    if (!c->config) {
        err_set(&c->e, -EINVAL, "see docs/config.md", "the configuration %s can't be used",
                path ? path : "");
        return -EINVAL;
    }
    if (!brokers)
        brokers = getenv("TIDEMARK_BROKERS");
    if (!group)
        group = getenv("TIDEMARK_GROUP");
    if (group && *group) {
        free(c->config->group);
        c->config->group = strdup(group);
    }
    if (brokers && *brokers)
        config_set_kafka(c->config, "bootstrap.servers", brokers, NULL);
    else if (strcmp(c->cmd->words, "dev"))
        use_dev(c);
    names_make(&c->names, c->config->group);
    return 0;
}

int cli_open(struct cli *c)
{
    int error = cli_config(c);
    if (error)
        return error;
    if (!config_kafka(c->config, "bootstrap.servers"))
        config_set_kafka(c->config, "bootstrap.servers", "127.0.0.1:9092", NULL);
    if (!c->admin && !(c->admin = kadmin_new(c->config, &c->e)))
        return c->e.code ? c->e.code : -EIO;
    bool sooner = c->timeout_ms >= 0 && c->timeout_ms < REACH_MS;
    return kadmin_reach(c->admin, sooner ? c->timeout_ms : REACH_MS, &c->e);
}

int cli_own_topics(struct cli *c)
{
    struct diags warn;
    int partitions;
    diags_init(&warn);
    int error = node_topics(c->admin, c->config, &c->names, &partitions, &warn, &c->e);
    diags_free(&warn);
    return error;
}

void cli_close(struct cli *c)
{
    c->admin = kadmin_free(c->admin);
    c->config = config_free(c->config);
}

static int read_stdin(struct buf *b)
{
    ssize_t n;
    do {
        char *to = buf_reserve(b, 65536);
        if (!to)
            return buf_error(b);
        n = read(0, to, 65536);
        if (n > 0)
            buf_commit(b, (size_t)n);
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? -errno : 0;
}

int cli_read_arg(struct cli *c, const char *text, struct buf *b)
{
    buf_init(b, ARG_BYTES_MAX);
    if (!strcmp(text, "-"))
        return read_stdin(b);
    if (text[0] == '@')
        return file_read(text + 1, b, &c->e);
    return buf_adds(b, text);
}

int cli_json_arg(struct cli *c, const char *text, struct json_object **ret)
{
    struct buf b;
    int error = cli_read_arg(c, text, &b);
    if (!error) {
        error = js_parse(buf_slice(&b), ret, &c->e);
        if (error && text[0] == '@')
            err_at(&c->e, text + 1, c->e.line, c->e.col);
    }
    buf_free(&b);
    return error;
}

int cli_where_check(struct cli *c, const char *const *names)
{
    const char *w;
    char hint[160] = "NAME=VALUE; the names are";
    for (size_t k = 0, n = strlen(hint); names[k] && n < sizeof hint; n = strlen(hint), k++)
        (void)snprintf(hint + n, sizeof hint - n, "%s %s", k ? "," : "", names[k]);
    for (size_t i = 0; (w = cli_nth(c, "where", i)); i++) {
        size_t n = strcspn(w, "="), k = 0;
        while (names[k] && (strlen(names[k]) != n || strncmp(names[k], w, n)))
            k++;
        if (!names[k] || !w[n])
            return cli_usage(c, hint, "--where %s is not a condition", w);
    }
    return 0;
}

bool cli_where(const struct cli *c, struct json_object *o)
{
    const char *w;
    for (size_t i = 0; (w = cli_nth(c, "where", i)); i++) {
        char name[32];
        const char *eq = strchr(w, '=');
        (void)snprintf(name, sizeof name, "%.*s", eq ? (int)(eq - w) : 31, w);
        const char *v = js_str(o, name);
        if (!eq || !v || strcmp(v, eq + 1))
            return false;
    }
    return true;
}

bool cli_confirm(struct cli *c, const char *question)
{
    char line[16];
    if (cli_has(c, "yes"))
        return true;
    if (!isatty(0))
        return false;
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}
