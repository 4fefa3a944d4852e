"""Agents by HTTP: looked at, checked and put, deactivated."""
import hashlib
import json

import pytest
import tm
from group import agent
from http_api import ready

SET = [{"a": {"set": {"x": 1}}}]
YAML = """document:
  dsl: 1.0.3
  namespace: t
  name: hello
  version: 1.0.0
  title: Hello
do:
  - a:
      set: {x: '${ .n | floor }'}
"""


@pytest.fixture
def site(group, broker, session):
    """(group, http): a node with the agent t/set."""
    g = group(broker.bootstrap, session=session)
    g.apply(agent("set", SET))
    n = g.serve("a").start()
    http = ready(n)
    yield g, http
    http.close()
    n.stop()


def put(http, body, query="", status=200, name="t/hello", **headers):
    headers.setdefault("Content_Type", "application/yaml")
    a = http("PUT", f"/v1/agents/{name}{query}", body, **headers)
    assert a.status == status, a
    return a.json


def test_an_agent_is_put_used_and_deactivated(site):
    g, http = site
    made = put(http, YAML, status=201)
    assert (made["agent"], made["version"], made["change"], made["written"]) == ("t/hello", "1.0.0", "created", True)
    assert http.start("t/hello", {"n": 2})["version"] == "1.0.0"  # at once: this node has read it
    assert put(http, YAML)["change"] == "unchanged"
    two = YAML.replace("1.0.0", "1.1.0")
    assert put(http, two, "?dryRun=true") == {**put(http, two, "?dryRun=true"), "change": "updated", "written": False}
    assert http.get("/v1/agents/t/hello").json["version"] == "1.0.0"
    assert put(http, json.dumps(agent("hello", SET, version="1.1.0")), Content_Type="application/json")["change"] == "updated"
    assert sorted(http.get("/v1/agents/t/hello").json["versions"]) == ["1.0.0", "1.1.0"]
    p = http("PUT", "/v1/agents/t/hello", two, Content_Type="text/yaml").problem(409)
    assert "another content" in p["detail"] and "force=true" in p["hint"]
    assert put(http, two, "?force=true")["change"] == "updated"
    assert http("DELETE", "/v1/agents/t/hello?dryRun=true").problem(400)
    a = http("DELETE", "/v1/agents/t/hello")
    assert (a.status, a.json["change"]) == (200, "deactivated")
    assert http("POST", "/v1/agents/t/hello/runs", {"n": 1}).problem(409)
    assert http("DELETE", "/v1/agents/t/hello").json["change"] == "unchanged"
    assert put(http, two)["change"] == "activated"
    http.start("t/hello", {"n": 1})
    g.wait_ended(2)


def test_agents_are_listed_as_by_the_command_line(site):
    g, http = site
    put(http, YAML, status=201)

    def known(v):
        return sorted(v, key=lambda a: a["agent"])

    listed = http.get("/v1/agents").json["agents"]
    assert known(listed) == known(g.json("agents", "list"))
    one = http.get("/v1/agents/t/hello").json
    assert one == {**next(a for a in listed if a["agent"] == "t/hello"), "definition": g.json("agents", "show", "t/hello")}
    text = http.get("/v1/agents/t/hello?format=text&version=1.0.0")
    assert hashlib.sha256(text.body.encode()).hexdigest() == one["hash"] and json.loads(text.body) == one["definition"]
    assert http.get("/v1/agents/t/hello?format=text", If_None_Match=text.headers["ETag"]).status == 304


def test_every_problem_of_a_definition_is_told_with_its_place(site):
    _, http = site

    def refused(body, status=400, name="t/hello", **headers):
        headers.setdefault("Content_Type", "application/yaml")
        return http("PUT", f"/v1/agents/{name}", body, **headers).problem(status)

    bad = YAML.replace("title:", "titel:").replace("set:", "sett:")
    errors = refused(bad)["errors"]
    assert [(e["line"], e["column"]) for e in errors] == [(6, 3), (9, 7)] and all(e["detail"] for e in errors)
    assert any("title" in e.get("hint", "") for e in errors)
    assert refused(YAML.replace("floor", "nosuchfn(1)"))["errors"][0]["line"] == 9  # needs the language's own compiler
    assert refused("a: [")["errors"][0]["line"] and refused("{")["errors"]
    p = refused(YAML, name="t/other")
    assert "t/other" in p["detail"] and "t/hello" in p["detail"]
    schema = YAML + "input:\n  schema:\n    resource: {endpoint: 'file:///etc/passwd'}\n"
    assert "not read" in refused(schema)["errors"][0]["detail"]
    assert "application/yaml" in refused(YAML, 415, Content_Type="image/png")["hint"]
    assert refused("", 400)
    assert http("PUT", "/v1/agents/t/hello?force=perhaps", YAML, Content_Type="text/yaml").problem(400)
    for path in ("/v1/agents/t/none", "/v1/agents/t/set?version=9.9.9"):
        assert http.get(path).problem(404)
    assert http.get("/v1/agents/t/set?format=xml").problem(400)
    assert "t/none" in http("DELETE", "/v1/agents/t/none").problem(404)["detail"]
    assert [a["agent"] for a in http.get("/v1/agents").json["agents"]] == ["t/set"]


def test_another_node_reads_the_change(site, group):
    g, http = site
    b = g.serve("b").start()
    other = ready(b)
    put(http, YAML, status=201)
    tm.wait_until(lambda: other.get("/v1/agents/t/hello").status == 200, what="the other node to read it")
    assert put(other, YAML)["change"] == "unchanged"
    b.kill9()
    assert put(http, YAML.replace("1.0.0", "2.0.0"))["change"] == "updated"
    other.close()
