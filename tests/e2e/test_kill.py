"""SIGKILL between any two steps of a run, on both brokers. After each kill the topics and the ledger of the outside
world say what must hold: I1, I3, I4, I5 (journal.py); what had a checkpoint before the kill is not done again; what
was repeated had the same key and body."""
import json
import signal

import pytest

import journal
import tm
from group import chain, task_of

# Two ownerships and, a run, 6 facts of steps and effects each way: the counts go past the end of a run.
APPENDS = [f"append:{n}" for n in range(1, 13)]
ACKS = [f"fact-acked:{n}" for n in range(1, 13)]
EFFECTS = [f"{p}:{n}" for p in ("effect", "effect-done") for n in (1, 2)]
COMMITS = ["commit:1", "commit:3"]


class Victim:
    """A static member, so that each restart has its partitions at once; killed again and again by failpoints."""

    def __init__(self, group, session):
        self.group = group
        self.fired = group.tmp / "failpoints"
        self.node = group.serve("a", node_id=f"{group.name}-a")
        self.kills, self.before = [], {}

    def die_at(self, point):
        fired = self.fired.read_text().count("\n") if self.fired.exists() else 0
        ready, self.node.ready_re = self.node.ready_re, tm.re.compile("")
        self.node.start(env={"TIDEMARK_FAILPOINT": point, "TIDEMARK_FAILPOINT_LOG": str(self.fired)})
        self.node.ready_re = ready
        status = self.node.wait_exit(40)
        assert status == -signal.SIGKILL, f"{point}: ended with {status}\n{self.node.tail()}"
        lines = self.fired.read_text().splitlines()
        assert len(lines) == fired + 1 and lines[-1].split()[:2] == ["failpoint", point.split(":")[0]]
        self.kills.append(point)

    def note_done(self, ledger):
        """What has a checkpoint now must have been called for the last time."""
        seen = journal.fold(self.group.journal())
        calls = {}
        for e in ledger.entries():
            what = json.loads(e.body)
            calls[what["n"], what["step"]] = calls.get((what["n"], what["step"]), 0) + 1
        for run in seen.runs.values():
            n = run.requests[0].json["input"]["n"]
            for (ref, *_), found in run.results.items():
                name = ref.rsplit("/", 1)[1]
                if name.startswith("call") and found[0].type == "task.completed":
                    self.before.setdefault((n, int(name[4:])), (calls.get((n, int(name[4:])), 0), self.kills[-1]))


def calls_of(ledger):
    calls = {}
    for e in ledger.entries():
        what = json.loads(e.body)
        calls[what["n"], what["step"]] = calls.get((what["n"], what["step"]), 0) + 1
    return calls


@pytest.mark.parametrize("points", [APPENDS, ACKS, EFFECTS + COMMITS], ids=["append", "acked", "effect"])
def test_kills_between_any_two_steps(group, broker, session, ledger, points):
    g = group(broker.bootstrap, partitions=2, session=session)
    g.apply(chain(ledger, "chain"))
    victim = Victim(g, session)
    committed = None
    for i, point in enumerate(points):
        g.start_run("t/chain", {"n": i}, key=str(i))
        victim.die_at(point)
        victim.note_done(ledger)
        seen = journal.fold(g.journal())
        assert not seen.broken, seen.broken
        now = g.committed()
        journal.check_tide_mark(seen, now, committed)
        committed = now
    victim.node.start()
    ended = g.wait_ended(len(points))
    victim.node.stop()
    seen = g.check()
    assert {r.end.type for r in ended.values()} == {"run.completed"}
    assert sorted(r.requests[0].json["input"]["n"] for r in seen.runs.values()) == list(range(len(points)))
    journal.check_effects(ledger.entries())
    calls = calls_of(ledger)
    assert set(calls) == {(n, step) for n in range(len(points)) for step in (0, 1)}
    again = {what: f"{calls[what]} calls, {n} before the kill at {point}" for what, (n, point) in victim.before.items()
             if calls[what] != n}
    assert not again, f"steps with a checkpoint were done again: {again}"
    journal.check_repeats(seen, ledger.entries(), task_of(seen))


def test_kills_under_load_lose_and_double_no_event(group, broker, session, ledger):
    """Router and owner die in the middle of 150 events, three times."""
    g = group(broker.bootstrap, partitions=4, session=session)
    g.apply(chain(ledger, "load", wake="t.load"))
    n = g.serve("a", node_id=f"{g.name}-a").start()
    events = [tm.event("t.load", {"n": i}, id_=str(i), key=str(i)) for i in range(150)]
    g.publish(events[:100])
    for calls in (20, 120, 200):
        ledger.wait(calls, timeout_s=60)
        n.kill9()
        if calls == 20:
            g.publish(events[100:])
        n.start(60)
    ended = g.wait_ended(150, 90)
    n.stop()
    seen = g.check()
    assert sorted(r.requests[0].json["input"][0]["n"] for r in seen.runs.values()) == list(range(150))
    assert {r.end.type for r in ended.values()} == {"run.completed"}
    journal.check_effects(ledger.entries())
    assert set(calls_of(ledger)) == {(i, s) for i in range(150) for s in (0, 1)}
    journal.check_repeats(seen, ledger.entries(), task_of(seen))


def test_the_brokers_death_stops_nothing(group, broker, session, ledger):
    """The broker dies and comes back under a living node: the backlog drains by itself (I8)."""
    if not hasattr(broker, "kill9"):
        pytest.fail("this test kills its broker: not with TIDEMARK_TEST_BOOTSTRAP")
    g = group(broker.bootstrap, partitions=2, session=session)
    g.apply(chain(ledger, "load", wake="t.load"))
    n = g.serve("a").start()
    g.publish([tm.event("t.load", {"n": i}, id_=str(i)) for i in range(40)])
    ledger.wait(15)
    broker.kill9()
    broker.start()
    g.wait_ended(40, 90)
    assert n.alive()
    n.stop()
    seen = g.check()
    assert len(seen.runs) == 40
    journal.check_effects(ledger.entries())


def test_a_faulted_runs_letter_outlives_a_kill(group, broker, session, ledger):
    """Killed between the end fact and the dead letter: the next owner sends it."""
    ledger.on("/call0", status=500)
    g = group(broker.bootstrap, partitions=1, session=session)
    g.apply(chain(ledger, "chain"))
    victim = Victim(g, session)
    run = g.start_run("t/chain", {"n": 0})
    victim.die_at("notify:1")
    assert journal.fold(g.journal()).runs[run].end.type == "run.faulted"
    victim.node.start()
    letters = tm.wait_until(lambda: [r for r in tm.read_all(g.bootstrap, f"tidemark.{g.name}.dlq")], 20, "the letter")
    assert [r.header("tm-dlq-run") for r in letters] == [run]
    victim.node.stop()
    g.check()
