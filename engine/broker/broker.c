/* The embedded log's thread: listening, the epoll turn, timers, start and stop.
 *
 * Threads: broker_start and broker_stop run in the caller's thread, everything between them in the
 * broker's own; they share only `stop` (atomic), `syncs` (atomic) and wake_fd.
 *
 * One turn: serve what is ready, publish what became durable, run woken fetches and timers, then
 * flush each connection once. Invariant: nothing is sent before the end of the turn, so one turn's
 * answers to a connection leave together. */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/fileops.h"
#include "base/hash.h"
#include "broker/group_store.h"
#include "broker/wire_int.h"

#define EVENTS_MAX 256
#define TICK_MS    1000

void timer_set(struct broker *b, struct wtimer *t, int64_t at_ms)
{
    heap_remove(&b->timers, &t->node);
    if (heap_add(&b->timers, &t->node, at_ms) < 0)
        t->fn(b, t); /* no memory to wait: late is worse than early for every user of a timer */
}

void timer_unset(struct broker *b, struct wtimer *t)
{
    heap_remove(&b->timers, &t->node);
}

static void run_timers(struct broker *b)
{
    struct heap_node *n;
    while ((n = heap_top(&b->timers)) && n->key <= b->now_ms) {
        heap_remove(&b->timers, n);
        struct wtimer *t = (struct wtimer *)((char *)n - offsetof(struct wtimer, node));
        t->fn(b, t);
    }
}

static void watch_listener(struct broker *b, bool on)
{
    struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.ptr = &b->listen_fd};
    epoll_ctl(b->epfd, EPOLL_CTL_MOD, b->listen_fd, &ev);
    b->listen_paused = !on;
}

static void accept_all(struct broker *b)
{
    for (;;) {
        if (b->nconns >= b->o.max_connections) {
            log_warn(b->log, "connections at their limit", "limit=%d", b->o.max_connections);
            watch_listener(b, false);
            return;
        }
        int fd = accept4(b->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0) {
            log_warn(b->log, "accept failed", "error=%s", log_q(strerror(errno)));
            watch_listener(b, false);
            return;
        }
        if (!conn_new(b, fd)) {
            log_warn(b->log, "no memory for a connection", "connections=%d", b->nconns);
            close(fd);
        }
    }
}

static void tick(struct broker *b, struct wtimer *t)
{
    store_tick(b->store, b->wall_ms);
    LIST_EACH(n, &b->conns)
    {
        struct conn *c = LIST_ENTRY(n, struct conn, node);
        int64_t idle = b->now_ms - c->last_ms;
        if (idle > IDLE_MS && list_empty(&c->replies)) {
            conn_close(c, NULL);
        } else if (idle > TICK_MS && c->in.n == 0 && c->in.cap > KEEP_BYTES) {
            b->in_bytes -= c->in.cap;
            buf_trim(&c->in, KEEP_BYTES);
            b->in_bytes += c->in.cap;
        }
    }
    if (b->listen_paused && b->nconns < b->o.max_connections)
        watch_listener(b, true);
    timer_set(b, t, b->now_ms + TICK_MS);
}

static void group_tick(struct broker *b, struct wtimer *t)
{
    gstore_tick(b);
}

static void flush_all(struct broker *b)
{
    struct list *n;
    while ((n = list_pop(&b->dirty))) {
        struct conn *c = LIST_ENTRY(n, struct conn, dirty);
        if (!c->dead)
            conn_flush(c);
        if (c->dead)
            conn_free(c);
    }
}

static void read_clocks(struct broker *b)
{
    b->now_ms = clock_boot_ms();
    b->wall_ms = clock_wall_ms();
}

static void serve(struct broker *b, const struct epoll_event *ev, bool *ret_synced)
{
    uint64_t count;
    if (ev->data.ptr == &b->listen_fd)
        accept_all(b);
    else if (ev->data.ptr == b->store)
        *ret_synced = true;
    else if (ev->data.ptr == &b->wake_fd)
        (void)!read(b->wake_fd, &count, sizeof count); /* only wakes the turn */
    else
        conn_ready(ev->data.ptr, ev->events);
}

static void turn(struct broker *b)
{
    struct epoll_event ev[EVENTS_MAX];
    struct heap_node *next = heap_top(&b->timers);
    int64_t wait = next ? next->key - b->now_ms : TICK_MS;
    int n = epoll_wait(b->epfd, ev, EVENTS_MAX,
                       wait < 0         ? 0
                       : wait > TICK_MS ? TICK_MS
                                        : (int)wait);
    bool synced = false;
    read_clocks(b);
    for (int i = 0; i < n; i++)
        serve(b, &ev[i], &synced);
    if (synced)
        store_poll(b->store, wait_on_durable, b);
    run_timers(b);
    gstore_schedule(b);
    do {
        fetch_run_ready(b);
        flush_all(b);
    } while (!list_empty(&b->ready));
    atomic_store_explicit(&b->syncs, store_syncs(b->store), memory_order_relaxed);
}

/* Answers what waits for a sync already under way: bounded, the store's close syncs in any case. */
static void drain(struct broker *b)
{
    int64_t end = clock_boot_ms() + 2000;
    for (;;) {
        bool waiting = false;
        LIST_EACH(n, &b->conns)
        {
            struct conn *c = LIST_ENTRY(n, struct conn, node);
            LIST_EACH(m, &c->replies)
            {
                struct reply *r = LIST_ENTRY(m, struct reply, node);
                waiting |= !r->done && !r->cancel && (r->api == 0 || r->api == 8);
            }
        }
        if (!waiting || clock_boot_ms() >= end)
            return;
        turn(b);
    }
}

static void *broker_main(void *arg)
{
    struct broker *b = arg;
    pthread_setname_np(pthread_self(), "tm-log");
    while (!atomic_load(&b->stop))
        turn(b);
    epoll_ctl(b->epfd, EPOLL_CTL_DEL, b->listen_fd, NULL);
    drain(b);
    return NULL;
}

static int bind_one(struct broker *b, const struct addrinfo *ai)
{
    int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    b->listen_fd = fd;
    if (a.ss_family == AF_INET6) {
        b->port = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
        b->wildcard = IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&a)->sin6_addr);
    } else {
        b->port = ntohs(((struct sockaddr_in *)&a)->sin_port);
        b->wildcard = ((struct sockaddr_in *)&a)->sin_addr.s_addr == htonl(INADDR_ANY);
    }
    return 0;
}

static int open_listener(struct broker *b, struct err *e)
{
    char port[16];
    snprintf(port, sizeof port, "%d", b->o.port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int gai = getaddrinfo(b->o.host, port, &hints, &list);
    if (gai != 0)
        return err_set(e, -EINVAL, "give an address of this machine, for example 127.0.0.1",
                       "cannot listen on host %s: %s", b->o.host, gai_strerror(gai));
    int rc = -EADDRNOTAVAIL;
    for (struct addrinfo *ai = list; ai && rc < 0; ai = ai->ai_next)
        rc = bind_one(b, ai);
    freeaddrinfo(list);
    if (rc == -EADDRINUSE)
        return err_set(e, rc, "stop the other process, or choose another port (0 picks a free one)",
                       "port %d on %s is in use", b->o.port, b->o.host);
    if (rc < 0)
        return err_set(e, rc, "choose an address of this machine and a port above 1023",
                       "cannot listen on %s:%d: %s", b->o.host, b->o.port, strerror(-rc));
    return 0;
}

/* The cluster's id is made once and kept, because clients compare it. */
static int load_cluster_id(struct broker *b, struct err *e)
{
    char path[4096];
    struct buf t;
    snprintf(path, sizeof path, "%s/cluster.id", b->o.data_dir);
    buf_init(&t, 256);
    struct fileops *o = b->o.files ? b->o.files : fileops_real();
    bool unknown;
    int rc = fo_read_file(o, path, &t);
    if (rc == -ENOENT)
        rc = 0;
    struct slice id = sl_trim(buf_slice(&t));
    if (rc == 0 && id.n == sizeof b->cluster_id - 1) {
        memcpy(b->cluster_id, id.p, id.n);
    } else if (rc == 0) {
        uint8_t raw[13];
        char text[32];
        random_bytes(raw, sizeof raw);
        base32_write(text, raw, sizeof raw);
        text[21] = '0'; /* 13 bytes make 21 digits; clients expect 22 */
        text[22] = 0;
        memcpy(b->cluster_id, text, sizeof b->cluster_id);
        rc = fo_replace_file(o, path, sl_str(b->cluster_id), SYNC_CLUSTER_ID, SYNC_CLUSTER_ID_NAME,
                             &unknown);
    }
    if (rc < 0)
        err_set(e, rc, "check the space, the owner and the mode of the data folder",
                "cannot read or write %s: %s", path, strerror(-rc));
    buf_free(&t);
    return rc;
}

static int watch(struct broker *b, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(b->epfd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

static int open_loop(struct broker *b, struct err *e)
{
    b->epfd = epoll_create1(EPOLL_CLOEXEC);
    b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = b->epfd < 0 || b->wake_fd < 0 ? -errno : 0;
    if (rc == 0)
        rc = watch(b, b->wake_fd, &b->wake_fd);
    if (rc == 0)
        rc = watch(b, b->listen_fd, &b->listen_fd);
    if (rc == 0)
        rc = watch(b, store_event_fd(b->store), b->store);
    if (rc < 0)
        return err_set(e, rc, "raise the limit of open files (ulimit -n)",
                       "cannot make the log's event loop: %s", strerror(-rc));
    return 0;
}

static int copy_opts(struct broker *b, const struct broker_opts *o)
{
    b->o = *o;
    b->log = o->log;
    b->o.data_dir = sl_dup(sl_str(o->data_dir));
    b->o.host = sl_dup(sl_str(o->host ? o->host : "127.0.0.1"));
    b->o.advertised_host = o->advertised_host ? sl_dup(sl_str(o->advertised_host)) : NULL;
    if (b->o.default_partitions <= 0)
        b->o.default_partitions = 1;
    if (b->o.max_connections <= 0)
        b->o.max_connections = MAX_CONNECTIONS;
    if (b->o.max_request_bytes == 0)
        b->o.max_request_bytes = MAX_REQUEST_BYTES;
    if (b->o.max_input_bytes == 0)
        b->o.max_input_bytes = MAX_INPUT_BYTES;
    if (b->o.segment_bytes <= 0)
        b->o.segment_bytes = (int64_t)1 << 30;
    bool ok = b->o.data_dir && b->o.host && (!o->advertised_host || b->o.advertised_host);
    return ok ? 0 : -ENOMEM;
}

static int open_store(struct broker *b, struct err *e)
{
    enum store_sync sync = b->o.sync == BROKER_SYNC_ALWAYS     ? STORE_SYNC_ALWAYS
                           : b->o.sync == BROKER_SYNC_INTERVAL ? STORE_SYNC_INTERVAL
                                                               : STORE_SYNC_NEVER;
    struct store_opts so = {.dir = b->o.data_dir,
                            .files = b->o.files,
                            .segment_bytes = b->o.segment_bytes,
                            .sync = sync,
                            .log = b->log};
    b->store = store_open(&so, e);
    if (!b->store)
        return e && e->code ? e->code : -EIO;
    return load_cluster_id(b, e);
}

struct broker *broker_start(const struct broker_opts *o, struct err *e)
{
    struct broker *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(e, -ENOMEM, "free some memory", "no memory for the log");
        return NULL;
    }
    b->epfd = b->listen_fd = b->wake_fd = -1;
    heap_init(&b->timers);
    list_init(&b->conns);
    list_init(&b->dirty);
    list_init(&b->ready);
    read_clocks(b);
    /* The port first: a busy one is the commonest mistake and costs no recovery to find out. */
    int rc = copy_opts(b, o);
    if (rc < 0)
        err_set(e, rc, "free some memory", "no memory for the log");
    if (rc == 0)
        rc = open_listener(b, e);
    if (rc == 0)
        rc = open_store(b, e);
    if (rc == 0)
        rc = open_loop(b, e);
    if (rc == 0)
        rc = gstore_open(b, e);
    b->tick.fn = tick;
    b->group_timer.fn = group_tick;
    if (rc == 0) {
        timer_set(b, &b->tick, b->now_ms + TICK_MS);
        rc = -pthread_create(&b->thread, NULL, broker_main, b);
        if (rc < 0)
            err_set(e, rc, "raise the limit of threads", "cannot start the log's thread");
    }
    b->started = rc == 0;
    if (rc < 0)
        return broker_stop(b);
    log_info(b->log, "log started", "host=%s port=%d data=%s", b->o.host, b->port,
             log_q(b->o.data_dir));
    return b;
}

int broker_port(const struct broker *b)
{
    return b->port;
}

int64_t broker_syncs(const struct broker *b)
{
    return atomic_load_explicit(&((struct broker *)b)->syncs, memory_order_relaxed);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* Ends every wait before the partitions go away with the store. */
static void drop_waits(struct broker *b)
{
    size_t pos = 0;
    struct topic *t;
    while (b->store && store_topic_next(b->store, &pos, &t)) {
        for (int i = 0; i < t->npartitions; i++)
            wait_drop(b, t->parts[i], KERR_STORAGE);
    }
}

struct broker *broker_stop(struct broker *b)
{
    if (!b)
        return NULL;
    if (b->started) {
        uint64_t one = 1;
        atomic_store(&b->stop, true);
        (void)!write(b->wake_fd, &one, sizeof one); /* an eventfd can only fail when it is full */
        pthread_join(b->thread, NULL);
    }
    while (!list_empty(&b->conns))
        conn_free(LIST_ENTRY(b->conns.next, struct conn, node));
    drop_waits(b);
    gstore_close(b);
    if (b->store)
        store_close(b->store);
    heap_free(&b->timers);
    close_fd(b->listen_fd);
    close_fd(b->epfd);
    close_fd(b->wake_fd);
    free((char *)b->o.data_dir);
    free((char *)b->o.host);
    free((char *)b->o.advertised_host);
    free(b);
    return NULL;
}
