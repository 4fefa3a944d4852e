"""The read model over a million runs: how fast it is made from the journal, and how long lists and counts by HTTP take then.

The journal is generated: RUNS runs of AGENTS agents, each with its request, its begin and its end (one in twenty faulted),
spread over four partitions, written by a producer. `tidemark view rebuild` makes the read model of a data folder; then a node
with that folder is asked over one kept connection. It folds the journal itself first, which is not measured here."""
import http.client
import json
import random
import statistics
import subprocess
import time
import uuid
from datetime import datetime, timedelta

import tm
import tools
from tools import BIN

BENCH, RUNS, AGENTS, PARTITIONS, ASKED = "read model, 1,000,000 runs", 1000000, 20, 4, 200
LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
HASH = "f" * 64


def records(rng):
    """(partition, key, headers, value, time in ms) of all runs, as nodes write them."""
    nonce, next_offset = "00000000000000ab", [0] * PARTITIONS
    now = int(time.time() * 1000) - RUNS

    def fact(p, run, name, type_, value, at, *more):
        next_offset[p] += 1
        headers = [("tm-v", "1"), ("tm-type", type_), ("tm-epoch", "0"), ("tm-nonce", nonce), *more]
        return p, f"{run}/!{name}@{nonce}", headers, value, at

    for p in range(PARTITIONS):
        next_offset[p] += 1
        yield (p, f"!owner/{nonce}", [("tm-v", "1"), ("tm-type", "owner"), ("tm-nonce", nonce)],
               '{"node":"bench","url":"","version":"0.1.0","bootId":"b"}', now)
    for i in range(RUNS):
        p, at = i % PARTITIONS, now + i
        run = f"{p:04x}" + "".join(rng.choices(LETTERS, k=26))
        request = next_offset[p]
        next_offset[p] += 1
        yield (p, f"{run}/?requested/{uuid.UUID(int=rng.getrandbits(128))}",
               [("tm-v", "1"), ("tm-type", "run.requested"), ("tm-agent", HASH)],
               json.dumps({"agent": f"bench/a{rng.randrange(AGENTS)}", "version": "1.0.0", "key": f"customer-{i % 50000}",
                           "input": {"order": i, "city": rng.choice(("Oslo", "Lima", "Pune", "Bonn"))}}), at)
        yield fact(p, run, "started", "run.started", '{"next":"/do/0/a"}', at, ("tm-consumed", str(request)))
        if i % 20:
            yield fact(p, run, "completed", "run.completed", '{"output":{"x":1}}', at + 5)
        else:
            yield fact(p, run, "faulted", "run.faulted", '{"error":{"type":"https://example.org/no","status":500,'
                       f'"title":"payment {i} refused"}}}}', at + 5)


def write(bootstrap):
    topic = "tidemark.main.runs"
    producer = tm.producer(bootstrap, linger_ms=20, **{"queue.buffering.max.messages": 500000})
    for p, key, headers, value, at in records(random.Random(1)):
        while True:
            try:
                producer.produce(topic, value, key, p, headers=headers, timestamp=at)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("bench: the journal was not written")


def ask(connection, path):
    start = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"bench: {path} was answered with {answer.status} {body[:300]!r}")
    return 1000 * (time.perf_counter() - start), json.loads(body)


def measure(connection, case, paths, check):
    took = []
    for path in paths:
        ms, answer = ask(connection, path)
        check(answer)
        took.append(ms)
    took.sort()
    tools.say(BENCH, case, "tidemark", statistics.median(took), "ms (p50)", "less", p99_ms=took[int(len(took) * 0.99)],
              requests=len(took))


def full(answer):
    if len(answer["runs"]) != 50 or not answer["complete"]:
        raise SystemExit(f"bench: a page has {len(answer['runs'])} runs, complete: {answer['complete']}")


def pages(connection, path, count):
    """The paths of `count` pages, each behind the one before."""
    found = []
    for _ in range(count):
        answer = ask(connection, path)[1]
        path = f"{path.split('&cursor=')[0]}&cursor={answer['next']}"
        found.append(path)
    return found


def stream(connection, ids):
    """From the request of a run's stream to its end."""
    took = []
    for run in ids:
        start = time.perf_counter()
        connection.request("GET", f"/v1/runs/{run}/stream")
        body = connection.getresponse().read()
        took.append(1000 * (time.perf_counter() - start))
        if b"event: run.requested" not in body or b'"type":"run.' not in body.rsplit(b"data: ", 1)[1]:
            raise SystemExit(f"bench: the stream of {run} had {body[:300]!r}")
    took.sort()
    tools.say(BENCH, "the stream of one, to its end", "tidemark", statistics.median(took), "ms (p50)", "less",
              p99_ms=took[int(len(took) * 0.99)], requests=len(took))


def questions(address):
    rng, c = random.Random(2), http.client.HTTPConnection(*address)
    measure(c, "the newest 50", ["/v1/runs?limit=50"] * ASKED, full)
    measure(c, "50 of an agent", [f"/v1/runs?limit=50&agent=bench/a{rng.randrange(AGENTS)}" for _ in range(ASKED)], full)
    measure(c, "50 of an agent that faulted",
            [f"/v1/runs?limit=50&agent=bench/a{rng.randrange(AGENTS)}&status=faulted" for _ in range(ASKED)], full)
    measure(c, "those of a key", [f"/v1/runs?key=customer-{rng.randrange(50000)}" for _ in range(ASKED)],
            lambda a: len(a["runs"]) == RUNS // 50000 or full(a))
    measure(c, "a word of an error", [f"/v1/runs?text=payment%20{20 * rng.randrange(RUNS // 20)}&limit=50" for _ in range(ASKED)],
            lambda a: a["runs"] or full(a))
    measure(c, "page by page", pages(c, "/v1/runs?limit=50", ASKED), full)
    newest = datetime.fromisoformat(ask(c, "/v1/runs?limit=1")[1]["runs"][0]["requestedAt"].replace("Z", "+00:00"))
    half = (newest - timedelta(milliseconds=RUNS / 2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ids = [r["id"] for r in ask(c, f"/v1/runs?limit=500&to={half}")[1]["runs"]]
    measure(c, "one run, behind half a million", [f"/v1/runs/{rng.choice(ids)}" for _ in range(ASKED)],
            lambda a: a["status"] in ("completed", "faulted") or full({"runs": [], "complete": False}))
    stream(c, ids[:ASKED])
    measure(c, "counts of all", ["/v1/counts"] * ASKED,
            lambda a: sum(a["statuses"].values()) == RUNS or full({"runs": [], "complete": a["complete"]}))
    measure(c, "counts of an agent", [f"/v1/counts?agent=bench/a{rng.randrange(AGENTS)}" for _ in range(ASKED)],
            lambda a: a["statuses"] or full({"runs": [], "complete": a["complete"]}))
    c.close()


def main():
    with tools.folder() as folder:
        log = tm.EmbeddedLog(BIN, folder)
        node = None
        try:
            log.start()
            config = folder / "tidemark.yaml"
            config.write_text(json.dumps({"kafka": {"bootstrap.servers": log.bootstrap}, "journal": {"partitions": PARTITIONS,
                              "replication": 1}, "http": {"listen": "127.0.0.1:0"}, "topics": {"bench": {"partitions": 1}}}))
            tools_args = ["--config", str(config)]
            subprocess.run([BIN, "topics", "apply", *tools_args], check=True, stdout=subprocess.DEVNULL)
            write(log.bootstrap)
            start = time.monotonic()
            shown = tools.call([BIN, "view", "rebuild", "--data", folder / "data", "-o", "json", *tools_args], timeout_s=600)
            took = time.monotonic() - start
            if shown["runs"] != RUNS:
                raise SystemExit(f"bench: the read model has {shown}")
            tools.say(BENCH, "made from the journal", "tidemark", RUNS / took, "runs/s", "more", seconds=round(took, 1),
                      records=3 * RUNS, mib=round(shown["bytes"] / 2**20))
            node = tm.Node(BIN, ["serve", *tools_args, "--data", folder / "data"], folder, "node", ready=r"^ready: ")
            node.start(300)
            host, port = tm.re.findall(r"^http  http://(\S+):(\d+)", node.out_path.read_text(), tm.re.M)[-1]
            c = http.client.HTTPConnection(host, port)
            tm.wait_until(lambda: ask(c, "/v1/counts")[1]["complete"], 300, "the node to have the read model", every_s=0.5)
            c.close()
            questions((host, port))
            node.stop(120)
            log.stop(120)
        finally:
            for n in (node, log):
                if n:
                    n.close()


if __name__ == "__main__":
    main()
