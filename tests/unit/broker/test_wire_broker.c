/* The broker over its socket, spoken to in bytes: order of responses, versions, malformed requests,
 * limits, and what is still there after a restart. */
#include <errno.h>
#include <arpa/inet.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/batch_int.h"
#include "broker/wire_int.h"
#include "unit.h"

SUITE("broker/wire/broker")

#define WAIT_MS 120000

static char dir[64];
static struct broker *broker;

static void start_with(struct broker_opts o)
{
    struct err e = {0};
    o.data_dir = dir;
    o.host = "127.0.0.1";
    o.auto_create_topics = true;
    broker = broker_start(&o, &e);
    if (!broker)
        fprintf(stderr, "broker_start: %s (%s)\n", e.msg, e.hint);
    NEED(broker != NULL);
}

static void start(void)
{
    start_with((struct broker_opts){0});
}

static void open_with(struct broker_opts o)
{
    unit_folder(dir, sizeof dir);
    start_with(o);
}

static void open_all(void)
{
    open_with((struct broker_opts){0});
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path);
}

static void close_all(void)
{
    broker = broker_stop(broker);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)broker_port(broker))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

static void put(int fd, const void *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* the broker closed: what the test then reads shows it */
        NEED(k > 0);
        p = (const char *)p + k;
        n -= (size_t)k;
    }
}

/* n bytes, or false at the end of the connection. */
static bool get(int fd, char *p, size_t n)
{
    while (n > 0) {
        struct pollfd f = {.fd = fd, .events = POLLIN};
        NEED(poll(&f, 1, WAIT_MS) == 1);
        ssize_t k = recv(fd, p, n, 0);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* A request is a buffer whose first bytes are its size and header. */
static struct wr begin(struct buf *b, int16_t key, int16_t version, int32_t corr, bool flex)
{
    struct wr w = {b, flex};
    wr_i32(&w, 0);
    wr_i16(&w, key);
    wr_i16(&w, version);
    wr_i32(&w, corr);
    w.flex = false;
    wr_str(&w, SL("test"));
    w.flex = flex;
    wr_tags(&w);
    return w;
}

static void ask(int fd, struct buf *b)
{
    wr_patch_i32(b, 0, (int32_t)(b->n - 4));
    put(fd, b->p, b->n);
    buf_reset(b);
}

static char answer_bytes[1 << 20];

/* The next response, behind its correlation id, which goes to *corr. False: closed. */
static bool answer(int fd, int32_t *corr, struct rd *ret, bool flex)
{
    char head[4];
    if (!get(fd, head, 4))
        return false;
    uint32_t n;
    memcpy(&n, head, 4);
    n = be32toh(n);
    NEED(n >= 4 && n <= sizeof answer_bytes);
    NEED(get(fd, answer_bytes, n));
    *ret = rd_init(answer_bytes, n, flex);
    *corr = rd_i32(ret);
    return true;
}

static bool closed(int fd)
{
    char c;
    bool end = !get(fd, &c, 1);
    close(fd);
    return end;
}

static void ask_metadata(int fd, struct buf *b, int32_t corr, const char *topic)
{
    struct wr w = begin(b, 3, 4, corr, false);
    wr_array(&w, 1);
    wr_str(&w, sl_str(topic));
    wr_i8(&w, 1);
    ask(fd, b);
}

static void ask_produce(int fd, struct buf *b, int32_t corr, int16_t version, int16_t acks,
                        const char *topic, const char *value)
{
    struct buf batch;
    struct plog_record rec = {.key = SL("k"), .value = sl_str(value)};
    buf_init(&batch, 1 << 20);
    batch_build(&batch, &rec, 1, 1000);
    struct wr w = begin(b, 0, version, corr, version >= 9);
    if (version >= 3)
        wr_nstr(&w, (struct slice){NULL, 0});
    wr_i16(&w, acks);
    wr_i32(&w, 1000);
    wr_array(&w, 1);
    wr_str(&w, sl_str(topic));
    wr_array(&w, 1);
    wr_i32(&w, 0);
    wr_bytes(&w, buf_slice(&batch));
    wr_tags(&w);
    wr_tags(&w);
    wr_tags(&w);
    ask(fd, b);
    buf_free(&batch);
}

/* Error and base offset of a Produce response with one partition. */
static int16_t produced(struct rd *r, int64_t *offset)
{
    rd_array(r);
    rd_str(r);
    rd_array(r);
    rd_i32(r);
    int16_t error = rd_i16(r);
    *offset = rd_i64(r);
    CHECK(!r->bad);
    return error;
}

static void make_topic(const char *topic)
{
    struct buf b;
    struct rd r;
    int32_t corr;
    int fd = dial();
    buf_init(&b, 1 << 16);
    ask_metadata(fd, &b, 1, topic);
    NEED(answer(fd, &corr, &r, false));
    close(fd);
    buf_free(&b);
}

TEST(versions_are_told_to_clients_of_every_age)
{
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    int fd = dial();
    buf_init(&b, 1 << 16);
    struct wr w = begin(&b, 18, 3, 7, true);
    wr_str(&w, SL("client"));
    wr_str(&w, SL("1"));
    wr_tags(&w);
    ask(fd, &b);
    NEED(answer(fd, &corr, &r, true)); /* no tagged fields in the header */
    CHECK_INT(corr, 7);
    CHECK_INT(rd_i16(&r), 0);
    size_t n;
    api_table(&n);
    CHECK_INT(rd_array(&r), n);
    begin(&b, 18, 99, 8, false);
    ask(fd, &b);
    NEED(answer(fd, &corr, &r, false));
    CHECK_INT(corr, 8);
    CHECK_INT(rd_i16(&r), KERR_UNSUPPORTED_VERSION);
    CHECK_INT(rd_array(&r), n);
    CHECK_INT(rd_left(&r), n * 6); /* the list, and nothing that version 0 has not */
    close(fd);
    buf_free(&b);
    close_all();
}

TEST(old_produce_is_answered_with_an_error_and_not_stored)
{
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    int64_t offset;
    make_topic("t");
    int fd = dial();
    buf_init(&b, 1 << 16);
    for (int16_t v = 0; v <= 2; v++) {
        ask_produce(fd, &b, v, v, 1, "t", "x");
        NEED(answer(fd, &corr, &r, false));
        CHECK_INT(corr, v);
        CHECK_INT(produced(&r, &offset), KERR_UNSUPPORTED_VERSION);
    }
    ask_produce(fd, &b, 3, 3, 1, "t", "x");
    NEED(answer(fd, &corr, &r, false));
    CHECK_INT(produced(&r, &offset), 0);
    CHECK_INT(offset, 0);
    close(fd);
    buf_free(&b);
    close_all();
}

TEST(responses_keep_the_order_of_requests)
{
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    int64_t offset;
    make_topic("t");
    int fd = dial();
    buf_init(&b, 1 << 20);
    /* More than may be parked, and each second one needs no sync. */
    for (int32_t i = 0; i < 600; i++) {
        if (i % 2)
            ask_metadata(fd, &b, i, "t");
        else
            ask_produce(fd, &b, i, (int16_t)(i % 4 ? 8 : 9), -1, "t", "value");
    }
    for (int32_t i = 0; i < 600; i++) {
        bool flex = i % 4 == 0;
        NEED(answer(fd, &corr, &r, flex));
        CHECK_INT(corr, i);
        if (i % 2)
            continue;
        rd_tags(&r);
        CHECK_INT(produced(&r, &offset), 0);
        CHECK_INT(offset, i / 2);
    }
    close(fd);
    buf_free(&b);
    close_all();
}

TEST(acks_0_gets_no_response)
{
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    make_topic("t");
    int fd = dial();
    buf_init(&b, 1 << 16);
    ask_produce(fd, &b, 1, 3, 0, "t", "x");
    ask_metadata(fd, &b, 2, "t");
    NEED(answer(fd, &corr, &r, false));
    CHECK_INT(corr, 2);
    ask_produce(fd, &b, 3, 3, 0, "no-such-topic", "x"); /* a refusal can only be told by closing */
    CHECK(closed(fd));
    buf_free(&b);
    close_all();
}

TEST(malformed_bytes_close_their_connection_only)
{
    static const struct {
        const char *p;
        size_t n;
    } bad[] = {
        {"\xff\xff\xff\xff", 4},                                    /* negative size */
        {"\x7f\xff\xff\xff\0\3\0\1\0\0\0\1", 12},                   /* larger than the limit */
        {"\0\0\0\1x", 5},                                           /* too short for a header */
        {"GET / HTTP/1.1\r\n\r\n", 18},                             /* another protocol */
        {"\x16\3\1\2\0\1\0\1\xfc\3\3", 11},                         /* TLS */
        {"\0\0\0\x0a\x7f\xff\0\0\0\0\0\1\xff\xff", 14},             /* unknown API */
        {"\0\0\0\x0a\0\3\0\x63\0\0\0\1\xff\xff", 14},               /* unknown version */
        {"\0\0\0\x0e\0\3\0\1\0\0\0\1\xff\xff\x7f\xff\xff\xff", 18}, /* an array that is not there */
        {"\0\0\0\x0c\0\3\0\1\0\0\0\1\x7f\xff\0\0", 16},             /* a string that is not there */
        {"\0\0\0\x0a\0\1\0\x0b\0\0\0\1\xff\xff", 14},               /* a body that is not there */
        {"\0\0\0\x10\0\x12\0\3\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff", 20}, /* endless varint */
    };
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    int good = dial();
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int fd = dial();
        put(fd, bad[i].p, bad[i].n);
        if (!closed(fd))
            fprintf(stderr, "case %zu was not closed\n", i);
        ask_metadata(good, &b, (int32_t)i, "t");
        NEED(answer(good, &corr, &r, false));
        CHECK_INT(corr, i);
    }
    close(good);
    buf_free(&b);
    close_all();
}

/* Valid requests with bytes changed: any answer or a closed connection, and the broker lives. */
/* Ten bytes less than a request of this size; the broker keeps them and waits for the rest. */
static int send_most(uint32_t size)
{
    static char zeros[1 << 20];
    int fd = dial();
    uint32_t be = htobe32(size);
    put(fd, &be, 4);
    put(fd, zeros, size - 10);
    return fd;
}

static bool closed_within(int fd, int ms)
{
    struct pollfd f = {.fd = fd, .events = POLLIN};
    char c;
    return poll(&f, 1, ms) == 1 && recv(fd, &c, 1, 0) <= 0;
}

TEST(requests_in_memory_are_bounded_over_all_connections)
{
    open_with((struct broker_opts){.max_input_bytes = 5 << 19, .max_request_bytes = 1 << 20});
    struct pollfd v[3];
    struct buf b;
    struct rd r;
    int32_t corr;
    int good = dial();
    buf_init(&b, 1 << 16);
    for (int i = 0; i < 3; i++)
        v[i] = (struct pollfd){.fd = send_most(900000), .events = POLLIN};
    NEED(poll(v, 3, WAIT_MS) == 1); /* one passes the bound, whichever is read last */
    int gone = v[0].revents ? 0 : v[1].revents ? 1 : 2;
    CHECK(closed_within(v[gone].fd, 0));
    close(v[gone].fd);
    close(v[(gone + 1) % 3].fd);
    /* There is room again as soon as the broker has seen that end. */
    int64_t until = clock_boot_ms() + WAIT_MS;
    v[gone].fd = send_most(900000);
    while (closed_within(v[gone].fd, 2000) && clock_boot_ms() < until) {
        close(v[gone].fd);
        v[gone].fd = send_most(900000);
    }
    CHECK(!closed_within(v[gone].fd, 0));
    CHECK(!closed_within(v[(gone + 2) % 3].fd, 0));
    ask_metadata(good, &b, 1, "t"); /* those who ask for little never suffered */
    CHECK(answer(good, &corr, &r, false));
    int e = dial();
    uint32_t size = htobe32((1 << 20) + 1);
    put(e, &size, 4);
    put(e, "12345678", 8);
    CHECK(closed_within(e, WAIT_MS)); /* larger than a request may be */
    close(v[gone].fd);
    close(v[(gone + 2) % 3].fd);
    close(e);
    close(good);
    buf_free(&b);
    close_all();
}

TEST(changed_bytes_do_no_harm)
{
    open_all();
    struct buf b, batch;
    uint64_t x = 1;
    make_topic("t");
    buf_init(&b, 1 << 16);
    buf_init(&batch, 1 << 16);
    size_t napis;
    const struct api *apis = api_table(&napis);
    for (int round = 0; round < 1500; round++) {
        int fd = dial();
        const struct api *a = &apis[(size_t)round % napis];
        ask_produce(fd, &b, 1, 9, -1, "t", "value");
        struct wr w = begin(&b, a->key, a->max, 2, a->max >= a->flex_from);
        for (int i = 0; i < 40; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            wr_i8(&w, (int8_t)((x >> 33) % 3 ? (x >> 40) % 3 : x >> 48));
        }
        ask(fd, &b);
        struct linger now = {1, 0}; /* also: clients that vanish with requests parked */
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
    }
    struct rd r;
    int32_t corr;
    int fd = dial();
    ask_metadata(fd, &b, 5, "t");
    NEED(answer(fd, &corr, &r, false));
    CHECK_INT(corr, 5);
    close(fd);
    buf_free(&b);
    buf_free(&batch);
    close_all();
}

TEST(a_client_that_reads_nothing_is_not_read_from)
{
    open_all();
    struct buf b;
    struct rd r;
    int32_t corr;
    make_topic("t");
    int greedy = dial(), fd = dial();
    buf_init(&b, 1 << 16);
    /* Requests without reading a response, until the broker takes no more: when the buffers of both
     * kernels are full too, which are of some ten megabytes each way. */
    bool stuck = false;
    for (int i = 0; i < 10000000 && !stuck; i++) {
        struct pollfd f = {.fd = greedy, .events = POLLOUT};
        stuck = poll(&f, 1, 1000) == 0;
        if (!stuck) {
            struct wr w = begin(&b, 3, 4, i, false);
            wr_array(&w, -1);
            wr_i8(&w, 1);
            wr_patch_i32(&b, 0, (int32_t)(b.n - 4));
            stuck = send(greedy, b.p, b.n, MSG_DONTWAIT | MSG_NOSIGNAL) < (ssize_t)b.n;
            buf_reset(&b);
        }
    }
    CHECK(stuck);
    ask_metadata(fd, &b, 1, "t");
    NEED(answer(fd, &corr, &r, false));
    CHECK_INT(corr, 1);
    /* It goes on as soon as it reads. */
    for (int32_t i = 0; i < 5000; i++) {
        NEED(answer(greedy, &corr, &r, false));
        CHECK_INT(corr, i);
    }
    close(greedy);
    close(fd);
    buf_free(&b);
    close_all();
}

static void ask_commit(int fd, struct buf *b, const char *group, const char *topic, int64_t offset,
                       const char *metadata)
{
    struct wr w = begin(b, 8, 2, 1, false);
    wr_str(&w, sl_str(group));
    wr_i32(&w, -1);
    wr_str(&w, SL(""));
    wr_i64(&w, -1);
    wr_array(&w, 1);
    wr_str(&w, sl_str(topic));
    wr_array(&w, 1);
    wr_i32(&w, 0);
    wr_i64(&w, offset);
    wr_nstr(&w, sl_str(metadata));
    ask(fd, b);
}

static int16_t commit(const char *group, const char *topic, int64_t offset, const char *metadata)
{
    struct buf b;
    struct rd r;
    int32_t corr;
    int fd = dial();
    buf_init(&b, 1 << 16);
    ask_commit(fd, &b, group, topic, offset, metadata);
    NEED(answer(fd, &corr, &r, false));
    rd_array(&r);
    rd_str(&r);
    rd_array(&r);
    rd_i32(&r);
    int16_t error = rd_i16(&r);
    CHECK(!r.bad);
    close(fd);
    buf_free(&b);
    return error;
}

static int64_t committed(const char *group, const char *topic, char metadata[static 8192])
{
    struct buf b;
    struct rd r;
    int32_t corr;
    int fd = dial();
    buf_init(&b, 1 << 16);
    struct wr w = begin(&b, 9, 1, 1, false);
    wr_str(&w, sl_str(group));
    wr_array(&w, 1);
    wr_str(&w, sl_str(topic));
    wr_array(&w, 1);
    wr_i32(&w, 0);
    ask(fd, &b);
    NEED(answer(fd, &corr, &r, false));
    rd_array(&r);
    rd_str(&r);
    rd_array(&r);
    rd_i32(&r);
    int64_t offset = rd_i64(&r);
    struct slice m = rd_nstr(&r);
    CHECK_INT(rd_i16(&r), 0);
    CHECK(!r.bad);
    snprintf(metadata, 8192, "%.*s", (int)m.n, m.p ? m.p : "");
    close(fd);
    buf_free(&b);
    return offset;
}

static void delete_topic(const char *topic)
{
    struct buf b;
    struct rd r;
    int32_t corr;
    int fd = dial();
    buf_init(&b, 1 << 16);
    struct wr w = begin(&b, 20, 1, 1, false);
    wr_array(&w, 1);
    wr_str(&w, sl_str(topic));
    wr_i32(&w, 1000);
    ask(fd, &b);
    NEED(answer(fd, &corr, &r, false));
    rd_i32(&r);
    rd_array(&r);
    rd_str(&r);
    CHECK_INT(rd_i16(&r), 0);
    close(fd);
    buf_free(&b);
}

TEST(commits_outlive_a_restart_and_end_with_their_topic)
{
    open_all();
    char meta[8192], long_meta[4200];
    memset(long_meta, 'm', sizeof long_meta);
    make_topic("t");
    make_topic("u");
    long_meta[4096] = 0;
    CHECK_INT(commit("g", "t", 41, "first"), 0);
    CHECK_INT(commit("g", "t", 42, long_meta), 0);
    CHECK_INT(commit("g", "u", 7, "other"), 0);
    CHECK_INT(commit("g", "no-such", 1, ""), KERR_UNKNOWN_TOPIC_OR_PARTITION);
    long_meta[4096] = 'm';
    long_meta[4097] = 0;
    CHECK_INT(commit("g", "t", 43, long_meta), KERR_OFFSET_METADATA_TOO_LARGE);
    long_meta[4096] = 0;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(committed("g", "t", meta), 42);
        CHECK_STR(meta, long_meta);
        CHECK_INT(committed("g", "u", meta), 7);
        broker = broker_stop(broker);
        start();
    }
    delete_topic("t");
    make_topic("t");
    CHECK_INT(committed("g", "t", meta), -1);
    broker = broker_stop(broker);
    start();
    CHECK_INT(committed("g", "t", meta), -1);
    CHECK_INT(committed("g", "u", meta), 7);
    CHECK_INT(committed("nobody", "u", meta), -1);
    close_all();
}

TEST(a_busy_port_and_a_locked_folder_are_refused_with_a_hint)
{
    open_all();
    struct err e = {0};
    struct broker_opts o = {.data_dir = dir, .host = "127.0.0.1"};
    CHECK(broker_start(&o, &e) == NULL);
    CHECK(e.msg[0] && e.hint[0]);
    char other[64];
    unit_folder(other, sizeof other);
    o.data_dir = other;
    o.port = broker_port(broker);
    err_clear(&e);
    CHECK(broker_start(&o, &e) == NULL);
    CHECK_INT(e.code, -EADDRINUSE);
    CHECK(strstr(e.hint, "port") != NULL);
    nftw(other, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    close_all();
}
