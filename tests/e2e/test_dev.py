"""`tidemark dev` in a folder of its own, and the commands that a person types beside it: publish, runs, marks, replays,
dead letters."""
import json
import shutil
import subprocess

import pytest

import journal
import tm
from group import agent, post

TALK = [{"say": {"set": {"n": "${ .n }", "text": "${ \"hello \" + (.n | tostring) }"}}},
        {"tell": {"emit": {"event": {"with": {"type": "t.said", "data": "${ . }"}}},
                  "metadata": {"tidemark": {"topic": "said"}}}}]


def talk(version="1.0.0", text=None, **more):
    do = json.loads(json.dumps(TALK))
    if text:
        do[0]["say"]["set"]["text"] = text
    return agent("talk", do, "t.say", version, input={"from": "${ .[0] }"}, **more)


class Dev:
    def __init__(self, cli, node, tmp):
        self.cli, self.tmp = cli, tmp
        (tmp / "config/agents").mkdir(parents=True)
        (tmp / "topics").mkdir()
        self.topic("in")
        self.topic("said")
        self.node = node("dev", "--port", "0", name="dev", ready=r"^log   (\S+):(\d+)[\s\S]*^ready: ", cwd=tmp)

    def topic(self, name):
        (self.tmp / f"topics/{name}.yaml").write_text("partitions: 2\n")

    def put(self, name, definition):
        path = self.tmp / f"config/agents/{name}.yaml"
        path.write_text(definition if isinstance(definition, str) else json.dumps(definition))
        return path

    def start(self):
        self.node.start(60)
        self.bootstrap = ":".join(self.node.ready.groups()[:2])
        return self

    def json(self, *args, status=0):
        return json.loads(self.cli(*args, "-o", "json", status=status).out)

    def jsonl(self, *args):
        return [json.loads(line) for line in self.cli(*args, "-o", "jsonl", status=0).out.splitlines()]

    def said(self, text, timeout_s=20):
        tm.wait_until(lambda: text in self.node.err_path.read_text(), timeout_s, f"dev to say {text!r}")

    def publish(self, data, type_="t.say", **more):
        args = [x for k, v in more.items() for x in (f"--{k}", v)]
        return self.json("events", "publish", "in", "--type", type_, "--data", json.dumps(data), *args)

    def runs(self, **where):
        return self.jsonl("runs", "list", "--limit", "0", *[x for k, v in where.items() for x in
                                                            ("--where", f"{k}={v}")])

    def wait_runs(self, count, status="completed", timeout_s=30, **where):
        return tm.wait_until(lambda: (r := self.runs(status=status, **where)) and len(r) >= count and r, timeout_s,
                             f"{count} runs {status}", every_s=0.2)


@pytest.fixture
def dev(cli, node, tmp):
    return Dev(cli, node, tmp)


def test_an_event_in_and_its_result_out_by_kcat(dev):
    assert shutil.which("kcat")
    dev.put("talk", talk())
    dev.start()
    subprocess.run(["kcat", "-b", dev.bootstrap, "-P", "-t", "in", "-H", "ce_specversion=1.0", "-H", "ce_type=t.say",
                    "-H", "ce_source=/kcat", "-H", "ce_id=1", "-H", "content-type=application/json"],
                   input=b'{"n": 7}', check=True, timeout=tm.PATIENCE_S)
    out = subprocess.run(["kcat", "-b", dev.bootstrap, "-C", "-t", "said", "-c", "1", "-q", "-f", "%h\n%s\n"],
                         capture_output=True, check=True, timeout=tm.PATIENCE_S, text=True).stdout.splitlines()
    assert json.loads(out[1]) == {"n": 7, "text": "hello 7"}
    assert "ce_type=t.said" in out[0] and "ce_specversion=1.0" in out[0]
    dev.node.stop()


def test_dev_in_an_empty_folder(cli, node, tmp):
    n = node("dev", "--port", "0", name="dev", ready=r"^ready: ", cwd=tmp).start(60)
    made = json.loads((tmp / ".tidemark/dev.json").read_text())
    assert made["pid"] == n.pid and made["journalPartitions"] == 4
    assert cli.jsonl("runs", "list", "-o", "jsonl") == []
    n.stop()
    assert not (tmp / ".tidemark/dev.json").exists()


def test_agents_follow_their_files(dev):
    dev.start()
    path = dev.put("talk", talk())
    dev.said("t/talk:1.0.0 created")
    dev.publish({"n": 1})
    dev.wait_runs(1)
    dev.put("talk", talk(text="changed"))
    dev.said("t/talk:1.0.0 updated")
    dev.publish({"n": 2})
    dev.wait_runs(2)
    texts = sorted(dev.json("runs", "show", r["id"])["tasks"][-2]["output"]["text"] for r in dev.runs())
    assert texts == ["changed", "hello 1"]
    dev.put("talk", "document: {dsl: '1.0.3', namespace: t, name: talk, version: 1\ndo: [")
    dev.said("its last good version goes on")
    dev.publish({"n": 3})
    dev.wait_runs(3)
    path.unlink()
    dev.said("t/talk deactivated")
    dev.publish({"n": 4})
    dev.put("other", agent("other", [{"a": {"set": {"n": 1}}}], "t.other"))
    dev.said("t/other:1.0.0 created")
    dev.publish({}, "t.other")
    dev.wait_runs(1, agent="t/other")
    assert len(dev.runs(agent="t/talk")) == 3
    dev.node.stop()


def test_runs_are_listed_shown_and_found_after_a_restart(dev):
    dev.put("talk", talk(key=None))
    dev.start()
    for i in range(3):
        dev.publish({"n": i}, id=str(i))
    dev.publish({"n": 0}, id="0")  # the same event again: no second run
    runs = dev.wait_runs(3)
    dev.node.kill9()
    dev.start()
    assert {r["id"] for r in dev.wait_runs(3)} == {r["id"] for r in runs}
    seen = dev.json("runs", "show", runs[0]["id"])
    assert [t["name"] for t in seen["tasks"]][-2:] == ["say", "tell"]
    tree = dev.cli("runs", "show", runs[0]["id"], status=0).out
    assert "say" in tree and "completed" in tree and runs[0]["id"] in tree
    types = [r["type"] for r in dev.json("runs", "history", runs[0]["id"])]
    assert types[0] == "run.requested" and types.count("run.completed") == 1
    settled = [r for r in tm.journal(dev.bootstrap, "main") if r.type == "request.settled"]
    assert [r.header("tm-status") for r in settled] == ["duplicate"]
    assert dev.json("runs", "list", "--count")["completed"] == 3
    assert dev.cli("runs", "show", "0000" + "0" * 26, status=3).err
    assert dev.cli("runs", "show", "nonsense", status=2).err
    dev.node.stop()


def test_start_watch_cancel_retry_fork(dev, ledger):
    ledger.on("/hang", hang=True)
    ledger.on("/flaky", status=500, times=1)
    dev.put("hang", agent("hang", [{"call": post(ledger.url("/hang"), {})}]))
    dev.put("flaky", agent("flaky", [{"before": {"set": {"n": "${ .n }"}}},
                                     {"call": {**post(ledger.url("/flaky"), {"n": "${ .n }"}),
                                               "output": {"as": "${ $input }"}}},
                                     {"after": {"set": {"n": "${ .n + 1 }"}}}]))
    dev.start()
    hanging = dev.json("runs", "start", "t/hang")["id"]
    ledger.wait(1, "/hang")
    assert dev.cli("runs", "watch", hanging, "--timeout", "0.1", status=124)
    dev.cli("runs", "cancel", hanging, "--reason", "enough", status=0)
    done = dev.json("runs", "watch", hanging, "--timeout", "120", status=1)
    assert done["status"] == "cancelled" and "enough" in json.dumps(done)
    # A faulted run is forked at its failed task; what was done before is not done again.
    bad = dev.json("runs", "start", "t/flaky", "--input", '{"n": 1}')["id"]
    assert dev.json("runs", "watch", bad, "--timeout", "120", status=1)["status"] == "faulted"
    again = dev.json("runs", "retry", bad)["id"]
    good = dev.json("runs", "watch", again, "--timeout", "120")
    assert good["output"] == {"n": 2} and [t["name"] for t in good["tasks"]] == ["call", "after"]
    assert len(ledger.entries("/flaky")) == 2 and good["forkOf"]["run"] == bad
    assert dev.cli("runs", "retry", again, status=4).err  # it has not faulted
    args = ("runs", "fork", again, "--from", "after", "--id", "00000000-0000-4000-8000-000000000001")
    fork = dev.json(*args)["id"]
    assert fork == dev.json(*args)["id"]  # the same id: no double
    assert dev.json("runs", "watch", fork, "--timeout", "120")["output"] == {"n": 2}
    assert dev.cli("runs", "fork", again, "--from", "nowhere", status=3).err
    assert dev.cli("runs", "start", "t/none", status=3).err
    journal.check(tm.journal(dev.bootstrap, "main"))
    ledger.release()
    dev.node.stop()


def test_suspended_runs_start_no_further_task(dev, ledger):
    ledger.on("/one", hang=True)
    dev.put("two", agent("two", [{"one": post(ledger.url("/one"), {})}, {"two": post(ledger.url("/two"), {})}]))
    dev.start()
    run = dev.json("runs", "start", "t/two")["id"]
    ledger.wait(1, "/one")
    dev.cli("runs", "suspend", run, status=0)
    tm.wait_until(lambda: dev.json("runs", "show", run)["status"] == "suspended", 20, "the run to be suspended")
    ledger.release()
    tm.wait_until(lambda: dev.json("runs", "show", run)["tasks"][0]["status"] == "completed", 20, "its task to end")
    assert ledger.entries("/two") == []
    dev.cli("runs", "resume", run, status=0)
    assert dev.json("runs", "watch", run, "--timeout", "120")["status"] == "completed"
    assert len(ledger.entries("/two")) == 1
    dev.node.stop()


def test_replay_from_a_mark_with_a_changed_agent(dev):
    dev.put("talk", talk())
    dev.start()
    dev.publish({"n": 0})
    dev.wait_runs(1)
    dev.cli("marks", "set", "before", "--topic", "in", status=0)
    assert [m["name"] for m in dev.jsonl("marks", "list")] == ["before"]
    for i in range(1, 6):
        dev.publish({"n": i})
    dev.wait_runs(6)
    dev.put("talk", talk("2.0.0", text="second thoughts"))
    dev.said("t/talk:2.0.0 updated")
    start = ("replays", "start", "--from", "before", "--name", "again")
    assert "5 events" in dev.cli(*start, status=0).out
    new = dev.wait_runs(5, feed="replay:again")
    assert {r["version"] for r in new} == {"2.0.0"}
    # Repeated under its name it makes no doubles; another range under it is a conflict.
    assert "5 events" in dev.cli(*start, status=0).out
    dev.publish({"n": 6})
    dev.wait_runs(7, feed="live")
    assert len(dev.runs(feed="replay:again")) == 5
    assert "another range" in dev.cli("replays", "start", "--from", "in:0:0", "--from", "in:1:0", "--name", "again", status=4).err
    tm.wait_until(lambda: [r["done"] for r in dev.jsonl("replays", "list")] == [True], 20, "the replay to be done")
    dev.cli("marks", "delete", "before", status=0)
    assert dev.cli("marks", "delete", "before", status=3).err
    journal.check(tm.journal(dev.bootstrap, "main"))
    dev.node.stop()


def test_dead_letters_are_listed_shown_and_redriven(dev, ledger):
    ledger.on("/pay", status=402, times=1)
    dev.put("pay", agent("pay", [{"call": {**post(ledger.url("/pay"), "${ . }"), "output": {"as": "${ $input }"}}}],
                         "t.pay", input={"from": "${ .[0] }"}))
    dev.start()
    dev.publish({"n": 1}, "t.pay")
    letter = tm.wait_until(lambda: dev.jsonl("dlq", "list"), 20, "a dead letter")[0]
    assert letter["kind"] == "run" and letter["agent"] == "t/pay:1.0.0" and letter["task"] == "/do/0/call"
    assert letter["origin"].startswith("in/")
    assert len(dev.jsonl("dlq", "list", "--where", "kind=run", "--where", "agent=t/pay:1.0.0")) == 1
    assert dev.jsonl("dlq", "list", "--where", "kind=event") == []
    assert "origin" in dev.cli("dlq", "list", "--where", "colour=red", status=2).err
    whole = dev.json("dlq", "show", letter["letter"])
    assert whole["error"]["status"] == 402 and json.loads(whole["value"])["input"] == [{"n": 1}]
    run = dev.cli("dlq", "redrive", letter["letter"], status=0).out.strip()
    assert dev.json("runs", "watch", run, "--timeout", "120")["output"] == {"n": 1}
    assert dev.cli("dlq", "redrive", letter["letter"], status=0).out.strip() == run  # repeated: no double
    assert len(ledger.entries("/pay")) == 2
    assert dev.cli("dlq", "show", "0/999", status=3).err
    dev.node.stop()
