/* dev and serve: the engine's process. dev has the embedded log inside and applies agents again
 * when their files change. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "broker/broker.h"
#include "cli/cli.h"
#include "gateway/gateway.h"
#include "view/view.h"
#include "node/node.h"

#define WATCH_MS     300
#define TELL_MS      20
#define TELL_LAST_MS 5000 /* a change is told by then, whoever has changed the agent once more */
#define DRAIN_MS     10000
#define USUAL_FILES  1024
#define QUIET_MS     2000 /* for requests under way, before the node stops */

struct watched {
    char *path;
    struct timespec mtime;
    char *agent; /* namespace/name that it held */
};
struct engine {
    struct cli *c;
    struct loop *loop;
    struct log *log;
    struct broker *broker;
    struct node *node;
    struct view *view;       /* NULL: view is none */
    struct gateway *gateway; /* NULL: http.listen is off */
    const char *data;
    struct loop_signal signals;
    struct loop_timer watch, retry, tell, ready;
    struct list changes; /* struct change, by the thread that applies them */
    struct list untold;  /* those applied that this node has not read yet */
    struct watched *files;
    size_t nfiles;
    struct pool *pool;
    bool applying, dev, stopping;
    int status;
};

static enum log_level level_of(const char *s)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; s && i < 4; i++)
        if (!strcmp(s, names[i]))
            return (enum log_level)i;
    return LOG_INFO;
}

static void on_drained(void *arg)
{
    struct engine *g = arg;
    g->node = NULL;
    loop_stop(g->loop, g->status);
}

static void drain(void *arg)
{
    struct engine *g = arg;
    if (g->gateway)
        gateway_node(g->gateway, NULL);
    if (g->node)
        node_drain(g->node, DRAIN_MS, on_drained, g);
    else
        loop_stop(g->loop, g->status);
}

static void stop(struct engine *g, int status)
{
    if (g->stopping) { /* asked twice: at once */
        loop_stop(g->loop, EXIT_INTERRUPTED);
        return;
    }
    g->stopping = true;
    g->status = status;
    loop_timer_unset(&g->retry);
    if (g->gateway)
        gateway_quiesce(g->gateway, QUIET_MS, drain, g);
    else
        drain(g);
}

static void on_signal(struct loop_signal *s, int signo)
{
    struct engine *g = LIST_ENTRY(s, struct engine, signals);
    log_info(g->log, "draining; a second signal stops at once", "signal=%s", strsignal(signo));
    stop(g, EXIT_DONE);
}

static void on_fatal(void *arg, const struct err *e)
{
    struct engine *g = arg;
    log_error(g->log, "the node can't go on", "error=%s hint=%s", log_q(e->msg), log_q(e->hint));
    stop(g, EXIT_UNREACHABLE);
}

/* The line says that requests are taken, too. */
static void tell_ready(struct engine *g)
{
    struct node_stats st;
    if (!g->node || g->stopping)
        return;
    if (g->gateway && !gateway_ready(g->gateway)) {
        loop_timer_set(g->loop, &g->ready, loop_now(g->loop) + TELL_MS);
        return;
    }
    node_stats(g->node, &st);
    log_info(g->log, "ready", "partitions=%d group=%s", st.owned, g->c->config->group);
    if (g->dev)
        printf("ready: tidemark events publish TOPIC --type T --data JSON\n");
    else /* what waits for a node, a unit of systemd or a test, reads this line */
        printf("ready: group %s, %d partitions\n", g->c->config->group, st.owned);
    fflush(stdout);
}

static void on_ready_timer(struct loop_timer *t)
{
    tell_ready(LIST_ENTRY(t, struct engine, ready));
}

static void on_ready(void *arg)
{
    tell_ready(arg);
}

/* ---- agents of dev ---- */

/* A change of an agent, told to the person when it is in effect here. */
struct change {
    struct list node;
    struct agents_change what;
    int64_t since_ms;
    char path[];
};

static void note_change(struct engine *g, const char *path, const struct agents_change *what)
{
    size_t n = strlen(path) + 1;
    struct change *ch = what->what != AGENT_UNCHANGED ? calloc(1, sizeof *ch + n) : NULL;
    if (!ch)
        return;
    ch->what = *what;
    ch->since_ms = clock_boot_ms();
    memcpy(ch->path, path, n);
    list_push(&g->changes, &ch->node);
}

static void tell_change(struct change *ch)
{
    static const char *const words[] = {"unchanged", "created", "updated", "activated"};
    const struct agents_change *w = &ch->what;
    if (w->what == AGENT_DEACTIVATED)
        fprintf(stderr, "%s is gone: %s deactivated\n", ch->path, w->id);
    else
        fprintf(stderr, "%s: %s:%s %s\n", ch->path, w->id, w->version, words[w->what]);
    list_del(&ch->node);
    free(ch);
}

static void tell_changes(struct engine *g)
{
    LIST_EACH(l, &g->untold)
    {
        struct change *ch = LIST_ENTRY(l, struct change, node);
        const struct agents_change *w = &ch->what;
        if (!g->node || clock_boot_ms() - ch->since_ms > TELL_LAST_MS ||
            node_agent_is(g->node, w->id, w->hash, w->what != AGENT_DEACTIVATED))
            tell_change(ch);
    }
    if (!list_empty(&g->untold))
        loop_timer_set(g->loop, &g->tell, loop_now(g->loop) + TELL_MS);
}

static void on_tell(struct loop_timer *t)
{
    tell_changes(LIST_ENTRY(t, struct engine, tell));
}

/* The loop's thread, when nothing is being applied. */
static void changes_applied(struct engine *g)
{
    struct list *l;
    while ((l = list_pop(&g->changes)))
        list_push(&g->untold, l);
    tell_changes(g);
}

static int apply_file(struct cli *c, struct engine *g, const char *path, bool force,
                      char **ret_agent)
{
    struct flow *f = NULL;
    struct agents_change ch;
    int error = load_flow(c, path, true, &f);
    if (!error)
        error = agents_apply(c->admin, &c->names, f, force, false, &ch, &c->e);
    if (!error) {
        note_change(g, path, &ch);
        free(*ret_agent);
        *ret_agent = strdup(ch.id);
    }
    flow_unref(f);
    return error;
}

static int find_files(struct cli *c, char ***ret, size_t *ret_n)
{
    const char *dir = c->config->agents_dir ? c->config->agents_dir : "config/agents";
    int error = 0;
    *ret = NULL;
    *ret_n = 0;
    for (int i = 0; i < c->nargs && !error; i++)
        error = agents_files(c, c->args[i], ret, ret_n);
    if (c->nargs)
        return error;
    return agents_files(c, access(dir, R_OK) == 0 ? dir : ".", ret, ret_n);
}

struct apply_job {
    struct pool_job job;
    struct engine *engine;
    struct cli c; /* its own errors */
};

static struct watched *watched_of(struct engine *g, const char *path)
{
    for (size_t i = 0; i < g->nfiles; i++)
        if (!strcmp(g->files[i].path, path))
            return &g->files[i];
    struct watched *v = realloc(g->files, (g->nfiles + 1) * sizeof *v);
    if (!v)
        return NULL;
    g->files = v;
    v[g->nfiles] = (struct watched){.path = strdup(path)};
    return &v[g->nfiles++];
}

/* Applies what changed, deactivates what is gone. A file with errors leaves its last good version
 * running. */
static void apply_changes(struct engine *g, struct cli *c)
{
    char **files = NULL;
    size_t n = 0;
    struct stat st;
    find_files(c, &files, &n);
    for (size_t i = 0; i < n; i++) {
        struct watched *w = watched_of(g, files[i]);
        if (w && stat(files[i], &st) == 0 && memcmp(&st.st_mtim, &w->mtime, sizeof st.st_mtim)) {
            w->mtime = st.st_mtim;
            if (apply_file(c, g, files[i], true, &w->agent)) {
                cli_fail(c, c->e.code);
                if (w->agent)
                    fprintf(stderr, "%s: its last good version goes on\n", files[i]);
            }
        }
        free(files[i]);
    }
    free(files);
    for (size_t i = 0; i < g->nfiles; i++) {
        struct agents_change ch;
        if (!g->files[i].agent || access(g->files[i].path, F_OK) == 0)
            continue;
        if (agents_deactivate(c->admin, &c->names, g->files[i].agent, &ch, &c->e) == 0)
            note_change(g, g->files[i].path, &ch);
        free(g->files[i].agent);
        g->files[i].agent = NULL;
        memset(&g->files[i].mtime, 0, sizeof g->files[i].mtime);
    }
}

static void apply_work(struct pool_job *j)
{
    struct apply_job *a = LIST_ENTRY(j, struct apply_job, job);
    apply_changes(a->engine, &a->c);
}

static void apply_done(struct pool_job *j)
{
    struct apply_job *a = LIST_ENTRY(j, struct apply_job, job);
    a->engine->applying = false;
    changes_applied(a->engine);
    free(a);
}

static bool anything_changed(struct engine *g)
{
    char **files = NULL;
    size_t n = 0;
    struct stat st;
    bool changed = false;
    find_files(g->c, &files, &n);
    for (size_t i = 0; i < n; i++) {
        struct watched *w = NULL;
        for (size_t k = 0; k < g->nfiles; k++)
            if (!strcmp(g->files[k].path, files[i]))
                w = &g->files[k];
        changed = changed || !w ||
                  (stat(files[i], &st) == 0 && memcmp(&st.st_mtim, &w->mtime, sizeof st.st_mtim));
        free(files[i]);
    }
    free(files);
    for (size_t i = 0; i < g->nfiles; i++)
        changed = changed || (g->files[i].agent && access(g->files[i].path, F_OK) < 0);
    return changed;
}

static void on_watch(struct loop_timer *t)
{
    struct engine *g = LIST_ENTRY(t, struct engine, watch);
    loop_timer_set(g->loop, t, loop_now(g->loop) + WATCH_MS);
    if (g->stopping || g->applying || !anything_changed(g))
        return;
    struct apply_job *a = calloc(1, sizeof *a);
    if (!a)
        return;
    a->engine = g;
    a->c = *g->c;
    a->job.work = apply_work;
    a->job.done = apply_done;
    if (pool_submit(g->pool, &a->job) < 0)
        free(a);
    else
        g->applying = true;
}

/* ---- start ---- */

static void start_node(struct engine *g);

static void on_retry(struct loop_timer *t)
{
    start_node(LIST_ENTRY(t, struct engine, retry));
}

static void start_node(struct engine *g)
{
    struct err e = {0};
    struct node_opts o = {.loop = g->loop,
                          .config = g->c->config,
                          .log = g->log,
                          .data_dir = g->data,
                          .route = true,
                          .on_ready = on_ready,
                          .on_fatal = on_fatal,
                          .arg = g};
    if (!g->gateway || !gateway_may_start(g->gateway, &e))
        g->node = node_open(&o, &e);
    if (g->node && g->gateway)
        gateway_node(g->gateway, g->node);
    if (g->node)
        return;
    /* Waiting mends neither a wrong setting nor our own log. */
    if (e.code == -EINVAL || e.code == -EACCES || g->dev) {
        g->c->e = e;
        loop_stop(g->loop, cli_fail(g->c, e.code));
        return;
    }
    log_warn(g->log, "the log can't be reached; trying again", "brokers=%s error=%s hint=%s",
             log_q(config_kafka(g->c->config, "bootstrap.servers")), log_q(e.msg), log_q(e.hint));
    loop_timer_set(g->loop, &g->retry, loop_now(g->loop) + 2000);
}

static void no_core_files(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* secrets are in memory (promise I9) */
}

/* Each stream is a descriptor, and the usual soft limit is 1,024. One that is lower is meant so. */
static void raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur >= USUAL_FILES && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r); /* it may not: then there are fewer */
    }
}

static int open_engine(struct engine *g)
{
    static const int signos[] = {SIGTERM, SIGINT};
    const char *level = cli_get(g->c, "log-level");
    no_core_files();
    raise_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of the write */
    g->data = cli_get(g->c, "data") ? cli_get(g->c, "data") : ".tidemark";
    if (dir_make(g->data, &g->c->e))
        return g->c->e.code;
    g->log = log_new(2, level_of(level ? level : g->c->config->log_level), isatty(2));
    g->loop = loop_new(&g->c->e);
    if (!g->loop || !g->log)
        return -ENOMEM;
    g->signals.fn = on_signal;
    g->watch.fn = on_watch;
    g->retry.fn = on_retry;
    g->tell.fn = on_tell;
    g->ready.fn = on_ready_timer;
    return loop_signal_add(g->loop, &g->signals, signos, 2);
}

static void close_engine(struct engine *g)
{
    struct list *l;
    loop_timer_unset(&g->watch);
    loop_timer_unset(&g->retry);
    loop_timer_unset(&g->tell);
    loop_timer_unset(&g->ready);
    g->gateway = gateway_free(g->gateway);
    g->view = view_free(g->view);
    g->pool = g->pool ? pool_free(g->pool) : NULL;
    while ((l = list_pop(&g->changes)) || (l = list_pop(&g->untold)))
        free(LIST_ENTRY(l, struct change, node));
    if (g->loop && g->signals.w.loop)
        loop_signal_del(&g->signals);
    for (size_t i = 0; i < g->nfiles; i++) {
        free(g->files[i].path);
        free(g->files[i].agent);
    }
    free(g->files);
    if (g->broker) {
        log_info(g->log, "closing the log", "syncs=%lld", (long long)broker_syncs(g->broker));
        g->broker = broker_stop(g->broker);
    }
    loop_free(g->loop);
    log_free(g->log);
}

/* Lists of runs are a convenience: without the file the node works all the same. */
static void open_view(struct engine *g)
{
    struct err e = {0};
    struct view_opts o = {.config = g->c->config,
                          .log = g->log,
                          .data_dir = g->data,
                          .owned = !strcmp(g->c->config->view, "owned")};
    if (!strcmp(g->c->config->view, "none") || (g->view = view_open(&o, &e)))
        return;
    log_warn(g->log, "no read model, so no lists of runs", "error=%s hint=%s", log_q(e.msg),
             log_q(e.hint));
}

static int open_gateway(struct engine *g)
{
    struct cli *c = g->c;
    const char *listen = cli_get(c, "http") ? cli_get(c, "http") : c->config->http_listen;
    if (g->dev && !cli_get(c, "http") && cli_get(c, "port") && !strcmp(cli_get(c, "port"), "0") &&
        !strcmp(listen, "127.0.0.1:8274"))
        listen = "127.0.0.1:0"; /* --port 0: nothing of this dev has a fixed port */
    struct gateway_opts o = {.loop = g->loop,
                             .log = g->log,
                             .config = c->config,
                             .listen = listen,
                             .insecure = cli_has(c, "insecure")};
    if (!strcmp(listen, "off"))
        return 0;
    open_view(g);
    o.view = g->view;
    if (!(g->gateway = gateway_open(&o, &c->e)))
        return c->e.code ? c->e.code : -EIO;
    return 0;
}

static void tell_http(const struct engine *g)
{
    if (g->gateway)
        printf("http  http%s://%s   (docs/http.md)\n", gateway_tls(g->gateway) ? "s" : "",
               gateway_address(g->gateway));
    fflush(stdout);
}

int cmd_serve(struct cli *c)
{
    struct engine g = {.c = c};
    list_init(&g.changes);
    list_init(&g.untold);
    int error = cli_config(c);
    if (!error)
        error = open_engine(&g);
    if (!error && cli_get(c, "apply")) {
        char *dir = (char *)cli_get(c, "apply"), **files = NULL, *agent = NULL;
        size_t n = 0;
        error = cli_open(c);
        if (!error)
            error = cli_own_topics(c);
        if (!error)
            error = agents_files(c, dir, &files, &n);
        for (size_t i = 0; i < n; i++) {
            if (!error)
                error = apply_file(c, &g, files[i], false, &agent);
            free(files[i]);
        }
        changes_applied(&g);
        free(files);
        free(agent);
    }
    if (!error && !config_kafka(c->config, "bootstrap.servers"))
        error = err_set(&c->e, -EINVAL,
                        "kafka: {bootstrap.servers: HOST:PORT} in the configuration, or --brokers",
                        "no brokers are configured");
    if (!error)
        error = open_gateway(&g);
    if (error) {
        close_engine(&g);
        return cli_fail(c, error);
    }
    tell_http(&g);
    loop_timer_set(g.loop, &g.retry, loop_now(g.loop)); /* inside the loop, which a failure stops */
    int status = loop_run(g.loop);
    close_engine(&g);
    return status;
}

/* ---- dev ---- */

static int start_broker(struct engine *g)
{
    struct cli *c = g->c;
    char dir[4096], address[64];
    int64_t port = 9092;
    if (cli_get(c, "port") &&
        (sl_i64(sl_str(cli_get(c, "port")), &port) < 0 || port < 0 || port > 65535))
        return err_set(&c->e, -EINVAL, "a number from 0 to 65535; 0 picks a free one",
                       "--port %s is not a port", cli_get(c, "port"));
    snprintf(dir, sizeof dir, "%s/log", g->data);
    struct broker_opts o = {.data_dir = dir,
                            .host = "127.0.0.1",
                            .port = (int)port,
                            .default_partitions = 4,
                            .auto_create_topics = true,
                            .log = g->log};
    if (!(g->broker = broker_start(&o, &c->e)))
        return c->e.code ? c->e.code : -EIO;
    snprintf(address, sizeof address, "127.0.0.1:%d", broker_port(g->broker));
    return config_set_kafka(c->config, "bootstrap.servers", address, &c->e);
}

/* Where commands of this folder look for a running `dev`, wherever its data lies. */
#define DEV_FOLDER ".tidemark"

static int write_dev_json(struct engine *g)
{
    char text[512];
    if (mkdir(DEV_FOLDER, 0700) < 0 && errno != EEXIST)
        return err_set(&g->c->e, -errno, "may this folder be written to?",
                       "cannot make the folder %s", DEV_FOLDER);
    snprintf(text, sizeof text,
             "{\"bootstrap\":\"127.0.0.1:%d\",\"http\":%s%s%s%s,\"group\":\"%s\","
             "\"journalPartitions\":%d,"
             "\"pid\":%d}\n",
             broker_port(g->broker), g->gateway ? "\"http" : "null",
             !g->gateway               ? ""
             : gateway_tls(g->gateway) ? "s://"
                                       : "://",
             g->gateway ? gateway_address(g->gateway) : "", g->gateway ? "\"" : "",
             g->c->config->group, g->c->config->journal_partitions, (int)getpid());
    return file_write_atomic(DEV_FOLDER "/dev.json", sl_str(text), &g->c->e);
}

static int apply_topics(struct cli *c)
{
    for (size_t i = 0; i < c->config->ntopics; i++) {
        const struct config_topic *t = &c->config->topics[i];
        struct ktopic_spec s = {.name = t->name,
                                .partitions = t->partitions ? t->partitions : 4,
                                .replication = 1,
                                .configs = t->configs,
                                .nconfigs = t->nconfigs};
        int error = kadmin_create(c->admin, &s, 15000, &c->e);
        if (error && error != -EEXIST)
            return error;
        err_clear(&c->e);
    }
    return 0;
}

static int prepare_dev(struct engine *g)
{
    int error = start_broker(g);
    if (!error)
        error = cli_open(g->c);
    if (!error)
        error = cli_own_topics(g->c);
    if (!error)
        error = apply_topics(g->c);
    if (!error)
        error = open_gateway(g);
    if (!error)
        error = write_dev_json(g);
    if (!error && !(g->pool = pool_new(g->loop, 1, 4, &g->c->e)))
        error = -ENOMEM;
    return error;
}

int cmd_dev(struct cli *c)
{
    struct engine g = {.c = c, .dev = true};
    list_init(&g.changes);
    list_init(&g.untold);
    int error = cli_config(c);
    if (!error) {
        if (!c->config->journal_partitions)
            c->config->journal_partitions = 4;
        c->config->journal_replication = 1;
        /* The only process on this log (the data folder is locked), so a restart need not wait for
         * its own former session. */
        if (!c->config->node_id)
            c->config->node_id = strdup("dev");
        error = open_engine(&g);
    }
    if (!error)
        error = prepare_dev(&g);
    if (error) {
        int status = cli_fail(c, error);
        close_engine(&g);
        return status;
    }
    printf("log   127.0.0.1:%d   (Kafka protocol; data in %s/log)\n", broker_port(g.broker),
           g.data);
    tell_http(&g);
    apply_changes(&g, c);
    changes_applied(&g);
    loop_timer_set(g.loop, &g.retry, loop_now(g.loop)); /* inside the loop, which a failure stops */
    loop_timer_set(g.loop, &g.watch, loop_now(g.loop) + WATCH_MS);
    int status = loop_run(g.loop);
    cli_close(c);
    close_engine(&g);
    unlink(DEV_FOLDER "/dev.json");
    return status;
}
