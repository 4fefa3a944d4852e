"""Clients that others wrote, against the embedded log and against Apache Kafka: the same test on both, so that what
the embedded log does differently shows. Promise behind it: a laptop's log and a cluster's are interchangeable."""
import shutil
import subprocess

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType

import tm
from broker_fixture import consumer, poll_until

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def kcat(bootstrap, *args, input=None, timeout_s=tm.PATIENCE_S):
    assert shutil.which("kcat"), "kcat is not on PATH; Debian's package is kcat"
    p = subprocess.run(["kcat", "-b", bootstrap, *args], input=input, capture_output=True, timeout=timeout_s)
    assert p.returncode == 0, f"kcat {args}: status {p.returncode}, {p.stderr.decode(errors='replace')}"
    return p.stdout.decode()


def values(records):
    return [r.value.decode() for r in records]


# ---- kcat

@pytest.mark.parametrize("codec", CODECS)
def test_kcat_in_and_out(bootstrap, name, codec):
    tm.create_topic(bootstrap, name)
    sent = [f"line {i} " + "x" * 200 for i in range(200)]
    kcat(bootstrap, "-P", "-t", name, "-z", codec, "-X", "acks=all", input="\n".join(sent).encode())
    assert kcat(bootstrap, "-C", "-t", name, "-e", "-q", "-o", "beginning").splitlines() == sent


def test_kcat_keys_and_headers(bootstrap, name):
    tm.create_topic(bootstrap, name)
    kcat(bootstrap, "-P", "-t", name, "-K", ":", "-H", "ce_type=a.b", "-H", "empty=", input=b"k1:v1\n")
    out = kcat(bootstrap, "-C", "-t", name, "-e", "-q", "-f", "%k|%s|%h|%o\n")
    assert out == "k1|v1|ce_type=a.b,empty=|0\n"


def test_kcat_lists_topics(bootstrap, name):
    tm.create_topic(bootstrap, name, 3)
    assert f'topic "{name}" with 3 partitions' in kcat(bootstrap, "-L", "-t", name)


# ---- confluent-kafka (librdkafka)

@pytest.mark.parametrize("codec", CODECS)
def test_idempotent_producer_every_compression(bootstrap, name, codec):
    tm.create_topic(bootstrap, name, 2)
    sent = [(f"k{i % 7}", f"{i}:" + "payload " * 20) for i in range(500)]
    acked = tm.produce(bootstrap, name, sent, enable_idempotence=True, compression_type=codec, acks="all")
    seen = {(r.partition, r.offset): r for r in tm.read_all(bootstrap, name)}
    assert len(seen) == len(set(acked)) == len(sent)
    for at, (key, value) in zip(acked, sent):
        assert (seen[at].key, seen[at].value.decode()) == (key, value)


def test_headers_times_and_nulls_come_back(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"retention.ms": "-1"})  # the records are of 2023
    tm.produce(bootstrap, name, [
        {"key": b"k", "value": None, "timestamp": 1_700_000_000_000},
        {"key": None, "value": b"", "headers": [("a", b"1"), ("a", None), ("b", b"")]},
    ])
    first, second = tm.read_all(bootstrap, name)
    assert (first.key, first.value, first.time_ms, first.headers) == ("k", None, 1_700_000_000_000, [])
    assert (second.key, second.value, second.headers) == (None, b"", [("a", "1"), ("a", None), ("b", "")])


def test_offsets_by_time_and_watermarks(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"retention.ms": "-1"})  # the records are of 2023
    tm.produce(bootstrap, name, [{"value": b"v", "timestamp": 1_700_000_000_000 + 1000 * i} for i in range(10)])
    c = consumer(bootstrap, name)
    try:
        assert c.get_watermark_offsets(TopicPartition(name, 0), timeout=tm.PATIENCE_S) == (0, 10)
        at = c.offsets_for_times([TopicPartition(name, 0, 1_700_000_004_500)], timeout=tm.PATIENCE_S)[0]
        assert at.offset == 5
        after = c.offsets_for_times([TopicPartition(name, 0, 1_800_000_000_000)], timeout=tm.PATIENCE_S)[0]
        assert after.offset < 0 or after.offset == 10
    finally:
        c.close()


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_group_rebalances_and_keeps_offsets(bootstrap, name, strategy):
    tm.create_topic(bootstrap, name, 4)
    a, b = (consumer(bootstrap, name, partition_assignment_strategy=strategy) for _ in range(2))
    try:
        a.subscribe([name])
        poll_until([a], lambda _: len(a.assignment()) == 4, 30, "one member with all four partitions")
        b.subscribe([name])
        poll_until([a, b], lambda _: len(a.assignment()) == len(b.assignment()) == 2, 30, "two members with two each")
        sent = [{"value": str(i), "partition": i % 4} for i in range(40)]
        tm.produce(bootstrap, name, sent)
        got = poll_until([a, b], lambda g: len(g) >= 40, 30, "40 records")
        assert sorted(map(int, got)) == list(range(40))
        a.commit(asynchronous=False)
        b.commit(asynchronous=False)
        b.close()
        poll_until([a], lambda _: len(a.assignment()) == 4, 30, "the one that stays with all four")
        assert {p: at for p, (at, _) in tm.committed(bootstrap, name, name).items()} == dict.fromkeys(range(4), 10)
    finally:
        a.close()
        b.close()


def test_static_member_comes_back_without_rebalance(bootstrap, name):
    tm.create_topic(bootstrap, name, 2)
    a = consumer(bootstrap, name, group_instance_id="one", session_timeout_ms=60000)
    b = consumer(bootstrap, name, group_instance_id="two", session_timeout_ms=60000)
    try:
        a.subscribe([name])
        b.subscribe([name])
        poll_until([a, b], lambda _: len(a.assignment()) == len(b.assignment()) == 1, 40, "one partition each")
        mine = a.assignment()[0].partition
        a.close()
        a = consumer(bootstrap, name, group_instance_id="one", session_timeout_ms=60000)
        a.subscribe([name])
        poll_until([a, b], lambda _: len(a.assignment()) == 1, 15, "its partition again")
        assert a.assignment()[0].partition == mine
        assert [p.partition for p in b.assignment()] == [1 - mine]
    finally:
        a.close()
        b.close()


def test_commit_carries_metadata(bootstrap, name):
    tm.create_topic(bootstrap, name)
    c = consumer(bootstrap, name)
    try:
        at = TopicPartition(name, 0, 7, metadata="x" * 3000)
        c.commit(offsets=[at], asynchronous=False)
    finally:
        c.close()
    assert tm.committed(bootstrap, name, name) == {0: (7, "x" * 3000)}


# ---- admin

def test_admin_topics(bootstrap, name):
    client = tm.admin(bootstrap)
    tm.create_topic(bootstrap, name, 1, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
    resource = ConfigResource(ResourceType.TOPIC, name)

    def config():
        return {k: v.value for k, v in client.describe_configs([resource])[resource].result(tm.PATIENCE_S).items()}

    seen = config()
    assert (sorted(seen["cleanup.policy"].split(",")), seen["retention.ms"]) == (["compact", "delete"], "-1")

    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[
        ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)])
    client.incremental_alter_configs([change])[change].result(tm.PATIENCE_S)
    tm.wait_until(lambda: config()["retention.ms"] == "60000", 10, "retention.ms=60000")

    client.create_partitions([NewPartitions(name, 3)])[name].result(tm.PATIENCE_S)
    tm.wait_until(lambda: tm.partitions_of(bootstrap, name) == [0, 1, 2], 10, "three partitions")

    client.delete_topics([name], operation_timeout=tm.PATIENCE_S)[name].result(tm.PATIENCE_S)
    tm.wait_until(lambda: tm.partitions_of(bootstrap, name) == [], 10, "the topic gone")


def test_delete_records_moves_the_start(bootstrap, name):
    tm.create_topic(bootstrap, name)
    tm.produce(bootstrap, name, [str(i) for i in range(10)])
    client = tm.admin(bootstrap)
    at = TopicPartition(name, 0, 4)
    assert client.delete_records([at])[at].result(tm.PATIENCE_S).low_watermark == 4
    assert values(tm.read_all(bootstrap, name)) == ["4", "5", "6", "7", "8", "9"]


# ---- kafka-python

@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_kafka_python_producer(bootstrap, name, codec):
    import kafka

    tm.create_topic(bootstrap, name)
    p = kafka.KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, acks="all", linger_ms=5)
    try:
        acks = [p.send(name, key=b"k%d" % i, value=b"v%d" % i, headers=[("h", b"%d" % i)]) for i in range(100)]
        assert [a.get(20).offset for a in acks] == list(range(100))
    finally:
        p.close(5)
    seen = tm.read_all(bootstrap, name)
    assert [(r.key, r.value.decode(), r.header("h")) for r in seen] == [
        (f"k{i}", f"v{i}", str(i)) for i in range(100)]


def test_kafka_python_group(bootstrap, name):
    import kafka

    tm.create_topic(bootstrap, name, 2)
    tm.produce(bootstrap, name, [{"value": str(i), "partition": i % 2} for i in range(20)], compression_type="lz4")
    c = kafka.KafkaConsumer(name, bootstrap_servers=bootstrap, group_id=name, auto_offset_reset="earliest",
                            enable_auto_commit=False, consumer_timeout_ms=1000 * tm.PATIENCE_S)
    try:
        got = [next(c).value for _ in range(20)]
        assert sorted(map(int, got)) == list(range(20))
        c.commit()
    finally:
        c.close()
    assert {p: at for p, (at, _) in tm.committed(bootstrap, name, name).items()} == {0: 10, 1: 10}


# ---- faults

def test_acknowledged_records_and_commits_outlive_a_kill(broker, name):
    """I2: what was acknowledged before SIGKILL is there after it, under the same offsets."""
    tm.create_topic(broker.bootstrap, name, 2)
    acked = tm.produce(broker.bootstrap, name, [str(i) for i in range(200)], acks="all")
    c = consumer(broker.bootstrap, name)
    try:
        c.commit(offsets=[TopicPartition(name, 0, 5)], asynchronous=False)
    finally:
        c.close()
    broker.kill9()
    broker.start()
    tm.wait_until(lambda: tm.partitions_of(broker.bootstrap, name) == [0, 1], 40, f"{name} after the restart")
    seen = {(r.partition, r.offset): r.value.decode() for r in tm.read_all(broker.bootstrap, name)}
    assert seen == {at: str(i) for i, at in enumerate(acked)}
    assert tm.committed(broker.bootstrap, name, name)[0][0] == 5


def test_idempotent_producer_across_kills_writes_once(broker, name):
    """The broker dies under a producer that retries: each record once, in order, none missing."""
    tm.create_topic(broker.bootstrap, name)
    p, errors = tm.producer(broker.bootstrap, enable_idempotence=True, message_timeout_ms=300000), []
    total, kill_at = 3000, {1000}
    for i in range(total):
        if i in kill_at:
            broker.kill9()
            broker.start()
        p.produce(name, str(i), partition=0, on_delivery=lambda e, _: e and errors.append(e))
        p.poll(0)
    assert p.flush(tm.PATIENCE_S) == 0
    assert errors == []
    assert values(tm.read_all(broker.bootstrap, name)) == [str(i) for i in range(total)]
