"""Restart after kill -9, with ever more finished runs in the journal: folding starts at the latest part.state, so the time
until every partition is owned again must not grow with the log."""
import json
import os
import tempfile
import time
from pathlib import Path

import tm

BIN = os.environ["TIDEMARK_BIN"]
STEPS = (5000, 20000, 100000)
AGENT = {"document": {"dsl": "1.0.3", "namespace": "bench", "name": "two", "version": "1.0.0"},
         "schedule": {"on": {"one": {"with": {"type": "bench.go"}}}}, "input": {"from": "${ .[0] }"},
         "do": [{f"s{i}": {"set": {"n": "${ .n }", "step": i}}} for i in range(2)]}


def settled(bootstrap, least):
    """The journal has `least` records (six a run) and has not grown for half a second."""
    last, since, limit = -1, time.perf_counter(), time.perf_counter() + 200
    while last < least or time.perf_counter() - since < 0.5:
        if time.perf_counter() > limit:
            raise SystemExit(f"bench: the journal stands at {last} of {least} records")
        now = sum(end(bootstrap))
        if now != last:
            last, since = now, time.perf_counter()
        time.sleep(0.05)
    return last


def end(bootstrap):
    c = tm.Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-end", "log_level": 0})
    try:
        return [c.get_watermark_offsets(tm.TopicPartition("tidemark.main.runs", p), timeout=10)[1] for p in range(4)]
    finally:
        c.close()


def main():
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("TIDEMARK_BENCH_DIR", "build")) as folder:
        folder = Path(folder).resolve()
        (folder / "topics").mkdir()
        (folder / "topics/in.yaml").write_text("partitions: 4\n")
        (folder / "two.yaml").write_text(json.dumps(AGENT))
        node = tm.Node(BIN, ["dev", "--port", "0", "--log-level", "error"], folder, "dev",
                       ready=r"^log   (\S+):(\d+)[\s\S]*^ready: ", cwd=folder)
        done = 0
        try:
            node.start()
            for runs in STEPS:
                bootstrap = ":".join(node.ready.groups())
                tm.produce(bootstrap, "in", [tm.event("bench.go", {"n": n}) for n in range(done, runs)], timeout_s=120, linger_ms=5)
                done = runs
                records = settled(bootstrap, 6 * runs)
                node.kill9()
                start = time.perf_counter()
                node.start(60)
                took = (time.perf_counter() - start) * 1000
                print(json.dumps({"bench": "restart after kill -9", "case": f"{runs:,} runs in the journal", "value": took, "unit": "ms until owned",
                                  "more": {"journal_records": records, "memory_mib": round(node.memory_bytes() / 2**20, 1)}}), flush=True)
            node.stop()
        finally:
            node.close()


main()
