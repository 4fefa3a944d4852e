"""Consumer groups and committed offsets, seen by clients that others wrote, on both brokers."""
import time

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

import tm
from broker_fixture import consumer, poll_until


def error_of(fn):
    with pytest.raises(KafkaException) as e:
        fn()
    return e.value.args[0].code()


def test_described_listed_and_deleted(bootstrap, name):
    tm.create_topic(bootstrap, name, 2)
    client = tm.admin(bootstrap)
    c = consumer(bootstrap, name, client_id="the-client")
    try:
        c.subscribe([name])
        poll_until([c], lambda _: len(c.assignment()) == 2, 30, "both partitions")
        d = client.describe_consumer_groups([name])[name].result(tm.PATIENCE_S)
        assert (d.state.name, d.partition_assignor, len(d.members)) == ("STABLE", "range", 1)
        assert d.members[0].client_id == "the-client"
        assert sorted(t.partition for t in d.members[0].assignment.topic_partitions) == [0, 1]
        listed = client.list_consumer_groups().result(tm.PATIENCE_S).valid
        assert name in [g.group_id for g in listed]
        assert error_of(client.delete_consumer_groups([name])[name].result) == KafkaError.NON_EMPTY_GROUP
        c.commit(offsets=[TopicPartition(name, 0, 3)], asynchronous=False)
    finally:
        c.close()
    client.delete_consumer_groups([name])[name].result(tm.PATIENCE_S)
    assert {p: at for p, (at, _) in tm.committed(bootstrap, name, name).items()} == {0: -1001, 1: -1001}
    assert error_of(client.delete_consumer_groups([name])[name].result) == KafkaError.GROUP_ID_NOT_FOUND


def test_offsets_of_an_idle_group_can_be_altered_and_listed(bootstrap, name):
    tm.create_topic(bootstrap, name, 2)
    client = tm.admin(bootstrap)
    want = [TopicPartition(name, 0, 5, metadata="note"), TopicPartition(name, 1, 9)]
    client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, want)])[name].result(tm.PATIENCE_S)
    seen = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(tm.PATIENCE_S)
    assert sorted((t.topic, t.partition, t.offset) for t in seen.topic_partitions) == [(name, 0, 5), (name, 1, 9)]


def test_metadata_over_4096_bytes_is_refused_and_changes_nothing(bootstrap, name):
    """confluent-kafka sends a zero byte behind the text, which counts."""
    tm.create_topic(bootstrap, name)
    c = consumer(bootstrap, name)
    try:
        c.commit(offsets=[TopicPartition(name, 0, 1, metadata="m" * 4095)], asynchronous=False)
        assert error_of(lambda: c.commit(offsets=[TopicPartition(name, 0, 2, metadata="m" * 4096)],
                                         asynchronous=False)) == KafkaError.OFFSET_METADATA_TOO_LARGE
    finally:
        c.close()
    assert tm.committed(bootstrap, name, name) == {0: (1, "m" * 4095)}


def test_a_second_process_with_the_same_static_id_fences_the_first(bootstrap, name):
    tm.create_topic(bootstrap, name)
    first = consumer(bootstrap, name, group_instance_id="same")
    second = consumer(bootstrap, name, group_instance_id="same")
    try:
        first.subscribe([name])
        poll_until([first], lambda _: len(first.assignment()) == 1, 30, "the first with the partition")
        second.subscribe([name])
        poll_until([second], lambda _: len(second.assignment()) == 1, 30, "the second with the partition")
        end, fenced = time.monotonic() + tm.PATIENCE_S, None
        while fenced is None:
            assert time.monotonic() < end, "the first was never told that it is fenced"
            m = first.poll(0.1)
            if m is not None and m.error() and m.error().code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
                fenced = m.error()
        assert error_of(lambda: first.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False))
    finally:
        first.close()
        second.close()


def test_a_silent_member_loses_its_partitions(bootstrap, name):
    tm.create_topic(bootstrap, name, 2)
    a, b = consumer(bootstrap, name), consumer(bootstrap, name, session_timeout_ms=6000, max_poll_interval_ms=6000)
    try:
        a.subscribe([name])
        b.subscribe([name])
        poll_until([a, b], lambda _: len(a.assignment()) == len(b.assignment()) == 1, 40, "one each")
        poll_until([a], lambda _: len(a.assignment()) == 2, 40, "both, as the other no longer polls")
    finally:
        a.close()
        b.close()


def test_a_group_goes_on_over_a_broker_restart(broker, name):
    """Members, generation and offsets outlive SIGKILL of the broker: nobody has to rebalance."""
    tm.create_topic(broker.bootstrap, name, 2)
    rebalances = []
    c = consumer(broker.bootstrap, name, session_timeout_ms=120000)
    try:
        c.subscribe([name], on_assign=lambda *_: rebalances.append("assign"))
        poll_until([c], lambda _: len(c.assignment()) == 2, 30, "both partitions")
        tm.produce(broker.bootstrap, name, [{"value": str(i), "partition": i % 2} for i in range(10)])
        poll_until([c], lambda g: len(g) == 10, 30, "10 records")
        c.commit(asynchronous=False)
        broker.kill9()
        broker.start()
        tm.produce(broker.bootstrap, name, [{"value": str(i), "partition": i % 2} for i in range(10, 20)])
        got = poll_until([c], lambda g: len(g) >= 10, 60, "10 more")
        assert sorted(map(int, got)) == list(range(10, 20))

        def commits():
            try:
                c.commit(asynchronous=False)
                return True
            except KafkaException:  # the coordinator may be looked up first
                c.poll(0.1)
                return False

        tm.wait_until(commits, 30, "a commit after the restart")
        assert rebalances == ["assign"]
        assert {p: at for p, (at, _) in tm.committed(broker.bootstrap, name, name).items()} == {0: 10, 1: 10}
    finally:
        c.close()


def test_a_topic_made_again_starts_without_offsets(bootstrap, name):
    tm.create_topic(bootstrap, name)
    c = consumer(bootstrap, name)
    try:
        c.commit(offsets=[TopicPartition(name, 0, 7)], asynchronous=False)
    finally:
        c.close()
    client = tm.admin(bootstrap)
    client.delete_topics([name], operation_timeout=tm.PATIENCE_S)[name].result(tm.PATIENCE_S)
    tm.wait_until(lambda: tm.partitions_of(bootstrap, name) == [], 20, "the topic gone")
    tm.create_topic(bootstrap, name)
    assert tm.committed(bootstrap, name, name)[0][0] == -1001
