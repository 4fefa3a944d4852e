/* events publish|tail. CloudEvents in binary mode: ce_ headers, content type, data as the value. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "flow/schema.h"
#include "triggers/event.h"
#include "triggers/topic_schemas.h"

#define SEND_MS 15000

struct publishing {
    struct cli *c;
    /* The topic's schema and what judges by it; schemas NULL: not to be judged. */
    struct topic_schemas *schemas;
    const struct tmpl *schema;
    struct loop *loop;
    struct evalpool *pool;
    const char *topic, *type, *source, *subject, *key, *id;
};

struct judged {
    bool done;
    struct json_object *problems;
    struct err e;
};

static void on_judged(void *arg, struct json_object *value, const struct err *e)
{
    struct judged *j = arg;
    j->done = true;
    j->problems = value;
    if (e)
        j->e = *e;
}

/* As the router will judge it. */
static int judge(struct publishing *p, struct json_object *data)
{
    static const char *const hint = "mend the data, or publish it all the same with --no-check";
    struct expr_args none = {0};
    struct judged j = {0};
    struct buf b;
    int error = evalpool_submit(p->pool, p->schema, data, &none, on_judged, &j);
    while (!error && !j.done)
        loop_turn(p->loop, 1000);
    if (error || j.e.code)
        return err_set(&p->c->e, -EINVAL, hint, "the data can't be judged by the schema of %s: %s",
                       p->topic, error ? strerror(-error) : j.e.msg);
    buf_init(&b, 1 << 20);
    schema_explain(j.problems, &b);
    if (b.n)
        error = err_set(&p->c->e, -EINVAL, hint, "the data does not fit the schema of %s: %.*s",
                        p->topic, (int)b.n, b.p);
    json_object_put(j.problems);
    buf_free(&b);
    return error;
}

static int open_schema(struct publishing *p)
{
    struct cli *c = p->c;
    struct evalpool_opts o = {.children = 1};
    struct diags d;
    if (cli_has(c, "no-check"))
        return 0;
    diags_init(&d);
    p->schemas = topic_schemas_new(c->config, false, &d);
    cli_diags(&d, stderr);
    diags_free(&d);
    if (!p->schemas)
        return err_set(&c->e, -EINVAL, "mend it, or publish with --no-check",
                       "the schema of a topic is wrong");
    if (!(p->schema = topic_schema(p->schemas, sl_str(p->topic))))
        return 0;
    if (!(p->loop = loop_new(&c->e)) || !(p->pool = evalpool_new(p->loop, &o, NULL, &c->e)))
        return -EIO;
    return 0;
}

static void close_schema(struct publishing *p)
{
    if (p->pool)
        evalpool_free(p->pool);
    if (p->loop)
        loop_free(p->loop);
    topic_schemas_free(p->schemas);
}

static int check_data(struct publishing *p, struct slice data)
{
    struct json_object *o = NULL;
    struct err bad = {0};
    if (js_parse(data, &o, &bad) < 0)
        return err_set(&p->c->e, -EINVAL, "quote texts, as in --data '\"text\"'",
                       "--data is not JSON: %s (line %d, column %d)", bad.msg, bad.line, bad.col);
    int error = p->schema ? judge(p, o) : 0;
    json_object_put(o);
    return error;
}

static int publish_one(void *arg, struct slice data)
{
    struct publishing *p = arg;
    struct cli *c = p->c;
    char uuid[37], time[TIME_TEXT_MAX];
    int64_t now = clock_wall_ms(), offset;
    int partition = -1;
    uuid4(uuid);
    time_write(time, now);
    if (data.n > EVENT_BYTES_MAX)
        return err_set(&c->e, -EMSGSIZE, "keep large data outside and publish a reference to it",
                       "the data has %zu bytes; the limit is %d", data.n, EVENT_BYTES_MAX);
    if (check_data(p, data) < 0)
        return c->e.code;
    struct kheader h[] = {{SL("ce_specversion"), SL("1.0")},
                          {SL("ce_id"), sl_str(p->id ? p->id : uuid)},
                          {SL("ce_source"), sl_str(p->source)},
                          {SL("ce_type"), sl_str(p->type)},
                          {SL("ce_time"), sl_str(time)},
                          {SL("content-type"), SL("application/json")},
                          {SL("ce_subject"), sl_str(p->subject)}};
    struct krec r = {.topic = sl_str(p->topic),
                     .partition = -1,
                     .time_ms = now,
                     .key = sl_str(p->key),
                     .value = data,
                     .headers = h,
                     .nheaders = p->subject ? 7 : 6};
    int error = kadmin_send(c->admin, &r, &offset, &partition, SEND_MS, &c->e);
    if (error)
        return error;
    events_say(c, p->id ? p->id : uuid, partition, offset);
    return 0;
}

void events_say(struct cli *c, const char *id, int partition, int64_t offset)
{
    const char *topic = c->args[0];
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "id", json_object_new_string(id));
    json_object_object_add(o, "topic", json_object_new_string(topic));
    json_object_object_add(o, "partition", json_object_new_int(partition));
    json_object_object_add(o, "offset", json_object_new_int64(offset));
    if (c->format == OUT_TABLE)
        printf("%s %s/%d/%lld\n", id, topic, partition, (long long)offset);
    else
        cli_print_line(c, o);
    json_object_put(o);
}

int events_each(struct cli *c, int (*fn)(void *arg, struct slice data), void *arg)
{
    const char *text = cli_get(c, "data");
    struct buf b;
    int64_t n = 0;
    if (!cli_get(c, "type"))
        return cli_usage(c, "for example --type org.example.ticket", "--type is missing");
    int error = cli_read_arg(c, text ? text : "null", &b);
    struct slice rest = sl_trim(buf_slice(&b)), line;
    if (!error && !cli_has(c, "lines"))
        error = fn(arg, rest);
    else
        while (!error && rest.n && sl_split(&rest, '\n', &line))
            if (sl_trim(line).n && !(error = fn(arg, sl_trim(line))))
                n++;
    buf_free(&b);
    if (error && n)
        fprintf(stderr, "tidemark: %lld events were published before this:\n", (long long)n);
    return error ? cli_fail(c, error) : EXIT_DONE;
}

int cmd_events_publish(struct cli *c)
{
    struct publishing p = {.c = c,
                           .topic = c->args[0],
                           .type = cli_get(c, "type"),
                           .source = cli_get(c, "source"),
                           .subject = cli_get(c, "subject"),
                           .key = cli_get(c, "key"),
                           .id = cli_get(c, "id")};
    if (!p.type)
        return cli_usage(c, "for example --type org.example.ticket", "--type is missing");
    if (!p.source)
        p.source = "tidemark/cli";
    int error = cli_open(c);
    if (error)
        return cli_fail(c, error);
    error = open_schema(&p);
    int status = error ? cli_fail(c, error) : events_each(c, publish_one, &p);
    close_schema(&p);
    return status;
}

/* ---- tail ---- */

struct tailing {
    struct cli *c;
    struct loop *loop;
    int64_t left;
    int status;
    int reads;
    bool ended;
};

static void print_event(struct tailing *t, const struct krec *r)
{
    struct event ev;
    struct err e = {0};
    if (event_read(&ev, r, &e)) {
        fprintf(stderr, "tidemark: %.*s/%d/%lld: %s\n", SL_ARG(r->topic), r->partition,
                (long long)r->offset, e.msg);
        return;
    }
    if (t->c->format == OUT_TABLE) {
        struct json_object *d = js_get(ev.envelope, "data");
        printf("%d/%lld  %s  %s  %s\n", r->partition, (long long)r->offset, ev.type, ev.id,
               json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE));
        fflush(stdout);
    } else {
        json_object_object_add(ev.envelope, "$kafka", json_object_get(ev.kafka));
        cli_print_line(t->c, ev.envelope);
    }
    event_free(&ev);
}

static void on_record(void *arg, const struct krec *r)
{
    struct tailing *t = arg;
    if (t->left == 0)
        return;
    print_event(t, r);
    if (t->left > 0 && --t->left == 0)
        loop_stop(t->loop, 0);
}

static void on_done(void *arg, int error)
{
    struct tailing *t = arg;
    fprintf(stderr, "tidemark: reading ended: %s\n", strerror(-error));
    t->status = EXIT_UNREACHABLE;
    t->ended = true; /* the reader is gone: the others go with the process */
    loop_stop(t->loop, EXIT_UNREACHABLE);
}

static void on_signal(struct loop_signal *s, int signo)
{
    loop_stop(s->w.loop, EXIT_INTERRUPTED);
}

static void on_timeout(struct loop_timer *t)
{
    loop_stop(t->loop, EXIT_TIMEOUT);
}

static int tail(struct cli *c, struct tailing *t, int partitions, int64_t from)
{
    struct klog_opts o = {.config = c->config, .loop = t->loop, .client_id = "tidemark-cli"};
    static const int signals[] = {2, 15};
    struct loop_signal sig = {.fn = on_signal};
    struct loop_timer timer = {.fn = on_timeout};
    struct klog *k = klog_new(&o, &c->e);
    struct kread **v = calloc((size_t)partitions, sizeof *v);
    int status = EXIT_UNREACHABLE;
    if (k && v && loop_signal_add(t->loop, &sig, signals, 2) == 0) {
        for (int p = 0; p < partitions; p++)
            if ((v[p] =
                     kread_start(k, c->args[0], p, from, INT64_MAX, on_record, on_done, t, &c->e)))
                t->reads++;
        if (c->timeout_ms >= 0)
            loop_timer_set(t->loop, &timer, loop_now(t->loop) + c->timeout_ms);
        status = t->reads ? loop_run(t->loop) : cli_fail(c, c->e.code);
        loop_timer_unset(&timer);
        loop_signal_del(&sig);
        for (int p = 0; p < partitions; p++)
            if (v[p] && !t->ended)
                kread_stop(v[p]);
    }
    free(v);
    klog_free(k);
    return status;
}

int cmd_events_tail(struct cli *c)
{
    struct tailing t = {.c = c, .left = -1};
    const char *from = cli_get(c, "from"), *count = cli_get(c, "count");
    int64_t start = -1;
    int partitions = 0;
    if (from && !strcmp(from, "begin"))
        start = -2;
    else if (from && strcmp(from, "end") && (sl_i64(sl_str(from), &start) < 0 || start < 0))
        return cli_usage(c, "begin, end or an offset", "--from %s is not a place", from);
    if (count && (sl_i64(sl_str(count), &t.left) < 0 || t.left < 1))
        return cli_usage(c, "a whole number from 1", "--count %s is not a number", count);
    int error = cli_open(c);
    if (!error)
        error = kadmin_topic(c->admin, c->args[0], &partitions, NULL, 15000, &c->e);
    if (error)
        return cli_fail(c, error);
    if (!(t.loop = loop_new(&c->e)))
        return cli_fail(c, c->e.code);
    int status = tail(c, &t, partitions, start);
    loop_free(t.loop);
    return status;
}
