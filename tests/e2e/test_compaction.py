"""Compaction with settings that leave nothing alone for long: what clients see of a compacted topic, and that runs, waits,
dead letters and sources of forks outlive it (on both brokers); the embedded log is killed at each step of it."""
import json
import re
import signal
import subprocess
import time

import pytest
from kafka import KafkaConsumer, TopicPartition

import journal
import tm
from group import agent, chain, post

RATIO = {"min.cleanable.dirty.ratio": "0.01"}


def sealed_soon(broker):
    """Kafka refuses segments below 1 MiB and seals one by its age only when a record comes."""
    return {**RATIO, "segment.ms": "1000"} | ({"segment.bytes": "1024"} if isinstance(broker, tm.EmbeddedLog) else {})


def cleaned_to(broker, topic):
    """Up to where the brokers say that partition 0 is compacted."""
    if isinstance(broker, tm.EmbeddedLog):
        lines = broker.err_path.read_text(errors="replace")
        found = re.findall(rf'partition compacted.* topic="?{re.escape(topic)}"? partition=0 .* to=(\d+)', lines)
    else:
        place = broker.dir / "data/cleaner-offset-checkpoint"
        found = re.findall(rf"^{re.escape(topic)} 0 (\d+)$", place.read_text(), re.M) if place.exists() else []
    return int(found[-1]) if found else 0


def until_cleaned(broker, topic, offset, write):
    """Writes on until all below `offset` has been compacted."""
    def done():
        write()
        return cleaned_to(broker, topic) >= offset

    tm.wait_until(done, 120, f"{topic} to be compacted up to {offset}", every_s=0.5)


def needs_files(broker):
    if not hasattr(broker, "dir") and not isinstance(broker, tm.EmbeddedLog):
        pytest.fail("this test looks into its broker's files: not with TIDEMARK_TEST_BOOTSTRAP")


def test_clients_see_the_latest_of_each_key_at_its_offset(broker, name):
    needs_files(broker)
    check_clients(broker, name, "none")


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "snappy"])
def test_clients_read_what_was_compressed_again(embedded_log, name, codec):
    check_clients(embedded_log, name, codec)


def check_clients(broker, name, codec):
    begin = int(time.time() * 1000) - 10_000
    tm.create_topic(broker.bootstrap, name, 1, {"cleanup.policy": "compact", "delete.retention.ms": "86400000",
                                                **sealed_soon(broker)})
    sent = [{"key": f"k{i % 20}", "value": f"{i} {'x' * 50}", "headers": [("n", str(i).encode())],
             "timestamp": begin + i} for i in range(200)]
    sent += [{"key": f"k{i}", "value": None, "timestamp": begin + 200 + i} for i in (3, 7)]
    acked = tm.produce(broker.bootstrap, name, sent, enable_idempotence=True, compression_type=codec, linger_ms=5)
    wrote = {offset: r for (_, offset), r in zip(acked, sent)}
    more = []

    def write():
        more.append({"key": f"end{len(more)}", "value": f"{len(more)}", "timestamp": int(time.time() * 1000)})
        for (_, offset), r in zip(tm.produce(broker.bootstrap, name, more[-1:]), more[-1:]):
            wrote[offset] = r

    until_cleaned(broker, name, len(sent), write)
    seen = tm.read_all(broker.bootstrap, name)
    assert [r.offset for r in seen if r.offset < 200] == [o for o in range(180, 200) if o % 20 not in (3, 7)]
    for r in seen:
        was = wrote[r.offset]
        assert (r.key, r.value, r.time_ms) == (was["key"], was["value"] and was["value"].encode(), was["timestamp"])
        assert r.headers == [(k, v.decode()) for k, v in was.get("headers", [])]
    assert [r.key for r in seen if r.value is None] == ["k3", "k7"]
    assert seen[-1].offset == max(wrote)
    check_other_clients(broker.bootstrap, name, seen, begin)


def check_other_clients(bootstrap, topic, seen, begin):
    out = subprocess.run(["kcat", "-b", bootstrap, "-C", "-t", topic, "-e", "-q", "-o", "beginning", "-f", "%o %k\n"],
                         check=True, timeout=tm.PATIENCE_S, capture_output=True).stdout.decode()
    assert [line.split() for line in out.splitlines()] == [[str(r.offset), r.key] for r in seen]
    part, first = TopicPartition(topic, 0), seen[0]
    c = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, consumer_timeout_ms=1000 * tm.PATIENCE_S)
    try:
        c.assign([part])
        assert c.beginning_offsets([part]) == {part: 0}
        assert c.offsets_for_times({part: begin})[part][:2] == (first.offset, first.time_ms)
        got = []
        for at in (0, seen[3].offset + 1):  # from a hole, and from between two records
            c.seek(part, at)
            want = [r.offset for r in seen if r.offset >= at]
            got = [next(c).offset for _ in want]
            assert got == want
    finally:
        c.close()


def settings_of_journal(broker):
    return {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "-1", **sealed_soon(broker)}


def compacted_group(group, broker, session, **more):
    g = group(broker.bootstrap, partitions=1, topic_partitions=1, session=session, **more)
    tm.alter_topic(g.bootstrap, f"tidemark.{g.name}.runs", settings_of_journal(broker))
    for topic in ("agents", "marks"):
        tm.alter_topic(g.bootstrap, f"tidemark.{g.name}.{topic}", {"cleanup.policy": "compact", **sealed_soon(broker)})
    return g


def latest_of_keys(records):
    return {r.key: r for r in records}


def test_nothing_that_is_needed_is_compacted_away(group, broker, session, ledger):
    needs_files(broker)
    ledger.on("/bad", status=418, times=1)
    g = compacted_group(group, broker, session)
    runs = f"tidemark.{g.name}.runs"
    nap = agent("nap", [{"nap": {"wait": {"hours": 1}}}, {"end": {"set": {"woke": True}}}])
    bad = agent("bad", [{"call": {**post(ledger.url("/bad"), {}), "output": {"as": "${ {done: true} }"}}}])
    g.apply(chain(ledger, "chain"), chain(ledger, "load", wake="t.load", steps=1), nap, bad)
    for _ in range(5):
        g.apply(nap)  # the same key again
    n = g.serve("a", node_id=f"{g.name}-a").start()
    waits, held = g.start_run("t/nap", {}), g.start_run("t/nap", {})
    source, faulted = g.start_run("t/chain", {"n": 1000}), g.start_run("t/bad", {})
    g.cli("runs", "suspend", held, status=0)
    g.wait_ended(2)
    letters = tm.wait_until(lambda: g.cli("dlq", "list", "-o", "jsonl", status=0).out.splitlines(), 60, "a dead letter")
    letter = json.loads(letters[0])["letter"]
    before = g.journal()
    count = [0]

    def load():
        g.publish([tm.event("t.load", {"n": count[0]}, key=str(count[0]))])
        count[0] += 1

    until_cleaned(broker, runs, before[-1].offset + 1, load)
    kept = {r.offset: r for r in g.journal()}
    missing = [r for r in latest_of_keys(before).values() if kept.get(r.offset) != r]
    assert not missing, f"the latest records of their keys are gone or changed: {missing}"
    n.kill9()
    n.start()  # folds what is left
    g.wait_ended(2 + count[0])
    assert g.json("runs", "show", waits)["status"] == "running"
    assert g.json("runs", "show", held)["status"] == "suspended"
    fork = g.cli("runs", "fork", source, "--from", "call1", status=0).out.strip()
    again = g.cli("dlq", "redrive", letter, status=0).out.strip()
    g.cli("runs", "resume", held, status=0)
    for run in (waits, held):
        g.cli("runs", "cancel", run, status=0)
    ended = g.wait_ended(2 + count[0] + 4)
    assert ended[fork].end.type == ended[again].end.type == "run.completed"
    assert {ended[r].end.type for r in (waits, held)} == {"run.cancelled"}
    assert ended[faulted].end.type == "run.faulted"
    n.stop()
    g.check()


POINTS = ["log.clean.after", "log.swap.before", "log.swap.commit", "log.swap.delete:2", "log.swap.rename",
          "log.swap.after", "log.roll.before:2", "log.roll.after:2"]


def test_kills_at_each_step_of_a_compaction_lose_no_run(group, embedded_log, ledger):
    """The log dies eight times under a living node, and is started again."""
    broker = embedded_log
    g = compacted_group(group, broker, "2s")
    # Sealed by age and put together: each second there is something to swap.
    tm.alter_topic(g.bootstrap, f"tidemark.{g.name}.runs", {**settings_of_journal(broker), "segment.bytes": "1000000"})
    g.apply(chain(ledger, "load", wake="t.load"))
    n = g.serve("a", node_id=f"{g.name}-a").start()
    fired, count = g.tmp / "log-failpoints", 0
    p = tm.producer(g.bootstrap, enable_idempotence=True, message_timeout_ms=300000)
    for point in POINTS:
        broker.restart(env={"TIDEMARK_FAILPOINT": point, "TIDEMARK_FAILPOINT_LOG": str(fired)})

        def dead():
            nonlocal count
            p.produce(g.topic, **tm.event("t.load", {"n": count}, id_=str(count), key=str(count)))
            count += 1
            p.poll(0.3)
            return not broker.alive()

        tm.wait_until(dead, 120, f"the log to die at {point}")
        status = broker.wait_exit()
        assert status == -signal.SIGKILL, f"{point}: ended with {status}\n{broker.tail()}"
        assert fired.read_text().splitlines()[-1].split()[:2] == ["failpoint", point.split(":")[0]]
        broker.start()
    assert p.flush(tm.PATIENCE_S) == 0
    ended = g.wait_ended(count)
    assert n.alive()
    n.kill9()
    n.start()
    n.stop()
    assert cleaned_to(broker, f"tidemark.{g.name}.runs") > 0
    seen = g.check()
    assert sorted(r.requests[0].json["input"][0]["n"] for r in seen.runs.values()) == list(range(count))
    assert {r.end.type for r in ended.values()} == {"run.completed"}
    journal.check_effects(ledger.entries())
    assert {(json.loads(e.body)["n"], json.loads(e.body)["step"]) for e in ledger.entries()} == \
        {(i, s) for i in range(count) for s in (0, 1)}


def test_the_offsets_topic_does_not_grow_for_ever(embedded_log, name):
    """Its segments are sealed at 4 MiB; commits of one group leave one record."""
    offsets = embedded_log.data / "__consumer_offsets-0"
    tm.create_topic(embedded_log.bootstrap, name)
    from broker_fixture import consumer
    from confluent_kafka import TopicPartition as At

    c = consumer(embedded_log.bootstrap, name)
    text, n = "m" * 4000, 0
    try:
        def commit():
            nonlocal n
            for _ in range(100):
                n += 1
                c.commit(offsets=[At(name, 0, n, text)], asynchronous=True)
            c.commit(offsets=[At(name, 0, n, text)], asynchronous=False)
            return cleaned_to(embedded_log, "__consumer_offsets") > 500

        tm.wait_until(commit, 120, "the offsets to be compacted")
        assert tm.folder_bytes(offsets) < n * 4000
    finally:
        c.close()
    embedded_log.kill9()
    embedded_log.start()
    assert tm.committed(embedded_log.bootstrap, name, name)[0] == (n, text)
