"""Lists and counts of runs over several nodes: each keeps the runs of its own partitions (`view: owned`), or none, and
answers for all of them."""
import json
import re
import threading

import pytest
import tm
from group import agent
from http_api import Http, ready
from test_gateway_net import curl, make_cert

ECHO = agent("echo", [{"a": {"set": {"n": "${ .n }"}}}])
FAIL = agent("fail", [{"no": {"raise": {"error": {"type": "https://example.org/no", "status": 500, "title": "no"}}}}])
NAP = agent("nap", [{"nap": {"wait": {"hours": 1}}}])
PARTITIONS, RUNS = 6, 40


class Nodes:
    """A group and its nodes by name, each with its own `view`."""

    def __init__(self, group, bootstrap, **more):
        self.g = group(bootstrap, partitions=PARTITIONS, session="6s", **more)
        self.g.apply(ECHO, FAIL, NAP)
        self.nodes, self.http = {}, {}

    def add(self, name, view, **config):
        before = self.g.config
        self.g.config = {**before, "view": view, **config}
        try:
            node = self.g.serve(name, node_id=f"{self.g.name}-{name}").start()
        finally:
            self.g.config = before
        self.nodes[name], self.http[name] = node, ready(node)
        return self.http[name]

    def runs(self, count=RUNS, via=None):
        """Starts runs of three agents; their ids."""
        http, ids = via or next(iter(self.http.values())), set()
        for i in range(count):
            name = ("echo", "fail", "nap")[i % 3] if i % 10 else "nap"
            ids.add(http.start(f"t/{name}", {"n": i}, f"?key=k{i}")["id"])
        return ids

    def wait_alike(self, name, ids, timeout_s=60):
        """Until the node's list is complete and has these runs."""
        last = []

        def alike():
            last[:] = [pages(self.http[name], 500)]
            answers, runs = last[0]
            return all(a["complete"] and not a["missing"] for a in answers) and {r["id"] for r in runs} == set(ids)

        try:
            tm.wait_until(alike, timeout_s, f"node {name} to list all runs", every_s=0.2)
        except AssertionError as e:
            answers, runs = last[0]
            raise AssertionError(f"{e}: {len(runs)} of {len(ids)} runs, " + str(
                [(a['complete'], a['missing']) for a in answers])) from None
        return last[0][1]

    def kept(self, name):
        """The runs that the node itself keeps, and of which partitions it keeps none."""
        answer = get(self.http[name], f"/v1/runs?limit=500&partitions=0-{PARTITIONS - 1}")
        return answer["runs"], set(answer["missing"])

    def wait_spread(self):
        """Until each node keeps some partitions, and each partition is kept once."""
        def spread():
            missing = [self.kept(n)[1] for n in self.nodes]
            return all(len(m) < PARTITIONS for m in missing) and \
                sum(PARTITIONS - len(m) for m in missing) == PARTITIONS

        tm.wait_until(spread, 60, "each node to keep its share")

    def stop(self):
        for node in self.nodes.values():
            node.stop()


def get(http, path):
    last = []

    def answered():
        """503 while partitions go from one node to another."""
        last[:] = [http.get(path)]
        return last[0].status != 503

    tm.wait_until(answered, what=f"an answer to {path}")
    a = last[0]
    assert a.status == 200, (path, a.status, a.body)
    return a.json


def pages(http, limit, where=""):
    """All pages of a list, and the runs in them."""
    answers, runs, cursor = [], [], ""
    while True:
        a = get(http, f"/v1/runs?limit={limit}{where}{cursor}")
        assert len(a["runs"]) <= limit
        answers.append(a)
        runs += a["runs"]
        if not a["next"]:
            return answers, runs
        cursor = f"&cursor={a['next']}"


def in_order(runs):
    places = [(r["requestedAt"], r["id"]) for r in runs]
    return places == sorted(places, reverse=True) and len({p[1] for p in places}) == len(places)


@pytest.fixture
def nodes(group, broker):
    n = Nodes(group, broker.bootstrap)
    yield n
    n.stop()


def test_each_node_lists_the_runs_of_all(nodes):
    for name in "abc":
        nodes.add(name, "owned")
    ids = nodes.runs()
    nodes.g.wait_ended(24)
    nodes.wait_spread()
    first = nodes.wait_alike("a", ids)
    assert in_order(first) and {r["partition"] for r in first} == set(range(PARTITIONS))
    kept = [nodes.kept(n) for n in "abc"]
    assert sorted(r["id"] for runs, _ in kept for r in runs) == sorted(ids), "each run is kept by one node"
    assert all({r["partition"] for r in runs}.isdisjoint(missing) for runs, missing in kept)
    for name in "abc":
        http = nodes.http[name]
        nodes.wait_alike(name, ids)
        for limit in (1, 7, 40, 41):
            assert pages(http, limit)[1] == first, (name, limit)
        for where in ("&agent=t/echo", "&status=faulted", "&key=k7", "&text=no", "&status=running,completed&agent=t/nap"):
            assert pages(http, 3, where)[1] == [r for r in pages(nodes.http["a"], 500, where)[1]], where
        assert {r["agent"] for r in pages(http, 5, "&agent=t/fail")[1]} == {"t/fail"}
        counts = get(http, "/v1/counts")
        assert counts["complete"] and sum(counts["statuses"].values()) == RUNS and counts["missing"] == []
        assert counts["agents"]["t/fail"] == {"faulted": sum(r["agent"] == "t/fail" for r in first)}
        assert get(http, "/v1/counts?agent=t/echo")["statuses"] == counts["agents"]["t/echo"]
    assert nodes.http["b"].get("/v1/runs?cursor=never").problem(400)
    assert nodes.http["b"].get("/v1/runs?partitions=0-99").problem(400)
    assert nodes.http["b"].get("/v1/runs?partitions=x").problem(400)


def test_what_a_killed_node_kept_is_missing_until_another_has_it(nodes):
    for name in "ab":
        nodes.add(name, "owned")
    ids = nodes.runs()
    nodes.wait_spread()
    nodes.wait_alike("a", ids)
    held = set(range(PARTITIONS)) - nodes.kept("b")[1]
    nodes.nodes["b"].kill9()
    answers, runs = pages(nodes.http["a"], 500)
    assert not answers[0]["complete"] and held <= set(answers[0]["missing"])
    assert {r["partition"] for r in runs}.isdisjoint(answers[0]["missing"])
    counts = get(nodes.http["a"], "/v1/counts")
    assert not counts["complete"] and counts["missing"]
    nodes.wait_alike("a", ids)
    nodes.nodes["b"].start(60)
    nodes.http["b"] = ready(nodes.nodes["b"])
    nodes.wait_alike("b", ids)
    more = nodes.runs(12, nodes.http["b"])
    for name in "ab":
        nodes.wait_alike(name, ids | more)


def test_a_node_without_a_read_model_asks_those_that_have_one(nodes):
    none = nodes.add("n", "none")
    ids = nodes.runs(12)
    assert "no node of the group" in none.get("/v1/runs").problem(501)["detail"]
    assert none.get("/v1/counts").problem(501)
    nodes.add("o", "owned")
    tm.wait_until(lambda: none.get("/v1/runs").status == 200, 30, "the second node to be found")
    def half():
        """What the first node works on is kept by nobody, the rest by the second."""
        some = get(none, "/v1/runs?limit=500")
        assert not some["complete"] and some["missing"]
        return {r["id"] for r in some["runs"]} == {i for i in ids if int(i[:4], 16) not in some["missing"]}

    tm.wait_until(half, 30, "the second node to have read its partitions")
    nodes.add("a", "all")
    nodes.wait_alike("n", ids)
    nodes.wait_alike("o", ids)
    assert none.get("/v1/runs?partitions=0").problem(501)
    for run in list(ids)[:6]:
        place = get(nodes.http["a"], f"/v1/runs/{run}/place")
        assert (place["partition"], place["spans"][0]["from"]) == (int(run[:4], 16), get(none, f"/v1/runs/{run}")["offset"])
        same = [get(h, f"/v1/runs/{run}/history?limit=500")["records"] for h in nodes.http.values()]
        assert same[0] == same[1] == same[2] and same[0][0]["type"] == "run.requested"
    assert none.get(f"/v1/runs/{run}/place").problem(501)
    assert get(nodes.http["a"], f"/v1/runs/{run[:-3]}000/place")["spans"] == []
    nodes.nodes["a"].kill9()
    tm.wait_until(lambda: none.get("/v1/runs").status == 200, what="the node that is left to have partitions again")
    assert get(none, "/v1/runs")["complete"] is False, "what the first node works on is kept by nobody"
    nodes.nodes["o"].kill9()
    assert none.get("/v1/runs").problem(503)


def test_pages_are_stable_while_runs_begin_and_nodes_come(nodes):
    nodes.add("a", "owned")
    ids, stop, started = nodes.runs(), threading.Event(), set()
    nodes.wait_alike("a", ids)

    def writer():
        http = Http(nodes.nodes["a"])
        while not stop.wait(0.01):
            started.add(http.start("t/echo", {"n": 0})["id"])
    t = threading.Thread(target=writer)
    t.start()
    try:
        first = get(nodes.http["a"], "/v1/runs?limit=2")
        nodes.add("b", "owned")
        tm.wait_until(lambda: get(nodes.http["b"], "/v1/runs")["complete"], 30, "both to have what they own")
        seen, cursor = [], first["next"]
        while cursor:
            page = get(nodes.http["ab"[len(seen) % 2]], f"/v1/runs?limit=3&cursor={cursor}")
            tm.wait_until(lambda c=cursor: get(nodes.http["a"], f"/v1/runs?limit=3&cursor={c}")["missing"] == [])
            seen += page["runs"]
            cursor = page["next"]
    finally:
        stop.set()
        t.join()
    both = first["runs"] + seen
    assert in_order(both) and ids <= {r["id"] for r in both}
    nodes.wait_alike("b", ids | started)


def test_others_are_asked_with_the_key_of_who_asks(nodes):
    for name in "ab":
        nodes.add(name, "owned")
    ids = nodes.runs(12)
    nodes.wait_spread()
    nodes.wait_alike("a", ids)
    token = nodes.g.json("keys", "create", "reader", "--scope", "read")["token"]
    for name in "ab":
        tm.wait_until(lambda h=nodes.http[name]: h.get("/v1/runs").status == 401, what="keys to count")
        http = Http(nodes.nodes[name], token=token)
        assert {r["id"] for r in get(http, "/v1/runs?limit=500")["runs"]} == ids
        assert get(http, "/v1/counts")["complete"]


def https(node, cert, path):
    address = re.findall(r"^http  (https://\S+)", node.out_path.read_text(), re.M)[-1]
    status, body = curl("--cacert", cert, address + path)
    return status, json.loads(body) if body else None


def test_over_tls_others_are_checked_against_the_authorities_of_the_configuration(nodes, tmp):
    cert, key = make_cert(tmp, "nodes")
    tls = {"cert": str(cert), "key": str(key)}
    for name, more in (("knows", {"ca": str(cert)}), ("other", {})):
        before = nodes.g.config
        nodes.g.config = {**before, "view": "owned", "http": {"listen": "127.0.0.1:0", "tls": {**tls, **more}}}
        nodes.nodes[name] = nodes.g.serve(name, node_id=f"{nodes.g.name}-{name}").start()
        nodes.g.config = before
    knows, other = nodes.nodes["knows"], nodes.nodes["other"]
    own = f"/v1/runs?partitions=0-{PARTITIONS - 1}"
    tm.wait_until(lambda: 0 < len(https(other, cert, own)[1]["missing"]) < PARTITIONS, 60, "both to keep their share")
    tm.wait_until(lambda: https(knows, cert, "/v1/runs")[1].get("complete"), 30, "both to be found")
    status, answer = https(other, cert, "/v1/runs")
    assert status == 200 and not answer["complete"] and answer["missing"], "the other's authority is not the system's"
    assert "another node did not answer" in other.err_path.read_text()


def test_a_node_that_hangs_or_talks_nonsense_delays_a_list_and_no_more(nodes, ledger):
    http = nodes.add("a", "owned")
    ids = nodes.runs(12)
    nodes.wait_alike("a", ids)
    nodes.add("b", "owned")
    nodes.wait_spread()
    nodes.wait_alike("a", ids)
    g = nodes.g
    ledger.on("/x/v1/runs", hang=True, times=1)
    for i, (body, status) in enumerate(((None, 0), ("nonsense", 200), ({"runs": 7, "missing": "x"}, 200), ([], 200),
                                        ("x", 500), ({"runs": [{"id": 3}, None]}, 200))):
        if status:
            ledger.on(f"/x{i}/v1/runs", body=body, status=status)
        say = {"name": f"{g.name}-b", "view": "owned", "url": ledger.url(f"/x{i}" if status else "/x"),
               "time": "2999-01-01T00:00:00Z"}
        tm.produce(g.bootstrap, f"tidemark.{g.name}.marks", [(f"node/{g.name}-b", json.dumps(say).encode())])
        nodes.nodes["a"].stop()
        nodes.nodes["a"].start(60)
        http = nodes.http["a"] = ready(nodes.nodes["a"])
        path = f"/x{i}/v1/runs" if status else "/x/v1/runs"
        tm.wait_until(lambda h=http, p=path: get(h, "/v1/runs") and ledger.entries(p), 60, f"{path} to be asked", every_s=0.3)
        tm.wait_until(lambda: len(nodes.kept("a")[1]) == PARTITIONS // 2, what="the restarted node to keep its share")
        fresh = nodes.runs(12, http)
        ids |= fresh
        other = next(r for r in fresh if int(r[:4], 16) in nodes.kept("a")[1])
        ledger.on(f"/x{i}/v1/runs/{other}/place", body=body, status=status or 200)
        assert get(http, f"/v1/runs/{other}")["id"] == other
        if status:
            assert ledger.entries(f"/x{i}/v1/runs/{other}/place"), "its owner is asked where it begins"
        answer = get(http, "/v1/runs?limit=500")
        assert {r["id"] for r in answer["runs"] if isinstance(r.get("id"), str)} <= ids
    ledger.release()
