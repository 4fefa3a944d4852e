"""What idle streams cost: STREAMS open connections of server-sent events on which nothing happens but the comment every 15
s. Memory, processor time while nothing else happens, and what accepting runs by HTTP costs beside them.

of runs    /v1/runs/ID/stream, of RUNS runs that wait
of agents  /v1/stream?agent=..., of an agent that has no runs: each record of the journal is looked at for each of them

Beside it a plain Node.js server with as many streams, which knows nothing of runs. The client is one process of Python: it
reads what comes, and a stream that ends, or never begins, fails the benchmark."""
import json
import os
import resource
import selectors
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import peers
import tm
import tools
from bench_accept import agent
from tools import BIN

BENCH, STREAMS, RUNS, IDLE_S = "idle streams", 10000, 100, 20
ROUNDS, REQUESTS = 3, {1: (100, 1000), 256: (2000, 20000)}
A_TIME = 200  # connections that are opened at a time


def raise_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < STREAMS + 100:
        raise SystemExit(f"bench: {STREAMS} streams need as many open files; this machine allows {hard}")


class Streams:
    def __init__(self, address, paths):
        self.address, self.paths, self.selector, self.begun = address, paths, selectors.DefaultSelector(), 0

    def open(self):
        for i in range(0, len(self.paths), A_TIME):
            for path in self.paths[i:i + A_TIME]:
                s = socket.create_connection(self.address, timeout=30)
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                s.setblocking(False)
                self.selector.register(s, selectors.EVENT_READ, [path, b""])
            end = time.monotonic() + 60
            while self.begun < min(i + A_TIME, len(self.paths)):
                self.read(1)
                if time.monotonic() > end:
                    raise SystemExit(f"bench: {self.begun} of {len(self.paths)} streams began")

    def read(self, timeout_s):
        for key, _ in self.selector.select(timeout_s):
            data = key.fileobj.recv(65536)
            path, head = key.data
            if not data:
                raise SystemExit(f"bench: the stream {path} ended after {head[-300:]!r}")
            if b"retry:" in head:
                continue
            key.data[1] = head + data
            if not key.data[1].startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"bench: {path} was answered with {key.data[1][:300]!r}")
            self.begun += b"retry:" in key.data[1]

    def drain(self, for_s):
        end = time.monotonic() + for_s
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(pid, streams):
    """Seconds of processor time in IDLE_S, in percent of a core."""
    before, start = cpu_s(pid), time.monotonic()
    streams.drain(IDLE_S)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - start)


@contextmanager
def node():
    with tools.folder() as folder:
        (folder / "four.yaml").write_text(json.dumps(agent("four", [{f"s{i}": {"set": {"step": i}}} for i in range(4)])))
        (folder / "hold.yaml").write_text(json.dumps(agent("hold", [{"hold": {"wait": {"hours": 2}}}])))
        (folder / "tidemark.yaml").write_text(json.dumps({"runs": {"active": RUNS, "waiting": 10000000}}))
        n = tm.Node(BIN, ["dev", "--port", "0", "--config", folder / "tidemark.yaml", folder / "four.yaml",
                          folder / "hold.yaml"], folder, "dev", cwd=folder, ready=r"^http  http://(\S+):(\d+)[\s\S]*^ready: ")
        try:
            n.start()
            yield n, n.ready.groups()
            n.stop()
        finally:
            n.close()


def start_runs(address):
    import http.client
    c = http.client.HTTPConnection(*address)
    runs = []
    for _ in range(RUNS):
        c.request("POST", "/v1/agents/bench/hold/runs", "{}", {"Content-Type": "application/json"})
        runs.append(json.loads(c.getresponse().read())["id"])
    c.close()
    return runs


def accept(address):
    return {n: tools.load("http", *address, "/v1/agents/bench/four/runs", n, *size) for n, size in REQUESTS.items()}


def tidemark(kind):
    """{memory_kib of a stream, cpu of a core, accepting without and beside}; the waiting runs hold all places, so what is
    accepted is queued."""
    with node() as (n, address):
        runs = start_runs(address)
        time.sleep(2)
        without, before = accept(address), tools.resident_mib(n.pid)
        paths = [f"/v1/runs/{runs[i % RUNS]}/stream" for i in range(STREAMS)]
        if kind == "of agents":
            paths = ["/v1/stream?agent=bench/none"] * STREAMS
        streams = Streams((address[0], int(address[1])), paths)
        start = time.monotonic()
        streams.open()
        opened = time.monotonic() - start
        seen = {"memory_kib": (tools.resident_mib(n.pid) - before) * 1024 / STREAMS, "cpu": idle(n.pid, streams),
                "open_s": opened, "without": without, "beside": accept(address)}
        streams.drain(1)  # none has ended
        streams.close()
        return seen


def plain():
    port = peers.free_port()
    with tools.folder() as folder, peers.process(["node", peers.SCRIPTS / "sse.cjs", port], folder, "sse", "ready") as p:
        before = tools.resident_mib(p.pid)
        streams = Streams(("127.0.0.1", port), ["/"] * STREAMS)
        streams.open()
        seen = {"memory_kib": (tools.resident_mib(p.pid) - before) * 1024 / STREAMS, "cpu": idle(p.pid, streams)}
        streams.close()
        return seen


def main():
    raise_files()
    for kind in ("of runs", "of agents"):
        s = tidemark(kind)
        case = f"{STREAMS:,} {kind}"
        tools.say(BENCH, f"{case}, memory", "tidemark", s["memory_kib"], "KiB a stream", "less", open_s=round(s["open_s"], 1))
        tools.say(BENCH, f"{case}, nothing happens", "tidemark", s["cpu"], "% of a core", "less")
        for n in REQUESTS:
            for which in ("without", "beside"):
                r = s[which][n]
                tools.say(BENCH, f"accepting, {n} connection{'s' if n > 1 else ''}, {which} {case}", "tidemark",
                          r["p50_ms"] if n == 1 else r["rate"], "ms (p50)" if n == 1 else "accepts/s",
                          p99_ms=r["p99_ms"])
    try:
        p = plain()
        for case in ("of runs", "of agents"):
            tools.say(BENCH, f"{STREAMS:,} {case}, memory", "Node.js, plain", p["memory_kib"], "KiB a stream", "less", True)
            tools.say(BENCH, f"{STREAMS:,} {case}, nothing happens", "Node.js, plain", p["cpu"], "% of a core", "less", True)
    except peers.Missing as e:
        tools.not_measured(BENCH, f"{STREAMS:,} of runs, memory", "Node.js, plain", e)


if __name__ == "__main__":
    main()
