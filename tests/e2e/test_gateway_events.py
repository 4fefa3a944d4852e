"""Events published by HTTP, by the CloudEvents SDK in all its modes: in the log as they were sent, and the runs that the
answer names are those that begin."""
import json
import re
import threading

import requests
import tm
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from group import agent
from http_api import Http

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def event(type_, data, id_, **more):
    return CloudEvent({"type": type_, "source": "/tests", "id": id_, "datacontenttype": "application/json", **more}, data)


def test_events_in_every_mode_start_the_runs_that_the_answer_names(group, broker):
    g = group(broker.bootstrap)
    g.config["topics"][g.topic].update({"types": ["t.order"], "schema": SCHEMA})
    g.write("")
    g.apply(agent("all", [{"a": {"set": "${ .[0] }"}}], "t.order", key="${ .subject }"),
            agent("some", [{"a": {"set": "${ .[0] }"}}], {"one": {"with": {"type": "t.order", "subject": "ada"}}}))
    n = g.serve("a").start()
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    to_topic, by_type = (f"http://{http.address}{p}" for p in (f"/v1/topics/{g.topic}/events", "/v1/events"))
    answers = []
    for i, make in enumerate((to_binary, to_structured)):
        for k, url in enumerate((to_topic, by_type)):
            headers, body = make(event("t.order", {"n": i}, f"{i}.{k}", subject="ada", partitionkey="p"))
            answers.append(requests.post(url, headers=headers, data=body, timeout=60))
    batch = [json.loads(to_structured(event("t.order", {"n": i}, f"b{i}", subject=f"s{i}"))[1]) for i in range(20)]
    answers.append(requests.post(by_type, headers={"Content-Type": "application/cloudevents-batch+json"},
                                 data=json.dumps(batch), timeout=60))
    assert [a.status_code for a in answers] == [202] * 5, [a.text for a in answers]
    told = [e for a in answers for e in a.json()["events"]]
    assert all(a.json()["runsComplete"] for a in answers) and len(told) == 24
    named = {r["id"]: r["agent"] for e in told for r in e["runs"]}
    assert sorted(named.values()) == ["t/all"] * 24 + ["t/some"] * 4
    ended = g.wait_ended(28)
    assert set(ended) == set(named)
    written = {(r.partition, r.offset): r for r in tm.read_all(g.bootstrap, g.topic)}
    first = written[told[0]["partition"], told[0]["offset"]]
    assert (first.header("ce_id"), first.header("ce_subject"), first.key) == ("0.0", "ada", "p")
    assert json.loads(first.value) == {"n": 0}

    def refused(status, url, body, **headers):
        a = requests.post(url, headers={k.replace("_", "-"): v for k, v in headers.items()}, data=body, timeout=60)
        assert a.status_code == status and a.json()["hint"], (a.status_code, a.text)
        return a.json()

    whole = "application/cloudevents+json"
    good = json.loads(to_structured(event("t.order", {"n": 1}, "x"))[1])
    unfit = refused(400, to_topic, json.dumps({**good, "data": {"n": "one"}}), Content_Type=whole)
    assert [e["pointer"] for e in unfit["errors"]] == ["/n"]
    refused(400, by_type, json.dumps({**good, "type": "t.unknown"}), Content_Type=whole)
    refused(400, by_type, json.dumps({k: v for k, v in good.items() if k != "id"}), Content_Type=whole)
    refused(400, by_type, json.dumps({**good, "specversion": "0.3"}), Content_Type=whole)
    refused(400, by_type, json.dumps({k: v for k, v in good.items() if k != "specversion"}), Content_Type=whole)
    refused(400, by_type, json.dumps({**{k: v for k, v in good.items() if k != "data"}, "data_base64": "AA=="}),
            Content_Type=whole)
    refused(400, by_type, "{}", Content_Type="application/json")
    refused(404, to_topic.replace(g.topic, g.topic + "s"), json.dumps(good), Content_Type=whole)
    refused(403, to_topic.replace(g.topic, f"tidemark.{g.name}.runs"), json.dumps(good), Content_Type=whole)
    batches = "application/cloudevents-batch+json"
    refused(413, by_type, json.dumps([good] * 1001), Content_Type=batches)
    refused(400, by_type, json.dumps([good, {**good, "data": {}}]), Content_Type=batches)
    refused(400, by_type, json.dumps(good), Content_Type=batches)
    assert len(tm.read_all(g.bootstrap, g.topic)) == 24  # nothing of what was refused was written
    g.check()
    # A key that is no scalar starts no run: the answer names none, and a letter tells why.
    g.apply(agent("odd", [{"a": {"set": {"x": 1}}}], "t.order", key="${ .data }"))
    tm.wait_until(lambda: "t/odd" in http.get("/v1/agents").body, what="the agent to be known")
    headers, body = to_structured(event("t.order", {"n": 1}, "odd"))
    a = requests.post(by_type, headers=headers, data=body, timeout=60)
    assert [r["agent"] for r in a.json()["events"][0]["runs"]] == ["t/all"], a.text
    tm.wait_until(lambda: "t/odd" in http.get("/v1/dlq").body, what="the dead letter")
    n.stop()


def test_a_batch_goes_in_order_and_what_the_log_did_not_acknowledge_is_told(group, embedded_log):
    g = group(embedded_log.bootstrap)
    g.apply(agent("all", [{"a": {"set": "${ .[0] }"}}], "t.order"))
    n = g.serve("a").start()
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")

    def batch(name, count, **more):
        events = [json.loads(to_structured(event("t.order", {"n": i}, f"{name}{i}", **more))[1]) for i in range(count)]
        return requests.post(f"http://{http.address}/v1/topics/{g.topic}/events", data=json.dumps(events), timeout=60,
                             headers={"Content-Type": "application/cloudevents-batch+json"})

    a = batch("a", 1000, partitionkey="p")
    assert a.status_code == 202, a.text
    places = [(e["partition"], e["offset"]) for e in a.json()["events"]]
    assert places == [(places[0][0], i) for i in range(1000)]
    embedded_log.sigstop()
    try:
        a = batch("b", 30)
        assert a.status_code == 503 and a.headers["Retry-After"], a.text
        assert a.json()["acknowledged"] == [] and "0 of 30" in a.json()["detail"], a.text
    finally:
        embedded_log.cont()
    # Some of them may have been written meanwhile; with their ids a repeat begins nothing twice.
    a = tm.wait_until(lambda: (lambda x: x if x.status_code == 202 else None)(batch("b", 30)), 60, "the log to be back")
    assert len({r["id"] for e in a.json()["events"] for r in e["runs"]}) == 30
    g.wait_ended(1030)
    assert len(g.ended()) == 1030
    # Killed in the middle of a batch: nobody was told anything, and a repeat with the same ids begins each run once.
    broken = []

    def ask():
        try:
            broken.append(batch("c", 30).status_code)
        except requests.ConnectionError as e:
            broken.append(e)

    embedded_log.sigstop()
    try:
        asking = threading.Thread(target=ask)
        asking.start()
        tm.wait_until(lambda: int(re.search(r"^tidemark_records_unacknowledged (\d+)", http.get("/metrics").body, re.M)[1]) >= 30,
                      what="the batch to be under way")
        n.kill9()
        asking.join(60)
    finally:
        embedded_log.cont()
    assert isinstance(broken[0], requests.ConnectionError), broken
    n.start()
    http = Http(n)
    a = tm.wait_until(lambda: (lambda x: x if x.status_code == 202 else None)(batch("c", 30)), 60, "the node to be back")
    assert len({r["id"] for e in a.json()["events"] for r in e["runs"]}) == 30
    g.wait_ended(1060)
    assert len(g.ended()) == 1060
    g.check()
    n.stop()
