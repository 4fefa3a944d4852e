"""The group by HTTP: nodes and lag, topics, dead letters and their redrive, marks, replays."""
import base64

import pytest
import tm
from group import agent
from http_api import ready

FIRST = {"from": "${ .[0] }"}
SET = [{"a": {"set": {"x": "${ .n }"}}}]
FAIL = [{"bad": {"raise": {"error": {"type": "https://t/err", "status": 418, "title": "no", "detail": "it is a teapot"}}}}]


@pytest.fixture
def site(group, broker, session):
    """(group, http): a node with t/set, woken by t.set, and t/fail, woken by t.fail."""
    g = group(broker.bootstrap, session=session)
    g.apply(agent("set", SET, "t.set", input=FIRST), agent("fail", FAIL, "t.fail", input=FIRST))
    n = g.serve("a").start()
    http = ready(n)
    yield g, http
    http.close()
    n.stop()


def letters(http, count, query=""):
    def enough():
        found = http.get(f"/v1/dlq{query}").json["letters"]
        return len(found) >= count and found
    return tm.wait_until(enough, what=f"{count} dead letters")


def test_dead_letters_are_listed_and_driven_again(site):
    g, http = site
    g.publish([tm.event("t.fail", {"n": i}, key=str(i)) for i in range(3)])
    bad = {**tm.event("t.set", key="b"), "value": b"\xff\xfe no JSON"}
    g.publish([bad])
    found = letters(http, 4)
    assert found == g.json("dlq", "list")
    runs = [x for x in found if x["kind"] == "run"]
    assert len(runs) == 3 and runs[0]["reason"] == "it is a teapot"
    assert http.get("/v1/dlq?kind=event").json["letters"] == [x for x in found if x["kind"] == "event"]
    assert http.get("/v1/dlq?agent=t/none").json == {"letters": [], "next": None}
    paged, path = [], "/v1/dlq?limit=1&kind=run"
    while path:
        page = http.get(path).json
        assert len(page["letters"]) <= 1
        paged, path = paged + page["letters"], page["next"]
    assert paged == runs
    whole = http.get(f"/v1/dlq/{runs[0]['letter']}").json
    assert whole == g.json("dlq", "show", runs[0]["letter"]) and whole["error"]["status"] == 418
    event = next(x for x in found if x["kind"] == "event")
    assert base64.b64decode(http.get(f"/v1/dlq/{event['letter']}").json["valueBase64"]) == bad["value"]

    def redrive(letter, query="", status=202):
        a = http("POST", f"/v1/dlq/{letter}/redrive{query}")
        assert a.status == status, a
        return a.json

    would = redrive(runs[0]["letter"], "?dryRun=true", 200)
    made = redrive(runs[0]["letter"])
    assert made["run"] == would["run"] and (would["dryRun"], made["dryRun"]) == (True, False)
    assert redrive(runs[0]["letter"])["run"] == made["run"] == g.cli("dlq", "redrive", runs[0]["letter"]).out.strip()
    letters(http, 4, "?kind=run")  # it fails again: a letter of its own
    again = redrive(event["letter"])
    assert again["topic"] == g.topic and again["existing"] is False
    assert redrive(event["letter"])["existing"] is True
    for path in ("/v1/dlq/0/999", "/v1/dlq/99/0", "/v1/dlq/x/0"):
        assert http.get(path).problem(404) and http("POST", f"{path}/redrive").problem(404)
    assert http.get("/v1/dlq?after=x").problem(400) and http.get("/v1/dlq?limit=0").problem(400)


def test_a_mark_is_set_and_events_are_fed_again_from_it(site):
    g, http = site
    g.publish([tm.event("t.set", {"n": i}, key=str(i)) for i in range(3)])
    g.wait_ended(3)
    made = http("PUT", "/v1/marks/before")
    assert made.status == 201 and sum(made.json["offsets"][g.topic]) == 3
    assert http("PUT", "/v1/marks/before", {"topics": [g.topic], "at": "2020-01-01T00:00:00Z"}).status == 200
    one = http.get("/v1/marks/before").json
    assert one["offsets"] == {g.topic: [0, 0]} and http.get("/v1/marks").json["marks"] == g.json("marks", "list") == [one]
    ask = {"from": "before", "agent": "t/set"}
    would = http("POST", "/v1/replays?dryRun=true", ask).json
    assert (would["events"], would["dryRun"]) == (3, True) and http.get("/v1/replays").json == {"replays": []}
    a = http("POST", "/v1/replays", {**ask, "name": "again"})
    assert a.status == 201 and a.json["events"] == 3
    assert http("POST", "/v1/replays", {**ask, "name": "again"}).json["existing"] is True
    ended = g.wait_ended(6)
    assert sorted(r.ends[0].json["output"]["x"] for r in ended.values()) == [0, 0, 1, 1, 2, 2]
    done = tm.wait_until(lambda: [r for r in http.get("/v1/replays").json["replays"] if r["done"]], what="the replay's end")
    assert done == g.json("replays", "list")
    other = {"from": {g.topic: [1, None]}, "name": "again"}
    p = http("POST", "/v1/replays", other).problem(409)
    assert "another range" in p["detail"] and "--" not in p["hint"]
    for body, status in (({}, 400), ({"from": 7}, 400), ({"from": {g.topic: ["x"]}}, 400), ({"from": "nothing"}, 404),
                         ({"from": "before", "agent": "t/none"}, 404), ({"from": "before", "name": "a b"}, 400),
                         ({"from": {"none": [0]}}, 404)):
        assert http("POST", "/v1/replays", body).problem(status), body
    assert http("DELETE", "/v1/marks/before").json == {"name": "before", "deleted": True}
    assert http("DELETE", "/v1/marks/before").problem(404) and http.get("/v1/marks/before").problem(404)
    for body in ({"at": "soon"}, {"topics": "x"}, {"topics": []}, {"topics": [1]}):
        assert http("PUT", "/v1/marks/m", body).problem(400), body
    assert http("PUT", "/v1/marks/a%20b").problem(400) and http("PUT", "/v1/marks/m", {"topics": ["none"]}).problem(404)
    g.check()


def test_the_group_its_lag_and_its_topics(site, group):
    g, http = site
    b = g.serve("b").start()
    other = ready(b)

    def both():
        seen = other.get("/v1/group").json
        return seen["state"] == "Stable" and len({m["member"] for m in seen["members"]}) == 2 and seen
    seen = tm.wait_until(both, what="both nodes in the group")
    assert sorted(m["partition"] for m in seen["members"]) == [0, 1] and seen["group"] == g.name
    assert sorted((m["member"], m["partition"]) for m in seen["members"]) == sorted(
        (m["member"], m["partition"]) for m in g.json("group", "show"))
    g.publish([tm.event("t.set", {"n": i}, key=str(i)) for i in range(4)])
    g.wait_ended(4)

    def caught_up():
        seen = http.get("/v1/group").json
        return sum(p["lag"] for p in seen["topics"]) == 0 and sum(p["high"] for p in seen["topics"]) == 4 and seen
    seen = tm.wait_until(caught_up, what="the router to commit")
    assert [p["partition"] for p in seen["journal"]] == [0, 1] and all(p["high"] > p["lag"] for p in seen["journal"])
    b.kill9()
    assert http.get("/v1/topics").json == {"topics": [
        {"topic": g.topic, "exists": True, "partitions": 2, "replication": 1, "types": [], "schema": False}]}
    other.close()
