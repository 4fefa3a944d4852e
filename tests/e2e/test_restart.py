"""Bounded restart: a fold begins at the latest part.state, whatever has been before it; what is cut away is what nothing
needs; a waiting run is moved along by a snapshot."""
import os

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import journal
import tm
from group import agent, chain

# Release builds do more in the same time; ./run test runs under ASan.
ROUND = int(os.environ.get("TIDEMARK_TEST_RUNS", "600"))
SMALL = agent("small", [{f"s{i}": {"set": {"n": "${ .n }", "step": i}}} for i in range(4)], "t.small",
              input={"from": "${ .[0] }"})


def publish(g, start, count):
    g.publish([tm.event("t.small", {"n": i}, id_=str(i)) for i in range(start, start + count)])


def settle(g, n):
    """Drained: the last part.state is written and committed."""
    n.stop()
    state = {}
    for r in g.journal():
        if r.type == "part.state":
            state[r.partition] = int(r.header("tm-at"))
    return state


def test_a_restart_reads_from_the_latest_part_state(group, embedded_log):
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1)
    g.apply(SMALL)
    n = g.serve("a", node_id="a").start()
    tail = []
    for i in range(3):
        publish(g, i * ROUND, ROUND)
        g.wait_ended((i + 1) * ROUND, 120)
        state = settle(g, n)
        offset, metadata = g.committed()[0]
        # What the next owner has to fold: from the state that the commit names to the end.
        end = g.journal()[-1].offset + 1
        assert state and state[0] >= end - 50, f"part.state at {state} of {end}"
        assert f"{state[0]}" in metadata, (metadata, state)
        assert offset >= end - 50, f"committed {offset} of {end}"
        tail.append(end - state[0])
        n.start(60)
    n.stop()
    assert max(tail) <= 50
    seen = g.check()
    assert len(seen.runs) == 3 * ROUND


def test_events_routed_again_are_known_after_a_restart(group, embedded_log):
    """The router's commits are set back, as after one that was lost: the floors in part.state judge what it routes again,
    though the runs ended and the fold begins behind them."""
    g = group(embedded_log.bootstrap, partitions=2, topic_partitions=1)
    g.apply(SMALL)
    n = g.serve("a", node_id="a").start()
    publish(g, 0, 50)
    g.wait_ended(50)
    n.restart(60)
    publish(g, 50, 10)
    g.wait_ended(60)
    n.stop()
    router = f"tidemark.{g.name}.router"
    at, metadata = tm.committed(g.bootstrap, router, g.topic)[0]
    assert at == 60 and metadata.startswith("inc=")
    c = Consumer({"bootstrap.servers": g.bootstrap, "group.id": router, "enable.auto.commit": False, "log_level": 0})

    def set_back():
        """Refused while the node is a member: its leaving may still be on its way."""
        try:
            c.commit(offsets=[TopicPartition(g.topic, 0, 20, metadata)], asynchronous=False)
            return True
        except KafkaException as e:
            if e.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID:
                raise
            return False

    tm.wait_until(set_back, 30, "the router's group to be empty", every_s=0.2)
    c.close()
    n.start(60)
    publish(g, 60, 5)
    g.wait_ended(65)
    tm.wait_until(lambda: tm.committed(g.bootstrap, router, g.topic)[0][0] == 65, 20, "all to be routed", every_s=0.2)
    tm.wait_until(lambda: not journal.fold(g.journal()).unfinished(), 20, "all to be judged", every_s=0.2)
    n.stop()
    seen = g.check()
    assert len(seen.runs) == 65 and list(seen.settled.values()).count("duplicate") == 40


def test_the_journal_is_cut_below_its_history(group, embedded_log):
    """journal.history 0: what ended is cut at the next starting point, and the group goes on."""
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1, journal={"history": "0s"})
    g.apply(SMALL)
    n = g.serve("a", node_id="a").start()
    publish(g, 0, 100)
    g.wait_ended(100)
    n.restart(60)  # a hand-over writes a part.state; the commit names it

    def cut():
        first = next(iter(g.journal()), None)
        return first is not None and first.offset

    low = tm.wait_until(cut, 90, "the journal to be cut", every_s=0.3)
    assert low > 100
    n.restart(60)
    publish(g, 100, 10)
    ended = tm.wait_until(lambda: g.json("runs", "list", "--count").get("completed", 0) >= 10, 30, "ten more runs")
    assert ended
    n.stop()
    # Runs whose request was cut are not reported as broken: only their facts' owner counts here.
    fresh = [r for r in g.journal() if r.type == "run.requested"]
    assert len(fresh) >= 10


def test_a_run_that_waits_does_not_hold_what_comes_after(group, embedded_log, ledger):
    """A waiting run survives kills; the others' ends are committed when its snapshot has moved its pin."""
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1)
    g.apply(SMALL, agent("sleeper", [{"a": {"set": {"n": 1}}}, {"rest": {"wait": {"seconds": 6}}},
                                     {"b": {"set": {"done": True}}}]))
    n = g.serve("a", node_id="a").start()
    run = g.start_run("t/sleeper", {})
    tm.wait_until(lambda: any(r.type == "task.waiting" for r in g.journal()), 20, "the wait to begin", every_s=0.1)
    publish(g, 0, 60)
    g.wait_ended(60)
    n.kill9()
    n.start(60)
    journal.check_tide_mark(journal.fold(g.journal()), g.committed())
    done = g.json("runs", "watch", run, "--timeout", "120")
    assert done["status"] == "completed" and done["output"] == {"done": True}
    waits = [r for r in g.journal() if r.type == "task.waiting"]
    assert len(waits) == 1  # it is persistent: not begun again
    n.stop()
    g.check()


def test_sigterm_drains(group, embedded_log, ledger):
    """A call under way ends, its result is acknowledged, and the next start does not call again."""
    ledger.on("/call0", delay_s=1)
    g = group(embedded_log.bootstrap, partitions=2)
    g.apply(chain(ledger, "chain"))
    n = g.serve("a", node_id="a").start()
    g.start_run("t/chain", {"n": 1})
    ledger.wait(1, "/call0")
    n.restart(60)
    g.wait_ended(1)
    n.stop()
    g.check()
    assert journal.check_effects(ledger.entries()) == {}


def test_memory_returns_to_its_baseline(group, embedded_log):
    """I10, roughly: a node that did four times the work is not four times as large. Without the sanitizer's quarantine,
    which keeps what was freed (256 MiB, filled by any work)."""
    g = group(embedded_log.bootstrap, partitions=2, topic_partitions=1)
    g.apply(SMALL)
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=0"]))
    n = g.serve("a", node_id="a", env={"ASAN_OPTIONS": sanitizer}).start()
    publish(g, 0, ROUND)
    g.wait_ended(ROUND, 120)
    first = n.memory_bytes()
    publish(g, ROUND, 3 * ROUND)
    g.wait_ended(4 * ROUND, 120)
    assert n.memory_bytes() < first * 1.5 + (16 << 20)
    n.stop()


def test_events_wait_until_the_definitions_are_read(group, embedded_log):
    """A node that starts has events before it has the whole table of agents: an event must not pass as one that wakes
    nobody."""
    g = group(embedded_log.bootstrap, partitions=1, topic_partitions=1)
    table = f"tidemark.{g.name}.agents"
    tm.produce(g.bootstrap, table, [(f"other/{i}", b"x" * 900) for i in range(30000)])
    g.apply(SMALL)
    publish(g, 0, 5)
    n = g.serve("a", node_id="a").start(60)
    g.wait_ended(5, 60)
    n.stop()
    g.check()
