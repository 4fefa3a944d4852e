"""Runs steered by HTTP: cancel, suspend, resume, retry, fork; by whichever node, decided by the owner."""
import pytest
import tm
from group import agent, post
from http_api import ready
from test_gateway_runs import NONE, until

NAP = [{"a": {"set": {"x": 1}}}, {"nap": {"wait": {"minutes": 10}}}, {"b": {"set": {"y": 2}}}]
LATER = [{"t": {"try": [{"bad": {"raise": {"error": {"type": "https://t/err", "status": 500, "title": "no"}}}}],
                "catch": {"retry": {"delay": {"hours": 1}, "limit": {"attempt": {"count": 1}}}}}}]


@pytest.fixture
def site(group, broker, ledger, session):
    """(group, http, ledger): a node with t/nap, t/later, t/pay (set, POST /pay, set)."""
    g = group(broker.bootstrap, session=session)
    pay = [{"a": {"set": {"x": "${ .n }"}}}, {"pay": post(ledger.url("/pay"), {"x": "${ .x }"})}, {"b": {"set": {"y": 2}}}]
    g.apply(agent("nap", NAP), agent("later", LATER), agent("pay", pay))
    n = g.serve("a").start()
    http = ready(n)
    yield g, http, ledger
    http.close()
    n.stop()


def steer(http, run, what, body=None, **headers):
    a = http("POST", f"/v1/runs/{run}/{what}", body, **headers)
    assert a.status == 202 and a.json["offset"] >= 0 and a.headers["Location"] == f"/v1/runs/{a.json['run']}", a
    return a.json


def test_a_run_is_suspended_resumed_and_cancelled(site):
    g, http, _ = site
    run = http.start("t/nap")["id"]
    until(http, run, "running")
    made = steer(http, run, "suspend")
    assert made == {"run": run, "request": "suspend", "partition": int(run[:4], 16), "offset": made["offset"]}
    until(http, run, "suspended")
    steer(http, run, "resume", {})
    until(http, run, "running")
    made = steer(http, run, "cancel", {"reason": "enough"})
    until(http, run, "cancelled")
    records = http.get(f"/v1/runs/{run}/history").json["records"]
    assert [r["value"] for r in records if r["type"] in ("run.cancel", "run.cancelled")] == [{"reason": "enough"}] * 2
    assert made["offset"] == next(r["offset"] for r in records if r["type"] == "run.cancel")
    steer(http, run, "cancel")  # a repeat does no harm: it is settled
    tm.wait_until(lambda: http.get(f"/v1/runs/{run}/history").json["records"][-1]["type"] == "request.settled",
                  what="the second cancel to be settled")
    g.check()


def test_a_faulted_run_goes_on_at_the_failed_task(site):
    g, http, ledger = site
    ledger.on("/pay", status=400, times=1)
    run = http.start("t/pay", {"n": 3})["id"]
    until(http, run, "faulted")
    made = steer(http, run, "retry")
    assert made["request"] == "fork" and made["run"] != run
    assert (made["forkOf"]["run"], made["forkOf"]["task"]) == (run, "/do/1/pay")
    seen = until(http, made["run"], "completed")
    assert [t["name"] for t in seen["tasks"]] == ["pay", "b"] and seen["forkOf"] == made["forkOf"]
    assert [e.body for e in ledger.entries("/pay")] == [b'{"x":3}'] * 2
    p = http("POST", f"/v1/runs/{made['run']}/retry").problem(409)
    assert "has not faulted" in p["detail"]
    forks = [steer(http, run, "fork", {"from": "a", "id": "mine"}) for _ in range(2)]
    assert forks[0]["run"] == forks[1]["run"]  # one name, one run
    assert [t["name"] for t in until(http, forks[0]["run"], "completed")["tasks"]] == ["a", "pay", "b"]
    assert steer(http, run, "fork", {"from": "/do/1/pay", "visit": 0, "agent": "t/pay"})["forkOf"]["visit"] == 0
    # The same name for another thing: the owner refuses it.
    other = http("POST", f"/v1/runs/{run}/fork", {"from": "a", "id": "mine", "agent": "t/pay:1.0.0"}, Prefer="wait=60")
    assert "conflict" in other.problem(409)["detail"]
    g.wait_ended(4)
    g.check()


def test_a_retry_that_waits_begins_at_once(site):
    g, http, _ = site
    run = http.start("t/later")["id"]
    tm.wait_until(lambda: any(t["status"] == "retrying" for t in until(http, run, "running")["tasks"]),
                  what="the retry to wait")
    made = steer(http, run, "retry")
    assert (made["run"], made["request"]) == (run, "retry")
    until(http, run, "faulted")


def test_who_prefers_to_wait_is_told_what_the_owner_decided(site):
    g, http, ledger = site
    run = http.start("t/nap")["id"]

    def decided(what, body=None, id_=run):
        a = http("POST", f"/v1/runs/{id_}/{what}", body, Prefer="wait=100")
        assert a.status == 200 and a.headers["Preference-Applied"] == "wait", a
        return a.json["decided"]

    assert decided("suspend") == "run.suspended" and http.get(f"/v1/runs/{run}").json["status"] == "suspended"
    p = http("POST", f"/v1/runs/{run}/suspend", Prefer="wait=100").problem(409)
    assert "settled" in p["detail"]
    assert decided("resume") == "run.resumed"
    assert decided("cancel", {"reason": "enough"}) == "run.cancelled"
    assert "no such run" in http("POST", f"/v1/runs/{run}/cancel", Prefer="wait=100").problem(409)["detail"]
    ledger.on("/pay", status=400, times=1)
    failed = http.start("t/pay", {"n": 1})["id"]
    until(http, failed, "faulted")
    again = [http("POST", f"/v1/runs/{failed}/retry", {"id": "one"}, Prefer="respond-async, wait=100") for _ in range(2)]
    assert [a.status for a in again] == [200, 200] and again[0].json["run"] == again[1].json["run"]
    assert [a.json["decided"] for a in again] == ["run.started", "request.settled"]
    later = http.start("t/later")["id"]
    tm.wait_until(lambda: any(t["status"] == "retrying" for t in until(http, later, "running")["tasks"]), what="the retry")
    assert decided("retry", id_=later) == "run.retried"
    g.check()


def test_a_request_that_nobody_decides_is_accepted_all_the_same(site, group):
    g, http, _ = site
    b = g.serve("b").start()
    other = ready(b)
    runs = []
    while len({run[:4] for run in runs}) < 2:  # one of each partition, so of each node
        runs.append(http.start("t/nap")["id"])
    for run in runs:
        until(http, run, "running")
    b.sigstop()
    there = [run for run in runs if http("POST", f"/v1/runs/{run}/suspend", Prefer="wait=1").status == 202]
    assert there  # it owns a partition, and is not there to decide
    b.kill9()
    for run in runs:
        until(http, run, "suspended")
    other.close()


CE = {"ce_specversion": "1.0", "ce_id": "e1", "ce_source": "/tests", "ce_type": "t.signal"}


def test_an_event_for_one_run_is_kept_with_it(site):
    """Nothing listens yet: its owner settles it, and its run's history has it."""
    g, http, _ = site
    run = http.start("t/nap")["id"]
    until(http, run, "running")
    structured = {"specversion": "1.0", "id": "e2", "source": "/tests", "type": "t.signal", "data": {"n": 2}}
    sent = [steer(http, run, "events", {"n": 1}, **CE, ce_subject="Euro%20%E2%82%AC"),
            steer(http, run, "events", structured, Content_Type="application/cloudevents+json; charset=utf-8"),
            steer(http, run, "events", "\x01", **{**CE, "ce_id": '"e \\"3\\""'}, Content_Type="application/octet-stream",
                  Prefer="wait=9")]
    assert [m["request"] for m in sent] == ["event"] * 3 and "no task listens" in sent[0]["note"]
    kept = [r for r in http.get(f"/v1/runs/{run}/history").json["records"] if r["type"] == "event.delivered"]
    assert [r["offset"] for r in kept] == [m["offset"] for m in sent]
    attributes = {"specversion": "1.0", "id": "e1", "source": "/tests", "type": "t.signal"}
    assert [r["value"] for r in kept] == [
        {**attributes, "subject": "Euro €", "datacontenttype": "application/json", "data": {"n": 1}}, structured,
        {**attributes, "id": 'e "3"', "datacontenttype": "application/octet-stream", "data_base64": "AQ=="}]
    upto = max(m["offset"] for m in sent)
    tm.wait_until(lambda: any(r.type == "request.settled" and int(r.header("tm-up-to") or 0) > upto for r in g.journal()),
                  what="the owner to settle them")
    steer(http, run, "cancel")
    g.wait_ended(1)
    g.check()


NO_EVENTS = [
    (400, {"n": 1}, {}, "ce-specversion"),
    (400, {"n": 1}, {**CE, "ce_specversion": "0.3"}, "not 1.0"),
    (400, {"n": 1}, {k: v for k, v in CE.items() if k != "ce_type"}, "ce-type"),
    (400, {"n": 1}, {**CE, "ce_subject": "%zz"}, "percent-encode"),
    (400, {"n": 1}, {**CE, "ce_subject": "%C0%A0"}, "percent-encode"),
    (400, {"n": 1}, {**CE, "ce_my_ext": "x"}, "no name"),
    (400, {"n": 1}, {**CE, "ce_datacontenttype": "text/plain"}, "Content-Type"),
    (400, "{", CE, "not JSON"),
    (400, {"type": "t"}, {"Content_Type": "application/cloudevents+json"}, "no id"),
    (415, "[]", {"Content_Type": "application/cloudevents-batch+json"}, "batch"),
    (415, "x", {"Content_Type": "application/cloudevents+avro"}, "avro"),
    (413, {"n": "x" * (600 << 10)}, CE, "reference"),
]


def test_what_is_no_event_for_a_run_is_told(site):
    _, http, _ = site
    for status, body, headers, says in NO_EVENTS:
        p = http("POST", f"/v1/runs/{NONE}/events", body, **headers).problem(status)
        assert says in f"{p['detail']} {p['hint']}", (body, headers, p)


def test_what_cannot_be_steered_is_told(site):
    _, http, _ = site
    run = http.start("t/nap")["id"]
    until(http, run, "running")

    def refused(status, what, body=None, id_=run, **headers):
        p = http("POST", f"/v1/runs/{id_}/{what}", body, **headers).problem(status)
        return f"{p['detail']} {p['hint']}"

    for what in ("cancel", "suspend", "resume", "retry", "fork"):
        assert "there is no run" in refused(404, what, {"from": "a"} if what == "fork" else None, "nonsense")
        assert "line 1" in refused(400, what, "{")
        assert "application/json" in refused(415, what, "a: b", Content_Type="text/yaml")
        assert "no JSON object" in refused(400, what, [])
        assert "reazon" in refused(400, what, {"reazon": "x"})
        assert http.get(f"/v1/runs/{run}/{what}").headers["Allow"] == "POST, OPTIONS"
    assert "reason" in refused(400, "cancel", {"reason": 1})
    assert "reason" in refused(400, "cancel", {"reason": "x" * 5000})
    assert "from is missing" in refused(400, "fork", {})
    assert "visit" in refused(400, "fork", {"from": "a", "visit": -1})
    assert "36 bytes" in refused(400, "fork", {"from": "a", "id": "x" * 37})
    assert "nowhere" in refused(404, "fork", {"from": "nowhere"})
    assert "t/none" in refused(404, "fork", {"from": "a", "agent": "t/none"})
    assert "no run" in refused(404, "fork", {"from": "a"}, NONE)
    assert "no retry waits" in refused(409, "retry")


def test_a_run_of_another_node_is_steered_all_the_same(site, group):
    g, http, _ = site
    b = g.serve("b").start()
    other = ready(b)
    runs = []
    while len(runs) < 6 or len({r[:4] for r in runs}) < 2:  # in both partitions, whatever the ids are
        runs.append(http.start("t/nap")["id"])
    for run in runs:
        until(other, run, "running")
        steer(other, run, "suspend")
    b.kill9()
    for run in runs:
        until(http, run, "suspended")
        steer(http, run, "cancel")
        assert http.get(f"/v1/runs/{run}/output").status in (202, 409)
    for run in runs:
        until(http, run, "cancelled")
    other.close()
