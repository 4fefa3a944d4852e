"""The embedded log beside Apache Kafka, the same client (load.c on librdkafka, acks=all) for both, in turns: records of
100 bytes one at a time and pipelined, 1 KiB pipelined, reading them again, start-up and memory.

The embedded log runs in its default configuration: an fdatasync before every acknowledgement. Kafka runs as its start
script would run it (heap and collector), by default without fsync; so that like can be compared with like it is also
measured with a topic whose flush.messages is 1, where it too syncs each batch."""
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import tm
import tools
from server import Kafka, KafkaError
from tools import BIN

BENCH, ROUNDS, ENOUGH_S, PARTITIONS = "the log", 3, 100, 4
OURS, THEIRS, SYNCED = "tidemark log", "Apache Kafka", "Apache Kafka, fsync"
MANY, LARGE = 600000, 150000
# What bin/kafka-server-start.sh of Kafka sets.
JAVA = ["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]


class Ours:
    def __init__(self, folder):
        self.node = tm.EmbeddedLog(BIN, folder)

    def start(self):
        self.node.start()
        listed(self.node.bootstrap)
        return self.node.bootstrap

    def __getattr__(self, name):
        return getattr(self.node, name)


class Theirs(Kafka):
    def __init__(self, folder):
        super().__init__(JAVA, folder)
        self.format()  # before the clock starts: a folder is formatted once

    def start(self):
        super().start()
        return self.bootstrap

    @property
    def pid(self):
        return self.process.pid


def listed(bootstrap):
    """A client has the metadata: the same end of `start` for both."""
    if not tm.admin(bootstrap).list_topics(timeout=10).brokers:
        raise SystemExit("bench: the log lists no broker")


@contextmanager
def running(kind, folder):
    log = kind(folder)
    try:
        yield log
        log.stop()
    finally:
        log.close()


def timed_start(log):
    start = time.perf_counter()
    bootstrap = log.start()
    return bootstrap, (time.perf_counter() - start) * 1000


def measure(kind, who, synced_who=None):
    """{(case, who): result} of one round."""
    found = {}
    with tools.folder() as folder, running(kind, folder) as log:
        at, took = timed_start(log)
        found["start", who] = {"value": took}
        found["memory after start", who] = {"value": tools.resident_mib(log.pid)}
        for topic in ("one", "warm", "small", "large"):
            tm.create_topic(at, topic, PARTITIONS)
        tools.load("produce", at, "warm", PARTITIONS, 100, MANY // 4)
        found["one at a time, 100 B", who] = one(at, "one", 2000)
        found["produce 100 B", who] = many("produce", at, "small", PARTITIONS, 100, MANY)
        found["produce 1 KiB", who] = many("produce", at, "large", PARTITIONS, 1024, LARGE)
        found["read 100 B", who] = many("read", at, "small", PARTITIONS, MANY)
        found["memory under load", who] = {"value": tools.resident_mib(log.pid)}
        if synced_who:
            for topic in ("one.synced", "small.synced"):
                tm.create_topic(at, topic, PARTITIONS, {"flush.messages": "1"})
            found["one at a time, 100 B", synced_who] = one(at, "one.synced", 1000)
            found["produce 100 B", synced_who] = many("produce", at, "small.synced", PARTITIONS, 100, MANY)
        log.kill9()
        _, took = timed_start(log)
        found["start after kill -9", who] = {"value": took}
    return found


def one(at, topic, count):
    r = tools.load("one", at, topic, 100, 200, count)
    return {"value": r["p50_ms"], "p99_ms": r["p99_ms"], "records": count}


def many(mode, at, *args):
    r = tools.load(mode, at, *args)
    size = args[2] if mode == "produce" else 100
    return {"value": r["rate"], "mib_s": r["rate"] * size / 2**20, "records": r["count"], "client_cpu_s": r["client_cpu_s"]}


UNITS = {"start": ("ms until metadata", "less"), "start after kill -9": ("ms until metadata", "less"),
         "memory after start": ("MiB", "less"), "memory under load": ("MiB", "less"),
         "one at a time, 100 B": ("ms (p50)", "less"), "produce 100 B": ("records/s", "more"),
         "produce 1 KiB": ("records/s", "more"), "read 100 B": ("records/s", "more")}


def rounds():
    """All that was measured, and why Kafka was not (None: it was)."""
    seen, missing, begun = {}, None, time.monotonic()
    for i in range(ROUNDS):
        if i > 0 and time.monotonic() - begun > ENOUGH_S:
            break
        found = measure(Ours, OURS)
        if not missing:
            try:
                found |= measure(Theirs, THEIRS, SYNCED)
            except (KafkaError, RuntimeError, subprocess.TimeoutExpired) as e:
                missing = e
        for key, result in found.items():
            seen.setdefault(key, []).append(result)
    return seen, missing


def kafka_version():
    jars = sorted(Path("build/kafka/lib").glob("kafka-clients-*.jar"))
    return jars[0].stem.removeprefix("kafka-clients-") if jars else ""


def main():
    seen, missing = rounds()
    for case, (unit, better) in UNITS.items():
        for who in (OURS, THEIRS, SYNCED):
            results = seen.get((case, who))
            if results and not (missing and who != OURS):
                more = {k: tools.median(results, k) for k in results[0] if k != "value"}
                if len(results) > 1:
                    more["rounds"] = [round(r["value"], 2) for r in results]
                tools.say(BENCH, case, who.replace(THEIRS, f"{THEIRS} {kafka_version()}"), tools.median(results, "value"),
                          unit, better, who != OURS, **more)
            elif missing and who == THEIRS:
                tools.not_measured(BENCH, case, who, missing)
    return 0


sys.exit(main())
