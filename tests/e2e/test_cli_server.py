"""The command line by a node's HTTP interface (--server): it says what it says by the brokers, with tokens, while nodes
say "not now", and over a balancer whose nodes die."""
import http.server
import json
import re
import socket
import threading
import uuid

import pytest
import tm
from group import agent, chain, task_of
from http_api import address_of, ready
from journal import check_repeats

ECHO = agent("echo", [{"a": {"set": {"n": "${ .n }"}}}, {"b": {"set": {"n": "${ .n }", "last": True}}}])
FAIL = agent("fail", [{"no": {"raise": {"error": {"type": "https://example.org/no", "status": 500, "title": "no"}}}}])
NAP = agent("nap", [{"nap": {"wait": {"hours": 1}}}])


class Served:
    """A group with one node; by(...) asks the node, g.cli(...) the brokers."""

    def __init__(self, g, node):
        self.g, self.node, self.url = g, node, f"http://{address_of(node)}"
        self.http = ready(node)

    def by(self, *args, env=None, **more):
        return self.g.run_cli(*args, env={"TIDEMARK_SERVER": self.url, **(env or {})}, **more)

    def json(self, *args, **more):
        return json.loads(self.by(*args, "-o", "json", status=0, **more).out)


@pytest.fixture
def served(group, broker):
    g = group(broker.bootstrap)
    g.apply(ECHO, FAIL, NAP)
    node = g.serve("a").start()
    yield Served(g, node)
    node.stop()


def same(s, *args, **more):
    """What a command prints and how it ends, by the node as by the brokers."""
    a, b = s.by(*args, **more), s.g.cli(*args, **more)
    assert (a.status, a.out, a.err) == (b.status, b.out, b.err), args
    return a


def listed(s, *args):
    """`runs list` once the read model has what the brokers have."""
    last = []

    def equal():
        last[:] = [s.by(*args, status=0).out, s.g.cli(*args, status=0).out]
        return last[0] == last[1]

    tm.wait_until(equal, what=f"{args} to be the same")
    return last[0]


def test_commands_say_the_same_by_a_node_as_by_the_brokers(served):
    s = served
    done = s.by("runs", "start", "t/echo", "--input", '{"n": 1}', "--key", "k 1/é", "--wait", status=0)
    run = re.match(r"\S+", done.out)[0]
    assert re.search(r'  output  \{"last":true,"n":1\}', done.out), done.out
    assert re.search(r"├─ a  completed.*\n.*└─ b  completed", done.out), done.out
    bad = json.loads(s.by("runs", "start", "t/fail:1.0.0", "--wait", "-o", "json", status=1).out)
    assert bad["status"] == "faulted" and bad["error"]["status"] == 500
    for form in ("table", "json", "jsonl", "yaml"):
        same(s, "runs", "show", run, "-o", form)
        same(s, "runs", "history", run, "-o", form)
        same(s, "agents", "list", "-o", form)
        same(s, "agents", "show", "t/echo:1.0.0", "-o", form)
        listed(s, "runs", "list", "-o", form)
    assert same(s, "runs", "watch", bad["id"]).status == 1
    assert same(s, "why", run).status == 0
    for where in (["--where", "agent=t/fail"], ["--where", "key=k 1/é"], ["--where", "status=completed", "--limit", "1"],
                  ["--limit", "0"], ["--count"], ["--count", "--where", "status=faulted"],
                  ["--count", "--where", "agent=t/echo", "-o", "json"]):
        listed(s, "runs", "list", *where)
    retried = s.json("runs", "retry", bad["id"])
    assert retried["forkOf"]["run"] == bad["id"]
    forked = s.by("runs", "fork", run, "--from", "b", status=0).out.strip()
    assert json.loads(s.by("runs", "watch", forked, "-o", "json", status=0).out)["output"] == {"n": 1, "last": True}
    s.g.wait_ended(4)
    letters = tm.wait_until(lambda: [x["letter"] for x in s.json("dlq", "list") if x["run"] == bad["id"]],
                            what="the dead letter")
    same(s, "dlq", "list")
    same(s, "dlq", "list", "--where", f"run={bad['id']}", "-o", "json")
    same(s, "dlq", "show", letters[0])
    same(s, "dlq", "redrive", letters[0], "--dry-run")
    assert same(s, "dlq", "redrive", letters[0]).status == 0
    s.g.wait_ended(5)


def test_events_marks_replays_and_agents_by_a_node(served):
    s = served
    topic = s.g.topic
    woken = agent("woken", [{"a": {"set": {"n": "${ .n }"}}}], "t.woken", input={"from": "${ .[0] }"})
    path = s.g.tmp / "woken.yaml"
    path.write_text(json.dumps(woken))
    assert s.by("agents", "apply", path, "--dry-run", status=0).out.startswith("t/woken:1.0.0 created, not written")
    assert s.by("agents", "apply", path, status=0).out.startswith("t/woken:1.0.0 created (")
    assert same(s, "agents", "apply", path).out.startswith("t/woken:1.0.0 unchanged (")
    path.write_text(json.dumps({**woken, "do": [{"b": {"set": {"n": 2}}}]}))
    assert "raise document.version" in s.by("agents", "apply", path, status=4).err
    same(s, "marks", "set", "before")
    out = s.by("events", "publish", topic, "--type", "t.woken", "--data", '{"n":1}\n{"n":2}\n', "--lines", "--key",
               "a b%é", "--subject", "s\"1", status=0).out
    assert len(re.findall(rf"^\S+ {re.escape(topic)}/\d+/\d+$", out, re.M)) == 2, out
    seen = tm.read_all(s.g.bootstrap, topic)
    assert [(r.key, r.header("ce_subject"), r.json) for r in seen] == [("a b%é", 's"1', {"n": n}) for n in (1, 2)]
    s.g.wait_ended(2)
    same(s, "marks", "list")
    same(s, "marks", "list", "-o", "json")
    assert "2 events, not started" in same(s, "replays", "start", "--from", "before", "--dry-run").out
    assert "2 events, started" in s.by("replays", "start", "--from", "before", "--name", "again", status=0).out
    assert "2 events, goes on" in same(s, "replays", "start", "--from", "before", "--name", "again").out
    s.g.wait_ended(4)
    place = f"{topic}:{seen[0].partition}:{seen[0].offset}"
    same(s, "replays", "start", "--from", place, "--dry-run")
    tm.wait_until(lambda: s.json("replays", "list")[0]["done"], what="the replay to be done")
    same(s, "replays", "list", "-o", "json")
    assert same(s, "marks", "delete", "none").status == 3
    assert s.by("marks", "delete", "before", status=0).out == "before deleted\n"
    assert s.by("agents", "deactivate", "t/woken", status=0).out.startswith("t/woken:1.0.0 deactivated (")
    assert {x["topic"] for x in s.json("topics", "list")} == {topic}
    members = s.json("group", "show")
    assert members and {m["topic"] for m in members} == {f"tidemark.{s.g.name}.runs"}
    assert "reading place" not in s.by("events", "publish", topic, "--type", "t.x", "--data", "nonsense", status=2).err


def test_one_id_is_one_run_however_it_is_asked_for(served):
    s = served
    ask = ("runs", "start", "t/echo", "--input", '{"n": 5}', "--id", "order 7")
    first = s.by(*ask, status=0).out
    assert s.g.cli(*ask, "--wait", "-o", "json", status=0).out and s.g.cli(*ask, status=0).out == first
    assert s.http.start("t/echo", {"n": 5}, Idempotency_Key="order 7")["id"] == first.strip()
    assert s.by(*ask, status=0).out == first
    other = s.by("runs", "start", "t/echo", "--input", '{"n": 6}', "--id", "order 7", status=4)
    assert "was used for another request" in other.err and "hint: " in other.err
    assert len(s.g.wait_ended(1)) == 1


def test_steering_and_time_outs_by_a_node(served):
    s = served
    runs = [s.by("runs", "start", "t/nap", status=0).out.strip() for _ in range(2)]
    late = s.by("runs", "watch", runs[0], "--timeout", "1")
    assert late.status == 124 and late.err == f"tidemark: {runs[0]} has not ended yet; it goes on\n"
    assert s.by("runs", "start", "t/nap", "--wait", "--timeout", "0.5").status == 124
    assert same(s, "runs", "suspend", *runs).out == "".join(f"{r} suspend requested\n" for r in runs)
    s.by("runs", "resume", *runs, status=0)
    s.by("runs", "cancel", *runs, "--reason", "enough", status=0)
    ended = json.loads(s.by("runs", "watch", runs[1], "-o", "json", status=1).out)
    assert ended["status"] == "cancelled" and ended["error"]["reason"] == "enough"


@pytest.mark.parametrize("args, status, words", [
    (["runs", "show", "x"], 2, "is not a run id"),
    (["runs", "show", "0000w3fzgj6j86c99rb7232qwzc3hg"], 3, "no run"),
    (["runs", "watch", "0000w3fzgj6j86c99rb7232qwzc3hg"], 3, "no run"),
    (["runs", "start", "nothing"], 2, "names no agent"),
    (["runs", "start", "t/none"], 3, "no agent t/none"),
    (["runs", "start", "t/echo:9.9.9"], 3, "no version 9.9.9"),
    (["runs", "start", "t/echo", "--input", "{"], 2, "JSON"),
    (["runs", "list", "--where", "colour=red"], 2, "not a condition"),
    (["runs", "list", "--where", "status=red"], 2, "no status red"),
    (["runs", "fork", "0000w3fzgj6j86c99rb7232qwzc3hg"], 2, "--from TASKREF is missing"),
    (["marks", "set", "m", "--at", "yesterday"], 2, "no time"),
    (["dlq", "show", "7"], 2, "not PARTITION/OFFSET"),
    (["dlq", "show", "0/999999"], 3, "no dead letter"),
    (["replays", "start"], 2, "--from is missing"),
    (["replays", "start", "--from", "nothing"], 3, "nothing"),
    (["events", "publish", "TOPIC", "--type", "t.x", "--no-check"], 2, "--no-check"),
    (["events", "publish", "none", "--type", "t.x"], 3, "no topic none"),
    (["topics", "apply"], 2, "works on the log itself"),
    (["events", "tail", "TOPIC"], 2, "works on the log itself"),
    (["keys", "list"], 2, "works on the log itself"),
    (["runs", "list", "--server", "http://127.0.0.1:1/path"], 2, "server can't be"),
    (["runs", "list", "--server", "ftp://127.0.0.1"], 2, "server can't be"),
    (["runs", "list", "--server", "http://me:secret@127.0.0.1"], 2, "server can't be"),
    (["runs", "list", "--server", "127.0.0.1", "--brokers", "127.0.0.1:1"], 2, "exclude each other"),
    (["runs", "list", "--token-file", "/none"], 3, "/none"),
])
def test_what_is_wrong_is_told_with_a_hint(served, args, status, words):
    done = served.by(*[served.g.topic if a == "TOPIC" else a for a in args])
    assert done.status == status and words in done.err and "hint: " in done.err, done
    assert done.out == ""


def test_brokers_on_the_command_line_win_over_a_server_of_the_environment(served):
    s = served
    gone = {"TIDEMARK_SERVER": "http://127.0.0.1:1"}
    assert "can't be reached" in s.by("agents", "list", env=gone, status=6).err
    out = s.by("agents", "list", "--brokers", s.g.bootstrap, "--group", s.g.name, env=gone, status=0).out
    assert out == s.by("agents", "list", status=0).out
    assert s.by("check", s.g.tmp / "echo.json.yaml", env=gone, status=0).out.endswith("is valid\n")


def test_a_token_comes_from_the_environment_or_a_file_and_its_scopes_hold(served):
    s = served
    key = s.g.json("keys", "create", "app", "--scope", "read")
    file = s.g.tmp / "token.txt"
    file.write_text(key["token"] + "\n")
    tm.wait_until(lambda: s.by("agents", "list").status == 5, what="the key to count")
    refused = s.by("agents", "list", status=5)
    assert "TIDEMARK_TOKEN" in refused.err
    for more, env in (([], {"TIDEMARK_TOKEN": key["token"]}), ([], {"TIDEMARK_TOKEN_FILE": str(file)}),
                      (["--token-file", str(file)], {"TIDEMARK_TOKEN": "tm_wrong"})):
        assert "t/echo" in s.by("agents", "list", *more, env=env, status=0).out
        denied = s.by("runs", "start", "t/echo", *more, env=env, status=5)
        assert "publish" in denied.err and key["token"] not in denied.err + denied.out
    assert "odd characters" in s.by("agents", "list", env={"TIDEMARK_TOKEN": "a\nb"}, status=2).err


class NotNow(http.server.BaseHTTPRequestHandler):
    """A server that is busy twice, breaks the connection once, and then takes the request."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers["Idempotency-Key"], body))
        n = len(self.server.seen)
        if n == 3:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = b'{"id":"0000w3fzgj6j86c99rb7232qwzc3hg","partition":0,"offset":7}'
        if n < 3:
            answer = b'{"status":503,"detail":"full","hint":"later"}'
        self.send_response(202 if n > 3 else 503)
        if n == 2:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *args):
        pass


def test_a_server_that_can_not_answer_now_is_asked_again_with_the_same_id(cli):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotNow)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        done = cli("runs", "start", "t/echo", "--input", '{"n":1}', "--server", url, status=0)
        assert done.out == "0000w3fzgj6j86c99rb7232qwzc3hg\n"
        assert len(server.seen) == 4 and len(set(server.seen)) == 1, server.seen
        assert uuid.UUID(server.seen[0][0].strip('"'))
        assert "is a node of tidemark there" in cli("agents", "list", "--server", url, status=2).err
        server.seen.clear()
        full = cli("runs", "start", "t/echo", "--server", url, "--timeout", "0.1")
        assert full.status == 6 and "full" in full.err and "hint: later" in full.err
    finally:
        server.shutdown()
        server.server_close()


class Balancer:
    """One address for several nodes: each new connection goes to the next node that takes it."""

    def __init__(self, nodes):
        self.nodes, self.turn = nodes, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return  # closed: the test is over
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        for _ in self.nodes:
            self.turn += 1
            host, port = address_of(self.nodes[self.turn % len(self.nodes)]).rsplit(":", 1)
            try:
                upstream = socket.create_connection((host, int(port)), timeout=tm.PATIENCE_S)
            except OSError:
                continue
            threading.Thread(target=self.pump, args=(upstream, client), daemon=True).start()
            self.pump(client, upstream)
            return
        client.close()

    @staticmethod
    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass  # one side is gone: so is the other below
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_two_nodes_behind_one_address_and_one_killed(group, broker, ledger):
    g = group(broker.bootstrap, partitions=4, session="6s")
    g.apply(chain(ledger, "chain", steps=2))
    nodes = [g.serve(name).start() for name in ("a", "b")]
    for n in nodes:
        ready(n)
    balancer, done, lock = Balancer(nodes), [], threading.Lock()

    def user(k):
        for i in range(4):
            d = g.run_cli("runs", "start", "t/chain", "--input", json.dumps({"n": k * 10 + i}), "--wait", "-o", "json",
                          "--server", balancer.url, timeout_s=tm.PATIENCE_S)
            with lock:
                done.append(d)

    users = [threading.Thread(target=user, args=(k,)) for k in range(4)]
    for t in users:
        t.start()
    tm.wait_until(lambda: len(done) >= 3, what="the first runs to end")
    nodes[0].kill9()
    for t in users:
        t.join()
    balancer.close()
    bad = [d for d in done if d.status != 0]
    assert not bad, bad
    ended = g.wait_ended(16)
    assert {json.loads(d.out)["id"] for d in done} == set(ended)
    assert len(done) == len(ended) == 16, "a request that was repeated became a second run"
    seen = g.check()
    check_repeats(seen, ledger.entries(), task_of(seen))
    nodes[1].stop()
