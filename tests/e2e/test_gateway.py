"""Runs requested by HTTP: answered when the log has them, carried out once, refused with a reason."""
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import tm
from group import agent
from http_api import Http
from prometheus_client.parser import text_string_to_metric_families

SET = [{"a": {"set": {"x": "${ .n }"}}}]
SCHEMA = {"schema": {"document": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}}


@pytest.fixture
def site(group, broker):
    """(group, http) of a node with the agents t/set and t/strict."""
    g = group(broker.bootstrap)
    g.apply(agent("set", SET), agent("strict", SET, input=SCHEMA))
    n = g.serve("a").start()
    http = Http(n)
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be ready")
    yield g, http
    http.close()
    n.stop()


def test_a_run_is_in_the_log_when_its_id_is_answered(site):
    g, http = site
    for i in range(5):
        a = http("POST", "/v1/agents/t/set/runs?key=k&priority=2", {"n": i},
                 traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        made = a.json
        assert a.status == 202 and a.headers["Location"] == f"/v1/runs/{made['id']}", a
        assert made["links"]["self"] == a.headers["Location"]
        assert (made["agent"], made["version"], made["status"]) == ("t/set", "1.0.0", "pending")
        r = next(r for r in g.journal() if (r.partition, r.offset) == (made["partition"], made["offset"]))
        assert (r.type, r.header("tm-prio")) == ("run.requested", "2") and r.key.startswith(made["id"])
        assert r.header("traceparent").startswith("00-4bf92f35")
        assert r.json["key"] == "k" and r.json["input"] == {"n": i}
    ended = g.wait_ended(5)
    told = {m.name: m.samples[0].value for m in text_string_to_metric_families(http.get("/metrics").body)}
    assert told["tidemark_runs_started"] == told["tidemark_runs_ended"] == 5 and told["tidemark_log_up"] == 1, told
    assert sorted(r.ends[0].json["output"]["x"] for r in ended.values()) == list(range(5))
    g.check()


def test_a_key_is_one_run_whatever_is_asked_and_where(site, group, broker):
    """Two gateways, some clients at once, each with the same key: one run; another body is refused; also after its end,
    a takeover, and while the run waits for its place."""
    g, http = site
    b = g.serve("b").start()
    other = Http(b)
    tm.wait_until(lambda: other.get("/readyz").status == 200, what="the second node to be ready")

    def ask(where, key, n):
        h = Http(where.address)
        try:
            return h("POST", "/v1/agents/t/set/runs", {"n": n}, Idempotency_Key=f'"{key}"')
        finally:
            h.close()

    with ThreadPoolExecutor(8) as pool:
        for key in range(6):
            got = list(pool.map(ask, [http, other] * 4, [f"k{key}"] * 8, [key, key, key, key, key, key, 99, 99]))
            ids = {a.json["id"] for a in got if a.status == 202}
            refused = [a for a in got if a.status != 202]
            assert len(ids) == 1, got
            assert {a.status for a in refused} == {422} and len(refused) in (2, 6), got
            assert sum("Idempotency-Replayed" not in a.headers for a in got if a.status == 202) == 1
    ended = g.wait_ended(6)
    assert len(ended) == 6
    b.kill9()
    again = tm.wait_until(lambda: (lambda a: a.status != 503 and a)(ask(http, "k0", 0)), what="an answer after the takeover")
    first = ask(http, "k0", 99)
    assert {again.status, first.status} == {202, 422}, (again, first)
    done = again if again.status == 202 else first
    assert done.headers["Idempotency-Replayed"] == "true" and done.json["status"] == "completed"
    assert ask(http, "x" * 256, 0).problem(400)
    g.check()
    assert len(g.ended()) == 6


def test_an_id_of_the_command_line_is_one_run_too(site):
    g, _ = site
    first = g.cli("runs", "start", "t/set", "--id", "x", "--input", '{"n": 1}', status=0).out
    assert g.cli("runs", "start", "t/set", "--id", "x", "--input", '{"n": 1}', status=0).out == first
    other = g.cli("runs", "start", "t/set", "--id", "x", "--input", '{"n": 2}', "--wait", status=4)
    assert "--id was used for a request with another input" in other.err
    g.wait_ended(1)
    g.check()


def test_who_prefers_to_wait_has_the_output(site):
    g, http = site
    g.apply(agent("slow", [{"nap": {"wait": {"hours": 1}}}]), agent("bad", [{"no": {"raise": {"error": {
        "type": "https://x.y/no", "status": 409, "detail": "as it must"}}}}]))
    tm.wait_until(lambda: http("POST", "/v1/agents/t/bad/runs", {}).status == 202, what="the agents to be known")
    a = http("POST", "/v1/agents/t/set/runs", {"n": 7}, Prefer="respond-async, wait=60", Idempotency_Key="w")
    assert a.status == 200 and a.json["output"] == {"x": 7} and a.json["status"] == "completed", a
    assert a.headers["Preference-Applied"] == "wait"
    b = http("POST", "/v1/agents/t/set/runs", {"n": 7}, Prefer="wait=60", Idempotency_Key="w")
    assert b.status == 200 and b.json["output"] == {"x": 7} and b.json["id"] == a.json["id"], b
    bad = http("POST", "/v1/agents/t/bad/runs", {}, Prefer="wait=60")
    assert bad.status == 200 and bad.json["status"] == "faulted" and bad.json["error"]["status"] == 409, bad
    slow = http("POST", "/v1/agents/t/slow/runs", {}, Prefer="wait=1")
    assert slow.status == 202 and slow.json["status"] == "pending", slow
    g.cli("runs", "cancel", slow.json["id"], status=0)
    g.wait_ended(4)
    g.check()


def test_what_is_refused_is_told_with_its_reason(site):
    g, http = site

    def refused(status, path="/v1/agents/t/set/runs", body="{}", **headers):
        p = http("POST", path, body, **headers).problem(status)
        return f"{p['detail']} {p['hint']}"

    assert "t/none" in refused(404, "/v1/agents/t/none/runs")
    assert "9.9.9" in refused(404, "/v1/agents/t/set/runs?version=9.9.9")
    assert "line 1, column 7" in refused(400, body='{"n": }')
    assert "application/json" in refused(415, Content_Type="text/plain")
    assert "priority" in refused(400, "/v1/agents/t/set/runs?priority=x")
    assert "key" in refused(400, "/v1/agents/t/set/runs?key=")
    assert "reference" in refused(413, body=json.dumps({"n": "x" * (600 * 1024)}))
    a = http("GET", "/v1/agents/t/set/runs")
    assert a.headers["Allow"] == "POST, OPTIONS" and a.problem(405)
    assert http.get("/nothing/here").problem(404)
    assert http("POST", "/v1/agents/%zz/set/runs", "{}").problem(400)
    unfit = http("POST", "/v1/agents/t/strict/runs", {"n": "one"}).problem(400)
    assert [e["pointer"] for e in unfit["errors"]] == ["/n"], unfit
    g.cli("agents", "deactivate", "t/set", status=0)
    tm.wait_until(lambda: http("POST", "/v1/agents/t/set/runs", "{}").status == 409, what="the agent to be inactive")
    assert http.start("t/set", {"n": 1}, "?version=1.0.0")["id"]  # named, it is started all the same
    g.wait_ended(1)
    g.check()


def test_without_the_log_nothing_is_accepted_and_nothing_is_lost(site, broker):
    g, http = site
    accepted = [http.start("t/set", {"n": 0})["id"]]
    broker.kill9()
    tm.wait_until(lambda: http.get("/readyz").status == 503, what="the node to notice")
    assert http.get("/healthz").status == 200
    a = http("POST", "/v1/agents/t/set/runs", {"n": 1})
    assert "log" in a.problem(503)["detail"] and a.headers["Retry-After"] == "1"
    broker.start()
    tm.wait_until(lambda: http.get("/readyz").status == 200, what="the node to be back")
    accepted.append(http.start("t/set", {"n": 2})["id"])
    assert sorted(g.wait_ended(2)) == sorted(accepted)
    g.check()


def test_a_node_that_drains_answers_what_it_has_taken(site, group, broker):
    g, _ = site
    b = g.serve("b").start()
    http = Http(b)
    made = [http.start("t/set", {"n": i})["id"] for i in range(20)]
    b.stop()
    with pytest.raises(OSError):
        Http(http.address).get("/healthz")
    assert sorted(g.wait_ended(20)) == sorted(made)


def test_runs_are_listed_counted_and_found(site, cli):
    g, http = site
    g.apply(agent("bad", [{"no": {"raise": {"error": {"type": "https://x.y/no", "status": 409,
                                                      "detail": "the zebra is missing"}}}}]))
    tm.wait_until(lambda: http("POST", "/v1/agents/t/bad/runs", {}).status == 202, what="the agent to be known")
    made = [http.start("t/set", {"n": i, "who": f"person{i}"}, f"?key=k{i % 3}")["id"] for i in range(25)]
    g.wait_ended(26)

    def listed(query=""):
        a = http.get(f"/v1/runs{query}")
        assert a.status == 200, a
        return a.json

    tm.wait_until(lambda: http.get("/v1/counts").json["statuses"] == {"completed": 25, "faulted": 1},
                  what="the read model to have all")
    assert listed()["complete"] in (True, False) and len(listed()["runs"]) == 26
    assert listed("?limit=500")["next"] is None
    # Pages, while others are written: each run once, newest first.
    seen, cursor = [], ""
    while cursor is not None:
        page = listed(f"?agent=t/set&limit=7{cursor and '&cursor=' + cursor}")
        seen += [r["id"] for r in page["runs"]]
        cursor = page["next"]
        http.start("t/set", {"n": 0}, "?key=late")
    assert seen == [r for r in seen if r in made] and len(seen) == 25 and set(seen) == set(made)
    assert {r["key"] for r in listed("?key=k1")["runs"]} == {"k1"}
    assert [r["error"]["detail"] for r in listed("?status=faulted")["runs"]] == ["the zebra is missing"]
    assert [r["id"] for r in listed("?text=person17")["runs"]] == [made[17]]
    assert [r["agent"] for r in listed("?text=zeb")["runs"]] == ["t/bad"]
    assert listed("?to=2001-01-01T00:00:00Z")["runs"] == [] and len(listed("?from=2001-01-01T00:00:00Z")["runs"]) >= 26
    one = listed("?text=person3")["runs"][0]
    whole = http.get(f"/v1/runs/{one['id']}").json
    assert {k: whole[k] for k in ("id", "agent", "status", "key", "offset")} == {
        k: one[k] for k in ("id", "agent", "status", "key", "offset")}
    for bad in ("?status=done", "?limit=0", "?limit=501", "?cursor=x", "?from=yesterday"):
        assert http.get(f"/v1/runs{bad}").problem(400)
    # Removed while in use, damaged while in use: made anew by itself.
    file = g.tmp / "data-a" / "view" / f"{g.name}.db"
    for harm in (file.unlink, lambda: file.write_bytes(b"no database" * 1000)):
        harm()
        tm.wait_until(lambda: (lambda a: a.status == 200 and a.json["statuses"].get("faulted") == 1 and a.json["complete"])(
            http.get("/v1/counts")), what="the read model to be made anew")
        assert [r["id"] for r in listed("?text=person17")["runs"]] == [made[17]]
    assert "a node has it" in g.cli("view", "rebuild", "--data", g.tmp / "data-a", status=0).out
    g.wait_ended(30)
    shown = g.json("view", "rebuild", "--data", g.tmp / "elsewhere")
    assert shown["runs"] == len(g.ended()) == 30
