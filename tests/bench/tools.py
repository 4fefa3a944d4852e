"""What the benchmark programs share: the load client, rows, memory and syncs of processes, a folder on the disk under
test."""
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

BIN = Path(os.environ["TIDEMARK_BIN"])
TOOLS = BIN.parent / "tests"
CALL_LIMIT_S = 120


@contextmanager
def folder():
    """A new folder on the file system that is measured: build/ of the repository, or TIDEMARK_BENCH_DIR."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("TIDEMARK_BENCH_DIR", "build")) as path:
        yield Path(path).resolve()


def call(command, timeout_s=CALL_LIMIT_S, **more):
    """Runs a client to its end and returns the JSON object that it printed."""
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, timeout=timeout_s, **more)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def load(*args):
    return call([TOOLS / "bench_load", *args])


def say(bench, case, who, value, unit, better=None, peer=False, **more):
    print(json.dumps({"bench": bench, "case": case, "who": who, "value": value, "unit": unit, "better": better,
                      "peer": peer, "more": more}), flush=True)


def not_measured(bench, case, who, why):
    print(json.dumps({"bench": bench, "case": case, "who": who, "value": None, "unit": "", "peer": True,
                      "reason": " ".join(str(why).split())[:300]}), flush=True)


def median(rounds, key):
    return statistics.median(r[key] for r in rounds)


def resident_mib(*pids):
    """What these processes and their children have in memory now, shared pages counted once for each."""
    total = 0
    for pid in with_children(pids):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            continue  # a child that has ended meanwhile
        m = re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)
        total += int(m.group(1)) if m else 0
    return total / 1024


def with_children(pids):
    found = []
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found.append(pid)
        if children.exists():
            found += with_children([int(c) for c in children.read_text().split()])
    return found


class SyncCount:
    """Counts fsync, fdatasync and msync of a process and its threads by strace while the block runs; .count is None,
    with the reason in .why, where the machine has no strace or forbids it."""

    def __init__(self, pid, folder):
        self.pid, self.out = pid, Path(folder) / "strace.out"
        self.count, self.why, self.process = None, None, None

    def __enter__(self):
        if not shutil.which("strace"):
            self.why = "no strace"
            return self
        self.process = subprocess.Popen(["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync", "-e", "signal=none",
                                         "-o", str(self.out), "-p", str(self.pid)], stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 10
        while not self._attached() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        return self

    def _attached(self):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return not re.search(r"^TracerPid:\s+0$", text, re.M)

    def __exit__(self, *_):
        if not self.process:
            return
        self.process.send_signal(signal.SIGINT)
        error = self.process.communicate(timeout=20)[1]
        if self.out.exists() and not error.strip():
            # A call that another thread's line interrupts is shown in two lines, the second one `resumed`.
            self.count = len(re.findall(r"(?:fsync|fdatasync|msync)\(", self.out.read_text()))
        else:
            self.why = f"strace: {error.strip()[-100:]}"
