"""Two nodes of one group, on both brokers: one killed, one stopped past its session and continued (its results are void
and never used), nodes that come and go while runs go on."""
import json

import journal
import tm
from group import agent, chain, post, task_of


def numbers(seen):
    return sorted(r.requests[0].json["input"][0]["n"] for r in seen.runs.values())


def owners(g, records=None):
    """{partition: node of the latest `owner`}."""
    return {r.partition: r.json["node"] for r in records or g.journal() if r.type == "owner"}


def two(g):
    a, b = g.serve("a", node_id="a"), g.serve("b", node_id="b")
    a.start()
    b.start(60)
    tm.wait_until(lambda: set(owners(g).values()) == {"a", "b"}, 60, "each node to own a partition", every_s=0.2)
    return a, b


def publish(g, numbers_):
    g.publish([tm.event("t.load", {"n": i}, id_=str(i), key=str(i)) for i in numbers_])


def test_one_is_killed_and_the_other_finishes(group, broker, session, ledger):
    g = group(broker.bootstrap, partitions=4, session=session)
    g.apply(chain(ledger, "load", wake="t.load"))
    a, b = two(g)
    publish(g, range(60))
    ledger.wait(30)
    a.kill9()
    g.wait_ended(60, 60)
    b.stop()
    seen = g.check()
    assert numbers(seen) == list(range(60))
    assert set(owners(g).values()) == {"b"}
    journal.check_effects(ledger.entries())
    journal.check_repeats(seen, ledger.entries(), task_of(seen))


def two_calls(ledger):
    """Two world-changing calls that say who makes them: $secrets differs from node to node and reaches no record."""
    do = [{f"call{i}": {**post(ledger.url(f"/call{i}"), {"n": "${ .[0].n }", "step": i},
                               headers={"X-Node": "${ $secrets.node }"}), "output": {"as": "${ $input }"}}}
          for i in range(2)]
    return agent("load", do, "t.load", use={"secrets": ["node"]})


def calls_by(ledger, name):
    return [(e.path, e.key) for e in ledger.entries() if e.headers["x-node"] == name]


def test_one_stopped_past_its_session_is_fenced(group, broker, session, ledger):
    """It is stopped between the answer of a call and the fact that tells of it, and goes on when another has ended its
    runs. What it writes then is void and not used, and it calls nobody until it owns a partition again."""
    g = group(broker.bootstrap, partitions=2, session=session)
    g.apply(two_calls(ledger))
    a, b = (g.serve(x, node_id=x, env={"TIDEMARK_SECRET_NODE": x}) for x in "ab")
    ledger.on("/call0", hang=True)
    fired = g.tmp / "fired"
    a.start(env={"TIDEMARK_FAILPOINT": "append/task.completed", "TIDEMARK_FAILPOINT_SIGNAL": "STOP",
                 "TIDEMARK_FAILPOINT_LOG": str(fired)})
    publish(g, range(20))
    ledger.wait(20, "/call0", 60)
    ledger.release()
    a.wait_stopped(60)
    assert fired.read_text().startswith("failpoint append/task.completed ")
    b.start(60)
    tm.wait_until(lambda: set(owners(g).values()) == {"b"}, 60, "b to own all", every_s=0.2)
    g.wait_ended(20, 60)
    before = calls_by(ledger, "a")
    assert {path for path, _ in before} == {"/call0"}
    a.cont()
    tm.wait_until(lambda: set(owners(g).values()) == {"a", "b"}, 60, "each node to own a partition", every_s=0.2)
    assert calls_by(ledger, "a") == before
    publish(g, range(20, 24))
    g.wait_ended(24, 60)
    a.stop()
    b.stop()
    seen = g.check()
    assert numbers(seen) == list(range(24))
    journal.check_effects(ledger.entries())
    journal.check_repeats(seen, ledger.entries(), task_of(seen))
    # The fact that was on its way is in the log, after the owner that made it void.
    late = next(r for r in seen.void if r.type == "task.completed")
    run = seen.runs[journal.run_of(late)]
    assert run.end.offset < late.offset and late.header("tm-nonce") != run.end.header("tm-nonce")
    shown = g.json("runs", "history", journal.run_of(late))
    assert any(r["void"] for r in shown) and json.dumps(shown).count('"run.completed"') == 1


def test_a_rebalance_lets_calls_under_way_end(group, broker, ledger):
    """Another node joins while calls are under way: the partitions change hands when the calls have been answered and
    their results are in the log, so that nobody makes them again."""
    g = group(broker.bootstrap, partitions=2, handover="20s")
    g.apply(chain(ledger, "load", wake="t.load"))
    ledger.on("/call0", hang=True)
    a, b = g.serve("a").start(), g.serve("b", ready="")
    publish(g, range(10))
    ledger.wait(10, "/call0")
    b.start()
    tm.wait_until(lambda: "partitions revoked" in a.err_path.read_text(), what="the rebalance to begin")
    ledger.release()
    g.wait_ended(10)
    tm.wait_until(lambda: len(set(owners(g).values())) == 2, what="each node to own a partition", every_s=0.2)
    a.stop()
    b.stop()
    g.check()
    assert journal.check_effects(ledger.entries()) == {}
    assert len(ledger.entries()) == 20


def test_nodes_come_and_go_while_runs_go_on(group, broker, session, ledger):
    g = group(broker.bootstrap, partitions=4, session=session)
    g.apply(chain(ledger, "load", wake="t.load", steps=3))
    ledger.on("/call1", delay_s=0.3)
    a = g.serve("a").start()
    publish(g, range(25))
    b = g.serve("b").start(60)
    publish(g, range(25, 50))
    c = g.serve("c").start(60)
    a.stop()
    b.stop()
    g.wait_ended(50, 60)
    c.stop()
    seen = g.check()
    assert numbers(seen) == list(range(50))
    assert {r.end.type for r in seen.runs.values()} == {"run.completed"}
    # A rebalance takes partitions away from calls under way: repeated with the same key and body, or not at all.
    journal.check_effects(ledger.entries())
    journal.check_repeats(seen, ledger.entries(), task_of(seen))
