"""`tidemark run FILE`: one run to its end on a private log, by the same engine as everywhere; and `tidemark check`."""
import json

import pytest

from group import agent, post


def write(tmp, definition, name="a.yaml"):
    path = tmp / name
    path.write_text(definition if isinstance(definition, str) else json.dumps(definition))
    return path


def run(cli, tmp, do, input=None, status=0, env=None, **more):
    """The one object that --json prints."""
    path = write(tmp, agent("a", do, **more))
    done = cli("run", path, "--json", "--input", json.dumps({} if input is None else input), status=status, env=env)
    return json.loads(done.out)


def test_json_has_the_run_and_its_tasks_in_start_order(cli, tmp):
    seen = run(cli, tmp, [{"one": {"set": {"x": "${ .n + 1 }"}}}, {"two": {"set": {"y": "${ .x * 2 }"}}}], {"n": 20})
    assert set(seen) == {"id", "status", "output", "error", "tasks", "events"}
    assert (seen["status"], seen["output"], seen["error"], seen["events"]) == ("completed", {"y": 42}, None, [])
    assert len(seen["id"]) == 30
    assert [(t["name"], t["reference"], t["status"], t["attempts"], t["output"]) for t in seen["tasks"]] == [
        ("one", "/do/0/one", "completed", 1, {"x": 21}), ("two", "/do/1/two", "completed", 1, {"y": 42})]
    for t in seen["tasks"]:
        assert t["startedAt"] <= t["endedAt"] and t["error"] is None


def test_output_alone_is_json(cli, tmp):
    path = write(tmp, agent("a", [{"one": {"set": {"text": "tide"}}}]))
    assert json.loads(cli("run", path, status=0).out) == {"text": "tide"}


def test_nothing_is_left_behind(cli, tmp):
    (tmp / "t").mkdir()
    path = write(tmp, agent("a", [{"one": {"set": {"v": 1}}}]))
    cli("run", path, status=0, env={"TMPDIR": str(tmp / "t")})
    assert list((tmp / "t").iterdir()) == []


def test_switch_do_and_if(cli, tmp):
    seen = run(cli, tmp, [
        {"choose": {"switch": [{"big": {"when": "${ .n > 10 }", "then": "large"}}, {"other": {"then": "small"}}]}},
        {"small": {"set": {"size": "small"}, "then": "end"}},
        {"large": {"do": [{"a": {"set": {"size": "large"}}}, {"b": {"if": "${ false }", "set": {"size": "no"}}}]}},
    ], {"n": 11})
    assert seen["output"] == {"size": "large"}
    status = {t["reference"]: t["status"] for t in seen["tasks"]}
    assert status["/do/2/large/do/1/b"] == "skipped" and "/do/1/small" not in status


def test_context_is_exported_and_input_transformed(cli, tmp):
    seen = run(cli, tmp, [
        {"keep": {"set": {"v": 5}, "export": {"as": "${ {kept: .v} }"}}},
        {"use": {"input": {"from": "${ {w: .v} }"}, "set": {"sum": "${ .w + $context.kept }"}}},
    ], output={"as": "${ .sum }"})
    assert seen["output"] == 10


def test_raise_faults_with_problem_details(cli, tmp):
    seen = run(cli, tmp, [{"no": {"raise": {"error": {"type": "https://example.org/no", "status": 409,
                                                      "title": "Not now"}}}}], status=1)
    assert seen["status"] == "faulted" and seen["output"] is None
    assert (seen["error"]["type"], seen["error"]["status"], seen["error"]["title"]) == \
        ("https://example.org/no", 409, "Not now")
    assert seen["error"]["instance"] == "/do/0/no" and seen["tasks"][0]["status"] == "faulted"


def test_wait_takes_its_time(cli, tmp):
    seen = run(cli, tmp, [{"rest": {"wait": {"milliseconds": 300}}}, {"on": {"set": {"done": True}}}])
    rest = seen["tasks"][0]
    assert rest["endedAt"] > rest["startedAt"] and seen["output"] == {"done": True}


def test_http_answers_and_errors(cli, tmp, ledger):
    ledger.on("/item/7", body={"n": 7}, headers={"X-Kind": "thing"})
    seen = run(cli, tmp, [
        {"get": {"call": "http", "with": {"method": "get", "endpoint": ledger.url("/item/{id}"), "output": "response"},
                 "output": {"as": {"status": "${ .statusCode }", "n": "${ .content.n }"}}}},
    ], {"id": 7})
    assert seen["output"] == {"status": 200, "n": 7}
    assert ledger.entries("/item/7")[0].method == "GET"
    ledger.on("/broken", status=503)
    seen = run(cli, tmp, [{"call": post(ledger.url("/broken"), {"x": 1})}], status=1)
    assert seen["error"]["status"] == 503 and "communication" in seen["error"]["type"]
    sent = ledger.entries("/broken")[0]
    assert json.loads(sent.body) == {"x": 1} and sent.key and sent.headers["traceparent"].startswith("00-")


def test_a_call_is_not_made_twice_when_its_connection_is_closed(cli, tmp, ledger):
    """The second call goes out on the connection that the first one left; closed without an answer, it may have been
    carried out."""
    ledger.on("/cut", drop=True, times=1)
    seen = run(cli, tmp, [{"one": post(ledger.url("/first"), {})}, {"two": post(ledger.url("/cut"), {})}], status=1)
    assert "communication" in seen["error"]["type"] and "not known" in seen["error"]["detail"]
    assert [e.path for e in ledger.entries()] == ["/first", "/cut"]


def test_shell_gets_arguments_environment_and_a_key(cli, tmp):
    seen = run(cli, tmp, [{"sh": {"run": {"shell": {
        "command": 'printf "%s %s %s" "$1" "$GREETING" "${TIDEMARK_IDEMPOTENCY_KEY:+key}"',
        "arguments": ["${ .who }"], "environment": {"GREETING": "${ .how }"}}}}}], {"who": "you", "how": "hello"})
    assert seen["output"] == "you hello key"


@pytest.mark.parametrize("language, code", [
    ("python", "import json, sys\nprint(json.dumps({'n': json.load(sys.stdin)['n'] + 1}))"),
    ("js", "let t='';process.stdin.on('data',d=>t+=d).on('end',()=>console.log(JSON.stringify({n:JSON.parse(t).n+1})))"),
])
def test_script(cli, tmp, language, code):
    import shutil
    if language == "js" and not shutil.which("node"):
        seen = run(cli, tmp, [{"s": {"run": {"script": {"language": "js", "code": code, "stdin": "${ . }"}}}}],
                   {"n": 1}, status=1)
        assert "node" in json.dumps(seen["error"])  # the missing interpreter is named
        return
    seen = run(cli, tmp, [{"s": {"run": {"script": {"language": language, "code": code, "stdin": "${ . }"}},
                                 "output": {"as": "${ fromjson }"}}}], {"n": 1})
    assert seen["output"] == {"n": 2}


def test_a_failing_process_is_an_error_with_its_stderr(cli, tmp):
    seen = run(cli, tmp, [{"sh": {"run": {"shell": {"command": "echo why >&2; exit 3"}}}}], status=1)
    assert "runtime" in seen["error"]["type"] and "why" in json.dumps(seen["error"])


def test_an_event_that_no_topic_declares_can_be_emitted(cli, tmp):
    """Nobody declares topics for the temporary log of `run`."""
    path = write(tmp, agent("a", [{"tell": {"emit": {"event": {"with": {"type": "t.told", "data": {"n": 1}}}}}}]))
    made = json.loads(cli("run", path, status=0).out)
    assert made["type"] == "t.told" and made["source"] == "/t/a/1.0.0" and made["data"] == {"n": 1}


def test_emitted_events_are_listed(cli, tmp):
    seen = run(cli, tmp, [{"tell": {"emit": {"event": {"with": {"type": "t.told", "data": {"n": "${ .n }"}}}},
                                    "metadata": {"tidemark": {"topic": "told"}}}}], {"n": 3})
    assert [(e["type"], e["data"]) for e in seen["events"]] == [("t.told", {"n": 3})]


def test_an_expression_error_says_where(cli, tmp):
    seen = run(cli, tmp, [{"bad": {"set": {"x": "${ .text + 1 }"}}}], {"text": "a"}, status=1)
    assert "expression" in seen["error"]["type"] and seen["error"]["instance"].startswith("/do/0/bad")


def test_statuses_of_bad_usage(cli, tmp):
    path = write(tmp, agent("a", [{"one": {"set": {"v": 1}}}]))
    assert "JSON" in cli("run", path, "--input", "{", status=2).err
    assert "hint" in cli("run", path, "--inptu", "{}", status=2).err  # did you mean --input
    assert cli("run", tmp / "none.yaml", status=2).err
    assert cli("runn", status=2).err.count("did you mean") == 1


BAD = """\
document:
  dsl: '1.0.3'
  namespace: t
  name: bad
  version: '1.0.0'
  colour: blue
do:
  - first:
      set:
        a: ${ .x + }
      then: nowhere
  - second:
      cal: http
"""


def test_check_reports_every_problem_at_its_place(cli, tmp):
    path = write(tmp, BAD, "bad.yaml")
    done = cli("check", path, status=2)
    places = [line.split(": ")[0] for line in done.err.splitlines() if line.startswith(str(path))]
    assert f"{path}:6:3" in places  # unknown property
    assert f"{path}:10:12" in places  # expression
    assert any(p.startswith(f"{path}:11:") for p in places)  # `then` without a task
    assert any(p.startswith(f"{path}:13:") for p in places)  # no kind of task
    assert done.err.count("hint:") >= 3


def test_check_knows_the_trap_of_unquoted_braces(cli, tmp):
    text = BAD.split("do:")[0].replace("  colour: blue\n", "") + "do:\n  - a:\n      set:\n        v: ${ {a: 1} }\n"
    done = cli("check", write(tmp, text), status=2)
    assert ":10:" in done.err or ":9:" in done.err
    assert "quot" in done.err


def test_check_of_good_files(cli, tmp):
    path = write(tmp, agent("a", [{"one": {"set": {"v": 1}}}]))
    assert "t/a 1.0.0 is valid" in cli("check", path, status=0).out
