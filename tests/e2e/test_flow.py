"""Loops, retries and timeouts of real runs: what the outside world sees of them, and that a kill in the middle of a loop
or of a retry's wait begins nothing anew."""
import json
from pathlib import Path

import pytest

import journal
import tm
from group import agent, post


def bodies(ledger, path):
    return [json.loads(e.body) for e in ledger.entries(path)]


def retried(steps, **policy):
    return {"try": steps, "catch": {"retry": {"delay": {"milliseconds": 50}, "limit": {"attempt": {"count": 5}}, **policy}}}


def test_a_retried_call_has_the_key_and_body_of_the_first(group, broker, session, ledger):
    ledger.on("/pay", status=503, times=2)
    g = group(broker.bootstrap, session=session)
    g.apply(agent("pay", [{"t": retried([{"pay": post(ledger.url("/pay"), {"n": "${ .n }"})}])}]))
    n = g.serve("a").start()
    run = g.start_run("t/pay", {"n": 1})
    g.wait_ended(1)
    shown = g.json("runs", "show", run)
    n.stop()
    assert shown["status"] == "completed"
    assert [(t["name"], t["attempts"], t.get("retries")) for t in shown["tasks"]] == [("t", 1, 2), ("pay", 3, None)]
    assert journal.check_effects(ledger.entries()) == {ledger.entries()[0].key: 3}
    assert bodies(ledger, "/pay") == [{"n": 1}] * 3
    seen = g.check()
    attempts = [r.key.split("#")[1].split("/")[0] for r in g.journal() if r.type == "task.faulted"]
    assert attempts == ["0.0.1", "0.0.2"] and seen.runs[run].end.type == "run.completed"


def test_a_kill_while_a_retry_waits(group, broker, session, ledger):
    """The wait is a record: the next life goes on with attempt 2, not before its time and without the first again."""
    ledger.on("/flaky", status=500, times=1)
    g = group(broker.bootstrap, session=session)
    g.apply(agent("flaky", [{"t": retried([{"a": post(ledger.url("/sure"), {})}, {"b": post(ledger.url("/flaky"), {})}],
                                          delay={"seconds": 4})}]))
    n = g.serve("a", node_id=f"{g.name}-a").start()
    run = g.start_run("t/flaky", {})
    tm.wait_until(lambda: [r for r in g.journal() if r.type == "task.caught"], 60, "the retry to wait", every_s=0.1)
    n.kill9()
    n.start(60)
    g.wait_ended(1)
    n.stop()
    caught = [r for r in g.journal() if r.type == "task.caught"]
    assert [r.json["attempt"] for r in caught] == [2] and g.check().runs[run].end.type == "run.completed"
    assert [len(ledger.entries(p)) for p in ("/sure", "/flaky")] == [2, 2]
    between = ledger.entries("/sure")[1].time_s - ledger.entries("/flaky")[0].time_s
    assert between > 3.9, f"attempt 2 began {between:.2f} s after the error"


def test_kills_in_a_loop_do_no_iteration_again(group, broker, session, ledger):
    g = group(broker.bootstrap, partitions=1, session=session)
    g.apply(agent("loop", [{"l": {"for": {"in": "${ [range(8)] }"}, "do": [
        {"call": {**post(ledger.url("/item"), {"i": "${ $item }"}), "output": {"as": "${ $input }"}}}]}}]))
    n = g.serve("a", node_id=f"{g.name}-a").start()
    run = g.start_run("t/loop", {"x": 1})
    for calls in (2, 5):
        ledger.wait(calls, timeout_s=60)
        n.kill9()
        n.start(60)
    g.wait_ended(1)
    n.stop()
    seen = g.check()
    # What a kill cut off may be done again, with the same key; nothing else is.
    journal.check_effects(ledger.entries())
    journal.check_repeats(seen, ledger.entries(), lambda e: (run, f"l/for/{json.loads(e.body)['i']}/do/0/call"))
    assert sorted({b["i"] for b in bodies(ledger, "/item")}) == list(range(8))
    refs = {ref for ref, *_ in seen.runs[run].results if ref.endswith("/call")}
    assert refs == {f"/do/0/l/for/{i}/do/0/call" for i in range(8)}
    assert seen.runs[run].end.json["output"] == {"x": 1}


def sleeping(seconds):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if words[:2] == [b"sleep", seconds.encode()]:
            found.append(path)
    return found


@pytest.mark.parametrize("what", ["call", "process"])
def test_a_timeout_interrupts_what_is_under_way(group, embedded_log, ledger, what):
    ledger.on("/slow", hang=True)
    seconds = str(100_000 + int(ledger.url().split(":")[2].strip("/")))  # a port of this test: nobody else sleeps so long
    step = post(ledger.url("/slow"), {}) if what == "call" else {"run": {"shell": {"command": f"sleep {seconds}"}}}
    g = group(embedded_log.bootstrap)
    g.apply(agent("slow", [{"t": {"try": [{"s": {**step, "timeout": {"after": {"milliseconds": 300}}}}],
                                  "catch": {"errors": {"with": {"status": 408}}, "as": "why",
                                            "do": [{"note": {"set": {"late": "${ $why.instance }"}}}]}}}]))
    n = g.serve("a").start()
    g.start_run("t/slow", {})
    ended = g.wait_ended(1)
    assert [r.end.json["output"] for r in ended.values()] == [{"late": "/do/0/t/try/0/s"}]
    if what == "process":
        tm.wait_until(lambda: not sleeping(seconds), 60, "the process to be killed")
    n.stop()


def test_a_timeout_of_the_run_is_its_fault_and_gives_a_dead_letter(group, embedded_log, ledger):
    g = group(embedded_log.bootstrap)
    g.apply(agent("late", [{"nap": {"wait": {"hours": 1}}}], timeout={"after": {"milliseconds": 300}}))
    n = g.serve("a").start()
    run = g.start_run("t/late", {})
    g.wait_ended(1)
    tm.wait_until(lambda: g.json("dlq", "list"), 60, "the dead letter")
    shown = g.json("runs", "show", run)
    n.stop()
    assert shown["status"] == "faulted" and shown["error"]["status"] == 408
    assert [t["status"] for t in shown["tasks"]] == ["completed", "interrupted"]


def test_fork_into_an_iteration(group, embedded_log, ledger):
    """A fork goes on in the middle of a loop, with its variables, and without the original's timeouts."""
    g = group(embedded_log.bootstrap)
    g.apply(agent("loop", [{"l": {"timeout": {"after": {"seconds": 20}}, "for": {"in": "${ [10, 20, 30] }"}, "do": [
        {"add": {"set": "${ . + $item }"}}]}}]))
    n = g.serve("a").start()
    run = g.start_run("t/loop", 1)
    g.wait_ended(1)
    fork = g.json("runs", "fork", run, "--from", "/do/0/l/for/1/do/0/add")["id"]
    g.wait_ended(2)
    shown = g.json("runs", "show", fork)
    n.stop()
    assert shown["output"] == 61
    assert [t["reference"] for t in shown["tasks"]] == ["/do/0/l/for/1/do/0/add", "/do/0/l/for/2/do/0/add", "/do/0/l"]
