"""Malformed events, agents, configuration and topics: a clear error with its place and a hint, and nothing else
suffers."""
import json

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

import server
import tm
from group import agent, chain

ECHO = agent("echo", [{"a": {"set": {"n": "${ .n }"}}}], "t.echo", input={"from": "${ .[0] }"})


def letters(g):
    return tm.read_all(g.bootstrap, f"tidemark.{g.name}.dlq")


def wait_letters(g, count):
    return tm.wait_until(lambda: (v := letters(g)) and len(v) >= count and v, 30, f"{count} dead letters", every_s=0.2)


def test_events_that_cannot_be_read_become_dead_letters(group, broker, session):
    """They keep bytes, headers and origin (I7), and the good events around them become runs."""
    g = group(broker.bootstrap, topic_partitions=1, session=session)
    g.apply(ECHO)
    n = g.serve("a").start()
    bad = tm.event("t.echo", id_="bad")
    bad["value"] = b'{"n": 1'
    large = tm.event("t.echo", {"text": "x" * (600 * 1024)}, id_="large")
    places = g.publish([tm.event("t.echo", {"n": 1}), bad, large, tm.event("t.echo", {"n": 2})])
    found = {r.header("tm-dlq-origin"): r for r in wait_letters(g, 2)}
    g.wait_ended(2)
    n.stop()
    seen = found[f"{g.topic}/0/{places[1][1]}"]
    assert seen.value == bad["value"] and seen.header("ce_id") == "bad" and seen.header("tm-dlq-kind") == "event"
    assert "JSON" in seen.header("tm-dlq-error")
    seen = found[f"{g.topic}/0/{places[2][1]}"]
    assert len(seen.value) == len(large["value"]) and "large" in seen.header("tm-dlq-error")
    assert len(letters(g)) == 2
    listed = g.json("dlq", "list")
    assert [x["kind"] for x in listed] == ["event", "event"] and all(x["reason"] for x in listed)
    ends = g.check().runs.values()
    assert sorted(r.end.json["output"]["n"] for r in ends) == [1, 2]


def test_an_event_that_fails_for_one_agent_reaches_the_others(group, embedded_log):
    g = group(embedded_log.bootstrap, topic_partitions=1)
    g.apply(agent("keyed", [{"a": {"set": {"by": "keyed"}}}], "t.two", key="${ .data.who.name }"),
            agent("plain", [{"a": {"set": {"by": "plain"}}}], "t.two"))
    n = g.serve("a").start()
    g.publish([tm.event("t.two", {"who": {"name": "ada"}}), tm.event("t.two", {"who": 7})])
    letter = wait_letters(g, 1)[0]
    ended = g.wait_ended(3)
    n.stop()
    assert letter.header("tm-dlq-agent") == "t/keyed" and "key expression" in letter.header("tm-dlq-error")
    assert sorted(r.end.json["output"]["by"] for r in ended.values()) == ["keyed", "plain", "plain"]
    assert len(letters(g)) == 1
    g.check()


def test_a_result_too_large_for_the_journal_faults_its_run_alone(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(agent("big", [{"a": {"set": {"v": "${ [range(0; 200000)] }"}}}]), ECHO)
    n = g.serve("a").start()
    run = g.start_run("t/big", {})
    done = g.json("runs", "watch", run, "--timeout", "120", status=1)
    assert done["status"] == "faulted" and "512 KiB" in json.dumps(done["error"])
    g.publish([tm.event("t.echo", {"n": 1})])
    g.wait_ended(2)
    n.stop()
    g.check()


def test_an_agent_that_does_not_parse_is_refused_with_all_places(group, embedded_log, tmp):
    g = group(embedded_log.bootstrap)
    path = tmp / "bad.yaml"
    path.write_text("document:\n  dsl: '1.0.3'\n  namespace: t\n  name: bad\n  version: '1.0.0'\ndo:\n  - a:\n"
                    "      sett: {}\n  - b:\n      wait: {secondz: 1}\n")
    done = g.cli("agents", "apply", path, status=2)
    assert f"{path}:8:" in done.err and f"{path}:10:" in done.err
    assert "did you mean" in done.err
    assert g.json("agents", "list") == []


def test_an_agents_version_is_not_replaced_by_another_content(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(agent("a", [{"x": {"set": {"v": 1}}}]))
    with pytest.raises(AssertionError, match="status 4"):
        g.apply(agent("a", [{"x": {"set": {"v": 2}}}]))
    g.cli("agents", "apply", g.tmp / "a.json.yaml", "--force", status=0)


def test_unknown_configuration_keys_are_errors(cli, tmp):
    path = tmp / "bad.yaml"
    path.write_text("group: g\nkafka:\n  bootstrap.servers: 127.0.0.1:1\n  enable.auto.commit: 'true'\njurnal:\n"
                    "  partitions: 4\nnode:\n  session: soon\n")
    done = cli("serve", "--config", path, status=2)
    assert f"{path}:5:1" in done.err and "did you mean" in done.err and "journal" in done.err
    assert f"{path}:4:" in done.err and f"{path}:8:" in done.err  # the engine's own property; no duration


def test_a_journal_with_wrong_settings_is_refused_with_what_mends_it(group, broker, cli, tmp):
    name = f"w{tmp.name[-8:].replace('_', '')}{id(tmp) % 10000}"
    tm.create_topic(broker.bootstrap, f"tidemark.{name}.runs", 2, {"cleanup.policy": "delete"})
    path = tmp / "wrong.yaml"
    path.write_text(json.dumps({"group": name, "kafka": {"bootstrap.servers": broker.bootstrap},
                                "topics": {f"{name}.in": {}}}))
    done = cli("serve", "--config", path)
    assert done.status == 2 and "cleanup.policy=delete" in done.err, done
    assert "tidemark topics apply" in done.err and "kafka-configs --alter" in done.err
    cli("topics", "apply", "--config", path, status=0)  # the second of the two commands
    client = tm.admin(broker.bootstrap)
    asked = client.describe_configs([ConfigResource(ResourceType.TOPIC, f"tidemark.{name}.runs")])
    seen = {k: v.value for f in asked.values() for k, v in f.result(tm.PATIENCE_S).items()}
    assert set(seen["cleanup.policy"].split(",")) == {"compact", "delete"} and seen["retention.ms"] == "-1"
    done = cli("runs", "list", "--config", path, "-o", "jsonl", status=0)
    assert done.out == ""


def test_another_count_of_journal_partitions_is_refused(group, embedded_log):
    g = group(embedded_log.bootstrap, partitions=2)
    g.config["journal"]["partitions"] = 3
    path = g.write("-three")
    done = g.run_cli("serve", "--config", path, status=2)
    assert "2 partitions" in done.err and "hint" in done.err


def test_a_node_waits_for_its_broker(tidemark_bin, tmp, node, cli, group, ledger):
    """No broker at start: it says so, tries again, and goes on when one comes."""
    address = f"127.0.0.1:{server.free_port()}"
    path = tmp / "late.yaml"
    path.write_text(json.dumps({"group": "late", "kafka": {"bootstrap.servers": address},
                                "journal": {"partitions": 2, "replication": 1}, "topics": {"late.in": {}}}))
    n = node("serve", "--config", path, "--data", tmp / "data", name="late", ready=r"")
    n.start()
    tm.wait_until(lambda: "the log can't be reached; trying again" in n.err_path.read_text(), 60, "the message")
    assert address in n.err_path.read_text() and n.alive()
    log = tm.EmbeddedLog(tidemark_bin, tmp)
    log.command[-1] = address
    try:
        log.start()
        tm.wait_until(lambda: "ready: " in n.out_path.read_text(), 60, "the node to be ready")
        n.stop()
        log.stop()
    finally:
        log.close()


def test_commands_without_a_broker_say_so(cli, tmp):
    address = f"127.0.0.1:{server.free_port()}"
    done = cli("runs", "list", "--brokers", address, status=6)
    assert address in done.err and "refused" in done.err and "hint: is a broker running" in done.err


def test_a_port_that_is_taken_is_an_error_with_a_hint(cli, embedded_log, tmp):
    done = cli("log", "--data", tmp / "other", "--listen", embedded_log.bootstrap)
    assert done.status == 6 and "hint" in done.err


def test_records_of_others_in_the_journal_change_nothing(group, embedded_log, ledger):
    """Garbage and forged epochs are passed over; the partition's runs go on."""
    g = group(embedded_log.bootstrap, partitions=1)
    g.apply(chain(ledger, "chain"))
    n = g.serve("a").start()
    runs = f"tidemark.{g.name}.runs"
    first = g.start_run("t/chain", {"n": 1})
    g.wait_ended(1)
    tm.produce(g.bootstrap, runs, [("x", b"garbage"), (f"{first}/!run.completed@0000000000000000", b"{}"),
                                   {"key": f"{first}/!run.faulted@00000000000000ff", "value": b'{"error":{}}',
                                    "headers": [("tm-v", b"1"), ("tm-type", b"run.faulted"), ("tm-epoch", b"0"),
                                                ("tm-nonce", b"00000000000000ff")]}])
    second = g.start_run("t/chain", {"n": 2})
    assert g.json("runs", "watch", second, "--timeout", "120")["status"] == "completed"
    assert g.json("runs", "show", first)["status"] == "completed"
    n.stop()
