"""A journal of a real run that holds every type of record that this version writes, for test_schemas.py.

Requests that only a later version acts on are written by hand, as any node may."""
import json
import uuid

import tm
from group import agent, post

PRIORITY = {"metadata": {"tidemark": {"key": "${ .data.who }", "priority": 2}}}
# What stands in no journal of this version: known to engine/core/rec.c, written by nobody.
RESERVED = {"run.rewound", "run.purged", "schedule.fired"}
BY_HAND = ("run.retry", "run.rewind", "run.purge", "event.delivered")


def definitions(ledger):
    work = agent("work", [
        {"box": {"do": [{"first": {"set": {"n": "${ .n }"}, "export": {"as": "${ {kept: .n} }"}}},
                        {"never": {"if": "${ false }", "set": {"n": 0}}}]}},
        {"call": {**post(ledger.url("/ok"), {"n": "${ .n }"}), "output": {"as": "${ $input }"}}},
        {"nap": {"wait": {"milliseconds": 1}}},
        {"loop": {"for": {"in": "${ [1, 2, 3] }"}, "do": [
            {"odd": {"switch": [{"stop": {"when": "$item == 2", "then": "exit"}}]}}]}},
        {"risky": {"try": [{"boom": {"raise": {"error": {"type": "https://x.y/no", "status": 409}}}}],
                   "catch": {"retry": {"delay": {"milliseconds": 1},
                                       "limit": {"attempt": {"count": 1, "duration": "PT1H"}}},
                             "do": [{"note": {"set": "${ . }"}}]}}},
        {"tell": {"emit": {"event": {"with": {"type": "t.told", "data": "${ . }"}}},
                  "metadata": {"tidemark": {"topic": "TOPIC"}}}},
    ], "t.work", input={"from": "${ .[0] }"}, timeout={"after": "PT1H"})
    work["document"].update(PRIORITY)
    return [work,
            agent("bad", [{"call": post(ledger.url("/bad"), {})}], "t.bad"),
            agent("long", [{"box": {"timeout": {"after": "P1D"}, "for": {"in": "${ [1] }"}, "do": [
                {"t": {"try": [{"nap": {"wait": {"hours": 1}}}], "catch": {}}}]}}]),
            agent("hopeful", [{"t": {"try": [{"no": {"raise": {"error": {"type": "https://x.y/no", "status": 409}}}}],
                                     "catch": {"retry": {"delay": {"hours": 1}, "limit": {"attempt": {"count": 1}}},
                                               "do": []}}}]),
            agent("bulk", [{"a": {"set": {"n": 1}}}], "t.bulk")]


def hand_written(bootstrap, name, run):
    """Requests without a writer in this version; the owner settles each."""
    topic = f"tidemark.{name}.runs"
    records = [{"key": f"{run}/?{t.split('.')[1]}/{uuid.uuid4()}", "value": b"{}", "partition": 0,
                "headers": [("tm-v", b"1"), ("tm-type", t.encode())]} for t in BY_HAND]
    # One with a key, whose definition nobody knows: it is accepted, and waits.
    records.append({"key": f"0000{'0' * 26}/?requested/{uuid.uuid4()}", "partition": 0,
                    "value": b'{"agent":"t/late","version":"1.0.0","input":{}}',
                    "headers": [("tm-v", b"1"), ("tm-type", b"run.requested"), ("tm-agent", b"0" * 64),
                                ("tm-idem", b"0123456789abcdef")]})
    tm.produce(bootstrap, topic, records)


def settled(g):
    return [r for r in g.journal() if r.type == "request.settled"]


def record(group, log, ledger):
    """The group after the run; its node has stopped."""
    ledger.on("/bad", status=418)
    g = group(log.bootstrap, partitions=1, topic_partitions=1)
    made = json.loads(json.dumps(definitions(ledger)).replace("TOPIC", g.topic))
    g.apply(*made)
    n = g.serve("a").start()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    g.publish([tm.event("t.work", {"n": 1, "who": "ada"}, traceparent=trace), tm.event("t.bad", {}),
               {**tm.event("t.work", None), "value": b"{"}])
    large = g.tmp / "large.json"
    large.write_text(json.dumps({"text": "x" * 140_000}))
    pinned = g.start_run("t/long", f"@{large}")  # holds the mark: a snapshot in pieces follows
    g.cli("runs", "suspend", pinned, status=0)
    g.cli("runs", "resume", pinned, status=0)
    cancelled = g.start_run("t/long", {}, key="k")
    g.cli("runs", "cancel", cancelled, "--reason", "enough", status=0)
    hopeful = g.start_run("t/hopeful", {})
    tm.wait_until(lambda: g.cli("runs", "retry", hopeful).status == 0, 60, "a retry that waits", every_s=0.2)
    work = [r for r, x in g.wait_ended(4).items() if x.end.type == "run.completed"][0]
    g.cli("runs", "fork", work, "--from", "call", status=0)
    hand_written(g.bootstrap, g.name, work)
    tm.wait_until(lambda: len(settled(g)) >= len(BY_HAND), 30, "what nobody wants to be settled", every_s=0.2)
    g.publish([tm.event("t.bulk", {"text": "y" * 250_000}) for _ in range(10)])
    tm.wait_until(lambda: [r for r in g.journal() if r.type == "run.snapshot"], 60, "a snapshot", every_s=0.5)
    tm.wait_until(lambda: len(letters(g)) == 2, 30, "two dead letters", every_s=0.2)
    n.stop()  # a drained node leaves a part.state
    return g


def letters(g):
    return tm.read_all(g.bootstrap, f"tidemark.{g.name}.dlq")
