"""The embedded log is killed under load: what it acknowledged is there (I2), commits too, and clients go on."""
import subprocess

import pytest
from confluent_kafka import KafkaException, TopicPartition

import tm
from broker_fixture import SteadyProducer, consumer, poll_until


def test_acknowledged_records_outlive_kills_under_load(embedded_log, name):
    tm.create_topic(embedded_log.bootstrap, name)
    steady = SteadyProducer(embedded_log.bootstrap, name, enable_idempotence=True)
    for round_ in range(3):
        before = len(steady.acked)
        tm.wait_until(lambda: len(steady.acked) >= before + 500, 30, f"500 acknowledgements in round {round_}")
        embedded_log.kill9()
        embedded_log.start()
    acked = steady.finish()
    assert steady.failed == []
    seen = {r.offset: r.value.decode() for r in tm.read_all(embedded_log.bootstrap, name)}
    assert [seen.get(at) for at, _ in acked if at >= 0] == [v for at, v in acked if at >= 0]
    # Idempotent: each once, in order, though every kill made the client send again.
    assert [seen[o] for o in sorted(seen)] == [str(i) for i in range(steady.sent)]


def test_acknowledged_commits_outlive_kills_under_load(embedded_log, name):
    tm.create_topic(embedded_log.bootstrap, name)
    c = consumer(embedded_log.bootstrap, name)
    last = 0

    def acknowledged():
        try:
            c.commit(offsets=[TopicPartition(name, 0, last)], asynchronous=False)
            return True
        except KafkaException:  # it may count or not: once more
            return False

    try:
        for _ in range(3):
            for _ in range(50):
                last += 1
                tm.wait_until(acknowledged, what=f"the commit of {last} to be acknowledged")
            embedded_log.kill9()
            embedded_log.start()
            assert tm.committed(embedded_log.bootstrap, name, name)[0][0] == last
    finally:
        c.close()


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_kcat_in_and_out_across_a_kill(embedded_log, name, codec):
    """kcat is linked with the system's librdkafka 2.0.2."""
    tm.create_topic(embedded_log.bootstrap, name)
    sent = [f"{i} " + "x" * 100 for i in range(2000)]

    def put(lines):
        subprocess.run(["kcat", "-b", embedded_log.bootstrap, "-P", "-t", name, "-z", codec, "-X", "acks=all"],
                       input="\n".join(lines).encode(), check=True, timeout=tm.PATIENCE_S, capture_output=True)

    put(sent[:1000])
    embedded_log.kill9()
    embedded_log.start()
    put(sent[1000:])
    out = subprocess.run(["kcat", "-b", embedded_log.bootstrap, "-C", "-t", name, "-e", "-q", "-o", "beginning"],
                         check=True, timeout=tm.PATIENCE_S, capture_output=True).stdout.decode()
    assert out.splitlines() == sent


def test_a_consumer_waits_through_a_kill(embedded_log, name):
    tm.create_topic(embedded_log.bootstrap, name)
    c = consumer(embedded_log.bootstrap, name)
    try:
        c.assign([TopicPartition(name, 0, 0)])
        tm.produce(embedded_log.bootstrap, name, [str(i) for i in range(10)])
        assert poll_until([c], lambda g: len(g) == 10, 20, "ten records") == [str(i) for i in range(10)]
        embedded_log.kill9()
        embedded_log.start()
        tm.produce(embedded_log.bootstrap, name, [str(i) for i in range(10, 20)])
        assert poll_until([c], lambda g: len(g) == 10, 40, "ten more") == [str(i) for i in range(10, 20)]
    finally:
        c.close()


def test_a_clean_stop_answers_what_is_in_flight(embedded_log, name):
    tm.create_topic(embedded_log.bootstrap, name)
    steady = SteadyProducer(embedded_log.bootstrap, name, enable_idempotence=True)
    tm.wait_until(lambda: len(steady.acked) >= 200, 30, "200 acknowledgements")
    embedded_log.restart()
    tm.wait_until(lambda n=len(steady.acked): len(steady.acked) > n + 200, 30, "acknowledgements after the restart")
    acked = steady.finish()
    assert steady.failed == []
    assert len(tm.read_all(embedded_log.bootstrap, name)) == steady.sent == len(acked)


PRODUCE_POINTS = ["log.write.before", "log.write.after", "log.produce.appended", "log.sync.before", "log.sync.after",
                  "log.produce.durable"]


@pytest.mark.parametrize("point", PRODUCE_POINTS)
def test_a_kill_at_each_step_of_a_produce(embedded_log, name, tmp, point):
    """Each step of the way from the request to its acknowledgement; the idempotent client sends again what it had no
    answer for, and every record is there once."""
    tm.create_topic(embedded_log.bootstrap, name)
    fired = tmp / "fired"
    embedded_log.restart(env={"TIDEMARK_FAILPOINT": f"{point}:60", "TIDEMARK_FAILPOINT_LOG": str(fired)})
    steady = SteadyProducer(embedded_log.bootstrap, name, enable_idempotence=True)
    try:
        tm.wait_until(lambda: not embedded_log.alive(), 60, f"the log to be killed at {point}")
        assert point in fired.read_text()
        before = len(steady.acked)
        embedded_log.start()
        tm.wait_until(lambda: len(steady.acked) > before + 100, 60, "acknowledgements after the restart")
    finally:
        acked = steady.finish()
    assert steady.failed == []
    seen = [r.value.decode() for r in tm.read_all(embedded_log.bootstrap, name)]
    assert seen == [str(i) for i in range(steady.sent)]
    assert all(seen[at] == v for at, v in acked if at >= 0)


@pytest.mark.parametrize("point", ["log.group.appended", "log.commit.durable"])
def test_a_kill_at_each_step_of_a_commit(embedded_log, name, tmp, point):
    """A commit that was answered is there; one that was not may be, but nothing older or newer."""
    tm.create_topic(embedded_log.bootstrap, name)
    fired = tmp / "fired"
    embedded_log.restart(env={"TIDEMARK_FAILPOINT": f"{point}:20", "TIDEMARK_FAILPOINT_LOG": str(fired)})
    answers = []
    c = consumer(embedded_log.bootstrap, name, on_commit=lambda error, _: answers.append(error))
    answered = tried = 0
    try:
        while embedded_log.alive() and tried < 100:
            tried += 1
            answers.clear()
            c.commit(offsets=[TopicPartition(name, 0, tried)], asynchronous=True)
            tm.wait_until(lambda: c.poll(0) is None and (answers or not embedded_log.alive()), what="the answer")
            answered += answers == [None]
    finally:
        embedded_log.wait_exit(20)
        embedded_log.start()
        c.close()
    assert point in fired.read_text()
    assert answered == tried - 1 == 19
    assert tm.committed(embedded_log.bootstrap, name, name)[0][0] in (answered, tried)


def test_a_topic_deleted_just_before_a_kill_leaves_no_offsets(embedded_log, name, tmp):
    tm.create_topic(embedded_log.bootstrap, name)
    c = consumer(embedded_log.bootstrap, name)
    try:
        c.commit(offsets=[TopicPartition(name, 0, 7)], asynchronous=False)
    finally:
        c.close()
    embedded_log.restart(env={"TIDEMARK_FAILPOINT": "log.topic.deleted", "TIDEMARK_FAILPOINT_LOG": str(tmp / "fired")})
    client = tm.admin(embedded_log.bootstrap)
    future = client.delete_topics([name], operation_timeout=tm.PATIENCE_S, request_timeout=tm.PATIENCE_S)[name]
    embedded_log.wait_exit(20)
    embedded_log.start()
    tm.wait_until(future.done, 20, "the client to give up or to ask again")
    assert tm.partitions_of(embedded_log.bootstrap, name) == []
    tm.create_topic(embedded_log.bootstrap, name)
    assert tm.committed(embedded_log.bootstrap, name, name)[0][0] == -1001
