"""A page is walked as a reader would: its files are written, its commands typed into one bash, its outputs compared.

In a page, ```yaml NAME is a file; ```sh holds commands; ```text behind it holds lines of their output, in order, with
... for anything. A command must end with status 0, or with N where its comment says `exit N`. RUN stands for the run id
printed last. Ports that pages name are replaced by free ones, so that nothing else on the machine is met."""
import os
import queue
import re
import shlex
import signal
import subprocess
import threading
import time

FENCE = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```$", re.M | re.S)
RUN_ID = re.compile(r"\b[0-9a-f]{4}[0-9a-hjkmnp-tv-z]{26}\b")


def blocks(text):
    """[(kind, name, body)] in order: yaml with a name, sh, text."""
    return [(kind, name.strip(), body) for kind, name, body in FENCE.findall(text)
            if kind in ("sh", "text") or (kind == "yaml" and name.strip())]


def commands(body):
    """[(command, status)]; lines that end in a backslash go on."""
    for line in body.replace("\\\n", " ").splitlines():
        if line.strip():
            said = re.search(r"\s#.*\bexit (\d+)", line)
            yield re.sub(r"\s+#[^'\"]*$", "", line), int(said.group(1)) if said else 0


class Shell:
    def __init__(self, cwd, env, timeout_s=60):
        self.timeout_s, self.lines, self.seen = timeout_s, queue.Queue(), []
        self.process = subprocess.Popen(["bash", "--norc", "--noprofile"], cwd=cwd, env={**os.environ, **env}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def until(self, pattern):
        """Lines up to the one that matches; the match."""
        end = time.monotonic() + self.timeout_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"waited for {pattern}; seen so far:\n" + "\n".join(self.seen[-40:]))
            m = re.search(pattern, line)
            if not m or not line.startswith("__end"):
                self.seen.append(line)
            if m:
                return m

    def type(self, command):
        """Its exit status; 0 for what goes on in the background, once it is ready."""
        self.process.stdin.write(f"{command}\ns=$?; echo; echo __end $s\n")
        self.process.stdin.flush()
        status = int(self.until(r"^__end (\d+)$").group(1))
        if command.endswith("&"):
            self.until(r"^ready: |^dev: |Serving HTTP|listening on")
        return status

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def check_output(want, seen, what):
    at = 0
    for line in filter(str.strip, want.splitlines()):
        pattern = re.compile(r"\s+".join(".*?".join(re.escape(p) for p in w.split("...")) for w in line.split()))
        while at < len(seen) and not pattern.search(seen[at]):
            at += 1
        assert at < len(seen), f"{what}: the output has no line like\n  {line}\nit is\n  " + "\n  ".join(seen)
        at += 1


def walk(page, cwd, env, replace):
    """`replace`: {text of the page: what to use here}. Returns how many commands were typed."""
    text, typed, start = page.read_text(), 0, 0
    for old, new in replace.items():
        text = text.replace(old, new)
    shell = Shell(cwd, env)
    try:
        for kind, name, body in blocks(text):
            if kind == "yaml":
                path = cwd / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(body)
            elif kind == "sh":
                start = len(shell.seen)
                for command, status in commands(body):
                    ids = RUN_ID.findall("\n".join(shell.seen))
                    command = re.sub(r"\bRUN\b", ids[-1] if ids else "RUN", command)
                    got = shell.type(command)
                    assert got == status, f"{command}: status {got}, expected {status}\n" + "\n".join(shell.seen[-30:])
                    typed += 1
            else:
                check_output(body, shell.seen[start:], f"{page} after {shlex.quote(name or 'the commands')}")
    finally:
        shell.close()
    return typed
