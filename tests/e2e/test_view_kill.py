"""SIGKILL between the lines of the read model's transactions: whatever was half written, the next process goes on where the
last transaction ended, and its rows are those of a read model that is made from the journal in one go."""
import signal
import sqlite3

import tm
from group import agent
from http_api import ready

POINTS = [f"view.{where}:{n}" for where in ("rows", "places", "commit", "committed") for n in (1, 3)]
TABLES = ("SELECT id, agent, version, status, key, feed, partition, first, last, requested, started, ended, priority, fork_of,"
          " error, words, spans FROM runs ORDER BY id",
          "SELECT agent, status, partition, n FROM counts WHERE n <> 0 ORDER BY 1, 2, 3")


def tables(data, group):
    with sqlite3.connect(f"file:{data}/view/{group}.db?mode=ro", uri=True) as db:
        return [db.execute(sql).fetchall() for sql in TABLES]


def test_a_kill_within_a_transaction_of_the_read_model_leaves_no_trace(group, embedded_log):
    g = group(embedded_log.bootstrap, session="6s")
    # Long enough for several transactions after a restart.
    g.apply(agent("echo", [{f"nap{i}": {"wait": {"milliseconds": 300}}} for i in range(5)] + [{"a": {"set": {"n": "${ .n }"}}}]),
            agent("fail", [{"no": {"raise": {"error": {"type": "https://example.org/no", "status": 500, "title": "no"}}}}]))
    node, fired, ids = g.serve("a", node_id=f"{g.name}-a"), g.tmp / "failpoints", set()
    for i, point in enumerate(POINTS):
        node.start()
        http = ready(node)
        ids |= {http.start(f"t/{('echo', 'fail')[k % 2]}", {"n": k}, f"?key=k{k}")["id"] for k in range(20)}
        node.kill9()
        ready_re, node.ready_re = node.ready_re, tm.re.compile("")
        node.start(env={"TIDEMARK_FAILPOINT": point, "TIDEMARK_FAILPOINT_LOG": str(fired)})
        node.ready_re = ready_re
        assert node.wait_exit(40) == -signal.SIGKILL, node.tail()
        assert fired.read_text().splitlines()[i].split()[1] == point.split(":")[0]
    node.start()
    http = ready(node)

    def all_ended():
        answer = http.get("/v1/runs?limit=500").json
        return answer["complete"] and {r["id"] for r in answer["runs"] if r["endedAt"]} == ids

    tm.wait_until(all_ended, 60, "all runs to have ended")
    node.stop()
    g.cli("view", "rebuild", "--data", g.tmp / "anew", status=0)
    killed, anew = tables(g.tmp / "data-a", g.name), tables(g.tmp / "anew", g.name)
    assert len(anew[0]) == len(ids) == 20 * len(POINTS)
    assert killed == anew
