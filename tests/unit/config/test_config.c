/* The configuration: presets, every kind of problem with its place, properties, secrets. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"
#include "config/config.h"
#include "unit.h"

SUITE("config/config")

struct place {
    char dir[32];
    struct diags d;
};

static void put(struct place *p, const char *name, const char *text)
{
    char path[128];
    struct err e = {0};
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    CHECK_INT(file_write_atomic(path, sl_str(text), &e), 0);
    CHECK_STR(e.msg, "");
}

static void place_make(struct place *p)
{
    char path[64];
    *p = (struct place){.dir = "/tmp/tm_config_XXXXXX"};
    NEED(mkdtemp(p->dir) != NULL);
    (void)snprintf(path, sizeof path, "%s/config", p->dir);
    CHECK_INT(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/topics", p->dir);
    CHECK_INT(mkdir(path, 0700), 0);
    diags_init(&p->d);
}

static struct config *load(struct place *p, const char *text)
{
    char path[64];
    put(p, "config/tidemark.yaml", text);
    (void)snprintf(path, sizeof path, "%s/config/tidemark.yaml", p->dir);
    diags_free(&p->d);
    diags_init(&p->d);
    return config_load(path, &p->d);
}

static void place_end(struct place *p)
{
    diags_free(&p->d);
    unit_remove(p->dir);
}

/* "line:col message" of a problem. */
static const char *said(struct place *p, size_t i)
{
    static char text[600];
    if (i >= p->d.n)
        return "nothing";
    (void)snprintf(text, sizeof text, "%d:%d %s", p->d.v[i].line, p->d.v[i].col, p->d.v[i].msg);
    return text;
}

TEST(a_new_one_has_the_presets)
{
    struct config *c = config_new();
    NEED(c != NULL);
    CHECK_STR(c->group, "main");
    CHECK(c->node_id == NULL);
    CHECK_INT(c->session_timeout_ms, 10000);
    CHECK_INT(c->journal_history_ms, 7LL * 86400000);
    CHECK_INT(c->journal_state_ms, 60000);
    CHECK_INT(c->journal_snapshot_kib, 1024);
    CHECK_INT(c->max_active_runs, 1000);
    CHECK_INT(c->max_inflight_tasks, 256);
    CHECK_INT(c->max_processes, 16);
    CHECK_STR(c->agents_dir, "config/agents");
    CHECK_INT(c->journal_partitions, 0);
    config_free(c);
}

TEST(properties_of_the_engine_are_refused_with_the_reason)
{
    struct config *c = config_new();
    struct err e = {0};
    CHECK_INT(config_set_kafka(c, "acks", "1", &e), -EINVAL);
    CHECK(strstr(e.msg, "in-sync") != NULL);
    CHECK(e.hint[0] != 0);
    CHECK_INT(config_set_kafka(c, "bootstrap.servers", "a:1", &e), 0);
    CHECK_INT(config_set_kafka(c, "bootstrap.servers", "b:2", &e), 0);
    CHECK_STR(config_kafka(c, "bootstrap.servers"), "b:2");
    CHECK_INT(c->nkafka, 1);
    CHECK(config_kafka(c, "acks") == NULL);
    config_free(c);
}

TEST(a_whole_file_is_read)
{
    struct place p;
    place_make(&p);
    put(&p, "topics/orders.yaml",
        "partitions: 6\nretention: 2d\ntypes: [com.example.made, com.example.paid]\nfrom: latest\n"
        "config: {max.message.bytes: 5000}\n");
    struct config *c = load(&p, "group: blue\nnode: {id: n1, url: 'http://x:1', session: 6s}\n"
                                "journal: {partitions: 8, replication: 3, history: 36h}\n"
                                "kafka:\n  bootstrap.servers: k:9092\n  linger.ms: 5\n"
                                "log: {level: debug}\nsecrets: {dir: private}\n"
                                "topics:\n  audit:\n    retention: forever\n");
    CHECK_STR(said(&p, 0), "nothing");
    NEED(c != NULL);
    CHECK_STR(c->group, "blue");
    CHECK_STR(c->node_id, "n1");
    CHECK_INT(c->session_timeout_ms, 6000);
    CHECK_INT(c->journal_partitions, 8);
    CHECK_INT(c->journal_history_ms, 36LL * 3600000);
    CHECK_STR(config_kafka(c, "linger.ms"), "5");
    char path[64];
    (void)snprintf(path, sizeof path, "%s/private", p.dir);
    CHECK_STR(c->secrets_dir, path);
    const struct config_topic *t = config_topic_of_type(c, "com.example.paid");
    NEED(t != NULL);
    CHECK_STR(t->name, "orders");
    CHECK_INT(t->partitions, 6);
    CHECK_INT(t->retention_ms, 2LL * 86400000);
    CHECK(t->from_latest);
    CHECK_STR(t->configs[0].value, "5000");
    t = config_topic(c, "audit");
    NEED(t != NULL);
    CHECK_INT(t->retention_ms, -1);
    CHECK(config_topic(c, "none") == NULL);
    config_free(c);
    place_end(&p);
}

TEST(every_problem_is_told_at_its_place)
{
    struct place p;
    place_make(&p);
    CHECK(load(&p, "grup: blue\n"
                   "node:\n  session: 6\n"
                   "journal:\n  partitions: '8'\n"
                   "kafka:\n  acks: 1\n  sasl.password: {secret: none}\n"
                   "log:\n  level: loud\n"
                   "topics:\n  tidemark.x: {}\n") == NULL);
    diags_sort(&p.d);
    CHECK_INT(p.d.errors, 7);
    CHECK_STR(said(&p, 0), "1:1 there is no key grup here");
    CHECK_STR(p.d.v[0].hint, "did you mean group?");
    CHECK_STR(said(&p, 1), "3:12 node.session is not a duration: 6");
    CHECK_STR(said(&p, 2), "5:15 partitions must be a whole number, but is string");
    CHECK(strstr(said(&p, 3), "7:3 acks is set by tidemark itself") != NULL);
    CHECK(strstr(said(&p, 4), "there is no secret none") != NULL);
    CHECK_STR(said(&p, 5), "10:10 log.level has no value loud");
    CHECK_STR(said(&p, 6), "12:3 the topic tidemark.x belongs to tidemark itself");
    for (size_t i = 0; i < p.d.n; i++)
        CHECK(p.d.v[i].hint && *p.d.v[i].hint);
    place_end(&p);
}

TEST(parts_of_a_section_and_lists_of_origins)
{
    struct place p;
    place_make(&p);
    struct config *c = load(&p, "http:\n  tls: {cert: tls/a.pem, key: /b.key}\n  cors:\n  - "
                                "https://a.example\n  - http://localhost:3000\n  body: 64\n");
    NEED(c != NULL);
    char path[64];
    (void)snprintf(path, sizeof path, "%s/tls/a.pem", p.dir);
    CHECK_STR(c->http_tls_cert, path);
    CHECK_STR(c->http_tls_key, "/b.key");
    CHECK_STR(c->http_cors[0], "https://a.example");
    CHECK_STR(c->http_cors[1], "http://localhost:3000");
    CHECK(c->http_cors[2] == NULL);
    CHECK_INT(c->http_body_kib, 64);
    config_free(c);
    CHECK(load(&p, "http:\n  tls:\n    certt: a\n  cors: ['*']\n") == NULL);
    CHECK_STR(said(&p, 0), "3:5 there is no key certt here");
    CHECK_STR(p.d.v[0].hint, "did you mean cert?");
    CHECK_STR(said(&p, 1), "4:10 this is no origin");
    CHECK(load(&p, "http:\n  tls: x\n  cors: https://a.example\n") == NULL);
    CHECK_STR(said(&p, 0), "2:8 tls must be a map, but is string");
    CHECK_STR(said(&p, 1), "3:9 cors must be a list of origins, but is string");
    static const char *const bad[] = {"https://a.example/", "a.example",          "https://",
                                      "https://A.example",  "https://a.example:", "ftp://a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[80];
        (void)snprintf(text, sizeof text, "http: {cors: ['%s']}\n", bad[i]);
        CHECK(load(&p, text) == NULL);
    }
    place_end(&p);
}

TEST(a_topic_is_declared_once_and_a_missing_file_is_told)
{
    struct place p;
    place_make(&p);
    put(&p, "topics/a.yaml", "partitions: 0\nscheme: x\n");
    put(&p, "topics/b.yaml", "types: [t]\n");
    CHECK(load(&p, "topics:\n  b: {types: [t]}\n") == NULL);
    CHECK_INT(p.d.errors, 3);
    diags_free(&p.d);
    diags_init(&p.d);
    CHECK(config_load("/nonexistent/tidemark.yaml", &p.d) == NULL);
    CHECK_INT(p.d.errors, 1);
    place_end(&p);
}

TEST(secrets_come_from_the_environment_then_from_the_folder)
{
    struct place p;
    struct err e = {0};
    struct secret *s = NULL;
    place_make(&p);
    put(&p, "api-key", "from file\n");
    struct config *c = load(&p, "secrets: {dir: .}\nkafka:\n  sasl.password: {secret: api-key}\n");
    NEED(c != NULL);
    CHECK_STR(config_kafka(c, "sasl.password"), "from file");
    CHECK_INT(config_secret(c, "api-key", &s, &e), 0);
    CHECK(sl_is(secret_reveal(s), "from file"));
    s = secret_free(s);
    CHECK_INT(setenv("TIDEMARK_SECRET_API_KEY", "from env", 1), 0);
    CHECK_INT(config_secret(c, "api-key", &s, &e), 0);
    CHECK(sl_is(secret_reveal(s), "from env"));
    s = secret_free(s);
    CHECK_INT(unsetenv("TIDEMARK_SECRET_API_KEY"), 0);
    CHECK_INT(config_secret(c, "other", &s, &e), -ENOENT);
    CHECK(strstr(e.hint, "TIDEMARK_SECRET_OTHER") != NULL);
    CHECK_INT(config_secret(c, "../etc/passwd", &s, &e), -EINVAL);
    CHECK(s == NULL);
    config_free(c);
    place_end(&p);
}

/* A file of the repository, by its path from the root. */
static void in_repository(const char *name, char path[512])
{
    (void)snprintf(path, 512, "%s/%s", TM_ROOT, name);
}

/* docs/config.md holds the table as the program writes it. */
TEST(the_documentation_has_the_table_of_fields)
{
    struct buf table, doc;
    struct err e = {0};
    char path[512];
    buf_init(&table, 1 << 20);
    buf_init(&doc, 1 << 20);
    CHECK_INT(config_fields_write(&table), 0);
    in_repository("docs/config.md", path);
    CHECK_INT(file_read(path, &doc, &e), 0);
    CHECK_STR(e.msg, "");
    CHECK(doc.p && table.p && strstr(doc.p, table.p) != NULL);
    buf_free(&table);
    buf_free(&doc);
}

static void check_schema(bool topic, const char *name)
{
    struct buf made, kept;
    struct err e = {0};
    char path[512];
    buf_init(&made, 1 << 20);
    buf_init(&kept, 1 << 20);
    CHECK_INT(config_schema_write(topic, &made), 0);
    in_repository(name, path);
    if (getenv("TIDEMARK_UPDATE"))
        CHECK_INT(file_write_atomic(path, buf_slice(&made), &e), 0);
    CHECK_INT(file_read(path, &kept, &e), 0);
    CHECK_STR(e.msg, "");
    CHECK(sl_eq(buf_slice(&made), buf_slice(&kept)));
    buf_free(&made);
    buf_free(&kept);
}

/* TIDEMARK_UPDATE=1 writes them again after the table has changed. */
TEST(the_schemas_are_those_of_the_table_of_fields)
{
    check_schema(false, "schemas/tidemark.json");
    check_schema(true, "schemas/topic.json");
}
