/* GET /metrics: Prometheus text format 0.0.4, from one table; the values are read when asked for.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metric.h"
#include "gateway/api_int.h"
#include "gateway/tail.h"
#include "view/view.h"

enum {
    M_STARTED,
    M_ENDED,
    M_FAULTED,
    M_EFFECTS,
    M_ACTIVE,
    M_BACKLOG,
    M_ASSIGNED,
    M_OWNED,
    M_LOG_UP,
    M_INFLIGHT,
    M_REQUESTS,
    M_REFUSED,
    M_CONNECTIONS,
    M_STREAMS,
    M_WAITING,
    M_FOLLOWED,
    M_VIEW_LAG,
    M_CPU_MS,
    M_MEMORY,
    M_COUNT
};
static const struct {
    const char *name, *help;
    enum metric_kind kind;
} table[M_COUNT] = {
    [M_STARTED] = {"tidemark_runs_started_total", "runs begun by this node", METRIC_COUNTER},
    [M_ENDED] = {"tidemark_runs_ended_total", "runs ended on this node", METRIC_COUNTER},
    [M_FAULTED] = {"tidemark_runs_faulted_total", "runs faulted on this node", METRIC_COUNTER},
    [M_EFFECTS] = {"tidemark_effects_total", "calls and processes begun", METRIC_COUNTER},
    [M_ACTIVE] = {"tidemark_runs_active", "runs under way", METRIC_GAUGE},
    [M_BACKLOG] = {"tidemark_runs_backlog", "runs and requests with something to do", METRIC_GAUGE},
    [M_ASSIGNED] = {"tidemark_partitions_assigned", "journal partitions assigned", METRIC_GAUGE},
    [M_OWNED] = {"tidemark_partitions_owned", "journal partitions owned", METRIC_GAUGE},
    [M_LOG_UP] = {"tidemark_log_up", "1: the log can be reached", METRIC_GAUGE},
    [M_INFLIGHT] = {"tidemark_records_unacknowledged",
                    "records of the gateway and the router under way", METRIC_GAUGE},
    [M_REQUESTS] = {"tidemark_http_requests_total", "requests", METRIC_COUNTER},
    [M_REFUSED] = {"tidemark_http_refused_total", "requests and connections refused by a limit",
                   METRIC_COUNTER},
    [M_CONNECTIONS] = {"tidemark_http_connections", "connections, streams among them",
                       METRIC_GAUGE},
    [M_STREAMS] = {"tidemark_http_streams", "connections of streams", METRIC_GAUGE},
    [M_WAITING] = {"tidemark_http_waiting", "requests not answered yet", METRIC_GAUGE},
    [M_FOLLOWED] = {"tidemark_tail_partitions", "journal partitions followed for streams and waits",
                    METRIC_GAUGE},
    [M_VIEW_LAG] = {"tidemark_view_lag_records", "records that the read model has to read yet",
                    METRIC_GAUGE},
    [M_CPU_MS] = {"tidemark_cpu_milliseconds_total", "processor time of this process",
                  METRIC_COUNTER},
    [M_MEMORY] = {"tidemark_memory_max_bytes", "largest resident memory of this process",
                  METRIC_GAUGE},
};

static void of_node(const struct node *n, struct metric *v)
{
    struct node_stats st;
    node_stats(n, &st);
    metric_set(&v[M_STARTED], st.runs_started);
    metric_set(&v[M_ENDED], st.runs_ended);
    metric_set(&v[M_FAULTED], st.runs_faulted);
    metric_set(&v[M_EFFECTS], st.effects);
    metric_set(&v[M_ACTIVE], (int64_t)st.active);
    metric_set(&v[M_BACKLOG], (int64_t)st.backlog);
    metric_set(&v[M_ASSIGNED], st.assigned);
    metric_set(&v[M_OWNED], st.owned);
    metric_set(&v[M_LOG_UP], klog_up(node_klog(n)));
    metric_set(&v[M_INFLIGHT], (int64_t)kprod_inflight(node_producer(n)));
}

static void of_gateway(struct gateway *g, struct metric *v)
{
    struct http_stats h;
    struct tail_stats t;
    struct view_progress p = {0};
    struct rusage u;
    http_stats(g->http, &h);
    tail_stats(g->tail, &t);
    metric_set(&v[M_REQUESTS], h.requests);
    metric_set(&v[M_REFUSED], h.refused);
    metric_set(&v[M_CONNECTIONS], (int64_t)h.connections);
    metric_set(&v[M_STREAMS], (int64_t)h.streams);
    metric_set(&v[M_WAITING], (int64_t)h.waiting);
    metric_set(&v[M_FOLLOWED], (int64_t)t.partitions);
    if (g->o.view)
        view_progress(g->o.view, &p);
    metric_set(&v[M_VIEW_LAG], p.total - p.done);
    getrusage(RUSAGE_SELF, &u);
    metric_set(&v[M_CPU_MS], (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
                                 (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000);
    metric_set(&v[M_MEMORY], u.ru_maxrss * 1024);
}

static void get_metrics(struct call *c)
{
    static const struct http_field fields[] = {{"Content-Type", "text/plain; version=0.0.4"},
                                               {NULL, NULL}};
    struct metric v[M_COUNT];
    struct buf b;
    for (int i = 0; i < M_COUNT; i++)
        v[i] = (struct metric){.name = table[i].name, .help = table[i].help, .kind = table[i].kind};
    if (c->g->n)
        of_node(c->g->n, v);
    of_gateway(c->g, v);
    buf_init(&b, 1 << 20);
    if (metrics_write(v, M_COUNT, &b))
        api_later(c, 503, "try again", "no memory for the metrics");
    else
        http_answer(c->r, 200, fields, buf_slice(&b));
    buf_free(&b);
}

static const struct answer metrics_answers[] = {{200, "Prometheus text format 0.0.4",
                                                 "{\"type\":\"string\"}", "text/plain"},
                                                {0}};

const struct route routes_metrics[] = {
    {.method = "GET",
     .path = "/metrics",
     .scope = SCOPE_READ,
     .fn = get_metrics,
     .id = "metrics",
     .tag = "node",
     .summary = "Counters and gauges of this node",
     .answers = metrics_answers},
    {.method = NULL},
};
