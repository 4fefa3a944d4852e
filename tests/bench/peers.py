"""The peers of bench_runs.py, installed by ./run bench into build/bench/peers (tests/bench/peers/package.json) and from
Debian (redis-server). Each is started in a new folder, measured by a client in a process of its own, and stopped.

BullMQ    one Redis with `appendonly yes`, `appendfsync always`; a worker process; a job saves its place after each
          of its four steps by updateData, as BullMQ's documentation has it for jobs of several steps.
Restate   one restate-server in its default configuration, which syncs its log's write-ahead file; a service process
          with four ctx.run; called through the ingress, which answers when the invocation is done.

Missing is raised, with the reason, when a peer cannot be installed, started, or measured: its rows then say so."""
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import tools

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).resolve().parent / "peers"
MODULES = ROOT / "build/bench/peers/node_modules"
START_LIMIT_S, TRACED = 60, 100


class Missing(Exception):
    """The peer cannot be measured here; the message is the reason."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def need_module(name):
    if not shutil.which("node"):
        raise Missing("no node on PATH (Debian's package is nodejs, 18 or newer)")
    if not (MODULES / name / "package.json").exists():
        log = ROOT / "build/log/npm.log"
        why = log.read_text(errors="replace").strip()[-150:] if log.exists() else "./run bench installs it"
        raise Missing(f"{name} is not installed in build/bench/peers: {why}")


def version(name):
    path = MODULES / name / "package.json"
    return json.loads(path.read_text())["version"] if path.exists() else "?"


@contextmanager
def process(command, folder, name, ready=None, env=None):
    """Runs in the folder with its output in NAME.out until the block ends; `ready` is a text to wait for."""
    path = folder / f"{name}.out"
    with path.open("w") as out:
        p = subprocess.Popen([str(c) for c in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                             env={**os.environ, "NODE_PATH": str(MODULES), "NODE_ENV": "production", **(env or {})},
                             start_new_session=True)
    try:
        wait(lambda: not ready or ready in path.read_text(errors="replace"), f"{name} to be ready", p, path)
        yield p
    finally:
        p.terminate()
        try:
            p.wait(30)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()


def wait(cond, what, p, path):
    end = time.monotonic() + START_LIMIT_S
    while not cond():
        tail = path.read_text(errors="replace")[-200:]
        if p.poll() is not None:
            raise Missing(f"waited for {what}; it ended with {p.returncode}: {tail}")
        if time.monotonic() > end:
            raise Missing(f"waited {START_LIMIT_S} s for {what}: {tail}")
        time.sleep(0.05)


def client(script, port, warm, count, window):
    try:
        return tools.call(["node", SCRIPTS / script, port, warm, count, window],
                          env={**os.environ, "NODE_PATH": str(MODULES), "NODE_ENV": "production"})
    except (RuntimeError, subprocess.TimeoutExpired) as e:
        raise Missing(e) from None


def drive(script, port, windows, sizes, pids, synced, folder, partitions):
    """(window, result) for each window, with the memory of all its processes, and syncs counted in a short run of their
    own, since strace slows what it watches."""
    for window, (warm, count) in zip(windows, sizes):
        r = client(script, port, warm, count, window) | {"memory_mib": tools.resident_mib(*pids), "partitions": partitions}
        with tools.SyncCount(synced, folder) as syncs:
            client(script, port, window, TRACED, window)
        yield window, r | {"syncs_a_run": syncs.count and syncs.count / (TRACED + window), "syncs_why": syncs.why}


class BullMQ:
    @staticmethod
    def who():
        done = subprocess.run(["redis-server", "--version"], text=True, capture_output=True) if shutil.which("redis-server") else None
        m = re.search(r"v=(\S+)", done.stdout) if done else None
        return f"BullMQ {version('bullmq')} on Redis {m.group(1) if m else '?'}"

    @staticmethod
    def measure(folder, windows, sizes):
        need_module("bullmq")
        need_module("ioredis")
        if not shutil.which("redis-server"):
            raise Missing("no redis-server on PATH (Debian's package is redis-server)")
        port = free_port()
        redis = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes",
                 "--appendfsync", "always"]
        worker = ["node", SCRIPTS / "bullmq_worker.cjs", port, max(windows)]
        with process(redis, folder, "redis", "Ready to accept connections") as r:
            with process(worker, folder, "worker", "ready") as w:
                yield from drive("bullmq_client.cjs", port, windows, sizes, (r.pid, w.pid), r.pid, folder, 1)


class Restate:
    @staticmethod
    def who():
        return f"Restate {version('@restatedev/restate-server')}, SDK {version('@restatedev/restate-sdk')}"

    @staticmethod
    def server():
        for path in MODULES.glob("@restatedev/restate-server-linux-*/bin/restate-server"):
            return path
        raise Missing("npm has no restate-server for this machine")

    @staticmethod
    def answers(port, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status < 300
        except (urllib.error.URLError, OSError):
            return False

    @classmethod
    @contextmanager
    def running(cls, folder):
        """(port of the ingress, process id of the server, of the service) while the block runs."""
        need_module("@restatedev/restate-server")
        need_module("@restatedev/restate-sdk")
        ingress, admin, node, service = free_port(), free_port(), free_port(), free_port()
        env = {"RESTATE_INGRESS__BIND_PORT": str(ingress), "RESTATE_ADMIN__BIND_PORT": str(admin),
               "RESTATE_BIND_PORT": str(node), "RESTATE_DISABLE_TELEMETRY": "true", "RESTATE_LOG_FILTER": "warn"}
        server = [cls.server(), "--listen-mode", "tcp", "--bind-ip", "127.0.0.1", "--advertised-host", "127.0.0.1",
                  "--node-name", "bench", "--base-dir", folder / "data", "--no-logo"]
        app = ["node", SCRIPTS / "restate_service.cjs", service]
        with process(app, folder, "service", "ready", {"RESTATE_LOGGING": "WARN"}) as a:
            with process(server, folder, "restate", env=env) as s:
                out = folder / "restate.out"
                wait(lambda: cls.answers(admin, "/health") and cls.answers(ingress, "/restate/health"), "restate-server", s, out)
                wait(lambda: cls.answers(admin, "/deployments", {"uri": f"http://127.0.0.1:{service}"}), "the service's registration", s, out)
                # The first calls meet partitions that still elect their leader.
                client("restate_client.cjs", ingress, 1, 50, 8)
                yield ingress, s.pid, a.pid

    @classmethod
    def measure(cls, folder, windows, sizes):
        with cls.running(folder) as (ingress, server, app):
            yield from drive("restate_client.cjs", ingress, windows, sizes, (server, app), server, folder, 24)


PEERS = {"bullmq": BullMQ, "restate": Restate}
