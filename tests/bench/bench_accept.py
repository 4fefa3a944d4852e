"""Handing work over by HTTP: a POST that is answered with an id when the request is durable, over 1, 16 and 256 kept
connections with one request at a time on each; beside Restate's `/send`, which answers the same way.

queued     the accepted runs wait and are not executed meanwhile: one run that waits holds the only place among the active
           runs of tidemark (`runs.active: 1`); in Restate all calls go to one virtual object, whose first call sleeps.
executed   with default settings the runs (four steps that do nothing) are executed at the same time, on the same two cores;
           and once more without the read model (`view: none`), which shows what that costs.

The client is tests/bench/load_http.c for both. What is accepted is counted afterwards: in the journal, by its
`run.requested` records."""
import http.client
import json
import statistics
import time

import peers
import tm
import tools
from tools import BIN

BENCH, ROUNDS, ENOUGH_S = "accept a run by HTTP", 3, 100
CONNECTIONS = (1, 16, 256)
# Warm-up and counted requests of each number of connections: about a second or two each.
SIZES = {"tidemark": {1: (200, 2000), 16: (500, 10000), 256: (2000, 40000)},
         "restate": {1: (50, 300), 16: (100, 2000), 256: (256, 4000)}}
MODES = ("queued", "executed")
BARE = "executed, view: none"
TOPIC, BATCHES, STRAIGHT = "bench.events", 20, "librdkafka, straight to the log"


def agent(name, do):
    return {"document": {"dsl": "1.0.3", "namespace": "bench", "name": name, "version": "1.0.0"}, "do": do}


def tidemark(mode):
    """{connections: result} of one `dev` from its first start to its stop."""
    with tools.folder() as folder:
        (folder / "four.yaml").write_text(json.dumps(agent("four", [{f"s{i}": {"set": {"step": i}}} for i in range(4)])))
        (folder / "hold.yaml").write_text(json.dumps(agent("hold", [{"hold": {"wait": {"hours": 2}}}])))
        config = {"runs": {"active": 1, "waiting": 10000000}} if mode == "queued" else {"view": "none"} if mode == BARE else {}
        (folder / "tidemark.yaml").write_text(json.dumps(config))
        node = tm.Node(BIN, ["dev", "--port", "0", "--config", folder / "tidemark.yaml", folder / "four.yaml",
                             folder / "hold.yaml"], folder, "dev", cwd=folder,
                       ready=r"^log   (\S+):(\d+)[\s\S]*^http  http://(\S+):(\d+)[\s\S]*^ready: ")
        try:
            node.start()
            bootstrap, address = ":".join(node.ready.groups()[:2]), node.ready.groups()[2:]
            if mode == "queued":
                tools.load("http", *address, "/v1/agents/bench/hold/runs", 1, 1, 1)
            seen = {}
            for n in CONNECTIONS:
                seen[n] = tools.load("http", *address, "/v1/agents/bench/four/runs", n, *SIZES["tidemark"][n])
                seen[n]["memory_mib"] = tools.resident_mib(node.pid)
            accepted = sum(map(sum, SIZES["tidemark"].values())) + (2 if mode == "queued" else 0)
            check_journal(bootstrap, accepted, mode)
            node.stop()
        finally:
            node.close()
        return seen


def check_journal(bootstrap, accepted, mode):
    """Everything that was answered with 202 is in the journal, once; and was executed, or not."""
    def ended():
        counts.clear()
        for r in tm.journal(bootstrap, "main"):
            kind = r.header("tm-type")
            counts[kind] = counts.get(kind, 0) + 1
        return mode == "queued" or counts.get("run.completed") == accepted
    counts = {}
    tm.wait_until(ended, 60, "all runs to end", every_s=0.5)
    if counts["run.requested"] != accepted or (mode == "queued" and counts.get("run.completed")):
        raise SystemExit(f"bench: {accepted} requests were answered with 202, the journal has {counts}")


def restate(mode):
    path = "/held/one/go/send" if mode == "queued" else "/four/go/send"
    with tools.folder() as folder, peers.Restate.running(folder) as (port, server, app):
        seen = {}
        for n in CONNECTIONS:
            try:
                seen[n] = tools.load("http", "127.0.0.1", port, path, n, *SIZES["restate"][n])
            except RuntimeError as e:
                raise peers.Missing(e) from None
            seen[n]["memory_mib"] = tools.resident_mib(server, app)
        return seen


def batches():
    """1,000 events in one request; and librdkafka as a producer, which sends them to the same log without a gateway."""
    with tools.folder() as folder:
        (folder / "tidemark.yaml").write_text(json.dumps({"topics": {TOPIC: {"partitions": 4}}}))
        (folder / "none.yaml").write_text(json.dumps(agent("none", [{"s": {"set": {"step": 1}}}])))
        node = tm.Node(BIN, ["dev", "--port", "0", "--config", folder / "tidemark.yaml", folder / "none.yaml"], folder, "dev",
                       cwd=folder, ready=r"^log   (\S+):(\d+)[\s\S]*^http  http://(\S+):(\d+)[\s\S]*^ready: ")
        try:
            node.start()
            bootstrap, address = ":".join(node.ready.groups()[:2]), node.ready.groups()[2:]
            connection, producer = http.client.HTTPConnection(*address), tm.producer(bootstrap, enable_idempotence=True)
            took = {"tidemark": [], STRAIGHT: []}
            for k in range(BATCHES):
                events = [{"specversion": "1.0", "id": f"{k}.{i}", "source": "/bench", "type": "bench.order", "data": {"n": i}}
                          for i in range(1000)]
                body, start = json.dumps(events), time.perf_counter()
                connection.request("POST", f"/v1/topics/{TOPIC}/events", body,
                                   {"Content-Type": "application/cloudevents-batch+json"})
                answer = connection.getresponse()
                text = answer.read()
                took["tidemark"].append(time.perf_counter() - start)
                if answer.status != 202 or len(json.loads(text)["events"]) != 1000:
                    raise SystemExit(f"bench: a batch was answered with {answer.status} {text[:300]!r}")
                start = time.perf_counter()
                for e in events:
                    producer.produce(TOPIC, json.dumps(e), headers=[("content-type", "application/cloudevents+json")])
                if producer.flush(60):
                    raise SystemExit("bench: the events were not acknowledged")
                took[STRAIGHT].append(time.perf_counter() - start)
            node.stop()
        finally:
            node.close()
    for who, seconds in took.items():
        tools.say(BENCH, "1,000 events in one request", who, 1000 * statistics.median(seconds), "ms (p50)", "less",
                  who == STRAIGHT, requests=BATCHES)


def rows(who, mode, rounds, peer):
    for n in CONNECTIONS:
        of = [r[n] for r in rounds]
        case = f"{n} connection{'s' if n > 1 else ''}, {mode}"
        more = {"p50_ms": tools.median(of, "p50_ms"), "p99_ms": tools.median(of, "p99_ms"),
                "memory_mib": round(tools.median(of, "memory_mib"), 1), "requests": sum(r["count"] for r in of)}
        rate = tools.median(of, "rate")
        if n == 1:
            p50 = more.pop("p50_ms")
            tools.say(BENCH, case, who, p50, "ms (p50)", "less", peer, **more,
                      rounds=[round(r["p50_ms"], 2) for r in of])
        else:
            tools.say(BENCH, case, who, rate, "accepts/s", "more", peer, **more, rounds=[round(r["rate"]) for r in of])


def main():
    seen, missing, start = {}, None, time.monotonic()
    for i in range(ROUNDS):
        if i > 0 and time.monotonic() - start > ENOUGH_S:
            break
        for mode in MODES:
            seen.setdefault(("tidemark", mode), []).append(tidemark(mode))
            try:
                if not missing:
                    seen.setdefault(("restate", mode), []).append(restate(mode))
            except peers.Missing as e:
                missing = e
        seen.setdefault(("tidemark", BARE), []).append(tidemark(BARE))
    batches()
    rows("tidemark", BARE, seen["tidemark", BARE], False)
    for mode in MODES:
        rows("tidemark", mode, seen["tidemark", mode], False)
        if missing:
            for n in CONNECTIONS:
                tools.not_measured(BENCH, f"{n} connection{'s' if n > 1 else ''}, {mode}", peers.Restate.who(), missing)
        else:
            rows(f"{peers.Restate.who()}, /send", mode, seen["restate", mode], True)


if __name__ == "__main__":
    main()
