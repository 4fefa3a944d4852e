"""What exceeds a limit of docs/limits.md gets what the page says, and nothing else suffers. Limits that a unit test
shows are there; here are those that need the whole program."""
import json
import os
import re
import resource
import signal
import socket
import struct
import time
from pathlib import Path

import tm
from group import agent, post

ECHO = agent("echo", [{"a": {"set": {"n": "${ .n }"}}}], "t.echo", input={"from": "${ .[0] }"})


def letters(g):
    return tm.read_all(g.bootstrap, f"tidemark.{g.name}.dlq")


def wait_letters(g, count):
    """{origin: letter}"""
    seen = tm.wait_until(lambda: (v := letters(g)) and len(v) >= count and v, 30, f"{count} letters", every_s=0.2)
    return {r.header("tm-dlq-origin"): r for r in seen}


def test_what_is_too_large_for_a_dead_letter_holds_nobody_up(group, embedded_log):
    """The letter says what was left out, where the event lies and why; the run's error keeps its beginning."""
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1)
    tm.alter_topic(g.bootstrap, g.topic, {"max.message.bytes": "8000000"})
    loud = {"raise": {"error": {"type": "https://example.com/loud", "status": 500, "detail": "${ .text }"}}}
    g.apply(ECHO, agent("loud", [{"a": loud}], "t.loud", input={"from": "${ .[0] }"}))
    n = g.serve("a").start()
    huge = {**tm.event("t.echo", {"text": "x" * 3_000_000}, id_="huge")}
    heads, many = ({**tm.event("t.echo", {}), "value": b"{"} for _ in range(2))
    heads["headers"] += [(f"h{i}", b"y" * 10_000) for i in range(20)]
    many["headers"] += [(f"h{i}", b"y") for i in range(200)]
    events = [huge, heads, many, tm.event("t.loud", {"text": "\u00e4" * 50_000}), tm.event("t.echo", {"n": 1})]
    tm.produce(g.bootstrap, g.topic, events, message_max_bytes=8_000_000)
    ended = g.wait_ended(2)
    found = wait_letters(g, 4)
    n.stop()
    assert sorted(r.end.type for r in ended.values()) == ["run.completed", "run.faulted"]
    a, b, c, d = (found[f"{g.topic}/0/{i}"] for i in range(4))
    assert a.header("tm-dlq-cut") == "value" and a.value == b"" and a.header("ce_id") == "huge"
    assert "3000012 bytes" in a.header("tm-dlq-error")
    assert b.header("tm-dlq-cut") == c.header("tm-dlq-cut") == "headers" and b.value == c.value == b"{"
    assert b.header("h0") == "y" * 10_000 and b.header("h19") is None and c.header("h199") is None
    error = json.loads(d.header("tm-dlq-error"))
    assert d.header("tm-dlq-kind") == "run" and error["status"] == 500 and error["detail"].startswith("\u00e4" * 100)
    assert len(d.header("tm-dlq-error")) < 5000 and d.json["input"][0]["text"] == "\u00e4" * 50_000
    g.check()


def hang(ledger, name="hang", wake="t.hang"):
    return agent(name, [{"call": {**post(ledger.url("/hang"), {"n": "${ .n }"}), "output": {"as": "${ $input }"}}}],
                 wake, input={"from": "${ .[0] }"})


def requests(g):
    return sum(r.type == "run.requested" for r in g.journal())


def test_more_runs_than_active_ones_wait_in_the_journal(group, embedded_log, ledger):
    """runs.active and runs.waiting: what is beyond the one waits, beyond the other it is not even taken from its topic;
    nothing is lost, and it goes on when there is room."""
    g = group(embedded_log.bootstrap, partitions=2, topic_partitions=1, runs={"active": 2, "waiting": 30})
    ledger.on("/hang", hang=True)
    g.apply(hang(ledger), ECHO)
    n = g.serve("a").start()
    g.publish([tm.event("t.hang", {"n": i}) for i in range(150)])
    g.publish([tm.event("t.echo", {"n": 0})])
    ledger.wait(2, "/hang")
    # The bound is not exact: an acknowledged request counts when the node has read it.
    tm.wait_until(lambda: requests(g) > 30, 30, "more than 30 requests", every_s=0.2)
    seen = tm.wait_until(lambda: (v := requests(g)) == requests(g) and v, 30, "the router to stop", every_s=1)
    assert seen < 150, "the router went on although the node was full"
    assert len(ledger.entries("/hang")) == 2, "more runs than runs.active were begun"
    ledger.release()
    g.wait_ended(151)
    n.stop()
    assert len({e.body for e in ledger.entries("/hang")}) == 150
    g.check()


def test_more_replays_than_run_at_once_wait(group, embedded_log, ledger):
    """Written as `replays start` writes them; a full node routes nothing, so none of them ends before its time."""
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1, runs={"active": 1, "waiting": 1})
    ledger.on("/hang", hang=True)
    g.apply(hang(ledger), ECHO)
    n = g.serve("a").start()
    g.publish([tm.event("t.hang", {"n": i}) for i in range(3)] + [tm.event("t.echo", {"n": 7})])
    ledger.wait(1, "/hang")
    tm.wait_until(lambda: requests(g) >= 2, 30, "the node to be full")
    names = [f"r{i}" for i in range(34)]
    tm.produce(g.bootstrap, f"tidemark.{g.name}.marks",
               [(f"replay/{x}", json.dumps({"name": x, "from": {g.topic: [3]}, "to": {g.topic: [4]}, "agent": None,
                                            "done": False})) for x in names])

    def begun():
        return n.err_path.read_text().count('event="replay begins"')

    tm.wait_until(lambda: begun() >= 32, 60, "32 replays to begin", every_s=0.3)
    assert [r["done"] for r in g.json("replays", "list")] == [False] * 34
    assert begun() == 32
    ledger.release()
    tm.wait_until(lambda: all(r["done"] for r in g.json("replays", "list")), 60, "all replays to be done", every_s=0.5)
    ended = g.wait_ended(4 + 34)
    assert begun() == 34
    n.stop()
    assert sum(r.end.json["output"] == {"n": 7} for r in ended.values()) == 1 + 34


# ---- descriptors

def limit_files(process, soft=None):
    """Of a running process; what it has open stays open. None: it gets no further one. Returns the limits before."""
    if soft is None:
        used = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
        soft = min(set(range(len(used) + 1)) - used)
    return resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def connect(bootstrap):
    host, port = bootstrap.split(":")
    return socket.create_connection((host, int(port)), timeout=tm.PATIENCE_S)


def answers(s, within_s=tm.PATIENCE_S):
    """Whether ApiVersions is answered on this connection."""
    s.settimeout(within_s)
    s.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
    try:
        return len(s.recv(4)) == 4
    except TimeoutError:
        return False


def test_connections_beyond_the_limit_wait_until_one_ends(embedded_log):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        hard = 4096  # root may raise it; for others this fails and says so
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    limit_files(embedded_log, 4096)
    held = []
    try:
        held += [connect(embedded_log.bootstrap) for _ in range(1024)]
        assert answers(held[0]) and answers(held[1023])
        late = connect(embedded_log.bootstrap)
        held.append(late)
        assert not answers(late, 0.3), "connection 1,025 was served"
        assert answers(held[1]), "those there suffer"
        held[2].close()
        late.settimeout(tm.PATIENCE_S)
        assert len(late.recv(4)) == 4
    finally:
        for s in held:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "connections at their limit" in embedded_log.err_path.read_text()
    embedded_log.stop()


def test_a_log_without_descriptors_says_so_and_recovers(embedded_log, name):
    """Clients that are connected go on; new connections wait; a topic that cannot be made is an error."""
    tm.create_topic(embedded_log.bootstrap, name)
    served = tm.producer(embedded_log.bootstrap)
    served.produce(name, b"before", partition=0)
    assert served.flush(tm.PATIENCE_S) == 0
    held = connect(embedded_log.bootstrap)
    assert answers(held)
    before = limit_files(embedded_log)
    late = connect(embedded_log.bootstrap)
    assert not answers(late, 0.3)
    tm.wait_until(lambda: "accept failed" in embedded_log.err_path.read_text(), 20, "the log to say so")
    served.produce(name, b"meanwhile", partition=0)
    assert served.flush(tm.PATIENCE_S) == 0, "a connected producer was not served"
    resource.prlimit(embedded_log.pid, resource.RLIMIT_NOFILE, before)
    late.settimeout(tm.PATIENCE_S)
    assert len(late.recv(4)) == 4, "the connection was forgotten"
    for s in (held, late):
        s.close()
    assert [r.value for r in tm.read_all(embedded_log.bootstrap, name)] == [b"before", b"meanwhile"]
    embedded_log.stop()


def test_a_log_whose_disk_is_full_refuses_and_recovers(embedded_log, name):
    """A limit of the system on the size of files stands for the full disk: the write comes short, then fails."""
    tm.create_topic(embedded_log.bootstrap, name)
    acked, refused = [], []

    def send(value):
        p = tm.producer(embedded_log.bootstrap, **{"message.timeout.ms": 5000})
        p.produce(name, value, partition=0, on_delivery=lambda e, m: (refused if e else acked).append(value))
        p.flush(60)

    unlimited = resource.prlimit(embedded_log.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(embedded_log.pid, resource.RLIMIT_FSIZE, (65536, unlimited[1]))
    for n in range(9):
        send(b"%d" % n * 10000)
        if refused:
            break
    assert refused and 3 <= len(acked) <= 6, (len(acked), len(refused))
    assert "append failed" in embedded_log.err_path.read_text()
    assert [r.value for r in tm.read_all(embedded_log.bootstrap, name)] == acked
    resource.prlimit(embedded_log.pid, resource.RLIMIT_FSIZE, unlimited)
    send(b"there is space again")
    assert acked[-1] == b"there is space again"
    embedded_log.kill9()
    embedded_log.start()
    assert [r.value for r in tm.read_all(embedded_log.bootstrap, name)] == acked
    embedded_log.stop()


def test_a_node_without_descriptors_faults_what_needs_one_and_recovers(group, embedded_log, ledger):
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(agent("sh", [{"a": {"run": {"shell": {"command": "echo tide"}}}}], "t.sh"),
            agent("web", [{"a": {**post(ledger.url("/x"), {}), "output": {"as": "${ {done: true} }"}}}], "t.web"), ECHO)
    n = g.serve("a").start()
    g.publish([tm.event("t.echo", {"n": 0})])
    g.wait_ended(1)
    before = limit_files(n)
    g.publish([tm.event("t.sh"), tm.event("t.web"), tm.event("t.echo", {"n": 1})])
    g.wait_ended(4)
    resource.prlimit(n.pid, resource.RLIMIT_NOFILE, before)
    g.publish([tm.event("t.sh"), tm.event("t.web")])
    ended = g.wait_ended(6)
    n.stop()
    ends = [r.end for r in ended.values()]
    faults = [json.dumps(e.json) for e in ends if e.type == "run.faulted"]
    assert len(faults) == 2 and len(ends) == 6, [(e.type, e.json) for e in ends]
    assert all("raise the limit of open files (ulimit -n)" in f for f in faults), faults
    g.check()


def test_a_node_that_starts_without_descriptors_waits_for_them(tidemark_bin, tmp, group, embedded_log):
    """What was opened before one was missing is closed again, each time."""
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(ECHO)
    n = tm.Node("/bin/bash", ["-c", 'ulimit -S -n 52; exec "$0" "$@"', tidemark_bin, "serve", "--config", g.path, "--data",
                              tmp / "data"], tmp, name="few", ready=r"")
    try:
        n.start()
        tm.wait_until(lambda: n.err_path.read_text().count("raise the limit of open files") >= 2, 60, "two attempts")
        limit_files(n, 4096)
        g.publish([tm.event("t.echo", {"n": 1})])
        g.wait_ended(1)
        n.stop()
    finally:
        n.close()
    g.check()


# ---- memory

def limit_memory(process, more_bytes):
    """Address space of a running process: what it has, and so much more. Returns the limits before."""
    now = int(re.search(r"^VmSize:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text(), re.M).group(1)) * 1024
    return resource.prlimit(process.pid, resource.RLIMIT_AS, (now + more_bytes, resource.RLIM_INFINITY))


# An allocation that fails must be seen by the program, not end it in the sanitizer.
MAY_FAIL = {"ASAN_OPTIONS": os.environ["ASAN_OPTIONS"] + ":allocator_may_return_null=1"}


def test_a_log_without_memory_refuses_what_is_large_and_recovers(tidemark_bin, tmp, name):
    log = tm.EmbeddedLog(tidemark_bin, tmp, env=MAY_FAIL)
    try:
        log.start()
        tm.create_topic(log.bootstrap, name, config={"max.message.bytes": "50000000"})
        small = tm.producer(log.bootstrap)
        small.produce(name, b"before", partition=0)
        assert small.flush(tm.PATIENCE_S) == 0
        before = limit_memory(log, 1 << 20)
        errors = []
        refused = tm.producer(log.bootstrap, message_max_bytes=50_000_000, message_timeout_ms=1500)
        refused.produce(name, os.urandom(30_000_000), partition=0, on_delivery=lambda e, m: errors.append(e))
        assert refused.flush(tm.PATIENCE_S) == 0 and errors[0] is not None
        small.produce(name, b"meanwhile", partition=0)
        assert small.flush(tm.PATIENCE_S) == 0
        resource.prlimit(log.pid, resource.RLIMIT_AS, before)
        large = tm.producer(log.bootstrap, message_max_bytes=50_000_000)
        large.produce(name, b"z" * 30_000_000, partition=0, on_delivery=lambda e, m: errors.append(e))
        assert large.flush(tm.PATIENCE_S) == 0 and errors[1] is None, errors
        assert [len(r.value) for r in tm.read_all(log.bootstrap, name)] == [6, 9, 30_000_000]
        assert "no memory for the request" in log.err_path.read_text()
        log.stop()
    finally:
        log.close()


def test_a_node_without_memory_loses_nothing(group, embedded_log):
    """librdkafka ends the process when it gets no memory; that is a crash like any other."""
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(agent("big", [{"a": {"set": {"n": "${ .n }", "text": "${ .text + .text }"}}}, {"b": {"set": {"n": 1}}}],
                  "t.big", input={"from": "${ .[0] }"}))
    n = g.serve("a", node_id="a", env=MAY_FAIL).start()
    limit_memory(n, 0)
    g.publish([tm.event("t.big", {"n": i, "text": "x" * 150_000}) for i in range(25)])
    tm.wait_until(lambda: not n.alive() or len(g.ended()) == 25, 60, "the end of the node or of all runs", every_s=0.2)
    if n.alive():
        n.kill9()
    n.start()
    g.wait_ended(25)
    n.stop()
    g.check()


# ---- processes and clocks, by faults of the test build (engine/base/fail.h)

class Faults:
    """The file that TIDEMARK_FAULTS names; set() replaces its lines, as one step."""

    def __init__(self, folder):
        self.path = Path(folder) / "faults"
        self.env = {"TIDEMARK_FAULTS": str(self.path)}
        self.set()

    def set(self, *lines):
        new = self.path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.rename(self.path)


def test_a_node_without_processes_faults_what_needs_one_and_recovers(group, embedded_log, tmp):
    faults = Faults(tmp)
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(agent("sh", [{"a": {"run": {"shell": {"command": "echo tide"}}}}]), ECHO)
    n = g.serve("a", env=faults.env).start()
    faults.set("fork")
    bad = g.json("runs", "watch", g.start_run("t/sh", {}), "--timeout", "120", status=1)
    assert "Resource temporarily unavailable" in json.dumps(bad["error"]), bad
    g.publish([tm.event("t.echo", {"n": 1})])
    g.wait_ended(2)
    faults.set()
    assert g.json("runs", "watch", g.start_run("t/sh", {}), "--timeout", "120")["output"] == "tide"
    n.stop()
    g.check()


def test_a_clock_that_is_set_breaks_nothing(tidemark_bin, tmp, group, ledger):
    """Waits keep their length, leases neither lapse nor grow, and no partition changes its owner."""
    faults = Faults(tmp)
    log = tm.EmbeddedLog(tidemark_bin, tmp, env=faults.env)
    try:
        log.start()
        g = group(log.bootstrap, partitions=1)
        nap = {"nap": {"wait": {"seconds": 3}}}
        g.apply(agent("nap", [nap, {"call": {**post(ledger.url("/x"), {}), "output": {"as": "${ 1 }"}}}], "t.nap"))
        n = g.serve("a", env=faults.env).start()
        for hours, runs in ((2, 1), (-24, 2)):
            began = time.monotonic()
            g.publish([tm.event("t.nap")])
            tm.wait_until(lambda: sum(r.type == "task.waiting" for r in g.journal()) == runs, 30, "the wait")
            faults.set(f"clock {hours * 3_600_000}")
            g.wait_ended(runs)
            assert time.monotonic() - began > 2.5, f"a wait of 3 s ended early with the clock {hours} h off"
            assert len(ledger.entries("/x")) == runs
        n.stop()
        seen = g.check()
        assert [len(o) for o in seen.owners.values()] == [1] and not seen.void
        assert "the system's clock was set" in n.err_path.read_text()
        log.stop()
    finally:
        log.close()


def test_a_run_that_crashes_the_engine_three_times_is_set_aside(group, embedded_log):
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(ECHO)
    n = g.serve("a", node_id="a").start()
    g.publish([tm.event("t.echo", {"n": 1})])
    g.wait_ended(1)
    n.stop()
    bad = g.publish([tm.event("t.echo", {"n": 2})])[0]
    dying = g.serve("a", node_id="a", ready=r"")  # it may end before it is ready
    for _ in range(3):
        dying.start(env={"TIDEMARK_FAILPOINT": "step"})
        assert dying.wait_exit(60) == -signal.SIGKILL
    n.start()
    g.publish([tm.event("t.echo", {"n": 3})])
    g.wait_ended(3)
    letter = wait_letters(g, 1)[f"{g.topic}/{bad[0]}/{bad[1]}"]
    n.stop()
    assert "died three times" in letter.header("tm-dlq-error")
    assert "the process died in the middle of a run's step" in n.err_path.read_text()
    g.check()
