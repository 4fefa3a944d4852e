"""One run read from a partition in which much else happened meanwhile: what the read model says of its place is enough, and
what is found there is what a reading of the whole partition finds."""
import threading

import pytest
import tm
from group import agent, post
from http_api import ready
from ledger import Ledger
from test_gateway_stream import Sse

NOISE, STEPS = 1500, 4
NOBODY = "00000000000000ab"


def void(run, offset=0):
    """A fact by somebody who never owned the partition."""
    return {"key": f"{run}/!completed@{NOBODY}", "value": '{"output":{"not":"this"}}', "partition": 0,
            "headers": [("tm-v", "1"), ("tm-type", "run.completed"), ("tm-epoch", str(offset)), ("tm-nonce", NOBODY)]}


@pytest.fixture
def ledger():
    with Ledger() as world:
        yield world


@pytest.fixture
def nodes(group, broker, ledger):
    """a has the read model of all, n has none and reads everything."""
    g = group(broker.bootstrap, partitions=2, session="6s")
    g.apply(agent("probe", [{"x": {"set": {"x": 1}}}]),
            agent("steps", [{f"s{i}": post(ledger.url(f"/s{i}"), {"i": i})} for i in range(STEPS)]))
    made = {}
    for name, view in (("a", "all"), ("n", "none")):
        g.config["view"] = view
        made[name] = g.serve(name, node_id=f"{g.name}-{name}").start()
    yield g, made, {name: ready(n) for name, n in made.items()}
    for n in made.values():
        n.stop()


def get(http, path):
    answer = http.get(path)
    assert answer.status == 200, (path, answer.status, answer.body)
    return answer.json


def history(http, run, limit):
    records, path = [], f"/v1/runs/{run}/history?limit={limit}"
    while path:
        answer = get(http, path)
        records += answer["records"]
        path = answer["next"]
    return records


def stream(http, run, last_id=None):
    sse = Sse(http.address, f"/v1/runs/{run}/stream", last_id)
    assert sse.status == 200
    return list(sse.events())


@pytest.fixture
def lying_apart(nodes, ledger):
    """A run that went from step to step, with much written between two of them, and its partition changing hands once."""
    g, made, https = nodes
    gates = [threading.Event() for _ in range(STEPS)]
    for i, gate in enumerate(gates):
        ledger.on(f"/s{i}", hang=gate)
    key = next(k for k in range(1000) if https["a"].start("t/probe", query=f"?key={k}")["id"].startswith("0000"))
    run = https["a"].start("t/steps", query=f"?key={key}")["id"]
    for i, gate in enumerate(gates):
        tm.wait_until(lambda i=i: ledger.entries(f"/s{i}"), what=f"step {i} to be asked for")
        tm.produce(g.bootstrap, f"tidemark.{g.name}.runs", [void("0000" + "z" * 26)] * NOISE + [void(run)])
        if i == 1:
            for name, node in made.items():
                node.stop()
                node.start()
                https[name] = ready(node)
        gate.set()
    tm.wait_until(lambda: get(https["n"], f"/v1/runs/{run}")["status"] == "completed", what="the run to end")
    last = tm.produce(g.bootstrap, f"tidemark.{g.name}.runs", [void("0000" + "z" * 26)] * NOISE)[-1][1]
    tm.wait_until(lambda: get(https["a"], f"/v1/runs/{run}/place")["next"]["from"] > last, what="the read model to have it all")
    return g, made, https, run, last


def test_a_run_that_lies_apart_is_read_where_it_lies_and_is_the_same(lying_apart):
    g, made, https, run, last = lying_apart
    a, n = https["a"], https["n"]
    place = get(a, f"/v1/runs/{run}/place")
    to_read = sum(s["to"] - s["from"] for s in place["spans"])
    assert len(place["spans"]) > STEPS and to_read < 200 < STEPS * NOISE < place["next"]["from"]
    assert len({s["epoch"] for s in place["spans"]}) > 1, "its partition has changed hands"
    assert get(a, f"/v1/runs/{run}") == get(n, f"/v1/runs/{run}")
    whole = history(n, run, 1000)
    assert sum(r["void"] for r in whole) == STEPS and len({r["epoch"] for r in whole if not r["void"]}) > 2
    for limit in (1000, 3, 1):
        assert history(a, run, limit) == whole
    events = stream(n, run)
    assert [e.data["offset"] for e in events] == [r["offset"] for r in whole if not r["void"]]
    assert stream(a, run) == events
    for i, e in enumerate(events[:-1]):
        assert stream(a, run, e.id) == events[i + 1:]
    nobody = run[:-4] + ("0000" if run[-4:] != "0000" else "1111")
    place = get(https["a"], f"/v1/runs/{nobody}/place")
    assert place["spans"] == [] and place["next"]["from"] > last
    for h in https.values():
        assert h.get(f"/v1/runs/{nobody}").problem(404) and h.get(f"/v1/runs/{nobody}/stream").problem(404)


def test_a_place_that_is_not_of_this_log_any_more_is_not_used(lying_apart):
    """The log is cut in the middle of the run, at which its request is gone; what is left is the same for both, and for a
    read model that is made anew then."""
    g, made, https, run, last = lying_apart
    spans = get(https["a"], f"/v1/runs/{run}/place")["spans"]
    for low in (spans[1]["from"] + 1, spans[2]["from"] - 1, spans[-1]["to"]):
        tm.delete_records(g.bootstrap, f"tidemark.{g.name}.runs", {0: low})
        left = [h.get(f"/v1/runs/{run}/history?limit=1000") for h in https.values()]
        assert left[0].status == left[1].status == (404 if low == spans[-1]["to"] else 200), [x.body for x in left]
        assert left[0].body == left[1].body or left[0].status == 404
        (g.tmp / "data-a" / "view" / f"{g.name}.db").unlink()

        def made_anew():
            place = https["a"].get(f"/v1/runs/{run}/place")
            return place.status == 200 and place.json["next"]["from"] > last and \
                (not place.json["spans"] or place.json["spans"][0]["from"] >= low)

        tm.wait_until(made_anew, what="the read model to be made anew")
        anew = https["a"].get(f"/v1/runs/{run}/history?limit=1000")
        assert anew.status == left[1].status and (anew.body == left[1].body or anew.status == 404)
