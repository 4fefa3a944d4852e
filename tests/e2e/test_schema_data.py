"""Data against JSON Schema: events by the schema of their topic, tasks and runs by those of their definition; what does
not fit is a dead letter or a fault that names every place, and a mended schema lets it through."""
import json
import shutil
from pathlib import Path

import tm
from group import agent

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "schema"
NUMBER = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 3}}}


def letters(g):
    return tm.read_all(g.bootstrap, f"tidemark.{g.name}.dlq")


def wait_letters(g, count):
    return tm.wait_until(lambda: (x := letters(g)) and len(x) >= count and x, 60, f"{count} dead letters")


def set_schema(g, schema):
    g.config["topics"][g.topic]["schema"] = schema
    g.write("")


def test_an_event_that_does_not_fit_its_topic_is_a_dead_letter_until_the_schema_is_mended(group, broker, session):
    g = group(broker.bootstrap, session=session, topic_partitions=1)
    set_schema(g, NUMBER)
    g.apply(agent("take", [{"a": {"set": {"n": "${ .[0].n }"}}}], "t.n"),
            agent("also", [{"a": {"set": {"n": "${ .[0].n }"}}}], "t.n"))
    n = g.serve("a").start()
    g.publish([tm.event("t.n", {"n": 1}, id_="one"), tm.event("t.n", {"n": 9, "m": 1}, id_="nine"),
               tm.event("t.n", {"m": "x"}, id_="none"), tm.event("t.n", {"n": 3}, id_="three")])
    g.wait_ended(4)
    seen = {r.header("ce_id"): json.loads(r.header("tm-dlq-error")) for r in wait_letters(g, 2)}
    assert sorted(seen) == ["nine", "none"]  # one letter each, not one for each agent
    for e in seen.values():
        assert e["type"].endswith("/errors/validation") and e["status"] == 400
    assert seen["nine"]["detail"] == "the topic's schema: /n: must be at most 3"
    assert "lacks the property 'n'" in seen["none"]["detail"]
    set_schema(g, {**NUMBER, "properties": {"n": {"type": "integer", "maximum": 9}}})
    n.stop()
    n.start(60)
    for letter in g.json("dlq", "list"):
        g.cli("dlq", "redrive", letter["letter"], status=0)
    g.wait_ended(6)
    wait_letters(g, 3)  # the other one fails again, in its replay
    n.stop()
    assert sorted({r.header("ce_id") for r in letters(g)[2:]}) == ["none"]
    g.check()


def test_publish_tells_before_the_router_does(group, embedded_log):
    g = group(embedded_log.bootstrap)
    set_schema(g, NUMBER)

    def publish(data, *more, status):
        return g.cli("events", "publish", g.topic, "--type", "t.n", "--data", data, *more, status=status)

    publish('{"n":2}', status=0)
    told = publish('{"n":"2","x":1}', status=2).err
    assert "does not fit the schema" in told and "/n: must be an integer, but is a string" in told
    assert "--no-check" in told
    publish('{"n":"2"}', "--no-check", status=0)
    assert sorted(r.value for r in tm.read_all(g.bootstrap, g.topic)) == [b'{"n":"2"}', b'{"n":2}']
    set_schema(g, {"type": "object", "properties": {"n": {"type": "numbr"}}})
    told = g.cli("topics", "apply", status=2).err
    assert '"numbr" is not a type' in told and "did you mean number?" in told
    set_schema(g, {"pattern": "(["})
    told = g.cli("topics", "apply", status=2).err
    assert "is not a regular expression" in told


def test_a_run_faults_where_its_data_does_not_fit(group, broker, session):
    def schema(document):
        return {"schema": {"document": document}}

    g = group(broker.bootstrap, session=session)
    g.apply(agent("whole", [{"a": {"set": {"n": "${ .n + 1 }"}, "export": {"as": "${ . }", **schema(NUMBER)}}}],
                  input=schema({"required": ["n"]}), output=schema({"properties": {"n": {"not": {"const": 2}}}})))
    n = g.serve("a").start()
    runs = {name: g.start_run("t/whole", data) for name, data in
            [("right", {"n": 2}), ("input", {"m": 2}), ("export", {"n": 3}), ("output", {"n": 1})]}
    g.wait_ended(4)
    shown = {name: g.json("runs", "show", run) for name, run in runs.items()}
    wait_letters(g, 3)
    n.stop()
    assert shown.pop("right")["status"] == "completed"
    assert {name: (s["status"], s["error"]["instance"], s["error"]["status"]) for name, s in shown.items()} == {
        "input": ("faulted", "/input", 400), "export": ("faulted", "/do/0/a", 400), "output": ("faulted", "/output", 400)}
    assert {name: s["error"]["detail"] for name, s in shown.items()} == {
        "input": "input.schema: lacks the property 'n'", "export": "export.schema: /n: must be at most 3",
        "output": "output.schema: /n: fits the schema of not"}
    assert {s["error"]["type"].rsplit("/")[-1] for s in shown.values()} == {"validation"}
    g.check()


def test_the_example_and_a_schema_in_a_file_of_its_own(cli, tmp_path):
    folder = tmp_path / "schema"
    shutil.copytree(EXAMPLE, folder)
    flow = folder / "total.yaml"
    assert "is valid" in cli("check", flow, status=0).out
    right = cli("run", flow, "--input", '{"id":"o-1","lines":[{"article":"tea","quantity":2,"price":4.5}]}', status=0)
    assert json.loads(right.out) == {"id": "o-1", "total": 9}
    wrong = cli("run", flow, "--input", '{"id":"1","lines":[{"article":"tea","quantity":0}]}', status=1)
    told = wrong.out + wrong.err
    assert "/id: does not match the pattern" in told and "/lines/0/quantity: must be at least 1" in told
    file = folder / "schemas" / "order.yaml"
    file.write_text(file.read_text().replace("minItems: 1", "minItem: 1"))
    told = cli("check", flow, status=2).err
    assert f'{file}:7:' in told and '"minItem" is not supported' in told and "did you mean minItems?" in told
    flow.write_text(flow.read_text().replace("endpoint: schemas/order.yaml", "endpoint: https://example.com/order.yaml"))
    told = cli("check", flow, status=2).err
    assert "total.yaml:19:" in told and "not fetched from the network" in told
