/* log: the embedded log alone, for clients that want a small durable Kafka. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "cli/cli.h"

/* HOST:PORT; an IPv6 address stands in brackets. */
static int read_listen(struct cli *c, const char *text, char *host, size_t size, int *ret_port)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || colon == text || sl_i64(sl_str(colon + 1), &port) < 0 || port < 0 || port > 65535)
        return err_set(&c->e, -EINVAL, "as in 127.0.0.1:9092; port 0 picks a free one",
                       "--listen %s is not HOST:PORT", text);
    if (text[0] == '[')
        snprintf(host, size, "%.*s", (int)(colon - text - 2), text + 1);
    else
        snprintf(host, size, "%.*s", (int)(colon - text), text);
    *ret_port = (int)port;
    return 0;
}

static int read_options(struct cli *c, struct broker_opts *o, char *host, size_t size)
{
    static const char *const modes[] = {"always", "interval", "never"};
    const char *listen = cli_get(c, "listen"), *sync = cli_get(c, "sync"),
               *partitions = cli_get(c, "partitions");
    int64_t n;
    int error = read_listen(c, listen ? listen : "127.0.0.1:9092", host, size, &o->port);
    if (error)
        return error;
    o->host = host;
    o->data_dir = cli_get(c, "data");
    o->auto_create_topics = true;
    if (!o->data_dir)
        return err_set(&c->e, -EINVAL, "the folder in which the log keeps everything",
                       "--data DIR is missing");
    if (partitions && (sl_i64(sl_str(partitions), &n) < 0 || n < 1 || n > 10000))
        return err_set(&c->e, -EINVAL, "a whole number from 1",
                       "--partitions %s is not a number of partitions", partitions);
    o->default_partitions = partitions ? (int)n : 1;
    for (int i = 0; sync && i < 3; i++)
        if (!strcmp(sync, modes[i])) {
            o->sync = i == 0   ? BROKER_SYNC_ALWAYS
                      : i == 1 ? BROKER_SYNC_INTERVAL
                               : BROKER_SYNC_NEVER;
            return 0;
        }
    return sync ? err_set(&c->e, -EINVAL, "always, interval or never", "--sync %s is not a mode",
                          sync)
                : 0;
}

int cmd_log_cli(struct cli *c)
{
    struct broker_opts o = {0};
    char host[256];
    sigset_t signals;
    int signo, error = read_options(c, &o, host, sizeof host);
    struct log *log = log_new(2, LOG_INFO, isatty(2));
    struct broker *b = NULL;
    /* Blocked before the broker's threads are made, so that only sigwait gets them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is an error of the write */
    o.log = log;
    if (!error && !(b = broker_start(&o, &c->e)))
        error = c->e.code ? c->e.code : -EIO;
    if (error) {
        log_free(log);
        return cli_fail(c, error);
    }
    printf("listening on %s:%d\n", host, broker_port(b));
    fflush(stdout);
    sigwait(&signals, &signo);
    broker_stop(b);
    log_free(log);
    return EXIT_DONE;
}
