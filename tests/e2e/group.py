"""What tests of the engine share: definitions made in Python, and a group with its configuration, topic and nodes.

    g = group(bootstrap, partitions=2)                       # the fixture in conftest.py
    g.apply(agent("pay", [{"a": {"set": {"x": 1}}}], wake="t.pay"))
    n = g.serve("a").start()
    g.publish([event("t.pay", {"x": 1}) ...]); g.wait_ended(10)
"""
import json

import journal
import tm

READY = r"^ready: "


def agent(name, do, wake=None, version="1.0.0", namespace="t", key=None, **more):
    """A definition as a value; JSON is YAML. `wake`: an event type, or the whole `schedule.on`."""
    metadata = {"metadata": {"tidemark": {"key": key}}} if key else {}
    made = {"document": {"dsl": "1.0.3", "namespace": namespace, "name": name, "version": version, **metadata}}
    if wake:
        made["schedule"] = {"on": {"one": {"with": {"type": wake}}} if isinstance(wake, str) else wake}
    return {**made, **more, "do": do}


def post(url, body, **with_):
    return {"call": "http", "with": {"method": "post", "endpoint": url, "body": body, **with_}}


def chain(ledger, name, wake=None, steps=2, **more):
    """set, POST, set, POST, ...: a world-changing call between two pure steps; the body names run and step."""
    tasks, first = [], "${ .[0] }" if wake else "${ . }"
    for i in range(steps):
        tasks.append({f"set{i}": {"set": {"n": "${ .n }", "step": i}}})
        tasks.append({f"call{i}": {**post(ledger.url(f"/call{i}"), {"n": "${ .n }", "step": i}),
                                   "output": {"as": "${ $input }"}}})
    return agent(name, tasks, wake, input={"from": first}, **more)


def task_of(seen):
    """For journal.check_repeats, of runs of a chain: a call's body has the number of its run and of its step."""
    runs = {}
    for name, r in seen.runs.items():
        data = r.requests[0].json["input"]
        runs[(data[0] if isinstance(data, list) else data)["n"]] = name

    def find(entry):
        what = json.loads(entry.body)
        return runs[what["n"]], f"call{what['step']}"

    return find


class Group:
    def __init__(self, cli, node, tmp, bootstrap, name, partitions=2, session="10s", node_id=None, topic_partitions=2,
                 handover="1s", **config):
        self.run_cli, self.make_node, self.tmp, self.bootstrap, self.name = cli, node, tmp, bootstrap, name
        self.topic = f"{name}.events"
        self.config = {"group": name, "kafka": {"bootstrap.servers": bootstrap},
                       "journal": {"partitions": partitions, "replication": 1},
                       "node": {"session": session, "handover": handover},
                       "http": {"listen": "127.0.0.1:0"},
                       "topics": {self.topic: {"partitions": topic_partitions}}}
        for key, value in config.items():
            self.config[key] = {**self.config.get(key, {}), **value}
        self.path = self.write("", node_id)
        tm.create_topic(bootstrap, self.topic, topic_partitions)
        self.cli("topics", "apply", status=0)

    def write(self, suffix, node_id=None):
        config = {**self.config, "node": {**self.config["node"], **({"id": node_id} if node_id else {})}}
        path = self.tmp / f"{self.name}{suffix}.yaml"
        path.write_text(json.dumps(config))
        return path

    def cli(self, *args, **more):
        return self.run_cli(*args, "--config", self.path, **more)

    def json(self, *args, status=0, **more):
        return json.loads(self.cli(*args, "-o", "json", status=status, **more).out)

    def apply(self, *definitions):
        paths = [self.tmp / f"{d['document']['name']}.json.yaml" for d in definitions]
        for path, d in zip(paths, definitions):
            path.write_text(json.dumps(d))
        self.cli("agents", "apply", *paths, status=0)

    def serve(self, name, node_id=None, **more):
        """A node; `node_id` makes it a static member, whose restart need not wait for its old session to end."""
        path = self.write(f"-{name}", node_id) if node_id else self.path
        more.setdefault("ready", READY)
        return self.make_node("serve", "--config", path, "--data", self.tmp / f"data-{name}", name=name, **more)

    def publish(self, records):
        return tm.produce(self.bootstrap, self.topic, records)

    def start_run(self, agent_id, data, key=None):
        text = data if isinstance(data, str) and data[:1] == "@" else json.dumps(data)
        return self.cli("runs", "start", agent_id, "--input", text, *(("--key", key) if key else ()),
                        status=0).out.strip()

    def journal(self):
        return tm.journal(self.bootstrap, self.name)

    def ended(self):
        return {k: r for k, r in journal.fold(self.journal()).runs.items() if r.ends}

    def wait_ended(self, count, timeout_s=60):
        seen = []

        def enough():
            seen[:] = [len(self.ended())]
            return seen[0] >= count

        try:
            tm.wait_until(enough, timeout_s, f"{count} runs to end", every_s=0.2)
        except AssertionError as e:
            raise AssertionError(f"{e}; {seen[0]} had ended") from None
        return self.ended()

    def committed(self):
        return tm.committed(self.bootstrap, f"tidemark.{self.name}", f"tidemark.{self.name}.runs")

    def check(self, unfinished=()):
        """I1, I3, I5 from the topic, I4 from the commits; what was seen."""
        seen = journal.check(self.journal(), unfinished)
        journal.check_tide_mark(seen, self.committed())
        return seen
