"""SIGKILL before and after every step that the promises rest on, on real processes; docs/testing.md has the table of
the points. Each case asserts that its failpoint fired, then that I1 to I6 hold of what topics and ledgers show (matrix.py).
The log is shared by the cases of a worker; each case has a group of its own."""
import re

import pytest

import journal
import tm
from folds import Folds
from matrix import Victim, World, next_keys

# NAME/KIND:N, the N-th passing. append: before it goes to the producer; appended: after, the broker may have it or not;
# fact-acked: the broker has it, the node does not know yet; fact-kept: it is known.
PRODUCE = ("append", "appended", "fact-acked", "fact-kept")
FACTS = {"owner": 1, "run.started": 2, "task.started": 3, "task.completed": 9, "task.faulted": 1, "task.caught": 1,
         "run.completed": 2, "run.faulted": 1, "request.settled": 1, "part.state": 2, "run.snapshot": 1}
POINTS = {
    "owner": [f"{p}/owner" for p in PRODUCE] + ["owned"],
    "facts": [f"{p}/{t}:{FACTS[t]}" for t in ("run.started", "task.started", "task.faulted", "task.caught",
                                              "request.settled") for p in ("append", "fact-acked")],
    "checkpoint": [f"{p}/task.completed:{n}" for n in (1, 9) for p in PRODUCE],
    "end": [f"{p}/{t}:{FACTS[t]}" for t in ("run.completed", "run.faulted") for p in PRODUCE],
    "notify": ["notify", "notify-sent", "notify-acked", "notified"],
    "state": [f"{p}/{t}:{FACTS[t]}" for t in ("part.state", "run.snapshot") for p in PRODUCE],
    "mark": [f"{p}/mark:{n}" for n in (1, 2) for p in ("commit", "commit-sent", "commit-acked", "committed")],
    "router": ["source-commit/start", "source-committed/start", "route:1", "route-sent:2", "route-acked:3", "routed:4",
               "source-commit/routed", "source-commit-sent/routed", "source-commit-acked/routed",
               "source-committed/routed"],
    "effect": [f"{p}/{kind}:{n}" for kind, n in (("http", 2), ("process", 1), ("emit", 2))
               for p in ("effect", "effect-begun", "effect-done", "effect-kept")],
}
ALL = [p for points in POINTS.values() for p in points]
TAKEN_OVER = ["fact-acked/owner", "append/run.faulted", "effect-done/http:3", "source-commit/routed"]
STOPPED = ["append/owner", "fact-kept/task.completed:3", "append/run.completed:2", "effect/http:3", "notify",
           "route-acked:2", "append/part.state", "commit/mark"]
CUT = ["cut", "cut-done", "cut-acked"]
OF_THE_LOG = ["log.roll.before:3", "log.roll.after:3", "log.write.after:40", "log.sync.before:30",
              "log.produce.appended:30", "log.produce.durable:30", "log.commit.durable:3"]
COMPACTING = ["log.clean.before", "log.swap.before", "log.swap.commit", "log.swap.rename",
              "log.swap.after", "log.clean.after"]
ON_KAFKA = ["appended/owner", "fact-acked/task.completed:9", "append/run.faulted", "notify-acked",
            "fact-acked/part.state:2", "fact-acked/run.snapshot", "commit-sent/mark", "committed/mark:2",
            "source-commit-acked/routed", "route-sent:2", "effect-done/http:3"]
JOURNAL = {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "-1",
           "min.cleanable.dirty.ratio": "0.01"}
SHORT = "3s"  # where another node waits for a session to end
SMALL = {"state": "100ms", "snapshot": 1}


@pytest.fixture(scope="module")
def shared_log(tidemark_bin, tmp_path_factory):
    log = tm.EmbeddedLog(tidemark_bin, tmp_path_factory.mktemp("matrix"))
    try:
        yield log.start()
        log.stop()
    finally:
        log.close()


@pytest.fixture
def make_world(group, ledger, tidemark_bin, tmp, name):
    def make(bootstrap, segments=None, **more):
        if segments:  # of a few records: the log rolls all the time
            tm.create_topic(bootstrap, f"tidemark.{name}.runs", config={**JOURNAL, "segment.bytes": str(segments)})
        g = group(bootstrap, partitions=1, topic_partitions=1, journal=SMALL, log={"level": "debug"},
                  events={"default": f"{name}.events"}, **more)
        return World(g, ledger, Folds(tidemark_bin, tmp))

    return make


def finish(world, *nodes, **more):
    world.wait_ended()
    for n in nodes:
        n.stop()
    return world.check(*nodes, **more)


def kill_and_restart(world, point):
    victim = Victim(world.g)
    world.publish()
    subject = victim.die_at(point)
    world.look(point)
    world.release()
    victim.node.start()
    finish(world, victim.node)
    if subject and point.startswith("effect"):
        world.check_injected(point, subject)


@pytest.mark.parametrize("point", ALL)
def test_killed_at(make_world, shared_log, point):
    kill_and_restart(make_world(shared_log.bootstrap), point)


@pytest.mark.kafka
@pytest.mark.parametrize("point", ON_KAFKA)
def test_killed_at_on_kafka(make_world, kafka, point):
    kill_and_restart(make_world(kafka.bootstrap, session="6s"), point)


@pytest.mark.parametrize("point", TAKEN_OVER)
def test_another_node_takes_over(make_world, shared_log, point):
    """With another data folder, when the session of the dead one has passed."""
    world = make_world(shared_log.bootstrap, session=SHORT)
    victim, heir = Victim(world.g), Victim(world.g, "b")
    world.publish()
    victim.die_at(point)
    world.look(point)
    world.release()
    heir.node.start(60)
    finish(world, heir.node)


def joined(node):
    return node.err_path.read_text().count("partitions assigned")


@pytest.mark.parametrize("point", STOPPED)
def test_stopped_at_and_continued_when_another_has_finished(make_world, shared_log, point):
    """It goes on at this very place, with everything that it was about to do, while it owns nothing any more (I5)."""
    world = make_world(shared_log.bootstrap, session=SHORT)
    victim, heir = Victim(world.g, static=False), Victim(world.g, "b")
    world.publish()
    victim.stop_at(point)
    at_stop = world.look(point, settled=False)
    world.release()
    heir.node.start(60)
    world.wait_ended()
    before = joined(victim.node)
    victim.node.cont()
    tm.wait_until(lambda: joined(victim.node) > before, 60, "the stopped node to join again")
    # A call begun before the stop may be made after it: the documented hole, with the same key and body.
    finish(world, victim.node, heir.node, owners=3, late=lambda seen: next_keys(at_stop, seen))


def ready_to_cut(make_world, log):
    """A group whose journal may be cut: what was first is at its end, and what comes next is to be done."""
    world = make_world(log.bootstrap, session=SHORT)
    world.release()
    world.publish()
    node = Victim(world.g, static=False).node
    node.start()
    finish(world, node)
    world.g.config["journal"]["history"] = "0s"
    victim = Victim(world.g, "b")
    world.g.config["journal"]["history"] = "7d"
    world.publish()
    return world, victim


def finish_by_a_third(world, victim):
    last = Victim(world.g, "c")
    last.node.start(60)
    finish(world, victim.node, last.node, owners=3)


@pytest.mark.parametrize("point", CUT)
def test_killed_at_the_cut(make_world, shared_log, point):
    """What is left is enough for everything that comes."""
    world, victim = ready_to_cut(make_world, shared_log)
    victim.die_at(point)
    world.look(point)
    assert (world.lows[0] > 0) == (point != "cut")
    finish_by_a_third(world, victim)


@pytest.mark.parametrize("point", ["log.start.before", "log.start.after"])
def test_the_log_killed_at_the_cut(make_world, embedded_log, tmp, point):
    world, victim = ready_to_cut(make_world, embedded_log)
    arm(embedded_log, tmp, point)
    victim.node.ready_re = re.compile("")
    victim.node.start()
    await_death(embedded_log, tmp, point)
    victim.node.kill9()
    embedded_log.start()
    world.look(point)
    assert (world.lows[0] > 0) == (point == "log.start.after")
    finish_by_a_third(world, victim)


def arm(log, tmp, point):
    log.restart(env={"TIDEMARK_FAILPOINT": point, "TIDEMARK_FAILPOINT_LOG": str(tmp / "fired")})


def await_death(log, tmp, point):
    tm.wait_until(lambda: not log.alive(), 60, f"the log to be killed at {point}")
    assert (tmp / "fired").read_text() == f"failpoint {point.split(':')[0]}\n"


@pytest.mark.parametrize("point", OF_THE_LOG + COMPACTING)
def test_the_log_killed_at(make_world, embedded_log, tmp, point):
    """The embedded log dies under a living node, which claims its partition again. No fact's key is written twice, so
    compaction has only tombstones of no one to take away, which stand before the records here."""
    world = make_world(embedded_log.bootstrap, segments=4096)
    world.release()
    if point in COMPACTING:
        for _ in range(8):
            tm.produce(world.g.bootstrap, f"tidemark.{world.g.name}.runs", [("junk", None)] * 60)
    for _ in range(3 if point in COMPACTING else 1):
        world.publish()
    arm(embedded_log, tmp, point)
    node = world.g.serve("a", node_id=f"{world.g.name}-a", ready="")
    node.start()
    await_death(embedded_log, tmp, point)
    embedded_log.start()
    finish(world, node, owners=1)


def test_a_request_is_neither_lost_nor_doubled(make_world, shared_log):
    """runs start killed before its request and after it; repeated under its id it is one run."""
    world = make_world(shared_log.bootstrap)
    victim = Victim(world.g)
    for name in ("request", "requested"):
        fired = world.g.tmp / name
        env = {"TIDEMARK_FAILPOINT": name, "TIDEMARK_FAILPOINT_LOG": str(fired)}
        assert world.ask(name, env=env).status == -9
        assert re.fullmatch(rf"failpoint {name} \w+\n", fired.read_text())
        seen = journal.fold(world.read())
        assert (fired.read_text().split()[2] in seen.runs) == (name == "requested")
        assert world.ask(name).status == 0
    world.publish()
    world.release()
    victim.die_at("fact-acked/run.started:2")
    world.look("fact-acked/run.started:2")
    assert world.ask("requested").status == 0  # its run may have begun already
    victim.node.start()
    seen = finish(world, victim.node)
    again = [r for name in world.asked.values() for r in seen.runs[name].requests[1:]]
    assert [seen.settled[r.partition, r.offset] for r in again] == ["duplicate"] * 3
