"""Server-sent events: what a client saw over all its connections, dropped at any moment and taken up again by
Last-Event-ID on either of two nodes, is what the journal says, each record once and in order."""
import http.client
import json
import random
import threading
from collections import namedtuple

import pytest
import tm
from group import agent
from http_api import Http

Event = namedtuple("Event", "id type data")
LOOP = {"for": {"in": "${ [range(0; 8)] }", "each": "i"}, "do": [{"nap": {"wait": {"milliseconds": 20}}},
                                                              {"put": {"set": {"i": "${ $i }"}}}]}


class Sse:
    """One connection; events() yields until it ends. Written by hand: it drops connections in the middle of an event."""

    def __init__(self, address, path, last_id=None, token=None):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=tm.PATIENCE_S)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {}),
                   **({"Authorization": f"Bearer {token}"} if token else {})}
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        self.status = self.answer.status

    def events(self):
        kind, data, id_ = None, [], None
        while True:
            try:
                line = self.answer.readline()
            except (OSError, http.client.HTTPException, ValueError, AttributeError):
                return
            if not line:
                return
            line = line.decode().rstrip("\n")
            if not line:
                if data:
                    yield Event(id_, kind, json.loads("\n".join(data)))
                kind, data = None, []
            elif line.startswith("data: "):
                data.append(line[6:])
            elif line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("id: "):
                id_ = line[4:]

    def close(self):
        self.connection.close()




@pytest.fixture
def pair(group, broker, session):
    g = group(broker.bootstrap, partitions=2, session=session)
    g.apply(agent("loop", [{"l": LOOP}]), agent("set", [{"a": {"set": {"x": "${ .n }"}}}]))
    nodes = [g.serve(name).start() for name in "ab"]
    https = [Http(n) for n in nodes]
    for h in https:
        tm.wait_until(lambda: h.get("/readyz").status == 200, what="the nodes to be ready")
    yield g, nodes, https
    for n in nodes:
        n.stop()


def records_of(g, run):
    owner, found = {}, []
    for r in g.journal():
        if r.type == "owner":
            owner[r.partition] = (r.offset, r.header("tm-nonce"))
        request = r.header("tm-nonce") is None
        valid = request or (r.header("tm-epoch"), r.header("tm-nonce")) == (str(owner[r.partition][0]), owner[r.partition][1])
        if r.key and r.key.startswith(run) and valid and r.type != "owner":
            found.append((r.offset, r.type))
    return found


def test_a_stream_that_is_dropped_goes_on_without_gap_or_double(pair):
    g, nodes, https = pair
    rng = random.Random(5)
    run = https[0].start("t/loop")["id"]
    seen, last, tries = [], None, 0
    while not seen or seen[-1].type != "run.completed":
        tries += 1
        assert tries < 300
        s = Sse(https[tries % 2].address, f"/v1/runs/{run}/stream", last)
        assert s.status == 200, s.answer.read()
        for n, e in enumerate(s.events()):
            seen.append(e)
            last = e.id
            if n >= rng.randrange(1, 6):
                break
        s.close()
    assert tries > 5
    assert [(e.data["offset"], e.type) for e in seen] == records_of(g, run)
    assert {e.data["run"] for e in seen} == {run} and seen[-1].data["partition"] == int(run[:4], 16)
    outputs = [e.data["output"] for e in seen if e.type == "task.completed" and e.data["task"].endswith("/put")]
    assert outputs == [{"i": i} for i in range(8)]
    # Hours later, from the begin, and behind its end.
    assert [e.id for e in Sse(https[1].address, f"/v1/runs/{run}/stream").events()] == [e.id for e in seen]
    for path, last_id, status in ((f"/v1/runs/{run[:-1]}{'1' if run[-1] == '0' else '0'}/stream", None, 404), ("/v1/runs/x/stream", None, 404),
                                  (f"/v1/runs/{run}/stream", "x", 400), ("/v1/stream", "7:x", 400)):
        assert Sse(https[0].address, path, last_id).status == status


def test_all_runs_of_an_agent_over_a_killed_node(pair):
    g, nodes, https = pair
    got, stop, last = [], threading.Event(), [None]

    def listen():
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                s = Sse(https[turn % 2].address, "/v1/stream?agent=t/set", last[0])
            except OSError:  # the next one is the other node's, which lives
                continue
            for e in s.events() if s.status == 200 else ():
                if e.type == "gap":
                    continue
                got.append(e)
                last[0] = e.id
                if len(got) % 7 == 0 or stop.is_set():
                    break
            s.close()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    # Heard from now on only when its first connection is there.
    tm.wait_until(lambda: (https[0].start("t/set", {"n": -1}), got)[1], what="the first event", every_s=0.1)
    made = [https[0].start("t/set", {"n": i})["id"] for i in range(20)]
    others = [https[0].start("t/loop")["id"] for _ in range(2)]
    nodes[1].kill9()
    made += [https[0].start("t/set", {"n": i})["id"] for i in range(20, 30)]
    tm.wait_until(lambda: {e.data["run"] for e in got if e.type == "run.completed"} >= set(made), what="all ends")
    stop.set()
    https[0].start("t/set", {"n": 99})
    listener.join(60)
    assert not {e.data["run"] for e in got} & set(others)
    for run in made:
        mine = [(e.data["offset"], e.type) for e in got if e.data["run"] == run]
        assert mine == records_of(g, run), run
    nodes[1].start()


def test_one_that_does_not_read_is_cut_off_and_others_are_not(group, embedded_log):
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(agent("big", [{"a": {"set": {"text": "${ .text }"}}}]))
    n = g.serve("a").start()
    h = Http(n)
    tm.wait_until(lambda: h.get("/readyz").status == 200, what="the node to be ready")
    lazy, keen = Sse(h.address, "/v1/stream"), Sse(h.address, "/v1/stream")
    got = []
    reader = threading.Thread(target=lambda: [got.append(e.type) for e in keen.events()], daemon=True)
    reader.start()
    for i in range(60):
        h.start("t/big", {"text": "x" * 200_000})
        tm.wait_until(lambda: got.count("run.completed") > i, what="who reads to have it")
    assert sum(e.type == "run.completed" for e in lazy.events()) < 60  # it ended
    n.stop()
    reader.join(60)
    assert not reader.is_alive()  # a node that drains ends its streams


def test_many_listen_to_agents_whose_runs_began_before_and_the_id_moves_on(group, embedded_log):
    """Whose run it is stands in its request alone, which is below where all these begin: it is found out once, in order,
    for all of them; and a stream to which nothing comes is told how far it has seen."""
    g = group(embedded_log.bootstrap, partitions=2)
    nap = [{"nap": {"wait": {"hours": 1}}}]
    g.apply(agent("nap", nap), agent("other", nap))
    first = g.serve("a").start()
    http = Http(first)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    runs = {name: [http.start(f"t/{name}")["id"] for _ in range(20)] for name in ("nap", "other")}
    first.stop()  # what the next node has not read itself it must find out
    node = g.serve("b").start()
    http = Http(node)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    streams = [Sse(http.address, "/v1/stream?agent=t/nap") for _ in range(100)]
    quiet = Sse(http.address, "/v1/stream?agent=t/none")
    assert {s.status for s in [*streams, quiet]} == {200}
    for a, b in zip(*runs.values()):
        for run in (a, b):
            assert http("POST", f"/v1/runs/{run}/cancel").status == 202
    for s in streams:
        ended, seen = [], s.events()
        while len(ended) < 20:
            e = next(seen)
            assert e.data["run"] in runs["nap"], e
            ended += [e.data["run"]] if e.type == "run.cancelled" else []
        assert sorted(ended) == sorted(runs["nap"])
    last = {p: max(r.offset for r in g.journal() if r.partition == p and r.type == "run.cancelled") for p in (0, 1)}
    told = {}
    while told.keys() != last.keys() or any(told[p] <= last[p] for p in last):
        line = quiet.answer.readline().decode()
        assert line, f"it was cut off after {told}"
        assert not line.startswith("data:"), "there is no such agent"
        if line.startswith("id: "):
            told = dict(map(int, x.split(":")) for x in line[4:].strip().split(","))
    for s in [*streams, quiet]:
        s.close()
    node.stop()
