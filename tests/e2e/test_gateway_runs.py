"""Runs looked at by HTTP: what the journal has of them, from any node, in pages."""
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import tm
from group import agent
from http_api import ready

SET = [{"a": {"set": {"x": "${ .n }"}}}]
LOOP = [{"loop": {"for": {"in": "${ .items }", "each": "i"}, "do": [{"a": {"set": {"x": "${ $i }", "pad": "y" * 900}}}]}}]
FAIL = [{"a": {"set": {"x": 1}}}, {"bad": {"raise": {"error": {"type": "https://t/err", "status": 418, "title": "no",
                                                              "detail": "it is a teapot"}}}}]
WAIT = [{"a": {"set": {"x": 1}}}, {"nap": {"wait": {"minutes": 10}}}]
NONE = "0000" + "0" * 26


@pytest.fixture
def site(group, broker, session):
    """(group, http, node): a node with the agents t/set, t/loop, t/fail, t/wait."""
    g = group(broker.bootstrap, session=session)
    g.apply(agent("set", SET), agent("loop", LOOP), agent("fail", FAIL), agent("wait", WAIT))
    n = g.serve("a").start()
    http = ready(n)
    yield g, http, n
    http.close()
    n.stop()


def until(http, run, *statuses):
    def seen():
        a = http.get(f"/v1/runs/{run}")
        return a.status == 200 and a.json["status"] in statuses and a.json
    return tm.wait_until(seen, what=f"{run} to be {statuses}")


def test_a_run_is_shown_as_the_command_line_shows_it(site):
    g, http, _ = site
    run = http.start("t/set", {"n": 7})["id"]
    seen = until(http, run, "completed")
    shown = g.json("runs", "show", run)
    assert {k: v for k, v in seen.items() if k not in ("tasksTotal", "next")} == shown
    assert (seen["tasksTotal"], seen["next"]) == (1, None)
    a = http.get(f"/v1/runs/{run}/output")
    assert (a.status, a.json) == (200, {"x": 7})
    history = http.get(f"/v1/runs/{run}/history").json
    assert history["records"] == g.json("runs", "history", run) and history["next"] is None
    for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/output", f"/v1/runs/{run}/history"):
        a = http.get(path)
        same = http.get(path, If_None_Match=f'"other", {a.headers["ETag"]}')
        assert (same.status, same.body) == (304, "")
        assert http.get(path, If_None_Match='"other"').status == 200
        head = http("HEAD", path)
        assert (head.status, head.body) == (200, "") and head.headers["Content-Length"] == str(len(a.body))


def test_the_output_tells_how_a_run_ended_or_that_it_has_not(site):
    g, http, _ = site
    failed, waits = http.start("t/fail")["id"], http.start("t/wait")["id"]
    until(http, failed, "faulted")
    p = http.get(f"/v1/runs/{failed}/output").problem(409)
    assert p["error"]["status"] == 418 and p["runStatus"] == "faulted" and "teapot" in p["detail"]
    until(http, waits, "running")
    a = http.get(f"/v1/runs/{waits}/output")
    assert (a.status, a.json) == (202, {"id": waits, "status": "running"}) and a.headers["Retry-After"] == "1"
    g.cli("runs", "cancel", waits, "--reason", "enough", status=0)
    until(http, waits, "cancelled")
    p = http.get(f"/v1/runs/{waits}/output").problem(409)
    assert p["detail"].endswith("enough") and p["runStatus"] == "cancelled"


def test_the_output_is_waited_for(site, group):
    """By who asks another node than the run's owner too; before, while and after it ends."""
    g, http, n = site
    b = g.serve("b").start()
    other = ready(b)
    nap = agent("nap", [{"nap": {"wait": {"milliseconds": 300}}}, {"a": {"set": {"x": "${ $workflow.input.n }"}}}])
    a = http("PUT", "/v1/agents/t/nap", json.dumps(nap))
    assert a.status == 201, a
    for i in range(6):
        run = http.start("t/nap", {"n": i})["id"]
        answers = [h.get(f"/v1/runs/{run}/output", Prefer="wait=100") for h in (other, http)]
        assert [(a.status, a.json, a.headers["Preference-Applied"]) for a in answers] == [(200, {"x": i}, "wait")] * 2
        assert answers[0].headers["ETag"] == answers[1].headers["ETag"] == http.get(f"/v1/runs/{run}/output").headers["ETag"]
    waits = http.start("t/wait")["id"]
    assert other.get(f"/v1/runs/{waits}/output", Prefer="wait=0").status == 202
    a = other.get(f"/v1/runs/{waits}/output", Prefer="wait=1")
    assert (a.status, a.headers["Retry-After"], a.headers["Preference-Applied"]) == (202, "1", "wait")
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(other.get, f"/v1/runs/{waits}/output", Prefer="wait=100")
        assert http("POST", f"/v1/runs/{waits}/cancel", {"reason": "enough"}).status == 202
        assert told.result().problem(409)["detail"].endswith("enough")
    with ThreadPoolExecutor(1) as pool:
        left = http.start("t/wait")["id"]
        told = pool.submit(other.get, f"/v1/runs/{left}/output", Prefer="wait=100")
        tm.wait_until(lambda: told.running(), what="the request to be under way")
        b.stop()
        assert told.result().status in (202, 503)
    other.close()


def test_a_run_that_is_not_there_is_told(site):
    _, http, _ = site
    for what in ("", "/output", "/history"):
        assert http.get(f"/v1/runs/{NONE}{what}").problem(404)
        assert http.get(f"/v1/runs/ffff{'0' * 26}{what}").problem(404)  # no such partition
        assert "30 characters" in http.get(f"/v1/runs/nonsense{what}").problem(404)["hint"]
        for bad in ("limit=0", "limit=x", "limit=100000", "after=-1") if what != "/output" else ():
            assert http.get(f"/v1/runs/{NONE}{what}?{bad}").problem(400)
        a = http("PUT", f"/v1/runs/{NONE}{what}")
        assert a.problem(405) and "GET" in a.headers["Allow"]


def test_a_long_run_comes_in_pages(site):
    _, http, _ = site
    run = http.start("t/loop", {"items": list(range(3000))})["id"]
    until(http, run, "completed")
    pages, path = [], f"/v1/runs/{run}?limit=5000"
    while path:
        pages.append(http.get(path).json)
        path = pages[-1]["next"]
    tasks = [t for p in pages for t in p["tasks"]]
    assert len(tasks) == pages[0]["tasksTotal"] == 3001 and len(pages) > 1  # by bytes: all would be 3 MB
    assert [t["output"]["x"] for t in tasks[1:]] == list(range(3000))
    records, path, n = [], f"/v1/runs/{run}/history?limit=1000", 0
    while path:
        page = http.get(path).json
        records, path, n = records + page["records"], page["next"], n + 1
    offsets = [r["offset"] for r in records]
    assert n > 6 and offsets == sorted(set(offsets)) and records[-1]["type"] == "run.completed"


def test_a_log_that_does_not_answer_is_told_in_time(site, broker):
    _, http, _ = site
    run = http.start("t/set", {"n": 1})["id"]
    until(http, run, "completed")
    broker.kill9()
    try:
        tm.wait_until(lambda: http.get("/readyz").status == 503, what="the node to notice")
        a = http.get(f"/v1/runs/{run}")
        assert a.status in (503, 504) and a.problem(a.status) and a.headers["Retry-After"] == "1"
    finally:
        broker.start()
    until(http, run, "completed")


def test_any_node_answers_for_any_run_also_after_takeovers(site, group):
    g, http, a = site
    b = g.serve("b").start()
    other = ready(b)
    runs = [http.start("t/wait")["id"] for _ in range(4)] + [http.start("t/set", {"n": i})["id"] for i in range(4)]
    for run in runs:
        one, two = until(http, run, "running", "completed"), until(other, run, "running", "completed")
        assert one == two or one["status"] == "running"
    a.kill9()
    for run in runs[:4]:
        g.cli("runs", "cancel", run, status=0)
        seen = until(other, run, "cancelled")
        assert seen == {**g.json("runs", "show", run), "tasksTotal": 2, "next": None}
    for run in runs[4:]:
        assert other.get(f"/v1/runs/{run}").json["status"] == "completed"
        history = other.get(f"/v1/runs/{run}/history").json["records"]
        assert history == g.json("runs", "history", run)
    other.close()
    b.stop()
    a.start()
    again = ready(a)
    assert until(again, runs[0], "cancelled")


def test_runs_behind_a_cut_are_judged_by_the_owner_of_that_place(group, broker, session):
    """The log begins behind the record of its owner; what that one wrote is no less valid, also for a fork."""
    g = group(broker.bootstrap, session=session, partitions=1, journal={"state": "1s"})
    g.apply(agent("set", SET))
    n = g.serve("a").start()
    http = ready(n)

    def state():
        until(http, http.start("t/set", {"n": 0})["id"], "completed")
        found = [r for r in g.journal() if r.type == "part.state"]
        return found and found[-1]

    cut = int(tm.wait_until(state, what="a part.state").header("tm-at"))
    run = http.start("t/set", {"n": 1})["id"]
    until(http, run, "completed")
    tm.wait_until(lambda: g.committed()[0][0] >= cut, what="the tide mark to pass it")
    tm.delete_records(g.bootstrap, f"tidemark.{g.name}.runs", {0: cut})
    assert [r.type for r in g.journal()].count("owner") == 0
    n.kill9()
    assert g.json("runs", "show", run)["status"] == "completed"
    n.start()
    http = ready(n)
    assert until(http, run, "completed")["output"] == {"x": 1}
    assert not any(r["void"] for r in http.get(f"/v1/runs/{run}/history").json["records"])
    made = http("POST", f"/v1/runs/{run}/fork", {"from": "a"}).json["run"]
    until(http, made, "completed")
    n.stop()
