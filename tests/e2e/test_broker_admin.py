"""Administration of topics, and what bad requests get, on both brokers."""
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

import tm


def error_of(future):
    with pytest.raises(KafkaException) as e:
        future.result(tm.PATIENCE_S)
    return e.value.args[0].code()


def settings(client, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {k: v.value for k, v in client.describe_configs([resource])[resource].result(tm.PATIENCE_S).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_alter_configs_replaces_the_whole_set(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"retention.ms": "1000000", "segment.bytes": "1048576"})
    client = tm.admin(bootstrap)
    change = ConfigResource(ResourceType.TOPIC, name, set_config={"retention.ms": "2000000"})
    client.alter_configs([change])[change].result(tm.PATIENCE_S)
    tm.wait_until(lambda: settings(client, name)["retention.ms"] == "2000000", 10, "retention.ms=2000000")
    assert settings(client, name)["segment.bytes"] == "1073741824"
    bad = ConfigResource(ResourceType.TOPIC, name, set_config={"retention.ms": "soon"})
    assert error_of(client.alter_configs([bad])[bad]) == KafkaError.INVALID_CONFIG
    assert settings(client, name)["retention.ms"] == "2000000"


def test_a_topic_is_refused_with_the_right_error(bootstrap, name):
    client = tm.admin(bootstrap)
    tm.create_topic(bootstrap, name)

    def create(topic, **more):
        return error_of(client.create_topics([NewTopic(topic, **more)], operation_timeout=tm.PATIENCE_S)[topic])

    assert create(name, num_partitions=1) == KafkaError.TOPIC_ALREADY_EXISTS
    assert create(name + "/x", num_partitions=1) == KafkaError.TOPIC_EXCEPTION
    assert create(name + "a", num_partitions=1, replication_factor=3) == KafkaError.INVALID_REPLICATION_FACTOR
    assert create(name + "b", num_partitions=1, config={"no.such.setting": "1"}) == KafkaError.INVALID_CONFIG
    assert create(name + "c", num_partitions=1, config={"cleanup.policy": "burn"}) == KafkaError.INVALID_CONFIG
    for suffix in ("a", "b", "c"):
        assert tm.partitions_of(bootstrap, name + suffix) == []


def test_validate_only_makes_nothing(bootstrap, name):
    client = tm.admin(bootstrap)
    client.create_topics([NewTopic(name, 1)], validate_only=True)[name].result(tm.PATIENCE_S)
    assert tm.partitions_of(bootstrap, name) == []


def test_partitions_only_grow(bootstrap, name):
    tm.create_topic(bootstrap, name, 3)
    client = tm.admin(bootstrap)
    assert error_of(client.create_partitions([NewPartitions(name, 2)])[name]) == KafkaError.INVALID_PARTITIONS
    assert error_of(client.create_partitions([NewPartitions(name + "x", 2)])[name + "x"]) \
        == KafkaError.UNKNOWN_TOPIC_OR_PART
    tm.produce(bootstrap, name, [{"value": "v", "partition": 2}])
    client.create_partitions([NewPartitions(name, 5)])[name].result(tm.PATIENCE_S)
    tm.wait_until(lambda: len(tm.partitions_of(bootstrap, name)) == 5, 10, "five partitions")
    tm.produce(bootstrap, name, [{"value": "w", "partition": 4}])
    assert [(r.partition, r.value) for r in tm.read_all(bootstrap, name)] == [(2, b"v"), (4, b"w")]


def test_records_of_a_compacted_topic_are_not_cut(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"cleanup.policy": "compact"})
    tm.produce(bootstrap, name, [("k", str(i)) for i in range(5)])
    client, at = tm.admin(bootstrap), TopicPartition(name, 0, 3)
    assert error_of(client.delete_records([at])[at]) == KafkaError.POLICY_VIOLATION


def test_offsets_by_every_spec(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"retention.ms": "-1"})  # of records from 1970
    tm.produce(bootstrap, name, [{"value": b"v", "timestamp": t} for t in (1000, 5000, 3000)])
    client, at = tm.admin(bootstrap), TopicPartition(name, 0)

    def offset(spec):
        return client.list_offsets({at: spec})[at].result(tm.PATIENCE_S).offset

    assert offset(OffsetSpec.earliest()) == 0
    assert offset(OffsetSpec.latest()) == 3
    assert offset(OffsetSpec.max_timestamp()) == 1
    assert offset(OffsetSpec.for_timestamp(2000)) == 1


def test_null_keys_of_a_compacted_topic_are_refused(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"cleanup.policy": "compact"})
    with pytest.raises(AssertionError, match="INVALID_RECORD|Broker failed to validate record"):
        tm.produce(bootstrap, name, [{"value": "no key"}])
    assert tm.read_all(bootstrap, name) == []


def test_a_message_over_the_limit_is_refused(bootstrap, name):
    tm.create_topic(bootstrap, name, 1, {"max.message.bytes": "2000"})
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE|Message size too large"):
        tm.produce(bootstrap, name, ["x" * 5000])
    tm.produce(bootstrap, name, ["x" * 500])


def test_the_cluster_describes_itself(bootstrap):
    client = tm.admin(bootstrap)
    d = client.describe_cluster().result(tm.PATIENCE_S)
    assert len(d.cluster_id) == 22
    assert [n.id for n in d.nodes] == [d.controller.id]


def test_kafka_python_administers(bootstrap, name):
    from kafka.admin import KafkaAdminClient
    from kafka.admin import NewTopic as Topic

    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        client.create_topics([Topic(name, 2, 1)])
        tm.wait_until(lambda: tm.partitions_of(bootstrap, name) == [0, 1], 10, "two partitions")
        assert name in client.list_topics()
        client.delete_topics([name])
        tm.wait_until(lambda: tm.partitions_of(bootstrap, name) == [], 10, "the topic gone")
    finally:
        client.close()
