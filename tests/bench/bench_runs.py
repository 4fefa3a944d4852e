"""Runs of four steps, one at a time and 64 in flight: tidemark (`dev` as a person starts it, with the log inside and an
fdatasync before every acknowledgement) with four `set`, four HTTP GET and four HTTP POST to a small local server, beside
BullMQ and Restate whose four steps do nothing.

Everything is measured from submitting to knowing the end: for tidemark from before an event is published until the
run's end fact has been read from the journal. All take turns, in three rounds, or fewer where the machine is so busy that
they would take minutes; the figure is the median round. peers.py says what each peer does and makes durable."""
import json
import re
import subprocess
import time
from pathlib import Path

import peers
import tm
import tools
from tools import BIN, TOOLS

BENCH, ROUNDS, IN_FLIGHT = "four steps a run", 3, 64
ENOUGH_S = 120  # no round begins later than this
WHO = {"set": "tidemark, set", "get": "tidemark, GET", "post": "tidemark, POST"}
# Warm-up and counted runs, one at a time and in flight: a few seconds each.
SIZES = {"set": ((50, 600), (500, 15000)), "get": ((50, 400), (300, 8000)), "post": ((50, 400), (300, 6000)),
         "bullmq": ((50, 300), (300, 3000)), "restate": ((50, 200), (200, 1500))}


def task(kind, i, url):
    if kind == "set":
        return {"set": {"n": "${ .n }", "step": i}}
    if kind == "get":
        return {"call": "http", "with": {"method": "get", "endpoint": f"{url}/{i}"}}
    return {"call": "http", "with": {"method": "post", "endpoint": f"{url}/{i}", "body": {"step": i, "of": "${ . }"}}}


def agent(kind, url):
    return {"document": {"dsl": "1.0.3", "namespace": "bench", "name": "four", "version": "1.0.0"},
            "schedule": {"on": {"one": {"with": {"type": "bench.go"}}}}, "input": {"from": "${ .[0] }"},
            "do": [{f"s{i}": task(kind, i, url)} for i in range(4)]}


class Httpd:
    """tests/bench/httpd.c on a free port; stop() returns how many requests it answered."""

    def __enter__(self):
        self.process = subprocess.Popen([TOOLS / "bench_httpd"], stdout=subprocess.PIPE, text=True)
        self.url = "http://" + self.process.stdout.readline().removeprefix("listening on ").strip()
        return self

    def stop(self):
        self.process.terminate()
        text, _ = self.process.communicate(timeout=10)
        return int(re.search(r"requests=(\d+)", text).group(1))

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def tidemark(kind, window, warm, count):
    """One `dev` from its first start to its stop: what load.c measured, with memory and the log's own count of syncs."""
    with tools.folder() as folder, Httpd() as httpd:
        (folder / "topics").mkdir()
        (folder / "topics/in.yaml").write_text("partitions: 4\n")
        (folder / "four.yaml").write_text(json.dumps(agent(kind, httpd.url)))
        node = tm.Node(BIN, ["dev", "--port", "0"], folder, "dev", ready=r"^log   (\S+):(\d+)[\s\S]*^ready: ", cwd=folder)
        try:
            node.start()
            idle = tools.resident_mib(node.pid)
            r = tools.load("runs", ":".join(node.ready.groups()), "in", 4, "tidemark.main.runs", warm, count, window)
            r |= {"idle_mib": idle, "memory_mib": tools.resident_mib(node.pid)}
            node.stop()
        finally:
            node.close()
        calls, expected = httpd.stop(), 0 if kind == "set" else 4 * (warm + count)
        if calls != expected:
            raise SystemExit(f"bench: {calls} calls arrived, {expected} were expected")
        syncs = re.search(r"syncs=(\d+)", Path(node.err_path).read_text())
        return r | {"syncs_a_run": int(syncs.group(1)) / (warm + count)}


def row(who, window, rounds, peer):
    more = {"p99_ms": tools.median(rounds, "p99_ms")}
    if window > 1:
        more = {"p50_ms": tools.median(rounds, "p50_ms"), **more}
    for key in ("syncs_a_run", "memory_mib", "idle_mib"):
        if rounds[0].get(key) is not None:
            more[key] = round(tools.median(rounds, key), 2)
    if rounds[0].get("syncs_why"):
        more["syncs"] = f"not counted ({rounds[0]['syncs_why']})"
    key, unit, better = ("p50_ms", "ms (p50)", "less") if window == 1 else ("rate", "runs/s", "more")
    more |= {"runs": sum(r["count"] for r in rounds), "partitions": rounds[0].get("partitions", 4),
             "rounds": [round(r[key], 2) for r in rounds]}
    tools.say(BENCH, case(window), who, tools.median(rounds, key), unit, better, peer, **more)


def case(window):
    return "one at a time" if window == 1 else f"{window} in flight"


def main():
    seen, missing, start = {}, {}, time.monotonic()
    for i in range(ROUNDS):
        if i > 0 and time.monotonic() - start > ENOUGH_S:
            break
        for kind in WHO:
            for window, (warm, count) in zip((1, IN_FLIGHT), SIZES[kind]):
                seen.setdefault((window, kind), []).append(tidemark(kind, window, warm, count))
        for name, peer in peers.PEERS.items():
            if name in missing:
                continue
            try:
                with tools.folder() as folder:
                    for window, result in peer.measure(folder, (1, IN_FLIGHT), SIZES[name]):
                        seen.setdefault((window, name), []).append(result)
            except peers.Missing as e:
                missing[name] = e
    for window in (1, IN_FLIGHT):
        for name in (*WHO, *peers.PEERS):
            peer = name in peers.PEERS
            who = peers.PEERS[name].who() if peer else WHO[name]
            if name in missing:
                tools.not_measured(BENCH, case(window), who, missing[name])
            else:
                row(who, window, seen[window, name], peer)


main()
